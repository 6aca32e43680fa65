/* SPDX-License-Identifier: BSD-2-Clause */
/* ip_frag.h - packets that come in pieces */
#ifndef OWNSTACK_STACK_IP_FRAG_H
#define OWNSTACK_STACK_IP_FRAG_H

#include "htab.h"
#include "ip4.h"
#include "list.h"
#include "wheel.h"

#define FRAG_TIME_US	SEC(30)		/* Linux's ipfrag_time */
#define FRAG6_TIME_US	SEC(60)		/* IPv6: RFC 8200 4.5 */
#define FRAG_HELD_MAX	(4u << 20)	/* octets of memory for all, Linux's ipfrag_high_thresh */
#define FRAG_BUF_BYTES	(FRAME_MAX_BYTES + 40) /* IPv6 does not count its header */
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
	uint32_t id;
	uint16_t n_pieces;
	uint8_t proto, ecn_seen;	/* bit for each codepoint */
	uint8_t hdr_len, hdr[60];	/* of the first fragment, 0: not here yet */
};

struct frag_table {
	struct slab slab;
	struct htab tab;
	struct dnode lru;	/* oldest first */
	uint32_t held_bytes;	/* queues and cells */
	uint8_t *buf;		/* FRAG_BUF_BYTES: a whole packet in one run */
};

int frag_init(struct stack *st);
void frag_timer(struct stack *st, struct timer *t, usec_t now);
void frag_repair(struct stack *st); /* before the sweep of cells: all that was begun is forgotten */

/* ---- for ip4_frag.c and ip6_frag.c ---- */
struct frag_q *frag_find(struct stack *st, const struct ip_rx *ip, uint32_t id);
struct frag_q *frag_make(struct stack *st, const struct ip_rx *ip, uint32_t id, usec_t now); /* NULL: no memory */
/** frag_room() - room for one more fragment of @len octets: the oldest packets go, but not @keep. False: there is none */
bool frag_room(struct stack *st, const struct frag_q *keep, uint32_t len);
/** frag_add() - one fragment finds its place. False: the packet cannot become whole; frag_fail() is the caller's */
bool frag_add(struct stack *st, struct frag_q *q, const uint8_t *data, uint32_t off, uint32_t len, bool last, uint8_t tos);
bool frag_is_marked(const struct frag_q *q); /* a fragment met congestion */
uint32_t frag_copy(const struct frag_q *q, uint8_t *to); /* all that is here, in one run; octets */
void frag_fail(struct stack *st, struct frag_q *q);	/* takes; counted */
void frag_free(struct stack *st, struct frag_q *q);	/* takes */

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
void ip4_frag_timeout(struct stack *st, const struct frag_q *q, usec_t now); /* tells the sender, if it can */
/** ip6_frag_input() - the same for IPv6; @at: of the fragment header in the frame, which is as long as ip->l4_len says */
bool ip6_frag_input(struct stack *st, const struct frame *f, uint32_t at, const struct ip_rx *ip, struct frame *ret_whole,
		    usec_t now);
void ip6_frag_timeout(struct stack *st, const struct frag_q *q, usec_t now);

#endif
