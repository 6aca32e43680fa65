/* SPDX-License-Identifier: BSD-2-Clause */
#include "../../host/leaf.h"
#include "host_rig.h"

static void set(int fd, struct file *f, uint32_t flags)
{
	struct file *old;

	cr_assert_eq(fdtab_set(fd, f, flags, &old), 0);
	cr_assert_null(old);
}

Test(fdtab, number_that_was_never_set_is_not_ours)
{
	rig_join();
	cr_expect_null(fdtab_lookup(0));
	cr_expect_null(fdtab_lookup(-1));
	cr_expect_null(fdtab_lookup(1 << 20));
	cr_expect_null(fdtab_lookup(INT32_MAX));
	cr_expect_null(fdtab_clear(5));
}

Test(fdtab, set_number_is_found_and_counts_references)
{
	struct thr *t = rig_join();
	struct file *f = rig_file(t);
	struct fdent *e;

	set(7, f, FDENT_CLOEXEC);
	set(1048575, f, 0);
	e = fdtab_lookup(7);
	cr_assert_not_null(e);
	cr_expect_eq(file_get(atomic_load(&e->file)), f);
	cr_expect_eq(atomic_load(&e->flags), FDENT_CLOEXEC);
	cr_expect_eq(atomic_load(&f->refs), 2);
	cr_expect_eq(atomic_load(&f->numbers), 2);
	cr_expect_eq(atomic_load(&host->slot[slot_self()].n_entries), 2);
	cr_expect_null(fdtab_lookup(6));
}

Test(fdtab, out_of_range_is_ebadf)
{
	struct thr *t = rig_join();
	struct file *f = rig_file(t), *old;

	cr_expect_eq(fdtab_set(1 << 20, f, 0, &old), -EBADF);
	cr_expect_eq(fdtab_set(-1, f, 0, &old), -EBADF);
	cr_expect_eq(atomic_load(&f->refs), 0);
}

Test(fdtab, clear_gives_the_reference_and_the_number_is_free)
{
	struct thr *t = rig_join();
	struct file *f = rig_file(t);

	set(3, f, 0);
	cr_assert_eq(fdtab_clear(3), f);
	cr_expect_eq(atomic_load(&f->numbers), 0);
	cr_expect_eq(atomic_load(&f->refs), 1, "the reference is the caller's now");
	cr_expect_null(fdtab_lookup(3));
	cr_expect_null(fdtab_clear(3));
}

Test(fdtab, replaced_number_gives_the_old_file_and_changes_gen)
{
	struct thr *t = rig_join();
	struct file *a = rig_file(t), *b = rig_file(t), *old;
	uint32_t gen;

	set(3, a, FDENT_CLOEXEC);
	gen = atomic_load(&fdtab_lookup(3)->gen);
	cr_assert_eq(fdtab_set(3, b, 0, &old), 0);
	cr_expect_eq(old, a);
	cr_expect_neq(atomic_load(&fdtab_lookup(3)->gen), gen);
	cr_expect_eq(atomic_load(&fdtab_lookup(3)->flags), 0);
	cr_expect_eq(atomic_load(&host->slot[slot_self()].n_entries), 1);
	cr_expect_eq(atomic_load(&a->numbers), 0);
	cr_expect_eq(atomic_load(&b->numbers), 1);
}

Test(fdtab, next_walks_all_numbers_in_order)
{
	static const int numbers[] = { 0, 5, 1023, 1024, 70000, 1000000 };
	struct thr *t = rig_join();
	struct file *f = rig_file(t);
	int fd = -1;

	for (size_t i = 0; i < 6; i++)
		set(numbers[i], f, 0);
	for (size_t i = 0; i < 6; i++) {
		fd = fdtab_next(slot_self(), fd + 1);
		cr_expect_eq(fd, numbers[i]);
	}
	cr_expect_eq(fdtab_next(slot_self(), fd + 1), -1);
}

Test(fdtab, cloexec_can_be_set_and_cleared)
{
	struct thr *t = rig_join();

	set(4, rig_file(t), 0);
	cr_expect_eq(fdtab_cloexec(4, true), 0);
	cr_expect_eq(atomic_load(&fdtab_lookup(4)->flags), FDENT_CLOEXEC);
	cr_expect_eq(fdtab_cloexec(4, false), 0);
	cr_expect_eq(atomic_load(&fdtab_lookup(4)->flags), 0);
	cr_expect_eq(fdtab_cloexec(9, true), -EBADF);
}

Test(fdtab, drop_of_all_frees_files_and_memory)
{
	struct thr *t = rig_join();
	uint32_t files = host->files.in_use;

	for (int fd = 0; fd < 3000; fd++)
		set(fd, rig_file(t), 0);
	cr_assert_eq(host->fdchunks.in_use, 3);
	fdtab_drop(t, slot_self(), FDTAB_ALL);
	cr_expect_eq(host->files.in_use, files);
	cr_expect_eq(host->fdchunks.in_use, 0);
	cr_expect_eq(atomic_load(&host->slot[slot_self()].n_entries), 0);
	cr_expect_null(fdtab_lookup(100));
}

Test(fdtab, chunk_of_a_process_that_died_under_the_lock_is_found)
{
	struct thr *t = rig_join();
	pid_t pid;

	set(1, rig_file(t), 0);
	pid = fork();
	if (!pid) { /* a member of its own takes a chunk, and dies before it hangs anywhere */
		thr_fork_child();
		if (slot_register() < 0 || leaf_lock(&host->fdchunk_lock, NULL) != LEAF_TAKEN || !slab_alloc(&host->fdchunks))
			_exit(1);
		_exit(0);
	}
	cr_assert_eq(rig_reap(pid), 0);
	cr_assert_eq(host->fdchunks.in_use, 2);
	set(5000, rig_file(t), 0); /* needs a chunk: breaks the lock, mends the slab */
	cr_expect_eq(host->fdchunks.in_use, 2, "ours, and the new one");
	cr_expect_not_null(fdtab_lookup(1));
	cr_expect_not_null(fdtab_lookup(5000));
	cr_expect_eq(atomic_load(&host->fdchunk_lock), 0);
}
