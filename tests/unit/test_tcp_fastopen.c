/* SPDX-License-Identifier: BSD-2-Clause */
/* Data in the SYN (RFC 7413): server against a peer made of words, and two stacks */
#include "rig.h"

static struct stack_sysctl ctl_both(void)
{
	struct stack_sysctl ctl;

	stack_sysctl_default(&ctl);
	ctl.tcp_fastopen = 3;
	return ctl;
}

static struct rig rig_server(uint32_t qlen)
{
	static struct stack_sysctl ctl;
	struct rig r;

	ctl = ctl_both();
	r = rig_new(.ctl = &ctl);
	rig_listen(&r);
	tcp_opts(r.l)->fastopen_qlen = qlen;
	return r;
}

/* SYN with the option and @len octets of data; @cookie_len 0: asks for one */
static void syn(struct rig *r, const uint8_t *cookie, unsigned cookie_len, uint32_t len)
{
	uint8_t o[40];
	unsigned n = tcp_opt_put_syn(o, 1000, false, false, -1, 0, 0);

	n += tcp_opt_put_tfo(o + n, cookie, cookie_len);
	peer_sends(r, .abs = true, .flags = SYN, .seq = PEER_ISS, .opt = o, .opt_len = n, .len = len);
}

static void get_cookie(struct rig *r, uint8_t c[8])
{
	syn(r, NULL, 0, 0);
	expect_flags(r, SYN | ACK);
	cr_assert_eq(rig_seg.o.tfo_len, 8);
	memcpy(c, (const uint8_t[8]){ 0 }, 8);
	{
		struct tcp_req q = { .laddr = US, .raddr = PEER };

		tcp_tfo_cookie(r->st, &q, c);
	}
	r->iss = rig_seg.abs_seq;
	peer_sends(r, .flags = RST);
	cr_assert_eq(r->st->requests.in_use, 0u);
}

/* Octet i of the data of a SYN is at sequence number i - 1 for octet_at(): the rig counts from the octet behind the SYN */
static void expect_payload(struct rig *r, uint32_t len)
{
	struct iovec iov[8];
	int n;
	ptrdiff_t got = tcp_recv_begin(r->st, r->t, 0, 10000, iov, 8, &n);

	cr_assert_eq(got, (ptrdiff_t)len);
	for (uint32_t i = 0; i < len; i++)
		cr_assert_eq(((uint8_t *)iov[0].iov_base)[i], octet_at((uint32_t)(i - 1)));
	tcp_recv_done(r->st, r->t, (size_t)got, r->now);
}

Test(tcp_fastopen, option_round_trip_and_wrong_lengths)
{
	uint8_t c[16] = { 1, 2, 3, 4, 5, 6, 7, 8, 9 }, b[24];
	struct tcp_rx_opts o;

	for (unsigned len = 0; len <= 16; len += 2) {
		unsigned n = tcp_opt_put_tfo(b, c, len);

		cr_assert_eq(n % 4, 0u);
		tcp_opts_parse(b, n, &o);
		cr_assert_eq(o.tfo_ok, len != 2, "length %u", len);
		if (o.tfo_ok) {
			cr_assert_eq(o.tfo_len, len);
			cr_assert_eq(memcmp(o.tfo, c, len), 0);
		}
	}
	for (unsigned len = 0; len <= 24; len++) {
		uint8_t w[24] = { 34, (uint8_t)len };

		tcp_opts_parse(w, 20, &o);
		cr_assert_eq(o.tfo_ok, len == 2 || (len >= 6 && len <= 18 && len % 2 == 0), "length %u", len);
	}
}

Test(tcp_fastopen, right_cookie_makes_a_connection_that_answers_before_the_handshake_is_over)
{
	struct rig r = rig_server(10);
	uint8_t c[8];

	get_cookie(&r, c);
	syn(&r, c, 8, 200);
	cr_assert_eq(events(&r, r.l) & TCP_EV_IN, TCP_EV_IN);
	expect_flags(&r, SYN | ACK);
	r.iss = rig_seg.abs_seq;
	cr_assert_eq(rig_seg.abs_ack, PEER_ISS + 1 + 200, "SYN and data");
	cr_assert_eq(tcp_accept(r.st, r.l, &r.t), 0);
	cr_assert_eq(tcp_state(r.t), TCPS_SYN_RECEIVED);
	cr_assert_eq(tcp_poll(r.t) & (TCP_EV_IN | TCP_EV_OUT), TCP_EV_IN | TCP_EV_OUT);
	expect_payload(&r, 200);
	cr_assert_eq(app_sends(&r, 1500), 1500);
	expect_data(&r, 0, 1000);
	expect_data(&r, 1000, 500);
	expect_silence(&r);
	advance(&r, MSEC(50));
	peer_sends(&r, .flags = ACK, .seq = 200, .ack = 1000);
	cr_assert_eq(tcp_state(r.t), TCPS_ESTABLISHED);
	cr_assert_eq(r.l->conn->l.n_tfo, 0u);
	cr_assert_eq(tcp_unacked_bytes(r.t), 500u);
	peer_sends(&r, .flags = ACK, .seq = 200, .ack = 1500);
	cr_assert_eq(r.t->conn->srtt_us >> 3, 50000u);
	tcp_close(r.st, r.t, r.now);
	expect_flags(&r, FIN | ACK);
}

Test(tcp_fastopen, wrong_cookie_takes_no_data_and_gets_the_right_one)
{
	struct rig r = rig_server(10);
	uint8_t c[8] = { 1 };

	syn(&r, c, 8, 200);
	expect_flags(&r, SYN | ACK);
	r.iss = rig_seg.abs_seq;
	cr_assert_eq(rig_seg.abs_ack, PEER_ISS + 1);
	cr_assert_eq(rig_seg.o.tfo_len, 8);
	cr_assert_eq(r.st->cnt[CNT_TcpExtTCPFastOpenPassiveFail], 1u);
	cr_assert_eq(tcp_accept(r.st, r.l, &r.t), -EAGAIN);
	peer_sends(&r, .flags = ACK, .seq = 0, .len = 200);
	cr_assert_eq(tcp_accept(r.st, r.l, &r.t), 0);
	cr_assert_eq(app_reads(&r, 1000), 200);
}

Test(tcp_fastopen, off_by_default_and_without_the_listener_s_option)
{
	struct rig r = rig_server(0);
	uint8_t c[8] = { 1 };

	syn(&r, NULL, 0, 0);
	expect_flags(&r, SYN | ACK);
	cr_assert_not(rig_seg.o.tfo_ok);
	r = rig_new();
	rig_listen(&r);
	tcp_opts(r.l)->fastopen_qlen = 10;
	syn(&r, c, 8, 100);
	expect_flags(&r, SYN | ACK);
	cr_assert_not(rig_seg.o.tfo_ok);
	cr_assert_eq(rig_seg.abs_ack, PEER_ISS + 1);
}

Test(tcp_fastopen, pending_ones_are_limited)
{
	struct rig r = rig_server(3);
	uint8_t c[8];

	get_cookie(&r, c);
	for (uint16_t i = 0; i < 5; i++) {
		r.peer_port = (uint16_t)(3000 + i);
		syn(&r, c, 8, 10);
		while (take(&r))
			;
	}
	cr_assert_eq(r.l->conn->l.n_tfo, 3u);
	cr_assert_eq(r.l->conn->l.n_acc, 3u);
	cr_assert_eq(r.st->requests.in_use, 2u);
	cr_assert_eq(r.st->cnt[CNT_TcpExtTCPFastOpenListenOverflow], 2u);
	advance(&r, SEC(200)); /* nobody answers: they time out, whether accepted or not */
	while (take(&r))
		;
	cr_assert_eq(r.l->conn->l.n_tfo, 0u);
}

Test(tcp_fastopen, lost_syn_ack_is_sent_again_by_timer_and_by_a_second_syn)
{
	struct rig r = rig_server(3);
	uint8_t c[8];

	get_cookie(&r, c);
	syn(&r, c, 8, 100);
	expect_flags(&r, SYN | ACK);
	r.iss = rig_seg.abs_seq;
	advance(&r, MSEC(999));
	expect_silence(&r);
	advance(&r, MSEC(2));
	expect_flags(&r, SYN | ACK);
	cr_assert_eq(rig_seg.abs_seq, r.iss);
	cr_assert_eq(rig_seg.ack, 100u);
	peer_syn(&r, SYN, 0, PORT);
	expect_flags(&r, SYN | ACK);
	cr_assert_eq(rig_seg.ack, 100u);
	peer_sends(&r, .flags = ACK, .seq = 100);
	cr_assert_eq(tcp_accept(r.st, r.l, &r.t), 0);
	cr_assert_eq(tcp_state(r.t), TCPS_ESTABLISHED);
	expect_payload(&r, 100);
}

Test(tcp_fastopen, reset_ends_it)
{
	struct rig r = rig_server(3);
	uint8_t c[8];

	get_cookie(&r, c);
	syn(&r, c, 8, 100);
	expect_flags(&r, SYN | ACK);
	r.iss = rig_seg.abs_seq;
	cr_assert_eq(tcp_accept(r.st, r.l, &r.t), 0);
	peer_sends(&r, .flags = RST | ACK, .seq = 100);
	cr_assert_eq(tcp_state(r.t), TCPS_CLOSED);
	cr_assert_eq(tcp_error_take(r.t), ECONNRESET);
	cr_assert_eq(r.l->conn->l.n_tfo, 0u);
}

/* ---- two stacks ---- */

struct duo {
	struct pair p;
	struct tcb *l, *c, *s;
	uint32_t sent, got;
};

static struct duo duo_new(void)
{
	static struct stack_sysctl ctl;
	struct duo d = { 0 };
	struct endpoint ep = { .addr = ipaddr_v4(0), .port = PORT };

	ctl = ctl_both();
	d.p = pair_new(false, &ctl);
	d.l = tcp_open(d.p.st[1], 4, 10, d.p.now);
	tcp_opts(d.l)->fastopen_qlen = 10;
	cr_assert_eq(tcp_bind(d.p.st[1], d.l, &ep, d.p.now), 0);
	cr_assert_eq(tcp_listen(d.p.st[1], d.l, 16, d.p.now), 0);
	return d;
}

static int duo_connect(struct duo *d)
{
	struct endpoint ep = { .addr = PEER, .port = PORT };

	d->sent = d->got = 0;
	d->c = tcp_open(d->p.st[0], 4, 20, d->p.now);
	return tcp_connect_data(d->p.st[0], d->c, &ep, d->p.now);
}

/* The first contact: a cookie is fetched */
static void duo_meet(struct duo *d)
{
	cr_assert_eq(duo_connect(d), -EINPROGRESS);
	pair_settle(&d->p);
	cr_assert_eq(tcp_state(d->c), TCPS_ESTABLISHED);
	cr_assert_eq(tcp_accept(d->p.st[1], d->l, &d->s), 0);
	tcp_close(d->p.st[0], d->c, d->p.now);
	tcp_close(d->p.st[1], d->s, d->p.now);
	pair_settle(&d->p);
}

Test(tcp_fastopen, second_contact_sends_data_with_the_syn)
{
	for (uint32_t len = 1; len < 100000; len = len * 7 + 3) {
		struct duo d = duo_new();

		duo_meet(&d);
		cr_assert_eq(duo_connect(&d), 0);
		pair_settle(&d.p);
		cr_assert_eq(tcp_state(d.c), TCPS_SYN_SENT, "it waits for data");
		cr_assert_eq(tcp_poll(d.c) & TCP_EV_OUT, TCP_EV_OUT);
		app_sends_flags(d.p.st[0], d.c, &d.sent, len, 0, d.p.now);
		cr_assert(pair_move(&d.p, 0));
		cr_assert_eq(tcp_accept(d.p.st[1], d.l, &d.s), 0, "after one frame");
		cr_assert_gt(app_reads_from(d.p.st[1], d.s, &d.got, len, d.p.now), 0);
		while (d.got < len) {
			pair_advance(&d.p, MSEC(10));
			if (d.sent < len)
				app_sends_flags(d.p.st[0], d.c, &d.sent, len - d.sent, 0, d.p.now);
			app_reads_from(d.p.st[1], d.s, &d.got, len, d.p.now);
		}
		pair_settle(&d.p);
		cr_assert_eq(tcp_state(d.s), TCPS_ESTABLISHED);
		cr_assert_eq(tcp_unacked_bytes(d.c), 0u);
		cr_assert_eq(d.p.st[0]->cnt[CNT_TcpExtTCPFastOpenActive], 1u);
		cr_assert_eq(d.p.st[0]->cnt[CNT_TcpRetransSegs], 0u);
	}
}

Test(tcp_fastopen, data_that_the_server_did_not_take_follows_the_handshake)
{
	struct duo d = duo_new();

	duo_meet(&d);
	tcp_opts(d.l)->fastopen_qlen = 0;
	cr_assert_eq(duo_connect(&d), 0);
	app_sends_flags(d.p.st[0], d.c, &d.sent, 3000, 0, d.p.now);
	pair_settle(&d.p);
	cr_assert_eq(tcp_accept(d.p.st[1], d.l, &d.s), 0);
	cr_assert_eq(app_reads_from(d.p.st[1], d.s, &d.got, 5000, d.p.now), 3000);
	cr_assert_eq(d.p.st[0]->cnt[CNT_TcpExtTCPFastOpenActiveFail], 1u);
}

static bool lose_syn_data(struct pair *p, int from, const struct frame *f)
{
	(void)p;
	return from == 0 && f->data[47] & TH_SYN && f->len > 14 + 20 + 60;
}

Test(tcp_fastopen, path_that_swallows_syns_with_data_is_not_tried_again)
{
	struct duo d = duo_new();

	duo_meet(&d);
	d.p.lose = lose_syn_data;
	cr_assert_eq(duo_connect(&d), 0);
	app_sends_flags(d.p.st[0], d.c, &d.sent, 500, 0, d.p.now);
	pair_advance(&d.p, MSEC(1100));
	cr_assert_eq(tcp_accept(d.p.st[1], d.l, &d.s), 0);
	cr_assert_eq(app_reads_from(d.p.st[1], d.s, &d.got, 5000, d.p.now), 500);
	cr_assert_eq(duo_connect(&d), -EINPROGRESS, "the cookie is forgotten");
}

Test(tcp_fastopen, closed_before_any_data_was_sent)
{
	struct duo d = duo_new();

	duo_meet(&d);
	cr_assert_eq(duo_connect(&d), 0);
	tcp_close(d.p.st[0], d.c, d.p.now);
	pair_settle(&d.p);
	cr_assert_eq(tcp_accept(d.p.st[1], d.l, &d.s), -EAGAIN);
	cr_assert_eq(d.p.st[0]->pools.held_bytes, 0u);
}
