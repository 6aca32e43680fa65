/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cc_bbr.c - BBR, version 1 (draft-cardwell-iccrg-bbr-congestion-control-00), with delivery rates as in
 * draft-cheng-iccrg-delivery-rate-estimation
 *
 * Theory of operation
 *
 * The path is modelled by two figures: bw, the most that was delivered in a round trip of the last ten, and min_rtt, the
 * least round trip of the last ten seconds. Frames are paced at pacing_gain * bw, and cwnd is cwnd_gain * bw * min_rtt,
 * whatever is lost.
 *
 * Rate: a record is kept of each frame of new data: when it left, and how much had been delivered then. The newest one
 * that an acknowledgment (or SACK) covers gives a sample: octets delivered since it left, by the longer of the time that
 * sending them took and the time that their acknowledgments took. What the program's silence limited counts only where
 * it raises bw. Where the records run out frames go unrecorded, which only makes samples rarer.
 *
 *   STARTUP    gain 2.89, until bw grew by less than a quarter in three rounds
 *   DRAIN      gain 1/2.89, until what STARTUP put into the queue is gone
 *   PROBE_BW   gains 1.25, 0.75, then 1 for six phases of min_rtt each
 *   PROBE_RTT  when min_rtt was not seen for 10 s: four segments for 200 ms and a round, so that the queue empties
 *
 * After a loss cwnd follows what is delivered for a round; after recovery it is what it was. Left out: the detection of
 * policers by long-term rates and the allowance for aggregated acknowledgments, which Linux added.
 */
#include <string.h>
#include "tcp_priv.h"

#define GAIN_ONE       256u
#define GAIN_HIGH      739u /* 2 / ln 2 */
#define GAIN_DRAIN     88u  /* its inverse */
#define GAIN_CWND      512u
#define CYCLE_PHASES   8u
#define BW_ROUNDS      10u
#define FULL_BW_ROUNDS 3u
#define MIN_RTT_WIN_US SEC(10)
#define PROBE_RTT_US   MSEC(200)
#define CWND_MIN_SEGS  4u
#define MARGIN_PERCENT 99u /* paced a little below bw: no queue of our own */

enum bbr_mode { BBR_STARTUP, BBR_DRAIN, BBR_PROBE_BW, BBR_PROBE_RTT };

struct bbr_sent {
	uint32_t end;		/* sequence number behind the frame */
	uint32_t sent_us, first_sent_us, delivered_us; /* when it left; start of its flight; last delivery before */
	uint32_t delivered;	/* octets, when it left */
	uint32_t app_limited;
};

struct bbr {
	uint64_t bw_slot[BW_ROUNDS];	/* most in each of the last rounds, octets in a second */
	uint64_t full_bw;
	usec_t min_rtt_at, probe_rtt_end, cycle_at;
	uint32_t min_rtt_us;	/* UINT32_MAX: none yet */
	uint32_t mode, cycle, round, round_end, full_rounds;
	uint32_t cwnd, prior_cwnd;	/* the latter to come back to after recovery and PROBE_RTT */
	uint32_t delivered, delivered_us, first_sent_us;
	uint32_t app_limited_until; /* `delivered` that ends it, 0: not limited */
	uint32_t retrans_seen, last_ca;
	bool full, round_start, idle, probe_rtt_round_done, conserve;
	uint64_t rate_Bps;	/* last sample, for tcp_info */
	uint32_t rate_app_limited;
	uint32_t head, n, max;	/* ring of records */
	struct bbr_sent ring[];
};
#define RING_WANT 650u

static struct bbr *bbr_of(const struct tcp_conn *t)
{
	return (struct bbr *)t->cc_cell->data;
}

/* Octets that reached the peer, in order or not */
static uint32_t delivered_now(const struct tcp_conn *t)
{
	return (uint32_t)t->bytes_acked + t->sacked_bytes;
}

static uint64_t bw_max(const struct bbr *b)
{
	uint64_t most = 0;

	for (unsigned i = 0; i < BW_ROUNDS; i++)
		most = b->bw_slot[i] > most ? b->bw_slot[i] : most;
	return most;
}

static void bbr_init(struct stack *st, struct tcp_conn *t, usec_t now)
{
	uint32_t want = (uint32_t)(sizeof(struct bbr) + RING_WANT * sizeof(struct bbr_sent));
	uint32_t rtt_us = t->srtt_us >> 3 ? t->srtt_us >> 3 : 1000;
	struct bbr *b;

	t->cc_cell = cell_alloc(st, want);
	if (!t->cc_cell)
		return;
	b = bbr_of(t);
	if (t->cc_cell->cap < sizeof(*b) + CYCLE_PHASES * sizeof(b->ring[0])) {
		cell_put(st, t->cc_cell);
		t->cc_cell = NULL;
		return;
	}
	memset(b, 0, sizeof(*b));
	b->max = (t->cc_cell->cap - (uint32_t)sizeof(*b)) / (uint32_t)sizeof(b->ring[0]);
	b->min_rtt_us = t->min_rtt_us ? t->min_rtt_us : UINT32_MAX;
	b->min_rtt_at = now;
	b->cwnd = t->cwnd;
	b->round_end = b->delivered = delivered_now(t);
	b->delivered_us = b->first_sent_us = (uint32_t)now;
	b->retrans_seen = t->total_retrans;
	t->ssthresh = CWND_MAX_BYTES;
	t->pace_Bps = (uint64_t)t->cwnd * 1000000 / rtt_us * GAIN_HIGH / GAIN_ONE + 1;
}

/* ---- delivery rate ---- */

static void bbr_sent(struct tcp_conn *t, uint32_t len, bool app_limited, usec_t now)
{
	struct bbr *b = bbr_of(t);
	uint32_t us = (uint32_t)now;

	if (tcp_flight(t) == len) { /* nothing was in flight: a new one begins */
		b->first_sent_us = b->delivered_us = us;
		if (b->app_limited_until && b->mode == BBR_PROBE_BW)
			b->idle = true;
	}
	if (app_limited)
		b->app_limited_until = (b->delivered + tcp_flight(t)) | 1;
	if (b->n == b->max)
		return;
	b->ring[(b->head + b->n++) % b->max] = (struct bbr_sent){ .end = t->snd_nxt, .sent_us = us,
		.first_sent_us = b->first_sent_us, .delivered_us = b->delivered_us, .delivered = b->delivered,
		.app_limited = b->app_limited_until };
}

/* The newest record that was delivered, into @ret_r; those before it go. False: none */
static bool newest_delivered(struct tcp_conn *t, struct bbr *b, struct bbr_sent *ret_r)
{
	uint32_t upto = tcp_sack_high(t);
	bool any = false;

	while (b->n && seq_leq(b->ring[b->head].end, upto)) {
		*ret_r = b->ring[b->head];
		b->head = (b->head + 1) % b->max;
		b->n--;
		any = true;
	}
	return any;
}

static void take_rate(struct bbr *b, const struct bbr_sent *r, uint32_t now_us)
{
	uint32_t snd_us = r->sent_us - r->first_sent_us, ack_us = now_us - r->delivered_us;
	uint32_t us = snd_us > ack_us ? snd_us : ack_us;
	uint64_t rate;

	b->first_sent_us = r->sent_us;
	if (us == 0 || (b->min_rtt_us != UINT32_MAX && us < b->min_rtt_us))
		return; /* more would have come in a round trip than was sent: acknowledgments bunched up */
	rate = (uint64_t)(b->delivered - r->delivered) * 1000000 / us;
	b->rate_Bps = rate;
	b->rate_app_limited = r->app_limited;
	if ((!r->app_limited || rate >= bw_max(b)) && rate > b->bw_slot[b->round % BW_ROUNDS])
		b->bw_slot[b->round % BW_ROUNDS] = rate;
}

/* A round trip ends when data is acknowledged that left after the last one ended. */
static void take_round(struct bbr *b, const struct bbr_sent *r)
{
	if ((int32_t)(r->delivered - b->round_end) < 0)
		return;
	b->round_end = b->delivered;
	b->round++;
	b->bw_slot[b->round % BW_ROUNDS] = 0;
	b->round_start = true;
	b->conserve = false;
}

/* ---- the model's windows ---- */

static uint64_t bdp(const struct bbr *b, uint64_t bw, uint32_t gain)
{
	return bw * b->min_rtt_us / 1000000 * gain / GAIN_ONE;
}

/* A few frames more than the product, since acknowledgments and frames come in lumps */
static uint32_t inflight_for(const struct tcp_conn *t, const struct bbr *b, uint64_t bw, uint32_t gain)
{
	uint64_t n;

	if (b->min_rtt_us == UINT32_MAX || bw == 0)
		return t->cwnd > TCP_INIT_CWND_SEGS * t->snd_mss ? t->cwnd : TCP_INIT_CWND_SEGS * t->snd_mss;
	n = bdp(b, bw, gain) + 3ull * tcp_pace_frame_max(t);
	if (b->mode == BBR_PROBE_BW && b->cycle == 0)
		n += 2ull * t->snd_mss;
	return n > CWND_MAX_BYTES ? CWND_MAX_BYTES : (uint32_t)n;
}

static uint32_t pacing_gain(const struct bbr *b)
{
	static const uint16_t cycle[CYCLE_PHASES] = { 320, 192, 256, 256, 256, 256, 256, 256 };

	switch ((enum bbr_mode)b->mode) {
	case BBR_STARTUP: return GAIN_HIGH;
	case BBR_DRAIN: return GAIN_DRAIN;
	case BBR_PROBE_BW: return cycle[b->cycle];
	case BBR_PROBE_RTT: return GAIN_ONE;
	}
	return GAIN_ONE;
}

static uint32_t cwnd_gain(const struct bbr *b)
{
	switch ((enum bbr_mode)b->mode) {
	case BBR_STARTUP: case BBR_DRAIN: return GAIN_HIGH;
	case BBR_PROBE_BW: return GAIN_CWND;
	case BBR_PROBE_RTT: return GAIN_ONE;
	}
	return GAIN_ONE;
}

/* ---- modes ---- */

static void cycle_update(struct tcp_conn *t, struct bbr *b, uint64_t bw, bool lost, usec_t now)
{
	bool whole = now - b->cycle_at > b->min_rtt_us, next = whole;
	uint32_t gain = pacing_gain(b), inflight = tcp_pipe(t);

	if (gain > GAIN_ONE) /* probes until the pipe is that full, or something was lost for it */
		next = whole && (lost || inflight >= inflight_for(t, b, bw, gain));
	else if (gain < GAIN_ONE) /* drains no longer than need be */
		next = whole || inflight <= inflight_for(t, b, bw, GAIN_ONE);
	if (!next)
		return;
	b->cycle = (b->cycle + 1) % CYCLE_PHASES;
	b->cycle_at = now;
}

static void enter_probe_bw(struct tcp_conn *t, struct bbr *b, usec_t now)
{
	b->mode = BBR_PROBE_BW;
	b->cycle = 2 + (t->iss ^ b->round) % (CYCLE_PHASES - 2); /* any but the draining one: flows must not march in step */
	b->cycle_at = now;
}

static void full_check(struct bbr *b, uint64_t bw, bool app_limited)
{
	if (b->full || !b->round_start || app_limited)
		return;
	if (bw >= b->full_bw + b->full_bw / 4) {
		b->full_bw = bw;
		b->full_rounds = 0;
		return;
	}
	b->full = ++b->full_rounds >= FULL_BW_ROUNDS;
}

static void probe_rtt_leave(struct tcp_conn *t, struct bbr *b, usec_t now)
{
	b->min_rtt_at = now;
	b->cwnd = b->cwnd > b->prior_cwnd ? b->cwnd : b->prior_cwnd;
	if (b->full)
		enter_probe_bw(t, b, now);
	else
		b->mode = BBR_STARTUP;
}

static void min_rtt_update(struct tcp_conn *t, struct bbr *b, uint32_t rtt_us, usec_t now)
{
	bool stale = now - b->min_rtt_at > MIN_RTT_WIN_US;

	if (rtt_us && (rtt_us <= b->min_rtt_us || stale)) {
		b->min_rtt_us = rtt_us;
		b->min_rtt_at = now;
	}
	if (stale && !b->idle && b->mode != BBR_PROBE_RTT) {
		b->mode = BBR_PROBE_RTT;
		b->prior_cwnd = b->cwnd > b->prior_cwnd || t->ca_state < TCP_CA_RECOVERY ? b->cwnd : b->prior_cwnd;
		b->probe_rtt_end = 0;
	}
	if (b->mode != BBR_PROBE_RTT)
		return;
	b->app_limited_until = (b->delivered + tcp_flight(t)) | 1; /* samples of this time are no measure of the path */
	if (!b->probe_rtt_end && tcp_pipe(t) <= CWND_MIN_SEGS * t->snd_mss) {
		b->probe_rtt_end = now + PROBE_RTT_US;
		b->probe_rtt_round_done = false;
		b->round_end = b->delivered;
	} else if (b->probe_rtt_end) {
		b->probe_rtt_round_done |= b->round_start;
		if (b->probe_rtt_round_done && now >= b->probe_rtt_end)
			probe_rtt_leave(t, b, now);
	}
}

static void pace_set(struct tcp_conn *t, struct bbr *b, uint64_t bw)
{
	uint64_t rate = bw * pacing_gain(b) / GAIN_ONE * MARGIN_PERCENT / 100;

	if (rate && (b->full || rate > t->pace_Bps)) /* not by a first slow sample below what we began with */
		t->pace_Bps = rate;
	tcp_pace_update(t);
}

/**
 * cwnd_set() - what may be in flight
 * @acked:	octets delivered by this acknowledgment
 * @lost:	octets that were found lost
 */
static void cwnd_set(struct tcp_conn *t, struct bbr *b, uint64_t bw, uint32_t acked, uint32_t lost)
{
	uint32_t target = inflight_for(t, b, bw, cwnd_gain(b)), least = CWND_MIN_SEGS * t->snd_mss, pipe = tcp_pipe(t);
	bool recovering = t->ca_state >= TCP_CA_RECOVERY;

	if (lost)
		b->cwnd = b->cwnd > lost + t->snd_mss ? b->cwnd - lost : t->snd_mss;
	if (t->ca_state == TCP_CA_RECOVERY && b->last_ca < TCP_CA_RECOVERY) {
		b->prior_cwnd = b->cwnd + lost;
		b->conserve = true;
		b->round_end = b->delivered;
		b->cwnd = pipe + acked;
	} else if (!recovering && b->last_ca >= TCP_CA_RECOVERY) {
		b->cwnd = b->cwnd > b->prior_cwnd ? b->cwnd : b->prior_cwnd;
		b->conserve = false;
	}
	b->last_ca = t->ca_state;
	if (b->conserve) {
		b->cwnd = b->cwnd > pipe + acked ? b->cwnd : pipe + acked;
	} else if (b->full) {
		b->cwnd = b->cwnd + acked < target ? b->cwnd + acked : target;
	} else if (b->cwnd < target || b->delivered < TCP_INIT_CWND_SEGS * t->snd_mss) {
		b->cwnd += acked;
	}
	if (b->cwnd < least)
		b->cwnd = least;
	if (b->mode == BBR_PROBE_RTT && b->cwnd > least)
		b->cwnd = least;
	if (b->cwnd > CWND_MAX_BYTES)
		b->cwnd = CWND_MAX_BYTES;
	t->cwnd = b->cwnd;
}

static void bbr_model(struct stack *st, struct tcp_conn *t, usec_t now)
{
	struct bbr *b = bbr_of(t);
	struct bbr_sent r;
	uint32_t before = b->delivered, acked, lost, rtt_us = 0;
	uint64_t bw;

	(void)st;
	b->delivered = delivered_now(t);
	acked = (int32_t)(b->delivered - before) > 0 ? b->delivered - before : 0;
	lost = (t->total_retrans - b->retrans_seen) * t->snd_mss;
	b->retrans_seen = t->total_retrans;
	b->round_start = false;
	if (acked)
		b->delivered_us = (uint32_t)now;
	if (b->app_limited_until && (int32_t)(b->delivered - b->app_limited_until) > 0)
		b->app_limited_until = 0;
	if (newest_delivered(t, b, &r)) {
		rtt_us = (uint32_t)now - r.sent_us;
		take_round(b, &r);
		take_rate(b, &r, (uint32_t)now);
		full_check(b, bw_max(b), r.app_limited);
	}
	bw = bw_max(b);
	if (b->mode == BBR_PROBE_BW)
		cycle_update(t, b, bw, lost > 0, now);
	if (b->mode == BBR_STARTUP && b->full) {
		b->mode = BBR_DRAIN;
		t->ssthresh = inflight_for(t, b, bw, GAIN_ONE);
	}
	if (b->mode == BBR_DRAIN && tcp_pipe(t) <= inflight_for(t, b, bw, GAIN_ONE))
		enter_probe_bw(t, b, now);
	min_rtt_update(t, b, rtt_us, now);
	if (acked)
		b->idle = false;
	pace_set(t, b, bw);
	cwnd_set(t, b, bw, acked, lost);
}

/* ---- hooks of the other kind ---- */

/* cwnd is bbr_model()'s */
static void bbr_ack(struct tcp_conn *t, uint32_t acked, uint32_t rtt_us, usec_t now)
{
	(void)t;
	(void)acked;
	(void)rtt_us;
	(void)now;
}

static uint32_t bbr_ssthresh(struct tcp_conn *t, usec_t now)
{
	(void)now;
	return t->ssthresh;
}

static void bbr_undo(struct tcp_conn *t)
{
	struct bbr *b = bbr_of(t);

	b->full_bw = 0; /* spurious: slow growth meanwhile says nothing */
	b->full_rounds = 0;
	b->cwnd = b->cwnd > t->prior_cwnd ? b->cwnd : t->prior_cwnd;
}

static void bbr_restart(struct tcp_conn *t, usec_t idle_us)
{
	struct bbr *b = bbr_of(t);

	(void)idle_us;
	b->idle = true;
	if (b->mode == BBR_PROBE_BW)
		t->pace_Bps = bw_max(b) * MARGIN_PERCENT / 100 + 1;
}

static void bbr_timeout(struct tcp_conn *t)
{
	struct bbr *b = bbr_of(t);

	if (t->ca_state < TCP_CA_RECOVERY)
		b->prior_cwnd = b->cwnd;
	b->last_ca = TCP_CA_LOSS;
	b->cwnd = t->snd_mss;
	b->full_bw = 0;
	b->conserve = false;
}

/* The path as we know it: words 0 and 1 are bw, 2 min_rtt_us, 3 and 4 its time, 5 whether the pipe was ever full */
static void bbr_rest(const struct tcp_conn *t, uint32_t *keep)
{
	const struct bbr *b = bbr_of(t);
	uint64_t bw = bw_max(b), at = b->min_rtt_at;

	memcpy(&keep[0], &bw, sizeof(bw));
	keep[2] = b->min_rtt_us;
	memcpy(&keep[3], &at, sizeof(at));
	keep[5] = b->full;
}

static void bbr_resume(struct tcp_conn *t, const uint32_t *keep)
{
	struct bbr *b = bbr_of(t);
	uint64_t bw;

	memcpy(&bw, &keep[0], sizeof(bw));
	b->min_rtt_us = keep[2];
	memcpy(&b->min_rtt_at, &keep[3], sizeof(b->min_rtt_at));
	if (!bw)
		return;
	b->bw_slot[0] = b->full_bw = bw;
	b->idle = true;
	t->pace_Bps = bw * MARGIN_PERCENT / 100 + 1;
	if (!keep[5])
		return;
	b->full = true;
	b->mode = BBR_PROBE_BW;
	b->cycle = 2;
}

uint64_t bbr_rate(const struct tcp_conn *t, bool *ret_app_limited)
{
	*ret_app_limited = bbr_of(t)->rate_app_limited;
	return bbr_of(t)->rate_Bps;
}

const struct cc_ops cc_bbr = {
	.name = "bbr", .init = bbr_init, .ack = bbr_ack, .ssthresh = bbr_ssthresh, .undo = bbr_undo, .restart = bbr_restart,
	.timeout = bbr_timeout, .rest = bbr_rest, .resume = bbr_resume, .sent = bbr_sent, .model = bbr_model,
};
