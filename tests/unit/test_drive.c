/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Driving put to the proof: several processes on one queue, each rule of who reads, who sleeps and who is woken. Bounds on time
 * are those of the design (the keeper notices within two looks of 100 ms) with room for a busy machine, and far below what
 * TCP's own timers would need to hide a loss (SYN 1 s, RTO 200 ms where that is said).
 */
#include <pthread.h>
#include "drive_rig.h"

#define SOON_MS	    60	/* a wake-up on a machine with more to do */
#define NOTICED_MS  450 /* two looks of the keeper, and that */
#define PATIENCE_US SEC(4)

/* one Criterion test for each level */
#define AT_ALL_LEVELS(name)                                        \
	static void name(void);                                    \
	Test(drive_full, name, .timeout = 60)                      \
	{                                                          \
		drive_rig(IO_LEVEL_FULL, true);                    \
		name();                                            \
	}                                                          \
	Test(drive_uring, name, .timeout = 60)                     \
	{                                                          \
		drive_rig(IO_LEVEL_URING, true);                   \
		name();                                            \
	}                                                          \
	Test(drive_poll, name, .timeout = 60)                      \
	{                                                          \
		drive_rig(IO_LEVEL_POLL, true);                    \
		name();                                            \
	}                                                          \
	static void name(void)

static enum role_state role_state(void)
{
	return (enum role_state)(host->queue.role & 3);
}
static uint32_t role_slot_of(void)
{
	return host->queue.role >> 2 & 0x3fff;
}
static uint32_t slot_of(pid_t pid)
{
	for (uint32_t i = 1; i < host->slot_top; i++)
		if (host->slot[i].pid == pid)
			return i;
	return 0;
}
static bool drives(pid_t pid)
{
	if (pid != keeper_pid && !atomic_load(&shared->settled))
		return false; /* may be on its way still */
	return role_state() == ROLE_WAITING && role_slot_of() == slot_of(pid);
}

static struct file *connected(struct thr *t, uint16_t port)
{
	struct file *f = sock_open(t);

	if (sock_connect(t, f, port, io_now() + PATIENCE_US))
		_exit(91);
	return f;
}

/* A member that connects to the silent port and sleeps there for good. */
static pid_t sleeper(void)
{
	pid_t pid;
	struct thr *t = member(&pid);
	char c;

	if (t) {
		struct file *f = connected(t, SILENT_PORT);

		atomic_store(&shared->settled, 1);
		sock_recv(t, f, &c, 1, USEC_NEVER);
		_exit(92);
	}
	return pid;
}

/* @n questions in a row by this process. Return: the slowest one */
static usec_t slowest(struct thr *t, struct file *f, int n)
{
	usec_t worst = 0;

	for (int i = 0; i < n; i++) {
		usec_t us = ping(t, f, (uint64_t)i * 77 + 1, PATIENCE_US);

		worst = us > worst ? us : worst;
	}
	return worst;
}

static struct thr *test_joins(void)
{
	cr_assert_gt(slot_register(), 0);
	return thr_enter();
}

AT_ALL_LEVELS(lone_member_gets_its_answers)
{
	struct thr *t = test_joins();

	cr_expect_leq(slowest(t, connected(t, ECHO_PORT), 300), MSEC(SOON_MS));
}

AT_ALL_LEVELS(sleeper_takes_the_role_from_a_driver_that_computes)
{
	struct thr *t;
	pid_t pid = child();

	if (!pid) {
		t = member_enter();
		slowest(t, connected(t, ECHO_PORT), 3);
		atomic_store(&shared->step, 1);
		pause();
	}
	cr_assert(WITHIN_MS(4000, atomic_load(&shared->step)));
	t = test_joins();
	cr_expect_leq(slowest(t, connected(t, ECHO_PORT), 100), MSEC(SOON_MS));
	killed(pid);
}

AT_ALL_LEVELS(sleeping_driver_wakes_whom_its_frames_are_for)
{
	pid_t pid = sleeper();
	struct thr *t;
	struct file *f;

	cr_assert(WITHIN_MS(4000, drives(pid)));
	t = test_joins();
	f = connected(t, ECHO_PORT);
	cr_expect_leq(slowest(t, f, 300), MSEC(SOON_MS));
	cr_expect(WITHIN_MS(SOON_MS, drives(pid)), "woken for earlier timers at most");
	killed(pid);
}

AT_ALL_LEVELS(stopped_driver_is_noticed_and_comes_back_unharmed)
{
	pid_t pid = child();
	struct thr *t;
	struct file *f;

	if (!pid) {
		char c;

		t = member_enter();
		f = connected(t, ECHO_PORT);
		atomic_store(&shared->settled, 1);
		sock_recv(t, f, &c, 1, io_now() + SEC(2));
		_exit(slowest(t, f, 50) > MSEC(NOTICED_MS));
	}
	cr_assert(WITHIN_MS(4000, drives(pid)));
	t = test_joins();
	f = connected(t, ECHO_PORT);
	cr_expect_leq(slowest(t, f, 10), MSEC(SOON_MS));
	kill(pid, SIGSTOP);
	cr_expect_leq(slowest(t, f, 1), MSEC(NOTICED_MS));
	cr_expect_leq(slowest(t, f, 100), MSEC(SOON_MS), "noticed once, the role is ours");
	kill(pid, SIGCONT);
	cr_expect_leq(slowest(t, f, 100), MSEC(SOON_MS));
	cr_expect_eq(rig_reap(pid), 0);
}

/* one whose timer fires more often than the keeper looks: that somebody moves does not mean that somebody reads */
AT_ALL_LEVELS(stopped_driver_is_noticed_while_others_move)
{
	pid_t pid = sleeper(), moves;
	struct thr *t;
	struct file *f;

	cr_assert(WITHIN_MS(4000, drives(pid)));
	moves = child();
	if (!moves) {
		char c;

		t = member_enter();
		f = connected(t, SILENT_PORT);
		atomic_store(&shared->step, 1);
		for (int i = 0; i < 300; i++)
			sock_recv(t, f, &c, 1, io_now() + MSEC(20));
		_exit(0);
	}
	t = test_joins();
	f = connected(t, ECHO_PORT);
	cr_assert(WITHIN_MS(4000, atomic_load(&shared->step)));
	cr_expect_leq(slowest(t, f, 10), MSEC(NOTICED_MS));
	WITHIN_MS(200, drives(pid)); /* mostly: it may have lost the role on the way */
	kill(pid, SIGSTOP);
	cr_expect_leq(slowest(t, f, 1), MSEC(NOTICED_MS));
	killed(pid);
	killed(moves);
}

AT_ALL_LEVELS(killed_driver_is_noticed)
{
	pid_t pid = sleeper();
	struct thr *t;
	struct file *f;

	cr_assert(WITHIN_MS(4000, drives(pid)));
	t = test_joins();
	f = connected(t, ECHO_PORT);
	kill(pid, SIGKILL);
	cr_expect_leq(slowest(t, f, 1), MSEC(NOTICED_MS));
	cr_expect_leq(slowest(t, f, 100), MSEC(SOON_MS));
	killed(pid);
}

/* In state S like any sleeper: frozen by a cgroup, or a thread that ended by a raw system call. */
AT_ALL_LEVELS(driver_that_never_comes_back_is_replaced)
{
	struct thr *t;
	struct file *f;
	pid_t pid = child();

	if (!pid) {
		t = member_enter();
		connected(t, SILENT_PORT);
		atomic_store(&shared->settled, 1);
		thr_enter();
		shard_lock(t);
		thr_leave_hold(t);
		pause();
	}
	cr_assert(WITHIN_MS(4000, drives(pid)));
	t = test_joins();
	f = sock_open(t);
	cr_expect_eq(sock_connect(t, f, ECHO_PORT, io_now() + MSEC(900)), 0, "before the SYN goes out a second time");
	killed(pid);
}

/*
 * The keeper drives; a thread takes the role just when something comes. Whichever of the two reads the frame answers at once:
 * what is lost or kept back shows as the second SYN or RTO, a second or 200 ms late.
 */
AT_ALL_LEVELS(role_taken_from_the_keeper_loses_nothing)
{
	struct thr *t = test_joins();
	struct file *f = connected(t, ECHO_PORT), *l = sock_open(t);
	char c;

	cr_assert_eq(sock_listen(t, l, 80), 0);
	atomic_store(&shared->peer_port, 80);
	for (int i = 1; i <= 8; i++) {
		cr_assert(WITHIN_MS(2000, drives(keeper_pid)), "turn %d", i);
		atomic_store(&shared->peer_burst, 3);
		usleep((useconds_t)(i * 170)); /* the peer looks once in a millisecond */
		sock_recv(t, f, &c, 1, io_now() + MSEC(30)); /* steals; comes back in vain */
		cr_expect(WITHIN_MS(150, atomic_load(&shared->peer_established) == 3 * i), "turn %d: %d", i,
			  atomic_load(&shared->peer_established));
		cr_expect_leq(slowest(t, f, 1), MSEC(SOON_MS));
	}
}

AT_ALL_LEVELS(timer_set_by_a_sleeper_wakes_the_driver)
{
	pid_t pid = sleeper();
	struct thr *t;
	struct file *f;
	usec_t us;

	cr_assert(WITHIN_MS(4000, drives(pid)));
	t = test_joins();
	f = connected(t, ECHO_PORT);
	slowest(t, f, 10);
	usleep(300000); /* no timer left: the driver sleeps without a deadline */
	cr_assert(drives(pid));
	atomic_store(&shared->peer_deaf, 1);
	if (!fork()) {
		usleep(100000);
		atomic_store(&shared->peer_deaf, 0);
		_exit(0);
	}
	us = slowest(t, f, 1); /* lost; sent again by RTO or tail loss probe */
	cr_expect_geq(us, MSEC(100));
	cr_expect_leq(us, MSEC(350));
	killed(pid);
}

AT_ALL_LEVELS(held_output_leaves_by_count_time_and_tick)
{
	struct thr *t = test_joins();
	struct file *f = connected(t, ECHO_PORT);
	usec_t since;
	int n, before;

	slowest(t, f, 3);
	t->undelivered = 1000; /* as if that many events were still to be acted on */
	for (n = 0; n < 40; n++) { /* by count: within 32 operations, or 200 us where the machine is slow */
		sock_send(t, f, "x", 1);
		if (!host->queue.held)
			break;
	}
	cr_expect_geq(n, 1);
	cr_expect_leq(n, 33);

	sock_send(t, f, "x", 1);
	cr_expect_eq(host->queue.held, 1);
	since = io_now();
	while (io_now() - since < 300)
		;
	sock_send(t, f, "x", 1);
	cr_expect_eq(host->queue.held, 0, "by time");

	before = atomic_load(&shared->peer_saw);
	sock_send(t, f, "x", 1);
	cr_expect_eq(host->queue.held, 1);
	cr_expect(WITHIN_MS(SOON_MS, !host->queue.held), "by the keeper's tick, while this thread computes");
	cr_expect(WITHIN_MS(SOON_MS, atomic_load(&shared->peer_saw) > before));
}

/* The keeper is late (here: stopped) when a process dies whose port somebody wants as soon as waitpid() has told of it. */
AT_ALL_LEVELS(bury_waits_for_the_keeper_to_drop_the_dead)
{
	pid_t pid = sleeper();
	usec_t since;

	test_joins();
	cr_assert(WITHIN_MS(4000, atomic_load(&shared->settled)));
	cr_expect_not(slots_bury(), "nobody is dead");
	kill(keeper_pid, SIGSTOP);
	killed(pid);
	if (!fork()) {
		usleep(80000);
		kill(keeper_pid, SIGCONT);
		_exit(0);
	}
	since = io_now();
	cr_expect(slots_bury());
	cr_expect_geq(io_now() - since, MSEC(50));
	for (uint32_t i = SLOT_KEEPER; i < atomic_load(&host->slot_top); i++) /* its number is wiped after the state */
		cr_expect(atomic_load(&host->slot[i].pid) != pid || atomic_load(&host->slot[i].state) == SLOT_FREE);
}

/* A connection to an address of our own: what was held back is delivered in memory, and no frame comes out that would tell so. */
AT_ALL_LEVELS(held_output_to_ourselves_is_held_no_more)
{
	struct endpoint here = { ip(OUR_IP), 4711 };
	struct thr *t = test_joins();
	struct file *l = sock_open(t), *f = sock_open(t);

	usleep(300000); /* the address has been announced by then: no frame of that kind any more */
	cr_assert_eq(thr_enter(), t);
	shard_lock(t);
	cr_assert_eq(tcp_bind(host->shard.stack, l->tcb, &here, t->now), 0);
	cr_assert_eq(tcp_listen(host->shard.stack, l->tcb, 8, t->now), 0);
	thr_leave(t);
	t->undelivered = 1000;
	cr_assert_eq(thr_enter(), t);
	shard_lock(t);
	cr_assert_eq(tcp_connect(host->shard.stack, f->tcb, &here, t->now), -EINPROGRESS);
	thr_leave(t);
	cr_expect(host->queue.held || host->keeper.pace == KEEPER_TICK, "held; or the keeper was there at once");
	cr_expect(WITHIN_MS(20 * SOON_MS, !host->queue.held), "by the keeper's tick; else never");
}

/* One batch of input calls for more frames than one batch of output holds, and nobody comes again for the rest. */
AT_ALL_LEVELS(no_answer_stays_behind_when_the_driver_sleeps_on)
{
	pid_t pid = child();
	int before;

	if (!pid) {
		struct thr *t = member_enter();
		struct file *l = sock_open(t), *f;
		char c;

		if (sock_listen(t, l, 80))
			_exit(1);
		f = connected(t, SILENT_PORT);
		atomic_store(&shared->settled, 1);
		sock_recv(t, f, &c, 1, USEC_NEVER);
	}
	cr_assert(WITHIN_MS(4000, drives(pid)));
	usleep(100000);
	before = atomic_load(&shared->peer_saw);
	atomic_store(&shared->peer_deaf, 1);
	atomic_store(&shared->peer_port, 80);
	atomic_store(&shared->peer_burst, 60);
	cr_expect(WITHIN_MS(500, atomic_load(&shared->peer_saw) >= before + 60), "%d SYN-ACKs of 60 came at once",
		  atomic_load(&shared->peer_saw) - before);
	killed(pid);
}

/* ---- wake-ups that were promised by somebody who cannot keep the promise ---- */

/* A member makes @sleeps's word move, unlocks, and does not live (or is stopped) to make the system call. */
static pid_t breaks_promise(pid_t sleeps, int sig)
{
	pid_t pid = child();

	if (!pid) {
		struct thr *t = member_enter();

		thr_enter();
		shard_lock(t);
		thr_wake_later(t, host->slot[slot_of(sleeps)].waiters);
		shard_unlock(t);
		raise(sig);
		pause();
	}
	return pid;
}

static pid_t counting_sleeper(void)
{
	pid_t pid = child();

	if (!pid) {
		struct thr *t = member_enter();
		struct file *f = connected(t, SILENT_PORT);

		thr_enter();
		shard_lock(t);
		atomic_store(&shared->settled, 1);
		for (;;) {
			if (sock_wait(t, f, TCP_EV_IN, false, USEC_NEVER) > 0)
				atomic_fetch_add(&shared->step, 1);
		}
	}
	return pid;
}

AT_ALL_LEVELS(wake_up_promised_by_the_dead_is_made_good)
{
	pid_t sleeps = counting_sleeper(), other;

	cr_assert(WITHIN_MS(4000, drives(sleeps)));
	other = breaks_promise(sleeps, SIGKILL);
	cr_expect(WITHIN_MS(NOTICED_MS, atomic_load(&shared->step) == 1), "%d", atomic_load(&shared->step));
	waitpid(other, NULL, 0);
	killed(sleeps);
}

AT_ALL_LEVELS(wake_up_promised_by_the_stopped_is_made_good)
{
	pid_t sleeps = counting_sleeper(), other;
	struct thr *t;
	int before;

	cr_assert(WITHIN_MS(4000, drives(sleeps)));
	other = breaks_promise(sleeps, SIGSTOP);
	usleep(100000);
	before = atomic_load(&shared->step); /* 0, unless a frame or a timer woke it */
	t = test_joins();
	shard_lock(t);
	thr_wake_later(t, host->slot[slot_of(sleeps)].waiters);
	thr_leave(t);
	cr_expect(WITHIN_MS(SOON_MS, atomic_load(&shared->step) > before), "a later wake is not held back by it");
	killed(other);
	killed(sleeps);
	cr_assert(WITHIN_MS(1000, !slot_of(sleeps)));
	atomic_store(&shared->settled, 0);

	sleeps = counting_sleeper();
	cr_assert(WITHIN_MS(4000, drives(sleeps)));
	before = atomic_load(&shared->step);
	other = breaks_promise(sleeps, SIGSTOP);
	cr_expect(WITHIN_MS(3000, atomic_load(&shared->step) > before), "and the keeper makes it good");
	killed(other);
	killed(sleeps);
}

/* Two who wait to accept; two connections in one batch; each of the two takes one and does not come back. */
AT_ALL_LEVELS(two_events_wake_two_exclusive_waiters)
{
	struct thr *t = test_joins();
	struct file *l = sock_open(t);
	pid_t pid[2];

	cr_assert_eq(sock_listen(t, l, 80), 0);
	for (int i = 0; i < 2; i++) {
		pid[i] = child();
		if (!pid[i]) {
			t = member_enter();
			atomic_fetch_add(&shared->go, 1);
			if (sock_accept(t, l, USEC_NEVER))
				atomic_fetch_add(&shared->step, 1);
			pause();
		}
	}
	cr_assert(WITHIN_MS(1000, atomic_load(&shared->go) == 2));
	usleep(50000);
	atomic_store(&shared->peer_port, 80);
	atomic_store(&shared->peer_burst, 2);
	cr_expect(WITHIN_MS(NOTICED_MS, atomic_load(&shared->step) == 2), "%d accepted", atomic_load(&shared->step));
	killed(pid[0]);
	killed(pid[1]);
}

/* One waits to accept, is woken, and killed before it acts: the connection is the other one's. */
AT_ALL_LEVELS(connection_of_a_killed_acceptor_is_taken_by_the_next)
{
	struct thr *t = test_joins();
	struct file *l = sock_open(t);
	pid_t takes, dies;

	cr_assert_eq(sock_listen(t, l, 80), 0);
	dies = child();
	if (!dies) {
		t = member_enter();
		thr_enter();
		shard_lock(t);
		watch_arm_exclusive(t, l, TCP_EV_IN);
		atomic_store(&shared->go, 1);
		thr_leave(t); /* first in line, and never looks again */
		pause();
	}
	cr_assert(WITHIN_MS(1000, atomic_load(&shared->go) == 1));
	takes = child();
	if (!takes) {
		t = member_enter();
		if (sock_accept(t, l, USEC_NEVER))
			atomic_fetch_add(&shared->step, 1);
		pause();
	}
	atomic_store(&shared->settled, 1);
	cr_assert(WITHIN_MS(1000, drives(takes)));
	atomic_store(&shared->peer_port, 80);
	atomic_store(&shared->peer_burst, 1);
	usleep(100000); /* the one that sleeps may still look for another reason, and take it */
	kill(dies, SIGKILL);
	cr_expect(WITHIN_MS(NOTICED_MS, atomic_load(&shared->step) == 1));
	killed(dies);
	killed(takes);
}

/* ---- all together ---- */

#define STORM_PROCS   4
#define STORM_THREADS 2
#define STORM_US      SEC(2)
#define LOOK_US	      10000 /* two of the keeper's ticks, and some */
#define LOOKS_STUCK   3	    /* sooner than anything but the tick repairs: the keeper's slow pace, a tail loss probe */

/* in shared->count, for each thread: who is at it, its socket, how many answers it has had */
enum { STORM_TIDS = 0, STORM_FILES = 16, STORM_ANSWERS = 32, STORM_ALL = STORM_PROCS * STORM_THREADS };

static void *storm_thread(void *arg)
{
	uintptr_t me = (uintptr_t)arg;
	uint32_t seed = (uint32_t)me * 2654435761u;
	struct thr *t = thr_enter();
	struct file *f = sock_open(t);
	usec_t end = io_now() + STORM_US;
	uint64_t n = 0;

	if (sock_connect(t, f, ECHO_PORT, io_now() + PATIENCE_US))
		atomic_fetch_add(&shared->failed, 1);
	atomic_store(&shared->count[STORM_FILES + me], (uintptr_t)f);
	atomic_store(&shared->count[STORM_TIDS + me], (uint64_t)gettid());
	while (io_now() < end) {
		if (ping(t, f, seed + n++, PATIENCE_US) == USEC_NEVER) {
			atomic_fetch_add(&shared->failed, 1);
			break;
		}
		atomic_store(&shared->count[STORM_ANSWERS + me], n);
		seed = seed * 1664525 + 1013904223;
		if (seed >> 28 == 0)
			usleep(seed >> 16 & 1023); /* OUT for a while */
		else if (seed >> 28 == 1)
			drive_once(t);
	}
	atomic_store(&shared->count[STORM_TIDS + me], 0);
	sock_close(t, f);
	return NULL;
}

/* Asleep as far as the kernel knows: a thread that was woken, and only waits for a CPU, is not. */
static bool sleeps(pid_t tid)
{
	char path[40], line[256] = "", *state;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)tid);
	f = fopen(path, "re");
	if (!f)
		return false;
	state = fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
	fclose(f);
	return state && state[2] == 'S';
}

/* Somebody is about to wake others, and lost the CPU before it could. */
static bool wakes_are_owed(void)
{
	const struct waiter *w;

	for (uint32_t c = 0; (w = slab_next(&host->waiters, &c));)
		if (w->owes)
			return true;
	return false;
}

/* Threads asleep though their answer is there, and one more where all sleep: a question is always on its way somewhere. */
static void storm_look(bool ret_asleep[STORM_ALL + 1])
{
	bool owed = wakes_are_owed();

	ret_asleep[STORM_ALL] = !owed && sleeps(keeper_pid) && sleeps(peer_pid);
	for (int i = 0; i < STORM_ALL; i++) {
		const struct file *f = (const struct file *)(uintptr_t)atomic_load(&shared->count[STORM_FILES + i]);
		pid_t tid = (pid_t)atomic_load(&shared->count[STORM_TIDS + i]);
		bool asleep = tid && sleeps(tid);

		ret_asleep[i] = !owed && asleep && tcp_poll(f->tcb) & TCP_EV_IN;
		ret_asleep[STORM_ALL] &= asleep;
	}
}

/*
 * On a wire that loses nothing whoever has to go on runs, or will by the keeper's tick. Where somebody sleeps on, a wake was lost,
 * and only a timer would make up for it. Return: how often
 */
static unsigned storm_stuck(usec_t until)
{
	unsigned quiet[STORM_ALL + 1] = { 0 }, stuck = 0;
	uint64_t seen[STORM_ALL + 1] = { 0 };
	usec_t last = io_now();

	while (io_now() < until) {
		bool asleep[STORM_ALL + 1], in_time;

		usleep(LOOK_US);
		in_time = io_now() - last < 2 * LOOK_US; /* else the machine stood still, and others' timers are late as well */
		last = io_now();
		storm_look(asleep);
		for (int i = 0; i <= STORM_ALL; i++) {
			uint64_t n = i < STORM_ALL ? atomic_load(&shared->count[STORM_ANSWERS + i]) : atomic_load(&host->queue.activity);

			quiet[i] = in_time && asleep[i] && n == seen[i] ? quiet[i] + 1 : 0;
			stuck += quiet[i] == LOOKS_STUCK;
			seen[i] = n;
		}
	}
	return stuck;
}

AT_ALL_LEVELS(storm_of_processes_and_threads_loses_no_wake)
{
	pid_t pid[STORM_PROCS];
	uint64_t answers = 0;

	for (uintptr_t i = 0; i < STORM_PROCS; i++) {
		pid[i] = child();
		if (!pid[i]) {
			pthread_t th[STORM_THREADS];

			member_enter();
			for (uintptr_t k = 0; k < STORM_THREADS; k++)
				pthread_create(&th[k], NULL, storm_thread, (void *)(i * STORM_THREADS + k));
			for (int k = 0; k < STORM_THREADS; k++)
				pthread_join(th[k], NULL);
			_exit(0);
		}
	}
	cr_expect_eq(storm_stuck(io_now() + STORM_US), 0, "somebody slept on: a timer had to do what a wake should have");
	for (int i = 0; i < STORM_PROCS; i++)
		cr_expect_eq(rig_reap(pid[i]), 0);
	for (int i = 0; i < STORM_ALL; i++)
		answers += atomic_load(&shared->count[STORM_ANSWERS + i]);
	cr_expect_geq(answers, 2000);
	cr_expect_eq(atomic_load(&shared->failed), 0);
}

/* One that read the clock, was put off the CPU, and found on return that another had sent: a round trip below zero is 2^32 us. */
Test(drive, time_does_not_go_back_under_the_lock)
{
	struct thr *t = rig_join();
	usec_t later;

	shard_lock(t);
	later = t->now + SEC(1);
	t->now = later;
	shard_unlock(t);
	t->now = later - SEC(1);
	shard_lock(t);
	cr_expect_eq(t->now, later);
	shard_unlock(t);
	t->now = 0;
	cr_assert(shard_trylock(t));
	cr_expect_eq(t->now, later);
	shard_unlock(t);
	t->now = 0;
	cr_assert(shard_lock_once(t));
	cr_expect_eq(t->now, later);
	shard_unlock(t);
}
