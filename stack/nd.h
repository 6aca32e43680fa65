/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nd.h - IPv6 on a link: neighbour discovery (RFC 4861), addresses and whether they are unique (RFC 4862), groups (RFC
 * 3810), routers
 */
#ifndef OWNSTACK_STACK_ND_H
#define OWNSTACK_STACK_ND_H

#include "inet.h"
#include "ip4.h"
#include "wheel.h"

struct addr_row;
struct stack;

#define ND_ROUTERS_MAX	 16
#define ND_AUTO_MAX	 16 /* addresses made of advertised prefixes: Linux's max_addresses */
#define ND_ROUTES_MAX	 64 /* on-link routes of advertised prefixes */
#define ND_RETRANS_US	 SEC(1)

struct nd_router {
	struct ipaddr addr;
	usec_t until;
};

struct nd_state {
	bool on, accept_ra;
	bool default_is_ours;	/* the default route is one of routers[] */
	uint8_t hop_limit;	/* as advertised, 0: not */
	uint8_t rs_left, n_routers;
	uint16_t mtu_bytes;	/* as advertised, 0: not */
	uint32_t n_auto, n_routes;
	uint64_t secret[2];	/* of interface ids, RFC 7217; 0: they are made of the Ethernet address */
	uint64_t groups;	/* a bit for each solicited-node group of ours; where it is clear, it is not ours */
	struct timer timer;	/* earliest of what follows */
	usec_t rs_at, mld_at, routers_at, routes_at;
	struct nd_router routers[ND_ROUTERS_MAX];
};

/* ---- nd.c ---- */
/** nd_input() - ICMPv6 message of types 130 and 133 to 137, its checksum right and at least 8 octets long */
void nd_input(struct stack *st, const struct frame *f, const struct ip_rx *ip, usec_t now);
/** nd_solicit() - asks who has @target: everybody, or the station @mac that had it */
void nd_solicit(struct stack *st, const struct ipaddr *target, const uint8_t *mac);
/** nd_group_is_ours() - do we listen to this group */
bool nd_group_is_ours(const struct stack *st, const struct ipaddr *group);
/** nd_addr_start() - an address is in use from now on, and nobody else may have it: asks (RFC 4862 5.4), as RFC 4429 says */
void nd_addr_start(struct stack *st, struct addr_row *row, usec_t now);
void nd_addr_timer(struct stack *st, struct timer *t, usec_t now);
void nd_addr_rearm(struct stack *st, struct addr_row *row); /* its lifetimes changed */
void nd_groups_renew(struct stack *st); /* addresses came or went */
void nd_repair(struct stack *st, usec_t now);

void nd_mld_due(struct stack *st, usec_t now); /* reports that a router asked for */

/* for nd_router.c */
/** nd_begin() - a message of @len octets, zeroed, in the headers of a frame; NULL: no memory */
uint8_t *nd_begin(struct stack *st, uint8_t type, uint32_t len, struct pbuf **ret_p);
/** nd_send() - takes; @mac NULL: @dst is a group */
void nd_send(struct stack *st, struct pbuf *p, const struct ipaddr *src, const struct ipaddr *dst, const uint8_t *mac);
/** nd_option() - the first one of a kind in @len octets of options; NULL: none. They were checked before. */
const uint8_t *nd_option(const uint8_t *o, uint32_t len, uint8_t type);
const uint8_t *nd_option_mac(const uint8_t *o, uint32_t len, uint8_t type); /* link-layer address of six octets */
enum { ND_OPT_SLLA = 1, ND_OPT_TLLA = 2, ND_OPT_PREFIX = 3, ND_OPT_MTU = 5 };
/** nd_own_ll() - our link-local address; @sure: only one that is known to be unique. False: none */
bool nd_own_ll(const struct stack *st, bool sure, struct ipaddr *ret);

/* ---- nd_router.c ---- */
void nd_timer(struct stack *st, usec_t now);
void nd_timer_arm(struct stack *st);
void nd_ra_input(struct stack *st, const struct ip_rx *ip, const uint8_t *m, uint32_t len, usec_t now);
void nd_redirect_input(struct stack *st, const struct ip_rx *ip, const uint8_t *m, uint32_t len, usec_t now);
void nd_neigh_failed(struct stack *st, const struct ipaddr *addr, usec_t now);
void nd_router_gone(struct stack *st, const struct ipaddr *addr, usec_t now); /* it says it is none any more */
/** nd_addr_duplicate() - somebody else has it: it goes; one that we chose ourselves is chosen anew. Takes. */
void nd_addr_duplicate(struct stack *st, struct addr_row *row, usec_t now);

#endif
