/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_sack.c - what the peer said it has, and how we recover (RFC 2018, 2883, 6582, 6675, 9937, 3522, 4015, 5682)
 *
 * Theory of operation
 *
 * The scoreboard is a sorted table of ranges that the peer SACKed, in a cell made on demand. What is not SACKed below
 * lost_edge is lost; tcp_rack.c moves that edge, by time. Without SACK each duplicate ACK stands for one segment that
 * arrived, the third one says that the segment at snd_una is lost, and a partial acknowledgment in recovery that the
 * next one is too (RFC 6582). What was sent again is in rxlog (tcp_rack.c); high_rxt says that no hole is left below it.
 *
 *   pipe_bytes  flight - SACKed - lost + sent again (SetPipe() of RFC 6675 4)
 *
 *   OPEN      nothing unusual
 *   DISORDER  something SACKed or duplicate ACKs, not enough to call it loss; each lets a new segment go (RFC 3042)
 *   RECOVERY  until snd_una reaches `recover`; cwnd by PRR
 *   LOSS      after a time-out, until snd_una reaches `recover`; slow start from one segment
 *
 * Undo: prior_cwnd and prior_ssthresh come back when it shows that nothing was lost, by one of
 *
 *   timestamp   the first acknowledgment of new data echoes one older than our first retransmission (Eifel). While other
 *               retransmissions are on their way what they were for may still be lost: then nothing is undone, and
 *               nothing more called lost (Linux's tcp_try_undo_partial())
 *   D-SACK      all that was sent again is reported as duplicate (undo_bytes reaches 0); also after recovery has ended
 *   F-RTO       after a time-out something is acknowledged that was sent once only. Where the first acknowledgment does
 *               not decide, new data is sent instead of retransmissions, and the second one does (RFC 5682 3)
 */
#include <string.h>
#include "tcp_priv.h"

struct board {
	uint32_t n, max;
	struct sack_block r[];
};

static struct board *board(const struct tcp_conn *t)
{
	return t->sack ? (struct board *)t->sack->data : NULL;
}

void tcp_sack_clear(struct stack *st, struct tcp_conn *t)
{
	cell_put(st, t->sack);
	t->sack = NULL;
	t->sacked_bytes = 0;
}

/* First range that ends at or behind @seq */
static uint32_t board_find(const struct board *b, uint32_t seq)
{
	uint32_t lo = 0, hi = b->n;

	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;

		if (seq_geq(b->r[mid].end, seq))
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

static bool board_grow(struct stack *st, struct tcp_conn *t)
{
	struct board *old = board(t), *b;
	struct cell *c;

	if (old && old->n < old->max)
		return true;
	c = cell_alloc(st, t->sack ? t->sack->cap + 1 : 1);
	if (!c)
		return false;
	b = (struct board *)c->data;
	b->n = 0;
	b->max = (c->cap - (uint32_t)sizeof(*b)) / (uint32_t)sizeof(b->r[0]);
	if (old && b->max <= old->max) {
		cell_put(st, c);
		return false; /* some SACK is forgotten: costs a needless retransmission at worst */
	}
	if (old) {
		b->n = old->n;
		memcpy(b->r, old->r, old->n * sizeof(b->r[0]));
		cell_put(st, t->sack);
	}
	t->sack = c;
	return true;
}

/**
 * tcp_sack_gaps() - tells tcp_delivered() of all in [@start, @end) that is not on the scoreboard
 */
void tcp_sack_gaps(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s, struct tcp_ack_state *a, uint32_t start,
		   uint32_t end, usec_t now)
{
	const struct board *b = board(t);

	for (uint32_t i = b ? board_find(b, start) : 0; b && i < b->n && seq_lt(b->r[i].start, end); i++) {
		if (seq_lt(start, b->r[i].start))
			tcp_delivered(st, t, s, a, start, b->r[i].start, now);
		start = seq_max(start, b->r[i].end);
	}
	if (seq_lt(start, end))
		tcp_delivered(st, t, s, a, start, end, now);
}

/** tcp_sacked_at() - is @seq SACKed; *ret_end: how far that holds, set only if it is */
bool tcp_sacked_at(const struct tcp_conn *t, uint32_t seq, uint32_t *ret_end)
{
	const struct board *b = board(t);
	uint32_t i = b ? board_find(b, seq + 1) : 0;

	if (!b || i >= b->n || seq_gt(b->r[i].start, seq))
		return false;
	*ret_end = b->r[i].end;
	return true;
}

/** tcp_sack_fack() - behind the highest octet that was delivered */
uint32_t tcp_sack_fack(const struct tcp_conn *t)
{
	const struct board *b = board(t);

	return b ? b->r[b->n - 1].end : t->snd_una;
}

static void board_add(struct stack *st, struct tcp_conn *t, uint32_t start, uint32_t end)
{
	struct board *b = board(t);
	uint32_t i = b ? board_find(b, start) : 0, j = i;

	while (b && j < b->n && seq_leq(b->r[j].start, end)) { /* all that touch become one */
		start = seq_min(start, b->r[j].start);
		end = seq_max(end, b->r[j].end);
		t->sacked_bytes -= b->r[j].end - b->r[j].start;
		j++;
	}
	if (i == j) {
		if (!board_grow(st, t))
			return;
		b = board(t);
		memmove(&b->r[i + 1], &b->r[i], (b->n - i) * sizeof(b->r[0]));
		b->n++;
	} else {
		memmove(&b->r[i + 1], &b->r[j], (b->n - j) * sizeof(b->r[0]));
		b->n -= j - i - 1;
	}
	b->r[i] = (struct sack_block){ start, end };
	t->sacked_bytes += end - start;
}

/* snd_una moved on: ranges behind it go */
void tcp_sack_trim(struct stack *st, struct tcp_conn *t)
{
	struct board *b = board(t);
	uint32_t i = 0;

	while (i < b->n && seq_leq(b->r[i].end, t->snd_una)) {
		t->sacked_bytes -= b->r[i].end - b->r[i].start;
		i++;
	}
	memmove(b->r, b->r + i, (b->n - i) * sizeof(b->r[0]));
	b->n -= i;
	if (b->n == 0) {
		tcp_sack_clear(st, t);
	} else if (seq_lt(b->r[0].start, t->snd_una)) {
		t->sacked_bytes -= t->snd_una - b->r[0].start;
		b->r[0].start = t->snd_una;
	}
}

/* RFC 2883 4: first block lies below the acknowledgment or inside the second one */
static bool is_dsack(const struct tcp_seg *s)
{
	const struct sack_block *b = s->o.sack;

	return seq_lt(b[0].start, s->ack) ||
	       (s->o.n_sack > 1 && seq_geq(b[0].start, b[1].start) && seq_leq(b[0].end, b[1].end));
}

/* The octets [@start, @end) arrived twice; what we sent twice since undo_una is a retransmission for nothing */
static void take_dsack(struct stack *st, struct tcp_conn *t, struct tcp_ack_state *a, uint32_t start, uint32_t end)
{
	uint32_t from = seq_max(start, t->undo_una), n = seq_lt(from, end) ? end - from : 0;

	CNT(st, TcpExtTCPDSACKRecv);
	t->dsack_dups++;
	a->dsack = true;
	a->dsack_tlp = t->tlp == TLP_REXMT && end == t->tlp_end;
	if (t->dsack_dups > t->total_retrans)
		return; /* the network's doing, as Linux takes it */
	if (t->flags & TF_UNDO && t->undo_bytes != UNDO_NONE_SENT)
		t->undo_bytes -= n < t->undo_bytes ? n : t->undo_bytes;
	if (!a->dsack_tlp)
		tcp_rack_dsack(t);
}

/**
 * tcp_sack_take() - blocks of an acknowledgment into the scoreboard
 * @prior_una:	snd_una before this segment
 * @a:		newly_sacked, dsack, and what tcp_delivered() finds are set
 *
 * Blocks that reach beyond what was sent, or are empty, are ignored; so a peer cannot make us believe in data never
 * sent.
 */
void tcp_sack_take(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s, uint32_t prior_una, struct tcp_ack_state *a,
		   usec_t now)
{
	uint32_t before = t->sacked_bytes;

	for (unsigned i = 0; i < s->o.n_sack; i++) {
		uint32_t start = s->o.sack[i].start, end = s->o.sack[i].end;

		if (i == 0 && is_dsack(s)) {
			if (seq_lt(start, end) && seq_leq(end, t->snd_nxt) && seq_geq(start, prior_una - (1u << 30)))
				take_dsack(st, t, a, start, end);
			continue;
		}
		if (!seq_lt(start, end) || seq_gt(end, t->snd_nxt) || seq_leq(end, t->snd_una))
			continue;
		start = seq_max(start, t->snd_una);
		tcp_sack_gaps(st, t, s, a, start, end, now);
		board_add(st, t, start, end);
	}
	a->newly_sacked = t->sacked_bytes > before ? t->sacked_bytes - before : 0;
}

/* Behind all that the peer is known to have */
uint32_t tcp_sack_high(const struct tcp_conn *t)
{
	const struct board *b = board(t);

	return b && b->n ? b->r[b->n - 1].end : t->snd_una;
}

/* ---- what is lost, what is in the pipe ---- */

/* RFC 6675 DupThresh; grows where reordering is seen, but never so that a small flight could not reach it (RFC 5827) */
static uint32_t dupthresh(const struct tcp_conn *t)
{
	uint32_t segs = tcp_flight(t) / t->snd_mss, d = t->reordering;

	if (d > TCP_DUPTHRESH && d > segs / 2)
		d = segs / 2 > TCP_DUPTHRESH ? segs / 2 : TCP_DUPTHRESH;
	return d;
}

static uint32_t sacked_in(const struct board *b, uint32_t from, uint32_t to)
{
	uint32_t sum = 0;

	for (uint32_t i = b ? board_find(b, from) : 0; b && i < b->n && seq_lt(b->r[i].start, to); i++) {
		uint32_t s = seq_max(b->r[i].start, from), e = seq_min(b->r[i].end, to);

		if (seq_lt(s, e))
			sum += e - s;
	}
	return sum;
}

/* Octets that arrived beyond snd_una: SACKed, or without SACK a segment for each duplicate ACK */
static uint32_t arrived(const struct tcp_conn *t)
{
	uint32_t flight = tcp_flight(t), n;

	if (t->flags & TF_SACK)
		return t->sacked_bytes;
	n = t->dupacks * t->snd_mss;
	return n + t->snd_mss <= flight ? n : flight > t->snd_mss ? flight - t->snd_mss : 0;
}

static void pipe_update(struct tcp_conn *t)
{
	uint32_t gone = arrived(t), pipe = tcp_flight(t) + t->rexmt_bytes;

	if (seq_lt(t->snd_una, t->lost_edge))
		gone += t->lost_edge - t->snd_una - sacked_in(board(t), t->snd_una, t->lost_edge);
	t->pipe_bytes = pipe > gone ? pipe - gone : 0;
}

/* What is lost by now. Return: more than before */
static bool mark_lost(struct stack *st, struct tcp_conn *t, usec_t now)
{
	uint32_t edge = t->lost_edge, flight = tcp_flight(t);
	bool more = false;

	t->lost_edge = seq_max(t->lost_edge, t->snd_una);
	if (t->flags & TF_SACK)
		more = tcp_rack_detect(st, t, now);
	else if (t->ca_state == TCP_CA_RECOVERY)
		t->lost_edge = seq_max(t->lost_edge, t->snd_una + (flight < t->snd_mss ? flight : t->snd_mss));
	more |= seq_gt(t->lost_edge, edge) && seq_gt(t->lost_edge, t->snd_una);
	pipe_update(t);
	return more;
}

uint32_t tcp_pipe(const struct tcp_conn *t)
{
	return t->ca_state == TCP_CA_OPEN ? tcp_flight(t) : t->pipe_bytes;
}

/* NextSeg() rule 1 of RFC 6675 4: the first hole below lost_edge that is not on its way again */
bool tcp_rexmt_next(const struct tcp_conn *t, uint32_t *ret_seq, uint32_t *ret_len)
{
	const struct board *b = board(t);
	uint32_t seq = seq_max(t->high_rxt, t->snd_una), end;

	while (seq_lt(seq, t->lost_edge)) {
		if (tcp_sacked_at(t, seq, &end) || tcp_rx_live(t, seq, &end)) {
			seq = end;
			continue;
		}
		end = seq_min(end, t->lost_edge);
		if (b) {
			uint32_t i = board_find(b, seq + 1);

			end = i < b->n ? seq_min(end, b->r[i].start) : end;
		}
		*ret_seq = seq;
		*ret_len = end - seq;
		return true;
	}
	return false;
}

/* ---- congestion states ---- */

static void save_for_undo(struct tcp_conn *t)
{
	t->prior_cwnd = t->cwnd;
	t->prior_ssthresh = t->ssthresh;
	t->undo_una = t->snd_una;
	t->undo_bytes = t->rexmt_bytes ? t->rexmt_bytes : UNDO_NONE_SENT; /* a tail loss probe counts */
	if (t->rexmt_bytes == 0)
		t->rexmt_ts = 0;
	t->flags |= TF_UNDO;
}

/* RFC 9937 6: what is in flight now, and what this acknowledgment delivered; what was SACKed before does not count */
static void enter_recovery(struct stack *st, struct tcp_conn *t, uint32_t delivered, usec_t now)
{
	uint32_t base = tcp_flight(t) - t->sacked_bytes + delivered;

	if (t->flags & TF_SACK)
		CNT(st, TcpExtTCPSackRecovery);
	else
		CNT(st, TcpExtTCPRenoRecovery);
	save_for_undo(t);
	t->prr_cwnd = base > t->snd_mss ? base : t->snd_mss;
	t->prr_delivered = t->prr_out = 0;
	t->ssthresh = tcp_cc_reduce(t, now);
	t->recover = t->snd_nxt;
	t->high_rxt = t->snd_una;
	t->tlp = TLP_NONE;
	t->ca_state = TCP_CA_RECOVERY;
}

/* RFC 9937 (PRR): @safe: snd_una moved on and nothing more was found lost */
static void prr(struct tcp_conn *t, uint32_t delivered, bool safe)
{
	uint32_t pipe = t->pipe_bytes, sndcnt;

	t->prr_delivered += delivered;
	if (pipe > t->ssthresh) {
		uint64_t due = ((uint64_t)t->prr_delivered * t->ssthresh + t->prr_cwnd - 1) / t->prr_cwnd;

		sndcnt = due > t->prr_out ? (uint32_t)(due - t->prr_out) : 0;
	} else {
		uint32_t owed = t->prr_delivered > t->prr_out ? t->prr_delivered - t->prr_out : 0;

		sndcnt = (owed > delivered ? owed : delivered) + (safe ? t->snd_mss : 0);
		if (sndcnt > t->ssthresh - pipe)
			sndcnt = t->ssthresh - pipe;
	}
	if (t->prr_out == 0 && sndcnt < t->snd_mss)
		sndcnt = t->snd_mss; /* the fast retransmission itself */
	t->cwnd = pipe + sndcnt > t->snd_mss ? pipe + sndcnt : t->snd_mss;
}

/* TF_UNDO stays: a D-SACK may still say that it was for nothing */
static void leave_recovery(struct tcp_conn *t)
{
	if (t->ca_state == TCP_CA_RECOVERY && !t->cc_cell)
		t->cwnd = t->ssthresh;
	t->dupacks = 0;
	t->frto = FRTO_OFF;
	t->rexmt_ts = 0;
	t->high_rxt = t->snd_una;
	t->ca_state = t->sacked_bytes ? TCP_CA_DISORDER : TCP_CA_OPEN;
	tcp_timer_clear(t, TCPT_RACK);
}

/* RFC 3522: does this acknowledgment echo a segment older than our first retransmission */
static bool echoes_original(const struct tcp_conn *t, const struct tcp_seg *s, const struct tcp_ack_state *a)
{
	return a->acked && t->flags & TF_TS && s->o.ts && s->o.ts_ecr && t->rexmt_ts &&
	       (int32_t)(s->o.ts_ecr - t->rexmt_ts) < 0;
}

static bool may_undo(const struct tcp_conn *t, const struct tcp_seg *s, const struct tcp_ack_state *a)
{
	return t->flags & TF_UNDO && (t->undo_bytes == 0 || echoes_original(t, s, a));
}

static void undo_window(struct tcp_conn *t)
{
	t->flags &= ~TF_UNDO;
	t->ssthresh = t->prior_ssthresh > t->ssthresh ? t->prior_ssthresh : t->ssthresh;
	tcp_cc_ops(t)->undo(t);
	if (t->cwnd < t->prior_cwnd)
		t->cwnd = t->prior_cwnd;
}

/* Nothing was lost: what is called lost is not, and order is bad here (RFC 4653's reason to raise dupthresh) */
static void undo(struct stack *st, struct tcp_conn *t)
{
	if (t->ca_state == TCP_CA_LOSS)
		CNT(st, TcpExtTCPLossUndo);
	else if (t->undo_bytes == 0)
		CNT(st, TcpExtTCPDSACKUndo);
	else if (seq_geq(t->snd_una, t->recover))
		CNT(st, TcpExtTCPFullUndo);
	else
		CNT(st, TcpExtTCPPartialUndo);
	if (t->ca_state == TCP_CA_RECOVERY && t->reordering < TCP_DUPTHRESH_MAX) {
		t->reordering += t->reordering / 2;
		t->reord_seen++;
		if (t->reordering > TCP_DUPTHRESH_MAX)
			t->reordering = TCP_DUPTHRESH_MAX;
	}
	t->retransmits = 0;
	tcp_rx_mark_all(t, false);
	leave_recovery(t); /* first: it sets cwnd to ssthresh, and the one put back may be without bound */
	t->lost_edge = t->snd_una;
	undo_window(t);
}

/* Linux's tcp_check_sack_reordering(): something sent once only was delivered after what was sent behind it */
static void reordering_seen(struct stack *st, struct tcp_conn *t, const struct tcp_ack_state *a)
{
	uint32_t segs = (a->prior_fack - a->reord_low + t->snd_mss - 1) / t->snd_mss;

	if (segs > t->reordering)
		t->reordering = segs < TCP_DUPTHRESH_MAX ? segs : TCP_DUPTHRESH_MAX;
	t->reord_seen++;
	CNT(st, TcpExtTCPSACKReorder);
}

/* Linux's tcp_is_cwnd_limited(): a window that was not used says nothing about the path (RFC 7661) */
static bool cwnd_limited(const struct tcp_conn *t, uint32_t acked)
{
	if (t->cwnd < t->ssthresh)
		return t->cwnd < 2 * (tcp_flight(t) + acked);
	return t->flags & TF_CWND_LIMITED;
}

static void count_dupacks(struct tcp_conn *t, const struct tcp_ack_state *a)
{
	if (a->acked) {
		uint32_t segs = a->acked / t->snd_mss;

		/* one of the segments acknowledged is the one that was missing */
		t->dupacks = t->ca_state >= TCP_CA_RECOVERY && t->dupacks > segs ? (uint8_t)(t->dupacks - segs) : 0;
	} else if (a->dupack && t->dupacks < UINT8_MAX) {
		t->dupacks++;
	}
}

static bool loss_found(const struct tcp_conn *t)
{
	uint32_t seq, len;

	if (t->flags & TF_SACK)
		return tcp_rexmt_next(t, &seq, &len);
	return t->dupacks >= dupthresh(t) && seq_geq(t->snd_una, t->recover); /* RFC 6582 3.2 step 2 */
}

/* RFC 5682 3.1, SACK-enhanced as Linux has it. Return: the time-out was spurious */
static bool frto_says_spurious(struct tcp_conn *t, const struct tcp_ack_state *a)
{
	bool unsent = seq_lt(t->snd_nxt, t->write_seq) && seq_gt(t->snd_una + t->snd_wnd, t->snd_nxt);

	if (t->frto == FRTO_OFF)
		return false;
	if (a->orig)
		return true; /* step 3.b */
	if (seq_gt(t->snd_nxt, t->recover)) {
		if (a->newly_sacked || a->dupack)
			t->frto = FRTO_OFF; /* 3.a: the new data arrived, the old did not */
	} else if (a->acked) {
		t->frto = unsent && seq_lt(t->snd_una, t->recover) ? FRTO_NEW_DATA : FRTO_OFF; /* 2.b */
	}
	return false;
}

/* The hole at snd_una was filled by what came late, but there are others, and they have been sent again */
static bool delayed_in_part(const struct tcp_conn *t, const struct tcp_seg *s, const struct tcp_ack_state *a)
{
	return t->ca_state == TCP_CA_RECOVERY && t->flags & TF_UNDO && t->flags & TF_SACK && t->undo_bytes != 0 &&
	       t->rexmt_bytes > 0 && seq_lt(t->snd_una, t->recover) && echoes_original(t, s, a);
}

/* In RECOVERY or LOSS: was it for nothing, is it over. False: nothing more is to be called lost by this acknowledgment */
static bool go_on(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s, const struct tcp_ack_state *a)
{
	if (t->ca_state == TCP_CA_LOSS && frto_says_spurious(t, a)) {
		t->frto = FRTO_OFF;
		if (t->flags & TF_UNDO) {
			CNT(st, TcpExtTCPSpuriousRTOs);
			undo(st, t);
			return true;
		}
	}
	if (delayed_in_part(t, s, a)) {
		t->lost_edge = seq_max(t->snd_una, seq_min(t->lost_edge, t->high_rxt));
		return false;
	}
	if (may_undo(t, s, a)) {
		undo(st, t);
	} else if (seq_geq(t->snd_una, t->recover)) {
		leave_recovery(t);
		tcp_rack_recovered(t);
	}
	return true;
}

/* A probe repaired what nobody saw missing: one reduction, as if it had been seen (RFC 8985 7.4.2) */
static void tail_probe_repaired(struct stack *st, struct tcp_conn *t, usec_t now)
{
	CNT(st, TcpExtTCPLossProbeRecovery);
	t->ssthresh = tcp_cc_reduce(t, now);
	if (t->cwnd > t->ssthresh)
		t->cwnd = t->ssthresh;
}

/* Not in recovery (any more): is there anything unusual, and is it a loss */
static void look_for_loss(struct stack *st, struct tcp_conn *t, uint32_t delivered, usec_t now)
{
	if (!t->sacked_bytes && !t->dupacks) {
		t->ca_state = TCP_CA_OPEN;
		return;
	}
	if (t->ca_state == TCP_CA_OPEN) {
		t->lost_edge = t->high_rxt = t->snd_una;
		tcp_timer_clear(t, TCPT_RACK);
	}
	t->ca_state = TCP_CA_DISORDER;
	mark_lost(st, t, now);
	if (!loss_found(t))
		return;
	enter_recovery(st, t, delivered, now);
	mark_lost(st, t, now); /* the window of reordering is less in recovery */
}

void tcp_recovery(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s, const struct tcp_ack_state *a, usec_t now)
{
	bool was_recovering = t->ca_state >= TCP_CA_RECOVERY, more = false, look = true;

	count_dupacks(t, a);
	if (a->reordered && t->flags & TF_SACK)
		reordering_seen(st, t, a);
	if (t->tlp != TLP_NONE && tcp_tail_probe_acked(t, a) && !was_recovering)
		tail_probe_repaired(st, t, now);
	if (was_recovering) {
		look = go_on(st, t, s, a);
	} else if (a->dsack && t->flags & TF_UNDO && t->undo_bytes == 0) {
		CNT(st, TcpExtTCPDSACKUndo);
		undo_window(t);
	}
	if (!look)
		pipe_update(t);
	else if (t->ca_state >= TCP_CA_RECOVERY)
		more = mark_lost(st, t, now);
	else
		look_for_loss(st, t, a->delivered, now);
	if (tcp_cc_ops(t)->sample && a->delivered)
		tcp_cc_ops(t)->sample(t, a->rtt_us, now);
	if (t->ca_state == TCP_CA_RECOVERY && t->cc_cell)
		; /* those with a model say themselves what may be in flight */
	else if (t->ca_state == TCP_CA_RECOVERY)
		prr(t, a->delivered, a->acked && !more);
	else if (a->acked && !tcp_ecn_reduced(t) && cwnd_limited(t, a->acked))
		tcp_cc_ops(t)->ack(t, a->acked, a->rtt_us, now);
	if (t->ca_state != TCP_CA_OPEN)
		tcp_output_want(st, t);
}

/* RACK's timer: what was too young to be called lost is not any more */
void tcp_recovery_timeout(struct stack *st, struct tcp_conn *t, usec_t now)
{
	mark_lost(st, t, now);
	if (t->ca_state == TCP_CA_DISORDER && loss_found(t)) {
		enter_recovery(st, t, 0, now);
		mark_lost(st, t, now);
		prr(t, 0, false);
	}
	if (t->ca_state >= TCP_CA_RECOVERY)
		tcp_output_want(st, t);
}

/**
 * tcp_enter_loss() - the retransmission timer went off (RFC 6298 5.4, RFC 5681 3.1)
 *
 * What is older than a round trip and not SACKed is taken for lost. A second time-out for the same data leaves
 * ssthresh alone, and so does one in recovery. A peer that SACKed the octets at snd_una and yet does not acknowledge
 * them took its word back (RFC 2018 8): all SACKs are forgotten.
 */
void tcp_enter_loss(struct stack *st, struct tcp_conn *t, usec_t now)
{
	const struct board *b = board(t);
	bool first = t->ca_state < TCP_CA_RECOVERY;

	if (b && seq_leq(b->r[0].start, t->snd_una)) {
		CNT(st, TcpExtTCPSACKReneging);
		tcp_sack_clear(st, t);
		t->rack_rtt_us = RACK_NONE;
	}
	if (first)
		t->lost_edge = t->snd_una;
	if (first || seq_geq(t->snd_una, t->recover) || (t->ca_state == TCP_CA_LOSS && t->retransmits == 0)) {
		save_for_undo(t);
		t->ssthresh = tcp_cc_reduce(t, now);
	}
	tcp_cc_ops(t)->timeout(t);
	t->frto = first || t->retransmits > 0 ? FRTO_ARMED : FRTO_OFF;
	t->ca_state = TCP_CA_LOSS;
	t->recover = t->snd_nxt;
	t->dupacks = 0;
	t->tlp = TLP_NONE;
	tcp_timer_clear(t, TCPT_RACK);
	tcp_rack_timeout(t, now);
	pipe_update(t);
	t->cwnd = t->pipe_bytes + t->snd_mss;
	tcp_output_want(st, t);
}

void tcp_lost_all(struct stack *st, struct tcp_conn *t)
{
	if (t->snd_una == t->snd_nxt)
		return;
	if (t->ca_state != TCP_CA_LOSS) { /* as Linux's tcp_simple_retransmit(): no congestion, cwnd stays */
		t->ssthresh = t->cwnd > 2 * t->snd_mss ? t->cwnd : 2 * t->snd_mss;
		t->flags &= ~TF_UNDO;
		t->ca_state = TCP_CA_LOSS;
		t->frto = FRTO_OFF;
		t->recover = t->snd_nxt;
	}
	t->high_rxt = t->snd_una;
	t->lost_edge = t->snd_nxt;
	tcp_rx_mark_all(t, true);
	pipe_update(t);
	tcp_output_want(st, t);
}
