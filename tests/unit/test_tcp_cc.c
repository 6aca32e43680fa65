/* SPDX-License-Identifier: BSD-2-Clause */
/* Congestion control: slow start, avoidance, idle restart, ECN, pacing, BBR; and the windows that both sides keep */
#include "rig.h"

enum { ECE = TH_ECE, CWR = TH_CWR };

static void send_segs(struct rig *r, uint32_t n)
{
	uint32_t at = r->sent;

	cr_assert_eq(app_sends(r, n * 1000), (ptrdiff_t)n * 1000);
	for (uint32_t i = 0; i < n; i++)
		expect_data(r, at + i * 1000, 1000);
}

/* ---- ECN ---- */

/* A listener's connection whose peer's SYN has @flags and @tos; ctl.tcp_ecn is @setting */
static struct rig passive(uint8_t setting, uint32_t flags, uint8_t tos, uint32_t expected)
{
	static struct stack_sysctl ctl;
	struct rig r;
	uint8_t o[40];
	unsigned n;

	stack_sysctl_default(&ctl);
	ctl.tcp_ecn = setting;
	r = rig_new(.ctl = &ctl, .sack = true);
	rig_listen(&r);
	n = tcp_opt_put_syn(o, 1000, true, false, -1, 0, 0);
	peer_sends(&r, .abs = true, .flags = SYN | flags, .seq = PEER_ISS, .opt = o, .opt_len = n, .tos = tos);
	cr_assert(take(&r));
	cr_assert_eq(rig_seg.flags, SYN | ACK | expected);
	cr_assert_eq(rig_seg.tos & 3, 0, "a SYN-ACK that may be marked");
	r.iss = rig_seg.abs_seq;
	peer_sends(&r, .flags = ACK);
	cr_assert_eq(tcp_accept(r.st, r.l, &r.t), 0);
	return r;
}

Test(tcp_ecn, listener_agrees_when_asked)
{
	passive(2, ECE | CWR, 0, ECE);
	passive(1, ECE | CWR, 0, ECE);
}

Test(tcp_ecn, listener_does_not_agree)
{
	passive(0, ECE | CWR, 0, 0);
	passive(2, 0, 0, 0);
	passive(2, ECE, 0, 0);
	passive(2, CWR, 0, 0);
	passive(2, ECE | CWR, 3, 0); /* a SYN must not be marked: something on the path sets bits at random */
}

static struct rig connecting(uint8_t setting)
{
	static struct stack_sysctl ctl;
	struct endpoint ep = { .addr = PEER, .port = PEERPORT };
	struct rig r;

	stack_sysctl_default(&ctl);
	ctl.tcp_ecn = setting;
	r = rig_new(.ctl = &ctl);
	r.t = tcp_open(r.st, 4, 2, r.now);
	cr_assert_eq(tcp_connect(r.st, r.t, &ep, r.now), -EINPROGRESS);
	cr_assert(take(&r));
	r.iss = rig_seg.abs_seq;
	return r;
}

Test(tcp_ecn, connect_asks_only_when_set)
{
	struct rig r = connecting(1);

	cr_assert_eq(rig_seg.flags, SYN | ECE | CWR);
	cr_assert_eq(rig_seg.tos & 3, 0);
	connecting(2);
	cr_assert_eq(rig_seg.flags, SYN);
	connecting(0);
	cr_assert_eq(rig_seg.flags, SYN);
	advance(&r, SEC(1) + MSEC(1));
	cr_assert(take(&r));
	cr_assert_eq(rig_seg.flags, SYN, "the second SYN does not ask: the first may have been dropped for it");
}

static uint8_t connect_answered(uint32_t flags)
{
	struct rig r = connecting(1);

	peer_syn(&r, SYN | ACK | flags, r.iss + 1, rig_seg.sport);
	cr_assert_eq(tcp_state(r.t), TCPS_ESTABLISHED);
	return r.t->conn->ecn;
}

Test(tcp_ecn, syn_ack_agrees_with_ece_alone)
{
	cr_assert_eq(connect_answered(ECE), ECN_OK);
	cr_assert_eq(connect_answered(0), 0);
	cr_assert_eq(connect_answered(ECE | CWR), 0, "a host that reflects bits it does not know");
}

Test(tcp_ecn, only_new_data_is_capable)
{
	struct rig r = passive(2, ECE | CWR, 0, ECE);

	send_segs(&r, 1);
	cr_assert_eq(rig_seg.tos & 3, 2, "ECT(0)");
	advance(&r, SEC(2));
	cr_assert(take(&r));
	while (rig_seg.none == false && rig_seg.seq != 0)
		cr_assert(take(&r));
	cr_assert_eq(rig_seg.tos & 3, 0, "not what is sent again");
	peer_sends(&r, .flags = ACK, .ack = 1000, .len = 1000);
	peer_sends(&r, .flags = ACK, .seq = 1000, .ack = 1000, .len = 1000);
	expect_ack(&r, 2000);
	cr_assert_eq(rig_seg.tos & 3, 0, "not an acknowledgment");
}

Test(tcp_ecn, window_probe_is_not_capable)
{
	struct rig r = passive(2, ECE | CWR, 0, ECE);

	send_segs(&r, 1);
	peer_sends(&r, .flags = ACK, .ack = 1000, .wnd = 300);
	app_sends(&r, 2000);
	expect_silence(&r);
	advance(&r, MSEC(250));
	expect_data(&r, 1000, 300);
	cr_assert_eq(rig_seg.tos & 3, 0);
	peer_sends(&r, .flags = ACK, .ack = 1300, .wnd = 5000);
	expect_data(&r, 1300, 1000);
	cr_assert_eq(rig_seg.tos & 3, 2);
}

Test(tcp_ecn, survives_a_cookie)
{
	static struct stack_sysctl ctl;
	struct rig r;
	uint8_t o[40];
	unsigned n = tcp_opt_put_syn(o, 1000, true, true, 7, 7000, 0);

	stack_sysctl_default(&ctl);
	ctl.tcp_syncookies = 2;
	for (int asked = 0; asked < 2; asked++) {
		r = rig_new(.ctl = &ctl, .region_mb = 16);
		rig_listen(&r);
		peer_sends(&r, .abs = true, .flags = asked ? SYN | ECE | CWR : SYN, .seq = PEER_ISS, .opt = o, .opt_len = n);
		cr_assert(take(&r));
		cr_assert_eq(rig_seg.flags, asked ? SYN | ACK | ECE : SYN | ACK);
		cr_assert_eq(r.st->requests.in_use, 0u);
		r.iss = rig_seg.abs_seq;
		r.peer_ts = 7001;
		peer_sends(&r, .flags = ACK, .ts_ecr = rig_seg.o.ts_val);
		cr_assert_eq(tcp_accept(r.st, r.l, &r.t), 0);
		cr_assert_eq(r.t->conn->ecn, asked ? ECN_OK : 0);
	}
}

Test(tcp_ecn, tos_of_the_program_is_kept)
{
	struct rig r = passive(2, ECE | CWR, 0, ECE);

	tcp_opts(r.t)->tos = 0x10;
	send_segs(&r, 1);
	cr_assert_eq(rig_seg.tos, 0x12);
}

Test(tcp_ecn, mark_is_echoed_until_cwr)
{
	struct rig r = passive(2, ECE | CWR, 0, ECE);

	peer_sends(&r, .flags = ACK, .len = 1000, .tos = 3);
	expect_ack(&r, 1000);
	cr_assert(rig_seg.flags & ECE);
	peer_sends(&r, .flags = ACK, .seq = 1000, .len = 1000, .tos = 2);
	expect_ack(&r, 2000);
	cr_assert(rig_seg.flags & ECE, "until CWR comes");
	peer_sends(&r, .flags = ACK | CWR, .seq = 2000, .len = 1000, .tos = 2);
	expect_ack(&r, 3000);
	cr_assert_not(rig_seg.flags & ECE);
	peer_sends(&r, .flags = ACK | CWR, .seq = 3000, .len = 1000, .tos = 3);
	expect_ack(&r, 4000);
	cr_assert(rig_seg.flags & ECE, "CWR and a new mark in one segment");
	cr_assert_eq(r.st->cnt[CNT_IpExtInCEPkts], 2u);
}

Test(tcp_ecn, echo_reduces_once_a_round_trip_and_says_cwr)
{
	struct rig r = passive(2, ECE | CWR, 0, ECE);
	struct tcp_info_view i;

	send_segs(&r, 10);
	cr_assert_eq(r.t->conn->cwnd, 10000u);
	peer_sends(&r, .flags = ACK | ECE, .ack = 1000);
	cr_assert_eq(r.t->conn->cwnd, 7001u, "%u", r.t->conn->cwnd);
	cr_assert_eq(r.t->conn->ssthresh, 7001u);
	tcp_info(r.st, r.t, &i);
	cr_assert_eq(i.ca_state, TCP_CA_CWR);
	cr_assert(i.options & 8);
	peer_sends(&r, .flags = ACK | ECE, .ack = 3000);
	cr_assert_eq(r.t->conn->cwnd, 7001u, "once in a round trip, and no growth in it");
	app_sends(&r, 5000);
	expect_silence(&r); /* 7000 are in flight */
	peer_sends(&r, .flags = ACK | ECE, .ack = 5000);
	expect_data(&r, 10000, 1000);
	cr_assert(rig_seg.flags & CWR);
	expect_data(&r, 11000, 1000);
	cr_assert_not(rig_seg.flags & CWR, "said once");
	peer_sends(&r, .flags = ACK, .ack = 10000);
	tcp_info(r.st, r.t, &i);
	cr_assert_eq(i.ca_state, TCP_CA_OPEN);
	while (take(&r))
		;
	peer_sends(&r, .flags = ACK | ECE, .ack = 11000);
	cr_assert_lt(r.t->conn->cwnd, 6000u, "the next round trip's mark counts: %u", r.t->conn->cwnd);
	cr_assert_eq(r.st->cnt[CNT_TcpExtTCPECNReduced], 2u);
}

Test(tcp_ecn, ece_without_agreement_means_nothing)
{
	struct rig r = passive(2, 0, 0, 0);

	send_segs(&r, 10);
	cr_assert_eq(rig_seg.tos & 3, 0);
	peer_sends(&r, .flags = ACK | ECE, .ack = 1000);
	cr_assert_geq(r.t->conn->cwnd, 10000u);
}

Test(tcp_ecn, cwr_goes_with_one_segment_of_a_super_frame)
{
	static struct stack_sysctl ctl;
	struct rig r;
	uint8_t o[40];
	unsigned n = tcp_opt_put_syn(o, 1000, true, false, -1, 0, 0);

	stack_sysctl_default(&ctl);
	r = rig_new(.ctl = &ctl, .gso = true);
	rig_listen(&r);
	peer_sends(&r, .abs = true, .flags = SYN | ECE | CWR, .seq = PEER_ISS, .opt = o, .opt_len = n);
	cr_assert(take(&r));
	r.iss = rig_seg.abs_seq;
	peer_sends(&r, .flags = ACK);
	cr_assert_eq(tcp_accept(r.st, r.l, &r.t), 0);
	app_sends(&r, 10000);
	expect_data(&r, 0, 10000);
	app_sends(&r, 10000);
	peer_sends(&r, .flags = ACK | ECE, .ack = 10000);
	expect_data(&r, 10000, 1000);
	cr_assert(rig_seg.flags & CWR);
	cr_assert(take(&r));
	cr_assert_gt(rig_seg.len, 1000u);
	cr_assert_not(rig_seg.flags & CWR);
}

/* ---- pacing ---- */

Test(tcp_pacing, frames_leave_at_the_rate_the_program_set)
{
	struct rig r = rig_established();
	uint32_t n = 0;

	tcp_opts(r.t)->max_pacing_Bps = 100000; /* 1000 octets each 10 ms */
	tcp_opt_changed(r.st, r.t, TCP_OPT_PACING, r.now);
	app_sends(&r, 10000);
	expect_data(&r, 0, 1000);
	expect_silence(&r);
	for (int ms = 0; ms < 60; ms++) {
		advance(&r, MSEC(1));
		while (take(&r))
			n += rig_seg.len;
	}
	cr_assert(n >= 5000 && n <= 6000, "%u octets in 60 ms", n);
}

Test(tcp_pacing, limit_taken_back_lets_all_go)
{
	struct rig r = rig_established();

	tcp_opts(r.t)->max_pacing_Bps = 1000;
	tcp_opt_changed(r.st, r.t, TCP_OPT_PACING, r.now);
	app_sends(&r, 5000);
	expect_data(&r, 0, 1000);
	expect_silence(&r);
	tcp_opts(r.t)->max_pacing_Bps = 0;
	tcp_opt_changed(r.st, r.t, TCP_OPT_PACING, r.now);
	for (uint32_t i = 1; i < 5; i++)
		expect_data(&r, i * 1000, 1000);
}

Test(tcp_pacing, acknowledgments_are_not_paced)
{
	struct rig r = rig_established();

	tcp_opts(r.t)->max_pacing_Bps = 1000;
	tcp_opt_changed(r.st, r.t, TCP_OPT_PACING, r.now);
	app_sends(&r, 5000);
	expect_data(&r, 0, 1000);
	peer_sends(&r, .flags = ACK, .len = 1000);
	peer_sends(&r, .flags = ACK, .seq = 1000, .len = 1000);
	expect_ack(&r, 2000);
	expect_silence(&r);
}

Test(tcp_pacing, what_is_sent_again_is_paced_too)
{
	struct rig r = rig_established(.sack = true);
	uint32_t n = 0;

	send_segs(&r, 10);
	tcp_opts(r.t)->max_pacing_Bps = 50000; /* 1000 octets each 20 ms */
	tcp_opt_changed(r.st, r.t, TCP_OPT_PACING, r.now);
	advance(&r, SEC(3));
	while (take(&r))
		n++;
	cr_assert_geq(n, 1u);
	peer_sends(&r, .flags = ACK, .ack = 1000);
	n = 0;
	while (take(&r))
		n++;
	cr_assert_leq(n, 2u, "%u frames at once", n);
}

Test(tcp_pacing, frame_is_a_millisecond_of_the_rate)
{
	struct rig r = rig_established(.gso = true);

	tcp_opts(r.t)->max_pacing_Bps = 5 << 20; /* 5 KiB in 1/1024 s */
	tcp_opt_changed(r.st, r.t, TCP_OPT_PACING, r.now);
	app_sends(&r, 10000);
	expect_data(&r, 0, 5000);
	tcp_opts(r.t)->max_pacing_Bps = 1000;
	tcp_opt_changed(r.st, r.t, TCP_OPT_PACING, r.now);
	peer_sends(&r, .flags = ACK, .ack = 5000);
	advance(&r, MSEC(2));
	expect_data(&r, 5000, 2000); /* two segments at least */
}

Test(tcp_pacing, tcp_info_shows_the_rates)
{
	struct rig r = rig_established();
	struct tcp_info_view i;

	tcp_info(r.st, r.t, &i);
	cr_assert(i.pacing_rate > 0 && i.pacing_rate < UINT64_MAX, "as Linux works it out, paced or not");
	cr_assert_eq(i.max_pacing_rate, UINT64_MAX);
	tcp_opts(r.t)->max_pacing_Bps = 12345;
	tcp_opt_changed(r.st, r.t, TCP_OPT_PACING, r.now);
	tcp_info(r.st, r.t, &i);
	cr_assert_eq(i.pacing_rate, 12345u);
	cr_assert_eq(i.max_pacing_rate, 12345u);
}

/* ---- algorithms ---- */

static void use_cc(struct rig *r, const char *name)
{
	int i = tcp_cc_find(name);

	cr_assert_geq(i, 0);
	tcp_opts(r->t)->cc = (uint8_t)i;
	tcp_opt_changed(r->st, r->t, TCP_OPT_CC, r->now);
}

Test(tcp_cc, three_by_name)
{
	cr_assert_eq(tcp_cc_find("cubic"), 0);
	cr_assert_geq(tcp_cc_find("reno"), 0);
	cr_assert_geq(tcp_cc_find("bbr"), 0);
	cr_assert_eq(tcp_cc_find("vegas"), -ENOENT);
	cr_assert_null(tcp_cc_name(3));
}

Test(tcp_cc, slow_start_grows_by_what_was_acknowledged)
{
	struct rig r = rig_established();

	use_cc(&r, "reno");
	send_segs(&r, 10);
	peer_sends(&r, .flags = ACK, .ack = 4000);
	cr_assert_eq(r.t->conn->cwnd, 14000u);
}

Test(tcp_cc, reno_avoidance_adds_a_segment_per_window)
{
	struct rig r = rig_established();
	uint32_t acked = 0;

	use_cc(&r, "reno");
	r.t->conn->ssthresh = 10000;
	for (int i = 0; i < 11; i++) { /* at the first one nothing had been held back by cwnd */
		cr_assert_eq(r.t->conn->cwnd, 10000u);
		app_sends(&r, 10000);
		while (take(&r))
			;
		acked += 1000;
		peer_sends(&r, .flags = ACK, .ack = acked);
	}
	cr_assert_eq(r.t->conn->cwnd, 11000u, "%u", r.t->conn->cwnd);
}

/* RFC 7661: a window that the program does not use is no knowledge about the path */
Test(tcp_cc, window_not_used_does_not_grow)
{
	struct rig r = rig_established();
	uint32_t cwnd;

	r.t->conn->ssthresh = 10000;
	cwnd = r.t->conn->cwnd;
	for (uint32_t i = 1; i <= 50; i++) {
		send_segs(&r, 1);
		advance(&r, MSEC(10));
		peer_sends(&r, .flags = ACK, .ack = i * 1000);
	}
	cr_assert_eq(r.t->conn->cwnd, cwnd);
}

/* As Linux: each RTO half way down to what was used, not below the initial window; ssthresh keeps three quarters */
Test(tcp_cc, window_not_used_comes_down)
{
	struct rig r = rig_established();
	uint32_t cwnd;

	for (uint32_t i = 1; i <= 3; i++) {
		send_segs(&r, i == 1 ? 10 : i == 2 ? 20 : 30);
		advance(&r, MSEC(10));
		peer_sends(&r, .flags = ACK, .ack = r.sent);
	}
	cwnd = r.t->conn->cwnd;
	cr_assert_geq(cwnd, 30000u);
	for (int i = 0; i < 5; i++) { /* never idle for an RTO */
		send_segs(&r, 1);
		advance(&r, MSEC(70));
		peer_sends(&r, .flags = ACK, .ack = r.sent);
	}
	cr_assert_eq(r.t->conn->cwnd, cwnd / 2 + 5000, "%u, was %u", r.t->conn->cwnd, cwnd);
	cr_assert_geq(r.t->conn->ssthresh, cwnd / 4 * 3);
	for (int i = 0; i < 60; i++) {
		send_segs(&r, 1);
		advance(&r, MSEC(70));
		peer_sends(&r, .flags = ACK, .ack = r.sent);
	}
	cr_assert_lt(r.t->conn->cwnd, 11000u);
	cr_assert_geq(r.t->conn->cwnd, 9990u);
}

static uint32_t cwnd_after_idle(usec_t idle, const struct stack_sysctl *ctl, const char *cc)
{
	struct rig r = rig_established(.ctl = ctl);

	use_cc(&r, cc);
	for (uint32_t i = 1; i <= 3; i++) {
		send_segs(&r, i == 1 ? 10 : i == 2 ? 20 : 30);
		advance(&r, MSEC(10));
		peer_sends(&r, .flags = ACK, .ack = r.sent);
	}
	cr_assert_geq(r.t->conn->cwnd, 30000u);
	advance(&r, idle);
	app_sends(&r, 1000);
	cr_assert(take(&r));
	return r.t->conn->cwnd;
}

Test(tcp_cc, idle_halves_for_each_rto_down_to_the_initial_window)
{
	struct stack_sysctl ctl;

	stack_sysctl_default(&ctl);
	cr_assert_geq(cwnd_after_idle(MSEC(100), &ctl, "cubic"), 30000u);
	cr_assert_lt(cwnd_after_idle(MSEC(300), &ctl, "cubic"), 40000u);
	cr_assert_eq(cwnd_after_idle(SEC(60), &ctl, "cubic"), 10000u);
	cr_assert_eq(cwnd_after_idle(SEC(60), &ctl, "reno"), 10000u);
	ctl.tcp_slow_start_after_idle = 0;
	cr_assert_geq(cwnd_after_idle(SEC(60), &ctl, "cubic"), 30000u);
}

Test(tcp_cc, cubic_reduces_to_seven_tenths_reno_to_half)
{
	struct rig r = rig_established(.sack = true), q;

	send_segs(&r, 10);
	for (uint32_t i = 2; i <= 5; i++)
		peer_sends(&r, .flags = ACK, .sack = { { 1000, i * 1000 } }, .n_sack = 1);
	cr_assert_eq(r.t->conn->ssthresh, 7001u, "%u", r.t->conn->ssthresh);
	q = rig_established(.sack = true);
	use_cc(&q, "reno");
	send_segs(&q, 10);
	for (uint32_t i = 2; i <= 5; i++)
		peer_sends(&q, .flags = ACK, .sack = { { 1000, i * 1000 } }, .n_sack = 1);
	cr_assert_eq(q.t->conn->ssthresh, 5000u, "%u", q.t->conn->ssthresh);
}

/* ---- BBR ---- */

Test(tcp_bbr, paces_from_the_first_window_on)
{
	struct rig r = rig_established(.sack = true);
	struct tcp_info_view i;

	use_cc(&r, "bbr");
	cr_assert_not_null(r.t->conn->cc_cell);
	cr_assert_gt(r.t->conn->pace_Bps, 0u);
	tcp_info(r.st, r.t, &i);
	cr_assert_str_eq(i.cc, "bbr");
	cr_assert_eq(i.snd_ssthresh, (uint32_t)INT32_MAX);
}

Test(tcp_bbr, loss_does_not_halve_the_window)
{
	struct rig r = rig_established(.sack = true, .ts = true, .wnd = 65535, .wscale = 8);
	uint32_t before;

	use_cc(&r, "bbr");
	for (int k = 0; k < 8; k++) {
		app_sends(&r, 20000);
		for (int ms = 0; ms < 20; ms++) {
			advance(&r, MSEC(1));
			while (take(&r))
				;
		}
		r.peer_ts++;
		peer_sends(&r, .flags = ACK, .ack = r.t->conn->snd_nxt - r.iss - 1);
		while (take(&r))
			;
	}
	before = r.t->conn->cwnd;
	app_sends(&r, 20000);
	for (int ms = 0; ms < 20; ms++) {
		advance(&r, MSEC(1));
		while (take(&r))
			;
	}
	cr_assert_gt(tcp_flight(r.t->conn), 6 * r.t->conn->snd_mss);
	{
		uint32_t una = r.t->conn->snd_una - r.iss - 1, mss = r.t->conn->snd_mss;

		for (uint32_t i = 2; i <= 6; i++)
			peer_sends(&r, .flags = ACK, .ack = una, .sack = { { una + mss, una + i * mss } }, .n_sack = 1,
				   .opt_len = 0);
		while (take(&r))
			;
		peer_sends(&r, .flags = ACK, .ack = r.t->conn->snd_nxt - r.iss - 1);
	}
	cr_assert_lt(r.t->conn->ca_state, TCP_CA_RECOVERY);
	cr_assert_geq(r.t->conn->cwnd, before, "%u, was %u", r.t->conn->cwnd, before);
	cr_assert_lt(r.t->conn->cwnd, CWND_MAX_BYTES / 2);
}

Test(tcp_bbr, its_memory_comes_back)
{
	struct rig r = rig_established(.sack = true);

	use_cc(&r, "bbr");
	cr_assert_gt(r.st->pools.held_bytes, 0u);
	use_cc(&r, "cubic");
	cr_assert_null(r.t->conn->cc_cell);
	cr_assert_eq(r.t->conn->pace_Bps, 0u);
	use_cc(&r, "bbr");
	use_cc(&r, "bbr");
	peer_sends(&r, .flags = RST);
	cr_assert_eq(tcp_state(r.t), TCPS_CLOSED);
	expect_all_free(&r);
}

Test(tcp_bbr, survives_repair)
{
	struct rig r = rig_established(.sack = true);

	use_cc(&r, "bbr");
	stack_touch_clear(r.st);
	stack_repair(r.st, 0, r.now);
	cr_assert_not_null(r.t->conn->cc_cell);
	send_segs(&r, 1);
	peer_sends(&r, .flags = ACK, .ack = 1000);
	cr_assert_eq(tcp_state(r.t), TCPS_ESTABLISHED);
	peer_sends(&r, .flags = RST);
	expect_all_free(&r);
}

Test(tcp_bbr, without_memory_it_is_reno)
{
	struct rig r = rig_established(.sack = true);

	r.st->pools.limit_bytes = 1;
	use_cc(&r, "bbr");
	cr_assert_null(r.t->conn->cc_cell);
	cr_assert_eq(r.t->conn->opts.cc, tcp_cc_find("reno"));
	peer_sends(&r, .flags = RST);
}

/* ---- the receiver's window ---- */

Test(tcp_window, never_shrinks)
{
	struct rig r = rig_established(.wscale = 1);
	uint32_t edge = 0;

	for (uint32_t i = 0; i < 60; i++) {
		peer_sends(&r, .flags = ACK, .seq = i * 1000, .len = 1000);
		while (take(&r)) {
			uint32_t now = rig_seg.ack + (rig_seg.wnd << r.t->conn->rcv_wind_shift);

			cr_assert_geq(now, edge, "right edge went back from %u to %u", edge, now);
			edge = now;
		}
		if (i == 20) { /* the program makes its buffer small in the middle */
			tcp_opts(r.t)->rcvbuf_bytes = 4096;
			tcp_opts(r.t)->rcvbuf_locked = 1;
			tcp_opt_changed(r.st, r.t, TCP_OPT_RCVBUF, r.now);
		}
	}
}

/* What is held counts, and a thousand segments of ten octets hold little more than their octets */
Test(tcp_window, tiny_segments_share_cells)
{
	struct rig r = rig_established();

	for (uint32_t i = 0; i < 1000; i++) {
		peer_sends(&r, .flags = ACK, .seq = i * 10, .len = 10);
		while (take(&r))
			;
	}
	cr_assert_eq(r.t->conn->rcv_bytes, 10000u);
	cr_assert_lt(r.t->conn->rcv_mem_bytes, 13000u);
}

/* A frame holds a millisecond of what cwnd lets go in a round trip, on a near path all that the device takes */
Test(tcp_pacing, frame_without_pacing_holds_a_millisecond)
{
	struct rig r = rig_established(.smss = 1000);
	uint32_t mss = r.t->conn->snd_mss;

	r.t->conn->cwnd = r.t->conn->ssthresh = 1000 * mss;
	r.t->conn->srtt_us = 100000 << 3;
	r.t->conn->min_rtt_us = 100000;
	cr_assert_eq(tcp_tso_frame_max(r.t->conn, 64 * mss), 11 * mss); /* 1.2 * 1000 / 100 ms, of 1,024 in a second */
	r.t->conn->cwnd = 10 * mss;
	cr_assert_eq(tcp_tso_frame_max(r.t->conn, 64 * mss), 2 * mss, "two segments at least");
	r.t->conn->min_rtt_us = 400;
	cr_assert_eq(tcp_tso_frame_max(r.t->conn, 64 * mss), 64 * mss);
	r.t->conn->min_rtt_us = 600;
	cr_assert_eq(tcp_tso_frame_max(r.t->conn, 64 * mss), 32 * mss);
	peer_sends(&r, .flags = RST);
}

/* As Linux: less than a frame waits for the next acknowledgment only where one is due within a millisecond of the last frame */
Test(tcp_pacing, part_of_a_frame_waits_a_millisecond_at_most)
{
	struct rig r = rig_established(.gso = true);
	struct tcp_conn *t = r.t->conn;

	t->cwnd = t->ssthresh = 62000;
	t->srtt_us = 18000 << 3;
	t->min_rtt_us = 18000;
	tcp_opts(r.t)->sndbuf_bytes = 1 << 20;
	cr_assert_eq(app_sends(&r, 100000), 100000);
	for (uint32_t i = 0; i < 15; i++)
		expect_data(&r, i * 4000, 4000);
	expect_data(&r, 60000, 2000); /* no acknowledgment is near */
	advance(&r, 17500);
	peer_sends(&r, .flags = ACK, .ack = 2000);
	expect_data(&r, 62000, 2000); /* the last frame was long ago */
	advance(&r, 100);
	peer_sends(&r, .flags = ACK, .ack = 4000);
	expect_silence(&r);
	advance(&r, 100);
	peer_sends(&r, .flags = ACK, .ack = 6000);
	expect_data(&r, 64000, 4000);
	advance(&r, 100);
	peer_sends(&r, .flags = ACK, .ack = 8000);
	expect_silence(&r);
	peer_sends(&r, .flags = RST, .seq = 0);
}

/* RFC 9293 3.8.6.2.2: what is opened is a segment or half of the buffer, not the sliver that was read */
Test(tcp_window, receiver_offers_no_slivers)
{
	struct rig r = rig_established(.rcvbuf = 16384);
	uint32_t edge = 0, at = 0;

	while (at < 8000) {
		peer_sends(&r, .flags = ACK, .seq = at, .len = 1000);
		at += 1000;
	}
	while (take(&r))
		edge = rig_seg.ack + rig_seg.wnd;
	peer_sends(&r, .flags = ACK, .seq = at, .len = edge - at);
	while (take(&r))
		;
	cr_assert_eq(rig_seg.none, true);
	cr_assert_eq(app_reads(&r, 100), 100);
	expect_silence(&r);
	cr_assert_eq(app_reads(&r, 100), 100);
	expect_silence(&r);
	cr_assert_eq(app_reads(&r, 5000), 5000);
	cr_assert(take(&r), "the window is open again and nobody says so");
	cr_assert_gt(rig_seg.wnd, 1000u);
}

/* RFC 9293 3.8.6.2.1: less than a segment waits until the window has room for one or half of the largest it ever was */
Test(tcp_window, sender_sends_no_slivers)
{
	struct rig r = rig_established(.wnd = 10000);

	send_segs(&r, 10);
	app_sends(&r, 5000);
	peer_sends(&r, .flags = ACK, .ack = 10000, .wnd = 300);
	expect_silence(&r);
	peer_sends(&r, .flags = ACK, .ack = 10000, .wnd = 1000);
	expect_data(&r, 10000, 1000);
}

Test(tcp_window, send_buffer_follows_cwnd_unless_set)
{
	struct rig r = rig_established(.wnd = 65535, .wscale = 8);
	uint32_t was = tcp_opts(r.t)->sndbuf_bytes;

	for (int k = 0; k < 6; k++) {
		while (app_sends(&r, 100000) > 0)
			;
		while (take(&r))
			;
		peer_sends(&r, .flags = ACK, .ack = r.t->conn->snd_nxt - r.iss - 1);
	}
	cr_assert_gt(tcp_opts(r.t)->sndbuf_bytes, 2 * was);
	cr_assert_geq(tcp_opts(r.t)->sndbuf_bytes, 2 * r.t->conn->cwnd > 4194304 ? 4194304 : 2 * r.t->conn->cwnd);
	tcp_opts(r.t)->sndbuf_locked = 1;
	tcp_opts(r.t)->sndbuf_bytes = 20000;
	tcp_opt_changed(r.st, r.t, TCP_OPT_SNDBUF, r.now);
	peer_sends(&r, .flags = ACK, .ack = r.t->conn->snd_nxt - r.iss - 1);
	cr_assert_eq(tcp_opts(r.t)->sndbuf_bytes, 20000u);
}
