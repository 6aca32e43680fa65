/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cc.h - congestion control: hooks, one file per algorithm
 *
 * All act on cwnd and ssthresh in octets. Their own state is tcb->cc, zeroed before init, and a cell at tcb->cc_cell
 * where that is too little. A connection holds its index in the table of tcp_cc_ops(), never an address, since
 * processes load this code at different places.
 *
 * Two kinds: those that grow cwnd by acknowledgments and let recovery reduce it (CUBIC, Reno), and those with a cell,
 * which model the path: they hear of each frame that leaves (sent) and of each acknowledgment in any state (model),
 * and what they make of cwnd and pace_Bps holds.
 */
#ifndef OWNSTACK_STACK_CC_H
#define OWNSTACK_STACK_CC_H

#include <stdbool.h>
#include "netdev.h"

struct stack;
struct tcp_conn;

#define CWND_MAX_BYTES	   (1u << 30)
#define TCP_INIT_CWND_SEGS 10u /* RFC 6928 */

struct cc_ops {
	const char *name;
	/** init() - at the start of a connection, or when the program chooses this one; may allocate cc_cell */
	void (*init)(struct stack *st, struct tcp_conn *t, usec_t now);
	/** ack() - @acked new octets were acknowledged outside of recovery; @rtt_us: sample, UINT32_MAX: none */
	void (*ack)(struct tcp_conn *t, uint32_t acked, uint32_t rtt_us, usec_t now);
	/** sample() - something was delivered, in whatever order and state; @rtt_us as above. May be NULL */
	void (*sample)(struct tcp_conn *t, uint32_t rtt_us, usec_t now);
	/** ssthresh() - loss was found: the new slow start threshold, at least two segments */
	uint32_t (*ssthresh)(struct tcp_conn *t, usec_t now);
	/** undo() - that loss was none */
	void (*undo)(struct tcp_conn *t);
	/** restart() - sending goes on after @idle_us without anything in flight */
	void (*restart)(struct tcp_conn *t, usec_t idle_us);
	/** timeout() - the retransmission timer went off */
	void (*timeout)(struct tcp_conn *t);
	/** rest() - nothing has happened for a while: what shall not be forgotten, in TCP_REST_CC_WORDS. NULL: nothing */
	void (*rest)(const struct tcp_conn *t, uint32_t *ret_keep);
	/** resume() - after init(), where @keep is known from rest(). NULL where rest is */
	void (*resume)(struct tcp_conn *t, const uint32_t *keep);
	/* only called where there is a cc_cell */
	/** sent() - a frame of new data left; snd_nxt is behind it, @app_limited: there is no more and cwnd has room */
	void (*sent)(struct tcp_conn *t, uint32_t len, bool app_limited, usec_t now);
	/** model() - last word on cwnd and pace_Bps after each acknowledgment */
	void (*model)(struct stack *st, struct tcp_conn *t, usec_t now);
};

extern const struct cc_ops cc_cubic, cc_reno, cc_bbr;
uint64_t bbr_rate(const struct tcp_conn *t, bool *ret_app_limited); /* last sample, octets in a second */
const struct cc_ops *tcp_cc_ops(const struct tcp_conn *t);

/** cc_slow_start() - takes of @acked what leads up to ssthresh; returns the rest (RFC 5681 3.1, counted in octets) */
uint32_t cc_slow_start(struct tcp_conn *t, uint32_t acked);
/** cc_grow() - one segment for each @per_segment octets acknowledged; *credit keeps the fraction */
void cc_grow(struct tcp_conn *t, uint32_t *credit, uint32_t acked, uint32_t per_segment);
void cc_idle_restart(struct tcp_conn *t, usec_t idle_us); /* restart() of RFC 5681 4.1 */

/** tcp_cc_start() - (re)starts the algorithm that opts.cc names; one without memory for its cell gives way to Reno */
void tcp_cc_start(struct stack *st, struct tcp_conn *t, usec_t now);
/**
 * tcp_cc_reduce() - congestion: the new ssthresh
 *
 * Once in a round trip (RFC 3168 6.1.2): where cwnd was just reduced for a mark it stays as it is. The peer of an ECN
 * connection is told with the next new segment.
 */
uint32_t tcp_cc_reduce(struct tcp_conn *t, usec_t now);

#endif
