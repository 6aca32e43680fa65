/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_tcp_size.c - what a connection holds when nothing happens, and that it forgets nothing then
 *
 * Slots count with their headers, and what host/ keeps for a connection counts as well: its open file, its place in one
 * epoll set, its number.
 */
#include "../../host/host.h"
#include "rig.h"

#define CONNS 1000u

static void drain(struct rig *r)
{
	struct stack_event ev;

	while (take(r))
		;
	while (stack_event(r->st, &ev))
		;
}

/* Ten seconds in which nothing happens */
static void idle(struct rig *r)
{
	drain(r);
	advance(r, SEC(10));
	drain(r);
}

static uint64_t held(const struct stack *st)
{
	const struct slab *slabs[] = { &st->tcbs, &st->awake, &st->requests, &st->timewaits, &st->opts_rows, &st->ports.classes };
	uint64_t sum = st->pools.held_bytes + (uint64_t)(st->conns.mask + 1 + st->conns.split) * sizeof(void *);

	for (size_t i = 0; i < sizeof(slabs) / sizeof(slabs[0]); i++)
		sum += (uint64_t)slabs[i]->in_use * slabs[i]->stride_bytes;
	return sum;
}

#define HOST_BYTES (sizeof(struct file) + sizeof(struct watch) + 2 * sizeof(struct slab_hdr) + sizeof(struct fdent))

Test(tcp_size, idle_connection_holds_at_most_640_octets)
{
	struct stack_sysctl ctl;

	stack_sysctl_default(&ctl);
	for (uint8_t cc = 0; tcp_cc_name(cc); cc++) {
		struct rig r;
		uint64_t per;

		ctl.tcp_congestion = cc;
		r = rig_established(.smss = 1000, .sack = true, .ts = true, .ctl = &ctl);
		for (uint32_t i = 1; i < CONNS; i++) {
			struct tcb *t;

			r.peer_port = (uint16_t)(PEERPORT - 10000 + i);
			r.iss = 0;
			peer_syn(&r, SYN, 0, PORT);
			cr_assert(take(&r));
			r.iss = rig_seg.abs_seq;
			peer_sends(&r, .flags = ACK);
			cr_assert_eq(tcp_accept(r.st, r.l, &t), 0);
			tcp_set_user(t, 100 + i);
			cr_assert_eq(tcp_ready(r.st, t, r.now), 0);
			tcp_opts(t)->nodelay = 1;
			tcp_opt_changed(r.st, t, TCP_OPT_NODELAY, r.now);
			peer_sends(&r, .flags = ACK | PSH, .len = 300);
			r.received = 0;
			cr_assert_eq(app_reads_from(r.st, t, &r.received, 400, r.now), 300);
			r.sent = 0;
			cr_assert_eq(app_sends_flags(r.st, t, &r.sent, 3000, 0, r.now), 3000);
			drain(&r);
			peer_sends(&r, .flags = ACK, .seq = 300, .ack = 3000);
			drain(&r);
		}
		idle(&r);
		cr_assert_eq(r.st->tcbs.in_use, CONNS + 1);
		cr_expect_eq(r.st->awake.in_use, 1u, "%s: only the listener is awake, not %u", tcp_cc_name(cc), r.st->awake.in_use);
		cr_expect_eq(r.st->pools.held_bytes, 0u);
		per = (held(r.st) - r.st->awake.stride_bytes) / CONNS + HOST_BYTES;
		cr_expect_leq(per, 640u, "%s: %lu octets", tcp_cc_name(cc), per);
	}
}

Test(tcp_size, half_open_and_time_wait)
{
	struct rig r = rig_new();

	cr_expect_leq(r.st->requests.stride_bytes, 128u);
	cr_expect_leq(r.st->timewaits.stride_bytes, 96u);
}

Test(tcp_size, idle_connection_holds_no_cell)
{
	struct rig r = rig_established(.smss = 1000, .sack = true);

	peer_sends(&r, .flags = ACK | PSH, .len = 5000);
	peer_sends(&r, .flags = ACK | PSH, .seq = 8000, .len = 1000); /* a table of ranges is made, */
	peer_sends(&r, .flags = ACK | PSH, .seq = 5000, .len = 3000); /* and not needed any more */
	cr_assert_eq(app_reads(&r, 9000), 9000);
	app_sends(&r, 3000);
	while (take(&r))
		;
	cr_assert_gt(r.st->pools.held_bytes, 0u);
	peer_sends(&r, .flags = ACK, .seq = 9000, .ack = 3000);
	while (take(&r))
		;
	expect_all_free(&r);
}

Test(tcp_size, time_wait_takes_the_place_of_the_connection)
{
	struct rig r = rig_established(.smss = 1000);

	tcp_close(r.st, r.t, r.now);
	expect_flags(&r, FIN | ACK);
	peer_sends(&r, .flags = FIN | ACK, .ack = 1);
	cr_assert_eq(r.st->timewaits.in_use, 1u);
	cr_assert_eq(r.st->tcbs.in_use, 1u, "only the listener");
	cr_assert_eq(r.st->pools.held_bytes, 0u);
}

/* All that TCP_INFO shows, but for what is measured at the moment of asking */
static void expect_same_info(const struct tcp_info_view *a, const struct tcp_info_view *b)
{
	struct tcp_info_view x = *a, y = *b;

	x.pacing_rate = y.pacing_rate = x.delivery_rate = y.delivery_rate = 0;
	x.delivery_rate_app_limited = y.delivery_rate_app_limited = 0;
	cr_expect_arr_eq((char *)&x, (char *)&y, sizeof(x));
}

Test(tcp_size, nothing_is_forgotten_at_rest)
{
	struct stack_sysctl ctl;

	stack_sysctl_default(&ctl);
	for (uint8_t cc = 0; tcp_cc_name(cc); cc++) {
		struct tcp_info_view before, resting, after;
		struct endpoint ep;
		struct rig r;

		ctl.tcp_congestion = cc;
		r = rig_established(.smss = 1000, .sack = true, .ts = true, .wscale = 3, .ctl = &ctl);
		app_sends(&r, 20000);
		drain(&r);
		advance(&r, MSEC(30));
		peer_sends(&r, .flags = ACK | PSH, .ack = 10000, .len = 700);
		drain(&r);
		peer_sends(&r, .flags = ACK, .seq = 700, .ack = r.sent);
		cr_assert_eq(app_reads(&r, 1000), 700);
		drain(&r);
		advance(&r, MSEC(500));
		drain(&r);
		cr_assert_not_null(r.t->conn);
		tcp_info(r.st, r.t, &before);
		idle(&r);
		cr_assert_null(r.t->conn);
		tcp_info(r.st, r.t, &resting);
		expect_same_info(&before, &resting);
		cr_expect_eq(tcp_poll(r.t), (uint32_t)(TCP_EV_OUT | TCP_EV_WRNORM));
		cr_expect_eq(tcp_state(r.t), TCPS_ESTABLISHED);
		cr_expect_eq(tcp_peer(r.t, &ep), 0);
		cr_expect_eq(ep.port, PEERPORT);
		cr_expect_eq(app_reads(&r, 10), -EAGAIN);
		cr_expect_null(r.t->conn, "looking wakes nobody");
		cr_assert_eq(tcp_ready(r.st, r.t, r.now), 0);
		tcp_info(r.st, r.t, &after);
		expect_same_info(&before, &after);
		app_sends(&r, 900);
		expect_data(&r, 20000, 900);
		cr_expect_eq(rig_seg.ack, 700u);
		peer_sends(&r, .flags = ACK | PSH, .seq = 700, .ack = 20900, .len = 100);
		cr_expect_eq(app_reads(&r, 1000), 100);
	}
}

Test(tcp_size, segment_wakes_and_end_of_stream_rests_too)
{
	struct rig r = rig_established(.smss = 1000);

	idle(&r);
	cr_assert_null(r.t->conn);
	peer_sends(&r, .flags = FIN | ACK);
	cr_assert_not_null(r.t->conn);
	expect_ack(&r, 1);
	idle(&r);
	cr_assert_null(r.t->conn, "CLOSE_WAIT rests");
	cr_expect_eq(tcp_state(r.t), TCPS_CLOSE_WAIT);
	cr_expect(tcp_poll(r.t) & TCP_EV_RDHUP);
	cr_expect_eq(app_reads(&r, 10), 0);
	tcp_close(r.st, r.t, r.now);
	expect_flags(&r, FIN | ACK);
	peer_sends(&r, .flags = ACK, .seq = 1, .ack = 1);
	cr_expect_eq(r.st->tcbs.in_use, 1u);
	cr_expect_eq(r.st->awake.in_use, 1u);
}

Test(tcp_size, keepalive_goes_on_at_rest)
{
	struct rig r = rig_established(.smss = 1000);

	tcp_opts(r.t)->keepalive = 1;
	tcp_opts(r.t)->keepidle_s = 100;
	tcp_opts(r.t)->keepintvl_s = 5;
	tcp_opts(r.t)->keepcnt = 2;
	tcp_opt_changed(r.st, r.t, TCP_OPT_KEEPALIVE, r.now);
	idle(&r);
	cr_assert_null(r.t->conn);
	advance(&r, SEC(89));
	expect_silence(&r);
	advance(&r, SEC(2));
	expect_ack(&r, 0);
	cr_expect_eq(rig_seg.seq, (uint32_t)-1);
	peer_sends(&r, .flags = ACK);
	idle(&r);
	cr_assert_null(r.t->conn, "answered: back to rest");
	advance(&r, SEC(120));
	cr_expect_eq(tcp_error_take(r.t), ETIMEDOUT);
}

Test(tcp_size, no_memory_to_wake_up)
{
	struct rig r = rig_established(.smss = 1000);
	struct iovec iov[2];
	int n;

	idle(&r);
	cr_assert_null(r.t->conn);
	r.st->awake.limit = r.st->awake.in_use;
	cr_expect_eq(tcp_send_begin(r.st, r.t, 100, iov, 2, &n), -ENOBUFS);
	cr_expect_eq(tcp_shutdown(r.st, r.t, 1, r.now), -ENOBUFS);
	cr_expect_eq(tcp_ready(r.st, r.t, r.now), -ENOBUFS);
	peer_sends(&r, .flags = ACK | PSH, .len = 10);
	expect_silence(&r);
	cr_expect_eq(r.st->drops[DROP_NO_MEMORY], 1u);
	r.st->awake.limit = 0;
	peer_sends(&r, .flags = ACK | PSH, .len = 10);
	cr_expect_eq(app_reads(&r, 100), 10, "the peer sent it again");
	idle(&r);
	r.st->awake.limit = r.st->awake.in_use;
	tcp_close(r.st, r.t, r.now);
	expect_flags(&r, RST | ACK);
	cr_expect_eq(r.st->tcbs.in_use, 1u);
	cr_expect_eq(r.st->opts_rows.in_use, 0u);
	cr_expect_eq(r.st->conns.count, 0u);
	cr_expect_eq(stack_live(r.st), 0u);
}

Test(tcp_size, buffers_that_grew_do_not_keep_options_apart)
{
	struct rig r = rig_established(.smss = 1000);
	struct tcb *first = r.t;

	r.peer_port = PEERPORT + 1;
	peer_syn(&r, SYN, 0, PORT);
	cr_assert(take(&r));
	r.iss = rig_seg.abs_seq;
	peer_sends(&r, .flags = ACK);
	cr_assert_eq(tcp_accept(r.st, r.l, &r.t), 0);
	r.t->conn->opts.rcvbuf_bytes += 5000;
	idle(&r);
	cr_assert_null(r.t->conn);
	cr_assert_null(first->conn);
	cr_expect_eq(r.st->opts_rows.in_use, 1u);
	cr_expect_eq(tcp_rcvbuf(r.t), tcp_rcvbuf(first) + 5000);
	cr_assert_eq(tcp_ready(r.st, r.t, r.now), 0);
	cr_expect_eq(tcp_opts(r.t)->rcvbuf_bytes, tcp_rcvbuf(first) + 5000);
}
