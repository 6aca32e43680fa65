/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * thr.h - a thread inside the library: its loop, its waiter, what it has taken out of the stack and not yet sent
 *
 * Process-local, in memory that a fork child does not get (MADV_DONTFORK). thr_self() makes it at a thread's first private
 * operation. A call into the library looks like this:
 *
 *	struct thr *t = thr_enter();            bump activity, note the time; NULL: this process has no slot (see slot.h)
 *	shard_lock(t);
 *	... operate on sockets, watches, epolls ...
 *	thr_leave(t);                           events to watchers, output, unlock, then send and wake
 *
 * and one that must wait puts watch_arm() before thr_leave() and drive_wait() after it, then starts over.
 */
#ifndef OWNSTACK_HOST_THR_H
#define OWNSTACK_HOST_THR_H

#include "host.h"

#define THR_WAKES_MAX 64
#define THR_SIGIOS_MAX 16
struct thr_sigio {
	int32_t owner, sig, fd;
	uint32_t bits;	/* band; 0: a plain signal */
};
struct thr {
	struct waiter *waiter;	/* in the arena */
	struct io_waker *waker;	/* the waiter's; the keeper's is host->keeper.waker */
	uint32_t waiter_index, slot;
	struct io_loop *loop;	/* NULL until it first has to send or wait */
	usec_t now;		/* read at entry, and after each sleep; under the shard lock no earlier than another holder's before */
	struct waiter *wakes[THR_WAKES_MAX]; /* to be woken after unlocking */
	uint32_t n_wakes, wake_batch;
	struct thr_sigio sigios[THR_SIGIOS_MAX]; /* to be sent after unlocking */
	uint32_t n_sigios;
	struct pbuf *tx_done;	/* finished frames, to be handed back under the lock */
	uint32_t undelivered;	/* flush rule: events of the last wait the program has not yet acted on, see thr_acted() */
	uint32_t held_ops;	/* operations since output was first held back */
	uint32_t sent_bytes;	/* of payload given to the stack since this thread last looked at the queue; see bulk_turn() */
	usec_t held_since;	/* 0: nothing is held */
	bool role;		/* this thread went to sleep as driver */
	usec_t stack_deadline;	/* next timer, noted under the lock before sleeping as driver */
	uint32_t absence_ewma_us; /* how long it usually stays OUT */
	usec_t out_since;
};

/* Depth of critical sections: signal handlers are put off while it is not 0 (RULES C9). preload/ installs the hook. */
extern _Thread_local volatile int thr_depth __attribute__((tls_model("initial-exec")));
extern void (*thr_depth0_hook)(void); /* process-local: run handlers that were put off; NULL: none */
extern volatile bool *thr_signal_pending; /* process-local flag the hook's owner sets, NULL: none */

/** thr_defer(), thr_undefer() - put handlers off where no lock is held: one thread must not enter its loop twice, nor leave it by siglongjmp() */
static inline void thr_defer(void)
{
	thr_depth++;
	atomic_signal_fence(memory_order_seq_cst);
}
void thr_undefer(void);

struct thr *thr_enter(void);
/** thr_leave() - with the lock held: hand events to watchers, take output unless it may be held back, unlock, send, wake */
void thr_leave(struct thr *t);
/** thr_leave_hold() - same, but output stays in the stack: the caller is about to wait and will send with that */
void thr_leave_hold(struct thr *t);
/** thr_exit() - the thread ends: role given back, waiter and loop freed. Called from a TLS destructor. */
void thr_exit(struct thr *t);
/** thr_loop_close() - what is to be sent is sent, the role given back, the loop closed; the next wait makes another. No lock held. */
void thr_loop_close(struct thr *t);
/** thr_fork_child() - forget the parent's thread state */
void thr_fork_child(void);
/** thr_wake_later() - wake @w after unlocking; its word changes now. Shard lock. */
void thr_wake_later(struct thr *t, struct waiter *w);
/** sigio_queue() - @bits became true on @f, which has O_ASYNC: a signal after unlocking. Shard lock. */
void sigio_queue(struct thr *t, const struct file *f, uint32_t bits);
/** sigurg_queue() - urgent data was announced on @f: SIGURG to its owner after unlocking. Shard lock. */
void sigurg_queue(struct thr *t, const struct file *f);
void sigio_send(struct thr *t); /* no lock held */
/** waiters_wake_all() - every thread that sleeps looks again: where it is not known whom a lost wake was for. Shard lock. */
void waiters_wake_all(void);
/** thr_acted() - the program acts on an event of its last wait: one less to wait for before output must leave (flush rule) */
static inline void thr_acted(struct thr *t, struct file *f)
{
	if (f->home_wait == t->waiter_index && t->undelivered) {
		f->home_wait = 0;
		t->undelivered--;
	}
}

/* ---- lock.c: the shard lock (RULES C1-C4) ---- */
void shard_lock(struct thr *t);
bool shard_trylock(struct thr *t);
/** shard_lock_once() - false where the holder lives and did not let go for 50 ms (stopped in a debugger, say); a dead one's lock is taken */
bool shard_lock_once(struct thr *t);
void shard_unlock(struct thr *t); /* thr_leave() calls it; alone only where nothing changed */
/** gate_close() - exit, _exit, exec: threads of this process inside finish (100 ms at most), new ones wait; gate_open() after a failed exec */
void gate_close(void);
void gate_open(void);

/* ---- drive.c: waiting (RULES C5) ---- */
struct drive_wait {
	usec_t deadline;	/* CLOCK_MONOTONIC, USEC_NEVER */
	const sigset_t *mask;
	struct pollfd *kfds;	/* n_kfds of them, with room for one more, which a passenger takes; NULL: none */
	unsigned n_kfds;
	uint64_t kfds_key;	/* as in struct io_wait: not 0, polls may be left armed for the next wait with this key */
};
/**
 * drive_wait() - sleep until woken, as driver if the role is to be had. No lock held.
 * @seen:	waiter->waker.word, read under the lock together with the look that found nothing
 *
 * Return: > 0: something happened, look again (IO_WAIT_KFD: kfds' revents are filled); 0: deadline passed; -EINTR
 */
int drive_wait(struct thr *t, uint32_t seen, struct drive_wait *w);
/** drive_kfds_forget() - what @key of an earlier wait stood for is about to be closed. No lock held. */
void drive_kfds_forget(struct thr *t, uint64_t key);
/** drive_once() - the one try before EAGAIN or a time-out of 0: take in what waits in the queue if the role is to be had. No lock held. */
void drive_once(struct thr *t);
/**
 * drive_is_due() - the queue was not looked into for 200 us
 *
 * For waits that find events at once: a program whose socket is always writable waits again and again without ever sleeping,
 * and must not keep the wire waiting (a kernel's softirq would not).
 */
bool drive_is_due(const struct thr *t);
/**
 * drive_keeper() - the keeper's turn (RULES H1): sleeps at the pace wanted of it, drives where nobody does, steps back where
 * somebody waits. @epoll_fd: its own descriptors (pidfds, links); @set: private sockets that it waits for, NULL: none. Return: IO_WAIT_KFD bit when @epoll_fd is readable, else look again
 */
struct epoll;
int drive_keeper(struct thr *t, int epoll_fd, struct epoll *set, bool block);
/** keeper_want() - the keeper shall look at this pace at least; wakes it where that is news */
void keeper_want(enum keeper_pace pace);
/** queue_sleeper_drop() - @w no longer sleeps behind the role. Shard lock. */
void queue_sleeper_drop(struct waiter *w);
/** drive_thread_exits() - the role goes back if this thread holds it. No lock held. */
void drive_thread_exits(struct thr *t);
/** drive_slot_died() - the role is taken from a dead process */
void drive_slot_died(struct thr *t, uint32_t slot);

#endif
