/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * checksum.h - the internet checksum (RFC 1071). Sums are kept unfolded in 64 bits, in memory order: no byte swapping.
 */
#ifndef OWNSTACK_STACK_CHECKSUM_H
#define OWNSTACK_STACK_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>
#include "inet.h"

/** csum_add() - @sum plus the octets at @data, which start at an even offset of what is summed */
uint64_t csum_add(uint64_t sum, const void *data, size_t len);
/** csum_add_odd() - the same for octets that start at an odd offset */
uint64_t csum_add_odd(uint64_t sum, const void *data, size_t len);
/** csum_fold() - sixteen bits, not complemented, to be stored as they are */
uint16_t csum_fold(uint64_t sum);
/** csum_ip4_hdr() - of an IPv4 header without options, folded */
static inline uint16_t csum_ip4_hdr(const void *h)
{
	uint32_t w[5];
	uint64_t sum;

	memcpy(w, h, sizeof(w));
	sum = (uint64_t)w[0] + w[1] + w[2] + w[3] + w[4];
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)((sum & 0xffff) + (sum >> 16));
}
/** csum_pseudo() - pseudo-header of IPv4 or IPv6, by the addresses */
uint64_t csum_pseudo(const struct ipaddr *src, const struct ipaddr *dst, uint8_t proto, uint32_t l4_len);

#endif
