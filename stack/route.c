/* SPDX-License-Identifier: BSD-2-Clause */
#include "route.h"

#include <errno.h>
#include "ip6.h"
#include "nd.h"
#include "stack_priv.h"

#define V4_PLEN_OFFSET 96 /* ::ffff:0:0/96 */

int route_init(struct stack *st)
{
	struct route_table *rt = &st->routes;

	if (slab_init(&rt->addrs, st->region, sizeof(struct addr_row), 0) < 0 ||
	    slab_init(&rt->routes, st->region, sizeof(struct route_row), 0) < 0 || htab_init(&rt->addr_tab,
											     st->region) < 0)
		return -ENOMEM;
	return htab_init(&rt->route_tab, st->region);
}

static uint32_t addr_hash(const struct stack *st, const struct ipaddr *a, uint8_t plen)
{
	uint64_t w[3] = { a->q[0], a->q[1], plen };

	return (uint32_t)siphash13(&st->key_tuple, w, 3);
}

struct ipaddr route_mask(const struct ipaddr *a, uint8_t plen)
{
	struct ipaddr r = *a;

	for (unsigned i = 0; i < 16; i++) {
		unsigned bits = plen > 8 * i ? plen - 8 * i : 0;

		if (bits < 8)
			r.b[i] &= (uint8_t)(0xff00 >> bits);
	}
	return r;
}

static uint8_t plen_of(const struct ipaddr *a, uint8_t prefix_len)
{
	return ipaddr_is_v4(*a) ? (uint8_t)(prefix_len + V4_PLEN_OFFSET) : prefix_len;
}

static bool plen_valid(const struct ipaddr *a, uint8_t prefix_len)
{
	return prefix_len <= (ipaddr_is_v4(*a) ? 32 : 128);
}

/* Any function of the address does; who forges addresses to hit a set bit gains the price of one look-up. */
static inline uint64_t addr_bit(const struct ipaddr *a)
{
	return 1ull << (((a->q[0] ^ a->q[1] ^ a->q[1] >> 32) * 0x9e3779b97f4a7c15) >> 58);
}

static void addr_row_link(struct stack *st, struct addr_row *row)
{
	struct route_table *rt = &st->routes;

	htab_insert(&rt->addr_tab, &row->node, addr_hash(st, &row->addr, 0));
	rt->addr_filter |= addr_bit(&row->addr);
	rt->addr_hint = row->addr;
}

static const struct addr_row *addr_find(const struct stack *st, const struct ipaddr *a)
{
	for (struct hnode *n = htab_first(&st->routes.addr_tab, addr_hash(st, a, 0)); n; n = htab_next(n)) {
		const struct addr_row *row = container_of(n, struct addr_row, node);

		if (ipaddr_eq(row->addr, *a))
			return row;
	}
	return NULL;
}

struct addr_row *route_addr(const struct stack *st, const struct ipaddr *addr)
{
	return (struct addr_row *)(uintptr_t)addr_find(st, addr);
}

struct route_row *route_exact(const struct stack *st, const struct ipaddr *prefix, uint8_t plen)
{
	for (struct hnode *n = htab_first(&st->routes.route_tab, addr_hash(st, prefix, plen)); n; n = htab_next(n)) {
		struct route_row *row = container_of(n, struct route_row, node);

		if (row->plen == plen && ipaddr_eq(row->prefix, *prefix))
			return row;
	}
	return NULL;
}

void path_changed(struct stack *st)
{
	if (++st->path_gen == 0)
		st->path_gen = 1; /* 0 is "remembers nothing" */
}

static void route_row_link(struct stack *st, struct route_row *row)
{
	struct route_table *rt = &st->routes;

	htab_insert(&rt->route_tab, &row->node, addr_hash(st, &row->prefix, row->plen));
	if (rt->n_plen[row->plen]++ == 0)
		rt->lens[row->plen / 64] |= 1ull << (row->plen % 64);
}

static int route_insert(struct stack *st, const struct ipaddr *dst, uint8_t plen, struct ipaddr gateway,
			struct ipaddr source)
{
	struct ipaddr prefix = route_mask(dst, plen);
	struct route_row *row;

	if (route_exact(st, &prefix, plen))
		return -EEXIST;
	row = slab_alloc(&st->routes.routes);
	if (!row)
		return -ENOSPC;
	row->prefix = prefix;
	row->plen = plen;
	row->gateway = gateway;
	row->source = source;
	row->until = USEC_NEVER;
	route_row_link(st, row);
	path_changed(st);
	return 0;
}

int route_onlink_add(struct stack *st, const struct ipaddr *prefix, uint8_t plen, usec_t until)
{
	struct ipaddr none = { 0 };
	int r = route_insert(st, prefix, plen, none, none);

	if (r == 0 && until != USEC_NEVER) {
		route_exact(st, prefix, plen)->until = until;
		st->nd.n_routes++;
	}
	return r;
}

int route_gateway_add(struct stack *st, const struct ipaddr *prefix, uint8_t plen, struct ipaddr gateway)
{
	struct ipaddr none = { 0 };

	return route_insert(st, prefix, plen, gateway, none);
}

void route_remove(struct stack *st, const struct ipaddr *prefix, uint8_t plen)
{
	struct route_table *rt = &st->routes;
	struct route_row *row = route_exact(st, prefix, plen);

	if (!row)
		return;
	if (row->until != USEC_NEVER)
		st->nd.n_routes--;
	if (--rt->n_plen[row->plen] == 0)
		rt->lens[row->plen / 64] &= ~(1ull << (row->plen % 64));
	htab_remove(&rt->route_tab, &row->node);
	slab_free(&rt->routes, row);
	path_changed(st);
}

int route_addr_insert(struct stack *st, struct ipaddr addr, uint8_t prefix_len)
{
	struct addr_row *row;

	if (addr_find(st, &addr))
		return -EEXIST;
	row = slab_alloc(&st->routes.addrs);
	if (!row)
		return -ENOSPC;
	row->addr = addr;
	row->prefix_len = prefix_len;
	row->preferred_until = row->valid_until = USEC_NEVER;
	addr_row_link(st, row);
	path_changed(st);
	return 0;
}

void route_addr_remove(struct stack *st, struct addr_row *row)
{
	struct route_table *rt = &st->routes;
	uint32_t cursor = 0;

	wheel_cancel(&st->wheel, &row->timer);
	htab_remove(&rt->addr_tab, &row->node);
	if (row->flags & ADDR_AUTO)
		st->nd.n_auto--;
	slab_free(&rt->addrs, row);
	rt->addr_filter = 0;
	rt->addr_hint = (struct ipaddr){ 0 };
	while ((row = slab_next(&rt->addrs, &cursor))) {
		rt->addr_filter |= addr_bit(&row->addr);
		rt->addr_hint = row->addr;
	}
	nd_groups_renew(st);
	path_changed(st);
}

int stack_addr_add(struct stack *st, struct ipaddr addr, uint8_t prefix_len)
{
	struct ipaddr none = { 0 };
	int r;

	if (!plen_valid(&addr, prefix_len) || ipaddr_is_any(addr) || (!ipaddr_is_v4(addr) && ipaddr_is_multicast(addr)))
		return -EINVAL;
	r = route_addr_insert(st, addr, prefix_len);
	if (r < 0)
		return r;
	/* A second address of a network finds the route there already, and the first one stays the preferred source. */
	r = route_insert(st, &addr, plen_of(&addr, prefix_len), none, addr);
	if (r < 0 && r != -EEXIST) {
		route_addr_remove(st, route_addr(st, &addr));
		return r;
	}
	return 0;
}

/* -ENETUNREACH, as Linux, for a gateway that is not on a network of ours. */
int stack_route_add(struct stack *st, struct ipaddr dst, uint8_t prefix_len, struct ipaddr gateway)
{
	const struct route_row *via;

	if (!plen_valid(&dst, prefix_len) || ipaddr_is_v4(dst) != ipaddr_is_v4(gateway))
		return -EINVAL;
	if (ipaddr_is_any(gateway))
		return -EINVAL;
	via = route_lookup(st, &gateway);
	if (!via || !ipaddr_is_any(via->gateway) || stack_addr_is_ours(st, gateway))
		return -ENETUNREACH;
	return route_insert(st, &dst, plen_of(&dst, prefix_len), gateway, via->source);
}

const struct route_row *route_lookup(const struct stack *st, const struct ipaddr *dst)
{
	const struct route_table *rt = &st->routes;
	unsigned least = ipaddr_is_v4(*dst) ? V4_PLEN_OFFSET : 0; /* IPv4 never leaves by an IPv6 route */

	for (int w = 2; w >= 0; w--) {
		for (uint64_t bits = rt->lens[w]; bits;) {
			unsigned bit = 63 - (unsigned)__builtin_clzll(bits), plen = 64 * (unsigned)w + bit;
			struct ipaddr prefix;
			const struct route_row *row;

			if (plen < least)
				return NULL;
			prefix = route_mask(dst, (uint8_t)plen);
			row = route_exact(st, &prefix, (uint8_t)plen);
			if (row)
				return row;
			bits &= ~(1ull << bit);
		}
	}
	return NULL;
}

static bool is_loopback_v4(const struct ipaddr *a)
{
	return ipaddr_is_v4(*a) && a->b[12] == 127;
}

/* With any address of 127/8 the host owns all of it, as Linux does. */
bool stack_addr_is_ours(const struct stack *st, struct ipaddr addr)
{
	const struct route_row *row;

	if (ipaddr_eq(addr, st->routes.addr_hint) && st->routes.addr_filter)
		return true;
	if ((st->routes.addr_filter & addr_bit(&addr)) && addr_find(st, &addr))
		return true;
	if (!is_loopback_v4(&addr))
		return false;
	row = route_lookup(st, &addr);
	return row && is_loopback_v4(&row->source);
}

bool stack_has_route(const struct stack *st, struct ipaddr dst)
{
	return stack_addr_is_ours(st, dst) || route_lookup(st, &dst);
}

/* RFC 6724 2.1: the label of an address; what is alike goes together */
static int label(const struct ipaddr *a)
{
	if (a->b[0] == 0x20 && a->b[1] == 0x02)
		return 2;
	if (a->w[0] == __builtin_bswap32(0x20010000))
		return 5;
	if ((a->b[0] & 0xfe) == 0xfc)
		return 13;
	return 1;
}

static unsigned common_bits(const struct ipaddr *a, const struct ipaddr *b, unsigned most)
{
	unsigned n = 0;

	while (n < most && !((a->b[n / 8] ^ b->b[n / 8]) & 0x80 >> n % 8))
		n++;
	return n;
}

/**
 * source_v6() - RFC 6724 5, as far as one interface without home and temporary addresses has it
 *
 * Rule 2 scope, rule 3 deprecated, rule 6 label, rule 8 longest prefix (no further than the address's own, as Linux).
 * Addresses are few, and a connection asks once.
 */
static int source_v6(const struct stack *st, const struct ipaddr *dst, struct ipaddr *ret_src)
{
	const struct addr_row *row;
	unsigned best = 0;

	for (uint32_t cursor = 0; (row = slab_next(&st->routes.addrs, &cursor));) {
		bool narrow = ipaddr_is_link_local(row->addr), wanted = ipaddr_is_link_local(*dst) || ipaddr_is_multicast(*dst);
		unsigned score;

		if (ipaddr_is_v4(row->addr) || ipaddr_is_loopback_v6(row->addr))
			continue;
		/* too narrow a scope is worst, too wide a one better, the same best */
		score = 1 + (narrow == wanted ? 2u : !narrow);
		score = score << 10 | (row->flags & ADDR_DEPRECATED ? 0u : 1u << 9) |
			(label(&row->addr) == label(dst) ? 1u << 8 : 0u) | common_bits(&row->addr, dst, row->prefix_len);
		if (score > best) {
			best = score;
			*ret_src = row->addr;
		}
	}
	return best ? 0 : -EADDRNOTAVAIL;
}

int stack_source_for(const struct stack *st, struct ipaddr dst, struct ipaddr *ret_src)
{
	const struct route_row *row;

	if (stack_addr_is_ours(st, dst) && (!is_loopback_v4(&dst) || addr_find(st, &dst))) {
		*ret_src = dst;
		return 0;
	}
	row = route_lookup(st, &dst);
	if (!row)
		return -ENETUNREACH;
	if (!ipaddr_is_v4(dst))
		return source_v6(st, &dst, ret_src);
	*ret_src = row->source;
	return 0;
}

const struct ipaddr *route_next_hop(const struct stack *st, const struct route_row *row, const struct ipaddr *dst)
{
	const struct dst *d = ipaddr_is_v4(*dst) ? NULL : dst_find(st, dst);
	const struct neigh *n;

	if (d && !ipaddr_is_any(d->gateway)) {
		n = neigh_find(st, &d->gateway);
		if (!n || n->state != NEIGH_FAILED)
			return &d->gateway;
	}
	return ipaddr_is_any(row->gateway) ? dst : &row->gateway;
}

bool route_broadcast(const struct stack *st, const struct ipaddr *addr)
{
	const struct route_row *row;
	struct ipaddr last;

	if (!ipaddr_is_v4(*addr))
		return addr->b[0] == 0xff;
	if (addr->b[12] >= 224) /* multicast, reserved, 255.255.255.255 */
		return true;
	if (addr_find(st, addr))
		return false;
	row = route_lookup(st, addr);
	if (!row || !ipaddr_is_any(row->gateway) || row->plen >= V4_PLEN_OFFSET + 31)
		return false;
	last = row->prefix;
	last.w[3] |= __builtin_bswap32(0xffffffffu >> (row->plen - V4_PLEN_OFFSET));
	return ipaddr_eq(last, *addr);
}

bool stack_addr_next(const struct stack *st, uint32_t *cursor, struct ipaddr *ret_addr, uint8_t *ret_prefix_len)
{
	const struct addr_row *row = slab_next(&st->routes.addrs, cursor);

	if (!row)
		return false;
	*ret_addr = row->addr;
	*ret_prefix_len = row->prefix_len;
	return true;
}

void route_repair(struct stack *st)
{
	struct route_table *rt = &st->routes;
	struct addr_row *a;
	struct route_row *r;
	uint32_t cursor = 0;

	slab_rebuild(&rt->addrs);
	slab_rebuild(&rt->routes);
	htab_clear(&rt->addr_tab);
	htab_clear(&rt->route_tab);
	rt->addr_filter = 0;
	memset(rt->lens, 0, sizeof(rt->lens));
	memset(rt->n_plen, 0, sizeof(rt->n_plen));
	while ((a = slab_next(&rt->addrs, &cursor))) {
		a->timer = (struct timer){ .kind = TIMER_ADDR };
		addr_row_link(st, a);
	}
	for (cursor = 0; (r = slab_next(&rt->routes, &cursor));)
		route_row_link(st, r);
	path_changed(st);
}
