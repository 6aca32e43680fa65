/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stdio.c - FILE streams over a private socket (I-9)
 *
 * libc's stdio reads and writes by system calls of its own, which would find the placeholder and never an octet. So fdopen()
 * on a number of ours gives a cookie stream, whose calls come back to us; fileno() works on it as on any other.
 *
 * A stream opened while the number was the kernel's is libc's, and its fclose() closes the number past us.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "preload_priv.h"

static ssize_t cookie_read(void *cookie, char *buf, size_t n)
{
	return own_read((int)(intptr_t)cookie, buf, n);
}

/* A cookie's write says 0 where it failed; what was taken before counts. */
static ssize_t cookie_write(void *cookie, const char *buf, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = own_write((int)(intptr_t)cookie, buf + done, n - done);

		if (r <= 0)
			break;
		done += (size_t)r;
	}
	return (ssize_t)done;
}

static int cookie_close(void *cookie)
{
	return own_close((int)(intptr_t)cookie);
}

EXPORT(FILE *, fdopen, (int fd, const char *mode))
{
	struct fdent *e = fdtab_lookup(fd);
	FILE *fp;

	if (likely(!e) || (e->flags & FDENT_EPOLL))
		return libc_next.fdopen(fd, mode);
	fp = fopencookie((void *)(intptr_t)fd, mode,
			 (cookie_io_functions_t){ .read = cookie_read, .write = cookie_write, .close = cookie_close });
	if (fp)
		fp->_fileno = fd; /* fopencookie() leaves -2 there; only fileno() looks */
	return fp;
}

EXPORT(int, fclose, (FILE *fp))
{
	int fd = fileno(fp);
	struct fdent *e = fdtab_lookup(fd);
	uint32_t gen = e ? e->gen : 0;
	int r = libc_next.fclose(fp);

	/* Still the same entry: not a stream of ours, libc closed the number. One of ours went through cookie_close(). */
	if (unlikely(e) && fdtab_lookup(fd) == e && e->gen == gen)
		fd_forget(fd);
	return r;
}
