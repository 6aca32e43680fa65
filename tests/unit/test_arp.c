/* SPDX-License-Identifier: BSD-2-Clause */
/* ARP and the states of neighbours */
#include "lower.h"

#define TEST(name) Test(arp, name)

static void answer(struct ipaddr who, const uint8_t mac[6])
{
	frame_arp(mac_us, 2, mac, who, US);
	feed();
}

static enum neigh_state state_of(struct ipaddr a)
{
	struct neigh *n = neigh_find(st, &a);

	return n ? n->state : 0;
}

TEST(request_for_us_answered_and_asker_remembered)
{
	lower_start(false);
	frame_arp(mac_all, 1, mac_peer, PEER, US);
	feed();
	cr_assert(out());
	cr_assert(got_arp(2, PEER, mac_peer));
	cr_assert_eq(memcmp(got.b + 22, mac_us, 6), 0);
	cr_assert_eq(get32_raw(got.b + 28), US.w[3]);
	cr_assert(!out());
	cr_assert_eq(state_of(PEER), NEIGH_STALE);
}

TEST(request_for_another_ignored)
{
	lower_start(false);
	frame_arp(mac_all, 1, mac_peer, PEER, IP(10, 0, 0, 9));
	feed();
	cr_assert(!out());
	cr_assert_eq(state_of(PEER), 0);
	cr_assert_eq(stack_drops(st)[DROP_ARP_NOT_OURS], 1);
}

TEST(probe_answered_not_remembered)
{
	lower_start(false);
	frame_arp(mac_all, 1, mac_peer, ipaddr_v4(0), US);
	feed();
	cr_assert(out());
	cr_assert(got_arp(2, ipaddr_v4(0), mac_peer));
	cr_assert_eq(st->neighs.slab.in_use, 0);
}

TEST(reply_nobody_asked_for_makes_no_row)
{
	lower_start(false);
	for (int i = 2; i < 250; i++)
		answer(IP(10, 0, 0, i), mac_peer);
	cr_assert_eq(st->neighs.slab.in_use, 0);
}

TEST(stranger_on_another_network_not_learned)
{
	lower_start(false);
	frame_arp(mac_all, 1, mac_peer, IP(192, 0, 2, 1), US);
	feed();
	cr_assert_eq(st->neighs.slab.in_use, 0);
}

TEST(our_address_claimed_counted_and_not_learned)
{
	lower_start(false);
	frame_arp(mac_all, 1, mac_peer, US, US);
	feed();
	cr_assert(out());
	cr_assert(got_arp(1, US, mac_all));
	cr_assert_eq(memcmp(got.b + 22, mac_us, 6), 0);
	cr_assert_eq(get32_raw(got.b + 28), US.w[3]);
	cr_assert_eq(stack_counters(st)[CNT_ArpConflicts], 1);
	cr_assert_eq(st->neighs.slab.in_use, 0);
}

TEST(our_address_is_defended_every_ten_seconds_at_most)
{
	unsigned n = 0;

	lower_start(false);
	for (int i = 0; i < 350; i++) {
		frame_arp(i % 2 ? mac_all : mac_us, i % 2 ? 1 : 2, mac_peer, US, i % 3 ? US : PEER);
		feed();
		while (out())
			n++;
		run_to(now + MSEC(100));
	}
	cr_assert_eq(n, 4u);
	cr_assert_eq(stack_counters(st)[CNT_ArpConflicts], 350);
	cr_assert_eq(stack_counters(st)[CNT_ArpAnnouncesOut], 4);
}

TEST(address_is_announced_twice)
{
	lower_start(false);
	cr_assert_eq(stack_addr_announce(st, PEER, now), -EADDRNOTAVAIL);
	cr_assert_eq(stack_addr_announce(st, US, now), 0);
	cr_assert(out());
	cr_assert(got_arp(1, US, mac_all));
	cr_assert_eq(get32_raw(got.b + 28), US.w[3]);
	cr_assert(!out());
	run_to(now + MSEC(1900));
	cr_assert(!out());
	run_to(now + MSEC(200));
	cr_assert(out());
	cr_assert(got_arp(1, US, mac_all));
	run_to(now + SEC(100));
	cr_assert(!out());
}

TEST(malformed_dropped)
{
	lower_start(false);
	for (uint32_t len = ETH_HDR_BYTES; len < ETH_HDR_BYTES + 28; len++) {
		frame_arp(mac_all, 1, mac_peer, PEER, US);
		in.len = len;
		feed();
	}
	for (int i = 0; i < 6; i++) {
		frame_arp(mac_all, 1, mac_peer, PEER, US);
		lower_in[ETH_HDR_BYTES + i] ^= 0x40;
		feed();
	}
	frame_arp(mac_all, 3, mac_peer, PEER, US);
	feed();
	frame_arp(mac_all, 1, mac_all, PEER, US);
	feed();
	cr_assert(!out());
	cr_assert_eq(stack_drops(st)[DROP_ARP_MALFORMED], 28 + 6 + 2);
}

TEST(unknown_neighbour_asked_and_frames_wait_in_order)
{
	struct cell *c;

	lower_start(false);
	c = cell_alloc(st, 100);
	for (uint32_t i = 1; i <= 3; i++)
		send_tcp(PEER, c, i, 0, NULL);
	cr_assert(out());
	cr_assert(got_arp(1, PEER, mac_all));
	cr_assert(!out(), "one question, no frame");
	answer(PEER, mac_peer);
	for (uint32_t i = 1; i <= 3; i++) {
		cr_assert(out());
		cr_assert_eq(memcmp(got.b, mac_peer, 6), 0);
		cr_assert_eq(got.len, ETH_HDR_BYTES + 40 + i);
	}
	cr_assert(!out());
	cr_assert_eq(state_of(PEER), NEIGH_REACHABLE);
	cr_assert_eq(c->refs, 1);
}

TEST(silent_neighbour_asked_three_times_then_tcp_told)
{
	lower_start(false);
	send_tcp(PEER, NULL, 0, 0, NULL);
	send_tcp(PEER, NULL, 0, 0, NULL);
	for (int i = 0; i < 3; i++) {
		cr_assert(out());
		cr_assert(got_arp(1, PEER, mac_all));
		cr_assert(!out());
		cr_assert_eq(fake_tcp.n_error, 0);
		run_to(now + SEC(1) + MSEC(1));
	}
	cr_assert(!out());
	cr_assert_eq(fake_tcp.n_error, 2);
	cr_assert(fake_tcp.error.local);
	cr_assert_eq(fake_tcp.error.type, 3);
	cr_assert_eq(fake_tcp.error.code, 1);
	cr_assert_eq(fake_tcp.error.sport, 80);
	cr_assert_eq(fake_tcp.error.dport, 1000);
	cr_assert_eq(fake_tcp.error.seq, 7777);
	cr_assert(ipaddr_eq(fake_tcp.error.dst, PEER));
	cr_assert_eq(state_of(PEER), NEIGH_FAILED);
	cr_assert_eq(st->pools.pbufs.in_use, 0);

	send_tcp(PEER, NULL, 0, 0, NULL); /* and it starts again */
	cr_assert(out());
	cr_assert(got_arp(1, PEER, mac_all));
}

TEST(waiting_frames_bounded_oldest_dropped)
{
	struct cell *c;

	lower_start(false);
	c = cell_alloc(st, 200);
	for (uint32_t i = 1; i <= NEIGH_HOLD_MAX + 5; i++)
		send_tcp(PEER, c, i, 0, NULL);
	cr_assert_eq(st->pools.pbufs.in_use, NEIGH_HOLD_MAX + 1);
	cr_assert_eq(stack_drops(st)[DROP_NEIGH_HOLD_FULL], 5);
	cr_assert(out());
	answer(PEER, mac_peer);
	for (uint32_t i = 6; i <= NEIGH_HOLD_MAX + 5; i++) {
		cr_assert(out());
		cr_assert_eq(got.len, ETH_HDR_BYTES + 40 + i);
	}
	cr_assert(!out());
}

TEST(stale_used_at_once_then_probed_by_unicast)
{
	lower_start(false);
	peer_known();
	send_tcp(PEER, NULL, 0, 0, NULL);
	cr_assert(out());
	cr_assert_eq(get16(got.b + 12), 0x0800, "sent without asking");
	cr_assert_eq(state_of(PEER), NEIGH_DELAY);
	run_to(now + SEC(5) + MSEC(1));
	cr_assert(out());
	cr_assert(got_arp(1, PEER, mac_peer));
	cr_assert_eq(state_of(PEER), NEIGH_PROBE);
	answer(PEER, mac_peer);
	cr_assert_eq(state_of(PEER), NEIGH_REACHABLE);
	run_to(now + SEC(20));
	cr_assert(!out(), "nothing more to ask");
}

TEST(progress_of_tcp_saves_the_question)
{
	struct ip_path path = { 0 };

	lower_start(false);
	peer_known();
	send_tcp(PEER, NULL, 0, 0, &path);
	cr_assert(out());
	cr_assert_eq(state_of(PEER), NEIGH_DELAY);
	run_to(now + SEC(3));
	ip_confirm(st, &path, now);
	run_to(now + SEC(3));
	cr_assert(!out());
	cr_assert_eq(state_of(PEER), NEIGH_REACHABLE);
}

TEST(reachable_grows_stale_after_30_s)
{
	lower_start(false);
	send_tcp(PEER, NULL, 0, 0, NULL);
	answer(PEER, mac_peer);
	while (out())
		;
	run_to(now + SEC(29));
	send_tcp(PEER, NULL, 0, 0, NULL);
	cr_assert_eq(state_of(PEER), NEIGH_REACHABLE);
	run_to(now + SEC(2));
	send_tcp(PEER, NULL, 0, 0, NULL);
	cr_assert_eq(state_of(PEER), NEIGH_DELAY);
}

TEST(moved_station_followed_by_remembered_paths)
{
	const uint8_t other[6] = { 2, 0, 0, 0, 0, 3 };
	struct ip_path path = { 0 };

	lower_start(false);
	peer_known();
	send_tcp(PEER, NULL, 0, 0, &path);
	cr_assert(out());
	cr_assert_eq(path.gen, st->path_gen);
	frame_arp(mac_all, 1, other, PEER, PEER); /* gratuitous */
	feed();
	send_tcp(PEER, NULL, 0, 0, &path);
	cr_assert(out());
	cr_assert_eq(memcmp(got.b, other, 6), 0);
}

TEST(remembered_path_ends_with_its_row)
{
	struct ip_path path = { 0 };

	lower_start(false);
	peer_known();
	send_tcp(PEER, NULL, 0, 0, &path);
	cr_assert(out());
	run_to(now + SEC(60));
	for (uint32_t i = 0; i < NEIGH_MAX + 100; i++) { /* a scan pushes the row out */
		cr_assert_eq(stack_addr_add(st, IP(11, 0, 0, 1), 8), i ? -EEXIST : 0);
		send_tcp(ipaddr_v4(__builtin_bswap32(0x0b000100 + i)), NULL, 0, 0, NULL);
	}
	cr_assert_null(neigh_find(st, &(struct ipaddr){ .w = { 0, 0, IPADDR_V4_PREFIX_W2, PEER.w[3] } }));
	cr_assert_leq(st->neighs.slab.in_use, NEIGH_MAX);
	while (out())
		;
	send_tcp(PEER, NULL, 0, 0, &path);
	cr_assert(out());
	cr_assert(got_arp(1, PEER, mac_all));
}

TEST(permanent_row_neither_asks_nor_changes)
{
	const uint8_t fixed[6] = { 2, 9, 9, 9, 9, 9 };

	lower_start(false);
	send_tcp(PEER, NULL, 0, 0, NULL); /* waits */
	cr_assert(out());
	cr_assert_eq(stack_neigh_add(st, PEER, fixed), 0);
	cr_assert(out());
	cr_assert_eq(memcmp(got.b, fixed, 6), 0);
	answer(PEER, mac_peer);
	run_to(now + SEC(100));
	send_tcp(PEER, NULL, 0, 0, NULL);
	cr_assert(out());
	cr_assert_eq(memcmp(got.b, fixed, 6), 0);
	cr_assert(!out());
	cr_assert_eq(stack_neigh_add(st, PEER, mac_all), -EINVAL);
}

TEST(beyond_our_network_the_gateway_is_asked)
{
	lower_start(false);
	send_tcp(IP(192, 0, 2, 7), NULL, 0, 0, NULL);
	cr_assert(out());
	cr_assert(got_arp(1, GATE, mac_all));
	answer(GATE, mac_peer);
	cr_assert(out());
	cr_assert_eq(get32_raw(got.b + ETH_HDR_BYTES + 16), IP(192, 0, 2, 7).w[3]);
}

TEST(repair_keeps_rows_and_drops_what_waited)
{
	struct cell *c;

	lower_start(false);
	peer_known();
	c = cell_alloc(st, 10);
	send_tcp(IP(10, 0, 0, 77), c, 10, 0, NULL);
	stack_repair(st, 0, now);
	cr_assert_eq(st->pools.pbufs.in_use, 0);
	cr_assert_eq(st->pools.held_bytes, 0, "nobody marked the cell");
	cr_assert_eq(state_of(IP(10, 0, 0, 77)), NEIGH_FAILED);
	cr_assert(!out());
	send_tcp(PEER, NULL, 0, 0, NULL);
	cr_assert(out());
	cr_assert_eq(memcmp(got.b, mac_peer, 6), 0);
}
