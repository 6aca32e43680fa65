/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_tcp_states.c - every state against every event of RFC 9293 3.10, and every arrow of its figure 5
 *
 * states.def has a row for each pair: what the call returns, what leaves first, which state follows. Each row is played
 * on a connection brought into its state. A pair without a row, or a row too many, fails; so does an arrow that no row
 * shows. The listener's half-open connections are SYN_RECEIVED in the RFC, REQUEST here: they are objects of their own.
 *
 * Octets in flight: 100 in ESTABLISHED and CLOSE_WAIT, the FIN where there is one.
 */
#include "rig.h"

enum st {
#define STATE(name, text) ST_##name,
#include "states.def"
#undef STATE
	ST_N,
};
enum ev {
#define EVENT(name, section, text) EV_##name,
#include "states.def"
#undef EVENT
	EV_N,
};
enum reply { R_NONE, R_ACK, R_RST, R_RST_ACK, R_SYN, R_SYN_ACK, R_FIN, R_DATA, R_N };

static const char *const st_names[] = {
#define STATE(name, text) #name,
#include "states.def"
#undef STATE
};
static const char *const ev_names[] = {
#define EVENT(name, section, text) #name,
#include "states.def"
#undef EVENT
};
static const char *const reply_names[R_N] = { "NONE", "ACK", "RST", "RST_ACK", "SYN", "SYN_ACK", "FIN", "DATA" };

struct row {
	enum st st;
	enum ev ev;
	int result;
	enum reply reply;
	enum st next;
};
static const struct row rows[] = {
#define ROW(state, event, result, reply, next, see) { ST_##state, EV_##event, result, R_##reply, ST_##next },
#include "states.def"
#undef ROW
};
#define N_ROWS (sizeof(rows) / sizeof(rows[0]))

struct move {
	enum st from;
	enum ev ev;
	enum st to;
};
static const struct move moves[] = {
#define MOVE(from, event, to) { ST_##from, EV_##event, ST_##to },
#include "states.def"
#undef MOVE
};

/* A connection in a state; numbers relative as in rig.h */
struct conn {
	struct rig r;
	uint32_t rcv_nxt, snd_una, snd_nxt;
};

static void conn_connect(struct conn *c)
{
	struct endpoint us = { .addr = ipaddr_v4(0), .port = PORT }, to = { .addr = PEER, .port = PEERPORT };

	c->r = rig_new(.smss = 1000);
	c->r.t = tcp_open(c->r.st, 4, 2, c->r.now);
	cr_assert_eq(tcp_bind(c->r.st, c->r.t, &us, c->r.now), 0);
	cr_assert_eq(tcp_connect(c->r.st, c->r.t, &to, c->r.now), -EINPROGRESS);
	expect_flags(&c->r, SYN);
	c->r.iss = rig_seg.abs_seq;
	c->rcv_nxt = UINT32_MAX; /* the peer's SYN */
	c->snd_una = UINT32_MAX;
}

static void conn_request(struct conn *c)
{
	c->r = rig_new(.smss = 1000);
	rig_listen(&c->r);
	peer_syn(&c->r, SYN, 0, PORT);
	expect_flags(&c->r, SYN | ACK);
	c->r.iss = rig_seg.abs_seq;
	c->r.t = c->r.l;
	c->snd_una = UINT32_MAX;
}

static void conn_sends(struct conn *c, uint32_t n)
{
	app_sends(&c->r, n);
	expect_data(&c->r, 0, n);
	c->snd_nxt = n;
}

static void conn_peer_fin(struct conn *c, uint32_t ack)
{
	peer_sends(&c->r, .flags = FIN | ACK, .seq = 0, .ack = ack);
	c->rcv_nxt = 1;
	expect_ack(&c->r, 1);
}

static void conn_fin(struct conn *c)
{
	cr_assert_eq(tcp_shutdown(c->r.st, c->r.t, 1, c->r.now), 0);
	expect_flags(&c->r, FIN | ACK);
	c->snd_nxt = 1;
}

static enum st observe(struct conn *c)
{
	struct rig *r = &c->r;
	uint32_t cursor = 0;
	struct tcb *t, *child;

	if (r->st->timewaits.in_use)
		return ST_TIME_WAIT;
	if (r->st->requests.in_use)
		return ST_REQUEST;
	if (r->l && r->l == r->t && tcp_state(r->l) == TCPS_LISTEN && tcp_accept(r->st, r->l, &child) == 0)
		r->t = child;
	while ((t = tcp_next(r->st, &cursor))) {
		if (t == r->l && t != r->t)
			continue;
		switch (tcp_state(t)) {
#define STATE(name, text) case TCPS_##name: return ST_##name;
#define STATES_OF_RFC
#include "states.def"
#undef STATES_OF_RFC
#undef STATE
		}
	}
	return ST_CLOSED;
}

static struct conn conn_make(enum st s)
{
	struct conn c = { 0 };

	switch (s) {
	case ST_CLOSED:
		c.r = rig_new(.smss = 1000);
		c.r.t = tcp_open(c.r.st, 4, 2, c.r.now);
		break;
	case ST_LISTEN:
		c.r = rig_new(.smss = 1000);
		rig_listen(&c.r);
		c.r.t = c.r.l;
		break;
	case ST_SYN_SENT:
		conn_connect(&c);
		break;
	case ST_SYN_RECEIVED:
		conn_connect(&c);
		peer_syn(&c.r, SYN, 0, PORT);
		expect_flags(&c.r, SYN | ACK);
		c.rcv_nxt = 0;
		break;
	case ST_REQUEST:
		conn_request(&c);
		break;
	default:
		c.r = rig_established(.smss = 1000);
		break;
	}
	switch (s) {
	case ST_ESTABLISHED:
		conn_sends(&c, 100);
		break;
	case ST_CLOSE_WAIT:
		conn_peer_fin(&c, 0);
		conn_sends(&c, 100);
		break;
	case ST_LAST_ACK:
		conn_peer_fin(&c, 0);
		conn_fin(&c);
		break;
	case ST_FIN_WAIT_1:
		conn_fin(&c);
		break;
	case ST_CLOSING:
		conn_fin(&c);
		conn_peer_fin(&c, 0);
		break;
	case ST_FIN_WAIT_2:
	case ST_TIME_WAIT:
		conn_fin(&c);
		peer_sends(&c.r, .flags = ACK, .ack = 1);
		c.snd_una = 1;
		if (s == ST_TIME_WAIT)
			conn_peer_fin(&c, 1);
		break;
	default:
		break;
	}
	cr_assert_eq(observe(&c), s, "%s was not reached", st_names[s]);
	if (s == ST_REQUEST)
		c.r.t = c.r.l;
	rig_drain_events(&c.r);
	return c;
}

static int user_call(struct conn *c, enum ev ev)
{
	struct rig *r = &c->r;
	struct endpoint to = { .addr = PEER, .port = PEERPORT };
	struct tcp_info_view info;
	struct iovec iov[4];
	int n, result;

	switch (ev) {
	case EV_OPEN_ACTIVE:
		return tcp_connect(r->st, r->t, &to, r->now);
	case EV_OPEN_PASSIVE:
		return tcp_listen(r->st, r->t, 5, r->now);
	case EV_SEND:
		return (int)app_sends(r, 10);
	case EV_RECEIVE:
		result = (int)tcp_recv_begin(r->st, r->t, 0, 10, iov, 4, &n);
		if (result > 0)
			tcp_recv_done(r->st, r->t, (size_t)result, r->now);
		return result;
	case EV_CLOSE_SENDING:
		return tcp_shutdown(r->st, r->t, 1, r->now);
	case EV_ABORT:
		tcp_opts(r->t)->linger_on = 1;
		/* fall through */
	case EV_CLOSE:
		tcp_close(r->st, r->t, r->now);
		if (r->t == r->l)
			r->l = NULL;
		r->t = NULL;
		return 0;
	case EV_STATUS:
		tcp_info(r->st, r->t, &info);
		return info.state;
	default:
		return 0;
	}
}

static void segment(struct conn *c, enum ev ev)
{
	struct rig *r = &c->r;
	uint32_t seq = c->rcv_nxt, una = c->snd_una, nxt = c->snd_nxt;
	bool syn_sent = r->t && tcp_state(r->t) == TCPS_SYN_SENT;

	switch (ev) {
	case EV_RST_EXACT:
		peer_sends(r, .flags = RST | ACK, .seq = seq, .ack = nxt);
		break;
	case EV_RST_IN_WINDOW:
		peer_sends(r, .flags = RST | (syn_sent ? 0 : ACK), .seq = seq + 10, .ack = nxt);
		break;
	case EV_RST_OUTSIDE:
		peer_sends(r, .flags = RST | ACK, .seq = seq + 1000000, .ack = nxt + (syn_sent ? 1000 : 0));
		break;
	case EV_SYN:
		peer_sends(r, .flags = SYN, .seq = syn_sent ? seq : seq + 5000);
		break;
	case EV_SYN_AND_ACK:
		peer_sends(r, .flags = SYN | ACK, .seq = syn_sent || tcp_state(r->t) != TCPS_SYN_RECEIVED ? seq : seq - 1,
			   .ack = nxt);
		break;
	case EV_ACK_OF_ALL:
		peer_sends(r, .flags = ACK, .seq = seq, .ack = nxt);
		break;
	case EV_ACK_AGAIN:
		peer_sends(r, .flags = ACK, .seq = seq, .ack = una);
		break;
	case EV_ACK_OF_UNSENT:
		peer_sends(r, .flags = ACK, .seq = seq, .ack = nxt + 1000);
		break;
	case EV_NO_ACK:
		peer_sends(r, .flags = PSH, .seq = seq, .len = 10);
		break;
	case EV_DATA:
		peer_sends(r, .flags = ACK | PSH, .seq = seq, .ack = nxt, .len = 10);
		break;
	case EV_DATA_OUTSIDE:
		peer_sends(r, .flags = ACK | PSH, .seq = seq + 1000000, .ack = nxt, .len = 10);
		break;
	case EV_FIN:
		peer_sends(r, .flags = FIN | ACK, .seq = seq, .ack = una);
		break;
	case EV_FIN_AND_ACK:
		peer_sends(r, .flags = FIN | ACK, .seq = seq, .ack = nxt);
		break;
	default:
		break;
	}
}

static void timeout(struct conn *c, enum ev ev)
{
	struct rig *r = &c->r;

	switch (ev) {
	case EV_USER_TIMEOUT:
		tcp_opts(r->t)->user_timeout_ms = 3000;
		tcp_opt_changed(r->st, r->t, TCP_OPT_OTHER, r->now);
		for (int i = 0; i < 50; i++) {
			advance(r, MSEC(100));
			while (take(r))
				;
		}
		break;
	case EV_REXMT_TIMEOUT:
		advance(r, MSEC(1001));
		break;
	case EV_TIME_WAIT_TIMEOUT:
		advance(r, SEC(61));
		break;
	default:
		break;
	}
}

static enum reply reply_of(struct rig *r)
{
	if (!take(r))
		return R_NONE;
	switch (rig_seg.flags & (SYN | FIN | RST | ACK)) {
	case RST:
		return R_RST;
	case RST | ACK:
		return R_RST_ACK;
	case SYN:
		return R_SYN;
	case SYN | ACK:
		return R_SYN_ACK;
	case FIN | ACK:
		return R_FIN;
	default:
		return rig_seg.len ? R_DATA : R_ACK;
	}
}

static struct row play(enum st s, enum ev ev)
{
	struct conn c = conn_make(s);
	struct row got = { .st = s, .ev = ev };

	got.result = user_call(&c, ev);
	segment(&c, ev);
	timeout(&c, ev);
	got.reply = reply_of(&c.r);
	got.next = observe(&c);
	munmap(c.r.st->region->base, c.r.st->region->bytes);
	return got;
}

static void play_state(enum st s)
{
	for (unsigned i = 0; i < N_ROWS; i++) {
		const struct row *w = &rows[i];
		struct row got;

		if (w->st != s)
			continue;
		got = play(s, w->ev);
		cr_expect(got.result == w->result && got.reply == w->reply && got.next == w->next,
			  "ROW(%s, %s, %d, %s, %s) is what happens, not %d, %s, %s", st_names[s], ev_names[w->ev], got.result,
			  reply_names[got.reply], st_names[got.next], w->result, reply_names[w->reply], st_names[w->next]);
	}
}

#define STATE(name, text)               \
	Test(tcp_states, in_##name)     \
	{                               \
		play_state(ST_##name);  \
	}
#include "states.def"
#undef STATE

/* The RFC's TIME-WAIT timeout is an event of that state alone. */
static bool pair_exists(enum st s, enum ev ev)
{
	return ev != EV_TIME_WAIT_TIMEOUT || s == ST_TIME_WAIT;
}

Test(tcp_states, every_pair_has_one_row)
{
	for (unsigned s = 0; s < ST_N; s++) {
		for (unsigned e = 0; e < EV_N; e++) {
			unsigned n = 0;

			for (unsigned i = 0; i < N_ROWS; i++)
				n += rows[i].st == s && rows[i].ev == e;
			cr_expect_eq(n, pair_exists(s, e), "%s, %s has %u rows", st_names[s], ev_names[e], n);
		}
	}
}

Test(tcp_states, every_arrow_of_figure_5_is_walked)
{
	for (unsigned m = 0; m < sizeof(moves) / sizeof(moves[0]); m++) {
		bool shown = false;

		for (unsigned i = 0; i < N_ROWS; i++)
			shown |= rows[i].st == moves[m].from && rows[i].ev == moves[m].ev && rows[i].next == moves[m].to;
		cr_expect(shown, "no row shows %s to %s", st_names[moves[m].from], st_names[moves[m].to]);
	}
}

Test(tcp_states, syn_received_close_sends_fin_once_established)
{
	struct conn c = conn_make(ST_SYN_RECEIVED);

	cr_assert_eq(tcp_shutdown(c.r.st, c.r.t, 1, c.r.now), 0);
	expect_silence(&c.r);
	peer_sends(&c.r, .flags = ACK, .seq = 0, .ack = 0);
	expect_flags(&c.r, FIN | ACK);
	cr_assert_eq(tcp_state(c.r.t), TCPS_FIN_WAIT_1);
}
