/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_pair.c - both ends of a connection are of this host: payload goes from queue to queue, without frames
 *
 * Theory of operation
 *
 * Two connections of one stack that are each other's peers are joined while nothing of either is under way: all that was
 * sent has arrived and is acknowledged. From then on payload does not become segments. When the sender's turn to send
 * comes (tcp_output.c), or its queue grows (tcp_send.c), or the receiver has read (tcp_recv.c), tcp_pair_push() puts cells of
 * the send queue at the end of the receive queue, as far as the receiver's window lets it:
 *
 *   sender     snd_una = snd_nxt = snd_una + n     snd_wnd as an acknowledgment of the receiver would tell it
 *   receiver   rcv_nxt = rcv_wup = rcv_nxt + n     rcv_adv as if it had sent that acknowledgment
 *
 * So a full cell costs one copy in and one copy out, by the programs. Small payload is copied behind what the last cell of
 * the receiver has already: a cell for each octet would fill its buffer with air.
 *
 * After each push both ends stand as if segments had gone and been acknowledged. All else goes on by frames, and needs to
 * know nothing of it: SYN, FIN, RST, probes, keep-alive. So does payload that is not plain: urgent data, a paced sender,
 * an end that will read no more, a capture. fits() says so before each push; then the two are parted until all is quiet
 * again. Parting costs nothing, so a connection that ends or goes to rest is parted, and its peer looks for it anew.
 *
 * What congestion control and loss recovery would learn from segments they do not learn, but that the window grows while it
 * is used, since the send buffer grows with it; there is no path to know.
 */
#include "tcp_priv.h"

#define QUEUE_MAX	(256u << 10) /* octets that wait to be read: what is between two copies shall stay in the cache */
#define COPY_ALWAYS	256u	/* octets: cheaper copied than their cell given back and forth */
#define RATE_SAMPLE_US	1000u	/* least time of a sample of the delivery rate, but for the first */
#define RCV_RTT_US	1000u	/* for buffer tuning: what timestamps of a millisecond would show at best */

/* The connection that has our 4-tuple the other way round, awake. NULL: not established yet, in TIME_WAIT, no memory */
static struct tcp_conn *peer_find(struct stack *st, const struct tcp_conn *t, usec_t now)
{
	uint32_t hash = siphash_tuple(&st->key_tuple, &t->raddr, t->rport, &t->laddr, t->lport);

	for (struct hnode *n = htab_first(&st->conns, hash); n; n = htab_next(n)) {
		struct tcb *s = container_of(n, struct tcb, node);

		if (n->kind == TCP_NODE_TCB && s->lport == t->rport && s->rport == t->lport && ipaddr_eq(s->laddr, t->raddr) &&
		    ipaddr_eq(s->raddr, t->laddr))
			return tcp_wake(st, s, now);
	}
	return NULL;
}

/* Would payload of @t become plain segments that @p takes? */
static bool fits(const struct stack *st, const struct tcp_conn *t, const struct tcp_conn *p)
{
	if (t->flags & TF_URG || t->pace_Bps || t->state == TCPS_SYN_RECEIVED || t->ca_state != TCP_CA_OPEN || st->capture)
		return false;
	if (p->flags & (TF_RCV_SHUT | TF_FIN_RCVD | TF_ORPHAN) || p->ooo || p->urg_data == TCP_URG_NOTYET)
		return false;
	return p->state == TCPS_ESTABLISHED || p->state == TCPS_FIN_WAIT_1 || p->state == TCPS_FIN_WAIT_2;
}

/* All that @from sent has arrived at @to, which owes an acknowledgment of it: given here, by hand */
static void settle(struct stack *st, struct tcp_conn *from, struct tcp_conn *to, usec_t now)
{
	struct tcp_seg s = { .seq = to->snd_nxt, .ack = to->rcv_nxt, .flags = TH_ACK, .sport = to->lport, .dport = to->rport };

	s.wnd = tcp_wnd_take(st, to);
	tcp_ack_sent(to);
	to->segs_out++;
	tcp_segment(st, from, &s, now);
	tcp_touch(st, to);
}

static bool arrived(const struct tcp_conn *from, const struct tcp_conn *to)
{
	return from->snd_nxt == to->rcv_nxt;
}

static bool quiet(const struct tcp_conn *from, const struct tcp_conn *to)
{
	return from->snd_una == from->snd_nxt && arrived(from, to);
}

static void join(struct tcp_conn *t, struct tcp_conn *p, usec_t now)
{
	tcp_rate_start(t, t->snd_nxt, now);
	tcp_rate_start(p, p->snd_nxt, now);
	t->pair = p;
	p->pair = t;
	if (!t->rcv_rtt_us)
		t->rcv_rtt_us = RCV_RTT_US;
	if (!p->rcv_rtt_us)
		p->rcv_rtt_us = RCV_RTT_US;
}

void tcp_pair_part(struct tcp_conn *t)
{
	t->pair->pair = NULL;
	t->pair = NULL;
}

/* Who takes @t's payload directly. NULL: nobody, it goes by frames */
static struct tcp_conn *partner(struct stack *st, struct tcp_conn *t, usec_t now)
{
	struct tcp_conn *p = t->pair ? t->pair : peer_find(st, t, now);

	if (!p || p == t)
		return NULL;
	tcp_touch(st, p);
	if (fits(st, t, p)) {
		if (!quiet(t, p) && arrived(t, p))
			settle(st, t, p, now);
		if (!quiet(p, t) && arrived(p, t))
			settle(st, p, t, now);
		if (quiet(t, p) && quiet(p, t)) {
			if (!t->pair)
				join(t, p, now);
			return p;
		}
	}
	if (t->pair) { /* frames tell of a window by acknowledgments, which a joined receiver did not send */
		tcp_pair_part(t);
		p->flags |= TF_ACK_NOW;
		tcp_output_want(st, p);
	}
	return NULL;
}

/* Octets that may leave now: cork and MSG_MORE hold back what does not fill a segment */
static uint32_t released(const struct tcp_conn *t)
{
	uint32_t unsent = tcp_unsent(t);

	if (!(t->opts.cork || t->flags & TF_MORE) || seq_gt(t->push_seq, t->snd_nxt))
		return unsent;
	return unsent < t->snd_mss ? 0 : unsent - unsent % t->snd_mss;
}

static struct cell *head_take(struct tcp_conn *t)
{
	struct cell *c = t->snd_head;

	t->snd_head = c->next;
	if (!t->snd_head)
		t->snd_tail = NULL;
	t->snd_mem_bytes -= cell_block(c);
	return c;
}

/* May the cell itself go? Not one that a writer fills, or a device still reads; nor one that is mostly empty. */
static bool cell_may_go(const struct tcp_conn *t, const struct tcp_conn *p, const struct cell *c)
{
	if (c->refs > 1 || (c == t->snd_tail && t->flags & TF_SND_BUSY))
		return false;
	if (!p->rcv_tail || cell_room(p->rcv_tail) < c->len)
		return true;
	return c->len > COPY_ALWAYS && c->len >= c->cap / 2;
}

/**
 * give() - the first @n octets of the cell at the head of @t's send queue to the end of @p's receive queue
 *
 * Return: octets given, less than @n where there is no cell to be had
 */
static uint32_t give(struct stack *st, struct tcp_conn *t, struct tcp_conn *p, uint32_t n)
{
	struct cell *c = t->snd_head;

	if (n > 0 && n == c->len && cell_may_go(t, p, c)) {
		tcp_recv_link(p, head_take(t));
		return n;
	}
	if (n > 0) /* else it was kept for a writer, who then found no room in it */
		n = tcp_recv_copy(st, p, c->data + c->off, n);
	c->off += n;
	c->seq += n;
	c->len -= n;
	if (c->len > 0 || (c == t->snd_tail && t->flags & TF_SND_BUSY))
		return n;
	cell_put(st, head_take(t));
	return n;
}

static uint32_t segments(const struct tcp_conn *t, uint32_t n)
{
	return n <= t->snd_mss ? 1 : (n + t->snd_mss - 1) / t->snd_mss;
}

/* @n octets have changed sides: what both ends, and who looks at them, would know by segments */
static void sent(struct stack *st, struct tcp_conn *t, uint32_t n, usec_t now)
{
	t->snd_cur = t->snd_rx = NULL;
	t->snd_nxt += n;
	t->snd_una = t->snd_wl2 = t->snd_nxt;
	t->snd_wl1 = t->rcv_nxt;
	t->snd_wnd -= n;
	t->snd_sml = t->recover = t->high_rxt = t->lost_edge = t->snd_nxt; /* never so old that they look new */
	t->bytes_sent += n;
	t->bytes_acked += n;
	t->segs_out += segments(t, n);
	t->data_segs_out += segments(t, n);
	t->last_snd = t->last_ack = now;
	t->probes = t->backoff = 0;
	if (n >= t->cwnd / 2 && t->cwnd < QUEUE_MAX / 2) { /* as acknowledgments would let it grow, and the buffer with it */
		t->cwnd += n;
		tcp_sndbuf_expand(st, t);
	}
	if (!t->rate_us || (uint32_t)now - t->rate_at_us >= RATE_SAMPLE_US)
		tcp_rate_sample(t, now);
	tcp_timer_clear(t, TCPT_PERSIST);
	tcp_timer_clear(t, TCPT_CORK);
	if (t->flags & TF_NOSPACE)
		tcp_write_space(st, t);
	if (t->errq)
		tcp_errq_moved(st, t, now);
	if (t->snd_una == t->write_seq)
		tcp_chrono_turn(t, TCP_CHRONO_IDLE, now);
}

static void received(struct stack *st, struct tcp_conn *p, uint32_t n, uint32_t segs, usec_t now)
{
	p->rcv_nxt += n;
	p->rcv_wup = p->rcv_nxt;
	p->rcv_bytes += n;
	p->bytes_received += n;
	p->segs_in += segs;
	p->data_segs_in += segs;
	p->last_rcv = now;
	if (p->flags & TF_ACK_DELAYED) {
		p->flags &= ~TF_ACK_DELAYED;
		tcp_timer_clear(p, TCPT_DELACK);
	}
	tcp_recv_tell(st, p);
}

/* A program that asked for a large buffer, or waits for much at once, gets it. */
static uint32_t queue_max(const struct tcp_conn *p)
{
	return p->opts.rcvbuf_locked || p->opts.rcvlowat_bytes > (int32_t)(QUEUE_MAX / 2) ? UINT32_MAX : QUEUE_MAX;
}

/*
 * What @p offers @t now, in octets, and takes at once. Exactly, as no header could say it: rounded up to its unit with each
 * push, as an edge once offered is in a header, a window would creep on for as long as single octets come.
 */
static uint32_t window(const struct stack *st, struct tcp_conn *t, struct tcp_conn *p)
{
	uint32_t wnd = tcp_rcv_window(st, p), max = 65535u << p->rcv_wind_shift;

	p->rcv_adv = seq_max(p->rcv_adv, p->rcv_nxt + (wnd < max ? wnd : max));
	t->snd_wnd = p->rcv_adv - p->rcv_nxt;
	if (t->snd_wnd > t->snd_max_wnd)
		t->snd_max_wnd = t->snd_wnd;
	max = queue_max(p);
	max = p->rcv_bytes < max ? max - p->rcv_bytes : 0;
	return t->snd_wnd < max ? t->snd_wnd : max;
}

bool tcp_pair_push(struct stack *st, struct tcp_conn *t, usec_t now)
{
	struct tcp_conn *p = partner(st, t, now);
	uint32_t may, n = 0, room;

	if (!p)
		return false;
	may = released(t);
	if (!may)
		return true;
	room = window(st, t, p);
	while (n < may && n < room) {
		uint32_t len = t->snd_head->len, want = may - n < len ? may - n : len, given;

		if (want > room - n) {
			/* A cell is cut only where the reader would be without much to read: else it is told already. */
			if (p->rcv_bytes + n >= p->rcv_space_bytes / 2 || p->rcv_bytes + n >= queue_max(p) / 2)
				break;
			want = room - n;
		}
		given = give(st, t, p, want);
		n += given;
		if (given < want)
			break;
	}
	if (n) {
		sent(st, t, n, now);
		received(st, p, n, segments(t, n), now);
	}
	if (n < may)
		tcp_chrono_start(t, TCP_CHRONO_RWND, now);
	return true;
}

void tcp_pair_read(struct stack *st, struct tcp_conn *p, usec_t now)
{
	struct tcp_conn *t = p->pair;

	if (!tcp_unsent(t))
		return;
	tcp_touch(st, t);
	tcp_pair_push(st, t, now);
	if (tcp_unsent(t) || t->flags & TF_FIN_QUEUED)
		tcp_output_want(st, t);
}
