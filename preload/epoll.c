/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * epoll.c - epoll instances with members of ours, of the kernel's, or both
 *
 * Theory of operation
 *
 * epoll_create() is the kernel's. When the first member of ours is added, the number gets a file of kind EPOLL beside the
 * kernel's instance, and from then on waits look at both sides; an instance without such a member costs one table look-up.
 *
 * Members, by kind of number:
 *
 *   kernel's           in the kernel's instance only
 *   private            a watch in the arena only (ready.h)
 *   undecided          both: the kernel's entry reports, the watch is silent and remembers data and flags until decide.c
 *                      takes the entry out and the watch takes over
 *   wildcard listener
 *   with a kernel side,
 *   nested epoll       both, and both report; one event comes out (merge_twins)
 *
 * A wait that finds private events takes them in one lock cycle and returns; the kernel's side is looked at (epoll_wait with
 * time-out 0) only where there is reason: its descriptor was reported ready in the last sleep, its last look found something
 * (level-triggered members stay ready), every 32nd turn, or before a time-out of 0 is answered. A sleep waits for the wake
 * word, the queue and the kernel's descriptor in one system call. Where the kernel's side is ready, sides take turns in
 * filling maxevents first.
 */
#include <limits.h>
#include <stdlib.h>
#include "../host/join.h"
#include "poll_priv.h"
#include "signal_priv.h"
#include "sock_priv.h"

#define EVENTS_ON_STACK 512
#define KERNEL_LOOK_TURNS 32
#define N_KERNEL_UNKNOWN 1 /* stands for members that came before the private half */
#define EPOLL_EXCLUSIVE_OK (EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE)

/* ---- instances ---- */

/**
 * epoll_number() - the number of @ep in this process
 *
 * The one it was last used under is remembered; it is looked for only where that does not hold any more.
 */
static int epoll_number(const struct thr *t, struct epoll *ep)
{
	uint64_t handle = file_handle(ep->file);
	struct fdent *ent = ep->kernel_slot == t->slot ? fdtab_lookup(ep->kernel_fd) : NULL;

	if (ent && ent->file == handle)
		return ep->kernel_fd;
	for (int fd = fdtab_next(t->slot, 0); fd >= 0; fd = fdtab_next(t->slot, fd + 1)) {
		ent = fdtab_lookup(fd);
		if (ent && ent->file == handle) {
			ep->kernel_fd = fd;
			ep->kernel_slot = t->slot;
			return fd;
		}
	}
	return -1;
}

/* Return: 0: @epfd is a kernel epoll instance, -EBADF, -EINVAL */
static int kernel_epoll_check(int epfd)
{
	struct epoll_event ev = { 0 };

	/* a member that cannot be in it: ENOENT says that the rest was in order */
	if (libc_next.epoll_ctl(epfd, EPOLL_CTL_MOD, host_placeholder_fd(), &ev) == 0 || errno == ENOENT)
		return 0;
	return errno == EBADF ? -EBADF : -EINVAL;
}

/*
 * First member of ours: the instance gets its private half. What it holds already is not known and stays unknown, so the count
 * of kernel members begins with one that nothing takes away: EPOLL_CTL_DEL of a member from before must not end the looks at
 * the others.
 */
static int epoll_adopt(int epfd)
{
	int r = kernel_epoll_check(epfd), flags = libc_next.fcntl(epfd, F_GETFD);
	struct file *f;
	struct thr *t;

	if (r)
		return r;
	t = thr_enter();
	if (!t)
		return -EBADF;
	shard_lock(t);
	if (!fd_file(epfd)) {
		f = epoll_file_new();
		r = -ENOMEM;
		if (f) {
			file_ref(f);
			f->ep->n_kernel = N_KERNEL_UNKNOWN;
			f->ep->kernel_hot = 1;
			r = fd_install(t, epfd, f, FDENT_EPOLL | (flags & FD_CLOEXEC ? FDENT_CLOEXEC : 0));
			file_unref(t, f);
		}
	}
	thr_leave(t);
	if (!r)
		rouse_sleepers(epfd);
	return r;
}

void epoll_leave_kernel(struct op *op)
{
	for (unsigned i = 0;; i++) {
		struct watch *w = op->f->watches;
		int epfd, fd;

		for (unsigned k = 0; w && (w->kind != WATCH_EPOLL || k++ < i);)
			w = w->next;
		if (!w || op->f->kind != FILE_UNDECIDED)
			return;
		epfd = epoll_number(op->t, w->ep);
		fd = w->fd;
		if (w->ep->n_kernel > N_KERNEL_UNKNOWN)
			w->ep->n_kernel--;
		shard_unlock(op->t);
		if (epfd >= 0)
			libc_next.epoll_ctl(epfd, EPOLL_CTL_DEL, fd, NULL);
		shard_lock(op->t);
	}
}

/* ---- epoll_ctl ---- */

enum member { MEMBER_KERNEL, MEMBER_PRIVATE, MEMBER_BOTH };

static enum member member_kind(const struct file *f)
{
	if (!f || f->kind == FILE_KERNEL)
		return MEMBER_KERNEL;
	if (f->kind == FILE_TCP && !f->kernel_listens)
		return MEMBER_PRIVATE;
	return MEMBER_BOTH;
}

static int ctl_private(struct thr *t, struct epoll *ep, int op, struct file *f, int fd, const struct epoll_event *ev)
{
	if (op == EPOLL_CTL_ADD && ev->events & EPOLLEXCLUSIVE && ev->events & ~(uint32_t)EPOLL_EXCLUSIVE_OK)
		return -EINVAL;
	switch (op) {
	case EPOLL_CTL_ADD:
		return epoll_watch_add(t, ep, f, fd, ev->events, ev->data.u64);
	case EPOLL_CTL_MOD:
		return ev->events & EPOLLEXCLUSIVE ? -EINVAL : epoll_watch_mod(t, ep, f, fd, ev->events, ev->data.u64);
	case EPOLL_CTL_DEL:
		return epoll_watch_del(t, ep, f, fd);
	}
	return -EINVAL;
}

/* The kernel's half of a change; lock dropped meanwhile. */
static int ctl_kernel(struct op *ep, int epfd, int op, int fd, struct epoll_event *ev)
{
	int r;

	op_hold(ep);
	shard_unlock(ep->t);
	r = (int)kernel_result(libc_next.epoll_ctl(epfd, op, fd, ev));
	shard_lock(ep->t);
	if (!r && op == EPOLL_CTL_ADD) {
		ep->f->ep->n_kernel++;
		ep->f->ep->kernel_hot = 1;
	} else if (!r && op == EPOLL_CTL_MOD) {
		ep->f->ep->kernel_hot = 1;
	} else if (!r && ep->f->ep->n_kernel > N_KERNEL_UNKNOWN) {
		ep->f->ep->n_kernel--;
	}
	return r;
}

static int ctl_both(struct op *ep, int epfd, int op, int fd, struct epoll_event *ev)
{
	int r = ctl_kernel(ep, epfd, op, fd, ev);
	struct file *f = fd_file(fd);

	if (r || !f)
		return r;
	r = ctl_private(ep->t, ep->f->ep, op, f, fd, ev);
	if (r && op == EPOLL_CTL_ADD)
		ctl_kernel(ep, epfd, EPOLL_CTL_DEL, fd, ev);
	if (!r && op != EPOLL_CTL_MOD && f->kind != FILE_UNDECIDED)
		ep->f->ep->n_twins += op == EPOLL_CTL_ADD ? 1u : -1u;
	return r;
}

static int ctl_any(int epfd, int op, int fd, struct epoll_event *user_ev)
{
	struct epoll_event ev = { 0 };
	struct file *f;
	struct op ep;
	int r = 0;

	if (op != EPOLL_CTL_DEL && user_copy(&ev, user_ev, sizeof(ev)))
		return -EFAULT;
	if (!fdtab_lookup(epfd))
		r = epfd == fd ? -EINVAL : epoll_adopt(epfd);
	if (r || !op_begin_any(&ep, epfd))
		return (int)kernel_result(libc_next.epoll_ctl(epfd, op, fd, user_ev)); /* which says what is wrong first */
	if (ep.f->kind != FILE_EPOLL || epfd == fd) {
		op_end(&ep, 0);
		return (int)kernel_result(libc_next.epoll_ctl(epfd, op, fd, user_ev));
	}
	ep.f->ep->kernel_fd = epfd;
	ep.f->ep->kernel_slot = ep.t->slot;
	f = fd_file(fd);
	switch (member_kind(f)) {
	case MEMBER_KERNEL:
		r = ctl_kernel(&ep, epfd, op, fd, &ev);
		break;
	case MEMBER_PRIVATE:
		r = ctl_private(ep.t, ep.f->ep, op, f, fd, &ev);
		break;
	case MEMBER_BOTH:
		r = ctl_both(&ep, epfd, op, fd, &ev);
	}
	return (int)op_end(&ep, r);
}

static SLOW int ctl_slow(int epfd, int op, int fd, struct epoll_event *ev)
{
	int saved = errno;

	if (!fdtab_lookup(fd) && !fdtab_lookup(epfd))
		return libc_next.epoll_ctl(epfd, op, fd, ev);
	return (int)errno_result(ctl_any(epfd, op, fd, ev), saved);
}

EXPORT(int, epoll_ctl, (int epfd, int op, int fd, struct epoll_event *ev))
{
	return likely(!fdmap_has(fd) && !fdmap_has(epfd)) ? libc_next.epoll_ctl(epfd, op, fd, ev) : ctl_slow(epfd, op, fd, ev);
}

/* ---- epoll_wait ---- */

struct ep_wait {
	struct op op;
	int epfd, max;
	int room;			/* in buf */
	struct epoll_event *user;	/* the program's array */
	struct epoll_event *buf, *few;	/* private events, taken under the lock; few: on the stack */
	int n_private, n_kernel;
	bool kernel_due;		/* there is reason to look at the kernel's side */
	usec_t timeout_us;
	const sigset_t *mask;
};

/* Lock held, dropped meanwhile. The kernel writes into the program's array itself. */
static int wait_kernel(struct ep_wait *w)
{
	int n;

	op_hold(&w->op);
	shard_unlock(w->op.t);
	n = (int)kernel_result(libc_next.epoll_wait(w->epfd, w->user, w->max - w->n_private, 0));
	shard_lock(w->op.t);
	w->op.f->ep->kernel_hot = n > 0;
	w->kernel_due = false;
	w->n_kernel = n > 0 ? rouse_filter(w->user, n) : 0;
	return n < 0 && n != -EINTR ? n : 0;
}

/*
 * What is taken is gone, for edge-triggered members, and nobody would learn of it where it cannot be written: so an array that
 * was not this thread's last is tried first. False: events wait, and there is nowhere to write them.
 */
static bool take_private(struct ep_wait *w, int max)
{
	static _Thread_local const struct epoll_event *last;
	struct epoll *ep = w->op.f->ep;
	struct epoll_event e;

	if (unlikely(w->user != last) && ep->n_ready) {
		if (user_copy(&e, w->user, sizeof(e)) || user_copy(w->user, &e, sizeof(e)))
			return !epoll_has_ready(ep);
		last = w->user;
	}
	w->n_private = epoll_collect(w->op.t, ep, w->buf, max < w->room ? max : w->room);
	return true;
}

/* One look at both sides; lock held at entry and return. */
static int wait_look(struct ep_wait *w)
{
	struct epoll *ep = w->op.f->ep;
	bool due = ep->n_kernel && (w->kernel_due || ep->kernel_hot || ep->turn % KERNEL_LOOK_TURNS == 0);
	bool kernel_first = due && ep->turn & 1;
	int r;

	ep->turn++;
	if (kernel_first) {
		r = wait_kernel(w);
		if (r)
			return r;
	}
	if (w->n_kernel < w->max && !take_private(w, w->max - w->n_kernel))
		return -EFAULT;
	if (due && !kernel_first && w->n_private < w->max) {
		r = wait_kernel(w);
		/* The lock was off: what became ready meanwhile woke nobody, since this thread is about to sleep and not asleep. */
		if (!r && !w->n_private && !w->n_kernel && !take_private(w, w->max))
			r = -EFAULT;
		return r;
	}
	return 0;
}

/* A member on both sides was reported by both: one event with the bits of both. Return: private events left */
static int merge_twins(struct ep_wait *w)
{
	int kept = 0;

	for (int i = 0; i < w->n_private; i++) {
		bool twin = false;

		for (int k = 0; k < w->n_kernel && !twin; k++) {
			twin = w->user[k].data.u64 == w->buf[i].data.u64;
			if (twin)
				w->user[k].events |= w->buf[i].events;
		}
		if (!twin)
			w->buf[kept++] = w->buf[i];
	}
	return kept;
}

/* Lock held; ends the operation. */
static int wait_deliver(struct ep_wait *w)
{
	struct thr *t = w->op.t;
	bool twins = w->op.f->ep->n_twins && w->n_kernel;

	t->undelivered = (uint32_t)w->n_private;
	op_end(&w->op, 0);
	if (twins)
		w->n_private = merge_twins(w);
	if (w->n_private && user_copy(w->user + w->n_kernel, w->buf, (size_t)w->n_private * sizeof(*w->buf)))
		return -EFAULT;
	return w->n_kernel + w->n_private;
}

/* ---- sleeping ---- */

static void events_alloc(struct ep_wait *w)
{
	w->buf = w->few;
	w->room = w->max < EVENTS_ON_STACK ? w->max : EVENTS_ON_STACK;
	if (w->max > EVENTS_ON_STACK) {
		struct epoll_event *many = malloc((size_t)w->max * sizeof(*many));

		if (many) {
			w->buf = many;
			w->room = w->max;
		}
	}
}

static void events_free(struct ep_wait *w)
{
	if (w->buf != w->few)
		free(w->buf);
	w->buf = w->few;
}

struct ep_sleep {
	struct thr *t;
	struct file *f; /* NULL: undone */
};

/* Shard lock held. */
static void sleep_undo_locked(struct ep_sleep *s)
{
	if (!s->f)
		return;
	epoll_sleep_disarm(s->t, s->f->ep);
	file_release(s->t, s->f);
	s->f = NULL;
}

/* A handler is about to run, which may not come back, or the thread is cancelled. */
static void sleep_undo(void *arg)
{
	struct ep_sleep *s = arg;

	shard_lock(s->t);
	sleep_undo_locked(s);
	thr_leave(s->t);
}

/* Lock held at entry and return. Return: > 0 look again, 0 time is up, -EINTR, -EBADF: the instance is gone */
static int wait_sleep(struct ep_wait *w)
{
	struct pollfd kfds[2] = { { .fd = w->epfd, .events = POLLIN } };
	struct drive_wait dw = { .deadline = w->op.deadline, .mask = w->mask, .kfds = kfds, .kfds_key = file_handle(w->op.f) };
	struct ep_sleep s = { w->op.t, w->op.f };
	uint64_t handle = file_handle(w->op.f);
	uint32_t seen;
	int r;

	if (!w->op.held)
		file_hold(s.t, s.f);
	w->op.held = false; /* the sleep holds it */
	dw.n_kfds = s.f->ep->n_kernel ? 1 : 0;
	epoll_sleep_arm(s.t, s.f->ep);
	seen = s.t->waker->word;
	thr_leave_hold(s.t);
	events_free(w);
	r = own_wait(s.t, seen, &dw, &w->op.scope, false, sleep_undo, &s);
	events_alloc(w);
	w->op.t = thr_enter();
	shard_lock(w->op.t);
	sleep_undo_locked(&s);
	w->kernel_due = r > 0 && r & IO_WAIT_KFD;
	return r >= 0 && file_get(handle) != w->op.f ? -EBADF : r;
}

static int wait_loop(struct ep_wait *w)
{
	bool last = false;
	int r;

	if (drive_is_due(w->op.t)) {
		op_hold(&w->op);
		shard_unlock(w->op.t);
		drive_once(w->op.t);
		shard_lock(w->op.t);
	}
	w->kernel_due = w->timeout_us == 0;
	for (;;) {
		r = wait_look(w);
		if (r)
			return (int)op_end(&w->op, r);
		if (w->n_private || w->n_kernel)
			return wait_deliver(w);
		if (last)
			return (int)op_end(&w->op, 0);
		if (w->timeout_us == 0) {
			op_hold(&w->op);
			thr_leave(w->op.t);
			drive_once(w->op.t);
			shard_lock(w->op.t);
			last = true;
			continue;
		}
		r = wait_sleep(w);
		if (r < 0)
			return (int)op_end(&w->op, r);
		last = r == 0; /* what came with the deadline is still given */
	}
}

/* @timeout_us: USEC_NEVER: none */
static int wait_any(int epfd, struct epoll_event *evs, int max, usec_t timeout_us, const sigset_t *mask)
{
	struct epoll_event few[EVENTS_ON_STACK];
	struct ep_wait w = { .epfd = epfd, .max = max, .user = evs, .few = few, .timeout_us = timeout_us, .mask = mask };
	int r = -EINVAL;

	if (user_mask_bad(mask))
		return -EFAULT;
	if (max <= 0 || (size_t)max > INT_MAX / sizeof(*evs))
		return -EINVAL;
	events_alloc(&w);
	if (op_begin_any(&w.op, epfd)) {
		w.op.deadline = timeout_us == USEC_NEVER ? USEC_NEVER : w.op.t->now + timeout_us + 1;
		r = w.op.f->kind == FILE_EPOLL ? wait_loop(&w) : (int)op_end(&w.op, -EINVAL);
	}
	events_free(&w);
	return r;
}

static usec_t ms_timeout(int ms)
{
	return ms < 0 ? USEC_NEVER : (usec_t)ms * 1000;
}

/* ---- epoll_wait() and its kind ---- */

enum wait_form { FORM_WAIT, FORM_PWAIT, FORM_PWAIT2 };
struct wait_call { /* as the program made it */
	enum wait_form form;
	int epfd, max, ms;
	struct epoll_event *evs;
	const struct timespec *ts; /* FORM_PWAIT2 */
	const sigset_t *mask;
};

static int call_kernel(const struct wait_call *c)
{
	switch (c->form) {
	case FORM_WAIT:
		return (int)kernel_result(libc_next.epoll_wait(c->epfd, c->evs, c->max, c->ms));
	case FORM_PWAIT:
		return (int)kernel_result(libc_next.epoll_pwait(c->epfd, c->evs, c->max, c->ms, c->mask));
	case FORM_PWAIT2:
		break;
	}
	return (int)kernel_result(libc_next.epoll_pwait2(c->epfd, c->evs, c->max, c->ts, c->mask));
}

/* @spent_us: of the time-out, already */
static int call_private(const struct wait_call *c, usec_t spent_us)
{
	usec_t us = ms_timeout(c->ms);

	if (c->form == FORM_PWAIT2) {
		int r = timespec_timeout(c->ts, &us);

		if (r)
			return r;
	}
	if (us != USEC_NEVER)
		us = us > spent_us ? us - spent_us : 0;
	return wait_any(c->epfd, c->evs, c->max, us, c->mask);
}

/* The clock that is only read, for every wait; what it lags behind is taken off, so that no time-out is early. */
static usec_t coarse_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return SEC((usec_t)ts.tv_sec) + (usec_t)ts.tv_nsec / 1000;
}

static usec_t spent_since(usec_t begun)
{
	struct timespec tick = { 0 };
	usec_t now = io_now();

	clock_getres(CLOCK_MONOTONIC_COARSE, &tick);
	begun += (usec_t)tick.tv_nsec / 1000;
	return now > begun ? now - begun : 0;
}

/*
 * The kernel's own wait as long as the set has no member of ours. It may get one while a thread sleeps there (rouse.c); the
 * time that is left is then waited on both sides.
 */
static int call_any(const struct wait_call *c)
{
	usec_t begun;
	int r;

	if (!rouse_begin(c->epfd))
		return call_private(c, 0);
	begun = c->ts || c->ms > 0 ? coarse_now() : 0;
	r = call_kernel(c);
	if (likely(!rouse_end(c->epfd)) || (r < 0 && r != -EFAULT)) /* nowhere to write to: it may have been the marker */
		return r;
	r = r < 0 ? 0 : rouse_filter(c->evs, r);
	return r ? r : call_private(c, begun ? spent_since(begun) : 0);
}

static SLOW int wait_slow(enum wait_form form, int epfd, struct epoll_event *evs, int max, int ms, const sigset_t *mask)
{
	int saved = errno;

	return (int)errno_result(call_any(&(const struct wait_call){ form, epfd, max, ms, evs, NULL, mask }), saved);
}

/* The set became ours while this thread slept in the kernel's, without a time-out; the wait gave @r. */
static SLOW int wait_adopted(int r, int epfd, struct epoll_event *evs, int max)
{
	int saved = errno;

	rouse_end(epfd);
	if (r < 0 && saved != EFAULT) {
		errno = saved;
		return r;
	}
	r = r < 0 ? 0 : rouse_filter(evs, r);
	return r ? r : wait_slow(FORM_WAIT, epfd, evs, max, -1, NULL);
}

/* In the kernel's set, for ever: nothing to do but to say where. */
static SLOW int wait_for_ever(int epfd, struct epoll_event *evs, int max)
{
	int r;

	if (!rouse_note(epfd))
		return wait_slow(FORM_WAIT, epfd, evs, max, -1, NULL);
	r = libc_next.epoll_wait(epfd, evs, max, -1);
	return likely(rouse_unnote(epfd)) ? r : wait_adopted(r, epfd, evs, max);
}

EXPORT(int, epoll_wait, (int epfd, struct epoll_event *evs, int max, int timeout))
{
	if (unlikely(fdmap_has(epfd)) || timeout > 0)
		return wait_slow(FORM_WAIT, epfd, evs, max, timeout, NULL);
	return timeout == 0 ? libc_next.epoll_wait(epfd, evs, max, 0) : wait_for_ever(epfd, evs, max);
}

EXPORT(int, epoll_pwait, (int epfd, struct epoll_event *evs, int max, int timeout, const sigset_t *mask))
{
	if (likely(timeout == 0 && !fdmap_has(epfd)))
		return libc_next.epoll_pwait(epfd, evs, max, 0, mask);
	return wait_slow(FORM_PWAIT, epfd, evs, max, timeout, mask);
}

EXPORT(int, epoll_pwait2,
       (int epfd, struct epoll_event *evs, int max, const struct timespec *timeout, const sigset_t *mask))
{
	int saved = errno;

	return (int)errno_result(call_any(&(const struct wait_call){ FORM_PWAIT2, epfd, max, -1, evs, timeout, mask }), saved);
}

EXPORT(int, epoll_create, (int size))
{
	return fd_forget(libc_next.epoll_create(size));
}

EXPORT(int, epoll_create1, (int flags))
{
	return fd_forget(libc_next.epoll_create1(flags));
}
