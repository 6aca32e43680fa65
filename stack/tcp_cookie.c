/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_cookie.c - SYN cookies: a listener whose SYN queue is full answers without remembering anything
 *
 * Theory of operation
 *
 * Our initial sequence number is made so that the third segment of the handshake proves that its sender got our
 * SYN-ACK, and says which MSS it had offered (Bernstein 1996, layout of Linux's __cookie_v4_init_sequence()):
 *
 *   isn = H1(4-tuple) + peer's isn + (minute << 24) + ((H2(4-tuple, minute) + mss index) mod 2^24)
 *
 * H1 and H2 are SipHash-2-4 under a key used for nothing else. A cookie is good in its minute and the next, and only
 * while the listener has sent cookies in the last two minutes: else an acknowledgment for a listener is what it always
 * was, an error answered by a reset. Who guesses has a chance of 4 in 2^24 for each try.
 *
 * What else a SYN says rides in the lowest six bits of our timestamp, which the peer echoes (as Linux does): window
 * scale in four, 15 for none; SACK and ECN in one each. The timestamp is set back, never forward, to have
 * these bits. A peer without timestamps gets no options but the MSS.
 *
 * What is lost: SYN-ACKs are not sent again, TCP_DEFER_ACCEPT does not wait, the round trip of the handshake is not
 * measured.
 */
#include "tcp_priv.h"

#define MINUTE_US	 SEC(60)
#define COOKIE_AGE_MAX	 2u /* minutes: this one and the one before */
#define COOKIE_BITS	 24
#define COOKIE_MASK	 ((1u << COOKIE_BITS) - 1)
#define TS_OPT_BITS	 6
#define TS_OPT_MASK	 ((1u << TS_OPT_BITS) - 1)
#define TS_OPT_WSCALE	 0xfu /* as the window scale: none */
#define TS_OPT_SACK	 0x10u
#define TS_OPT_ECN	 0x20u
#define OVERFLOW_LIVE_MS 120000u

/* What most paths have; the largest that does not exceed the peer's is taken. */
#define MSS_N 4
static const uint16_t mss_of_v4[MSS_N] = { 536, 1300, 1440, 1460 }, mss_of_v6[MSS_N] = { 1220, 1420, 1440, 8940 };

static const uint16_t *mss_table(const struct tcp_req *r)
{
	return ipaddr_is_v4(r->raddr) ? mss_of_v4 : mss_of_v6;
}

static uint32_t hash1(const struct stack *st, const struct tcp_req *r)
{
	return (uint32_t)siphash_tuple_secret(&st->key_cookie, &r->laddr, r->lport, &r->raddr, r->rport);
}

static uint32_t hash2(const struct stack *st, const struct tcp_req *r, uint32_t minute)
{
	uint64_t w[2] = { siphash_tuple_secret(&st->key_cookie, &r->laddr, r->lport, &r->raddr, r->rport), minute };

	return (uint32_t)siphash24(&st->key_cookie, w, 2);
}

static uint32_t minute_of(usec_t now)
{
	return (uint32_t)(now / MINUTE_US);
}

/* Our clock, set back to the last instant whose lowest bits are those of @r's options */
static uint32_t ts_with_options(const struct tcp_req *r, usec_t now)
{
	uint32_t clock = tcp_ts_clock(now), opts = r->flags & TF_WSCALE ? r->snd_wind_shift : TS_OPT_WSCALE, ts;

	if (r->flags & TF_SACK)
		opts |= TS_OPT_SACK;
	if (r->ecn)
		opts |= TS_OPT_ECN;
	ts = (clock & ~TS_OPT_MASK) | opts;
	return ts > clock ? ts - (1u << TS_OPT_BITS) : ts;
}

/**
 * tcp_cookie_answer() - a SYN-ACK with a cookie
 * @l:	listener, remembers that it has sent one
 * @r:	what the SYN said; lives no longer than this call
 */
void tcp_cookie_answer(struct stack *st, struct tcp_conn *l, struct tcp_req *r, usec_t now)
{
	uint32_t peer_isn = r->rcv_nxt - 1, minute = minute_of(now), i = MSS_N - 1;

	while (i > 0 && mss_table(r)[i] > r->mss)
		i--;
	r->iss = hash1(st, r) + peer_isn + (minute << COOKIE_BITS) + ((hash2(st, r, minute) + i) & COOKIE_MASK);
	if (r->flags & TF_TS) {
		r->ts_offset += ts_with_options(r, now) - tcp_ts_clock(now);
	} else {
		r->flags &= (uint8_t)~(TF_SACK | TF_WSCALE);
		r->rcv_wind_shift = 0;
		r->ecn = 0;
	}
	l->l.overflow_ms = tcp_ts_clock(now) ? tcp_ts_clock(now) : 1;
	CNT(st, TcpExtSyncookiesSent);
	tcp_xmit_synack(st, r, now);
}

/* Index of the MSS, negative: it is no cookie of ours, or too old */
static int cookie_check(const struct stack *st, const struct tcp_req *r, usec_t now)
{
	uint32_t cookie = r->iss - hash1(st, r) - (r->rcv_nxt - 1), minute = minute_of(now), age, i;

	age = (minute - (cookie >> COOKIE_BITS)) & (UINT32_MAX >> COOKIE_BITS);
	if (age >= COOKIE_AGE_MAX)
		return -1;
	i = (cookie - hash2(st, r, minute - age)) & COOKIE_MASK;
	return i < MSS_N ? (int)i : -1;
}

/* The options that our timestamp, come back, carries. False: it is not one we sent with a cookie under today's settings */
static bool options_back(const struct stack *st, const struct tcp_conn *l, const struct tcp_seg *s, struct tcp_req *r)
{
	uint32_t opts = s->o.ts_ecr - r->ts_offset;

	if (!s->o.ts || !s->o.ts_ecr)
		return true;
	if (!st->ctl.tcp_timestamps)
		return false;
	r->flags |= TF_TS;
	r->ts_recent = s->o.ts_val;
	if (opts & TS_OPT_SACK) {
		if (!st->ctl.tcp_sack)
			return false;
		r->flags |= TF_SACK;
	}
	if (opts & TS_OPT_ECN && st->ctl.tcp_ecn)
		r->ecn = ECN_OK;
	if ((opts & TS_OPT_WSCALE) == TS_OPT_WSCALE)
		return true;
	if (!st->ctl.tcp_window_scaling)
		return false;
	r->flags |= TF_WSCALE;
	r->snd_wind_shift = (uint8_t)((opts & TS_OPT_WSCALE) > 14 ? 14 : opts & TS_OPT_WSCALE);
	r->rcv_wind_shift = tcp_rcv_wscale(st, &l->opts);
	return true;
}

/**
 * tcp_cookie_take() - does a segment for a listener complete a handshake that was answered with a cookie
 * @s:		ACK without SYN and RST
 * @r:		addresses and ports filled in; the rest is filled in as the SYN had it
 *
 * Return: true: @r is as if it had been in the SYN queue
 */
bool tcp_cookie_take(struct stack *st, struct tcp_conn *l, const struct tcp_seg *s, struct tcp_req *r, usec_t now)
{
	uint32_t space = l->opts.rcvbuf_bytes / 2, mtu = ip_mtu(st, &r->raddr);
	int i;

	if (!st->ctl.tcp_syncookies || !l->l.overflow_ms || tcp_ts_clock(now) - l->l.overflow_ms > OVERFLOW_LIVE_MS)
		return false;
	r->iss = s->ack - 1;
	r->rcv_nxt = s->seq;
	r->ts_offset = tcp_ts_offset(st, &r->laddr, &r->raddr);
	i = cookie_check(st, r, now);
	if (i < 0 || !options_back(st, l, s, r)) {
		CNT(st, TcpExtSyncookiesFailed);
		return false;
	}
	CNT(st, TcpExtSyncookiesRecv);
	r->mss = mss_table(r)[i];
	r->node.own = s->wnd;
	r->advmss = (uint16_t)(mtu - TCP_HDR_BYTES - (ipaddr_is_v4(r->raddr) ? 20 : 40));
	if (l->opts.maxseg_bytes && l->opts.maxseg_bytes < r->advmss)
		r->advmss = (uint16_t)l->opts.maxseg_bytes;
	r->rcv_wnd = (uint16_t)(space < 65535 ? space : 65535);
	r->tos = tcp_tos_of(&l->opts, r->raddr);
	return true;
}
