/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lock.c - the shard lock, and what happens when its holder dies or is stopped
 *
 * Theory of operation
 *
 * One futex word in the arena: 0, or the holder's process slot and 16 bits of its thread id, plus two flags. It is not a
 * pthread mutex: glibc's robust list knows the wrong thread in vfork and raw-clone children (RULES C3, T11), and costs twice
 * as much. Taking and releasing it without contention is one atomic operation each.
 *
 *   CONTENDED   somebody sleeps on the word: who releases wakes one
 *   STOP_AFTER  the holder's process was found stopped (SIGSTOP) inside: it was continued so that it can leave, and stops
 *               itself again as soon as it has released. A kernel finishes a system call before it stops a process; this
 *               is the same for calls that are no longer the kernel's.
 *
 * A waiter that slept 50 ms looks at the holder's process. Gone: it takes the lock over and repairs what the dead one may
 * have left half-made (stack_repair(), ready_repair()). Stopped: as above where it may send the signal, else the shard is
 * marked stalled and the waiter goes on waiting.
 *
 * Threads read the clock before they take the lock, and one may be put off the CPU in between, while others send and set timers
 * at later times than its own. Under the lock time must not go back (a round trip would come out below zero), so whoever takes
 * it begins no earlier than the last holder ended.
 *
 * thr_depth is raised before the word is taken and lowered after it is released: signal handlers are put off in between.
 */
#include <errno.h>
#include <signal.h>
#include <unistd.h>
#include "passenger.h"
#include "ready.h"
#include "slot.h"
#include "sys.h"

#define LOCK_CONTENDED	0x80000000u
#define LOCK_STOP_AFTER 0x40000000u
#define LOCK_FLAGS	(LOCK_CONTENDED | LOCK_STOP_AFTER)
#define LOCK_SLOT(w)	((w) & 0x3fffu)
#define LOCK_SPINS	40 /* about 1 us */
static const struct timespec lock_patience = { .tv_nsec = 50 * 1000 * 1000 };

_Static_assert(SLOTS_MAX <= 0x4000, "a slot fits its 14 bits of the lock word");

_Thread_local volatile int thr_depth __attribute__((tls_model("initial-exec")));
void (*thr_depth0_hook)(void);
volatile bool *thr_signal_pending;

/* Thread that closed the gate of this process, 0: open. */
static _Atomic int gate_owner;

static uint32_t lock_id(const struct thr *t)
{
	return t->slot | ((uint32_t)t->waiter->tid & 0xffffu) << 14;
}

static void time_forward(struct thr *t)
{
	if (t->now < host->shard.now)
		t->now = host->shard.now;
}

static void lock_repair(struct thr *t, uint32_t dead_slot)
{
	t->now = io_now();
	drive_slot_died(t, dead_slot); /* it may have died with the role as well: who takes the lock over need not wait for the keeper */
	stack_repair(host->shard.stack, (uint16_t)dead_slot, t->now);
	ready_repair();
	files_repair(t);
	waiters_wake_all(); /* at once: who repairs may be about to end, and will not leave by thr_leave() */
}

static bool is_held_by(uint32_t word, uint32_t seen)
{
	return (word & ~LOCK_FLAGS) == (seen & ~LOCK_FLAGS);
}

/* Whoever holds the lock by now is none of our business. */
static void stop_after_clear(uint32_t seen)
{
	uint32_t w = host->shard.lock;

	while (is_held_by(w, seen) && !atomic_compare_exchange_weak(&host->shard.lock, &w, w & ~LOCK_STOP_AFTER))
		;
}

/* The holder sleeps stopped inside the lock: let it run until it leaves. */
static void lock_nudge(uint32_t seen)
{
	uint32_t slot = LOCK_SLOT(seen);
	pid_t pid = host->slot[slot].pid;

	if (seen & LOCK_STOP_AFTER) { /* continued by a waiter, and stopped once more before it got out */
		if (host->shard.lock != seen)
			return;
	} else {
		if (!atomic_compare_exchange_strong(&host->shard.lock, &seen, seen | LOCK_STOP_AFTER))
			return; /* it moved: not stopped after all */
		if (slot_life(slot) != SLOT_STOPPED) { /* its user continued it just now, and wants no stop at the end */
			stop_after_clear(seen);
			return;
		}
	}
	if (sys_call(SYS_kill, pid, SIGCONT) < 0) {
		stop_after_clear(seen);
		if (!atomic_exchange(&host->shard.stalled, 1)) /* the keeper may not: who may is asleep, since nobody drives */
			waiters_wake_all();
		if (!is_held_by(host->shard.lock, seen)) /* it has left, before it could see that it was waited for */
			host->shard.stalled = 0;
	}
}

/* Slept in vain: who holds it? Return: true: the lock is ours now, taken from the dead. */
static bool lock_inspect(struct thr *t, uint32_t seen, uint32_t mine)
{
	uint32_t slot = LOCK_SLOT(seen);

	if (passenger) /* it may not look: the keeper and others will */
		return false;

	switch (slot_life(slot)) {
	case SLOT_GONE:
		if (!atomic_compare_exchange_strong(&host->shard.lock, &seen, mine | LOCK_CONTENDED))
			return false;
		lock_repair(t, slot);
		return true;
	case SLOT_STOPPED:
		lock_nudge(seen);
		return false;
	case SLOT_TRACED: /* only its debugger can continue it */
	case SLOT_RUNS:
		return false;
	}
	return false;
}

/* @once: not for ever: false after one look at a holder that is alive */
static bool lock_slow(struct thr *t, uint32_t mine, bool once)
{
	for (int i = 0; i < LOCK_SPINS; i++) {
		uint32_t w = atomic_load_explicit(&host->shard.lock, memory_order_relaxed);

		if (!w && atomic_compare_exchange_weak(&host->shard.lock, &w, mine))
			return true;
		__builtin_ia32_pause();
	}
	for (;;) {
		uint32_t w = host->shard.lock;

		if (!w) { /* others may still sleep: keep the flag */
			if (atomic_compare_exchange_strong(&host->shard.lock, &w, mine | LOCK_CONTENDED))
				return true;
			continue;
		}
		if (!(w & LOCK_CONTENDED)) {
			if (!atomic_compare_exchange_strong(&host->shard.lock, &w, w | LOCK_CONTENDED))
				continue;
			w |= LOCK_CONTENDED;
		}
		if (sys_futex_wait(&host->shard.lock, w, &lock_patience) != -ETIMEDOUT)
			continue;
		if (lock_inspect(t, w, mine))
			return true;
		if (once)
			return false;
	}
}

void shard_lock(struct thr *t)
{
	uint32_t free = 0, mine = lock_id(t);
	int gate;

	thr_depth++;
	atomic_signal_fence(memory_order_seq_cst);
	if (!atomic_compare_exchange_strong(&host->shard.lock, &free, mine))
		lock_slow(t, mine, false);
	time_forward(t);
	gate = atomic_load_explicit(&gate_owner, memory_order_relaxed);
	if (__builtin_expect(gate != 0, 0) && gate != t->waiter->tid) { /* the process is ending: never to come back */
		shard_unlock(t);
		while (atomic_load(&gate_owner) && atomic_load(&gate_owner) != t->waiter->tid)
			sys_futex_wait(&gate_owner, (unsigned)gate, &lock_patience);
		shard_lock(t);
	}
}

bool shard_trylock(struct thr *t)
{
	uint32_t free = 0;

	thr_depth++;
	atomic_signal_fence(memory_order_seq_cst);
	if (atomic_compare_exchange_strong(&host->shard.lock, &free, lock_id(t))) {
		time_forward(t);
		return true;
	}
	atomic_signal_fence(memory_order_seq_cst);
	thr_depth--;
	return false;
}

bool shard_lock_once(struct thr *t)
{
	uint32_t free = 0, mine = lock_id(t);

	thr_depth++;
	atomic_signal_fence(memory_order_seq_cst);
	if (atomic_compare_exchange_strong(&host->shard.lock, &free, mine) || lock_slow(t, mine, true)) {
		time_forward(t);
		return true;
	}
	atomic_signal_fence(memory_order_seq_cst);
	thr_depth--;
	return false;
}

/* Depth is 0 again: what was put off runs now, before anything can sleep. */
void thr_undefer(void)
{
	atomic_signal_fence(memory_order_seq_cst);
	if (--thr_depth == 0 && thr_signal_pending && *thr_signal_pending && thr_depth0_hook)
		thr_depth0_hook();
}

void shard_unlock(struct thr *t)
{
	uint32_t was;

	if (t->now > host->shard.now)
		host->shard.now = t->now;
	stack_touch_clear(host->shard.stack);
	host->shard.moving[0] = host->shard.moving[1] = NULL;
	was = atomic_exchange(&host->shard.lock, 0);
	if (__builtin_expect(was & LOCK_FLAGS, 0)) {
		host->shard.stalled = 0;
		if (was & LOCK_CONTENDED)
			sys_futex_wake(&host->shard.lock, 1);
		if (was & LOCK_STOP_AFTER)
			sys_call(SYS_kill, sys_getpid(), SIGSTOP);
	}
	thr_undefer();
}

void gate_close(void)
{
	int tid = (int)sys_call(SYS_gettid);
	usec_t until = io_now() + MSEC(100);

	if (!host)
		return;
	atomic_store(&gate_owner, tid);
	for (;;) { /* a thread of ours inside leaves soon; it takes microseconds */
		uint32_t w = host->shard.lock;

		if (LOCK_SLOT(w) != slot_self() || !w || (w >> 14 & 0xffffu) == ((uint32_t)tid & 0xffffu) || io_now() > until)
			return;
		sys_call(SYS_sched_yield);
	}
}

void gate_open(void)
{
	atomic_store(&gate_owner, 0);
	sys_futex_wake(&gate_owner, 0x7fffffff);
}
