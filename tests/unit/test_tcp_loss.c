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

/* Samples of a round trip of 10 ms (the handshake took no time at all), so that RTO is 200 ms and a bit */
static void warm_up(struct rig *r)
{
	app_sends(r, 1000);
	expect_data(r, 0, 1000);
	advance(r, MSEC(10));
	r->t->conn->srtt_us = r->t->conn->min_rtt_us = 0;
	peer_sends(r, .flags = ACK, .ack = 1000);
	expect_silence(r);
	cr_assert_eq(r->t->conn->min_rtt_us, 10000u);
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
	cr_assert_eq(r.t->conn->ca_state, TCP_CA_LOSS);
	cr_assert_eq(r.t->conn->cwnd, 1000u);
	advance(&r, MSEC(300));
	expect_silence(&r);
	advance(&r, MSEC(100));
	expect_data(&r, 1000, 1000); /* twice as long */
	peer_sends(&r, .flags = ACK, .ack = 2000);
	expect_data(&r, 2000, 1000);
	expect_data(&r, 3000, 1000); /* slow start */
	expect_silence(&r);
	peer_sends(&r, .flags = ACK, .ack = 6000);
	cr_assert_eq(r.t->conn->ca_state, TCP_CA_OPEN);
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
	cr_assert_eq(r.t->conn->ca_state, TCP_CA_RECOVERY);
	cr_assert_lt(r.t->conn->ssthresh, 11000u);
	peer_sends(&r, .flags = ACK, .ack = 4000); /* partial: 4000 is missing too */
	expect_data(&r, 4000, 1000);
	expect_silence(&r);
	peer_sends(&r, .flags = ACK, .ack = 9000);
	cr_assert_eq(r.t->conn->ca_state, TCP_CA_OPEN);
	cr_assert_eq(r.t->conn->cwnd, r.t->conn->ssthresh);
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
	cr_assert_eq(r.t->conn->ca_state, TCP_CA_OPEN);
}

Test(tcp_loss, sack_fills_exactly_the_holes)
{
	struct rig r = rig_established(.sack = true);

	warm_up(&r);
	send_segs(&r, 10); /* 1000..11000; lost: 1000, 4000, 5000 */
	advance(&r, MSEC(10));
	peer_sends(&r, .flags = ACK, .ack = 1000, .sack = { { 2000, 4000 } }, .n_sack = 1);
	expect_silence(&r);
	peer_sends(&r, .flags = ACK, .ack = 1000, .sack = { { 6000, 8000 }, { 2000, 4000 } }, .n_sack = 2);
	expect_data(&r, 1000, 1000);
	expect_data(&r, 4000, 1000);
	expect_silence(&r); /* two were delivered */
	peer_sends(&r, .flags = ACK, .ack = 1000, .sack = { { 6000, 9000 }, { 2000, 4000 } }, .n_sack = 2);
	expect_data(&r, 5000, 1000);
	peer_sends(&r, .flags = ACK, .ack = 1000, .sack = { { 6000, 11000 }, { 2000, 4000 } }, .n_sack = 2);
	expect_silence(&r);
	peer_sends(&r, .flags = ACK, .ack = 4000, .sack = { { 6000, 11000 } }, .n_sack = 1);
	expect_silence(&r);
	peer_sends(&r, .flags = ACK, .ack = 11000);
	cr_assert_eq(r.t->conn->ca_state, TCP_CA_OPEN);
	cr_assert_null(r.t->conn->sack);
	cr_assert_eq(r.t->conn->total_retrans, 3u);
}

Test(tcp_loss, sacked_data_is_not_sent_again_after_a_timeout)
{
	struct rig r = rig_established(.sack = true);

	warm_up(&r);
	send_segs(&r, 4); /* 1000 and 3000 lost, and 1000 once more */
	advance(&r, MSEC(10));
	peer_sends(&r, .flags = ACK, .ack = 1000, .sack = { { 2000, 3000 } }, .n_sack = 1);
	expect_silence(&r);
	advance(&r, MSEC(5));
	expect_data(&r, 1000, 1000);
	expect_silence(&r);
	advance(&r, MSEC(295));
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
		if (seq_gt(e + r.iss + 1, r.t->conn->snd_nxt))
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
	cwnd = r.t->conn->cwnd;
	advance(&r, MSEC(5));
	for (uint32_t i = 2; i < 6; i++)
		peer_sends(&r, .flags = ACK, .ack = 1000, .ts_ecr = ts[0], .sack = { { 1988, 1000 + i * 988 } }, .n_sack = 1);
	cr_assert(take(&r));
	cr_assert_eq(rig_seg.seq, 1000u);
	cr_assert_eq(r.t->conn->ca_state, TCP_CA_RECOVERY);
	while (take(&r))
		;
	/* the original arrives after all, late: the echo is older than the retransmission */
	peer_sends(&r, .flags = ACK, .ack = 1000 + 5 * 988, .ts_ecr = ts[0]);
	cr_assert_eq(r.t->conn->ca_state, TCP_CA_OPEN);
	cr_assert_geq(r.t->conn->cwnd, cwnd);
	cr_assert_gt(r.t->conn->reordering, 3u);
	cr_assert_eq(r.st->cnt[CNT_TcpExtTCPPartialUndo], 1u);
}

Test(tcp_loss, impossible_sacks_are_ignored)
{
	struct rig r = rig_established(.sack = true);

	warm_up(&r);
	send_segs(&r, 3);
	peer_sends(&r, .flags = ACK, .ack = 1000, .sack = { { 2000, 90000 }, { 3000, 2000 }, { 5000, 6000 } }, .n_sack = 3);
	cr_assert_null(r.t->conn->sack);
	peer_sends(&r, .flags = ACK, .ack = 90000);
	cr_assert_eq(r.t->conn->snd_una, r.iss + 1 + 1000);
	expect_ack(&r, 0);
}

Test(tcp_loss, sack_flood_stays_bounded_and_right)
{
	struct rig r = rig_established(.sack = true, .wnd = 65535, .wscale = 8);
	uint64_t seed = 9;

	r.peer_wnd = 60000;
	peer_sends(&r, .flags = ACK);
	r.t->conn->cwnd = 4 << 20; /* as if grown */
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
	cr_assert_leq(r.t->conn->sacked_bytes, 20000u);
	peer_sends(&r, .flags = ACK, .ack = 3u << 20);
	cr_assert_null(r.t->conn->sack);
	cr_assert_eq(r.t->conn->sacked_bytes, 0u);
}

Test(tcp_loss, slow_start_doubles_and_cubic_grows_less_after_loss)
{
	struct rig r = rig_established(.wscale = 8, .sack = true);
	uint32_t una = 0, before;

	warm_up(&r);
	r.t->conn->cwnd = 10000;
	for (int round = 0; round < 3; round++) {
		before = r.t->conn->cwnd;
		while (app_sends(&r, 100000) > 0)
			;
		while (take(&r))
			;
		advance(&r, MSEC(10));
		una = r.t->conn->snd_nxt - r.iss - 1;
		peer_sends(&r, .flags = ACK, .ack = una);
		cr_assert_eq(r.t->conn->cwnd, 2 * before);
	}
	while (app_sends(&r, 100000) > 0)
		;
	while (take(&r))
		;
	before = r.t->conn->cwnd;
	for (uint32_t i = 2; i < 6; i++)
		peer_sends(&r, .flags = ACK, .ack = una, .sack = { { una + 1000, una + i * 1000 } }, .n_sack = 1);
	cr_assert_leq(r.t->conn->ssthresh, before * 7 / 10 + 100);
	cr_assert_geq(r.t->conn->ssthresh, before * 7 / 10 - 1000);
	while (take(&r))
		;
	una = r.t->conn->snd_nxt - r.iss - 1;
	peer_sends(&r, .flags = ACK, .ack = una);
	before = r.t->conn->cwnd;
	while (app_sends(&r, 100000) > 0)
		;
	while (take(&r))
		;
	advance(&r, MSEC(10));
	una = r.t->conn->snd_nxt - r.iss - 1;
	peer_sends(&r, .flags = ACK, .ack = una);
	cr_assert_leq(r.t->conn->cwnd, before + 2000, "congestion avoidance");
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
	cr_assert_eq(r.t->conn->snd_mss, 512u, "not below 552 octets");
}

/* ---- RACK-TLP (RFC 8985) ---- */

Test(tcp_rack, one_sack_and_a_quarter_of_the_round_trip_is_enough)
{
	struct rig r = rig_established(.sack = true);

	warm_up(&r);
	send_segs(&r, 2);
	advance(&r, MSEC(10));
	peer_sends(&r, .flags = ACK, .ack = 1000, .sack = { { 2000, 3000 } }, .n_sack = 1);
	expect_silence(&r);
	advance(&r, 2400);
	expect_silence(&r);
	advance(&r, 200);
	expect_data(&r, 1000, 1000);
	cr_assert_eq(r.t->conn->ca_state, TCP_CA_RECOVERY);
	cr_assert_eq(r.st->cnt[CNT_TcpExtTCPSackRecovery], 1u);
}

Test(tcp_rack, late_segment_within_the_window_is_not_lost)
{
	struct rig r = rig_established(.sack = true);
	uint32_t cwnd;

	warm_up(&r);
	send_segs(&r, 2);
	cwnd = r.t->conn->cwnd;
	advance(&r, MSEC(10));
	peer_sends(&r, .flags = ACK, .ack = 1000, .sack = { { 2000, 3000 } }, .n_sack = 1);
	advance(&r, MSEC(2));
	peer_sends(&r, .flags = ACK, .ack = 3000);
	advance(&r, MSEC(500));
	expect_silence(&r);
	cr_assert_geq(r.t->conn->cwnd, cwnd);
	cr_assert_eq(r.st->cnt[CNT_TcpExtTCPSACKReorder], 1u);
	/* once order is known to be bad, three SACKed segments do not shorten the wait */
	send_segs(&r, 5);
	advance(&r, MSEC(10));
	peer_sends(&r, .flags = ACK, .ack = 3000, .sack = { { 4000, 8000 } }, .n_sack = 1);
	expect_silence(&r);
	advance(&r, MSEC(4));
	expect_data(&r, 3000, 1000);
}

Test(tcp_rack, needless_retransmissions_widen_the_window)
{
	struct rig r = rig_established(.sack = true);

	warm_up(&r);
	for (uint32_t una = 1000, round = 0; round < 3; round++, una += 5000) {
		usec_t wait = 2500 * (round + 1);

		send_segs(&r, 5);
		advance(&r, MSEC(10));
		peer_sends(&r, .flags = ACK, .ack = una, .sack = { { una + 1000, una + 5000 } }, .n_sack = 1);
		if (round > 0) {
			advance(&r, wait - 100);
			expect_silence(&r);
			advance(&r, 1000);
		}
		expect_data(&r, una, 1000);
		advance(&r, MSEC(1));
		peer_sends(&r, .flags = ACK, .ack = una + 5000);
		advance(&r, MSEC(9)); /* the second copy */
		if (round == 0)
			r.t->conn->reord_seen = 1; /* D-SACKs count once order is known to be bad */
		peer_sends(&r, .flags = ACK, .ack = una + 5000, .sack = { { una, una + 1000 } }, .n_sack = 1);
		cr_assert_eq(r.st->cnt[CNT_TcpExtTCPDSACKUndo], round + 1);
		cr_assert_eq(r.t->conn->reo_mult, round + 2u);
	}
}

Test(tcp_rack, lost_retransmission_is_found_by_its_time)
{
	struct rig r = rig_established(.sack = true);

	warm_up(&r);
	send_segs(&r, 8); /* 1000 is lost, and once more; each round trip brings new data */
	advance(&r, MSEC(10));
	peer_sends(&r, .flags = ACK, .ack = 1000, .sack = { { 2000, 6000 } }, .n_sack = 1);
	expect_data(&r, 1000, 1000);
	app_sends(&r, 20000);
	advance(&r, MSEC(1));
	peer_sends(&r, .flags = ACK, .ack = 1000, .sack = { { 2000, 9000 } }, .n_sack = 1);
	expect_data(&r, 9000, 1000); /* sent after it */
	while (take(&r))
		;
	advance(&r, MSEC(10));
	peer_sends(&r, .flags = ACK, .ack = 1000, .sack = { { 2000, 10000 } }, .n_sack = 1);
	expect_data(&r, 1000, 1000);
	cr_assert_eq(r.st->cnt[CNT_TcpExtTCPLostRetransmit], 1u);
	cr_assert_eq(r.st->cnt[CNT_TcpExtTCPTimeouts], 0u);
}

Test(tcp_rack, many_holes_are_each_sent_once)
{
	struct rig r = rig_established(.sack = true, .wnd = 65535, .wscale = 8);
	uint8_t sent[2001] = { 0 };
	uint32_t n = 0;

	warm_up(&r);
	r.t->conn->cwnd = 4 << 20;
	tcp_opts(r.t)->sndbuf_bytes = 8 << 20;
	tcp_opts(r.t)->sndbuf_locked = 1;
	for (int i = 0; i < 2000; i++) {
		app_sends(&r, 1000);
		while (take(&r))
			;
		r.now += 37; /* each with a time of its own */
	}
	for (uint32_t i = 1; i <= 2000; i += 2) { /* odd ones arrive */
		peer_sends(&r, .flags = ACK, .ack = 1000, .sack = { { (i + 1) * 1000, (i + 2) * 1000 } }, .n_sack = 1);
		r.now += 74;
		while (take(&r)) {
			cr_assert_eq(rig_seg.seq % 2000, 1000u, "%u was SACKed", rig_seg.seq);
			cr_assert_eq(sent[rig_seg.seq / 1000]++, 0);
			n++;
		}
	}
	for (int i = 0; i < 5; i++) {
		advance(&r, MSEC(20));
		while (take(&r))
			;
	}
	cr_assert_geq(n, 300u); /* PRR halves what leaves at most */
	peer_sends(&r, .flags = ACK, .ack = 2001000);
	cr_assert_null(r.t->conn->txlog);
	cr_assert_null(r.t->conn->rxlog);
	cr_assert_eq(r.t->conn->rexmt_bytes, 0u);
	expect_silence(&r);
	expect_all_free(&r);
}

Test(tcp_rack, logs_survive_want_of_memory)
{
	struct rig r = rig_established(.sack = true);

	warm_up(&r);
	r.t->conn->cwnd = 20000;
	for (int i = 0; i < 12; i++) {
		app_sends(&r, 1000);
		if (i == 2)
			r.st->pools.limit_bytes = 0; /* from now on no cell */
		if (i == 3)
			r.st->pools.limit_bytes = UINT64_MAX / 2;
		while (take(&r))
			;
		r.st->pools.limit_bytes = i >= 3 ? UINT64_MAX / 2 : r.st->pools.limit_bytes;
		r.now += 1000;
	}
	peer_sends(&r, .flags = ACK, .ack = 1000, .sack = { { 2000, 3000 }, { 4000, 5000 }, { 6000, 8000 } }, .n_sack = 3);
	r.st->pools.limit_bytes = 0;
	for (int i = 0; i < 40; i++) {
		advance(&r, MSEC(50));
		while (take(&r))
			;
	}
	r.st->pools.limit_bytes = UINT64_MAX / 2;
	peer_sends(&r, .flags = ACK, .ack = r.t->conn->snd_nxt - r.iss - 1);
	cr_assert_eq(r.t->conn->rexmt_bytes, 0u);
	cr_assert_eq(r.t->conn->rx_n, 0u);
	expect_all_free(&r);
}

Test(tcp_tlp, tail_is_probed_after_two_round_trips)
{
	struct rig r = rig_established(.sack = true);
	uint32_t cwnd;

	warm_up(&r);
	send_segs(&r, 4);
	cwnd = r.t->conn->cwnd;
	advance(&r, MSEC(21));
	expect_silence(&r);
	advance(&r, MSEC(2));
	expect_data(&r, 4000, 1000); /* the last */
	expect_silence(&r);
	cr_assert_eq(r.st->cnt[CNT_TcpExtTCPLossProbes], 1u);
	cr_assert_eq(r.t->conn->cwnd, cwnd);
	/* all four were lost: the probe's SACK shows three */
	advance(&r, MSEC(10));
	peer_sends(&r, .flags = ACK, .ack = 1000, .sack = { { 4000, 5000 } }, .n_sack = 1);
	advance(&r, MSEC(3));
	expect_data(&r, 1000, 1000);
	cr_assert_eq(r.t->conn->ca_state, TCP_CA_RECOVERY);
	cr_assert_eq(r.st->cnt[CNT_TcpExtTCPTimeouts], 0u);
}

Test(tcp_tlp, probe_is_new_data_where_there_is_some)
{
	struct rig r = rig_established(.sack = true);

	warm_up(&r);
	r.t->conn->cwnd = 4000;
	app_sends(&r, 10000);
	for (int i = 0; i < 4; i++)
		expect_data(&r, 1000 + (uint32_t)i * 1000, 1000);
	expect_silence(&r);
	advance(&r, MSEC(23));
	expect_data(&r, 5000, 1000);
	expect_silence(&r);
	advance(&r, MSEC(100));
	expect_silence(&r); /* one probe for a tail */
	cr_assert_eq(r.t->conn->total_retrans, 0u);
}

Test(tcp_tlp, lone_segment_waits_for_a_delayed_acknowledgment)
{
	struct rig r = rig_established(.sack = true);

	warm_up(&r);
	send_segs(&r, 1);
	advance(&r, MSEC(190));
	expect_silence(&r);
	advance(&r, MSEC(50));
	expect_data(&r, 1000, 1000);
	cr_assert_eq(r.st->cnt[CNT_TcpExtTCPLossProbes], 1u, "RTO came first, and probed");
	cr_assert_eq(r.t->conn->ca_state, TCP_CA_OPEN);
	advance(&r, MSEC(300));
	expect_data(&r, 1000, 1000);
	cr_assert_eq(r.t->conn->ca_state, TCP_CA_LOSS, "the probe was not answered");
}

Test(tcp_tlp, peer_that_acknowledges_each_segment_is_probed_sooner)
{
	struct rig r = rig_established(.sack = true);

	warm_up(&r);
	send_segs(&r, 3);
	advance(&r, MSEC(10));
	peer_sends(&r, .flags = ACK, .ack = 2000);
	peer_sends(&r, .flags = ACK, .ack = 3000);
	advance(&r, MSEC(50)); /* two round trips, or one and 40 ms: it may begin to delay */
	expect_silence(&r);
	advance(&r, MSEC(4));
	expect_data(&r, 3000, 1000);
}

Test(tcp_tlp, repaired_loss_costs_one_reduction_and_a_duplicate_none)
{
	struct rig r = rig_established(.sack = true);
	uint32_t cwnd;

	for (int dup = 0; dup < 2; dup++) {
		r = rig_established(.sack = true);
		warm_up(&r);
		send_segs(&r, 4);
		advance(&r, MSEC(23));
		expect_data(&r, 4000, 1000);
		advance(&r, MSEC(10));
		peer_sends(&r, .flags = ACK, .ack = 5000);
		cwnd = r.t->conn->cwnd;
		if (dup)
			peer_sends(&r, .flags = ACK, .ack = 5000, .sack = { { 4000, 5000 } }, .n_sack = 1);
		send_segs(&r, 1);
		advance(&r, MSEC(10));
		peer_sends(&r, .flags = ACK, .ack = 6000);
		cr_assert_eq(r.st->cnt[CNT_TcpExtTCPLossProbeRecovery], dup ? 0u : 1u);
		if (dup)
			cr_assert_geq(r.t->conn->cwnd, cwnd);
		else
			cr_assert_lt(r.t->conn->cwnd, cwnd);
	}
}

/* ---- undo ---- */

Test(tcp_undo, frto_new_data_instead_of_retransmissions_then_spurious)
{
	struct rig r = rig_established();
	uint32_t cwnd;

	warm_up(&r);
	send_segs(&r, 6);
	cwnd = r.t->conn->cwnd;
	app_sends(&r, 10000);
	while (take(&r))
		;
	advance(&r, MSEC(300));
	expect_data(&r, 1000, 1000);
	cr_assert_eq(r.t->conn->ca_state, TCP_CA_LOSS);
	peer_sends(&r, .flags = ACK, .ack = 2000); /* of the original or of the copy? */
	cr_assert(take(&r));
	cr_assert_geq(rig_seg.seq, 11000u, "new data, not %u", rig_seg.seq);
	while (take(&r))
		;
	peer_sends(&r, .flags = ACK, .ack = 3000); /* of what was sent once */
	cr_assert_eq(r.st->cnt[CNT_TcpExtTCPSpuriousRTOs], 1u);
	cr_assert_eq(r.st->cnt[CNT_TcpExtTCPLossUndo], 1u);
	cr_assert_eq(r.t->conn->ca_state, TCP_CA_OPEN);
	cr_assert_geq(r.t->conn->cwnd, cwnd);
	while (take(&r))
		cr_assert_geq(rig_seg.seq, 11000u);
}

Test(tcp_undo, frto_real_loss_goes_on_conventionally)
{
	struct rig r = rig_established();

	warm_up(&r);
	send_segs(&r, 6);
	app_sends(&r, 10000);
	while (take(&r))
		;
	advance(&r, MSEC(300));
	expect_data(&r, 1000, 1000);
	peer_sends(&r, .flags = ACK, .ack = 2000);
	while (take(&r))
		cr_assert_geq(rig_seg.seq, 11000u);
	peer_sends(&r, .flags = ACK, .ack = 2000); /* duplicate: new data arrived, old did not */
	cr_assert(take(&r));
	cr_assert_eq(rig_seg.seq, 2000u);
	cr_assert_eq(r.t->conn->ca_state, TCP_CA_LOSS);
	cr_assert_eq(r.st->cnt[CNT_TcpExtTCPSpuriousRTOs], 0u);
}

Test(tcp_undo, dsack_of_all_that_was_sent_again_undoes_after_recovery)
{
	struct rig r = rig_established(.sack = true);
	uint32_t cwnd, ssthresh;

	warm_up(&r);
	send_segs(&r, 6);
	cwnd = r.t->conn->cwnd;
	ssthresh = r.t->conn->ssthresh;
	advance(&r, MSEC(10));
	peer_sends(&r, .flags = ACK, .ack = 1000, .sack = { { 3000, 7000 } }, .n_sack = 1);
	expect_data(&r, 1000, 1000);
	expect_data(&r, 2000, 1000);
	peer_sends(&r, .flags = ACK, .ack = 7000);
	cr_assert_lt(r.t->conn->cwnd, cwnd);
	peer_sends(&r, .flags = ACK, .ack = 7000, .sack = { { 1000, 2000 } }, .n_sack = 1);
	cr_assert_lt(r.t->conn->cwnd, cwnd, "one of two");
	peer_sends(&r, .flags = ACK, .ack = 7000, .sack = { { 2000, 3000 } }, .n_sack = 1);
	cr_assert_geq(r.t->conn->cwnd, cwnd);
	cr_assert_eq(r.t->conn->ssthresh, ssthresh);
	cr_assert_eq(r.st->cnt[CNT_TcpExtTCPDSACKUndo], 1u);
}

Test(tcp_undo, dsack_of_what_was_not_sent_again_undoes_nothing)
{
	struct rig r = rig_established(.sack = true);
	uint32_t cwnd;

	warm_up(&r);
	send_segs(&r, 6);
	cwnd = r.t->conn->cwnd;
	advance(&r, MSEC(10));
	peer_sends(&r, .flags = ACK, .ack = 1000, .sack = { { 3000, 7000 } }, .n_sack = 1);
	expect_data(&r, 1000, 1000);
	expect_data(&r, 2000, 1000);
	peer_sends(&r, .flags = ACK, .ack = 7000);
	for (int i = 0; i < 4; i++)
		peer_sends(&r, .flags = ACK, .ack = 7000, .sack = { { 0, 1000 } }, .n_sack = 1);
	cr_assert_lt(r.t->conn->cwnd, cwnd);
	cr_assert_eq(r.st->cnt[CNT_TcpExtTCPDSACKUndo], 0u);
}

/* ---- RFC 3042, 6298, 9937 ---- */

Test(tcp_loss, limited_transmit_lets_new_data_go_on_each_of_two_dupacks)
{
	for (int sack = 0; sack < 2; sack++) {
		struct rig r = rig_established(.sack = sack);

		warm_up(&r);
		r.t->conn->cwnd = 4000;
		app_sends(&r, 10000);
		for (uint32_t i = 1; i < 5; i++)
			expect_data(&r, i * 1000, 1000);
		expect_silence(&r);
		for (uint32_t i = 0; i < 2; i++) {
			peer_sends(&r, .flags = ACK, .ack = 1000, .sack = { { 2000, 3000 + i * 1000 } }, .n_sack = (unsigned)sack);
			expect_data(&r, 5000 + i * 1000, 1000);
			expect_silence(&r);
		}
		cr_assert_eq(r.t->conn->cwnd, 4000u);
	}
}

Test(tcp_loss, karn_no_sample_from_what_was_sent_twice)
{
	struct rig r = rig_established();
	uint32_t srtt;

	warm_up(&r);
	srtt = r.t->conn->srtt_us;
	send_segs(&r, 1);
	advance(&r, MSEC(230));
	expect_data(&r, 1000, 1000);
	peer_sends(&r, .flags = ACK, .ack = 2000);
	cr_assert_eq(r.t->conn->srtt_us, srtt);
	cr_assert_eq(r.t->conn->backoff, 1u, "RFC 6298 5.7: until there is a sample");
	send_segs(&r, 1);
	advance(&r, MSEC(10));
	peer_sends(&r, .flags = ACK, .ack = 3000);
	cr_assert_eq(r.t->conn->backoff, 0u);
}

Test(tcp_loss, rto_lies_between_200_ms_and_120_s)
{
	struct rig r = rig_established();

	warm_up(&r);
	cr_assert_geq(r.t->conn->rto_us, TCP_RTO_MIN_US);
	send_segs(&r, 1);
	for (int i = 0; i < 13; i++) {
		usec_t at = r.t->conn->deadline[TCPT_REXMT];

		usec_t rto = i < 10 ? (usec_t)r.t->conn->rto_us << i : TCP_RTO_MAX_US;

		cr_assert_leq(at - r.now, rto);
		cr_assert_geq(at - r.now, rto - MSEC(20));
		advance(&r, at - r.now + MSEC(20)); /* the wheel's grain */
		while (take(&r))
			;
	}
}

Test(tcp_loss, prr_sends_in_proportion_to_what_is_delivered)
{
	struct rig r = rig_established(.sack = true, .wscale = 8);
	uint32_t sent = 0, flight, ssthresh;

	warm_up(&r);
	r.t->conn->cwnd = 100000;
	tcp_opts(r.t)->sndbuf_bytes = 1 << 20;
	while (app_sends(&r, 200000) > 0)
		;
	while (take(&r))
		;
	flight = r.t->conn->snd_nxt - r.t->conn->snd_una;
	advance(&r, MSEC(10));
	for (uint32_t e = 3000; e <= 1000 + flight; e += 1000) { /* the first is lost */
		peer_sends(&r, .flags = ACK, .ack = 1000, .sack = { { 2000, e } }, .n_sack = 1);
		while (take(&r))
			if (r.t->conn->ca_state == TCP_CA_RECOVERY)
				sent += rig_seg.len;
	}
	ssthresh = r.t->conn->ssthresh;
	cr_assert_eq(ssthresh, 100000u * 717 / 1024);
	cr_assert_geq(sent, (uint32_t)((uint64_t)(flight - 4000) * ssthresh / flight) - 2000);
	cr_assert_leq(sent, (uint32_t)((uint64_t)flight * ssthresh / flight) + 2000);
}
