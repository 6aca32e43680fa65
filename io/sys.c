/* SPDX-License-Identifier: BSD-2-Clause */
/* sys.c - the few system calls more than one file of io/ needs */
#include "sys.h"
#include <fcntl.h>
#include <sys/mman.h>

#define FD_HIGH_LEAST 1000

void *sys_mmap_anon(size_t bytes, int extra_flags)
{
	long r = SYS6(SYS_mmap, 0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | extra_flags, -1, 0);

	return r < 0 && r > -4096 ? NULL : (void *)r;
}

void sys_munmap(void *p, size_t bytes)
{
	if (p)
		SYS3(SYS_munmap, p, bytes, 0);
}

void sys_close(int fd)
{
	if (fd >= 0)
		SYS3(SYS_close, fd, 0, 0);
}

int sys_fd_high(int fd)
{
	long r = SYS3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, FD_HIGH_LEAST);

	if (r == -EINVAL || r == -EMFILE) /* RLIMIT_NOFILE is below: any number will do */
		r = SYS3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3);
	return (int)r;
}
