/* SPDX-License-Identifier: BSD-2-Clause */
/* Handshakes from both sides, and what may go wrong in them */
#include "rig.h"

static struct tcb *rig_connects(struct rig *r)
{
	struct endpoint ep = { .addr = PEER, .port = PORT };

	r->t = tcp_open(r->st, 4, 2, r->now);
	cr_assert_eq(tcp_connect(r->st, r->t, &ep, r->now), -EINPROGRESS);
	cr_assert(take(r));
	cr_assert_eq(rig_seg.flags, SYN);
	r->iss = rig_seg.abs_seq;
	r->peer_port = PORT;
	return r->t;
}

static uint16_t our_port(struct rig *r)
{
	struct endpoint ep;

	tcp_local(r->t, &ep);
	return ep.port;
}

/* From the peer's listener to our connecting socket */
#define listener_sends(r, ...) peer_sends(r, .sport = PORT, .dport = our_port(r), __VA_ARGS__)

Test(tcp_open, connect_syn_carries_linux_options)
{
	struct rig r = rig_new();

	rig_connects(&r);
	cr_assert_eq(rig_seg.o.mss, 1460);
	cr_assert(rig_seg.o.sack_ok);
	cr_assert(rig_seg.o.ts);
	cr_assert(rig_seg.o.wscale_ok);
	cr_assert_eq(rig_seg.o.wscale, 10);
	cr_assert_eq(tcp_state(r.t), TCPS_SYN_SENT);
	expect_silence(&r);
}

Test(tcp_open, syn_sent_syn_ack_establishes)
{
	struct rig r = rig_new(.ts = true, .sack = true, .wscale = 8);

	rig_connects(&r);
	peer_syn(&r, SYN | ACK, r.iss + 1, our_port(&r));
	expect_ack(&r, 0);
	cr_assert_eq(tcp_state(r.t), TCPS_ESTABLISHED);
	cr_assert_eq(events(&r, r.t) & TCP_EV_OUT, TCP_EV_OUT);
	cr_assert_eq(r.t->snd_mss, 1000 - 12);
	cr_assert_eq(r.t->snd_wind_shift, 7);
	cr_assert_eq(r.t->snd_wnd, 65535u, "the window of a SYN is not scaled");
}

Test(tcp_open, syn_sent_syn_is_sent_again_1_2_4_seconds_then_timed_out)
{
	struct rig r = rig_new();
	struct endpoint ep = { .addr = PEER, .port = PORT };
	usec_t start = r.now;
	unsigned n = 1;

	rig_connects(&r);
	for (usec_t wait = SEC(1); n <= 6; n++, wait *= 2) {
		advance(&r, wait - MSEC(1));
		expect_silence(&r);
		advance(&r, MSEC(2));
		expect_flags(&r, SYN);
		cr_assert_eq(rig_seg.abs_seq, r.iss);
		r.now -= MSEC(1);
	}
	advance(&r, SEC(66));
	expect_silence(&r);
	cr_assert_eq(tcp_state(r.t), TCPS_CLOSED);
	cr_assert_geq(r.now - start, SEC(127));
	cr_assert_eq(tcp_connect(r.st, r.t, &ep, r.now), -ETIMEDOUT);
	cr_assert_eq(tcp_connect(r.st, r.t, &ep, r.now), -EINPROGRESS, "a failed socket can connect again");
}

Test(tcp_open, syn_sent_rst_refuses)
{
	struct rig r = rig_new();

	rig_connects(&r);
	listener_sends(&r, .abs = true, .flags = RST, .seq = 0);
	cr_assert_eq(tcp_state(r.t), TCPS_SYN_SENT, "a reset without ACK proves nothing");
	listener_sends(&r, .abs = true, .flags = RST | ACK, .seq = 0, .ack = r.iss);
	cr_assert_eq(tcp_state(r.t), TCPS_SYN_SENT, "nor does one that acknowledges something else");
	listener_sends(&r, .abs = true, .flags = RST | ACK, .seq = 0, .ack = r.iss + 1);
	cr_assert_eq(tcp_state(r.t), TCPS_CLOSED);
	cr_assert_eq(tcp_poll(r.t) & (TCP_EV_ERR | TCP_EV_HUP), TCP_EV_ERR | TCP_EV_HUP);
	cr_assert_eq(tcp_error_take(r.t), ECONNREFUSED);
	tcp_close(r.st, r.t, r.now);
	expect_silence(&r);
	cr_assert_eq(r.st->tcbs.in_use, 0u);
}

Test(tcp_open, syn_sent_ack_of_nothing_is_reset)
{
	struct rig r = rig_new();

	rig_connects(&r);
	listener_sends(&r, .abs = true, .flags = SYN | ACK, .seq = PEER_ISS, .ack = r.iss + 5);
	expect_flags(&r, RST);
	cr_assert_eq(rig_seg.abs_seq, r.iss + 5);
	cr_assert_eq(tcp_state(r.t), TCPS_SYN_SENT);
}

Test(tcp_open, simultaneous_open)
{
	struct rig r = rig_new(.sack = true);

	rig_connects(&r);
	peer_syn(&r, SYN, 0, our_port(&r));
	expect_flags(&r, SYN | ACK);
	cr_assert_eq(rig_seg.abs_seq, r.iss);
	cr_assert_eq(rig_seg.ack, 0u);
	cr_assert_eq(tcp_state(r.t), TCPS_SYN_RECEIVED);
	peer_syn(&r, SYN | ACK, r.iss + 1, our_port(&r));
	cr_assert_eq(tcp_state(r.t), TCPS_ESTABLISHED);
	expect_ack(&r, 0);
}

Test(tcp_open, connect_to_itself)
{
	struct rig r = rig_new();
	struct endpoint ep = { .addr = US, .port = 7777 };

	r.t = tcp_open(r.st, 4, 2, r.now);
	cr_assert_eq(tcp_bind(r.st, r.t, &ep, r.now), 0);
	cr_assert_eq(tcp_connect(r.st, r.t, &ep, r.now), -EINPROGRESS);
	expect_silence(&r);
	cr_assert_eq(tcp_state(r.t), TCPS_ESTABLISHED);
	cr_assert_eq(app_sends(&r, 5000), 5000);
	expect_silence(&r);
	cr_assert_eq(app_reads(&r, 5000), 5000);
	tcp_close(r.st, r.t, r.now);
	expect_silence(&r);
	advance(&r, SEC(70));
	expect_all_free(&r);
}

Test(tcp_open, listener_answers_with_what_the_peer_offered)
{
	struct rig r = rig_new(.sack = true);

	rig_listen(&r);
	peer_syn(&r, SYN, 0, PORT);
	expect_flags(&r, SYN | ACK);
	cr_assert(rig_seg.o.sack_ok);
	cr_assert_not(rig_seg.o.ts);
	cr_assert_not(rig_seg.o.wscale_ok);
	cr_assert_eq(rig_seg.abs_ack, PEER_ISS + 1);
}

Test(tcp_open, syn_received_data_with_third_segment_counts)
{
	struct rig r = rig_new();

	rig_listen(&r);
	peer_syn(&r, SYN, 0, PORT);
	cr_assert(take(&r));
	r.iss = rig_seg.abs_seq;
	peer_sends(&r, .flags = ACK | PSH, .len = 300);
	cr_assert_eq(events(&r, r.l) & TCP_EV_IN, TCP_EV_IN);
	cr_assert_eq(tcp_accept(r.st, r.l, &r.t), 0);
	cr_assert_eq(tcp_poll(r.t) & TCP_EV_IN, TCP_EV_IN);
	expect_ack(&r, 300);
	cr_assert_eq(app_reads(&r, 1000), 300);
}

Test(tcp_open, syn_received_wrong_ack_is_reset_right_one_still_counts)
{
	struct rig r = rig_new();

	rig_listen(&r);
	peer_syn(&r, SYN, 0, PORT);
	cr_assert(take(&r));
	r.iss = rig_seg.abs_seq;
	peer_sends(&r, .flags = ACK, .ack = 77);
	expect_flags(&r, RST);
	cr_assert_eq(rig_seg.seq, 77u);
	peer_sends(&r, .flags = ACK);
	cr_assert_eq(tcp_accept(r.st, r.l, &r.t), 0);
}

Test(tcp_open, segment_without_socket_is_reset)
{
	struct rig r = rig_new();

	peer_sends(&r, .abs = true, .flags = ACK, .seq = 10, .ack = 4000, .dport = 999);
	expect_flags(&r, RST);
	cr_assert_eq(rig_seg.abs_seq, 4000u);
	peer_sends(&r, .abs = true, .flags = SYN, .seq = 10, .dport = 999);
	expect_flags(&r, RST | ACK);
	cr_assert_eq(rig_seg.abs_ack, 11u);
	peer_sends(&r, .abs = true, .flags = RST, .seq = 10, .dport = 999);
	expect_silence(&r);
}

Test(tcp_open, connect_chooses_other_ports_and_reports_exhaustion)
{
	struct stack_sysctl ctl;
	struct endpoint ep = { .addr = PEER, .port = PORT }, other = { .addr = PEER, .port = PORT + 1 };
	struct rig r;
	struct tcb *t;

	stack_sysctl_default(&ctl);
	ctl.ip_local_port_range[0] = 40000;
	ctl.ip_local_port_range[1] = 40009;
	r = rig_new(.ctl = &ctl);
	for (int i = 0; i < 10; i++) {
		t = tcp_open(r.st, 4, 2, r.now);
		cr_assert_eq(tcp_connect(r.st, t, &ep, r.now), -EINPROGRESS, "connect %d", i);
	}
	t = tcp_open(r.st, 4, 2, r.now);
	cr_assert_eq(tcp_connect(r.st, t, &ep, r.now), -EADDRNOTAVAIL);
	cr_assert_eq(tcp_connect(r.st, t, &other, r.now), -EINPROGRESS, "a port serves many destinations");
}

Test(tcp_open, connect_twice_and_states)
{
	struct rig r = rig_new();
	struct endpoint ep = { .addr = PEER, .port = PORT }, far = { .addr = IP(192, 0, 2, 1), .port = 1 };
	struct endpoint own = { .addr = US, .port = PORT };

	rig_connects(&r);
	cr_assert_eq(tcp_connect(r.st, r.t, &ep, r.now), -EALREADY);
	peer_syn(&r, SYN | ACK, r.iss + 1, our_port(&r));
	cr_assert_eq(tcp_connect(r.st, r.t, &ep, r.now), 0);
	cr_assert_eq(tcp_connect(r.st, r.t, &ep, r.now), -EISCONN);
	cr_assert_eq(tcp_listen(r.st, r.t, 5, r.now), -EINVAL);
	cr_assert_eq(tcp_bind(r.st, r.t, &own, r.now), -EINVAL);
	cr_assert_eq(tcp_bind(r.st, r.t, &ep, r.now), -EADDRNOTAVAIL, "the address is looked at first");
	r.t = tcp_open(r.st, 4, 3, r.now);
	cr_assert_eq(tcp_connect(r.st, r.t, &far, r.now), -ENETUNREACH);
	cr_assert_eq(tcp_poll(r.t), TCP_EV_OUT | TCP_EV_WRNORM | TCP_EV_HUP, "as a fresh socket of Linux");
}
