/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sys.h - system calls without libc in between
 *
 * host/ is linked into the preloaded library, where a plain close() would be the library's own hook. What must reach the
 * kernel, whoever interposes, goes through here: negative errno, no cancellation point, errno untouched.
 */
#ifndef OWNSTACK_HOST_SYS_H
#define OWNSTACK_HOST_SYS_H

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>

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

/** sys_futex_wait() - sleep while *@word == @seen, at most @timeout (relative, NULL: for ever); shared between processes */
static inline long sys_futex_wait(void *word, unsigned seen, const struct timespec *timeout)
{
	return sys_call(SYS_futex, word, FUTEX_WAIT, seen, timeout);
}
static inline long sys_futex_wake(void *word, int n)
{
	return sys_call(SYS_futex, word, FUTEX_WAKE, n);
}

#endif
