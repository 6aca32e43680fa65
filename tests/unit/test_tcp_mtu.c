/* SPDX-License-Identifier: BSD-2-Clause */
/* Path MTU: told by routers and kept for the destination, or found out (RFC 1191, 5927, 4821) */
#include "rig.h"

static void icmp(struct rig *r, uint8_t type, uint8_t code, uint16_t mtu, uint16_t len, uint32_t abs_seq)
{
	struct ip_error e = { .src = US, .dst = PEER, .sport = PORT, .dport = r->peer_port, .seq = abs_seq, .type = type,
			      .code = code, .mtu = mtu, .len = len };

	tcp_icmp_error(r->st, &e, r->now);
}

/* About the segment whose first octet is @seq */
static void frag_needed(struct rig *r, uint16_t mtu, uint16_t len, uint32_t seq)
{
	icmp(r, 3, 4, mtu, len, r->iss + 1 + seq);
}

Test(tcp_mtu, fragmentation_needed_cuts_what_is_in_flight_and_sends_it_again)
{
	struct rig r = rig_established(.smss = 1460);
	uint32_t cwnd;

	cr_assert_eq(app_sends(&r, 2920), 2920);
	expect_data(&r, 0, 1460);
	expect_data(&r, 1460, 1460);
	cwnd = r.t->conn->cwnd;
	frag_needed(&r, 1000, 1500, 0);
	expect_data(&r, 0, 960);
	cr_assert_eq(r.t->conn->snd_mss, 960u);
	cr_assert_geq(r.t->conn->cwnd, cwnd - 1460, "it is no congestion");
	peer_sends(&r, .flags = ACK, .ack = 960);
	expect_data(&r, 960, 960);
	expect_data(&r, 1920, 960);
	peer_sends(&r, .flags = ACK, .ack = 2880);
	expect_data(&r, 2880, 40);
	peer_sends(&r, .flags = ACK, .ack = 2920);
	expect_silence(&r);
}

Test(tcp_mtu, destination_is_remembered_for_the_next_connection_and_forgotten_after_ten_minutes)
{
	struct rig r = rig_established(.smss = 1460);
	struct ipaddr peer = PEER, other = IP(10, 0, 0, 3);

	app_sends(&r, 1460);
	expect_data(&r, 0, 1460);
	frag_needed(&r, 1000, 1500, 0);
	cr_assert_eq(ip_mtu(r.st, &peer), 1000u);
	cr_assert_eq(ip_mtu(r.st, &other), 1500u);
	peer_sends(&r, .flags = ACK, .ack = 1460);
	r.peer_port++;
	peer_syn(&r, SYN, 0, PORT);
	while (take(&r) && rig_seg.flags != (SYN | ACK))
		;
	cr_assert_eq(rig_seg.o.mss, 960, "as Linux announces it");
	r.iss = rig_seg.abs_seq;
	peer_sends(&r, .flags = ACK);
	cr_assert_eq(tcp_accept(r.st, r.l, &r.t), 0);
	cr_assert_eq(r.t->conn->snd_mss, 960u);
	r.sent = 0;
	cr_assert_eq(app_sends(&r, 960), 960);
	expect_data(&r, 0, 960);
	peer_sends(&r, .flags = ACK, .ack = 960);
	advance(&r, SEC(601));
	while (take(&r))
		;
	cr_assert_eq(ip_mtu(r.st, &peer), 1500u);
	cr_assert_eq(r.st->dsts.slab.in_use, 0u, "nothing is left to remember");
	cr_assert_eq(app_sends(&r, 4000), 4000);
	expect_data(&r, 960, 1460);
}

Test(tcp_mtu, other_connections_to_the_destination_follow)
{
	struct rig r = rig_established(.smss = 1460);
	struct tcb *first = r.t;
	uint32_t iss = r.iss, sent = 0;

	app_sends(&r, 1460);
	expect_data(&r, 0, 1460);
	peer_sends(&r, .flags = ACK, .ack = 1460);
	r.peer_port++;
	peer_syn(&r, SYN, 0, PORT);
	cr_assert(take(&r));
	r.iss = rig_seg.abs_seq;
	peer_sends(&r, .flags = ACK);
	cr_assert_eq(tcp_accept(r.st, r.l, &r.t), 0);
	app_sends_flags(r.st, r.t, &sent, 1460, 0, r.now);
	expect_data(&r, 0, 1460);
	frag_needed(&r, 1200, 1500, 0);
	expect_data(&r, 0, 1160);
	peer_sends(&r, .flags = ACK, .ack = 1460);
	r.t = first;
	r.iss = iss;
	r.peer_port--;
	cr_assert_eq(app_sends(&r, 1460), 1460);
	expect_data(&r, 1460, 1160);
}

Test(tcp_mtu, what_cannot_be_true_is_not_believed)
{
	struct rig r = rig_established(.smss = 1460);

	app_sends(&r, 1460);
	expect_data(&r, 0, 1460);
	frag_needed(&r, 1000, 1500, 1460); /* not in flight: RFC 5927 4.1 */
	frag_needed(&r, 1000, 1500, (uint32_t)-1);
	frag_needed(&r, 1000, 900, 0); /* the packet would have passed: RFC 5927 7.2 */
	frag_needed(&r, 1500, 1600, 0); /* not smaller than what we know */
	frag_needed(&r, 9000, 9100, 0);
	expect_silence(&r);
	cr_assert_eq(r.t->conn->snd_mss, 1460u);
	frag_needed(&r, 68, 1500, 0);
	cr_assert_eq(r.t->conn->snd_mss, 512u, "no less than 552 octets, as Linux's min_pmtu");
	expect_data(&r, 0, 512);
}

Test(tcp_mtu, router_that_names_no_mtu)
{
	struct rig r = rig_established(.smss = 1460);

	app_sends(&r, 1460);
	expect_data(&r, 0, 1460);
	frag_needed(&r, 0, 1500, 0);
	cr_assert_eq(r.t->conn->snd_mss, 1452u, "the next plateau of RFC 1191 7.1");
	expect_data(&r, 0, 1452);
}

Test(tcp_mtu, half_open_request_ends_by_unreachable_about_its_syn_ack_only)
{
	struct rig r = rig_new();

	rig_listen(&r);
	peer_syn(&r, SYN, 0, PORT);
	cr_assert(take(&r));
	icmp(&r, 3, 1, 0, 60, rig_seg.abs_seq + 1);
	icmp(&r, 3, 3, 0, 60, rig_seg.abs_seq);
	icmp(&r, 3, 4, 1000, 60, rig_seg.abs_seq);
	cr_assert_eq(r.st->requests.in_use, 1u);
	icmp(&r, 3, 1, 0, 60, rig_seg.abs_seq);
	cr_assert_eq(r.st->requests.in_use, 0u);
}

Test(tcp_mtu, table_of_destinations_is_bounded_and_drops_the_oldest)
{
	struct rig r = rig_new();
	struct ipaddr a;

	for (uint32_t i = 0; i < 3 * DST_MAX; i++) {
		a = ipaddr_v4(__builtin_bswap32(0x0b000000u + i));
		cr_assert_eq(dst_pmtu_set(r.st, &a, 1000, r.now), 0);
		cr_assert_eq(ip_mtu(r.st, &a), 1000u);
	}
	cr_assert_lt(r.st->dsts.slab.in_use, (unsigned)DST_MAX);
	a = ipaddr_v4(__builtin_bswap32(0x0b000000u));
	cr_assert_eq(ip_mtu(r.st, &a), 1500u);
	stack_repair(r.st, 0, r.now);
	a = ipaddr_v4(__builtin_bswap32(0x0b000000u + 3 * DST_MAX - 1));
	cr_assert_eq(ip_mtu(r.st, &a), 1000u, "it survives a repair");
	advance(&r, SEC(601));
	cr_assert_eq(r.st->dsts.slab.in_use, 0u);
}

/* ---- black holes ---- */

static uint32_t hole_bytes; /* IP packets above it vanish, both ways, in silence */

static bool swallow(struct pair *p, int from, const struct frame *f)
{
	(void)p;
	(void)from;
	return f->len - 14 > hole_bytes;
}

/* Sends @n octets; time it took */
static usec_t transfer(struct pair *p, struct tcb *c, struct tcb *s, uint32_t *sent, uint32_t *got, uint32_t n)
{
	usec_t start = p->now;
	uint32_t end = *got + n;

	while (*got < end && p->now - start < SEC(300)) {
		if (*sent < end)
			app_sends_flags(p->st[0], c, sent, end - *sent, 0, p->now);
		pair_advance(p, MSEC(1));
		while (app_reads_from(p->st[1], s, got, 1 << 20, p->now) > 0)
			;
	}
	cr_assert_eq(*got, end);
	return p->now - start;
}

Test(tcp_mtu, black_hole_is_passed_and_its_size_found)
{
	static const uint16_t holes[] = { 1100, 1280, 1400, 1492, 576 };

	for (unsigned i = 0; i < sizeof(holes) / sizeof(holes[0]); i++) {
		struct pair p = pair_new(false, NULL);
		struct tcb *l, *c, *s;
		uint32_t sent = 0, got = 0;
		usec_t t;

		pair_connect(&p, &l, &c, &s);
		hole_bytes = holes[i];
		p.lose = swallow;
		t = transfer(&p, c, s, &sent, &got, 100000);
		cr_assert_leq(t, SEC(60));
		for (int k = 0; k < 100; k++) {
			c->conn->cwnd = 32 * c->conn->snd_mss; /* a failed probe makes it small; that is not the subject */
			transfer(&p, c, s, &sent, &got, 50000);
		}
		cr_assert_geq(p.st[0]->cnt[CNT_TcpExtTCPMTUBlackHole], 1u);
		cr_assert_leq(c->conn->pmtu_bytes, holes[i]);
		cr_assert_gt(c->conn->pmtu_bytes + 8, holes[i], "%u octets of %u", c->conn->pmtu_bytes, holes[i]);
		cr_assert_geq(p.st[0]->cnt[CNT_TcpExtTCPMTUPFail], 1u);
	}
}

Test(tcp_mtu, outage_that_was_no_black_hole_costs_no_size)
{
	struct pair p = pair_new(false, NULL);
	struct tcb *l, *c, *s;
	uint32_t sent = 0, got = 0;

	pair_connect(&p, &l, &c, &s);
	transfer(&p, c, s, &sent, &got, 100000);
	hole_bytes = 0;
	p.lose = swallow;
	app_sends_flags(p.st[0], c, &sent, 60000, 0, p.now);
	pair_advance(&p, SEC(10));
	cr_assert_neq(c->conn->pmtu_bytes, 0);
	p.lose = NULL;
	pair_advance(&p, SEC(20));
	while (app_reads_from(p.st[1], s, &got, 1 << 20, p.now) > 0)
		;
	transfer(&p, c, s, &sent, &got, 1000000);
	cr_assert_eq(c->conn->pmtu_bytes, 0);
	cr_assert_eq(c->conn->snd_mss, 1448u);
	cr_assert_eq(p.st[0]->cnt[CNT_TcpExtTCPMTUPSuccess], 1u);
}

Test(tcp_mtu, probing_can_be_switched_off)
{
	struct stack_sysctl ctl;
	struct pair p;
	struct tcb *l, *c, *s;
	uint32_t sent = 0;

	stack_sysctl_default(&ctl);
	ctl.tcp_mtu_probing = 0;
	p = pair_new(false, &ctl);
	pair_connect(&p, &l, &c, &s);
	hole_bytes = 1400;
	p.lose = swallow;
	app_sends_flags(p.st[0], c, &sent, 60000, 0, p.now);
	pair_advance(&p, SEC(30));
	cr_assert_eq(c->conn->pmtu_bytes, 0);
	cr_assert_eq(c->conn->snd_una, c->conn->iss + 1);
}
