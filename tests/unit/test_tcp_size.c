/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_tcp_size.c - what a connection holds when nothing happens: its slot, and not one cell
 *
 * Sizes are upper bounds that a change must not pass unnoticed; slots are rounded up to 16 octets with their header.
 */
#include "rig.h"

Test(tcp_size, objects_do_not_grow_unnoticed)
{
	cr_expect_leq(sizeof(struct tcb), 1200u, "struct tcb has %zu octets", sizeof(struct tcb));
	cr_expect_leq(sizeof(struct tcp_req), 160u, "struct tcp_req has %zu octets", sizeof(struct tcp_req));
	cr_expect_leq(sizeof(struct tcp_tw), 120u, "struct tcp_tw has %zu octets", sizeof(struct tcp_tw));
	cr_expect_eq(sizeof(struct timer), 24u);
	cr_expect_eq(sizeof(struct hnode), 16u);
}

Test(tcp_size, idle_connection_holds_no_cell)
{
	struct rig r = rig_established(.smss = 1000, .sack = true);

	peer_sends(&r, .flags = ACK | PSH, .len = 5000);
	peer_sends(&r, .flags = ACK | PSH, .seq = 8000, .len = 1000); /* a table of ranges is made, */
	peer_sends(&r, .flags = ACK | PSH, .seq = 5000, .len = 3000); /* and not needed any more */
	cr_assert_eq(app_reads(&r, 9000), 9000);
	app_sends(&r, 3000);
	while (take(&r))
		;
	cr_assert_gt(r.st->pools.held_bytes, 0u);
	peer_sends(&r, .flags = ACK, .seq = 9000, .ack = 3000);
	while (take(&r))
		;
	expect_all_free(&r);
}

Test(tcp_size, time_wait_takes_the_place_of_the_connection)
{
	struct rig r = rig_established(.smss = 1000);

	tcp_close(r.st, r.t, r.now);
	expect_flags(&r, FIN | ACK);
	peer_sends(&r, .flags = FIN | ACK, .ack = 1);
	cr_assert_eq(r.st->timewaits.in_use, 1u);
	cr_assert_eq(r.st->tcbs.in_use, 1u, "only the listener");
	cr_assert_eq(r.st->pools.held_bytes, 0u);
}
