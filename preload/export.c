/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * export.c - private sockets for a program that cannot be ours (RULES C8)
 *
 * Theory of operation. A static program, one of another C library or word size, or one with more rights than its caller will
 * not have this library in it. What it inherits must be a thing of the kernel's: right before such an exec private sockets
 * without FD_CLOEXEC are exchanged under all their numbers:
 *
 *   connection	one end of a socket pair; the keeper gets the other and moves octets (host/pumps.c), so that no process of the
 *		program's is needed, and the connection lives as long as any copy of the end does
 *   listener	a TCP socket that listens on the kernel's loopback, under the same port if that is free. The keeper accepts for it
 *		and connects to it: what the program accepts is TCP, if with other addresses
 *
 * A row in the arena (host/export.h) says by the inode of the program's end which connection it is. A process of ours that comes
 * by such an end, since a static shell started it, or in a message, takes the connection back: the keeper stops reading ahead
 * for as long as we have it, what it has read ahead already is taken out of the pair and goes to the front of the connection,
 * and our placeholder comes over the number.
 *
 * Only connections that are established, or have been, are exported; what only a TCP socket answers (getpeername, TCP_NODELAY,
 * ...) a pair does not know. A process of ours that has had the connection all along, beside a pump, may miss what is read
 * ahead.
 */
#include <limits.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../host/export.h"
#include "../host/join.h"
#include "../host/sys.h"
#include "../host/window.h"
#include "own_env.h"
#include "pump_priv.h"

enum { AHEAD_MAX = 1 << 20 /* more than a pair holds */, CATCH_UP_MS = 100 };

enum { BUSY_MS = 10000 }; /* a keeper without CPU may take that long over a piece; what one leaves that dies is repaired long before */

/* ---- going out ---- */

static bool is_connected(const struct file *f)
{
	return f->kind == FILE_TCP && tcp_state(f->tcb) != TCPS_LISTEN && tcp_state(f->tcb) != TCPS_CLOSED;
}

static bool is_listening(const struct file *f)
{
	return f->kind == FILE_TCP && tcp_state(f->tcb) == TCPS_LISTEN;
}

/* A row, told to the keeper. @fd: its end, or -1. Return: 0, negative errno */
static int row_make(struct file *f, int kind, uint64_t ino, int fd, uint16_t port)
{
	struct thr *t = thr_enter();
	struct export *row;
	struct export_msg msg = { 0 };
	struct stat st = { 0 };
	int r;

	if (!t || (fd >= 0 && sys_fstat(fd, &st)))
		return -ENOMEM;
	shard_lock(t);
	row = export_new(f, (enum export_kind)kind, ino, st.st_ino);
	if (row) {
		row->port = port;
		msg.handle = slab_handle(&host->exports, row);
	}
	shard_unlock(t);
	if (!row)
		return -ENOMEM;
	r = host_bell_fd();
	if (r >= 0)
		r = export_send(r, &msg, fd);
	if (r < 0) {
		shard_lock(t);
		row = slab_get(&host->exports, msg.handle);
		if (row)
			export_free(t, row);
		thr_leave(t);
	}
	return r;
}

int export_pair(struct file *f, int kind)
{
	struct stat st;
	int sv[2], r = sys_socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, sv);

	if (r)
		return r;
	r = sys_fstat(sv[0], &st);
	if (!r)
		r = row_make(f, kind, st.st_ino, sv[1], 0);
	sys_close(sv[1]);
	if (r < 0)
		sys_close(sv[0]);
	return r < 0 ? r : sv[0];
}

/* Return: port it listens on, in network order, 0: none */
static uint16_t loopback_listener(int fd, uint16_t port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = port, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(sa);
	int on = 1;

	sys_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (sys_bind(fd, &sa, sizeof(sa))) {
		sa.sin_port = 0; /* somebody else has it there */
		if (sys_bind(fd, &sa, sizeof(sa)))
			return 0;
	}
	return sys_listen(fd, SOMAXCONN) || sys_call(SYS_getsockname, fd, &sa, &len) ? 0 : sa.sin_port;
}

/* The kernel's socket under @fd listens there already where wildcard listeners do (RULES C12); else it is a new one. */
static int listener_socket(int fd, const struct file *f, uint16_t *ret_port)
{
	struct endpoint ep;
	int r;

	tcp_local(f->tcb, &ep);
	*ret_port = htons(ep.port);
	if (f->kernel_listens && window_is_home(fd)) {
		r = sys_fcntl(fd, F_DUPFD_CLOEXEC, 0);
	} else {
		r = host_socket(AF_INET, SOCK_STREAM);
		if (r >= 0 && !(*ret_port = loopback_listener(r, *ret_port))) {
			sys_close(r);
			return -EADDRINUSE;
		}
	}
	if (r >= 0)
		sys_fcntl(r, F_SETFL, O_RDWR | (long)(f->status & O_NONBLOCK));
	return r;
}

/* What is to stand under @fd. Return: a descriptor, negative errno: nothing can */
static int outer_end(int fd, struct file *f)
{
	struct stat st;
	uint16_t port;
	int r, end;

	if (is_connected(f))
		return export_pair(f, EXPORT_NOW);
	if (!is_listening(f))
		return -EINVAL;
	end = listener_socket(fd, f, &port);
	r = end < 0 ? end : sys_fstat(end, &st);
	if (!r)
		r = row_make(f, EXPORT_LISTENER, st.st_ino, -1, port);
	if (r < 0 && end >= 0)
		sys_close(end);
	return r < 0 ? r : end;
}

/* A socket's end goes under each of its numbers, the first time it is met. Return: @fd is the kernel's now */
static bool replace(const struct export_try *p, int fd)
{
	struct file *f = fd_file(fd); /* our own entry keeps it */
	int end;

	for (unsigned i = 0; i < p->n; i++)
		if (fd_file(p->fd[i]) == f)
			return libc_next.dup3(p->fd[i], fd, 0) >= 0;
	end = f ? outer_end(fd, f) : -EBADF;
	if (end < 0)
		return false;
	libc_next.dup3(end, fd, 0);
	sys_close(end);
	return true;
}

static bool survives(int fd, bool all)
{
	const struct fdent *e = fdtab_lookup(fd);

	return e && !(e->flags & (all ? FDENT_EPOLL : FDENT_CLOEXEC | FDENT_EPOLL));
}

static unsigned count_survivors(bool all)
{
	unsigned n = 0;

	for (int fd = fdtab_next(slot_self(), 0); fd >= 0; fd = fdtab_next(slot_self(), fd + 1))
		n += survives(fd, all);
	return n;
}

bool export_begin(struct export_try *p, bool all)
{
	unsigned n = count_survivors(all);

	*p = (struct export_try){ .fd = n ? calloc(n, sizeof(*p->fd)) : NULL };
	if (!p->fd)
		return false;
	for (int fd = fdtab_next(slot_self(), 0); fd >= 0 && p->n < n; fd = fdtab_next(slot_self(), fd + 1))
		if (survives(fd, all) && replace(p, fd))
			p->fd[p->n++] = fd;
	for (unsigned i = 0; i < p->n; i++)
		fdtab_cloexec(p->fd[i], true); /* in our table only: the exec drops the entry, the kernel keeps the number */
	return true;
}

void export_keep(struct export_try *p)
{
	for (unsigned i = 0; i < p->n; i++)
		fd_forget(p->fd[i]);
	free(p->fd);
	*p = (struct export_try){ 0 };
}

/* ---- coming back ---- */

/* What the last holder of the end wrote shall be in the connection before what we send: it is, within microseconds. */
static void catch_up(int fd)
{
	int left = 0;

	for (int i = 0; i < CATCH_UP_MS && !sys_ioctl(fd, SIOCOUTQ, &left) && left > 0; i++)
		sys_poll(NULL, 0, 1);
}

/* Octets read ahead, out of the pair. Return: how many */
static size_t ahead_read(int fd, uint8_t *buf)
{
	size_t n = 0;
	ssize_t r;

	while (n < AHEAD_MAX && (r = sys_recv(fd, buf + n, AHEAD_MAX - n, MSG_DONTWAIT)) > 0)
		n += (size_t)r;
	return n;
}

/* Shard lock off for a moment */
static void let_others_in(struct thr *t)
{
	shard_unlock(t);
	sys_poll(NULL, 0, 1);
	shard_lock(t);
}

/* Shard lock held at entry and return. No pump reads ahead any more; one that just does so is waited for. */
static void ahead_return(struct thr *t, struct file *f, int fd)
{
	uint8_t *buf = (void *)sys_call(SYS_mmap, 0, AHEAD_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t n;

	if ((uintptr_t)buf > -4096UL)
		return;
	shard_unlock(t);
	catch_up(fd);
	shard_lock(t);
	for (int i = 0; i < BUSY_MS && f->recv_busy; i++)
		let_others_in(t);
	shard_unlock(t);
	n = ahead_read(fd, buf);
	shard_lock(t);
	for (int i = 0; i < BUSY_MS && tcp_unread(host->shard.stack, f->tcb, buf, n) == -EBUSY; i++)
		let_others_in(t);
	shard_unlock(t);
	sys_call(SYS_munmap, buf, AHEAD_MAX);
	shard_lock(t);
}

/* The connection that @fd is the outer end of, with all that belongs to it, and a hold on it. Shard lock held. NULL: it is none */
static struct file *file_back(struct thr *t, int fd)
{
	struct export *row;
	struct stat st;
	struct file *f;

	if (sys_fstat(fd, &st) || !S_ISSOCK(st.st_mode))
		return NULL;
	row = export_find(st.st_ino);
	if (!row || row->kind == EXPORT_LISTENER)
		return NULL;
	row->claimed = 1;
	f = row->file;
	file_hold(t, f);
	if (row->pumped)
		ahead_return(t, f, fd);
	return f;
}

bool export_take_back(int fd, bool cloexec)
{
	struct thr *t = exports_any() ? thr_enter() : NULL;
	struct file *f;

	if (!t)
		return false;
	shard_lock(t);
	f = file_back(t, fd);
	if (f) {
		fd_install(t, fd, f, cloexec ? FDENT_CLOEXEC : 0);
		file_release(t, f);
	}
	thr_leave(t);
	if (f && host_placeholder_fd() >= 0)
		libc_next.dup3(host_placeholder_fd(), fd, cloexec ? O_CLOEXEC : 0);
	return f;
}

/* The keeper lets go of it when it is rung. */
static void listener_back(int fd)
{
	struct thr *t = thr_enter();
	struct export *row;
	struct stat st;
	bool both = false;
	int bell;

	if (!t || sys_fstat(fd, &st))
		return;
	shard_lock(t);
	row = export_find(st.st_ino);
	if (row) {
		row->claimed = 1;
		both = row->file->kernel_listens;
	}
	shard_unlock(t);
	bell = host_bell_fd();
	if (bell >= 0)
		sys_write(bell, "", 1);
	if (both)
		sys_fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK); /* accept() asks both sides */
	else if (row && host_placeholder_fd() >= 0)
		libc_next.dup3(host_placeholder_fd(), fd, 0);
}

void export_undo(struct export_try *p)
{
	for (unsigned i = 0; i < p->n; i++) {
		if (!export_take_back(p->fd[i], false))
			listener_back(p->fd[i]);
		fdtab_cloexec(p->fd[i], false);
	}
	free(p->fd);
	*p = (struct export_try){ 0 };
}

void export_take_back_all(void)
{
	long top = sysconf(_SC_OPEN_MAX);
	struct pollfd p[64];

	/* poll() says of 64 numbers at a time which of them are open */
	for (int base = 0; exports_any() && base < (top > 0 && top < 65536 ? (int)top : 65536); base += 64) {
		for (int i = 0; i < 64; i++)
			p[i] = (struct pollfd){ .fd = base + i };
		sys_poll(p, 64, 0);
		for (int i = 0; i < 64; i++) {
			if (p[i].revents & POLLNVAL || host_fd_is_ours(p[i].fd))
				continue;
			export_take_back(p[i].fd, sys_fcntl(p[i].fd, F_GETFD, 0) & FD_CLOEXEC);
		}
	}
}
