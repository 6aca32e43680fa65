/* SPDX-License-Identifier: BSD-2-Clause */
/* IPv4 and ICMP, in and out */
#include "lower.h"

#define TEST(name) Test(ip4, name)

static uint64_t dropped(enum stack_drop why)
{
	return stack_drops(st)[why];
}

static bool ip_sum_ok(const uint8_t *frame)
{
	return csum_fold(csum_add(0, frame + ETH_HDR_BYTES, 20)) == 0xffff;
}

static uint16_t tcp_sum(void) /* of the frame got, 0xffff where it is right */
{
	struct ipaddr s = ipaddr_v4(get32_raw(got.b + 26)), d = ipaddr_v4(get32_raw(got.b + 30));
	uint32_t len = got.len - 34;

	return csum_fold(csum_add(csum_pseudo(&s, &d, 6, len), got.b + 34, len));
}

/* ---- in ---- */

TEST(segment_for_us_delivered)
{
	lower_start(false);
	frame_tcp(PEER, US, 100);
	lower_in[ETH_HDR_BYTES + 1] = 0x03; /* ECN CE */
	ip_checksum_set();
	feed();
	cr_assert_eq(fake_tcp.n_input, 1);
	cr_assert(ipaddr_eq(fake_tcp.ip.src, PEER) && ipaddr_eq(fake_tcp.ip.dst, US));
	cr_assert_eq(fake_tcp.ip.l4_len, 120);
	cr_assert_eq(fake_tcp.ip.l4_off, 34);
	cr_assert_eq(fake_tcp.ip.tos, 3);
	cr_assert_eq(get16(fake_tcp.l4), 1000);
}

TEST(padding_of_the_frame_is_no_payload)
{
	lower_start(false);
	frame_tcp(PEER, US, 0);
	in.len = 60; /* Ethernet's least */
	feed();
	cr_assert_eq(fake_tcp.n_input, 1);
	cr_assert_eq(fake_tcp.ip.l4_len, 20);
}

TEST(every_cut_of_a_frame_dropped)
{
	lower_start(false);
	for (uint32_t len = 0; len < ETH_HDR_BYTES + 40 + 10; len++) {
		frame_tcp(PEER, US, 10);
		feed_cut(len);
	}
	cr_assert_eq(fake_tcp.n_input, 0);
	cr_assert(!out());
}

TEST(every_flipped_bit_of_the_ip_header_dropped)
{
	lower_start(false);
	for (unsigned bit = 0; bit < 160; bit++) {
		frame_tcp(PEER, US, 10);
		lower_in[ETH_HDR_BYTES + bit / 8] ^= (uint8_t)(1u << bit % 8);
		feed();
	}
	cr_assert_eq(fake_tcp.n_input, 0);
	cr_assert_eq(dropped(DROP_IP_CHECKSUM) + dropped(DROP_IP_SHORT) + dropped(DROP_IP_VERSION), 160);
}

TEST(every_flipped_bit_of_a_segment_dropped)
{
	lower_start(false);
	for (unsigned bit = 0; bit < 8 * 53; bit++) {
		frame_tcp(PEER, US, 33);
		lower_in[34 + bit / 8] ^= (uint8_t)(1u << bit % 8);
		feed();
	}
	cr_assert_eq(fake_tcp.n_input, 0);
	cr_assert_eq(stack_counters(st)[CNT_TcpInCsumErrors], 8 * 53);
}

TEST(unfinished_checksum_accepted_when_the_device_says_so)
{
	for (uint8_t flag = 1; flag <= 2; flag++) {
		lower_start(false);
		frame_tcp(PEER, US, 10);
		lower_in[34 + 16] ^= 0x55;
		in.vnet.flags = flag;
		feed();
		cr_assert_eq(fake_tcp.n_input, flag);
	}
}

TEST(super_frame_delivered_whole)
{
	lower_start(false);
	frame_tcp(PEER, US, 60000);
	in.vnet = (struct vnet_hdr){ .flags = VNET_F_NEEDS_CSUM, .gso_type = VNET_GSO_TCPV4, .gso_size = 1448 };
	feed();
	cr_assert_eq(fake_tcp.ip.l4_len, 60020);
}

TEST(not_for_our_station_dropped)
{
	lower_start(false);
	frame_tcp(PEER, US, 0);
	lower_in[5] = 9;
	feed();
	cr_assert_eq(fake_tcp.n_input, 0);
	cr_assert_eq(dropped(DROP_ETH_NOT_OURS), 1);
}

TEST(segment_in_a_broadcast_frame_dropped)
{
	lower_start(false);
	frame_tcp(PEER, US, 0);
	memcpy(lower_in, mac_all, 6);
	feed();
	cr_assert_eq(fake_tcp.n_input, 0);
	cr_assert_eq(dropped(DROP_TCP_BROADCAST), 1);
}

TEST(not_for_our_address_dropped)
{
	const struct ipaddr dst[] = { IP(10, 0, 0, 3), IP(10, 0, 0, 255), IP(255, 255, 255, 255), IP(224, 0, 0, 1),
				     IP(0, 0, 0, 0) };

	lower_start(false);
	for (unsigned i = 0; i < 5; i++) {
		frame_tcp(PEER, dst[i], 0);
		feed();
	}
	cr_assert_eq(fake_tcp.n_input, 0);
	cr_assert_eq(dropped(DROP_IP_NOT_OURS), 5);
	cr_assert(!out(), "we are no router");
}

TEST(impossible_sources_dropped)
{
	const struct ipaddr src[] = { IP(0, 0, 0, 0), IP(127, 0, 0, 1), IP(224, 0, 0, 5), IP(255, 255, 255, 255), US };

	lower_start(false);
	for (unsigned i = 0; i < 5; i++) {
		frame_tcp(src[i], US, 0);
		feed();
	}
	cr_assert_eq(fake_tcp.n_input, 0);
	cr_assert_eq(dropped(DROP_IP_SOURCE), 5);
}

TEST(syn_from_a_directed_broadcast_dropped)
{
	uint8_t *t;

	lower_start(false);
	t = frame_tcp(IP(10, 0, 0, 255), US, 0);
	t[13] = 2;
	in.vnet.flags = VNET_F_DATA_VALID;
	feed();
	cr_assert_eq(fake_tcp.n_input, 0);
	cr_assert_eq(dropped(DROP_TCP_BROADCAST), 1);
}

/* Puts @n octets of options into a segment; they must be a multiple of four. */
static void insert_options(const uint8_t *opt, uint32_t n)
{
	frame_tcp(PEER, US, 4);
	memmove(lower_in + 34 + n, lower_in + 34, 24);
	memcpy(lower_in + 34, opt, n);
	lower_in[14] = (uint8_t)(0x45 + n / 4);
	put16(lower_in + 16, (uint16_t)(44 + n));
	in.len += n;
	ip_checksum_set();
	feed();
}

TEST(options_skipped)
{
	const uint8_t rr[8] = { 1, 7, 7, 4, 0, 0, 0, 0 }, end[4] = { 0, 0xff, 0xff, 0xff };

	lower_start(false);
	insert_options(rr, 8);
	insert_options(end, 4);
	cr_assert_eq(fake_tcp.n_input, 2);
	cr_assert_eq(fake_tcp.ip.l4_off, 38);
	cr_assert_eq(fake_tcp.ip.l4_len, 24);
}

TEST(source_routes_and_wrong_options_dropped)
{
	const uint8_t lsrr[8] = { 131, 7, 4, 1, 2, 3, 4, 0 }, ssrr[8] = { 137, 7, 4, 1, 2, 3, 4, 0 };
	const uint8_t zero[4] = { 7, 0, 0, 0 }, over[4] = { 7, 5, 0, 0 }, cut[4] = { 1, 1, 1, 7 };

	lower_start(false);
	insert_options(lsrr, 8);
	insert_options(ssrr, 8);
	cr_assert_eq(dropped(DROP_IP_OPTION_ROUTE), 2);
	insert_options(zero, 4);
	insert_options(over, 4);
	insert_options(cut, 4);
	cr_assert_eq(dropped(DROP_IP_SHORT), 3);
	cr_assert_eq(fake_tcp.n_input, 0);
}

/* ---- ICMP ---- */

static uint8_t *frame_icmp(uint8_t type, uint8_t code, uint32_t len)
{
	uint8_t *h = frame_ip(PEER, US, 1, len);

	h[0] = type;
	h[1] = code;
	return h;
}

static void icmp_checksum_set(uint32_t len)
{
	put16(lower_in + 36, 0);
	put16_raw(lower_in + 36, (uint16_t)~csum_fold(csum_add(0, lower_in + 34, len)));
}

TEST(echo_answered_with_the_same_payload)
{
	static uint8_t asked[1480];

	for (uint32_t len = 8; len <= 1480; len += 368) {
		lower_start(false);
		peer_known();
		frame_icmp(8, 0, len);
		icmp_checksum_set(len);
		memcpy(asked, lower_in + 34, len);
		feed();
		cr_assert(out());
		cr_assert_eq(got.len, 34 + len);
		cr_assert_eq(got.b[34], 0);
		cr_assert_eq(memcmp(got.b + 38, asked + 4, len - 4), 0);
		cr_assert_eq(csum_fold(csum_add(0, got.b + 34, len)), 0xffff);
		cr_assert(ip_sum_ok(got.b));
		cr_assert_eq(get32_raw(got.b + 30), PEER.w[3]);
		cr_assert_eq(st->pools.held_bytes, 0);
		cr_assert_eq(got.vnet.flags, 0);
	}
}

TEST(echo_with_wrong_checksum_or_too_short_ignored)
{
	lower_start(false);
	peer_known();
	frame_icmp(8, 0, 16);
	feed();
	cr_assert_eq(dropped(DROP_ICMP_CHECKSUM), 1);
	frame_icmp(8, 0, 7);
	feed();
	cr_assert_eq(dropped(DROP_ICMP_MALFORMED), 1);
	cr_assert(!out());
}

TEST(echo_in_a_broadcast_frame_not_answered)
{
	lower_start(false);
	peer_known();
	frame_icmp(8, 0, 16);
	icmp_checksum_set(16);
	memcpy(lower_in, mac_all, 6);
	feed();
	cr_assert(!out());
}

/* An ICMP error that quotes a segment of ours: 10.0.0.1:80 -> 10.0.0.2:1000, sequence number 0x01020304 */
static uint8_t *frame_icmp_error(uint8_t type, uint8_t code, uint16_t mtu)
{
	uint8_t *h = frame_icmp(type, code, 8 + 28), *q = h + 8;

	put32(h + 4, mtu);
	memset(q, 0, 28);
	q[0] = 0x45;
	put16(q + 2, 1500);
	q[9] = 6;
	put32_raw(q + 12, US.w[3]);
	put32_raw(q + 16, PEER.w[3]);
	put16(q + 20, 80);
	put16(q + 22, 1000);
	put32(q + 24, 0x01020304);
	icmp_checksum_set(36);
	return q;
}

TEST(fragmentation_needed_told_to_tcp)
{
	lower_start(false);
	frame_icmp_error(3, 4, 1280);
	feed();
	cr_assert_eq(fake_tcp.n_error, 1);
	cr_assert_eq(fake_tcp.error.mtu, 1280);
	cr_assert_eq(fake_tcp.error.sport, 80);
	cr_assert_eq(fake_tcp.error.dport, 1000);
	cr_assert_eq(fake_tcp.error.seq, 0x01020304);
	cr_assert(ipaddr_eq(fake_tcp.error.src, US) && ipaddr_eq(fake_tcp.error.dst, PEER));
	cr_assert(!fake_tcp.error.local);
}

TEST(error_that_quotes_no_segment_of_ours_dropped)
{
	uint8_t *q;

	lower_start(false);
	q = frame_icmp_error(3, 1, 0);
	put32_raw(q + 12, IP(10, 0, 0, 3).w[3]);
	icmp_checksum_set(36);
	feed();
	q = frame_icmp_error(3, 1, 0);
	q[9] = 17;
	icmp_checksum_set(36);
	feed();
	q = frame_icmp_error(3, 1, 0);
	put16(q + 6, 5); /* a later fragment: its ports are not there */
	icmp_checksum_set(36);
	feed();
	q = frame_icmp_error(3, 1, 0);
	q[0] = 0x4f; /* its header would reach beyond the message */
	icmp_checksum_set(36);
	feed();
	cr_assert_eq(fake_tcp.n_error, 0);
}

TEST(error_cut_anywhere_dropped)
{
	lower_start(false);
	for (uint32_t len = 8; len < 36; len++) {
		frame_icmp_error(11, 0, 0);
		put16(lower_in + 16, (uint16_t)(20 + len));
		ip_checksum_set();
		icmp_checksum_set(len);
		in.len = 34 + len;
		feed();
	}
	cr_assert_eq(fake_tcp.n_error, 0);
	cr_assert_eq(dropped(DROP_ICMP_MALFORMED), 28);
}

TEST(unknown_protocol_answered_by_unreachable_at_a_limited_rate)
{
	unsigned answers = 0;

	lower_start(false);
	peer_known();
	frame_ip(PEER, US, 132, 40);
	feed();
	cr_assert(out());
	cr_assert_eq(got.b[34], 3);
	cr_assert_eq(got.b[35], 2);
	cr_assert_eq(memcmp(got.b + 42, lower_in + 14, 28), 0, "quotes the packet");
	frame_ip(PEER, US, 17, 40);
	feed();
	cr_assert(out());
	cr_assert_eq(got.b[35], 3, "UDP: port unreachable");
	for (int i = 0; i < 500; i++)
		feed();
	while (out())
		answers++;
	cr_assert_leq(answers, 50);
	cr_assert_gt(dropped(DROP_ICMP_RATE), 400);
	now += SEC(1);
	feed();
	cr_assert(out());
}

/* ---- out ---- */

TEST(output_without_offload_has_all_checksums)
{
	struct cell *c[3];

	lower_start(false);
	peer_known();
	for (uint32_t odd = 0; odd < 2; odd++) {
		struct ip_tx tx = { .src = US, .dst = PEER, .proto = 6, .tos = 2, .ttl = 5 };
		struct pbuf *p = pbuf_alloc(st);

		memset(pbuf_push(p, 20), 3, 20);
		put16(pbuf_head(p) + 16, 0);
		for (int i = 0; i < 3; i++) {
			c[i] = cell_alloc(st, 300);
			memset(c[i]->data, 0x91 + i, 300);
			pbuf_add_frag(p, c[i], 1, 100 + odd);
			cell_put(st, c[i]);
		}
		ip_output(st, p, &tx, now);
		cr_assert(out());
		cr_assert(ip_sum_ok(got.b));
		cr_assert_eq(tcp_sum(), 0xffff);
		cr_assert_eq(got.vnet.flags, 0);
		cr_assert_eq(get16(got.b + 20), 0x4000, "DF");
		cr_assert_eq(got.b[15], 2);
		cr_assert_eq(got.b[22], 5);
	}
	cr_assert_eq(st->pools.held_bytes, 0);
}

TEST(output_with_offload_leaves_the_checksum_to_the_device)
{
	struct cell *c;

	lower_start(true);
	peer_known();
	c = cell_alloc(st, 16000);
	c->len = 16000;
	send_tcp(PEER, c, 16000, 1448, NULL);
	cr_assert(out());
	cr_assert_eq(got.vnet.flags, VNET_F_NEEDS_CSUM);
	cr_assert_eq(got.vnet.csum_start, 34);
	cr_assert_eq(got.vnet.csum_offset, 16);
	cr_assert_eq(got.vnet.gso_type, VNET_GSO_TCPV4);
	cr_assert_eq(got.vnet.gso_size, 1448);
	cr_assert_eq(got.vnet.hdr_len, 54);
	cr_assert_eq(get16(got.b + 16), 16040);
	/* What the device does: sum from csum_start on, the pseudo-header's share being there already. */
	put16_raw(got.b + 50, (uint16_t)~csum_fold(csum_add(0, got.b + 34, got.len - 34)));
	cr_assert_eq(tcp_sum(), 0xffff);
}

TEST(one_segment_is_not_marked_for_cutting)
{
	struct cell *c;

	lower_start(true);
	peer_known();
	c = cell_alloc(st, 1448);
	send_tcp(PEER, c, 1448, 1448, NULL);
	cr_assert(out());
	cr_assert_eq(got.vnet.gso_type, VNET_GSO_NONE);
	cr_assert_eq(got.vnet.gso_size, 0);
}

TEST(too_big_and_routeless_dropped)
{
	struct stack_config cfg = { .region = region_new(64 << 20), .dev = { .mtu_bytes = 1500 } };
	struct cell *c;

	lower_start(false);
	peer_known();
	c = cell_alloc(st, 3000);
	send_tcp(PEER, c, 1461, 0, NULL);
	cr_assert_eq(dropped(DROP_IP_TOO_BIG), 1);
	cr_assert_eq(c->refs, 1);
	stack_sysctl_default(&cfg.ctl);
	st = stack_init(&cfg, now);
	send_tcp(PEER, NULL, 0, 0, NULL);
	cr_assert_eq(stack_counters(st)[CNT_IpOutNoRoutes], 1);
	cr_assert_eq(st->pools.pbufs.in_use, 0);
}

TEST(own_address_comes_back_without_a_frame)
{
	struct cell *c;

	lower_start(false);
	c = cell_alloc(st, 16000);
	memset(c->data, 0x5a, 16000);
	send_tcp(US, c, 16000, 1448, NULL);
	cr_assert(stack_output_pending(st));
	cr_assert(!out());
	cr_assert_eq(fake_tcp.n_input, 1);
	cr_assert(fake_tcp.ip.looped);
	cr_assert_eq(fake_tcp.ip.l4_len, 16020);
	cr_assert_eq(fake_tcp.l4[20 + 777], 0x5a);
	cr_assert_eq(c->refs, 1);
	cr_assert(!stack_output_pending(st));
}
