/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_output.c - what may leave, and the headers it leaves with
 *
 * Theory of operation
 *
 * Whoever changes a connection so that it may have something to send puts it into st->tcp_out (tcp_output_want()).
 * Nothing is decided there. stack_output() pulls: tcp_output_next() takes the first connection in turn and lets it
 * make one frame, by what holds at that moment, in this order:
 *
 *   0. payload to an end on this host, without a frame                   (tcp_pair.c)
 *   1. a retransmission that recovery asks for, if the pipe has room        (tcp_rexmt_next(), RFC 6675 5 (C))
 *   2. new data that cwnd, snd_wnd, Nagle and cork let go, as one super-frame (send_new())
 *   3. an acknowledgment alone, if one is owed at once
 *
 * and puts it back to the end of the list while there is more. So no connection starves another, an acknowledgment
 * rides on data whenever there is some, and a batch of input costs one acknowledgment.
 *
 * A frame references the cells of the send queue; nothing is copied. Where no pbuf is to be had the connection stays
 * in the list and goes on when one comes back. SYN, SYN-ACK, RST and answers to segments without a connection leave
 * at once.
 */
#include <string.h>
#include "tcp_priv.h"

#define TSO_DEFER_US	1000u
#define HDR_ROOM_IP	60	/* options and TCP header at most: decides nothing but GSO's payload */

static uint16_t be16(uint32_t v)
{
	return __builtin_bswap16((uint16_t)v);
}

/* ---- headers ---- */

struct tx_hdr {
	uint32_t seq, ack;
	uint16_t sport, dport, wnd, urg;
	uint8_t flags;
	uint8_t opt_len;
	uint8_t opt[TCP_OPTS_MAX];
};

static void hdr_push(struct pbuf *p, const struct tx_hdr *h)
{
	struct tcp_hdr *th = (struct tcp_hdr *)pbuf_push(p, TCP_HDR_BYTES + h->opt_len);

	th->sport = be16(h->sport);
	th->dport = be16(h->dport);
	th->seq = __builtin_bswap32(h->seq);
	th->ack = __builtin_bswap32(h->ack);
	th->off = (uint8_t)((TCP_HDR_BYTES + h->opt_len) / 4 << 4);
	th->flags = h->flags;
	th->wnd = be16(h->wnd);
	th->csum = 0;
	th->urg = be16(h->urg);
	if (h->opt_len == TCP_OPT_TS_BYTES)
		memcpy(th + 1, h->opt, TCP_OPT_TS_BYTES); /* nearly always: three stores, no call */
	else
		memcpy(th + 1, h->opt, h->opt_len);
}

static void send_to(struct stack *st, struct pbuf *p, const struct ipaddr *src, const struct ipaddr *dst,
		    struct ip_path *path, uint8_t tos, uint8_t ttl, usec_t now)
{
	struct ip_tx tx = { .src = *src, .dst = *dst, .path = path, .proto = IPPROTO_NR_TCP, .tos = tos, .ttl = ttl };

	CNT(st, TcpOutSegs);
	ip_output(st, p, &tx, now);
}

/* Segments without payload, made and sent at once. False: no pbuf. */
static bool send_bare(struct stack *st, const struct tx_hdr *h, const struct ipaddr *src, const struct ipaddr *dst, uint8_t tos,
		      usec_t now)
{
	struct pbuf *p = pbuf_alloc(st);

	if (!p) {
		drop(st, DROP_TCP_NO_PBUF);
		return false;
	}
	hdr_push(p, h);
	send_to(st, p, src, dst, NULL, tos, 0, now);
	return true;
}

/* ---- the window we offer ---- */

/**
 * tcp_rcv_window() - octets beyond rcv_nxt that we are ready to take
 *
 * Half of the buffer is offered, as Linux does with tcp_adv_win_scale 1, less what the program has not read. Silly
 * window avoidance (RFC 9293 3.8.6.2.2): a sliver of less than a segment or a sixteenth is none. What was offered is
 * never taken back, save by not adding to it: when cells run short the right edge stays where it is.
 */
uint32_t tcp_rcv_window(const struct stack *st, const struct tcp_conn *t)
{
	uint32_t limit = t->rcv_space_bytes, offered = seq_gt(t->rcv_adv, t->rcv_nxt) ? t->rcv_adv - t->rcv_nxt : 0;
	uint32_t space = limit > t->rcv_bytes ? limit - t->rcv_bytes : 0;

	if (t->rcv_mem_bytes >= t->opts.rcvbuf_bytes)
		space = 0;
	if (st->pools.held_bytes > st->pools.limit_bytes - st->pools.limit_bytes / 16)
		space = space < offered ? space : offered;
	if (space < limit / 2 && (space < limit / 16 || space < t->rcv_mss))
		space = 0;
	return space > offered ? space : offered;
}

/* The field of the header; moves rcv_adv. Rounded down, except to keep an edge once offered. */
uint16_t tcp_wnd_take(const struct stack *st, struct tcp_conn *t)
{
	uint32_t wnd = tcp_rcv_window(st, t), unit = 1u << t->rcv_wind_shift, max = 65535u << t->rcv_wind_shift;
	uint32_t offered = seq_gt(t->rcv_adv, t->rcv_nxt) ? t->rcv_adv - t->rcv_nxt : 0;

	if (wnd > max)
		wnd = max;
	wnd = wnd > offered ? wnd & ~(unit - 1) : wnd;
	if (wnd <= offered)
		wnd = (offered + unit - 1) & ~(unit - 1);
	if (wnd > max)
		wnd = max;
	t->rcv_adv = seq_max(t->rcv_adv, t->rcv_nxt + wnd);
	return (uint16_t)(wnd >> t->rcv_wind_shift);
}

/* ---- one segment of a connection ---- */

/* SACK goes with segments without payload only: full ones have no room for it. output_one() sends such a segment first. */
static unsigned opts_put(struct tcp_conn *t, uint8_t *p, bool sack, usec_t now)
{
	struct sack_block b[TCP_SACK_BLOCKS];
	unsigned n = 0;

	if (t->flags & TF_TS)
		n = tcp_opt_put_ts(p, t->ts_offset + tcp_ts_clock(now), t->ts_recent);
	if (sack && t->flags & TF_SACK && (t->ooo || t->flags & TF_DSACK))
		n += tcp_opt_put_sack(p + n, b, tcp_sack_build(t, b, t->flags & TF_TS ? 3 : 4));
	return n;
}

void tcp_ack_sent(struct tcp_conn *t)
{
	if (t->quick_acks && t->flags & (TF_ACK_NOW | TF_ACK_DELAYED))
		t->quick_acks--;
	t->flags &= ~(TF_ACK_NOW | TF_ACK_DELAYED | TF_DSACK);
	tcp_timer_clear(t, TCPT_DELACK);
	t->rcv_wup = t->rcv_nxt;
}

/* Cell that holds @seq: from a hint, else from the head. NULL: @seq is behind all data. */
static struct cell *cell_find(const struct tcp_conn *t, struct cell *hint, uint32_t seq)
{
	struct cell *c = hint && seq_leq(hint->seq, seq) ? hint : t->snd_head;

	while (c && seq_leq(c->seq + c->len, seq))
		c = c->next;
	return c;
}

/* How much of [@seq, @seq + @len) fits into the fragments of one frame, in whole segments if more than one */
static uint32_t frags_fit(const struct tcp_conn *t, const struct cell *c, uint32_t seq, uint32_t len)
{
	uint32_t got = 0;

	for (unsigned n = 0; c && n < PBUF_FRAGS_MAX && got < len; n++, c = c->next)
		got = c->seq + c->len - seq;
	if (got >= len)
		return len;
	return got > t->snd_mss ? got - got % t->snd_mss : got;
}

static struct cell *frags_add(struct pbuf *p, struct cell *c, uint32_t seq, uint32_t len)
{
	struct cell *last = c;

	while (len > 0) {
		uint32_t skip = seq - c->seq, n = c->len - skip;

		if (n > len)
			n = len;
		pbuf_add_frag(p, c, c->off + skip, n);
		seq += n;
		len -= n;
		last = c;
		c = c->next;
	}
	return last;
}

/**
 * ecn_mark() - what goes with a segment of a connection that uses ECN (RFC 3168 6.1)
 * @fresh:	new data: only that is marked as capable, since the loss of anything else could not be told from a mark
 *
 * Return: the octet of the IP header
 */
static uint8_t ecn_mark(struct tcp_conn *t, struct tx_hdr *h, uint8_t tos, bool fresh)
{
	if (t->ecn & ECN_ECHO)
		h->flags |= TH_ECE;
	if (!fresh || !(t->ecn & ECN_OK))
		return tos & (uint8_t)~IP_ECN_MASK;
	if (t->ecn & ECN_CWR) {
		h->flags |= TH_CWR;
		t->ecn &= (uint8_t)~ECN_CWR;
	}
	return (uint8_t)((tos & ~IP_ECN_MASK) | IP_ECN_ECT0);
}

/**
 * xmit() - one frame with the octets [@seq, @seq + @len), our FIN if it follows them, and an acknowledgment
 * @rexmt:	it was sent before
 * @ret_sent:	sequence numbers that left, FIN counted; may be less than asked for where fragments run out
 *
 * Return: false where there is no pbuf; nothing happened then
 */
static bool xmit(struct stack *st, struct tcp_conn *t, uint32_t seq, uint32_t len, bool fin, bool rexmt, uint32_t *ret_sent,
		 usec_t now)
{
	struct tx_hdr h = { .seq = seq, .ack = t->rcv_nxt, .sport = t->lport, .dport = t->rport, .flags = TH_ACK };
	struct pbuf *p = pbuf_alloc(st);
	uint32_t asked = len;
	uint8_t tos = tcp_tos_of(&t->opts, t->raddr);

	if (!p)
		return false;
	if (len > 0) {
		struct cell **hint = rexmt ? &t->snd_rx : &t->snd_cur;
		struct cell *c = cell_find(t, *hint, seq);

		len = frags_fit(t, c, seq, len);
		*hint = frags_add(p, c, seq, len);
		if (seq + len == t->write_seq)
			h.flags |= TH_PSH;
		if (t->flags & TF_URG && seq_gt(t->snd_up, seq)) {
			h.flags |= TH_URG;
			h.urg = (uint16_t)(t->snd_up - seq > 0xffff ? 0xffff : t->snd_up - seq);
		}
		if (len > t->snd_mss)
			p->gso_size = (uint16_t)t->snd_mss;
	}
	fin = fin && len == asked;
	if (fin)
		h.flags |= TH_FIN;
	if (t->ecn)
		tos = ecn_mark(t, &h, tos, len > 0 && !rexmt);
	h.opt_len = (uint8_t)opts_put(t, h.opt, len == 0, now);
	h.wnd = tcp_wnd_take(st, t);
	hdr_push(p, &h);
	tcp_ack_sent(t);
	t->segs_out += p->gso_size ? (len + t->snd_mss - 1) / t->snd_mss : 1;
	if (len > 0) {
		uint32_t segs = (len + t->snd_mss - 1) / t->snd_mss;

		t->data_segs_out += segs;
		if (!rexmt)
			CNT_ADD(st, TcpExtTCPOrigDataSent, segs);
	}
	*ret_sent = len + fin;
	if (t->pace_Bps && len > 0)
		tcp_pace_sent(t, len, now);
	send_to(st, p, &t->laddr, &t->raddr, &t->path, tos, tcp_ttl_of(&t->opts, t->raddr), now);
	return true;
}

/* Pure acknowledgment, window update. False: no pbuf, the debt stays. */
bool tcp_xmit_ack(struct stack *st, struct tcp_conn *t, usec_t now)
{
	uint32_t sent;

	return xmit(st, t, t->snd_nxt, 0, false, false, &sent, now);
}

/**
 * tcp_xmit_probe() - make the peer answer
 * @zero_window:	the window is shut: send what it lets through of the next segment, else an old number
 *
 * As Linux's tcp_write_wakeup(): a number just below snd_una is not acceptable to the peer, who must acknowledge.
 * Return: false where nothing could be sent
 */
bool tcp_xmit_probe(struct stack *st, struct tcp_conn *t, bool zero_window, usec_t now)
{
	uint32_t sent, wnd_left = t->snd_una + t->snd_wnd - t->snd_nxt, unsent = t->write_seq - t->snd_nxt;
	struct pbuf *p;
	struct tx_hdr h = { .seq = t->snd_una - 1, .ack = t->rcv_nxt, .sport = t->lport, .dport = t->rport, .flags = TH_ACK };

	if (zero_window && seq_lt(t->snd_nxt, t->write_seq) && (int32_t)wnd_left > 0) {
		uint32_t n = unsent < wnd_left ? unsent : wnd_left;
		uint8_t ecn = t->ecn;
		bool ok;

		t->ecn &= ECN_ECHO; /* RFC 3168 6.1.6: neither ECT nor CWR on a probe */
		ok = xmit(st, t, t->snd_nxt, n < t->snd_mss ? n : t->snd_mss, false, false, &sent, now);
		t->ecn = ecn;
		if (!ok)
			return false;
		t->snd_nxt += sent;
		tcp_tx_note(st, t, now);
		t->bytes_sent += sent;
		tcp_rto_arm(st, t, now);
		return true;
	}
	p = pbuf_alloc(st);
	if (!p)
		return false;
	h.opt_len = (uint8_t)opts_put(t, h.opt, true, now);
	h.wnd = tcp_wnd_take(st, t);
	hdr_push(p, &h);
	t->segs_out++;
	send_to(st, p, &t->laddr, &t->raddr, &t->path, tcp_tos_of(&t->opts, t->raddr), tcp_ttl_of(&t->opts, t->raddr), now);
	return true;
}

/* ---- handshake and resets ---- */

static uint16_t syn_mss(const struct stack *st, const struct tcp_conn *t)
{
	uint32_t mss = ip_mtu(st, &t->raddr) - TCP_HDR_BYTES - (ipaddr_is_v4(t->raddr) ? 20 : 40);

	return (uint16_t)(t->opts.maxseg_bytes && t->opts.maxseg_bytes < mss ? t->opts.maxseg_bytes : mss);
}

/* A SYN with the Fast Open option, and the data that waits if a cookie is known */
static void xmit_syn_data(struct stack *st, struct tcp_conn *t, struct tx_hdr *h, usec_t now)
{
	struct pbuf *p = pbuf_alloc(st);
	uint32_t n = 0;

	if (!p) {
		drop(st, DROP_TCP_NO_PBUF);
		return;
	}
	h->opt_len = (uint8_t)(h->opt_len + tcp_tfo_put(st, t, h->opt + h->opt_len, TCP_OPTS_MAX - h->opt_len, &n));
	if (n > 0) {
		n = frags_fit(t, t->snd_head, t->iss + 1, n);
		frags_add(p, t->snd_head, t->iss + 1, n);
		t->snd_nxt = t->iss + 1 + n;
		t->bytes_sent += n;
		t->data_segs_out++;
	}
	hdr_push(p, h);
	send_to(st, p, &t->laddr, &t->raddr, NULL, tcp_tos_of(&t->opts, t->raddr), tcp_ttl_of(&t->opts, t->raddr), now);
}

void tcp_xmit_syn(struct stack *st, struct tcp_conn *t, usec_t now)
{
	bool answer = t->state == TCPS_SYN_RECEIVED;
	struct tx_hdr h = { .seq = t->iss, .ack = answer ? t->rcv_nxt : 0, .sport = t->lport, .dport = t->rport,
			    .flags = answer ? TH_SYN | TH_ACK : TH_SYN };
	uint32_t wnd = t->rcv_space_bytes < 65535 ? t->rcv_space_bytes : 65535;
	bool ws = answer ? t->flags & TF_WSCALE : st->ctl.tcp_window_scaling;

	if (!answer && t->retransmits && st->ctl.tcp_ecn_fallback)
		t->ecn = 0; /* something on the path may drop SYNs that ask for it (RFC 3168 6.1.1.1) */
	if (t->ecn)
		h.flags |= answer ? TH_ECE : TH_ECE | TH_CWR;

	t->advmss = syn_mss(st, t);
	h.wnd = (uint16_t)wnd;
	h.opt_len = (uint8_t)tcp_opt_put_syn(h.opt, (uint16_t)t->advmss, answer ? t->flags & TF_SACK : st->ctl.tcp_sack,
					     answer ? t->flags & TF_TS : st->ctl.tcp_timestamps, ws ? t->rcv_wind_shift : -1,
					     t->ts_offset + tcp_ts_clock(now), t->ts_recent);
	if (answer)
		t->rcv_adv = t->rcv_nxt + wnd;
	t->segs_out++;
	if (t->flags & TF_FASTOPEN && !answer)
		xmit_syn_data(st, t, &h, now);
	else
		send_bare(st, &h, &t->laddr, &t->raddr, tcp_tos_of(&t->opts, t->raddr), now);
}

void tcp_xmit_rst(struct stack *st, struct tcp_conn *t, usec_t now)
{
	struct tx_hdr h = { .seq = t->snd_nxt, .ack = t->rcv_nxt, .sport = t->lport, .dport = t->rport, .flags = TH_RST | TH_ACK };

	if (t->flags & TF_TS)
		h.opt_len = (uint8_t)tcp_opt_put_ts(h.opt, t->ts_offset + tcp_ts_clock(now), t->ts_recent);
	CNT(st, TcpOutRsts);
	send_bare(st, &h, &t->laddr, &t->raddr, tcp_tos_of(&t->opts, t->raddr), now);
}

void tcp_xmit_synack(struct stack *st, struct tcp_req *r, usec_t now)
{
	struct tx_hdr h = { .seq = r->iss, .ack = r->rcv_nxt, .sport = r->lport, .dport = r->rport, 
			    .flags = (uint8_t)(TH_SYN | TH_ACK | (r->ecn ? TH_ECE : 0)) };

	h.wnd = r->rcv_wnd;
	h.opt_len = (uint8_t)tcp_opt_put_syn(h.opt, r->advmss, r->flags & TF_SACK, r->flags & TF_TS,
					     r->flags & TF_WSCALE ? r->rcv_wind_shift : -1,
					     r->ts_offset + tcp_ts_clock(now), r->ts_recent);
	if (r->tfo && h.opt_len <= TCP_OPTS_MAX - 12) {
		uint8_t cookie[8];

		tcp_tfo_cookie(st, r, cookie);
		h.opt_len = (uint8_t)(h.opt_len + tcp_opt_put_tfo(h.opt + h.opt_len, cookie, sizeof(cookie)));
	}
	send_bare(st, &h, &r->laddr, &r->raddr, r->tos, now);
}

/* Acknowledgment in the name of a request: it is half open, our sequence number is behind the SYN-ACK's. */
void tcp_xmit_req_ack(struct stack *st, struct tcp_req *r, usec_t now)
{
	struct tx_hdr h = { .seq = r->iss + 1, .ack = r->rcv_nxt, .sport = r->lport, .dport = r->rport, .flags = TH_ACK };

	h.wnd = (uint16_t)(r->rcv_wnd >> r->rcv_wind_shift);
	if (r->flags & TF_TS)
		h.opt_len = (uint8_t)tcp_opt_put_ts(h.opt, r->ts_offset + tcp_ts_clock(now), r->ts_recent);
	send_bare(st, &h, &r->laddr, &r->raddr, r->tos, now);
}

void tcp_xmit_tw_ack(struct stack *st, struct tcp_tw *tw, usec_t now)
{
	struct tx_hdr h = { .seq = tw->snd_nxt, .ack = tw->rcv_nxt, .sport = tw->lport, .dport = tw->rport, .flags = TH_ACK };

	h.wnd = tw->node.own;
	if (tw->flags & TWF_TS)
		h.opt_len = (uint8_t)tcp_opt_put_ts(h.opt, tcp_ts_offset(st, &tw->laddr, &tw->raddr) + tcp_ts_clock(now),
						    tw->ts_recent);
	send_bare(st, &h, &tw->laddr, &tw->raddr, tw->tos, now);
}

void tcp_xmit_rst_reply(struct stack *st, const struct ipaddr *laddr, const struct ipaddr *raddr, const struct tcp_seg *s,
			usec_t now)
{
	struct tx_hdr h = { .sport = s->dport, .dport = s->sport, .flags = TH_RST };

	if (s->flags & TH_RST)
		return;
	if (s->flags & TH_ACK) {
		h.seq = s->ack;
	} else {
		h.flags |= TH_ACK;
		h.ack = tcp_seg_end(s);
	}
	CNT(st, TcpOutRsts);
	send_bare(st, &h, laddr, raddr, 0, now);
}

/* ---- what may leave ---- */

uint32_t tcp_gso_payload_max(const struct stack *st, const struct tcp_conn *t)
{
	bool v4 = ipaddr_is_v4(t->raddr);
	uint32_t max = st->dev.gso_max_bytes;

	/* one urgent pointer cannot serve all segments of a super-frame */
	if (!(v4 ? st->dev.tso4 : st->dev.tso6) || t->flags & TF_URG || max < t->snd_mss + 2 * HDR_ROOM_IP)
		return t->snd_mss;
	max -= 2 * HDR_ROOM_IP;
	return max - max % t->snd_mss;
}

/* RFC 9293 3.7.4 with Minshall's change: hold back a small segment only while a small one is unacknowledged */
static bool nagle_holds(const struct tcp_conn *t)
{
	if (seq_gt(t->push_seq, t->snd_nxt))
		return false;
	if (t->opts.cork || t->flags & TF_MORE)
		return true;
	return !t->opts.nodelay && t->snd_una != t->snd_nxt && seq_gt(t->snd_sml, t->snd_una) &&
	       seq_leq(t->snd_sml, t->snd_nxt);
}

/* RFC 5681 4.1, and as Linux's tcp_slow_start_after_idle does it */
static void idle_restart(const struct stack *st, struct tcp_conn *t, usec_t now)
{
	if (t->snd_una != t->snd_nxt || t->last_snd == 0 || now - t->last_snd <= t->rto_us)
		return;
	if (!st->ctl.tcp_slow_start_after_idle && !t->cc_cell)
		return;
	tcp_cc_ops(t)->restart(t, now - t->last_snd);
}

/**
 * cwnd_validate() - a window that the program leaves unused is no knowledge about the path any more (RFC 7661)
 *
 * As Linux's tcp_cwnd_validate(), which follows RFC 2861 here: each RTO in which cwnd was never full it comes half way
 * down to what was used, not below the initial window; ssthresh remembers. RFC 7661 would keep it for minutes. Growth
 * is refused elsewhere (tcp_sack.c). A model of the path needs none of it.
 */
static void cwnd_validate(const struct stack *st, struct tcp_conn *t, usec_t now)
{
	uint32_t flight = tcp_flight(t), ms = tcp_ts_clock(now), used = st->ctl.tcp_init_cwnd * t->snd_mss;

	if (t->flags & TF_CWND_LIMITED || (t->cwnd < t->ssthresh && t->cwnd < 2 * flight)) {
		t->cwnd_used = 0;
		t->cwnd_at_ms = ms;
		return;
	}
	if (flight > t->cwnd_used)
		t->cwnd_used = flight;
	if ((ms - t->cwnd_at_ms) * 1000ull < t->rto_us || !st->ctl.tcp_slow_start_after_idle)
		return;
	if (t->cwnd_used > used)
		used = t->cwnd_used;
	if (used < t->cwnd && t->ca_state == TCP_CA_OPEN && !(t->flags & TF_NOSPACE) && !t->cc_cell) {
		if (t->ssthresh < t->cwnd / 4 * 3)
			t->ssthresh = t->cwnd / 4 * 3;
		t->cwnd = t->cwnd / 2 + used / 2;
	}
	t->cwnd_used = 0;
	t->cwnd_at_ms = ms;
}

/**
 * tso_defers() - is it worth waiting for more room, so that one large frame leaves instead of two small ones
 *
 * As Linux's tcp_tso_should_defer(): no longer than a millisecond, neither from the last frame on nor until the next
 * acknowledgment is due, half a round trip where that is less. A third of the window (tcp_tso_win_divisor) is worth
 * leaving at once. While at least half a window is in flight acknowledgments must come, and each one opens room.
 *
 * Who waits for more makes larger bursts, and of several flows that keep a queue full the one with the largest bursts is
 * the one whose tail finds it full: beside a flow of Linux's it would lose twice as often.
 */
static bool tso_defers(struct tcp_conn *t, uint32_t len, uint32_t gso_max, usec_t now)
{
	uint32_t wnd = t->cwnd < t->snd_wnd ? t->cwnd : t->snd_wnd, srtt_us = t->srtt_us >> 3;
	uint32_t soon_us = srtt_us / 2 < TSO_DEFER_US ? srtt_us / 2 : TSO_DEFER_US;

	return t->ca_state < TCP_CA_RECOVERY && len < gso_max && len < wnd / 3 && tcp_flight(t) > wnd / 2 &&
	       now - t->last_snd <= TSO_DEFER_US && tcp_tx_age(t, now) + soon_us >= srtt_us;
}

/* One segment larger than the others (tcp_mtu.c); whole, or cut where cells are too small for one frame: then it is none */
static bool xmit_probe(struct stack *st, struct tcp_conn *t, uint32_t seq, uint32_t len, uint32_t *ret_sent, usec_t now)
{
	uint32_t mss = t->snd_mss;
	bool ok;

	t->snd_mss = len;
	ok = xmit(st, t, seq, len, false, false, ret_sent, now);
	t->snd_mss = mss;
	if (ok && *ret_sent == len)
		tcp_mtu_probe_sent(t, seq + len, len);
	return ok;
}

/**
 * send_new() - new data and FIN, as far as windows, Nagle and cork let it
 *
 * Return: 1 one frame left, 0 nothing may, -1 no pbuf
 */
static int send_new(struct stack *st, struct tcp_conn *t, usec_t now)
{
	uint32_t nxt = t->snd_nxt, unsent = t->write_seq - nxt, wnd_left, pipe, room, gso, len, sent, probe;
	bool fin = t->flags & TF_FIN_QUEUED && seq_leq(nxt, t->write_seq);

	if (seq_geq(nxt, t->write_seq))
		unsent = 0;
	if (unsent == 0 && !fin)
		return 0;
	idle_restart(st, t, now);
	if (t->path.gen != st->path_gen && t->path.gen) /* another way, or another MTU of it */
		tcp_mss_sync(st, t);
	wnd_left = seq_gt(t->snd_una + t->snd_wnd, nxt) ? t->snd_una + t->snd_wnd - nxt : 0;
	pipe = tcp_pipe(t);
	room = t->cwnd > pipe ? t->cwnd - pipe : 0;
	gso = tcp_gso_payload_max(st, t);
	if (t->pace_Bps && gso > tcp_pace_frame_max(t))
		gso = tcp_pace_frame_max(t);
	else if (!t->pace_Bps && gso > t->snd_mss && unsent > t->snd_mss)
		gso = tcp_tso_frame_max(t, gso);
	if (t->ecn & ECN_CWR)
		gso = t->snd_mss; /* CWR is for one segment */
	len = unsent < gso ? unsent : gso;
	if (unsent > 0) {
		uint32_t first = len < t->snd_mss ? len : t->snd_mss;

		if (room < first) {
			t->flags |= TF_CWND_LIMITED;
			return 0;
		}
		if (wnd_left < first) {
			tcp_chrono_start(t, TCP_CHRONO_RWND, now);
			return 0;
		}
		if (len > room) {
			t->flags |= TF_CWND_LIMITED;
			len = room;
		}
		if (len > wnd_left)
			len = wnd_left;
		if (len > t->snd_mss && (len < unsent || nagle_holds(t)))
			len -= len % t->snd_mss; /* the odd end waits for its company */
		if (len < unsent && !t->pace_Bps && tso_defers(t, len, gso, now))
			return 0;
		if (len < t->snd_mss && len == unsent && !fin && nagle_holds(t))
			return 0;
	} else if (wnd_left == 0) {
		return 0;
	}
	fin = fin && len == unsent && wnd_left > len;
	if (t->pmtu_bytes && (probe = tcp_mtu_probe_len(st, t, unsent, now)) && probe <= room) {
		if (!xmit_probe(st, t, nxt, probe, &sent, now))
			return -1;
		fin = false;
	} else if (!xmit(st, t, nxt, len, fin, false, &sent, now)) {
		return -1;
	}
	if (sent - (fin && sent > len) < t->snd_mss)
		t->snd_sml = nxt + sent;
	if (t->snd_una == nxt)
		tcp_rate_start(t, nxt + sent, now);
	tcp_chrono_stop(t, TCP_CHRONO_RWND, now);
	t->snd_nxt = nxt + sent;
	t->bytes_sent += sent;
	t->pipe_bytes += sent;
	t->prr_out += sent;
	tcp_tx_note(st, t, now);
	if (now - t->last_rcv < t->ato_us) /* sending soon after receiving: interactive */
		t->flags |= TF_PINGPONG;
	if (t->snd_nxt == t->write_seq && room >= len + t->snd_mss)
		t->flags &= ~TF_CWND_LIMITED; /* the program is what limits us */
	if (t->snd_nxt == t->write_seq && t->flags & TF_NOSPACE)
		tcp_chrono_start(t, TCP_CHRONO_SNDBUF, now);
	t->last_snd = now;
	cwnd_validate(st, t, now);
	if (t->cc_cell)
		tcp_cc_ops(t)->sent(t, sent, t->snd_nxt == t->write_seq && room >= len + t->snd_mss, now);
	if (t->deadline[TCPT_REXMT] == USEC_NEVER)
		tcp_rto_arm(st, t, now);
	else
		tcp_tail_probe_arm(st, t, now);
	tcp_timer_clear(t, TCPT_PERSIST);
	tcp_timer_clear(t, TCPT_CORK);
	return 1;
}

/* [@seq, @seq + @len) once more, or as much of it as fits a frame. False: no pbuf */
static bool xmit_again(struct stack *st, struct tcp_conn *t, uint32_t seq, uint32_t len, usec_t now)
{
	bool fin = t->flags & TF_FIN_QUEUED && seq + len == t->write_seq + 1;
	uint32_t sent;

	if (!xmit(st, t, seq, len - fin, fin, true, &sent, now))
		return false;
	CNT(st, TcpRetransSegs);
	t->total_retrans += (sent + t->snd_mss - 1) / t->snd_mss;
	t->bytes_retrans += sent;
	if (t->mtu_probe_len)
		tcp_mtu_lost(st, t, seq, now);
	tcp_rx_note(st, t, seq, sent, now);
	if (t->flags & TF_UNDO)
		t->undo_bytes = (t->undo_bytes == UNDO_NONE_SENT ? 0 : t->undo_bytes) + sent;
	t->high_rxt = seq_max(t->high_rxt, seq + sent);
	t->pipe_bytes += sent;
	t->prr_out += sent;
	if (t->rexmt_ts == 0) {
		uint32_t ts = t->ts_offset + tcp_ts_clock(now);

		t->rexmt_ts = ts ? ts : 1;
	}
	if (t->rexmt_start == 0)
		t->rexmt_start = now;
	t->last_snd = now;
	return true;
}

/* One retransmission, if recovery asks for one. Return as send_new(). */
static int send_rexmt(struct stack *st, struct tcp_conn *t, usec_t now)
{
	uint32_t seq, len, room, pipe = tcp_pipe(t), gso, wnd_end = t->snd_una + t->snd_wnd;

	if (t->ca_state < TCP_CA_RECOVERY || t->frto == FRTO_NEW_DATA || !tcp_rexmt_next(t, &seq, &len))
		return 0;
	room = t->cwnd > pipe ? t->cwnd - pipe : 0;
	gso = tcp_gso_payload_max(st, t);
	if (room < t->snd_mss && room < len && !(seq == t->snd_una && t->rexmt_bytes == 0))
		return 0;
	if (room < t->snd_mss)
		room = t->snd_mss;
	if (len > room)
		len = room - room % t->snd_mss;
	if (len > gso)
		len = gso;
	/* a peer that shrank its window gets one segment, as a probe */
	if (seq_gt(seq + len, wnd_end) && seq != t->snd_una)
		return 0;
	if (seq_gt(seq + len, wnd_end))
		len = len < t->snd_mss ? len : t->snd_mss;
	if (!xmit_again(st, t, seq, len, now))
		return -1;
	if (t->ca_state == TCP_CA_RECOVERY)
		CNT(st, TcpExtTCPFastRetrans);
	else
		CNT(st, TcpExtTCPSlowStartRetrans);
	if (t->deadline[TCPT_REXMT] == USEC_NEVER)
		tcp_rto_arm(st, t, now);
	return 1;
}

bool tcp_tail_probe_xmit(struct stack *st, struct tcp_conn *t, usec_t now)
{
	uint32_t unsent = tcp_unsent(t), sent;
	uint32_t left = seq_gt(t->snd_una + t->snd_wnd, t->snd_nxt) ? t->snd_una + t->snd_wnd - t->snd_nxt : 0;
	uint32_t len = unsent < t->snd_mss ? unsent : t->snd_mss, flight = tcp_flight(t);

	if (len > 0 && len <= left) {
		if (!xmit(st, t, t->snd_nxt, len, false, false, &sent, now))
			return false;
		t->snd_nxt += sent;
		tcp_tx_note(st, t, now);
		t->bytes_sent += sent;
		if (sent < t->snd_mss)
			t->snd_sml = t->snd_nxt;
		t->last_snd = now;
		t->tlp = TLP_NEW;
	} else {
		len = flight < t->snd_mss ? flight : t->snd_mss;
		if (!xmit_again(st, t, t->snd_nxt - len, len, now))
			return false;
		t->tlp = TLP_REXMT;
	}
	t->tlp_end = t->snd_nxt;
	CNT(st, TcpExtTCPLossProbes);
	return true;
}

/* Nothing leaves and nothing is in flight: then something must make us look again, or we stand still for ever. */
static void arm_standstill(struct stack *st, struct tcp_conn *t, usec_t now)
{
	bool fin = t->flags & TF_FIN_QUEUED && seq_leq(t->snd_nxt, t->write_seq);
	uint32_t unsent = tcp_unsent(t);
	uint32_t first = unsent < t->snd_mss ? unsent : t->snd_mss;

	if (t->snd_una != t->snd_nxt || (unsent == 0 && !fin))
		return;
	if (t->snd_wnd < first || (unsent == 0 && t->snd_wnd == 0)) {
		if (t->deadline[TCPT_PERSIST] == USEC_NEVER)
			tcp_persist_arm(st, t, now);
	} else if (t->deadline[TCPT_CORK] == USEC_NEVER) {
		tcp_timer_set(st, t, TCPT_CORK, now + TCP_CORK_MAX_US);
	}
}

static bool may_send_data(const struct tcp_conn *t)
{
	switch ((enum tcp_state)t->state) {
	case TCPS_ESTABLISHED:
	case TCPS_CLOSE_WAIT:
	case TCPS_FIN_WAIT_1:
	case TCPS_CLOSING:
	case TCPS_LAST_ACK:
		return true;
	case TCPS_SYN_RECEIVED:
		return t->flags & TF_FASTOPEN;
	case TCPS_SYN_SENT:
	case TCPS_FIN_WAIT_2:
	case TCPS_TIME_WAIT:
	case TCPS_CLOSED:
	case TCPS_LISTEN:
		return false;
	}
	return false;
}

/* Return: 1 one frame left and there may be more, 0 nothing more, -1 no pbuf */
static int output_one(struct stack *st, struct tcp_conn *t, usec_t now)
{
	int r;

	if (t->flags & TF_ACK_NOW && tcp_is_synchronized(t) && t->flags & TF_SACK && (t->ooo || t->flags & TF_DSACK))
		return tcp_xmit_ack(st, t, now) ? 1 : -1;
	if (may_send_data(t) && !(t->pace_Bps && tcp_pace_waits(st, t, now))) {
		bool waits = t->looped && tcp_unsent(t) && tcp_pair_push(st, t, now) && tcp_unsent(t);

		r = waits ? 0 : send_rexmt(st, t, now);
		if (r == 0 && !waits)
			r = send_new(st, t, now);
		if (r != 0)
			return r;
		arm_standstill(st, t, now);
	}
	if (!(t->flags & TF_ACK_NOW))
		return 0;
	if (!tcp_is_synchronized(t)) {
		t->flags &= ~TF_ACK_NOW;
		return 0;
	}
	return tcp_xmit_ack(st, t, now) ? 1 : -1;
}

/* Is there anything in it that send_new() and send_rexmt() must look at again */
static bool has_more(const struct tcp_conn *t)
{
	return t->flags & TF_ACK_NOW || seq_lt(t->snd_nxt, t->write_seq) || t->ca_state >= TCP_CA_RECOVERY ||
	       (t->flags & TF_FIN_QUEUED && t->snd_nxt == t->write_seq);
}

bool tcp_output_next(struct stack *st, usec_t now)
{
	struct dnode *n;

	while ((n = dlist_first(&st->tcp_out))) {
		struct tcp_conn *t = container_of(n, struct tcp_conn, out);
		int r;

		tcp_touch(st, t);
		r = output_one(st, t, now);
		if (r < 0)
			return false; /* stays first, goes on when a pbuf comes back */
		dlist_remove(n);
		if (r > 0) {
			if (has_more(t))
				dlist_append(&st->tcp_out, n);
			return true;
		}
	}
	return false;
}

bool tcp_output_pending(const struct stack *st)
{
	return !dlist_empty(&st->tcp_out);
}
