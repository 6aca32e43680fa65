/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * so.c - libownstack-packetdrill.so: a stack in virtual time behind packetdrill's table of calls
 *
 * Theory of operation
 *
 * Time stands still but for usleep(), netdev_receive() and one microsecond at each gettimeofday(), which packetdrill spins
 * on. Whoever moves it lets the timers on the way fire. What the stack sends is queued with its time; netdev_receive()
 * takes it from there, and where the queue is empty jumps to the next timer, as far as WAIT_MOST_US, and gives up.
 *
 * packetdrill runs a call that blocks on a second thread and goes on when that thread sleeps; so such a call waits on
 * a condition, which everything that happens signals. One lock guards all.
 *
 * A socket's number is a real descriptor (an eventfd), since packetdrill uses it with libc as well. The stack is
 * 192.168.0.1/16; every other address lies behind a gateway whose station is known. Epoll is level-triggered, with
 * EPOLLONESHOT.
 */
#include "packetdrill.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/sockios.h>
#include "../../stack/stack_priv.h"
#include "../../stack/tcp.h"
#include "../unit/region.h"

#define WAIT_MOST_US SEC(10)
#define FDS_MAX	     4096
#define WATCHES_MAX  64

struct packet {
	struct packet *next;
	usec_t at;
	size_t len;
	uint8_t b[];
};

struct watch {
	int fd;
	struct epoll_event ev;
};

struct object { /* behind a number: a socket or an epoll instance */
	struct tcb *tcb;
	bool nonblock, epoll;
	struct watch watch[WATCHES_MAX];
	unsigned n_watches;
};

struct drill {
	pthread_mutex_t lock;
	pthread_cond_t moved;
	struct stack *st;
	usec_t now;
	struct packet *out, **out_end;
	struct object *fd[FDS_MAX];
};

static const uint8_t our_mac[6] = { 2, 0, 0, 0, 0, 1 }, gate_mac[6] = { 2, 0, 0, 0, 0, 2 };

/* ---- time and frames ---- */

static void drain(struct drill *d)
{
	struct stack_event ev;
	struct pbuf *p;

	while ((p = stack_output(d->st, d->now))) {
		uint32_t hdr = p->hdr_len - VNET_HDR_BYTES - ETH_HDR_BYTES, len = hdr;
		struct packet *k = malloc(sizeof(*k) + p->len);

		if (k) {
			memcpy(k->b, pbuf_head(p) + VNET_HDR_BYTES + ETH_HDR_BYTES, hdr);
			for (unsigned i = 0; i < p->n_frags; i++) {
				memcpy(k->b + len, p->frag[i].cell->data + p->frag[i].off, p->frag[i].len);
				len += p->frag[i].len;
			}
			k->next = NULL;
			k->at = d->now;
			k->len = len;
			*d->out_end = k;
			d->out_end = &k->next;
		}
		stack_tx_done(d->st, p);
	}
	while (stack_event(d->st, &ev))
		;
	stack_touch_clear(d->st);
	pthread_cond_broadcast(&d->moved);
}

static void pass(struct drill *d, usec_t to)
{
	while (stack_deadline(d->st) <= to) {
		if (stack_deadline(d->st) > d->now)
			d->now = stack_deadline(d->st);
		stack_expire(d->st, d->now);
		drain(d);
	}
	if (to > d->now)
		d->now = to;
}

static int drill_netdev_send(void *u, const void *packet, size_t n)
{
	struct drill *d = u;
	uint8_t *b = malloc(ETH_HDR_BYTES + n);
	struct frame f = { .data = b, .len = (uint32_t)(ETH_HDR_BYTES + n) };

	if (!b)
		return -1;
	memcpy(b, our_mac, 6);
	memcpy(b + 6, gate_mac, 6);
	b[12] = 8;
	b[13] = 0;
	memcpy(b + ETH_HDR_BYTES, packet, n);
	pthread_mutex_lock(&d->lock);
	stack_input(d->st, &f, d->now);
	drain(d);
	pthread_mutex_unlock(&d->lock);
	free(b);
	return 0;
}

static int drill_netdev_receive(void *u, void *packet, size_t *n, long long *time_us)
{
	struct drill *d = u;
	struct packet *k;
	usec_t end;

	pthread_mutex_lock(&d->lock);
	end = d->now + WAIT_MOST_US;
	while (!d->out && stack_deadline(d->st) <= end)
		pass(d, stack_deadline(d->st) > d->now ? stack_deadline(d->st) : d->now);
	k = d->out;
	if (k) {
		d->out = k->next;
		if (!d->out)
			d->out_end = &d->out;
		*n = k->len < *n ? k->len : *n;
		memcpy(packet, k->b, *n);
		*time_us = (long long)k->at;
		free(k);
	} else {
		pass(d, end);
		*n = 0;
	}
	pthread_mutex_unlock(&d->lock);
	return 0;
}

static int drill_usleep(void *u, useconds_t us)
{
	struct drill *d = u;

	pthread_mutex_lock(&d->lock);
	pass(d, d->now + us);
	pthread_mutex_unlock(&d->lock);
	return 0;
}

static int drill_gettimeofday(void *u, struct timeval *tv, struct timezone *tz)
{
	struct drill *d = u;

	(void)tz;
	pthread_mutex_lock(&d->lock);
	pass(d, d->now + 1);
	tv->tv_sec = (time_t)(d->now / 1000000);
	tv->tv_usec = (suseconds_t)(d->now % 1000000);
	pthread_mutex_unlock(&d->lock);
	return 0;
}

/* ---- numbers ---- */

static struct object *object_of(const struct drill *d, int fd)
{
	return fd >= 0 && fd < FDS_MAX ? d->fd[fd] : NULL;
}

static int object_new(struct drill *d, struct tcb *t)
{
	struct object *o = calloc(1, sizeof(*o));
	int fd = o ? eventfd(0, EFD_CLOEXEC) : -1;

	if (fd < 0 || fd >= FDS_MAX) {
		free(o);
		if (fd >= 0)
			close(fd);
		return -EMFILE;
	}
	o->tcb = t;
	d->fd[fd] = o;
	if (t)
		tcp_set_user(t, (uint64_t)fd + 1);
	return fd;
}

static long answer(long r)
{
	if (r >= 0)
		return r;
	errno = (int)-r;
	return -1;
}

/* Around each call about a socket: lock, look up, act, drain, unlock. In @act `d` and `o` are at hand. */
#define CALL(u, fd, act)                                                 \
	do {                                                             \
		struct drill *d = (u);                                   \
		struct object *o;                                        \
		long result;                                             \
                                                                         \
		pthread_mutex_lock(&d->lock);                            \
		o = object_of(d, fd);                                    \
		result = o && o->tcb ? (long)(act) : o ? -ENOTSOCK : -EBADF; \
		drain(d);                                                \
		pthread_mutex_unlock(&d->lock);                          \
		return (int)answer(result);                              \
	} while (0)

/* Tries until it is not EAGAIN; sleeps between. packetdrill closes nothing that a blocked call works on. */
#define BLOCKING(dontwait, try)                                         \
	({                                                              \
		long r_;                                                \
                                                                        \
		while ((r_ = (try)) == -EAGAIN && !(dontwait)) {        \
			drain(d);                                       \
			pthread_cond_wait(&d->moved, &d->lock);         \
		}                                                       \
		r_;                                                     \
	})

static struct endpoint endpoint_of(const struct sockaddr *a)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)a;

	return (struct endpoint){ .addr = ipaddr_v4(in->sin_addr.s_addr), .port = ntohs(in->sin_port) };
}

static void address_out(const struct tcb *t, struct sockaddr *addr, socklen_t *len)
{
	struct sockaddr_in in = { .sin_family = AF_INET };
	struct endpoint ep;

	if (!addr || !len || tcp_peer(t, &ep) < 0)
		return;
	in.sin_port = htons(ep.port);
	in.sin_addr.s_addr = ipaddr_to_v4(ep.addr);
	memcpy(addr, &in, *len < sizeof(in) ? *len : sizeof(in));
	*len = sizeof(in);
}

static int drill_socket(void *u, int domain, int type, int protocol)
{
	struct drill *d = u;
	struct tcb *t;
	int fd;

	if (domain != AF_INET || (type & 15) != SOCK_STREAM || (protocol && protocol != IPPROTO_TCP))
		return (int)answer(-EPROTONOSUPPORT);
	pthread_mutex_lock(&d->lock);
	t = tcp_open(d->st, 4, 1, d->now);
	fd = t ? object_new(d, t) : -ENOMEM;
	if (fd < 0 && t)
		tcp_close(d->st, t, d->now);
	else if (fd >= 0)
		d->fd[fd]->nonblock = type & SOCK_NONBLOCK;
	pthread_mutex_unlock(&d->lock);
	return (int)answer(fd);
}

static int bind_to(struct drill *d, struct object *o, const struct sockaddr *a, socklen_t len)
{
	struct endpoint ep = endpoint_of(a);

	return len < sizeof(struct sockaddr_in) ? -EINVAL : tcp_bind(d->st, o->tcb, &ep, d->now);
}

static int drill_bind(void *u, int fd, const struct sockaddr *addr, socklen_t len)
{
	CALL(u, fd, bind_to(d, o, addr, len));
}

static int drill_listen(void *u, int fd, int backlog)
{
	CALL(u, fd, tcp_listen(d->st, o->tcb, backlog, d->now));
}

static long accept_one(struct drill *d, struct object *o, struct sockaddr *addr, socklen_t *len)
{
	struct tcb *t = NULL;
	long r = BLOCKING(o->nonblock, tcp_accept(d->st, o->tcb, &t));

	if (r < 0)
		return r;
	r = object_new(d, t);
	if (r < 0)
		tcp_close(d->st, t, d->now);
	else
		address_out(t, addr, len);
	return r;
}

static int drill_accept(void *u, int fd, struct sockaddr *addr, socklen_t *len)
{
	CALL(u, fd, accept_one(d, o, addr, len));
}

static long connect_to(struct drill *d, struct object *o, const struct sockaddr *addr)
{
	struct endpoint ep = endpoint_of(addr);
	long r;

	if (addr->sa_family == AF_UNSPEC)
		return tcp_disconnect(d->st, o->tcb, d->now);
	r = tcp_connect(d->st, o->tcb, &ep, d->now);
	while (!o->nonblock && (r == -EINPROGRESS || r == -EALREADY)) {
		drain(d);
		pthread_cond_wait(&d->moved, &d->lock);
		r = tcp_connect(d->st, o->tcb, &ep, d->now);
	}
	return r;
}

static int drill_connect(void *u, int fd, const struct sockaddr *addr, socklen_t len)
{
	(void)len;
	CALL(u, fd, connect_to(d, o, addr));
}

/* ---- payload ---- */

static long recv_now(struct drill *d, struct object *o, uint8_t *buf, size_t n, int flags)
{
	struct iovec iov[64];
	ptrdiff_t r;
	size_t done = 0;
	int k;

	if (flags & MSG_OOB)
		return tcp_recv_oob(d->st, o->tcb, flags & MSG_PEEK, buf);
	r = tcp_recv_begin(d->st, o->tcb, 0, n, iov, 64, &k);
	if (r <= 0)
		return r;
	for (int i = 0; i < k; i++) {
		memcpy(buf + done, iov[i].iov_base, iov[i].iov_len);
		done += iov[i].iov_len;
	}
	tcp_recv_done(d->st, o->tcb, flags & MSG_PEEK ? 0 : done, d->now);
	return (long)done;
}

static long send_some(struct drill *d, struct object *o, const uint8_t *buf, size_t n, int flags)
{
	struct iovec iov[64];
	size_t done = 0;

	while (done < n) {
		int k = 0;
		long r = BLOCKING(o->nonblock || flags & MSG_DONTWAIT,
				  tcp_send_begin(d->st, o->tcb, n - done, iov, 64, &k));

		if (r < 0)
			return done ? (long)done : r;
		for (int i = 0; i < k; i++) {
			memcpy(iov[i].iov_base, buf + done, iov[i].iov_len);
			done += iov[i].iov_len;
		}
		tcp_send_commit(d->st, o->tcb, (size_t)r,
				(flags & MSG_MORE ? TCP_SEND_MORE : 0u) | (flags & MSG_OOB && done == n ? TCP_SEND_OOB : 0u),
				d->now);
		drain(d);
	}
	return (long)done;
}

static long recv_iov(struct drill *d, struct object *o, const struct iovec *iov, size_t n_iov, int flags)
{
	bool dontwait = o->nonblock || flags & MSG_DONTWAIT;
	long all = 0;

	for (size_t i = 0; i < n_iov; i++) {
		long r;

		if (iov[i].iov_len == 0)
			continue;
		r = BLOCKING(dontwait || all > 0, recv_now(d, o, iov[i].iov_base, iov[i].iov_len, flags));
		if (r <= 0)
			return all ? all : r;
		all += r;
		if ((size_t)r < iov[i].iov_len)
			break;
	}
	return all;
}

static long send_iov(struct drill *d, struct object *o, const struct iovec *iov, size_t n_iov, int flags)
{
	long all = 0;

	for (size_t i = 0; i < n_iov; i++) {
		long r = send_some(d, o, iov[i].iov_base, iov[i].iov_len, flags | (i + 1 < n_iov ? MSG_MORE : 0));

		if (r < 0)
			return all ? all : r;
		all += r;
		if ((size_t)r < iov[i].iov_len)
			break;
	}
	return all;
}

static ssize_t drill_readv(void *u, int fd, const struct iovec *iov, int n)
{
	CALL(u, fd, recv_iov(d, o, iov, (size_t)n, 0));
}

static ssize_t drill_recv(void *u, int fd, void *buf, size_t n, int flags)
{
	struct iovec iov = { buf, n };

	CALL(u, fd, recv_iov(d, o, &iov, 1, flags));
}

static ssize_t drill_read(void *u, int fd, void *buf, size_t n)
{
	return drill_recv(u, fd, buf, n, 0);
}

static ssize_t drill_recvfrom(void *u, int fd, void *buf, size_t n, int flags, struct sockaddr *addr, socklen_t *len)
{
	(void)addr; /* a stream tells no address */
	(void)len;
	return drill_recv(u, fd, buf, n, flags);
}

static ssize_t drill_recvmsg(void *u, int fd, struct msghdr *msg, int flags)
{
	msg->msg_namelen = 0;
	msg->msg_controllen = 0;
	msg->msg_flags = 0;
	CALL(u, fd, recv_iov(d, o, msg->msg_iov, msg->msg_iovlen, flags));
}

static ssize_t drill_writev(void *u, int fd, const struct iovec *iov, int n)
{
	CALL(u, fd, send_iov(d, o, iov, (size_t)n, 0));
}

static ssize_t drill_send(void *u, int fd, const void *buf, size_t n, int flags)
{
	CALL(u, fd, send_some(d, o, buf, n, flags));
}

static ssize_t drill_write(void *u, int fd, const void *buf, size_t n)
{
	return drill_send(u, fd, buf, n, 0);
}

static ssize_t drill_sendto(void *u, int fd, const void *buf, size_t n, int flags, const struct sockaddr *addr, socklen_t len)
{
	(void)addr;
	(void)len;
	return flags & MSG_FASTOPEN ? answer(-EOPNOTSUPP) : drill_send(u, fd, buf, n, flags);
}

static ssize_t drill_sendmsg(void *u, int fd, const struct msghdr *msg, int flags)
{
	CALL(u, fd, send_iov(d, o, msg->msg_iov, msg->msg_iovlen, flags));
}

/* ---- the rest of a socket's calls ---- */

static int drill_fcntl(void *u, int fd, int cmd, ...)
{
	struct drill *d = u;
	struct object *o;
	va_list ap;
	long arg;

	va_start(ap, cmd);
	arg = va_arg(ap, long);
	va_end(ap);
	pthread_mutex_lock(&d->lock);
	o = object_of(d, fd);
	if (o && cmd == F_SETFL)
		o->nonblock = arg & O_NONBLOCK;
	pthread_mutex_unlock(&d->lock);
	return fcntl(fd, cmd, arg);
}

static int drill_ioctl(void *u, int fd, unsigned long request, ...)
{
	va_list ap;
	int *ret;

	va_start(ap, request);
	ret = va_arg(ap, int *);
	va_end(ap);
	switch (request) {
	case SIOCINQ:
		CALL(u, fd, (*ret = (int)tcp_readable_bytes(o->tcb), 0));
	case SIOCOUTQ:
		CALL(u, fd, (*ret = (int)tcp_unacked_bytes(o->tcb), 0));
	case SIOCOUTQNSD:
		CALL(u, fd, (*ret = (int)tcp_unsent_bytes(o->tcb), 0));
	case SIOCATMARK:
		CALL(u, fd, (*ret = tcp_at_mark(o->tcb), 0));
	default:
		return (int)answer(-ENOTTY);
	}
}

/* What is left open at the end packetdrill closes by itself, in libc. */
static int drill_close(void *u, int fd)
{
	struct drill *d = u;
	struct object *o;

	pthread_mutex_lock(&d->lock);
	o = object_of(d, fd);
	if (o) {
		d->fd[fd] = NULL;
		if (o->tcb)
			tcp_close(d->st, o->tcb, d->now);
		free(o);
		drain(d);
	}
	pthread_mutex_unlock(&d->lock);
	return close(fd);
}

static int drill_shutdown(void *u, int fd, int how)
{
	CALL(u, fd, tcp_shutdown(d->st, o->tcb, how, d->now));
}

/* Options that are plain numbers. Width of the field and what the stack must be told of. */
struct opt_row {
	int level, name;
	size_t off, size;
	enum tcp_opt_id id;
};
#define OPT(level, name, field, id) { level, name, offsetof(struct tcp_opts, field), sizeof(((struct tcp_opts *)0)->field), TCP_OPT_##id }
static const struct opt_row opts[] = {
	OPT(SOL_SOCKET, SO_REUSEADDR, reuseaddr, OTHER), OPT(SOL_SOCKET, SO_REUSEPORT, reuseport, OTHER),
	OPT(SOL_SOCKET, SO_KEEPALIVE, keepalive, KEEPALIVE), OPT(SOL_SOCKET, SO_OOBINLINE, oobinline, OTHER),
	OPT(SOL_SOCKET, SO_RCVLOWAT, rcvlowat_bytes, OTHER), OPT(SOL_SOCKET, SO_RCVBUF, rcvbuf_bytes, RCVBUF),
	OPT(SOL_SOCKET, SO_SNDBUF, sndbuf_bytes, SNDBUF), OPT(IPPROTO_IP, IP_TOS, tos, OTHER),
	OPT(IPPROTO_TCP, TCP_NODELAY, nodelay, NODELAY), OPT(IPPROTO_TCP, TCP_CORK, cork, CORK),
	OPT(IPPROTO_TCP, TCP_QUICKACK, quickack, QUICKACK), OPT(IPPROTO_TCP, TCP_KEEPIDLE, keepidle_s, KEEPALIVE),
	OPT(IPPROTO_TCP, TCP_KEEPINTVL, keepintvl_s, KEEPALIVE), OPT(IPPROTO_TCP, TCP_KEEPCNT, keepcnt, KEEPALIVE),
	OPT(IPPROTO_TCP, TCP_SYNCNT, syncnt, OTHER), OPT(IPPROTO_TCP, TCP_LINGER2, linger2_s, OTHER),
	OPT(IPPROTO_TCP, TCP_DEFER_ACCEPT, defer_accept_s, OTHER), OPT(IPPROTO_TCP, TCP_MAXSEG, maxseg_bytes, OTHER),
	OPT(IPPROTO_TCP, TCP_WINDOW_CLAMP, window_clamp_bytes, OTHER),
	OPT(IPPROTO_TCP, TCP_USER_TIMEOUT, user_timeout_ms, OTHER),
	OPT(IPPROTO_TCP, TCP_NOTSENT_LOWAT, notsent_lowat_bytes, OTHER),
};
#undef OPT

static const struct opt_row *opt_find(int level, int name)
{
	for (size_t i = 0; i < sizeof(opts) / sizeof(opts[0]); i++)
		if (opts[i].level == level && opts[i].name == name)
			return &opts[i];
	return NULL;
}

static long opt_set(struct drill *d, struct object *o, int level, int name, const void *val, socklen_t len)
{
	const struct opt_row *row = opt_find(level, name);
	struct tcp_opts *to = tcp_opts(o->tcb);
	int v = 0;

	if (level == IPPROTO_TCP && name == TCP_CONGESTION) {
		char cc[16];

		snprintf(cc, sizeof(cc), "%.*s", (int)len, (const char *)val);
		v = tcp_cc_find(cc);
		if (v < 0)
			return v;
		to->cc = (uint8_t)v;
		tcp_opt_changed(d->st, o->tcb, TCP_OPT_CC, d->now);
		return 0;
	}
	if (level == SOL_SOCKET && name == SO_LINGER && len >= sizeof(struct linger)) {
		const struct linger *l = val;

		to->linger_on = l->l_onoff != 0;
		to->linger_s = l->l_linger;
		return 0;
	}
	if (!row)
		return -ENOPROTOOPT;
	if (len < sizeof(v))
		return -EINVAL;
	memcpy(&v, val, sizeof(v));
	if (name == SO_RCVBUF && level == SOL_SOCKET)
		v = v < 1152 ? 2304 : 2 * v, to->rcvbuf_locked = 1;
	if (name == SO_SNDBUF && level == SOL_SOCKET)
		v = v < 2304 ? 4608 : 2 * v, to->sndbuf_locked = 1;
	if (row->id == TCP_OPT_QUICKACK)
		v = v ? QUICKACK_ON : QUICKACK_OFF;
	memcpy((uint8_t *)to + row->off, &v, row->size);
	tcp_opt_changed(d->st, o->tcb, row->id, d->now);
	return 0;
}

static void tcp_info_fill(struct drill *d, struct object *o, struct tcp_info *i)
{
	struct tcp_info_view v;

	tcp_info(d->st, o->tcb, &v);
	memset(i, 0, sizeof(*i));
	i->tcpi_state = v.state;
	i->tcpi_ca_state = v.ca_state;
	i->tcpi_retransmits = v.retransmits;
	i->tcpi_probes = v.probes;
	i->tcpi_backoff = v.backoff;
	i->tcpi_options = v.options;
	i->tcpi_snd_wscale = v.snd_wscale & 15;
	i->tcpi_rcv_wscale = v.rcv_wscale & 15;
	i->tcpi_rto = v.rto_us;
	i->tcpi_ato = v.ato_us;
	i->tcpi_snd_mss = v.snd_mss;
	i->tcpi_rcv_mss = v.rcv_mss;
	i->tcpi_unacked = v.unacked;
	i->tcpi_sacked = v.sacked;
	i->tcpi_lost = v.lost;
	i->tcpi_retrans = v.retrans;
	i->tcpi_pmtu = v.pmtu;
	i->tcpi_rtt = v.rtt_us;
	i->tcpi_rttvar = v.rttvar_us;
	i->tcpi_snd_ssthresh = v.snd_ssthresh;
	i->tcpi_snd_cwnd = v.snd_cwnd;
	i->tcpi_advmss = v.advmss;
	i->tcpi_reordering = v.reordering;
	i->tcpi_rcv_space = v.rcv_space;
	i->tcpi_total_retrans = v.total_retrans;
}

static long opt_get(struct drill *d, struct object *o, int level, int name, void *val, socklen_t *len)
{
	const struct opt_row *row = opt_find(level, name);
	struct tcp_info info;
	int v = 0;

	if (level == IPPROTO_TCP && name == TCP_INFO) {
		tcp_info_fill(d, o, &info);
		*len = *len < sizeof(info) ? *len : sizeof(info);
		memcpy(val, &info, *len);
		return 0;
	}
	if (level == SOL_SOCKET && name == SO_ERROR)
		v = tcp_error_take(o->tcb);
	else if (row)
		memcpy(&v, (const uint8_t *)tcp_opts(o->tcb) + row->off, row->size);
	else
		return -ENOPROTOOPT;
	if (row && row->id == TCP_OPT_QUICKACK)
		v = v != QUICKACK_OFF;
	if (*len < sizeof(v))
		return -EINVAL;
	*len = sizeof(v);
	memcpy(val, &v, sizeof(v));
	return 0;
}

static int drill_getsockopt(void *u, int fd, int level, int name, void *val, socklen_t *len)
{
	CALL(u, fd, opt_get(d, o, level, name, val, len));
}

static int drill_setsockopt(void *u, int fd, int level, int name, const void *val, socklen_t len)
{
	CALL(u, fd, opt_set(d, o, level, name, val, len));
}

/* ---- waiting for several ---- */

/* Nothing yet: false where @end, in virtual time, has come. */
static bool sleep_until(struct drill *d, usec_t end)
{
	drain(d);
	if (d->now >= end)
		return false;
	pthread_cond_wait(&d->moved, &d->lock);
	return true;
}

static usec_t end_of(const struct drill *d, int timeout_ms)
{
	return timeout_ms < 0 ? USEC_NEVER : d->now + MSEC((unsigned)timeout_ms);
}

static int drill_poll(void *u, struct pollfd *fds, nfds_t n, int timeout_ms)
{
	struct drill *d = u;
	usec_t end;
	int ready;

	pthread_mutex_lock(&d->lock);
	end = end_of(d, timeout_ms);
	do {
		ready = 0;
		for (nfds_t i = 0; i < n; i++) {
			struct object *o = object_of(d, fds[i].fd);

			fds[i].revents = !o ? POLLNVAL : o->tcb ?
				(short)(tcp_poll(o->tcb) & ((unsigned)fds[i].events | POLLERR | POLLHUP)) : 0;
			ready += fds[i].revents != 0;
		}
	} while (!ready && sleep_until(d, end));
	pthread_mutex_unlock(&d->lock);
	return ready;
}

static int drill_epoll_create(void *u, int size)
{
	struct drill *d = u;
	int fd;

	if (size <= 0)
		return (int)answer(-EINVAL);
	pthread_mutex_lock(&d->lock);
	fd = object_new(d, NULL);
	if (fd >= 0)
		d->fd[fd]->epoll = true;
	pthread_mutex_unlock(&d->lock);
	return (int)answer(fd);
}

static long watch_change(struct object *e, int op, int fd, const struct epoll_event *ev)
{
	unsigned i = 0;

	while (i < e->n_watches && e->watch[i].fd != fd)
		i++;
	if (op == EPOLL_CTL_ADD) {
		if (i < e->n_watches)
			return -EEXIST;
		if (ev->events & EPOLLET)
			return -EOPNOTSUPP;
		if (i == WATCHES_MAX)
			return -ENOSPC;
		e->watch[e->n_watches++] = (struct watch){ fd, *ev };
		return 0;
	}
	if (i == e->n_watches)
		return -ENOENT;
	if (op == EPOLL_CTL_MOD)
		e->watch[i].ev = *ev;
	else
		e->watch[i] = e->watch[--e->n_watches];
	return 0;
}

static int drill_epoll_ctl(void *u, int epfd, int op, int fd, struct epoll_event *ev)
{
	struct drill *d = u;
	struct object *e;
	long r = -EBADF;

	pthread_mutex_lock(&d->lock);
	e = object_of(d, epfd);
	if (e && object_of(d, fd))
		r = e->epoll ? watch_change(e, op, fd, ev) : -EINVAL;
	pthread_cond_broadcast(&d->moved);
	pthread_mutex_unlock(&d->lock);
	return (int)answer(r);
}

static int drill_epoll_wait(void *u, int epfd, struct epoll_event *ev, int max, int timeout_ms)
{
	struct drill *d = u;
	struct object *e;
	usec_t end;
	int n = 0;

	pthread_mutex_lock(&d->lock);
	end = end_of(d, timeout_ms);
	do {
		e = object_of(d, epfd);
		for (unsigned i = 0; e && i < e->n_watches && n < max; i++) {
			struct object *o = object_of(d, e->watch[i].fd);
			uint32_t want = e->watch[i].ev.events, got;

			if (!o || !o->tcb || !(want & ~(uint32_t)EPOLLONESHOT))
				continue;
			got = tcp_poll(o->tcb) & (want | EPOLLERR | EPOLLHUP);
			if (!got)
				continue;
			ev[n++] = (struct epoll_event){ .events = got, .data = e->watch[i].ev.data };
			if (want & EPOLLONESHOT)
				e->watch[i].ev.events = EPOLLONESHOT;
		}
	} while (e && !n && sleep_until(d, end));
	pthread_mutex_unlock(&d->lock);
	return e ? n : (int)answer(-EBADF);
}

static int drill_pipe(void *u, int fd[2])
{
	(void)u;
	return pipe(fd);
}

static int drill_splice(void *u, int in, loff_t *off_in, int out, loff_t *off_out, size_t n, unsigned int flags)
{
	struct drill *d = u;
	uint8_t buf[65536];
	bool from_us, to_us;
	ssize_t r;

	(void)flags;
	if (off_in || off_out)
		return (int)answer(-ESPIPE);
	pthread_mutex_lock(&d->lock);
	from_us = object_of(d, in);
	to_us = object_of(d, out);
	pthread_mutex_unlock(&d->lock);
	if (from_us == to_us)
		return (int)answer(-EINVAL);
	n = n < sizeof(buf) ? n : sizeof(buf);
	r = from_us ? drill_read(u, in, buf, n) : read(in, buf, n);
	if (r > 0)
		r = to_us ? drill_write(u, out, buf, (size_t)r) : write(out, buf, (size_t)r);
	return (int)r;
}

/* ---- beginning and end ---- */

static void drill_free(void *u)
{
	struct drill *d = u;

	for (int fd = 0; fd < FDS_MAX; fd++)
		free(d->fd[fd]);
	while (d->out) {
		struct packet *k = d->out;

		d->out = k->next;
		free(k);
	}
	munmap(d->st->region->base, d->st->region->bytes);
	free(d);
}

__attribute__((visibility("default"))) void packetdrill_interface_init(const char *flags,
								       struct packetdrill_interface *ret_table)
{
	struct stack_config cfg = { .region = region_new(256u << 20), .seed = { 1, 2, 3, 4 } };
	struct drill *d = calloc(1, sizeof(*d));
	struct ipaddr gate = ipaddr_v4(htonl(0xc0a8fffe));

	(void)flags;
	if (!d)
		abort();
	pthread_mutex_init(&d->lock, NULL);
	pthread_cond_init(&d->moved, NULL);
	d->now = SEC(1000000);
	d->out_end = &d->out;
	stack_sysctl_default(&cfg.ctl);
	memcpy(cfg.dev.mac, our_mac, 6);
	cfg.dev.mtu_bytes = 1500;
	cfg.dev.gso_max_bytes = 65535;
	d->st = stack_init(&cfg, d->now);
	if (!d->st || stack_addr_add(d->st, ipaddr_v4(htonl(0xc0a80001)), 16) < 0 ||
	    stack_neigh_add(d->st, gate, gate_mac) < 0 || stack_route_add(d->st, ipaddr_v4(0), 0, gate) < 0)
		abort();
	*ret_table = (struct packetdrill_interface){
		.userdata = d, .free = drill_free, .socket = drill_socket, .bind = drill_bind, .listen = drill_listen,
		.accept = drill_accept, .connect = drill_connect, .read = drill_read, .readv = drill_readv, .recv = drill_recv,
		.recvfrom = drill_recvfrom, .recvmsg = drill_recvmsg, .write = drill_write, .writev = drill_writev,
		.send = drill_send, .sendto = drill_sendto, .sendmsg = drill_sendmsg, .fcntl = drill_fcntl, .ioctl = drill_ioctl,
		.close = drill_close, .shutdown = drill_shutdown, .getsockopt = drill_getsockopt,
		.setsockopt = drill_setsockopt, .poll = drill_poll, .netdev_send = drill_netdev_send,
		.netdev_receive = drill_netdev_receive, .usleep = drill_usleep, .gettimeofday = drill_gettimeofday,
		.epoll_create = drill_epoll_create, .epoll_ctl = drill_epoll_ctl, .epoll_wait = drill_epoll_wait,
		.pipe = drill_pipe, .splice = drill_splice,
	};
}
