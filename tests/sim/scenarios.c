/* SPDX-License-Identifier: BSD-2-Clause */
#include "scenarios.h"

#include <errno.h>
#include <string.h>
#include "../unit/region.h"

#define MBIT(n) ((n) * 1000000ull)
#define MIB(n)	((uint64_t)(n) << 20)

static struct sim_link link_of(uint64_t rate_bps, usec_t delay_us)
{
	return (struct sim_link){ .rate_bps = rate_bps, .delay_us = delay_us, .queue_bytes = 256 * 1024 };
}

/* Two hosts with links of the same kind. */
static void two_hosts(struct sim *s, struct sim_link l)
{
	sim_host_add(s, &l, NULL);
	sim_host_add(s, &l, NULL);
}

void outcome_take(struct sim *s, struct outcome *o)
{
	uint64_t bytes = 0;
	usec_t end = s->started;

	for (const struct app *a = s->apps; a; a = a->next) {
		bytes += a->received;
		if (a->ended > end)
			end = a->ended;
		if (a->worst_us / 1000 > o->worst_ms)
			o->worst_ms = a->worst_us / 1000;
	}
	o->time_ms = (end - s->started) / 1000;
	o->kbit_s = end > s->started ? bytes * 8000 / (end - s->started) : 0;
	for (int i = 0; i < s->n_hosts; i++) {
		o->segs += s->host[i].st->cnt[CNT_TcpOutSegs];
		o->retrans += s->host[i].st->cnt[CNT_TcpRetransSegs];
		o->lost += s->host[i].lost;
	}
}

/* Every program must have ended well. */
static void all_well(struct sim *s)
{
	for (const struct app *a = s->apps; a; a = a->next)
		if (a->error)
			sim_fail(s, "%s ended with errno %d after %llu octets", a->ops->name, a->error,
				 (unsigned long long)a->received);
}

/* One transfer of @up octets from host 0 to host 1 and of @down back. */
static void transfer(struct sim *s, struct outcome *o, uint64_t up, uint64_t down, usec_t limit)
{
	struct app server = { .ops = &app_transfer, .want_send = down, .want_recv = up };
	struct app client = { .ops = &app_transfer, .want_send = up, .want_recv = down };

	app_server(&s->host[1], 80, &server);
	app_client(&s->host[0], &s->host[1], 80, &client);
	sim_run(s, limit);
	all_well(s);
	outcome_take(s, o);
}

static void bulk_clean(struct sim *s, struct outcome *o)
{
	struct sim_link l = link_of(MBIT(100), MSEC(10));

	l.queue_bytes = 8 << 20;
	two_hosts(s, l);
	transfer(s, o, MIB(20), 0, SEC(60));
	if (o->retrans)
		sim_fail(s, "retransmissions without a loss");
}

static void bulk_offload(struct sim *s, struct outcome *o)
{
	two_hosts(s, link_of(0, 20));
	transfer(s, o, MIB(64), 0, SEC(60));
}

static void bulk_loss_1pct(struct sim *s, struct outcome *o)
{
	struct sim_link l = link_of(MBIT(100), MSEC(20));

	l.loss_ppm = 1 * PPM_PERCENT;
	l.reorder_ppm = 2 * PPM_PERCENT;
	l.reorder_us = MSEC(5);
	l.dup_ppm = 1 * PPM_PERCENT;
	two_hosts(s, l);
	transfer(s, o, MIB(20), 0, SEC(600));
}

static void bulk_loss_2pct(struct sim *s, struct outcome *o)
{
	struct sim_link l = link_of(MBIT(100), MSEC(10));

	l.loss_ppm = 2 * PPM_PERCENT;
	two_hosts(s, l);
	transfer(s, o, MIB(10), 0, SEC(600));
}

/* 2 % of all, in bursts of ten on average: the link is bad a thirtieth of the time and loses two thirds then */
static void bulk_loss_bursts(struct sim *s, struct outcome *o)
{
	struct sim_link l = link_of(MBIT(100), MSEC(10));

	l.turns_bad_ppm = PPM_PERCENT * 22 / 100;
	l.turns_good_ppm = PPM_PERCENT * 20 / 3;
	l.bad_loss_ppm = PPM_PERCENT * 66;
	two_hosts(s, l);
	transfer(s, o, MIB(5), 0, SEC(600));
	if (o->lost < 20)
		sim_fail(s, "%llu lost: no bursts", (unsigned long long)o->lost);
}

/* Each hundredth, the same ones in each run: none is lost twice unless its place comes again */
static void bulk_lose_nth(struct sim *s, struct outcome *o)
{
	struct sim_link l = link_of(MBIT(100), MSEC(10));

	l.lose_nth = 100;
	two_hosts(s, l);
	transfer(s, o, MIB(5), 0, SEC(600));
	if (o->lost < 30 || s->host[0].st->cnt[CNT_TcpExtTCPTimeouts])
		sim_fail(s, "%llu lost, %llu time-outs", (unsigned long long)o->lost,
			 (unsigned long long)s->host[0].st->cnt[CNT_TcpExtTCPTimeouts]);
}

/* Packets above 1,300 octets vanish and nobody says so: found by probing (RFC 4821), then all passes */
static void bulk_black_hole(struct sim *s, struct outcome *o)
{
	struct sim_link l = link_of(MBIT(100), MSEC(10));
	struct stack_sysctl ctl;

	stack_sysctl_default(&ctl);
	ctl.tcp_mtu_probing = 1;
	l.mtu_bytes = 1300;
	sim_host_add(s, &l, &ctl);
	sim_host_add(s, &l, &ctl);
	transfer(s, o, MIB(2), 0, SEC(600));
}

static void bulk_loss_10pct(struct sim *s, struct outcome *o)
{
	struct sim_link l = link_of(MBIT(100), MSEC(10));

	l.loss_ppm = 10 * PPM_PERCENT;
	two_hosts(s, l);
	transfer(s, o, MIB(1), 0, SEC(3600));
}

static void bulk_offload_loss(struct sim *s, struct outcome *o)
{
	struct sim_link l = link_of(0, MSEC(1));

	l.loss_ppm = 1 * PPM_PERCENT;
	two_hosts(s, l);
	transfer(s, o, MIB(20), MIB(20), SEC(600));
}

static void bulk_reorder(struct sim *s, struct outcome *o)
{
	struct sim_link l = link_of(MBIT(100), MSEC(10));

	l.reorder_ppm = 20 * PPM_PERCENT;
	l.reorder_us = MSEC(3);
	two_hosts(s, l);
	transfer(s, o, MIB(10), 0, SEC(600));
}

static void bulk_duplicates(struct sim *s, struct outcome *o)
{
	struct sim_link l = link_of(MBIT(100), MSEC(10));

	l.dup_ppm = 30 * PPM_PERCENT;
	two_hosts(s, l);
	transfer(s, o, MIB(10), 0, SEC(600));
}

static void bulk_corrupt(struct sim *s, struct outcome *o)
{
	struct sim_link l = link_of(MBIT(100), MSEC(10));

	l.corrupt_ppm = 1 * PPM_PERCENT;
	two_hosts(s, l);
	transfer(s, o, MIB(5), 0, SEC(600));
}

static void bulk_jitter(struct sim *s, struct outcome *o)
{
	struct sim_link l = link_of(MBIT(50), MSEC(5));

	l.jitter_us = MSEC(10);
	two_hosts(s, l);
	transfer(s, o, MIB(5), 0, SEC(600));
}

/* What the issue of goodput asks: 100 Mbit/s, 20 ms there and back, one flow. */
static struct sim_link goodput_link(void)
{
	struct sim_link l = link_of(MBIT(100), MSEC(10));

	l.queue_bytes = 512 * 1024;
	return l;
}

static void goodput_loss(struct sim *s, struct outcome *o, uint32_t ppm)
{
	struct sim_link l = goodput_link();

	l.loss_ppm = ppm;
	two_hosts(s, l);
	transfer(s, o, MIB(20), 0, SEC(600));
}

static void goodput_clean(struct sim *s, struct outcome *o)
{
	goodput_loss(s, o, 0);
}

static void goodput_loss_01pct(struct sim *s, struct outcome *o)
{
	goodput_loss(s, o, PPM_PERCENT / 10);
}

static void goodput_loss_1pct(struct sim *s, struct outcome *o)
{
	goodput_loss(s, o, PPM_PERCENT);
}

static void goodput_loss_3pct(struct sim *s, struct outcome *o)
{
	goodput_loss(s, o, 3 * PPM_PERCENT);
}

static void goodput_reorder(struct sim *s, struct outcome *o)
{
	struct sim_link l = goodput_link();

	l.reorder_ppm = 5 * PPM_PERCENT;
	l.reorder_us = MSEC(10);
	l.reorder_up_to = true;
	two_hosts(s, l);
	transfer(s, o, MIB(20), 0, SEC(600));
}

static void goodput_blackout(struct sim *s, struct outcome *o)
{
	struct sim_link l = goodput_link();

	l.cut_from = s->now + MSEC(500) + rnd(&s->rnd) % MSEC(500);
	l.cut_to = l.cut_from + MSEC(200);
	two_hosts(s, l);
	transfer(s, o, MIB(20), 0, SEC(600));
}

/* The last segment of each answer is lost, once */
static bool lose_tail(struct sim_host *h, const uint8_t *d, uint32_t len)
{
	const uint8_t *t = d + 34;
	uint32_t seq;

	if (len < 100 || !(t[13] & 8) || !(t[13] & 16)) /* PSH: end of what was written */
		return false;
	memcpy(&seq, t + 4, 4);
	seq = __builtin_bswap32(seq);
	if (h->lose_mark == seq)
		return false;
	h->lose_mark = seq;
	return true;
}

static void tail_loss(struct sim *s, struct outcome *o)
{
	struct sim_link l = link_of(MBIT(100), MSEC(20));
	struct app ask = { .ops = &app_ask, .requests = 1, .request_bytes = 100, .response_bytes = 9000 };
	struct app answer = { .ops = &app_answer, .request_bytes = 100, .response_bytes = 9000 };

	two_hosts(s, l);
	s->host[1].link.lose = lose_tail;
	app_server(&s->host[1], 80, &answer);
	app_client(&s->host[0], &s->host[1], 80, &ask);
	sim_run(s, SEC(60));
	all_well(s);
	outcome_take(s, o);
	if (s->host[1].lost != 1 || s->host[1].st->cnt[CNT_TcpExtTCPLossProbes] != 1)
		sim_fail(s, "%llu lost, %llu probes", (unsigned long long)s->host[1].lost,
			 (unsigned long long)s->host[1].st->cnt[CNT_TcpExtTCPLossProbes]);
	if (s->host[1].st->cnt[CNT_TcpExtTCPTimeouts])
		sim_fail(s, "a time-out");
	if (o->worst_ms > 40 + 40 + 2 * 40 + 10) /* the last acknowledgment before it, then two round trips, then the way */
		sim_fail(s, "%llu ms", (unsigned long long)o->worst_ms);
}

/* Everything stands still for 1 s and then goes on: no loss, so the window must come back. */
static void delay_spike(struct sim *s, struct outcome *o)
{
	struct sim_link l = goodput_link(), back = l;
	struct stack_sysctl ctl;
	const struct stack *a;

	stack_sysctl_default(&ctl);
	ctl.tcp_wmem[2] = 512 * 1024; /* so that nothing is lost */
	l.queue_bytes = back.queue_bytes = 0;
	l.spike_from = s->now + MSEC(700);
	l.spike_to = l.spike_from + MSEC(1000);
	sim_host_add(s, &l, &ctl);
	sim_host_add(s, &back, NULL);
	a = s->host[0].st;
	transfer(s, o, MIB(20), 0, SEC(60));
	if (a->cnt[CNT_TcpExtTCPTimeouts] == 0 || a->cnt[CNT_TcpExtTCPSpuriousRTOs] + a->cnt[CNT_TcpExtTCPLossUndo] == 0)
		sim_fail(s, "%llu time-outs, %llu found spurious", (unsigned long long)a->cnt[CNT_TcpExtTCPTimeouts],
			 (unsigned long long)a->cnt[CNT_TcpExtTCPSpuriousRTOs]);
	if (o->kbit_s < 50000) /* 1 s of 2.9 s is gone */
		sim_fail(s, "%llu kbit/s", (unsigned long long)o->kbit_s);
}

static void bottleneck(struct sim *s, struct outcome *o)
{
	struct sim_link l = link_of(MBIT(10), MSEC(20));

	l.queue_bytes = 30 * 1024;
	two_hosts(s, l);
	transfer(s, o, MIB(10), 0, SEC(600));
	if (o->kbit_s < 7000)
		sim_fail(s, "%llu kbit/s on a link of 10 Mbit/s", (unsigned long long)o->kbit_s);
}

static void long_fat(struct sim *s, struct outcome *o)
{
	struct sim_link l = link_of(MBIT(200), MSEC(50));

	l.queue_bytes = 4 << 20;
	two_hosts(s, l);
	transfer(s, o, MIB(100), 0, SEC(600));
}

static void both_ways_loss(struct sim *s, struct outcome *o)
{
	struct sim_link l = link_of(MBIT(50), MSEC(10));

	l.loss_ppm = 1 * PPM_PERCENT;
	two_hosts(s, l);
	transfer(s, o, MIB(5), MIB(5), SEC(600));
}

static void outage(struct sim *s, struct outcome *o)
{
	struct sim_link l = link_of(MBIT(50), MSEC(10));

	l.cut_from = s->now + SEC(1);
	l.cut_to = s->now + SEC(11);
	two_hosts(s, l);
	transfer(s, o, MIB(20), 0, SEC(600));
}

/* The receiver stops reading for 5 s in the middle; the sender must block, and memory stay bounded. */
static void slow_reader(struct sim *s, struct outcome *o)
{
	struct app server = { .ops = &app_transfer, .want_recv = MIB(20), .pause_at_bytes = MIB(4),
			     .pause_us = SEC(5) };
	struct app client = { .ops = &app_transfer, .want_send = MIB(20) };

	two_hosts(s, link_of(MBIT(100), MSEC(5)));
	app_server(&s->host[1], 80, &server);
	app_client(&s->host[0], &s->host[1], 80, &client);
	sim_run_until(s, s->now + SEC(4));
	for (int i = 0; i < 2; i++)
		if (s->host[i].st->pools.held_bytes / 1024 > o->held_kib_max)
			o->held_kib_max = s->host[i].st->pools.held_bytes / 1024;
	if (o->held_kib_max > 12 * 1024)
		sim_fail(s, "%llu KiB held", (unsigned long long)o->held_kib_max);
	sim_run(s, SEC(60));
	all_well(s);
	outcome_take(s, o);
}

/* The server speaks first, and the client stops reading. */
static void server_first(struct sim *s, struct outcome *o)
{
	struct app server = { .ops = &app_transfer, .want_send = MIB(20) };
	struct app client = { .ops = &app_transfer, .want_recv = MIB(20), .pause_at_bytes = MIB(4),
			     .pause_us = SEC(5) };

	two_hosts(s, link_of(MBIT(100), MSEC(5)));
	app_server(&s->host[1], 80, &server);
	app_client(&s->host[0], &s->host[1], 80, &client);
	sim_run(s, SEC(60));
	all_well(s);
	outcome_take(s, o);
}

/* Two bulk flows and 32 request flows share a link; nobody may starve. */
static void no_starving(struct sim *s, struct outcome *o)
{
	struct app bulk_in = { .ops = &app_transfer, .want_recv = MIB(20) };
	struct app bulk_out = { .ops = &app_transfer, .want_send = MIB(20) };
	struct app ask = { .ops = &app_ask, .requests = 50, .request_bytes = 100, .response_bytes = 2000,
			  .think_us = MSEC(10) };
	struct app answer = { .ops = &app_answer, .request_bytes = 100, .response_bytes = 2000 };
	struct app *bulk[2];

	two_hosts(s, link_of(MBIT(100), MSEC(2)));
	app_server(&s->host[1], 80, &bulk_in);
	app_server(&s->host[1], 81, &answer);
	for (int i = 0; i < 2; i++)
		bulk[i] = app_client(&s->host[0], &s->host[1], 80, &bulk_out);
	for (int i = 0; i < 32; i++)
		app_client(&s->host[0], &s->host[1], 81, &ask);
	sim_run(s, SEC(120));
	all_well(s);
	outcome_take(s, o);
	for (int i = 0; i < 2; i++)
		if (bulk[i]->ended - bulk[i]->started > SEC(8))
			sim_fail(s, "a bulk flow took %llu ms",
				 (unsigned long long)(bulk[i]->ended - bulk[i]->started) / 1000);
	if (o->worst_ms > 1500)
		sim_fail(s, "a request took %llu ms", (unsigned long long)o->worst_ms);
}

static void requests(struct sim *s, struct outcome *o, int n, struct app ask)
{
	struct app answer = ask;

	answer.ops = &app_answer;
	app_server(&s->host[1], 80, &answer);
	for (int i = 0; i < n; i++)
		app_client(&s->host[0], &s->host[1], 80, &ask);
	sim_run(s, SEC(3600));
	all_well(s);
	outcome_take(s, o);
}

static void requests_clean(struct sim *s, struct outcome *o)
{
	two_hosts(s, link_of(MBIT(1000), 100));
	requests(s, o, 64, (struct app){ .ops = &app_ask, .requests = 100, .request_bytes = 100,
					.response_bytes = 300 });
	if (o->worst_ms > 20)
		sim_fail(s, "a request took %llu ms: something waited for a timer", (unsigned long long)o->worst_ms);
}

static void requests_loss(struct sim *s, struct outcome *o)
{
	struct sim_link l = link_of(MBIT(100), MSEC(2));

	l.loss_ppm = 5 * PPM_PERCENT;
	two_hosts(s, l);
	requests(s, o, 32, (struct app){ .ops = &app_ask, .requests = 50, .request_bytes = 1000,
					.response_bytes = 5000 });
}

static void connects_lossy(struct sim *s, struct outcome *o)
{
	struct sim_link l = link_of(MBIT(100), MSEC(2));

	l.loss_ppm = 20 * PPM_PERCENT;
	l.dup_ppm = 10 * PPM_PERCENT;
	l.reorder_ppm = 10 * PPM_PERCENT;
	l.reorder_us = MSEC(5);
	two_hosts(s, l);
	requests(s, o, 200, (struct app){ .ops = &app_ask, .requests = 1, .request_bytes = 10, .response_bytes = 10 });
}

/*
 * A client with 1,000 ports makes 6,000 connections to one port, one after the other and at times many at once, so
 * that its ports come round again while their last connection is in TIME_WAIT. No connect may be held up by that.
 */
static void churn(struct sim *s, struct outcome *o, bool client_closes_first)
{
	struct app first = { .ops = &app_ask, .requests = 1, .request_bytes = 100, .response_bytes = 100 };
	struct app second = { .ops = &app_answer, .request_bytes = 100, .response_bytes = 100 };
	const struct app *server = client_closes_first ? &second : &first, *client = client_closes_first ? &first : &second;
	struct sim_link l = link_of(MBIT(1000), 600);
	struct stack_sysctl ctl;

	stack_sysctl_default(&ctl);
	ctl.ip_local_port_range[0] = 40000;
	ctl.ip_local_port_range[1] = 40999;
	sim_host_add(s, &l, &ctl);
	sim_host_add(s, &l, &ctl);
	app_server(&s->host[1], 80, server);
	for (int i = 0; i < 6000 && !s->failed; i++) {
		struct app *a = app_client(&s->host[0], &s->host[1], 80, client);
		usec_t took;

		if (a->error)
			sim_fail(s, "connect %d: errno %d", i, a->error);
		if (i % 1000 >= 900 && i % 1000 < 964)
			continue; /* 64 at once */
		sim_run(s, SEC(10));
		all_well(s);
		for (a = s->apps; a; a = a->next) {
			took = a->ended - a->started;
			if (!a->keep && took > MSEC(100))
				sim_fail(s, "connection %d took %llu ms", i, (unsigned long long)took / 1000);
		}
		apps_reap(s);
	}
	outcome_take(s, o);
	o->time_ms = (s->now - s->started) / 1000;
}

static void churn_client_first(struct sim *s, struct outcome *o)
{
	churn(s, o, true);
}

static void churn_server_first(struct sim *s, struct outcome *o)
{
	churn(s, o, false);
}

/* Five senders into one receiver whose acknowledgments share a thin link. */
static void incast(struct sim *s, struct outcome *o)
{
	struct sim_link l = link_of(MBIT(100), MSEC(1));
	struct app server = { .ops = &app_transfer, .want_recv = MIB(2) };
	struct app client = { .ops = &app_transfer, .want_send = MIB(2) };

	l.queue_bytes = 64 * 1024;
	for (int i = 0; i < 6; i++)
		sim_host_add(s, &l, NULL);
	app_server(&s->host[5], 80, &server);
	for (int i = 0; i < 5; i++)
		app_client(&s->host[i], &s->host[5], 80, &client);
	sim_run(s, SEC(60));
	all_well(s);
	outcome_take(s, o);
}

static void own_address(struct sim *s, struct outcome *o)
{
	struct sim_link l = link_of(MBIT(100), MSEC(1));
	struct app server = { .ops = &app_transfer, .want_recv = MIB(20), .want_send = MIB(10) };
	struct app client = { .ops = &app_transfer, .want_send = MIB(20), .want_recv = MIB(10) };

	sim_host_add(s, &l, NULL);
	app_server(&s->host[0], 80, &server);
	app_client(&s->host[0], &s->host[0], 80, &client);
	sim_run(s, SEC(60));
	all_well(s);
	outcome_take(s, o);
	if (s->host[0].tx_frames)
		sim_fail(s, "frames left the host");
}

/* Nobody answers to the address: the connect ends when ARP has given up. */
static void no_neighbour(struct sim *s, struct outcome *o)
{
	struct sim_link l = link_of(MBIT(100), MSEC(1));
	struct app client = { .ops = &app_transfer };
	struct sim_host nobody = { .addr = ipaddr_v4(__builtin_bswap32(0x0a0000c8)) };
	struct app *a;

	sim_host_add(s, &l, NULL);
	a = app_client(&s->host[0], &nobody, 80, &client);
	sim_run(s, SEC(10));
	if (a->error != EHOSTUNREACH)
		sim_fail(s, "errno %d, not EHOSTUNREACH", a->error);
	outcome_take(s, o);
}

/* The link is dead: SYNs are sent 1, 2, 4 ... s apart, then ETIMEDOUT. */
static void connect_timeout(struct sim *s, struct outcome *o)
{
	struct sim_link l = link_of(MBIT(100), MSEC(1));
	struct app client = { .ops = &app_transfer };
	const uint8_t mac[6] = { 2, 0, 0, 0, 0, 99 };
	struct sim_host nobody = { .addr = ipaddr_v4(__builtin_bswap32(0x0a0000c8)) };
	struct app *a;

	sim_host_add(s, &l, NULL);
	stack_neigh_add(s->host[0].st, nobody.addr, mac);
	a = app_client(&s->host[0], &nobody, 80, &client);
	sim_run(s, SEC(200));
	if (a->error != ETIMEDOUT)
		sim_fail(s, "errno %d, not ETIMEDOUT", a->error);
	if (s->host[0].tx_frames != 7)
		sim_fail(s, "%llu SYNs, not 7", (unsigned long long)s->host[0].tx_frames);
	outcome_take(s, o);
}

static void refused(struct sim *s, struct outcome *o)
{
	struct app client = { .ops = &app_transfer };
	struct app *a;

	two_hosts(s, link_of(MBIT(100), MSEC(1)));
	a = app_client(&s->host[0], &s->host[1], 80, &client);
	sim_run(s, SEC(10));
	if (a->error != ECONNREFUSED)
		sim_fail(s, "errno %d, not ECONNREFUSED", a->error);
	outcome_take(s, o);
}

/*
 * Segments with wrong headers, which no checksum catches. Connections may end as they like, but nothing may break or
 * remain.
 */
static void garbled(struct sim *s, struct outcome *o)
{
	struct app in = { .ops = &app_transfer, .want_recv = MIB(1), .want_send = MIB(1), .unchecked = true };
	struct app ask = { .ops = &app_ask, .requests = 20, .request_bytes = 500, .response_bytes = 3000,
			  .unchecked = true };
	struct app answer = { .ops = &app_answer, .request_bytes = 500, .response_bytes = 3000, .unchecked = true };
	struct sim_link l = link_of(MBIT(100), MSEC(1));

	l.garble_ppm = 10 * PPM_PERCENT;
	two_hosts(s, l);
	app_server(&s->host[1], 80, &in);
	app_server(&s->host[1], 81, &answer);
	for (int i = 0; i < 20; i++) {
		app_client(&s->host[0], &s->host[1], 80, &in);
		app_client(&s->host[0], &s->host[1], 81, &ask);
	}
	sim_run_until(s, s->now + SEC(20));
	s->host[0].link.garble_ppm = s->host[1].link.garble_ppm = 0;
	apps_stop(s);
	sim_run_until(s, s->now + SEC(2000));
	outcome_take(s, o);
}

/* Derived data is made anew in the middle of everything, again and again; nobody may notice. */
static void repair_wake(struct app *a, usec_t now)
{
	struct sim *s = a->host->sim;

	for (int i = 0; i < s->n_hosts; i++)
		stack_repair(s->host[i].st, 0, now);
	a->alarm = now + MSEC(7);
}
static const struct app_ops app_repair = { "repair", repair_wake };

static void repaired_often(struct sim *s, struct outcome *o)
{
	struct app bulk_in = { .ops = &app_transfer, .want_recv = MIB(3), .want_send = MIB(1) };
	struct app bulk_out = { .ops = &app_transfer, .want_send = MIB(3), .want_recv = MIB(1) };
	struct app ask = { .ops = &app_ask, .requests = 30, .request_bytes = 500, .response_bytes = 5000,
			  .think_us = MSEC(5) };
	struct app answer = { .ops = &app_answer, .request_bytes = 500, .response_bytes = 5000 };
	struct sim_link l = link_of(MBIT(50), MSEC(3));
	struct app *r;

	l.loss_ppm = PPM_PERCENT;
	two_hosts(s, l);
	r = app_new(&s->host[0], &app_repair);
	r->ended = 1;
	r->alarm = s->now + MSEC(7);
	app_server(&s->host[1], 80, &bulk_in);
	app_server(&s->host[1], 81, &answer);
	app_client(&s->host[0], &s->host[1], 80, &bulk_out);
	for (int i = 0; i < 10; i++)
		app_client(&s->host[0], &s->host[1], 81, &ask);
	sim_run(s, SEC(600));
	r->alarm = USEC_NEVER;
	all_well(s);
	outcome_take(s, o);
}

/* The connection that was being changed when the lock's holder died is reset, all others go on. */
static void repair_resets_touched(struct sim *s, struct outcome *o)
{
	struct app in = { .ops = &app_transfer, .want_recv = MIB(5) }, out = { .ops = &app_transfer,
									      .want_send = MIB(5) };
	struct app *victim, *other;

	two_hosts(s, link_of(MBIT(50), MSEC(3)));
	app_server(&s->host[1], 80, &in);
	victim = app_client(&s->host[0], &s->host[1], 80, &out);
	other = app_client(&s->host[0], &s->host[1], 80, &out);
	sim_run_until(s, s->now + MSEC(300));
	stack_touch_clear(s->host[0].st);
	stack_touch(s->host[0].st, slab_index(&s->host[0].st->tcbs, victim->tcb));
	stack_repair(s->host[0].st, 0, s->now);
	sim_run(s, SEC(60));
	if (victim->error != ECONNRESET)
		sim_fail(s, "the touched one ended with errno %d, not ECONNRESET", victim->error);
	if (other->error)
		sim_fail(s, "another one ended with errno %d", other->error);
	outcome_take(s, o);
}

const struct scenario scenarios[] = {
	{ "bulk_clean", "20 MiB, 100 Mbit/s, 10 ms each way, nothing lost", bulk_clean, 1, false },
	{ "bulk_offload", "64 MiB in super-frames, no limit but 20 us each way", bulk_offload, 1, true },
	{ "bulk_loss_1pct", "20 MiB, 20 ms, 1 % lost, 2 % reordered, 1 % duplicated, both ways", bulk_loss_1pct, 3,
	 false },
	{ "bulk_loss_2pct", "10 MiB, 10 ms, 2 % lost", bulk_loss_2pct, 3, false },
	{ "bulk_loss_10pct", "1 MiB, 10 ms, 10 % lost", bulk_loss_10pct, 3, false },
	{ "bulk_loss_bursts", "5 MiB, 10 ms, 2 % lost in bursts of ten (Gilbert-Elliott)", bulk_loss_bursts, 3, false },
	{ "bulk_lose_nth", "5 MiB, 10 ms, every hundredth lost", bulk_lose_nth, 1, false },
	{ "bulk_black_hole", "2 MiB, 10 ms, what is above 1,300 octets vanishes", bulk_black_hole, 1, false },
	{ "bulk_offload_loss", "20 MiB each way in super-frames, 1 % of them lost", bulk_offload_loss, 3, true },
	{ "bulk_reorder", "10 MiB, 20 % arrive 3 ms late", bulk_reorder, 3, false },
	{ "bulk_duplicates", "10 MiB, 30 % arrive twice", bulk_duplicates, 3, false },
	{ "bulk_corrupt", "5 MiB, one bit wrong in 1 % of the frames", bulk_corrupt, 3, false },
	{ "bulk_jitter", "5 MiB, up to 10 ms of jitter", bulk_jitter, 3, false },
	{ "goodput_clean", "100 Mbit/s, 20 ms: nothing lost", goodput_clean, 20, false },
	{ "goodput_loss_01pct", "100 Mbit/s, 20 ms: 0.1 % lost", goodput_loss_01pct, 20, false },
	{ "goodput_loss_1pct", "100 Mbit/s, 20 ms: 1 % lost", goodput_loss_1pct, 20, false },
	{ "goodput_loss_3pct", "100 Mbit/s, 20 ms: 3 % lost", goodput_loss_3pct, 20, false },
	{ "goodput_reorder", "100 Mbit/s, 20 ms: 5 % late by up to 10 ms", goodput_reorder, 20, false },
	{ "goodput_blackout", "100 Mbit/s, 20 ms: 200 ms without anything", goodput_blackout, 20, false },
	{ "tail_loss", "the last segment of an answer of 9,000 octets is lost, 40 ms", tail_loss, 1, false },
	{ "delay_spike", "nothing lost, but all stands still for 1 s", delay_spike, 1, false },
	{ "bottleneck", "10 MiB, 10 Mbit/s, 20 ms, queue of 30 KiB", bottleneck, 1, false },
	{ "long_fat", "100 MiB, 200 Mbit/s, 50 ms, queue of 4 MiB", long_fat, 1, false },
	{ "both_ways_loss", "5 MiB each way at once, 1 % lost", both_ways_loss, 3, false },
	{ "outage", "20 MiB, everything lost for 10 s", outage, 1, false },
	{ "slow_reader", "20 MiB, the receiver does not read for 5 s", slow_reader, 1, false },
	{ "server_first", "20 MiB from the server, the client does not read for 5 s", server_first, 1, false },
	{ "no_starving", "two bulk flows and 32 request flows on 100 Mbit/s", no_starving, 3, false },
	{ "requests_clean", "64 x 100 requests, nothing lost", requests_clean, 1, true },
	{ "requests_loss", "32 x 50 requests, 5 % lost", requests_loss, 3, false },
	{ "connects_lossy", "200 connections, 20 % lost, 10 % twice, 10 % late", connects_lossy, 3, false },
	{ "churn_client_first", "6,000 connections from 1,000 ports, the client closes first", churn_client_first, 1,
	 false },
	{ "churn_server_first", "6,000 connections from 1,000 ports, the server closes first", churn_server_first, 1,
	 false },
	{ "incast", "five senders, one receiver", incast, 3, false },
	{ "own_address", "20 and 10 MiB between two sockets of one host", own_address, 1, true },
	{ "no_neighbour", "connect to an address that nobody has", no_neighbour, 1, false },
	{ "connect_timeout", "connect to a host that never answers", connect_timeout, 1, false },
	{ "refused", "connect to a port nobody listens on", refused, 1, false },
	{ "garbled", "wrong headers in 10 % of the frames, with checksums that claim to be right", garbled, 5, false },
	{ "repaired_often", "all derived data made anew every 7 ms under load and loss", repaired_often, 3, false },
	{ "repair_resets_touched", "repair resets the connection in hand and no other", repair_resets_touched, 1,
	 false },
	{ "ip6_bulk_loss_2pct", "IPv6: 10 MiB, 10 ms, 2 % lost", bulk_loss_2pct, 2, false },
	{ "ip6_requests_loss", "IPv6: 32 x 50 requests, 5 % lost", requests_loss, 2, true },
	{ "ip6_garbled", "IPv6: wrong headers in 10 % of the frames, with checksums that claim to be right", garbled, 5, false },
	{ "ip6_repaired_often", "IPv6: all derived data made anew every 7 ms under load and loss", repaired_often, 2, false },
	{ "fair_2_cubic", "two CUBIC flows, 100 Mbit/s, 20 ms, 60 s: kbit/s of all, Jain's index in worst_ms (thousandths)",
	  cc_fair_2_cubic, 1, false },
	{ "fair_10_cubic", "ten CUBIC flows, 100 Mbit/s, 20 ms, 60 s",
	  cc_fair_10_cubic, 1, false },
	{ "fair_2_reno", "two NewReno flows, 100 Mbit/s, 20 ms, 60 s",
	  cc_fair_2_reno, 1, false },
	{ "fair_2_bbr", "two BBR flows, 100 Mbit/s, 20 ms, 60 s",
	  cc_fair_2_bbr, 1, false },
	{ "fair_10_bbr", "ten BBR flows, 100 Mbit/s, 20 ms, from 50 s to 100 s",
	  cc_fair_10_bbr, 1, false },
	{ "fair_10_ecn", "ten CUBIC flows with ECN, queue marked from 120 KiB",
	  cc_fair_10_ecn, 1, false },
	{ "joins_full_queue", "a CUBIC flow begins beside one that fills the queue: sent again in its first second, in worst_ms",
	  cc_joins_full_queue, 20, false },
	{ "bbr_clean", "20 MiB by BBR, 100 Mbit/s, 10 ms each way, nothing lost",
	  cc_bbr_clean, 1, false },
	{ "bbr_loss_2pct", "20 MiB by BBR, 100 Mbit/s, 10 ms each way, 2 % lost",
	  cc_bbr_loss_2pct, 3, false },
	{ "bbr_policed", "20 MiB by BBR through a policer of 20 Mbit/s, bursts of 100 KiB",
	  cc_bbr_policed, 1, false },
	{ "cubic_policed", "10 MiB by CUBIC through a policer of 20 Mbit/s, bursts of 100 KiB",
	  cc_cubic_policed, 1, false },
	{ "bbr_shallow", "20 MiB by BBR, 100 Mbit/s, 20 ms, queue of 30 KiB",
	  cc_bbr_shallow, 1, false },
	{ "ecn_bulk", "20 MiB with ECN, 100 Mbit/s, marked from 100 KiB: not one loss",
	  cc_ecn_bulk, 1, false },
	{ "paced_8mbit", "2 MiB paced at 1 MB/s on 100 Mbit/s, queue of 8 KiB: not one loss",
	  cc_paced_8mbit, 1, false },
	{ "fill_fat", "200 MiB, 200 Mbit/s, 80 ms round trip: both buffers grow to fill it",
	  cc_fill_fat, 1, false },
	{ 0 },
};
