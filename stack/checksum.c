/* SPDX-License-Identifier: BSD-2-Clause */
#include "checksum.h"

/* Four independent sums of 32-bit halves: carries cannot get lost and the additions do not wait for each other. */
uint64_t csum_add(uint64_t sum, const void *data, size_t len)
{
	const uint8_t *p = data;
	uint64_t a = 0, b = 0, c = 0, d = 0, w[2];
	uint32_t v;
	uint16_t h = 0;

	while (len >= 16) {
		memcpy(w, p, 16);
		a += (uint32_t)w[0];
		b += w[0] >> 32;
		c += (uint32_t)w[1];
		d += w[1] >> 32;
		p += 16;
		len -= 16;
	}
	sum = (sum & 0xffffffff) + (sum >> 32) + a + b + c + d;
	for (; len >= 4; p += 4, len -= 4) {
		memcpy(&v, p, 4);
		sum += v;
	}
	if (len & 2) {
		memcpy(&h, p, 2);
		sum += h;
		p += 2;
	}
	if (len & 1) {
		uint8_t last[2] = { *p, 0 }; /* in memory order, whatever the machine's */

		memcpy(&h, last, 2);
		sum += h;
	}
	return sum;
}

uint16_t csum_fold(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

/* RFC 1071 2 (B): a sum of swapped octets is the swapped sum. */
uint64_t csum_add_odd(uint64_t sum, const void *data, size_t len)
{
	return (sum & 0xffffffff) + (sum >> 32) + __builtin_bswap16(csum_fold(csum_add(0, data, len)));
}

uint64_t csum_pseudo(const struct ipaddr *src, const struct ipaddr *dst, uint8_t proto, uint32_t l4_len)
{
	uint8_t tail[8] = { (uint8_t)(l4_len >> 24), (uint8_t)(l4_len >> 16), (uint8_t)(l4_len >> 8), (uint8_t)l4_len,
			    0, 0, 0, proto };

	/* The length is 16 bits wide in IPv4 and 32 in IPv6; the upper half is zero in IPv4 and adds nothing. */
	if (ipaddr_is_v4(*dst))
		return csum_add((uint64_t)src->w[3] + dst->w[3], tail, sizeof(tail));
	return csum_add(csum_add(csum_add(0, src, 16), dst, 16), tail, sizeof(tail));
}
