/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fdcalls.c - calls for descriptors of every kind that would tell of the placeholder, not of the socket
 *
 * fsync(), mmap(), tee() and their like are refused for a placeholder as for any socket, and need nothing from us. Here are
 * those that answer something: whose inode it is, what protocol; requests that only a TCP socket knows; and functions of libc
 * that make their system calls themselves, past us (I-8).
 */
#include <netinet/in.h>
#include <pty.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "fd_priv.h"

/* ---- inodes ---- */

/*
 * All private sockets of a process are one inode of the kernel's, and a socket that is decided changes its one. Programs that
 * ask whether two numbers are the same thing shall be told.
 */
static uint64_t inode_of(int fd)
{
	struct fdent *e = fdtab_lookup(fd);

	return unlikely(e != NULL) && !(e->flags & FDENT_EPOLL) ? atomic_load_explicit(&e->file, memory_order_relaxed) : 0;
}

static int stat_end(int r, uint64_t inode, struct stat *st)
{
	if (r == 0 && unlikely(inode))
		st->st_ino = inode;
	return r;
}

static bool names_fd(const char *path, int flags)
{
	char c;

	return unlikely(flags & AT_EMPTY_PATH) && (!path || (!user_copy(&c, path, 1) && !c));
}

#define FSTAT(name)                                                                             \
	static SLOW int ours_##name(int fd, struct stat *st)                                    \
	{                                                                                       \
		return stat_end(libc_next.name(fd, st), inode_of(fd), st);                      \
	}                                                                                       \
	EXPORT(int, name, (int fd, struct stat *st))                                            \
	{                                                                                       \
		return likely(!fdmap_has(fd)) ? libc_next.name(fd, st) : ours_##name(fd, st);   \
	}
FSTAT(fstat)
FSTAT(fstat64)
#define FXSTAT(name)                                                                            \
	EXPORT(int, name, (int version, int fd, struct stat *st))                               \
	{                                                                                       \
		return stat_end(libc_next.name(version, fd, st), inode_of(fd), st);             \
	}
FXSTAT(__fxstat)
FXSTAT(__fxstat64)
#define FSTATAT(name)                                                                           \
	EXPORT(int, name, (int dir, const char *path, struct stat *st, int flags))              \
	{                                                                                       \
		uint64_t inode = names_fd(path, flags) ? inode_of(dir) : 0;                     \
		return stat_end(libc_next.name(dir, path, st, flags), inode, st);               \
	}
FSTATAT(fstatat)
FSTATAT(fstatat64)

EXPORT(int, statx, (int dir, const char *path, int flags, unsigned int mask, struct statx *x))
{
	uint64_t inode = names_fd(path, flags) ? inode_of(dir) : 0;
	int r = libc_next.statx(dir, path, flags, mask, x);

	if (r == 0 && unlikely(inode))
		x->stx_ino = inode;
	return r;
}

/* Linux keeps the name of the protocol there. */
ssize_t sk_fgetxattr(int fd, const char *name, void *value, size_t room)
{
	static const char want[] = "system.sockprotoname", tcp[2][6] = { "TCP", "TCPv6" };
	char given[sizeof(want)];
	const char *answer;
	struct op op;

	if (user_copy(given, name, sizeof(given)) || memcmp(given, want, sizeof(want)) || !op_begin(&op, fd))
		return kernel_result(libc_next.fgetxattr(fd, name, value, room));
	answer = tcp[op.f->family == 6];
	op_end(&op, 0);
	if (room && room < strlen(answer) + 1)
		return -ERANGE;
	if (room && user_copy(value, answer, strlen(answer) + 1))
		return -EFAULT;
	return (ssize_t)strlen(answer) + 1;
}

/* ---- requests that every TCP socket answers for the devices and routes of the kernel ---- */

#define SOCKET_REQUESTS 0x89 /* type of SIOC* */

int ioctl_as_tcp(const struct file *f, unsigned long request, void *arg)
{
	int s, r;

	if (_IOC_TYPE(request) != SOCKET_REQUESTS)
		return -ENOTTY;
	s = libc_next.socket(f->family == 6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s < 0)
		return -ENOTTY;
	r = (int)kernel_result(libc_next.ioctl(s, request, arg));
	libc_next.close(s);
	return r;
}

/* ---- libc's own writes ---- */

static int print_ours(int fd, char *text, int n)
{
	ssize_t r = 0;

	for (int done = 0; done < n; done += (int)r) {
		r = own_write(fd, text + done, (size_t)(n - done));
		if (r < 0) {
			n = -1;
			break;
		}
	}
	free(text);
	return n;
}

EXPORT(int, vdprintf, (int fd, const char *fmt, va_list ap))
{
	char *text;
	int n;

	if (likely(!fdtab_lookup(fd)))
		return libc_next.vdprintf(fd, fmt, ap);
	n = vasprintf(&text, fmt, ap);
	return n < 0 ? n : print_ours(fd, text, n);
}

/* @flag > 0: %n is refused in a format that can be written to */
EXPORT(int, __vdprintf_chk, (int fd, int flag, const char *fmt, va_list ap))
{
	int __vasprintf_chk(char **, int, const char *, va_list);
	char *text;
	int n;

	if (likely(!fdtab_lookup(fd)))
		return libc_next.__vdprintf_chk(fd, flag, fmt, ap);
	n = __vasprintf_chk(&text, flag, fmt, ap);
	return n < 0 ? n : print_ours(fd, text, n);
}

EXPORT(int, dprintf, (int fd, const char *fmt, ...))
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = own_vdprintf(fd, fmt, ap);
	va_end(ap);
	return r;
}

EXPORT(int, __dprintf_chk, (int fd, int flag, const char *fmt, ...))
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = own___vdprintf_chk(fd, flag, fmt, ap);
	va_end(ap);
	return r;
}

/* ---- libc's own bind(), dup2() and fork() ---- */

/* As glibc's: from 600 up to the last that only root may have, then those below. */
int sk_bindresvport(int fd, struct sockaddr_in *user)
{
	enum { FIRST = 600, LAST = IPPORT_RESERVED - 1, LOWEST = 512, N = LAST - FIRST + 1 };
	static _Atomic unsigned turn;
	struct sockaddr_in a = { .sin_family = AF_INET };
	unsigned start = turn ? turn : (unsigned)getpid() % N, i;
	int r = -EADDRINUSE;

	if (user && user_copy(&a, user, sizeof(a)))
		return -EFAULT;
	if (a.sin_family != AF_INET)
		return -EAFNOSUPPORT;
	for (i = 0; i < N + (FIRST - LOWEST) && r == -EADDRINUSE; i++) {
		a.sin_port = htons((uint16_t)(i < N ? FIRST + (start + i) % N : LOWEST + i - N));
		r = sk_bind(fd, (struct sockaddr *)&a, sizeof(a));
	}
	turn = start + i;
	if (r == 0 && user && user_copy(user, &a, sizeof(a)))
		return -EFAULT;
	return r;
}

EXPORT(int, login_tty, (int fd))
{
	if (setsid() < 0 || libc_next.ioctl(fd, TIOCSCTTY, NULL) < 0)
		return -1;
	for (int to = 0; to < 3; to++)
		while (own_dup2(fd, to) < 0)
			if (errno != EBUSY)
				return -1;
	if (fd > 2)
		own_close(fd);
	return 0;
}

EXPORT(pid_t, forkpty, (int *ret_master, char *name, const struct termios *t, const struct winsize *w))
{
	int master, terminal;
	pid_t pid;

	if (own_openpty(&master, &terminal, name, t, w) < 0)
		return -1;
	pid = own_fork();
	if (pid == 0) {
		libc_next.close(master);
		if (own_login_tty(terminal) < 0)
			own__exit(1);
		return 0;
	}
	libc_next.close(terminal);
	if (pid < 0)
		libc_next.close(master);
	else
		*ret_master = master;
	return pid;
}
