/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_timewait.c - 2 MSL after an active close, in an object of its own (RFC 9293 3.6.1, RFC 6191, RFC 1337)
 *
 * What the peer may still send is answered with the last acknowledgment. A SYN that must be newer than all of the old
 * connection, by timestamp or sequence number, replaces it where somebody listens (RFC 6191, as Linux); so does a connect of
 * ours after a second if both sides had timestamps.
 *
 * A reset with the very next sequence number ends it, as on Linux, where RFC 1337 is a setting that is off: a client that meets
 * an old TIME_WAIT while nobody listens gets our acknowledgment, resets it, asks again and is refused at once. With the
 * setting on it learns nothing until the TIME_WAIT is over.
 */
#include "tcp_priv.h"

#define TW_PARTS 64

static void tw_port_key(const struct tcp_tw *tw, struct port_key *ret_key)
{
	uint32_t flags = PORT_TIMEWAIT;

	flags |= tw->flags & TWF_REUSEADDR ? PORT_REUSEADDR : 0;
	flags |= tw->flags & TWF_REUSEPORT ? PORT_REUSEPORT : 0;
	flags |= tw->flags & TWF_V6ONLY ? PORT_V6ONLY : 0;
	flags |= tw->flags & TWF_CONNECT ? PORT_CONNECT : 0;
	*ret_key = (struct port_key){ .addr = tw->laddr, .port = tw->lport, .flags = (uint16_t)flags, .uid = tw->uid };
}

static uint8_t tw_flags(const struct tcp_conn *t, uint32_t port_flags)
{
	return (uint8_t)((port_flags & PORT_REUSEADDR ? TWF_REUSEADDR : 0) | (port_flags & PORT_REUSEPORT ? TWF_REUSEPORT : 0) |
			 (port_flags & PORT_V6ONLY ? TWF_V6ONLY : 0) | (port_flags & PORT_CONNECT ? TWF_CONNECT : 0) |
			 (t->flags & TF_TS ? TWF_TS : 0));
}

/* ---- when it ends: all last equally long, so they stand in a list, and one timer is for the first ---- */

static struct tcp_tw *tw_at(const struct stack *st, uint32_t index)
{
	return slab_at(&st->timewaits, index);
}

static void tw_link(struct stack *st, struct tcp_tw *tw, usec_t ends)
{
	uint32_t index = slab_index(&st->timewaits, tw);
	struct tcp_tw *last = tw_at(st, st->tw_last);

	tw->ends_ms = tcp_ts_clock(ends + 999);
	tw->prev = st->tw_last;
	tw->next = 0;
	if (last)
		last->next = index;
	else
		st->tw_first = index;
	st->tw_last = index;
	if (!timer_armed(&st->tw_timer))
		wheel_set(&st->wheel, &st->tw_timer, ends);
}

static void tw_unlink(struct stack *st, struct tcp_tw *tw)
{
	struct tcp_tw *prev = tw_at(st, tw->prev), *next = tw_at(st, tw->next);

	if (prev)
		prev->next = tw->next;
	else
		st->tw_first = tw->next;
	if (next)
		next->prev = tw->prev;
	else
		st->tw_last = tw->prev;
}

static usec_t ends_in(const struct tcp_tw *tw, usec_t now)
{
	int32_t ms = (int32_t)(tw->ends_ms - tcp_ts_clock(now));

	return ms > 0 ? MSEC((uint32_t)ms) : 0;
}

usec_t tcp_tw_ends(const struct stack *st, const struct tcp_tw *tw)
{
	usec_t now = (usec_t)st->wheel.tick << WHEEL_TICK_SHIFT;

	return now + ends_in(tw, now);
}

void tcp_tw_expire(struct stack *st, usec_t now)
{
	struct tcp_tw *tw;

	while ((tw = tw_at(st, st->tw_first))) {
		usec_t in = ends_in(tw, now);

		if (in) {
			wheel_set(&st->wheel, &st->tw_timer, now - now % 1000 + in);
			return;
		}
		tcp_tw_free(st, tw);
	}
}

/* ---- life ---- */

static void tw_insert(struct stack *st, struct tcp_tw *tw, usec_t ends)
{
	struct port_hold hold; /* not kept: found again by its key */
	struct port_key key;

	htab_insert(&st->conns, &tw->node, siphash_tuple(&st->key_tuple, &tw->laddr, tw->lport, &tw->raddr, tw->rport));
	tw_link(st, tw, ends);
	tw_port_key(tw, &key);
	tw->flags &= (uint8_t)~TWF_PORT;
	if (port_join(st, &hold, &key) == 0)
		tw->flags |= TWF_PORT;
}

void tcp_timewait(struct stack *st, struct tcp_conn *t, usec_t now)
{
	struct tcp_tw *tw = st->timewaits.in_use < st->ctl.tcp_max_tw_buckets ? slab_alloc(&st->timewaits) : NULL;
	struct port_key key;
	uint32_t wnd;

	CNT(st, TcpExtTW);
	if (!tw) { /* as Linux: the connection just ends */
		CNT(st, TcpExtTCPTimeWaitOverflow);
		tcp_done(st, t);
		return;
	}
	tcp_port_key(t, &key);
	wnd = tcp_rcv_window(st, t) >> t->rcv_wind_shift;
	tw->node.kind = TCP_NODE_TW;
	tw->node.own = (uint16_t)(wnd < 65535 ? wnd : 65535);
	tw->laddr = t->laddr;
	tw->raddr = t->raddr;
	tw->rport = t->rport;
	tw->snd_nxt = t->snd_nxt;
	tw->rcv_nxt = t->rcv_nxt;
	tw->ts_recent = t->ts_recent;
	tw->ts_recent_ms = t->ts_recent_ms;
	tw->flags = tw_flags(t, key.flags);
	tw->tos = tcp_tos_of(&t->opts, t->raddr);
	tw->uid = t->opts.uid;
	tw->ends_ms = tcp_ts_clock(now + st->ctl.tcp_timewait_us);
	tw->lport = t->lport; /* last: repair takes it for filled in */
	tcp_hash_remove(st, t);
	tw_insert(st, tw, now + st->ctl.tcp_timewait_us);
	tcp_done(st, t);
}

/*
 * Each ends when it would have ended. There may be very many, and this is done under the lock of a dead process: so they are put
 * into the order of the list by 64ths of its length only, and one may end late by so much.
 */
void tcp_tw_repair(struct stack *st, usec_t now)
{
	const usec_t all = st->ctl.tcp_timewait_us + 1, part = all / TW_PARTS + 1;
	uint32_t first[TW_PARTS] = { 0 }, cursor = 0, next;
	struct tcp_tw *tw;

	st->tw_first = st->tw_last = 0;
	st->tw_timer = (struct timer){ .kind = TIMER_TIMEWAIT };
	while ((tw = slab_next(&st->timewaits, &cursor))) {
		usec_t in = ends_in(tw, now);

		tw->node.linked = 0;
		tw->node.kind = TCP_NODE_TW;
		if (tw->lport == 0) { /* died before it was filled in */
			slab_free(&st->timewaits, tw);
			continue;
		}
		tw->next = first[(in < all ? in : all - 1) / part];
		first[(in < all ? in : all - 1) / part] = cursor;
	}
	for (unsigned k = 0; k < TW_PARTS; k++) {
		for (uint32_t i = first[k]; i; i = next) {
			tw = tw_at(st, i);
			next = tw->next;
			tw_insert(st, tw, now + ends_in(tw, now));
		}
	}
}

void tcp_tw_free(struct stack *st, struct tcp_tw *tw)
{
	struct port_key key;

	htab_remove(&st->conns, &tw->node);
	tw_unlink(st, tw);
	if (tw->flags & TWF_PORT) {
		tw_port_key(tw, &key);
		port_leave(st, &key);
	}
	slab_free(&st->timewaits, tw);
}

bool tcp_tw_reusable(const struct tcp_tw *tw, usec_t now)
{
	return tw->flags & TWF_TS && tw->ts_recent_ms && tcp_ts_clock(now) - tw->ts_recent_ms > 1000;
}

static void tw_answer(struct stack *st, struct tcp_tw *tw, usec_t now)
{
	if (tcp_oow_short(&tw->oow_ms, now))
		tcp_xmit_tw_ack(st, tw, now);
	else
		CNT(st, TcpExtTCPACKSkipped);
}

/* RFC 6191 2: is this SYN certainly of a new connection */
static bool syn_is_newer(const struct tcp_tw *tw, const struct tcp_seg *s)
{
	if (!(s->flags & TH_SYN) || s->flags & (TH_ACK | TH_RST | TH_FIN))
		return false;
	if (seq_gt(s->seq, tw->rcv_nxt))
		return true;
	return tw->flags & TWF_TS && s->o.ts && (int32_t)(s->o.ts_val - tw->ts_recent) > 0;
}

void tcp_tw_segment(struct stack *st, struct tcp_tw *tw, const struct ip_rx *ip, const struct tcp_seg *s, usec_t now)
{
	bool old_ts = tw->flags & TWF_TS && s->o.ts && (int32_t)(tw->ts_recent - s->o.ts_val) > 1;
	struct tcp_conn *l;

	if (syn_is_newer(tw, s) && !old_ts) {
		l = tcp_listen_lookup(st, &ip->dst, s->dport, &ip->src, s->sport);
		if (l) {
			struct tcp_seg syn = *s;

			CNT(st, TcpExtTWRecycled);
			syn.isn = (tw->snd_nxt + 65535 + 2) ? tw->snd_nxt + 65535 + 2 : 1;
			tcp_tw_free(st, tw);
			tcp_listen_segment(st, l, ip, &syn, now);
			return;
		}
	}
	if (s->flags & TH_RST) {
		drop(st, DROP_TCP_RST);
		if (s->seq == tw->rcv_nxt && !old_ts && !st->ctl.tcp_rfc1337)
			tcp_tw_free(st, tw);
		return;
	}
	if (s->seq == tw->rcv_nxt && tcp_seg_end(s) == s->seq && !old_ts) { /* nothing in it: the last ACK, once more */
		if (s->flags & TH_ACK && s->o.ts) {
			tw->ts_recent = s->o.ts_val;
			tw->ts_recent_ms = tcp_ts_clock(now);
		}
		return;
	}
	if (s->flags & TH_FIN && tcp_seg_end(s) == tw->rcv_nxt) { /* our last ACK was lost */
		tw_unlink(st, tw);
		tw_link(st, tw, now + st->ctl.tcp_timewait_us);
		tcp_xmit_tw_ack(st, tw, now);
		return;
	}
	tw_answer(st, tw, now);
}
