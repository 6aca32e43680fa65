/* SPDX-License-Identifier: BSD-2-Clause */
/* IPv4 packets in pieces: put together, contradicted, too many, too late */
#include "lower.h"

#define TEST(name) Test(ip4_frag, name)
#define LEN	   6000u	/* TCP header and payload */

static uint8_t whole[70000]; /* TCP segment with a right checksum, of @whole_len octets */
static uint32_t whole_len;

static void make(uint32_t len)
{
	whole_len = len;
	memcpy(whole, frame_tcp(PEER, US, len - 20), len);
}

/* Octets [off, off + len) of the segment, from packet @id */
static void piece_of(struct ipaddr src, uint16_t id, uint32_t off, uint32_t len, bool more)
{
	uint8_t *p = frame_ip(src, US, 6, len);

	memcpy(p, whole + off, len);
	put16(lower_in + 18, id);
	put16(lower_in + 20, (uint16_t)(off / 8 | (more ? 0x2000 : 0)));
	ip_checksum_set();
	feed();
}

static void piece(uint16_t id, uint32_t off, uint32_t len)
{
	piece_of(PEER, id, off, len, off + len < whole_len);
}

static void expect_whole(unsigned n)
{
	uint32_t k = whole_len < sizeof(fake_tcp.l4) ? whole_len : (uint32_t)sizeof(fake_tcp.l4);

	cr_assert_eq((unsigned)fake_tcp.n_input, n);
	cr_assert_eq(fake_tcp.ip.l4_len, whole_len);
	cr_assert_eq(memcmp(fake_tcp.l4, whole, k), 0);
	cr_assert_eq(st->frags.slab.in_use, 0);
	cr_assert_eq(st->frags.held_bytes, 0u);
	cr_assert_eq(st->pools.held_bytes, 0u);
}

TEST(pieces_in_any_order_make_the_packet)
{
	uint64_t rnd_s = 99;

	lower_start(false);
	make(LEN);
	for (unsigned run = 0; run < 200; run++) {
		uint32_t order[15], step = run % 2 ? 1480 : 400, n = (LEN + step - 1) / step;

		shuffled(order, n, &rnd_s);
		for (uint32_t i = 0; i < n; i++) {
			uint32_t off = order[i] * step;

			cr_assert_eq((unsigned)fake_tcp.n_input, run);
			piece((uint16_t)run, off, LEN - off < step ? LEN - off : step);
		}
		expect_whole(run + 1);
	}
	cr_assert_eq(stack_counters(st)[CNT_IpReasmOKs], 200);
	cr_assert_eq(stack_counters(st)[CNT_IpReasmFails], 0);
}

TEST(largest_packet)
{
	lower_start(false);
	make(65512);
	for (uint32_t off = 0; off < whole_len; off += 1480)
		piece(1, off, whole_len - off < 1480 ? whole_len - off : 1480);
	expect_whole(1);
}

TEST(duplicate_is_ignored)
{
	lower_start(false);
	make(LEN);
	piece(1, 0, 1480);
	piece(1, 0, 1480);
	piece(1, 2960, LEN - 2960);
	piece(1, 2960, LEN - 2960);
	piece(1, 1480, 1480);
	expect_whole(1);
}

TEST(overlap_throws_the_packet_away)
{
	static const struct { uint32_t off, len; } bad[] = {
		{ 8, 1480 }, { 0, 1472 }, { 0, 8 }, { 1472, 16 }, { 1480, 16 }, { 1480, 2000 }, { 2952, 16 }, { 2960, 8 }, { 0, 2960 },
	};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		lower_start(false);
		make(LEN);
		piece(1, 0, 1480);
		piece(1, 2960, 1480);
		if (bad[i].off == 1480 && bad[i].len == 16) { /* fits: control */
			piece(1, 1480, 16);
			cr_assert_eq(st->frags.slab.in_use, 1);
			continue;
		}
		piece(1, bad[i].off, bad[i].len);
		cr_assert_eq(st->frags.slab.in_use, 0, "[%u, +%u)", bad[i].off, bad[i].len);
		cr_assert_eq(stack_counters(st)[CNT_IpReasmFails], 1);
		cr_assert_eq(st->pools.held_bytes, 0u);
		cr_assert_eq(fake_tcp.n_input, 0);
	}
}

TEST(contradicting_ends_throw_the_packet_away)
{
	lower_start(false);
	make(LEN);
	piece_of(PEER, 1, 2960, 1480, false);
	piece_of(PEER, 1, 4440, 8, true); /* behind the end */
	cr_assert_eq(st->frags.slab.in_use, 0);
	piece_of(PEER, 2, 2960, 1480, false);
	piece_of(PEER, 2, 1480, 8, false); /* another end */
	cr_assert_eq(st->frags.slab.in_use, 0);
	piece_of(PEER, 3, 2960, 1480, true);
	piece_of(PEER, 3, 8, 1480, false); /* an end in front of what is here */
	cr_assert_eq(st->frags.slab.in_use, 0);
	cr_assert_eq(fake_tcp.n_input, 0);
	cr_assert_eq(stack_counters(st)[CNT_IpReasmFails], 3);
}

TEST(malformed_pieces_are_dropped)
{
	lower_start(false);
	make(LEN);
	piece_of(PEER, 1, 0, 1479, true); /* no multiple of eight */
	piece_of(PEER, 2, 0, 0, true);
	piece_of(PEER, 3, 65528, 8, false); /* beyond 65,535: the ping of death */
	cr_assert_eq(st->frags.slab.in_use, 0);
	cr_assert_eq(stack_drops(st)[DROP_IP_FRAGMENT], 3);
}

TEST(packets_differ_by_source_and_id)
{
	lower_start(false);
	make(LEN);
	piece(1, 0, 3000 / 8 * 8);
	piece_of(IP(10, 0, 0, 3), 1, 3000 / 8 * 8, LEN - 3000 / 8 * 8, false);
	piece(2, 3000 / 8 * 8, LEN - 3000 / 8 * 8);
	cr_assert_eq(fake_tcp.n_input, 0);
	cr_assert_eq(st->frags.slab.in_use, 3);
	piece(1, 3000 / 8 * 8, LEN - 3000 / 8 * 8);
	cr_assert_eq(fake_tcp.n_input, 1);
}

TEST(flood_is_bounded_and_the_newest_still_become_whole)
{
	lower_start(false);
	make(LEN);
	for (uint32_t i = 0; i < 60000; i++) {
		piece_of(PEER, (uint16_t)i, 8, 8, true);
		cr_assert_leq(st->frags.held_bytes, FRAG_HELD_MAX);
	}
	piece(60001, 0, 1480);
	piece(60001, 1480, 1480);
	piece(60001, 2960, LEN - 2960);
	cr_assert_eq(fake_tcp.n_input, 1);
	run_to(now + SEC(31));
	cr_assert_eq(st->frags.held_bytes, 0u);
	cr_assert_eq(st->pools.held_bytes, 0u);
}

TEST(too_many_pieces_of_one_packet)
{
	lower_start(false);
	make(65512);
	for (uint32_t off = 0; off < 65512; off += 8)
		piece(1, off, 8);
	cr_assert_eq(fake_tcp.n_input, 0);
	cr_assert_leq(st->frags.held_bytes, FRAG_PIECES_MAX * 256 + sizeof(struct frag_q));
}

TEST(after_thirty_seconds_the_sender_is_told)
{
	lower_start(false);
	peer_known();
	make(LEN);
	piece(1, 1480, 1480); /* without the first piece nobody can be told */
	piece(2, 0, 1480);
	run_to(now + SEC(29));
	cr_assert_eq(st->frags.slab.in_use, 2);
	run_to(now + SEC(2));
	cr_assert_eq(st->frags.slab.in_use, 0);
	cr_assert_eq(stack_counters(st)[CNT_IpReasmTimeout], 2);
	cr_assert(out());
	cr_assert_eq(got.b[14 + 9], 1);
	cr_assert_eq(got.b[34], 11, "time exceeded");
	cr_assert_eq(got.b[35], 1, "while putting together");
	cr_assert_eq(memcmp(got.b + 42 + 20, whole, 100), 0);
	cr_assert(!out());
}

TEST(congestion_bits_are_joined)
{
	static const struct { uint8_t a, b, is; } ecn[] = {
		{ 2, 2, 2 }, { 2, 3, 3 }, { 3, 2, 3 }, { 0, 0, 0 }, { 0, 2, 0 }, { 0, 3, 0xff }, { 3, 0, 0xff },
	};

	for (unsigned i = 0; i < sizeof(ecn) / sizeof(ecn[0]); i++) {
		lower_start(false);
		make(2960);
		fake_tcp.n_input = 0;
		for (int k = 0; k < 2; k++) {
			uint8_t *p = frame_ip(PEER, US, 6, 1480);

			memcpy(p, whole + 1480 * k, 1480);
			lower_in[15] = k ? ecn[i].b : ecn[i].a;
			put16(lower_in + 18, 7);
			put16(lower_in + 20, k ? 185 : 0x2000);
			ip_checksum_set();
			feed();
		}
		cr_assert_eq(fake_tcp.n_input, ecn[i].is != 0xff);
		if (ecn[i].is != 0xff)
			cr_assert_eq(fake_tcp.ip.tos, ecn[i].is);
	}
}

TEST(repair_forgets_what_was_begun)
{
	lower_start(false);
	make(LEN);
	piece(1, 0, 1480);
	cr_assert_gt(st->pools.held_bytes, 0u);
	stack_repair(st, 0, now);
	cr_assert_eq(st->pools.held_bytes, 0u);
	cr_assert_eq(st->frags.slab.in_use, 0);
	piece(1, 0, 1480);
	piece(1, 1480, LEN - 1480);
	expect_whole(1);
}
