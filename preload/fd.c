/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fd.c - descriptor numbers: which of them are ours, and what happens to them
 *
 * Under every private number lies a descriptor of the kernel: the placeholder, the socket while it is undecided or listens on
 * the kernel's loopback too, or the kernel's epoll set. So the kernel deals out numbers and keeps FD_CLOEXEC, RLIMIT_NOFILE
 * and fstat() right; the table in the arena says what a number means. Order when a number ends: first the entry, then the
 * kernel's descriptor, last the reference; between the first two nobody can be given that number.
 *
 * A number may end behind our back (a raw system call, code inside libc). When the kernel then deals it out anew, whichever
 * call gets it drops our entry first (fd_forget(), I-32): all the calls that make numbers stand at the end of this file.
 *
 * In a vfork child the table is the parent's and is left alone; the kernel's side of each call is done.
 */
#include <limits.h>
#include <linux/close_range.h>
#include <linux/sockios.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "../host/join.h"
#include "fd_priv.h"

/* Numbers that are ours to change in the table; false in a vfork child. */
static bool fd_is_ours(int fd)
{
	return unlikely(fdtab_lookup(fd) != NULL) && !slot_is_vfork_child();
}

struct file *fd_file(int fd)
{
	struct fdent *e = fdtab_lookup(fd);
	uint64_t handle = e ? atomic_load_explicit(&e->file, memory_order_acquire) : 0;

	return handle ? file_get(handle) : NULL;
}

int fd_placeholder(bool cloexec)
{
	int from = host_placeholder_fd();

	if (from < 0)
		return from;
	return fd_forget((int)kernel_result(libc_next.fcntl(from, cloexec ? F_DUPFD_CLOEXEC : F_DUPFD, 0)));
}

int fd_install(struct thr *t, int fd, struct file *f, uint32_t flags)
{
	struct file *old = NULL;
	int r = fdtab_set(fd, f, flags, &old);

	if (old)
		file_unref(t, old);
	return r;
}

/* ---- references ---- */

static void file_put(struct file *f)
{
	struct thr *t = f ? thr_enter() : NULL;

	if (!t)
		return;
	shard_lock(t);
	file_release(t, f);
	thr_leave(t);
}

/* Held for the time without the lock, until file_put(); NULL: @fd is not ours any more. */
static struct file *file_take(int fd)
{
	struct thr *t = thr_enter();
	struct file *f;

	if (!t)
		return NULL;
	shard_lock(t);
	f = fd_file(fd);
	if (f)
		file_hold(t, f);
	shard_unlock(t);
	return f;
}

/* The same, and the number is no longer ours. */
static struct file *file_take_number(int fd)
{
	struct thr *t = thr_enter();
	struct file *f;

	if (!t)
		return NULL;
	shard_lock(t);
	f = fdtab_clear(fd);
	if (f) {
		file_hold(t, f);
		file_unref(t, f);
	}
	shard_unlock(t);
	return f;
}

void fd_forget_slow(int fd)
{
	if (!slot_is_vfork_child())
		file_put(file_take_number(fd));
}

/* ---- close ---- */

/*
 * SO_LINGER with a time: close() waits until the peer has acknowledged everything, as Linux does in tcp_close(). The FIN goes
 * out first; unread data makes it a reset, and then there is nothing to wait for.
 */
static void linger(struct thr *t, struct file *f)
{
	const struct tcp_opts *o = tcp_opts(f->tcb);
	struct sig_scope scope;
	usec_t deadline = t->now + SEC((usec_t)o->linger_s);

	if (f->status & O_NONBLOCK || tcp_readable_bytes(f->tcb) || tcp_shutdown(host->shard.stack, f->tcb, SHUT_RDWR, t->now) < 0)
		return;
	sig_scope_begin(&scope);
	while (tcp_close_pending(f->tcb))
		if (file_wait(&t, f, EPOLLOUT | EPOLLHUP | EPOLLERR, false, deadline, &scope, false) < 0)
			return;
}

static bool must_linger(const struct file *f)
{
	return f->kind == FILE_TCP && f->tcb && f->numbers == 0 && tcp_opts(f->tcb)->linger_on && tcp_opts(f->tcb)->linger_s > 0;
}

/* The entry is cleared and @f held; the kernel's descriptor is closed here. */
static int fd_finish(int fd, struct file *f)
{
	struct thr *t = thr_enter();
	int r;

	if (t && f->kind == FILE_EPOLL)
		drive_kfds_forget(t, file_handle(f));
	r = (int)kernel_result(libc_next.close(fd));
	if (!t)
		return r;
	shard_lock(t);
	if (unlikely(must_linger(f)))
		linger(t, f);
	file_release(t, f);
	thr_leave(t);
	return r;
}

int fd_close_private(int fd)
{
	struct file *f = file_take_number(fd);

	if (!f)
		return (int)kernel_result(libc_next.close(fd));
	return fd_finish(fd, f);
}

static SLOW int close_slow(int fd)
{
	int saved = errno;

	if (host_fd_is_ours(fd) && !slot_is_vfork_child()) {
		errno = EBADF; /* a loop over all numbers: the library's own are not there */
		return -1;
	}
	return fd_is_ours(fd) ? (int)errno_result(fd_close_private(fd), saved) : libc_next.close(fd);
}

EXPORT(int, close, (int fd))
{
	return likely(!fdmap_has(fd) && fd < host_fd_lowest) ? libc_next.close(fd) : close_slow(fd);
}

/* Ours in the range lose their entries, or become FD_CLOEXEC; the rest is one call to the kernel. */
static void range_private(unsigned int first, unsigned int last, bool cloexec)
{
	uint32_t slot = slot_self();
	int fd = first > INT_MAX ? -1 : fdtab_next(slot, (int)first);

	for (; fd >= 0 && (unsigned int)fd <= last; fd = fd == INT_MAX ? -1 : fdtab_next(slot, fd + 1)) {
		if (cloexec)
			fdtab_cloexec(fd, true);
		else
			fd_close_private(fd);
	}
}

/* The kernel's part, but for the library's own descriptors, which are not there for the program (I-24). */
static int close_around(unsigned int first, unsigned int last, int flags)
{
	int own[HOST_FDS_MAX], r = 0;
	unsigned int n = host_joined() && first <= last ? host_fds(own) : 0;

	for (unsigned int i = 0; i < n && r == 0; i++) {
		unsigned int at = (unsigned int)own[i];

		if (at < first || at > last)
			continue;
		if (at > first)
			r = libc_next.close_range(first, at - 1, flags);
		if (at == last)
			return r;
		first = at + 1;
	}
	return r ? r : libc_next.close_range(first, last, flags);
}

EXPORT(int, close_range, (unsigned int first, unsigned int last, int flags))
{
	int saved = errno;
	int r;

	if (first <= last && host_joined() && slot_self() && !slot_is_vfork_child() && !(flags & ~(int)CLOSE_RANGE_CLOEXEC))
		range_private(first, last, flags & (int)CLOSE_RANGE_CLOEXEC);
	errno = saved;
	r = close_around(first, last, flags);
	return r;
}

EXPORT(void, closefrom, (int low))
{
	if (host_joined() && slot_self() && !slot_is_vfork_child())
		range_private(low < 0 ? 0 : (unsigned int)low, ~0U, false);
	if (close_around(low < 0 ? 0 : (unsigned int)low, ~0U, 0) < 0)
		libc_next.closefrom(low); /* no such call in this kernel: libc looks through /proc */
}

/* ---- copies ---- */

/* Number @to is a kernel copy of @fd, whose file is @f (held): give it the same meaning, and drop what it meant. */
static int copy_entry(struct file *f, int to, bool cloexec)
{
	struct thr *t = thr_enter();
	uint32_t flags = (cloexec ? FDENT_CLOEXEC : 0) | (f->kind == FILE_EPOLL ? FDENT_EPOLL : 0);
	int r;

	if (!t)
		return -ENOMEM;
	shard_lock(t);
	r = fd_install(t, to, f, flags);
	file_release(t, f);
	thr_leave(t);
	return r;
}

/* @to was made from @fd by the kernel, or is a negative errno. */
static int copied(int fd, int to, bool cloexec)
{
	struct file *f;
	int r;

	if (to < 0)
		return to;
	f = file_take(fd);
	if (!f)
		return fd_forget(to);
	r = copy_entry(f, to, cloexec);
	if (r < 0) {
		libc_next.close(to);
		return r;
	}
	return stdio_follow(to);
}

EXPORT(int, dup, (int fd))
{
	int saved = errno;

	if (likely(!fd_is_ours(fd)))
		return fd_forget(libc_next.dup(fd));
	return (int)errno_result(copied(fd, (int)kernel_result(libc_next.dup(fd)), false), saved);
}

/* Onto a number in use: the kernel replaces it at once, our entry follows. */
static int dup_onto(int fd, int to, int flags, bool is_dup3)
{
	struct file *f = fd_is_ours(fd) ? file_take(fd) : NULL;
	int r = (int)kernel_result(is_dup3 ? libc_next.dup3(fd, to, flags) : libc_next.dup2(fd, to));

	if (r < 0 || fd == to) { /* dup2() of a number onto itself changes nothing */
		file_put(f);
		return r;
	}
	if (!f) {
		if (fd_is_ours(to))
			file_put(file_take_number(to));
		return r;
	}
	r = copy_entry(f, to, flags & O_CLOEXEC);
	if (r < 0) {
		libc_next.close(to);
		return r;
	}
	return stdio_follow(to);
}

EXPORT(int, dup2, (int fd, int to))
{
	int saved = errno;

	if (likely(!fd_is_ours(fd) && !fd_is_ours(to)))
		return libc_next.dup2(fd, to);
	return (int)errno_result(dup_onto(fd, to, 0, false), saved);
}

EXPORT(int, dup3, (int fd, int to, int flags))
{
	int saved = errno;

	if (likely(!fd_is_ours(fd) && !fd_is_ours(to)))
		return libc_next.dup3(fd, to, flags);
	return (int)errno_result(dup_onto(fd, to, flags, true), saved);
}

/* ---- fcntl ---- */

#define STATUS_SETTABLE ((uint32_t)(O_NONBLOCK | O_ASYNC | O_APPEND | O_DIRECT | O_NOATIME))

/* A thread (F_OWNER_TID) is named like a process: SIGIO goes to any thread that lets it in. */
static int owner_set_ex(struct file *f, const void *arg)
{
	struct f_owner_ex o;

	if (user_copy(&o, arg, sizeof(o)))
		return -EFAULT;
	if (o.type != F_OWNER_TID && o.type != F_OWNER_PID && o.type != F_OWNER_PGRP)
		return -EINVAL;
	if (o.pid && libc_next.syscall(SYS_kill, o.type == F_OWNER_PGRP ? -o.pid : o.pid, 0) < 0 && errno == ESRCH)
		return -ESRCH;
	f->owner = o.type == F_OWNER_PGRP ? -o.pid : o.pid;
	return 0;
}

static int owner_get_ex(const struct file *f, void *arg)
{
	struct f_owner_ex o = { .type = f->owner < 0 ? F_OWNER_PGRP : F_OWNER_PID, .pid = f->owner < 0 ? -f->owner : f->owner };

	return user_copy(arg, &o, sizeof(o));
}

/* Some of it is the open file description's (status, owner): kept in the file, and told the kernel where its socket may be meant. */
static int fcntl_file(int fd, struct file *f, int cmd, long arg)
{
	bool kernel_too = f->kind == FILE_UNDECIDED || f->kind == FILE_EPOLL || f->kernel_listens;
	int r = 0;

	switch (cmd) {
	case F_GETFL:
		return f->kind == FILE_EPOLL ? (int)kernel_result(libc_next.fcntl(fd, F_GETFL)) : (int)(O_RDWR | f->status);
	case F_SETFL: /* a listener's kernel socket never blocks: accept() asks both sides */
		if (kernel_too && !f->kernel_listens)
			r = (int)kernel_result(libc_next.fcntl(fd, F_SETFL, arg));
		if (r == 0)
			f->status = (uint32_t)arg & STATUS_SETTABLE;
		f->async_fd = fd;
		return r;
	case F_SETOWN:
		if (kernel_too)
			r = (int)kernel_result(libc_next.fcntl(fd, cmd, arg));
		if (r == 0)
			f->owner = (int32_t)arg;
		return r;
	case F_GETOWN:
		return f->owner;
	case F_SETSIG:
		if (arg < 0 || arg >= _NSIG)
			return -EINVAL;
		if (kernel_too)
			r = (int)kernel_result(libc_next.fcntl(fd, cmd, arg));
		if (r == 0)
			f->sig = (int32_t)arg;
		return r;
	case F_GETSIG:
		return f->sig;
	case F_SETOWN_EX:
		return owner_set_ex(f, (const void *)arg);
	case F_GETOWN_EX:
		return owner_get_ex(f, (void *)arg);
	default:
		return (int)kernel_result(libc_next.fcntl(fd, cmd, arg));
	}
}

static int fcntl_private(int fd, int cmd, long arg)
{
	struct file *f;
	int r;

	switch (cmd) {
	case F_DUPFD:
	case F_DUPFD_CLOEXEC:
		return copied(fd, (int)kernel_result(libc_next.fcntl(fd, cmd, arg)), cmd == F_DUPFD_CLOEXEC);
	case F_GETFD:
		return (int)kernel_result(libc_next.fcntl(fd, cmd));
	case F_SETFD:
		r = (int)kernel_result(libc_next.fcntl(fd, cmd, arg));
		if (r == 0)
			fdtab_cloexec(fd, arg & FD_CLOEXEC);
		return r;
	default:
		f = file_take(fd);
		if (!f)
			return (int)kernel_result(libc_next.fcntl(fd, cmd, arg));
		r = fcntl_file(fd, f, cmd, arg);
		file_put(f);
		return r;
	}
}

static SLOW int fcntl_slow(int fd, int cmd, long arg, int (*next)(int, int, ...))
{
	int saved = errno, r;

	if (fd_is_ours(fd))
		return (int)errno_result(fcntl_private(fd, cmd, arg), saved);
	r = next(fd, cmd, arg);
	return cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC ? fd_forget(r) : r;
}

/*
 * Whatever the command, one long passed on is what the kernel's own entry does (I-6). On this machine a variadic call puts it
 * where any call does, and a function that does not say `...` need not save all registers first.
 */
#define FCNTL(name)                                                      \
	EXPORT_THREE(int, name, (int fd, int cmd, long arg))             \
	{                                                                \
		/* F_DUPFD is 0; F_DUPFD_CLOEXEC and what is rarer lie above */ \
		if (unlikely(fdmap_has(fd) || (unsigned)cmd - 1 >= F_DUPFD_CLOEXEC - 1)) \
			return fcntl_slow(fd, cmd, arg, libc_next.name); \
		return ((int (*)(int, int, long))(void *)libc_next.name)(fd, cmd, arg); \
	}
FCNTL(fcntl)
FCNTL(fcntl64)
FCNTL(__fcntl)

/* ---- ioctl ---- */

static int put_int(void *to, size_t value)
{
	int v = value > INT_MAX ? INT_MAX : (int)value;

	return user_copy(to, &v, sizeof(v));
}

/* Shard lock held. Return: 1 where the kernel shall answer for its descriptor under the number */
static int ioctl_tcp(struct file *f, unsigned long request, size_t *ret_value)
{
	bool listens = tcp_state(f->tcb) == TCPS_LISTEN;

	switch (request) {
	case FIONREAD: /* = SIOCINQ */
		*ret_value = tcp_readable_bytes(f->tcb);
		return listens ? -EINVAL : 0;
	case SIOCOUTQ: /* = TIOCOUTQ */
		*ret_value = tcp_unacked_bytes(f->tcb);
		return listens ? -EINVAL : 0;
	case SIOCOUTQNSD:
		*ret_value = tcp_unsent_bytes(f->tcb);
		return listens ? -EINVAL : 0;
	case SIOCATMARK:
		*ret_value = tcp_at_mark(f->tcb);
		return 0;
	default:
		return 1;
	}
}

static int set_status(struct file *f, uint32_t bit, const void *arg)
{
	int on;

	if (user_copy(&on, arg, sizeof(on)) < 0)
		return -EFAULT;
	if (on)
		atomic_fetch_or(&f->status, bit);
	else
		atomic_fetch_and(&f->status, ~bit);
	return 0;
}

/* Shard lock not needed: one word. Return: 1 where it is no such request */
static int ioctl_owner(struct file *f, unsigned long request, void *arg)
{
	int32_t owner = f->owner;

	switch (request) {
	case FIOSETOWN:
	case SIOCSPGRP:
		if (user_copy(&owner, arg, sizeof(owner)))
			return -EFAULT;
		f->owner = owner;
		return 0;
	case FIOGETOWN:
	case SIOCGPGRP:
		return user_copy(arg, &owner, sizeof(owner));
	default:
		return 1;
	}
}

static int ioctl_private(int fd, unsigned long request, void *arg)
{
	struct file *f = file_take(fd);
	size_t value = 0;
	int r = 1;

	if (!f)
		return (int)kernel_result(libc_next.ioctl(fd, request, arg));
	if (f->kind == FILE_TCP) {
		struct thr *t = thr_enter();

		if (t) {
			shard_lock(t);
			r = ioctl_tcp(f, request, &value);
			shard_unlock(t);
		}
		if (r == 0)
			r = put_int(arg, value);
		if (r == 1)
			r = ioctl_owner(f, request, arg);
	}
	if (request == FIOASYNC)
		f->async_fd = fd;
	if (request == FIONBIO || request == FIOASYNC)
		r = set_status(f, request == FIONBIO ? O_NONBLOCK : O_ASYNC, arg);
	if (r == 0 && f->kind == FILE_TCP && (!f->kernel_listens || request == FIONBIO))
		goto done;
	if (r >= 0) {
		r = (int)kernel_result(libc_next.ioctl(fd, request, arg));
		if (r == -ENOTTY && f->kind == FILE_TCP)
			r = ioctl_as_tcp(f, request, arg);
		if (r == 0 && (request == FIOCLEX || request == FIONCLEX))
			fdtab_cloexec(fd, request == FIOCLEX);
	}
done:
	file_put(f);
	return r;
}

static SLOW int ioctl_slow(int fd, unsigned long request, void *arg)
{
	int saved = errno;

	return fd_is_ours(fd) ? (int)errno_result(ioctl_private(fd, request, arg), saved) : libc_next.ioctl(fd, request, arg);
}

EXPORT_THREE(int, ioctl, (int fd, unsigned long request, void *arg))
{
	return likely(!fdmap_has(fd)) ? libc_next.ioctl(fd, request, arg) : ioctl_slow(fd, request, arg);
}

/* ---- makers: a number that the kernel deals out was free ---- */

static FILE *forget_file(FILE *fp)
{
	if (fp)
		fd_forget(fileno(fp));
	return fp;
}

static int forget_two(int r, const int *fds)
{
	if (r == 0) {
		fd_forget(fds[0]);
		fd_forget(fds[1]);
	}
	return r;
}

/* The mode is there only with O_CREAT or O_TMPFILE, but as a register argument it can always be passed on. */
#define OPEN(name)                                                             \
	EXPORT(int, name, (const char *path, int flags, ...))                  \
	{                                                                      \
		va_list ap;                                                    \
		mode_t mode;                                                   \
		va_start(ap, flags);                                           \
		mode = va_arg(ap, mode_t);                                     \
		va_end(ap);                                                    \
		return fd_forget(libc_next.name(path, flags, mode));           \
	}
OPEN(open)
OPEN(open64)
#define OPENAT(name)                                                           \
	EXPORT(int, name, (int dir, const char *path, int flags, ...))         \
	{                                                                      \
		va_list ap;                                                    \
		mode_t mode;                                                   \
		va_start(ap, flags);                                           \
		mode = va_arg(ap, mode_t);                                     \
		va_end(ap);                                                    \
		return fd_forget(libc_next.name(dir, path, flags, mode));      \
	}
OPENAT(openat)
OPENAT(openat64)

#define MAKER(name, params, args)                               \
	EXPORT(int, name, params)                               \
	{                                                       \
		return fd_forget(libc_next.name args);          \
	}
MAKER(__open_2, (const char *path, int flags), (path, flags))
MAKER(__open64_2, (const char *path, int flags), (path, flags))
MAKER(__openat_2, (int dir, const char *path, int flags), (dir, path, flags))
MAKER(__openat64_2, (int dir, const char *path, int flags), (dir, path, flags))
MAKER(creat, (const char *path, mode_t mode), (path, mode))
MAKER(mkstemp, (char *path), (path))
MAKER(mkostemp, (char *path, int flags), (path, flags))
MAKER(mkstemps, (char *path, int suffix), (path, suffix))
MAKER(mkostemps, (char *path, int suffix, int flags), (path, suffix, flags))
MAKER(shm_open, (const char *name, int flags, mode_t mode), (name, flags, mode))
MAKER(posix_openpt, (int flags), (flags))
MAKER(getpt, (void), ())
MAKER(fanotify_init, (unsigned int flags, unsigned int event_flags), (flags, event_flags))
MAKER(pidfd_open, (pid_t pid, unsigned int flags), (pid, flags))
MAKER(eventfd, (unsigned int count, int flags), (count, flags))
MAKER(timerfd_create, (int clock, int flags), (clock, flags))
MAKER(signalfd, (int fd, const sigset_t *mask, int flags), (fd, mask, flags))
MAKER(inotify_init, (void), ())
MAKER(inotify_init1, (int flags), (flags))
MAKER(memfd_create, (const char *name, unsigned int flags), (name, flags))

EXPORT(FILE *, fopen, (const char *path, const char *mode))
{
	return forget_file(libc_next.fopen(path, mode));
}

EXPORT(FILE *, tmpfile, (void))
{
	return forget_file(libc_next.tmpfile());
}

EXPORT(DIR *, opendir, (const char *path))
{
	DIR *dir = libc_next.opendir(path);

	if (dir)
		fd_forget(dirfd(dir));
	return dir;
}

EXPORT(int, openpty, (int *master, int *terminal, char *name, const struct termios *t, const struct winsize *w))
{
	int r = libc_next.openpty(master, terminal, name, t, w);

	return r ? r : forget_two(r, (int[]){ *master, *terminal });
}

EXPORT(int, pipe, (int *fds))
{
	return forget_two(libc_next.pipe(fds), fds);
}

EXPORT(int, pipe2, (int *fds, int flags))
{
	return forget_two(libc_next.pipe2(fds, flags), fds);
}

EXPORT(int, socketpair, (int domain, int type, int protocol, int *fds))
{
	return forget_two(libc_next.socketpair(domain, type, protocol, fds), fds);
}
