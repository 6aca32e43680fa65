/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * neigh.h - who has which Ethernet address: ARP (RFC 826) and neighbour discovery (RFC 4861, nd.c) with the states of RFC 4861 7.3.2, as Linux keeps them
 *
 * INCOMPLETE  asked, no answer; frames wait (NEIGH_HOLD_MAX, oldest dropped). 3 broadcasts 1 s apart, then FAILED.
 * REACHABLE   confirmed within NEIGH_REACHABLE_US by an answer or by TCP making progress (neigh_confirm())
 * STALE       usable, not confirmed; the first frame sent through it starts DELAY
 * DELAY       5 s to be confirmed by use, then PROBE
 * PROBE       3 unicast questions 1 s apart, then FAILED
 * FAILED      no address; the next frame starts again at INCOMPLETE
 * PERMANENT   set by hand
 */
#ifndef OWNSTACK_STACK_NEIGH_H
#define OWNSTACK_STACK_NEIGH_H

#include "htab.h"
#include "inet.h"
#include "list.h"
#include "pbuf.h"
#include "wheel.h"

struct stack;

enum neigh_state {
	NEIGH_INCOMPLETE = 1, NEIGH_REACHABLE, NEIGH_STALE, NEIGH_DELAY, NEIGH_PROBE, NEIGH_FAILED, NEIGH_PERMANENT,
};
#define NEIGH_HOLD_MAX	   64
#define NEIGH_MAX	   8192 /* rows; the longest unused goes */
#define NEIGH_PROBES	   3
#define NEIGH_RETRANS_US   SEC(1)
#define NEIGH_REACHABLE_US SEC(30)
#define NEIGH_DELAY_US	   SEC(5)

struct neigh {
	struct hnode node;
	struct dnode lru;
	struct timer timer;
	struct ipaddr addr;
	usec_t confirmed;	/* last proof of two-way reachability */
	struct pbuf *hold, *hold_last;
	uint16_t n_hold;
	uint8_t state, probes;
	uint8_t mac[6];
};

struct neigh_table {
	struct slab slab;
	struct htab tab;
	struct dnode lru; /* least recently made or resolved first */
};

int neigh_init(struct stack *st);
struct neigh *neigh_find(const struct stack *st, const struct ipaddr *addr);
/**
 * neigh_output() - takes @p, an IP packet without Ethernet header, and sends it to @next_hop now or when that answers
 * @ret_neigh:	the row it goes through, untouched where there was no room for one
 */
void neigh_output(struct stack *st, struct pbuf *p, const struct ipaddr *next_hop, struct neigh **ret_neigh,
		  usec_t now);
/** neigh_output_row() - the same through a row already known */
void neigh_output_row(struct stack *st, struct neigh *n, struct pbuf *p, usec_t now);
/** neigh_learned() - @addr is at @mac. @solicited: answer to our question. @create: make a row if there is none */
void neigh_learned(struct stack *st, const struct ipaddr *addr, const uint8_t mac[6], bool solicited, bool create,
		   usec_t now);
void neigh_timer(struct stack *st, struct timer *t, usec_t now);
void neigh_repair(struct stack *st, usec_t now);

#endif
