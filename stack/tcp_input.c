/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_input.c - segment arrival, in the order of RFC 9293 3.10.7
 *
 * Theory of operation
 *
 * tcp_input() reads the header and finds whom it is for by a keyed hash of the 4-tuple: a connection, a half-open
 * request or a TIME_WAIT; failing that a listener by its port; failing that nobody, who answers with a reset.
 *
 * tcp_segment() walks the RFC's steps for a connection. Each step is a function that says whether to go on:
 *
 *   1. acceptable()  timestamps (RFC 7323 5), sequence number; what fails is acknowledged, not oftener than twice a second
 *   2.               RST (RFC 5961 3)
 *   4.               SYN in a connection (RFC 5961 4): challenge
 *   5. take_ack()    what was sent leaves the queue; round trip, window, recovery, congestion control; our FIN
 *   6. tcp_urg_take()  urgent data
 *   7. 8.            tcp_recv_data(): payload and FIN
 *
 * Nothing is sent from here but challenges: what is owed is marked, the connection put into st->tcp_out.
 */
#include <errno.h>
#include <string.h>
#include "tcp_priv.h"

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return __builtin_bswap32(v);
}

static bool seg_parse(const struct frame *f, const struct ip_rx *ip, struct tcp_seg *ret_s)
{
	const uint8_t *h = ip->l4_len >= TCP_HDR_BYTES ? frame_pull(f, ip->l4_off, ip->l4_len) : NULL;
	uint32_t hdr_len;

	if (!h)
		return false;
	hdr_len = (uint32_t)(h[12] >> 4) * 4;
	if (hdr_len < TCP_HDR_BYTES || hdr_len > ip->l4_len)
		return false;
	ret_s->sport = (uint16_t)(h[0] << 8 | h[1]);
	ret_s->dport = (uint16_t)(h[2] << 8 | h[3]);
	ret_s->seq = get32(h + 4);
	ret_s->ack = get32(h + 8);
	ret_s->flags = h[13];
	ret_s->wnd = (uint16_t)(h[14] << 8 | h[15]);
	ret_s->urg = (uint16_t)(h[18] << 8 | h[19]);
	ret_s->data = h + hdr_len;
	ret_s->len = ip->l4_len - hdr_len;
	ret_s->gso_size = (f->vnet.gso_type & ~VNET_GSO_ECN) != VNET_GSO_NONE ? f->vnet.gso_size : 0;
	ret_s->tos = ip->tos;
	ret_s->isn = 0;
	tcp_opts_parse(h + TCP_HDR_BYTES, hdr_len - TCP_HDR_BYTES, &ret_s->o);
	return true;
}

/* Who has this 4-tuple; the three kinds keep it in different places. */
static struct hnode *conn_find(struct stack *st, const struct ip_rx *ip, const struct tcp_seg *s)
{
	uint32_t hash = siphash_tuple(&st->key_tuple, &ip->dst, s->dport, &ip->src, s->sport);
	struct hnode *n;

#define SAME(o)                                                                                      \
	((o)->lport == s->dport && (o)->rport == s->sport && ipaddr_eq((o)->raddr, ip->src) &&        \
	 ipaddr_eq((o)->laddr, ip->dst))
	for (n = htab_first(&st->conns, hash); n; n = htab_next(n)) {
		if (n->kind == TCP_NODE_TCB && SAME(container_of(n, struct tcb, node)))
			return n;
		if (n->kind == TCP_NODE_REQ && SAME(container_of(n, struct tcp_req, node)))
			return n;
		if (n->kind == TCP_NODE_TW && SAME(container_of(n, struct tcp_tw, node)))
			return n;
	}
#undef SAME
	return NULL;
}

void tcp_input(struct stack *st, const struct frame *f, const struct ip_rx *ip, usec_t now)
{
	struct tcp_seg s;
	struct hnode *n;
	struct tcp_conn *l;

	CNT(st, TcpInSegs);
	if (!seg_parse(f, ip, &s)) {
		CNT(st, TcpInErrs);
		drop(st, DROP_TCP_MALFORMED);
		return;
	}
	n = conn_find(st, ip, &s);
	if (n) {
		switch ((enum tcp_node_kind)n->kind) {
		case TCP_NODE_TCB:
			l = tcp_wake(st, container_of(n, struct tcb, node), now);
			if (l)
				tcp_segment(st, l, &s, now);
			else
				drop(st, DROP_NO_MEMORY);
			return;
		case TCP_NODE_REQ:
			tcp_req_segment(st, container_of(n, struct tcp_req, node), ip, &s, now);
			return;
		case TCP_NODE_TW:
			tcp_tw_segment(st, container_of(n, struct tcp_tw, node), ip, &s, now);
			return;
		case TCP_NODE_LISTEN:
			break;
		}
	}
	l = tcp_listen_lookup(st, &ip->dst, s.dport, &ip->src, s.sport);
	if (l) {
		tcp_listen_segment(st, l, ip, &s, now);
		return;
	}
	drop(st, DROP_TCP_NO_SOCKET);
	tcp_xmit_rst_reply(st, &ip->dst, &ip->src, &s, now);
}

/* ---- challenges ---- */

/* RFC 5961 7: so many in a second for the whole host */
bool tcp_challenge_allowed(struct stack *st, usec_t now)
{
	if (now - st->challenge_at >= SEC(1)) {
		st->challenge_at = now;
		st->challenge_left = st->ctl.tcp_challenge_ack_limit;
	}
	if (st->challenge_left == 0)
		return false;
	st->challenge_left--;
	return true;
}

/* Linux's tcp_invalid_ratelimit: two ends that disagree must not answer one another for ever */
bool tcp_oow_allowed(uint32_t *at_ms, usec_t now)
{
	uint32_t ms = tcp_ts_clock(now) | 1;

	if (*at_ms && ms - *at_ms < TCP_OOW_RATE_MS)
		return false;
	*at_ms = ms;
	return true;
}

/* The same for who has but 16 bits: after a minute of silence it may forbid one answer too many */
bool tcp_oow_short(uint16_t *at_ms, usec_t now)
{
	uint16_t ms = (uint16_t)(tcp_ts_clock(now) | 1);

	if (*at_ms && (uint16_t)(ms - *at_ms) < TCP_OOW_RATE_MS)
		return false;
	*at_ms = ms;
	return true;
}

static void challenge(struct stack *st, struct tcp_conn *t, usec_t now)
{
	if (!tcp_oow_allowed(&t->oow_at_ms, now) || !tcp_challenge_allowed(st, now)) {
		CNT(st, TcpExtTCPACKSkipped);
		return;
	}
	CNT(st, TcpExtTCPChallengeACK);
	tcp_xmit_ack(st, t, now);
}

/* The answer to what is not acceptable: data gets it each time, since its sender may have lost our ACK. */
static void answer_unacceptable(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s, usec_t now)
{
	if ((s->len == 0 || s->flags & TH_SYN) && !tcp_oow_allowed(&t->oow_at_ms, now)) {
		CNT(st, TcpExtTCPACKSkipped);
		return;
	}
	t->flags |= TF_ACK_NOW;
	if (t->flags & TF_SACK && s->len > 0 && seq_lt(s->seq, t->rcv_nxt)) {
		t->flags |= TF_DSACK;
		t->dsack_start = s->seq;
		t->dsack_end = seq_min(tcp_seg_end(s), t->rcv_nxt);
	}
	tcp_output_want(st, t);
}

/* ---- steps 1 to 4 ---- */

static bool paws_old(const struct tcp_conn *t, const struct tcp_seg *s, usec_t now)
{
	if (!(t->flags & TF_TS) || !s->o.ts || (int32_t)(t->ts_recent - s->o.ts_val) <= 1)
		return false;
	if (tcp_ts_clock(now) - t->ts_recent_ms >= TCP_PAWS_24DAYS_MS)
		return false; /* RFC 7323 5.5: ts_recent itself is too old */
	return !(s->len == 0 && s->seq == t->rcv_nxt && !(s->flags & (TH_SYN | TH_FIN))); /* a pure ACK overtaken by others */
}

static void reset_by_peer(struct stack *st, struct tcp_conn *t)
{
	int err = t->state == TCPS_CLOSE_WAIT ? EPIPE : ECONNRESET;

	if (t->state == TCPS_ESTABLISHED || t->state == TCPS_CLOSE_WAIT)
		CNT(st, TcpEstabResets);
	if (t->state == TCPS_SYN_SENT || (t->state == TCPS_SYN_RECEIVED && !(t->flags & TF_FASTOPEN)))
		err = ECONNREFUSED;
	tcp_fail(st, t, err);
}

/* Our SYN crossed the peer's and this is its answer to ours: the SYN flag is no offence then (also: connection to itself) */
static bool crossed_syn_ack(const struct tcp_conn *t, const struct tcp_seg *s)
{
	return t->state == TCPS_SYN_RECEIVED && s->flags & TH_ACK && s->len == 0 && s->seq + 1 == t->rcv_nxt &&
	       s->ack == t->snd_nxt;
}

static bool acceptable(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s, usec_t now)
{
	bool rst = s->flags & TH_RST;
	uint32_t wnd_end = seq_max(t->rcv_adv, t->rcv_nxt);

	if (!rst && paws_old(t, s, now)) {
		CNT(st, TcpExtPAWSEstab);
		drop(st, DROP_TCP_PAWS);
		answer_unacceptable(st, t, s, now);
		return false;
	}
	if (seq_lt(tcp_seg_end(s), t->rcv_wup) || seq_gt(s->seq, wnd_end)) {
		drop(st, rst ? DROP_TCP_RST : DROP_TCP_OUT_OF_WINDOW);
		if (!rst)
			answer_unacceptable(st, t, s, now);
		return false;
	}
	if (rst) {
		if (s->seq == t->rcv_nxt) {
			reset_by_peer(st, t);
		} else {
			drop(st, DROP_TCP_RST);
			challenge(st, t, now);
		}
		return false;
	}
	if (s->flags & TH_SYN && !crossed_syn_ack(t, s)) {
		CNT(st, TcpExtTCPSynChallenge);
		drop(st, DROP_TCP_SYN);
		challenge(st, t, now);
		return false;
	}
	return true;
}

/* RFC 7323 4.3 */
static void take_timestamp(struct tcp_conn *t, const struct tcp_seg *s, usec_t now)
{
	if (!(t->flags & TF_TS) || !s->o.ts || seq_gt(s->seq, t->rcv_wup))
		return;
	if ((int32_t)(s->o.ts_val - t->ts_recent) < 0 && tcp_ts_clock(now) - t->ts_recent_ms < TCP_PAWS_24DAYS_MS)
		return;
	t->ts_recent = s->o.ts_val;
	t->ts_recent_ms = tcp_ts_clock(now);
}

/* ---- step 5 ---- */

/* Octets below @ack leave the send queue. The last cell stays while a writer fills it. */
static void snd_free(struct stack *st, struct tcp_conn *t, uint32_t ack)
{
	uint32_t upto = seq_min(ack, t->write_seq);
	struct cell *c;

	while ((c = t->snd_head) && seq_leq(c->seq + c->len, upto)) {
		if (c == t->snd_tail && t->flags & TF_SND_BUSY) {
			c->off += c->len;
			c->seq += c->len;
			c->len = 0;
			return;
		}
		t->snd_head = c->next;
		if (!t->snd_head)
			t->snd_tail = NULL;
		if (t->snd_cur == c)
			t->snd_cur = NULL;
		if (t->snd_rx == c)
			t->snd_rx = NULL;
		t->snd_mem_bytes -= cell_block(c);
		cell_put(st, c);
	}
	if (c && seq_lt(c->seq, upto)) {
		uint32_t n = upto - c->seq;

		c->off += n;
		c->len -= n;
		c->seq += n;
	}
}

/**
 * rtt_by_ts() - round trip by timestamp (RFC 7323 4.1), where the logs give none
 *
 * Karn: what was sent twice gives no sample but by its timestamp. In good order the segments between timed ones give
 * none either: a millisecond's grain would only blur.
 *
 * Return: microseconds, UINT32_MAX: no sample
 */
static uint32_t rtt_by_ts(const struct tcp_conn *t, const struct tcp_seg *s, const struct tcp_ack_state *a, usec_t now)
{
	uint32_t ms;

	if (!(t->flags & TF_TS) || !s->o.ts || !s->o.ts_ecr || (t->ca_state < TCP_CA_RECOVERY && !a->rexmt))
		return UINT32_MAX;
	ms = t->ts_offset + tcp_ts_clock(now) - s->o.ts_ecr;
	return ms < 120000 ? (ms ? ms : 1) * 1000 : UINT32_MAX;
}

static void take_rtt(struct tcp_conn *t, const struct tcp_seg *s, struct tcp_ack_state *a, usec_t now)
{
	if (a->rexmt)
		a->rtt_us = UINT32_MAX;
	if (a->rtt_us == UINT32_MAX && a->acked)
		a->rtt_us = rtt_by_ts(t, s, a, now);
	if (a->rtt_us != UINT32_MAX) {
		tcp_rtt_sample(t, a->rtt_us);
		if (a->acked)
			t->backoff = 0;
	}
	if (t->snd_una == t->snd_nxt)
		return;
	if (a->acked && a->acked <= t->snd_mss && tcp_tx_age(t, now) <= (t->srtt_us >> 3) + (t->srtt_us >> 5))
		t->flags |= TF_PEER_QUICK; /* no segment of this flight waits for a second one */
	else
		t->flags &= ~TF_PEER_QUICK;
}

/* RFC 9293 3.10.7.4; Linux also takes a larger window, or none, from an equal segment. Return: it changed */
static bool take_window(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s)
{
	uint32_t wnd = (uint32_t)s->wnd << (s->flags & TH_SYN ? 0 : t->snd_wind_shift);
	bool changed;

	if (!seq_gt(s->ack, t->snd_una) && !seq_gt(s->seq, t->snd_wl1) &&
	    !(s->seq == t->snd_wl1 && (wnd > t->snd_wnd || wnd == 0)))
		return false;
	changed = wnd != t->snd_wnd;
	t->snd_wl1 = s->seq;
	t->snd_wl2 = s->ack;
	t->snd_wnd = wnd;
	if (wnd > t->snd_max_wnd) {
		bool bound = t->snd_max_wnd / 2 <= t->snd_mss;

		t->snd_max_wnd = wnd;
		if (bound)
			tcp_mss_sync(st, t);
	}
	return changed;
}

/* Nothing is in flight: window probes go on, or end */
static void ack_probe(struct stack *st, struct tcp_conn *t, usec_t now)
{
	uint32_t unsent = tcp_unsent(t);

	t->probes = 0;
	if (t->snd_una == t->snd_nxt)
		t->rexmt_start = 0;
	if (t->snd_una != t->snd_nxt || t->deadline[TCPT_PERSIST] == USEC_NEVER)
		return;
	if (t->snd_wnd >= (unsent < t->snd_mss ? unsent : t->snd_mss) && t->snd_wnd > 0) {
		t->backoff = 0;
		tcp_timer_clear(t, TCPT_PERSIST);
	} else {
		tcp_persist_arm(st, t, now);
	}
}

/* snd_una moved on */
static void acked_new(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s, struct tcp_ack_state *a, usec_t now)
{
	a->acked = s->ack - t->snd_una;
	t->bytes_acked += a->acked;
	t->retransmits = 0;
	t->rexmt_start = 0;
	tcp_delivered_acked(st, t, s, a, now);
	snd_free(st, t, s->ack);
	t->snd_una = s->ack;
	if (t->flags & TF_URG && seq_geq(t->snd_una, t->snd_up))
		t->flags &= ~TF_URG;
	if (t->mtu_probe_len)
		tcp_mtu_acked(st, t);
	ip_confirm(st, &t->path, now);
}

/* Without SACK a duplicate ACK stands for a segment, which is not counted again when it is acknowledged (RFC 9937 6) */
static uint32_t delivered_bytes(const struct tcp_conn *t, const struct tcp_ack_state *a, uint32_t prior_sacked)
{
	uint32_t before = t->dupacks * t->snd_mss;

	if (t->flags & TF_SACK)
		return a->acked + t->sacked_bytes - prior_sacked;
	if (!a->acked)
		return a->dupack ? t->snd_mss : 0;
	return a->acked > before + t->snd_mss ? a->acked - before : a->acked < t->snd_mss ? a->acked : t->snd_mss;
}

/**
 * take_ack() - step 5 for synchronized states
 *
 * Return: false: the segment goes no further
 */
static bool take_ack(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s, usec_t now)
{
	uint32_t prior_una = t->snd_una, prior_sacked = t->sacked_bytes;
	struct tcp_ack_state a = { .rtt_us = UINT32_MAX, .prior_fack = tcp_sack_fack(t) };
	bool wnd_changed;

	if (seq_gt(s->ack, t->snd_nxt)) {
		drop(st, DROP_TCP_OLD_ACK);
		answer_unacceptable(st, t, s, now);
		return false;
	}
	if (seq_lt(s->ack, t->snd_una)) {
		if (seq_lt(s->ack, t->snd_una - (t->snd_max_wnd > 65535 ? t->snd_max_wnd : 65535))) {
			drop(st, DROP_TCP_OLD_ACK);
			challenge(st, t, now);
			return false;
		}
		if (s->o.n_sack && t->flags & TF_SACK) {
			tcp_sack_take(st, t, s, prior_una, &a, now);
			a.delivered = a.newly_sacked;
			tcp_recovery(st, t, s, &a, now);
		}
		return true; /* overtaken by a later one; its payload counts */
	}
	t->last_ack = now;
	wnd_changed = take_window(st, t, s);
	if (s->ack != t->snd_una)
		acked_new(st, t, s, &a, now);
	else
		a.dupack = s->len == 0 && !wnd_changed && !(s->flags & TH_FIN) && t->snd_una != t->snd_nxt;
	if (a.acked && t->sack)
		tcp_sack_trim(st, t);
	if (s->o.n_sack && t->flags & TF_SACK)
		tcp_sack_take(st, t, s, prior_una, &a, now);
	a.delivered = delivered_bytes(t, &a, prior_sacked);
	if (a.delivered)
		take_rtt(t, s, &a, now);
	if (t->ecn)
		tcp_ecn_ack(st, t, s, now);
	if (a.acked || a.dupack || a.newly_sacked || a.dsack || t->ca_state != TCP_CA_OPEN)
		tcp_recovery(st, t, s, &a, now);
	if (t->cc_cell)
		tcp_cc_ops(t)->model(st, t, now);
	else if (t->pace_Bps)
		tcp_pace_update(t);
	if (a.acked) {
		tcp_rto_arm(st, t, now);
		if (t->flags & TF_NOSPACE)
			tcp_write_space(st, t);
		tcp_acked_info(st, t, now);
	}
	ack_probe(st, t, now);
	if (seq_lt(t->snd_nxt, t->write_seq) || t->ca_state >= TCP_CA_RECOVERY ||
	    (t->flags & TF_FIN_QUEUED && t->snd_nxt == t->write_seq))
		tcp_output_want(st, t);
	return true;
}

/* Our FIN is acknowledged: the state's next step. False: the tcb is gone */
static bool fin_acked(struct stack *st, struct tcp_conn *t, usec_t now)
{
	switch ((enum tcp_state)t->state) {
	case TCPS_FIN_WAIT_1:
		tcp_set_state(t, TCPS_FIN_WAIT_2);
		if (!(t->flags & TF_ORPHAN))
			return true;
		if (t->opts.linger2_s < 0) {
			CNT(st, TcpExtTCPAbortOnLinger);
			tcp_done(st, t);
			return false;
		}
		tcp_timer_set(st, t, TCPT_KEEP, now + tcp_fin_wait_2_us(st, t));
		return true;
	case TCPS_CLOSING:
		tcp_timewait(st, t, now);
		return false;
	case TCPS_LAST_ACK:
		tcp_done(st, t);
		return false;
	case TCPS_ESTABLISHED:
	case TCPS_SYN_SENT:
	case TCPS_SYN_RECEIVED:
	case TCPS_FIN_WAIT_2:
	case TCPS_TIME_WAIT:
	case TCPS_CLOSED:
	case TCPS_CLOSE_WAIT:
	case TCPS_LISTEN:
		break;
	}
	return true;
}

/* ---- handshakes ---- */

/* Options of the peer's SYN decide what both use. */
static void take_syn_options(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s, usec_t now)
{
	t->peer_mss = s->o.mss ? s->o.mss : tcp_mss_unsaid(t->raddr);
	t->flags &= ~(TF_TS | TF_SACK | TF_WSCALE);
	if (s->o.ts && st->ctl.tcp_timestamps) {
		t->flags |= TF_TS;
		t->ts_recent = s->o.ts_val;
		t->ts_recent_ms = tcp_ts_clock(now);
	}
	if (s->o.sack_ok && st->ctl.tcp_sack)
		t->flags |= TF_SACK;
	if (s->o.wscale_ok && st->ctl.tcp_window_scaling) {
		t->flags |= TF_WSCALE;
		t->snd_wind_shift = s->o.wscale;
	} else {
		t->snd_wind_shift = t->rcv_wind_shift = 0;
	}
	/* RFC 3168 6.1.1: a SYN asks with ECE and CWR, a SYN-ACK agrees with ECE alone */
	if ((s->flags & (TH_ECE | TH_CWR)) != (s->flags & TH_ACK ? TH_ECE : TH_ECE | TH_CWR))
		t->ecn = 0;
	t->irs = s->seq;
	t->rcv_nxt = t->rcv_wup = t->copied_seq = t->rcvq_seq = s->seq + 1;
	t->rcv_adv = t->rcv_nxt + (t->rcv_space_bytes < 65535 ? t->rcv_space_bytes : 65535);
	t->snd_wnd = t->snd_max_wnd = s->wnd;
	t->snd_wl1 = s->seq;
	t->snd_wl2 = s->ack;
}

static void established(struct stack *st, struct tcp_conn *t, usec_t now)
{
	tcp_set_state(t, TCPS_ESTABLISHED);
	tcp_timer_clear(t, TCPT_REXMT);
	t->retransmits = t->backoff = 0;
	t->rexmt_start = 0;
	t->last_ack = now;
	tcp_init_transfer(st, t, now);
	tcp_event(st, t, TCP_EV_OUT | TCP_EV_WRNORM);
}

/* RFC 9293 3.10.7.3 */
static void syn_sent(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s, usec_t now)
{
	struct tcp_ack_state a = { .rtt_us = UINT32_MAX, .prior_fack = t->snd_una };

	if (s->flags & TH_ACK && (seq_leq(s->ack, t->iss) || seq_gt(s->ack, t->snd_nxt))) {
		drop(st, DROP_TCP_OLD_ACK);
		tcp_xmit_rst_reply(st, &t->laddr, &t->raddr, s, now);
		return;
	}
	if (s->flags & TH_RST) {
		if (s->flags & TH_ACK) {
			CNT(st, TcpAttemptFails);
			reset_by_peer(st, t);
		} else {
			drop(st, DROP_TCP_RST);
		}
		return;
	}
	if (!(s->flags & TH_SYN)) {
		drop(st, DROP_TCP_FLAGS);
		return;
	}
	take_syn_options(st, t, s, now);
	if (!(s->flags & TH_ACK)) { /* simultaneous open */
		tcp_set_state(t, TCPS_SYN_RECEIVED);
		tcp_xmit_syn(st, t, now);
		tcp_rto_arm(st, t, now);
		return;
	}
	tcp_delivered_acked(st, t, s, &a, now);
	if (t->flags & TF_FASTOPEN || t->snd_nxt != t->iss + 1) {
		tcp_tfo_syn_ack(st, t, s);
		t->flags &= ~TF_FASTOPEN;
		snd_free(st, t, s->ack);
	}
	t->bytes_acked += s->ack - t->iss; /* as Linux: SYN and FIN count */
	t->snd_una = s->ack;
	if (!t->retransmits)
		tcp_rtt_sample(t, a.rtt_us);
	established(st, t, now);
	t->flags |= TF_ACK_NOW;
	tcp_output_want(st, t);
}

/* The handshake of a connection that lived before it: what else @s acknowledges is taken as ever */
static bool tfo_established(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s, usec_t now)
{
	struct tcp_ack_state a = { .rtt_us = UINT32_MAX, .prior_fack = t->snd_una };
	struct tcp_seg syn = { .ack = t->iss + 1 };

	tcp_delivered_acked(st, t, &syn, &a, now);
	if (t->retransmits == 0 && a.rtt_us != UINT32_MAX)
		tcp_rtt_sample(t, a.rtt_us);
	t->snd_una = t->iss + 1;
	tcp_tfo_end(st, t);
	tcp_set_state(t, TCPS_ESTABLISHED);
	t->retransmits = t->backoff = 0;
	t->rexmt_start = 0;
	if (t->rto_us < TCP_RTO_MIN_US)
		t->rto_us = TCP_RTO_MIN_US;
	tcp_rto_arm(st, t, now);
	tcp_keep_arm(st, t, now);
	tcp_event(st, t, TCP_EV_OUT | TCP_EV_WRNORM);
	tcp_output_want(st, t);
	if (t->flags & TF_FIN_QUEUED)
		tcp_set_state(t, TCPS_FIN_WAIT_1);
	else if (t->flags & TF_FIN_RCVD)
		tcp_set_state(t, TCPS_CLOSE_WAIT);
	return take_ack(st, t, s, now);
}

/* Step 5 in SYN_RECEIVED, reached by crossed SYNs only; listeners keep requests instead. False: segment dropped */
static bool syn_received_ack(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s, usec_t now)
{
	if (seq_leq(s->ack, t->snd_una) || seq_gt(s->ack, t->snd_nxt)) {
		drop(st, DROP_TCP_OLD_ACK);
		tcp_xmit_rst_reply(st, &t->laddr, &t->raddr, s, now);
		return false;
	}
	if (t->flags & TF_FASTOPEN)
		return tfo_established(st, t, s, now);
	t->snd_una = s->ack;
	tcp_logs_clear(st, t);
	t->snd_wnd = (uint32_t)s->wnd << (s->flags & TH_SYN ? 0 : t->snd_wind_shift);
	t->snd_max_wnd = t->snd_wnd > t->snd_max_wnd ? t->snd_wnd : t->snd_max_wnd;
	t->snd_wl1 = s->seq;
	t->snd_wl2 = s->ack;
	established(st, t, now);
	if (t->flags & TF_FIN_QUEUED) {
		tcp_set_state(t, TCPS_FIN_WAIT_1);
		tcp_output_want(st, t);
	}
	if (s->flags & TH_SYN) {
		t->flags |= TF_ACK_NOW;
		tcp_output_want(st, t);
	}
	return true;
}

/* Nobody is left to read: data that comes after close() is answered with a reset (RFC 9293 3.10.7.4 seventh, Linux) */
static bool data_after_close(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s, usec_t now)
{
	if (!(t->flags & TF_RCV_SHUT) || s->len == 0 || !seq_gt(s->seq + s->len, t->rcv_nxt) || t->flags & TF_FIN_RCVD)
		return false;
	if (t->state != TCPS_FIN_WAIT_1 && t->state != TCPS_FIN_WAIT_2)
		return false;
	CNT(st, TcpExtTCPAbortOnData);
	tcp_xmit_rst_reply(st, &t->laddr, &t->raddr, s, now);
	tcp_fail(st, t, ECONNRESET);
	return true;
}

void tcp_segment(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s, usec_t now)
{
	tcp_touch(st, t);
	t->segs_in += s->gso_size && s->gso_size < s->len ? (s->len + s->gso_size - 1) / s->gso_size : 1;
	if (t->state == TCPS_SYN_SENT) {
		syn_sent(st, t, s, now);
		return;
	}
	if (t->flags & TF_FASTOPEN && (s->flags & (TH_SYN | TH_ACK | TH_RST)) == TH_SYN && s->seq == t->irs) {
		if (tcp_oow_allowed(&t->oow_at_ms, now)) /* our SYN-ACK was lost */
			tcp_xmit_syn(st, t, now);
		return;
	}
	if (!acceptable(st, t, s, now))
		return;
	take_timestamp(t, s, now);
	if (!(s->flags & TH_ACK)) {
		drop(st, DROP_TCP_FLAGS);
		return;
	}
	if (t->state == TCPS_SYN_RECEIVED) {
		if (!syn_received_ack(st, t, s, now))
			return;
	} else if (!take_ack(st, t, s, now)) {
		return;
	}
	if (t->flags & TF_FIN_QUEUED && t->snd_una == t->write_seq + 1 && !fin_acked(st, t, now))
		return;
	if (data_after_close(st, t, s, now))
		return;
	if (t->ecn && s->len > 0)
		tcp_ecn_seen(st, t, s);
	if (s->flags & TH_URG || t->urg_data == TCP_URG_NOTYET)
		tcp_urg_take(st, t, s);
	tcp_recv_data(st, t, s, now);
}
