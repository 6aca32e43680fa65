/* SPDX-License-Identifier: BSD-2-Clause */
#include "lower.h"

#define TEST(name) Test(port, name)
#define ANY4 ipaddr_v4(0)
#define ANY6 ((struct ipaddr){ 0 })
#define OTHER6 ((struct ipaddr){ .b = { 0x20, 1, [15] = 9 } })

enum { RA = PORT_REUSEADDR, RP = PORT_REUSEPORT, V6O = PORT_V6ONLY, LI = PORT_LISTEN, TW = PORT_TIMEWAIT };

static struct port_key key(struct ipaddr a, uint16_t port, uint16_t flags, uint32_t uid)
{
	return (struct port_key){ .addr = a, .port = port, .flags = flags, .uid = uid };
}

static int bind_to(struct ipaddr a, uint16_t port, uint16_t flags, uint32_t uid)
{
	struct port_hold h = { 0 };
	struct port_key k = key(a, port, flags, uid);
	int r = port_bind(st, &h, &k);

	cr_assert_eq(r == 0, h.class != 0);
	return r;
}

static void hold(struct ipaddr a, uint16_t port, uint16_t flags, uint32_t uid)
{
	struct port_hold h = { 0 };
	struct port_key k = key(a, port, flags, uid);

	cr_assert_eq(port_join(st, &h, &k), 0);
}

static struct ipaddr by_name(const char *n)
{
	struct ipaddr a = { 0 };

	if (!strcmp(n, "*4") || !strcmp(n, "a4") || !strcmp(n, "b4"))
		return n[0] == '*' ? ANY4 : IP(10, 0, 0, n[0]);
	if (strcmp(n, "*6") != 0)
		a.b[0] = 0x20, a.b[15] = (uint8_t)n[0];
	return a;
}

/*
 * What Linux 6.x answers to a bind() to @asked when another socket holds @held. Addresses: any (*), one (a), another
 * (b).
 */
TEST(conflicts_as_linux)
{
	static const struct {
		const char *held, *asked;
		uint16_t held_flags, flags;
		uint32_t held_uid, uid;
		bool conflict;
	} t[] = {
		{ "a4", "a4", 0, 0, 0, 0, true },
		{ "a4", "b4", 0, 0, 0, 0, false },
		{ "*4", "b4", 0, 0, 0, 0, true },
		{ "b4", "*4", 0, 0, 0, 0, true },
		/* SO_REUSEADDR */
		{ "*4", "*4", RA, RA, 0, 0, false },
		{ "*4", "*4", RA, 0, 0, 0, true },
		{ "*4", "*4", 0, RA, 0, 0, true },
		{ "*4", "*4", RA | LI, RA, 0, 0, true },
		{ "a4", "*4", RA | LI, RA, 0, 0, true },
		{ "a4", "b4", LI, 0, 0, 0, false },
		/* SO_REUSEPORT */
		{ "*4", "*4", RP, RP, 0, 0, false },
		{ "*4", "*4", RP | LI, RP, 0, 0, false },
		{ "*4", "*4", RP | LI, RP, 1, 2, true },
		{ "*4", "*4", RP | LI, 0, 0, 0, true },
		{ "*4", "*4", RP | LI, RA, 0, 0, true },
		{ "*4", "*4", RP | RA | LI, RP, 0, 0, false },
		/* TIME_WAIT */
		{ "a4", "*4", TW, 0, 0, 0, true },
		{ "a4", "*4", TW | RA, RA, 0, 0, false },
		{ "a4", "*4", TW | RA, 0, 0, 0, true },
		{ "a4", "*4", TW | RP, RP, 1, 2, false },
		/* IPv6 */
		{ "a4", "*6", 0, 0, 0, 0, true },
		{ "a4", "*6", 0, V6O, 0, 0, false },
		{ "*6", "*4", V6O, 0, 0, 0, false },
		{ "*6", "*4", 0, 0, 0, 0, true },
		{ "a6", "*4", 0, 0, 0, 0, false },
		{ "a6", "*6", 0, V6O, 0, 0, true },
		{ "a6", "b6", 0, 0, 0, 0, false },
		{ "a6", "a6", 0, 0, 0, 0, true },
		{ "*6", "*4", RA | LI, RA, 0, 0, true },
	};

	for (unsigned i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		lower_start(false);
		hold(by_name(t[i].held), 80, t[i].held_flags, t[i].held_uid);
		cr_assert_eq(bind_to(by_name(t[i].asked), 80, t[i].flags, t[i].uid), t[i].conflict ? -EADDRINUSE : 0,
			     "row %u", i);
		cr_assert_eq(bind_to(by_name(t[i].asked), 81, t[i].flags, t[i].uid), 0, "another port");
	}
}

TEST(second_listener_under_reuseaddr_refused)
{
	struct port_hold a = { 0 }, b = { 0 };
	struct port_key k = key(ANY4, 80, RA, 0);

	lower_start(false);
	cr_assert_eq(port_bind(st, &a, &k), 0);
	cr_assert_eq(port_bind(st, &b, &k), 0);
	cr_assert_eq(port_listen(st, &a, &k), 0);
	cr_assert_eq(port_listen(st, &b, &k), -EADDRINUSE);
	cr_assert_neq(b.class, 0, "keeps what it had");
	port_release(st, &a);
	cr_assert_eq(port_listen(st, &b, &k), 0);
}

TEST(listeners_under_reuseport_share)
{
	struct port_key k = key(ANY4, 80, RP, 5);

	lower_start(false);
	for (int i = 0; i < 4; i++) {
		struct port_hold h = { 0 };

		cr_assert_eq(port_bind(st, &h, &k), 0);
		cr_assert_eq(port_listen(st, &h, &k), 0);
	}
}

TEST(one_class_however_many_connections)
{
	enum { N = 20000 };
	static struct port_hold h[N];
	struct port_key k = key(US, 80, RA, 0);

	lower_start(false);
	for (int i = 0; i < N; i++)
		cr_assert_eq(port_join(st, &h[i], &k), 0);
	cr_assert_eq(st->ports.classes.in_use, 1);
	cr_assert_eq(bind_to(ANY4, 80, 0, 0), -EADDRINUSE);
	for (int i = 0; i < N; i++)
		port_release(st, &h[i]);
	port_release(st, &h[0]);
	cr_assert_eq(st->ports.classes.in_use, 0);
	cr_assert_eq(bind_to(ANY4, 80, 0, 0), 0);
}

TEST(relabel_moves_the_holder)
{
	struct port_hold h = { 0 };
	struct port_key k = key(US, 80, RA, 0);

	lower_start(false);
	port_join(st, &h, &k);
	cr_assert_eq(bind_to(ANY4, 80, RA, 0), 0);
	k.flags = 0;
	port_relabel(st, &h, &k);
	cr_assert_eq(bind_to(ANY4, 80, RA, 0), -EADDRINUSE);
	port_relabel(st, &h, &k);
	port_release(st, &h);
	cr_assert_eq(bind_to(ANY4, 80, RA, 0), 0);
}

/* ---- a port of our choice ---- */

TEST(bind_0_takes_all_of_the_range_odd_distance_first)
{
	lower_start(false);
	st->ctl.ip_local_port_range[0] = 40000;
	st->ctl.ip_local_port_range[1] = 40999;
	for (int i = 0; i < 1000; i++) {
		struct port_hold h = { 0 };
		struct port_key k = key(ANY4, 0, 0, 0);

		cr_assert_eq(port_bind(st, &h, &k), 0);
		cr_assert(k.port >= 40000 && k.port <= 40999);
		cr_assert_eq(k.port % 2, i < 500, "the %d.", i);
	}
	cr_assert_eq(bind_to(ANY4, 0, 0, 0), -EADDRINUSE);
	cr_assert_eq(bind_to(ANY4, 0, RA, 0), -EADDRINUSE);
}

TEST(bind_0_with_reuseaddr_begins_in_the_lower_half)
{
	lower_start(false);
	st->ctl.ip_local_port_range[0] = 40000;
	st->ctl.ip_local_port_range[1] = 40999;
	for (int i = 0; i < 1000; i++) {
		struct port_hold h = { 0 };
		struct port_key k = key(ANY4, 0, RA, 0);

		cr_assert_eq(port_bind(st, &h, &k), 0);
		cr_assert_eq(k.port < 40500, i < 500);
	}
	cr_assert_eq(bind_to(ANY4, 0, RA, 0), -EADDRINUSE, "never one on which both could meet");
}

TEST(bind_0_starts_at_random)
{
	unsigned distinct = 0;
	uint16_t last = 0;

	lower_start(false);
	for (int i = 0; i < 50; i++) {
		struct port_hold h = { 0 };
		struct port_key k = key(ANY4, 0, 0, 0);

		port_bind(st, &h, &k);
		distinct += k.port > last + 10 || k.port + 10 < last;
		last = k.port;
	}
	cr_assert_gt(distinct, 40);
}

TEST(range_of_one_port)
{
	lower_start(false);
	st->ctl.ip_local_port_range[0] = st->ctl.ip_local_port_range[1] = 40000;
	cr_assert_eq(bind_to(ANY4, 0, 0, 0), 0);
	cr_assert_eq(bind_to(ANY4, 0, 0, 0), -EADDRINUSE);
}

/* ---- connect ---- */

static unsigned asked;
static bool never(struct stack *s, void *ctx, uint16_t port)
{
	(void)s;
	(void)ctx;
	(void)port;
	asked++;
	return false;
}
static bool always(struct stack *s, void *ctx, uint16_t port)
{
	return !never(s, ctx, port);
}

static int connect_to(struct ipaddr dst, uint16_t dport, bool (*usable)(struct stack *, void *, uint16_t),
		      uint16_t *ret_port)
{
	struct endpoint to = { dst, dport };
	struct port_hold h = { 0 };
	struct port_key k = key(US, 0, 0, 0);
	int r = port_connect(st, &h, &k, &to, usable, NULL);

	*ret_port = k.port;
	return r;
}

TEST(connects_use_the_whole_range_even_distance_first_then_share)
{
	static bool used[65536];
	uint16_t port;

	lower_start(false);
	st->ctl.ip_local_port_range[0] = 40000;
	st->ctl.ip_local_port_range[1] = 40999;
	for (int i = 0; i < 1000; i++) {
		cr_assert_eq(connect_to(PEER, 80, never, &port), 0, "the %d.", i);
		cr_assert(!used[port]);
		cr_assert_eq(port % 2, i >= 500);
		used[port] = true;
	}
	cr_assert_eq(connect_to(PEER, 80, never, &port), -EADDRNOTAVAIL);
	cr_assert_eq(connect_to(PEER, 81, always, &port), 0, "another destination");
	cr_assert_eq(bind_to(US, 40000, 0, 0), -EADDRINUSE);
}

TEST(connect_never_shares_a_bound_port)
{
	uint16_t port;

	lower_start(false);
	st->ctl.ip_local_port_range[0] = 40000;
	st->ctl.ip_local_port_range[1] = 40003;
	hold(ANY4, 40000, 0, 0);
	hold(ANY4, 40001, RA | LI, 0);
	hold(ANY4, 40002, RA | TW, 0);
	for (int i = 0; i < 3; i++) {
		cr_assert_eq(connect_to(PEER, 80, always, &port), 0);
		cr_assert_eq(port, 40003);
	}
}

TEST(connect_hint_moves_on_so_few_ports_are_looked_at)
{
	static struct port_hold h[20000];
	struct endpoint to = { PEER, 80 };

	lower_start(false);
	asked = 0;
	for (int i = 0; i < 20000; i++) {
		struct port_key k = key(US, 0, 0, 0);

		cr_assert_eq(port_connect(st, &h[i], &k, &to, never, NULL), 0);
		if (i >= 10000)
			port_release(st, &h[i - 10000]);
	}
	cr_assert_lt(asked, 20000, "at most one other port per connect");
}

TEST(destinations_start_at_unrelated_ports)
{
	uint16_t a, b;
	unsigned same = 0;

	lower_start(false);
	for (int i = 1; i < 200; i++) {
		connect_to(IP(10, 0, 0, i), 80, never, &a);
		connect_to(IP(10, 0, 0, i), 81, never, &b);
		same += a / 64 == b / 64;
	}
	cr_assert_lt(same, 10);
}

TEST(reset_frees_all)
{
	uint16_t port;

	lower_start(false);
	hold(ANY6, 80, LI, 0);
	connect_to(PEER, 80, never, &port);
	port_reset(st);
	cr_assert_eq(st->ports.classes.in_use, 0);
	cr_assert_eq(bind_to(ANY4, 80, 0, 0), 0);
	cr_assert_eq(bind_to(OTHER6, port, 0, 0), 0);
}
