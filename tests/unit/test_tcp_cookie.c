/* SPDX-License-Identifier: BSD-2-Clause */
/* SYN cookies: what they keep, how long they are good, what is no cookie */
#include "rig.h"

/* A listener that answers with cookies only */
static struct rig rig_cookies_(struct rig_cfg c)
{
	static struct stack_sysctl ctl;
	struct rig r;

	stack_sysctl_default(&ctl);
	ctl.tcp_syncookies = 2;
	c.ctl = &ctl;
	r = rig_new_(c);
	rig_listen(&r);
	return r;
}
#define rig_cookies(...) rig_cookies_((struct rig_cfg){ __VA_ARGS__ })

/* SYN from the peer; our answer's timestamp */
static uint32_t syn(struct rig *r)
{
	peer_syn(r, SYN, 0, PORT);
	expect_flags(r, SYN | ACK);
	r->iss = rig_seg.abs_seq;
	return rig_seg.o.ts_val;
}

Test(tcp_cookie, flood_remembers_no_more_than_the_backlog_and_still_serves)
{
	struct rig r = rig_new(.backlog = 50);
	uint32_t iss;

	rig_listen(&r);
	for (uint32_t i = 0; i < 10000; i++) {
		r.peer_port = (uint16_t)(2000 + i);
		peer_syn(&r, SYN, 0, PORT);
		expect_flags(&r, SYN | ACK);
	}
	iss = rig_seg.abs_seq;
	cr_assert_eq(r.st->requests.in_use, 51u);
	cr_assert_eq(r.st->cnt[CNT_TcpExtSyncookiesSent], 10000u - 51);
	cr_assert_eq(r.st->cnt[CNT_TcpExtTCPReqQFullDoCookies], 10000u - 51);
	r.iss = iss;
	peer_sends(&r, .flags = ACK | PSH, .len = 100);
	cr_assert_eq(tcp_accept(r.st, r.l, &r.t), 0);
	cr_assert_eq(tcp_state(r.t), TCPS_ESTABLISHED);
	cr_assert_eq(app_reads(&r, 1000), 100);
	cr_assert_eq(r.st->cnt[CNT_TcpExtSyncookiesRecv], 1u);
}

Test(tcp_cookie, timestamp_keeps_window_scale_and_sack)
{
	for (int ws = -1; ws <= 14; ws++)
		for (int sack = 0; sack < 2; sack++) {
			struct rig r = rig_cookies(.ts = true, .sack = sack, .wscale = ws + 1, .region_mb = 16);
			struct ipaddr us = US, peer = PEER;
			uint32_t ts, clock;

			r.now += MSEC(ws * 7 + sack);
			ts = syn(&r);
			cr_assert_eq(r.st->requests.in_use, 0u);
			clock = tcp_ts_clock(r.now) + tcp_ts_offset(r.st, &us, &peer);
			cr_assert_leq(clock - ts, 64u, "set back a little, never forward");
			cr_assert_eq(rig_seg.o.sack_ok, sack);
			cr_assert_eq(rig_seg.o.wscale_ok, ws >= 0);
			peer_sends(&r, .flags = ACK, .ts_ecr = ts);
			cr_assert_eq(tcp_accept(r.st, r.l, &r.t), 0);
			cr_assert(r.t->flags & TF_TS);
			cr_assert_eq(!!(r.t->flags & TF_SACK), sack);
			cr_assert_eq(!!(r.t->flags & TF_WSCALE), ws >= 0);
			cr_assert_eq(r.t->snd_wind_shift, ws >= 0 ? ws : 0);
			cr_assert_eq(r.t->rcv_wind_shift, ws >= 0 ? 10 : 0);
			cr_assert_eq(r.t->snd_wnd, 65535u << (ws >= 0 ? ws : 0));
		}
}

Test(tcp_cookie, without_timestamp_only_the_mss_is_kept)
{
	static const uint16_t offer[] = { 100, 536, 1299, 1300, 1439, 1440, 1459, 1460, 9000 };
	static const uint16_t kept[] = { 536, 536, 536, 1300, 1300, 1440, 1440, 1460, 1460 };

	for (unsigned i = 0; i < sizeof(offer) / sizeof(offer[0]); i++) {
		struct rig r = rig_cookies(.smss = offer[i], .sack = true, .wscale = 8, .region_mb = 16);

		syn(&r);
		cr_assert_not(rig_seg.o.sack_ok, "it could not be kept");
		cr_assert_not(rig_seg.o.wscale_ok);
		peer_sends(&r, .flags = ACK);
		cr_assert_eq(tcp_accept(r.st, r.l, &r.t), 0);
		cr_assert_eq(r.t->peer_mss, kept[i]);
		cr_assert_eq(r.t->rcv_wind_shift, 0);
	}
}

Test(tcp_cookie, good_for_one_minute_at_least_and_two_at_most)
{
	for (unsigned s = 1; s < 200; s += 20) {
		struct rig r = rig_cookies(.region_mb = 16);
		int want = s < 60 ? 0 : s >= 120 ? -EAGAIN : 1, got;

		syn(&r);
		advance(&r, SEC(s));
		peer_sends(&r, .flags = ACK);
		got = tcp_accept(r.st, r.l, &r.t);
		if (want != 1)
			cr_assert_eq(got, want, "after %u s: %d", s, got);
		if (got != 0) {
			expect_flags(&r, RST);
			cr_assert_eq(r.st->tcbs.in_use, 1u);
		}
	}
}

Test(tcp_cookie, guesses_fail_and_are_reset)
{
	struct rig r = rig_cookies();
	unsigned won = 0;

	syn(&r);
	for (uint32_t i = 1; i <= 20000; i++) {
		peer_sends(&r, .flags = ACK, .ack = i * 104729u);
		if (tcp_accept(r.st, r.l, &r.t) == 0)
			won++;
		else
			expect_flags(&r, RST);
	}
	cr_assert_leq(won, 1u);
	cr_assert_geq(r.st->cnt[CNT_TcpExtSyncookiesFailed], 19999u);
	peer_sends(&r, .flags = ACK, .sport = 77);
	expect_flags(&r, RST);
	peer_sends(&r, .flags = ACK, .seq = 1);
	expect_flags(&r, RST);
}

Test(tcp_cookie, listener_that_sent_none_takes_none)
{
	struct rig r = rig_cookies();

	syn(&r);
	r.l->l.overflow_ms = 0;
	peer_sends(&r, .flags = ACK);
	expect_flags(&r, RST);
	cr_assert_eq(tcp_accept(r.st, r.l, &r.t), -EAGAIN);
	cr_assert_eq(r.st->cnt[CNT_TcpExtSyncookiesFailed], 0u);
}

Test(tcp_cookie, full_accept_queue_ignores_the_ack_and_takes_it_later)
{
	struct rig r = rig_cookies(.backlog = 1);
	uint32_t iss[3];

	for (uint16_t i = 0; i < 3; i++) {
		r.peer_port = (uint16_t)(1000 + i);
		syn(&r);
		iss[i] = r.iss;
	}
	for (uint16_t i = 0; i < 3; i++) {
		r.peer_port = (uint16_t)(1000 + i);
		r.iss = iss[i];
		peer_sends(&r, .flags = ACK);
		expect_silence(&r);
	}
	cr_assert_eq(r.l->l.n_acc, 2u);
	cr_assert_eq(tcp_accept(r.st, r.l, &r.t), 0);
	peer_sends(&r, .flags = ACK, .len = 10);
	cr_assert_eq(r.l->l.n_acc, 2u);
}

Test(tcp_cookie, bulk_after_a_cookie_handshake)
{
	struct stack_sysctl ctl;
	struct tcb *l, *c, *s;
	uint32_t sent = 0, got = 0;
	struct pair p;

	stack_sysctl_default(&ctl);
	ctl.tcp_syncookies = 2;
	p = pair_new(false, &ctl);
	pair_connect(&p, &l, &c, &s);
	cr_assert_eq(p.st[1]->cnt[CNT_TcpExtSyncookiesRecv], 1u);
	while (got < 3000000) {
		if (sent < 3000000)
			app_sends_flags(p.st[0], c, &sent, 100000, 0, p.now);
		pair_advance(&p, MSEC(1));
		while (app_reads_from(p.st[1], s, &got, 1 << 20, p.now) > 0)
			;
	}
	cr_assert_eq(c->snd_wind_shift, 10, "scaled by the shift that the cookie kept");
}
