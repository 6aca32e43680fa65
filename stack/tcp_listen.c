/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_listen.c - listeners: SYN queue of small requests, accept queue
 *
 * A SYN makes a struct tcp_req in the connection table; the third segment of the handshake turns it into a tcb in
 * the accept queue of its listener. Where more are half open than the backlog, SYNs are answered with cookies and not
 * remembered (tcp_cookie.c). With tcp_syncookies 0 the oldest request goes instead, so that a flood cannot shut out
 * those who answer quickly; requests are linked at their listener, oldest first.
 * Where the accept queue is full, SYNs are dropped and third segments ignored, as in Linux: the SYN-ACK is sent
 * again and the peer's answer tried again.
 */
#include <errno.h>
#include <string.h>
#include "tcp_priv.h"

/* ---- requests ---- */

static struct tcp_conn *req_listener(struct stack *st, const struct tcp_req *r)
{
	const struct tcb *s = slab_at(&st->tcbs, r->listener);

	return s && s->conn && s->conn->state == TCPS_LISTEN && s->conn->lport == r->lport ? s->conn : NULL;
}

static void req_link(struct stack *st, struct tcp_conn *l, struct tcp_req *r)
{
	struct tcp_req *last = l->l.req_tail;

	r->next = 0;
	r->prev = last ? slab_index(&st->requests, last) : 0;
	if (last)
		last->next = slab_index(&st->requests, r);
	else
		l->l.req_head = r;
	l->l.req_tail = r;
	l->l.n_reqs++;
}

static void req_unlink(struct stack *st, struct tcp_conn *l, struct tcp_req *r)
{
	struct tcp_req *prev = slab_at(&st->requests, r->prev), *next = slab_at(&st->requests, r->next);

	if (prev)
		prev->next = r->next;
	else
		l->l.req_head = next;
	if (next)
		next->prev = r->prev;
	else
		l->l.req_tail = prev;
	l->l.n_reqs--;
}

void tcp_req_drop(struct stack *st, struct tcp_req *r)
{
	struct tcp_conn *l = req_listener(st, r);

	if (l)
		req_unlink(st, l, r);
	htab_remove(&st->conns, &r->node);
	wheel_cancel(&st->wheel, &r->timer);
	cell_put(st, cell_of_ref(st, r->saved_syn));
	slab_free(&st->requests, r);
	st->n_live--;
}

/* repair: back to its listener, table and wheel */
bool tcp_req_restore(struct stack *st, struct tcp_req *r, usec_t now)
{
	struct tcp_conn *l = req_listener(st, r);

	if (!l)
		return false;
	req_link(st, l, r);
	htab_insert(&st->conns, &r->node, siphash_tuple(&st->key_tuple, &r->laddr, r->lport, &r->raddr, r->rport));
	wheel_set(&st->wheel, &r->timer, now + TCP_RTO_INIT_US);
	r->no_rtt = 1;
	st->n_live++;
	return true;
}

static bool accept_full(const struct tcp_conn *l)
{
	return l->l.n_acc > l->l.backlog_conns;
}

static void req_options(struct stack *st, const struct tcp_conn *l, struct tcp_req *r, const struct tcp_seg *s, usec_t now)
{
	uint32_t mtu = ip_mtu(st, &r->raddr), space = l->opts.rcvbuf_bytes / 2;

	r->mss = s->o.mss ? s->o.mss : tcp_mss_unsaid(r->raddr);
	r->advmss = (uint16_t)(mtu - TCP_HDR_BYTES - (ipaddr_is_v4(r->raddr) ? 20 : 40));
	if (l->opts.maxseg_bytes && l->opts.maxseg_bytes < r->advmss)
		r->advmss = (uint16_t)l->opts.maxseg_bytes;
	if (l->opts.window_clamp_bytes && l->opts.window_clamp_bytes < space)
		space = l->opts.window_clamp_bytes;
	r->rcv_wnd = (uint16_t)(space < 65535 ? space : 65535);
	/* RFC 3168 6.1.1, and Linux: a SYN that is itself marked did not come from who follows it */
	r->ecn = st->ctl.tcp_ecn && (s->flags & (TH_ECE | TH_CWR)) == (TH_ECE | TH_CWR) && !(s->tos & IP_ECN_MASK) ? ECN_OK : 0;
	if (s->o.ts && st->ctl.tcp_timestamps) {
		r->flags |= TF_TS;
		r->ts_recent = s->o.ts_val;
		r->ts_offset = tcp_ts_offset(st, &r->laddr, &r->raddr);
	}
	if (s->o.sack_ok && st->ctl.tcp_sack)
		r->flags |= TF_SACK;
	if (s->o.wscale_ok && st->ctl.tcp_window_scaling) {
		r->flags |= TF_WSCALE;
		r->snd_wind_shift = s->o.wscale;
		r->rcv_wind_shift = tcp_rcv_wscale(st, &l->opts);
	}
	(void)now;
}

static bool tfo_segment(struct stack *st, struct tcp_conn *l, const struct ip_rx *ip, const struct tcp_seg *s, bool *ret_cookie,
			usec_t now);
static bool cookie_segment(struct stack *st, struct tcp_conn *l, const struct ip_rx *ip, const struct tcp_seg *s, usec_t now);

/* What a SYN says. All but our sequence number, links and timer. */
static void req_fill(struct stack *st, const struct tcp_conn *l, struct tcp_req *r, const struct ip_rx *ip,
		     const struct tcp_seg *s, usec_t now)
{
	r->node.kind = TCP_NODE_REQ;
	r->timer.kind = TIMER_REQUEST;
	r->laddr = ip->dst;
	r->raddr = ip->src;
	r->lport = s->dport;
	r->rport = s->sport;
	r->node.own = s->wnd;
	r->listener = l->index;
	r->rcv_nxt = s->seq + 1;
	r->tos = tcp_tos_of(&l->opts, r->raddr);
	req_options(st, l, r, s, now);
}

/* TCP_SAVE_SYN: headers alone, as Linux's tcp_reqsk_record_syn(). NULL: not wanted, or no memory */
static struct cell *syn_save(struct stack *st, const struct tcp_conn *l, const struct ip_rx *ip, const struct tcp_seg *s)
{
	uint32_t hdr_len = ip->l4_len - s->len, from = l->opts.save_syn == 2 ? 0 : ETH_HDR_BYTES, len = ip->l4_off + hdr_len - from;
	struct cell *c = l->opts.save_syn ? cell_alloc(st, len) : NULL;

	if (!c)
		return NULL;
	memcpy(c->data, s->data - hdr_len - ip->l4_off + from, len);
	c->len = len;
	return c;
}

/* As Linux's inet_csk_reqsk_queue_is_full(); a SYN that replaces a TIME_WAIT needs the sequence number it was given */
static bool cookie_wanted(struct stack *st, const struct tcp_conn *l, const struct tcp_seg *s)
{
	if (!st->ctl.tcp_syncookies || s->isn)
		return false;
	if (st->ctl.tcp_syncookies > 1)
		return true;
	if (l->l.n_reqs <= l->l.backlog_conns && l->l.n_reqs < st->ctl.tcp_max_syn_backlog)
		return false;
	CNT(st, TcpExtTCPReqQFullDoCookies);
	return true;
}

/* RFC 9293 3.10.7.2 */
void tcp_listen_segment(struct stack *st, struct tcp_conn *l, const struct ip_rx *ip, const struct tcp_seg *s, usec_t now)
{
	struct tcp_req *r;
	bool give_cookie = false;

	if (s->flags & TH_RST) {
		drop(st, DROP_TCP_RST);
		return;
	}
	if (s->flags & TH_ACK) {
		if (!cookie_segment(st, l, ip, s, now)) {
			drop(st, DROP_TCP_NO_SOCKET);
			tcp_xmit_rst_reply(st, &ip->dst, &ip->src, s, now);
		}
		return;
	}
	if (!(s->flags & TH_SYN) || s->flags & TH_FIN) {
		drop(st, DROP_TCP_FLAGS);
		return;
	}
	if (accept_full(l)) {
		CNT(st, TcpExtListenOverflows);
		CNT(st, TcpExtListenDrops);
		drop(st, DROP_TCP_LISTEN_FULL);
		return;
	}
	if (cookie_wanted(st, l, s)) {
		struct tcp_req once = { 0 };

		req_fill(st, l, &once, ip, s, now);
		tcp_cookie_answer(st, l, &once, now);
		return;
	}
	if ((s->o.tfo_ok || s->len) && tfo_segment(st, l, ip, s, &give_cookie, now))
		return;
	if (l->l.n_reqs >= st->ctl.tcp_max_syn_backlog && l->l.n_reqs >= l->l.backlog_conns && l->l.req_head) {
		CNT(st, TcpExtTCPReqQFullDrop);
		tcp_req_drop(st, l->l.req_head);
	}
	r = slab_alloc(&st->requests);
	if (!r) {
		CNT(st, TcpExtListenDrops);
		drop(st, DROP_NO_MEMORY);
		return;
	}
	req_fill(st, l, r, ip, s, now);
	r->tfo = give_cookie;
	r->saved_syn = cell_ref(st, syn_save(st, l, ip, s));
	r->iss = s->isn ? s->isn : tcp_isn(st, &r->laddr, r->lport, &r->raddr, r->rport, now);
	req_link(st, l, r);
	htab_insert(&st->conns, &r->node, siphash_tuple(&st->key_tuple, &r->laddr, r->lport, &r->raddr, r->rport));
	wheel_set(&st->wheel, &r->timer, now + TCP_RTO_INIT_US);
	st->n_live++;
	tcp_xmit_synack(st, r, now);
}

/* Linux's secs_to_retrans(): how many SYN-ACKs fit into TCP_DEFER_ACCEPT's seconds */
static uint32_t defer_retries(int32_t seconds)
{
	uint32_t n = 1, period = 1, timeout = 1;

	if (seconds <= 0)
		return 0;
	while ((uint32_t)seconds > period && n < 255) {
		n++;
		timeout = timeout * 2 > TCP_RTO_MAX_US / 1000000 ? TCP_RTO_MAX_US / 1000000 : timeout * 2;
		period += timeout;
	}
	return n;
}

/* Linux's reqsk_timer_handler() */
void tcp_req_timer(struct stack *st, struct tcp_req *r, usec_t now)
{
	struct tcp_conn *l = req_listener(st, r);
	uint32_t most, defer;
	bool expire, resend = true;
	usec_t wait;

	if (!l) {
		tcp_req_drop(st, r);
		return;
	}
	most = l->opts.syncnt > 0 ? (uint32_t)l->opts.syncnt : st->ctl.tcp_synack_retries;
	defer = defer_retries(l->opts.defer_accept_s);
	expire = r->timeouts >= most;
	if (defer) {
		expire = expire && (!r->acked || r->timeouts >= defer);
		resend = !r->acked || r->timeouts + 1u >= defer;
	}
	if (expire) {
		CNT(st, TcpAttemptFails);
		tcp_req_drop(st, r);
		return;
	}
	r->timeouts++;
	if (resend) {
		CNT(st, TcpRetransSegs);
		CNT(st, TcpExtTCPSynRetrans);
		tcp_xmit_synack(st, r, now);
	}
	wait = (usec_t)TCP_RTO_INIT_US << (r->timeouts < 20 ? r->timeouts : 20);
	wheel_set(&st->wheel, &r->timer, now + (wait < TCP_RTO_MAX_US ? wait : TCP_RTO_MAX_US));
}

/* ---- the third segment ---- */

static void accept_link(struct stack *st, struct tcp_conn *l, struct tcp_conn *t)
{
	t->acc_next = NULL;
	if (l->l.acc_tail)
		l->l.acc_tail->acc_next = t;
	else
		l->l.acc_head = t;
	l->l.acc_tail = t;
	l->l.n_acc++;
	t->parent = slab_handle(&st->tcbs, l->tcb);
	t->flags |= TF_ACCEPTQ;
}

/* repair: false: its listener is gone */
bool tcp_accept_restore(struct stack *st, struct tcp_conn *t)
{
	const struct tcb *s = slab_get(&st->tcbs, t->parent);

	if (!s || !s->conn || s->conn->state != TCPS_LISTEN)
		return false;
	accept_link(st, s->conn, t);
	return true;
}

/**
 * child_open() - a request becomes a connection
 *
 * Options are inherited, except what belongs to the socket object. Its first segment is processed by the caller.
 * Return: NULL: out of memory, the request stays
 */
static struct tcp_conn *child_open(struct stack *st, struct tcp_conn *l, const struct tcp_req *r, const struct tcp_seg *s, usec_t now)
{
	struct tcp_conn *t = tcp_new(st, 0, now);
	struct port_key key;

	if (!t)
		return NULL;
	tcp_touch(st, t);
	t->family = l->family;
	t->opts = l->opts;
	t->opts.fastopen_qlen = 0; /* as much as a listener's accept queue is its own */
	t->laddr = r->laddr;
	t->raddr = r->raddr;
	t->lport = r->lport;
	t->rport = r->rport;
	t->opts.accepted = 1;
	t->flags |= TF_BOUND_PORT | (l->flags & TF_BOUND_ADDR) | r->flags;
	tcp_port_key(t, &key);
	if (port_join(st, &t->port, &key) != 0) {
		tcp_drop(st, t);
		return NULL;
	}
	t->flags |= TF_BOUND;
	t->iss = r->iss;
	t->snd_una = t->snd_nxt = t->write_seq = t->snd_sml = t->push_seq = r->iss + 1;
	t->irs = r->rcv_nxt - 1;
	t->rcv_nxt = t->rcv_wup = t->copied_seq = t->rcvq_seq = r->rcv_nxt;
	tcp_rcv_space_init(t);
	t->rcv_adv = r->rcv_nxt + r->rcv_wnd;
	t->snd_wind_shift = r->snd_wind_shift;
	t->rcv_wind_shift = r->rcv_wind_shift;
	t->snd_wnd = (uint32_t)s->wnd << r->snd_wind_shift;
	t->snd_max_wnd = t->snd_wnd > r->node.own ? t->snd_wnd : r->node.own;
	t->snd_wl1 = s->seq;
	t->snd_wl2 = s->ack;
	t->ts_recent = r->ts_recent;
	t->ts_recent_ms = tcp_ts_clock(now);
	t->ts_offset = r->ts_offset;
	t->peer_mss = r->mss;
	t->advmss = r->advmss;
	t->ecn = r->ecn;
	t->total_retrans = r->timeouts;
	t->last_ack = now;
	if (r->timeouts == 0 && !r->no_rtt)
		tcp_rtt_sample(t, (uint32_t)(now + TCP_RTO_INIT_US - r->timer.at));
	return t;
}

static void child_established(struct stack *st, struct tcp_conn *l, struct tcp_conn *t, const struct tcp_seg *s, usec_t now)
{
	tcp_hash_insert(st, t);
	tcp_set_state(t, TCPS_SYN_RECEIVED);
	tcp_set_state(t, TCPS_ESTABLISHED);
	tcp_init_transfer(st, t, now);
	CNT(st, TcpPassiveOpens);
	accept_link(st, l, t);
	tcp_event(st, l, TCP_EV_IN | TCP_EV_RDNORM);
	tcp_segment(st, t, s, now);
}

static void req_complete(struct stack *st, struct tcp_conn *l, struct tcp_req *r, const struct tcp_seg *s, usec_t now)
{
	struct tcp_conn *t = child_open(st, l, r, s, now);

	if (!t) {
		CNT(st, TcpExtListenDrops);
		drop(st, DROP_NO_MEMORY);
		r->acked = 1;
		return;
	}
	t->saved_syn = cell_of_ref(st, r->saved_syn);
	r->saved_syn = 0;
	tcp_req_drop(st, r);
	child_established(st, l, t, s, now);
}

/* An acknowledgment for a listener: the third segment of a handshake with a cookie? False: it is not, nothing was done */
static bool cookie_segment(struct stack *st, struct tcp_conn *l, const struct ip_rx *ip, const struct tcp_seg *s, usec_t now)
{
	struct tcp_req r = { .laddr = ip->dst, .raddr = ip->src, .lport = s->dport, .rport = s->sport, .no_rtt = 1 };
	struct tcp_conn *t;

	if (s->flags & TH_SYN || !tcp_cookie_take(st, l, s, &r, now))
		return false;
	if (accept_full(l)) { /* as a request would: it is ignored, the peer's next segment is another chance */
		CNT(st, TcpExtListenOverflows);
		drop(st, DROP_TCP_LISTEN_FULL);
		return true;
	}
	t = child_open(st, l, &r, s, now);
	if (t) {
		child_established(st, l, t, s, now);
	} else {
		CNT(st, TcpExtListenDrops);
		drop(st, DROP_NO_MEMORY);
	}
	return true;
}

/* A SYN with a Fast Open option: is it a connection already? False: an ordinary handshake, which may bring a cookie */
static bool tfo_segment(struct stack *st, struct tcp_conn *l, const struct ip_rx *ip, const struct tcp_seg *s, bool *ret_cookie,
			usec_t now)
{
	struct tcp_req r = { 0 };
	struct tcp_conn *t;

	if (s->isn)
		return false;
	req_fill(st, l, &r, ip, s, now);
	if (!tcp_tfo_judge(st, l, &r, s)) {
		*ret_cookie = r.tfo;
		return false;
	}
	r.iss = tcp_isn(st, &r.laddr, r.lport, &r.raddr, r.rport, now);
	r.no_rtt = 1;
	t = child_open(st, l, &r, s, now);
	if (!t)
		return false;
	t->saved_syn = syn_save(st, l, ip, s);
	accept_link(st, l, t);
	tcp_tfo_child(st, l, t, s, now);
	CNT(st, TcpPassiveOpens);
	tcp_event(st, l, TCP_EV_IN | TCP_EV_RDNORM);
	return true;
}

/* A segment for a half-open connection: Linux's tcp_check_req(), RFC 9293 3.10.7.4 in SYN_RECEIVED */
void tcp_req_segment(struct stack *st, struct tcp_req *r, const struct ip_rx *ip, const struct tcp_seg *s, usec_t now)
{
	struct tcp_conn *l = req_listener(st, r);
	bool old_ts = r->flags & TF_TS && s->o.ts && (int32_t)(r->ts_recent - s->o.ts_val) > 1;

	if (!l) {
		tcp_req_drop(st, r);
		return;
	}
	if (s->flags & TH_SYN && !(s->flags & (TH_ACK | TH_RST)) && s->seq + 1 == r->rcv_nxt && !old_ts) {
		if (tcp_oow_short(&r->oow_ms, now)) { /* our answer was lost */
			r->no_rtt = 1; /* Karn: the last ACK may answer either SYN-ACK */
			tcp_xmit_synack(st, r, now);
		}
		return;
	}
	if (old_ts || seq_lt(tcp_seg_end(s), r->rcv_nxt) || seq_gt(s->seq, r->rcv_nxt + r->rcv_wnd)) {
		drop(st, old_ts ? DROP_TCP_PAWS : DROP_TCP_OUT_OF_WINDOW);
		if (!(s->flags & TH_RST) && tcp_oow_short(&r->oow_ms, now))
			tcp_xmit_req_ack(st, r, now);
		return;
	}
	if (s->flags & TH_RST) {
		if (s->seq == r->rcv_nxt) {
			CNT(st, TcpAttemptFails);
			CNT(st, TcpExtEmbryonicRsts);
			tcp_req_drop(st, r);
		} else {
			drop(st, DROP_TCP_RST);
		}
		return;
	}
	if (s->flags & TH_SYN || !(s->flags & TH_ACK)) {
		drop(st, s->flags & TH_SYN ? DROP_TCP_SYN : DROP_TCP_FLAGS);
		if (s->flags & TH_SYN && tcp_oow_short(&r->oow_ms, now))
			tcp_xmit_req_ack(st, r, now);
		return;
	}
	if (s->ack != r->iss + 1) {
		drop(st, DROP_TCP_OLD_ACK);
		tcp_xmit_rst_reply(st, &ip->dst, &ip->src, s, now);
		return;
	}
	if (r->flags & TF_TS && s->o.ts && seq_leq(s->seq, r->rcv_nxt))
		r->ts_recent = s->o.ts_val;
	if (r->timeouts < defer_retries(l->opts.defer_accept_s) && tcp_seg_end(s) == r->rcv_nxt) {
		r->acked = 1;
		CNT(st, TcpExtTCPDeferAcceptDrop);
		return;
	}
	if (accept_full(l)) {
		r->acked = 1;
		CNT(st, TcpExtListenOverflows);
		drop(st, DROP_TCP_LISTEN_FULL);
		return;
	}
	req_complete(st, l, r, s, now);
}

/* ---- the program's side ---- */

int tcp_accept(struct stack *st, struct tcb *listener, struct tcb **ret_tcb)
{
	struct tcp_conn *l = listener->conn, *t;

	if (!l || l->state != TCPS_LISTEN)
		return -EINVAL;
	t = l->l.acc_head;
	if (!t)
		return -EAGAIN;
	tcp_touch(st, l);
	tcp_touch(st, t);
	l->l.acc_head = t->acc_next;
	if (!l->l.acc_head)
		l->l.acc_tail = NULL;
	l->l.n_acc--;
	t->acc_next = NULL;
	t->flags &= ~TF_ACCEPTQ;
	t->flags |= TF_CONNECTED;
	if (!(t->flags & TF_FASTOPEN)) /* its listener still counts it */
		t->parent = 0;
	*ret_tcb = t->tcb;
	return 0;
}

void tcp_listen_stop(struct stack *st, struct tcp_conn *l, usec_t now)
{
	struct tcp_conn *t;

	while (l->l.req_head)
		tcp_req_drop(st, l->l.req_head);
	while ((t = l->l.acc_head)) {
		l->l.acc_head = t->acc_next;
		l->l.n_acc--;
		t->flags &= ~TF_ACCEPTQ;
		if (tcp_is_synchronized(t))
			tcp_xmit_rst(st, t, now);
		tcp_done(st, t);
		tcp_free(st, t);
	}
	l->l.acc_tail = NULL;
	if (l->l.port_chosen)
		l->flags &= ~TF_BOUND_PORT;
	cell_put(st, l->l.tfo_keys);
	l->l.tfo_keys = NULL;
	htab_remove(&st->listeners, &l->tcb->node);
	tcp_set_state(l, TCPS_CLOSED);
}
