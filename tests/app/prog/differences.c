/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * differences - what docs/compatibility.md says is not as on the kernel, seen by a program
 *
 * Each line is "name: answer"; tests/app/test_differences.py knows both sides' answers. A line that comes to be equal is a row
 * to be taken out of the document.
 */
#include <aio.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static struct sockaddr_in at;

static void say(const char *name, long r)
{
	printf("%s: %s\n", name, r < 0 ? strerrorname_np(errno) : "works");
}

static void say_number(const char *name, long n)
{
	printf("%s: %ld\n", name, n);
}

static int tcp(int flags)
{
	return socket(AF_INET, SOCK_STREAM | flags, 0);
}

static int listener(void)
{
	socklen_t len = sizeof(at);
	int l = tcp(0);

	at.sin_family = AF_INET;
	if (bind(l, (struct sockaddr *)&at, sizeof(at)) || listen(l, 16) || getsockname(l, (struct sockaddr *)&at, &len))
		perror("listener");
	return l;
}

static int pair(int l, int *ret_other)
{
	int fd = tcp(0);

	if (connect(fd, (struct sockaddr *)&at, sizeof(at)))
		perror("connect");
	*ret_other = accept(l, NULL, NULL);
	return fd;
}

/* Of a socket that is bound to an address of the host, so that it is known whose it is. */
static void options(void)
{
	struct sockaddr_in lo = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int one = 1, fd = tcp(0);

	if (bind(fd, (struct sockaddr *)&lo, sizeof(lo)))
		perror("bind");
	say("TCP_REPAIR", setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &one, sizeof(one)));
	close(fd);
}

static void inodes(int fd, int other)
{
	struct flock lock = { .l_type = F_WRLCK };
	struct stat st;

	say("mmap", mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0);
	fchmod(fd, 0600);
	fstat(other, &st);
	say_number("mode of another after fchmod", st.st_mode & 0777);
	fchown(fd, 12, 34);
	fstat(other, &st);
	say_number("owner of another after fchown", (long)st.st_uid);
	fcntl(fd, F_SETLK, &lock);
	say("F_OFD_SETLK of another", fcntl(other, F_OFD_SETLK, &lock));
}

static void asynchronous(int fd, int other)
{
	char c = 0;
	struct aiocb cb = { .aio_fildes = fd, .aio_buf = &c, .aio_nbytes = 1 };
	const struct aiocb *list = &cb;

	if (write(other, "a", 1) != 1 || aio_read(&cb) || aio_suspend(&list, 1, NULL))
		perror("aio_read");
	printf("aio_read: %s\n", aio_error(&cb) ? "refused" : "works");
	aio_return(&cb);
	if (recv(fd, &c, 1, MSG_DONTWAIT) < 0 && errno != EAGAIN)
		perror("recv");
}

/* Born half closed */
static void shut_before(int l)
{
	int fd = tcp(0), other;

	shutdown(fd, SHUT_WR);
	if (connect(fd, (struct sockaddr *)&at, sizeof(at)))
		perror("connect");
	other = accept(l, NULL, NULL);
	say("send on what was shut before connect", send(fd, "x", 1, MSG_NOSIGNAL));
	close(fd);
	close(other);
}

static void epoll_copy(int fd, int other)
{
	int ep = epoll_create1(0), copy = dup(ep);
	struct epoll_event ev = { .events = EPOLLIN };

	if (write(other, "x", 1) != 1 || poll(&(struct pollfd){ fd, POLLIN, 0 }, 1, 1000) != 1 || epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev))
		perror("epoll");
	say_number("events by the number added under", epoll_wait(ep, &ev, 1, 0));
	say_number("events by a copy made before", epoll_wait(copy, &ev, 1, 0));
	close(ep);
	close(copy);
}

static int passed(int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { control, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int ends[2], to = -1;

	c->cmsg_len = CMSG_LEN(sizeof(int));
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) || sendmsg(ends[0], &m, 0) < 0 || recvmsg(ends[1], &m, 0) < 0)
		perror("SCM_RIGHTS");
	memcpy(&to, CMSG_DATA(c), sizeof(to));
	close(ends[0]);
	close(ends[1]);
	return to;
}

static void epoll_passed(int fd, int other)
{
	int ep = epoll_create1(0), to;
	struct epoll_event ev = { .events = EPOLLIN };

	(void)other; /* the octet of epoll_copy() is still there */
	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev))
		perror("epoll");
	to = passed(ep);
	say_number("events of a set that came in a message", epoll_wait(to, &ev, 1, 0));
	close(to);
	close(ep);
}

int main(void)
{
	int l = listener(), fd, other;

	fd = pair(l, &other);
	options();
	inodes(fd, other);
	asynchronous(fd, other);
	shut_before(l);
	epoll_copy(fd, other);
	epoll_passed(fd, other);
	return 0;
}
