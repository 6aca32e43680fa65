/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The shard lock and its holder: killed, stopped, traced. A member is single-stepped through the life of sockets and killed
 * (or stopped) while it holds the lock, at evenly spread instructions; afterwards all structures are checked link by link, the
 * others' connections must go on, and nothing of the dead one may be left. OWNSTACK_LOCK_KILLS=n and OWNSTACK_LOCK_STOPS=n make
 * n instead of a few (for a long run), OWNSTACK_LOCK_SEED another choice of them.
 */
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include "../../stack/tcb.h"
#include "drive_rig.h"

#define KILLS	  40
#define BREAK_MS  150 /* patience of 50 ms, a look, repair */

/* ---- the checker ---- */

static char fault[160];
#define SOUND(cond, ...)                                                  \
	do {                                                              \
		if (!(cond) && !fault[0])                                 \
			snprintf(fault, sizeof(fault), __VA_ARGS__);      \
	} while (0)

static void slab_sound(const struct slab *s, const char *name)
{
	uint32_t live = 0, free_n = 0, i;

	for (uint32_t c = 0; slab_next(s, &c);)
		live++;
	SOUND(live == s->in_use, "%s: %u live, %u in use", name, live, s->in_use);
	for (i = s->free_head; i && free_n <= s->next_fresh; free_n++)
		i = ((struct slab_hdr *)(s->extent[i / s->per_extent] + (size_t)(i % s->per_extent) * s->stride_bytes))->link;
	SOUND(live + free_n == s->next_fresh - 1, "%s: %u live and %u free of %u", name, live, free_n, s->next_fresh - 1);
}

static uint32_t in_queue(const struct cell *c, const struct cell *want)
{
	uint32_t n = 0;

	for (int limit = 0; c && limit < 100000; c = c->next, limit++)
		n += c == want;
	return n;
}

static uint32_t cell_users(const struct stack *st, const struct cell *want)
{
	uint32_t n = 0;
	struct pbuf *p;
	struct tcb *t;

	for (uint32_t c = 0; (t = slab_next(&st->tcbs, &c));)
		n += in_queue(t->snd_head, want) + in_queue(t->snd_rsv, want) + in_queue(t->rcv_head, want) + (t->sack == want) +
		     (t->ooo == want);
	for (uint32_t c = 0; (p = slab_next(&st->pools.pbufs, &c));)
		for (unsigned i = 0; i < p->n_frags; i++)
			n += p->frag[i].cell == want;
	return n;
}

static bool hash_finds(const struct htab *h, const struct hnode *n)
{
	for (struct hnode *at = htab_first(h, n->hash); at; at = htab_next(at))
		if (at == n)
			return true;
	return false;
}

static void stack_sound(const struct stack *st)
{
	uint32_t hashed = 0, wants = 0, listed = 0;
	struct cell *cell;
	struct tcb *t;

	slab_sound(&st->tcbs, "tcbs");
	slab_sound(&st->requests, "requests");
	slab_sound(&st->timewaits, "timewaits");
	slab_sound(&st->pools.pbufs, "pbufs");
	for (int k = 0; k < CELL_CLASSES; k++) {
		slab_sound(&st->pools.cells[k], "cells");
		for (uint32_t c = 0; (cell = slab_next(&st->pools.cells[k], &c));)
			SOUND(cell->refs == cell_users(st, cell), "cell of class %d: %u references, %u users", k, cell->refs, cell_users(st, cell));
	}
	for (uint32_t c = 0; (t = slab_next(&st->tcbs, &c));) {
		if (t->flags & TF_HASHED) {
			hashed++;
			SOUND(hash_finds(&st->conns, &t->node), "tcb %u is not found by its tuple", slab_index(&st->tcbs, t));
		}
		if (t->state == TCPS_LISTEN)
			SOUND(hash_finds(&st->listeners, &t->node), "listener is not found");
		if (dnode_linked(&t->out)) {
			wants++;
			SOUND(t->out.next->prev == &t->out && t->out.prev->next == &t->out, "output list is torn");
		}
	}
	for (struct dnode *d = st->tcp_out.next; d != &st->tcp_out && listed < 100000; d = d->next)
		listed++;
	SOUND(listed == wants, "%u tcbs on the output list, %u say so", listed, wants);
	SOUND(hashed + st->requests.in_use + st->timewaits.in_use == st->conns.count, "table counts %u, there are %u", st->conns.count, hashed);
}

static void ready_sound(void)
{
	uint32_t in_files = 0, in_epolls = 0, by_epolls = 0, waiting = 0, of_slots = 0;
	struct waiter *wt;
	struct epoll *ep;
	struct file *f;

	slab_sound(&host->files, "files");
	slab_sound(&host->watches, "watches");
	slab_sound(&host->epolls, "epolls");
	slab_sound(&host->waiters, "waiters");
	for (uint32_t c = 0; (f = slab_next(&host->files, &c));) {
		struct watch **at = &f->watches;

		for (; *at; at = &(*at)->next, in_files++)
			SOUND((*at)->prev == at && (*at)->file == f, "list of a file's watches is torn");
	}
	for (uint32_t c = 0; (ep = slab_next(&host->epolls, &c));) {
		struct watch **at = &ep->all, **ready = &ep->ready;
		uint32_t n = 0;

		for (; *at; at = &(*at)->all_next, in_epolls++)
			SOUND((*at)->all_prev == at && (*at)->ep == ep, "list of an epoll's members is torn");
		for (; *ready; ready = &(*ready)->ready_next, n++)
			SOUND((*ready)->ready_prev == ready && (*ready)->queued, "ready list is torn");
		SOUND(ready == ep->ready_tail && n == ep->n_ready, "ready list: %u of %u, or the tail is wrong", n, ep->n_ready);
		by_epolls += ep->n_watches;
	}
	SOUND(in_epolls == by_epolls, "epolls count %u members and have %u", by_epolls, in_epolls);
	for (uint32_t c = 0; (wt = slab_next(&host->waiters, &c));)
		for (struct watch *w = wt->watches; w; w = w->sibling)
			waiting++;
	SOUND(in_files == host->watches.in_use && in_epolls + waiting == in_files, "%u watches: %u at files, %u at epolls, %u of threads",
	      host->watches.in_use, in_files, in_epolls, waiting);
	for (uint32_t i = 0; i < host->slot_top; i++)
		for (wt = host->slot[i].waiters; wt; wt = wt->next, of_slots++)
			SOUND(wt->slot == i, "waiter at the wrong slot");
	SOUND(of_slots == host->waiters.in_use, "%u waiters, %u at slots", host->waiters.in_use, of_slots);
}

/* Where it was killed, for addr2line: relative to a symbol, since the program is loaded anywhere. */
static long killed_at;

/* ---- a life to be cut short ---- */

static void unnumber(struct thr *t, int fd)
{
	thr_enter();
	shard_lock(t);
	file_unref(t, fdtab_clear(fd));
	thr_leave(t);
}

/* what the victim does; @port: where it listens for one connection of the peer */
static void life(struct thr *t)
{
	struct file *l, *c, *e, *a;
	struct epoll_event ev;

	number_next = 100;
	l = sock_open(t);
	c = sock_open(t);
	sock_listen(t, l, 80);
	atomic_store(&shared->peer_burst, 1);
	sock_connect(t, c, ECHO_PORT, io_now() + SEC(2));
	thr_enter();
	shard_lock(t);
	e = epoll_file_new();
	file_ref(e);
	sock_number(t, e);
	epoll_watch_add(t, e->ep, c, 101, EPOLLIN | (uint32_t)EPOLLET, 1);
	epoll_watch_add(t, e->ep, l, 100, EPOLLIN, 2);
	thr_leave(t);
	for (uint64_t i = 0; i < 3; i++)
		ping(t, c, i, SEC(2));
	thr_enter();
	shard_lock(t);
	epoll_collect(t, e->ep, &ev, 1);
	epoll_watch_mod(t, e->ep, c, 101, EPOLLIN | EPOLLOUT, 3);
	epoll_collect(t, e->ep, &ev, 1);
	epoll_watch_del(t, e->ep, c, 101);
	thr_leave(t);
	a = sock_accept(t, l, io_now() + SEC(2));
	unnumber(t, 101);
	unnumber(t, 102);
	if (a)
		unnumber(t, 103);
	unnumber(t, 100);
}

/* ---- stepping ---- */

#define HOLDS_MAX 512
static uint32_t hold_steps[HOLDS_MAX]; /* instructions under each hold of the lock in one whole life */
static uint32_t n_holds;

static void watch_lock(pid_t pid)
{
	const long write_of_4 = 1 | 1 << 16 | 3 << 18;

	cr_assert_eq(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[0]), &host->shard.lock), 0);
	cr_assert_eq(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[7]), write_of_4), 0);
}

/**
 * stepped() - let @pid live until it has made @steps instructions in its @hold-th hold of the lock
 *
 * A hardware watchpoint stops it where it writes to the lock; only what it does under the hold in question is stepped through.
 * @hold: UINT32_MAX: step through all and note their lengths
 *
 * Return: true: it stands there, stopped; false: it came to its end before
 */
static bool stepped(pid_t pid, uint32_t hold, uint32_t steps)
{
	uint32_t slot = 0, holds = 0, at = 0;
	bool held = false, watched = false;
	int status;

	while (waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status)) {
		int sig = WSTOPSIG(status) == SIGTRAP || WSTOPSIG(status) == SIGSTOP ? 0 : WSTOPSIG(status);

		if (!watched)
			watch_lock(pid);
		watched = true;
		for (uint32_t i = 1; !slot && i < host->slot_top; i++)
			slot = host->slot[i].pid == pid ? i : 0;
		if (slot && (host->shard.lock & 0x3fff) == slot) {
			at = held ? at + 1 : 0;
			held = true;
			if (holds == hold && at >= steps)
				return true;
		} else if (held) {
			held = false;
			if (hold == UINT32_MAX && holds < HOLDS_MAX)
				hold_steps[n_holds++] = at;
			if (holds == hold) { /* shorter than it was the first time: at the beginning of the next */
				hold++;
				steps = 0;
			}
			holds++;
		}
		ptrace(held && (holds == hold || hold == UINT32_MAX) ? PTRACE_SINGLESTEP : PTRACE_CONT, pid, 0, sig);
	}
	return false;
}

static void watch_end(pid_t pid)
{
	cr_assert_eq(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[7]), 0), 0);
}

/* The @n-th of all instructions under the lock. */
static bool stepped_to(pid_t pid, uint64_t n)
{
	struct user_regs_struct regs = { 0 };
	uint32_t hold = 0;
	bool there;

	while (hold < n_holds - 1 && n >= hold_steps[hold])
		n -= hold_steps[hold++];
	there = stepped(pid, hold, (uint32_t)n);
	if (there) {
		ptrace(PTRACE_GETREGS, pid, 0, &regs);
		killed_at = (long)regs.rip - (long)(uintptr_t)&stack_init;
	}
	return there;
}

static pid_t victim(void)
{
	pid_t pid = child();

	if (!pid) {
		struct thr *t = member_enter();

		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		life(t);
		thr_exit(t);
		_exit(0);
	}
	return pid;
}

static uint32_t slot_of(pid_t pid)
{
	for (uint32_t i = 1; i < host->slot_top; i++)
		if (host->slot[i].pid == pid)
			return i;
	return 0;
}

static uint64_t env_number(const char *name, uint64_t otherwise)
{
	const char *s = getenv(name);

	return s ? strtoull(s, NULL, 0) : otherwise;
}

/* What is left where nobody but this process has anything. */
struct census {
	uint32_t files, watches, waiters, epolls, tcbs, requests, pbufs, cells, fdchunks, kopts, passports;
};

static struct census census_take(void)
{
	struct stack_usage u;

	stack_usage(host->shard.stack, &u);
	return (struct census){ .files = host->files.in_use,	   .watches = host->watches.in_use, .waiters = host->waiters.in_use,
				.epolls = host->epolls.in_use,	   .tcbs = u.tcbs,		    .requests = u.requests,
				.pbufs = u.frames,		   .cells = u.cells,		    .fdchunks = host->fdchunks.in_use,
				.kopts = host->kopts.in_use,	   .passports = host->passports.in_use };
}

/* The peer has still to answer what closed: a while is given for that, kept going by questions to it. */
static void census_is(struct thr *t, struct file *f, struct census *was)
{
	usec_t until = io_now() + SEC(2);
	struct census now;

	do {
		now = census_take();
		if (!memcmp(&now, was, sizeof(now)))
			return;
		ping(t, f, 1, SEC(3));
	} while (io_now() < until);
	cr_expect_eq(now.files, was->files, "at stack_init%+ld: %u files, were %u", killed_at, now.files, was->files);
	cr_expect_eq(now.watches, was->watches, "at stack_init%+ld: %u watches, were %u", killed_at, now.watches, was->watches);
	cr_expect_eq(now.waiters, was->waiters, "at stack_init%+ld: %u waiters, were %u", killed_at, now.waiters, was->waiters);
	cr_expect_eq(now.epolls, was->epolls, "at stack_init%+ld: %u epolls, were %u", killed_at, now.epolls, was->epolls);
	cr_expect_eq(now.tcbs, was->tcbs, "at stack_init%+ld: %u tcbs, were %u", killed_at, now.tcbs, was->tcbs);
	cr_expect_eq(now.requests, was->requests, "at stack_init%+ld: %u requests, were %u", killed_at, now.requests, was->requests);
	cr_expect_eq(now.pbufs, was->pbufs, "at stack_init%+ld: %u pbufs, were %u", killed_at, now.pbufs, was->pbufs);
	cr_expect_eq(now.cells, was->cells, "at stack_init%+ld: %u cells, were %u", killed_at, now.cells, was->cells);
	cr_expect_eq(now.fdchunks, was->fdchunks, "at stack_init%+ld: %u chunks, were %u", killed_at, now.fdchunks, was->fdchunks);
	*was = now; /* each is reported once */
}

static void is_sound(struct thr *t, const char *when)
{
	usec_t before = io_now(), waited;

	fault[0] = 0;
	thr_enter();
	shard_lock(t);
	waited = io_now() - before;
	stack_sound(host->shard.stack);
	ready_sound();
	thr_leave(t);
	cr_expect_leq(waited, MSEC(BREAK_MS), "at stack_init%+ld: %llu us for the lock", killed_at, (unsigned long long)waited);
	cr_assert_eq(fault[0], 0, "%s at stack_init%+ld: %s", when, killed_at, fault);
}

static void bystander_connect(struct thr *t, struct file **ret)
{
	*ret = sock_open(t);
	cr_assert_eq(sock_connect(t, *ret, ECHO_PORT, io_now() + SEC(2)), 0);
}

/* This process with two connections of its own; the victim's life is measured. Return: instructions it makes under the lock */
static uint64_t bystander(struct thr **ret_t, struct file *mine[2], bool with_keeper)
{
	uint64_t total = 0;
	struct thr *t;
	pid_t pid;

	drive_rig(IO_LEVEL_POLL, with_keeper);
	atomic_store(&shared->peer_port, 80);
	slot_register();
	*ret_t = t = thr_enter();
	for (int i = 0; i < 2; i++)
		bystander_connect(t, &mine[i]);
	pid = victim();
	cr_assert_not(stepped(pid, UINT32_MAX, 0));
	if (!with_keeper)
		slot_drop(t, slot_of(pid));
	for (uint32_t i = 0; i < n_holds; i++)
		total += hold_steps[i];
	cr_assert_gt(total, 1000);
	for (int i = 0; i < 20; i++) { /* what it closed is answered */
		usleep(2000);
		ping(t, mine[0], 1, SEC(3));
	}
	return total;
}

Test(lock, holder_killed_at_any_instruction, .timeout = 7200)
{
	uint64_t kills = env_number("OWNSTACK_LOCK_KILLS", KILLS), seed = env_number("OWNSTACK_LOCK_SEED", 1), total;
	struct census was;
	struct file *mine[2];
	struct stack *st;
	struct thr *t;

	total = bystander(&t, mine, false);
	st = host->shard.stack;
	was = census_take();
	for (uint64_t k = 0; k < kills; k++) {
		bool touched[2];
		uint32_t slot;
		pid_t pid = victim();

		if (stepped_to(pid, (k * total / kills + seed * 7919) % total)) {
			kill(pid, SIGKILL);
			waitpid(pid, NULL, __WALL);
		}
		for (int i = 0; i < 2; i++) { /* it may have been at a late segment of ours: then that one may be reset */
			uint32_t index = slab_index(&st->tcbs, mine[i]->tcb);

			touched[i] = st->touching[0] == index || st->touching[1] == index;
		}
		slot = slot_of(pid);
		is_sound(t, "killed");
		for (int i = 0; i < 2; i++)
			cr_assert(ping(t, mine[i], k, SEC(3)) != USEC_NEVER || touched[i], "killed at stack_init%+ld: connection %d is broken", killed_at, i);
		if (slot)
			slot_drop(t, slot);
		is_sound(t, "killed and dropped");
		for (int i = 0; i < 2; i++) {
			if (tcp_state(mine[i]->tcb) == TCPS_ESTABLISHED)
				continue;
			cr_expect(touched[i]);
			sock_close(t, mine[i]);
			bystander_connect(t, &mine[i]);
		}
		census_is(t, mine[0], &was);
	}
}

/*
 * Stopped there, it is let out by who needs the lock, stops as it was told, and once continued lives on to its end. It may have
 * left as the driver: that is the keeper's to notice.
 */
Test(lock, holder_stopped_at_any_instruction, .timeout = 7200)
{
	uint64_t stops = env_number("OWNSTACK_LOCK_STOPS", KILLS / 2), seed = env_number("OWNSTACK_LOCK_SEED", 1), total, reached = 0;
	struct census was;
	struct file *mine[2];
	struct thr *t;

	total = bystander(&t, mine, true);
	was = census_take();
	for (uint64_t k = 0; k < stops; k++) {
		pid_t pid = victim();
		uint32_t slot;

		if (!stepped_to(pid, (k * total / stops + seed * 7919) % total))
			continue; /* the keeper drove, and it had less to do */
		reached++;
		slot = slot_of(pid);
		watch_end(pid);
		ptrace(PTRACE_DETACH, pid, 0, SIGSTOP);
		cr_assert(WITHIN_MS(1000, slot_life(slot) == SLOT_STOPPED));
		is_sound(t, "stopped");
		for (int i = 0; i < 2; i++)
			cr_assert_neq(ping(t, mine[i], k, SEC(3)), USEC_NEVER, "stopped at stack_init%+ld: connection %d is broken", killed_at, i);
		cr_expect(WITHIN_MS(1000, slot_life(slot) == SLOT_STOPPED), "stopped at stack_init%+ld: it does not stay stopped", killed_at);
		kill(pid, SIGCONT);
		cr_expect_eq(rig_reap(pid), 0, "stopped at stack_init%+ld: it did not come to its end", killed_at);
		is_sound(t, "stopped and ended");
		census_is(t, mine[0], &was);
	}
	cr_expect_geq(reached, stops / 2);
}

/* ---- stopped, not dead ---- */

/* A member that stops itself in the lock as @how says, and says when it got out. */
static pid_t stops_inside(void)
{
	pid_t pid = child();

	if (!pid) {
		struct thr *t = member_enter();

		shard_lock(t);
		atomic_store(&shared->step, 1);
		raise(SIGSTOP);
		shard_unlock(t);
		atomic_store(&shared->step, 2);
		_exit(0);
	}
	cr_assert(WITHIN_MS(1000, atomic_load(&shared->step)));
	return pid;
}

static bool is_stopped(pid_t pid)
{
	return slot_life(slot_of(pid)) == SLOT_STOPPED;
}

Test(lock, stopped_holder_leaves_first_and_stops_then, .timeout = 20)
{
	struct thr *t;
	usec_t before;
	pid_t pid;

	drive_rig(IO_LEVEL_POLL, false);
	cr_assert_gt(slot_register(), 0);
	t = thr_enter();
	pid = stops_inside();
	cr_assert(WITHIN_MS(1000, is_stopped(pid)));
	before = io_now();
	shard_lock(t);
	cr_expect_leq(io_now() - before, MSEC(BREAK_MS));
	shard_unlock(t);
	cr_expect(WITHIN_MS(1000, is_stopped(pid)), "it goes on being stopped, as its user wanted");
	usleep(100000);
	cr_expect(is_stopped(pid));
	cr_expect_eq(atomic_load(&shared->step), 1);
	kill(pid, SIGCONT);
	cr_expect(WITHIN_MS(1000, atomic_load(&shared->step) == 2), "and is continued by its user as ever");
	cr_expect_eq(rig_reap(pid), 0);
}

/* in a debugger: neither continued nor told to stop itself afterwards; who needs the lock waits */
Test(lock, traced_holder_is_left_to_its_debugger, .timeout = 20)
{
	struct thr *t;
	pid_t pid, waits;
	int status;

	drive_rig(IO_LEVEL_POLL, false);
	pid = child();
	if (!pid) {
		t = member_enter();
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		shard_lock(t);
		raise(SIGTRAP);
		shard_unlock(t);
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFSTOPPED(status));
	waits = child();
	if (!waits) {
		t = member_enter();
		atomic_store(&shared->step, 1);
		_exit(0);
	}
	usleep(250000);
	cr_expect_eq(atomic_load(&shared->step), 0);
	ptrace(PTRACE_CONT, pid, 0, 0);
	cr_expect(WITHIN_MS(1000, atomic_load(&shared->step)));
	cr_expect_eq(rig_reap(pid), 0, "it ran to its end");
	cr_expect_eq(rig_reap(waits), 0);
}

/* the signal may not be sent: other users' processes wait until the holder's own user continues it */
Test(lock, holder_of_another_user_is_waited_for, .timeout = 20)
{
	pid_t pid, waits;

	drive_rig(IO_LEVEL_POLL, false);
	if (getuid())
		cr_skip_test("needs root, to become somebody else");
	pid = stops_inside();
	cr_assert(WITHIN_MS(1000, is_stopped(pid)));
	waits = child();
	if (!waits) {
		struct thr *t;

		if (setsid() < 0 || setresuid(65534, 65534, 65534)) /* SIGCONT may be sent within a session */
			_exit(1);
		t = member_enter();
		atomic_store(&shared->go, t ? 1 : 2);
		_exit(0);
	}
	usleep(250000);
	cr_expect_eq(atomic_load(&shared->go), 0);
	cr_expect(is_stopped(pid));
	kill(pid, SIGCONT);
	cr_expect(WITHIN_MS(1000, atomic_load(&shared->go) == 1));
	cr_expect_eq(rig_reap(pid), 0);
	cr_expect_eq(rig_reap(waits), 0);
}

/* ---- as a lock ---- */

static uint64_t guarded;

static void *counts(void *arg)
{
	struct thr *t = thr_enter();

	for (int i = 0; i < 100000; i++) {
		shard_lock(t);
		guarded++;
		shard_unlock(t);
	}
	return arg;
}

Test(lock, four_threads_exclude_one_another, .timeout = 60)
{
	pthread_t th[4];

	rig_join();
	for (int i = 0; i < 4; i++)
		pthread_create(&th[i], NULL, counts, NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(th[i], NULL);
	cr_expect_eq(guarded, 400000);
	cr_expect_eq(host->shard.lock, 0);
	cr_expect_eq(host->waiters.in_use, 1, "threads gone, waiters gone");
}
