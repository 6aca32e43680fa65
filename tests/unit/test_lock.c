/* SPDX-License-Identifier: BSD-2-Clause */
/* The shard lock: holders that are stopped, traced, or of another user; threads. Holders that are killed: test_death.c. */
#include <pthread.h>
#include <sys/ptrace.h>
#include "drive_rig.h"
#include "waited.h"

/* ---- stopped, not dead ---- */

static uint32_t slot_of(pid_t pid)
{
	for (uint32_t i = 1; i < host->slot_top; i++)
		if (host->slot[i].pid == pid)
			return i;
	return 0;
}

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
	struct waited w;
	struct thr *t;
	pid_t pid;

	drive_rig(IO_LEVEL_POLL, false);
	cr_assert_gt(slot_register(), 0);
	t = thr_enter();
	pid = stops_inside();
	cr_assert(WITHIN_MS(1000, is_stopped(pid)));
	waited_control();
	w = waited_now();
	shard_lock(t);
	w = waited_since(&w);
	shard_unlock(t);
	WAITED_AT_MOST(w, 100, 2, 20, "process %d", pid); /* patience, then until it is out */
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
