/* SPDX-License-Identifier: BSD-2-Clause */
#include <criterion/criterion.h>
#include "../../stack/htab.h"
#include "region.h"

#define TEST(name) Test(htab, name)

enum { N = 50000 };
static struct hnode nodes[N];

static bool found(const struct htab *h, const struct hnode *want)
{
	for (struct hnode *n = htab_first(h, want->hash); n; n = htab_next(n))
		if (n == want)
			return true;
	return false;
}

static unsigned longest_chain(const struct htab *h)
{
	unsigned longest = 0;

	for (uint32_t b = 0; b <= h->mask + h->split; b++) {
		unsigned len = 0;

		for (struct hnode *n = *htab_bucket(h, b); n; n = n->next)
			len++;
		longest = len > longest ? len : longest;
	}
	return longest;
}

TEST(grows_and_finds_all)
{
	struct htab h;
	uint64_t seed = 1;

	cr_assert_eq(htab_init(&h, region_new(64 << 20)), 0);
	for (int i = 0; i < N; i++) {
		htab_insert(&h, &nodes[i], (uint32_t)rnd(&seed));
		if (i % 997 == 0)
			for (int k = 0; k <= i; k++)
				cr_assert(found(&h, &nodes[k]), "%d lost after %d", k, i);
	}
	for (int i = 0; i < N; i++)
		cr_assert(found(&h, &nodes[i]));
	cr_assert_leq(longest_chain(&h), 12);
	cr_assert_geq(h.mask + 1 + h.split, N - 1u, "a bucket for each node");
}

TEST(removed_is_not_found_others_are)
{
	struct htab h;
	uint64_t seed = 2;

	htab_init(&h, region_new(64 << 20));
	for (int i = 0; i < N; i++)
		htab_insert(&h, &nodes[i], (uint32_t)rnd(&seed));
	for (int i = 0; i < N; i += 2)
		htab_remove(&h, &nodes[i]);
	htab_remove(&h, &nodes[0]);
	cr_assert_eq(h.count, N / 2);
	for (int i = 0; i < N; i++)
		cr_assert_eq(found(&h, &nodes[i]), i % 2 == 1);
}

TEST(equal_hashes_all_come_in_turn)
{
	struct htab h;
	int seen = 0;

	htab_init(&h, region_new(64 << 20));
	for (int i = 0; i < 1000; i++)
		htab_insert(&h, &nodes[i], i % 2 ? 7 : 7 + HTAB_SEG0);
	for (struct hnode *n = htab_first(&h, 7); n; n = htab_next(n)) {
		cr_assert_eq((n - nodes) % 2, 1);
		seen++;
	}
	cr_assert_eq(seen, 500);
}

TEST(without_memory_chains_grow_instead)
{
	struct htab h;
	uint64_t seed = 3;

	cr_assert_eq(htab_init(&h, region_new(4096)), 0);
	for (int i = 0; i < 2000; i++)
		htab_insert(&h, &nodes[i], (uint32_t)rnd(&seed));
	for (int i = 0; i < 2000; i++)
		cr_assert(found(&h, &nodes[i]));
}

TEST(cleared_then_filled_again)
{
	struct htab h;
	uint64_t seed = 4;

	htab_init(&h, region_new(64 << 20));
	for (int i = 0; i < N; i++)
		htab_insert(&h, &nodes[i], (uint32_t)rnd(&seed));
	h.split = 3; /* a death at a bad moment */
	htab_clear(&h);
	cr_assert_eq(h.count, 0);
	cr_assert_null(htab_first(&h, nodes[5].hash));
	for (int i = 0; i < N; i++)
		htab_insert(&h, &nodes[i], nodes[i].hash);
	for (int i = 0; i < N; i++)
		cr_assert(found(&h, &nodes[i]));
}
