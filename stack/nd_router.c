/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nd_router.c - what routers say (RFC 4861 6 and 8), and addresses made of it (RFC 4862 5.5)
 *
 * Routers are asked for three times at the start, four seconds apart, where the host was told to listen to them
 * (accept_ra). An advertisement brings: the router itself, as default route while its lifetime lasts; prefixes that are on
 * this link; prefixes to make an address of; hop limit and MTU. The default route is to the first router that answers
 * when asked (6.3.6), and moves on when it falls silent. One that was set by hand is left alone.
 *
 * Interface ids are those of RFC 7217 where the host has a secret, the same for one prefix at each start and different
 * for each prefix; else they are made of the Ethernet address (RFC 4291 appendix A).
 *
 * A redirect is believed from the router that is in use for that destination, and forgotten when the one it names does
 * not answer.
 */
#include <errno.h>
#include "ip6.h"
#include "nd.h"
#include "stack_priv.h"
#include "wire.h"

#define RA_BYTES	16
#define REDIRECT_BYTES	40
#define RS_BYTES	8
#define RS_TRIES	3
#define RS_INTERVAL_US	SEC(4)
#define LIFETIME_NEVER	0xffffffffu
#define TWO_HOURS_S	7200u
#define PREFIX_ON_LINK	0x80
#define PREFIX_AUTO	0x40
#define IID_TRIES	3 /* RFC 7217 5: IDGEN_RETRIES */

static const struct ipaddr any6, all_routers = { .b = { 0xff, 2, [15] = 2 } }, link_local = { .b = { 0xfe, 0x80 } };

static usec_t lifetime_end(uint32_t seconds, usec_t now)
{
	return seconds == LIFETIME_NEVER ? USEC_NEVER : now + SEC(seconds);
}

static usec_t earlier(usec_t a, usec_t b)
{
	return a < b ? a : b;
}

void nd_timer_arm(struct stack *st)
{
	struct nd_state *nd = &st->nd;

	wheel_set(&st->wheel, &nd->timer, earlier(earlier(nd->rs_at, nd->mld_at), earlier(nd->routers_at, nd->routes_at)));
}

/* ---- addresses ---- */

/* RFC 7217 5, or the modified EUI-64 of our Ethernet address */
static struct ipaddr interface_addr(const struct stack *st, const struct ipaddr *prefix, unsigned attempt)
{
	const uint8_t *m = st->dev.mac;
	const struct sipkey key = { { st->nd.secret[0], st->nd.secret[1] } };
	struct ipaddr a = *prefix;
	uint64_t w[3] = { prefix->q[0], attempt, 0 };

	if (st->nd.secret[0] | st->nd.secret[1]) {
		memcpy(&w[2], m, 6);
		a.q[1] = siphash24(&key, w, 3);
		return a;
	}
	memcpy(a.b + 8, (uint8_t[8]){ m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5] }, 8);
	return a;
}

static void addr_make(struct stack *st, const struct ipaddr *prefix, unsigned attempt, usec_t preferred, usec_t valid, usec_t now)
{
	struct ipaddr a = interface_addr(st, prefix, attempt);
	struct addr_row *row;

	if (st->nd.n_auto >= ND_AUTO_MAX || route_addr_insert(st, a, 64) < 0)
		return;
	row = route_addr(st, &a);
	row->flags |= ADDR_AUTO;
	row->attempt = (uint8_t)attempt;
	row->preferred_until = preferred;
	row->valid_until = valid;
	st->nd.n_auto++;
	nd_addr_start(st, row, now);
}

void nd_addr_duplicate(struct stack *st, struct addr_row *row, usec_t now)
{
	struct addr_row was = *row;

	CNT(st, Nd6DadFailures);
	route_addr_remove(st, row);
	if (!(was.flags & ADDR_AUTO) || !(st->nd.secret[0] | st->nd.secret[1]) || was.attempt >= IID_TRIES)
		return;
	was.addr.q[1] = 0;
	addr_make(st, &was.addr, was.attempt + 1u, was.preferred_until, was.valid_until, now);
}

int stack_ip6_start(struct stack *st, const struct stack_ip6 *cfg, usec_t now)
{
	struct nd_state *nd = &st->nd;
	int r;

	if (st->dev.mtu_bytes < IP6_MTU_MIN && !cfg->loopback_only)
		return -EMSGSIZE;
	if (nd->on)
		return -EALREADY;
	nd->on = true;
	nd->accept_ra = cfg->accept_ra;
	memcpy(nd->secret, cfg->secret, sizeof(nd->secret));
	nd->timer.kind = TIMER_ND;
	nd->rs_at = nd->mld_at = nd->routers_at = nd->routes_at = USEC_NEVER;
	if (cfg->loopback_only)
		return 0;
	r = route_onlink_add(st, &link_local, 64, USEC_NEVER);
	if (r < 0 && r != -EEXIST)
		return r;
	addr_make(st, &link_local, 0, USEC_NEVER, USEC_NEVER, now);
	if (nd->accept_ra) {
		nd->rs_left = RS_TRIES;
		nd->rs_at = now + stack_rand_below(st, (uint32_t)SEC(1)); /* RFC 4861 6.3.7 */
	}
	nd_timer_arm(st);
	return 0;
}

/* ---- routers ---- */

static void rs_due(struct stack *st, usec_t now)
{
	struct nd_state *nd = &st->nd;
	struct ipaddr src = { 0 };
	struct pbuf *p;
	uint8_t *m;
	bool sure;

	if (now < nd->rs_at)
		return;
	nd->rs_at = --nd->rs_left ? now + RS_INTERVAL_US : USEC_NEVER;
	sure = nd_own_ll(st, true, &src);
	m = nd_begin(st, ICMP6_RS, sure ? RS_BYTES + 8 : RS_BYTES, &p);
	if (!m)
		return;
	if (sure) {
		m[8] = ND_OPT_SLLA;
		m[9] = 1;
		memcpy(m + 10, st->dev.mac, 6);
	}
	nd_send(st, p, &src, &all_routers, NULL);
}

static int router_quality(const struct stack *st, const struct ipaddr *a)
{
	const struct neigh *n = neigh_find(st, a);

	if (!n)
		return 1;
	return n->state == NEIGH_FAILED ? 0 : n->state == NEIGH_INCOMPLETE ? 1 : 2;
}

/**
 * router_choose() - the default route goes to a router that answers, the one in use if it does
 *
 * Return: nothing to be told: what remembers a path looks again (path_changed())
 */
static void router_choose(struct stack *st)
{
	struct nd_state *nd = &st->nd;
	const struct route_row *row = route_exact(st, &any6, 0);
	const struct ipaddr *best = NULL;
	int quality = -1;

	if (row && !nd->default_is_ours)
		return;
	for (unsigned i = 0; i < nd->n_routers; i++) {
		int q = 2 * router_quality(st, &nd->routers[i].addr) + (row && ipaddr_eq(row->gateway, nd->routers[i].addr));

		if (q > quality) {
			quality = q;
			best = &nd->routers[i].addr;
		}
	}
	if (row && best && ipaddr_eq(row->gateway, *best))
		return;
	if (row)
		route_remove(st, &any6, 0);
	nd->default_is_ours = best && route_gateway_add(st, &any6, 0, *best) == 0;
}

static void routers_due(struct stack *st, usec_t now)
{
	struct nd_state *nd = &st->nd;
	unsigned kept = 0;

	nd->routers_at = USEC_NEVER;
	for (unsigned i = 0; i < nd->n_routers; i++) {
		if (nd->routers[i].until <= now)
			continue;
		nd->routers_at = earlier(nd->routers_at, nd->routers[i].until);
		nd->routers[kept++] = nd->routers[i];
	}
	nd->n_routers = (uint8_t)kept;
	router_choose(st);
}

/* @until in the past: it is no router any more */
static void router_set(struct stack *st, const struct ipaddr *addr, usec_t until, usec_t now)
{
	struct nd_state *nd = &st->nd;
	unsigned i = 0;

	while (i < nd->n_routers && !ipaddr_eq(nd->routers[i].addr, *addr))
		i++;
	if (i == ND_ROUTERS_MAX || (i == nd->n_routers && until <= now))
		return;
	nd->routers[i] = (struct nd_router){ .addr = *addr, .until = until };
	if (i == nd->n_routers)
		nd->n_routers++;
	routers_due(st, now);
}

void nd_router_gone(struct stack *st, const struct ipaddr *addr, usec_t now)
{
	router_set(st, addr, now, now);
	nd_timer_arm(st);
}

void nd_neigh_failed(struct stack *st, const struct ipaddr *addr, usec_t now)
{
	(void)now;
	for (unsigned i = 0; i < st->nd.n_routers; i++) {
		if (ipaddr_eq(st->nd.routers[i].addr, *addr)) {
			router_choose(st);
			break;
		}
	}
	path_changed(st); /* a redirect to it is good no longer */
}

/* ---- advertisements ---- */

/* RFC 4862 5.5.3: a forged lifetime can bring an address to its end in two hours at the earliest */
static void addr_renew(struct stack *st, struct addr_row *row, uint32_t preferred_s, uint32_t valid_s, usec_t now)
{
	usec_t left = row->valid_until == USEC_NEVER ? USEC_NEVER : row->valid_until - now;

	if (valid_s > TWO_HOURS_S || (left != USEC_NEVER && SEC(valid_s) > left))
		row->valid_until = lifetime_end(valid_s, now);
	else if (left > SEC(TWO_HOURS_S))
		row->valid_until = now + SEC(TWO_HOURS_S);
	row->preferred_until = lifetime_end(preferred_s, now);
	if (row->preferred_until > now)
		row->flags &= (uint8_t)~ADDR_DEPRECATED;
	path_changed(st);
	nd_addr_rearm(st, row);
}

static struct addr_row *auto_addr_of(struct stack *st, const struct ipaddr *prefix)
{
	struct addr_row *row;

	for (uint32_t cursor = 0; (row = slab_next(&st->routes.addrs, &cursor));)
		if (row->flags & ADDR_AUTO && row->addr.q[0] == prefix->q[0])
			return row;
	return NULL;
}

static void prefix_auto(struct stack *st, const struct ipaddr *prefix, uint32_t preferred_s, uint32_t valid_s, usec_t now)
{
	struct addr_row *row = auto_addr_of(st, prefix);

	if (row)
		addr_renew(st, row, preferred_s, valid_s, now);
	else if (valid_s)
		addr_make(st, prefix, 0, lifetime_end(preferred_s, now), lifetime_end(valid_s, now), now);
}

static void prefix_on_link(struct stack *st, const struct ipaddr *prefix, uint8_t plen, uint32_t valid_s, usec_t now)
{
	struct route_row *row = route_exact(st, prefix, plen);

	if (row && row->until == USEC_NEVER)
		return; /* set by hand */
	if (!valid_s) {
		if (row)
			route_remove(st, prefix, plen);
	} else if (row) {
		row->until = lifetime_end(valid_s, now);
		st->nd.routes_at = earlier(st->nd.routes_at, row->until);
	} else if (st->nd.n_routes < ND_ROUTES_MAX && route_onlink_add(st, prefix, plen, lifetime_end(valid_s, now)) == 0) {
		st->nd.routes_at = earlier(st->nd.routes_at, lifetime_end(valid_s, now));
	}
}

static void prefix_input(struct stack *st, const uint8_t *o, usec_t now)
{
	struct ipaddr prefix = ipaddr_v6(o + 16);
	uint32_t valid_s = get32(o + 4), preferred_s = get32(o + 8);
	uint8_t plen = o[2];

	if (o[1] != 4 || plen > 128 || ipaddr_is_link_local(prefix) || ipaddr_is_multicast(prefix) || preferred_s > valid_s)
		return;
	prefix = route_mask(&prefix, plen);
	if (ipaddr_is_v4(prefix) || plen == 0)
		return;
	if (o[3] & PREFIX_ON_LINK)
		prefix_on_link(st, &prefix, plen, valid_s, now);
	if (o[3] & PREFIX_AUTO && plen == 64)
		prefix_auto(st, &prefix, preferred_s, valid_s, now);
}

static void routes_due(struct stack *st, usec_t now)
{
	struct nd_state *nd = &st->nd;
	struct route_row *row;

	if (now < nd->routes_at)
		return;
	nd->routes_at = USEC_NEVER;
	for (uint32_t cursor = 0; (row = slab_next(&st->routes.routes, &cursor));) {
		if (row->until <= now)
			route_remove(st, &row->prefix, row->plen);
		else
			nd->routes_at = earlier(nd->routes_at, row->until);
	}
}

static void mtu_input(struct stack *st, const uint8_t *o)
{
	uint32_t mtu = get32(o + 4);

	if (o[1] != 1 || mtu < IP6_MTU_MIN || mtu > st->dev.mtu_bytes || mtu == st->nd.mtu_bytes)
		return;
	st->nd.mtu_bytes = (uint16_t)mtu;
	path_changed(st);
}

/* RFC 4861 6.3.4 */
void nd_ra_input(struct stack *st, const struct ip_rx *ip, const uint8_t *m, uint32_t len, usec_t now)
{
	const uint8_t *o = m + RA_BYTES, *end = m + len, *mac = nd_option_mac(o, len - RA_BYTES, ND_OPT_SLLA);

	CNT(st, Icmp6InRouterAdvertisements);
	if (!st->nd.accept_ra || !ipaddr_is_link_local(ip->src)) {
		drop(st, DROP_ND_ROUTER);
		return;
	}
	st->nd.rs_at = USEC_NEVER;
	if (m[4])
		st->nd.hop_limit = m[4];
	if (mac)
		neigh_learned(st, &ip->src, mac, false, true, now);
	router_set(st, &ip->src, now + SEC(get16(m + 6)), now);
	for (; o < end; o += o[1] * 8) {
		if (o[0] == ND_OPT_PREFIX)
			prefix_input(st, o, now);
		else if (o[0] == ND_OPT_MTU)
			mtu_input(st, o);
	}
	nd_timer_arm(st);
}

/* RFC 4861 8.1 and 8.3: to a better router, or to the destination itself, which is on this link */
void nd_redirect_input(struct stack *st, const struct ip_rx *ip, const uint8_t *m, uint32_t len, usec_t now)
{
	const struct ipaddr target = ipaddr_v6(m + 8), dst = ipaddr_v6(m + 24);
	const struct route_row *row = route_lookup(st, &dst);
	const uint8_t *mac = nd_option_mac(m + REDIRECT_BYTES, len - REDIRECT_BYTES, ND_OPT_TLLA);
	const struct ipaddr *hop = row && !ipaddr_is_multicast(dst) ? route_next_hop(st, row, &dst) : NULL;

	CNT(st, Icmp6InRedirects);
	if (!ipaddr_is_link_local(ip->src) || !hop || !ipaddr_eq(*hop, ip->src) || ipaddr_is_v4(dst) ||
	    stack_addr_is_ours(st, target) || !(ipaddr_eq(target, dst) || ipaddr_is_link_local(target))) {
		drop(st, DROP_ND_ROUTER);
		return;
	}
	if (mac)
		neigh_learned(st, &target, mac, false, true, now);
	dst_gateway_set(st, &dst, &target);
}

/* ---- time ---- */

void nd_timer(struct stack *st, usec_t now)
{
	rs_due(st, now);
	nd_mld_due(st, now);
	if (now >= st->nd.routers_at)
		routers_due(st, now);
	routes_due(st, now);
	nd_timer_arm(st);
}
