/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz.h - what the fuzz targets share: a reader of the input, a stack in virtual time, and what must hold at any time
 *
 * The input is a program: one octet says what is done next, those after it are its arguments; at its end all arguments
 * are 0. So a mutation changes one step and leaves the others as they are.
 */
#ifndef OWNSTACK_TESTS_FUZZ_FUZZ_H
#define OWNSTACK_TESTS_FUZZ_FUZZ_H

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "../../stack/checksum.h"
#include "../../stack/tcp_priv.h"
#include "../../stack/wire.h"
#include "../unit/region.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REGION_BYTES (64u << 20)
#define STEPS_MAX    2000u  /* of one input */
#define FRAMES_LIMIT 20000u /* of one step: more is two ends that answer one another for ever */

/* Not assert(): must hold in every build */
#define MUST(x)                                                                        \
	do {                                                                           \
		if (!(x)) {                                                            \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #x); \
			abort();                                                       \
		}                                                                      \
	} while (0)

struct input {
	const uint8_t *p;
	size_t left;
};

static inline uint32_t in_u8(struct input *in)
{
	if (!in->left)
		return 0;
	in->left--;
	return *in->p++;
}

static inline uint32_t in_u16(struct input *in)
{
	uint32_t high = in_u8(in);

	return high << 8 | in_u8(in);
}

static inline uint32_t in_bytes(struct input *in, uint8_t *dst, uint32_t want)
{
	uint32_t n = want < in->left ? want : (uint32_t)in->left;

	memcpy(dst, in->p, n);
	memset(dst + n, 0, want - n);
	in->p += n;
	in->left -= n;
	return want;
}

static const uint8_t fuzz_mac[2][6] = { { 2, 0, 0, 0, 0, 1 }, { 2, 0, 0, 0, 0, 2 } };
#define FUZZ_IP(i) (0x0a000001u + (i))

static inline struct ipaddr fuzz_addr(unsigned i)
{
	return ipaddr_v4(__builtin_bswap32(FUZZ_IP(i)));
}

/** fuzz_stack() - station @i of 10.0.0.0/24, small limits so that they are met */
static inline struct stack *fuzz_stack(unsigned i, bool know_peer, usec_t now)
{
	struct stack_config cfg = { .region = region_new(REGION_BYTES), .seed = { 1, 2, 3, i } };
	struct stack *st;

	stack_sysctl_default(&cfg.ctl);
	cfg.ctl.mem_limit_bytes = 4 << 20;
	cfg.ctl.tcp_max_syn_backlog = 8;
	cfg.ctl.tcp_max_tw_buckets = 4;
	memcpy(cfg.dev.mac, fuzz_mac[i], 6);
	cfg.dev.mtu_bytes = 1500;
	cfg.dev.gso_max_bytes = 65535;
	st = stack_init(&cfg, now);
	MUST(st);
	MUST(stack_addr_add(st, fuzz_addr(i), 24) == 0);
	if (know_peer)
		MUST(stack_neigh_add(st, fuzz_addr(!i), fuzz_mac[!i]) == 0);
	return st;
}

static inline void fuzz_stack_end(struct stack *st)
{
	munmap(st->region->base, st->region->bytes);
}

/** fuzz_flatten() - frame of the stack as octets; room for FRAME_MAX_BYTES and the virtio-net header's fields in @ret_f */
static inline void fuzz_flatten(struct pbuf *p, uint8_t *dst, struct frame *ret_f)
{
	uint32_t len = p->hdr_len - VNET_HDR_BYTES;

	*ret_f = (struct frame){ .data = dst };
	memcpy(&ret_f->vnet, pbuf_head(p), VNET_HDR_BYTES);
	memcpy(dst, pbuf_head(p) + VNET_HDR_BYTES, len);
	for (unsigned i = 0; i < p->n_frags; i++) {
		memcpy(dst + len, p->frag[i].cell->data + p->frag[i].off, p->frag[i].len);
		len += p->frag[i].len;
	}
	MUST(len == p->len && len <= FRAME_MAX_BYTES);
	ret_f->len = len;
}

static inline void must_hold_tcb(const struct tcb *s)
{
	const struct tcp_conn *t = s->conn;

	if (!t) {
		MUST(s->rest.state == TCPS_ESTABLISHED || s->rest.state == TCPS_CLOSE_WAIT);
		return;
	}
	MUST(t->state >= TCPS_ESTABLISHED && t->state <= TCPS_CLOSING);
	if (t->state == TCPS_LISTEN || t->state == TCPS_CLOSED)
		return;
	MUST(seq_leq(t->snd_una, t->snd_nxt));
	MUST(seq_leq(t->snd_nxt, t->write_seq + 1));
	MUST(seq_leq(t->rcv_wup, t->rcv_nxt));
	MUST(t->snd_mss >= TCP_MIN_SND_MSS);
	MUST(t->sacked_bytes <= tcp_flight(t));
	/* one segment more than the buffer, and the quarter that fills gaps */
	MUST(t->rcv_mem_bytes <= t->opts.rcvbuf_bytes + t->opts.rcvbuf_bytes / 2 + 2 * FRAME_MAX_BYTES);
	if (t->state != TCPS_SYN_SENT && t->state != TCPS_SYN_RECEIVED)
		MUST(t->cwnd >= t->snd_mss && t->cwnd <= CWND_MAX_BYTES + 65536);
}

/** must_hold() - what no input may break */
static inline void must_hold(struct stack *st, usec_t now)
{
	uint32_t cursor = 0;
	struct tcb *t;

	for (unsigned n = 0; n < 100 && stack_deadline(st) <= now; n++) /* deadlines may be early */
		stack_expire(st, now);

	MUST(st->pools.held_bytes <= st->pools.limit_bytes);
	MUST(st->requests.in_use <= 64 && st->timewaits.in_use <= st->ctl.tcp_max_tw_buckets);
	MUST(stack_deadline(st) > now); /* what was due is done */
	while ((t = tcp_next(st, &cursor)))
		must_hold_tcb(t);
}

#endif
