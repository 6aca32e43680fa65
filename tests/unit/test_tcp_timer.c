/* SPDX-License-Identifier: BSD-2-Clause */
/* Keep-alive, and what timers cost */
#include "rig.h"

Test(tcp_timer, keepalive_probes_then_resets)
{
	struct rig r = rig_established();

	tcp_opts(r.t)->keepalive = 1;
	tcp_opts(r.t)->keepidle_s = 60;
	tcp_opts(r.t)->keepintvl_s = 10;
	tcp_opts(r.t)->keepcnt = 3;
	tcp_opt_changed(r.st, r.t, TCP_OPT_KEEPALIVE, r.now);
	advance(&r, SEC(59));
	expect_silence(&r);
	advance(&r, SEC(2));
	expect_ack(&r, 0);
	cr_assert_eq(rig_seg.seq, (uint32_t)-1);
	peer_sends(&r, .flags = ACK); /* it lives */
	advance(&r, SEC(58));
	expect_silence(&r);
	for (int i = 0; i < 3; i++) {
		advance(&r, i ? SEC(10) : SEC(3));
		expect_ack(&r, 0);
	}
	advance(&r, SEC(10));
	expect_flags(&r, RST | ACK);
	cr_assert_eq(tcp_error_take(r.t), ETIMEDOUT);
	cr_assert_eq(tcp_state(r.t), TCPS_CLOSED);
}

Test(tcp_timer, idle_connection_needs_no_time)
{
	struct rig r = rig_established();
	struct stack_event ev;

	app_sends(&r, 100);
	expect_data(&r, 0, 100);
	peer_sends(&r, .flags = ACK, .ack = 100, .len = 10);
	app_reads(&r, 100);
	advance(&r, SEC(5));
	while (take(&r))
		;
	while (stack_event(r.st, &ev))
		;
	advance(&r, SEC(20)); /* it goes to rest */
	cr_assert_eq(stack_deadline(r.st), USEC_NEVER);
	tcp_close(r.st, r.t, r.now);
	cr_assert(take(&r));
	cr_assert_leq(stack_deadline(r.st), r.now + SEC(2));
}

Test(tcp_timer, rto_follows_the_round_trip)
{
	struct rig r = rig_established();

	for (uint32_t i = 0; i < 50; i++) {
		app_sends(&r, 1000);
		expect_data(&r, i * 1000, 1000);
		advance(&r, MSEC(100));
		peer_sends(&r, .flags = ACK, .ack = (i + 1) * 1000);
	}
	cr_assert_geq(r.t->conn->srtt_us >> 3, 99000u);
	cr_assert_leq(r.t->conn->srtt_us >> 3, 101000u);
	cr_assert_geq(r.t->conn->rto_us, 290000u);
	cr_assert_leq(r.t->conn->rto_us, 330000u);
	cr_assert_leq(r.t->conn->min_rtt_us, 100u, "the handshake took no time");
}

Test(tcp_timer, half_a_million_requests_move_the_wheel_rarely)
{
	struct rig r = rig_established();
	unsigned long fired = 0;

	for (uint32_t i = 0; i < 100000; i++) {
		peer_sends(&r, .flags = ACK | PSH, .seq = i * 100, .ack = i * 50, .len = 100);
		cr_assert_eq(app_reads(&r, 1000), 100);
		cr_assert_eq(app_sends(&r, 50), 50);
		while (take(&r))
			;
		r.now += 20;
		while (stack_deadline(r.st) <= r.now) {
			fired++;
			stack_expire(r.st, r.now);
		}
	}
	cr_assert_leq(fired, 200u, "%lu", fired); /* two seconds: each 40 ms, not each request */
	cr_assert_eq(r.t->conn->total_retrans, 0u);
}
