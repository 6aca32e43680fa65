/* SPDX-License-Identifier: BSD-2-Clause */
/* wire.h - big-endian fields at any alignment */
#ifndef OWNSTACK_STACK_WIRE_H
#define OWNSTACK_STACK_WIRE_H

#include <stdint.h>
#include <string.h>

static inline uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}
static inline uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return __builtin_bswap32(v);
}
static inline void put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}
static inline void put32(uint8_t *p, uint32_t v)
{
	v = __builtin_bswap32(v);
	memcpy(p, &v, 4);
}
/* As it lies in memory, no swap: IPv4 addresses in network order, checksums. */
static inline uint32_t get32_raw(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return v;
}
static inline void put32_raw(uint8_t *p, uint32_t v)
{
	memcpy(p, &v, 4);
}
static inline void put16_raw(uint8_t *p, uint16_t v)
{
	memcpy(p, &v, 2);
}

#endif
