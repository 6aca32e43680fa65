/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_fastopen.c - data in the SYN (RFC 7413)
 *
 * Theory of operation
 *
 * A cookie proves that a client has received something at its address before: the server's hash of both addresses under
 * a key of its own. A client asks for one in an ordinary handshake and keeps it with the destination (dst.c).
 *
 * Server (tcp_fastopen 2, and a listener with TCP_FASTOPEN): a SYN with a right cookie becomes a connection in
 * SYN_RECEIVED at once. It goes to the accept queue, its data to the program, and what the program answers leaves
 * before the handshake is over. Such connections are limited by TCP_FASTOPEN's number (n_tfo); beyond it, and with a
 * wrong cookie, the handshake is an ordinary one, whose SYN-ACK brings the right cookie. SYN-ACKs are sent again by
 * the connection's own timer.
 *
 * Client (tcp_fastopen 1): where a cookie is known the SYN waits for the first data (TF_SYN_WAITS), which then goes
 * with it, up to one segment. What the SYN-ACK does not acknowledge is sent again at once. A SYN that has to be
 * sent again goes without data and cookie, and the cookie is forgotten: something on the path may not like it.
 */
#include <string.h>
#include "tcp_priv.h"

#define TFO_COOKIE_BYTES 8
#define TFO_SERVER	 2

static uint64_t cookie_for(const struct stack *st, const struct ipaddr *laddr, const struct ipaddr *raddr)
{
	return siphash_tuple_secret(&st->key_tfo, laddr, 0, raddr, 0);
}

void tcp_tfo_cookie(const struct stack *st, const struct tcp_req *r, uint8_t ret_cookie[8])
{
	uint64_t c = cookie_for(st, &r->laddr, &r->raddr);

	memcpy(ret_cookie, &c, TFO_COOKIE_BYTES);
}

static bool cookie_right(const struct stack *st, const struct tcp_req *r, const struct tcp_seg *s)
{
	uint8_t c[TFO_COOKIE_BYTES];

	tcp_tfo_cookie(st, r, c);
	return s->o.tfo_len == TFO_COOKIE_BYTES && memcmp(c, s->o.tfo, TFO_COOKIE_BYTES) == 0;
}

/**
 * tcp_tfo_judge() - what the Fast Open option of a SYN is worth
 * @r:	as the SYN has it; r->tfo is set where the SYN-ACK shall bring a cookie
 *
 * Return: true: the SYN's data may be taken in
 */
bool tcp_tfo_judge(struct stack *st, const struct tcp_conn *l, struct tcp_req *r, const struct tcp_seg *s)
{
	if (!s->o.tfo_ok || !(st->ctl.tcp_fastopen & TFO_SERVER) || !l->opts.fastopen_qlen)
		return false;
	if (s->o.tfo_len == 0) {
		CNT(st, TcpExtTCPFastOpenCookieReqd);
		r->tfo = 1;
		return false;
	}
	if (l->l.n_tfo >= l->opts.fastopen_qlen) {
		CNT(st, TcpExtTCPFastOpenListenOverflow);
		return false;
	}
	if (!cookie_right(st, r, s)) {
		CNT(st, TcpExtTCPFastOpenPassiveFail);
		r->tfo = 1;
		return false;
	}
	return true;
}

/**
 * tcp_tfo_child() - a connection by its SYN alone
 * @t:	from child_open(), established so far as that does it; its listener is @l
 */
void tcp_tfo_child(struct stack *st, struct tcp_conn *l, struct tcp_conn *t, const struct tcp_seg *s, usec_t now)
{
	struct tcp_seg data = *s;

	CNT(st, TcpExtTCPFastOpenPassive);
	t->snd_una = t->iss;
	t->snd_wnd = t->snd_max_wnd = s->wnd; /* that of a SYN is never scaled */
	tcp_set_state(t, TCPS_SYN_RECEIVED);
	t->flags |= TF_FASTOPEN;
	l->l.n_tfo++;
	tcp_hash_insert(st, t);
	tcp_init_transfer(st, t, now);
	t->rto_us = TCP_RTO_INIT_US;
	data.seq++;
	data.flags &= (uint8_t)~TH_SYN;
	tcp_recv_data(st, t, &data, now);
	tcp_tx_note(st, t, now);
	tcp_xmit_syn(st, t, now);
	t->flags &= ~(TF_ACK_NOW | TF_ACK_DELAYED); /* the SYN-ACK has said it */
	tcp_timer_clear(t, TCPT_DELACK);
	t->rcv_wup = t->rcv_nxt;
	tcp_rto_arm(st, t, now);
}

/* Such a connection is established, or over: its listener may take another one */
void tcp_tfo_end(struct stack *st, struct tcp_conn *t)
{
	struct tcb *ls;

	t->flags &= ~(TF_FASTOPEN | TF_SYN_WAITS);
	if (!t->parent)
		return;
	ls = slab_get(&st->tcbs, t->parent);
	if (ls && ls->conn && ls->conn->state == TCPS_LISTEN && ls->conn->l.n_tfo > 0)
		ls->conn->l.n_tfo--;
	if (!(t->flags & TF_ACCEPTQ))
		t->parent = 0;
}

/* ---- client ---- */

/* Is there a cookie for the destination of @t */
bool tcp_tfo_known(const struct stack *st, const struct tcp_conn *t)
{
	const struct dst *d = st->ctl.tcp_fastopen & 1 ? dst_find(st, &t->raddr) : NULL;

	return d && d->tfo_len > 0;
}

/**
 * tcp_tfo_put() - the option of a SYN, and how much data may go with it
 * @p:		behind the other options, @room octets
 * @ret_data:	octets of data, 0: none
 *
 * Return: octets written
 */
unsigned tcp_tfo_put(struct stack *st, struct tcp_conn *t, uint8_t *p, unsigned room, uint32_t *ret_data)
{
	const struct dst *d = dst_find(st, &t->raddr);
	uint32_t max;

	if (!d || !d->tfo_len)
		return tcp_opt_put_tfo(p, NULL, 0);
	if (room < d->tfo_len + 2u)
		return 0;
	max = t->advmss < d->tfo_mss ? t->advmss : d->tfo_mss;
	max = max > TCP_OPTS_MAX ? max - TCP_OPTS_MAX : 0;
	*ret_data = t->write_seq - (t->iss + 1) < max ? t->write_seq - (t->iss + 1) : max;
	return tcp_opt_put_tfo(p, d->tfo_cookie, d->tfo_len);
}

/* The SYN-ACK of a connection whose SYN had the option: a cookie to keep, data that was taken or not */
void tcp_tfo_syn_ack(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s)
{
	if (s->o.tfo_len > 0 && s->o.tfo_len <= DST_TFO_MAX)
		dst_tfo_set(st, &t->raddr, s->o.tfo, s->o.tfo_len, (uint16_t)t->peer_mss);
	if (t->snd_nxt == t->iss + 1)
		return;
	if (s->ack == t->iss + 1)
		CNT(st, TcpExtTCPFastOpenActiveFail);
	else
		CNT(st, TcpExtTCPFastOpenActive);
	t->snd_nxt = s->ack; /* the rest is sent as if it had never been */
}

void tcp_tfo_syn_lost(struct stack *st, struct tcp_conn *t)
{
	t->flags &= ~TF_FASTOPEN;
	dst_tfo_set(st, &t->raddr, NULL, 0, 0);
}
