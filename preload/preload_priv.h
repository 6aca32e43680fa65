/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * preload_priv.h - what the files of preload/ share
 *
 * sk_NAME() is what NAME() becomes on a number of ours: count or negative errno, errno untouched. It may find on a closer
 * look that the kernel is meant after all (socket still undecided, entry gone meanwhile) and then gives back what
 * kernel_result() makes of libc_next.NAME().
 */
#ifndef OWNSTACK_PRELOAD_PRIV_H
#define OWNSTACK_PRELOAD_PRIV_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include "../host/ready.h"
#include "../host/slot.h"
#include "../host/thr.h"
#include "next.h"

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
/* Out of the way of a hook that has nothing to do: its registers are saved there, not at the hook's begin */
#define SLOW __attribute__((noinline))

/* ---- results ---- */
/** errno_result() - negative errno becomes -1 and errno; else errno gets back @saved */
static inline ssize_t errno_result(ssize_t r, int saved)
{
	if (unlikely(r < 0)) {
		errno = (int)-r;
		return -1;
	}
	errno = saved;
	return r;
}
/** kernel_result() - the other way round: what a libc call gave, as count or negative errno */
static inline ssize_t kernel_result(ssize_t r)
{
	return r < 0 ? -(ssize_t)errno : r;
}

/* ---- sk_NAME() for every row that is routed by number or type ---- */
#define CALL(route, result, name, params, args) CALL_##route(result, name, params)
#define CALL_BY_FD(result, name, params)	result sk_##name params;
#define CALL_BY_TYPE(result, name, params)	result sk_##name params;
#define CALL_BY_HAND(result, name, params)
#define ALIAS(alias, name)
#include "calls.def"
#undef CALL
#undef CALL_BY_FD
#undef CALL_BY_TYPE
#undef CALL_BY_HAND
#undef ALIAS

/* ---- init.c ---- */
/**
 * own_join() - this process becomes part of its private host, if it is not yet
 *
 * Called by sk_socket() before the first AF_INET or AF_INET6 stream socket is made. Where the host cannot be joined the
 * program ends with one clear line, or goes on with kernel sockets where OWNSTACK_FALLBACK allows it.
 *
 * Return: true: joined and this process has a slot; false: use the kernel, now and later
 */
bool own_join(void);
/** own_socket_wanted() - may a socket of this type become private (AF_INET/AF_INET6, stream, TCP) */
bool own_socket_wanted(int domain, int type, int protocol);

/* ---- fd.c: numbers ---- */
/** fd_file() - shard lock held (or the file is otherwise pinned): what @fd means now, NULL: not ours any more */
struct file *fd_file(int fd);
/** fd_placeholder() - a number for a private socket: lowest free one, never ready. No lock held. -EMFILE, ... */
int fd_placeholder(bool cloexec);
/**
 * fd_install() - number @fd means @f from now on (refs and numbers go up)
 * @flags: FDENT_*. Shard lock held; what the number meant before, if we thought it was ours, is dropped.
 * Return: 0, -ENOMEM (arena full)
 */
int fd_install(struct thr *t, int fd, struct file *f, uint32_t flags);
/** fd_forget() - the kernel has handed @fd out anew: if we still thought it was ours, that entry is stale. No lock held. */
void fd_forget_slow(int fd);
static inline int fd_forget(int fd)
{
	if (unlikely(fd >= 0 && fdtab_lookup(fd)))
		fd_forget_slow(fd);
	return fd;
}
/** stdio_follow() - @fd begins or ends to be ours: where it is stdin's, stdout's or stderr's, the stream goes with it. No lock held. */
void stdio_follow_slow(int fd);
static inline int stdio_follow(int fd)
{
	if (unlikely(fd >= 0 && fd <= 2))
		stdio_follow_slow(fd);
	return fd;
}
/** fd_close_private() - close(2) for a number of ours; both the entry and the kernel's descriptor */
int fd_close_private(int fd);

/* ---- wait.c: blocking ---- */
/*
 * sig_scope - did a handler run since the call began, and must the call end for it
 *
 * A handler that arrives while the thread is asleep or about to be makes the sleep end (its own wake word moves). The call
 * then either restarts, if all handlers that ran had SA_RESTART and the call is one that restarts, or gives -EINTR.
 */
struct sig_scope {
	uint32_t ran, norestart; /* counters at the begin of the call */
};
void sig_scope_begin(struct sig_scope *s);
/** sig_scope_interrupted() - @restartable: signal(7) restarts this call (not: epoll_wait, poll, select, any with SO_*TIMEO) */
bool sig_scope_interrupted(const struct sig_scope *s, bool restartable);
/*
 * thr_defer(), thr_undefer() (thr.h): needed also in preload/ around what must not be left by siglongjmp() nor entered twice
 * by one thread while the lock is not held: a direction marked busy, registrations. Not around what blocks in the kernel.
 */
/**
 * own_wait() - drive_wait() for the program's thread: a cancellation point, and exact about signals
 * @scope:	begun when the call was entered
 * @restartable: see above
 * @cleanup, @arg: undoes what was registered for this wait (takes the lock itself). Run before a handler or cancellation that
 *		came during the sleep, and only then; so the caller's own undoing must stand a second time. NULL: nothing to undo
 *
 * No lock held, after thr_leave_hold(); thr_defer()'s depth must be 0, or no handler would ever run.
 *
 * Return: > 0 look again (IO_WAIT_* bits), 0 deadline passed, -EINTR the call must end with EINTR, other negative errno
 */
int own_wait(struct thr *t, uint32_t seen, struct drive_wait *w, const struct sig_scope *scope, bool restartable,
	     void (*cleanup)(void *), void *arg);
/**
 * file_wait() - what most calls on one socket need: sleep until one of @events may hold on @f
 * @deadline:	CLOCK_MONOTONIC, USEC_NEVER
 * @exclusive:	one waiter is woken per event (accept)
 *
 * Shard lock held at entry, by *@t; at return it is held again (*@t may have changed: read it anew). @f is referenced
 * meanwhile. -EBUSY of tcp_*_begin() is waited for the same way.
 *
 * Return: 0 look again, -EAGAIN deadline passed, -EINTR, -ENOMEM, -EBADF: @f is gone, do not touch it
 */
int file_wait(struct thr **t, struct file *f, uint32_t events, bool exclusive, usec_t deadline,
	      const struct sig_scope *scope, bool restartable);

/*
 * spare_fd_keep() - Linux deals out accept()'s number before it sleeps, so that what others open meanwhile gets the next one
 *
 * No lock held. The number is given back where a handler or a cancellation ends the sleep. Return: 0, -EMFILE, -ENFILE
 */
int spare_fd_keep(void);
/** spare_fd_take() - the number kept, or where there is none (any more) a new placeholder: as fd_placeholder() */
int spare_fd_take(bool cloexec);
void spare_fd_drop(void);

/* ---- usercopy.c ---- */
/** user_copy() - memcpy where one side is the program's memory and may fault: 0 or -EFAULT. With or without the lock. */
int user_copy(void *to, const void *from, size_t n);
/** user_mask_bad() - a kernel reads the signal mask of ppoll(), pselect() and epoll_pwait() before anything else */
static inline bool user_mask_bad(const void *mask)
{
	uint64_t kernel_sigset;

	return unlikely(mask != NULL) && user_copy(&kernel_sigset, mask, sizeof(kernel_sigset));
}
/** user_copy_max: under the shard lock copy at most this much (RULES C10) */
enum { USER_COPY_LOCKED_MAX = 2048 };

/* ---- signal.c ---- */
void signal_init(void); /* at join: trampolines for handlers installed before, hooks of thr.h */

#endif
