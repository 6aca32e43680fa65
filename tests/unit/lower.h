/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lower.h - a stack without TCP on a wire with one peer: 10.0.0.1/24, peer 10.0.0.2, gateway 10.0.0.254 for
 * everything else
 *
 * frame_*() write a frame into lower_in; feed() gives it to the stack; out() takes the next frame the stack sends,
 * flat.
 */
#ifndef OWNSTACK_TESTS_UNIT_LOWER_H
#define OWNSTACK_TESTS_UNIT_LOWER_H

#include <criterion/criterion.h>
#include <errno.h>
#include "../../stack/checksum.h"
#include "../../stack/wire.h"
#include "fake_tcp.h"
#include "region.h"

#define IP(a, b, c, d)                                                                                                \
	ipaddr_v4(__builtin_bswap32((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (uint32_t)(d)))
#define US   IP(10, 0, 0, 1)
#define PEER IP(10, 0, 0, 2)
#define GATE IP(10, 0, 0, 254)

static const uint8_t mac_us[6] = { 2, 0, 0, 0, 0, 1 }, mac_peer[6] = { 2, 0, 0, 0, 0, 2 };
static const uint8_t mac_all[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

struct flat {
	uint32_t len; /* behind the virtio-net header */
	struct vnet_hdr vnet;
	uint8_t b[70000];
};

static struct stack *st;
static usec_t now = SEC(1000);
static struct frame in;
static uint8_t lower_in[70000];
static struct flat got;

static inline void lower_start(bool offloads)
{
	struct stack_config cfg = { .region = region_new(512 << 20), .seed = { 1, 2, 3, 4 } };

	stack_sysctl_default(&cfg.ctl);
	memcpy(cfg.dev.mac, mac_us, 6);
	cfg.dev.mtu_bytes = 1500;
	cfg.dev.csum = cfg.dev.tso4 = offloads;
	cfg.dev.gso_max_bytes = 65535;
	st = stack_init(&cfg, now);
	cr_assert_not_null(st);
	cr_assert_eq(stack_addr_add(st, US, 24), 0);
	cr_assert_eq(stack_route_add(st, ipaddr_v4(0), 0, GATE), 0);
}

static inline void feed(void)
{
	stack_input(st, &in, now);
}

/** out() - takes the next frame of the stack; false: none */
static inline bool out(void)
{
	struct pbuf *p = stack_output(st, now);

	if (!p)
		return false;
	memcpy(&got.vnet, pbuf_head(p), VNET_HDR_BYTES);
	got.len = p->hdr_len - VNET_HDR_BYTES;
	memcpy(got.b, pbuf_head(p) + VNET_HDR_BYTES, got.len);
	for (unsigned i = 0; i < p->n_frags; i++) {
		memcpy(got.b + got.len, p->frag[i].cell->data + p->frag[i].off, p->frag[i].len);
		got.len += p->frag[i].len;
	}
	cr_assert_eq(got.len, p->len);
	stack_tx_done(st, p);
	return true;
}

static inline bool got_arp(uint16_t op, struct ipaddr tpa, const uint8_t dst[6])
{
	return get16(got.b + 12) == 0x0806 && get16(got.b + 20) == op && get32_raw(got.b + 38) == tpa.w[3] &&
	       memcmp(got.b, dst, 6) == 0;
}

static inline void run_to(usec_t t) /* all timers on the way */
{
	while (stack_deadline(st) <= t) {
		now = stack_deadline(st) > now ? stack_deadline(st) : now;
		stack_expire(st, now);
	}
	now = t;
}

static inline void frame_eth(const uint8_t dst[6], const uint8_t src[6], uint16_t type)
{
	in = (struct frame){ .data = lower_in, .len = ETH_HDR_BYTES };
	memcpy(lower_in, dst, 6);
	memcpy(lower_in + 6, src, 6);
	put16(lower_in + 12, type);
}

static inline void frame_arp(const uint8_t eth_dst[6], uint16_t op, const uint8_t sha[6], struct ipaddr spa,
			     struct ipaddr tpa)
{
	uint8_t *a = lower_in + ETH_HDR_BYTES;

	frame_eth(eth_dst, sha, 0x0806);
	memcpy(a, (uint8_t[]){ 0, 1, 8, 0, 6, 4 }, 6);
	put16(a + 6, op);
	memcpy(a + 8, sha, 6);
	put32_raw(a + 14, spa.w[3]);
	memcpy(a + 18, mac_us, 6);
	put32_raw(a + 24, tpa.w[3]);
	in.len += 28;
}

static inline void ip_checksum_set(void)
{
	uint8_t *h = lower_in + ETH_HDR_BYTES;
	uint32_t hdr_len = (h[0] & 15) * 4u;

	put16(h + 10, 0);
	put16_raw(h + 10, (uint16_t)~csum_fold(csum_add(0, h, hdr_len)));
}

/* An IPv4 packet of @len payload octets 0, 1, 2, ..., from the peer's station. Returns the payload. */
static inline uint8_t *frame_ip(struct ipaddr src, struct ipaddr dst, uint8_t proto, uint32_t len)
{
	uint8_t *h = lower_in + ETH_HDR_BYTES;

	frame_eth(mac_us, mac_peer, 0x0800);
	memset(h, 0, 20);
	h[0] = 0x45;
	put16(h + 2, (uint16_t)(20 + len));
	h[8] = 64;
	h[9] = proto;
	put32_raw(h + 12, src.w[3]);
	put32_raw(h + 16, dst.w[3]);
	for (uint32_t i = 0; i < len; i++)
		h[20 + i] = (uint8_t)i;
	in.len += 20 + len;
	ip_checksum_set();
	return h + 20;
}

/* A TCP segment with a right checksum; flags 0x10. */
static inline uint8_t *frame_tcp(struct ipaddr src, struct ipaddr dst, uint32_t payload)
{
	uint8_t *t = frame_ip(src, dst, 6, 20 + payload);

	put16(t, 1000);
	put16(t + 2, 80);
	t[12] = 5 << 4;
	t[13] = 0x10;
	put16(t + 16, 0);
	put16_raw(t + 16, (uint16_t)~csum_fold(csum_add(csum_pseudo(&src, &dst, 6, 20 + payload), t, 20 + payload)));
	return t;
}

/* Sends a 20 octet TCP header and @payload octets of @c, as TCP would. */
static inline void send_as_tcp(const struct ip_tx *tx, struct cell *c, uint32_t payload, uint16_t gso_size)
{
	struct pbuf *p = pbuf_alloc(st);
	uint8_t *t = pbuf_push(p, 20);

	memset(t, 0, 20);
	put16(t, 80);
	put16(t + 2, 1000);
	put32(t + 4, 7777);
	t[12] = 5 << 4;
	t[13] = 0x10;
	if (payload)
		cr_assert(pbuf_add_frag(p, c, 0, payload));
	p->gso_size = gso_size;
	ip_output(st, p, tx, now);
}

static inline void send_tcp(struct ipaddr dst, struct cell *c, uint32_t payload, uint16_t gso_size,
			    struct ip_path *path)
{
	const struct ip_tx tx = { .src = US, .dst = dst, .proto = 6, .path = path };

	send_as_tcp(&tx, c, payload, gso_size);
}

/* The first @len octets of the frame in lower_in, in memory of just that size, so that a read beyond the end is seen */
static inline void feed_cut(uint32_t len)
{
	uint8_t *exact = malloc(len + 1);

	memcpy(exact, lower_in, len);
	in.data = exact;
	in.len = len;
	feed();
	free(exact);
}

/* 0 to @n - 1 in any order */
static inline void shuffled(uint32_t *order, uint32_t n, uint64_t *rnd_s)
{
	for (uint32_t i = 0; i < n; i++)
		order[i] = i;
	for (uint32_t i = n - 1; i > 0; i--) {
		uint32_t j = (uint32_t)(rnd(rnd_s) % (i + 1)), t = order[i];

		order[i] = order[j];
		order[j] = t;
	}
}

static inline void peer_known(void)
{
	frame_arp(mac_us, 1, mac_peer, PEER, US);
	feed();
	cr_assert(out());
}

#endif
