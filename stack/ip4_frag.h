/* SPDX-License-Identifier: BSD-2-Clause */
/* ip4_frag.h - IPv4 packets that come in pieces (RFC 791 3.2, RFC 815) */
#ifndef OWNSTACK_STACK_IP4_FRAG_H
#define OWNSTACK_STACK_IP4_FRAG_H

#include "htab.h"
#include "ip4.h"
#include "list.h"
#include "wheel.h"

#define FRAG_TIME_US	SEC(30)		/* Linux's ipfrag_time */
#define FRAG_HELD_MAX	(4u << 20)	/* octets of memory for all, Linux's ipfrag_high_thresh */
#define FRAG_PIECES_MAX 256u		/* of one packet: 64 KiB in the smallest MTU are 118 */

/* A packet of which a part is here. Cells from head on are sorted, cell->seq is the offset of each; they never overlap. */
struct frag_q {
	struct hnode node;
	struct dnode lru;
	struct timer timer;
	struct ipaddr src, dst;
	struct cell *head, *tail;
	uint32_t got_bytes, end;	/* payload here; payload in all, 0: not known yet */
	uint32_t held_bytes;		/* blocks of its cells */
	uint16_t id, n_pieces;
	uint8_t proto, ecn_seen;	/* bit for each codepoint */
	uint8_t hdr_len, hdr[60];	/* of the first fragment, 0: not here yet */
};

struct frag_table {
	struct slab slab;
	struct htab tab;
	struct dnode lru;	/* oldest first */
	uint32_t held_bytes;	/* queues and cells */
	uint8_t *buf;		/* FRAME_MAX_BYTES: a whole packet in one run */
};

int ip4_frag_init(struct stack *st);
/**
 * ip4_frag_input() - a fragment for us, its IP header checked
 * @f:		borrowed
 * @h:		its IP header
 * @ret_whole:	frame that holds the packet it completes, valid until the next call
 *
 * Return: true: it completes one
 */
bool ip4_frag_input(struct stack *st, const struct frame *f, const uint8_t *h, const struct ip_rx *ip,
		    struct frame *ret_whole, usec_t now);
void ip4_frag_timer(struct stack *st, struct timer *t, usec_t now);
void ip4_frag_repair(struct stack *st); /* before the sweep of cells: all that was begun is forgotten */

#endif
