/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_fastopen.c - data in the SYN (RFC 7413)
 *
 * Theory of operation
 *
 * A cookie proves that a client has received something at its address before: the server's hash of both addresses under
 * a key of its own (the host's, or the listener's by TCP_FASTOPEN_KEY). A client asks for one in an ordinary handshake and keeps it with the destination (dst.c).
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
#include <errno.h>
#include <string.h>
#include "tcp_priv.h"

#define TFO_COOKIE_BYTES 8
#define TFO_KEYS_MAX	 2

struct tfo_keys {
	struct sipkey key[TFO_KEYS_MAX];
	int n;
};

int tcp_fastopen_keys(struct stack *st, struct tcb *listener, const uint8_t *keys, int n)
{
	struct tcp_conn *l = listener->conn;
	struct tfo_keys *k;

	if (!l || l->state != TCPS_LISTEN)
		return 0; /* it is told again when it listens */
	if (!l->l.tfo_keys)
		l->l.tfo_keys = cell_alloc(st, sizeof(*k));
	if (!l->l.tfo_keys)
		return -ENOBUFS;
	k = (struct tfo_keys *)l->l.tfo_keys->data;
	k->n = n;
	memcpy(k->key, keys, (size_t)n * sizeof(k->key[0]));
	return 0;
}

/* The @i-th key of a listener; NULL: it has no such key */
static const struct sipkey *listener_key(const struct stack *st, const struct tcp_conn *l, int i)
{
	const struct tfo_keys *k = l && l->state == TCPS_LISTEN && l->l.tfo_keys ? (const struct tfo_keys *)l->l.tfo_keys->data : NULL;

	if (k)
		return i < k->n ? &k->key[i] : NULL;
	return i == 0 ? &st->key_tfo : NULL;
}

/* As Linux makes it: servers that share a key, kernels among them, know one another's cookies */
static void cookie_make(const struct sipkey *key, const struct ipaddr *laddr, const struct ipaddr *raddr, uint8_t ret_cookie[8])
{
	uint64_t w[4] = { raddr->w[3] | (uint64_t)laddr->w[3] << 32 }, c;

	if (!ipaddr_is_v4(*laddr)) {
		memcpy(&w[0], raddr, 16);
		memcpy(&w[2], laddr, 16);
	}
	c = siphash24(key, w, ipaddr_is_v4(*laddr) ? 1 : 4);
	memcpy(ret_cookie, &c, TFO_COOKIE_BYTES);
}

void tcp_tfo_cookie(const struct stack *st, const struct tcp_req *r, uint8_t ret_cookie[8])
{
	const struct tcb *ls = slab_at(&st->tcbs, r->listener);

	cookie_make(listener_key(st, ls ? ls->conn : NULL, 0), &r->laddr, &r->raddr, ret_cookie);
}

static bool cookie_right(const struct stack *st, const struct tcp_conn *l, const struct tcp_req *r, const struct tcp_seg *s)
{
	uint8_t c[TFO_COOKIE_BYTES];

	for (int i = 0; s->o.tfo_ok && s->o.tfo_len == TFO_COOKIE_BYTES && listener_key(st, l, i); i++) {
		cookie_make(listener_key(st, l, i), &r->laddr, &r->raddr, c);
		if (memcmp(c, s->o.tfo, TFO_COOKIE_BYTES) == 0)
			return true;
	}
	return false;
}

/* tcp_fastopen 0x400: listeners that never asked */
void tcp_tfo_listen(struct stack *st, struct tcp_conn *l)
{
	uint32_t both = TFO_SERVER | TFO_SERVER_ALL;

	if ((st->ctl.tcp_fastopen & both) == both && !l->opts.fastopen_qlen)
		l->opts.fastopen_qlen = l->l.backlog_conns;
}

/**
 * tcp_tfo_judge() - what the Fast Open option of a SYN is worth
 * @r:	as the SYN has it; r->tfo is set where the SYN-ACK shall bring a cookie
 *
 * Return: true: the SYN's data may be taken in
 */
bool tcp_tfo_judge(struct stack *st, const struct tcp_conn *l, struct tcp_req *r, const struct tcp_seg *s)
{
	bool no_cookie = st->ctl.tcp_fastopen & TFO_SERVER_NO_COOKIE || l->opts.fastopen_no_cookie;

	if (s->o.tfo_ok && s->o.tfo_len == 0)
		CNT(st, TcpExtTCPFastOpenCookieReqd);
	if (!(st->ctl.tcp_fastopen & TFO_SERVER) || !l->opts.fastopen_qlen || (!s->o.tfo_ok && !s->len))
		return false;
	if (s->o.tfo_ok && s->o.tfo_len == 0 && !no_cookie) {
		r->tfo = 1;
		return false;
	}
	if (l->l.n_tfo >= l->opts.fastopen_qlen) {
		CNT(st, TcpExtTCPFastOpenListenOverflow);
		return false;
	}
	if (no_cookie)
		return true;
	if (!s->o.tfo_ok)
		return false;
	if (!cookie_right(st, l, r, s)) {
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
	if (data.len > 0)
		t->tfo |= TFO_SYN_DATA;
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

static bool client_no_cookie(const struct stack *st, const struct tcp_conn *t)
{
	return st->ctl.tcp_fastopen & TFO_CLIENT_NO_COOKIE || t->opts.fastopen_no_cookie;
}

/* Is there a cookie for the destination of @t, or none needed */
bool tcp_tfo_known(const struct stack *st, struct tcp_conn *t)
{
	const struct dst *d = dst_find(st, &t->raddr);

	if (client_no_cookie(st, t) || (d && d->tfo_len > 0))
		return true;
	t->tfo |= TFO_FAIL_COOKIE;
	return false;
}

bool tcp_syn_waits(const struct tcb *s)
{
	return s->conn && s->conn->flags & TF_SYN_WAITS;
}

/* Linux's tcp_send_syn_data(): a segment as the peer had it when it gave the cookie, less all room for options */
static size_t syn_room(const struct stack *st, const struct tcp_conn *t)
{
	const struct dst *d = dst_find(st, &t->raddr);
	uint32_t mss = ip_mtu(st, &t->raddr) - TCP_HDR_BYTES - (ipaddr_is_v4(t->raddr) ? 20 : 40);

	if (t->opts.maxseg_bytes && t->opts.maxseg_bytes < mss)
		mss = t->opts.maxseg_bytes;
	if (d && d->tfo_len && d->tfo_mss < mss)
		mss = d->tfo_mss;
	else if ((!d || !d->tfo_len) && mss > tcp_mss_unsaid(t->raddr))
		mss = tcp_mss_unsaid(t->raddr);
	return mss > TCP_OPTS_MAX ? mss - TCP_OPTS_MAX : 0;
}

size_t tcp_syn_room(const struct stack *st, const struct tcb *s)
{
	return s->conn ? syn_room(st, s->conn) : 0;
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
	uint32_t max = (uint32_t)syn_room(st, t), waits = t->write_seq - (t->iss + 1);
	bool known = d && d->tfo_len > 0, no_cookie = client_no_cookie(st, t);

	if (!known && !no_cookie)
		return tcp_opt_put_tfo(p, NULL, 0);
	if (!no_cookie && room < d->tfo_len + 2u)
		return 0;
	*ret_data = waits < max ? waits : max;
	return no_cookie ? 0 : tcp_opt_put_tfo(p, d->tfo_cookie, d->tfo_len);
}

/* The SYN-ACK of a connection whose SYN had the option: a cookie to keep, data that was taken or not */
void tcp_tfo_syn_ack(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s)
{
	if (s->o.tfo_len > 0 && s->o.tfo_len <= DST_TFO_MAX)
		dst_tfo_set(st, &t->raddr, s->o.tfo, s->o.tfo_len, (uint16_t)t->peer_mss);
	if (t->snd_nxt == t->iss + 1)
		return;
	if (s->ack == t->iss + 1) {
		CNT(st, TcpExtTCPFastOpenActiveFail);
		t->tfo |= TFO_FAIL_NOT_ACKED;
	} else {
		CNT(st, TcpExtTCPFastOpenActive);
		t->tfo |= TFO_SYN_DATA;
	}
	t->snd_nxt = s->ack; /* the rest is sent as if it had never been */
}

void tcp_tfo_syn_lost(struct stack *st, struct tcp_conn *t)
{
	t->flags &= ~TF_FASTOPEN;
	if (t->snd_nxt != t->iss + 1)
		t->tfo |= TFO_FAIL_SYN_LOST;
	dst_tfo_set(st, &t->raddr, NULL, 0, 0);
}
