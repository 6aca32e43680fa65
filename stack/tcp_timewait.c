/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_timewait.c - 2 MSL after an active close, in an object of its own (RFC 9293 3.6.1, RFC 6191, RFC 1337)
 *
 * What the peer may still send is answered with the last acknowledgment. A reset does not end it (RFC 1337). A SYN
 * that must be newer than all of the old connection, by timestamp or sequence number, replaces it (RFC 6191, as
 * Linux); so does a connect of ours after a second if both sides had timestamps.
 */
#include "tcp_priv.h"

static void tw_port_key(const struct tcp_tw *tw, struct port_key *ret_key)
{
	*ret_key = (struct port_key){ .addr = tw->laddr, .port = tw->lport, .flags = tw->port_flags, .uid = tw->uid };
}

void tcp_timewait(struct stack *st, struct tcp_conn *t, usec_t now)
{
	struct tcp_tw *tw = st->timewaits.in_use < st->ctl.tcp_max_tw_buckets ? slab_alloc(&st->timewaits) : NULL;
	struct port_key key;

	CNT(st, TcpExtTW);
	if (!tw) { /* as Linux: the connection just ends */
		CNT(st, TcpExtTCPTimeWaitOverflow);
		tcp_done(st, t);
		return;
	}
	tcp_port_key(t, &key);
	tw->node.kind = TCP_NODE_TW;
	tw->timer.kind = TIMER_TIMEWAIT;
	tw->laddr = t->laddr;
	tw->raddr = t->raddr;
	tw->lport = t->lport;
	tw->rport = t->rport;
	tw->snd_nxt = t->snd_nxt;
	tw->rcv_nxt = t->rcv_nxt;
	tw->rcv_wnd = tcp_rcv_window(st, t);
	tw->rcv_wind_shift = t->rcv_wind_shift;
	tw->ts_recent = t->ts_recent;
	tw->ts_recent_ms = t->ts_recent_ms;
	tw->ts_offset = t->ts_offset;
	tw->flags = (uint8_t)(t->flags & (TF_TS | TF_SACK | TF_WSCALE));
	tw->tos = t->opts.tos;
	tw->family = t->family;
	tw->port_flags = (uint16_t)(key.flags | PORT_TIMEWAIT);
	tw->uid = t->opts.uid;
	tcp_hash_remove(st, t);
	htab_insert(&st->conns, &tw->node, siphash_tuple(&st->key_tuple, &tw->laddr, tw->lport, &tw->raddr, tw->rport));
	wheel_set(&st->wheel, &tw->timer, now + st->ctl.tcp_timewait_us);
	tw_port_key(tw, &key);
	port_join(st, &tw->port, &key);
	tcp_done(st, t);
}

void tcp_tw_free(struct stack *st, struct tcp_tw *tw)
{
	htab_remove(&st->conns, &tw->node);
	wheel_cancel(&st->wheel, &tw->timer);
	port_release(st, &tw->port);
	slab_free(&st->timewaits, tw);
}

bool tcp_tw_reusable(const struct tcp_tw *tw, usec_t now)
{
	return tw->flags & TF_TS && tw->ts_recent_ms && tcp_ts_clock(now) - tw->ts_recent_ms > 1000;
}

static void tw_answer(struct stack *st, struct tcp_tw *tw, usec_t now)
{
	if (tcp_oow_allowed(&tw->oow_at_ms, now))
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
	return tw->flags & TF_TS && s->o.ts && (int32_t)(s->o.ts_val - tw->ts_recent) > 0;
}

void tcp_tw_segment(struct stack *st, struct tcp_tw *tw, const struct ip_rx *ip, const struct tcp_seg *s, usec_t now)
{
	bool old_ts = tw->flags & TF_TS && s->o.ts && (int32_t)(tw->ts_recent - s->o.ts_val) > 1;
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
		wheel_set(&st->wheel, &tw->timer, now + st->ctl.tcp_timewait_us);
		tcp_xmit_tw_ack(st, tw, now);
		return;
	}
	tw_answer(st, tw, now);
}
