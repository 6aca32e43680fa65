/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * window.c - the names of a host, from whatever network namespace
 *
 * Theory of operation. Warden, keeper, its bell, and threads that are woken by datagrams are found by abstract UNIX names, and
 * such a name belongs to a network namespace. A process may leave the one that it joined in (unshare, setns), and a child may
 * be born outside of it (vsftpd's raw clone). But a socket belongs for life to the namespace it was made in, and finds the
 * names that are there, wherever its holder is. So each process has one from joining on, and its children inherit it: the
 * *window*, a datagram socket, which is also the one that is connected to the keeper's bell.
 *
 * Where a process needs more sockets of that namespace (a link, a word to the warden, one to be woken by) and is not in it any
 * more, the keeper makes them: it is sent one end of a socket pair through the window, and the new socket comes back over it.
 *
 * Whether two sockets are of one namespace says the kernel's cookie. Before Linux 5.14 there is none: then all are taken for
 * being of the host's.
 *
 * The numbers by which processes know one another belong to a namespace, too: one that is in another than the helpers asks the
 * keeper for its own in the same way (slot.c).
 *
 * An exec that leaves private sockets open, outside, leaves the window open as well, and says so (preload/exec.c).
 */
#include <sys/un.h>
#include "export.h"
#include "join.h"
#include "sys.h"
#include "window.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* Linux 5.14 */
#endif

enum { ANSWER_MS = 10000 };

static uint64_t home; /* cookie of the host's namespace, 0: not known */

static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	return sys_getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) ? 0 : cookie;
}

bool window_is_home(int fd)
{
	return !home || cookie_of(fd) == home;
}

void window_open(void)
{
	int fd = home ? -1 : host_bell_fd();

	if (fd >= 0)
		home = cookie_of(fd);
}

struct answer {
	int32_t pid; /* of who asked */
};

/* Return: 0 with *@ret and *@ret_fd, -1 where none came with it; negative errno: the keeper went away */
static int answer_read(int conn, struct answer *ret, int *ret_fd)
{
	struct pollfd p = { .fd = conn, .events = POLLIN };
	ssize_t r;

	do
		r = sys_poll(&p, 1, ANSWER_MS);
	while (r == -EINTR);
	if (r <= 0)
		return r ? (int)r : -ETIMEDOUT;
	r = fd_recv(conn, ret, sizeof(*ret), ret_fd);
	return r < 0 ? (int)r : r == sizeof(*ret) ? 0 : -EPIPE;
}

static int ask(const struct export_msg *what, struct answer *ret, int *ret_fd)
{
	int sv[2], bell = host_bell_fd(), r;

	if (bell < 0)
		return bell;
	r = sys_socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, sv);
	if (r)
		return r;
	r = export_send(bell, what, sv[1]);
	sys_close(sv[1]);
	if (!r)
		r = answer_read(sv[0], ret, ret_fd);
	sys_close(sv[0]);
	return r;
}

int host_socket(int domain, int type)
{
	const struct export_msg what = { .domain = domain, .type = type };
	int fd = sys_socket(domain, type | SOCK_CLOEXEC, 0), r;
	struct answer a;

	if (fd < 0 || window_is_home(fd))
		return fd;
	sys_close(fd);
	r = ask(&what, &a, &fd);
	return r ? r : fd >= 0 ? fd : -ENOTCONN;
}

int32_t window_pid(void)
{
	const struct export_msg what = { .domain = AF_UNSPEC };
	struct answer a;
	int fd, r = ask(&what, &a, &fd);

	return r ? r : a.pid > 0 ? a.pid : -ESRCH;
}

/* Who made the pair is who asks; the kernel says its number as we would see it. */
void window_serve(int conn, int domain, int type)
{
	bool wants = domain == AF_UNIX || (domain == AF_INET && (type & ~SOCK_NONBLOCK) == SOCK_STREAM);
	int fd = wants ? sys_socket(domain, type | SOCK_CLOEXEC, 0) : -1;
	struct ucred cr = { 0 };
	socklen_t len = sizeof(cr);
	struct answer a;

	sys_getsockopt(conn, SOL_SOCKET, SO_PEERCRED, &cr, &len);
	a.pid = cr.pid;
	fd_send(conn, &a, sizeof(a), fd);
	if (fd >= 0)
		sys_close(fd);
	sys_close(conn);
}

/* ---- over exec ---- */

int window_pass(void)
{
	int probe, fd;
	bool away;

	if (!home)
		return -1;
	probe = sys_socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	away = probe >= 0 && !window_is_home(probe);
	if (probe >= 0)
		sys_close(probe);
	fd = away ? host_bell_fd() : -1;
	if (fd >= 0)
		sys_fcntl(fd, F_SETFD, 0);
	return fd;
}

void window_keep(void)
{
	int fd = home ? host_bell_fd() : -1;

	if (fd >= 0)
		sys_fcntl(fd, F_SETFD, FD_CLOEXEC);
}

void window_take(int fd)
{
	struct sockaddr_un sa;
	socklen_t len = sizeof(sa);

	/* nobody but an image of ours has set the variable; but who was between us may have closed the number */
	if (sys_call(SYS_getpeername, fd, &sa, &len) || sa.sun_family != AF_UNIX)
		return;
	home = cookie_of(fd);
	host_fd_adopt(HOST_FD_BELL, fd);
}
