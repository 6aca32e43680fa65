/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_sock.c - TCP sockets: the calls of tcp.h that open, bind, connect and end them
 *
 * Errors are Linux's, for Linux's reasons: inet_stream_connect(), inet_bind(), inet_shutdown(), tcp_close(),
 * tcp_poll().
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include "tcp_priv.h"

static const struct ipaddr any_v6;

/* ---- making and ending ---- */

int tcp_init(struct stack *st, usec_t now)
{
	dlist_init(&st->tcp_out);
	st->tw_timer.kind = TIMER_TIMEWAIT;
	st->challenge_at = now;
	st->challenge_left = st->ctl.tcp_challenge_ack_limit;
	if (slab_init(&st->tcbs, st->region, sizeof(struct tcb), 0) ||
	    slab_init(&st->awake, st->region, sizeof(struct tcp_conn), 0) ||
	    slab_init(&st->opts_rows, st->region, sizeof(struct tcp_opts_row), 0) ||
	    slab_init(&st->requests, st->region, sizeof(struct tcp_req), 0) ||
	    slab_init(&st->timewaits, st->region, sizeof(struct tcp_tw), 0))
		return -ENOMEM;
	if (htab_init(&st->conns, st->region) || htab_init(&st->listeners, st->region) || htab_init(&st->opts_tab, st->region))
		return -ENOMEM;
	return 0;
}

void tcp_opts_default(const struct stack *st, struct tcp_opts *o)
{
	memset(o, 0, sizeof(*o));
	o->rcvbuf_bytes = st->ctl.tcp_rmem[1];
	o->sndbuf_bytes = st->ctl.tcp_wmem[1];
	o->rcvlowat_bytes = 1;
	o->cc = st->ctl.tcp_congestion;
	o->keepidle_s = st->ctl.tcp_keepalive_time_s;
	o->keepintvl_s = st->ctl.tcp_keepalive_intvl_s;
	o->keepcnt = st->ctl.tcp_keepalive_probes;
}

void tcp_conn_init(struct stack *st, struct tcp_conn *t, struct tcb *s)
{
	t->tcb = t->ev.tcb = s;
	t->index = slab_index(&st->tcbs, s);
	t->timer.kind = TIMER_TCB;
	t->state = TCPS_CLOSED;
	t->rto_us = TCP_RTO_INIT_US;
	t->reordering = TCP_DUPTHRESH;
	t->ssthresh = CWND_MAX_BYTES;
	t->snd_mss = t->peer_mss = t->advmss = TCP_MSS_DEFAULT;
	t->rcv_mss = TCP_MIN_MSS;
	for (int i = 0; i < TCP_N_TIMERS; i++)
		t->deadline[i] = USEC_NEVER;
}

/* Who dies in between leaves a socket without a connection that is not at rest, or a connection without a socket */
struct tcp_conn *tcp_new(struct stack *st, uint64_t user, usec_t now)
{
	struct tcb *s = slab_alloc(&st->tcbs);
	struct tcp_conn *t = s ? slab_alloc(&st->awake) : NULL;

	(void)now;
	if (!t) {
		slab_free(&st->tcbs, s);
		return NULL;
	}
	s->node.kind = TCP_NODE_TCB;
	s->timer.kind = TIMER_REST;
	s->user = user;
	tcp_conn_init(st, t, s);
	s->conn = t;
	return t;
}

/* The socket first: without it the connection is nobody's, and a repair finds it */
void tcp_drop(struct stack *st, struct tcp_conn *t)
{
	slab_free(&st->tcbs, t->tcb);
	slab_free(&st->awake, t);
}

struct tcb *tcp_open(struct stack *st, int family, uint64_t user, usec_t now)
{
	struct tcp_conn *t = tcp_new(st, user, now);

	if (!t)
		return NULL;
	t->family = (uint8_t)family;
	t->laddr = family == 4 ? ipaddr_v4(0) : any_v6;
	tcp_opts_default(st, &t->opts);
	tcp_rcv_space_init(t);
	return t->tcb;
}

void tcp_snd_purge(struct stack *st, struct tcp_conn *t)
{
	struct cell *c = t->snd_head;

	if (t->flags & TF_SND_BUSY)
		return;
	while (c) {
		struct cell *next = c->next;

		t->snd_mem_bytes -= cell_block(c);
		cell_put(st, c);
		c = next;
	}
	t->snd_head = t->snd_tail = t->snd_cur = t->snd_rx = NULL;
	t->write_seq = t->snd_nxt;
}

void tcp_free(struct stack *st, struct tcp_conn *t)
{
	tcp_conn_busy_clear(st, t);
	tcp_timers_off(st, t);
	tcp_hash_remove(st, t);
	dlist_remove(&t->out);
	dlist_remove(&t->mem_wait);
	stack_event_cancel(st, &t->ev);
	tcp_snd_purge(st, t);
	tcp_recv_purge(st, t);
	tcp_ooo_purge(st, t);
	tcp_sack_clear(st, t);
	cell_put(st, t->cc_cell);
	cell_put(st, t->errq);
	cell_put(st, t->saved_syn);
	tcp_logs_clear(st, t);
	port_release(st, &t->port);
	tcp_drop(st, t);
}

void tcp_done(struct stack *st, struct tcp_conn *t)
{
	tcp_hash_remove(st, t);
	tcp_timers_off(st, t);
	dlist_remove(&t->out);
	tcp_snd_purge(st, t);
	tcp_ooo_purge(st, t);
	tcp_sack_clear(st, t);
	cell_put(st, t->cc_cell);
	t->cc_cell = NULL;
	tcp_logs_clear(st, t);
	t->ca_state = TCP_CA_OPEN;
	t->chrono = TCP_CHRONO_IDLE;
	if (t->flags & TF_FASTOPEN)
		tcp_tfo_end(st, t);
	t->flags |= TF_RCV_SHUT | TF_SND_SHUT;
	t->flags &= ~(TF_ACK_NOW | TF_ACK_DELAYED | TF_FIN_QUEUED | TF_NOSPACE);
	if (!(t->flags & TF_BOUND_PORT) || t->opts.accepted) { /* Linux: only SOCK_BINDPORT_LOCK keeps it, and accept() does not hand that on */
		port_release(st, &t->port);
		t->flags &= ~(TF_BOUND | TF_BOUND_PORT);
		t->opts.accepted = 0;
	}
	tcp_set_state(t, TCPS_CLOSED);
	if (t->flags & TF_ORPHAN) {
		st->n_orphans--;
		tcp_free(st, t);
	}
}

void tcp_fail(struct stack *st, struct tcp_conn *t, int err)
{
	bool orphan = t->flags & TF_ORPHAN;

	t->error = (uint32_t)err;
	tcp_done(st, t);
	if (!orphan)
		tcp_event(st, t, tcp_poll(t->tcb));
}

void tcp_hash_insert(struct stack *st, struct tcp_conn *t)
{
	struct tcb *s = t->tcb;

	s->laddr = t->laddr;
	s->raddr = t->raddr;
	s->lport = t->lport;
	s->rport = t->rport;
	htab_insert(&st->conns, &s->node, siphash_tuple(&st->key_tuple, &t->laddr, t->lport, &t->raddr, t->rport));
	t->flags |= TF_HASHED;
	st->n_live++;
}

void tcp_hash_remove(struct stack *st, struct tcp_conn *t)
{
	if (!(t->flags & TF_HASHED))
		return;
	htab_remove(&st->conns, &t->tcb->node);
	t->flags &= ~TF_HASHED;
	st->n_live--;
	t->looped = 0;
	if (t->pair)
		tcp_pair_part(t);
}

/* Where each state may lead: figure 5 of RFC 9293 and its notes. TIME_WAIT is a struct of its own, so what leads there ends
 * the tcb; each may end by a reset; a listener's child begins in SYN_RECEIVED. */
#define TO(s) (1u << TCPS_##s)
static const uint16_t state_moves[] = {
	[TCPS_CLOSED] = TO(CLOSED) | TO(LISTEN) | TO(SYN_SENT) | TO(SYN_RECEIVED),
	[TCPS_LISTEN] = TO(CLOSED),
	[TCPS_SYN_SENT] = TO(CLOSED) | TO(SYN_RECEIVED) | TO(ESTABLISHED),
	[TCPS_SYN_RECEIVED] = TO(CLOSED) | TO(ESTABLISHED) | TO(CLOSE_WAIT),
	[TCPS_ESTABLISHED] = TO(CLOSED) | TO(FIN_WAIT_1) | TO(CLOSE_WAIT),
	[TCPS_FIN_WAIT_1] = TO(CLOSED) | TO(FIN_WAIT_2) | TO(CLOSING),
	[TCPS_FIN_WAIT_2] = TO(CLOSED),
	[TCPS_CLOSE_WAIT] = TO(CLOSED) | TO(LAST_ACK),
	[TCPS_CLOSING] = TO(CLOSED),
	[TCPS_LAST_ACK] = TO(CLOSED),
};
#undef TO

void tcp_set_state(struct tcp_conn *t, enum tcp_state s)
{
	assert(t->state < sizeof(state_moves) / sizeof(state_moves[0]) && state_moves[t->state] & 1u << s);
	t->state = (uint8_t)s;
}

void tcp_event(struct stack *st, struct tcp_conn *t, uint32_t bits)
{
	if (bits && !(t->flags & (TF_ORPHAN | TF_ACCEPTQ)))
		stack_event_post(st, &t->ev, bits);
}

/* ---- names and numbers ---- */

void tcp_port_key(const struct tcp_conn *t, struct port_key *ret_key)
{
	uint32_t flags = 0;

	if (t->opts.reuseaddr)
		flags |= PORT_REUSEADDR;
	if (t->opts.reuseport)
		flags |= PORT_REUSEPORT;
	if (t->family == 6 && t->opts.v6only)
		flags |= PORT_V6ONLY;
	if (t->state == TCPS_LISTEN)
		flags |= PORT_LISTEN;
	if (!(t->flags & TF_BOUND_PORT))
		flags |= PORT_CONNECT;
	*ret_key = (struct port_key){ .addr = t->laddr, .port = t->lport, .flags = (uint16_t)flags, .uid = t->opts.uid,
				      .range = t->opts.port_range };
}

uint32_t tcp_isn(const struct stack *st, const struct ipaddr *laddr, uint16_t lport, const struct ipaddr *raddr, uint16_t rport,
		 usec_t now)
{
	/* RFC 6528 with Linux's clock of 64 ns */
	return (uint32_t)siphash_tuple_secret(&st->key_secret, laddr, lport, raddr, rport) + (uint32_t)(now * 125 / 8);
}

/* One offset for a pair of hosts, so that timestamps grow from connection to connection (RFC 7323 5.4, RFC 6191) */
uint32_t tcp_ts_offset(const struct stack *st, const struct ipaddr *laddr, const struct ipaddr *raddr)
{
	return (uint32_t)siphash_tuple_secret(&st->key_secret, laddr, 0, raddr, 0);
}

uint8_t tcp_rcv_wscale(const struct stack *st, const struct tcp_opts *o)
{
	uint32_t space = o->rcvbuf_bytes;
	uint8_t shift;

	if (!o->rcvbuf_locked && st->ctl.tcp_rmem[2] > space)
		space = st->ctl.tcp_rmem[2];
	if (o->window_clamp_bytes && o->window_clamp_bytes < space)
		space = o->window_clamp_bytes;
	for (shift = 0; shift < 14 && space >> 16 > 0; shift++)
		space >>= 1;
	return shift;
}

void tcp_mss_sync(const struct stack *st, struct tcp_conn *t)
{
	uint32_t mtu = tcp_path_mtu(st, t), mss, half;

	mss = mtu - TCP_HDR_BYTES - (ipaddr_is_v4(t->raddr) ? 20 : 40);
	if (t->peer_mss < mss)
		mss = t->peer_mss;
	if (t->opts.maxseg_bytes && t->opts.maxseg_bytes < mss)
		mss = t->opts.maxseg_bytes;
	if (t->flags & TF_TS)
		mss -= mss > TCP_OPT_TS_BYTES ? TCP_OPT_TS_BYTES : 0;
	half = t->snd_max_wnd > TCP_MSS_DEFAULT ? t->snd_max_wnd / 2 : t->snd_max_wnd;
	if (half && mss > half) /* a peer with a tiny window: at least two segments fit (RFC 9293 3.8.6.2.1) */
		mss = half;
	t->snd_mss = mss > TCP_MIN_SND_MSS ? mss : TCP_MIN_SND_MSS;
	if (t->cwnd < t->snd_mss)
		t->cwnd = t->snd_mss; /* less than a segment would never be sent */
}

/* ---- bind, listen, connect ---- */

static int bind_with_port(struct stack *st, struct tcp_conn *t, const struct endpoint *ep)
{
	uint16_t was = t->lport;
	struct port_key key;
	int r;

	tcp_touch(st, t);
	t->laddr = ep->addr;
	t->lport = ep->port;
	t->flags |= TF_BOUND_PORT; /* as the key must say */
	tcp_port_key(t, &key);
	r = port_bind(st, &t->port, &key);
	if (r < 0) {
		t->laddr = t->family == 4 ? ipaddr_v4(0) : any_v6;
		t->lport = was;
		t->flags &= ~TF_BOUND_PORT;
		return r;
	}
	t->lport = key.port;
	t->flags |= TF_BOUND;
	if (ep->port == 0)
		t->flags &= ~TF_BOUND_PORT; /* Linux: SOCK_BINDPORT_LOCK is for a number that was asked for */
	if (!ipaddr_is_any(ep->addr))
		t->flags |= TF_BOUND_ADDR;
	return 0;
}

int tcp_bind(struct stack *st, struct tcb *s, const struct endpoint *ep, usec_t now)
{
	struct tcp_conn *t = s->conn;
	bool used = !t || t->state != TCPS_CLOSED || t->flags & TF_BOUND;
	uint8_t v6only;
	int r;

	(void)now;
	if (!t || (t->family == 6 && used))
		return -EINVAL;
	if (t->family == 4 && !ipaddr_is_v4(ep->addr))
		return -EAFNOSUPPORT;
	if (t->family == 6 && t->opts.v6only && ipaddr_is_v4(ep->addr))
		return -EINVAL;
	if (!ipaddr_is_any(ep->addr) && !stack_addr_is_ours(st, ep->addr) && !route_broadcast(st, &ep->addr) &&
	    !t->opts.freebind && !t->opts.transparent)
		return -EADDRNOTAVAIL;
	if (used) /* Linux looks at it last for IPv4, first for IPv6 */
		return -EINVAL;
	v6only = t->opts.v6only;
	if (!ipaddr_is_v4(ep->addr) && !ipaddr_is_any(ep->addr))
		t->opts.v6only = 1; /* as Linux: it can be nothing else from now on */
	if (ep->port || !t->opts.bind_no_port) {
		r = bind_with_port(st, t, ep);
		if (r < 0)
			t->opts.v6only = v6only;
		return r;
	}
	/* IP_BIND_ADDRESS_NO_PORT: connect() chooses, when it knows the destination */
	t->laddr = ep->addr;
	t->lport = 0;
	if (!ipaddr_is_any(ep->addr))
		t->flags |= TF_BOUND_ADDR;
	return 0;
}

int tcp_listen(struct stack *st, struct tcb *s, int backlog, usec_t now)
{
	struct tcp_conn *t = s->conn;
	uint32_t n = (uint32_t)backlog > st->ctl.somaxconn ? st->ctl.somaxconn : (uint32_t)backlog;
	struct port_key key;
	bool chosen;
	int r;

	(void)now;
	if (!t)
		return -EINVAL;
	if (t->state == TCPS_LISTEN) {
		t->l.backlog_conns = n;
		return 0;
	}
	if (t->state != TCPS_CLOSED || t->flags & (TF_CONNECTING | TF_CONNECTED))
		return -EINVAL;
	tcp_touch(st, t);
	if (!(t->flags & TF_BOUND)) {
		struct endpoint ep = { .addr = t->laddr, .port = 0 };

		t->flags &= ~TF_BOUND_PORT;
		r = bind_with_port(st, t, &ep);
		if (r < 0)
			return r;
	}
	chosen = !(t->flags & TF_BOUND_PORT);
	t->flags |= TF_BOUND_PORT;
	tcp_port_key(t, &key);
	r = port_listen(st, &t->port, &key);
	if (r < 0)
		return r;
	memset(&t->l, 0, sizeof(t->l));
	t->l.backlog_conns = n;
	t->l.port_chosen = chosen;
	tcp_tfo_listen(st, t);
	t->opts.quickack = QUICKACK_UNSET; /* Linux's inet_csk_delack_init() */
	t->flags &= ~(TF_RCV_SHUT | TF_SND_SHUT | TF_FIN_RCVD);
	tcp_set_state(t, TCPS_LISTEN);
	s->node.kind = TCP_NODE_LISTEN;
	htab_insert(&st->listeners, &s->node, tcp_port_hash(t->lport));
	return 0;
}

/* How well a listener fits a destination: Linux's compute_score(). Negative: not at all */
static int listen_score(const struct tcp_conn *l, const struct ipaddr *laddr)
{
	if (ipaddr_eq(l->laddr, *laddr))
		return 4;
	if (!ipaddr_is_any(l->laddr))
		return -1;
	if (ipaddr_is_v4(l->laddr))
		return ipaddr_is_v4(*laddr) ? 2 : -1;
	return ipaddr_is_v4(*laddr) && l->opts.v6only ? -1 : 1;
}

/* Listeners of one port are few, save with SO_REUSEPORT, where those that fit equally share by a hash of the 4-tuple. */
struct tcp_conn *tcp_listen_lookup(struct stack *st, const struct ipaddr *laddr, uint16_t lport, const struct ipaddr *raddr,
			      uint16_t rport)
{
	struct tcp_conn *best = NULL;
	int score = 0;
	uint32_t n = 0, hash = 0;

	for (struct hnode *h = htab_first(&st->listeners, tcp_port_hash(lport)); h; h = htab_next(h)) {
		struct tcp_conn *l = container_of(h, struct tcb, node)->conn;
		int s = l->lport == lport ? listen_score(l, laddr) : -1;

		if (s < 0 || s < score)
			continue;
		if (s > score) {
			score = s;
			best = l;
			n = 1;
			continue;
		}
		if (!l->opts.reuseport)
			continue;
		if (n++ == 1)
			hash = siphash_tuple(&st->key_port, laddr, lport, raddr, rport);
		hash = hash * 0x9e3779b1u + 1;
		if ((uint64_t)hash * n >> 32 == 0) /* one in n */
			best = l;
	}
	return best;
}

struct connect_try {
	struct tcp_conn *t;
	usec_t now;
	uint32_t isn, ts_recent;	/* of a TIME_WAIT whose place we take */
	bool reused;
};

/* May our 4-tuple have this local port? A TIME_WAIT old enough makes room (RFC 6191, Linux's tcp_twsk_unique()). */
static bool tuple_usable(struct stack *st, void *ctx, uint16_t port)
{
	struct connect_try *c = ctx;
	struct tcp_conn *t = c->t;
	uint32_t hash = siphash_tuple(&st->key_tuple, &t->laddr, port, &t->raddr, t->rport);

#define SAME(o)                                                                                      \
	((o)->lport == port && (o)->rport == t->rport && ipaddr_eq((o)->laddr, t->laddr) &&           \
	 ipaddr_eq((o)->raddr, t->raddr))
	for (struct hnode *n = htab_first(&st->conns, hash); n; n = htab_next(n)) {
		if (n->kind == TCP_NODE_TCB && SAME(container_of(n, struct tcb, node)))
			return false;
		if (n->kind == TCP_NODE_REQ && SAME(container_of(n, struct tcp_req, node)))
			return false;
		if (n->kind == TCP_NODE_TW && SAME(container_of(n, struct tcp_tw, node))) {
			struct tcp_tw *tw = container_of(n, struct tcp_tw, node);

			if (!st->ctl.tcp_timestamps || !tcp_tw_reusable(tw, c->now))
				return false;
			c->isn = tw->snd_nxt + 65535 + 2;
			c->ts_recent = tw->ts_recent;
			c->reused = true;
			CNT(st, TcpExtTWRecycled);
			tcp_tw_free(st, tw);
			return true;
		}
	}
#undef SAME
	return true;
}

/* A socket that failed, or was disconnected, starts anew: all that belongs to one connection is cleared. */
static void conn_clear(struct tcp_conn *t)
{
	t->flags &= TF_BOUND | TF_BOUND_ADDR | TF_BOUND_PORT | TF_SND_BUSY | TF_RCV_BUSY;
	t->ca_state = TCP_CA_OPEN;
	t->dupacks = t->backoff = t->retransmits = t->probes = 0;
	t->snd_wnd = t->snd_max_wnd = 0;
	t->error = t->soft_error = 0;
	t->rto_us = TCP_RTO_INIT_US;
	t->srtt_us = t->rttvar_us = t->mdev_us = t->mdev_max_us = t->min_rtt_us = t->ato_us = t->quick_acks = 0;
	t->last_rcv = t->last_snd = t->last_ack = t->rexmt_start = 0;
	t->ts_recent = t->ts_recent_ms = 0;
	t->n_sack_recent = t->tlp = t->frto = t->reo_mult = t->reo_persist = t->reo_round = 0;
	t->reord_seen = t->undo_bytes = t->rexmt_ts = 0;
	t->urg_data = 0;
	t->ssthresh = CWND_MAX_BYTES;
	t->reordering = TCP_DUPTHRESH;
	t->pmtu_bytes = t->mtu_high = t->mtu_probe_len = 0;
	t->snd_mss = t->peer_mss = TCP_MSS_DEFAULT;
	t->total_retrans = 0;
	t->rcv_nxt = t->rcv_adv = t->rcv_wup = 0;
	t->rcv_rtt_us = 0;
	t->rcv_rtt_at = 0;
	t->ecn = t->tfo = t->chrono = 0;
	t->rate_bytes = t->rate_us = 0;
	memset(t->chrono_sum, 0, sizeof(t->chrono_sum));
	t->pace_at = 0;
	t->path = (struct ip_path){ 0 };
}

/* Second and later calls of connect(): what became of the first */
static int connect_again(struct tcp_conn *t)
{
	int err;

	if (t->flags & TF_SYN_WAITS)
		return -EISCONN;
	if (t->state == TCPS_SYN_SENT || t->state == TCPS_SYN_RECEIVED)
		return t->flags & TF_CONNECTING ? -EALREADY : -EISCONN;
	if (!(t->flags & TF_CONNECTING))
		return -EISCONN;
	t->flags &= ~TF_CONNECTING;
	if (t->state != TCPS_CLOSED && !t->error) {
		t->flags |= TF_CONNECTED;
		return 0;
	}
	err = tcp_conn_error_take(t);
	return err ? -err : -ECONNABORTED;
}

/* any address of ours, of one family */
static bool first_addr(const struct stack *st, bool v6, struct ipaddr *ret_addr)
{
	uint32_t cursor = 0;
	struct ipaddr a;
	uint8_t plen;

	while (stack_addr_next(st, &cursor, &a, &plen)) {
		if (ipaddr_is_v4(a) != v6) {
			*ret_addr = a;
			return true;
		}
	}
	return false;
}

static int connect_route(struct stack *st, struct tcp_conn *t, const struct endpoint *to)
{
	struct endpoint dst = *to;
	int r;

	if (t->family == 4 && !ipaddr_is_v4(dst.addr))
		return -EAFNOSUPPORT;
	if (t->family == 6 && t->opts.v6only && ipaddr_is_v4(dst.addr))
		return -ENETUNREACH;
	if (ipaddr_is_any(dst.addr)) { /* means this host */
		bool v6 = !ipaddr_is_v4(dst.addr) && !(t->flags & TF_BOUND_ADDR && ipaddr_is_v4(t->laddr));
		struct ipaddr loopback = v6 ? (struct ipaddr){ .b = { [15] = 1 } } : ipaddr_v4(__builtin_bswap32(0x7f000001));

		if (t->flags & TF_BOUND_ADDR)
			dst.addr = t->laddr;
		else if (stack_addr_is_ours(st, loopback))
			dst.addr = loopback;
		else if (!first_addr(st, v6, &dst.addr) && !(v6 && !t->opts.v6only && first_addr(st, false, &dst.addr)))
			return -ENETUNREACH;
	}
	if (ipaddr_is_v4(t->laddr) && !ipaddr_is_v4(dst.addr))
		return -EAFNOSUPPORT; /* bound to an IPv4 address, or to all of them */
	if (route_broadcast(st, &dst.addr))
		return -ENETUNREACH;
	if (!stack_has_route(st, dst.addr))
		return -ENETUNREACH;
	if (t->flags & TF_BOUND_ADDR && ipaddr_is_v4(t->laddr) && t->laddr.b[12] == 127 && !stack_addr_is_ours(st, dst.addr))
		return -EINVAL; /* nothing of 127/8 leaves the host */
	if (!(t->flags & TF_BOUND_ADDR)) {
		r = stack_source_for(st, dst.addr, &t->laddr);
		if (r < 0)
			return r;
	}
	t->raddr = dst.addr;
	t->rport = dst.port;
	return 0;
}

static int connect_port(struct stack *st, struct tcp_conn *t, struct connect_try *c)
{
	struct endpoint to = { .addr = t->raddr, .port = t->rport };
	struct port_key key;
	int r;

	tcp_port_key(t, &key);
	if (t->flags & TF_BOUND) {
		if (!tuple_usable(st, c, t->lport))
			return -EADDRNOTAVAIL;
		port_relabel(st, &t->port, &key);
		return 0;
	}
	r = port_connect(st, &t->port, &key, &to, tuple_usable, c);
	if (r < 0)
		return r;
	t->lport = key.port;
	t->flags |= TF_BOUND;
	return 0;
}

void tcp_syn_leaves(struct stack *st, struct tcp_conn *t, usec_t now)
{
	t->flags &= ~TF_SYN_WAITS;
	t->flags |= TF_CONNECTING;
	tcp_tx_note(st, t, now); /* the SYN alone: its data may not be taken */
	tcp_rto_arm(st, t, now);
	tcp_xmit_syn(st, t, now);
}

static bool connects_anew(const struct tcp_conn *t)
{
	return t->state == TCPS_CLOSED && !(t->flags & (TF_CONNECTING | TF_CONNECTED));
}

bool tcp_connects_anew(const struct tcb *s)
{
	return s->conn && connects_anew(s->conn);
}

static int do_connect(struct stack *st, struct tcp_conn *t, const struct endpoint *to, bool fast, usec_t now);

int tcp_connect(struct stack *st, struct tcb *s, const struct endpoint *to, usec_t now)
{
	struct tcp_conn *t = tcp_wake(st, s, now);

	return t ? do_connect(st, t, to, t->opts.fastopen_connect, now) : -ENOBUFS;
}

int tcp_connect_data(struct stack *st, struct tcb *s, const struct endpoint *to, usec_t now)
{
	struct tcp_conn *t = tcp_wake(st, s, now);

	return t ? do_connect(st, t, to, true, now) : -ENOBUFS;
}

static int do_connect(struct stack *st, struct tcp_conn *t, const struct endpoint *to, bool fast, usec_t now)
{
	struct connect_try c = { .t = t, .now = now };
	int r;

	if (!connects_anew(t))
		return connect_again(t);
	tcp_touch(st, t);
	tcp_recv_purge(st, t); /* what an earlier connection left unread */
	conn_clear(t);
	r = connect_route(st, t, to);
	if (r == 0)
		r = connect_port(st, t, &c);
	if (r < 0) {
		if (!(t->flags & TF_BOUND_ADDR))
			t->laddr = t->family == 4 ? ipaddr_v4(0) : any_v6;
		return r;
	}
	t->tcb->node.kind = TCP_NODE_TCB;
	t->iss = c.reused ? c.isn : tcp_isn(st, &t->laddr, t->lport, &t->raddr, t->rport, now);
	t->ts_offset = tcp_ts_offset(st, &t->laddr, &t->raddr);
	t->ts_recent = c.ts_recent;
	t->ecn = st->ctl.tcp_ecn == 1 ? ECN_OK : 0;
	t->snd_una = t->iss;
	t->snd_nxt = t->write_seq = t->snd_sml = t->push_seq = t->iss + 1;
	tcp_rcv_space_init(t);
	t->rcv_wind_shift = st->ctl.tcp_window_scaling ? tcp_rcv_wscale(st, &t->opts) : 0;
	t->flags |= TF_CONNECTING;
	tcp_set_state(t, TCPS_SYN_SENT);
	tcp_hash_insert(st, t);
	CNT(st, TcpActiveOpens);
	if (fast && st->ctl.tcp_fastopen & TFO_CLIENT) {
		t->flags |= TF_FASTOPEN;
		if (tcp_tfo_known(st, t)) {
			t->flags |= TF_SYN_WAITS;
			t->flags &= ~TF_CONNECTING; /* there is nothing to tell before send() */
			return 0;
		}
	}
	tcp_syn_leaves(st, t, now);
	return -EINPROGRESS;
}

static bool needs_reset(const struct tcp_conn *t)
{
	switch ((enum tcp_state)t->state) {
	case TCPS_ESTABLISHED:
	case TCPS_CLOSE_WAIT:
	case TCPS_FIN_WAIT_1:
	case TCPS_FIN_WAIT_2:
	case TCPS_SYN_RECEIVED:
		return true;
	case TCPS_LAST_ACK:
	case TCPS_CLOSING:
		return t->snd_una != t->snd_nxt || tcp_unsent(t) > 0;
	case TCPS_SYN_SENT:
	case TCPS_TIME_WAIT:
	case TCPS_CLOSED:
	case TCPS_LISTEN:
		return false;
	}
	return false;
}

static int do_disconnect(struct stack *st, struct tcp_conn *t, usec_t now)
{
	bool broken = t->state == TCPS_SYN_SENT || (t->state != TCPS_LISTEN && needs_reset(t)); /* Linux tells the next call */
	uint32_t error = t->error;

	if (t->flags & (TF_SND_BUSY | TF_RCV_BUSY))
		return -EBUSY;
	tcp_touch(st, t);
	if (t->state == TCPS_LISTEN)
		tcp_listen_stop(st, t, now);
	else if (needs_reset(t))
		tcp_xmit_rst(st, t, now);
	tcp_done(st, t);
	tcp_recv_purge(st, t);
	conn_clear(t);
	t->error = broken ? ECONNRESET : error; /* what nobody was told yet stays */
	if (!(t->flags & TF_BOUND_ADDR))
		t->laddr = t->family == 4 ? ipaddr_v4(0) : any_v6;
	t->rport = 0; /* lport stays, as Linux's inet_sport: only getsockname() tells it; TF_BOUND says whether it is held */
	t->raddr = any_v6;
	tcp_event(st, t, tcp_poll(t->tcb));
	return 0;
}

int tcp_disconnect(struct stack *st, struct tcb *s, usec_t now)
{
	struct tcp_conn *t = tcp_wake(st, s, now);

	return t ? do_disconnect(st, t, now) : -ENOBUFS;
}

/* ---- ending ---- */

/* RFC 9293 3.10.4: a FIN behind all data */
static void queue_fin(struct stack *st, struct tcp_conn *t)
{
	t->flags |= TF_FIN_QUEUED;
	t->flags &= ~TF_MORE;
	t->push_seq = t->write_seq + 1;
	tcp_output_want(st, t);
}

static void close_state(struct stack *st, struct tcp_conn *t)
{
	switch ((enum tcp_state)t->state) {
	case TCPS_SYN_RECEIVED:
	case TCPS_ESTABLISHED:
		if (t->state == TCPS_ESTABLISHED)
			tcp_set_state(t, TCPS_FIN_WAIT_1);
		queue_fin(st, t);
		break;
	case TCPS_CLOSE_WAIT:
		tcp_set_state(t, TCPS_LAST_ACK);
		queue_fin(st, t);
		break;
	case TCPS_SYN_SENT:
	case TCPS_FIN_WAIT_1:
	case TCPS_FIN_WAIT_2:
	case TCPS_TIME_WAIT:
	case TCPS_CLOSED:
	case TCPS_LAST_ACK:
	case TCPS_LISTEN:
	case TCPS_CLOSING:
		break;
	}
}

int tcp_shutdown(struct stack *st, struct tcb *s, int how, usec_t now)
{
	struct tcp_conn *t;
	int r = 0;

	if (how < 0 || how > 2)
		return -EINVAL;
	t = tcp_wake(st, s, now);
	if (!t)
		return -ENOBUFS;
	tcp_touch(st, t);
	switch ((enum tcp_state)t->state) {
	case TCPS_LISTEN:
		if (how == 1)
			return 0;
		return do_disconnect(st, t, now);
	case TCPS_SYN_SENT:
		return do_disconnect(st, t, now);
	case TCPS_CLOSED:
		r = -ENOTCONN;
		break;
	case TCPS_ESTABLISHED:
	case TCPS_SYN_RECEIVED:
	case TCPS_FIN_WAIT_1:
	case TCPS_FIN_WAIT_2:
	case TCPS_TIME_WAIT:
	case TCPS_CLOSE_WAIT:
	case TCPS_LAST_ACK:
	case TCPS_CLOSING:
		if (t->flags & TF_CONNECTING) /* nobody asked how connect() went: Linux takes it for told */
			t->flags = (t->flags & ~TF_CONNECTING) | TF_CONNECTED;
		break;
	}
	if (how != 1)
		t->flags |= TF_RCV_SHUT;
	if (how != 0) {
		t->flags |= TF_SND_SHUT;
		close_state(st, t);
	}
	tcp_event(st, t, tcp_poll(s));
	return r;
}

/* Nobody will hear of it any more. Takes: it may be gone afterwards. */
static void orphan(struct stack *st, struct tcp_conn *t, usec_t now)
{
	t->flags |= TF_ORPHAN | TF_RCV_SHUT | TF_SND_SHUT;
	st->n_orphans++;
	stack_event_cancel(st, &t->ev);
	t->tcb->user = 0;
	if (st->n_orphans > st->ctl.tcp_max_orphans) {
		CNT(st, TcpExtTCPAbortOnMemory);
		tcp_xmit_rst(st, t, now);
		tcp_done(st, t);
		return;
	}
	if (t->state != TCPS_FIN_WAIT_2)
		return;
	if (t->opts.linger2_s < 0) {
		CNT(st, TcpExtTCPAbortOnLinger);
		tcp_xmit_rst(st, t, now);
		tcp_done(st, t);
		return;
	}
	tcp_timer_set(st, t, TCPT_KEEP, now + tcp_fin_wait_2_us(st, t));
}

void tcp_close(struct stack *st, struct tcb *s, usec_t now)
{
	struct tcp_conn *t = tcp_wake(st, s, now);
	bool unread;

	if (!t) {
		tcp_rest_abort(st, s, now);
		return;
	}
	unread = t->rcv_bytes > 0;
	tcp_touch(st, t);
	tcp_conn_busy_clear(st, t);
	if (t->state == TCPS_LISTEN)
		tcp_listen_stop(st, t, now);
	if (t->state == TCPS_CLOSED || t->state == TCPS_SYN_SENT) {
		tcp_done(st, t);
		tcp_free(st, t);
		return;
	}
	tcp_recv_purge(st, t);
	if (unread || (t->opts.linger_on && t->opts.linger_s == 0)) {
		if (unread)
			CNT(st, TcpExtTCPAbortOnClose);
		else
			CNT(st, TcpExtTCPAbortOnData);
		if (unread || needs_reset(t))
			tcp_xmit_rst(st, t, now);
		tcp_done(st, t);
		tcp_free(st, t);
		return;
	}
	close_state(st, t);
	orphan(st, t, now);
}

bool tcp_close_pending(const struct tcb *s)
{
	const struct tcp_conn *t = s->conn;

	if (!t)
		return false;
	switch ((enum tcp_state)t->state) {
	case TCPS_FIN_WAIT_1:
	case TCPS_CLOSING:
	case TCPS_LAST_ACK:
		return true;
	case TCPS_ESTABLISHED:
	case TCPS_CLOSE_WAIT:
		return t->snd_una != t->write_seq;
	case TCPS_SYN_SENT:
	case TCPS_SYN_RECEIVED:
	case TCPS_FIN_WAIT_2:
	case TCPS_TIME_WAIT:
	case TCPS_CLOSED:
	case TCPS_LISTEN:
		return false;
	}
	return false;
}

/* ---- looking ---- */

/* At rest: nothing to read but the end of the stream, and all room to write */
static uint32_t poll_at_rest(const struct tcb *s)
{
	uint32_t ev = TCP_EV_OUT | TCP_EV_WRNORM;

	if (s->rest.flags & TF_RCV_SHUT)
		ev |= TCP_EV_IN | TCP_EV_RDNORM | TCP_EV_RDHUP;
	return ev;
}

uint32_t tcp_poll(const struct tcb *s)
{
	const struct tcp_conn *t = s->conn;
	uint32_t ev = 0;

	if (!t)
		return poll_at_rest(s);
	if (t->state == TCPS_LISTEN)
		return t->l.acc_head ? TCP_EV_IN | TCP_EV_RDNORM : 0;
	if ((t->flags & TF_RCV_SHUT && t->flags & TF_SND_SHUT) || t->state == TCPS_CLOSED)
		ev |= TCP_EV_HUP;
	if (t->flags & TF_RCV_SHUT)
		ev |= TCP_EV_IN | TCP_EV_RDNORM | TCP_EV_RDHUP;
	if (tcp_is_usable(t)) {
		uint32_t bytes = t->rcv_bytes - (t->rcv_bytes > 0 && tcp_hole_first(t));

		if (bytes > 0 && ((int64_t)bytes >= t->opts.rcvlowat_bytes || bytes >= t->rcv_space_bytes / 2))
			ev |= TCP_EV_IN | TCP_EV_RDNORM;
		if (t->urg_data & TCP_URG_VALID)
			ev |= TCP_EV_PRI;
		if (t->flags & TF_SND_SHUT || tcp_writeable(t))
			ev |= TCP_EV_OUT | TCP_EV_WRNORM;
	}
	if (t->error || (t->errq && tcp_conn_errq_ready(t)))
		ev |= TCP_EV_ERR;
	return ev;
}

enum tcp_state tcp_state(const struct tcb *s)
{
	const struct tcp_conn *t = tcp_conn(s);

	return (enum tcp_state)(t ? t->state : s->rest.state);
}

bool tcp_error_pending(const struct tcb *s)
{
	return s->conn && s->conn->error != 0;
}

int tcp_error_take(struct tcb *s)
{
	return s->conn ? tcp_conn_error_take(s->conn) : 0;
}

bool tcp_has_port(const struct tcb *s)
{
	return !s->conn || s->conn->state != TCPS_CLOSED || s->conn->flags & TF_BOUND;
}

void tcp_local(const struct tcb *s, struct endpoint *ret_ep)
{
	const struct tcp_conn *t = tcp_conn(s);

	if (t)
		*ret_ep = (struct endpoint){ .addr = t->laddr, .port = t->lport };
	else
		*ret_ep = (struct endpoint){ .addr = s->laddr, .port = s->lport };
}

const void *tcp_saved_syn(const struct tcb *s, size_t *ret_len)
{
	const struct cell *c = s->conn ? s->conn->saved_syn : NULL;

	*ret_len = c ? c->len : 0;
	return c ? c->data : NULL;
}

void tcp_saved_syn_free(struct stack *st, struct tcb *s)
{
	if (!s->conn)
		return;
	cell_put(st, s->conn->saved_syn);
	s->conn->saved_syn = NULL;
}

int tcp_peer(const struct tcb *s, struct endpoint *ret_ep)
{
	const struct tcp_conn *t = tcp_conn(s);

	if (t && !tcp_is_synchronized(t))
		return -ENOTCONN;
	if (t)
		*ret_ep = (struct endpoint){ .addr = t->raddr, .port = t->rport };
	else
		*ret_ep = (struct endpoint){ .addr = s->raddr, .port = s->rport };
	return 0;
}

size_t tcp_readable_bytes(const struct tcb *s)
{
	const struct tcp_conn *t = tcp_conn(s);

	if (!t)
		return 0;
	if (!t->urg_data || t->opts.oobinline || t->rcv_up - t->copied_seq >= t->rcv_bytes)
		return t->rcv_bytes;
	return t->rcv_up - t->copied_seq; /* as Linux: up to the mark */
}

/* As Linux, which gives a FIN its number when it is queued */
size_t tcp_unacked_bytes(const struct tcb *s)
{
	const struct tcp_conn *t = tcp_conn(s);
	bool fin;

	if (!t || t->state == TCPS_LISTEN || t->state == TCPS_SYN_SENT || t->state == TCPS_SYN_RECEIVED)
		return 0;
	fin = t->flags & TF_FIN_QUEUED && seq_leq(t->snd_una, t->write_seq);
	return (seq_lt(t->snd_una, t->write_seq) ? t->write_seq - t->snd_una : 0) + fin;
}

size_t tcp_unsent_bytes(const struct tcb *s)
{
	const struct tcp_conn *t = tcp_conn(s);

	return !t || t->state == TCPS_LISTEN ? 0 : tcp_unsent(t);
}

int tcp_family(const struct tcb *s)
{
	const struct tcp_conn *t = tcp_conn(s);

	return t ? t->family : s->rest.family;
}
