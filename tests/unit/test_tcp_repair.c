/* SPDX-License-Identifier: BSD-2-Clause */
/* After a death inside the lock: what is not being changed goes on, what is gets reset */
#include "rig.h"

Test(tcp_repair, untouched_connection_goes_on)
{
	struct rig r = rig_established(.sack = true);

	app_sends(&r, 3000);
	for (uint32_t i = 0; i < 3; i++)
		expect_data(&r, i * 1000, 1000);
	app_sends(&r, 100);
	peer_sends(&r, .flags = ACK, .seq = 0, .len = 500);
	peer_sends(&r, .flags = ACK, .seq = 1000, .len = 500);
	while (take(&r))
		;
	stack_touch_clear(r.st);
	stack_repair(r.st, 0, r.now);
	cr_assert_eq(tcp_state(r.t), TCPS_ESTABLISHED);
	peer_sends(&r, .flags = ACK, .seq = 500, .len = 500, .ack = 3100);
	expect_ack(&r, 1500);
	cr_assert_eq(app_reads(&r, 9000), 1500);
	cr_assert_eq(r.st->pools.held_bytes, 0u);
	advance(&r, SEC(10));
	expect_silence(&r);
	app_sends(&r, 500);
	expect_data(&r, 3100, 500);
	advance(&r, MSEC(500));
	expect_data(&r, 3100, 500); /* its timer runs */
}

Test(tcp_repair, touched_connection_is_reset_and_told)
{
	struct rig r = rig_established();

	app_sends(&r, 3000);
	peer_sends(&r, .flags = ACK, .len = 10);
	stack_repair(r.st, 0, r.now);
	expect_flags(&r, RST | ACK);
	cr_assert_eq(tcp_poll(r.t) & (TCP_EV_ERR | TCP_EV_HUP), TCP_EV_ERR | TCP_EV_HUP);
	cr_assert_eq(tcp_error_take(r.t), ECONNRESET);
	cr_assert_eq(r.st->pools.held_bytes, 0u);
	tcp_close(r.st, r.t, r.now);
	stack_touch_clear(r.st);
	cr_assert_eq(r.st->tcbs.in_use, 1u);
}

Test(tcp_repair, listener_request_queue_and_time_wait_come_back)
{
	struct rig r = rig_established();
	struct tcb *t;
	uint32_t iss;

	tcp_close(r.st, r.t, r.now);
	expect_flags(&r, FIN | ACK);
	peer_sends(&r, .flags = FIN | ACK, .ack = 1);
	expect_ack(&r, 1);
	r.peer_port = 1001; /* accepted by nobody yet */
	peer_syn(&r, SYN, 0, PORT);
	cr_assert(take(&r));
	r.iss = rig_seg.abs_seq;
	peer_sends(&r, .flags = ACK);
	r.peer_port = 1002; /* half open */
	peer_syn(&r, SYN, 0, PORT);
	cr_assert(take(&r));
	iss = rig_seg.abs_seq;
	r.st->touching[0] = slab_index(&r.st->tcbs, r.l);
	r.st->touching[1] = 0;
	stack_repair(r.st, 0, r.now);
	stack_touch_clear(r.st);
	expect_silence(&r);
	cr_assert_eq(r.l->conn->l.n_acc, 1u);
	cr_assert_eq(r.l->conn->l.n_reqs, 1u);
	cr_assert_eq(r.st->timewaits.in_use, 1u);
	cr_assert_eq(stack_live(r.st), 2u);
	r.iss = iss;
	peer_sends(&r, .flags = ACK);
	cr_assert_eq(r.l->conn->l.n_acc, 2u);
	cr_assert_eq(tcp_accept(r.st, r.l, &t), 0);
	cr_assert_eq(tcp_accept(r.st, r.l, &t), 0);
	advance(&r, SEC(61));
	cr_assert_eq(r.st->timewaits.in_use, 0u);
	{
		struct endpoint ep = { .addr = ipaddr_v4(0), .port = PORT };

		cr_assert_eq(tcp_bind(r.st, tcp_open(r.st, 4, 1, r.now), &ep, r.now), -EADDRINUSE, "ports came back");
	}
}

/* or a host on which processes die again and again would keep them for ever */
Test(tcp_repair, time_wait_ends_when_it_would_have_ended)
{
	struct rig r = rig_established();

	tcp_close(r.st, r.t, r.now);
	expect_flags(&r, FIN | ACK);
	peer_sends(&r, .flags = FIN | ACK, .ack = 1);
	expect_ack(&r, 1);
	for (int k = 0; k < 4; k++) {
		cr_assert_eq(r.st->timewaits.in_use, 1u);
		advance(&r, SEC(10));
		stack_touch_clear(r.st);
		stack_repair(r.st, 0, r.now);
	}
	cr_assert_eq(r.st->timewaits.in_use, 1u);
	advance(&r, SEC(22));
	cr_assert_eq(r.st->timewaits.in_use, 0u);
}

Test(tcp_repair, orphan_finishes_its_work)
{
	struct rig r = rig_established();

	app_sends(&r, 500);
	tcp_close(r.st, r.t, r.now);
	stack_touch_clear(r.st);
	stack_repair(r.st, 0, r.now);
	expect_data(&r, 0, 500);
	cr_assert(rig_seg.flags & FIN);
	cr_assert_eq(r.st->n_orphans, 1u);
	peer_sends(&r, .flags = FIN | ACK, .ack = 501);
	expect_ack(&r, 1);
	cr_assert_eq(r.st->n_orphans, 0u);
	cr_assert_eq(r.st->tcbs.in_use, 1u);
}

/* Died while it went to rest, or woke up: one store decides which it is */
Test(tcp_repair, rest_survives_and_half_made_is_freed)
{
	struct rig r = rig_established();
	struct stack_event ev;
	struct tcb *s;

	tcp_opts(r.t)->keepalive = 1;
	tcp_opt_changed(r.st, r.t, TCP_OPT_KEEPALIVE, r.now);
	while (stack_event(r.st, &ev))
		;
	advance(&r, SEC(5));
	cr_assert_null(r.t->conn);
	r.t->rest.opts->refs = 7; /* died before it took its reference back */
	cr_assert_not_null(slab_alloc(&r.st->awake)); /* before it was filled in */
	s = slab_alloc(&r.st->tcbs); /* a socket without a connection yet */
	cr_assert_not_null(s);
	r.st->touching[0] = slab_index(&r.st->tcbs, r.t);
	stack_repair(r.st, 0, r.now);
	expect_silence(&r);
	cr_expect_eq(r.st->awake.in_use, 1u, "the listener's");
	cr_expect_eq(r.st->tcbs.in_use, 2u);
	cr_expect_eq(r.t->rest.opts->refs, 1u);
	cr_expect_eq(r.st->opts_tab.count, 1u);
	cr_expect_eq(stack_live(r.st), 1u);
	peer_sends(&r, .flags = ACK | PSH, .len = 100);
	cr_expect_eq(app_reads(&r, 200), 100);
	cr_expect_eq(r.st->opts_rows.in_use, 0u);
	while (take(&r))
		;
	while (stack_event(r.st, &ev))
		;
	advance(&r, SEC(60));
	cr_assert_null(r.t->conn);
	stack_repair(r.st, 0, r.now);
	advance(&r, SEC(7200));
	cr_expect_not_null(r.t->conn, "its keep-alive came back");
	tcp_close(r.st, r.t, r.now);
	cr_expect_eq(r.st->n_orphans, 1u);
}
