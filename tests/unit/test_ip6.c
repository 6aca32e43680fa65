/* SPDX-License-Identifier: BSD-2-Clause */
/* IPv6 and ICMPv6, in and out; extension headers; fragments */
#include "lower6.h"

#define TEST(name) Test(ip6, name)

static uint64_t dropped(enum stack_drop why)
{
	return stack_drops(st)[why];
}

/* ---- in ---- */

TEST(segment_for_us_delivered)
{
	uint8_t *t;

	lower6_start();
	t = frame6_tcp(PEER6, US6, 100);
	put32(lower_in + 14, 0x60300000 | 0x12345); /* traffic class 3, a flow label */
	feed();
	cr_assert_eq(fake_tcp.n_input, 1);
	cr_assert(ipaddr_eq(fake_tcp.ip.src, PEER6) && ipaddr_eq(fake_tcp.ip.dst, US6));
	cr_assert_eq(fake_tcp.ip.l4_len, 120);
	cr_assert_eq(fake_tcp.ip.tos, 3);
	cr_assert_eq(fake_tcp.ip.ttl, 64);
	cr_assert_eq(get16(fake_tcp.l4), get16(t));
}

TEST(nothing_is_taken_before_it_is_started)
{
	lower_start(false);
	frame6_tcp(PEER6, US6, 0);
	feed();
	cr_assert_eq(dropped(DROP_ETH_TYPE), 1);
	cr_assert(!out());
}

TEST(every_cut_of_a_frame_dropped)
{
	lower6_start();
	for (uint32_t len = 0; len < L6 + 20 + 10; len++) {
		frame6_tcp(PEER6, US6, 10);
		feed_cut(len);
	}
	cr_assert_eq(fake_tcp.n_input, 0);
	cr_assert(!out());
}

TEST(every_flipped_bit_of_a_segment_dropped)
{
	lower6_start();
	for (unsigned bit = 0; bit < 8 * 53; bit++) {
		frame6_tcp(PEER6, US6, 33);
		lower_in[L6 + bit / 8] ^= (uint8_t)(1u << bit % 8);
		feed();
	}
	cr_assert_eq(fake_tcp.n_input, 0);
	cr_assert_eq(stack_counters(st)[CNT_TcpInCsumErrors], 8 * 53);
}

TEST(impossible_sources_and_foreign_destinations_dropped)
{
	static const char *const src[] = { "::", "::1", "ff02::1", "::ffff:10.0.0.2", "2001:db8::1" };
	static const char *const dst[] = { "2001:db8::3", "::1", "::ffff:10.0.0.1", "ff02::1:ff00:9", "ff05::1" };

	lower6_start();
	cr_assert_eq(stack_addr_add(st, ip6("::1"), 128), 0);
	cr_assert_eq(stack_addr_add(st, US, 24), 0);
	for (unsigned i = 0; i < 5; i++) {
		frame6_tcp(ip6(src[i]), US6, 0);
		feed();
		frame6_tcp(PEER6, ip6(dst[i]), 0);
		feed();
	}
	cr_assert_eq(fake_tcp.n_input, 0);
	cr_assert_eq(dropped(DROP_IP_SOURCE) + dropped(DROP_TCP_BROADCAST), 5);
	cr_assert_eq(dropped(DROP_IP_NOT_OURS), 5);
	cr_assert(!out(), "we are no router");
}

TEST(segment_to_a_group_dropped)
{
	lower6_start();
	frame6_tcp(PEER6, NODES6, 0);
	feed();
	cr_assert_eq(fake_tcp.n_input, 0);
	cr_assert_eq(dropped(DROP_TCP_BROADCAST), 1);
}

/* ---- extension headers ---- */

/* A segment with these octets in front of it, of which @first is the first header's number; feeds it */
static void feed_with(uint8_t first, const uint8_t *ext, uint32_t n, struct ipaddr dst)
{
	uint8_t *h = frame6(PEER6, dst, first, 64, n + 20);

	memcpy(h, ext, n);
	memset(h + n, 0, 20);
	frame6_tcp_at(h + n, 0);
	feed();
}

TEST(headers_that_say_nothing_are_skipped)
{
	static const uint8_t hop[8] = { 6, 0, 5, 2, 0, 0, 1, 0 }, dest[16] = { 6, 1, 1, 4, 0, 0, 0, 0, 0x1e, 6 };
	static const uint8_t route[8] = { 6, 0, 4, 0 }, atomic[8] = { 6, 0, 0, 0, 1, 2, 3, 4 };
	static const uint8_t all[40] = { 60, 0, 0, 0, 0, 0, 0, 0, 43, 0, 1, 4, 0, 0, 0, 0, 44, 0, 0, 0, 0, 0, 0, 0,
					 60, 0, 0, 0, 9, 9, 9, 9, 6, 0, 1, 4, 0, 0, 0, 0 };

	lower6_start();
	feed_with(0, hop, 8, US6);
	feed_with(60, dest, 16, US6);
	feed_with(43, route, 8, US6);
	feed_with(44, atomic, 8, US6);
	cr_assert_eq(fake_tcp.n_input, 4);
	feed_with(0, all, 40, US6);
	cr_assert_eq(fake_tcp.n_input, 5);
	cr_assert_eq(fake_tcp.ip.l4_len, 20);
	cr_assert_eq(fake_tcp.ip.l4_off, L6 + 40);
	cr_assert(!out());
}

/* What is sent back: parameter problem with this code and pointer */
static void expect_problem(uint8_t code, uint32_t pointer)
{
	cr_assert(out());
	cr_assert(got6(ICMP6_PARAM_PROBLEM, PEER6));
	cr_assert_eq(got.b[L6 + 1], code);
	cr_assert_eq(get32(got.b + L6 + 4), pointer);
	cr_assert_eq(got.len, in.len - ETH_HDR_BYTES + L6 + 8 < 1294 ? in.len - ETH_HDR_BYTES + L6 + 8 : 1294, "the least MTU at most");
	cr_assert_eq(memcmp(got.b + L6 + 8, lower_in + ETH_HDR_BYTES, got.len - L6 - 8), 0, "quotes the packet");
	cr_assert(!out());
	cr_assert_eq(fake_tcp.n_input, 0);
}

TEST(unknown_options_as_their_upper_bits_say)
{
	static const uint8_t skip[8] = { 6, 0, 0x1e, 4 }, discard[8] = { 6, 0, 0x5e, 4 }, tell[8] = { 6, 0, 0x9e, 4 };
	static const uint8_t tell_one[8] = { 6, 0, 1, 0, 0xde, 2 };

	lower6_start();
	peer6_known();
	feed_with(0, skip, 8, US6);
	cr_assert_eq(fake_tcp.n_input, 1);
	fake_tcp.n_input = 0;
	feed_with(60, discard, 8, US6);
	cr_assert(!out());
	feed_with(0, tell, 8, US6);
	expect_problem(2, 42);
	feed_with(60, tell_one, 8, US6);
	expect_problem(2, 44);
	feed_with(60, tell_one, 8, NODES6);
	cr_assert(!out(), "11: not about what went to a group");
	feed_with(60, tell, 8, NODES6);
	cr_assert(out(), "10: even then");
}

TEST(malformed_options_dropped_in_silence)
{
	static const uint8_t bad[][16] = {
		{ 6, 0, 0x1e, 5 },			/* ends beyond the header */
		{ 6, 0, 0, 0, 0, 0, 0, 0x1e },		/* has no length */
		{ 6, 0, 1, 4, 0, 0, 1, 0 },		/* padding that is not zero */
		{ 6, 1, 1, 6, 0, 0, 0, 0, 0, 0, 1, 4 },	/* more than seven octets of padding */
		{ 6, 0, 5, 1, 0, 1, 1, 0 },		/* router alert of the wrong length */
		{ 6, 1, 0x1e, 0, 0x1e, 0, 0x1e, 0, 0x1e, 0, 0x1e, 0, 0x1e, 0, 0x1e, 0 },	/* seven, fine */
	};

	lower6_start();
	for (unsigned i = 0; i < 5; i++)
		feed_with(0, bad[i], (bad[i][1] + 1u) * 8, US6);
	cr_assert_eq(fake_tcp.n_input, 0);
	cr_assert_eq(dropped(DROP_IP6_OPTION), 5);
	feed_with(0, bad[5], 16, US6);
	cr_assert_eq(fake_tcp.n_input, 1);
	cr_assert(!out());
}

TEST(what_no_header_may_be_is_told)
{
	static const uint8_t routed[8] = { 6, 0, 0, 1 }, late_hop[16] = { 0, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0 };
	static const uint8_t unknown[8] = { 200, 0, 1, 4, 0, 0, 0, 0 };

	lower6_start();
	peer6_known();
	feed_with(43, routed, 8, US6);
	expect_problem(0, 43);
	feed_with(60, late_hop, 16, US6);
	expect_problem(1, 40);
	feed_with(60, unknown, 8, US6);
	expect_problem(1, 40);
	frame6(PEER6, US6, 132, 64, 40);
	feed();
	expect_problem(1, 6);
	frame6(PEER6, US6, 59, 64, 40);
	feed();
	cr_assert(!out(), "no next header: nothing to say");
}

TEST(endless_chain_of_headers_dropped)
{
	static uint8_t ext[8 * 180];

	lower6_start();
	for (unsigned i = 0; i < 180; i++)
		ext[8 * i] = i == 179 ? 6 : 60;
	for (unsigned i = 0; i < 180; i++)
		memcpy(ext + 8 * i + 1, (uint8_t[]){ 0, 1, 4, 0, 0, 0, 0 }, 7);
	feed_with(60, ext, sizeof(ext), US6);
	cr_assert_eq(fake_tcp.n_input, 0);
	cr_assert_eq(dropped(DROP_IP6_OPTION), 1);
}

TEST(every_cut_of_a_chain_dropped)
{
	static const uint8_t all[40] = { 60, 0, 0, 0, 0, 0, 0, 0, 43, 0, 1, 4, 0, 0, 0, 0, 44, 0, 0, 0, 0, 0, 0, 0,
					 60, 0, 0, 1, 9, 9, 9, 9, 6, 0, 1, 4, 0, 0, 0, 0 };

	lower6_start();
	for (uint32_t len = 0; len < 40; len++) {
		uint8_t *exact = malloc(L6 + len + 1);

		frame6(PEER6, US6, 0, 64, len);
		memcpy(exact, lower_in, L6);
		memcpy(exact + L6, all, len);
		in.data = exact;
		in.len = L6 + len;
		feed();
		free(exact);
	}
	cr_assert_eq(fake_tcp.n_input, 0);
}

/* ---- fragments ---- */

static uint8_t whole[70000];

static void piece(uint32_t id, uint32_t off, uint32_t len, bool more)
{
	uint8_t *h = frame6(PEER6, US6, 44, 64, 8 + len);

	memset(h, 0, 8);
	h[0] = 6;
	put16(h + 2, (uint16_t)(off | more));
	put32(h + 4, id);
	memcpy(h + 8, whole + off, len);
	feed();
}

static void make_whole(uint32_t len)
{
	memcpy(whole, frame6_tcp(PEER6, US6, len - 20), len);
}

TEST(pieces_in_any_order_make_the_packet)
{
	uint64_t rnd_s = 7;

	lower6_start();
	make_whole(6000);
	for (unsigned run = 0; run < 100; run++) {
		uint32_t order[15], step = run % 2 ? 1232 : 400, n = (6000 + step - 1) / step;

		shuffled(order, n, &rnd_s);
		for (uint32_t i = 0; i < n; i++) {
			uint32_t off = order[i] * step, len = 6000 - off < step ? 6000 - off : step;

			cr_assert_eq((unsigned)fake_tcp.n_input, run);
			piece(0x10000 + run, off, len, off + len < 6000);
		}
		cr_assert_eq((unsigned)fake_tcp.n_input, run + 1);
		cr_assert_eq(fake_tcp.ip.l4_len, 6000);
		cr_assert_eq(memcmp(fake_tcp.l4, whole, sizeof(fake_tcp.l4)), 0);
	}
	cr_assert_eq(stack_counters(st)[CNT_Ip6ReasmOKs], 100);
	cr_assert_eq(st->frags.slab.in_use, 0);
	cr_assert_eq(st->pools.held_bytes, 0);
}

TEST(largest_packet)
{
	lower6_start();
	make_whole(65535);
	for (uint32_t off = 0; off < 65535; off += 1232)
		piece(1, off, 65535 - off < 1232 ? 65535 - off : 1232, off + 1232 < 65535);
	cr_assert_eq(fake_tcp.n_input, 1);
	cr_assert_eq(fake_tcp.ip.l4_len, 65535);
}

TEST(overlap_throws_the_packet_away)
{
	lower6_start();
	make_whole(3000);
	piece(1, 0, 1232, true);
	piece(1, 0, 1232, true);
	cr_assert_eq(st->frags.slab.in_use, 1, "an exact duplicate is nothing");
	piece(1, 1224, 1232, true);
	cr_assert_eq(st->frags.slab.in_use, 0);
	cr_assert_eq(stack_counters(st)[CNT_Ip6ReasmFails], 1);
	cr_assert(!out(), "RFC 5722: in silence");
}

TEST(malformed_pieces_are_told)
{
	lower6_start();
	peer6_known();
	make_whole(3000);
	piece(1, 0, 1231, true);
	expect_problem(0, 4);
	piece(1, 65528, 16, false);
	expect_problem(0, 42);
	piece(1, 0, 16, true);
	expect_problem(3, 0);
	cr_assert_eq(st->frags.slab.in_use, 0);
}

TEST(after_sixty_seconds_the_sender_is_told)
{
	lower6_start();
	peer6_known();
	make_whole(3000);
	piece(9, 0, 1232, true);
	run_to(now + SEC(59));
	while (out()) /* is the neighbour still there */
		cr_assert_eq(got.b[L6], ICMP6_NS);
	peer6_known();
	run_to(now + SEC(2));
	cr_assert(out());
	cr_assert(got6(ICMP6_TIME_EXCEEDED, PEER6));
	cr_assert_eq(got.b[L6 + 1], 1);
	cr_assert_eq(got.len, 1294, "as much as the least MTU takes");
	cr_assert_eq(got.b[L6 + 8 + 6], 44);
	cr_assert_eq(get32(got.b + L6 + 8 + 44), 9);
	cr_assert_eq(memcmp(got.b + L6 + 8 + 48, whole, 1184), 0);
	cr_assert_eq(st->frags.slab.in_use, 0);
}

TEST(fragment_in_a_fragment_dropped)
{
	uint8_t *h;

	lower6_start();
	memset(whole, 0, 64);
	whole[0] = 6;
	whole[3] = 1;
	for (uint32_t off = 0; off < 64; off += 32) {
		h = frame6(PEER6, US6, 44, 64, 40);
		memset(h, 0, 8);
		h[0] = 44;
		put16(h + 2, (uint16_t)(off | (off == 0)));
		memcpy(h + 8, whole + off, 32);
		feed();
	}
	cr_assert_eq(fake_tcp.n_input, 0);
	cr_assert_eq(st->frags.slab.in_use, 0);
}

/* ---- ICMPv6 ---- */

TEST(echo_answered_with_the_same_payload)
{
	static uint8_t asked[1460];

	for (uint32_t len = 8; len <= 1460; len += 363) {
		uint8_t *m;

		lower6_start();
		peer6_known();
		m = frame6_icmp(PEER6, US6, 3, ICMP6_ECHO, 0, len);
		for (uint32_t i = 4; i < len; i++)
			m[i] = (uint8_t)(i * 7);
		memcpy(asked, m, len);
		feed6();
		cr_assert(out());
		cr_assert(got6(ICMP6_ECHO_REPLY, PEER6));
		cr_assert_eq(got.len, L6 + len);
		cr_assert_eq(memcmp(got.b + L6 + 4, asked + 4, len - 4), 0);
		cr_assert_eq(st->pools.held_bytes, 0);
	}
}

TEST(echo_to_all_nodes_answered_from_our_address)
{
	lower6_start();
	peer6_known();
	frame6_icmp(PEER6, NODES6, 255, ICMP6_ECHO, 0, 16);
	feed6();
	cr_assert(out());
	cr_assert(got6(ICMP6_ECHO_REPLY, PEER6));
	cr_assert_eq(memcmp(got.b + 22, US6.b, 16), 0);
}

TEST(wrong_checksum_or_too_short_ignored)
{
	lower6_start();
	peer6_known();
	frame6_icmp(PEER6, US6, 3, ICMP6_ECHO, 0, 16);
	feed();
	cr_assert_eq(dropped(DROP_ICMP_CHECKSUM), 1);
	frame6_icmp(PEER6, US6, 3, ICMP6_ECHO, 0, 7);
	feed6();
	cr_assert_eq(dropped(DROP_ICMP_MALFORMED), 1);
	cr_assert(!out());
}

/* An error that quotes a segment of ours, 80 -> 1000, number 0x01020304 */
static uint8_t *frame_error(uint8_t type, uint8_t code, uint32_t rest)
{
	uint8_t *m = frame6_icmp(ROUTER6, US6, 64, type, code, 8 + 48), *q = m + 8;

	put32(m + 4, rest);
	q[0] = 0x60;
	put16(q + 4, 1460);
	q[6] = 6;
	memcpy(q + 8, US6.b, 16);
	memcpy(q + 24, PEER6.b, 16);
	put16(q + 40, 80);
	put16(q + 42, 1000);
	put32(q + 44, 0x01020304);
	return q;
}

TEST(packet_too_big_told_to_tcp)
{
	lower6_start();
	frame_error(ICMP6_TOO_BIG, 0, 1400);
	feed6();
	cr_assert_eq(fake_tcp.n_error, 1);
	cr_assert_eq(fake_tcp.error.mtu, 1400);
	cr_assert_eq(fake_tcp.error.len, 1500);
	cr_assert_eq(fake_tcp.error.sport, 80);
	cr_assert_eq(fake_tcp.error.dport, 1000);
	cr_assert_eq(fake_tcp.error.seq, 0x01020304);
	cr_assert(ipaddr_eq(fake_tcp.error.src, US6) && ipaddr_eq(fake_tcp.error.dst, PEER6));
	frame_error(ICMP6_TOO_BIG, 0, 0x10000 + 1400);
	feed6();
	cr_assert_eq(fake_tcp.error.mtu, 65535, "more than we ever send");
}

TEST(error_that_quotes_no_segment_of_ours_dropped)
{
	uint8_t *q;

	lower6_start();
	q = frame_error(ICMP6_UNREACH, 0, 0);
	q[23] = 9;
	feed6();
	q = frame_error(ICMP6_UNREACH, 0, 0);
	q[6] = 17;
	feed6();
	q = frame_error(ICMP6_UNREACH, 0, 0);
	q[0] = 0x45;
	feed6();
	frame_error(ICMP6_UNREACH, 0, 0);
	put16(lower_in + 18, 55);
	in.len--;
	feed6();
	cr_assert_eq(fake_tcp.n_error, 0);
}

TEST(udp_answered_by_port_unreachable_at_a_limited_rate)
{
	unsigned answers = 0;

	lower6_start();
	peer6_known();
	frame6(PEER6, US6, 17, 64, 40);
	feed();
	cr_assert(out());
	cr_assert(got6(ICMP6_UNREACH, PEER6));
	cr_assert_eq(got.b[L6 + 1], 4);
	for (int i = 0; i < 500; i++)
		feed();
	while (out())
		answers++;
	cr_assert_leq(answers, 50);
	cr_assert_gt(dropped(DROP_ICMP_RATE), 400);
}

TEST(errors_are_never_about_errors_or_groups)
{
	lower6_start();
	peer6_known();
	frame6(PEER6, NODES6, 17, 64, 40);
	feed();
	frame6(ip6("::"), US6, 17, 64, 40);
	feed();
	memset(frame6(PEER6, US6, 60, 64, 24), 0, 24);
	memcpy(lower_in + L6, (uint8_t[]){ 58, 0, 0x9e, 4, 0, 0, 0, 0, ICMP6_UNREACH }, 9);
	feed();
	cr_assert(!out());
	lower_in[L6 + 8] = ICMP6_ECHO;
	feed();
	cr_assert(out());
	cr_assert(got6(ICMP6_PARAM_PROBLEM, PEER6));
}

/* ---- out ---- */

TEST(output_has_header_flow_label_and_checksum)
{
	uint32_t label;

	lower6_start();
	peer6_known();
	send6(PEER6, NULL, 0, 0);
	cr_assert(out());
	cr_assert_eq(memcmp(got.b, mac_peer, 6), 0);
	cr_assert_eq(get16(got.b + 12), ETHERTYPE_IPV6);
	cr_assert_eq(got.b[14] >> 4, 6);
	cr_assert_eq(get16(got.b + 14) >> 4 & 0xff, 0xb8);
	cr_assert_eq(get16(got.b + 18), 20);
	cr_assert_eq(got.b[20], 6);
	cr_assert_eq(got.b[21], 64);
	cr_assert(got6_sum_ok(6));
	label = get32(got.b + 14) & 0xfffff;
	cr_assert_neq(label, 0);
	send6(PEER6, NULL, 0, 0);
	cr_assert(out());
	cr_assert_eq(get32(got.b + 14) & 0xfffff, label, "the same for the same connection");
}

TEST(output_with_offload_leaves_the_checksum_to_the_device)
{
	struct cell *c;

	lower6_start();
	peer6_known();
	st->dev.csum = st->dev.tso6 = true;
	c = cell_alloc(st, 16000);
	c->len = 16000;
	send6(PEER6, c, 16000, 1440);
	cr_assert(out());
	cr_assert_eq(got.vnet.flags, VNET_F_NEEDS_CSUM);
	cr_assert_eq(got.vnet.csum_start, L6);
	cr_assert_eq(got.vnet.csum_offset, 16);
	cr_assert_eq(got.vnet.gso_type, VNET_GSO_TCPV6);
	cr_assert_eq(got.vnet.gso_size, 1440);
	cr_assert_eq(got.vnet.hdr_len, L6 + 20);
	cr_assert_eq(get16(got.b + 18), 16020);
	put16_raw(got.b + L6 + 16, (uint16_t)~csum_fold(csum_add(0, got.b + L6, got.len - L6)));
	cr_assert(got6_sum_ok(6));
}

TEST(own_address_comes_back_without_a_frame)
{
	struct cell *c;

	lower6_start();
	c = cell_alloc(st, 16000);
	memset(c->data, 0x5a, 16000);
	send6(US6, c, 16000, 1440);
	cr_assert(!out());
	cr_assert_eq(fake_tcp.n_input, 1);
	cr_assert(fake_tcp.ip.looped);
	cr_assert_eq(fake_tcp.ip.l4_len, 16020);
}

TEST(source_address_as_rfc_6724_chooses)
{
	struct ipaddr src;
	static const struct { const char *dst, *src; } want[] = {
		{ "2001:db8::9", "2001:db8::1" }, { "2001:db8:2::5", "2001:db8:2::1" }, { "fd00::7", "fd00::1" },
		{ "fe80::7", "fe80::ff:fe00:1" }, { "2001:db8:2::1", "2001:db8:2::1" }, { "2a00::1", "2001:db8::1" },
	};

	lower6_start();
	cr_assert_eq(stack_addr_add(st, ip6("2001:db8:2::1"), 64), 0);
	cr_assert_eq(stack_addr_add(st, ip6("fd00::1"), 64), 0);
	for (unsigned i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		cr_assert_eq(stack_source_for(st, ip6(want[i].dst), &src), 0);
		cr_assert(ipaddr_eq(src, ip6(want[i].src)), "to %s", want[i].dst);
	}
	cr_assert_eq(stack_source_for(st, IP(10, 0, 0, 9), &src), -ENETUNREACH);
}
