/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lower6.h - lower.h over IPv6: 2001:db8::1/64 and a link-local address, peer 2001:db8::2, router fe80::fe
 *
 * The stack has been on its link for ten seconds: what it said when it came is over (lower6_start()), or still to be
 * heard (lower6_fresh()).
 */
#ifndef OWNSTACK_TESTS_UNIT_LOWER6_H
#define OWNSTACK_TESTS_UNIT_LOWER6_H

#include <arpa/inet.h>
#include "lower.h"
#include "../../stack/ip6.h"

#define L6	 54u /* where the octets behind the IPv6 header begin in a frame */
#define US6	 ip6("2001:db8::1")
#define PEER6	 ip6("2001:db8::2")
#define OTHER6	 ip6("2001:db8:1::9") /* beyond the router */
#define ROUTER6	 ip6("fe80::fe")
#define NODES6	 ip6("ff02::1")

static const uint8_t mac_router[6] = { 2, 0, 0, 0, 0, 0xfe };

static inline struct ipaddr ip6(const char *text)
{
	struct ipaddr a;

	cr_assert_eq(inet_pton(AF_INET6, text, a.b), 1);
	return a;
}

static inline void lower6_fresh(bool accept_ra, bool secret)
{
	struct stack_config cfg = { .region = region_new(512 << 20), .seed = { 1, 2, 3, 4 } };
	struct stack_ip6 six = { .accept_ra = accept_ra, .secret = { secret ? 77 : 0, 0 } };

	stack_sysctl_default(&cfg.ctl);
	memcpy(cfg.dev.mac, mac_us, 6);
	cfg.dev.mtu_bytes = 1500;
	cfg.dev.gso_max_bytes = 65535;
	st = stack_init(&cfg, now);
	cr_assert_not_null(st);
	cr_assert_eq(stack_ip6_start(st, &six, now), 0);
}

static inline void lower6_start(void)
{
	lower6_fresh(false, false);
	cr_assert_eq(stack_addr_add(st, US6, 64), 0);
	cr_assert_eq(stack_addr_announce(st, US6, now), 0);
	cr_assert_eq(stack_route_add(st, ip6("::"), 0, ROUTER6), 0);
	run_to(now + SEC(10));
	while (out())
		;
}

/* An IPv6 packet of @len payload octets 0, 1, 2, ..., from the peer's station. Returns the payload. */
static inline uint8_t *frame6(struct ipaddr src, struct ipaddr dst, uint8_t next, uint8_t hops, uint32_t len)
{
	uint8_t *h = lower_in + ETH_HDR_BYTES;
	uint8_t group[6] = { 0x33, 0x33, dst.b[12], dst.b[13], dst.b[14], dst.b[15] };

	frame_eth(dst.b[0] == 0xff ? group : mac_us, mac_peer, ETHERTYPE_IPV6);
	memset(h, 0, 40);
	h[0] = 0x60;
	put16(h + 4, (uint16_t)len);
	h[6] = next;
	h[7] = hops;
	memcpy(h + 8, src.b, 16);
	memcpy(h + 24, dst.b, 16);
	for (uint32_t i = 0; i < len; i++)
		h[40 + i] = (uint8_t)i;
	in.len += 40 + len;
	return h + 40;
}

static inline void csum6_set(uint8_t next, uint8_t *l4, uint32_t len, uint32_t at)
{
	struct ipaddr src = ipaddr_v6(lower_in + 22), dst = ipaddr_v6(lower_in + 38);

	put16(l4 + at, 0);
	put16_raw(l4 + at, (uint16_t)~csum_fold(csum_add(csum_pseudo(&src, &dst, next, len), l4, len)));
}

static inline void frame6_tcp_at(uint8_t *t, uint32_t payload)
{
	put16(t, 1000);
	put16(t + 2, 80);
	t[12] = 5 << 4;
	t[13] = 0x10;
	csum6_set(6, t, 20 + payload, 16);
}

static inline uint8_t *frame6_tcp(struct ipaddr src, struct ipaddr dst, uint32_t payload)
{
	uint8_t *t = frame6(src, dst, 6, 64, 20 + payload);

	frame6_tcp_at(t, payload);
	return t;
}

/* ICMPv6 of @len octets: the caller fills it in and calls feed6() */
static inline uint8_t *frame6_icmp(struct ipaddr src, struct ipaddr dst, uint8_t hops, uint8_t type, uint8_t code, uint32_t len)
{
	uint8_t *m = frame6(src, dst, 58, hops, len);

	memset(m, 0, len);
	m[0] = type;
	m[1] = code;
	return m;
}

static inline void feed6(void)
{
	csum6_set(58, lower_in + L6, in.len - L6, 2);
	feed();
}

/* A solicitation or advertisement for @target, with the peer's Ethernet address */
static inline void feed_nd(uint8_t type, struct ipaddr src, struct ipaddr dst, struct ipaddr target, uint8_t flags, const uint8_t *mac)
{
	uint8_t *m = frame6_icmp(src, dst, 255, type, 0, mac ? 32 : 24);

	m[4] = flags;
	memcpy(m + 8, target.b, 16);
	if (mac) {
		m[24] = type == ICMP6_NS ? 1 : 2;
		m[25] = 1;
		memcpy(m + 26, mac, 6);
	}
	feed6();
}

static inline void peer6_known(void)
{
	feed_nd(ICMP6_NS, PEER6, US6, US6, 0, mac_peer);
	cr_assert(out());
	cr_assert_eq(got.b[L6], ICMP6_NA);
}

static inline bool got6_sum_ok(uint8_t next)
{
	struct ipaddr s = ipaddr_v6(got.b + 22), d = ipaddr_v6(got.b + 38);

	return csum_fold(csum_add(csum_pseudo(&s, &d, next, got.len - L6), got.b + L6, got.len - L6)) == 0xffff;
}

/* The frame got is an ICMPv6 message of this type to this address */
static inline bool got6(uint8_t type, struct ipaddr dst)
{
	return get16(got.b + 12) == ETHERTYPE_IPV6 && got.b[20] == 58 && got.b[L6] == type && memcmp(got.b + 38, dst.b, 16) == 0 &&
	       got6_sum_ok(58);
}

static inline void send6(struct ipaddr dst, struct cell *c, uint32_t payload, uint16_t gso_size)
{
	const struct ip_tx tx = { .src = US6, .dst = dst, .proto = 6, .tos = 0xb8 };

	send_as_tcp(&tx, c, payload, gso_size);
}

#endif
