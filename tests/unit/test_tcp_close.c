/* SPDX-License-Identifier: BSD-2-Clause */
/* The end of connections: FIN in all orders, resets, orphans, TIME_WAIT */
#include "rig.h"

static void tw_peer_rejects(struct rig *r)
{
	cr_assert_eq(r->st->timewaits.in_use, 1u);
	cr_assert_eq(r->st->tcbs.in_use, 1u, "the listener only");
	expect_all_free(r);
}

Test(tcp_close, active_close_fin_wait_1_2_time_wait)
{
	struct rig r = rig_established();

	tcp_close(r.st, r.t, r.now);
	expect_flags(&r, FIN | ACK);
	cr_assert_eq(rig_seg.seq, 0u);
	cr_assert_eq(stack_live(r.st), 1u);
	peer_sends(&r, .flags = ACK, .ack = 1);
	cr_assert_eq(r.t->conn->state, TCPS_FIN_WAIT_2);
	peer_sends(&r, .flags = FIN | ACK, .ack = 1);
	expect_ack(&r, 1);
	tw_peer_rejects(&r);
	peer_sends(&r, .flags = FIN | ACK, .ack = 1);
	expect_ack(&r, 1);
	advance(&r, SEC(59));
	cr_assert_eq(r.st->timewaits.in_use, 1u);
	advance(&r, SEC(2));
	cr_assert_eq(r.st->timewaits.in_use, 0u);
}

Test(tcp_close, simultaneous_close_goes_through_closing)
{
	struct rig r = rig_established();

	tcp_close(r.st, r.t, r.now);
	expect_flags(&r, FIN | ACK);
	peer_sends(&r, .flags = FIN | ACK, .ack = 0);
	expect_ack(&r, 1);
	cr_assert_eq(r.t->conn->state, TCPS_CLOSING);
	peer_sends(&r, .flags = ACK, .seq = 1, .ack = 1);
	tw_peer_rejects(&r);
}

Test(tcp_close, fin_and_ack_of_fin_in_one_segment)
{
	struct rig r = rig_established();

	tcp_close(r.st, r.t, r.now);
	expect_flags(&r, FIN | ACK);
	peer_sends(&r, .flags = FIN | ACK, .ack = 1);
	expect_ack(&r, 1);
	tw_peer_rejects(&r);
}

Test(tcp_close, passive_close_close_wait_last_ack)
{
	struct rig r = rig_established();

	peer_sends(&r, .flags = FIN | ACK, .len = 10);
	expect_ack(&r, 11);
	cr_assert_eq(tcp_state(r.t), TCPS_CLOSE_WAIT);
	cr_assert_eq(tcp_poll(r.t) & (TCP_EV_IN | TCP_EV_RDHUP | TCP_EV_HUP), TCP_EV_IN | TCP_EV_RDHUP);
	cr_assert_eq(app_reads(&r, 100), 10);
	cr_assert_eq(app_reads(&r, 100), 0);
	cr_assert_eq(app_sends(&r, 300), 300);
	expect_data(&r, 0, 300);
	tcp_close(r.st, r.t, r.now);
	expect_flags(&r, FIN | ACK);
	cr_assert_eq(rig_seg.seq, 300u);
	cr_assert_eq(r.t->conn->state, TCPS_LAST_ACK);
	peer_sends(&r, .flags = ACK, .seq = 11, .ack = 301);
	cr_assert_eq(r.st->tcbs.in_use, 1u);
	cr_assert_eq(r.st->timewaits.in_use, 0u);
	expect_all_free(&r);
	expect_silence(&r);
}

Test(tcp_close, fin_comes_before_the_data_in_front_of_it)
{
	struct rig r = rig_established(.sack = true);

	peer_sends(&r, .flags = FIN | ACK, .seq = 1000, .len = 500);
	expect_ack(&r, 0);
	cr_assert_eq(tcp_state(r.t), TCPS_ESTABLISHED);
	peer_sends(&r, .flags = ACK, .seq = 0, .len = 1000);
	expect_ack(&r, 1501);
	cr_assert_eq(tcp_state(r.t), TCPS_CLOSE_WAIT);
	cr_assert_eq(app_reads(&r, 9000), 1500);
	cr_assert_eq(app_reads(&r, 9000), 0);
}

Test(tcp_close, fin_rides_on_the_last_data)
{
	struct rig r = rig_established();

	app_sends(&r, 1500);
	tcp_close(r.st, r.t, r.now);
	expect_data(&r, 0, 1000);
	expect_data(&r, 1000, 500);
	cr_assert(rig_seg.flags & FIN);
	expect_silence(&r);
	peer_sends(&r, .flags = ACK, .ack = 1501);
	cr_assert_eq(r.t->conn->state, TCPS_FIN_WAIT_2);
}

Test(tcp_close, lost_fin_is_sent_again)
{
	struct rig r = rig_established();

	app_sends(&r, 100);
	tcp_close(r.st, r.t, r.now);
	expect_data(&r, 0, 100);
	advance(&r, MSEC(900));
	expect_data(&r, 0, 100);
	cr_assert(rig_seg.flags & FIN);
	peer_sends(&r, .flags = ACK, .ack = 100);
	expect_silence(&r);
	advance(&r, SEC(3));
	expect_flags(&r, FIN | ACK);
	cr_assert_eq(rig_seg.seq, 100u);
}

Test(tcp_close, unread_data_at_close_resets)
{
	struct rig r = rig_established();

	peer_sends(&r, .flags = ACK, .len = 10);
	expect_ack(&r, 10);
	tcp_close(r.st, r.t, r.now);
	expect_flags(&r, RST | ACK);
	expect_all_free(&r);
	cr_assert_eq(r.st->tcbs.in_use, 1u);
}

Test(tcp_close, linger_zero_resets_and_forgets_unsent_data)
{
	struct rig r = rig_established();

	app_sends(&r, 100);
	tcp_opts(r.t)->linger_on = 1;
	tcp_close(r.st, r.t, r.now);
	expect_flags(&r, RST | ACK);
	expect_silence(&r);
	expect_all_free(&r);
}

Test(tcp_close, data_after_close_is_reset)
{
	struct rig r = rig_established();

	tcp_close(r.st, r.t, r.now);
	expect_flags(&r, FIN | ACK);
	peer_sends(&r, .flags = ACK, .ack = 1, .len = 10);
	expect_flags(&r, RST);
	cr_assert_eq(rig_seg.seq, 1u);
	cr_assert_eq(r.st->tcbs.in_use, 1u);
	expect_all_free(&r);
}

Test(tcp_close, orphan_in_fin_wait_2_ends_after_a_minute)
{
	struct rig r = rig_established();

	tcp_close(r.st, r.t, r.now);
	expect_flags(&r, FIN | ACK);
	peer_sends(&r, .flags = ACK, .ack = 1);
	advance(&r, SEC(59));
	cr_assert_eq(r.st->tcbs.in_use, 2u);
	advance(&r, SEC(2));
	cr_assert_eq(r.st->tcbs.in_use, 1u);
	cr_assert_eq(r.st->n_orphans, 0u);
}

Test(tcp_close, ten_megabytes_then_close_all_arrive)
{
	struct pair p = pair_new(true, NULL);
	struct tcb *l, *c, *s;
	uint32_t sent = 0, received = 0;
	ptrdiff_t n;

	pair_connect(&p, &l, &c, &s);
	while (sent < 10u << 20) {
		if (app_sends_flags(p.st[0], c, &sent, (10u << 20) - sent, 0, p.now) <= 0)
			pair_advance(&p, 100);
		while (received + 200000 < sent && app_reads_from(p.st[1], s, &received, 1 << 20, p.now) > 0)
			;
	}
	tcp_close(p.st[0], c, p.now);
	while ((n = app_reads_from(p.st[1], s, &received, 1 << 20, p.now)) != 0) {
		cr_assert(n > 0 || n == -EAGAIN);
		pair_advance(&p, 100);
	}
	cr_assert_eq(received, 10u << 20);
	cr_assert_eq(p.st[0]->n_orphans, 1u);
}

Test(tcp_close, shutdown_write_then_read_on)
{
	struct rig r = rig_established();
	struct iovec iov[2];
	int n;

	app_sends(&r, 100);
	cr_assert_eq(tcp_shutdown(r.st, r.t, 1, r.now), 0);
	expect_data(&r, 0, 100);
	cr_assert(rig_seg.flags & FIN);
	cr_assert_eq(tcp_send_begin(r.st, r.t, 10, iov, 2, &n), -EPIPE);
	peer_sends(&r, .flags = ACK, .ack = 101, .len = 50);
	cr_assert_eq(app_reads(&r, 100), 50);
	peer_sends(&r, .flags = FIN | ACK, .seq = 50, .ack = 101);
	cr_assert_eq(app_reads(&r, 100), 0);
	cr_assert_eq(r.st->timewaits.in_use, 1u);
	cr_assert_eq(tcp_poll(r.t) & TCP_EV_HUP, TCP_EV_HUP);
	cr_assert_eq(tcp_shutdown(r.st, r.t, 1, r.now), -ENOTCONN);
	tcp_close(r.st, r.t, r.now);
	cr_assert_eq(r.st->tcbs.in_use, 1u);
}

Test(tcp_close, reset_in_order_ends_with_econnreset_once)
{
	struct rig r = rig_established();

	peer_sends(&r, .flags = ACK, .len = 10);
	expect_ack(&r, 10);
	peer_sends(&r, .flags = RST, .seq = 10);
	cr_assert_eq(events(&r, r.t) & (TCP_EV_ERR | TCP_EV_HUP), TCP_EV_ERR | TCP_EV_HUP);
	cr_assert_eq(app_reads(&r, 100), 10, "what came before is still there");
	cr_assert_eq(app_reads(&r, 100), -ECONNRESET);
	cr_assert_eq(app_reads(&r, 100), 0);
	cr_assert_eq(app_sends(&r, 10), -EPIPE);
}

Test(tcp_close, reset_elsewhere_in_the_window_is_challenged)
{
	struct rig r = rig_established();

	peer_sends(&r, .flags = RST, .seq = 100);
	expect_ack(&r, 0);
	cr_assert_eq(tcp_state(r.t), TCPS_ESTABLISHED);
	peer_sends(&r, .flags = RST, .seq = 100);
	expect_silence(&r); /* twice a second at most */
	peer_sends(&r, .flags = RST, .seq = 200000);
	expect_silence(&r);
	advance(&r, MSEC(600));
	peer_sends(&r, .flags = SYN, .seq = 50);
	expect_ack(&r, 0);
	cr_assert_eq(tcp_state(r.t), TCPS_ESTABLISHED);
}

Test(tcp_close, time_wait_survives_reset_and_yields_to_newer_syn)
{
	struct rig r = rig_established(.ts = true);
	uint32_t iss;

	r.st->ctl.tcp_rfc1337 = 1;
	tcp_close(r.st, r.t, r.now);
	expect_flags(&r, FIN | ACK);
	peer_sends(&r, .flags = FIN | ACK, .ack = 1);
	expect_ack(&r, 1);
	peer_sends(&r, .flags = RST, .seq = 1);
	cr_assert_eq(r.st->timewaits.in_use, 1u);
	r.peer_ts = 6000; /* older: not a new connection */
	peer_syn(&r, SYN, 0, PORT);
	expect_ack(&r, 1);
	cr_assert_eq(r.st->timewaits.in_use, 1u);
	advance(&r, SEC(1));
	r.peer_ts = 9000;
	peer_syn(&r, SYN, 0, PORT);
	expect_flags(&r, SYN | ACK);
	iss = rig_seg.abs_seq;
	cr_assert(seq_gt(iss, r.iss + 65535), "starts behind all of the old connection");
	cr_assert_eq(r.st->timewaits.in_use, 0u);
}

Test(tcp_close, connect_takes_the_place_of_a_time_wait_after_a_second)
{
	struct stack_sysctl ctl;
	struct pair p;
	struct tcb *l, *c, *s;
	struct endpoint ep = { .addr = PEER, .port = PORT };

	stack_sysctl_default(&ctl);
	ctl.ip_local_port_range[0] = ctl.ip_local_port_range[1] = 40000;
	p = pair_new(false, &ctl);
	pair_connect(&p, &l, &c, &s);
	tcp_close(p.st[0], c, p.now);
	pair_settle(&p);
	tcp_close(p.st[1], s, p.now);
	pair_settle(&p);
	cr_assert_eq(p.st[0]->timewaits.in_use, 1u);
	c = tcp_open(p.st[0], 4, 5, p.now);
	cr_assert_eq(tcp_connect(p.st[0], c, &ep, p.now), -EADDRNOTAVAIL);
	pair_advance(&p, MSEC(1100));
	cr_assert_eq(tcp_connect(p.st[0], c, &ep, p.now), -EINPROGRESS);
	pair_settle(&p);
	cr_assert_eq(tcp_state(c), TCPS_ESTABLISHED);
}

Test(tcp_close, both_sides_wrap_the_ports_without_stall)
{
	struct stack_sysctl ctl;
	struct pair p;
	struct tcb *l = NULL;
	struct endpoint ep = { .addr = ipaddr_v4(0), .port = PORT };

	stack_sysctl_default(&ctl);
	ctl.ip_local_port_range[0] = 40000;
	ctl.ip_local_port_range[1] = 40063;
	p = pair_new(false, &ctl);
	l = tcp_open(p.st[1], 4, 1, p.now);
	cr_assert_eq(tcp_bind(p.st[1], l, &ep, p.now), 0);
	cr_assert_eq(tcp_listen(p.st[1], l, 16, p.now), 0);
	ep.addr = PEER;
	for (int i = 0; i < 2000; i++) {
		struct tcb *c = tcp_open(p.st[0], 4, 2, p.now), *s;
		int first = i / 100 % 2;

		cr_assert_eq(tcp_connect(p.st[0], c, &ep, p.now), -EINPROGRESS, "connection %d", i);
		pair_settle(&p);
		cr_assert_eq(tcp_state(c), TCPS_ESTABLISHED, "connection %d", i);
		cr_assert_eq(tcp_accept(p.st[1], l, &s), 0);
		if (first)
			tcp_close(p.st[0], c, p.now);
		else
			tcp_close(p.st[1], s, p.now);
		pair_settle(&p);
		if (first)
			tcp_close(p.st[1], s, p.now);
		else
			tcp_close(p.st[0], c, p.now);
		pair_advance(&p, MSEC(20));
	}
}
