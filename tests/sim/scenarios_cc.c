/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scenarios_cc.c - congestion control: shares of a bottleneck, marks, policers, pacing, windows that fill a path
 *
 * The bottleneck is the link of host 0, which sends. Shares are measured at the receivers for 50 s, and the table has
 * Jain's index times 1,000 as worst_ms. Acknowledgments jitter by half a millisecond there: without any chance at all the
 * same flow would find the full queue each time (Floyd and Jacobson's phase effect), which no real network does.
 */
#include "scenarios.h"

#define MBIT(n) ((n) * 1000000ull)
#define MIB(n)	((uint64_t)(n) << 20)
#define FLOWS_MAX 10

static uint8_t cc_by_name(struct sim *s, const char *name)
{
	int i = tcp_cc_find(name);

	if (i < 0)
		sim_fail(s, "no congestion control is called %s", name);
	return (uint8_t)(i + 1);
}

static void hosts(struct sim *s, struct sim_link l, uint8_t ecn)
{
	struct stack_sysctl ctl;
	struct sim_link back = { .rate_bps = MBIT(1000), .delay_us = l.delay_us };

	stack_sysctl_default(&ctl);
	ctl.tcp_ecn = ecn;
	sim_host_add(s, &l, &ctl);
	sim_host_add(s, &back, &ctl);
}

static struct app *bulk(struct sim *s, struct outcome *o, struct app client)
{
	struct app server = { .ops = &app_transfer, .want_recv = client.want_send }, *a;

	client.ops = &app_transfer;
	app_server(&s->host[1], 80, &server);
	a = app_client(&s->host[0], &s->host[1], 80, &client);
	sim_run(s, SEC(600));
	if (a->error)
		sim_fail(s, "errno %d", a->error);
	outcome_take(s, o);
	return a;
}

static void at_least(struct sim *s, const struct outcome *o, uint64_t kbit_s)
{
	if (o->kbit_s < kbit_s)
		sim_fail(s, "%llu kbit/s, not %llu", (unsigned long long)o->kbit_s, (unsigned long long)kbit_s);
}

/* ---- shares ---- */

static unsigned receivers(struct sim *s, struct app **ret_a)
{
	unsigned n = 0;

	for (struct app *a = s->apps; a; a = a->next)
		if (a->host == &s->host[1] && a->tcb && !a->ended && n < FLOWS_MAX)
			ret_a[n++] = a;
	return n;
}

/* @n flows that begin 100 ms apart, measured from @from on; fails under an index of 0.95 or 85 % of the link */
static void shares(struct sim *s, struct outcome *o, unsigned n, const char *cc, usec_t from)
{
	struct app in = { .ops = &app_transfer, .want_recv = UINT64_MAX }, *r[FLOWS_MAX];
	struct app out = { .ops = &app_transfer, .want_send = UINT64_MAX, .cc = cc_by_name(s, cc) };
	uint64_t before[FLOWS_MAX], sum = 0, squares = 0, jain;
	usec_t start = s->now;

	s->host[1].link.jitter_us = 500;
	app_server(&s->host[1], 80, &in);
	for (unsigned i = 0; i < n; i++) {
		app_client(&s->host[0], &s->host[1], 80, &out);
		sim_run_until(s, s->now + MSEC(100));
	}
	sim_run_until(s, start + from);
	if (receivers(s, r) != n)
		sim_fail(s, "not all flows are there");
	for (unsigned i = 0; i < n; i++)
		before[i] = r[i]->received;
	sim_run_until(s, start + from + SEC(50));
	for (unsigned i = 0; i < n; i++) {
		uint64_t kib = (r[i]->received - before[i]) >> 10;

		sum += kib;
		squares += kib * kib;
	}
	jain = squares ? sum * sum * 1000 / (n * squares) : 0;
	for (struct app *a = s->apps; a; a = a->next)
		a->unchecked = true;
	apps_stop(s);
	outcome_take(s, o);
	o->time_ms = 50000;
	o->kbit_s = sum * 8192 / 50000;
	o->worst_ms = jain;
	if (jain < 950)
		sim_fail(s, "Jain's index is %llu thousandths", (unsigned long long)jain);
	at_least(s, o, 85000);
}

static struct sim_link bottleneck_link(void)
{
	return (struct sim_link){ .rate_bps = MBIT(100), .delay_us = MSEC(10), .queue_bytes = 256 * 1024 };
}

void cc_fair_2_cubic(struct sim *s, struct outcome *o)
{
	hosts(s, bottleneck_link(), 2);
	shares(s, o, 2, "cubic", SEC(10));
}

void cc_fair_10_cubic(struct sim *s, struct outcome *o)
{
	hosts(s, bottleneck_link(), 2);
	shares(s, o, 10, "cubic", SEC(10));
}

void cc_fair_2_reno(struct sim *s, struct outcome *o)
{
	hosts(s, bottleneck_link(), 2);
	shares(s, o, 2, "reno", SEC(10));
}

void cc_fair_2_bbr(struct sim *s, struct outcome *o)
{
	hosts(s, bottleneck_link(), 2);
	shares(s, o, 2, "bbr", SEC(10));
}

/*
 * Queue of four round trips: with less the ten must lose, and this is about shares. Those who began later find the queue of
 * those before and take it for the path; some of the probes for the least round trip, 10 s apart, must coincide to end that.
 */
void cc_fair_10_bbr(struct sim *s, struct outcome *o)
{
	struct sim_link l = bottleneck_link();

	l.queue_bytes = 1 << 20;
	hosts(s, l, 2);
	shares(s, o, 10, "bbr", SEC(50));
}

void cc_fair_10_ecn(struct sim *s, struct outcome *o)
{
	struct sim_link l = bottleneck_link();

	l.queue_bytes = 1 << 20;
	l.mark_bytes = 120 * 1024;
	hosts(s, l, 1);
	shares(s, o, 10, "cubic", SEC(10));
	if (!s->host[0].marked)
		sim_fail(s, "nothing was marked");
}

/*
 * A flow fills the queue, another begins later, at another fill for each seed. Where there is room left to see it, the second
 * finds the queue by its round trip, and does not double until half of its flight is lost.
 */
void cc_joins_full_queue(struct sim *s, struct outcome *o)
{
	struct app in = { .ops = &app_transfer, .want_recv = UINT64_MAX };
	struct app out = { .ops = &app_transfer, .want_send = UINT64_MAX, .cc = cc_by_name(s, "cubic") };
	uint64_t before;

	hosts(s, bottleneck_link(), 2);
	s->host[1].link.jitter_us = 500;
	app_server(&s->host[1], 80, &in);
	app_client(&s->host[0], &s->host[1], 80, &out);
	sim_run_until(s, s->now + SEC(1) + s->seed % 20 * MSEC(150)); /* the queue is as full as it is */
	before = s->host[0].st->cnt[CNT_TcpRetransSegs];
	app_client(&s->host[0], &s->host[1], 80, &out);
	sim_run_until(s, s->now + SEC(1));
	o->worst_ms = s->host[0].st->cnt[CNT_TcpRetransSegs] - before;
	for (struct app *a = s->apps; a; a = a->next)
		a->unchecked = true;
	apps_stop(s);
	outcome_take(s, o);
	o->time_ms = 1000;
}

/* ---- BBR ---- */

void cc_bbr_clean(struct sim *s, struct outcome *o)
{
	struct sim_link l = bottleneck_link();

	l.queue_bytes = 4 << 20;
	hosts(s, l, 2);
	bulk(s, o, (struct app){ .want_send = MIB(20), .cc = cc_by_name(s, "bbr") });
	at_least(s, o, 85000);
	if (o->retrans)
		sim_fail(s, "retransmissions without a loss");
}

void cc_bbr_loss_2pct(struct sim *s, struct outcome *o)
{
	struct sim_link l = bottleneck_link();

	l.loss_ppm = 2 * PPM_PERCENT;
	hosts(s, l, 2);
	bulk(s, o, (struct app){ .want_send = MIB(20), .cc = cc_by_name(s, "bbr") });
	at_least(s, o, 70000);
}

static void policed(struct sim *s, struct outcome *o, uint64_t bytes, const char *cc)
{
	struct sim_link l = bottleneck_link();

	l.police_bps = MBIT(20);
	l.police_bytes = 100 * 1024;
	hosts(s, l, 2);
	bulk(s, o, (struct app){ .want_send = bytes, .cc = cc_by_name(s, cc) });
}

void cc_bbr_policed(struct sim *s, struct outcome *o)
{
	policed(s, o, MIB(20), "bbr");
	at_least(s, o, 14000);
}

void cc_cubic_policed(struct sim *s, struct outcome *o)
{
	policed(s, o, MIB(10), "cubic");
	at_least(s, o, 12000);
}

void cc_bbr_shallow(struct sim *s, struct outcome *o)
{
	struct sim_link l = bottleneck_link();

	l.queue_bytes = 30 * 1024;
	hosts(s, l, 2);
	bulk(s, o, (struct app){ .want_send = MIB(20), .cc = cc_by_name(s, "bbr") });
	at_least(s, o, 80000);
}

/* ---- marks, pacing, buffers ---- */

void cc_ecn_bulk(struct sim *s, struct outcome *o)
{
	struct sim_link l = bottleneck_link();

	l.queue_bytes = 4 << 20;
	l.mark_bytes = 100 * 1024;
	hosts(s, l, 1);
	bulk(s, o, (struct app){ .want_send = MIB(20) });
	if (!s->host[0].marked || o->lost || o->retrans)
		sim_fail(s, "%llu marked, %llu lost, %llu sent again", (unsigned long long)s->host[0].marked,
			 (unsigned long long)o->lost, (unsigned long long)o->retrans);
	at_least(s, o, 75000);
}

void cc_paced_8mbit(struct sim *s, struct outcome *o)
{
	struct sim_link l = bottleneck_link();

	l.queue_bytes = 8 * 1024;
	hosts(s, l, 2);
	bulk(s, o, (struct app){ .want_send = MIB(2), .max_pacing_Bps = 1000000 });
	if (o->lost || o->kbit_s > 8200)
		sim_fail(s, "%llu lost, %llu kbit/s", (unsigned long long)o->lost, (unsigned long long)o->kbit_s);
	at_least(s, o, 7600);
}

void cc_fill_fat(struct sim *s, struct outcome *o)
{
	struct sim_link l = { .rate_bps = MBIT(200), .delay_us = MSEC(40), .queue_bytes = 8 << 20 };

	hosts(s, l, 2);
	bulk(s, o, (struct app){ .want_send = MIB(200) });
	at_least(s, o, 160000);
}
