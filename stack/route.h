/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * route.h - addresses of the host and routes
 *
 * Both are rows in slabs, found by hash: routes by (prefix, length), longest length in use first. So a look-up costs
 * one probe per prefix length in use, not one per route. st->path_gen changes with each change of an address, a route
 * or a neighbour that paths depend on; whoever remembers a path compares it (struct ip_path in ip4.h).
 */
#ifndef OWNSTACK_STACK_ROUTE_H
#define OWNSTACK_STACK_ROUTE_H

#include "htab.h"
#include "inet.h"
#include "wheel.h"

struct stack;

struct addr_row {
	struct hnode node;
	struct timer timer;	/* the second announcement */
	usec_t defended;	/* 0: never */
	usec_t dad_at;		/* ADDR_OPTIMISTIC: nobody else has it, if none says so until then */
	usec_t preferred_until, valid_until;
	struct ipaddr addr;
	uint8_t prefix_len; /* of the family: 0..32 or 0..128 */
	uint8_t flags, attempt;	/* ADDR_*; interface ids tried before this one */
};
enum {
	ADDR_OPTIMISTIC = 1,	/* somebody else might have it (nd.c) */
	ADDR_DEPRECATED = 2,	/* not for what begins now */
	ADDR_AUTO = 4,		/* made of a prefix */
};
struct route_row {
	struct hnode node;
	struct ipaddr prefix, gateway; /* gateway any: on-link */
	struct ipaddr source;	       /* preferred source address */
	usec_t until;		       /* USEC_NEVER, or when an advertised prefix ends */
	uint8_t plen;		       /* in 128 bits: IPv4 has 96 more */
};
struct route_table {
	struct slab addrs, routes;
	struct htab addr_tab, route_tab;
	struct ipaddr addr_hint; /* the address added last: most hosts have but one */
	uint64_t addr_filter;	 /* a bit for each address of ours (addr_bit()); where it is clear, the address is not ours */
	uint64_t lens[3];	 /* bit per plen in use */
	uint32_t n_plen[129];	 /* routes of each length */
};

int route_init(struct stack *st);
/** route_lookup() - most specific route to @dst, NULL: none */
const struct route_row *route_lookup(const struct stack *st, const struct ipaddr *dst);
/** route_broadcast() - is @addr the limited broadcast, a directed one of ours, or multicast: never a peer of TCP */
bool route_broadcast(const struct stack *st, const struct ipaddr *addr);
/** route_addr() - the row of an address of ours, NULL: it is not */
struct addr_row *route_addr(const struct stack *st, const struct ipaddr *addr);
/** route_next_hop() - whom to give what goes to @dst by @row: a router, the destination itself, or whom a redirect named */
const struct ipaddr *route_next_hop(const struct stack *st, const struct route_row *row, const struct ipaddr *dst);
struct ipaddr route_mask(const struct ipaddr *a, uint8_t plen);
struct route_row *route_exact(const struct stack *st, const struct ipaddr *prefix, uint8_t plen); /* NULL: there is none */
int route_onlink_add(struct stack *st, const struct ipaddr *prefix, uint8_t plen, usec_t until);
int route_gateway_add(struct stack *st, const struct ipaddr *prefix, uint8_t plen, struct ipaddr gateway);
void route_remove(struct stack *st, const struct ipaddr *prefix, uint8_t plen);
/** route_addr_insert() - the address alone, without an on-link route; -EEXIST, -ENOSPC */
int route_addr_insert(struct stack *st, struct ipaddr addr, uint8_t prefix_len);
void route_addr_remove(struct stack *st, struct addr_row *row); /* takes; routes stay */
void route_repair(struct stack *st);
/** path_changed() - what connections remember of their way out is no longer true */
void path_changed(struct stack *st);

#endif
