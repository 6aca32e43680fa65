/* SPDX-License-Identifier: BSD-2-Clause */
/* Where numbers wrap, clocks grow old, options are wrong, limits are met */
#include "rig.h"

#define DAYS(n) (SEC(86400) * (n))

/* ---- sequence numbers at 2^32 ---- */

static bool lose_some(struct pair *p, int from, const struct frame *f)
{
	(void)from;
	return f->len > 100 && rnd(&p->rnd) % 30 == 0;
}

/* A port from which @side's initial sequence number lies within 300 KB of the wrap */
static uint16_t port_near_wrap(struct pair *p, int side)
{
	struct ipaddr us = US, peer = PEER;

	for (;; p->now += MSEC(7))
		for (uint32_t port = 1024; port < 65536; port++) {
			uint32_t isn = side == 0 ? tcp_isn(p->st[0], &us, (uint16_t)port, &peer, PORT, p->now) :
						   tcp_isn(p->st[1], &peer, PORT, &us, (uint16_t)port, p->now);

			if (isn > (uint32_t)-300000)
				return (uint16_t)port;
		}
}

static void wrap_run(int side, bool gso, bool lossy)
{
	struct pair p = pair_new(gso, NULL);
	struct endpoint ep = { .addr = ipaddr_v4(0), .port = PORT };
	struct tcb *l = tcp_open(p.st[1], 4, 1, p.now), *t[2];
	uint32_t sent[2] = { 0 }, got[2] = { 0 }, first;
	usec_t start;

	cr_assert_eq(tcp_bind(p.st[1], l, &ep, p.now), 0);
	cr_assert_eq(tcp_listen(p.st[1], l, 8, p.now), 0);
	t[0] = tcp_open(p.st[0], 4, 2, p.now);
	ep.port = port_near_wrap(&p, side);
	pair_settle(&p);
	cr_assert_eq(tcp_bind(p.st[0], t[0], &ep, p.now), 0);
	ep = (struct endpoint){ .addr = PEER, .port = PORT };
	cr_assert_eq(tcp_connect(p.st[0], t[0], &ep, p.now), -EINPROGRESS);
	pair_settle(&p);
	cr_assert_eq(tcp_accept(p.st[1], l, &t[1]), 0);
	first = t[side]->conn->iss;
	cr_assert_gt(first, (uint32_t)-300000);
	p.lose = lossy ? lose_some : NULL;
	start = p.now;
	while ((got[0] < 1500000 || got[1] < 1500000) && p.now - start < SEC(600)) {
		for (int i = 0; i < 2; i++)
			if (sent[i] < 1500000)
				app_sends_flags(p.st[i], t[i], &sent[i], 1500000 - sent[i], 0, p.now);
		pair_advance(&p, MSEC(1));
		for (int i = 0; i < 2; i++)
			while (app_reads_from(p.st[i], t[i], &got[!i], 1 << 20, p.now) > 0)
				;
	}
	cr_assert_eq(got[0], 1500000u);
	cr_assert_eq(got[1], 1500000u);
	cr_assert_lt(t[side]->conn->snd_nxt, first, "it did wrap");
	tcp_close(p.st[0], t[0], p.now);
	tcp_close(p.st[1], t[1], p.now);
	p.lose = NULL;
	pair_advance(&p, SEC(200));
	cr_assert_eq(stack_live(p.st[0]) + stack_live(p.st[1]), 0u);
}

Test(tcp_robust, sequence_numbers_wrap_in_bulk)
{
	for (int i = 0; i < 8; i++)
		wrap_run(i & 1, i & 2, i & 4);
}

Test(tcp_robust, urgent_pointer_across_the_wrap)
{
	struct rig r = rig_established();
	uint32_t shift = (uint32_t)-20 - r.t->conn->rcv_nxt;
	struct tcp_seg s = { .flags = TH_ACK | TH_URG, .urg = 31, .len = 40, .wnd = 1000, .ack = r.t->conn->snd_nxt };
	uint8_t data[40], octet;

	r.t->conn->rcv_nxt += shift;
	r.t->conn->rcv_adv += shift;
	r.t->conn->rcv_wup += shift;
	r.t->conn->copied_seq += shift;
	for (int i = 0; i < 40; i++)
		data[i] = (uint8_t)(100 + i);
	s.seq = r.t->conn->rcv_nxt;
	s.data = data;
	tcp_segment(r.st, r.t->conn, &s, r.now);
	cr_assert_eq(tcp_recv_oob(r.st, r.t, false, &octet), 1);
	cr_assert_eq(octet, 130);
	cr_assert_eq(tcp_readable_bytes(r.t), 30u);
}

/* ---- timestamps (RFC 7323 5) ---- */

Test(tcp_robust, paws_timestamp_wraps)
{
	struct rig r = rig_established(.ts = true);

	r.t->conn->ts_recent = 0xfffffff0u;
	peer_sends(&r, .flags = ACK, .seq = 0, .len = 10, .ts_val = 0xfffffffau);
	expect_ack(&r, 10);
	peer_sends(&r, .flags = ACK, .seq = 10, .len = 10, .ts_val = 5);
	expect_ack(&r, 20);
	peer_sends(&r, .flags = ACK, .seq = 20, .len = 10, .ts_val = 0xffffff00u);
	cr_assert_eq(app_reads(&r, 100), 20);
	cr_assert_eq(r.st->cnt[CNT_TcpExtPAWSEstab], 1u);
	cr_assert_eq(r.t->conn->ts_recent, 5u);
}

Test(tcp_robust, paws_is_void_after_24_days_of_silence)
{
	struct rig r = rig_established(.ts = true);

	peer_sends(&r, .flags = ACK, .seq = 0, .len = 10, .ts_val = 8000);
	advance(&r, DAYS(24) - SEC(60));
	while (take(&r))
		;
	peer_sends(&r, .flags = ACK, .seq = 10, .len = 10, .ts_val = 7000);
	cr_assert_eq(app_reads(&r, 100), 10, "still too old");
	advance(&r, SEC(120));
	while (take(&r))
		;
	peer_sends(&r, .flags = ACK, .seq = 10, .len = 10, .ts_val = 7000);
	cr_assert_eq(app_reads(&r, 100), 10);
	cr_assert_eq(r.t->conn->ts_recent, 7000u);
}

Test(tcp_robust, paws_does_not_drop_a_reset)
{
	struct rig r = rig_established(.ts = true);

	peer_sends(&r, .flags = ACK, .seq = 0, .len = 10, .ts_val = 8000);
	peer_sends(&r, .flags = RST, .seq = 10, .ts_val = 1);
	cr_assert_eq(tcp_state(r.t), TCPS_CLOSED);
}

Test(tcp_robust, paws_drops_what_would_fit_after_a_wrap)
{
	struct rig r = rig_established(.ts = true);

	for (uint32_t i = 0; i < 5; i++) {
		peer_sends(&r, .flags = ACK, .seq = i * 100, .len = 100, .ts_val = 8000 + i);
		expect_ack(&r, i * 100 + 100);
	}
	cr_assert_eq(app_reads(&r, 1000), 500);
	peer_sends(&r, .flags = ACK, .seq = 500, .len = 100, .ts_val = 8001); /* right number, four gigabytes ago */
	cr_assert_eq(app_reads(&r, 1000), -EAGAIN);
}

/* ---- windows of a gigabyte ---- */

Test(tcp_robust, window_scale_14_both_ways)
{
	struct rig r = rig_new(.wscale = 15, .rcvbuf = 0x7fffffff, .sack = true);

	rig_listen(&r);
	peer_syn(&r, SYN, 0, PORT);
	expect_flags(&r, SYN | ACK);
	cr_assert_eq(rig_seg.o.wscale, 14);
	cr_assert_eq(rig_seg.wnd, 65535u);
	r.iss = rig_seg.abs_seq;
	peer_sends(&r, .flags = ACK, .wnd = 65535);
	cr_assert_eq(tcp_accept(r.st, r.l, &r.t), 0);
	cr_assert_eq(r.t->conn->snd_wnd, 65535u << 14);
	peer_sends(&r, .flags = ACK | PSH, .len = 100);
	cr_assert(take(&r));
	cr_assert_eq(rig_seg.wnd, (0x7fffffffu / 2) >> 14, "all of it is offered");
	peer_sends(&r, .flags = ACK, .seq = 900000000, .len = 100);
	cr_assert(take(&r));
	cr_assert_eq(rig_seg.o.n_sack, 1, "in the window");
	peer_sends(&r, .flags = ACK, .seq = 1100000000, .len = 100);
	cr_assert_eq(r.st->drops[DROP_TCP_OUT_OF_WINDOW], 1u);
}

/* ---- every field at its edges, every length ---- */

enum { HDRS = 14 + 20 + 20, FRAME = HDRS + 10 };

/* The next ten octets in order, as the peer would send them */
static void frame_make(const struct rig *r, uint8_t *f)
{
	static const uint8_t ip[] = { 0x45, 0, 0, FRAME - 14, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1 };
	uint8_t *t = f + 34;

	memset(f, 0, FRAME);
	memcpy(f, rig_mac[0], 6);
	memcpy(f + 6, rig_mac[1], 6);
	f[12] = 8;
	memcpy(f + 14, ip, sizeof(ip));
	put32r(t, (uint32_t)PEERPORT << 16 | PORT);
	put32r(t + 4, r->t->conn->rcv_nxt);
	put32r(t + 8, r->t->conn->snd_nxt);
	t[12] = 0x50;
	t[13] = ACK;
	t[14] = t[15] = 0xff;
}

static uint64_t dropped(const struct rig *r)
{
	uint64_t n = 0;

	for (int i = 0; i < DROP_N; i++)
		n += r->st->drops[i];
	return n;
}

/**
 * frame_judged() - puts a frame in, which must be taken, answered, held (a fragment), or dropped with a reason
 *
 * A connection that it ended is made anew: with RST or SYN among the flags, that is what it is for.
 */
static void frame_judged(struct rig *r, uint8_t *data, uint32_t len, const char *what, unsigned at, unsigned value)
{
	struct frame fr = { .data = data, .len = len, .vnet = { .flags = VNET_F_DATA_VALID } };
	uint64_t drops = dropped(r);
	uint32_t nxt = r->t->conn->rcv_nxt, held = r->st->frags.held_bytes;
	struct iovec iov[16];
	int n_iov;
	struct pbuf *p;
	ptrdiff_t got;
	bool seen;

	stack_input(r->st, &fr, r->now);
	seen = dropped(r) > drops || tcp_state(r->t) != TCPS_ESTABLISHED || r->t->conn->rcv_nxt != nxt || r->st->frags.held_bytes != held;
	while ((p = stack_output(r->st, r->now))) { /* an ARP packet too */
		seen = true;
		stack_tx_done(r->st, p);
	}
	cr_assert(seen, "%s %u, value %u: neither taken, answered nor dropped", what, at, value);
	if (tcp_state(r->t) != TCPS_ESTABLISHED)
		*r = rig_established(.region_mb = 8);
	else if ((got = tcp_recv_begin(r->st, r->t, 0, 1000, iov, 16, &n_iov)) > 0)
		tcp_recv_done(r->st, r->t, (size_t)got, r->now);
}

Test(tcp_robust, each_header_octet_at_its_edges)
{
	static const uint8_t edges[] = { 0, 1, 2, 0x0f, 0x10, 0x3f, 0x40, 0x7f, 0x80, 0xf0, 0xfe, 0xff };
	struct rig r = rig_established(.region_mb = 8);
	uint8_t f[FRAME];

	for (unsigned summed = 0; summed < 2; summed++) /* with a sum that is wrong now, and with the right one */
		for (unsigned at = 0; at < HDRS; at++)
			for (unsigned e = 0; e < sizeof(edges); e++) {
				frame_make(&r, f);
				ip_sum(f + 14);
				f[at] = edges[e];
				if (summed && (at < 24 || at > 25))
					ip_sum(f + 14);
				frame_judged(&r, f, FRAME, "octet", at, edges[e]);
				advance(&r, MSEC(1));
			}
}

Test(tcp_robust, frame_cut_at_each_octet)
{
	struct rig r = rig_established(.region_mb = 8);
	uint8_t f[FRAME];

	for (unsigned len = 1; len < FRAME; len++) {
		uint64_t drops = dropped(&r);

		frame_make(&r, f);
		ip_sum(f + 14);
		frame_judged(&r, f, len, "cut at", len, 0);
		cr_assert_eq(dropped(&r), drops + 1, "cut at %u", len);
		/* the same, and the IP header knows it */
		frame_make(&r, f);
		f[17] = (uint8_t)(len > 14 ? len - 14 : 0);
		ip_sum(f + 14);
		if (len != HDRS) /* an acknowledgment that says nothing new */
			frame_judged(&r, f, FRAME, "IP length", f[17], 0);
	}
}

/* ---- options ---- */

Test(tcp_robust, each_option_in_each_length)
{
	static const struct { uint8_t kind, lens[12]; } good[] = {
		{ 2, { 4 } }, { 3, { 3 } }, { 4, { 2 } }, { 5, { 10, 18, 26, 34 } }, { 8, { 10 } },
		{ 34, { 2, 6, 8, 10, 12, 14, 16, 18 } },
	};

	for (unsigned kind = 2; kind < 256; kind++)
		for (unsigned len = 0; len < 256; len++)
			for (unsigned n = 1; n <= 40; n++) {
				uint8_t b[40];
				struct tcp_rx_opts o;
				bool known = false, any;

				memset(b, 0x11, sizeof(b));
				b[0] = (uint8_t)kind;
				if (n > 1)
					b[1] = (uint8_t)len;
				for (unsigned k = len > 1 ? len : 2; k < 40; k++)
					b[k] = 1; /* padding behind it */
				for (unsigned g = 0; g < sizeof(good) / sizeof(good[0]); g++)
					for (unsigned k = 0; k < 12 && good[g].lens[k]; k++)
						known = known || (kind == good[g].kind && len == good[g].lens[k] && len <= n && n > 1);
				tcp_opts_parse(b, n, &o);
				any = o.mss || o.wscale_ok || o.sack_ok || o.n_sack || o.ts || o.tfo_ok;
				cr_assert_eq(any, known, "kind %u length %u in %u octets", kind, len, n);
			}
}

Test(tcp_robust, options_cut_at_each_octet)
{
	uint8_t full[40];
	unsigned n = tcp_opt_put_syn(full, 1460, true, true, 7, 1, 2);

	for (unsigned k = 0; k <= n; k++) {
		struct tcp_rx_opts o;

		tcp_opts_parse(full, k, &o);
		cr_assert_eq(!!o.mss, k >= 4);
		cr_assert_eq(o.sack_ok, k >= 6);
		cr_assert_eq(o.ts, k >= 16);
		cr_assert_eq(o.wscale_ok, k >= 20);
	}
}

Test(tcp_robust, syn_with_garbage_options_gets_a_plain_answer)
{
	static const uint8_t bad[][8] = {
		{ 2, 0 }, { 2, 1 }, { 3, 255 }, { 8, 3, 1, 1 }, { 255, 8 }, { 1, 1, 1, 1, 1, 1, 1, 8 }, { 2, 3, 5 },
	};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct rig r = rig_new(.region_mb = 16);

		rig_listen(&r);
		peer_sends(&r, .abs = true, .flags = SYN, .seq = PEER_ISS, .opt = bad[i], .opt_len = 8);
		expect_flags(&r, SYN | ACK);
		cr_assert_not(rig_seg.o.ts || rig_seg.o.sack_ok || rig_seg.o.wscale_ok);
		r.iss = rig_seg.abs_seq;
		peer_sends(&r, .flags = ACK);
		cr_assert_eq(tcp_accept(r.st, r.l, &r.t), 0);
		cr_assert_eq(r.t->conn->peer_mss, 536u, "RFC 9293 MUST-15");
	}
}

/* ---- limits ---- */

Test(tcp_robust, orphans_beyond_the_limit_are_reset)
{
	struct stack_sysctl ctl;
	struct rig r;
	struct tcb *t[6];

	stack_sysctl_default(&ctl);
	ctl.tcp_max_orphans = 4;
	r = rig_new(.ctl = &ctl);
	rig_listen(&r);
	for (uint16_t i = 0; i < 6; i++) {
		r.peer_port = (uint16_t)(2000 + i);
		peer_syn(&r, SYN, 0, PORT);
		cr_assert(take(&r));
		r.iss = rig_seg.abs_seq;
		peer_sends(&r, .flags = ACK);
		cr_assert_eq(tcp_accept(r.st, r.l, &t[i]), 0);
	}
	for (int i = 0; i < 6; i++) {
		tcp_close(r.st, t[i], r.now);
		expect_flags(&r, i < 4 ? FIN | ACK : RST | ACK);
	}
	cr_assert_eq(r.st->n_orphans, 4u);
	cr_assert_eq(r.st->cnt[CNT_TcpExtTCPAbortOnMemory], 2u);
	advance(&r, SEC(1000));
	while (take(&r))
		;
	cr_assert_eq(r.st->n_orphans, 0u);
	cr_assert_eq(stack_live(r.st), 0u);
}

Test(tcp_robust, user_timeout_ends_unacknowledged_data)
{
	static const uint32_t ms[] = { 500, 5000, 60000 };

	for (unsigned i = 0; i < 3; i++) {
		struct rig r = rig_established(.region_mb = 16);
		usec_t start;

		tcp_opts(r.t)->user_timeout_ms = ms[i];
		tcp_opt_changed(r.st, r.t, TCP_OPT_OTHER, r.now);
		app_sends(&r, 100);
		expect_data(&r, 0, 100);
		start = r.now;
		while (tcp_state(r.t) != TCPS_CLOSED && r.now - start < SEC(300)) {
			advance(&r, MSEC(10));
			while (take(&r))
				;
		}
		cr_assert_eq(tcp_error_take(r.t), ETIMEDOUT);
		cr_assert_geq(r.now - start, MSEC(ms[i]));
		cr_assert_leq(r.now - start, MSEC(ms[i]) + MSEC(1100), "%lu us", (unsigned long)(r.now - start));
	}
}

Test(tcp_robust, user_timeout_ends_keepalive_and_the_handshake)
{
	struct rig r = rig_established();
	struct endpoint ep = { .addr = PEER, .port = PORT };
	usec_t start = r.now;

	tcp_opts(r.t)->user_timeout_ms = 90000;
	tcp_opts(r.t)->keepalive = 1;
	tcp_opts(r.t)->keepidle_s = 60;
	tcp_opts(r.t)->keepintvl_s = 10;
	tcp_opts(r.t)->keepcnt = 100;
	tcp_opt_changed(r.st, r.t, TCP_OPT_KEEPALIVE, r.now);
	while (tcp_state(r.t) != TCPS_CLOSED && r.now - start < SEC(300)) {
		advance(&r, MSEC(100));
		while (take(&r))
			;
	}
	cr_assert_eq(tcp_error_take(r.t), ETIMEDOUT);
	cr_assert_geq(r.now - start, SEC(90));
	cr_assert_leq(r.now - start, SEC(91));
	r.t = tcp_open(r.st, 4, 3, r.now);
	tcp_opts(r.t)->user_timeout_ms = 4000;
	cr_assert_eq(tcp_connect(r.st, r.t, &ep, r.now), -EINPROGRESS);
	start = r.now;
	while (tcp_state(r.t) != TCPS_CLOSED && r.now - start < SEC(300)) {
		advance(&r, MSEC(100));
		while (take(&r))
			;
	}
	cr_assert_eq(tcp_error_take(r.t), ETIMEDOUT);
	cr_assert_geq(r.now - start, SEC(4));
	cr_assert_leq(r.now - start, SEC(5));
}

Test(tcp_robust, half_open_and_time_wait_are_shown)
{
	struct rig r = rig_established();
	struct tcp_mini_view v;
	uint64_t cursor = 0;
	unsigned n[2] = { 0 };

	tcp_close(r.st, r.t, r.now);
	expect_flags(&r, FIN | ACK);
	peer_sends(&r, .flags = ACK | FIN, .ack = 1);
	expect_ack(&r, 1);
	for (uint16_t i = 0; i < 10; i++) {
		r.peer_port = (uint16_t)(2000 + i);
		peer_syn(&r, SYN, 0, PORT);
		cr_assert(take(&r));
	}
	while (tcp_mini_next(r.st, &cursor, &v)) {
		cr_assert_eq(v.local.port, PORT);
		cr_assert(ipaddr_eq(v.peer.addr, PEER));
		if (v.state == TCPS_TIME_WAIT) {
			cr_assert_eq(v.peer.port, PEERPORT);
			cr_assert_eq(v.timer_at, r.now + SEC(60));
		} else {
			cr_assert_eq(v.state, TCPS_SYN_RECEIVED);
			cr_assert_eq(v.peer.port, 2000 + n[0]);
		}
		n[v.state == TCPS_TIME_WAIT]++;
	}
	cr_assert_eq(n[0], 10u);
	cr_assert_eq(n[1], 1u);
	cr_assert_not(tcp_mini_next(r.st, &cursor, &v), "the end stays the end");
}
