/* SPDX-License-Identifier: BSD-2-Clause */
/* neighbour discovery, uniqueness of addresses, groups, routers */
#include "lower6.h"

#define TEST(name) Test(nd, name)

static enum neigh_state state_of(struct ipaddr a)
{
	struct neigh *n = neigh_find(st, &a);

	return n ? n->state : 0;
}

/* Who is at which solicited-node group */
static struct ipaddr group_of(struct ipaddr a)
{
	struct ipaddr g = ip6("ff02::1:ff00:0");

	memcpy(g.b + 13, a.b + 13, 3);
	return g;
}

static bool got_ns(struct ipaddr src, struct ipaddr target, struct ipaddr dst)
{
	return got6(ICMP6_NS, dst) && got.b[21] == 255 && memcmp(got.b + 22, src.b, 16) == 0 && memcmp(got.b + L6 + 8, target.b, 16) == 0;
}

static bool got_na(struct ipaddr target, struct ipaddr dst, uint8_t flags)
{
	return got6(ICMP6_NA, dst) && got.b[21] == 255 && got.b[L6 + 4] == flags && memcmp(got.b + L6 + 8, target.b, 16) == 0 &&
	       got.b[L6 + 24] == 2 && memcmp(got.b + L6 + 26, mac_us, 6) == 0;
}

/* An MLDv2 report about one group, with a router alert in front */
static bool got_report(struct ipaddr group, uint8_t record)
{
	static const uint8_t alert[8] = { 58, 0, 5, 2, 0, 0, 1, 0 };
	struct ipaddr routers = ip6("ff02::16"), src = ipaddr_v6(got.b + 22);
	const uint8_t *m = got.b + L6 + 8;

	return got.b[20] == 0 && got.b[21] == 1 && memcmp(got.b + 38, routers.b, 16) == 0 && memcmp(got.b + L6, alert, 8) == 0 &&
	       m[0] == 143 && get16(m + 6) == 1 && m[8] == record && memcmp(m + 12, group.b, 16) == 0 && got.len == L6 + 36 &&
	       csum_fold(csum_add(csum_pseudo(&src, &routers, 58, 28), m, 28)) == 0xffff;
}

static const char *const ll_text = "fe80::ff:fe00:1";

/* ---- coming to the link ---- */

TEST(link_local_address_is_asked_about_then_told)
{
	struct ipaddr ll = ip6(ll_text), any = ip6("::");

	lower6_fresh(false, false);
	cr_assert(stack_addr_is_ours(st, ll), "usable at once, RFC 4429");
	cr_assert(out());
	cr_assert(got_report(group_of(ll), 4));
	cr_assert(out());
	cr_assert(got_ns(any, ll, group_of(ll)));
	cr_assert_eq(got.len, L6 + 24, "no Ethernet address while it is not sure");
	cr_assert_eq(got.b[0], 0x33);
	cr_assert(!out());
	run_to(now + MSEC(990));
	cr_assert(!out());
	run_to(now + MSEC(20));
	cr_assert(out());
	cr_assert(got_report(group_of(ll), 4));
	cr_assert(out());
	cr_assert(got_na(ll, NODES6, 0x20));
	run_to(now + SEC(1000));
	cr_assert(!out());
}

TEST(interface_ids_with_a_secret_stay_and_differ_by_prefix)
{
	struct ipaddr first, again;

	lower6_fresh(false, true);
	cr_assert(nd_own_ll(st, false, &first));
	cr_assert(ipaddr_is_link_local(first) && !ipaddr_eq(first, ip6(ll_text)));
	lower6_fresh(false, true);
	cr_assert(nd_own_ll(st, false, &again));
	cr_assert(ipaddr_eq(first, again));
}

TEST(too_small_an_mtu_is_refused)
{
	struct stack_config cfg = { .region = region_new(64 << 20), .dev = { .mtu_bytes = 1279 } };
	struct stack_ip6 six = { .accept_ra = false };

	stack_sysctl_default(&cfg.ctl);
	st = stack_init(&cfg, now);
	cr_assert_eq(stack_ip6_start(st, &six, now), -EMSGSIZE);
}

static void us_fresh(void)
{
	lower6_fresh(false, false);
	run_to(now + SEC(2));
	cr_assert_eq(stack_addr_add(st, US6, 64), 0);
	while (out())
		;
	cr_assert_eq(stack_addr_announce(st, US6, now), 0);
	while (out())
		;
}

TEST(address_that_another_has_goes)
{
	struct ipaddr any = ip6("::");

	us_fresh();
	feed_nd(ICMP6_NA, US6, NODES6, US6, 0x20, mac_peer); /* it answers */
	cr_assert(!stack_addr_is_ours(st, US6));
	cr_assert_eq(stack_counters(st)[CNT_Nd6DadFailures], 1);
	us_fresh();
	feed_nd(ICMP6_NS, any, group_of(US6), US6, 0, NULL); /* it asks about it as well */
	cr_assert(!stack_addr_is_ours(st, US6));
	run_to(now + SEC(5));
	cr_assert(!out());
}

TEST(own_question_come_back_is_no_conflict)
{
	struct ipaddr any = ip6("::");
	uint8_t *m;

	us_fresh();
	m = frame6_icmp(any, group_of(US6), 255, ICMP6_NS, 0, 24);
	memcpy(m + 8, US6.b, 16);
	memcpy(lower_in + 6, mac_us, 6);
	feed6();
	cr_assert(stack_addr_is_ours(st, US6));
}

TEST(chosen_address_that_another_has_is_chosen_anew)
{
	struct ipaddr a, b;

	lower6_fresh(false, true);
	cr_assert(nd_own_ll(st, false, &a));
	for (int i = 0; i < 3; i++) {
		feed_nd(ICMP6_NA, a, NODES6, a, 0x20, mac_peer);
		cr_assert(nd_own_ll(st, false, &b), "another try");
		cr_assert(!ipaddr_eq(a, b));
		a = b;
	}
	feed_nd(ICMP6_NA, a, NODES6, a, 0x20, mac_peer);
	cr_assert(!nd_own_ll(st, false, &b), "three, then no more");
}

TEST(later_claim_is_counted_only)
{
	lower6_start();
	feed_nd(ICMP6_NA, US6, NODES6, US6, 0x20, mac_peer);
	cr_assert(stack_addr_is_ours(st, US6));
	cr_assert_eq(stack_counters(st)[CNT_Nd6Conflicts], 1);
	cr_assert_eq(state_of(US6), 0);
	cr_assert(!out());
}

/* ---- being asked ---- */

TEST(question_about_us_answered_and_asker_remembered)
{
	lower6_start();
	feed_nd(ICMP6_NS, PEER6, group_of(US6), US6, 0, mac_peer);
	cr_assert(out());
	cr_assert(got_na(US6, PEER6, 0x60));
	cr_assert_eq(memcmp(got.b, mac_peer, 6), 0);
	cr_assert(!out());
	/* the answer was sent through the row that the question made */
	cr_assert_eq(state_of(PEER6), NEIGH_DELAY);
}

TEST(while_unsure_answers_override_nothing)
{
	us_fresh();
	feed_nd(ICMP6_NS, PEER6, group_of(US6), US6, 0, mac_peer);
	cr_assert(out());
	cr_assert(got_na(US6, PEER6, 0x40));
}

TEST(question_whether_ours_is_free_answered_to_all)
{
	lower6_start();
	feed_nd(ICMP6_NS, ip6("::"), group_of(US6), US6, 0, NULL);
	cr_assert(out());
	cr_assert(got_na(US6, NODES6, 0x20));
	cr_assert_eq(st->neighs.slab.in_use, 0);
}

TEST(strangers_and_malformed_questions_ignored)
{
	uint8_t *m;

	lower6_start();
	feed_nd(ICMP6_NS, PEER6, US6, ip6("2001:db8::77"), 0, mac_peer);
	feed_nd(ICMP6_NS, OTHER6, US6, US6, 0, mac_peer);		/* not on this link */
	feed_nd(ICMP6_NS, ip6("::"), US6, US6, 0, NULL);		/* asked of us alone */
	feed_nd(ICMP6_NS, ip6("::"), group_of(US6), US6, 0, mac_peer);	/* with an address, but from nobody */
	feed_nd(ICMP6_NS, PEER6, US6, NODES6, 0, mac_peer);
	m = frame6_icmp(PEER6, US6, 254, ICMP6_NS, 0, 32); /* from beyond the link */
	memcpy(m + 8, US6.b, 16);
	m[24] = m[25] = 1;
	feed6();
	m = frame6_icmp(PEER6, US6, 255, ICMP6_NS, 1, 24);
	memcpy(m + 8, US6.b, 16);
	feed6();
	m = frame6_icmp(PEER6, US6, 255, ICMP6_NS, 0, 32); /* an option of length 0 */
	memcpy(m + 8, US6.b, 16);
	feed6();
	m = frame6_icmp(PEER6, US6, 255, ICMP6_NS, 0, 23);
	feed6();
	cr_assert(!out());
	cr_assert_eq(st->neighs.slab.in_use, 0);
}

/* ---- asking ---- */

TEST(unknown_neighbour_asked_and_frames_wait)
{
	lower6_start();
	send6(PEER6, NULL, 0, 0);
	send6(PEER6, NULL, 0, 0);
	cr_assert(out());
	cr_assert(got_ns(US6, PEER6, group_of(PEER6)));
	cr_assert_eq(memcmp(got.b, (uint8_t[]){ 0x33, 0x33, 0xff, 0, 0, 2 }, 6), 0);
	cr_assert_eq(got.b[L6 + 24], 1);
	cr_assert_eq(memcmp(got.b + L6 + 26, mac_us, 6), 0);
	cr_assert(!out());
	feed_nd(ICMP6_NA, PEER6, US6, PEER6, 0x60, mac_peer);
	cr_assert_eq(state_of(PEER6), NEIGH_REACHABLE);
	for (int i = 0; i < 2; i++) {
		cr_assert(out());
		cr_assert_eq(got.b[20], 6);
		cr_assert_eq(memcmp(got.b, mac_peer, 6), 0);
	}
	cr_assert(!out());
}

TEST(silent_neighbour_asked_three_times_then_tcp_told)
{
	lower6_start();
	send6(PEER6, NULL, 0, 0);
	for (int i = 0; i < 3; i++) {
		cr_assert(out());
		cr_assert(got_ns(US6, PEER6, group_of(PEER6)));
		run_to(now + SEC(1) + MSEC(1));
	}
	cr_assert(!out());
	cr_assert_eq(fake_tcp.n_error, 1);
	cr_assert(fake_tcp.error.local);
	cr_assert_eq(fake_tcp.error.type, ICMP6_UNREACH);
	cr_assert_eq(fake_tcp.error.code, 3);
	cr_assert_eq(fake_tcp.error.seq, 7777);
	cr_assert(ipaddr_eq(fake_tcp.error.dst, PEER6) && ipaddr_eq(fake_tcp.error.src, US6));
}

TEST(stale_neighbour_probed_by_unicast)
{
	lower6_start();
	peer6_known();
	run_to(now + SEC(5) + MSEC(1));
	cr_assert(out());
	cr_assert(got_ns(US6, PEER6, PEER6));
	cr_assert_eq(memcmp(got.b, mac_peer, 6), 0);
	feed_nd(ICMP6_NA, PEER6, US6, PEER6, 0x40, NULL); /* says no more than that it is there */
	cr_assert_eq(state_of(PEER6), NEIGH_REACHABLE);
}

TEST(advertisements_as_rfc_4861_7_2_5)
{
	static const uint8_t other[6] = { 2, 0, 0, 0, 0, 9 };
	struct ipaddr peer = PEER6;
	struct neigh *n;

	lower6_start();
	feed_nd(ICMP6_NA, PEER6, NODES6, PEER6, 0x20, mac_peer);
	cr_assert_eq(state_of(PEER6), 0, "nobody waited: no row");
	peer6_known();
	feed_nd(ICMP6_NA, PEER6, US6, PEER6, 0x40, mac_peer);
	n = neigh_find(st, &peer);
	cr_assert_eq(n->state, NEIGH_REACHABLE);
	feed_nd(ICMP6_NA, PEER6, NODES6, PEER6, 0, other);
	cr_assert_eq(n->state, NEIGH_STALE, "without the override bit a doubt");
	cr_assert_eq(memcmp(n->mac, mac_peer, 6), 0);
	feed_nd(ICMP6_NA, PEER6, NODES6, PEER6, 0x20, other);
	cr_assert_eq(n->state, NEIGH_STALE);
	cr_assert_eq(memcmp(n->mac, other, 6), 0);
	feed_nd(ICMP6_NA, PEER6, NODES6, PEER6, 0x60, mac_peer);
	cr_assert_eq(memcmp(n->mac, other, 6), 0, "solicited, and yet to all: malformed");
	feed_nd(ICMP6_NA, PEER6, US6, PEER6, 0x60, mac_peer);
	cr_assert_eq(n->state, NEIGH_REACHABLE);
	cr_assert_eq(memcmp(n->mac, mac_peer, 6), 0);
}

/* ---- groups ---- */

TEST(query_answered_within_its_time_for_each_address)
{
	struct ipaddr other = ip6("2001:db8::abcd");
	uint8_t *h;
	usec_t end;
	unsigned us = 0, them = 0;

	lower6_start();
	cr_assert_eq(stack_addr_add(st, other, 64), 0);
	h = frame6(ROUTER6, NODES6, 0, 1, 8 + 28);
	memset(h, 0, 36);
	memcpy(h, (uint8_t[]){ 58, 0, 5, 2, 0, 0, 1, 0, ICMP6_MLD_QUERY, 0, 0, 0, 0x03, 0xe8 }, 14);
	csum6_set(58, h + 8, 28, 2);
	feed();
	cr_assert(!out());
	for (end = now + SEC(1) + MSEC(2); now < end; run_to(now + MSEC(10)))
		while (out()) {
			us += got_report(group_of(US6), 2);
			them += got_report(group_of(other), 2);
		}
	cr_assert_eq(us, 2, "the link-local address has the same group");
	cr_assert_eq(them, 1);
}

/* ---- routers ---- */

static void feed_ra(struct ipaddr src, uint16_t lifetime_s, const uint8_t *options, uint32_t n)
{
	uint8_t *m = frame6_icmp(src, NODES6, 255, ICMP6_RA, 0, 16 + n);

	m[4] = 33;
	put16(m + 6, lifetime_s);
	memcpy(m + 16, options, n);
	feed6();
}

static const uint8_t ra_prefix[32] = { 3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x07, 0x08, 0, 0, 0, 0, 0x20, 1, 0xd, 0xb8, 0, 5 };
static const uint8_t ra_mtu[8] = { 5, 1, 0, 0, 0, 0, 0x05, 0x78 };	/* 1,400 */
static const uint8_t ra_mac[8] = { 1, 1, 2, 0, 0, 0, 0, 0xfe };

static void ra_whole(uint16_t lifetime_s)
{
	uint8_t o[48];

	memcpy(o, ra_prefix, 32);
	memcpy(o + 32, ra_mtu, 8);
	memcpy(o + 40, ra_mac, 8);
	feed_ra(ROUTER6, lifetime_s, o, 48);
}

static const char *const auto_text = "2001:db8:5::ff:fe00:1";

TEST(routers_are_asked_three_times)
{
	unsigned n = 0;

	lower6_fresh(true, false);
	for (int i = 0; i < 200; i++, run_to(now + MSEC(100)))
		while (out())
			n += got6(ICMP6_RS, ip6("ff02::2"));
	cr_assert_eq(n, 3);
}

TEST(advertisement_brings_address_route_mtu_and_hop_limit)
{
	struct ipaddr dst = OTHER6, src;

	lower6_fresh(true, false);
	ra_whole(1800);
	cr_assert(stack_addr_is_ours(st, ip6(auto_text)));
	cr_assert_eq(stack_source_for(st, OTHER6, &src), 0);
	cr_assert(ipaddr_eq(src, ip6(auto_text)));
	cr_assert(ipaddr_eq(route_lookup(st, &dst)->gateway, ROUTER6));
	cr_assert_eq(ip_mtu(st, &dst), 1400);
	cr_assert_eq(state_of(ROUTER6), NEIGH_STALE);
	run_to(now + SEC(20));
	while (out())
		cr_assert(!got6(ICMP6_RS, ip6("ff02::2")), "answered: not asked again");
	send6(OTHER6, NULL, 0, 0);
	cr_assert(out());
	cr_assert_eq(memcmp(got.b, mac_router, 6), 0);
	cr_assert_eq(got.b[21], 33);
}

TEST(not_listened_to_unless_told_so)
{
	lower6_fresh(false, false);
	ra_whole(1800);
	cr_assert(!stack_addr_is_ours(st, ip6(auto_text)));
	cr_assert(!stack_has_route(st, OTHER6));
	lower6_fresh(true, false);
	feed_ra(ip6("2001:db8::fe"), 1800, ra_prefix, 32); /* not from a link-local address */
	cr_assert(!stack_addr_is_ours(st, ip6(auto_text)));
}

TEST(lifetimes_end)
{
	struct ipaddr a = ip6(auto_text);

	lower6_fresh(true, false);
	ra_whole(100);
	cr_assert(stack_has_route(st, OTHER6));
	run_to(now + SEC(101));
	cr_assert(!stack_has_route(st, OTHER6), "the router's");
	cr_assert(!(route_addr(st, &a)->flags & ADDR_DEPRECATED));
	run_to(now + SEC(1800));
	cr_assert(route_addr(st, &a)->flags & ADDR_DEPRECATED, "the preferred one");
	cr_assert(stack_has_route(st, ip6("2001:db8:5::9")));
	run_to(now + SEC(1800));
	cr_assert(!stack_addr_is_ours(st, a), "the valid one");
	cr_assert(!stack_has_route(st, ip6("2001:db8:5::9")));
	cr_assert_eq(st->nd.n_routes, 0);
}

TEST(forged_lifetime_ends_an_address_in_two_hours_at_the_earliest)
{
	struct ipaddr a = ip6(auto_text);
	uint8_t o[32];

	lower6_fresh(true, false);
	memcpy(o, ra_prefix, 32);
	put32(o + 4, 864000);
	put32(o + 8, 864000);
	feed_ra(ROUTER6, 1800, o, 32);
	put32(o + 4, 10);
	put32(o + 8, 10);
	feed_ra(ROUTER6, 1800, o, 32);
	cr_assert_eq(route_addr(st, &a)->valid_until, now + SEC(7200));
	put32(o + 4, 0xffffffff);
	put32(o + 8, 0xffffffff);
	feed_ra(ROUTER6, 1800, o, 32);
	cr_assert_eq(route_addr(st, &a)->valid_until, USEC_NEVER);
}

TEST(router_that_goes_takes_its_route)
{
	struct ipaddr second = ip6("fe80::fd"), dst = OTHER6;

	lower6_fresh(true, false);
	feed_ra(ROUTER6, 1800, ra_mac, 8);
	feed_ra(second, 1800, ra_mac, 8);
	cr_assert(ipaddr_eq(route_lookup(st, &dst)->gateway, ROUTER6), "the first one stays");
	feed_ra(ROUTER6, 0, ra_mac, 8);
	cr_assert(ipaddr_eq(route_lookup(st, &dst)->gateway, second));
	feed_nd(ICMP6_NA, second, ip6(ll_text), second, 0x60, mac_router); /* is no router any more */
	cr_assert(!stack_has_route(st, OTHER6));
}

TEST(silent_router_gives_way_to_another)
{
	struct ipaddr second = ip6("fe80::fd"), dst = OTHER6;

	lower6_fresh(true, false);
	feed_ra(ROUTER6, 1800, ra_mac, 8);
	feed_ra(second, 1800, ra_mac, 8);
	cr_assert_eq(stack_addr_add(st, US6, 64), 0);
	send6(OTHER6, NULL, 0, 0);
	run_to(now + SEC(20)); /* DELAY, PROBE, FAILED */
	cr_assert(ipaddr_eq(route_lookup(st, &dst)->gateway, second));
}

TEST(many_advertisements_make_no_more_than_their_bounds)
{
	lower6_fresh(true, false);
	for (uint32_t i = 0; i < 500; i++) {
		struct ipaddr r = ip6("fe80::1:0");
		uint8_t o[32];

		put16(r.b + 14, (uint16_t)i);
		memcpy(o, ra_prefix, 32);
		put16(o + 22, (uint16_t)i);
		feed_ra(r, 1800, o, 32);
	}
	cr_assert_leq(st->nd.n_routers, ND_ROUTERS_MAX);
	cr_assert_leq(st->nd.n_auto, ND_AUTO_MAX);
	cr_assert_leq(st->nd.n_routes, ND_ROUTES_MAX);
	cr_assert_leq(st->routes.routes.in_use, ND_ROUTES_MAX + 3);
}

TEST(malformed_advertisements_ignored)
{
	uint8_t o[32];
	uint8_t *m;

	lower6_fresh(true, false);
	memcpy(o, ra_prefix, 32);
	o[1] = 0;
	feed_ra(ROUTER6, 1800, o, 32);
	memcpy(o, ra_prefix, 32);
	o[1] = 5;
	feed_ra(ROUTER6, 1800, o, 32);
	m = frame6_icmp(ROUTER6, NODES6, 64, ICMP6_RA, 0, 16);
	put16(m + 6, 1800);
	feed6();
	cr_assert(!stack_has_route(st, OTHER6));
	memcpy(o, ra_prefix, 32);
	o[2] = 63; /* no prefix to make an address of */
	feed_ra(ROUTER6, 1800, o, 32);
	memcpy(o, ra_prefix, 32);
	put32(o + 8, 7200); /* preferred longer than valid */
	feed_ra(ROUTER6, 1800, o, 32);
	memcpy(o, ra_prefix, 32);
	memcpy(o + 16, (uint8_t[]){ 0xfe, 0x80, 0, 0 }, 4);
	feed_ra(ROUTER6, 1800, o, 32);
	cr_assert_eq(st->nd.n_auto, 1, "the link-local one");
}

static void feed_redirect(struct ipaddr src, struct ipaddr target, struct ipaddr dst)
{
	uint8_t *m = frame6_icmp(src, US6, 255, ICMP6_REDIRECT, 0, 48);

	memcpy(m + 8, target.b, 16);
	memcpy(m + 24, dst.b, 16);
	memcpy(m + 40, (uint8_t[]){ 2, 1, 2, 0, 0, 0, 0, 0xfd }, 8);
	feed6();
}

TEST(redirect_of_the_router_in_use_is_followed)
{
	static const uint8_t better[6] = { 2, 0, 0, 0, 0, 0xfd };

	lower6_start();
	feed_redirect(ip6("fe80::fc"), ip6("fe80::fd"), OTHER6);
	feed_redirect(ROUTER6, ip6("2001:db8::fd"), OTHER6); /* neither link-local nor the destination */
	cr_assert_eq(st->dsts.tab.count, 0);
	feed_redirect(ROUTER6, ip6("fe80::fd"), OTHER6);
	send6(OTHER6, NULL, 0, 0);
	cr_assert(out());
	cr_assert_eq(memcmp(got.b, better, 6), 0);
	run_to(now + SEC(20)); /* it does not answer */
	while (out())
		;
	send6(OTHER6, NULL, 0, 0);
	cr_assert(out());
	cr_assert(got_ns(ip6(ll_text), ROUTER6, group_of(ROUTER6)), "back to the router");
}

/* ---- repair ---- */

TEST(repair_of_a_host_without_ip6_says_nothing)
{
	lower_start(false);
	stack_repair(st, 0, now);
	run_to(now + SEC(100));
	cr_assert(!out());
}

TEST(repair_keeps_addresses_and_asks_again)
{
	us_fresh();
	stack_repair(st, 0, now);
	cr_assert(stack_addr_is_ours(st, US6));
	cr_assert(out());
	cr_assert(got_report(group_of(US6), 4));
	cr_assert(out());
	cr_assert(got_ns(ip6("::"), US6, group_of(US6)));
	run_to(now + SEC(2));
	feed_nd(ICMP6_NS, PEER6, group_of(US6), US6, 0, mac_peer);
	while (out())
		;
	cr_assert(got_na(US6, PEER6, 0x60));
}
