/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_rest.c - connections in which nothing happens cost little
 *
 * Theory of operation
 *
 * Most connections of a busy server are idle at any moment. All that recovery, congestion control, timers, queues and
 * options keep has its value at rest then: equal, empty, unarmed, or what others have as well. So a connection that
 * was silent for REST_US and a retransmission time-out goes to rest: what is its own goes to tcb->rest, its options to a
 * row that it shares with all whose options are the same, its struct tcp_conn and the cells of its congestion control back to
 * their pools. Whatever touches it, a segment, a call, a timer, wakes it first (tcp_wake()); all other files see
 * connections that are awake only.
 *
 * Nothing is lost that would matter a second later: cwnd and ssthresh, round trip, what both sides agreed on, counters and
 * the congestion control's knowledge of the path stay. Forgotten are the epoch of CUBIC and the place in a round of
 * HyStart++, which a pause of a time-out ends anyway (RFC 9438 4.2, RFC 5681 4.1), and the chance to undo a reduction.
 *
 * Only ESTABLISHED and CLOSE_WAIT rest: there a connection may stay for hours. Keep-alive goes on by a timer of the tcb.
 * Rare states keep it awake: a path that swallows large packets (tcp_mtu.c), an error queue, a SYN kept to be read.
 *
 * No memory to wake up: a segment is dropped, the peer sends it again; a call answers ENOBUFS; a keep-alive is tried again a
 * second later; close() resets the connection. The pool is limited by the region alone, not by the limit of payload.
 *
 * Death of the lock's holder: one store, of tcb->conn, ends rest and begins it. What tcb->rest holds is complete before
 * it becomes NULL, and still untouched when it is set. A struct tcp_conn to which no tcb points is freed by repair, its cells
 * with it; references of rows are counted anew.
 */
#include <string.h>
#include "tcp_priv.h"

#define REST_US	      SEC(1)
#define REST_LOOK_MAX SEC(64)
#define REST_RETRY_US SEC(1)

/* ---- options ---- */

_Static_assert(sizeof(struct tcp_opts) % 8 == 0, "hashed in words");

static uint32_t opts_hash(const struct stack *st, const struct tcp_opts *o)
{
	uint64_t w[sizeof(*o) / 8];

	memcpy(w, o, sizeof(w));
	return (uint32_t)siphash24(&st->key_port, w, sizeof(w) / sizeof(w[0]));
}

/* A row with @o, buffers excepted, since auto-tuning makes them as many as there are connections. NULL: no memory */
static struct tcp_opts_row *opts_get(struct stack *st, const struct tcp_opts *o)
{
	struct tcp_opts_row *row;
	struct tcp_opts key;
	uint32_t hash;

	memcpy(&key, o, sizeof(key));
	key.rcvbuf_bytes = key.sndbuf_bytes = 0;
	hash = opts_hash(st, &key);
	for (struct hnode *n = htab_first(&st->opts_tab, hash); n; n = htab_next(n)) {
		row = container_of(n, struct tcp_opts_row, node);
		if (memcmp(&row->o, &key, sizeof(key)) == 0) {
			row->refs++;
			return row;
		}
	}
	row = slab_alloc(&st->opts_rows);
	if (!row)
		return NULL;
	memcpy(&row->o, &key, sizeof(key));
	row->refs = 1;
	htab_insert(&st->opts_tab, &row->node, hash);
	return row;
}

static void opts_put(struct stack *st, struct tcp_opts_row *row)
{
	if (--row->refs)
		return;
	htab_remove(&st->opts_tab, &row->node);
	slab_free(&st->opts_rows, row);
}

struct tcp_opts *tcp_opts(struct tcb *s)
{
	struct tcp_conn *t = tcp_conn(s);

	return t ? &t->opts : &s->rest.opts->o;
}

uint32_t tcp_rcvbuf(const struct tcb *s)
{
	const struct tcp_conn *t = tcp_conn(s);

	return t ? t->opts.rcvbuf_bytes : s->rest.rcvbuf_bytes;
}

uint32_t tcp_sndbuf(const struct tcb *s)
{
	const struct tcp_conn *t = tcp_conn(s);

	return t ? t->opts.sndbuf_bytes : s->rest.sndbuf_bytes;
}

/* ---- to rest ---- */

static usec_t last_event(const struct tcp_conn *t)
{
	usec_t at = t->last_rcv > t->last_snd ? t->last_rcv : t->last_snd;

	return at > t->last_ack ? at : t->last_ack;
}

static bool may_rest(const struct tcp_conn *t)
{
	return t->state == TCPS_ESTABLISHED || t->state == TCPS_CLOSE_WAIT;
}

/* Has all that struct tcp_rest does not keep its value at rest */
static bool quiet(const struct tcp_conn *t, usec_t now)
{
	const uint32_t busy = TF_ACK_NOW | TF_ACK_DELAYED | TF_NOSPACE | TF_SND_BUSY | TF_RCV_BUSY | TF_ACCEPTQ | TF_FIN_QUEUED |
			      TF_ORPHAN | TF_NOMEM | TF_URG | TF_FASTOPEN | TF_FIN_OOO | TF_SYN_WAITS | TF_DSACK;

	if (!may_rest(t) || t->flags & busy || !(t->flags & TF_HASHED))
		return false;
	if (t->snd_una != t->write_seq || t->snd_nxt != t->write_seq || t->snd_head || t->snd_rsv || t->rcv_head)
		return false;
	if (t->ca_state != TCP_CA_OPEN || t->sack || t->ooo || t->tx_n || t->rx_n || t->rexmt_start)
		return false;
	if (t->error || t->urg_data || t->probes || t->retransmits || t->pmtu_bytes || t->parent || t->errq || t->saved_syn ||
	    t->chrono != TCP_CHRONO_IDLE)
		return false;
	if (t->oow_at_ms && (int32_t)(tcp_ts_clock(now) - t->oow_at_ms) < (int32_t)TCP_OOW_RATE_MS) /* the limit must not be forgotten */
		return false;
	for (int i = 0; i < TCP_N_TIMERS; i++)
		if (t->deadline[i] != USEC_NEVER && i != TCPT_KEEP && i != TCPT_REST)
			return false;
	return !dnode_linked(&t->out) && !dnode_linked(&t->mem_wait) && !dnode_linked(&t->ev.node);
}

static void keep_fields(const struct tcp_conn *t, struct tcp_rest *r)
{
	r->family = t->family;
	r->snd_wind_shift = t->snd_wind_shift;
	r->rcv_wind_shift = t->rcv_wind_shift;
	r->ecn = t->ecn;
	r->quick_acks = (uint8_t)t->quick_acks;
	r->reordering = (uint8_t)t->reordering;
	r->reo_mult = t->reo_mult;
	r->reo_persist = t->reo_persist;
	r->soft_error = (uint8_t)t->soft_error;
	r->rcv_mss = (uint16_t)t->rcv_mss;
	r->peer_mss = (uint16_t)t->peer_mss;
	r->advmss = (uint16_t)t->advmss;
	r->flags = t->flags & ~(TF_UNDO | TF_PEER_QUICK);
	r->snd_nxt = t->snd_nxt;
	r->rcv_nxt = t->rcv_nxt;
	r->rcv_adv = t->rcv_adv;
	r->snd_wnd = t->snd_wnd;
	r->snd_wl1 = t->snd_wl1;
	r->snd_max_wnd = t->snd_max_wnd;
	r->iss = t->iss;
	r->irs = t->irs;
	r->ts_recent = t->ts_recent;
	r->ts_recent_ms = t->ts_recent_ms;
	r->cwnd = t->cwnd;
	r->ssthresh = t->ssthresh;
	r->cwnd_used = t->cwnd_used;
	r->cwnd_at_ms = t->cwnd_at_ms;
	r->srtt_us = t->srtt_us;
	r->mdev_us = t->mdev_us;
	r->rttvar_us = t->rttvar_us;
	r->min_rtt_us = t->min_rtt_us;
	r->ato_us = t->ato_us;
	r->rcv_rtt_us = t->rcv_rtt_us;
	r->rcvq_space = t->rcvq_space;
	r->rcvbuf_bytes = t->opts.rcvbuf_bytes;
	r->sndbuf_bytes = t->opts.sndbuf_bytes;
	r->segs_in = t->segs_in;
	r->segs_out = t->segs_out;
	r->data_segs_in = t->data_segs_in;
	r->data_segs_out = t->data_segs_out;
	r->total_retrans = t->total_retrans;
	r->dsack_dups = t->dsack_dups;
	r->reord_seen = t->reord_seen;
	r->rcv_ooopack = t->rcv_ooopack;
	memcpy(r->chrono_sum, t->chrono_sum, sizeof(r->chrono_sum));
	r->rate_bytes = t->rate_bytes;
	r->rate_us = t->rate_us;
	r->rate_app_limited = t->rate_app_limited;
	r->tfo = t->tfo;
	r->last_rcv = t->last_rcv;
	r->last_snd = t->last_snd;
	r->last_ack = t->last_ack;
	r->bytes_acked = t->bytes_acked;
	r->bytes_received = t->bytes_received;
	r->bytes_sent = t->bytes_sent;
	r->bytes_retrans = t->bytes_retrans;
	r->state = t->state;
}

static void keepalive_arm(struct stack *st, struct tcb *s)
{
	const struct tcp_rest *r = &s->rest;

	if (r->opts->o.keepalive)
		wheel_set(&st->wheel, &s->timer, (r->last_rcv > r->last_ack ? r->last_rcv : r->last_ack) + SEC(r->opts->o.keepidle_s));
}

/* Takes. False: there is no room for its options; nothing has changed */
static bool rest(struct stack *st, struct tcp_conn *t)
{
	const struct cc_ops *cc = tcp_cc_ops(t);
	struct tcp_opts_row *row = opts_get(st, &t->opts);
	struct tcb *s = t->tcb;

	if (!row)
		return false;
	keep_fields(t, &s->rest);
	s->port = t->port;
	s->rest.opts = row;
	memset(s->rest.cc, 0, sizeof(s->rest.cc));
	if (cc->rest)
		cc->rest(t, s->rest.cc);
	__asm__ volatile("" ::: "memory"); /* complete before it is believed */
	s->conn = NULL;
	__asm__ volatile("" ::: "memory");
	if (t->pair)
		tcp_pair_part(t);
	wheel_cancel(&st->wheel, &t->timer);
	cell_put(st, t->cc_cell);
	tcp_logs_clear(st, t);
	slab_free(&st->awake, t);
	keepalive_arm(st, s);
	return true;
}

void tcp_rest_arm(struct stack *st, struct tcp_conn *t, usec_t now)
{
	tcp_timer_set(st, t, TCPT_REST, now + REST_US);
}

/**
 * tcp_rest_timeout() - is it time to rest
 *
 * One that cannot yet, for data that nobody reads, is looked at again after as long as it has been silent.
 * Return: false: @t is no more
 */
bool tcp_rest_timeout(struct stack *st, struct tcp_conn *t, usec_t now)
{
	usec_t least = t->rto_us > REST_US ? t->rto_us : REST_US, silent = now - last_event(t);

	if (!may_rest(t))
		return true;
	if (silent >= least && quiet(t, now) && rest(st, t))
		return false;
	if (silent < least)
		tcp_timer_set(st, t, TCPT_REST, now + least - silent);
	else
		tcp_timer_set(st, t, TCPT_REST, now + (silent < REST_LOOK_MAX ? silent : REST_LOOK_MAX));
	return true;
}

/* ---- and back ---- */

/* @t: zeroed. All but the congestion control's state */
static void load(const struct stack *st, const struct tcb *s, struct tcp_conn *t)
{
	const struct tcp_rest *r = &s->rest;

	t->laddr = s->laddr;
	t->raddr = s->raddr;
	t->lport = s->lport;
	t->rport = s->rport;
	t->state = r->state;
	t->family = r->family;
	t->flags = r->flags;
	memcpy(&t->opts, &r->opts->o, sizeof(t->opts));
	t->opts.rcvbuf_bytes = r->rcvbuf_bytes;
	t->opts.sndbuf_bytes = r->sndbuf_bytes;
	t->snd_wind_shift = r->snd_wind_shift;
	t->rcv_wind_shift = r->rcv_wind_shift;
	t->ecn = r->ecn;
	t->quick_acks = r->quick_acks;
	t->reordering = r->reordering;
	t->reo_mult = r->reo_mult;
	t->reo_persist = r->reo_persist;
	t->soft_error = r->soft_error;
	t->rcv_mss = r->rcv_mss;
	t->peer_mss = r->peer_mss;
	t->advmss = r->advmss;
	t->snd_una = t->snd_nxt = t->write_seq = t->snd_sml = t->push_seq = t->snd_wl2 = r->snd_nxt;
	t->recover = t->high_rxt = t->lost_edge = t->rtt_seq_end = t->cwr_end = r->snd_nxt;
	t->rcv_nxt = t->rcv_wup = r->rcv_nxt;
	t->copied_seq = t->rcvq_seq = r->rcv_nxt - !!(r->flags & TF_FIN_RCVD);
	t->rcv_adv = r->rcv_adv;
	t->snd_wnd = r->snd_wnd;
	t->snd_wl1 = r->snd_wl1;
	t->snd_max_wnd = r->snd_max_wnd;
	t->iss = r->iss;
	t->irs = r->irs;
	t->ts_recent = r->ts_recent;
	t->ts_recent_ms = r->ts_recent_ms;
	t->ts_offset = tcp_ts_offset(st, &t->laddr, &t->raddr);
	t->cwnd = r->cwnd;
	t->ssthresh = r->ssthresh;
	t->cwnd_used = r->cwnd_used;
	t->cwnd_at_ms = r->cwnd_at_ms;
	t->srtt_us = r->srtt_us;
	t->mdev_us = r->mdev_us;
	t->mdev_max_us = TCP_RTO_MIN_US; /* a new window of rttvar begins */
	t->rttvar_us = r->rttvar_us;
	tcp_rto_update(t);
	t->min_rtt_us = r->min_rtt_us;
	t->ato_us = r->ato_us;
	t->rcv_rtt_us = r->rcv_rtt_us;
	t->rcvq_space = r->rcvq_space;
	t->rack_rtt_us = RACK_NONE;
	t->looped = stack_addr_is_ours(st, t->raddr);
	t->port = s->port;
	t->segs_in = r->segs_in;
	t->segs_out = r->segs_out;
	t->data_segs_in = r->data_segs_in;
	t->data_segs_out = r->data_segs_out;
	t->total_retrans = r->total_retrans;
	t->dsack_dups = r->dsack_dups;
	t->reord_seen = r->reord_seen;
	t->rcv_ooopack = r->rcv_ooopack;
	memcpy(t->chrono_sum, r->chrono_sum, sizeof(t->chrono_sum));
	t->rate_seq = t->rate_una = r->snd_nxt;
	t->rate_bytes = r->rate_bytes;
	t->rate_us = r->rate_us;
	t->rate_app_limited = r->rate_app_limited;
	t->tfo = r->tfo;
	t->last_rcv = r->last_rcv;
	t->last_snd = r->last_snd;
	t->last_ack = r->last_ack;
	t->bytes_acked = r->bytes_acked;
	t->bytes_received = r->bytes_received;
	t->bytes_sent = r->bytes_sent;
	t->bytes_retrans = r->bytes_retrans;
	tcp_rcv_space_init(t);
	tcp_mss_sync(st, t);
}

struct tcp_conn *tcp_unrest(struct stack *st, struct tcb *s, usec_t now)
{
	struct tcp_conn *t = slab_alloc(&st->awake);
	struct tcp_opts_row *row = s->rest.opts;
	uint8_t cc;

	if (!t)
		return NULL;
	tcp_conn_init(st, t, s);
	load(st, s, t);
	t->rcvq_at = now;
	cc = t->opts.cc;
	tcp_cc_start(st, t, now);
	if (tcp_cc_ops(t)->resume && t->opts.cc == cc)
		tcp_cc_ops(t)->resume(t, s->rest.cc);
	tcp_pace_update(t);
	__asm__ volatile("" ::: "memory"); /* complete before it is believed */
	s->conn = t;
	__asm__ volatile("" ::: "memory");
	wheel_cancel(&st->wheel, &s->timer);
	opts_put(st, row);
	tcp_keep_arm(st, t, now);
	tcp_rest_arm(st, t, now);
	return t;
}

const struct tcp_conn *tcp_rest_look(const struct stack *st, const struct tcb *s, struct tcp_conn *c)
{
	memset(c, 0, sizeof(*c));
	for (int i = 0; i < TCP_N_TIMERS; i++)
		c->deadline[i] = USEC_NEVER;
	load(st, s, c);
	if (timer_armed(&s->timer))
		c->deadline[TCPT_KEEP] = s->timer.at;
	return c;
}

void tcp_rest_timer(struct stack *st, struct tcb *s, usec_t now)
{
	if (!tcp_wake(st, s, now)) /* it wakes up with the timer due */
		wheel_set(&st->wheel, &s->timer, now + REST_RETRY_US);
}

static void leave(struct stack *st, struct tcb *s)
{
	htab_remove(&st->conns, &s->node);
	st->n_live--;
	wheel_cancel(&st->wheel, &s->timer);
	port_release(st, &s->port);
	opts_put(st, s->rest.opts);
	slab_free(&st->tcbs, s);
}

void tcp_rest_abort(struct stack *st, struct tcb *s, usec_t now)
{
	struct tcp_conn c;

	tcp_rest_look(st, s, &c);
	CNT(st, TcpExtTCPAbortOnMemory);
	tcp_xmit_rst(st, &c, now);
	leave(st, s);
}

/* ---- repair ---- */

/* Rows are what connections at rest refer to; counts and table are made anew. */
void tcp_rest_repair(struct stack *st)
{
	struct tcp_opts_row *row;
	uint32_t cursor = 0;
	struct tcb *s;

	slab_rebuild(&st->opts_rows);
	htab_clear(&st->opts_tab);
	while ((row = slab_next(&st->opts_rows, &cursor)))
		row->refs = 0;
	cursor = 0;
	while ((s = slab_next(&st->tcbs, &cursor)))
		if (!s->conn && s->rest.state)
			s->rest.opts->refs++;
	cursor = 0;
	while ((row = slab_next(&st->opts_rows, &cursor))) {
		row->node.linked = 0;
		if (row->refs)
			htab_insert(&st->opts_tab, &row->node, opts_hash(st, &row->o));
		else
			slab_free(&st->opts_rows, row);
	}
}

static void rest_port_key(const struct stack *st, const struct tcb *s, struct port_key *ret_key)
{
	struct tcp_conn c;

	tcp_port_key(tcp_rest_look(st, s, &c), ret_key);
}

void tcp_rest_restore(struct stack *st, struct tcb *s)
{
	struct port_key key;

	rest_port_key(st, s, &key);
	s->port = (struct port_hold){ 0 };
	if (s->rest.flags & TF_BOUND && port_join(st, &s->port, &key) != 0)
		s->rest.flags &= ~TF_BOUND;
	s->node.kind = TCP_NODE_TCB;
	htab_insert(&st->conns, &s->node, siphash_tuple(&st->key_tuple, &s->laddr, s->lport, &s->raddr, s->rport));
	st->n_live++;
	keepalive_arm(st, s);
}
