/* SPDX-License-Identifier: BSD-2-Clause */
#include <signal.h>
#include "../../host/leaf.h"
#include "host_rig.h"

#define FORK_ENTRIES	15000
#define FORK_LIMIT_US	5000 /* takes 0.2 ms; a bound that a busy machine keeps as well */

static void set(int fd, struct file *f, uint32_t flags)
{
	struct file *old;

	cr_assert_eq(fdtab_set(fd, f, flags, &old), 0);
}

/* what a preloaded fork() does */
static pid_t member_fork(void)
{
	uint32_t child;
	pid_t pid;

	cr_assert_eq(slot_fork_prepare(&child), 0);
	pid = fork();
	if (pid) {
		slot_fork_parent(child, pid);
	} else {
		thr_fork_child();
		slot_fork_child(child);
	}
	return pid;
}

Test(slot, registered_process_knows_itself_and_lives)
{
	struct thr *t = rig_join();
	uint32_t self = slot_self();

	(void)t;
	cr_assert_gt(self, (uint32_t)SLOT_KEEPER);
	cr_expect_eq(atomic_load(&host->slot[self].pid), getpid());
	cr_expect_eq(atomic_load(&host->slot[self].start_time), slot_start_time(getpid()));
	cr_expect_neq(slot_start_time(0), 0);
	cr_expect_eq(slot_life(self), SLOT_RUNS);
	cr_expect_eq(slot_life(0), SLOT_GONE);
	cr_expect_not(slot_is_vfork_child());
}

Test(slot, given_back_slot_is_the_next_one_taken)
{
	uint32_t first;
	struct thr *t = rig_join();

	first = slot_self();
	thr_exit(t);
	slot_unregister();
	cr_expect_eq(slot_self(), 0);
	cr_expect_eq(atomic_load(&host->n_live), 0);
	cr_expect_eq(slot_register(), (int)first);
}

Test(slot, child_made_behind_our_back_has_no_slot)
{
	struct thr *t = rig_join();
	pid_t pid;

	set(3, rig_file(t), 0);
	pid = fork();
	if (!pid)
		_exit(slot_self() != 0 || fdtab_lookup(3) != NULL);
	cr_expect_eq(rig_reap(pid), 0);
	cr_expect_not_null(fdtab_lookup(3));
}

Test(slot, fork_without_numbers_reserves_nothing)
{
	uint32_t child = 99;

	rig_join();
	cr_expect_eq(slot_fork_prepare(&child), 0);
	cr_expect_eq(child, 0);
	cr_expect_eq(atomic_load(&host->n_live), 1);
}

Test(slot, fork_shares_files_and_the_dead_child_gives_them_back)
{
	struct thr *t = rig_join();
	struct file *f = rig_file(t);
	uint32_t child = 0;
	pid_t pid;

	set(3, f, FDENT_CLOEXEC);
	set(4, f, 0);
	pid = member_fork();
	if (!pid) {
		struct fdent *e = fdtab_lookup(3);

		if (!e || file_get(atomic_load(&e->file)) != f || atomic_load(&e->flags) != FDENT_CLOEXEC || !fdtab_lookup(4))
			_exit(1);
		if (atomic_load(&host->slot[slot_self()].pid) != getpid() || atomic_load(&host->slot[slot_self()].state) != SLOT_LIVE)
			_exit(2);
		fdtab_clear(4);
		_exit(fdtab_lookup(4) ? 3 : 0);
	}
	cr_assert_eq(rig_reap(pid), 0);
	for (uint32_t i = 2; i < atomic_load(&host->slot_top); i++) {
		if (atomic_load(&host->slot[i].pid) == pid)
			child = i;
	}
	cr_assert_neq(child, 0);
	cr_expect_eq(slot_life(child), SLOT_GONE);
	cr_expect_not_null(fdtab_lookup(4), "closed in the child only");
	cr_expect_eq(atomic_load(&f->numbers), 3);
	slot_drop(t, child);
	cr_expect_eq(atomic_load(&f->numbers), 2);
	cr_expect_eq(atomic_load(&f->refs), 3, "two numbers, and the reference the child took out of its table and died with");
	cr_expect_eq(atomic_load(&host->slot[child].pid), 0);
	cr_expect_eq(atomic_load(&host->n_live), 1);
}

Test(slot, references_of_calls_in_progress_die_with_the_process)
{
	struct thr *t = rig_join();
	struct file *f = rig_file(t);
	uint32_t child;
	pid_t pid;

	set(3, f, 0);
	cr_assert_eq(slot_fork_prepare(&child), 0);
	pid = fork();
	if (!pid) {
		struct thr *mine;

		thr_fork_child();
		slot_fork_child(child);
		mine = thr_enter();
		shard_lock(mine);
		file_hold(mine, f); /* blocked in accept() and in a handler's recv(), say */
		file_hold(mine, f);
		file_hold(mine, f);
		file_release(mine, f);
		shard_unlock(mine);
		_exit(0);
	}
	slot_fork_parent(child, pid);
	cr_assert_eq(rig_reap(pid), 0);
	cr_expect_eq(atomic_load(&f->refs), 2);
	cr_expect_eq(f->holds, 2);
	slot_drop(t, child);
	cr_expect_eq(atomic_load(&f->refs), 1);
	cr_expect_eq(f->holds, 0);
	cr_expect_eq(host->waiters.in_use, 1);
}

Test(slot, failed_fork_is_undone)
{
	struct thr *t = rig_join();
	struct file *f = rig_file(t);
	uint32_t child;

	set(3, f, 0);
	cr_assert_eq(slot_fork_prepare(&child), 0);
	cr_assert_neq(child, 0);
	cr_expect_eq(atomic_load(&f->refs), 2);
	slot_fork_parent(child, -1);
	cr_expect_eq(atomic_load(&host->slot[child].state), SLOT_DEAD);
	slot_drop(t, child); /* what the keeper does then */
	cr_expect_eq(atomic_load(&f->refs), 1);
}

Test(slot, child_that_was_given_up_is_no_member)
{
	struct thr *t = rig_join();
	uint32_t child;

	set(3, rig_file(t), 0);
	cr_assert_eq(slot_fork_prepare(&child), 0);
	atomic_store(&host->slot[child].state, SLOT_DEAD);
	if (!fork()) {
		thr_fork_child();
		slot_fork_child(child);
		_exit(slot_self() != 0);
	}
	int status;
	wait(&status);
	cr_expect_eq(WEXITSTATUS(status), 0);
}

Test(slot, fork_with_many_numbers_is_quick)
{
	struct thr *t = rig_join();
	uint32_t child;
	usec_t from, took = USEC_NEVER;

	for (int fd = 0; fd < FORK_ENTRIES; fd++)
		set(fd, rig_file(t), 0);
	for (int i = 0; i < 3; i++) { /* the best of three: the machine is shared */
		from = io_now();
		cr_assert_eq(slot_fork_prepare(&child), 0);
		if (io_now() - from < took)
			took = io_now() - from;
		cr_assert_eq(atomic_load(&host->slot[child].n_entries), FORK_ENTRIES);
		slot_fork_parent(child, -1);
		slot_drop(t, child);
	}
	cr_log_info("%d entries: %llu us\n", FORK_ENTRIES, (unsigned long long)took);
	cr_expect_lt(took, FORK_LIMIT_US);
}

Test(slot, stopped_process_is_told_from_a_dead_one)
{
	struct thr *t = rig_join();
	uint32_t child = 0;
	int status;
	pid_t pid;

	set(3, rig_file(t), 0);
	pid = member_fork();
	if (!pid) {
		raise(SIGSTOP);
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, WUNTRACED), pid);
	for (uint32_t i = 2; i < atomic_load(&host->slot_top); i++) {
		if (atomic_load(&host->slot[i].pid) == pid)
			child = i;
	}
	cr_expect_eq(slot_life(child), SLOT_STOPPED);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	cr_expect_eq(slot_life(child), SLOT_GONE);
}

Test(slot, leaf_lock_of_the_dead_is_broken)
{
	struct thr *t = rig_join();
	uint32_t dead = 0, was;
	_Atomic uint32_t *word = &host->fdchunk_lock;
	pid_t pid;

	(void)t;
	pid = fork();
	if (!pid) {
		thr_fork_child();
		slot_register();
		leaf_lock(word, NULL);
		_exit(0);
	}
	cr_assert_eq(rig_reap(pid), 0);
	was = atomic_load(word);
	cr_assert_neq(was, 0);
	cr_expect_eq(leaf_lock(word, &dead), LEAF_BROKEN);
	cr_expect_eq(dead, was & ~LEAF_CONTENDED);
	leaf_unlock(word);
	cr_expect_eq(leaf_lock(word, NULL), LEAF_TAKEN);
	leaf_unlock(word);
}

/* Forget who we are, as a new image does */
static void image_replaced(void)
{
	thr_fork_child();
	slot_self_page->index = 0;
	slot_self_page->slot = NULL;
}

Test(slot, new_image_takes_over_what_was_not_cloexec)
{
	struct thr *t = rig_join();
	struct file *kept = rig_file(t), *cloexec = rig_file(t), *gone = rig_file(t);
	uint32_t old = slot_self();
	int s = socket(AF_UNIX, SOCK_STREAM, 0), pipes[2];

	cr_assert_eq(pipe(pipes), 0);
	set(s, kept, 0);
	set(s + 1000, cloexec, FDENT_CLOEXEC);
	set(pipes[0], gone, 0); /* the number is no socket any more */
	slot_exec_prepare();
	image_replaced();
	cr_assert_gt(slot_register(), 0);
	t = thr_enter();
	cr_expect_eq(slot_exec_adopt(t), 1);
	cr_assert_not_null(fdtab_lookup(s));
	cr_expect_eq(file_get(atomic_load(&fdtab_lookup(s)->file)), kept);
	cr_expect_null(fdtab_lookup(s + 1000));
	cr_expect_null(fdtab_lookup(pipes[0]));
	cr_expect_eq(atomic_load(&host->slot[old].state), SLOT_DEAD);
	slot_drop(t, old);
	cr_expect_not_null(fdtab_lookup(s), "the table moved: dropping the old slot must not touch it");
	cr_expect_eq(atomic_load(&kept->numbers), 1);
	cr_expect_eq(host->files.in_use, 1);
}

Test(slot, keeper_drops_cloexec_numbers_of_an_exec)
{
	struct thr *t = rig_join();
	struct file *kept = rig_file(t);
	uint32_t self = slot_self();

	set(3, kept, 0);
	set(4, rig_file(t), FDENT_CLOEXEC);
	slot_exec_drop(t, self);
	cr_expect_not_null(fdtab_lookup(4), "no exec was announced");
	slot_exec_prepare();
	slot_exec_drop(t, self);
	cr_expect_eq(atomic_load(&host->slot[self].state), SLOT_EXECED);
	cr_expect_null(fdtab_lookup(4));
	cr_expect_not_null(fdtab_lookup(3));
}

Test(slot, failed_exec_changes_nothing)
{
	struct thr *t = rig_join();

	set(4, rig_file(t), FDENT_CLOEXEC);
	slot_exec_prepare();
	slot_exec_failed();
	slot_exec_drop(t, slot_self());
	cr_expect_not_null(fdtab_lookup(4));
	cr_expect_eq(atomic_load(&host->slot[slot_self()].state), SLOT_LIVE);
}

Test(slot, keeper_slot_is_one)
{
	rig_format();
	cr_expect_eq(slot_register_keeper(), SLOT_KEEPER);
	cr_expect_eq(slot_register_keeper(), -EBUSY);
}
