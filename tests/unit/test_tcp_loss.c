/* SPDX-License-Identifier: BSD-2-Clause */
/* Loss recovery: time-outs, duplicate and selective acknowledgments, undo */
#include "rig.h"

static void send_segs(struct rig *r, uint32_t n)
{
	uint32_t at = r->sent;

	while (r->sent < at + n * 1000)
		cr_assert_gt(app_sends(r, at + n * 1000 - r->sent), 0);
	for (uint32_t i = 0; i < n; i++)
		expect_data(r, at + i * 1000, 1000);
	expect_silence(r);
}

/* One sample of round trip, so that RTO is 200 ms and a bit */
static void warm_up(struct rig *r)
{
	app_sends(r, 1000);
	expect_data(r, 0, 1000);
	advance(r, MSEC(10));
	peer_sends(r, .flags = ACK, .ack = 1000);
	expect_silence(r);
}

Test(tcp_loss, timeout_backs_off_and_restarts_from_one_segment)
{
	struct rig r = rig_established();

	warm_up(&r);
	send_segs(&r, 5);
	advance(&r, MSEC(195));
	expect_silence(&r);
	advance(&r, MSEC(70));
	expect_data(&r, 1000, 1000);
	expect_silence(&r);
	cr_assert_eq(r.t->ca_state, TCP_CA_LOSS);
	cr_assert_eq(r.t->cwnd, 1000u);
	advance(&r, MSEC(300));
	expect_silence(&r);
	advance(&r, MSEC(100));
	expect_data(&r, 1000, 1000); /* twice as long */
	peer_sends(&r, .flags = ACK, .ack = 2000);
	expect_data(&r, 2000, 1000);
	expect_data(&r, 3000, 1000); /* slow start */
	expect_silence(&r);
	peer_sends(&r, .flags = ACK, .ack = 6000);
	cr_assert_eq(r.t->ca_state, TCP_CA_OPEN);
	expect_silence(&r);
}

Test(tcp_loss, gives_up_after_retries2_as_linux)
{
	struct rig r = rig_established();
	usec_t start = r.now, gone = 0;

	warm_up(&r);
	send_segs(&r, 1);
	while (!gone && r.now - start < SEC(1200)) {
		advance(&r, SEC(1));
		while (take(&r))
			;
		if (tcp_state(r.t) == TCPS_CLOSED)
			gone = r.now - start;
	}
	cr_assert_geq(gone, SEC(900));
	cr_assert_leq(gone, SEC(1060));
	cr_assert_eq(tcp_error_take(r.t), ETIMEDOUT);
	expect_all_free(&r);
}

Test(tcp_loss, user_timeout_ends_it_in_time)
{
	struct rig r = rig_established();

	tcp_opts(r.t)->user_timeout_ms = 5000;
	tcp_opt_changed(r.st, r.t, TCP_OPT_OTHER, r.now);
	warm_up(&r);
	send_segs(&r, 1);
	advance(&r, MSEC(4900));
	cr_assert_eq(tcp_state(r.t), TCPS_ESTABLISHED);
	advance(&r, MSEC(600));
	cr_assert_eq(tcp_error_take(r.t), ETIMEDOUT);
}

Test(tcp_loss, third_dupack_retransmits_without_sack)
{
	struct rig r = rig_established();

	warm_up(&r);
	send_segs(&r, 8);
	peer_sends(&r, .flags = ACK, .ack = 1000);
	peer_sends(&r, .flags = ACK, .ack = 1000);
	expect_silence(&r);
	peer_sends(&r, .flags = ACK, .ack = 1000);
	expect_data(&r, 1000, 1000);
	expect_silence(&r);
	cr_assert_eq(r.t->ca_state, TCP_CA_RECOVERY);
	cr_assert_lt(r.t->ssthresh, 11000u);
	peer_sends(&r, .flags = ACK, .ack = 4000); /* partial: 4000 is missing too */
	expect_data(&r, 4000, 1000);
	expect_silence(&r);
	peer_sends(&r, .flags = ACK, .ack = 9000);
	cr_assert_eq(r.t->ca_state, TCP_CA_OPEN);
	cr_assert_eq(r.t->cwnd, r.t->ssthresh);
	expect_silence(&r);
}

Test(tcp_loss, window_updates_and_data_are_no_dupacks)
{
	struct rig r = rig_established(.wnd = 20000);

	warm_up(&r);
	send_segs(&r, 8);
	for (uint32_t i = 0; i < 6; i++)
		peer_sends(&r, .flags = ACK, .ack = 1000, .wnd = 30000 + i * 1000);
	for (uint32_t i = 0; i < 6; i++) {
		peer_sends(&r, .flags = ACK, .seq = i * 10, .ack = 1000, .len = 10);
		while (take(&r))
			cr_assert_eq(rig_seg.len, 0u);
	}
	cr_assert_eq(r.t->ca_state, TCP_CA_OPEN);
}

Test(tcp_loss, sack_fills_exactly_the_holes)
{
	struct rig r = rig_established(.sack = true);

	warm_up(&r);
	send_segs(&r, 10); /* 1000..11000; lost: 1000, 4000, 5000 */
	peer_sends(&r, .flags = ACK, .ack = 1000, .sack = { { 2000, 4000 } }, .n_sack = 1);
	expect_silence(&r);
	peer_sends(&r, .flags = ACK, .ack = 1000, .sack = { { 6000, 8000 }, { 2000, 4000 } }, .n_sack = 2);
	expect_data(&r, 1000, 1000);
	peer_sends(&r, .flags = ACK, .ack = 1000, .sack = { { 6000, 9000 }, { 2000, 4000 } }, .n_sack = 2);
	peer_sends(&r, .flags = ACK, .ack = 1000, .sack = { { 6000, 11000 }, { 2000, 4000 } }, .n_sack = 2);
	expect_data(&r, 4000, 1000);
	expect_data(&r, 5000, 1000);
	expect_silence(&r);
	peer_sends(&r, .flags = ACK, .ack = 4000, .sack = { { 6000, 11000 } }, .n_sack = 1);
	expect_silence(&r);
	peer_sends(&r, .flags = ACK, .ack = 11000);
	cr_assert_eq(r.t->ca_state, TCP_CA_OPEN);
	cr_assert_null(r.t->sack);
	cr_assert_eq(r.t->total_retrans, 3u);
}

Test(tcp_loss, sacked_data_is_not_sent_again_after_a_timeout)
{
	struct rig r = rig_established(.sack = true);

	warm_up(&r);
	send_segs(&r, 4); /* 1000 and 3000 lost */
	peer_sends(&r, .flags = ACK, .ack = 1000, .sack = { { 2000, 3000 } }, .n_sack = 1);
	expect_silence(&r);
	advance(&r, MSEC(300));
	expect_data(&r, 1000, 1000);
	peer_sends(&r, .flags = ACK, .ack = 3000);
	expect_data(&r, 3000, 1000);
	expect_data(&r, 4000, 1000);
	expect_silence(&r);
}

Test(tcp_loss, reneging_peer_gets_it_all)
{
	struct rig r = rig_established(.sack = true);

	warm_up(&r);
	send_segs(&r, 4);
	peer_sends(&r, .flags = ACK, .ack = 1000, .sack = { { 2000, 5000 } }, .n_sack = 1);
	expect_data(&r, 1000, 1000);
	peer_sends(&r, .flags = ACK, .ack = 2000); /* and yet 2000..5000 was SACKed */
	advance(&r, MSEC(500));
	expect_data(&r, 2000, 1000);
	peer_sends(&r, .flags = ACK, .ack = 3000);
	expect_data(&r, 3000, 1000);
	expect_data(&r, 4000, 1000);
}

Test(tcp_loss, lost_retransmission_is_found_without_a_timeout)
{
	struct rig r = rig_established(.sack = true);

	warm_up(&r);
	send_segs(&r, 10);
	app_sends(&r, 10000);
	while (take(&r))
		; /* what cwnd lets go beyond */
	for (uint32_t e = 3000; e <= 5000; e += 1000)
		peer_sends(&r, .flags = ACK, .ack = 1000, .sack = { { 2000, e } }, .n_sack = 1);
	expect_data(&r, 1000, 1000); /* and it is lost */
	while (take(&r))
		;
	for (uint32_t e = 6000; e <= 21000; e += 1000) {
		if (seq_gt(e + r.iss + 1, r.t->snd_nxt))
			break;
		peer_sends(&r, .flags = ACK, .ack = 1000, .sack = { { 2000, e } }, .n_sack = 1);
		while (take(&r))
			if (rig_seg.seq == 1000)
				return; /* sent once more */
	}
	cr_assert_fail("the second loss was not seen");
}

Test(tcp_loss, eifel_undoes_a_needless_retransmission)
{
	struct rig r = rig_established(.ts = true, .sack = true);
	uint32_t cwnd, ts[8];

	app_sends(&r, 1000);
	while (take(&r))
		;
	advance(&r, MSEC(10));
	peer_sends(&r, .flags = ACK, .ack = 1000);
	app_sends(&r, 7 * 988);
	for (int i = 0; i < 7; i++) {
		cr_assert(take(&r));
		ts[i] = rig_seg.o.ts_val;
		cr_assert_eq(rig_seg.len, 988u);
	}
	cwnd = r.t->cwnd;
	advance(&r, MSEC(5));
	for (uint32_t i = 2; i < 6; i++)
		peer_sends(&r, .flags = ACK, .ack = 1000, .ts_ecr = ts[0], .sack = { { 1988, 1000 + i * 988 } }, .n_sack = 1);
	cr_assert(take(&r));
	cr_assert_eq(rig_seg.seq, 1000u);
	cr_assert_eq(r.t->ca_state, TCP_CA_RECOVERY);
	while (take(&r))
		;
	/* the original arrives after all, late: the echo is older than the retransmission */
	peer_sends(&r, .flags = ACK, .ack = 1000 + 5 * 988, .ts_ecr = ts[0]);
	cr_assert_eq(r.t->ca_state, TCP_CA_OPEN);
	cr_assert_geq(r.t->cwnd, cwnd);
	cr_assert_gt(r.t->reordering, 3u);
	cr_assert_eq(r.st->cnt[CNT_TcpExtTCPFullUndo], 1u);
}

Test(tcp_loss, impossible_sacks_are_ignored)
{
	struct rig r = rig_established(.sack = true);

	warm_up(&r);
	send_segs(&r, 3);
	peer_sends(&r, .flags = ACK, .ack = 1000, .sack = { { 2000, 90000 }, { 3000, 2000 }, { 5000, 6000 } }, .n_sack = 3);
	cr_assert_null(r.t->sack);
	peer_sends(&r, .flags = ACK, .ack = 90000);
	cr_assert_eq(r.t->snd_una, r.iss + 1 + 1000);
	expect_ack(&r, 0);
}

Test(tcp_loss, sack_flood_stays_bounded_and_right)
{
	struct rig r = rig_established(.sack = true, .wnd = 65535, .wscale = 8);
	uint64_t seed = 9;

	r.peer_wnd = 60000;
	peer_sends(&r, .flags = ACK);
	r.t->cwnd = 4 << 20; /* as if grown */
	tcp_opts(r.t)->sndbuf_bytes = 8 << 20;
	tcp_opts(r.t)->sndbuf_locked = 1;
	while (r.sent < 3u << 20)
		cr_assert_gt(app_sends(&r, 1 << 20), 0);
	while (take(&r))
		;
	for (int i = 0; i < 20000; i++) {
		uint32_t s = 2 + (uint32_t)(rnd(&seed) % (3u << 20));

		peer_sends(&r, .flags = ACK, .ack = 0, .sack = { { s, s + 1 } }, .n_sack = 1);
		if (i % 64 == 0)
			while (take(&r))
				;
	}
	while (take(&r))
		;
	cr_assert_leq(r.t->sacked_bytes, 20000u);
	peer_sends(&r, .flags = ACK, .ack = 3u << 20);
	cr_assert_null(r.t->sack);
	cr_assert_eq(r.t->sacked_bytes, 0u);
}

Test(tcp_loss, slow_start_doubles_and_cubic_grows_less_after_loss)
{
	struct rig r = rig_established(.wscale = 8, .sack = true);
	uint32_t una = 0, before;

	for (int round = 0; round < 3; round++) {
		before = r.t->cwnd;
		while (app_sends(&r, 100000) > 0)
			;
		while (take(&r))
			;
		advance(&r, MSEC(10));
		una = r.t->snd_nxt - r.iss - 1;
		peer_sends(&r, .flags = ACK, .ack = una);
		cr_assert_eq(r.t->cwnd, 2 * before);
	}
	while (app_sends(&r, 100000) > 0)
		;
	while (take(&r))
		;
	before = r.t->cwnd;
	for (uint32_t i = 2; i < 6; i++)
		peer_sends(&r, .flags = ACK, .ack = una, .sack = { { una + 1000, una + i * 1000 } }, .n_sack = 1);
	cr_assert_leq(r.t->ssthresh, before * 7 / 10 + 100);
	cr_assert_geq(r.t->ssthresh, before * 7 / 10 - 1000);
	while (take(&r))
		;
	una = r.t->snd_nxt - r.iss - 1;
	peer_sends(&r, .flags = ACK, .ack = una);
	before = r.t->cwnd;
	while (app_sends(&r, 100000) > 0)
		;
	while (take(&r))
		;
	advance(&r, MSEC(10));
	una = r.t->snd_nxt - r.iss - 1;
	peer_sends(&r, .flags = ACK, .ack = una);
	cr_assert_leq(r.t->cwnd, before + 2000, "congestion avoidance");
}

Test(tcp_loss, path_mtu_shrinks_and_data_goes_again_in_smaller_pieces)
{
	struct rig r = rig_established(.smss = 1460);
	struct ip_error e = { .src = US, .dst = PEER, .sport = PORT, .dport = PEERPORT, .type = 3, .code = 4, .mtu = 1000 };

	app_sends(&r, 1460);
	expect_data(&r, 0, 1460);
	e.seq = r.iss + 1 + 5000;
	tcp_icmp_error(r.st, &e, r.now);
	expect_silence(&r); /* not in flight: forged */
	e.seq = r.iss + 1;
	tcp_icmp_error(r.st, &e, r.now);
	expect_data(&r, 0, 960);
	expect_data(&r, 960, 500);
	e.mtu = 68;
	tcp_icmp_error(r.st, &e, r.now);
	cr_assert_eq(r.t->snd_mss, 512u, "not below 552 octets");
}
