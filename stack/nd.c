/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nd.c - who has which IPv6 address on this link (RFC 4861), and that nobody else has ours (RFC 4862); states of
 * neighbours are neigh.c's
 *
 * Theory of operation
 *
 * An address is used from its first moment on, optimistically (RFC 4429): whoever starts a program wants to connect now,
 * not after a second. While the question whether somebody else has it is open, nothing we send may change what others
 * know: advertisements without the override bit, solicitations without our Ethernet address. When a second has passed in
 * silence the address is ours, and all who knew another station by it are told. If somebody answers, it goes
 * (nd_router.c), and connections from it end.
 *
 * Later claims by others are counted and otherwise ignored: an address that connections depend on is not given up.
 *
 * Groups: all nodes, and the solicited-node group of each address, reported by MLDv2 when the address comes, a second
 * later, and when a router asks (RFC 3810; a querier of version 1 is answered in version 2 as well).
 *
 * All of this is believed only with a hop limit of 255: it cannot come from beyond the link.
 */
#include <errno.h>
#include "ip6.h"
#include "nd.h"
#include "stack_priv.h"
#include "wire.h"

#define NS_BYTES	24
#define NA_BYTES	24
#define OPT_MAC_BYTES	8
#define NA_ROUTER	0x80
#define NA_SOLICITED	0x40
#define NA_OVERRIDE	0x20
#define MLD_BYTES	24
#define MLD2_RECORD_BYTES 20
#define MLD2_IS_EXCLUDE	2
#define MLD2_TO_EXCLUDE	4

static const struct ipaddr any6, all_nodes = { .b = { 0xff, 2, [15] = 1 } }, mld2_routers = { .b = { 0xff, 2, [15] = 0x16 } };

/* ---- sending ---- */

uint8_t *nd_begin(struct stack *st, uint8_t type, uint32_t len, struct pbuf **ret_p)
{
	struct pbuf *p = pbuf_alloc(st);
	uint8_t *m;

	if (!p) {
		drop(st, DROP_NO_MEMORY);
		return NULL;
	}
	m = pbuf_push(p, len);
	memset(m, 0, len);
	m[0] = type;
	*ret_p = p;
	return m;
}

static void send_packet(struct stack *st, struct pbuf *p, const struct ip_tx *tx, const uint8_t *mac)
{
	uint8_t group[6] = { 0x33, 0x33, tx->dst.b[12], tx->dst.b[13], tx->dst.b[14], tx->dst.b[15] };

	CNT(st, Ip6OutRequests);
	CNT(st, Icmp6OutMsgs);
	ip6_push(st, p, tx, p->hdr_len, 0);
	eth_push(st, p, mac ? mac : group, ETHERTYPE_IPV6);
	memset(pbuf_push(p, VNET_HDR_BYTES), 0, VNET_HDR_BYTES);
	stack_transmit(st, p);
}

void nd_send(struct stack *st, struct pbuf *p, const struct ipaddr *src, const struct ipaddr *dst, const uint8_t *mac)
{
	struct ip_tx tx = { .src = *src, .dst = *dst, .proto = IP6_ICMP, .ttl = 255 };

	icmp6_finish(p, src, dst);
	send_packet(st, p, &tx, mac);
}

static void put_mac(const struct stack *st, uint8_t *o, uint8_t type)
{
	o[0] = type;
	o[1] = 1;
	memcpy(o + 2, st->dev.mac, 6);
}

static struct ipaddr solicited_node(const struct ipaddr *a)
{
	return (struct ipaddr){ .b = { 0xff, 2, [11] = 1, [12] = 0xff, [13] = a->b[13], [14] = a->b[14], [15] = a->b[15] } };
}

/* @src unspecified: is the address free (RFC 4862 5.4.2) */
static void ns_send(struct stack *st, const struct ipaddr *src, const struct ipaddr *target, const uint8_t *mac, bool tell_mac)
{
	struct ipaddr group = solicited_node(target);
	struct pbuf *p;
	uint8_t *m = nd_begin(st, ICMP6_NS, tell_mac ? NS_BYTES + OPT_MAC_BYTES : NS_BYTES, &p);

	if (!m)
		return;
	memcpy(m + 8, target->b, 16);
	if (tell_mac)
		put_mac(st, m + NS_BYTES, ND_OPT_SLLA);
	CNT(st, Icmp6OutNeighborSolicits);
	nd_send(st, p, src, mac ? target : &group, mac);
}

void nd_solicit(struct stack *st, const struct ipaddr *target, const uint8_t *mac)
{
	struct ipaddr src;
	const struct addr_row *row;

	if (stack_source_for(st, *target, &src) < 0)
		return;
	row = route_addr(st, &src);
	ns_send(st, &src, target, mac, row && !(row->flags & ADDR_OPTIMISTIC));
}

static void na_send(struct stack *st, const struct addr_row *row, const struct ipaddr *dst, uint8_t flags, usec_t now)
{
	struct ip_tx tx = { .src = row->addr, .dst = *dst, .proto = IP6_ICMP, .ttl = 255 };
	struct pbuf *p;
	uint8_t *m = nd_begin(st, ICMP6_NA, NA_BYTES + OPT_MAC_BYTES, &p);

	if (!m)
		return;
	m[4] = flags;
	memcpy(m + 8, row->addr.b, 16);
	put_mac(st, m + NA_BYTES, ND_OPT_TLLA);
	CNT(st, Icmp6OutNeighborAdvertisements);
	if (ipaddr_is_multicast(*dst)) {
		nd_send(st, p, &row->addr, dst, NULL);
		return;
	}
	icmp6_finish(p, &row->addr, dst);
	CNT(st, Icmp6OutMsgs);
	ip_output(st, p, &tx, now);
}

bool nd_own_ll(const struct stack *st, bool sure, struct ipaddr *ret)
{
	const struct addr_row *row;

	for (uint32_t cursor = 0; (row = slab_next(&st->routes.addrs, &cursor));) {
		if (ipaddr_is_link_local(row->addr) && !(sure && row->flags & ADDR_OPTIMISTIC)) {
			*ret = row->addr;
			return true;
		}
	}
	return false;
}

/* ---- groups ---- */

static uint64_t group_bit(const struct ipaddr *a)
{
	return 1ull << ((a->b[15] ^ a->b[14] >> 2 ^ a->b[13] >> 4) & 63);
}

void nd_groups_renew(struct stack *st)
{
	const struct addr_row *row;

	st->nd.groups = 0;
	for (uint32_t cursor = 0; (row = slab_next(&st->routes.addrs, &cursor));)
		if (!ipaddr_is_v4(row->addr))
			st->nd.groups |= group_bit(&row->addr);
}

bool nd_group_is_ours(const struct stack *st, const struct ipaddr *group)
{
	const struct addr_row *row;

	if (ipaddr_eq(*group, all_nodes) || (group->b[1] == 1 && group->b[15] == 1 && group->q[1] == all_nodes.q[1]))
		return true;
	if (!(st->nd.groups & group_bit(group)))
		return false;
	for (uint32_t cursor = 0; (row = slab_next(&st->routes.addrs, &cursor));) {
		struct ipaddr own = solicited_node(&row->addr);

		if (!ipaddr_is_v4(row->addr) && ipaddr_eq(own, *group))
			return true;
	}
	return false;
}

/* RFC 3810 5.2, with a router alert; RFC 3590: from :: while no link-local address is ours for sure */
static void mld_report(struct stack *st, const struct ipaddr *addr, uint8_t record)
{
	static const uint8_t alert[8] = { IP6_ICMP, 0, 5, 2, 0, 0, 1, 0 };
	struct ip_tx tx = { .dst = mld2_routers, .proto = IP6_HOP_BY_HOP, .ttl = 1 };
	struct ipaddr group = solicited_node(addr);
	struct pbuf *p;
	uint8_t *m = nd_begin(st, ICMP6_MLD2_REPORT, 8 + MLD2_RECORD_BYTES, &p);

	if (!m)
		return;
	nd_own_ll(st, true, &tx.src);
	put16(m + 6, 1);
	m[8] = record;
	memcpy(m + 12, group.b, 16);
	icmp6_finish(p, &tx.src, &tx.dst);
	memcpy(pbuf_push(p, sizeof(alert)), alert, sizeof(alert));
	send_packet(st, p, &tx, NULL);
}

static void mld_report_all(struct stack *st)
{
	const struct addr_row *row;

	for (uint32_t cursor = 0; (row = slab_next(&st->routes.addrs, &cursor));)
		if (!ipaddr_is_v4(row->addr) && !ipaddr_is_loopback_v6(row->addr))
			mld_report(st, &row->addr, MLD2_IS_EXCLUDE);
}

/* RFC 3810 5.1.3: up to 32,767 as it is, above that with an exponent. Version 1: all sixteen bits */
static uint32_t mld_max_ms(const uint8_t *m, uint32_t len)
{
	uint32_t v = get16(m + 4);

	if (len == MLD_BYTES || v < 0x8000)
		return v;
	return ((v & 0xfff) | 0x1000) << ((v >> 12 & 7) + 3);
}

static void mld_query(struct stack *st, const struct ip_rx *ip, const uint8_t *m, uint32_t len, usec_t now)
{
	usec_t at;

	if (len < MLD_BYTES || ip->ttl != 1 || !ipaddr_is_link_local(ip->src)) {
		drop(st, DROP_ND_MALFORMED);
		return;
	}
	at = now + MSEC(stack_rand_below(st, mld_max_ms(m, len) + 1));
	if (at < st->nd.mld_at)
		st->nd.mld_at = at;
	nd_timer_arm(st);
}

/* ---- our own addresses ---- */

void nd_addr_rearm(struct stack *st, struct addr_row *row)
{
	usec_t at = row->flags & ADDR_DEPRECATED ? row->valid_until : row->preferred_until;

	if (row->flags & ADDR_OPTIMISTIC)
		at = row->dad_at;
	row->timer.kind = TIMER_ADDR;
	wheel_set(&st->wheel, &row->timer, at);
}

void nd_addr_start(struct stack *st, struct addr_row *row, usec_t now)
{
	nd_groups_renew(st);
	if (ipaddr_is_loopback_v6(row->addr))
		return;
	row->flags |= ADDR_OPTIMISTIC;
	row->dad_at = now + ND_RETRANS_US;
	mld_report(st, &row->addr, MLD2_TO_EXCLUDE);
	ns_send(st, &any6, &row->addr, NULL, false);
	nd_addr_rearm(st, row);
}

/* A second of silence, the end of the preferred lifetime, or that of the valid one */
void nd_addr_timer(struct stack *st, struct timer *t, usec_t now)
{
	struct addr_row *row = container_of(t, struct addr_row, timer);

	if (row->flags & ADDR_OPTIMISTIC) {
		row->flags &= (uint8_t)~ADDR_OPTIMISTIC;
		mld_report(st, &row->addr, MLD2_TO_EXCLUDE);
		na_send(st, row, &all_nodes, NA_OVERRIDE, now);
	} else if (!(row->flags & ADDR_DEPRECATED) && now >= row->preferred_until) {
		row->flags |= ADDR_DEPRECATED; /* no new connection begins there */
		path_changed(st);
	} else if (now >= row->valid_until) {
		route_addr_remove(st, row);
		return;
	}
	nd_addr_rearm(st, row);
}

/* Somebody else speaks in the name of an address of ours */
static void claimed(struct stack *st, struct addr_row *row, usec_t now)
{
	CNT(st, Nd6Conflicts);
	drop(st, DROP_ND_CONFLICT);
	if (row->flags & ADDR_OPTIMISTIC)
		nd_addr_duplicate(st, row, now);
}

/* ---- receiving ---- */

/* RFC 4861 7.1: lengths of options; one of length 0 makes the whole message invalid */
static bool options_valid(const uint8_t *o, uint32_t len)
{
	while (len) {
		if (len < 8 || o[1] == 0 || o[1] * 8u > len)
			return false;
		len -= o[1] * 8u;
		o += o[1] * 8u;
	}
	return true;
}

const uint8_t *nd_option(const uint8_t *o, uint32_t len, uint8_t type)
{
	for (; len; len -= o[1] * 8u, o += o[1] * 8u)
		if (o[0] == type)
			return o;
	return NULL;
}

const uint8_t *nd_option_mac(const uint8_t *o, uint32_t len, uint8_t type)
{
	const uint8_t *mac = nd_option(o, len, type);

	return mac && !(mac[2] & 1) ? mac + 2 : NULL;
}

/* Only of a station on our own wire: else a forged message could take any address over */
static bool learnable(const struct stack *st, const struct ipaddr *a)
{
	const struct route_row *row = route_lookup(st, a);

	return row && ipaddr_is_any(row->gateway) && !ipaddr_is_multicast(*a) && !stack_addr_is_ours(st, *a);
}

/* RFC 4861 7.2.3 and 7.2.4 */
static void ns_input(struct stack *st, const struct ip_rx *ip, const uint8_t *m, uint32_t len, usec_t now)
{
	const struct ipaddr target = ipaddr_v6(m + 8);
	struct addr_row *row = route_addr(st, &target);
	const uint8_t *mac = nd_option_mac(m + NS_BYTES, len - NS_BYTES, ND_OPT_SLLA);
	uint8_t override;

	CNT(st, Icmp6InNeighborSolicits);
	if (!row || ipaddr_is_v4(target) || ipaddr_is_loopback_v6(target)) {
		drop(st, DROP_ND_NOT_OURS);
		return;
	}
	override = row->flags & ADDR_OPTIMISTIC ? 0 : NA_OVERRIDE;
	if (ipaddr_is_any(ip->src)) {
		if (!ipaddr_is_multicast(ip->dst) || mac)
			drop(st, DROP_ND_MALFORMED);
		else if (!override)
			claimed(st, row, now);
		else
			na_send(st, row, &all_nodes, override, now);
		return;
	}
	if (!learnable(st, &ip->src)) {
		drop(st, DROP_ND_NOT_OURS);
		return;
	}
	if (mac)
		neigh_learned(st, &ip->src, mac, false, true, now);
	na_send(st, row, &ip->src, NA_SOLICITED | override, now);
}

/**
 * na_input() - RFC 4861 7.2.5
 *
 * Without the override bit another Ethernet address than the one we know is only a doubt. An advertisement never makes a
 * row: nobody is waiting for it.
 */
static void na_input(struct stack *st, const struct ip_rx *ip, const uint8_t *m, uint32_t len, usec_t now)
{
	const struct ipaddr target = ipaddr_v6(m + 8);
	struct addr_row *row = route_addr(st, &target);
	const uint8_t *mac = nd_option_mac(m + NA_BYTES, len - NA_BYTES, ND_OPT_TLLA);
	bool solicited = m[4] & NA_SOLICITED, known;
	struct neigh *n;

	CNT(st, Icmp6InNeighborAdvertisements);
	if (solicited && ipaddr_is_multicast(ip->dst)) {
		drop(st, DROP_ND_MALFORMED);
		return;
	}
	if (row) {
		claimed(st, row, now);
		return;
	}
	n = neigh_find(st, &target);
	if (!n)
		return;
	known = n->state != NEIGH_INCOMPLETE && n->state != NEIGH_FAILED;
	if (!(m[4] & NA_ROUTER))
		nd_router_gone(st, &target, now);
	if (!known && !mac)
		return;
	if (known && mac && !(m[4] & NA_OVERRIDE) && memcmp(mac, n->mac, 6) != 0) {
		if (n->state == NEIGH_REACHABLE)
			n->state = NEIGH_STALE;
		return;
	}
	neigh_learned(st, &target, mac ? mac : n->mac, solicited, false, now);
}

static uint32_t least_bytes(uint8_t type)
{
	switch (type) {
	case ICMP6_RA:
		return 16;
	case ICMP6_REDIRECT:
		return 40;
	default:
		return NS_BYTES;
	}
}

void nd_input(struct stack *st, const struct frame *f, const struct ip_rx *ip, usec_t now)
{
	const uint8_t *m = f->data + ip->l4_off;
	uint32_t len = ip->l4_len, least = least_bytes(m[0]);

	if (memcmp(f->data + 6, st->dev.mac, 6) == 0) /* our own, come back */
		return;
	if (m[0] == ICMP6_MLD_QUERY) {
		mld_query(st, ip, m, len, now);
		return;
	}
	if (m[0] == ICMP6_RS) /* for routers */
		return;
	if (ip->ttl != 255 || m[1] != 0 || len < least || !options_valid(m + least, len - least) ||
	    (m[0] != ICMP6_RA && ipaddr_is_multicast(ipaddr_v6(m + 8)))) {
		CNT(st, Icmp6InErrors);
		drop(st, DROP_ND_MALFORMED);
		return;
	}
	switch (m[0]) {
	case ICMP6_NS:
		ns_input(st, ip, m, len, now);
		break;
	case ICMP6_NA:
		na_input(st, ip, m, len, now);
		break;
	case ICMP6_RA:
		nd_ra_input(st, ip, m, len, now);
		break;
	case ICMP6_REDIRECT:
		nd_redirect_input(st, ip, m, len, now);
		break;
	}
}

/* Timers are derived: what was being asked is asked once more */
void nd_repair(struct stack *st, usec_t now)
{
	struct addr_row *row;

	if (!st->nd.on)
		return;
	for (uint32_t cursor = 0; (row = slab_next(&st->routes.addrs, &cursor));) {
		if (ipaddr_is_v4(row->addr) || ipaddr_is_loopback_v6(row->addr))
			continue;
		if (row->flags & ADDR_OPTIMISTIC)
			nd_addr_start(st, row, now);
		else
			nd_addr_rearm(st, row);
	}
	st->nd.timer = (struct timer){ .kind = TIMER_ND };
	nd_groups_renew(st);
	nd_timer_arm(st);
}

void nd_mld_due(struct stack *st, usec_t now)
{
	if (now < st->nd.mld_at)
		return;
	st->nd.mld_at = USEC_NEVER;
	mld_report_all(st);
}
