/* SPDX-License-Identifier: BSD-2-Clause */
/* urgent - MSG_OOB both ways, SO_OOBINLINE, the mark, how poll, select and epoll tell, SIGURG */
#include "parity.h"
#include <sys/ioctl.h>
#include <sys/select.h>

static volatile sig_atomic_t n_sigurg;

static void on_sigurg(int sig)
{
	(void)sig;
	n_sigurg++;
}

/* What there is to read has come, whatever the mark hides of it. */
static void wait_bytes(int fd, int n)
{
	int on = 1, off = 0, was, got = 0;
	socklen_t len = sizeof(was);

	must("SO_OOBINLINE", getsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &was, &len));
	for (int i = 0; i < 200 && got < n; i++) {
		must("SO_OOBINLINE", setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)));
		must("FIONREAD", ioctl(fd, FIONREAD, &got));
		if (!was)
			must("SO_OOBINLINE", setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &off, sizeof(off)));
		if (got < n)
			nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
	}
	if (got < n)
		say("failed: %d of %d octets came", got, n);
}

static void look(const char *when, int fd)
{
	int n = -1, mark = -1;

	must("FIONREAD", ioctl(fd, FIONREAD, &n));
	must("SIOCATMARK", ioctl(fd, SIOCATMARK, &mark));
	say("%s: FIONREAD %d, SIOCATMARK %d, sockatmark %d, %s", when, n, mark, sockatmark(fd),
	    poll_bits(poll_for(fd, POLLIN | POLLPRI | POLLRDNORM | POLLRDBAND, 0)));
}

static void see(const char *what, int fd, int flags, size_t n)
{
	char buf[64] = "";
	ssize_t r = recv(fd, buf, n, flags);

	if (r < 0)
		say("%s: %s", what, strerrorname_np(errno));
	else
		say("%s: %zd \"%.*s\"", what, r, (int)r, buf);
}

static void message(const char *what, int fd, int flags, size_t room)
{
	char buf[64] = "";
	struct iovec v = { buf, room };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	ssize_t r = recvmsg(fd, &m, flags);

	if (r < 0)
		say("%s: %s", what, strerrorname_np(errno));
	else
		say("%s: %zd \"%s\", flags %#x", what, r, buf, m.msg_flags);
}

static void selected(const char *when, int fd, int epoll)
{
	struct epoll_event ev[2] = { { .events = 0 } };
	struct timeval tv = { 0, 0 };
	fd_set rd, wr, ex;
	int n;

	FD_ZERO(&rd);
	FD_SET(fd, &rd);
	wr = ex = rd;
	n = (int)must("select", select(fd + 1, &rd, &wr, &ex, &tv));
	say("%s: select %d: %d%d%d", when, n, FD_ISSET(fd, &rd) != 0, FD_ISSET(fd, &wr) != 0, FD_ISSET(fd, &ex) != 0);
	n = (int)must("epoll_wait", epoll_wait(epoll, ev, 2, 0));
	say("%s: epoll %d: %s", when, n, n > 0 ? poll_bits(ev[0].events) : "");
}

static int watch(int fd, uint32_t events)
{
	struct epoll_event ev = { .events = events };
	int ep = (int)must("epoll_create1", epoll_create1(0));

	must("epoll_ctl", epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
	return ep;
}

static void out_of_band(int fd)
{
	int level = watch(fd, EPOLLPRI), edge = watch(fd, EPOLLPRI | EPOLLET);

	look("nothing yet", fd);
	see("MSG_OOB, nothing", fd, MSG_OOB, 1);
	tell('a'); /* abcX by MSG_OOB, then def */
	wait_bytes(fd, 7);
	say("SIGURG: %d", (int)n_sigurg);
	look("abc(X)def", fd);
	selected("level", fd, level);
	selected("edge", fd, edge);
	selected("edge again", fd, edge);
	see("MSG_OOB|MSG_PEEK", fd, MSG_OOB | MSG_PEEK, 4);
	message("recvmsg MSG_OOB, no room", fd, MSG_OOB | MSG_PEEK, 0);
	message("recvmsg MSG_OOB|MSG_TRUNC", fd, MSG_OOB | MSG_PEEK | MSG_TRUNC, 3);
	saw("MSG_OOB into nowhere", recv(fd, (void *)8, 1, MSG_OOB | MSG_PEEK));
	message("recvmsg MSG_OOB", fd, MSG_OOB, 3);
	see("MSG_OOB, read already", fd, MSG_OOB, 1);
	look("urgent octet read", fd);
	selected("read", fd, level);
	see("peek stops at the mark", fd, MSG_PEEK, 64);
	see("MSG_WAITALL stops at the mark", fd, MSG_WAITALL, 64);
	look("at the mark", fd);
	see("peek behind the mark", fd, MSG_PEEK, 64);
	look("after the peek", fd);
	see("behind the mark", fd, 0, 64);
	look("all read", fd);
	close(level);
	close(edge);
}

static void unread_mark(int fd)
{
	tell('b'); /* gY, urgent, and no more */
	wait_bytes(fd, 2);
	look("g(Y)", fd);
	see("up to the mark", fd, 0, 64);
	look("at the mark", fd);
	see("peek at the mark", fd, MSG_PEEK | MSG_DONTWAIT, 64);
	look("after the peek", fd);
	see("read at the mark", fd, MSG_DONTWAIT, 64);
	look("after the read", fd);
	see("MSG_OOB", fd, MSG_OOB, 1);
	tell('c'); /* two urgent ones: hZ, iW, then j */
	wait_bytes(fd, 5);
	look("hZi(W)j", fd);
	see("MSG_OOB is the last one", fd, MSG_OOB, 1);
	see("the first is ordinary", fd, 0, 64);
	see("then the rest", fd, 0, 64);
	say("SIGURG came: %d", n_sigurg > 1);
}

static void in_line(int fd)
{
	int on = 1;

	saw("SO_OOBINLINE", setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)));
	tell('d'); /* kLm, urgent L, then m */
	wait_bytes(fd, 3);
	look("k(L)m in line", fd);
	see("MSG_OOB in line", fd, MSG_OOB, 1);
	see("peek stops at the mark", fd, MSG_PEEK, 64);
	see("up to the mark", fd, 0, 64);
	look("at the mark", fd);
	see("behind it", fd, 0, 64);
	look("all read", fd);
	on = 0;
	saw("SO_OOBINLINE", setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on)));
}

static void vectors(int fd)
{
	char a[2] = "", b[8] = "";
	struct iovec v[2] = { { a, 2 }, { b, 8 } };

	tell('e'); /* nop(Q)rst */
	wait_bytes(fd, 7);
	saw("readv stops at the mark", readv(fd, v, 2));
	say("%.2s %.1s", a, b);
	saw("one octet", read(fd, a, 1));
	say("%.1s", a);
	saw("the rest", read(fd, b, 8));
	say("%.2s", b);
}

static void at_the_end(int fd)
{
	tell('f'); /* u(V), then the end */
	wait_bytes(fd, 2);
	poll_for(fd, 0x2000, 0x2000);
	look("u(V), end", fd);
	see("up to the mark", fd, 0, 64);
	see("peek at the end", fd, MSG_PEEK, 64);
	look("after the peek", fd);
	see("end", fd, 0, 64);
	look("after the end", fd);
	see("MSG_OOB", fd, MSG_OOB, 1);
	see("MSG_OOB again", fd, MSG_OOB, 1);
	see("end", fd, 0, 64);
	saw("send is still good", send(fd, "W", 1, MSG_OOB));
}

static void states(int listener)
{
	int fd = (int)must("socket", socket(AF_INET, SOCK_STREAM, 0)), v = -1;

	see("listener", listener, MSG_OOB, 1);
	saw("listener's mark", ioctl(listener, SIOCATMARK, &v));
	say("%d", v);
	see("unconnected", fd, MSG_OOB, 1);
	saw("unconnected, send", send(fd, "x", 1, MSG_OOB | MSG_NOSIGNAL));
	saw("SIOCATMARK into nowhere", ioctl(fd, SIOCATMARK, NULL));
	saw("of the wrong kind", sockatmark(0) >= 0);
	close(fd);
}

void server(int listener)
{
	int fd;

	must("signal", signal(SIGURG, on_sigurg) == SIG_ERR ? -1 : 0);
	states(listener);
	fd = peer_accept(listener);
	saw("owner of an accepted socket", fcntl(fd, F_GETOWN));
	saw("F_SETOWN", fcntl(fd, F_SETOWN, getpid()));
	out_of_band(fd);
	unread_mark(fd);
	in_line(fd);
	vectors(fd);
	at_the_end(fd);
	tell('g');
	await('h');
	close(fd);
}

void client(void)
{
	int fd = peer_connect();
	char ab[] = "ab", cx[] = "cX";
	struct iovec v[2] = { { ab, 2 }, { cx, 2 } };
	struct msghdr m = { .msg_iov = v, .msg_iovlen = 2 };

	await('a');
	saw("sendmsg MSG_OOB", sendmsg(fd, &m, MSG_OOB));
	write_all(fd, "def", 3);
	await('b');
	saw("send MSG_OOB", send(fd, "gY", 2, MSG_OOB));
	await('c');
	saw("send MSG_OOB", send(fd, "hZ", 2, MSG_OOB));
	saw("send MSG_OOB", send(fd, "iW", 2, MSG_OOB));
	write_all(fd, "j", 1);
	await('d');
	saw("send MSG_OOB", send(fd, "kL", 2, MSG_OOB));
	write_all(fd, "m", 1);
	await('e');
	saw("send MSG_OOB", send(fd, "nopQ", 4, MSG_OOB));
	write_all(fd, "rst", 3);
	await('f');
	saw("send MSG_OOB of nothing", send(fd, "", 0, MSG_OOB));
	saw("send MSG_OOB", send(fd, "uV", 2, MSG_OOB));
	must("shutdown", shutdown(fd, SHUT_WR));
	await('g');
	poll_for(fd, POLLPRI, POLLPRI);
	look("the way back", fd);
	see("MSG_OOB", fd, MSG_OOB, 1);
	tell('h');
	close(fd);
}
