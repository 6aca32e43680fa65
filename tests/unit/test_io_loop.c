/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_io_loop.c - frames, wakes, signals and descriptors through the loop, at each level
 *
 * Devices live in a network namespace of the test's own: a TAP whose kernel side is driven through a packet socket, or a
 * veth pair. Without the right to make one the test is skipped and says so.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../../io/io.h"
#include "../../io/memdev.h"
#include "../../io/waker.h"

#define ETHERTYPE_OURS 0x88b5 /* IEEE 802: local experimental */

/* ---- rig ---- */

enum dev { DEV_TAP, DEV_VETH };
struct how {
	enum io_level level;
	enum dev dev;
	bool old; /* as a kernel without RWF_NOWAIT on TAP */
};
static struct how all_hows[] = {
	{ IO_LEVEL_FULL, DEV_TAP, false },   { IO_LEVEL_URING, DEV_TAP, false }, { IO_LEVEL_URING, DEV_TAP, true },
	{ IO_LEVEL_POLL, DEV_TAP, false },   { IO_LEVEL_FULL, DEV_VETH, false }, { IO_LEVEL_URING, DEV_VETH, false },
	{ IO_LEVEL_POLL, DEV_VETH, false },
};
#define EACH_HOW(name)                                                                                            \
	ParameterizedTestParameters(io_loop, name)                                                                \
	{                                                                                                         \
		return cr_make_param_array(struct how, all_hows, sizeof(all_hows) / sizeof(all_hows[0]));         \
	}                                                                                                         \
	ParameterizedTest(struct how *how, io_loop, name)

struct rig {
	struct io_loop *l;
	struct io_waker *waker; /* shared with children */
	struct netdev_caps caps;
	int queue_fd, peer_fd; /* peer: packet socket on the kernel's side of the wire */
	char peer_if[16];
};

static void if_up(const char *name)
{
	struct ifreq ifr = { 0 };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	cr_assert_eq(ioctl(fd, SIOCGIFFLAGS, &ifr), 0);
	ifr.ifr_flags |= IFF_UP | IFF_NOARP;
	cr_assert_eq(ioctl(fd, SIOCSIFFLAGS, &ifr), 0);
	close(fd);
}

static void no_ipv6(void)
{
	int fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY);

	if (fd >= 0) {
		cr_assert_eq(write(fd, "1", 1), 1);
		close(fd);
	}
}

static int peer_open(const char *ifname)
{
	struct sockaddr_ll sa = { .sll_family = AF_PACKET, .sll_protocol = htons(ETHERTYPE_OURS),
				  .sll_ifindex = (int)if_nametoindex(ifname) };
	int one = 1, bytes = 64 << 20, fd = socket(AF_PACKET, SOCK_RAW, 0);

	cr_assert_geq(fd, 0);
	cr_assert_eq(setsockopt(fd, SOL_PACKET, 15 /* PACKET_VNET_HDR */, &one, sizeof(one)), 0);
	cr_assert_eq(setsockopt(fd, SOL_PACKET, 23 /* PACKET_IGNORE_OUTGOING */, &one, sizeof(one)), 0);
	cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)), 0);
	cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)), 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

/** rig_open() - device in a namespace of its own, and a loop on it; skips where that is not permitted */
static struct rig rig_open(const struct how *how)
{
	struct rig r = { .queue_fd = -1 };
	struct io_dev_config dc = { .kind = how->dev == DEV_TAP ? IO_KIND_TAP : IO_KIND_PACKET, .create = true };
	struct io_loop_config lc = { .kind = dc.kind, .level = how->level, .no_rwf_nowait = how->old };
	int best = io_level_probe(NULL);

	if (best < 0 || best > (int)how->level)
		cr_skip_test("this kernel does not have io level %d", how->level);
	if (unshare(CLONE_NEWNET) < 0)
		cr_skip_test("no permission for a network namespace");
	no_ipv6();
	if (how->dev == DEV_VETH) {
		if (system("ip link add va type veth peer name vb"))
			cr_skip_test("no veth pair to be had");
		strcpy(dc.ifname, "va");
		strcpy(r.peer_if, "vb");
		r.queue_fd = io_packet_open(&dc, &r.caps);
	} else {
		strcpy(dc.ifname, "os%d");
		r.queue_fd = io_tap_open(&dc, &r.caps);
		strcpy(r.peer_if, dc.ifname);
	}
	if (r.queue_fd == -EPERM || r.queue_fd == -ENOENT)
		cr_skip_test("no device to be had: %d", r.queue_fd);
	cr_assert_geq(r.queue_fd, 0, "%d", r.queue_fd);
	if_up(dc.ifname);
	if_up(r.peer_if);
	r.peer_fd = peer_open(r.peer_if);
	r.waker = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	lc.queue_fd = r.queue_fd;
	int e = io_loop_open(&r.l, &lc, r.waker);
	cr_assert_eq(e, 0, "io_loop_open %d", e);
	cr_assert_eq(io_loop_level(r.l), how->level);
	return r;
}

static void *made[2000]; /* frames and cells of this test */
static unsigned n_made;

static void rig_close(struct rig *r)
{
	io_loop_close(r->l);
	while (n_made > 0)
		free(made[--n_made]);
	close(r->queue_fd);
	close(r->peer_fd);
}

struct test_frame {
	struct vnet_hdr vnet;
	struct ether_header eth;
	uint32_t number;
	uint8_t payload[65536];
} __attribute__((packed));

static void peer_send_len(struct rig *r, uint32_t number, size_t payload_bytes)
{
	static struct test_frame f;
	size_t len = offsetof(struct test_frame, payload) + payload_bytes;

	memset(&f, 0, offsetof(struct test_frame, payload));
	memset(f.eth.ether_dhost, 0xff, 6);
	f.eth.ether_type = htons(ETHERTYPE_OURS);
	f.number = number;
	cr_assert_eq(send(r->peer_fd, &f, len, 0), (ssize_t)len, "%m");
}

static void peer_send(struct rig *r, uint32_t first, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		peer_send_len(r, first + i, 46);
}

static int wait_rx(struct rig *r, usec_t for_us)
{
	struct io_wait w = { .rx = true, .block = true, .wake_seen = waker_word(r->waker), .deadline = io_now() + for_us };

	return io_loop_wait(r->l, &w);
}

/** expect_frames() - exactly these, in order; other traffic of the namespace is passed over */
static void expect_frames(struct rig *r, uint32_t first, uint32_t n)
{
	struct frame f[8];
	uint32_t got = 0;
	usec_t until = io_now() + SEC(5);

	while (got < n && io_now() < until) {
		int k = io_loop_rx(r->l, f, 8, true);

		for (int i = 0; i < k; i++) {
			const struct test_frame *t = (const void *)(f[i].data - VNET_HDR_BYTES);

			if (f[i].len < 18 || t->eth.ether_type != htons(ETHERTYPE_OURS))
				continue;
			cr_assert_eq(t->number, first + got, "frame %u instead of %u", t->number, first + got);
			got++;
		}
		io_loop_rx_done(r->l);
		if (k == 0 && got < n)
			cr_assert_geq(wait_rx(r, SEC(1)), 0);
	}
	cr_assert_eq(got, n, "%u of %u frames", got, n);
}

/** drain() - whatever the kernel itself sent when the interface came up */
static void drain(struct rig *r)
{
	struct frame f[8];

	while (wait_rx(r, MSEC(20)) & IO_WAIT_RX) {
		while (io_loop_rx(r->l, f, 8, true) > 0)
			io_loop_rx_done(r->l);
	}
}

/** pbuf_make() - frame with @payload_bytes of octets @number in two pieces; lives until rig_close() */
static struct pbuf *pbuf_make(uint32_t number, size_t payload_bytes)
{
	struct pbuf *p = calloc(1, sizeof(*p));
	struct cell *c = calloc(1, sizeof(*c) + payload_bytes + 8);
	struct test_frame f = { 0 };

	made[n_made++] = p;
	made[n_made++] = c;
	memset(f.eth.ether_dhost, 0xff, 6);
	f.eth.ether_type = htons(ETHERTYPE_OURS);
	f.number = number;
	p->hdr_off = 16;
	p->hdr_len = offsetof(struct test_frame, payload);
	memcpy(pbuf_head(p), &f, p->hdr_len);
	if (payload_bytes) {
		memset(c->data, (int)number, payload_bytes);
		p->n_frags = 2;
		p->frag[0] = (struct pbuf_frag){ c, 0, (uint32_t)payload_bytes / 2 };
		p->frag[1] = (struct pbuf_frag){ c, (uint32_t)payload_bytes / 2, (uint32_t)(payload_bytes - payload_bytes / 2) };
	}
	p->len = (uint32_t)(p->hdr_len - VNET_HDR_BYTES + payload_bytes);
	p->state = PBUF_OUT;
	return p;
}

/* ---- frames ---- */

EACH_HOW(frames_in_keep_count_and_order)
{
	struct rig r = rig_open(how);

	drain(&r);
	for (uint32_t round = 0; round < 20; round++) {
		peer_send(&r, round * 100, 100); /* more than there are landing buffers */
		expect_frames(&r, round * 100, 100);
	}
	rig_close(&r);
}

/* One batch of what the peer sent, in order from @first; returns its length */
static int batch_of(struct rig *r, uint32_t first, size_t payload_bytes)
{
	struct frame f[64];
	int k = io_loop_rx(r->l, f, 64, true);

	for (int i = 0; i < k; i++) {
		const struct test_frame *t = (const void *)(f[i].data - VNET_HDR_BYTES);

		cr_assert_eq(f[i].len, offsetof(struct test_frame, payload) - VNET_HDR_BYTES + payload_bytes);
		cr_assert_eq(t->number, first + (uint32_t)i);
	}
	io_loop_rx_done(r->l);
	return k;
}

/* A batch of large frames should not be more than the cache holds; small ones come as many as there are buffers. */
EACH_HOW(large_frames_come_few_at_a_time_small_ones_many)
{
	struct rig r = rig_open(how);
	static const size_t bytes[] = { 30000, 46, 30000, 46 };
	uint32_t sent = 0;
	char cmd[80];

	snprintf(cmd, sizeof(cmd), "ip link set %s mtu 40000", r.peer_if);
	cr_assert_eq(system(cmd), 0);
	cr_assert(how->dev == DEV_TAP || system("ip link set va mtu 40000") == 0);
	drain(&r);
	for (unsigned round = 0; round < 4; round++) {
		uint32_t got = 0;
		int most = 0;

		for (uint32_t i = 0; i < 40; i++)
			peer_send_len(&r, sent + i, bytes[round]);
		for (int k; got < 40; got += (uint32_t)k) {
			k = batch_of(&r, sent + got, bytes[round]);
			cr_assert(k > 0 || wait_rx(&r, SEC(5)) > 0, "%u of 40", got);
			if (got >= 16 && k > most) /* the first ones came by the size of those before them */
				most = k;
		}
		cr_expect(bytes[round] > 1500 ? most <= 4 : most >= 8, "round %u: %d at a time", round, most);
		sent += 40;
	}
	rig_close(&r);
}

EACH_HOW(frames_out_arrive_whole_and_come_back)
{
	struct rig r = rig_open(how);
	static uint8_t buf[70000];
	enum { N = 600 }; /* more than the submission queue holds */
	struct pbuf *list = NULL, *p;
	struct io_stats stats;
	int back = 0;

	for (int i = N - 1; i >= 0; i--) {
		p = pbuf_make((uint32_t)i, i % 3 ? 0 : 1000);
		p->next = list;
		list = p;
	}
	io_loop_tx(r.l, list);
	cr_assert_eq(io_loop_tx_queued(r.l), N);
	io_loop_flush(r.l);
	cr_assert_eq(io_loop_tx_queued(r.l), 0);
	for (p = io_loop_tx_reap(r.l); p; p = p->next)
		back++;
	cr_assert_eq(back, N, "%d came back", back);
	io_loop_stats(r.l, &stats);
	cr_assert_eq(stats.tx_frames, N, "%lu of %d sent", stats.tx_frames, N);
	for (int i = 0; i < N; i++) {
		struct test_frame *f = (void *)buf;
		ssize_t n = recv(r.peer_fd, buf, sizeof(buf), MSG_DONTWAIT);

		cr_assert_eq(n, (ssize_t)offsetof(struct test_frame, payload) + (i % 3 ? 0 : 1000), "%d: %zd bytes, number %u, %lu errors",
			     i, n, f->number, stats.tx_errors);
		cr_assert_eq(f->number, (uint32_t)i);
		if (i % 3 == 0)
			cr_assert(f->payload[0] == (uint8_t)i && f->payload[999] == (uint8_t)i);
	}
	rig_close(&r);
}

/* Another process on the same queue has taken frames and is busy in its application. Frames come, and it ends. */
static void armed_and_busy(const struct rig *r, const struct how *how, volatile int *took)
{
	struct io_loop_config lc = { .kind = how->dev == DEV_TAP ? IO_KIND_TAP : IO_KIND_PACKET, .level = how->level,
				     .no_rwf_nowait = how->old, .queue_fd = r->queue_fd };
	struct io_waker *waker = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct io_wait w = { .rx = true, .block = true, .deadline = USEC_NEVER };
	struct frame f[8];
	struct io_loop *l;

	if (io_loop_open(&l, &lc, waker) < 0)
		_exit(1);
	*took = 0;
	while (*took < 4) {
		int n = io_loop_rx(l, f, 8, true);

		*took += n > 0 ? n : 0;
		io_loop_rx_done(l);
		if (n <= 0 && *took < 3)
			io_loop_wait(l, &w);
		else if (n <= 0)
			break;
	}
	*took = 100;
	while (*took != 101)
		;
	_exit(0);
}

EACH_HOW(frames_that_wait_survive_the_end_of_another_reader)
{
	volatile int *took = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct rig r = rig_open(how);
	int status;

	drain(&r);
	for (uint32_t killed = 0; killed < 2; killed++) {
		struct io_wait out = { .rx = false, .wake_seen = waker_word(r.waker) }; /* ours steps back */
		pid_t pid;

		io_loop_wait(r.l, &out);
		*took = -1;
		pid = fork();
		if (!pid)
			armed_and_busy(&r, how, took);
		while (*took < 0)
			sched_yield();
		usleep(20000); /* it sleeps */
		peer_send(&r, 0, 3);
		while (*took != 100)
			sched_yield();
		peer_send(&r, killed * 10, 5);
		usleep(1000);
		if (killed)
			kill(pid, SIGKILL);
		else
			*took = 101;
		cr_assert_eq(waitpid(pid, &status, 0), pid);
		expect_frames(&r, killed * 10, 5);
	}
	rig_close(&r);
}

/* ---- waking ---- */

EACH_HOW(wake_from_another_process_ends_the_sleep)
{
	struct rig r = rig_open(how);

	drain(&r);
	for (int i = 0; i < 50; i++) {
		struct io_wait w = { .rx = i & 1, .block = true, .wake_seen = waker_word(r.waker), .deadline = io_now() + SEC(5) };
		pid_t pid = fork();

		if (pid == 0) {
			if (i % 3)
				usleep(2000);
			io_wake(r.waker);
			_exit(0);
		}
		cr_assert_eq(io_loop_wait(r.l, &w), IO_WAIT_WAKE, "round %d", i);
		cr_assert_lt(io_now(), w.deadline);
		waitpid(pid, NULL, 0);
	}
	rig_close(&r);
}

/* A thread ended, its word has a new owner, and the kernel has not taken its ring apart yet. */
EACH_HOW(wake_finds_the_new_owner_of_a_word)
{
	struct rig r = rig_open(how);
	struct io_loop_config lc = { .queue_fd = r.queue_fd, .level = how->level, .no_rwf_nowait = how->old,
				     .kind = how->dev == DEV_TAP ? IO_KIND_TAP : IO_KIND_PACKET };
	struct io_wait short_one = { .block = true, .wake_seen = waker_word(r.waker), .deadline = io_now() + MSEC(5) };
	struct io_loop *fresh;

	cr_assert_eq(io_loop_wait(r.l, &short_one), 0); /* what it waited with stays queued */
	cr_assert_eq(io_loop_open(&fresh, &lc, r.waker), 0);
	for (int i = 0; i < 3; i++) {
		struct io_wait w = { .block = true, .wake_seen = waker_word(r.waker), .deadline = io_now() + SEC(2) };
		pid_t pid = fork();

		if (pid == 0) {
			usleep(5000);
			io_wake(r.waker);
			_exit(0);
		}
		cr_assert_eq(io_loop_wait(fresh, &w), IO_WAIT_WAKE, "round %d", i);
		cr_assert_lt(io_now(), w.deadline, "round %d: by time-out", i);
		waitpid(pid, NULL, 0);
	}
	io_loop_close(fresh);
	rig_close(&r);
}

EACH_HOW(wakes_by_the_thousand_none_lost)
{
	enum { N = 3000 };
	struct rig r = rig_open(how);
	uint32_t *seen_by_waker = (uint32_t *)(r.waker + 1); /* the owner's answer, in the shared page */
	pid_t pid;

	drain(&r);
	pid = fork();
	if (pid == 0) { /* each wake only after the one before was taken: a lost one stops both */
		for (uint32_t i = 0; i < N; i++) {
			io_wake(r.waker);
			for (unsigned spin = 0; __atomic_load_n(seen_by_waker, __ATOMIC_ACQUIRE) != i + 1; spin++)
				if (spin > 1000)
					sched_yield();
		}
		_exit(0);
	}
	for (uint32_t i = 0; i < N; i++) {
		struct io_wait w = { .rx = true, .block = true, .wake_seen = i, .deadline = io_now() + SEC(5) };

		cr_assert(io_loop_wait(r.l, &w) & IO_WAIT_WAKE, "wake %u", i);
		cr_assert_eq(waker_word(r.waker), i + 1);
		__atomic_store_n(seen_by_waker, i + 1, __ATOMIC_RELEASE);
	}
	waitpid(pid, NULL, 0);
	rig_close(&r);
}

EACH_HOW(wake_before_the_wait_ends_it_at_once)
{
	struct rig r = rig_open(how);
	struct io_wait w = { .rx = true, .block = true, .wake_seen = waker_word(r.waker), .deadline = io_now() + SEC(5) };

	drain(&r);
	io_wake(r.waker);
	cr_assert_eq(io_loop_wait(r.l, &w), IO_WAIT_WAKE);
	w.wake_seen = waker_word(r.waker);
	w.deadline = io_now() + MSEC(30);
	cr_assert_eq(io_loop_wait(r.l, &w), 0, "a wake is reported once");
	cr_assert_geq(io_now(), w.deadline);
	rig_close(&r);
}

/* ---- the receive and the role ---- */

EACH_HOW(without_the_role_frames_stay_in_the_queue)
{
	struct rig r = rig_open(how);
	struct io_wait w = { .rx = false, .block = true, .wake_seen = waker_word(r.waker), .deadline = io_now() + MSEC(30) };
	uint8_t buf[200];
	int left = 0;

	drain(&r); /* the receive is armed now */
	peer_send(&r, 0, 5);
	io_loop_flush(r.l); /* takes nothing in */
	cr_assert_eq(io_loop_wait(r.l, &w), 0, "cancelled together with the wait");
	w.block = false;
	cr_assert_eq(io_loop_wait(r.l, &w), 0);
	while (read(r.queue_fd, buf, sizeof(buf)) > 0) /* another thread with the role would find */
		left++;
	cr_assert_eq(left, 5, "%d of 5 left", left);
	peer_send(&r, 100, 40);
	expect_frames(&r, 100, 40); /* and with the role again, all arrive */
	rig_close(&r);
}

EACH_HOW(one_look_does_not_sleep)
{
	struct rig r = rig_open(how);
	struct io_wait w = { .rx = true, .block = false, .wake_seen = waker_word(r.waker), .deadline = USEC_NEVER };
	struct io_stats before, after;

	drain(&r);
	io_loop_stats(r.l, &before);
	for (int i = 0; i < 10; i++)
		cr_assert_eq(io_loop_wait(r.l, &w), 0);
	io_loop_stats(r.l, &after);
	if (how->level != IO_LEVEL_POLL)
		cr_assert_leq(after.enters - before.enters, 1, "an armed ring is looked at without a system call");
	peer_send(&r, 7, 3);
	cr_assert_eq(io_loop_wait(r.l, &w), IO_WAIT_RX);
	expect_frames(&r, 7, 3);
	rig_close(&r);
}

/* ---- time and signals ---- */

static volatile sig_atomic_t n_alarms;
static void on_alarm(int sig)
{
	(void)sig;
	n_alarms++;
}

EACH_HOW(deadline_is_kept)
{
	struct rig r = rig_open(how);
	usec_t start;

	drain(&r);
	for (int i = 0; i < 5; i++) {
		start = io_now();
		cr_assert_eq(wait_rx(&r, MSEC(20)), 0);
		cr_assert_geq(io_now() - start, MSEC(20));
		cr_assert_lt(io_now() - start, SEC(2));
	}
	rig_close(&r);
}

EACH_HOW(signal_handler_interrupts_the_sleep)
{
	struct rig r = rig_open(how);
	struct sigaction sa = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	struct itimerval it = { .it_value.tv_usec = 20000 };

	drain(&r);
	sigaction(SIGALRM, &sa, NULL);
	for (int i = 0; i < 4; i++) {
		if (i & 1) { /* with something to submit, the kernel's return value hides the signal */
			io_loop_tx(r.l, pbuf_make(0, 0));
		}
		n_alarms = 0;
		setitimer(ITIMER_REAL, &it, NULL);
		cr_assert_eq(wait_rx(&r, SEC(5)), -EINTR, "round %d", i);
		cr_assert_eq(n_alarms, 1);
	}
	rig_close(&r);
}

EACH_HOW(mask_of_the_wait_lets_the_signal_in)
{
	struct rig r = rig_open(how);
	struct io_wait w = { .rx = true, .block = true, .wake_seen = waker_word(r.waker) };
	struct sigaction sa = { .sa_handler = on_alarm };
	sigset_t blocked, none;

	drain(&r);
	sigaction(SIGALRM, &sa, NULL);
	sigemptyset(&none);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGALRM);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	n_alarms = 0;
	raise(SIGALRM);
	w.deadline = io_now() + MSEC(20);
	cr_assert_eq(io_loop_wait(r.l, &w), 0, "without a mask it stays blocked");
	cr_assert_eq(n_alarms, 0);
	w.mask = &none;
	w.deadline = io_now() + SEC(5);
	cr_assert_eq(io_loop_wait(r.l, &w), -EINTR);
	cr_assert_eq(n_alarms, 1);
	rig_close(&r);
}

/* ---- descriptors of the application ---- */

EACH_HOW(kfds_report_and_let_go)
{
	struct rig r = rig_open(how);
	struct pollfd k[2];
	struct io_wait w = { .rx = true, .block = true, .wake_seen = waker_word(r.waker), .kfds = k, .n_kfds = 2 };
	int a[2], b[2];
	char c;

	drain(&r);
	cr_assert_eq(pipe(a), 0);
	cr_assert_eq(pipe(b), 0);
	k[0] = (struct pollfd){ .fd = a[0], .events = POLLIN };
	k[1] = (struct pollfd){ .fd = b[0], .events = POLLIN };
	for (int i = 0; i < 3; i++) {
		w.deadline = io_now() + MSEC(10);
		cr_assert_eq(io_loop_wait(r.l, &w), 0);
		cr_assert_eq(write(b[1], "x", 1), 1);
		w.deadline = io_now() + SEC(5);
		for (int again = 0; again < 2; again++) { /* level-triggered: not consumed, it shows again */
			cr_assert_eq(io_loop_wait(r.l, &w), IO_WAIT_KFD);
			cr_assert(k[0].revents == 0 && k[1].revents == POLLIN);
		}
		cr_assert_eq(read(b[0], &c, 1), 1);
	}
	close(a[0]); /* its poll must not keep the file open: the writer would not learn */
	signal(SIGPIPE, SIG_IGN);
	cr_assert_eq(write(a[1], "x", 1), -1);
	cr_assert_eq(errno, EPIPE);
	w.deadline = io_now() + SEC(5);
	cr_assert_eq(io_loop_wait(r.l, &w), IO_WAIT_KFD);
	cr_assert_eq(k[0].revents, POLLNVAL);
	rig_close(&r);
}

/* poll() has a regular file always readable; asked for something else there is nothing to wait for, and the rest waits on */
EACH_HOW(kfds_of_a_regular_file_do_not_end_the_wait)
{
	struct rig r = rig_open(how);
	struct pollfd k = { .fd = memfd_create("regular", 0), .events = POLLPRI };
	struct io_wait w = { .rx = true, .block = true, .wake_seen = waker_word(r.waker), .kfds = &k, .n_kfds = 1 };

	drain(&r);
	w.deadline = io_now() + MSEC(10);
	cr_assert_eq(io_loop_wait(r.l, &w), 0);
	close(k.fd);
	rig_close(&r);
}

EACH_HOW(kfds_that_stay_cost_no_more_calls)
{
	struct rig r = rig_open(how);
	struct pollfd k = { .events = POLLIN };
	struct io_wait w = { .rx = true, .block = true, .wake_seen = waker_word(r.waker), .kfds = &k, .n_kfds = 1, .kfds_key = 1 };
	struct io_stats before, after;
	int p[2];
	char c;

	drain(&r);
	cr_assert_eq(pipe(p), 0);
	k.fd = p[0];
	w.deadline = io_now() + MSEC(10);
	cr_assert_eq(io_loop_wait(r.l, &w), 0);
	io_loop_stats(r.l, &before);
	for (uint32_t i = 0; i < 10; i++) {
		w.deadline = io_now() + SEC(5);
		peer_send(&r, i, 1);
		cr_assert_eq(io_loop_wait(r.l, &w), IO_WAIT_RX);
		io_loop_stats(r.l, &after);
		expect_frames(&r, i, 1);
	}
	if (how->level == IO_LEVEL_FULL)
		cr_assert_leq(after.enters - before.enters, 10, "one enter a wait");
	cr_assert_eq(write(p[1], "x", 1), 1);
	cr_assert_eq(io_loop_wait(r.l, &w), IO_WAIT_KFD);
	cr_assert_eq(k.revents, POLLIN);
	cr_assert_eq(read(p[0], &c, 1), 1);
	w.deadline = io_now() + MSEC(10);
	int got = io_loop_wait(r.l, &w);
	cr_assert(got == 0 || got == IO_WAIT_KFD, "%d", got); /* a left-over event may be stale, once */
	w.deadline = io_now() + MSEC(10);
	cr_assert_eq(io_loop_wait(r.l, &w), 0);
	rig_close(&r);
}

EACH_HOW(kfds_forgotten_are_let_go)
{
	struct rig r = rig_open(how);
	struct pollfd k = { .events = POLLIN };
	struct io_wait w = { .rx = true, .block = true, .wake_seen = waker_word(r.waker), .kfds = &k, .n_kfds = 1, .kfds_key = 7 };
	int p[2], q[2];

	drain(&r);
	cr_assert_eq(pipe(p), 0);
	k.fd = p[0];
	w.deadline = io_now() + MSEC(10);
	cr_assert_eq(io_loop_wait(r.l, &w), 0);
	io_loop_kfds_forget(r.l, 7);
	close(p[0]);
	signal(SIGPIPE, SIG_IGN);
	cr_assert_eq(write(p[1], "x", 1), -1, "nobody holds the reading end");
	cr_assert_eq(errno, EPIPE);

	/* Another file under the same number, and another key: the old poll must not stand in for the new one. */
	cr_assert_eq(pipe(q), 0);
	cr_assert_eq(dup2(q[0], k.fd), k.fd);
	cr_assert_eq(write(q[1], "x", 1), 1);
	w.kfds_key = 8;
	w.deadline = io_now() + SEC(5);
	cr_assert_eq(io_loop_wait(r.l, &w), IO_WAIT_KFD);
	cr_assert_eq(k.revents, POLLIN);
	rig_close(&r);
}

EACH_HOW(kfds_of_another_key_are_armed_anew)
{
	struct rig r = rig_open(how);
	struct pollfd k = { .events = POLLIN };
	struct io_wait w = { .rx = true, .block = true, .wake_seen = waker_word(r.waker), .kfds = &k, .n_kfds = 1, .kfds_key = 7 };
	int p[2], q[2];

	drain(&r);
	cr_assert_eq(pipe(p), 0);
	k.fd = p[0];
	w.deadline = io_now() + MSEC(10);
	cr_assert_eq(io_loop_wait(r.l, &w), 0);
	cr_assert_eq(pipe(q), 0);
	cr_assert_eq(dup2(q[0], k.fd), k.fd);
	cr_assert_eq(write(q[1], "x", 1), 1);
	w.kfds_key = 8;
	w.deadline = io_now() + SEC(5);
	cr_assert_eq(io_loop_wait(r.l, &w), IO_WAIT_KFD);
	cr_assert_eq(k.revents, POLLIN);
	rig_close(&r);
}

EACH_HOW(kfds_by_the_hundred)
{
	enum { N = 300 }; /* more than the submission queue holds */
	struct rig r = rig_open(how);
	static struct pollfd k[N];
	static int in[N];
	struct io_wait w = { .rx = true, .block = true, .wake_seen = waker_word(r.waker), .kfds = k, .n_kfds = N };

	drain(&r);
	for (int i = 0; i < N; i++) {
		int p[2];

		cr_assert_eq(pipe(p), 0);
		k[i] = (struct pollfd){ .fd = p[0], .events = POLLIN };
		in[i] = p[1];
	}
	w.deadline = io_now() + MSEC(10);
	cr_assert_eq(io_loop_wait(r.l, &w), 0);
	for (int i = 0; i < N; i += 37)
		cr_assert_eq(write(in[i], "x", 1), 1);
	w.deadline = io_now() + SEC(5);
	cr_assert_eq(io_loop_wait(r.l, &w), IO_WAIT_KFD);
	for (int i = 0; i < N; i++)
		cr_assert_eq(k[i].revents, i % 37 ? 0 : POLLIN, "%d", i);
	rig_close(&r);
}

/* ---- what a program must not trip over ---- */

static int fds_open_below(int limit)
{
	int n = 0;

	for (int fd = 0; fd < limit; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

EACH_HOW(loop_leaves_low_descriptors_alone)
{
	struct rig r = rig_open(how);
	struct io_loop_config lc = { .queue_fd = r.queue_fd, .level = how->level, .no_rwf_nowait = how->old,
				     .kind = how->dev == DEV_TAP ? IO_KIND_TAP : IO_KIND_PACKET };
	int low, all, e;

	io_loop_close(r.l);
	low = fds_open_below(1000);
	all = fds_open_below(20000);
	e = io_loop_open(&r.l, &lc, r.waker);
	cr_assert_eq(e, 0);
	cr_assert_eq(fds_open_below(1000), low);
	if (how->level == IO_LEVEL_FULL)
		cr_assert_eq(fds_open_below(20000), all, "no descriptor at all");
	peer_send(&r, 0, 3);
	expect_frames(&r, 0, 3);
	io_loop_close(r.l);
	cr_assert_eq(fds_open_below(20000), all, "all closed");
	close(r.queue_fd);
	close(r.peer_fd);
}

EACH_HOW(fork_child_abandons_and_opens_its_own)
{
	struct rig r = rig_open(how);
	struct io_waker *child_waker = r.waker + 1;
	int status, before = fds_open_below(20000);
	pid_t pid;

	drain(&r);
	pid = fork();
	if (pid == 0) {
		struct io_loop_config lc = { .queue_fd = r.queue_fd, .level = how->level, .no_rwf_nowait = how->old,
					     .kind = how->dev == DEV_TAP ? IO_KIND_TAP : IO_KIND_PACKET };
		struct io_wait w = { .block = true };

		io_loop_abandon(r.l);
		if (fds_open_below(20000) > before || io_loop_open(&r.l, &lc, child_waker) < 0)
			_exit(1);
		io_wake(r.waker); /* the parent may send now */
		w.rx = true;
		w.wake_seen = waker_word(child_waker);
		w.deadline = io_now() + SEC(5);
		_exit(io_loop_wait(r.l, &w) == IO_WAIT_RX ? 0 : 2);
	}
	struct io_wait w = { .rx = false, .block = true, .wake_seen = 0, .deadline = io_now() + SEC(5) };
	cr_assert_eq(io_loop_wait(r.l, &w), IO_WAIT_WAKE);
	peer_send(&r, 0, 1);
	waitpid(pid, &status, 0);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "child: %x", (unsigned)status);
	peer_send(&r, 50, 1);
	peer_send(&r, 51, 1);
	rig_close(&r);
}

/* ---- super-frames: 64 KiB of TCP with its checksum unfinished, both ways ---- */

static void gso_headers(struct vnet_hdr *v, uint8_t *eth, unsigned payload)
{
	unsigned total = 40 + payload;

	*v = (struct vnet_hdr){ .flags = VNET_F_NEEDS_CSUM, .gso_type = VNET_GSO_TCPV4, .hdr_len = 54, .gso_size = 1448,
				.csum_start = 34, .csum_offset = 16 };
	memset(eth, 0xff, 6);
	memset(eth + 6, 2, 6);
	eth[12] = 0x08;
	eth[13] = 0;
	uint8_t *ip = eth + 14;
	memset(ip, 0, 40);
	ip[0] = 0x45;
	ip[2] = (uint8_t)(total >> 8);
	ip[3] = (uint8_t)total;
	ip[8] = 64;
	ip[9] = 6;
	ip[12] = ip[16] = 10;
	ip[20 + 12] = 0x50;
}

/* what is sent through a packet socket has the protocol the socket is bound to, and only IP can be segmented */
static void peer_speaks_ip(struct rig *r)
{
	struct sockaddr_ll sa = { .sll_family = AF_PACKET, .sll_protocol = htons(ETHERTYPE_IP),
				  .sll_ifindex = (int)if_nametoindex(r->peer_if) };

	cr_assert_eq(bind(r->peer_fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
}

EACH_HOW(gso_64k_in)
{
	struct rig r = rig_open(how);
	static uint8_t buf[70000];
	struct vnet_hdr v;
	struct frame f;
	bool seen = false;
	usec_t until = io_now() + SEC(5);

	drain(&r);
	peer_speaks_ip(&r);
	for (unsigned i = 0; i < 65000; i++)
		buf[10 + 54 + i] = (uint8_t)(i * 7);
	gso_headers(&v, buf + 10, 65000);
	memcpy(buf, &v, 10);
	cr_assert_eq(send(r.peer_fd, buf, 10 + 54 + 65000, 0), 10 + 54 + 65000, "%m");
	while (!seen && io_now() < until) {
		wait_rx(&r, SEC(1));
		while (io_loop_rx(r.l, &f, 1, true) == 1) {
			if (f.len == 54 + 65000) {
				seen = true;
				cr_assert_eq(f.vnet.gso_type, VNET_GSO_TCPV4);
				cr_assert_eq(f.vnet.gso_size, 1448);
				cr_assert_eq(f.vnet.flags & VNET_F_NEEDS_CSUM, VNET_F_NEEDS_CSUM);
				cr_assert_eq(memcmp(f.data, buf + 10, f.len), 0);
			}
			io_loop_rx_done(r.l);
		}
	}
	cr_assert(seen);
	rig_close(&r);
}

EACH_HOW(gso_64k_out)
{
	struct rig r = rig_open(how);
	static uint8_t buf[70000];
	struct pbuf *p = pbuf_make(9, 65000);
	struct vnet_hdr v;
	ssize_t n;

	peer_speaks_ip(&r);
	p->hdr_len = 10 + 54;
	p->len = 54 + 65000;
	gso_headers(&v, pbuf_head(p) + 10, 65000);
	memcpy(pbuf_head(p), &v, 10);
	io_loop_tx(r.l, p);
	cr_assert_geq(wait_rx(&r, 0), 0);
	cr_assert_eq(io_loop_tx_reap(r.l), p);
	n = recv(r.peer_fd, buf, sizeof(buf), MSG_DONTWAIT);
	cr_assert_eq(n, 10 + 54 + 65000, "%zd", n);
	memcpy(&v, buf, 10);
	cr_assert_eq(v.gso_size, 1448);
	cr_assert_eq(v.gso_type, VNET_GSO_TCPV4);
	for (unsigned i = 0; i < 65000; i++)
		cr_assert_eq(buf[64 + i], 9);
	rig_close(&r);
}

/* ---- the interface goes away, and comes back ---- */

static void if_down(const char *name)
{
	struct ifreq ifr = { 0 };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	cr_assert_eq(ioctl(fd, SIOCSIFFLAGS, &ifr), 0);
	close(fd);
}

EACH_HOW(interface_down_counts_errors_and_recovers)
{
	struct rig r = rig_open(how);
	const char *ours = how->dev == DEV_TAP ? r.peer_if : "va";
	struct io_stats st;
	struct pbuf *p = pbuf_make(0, 0);

	drain(&r);
	if_down(ours);
	for (int i = 0; i < 20; i++)
		wait_rx(&r, MSEC(10));
	io_loop_stats(r.l, &st);
	cr_assert_lt(st.enters, 300, "%lu system calls: no busy loop", st.enters);
	io_loop_tx(r.l, p);
	wait_rx(&r, 0);
	cr_assert_eq(io_loop_tx_reap(r.l), p, "comes back nevertheless");
	io_loop_stats(r.l, &st);
	cr_assert_eq(st.tx_errors, 1);
	cr_assert_eq(st.tx_frames, 0);
	if_up(ours);
	close(r.peer_fd);
	r.peer_fd = peer_open(r.peer_if);
	peer_send(&r, 1, 5);
	expect_frames(&r, 1, 5);
	rig_close(&r);
}

/* ---- the narrowest place: a wake after the last look at the word, before the system call ---- */

static void wake_in_between(void *arg, bool begins)
{
	if (begins)
		io_wake(arg);
}

EACH_HOW(wake_between_look_and_sleep_is_not_lost)
{
	struct rig r = rig_open(how);
	struct io_loop_config lc = { .queue_fd = r.queue_fd, .level = how->level, .no_rwf_nowait = how->old,
				     .kind = how->dev == DEV_TAP ? IO_KIND_TAP : IO_KIND_PACKET,
				     .sleep_hook = wake_in_between, .sleep_arg = r.waker };

	io_loop_close(r.l);
	cr_assert_eq(io_loop_open(&r.l, &lc, r.waker), 0);
	for (uint32_t i = 0; i < 20; i++) { /* with the wake armed in the same call, and with it left over */
		struct io_wait w = { .block = true, .wake_seen = waker_word(r.waker), .deadline = io_now() + SEC(2) };

		cr_assert_eq(io_loop_wait(r.l, &w), IO_WAIT_WAKE, "turn %u", i);
	}
	rig_close(&r);
}
