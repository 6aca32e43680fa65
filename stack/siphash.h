/* SPDX-License-Identifier: BSD-2-Clause */
/* siphash.h - keyed hashes (Aumasson, Bernstein 2012): 2-4 for secrets that must hold, 1-3 for hash tables */
#ifndef OWNSTACK_STACK_SIPHASH_H
#define OWNSTACK_STACK_SIPHASH_H

#include <stddef.h>
#include <stdint.h>
#include "inet.h"

struct sipkey {
	uint64_t k[2];
};
uint64_t siphash24(const struct sipkey *key, const uint64_t *words, size_t n_words);
uint64_t siphash13(const struct sipkey *key, const uint64_t *words, size_t n_words);
/** siphash_tuple() - of a connection: SipHash-1-3 for tables. Local end first. Ports in host order. */
uint32_t siphash_tuple(const struct sipkey *key, const struct ipaddr *laddr, uint16_t lport, const struct ipaddr *raddr,
		       uint16_t rport);
/** siphash_tuple_secret() - the same with SipHash-2-4 in 64 bits, for ISN (RFC 6528) and timestamp offset */
uint64_t siphash_tuple_secret(const struct sipkey *key, const struct ipaddr *laddr, uint16_t lport,
			      const struct ipaddr *raddr, uint16_t rport);

#endif
