/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scale.c - does a request cost more where there are more connections, and what does an idle one hold
 *
 *   scale CONNECTIONS REQUESTS
 *
 * One stack, CONNECTIONS established by a peer made of frames; then REQUESTS of 100 octets on up to 500 connections all
 * over the table, each read and answered with 200, the answer acknowledged by the next request. Instructions are counted by
 * callgrind around the requests alone (bench/scale.py); nanoseconds by the clock. Memory: slots and cells in use, table
 * and buckets included, ten seconds after the last connection was opened.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "../stack/checksum.h"
#include "../stack/stack_priv.h"
#include "../stack/tcb.h"
#include "../stack/tcp.h"
#include "../stack/tcp_seg.h"
#include "../stack/wire.h"
#include "../tests/unit/region.h"
#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#else
#define CALLGRIND_START_INSTRUMENTATION
#define CALLGRIND_STOP_INSTRUMENTATION
#endif

#define PORTS 60000u /* of each address of the peer's */
#define OUR_IP 0x0a000001u

struct conn {
	struct tcb *t;
	uint32_t seq, ack; /* the peer's next number, and what it expects */
};

static struct stack *st;
static struct conn *conns;
static usec_t now = SEC(1000);
static uint32_t last_seq; /* of what the stack sent last, its end */

static void drain(void)
{
	struct stack_event ev;
	struct pbuf *p;

	while ((p = stack_output(st, now))) {
		const uint8_t *t = pbuf_head(p) + VNET_HDR_BYTES + 34;

		last_seq = get32(t + 4) + (p->len - 34 - (t[12] >> 4) * 4u) + !!(t[13] & TH_SYN);
		stack_tx_done(st, p);
	}
	while (stack_event(st, &ev))
		;
	stack_touch_clear(st);
}

static void peer_sends(uint32_t i, uint8_t flags, uint32_t len)
{
	static uint8_t b[400];
	uint8_t *ip = b + 14, *t = ip + 20;
	uint32_t src = OUR_IP + 1 + i / PORTS;
	struct frame f = { .data = b, .len = 54 + len, .vnet = { .flags = VNET_F_DATA_VALID } };

	memcpy(b, (uint8_t[]){ 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0 }, 14);
	memset(ip, 0, 40);
	ip[0] = 0x45;
	put16(ip + 2, (uint16_t)(40 + len));
	ip[8] = 64;
	ip[9] = 6;
	put32(ip + 12, src);
	put32(ip + 16, OUR_IP);
	put16_raw(ip + 10, (uint16_t)~csum_fold(csum_add(0, ip, 20)));
	put16(t, (uint16_t)(1024 + i % PORTS));
	put16(t + 2, 80);
	put32(t + 4, conns[i].seq);
	put32(t + 8, flags & TH_ACK ? conns[i].ack : 0);
	t[12] = 5 << 4;
	t[13] = flags;
	put16(t + 14, 65535);
	conns[i].seq += len + !!(flags & TH_SYN);
	stack_input(st, &f, now);
}

static void open_all(uint32_t n)
{
	struct endpoint ep = { .addr = ipaddr_v4(0), .port = 80 };
	struct tcb *l = tcp_open(st, 4, 1, now);

	tcp_bind(st, l, &ep, now);
	tcp_listen(st, l, 128, now);
	for (uint32_t i = 0; i < n; i++) {
		peer_sends(i, TH_SYN, 0);
		drain();
		conns[i].ack = last_seq;
		peer_sends(i, TH_ACK, 0);
		drain();
		if (tcp_accept(st, l, &conns[i].t) < 0)
			abort();
		tcp_set_user(conns[i].t, 2);
		now += 3;
		stack_expire(st, now);
	}
}

/* The same time passes between two requests of a connection, however many take part. */
static void request(uint32_t i, uint32_t used)
{
	struct iovec iov[4];
	int k;
	ptrdiff_t r;

	peer_sends(i, TH_ACK | TH_PSH, 100);
	if (tcp_recv_begin(st, conns[i].t, 0, 1000, iov, 4, &k) != 100)
		abort();
	tcp_recv_done(st, conns[i].t, 100, now);
	r = tcp_send_begin(st, conns[i].t, 200, iov, 4, &k);
	if (r != 200)
		abort();
	memset(iov[0].iov_base, 'x', iov[0].iov_len);
	tcp_send_commit(st, conns[i].t, 200, 0, now);
	drain();
	conns[i].ack = last_seq;
	now += 10000 / used;
	stack_expire(st, now);
}

/* Those that take part lie all over the table, and come in an order that no cache foresees. */
static uint32_t pick(uint32_t i, uint32_t used, uint32_t n)
{
	return (uint32_t)((uint64_t)((i * 7919u) % used) * n / used);
}

static uint64_t memory_in_use(void)
{
	const struct slab *slabs[] = { &st->tcbs, &st->awake, &st->requests, &st->timewaits, &st->opts_rows };
	uint64_t sum = st->pools.held_bytes;

	for (size_t i = 0; i < sizeof(slabs) / sizeof(slabs[0]); i++)
		sum += (uint64_t)slabs[i]->in_use * slabs[i]->stride_bytes;
	sum += (uint64_t)(st->conns.mask + 1 + st->conns.split) * sizeof(void *);
	return sum;
}

int main(int argc, char **argv)
{
	uint32_t n = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 0) : 10, rounds = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 0) : 1000;
	struct stack_config cfg = { .region = region_new((size_t)(n / 250 + 256) << 20), .seed = { 1, 2, 3, 4 } };
	struct timespec a, b;
	uint64_t bytes;
	uint32_t used;

	if (n == 0 || n > 4000000 || rounds == 0)
		return 1;
	stack_sysctl_default(&cfg.ctl);
	memcpy(cfg.dev.mac, (uint8_t[]){ 2, 0, 0, 0, 0, 1 }, 6);
	cfg.dev.mtu_bytes = 1500;
	cfg.dev.csum = true;
	cfg.dev.gso_max_bytes = 65535;
	st = stack_init(&cfg, now);
	conns = calloc(n, sizeof(*conns));
	if (!st || !conns)
		return 1;
	stack_addr_add(st, ipaddr_v4(__builtin_bswap32(OUR_IP)), 8);
	for (uint32_t i = 0; i <= n / PORTS; i++)
		stack_neigh_add(st, ipaddr_v4(__builtin_bswap32(OUR_IP + 1 + i)), (uint8_t[]){ 2, 0, 0, 0, 0, 2 });
	for (uint32_t i = 0; i < n; i++)
		conns[i].seq = 1000 + i * 77;
	open_all(n);
	for (int i = 0; i < 100; i++) { /* the idle go to rest */
		now += MSEC(100);
		stack_expire(st, now);
	}
	bytes = memory_in_use() / n;
	used = n < 500 ? n : 500;
	for (uint32_t i = 0; i < 20 * used; i++) /* the slow beginning of each: quick acknowledgments, first samples */
		request(pick(i, used, n), used);
	clock_gettime(CLOCK_MONOTONIC, &a);
	CALLGRIND_START_INSTRUMENTATION;
	for (uint32_t i = 0; i < rounds; i++)
		request(pick(i, used, n), used);
	CALLGRIND_STOP_INSTRUMENTATION;
	clock_gettime(CLOCK_MONOTONIC, &b);
	printf("%u connections, %u requests, %.0f ns each, %lu bytes per idle connection\n", n, rounds,
	       ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / rounds, (unsigned long)bytes);
	return 0;
}
