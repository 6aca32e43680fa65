/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dst.h - what is remembered about destinations that are not as all others: a smaller path MTU (RFC 1191, 8201), a TCP Fast
 * Open cookie (RFC 7413), a better router (RFC 4861 8)
 *
 * A row is made when there is something to remember and freed when nothing is left. Where there are too many, the
 * longest unused goes: what it said is found out again.
 */
#ifndef OWNSTACK_STACK_DST_H
#define OWNSTACK_STACK_DST_H

#include "htab.h"
#include "inet.h"
#include "list.h"
#include "wheel.h"

struct stack;

#define DST_MAX		8192	/* rows */
#define DST_PMTU_US	SEC(600) /* Linux's ip_rt_mtu_expires */
#define DST_TFO_MAX	16	/* octets of a cookie, RFC 7413 2.2 */

struct dst {
	struct hnode node;
	struct dnode lru;
	struct timer timer;	/* end of what is known of the MTU */
	struct ipaddr addr;
	struct ipaddr gateway;	/* a redirect's; any: none */
	uint16_t pmtu_bytes;	/* 0: the device's */
	uint16_t tfo_mss;	/* the peer's, when it gave the cookie */
	uint8_t tfo_len;	/* 0: no cookie */
	uint8_t tfo_cookie[DST_TFO_MAX];
};

struct dst_table {
	struct slab slab;
	struct htab tab;
	struct dnode lru;	/* least recently written first */
};

int dst_init(struct stack *st);
struct dst *dst_find(const struct stack *st, const struct ipaddr *addr); /* NULL: nothing is known */
/** dst_pmtu_set() - packets to @addr must not exceed @mtu octets for ten minutes. -ENOSPC */
int dst_pmtu_set(struct stack *st, const struct ipaddr *addr, uint16_t mtu, usec_t now);
/** dst_tfo_set() - @addr gave this cookie; @len 0: forget the one it gave. -ENOSPC */
int dst_tfo_set(struct stack *st, const struct ipaddr *addr, const uint8_t *cookie, uint8_t len, uint16_t mss);
/** dst_gateway_set() - what goes to @addr is given to @gateway from now on. -ENOSPC */
int dst_gateway_set(struct stack *st, const struct ipaddr *addr, const struct ipaddr *gateway);
void dst_timer(struct stack *st, struct timer *t);
void dst_repair(struct stack *st, usec_t now);

#endif
