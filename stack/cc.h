/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cc.h - congestion control: hooks, one file per algorithm
 *
 * All act on cwnd and ssthresh in octets. Their own state is tcb->cc, zeroed before init. A connection holds its
 * index in the table of tcp_cc_ops(), never an address, since processes load this code at different places.
 */
#ifndef OWNSTACK_STACK_CC_H
#define OWNSTACK_STACK_CC_H

#include "netdev.h"

struct tcb;

#define CWND_MAX_BYTES	   (1u << 30)
#define TCP_INIT_CWND_SEGS 10u /* RFC 6928 */

struct cc_ops {
	const char *name;
	void (*init)(struct tcb *t, usec_t now);
	/** ack() - @acked new octets were acknowledged outside of recovery; @rtt_us: sample, UINT32_MAX: none */
	void (*ack)(struct tcb *t, uint32_t acked, uint32_t rtt_us, usec_t now);
	/** ssthresh() - loss was found: the new slow start threshold, at least two segments */
	uint32_t (*ssthresh)(struct tcb *t, usec_t now);
	/** undo() - that loss was none */
	void (*undo)(struct tcb *t);
	/** restart() - sending goes on after @idle_us without anything in flight */
	void (*restart)(struct tcb *t, usec_t idle_us);
	/** timeout() - the retransmission timer went off */
	void (*timeout)(struct tcb *t);
};

extern const struct cc_ops cc_cubic, cc_reno;
const struct cc_ops *tcp_cc_ops(const struct tcb *t);

/** cc_slow_start() - takes of @acked what leads up to ssthresh; returns the rest (RFC 5681 3.1, counted in octets) */
uint32_t cc_slow_start(struct tcb *t, uint32_t acked);
/** cc_grow() - one segment for each @per_segment octets acknowledged; *credit keeps the fraction */
void cc_grow(struct tcb *t, uint32_t *credit, uint32_t acked, uint32_t per_segment);
void cc_idle_restart(struct tcb *t, usec_t idle_us); /* restart() of RFC 5681 4.1 */

#endif
