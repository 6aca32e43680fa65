/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_recv.c - payload on its way to the program: receive queue, out-of-order queue, when to acknowledge
 *
 * Theory of operation
 *
 * Payload is copied out of the frame into cells. Room at the end of the last cell is filled first, so that many small
 * segments cost little more than their octets; where data piles up, larger cells are taken.
 *
 * Out of order: one cell holds a table of ranges, sorted by sequence number, never touching or overlapping, each
 * with its own list of cells. A segment is cut into the pieces that lie in gaps; a piece that touches a range
 * becomes part of it. Place is found by bisection, so a peer that sends thousands of fragments in the worst order
 * costs a bisection and a memmove of at most one cell each. Everything held counts against the socket's receive
 * buffer; the range farthest away goes first.
 *
 * What SACK reports (RFC 2018 4): the range that holds the segment which came last, then those reported before it.
 * Only a sequence number inside of each is kept; its range is looked up when the option is written.
 */
#include <errno.h>
#include <string.h>
#include "tcp_priv.h"

struct ooo_range {
	uint32_t start, end;
	struct cell *head, *tail;
};

struct ooo_tab {
	uint32_t n, max;
	struct ooo_range r[];
};

static struct ooo_tab *ooo_tab(const struct tcp_conn *t)
{
	return (struct ooo_tab *)t->ooo->data;
}

static void cells_free(struct stack *st, struct tcp_conn *t, struct cell *c)
{
	while (c) {
		struct cell *next = c->next;

		t->rcv_mem_bytes -= cell_block(c);
		cell_put(st, c);
		c = next;
	}
}

/**
 * cells_append() - copy octets to the end of a list of cells
 * @roomy:	more is likely to come: do not take the smallest cell
 *
 * Return: octets copied, less than @len where cells ran out
 */
static uint32_t cells_append(struct stack *st, struct tcp_conn *t, struct cell **head, struct cell **tail, const uint8_t *data,
			     uint32_t len, bool roomy)
{
	uint32_t done = 0;

	while (done < len) {
		struct cell *c = *tail;
		uint32_t n = c ? cell_room(c) : 0;

		if (n == 0) {
			uint32_t want = len - done;

			if (roomy && want < cell_cap_bytes[CELL_MEDIUM])
				want = cell_cap_bytes[CELL_MEDIUM];
			c = cell_alloc(st, want);
			if (!c)
				return done;
			c->next = NULL;
			t->rcv_mem_bytes += cell_block(c);
			if (*tail)
				(*tail)->next = c;
			else
				*head = c;
			*tail = c;
			n = cell_room(c);
		}
		if (n > len - done)
			n = len - done;
		memcpy(c->data + c->off + c->len, data + done, n);
		c->len += n;
		done += n;
	}
	return done;
}

/* ---- out of order ---- */

/* First range that ends behind @seq, n if there is none */
static uint32_t ooo_find(const struct ooo_tab *o, uint32_t seq)
{
	uint32_t lo = 0, hi = o->n;

	while (lo < hi) {
		uint32_t mid = (lo + hi) / 2;

		if (seq_gt(o->r[mid].end, seq))
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

static void ooo_remove(struct ooo_tab *o, uint32_t i)
{
	memmove(&o->r[i], &o->r[i + 1], (o->n - i - 1) * sizeof(o->r[0]));
	o->n--;
}

static void ooo_drop_tab(struct stack *st, struct tcp_conn *t)
{
	if (!t->ooo)
		return;
	t->rcv_mem_bytes -= cell_block(t->ooo);
	cell_put(st, t->ooo);
	t->ooo = NULL;
	t->n_sack_recent = 0;
}

/* Room for one more range: a table in the next larger cell where this one is full. False: none to be had */
static bool ooo_grow(struct stack *st, struct tcp_conn *t)
{
	struct ooo_tab *old = t->ooo ? ooo_tab(t) : NULL, *o;
	struct cell *c;

	if (old && old->n < old->max)
		return true;
	c = cell_alloc(st, t->ooo ? t->ooo->cap + 1 : 1);
	if (!c)
		return false;
	o = (struct ooo_tab *)c->data;
	o->n = 0;
	o->max = (c->cap - (uint32_t)sizeof(*o)) / (uint32_t)sizeof(o->r[0]);
	if (old && o->max <= old->max) { /* the largest cell is full already */
		cell_put(st, c);
		return false;
	}
	if (old) {
		o->n = old->n;
		memcpy(o->r, old->r, old->n * sizeof(o->r[0]));
		t->rcv_mem_bytes -= cell_block(t->ooo);
		cell_put(st, t->ooo);
	}
	t->rcv_mem_bytes += cell_block(c);
	t->ooo = c;
	return true;
}

/* The farthest range goes: what is near closes the gap sooner. */
static void ooo_prune_last(struct stack *st, struct tcp_conn *t)
{
	struct ooo_tab *o = ooo_tab(t);
	struct ooo_range *r = &o->r[o->n - 1];

	t->ooo_bytes -= r->end - r->start;
	cells_free(st, t, r->head);
	if (--o->n == 0)
		ooo_drop_tab(st, t);
	CNT(st, TcpExtOfoPruned);
}

void tcp_ooo_purge(struct stack *st, struct tcp_conn *t)
{
	while (t->ooo)
		ooo_prune_last(st, t);
	t->flags &= ~TF_FIN_OOO;
}

/* Puts [seq, seq + len), which no range holds, into the range it touches or a new one at index @i. False: no memory */
static bool ooo_put(struct stack *st, struct tcp_conn *t, uint32_t i, uint32_t seq, const uint8_t *data, uint32_t len)
{
	struct ooo_tab *o = t->ooo ? ooo_tab(t) : NULL;
	struct ooo_range *prev = i > 0 ? &o->r[i - 1] : NULL, *next;
	uint32_t n;

	if (!prev || prev->end != seq) {
		if (!ooo_grow(st, t))
			return false;
		o = ooo_tab(t);
		memmove(&o->r[i + 1], &o->r[i], (o->n - i) * sizeof(o->r[0]));
		o->r[i] = (struct ooo_range){ .start = seq, .end = seq };
		o->n++;
		prev = &o->r[i++];
	}
	n = cells_append(st, t, &prev->head, &prev->tail, data, len, prev->head != NULL);
	prev->end += n;
	t->ooo_bytes += n;
	if (prev->end == prev->start) {
		ooo_remove(o, i - 1);
		if (o->n == 0)
			ooo_drop_tab(st, t);
		return false;
	}
	next = i < o->n ? &o->r[i] : NULL;
	if (next && next->start == prev->end) {
		prev->tail->next = next->head;
		prev->tail = next->tail;
		prev->end = next->end;
		ooo_remove(o, i);
	}
	return n == len;
}

static void sack_recent_add(struct tcp_conn *t, uint32_t seq)
{
	unsigned n = t->n_sack_recent < TCP_SACK_RECENT ? t->n_sack_recent : TCP_SACK_RECENT - 1;

	memmove(&t->sack_recent[1], &t->sack_recent[0], n * sizeof(t->sack_recent[0]));
	t->sack_recent[0] = seq;
	t->n_sack_recent = (uint8_t)(n + 1);
}

/* A little more than the window may be held, since what fills the gap must find room too */
static bool ooo_over(const struct tcp_conn *t)
{
	return t->rcv_mem_bytes >= t->opts.rcvbuf_bytes + t->opts.rcvbuf_bytes / 4;
}

static void ooo_insert(struct stack *st, struct tcp_conn *t, uint32_t seq, const uint8_t *data, uint32_t len)
{
	uint32_t at = seq, end = seq + len;
	bool fresh = false;

	t->rcv_ooopack++;
	CNT(st, TcpExtTCPOFOQueue);
	while (seq_lt(at, end)) {
		uint32_t i = t->ooo ? ooo_find(ooo_tab(t), at) : 0, stop = end;

		if (t->ooo && i < ooo_tab(t)->n) {
			struct ooo_range *r = &ooo_tab(t)->r[i];

			if (seq_geq(at, r->start)) { /* held already */
				at = r->end;
				continue;
			}
			stop = seq_min(end, r->start);
		}
		if (ooo_over(t)) {
			if (t->ooo && ooo_tab(t)->n > i + 1) { /* what is nearer is worth more */
				ooo_prune_last(st, t);
				continue;
			}
			CNT(st, TcpExtTCPRcvQDrop);
			break;
		}
		fresh = true;
		if (!ooo_put(st, t, i, at, data + (at - seq), stop - at)) {
			CNT(st, TcpExtTCPRcvQDrop);
			break;
		}
		at = stop;
	}
	if (!fresh && t->flags & TF_SACK) { /* RFC 2883 4: a duplicate above the gap */
		CNT(st, TcpExtTCPDSACKOfoSent);
		t->flags |= TF_DSACK;
		t->dsack_start = seq;
		t->dsack_end = end;
	}
	if (t->ooo)
		sack_recent_add(t, seq);
}

/* The gap closed: ranges that now follow rcv_nxt move to the receive queue. Return: octets gained */
static uint32_t ooo_drain(struct stack *st, struct tcp_conn *t)
{
	uint32_t before = t->rcv_nxt;

	while (t->ooo) {
		struct ooo_tab *o = ooo_tab(t);
		struct ooo_range r = o->r[0];
		struct cell *c = r.head;

		if (seq_gt(r.start, t->rcv_nxt))
			break;
		ooo_remove(o, 0);
		t->ooo_bytes -= r.end - r.start;
		if (o->n == 0)
			ooo_drop_tab(st, t);
		while (c && seq_leq(r.start + c->len, t->rcv_nxt)) { /* came in order meanwhile */
			struct cell *next = c->next;

			r.start += c->len;
			c->next = NULL;
			cells_free(st, t, c);
			c = next;
		}
		if (!c)
			continue;
		c->off += t->rcv_nxt - r.start;
		c->len -= t->rcv_nxt - r.start;
		if (t->rcv_tail)
			t->rcv_tail->next = c;
		else
			t->rcv_head = c;
		t->rcv_tail = r.tail;
		t->rcv_bytes += r.end - t->rcv_nxt;
		t->rcv_nxt = r.end;
	}
	return t->rcv_nxt - before;
}

/**
 * tcp_sack_build() - blocks for the SACK option, RFC 2018 4 and RFC 2883 4
 * @max:	blocks that have room
 *
 * Return: blocks written
 */
unsigned tcp_sack_build(struct tcp_conn *t, struct sack_block *ret_b, unsigned max)
{
	struct ooo_tab *o = t->ooo ? ooo_tab(t) : NULL;
	unsigned n = 0, first;

	if (t->flags & TF_DSACK)
		ret_b[n++] = (struct sack_block){ t->dsack_start, t->dsack_end };
	first = n;
	for (unsigned k = 0; o && k < t->n_sack_recent && n < max; k++) {
		uint32_t i = ooo_find(o, t->sack_recent[k]);
		unsigned j = first;

		if (i == o->n || seq_lt(t->sack_recent[k], o->r[i].start))
			continue;
		while (j < n && ret_b[j].start != o->r[i].start)
			j++;
		if (j == n)
			ret_b[n++] = (struct sack_block){ o->r[i].start, o->r[i].end };
	}
	return n;
}

/* repair: its cells are forgotten, the sweep frees them */
void tcp_ooo_forget(struct tcp_conn *t)
{
	t->ooo = NULL;
	t->ooo_bytes = 0;
	t->n_sack_recent = 0;
}

void tcp_ooo_mark(const struct tcp_conn *t)
{
	if (!t->ooo)
		return;
	cell_repair_mark(t->ooo);
	for (uint32_t i = 0; i < ooo_tab(t)->n; i++)
		for (struct cell *c = ooo_tab(t)->r[i].head; c; c = c->next)
			cell_repair_mark(c);
}

/* ---- when to acknowledge ---- */

/* Estimate of the peer's segment size, as Linux's tcp_measure_rcv_mss() */
static void measure_rcv_mss(struct tcp_conn *t, const struct tcp_seg *s)
{
	uint32_t len = s->gso_size && s->gso_size < s->len ? s->gso_size : s->len;

	if (len >= t->rcv_mss)
		t->rcv_mss = len < t->advmss ? len : t->advmss;
}

/* RFC 9293 3.8.6.3 with Linux's adaptive time (tcp_event_data_recv): 40 ms, more if data comes slowly, never over 200 ms */
static void adapt_ato(struct tcp_conn *t, usec_t now)
{
	usec_t gap = now - t->last_rcv;

	if (t->ato_us == 0) { /* first data: acknowledge a while at once, slow start over there lives by it */
		t->quick_acks = TCP_MAX_QUICKACKS;
		t->ato_us = TCP_ATO_MIN_US;
	} else if (gap <= TCP_ATO_MIN_US / 2) {
		t->ato_us = t->ato_us / 2 + TCP_ATO_MIN_US / 2;
	} else if (gap < t->ato_us) {
		t->ato_us = t->ato_us / 2 + (uint32_t)gap;
		if (t->ato_us > TCP_DELACK_MAX_US)
			t->ato_us = TCP_DELACK_MAX_US;
	} else if (gap > t->rto_us && t->rto_us > 0) {
		t->quick_acks = TCP_MAX_QUICKACKS; /* a long pause: the peer starts slowly again */
	}
	t->last_rcv = now;
}

/* RFC 9293 3.8.6.3: every second full segment at once (SHLD-19); quick-ACK phases as Linux */
static void ack_schedule(struct stack *st, struct tcp_conn *t, usec_t now)
{
	if (t->rcv_nxt - t->rcv_wup > t->rcv_mss || t->ooo || (t->quick_acks && !(t->flags & TF_PINGPONG))) {
		t->flags |= TF_ACK_NOW;
		tcp_output_want(st, t);
	} else if (!(t->flags & (TF_ACK_NOW | TF_ACK_DELAYED))) {
		t->flags |= TF_ACK_DELAYED;
		tcp_timer_set(st, t, TCPT_DELACK, now + t->ato_us);
	}
}

static void ack_at_once(struct stack *st, struct tcp_conn *t)
{
	t->flags |= TF_ACK_NOW;
	tcp_output_want(st, t);
}

/* ---- buffer tuning ---- */

void tcp_rcv_space_init(struct tcp_conn *t)
{
	uint32_t space = t->opts.rcvbuf_bytes / 2;

	t->rcv_space_bytes = t->opts.window_clamp_bytes && t->opts.window_clamp_bytes < space ? t->opts.window_clamp_bytes : space;
}

static void rcv_rtt_add(struct tcp_conn *t, uint32_t sample_us, bool by_window)
{
	if (sample_us == 0)
		sample_us = 1;
	if (t->rcv_rtt_us == 0 || (by_window && sample_us < t->rcv_rtt_us))
		t->rcv_rtt_us = sample_us;
	else if (!by_window)
		t->rcv_rtt_us += (uint32_t)(((int64_t)sample_us - t->rcv_rtt_us) / 8);
}

/* The receiver's view of the round trip: by timestamps, or by how long a window takes to come. */
static void rcv_rtt_measure(struct tcp_conn *t, const struct tcp_seg *s, usec_t now)
{
	if (t->flags & TF_TS && s->o.ts && s->o.ts_ecr) {
		uint32_t ms = t->ts_offset + tcp_ts_clock(now) - s->o.ts_ecr;

		if (s->len >= t->rcv_mss && ms < 60000)
			rcv_rtt_add(t, ms ? ms * 1000 : 1000, false);
		return;
	}
	if (t->rcv_rtt_at && seq_lt(t->rcv_nxt, t->rcv_rtt_seq))
		return;
	if (t->rcv_rtt_at && now - t->rcv_rtt_at < SEC(60))
		rcv_rtt_add(t, (uint32_t)(now - t->rcv_rtt_at), true);
	t->rcv_rtt_seq = t->rcv_nxt + (t->rcv_adv - t->rcv_nxt);
	t->rcv_rtt_at = now;
}

/**
 * rcv_space_adjust() - dynamic right-sizing, as Linux's tcp_rcv_space_adjust()
 *
 * Once per round trip: if the program read more in it than in the one before, the window must hold twice that, since
 * the sender may double, and more where it grows fast. Up to tcp_rmem[2], never where the program set SO_RCVBUF.
 */
static void rcv_space_adjust(struct stack *st, struct tcp_conn *t, usec_t now)
{
	uint32_t copied = t->copied_seq - t->rcvq_seq, was = t->rcvq_space;
	uint64_t win;

	if (t->rcv_rtt_us == 0 || now - t->rcvq_at < t->rcv_rtt_us)
		return;
	if (was == 0) { /* the first round trip: beside an initial window, not beside nothing, or all would be given at once */
		was = TCP_INIT_CWND_SEGS * t->advmss;
		was = was && was < t->rcv_space_bytes ? was : t->rcv_space_bytes ? t->rcv_space_bytes : 1;
	}
	if (copied > was && !t->opts.rcvbuf_locked) {
		win = 2ull * copied + 16ull * t->advmss;
		win += 2 * (win * (copied - was) / was);
		if (win > st->ctl.tcp_rmem[2] / 2)
			win = st->ctl.tcp_rmem[2] / 2;
		if (win * 2 > t->opts.rcvbuf_bytes) {
			t->opts.rcvbuf_bytes = (uint32_t)win * 2;
			tcp_rcv_space_init(t);
		}
	}
	t->rcvq_space = copied > was ? copied : was;
	t->rcvq_seq = t->copied_seq;
	t->rcvq_at = now;
}

/* ---- arrival ---- */

void tcp_recv_tell(struct stack *st, struct tcp_conn *t)
{
	if ((int64_t)t->rcv_bytes >= t->opts.rcvlowat_bytes || t->rcv_bytes >= t->rcv_space_bytes / 2)
		tcp_event(st, t, TCP_EV_IN | TCP_EV_RDNORM);
}

/* RFC 9293 3.10.7.4, eighth: the FIN bit. False: the tcb is gone (orphan in TIME_WAIT) */
static bool take_fin(struct stack *st, struct tcp_conn *t, usec_t now)
{
	t->rcv_nxt++;
	t->bytes_received++;
	t->flags |= TF_FIN_RCVD | TF_RCV_SHUT;
	t->flags &= ~TF_FIN_OOO;
	tcp_ooo_purge(st, t);
	ack_at_once(st, t);
	switch ((enum tcp_state)t->state) {
	case TCPS_SYN_RECEIVED:
	case TCPS_ESTABLISHED:
		tcp_set_state(t, TCPS_CLOSE_WAIT);
		t->flags |= TF_PINGPONG;
		break;
	case TCPS_FIN_WAIT_1:
		tcp_set_state(t, TCPS_CLOSING);
		break;
	case TCPS_FIN_WAIT_2:
		tcp_xmit_ack(st, t, now);
		tcp_event(st, t, TCP_EV_IN | TCP_EV_RDNORM | TCP_EV_RDHUP | TCP_EV_HUP);
		tcp_timewait(st, t, now);
		return false;
	case TCPS_SYN_SENT:
	case TCPS_TIME_WAIT:
	case TCPS_CLOSED:
	case TCPS_CLOSE_WAIT:
	case TCPS_LAST_ACK:
	case TCPS_LISTEN:
	case TCPS_CLOSING:
		break;
	}
	tcp_event(st, t, TCP_EV_IN | TCP_EV_RDNORM | TCP_EV_RDHUP | (t->flags & TF_SND_SHUT ? TCP_EV_HUP : 0));
	return true;
}

static void duplicate(struct stack *st, struct tcp_conn *t, uint32_t start, uint32_t end)
{
	CNT(st, TcpExtDelayedACKLost);
	if (t->flags & TF_SACK) {
		CNT(st, TcpExtTCPDSACKOldSent);
		t->flags |= TF_DSACK;
		t->dsack_start = start;
		t->dsack_end = end;
	}
	t->quick_acks = TCP_MAX_QUICKACKS;
	t->flags &= ~TF_PINGPONG;
	ack_at_once(st, t);
}

/* The next octets. False: not all found room, what follows them must not be taken */
static bool take_in_order(struct stack *st, struct tcp_conn *t, const uint8_t *data, uint32_t len)
{
	uint32_t n = cells_append(st, t, &t->rcv_head, &t->rcv_tail, data, len, t->rcv_bytes > 0);

	if (n < len && t->ooo) {
		tcp_ooo_purge(st, t);
		n += cells_append(st, t, &t->rcv_head, &t->rcv_tail, data + n, len - n, true);
	}
	t->rcv_nxt += n;
	t->rcv_bytes += n;
	t->bytes_received += n;
	if (n < len) {
		CNT(st, TcpExtTCPRcvQDrop);
		ack_at_once(st, t);
	}
	return n == len;
}

bool tcp_recv_data(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s, usec_t now)
{
	uint32_t seq = s->seq, len = s->len, wnd_end = seq_max(t->rcv_adv, t->rcv_nxt);
	const uint8_t *data = s->data;
	bool fin = s->flags & TH_FIN, whole = true;

	if (len == 0 && !fin)
		return true;
	if (len > 0) {
		t->data_segs_in += s->gso_size && s->gso_size < len ? (len + s->gso_size - 1) / s->gso_size : 1;
		measure_rcv_mss(t, s);
		adapt_ato(t, now);
	}
	if (seq_lt(seq, t->rcv_nxt)) {
		uint32_t old = t->rcv_nxt - seq;

		duplicate(st, t, seq, seq_min(t->rcv_nxt, seq + len + fin));
		if (old > len || (old == len && !fin) || t->flags & TF_FIN_RCVD)
			return true;
		seq += old;
		data += old;
		len -= old;
	}
	if (t->flags & TF_FIN_RCVD) { /* nothing can follow a FIN */
		ack_at_once(st, t);
		return true;
	}
	if (seq_gt(seq + len, wnd_end)) {
		uint32_t over = seq + len - wnd_end;

		ack_at_once(st, t);
		CNT(st, TcpExtTCPZeroWindowDrop);
		if (over >= len && len > 0)
			return true;
		len -= over;
		fin = false;
	}
	if (seq != t->rcv_nxt) {
		if (t->flags & TF_ACK_NOW && !(t->flags & TF_SACK))
			tcp_xmit_ack(st, t, now); /* a peer without SACK counts them: one for each (RFC 5681 4.2) */
		if (len > 0)
			ooo_insert(st, t, seq, data, len);
		if (fin) {
			t->flags |= TF_FIN_OOO;
			t->fin_seq = seq + len;
		}
		ack_at_once(st, t);
		return true;
	}
	if (len > 0) {
		whole = take_in_order(st, t, data, len);
		if (t->ooo)
			t->bytes_received += ooo_drain(st, t);
		rcv_rtt_measure(t, s, now);
		ack_schedule(st, t, now);
		tcp_recv_tell(st, t);
	}
	if ((fin && whole) || (t->flags & TF_FIN_OOO && t->fin_seq == t->rcv_nxt))
		return take_fin(st, t, now);
	return true;
}

uint32_t tcp_recv_copy(struct stack *st, struct tcp_conn *t, const uint8_t *data, uint32_t len)
{
	return cells_append(st, t, &t->rcv_head, &t->rcv_tail, data, len, t->rcv_bytes > 0);
}

void tcp_recv_link(struct tcp_conn *t, struct cell *c)
{
	c->next = NULL;
	t->rcv_mem_bytes += cell_block(c);
	if (t->rcv_tail)
		t->rcv_tail->next = c;
	else
		t->rcv_head = c;
	t->rcv_tail = c;
}

/* ---- the program's side ---- */

void tcp_recv_purge(struct stack *st, struct tcp_conn *t)
{
	cells_free(st, t, t->rcv_head);
	t->rcv_head = t->rcv_tail = NULL;
	t->rcv_bytes = 0;
}

/* One octet at the head goes unread: the urgent one */
void tcp_recv_skip(struct stack *st, struct tcp_conn *t)
{
	struct cell *c = t->rcv_head;

	t->rcv_bytes--;
	t->copied_seq++;
	t->urg_data = 0;
	c->off++;
	if (--c->len > 0)
		return;
	t->rcv_head = c->next;
	if (!t->rcv_head)
		t->rcv_tail = NULL;
	t->rcv_mem_bytes -= cell_block(c);
	cell_put(st, c);
}

/**
 * urg_limit() - where reading from octet @skip on begins and ends while there is a mark
 * @want:	cut so that the mark is not passed in one read
 *
 * Return: octets to skip in the queue: one more behind the hole
 */
static size_t urg_limit(const struct tcp_conn *t, size_t skip, size_t *want)
{
	uint32_t mark = t->rcv_up - t->copied_seq;

	if (mark >= t->rcv_bytes)
		return skip;
	if (skip < mark) {
		*want = *want < mark - skip ? *want : mark - skip;
		return skip;
	}
	if (t->opts.oobinline)
		return skip;
	return skip + 1;
}

ptrdiff_t tcp_recv_begin(struct stack *st, struct tcb *s, size_t skip, size_t want, struct iovec *iov, int max, int *ret_n)
{
	struct tcp_conn *t = s->conn;
	size_t got = 0;
	int n = 0;

	if (!t) {
		*ret_n = 0;
		return s->rest.flags & TF_RCV_SHUT ? 0 : -EAGAIN;
	}
	if (t->flags & TF_RCV_BUSY)
		return -EBUSY;
	if (t->state == TCPS_LISTEN)
		return -ENOTCONN;
	if (t->urg_data)
		skip = urg_limit(t, skip, &want);
	for (struct cell *c = t->rcv_head; c && got < want && n < max; c = c->next) {
		size_t len = c->len;

		if (skip >= len) {
			skip -= len;
			continue;
		}
		len -= skip;
		if (len > want - got)
			len = want - got;
		iov[n++] = (struct iovec){ .iov_base = c->data + c->off + skip, .iov_len = len };
		got += len;
		skip = 0;
	}
	*ret_n = n;
	if (got > 0) {
		tcp_touch(st, t);
		t->flags |= tcp_hole_first(t) ? TF_RCV_BUSY | TF_RCV_HOLE : TF_RCV_BUSY;
		return (ptrdiff_t)got;
	}
	if (want == 0 && t->rcv_bytes > 0)
		return 0;
	if (t->flags & TF_FIN_RCVD)
		return 0; /* as Linux's SOCK_DONE: end of file comes before a late error */
	if (t->error)
		return -tcp_conn_error_take(t);
	if (t->flags & TF_RCV_SHUT)
		return 0;
	return t->state == TCPS_CLOSED ? -ENOTCONN : -EAGAIN;
}

static struct cell *cells_filled(struct stack *st, const uint8_t *data, size_t n, struct cell **ret_last)
{
	struct cell *first = NULL, **end = &first;

	while (n > 0) {
		struct cell *c = cell_alloc(st, (uint32_t)(n < UINT16_MAX ? n : UINT16_MAX));
		uint32_t m;

		if (!c) {
			while ((c = first)) {
				first = c->next;
				cell_put(st, c);
			}
			return NULL;
		}
		m = cell_room(c) < n ? cell_room(c) : (uint32_t)n;
		memcpy(c->data + c->off, data, m);
		c->len = m;
		c->next = NULL;
		*end = *ret_last = c;
		end = &c->next;
		data += m;
		n -= m;
	}
	return first;
}

int tcp_unread(struct stack *st, struct tcb *s, const void *data, size_t n)
{
	struct tcp_conn *t = tcp_wake(st, s, (usec_t)st->wheel.tick << WHEEL_TICK_SHIFT);
	struct cell *first, *last = NULL;

	if (!t)
		return -ENOMEM;
	if (t->flags & TF_RCV_BUSY)
		return -EBUSY;
	if (!n)
		return 0;
	tcp_touch(st, t);
	first = cells_filled(st, data, n, &last);
	if (!first)
		return -ENOMEM;
	for (const struct cell *c = first; c; c = c->next)
		t->rcv_mem_bytes += cell_block(c);
	last->next = t->rcv_head;
	if (!t->rcv_head)
		t->rcv_tail = last;
	t->rcv_head = first;
	t->rcv_bytes += (uint32_t)n;
	t->copied_seq -= (uint32_t)n;
	return 0;
}

/* Linux's tcp_cleanup_rbuf(): is it time to tell the peer what was freed, or to acknowledge before the timer */
static void ack_after_read(struct stack *st, struct tcp_conn *t)
{
	uint32_t left = seq_gt(t->rcv_adv, t->rcv_nxt) ? t->rcv_adv - t->rcv_nxt : 0, now_wnd;

	if (t->flags & TF_RCV_SHUT || !tcp_is_synchronized(t))
		return;
	if (t->flags & TF_ACK_DELAYED && !(t->flags & TF_PINGPONG) && t->rcv_bytes == 0) {
		ack_at_once(st, t);
		return;
	}
	if (2 * (uint64_t)left > t->rcv_space_bytes)
		return;
	now_wnd = tcp_rcv_window(st, t);
	if (now_wnd > 0 && now_wnd >= 2 * (uint64_t)left && now_wnd - left >= 2 * (uint64_t)t->rcv_mss)
		ack_at_once(st, t);
	else if (left == 0 && now_wnd > 0)
		ack_at_once(st, t);
}

void tcp_recv_done(struct stack *st, struct tcb *s, size_t consumed, usec_t now)
{
	struct tcp_conn *t = s->conn;

	if (!t)
		return; /* nothing was begun */
	tcp_touch(st, t);
	consumed += consumed > 0 && t->flags & TF_RCV_HOLE;
	t->flags &= ~(TF_RCV_BUSY | TF_RCV_HOLE);
	if (consumed == 0)
		return;
	t->rcv_bytes -= (uint32_t)consumed;
	t->copied_seq += (uint32_t)consumed;
	while (consumed > 0) {
		struct cell *c = t->rcv_head;

		if (consumed < c->len) {
			c->off += (uint32_t)consumed;
			c->len -= (uint32_t)consumed;
			break;
		}
		consumed -= c->len;
		t->rcv_head = c->next;
		if (!t->rcv_head)
			t->rcv_tail = NULL;
		t->rcv_mem_bytes -= cell_block(c);
		cell_put(st, c);
	}
	if (t->urg_data && seq_gt(t->copied_seq, t->rcv_up))
		t->urg_data = 0;
	rcv_space_adjust(st, t, now);
	if (t->pair)
		tcp_pair_read(st, t, now);
	else
		ack_after_read(st, t);
}
