/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sys.h - system calls without libc in between
 *
 * host/ is linked into the preloaded library, where a plain close() would be the library's own hook. What must reach the
 * kernel, whoever interposes, goes through here: negative errno, no cancellation point, errno untouched.
 */
#ifndef OWNSTACK_HOST_SYS_H
#define OWNSTACK_HOST_SYS_H

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif

static inline long sys_call6(long n, long a, long b, long c, long d, long e, long f)
{
	long ret;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	__asm__ volatile("syscall" : "=a"(ret) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}
#define sys_call(n, ...) sys_call_(n, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define sys_call_(n, a, b, c, d, e, f, ...) \
	sys_call6((long)(n), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

extern bool sys_no_futex; /* this process may not make the call: passenger.c does what it can */
long sys_no_futex_wait(const void *word, unsigned seen);
long sys_no_futex_wake(void);

/** sys_futex_wait() - sleep while *@word == @seen, at most @timeout (relative, NULL: for ever); shared between processes */
static inline long sys_futex_wait(void *word, unsigned seen, const struct timespec *timeout)
{
	if (__builtin_expect(sys_no_futex, 0))
		return sys_no_futex_wait(word, seen);
	return sys_call(SYS_futex, word, FUTEX_WAIT, seen, timeout);
}
static inline long sys_futex_wake(void *word, int n)
{
	if (__builtin_expect(sys_no_futex, 0))
		return sys_no_futex_wake();
	return sys_call(SYS_futex, word, FUTEX_WAKE, n);
}

static inline int sys_socket(int domain, int type, int protocol)
{
	return (int)sys_call(SYS_socket, domain, type, protocol, 0, 0, 0);
}
static inline int sys_socketpair(int domain, int type, int ret_sv[2])
{
	return (int)sys_call(SYS_socketpair, domain, type, 0, ret_sv, 0, 0);
}
static inline int sys_bind(int fd, const void *sa, socklen_t len)
{
	return (int)sys_call(SYS_bind, fd, sa, len, 0, 0, 0);
}
static inline int sys_listen(int fd, int backlog)
{
	return (int)sys_call(SYS_listen, fd, backlog, 0, 0, 0, 0);
}
static inline int sys_connect(int fd, const void *sa, socklen_t len)
{
	return (int)sys_call(SYS_connect, fd, sa, len, 0, 0, 0);
}
static inline int sys_accept(int fd, int flags)
{
	return (int)sys_call(SYS_accept4, fd, 0, 0, flags, 0, 0);
}
static inline ssize_t sys_sendmsg(int fd, const struct msghdr *m, int flags)
{
	return sys_call(SYS_sendmsg, fd, m, flags, 0, 0, 0);
}
static inline ssize_t sys_recvmsg(int fd, struct msghdr *m, int flags)
{
	return sys_call(SYS_recvmsg, fd, m, flags, 0, 0, 0);
}
static inline ssize_t sys_send(int fd, const void *p, size_t n, int flags)
{
	return sys_call(SYS_sendto, fd, p, n, flags, 0, 0);
}
static inline ssize_t sys_recv(int fd, void *p, size_t n, int flags)
{
	return sys_call(SYS_recvfrom, fd, p, n, flags, 0, 0);
}
static inline int sys_getsockopt(int fd, int level, int name, void *p, socklen_t *len)
{
	return (int)sys_call(SYS_getsockopt, fd, level, name, p, len, 0);
}
static inline int sys_setsockopt(int fd, int level, int name, const void *p, socklen_t len)
{
	return (int)sys_call(SYS_setsockopt, fd, level, name, p, len, 0);
}
static inline int sys_open(const char *path, int flags, int mode)
{
	return (int)sys_call(SYS_openat, AT_FDCWD, path, flags, mode, 0, 0);
}
static inline ssize_t sys_read(int fd, void *p, size_t n)
{
	return sys_call(SYS_read, fd, p, n, 0, 0, 0);
}
static inline ssize_t sys_write(int fd, const void *p, size_t n)
{
	return sys_call(SYS_write, fd, p, n, 0, 0, 0);
}
static inline int sys_close(int fd)
{
	return (int)sys_call(SYS_close, fd, 0, 0, 0, 0, 0);
}
static inline int sys_fcntl(int fd, int cmd, long arg)
{
	return (int)sys_call(SYS_fcntl, fd, cmd, arg, 0, 0, 0);
}
static inline int sys_ioctl(int fd, unsigned long cmd, void *arg)
{
	return (int)sys_call(SYS_ioctl, fd, cmd, arg, 0, 0, 0);
}
static inline int sys_dup3(int from, int to, int flags)
{
	return (int)sys_call(SYS_dup3, from, to, flags, 0, 0, 0);
}
static inline int sys_fstat(int fd, struct stat *ret_st)
{
	return (int)sys_call(SYS_fstat, fd, ret_st, 0, 0, 0, 0);
}
static inline int sys_close_range(unsigned first, unsigned last)
{
	return (int)sys_call(SYS_close_range, first, last, 0, 0, 0, 0);
}
static inline int sys_poll(struct pollfd *p, unsigned n, int timeout_ms)
{
	struct timespec ts = { timeout_ms / 1000, timeout_ms % 1000 * 1000000L };

	return (int)sys_call(SYS_ppoll, p, n, timeout_ms < 0 ? NULL : &ts, 0, 8, 0);
}
static inline int sys_epoll_create(void)
{
	return (int)sys_call(SYS_epoll_create1, EPOLL_CLOEXEC, 0, 0, 0, 0, 0);
}
static inline int sys_epoll_ctl(int ep, int op, int fd, struct epoll_event *ev)
{
	return (int)sys_call(SYS_epoll_ctl, ep, op, fd, ev, 0, 0);
}
static inline int sys_epoll_wait(int ep, struct epoll_event *ev, int max, int timeout_ms)
{
	return (int)sys_call(SYS_epoll_pwait, ep, ev, max, timeout_ms, 0, 8);
}
static inline int sys_pidfd_open(pid_t pid)
{
	return (int)sys_call(SYS_pidfd_open, pid, 0, 0, 0, 0, 0);
}
static inline int sys_kill(pid_t pid, int sig)
{
	return (int)sys_call(SYS_kill, pid, sig, 0, 0, 0, 0);
}
static inline pid_t sys_getpid(void)
{
	return (pid_t)sys_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
}
static inline pid_t sys_gettid(void)
{
	return (pid_t)sys_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
}
/** sys_fork() - fork without atfork handlers or a SIGCHLD at the child's end (wait with __WALL); the child calls only sys_*() */
static inline pid_t sys_fork(void)
{
	return (pid_t)sys_call(SYS_clone, 0, 0, 0, 0, 0, 0);
}
static inline pid_t sys_wait(pid_t pid, int *ret_status)
{
	long r;

	do
		r = sys_call(SYS_wait4, pid, ret_status, 0x40000000 /* __WALL */, 0, 0, 0);
	while (r == -EINTR);
	return (pid_t)r;
}
static inline int sys_execve(const char *path, char *const argv[], char *const envp[])
{
	return (int)sys_call(SYS_execve, path, argv, envp, 0, 0, 0);
}
static inline _Noreturn void sys_exit(int status)
{
	for (;;)
		sys_call(SYS_exit_group, status, 0, 0, 0, 0, 0);
}

#endif
