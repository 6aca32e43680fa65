/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * poll.c - poll and select over numbers of ours and of the kernel's
 *
 * Theory of operation
 *
 * Where no number in the set is ours the call is the kernel's. Else each turn looks at both sides: ours with file_poll(),
 * under the lock and with a watch put on each where none is ready; then the kernel's with a poll of time-out 0, without the
 * lock. If neither has anything, the thread sleeps on its wake word, the queue and the kernel's descriptors at once. The
 * watches were there before the kernel's side was looked at, so nothing falls between the two looks.
 *
 * Undecided sockets, wildcard listeners with a kernel side, and epoll instances with private members are looked at on the
 * kernel's side too, since that is where (part of) their events are.
 *
 * select is translated to such a set and back. It does not want to know of everything poll reports: a descriptor whose
 * report nobody asked for is taken out of the sleep, since a hang-up never goes away again.
 */
#include <stdlib.h>
#include <sys/resource.h>
#include "../host/passenger.h"
#include "poll_priv.h"

#define SET_ON_STACK_MAX 16384 /* 256 KiB */

/* ---- the set ---- */

bool poll_set_on_stack(nfds_t n)
{
	return n <= POLL_SET_SMALL || (passenger && n <= SET_ON_STACK_MAX);
}

bool poll_set_init(struct poll_set *s, struct pollfd *stack, nfds_t n)
{
	*s = (struct poll_set){ .n = n, .fds = stack, .kernel = stack + (n > POLL_SET_SMALL ? n : POLL_SET_SMALL) };
	if (n > POLL_SET_SMALL && !poll_set_on_stack(n)) {
		s->heap = malloc((2 * n + 1) * sizeof(*s->heap));
		if (!s->heap)
			return false;
		s->fds = s->heap;
		s->kernel = s->heap + n;
	}
	return true;
}

void poll_set_free(struct poll_set *s)
{
	free(s->heap);
	s->heap = NULL;
}

/* What of @revents the caller wants to know. */
static short wanted(const struct poll_set *s, short events)
{
	short w = POLLNVAL;

	if (!s->is_select)
		return (short)(w | events | POLLERR | POLLHUP);
	if (events & POLLIN)
		w |= SELECT_IN;
	if (events & POLLOUT)
		w |= SELECT_OUT;
	return (short)(w | (events & POLLPRI));
}

static bool has_kernel_side(const struct file *f)
{
	return !f || f->kind != FILE_TCP || f->kernel_listens;
}

/**
 * look_private() - numbers of ours, under the lock
 * @arm:	put a watch on each, as long as none is ready
 *
 * Return: entries that are ready, or -ENOMEM
 */
static int look_private(struct poll_set *s, struct thr *t, bool arm)
{
	int ready = 0;

	s->n_kernel = 0;
	for (nfds_t i = 0; i < s->n; i++) {
		struct pollfd *p = &s->fds[i];
		struct file *f = p->fd >= 0 ? fd_file(p->fd) : NULL;

		p->revents = 0;
		s->kernel[i] = (struct pollfd){ .fd = p->fd >= 0 && has_kernel_side(f) ? p->fd : -1, .events = p->events };
		s->n_kernel += s->kernel[i].fd >= 0;
		if (!f || (f->kind != FILE_TCP && f->kind != FILE_EPOLL))
			continue;
		p->revents = (short)(file_poll(f) & (uint32_t)(unsigned short)wanted(s, p->events));
		if (p->revents) {
			f->home_wait = t->waiter_index;
			ready++;
		} else if (arm && !ready && watch_arm(t, f, (uint32_t)(unsigned short)(wanted(s, p->events) & ~POLLNVAL))) {
			return -ENOMEM;
		}
	}
	return ready;
}

/* The kernel's numbers, without the lock. Return: entries that are ready but were not on our side, negative errno */
static int look_kernel(struct poll_set *s)
{
	int n, more = 0;

	if (!s->n_kernel)
		return 0;
	n = unlikely(passenger) ? passenger_poll(s->kernel, (unsigned)s->n, 0, NULL) : (int)kernel_result(libc_next.poll(s->kernel, s->n, 0));
	if (n <= 0)
		return n == -EINTR ? 0 : n;
	for (nfds_t i = 0; i < s->n; i++) {
		short got = (short)(s->kernel[i].revents & wanted(s, s->fds[i].events));

		if (s->kernel[i].fd < 0 || !s->kernel[i].revents)
			continue;
		if (got)
			more += !s->fds[i].revents;
		else
			s->kernel[i].fd = -1; /* not for the sleep: see above */
		s->fds[i].revents |= got;
	}
	return more;
}

/* What the sleep waits for: the kernel's numbers side by side. */
static unsigned kernel_pack(struct poll_set *s)
{
	unsigned n = 0;

	for (nfds_t i = 0; i < s->n; i++)
		if (s->kernel[i].fd >= 0)
			s->kernel[n++] = s->kernel[i];
	return n;
}

/* ---- waiting ---- */

static void watches_undo(void *arg)
{
	struct thr *t = arg;

	shard_lock(t);
	watch_disarm_all(t);
	thr_leave(t);
}

/* A turn that finds nothing sleeps, or for a time-out of 0 looks at the wire. @ret_t: thread, lock not held */
static int turn(struct poll_set *s, struct thr **t, const struct sig_scope *scope, bool block)
{
	struct drive_wait w = { .deadline = s->deadline, .mask = s->mask };
	uint32_t seen;
	int ready, more, r;

	shard_lock(*t);
	ready = look_private(s, *t, block);
	seen = (*t)->waker->word;
	if (ready) {
		watch_disarm_all(*t);
		(*t)->undelivered = ready > 0 ? (uint32_t)ready : 0;
	}
	if (ready || !block || s->n_kernel) {
		thr_leave(*t);
		more = ready < 0 ? ready : look_kernel(s);
		if (ready || more || !block) {
			if (!ready && block)
				watches_undo(*t);
			return more < 0 ? more : ready + more;
		}
		w.n_kfds = kernel_pack(s);
		w.kfds = s->kernel;
		shard_lock(*t);
	}
	thr_leave_hold(*t); /* an event in between has moved the word already */
	r = own_wait(*t, seen, &w, scope, false, watches_undo, *t);
	*t = thr_enter();
	watches_undo(*t);
	return r < 0 ? r : r == 0 ? -EAGAIN : 0;
}

int poll_set_wait(struct poll_set *s)
{
	struct sig_scope scope;
	struct thr *t = thr_enter();
	int r;

	if (!t)
		return -ENOMEM;
	sig_scope_begin(&scope);
	s->deadline = s->timeout_us == USEC_NEVER ? USEC_NEVER : t->now + s->timeout_us + 1;
	if (s->timeout_us == 0) {
		r = turn(s, &t, &scope, false);
		if (r)
			return r;
		drive_once(t);
		return turn(s, &t, &scope, false);
	}
	if (drive_is_due(t))
		drive_once(t);
	while (!(r = turn(s, &t, &scope, true)))
		;
	if (r == -EAGAIN) /* what came with the deadline is still given */
		r = turn(s, &t, &scope, false);
	return r;
}

/* ---- poll ---- */

static bool any_is_ours(const struct pollfd *fds, nfds_t n)
{
	for (nfds_t i = 0; i < n; i++)
		if (fds[i].fd >= 0 && fdtab_lookup(fds[i].fd))
			return true;
	return false;
}

/* A set of the kernel's alone goes there as it is; bad memory too, for the kernel says so. */
static bool user_set_has_ours(const struct pollfd *user, nfds_t n)
{
	struct pollfd some[POLL_SET_SMALL];

	for (nfds_t m; n; user += m, n -= m) {
		m = n < POLL_SET_SMALL ? n : POLL_SET_SMALL;
		if (user_copy(some, user, m * sizeof(*user)))
			return false;
		if (any_is_ours(some, m))
			return true;
	}
	return false;
}

static int revents_to_user(const struct poll_set *s, struct pollfd *user)
{
	for (nfds_t i = 0; i < s->n; i++)
		if (user_copy(&user[i].revents, &s->fds[i].revents, sizeof(user->revents)))
			return -EFAULT;
	return 0;
}

/* Return: result, or POLL_IS_KERNELS */
#define POLL_IS_KERNELS INT_MIN
static int poll_any(struct pollfd *user, nfds_t n, usec_t timeout_us, const sigset_t *mask)
{
	struct pollfd stack[POLL_SET_STACK];
	struct poll_set s;
	struct rlimit lim;
	int r;

	if (user_mask_bad(mask))
		return -EFAULT;
	if (n > POLL_SET_SMALL && !passenger && libc_next.getrlimit(RLIMIT_NOFILE, &lim) == 0 && n > lim.rlim_cur)
		return -EINVAL;
	if (!poll_set_init(&s, POLL_SET_ROOM(stack, n), n))
		return -ENOMEM;
	s.timeout_us = timeout_us;
	s.mask = mask;
	r = user_copy(s.fds, user, n * sizeof(*user));
	if (!r)
		r = any_is_ours(s.fds, n) ? poll_set_wait(&s) : POLL_IS_KERNELS;
	if (r >= 0 && revents_to_user(&s, user))
		r = -EFAULT;
	poll_set_free(&s);
	return r;
}

static usec_t ms_timeout(int ms)
{
	return ms < 0 ? USEC_NEVER : (usec_t)ms * 1000;
}

EXPORT(int, poll, (struct pollfd *fds, nfds_t n, int timeout))
{
	int saved, r;

	if (likely(!fdmap_numbers || !user_set_has_ours(fds, n)))
		return libc_next.poll(fds, n, timeout);
	saved = errno;
	r = poll_any(fds, n, ms_timeout(timeout), NULL);
	if (r != POLL_IS_KERNELS)
		return (int)errno_result(r, saved);
	errno = saved;
	return libc_next.poll(fds, n, timeout);
}

int timespec_timeout(const struct timespec *user, usec_t *ret_us)
{
	struct timespec ts;

	*ret_us = USEC_NEVER;
	if (!user)
		return 0;
	if (user_copy(&ts, user, sizeof(ts)))
		return -EFAULT;
	if (ts.tv_sec < 0 || ts.tv_nsec < 0 || ts.tv_nsec >= 1000000000)
		return -EINVAL;
	if ((uint64_t)ts.tv_sec < USEC_NEVER / 4000000)
		*ret_us = SEC((uint64_t)ts.tv_sec) + ((usec_t)ts.tv_nsec + 999) / 1000;
	return 0;
}

EXPORT(int, ppoll, (struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask))
{
	int saved, r;
	usec_t us;

	if (likely(!fdmap_numbers || !user_set_has_ours(fds, n)))
		return libc_next.ppoll(fds, n, timeout, mask);
	saved = errno;
	r = timespec_timeout(timeout, &us);
	if (!r)
		r = poll_any(fds, n, us, mask);
	if (r != POLL_IS_KERNELS)
		return (int)errno_result(r, saved);
	errno = saved;
	return libc_next.ppoll(fds, n, timeout, mask);
}

EXPORT(int, __poll_chk, (struct pollfd *fds, nfds_t n, int timeout, size_t room))
{
	if (room / sizeof(*fds) < n)
		return libc_next.__poll_chk(fds, n, timeout, room); /* which aborts */
	return own_poll(fds, n, timeout);
}

EXPORT(int, __ppoll_chk,
       (struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask, size_t room))
{
	if (room / sizeof(*fds) < n)
		return libc_next.__ppoll_chk(fds, n, timeout, mask, room);
	return own_ppoll(fds, n, timeout, mask);
}
