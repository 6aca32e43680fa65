/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_mtu.c - path MTU: what routers say (RFC 1191), and what can be found out without them (RFC 4821)
 *
 * What an ICMP message says is kept for the destination (dst.c) and concerns all its connections: path_gen changes, and
 * each looks again before it sends (send_new()).
 *
 * Black holes: some routers drop large packets and say nothing. With tcp_mtu_probing 1, as in Linux, a connection whose
 * full segments are not acknowledged for as long as tcp_retries1 takes falls back to packets that carry 1,024 octets,
 * at the next such silence to half of that, not below 48. pmtu_bytes holds the size that is thought to pass. From there
 * the search goes up again: when there is enough data, one segment of a larger size is sent among the others. First
 * the full size, since an outage of any other kind looks the same; then by bisection between what passed and what did
 * not, until they are less than eight octets apart. After ten minutes it starts again.
 *
 * A lost probe is repaired by the usual recovery in segments of the usual size. It counts as congestion there.
 */
#include "tcp_priv.h"

#define MTU_BASE_MSS	 1024u	/* Linux's tcp_base_mss */
#define MTU_FLOOR_MSS	 48u
#define MTU_CLOSE_BYTES	 8u	/* Linux's tcp_probe_threshold */
#define MTU_AGAIN_MS	 600000u /* Linux's tcp_probe_interval */

static uint32_t headers(const struct tcp_conn *t)
{
	return TCP_HDR_BYTES + (ipaddr_is_v4(t->raddr) ? 20u : 40u);
}

uint32_t tcp_path_mtu(const struct stack *st, const struct tcp_conn *t)
{
	uint32_t mtu = ip_mtu(st, &t->raddr);

	return t->pmtu_bytes && t->pmtu_bytes < mtu ? t->pmtu_bytes : mtu;
}

/**
 * tcp_mtu_blackhole() - nothing was acknowledged for long: perhaps only because it was too large
 *
 * Nothing in flight was larger than the base size: then that is not the reason.
 */
void tcp_mtu_blackhole(struct stack *st, struct tcp_conn *t, usec_t now)
{
	uint32_t opts = t->flags & TF_TS ? TCP_OPT_TS_BYTES : 0, mss = t->pmtu_bytes ? t->snd_mss / 2 : MTU_BASE_MSS - opts;

	if (!st->ctl.tcp_mtu_probing)
		return;
	if (mss < MTU_FLOOR_MSS)
		mss = MTU_FLOOR_MSS;
	if (tcp_flight(t) <= mss || t->snd_mss <= mss)
		return;
	CNT(st, TcpExtTCPMTUBlackHole);
	t->mtu_high = 0;
	t->mtu_probe_len = 0;
	t->mtu_at_ms = tcp_ts_clock(now);
	t->pmtu_bytes = (uint16_t)(mss + opts + headers(t));
	tcp_mss_sync(st, t);
}

/* The largest that might pass, as a packet. 0: the search is over for now */
static uint32_t probe_size(const struct stack *st, struct tcp_conn *t, usec_t now)
{
	uint32_t max = ip_mtu(st, &t->raddr);

	if (t->mtu_high && tcp_ts_clock(now) - t->mtu_at_ms > MTU_AGAIN_MS)
		t->mtu_high = 0;
	if (t->mtu_high == 0)
		return max;
	if (t->mtu_high < max)
		max = t->mtu_high;
	return max - t->pmtu_bytes < MTU_CLOSE_BYTES || max <= t->pmtu_bytes ? 0 : (t->pmtu_bytes + max + 1u) / 2;
}

/**
 * tcp_mtu_probe_len() - shall the next new segment be a probe
 * @unsent:	octets that wait
 *
 * Return: its payload, 0: no
 */
uint32_t tcp_mtu_probe_len(struct stack *st, struct tcp_conn *t, uint32_t unsent, usec_t now)
{
	uint32_t size, len, needed;

	if (t->mtu_probe_len || t->ca_state != TCP_CA_OPEN || t->rexmt_start || t->flags & TF_URG)
		return 0;
	size = probe_size(st, t, now);
	if (size <= t->pmtu_bytes)
		return 0;
	len = t->snd_mss + size - t->pmtu_bytes;
	needed = len + (t->reordering + 1) * t->snd_mss; /* what follows must show its loss by duplicate acknowledgments */
	if (len > t->peer_mss || unsent < needed || t->cwnd < needed || t->snd_wnd < tcp_flight(t) + needed)
		return 0;
	return len;
}

void tcp_mtu_probe_sent(struct tcp_conn *t, uint32_t end, uint32_t len)
{
	t->mtu_probe_end = end;
	t->mtu_probe_len = (uint16_t)len;
}

/* snd_una moved: has it reached the end of the probe */
void tcp_mtu_acked(struct stack *st, struct tcp_conn *t)
{
	if (seq_lt(t->snd_una, t->mtu_probe_end))
		return;
	CNT(st, TcpExtTCPMTUPSuccess);
	t->pmtu_bytes = (uint16_t)(t->pmtu_bytes + t->mtu_probe_len - t->snd_mss);
	t->mtu_probe_len = 0;
	if (t->pmtu_bytes >= ip_mtu(st, &t->raddr))
		t->pmtu_bytes = t->mtu_high = 0;
	tcp_mss_sync(st, t);
}

/* What is sent again begins at @seq: the probe did not pass, if it is part of that */
void tcp_mtu_lost(struct stack *st, struct tcp_conn *t, uint32_t seq, usec_t now)
{
	if (seq_geq(seq, t->mtu_probe_end) || seq_lt(seq, t->mtu_probe_end - t->mtu_probe_len))
		return;
	CNT(st, TcpExtTCPMTUPFail);
	t->mtu_high = (uint16_t)(t->pmtu_bytes + t->mtu_probe_len - t->snd_mss - 1);
	t->mtu_at_ms = tcp_ts_clock(now);
	t->mtu_probe_len = 0;
}
