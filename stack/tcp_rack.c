/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_rack.c - when was it sent, and what follows from that: RACK-TLP (RFC 8985)
 *
 * Theory of operation
 *
 * RACK asks of each segment when it was last sent. Kept per segment that would be a record for each; here two logs of
 * ranges say the same in less:
 *
 *   txlog   first transmissions of [snd_una, snd_nxt): a ring of marks (end, time), each from the end of the one before.
 *           Both grow, so what was sent before a moment is everything below one edge: `lost_edge` is enough to say
 *           what is lost of it. Neighbours in time (srtt / 128) share a mark, so a flight has some hundred at most.
 *   rxlog   what was sent again and is not acknowledged: sorted ranges with the time of the last transmission, and
 *           whether that is lost too. Most have one at a time: it is in the tcb, more need a cell.
 *
 * A hole to be sent (again) is what lies below lost_edge, is not SACKed, and is not in rxlog or lost there.
 *
 * Each acknowledgment tells of octets that were not delivered before (tcp_delivered()). The latest transmission among
 * them is (rack_at_us, rack_end), its round trip rack_rtt_us. What was sent before it and longer ago than
 * rack_rtt_us + reordering window is lost (tcp_rack_detect()); for what is not so old yet the timer RACK is set.
 *
 * The same timer asks for the tail loss probe while nothing is SACKed: two round trips without an acknowledgment.
 *
 * Where memory for a log runs out neighbours are joined: a mark takes the later time, a range of rxlog grows over a
 * hole. Both err to the side of waiting longer; the retransmission timer ends it.
 */
#include <string.h>
#include "tcp_priv.h"

#define REO_PERSIST	16u	/* recoveries without D-SACK until the window is small again, RFC 8985 6.2 step 4 */
#define GRAIN_SHIFT	10	/* of srtt_us, which is 8 fold */

/* ---- times: all are the low 32 bits of the clock in microseconds; what is compared is less than 35 minutes apart ---- */

static bool after(uint32_t at, uint32_t end, uint32_t than_at, uint32_t than_end)
{
	return (int32_t)(at - than_at) > 0 || (at == than_at && seq_gt(end, than_end));
}

/* Value of our timestamp option at @at_us */
static uint32_t ts_of(const struct tcp_conn *t, uint32_t at_us, usec_t now)
{
	return t->ts_offset + tcp_ts_clock(now - (uint32_t)((uint32_t)now - at_us));
}

/* ---- txlog ---- */

static struct tx_mark *marks(struct tcp_conn *t, uint32_t *ret_cap)
{
	if (!t->txlog) {
		*ret_cap = TCP_TX_FIRST;
		return t->tx_first;
	}
	*ret_cap = t->txlog->cap / (uint32_t)sizeof(struct tx_mark);
	return (struct tx_mark *)t->txlog->data;
}

static struct tx_mark *mark_at(struct tcp_conn *t, uint32_t i)
{
	uint32_t cap;
	struct tx_mark *m = marks(t, &cap);

	i += t->tx_head;
	return &m[i < cap ? i : i - cap];
}

static bool marks_grow(struct stack *st, struct tcp_conn *t)
{
	uint32_t cap;
	struct cell *c;

	marks(t, &cap);
	c = cell_alloc(st, t->txlog ? t->txlog->cap + 1 : 1);
	if (!c)
		return false;
	if (c->cap / sizeof(struct tx_mark) <= cap) {
		cell_put(st, c);
		return false;
	}
	for (uint32_t i = 0; i < t->tx_n; i++)
		((struct tx_mark *)c->data)[i] = *mark_at(t, i);
	cell_put(st, t->txlog);
	t->txlog = c;
	t->tx_head = 0;
	return true;
}

/* snd_nxt has just moved on */
void tcp_tx_note(struct stack *st, struct tcp_conn *t, usec_t now)
{
	uint32_t cap;

	if (t->errq)
		tcp_errq_moved(st, t, now);
	marks(t, &cap);
	if (t->tx_n == 0) {
		t->tx_head = 0;
		t->rack_rtt_us = RACK_NONE; /* nothing of this flight was delivered yet */
	} else {
		struct tx_mark *last = mark_at(t, t->tx_n - 1u);

		if ((uint32_t)now - last->at_us <= t->srtt_us >> GRAIN_SHIFT) {
			last->end = t->snd_nxt;
			return;
		}
		if (t->tx_n == cap && !marks_grow(st, t)) {
			*last = (struct tx_mark){ t->snd_nxt, (uint32_t)now };
			return;
		}
	}
	*mark_at(t, t->tx_n++) = (struct tx_mark){ t->snd_nxt, (uint32_t)now };
}

/* Marks that end at or below @ack go. True: some did; when the last of them was sent */
static bool marks_acked(struct stack *st, struct tcp_conn *t, uint32_t ack, uint32_t *ret_at)
{
	bool any = false;
	uint32_t cap;
	const struct tx_mark *m = marks(t, &cap);

	while (t->tx_n && seq_leq(m[t->tx_head].end, ack)) {
		*ret_at = m[t->tx_head].at_us;
		t->tx_head = t->tx_head + 1u < cap ? (uint16_t)(t->tx_head + 1) : 0;
		t->tx_n--;
		any = true;
	}
	if (t->tx_n == 0 && t->txlog) {
		cell_put(st, t->txlog);
		t->txlog = NULL;
	}
	return any;
}

/* How long ago the segment at snd_una was first sent */
uint32_t tcp_tx_age(struct tcp_conn *t, usec_t now)
{
	return t->tx_n ? (uint32_t)now - mark_at(t, 0)->at_us : 0;
}

/* Mark of the octet @seq, NULL: it was not sent */
static const struct tx_mark *mark_find(struct tcp_conn *t, uint32_t seq)
{
	uint32_t lo = 0, hi = t->tx_n;

	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;

		if (seq_gt(mark_at(t, mid)->end, seq))
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo < t->tx_n ? mark_at(t, lo) : NULL;
}

/* ---- rxlog ---- */

static struct rx_range *ranges(const struct tcp_conn *t)
{
	return t->rxlog ? (struct rx_range *)t->rxlog->data : (struct rx_range *)&t->rx_first;
}

/* First range that ends behind @seq */
static uint32_t range_find(const struct tcp_conn *t, uint32_t seq)
{
	const struct rx_range *r = ranges(t);
	uint32_t lo = 0, hi = t->rx_n;

	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;

		if (seq_gt(r[mid].end, seq))
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

static bool ranges_grow(struct stack *st, struct tcp_conn *t)
{
	uint32_t cap = t->rxlog ? t->rxlog->cap / (uint32_t)sizeof(struct rx_range) : 1;
	struct cell *c;

	if (t->rx_n < cap)
		return true;
	c = cell_alloc(st, t->rxlog ? t->rxlog->cap + 1 : 1);
	if (!c)
		return false;
	if (c->cap / sizeof(struct rx_range) <= cap) {
		cell_put(st, c);
		return false;
	}
	memcpy(c->data, ranges(t), t->rx_n * sizeof(struct rx_range));
	cell_put(st, t->rxlog);
	t->rxlog = c;
	return true;
}

static void range_insert(struct tcp_conn *t, uint32_t i, struct rx_range r)
{
	struct rx_range *tab = ranges(t);

	memmove(&tab[i + 1], &tab[i], (t->rx_n - i) * sizeof(r));
	tab[i] = r;
	t->rx_n++;
}

/* [@s, @e) was delivered, or is sent once more: it leaves the log */
static void ranges_cut(struct stack *st, struct tcp_conn *t, uint32_t s, uint32_t e)
{
	uint32_t i = range_find(t, s), j;
	struct rx_range *r = ranges(t);

	if (i < t->rx_n && seq_lt(r[i].start, s) && seq_gt(r[i].end, e)) { /* out of the middle */
		struct rx_range tail = r[i];

		t->rexmt_bytes -= r[i].lost ? 0 : r[i].end - s;
		r[i].end = s;
		tail.start = e;
		if (!ranges_grow(st, t))
			return; /* the rest is forgotten: it may be sent once too often */
		range_insert(t, i + 1, tail);
		t->rexmt_bytes += tail.lost ? 0 : tail.end - e;
		return;
	}
	if (i < t->rx_n && seq_lt(r[i].start, s)) {
		t->rexmt_bytes -= r[i].lost ? 0 : r[i].end - s;
		r[i++].end = s;
	}
	for (j = i; j < t->rx_n && seq_leq(r[j].end, e); j++)
		t->rexmt_bytes -= r[j].lost ? 0 : r[j].end - r[j].start;
	if (j < t->rx_n && seq_lt(r[j].start, e)) {
		t->rexmt_bytes -= r[j].lost ? 0 : e - r[j].start;
		r[j].start = e;
	}
	memmove(&r[i], &r[j], (t->rx_n - j) * sizeof(*r));
	t->rx_n = (uint16_t)(t->rx_n - (j - i));
	if (t->rx_n == 0 && t->rxlog) {
		cell_put(st, t->rxlog);
		t->rxlog = NULL;
	}
}

/* [@s, @s + @len) has just been sent again */
void tcp_rx_note(struct stack *st, struct tcp_conn *t, uint32_t s, uint32_t len, usec_t now)
{
	struct rx_range *r, new = { s, s + len, (uint32_t)now, 0 };
	uint32_t i;

	ranges_cut(st, t, s, s + len);
	t->rexmt_bytes += len;
	i = range_find(t, s);
	r = ranges(t);
	if (i > 0 && r[i - 1].end == s && r[i - 1].at_us == new.at_us && !r[i - 1].lost) {
		r[i - 1].end = new.end;
		return;
	}
	if (ranges_grow(st, t)) {
		range_insert(t, i, new);
		return;
	}
	if (i == 0) { /* over the gap to the first one, which must not be taken for sent just now unless it was */
		t->rexmt_bytes += r[0].start - new.end + (r[0].lost ? r[0].end - r[0].start : 0);
		r[0] = (struct rx_range){ s, r[0].end, new.at_us, 0 };
	} else {
		t->rexmt_bytes += s - r[i - 1].end + (r[i - 1].lost ? r[i - 1].end - r[i - 1].start : 0);
		r[i - 1] = (struct rx_range){ r[i - 1].start, new.end, new.at_us, 0 };
	}
}

/* All retransmissions are lost (or, @lost false, none is) */
void tcp_rx_mark_all(struct tcp_conn *t, bool lost)
{
	struct rx_range *r = ranges(t);

	t->rexmt_bytes = 0;
	for (uint32_t i = 0; i < t->rx_n; i++) {
		r[i].lost = lost;
		t->rexmt_bytes += lost ? 0 : r[i].end - r[i].start;
	}
}

/** tcp_rx_live() - is @seq on its way again; *ret_end: how far that, or its contrary, holds in the log */
bool tcp_rx_live(const struct tcp_conn *t, uint32_t seq, uint32_t *ret_end)
{
	uint32_t i = range_find(t, seq);
	const struct rx_range *r = ranges(t) + i;

	if (i >= t->rx_n) {
		*ret_end = t->snd_nxt;
		return false;
	}
	if (seq_gt(r->start, seq)) {
		*ret_end = r->start;
		return false;
	}
	*ret_end = r->end;
	return !r->lost;
}

void tcp_logs_clear(struct stack *st, struct tcp_conn *t)
{
	cell_put(st, t->txlog);
	cell_put(st, t->rxlog);
	tcp_logs_forget(t);
}

/* Repair: what the cells held is not believed */
void tcp_logs_forget(struct tcp_conn *t)
{
	t->txlog = t->rxlog = NULL;
	t->tx_n = t->rx_n = t->tx_head = 0;
	t->rexmt_bytes = 0;
	t->rack_rtt_us = RACK_NONE;
}

/* ---- what an acknowledgment delivers ---- */

/* RFC 8985 6.2 step 2 */
static void rack_advance(struct tcp_conn *t, uint32_t at, uint32_t end, usec_t now)
{
	if (t->rack_rtt_us != RACK_NONE && !after(at, end, t->rack_at_us, t->rack_end))
		return;
	t->rack_at_us = at;
	t->rack_end = end;
	t->rack_rtt_us = (uint32_t)now - at;
}

/* Sent more than once: whose acknowledgment is it? An echo from before the retransmission, or too fast a one, is the original's */
static void rexmt_delivered(struct tcp_conn *t, const struct tcp_seg *s, struct tcp_ack_state *a, const struct rx_range *r,
			    uint32_t end, usec_t now)
{
	a->rexmt = true;
	if (t->flags & TF_TS && s->o.ts && s->o.ts_ecr && (int32_t)(s->o.ts_ecr - ts_of(t, r->at_us, now)) < 0)
		return;
	if ((uint32_t)now - r->at_us >= t->min_rtt_us)
		rack_advance(t, r->at_us, end, now);
}

static void orig_delivered(struct tcp_conn *t, struct tcp_ack_state *a, uint32_t start, uint32_t end, usec_t now)
{
	const struct tx_mark *m = mark_find(t, end - 1);

	a->orig |= seq_lt(start, t->recover);
	if (seq_lt(start, a->prior_fack) && (!a->reordered || seq_lt(start, a->reord_low))) {
		a->reordered = true;
		a->reord_low = start;
	}
	if (!m)
		return;
	if (m->end == end) { /* the last of those that share the mark: a sample of round trip */
		uint32_t rtt = (uint32_t)now - m->at_us;

		a->rtt_us = rtt < a->rtt_us ? rtt : a->rtt_us;
	}
	rack_advance(t, m->at_us, end, now);
}

/**
 * tcp_delivered() - the octets [@start, @end) were neither acknowledged nor SACKed before
 * @a:	rexmt, orig, reordered, reord_low, rtt_us are updated
 */
void tcp_delivered(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s, struct tcp_ack_state *a, uint32_t start,
		   uint32_t end, usec_t now)
{
	uint32_t i = range_find(t, start), from = start;
	const struct rx_range *r = ranges(t);

	while (seq_lt(from, end)) {
		uint32_t to;

		if (i < t->rx_n && seq_leq(r[i].start, from)) {
			to = seq_min(r[i].end, end);
			rexmt_delivered(t, s, a, &r[i++], to, now);
		} else {
			to = i < t->rx_n ? seq_min(r[i].start, end) : end;
			orig_delivered(t, a, from, to, now);
		}
		from = to;
	}
	ranges_cut(st, t, start, end);
}

/* snd_una will move to @ack: what of it is news, and the logs end there. @a->rtt_us: sample of round trip, if there is one */
void tcp_delivered_acked(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s, struct tcp_ack_state *a, usec_t now)
{
	uint32_t at;

	if (!t->sack && t->rx_n == 0) { /* in order, nothing sent twice: nearly always */
		a->orig = seq_lt(t->snd_una, t->recover);
		if (!marks_acked(st, t, s->ack, &at))
			return;
		a->rtt_us = (uint32_t)now - at;
		t->rack_at_us = at;
		t->rack_end = s->ack;
		t->rack_rtt_us = a->rtt_us;
		return;
	}
	tcp_sack_gaps(st, t, s, a, t->snd_una, s->ack, now);
	ranges_cut(st, t, t->snd_una, s->ack); /* those that grew over SACKed data */
	marks_acked(st, t, s->ack, &at);
}

/* ---- lost by time ---- */

/* RFC 8985 6.2 step 4 */
static uint32_t reo_wnd(const struct tcp_conn *t)
{
	uint32_t us = t->min_rtt_us / 4 * (t->reo_mult ? t->reo_mult : 1u), srtt = t->srtt_us >> 3;

	if (!t->reord_seen && (t->ca_state >= TCP_CA_RECOVERY || t->sacked_bytes >= t->reordering * t->snd_mss))
		return 0;
	return us < srtt ? us : srtt;
}

/* D-SACKs say we were too hasty: once in a round the window grows by a quarter of the least round trip */
void tcp_rack_dsack(struct tcp_conn *t)
{
	if (!t->reord_seen || (t->reo_round && seq_lt(t->snd_una, t->reo_round_end)))
		return;
	t->reo_round = 1;
	t->reo_round_end = t->snd_nxt;
	if (t->reo_mult == 0)
		t->reo_mult = 1;
	if (t->reo_mult < UINT8_MAX)
		t->reo_mult++;
	t->reo_persist = REO_PERSIST;
}

void tcp_rack_recovered(struct tcp_conn *t)
{
	if (t->reo_persist && --t->reo_persist == 0)
		t->reo_mult = 1;
}

/* What was sent at (@at, @end), before the latest delivered, is lost now; else *wait shrinks to when it will be */
static bool overdue(const struct tcp_conn *t, uint32_t at, uint32_t reo, uint32_t *wait, usec_t now)
{
	int32_t left = (int32_t)(at + t->rack_rtt_us + reo - (uint32_t)now);

	if (left <= 0)
		return true;
	if ((uint32_t)left < *wait)
		*wait = (uint32_t)left;
	return false;
}

static void detect_rexmts(struct stack *st, struct tcp_conn *t, uint32_t reo, uint32_t *wait, usec_t now)
{
	struct rx_range *r = ranges(t);

	for (uint32_t i = 0; i < t->rx_n; i++) {
		if (r[i].lost || !after(t->rack_at_us, t->rack_end, r[i].at_us, r[i].end) ||
		    !overdue(t, r[i].at_us, reo, wait, now))
			continue;
		CNT(st, TcpExtTCPLostRetransmit);
		r[i].lost = 1;
		t->rexmt_bytes -= r[i].end - r[i].start;
		t->lost_edge = seq_max(t->lost_edge, r[i].end);
		t->high_rxt = seq_min(t->high_rxt, r[i].start);
	}
}

/**
 * tcp_rack_detect() - RFC 8985 6.2 step 5: moves lost_edge, marks lost retransmissions, sets the timer for the rest
 *
 * Return: something more is lost than before
 */
bool tcp_rack_detect(struct stack *st, struct tcp_conn *t, usec_t now)
{
	uint32_t reo = reo_wnd(t), wait = UINT32_MAX, seq, edge = t->lost_edge, high = t->high_rxt;

	tcp_timer_clear(t, TCPT_RACK);
	if (t->rack_rtt_us == RACK_NONE)
		return false;
	seq = seq_max(t->lost_edge, t->snd_una);
	while (seq_lt(seq, t->snd_nxt)) {
		const struct tx_mark *m;
		uint32_t end, upto;

		if (tcp_sacked_at(t, seq, &end) || tcp_rx_live(t, seq, &end)) { /* no question, or asked below */
			seq = end;
			continue;
		}
		m = mark_find(t, seq);
		if (!m || !after(t->rack_at_us, t->rack_end, m->at_us, seq))
			break;
		upto = m->at_us == t->rack_at_us ? seq_min(m->end, t->rack_end) : m->end;
		if (!overdue(t, m->at_us, reo, &wait, now))
			break;
		seq = t->lost_edge = upto;
	}
	detect_rexmts(st, t, reo, &wait, now);
	if (wait != UINT32_MAX)
		tcp_timer_set(st, t, TCPT_RACK, now + wait);
	return t->lost_edge != edge || t->high_rxt != high;
}

/**
 * tcp_rack_timeout() - the retransmission timer went off: which of the flight is lost (RFC 8985 6.3)
 *
 * All that is older than a round trip, and the first segment whatever its age. Without SACK nothing else will tell:
 * all then.
 */
void tcp_rack_timeout(struct tcp_conn *t, usec_t now)
{
	uint32_t edge = t->snd_una + (tcp_flight(t) < t->snd_mss ? tcp_flight(t) : t->snd_mss);
	uint32_t young = t->flags & TF_SACK && t->rack_rtt_us != RACK_NONE ? t->rack_rtt_us : 0;
	struct rx_range *r = ranges(t);

	for (uint32_t i = 0; i < t->tx_n; i++) {
		const struct tx_mark *m = mark_at(t, i);

		if ((uint32_t)now - m->at_us < young)
			break;
		edge = seq_max(edge, m->end);
	}
	t->lost_edge = seq_max(edge, seq_max(t->lost_edge, t->snd_una));
	for (uint32_t i = 0; i < t->rx_n; i++) {
		if (r[i].lost || (i > 0 && (uint32_t)now - r[i].at_us < young))
			continue;
		r[i].lost = 1;
		t->rexmt_bytes -= r[i].end - r[i].start;
		t->lost_edge = seq_max(t->lost_edge, r[i].end);
	}
	t->high_rxt = t->snd_una;
}

/* ---- tail loss probe, RFC 8985 7 ---- */

bool tcp_tail_probe_allowed(const struct tcp_conn *t)
{
	return t->flags & TF_SACK && t->ca_state == TCP_CA_OPEN && !t->sack && !t->tlp && t->srtt_us &&
	       t->snd_una != t->snd_nxt && t->state != TCPS_SYN_RECEIVED && t->snd_wnd > 0;
}

/**
 * ack_delay_us() - what the peer may add to a round trip before it acknowledges our flight
 *
 * A lone segment's acknowledgment may be delayed: up to Linux's least RTO, as Linux has it too. A peer that is just
 * acknowledging each segment by itself (TF_PEER_QUICK) may begin with that now, but by 40 ms then, its own least; so the
 * lost end of a short answer comes again long before RTO. For a FIN alone nobody waits, and Linux takes its time to
 * acknowledge it (it enters ping-pong there), in the hope of its program closing too.
 */
static uint32_t ack_delay_us(const struct tcp_conn *t)
{
	uint32_t srtt_us = t->srtt_us >> 3;

	if (tcp_flight(t) > t->snd_mss)
		return TCP_TLP_SLACK_US;
	if (!(t->flags & TF_PEER_QUICK) || t->snd_una == t->write_seq)
		return TCP_RTO_MIN_US;
	return TCP_TLP_SLACK_US + (srtt_us < TCP_ATO_MIN_US ? TCP_ATO_MIN_US - srtt_us : 0);
}

/**
 * tcp_tail_probe_arm() - something was sent or acknowledged: when do we ask again (7.2)
 *
 * Two round trips and what the peer may add. Where RTO is earlier it stays, and does the probing first.
 */
void tcp_tail_probe_arm(struct stack *st, struct tcp_conn *t, usec_t now)
{
	usec_t at = now + (t->srtt_us >> 2);

	if (t->ca_state != TCP_CA_OPEN)
		return; /* the timer is RACK's */
	at += ack_delay_us(t);
	if (at >= t->deadline[TCPT_REXMT] || !tcp_tail_probe_allowed(t))
		tcp_timer_clear(t, TCPT_RACK);
	else
		tcp_timer_set(st, t, TCPT_RACK, at);
}

/**
 * tcp_tail_probe_acked() - 7.4: is the probe answered, and did it repair a loss that nobody else saw
 *
 * Return: it did: the window is to be reduced
 */
bool tcp_tail_probe_acked(struct tcp_conn *t, const struct tcp_ack_state *a)
{
	bool rexmt = t->tlp == TLP_REXMT;

	if (seq_lt(t->snd_una, t->tlp_end))
		return false;
	if (rexmt && !a->dsack_tlp && t->snd_una == t->tlp_end && (a->acked || a->newly_sacked))
		return false; /* it or the original: what comes next tells */
	t->tlp = TLP_NONE;
	return rexmt && !a->dsack_tlp && seq_gt(t->snd_una, t->tlp_end);
}
