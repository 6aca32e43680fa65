/* SPDX-License-Identifier: BSD-2-Clause */
/* file.c - open file descriptions: shared by dup and fork, gone with the last number and the last call in progress */
#include "../stack/tcb.h"
#include "ready.h"

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
	host->shard.making = f;
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

	return slab_at(&st->tcbs, slab_index(&st->tcbs, t)) == t && tcp_user(t) == file_handle(f);
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
	if (f && atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) == 1)
		file_free(t, f);
}

/*
 * A file is made and numbered under one hold of the lock: what was being made has the references of its numbers, no more. One
 * without a reference was being freed; nobody else can have it.
 */
void files_repair(struct thr *t)
{
	struct file *f, *making = host->shard.making;

	for (uint32_t c = 0; (f = slab_next(&host->files, &c));) {
		if (f == making)
			f->refs = f->numbers;
		if (!f->refs)
			file_free(t, f);
	}
	host->shard.making = NULL;
}

void file_hold(struct thr *t, struct file *f)
{
	file_ref(f);
	for (int i = 0; i < WAITER_HELD; i++) {
		if (!t->waiter->held[i]) {
			t->waiter->held[i] = f;
			return;
		}
	}
}

void file_release(struct thr *t, struct file *f)
{
	for (int i = WAITER_HELD - 1; i >= 0; i--) {
		if (t->waiter->held[i] == f) {
			t->waiter->held[i] = NULL;
			break;
		}
	}
	file_unref(t, f);
}

uint32_t file_poll(const struct file *f)
{
	if (f->kind == FILE_EPOLL)
		return epoll_has_ready(f->ep) ? EPOLLIN | EPOLLRDNORM : 0;
	return f->kind == FILE_TCP ? tcp_poll(f->tcb) : 0; /* undecided: the kernel's socket under the number reports */
}
