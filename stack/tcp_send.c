/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_send.c - the buffers of a socket, and how payload comes into the send queue
 *
 * How much may be queued is Linux's: sk_stream_memory_free(), sk_stream_is_writeable() and the auto-tuning of tcp_wmem and
 * tcp_rmem. Payload is copied by the caller into cells that tcp_send_begin() lends, and belongs to the queue from
 * tcp_send_commit() on.
 */
#include <errno.h>
#include <string.h>
#include "tcp_priv.h"

#define PAIR_NOW_BYTES 16384u /* held: it need not wait for the operation to end, to a peer on this host */

/* ---- buffers ---- */

/* Linux's sk_stream_memory_free() */
static bool memory_free(const struct tcp_conn *t)
{
	return t->snd_mem_bytes < t->opts.sndbuf_bytes && !(t->flags & TF_NOMEM) &&
	       (!t->opts.notsent_lowat_bytes || tcp_unsent(t) < t->opts.notsent_lowat_bytes);
}

/* Linux's sk_stream_is_writeable(): a third of the buffer is free */
bool tcp_writeable(const struct tcp_conn *t)
{
	return memory_free(t) && t->snd_mem_bytes <= t->opts.sndbuf_bytes / 3 * 2;
}

/* Linux's tcp_sndbuf_expand(): two windows, so that a window's worth can wait while one is in flight */
void tcp_sndbuf_expand(struct stack *st, struct tcp_conn *t)
{
	uint64_t segs = t->cwnd / t->snd_mss, mem;

	if (t->opts.sndbuf_locked)
		return;
	if (segs < TCP_INIT_CWND_SEGS)
		segs = TCP_INIT_CWND_SEGS;
	if (segs < t->reordering + 1)
		segs = t->reordering + 1;
	mem = 2 * segs * (t->snd_mss + t->snd_mss / 4 + 512);
	if (mem > st->ctl.tcp_wmem[2])
		mem = st->ctl.tcp_wmem[2];
	if (mem > t->opts.sndbuf_bytes)
		t->opts.sndbuf_bytes = (uint32_t)mem;
}

void tcp_write_space(struct stack *st, struct tcp_conn *t)
{
	if (tcp_flight(t) <= t->cwnd)
		tcp_sndbuf_expand(st, t);
	if (!(t->flags & TF_NOSPACE) || !tcp_writeable(t))
		return;
	t->flags &= ~TF_NOSPACE;
	tcp_event(st, t, TCP_EV_OUT | TCP_EV_WRNORM);
}

void tcp_init_transfer(struct stack *st, struct tcp_conn *t, usec_t now)
{
	uint32_t hint;

	tcp_mss_sync(st, t);
	t->cwnd = st->ctl.tcp_init_cwnd * t->snd_mss;
	if (t->total_retrans > 1)
		t->cwnd = t->snd_mss; /* RFC 6298 5.7: the SYN was lost */
	if (t->rto_us < TCP_RTO_MIN_US)
		t->rto_us = TCP_RTO_MIN_US;
	t->recover = t->high_rxt = t->lost_edge = t->snd_una;
	t->snd_sml = t->push_seq = t->snd_una;
	hint = t->advmss < t->snd_mss ? t->advmss : t->snd_mss;
	hint = hint < TCP_MSS_DEFAULT ? hint : TCP_MSS_DEFAULT;
	t->rcv_mss = hint > TCP_MIN_MSS ? hint : TCP_MIN_MSS;
	t->rcvq_space = TCP_INIT_CWND_SEGS * t->advmss;
	if (t->rcvq_space > t->rcv_space_bytes)
		t->rcvq_space = t->rcv_space_bytes;
	t->rcvq_at = now;
	tcp_sndbuf_expand(st, t);
	t->cwnd_used = 0;
	t->cwnd_at_ms = tcp_ts_clock(now);
	t->looped = stack_addr_is_ours(st, t->raddr);
	tcp_cc_start(st, t, now);
	tcp_keep_arm(st, t, now);
	tcp_rest_arm(st, t, now);
}

void tcp_set_user(struct tcb *s, uint64_t user)
{
	s->user = user;
}

uint64_t tcp_user(const struct tcb *s)
{
	return s->user;
}

bool tcp_is_taken(const struct tcb *s)
{
	return !s->conn || !(s->conn->flags & (TF_ORPHAN | TF_ACCEPTQ));
}

int tcp_ready(struct stack *st, struct tcb *s, usec_t now)
{
	return tcp_wake(st, s, now) ? 0 : -ENOBUFS;
}

void tcp_opt_changed(struct stack *st, struct tcb *s, enum tcp_opt_id opt, usec_t now)
{
	struct tcp_conn *t = s->conn;
	struct port_key key;

	if (!t)
		return; /* not tcp_ready(): nothing was changed */
	tcp_touch(st, t);
	switch (opt) {
	case TCP_OPT_KEEPALIVE:
		tcp_keep_arm(st, t, now);
		break;
	case TCP_OPT_NODELAY:
	case TCP_OPT_CORK:
		if (t->opts.nodelay || !t->opts.cork) { /* both let go what is held back */
			t->flags &= ~TF_MORE;
			if (t->opts.nodelay)
				t->push_seq = t->write_seq;
			tcp_output_want(st, t);
		}
		break;
	case TCP_OPT_RCVBUF:
		tcp_rcv_space_init(t);
		if (t->state == TCPS_ESTABLISHED && tcp_rcv_window(st, t) > t->rcv_adv - t->rcv_nxt + 2 * t->rcv_mss) {
			t->flags |= TF_ACK_NOW;
			tcp_output_want(st, t);
		}
		break;
	case TCP_OPT_SNDBUF:
		tcp_write_space(st, t);
		break;
	case TCP_OPT_QUICKACK:
		if (t->opts.quickack == QUICKACK_OFF) {
			t->flags |= TF_PINGPONG;
			break;
		}
		t->flags &= ~TF_PINGPONG;
		if (t->flags & TF_ACK_DELAYED) {
			t->flags |= TF_ACK_NOW;
			tcp_output_want(st, t);
		}
		break;
	case TCP_OPT_CC:
		if (tcp_is_synchronized(t))
			tcp_cc_start(st, t, now);
		break;
	case TCP_OPT_PACING:
		tcp_pace_update(t);
		tcp_output_want(st, t);
		break;
	case TCP_OPT_OTHER:
		tcp_rcv_space_init(t);
		if (tcp_is_synchronized(t))
			tcp_mss_sync(st, t);
		if (t->flags & TF_BOUND) {
			tcp_port_key(t, &key);
			port_relabel(st, &t->port, &key);
		}
		if (t->deadline[TCPT_REXMT] != USEC_NEVER && t->rexmt_start)
			tcp_rto_arm(st, t, now);
		break;
	}
}

/* ---- sending ---- */

/* May the program send now? Order of the questions as in tcp_sendmsg() */
static int send_check(struct tcp_conn *t)
{
	if (t->flags & TF_SND_BUSY)
		return -EBUSY;
	if (!tcp_is_usable(t))
		return t->error ? -tcp_conn_error_take(t) : -EAGAIN;
	if (t->error)
		return -tcp_conn_error_take(t);
	if (!(t->flags & TF_SND_SHUT) && (t->state == TCPS_SYN_SENT || t->state == TCPS_SYN_RECEIVED))
		return 0;
	if (t->flags & TF_SND_SHUT || (t->state != TCPS_ESTABLISHED && t->state != TCPS_CLOSE_WAIT))
		return -EPIPE;
	return 0;
}

/*
 * The host's payload memory is used up. As Linux under tcp_mem: the socket is not writable, a blocking writer waits, and all
 * are told when enough is free again (cell_put()).
 */
static void no_memory(struct stack *st, struct tcp_conn *t)
{
	t->flags |= TF_NOMEM;
	if (!dnode_linked(&t->mem_wait))
		dlist_append(&st->mem_waiters, &t->mem_wait);
}

void tcp_memory_freed(struct stack *st)
{
	struct dnode *d;

	while ((d = dlist_pop(&st->mem_waiters))) {
		struct tcp_conn *t = container_of(d, struct tcp_conn, mem_wait);

		t->flags &= ~TF_NOMEM;
		if (tcp_writeable(t))
			tcp_event(st, t, TCP_EV_OUT | TCP_EV_WRNORM);
		else
			t->flags |= TF_NOSPACE;
	}
}

ptrdiff_t tcp_send_begin(struct stack *st, struct tcb *s, size_t want, struct iovec *iov, int max, int *ret_n)
{
	uint32_t got = 0, budget, room;
	struct tcp_conn *t = s->conn;
	struct cell **link;
	int n = 0, r;

	if (!t) {
		t = tcp_unrest(st, s, (usec_t)st->wheel.tick << WHEEL_TICK_SHIFT); /* the last moment known */
		if (!t)
			return -ENOBUFS;
	}
	link = &t->snd_rsv;
	r = send_check(t);
	if (r < 0)
		return r;
	if (!memory_free(t)) {
		t->flags |= TF_NOSPACE;
		return -EAGAIN;
	}
	tcp_touch(st, t);
	if (want > INT32_MAX)
		want = INT32_MAX;
	if (want == 0 || max <= 0) { /* a commit of nothing may follow */
		*ret_n = 0;
		t->flags |= TF_SND_BUSY;
		t->snd_rsv_room = 0;
		return 0;
	}
	budget = t->opts.sndbuf_bytes - t->snd_mem_bytes;
	t->snd_rsv_room = 0;
	room = t->snd_tail ? cell_room(t->snd_tail) : 0;
	if (room > 0) {
		got = room < want ? room : (uint32_t)want;
		iov[n++] = (struct iovec){ t->snd_tail->data + t->snd_tail->off + t->snd_tail->len, got };
		t->snd_rsv_room = got;
	}
	while (got < want && n < max && budget > 0) {
		uint32_t left = (uint32_t)want - got < budget ? (uint32_t)want - got : budget;
		struct cell *c;
		uint32_t room_c;

		if (t->snd_head && left < cell_cap_bytes[CELL_MEDIUM])
			left = cell_cap_bytes[CELL_MEDIUM]; /* more is likely to come */
		c = cell_alloc(st, left);
		if (!c)
			break;
		room_c = (uint32_t)want - got < c->cap ? (uint32_t)want - got : c->cap;
		c->next = NULL;
		*link = c;
		link = &c->next;
		t->snd_mem_bytes += cell_block(c);
		budget -= budget < cell_block(c) ? budget : cell_block(c);
		iov[n++] = (struct iovec){ c->data, room_c };
		got += room_c;
	}
	if (n == 0) {
		no_memory(st, t);
		return -EAGAIN;
	}
	t->flags |= TF_SND_BUSY;
	*ret_n = n;
	return got;
}

static void rsv_free(struct stack *st, struct tcp_conn *t)
{
	while (t->snd_rsv) {
		struct cell *c = t->snd_rsv;

		t->snd_rsv = c->next;
		t->snd_mem_bytes -= cell_block(c);
		cell_put(st, c);
	}
	t->snd_rsv_room = 0;
}

/* The last cell was kept for a writer after all of it was acknowledged, and nothing came */
static void drop_empty_tail(struct stack *st, struct tcp_conn *t)
{
	struct cell *c = t->snd_tail;

	if (!c || c->len > 0 || c != t->snd_head)
		return;
	t->snd_head = t->snd_tail = t->snd_cur = t->snd_rx = NULL;
	t->snd_mem_bytes -= cell_block(c);
	cell_put(st, c);
}

static void snd_busy_clear(struct stack *st, struct tcp_conn *t)
{
	if (!(t->flags & TF_SND_BUSY))
		return;
	t->flags &= ~TF_SND_BUSY;
	rsv_free(st, t);
	drop_empty_tail(st, t);
	if (t->state == TCPS_CLOSED)
		tcp_snd_purge(st, t);
}

void tcp_conn_busy_clear(struct stack *st, struct tcp_conn *t)
{
	t->flags &= ~(TF_RCV_BUSY | TF_RCV_HOLE);
	snd_busy_clear(st, t);
}

void tcp_busy_clear(struct stack *st, struct tcb *s)
{
	if (s->conn)
		tcp_conn_busy_clear(st, s->conn);
}

static void commit_cells(struct tcp_conn *t, uint32_t n)
{
	uint32_t seq = t->write_seq;

	if (t->snd_rsv_room > 0) {
		uint32_t k = n < t->snd_rsv_room ? n : t->snd_rsv_room;

		t->snd_tail->len += k;
		n -= k;
		seq += k;
	}
	while (n > 0) {
		struct cell *c = t->snd_rsv;
		uint32_t k = n < c->cap ? n : c->cap;

		t->snd_rsv = c->next;
		c->next = NULL;
		c->off = 0;
		c->len = k;
		c->seq = seq;
		if (t->snd_tail)
			t->snd_tail->next = c;
		else
			t->snd_head = c;
		t->snd_tail = c;
		n -= k;
		seq += k;
	}
	t->write_seq = seq;
}

void tcp_send_commit(struct stack *st, struct tcb *s, size_t n, unsigned flags, usec_t now)
{
	struct tcp_conn *t = s->conn;

	if (!t)
		return; /* nothing was begun */
	tcp_touch(st, t);
	if (t->state == TCPS_CLOSED || t->flags & TF_SND_SHUT || n == 0) {
		snd_busy_clear(st, t);
		if (t->flags & TF_SYN_WAITS)
			tcp_syn_leaves(st, t, now);
		return;
	}
	commit_cells(t, (uint32_t)n);
	tcp_chrono_start(t, TCP_CHRONO_BUSY, now);
	t->flags &= ~(TF_SND_BUSY | TF_MORE);
	rsv_free(st, t);
	if (flags & TCP_SEND_MORE)
		t->flags |= TF_MORE;
	if (flags & TCP_SEND_OOB) {
		t->flags |= TF_URG;
		t->snd_up = t->write_seq;
	}
	if (t->flags & TF_SYN_WAITS) {
		tcp_syn_leaves(st, t, now);
		return;
	}
	if (t->looped && t->snd_mem_bytes > PAIR_NOW_BYTES)
		tcp_pair_push(st, t, now);
	if (!tcp_writeable(t))
		t->flags |= TF_NOSPACE;
	tcp_output_want(st, t);
}
