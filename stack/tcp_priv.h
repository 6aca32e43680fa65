/* SPDX-License-Identifier: BSD-2-Clause */
/* tcp_priv.h - what the files of TCP say to one another, and what the rest of stack/ calls in TCP */
#ifndef OWNSTACK_STACK_TCP_PRIV_H
#define OWNSTACK_STACK_TCP_PRIV_H

#include "ip4.h"
#include "seq.h"
#include "stack_priv.h"
#include "tcb.h"

/* ---- called by the rest of stack/ ---- */
int tcp_init(struct stack *st);	/* slabs and tables; -ENOMEM */
/** tcp_input() - a TCP segment of @f; addresses and place in @ip. Borrows */
void tcp_input(struct stack *st, const struct frame *f, const struct ip_rx *ip, usec_t now);
/** tcp_output_next() - one frame of the next connection in turn, through ip_output(); false: nothing to send now */
bool tcp_output_next(struct stack *st, usec_t now);
bool tcp_output_wanted(const struct stack *st);
/** tcp_timer_fire() - @t (TIMER_TCP_*) went off and is out of the wheel */
void tcp_timer_fire(struct stack *st, struct timer *t, usec_t now);
/** tcp_neigh_failed() - nobody answers for @dst: EHOSTUNREACH to connections still in SYN_SENT that asked for it */
void tcp_neigh_failed(struct stack *st, const struct ipaddr *dst, usec_t now);
/**
 * tcp_icmp_error() - an ICMP error about one of our segments (RFC 5927: sequence number must be in flight)
 * @src, @dst, @sport, @dport, @seq:	of the segment that was returned to us
 * @err:	positive errno that Linux gives this type and code; EMSGSIZE: fragmentation needed
 * @mtu:	of the next hop, with EMSGSIZE
 */
void tcp_icmp_error(struct stack *st, const struct ipaddr *src, const struct ipaddr *dst, uint16_t sport, uint16_t dport,
		    uint32_t seq, int err, uint32_t mtu, usec_t now);
/** tcp_repair() - tables, lists and timers from the slabs; touched connections are reset. After slab_rebuild() of all slabs. */
void tcp_repair(struct stack *st, usec_t now);
/** tcp_repair_mark_cells() - one reference for each cell a live queue holds; all counts are 0 before */
void tcp_repair_mark_cells(struct stack *st);
uint32_t tcp_live(const struct stack *st); /* connections, requests, orphans that still need time or input */

#endif
