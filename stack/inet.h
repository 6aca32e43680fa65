/* SPDX-License-Identifier: BSD-2-Clause */
/* inet.h - addresses and endpoints. IPv4 is held as ::ffff:a.b.c.d, so that all tables have one key size from the start. */
#ifndef OWNSTACK_STACK_INET_H
#define OWNSTACK_STACK_INET_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct ipaddr {
	union {
		uint8_t b[16];
		uint32_t w[4]; /* network byte order */
		uint64_t q[2];
	};
};

struct endpoint {
	struct ipaddr addr;
	uint16_t port; /* host byte order */
};

#define IPADDR_V4_PREFIX_W2 __builtin_bswap32(0x0000ffffu)

static inline struct ipaddr ipaddr_v4(uint32_t be)
{
	return (struct ipaddr){ .w = { 0, 0, IPADDR_V4_PREFIX_W2, be } };
}
static inline bool ipaddr_is_v4(struct ipaddr a)
{
	return a.q[0] == 0 && a.w[2] == IPADDR_V4_PREFIX_W2;
}
static inline uint32_t ipaddr_to_v4(struct ipaddr a)
{
	return a.w[3]; /* network byte order */
}
static inline bool ipaddr_eq(struct ipaddr a, struct ipaddr b)
{
	return a.q[0] == b.q[0] && a.q[1] == b.q[1];
}
/** ipaddr_is_any() - 0.0.0.0 or :: */
static inline bool ipaddr_is_any(struct ipaddr a)
{
	return a.q[0] == 0 && (a.q[1] == 0 || (a.w[2] == IPADDR_V4_PREFIX_W2 && a.w[3] == 0));
}

#endif
