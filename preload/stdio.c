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
#include "own_env.h"
#include "preload_priv.h"

struct stream {
	int fd;
	FILE *fp;
	struct stream *next, **prev; /* streams: all there are, for the flush at exit */
};
static struct stream *streams;
static pthread_mutex_t streams_lock = PTHREAD_MUTEX_INITIALIZER;

static ssize_t cookie_read(void *cookie, char *buf, size_t n)
{
	return own_read(((struct stream *)cookie)->fd, buf, n);
}

/* A cookie's write says 0 where it failed; what was taken before counts. */
static ssize_t cookie_write(void *cookie, const char *buf, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = own_write(((struct stream *)cookie)->fd, buf + done, n - done);

		if (r <= 0)
			break;
		done += (size_t)r;
	}
	return (ssize_t)done;
}

static int cookie_close(void *cookie)
{
	struct stream *s = cookie;
	int fd = s->fd;

	pthread_mutex_lock(&streams_lock);
	*s->prev = s->next;
	if (s->next)
		s->next->prev = s->prev;
	pthread_mutex_unlock(&streams_lock);
	free(s);
	return own_close(fd);
}

static FILE *stream_open(int fd, const char *mode)
{
	static const cookie_io_functions_t calls = { .read = cookie_read, .write = cookie_write, .close = cookie_close };
	struct stream *s = malloc(sizeof(*s));

	if (!s)
		return NULL;
	*s = (struct stream){ .fd = fd, .fp = fopencookie(s, mode, calls) };
	if (!s->fp) {
		free(s);
		return NULL;
	}
	s->fp->_fileno = fd; /* fopencookie() leaves -2 there; only fileno() looks */
	pthread_mutex_lock(&streams_lock);
	s->next = streams;
	s->prev = &streams;
	if (streams)
		streams->prev = &s->next;
	streams = s;
	pthread_mutex_unlock(&streams_lock);
	return s->fp;
}

void stdio_flush(void)
{
	if (pthread_mutex_trylock(&streams_lock))
		return;
	for (struct stream *s = streams; s; s = s->next) {
		if (!ftrylockfile(s->fp)) {
			fflush_unlocked(s->fp);
			funlockfile(s->fp);
		}
	}
	pthread_mutex_unlock(&streams_lock);
}

void stdio_fork_child(void)
{
	pthread_mutex_init(&streams_lock, NULL);
}

EXPORT(FILE *, fdopen, (int fd, const char *mode))
{
	struct fdent *e = fdtab_lookup(fd);

	if (likely(!e) || (e->flags & FDENT_EPOLL))
		return libc_next.fdopen(fd, mode);
	return stream_open(fd, mode);
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
