/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stdio.c - FILE streams over a private socket (I-9)
 *
 * libc's stdio reads and writes by system calls of its own, which would find the placeholder and never an octet. So fdopen()
 * on a number of ours gives a cookie stream, whose calls come back to us; fileno() works on it as on any other.
 *
 * A stream opened while the number was the kernel's is libc's, and its fclose() closes the number past us.
 *
 * stdin, stdout and stderr are opened before anybody asks us, and their numbers may become a connection later: by dup2(), as
 * in a shell with a builtin's output redirected, or before the program starts, as under inetd. So the variables of these
 * names follow their numbers (stdio_follow()): a cookie stream while the number is ours, libc's own else. What is buffered, and
 * how, moves along. A pointer that the program took from the variable before goes on meaning the other stream.
 */
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>
#include "own_env.h"
#include "preload_priv.h"

struct stream {
	int fd;
	FILE *fp;
	char *left; /* what stdin had read before it came to us and not given yet */
	size_t left_at, left_len;
	struct stream *next, **prev; /* streams: all there are, for the flush at exit */
};
/* The variables stdin, stdout, stderr and what they may be. */
static struct standard {
	FILE **var, *libc;
	struct stream *ours; /* NULL: never was one, or closed */
} standard[STDERR_FILENO + 1];
static struct stream *streams;
static pthread_mutex_t streams_lock = PTHREAD_MUTEX_INITIALIZER;

static ssize_t cookie_read(void *cookie, char *buf, size_t n)
{
	struct stream *s = cookie;

	if (likely(s->left_at == s->left_len))
		return own_read(s->fd, buf, n);
	if (n > s->left_len - s->left_at)
		n = s->left_len - s->left_at;
	memcpy(buf, s->left + s->left_at, n);
	s->left_at += n;
	return (ssize_t)n;
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
	if (fd <= STDERR_FILENO && standard[fd].ours == s) {
		standard[fd].ours = NULL;
		*standard[fd].var = standard[fd].libc; /* may be used after fclose(): then it finds its number closed */
	}
	free(s->left);
	free(s);
	return own_close(fd);
}

static struct stream *stream_open(int fd, const char *mode)
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
	return s;
}

/* ---- standard streams ---- */

#define STREAM_UNBUFFERED 2 /* _IO_UNBUFFERED, which only libc's own headers name; part of its ABI */

static void buffering_move(FILE *from, FILE *to)
{
	if (from->_flags & STREAM_UNBUFFERED)
		setvbuf(to, NULL, _IONBF, 0);
	else
		setvbuf(to, NULL, __flbf(from) ? _IOLBF : _IOFBF, 0);
}

static void pending_move(FILE *from, FILE *to)
{
	size_t n = __fpending(from);

	if (!n)
		return;
	fwrite_unlocked(from->_IO_write_base, 1, n, to);
	__fpurge(from);
}

static void unread_move(FILE *from, struct stream *to)
{
	size_t n = (size_t)(from->_IO_read_end - from->_IO_read_ptr);

	if (!n || to->left_at < to->left_len)
		return;
	free(to->left);
	to->left = malloc(n);
	to->left_at = to->left_len = 0;
	if (!to->left)
		return;
	memcpy(to->left, from->_IO_read_ptr, n);
	to->left_len = n;
	__fpurge(from);
}

static struct stream *standard_open(int fd)
{
	struct standard *std = &standard[fd];

	if (!std->var) {
		std->var = fd == STDIN_FILENO ? &stdin : fd == STDOUT_FILENO ? &stdout : &stderr;
		std->libc = *std->var;
	}
	if (!std->ours) {
		std->ours = stream_open(fd, fd == STDIN_FILENO ? "r" : "w");
		if (std->ours && fd == STDERR_FILENO)
			fwide(std->ours->fp, -1); /* else perror() copies the number to a stream of libc's */
	}
	return std->ours;
}

void stdio_follow_slow(int fd)
{
	struct fdent *e = fdtab_lookup(fd);
	bool ours = e && !(e->flags & FDENT_EPOLL);
	struct standard *std = &standard[fd];
	FILE *from, *to;

	if (ours ? !standard_open(fd) : !std->ours)
		return;
	from = *std->var;
	to = ours ? std->ours->fp : std->libc;
	if (from == to || (from != std->libc && from != std->ours->fp)) /* or the program put its own there */
		return;
	flockfile(from);
	buffering_move(from, to);
	if (fd != STDIN_FILENO)
		pending_move(from, to);
	else if (ours)
		unread_move(from, std->ours);
	*std->var = to;
	funlockfile(from);
}

/* ---- the rest ---- */

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
	struct stream *s;

	if (likely(!e) || (e->flags & FDENT_EPOLL))
		return libc_next.fdopen(fd, mode);
	s = stream_open(fd, mode);
	return s ? s->fp : NULL;
}

/* libc closes the number, or puts a file onto it, by itself. */
EXPORT(FILE *, freopen, (const char *path, const char *mode, FILE *fp))
{
	int fd = fileno(fp);
	struct fdent *e = fdtab_lookup(fd);
	uint32_t gen = e ? e->gen : 0;
	FILE *r = libc_next.freopen(path, mode, fp);

	if (unlikely(e) && fdtab_lookup(fd) == e && e->gen == gen)
		fd_forget(fd);
	if (r)
		fd_forget(fileno(r));
	return r;
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
