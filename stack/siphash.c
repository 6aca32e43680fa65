/* SPDX-License-Identifier: BSD-2-Clause */
#include "siphash.h"

struct sip {
	uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotl(uint64_t x, unsigned n)
{
	return x << n | x >> (64 - n);
}

static inline void sip_round(struct sip *s)
{
	s->v0 += s->v1;
	s->v2 += s->v3;
	s->v1 = rotl(s->v1, 13) ^ s->v0;
	s->v3 = rotl(s->v3, 16) ^ s->v2;
	s->v0 = rotl(s->v0, 32) + s->v3;
	s->v2 += s->v1;
	s->v3 = rotl(s->v3, 21) ^ s->v0;
	s->v1 = rotl(s->v1, 17) ^ s->v2;
	s->v2 = rotl(s->v2, 32);
}

static inline __attribute__((always_inline)) uint64_t siphash(const struct sipkey *key, const uint64_t *words, size_t n,
							      unsigned c_rounds, unsigned d_rounds)
{
	struct sip s = { key->k[0] ^ 0x736f6d6570736575, key->k[1] ^ 0x646f72616e646f6d, key->k[0] ^ 0x6c7967656e657261,
			 key->k[1] ^ 0x7465646279746573 };

	for (size_t i = 0; i <= n; i++) {
		uint64_t m = i < n ? words[i] : (uint64_t)(n * 8) << 56; /* last block: length in octets */

		s.v3 ^= m;
		for (unsigned r = 0; r < c_rounds; r++)
			sip_round(&s);
		s.v0 ^= m;
	}
	s.v2 ^= 0xff;
	for (unsigned r = 0; r < d_rounds; r++)
		sip_round(&s);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

uint64_t siphash24(const struct sipkey *key, const uint64_t *words, size_t n_words)
{
	return siphash(key, words, n_words, 2, 4);
}

uint64_t siphash13(const struct sipkey *key, const uint64_t *words, size_t n_words)
{
	return siphash(key, words, n_words, 1, 3);
}

/* Two words for IPv4, five for IPv6: the length is hashed too, so the two never meet. */
static inline size_t tuple_words(uint64_t w[5], const struct ipaddr *laddr, uint16_t lport, const struct ipaddr *raddr,
				 uint16_t rport)
{
	w[0] = (uint64_t)lport << 16 | rport;
	if (ipaddr_is_v4(*laddr) && ipaddr_is_v4(*raddr)) {
		w[1] = (uint64_t)laddr->w[3] << 32 | raddr->w[3];
		return 2;
	}
	memcpy(w + 1, laddr->q, 16);
	memcpy(w + 3, raddr->q, 16);
	return 5;
}

uint32_t siphash_tuple(const struct sipkey *key, const struct ipaddr *laddr, uint16_t lport, const struct ipaddr *raddr,
		       uint16_t rport)
{
	uint64_t w[5];

	return (uint32_t)siphash13(key, w, tuple_words(w, laddr, lport, raddr, rport));
}

uint64_t siphash_tuple_secret(const struct sipkey *key, const struct ipaddr *laddr, uint16_t lport,
			      const struct ipaddr *raddr, uint16_t rport)
{
	uint64_t w[5];

	return siphash24(key, w, tuple_words(w, laddr, lport, raddr, rport));
}
