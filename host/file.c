/* SPDX-License-Identifier: BSD-2-Clause */
/* file.c - open file descriptions: shared by dup and fork, gone with the last number and the last call in progress */
#include "../stack/tcb.h"
#include "ready.h"
#include "slot.h"

uint64_t file_handle(const struct file *f)
{
	return slab_handle(&host->files, f);
}

struct file *file_get(uint64_t handle)
{
	return slab_get(&host->files, handle);
}

void file_ref(struct file *f)
{
	atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
}

struct file *file_new(enum file_kind kind, int family)
{
	struct file *f = slab_alloc(&host->files);

	if (!f)
		return NULL;
	file_moves(f);
	f->kind = (uint8_t)kind;
	f->family = (uint8_t)family;
	return f;
}

struct file *epoll_file_new(void)
{
	struct file *f = file_new(FILE_EPOLL, 0);
	struct epoll *ep;

	if (!f)
		return NULL;
	ep = slab_alloc(&host->epolls);
	if (!ep) {
		slab_free(&host->files, f);
		return NULL;
	}
	ep->file = f;
	ep->ready_tail = &ep->ready;
	f->ep = ep;
	return f;
}

/* Not after a repair that found the file half freed: its connection may be an orphan by then, or gone. */
static bool tcb_is_ours(const struct file *f)
{
	const struct tcb *t = f->tcb;
	const struct stack *st = host->shard.stack;

	return slab_at(&st->tcbs, slab_index(&st->tcbs, t)) == t && t->ev.user == file_handle(f) && !(t->flags & TF_ORPHAN);
}

/* The last reference is gone: what a kernel does in release(). */
static void file_free(struct thr *t, struct file *f)
{
	struct stack *st = host->shard.stack;

	watch_drop_all(t, f);
	while (f->kopts) {
		struct kopt *k = f->kopts;

		f->kopts = k->next;
		slab_free(&host->kopts, k);
	}
	if (f->tcb && tcb_is_ours(f))
		tcp_close(st, f->tcb, t->now); /* events that still come find a stale handle */
	if (f->ep && slab_at(&host->epolls, slab_index(&host->epolls, f->ep)) == f->ep) {
		epoll_drop(t, f->ep);
		slab_free(&host->epolls, f->ep);
	}
	slab_free(&host->files, f);
}

void file_unref(struct thr *t, struct file *f)
{
	if (f && atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) == 1 && !f->holds)
		file_free(t, f);
}

void file_moves(struct file *f)
{
	struct file **moving = host->shard.moving;

	if (moving[0] == f)
		return;
	moving[1] = moving[0];
	moving[0] = f;
}

static bool is_live(const struct slab *s, const void *obj)
{
	return obj && slab_at(s, slab_index(s, obj)) == obj;
}

static void holds_recount(void)
{
	struct waiter *w;
	struct file *f;

	for (uint32_t c = 0; (f = slab_next(&host->files, &c));)
		f->holds = 0;
	for (uint32_t c = 0; (w = slab_next(&host->waiters, &c));)
		for (int i = 0; i < WAITER_HELD; i++)
			if (is_live(&host->files, w->held[i]))
				w->held[i]->holds++;
			else
				w->held[i] = NULL;
}

/* Taken from an accept queue or just made, and its file was not told yet, or has gone. */
static void tcbs_unowned_close(struct thr *t)
{
	struct stack *st = host->shard.stack;
	struct tcb *c;

	for (uint32_t at = 0; (c = slab_next(&st->tcbs, &at));) {
		const struct file *f = c->ev.user ? file_get(c->ev.user) : NULL;

		if (!(c->flags & (TF_ORPHAN | TF_ACCEPTQ)) && (!f || f->tcb != c))
			tcp_close(st, c, t->now);
	}
}

/*
 * What stands in two places (a count here, an entry of a table or a place in held[] there) is changed by two stores, and the
 * dead one may have made only the first. The places are the truth. Of descriptors there may be very many, so only those of the
 * files that were moving are looked for. A file that nobody has was being made or freed.
 */
void files_repair(struct thr *t)
{
	struct file *f;

	holds_recount();
	for (int i = 0; i < 2; i++)
		if (is_live(&host->files, host->shard.moving[i]))
			fdtab_recount(host->shard.moving[i]);
	for (uint32_t c = 0; (f = slab_next(&host->files, &c));)
		if (!f->refs && !f->holds)
			file_free(t, f);
	tcbs_unowned_close(t);
	host->shard.moving[0] = host->shard.moving[1] = NULL;
}

void file_hold(struct thr *t, struct file *f)
{
	for (int i = 0; i < WAITER_HELD; i++) {
		if (!t->waiter->held[i]) {
			t->waiter->held[i] = f;
			f->holds++;
			return;
		}
	}
	file_ref(f); /* handlers nested deeper than anybody does: kept, but not given back if the process dies */
}

static bool held_drop(struct waiter *w, const struct file *f)
{
	for (int i = WAITER_HELD - 1; i >= 0; i--) {
		if (w->held[i] == f) {
			w->held[i] = NULL;
			return true;
		}
	}
	return false;
}

void file_release(struct thr *t, struct file *f)
{
	if (!held_drop(t->waiter, f))
		file_unref(t, f);
	else if (!--f->holds && !f->refs)
		file_free(t, f);
}

void file_release_all(struct thr *t, struct waiter *w)
{
	for (int i = 0; i < WAITER_HELD; i++) {
		struct file *f = w->held[i];

		w->held[i] = NULL;
		if (f && !--f->holds && !f->refs)
			file_free(t, f);
	}
}

uint32_t file_poll(const struct file *f)
{
	if (f->kind == FILE_EPOLL)
		return epoll_has_ready(f->ep) ? EPOLLIN | EPOLLRDNORM : 0;
	return f->kind == FILE_TCP ? tcp_poll(f->tcb) : 0; /* undecided: the kernel's socket under the number reports */
}
