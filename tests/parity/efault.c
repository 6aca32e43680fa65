/* SPDX-License-Identifier: BSD-2-Clause */
/* efault - bad pointers and lengths in every argument of every call: an error number, never a crash, nothing lost */
#include "parity.h"
#include <limits.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sendfile.h>

static char *bad; /* a page that cannot be touched, behind one that can */
static volatile int minus = -1, most = INT_MAX;

static void both(const char *what, long null, int null_errno, long nowhere, int nowhere_errno)
{
	say("%s: NULL %s, unreadable %s", what, null < 0 ? strerrorname_np(null_errno) : "ok",
	    nowhere < 0 ? strerrorname_np(nowhere_errno) : "ok");
}

#define BOTH(what, type, call)                                       \
	do {                                                         \
		type volatile p = NULL; /* the compiler shall not see */ \
		long r1 = call, e1 = errno, r2, e2;                  \
		p = (type)(uintptr_t)bad;                            \
		r2 = call;                                           \
		e2 = errno;                                          \
		(void)p;                                             \
		both(what, r1, (int)e1, r2, (int)e2);                \
	} while (0)

static void names(int fd)
{
	struct sockaddr_in a;
	socklen_t len = sizeof(a);

	BOTH("bind", struct sockaddr *, bind(fd, p, 16));
	BOTH("bind, no length", struct sockaddr *, bind(fd, p, 0));
	BOTH("bind, negative", struct sockaddr *, bind(fd, p, (socklen_t)-1));
	BOTH("bind, huge", struct sockaddr *, bind(fd, p, 4096));
	BOTH("connect", struct sockaddr *, connect(fd, p, 16));
	BOTH("connect, no length", struct sockaddr *, connect(fd, p, 0));
	BOTH("connect, one octet", struct sockaddr *, connect(fd, (void *)&a, 1));
	BOTH("connect, negative", struct sockaddr *, connect(fd, p, (socklen_t)-1));
	BOTH("getsockname", struct sockaddr *, (len = 16, getsockname(fd, p, &len)));
	BOTH("getsockname's length", socklen_t *, getsockname(fd, (struct sockaddr *)&a, p));
	BOTH("getsockname, no room", struct sockaddr *, (len = 0, getsockname(fd, p, &len)));
	BOTH("getsockname, negative", struct sockaddr *, (len = (socklen_t)-1, getsockname(fd, p, &len)));
	BOTH("getpeername", struct sockaddr *, (len = 16, getpeername(fd, p, &len)));
	BOTH("getpeername's length", socklen_t *, getpeername(fd, (struct sockaddr *)&a, p));
	BOTH("getpeername, negative", struct sockaddr *, (len = (socklen_t)-1, getpeername(fd, p, &len)));
}

static void options(int fd)
{
	static const int opts[][2] = { { SOL_SOCKET, SO_KEEPALIVE }, { SOL_SOCKET, SO_LINGER },	     { SOL_SOCKET, SO_RCVTIMEO },
				       { SOL_SOCKET, SO_MARK },	     { SOL_SOCKET, SO_BINDTODEVICE }, { IPPROTO_IP, IP_TOS },
				       { IPPROTO_IP, IP_OPTIONS },   { IPPROTO_TCP, TCP_NODELAY },    { IPPROTO_TCP, TCP_CONGESTION },
				       { IPPROTO_TCP, TCP_INFO },    { IPPROTO_TCP, TCP_ULP },	      { 9999, 1 } };
	char what[64];
	socklen_t len;
	int v;

	for (size_t i = 0; i < sizeof(opts) / sizeof(*opts); i++) {
		snprintf(what, sizeof(what), "setsockopt %d/%d", opts[i][0], opts[i][1]);
		BOTH(what, void *, setsockopt(fd, opts[i][0], opts[i][1], p, 16));
		snprintf(what, sizeof(what), "getsockopt %d/%d", opts[i][0], opts[i][1]);
		BOTH(what, void *, (len = 16, getsockopt(fd, opts[i][0], opts[i][1], p, &len)));
		snprintf(what, sizeof(what), "getsockopt %d/%d, length", opts[i][0], opts[i][1]);
		BOTH(what, socklen_t *, getsockopt(fd, opts[i][0], opts[i][1], &v, p));
	}
}

static void receiving(int fd)
{
	struct iovec half[2] = { { bad - 4, 4 }, { bad, 4 } }, neg = { bad - 4, (size_t)-1 }, one = { bad - 8, 4 };
	struct sockaddr_in from;
	struct mmsghdr mm[2];
	struct msghdr m;
	socklen_t len = sizeof(from);

	BOTH("read", void *, read(fd, p, 4));
	BOTH("read nothing", void *, read(fd, p, 0));
	BOTH("recv", void *, recv(fd, p, 4, MSG_DONTWAIT));
	BOTH("recv, huge", void *, recv(fd, p, SIZE_MAX, MSG_DONTWAIT));
	BOTH("recv, peek", void *, recv(fd, p, 4, MSG_PEEK));
	BOTH("readv", struct iovec *, readv(fd, p, 1));
	BOTH("readv, none", struct iovec *, readv(fd, p, 0));
	BOTH("readv, negative count", struct iovec *, readv(fd, p, minus));
	BOTH("readv, too many", struct iovec *, readv(fd, p, IOV_MAX + 1));
	saw("readv, negative length", readv(fd, &neg, 1));
	saw("readv, second part bad", readv(fd, half, 2));
	say("  %.4s", bad - 4);
	BOTH("recvmsg", struct msghdr *, recvmsg(fd, p, MSG_DONTWAIT));
	BOTH("recvmsg, iovecs", struct iovec *,
	     (m = (struct msghdr){ .msg_iov = p, .msg_iovlen = 1 }, recvmsg(fd, &m, MSG_DONTWAIT)));
	m = (struct msghdr){ .msg_iov = &one, .msg_iovlen = IOV_MAX + 1 };
	saw("recvmsg, too many", recvmsg(fd, &m, MSG_DONTWAIT));
	m = (struct msghdr){ .msg_iov = &one, .msg_iovlen = 1, .msg_name = bad, .msg_namelen = 16 };
	saw("recvmsg, bad name", recvmsg(fd, &m, MSG_DONTWAIT));
	m = (struct msghdr){ .msg_iov = &one, .msg_iovlen = 1, .msg_name = &from, .msg_namelen = (socklen_t)-1 };
	saw("recvmsg, negative name", recvmsg(fd, &m, MSG_DONTWAIT));
	saw("recvfrom, bad name", recvfrom(fd, bad - 4, 1, MSG_DONTWAIT, (struct sockaddr *)bad, &len));
	BOTH("recvmmsg", struct mmsghdr *, recvmmsg(fd, p, 2, MSG_DONTWAIT, NULL));
	BOTH("recvmmsg, none", struct mmsghdr *, recvmmsg(fd, p, 0, MSG_DONTWAIT, NULL));
	memset(mm, 0, sizeof(mm));
	mm[0].msg_hdr = (struct msghdr){ .msg_iov = &one, .msg_iovlen = 1 };
	saw("recvmmsg, bad time", recvmmsg(fd, mm, 1, MSG_DONTWAIT, (struct timespec *)bad));
	saw("recvmmsg, wrong time", recvmmsg(fd, mm, 1, MSG_DONTWAIT, &(struct timespec){ .tv_nsec = -1 }));
	BOTH("FIONREAD", void *, ioctl(fd, FIONREAD, p));
	BOTH("FIONBIO", void *, ioctl(fd, FIONBIO, p));
}

static void sending(int fd)
{
	struct iovec half[2] = { { bad - 4, 4 }, { bad, 4 } }, neg = { bad - 4, (size_t)-1 }, one = { bad - 4, 2 };
	int file = memfd_create("f", 0);
	struct mmsghdr mm[2];
	struct msghdr m;

	memcpy(bad - 4, "good", 4);
	must("write", write(file, "file", 4));
	BOTH("write", void *, write(fd, p, 4));
	BOTH("write nothing", void *, write(fd, p, 0));
	BOTH("send, huge", void *, send(fd, p, SIZE_MAX, MSG_DONTWAIT));
	BOTH("writev", struct iovec *, writev(fd, p, 1));
	BOTH("writev, negative count", struct iovec *, writev(fd, p, minus));
	BOTH("writev, too many", struct iovec *, writev(fd, p, IOV_MAX + 1));
	saw("writev, negative length", writev(fd, &neg, 1));
	saw("writev, second part bad", writev(fd, half, 2));
	saw("half readable", write(fd, bad - 4, 8));
	BOTH("sendto, bad name", struct sockaddr *, sendto(fd, "n", 1, 0, p, 16));
	saw("sendto, negative name", sendto(fd, "n", 1, 0, (struct sockaddr *)bad, (socklen_t)-1));
	BOTH("sendmsg", struct msghdr *, sendmsg(fd, p, 0));
	BOTH("sendmsg, iovecs", struct iovec *, (m = (struct msghdr){ .msg_iov = p, .msg_iovlen = 1 }, sendmsg(fd, &m, 0)));
	BOTH("sendmsg, name", struct sockaddr *,
	     (m = (struct msghdr){ .msg_iov = &one, .msg_iovlen = 1, .msg_name = p, .msg_namelen = 16 }, sendmsg(fd, &m, 0)));
	BOTH("sendmsg, control", void *,
	     (m = (struct msghdr){ .msg_iov = &one, .msg_iovlen = 1, .msg_control = p, .msg_controllen = 32 }, sendmsg(fd, &m, 0)));
	BOTH("sendmmsg", struct mmsghdr *, sendmmsg(fd, p, 1, 0));
	memset(mm, 0, sizeof(mm));
	mm[0].msg_hdr = (struct msghdr){ .msg_iov = &one, .msg_iovlen = 1 };
	mm[1].msg_hdr = (struct msghdr){ .msg_iov = (struct iovec *)bad, .msg_iovlen = 1 };
	saw("sendmmsg, second bad", sendmmsg(fd, mm, 2, 0));
	BOTH("sendfile", off_t *, (lseek(file, 0, SEEK_SET), sendfile(fd, file, p, 4)));
	saw("sendfile, negative offset", sendfile(fd, file, &(off_t){ -1 }, 4));
	close(file);
}

static void waiting(int fd)
{
	int ep = (int)must("epoll_create1", epoll_create1(0));
	struct epoll_event ev = { .events = EPOLLIN };
	struct pollfd pfd = { .fd = fd, .events = POLLOUT };
	fd_set set;

	BOTH("epoll_ctl ADD", struct epoll_event *, epoll_ctl(ep, EPOLL_CTL_ADD, fd, p));
	BOTH("epoll_ctl DEL", struct epoll_event *, epoll_ctl(ep, EPOLL_CTL_DEL, fd, p));
	ev.events = EPOLLOUT;
	must("epoll_ctl", epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
	BOTH("epoll_ctl MOD", struct epoll_event *, epoll_ctl(ep, EPOLL_CTL_MOD, fd, p));
	BOTH("epoll_wait", struct epoll_event *, epoll_wait(ep, p, 1, 0));
	saw("epoll_wait, none", epoll_wait(ep, &ev, 0, 0));
	saw("epoll_wait, negative", epoll_wait(ep, &ev, minus, 0));
	saw("epoll_wait, huge", epoll_wait(ep, &ev, most, 0));
	BOTH("poll", struct pollfd *, poll(p, 1, 0));
	saw("poll, huge", poll(&pfd, (nfds_t)minus, 0));
	saw("ppoll, wrong time", ppoll(&pfd, 1, &(struct timespec){ .tv_nsec = -1 }, NULL));
	saw("ppoll, bad mask", ppoll(&pfd, 1, &(struct timespec){ 0 }, (sigset_t *)bad));
	FD_ZERO(&set);
	FD_SET(fd, &set);
	saw("select, bad set", select(fd + 1, (fd_set *)bad, NULL, NULL, &(struct timeval){ 0 }));
	saw("select, negative count", select(-1, NULL, NULL, NULL, &(struct timeval){ 0 }));
	saw("select, negative time", select(fd + 1, NULL, &set, NULL, &(struct timeval){ .tv_sec = -1 }));
	close(ep);
}

void server(int listener)
{
	int fd;
	char *pages = mmap(NULL, 2 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	must("mmap", pages == MAP_FAILED ? -1 : 0);
	bad = pages + 4096;
	must("mprotect", mprotect(bad, 4096, PROT_NONE));
	nonblocking(listener, true);
	BOTH("accept, nothing there", struct sockaddr *, accept(listener, p, (socklen_t *)bad));
	nonblocking(listener, false);
	tell('a');
	fd = peer_accept(listener);
	names(fd);
	options(fd);
	await('b');
	receiving(fd);
	sending(fd);
	waiting(fd);
	must("shutdown", shutdown(fd, SHUT_WR));
	tell('c');
	close(fd);
}

void client(void)
{
	char got[256] = "";
	size_t n = 0;
	ssize_t r;
	int fd;

	await('a');
	fd = peer_connect();
	write_all(fd, "datadatadatadata", 16);
	tell('b');
	while ((r = read(fd, got + n, sizeof(got) - 1 - n)) > 0)
		n += (size_t)r;
	await('c');
	say("what came: %s", got);
	close(fd);
}
