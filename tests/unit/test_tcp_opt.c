/* SPDX-License-Identifier: BSD-2-Clause */
/* Options: what is read from a header, right or wrong, and what is written */
#include <criterion/criterion.h>
#include <string.h>
#include "../../stack/seq.h"
#include "../../stack/tcp_seg.h"
#include "region.h"

static struct tcp_rx_opts parse(const uint8_t *p, unsigned n)
{
	struct tcp_rx_opts o;

	tcp_opts_parse(p, n, &o);
	return o;
}

Test(tcp_opt, syn_options_round_trip)
{
	uint8_t b[40];

	for (int i = 0; i < 8; i++) {
		bool sack = i & 1, ts = i & 2;
		int ws = i & 4 ? 9 : -1;
		unsigned n = tcp_opt_put_syn(b, 1460, sack, ts, ws, 0x01020304, 0x05060708);
		struct tcp_rx_opts o = parse(b, n);

		cr_assert_eq(n % 4, 0u);
		cr_assert_eq(o.mss, 1460);
		cr_assert_eq(o.sack_ok, sack);
		cr_assert_eq(o.ts, ts);
		cr_assert_eq(o.ts_val, ts ? 0x01020304u : 0);
		cr_assert_eq(o.ts_ecr, ts ? 0x05060708u : 0);
		cr_assert_eq(o.wscale_ok, ws >= 0);
		cr_assert_eq(o.wscale, ws >= 0 ? 9 : 0);
	}
}

Test(tcp_opt, sack_blocks_round_trip)
{
	struct sack_block in[3] = { { 1, 2 }, { 0xfffffff0u, 5 }, { 100, 200 } };
	uint8_t b[40];
	unsigned n = tcp_opt_put_ts(b, 7, 8);
	struct tcp_rx_opts o;

	n += tcp_opt_put_sack(b + n, in, 3);
	cr_assert_eq(n, 40u);
	o = parse(b, n);
	cr_assert(o.ts);
	cr_assert_eq(o.n_sack, 3);
	cr_assert_eq(memcmp(o.sack, in, sizeof(in)), 0);
}

Test(tcp_opt, shift_above_14_is_14)
{
	const uint8_t b[4] = { 1, 3, 3, 200 };

	cr_assert_eq(parse(b, 4).wscale, 14);
}

Test(tcp_opt, wrong_lengths_end_the_walk)
{
	const uint8_t zero[8] = { 2, 4, 5, 180, 3, 0, 7, 0 }, over[8] = { 1, 1, 1, 1, 1, 1, 2, 4 }, eol[8] = { 0, 2, 4, 5, 180, 0, 0, 0 };

	cr_assert_eq(parse(zero, 8).mss, 1460, "what came before counts");
	cr_assert_not(parse(zero, 8).wscale_ok);
	cr_assert_eq(parse(over, 8).mss, 0);
	cr_assert_eq(parse(eol, 8).mss, 0);
}

Test(tcp_opt, any_octets_stay_inside)
{
	uint64_t s = 7;

	for (int i = 0; i < 200000; i++) {
		unsigned n = (unsigned)(rnd(&s) % 41);
		uint8_t *p = malloc(n ? n : 1); /* so that a sanitizer sees one octet too many */

		for (unsigned k = 0; k < n; k++)
			p[k] = (uint8_t)(rnd(&s) % (i % 2 ? 256 : 12));
		cr_assert_leq(parse(p, n).n_sack, TCP_SACK_BLOCKS);
		free(p);
	}
}

Test(tcp_opt, sequence_numbers_wrap)
{
	cr_assert(seq_lt(0xfffffff0u, 5));
	cr_assert(seq_gt(5, 0xfffffff0u));
	cr_assert(seq_leq(7, 7) && seq_geq(7, 7));
	cr_assert(seq_in_wnd(3, 0xfffffffeu, 10));
	cr_assert_not(seq_in_wnd(8, 0xfffffffeu, 10));
	cr_assert(seq_between(0, 0xffffffffu, 1));
	cr_assert_eq(seq_max(0xfffffff0u, 5), 5u);
}
