/* SPDX-License-Identifier: BSD-2-Clause */
/* thr.c - threads inside the library: made on first use, gone with the thread. Leaving (output, wake-ups) is in drive.c. */
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include "join.h"
#include "passenger.h"
#include "ready.h"
#include "slot.h"
#include "sys.h"
#include "thr.h"

static _Thread_local struct thr *self __attribute__((tls_model("initial-exec")));
static _Thread_local uint32_t self_slot __attribute__((tls_model("initial-exec")));
static pthread_key_t exit_key;
static pthread_once_t exit_key_once = PTHREAD_ONCE_INIT;

static void on_thread_exit(void *p)
{
	if (self_slot == slot_self() && self == p)
		thr_exit(p);
}

static void make_exit_key(void)
{
	pthread_key_create(&exit_key, on_thread_exit);
}

/* The waiter lies in the arena, so that others can wake us: it takes the lock to get one. */
static bool waiter_new(struct thr *t)
{
	struct waiter scratch = { .tid = (int32_t)sys_call(SYS_gettid), .slot = t->slot };
	struct slot *s = &host->slot[t->slot];

	t->waiter = &scratch; /* the lock wants to know who we are */
	shard_lock(t);
	t->waiter = slab_alloc(&host->waiters);
	if (t->waiter) {
		t->waiter->tid = scratch.tid;
		t->waiter->slot = t->slot;
		t->waiter->next = s->waiters;
		t->waiter->prev = &s->waiters;
		if (s->waiters)
			s->waiters->prev = &t->waiter->next;
		s->waiters = t->waiter;
		t->waiter_index = slab_index(&host->waiters, t->waiter);
		/* the keeper is woken by its role, whoever has it, not as a thread: others know no waiter of it */
		t->waker = t->slot == SLOT_KEEPER ? &host->keeper.waker : &t->waiter->waker;
		shard_unlock(t);
		return true;
	}
	t->waiter = &scratch;
	shard_unlock(t);
	return false;
}

static struct thr *thr_new(uint32_t slot)
{
	struct thr *t = (void *)sys_call(SYS_mmap, 0, sizeof(*t), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if ((uintptr_t)t > -4096UL)
		return NULL;
	sys_call(SYS_madvise, t, sizeof(*t), MADV_DONTFORK);
	t->slot = slot;
	if (!waiter_new(t)) {
		sys_call(SYS_munmap, t, sizeof(*t));
		return NULL;
	}
	pthread_once(&exit_key_once, make_exit_key);
	pthread_setspecific(exit_key, t);
	self = t;
	self_slot = slot;
	return t;
}

struct thr *thr_enter(void)
{
	uint32_t slot = slot_self();
	struct thr *t = self;

	if (__builtin_expect(!t || self_slot != slot, 0)) {
		if (!slot || passenger)
			return NULL;
		t = thr_new(slot);
		if (!t)
			return NULL;
	}
	atomic_store_explicit(&host->queue.activity,
			      atomic_load_explicit(&host->queue.activity, memory_order_relaxed) + 1, memory_order_relaxed);
	t->now = io_now();
	return t;
}

void thr_fork_child(void)
{
	self = NULL; /* its memory did not come along */
	self_slot = 0;
	thr_depth = 0;
}

static void waiter_unlink(struct waiter *w)
{
	*w->prev = w->next;
	if (w->next)
		w->next->prev = w->prev;
}

void thr_loop_close(struct thr *t)
{
	struct pbuf *p;

	t->undelivered = 0;
	shard_lock(t);
	thr_leave(t);
	if (t->loop) {
		io_loop_flush(t->loop);
		while ((p = io_loop_tx_reap(t->loop))) {
			struct pbuf *last = p;

			while (last->next)
				last = last->next;
			last->next = t->tx_done;
			t->tx_done = p;
		}
	}
	drive_thread_exits(t);
	io_loop_close(t->loop); /* before the waiter has its next owner: closing writes to the word that others wake it by */
	t->loop = NULL;
	shard_lock(t);
	while ((p = t->tx_done)) {
		t->tx_done = p->next;
		stack_tx_done(host->shard.stack, p);
	}
	shard_unlock(t);
	io_loop_close(t->loop);
	t->loop = NULL;
}

void thr_exit(struct thr *t)
{
	pthread_setspecific(exit_key, NULL);
	thr_defer();
	shard_lock(t);
	ready_waiter_drop(t, t->waiter); /* an unwound thread may leave registrations behind */
	shard_unlock(t);
	thr_loop_close(t);
	shard_lock(t);
	waiter_unlink(t->waiter);
	slab_free(&host->waiters, t->waiter);
	shard_unlock(t);
	self = NULL;
	sys_call(SYS_munmap, t, sizeof(*t));
	thr_undefer();
}
