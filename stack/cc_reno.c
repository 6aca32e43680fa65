/* SPDX-License-Identifier: BSD-2-Clause */
/* cc_reno.c - RFC 5681 with appropriate byte counting (RFC 3465), and what all algorithms share */
#include <errno.h>
#include <string.h>
#include "tcp_priv.h"

static const struct cc_ops *const cc_table[] = { &cc_cubic, &cc_reno, &cc_bbr };
#define CC_N ((int)(sizeof(cc_table) / sizeof(cc_table[0])))

const struct cc_ops *tcp_cc_ops(const struct tcp_conn *t)
{
	return cc_table[t->opts.cc < CC_N ? t->opts.cc : 0];
}

int tcp_cc_find(const char *name)
{
	for (int i = 0; i < CC_N; i++)
		if (strcmp(cc_table[i]->name, name) == 0)
			return i;
	return -ENOENT;
}

const char *tcp_cc_name(int index)
{
	return index >= 0 && index < CC_N ? cc_table[index]->name : NULL;
}

#define CC_RENO 1 /* its place in the table */

void tcp_cc_start(struct stack *st, struct tcp_conn *t, usec_t now)
{
	cell_put(st, t->cc_cell);
	t->cc_cell = NULL;
	memset(t->cc, 0, sizeof(t->cc));
	t->pace_Bps = 0;
	tcp_cc_ops(t)->init(st, t, now);
	if (tcp_cc_ops(t)->model && !t->cc_cell) {
		t->opts.cc = CC_RENO;
		cc_reno.init(st, t, now);
	}
	tcp_pace_update(t);
}

uint32_t tcp_cc_reduce(struct tcp_conn *t, usec_t now)
{
	if (t->ecn & ECN_OK)
		t->ecn |= ECN_CWR;
	if (tcp_ecn_reduced(t))
		return t->ssthresh;
	return tcp_cc_ops(t)->ssthresh(t, now);
}

uint32_t cc_slow_start(struct tcp_conn *t, uint32_t acked)
{
	uint32_t room = t->ssthresh > t->cwnd ? t->ssthresh - t->cwnd : 0, n = acked < room ? acked : room;

	if (t->cwnd > CWND_MAX_BYTES - n)
		n = CWND_MAX_BYTES - t->cwnd;
	t->cwnd += n;
	return acked - n;
}

void cc_grow(struct tcp_conn *t, uint32_t *credit, uint32_t acked, uint32_t per_segment)
{
	uint64_t sum = (uint64_t)*credit + acked;
	uint64_t n = sum / (per_segment ? per_segment : 1);

	if (n > acked / t->snd_mss + 1)
		n = acked / t->snd_mss + 1; /* never more than in slow start */
	sum -= n * per_segment;
	*credit = (uint32_t)(sum > per_segment ? per_segment : sum);
	t->cwnd = t->cwnd + n * t->snd_mss > CWND_MAX_BYTES ? CWND_MAX_BYTES : t->cwnd + (uint32_t)n * t->snd_mss;
}

struct reno {
	uint32_t credit;
};

static struct reno *reno_of(struct tcp_conn *t)
{
	return (struct reno *)t->cc;
}

static void reno_init(struct stack *st, struct tcp_conn *t, usec_t now)
{
	(void)st;
	(void)now;
	reno_of(t)->credit = 0;
}

static void reno_ack(struct tcp_conn *t, uint32_t acked, uint32_t rtt_us, usec_t now)
{
	(void)rtt_us;
	(void)now;
	acked = cc_slow_start(t, acked);
	if (acked > 0)
		cc_grow(t, &reno_of(t)->credit, acked, t->cwnd);
}

static uint32_t reno_ssthresh(struct tcp_conn *t, usec_t now)
{
	(void)now;
	return t->cwnd / 2 > 2 * t->snd_mss ? t->cwnd / 2 : 2 * t->snd_mss;
}

static void reno_undo(struct tcp_conn *t)
{
	(void)t; /* cwnd and ssthresh are put back by the caller */
}

/* RFC 5681 4.1 as Linux: half for each RTO of silence, not below the initial window; ssthresh remembers */
void cc_idle_restart(struct tcp_conn *t, usec_t idle_us)
{
	uint32_t iw = TCP_INIT_CWND_SEGS * t->snd_mss, floor = t->cwnd < iw ? t->cwnd : iw;
	uint32_t keep = t->cwnd / 4 * 3;

	if (t->ssthresh < keep)
		t->ssthresh = keep;
	for (usec_t us = idle_us; us > t->rto_us && t->cwnd > floor; us -= t->rto_us)
		t->cwnd /= 2;
	if (t->cwnd < floor)
		t->cwnd = floor;
}

static void reno_timeout(struct tcp_conn *t)
{
	reno_of(t)->credit = 0;
}

const struct cc_ops cc_reno = {
	.name = "reno", .init = reno_init, .ack = reno_ack, .ssthresh = reno_ssthresh, .undo = reno_undo,
	.restart = cc_idle_restart, .timeout = reno_timeout,
};
