/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_tcp_pair.c - a program that talks to another on the same host: one stack, both ends in it
 *
 * end[0] connected, end[1] was accepted. What leaves as frames is counted by TcpOutSegs.
 */
#include "rig.h"

struct loop {
	struct stack *st;
	usec_t now;
	struct tcb *l, *end[2];
	uint32_t sent[2], read[2]; /* by the program at each end */
	uint64_t recorded;	   /* octets of payload */
};

/* Everything that can go, goes; frames are seen by a capture alone */
static void turn(struct loop *w)
{
	struct pbuf *p;

	while ((p = stack_output(w->st, w->now))) {
		cr_assert(w->st->capture && p->told, "a frame to ourselves left by the device");
		for (unsigned i = 0; i < p->n_frags; i++)
			w->recorded += p->frag[i].len;
		stack_tx_done(w->st, p);
	}
}

static void later(struct loop *w, usec_t us)
{
	usec_t end = w->now + us;

	turn(w);
	while (stack_deadline(w->st) <= end) {
		if (stack_deadline(w->st) > w->now)
			w->now = stack_deadline(w->st);
		stack_expire(w->st, w->now);
		turn(w);
	}
	w->now = end;
	stack_expire(w->st, w->now);
	turn(w);
}

static uint64_t frames(const struct loop *w)
{
	return stack_counters(w->st)[CNT_TcpOutSegs];
}

static uint32_t edges(struct loop *w, int i)
{
	struct stack_event e;
	uint32_t what = 0;

	while (stack_event(w->st, &e))
		what |= e.tcb == w->end[i] ? e.what : 0;
	return what;
}

static struct loop loop_new(void)
{
	struct rig r = rig_new();
	struct endpoint to = { .addr = US, .port = PORT };
	struct loop w = { .st = r.st, .now = r.now };

	rig_listen(&r);
	w.l = r.l;
	w.end[0] = tcp_open(w.st, 4, 2, w.now);
	cr_assert_eq(tcp_connect(w.st, w.end[0], &to, w.now), -EINPROGRESS);
	turn(&w);
	cr_assert_eq(tcp_connect(w.st, w.end[0], &to, w.now), 0);
	cr_assert_eq(tcp_accept(w.st, w.l, &w.end[1]), 0);
	tcp_set_user(w.end[1], 3);
	edges(&w, 0);
	return w;
}

static ptrdiff_t sends_flags(struct loop *w, int i, size_t n, unsigned flags)
{
	return app_sends_flags(w->st, w->end[i], &w->sent[i], n, flags, w->now);
}

static ptrdiff_t sends(struct loop *w, int i, size_t n)
{
	return sends_flags(w, i, n, 0);
}

/* What the other end sent, checked octet by octet */
static ptrdiff_t reads(struct loop *w, int i, size_t n)
{
	return app_reads_from(w->st, w->end[i], &w->read[i], n, w->now);
}

static bool joined(const struct loop *w)
{
	return w->end[0]->conn && w->end[1]->conn && w->end[0]->conn->pair == w->end[1]->conn &&
	       w->end[1]->conn->pair == w->end[0]->conn;
}

/* Both ends believe the same */
static void expect_agreed(const struct loop *w)
{
	for (int i = 0; i < 2; i++) {
		const struct tcp_conn *t = w->end[i]->conn, *p = w->end[!i]->conn;

		cr_assert_eq(t->snd_nxt, p->rcv_nxt);
		cr_assert_eq(t->snd_una, t->snd_nxt);
		cr_assert_eq(p->rcv_wup, p->rcv_nxt);
		cr_assert_eq(t->tx_n, 0);
		cr_assert(seq_leq(t->snd_una + t->snd_wnd, p->rcv_adv), "a window that was not offered");
		cr_assert_eq(t->bytes_sent, t->bytes_acked - 1 + (i == 1), "the SYN counts where it was acknowledged");
	}
}

Test(tcp_pair, payload_needs_no_frame)
{
	struct loop w = loop_new();
	uint64_t before = frames(&w);

	for (int i = 0; i < 100; i++) {
		cr_assert_eq(sends(&w, i & 1, 1000), 1000);
		turn(&w);
		cr_assert(edges(&w, !(i & 1)) & TCP_EV_IN);
		cr_assert_eq(tcp_readable_bytes(w.end[!(i & 1)]), 1000u);
		cr_assert_eq(tcp_unacked_bytes(w.end[i & 1]), 0u);
		cr_assert_eq(reads(&w, !(i & 1), 2000), 1000);
	}
	cr_assert(joined(&w));
	expect_agreed(&w);
	later(&w, MSEC(900));
	cr_assert_eq(frames(&w), before, "%lu frames", (unsigned long)(frames(&w) - before));
	cr_assert_eq(w.st->pools.held_bytes, 0u);
}

Test(tcp_pair, first_payload_with_the_handshakes_acknowledgment)
{
	struct rig r = rig_new();
	struct endpoint to = { .addr = US, .port = PORT };
	struct loop w = { .st = r.st, .now = r.now };

	/* SYN and SYN-ACK have gone by, the third segment has not: what follows it at once goes with it, by a frame */
	rig_listen(&r);
	w.end[0] = tcp_open(w.st, 4, 2, w.now);
	cr_assert_eq(tcp_connect(w.st, w.end[0], &to, w.now), -EINPROGRESS);
	turn(&w);
	cr_assert_eq(tcp_accept(w.st, r.l, &w.end[1]), 0);
	w.end[0]->conn->flags |= TF_ACK_NOW;
	for (int i = 0; i < 10; i++) {
		cr_assert_eq(sends(&w, 0, 10), 10);
		turn(&w);
		cr_assert_eq(reads(&w, 1, 100), 10);
		cr_assert_eq(sends(&w, 1, 10), 10);
		turn(&w);
		cr_assert_eq(reads(&w, 0, 100), 10);
	}
	cr_assert(joined(&w));
	expect_agreed(&w);
}

Test(tcp_pair, reader_that_does_not_read_stops_the_writer)
{
	struct loop w = loop_new();
	uint64_t before = frames(&w);
	uint32_t limit;

	while (sends(&w, 0, 10000) > 0)
		turn(&w);
	turn(&w);
	limit = w.end[1]->conn->rcv_space_bytes;
	cr_assert_leq(tcp_readable_bytes(w.end[1]), limit);
	cr_assert_geq(tcp_readable_bytes(w.end[1]), limit / 2);
	cr_assert_leq(w.end[1]->conn->rcv_mem_bytes, w.end[1]->conn->opts.rcvbuf_bytes + cell_block_bytes[CELL_LARGE]);
	cr_assert_eq(tcp_unacked_bytes(w.end[0]), w.sent[0] - tcp_readable_bytes(w.end[1]));
	cr_assert_not(tcp_poll(w.end[0]) & TCP_EV_OUT);
	cr_assert_eq(frames(&w), before);
	edges(&w, 0);
	while (w.read[1] < w.sent[0]) {
		cr_assert_gt(reads(&w, 1, 3000), 0);
		turn(&w);
	}
	cr_assert(edges(&w, 0) & TCP_EV_OUT, "the writer is told");
	cr_assert(tcp_poll(w.end[0]) & TCP_EV_OUT);
	cr_assert_eq(reads(&w, 1, 1), -EAGAIN);
	expect_agreed(&w);
	cr_assert_eq(w.st->pools.held_bytes, 0u);
}

Test(tcp_pair, writer_goes_on_while_the_reader_reads_without_another_turn)
{
	struct loop w = loop_new();
	uint32_t before;

	while (sends(&w, 0, 50000) > 0)
		;
	before = w.sent[0];
	while (reads(&w, 1, 65536) > 0)
		;
	cr_assert_eq(w.read[1], before, "all that was queued");
}

Test(tcp_pair, window_of_a_locked_small_buffer_is_kept)
{
	struct loop w = loop_new();

	tcp_opts(w.end[1])->rcvbuf_bytes = 4608;
	tcp_opts(w.end[1])->rcvbuf_locked = 1;
	tcp_opt_changed(w.st, w.end[1], TCP_OPT_RCVBUF, w.now);
	w.end[1]->conn->rcv_adv = w.end[1]->conn->rcv_nxt; /* what was offered before is not taken back else */
	w.end[0]->conn->snd_wnd = 0;
	while (sends(&w, 0, 700) > 0)
		turn(&w);
	cr_assert_leq(tcp_readable_bytes(w.end[1]), 2304u + 128);
	while (w.read[1] < w.sent[0]) {
		cr_assert_gt(reads(&w, 1, 1000), 0, "stuck at %u of %u", w.read[1], w.sent[0]);
		turn(&w);
	}
}

Test(tcp_pair, reader_that_waits_for_much_is_told)
{
	for (int k = 0; k < 20; k++) {
		struct loop w = loop_new();
		uint32_t lowat = 1 + (uint32_t)k * 30000;
		bool told = false;

		tcp_opts(w.end[1])->rcvbuf_bytes = 1500000;
		tcp_opts(w.end[1])->rcvlowat_bytes = (int32_t)lowat;
		tcp_opt_changed(w.st, w.end[1], TCP_OPT_RCVBUF, w.now);
		turn(&w);
		sends(&w, 0, 300);
		while (sends(&w, 0, 100000) > 0 && !told) {
			turn(&w);
			told = edges(&w, 1) & TCP_EV_IN;
		}
		turn(&w);
		cr_assert(told || edges(&w, 1) & TCP_EV_IN, "waits for %u, has %zu", lowat, tcp_readable_bytes(w.end[1]));
		cr_assert(tcp_poll(w.end[1]) & TCP_EV_IN);
	}
}

Test(tcp_pair, single_octets_share_cells)
{
	struct loop w = loop_new();

	for (int i = 0; i < 20000; i++) {
		cr_assert_eq(sends(&w, 0, 1), 1);
		turn(&w);
	}
	cr_assert_eq(tcp_readable_bytes(w.end[1]), 20000u);
	cr_assert_leq(w.end[1]->conn->rcv_mem_bytes, 30000u);
	cr_assert_eq(reads(&w, 1, 30000), 20000);
	cr_assert_eq(w.st->pools.held_bytes, 0u);
}

Test(tcp_pair, large_cells_change_sides_uncopied)
{
	struct loop w = loop_new();
	const struct cell *c;

	cr_assert_eq(sends(&w, 0, 16384), 16384);
	c = w.end[0]->conn->snd_head;
	turn(&w);
	cr_assert_eq(w.end[1]->conn->rcv_head, c ? c : w.end[1]->conn->rcv_head);
	cr_assert_null(w.end[0]->conn->snd_head);
	cr_assert_eq(w.end[0]->conn->snd_mem_bytes, 0u);
	cr_assert_eq(reads(&w, 1, 20000), 16384);
}

Test(tcp_pair, cork_holds_back_what_fills_no_segment)
{
	struct loop w = loop_new();
	uint32_t mss = w.end[0]->conn->snd_mss;

	tcp_opts(w.end[0])->cork = 1;
	tcp_opt_changed(w.st, w.end[0], TCP_OPT_CORK, w.now);
	sends(&w, 0, 2 * mss + 100);
	turn(&w);
	cr_assert_eq(tcp_readable_bytes(w.end[1]), 2 * mss);
	later(&w, MSEC(199));
	cr_assert_eq(tcp_readable_bytes(w.end[1]), 2 * mss);
	later(&w, MSEC(2));
	cr_assert_eq(tcp_readable_bytes(w.end[1]), 2 * mss + 100, "no longer than 200 ms");
	sends(&w, 0, 50);
	turn(&w);
	cr_assert_eq(tcp_readable_bytes(w.end[1]), 2 * mss + 100);
	tcp_opts(w.end[0])->cork = 0;
	tcp_opt_changed(w.st, w.end[0], TCP_OPT_CORK, w.now);
	turn(&w);
	cr_assert_eq(tcp_readable_bytes(w.end[1]), 2 * mss + 150);
	sends_flags(&w, 0, 10, TCP_SEND_MORE);
	turn(&w);
	cr_assert_eq(tcp_readable_bytes(w.end[1]), 2 * mss + 150);
	sends(&w, 0, 10);
	turn(&w);
	cr_assert_eq(tcp_readable_bytes(w.end[1]), 2 * mss + 170);
	cr_assert(joined(&w));
}

Test(tcp_pair, urgent_data_goes_by_frames_and_plain_data_again_without)
{
	struct loop w = loop_new();
	uint64_t before;
	uint8_t c;

	sends(&w, 0, 100);
	turn(&w);
	cr_assert(joined(&w));
	before = frames(&w);
	sends_flags(&w, 0, 10, TCP_SEND_OOB);
	turn(&w);
	cr_assert_gt(frames(&w), before);
	cr_assert(tcp_poll(w.end[1]) & TCP_EV_PRI);
	cr_assert_eq(tcp_recv_oob(w.st, w.end[1], false, &c), 1);
	cr_assert_eq(c, octet_at(109));
	cr_assert_eq(reads(&w, 1, 1000), 109, "up to the mark");
	w.read[1]++;
	sends(&w, 0, 5);
	turn(&w);
	cr_assert_eq(reads(&w, 1, 1000), 5);
	later(&w, MSEC(100));
	before = frames(&w);
	sends(&w, 0, 5);
	turn(&w);
	cr_assert_eq(reads(&w, 1, 1000), 5);
	cr_assert_eq(frames(&w), before);
	expect_agreed(&w);
}

Test(tcp_pair, fin_comes_behind_the_data_and_the_closer_waits)
{
	struct loop w = loop_new();

	sends(&w, 0, 30000);
	sends(&w, 0, 30000);
	cr_assert_eq(tcp_shutdown(w.st, w.end[0], 1, w.now), 0);
	turn(&w);
	while (reads(&w, 1, 7000) > 0)
		turn(&w);
	cr_assert_eq(w.read[1], w.sent[0]);
	cr_assert_eq(reads(&w, 1, 1), 0);
	cr_assert_eq(tcp_state(w.end[0]), TCPS_FIN_WAIT_2);
	cr_assert_eq(tcp_state(w.end[1]), TCPS_CLOSE_WAIT);
	cr_assert_eq(sends(&w, 1, 5000), 5000, "half closed");
	turn(&w);
	cr_assert_eq(reads(&w, 0, 9000), 5000);
	tcp_close(w.st, w.end[1], w.now);
	turn(&w);
	cr_assert_eq(reads(&w, 0, 1), 0);
	tcp_close(w.st, w.end[0], w.now);
	turn(&w);
	cr_assert_eq(w.st->timewaits.in_use, 1u);
	cr_assert_eq(w.st->pools.held_bytes, 0u);
	cr_assert_eq(w.st->tcbs.in_use, 1u, "the listener");
}

Test(tcp_pair, close_with_what_the_window_held_back_still_delivers_it)
{
	struct loop w = loop_new();

	while (sends(&w, 0, 10000) > 0)
		turn(&w);
	tcp_close(w.st, w.end[0], w.now);
	turn(&w);
	for (int i = 0; w.read[1] < w.sent[0] && i < 1000; i++) {
		cr_assert_gt(reads(&w, 1, 2000), 0);
		turn(&w);
	}
	cr_assert_eq(w.read[1], w.sent[0]);
	cr_assert_eq(reads(&w, 1, 1), 0);
}

Test(tcp_pair, close_with_unread_data_resets)
{
	struct loop w = loop_new();

	sends(&w, 0, 100);
	sends(&w, 1, 200);
	turn(&w);
	tcp_close(w.st, w.end[1], w.now);
	turn(&w);
	cr_assert(tcp_poll(w.end[0]) & TCP_EV_ERR);
	cr_assert_eq(reads(&w, 0, 1000), 200, "what had come can be read");
	cr_assert_eq(tcp_error_take(w.end[0]), ECONNRESET);
	cr_assert_null(w.end[0]->conn->pair);
	tcp_close(w.st, w.end[0], w.now);
	cr_assert_eq(w.st->tcbs.in_use, 1u);
	cr_assert_eq(w.st->pools.held_bytes, 0u);
}

Test(tcp_pair, data_to_an_end_that_is_closed_is_answered_with_a_reset)
{
	struct loop w = loop_new();

	sends(&w, 0, 100);
	turn(&w);
	cr_assert_eq(reads(&w, 1, 1000), 100);
	tcp_close(w.st, w.end[1], w.now);
	turn(&w);
	sends(&w, 0, 100);
	turn(&w);
	cr_assert_eq(tcp_state(w.end[0]), TCPS_CLOSED);
	cr_assert_eq(tcp_error_take(w.end[0]), EPIPE);
}

Test(tcp_pair, rest_parts_and_the_next_octet_joins)
{
	struct loop w = loop_new();
	uint64_t before;

	sends(&w, 0, 100);
	turn(&w);
	cr_assert_eq(reads(&w, 1, 1000), 100);
	edges(&w, 0);
	later(&w, SEC(10));
	cr_assert_null(w.end[0]->conn);
	cr_assert_null(w.end[1]->conn);
	before = frames(&w);
	cr_assert_eq(sends(&w, 1, 100), 100);
	turn(&w);
	cr_assert(joined(&w));
	cr_assert_eq(reads(&w, 0, 1000), 100);
	cr_assert_eq(frames(&w), before);
	edges(&w, 0);
	/* one end alone at rest */
	w.end[1]->conn->flags |= TF_URG;
	later(&w, SEC(10));
	w.end[1]->conn->flags &= ~TF_URG;
	cr_assert_null(w.end[0]->conn);
	cr_assert_null(w.end[1]->conn->pair);
	cr_assert_eq(sends(&w, 1, 100), 100);
	turn(&w);
	cr_assert_eq(reads(&w, 0, 1000), 100);
	cr_assert(joined(&w));
}

Test(tcp_pair, capture_sees_the_stream_and_frames_fit_in)
{
	struct loop w = loop_new();
	uint64_t before;

	for (int round = 0; round < 20; round++) {
		stack_capture(w.st, round & 1);
		before = frames(&w);
		w.recorded = 0;
		for (int i = 0; i < 2; i++) {
			sends(&w, i, 40000);
			turn(&w);
			while (reads(&w, !i, 9000) > 0)
				turn(&w);
			cr_assert_eq(w.read[!i], w.sent[i]);
		}
		if (round & 1)
			cr_assert(frames(&w) > before + 20 && w.recorded == 80000);
		else
			cr_assert_leq(frames(&w), before + 2, "%lu frames in round %d", (unsigned long)(frames(&w) - before), round);
		later(&w, MSEC(300));
	}
	cr_assert_eq(stack_counters(w.st)[CNT_TcpRetransSegs], 0u);
	expect_agreed(&w);
}

Test(tcp_pair, tail_that_a_writer_fills_stays_its)
{
	struct loop w = loop_new();
	struct iovec iov[64];
	int n;

	sends(&w, 0, 300);
	cr_assert_eq(tcp_send_begin(w.st, w.end[0], 100, iov, 64, &n), 100);
	turn(&w); /* the cell goes as far as it is filled */
	cr_assert_eq(tcp_readable_bytes(w.end[1]), 300u);
	for (size_t j = 0, k = 0; k < (size_t)n; k++)
		for (size_t m = 0; m < iov[k].iov_len; m++, j++)
			((uint8_t *)iov[k].iov_base)[m] = octet_at(300 + j);
	tcp_send_commit(w.st, w.end[0], 100, 0, w.now);
	w.sent[0] += 100;
	turn(&w);
	cr_assert_eq(reads(&w, 1, 1000), 400);
	cr_assert_eq(w.st->pools.held_bytes, 0u);
}

Test(tcp_pair, self_connected_socket_is_no_pair)
{
	struct rig r = rig_new();
	struct endpoint me = { .addr = US, .port = 1234 };
	struct loop w = { .st = r.st, .now = r.now };

	w.end[0] = w.end[1] = tcp_open(w.st, 4, 2, w.now);
	cr_assert_eq(tcp_bind(w.st, w.end[0], &me, w.now), 0);
	cr_assert_eq(tcp_connect(w.st, w.end[0], &me, w.now), -EINPROGRESS);
	turn(&w);
	cr_assert_eq(tcp_state(w.end[0]), TCPS_ESTABLISHED);
	cr_assert_eq(sends(&w, 0, 1000), 1000);
	turn(&w);
	cr_assert_eq(reads(&w, 0, 2000), 1000);
	cr_assert_null(w.end[0]->conn->pair);
}

Test(tcp_pair, death_while_payload_changes_sides_resets_both_and_no_other)
{
	struct loop w = loop_new(), other;
	struct endpoint to = { .addr = US, .port = PORT };

	other = w;
	other.end[0] = tcp_open(w.st, 4, 5, w.now);
	cr_assert_eq(tcp_connect(w.st, other.end[0], &to, w.now), -EINPROGRESS);
	turn(&w);
	cr_assert_eq(tcp_accept(w.st, w.l, &other.end[1]), 0);
	tcp_set_user(other.end[1], 6);
	sends(&other, 0, 1000);
	turn(&w);
	cr_assert_eq(reads(&other, 1, 500), 500);
	stack_touch_clear(w.st);
	sends(&w, 0, 1000);
	turn(&w);
	stack_repair(w.st, 0, w.now);
	stack_touch_clear(w.st);
	for (int i = 0; i < 2; i++)
		cr_assert_eq(tcp_error_take(w.end[i]), ECONNRESET);
	turn(&w);
	cr_assert_eq(reads(&other, 1, 5000), 500);
	sends(&other, 1, 1000);
	turn(&w);
	cr_assert_eq(reads(&other, 0, 5000), 1000);
	cr_assert(joined(&other));
}

/* ---- anything, in any order ---- */

static uint32_t pick(uint64_t *x, uint32_t n)
{
	return (uint32_t)((rnd(x) >> 32) * n >> 32);
}

static void any_step(struct loop *w, uint64_t *x)
{
	int i = (int)pick(x, 2);
	struct tcp_opts *o;

	switch (pick(x, 12)) {
	case 0: case 1: case 2:
		sends_flags(w, i, 1 + pick(x, pick(x, 4) ? 700 : 60000), pick(x, 8) ? 0 : TCP_SEND_MORE);
		break;
	case 3: case 4: case 5:
		reads(w, i, 1 + pick(x, pick(x, 2) ? 1000 : 100000));
		break;
	case 6:
		o = tcp_ready(w->st, w->end[i], w->now) ? NULL : tcp_opts(w->end[i]);
		o->cork = !o->cork && !pick(x, 3);
		tcp_opt_changed(w->st, w->end[i], TCP_OPT_CORK, w->now);
		break;
	case 7:
		stack_capture(w->st, !pick(x, 4));
		break;
	case 8:
		later(w, pick(x, pick(x, 20) ? 1000 : 3000000));
		break;
	case 9:
		stack_touch_clear(w->st);
		if (!pick(x, 10))
			stack_repair(w->st, 0, w->now);
		break;
	default:
		turn(w);
	}
	edges(w, 0);
}

Test(tcp_pair, any_order_of_calls_gives_the_stream)
{
	for (uint64_t seed = 1; seed <= 30; seed++) {
		uint64_t x = seed;
		struct loop w = loop_new();

		for (int k = 0; k < 3000; k++)
			any_step(&w, &x);
		stack_capture(w.st, false);
		for (int i = 0; i < 2; i++)
			cr_assert_eq(tcp_shutdown(w.st, w.end[i], 1, w.now), 0);
		for (int k = 0; k < 2000 && (w.read[0] < w.sent[1] || w.read[1] < w.sent[0]); k++) {
			reads(&w, 0, 50000);
			reads(&w, 1, 50000);
			turn(&w);
		}
		cr_assert(w.read[0] == w.sent[1] && w.read[1] == w.sent[0], "seed %lu: %u of %u and %u of %u", (unsigned long)seed,
			  w.read[0], w.sent[1], w.read[1], w.sent[0]);
		later(&w, SEC(1));
		for (int i = 0; i < 2; i++)
			cr_assert_eq(reads(&w, i, 1), 0, "seed %lu", (unsigned long)seed);
		cr_assert_eq(w.st->pools.held_bytes, 0u, "seed %lu: cells are lost", (unsigned long)seed);
	}
}
