/* SPDX-License-Identifier: BSD-2-Clause */
/* region.h - memory for a test: sparse, zeroed, given back when the test's process ends */
#ifndef OWNSTACK_TESTS_UNIT_REGION_H
#define OWNSTACK_TESTS_UNIT_REGION_H

#include <stdlib.h>
#include <sys/mman.h>
#include "../../stack/mem.h"

/* The region itself lies in its memory, as in the arena. */
static inline struct region *region_new(size_t bytes)
{
	uint8_t *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct region *r = (struct region *)(void *)base;

	if (base == MAP_FAILED)
		abort();
	*r = (struct region){ .base = base, .bytes = bytes, .used = 64 };
	return r;
}

/* A generator whose runs can be repeated: xorshift64* */
static inline uint64_t rnd(uint64_t *s)
{
	*s ^= *s >> 12;
	*s ^= *s << 25;
	*s ^= *s >> 27;
	return *s * 0x2545f4914f6cdd1d;
}

#endif
