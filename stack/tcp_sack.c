/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_sack.c - what the peer said it has, what is lost, and how we recover (RFC 2018, 6675, 6582, 6937, 3522)
 *
 * Theory of operation
 *
 * The scoreboard is a sorted table of ranges that the peer SACKed, in a cell made on demand. From it, at each
 * acknowledgment that changes anything, two figures are made (board_update()):
 *
 *   lost_edge   what is not SACKed below it is lost: dupthresh ranges, or more than dupthresh - 1 segments, were SACKed
 *               above (IsLost() of RFC 6675 4); after a time-out all that was in flight then
 *   pipe_bytes  flight - SACKed - lost and not sent again (SetPipe())
 *
 * high_rxt runs from snd_una to lost_edge as holes are sent again (tcp_rexmt_next()); new data leaves when no hole
 * is left below lost_edge. Without SACK each duplicate ACK stands for one segment that arrived, and a partial
 * acknowledgment in recovery says the next segment is lost (RFC 6582).
 *
 *   OPEN      nothing unusual
 *   DISORDER  something SACKed or duplicate ACKs, not enough to call it loss
 *   RECOVERY  until snd_una reaches `recover`; cwnd by PRR
 *   LOSS      after a time-out, until snd_una reaches `recover`; slow start from one segment, SACKed data is not sent again
 *
 * Undo (RFC 3522): if the first acknowledgment of new data in RECOVERY or LOSS echoes a timestamp older than our
 * first retransmission, the original had arrived: cwnd and ssthresh come back, and dupthresh grows, since order is
 * bad here.
 *
 * A retransmission that is lost too: when data sent after it is SACKed, dupthresh segments of it, it is sent once
 * more.
 */
#include <string.h>
#include "tcp_priv.h"

struct board {
	uint32_t n, max;
	struct sack_block r[];
};

static struct board *board(const struct tcb *t)
{
	return t->sack ? (struct board *)t->sack->data : NULL;
}

void tcp_sack_clear(struct stack *st, struct tcb *t)
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

static bool board_grow(struct stack *st, struct tcb *t)
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

static void board_add(struct stack *st, struct tcb *t, uint32_t start, uint32_t end)
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
void tcp_sack_trim(struct stack *st, struct tcb *t)
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

/**
 * tcp_sack_take() - blocks of an acknowledgment into the scoreboard
 * @prior_una:	snd_una before this segment
 * @a:		newly_sacked and dsack are set
 *
 * Blocks that reach beyond what was sent, or are empty, are ignored; so a peer cannot make us believe in data never
 * sent.
 */
void tcp_sack_take(struct stack *st, struct tcb *t, const struct tcp_seg *s, uint32_t prior_una, struct tcp_ack_state *a)
{
	uint32_t before = t->sacked_bytes;

	for (unsigned i = 0; i < s->o.n_sack; i++) {
		uint32_t start = s->o.sack[i].start, end = s->o.sack[i].end;

		if (i == 0 && is_dsack(s)) {
			if (seq_lt(start, end) && seq_leq(end, t->snd_nxt) && seq_geq(start, prior_una - (1u << 30))) {
				a->dsack = true;
				t->dsack_dups++;
				CNT(st, TcpExtTCPDSACKRecv);
			}
			continue;
		}
		if (!seq_lt(start, end) || seq_gt(end, t->snd_nxt) || seq_leq(end, t->snd_una))
			continue;
		board_add(st, t, seq_max(start, t->snd_una), end);
	}
	a->newly_sacked = t->sacked_bytes > before ? t->sacked_bytes - before : 0;
}

/* Behind all that the peer is known to have */
uint32_t tcp_sack_high(const struct tcb *t)
{
	const struct board *b = board(t);

	return b && b->n ? b->r[b->n - 1].end : t->snd_una;
}

/* ---- what is lost, what is in the pipe ---- */

/* RFC 6675 DupThresh; grows where reordering is seen, but never so that a small flight could not reach it (RFC 5827) */
static uint32_t dupthresh(const struct tcb *t)
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
static uint32_t arrived(const struct tcb *t)
{
	uint32_t flight = tcp_flight(t), n;

	if (t->flags & TF_SACK)
		return t->sacked_bytes;
	n = t->dupacks * t->snd_mss;
	return n + t->snd_mss <= flight ? n : flight > t->snd_mss ? flight - t->snd_mss : 0;
}

static uint32_t edge_by_sack(const struct tcb *t)
{
	const struct board *b = board(t);
	uint32_t sum = 0, d = dupthresh(t);

	for (uint32_t i = b ? b->n : 0; i > 0; i--) {
		sum += b->r[i - 1].end - b->r[i - 1].start;
		if (b->n - i + 1 >= d || sum > (d - 1) * t->snd_mss)
			return b->r[i - 1].start;
	}
	return t->snd_una;
}

static void board_update(struct tcb *t)
{
	uint32_t from = seq_max(t->high_rxt, t->snd_una), lost = 0, flight = tcp_flight(t);

	if (t->ca_state == TCP_CA_LOSS)
		t->lost_edge = t->recover;
	else if (t->flags & TF_SACK)
		t->lost_edge = edge_by_sack(t);
	else if (t->ca_state == TCP_CA_RECOVERY)
		t->lost_edge = t->snd_una + (flight < t->snd_mss ? flight : t->snd_mss);
	else
		t->lost_edge = t->snd_una;
	if (seq_lt(from, t->lost_edge))
		lost = t->lost_edge - from - sacked_in(board(t), from, t->lost_edge);
	lost += arrived(t);
	t->pipe_bytes = flight > lost ? flight - lost : 0;
}

uint32_t tcp_pipe(const struct tcb *t)
{
	return t->ca_state == TCP_CA_OPEN ? tcp_flight(t) : t->pipe_bytes;
}

/* NextSeg() rule 1 of RFC 6675 4: the first hole below lost_edge that was not sent again */
bool tcp_rexmt_next(const struct tcb *t, uint32_t *ret_seq, uint32_t *ret_len)
{
	const struct board *b = board(t);
	uint32_t seq = seq_max(t->high_rxt, t->snd_una), end = t->lost_edge;

	for (uint32_t i = b ? board_find(b, seq) : 0; b && i < b->n; i++) {
		if (seq_gt(b->r[i].start, seq)) {
			end = seq_min(end, b->r[i].start);
			break;
		}
		seq = seq_max(seq, b->r[i].end);
	}
	if (seq_geq(seq, end))
		return false;
	*ret_seq = seq;
	*ret_len = end - seq;
	return true;
}

/* ---- congestion states ---- */

static void save_for_undo(struct tcb *t)
{
	t->prior_cwnd = t->cwnd;
	t->prior_ssthresh = t->ssthresh;
	t->rexmt_ts = 0;
	t->flags |= TF_UNDO;
}

static void enter_recovery(struct stack *st, struct tcb *t, usec_t now)
{
	CNT(st, TcpExtTCPFastRetrans);
	save_for_undo(t);
	t->prr_cwnd = tcp_flight(t) > t->snd_mss ? tcp_flight(t) : t->snd_mss;
	t->prr_delivered = t->prr_out = 0;
	t->ssthresh = tcp_cc_reduce(t, now);
	t->recover = t->head_mark = t->snd_nxt;
	t->high_rxt = t->snd_una;
	t->ca_state = TCP_CA_RECOVERY;
}

/* RFC 6937 3.1, slow start reduction bound */
static void prr(struct tcb *t, uint32_t delivered)
{
	uint32_t pipe = t->pipe_bytes, sndcnt;

	t->prr_delivered += delivered;
	if (pipe > t->ssthresh) {
		uint64_t due = ((uint64_t)t->prr_delivered * t->ssthresh + t->prr_cwnd - 1) / t->prr_cwnd;

		sndcnt = due > t->prr_out ? (uint32_t)(due - t->prr_out) : 0;
	} else {
		uint32_t owed = t->prr_delivered > t->prr_out ? t->prr_delivered - t->prr_out : 0;

		sndcnt = (owed > delivered ? owed : delivered) + t->snd_mss;
		if (sndcnt > t->ssthresh - pipe)
			sndcnt = t->ssthresh - pipe;
	}
	t->cwnd = pipe + sndcnt;
	if (t->cwnd < t->snd_mss)
		t->cwnd = t->snd_mss;
}

static void leave_recovery(struct tcb *t)
{
	if (t->ca_state == TCP_CA_RECOVERY && !t->cc_cell)
		t->cwnd = t->ssthresh;
	t->flags &= ~(TF_UNDO | TF_REXMT_HEAD);
	t->dupacks = 0;
	t->high_rxt = t->snd_una;
	t->rexmt_ts = 0;
	t->ca_state = t->sacked_bytes ? TCP_CA_DISORDER : TCP_CA_OPEN;
}

/* RFC 3522: does this acknowledgment echo a segment older than our first retransmission */
static bool spurious(const struct tcb *t, const struct tcp_seg *s, const struct tcp_ack_state *a)
{
	return a->acked && t->flags & TF_UNDO && t->flags & TF_TS && s->o.ts && s->o.ts_ecr && t->rexmt_ts &&
	       (int32_t)(s->o.ts_ecr - t->rexmt_ts) < 0;
}

static void undo(struct stack *st, struct tcb *t)
{
	CNT(st, TcpExtTCPFullUndo);
	if (t->ca_state == TCP_CA_RECOVERY && t->reordering < TCP_DUPTHRESH_MAX) {
		t->reordering += t->reordering / 2;
		t->reord_seen++;
		if (t->reordering > TCP_DUPTHRESH_MAX)
			t->reordering = TCP_DUPTHRESH_MAX;
	}
	leave_recovery(t); /* first: it sets cwnd to ssthresh, and the one put back may be without bound */
	t->ssthresh = t->prior_ssthresh > t->ssthresh ? t->prior_ssthresh : t->ssthresh;
	tcp_cc_ops(t)->undo(t);
	if (t->cwnd < t->prior_cwnd)
		t->cwnd = t->prior_cwnd;
}

/* Linux's tcp_is_cwnd_limited(): a window that was not used says nothing about the path (RFC 7661) */
static bool cwnd_limited(const struct tcb *t, uint32_t acked)
{
	if (t->cwnd < t->ssthresh)
		return t->cwnd < 2 * (tcp_flight(t) + acked);
	return t->flags & TF_CWND_LIMITED;
}

static void head_lost_again(struct stack *st, struct tcb *t)
{
	const struct board *b = board(t);

	if (!b || seq_leq(t->high_rxt, t->snd_una) || t->flags & TF_REXMT_HEAD)
		return;
	if (seq_leq(b->r[b->n - 1].end, t->head_mark + dupthresh(t) * t->snd_mss))
		return;
	CNT(st, TcpExtTCPLostRetransmit);
	t->head_mark = t->snd_nxt;
	t->flags |= TF_REXMT_HEAD;
}

static void count_dupacks(struct tcb *t, const struct tcp_ack_state *a)
{
	if (a->acked) {
		uint32_t segs = a->acked / t->snd_mss;

		/* one of the segments acknowledged is the one that was missing */
		t->dupacks = t->ca_state >= TCP_CA_RECOVERY && t->dupacks > segs ? (uint8_t)(t->dupacks - segs) : 0;
	} else if (a->dupack && t->dupacks < UINT8_MAX) {
		t->dupacks++;
	}
}

static bool loss_found(const struct tcb *t)
{
	if (t->flags & TF_SACK)
		return seq_gt(t->lost_edge, t->snd_una);
	return t->dupacks >= dupthresh(t) && seq_geq(t->snd_una, t->recover); /* RFC 6582 3.2 step 2 */
}

void tcp_recovery(struct stack *st, struct tcb *t, const struct tcp_seg *s, const struct tcp_ack_state *a, usec_t now)
{
	uint32_t delivered = a->acked + a->newly_sacked;

	count_dupacks(t, a);
	if (t->ca_state >= TCP_CA_RECOVERY) {
		if (spurious(t, s, a))
			undo(st, t);
		else if (seq_geq(t->snd_una, t->recover))
			leave_recovery(t);
		else if (a->acked) {
			t->head_mark = t->snd_nxt;
			t->flags &= ~TF_REXMT_HEAD;
			if (!(t->flags & TF_SACK) && t->ca_state == TCP_CA_RECOVERY)
				t->high_rxt = t->snd_una; /* partial acknowledgment: the next one is lost too */
		}
	}
	if (t->ca_state < TCP_CA_RECOVERY) {
		t->ca_state = t->sacked_bytes || t->dupacks ? TCP_CA_DISORDER : TCP_CA_OPEN;
		if (t->ca_state == TCP_CA_DISORDER) {
			t->high_rxt = t->snd_una;
			board_update(t);
			if (loss_found(t))
				enter_recovery(st, t, now);
		}
	}
	if (t->ca_state != TCP_CA_OPEN)
		board_update(t);
	if (t->ca_state == TCP_CA_RECOVERY) {
		head_lost_again(st, t);
		if (!t->cc_cell) /* those with a model say themselves what may be in flight */
			prr(t, delivered);
	} else if (a->acked && !tcp_ecn_reduced(t) && cwnd_limited(t, a->acked)) {
		tcp_cc_ops(t)->ack(t, a->acked, a->rtt_us, now);
	}
	if (t->ca_state != TCP_CA_OPEN)
		tcp_output_want(st, t);
}

/**
 * tcp_enter_loss() - the retransmission timer went off (RFC 6298 5.4, RFC 5681 3.1)
 *
 * All in flight that is not SACKed is taken for lost. A second time-out for the same data leaves ssthresh alone. A
 * peer that SACKed the octets at snd_una and yet does not acknowledge them took its word back (RFC 2018 8): all
 * SACKs are forgotten.
 */
void tcp_enter_loss(struct stack *st, struct tcb *t, usec_t now)
{
	const struct board *b = board(t);

	if (b && seq_leq(b->r[0].start, t->snd_una)) {
		CNT(st, TcpExtTCPSACKReneging);
		tcp_sack_clear(st, t);
	}
	if (t->ca_state != TCP_CA_LOSS || seq_geq(t->snd_una, t->high_rxt)) {
		save_for_undo(t);
		t->ssthresh = tcp_cc_reduce(t, now);
	}
	tcp_cc_ops(t)->timeout(t);
	t->ca_state = TCP_CA_LOSS;
	t->cwnd = t->snd_mss;
	t->recover = t->head_mark = t->snd_nxt;
	t->high_rxt = t->snd_una;
	t->dupacks = 0;
	t->rtt_n = 0;
	t->flags &= ~TF_REXMT_HEAD;
	board_update(t);
	tcp_output_want(st, t);
}

void tcp_lost_all(struct stack *st, struct tcb *t)
{
	if (t->snd_una == t->snd_nxt)
		return;
	if (t->ca_state != TCP_CA_LOSS) { /* as Linux's tcp_simple_retransmit(): no congestion, cwnd stays */
		t->ssthresh = t->cwnd > 2 * t->snd_mss ? t->cwnd : 2 * t->snd_mss;
		t->flags &= ~TF_UNDO;
		t->ca_state = TCP_CA_LOSS;
		t->recover = t->snd_nxt;
	}
	t->high_rxt = t->snd_una;
	t->rtt_n = 0;
	board_update(t);
	tcp_output_want(st, t);
}
