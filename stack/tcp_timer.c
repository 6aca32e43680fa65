/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_timer.c - what happens when nothing does (RFC 6298, RFC 9293 3.8)
 *
 * A connection has one entry in the wheel and a deadline for each purpose. The entry is moved only when a deadline
 * is earlier than it; a later one, or one taken back, leaves it where it is: it goes off early, finds nothing due,
 * and is armed anew for what is next. So timers that are set and taken back with each request cost a store each.
 */
#include <errno.h>
#include "tcp_priv.h"

void tcp_timer_set(struct stack *st, struct tcp_conn *t, enum tcp_timer_id id, usec_t at)
{
	t->deadline[id] = at;
	if (!timer_armed(&t->timer) || at < t->timer.at)
		wheel_set(&st->wheel, &t->timer, at);
}

void tcp_timers_off(struct stack *st, struct tcp_conn *t)
{
	for (int i = 0; i < TCP_N_TIMERS; i++)
		t->deadline[i] = USEC_NEVER;
	wheel_cancel(&st->wheel, &t->timer);
}

void tcp_timers_arm(struct stack *st, struct tcp_conn *t)
{
	usec_t at = USEC_NEVER;

	for (int i = 0; i < TCP_N_TIMERS; i++)
		at = t->deadline[i] < at ? t->deadline[i] : at;
	if (at != USEC_NEVER && (!timer_armed(&t->timer) || at < t->timer.at))
		wheel_set(&st->wheel, &t->timer, at);
}

/* ---- round trip and RTO ---- */

void tcp_rto_update(struct tcp_conn *t)
{
	t->rto_us = t->srtt_us ? (t->srtt_us >> 3) + t->rttvar_us : TCP_RTO_INIT_US;
	if (t->rto_us > TCP_RTO_MAX_US)
		t->rto_us = TCP_RTO_MAX_US;
}

/**
 * tcp_rtt_sample() - RFC 6298 2 as Linux's tcp_rtt_estimator() does it
 * @rtt_us:	a sample of a segment sent once
 *
 * srtt is kept 8 fold, mean deviation and rttvar 4 fold. rttvar is the largest deviation of a round trip, never below
 * the 200 ms that Linux has as least RTO, and falls slowly; a shrinking round trip does not raise it.
 */
void tcp_rtt_sample(struct tcp_conn *t, uint32_t rtt_us)
{
	int32_t m = rtt_us ? (int32_t)(rtt_us > TCP_RTO_MAX_US ? TCP_RTO_MAX_US : rtt_us) : 1;

	if (t->min_rtt_us == 0 || (uint32_t)m < t->min_rtt_us)
		t->min_rtt_us = (uint32_t)m;
	if (t->srtt_us == 0) {
		t->srtt_us = (uint32_t)m << 3;
		t->mdev_us = (uint32_t)m << 1;
		t->rttvar_us = t->mdev_us > TCP_RTO_MIN_US ? t->mdev_us : TCP_RTO_MIN_US;
		t->mdev_max_us = t->rttvar_us;
		t->rtt_seq_end = t->snd_nxt;
	} else {
		m -= (int32_t)(t->srtt_us >> 3);
		t->srtt_us += (uint32_t)m;
		if (m < 0) {
			m = -m - (int32_t)(t->mdev_us >> 2);
			if (m > 0)
				m >>= 3;
		} else {
			m -= (int32_t)(t->mdev_us >> 2);
		}
		t->mdev_us += (uint32_t)m;
		if (t->mdev_us > t->mdev_max_us) {
			t->mdev_max_us = t->mdev_us;
			if (t->mdev_max_us > t->rttvar_us)
				t->rttvar_us = t->mdev_max_us;
		}
		if (seq_gt(t->snd_una, t->rtt_seq_end)) {
			if (t->mdev_max_us < t->rttvar_us)
				t->rttvar_us -= (t->rttvar_us - t->mdev_max_us) >> 2;
			t->rtt_seq_end = t->snd_nxt;
			t->mdev_max_us = TCP_RTO_MIN_US;
		}
	}
	tcp_rto_update(t);
}

static usec_t backed_off(const struct tcp_conn *t)
{
	usec_t us = (usec_t)t->rto_us << (t->backoff < 20 ? t->backoff : 20);

	return us < TCP_RTO_MAX_US ? us : TCP_RTO_MAX_US;
}

void tcp_rto_arm(struct stack *st, struct tcp_conn *t, usec_t now)
{
	usec_t at = now + backed_off(t);

	if (t->snd_una == t->snd_nxt) {
		tcp_timer_clear(t, TCPT_REXMT);
		tcp_timer_clear(t, TCPT_RACK);
		t->flags &= ~TF_PEER_QUICK;
		return;
	}
	if (t->opts.user_timeout_ms && t->rexmt_start) { /* no later than the program wants to know */
		usec_t end = t->rexmt_start + MSEC(t->opts.user_timeout_ms);

		at = end < at ? (end > now ? end : now) : at;
	}
	tcp_timer_set(st, t, TCPT_REXMT, at);
	tcp_tail_probe_arm(st, t, now);
}

void tcp_persist_arm(struct stack *st, struct tcp_conn *t, usec_t now)
{
	tcp_timer_set(st, t, TCPT_PERSIST, now + backed_off(t));
}

/* ---- giving up ---- */

/* Time that @boundary retransmissions take with a first RTO of 200 ms: Linux's tcp_model_timeout() */
static usec_t model_timeout(uint32_t boundary)
{
	const uint32_t doublings = 9; /* 200 ms << 9 is the last below 120 s */

	if (boundary <= doublings)
		return ((2ull << boundary) - 1) * TCP_RTO_MIN_US;
	return ((2ull << doublings) - 1) * TCP_RTO_MIN_US + (usec_t)(boundary - doublings) * TCP_RTO_MAX_US;
}

static uint32_t orphan_retries(const struct stack *st, const struct tcp_conn *t)
{
	bool alive = backed_off(t) < TCP_RTO_MAX_US;

	if (t->soft_error && !alive)
		return 0;
	return st->ctl.tcp_orphan_retries ? st->ctl.tcp_orphan_retries : 8;
}

static void give_up(struct stack *st, struct tcp_conn *t)
{
	CNT(st, TcpExtTCPAbortOnTimeout);
	tcp_fail(st, t, t->soft_error ? (int)t->soft_error : ETIMEDOUT);
}

static bool handshake_timeout(struct stack *st, struct tcp_conn *t, usec_t now)
{
	uint32_t most = t->opts.syncnt > 0 ? (uint32_t)t->opts.syncnt :
			t->state == TCPS_SYN_SENT ? st->ctl.tcp_syn_retries : st->ctl.tcp_synack_retries;

	if (t->retransmits >= most ||
	    (t->opts.user_timeout_ms && t->rexmt_start && now - t->rexmt_start >= MSEC(t->opts.user_timeout_ms))) {
		CNT(st, TcpAttemptFails);
		give_up(st, t);
		return false;
	}
	if (t->rexmt_start == 0)
		t->rexmt_start = now - t->rto_us;
	t->retransmits++;
	t->backoff++;
	CNT(st, TcpRetransSegs);
	CNT(st, TcpExtTCPSynRetrans);
	t->total_retrans++;
	if (t->flags & TF_FASTOPEN && t->state == TCPS_SYN_SENT)
		tcp_tfo_syn_lost(st, t);
	tcp_xmit_syn(st, t, now);
	tcp_rto_arm(st, t, now);
	return true;
}

/* All handlers: false: the tcb is gone */
static bool rexmt_timeout(struct stack *st, struct tcp_conn *t, usec_t now)
{
	bool shut_wnd = t->snd_wnd == 0 && !(t->flags & TF_ORPHAN); /* it took back its window, and answers */
	usec_t limit;

	if (t->state == TCPS_SYN_SENT || t->state == TCPS_SYN_RECEIVED)
		return handshake_timeout(st, t, now);
	if (t->snd_una == t->snd_nxt)
		return true;
	if (tcp_tail_probe_allowed(t)) { /* RFC 8985 7.2: where both would go off at once it is a probe */
		if (tcp_tail_probe_xmit(st, t, now))
			tcp_rto_arm(st, t, now);
		else
			tcp_timer_set(st, t, TCPT_REXMT, now + TCP_NO_PBUF_US);
		return true;
	}
	CNT(st, TcpExtTCPTimeouts);
	limit = model_timeout(t->flags & TF_ORPHAN ? orphan_retries(st, t) : st->ctl.tcp_retries2);
	if (t->opts.user_timeout_ms)
		limit = MSEC(t->opts.user_timeout_ms);
	if (shut_wnd && now - t->last_ack < TCP_RTO_MAX_US && !t->opts.user_timeout_ms)
		limit = USEC_NEVER;
	if (t->retransmits > 0 && t->rexmt_start && now - t->rexmt_start >= limit) {
		give_up(st, t);
		return false;
	}
	if (t->rexmt_start == 0)
		t->rexmt_start = now;
	if (t->rexmt_start != now && now - t->rexmt_start >= model_timeout(st->ctl.tcp_retries1))
		tcp_mtu_blackhole(st, t, now);
	tcp_enter_loss(st, t, now);
	if (t->retransmits < UINT8_MAX)
		t->retransmits++;
	if (t->backoff < 16)
		t->backoff++;
	tcp_rto_arm(st, t, now);
	return true;
}

/* Zero-window probes, as Linux's tcp_probe_timer(): as long as it answers we go on, unless nobody waits for it any more */
static bool persist_timeout(struct stack *st, struct tcp_conn *t, usec_t now)
{
	uint32_t most = st->ctl.tcp_retries2;

	if (t->snd_una != t->snd_nxt || (seq_geq(t->snd_nxt, t->write_seq) && !(t->flags & TF_FIN_QUEUED)))
		return true;
	if (t->flags & TF_ORPHAN) {
		most = orphan_retries(st, t);
		if (backed_off(t) >= TCP_RTO_MAX_US && t->backoff >= most) {
			give_up(st, t);
			return false;
		}
	}
	if (t->probes == 0)
		t->rexmt_start = now;
	if (t->probes >= most || (t->opts.user_timeout_ms && t->probes &&
				  now - t->rexmt_start >= MSEC(t->opts.user_timeout_ms))) {
		give_up(st, t);
		return false;
	}
	if (tcp_xmit_probe(st, t, true, now)) {
		CNT(st, TcpExtTCPWinProbe);
		t->probes++;
		if (t->backoff < st->ctl.tcp_retries2 && t->backoff < 16)
			t->backoff++;
	}
	if (t->snd_una == t->snd_nxt)
		tcp_persist_arm(st, t, now);
	return true;
}

/* RFC 8985 6.3 and 7.3 */
static bool rack_timeout(struct stack *st, struct tcp_conn *t, usec_t now)
{
	if (t->snd_una == t->snd_nxt)
		return true;
	if (t->ca_state != TCP_CA_OPEN) {
		tcp_recovery_timeout(st, t, now);
	} else if (tcp_tail_probe_allowed(t)) {
		if (tcp_tail_probe_xmit(st, t, now))
			tcp_rto_arm(st, t, now);
		else
			tcp_timer_set(st, t, TCPT_RACK, now + TCP_NO_PBUF_US);
	}
	return true;
}

static bool delack_timeout(struct stack *st, struct tcp_conn *t, usec_t now)
{
	(void)now;
	if (!(t->flags & TF_ACK_DELAYED))
		return true;
	if (t->flags & TF_PINGPONG) { /* no answer to ride on: not so interactive after all */
		t->flags &= ~TF_PINGPONG;
		t->ato_us = TCP_ATO_MIN_US;
	} else {
		t->ato_us = t->ato_us * 2 < TCP_DELACK_MAX_US ? t->ato_us * 2 : TCP_DELACK_MAX_US;
	}
	CNT(st, TcpExtDelayedACKs);
	t->flags |= TF_ACK_NOW;
	tcp_output_want(st, t);
	return true;
}

static bool cork_timeout(struct stack *st, struct tcp_conn *t, usec_t now)
{
	(void)now;
	t->push_seq = t->write_seq;
	tcp_output_want(st, t);
	return true;
}

static bool pace_timeout(struct stack *st, struct tcp_conn *t, usec_t now)
{
	(void)now;
	tcp_output_want(st, t);
	return true;
}

static usec_t last_heard(const struct tcp_conn *t)
{
	return t->last_rcv > t->last_ack ? t->last_rcv : t->last_ack;
}

void tcp_keep_arm(struct stack *st, struct tcp_conn *t, usec_t now)
{
	usec_t at = last_heard(t) + SEC(t->opts.keepidle_s);

	if (!t->opts.keepalive || !tcp_is_synchronized(t)) {
		if (!(t->flags & TF_ORPHAN))
			tcp_timer_clear(t, TCPT_KEEP);
		return;
	}
	tcp_timer_set(st, t, TCPT_KEEP, at > now ? at : now);
}

/* RFC 9293 3.8.4; for orphans in FIN_WAIT_2 the end of their patience */
static bool keep_timeout(struct stack *st, struct tcp_conn *t, usec_t now)
{
	usec_t idle = now - last_heard(t);
	bool tired;

	if (t->flags & TF_ORPHAN && t->state == TCPS_FIN_WAIT_2) {
		CNT(st, TcpExtTCPAbortOnLinger);
		tcp_done(st, t);
		return false;
	}
	if (!t->opts.keepalive || !tcp_is_synchronized(t))
		return true;
	if (t->snd_una != t->snd_nxt || seq_lt(t->snd_nxt, t->write_seq)) { /* other timers watch over it */
		tcp_timer_set(st, t, TCPT_KEEP, now + SEC(t->opts.keepidle_s));
		return true;
	}
	if (idle < SEC(t->opts.keepidle_s)) {
		tcp_timer_set(st, t, TCPT_KEEP, last_heard(t) + SEC(t->opts.keepidle_s));
		return true;
	}
	tired = t->opts.user_timeout_ms ? t->probes > 0 && idle >= MSEC(t->opts.user_timeout_ms) : t->probes >= t->opts.keepcnt;
	if (tired) {
		tcp_xmit_rst(st, t, now);
		give_up(st, t);
		return false;
	}
	if (tcp_xmit_probe(st, t, false, now)) {
		CNT(st, TcpExtTCPKeepAlive);
		t->probes++;
	}
	tcp_timer_set(st, t, TCPT_KEEP, now + SEC(t->opts.keepintvl_s));
	return true;
}

static void tcb_timer(struct stack *st, struct tcp_conn *t, usec_t now)
{
	static bool (*const handler[TCP_N_TIMERS])(struct stack *, struct tcp_conn *, usec_t) = {
		[TCPT_REXMT] = rexmt_timeout, [TCPT_PERSIST] = persist_timeout, [TCPT_DELACK] = delack_timeout,
		[TCPT_KEEP] = keep_timeout, [TCPT_RACK] = rack_timeout, [TCPT_CORK] = cork_timeout,
		[TCPT_PACE] = pace_timeout, [TCPT_REST] = tcp_rest_timeout,
	};

	tcp_touch(st, t);
	for (int i = 0; i < TCP_N_TIMERS; i++) {
		if (t->deadline[i] > now)
			continue;
		t->deadline[i] = USEC_NEVER;
		if (!handler[i](st, t, now))
			return;
	}
	tcp_timers_arm(st, t);
}

void tcp_timer(struct stack *st, struct timer *t, usec_t now)
{
	switch ((enum timer_kind)t->kind) {
	case TIMER_TCB:
		tcb_timer(st, container_of(t, struct tcp_conn, timer), now);
		break;
	case TIMER_REQUEST:
		tcp_req_timer(st, container_of(t, struct tcp_req, timer), now);
		break;
	case TIMER_TIMEWAIT:
		tcp_tw_expire(st, now);
		break;
	case TIMER_REST:
		tcp_rest_timer(st, container_of(t, struct tcb, timer), now);
		break;
	case TIMER_NONE:
	case TIMER_NEIGH:
	case TIMER_STACK:
	case TIMER_DST:
	case TIMER_FRAG:
	case TIMER_ADDR:
	case TIMER_ND:
		break;
	}
}
