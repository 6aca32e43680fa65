/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * states - every call on a socket in every state that a program can bring one into
 *
 * Each pair gets a socket of its own, non-blocking and made anew, so that one call's effect is not the next one's state. What
 * the call leaves behind (readiness, SO_ERROR, name of the peer) is part of the answer.
 */
#include "parity.h"
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <linux/sockios.h>

struct pair {
	int fd, other, listener; /* other, listener: -1 where there is none */
	struct sockaddr_in addr;  /* of somebody who listens */
};

static int tcp(void)
{
	return (int)must("socket", socket(AF_INET, SOCK_STREAM, 0));
}

static struct sockaddr_in name_of(int fd)
{
	struct sockaddr_in a;
	socklen_t len = sizeof(a);

	must("getsockname", getsockname(fd, (struct sockaddr *)&a, &len));
	return a;
}

static void bind_any(int fd)
{
	struct sockaddr_in a = peer_addr;

	a.sin_port = 0;
	must("bind", bind(fd, (struct sockaddr *)&a, sizeof(a)));
}

/* Of a socket that is closed a kernel tells what is left of sequence numbers. */
static bool closed(int fd)
{
	struct tcp_info i;
	socklen_t len = sizeof(i);

	must("TCP_INFO", getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len));
	return i.tcpi_state == 7;
}

/* What is on its way arrives: acknowledgments and the answer to a SYN take no time worth mentioning, but some. */
static void settle(int fd)
{
	int left = 0;

	for (int i = 0; i < 100; i++) {
		if (ioctl(fd, SIOCOUTQ, &left) || !left || closed(fd))
			break;
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
}

/* ---- states ---- */

static void fresh(struct pair *p)
{
	p->fd = tcp();
}

static void bound(struct pair *p)
{
	p->fd = tcp();
	bind_any(p->fd);
}

static void listening(struct pair *p)
{
	bound(p);
	must("listen", listen(p->fd, 4));
}

static void listening_ready(struct pair *p)
{
	struct sockaddr_in a;

	listening(p);
	a = name_of(p->fd);
	p->other = tcp();
	must("connect", connect(p->other, (struct sockaddr *)&a, sizeof(a)));
	poll_for(p->fd, POLLIN, POLLIN);
}

static void refused(struct pair *p)
{
	struct sockaddr_in a = peer_addr;

	a.sin_port = htons(1);
	p->fd = tcp();
	if (connect(p->fd, (struct sockaddr *)&a, sizeof(a)) == 0)
		say("failed: somebody listens at port 1");
}

static void connected(struct pair *p)
{
	p->fd = tcp();
	must("connect", connect(p->fd, (struct sockaddr *)&p->addr, sizeof(p->addr)));
	p->other = peer_accept(p->listener);
}

static void accepted(struct pair *p)
{
	connected(p);
	int fd = p->fd;

	p->fd = p->other;
	p->other = fd;
}

static void with_data(struct pair *p)
{
	connected(p);
	write_all(p->other, "hello", 5);
	poll_for(p->fd, POLLIN, POLLIN);
}

static void peer_ended(struct pair *p)
{
	connected(p);
	must("shutdown", shutdown(p->other, SHUT_WR));
	poll_for(p->fd, 0x2000, 0x2000);
}

static void peer_ended_with_data(struct pair *p)
{
	connected(p);
	write_all(p->other, "hello", 5);
	must("shutdown", shutdown(p->other, SHUT_WR));
	poll_for(p->fd, 0x2000, 0x2000);
}

static void peer_reset(struct pair *p)
{
	connected(p);
	must("SO_LINGER", setsockopt(p->other, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 }, sizeof(struct linger)));
	close(p->other);
	p->other = -1;
	poll_for(p->fd, 0, POLLERR);
}

static void shut_wr(struct pair *p)
{
	connected(p);
	must("shutdown", shutdown(p->fd, SHUT_WR));
	poll_for(p->other, 0x2000, 0x2000);
	settle(p->fd);
}

static void shut_rd(struct pair *p)
{
	connected(p);
	must("shutdown", shutdown(p->fd, SHUT_RD));
}

static void shut_both(struct pair *p)
{
	connected(p);
	must("shutdown", shutdown(p->fd, SHUT_RDWR));
	poll_for(p->other, 0x2000, 0x2000);
	settle(p->fd);
}

static void all_over(struct pair *p)
{
	peer_ended(p);
	must("shutdown", shutdown(p->fd, SHUT_WR));
	poll_for(p->other, POLLHUP, POLLHUP);
}

/* The same ends for the other side of a connection, whose port was never its own */
static void accepted_reset(struct pair *p)
{
	accepted(p);
	must("SO_LINGER", setsockopt(p->other, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 }, sizeof(struct linger)));
	close(p->other);
	p->other = -1;
	poll_for(p->fd, 0, POLLERR);
}

static void accepted_over(struct pair *p)
{
	accepted(p);
	must("shutdown", shutdown(p->other, SHUT_WR));
	poll_for(p->fd, 0x2000, 0x2000);
	must("shutdown", shutdown(p->fd, SHUT_WR));
	poll_for(p->other, POLLHUP, POLLHUP);
	settle(p->fd);
}

static void disconnect(int fd)
{
	must("connect AF_UNSPEC", connect(fd, &(struct sockaddr){ .sa_family = AF_UNSPEC }, sizeof(struct sockaddr)));
}

static void accepted_disconnected(struct pair *p)
{
	accepted(p);
	disconnect(p->fd);
}

static void accepted_reset_disconnected(struct pair *p)
{
	accepted_reset(p);
	disconnect(p->fd);
}

/* A listener on any address, at a port that listen() chose */
static void accepted_chosen(struct pair *p)
{
	int l = tcp();
	struct sockaddr_in a;

	must("listen", listen(l, 4));
	a = name_of(l);
	p->other = tcp();
	a.sin_addr = peer_addr.sin_addr;
	must("connect", connect(p->other, (struct sockaddr *)&a, sizeof(a)));
	p->fd = peer_accept(l);
	close(l);
	disconnect(p->fd);
}

static void disconnected(struct pair *p)
{
	connected(p);
	disconnect(p->fd);
}

static void stopped_listening(struct pair *p)
{
	listening(p);
	must("shutdown", shutdown(p->fd, SHUT_RD));
}

/* ---- calls ---- */

static long c_connect(struct pair *p)
{
	return connect(p->fd, (struct sockaddr *)&p->addr, sizeof(p->addr));
}

static long c_connect_unspec(struct pair *p)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };

	return connect(p->fd, &none, sizeof(none));
}

static long c_connect_short(struct pair *p)
{
	return connect(p->fd, (struct sockaddr *)&p->addr, 7);
}

static long c_connect_family(struct pair *p)
{
	struct sockaddr_in a = p->addr;

	a.sin_family = AF_INET6;
	return connect(p->fd, (struct sockaddr *)&a, sizeof(a));
}

static long c_bind(struct pair *p)
{
	struct sockaddr_in a = peer_addr;

	a.sin_port = 0;
	return bind(p->fd, (struct sockaddr *)&a, sizeof(a));
}

static long c_bind_taken(struct pair *p)
{
	return bind(p->fd, (struct sockaddr *)&p->addr, sizeof(p->addr));
}

static long c_bind_foreign(struct pair *p)
{
	struct sockaddr_in a = peer_addr;

	a.sin_port = 0;
	a.sin_addr.s_addr = htonl(0xc6336401); /* 198.51.100.1 */
	return bind(p->fd, (struct sockaddr *)&a, sizeof(a));
}

static long c_listen(struct pair *p)
{
	return listen(p->fd, 3);
}

static long c_accept(struct pair *p)
{
	int fd = accept(p->fd, NULL, NULL);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

static long c_accept_flags(struct pair *p)
{
	return accept4(p->fd, NULL, NULL, 0x40000000);
}

static long c_send(struct pair *p)
{
	return send(p->fd, "x", 1, MSG_NOSIGNAL);
}

static long c_send_nothing(struct pair *p)
{
	return send(p->fd, "", 0, MSG_NOSIGNAL);
}

static long c_send_oob(struct pair *p)
{
	return send(p->fd, "x", 1, MSG_NOSIGNAL | MSG_OOB);
}

static long c_send_more(struct pair *p)
{
	return send(p->fd, "xyz", 3, MSG_NOSIGNAL | MSG_MORE | MSG_EOR | MSG_CONFIRM | MSG_DONTROUTE);
}

static long c_sendto_name(struct pair *p)
{
	return sendto(p->fd, "x", 1, MSG_NOSIGNAL, (struct sockaddr *)&p->addr, sizeof(p->addr));
}

static long c_sendto_fast(struct pair *p)
{
	return sendto(p->fd, "x", 1, MSG_NOSIGNAL | MSG_FASTOPEN, NULL, 0);
}

static long c_write_nothing(struct pair *p)
{
	return write(p->fd, "", 0);
}

static long c_writev(struct pair *p)
{
	char text[] = "abc";
	struct iovec v[3] = { { text, 1 }, { NULL, 0 }, { text, 2 } };

	return send(p->fd, "", 0, MSG_NOSIGNAL) < 0 ? -1 : writev(p->fd, v, 3);
}

static long c_recv(struct pair *p)
{
	char b[16];

	return recv(p->fd, b, sizeof(b), 0);
}

static long c_recv_peek(struct pair *p)
{
	char b[16];

	return recv(p->fd, b, sizeof(b), MSG_PEEK);
}

static long c_recv_nothing(struct pair *p)
{
	char b[1];

	return recv(p->fd, b, 0, 0);
}

static long c_read_nothing(struct pair *p)
{
	char b[1];

	return read(p->fd, b, 0);
}

static long c_recv_trunc(struct pair *p)
{
	char b[16];

	return recv(p->fd, b, sizeof(b), MSG_TRUNC | MSG_WAITALL | MSG_DONTWAIT);
}

static long c_recv_oob(struct pair *p)
{
	char b[1];

	return recv(p->fd, b, 1, MSG_OOB);
}

static long c_recv_errqueue(struct pair *p)
{
	char b[1];

	return recv(p->fd, b, 1, MSG_ERRQUEUE);
}

static long c_recvmmsg(struct pair *p)
{
	char b[2][2];
	struct iovec v[2] = { { b[0], 2 }, { b[1], 2 } };
	struct mmsghdr m[2] = { { .msg_hdr = { .msg_iov = &v[0], .msg_iovlen = 1 } }, { .msg_hdr = { .msg_iov = &v[1], .msg_iovlen = 1 } } };

	return recvmmsg(p->fd, m, 2, MSG_WAITFORONE, NULL);
}

static long c_shutdown(struct pair *p, int how)
{
	return shutdown(p->fd, how);
}

static long c_shut_rd(struct pair *p)
{
	return c_shutdown(p, SHUT_RD);
}

static long c_shut_wr(struct pair *p)
{
	return c_shutdown(p, SHUT_WR);
}

static long c_shut_both(struct pair *p)
{
	return c_shutdown(p, SHUT_RDWR);
}

static long c_shut_wrong(struct pair *p)
{
	return c_shutdown(p, 3);
}

static long c_getpeername(struct pair *p)
{
	struct sockaddr_in a;
	socklen_t len = sizeof(a);

	return getpeername(p->fd, (struct sockaddr *)&a, &len);
}

static long c_getsockname(struct pair *p)
{
	struct sockaddr_in a = name_of(p->fd);

	return (a.sin_port != 0) + 10 * (a.sin_addr.s_addr == peer_addr.sin_addr.s_addr);
}

static long c_inq(struct pair *p)
{
	int v;

	return ioctl(p->fd, SIOCINQ, &v) ? -1 : v;
}

static long c_outq(struct pair *p)
{
	int v;

	return ioctl(p->fd, SIOCOUTQ, &v) ? -1 : closed(p->fd) ? 0 : v;
}

static long c_outqnsd(struct pair *p)
{
	int v;

	return ioctl(p->fd, SIOCOUTQNSD, &v) ? -1 : closed(p->fd) ? 0 : v;
}

static long c_atmark(struct pair *p)
{
	return sockatmark(p->fd);
}

static long c_sendfile(struct pair *p)
{
	int fd = open("/proc/self/exe", O_RDONLY);
	off_t off = 0;
	long r;

	must("send", signal(SIGPIPE, SIG_IGN) == SIG_ERR ? -1 : 0);
	r = sendfile(p->fd, fd, &off, 4);
	close(fd);
	return r;
}

static long c_splice(struct pair *p)
{
	int fds[2];
	long r;

	must("pipe", pipe(fds));
	r = splice(p->fd, NULL, fds[1], NULL, 16, SPLICE_F_NONBLOCK);
	close(fds[0]);
	close(fds[1]);
	return r;
}

static long c_lseek(struct pair *p)
{
	return lseek(p->fd, 0, SEEK_SET);
}

static long c_pread(struct pair *p)
{
	char b;

	return pread(p->fd, &b, 1, 0);
}

static long c_ftruncate(struct pair *p)
{
	return ftruncate(p->fd, 0);
}

static long c_fsync(struct pair *p)
{
	return fsync(p->fd);
}

static long c_setsockopt(struct pair *p, int level, int name, int value)
{
	return setsockopt(p->fd, level, name, &value, sizeof(value));
}

static long c_cork(struct pair *p)
{
	return c_setsockopt(p, IPPROTO_TCP, TCP_CORK, 1);
}

static long c_maxseg(struct pair *p)
{
	return c_setsockopt(p, IPPROTO_TCP, TCP_MAXSEG, 500);
}

static long c_clamp(struct pair *p)
{
	return c_setsockopt(p, IPPROTO_TCP, TCP_WINDOW_CLAMP, 0);
}

static long c_v6only(struct pair *p)
{
	return c_setsockopt(p, 41, 26, 1);
}

static long c_fastopen_connect(struct pair *p)
{
	return c_setsockopt(p, IPPROTO_TCP, 30, 1);
}

static long c_epoll(struct pair *p)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP };
	int ep = (int)must("epoll_create1", epoll_create1(0));
	long n;

	must("epoll_ctl", epoll_ctl(ep, EPOLL_CTL_ADD, p->fd, &ev));
	n = epoll_wait(ep, &ev, 1, 0);
	close(ep);
	return n > 0 ? (long)ev.events : n;
}

static long c_nothing(struct pair *p)
{
	(void)p;
	return 0;
}

#define STATE(f) { #f, f }
static const struct {
	const char *name;
	void (*make)(struct pair *);
} states[] = { STATE(fresh), STATE(bound), STATE(listening), STATE(listening_ready), STATE(stopped_listening), STATE(refused),
	       STATE(connected), STATE(accepted), STATE(with_data), STATE(peer_ended), STATE(peer_ended_with_data), STATE(peer_reset),
	       STATE(shut_wr), STATE(shut_rd), STATE(shut_both), STATE(all_over), STATE(disconnected), STATE(accepted_reset), STATE(accepted_over), STATE(accepted_disconnected),
	       STATE(accepted_reset_disconnected), STATE(accepted_chosen) };
#define CALL(f) { #f, c_##f }
static const struct {
	const char *name;
	long (*call)(struct pair *);
} calls[] = { CALL(nothing), CALL(connect), CALL(connect_unspec), CALL(connect_short), CALL(connect_family), CALL(bind), CALL(bind_taken),
	      CALL(bind_foreign), CALL(listen), CALL(accept), CALL(accept_flags), CALL(send), CALL(send_nothing), CALL(send_oob),
	      CALL(send_more), CALL(sendto_name), CALL(sendto_fast), CALL(write_nothing), CALL(writev), CALL(recv), CALL(recv_peek),
	      CALL(recv_nothing), CALL(read_nothing), CALL(recv_trunc), CALL(recv_oob), CALL(recv_errqueue), CALL(recvmmsg), CALL(shut_rd),
	      CALL(shut_wr), CALL(shut_both), CALL(shut_wrong), CALL(getpeername), CALL(getsockname), CALL(inq), CALL(outq), CALL(outqnsd),
	      CALL(atmark), CALL(sendfile), CALL(splice), CALL(lseek), CALL(pread), CALL(ftruncate), CALL(fsync), CALL(cork), CALL(maxseg),
	      CALL(clamp), CALL(v6only), CALL(fastopen_connect), CALL(epoll) };

static void one(size_t s, size_t c, int listener, const struct sockaddr_in *addr)
{
	struct pair p = { .fd = -1, .other = -1, .listener = listener, .addr = *addr };
	struct pollfd now = { .events = POLLIN | POLLOUT | POLLPRI | 0x2000 };
	char answer[32];
	int err = -1;
	socklen_t len = sizeof(err);
	long r;

	states[s].make(&p);
	nonblocking(p.fd, true);
	errno = 0;
	r = calls[c].call(&p);
	if (r < 0)
		snprintf(answer, sizeof(answer), "%s", strerrorname_np(errno));
	else
		snprintf(answer, sizeof(answer), "%ld", r);
	if (r < 0 && errno == EINPROGRESS)
		poll_for(p.fd, POLLOUT, POLLOUT);
	settle(p.fd);
	now.fd = p.fd;
	must("poll", poll(&now, 1, 0));
	must("SO_ERROR", getsockopt(p.fd, SOL_SOCKET, SO_ERROR, &err, &len));
	say("%s, %s: %s; %s, error %d, peer %s", states[s].name, calls[c].name, answer, poll_bits((unsigned)now.revents), err,
	    c_getpeername(&p) ? strerrorname_np(errno) : "known");
	close(p.fd);
	if (p.other >= 0)
		close(p.other);
	nonblocking(listener, true);
	while ((p.other = accept(listener, NULL, NULL)) >= 0)
		close(p.other);
	nonblocking(listener, false);
}

void server(int listener)
{
	struct sockaddr_in addr;
	int l = tcp();

	(void)listener;
	must("signal", signal(SIGPIPE, SIG_IGN) == SIG_ERR ? -1 : 0);
	bind_any(l);
	must("listen", listen(l, 64));
	addr = name_of(l);
	for (size_t s = 0; s < sizeof(states) / sizeof(*states); s++)
		for (size_t c = 0; c < sizeof(calls) / sizeof(*calls); c++)
			one(s, c, l, &addr);
	tell('z');
}

void client(void)
{
	await('z');
}
