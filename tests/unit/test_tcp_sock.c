/* SPDX-License-Identifier: BSD-2-Clause */
#include "rig.h"

static void transfer(struct pair *p, int from, struct tcb *a, struct tcb *b, size_t total)
{
	uint32_t sent = 0, received = 0;

	for (unsigned idle = 0; received < total && idle < 1000;) {
		ptrdiff_t s = 0, r;

		while (sent < total && (s = app_sends_flags(p->st[from], a, &sent, total - sent, 0, p->now)) > 0)
			;
		cr_assert(sent == total || s == -EAGAIN, "send says %td", s);
		pair_settle(p);
		r = app_reads_from(p->st[!from], b, &received, 1 << 20, p->now);
		cr_assert(r > 0 || r == -EAGAIN, "recv says %td", r);
		idle = r > 0 ? 0 : idle + 1;
		pair_advance(p, r > 0 ? 100 : MSEC(10));
	}
	cr_assert_eq(received, total, "%u of %zu arrived", received, total);
}

static void finish(struct pair *p, struct tcb *l, struct tcb *c, struct tcb *s)
{
	tcp_close(p->st[0], c, p->now);
	pair_settle(p);
	cr_assert_eq(tcp_poll(s) & TCP_EV_RDHUP, TCP_EV_RDHUP);
	tcp_close(p->st[1], s, p->now);
	tcp_close(p->st[1], l, p->now);
	pair_settle(p);
	cr_assert_eq(p->st[0]->timewaits.in_use, 1u);
	pair_advance(p, SEC(61));
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(p->st[i]->timewaits.in_use, 0u);
		cr_assert_eq(p->st[i]->tcbs.in_use, 0u);
		cr_assert_eq(stack_live(p->st[i]), 0u);
		cr_assert_eq(p->st[i]->pools.held_bytes, 0u);
		cr_assert_eq(p->st[i]->pools.pbufs.in_use, 0u);
	}
}

Test(tcp_sock, two_stacks_open_send_receive_close)
{
	struct pair p = pair_new(false, NULL);
	struct tcb *l, *c, *s;

	pair_connect(&p, &l, &c, &s);
	transfer(&p, 0, c, s, 100000);
	transfer(&p, 1, s, c, 3000);
	finish(&p, l, c, s);
}

Test(tcp_sock, two_stacks_ten_megabytes_in_super_frames)
{
	struct pair p = pair_new(true, NULL);
	struct tcb *l, *c, *s;

	pair_connect(&p, &l, &c, &s);
	transfer(&p, 0, c, s, 10 << 20);
	cr_assert_lt(p.frames, 1500u, "%lu frames", p.frames);
	finish(&p, l, c, s);
}

static bool lose_some(struct pair *p, int from, const struct frame *f)
{
	(void)from;
	(void)f;
	return rnd(&p->rnd) % 100 < 3;
}

Test(tcp_sock, two_stacks_three_percent_loss_all_arrives)
{
	for (int gso = 0; gso < 2; gso++) {
		struct pair p = pair_new(gso, NULL);
		struct tcb *l, *c, *s;

		pair_connect(&p, &l, &c, &s);
		p.lose = lose_some;
		transfer(&p, 0, c, s, 4 << 20);
		transfer(&p, 1, s, c, 1 << 20);
		p.lose = NULL;
		finish(&p, l, c, s);
	}
}
