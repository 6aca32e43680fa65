/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pattern.h - a stream in which every octet's place can be checked
 *
 * Octet i of a stream is table[i % PATTERN_BYTES]. The table's length is prime, so that no shift by a segment, page,
 * buffer or window size lands on equal content: a lost, doubled or moved piece shows at its first octet.
 */
#ifndef OWNSTACK_TESTS_PATTERN_H
#define OWNSTACK_TESTS_PATTERN_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PATTERN_BYTES 1048583u /* prime */

static unsigned char *pattern_table;

/** pattern_init() - fill the table; the same in every process */
static inline void pattern_init(void)
{
	uint64_t x = 0x9e3779b97f4a7c15u;

	pattern_table = malloc(PATTERN_BYTES);
	if (!pattern_table)
		abort();
	for (size_t i = 0; i < PATTERN_BYTES; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		pattern_table[i] = (unsigned char)(x >> 32);
	}
}

/** pattern_at() - octets of the stream from @off on, and in @ret_len how many lie there in one piece */
static inline const unsigned char *pattern_at(uint64_t off, size_t *ret_len)
{
	size_t at = off % PATTERN_BYTES;

	*ret_len = PATTERN_BYTES - at;
	return pattern_table + at;
}

/**
 * pattern_check() - do these @len octets belong at @off?
 * Return: -1 if all do, else the index of the first that does not
 */
static inline int64_t pattern_check(uint64_t off, const unsigned char *p, size_t len)
{
	size_t done = 0;

	while (done < len) {
		size_t n;
		const unsigned char *want = pattern_at(off + done, &n);

		if (n > len - done)
			n = len - done;
		if (memcmp(want, p + done, n))
			for (size_t i = 0; i < n; i++)
				if (want[i] != p[done + i])
					return (int64_t)(done + i);
		done += n;
	}
	return -1;
}

#endif
