/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * drive_rig.h - a private host of several processes on a wire that is a socketpair
 *
 * One end of the pair is the host's queue: every member and the keeper read it as they would a packet socket. At the other
 * end a process runs a stack of its own (10.9.0.2) that answers on port 7 with what it is sent. The keeper is the real one,
 * without a warden. Members are fork children that joined by slot_register(). All die with the test.
 */
#ifndef OWNSTACK_TESTS_DRIVE_RIG_H
#define OWNSTACK_TESTS_DRIVE_RIG_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include "../../host/join.h"
#include "host_rig.h"

#define OUR_IP	   0x0a090001u
#define PEER_IP	   0x0a090002u
#define ECHO_PORT  7
#define SILENT_PORT 9 /* takes, answers nothing */
#define PEER_BYTES ((size_t)256 << 20)
#define CHUNK	   2048

static const uint8_t our_mac[6] = { 2, 0, 0, 0, 0, 1 }, peer_mac[6] = { 2, 0, 0, 0, 0, 2 };

/* What processes of one test tell each other; the test adds its own behind. */
struct drive_shared {
	_Atomic int step, go, failed;
	_Atomic int settled;	     /* a member has its connections, and is about to do what the test is about */
	_Atomic uint64_t count[64];
	_Atomic int peer_burst;	     /* peer: connect so many times at once to OUR_IP:peer_port */
	_Atomic int peer_port, peer_established, peer_send_now;
	_Atomic int peer_deaf;	     /* peer takes nothing in while set */
	_Atomic int peer_saw;	     /* frames that came to the peer */
	_Atomic int peer_end;	     /* peer: end what it opened to OUR_IP:peer_port: 1 by FIN, 2 the first by RST */
	_Atomic int peer_shuffle;    /* peer: every third frame leaves after its successor, every 40th not at all */
	_Atomic int mark;	     /* test_death.c: somebody is at what it is to be killed at */
};
static struct drive_shared *shared;
static int wire[2] = { -1, -1 };
static pid_t keeper_pid, peer_pid;
static int rig_memfd = -1;

static inline struct ipaddr ip(uint32_t host_order)
{
	return ipaddr_v4(htonl(host_order));
}

static inline pid_t child(void)
{
	pid_t parent = getpid(), pid = fork();

	cr_assert_geq(pid, 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(0);
	}
	return pid;
}

/* ---- the far end ---- */

static inline void peer_put(struct stack *st, struct pbuf *p)
{
	struct iovec iov[16] = { { pbuf_head(p), p->hdr_len } };
	int n = 1;

	for (unsigned i = 0; i < p->n_frags; i++)
		iov[n++] = (struct iovec){ p->frag[i].cell->data + p->frag[i].off, p->frag[i].len };
	if (writev(wire[1], iov, n) < 0 && errno != EAGAIN)
		_exit(1);
	stack_tx_done(st, p);
}

static inline void peer_write(struct stack *st, usec_t now)
{
	static unsigned n_put;
	struct pbuf *p, *late = NULL;

	while ((p = stack_output(st, now))) {
		bool shuffle = atomic_load(&shared->peer_shuffle) && ++n_put;

		if (shuffle && n_put % 40 == 0) {
			stack_tx_done(st, p);
		} else if (shuffle && n_put % 3 == 0 && !late) {
			late = p;
		} else {
			peer_put(st, p);
			if (late)
				peer_put(st, late);
			late = NULL;
		}
	}
	if (late)
		peer_put(st, late);
}

static inline size_t peer_take(struct stack *st, struct tcb *t, uint8_t *buf, usec_t now)
{
	struct iovec iov[16];
	size_t got = 0;
	int n;
	ptrdiff_t r = tcp_recv_begin(st, t, 0, CHUNK, iov, 16, &n);

	for (int i = 0; r > 0 && i < n; i++) {
		memcpy(buf + got, iov[i].iov_base, iov[i].iov_len);
		got += iov[i].iov_len;
	}
	if (r >= 0)
		tcp_recv_done(st, t, got, now);
	if (r == 0 || (r < 0 && r != -EAGAIN))
		tcp_close(st, t, now);
	return got;
}

static inline size_t stack_send(struct stack *st, struct tcb *t, const uint8_t *buf, size_t len, usec_t now)
{
	struct iovec iov[16];
	size_t put = 0;
	int n;
	ptrdiff_t r = tcp_send_begin(st, t, len, iov, 16, &n);

	if (r <= 0)
		return 0;
	for (int i = 0; i < n && put < len; i++) {
		size_t part = iov[i].iov_len < len - put ? iov[i].iov_len : len - put;

		memcpy(iov[i].iov_base, buf + put, part);
		put += part;
	}
	tcp_send_commit(st, t, put, 0, now);
	return put;
}

static inline void peer_echo(struct stack *st, struct tcb *t, usec_t now)
{
	uint8_t buf[CHUNK];
	size_t n;

	while ((n = peer_take(st, t, buf, now)))
		stack_send(st, t, buf, n, now);
}

static inline void peer_events(struct stack *st, usec_t now)
{
	struct stack_event ev;

	while (stack_event(st, &ev)) {
		struct endpoint local;
		struct tcb *t;

		tcp_local(ev.tcb, &local);
		if (tcp_state(ev.tcb) == TCPS_LISTEN) {
			while (!tcp_accept(st, ev.tcb, &t)) {
				tcp_opts(t)->nodelay = 1;
				tcp_set_user(t, 1);
				if (local.port == ECHO_PORT)
					peer_echo(st, t, now);
			}
			continue;
		}
		if (local.port == SILENT_PORT)
			continue;
		if (ev.user == 2 && ev.what & TCP_EV_OUT) {
			tcp_set_user(ev.tcb, 3);
			atomic_fetch_add(&shared->peer_established, 1);
		}
		peer_echo(st, ev.tcb, now);
	}
}

static inline void peer_listen(struct stack *st, uint16_t port)
{
	const struct endpoint ep = { .addr = ip(PEER_IP), .port = port };
	struct tcb *l = tcp_open(st, 4, 1, io_now());

	if (!l || tcp_bind(st, l, &ep, io_now()) || tcp_listen(st, l, 4096, io_now()))
		_exit(2);
}

static inline void peer_ends(struct stack *st, uint16_t port, int how, usec_t now)
{
	struct tcb *t;

	for (uint32_t c = 0; (t = tcp_next(st, &c));) {
		struct endpoint to;

		if (tcp_user(t) < 2 || tcp_peer(t, &to) || to.port != port)
			continue;
		if (how == 1) {
			tcp_shutdown(st, t, 1, now);
			continue;
		}
		if (tcp_ready(st, t, now))
			return;
		tcp_opts(t)->linger_on = 1;
		tcp_opts(t)->linger_s = 0;
		tcp_close(st, t, now);
		return;
	}
}

static inline void peer_commands(struct stack *st, usec_t now)
{
	const struct endpoint to = { .addr = ip(OUR_IP), .port = (uint16_t)atomic_load(&shared->peer_port) };
	int n = atomic_exchange(&shared->peer_burst, 0);
	struct tcb *t = NULL;

	while (n-- > 0) {
		t = tcp_open(st, 4, 2, now);
		if (!t || tcp_connect(st, t, &to, now) != -EINPROGRESS)
			_exit(3);
	}
	if ((n = atomic_exchange(&shared->peer_end, 0)))
		peer_ends(st, to.port, n, now);
	if (atomic_exchange(&shared->peer_send_now, 0)) { /* a byte on each connection we opened */
		uint32_t c = 0;

		while ((t = tcp_next(st, &c)))
			if (tcp_user(t) >= 2 && tcp_state(t) == TCPS_ESTABLISHED)
				stack_send(st, t, (const uint8_t *)"x", 1, now);
	}
}

static inline void peer_main(void)
{
	static uint8_t in[FRAME_MAX_BYTES];
	struct netdev_caps caps = { .mtu_bytes = 1500 };
	struct region region = { .base = mmap(NULL, PEER_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
				 .bytes = PEER_BYTES };
	struct stack_config sc = { .region = &region, .seed = { 1, 2, 3, 4 } };
	struct stack *st;

	memcpy(caps.mac, peer_mac, 6);
	sc.dev = caps;
	stack_sysctl_default(&sc.ctl);
	st = stack_init(&sc, io_now());
	if (!st || stack_addr_add(st, ip(PEER_IP), 24) || stack_neigh_add(st, ip(OUR_IP), our_mac))
		_exit(4);
	peer_listen(st, ECHO_PORT);
	peer_listen(st, SILENT_PORT);
	for (;;) {
		struct pollfd p = { .fd = wire[1], .events = POLLIN };
		usec_t now;
		ssize_t n;

		poll(&p, 1, 1); /* 1 ms: commands and timers */
		now = io_now();
		while ((n = recv(wire[1], in, sizeof(in), MSG_DONTWAIT)) > 0) {
			struct frame f = { .data = in + VNET_HDR_BYTES, .len = (uint32_t)n - VNET_HDR_BYTES };

			memcpy(&f.vnet, in, VNET_HDR_BYTES);
			atomic_fetch_add(&shared->peer_saw, 1);
			if (!atomic_load(&shared->peer_deaf))
				stack_input(st, &f, now);
		}
		stack_expire(st, now);
		peer_commands(st, now);
		peer_events(st, now);
		peer_write(st, now);
	}
}

/* ---- the host ---- */

static inline void keeper_start(void)
{
	struct config cfg;
	int pair[2], lst = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	const struct sockaddr_un { sa_family_t f; char path[108]; } any = { .f = AF_UNIX };
	char what = 0;

	config_init(&cfg);
	strcpy(cfg.pcap, "-"); /* a keeper that records stays who it is; one that changes its user would lose the death signal */
	cr_assert_eq(bind(lst, (const struct sockaddr *)&any, sizeof(sa_family_t)), 0);
	cr_assert_eq(listen(lst, 8), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	keeper_pid = child();
	if (!keeper_pid) {
		const struct keeper_args a = { .cfg = &cfg, .owner_uid = getuid(), .memfd = rig_memfd, .queue_fd = wire[0],
					       .listen_fd = lst, .warden_fd = pair[1] };

		arena_unmap();
		close(pair[0]);
		_exit(keeper_main(&a));
	}
	cr_assert_eq(recv(pair[0], &what, 1, 0), 1);
	cr_assert_eq(what, KEEPER_READY);
	close(pair[1]);
	close(lst);
}

static inline void wire_make(void)
{
	int bytes = 16 << 20;

	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, wire), 0);
	for (int i = 0; i < 2; i++)
		if (setsockopt(wire[i], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)))
			setsockopt(wire[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

/* Formats a host at @level whose queue is wire[0]; starts keeper and peer. The test's process is no member yet. */
static inline void drive_rig(enum io_level level, bool with_keeper)
{
	struct host_device dev = { .kind = IO_KIND_PACKET, .caps = { .mac = { 2, 0, 0, 0, 0, 1 }, .mtu_bytes = 1500 } };
	const uint8_t token[16] = { 1 };
	char err[CONFIG_ERR_BYTES] = "";
	struct config cfg;

	if (level != IO_LEVEL_POLL && io_level_probe(level == IO_LEVEL_FULL ? "full" : "uring") < 0)
		cr_skip_test("this kernel or sandbox has no such level");
	config_init(&cfg);
	cfg.arena_bytes = RIG_ARENA_BYTES;
	cfg.io = level;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	wire_make();
	rig_memfd = arena_create(RIG_ARENA_BYTES);
	cr_assert_geq(rig_memfd, 0);
	cr_assert_eq(host_format(rig_memfd, &cfg, &dev, (uint32_t)getuid(), token, err, sizeof(err)), 0, "%s", err);
	cr_assert_eq(stack_addr_add(host->shard.stack, ip(OUR_IP), 24), 0);
	cr_assert_eq(stack_neigh_add(host->shard.stack, ip(PEER_IP), peer_mac), 0);
	host_queue_adopt(dup(wire[0]));
	peer_pid = child();
	if (!peer_pid)
		peer_main();
	if (with_keeper)
		keeper_start();
}

static inline struct thr *member_enter(void)
{
	struct thr *t;

	thr_fork_child();
	if (slot_register() <= 0 || !(t = thr_enter()))
		_exit(90);
	return t;
}

/* Return: 0 in the parent with *@ret_pid, else the new member's thread */
static inline struct thr *member(pid_t *ret_pid)
{
	*ret_pid = child();
	return *ret_pid ? NULL : member_enter();
}

static inline void killed(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
}

/* ---- sockets, as preload/ makes them; without numbers, unless number_next says which is free ---- */

static int number_next;

/* Shard lock held, since the file was made. */
static inline void sock_number(struct thr *t, struct file *f)
{
	struct file *old;

	if (number_next && !fdtab_set(number_next++, f, 0, &old))
		file_unref(t, f);
}

static inline struct file *sock_open(struct thr *t)
{
	struct file *f;

	t = thr_enter();
	shard_lock(t);
	f = file_new(FILE_TCP, 4);
	file_ref(f);
	f->tcb = tcp_open(host->shard.stack, 4, file_handle(f), t->now);
	tcp_opts(f->tcb)->nodelay = 1;
	tcp_opts(f->tcb)->reuseaddr = 1;
	sock_number(t, f);
	thr_leave(t);
	return f;
}

static inline void sock_close(struct thr *t, struct file *f)
{
	t = thr_enter();
	shard_lock(t);
	file_unref(t, f);
	thr_leave(t);
}

/* Shard lock held, and held again afterwards. Return: what drive_wait() said */
static inline int sock_wait(struct thr *t, struct file *f, uint32_t events, bool exclusive, usec_t deadline)
{
	struct drive_wait w = { .deadline = deadline };
	uint32_t seen;
	int r = exclusive ? watch_arm_exclusive(t, f, events) : watch_arm(t, f, events);

	if (r < 0)
		return r;
	seen = t->waker->word;
	file_hold(t, f);
	thr_leave_hold(t);
	r = drive_wait(t, seen, &w);
	thr_enter();
	shard_lock(t);
	if (r <= 0)
		watch_pass_on(t);
	watch_disarm_all(t);
	file_release(t, f);
	return r;
}

static inline int sock_connect_to(struct thr *t, struct file *f, struct ipaddr addr, uint16_t port, usec_t deadline)
{
	const struct endpoint to = { .addr = addr, .port = port };
	int r;

	t = thr_enter();
	shard_lock(t);
	r = tcp_connect(host->shard.stack, f->tcb, &to, t->now);
	while (r == -EINPROGRESS && !(tcp_poll(f->tcb) & (TCP_EV_OUT | TCP_EV_ERR)))
		if (sock_wait(t, f, TCP_EV_OUT, false, deadline) == 0)
			break;
	r = tcp_state(f->tcb) == TCPS_ESTABLISHED ? 0 : -ETIMEDOUT;
	thr_leave(t);
	return r;
}

static inline int sock_connect(struct thr *t, struct file *f, uint16_t port, usec_t deadline)
{
	return sock_connect_to(t, f, ip(PEER_IP), port, deadline);
}

static inline int sock_listen(struct thr *t, struct file *f, uint16_t port)
{
	const struct endpoint at = { .addr = ip(OUR_IP), .port = port };
	int r;

	t = thr_enter();
	shard_lock(t);
	r = tcp_bind(host->shard.stack, f->tcb, &at, t->now);
	if (!r)
		r = tcp_listen(host->shard.stack, f->tcb, 4096, t->now);
	thr_leave(t);
	return r;
}

/* Return: connection, NULL: deadline */
static inline struct file *sock_accept(struct thr *t, struct file *l, usec_t deadline)
{
	struct file *f = NULL;
	struct tcb *c;
	int r;

	t = thr_enter();
	shard_lock(t);
	while ((r = tcp_accept(host->shard.stack, l->tcb, &c)) == -EAGAIN)
		if (sock_wait(t, l, TCP_EV_IN, true, deadline) == 0)
			break;
	if (!r) {
		f = file_new(FILE_TCP, 4);
		file_ref(f);
		f->tcb = c;
		tcp_set_user(c, file_handle(f));
		sock_number(t, f);
	}
	thr_leave(t);
	return f;
}

static inline size_t sock_send(struct thr *t, struct file *f, const void *buf, size_t len)
{
	size_t n;

	t = thr_enter();
	shard_lock(t);
	n = stack_send(host->shard.stack, f->tcb, buf, len, t->now);
	thr_acted(t, f);
	thr_leave(t);
	return n;
}

/* Return: octets, 0: end, -EAGAIN: deadline, or another error */
static inline ptrdiff_t sock_recv(struct thr *t, struct file *f, void *buf, size_t len, usec_t deadline)
{
	struct stack *st = host->shard.stack;
	struct iovec iov[16];
	ptrdiff_t r;
	int n;

	t = thr_enter();
	shard_lock(t);
	while ((r = tcp_recv_begin(st, f->tcb, 0, len, iov, 16, &n)) == -EAGAIN)
		if (sock_wait(t, f, TCP_EV_IN, false, deadline) == 0)
			break;
	if (r >= 0) {
		size_t got = 0;

		for (int i = 0; i < n && r > 0; i++) {
			memcpy((uint8_t *)buf + got, iov[i].iov_base, iov[i].iov_len);
			got += iov[i].iov_len;
		}
		tcp_recv_done(st, f->tcb, got, t->now);
		r = (ptrdiff_t)got;
	}
	thr_leave(t);
	return r;
}

/* One question and its answer. Return: microseconds it took, USEC_NEVER: no answer in time, or a wrong one */
static inline usec_t ping(struct thr *t, struct file *f, uint64_t token, usec_t patience)
{
	usec_t begin = io_now();
	uint64_t back = 0;
	size_t got = 0;

	if (sock_send(t, f, &token, sizeof(token)) != sizeof(token))
		return USEC_NEVER;
	while (got < sizeof(back)) {
		ptrdiff_t r = sock_recv(t, f, (uint8_t *)&back + got, sizeof(back) - got, begin + patience);

		if (r <= 0)
			return USEC_NEVER;
		got += (size_t)r;
	}
	return back == token ? io_now() - begin : USEC_NEVER;
}

#define WITHIN_MS(ms, cond)                                           \
	({                                                            \
		usec_t until_ = io_now() + MSEC(ms);                  \
		while (!(cond) && io_now() < until_)                  \
			usleep(200);                                  \
		!!(cond);                                             \
	})

#endif
