/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sys.h - system calls as io/ makes them: straight to the kernel, negative errno, errno untouched
 *
 * The library replaces libc's read, poll, socket, close and so on in the whole process. Were io/ to call those names, it
 * would call itself. So it calls the kernel, which also keeps libc's cancellation points out of the ring's bookkeeping:
 * whoever wants cancellation sets it around the sleep (io_loop_config.sleep_hook).
 */
#ifndef OWNSTACK_IO_SYS_H
#define OWNSTACK_IO_SYS_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
static inline long sys_call6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}
#elif defined(__aarch64__)
static inline long sys_call6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory", "cc");
	return x0;
}
#else
#error "no system call sequence for this architecture"
#endif

#define SYS6(nr, a, b, c, d, e, f) \
	sys_call6(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define SYS3(nr, a, b, c) SYS6(nr, a, b, c, 0, 0, 0)

void *sys_mmap_anon(size_t bytes, int extra_flags); /* zeroed private memory, NULL: none */
void sys_munmap(void *p, size_t bytes);
void sys_close(int fd);
/** sys_fd_high() - duplicate @fd to a number from 1000 on, out of reach of loops that close the low ones; O_CLOEXEC */
int sys_fd_high(int fd);

#endif
