/* SPDX-License-Identifier: BSD-2-Clause */
#include <criterion/criterion.h>
#include <string.h>
#include "region.h"

#define TEST(name) Test(mem, name)

static struct slab slab_new(uint32_t obj_bytes, uint32_t limit, size_t bytes)
{
	struct slab s;

	cr_assert_eq(slab_init(&s, region_new(bytes), obj_bytes, limit), 0);
	return s;
}

TEST(region_take_aligns_and_ends)
{
	struct region *r = region_new(1 << 20);
	uint8_t *a = region_take(r, 3, 1), *b = region_take(r, 8, 64);

	cr_assert(a && b);
	cr_assert_eq((uintptr_t)b % 64, 0);
	cr_assert_geq(b - a, 3);
	cr_assert_null(region_take(r, 1 << 20, 8));
	cr_assert_null(region_take(r, SIZE_MAX, 8));
	cr_assert_not_null(region_take(r, (1 << 20) - r->used, 1), "the last octets are usable");
	cr_assert_null(region_take(r, 1, 1));
}

TEST(objects_are_zeroed_and_disjoint)
{
	struct slab s = slab_new(40, 0, 64 << 20);
	enum { N = 10000 };
	static uint8_t *obj[N];

	for (int i = 0; i < N; i++) {
		obj[i] = slab_alloc(&s);
		cr_assert_not_null(obj[i]);
		for (int k = 0; k < 40; k++)
			cr_assert_eq(obj[i][k], 0);
		memset(obj[i], i, 40);
		cr_assert_eq((uintptr_t)obj[i] % 8, 0);
	}
	for (int i = 0; i < N; i++) {
		for (int k = 0; k < 40; k++)
			cr_assert_eq(obj[i][k], (uint8_t)i);
		slab_free(&s, obj[i]);
	}
	cr_assert_eq(s.in_use, 0);
	cr_assert_eq(*(uint8_t *)slab_alloc(&s), 0, "also when used before");
}

TEST(index_zero_is_never_given)
{
	struct slab s = slab_new(8, 0, 64 << 20);
	void *o = slab_alloc(&s);

	cr_assert_neq(slab_index(&s, o), 0);
	cr_assert_eq(slab_at(&s, slab_index(&s, o)), o);
	cr_assert_null(slab_at(&s, 0));
	cr_assert_null(slab_at(&s, 77777777));
}

TEST(freed_last_given_first)
{
	struct slab s = slab_new(100, 0, 64 << 20);
	void *a = slab_alloc(&s), *b = slab_alloc(&s);

	slab_free(&s, a);
	slab_free(&s, b);
	cr_assert_eq(slab_alloc(&s), b);
	cr_assert_eq(slab_alloc(&s), a);
}

TEST(stale_handle_found_out)
{
	struct slab s = slab_new(100, 0, 64 << 20);
	void *a = slab_alloc(&s);
	uint64_t h = slab_handle(&s, a);

	cr_assert_eq(slab_get(&s, h), a);
	slab_free(&s, a);
	cr_assert_null(slab_get(&s, h));
	cr_assert_eq(slab_alloc(&s), a);
	cr_assert_null(slab_get(&s, h), "another life of the same memory");
	cr_assert_null(slab_get(&s, 0));
}

TEST(limit_holds_and_free_makes_room)
{
	struct slab s = slab_new(100, 3, 64 << 20);
	void *a = slab_alloc(&s);

	slab_alloc(&s);
	slab_alloc(&s);
	cr_assert_null(slab_alloc(&s));
	slab_free(&s, a);
	cr_assert_eq(slab_alloc(&s), a);
}

TEST(region_exhausted_gives_null_then_recovers)
{
	struct slab s = slab_new(1000, 0, 1 << 20);
	void *o, *last = NULL;
	unsigned n = 0;

	while ((o = slab_alloc(&s))) {
		last = o;
		n++;
	}
	cr_assert_gt(n, 500);
	slab_free(&s, last);
	cr_assert_eq(slab_alloc(&s), last);
	cr_assert_null(slab_alloc(&s));
}

TEST(next_visits_each_live_object_once)
{
	struct slab s = slab_new(64, 0, 64 << 20);
	enum { N = 5000 };
	static void *obj[N];
	uint32_t cursor = 0;
	unsigned seen = 0;
	char *o;

	for (int i = 0; i < N; i++)
		obj[i] = slab_alloc(&s);
	for (int i = 0; i < N; i += 3)
		slab_free(&s, obj[i]);
	while ((o = slab_next(&s, &cursor))) {
		cr_assert_eq(*o, 0, "seen twice");
		*o = 1;
		seen++;
	}
	cr_assert_eq(seen, s.in_use);
	cr_assert_null(slab_next(&s, &cursor), "the end stays the end");
	slab_free(&s, obj[1]);
	slab_free(&s, NULL);
}

/* Whatever the free list and the counts say, the generations say it again. */
TEST(rebuild_trusts_only_generations)
{
	struct slab s = slab_new(64, 0, 64 << 20);
	enum { N = 3000 };
	static void *obj[N];
	static uint64_t handle[N];
	unsigned live = 0, given = 0;

	for (int i = 0; i < N; i++) {
		obj[i] = slab_alloc(&s);
		handle[i] = slab_handle(&s, obj[i]);
	}
	for (int i = 0; i < N; i++) {
		if (i % 2)
			slab_free(&s, obj[i]);
		else
			live++;
	}
	s.free_head = 12345;
	s.in_use = 7;
	s.next_fresh = 100; /* a death just before the store */
	slab_rebuild(&s);
	cr_assert_eq(s.in_use, live);
	for (int i = 0; i < N; i++)
		cr_assert_eq(slab_get(&s, handle[i]), i % 2 ? NULL : obj[i]);
	for (; given < N - live; given++)
		cr_assert_not_null(slab_alloc(&s));
	for (int i = 0; i < N; i += 2)
		cr_assert_eq(slab_get(&s, handle[i]), obj[i], "a live object was given again");
}
