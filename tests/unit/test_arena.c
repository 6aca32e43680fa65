/* SPDX-License-Identifier: BSD-2-Clause */
#include <sys/resource.h>
#include "host_rig.h"

Test(arena, memfd_is_sealed_and_sparse)
{
	int fd = arena_create(RIG_ARENA_BYTES);
	struct stat st;

	cr_assert_geq(fd, 0);
	cr_assert_eq(sys_fstat(fd, &st), 0);
	cr_expect_eq((size_t)st.st_size, RIG_ARENA_BYTES);
	cr_expect_eq(st.st_blocks, 0);
	cr_expect_eq(ftruncate(fd, 4096), -1, "a member could make the others fault");
	cr_expect_eq(ftruncate(fd, (off_t)RIG_ARENA_BYTES * 2), -1);
}

Test(arena, fresh_memfd_is_not_a_host)
{
	int fd = arena_create(RIG_ARENA_BYTES);

	cr_expect_eq(arena_map(fd, true), -EPROTO);
	cr_expect_null(host);
	/* nothing stays mapped: the address is free for the next try */
	cr_expect_eq(arena_map(fd, true), -EPROTO);
}

Test(arena, formatted_arena_maps_again_at_its_address)
{
	int fd = rig_format();

	cr_assert_eq((uintptr_t)host, ARENA_BASE);
	cr_expect_eq(arena_map(fd, true), -EEXIST, "mapped twice");
	arena_unmap();
	cr_assert_eq(arena_map(fd, false), 0);
	cr_expect_str_eq(host->name, "default");
	cr_expect_eq(host->arena_bytes, RIG_ARENA_BYTES);
}

Test(arena, other_layout_is_refused)
{
	int fd = rig_format();

	host->layout_hash ^= 1;
	arena_unmap();
	cr_expect_eq(arena_map(fd, true), -EPROTO);
}

Test(arena, keeper_that_died_while_formatting_is_followed_by_another)
{
	const struct host_device dev = { .kind = IO_KIND_MEM, .caps = { .mtu_bytes = 1500 } };
	char err[CONFIG_ERR_BYTES] = "";
	int fd = rig_format();
	uint8_t token[16] = { 7 };
	struct config cfg;

	host->magic = 0; /* as if it had not come to the end */
	host->n_live = 55;
	arena_unmap();
	config_init(&cfg);
	cfg.arena_bytes = RIG_ARENA_BYTES;
	cr_assert_eq(host_format(fd, &cfg, &dev, 0, token, err, sizeof(err)), 0, "%s", err);
	cr_expect_eq(atomic_load(&host->n_live), 0, "something of the half-made host is left");
	cr_expect_eq(host->token[0], 7);
}

Test(arena, too_little_address_space_is_one_line)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	cr_skip_test("a sanitizer's shadow needs the address space itself");
#endif
	const struct rlimit little = { 512 << 20, 512 << 20 };
	const struct host_device dev = { .kind = IO_KIND_MEM, .caps = { .mtu_bytes = 1500 } };
	char err[CONFIG_ERR_BYTES] = "";
	const uint8_t token[16] = { 0 };
	int fd = arena_create(RIG_ARENA_BYTES);
	struct config cfg;

	config_init(&cfg);
	cr_assert_eq(setrlimit(RLIMIT_AS, &little), 0);
	cr_expect_eq(host_format(fd, &cfg, &dev, 0, token, err, sizeof(err)), -ENOMEM);
	cr_expect_not_null(strstr(err, "ulimit -v"), "%s", err);
}

Test(arena, address_that_is_taken_is_left_alone)
{
	int fd = rig_format();
	char *theirs;

	arena_unmap();
	theirs = mmap((void *)ARENA_BASE, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	*theirs = 42;
	cr_expect_eq(arena_map(fd, true), -EEXIST);
	cr_expect_eq(*theirs, 42);
}
