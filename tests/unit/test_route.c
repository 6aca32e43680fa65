/* SPDX-License-Identifier: BSD-2-Clause */
#include "lower.h"

#define TEST(name) Test(route, name)

static struct ipaddr via(struct ipaddr dst)
{
	const struct route_row *r = route_lookup(st, &dst);

	cr_assert_not_null(r);
	return r->gateway;
}

TEST(longest_prefix_wins)
{
	lower_start(false);
	cr_assert_eq(stack_route_add(st, IP(192, 0, 0, 0), 8, IP(10, 0, 0, 8)), 0);
	cr_assert_eq(stack_route_add(st, IP(192, 0, 2, 0), 24, IP(10, 0, 0, 24)), 0);
	cr_assert_eq(stack_route_add(st, IP(192, 0, 2, 129), 32, IP(10, 0, 0, 32)), 0);
	cr_assert(ipaddr_eq(via(IP(192, 0, 2, 129)), IP(10, 0, 0, 32)));
	cr_assert(ipaddr_eq(via(IP(192, 0, 2, 128)), IP(10, 0, 0, 24)));
	cr_assert(ipaddr_eq(via(IP(192, 0, 3, 1)), IP(10, 0, 0, 8)));
	cr_assert(ipaddr_eq(via(IP(8, 8, 8, 8)), GATE));
	cr_assert(ipaddr_is_any(via(PEER)), "on-link");
}

TEST(same_as_a_full_search)
{
	enum { N = 3000 };
	static struct { uint32_t p; unsigned len; struct ipaddr gw; } r[N];
	uint64_t seed = 9;
	int n = 0;

	lower_start(false);
	for (int tries = 0; tries < 2 * N && n < N; tries++) {
		unsigned len = 1 + (unsigned)(rnd(&seed) % 32);
		uint32_t p = 0x0b000000 + ((uint32_t)rnd(&seed) & 0x000fffff);
		struct ipaddr gw = IP(10, 0, 0, 2 + rnd(&seed) % 200);

		p &= 0xffffffffu << (32 - len);
		if (stack_route_add(st, ipaddr_v4(__builtin_bswap32(p)), (uint8_t)len, gw) == 0) {
			r[n].p = p;
			r[n].len = len;
			r[n++].gw = gw;
		} /* else it is there already */
	}
	cr_assert_gt(n, N / 2);
	for (int k = 0; k < 3000; k++) {
		uint32_t a = 0x0b000000 + ((uint32_t)rnd(&seed) & 0x001fffff);
		int best = -1;

		for (int i = 0; i < n; i++)
			if ((a ^ r[i].p) >> (32 - r[i].len) == 0 && (best < 0 || r[i].len > r[best].len))
				best = i;
		cr_assert(ipaddr_eq(via(ipaddr_v4(__builtin_bswap32(a))), best < 0 ? GATE : r[best].gw));
	}
}

TEST(addresses_and_sources)
{
	struct ipaddr src, a;
	uint32_t cursor = 0;
	uint8_t len;

	lower_start(false);
	cr_assert_eq(stack_addr_add(st, US, 24), -EEXIST);
	cr_assert_eq(stack_addr_add(st, IP(10, 0, 0, 50), 24), 0, "a second one of the same network");
	cr_assert_eq(stack_addr_add(st, IP(172, 16, 0, 1), 16), 0);
	cr_assert_eq(stack_addr_add(st, IP(172, 17, 0, 1), 33), -EINVAL);
	cr_assert(stack_addr_is_ours(st, IP(10, 0, 0, 50)));
	cr_assert(!stack_addr_is_ours(st, PEER));
	cr_assert_eq(stack_source_for(st, PEER, &src), 0);
	cr_assert(ipaddr_eq(src, US), "the first one is preferred");
	cr_assert_eq(stack_source_for(st, IP(172, 16, 9, 9), &src), 0);
	cr_assert(ipaddr_eq(src, IP(172, 16, 0, 1)));
	cr_assert_eq(stack_source_for(st, IP(10, 0, 0, 50), &src), 0);
	cr_assert(ipaddr_eq(src, IP(10, 0, 0, 50)));
	cr_assert_eq(stack_source_for(st, IP(1, 1, 1, 1), &src), 0);
	cr_assert(ipaddr_eq(src, US));
	for (int i = 0; i < 3; i++)
		cr_assert(stack_addr_next(st, &cursor, &a, &len));
	cr_assert_eq(len, 16);
	cr_assert(!stack_addr_next(st, &cursor, &a, &len));
}

TEST(bad_routes_refused)
{
	lower_start(false);
	cr_assert_eq(stack_route_add(st, IP(0, 0, 0, 0), 0, GATE), -EEXIST);
	cr_assert_eq(stack_route_add(st, IP(9, 0, 0, 0), 8, IP(8, 8, 8, 8)), -ENETUNREACH, "gateway behind a gateway");
	cr_assert_eq(stack_route_add(st, IP(9, 0, 0, 0), 8, US), -ENETUNREACH);
	cr_assert_eq(stack_route_add(st, IP(9, 0, 0, 0), 33, GATE), -EINVAL);
	cr_assert_eq(stack_route_add(st, IP(9, 0, 0, 0), 8, ipaddr_v4(0)), -EINVAL);
	cr_assert(!stack_has_route(st, (struct ipaddr){ .b = { 0x20, 1 } }), "IPv6 has no route by IPv4's default");
}

TEST(broadcasts_known)
{
	struct ipaddr a[] = { IP(255, 255, 255, 255), IP(224, 0, 0, 1), IP(10, 0, 0, 255) }, b[] = { PEER, IP(10, 0, 1,
													      255), US };

	lower_start(false);
	for (int i = 0; i < 3; i++) {
		cr_assert(route_broadcast(st, &a[i]));
		cr_assert(!route_broadcast(st, &b[i]));
	}
}

TEST(all_of_127_is_ours_with_any_of_it)
{
	lower_start(false);
	cr_assert(!stack_addr_is_ours(st, IP(127, 0, 0, 1)));
	cr_assert_eq(stack_addr_add(st, IP(127, 0, 0, 1), 8), 0);
	cr_assert(stack_addr_is_ours(st, IP(127, 3, 2, 1)));
}

TEST(repair_keeps_addresses_and_routes)
{
	lower_start(false);
	stack_route_add(st, IP(192, 0, 2, 0), 24, IP(10, 0, 0, 24));
	memset(&st->routes.lens, 0, sizeof(st->routes.lens)); /* derived data, lost */
	st->routes.addr_tab.count = 99;
	stack_repair(st, 0, now);
	cr_assert(stack_addr_is_ours(st, US));
	cr_assert(ipaddr_eq(via(IP(192, 0, 2, 1)), IP(10, 0, 0, 24)));
	cr_assert(ipaddr_eq(via(IP(8, 8, 8, 8)), GATE));
}
