/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ready.c - watches and ready queues
 *
 * Theory of operation
 *
 * An event on a file walks the file's watches, as a kernel walks a wait queue: threads blocked in a call are woken, epoll
 * members are put on their instance's ready list (once) and one thread sleeping in epoll_wait there is woken. Exclusive
 * watches stand behind the others; of them only the first that reaches a sleeper counts.
 *
 * A ready list says "look at this one", not "this is ready": epoll_collect() asks file_poll() at the moment of delivery, so
 * an event that was consumed in between is dropped. A level-triggered member is put back at the end of the list after
 * delivery and falls off at the first look that finds nothing; an edge-triggered one comes back with the next event only.
 * (As Linux does it: fs/eventpoll.c keeps level-triggered items on its list in the same way.)
 *
 * The slabs of watches and waiters are the truth; every list here is made anew by ready_repair().
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include "export.h"
#include "passport.h"
#include "ready.h"

#define EV_ALWAYS ((uint32_t)EPOLLERR | (uint32_t)EPOLLHUP)
#define NEST_MAX  5 /* as Linux: EP_MAX_NESTS 4 and one */

/* ---- lists ---- */

static void watch_link(struct watch *w, struct file *f)
{
	struct watch **at = &f->watches;

	if (w->exclusive) /* behind everybody */
		while (*at)
			at = &(*at)->next;
	w->file = f;
	w->next = *at;
	w->prev = at;
	if (w->next)
		w->next->prev = &w->next;
	*at = w;
}

static void watch_unlink(struct watch *w)
{
	if (!w->prev)
		return;
	*w->prev = w->next;
	if (w->next)
		w->next->prev = w->prev;
	w->prev = NULL;
}

static void ready_push(struct watch *w)
{
	struct epoll *ep = w->ep;

	if (w->queued)
		return;
	w->queued = 1;
	w->ready_next = NULL;
	w->ready_prev = ep->ready_tail;
	*ep->ready_tail = w;
	ep->ready_tail = &w->ready_next;
	ep->n_ready++;
}

static void ready_unlink(struct watch *w)
{
	struct epoll *ep = w->ep;

	if (!w->queued)
		return;
	*w->ready_prev = w->ready_next;
	if (w->ready_next)
		w->ready_next->ready_prev = w->ready_prev;
	else
		ep->ready_tail = w->ready_prev;
	w->queued = 0;
	ep->n_ready--;
}

static void sleeper_unlink(struct waiter *w)
{
	if (!w->ep_prev)
		return;
	*w->ep_prev = w->ep_next;
	if (w->ep_next)
		w->ep_next->ep_prev = w->ep_prev;
	w->ep_prev = NULL;
}

/* ---- events ---- */

static void notify(struct thr *t, struct file *f, uint32_t bits, int depth);

/* Return: true: a sleeper was woken */
static bool epoll_wake(struct thr *t, struct epoll *ep, int depth)
{
	struct waiter *w = ep->sleepers;

	if (ep->file->watches && depth < NEST_MAX) /* an epoll in an epoll, or polled */
		notify(t, ep->file, EPOLLIN | EPOLLRDNORM, depth + 1);
	if (!w)
		return false;
	sleeper_unlink(w); /* woken once; it puts itself back when it sleeps again */
	thr_wake_later(t, w);
	return true;
}

/* ---- exclusive waiters that were woken and may not come (RULES H4) ---- */

static void passed_unlink(struct file *f)
{
	if (!f->passed_prev)
		return;
	*f->passed_prev = f->passed_next;
	if (f->passed_next)
		f->passed_next->passed_prev = f->passed_prev;
	f->passed_prev = NULL;
}

static void passed_link(struct thr *t, struct file *f)
{
	if (f->passed_prev)
		return;
	f->passed_at = t->now;
	f->passed_next = host->passed;
	f->passed_prev = &host->passed;
	if (f->passed_next)
		f->passed_next->passed_prev = &f->passed_next;
	host->passed = f;
	keeper_want(KEEPER_TICK);
}

/*
 * A process that is stopped while it sleeps leaves a kernel's wait queue, so that an exclusive wake finds another. Ours
 * cannot leave: it is woken, does not come, and the event would be lost to the others. So an event that is still there
 * after a tick is shown to all.
 */
void ready_passed_look(struct thr *t, usec_t age_us)
{
	struct file *next;

	for (struct file *f = host->passed; f; f = next) {
		uint32_t bits = file_poll(f);

		next = f->passed_next;
		if (bits & EPOLLIN && t->now - f->passed_at < age_us)
			continue;
		passed_unlink(f);
		for (struct watch *w = f->watches; bits & EPOLLIN && w; w = w->next) {
			if (!w->exclusive || !(bits & w->events))
				continue;
			if (w->kind == WATCH_THREAD) {
				thr_wake_later(t, w->waiter);
			} else {
				ready_push(w);
				epoll_wake(t, w->ep, NEST_MAX);
			}
		}
	}
}

static void notify(struct thr *t, struct file *f, uint32_t bits, int depth)
{
	bool to_all = bits & (EPOLLHUP | EPOLLRDHUP); /* an end concerns everybody: Linux's sk_state_change() wakes all */
	bool exclusive_done = false;
	struct watch *next;

	for (struct watch *w = f->watches; w; w = next) {
		bool woke;

		next = w->next;
		if (w->disabled || !(bits & (w->events | EV_ALWAYS)) || (w->exclusive && exclusive_done))
			continue;
		if (w->kind == WATCH_THREAD) {
			thr_wake_later(t, w->waiter);
			w->disabled = w->exclusive; /* a second event is for a second thread */
			woke = true;
		} else {
			ready_push(w);
			woke = epoll_wake(t, w->ep, depth);
		}
		if (w->exclusive && woke && !to_all) {
			exclusive_done = true;
			if (w->next) /* exclusive ones stand behind: others wait for the same */
				passed_link(t, f);
		}
	}
}

void file_notify(struct thr *t, struct file *f, uint32_t bits)
{
	if (f->status & O_ASYNC)
		sigio_queue(t, f, bits);
	if (bits & TCP_EV_URG)
		sigurg_queue(t, f);
	notify(t, f, bits, 0);
}

/* ---- threads blocked in a call ---- */

static int watch_arm_kind(struct thr *t, struct file *f, uint32_t events, bool exclusive)
{
	struct watch *w = slab_alloc(&host->watches);

	if (!w)
		return -ENOMEM;
	w->kind = WATCH_THREAD;
	w->exclusive = exclusive;
	w->events = events;
	w->waiter = t->waiter;
	w->slot = t->slot;
	w->sibling = t->waiter->watches;
	t->waiter->watches = w;
	watch_link(w, f);
	return 0;
}

int watch_arm(struct thr *t, struct file *f, uint32_t events)
{
	return watch_arm_kind(t, f, events, false);
}

int watch_arm_exclusive(struct thr *t, struct file *f, uint32_t events)
{
	return watch_arm_kind(t, f, events, true);
}

static void waiter_watches_free(struct waiter *waiter)
{
	struct watch *w;

	while ((w = waiter->watches)) {
		waiter->watches = w->sibling;
		watch_unlink(w);
		slab_free(&host->watches, w);
	}
}

static void waiter_pass_on(struct thr *t, struct waiter *waiter)
{
	for (struct watch *w = waiter->watches; w; w = w->sibling)
		if (w->exclusive && w->disabled && w->prev)
			file_notify(t, w->file, file_poll(w->file));
}

void watch_pass_on(struct thr *t)
{
	waiter_pass_on(t, t->waiter);
}

void watch_disarm_all(struct thr *t)
{
	waiter_watches_free(t->waiter);
}

/* ---- epoll ---- */

static struct watch *epoll_find(const struct epoll *ep, const struct file *f, int fd)
{
	for (struct watch *w = f->watches; w; w = w->next)
		if (w->kind == WATCH_EPOLL && w->ep == ep && w->fd == fd)
			return w;
	return NULL;
}

/* Does @f lead to @ep, or deeper than is allowed? */
static int epoll_loop_check(const struct epoll *ep, const struct file *f, int depth)
{
	if (f->kind != FILE_EPOLL)
		return 0;
	if (f->ep == ep || depth >= NEST_MAX)
		return -ELOOP;
	for (const struct watch *w = f->ep->all; w; w = w->all_next)
		if (epoll_loop_check(ep, w->file, depth + 1) < 0)
			return -ELOOP;
	return 0;
}

static void watch_set_events(struct watch *w, uint32_t events, uint64_t data)
{
	const uint32_t flags = (uint32_t)EPOLLET | (uint32_t)EPOLLONESHOT | (uint32_t)EPOLLEXCLUSIVE | (uint32_t)EPOLLWAKEUP;

	w->flags = events & flags;
	w->events = events & ~flags;
	w->data = data;
	w->disabled = 0;
}

/* A member that is ready already is told so at once, as a kernel does in ep_insert() and ep_modify(). */
static void watch_look(struct thr *t, struct watch *w)
{
	if (file_poll(w->file) & (w->events | EV_ALWAYS)) {
		ready_push(w);
		epoll_wake(t, w->ep, 0);
	}
}

static void watch_all_link(struct watch *w, struct epoll *ep)
{
	w->all_next = ep->all;
	w->all_prev = &ep->all;
	if (w->all_next)
		w->all_next->all_prev = &w->all_next;
	ep->all = w;
	ep->n_watches++;
}

static void epoll_watch_free(struct watch *w)
{
	ready_unlink(w);
	*w->all_prev = w->all_next;
	if (w->all_next)
		w->all_next->all_prev = w->all_prev;
	w->ep->n_watches--;
	watch_unlink(w);
	slab_free(&host->watches, w);
}

int epoll_watch_add(struct thr *t, struct epoll *ep, struct file *f, int fd, uint32_t events, uint64_t data)
{
	struct watch *w;

	if (f->kind == FILE_EPOLL && f->ep == ep)
		return -EINVAL;
	if (epoll_find(ep, f, fd))
		return -EEXIST;
	if (epoll_loop_check(ep, f, 0) < 0)
		return -ELOOP;
	w = slab_alloc(&host->watches);
	if (!w)
		return -ENOMEM;
	w->kind = WATCH_EPOLL;
	w->ep = ep;
	w->fd = fd;
	w->slot = t->slot;
	w->exclusive = !!(events & (uint32_t)EPOLLEXCLUSIVE);
	watch_set_events(w, events, data);
	watch_link(w, f);
	watch_all_link(w, ep);
	watch_look(t, w);
	return 0;
}

int epoll_watch_mod(struct thr *t, struct epoll *ep, struct file *f, int fd, uint32_t events, uint64_t data)
{
	struct watch *w = epoll_find(ep, f, fd);

	if (!w)
		return -ENOENT;
	if (w->exclusive || (events & (uint32_t)EPOLLEXCLUSIVE))
		return -EINVAL;
	watch_set_events(w, events, data);
	watch_look(t, w);
	return 0;
}

int epoll_watch_del(struct thr *t, struct epoll *ep, struct file *f, int fd)
{
	struct watch *w = epoll_find(ep, f, fd);

	(void)t;
	if (!w)
		return -ENOENT;
	epoll_watch_free(w);
	return 0;
}

int epoll_collect(struct thr *t, struct epoll *ep, struct epoll_event *ret, int max)
{
	uint32_t look = ep->n_ready; /* those put back at the end are for the next call */
	int n = 0;

	while (look-- && n < max) {
		struct watch *w = ep->ready;
		uint32_t bits;

		ready_unlink(w);
		if (w->disabled)
			continue;
		bits = file_poll(w->file) & (w->events | EV_ALWAYS);
		if (!bits)
			continue;
		ret[n].events = bits;
		ret[n].data.u64 = w->data;
		n++;
		w->file->home_wait = t->waiter_index;
		if (w->flags & (uint32_t)EPOLLONESHOT)
			w->disabled = 1;
		else if (!(w->flags & (uint32_t)EPOLLET))
			ready_push(w);
	}
	return n;
}

bool epoll_has_ready(struct epoll *ep)
{
	while (ep->ready) {
		struct watch *w = ep->ready;

		if (!w->disabled && file_poll(w->file) & (w->events | EV_ALWAYS))
			return true;
		ready_unlink(w);
	}
	return false;
}

void epoll_sleep_arm(struct thr *t, struct epoll *ep)
{
	struct waiter *w = t->waiter;

	if (w->ep_prev)
		return;
	w->ep_next = ep->sleepers;
	w->ep_prev = &ep->sleepers;
	if (w->ep_next)
		w->ep_next->ep_prev = &w->ep_next;
	ep->sleepers = w;
}

void epoll_sleep_disarm(struct thr *t, struct epoll *ep)
{
	sleeper_unlink(t->waiter);
	if (ep->ready && ep->sleepers) /* more than we took: the next one shall look too */
		epoll_wake(t, ep, 0);
}

/* ---- ends ---- */

void watch_drop_all(struct thr *t, struct file *f)
{
	struct watch *next;

	passed_unlink(f);

	for (struct watch *w = f->watches; w; w = next) {
		next = w->next;
		if (w->kind == WATCH_EPOLL) {
			epoll_watch_free(w);
		} else { /* its thread frees it when it returns */
			watch_unlink(w);
			thr_wake_later(t, w->waiter);
		}
	}
	f->watches = NULL;
}

void epoll_drop(struct thr *t, struct epoll *ep)
{
	while (ep->all) {
		struct watch *w = ep->all;
		struct file *left = w->exclusive && w->queued ? w->file : NULL;

		epoll_watch_free(w);
		if (left) /* who was woken for it will not come */
			file_notify(t, left, file_poll(left));
	}
	while (ep->sleepers)
		epoll_wake(t, ep, NEST_MAX);
}

void ready_waiter_drop(struct thr *t, struct waiter *w)
{
	sleeper_unlink(w);
	queue_sleeper_drop(w);
	waiter_pass_on(t, w);
	waiter_watches_free(w);
	file_release_all(t, w);
}

void ready_slot_let_go(struct thr *t, uint32_t slot)
{
	for (struct waiter *w = host->slot[slot].waiters; w; w = w->next)
		ready_waiter_drop(t, w);
}

void ready_slot_drop(struct thr *t, uint32_t slot)
{
	struct waiter *w, *next;
	bool owed = false;

	for (w = host->slot[slot].waiters; w; w = next) {
		next = w->next;
		owed |= w->owes != 0; /* it died between unlocking and waking */
		ready_waiter_drop(t, w);
		slab_free(&host->waiters, w);
	}
	host->slot[slot].waiters = NULL;
	if (owed)
		waiters_wake_all();
}

/* ---- repair ---- */

/* Is @obj a live object of @s? Pointers in a half-made object may be anything old. */
static bool live(const struct slab *s, const void *obj)
{
	return obj && slab_at(s, slab_index(s, obj)) == obj;
}

static void repair_reset(void)
{
	struct waiter *wt;
	struct epoll *ep;
	struct file *f;

	host->passed = NULL;
	for (uint32_t c = 0; (f = slab_next(&host->files, &c));) {
		f->watches = NULL;
		f->passed_prev = NULL;
		f->kopts = NULL;
	}
	for (uint32_t c = 0; (ep = slab_next(&host->epolls, &c));) {
		if (!live(&host->files, ep->file) || ep->file->ep != ep) { /* died before it had its file */
			slab_free(&host->epolls, ep);
			continue;
		}
		ep->all = ep->ready = NULL;
		ep->ready_tail = &ep->ready;
		ep->sleepers = NULL;
		ep->n_watches = ep->n_ready = 0;
	}
	for (uint32_t i = 0; i < host->slot_top; i++) /* not SLOTS_MAX: to write to a slot makes its memory */
		host->slot[i].waiters = NULL;
	host->queue.sleeper = NULL;
	host->queue.passenger = NULL;
	for (uint32_t c = 0; (wt = slab_next(&host->waiters, &c));) {
		struct slot *s = &host->slot[wt->slot % SLOTS_MAX];

		if (!wt->slot) { /* died before it was filled in */
			slab_free(&host->waiters, wt);
			continue;
		}
		wt->watches = NULL;
		wt->ep_prev = NULL;
		wt->q_prev = NULL;
		wt->next = s->waiters;
		wt->prev = &s->waiters;
		if (wt->next)
			wt->next->prev = &wt->next;
		s->waiters = wt;
	}
}

/* A half-made one has no owner yet. */
static void kopts_repair(void)
{
	struct kopt *k;

	slab_rebuild(&host->kopts);
	for (uint32_t c = 0; (k = slab_next(&host->kopts, &c));) {
		struct file *f = file_get(k->owner);

		if (!f) {
			slab_free(&host->kopts, k);
			continue;
		}
		k->next = f->kopts;
		f->kopts = k;
	}
}

void ready_repair(void)
{
	struct watch *w;

	slab_rebuild(&host->files);
	slab_rebuild(&host->epolls);
	slab_rebuild(&host->watches);
	slab_rebuild(&host->waiters);
	repair_reset();
	kopts_repair();
	passports_repair();
	exports_repair();
	for (uint32_t c = 0; (w = slab_next(&host->watches, &c));) {
		w->queued = 0;
		w->prev = NULL;
		if (!live(&host->files, w->file) || (w->kind == WATCH_EPOLL && !live(&host->epolls, w->ep)) ||
		    (w->kind == WATCH_THREAD && !live(&host->waiters, w->waiter))) {
			slab_free(&host->watches, w);
			continue;
		}
		watch_link(w, w->file);
		if (w->kind == WATCH_THREAD) {
			w->sibling = w->waiter->watches;
			w->waiter->watches = w;
		} else {
			watch_all_link(w, w->ep);
			ready_push(w); /* an event too many is allowed, one too few is not */
		}
	}
}
