/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_pace.c - frames at a rate instead of in bursts
 *
 * A connection is paced where its congestion control says so (BBR) or the program set SO_MAX_PACING_RATE; others have
 * pace_Bps 0 and pay one comparison. pace_at is when the next frame may leave: each one moves it on by the time it takes
 * at that rate. The wheel wakes us up to one of its ticks late, and output may be held back for a moment; so up to
 * PACE_SLACK_US are made up for, and the rate holds on average without a timer of microseconds.
 *
 * Without pacing too a frame is no larger than what the connection sends in a millisecond: 64 KiB at once would overrun a
 * shallow queue on a path that is slower than our device, and tear gaps into the stream of acknowledgments.
 */
#include "tcp_priv.h"

#define PACE_SLACK_US	   1000u
#define PACE_FRAME_SHIFT   10 /* a 1,024th of a second in one frame, as Linux's sk_pacing_shift */
#define PACE_FRAME_SEGS	   2u
#define TSO_RTT_SHIFT	   9 /* Linux's tcp_tso_rtt_log: half of a frame for each 512 us */
#define PACE_SS_PERCENT	   200u /* Linux's tcp_pacing_ss_ratio and tcp_pacing_ca_ratio */
#define PACE_CA_PERCENT	   120u

/* Octets in a second that the window lets go, with room for its growth; 0 before the first round trip */
uint64_t tcp_pace_rate(const struct tcp_conn *t)
{
	uint32_t percent = t->cwnd < t->ssthresh / 2 ? PACE_SS_PERCENT : PACE_CA_PERCENT;

	return t->srtt_us >> 3 ? (uint64_t)t->cwnd * percent * (1000000 / 100) / (t->srtt_us >> 3) : 0;
}

void tcp_pace_update(struct tcp_conn *t)
{
	uint64_t most = t->opts.max_pacing_Bps, rate;

	if (t->cc_cell) { /* sets its own rate; only the limit is ours */
		if (most && t->pace_Bps > most)
			t->pace_Bps = most;
		return;
	}
	if (!most) {
		t->pace_Bps = 0;
		return;
	}
	rate = tcp_pace_rate(t);
	t->pace_Bps = rate && rate < most ? rate : most;
	if (t->pace_Bps == 0)
		t->pace_Bps = 1;
}

bool tcp_pace_waits(struct stack *st, struct tcp_conn *t, usec_t now)
{
	if (now >= t->pace_at)
		return false;
	tcp_timer_set(st, t, TCPT_PACE, t->pace_at);
	return true;
}

void tcp_pace_sent(struct tcp_conn *t, uint32_t len, usec_t now)
{
	usec_t from = t->pace_at + PACE_SLACK_US > now ? t->pace_at : now - PACE_SLACK_US;

	t->pace_at = from + (uint64_t)len * 1000000 / t->pace_Bps;
}

static uint32_t frame_of(const struct tcp_conn *t, uint64_t n)
{
	uint64_t least = (uint64_t)PACE_FRAME_SEGS * t->snd_mss;

	if (n < least)
		n = least;
	return n > UINT32_MAX ? UINT32_MAX : (uint32_t)(n - n % t->snd_mss);
}

uint32_t tcp_pace_frame_max(const struct tcp_conn *t)
{
	return frame_of(t, t->pace_Bps >> PACE_FRAME_SHIFT);
}

/**
 * tcp_tso_frame_max() - as Linux's tcp_tso_autosize(): a millisecond's worth, and more to those who are near
 * @gso:	what the device takes at most
 *
 * Up to half a millisecond of round trip that is all; a batch saves more than it can disturb there.
 */
uint32_t tcp_tso_frame_max(const struct tcp_conn *t, uint32_t gso)
{
	uint32_t near = t->min_rtt_us >> TSO_RTT_SHIFT, n;

	if (near == 0 || t->srtt_us >> 3 == 0)
		return gso;
	n = frame_of(t, (tcp_pace_rate(t) >> PACE_FRAME_SHIFT) + (near < 16 ? gso >> near : 0));
	return n < gso ? n : gso;
}
