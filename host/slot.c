/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * slot.c - which processes a host has, and what becomes of them (RULES C3, C7, C8)
 *
 * Theory of operation. A slot is claimed by one CAS on its pid (0 -> ours), so a process that dies right after leaves a claim
 * that names it. A slot's process is known by pid and start time. All that a process learns about itself stands in a page
 * that fork wipes: a child made behind our back has no slot and passes its calls through to the kernel.
 *
 * fork   The parent claims a slot with its own thread's number, negative, and copies the table into it: FORKING. The child
 *	  writes its pid and goes LIVE; the parent writes the same pid, in case the child dies before it does. A FORKING slot
 *	  whose parent is dead and which has no pid is dropped by the keeper one second later.
 * exec   The hook sets EXEC_PENDING. The keeper sees the end of the process's link, which is CLOEXEC: EXEC_DROP, the FD_CLOEXEC
 *	  numbers go, EXECED. A new image that joins claims a slot of its own, finds the old one by pid and start time, moves
 *	  the table over (ADOPTED) and leaves the old slot DEAD: threads, role and lock of the old image are then those of a
 *	  process that died, which every other part knows how to treat. Either may come first; the state is changed by CAS.
 * pid    is a number of the helpers' namespace. A process of another one (a container; vsftpd's children) asks the keeper for its
 *	  own, and judges nobody's life but by the state.
 * death  The keeper's pidfd; slot_drop() gives back the driver role first, so that traffic flows, then references, 64 at a time.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include "leaf.h"
#include "passenger.h"
#include "passport.h"
#include "ready.h"
#include "slot.h"
#include "sys.h"
#include "window.h"

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#define LEAF_LOOK_NS 10000000L /* held for a few instructions, perhaps under the shard lock */
#define BURY_US	     MSEC(200)
#define BURY_LOOK_NS 20000000L

struct slot_self_page *slot_self_page;

/* ---- who is this process ---- */

uint32_t slot_self(void)
{
	return slot_self_page ? slot_self_page->index : 0;
}

bool slot_is_vfork_child(void)
{
	return slot_self() && !passenger && slot_self_page->pid != sys_getpid();
}

static bool elsewhere;

void slot_elsewhere(void)
{
	elsewhere = true;
}

/* As the helpers know us. A keeper that is just being replaced cannot say; then our own number is no worse than none. */
static int32_t self_pid(void)
{
	int32_t pid = elsewhere ? window_pid() : 0;

	return pid > 0 ? pid : sys_getpid();
}

static int self_page_make(void)
{
	long p;

	if (slot_self_page)
		return 0;
	p = sys_call(SYS_mmap, 0, 4096 + FD_NUMBERS, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p < 0 && p > -4096)
		return (int)p;
	if (sys_call(SYS_madvise, p, 4096 + FD_NUMBERS, MADV_WIPEONFORK, 0, 0, 0) < 0) {
		sys_call(SYS_munmap, p, 4096 + FD_NUMBERS, 0, 0, 0, 0);
		return -ENOMEM;
	}
	slot_self_page = (struct slot_self_page *)p;
	fdmap = (_Atomic uint8_t *)(p + 4096);
	fdmap_numbers = FD_NUMBERS;
	return 0;
}

static void self_set(uint32_t index)
{
	slot_self_page->pid = sys_getpid();
	slot_self_page->slot = index ? &host->slot[index] : NULL;
	slot_self_page->index = index;
	if (index)
		fdmap_fill();
}

/* ---- /proc/PID/stat ---- */

struct proc_stat {
	char state;
	unsigned threads;
	uint64_t start_time;
};

static void proc_path(pid_t pid, char buf[32])
{
	char digits[12];
	int n = 0, at = 6;

	memcpy(buf, "/proc/", 6);
	if (!pid) {
		memcpy(buf + 6, "self/stat", 10);
		return;
	}
	for (; pid > 0; pid /= 10)
		digits[n++] = (char)('0' + pid % 10);
	while (n)
		buf[at++] = digits[--n];
	memcpy(buf + at, "/stat", 6);
}

/**
 * proc_stat_read() - fields 3, 20 and 22 of /proc/PID/stat
 *
 * Field 2 is the program's name in parentheses and may hold anything, so counting starts behind the last ')'.
 * Return: 0, negative errno
 */
static int proc_stat_read(pid_t pid, struct proc_stat *ret)
{
	char path[32], buf[1024], *p;
	ssize_t n;
	int fd;

	proc_path(pid, path);
	fd = sys_open(path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	n = sys_read(fd, buf, sizeof(buf) - 1);
	sys_close(fd);
	if (n <= 0)
		return n ? (int)n : -ESRCH;
	buf[n] = 0;
	p = strrchr(buf, ')');
	if (!p || p[1] != ' ')
		return -EPROTO;
	ret->state = p[2];
	p += 2;
	for (int field = 3; field < 22; field++) {
		p = strchr(p, ' ');
		if (!p)
			return -EPROTO;
		p++;
		if (field + 1 == 20)
			ret->threads = (unsigned)strtoul(p, NULL, 10);
	}
	ret->start_time = strtoull(p, NULL, 10);
	return 0;
}

uint64_t slot_start_time(pid_t pid)
{
	struct proc_stat st;

	return proc_stat_read(pid, &st) ? 0 : st.start_time;
}

enum slot_life slot_life(uint32_t slot)
{
	struct slot *s = &host->slot[slot];
	uint32_t state = atomic_load(&s->state);
	pid_t pid = atomic_load(&s->pid);
	uint64_t start = atomic_load(&s->start_time);
	struct proc_stat st;
	int rc;

	if (!slot || pid <= 0 || state == SLOT_FREE || state == SLOT_DEAD)
		return SLOT_GONE;
	if (elsewhere)
		return SLOT_RUNS;
	rc = proc_stat_read(pid, &st);
	if (rc) /* no /proc (chroot), or no such process */
		return sys_kill(pid, 0) == -ESRCH ? SLOT_GONE : SLOT_RUNS;
	if (start && st.start_time != start)
		return SLOT_GONE;
	if (st.state == 'X' || (st.state == 'Z' && st.threads <= 1))
		return SLOT_GONE;
	return st.state == 'T' ? SLOT_STOPPED : st.state == 't' ? SLOT_TRACED : SLOT_RUNS;
}

/* ---- leaf locks ---- */

/* Slept in vain for @seen. Return: true: the lock is ours now, taken from the dead */
static bool leaf_inspect(_Atomic uint32_t *word, uint32_t seen, uint32_t me)
{
	uint32_t slot = LEAF_SLOT(seen), w = seen;

	if (passenger || atomic_load(word) != seen)
		return false;
	switch (slot_life(slot)) {
	case SLOT_GONE:
		return atomic_compare_exchange_strong(word, &w, me | LEAF_CONTENDED);
	case SLOT_STOPPED:
		if (!atomic_compare_exchange_strong(word, &w, seen | LEAF_STOP_AFTER))
			return false; /* it moved: not stopped after all */
		w = seen | LEAF_STOP_AFTER;
		if (sys_kill(host->slot[slot].pid, SIGCONT) < 0) /* of another user: who may will come */
			atomic_compare_exchange_strong(word, &w, seen);
		return false;
	case SLOT_TRACED:
	case SLOT_RUNS:
		return false;
	}
	return false;
}

enum leaf_result leaf_lock(_Atomic uint32_t *word, uint32_t *ret_dead)
{
	const struct timespec look = { 0, LEAF_LOOK_NS };
	uint32_t me = slot_self(), v = 0;

	thr_depth++;
	/* acquire: pairs with the release in leaf_unlock() */
	if (atomic_compare_exchange_strong_explicit(word, &v, me, memory_order_acquire, memory_order_relaxed))
		return LEAF_TAKEN;
	for (;;) {
		if (!v) {
			/* whoever sleeps cannot be told from here: unlock must wake */
			if (atomic_compare_exchange_weak_explicit(word, &v, me | LEAF_CONTENDED, memory_order_acquire,
								  memory_order_relaxed))
				return LEAF_TAKEN;
			continue;
		}
		if (!(v & LEAF_CONTENDED) && !atomic_compare_exchange_weak(word, &v, v | LEAF_CONTENDED))
			continue;
		v |= LEAF_CONTENDED;
		if (sys_futex_wait(word, v, &look) == -ETIMEDOUT && leaf_inspect(word, v, me)) {
			if (ret_dead)
				*ret_dead = LEAF_SLOT(v);
			return LEAF_BROKEN;
		}
		v = atomic_load_explicit(word, memory_order_relaxed);
	}
}

void leaf_unlock(_Atomic uint32_t *word)
{
	/* release: what was written under the lock comes first; pairs with the acquire in leaf_lock() */
	uint32_t was = atomic_exchange_explicit(word, 0, memory_order_release);

	if (__builtin_expect(was & (LEAF_CONTENDED | LEAF_STOP_AFTER), 0)) {
		if (was & LEAF_CONTENDED)
			sys_futex_wake(word, 1);
		if (was & LEAF_STOP_AFTER)
			sys_kill(sys_getpid(), SIGSTOP);
	}
	thr_undefer();
}

/* ---- taking and giving back ---- */

void slot_changed(void)
{
	atomic_fetch_add(&host->slot_changes, 1);
	io_wake(&host->keeper.waker);
}

static bool claim_at(uint32_t i, int32_t claimer)
{
	int32_t nobody = 0;

	return atomic_compare_exchange_strong(&host->slot[i].pid, &nobody, claimer);
}

static void top_raise(uint32_t i)
{
	uint32_t top = atomic_load(&host->slot_top);

	while (top <= i && !atomic_compare_exchange_weak(&host->slot_top, &top, i + 1))
		;
}

/**
 * slot_claim() - a free slot, its pid set to @claimer
 *
 * The hint is below the lowest free slot, or was when it was written; a slot given back lowers it. One look around at most.
 * Return: index, 0: all in use
 */
static uint32_t slot_claim(int32_t claimer)
{
	uint32_t start = atomic_load(&host->slot_hint), i;

	if (start <= SLOT_KEEPER || start >= SLOTS_MAX)
		start = SLOT_KEEPER + 1;
	for (uint32_t n = 0; n < SLOTS_MAX - SLOT_KEEPER - 1; n++) {
		i = start + n < SLOTS_MAX ? start + n : start + n - SLOTS_MAX + SLOT_KEEPER + 1;
		if (!claim_at(i, claimer))
			continue;
		atomic_compare_exchange_strong(&host->slot_hint, &start, i + 1);
		top_raise(i);
		atomic_fetch_add(&host->n_live, 1);
		return i;
	}
	return 0;
}

/* What a fresh slot says about its process; @pid has been claimed already */
static void slot_describe(struct slot *s)
{
	s->parent = 0;
	s->uid = (uint32_t)sys_call(SYS_geteuid, 0, 0, 0, 0, 0, 0);
	s->waiters = NULL;
	atomic_store(&s->start_time, slot_start_time(0));
	sys_call(SYS_prctl, PR_GET_NAME, s->comm, 0, 0, 0, 0);
}

static int register_at(uint32_t i)
{
	slot_describe(&host->slot[i]);
	self_set(i);
	atomic_store(&host->slot[i].state, SLOT_LIVE);
	slot_changed();
	return (int)i;
}

int slot_register(void)
{
	int rc = self_page_make();
	uint32_t i;

	if (rc)
		return rc;
	i = slot_claim(self_pid());
	return i ? register_at(i) : -ENOSPC;
}

int slot_register_keeper(void)
{
	int rc = self_page_make();

	if (rc)
		return rc;
	if (!claim_at(SLOT_KEEPER, sys_getpid()))
		return -EBUSY;
	atomic_fetch_add(&host->n_live, 1);
	return register_at(SLOT_KEEPER);
}

/* Who waits for EXEC_DROP to end, or for a dead process to be dropped, sleeps on the state */
static void state_store(struct slot *s, uint32_t state)
{
	atomic_store(&s->state, state);
	sys_futex_wake(&s->state, INT32_MAX);
}

/**
 * slots_recount() - how many slots are in use
 *
 * Claim and count are two stores, and so are their ends: whether one who died between them had been counted cannot be told. Who
 * comes or goes this very moment is waited for, a little; if it died as well, its own end brings us here again.
 */
static void slots_recount(void)
{
	for (int tries = 0; tries < 100; tries++) {
		uint32_t was = atomic_load(&host->n_live), top = atomic_load(&host->slot_top), n = 0;
		bool settled = true;

		for (uint32_t i = SLOT_KEEPER; i < top; i++) {
			bool claimed = atomic_load(&host->slot[i].pid) != 0;

			n += claimed;
			settled &= !claimed || atomic_load(&host->slot[i].state) != SLOT_FREE;
		}
		if (settled && atomic_compare_exchange_strong(&host->n_live, &was, n))
			return;
		sys_call(SYS_sched_yield);
	}
}

/* The slot's last user is gone; pid is cleared last, since that is what makes it free to claim */
static void slot_free(uint32_t i)
{
	struct slot *s = &host->slot[i];
	uint32_t hint = atomic_load(&host->slot_hint);

	state_store(s, SLOT_FREE); /* slots_bury() waits for it */
	s->parent = 0;
	s->waiters = NULL;
	atomic_store(&s->forking, 0);
	atomic_store(&s->table_lock, 0);
	atomic_store(&s->start_time, 0);
	atomic_store(&s->n_entries, 0);
	atomic_fetch_sub(&host->n_live, 1);
	atomic_store(&s->pid, 0);
	while (i > SLOT_KEEPER && i < hint && !atomic_compare_exchange_weak(&host->slot_hint, &hint, i))
		;
}

void slot_unregister(void)
{
	uint32_t i = slot_self();

	if (i) {
		self_set(0);
		slot_free(i);
	}
}

/* ---- fork ---- */

int slot_fork_prepare(uint32_t *ret_child)
{
	uint32_t self = slot_self(), child;
	struct slot *s;
	int rc;

	*ret_child = 0;
	if (!self || slot_is_vfork_child() || !atomic_load(&host->slot[self].n_entries))
		return 0;
	child = slot_claim(-sys_gettid());
	if (!child)
		return -EAGAIN;
	s = &host->slot[child];
	atomic_fetch_add(&host->slot[self].forking, 1);
	s->parent = self;
	s->uid = host->slot[self].uid;
	s->waiters = NULL;
	memcpy(s->comm, host->slot[self].comm, sizeof(s->comm));
	atomic_store(&s->state, SLOT_FORKING);
	rc = fdtab_copy(child, self);
	if (rc) {
		slot_fork_parent(child, -1);
		return -EAGAIN; /* what fork says where memory lacks */
	}
	*ret_child = child;
	return 0;
}

/**
 * slot_fork_parent() - fork came back in the parent
 *
 * A failed fork drops the copied references through the keeper: DEAD is dropped there, and fork holds no shard lock (C7).
 */
void slot_fork_parent(uint32_t child, pid_t pid)
{
	struct slot *s = &host->slot[child];
	int32_t mine = -sys_gettid();

	if (!child)
		return;
	atomic_fetch_sub(&slot_self_page->slot->forking, 1);
	if (pid < 0) {
		atomic_store(&s->state, SLOT_DEAD);
		slot_changed();
	} else if (!elsewhere && atomic_compare_exchange_strong(&s->pid, &mine, pid)) {
		slot_changed(); /* the child has not run yet; should it never, its pidfd tells */
	}
}

void slot_fork_child(uint32_t child)
{
	struct slot *s = &host->slot[child];
	uint32_t forking = SLOT_FORKING;

	if (!sys_call(SYS_getppid)) /* our parent is in no namespace of ours */
		elsewhere = true;
	if (!child || self_page_make())
		return;
	atomic_store(&s->pid, self_pid());
	slot_describe(s);
	if (!atomic_compare_exchange_strong(&s->state, &forking, SLOT_LIVE))
		return; /* dropped meanwhile: our parent died and we did not run for a second */
	self_set(child);
	slot_changed();
}

/* ---- exec ---- */

void slot_exec_prepare(void)
{
	uint32_t live = SLOT_LIVE;

	if (slot_self() && !slot_is_vfork_child())
		atomic_compare_exchange_strong(&slot_self_page->slot->state, &live, SLOT_EXEC_PENDING);
}

void slot_exec_failed(void)
{
	uint32_t pending = SLOT_EXEC_PENDING;

	if (slot_self() && !slot_is_vfork_child())
		atomic_compare_exchange_strong(&slot_self_page->slot->state, &pending, SLOT_LIVE);
}

void slot_exec_drop(struct thr *t, uint32_t slot)
{
	struct slot *s = &host->slot[slot];
	uint32_t pending = SLOT_EXEC_PENDING;

	/* EXEC_DROP already: an earlier keeper died at it */
	if (!atomic_compare_exchange_strong(&s->state, &pending, SLOT_EXEC_DROP) && pending != SLOT_EXEC_DROP)
		return;
	fdtab_drop(t, slot, FDTAB_CLOEXEC);
	state_store(s, SLOT_EXECED);
}

/* Slot the image before us left behind, now ADOPTED; 0: none */
static uint32_t old_image_take(void)
{
	uint32_t top = atomic_load(&host->slot_top), self = slot_self();
	int32_t pid = atomic_load(&host->slot[self].pid);
	uint64_t start = atomic_load(&host->slot[self].start_time);
	const struct timespec patience = { 1, 0 };

	for (uint32_t i = SLOT_KEEPER + 1; i < top; i++) {
		struct slot *s = &host->slot[i];
		uint32_t state;

		if (i == self || atomic_load(&s->pid) != pid || atomic_load(&s->start_time) != start)
			continue;
		for (;;) {
			state = atomic_load(&s->state);
			if (state == SLOT_EXEC_DROP && sys_futex_wait(&s->state, state, &patience) != -ETIMEDOUT)
				continue;
			if (state == SLOT_FREE || state == SLOT_DEAD || state == SLOT_ADOPTED)
				break;
			if (atomic_compare_exchange_strong(&s->state, &state, SLOT_ADOPTED))
				return i;
		}
	}
	return 0;
}

int slot_exec_adopt(struct thr *t)
{
	uint32_t old = old_image_take(), self = slot_self();

	if (!old)
		return 0;
	fdtab_move(self, old);
	fdtab_drop(t, self, FDTAB_CLOEXEC);
	fdtab_drop(t, self, FDTAB_NOT_SOCKET);
	state_store(&host->slot[old], SLOT_DEAD);
	slot_changed();
	return (int)atomic_load(&host->slot[self].n_entries);
}

/* ---- death ---- */

/**
 * slot_drop() - see slot.h
 *
 * DEAD comes first: from then on slot_life() says so, and a shard lock the process held may be broken by whoever waits for
 * it, which may be us, in the next line.
 */
void slot_drop(struct thr *t, uint32_t slot)
{
	struct slot *s = &host->slot[slot];
	bool counted = atomic_load(&s->state) != SLOT_FREE;

	if (atomic_load(&s->pid) == 0)
		return;
	state_store(s, SLOT_DEAD);
	t = thr_enter();
	shard_lock(t);
	drive_slot_died(t, slot);
	ready_slot_drop(t, slot);
	passports_drop(t, slot);
	stack_pbufs_drop(host->shard.stack, (uint16_t)slot);
	thr_leave(t);
	fdtab_drop(t, slot, FDTAB_ALL);
	slot_free(slot);
	if (!counted) /* it died at coming or going */
		slots_recount();
}

/* Return: its process has ended, has been waited for, and is not dropped yet */
static bool slot_unburied(uint32_t i)
{
	struct slot *s = &host->slot[i];
	uint32_t state = atomic_load(&s->state);
	pid_t pid = atomic_load(&s->pid);

	if (i == slot_self() || pid <= 0 || state == SLOT_FREE)
		return false;
	return state == SLOT_DEAD || (!elsewhere && sys_kill(pid, 0) == -ESRCH);
}

bool slots_bury(void)
{
	uint32_t top = atomic_load(&host->slot_top);
	usec_t until = io_now() + BURY_US;
	bool buried = false;

	for (uint32_t i = SLOT_KEEPER + 1; i < top; i++) {
		while (slot_unburied(i) && io_now() < until) {
			const struct timespec look = { 0, BURY_LOOK_NS };
			uint32_t state = atomic_load(&host->slot[i].state);

			if (state != SLOT_DEAD)
				slot_changed();
			sys_futex_wait(&host->slot[i].state, state, &look);
			buried |= !slot_unburied(i);
		}
	}
	return buried;
}
