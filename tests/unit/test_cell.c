/* SPDX-License-Identifier: BSD-2-Clause */
#include "lower.h"

#define TEST(name) Test(cell, name)

static void start(uint64_t limit)
{
	struct stack_config cfg = { .region = region_new(64 << 20), .dev = { .mtu_bytes = 1500 } };

	stack_sysctl_default(&cfg.ctl);
	cfg.ctl.mem_limit_bytes = limit;
	st = stack_init(&cfg, now);
	cr_assert_not_null(st);
}

TEST(smallest_class_that_holds_it)
{
	start(0);
	for (uint32_t want = 0; want < 40000; want += 7) {
		struct cell *c = cell_alloc(st, want);

		cr_assert(c->cap >= want || c->cap == cell_cap_bytes[CELL_LARGE]);
		cr_assert(c->class == 0 || cell_cap_bytes[c->class - 1] < want);
		cr_assert_eq(c->len + c->off, 0);
		cr_assert_eq(cell_room(c), c->cap);
		memset(c->data, 0xff, c->cap);
		cell_put(st, c);
	}
	cr_assert_eq(st->pools.held_bytes, 0);
}

TEST(last_reference_frees)
{
	struct cell *c;

	start(0);
	c = cell_alloc(st, 100);
	cell_get(c);
	cell_put(st, c);
	cr_assert_eq(st->pools.held_bytes, 256);
	cell_put(st, c);
	cr_assert_eq(st->pools.held_bytes, 0);
	cr_assert_eq(cell_alloc(st, 100), c);
	cell_put(st, NULL);
}

TEST(limit_holds_with_smaller_cells_before_none)
{
	unsigned n[CELL_CLASSES] = { 0 };
	struct cell *c;

	start(103000);
	while ((c = cell_alloc(st, 16384)))
		n[c->class]++;
	cr_assert_eq(n[CELL_LARGE], 103000 / cell_block_bytes[CELL_LARGE]);
	cr_assert_gt(n[CELL_MEDIUM], 0);
	cr_assert_gt(n[CELL_SMALL], 0);
	cr_assert_leq(st->pools.held_bytes, 103000);
	cr_assert_gt(st->pools.held_bytes + 256, 103000);
}

TEST(default_limit_is_half_of_the_region)
{
	start(0);
	cr_assert_eq(st->pools.limit_bytes, 32 << 20);
	while (cell_alloc(st, 2000))
		;
	cr_assert_leq(st->pools.held_bytes, 32u << 20);
	cr_assert_not_null(pbuf_alloc(st), "frames can still be made: resets and acknowledgments need no cells");
}

TEST(frame_holds_its_payload)
{
	struct cell *c;
	struct pbuf *p;

	start(0);
	c = cell_alloc(st, 2000);
	p = pbuf_alloc(st);
	cr_assert(pbuf_add_frag(p, c, 0, 100));
	cr_assert(pbuf_add_frag(p, c, 100, 50));
	cr_assert_eq(p->n_frags, 1, "adjoining pieces are one");
	cr_assert_eq(p->frag[0].len, 150);
	cr_assert(pbuf_add_frag(p, c, 300, 50));
	cr_assert_eq(p->n_frags, 2);
	cr_assert_eq(c->refs, 3);
	cell_put(st, c); /* acknowledged while in flight */
	cr_assert_gt(st->pools.held_bytes, 0);
	pbuf_free(st, p);
	cr_assert_eq(st->pools.held_bytes, 0);
	pbuf_free(st, NULL);
}

TEST(frame_full_says_so)
{
	struct cell *c;
	struct pbuf *p;

	start(0);
	c = cell_alloc(st, 2000);
	p = pbuf_alloc(st);
	for (uint32_t i = 0; i < PBUF_FRAGS_MAX; i++)
		cr_assert(pbuf_add_frag(p, c, i * 10, 5));
	cr_assert(!pbuf_add_frag(p, c, 1000, 5));
	cr_assert_eq(c->refs, PBUF_FRAGS_MAX + 1);
	cr_assert_geq(p->hdr_off, 24 + 40 + 60, "room for all headers");
}

TEST(frames_of_a_dead_owner_dropped_others_kept)
{
	struct pbuf *p[4];
	struct cell *c;

	lower_start(false);
	peer_known();
	c = cell_alloc(st, 100);
	for (int i = 0; i < 4; i++) {
		send_tcp(PEER, c, 50, 0, NULL);
		p[i] = stack_output(st, now);
		p[i]->owner = (uint16_t)(1 + i / 2);
	}
	cr_assert_eq(c->refs, 5);
	stack_pbufs_drop(st, 1);
	cr_assert_eq(c->refs, 3);
	stack_tx_done(st, p[2]);
	stack_tx_done(st, p[3]);
	cr_assert_eq(c->refs, 1);
}

TEST(repair_counts_references_anew)
{
	struct cell *kept, *lost;
	struct pbuf *p;

	lower_start(false);
	peer_known();
	kept = cell_alloc(st, 100);
	lost = cell_alloc(st, 5000);
	send_tcp(PEER, kept, 50, 0, NULL);
	p = stack_output(st, now);
	p->owner = 3;
	send_tcp(PEER, lost, 50, 0, NULL); /* still inside */
	kept->refs = 77;
	st->pools.held_bytes = 1;
	stack_repair(st, 9, now);
	cr_assert_eq(kept->refs, 1, "the frame of a living process");
	cr_assert_eq(st->pools.held_bytes, 256);
	cr_assert_eq(st->pools.pbufs.in_use, 1);
	cr_assert_null(stack_output(st, now));
	stack_tx_done(st, p);
	cr_assert_eq(st->pools.held_bytes, 0);
	stack_repair(st, 9, now);
	cr_assert_eq(st->pools.held_bytes, 0);
}
