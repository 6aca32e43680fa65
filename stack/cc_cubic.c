/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cc_cubic.c - CUBIC (RFC 9438) with HyStart++ (RFC 9406)
 *
 * Windows are kept in segments times 1024 (w_max, w_est), since C = 0.4 is defined for segments; time in
 * milliseconds. W_cubic(t) = C (t - K)^3 + W_max; K = cbrt((W_max - cwnd_epoch) / C). All arithmetic is in integers.
 */
#include <string.h>
#include "tcp_priv.h"

#define SCALE		1024u	/* fixed point of window values, in segments */
#define BETA		717u	/* 0.7 * 1024 */
#define ALPHA		542u	/* 3 (1 - beta) / (1 + beta) * 1024: Reno's growth with our beta */
#define HS_RTT_MIN_US	4000u	/* RFC 9406 4.3 */
#define HS_RTT_MAX_US	16000u
#define HS_SAMPLES	8u
#define HS_CSS_DIVISOR	4u
#define HS_CSS_ROUNDS	5u
#define HS_TRAIN_GAP_US 2000u	/* Linux's hystart_ack_delta_us */
#define HS_TRAIN_SEGS	16u	/* and hystart_low_window */

struct cubic {
	uint32_t epoch_ms;	/* start of this growth, 0: none */
	uint32_t w_max;		/* segments * SCALE */
	uint32_t k_ms;
	uint32_t w_est;		/* what Reno would have, segments * SCALE */
	uint32_t w_max_prior;	/* for undo */
	uint32_t credit;
	uint32_t round_end;	/* HyStart++: the round ends when this is acknowledged */
	uint32_t rtt_least, rtt_cur, samples, css_baseline, css_rounds;
	uint32_t hs_done;	/* slow start ended once */
	uint32_t hs_done_prior;	/* for undo */
	uint32_t round_at_us, train_at_us; /* when the round began, when the last acknowledgment without a gap came */
};
_Static_assert(sizeof(struct cubic) <= TCP_CC_WORDS * sizeof(uint32_t), "fits the connection");

static struct cubic *cubic_of(struct tcp_conn *t)
{
	return (struct cubic *)t->cc;
}

/* Cube root of a 64-bit number, by bits: 21 steps */
static uint32_t cbrt64(uint64_t x)
{
	uint64_t r = 0;

	for (int s = 63; s >= 0; s -= 3) {
		uint64_t b;

		r <<= 1;
		b = 3 * r * (r + 1) + 1;
		if (x >> s >= b) {
			x -= b << s;
			r++;
		}
	}
	return (uint32_t)r;
}

static void cubic_init(struct stack *st, struct tcp_conn *t, usec_t now)
{
	(void)st;
	memset(t->cc, 0, sizeof(t->cc));
	cubic_of(t)->rtt_least = cubic_of(t)->rtt_cur = UINT32_MAX;
	cubic_of(t)->round_end = t->snd_nxt;
	cubic_of(t)->round_at_us = cubic_of(t)->train_at_us = (uint32_t)now;
}

/* ---- HyStart++: leave slow start when the round trip grows, before loss ---- */

static void round_start(struct tcp_conn *t, struct cubic *c, usec_t now)
{
	c->round_at_us = c->train_at_us = (uint32_t)now;
	c->round_end = t->snd_nxt;
	if (c->rtt_cur < c->rtt_least)
		c->rtt_least = c->rtt_cur;
	c->rtt_cur = UINT32_MAX;
	c->samples = 0;
}

static uint32_t hs_thresh(uint32_t rtt_us)
{
	uint32_t us = rtt_us / 8;

	return us < HS_RTT_MIN_US ? HS_RTT_MIN_US : us > HS_RTT_MAX_US ? HS_RTT_MAX_US : us;
}

static void slow_start_over(struct tcp_conn *t, struct cubic *c)
{
	t->ssthresh = t->cwnd;
	c->hs_done = 1;
}

/**
 * train_fills_path() - have acknowledgments come without a gap for half a round trip
 *
 * Each lets two segments go, so the flight they leave behind fills the path for a whole one: it holds no more, whatever the
 * round trip says, whose growth shows a round later, when cwnd has doubled again. The other half of the HyStart that RFC 9406
 * came from; half a round trip as Linux, and a whole one where pacing spreads what leaves.
 */
static bool train_fills_path(const struct tcp_conn *t, struct cubic *c, usec_t now)
{
	uint32_t enough = t->pace_Bps ? t->min_rtt_us : t->min_rtt_us / 2;

	if ((uint32_t)now - c->train_at_us > HS_TRAIN_GAP_US)
		return false;
	c->train_at_us = (uint32_t)now;
	return enough && t->cwnd >= HS_TRAIN_SEGS * t->snd_mss && (uint32_t)now - c->round_at_us > enough;
}

/**
 * hystart() - RFC 9406 4.2: when does slow start become conservative, when does it end
 *
 * The rounds of conservative slow start are there to find out whether the growth of the round trip was a passing one. Where
 * it goes on growing by as much again that is answered, and slow start ends at once: five rounds at a quarter would still
 * triple cwnd, and lose a good part of a window where the queue is not as deep as that. Linux's HyStart, which has no such
 * rounds, does not; so we would be slower.
 *
 * What a round is compared with is the least of all rounds before, as Linux has it, not of the last one: a queue that grows by
 * less than the threshold in each round grows nevertheless, and one who begins beside others would double his flight until
 * he has lost half of it.
 *
 * Acknowledgments that only SACK count too: where order is bad there are few others.
 */
static void hystart(struct tcp_conn *t, struct cubic *c, uint32_t rtt_us, usec_t now)
{
	if (seq_gt(t->snd_una, c->round_end)) {
		if (c->css_baseline && ++c->css_rounds >= HS_CSS_ROUNDS)
			slow_start_over(t, c);
		round_start(t, c, now);
	}
	if (train_fills_path(t, c, now)) {
		slow_start_over(t, c);
		return;
	}
	if (rtt_us != UINT32_MAX) {
		c->samples++;
		if (rtt_us < c->rtt_cur)
			c->rtt_cur = rtt_us;
	}
	if (c->samples >= HS_SAMPLES && c->rtt_cur != UINT32_MAX && c->rtt_least != UINT32_MAX) {
		if (c->css_baseline && c->rtt_cur < c->css_baseline) {
			c->css_baseline = 0; /* it was no queue: back to slow start */
		} else if (c->css_baseline && c->rtt_cur >= c->css_baseline + hs_thresh(c->css_baseline)) {
			slow_start_over(t, c);
		} else if (!c->css_baseline && c->rtt_cur >= c->rtt_least + hs_thresh(c->rtt_least)) {
			c->css_baseline = c->rtt_cur;
			c->css_rounds = 0;
		}
	}
}

static void cubic_sample(struct tcp_conn *t, uint32_t rtt_us, usec_t now)
{
	if (t->cwnd < t->ssthresh && !cubic_of(t)->hs_done)
		hystart(t, cubic_of(t), rtt_us, now);
}

/* ---- congestion avoidance ---- */

static void epoch_start(struct tcp_conn *t, struct cubic *c, usec_t now)
{
	uint32_t w = (uint32_t)((uint64_t)t->cwnd * SCALE / t->snd_mss);

	c->epoch_ms = tcp_ts_clock(now) | 1;
	c->credit = 0;
	c->w_est = w;
	if (c->w_max <= w) {
		c->k_ms = 0;
		c->w_max = w;
	} else { /* K^3 in ms^3 = (segments / 0.4) * 10^9 */
		c->k_ms = cbrt64((uint64_t)(c->w_max - w) * 2500000000ull / SCALE);
	}
}

/* W_cubic at @ms after the start of the epoch, in segments * SCALE */
static uint64_t w_cubic(const struct cubic *c, uint64_t ms)
{
	uint64_t d = ms > c->k_ms ? ms - c->k_ms : c->k_ms - ms, delta;

	if (d > 1000000)
		d = 1000000;
	delta = d * d / 1000 * d / 2500 * SCALE / 1000; /* 0.4 d^3 / 10^9 */
	if (ms >= c->k_ms)
		return c->w_max + delta;
	return delta < c->w_max ? c->w_max - delta : 0;
}

static void avoid(struct tcp_conn *t, struct cubic *c, uint32_t acked, usec_t now)
{
	uint64_t w = (uint64_t)t->cwnd * SCALE / t->snd_mss, target, per;
	uint32_t ms;

	if (c->epoch_ms == 0)
		epoch_start(t, c, now);
	ms = tcp_ts_clock(now) - c->epoch_ms + (t->srtt_us >> 3) / 1000;
	if ((int32_t)ms < 0)
		ms = 0;
	target = w_cubic(c, ms);
	if (target > w + w / 2)
		target = w + w / 2; /* RFC 9438 4.2 */
	/*
	 * Reno-friendly region, 4.3: alpha segments per window acknowledged. Once it has passed w_max too, where the RFC would
	 * have one: Linux does not, and beside ours its flow would get less.
	 */
	c->w_est += (uint32_t)((uint64_t)ALPHA * acked / t->cwnd);
	if (target < c->w_est)
		target = c->w_est;
	/* cwnd grows by (target - cwnd) / cwnd per segment acknowledged: one segment for each cwnd / (target - cwnd) segments */
	per = target > w ? (uint64_t)t->snd_mss * w / (target - w) : (uint64_t)t->cwnd * 100;
	cc_grow(t, &c->credit, acked, per > UINT32_MAX ? UINT32_MAX : (uint32_t)per);
}

static void cubic_ack(struct tcp_conn *t, uint32_t acked, uint32_t rtt_us, usec_t now)
{
	struct cubic *c = cubic_of(t);

	(void)rtt_us;
	if (t->cwnd < t->ssthresh) {
		uint32_t n = !c->hs_done && c->css_baseline ? acked / HS_CSS_DIVISOR : acked, left;

		left = cc_slow_start(t, n);
		if (t->cwnd < t->ssthresh)
			return;
		acked = left;
	}
	if (acked > 0)
		avoid(t, c, acked, now);
}

/* RFC 9438 4.6 and 4.7: multiplicative decrease, fast convergence */
static uint32_t cubic_ssthresh(struct tcp_conn *t, usec_t now)
{
	struct cubic *c = cubic_of(t);
	uint32_t w = (uint32_t)((uint64_t)t->cwnd * SCALE / t->snd_mss), ss;

	(void)now;
	c->w_max_prior = c->w_max;
	c->w_max = w < c->w_max ? (uint32_t)((uint64_t)w * (SCALE + BETA) / (2 * SCALE)) : w;
	c->epoch_ms = 0;
	c->hs_done_prior = c->hs_done;
	c->hs_done = 1;
	ss = (uint32_t)((uint64_t)t->cwnd * BETA / SCALE);
	return ss > 2 * t->snd_mss ? ss : 2 * t->snd_mss;
}

static void cubic_undo(struct tcp_conn *t)
{
	struct cubic *c = cubic_of(t);

	c->w_max = c->w_max_prior;
	c->epoch_ms = 0;
	c->hs_done = c->hs_done_prior; /* else what is left of slow start would run into the end of the queue */
}

static void cubic_restart(struct tcp_conn *t, usec_t idle_us)
{
	cc_idle_restart(t, idle_us);
	cubic_of(t)->epoch_ms = 0; /* time in which nothing was sent must not count as growth (RFC 9438 4.2) */
}

static void cubic_timeout(struct tcp_conn *t)
{
	cubic_of(t)->epoch_ms = 0;
}

/* The epoch would end with the next segment anyway (cubic_restart()) */
static void cubic_rest(const struct tcp_conn *t, uint32_t *keep)
{
	const struct cubic *c = (const struct cubic *)t->cc;

	keep[0] = c->w_max;
	keep[1] = c->hs_done;
}

static void cubic_resume(struct tcp_conn *t, const uint32_t *keep)
{
	cubic_of(t)->w_max = cubic_of(t)->w_max_prior = keep[0];
	cubic_of(t)->hs_done = cubic_of(t)->hs_done_prior = keep[1];
}

const struct cc_ops cc_cubic = {
	.name = "cubic", .init = cubic_init, .ack = cubic_ack, .sample = cubic_sample, .ssthresh = cubic_ssthresh, .undo = cubic_undo,
	.restart = cubic_restart, .timeout = cubic_timeout, .rest = cubic_rest, .resume = cubic_resume,
};
