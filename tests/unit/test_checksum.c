/* SPDX-License-Identifier: BSD-2-Clause */
#include <criterion/criterion.h>
#include "../../stack/checksum.h"
#include "../../stack/siphash.h"
#include "region.h"

#define TEST(name) Test(checksum, name)

/* As RFC 1071 writes it: 16-bit words, big endian, end-around carry. */
static uint16_t plain(const uint8_t *p, size_t len)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return __builtin_bswap16((uint16_t)sum);
}

TEST(rfc1071_example)
{
	const uint8_t d[] = { 0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7 };

	cr_assert_eq(csum_fold(csum_add(0, d, sizeof(d))), __builtin_bswap16(0xddf2));
}

TEST(every_length_and_alignment)
{
	static uint8_t buf[400];
	uint64_t seed = 5;

	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(rnd(&seed) >> 56);
	for (size_t off = 0; off < 16; off++)
		for (size_t len = 0; len < 300; len++)
			cr_assert_eq(csum_fold(csum_add(0, buf + off, len)), plain(buf + off, len));
}

TEST(ip_header_the_same_in_one_go)
{
	uint8_t h[20];
	uint64_t seed = 7;

	for (int k = 0; k < 100000; k++) {
		for (int i = 0; i < 20; i++)
			h[i] = rnd(&seed) % 4 ? (uint8_t)rnd(&seed) : 0xff;
		cr_assert_eq(csum_ip4_hdr(h), plain(h, 20));
	}
	memset(h, 0xff, 20);
	cr_assert_eq(csum_ip4_hdr(h), plain(h, 20));
}

TEST(all_ones_do_not_overflow)
{
	static uint8_t buf[65535];

	memset(buf, 0xff, sizeof(buf));
	cr_assert_eq(csum_fold(csum_add(UINT64_MAX, buf, sizeof(buf) - 1)), 0xffff);
	cr_assert_eq(csum_fold(csum_add(0, buf, sizeof(buf))), plain(buf, sizeof(buf)));
}

TEST(pieces_at_odd_offsets)
{
	static uint8_t buf[997];
	uint64_t seed = 6;

	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(rnd(&seed) >> 56);
	for (int k = 0; k < 2000; k++) {
		size_t a = rnd(&seed) % sizeof(buf), b = a + rnd(&seed) % (sizeof(buf) - a);
		uint64_t s = csum_add(0, buf, a);

		s = a % 2 ? csum_add_odd(s, buf + a, b - a) : csum_add(s, buf + a, b - a);
		s = b % 2 ? csum_add_odd(s, buf + b, sizeof(buf) - b) : csum_add(s, buf + b, sizeof(buf) - b);
		cr_assert_eq(csum_fold(s), plain(buf, sizeof(buf)));
	}
}

TEST(pseudo_header_of_ipv4)
{
	const uint8_t ph[] = { 192, 0, 2, 1, 198, 51, 100, 77, 0, 6, 0x12, 0x34 };
	struct ipaddr s = { 0 }, d = { 0 };

	s.w[2] = d.w[2] = IPADDR_V4_PREFIX_W2;
	memcpy(s.b + 12, ph, 4);
	memcpy(d.b + 12, ph + 4, 4);
	cr_assert_eq(csum_fold(csum_pseudo(&s, &d, 6, 0x1234)), plain(ph, sizeof(ph)));
}

/* From the paper's reference implementation: key 00..0f, input 00 01 02 ... */
TEST(siphash24_vectors)
{
	const struct sipkey key = { { 0x0706050403020100, 0x0f0e0d0c0b0a0908 } };
	const uint64_t in[2] = { 0x0706050403020100, 0x0f0e0d0c0b0a0908 };

	cr_assert_eq(siphash24(&key, in, 0), 0x726fdb47dd0e0e31);
	cr_assert_eq(siphash24(&key, in, 1), 0x93f5f5799a932462);
	cr_assert_eq(siphash24(&key, in, 2), 0x3f2acc7f57c29bdb);
}

TEST(tuple_hash_depends_on_each_part)
{
	const struct sipkey key = { { 1, 2 } }, other = { { 1, 3 } };
	struct ipaddr a = ipaddr_v4(0x01020304), b = ipaddr_v4(0x05060708);
	uint32_t h = siphash_tuple(&key, &a, 80, &b, 1000);

	cr_assert_eq(h, siphash_tuple(&key, &a, 80, &b, 1000));
	cr_assert_neq(h, siphash_tuple(&other, &a, 80, &b, 1000));
	cr_assert_neq(h, siphash_tuple(&key, &b, 80, &a, 1000));
	cr_assert_neq(h, siphash_tuple(&key, &a, 1000, &b, 80));
	cr_assert_neq(h, siphash_tuple(&key, &a, 81, &b, 1000));
}
