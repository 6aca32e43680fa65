/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * syscall.c - system calls that programs make through syscall(2) (I-10)
 *
 * Those that name descriptors and have a function of ours are led there; everything else passes through untouched, known or
 * not. Six registers are fetched whatever the call: that is what the kernel's entry does too.
 */
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "preload_priv.h"
#include "pump_priv.h"

struct regs {
	long a[6];
};
#define INT(i)	  ((int)r->a[i])
#define SIZE(i)	  ((size_t)r->a[i])
#define PTR(i)	  ((void *)(uintptr_t)r->a[i])
#define PASS(...) (*ret = (long)(__VA_ARGS__), true)

/* Calls whose first register is a descriptor: ours only where the number is. */
static bool by_fd(long number, const struct regs *r, long *ret)
{
	switch (number) {
	case SYS_read: return PASS(own_read(INT(0), PTR(1), SIZE(2)));
	case SYS_write: return PASS(own_write(INT(0), PTR(1), SIZE(2)));
	case SYS_readv: return PASS(own_readv(INT(0), PTR(1), INT(2)));
	case SYS_writev: return PASS(own_writev(INT(0), PTR(1), INT(2)));
	case SYS_bind: return PASS(own_bind(INT(0), PTR(1), (socklen_t)r->a[2]));
	case SYS_listen: return PASS(own_listen(INT(0), INT(1)));
	case SYS_accept: return PASS(own_accept(INT(0), PTR(1), PTR(2)));
	case SYS_accept4: return PASS(own_accept4(INT(0), PTR(1), PTR(2), INT(3)));
	case SYS_connect: return PASS(own_connect(INT(0), PTR(1), (socklen_t)r->a[2]));
	case SYS_shutdown: return PASS(own_shutdown(INT(0), INT(1)));
	case SYS_getsockname: return PASS(own_getsockname(INT(0), PTR(1), PTR(2)));
	case SYS_getpeername: return PASS(own_getpeername(INT(0), PTR(1), PTR(2)));
	case SYS_getsockopt: return PASS(own_getsockopt(INT(0), INT(1), INT(2), PTR(3), PTR(4)));
	case SYS_setsockopt: return PASS(own_setsockopt(INT(0), INT(1), INT(2), PTR(3), (socklen_t)r->a[4]));
	case SYS_recvfrom: return PASS(own_recvfrom(INT(0), PTR(1), SIZE(2), INT(3), PTR(4), PTR(5)));
	case SYS_sendto: return PASS(own_sendto(INT(0), PTR(1), SIZE(2), INT(3), PTR(4), (socklen_t)r->a[5]));
	case SYS_recvmsg: return PASS(own_recvmsg(INT(0), PTR(1), INT(2)));
	case SYS_sendmsg: return PASS(own_sendmsg(INT(0), PTR(1), INT(2)));
	case SYS_recvmmsg: return PASS(own_recvmmsg(INT(0), PTR(1), (unsigned int)r->a[2], INT(3), PTR(4)));
	case SYS_sendmmsg: return PASS(own_sendmmsg(INT(0), PTR(1), (unsigned int)r->a[2], INT(3)));
	case SYS_sendfile: return PASS(own_sendfile(INT(0), INT(1), PTR(2), SIZE(3)));
	case SYS_close: return PASS(own_close(INT(0)));
	case SYS_dup: return PASS(own_dup(INT(0)));
	case SYS_fcntl: return PASS(own_fcntl(INT(0), INT(1), r->a[2]));
	case SYS_ioctl: return PASS(own_ioctl(INT(0), (unsigned long)r->a[1], PTR(2)));
	default: return false;
	}
}

/* Calls that take several descriptors, or make one: our functions look for themselves. */
static bool by_kind(long number, const struct regs *r, long *ret)
{
	switch (number) {
	case SYS_socket: return PASS(own_socket(INT(0), INT(1), INT(2)));
	case SYS_dup2: return PASS(own_dup2(INT(0), INT(1)));
	case SYS_dup3: return PASS(own_dup3(INT(0), INT(1), INT(2)));
	case SYS_close_range: return PASS(own_close_range((unsigned int)r->a[0], (unsigned int)r->a[1], INT(2)));
	case SYS_poll: return PASS(own_poll(PTR(0), (nfds_t)r->a[1], INT(2)));
	case SYS_epoll_ctl: return PASS(own_epoll_ctl(INT(0), INT(1), INT(2), PTR(3)));
	case SYS_epoll_wait: return PASS(own_epoll_wait(INT(0), PTR(1), INT(2), INT(3)));
	case SYS_splice:
		return PASS(own_splice(INT(0), PTR(1), INT(2), PTR(3), SIZE(4), (unsigned int)r->a[5]));
	case SYS_execve: return PASS(own_execve(PTR(0), PTR(1), PTR(2)));
	case SYS_seccomp:
		return PASS(sandbox_seccomp(r->a));
	case SYS_fork: return PASS(own_fork());
	case SYS_clone: return r->a[0] & CLONE_VM ? false : PASS(fork_by_clone(r->a));
	case SYS_exit_group: return own__exit(INT(0)), true;
	default: return false;
	}
}

EXPORT(long, syscall, (long number, ...))
{
	struct regs regs;
	va_list ap;
	long ret;

	va_start(ap, number);
	for (int i = 0; i < 6; i++)
		regs.a[i] = va_arg(ap, long);
	va_end(ap);
	if (unlikely(fdtab_lookup((int)regs.a[0]) != NULL) && by_fd(number, &regs, &ret))
		return ret;
	if (by_kind(number, &regs, &ret))
		return ret;
	return libc_next.syscall(number, regs.a[0], regs.a[1], regs.a[2], regs.a[3], regs.a[4], regs.a[5]);
}
