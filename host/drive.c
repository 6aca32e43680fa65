/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * drive.c - who reads the queue, who sleeps, who is woken (RULES C5, H1, H9)
 *
 * Theory of operation
 *
 * The driver role is the right to read the device's queue. One word says who has it:
 *
 *   FREE                   nobody; the keeper takes it as soon as it looks
 *   WAITING(slot, thread)  that thread sleeps in its ring with a receive armed, until queue.deadline at the latest
 *   OUT(slot, thread)      that thread went back to its application; its receive stays armed and eats nothing meanwhile
 *
 * A thread that must sleep prepares under the shard lock (sleep_prepare): it takes what the stack has to send, tries the
 * role, notes the next timer if it got it, else puts itself on queue.sleeper; then it unlocks, and one io_loop_wait()
 * submits, waits and receives. The role is had from FREE, from OUT of anybody, and from a WAITING keeper, by compare and
 * swap; nobody is asked. A keeper that lost it so wakes at most once more, finds out, and cancels its receive.
 *
 * Frames that a thread gets are always fed to the stack, role or not (rule 2). Going OUT wakes nobody, except where others
 * sleep behind the role and this thread is known to stay away long (rule 5); for the rest the keeper's tick is the back-stop.
 *
 * No wake-up is lost, because each sleeper has a word of its own: it is read under the lock with the look that found nothing
 * and compared by the kernel (or the loop) when going to sleep; a waker changes it under the lock and calls the kernel after
 * unlocking, once per thread and batch. A timer set earlier than the sleeping driver's deadline wakes the driver.
 *
 * A passenger (passenger.c) takes no part in this but as one who sleeps, in queue.passenger, and leaves its output to the keeper.
 *
 * Flush rule: output of a thread leaves when it leaves the library, unless events of its last wait are still to be acted on:
 * then it may stay in the stack for 32 operations or 200 us, so that one submission serves many. The keeper is told first.
 */
#include <errno.h>
#include <poll.h>
#include "join.h"
#include "passenger.h"
#include "ready.h"
#include "slot.h"
#include "sys.h"

#define RX_BATCH	64
#define TX_BATCH	32
#define HOLD_OPS_MAX	32
#define HOLD_MAX_US	200
#define BULK_BYTES	65536 /* so much is not held back, and answers to it may be there already */
#define ABSENCE_LONG_US 100
#define LOOK_FRESH_US	10 /* an EAGAIN this soon after a look at the queue needs no other look */
#define LOOK_DUE_US	200 /* a wait that finds its events ready looks at the queue itself after that long */
#define TICK_US		MSEC(4)
#define SLOW_US		MSEC(100)
#define TICKS_IDLE_MAX	25 /* ticks without need before the pace falls back */

/* ---- the role word ---- */

static uint64_t role_word(enum role_state state, uint32_t slot, uint32_t waiter)
{
	return (uint64_t)waiter << 16 | (uint64_t)slot << 2 | state;
}
static enum role_state role_state_of(uint64_t w)
{
	return (enum role_state)(w & 3);
}
static uint32_t role_slot(uint64_t w)
{
	return w >> 2 & 0x3fff;
}
static uint32_t role_waiter(uint64_t w)
{
	return (uint32_t)(w >> 16);
}

/* Return: true: @t has the role and is WAITING */
static bool role_take(struct thr *t)
{
	uint64_t cur = host->queue.role, mine = role_word(ROLE_WAITING, t->slot, t->waiter_index);

	for (;;) {
		if (cur == mine)
			return true;
		if (role_state_of(cur) == ROLE_WAITING && (role_slot(cur) != SLOT_KEEPER || t->slot == SLOT_KEEPER))
			return false;
		if (atomic_compare_exchange_weak(&host->queue.role, &cur, mine))
			return true;
	}
}

static bool role_is_mine(const struct thr *t)
{
	return host->queue.role == role_word(ROLE_WAITING, t->slot, t->waiter_index);
}

void drive_slot_died(struct thr *t, uint32_t slot)
{
	uint64_t cur = host->queue.role;

	(void)t;
	if (role_state_of(cur) != ROLE_FREE && role_slot(cur) == slot)
		atomic_compare_exchange_strong(&host->queue.role, &cur, role_word(ROLE_FREE, 0, 0));
}

void drive_thread_exits(struct thr *t)
{
	uint64_t cur = host->queue.role;

	if (role_waiter(cur) == t->waiter_index && role_slot(cur) == t->slot && role_state_of(cur) != ROLE_FREE &&
	    atomic_compare_exchange_strong(&host->queue.role, &cur, role_word(ROLE_FREE, 0, 0)))
		io_wake(&host->keeper.waker); /* nobody reads the queue now */
}

/* ---- waking others ---- */

/* The keeper has one that does not go when it dies. */
static struct io_waker *waker_of(struct waiter *w)
{
	return w->slot == SLOT_KEEPER ? &host->keeper.waker : &w->waker;
}

void thr_wake_later(struct thr *t, struct waiter *w)
{
	__atomic_fetch_add(&waker_of(w)->word, 1, __ATOMIC_SEQ_CST); /* pairs with the read of the word before sleeping */
	if (w == t->waiter || (w->wake_at < t->n_wakes && t->wakes[w->wake_at] == w))
		return;
	if (t->n_wakes == THR_WAKES_MAX) { /* rare: a crowd on one socket */
		io_wake(waker_of(w));
		return;
	}
	if (!t->n_wakes)
		t->waiter->owes = ++t->wake_batch ? t->wake_batch : ++t->wake_batch;
	/* Not a flag: were its setter killed before the system call, the sleeper would never be woken again. A place proves itself. */
	w->wake_at = t->n_wakes;
	t->wakes[t->n_wakes++] = w;
}

/* Without the lock: a waiter freed meanwhile only costs a needless wake-up, its memory stays. */
static void wakes_send(struct thr *t)
{
	if (t->n_sigios)
		sigio_send(t);
	if (!t->n_wakes)
		return;
	for (unsigned i = 0; i < t->n_wakes; i++)
		io_wake(waker_of(t->wakes[i]));
	t->n_wakes = 0;
	atomic_store_explicit(&t->waiter->owes, 0, memory_order_release); /* release: the wakes come first */
}

void waiters_wake_all(void)
{
	struct waiter *w;

	for (uint32_t c = 0; (w = slab_next(&host->waiters, &c));)
		io_wake(waker_of(w));
}

void keeper_want(enum keeper_pace pace)
{
	uint32_t cur = host->keeper.pace;

	while (cur < pace)
		if (atomic_compare_exchange_weak(&host->keeper.pace, &cur, pace)) {
			io_wake(&host->keeper.waker);
			return;
		}
}

/*
 * Back to the application. @t may have lost the role meanwhile: then nothing changes. From now on the keeper must look now
 * and then; the role may even have been taken from a keeper that went to sleep as driver, until a frame would wake it.
 */
static void role_out(struct thr *t)
{
	uint64_t mine = role_word(ROLE_WAITING, t->slot, t->waiter_index);

	atomic_compare_exchange_strong(&host->queue.role, &mine, role_word(ROLE_OUT, t->slot, t->waiter_index));
	t->out_since = t->now;
	keeper_want(KEEPER_SLOW);
}

void queue_sleeper_drop(struct waiter *w)
{
	if (!w->q_prev)
		return;
	*w->q_prev = w->q_next;
	if (w->q_next)
		w->q_next->q_prev = w->q_prev;
	w->q_prev = NULL;
}

static void sleeper_link(struct waiter **list, struct waiter *w)
{
	if (w->q_prev)
		return;
	w->q_next = *list;
	w->q_prev = list;
	if (w->q_next)
		w->q_next->q_prev = &w->q_next;
	*list = w;
}

/* Somebody who sleeps behind the role shall take it. Shard lock. */
static void sleeper_promote(struct thr *t)
{
	struct waiter *w = host->queue.sleeper;

	if (w) {
		queue_sleeper_drop(w);
		thr_wake_later(t, w);
	}
}

/* ---- taking from and giving to the stack, under the lock ---- */

static void tx_done_return(struct thr *t)
{
	struct pbuf *p;

	while ((p = t->tx_done)) {
		t->tx_done = p->next;
		stack_tx_done(host->shard.stack, p);
	}
}

static void tx_reap(struct thr *t)
{
	struct pbuf *p = t->loop ? io_loop_tx_reap(t->loop) : NULL;

	while (p) {
		struct pbuf *next = p->next;

		p->next = t->tx_done;
		t->tx_done = p;
		p = next;
	}
}

static void events_deliver(struct thr *t)
{
	struct stack_event ev;

	while (stack_event(host->shard.stack, &ev)) {
		struct file *f = ev.user ? file_get(ev.user) : NULL;

		if (f)
			file_notify(t, f, ev.what);
	}
}

/* Taking output may make events: frames to ourselves are delivered there. */
static struct pbuf *output_take(struct thr *t, int max)
{
	struct pbuf *first = NULL, **end = &first, *p;

	while (max-- > 0 && (p = stack_output(host->shard.stack, t->now))) {
		p->owner = (uint16_t)t->slot;
		p->next = NULL;
		*end = p;
		end = &p->next;
	}
	if (first || !stack_output_pending(host->shard.stack)) { /* all of it may have been for ourselves, and no frame came out */
		t->held_since = 0;
		t->held_ops = 0;
		host->queue.held = 0;
	}
	events_deliver(t);
	return first;
}

/* A timer earlier than the sleeping driver knows of: it must look again. */
static void deadline_publish(struct thr *t)
{
	uint64_t role = host->queue.role;
	usec_t next = stack_deadline(host->shard.stack);
	struct waiter *w;

	if (role_state_of(role) != ROLE_WAITING || role_waiter(role) == t->waiter_index || next >= host->queue.deadline)
		return;
	host->queue.deadline = next;
	if (role_slot(role) == SLOT_KEEPER) {
		io_wake(&host->keeper.waker);
		return;
	}
	w = slab_at(&host->waiters, role_waiter(role));
	if (w)
		thr_wake_later(t, w);
}

/* ---- the loop of this thread ---- */

/* Return: false: no way to the device, frames are lost as on an unplugged cable */
static bool loop_ensure(struct thr *t)
{
	struct io_loop_config cfg = { .kind = (enum io_kind)host->dev_kind, .level = (enum io_level)host->io_level,
				      .pcap_path = host->pcap_path[0] ? host->pcap_path : NULL,
				      .impair = host->impair[0] ? host->impair : NULL };

	if (t->loop)
		return true;
	cfg.queue_fd = host_queue_fd();
	return cfg.queue_fd >= 0 && io_loop_open(&t->loop, &cfg, t->waker) == 0;
}

static void output_discard(struct thr *t, struct pbuf *list)
{
	while (list) {
		struct pbuf *next = list->next;

		list->next = t->tx_done;
		t->tx_done = list;
		list = next;
	}
}

static void output_queue(struct thr *t, struct pbuf *list)
{
	if (!list)
		return;
	if (loop_ensure(t))
		io_loop_tx(t->loop, list);
	else
		output_discard(t, list);
}

/* ---- leaving the library ---- */

static bool input_locked(struct thr *t, bool rx);

/* May what the stack has to send stay there a little? */
static bool output_may_wait(struct thr *t)
{
	if (!t->undelivered)
		return false;
	if (!t->held_since) {
		t->held_since = t->now;
		t->held_ops = 0;
	}
	if (++t->held_ops > HOLD_OPS_MAX || t->now - t->held_since > HOLD_MAX_US)
		return false;
	host->queue.held = 1;
	keeper_want(KEEPER_TICK);
	return true;
}

/* With the lock. @sleeps: to wait; then somebody must drive. What a passenger cannot do itself the keeper is rung for. */
static void leave_as_passenger(struct thr *t, bool sleeps)
{
	bool ring;

	tx_done_return(t);
	t->undelivered = t->sent_bytes = 0;
	if (sleeps)
		sleeper_link(&host->queue.passenger, t->waiter);
	events_deliver(t);
	ring = stack_output_pending(host->shard.stack) || (sleeps && role_state_of(host->queue.role) != ROLE_WAITING);
	deadline_publish(t);
	if (stack_live(host->shard.stack))
		keeper_want(KEEPER_SLOW);
	shard_unlock(t);
	wakes_send(t);
	if (ring)
		passenger_ring();
}

/**
 * bulk_turn() - send much, and take in at once what answers it
 *
 * The peer may have acknowledged while it was sent (on one machine it has). Then the cells are free again while their memory
 * is still in the cache, and the next write has them; else a whole send buffer of cold memory would be gone through in turn.
 *
 * Return: true: done, and the lock is held; false: somebody else reads the queue, nothing was done
 */
static bool bulk_turn(struct thr *t)
{
	struct io_wait iw = { .rx = true, .block = false, .deadline = USEC_NEVER, .wake_seen = t->waker->word };

	t->sent_bytes = 0;
	if (t->slot == SLOT_KEEPER || !loop_ensure(t) || !role_take(t))
		return false;
	atomic_store_explicit(&host->queue.looked_at, t->now, memory_order_relaxed);
	io_loop_wait(t->loop, &iw);
	input_locked(t, true);
	role_out(t);
	if (host->queue.sleeper || host->queue.passenger)
		keeper_want(KEEPER_TICK); /* it may have been the keeper that had the role, for them */
	return true;
}

void thr_leave(struct thr *t)
{
	thr_defer();
	if (__builtin_expect(passenger, 0)) {
		leave_as_passenger(t, false);
		thr_undefer();
		return;
	}
	for (;;) {
		bool bulk = t->sent_bytes >= BULK_BYTES;
		struct pbuf *out = NULL;

		tx_done_return(t);
		events_deliver(t);
		if (stack_output_pending(host->shard.stack) && (bulk || !output_may_wait(t)))
			out = output_take(t, TX_BATCH);
		deadline_publish(t);
		if (stack_live(host->shard.stack))
			keeper_want(KEEPER_SLOW);
		shard_unlock(t);
		wakes_send(t);
		if (!out && !bulk)
			break;
		output_queue(t, out);
		if (bulk && bulk_turn(t))
			continue;
		if (t->loop)
			io_loop_flush(t->loop);
		tx_reap(t);
		if (!t->tx_done)
			break;
		shard_lock(t);
	}
	thr_undefer();
}

/* Under the lock, about to sleep. Gives the frames to send. */
static struct pbuf *sleep_prepare(struct thr *t)
{
	struct pbuf *out;

	tx_done_return(t);
	out = output_take(t, TX_BATCH);
	t->undelivered = t->sent_bytes = 0;
	t->role = role_take(t);
	if (t->role) {
		queue_sleeper_drop(t->waiter);
		t->stack_deadline = stack_deadline(host->shard.stack);
		host->queue.deadline = t->stack_deadline;
	} else {
		sleeper_link(&host->queue.sleeper, t->waiter);
		deadline_publish(t);
	}
	if (stack_live(host->shard.stack))
		keeper_want(KEEPER_SLOW);
	return out;
}

/* Takes the lock off. Nothing that could be sent stays in the stack: nobody would come for it while all sleep. */
static void sleep_enter(struct thr *t)
{
	for (;;) {
		struct pbuf *out = sleep_prepare(t);
		bool more = stack_output_pending(host->shard.stack);

		shard_unlock(t);
		wakes_send(t);
		output_queue(t, out);
		if (!more || !t->loop)
			return;
		io_loop_flush(t->loop);
		tx_reap(t);
		if (!out && !t->tx_done) /* out of frames, and others have them: they go on */
			return;
		shard_lock(t);
	}
}

void thr_leave_hold(struct thr *t)
{
	thr_defer();
	if (__builtin_expect(passenger, 0))
		leave_as_passenger(t, true);
	else
		sleep_enter(t);
	thr_undefer();
}

/* ---- input ---- */

/*
 * Frames and timers into the stack, events to watchers. Returns with the lock held, so that the caller can go on from there.
 * @rx: the role is held, so that the queue may be read
 *
 * Return: were there frames
 */
static bool input_locked(struct thr *t, bool rx)
{
	struct frame frames[RX_BATCH];
	bool some = false;
	int n;

	tx_reap(t);
	for (;;) {
		n = t->loop ? io_loop_rx(t->loop, frames, RX_BATCH, rx) : 0; /* may make system calls: not under the lock */
		shard_lock(t);
		t->now = io_now(); /* not before the lock: what came answers what others sent meanwhile */
		for (int i = 0; i < n; i++)
			stack_input(host->shard.stack, &frames[i], t->now);
		if (n <= 0)
			break;
		some = true;
		io_loop_rx_done(t->loop);
		atomic_store_explicit(&host->queue.looked_at, t->now, memory_order_relaxed);
		if (n < RX_BATCH && io_loop_level(t->loop) == IO_LEVEL_FULL)
			break; /* completions are made by the wait alone: there are no more */
		shard_unlock(t);
	}
	stack_expire(host->shard.stack, t->now);
	tx_done_return(t);
	events_deliver(t);
	return some;
}

static void absence_note(struct thr *t)
{
	if (t->out_since) {
		uint64_t away = t->now - t->out_since;

		t->absence_ewma_us = (uint32_t)((t->absence_ewma_us * 7 + (away > 100000 ? 100000 : away)) / 8);
		t->out_since = 0;
	}
}

/*
 * Back to the application. Others may sleep behind a role that nobody fills now: a driver that stays away long hands it on,
 * for the rest the keeper ticks. That goes for one without the role as well: it may have been woken to take it, and did not.
 */
static void role_leave(struct thr *t)
{
	if (t->role)
		role_out(t);
	if ((!host->queue.sleeper && !host->queue.passenger) || role_state_of(host->queue.role) == ROLE_WAITING)
		return;
	if (host->queue.sleeper && t->role && t->absence_ewma_us > ABSENCE_LONG_US)
		sleeper_promote(t);
	else
		keeper_want(KEEPER_TICK);
}

int drive_wait(struct thr *t, uint32_t seen, struct drive_wait *w)
{
	if (__builtin_expect(passenger, 0))
		return passenger_drive(t, seen, w);
	absence_note(t);
	if (!loop_ensure(t)) { /* no ring and no descriptor to be had: the role goes to who can use it */
		drive_thread_exits(t);
		shard_lock(t);
		queue_sleeper_drop(t->waiter);
		shard_unlock(t);
		return -ENOBUFS;
	}
	for (;;) {
		struct io_wait iw = { .rx = t->role, .block = true, .wake_seen = seen, .deadline = w->deadline,
				      .mask = w->mask, .kfds = w->kfds, .n_kfds = w->n_kfds, .kfds_key = w->kfds_key };
		bool woken;
		int r;

		if (t->role && t->stack_deadline < iw.deadline)
			iw.deadline = t->stack_deadline;
		r = io_loop_wait(t->loop, &iw);
		input_locked(t, t->role);
		woken = t->waker->word != seen;
		if (woken || r < 0 || (r > 0 && (r & IO_WAIT_KFD)) || t->now >= w->deadline) {
			queue_sleeper_drop(t->waiter);
			role_leave(t);
			shard_unlock(t);
			wakes_send(t);
			if (r < 0)
				return r;
			return woken || r > 0 ? r | IO_WAIT_WAKE : 0;
		}
		sleep_enter(t); /* nothing for us: on with it */
	}
}

void drive_kfds_forget(struct thr *t, uint64_t key)
{
	thr_defer();
	if (t->loop)
		io_loop_kfds_forget(t->loop, key);
	thr_undefer();
}

void drive_once(struct thr *t)
{
	struct io_wait iw = { .rx = true, .block = false, .deadline = USEC_NEVER, .wake_seen = t->waker->word };

	if (t->now - host->queue.looked_at < LOOK_FRESH_US || passenger || !loop_ensure(t))
		return;
	thr_defer();
	if (role_take(t)) {
		atomic_store_explicit(&host->queue.looked_at, t->now, memory_order_relaxed);
		io_loop_wait(t->loop, &iw);
		input_locked(t, true);
		role_out(t);
		thr_leave(t);
	}
	thr_undefer();
}

bool drive_is_due(const struct thr *t)
{
	return t->now - host->queue.looked_at >= LOOK_DUE_US;
}

/* ---- the keeper (RULES H1) ---- */

/* What the keeper saw when it last looked. */
struct keeper_look {
	uint64_t activity, role;
	uint64_t unread_at; /* queue.looked_at when frames were waiting for a driver that stood as WAITING; 0: none were */
	usec_t owes_at;	    /* when promised wakes were last looked after */
	unsigned idle_ticks;
};

static bool queue_readable(void)
{
	struct pollfd p = { .fd = host_queue_fd(), .events = POLLIN };

	return sys_call(SYS_poll, &p, 1, 0) == 1 && p.revents;
}

/**
 * driver_fails() - the driver sleeps and frames wait: is it unable to take them?
 * @still:	nobody at all has moved since the last look
 *
 * Stopped or gone: yes. Else it may only not have had the CPU yet; but one that has read nothing from one look to the next is
 * unable for a reason we cannot see (frozen, or a thread that ended without a word). Two may read for a while, nothing is lost by it.
 * Where others move (a timer of theirs is enough) the machine may be busy: only the second look asks, and only for the former.
 */
static bool driver_fails(struct keeper_look *look, uint64_t role, bool still)
{
	uint64_t looked_at = host->queue.looked_at;
	bool again = look->unread_at == looked_at + 1;

	look->unread_at = 0;
	if (role_slot(role) == SLOT_KEEPER || !queue_readable())
		return false;
	look->unread_at = looked_at + 1;
	return (again && still) || ((again || still) && slot_life(role_slot(role)) != SLOT_RUNS);
}

/*
 * The role has not moved since the last look: is somebody needed? Under the lock. Return: true: the keeper shall drive
 * @still:	nobody has moved. Who is OUT may be computing otherwise, or about to come back
 */
static bool keeper_stand_in(struct thr *t, struct keeper_look *look, uint64_t role, bool still)
{
	switch (role_state_of(role)) {
	case ROLE_FREE:
	case ROLE_OUT:
		if (!still || !host->queue.sleeper)
			return still;
		sleeper_promote(t);
		return false;
	case ROLE_WAITING: /* asleep with frames in the queue: stopped, or gone and not yet noticed */
		return driver_fails(look, role, still) &&
		       atomic_compare_exchange_strong(&host->queue.role, &role, role_word(ROLE_FREE, 0, 0));
	}
	return false;
}

/*
 * Who was stopped between unlocking and its last FUTEX_WAKE owes wakes until it is continued. Once a second all threads are
 * looked through for a batch that was there a second ago; whom it was for is not known, so all look again.
 */
static void owed_look(struct keeper_look *look, usec_t now)
{
	bool stuck = false;
	struct waiter *w;

	if (now - look->owes_at < SEC(1))
		return;
	look->owes_at = now;
	for (uint32_t c = 0; (w = slab_next(&host->waiters, &c));) {
		uint32_t owes = w->owes;

		if (owes && w->owes_seen == owes && atomic_compare_exchange_strong(&w->owes, &owes, 0))
			stuck = true;
		w->owes_seen = owes;
	}
	if (stuck)
		waiters_wake_all();
}

/* How long may the keeper sleep? Lowers the pace where nothing needs it. Under the lock. */
static usec_t keeper_next(struct thr *t, struct keeper_look *look)
{
	uint32_t tick = KEEPER_TICK, slow = KEEPER_SLOW;
	bool sleepers = host->queue.sleeper || host->queue.passenger;
	bool need_tick = host->queue.held || host->passed || (sleepers && role_state_of(host->queue.role) == ROLE_OUT);

	if (host->keeper.pace == KEEPER_TICK && !need_tick && ++look->idle_ticks >= TICKS_IDLE_MAX)
		atomic_compare_exchange_strong(&host->keeper.pace, &tick, KEEPER_SLOW);
	if (need_tick || host->keeper.pace != KEEPER_TICK)
		look->idle_ticks = 0;
	if (host->keeper.pace == KEEPER_TICK)
		return t->now + TICK_US;
	/* Also as driver: the role may be taken from it while it sleeps, and it is not told. */
	if (role_state_of(host->queue.role) == ROLE_OUT || stack_live(host->shard.stack))
		return t->now + SLOW_US;
	atomic_compare_exchange_strong(&host->keeper.pace, &slow, KEEPER_ASLEEP);
	return USEC_NEVER;
}

int drive_keeper(struct thr *t, int epoll_fd, struct epoll *set, bool block)
{
	static struct keeper_look look; /* one keeper, one thread */
	struct pollfd kfd = { .fd = epoll_fd, .events = POLLIN };
	struct io_wait iw = { .block = true, .kfds = &kfd, .n_kfds = 1, .kfds_key = 1 };
	struct pbuf *out = NULL;
	bool rung = owed_wakes_send(), some;
	uint64_t role;
	int r;

	if (!loop_ensure(t))
		return -ENODEV;
	t->now = io_now();
	if (!shard_lock_once(t)) /* the keeper's own descriptors must not wait for one process (RULES C4) */
		return IO_WAIT_KFD;
	tx_done_return(t);
	role = host->queue.role;
	if (rung) { /* a passenger has something to send, or nobody who drives */
		out = output_take(t, TX_BATCH);
		if (role_state_of(role) != ROLE_WAITING)
			role_take(t);
	} else {
		bool still = role_state_of(role) == ROLE_FREE || (role == look.role && host->queue.activity == look.activity);

		if (role_is_mine(t) || (still && host->queue.held))
			out = output_take(t, TX_BATCH);
		if (!role_is_mine(t) && (still || role == look.role) && keeper_stand_in(t, &look, role, still))
			role_take(t);
	}
	owed_look(&look, t->now);
	ready_passed_look(t, TICK_US);
	iw.rx = role_is_mine(t);
	iw.deadline = keeper_next(t, &look);
	look.role = host->queue.role;
	look.activity = host->queue.activity;
	if (iw.rx) {
		usec_t next = stack_deadline(host->shard.stack);

		host->queue.deadline = next;
		iw.deadline = next < iw.deadline ? next : iw.deadline;
	}
	iw.wake_seen = t->waker->word;
	iw.block = block && (!(iw.rx || rung) || !out || !stack_output_pending(host->shard.stack)) && !(set && epoll_has_ready(set));
	if (set)
		epoll_sleep_arm(t, set);
	shard_unlock(t);
	wakes_send(t);
	output_queue(t, out);
	r = io_loop_wait(t->loop, &iw);
	some = input_locked(t, role_is_mine(t));
	if (set)
		epoll_sleep_disarm(t, set);
	if (some || !host->queue.held) {
		thr_leave(t); /* answers leave now: the role may be another's by the next turn, who would sleep on them */
	} else { /* what a thread holds back has until the next tick */
		shard_unlock(t);
		wakes_send(t);
	}
	return r > 0 ? r : 0;
}
