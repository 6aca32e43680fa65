/* SPDX-License-Identifier: BSD-2-Clause */
/* Urgent data: mark, out-of-band octet, SO_OOBINLINE (RFC 6093, and Linux where it is silent) */
#include "rig.h"

/* Data of @len octets at @seq whose urgent octet is number @up: the pointer names the one behind it */
static void urgent(struct rig *r, uint32_t seq, uint32_t len, uint32_t up)
{
	peer_sends(r, .flags = ACK | PSH | URG, .seq = seq, .len = len, .urg = (uint16_t)(up + 1 - seq));
	while (take(r))
		;
}

static int oob(struct rig *r, bool peek)
{
	uint8_t c = 0;
	int n = tcp_recv_oob(r->st, r->t, peek, &c);

	return n == 1 ? c : n - 1000; /* an octet, or 1000 below what else it said */
}

Test(tcp_urg, octet_is_out_of_band_and_reading_stops_at_the_mark)
{
	struct rig r = rig_established();
	uint32_t got = 0;

	cr_assert_eq(oob(&r, false), -EINVAL - 1000);
	urgent(&r, 0, 100, 40);
	cr_assert_eq(events(&r, r.t) & (TCP_EV_PRI | TCP_EV_IN), TCP_EV_PRI | TCP_EV_IN);
	cr_assert_eq(tcp_poll(r.t) & TCP_EV_PRI, TCP_EV_PRI);
	cr_assert_eq(tcp_readable_bytes(r.t), 40u, "SIOCINQ counts up to the mark");
	cr_assert_not(tcp_at_mark(r.t));
	cr_assert_eq(oob(&r, true), octet_at(40));
	cr_assert_eq(oob(&r, false), octet_at(40));
	cr_assert_eq(oob(&r, false), -EINVAL - 1000, "once");
	cr_assert_eq(tcp_poll(r.t) & TCP_EV_PRI, 0u);
	cr_assert_eq(app_reads(&r, 1000), 40);
	cr_assert(tcp_at_mark(r.t));
	got = 41; /* the stream goes on behind it */
	cr_assert_eq(app_reads_from(r.st, r.t, &got, 1000, r.now), 59);
	cr_assert_not(tcp_at_mark(r.t));
	cr_assert_eq(app_reads(&r, 1000), -EAGAIN);
	cr_assert_eq(r.t->conn->copied_seq, r.t->conn->rcv_nxt);
}

Test(tcp_urg, inline_octet_is_part_of_the_stream_and_reading_still_stops_before_it)
{
	struct rig r = rig_established();

	tcp_opts(r.t)->oobinline = 1;
	urgent(&r, 0, 100, 40);
	cr_assert_eq(oob(&r, false), -EINVAL - 1000);
	cr_assert_eq(tcp_readable_bytes(r.t), 100u);
	cr_assert_eq(app_reads(&r, 1000), 40);
	cr_assert(tcp_at_mark(r.t));
	cr_assert_eq(app_reads(&r, 1000), 60);
	cr_assert_eq(oob(&r, false), -EINVAL - 1000);
}

Test(tcp_urg, pointer_ahead_of_the_data_wakes_at_once_and_octet_comes_later)
{
	struct rig r = rig_established();

	peer_sends(&r, .flags = ACK | URG, .seq = 0, .urg = 11);
	cr_assert_eq(events(&r, r.t) & TCP_EV_PRI, TCP_EV_PRI, "SIGURG");
	cr_assert_eq(tcp_poll(r.t) & TCP_EV_PRI, 0u, "nothing to read yet");
	cr_assert_eq(oob(&r, false), -EAGAIN - 1000);
	peer_sends(&r, .flags = ACK, .seq = 0, .len = 10);
	cr_assert_eq(oob(&r, false), -EAGAIN - 1000);
	peer_sends(&r, .flags = ACK, .seq = 10, .len = 10);
	cr_assert_eq(tcp_poll(r.t) & TCP_EV_PRI, TCP_EV_PRI);
	cr_assert_eq(oob(&r, false), octet_at(10));
	cr_assert_eq(app_reads(&r, 1000), 10);
	cr_assert(tcp_at_mark(r.t));
}

Test(tcp_urg, lone_urgent_octet_is_not_readable_data)
{
	struct rig r = rig_established();

	urgent(&r, 0, 1, 0);
	cr_assert_eq(tcp_poll(r.t) & (TCP_EV_IN | TCP_EV_PRI), TCP_EV_PRI);
	cr_assert(tcp_at_mark(r.t));
	cr_assert_eq(app_reads(&r, 10), -EAGAIN);
	cr_assert_eq(oob(&r, false), octet_at(0));
	urgent(&r, 1, 10, 10); /* a new mark: the old octet is gone for good */
	r.received = 1;
	cr_assert_eq(app_reads(&r, 100), 9);
	cr_assert(tcp_at_mark(r.t));
}

Test(tcp_urg, new_mark_makes_the_old_octet_ordinary)
{
	struct rig r = rig_established();

	urgent(&r, 0, 20, 5);
	urgent(&r, 20, 20, 30);
	cr_assert_eq(oob(&r, false), octet_at(30));
	cr_assert_eq(app_reads(&r, 1000), 30, "with the octet that was urgent first");
}

Test(tcp_urg, old_pointer_changes_nothing)
{
	struct rig r = rig_established();

	urgent(&r, 0, 20, 15);
	cr_assert_eq(oob(&r, false), octet_at(15));
	urgent(&r, 0, 20, 15);
	cr_assert_eq(oob(&r, false), -EINVAL - 1000, "a retransmission is no second mark");
	urgent(&r, 0, 40, 10);
	cr_assert_eq(oob(&r, false), -EINVAL - 1000, "nor is one behind rcv_nxt");
}

Test(tcp_urg, out_of_order_urgent_octet_counts_at_once)
{
	struct rig r = rig_established(.sack = true);

	urgent(&r, 100, 50, 120);
	cr_assert_eq(oob(&r, false), octet_at(120));
	peer_sends(&r, .flags = ACK, .seq = 0, .len = 100);
	cr_assert_eq(app_reads(&r, 1000), 120);
	cr_assert(tcp_at_mark(r.t));
}

Test(tcp_urg, peek_across_calls_sees_the_hole)
{
	struct rig r = rig_established();
	struct iovec iov[8];
	int n;

	urgent(&r, 0, 30, 10);
	cr_assert_eq(tcp_recv_begin(r.st, r.t, 0, 100, iov, 8, &n), 10);
	tcp_recv_done(r.st, r.t, 0, r.now);
	cr_assert_eq(tcp_recv_begin(r.st, r.t, 10, 100, iov, 8, &n), 19);
	cr_assert_eq(*(uint8_t *)iov[0].iov_base, octet_at(11));
	tcp_recv_done(r.st, r.t, 0, r.now);
	cr_assert_eq(app_reads(&r, 1000), 10, "nothing was consumed");
}

Test(tcp_urg, end_of_stream_behind_the_mark_leaves_nothing_unread)
{
	struct rig r = rig_established();

	peer_sends(&r, .flags = ACK | URG | FIN, .seq = 0, .len = 1, .urg = 1);
	cr_assert_eq(oob(&r, true), octet_at(0));
	cr_assert_eq(app_reads(&r, 10), 0);
	while (take(&r))
		;
	tcp_close(r.st, r.t, r.now);
	expect_flags(&r, FIN | ACK);
}

Test(tcp_urg, sender_marks_the_octet_behind_and_splits_super_frames)
{
	struct rig r = rig_established(.gso = true);
	uint32_t seq = 0;

	cr_assert_eq(app_sends(&r, 2500), 2500);
	cr_assert_eq(app_sends_flags(r.st, r.t, &r.sent, 1, TCP_SEND_OOB, r.now), 1);
	while (take(&r)) {
		cr_assert_eq(rig_seg.gso, 0u, "one pointer for each segment");
		cr_assert_eq(rig_seg.flags & URG, URG);
		cr_assert_eq(rig_seg.seq, seq);
		cr_assert_eq(rig_seg.seq + rig_seg.urg, 2501u, "the one behind the urgent octet");
		seq += rig_seg.len;
	}
	cr_assert_eq(seq, 2501u);
	peer_sends(&r, .flags = ACK, .ack = 2501);
	cr_assert_eq(app_sends(&r, 5000), 5000);
	cr_assert(take(&r));
	cr_assert_eq(rig_seg.flags & URG, 0);
	cr_assert_neq(rig_seg.gso, 0u, "urgent mode is over");
}

Test(tcp_urg, two_stacks)
{
	struct pair p = pair_new(true, NULL);
	struct tcb *l, *c, *s;
	uint32_t sent = 0, got = 0;
	uint8_t octet;

	pair_connect(&p, &l, &c, &s);
	app_sends_flags(p.st[0], c, &sent, 3000, 0, p.now);
	app_sends_flags(p.st[0], c, &sent, 1, TCP_SEND_OOB, p.now);
	app_sends_flags(p.st[0], c, &sent, 3000, 0, p.now);
	pair_advance(&p, SEC(1));
	cr_assert_eq(tcp_recv_oob(p.st[1], s, false, &octet), 1);
	cr_assert_eq(octet, octet_at(3000));
	while (!tcp_at_mark(s))
		cr_assert_gt(app_reads_from(p.st[1], s, &got, 700, p.now), 0);
	cr_assert_eq(got, 3000u);
	got++;
	while (got < 6001)
		cr_assert_gt(app_reads_from(p.st[1], s, &got, 700, p.now), 0);
}
