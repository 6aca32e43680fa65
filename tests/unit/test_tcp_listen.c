/* SPDX-License-Identifier: BSD-2-Clause */
/* Listeners: SYN queue, accept queue, who gets a SYN */
#include "rig.h"

static struct tcb *listen_on(struct rig *r, int family, struct ipaddr addr, uint16_t port, bool reuseport)
{
	struct endpoint ep = { .addr = addr, .port = port };
	struct tcb *l = tcp_open(r->st, family, 1, r->now);

	tcp_opts(l)->reuseport = reuseport;
	cr_assert_eq(tcp_bind(r->st, l, &ep, r->now), 0);
	cr_assert_eq(tcp_listen(r->st, l, 8, r->now), 0);
	return l;
}

static struct tcb *who_listens(struct rig *r, uint16_t port, uint16_t peer_port)
{
	struct ipaddr us = US, peer = PEER;

	struct tcp_conn *l = tcp_listen_lookup(r->st, &us, port, &peer, peer_port);

	return l ? l->tcb : NULL;
}

/* A whole handshake from @port; true if a SYN-ACK came */
static bool handshake(struct rig *r, uint16_t port)
{
	r->peer_port = port;
	peer_syn(r, SYN, 0, PORT);
	if (!take(r) || rig_seg.flags != (SYN | ACK))
		return false;
	r->iss = rig_seg.abs_seq;
	peer_sends(r, .flags = ACK);
	return true;
}

Test(tcp_listen, syn_ack_is_sent_again_with_back_off_then_forgotten)
{
	struct rig r = rig_new();

	rig_listen(&r);
	peer_syn(&r, SYN, 0, PORT);
	expect_flags(&r, SYN | ACK);
	for (usec_t wait = SEC(1), i = 0; i < 5; i++, wait *= 2) {
		advance(&r, wait - MSEC(1));
		expect_silence(&r);
		advance(&r, MSEC(2));
		expect_flags(&r, SYN | ACK);
		r.now -= MSEC(1);
	}
	cr_assert_eq(stack_live(r.st), 1u);
	advance(&r, SEC(40));
	expect_silence(&r);
	cr_assert_eq(stack_live(r.st), 0u);
	cr_assert_eq(r.st->requests.in_use, 0u);
	cr_assert_eq(r.l->conn->l.n_reqs, 0u);
}

Test(tcp_listen, repeated_syn_gets_the_same_answer)
{
	struct rig r = rig_new();
	uint32_t iss;

	rig_listen(&r);
	peer_syn(&r, SYN, 0, PORT);
	expect_flags(&r, SYN | ACK);
	iss = rig_seg.abs_seq;
	advance(&r, MSEC(100));
	peer_syn(&r, SYN, 0, PORT);
	expect_flags(&r, SYN | ACK);
	cr_assert_eq(rig_seg.abs_seq, iss);
	peer_syn(&r, SYN, 0, PORT);
	expect_silence(&r);
	cr_assert_eq(r.st->requests.in_use, 1u);
}

Test(tcp_listen, reset_removes_the_request)
{
	struct rig r = rig_new();

	rig_listen(&r);
	peer_syn(&r, SYN, 0, PORT);
	expect_flags(&r, SYN | ACK);
	peer_sends(&r, .flags = RST, .seq = 10);
	cr_assert_eq(r.st->requests.in_use, 1u, "not at the number that is due");
	peer_sends(&r, .flags = RST, .seq = 0);
	cr_assert_eq(r.st->requests.in_use, 0u);
	expect_silence(&r);
}

Test(tcp_listen, full_accept_queue_ignores_the_ack_and_takes_it_later)
{
	struct rig r = rig_new(.backlog = 1);
	uint32_t iss;
	struct tcb *t;

	rig_listen(&r);
	cr_assert(handshake(&r, 1001));
	r.peer_port = 1003; /* half open while there is room */
	peer_syn(&r, SYN, 0, PORT);
	expect_flags(&r, SYN | ACK);
	iss = rig_seg.abs_seq;
	cr_assert(handshake(&r, 1002));
	cr_assert_eq(r.l->conn->l.n_acc, 2u, "backlog + 1, as Linux");
	r.iss = iss;
	r.peer_port = 1003;
	peer_sends(&r, .flags = ACK);
	cr_assert_eq(r.l->conn->l.n_acc, 2u);
	cr_assert_eq(r.st->cnt[CNT_TcpExtListenOverflows], 1u);
	r.peer_port = 1004;
	peer_syn(&r, SYN, 0, PORT);
	expect_silence(&r);
	cr_assert_eq(tcp_accept(r.st, r.l, &t), 0);
	advance(&r, MSEC(1001));
	expect_flags(&r, SYN | ACK);
	r.peer_port = 1003;
	peer_sends(&r, .flags = ACK);
	cr_assert_eq(r.l->conn->l.n_acc, 2u);
}

Test(tcp_listen, syn_flood_drops_the_oldest_and_serves_the_quick)
{
	struct stack_sysctl ctl;
	struct rig r;

	stack_sysctl_default(&ctl);
	ctl.tcp_max_syn_backlog = 100;
	ctl.tcp_syncookies = 0;
	r = rig_new(.ctl = &ctl);
	rig_listen(&r);
	for (uint32_t i = 0; i < 5000; i++) {
		r.peer_port = (uint16_t)(2000 + i);
		peer_syn(&r, SYN, 0, PORT);
		expect_flags(&r, SYN | ACK);
	}
	cr_assert_eq(r.st->requests.in_use, 100u);
	cr_assert(handshake(&r, 1001));
	cr_assert_eq(r.l->conn->l.n_acc, 1u);
	advance(&r, SEC(130));
	while (take(&r))
		;
	cr_assert_eq(r.st->requests.in_use, 0u);
}

Test(tcp_listen, close_resets_who_was_not_accepted)
{
	struct rig r = rig_new();

	rig_listen(&r);
	cr_assert(handshake(&r, 1001));
	peer_sends(&r, .flags = ACK, .len = 100);
	while (take(&r))
		;
	peer_syn(&r, SYN, 0, PORT);
	r.peer_port = 1002;
	peer_syn(&r, SYN, 0, PORT);
	while (take(&r))
		;
	tcp_close(r.st, r.l, r.now);
	expect_flags(&r, RST | ACK);
	expect_silence(&r);
	cr_assert_eq(r.st->tcbs.in_use, 0u);
	cr_assert_eq(r.st->requests.in_use, 0u);
	cr_assert_eq(stack_live(r.st), 0u);
	expect_all_free(&r);
	peer_syn(&r, SYN, 0, PORT);
	expect_flags(&r, RST | ACK);
}

Test(tcp_listen, closed_by_its_peer_before_accept_is_still_delivered)
{
	struct rig r = rig_new();

	rig_listen(&r);
	cr_assert(handshake(&r, 1001));
	peer_sends(&r, .flags = ACK, .len = 50);
	peer_sends(&r, .flags = RST, .seq = 50);
	cr_assert_eq(tcp_accept(r.st, r.l, &r.t), 0);
	cr_assert_eq(tcp_accept(r.st, r.l, &r.t), -EAGAIN);
	cr_assert_eq(app_reads(&r, 100), 50);
	cr_assert_eq(app_reads(&r, 100), -ECONNRESET);
}

Test(tcp_listen, exact_address_before_wildcard_and_v6_takes_mapped)
{
	struct rig r = rig_new();
	struct tcb *v6 = listen_on(&r, 6, (struct ipaddr){ 0 }, PORT, true), *any, *us;

	cr_assert_eq(who_listens(&r, PORT, 1), v6);
	any = listen_on(&r, 4, ipaddr_v4(0), PORT, true);
	cr_assert_eq(who_listens(&r, PORT, 1), any);
	us = listen_on(&r, 4, US, PORT, true);
	cr_assert_eq(who_listens(&r, PORT, 1), us);
	cr_assert_null(who_listens(&r, PORT + 1, 1));
	tcp_close(r.st, us, r.now);
	tcp_close(r.st, any, r.now);
	cr_assert(handshake(&r, 1001));
	cr_assert_eq(tcp_accept(r.st, v6, &r.t), 0);
	cr_assert_eq(tcp_family(r.t), 6);
	{
		struct endpoint ep;

		cr_assert_eq(tcp_peer(r.t, &ep), 0);
		cr_assert(ipaddr_eq(ep.addr, PEER), "mapped");
		cr_assert_eq(ep.port, 1001);
	}
}

Test(tcp_listen, v6only_does_not_take_ipv4)
{
	struct rig r = rig_new();
	struct endpoint ep = { .port = PORT };
	struct tcb *l = tcp_open(r.st, 6, 1, r.now);

	tcp_opts(l)->v6only = 1;
	cr_assert_eq(tcp_bind(r.st, l, &ep, r.now), 0);
	cr_assert_eq(tcp_listen(r.st, l, 8, r.now), 0);
	cr_assert_null(who_listens(&r, PORT, 1));
}

Test(tcp_listen, reuseport_shares_evenly)
{
	struct rig r = rig_new();
	struct tcb *l[4];
	unsigned n[4] = { 0 };

	for (int i = 0; i < 4; i++)
		l[i] = listen_on(&r, 4, ipaddr_v4(0), PORT, true);
	for (uint16_t p = 1; p <= 4000; p++)
		for (int i = 0; i < 4; i++)
			n[i] += who_listens(&r, PORT, p) == l[i];
	for (int i = 0; i < 4; i++)
		cr_assert(n[i] > 800 && n[i] < 1200, "listener %d got %u of 4000", i, n[i]);
}

Test(tcp_listen, bind_conflicts_and_restart)
{
	struct rig r = rig_established();
	struct endpoint ep = { .addr = ipaddr_v4(0), .port = PORT };
	struct tcb *t = tcp_open(r.st, 4, 1, r.now);

	cr_assert_eq(tcp_bind(r.st, t, &ep, r.now), -EADDRINUSE);
	tcp_opts(t)->reuseaddr = 1;
	cr_assert_eq(tcp_bind(r.st, t, &ep, r.now), -EADDRINUSE, "while one listens");
	tcp_close(r.st, r.l, r.now);
	cr_assert_eq(tcp_bind(r.st, t, &ep, r.now), 0, "beside its connections");
	cr_assert_eq(tcp_listen(r.st, t, 1, r.now), 0);
	ep.addr = IP(192, 0, 2, 9);
	ep.port = 99;
	cr_assert_eq(tcp_bind(r.st, tcp_open(r.st, 4, 1, r.now), &ep, r.now), -EADDRNOTAVAIL);
}

Test(tcp_listen, defer_accept_waits_for_data)
{
	struct rig r = rig_new();

	rig_listen(&r);
	tcp_opts(r.l)->defer_accept_s = 3;
	peer_syn(&r, SYN, 0, PORT);
	cr_assert(take(&r));
	r.iss = rig_seg.abs_seq;
	peer_sends(&r, .flags = ACK);
	cr_assert_eq(tcp_accept(r.st, r.l, &r.t), -EAGAIN);
	expect_silence(&r);
	peer_sends(&r, .flags = ACK | PSH, .len = 20);
	cr_assert_eq(tcp_accept(r.st, r.l, &r.t), 0);
	cr_assert_eq(app_reads(&r, 100), 20);
}
