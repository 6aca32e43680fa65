/* SPDX-License-Identifier: BSD-2-Clause */
/* stack_priv.h - the stack itself, for the files of this folder and for tests */
#ifndef OWNSTACK_STACK_STACK_PRIV_H
#define OWNSTACK_STACK_STACK_PRIV_H

#include "cell.h"
#include "dst.h"
#include "htab.h"
#include "ip4.h"
#include "ip_frag.h"
#include "list.h"
#include "nd.h"
#include "neigh.h"
#include "port.h"
#include "route.h"
#include "siphash.h"
#include "stack.h"
#include "wheel.h"

/* Embedded in a conn: its place in the queue of events. Set .tcb once. */
struct event_node {
	struct dnode node;
	struct tcb *tcb;
	uint32_t what; /* bits not yet fetched */
};

struct stack {
	struct region *region;
	struct netdev_caps dev;
	struct stack_sysctl ctl;
	uint32_t touching[2];	/* slab indexes of tcbs being changed, 0: none */
	uint64_t cnt[CNT_N];
	uint64_t drops[DROP_N];

	struct cell_pools pools;
	struct wheel wheel;
	struct pbuf *out, *out_last;	/* complete frames for the device */
	struct pbuf *loop, *loop_last;	/* complete frames for ourselves */
	struct dnode events;		/* of struct event_node */

	struct route_table routes;
	struct neigh_table neighs;
	struct dst_table dsts;
	struct frag_table frags;
	struct nd_state nd;
	uint32_t path_gen;		/* see struct ip_path; never 0 */
	struct port_table ports;

	struct sipkey key_tuple, key_secret, key_port, key_rand; /* tables; ISN and timestamps; ports; stack_rand*() */
	struct sipkey key_cookie, key_tfo; /* SYN cookies; cookies of TCP Fast Open */
	struct sipkey key_flow;		/* flow labels of IPv6 */
	uint64_t rand_ctr;
	usec_t started;
	uint32_t icmp_tokens;		/* rate limit of what we answer, 1,000/s */
	usec_t icmp_refilled;
	bool capture;			/* all payload goes by frames, so that it can be recorded */
	uint8_t *loop_buf;		/* FRAME_MAX_BYTES, where looped frames are put in one run */

	/* ---- TCP ---- */
	struct slab tcbs, awake;	/* sockets; the connections of those that are not at rest */
	struct slab requests, timewaits, opts_rows;
	struct htab opts_tab;	/* of struct tcp_opts_row, by content */
	struct htab conns;	/* by siphash_tuple(): tcbs, requests, timewaits; hnode.kind tells */
	struct htab listeners;	/* by port */
	uint32_t n_live;	/* what stack_live() says */
	struct dnode mem_waiters;	/* tcbs whose writer found no cell */
	struct dnode tcp_out;	/* tcbs that want to send, in turn */
	uint32_t tw_first, tw_last;	/* slab indexes of TIME_WAITs, by when they end */
	struct timer tw_timer;	/* no later than the first of them */
	uint32_t n_orphans;
	uint32_t challenge_left;	/* RFC 5961 7, in this second */
	usec_t challenge_at;
	/* ---- end of TCP ---- */
};

#define CNT(st, name)	   ((st)->cnt[CNT_##name]++)
#define CNT_ADD(st, name, n) ((st)->cnt[CNT_##name] += (n))
/** drop() - count a frame that goes no further; the frame itself is borrowed or freed by the caller */
static inline void drop(struct stack *st, enum stack_drop why)
{
	st->drops[why]++;
}

/* random: SipHash of a counter under a secret key, so what was seen says nothing about what comes */
uint64_t stack_rand64(struct stack *st);
uint32_t stack_rand_below(struct stack *st, uint32_t n); /* 0..n-1; 0 for n == 0 */

/** stack_event_post() - adds @what to what is told about a tcb; queues it if it is not */
void stack_event_post(struct stack *st, struct event_node *ev, uint32_t what);
void stack_event_cancel(struct stack *st, struct event_node *ev);
static inline void stack_touch(struct stack *st, uint32_t tcb_index)
{
	if (st->touching[0] != tcb_index) {
		st->touching[1] = st->touching[0];
		st->touching[0] = tcb_index;
	}
}
/** stack_transmit() - takes a complete frame (virtio-net header first) for the device */
void stack_transmit(struct stack *st, struct pbuf *p);
void stack_loop(struct stack *st, struct pbuf *p); /* takes a complete frame for ourselves */

/* ---- what TCP gives the rest of the stack (tcp_*.c) ---- */
int tcp_init(struct stack *st, usec_t now); /* slabs and tables of the TCP section; -ENOMEM */
/** tcp_input() - borrows a segment for us whose checksum is right; its header may still be short or malformed */
void tcp_input(struct stack *st, const struct frame *f, const struct ip_rx *ip, usec_t now);
/** tcp_output_next() - lets the next connection in turn send one frame through ip_output(); false: none wants to */
bool tcp_output_next(struct stack *st, usec_t now);
bool tcp_output_pending(const struct stack *st);
/** tcp_memory_freed() - cells are to be had again: tells all writers that found none */
void tcp_memory_freed(struct stack *st);
/** tcp_timer() - @t, of kind TIMER_TCB, TIMER_REQUEST or TIMER_TIMEWAIT, fired and is disarmed */
void tcp_timer(struct stack *st, struct timer *t, usec_t now);
/** tcp_icmp_error() - an error about one of our segments came, or our own neighbour did not answer (e->local) */
void tcp_icmp_error(struct stack *st, const struct ip_error *e, usec_t now);
/*
 * Repair, in this order: slabs are rebuilt (tcp_repair_slabs), wheel, tables, lists and ports are emptied by
 * stack_repair(); tcp_repair_mark_cells() marks the cells in queues of live tcbs (cell_repair_mark); tcp_repair()
 * puts each tcb, request and TIME_WAIT back into tables, wheel, ports and lists, and resets those in st->touching.
 */
void tcp_repair_slabs(struct stack *st);
void tcp_repair_mark_cells(struct stack *st);
void tcp_repair(struct stack *st, usec_t now);

#endif
