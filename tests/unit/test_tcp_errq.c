/* SPDX-License-Identifier: BSD-2-Clause */
/* What a socket is told apart from its stream: sends without a copy, time stamps */
#include "rig.h"

static int numbers(struct rig *r, uint32_t *ret_first, uint32_t *ret_last)
{
	struct tcp_errq_view e;

	if (!tcp_errq_take(r->st, r->t, &e))
		return -1;
	*ret_first = e.info;
	*ret_last = e.data;
	return e.origin;
}

Test(tcp_errq, sends_without_a_copy_are_one_range_until_it_is_read)
{
	struct rig r = rig_established();
	uint32_t first, last;

	cr_assert_not(tcp_errq_ready(r.t));
	for (int i = 0; i < 1000; i++)
		tcp_zerocopy_done(r.st, r.t);
	cr_assert_eq(tcp_poll(r.t) & TCP_EV_ERR, TCP_EV_ERR);
	cr_assert_not(tcp_error_pending(r.t));
	cr_assert_eq(numbers(&r, &first, &last), TCP_ERRQ_ZEROCOPY);
	cr_assert_eq(first, 0u);
	cr_assert_eq(last, 999u);
	cr_assert_eq(tcp_poll(r.t) & TCP_EV_ERR, 0u);
	tcp_zerocopy_done(r.st, r.t);
	cr_assert_eq(numbers(&r, &first, &last), TCP_ERRQ_ZEROCOPY);
	cr_assert_eq(first, 1000u);
	cr_assert_eq(last, 1000u);
	cr_assert_eq(numbers(&r, &first, &last), -1);
}

Test(tcp_errq, stamps_come_when_the_octet_left_and_when_it_is_acknowledged)
{
	struct rig r = rig_established();
	uint32_t what, key;

	cr_assert_eq(tcp_stamp_keyed(r.st, r.t, false), 0);
	app_sends(&r, 700);
	tcp_stamp_sends(r.st, r.t, 1u << TCP_STAMP_SND | 1u << TCP_STAMP_ACK, true, r.now);
	while (take(&r))
		;
	cr_assert_eq(numbers(&r, &what, &key), TCP_ERRQ_TIMESTAMPING);
	cr_assert_eq(what, (uint32_t)TCP_STAMP_SND);
	cr_assert_eq(key, 699u);
	cr_assert_not(tcp_errq_ready(r.t), "not acknowledged yet");
	peer_sends(&r, .flags = ACK, .ack = 700);
	cr_assert_eq(numbers(&r, &what, &key), TCP_ERRQ_TIMESTAMPING);
	cr_assert_eq(what, (uint32_t)TCP_STAMP_ACK);
	cr_assert_eq(key, 699u);
	cr_assert_eq(numbers(&r, &what, &key), -1);
}

/* Thousands that nobody reads: the table grows to the largest cell and no further, what is there stays right, nothing leaks. */
Test(tcp_errq, unread_stamps_are_bounded)
{
	struct rig r = rig_established(.smss = 1000);
	uint64_t held = r.st->pools.held_bytes, most;
	uint32_t what, key, n = 0, sent = 0;

	cr_assert_eq(tcp_stamp_keyed(r.st, r.t, false), 0);
	for (int i = 0; i < 3000; i++) {
		app_sends(&r, 10);
		sent += 10;
		tcp_stamp_sends(r.st, r.t, 1u << TCP_STAMP_ACK, true, r.now);
		while (take(&r))
			;
		peer_sends(&r, .flags = ACK, .ack = sent);
	}
	most = r.st->pools.held_bytes - held;
	cr_assert_leq(most, 2u * cell_block_bytes[CELL_LARGE]);
	while (numbers(&r, &what, &key) >= 0) {
		cr_assert_eq(what, (uint32_t)TCP_STAMP_ACK);
		cr_assert_eq(key, 10 * n + 9, "in order, the latest are lost");
		n++;
	}
	cr_assert_geq(n, 100u);
	cr_assert_lt(n, 3000u);
	tcp_close(r.st, r.t, r.now);
}
