/* SPDX-License-Identifier: BSD-2-Clause */
/* Data in both directions: segments, windows, Nagle, cork, acknowledgments, out of order */
#include "rig.h"

Test(tcp_data, established_sends_full_segments_then_the_rest)
{
	struct rig r = rig_established();

	cr_assert_eq(app_sends(&r, 2500), 2500);
	expect_data(&r, 0, 1000);
	cr_assert_not(rig_seg.flags & PSH);
	expect_data(&r, 1000, 1000);
	expect_data(&r, 2000, 500); /* Minshall: the first small one need not wait for full ones */
	cr_assert(rig_seg.flags & PSH);
	expect_silence(&r);
}

Test(tcp_data, initial_window_is_ten_segments)
{
	struct rig r = rig_established();

	cr_assert_geq(app_sends(&r, 15000), 10001);
	for (uint32_t i = 0; i < 10; i++)
		expect_data(&r, i * 1000, 1000);
	expect_silence(&r);
	peer_sends(&r, .flags = ACK, .ack = 2000);
	for (uint32_t i = 10; i < 14; i++)
		expect_data(&r, i * 1000, 1000);
}

Test(tcp_data, super_frame_carries_gso_size)
{
	struct rig r = rig_established(.gso = true);

	cr_assert_eq(app_sends(&r, 8500), 8500);
	expect_data(&r, 0, 8500);
	cr_assert_eq(rig_seg.gso, 1000u);
	cr_assert_neq(rig_seg.flags & PSH, 0);
	peer_sends(&r, .flags = ACK, .ack = 8500);
	expect_silence(&r);
	cr_assert_eq(r.st->pools.held_bytes, 0u);
}

Test(tcp_data, nagle_holds_second_small_segment_until_ack)
{
	struct rig r = rig_established();

	app_sends(&r, 100);
	expect_data(&r, 0, 100);
	app_sends(&r, 100);
	app_sends(&r, 100);
	expect_silence(&r);
	peer_sends(&r, .flags = ACK, .ack = 100);
	expect_data(&r, 100, 200);
}

Test(tcp_data, nodelay_sends_small_segments_at_once)
{
	struct rig r = rig_established();

	tcp_opts(r.t)->nodelay = 1;
	tcp_opt_changed(r.st, r.t, TCP_OPT_NODELAY, r.now);
	app_sends(&r, 100);
	expect_data(&r, 0, 100);
	app_sends(&r, 100);
	expect_data(&r, 100, 100);
}

Test(tcp_data, cork_holds_200_ms_at_most)
{
	struct rig r = rig_established();

	tcp_opts(r.t)->cork = 1;
	tcp_opt_changed(r.st, r.t, TCP_OPT_CORK, r.now);
	app_sends(&r, 1300);
	expect_data(&r, 0, 1000);
	peer_sends(&r, .flags = ACK, .ack = 1000);
	expect_silence(&r);
	advance(&r, MSEC(199));
	expect_silence(&r);
	advance(&r, MSEC(2));
	expect_data(&r, 1000, 300);
	app_sends(&r, 50);
	expect_silence(&r);
	tcp_opts(r.t)->cork = 0;
	tcp_opt_changed(r.st, r.t, TCP_OPT_CORK, r.now);
	peer_sends(&r, .flags = ACK, .ack = 1300);
	expect_data(&r, 1300, 50);
}

Test(tcp_data, msg_more_waits_for_its_companion)
{
	struct rig r = rig_established();

	app_sends_flags(r.st, r.t, &r.sent, 100, TCP_SEND_MORE, r.now);
	expect_silence(&r);
	app_sends(&r, 50);
	expect_data(&r, 0, 150);
}

Test(tcp_data, receive_in_order_and_delayed_ack)
{
	struct rig r = rig_established();

	r.t->quick_acks = 0;
	for (uint32_t i = 0; i < 16; i++) { /* quick-ACK phase: each at once */
		peer_sends(&r, .flags = ACK | PSH, .seq = i * 10, .len = 10);
		expect_ack(&r, i * 10 + 10);
	}
	cr_assert_eq(app_reads(&r, 1000), 160);
	expect_silence(&r);
	peer_sends(&r, .flags = ACK | PSH, .seq = 160, .len = 10);
	expect_silence(&r);
	advance(&r, MSEC(39));
	expect_silence(&r);
	advance(&r, MSEC(2));
	expect_ack(&r, 170);
	peer_sends(&r, .flags = ACK, .seq = 170, .len = 1000);
	expect_silence(&r);
	peer_sends(&r, .flags = ACK, .seq = 1170, .len = 1000);
	expect_ack(&r, 2170); /* second full segment */
}

Test(tcp_data, acknowledgment_rides_on_the_answer)
{
	struct rig r = rig_established();

	for (uint32_t i = 0; i < 5; i++) {
		peer_sends(&r, .flags = ACK | PSH, .seq = i * 100, .ack = i * 50, .len = 100);
		if (i == 0)
			expect_ack(&r, 100); /* not known to be interactive yet */
		cr_assert_eq(app_reads(&r, 1000), 100);
		cr_assert_eq(app_sends(&r, 50), 50);
		expect_data(&r, i * 50, 50);
		cr_assert_eq(rig_seg.ack, (i + 1) * 100);
		expect_silence(&r);
		advance(&r, MSEC(1));
	}
}

Test(tcp_data, out_of_order_is_queued_sacked_and_delivered_once)
{
	struct rig r = rig_established(.sack = true);

	peer_sends(&r, .flags = ACK, .seq = 2000, .len = 1000);
	expect_ack(&r, 0);
	cr_assert_eq(rig_seg.o.n_sack, 1);
	cr_assert_eq(rig_seg.o.sack[0].start - (PEER_ISS + 1), 2000u);
	cr_assert_eq(rig_seg.o.sack[0].end - (PEER_ISS + 1), 3000u);
	peer_sends(&r, .flags = ACK, .seq = 4000, .len = 1000);
	expect_ack(&r, 0);
	cr_assert_eq(rig_seg.o.n_sack, 2);
	cr_assert_eq(rig_seg.o.sack[0].start - (PEER_ISS + 1), 4000u, "the latest comes first");
	cr_assert_eq(rig_seg.o.sack[1].start - (PEER_ISS + 1), 2000u);
	peer_sends(&r, .flags = ACK, .seq = 2500, .len = 2000); /* joins both */
	expect_ack(&r, 0);
	cr_assert_eq(rig_seg.o.n_sack, 1);
	cr_assert_eq(rig_seg.o.sack[0].end - (PEER_ISS + 1), 5000u);
	cr_assert_eq(app_reads(&r, 9000), -EAGAIN);
	peer_sends(&r, .flags = ACK, .seq = 0, .len = 2200);
	expect_ack(&r, 5000);
	cr_assert_eq(rig_seg.o.n_sack, 0);
	cr_assert_eq(app_reads(&r, 9000), 5000);
	expect_silence(&r);
	cr_assert_eq(r.st->pools.held_bytes, 0u);
}

Test(tcp_data, duplicate_is_answered_with_dsack)
{
	struct rig r = rig_established(.sack = true);

	peer_sends(&r, .flags = ACK, .seq = 0, .len = 1000);
	expect_ack(&r, 1000);
	peer_sends(&r, .flags = ACK, .seq = 0, .len = 1000);
	expect_ack(&r, 1000);
	cr_assert_eq(rig_seg.o.n_sack, 1);
	cr_assert_eq(rig_seg.o.sack[0].start - (PEER_ISS + 1), 0u);
	cr_assert_eq(rig_seg.o.sack[0].end - (PEER_ISS + 1), 1000u);
	cr_assert_eq(app_reads(&r, 9000), 1000);
}

Test(tcp_data, random_pieces_in_random_order_make_the_stream)
{
	uint64_t seed = 42;

	for (int round = 0; round < 20; round++) {
		struct rig r = rig_established(.sack = true, .region_mb = 64);
		uint32_t total = 30000;

		for (unsigned i = 0; i < 4000 && r.t->rcv_nxt != PEER_ISS + 1 + total; i++) {
			uint32_t seq = (uint32_t)(rnd(&seed) % total), len = 1 + (uint32_t)(rnd(&seed) % 300);

			if (i % 8 == 0)
				seq = r.t->rcv_nxt - (PEER_ISS + 1);
			if (seq + len > total)
				len = total - seq;
			peer_sends(&r, .flags = ACK, .seq = seq, .len = len);
			while (take(&r))
				;
		}
		cr_assert_eq(app_reads(&r, total), (ptrdiff_t)total);
		cr_assert_eq(r.st->pools.held_bytes, 0u);
	}
}

Test(tcp_data, window_closes_when_nobody_reads_and_opens_again)
{
	struct rig r = rig_established(.rcvbuf = 20000);
	uint32_t seq = 0;

	while (r.t->rcv_adv != r.t->rcv_nxt) {
		uint32_t n = r.t->rcv_adv - r.t->rcv_nxt < 1000 ? r.t->rcv_adv - r.t->rcv_nxt : 1000;

		peer_sends(&r, .flags = ACK, .seq = seq, .len = n);
		seq += n;
		while (take(&r))
			;
		advance(&r, MSEC(50));
		while (take(&r))
			;
		cr_assert_leq(seq, 20000u);
	}
	cr_assert_eq(seq, 10000u, "half of the buffer is window");
	peer_sends(&r, .flags = ACK, .seq = seq, .len = 1); /* probe */
	expect_ack(&r, seq);
	cr_assert_eq(rig_seg.wnd, 0u);
	cr_assert_eq(app_reads(&r, 500), 500);
	expect_silence(&r); /* silly window: not yet */
	cr_assert_eq(app_reads(&r, 9000), 9000);
	expect_ack(&r, seq);
	cr_assert_geq(rig_seg.wnd, 5000u);
}

Test(tcp_data, zero_window_is_probed_and_never_given_up_while_answered)
{
	struct rig r = rig_established();
	unsigned probes = 0;

	app_sends(&r, 1000);
	expect_data(&r, 0, 1000);
	app_sends(&r, 1000);
	expect_data(&r, 1000, 1000);
	peer_sends(&r, .flags = ACK, .ack = 2000, .wnd0 = true);
	app_sends(&r, 1000);
	expect_silence(&r);
	for (unsigned s = 0; s < 1200; s++) {
		advance(&r, SEC(1));
		while (take(&r)) {
			probes++;
			cr_assert_eq(rig_seg.len, 0u);
			cr_assert_eq(rig_seg.seq, 1999u);
			peer_sends(&r, .flags = ACK, .ack = 2000, .wnd0 = true);
		}
	}
	cr_assert_geq(probes, 8u);
	cr_assert_leq(probes, 40u, "with back-off");
	cr_assert_eq(tcp_state(r.t), TCPS_ESTABLISHED);
	peer_sends(&r, .flags = ACK, .ack = 2000);
	expect_data(&r, 2000, 1000);
}

Test(tcp_data, small_window_is_filled_by_the_probe)
{
	struct rig r = rig_established(.wnd = 60000);

	app_sends(&r, 2000);
	expect_data(&r, 0, 1000);
	expect_data(&r, 1000, 1000);
	peer_sends(&r, .flags = ACK, .ack = 2000, .wnd = 300);
	app_sends(&r, 1000);
	expect_silence(&r);
	advance(&r, SEC(2));
	expect_data(&r, 2000, 300);
}

Test(tcp_data, send_buffer_fills_and_tells_when_there_is_room)
{
	struct rig r = rig_established(.wnd = 5000);
	uint32_t before, seq = 0;

	while (app_sends(&r, 10000) > 0)
		;
	cr_assert_eq(app_sends(&r, 1), -EAGAIN);
	cr_assert_not(tcp_poll(r.t) & TCP_EV_OUT);
	events(&r, r.t);
	before = r.sent;
	while (!(events(&r, r.t) & TCP_EV_OUT)) {
		cr_assert_lt(seq, before);
		while (take(&r))
			seq = rig_seg.seq + rig_seg.len;
		peer_sends(&r, .flags = ACK, .ack = seq);
	}
	cr_assert(tcp_poll(r.t) & TCP_EV_OUT);
	cr_assert_geq(app_sends(&r, 10000), 1);
	cr_assert_geq(seq, before / 4, "not for each acknowledgment");
}

Test(tcp_data, old_timestamp_is_dropped_and_acknowledged)
{
	struct rig r = rig_established(.ts = true);

	peer_sends(&r, .flags = ACK, .seq = 0, .len = 100, .ts_val = 8000);
	expect_ack(&r, 100);
	cr_assert_eq(rig_seg.o.ts_ecr, 8000u);
	peer_sends(&r, .flags = ACK, .seq = 100, .len = 100, .ts_val = 7500);
	expect_ack(&r, 100);
	cr_assert_eq(rig_seg.o.ts_ecr, 8000u);
	cr_assert_eq(app_reads(&r, 1000), 100);
}

Test(tcp_data, out_of_memory_drops_and_recovers)
{
	struct rig r = rig_established(.mem_limit = 40000);
	uint32_t seq = 0;

	for (int i = 0; i < 60; i++) {
		peer_sends(&r, .flags = ACK, .seq = seq, .len = 1000);
		while (take(&r))
			seq = rig_seg.ack;
	}
	cr_assert_leq(r.st->pools.held_bytes, 40000u);
	cr_assert_geq(seq, 20000u);
	cr_assert_eq(app_reads(&r, 100000), (ptrdiff_t)seq);
	peer_sends(&r, .flags = ACK, .seq = seq, .len = 1000);
	cr_assert_eq(app_reads(&r, 100000), 1000);
}

Test(tcp_data, reader_in_the_middle_does_not_lose_what_comes_meanwhile)
{
	struct rig r = rig_established();
	struct iovec iov[8];
	int n;

	peer_sends(&r, .flags = ACK, .seq = 0, .len = 100);
	cr_assert_eq(tcp_recv_begin(r.st, r.t, 0, 1000, iov, 8, &n), 100);
	cr_assert_eq(tcp_recv_begin(r.st, r.t, 0, 1000, iov, 8, &n), -EBUSY);
	peer_sends(&r, .flags = ACK, .seq = 100, .len = 100);
	tcp_recv_done(r.st, r.t, 100, r.now);
	r.received = 100;
	cr_assert_eq(app_reads(&r, 1000), 100);
}

Test(tcp_data, writer_in_the_middle_survives_acknowledgment_of_all)
{
	struct rig r = rig_established();
	struct iovec iov[8];
	int n;
	ptrdiff_t room;

	tcp_opts(r.t)->nodelay = 1;
	app_sends(&r, 100);
	expect_data(&r, 0, 100);
	room = tcp_send_begin(r.st, r.t, 150, iov, 8, &n);
	cr_assert_eq(room, 150);
	cr_assert_eq(tcp_send_begin(r.st, r.t, 1, iov, 8, &n), -EBUSY);
	tcp_send_begin(r.st, r.t, 1, iov, 8, &n);
	peer_sends(&r, .flags = ACK, .ack = 100);
	for (ptrdiff_t k = 0, i = 0; i < n; i++)
		for (size_t j = 0; j < iov[i].iov_len; j++, k++)
			((uint8_t *)iov[i].iov_base)[j] = octet_at(100 + (uint64_t)k);
	tcp_send_commit(r.st, r.t, 150, 0, r.now);
	expect_data(&r, 100, 150);
	peer_sends(&r, .flags = ACK, .ack = 250);
	cr_assert_eq(r.st->pools.held_bytes, 0u);
}

Test(tcp_data, empty_commit_leaves_the_reader_alone)
{
	struct rig r = rig_established();
	struct iovec iov[8];
	int n;

	peer_sends(&r, .flags = ACK, .seq = 0, .len = 100);
	cr_assert_eq(tcp_recv_begin(r.st, r.t, 0, 1000, iov, 8, &n), 100);
	cr_assert_eq(tcp_send_begin(r.st, r.t, 10, iov, 8, &n), 10);
	tcp_send_commit(r.st, r.t, 0, 0, r.now);
	cr_assert_eq(tcp_recv_begin(r.st, r.t, 0, 1000, iov, 8, &n), -EBUSY);
	tcp_recv_done(r.st, r.t, 100, r.now);
	cr_assert_eq(r.st->pools.held_bytes, 0u);
}

Test(tcp_data, reset_while_a_writer_fills_cells)
{
	struct rig r = rig_established();
	struct iovec iov[8];
	int n;

	app_sends(&r, 500);
	cr_assert_gt(tcp_send_begin(r.st, r.t, 5000, iov, 8, &n), 0);
	peer_sends(&r, .flags = RST);
	for (int i = 0; i < n; i++)
		memset(iov[i].iov_base, 1, iov[i].iov_len);
	cr_assert_neq(r.st->pools.held_bytes, 0u, "still his to write to");
	tcp_send_commit(r.st, r.t, 5000, 0, r.now);
	cr_assert_eq(r.st->pools.held_bytes, 0u);
	expect_silence(&r);
}

Test(tcp_data, tiny_segments_out_of_order_stay_within_the_buffer)
{
	struct rig r = rig_established(.rcvbuf = 40000);

	for (uint32_t i = 0; i < 9000; i++) {
		peer_sends(&r, .flags = ACK, .seq = 19999 - 2 * i, .len = 1);
		while (take(&r))
			;
		cr_assert_leq(r.t->rcv_mem_bytes, 40000u + 10000 + 20000);
	}
	cr_assert_gt(r.st->cnt[CNT_TcpExtOfoPruned], 0u, "the farthest made room");
	peer_sends(&r, .flags = ACK, .seq = 0, .len = 20000);
	while (take(&r))
		cr_assert_eq(rig_seg.ack, 20000u);
	cr_assert_eq(app_reads(&r, 50000), 20000);
	cr_assert_eq(r.st->pools.held_bytes, 0u);
}

Test(tcp_data, without_sack_each_segment_out_of_order_gets_its_ack)
{
	struct rig r = rig_established();

	for (uint32_t i = 1; i <= 4; i++)
		peer_sends(&r, .flags = ACK, .seq = i * 1000, .len = 1000);
	for (uint32_t i = 1; i <= 4; i++)
		expect_ack(&r, 0);
	expect_silence(&r);
	peer_sends(&r, .flags = ACK, .seq = 0, .len = 1000);
	expect_ack(&r, 5000);
}

Test(tcp_data, fin_waits_for_the_window_and_is_probed)
{
	struct rig r = rig_established();

	app_sends(&r, 1000);
	expect_data(&r, 0, 1000);
	peer_sends(&r, .flags = ACK, .ack = 1000, .wnd0 = true);
	cr_assert_eq(tcp_shutdown(r.st, r.t, 1, r.now), 0);
	expect_silence(&r);
	advance(&r, SEC(3));
	expect_ack(&r, 0);
	while (take(&r))
		;
	peer_sends(&r, .flags = ACK, .ack = 1000, .wnd = 100);
	expect_flags(&r, FIN | ACK);
	cr_assert_eq(rig_seg.seq, 1000u);
}

/* All that may be held is held by what came in: who sends waits, is not writable, and hears when memory is free again. */
Test(tcp_data, writer_without_memory_waits_and_is_told)
{
	struct rig r = rig_established(.mem_limit = 40000);
	struct stack_event ev;
	bool told = false;

	for (uint32_t i = 0; r.st->pools.held_bytes + 256 <= 40000 && i < 400; i++)
		peer_sends(&r, .flags = ACK, .seq = i * 100, .len = 100);
	while (take(&r) || stack_event(r.st, &ev))
		;
	cr_assert_eq(app_sends(&r, 1000), -EAGAIN);
	cr_assert_eq(tcp_poll(r.t) & TCP_EV_OUT, 0u);
	cr_assert_gt(app_reads(&r, 40000), 0);
	while (stack_event(r.st, &ev))
		told |= ev.tcb == r.t && (ev.what & TCP_EV_OUT);
	cr_assert(told);
	cr_assert_eq(tcp_poll(r.t) & TCP_EV_OUT, TCP_EV_OUT);
	cr_assert_eq(app_sends(&r, 1000), 1000);
}

Test(tcp_data, octets_put_back_are_read_again_before_what_waits)
{
	struct rig r = rig_established();
	uint8_t piece[70000], got[200];
	struct iovec iov[4];
	ptrdiff_t n;
	int n_iov;

	peer_sends(&r, .seq = 0, .flags = ACK | PSH, .ack = 0, .len = 300);
	n = tcp_recv_begin(r.st, r.t, 0, 200, iov, 4, &n_iov);
	cr_assert_eq(n, 200);
	memcpy(got, iov[0].iov_base, 200);
	cr_assert_eq(tcp_unread(r.st, r.t, got, 200), -EBUSY);
	tcp_recv_done(r.st, r.t, 200, r.now);
	cr_assert_eq(tcp_unread(r.st, r.t, got, 200), 0);
	cr_assert_eq(tcp_readable_bytes(r.t), 300u);
	cr_assert_eq(app_reads(&r, 1000), 300); /* checks each octet by its place in the stream */
	cr_assert_eq(tcp_readable_bytes(r.t), 0u);
	memset(piece, 7, sizeof(piece));
	cr_assert_eq(tcp_unread(r.st, r.t, piece, sizeof(piece)), 0); /* several cells; and nothing waits */
	cr_assert_eq(tcp_readable_bytes(r.t), sizeof(piece));
	for (size_t left = sizeof(piece); left > 0; left -= (size_t)n) {
		n = tcp_recv_begin(r.st, r.t, 0, left, iov, 4, &n_iov);
		cr_assert_gt(n, 0);
		cr_assert_eq(*(uint8_t *)iov[0].iov_base, 7);
		tcp_recv_done(r.st, r.t, (size_t)n, r.now);
	}
	cr_assert_eq(r.st->pools.held_bytes, 0u);
}
