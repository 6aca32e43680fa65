/* SPDX-License-Identifier: BSD-2-Clause */
/* test_io_impair.c - the bad wire: fates by seed, times, order, bounds */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include "../../io/impair.h"

#define FRAME_BYTES 100

static struct impair *wire(const char *spec)
{
	struct impair *im = NULL;

	cr_assert_eq(impair_open(&im, spec, 0), 0, "%s", spec);
	return im;
}

static void push(struct impair *im, uint32_t number, usec_t now)
{
	uint8_t bytes[FRAME_BYTES] = { 0 };
	struct iovec iov[2] = { { bytes, 30 }, { bytes + 30, sizeof(bytes) - 30 } };

	memcpy(bytes + 40, &number, sizeof(number));
	cr_assert_eq(impair_push(im, iov, 2, now), 0);
}

/** pop() - number of the next frame due, -1: none */
static int64_t pop(struct impair *im, usec_t now)
{
	struct impair_frame *f = impair_pop(im, now);
	uint32_t number;

	if (!f)
		return -1;
	cr_assert_eq(f->len, FRAME_BYTES);
	memcpy(&number, f->bytes + 40, sizeof(number));
	impair_free_frame(f);
	return number;
}

Test(io_impair, specification_refused)
{
	static const char *const bad[] = { "loss", "loss=", "loss=1", "loss=101%", "loss=-1%", "delay=20", "delay=20%", "speed=1",
					   "loss=1%,,", "seed=x", "", "loss=1%;dup=1%", "delay=nanms", "limit=5ms",
					   "rate=100", "rate=5ms", "queue=1mbit", "late=1" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct impair *im = NULL;

		cr_expect_eq(impair_open(&im, bad[i], 0), -EINVAL, "'%s'", bad[i]);
		cr_expect_null(im);
	}
}

Test(io_impair, delay_keeps_order_and_time)
{
	struct impair *im = wire("delay=20ms");

	cr_assert_eq(impair_deadline(im), USEC_NEVER);
	for (uint32_t i = 0; i < 1000; i++)
		push(im, i, 5000 + i / 10);
	cr_assert_eq(impair_deadline(im), 25000);
	cr_assert_eq(pop(im, 24999), -1);
	for (uint32_t i = 0; i < 1000; i++)
		cr_assert_eq(pop(im, 25000 + 100), i);
	cr_assert_eq(pop(im, 1u << 30), -1);
	cr_assert_eq(impair_deadline(im), USEC_NEVER);
	impair_close(im);
}

Test(io_impair, rates_are_what_was_asked)
{
	struct impair *im = wire("loss=10%,dup=5%,reorder=2%,seed=1");
	struct impair_counts c;
	uint64_t out = 0;

	for (uint32_t i = 0; i < 100000; i++)
		push(im, i, i), out += pop(im, i) >= 0;
	while (pop(im, USEC_NEVER - 1) >= 0)
		out++;
	impair_counts(im, &c);
	cr_assert_eq(c.in, 100000);
	cr_assert(c.lost > 9500 && c.lost < 10500, "%lu lost", c.lost);
	cr_assert(c.doubled > 4200 && c.doubled < 4800, "%lu doubled", c.doubled); /* of the 90 % that arrive */
	cr_assert(c.reordered > 1600 && c.reordered < 2000, "%lu reordered", c.reordered);
	cr_assert_eq(out, c.in - c.lost + c.doubled);
	impair_close(im);
}

Test(io_impair, reordered_frame_is_overtaken_within_the_gap)
{
	struct impair *im = wire("reorder=50%,gap=1ms,seed=3");
	bool overtaken = false;
	int64_t last = -1, k;
	int n = 0;

	for (uint32_t i = 0; i < 40; i++)
		push(im, i, i * 100);
	while ((k = pop(im, 4000 + 1000)) >= 0) {
		overtaken |= k < last;
		cr_assert_leq(last - k, 10, "held for 1 ms, passed by ten at most");
		last = k > last ? k : last;
		n++;
	}
	cr_assert(overtaken);
	cr_assert_eq(n, 40);
	impair_close(im);
}

Test(io_impair, same_seed_same_fate_other_stream_another)
{
	struct impair *im[3];
	int differ = 0;

	for (int i = 0; i < 3; i++)
		cr_assert_eq(impair_open(&im[i], "loss=30%,dup=10%,jitter=2ms,seed=42", i == 2), 0);
	for (uint32_t i = 0; i < 2000; i++) {
		int64_t k[3];

		for (int j = 0; j < 3; j++)
			push(im[j], i, i * 50), k[j] = pop(im[j], i * 50);
		cr_assert_eq(k[0], k[1]);
		differ += k[0] != k[2];
	}
	cr_assert_gt(differ, 100);
	for (int i = 0; i < 3; i++)
		impair_close(im[i]);
}

Test(io_impair, probability_of_one_fate_leaves_the_others_alone)
{
	struct impair *a = wire("loss=10%,seed=9"), *b = wire("loss=10%,dup=50%,seed=9");
	struct impair_counts ca, cb;

	for (uint32_t i = 0; i < 5000; i++) {
		push(a, i, 0);
		push(b, i, 0);
		impair_counts(a, &ca);
		impair_counts(b, &cb);
		cr_assert_eq(ca.lost, cb.lost);
	}
	impair_close(a);
	impair_close(b);
}

Test(io_impair, damage_is_one_bit_behind_the_link_header)
{
	struct impair *im = wire("corrupt=100%");
	uint8_t bytes[FRAME_BYTES] = { 0 };
	struct iovec iov = { bytes, sizeof(bytes) };

	for (int i = 0; i < 2000; i++) {
		struct impair_frame *f;
		int bits = 0;

		cr_assert_eq(impair_push(im, &iov, 1, 0), 0);
		f = impair_pop(im, 0);
		for (uint32_t k = 0; k < f->len; k++) {
			bits += __builtin_popcount(f->bytes[k]);
			cr_assert(k >= VNET_HDR_BYTES + ETH_HDR_BYTES || f->bytes[k] == 0);
		}
		cr_assert_eq(bits, 1);
		impair_free_frame(f);
	}
	impair_close(im);
}

Test(io_impair, limit_bounds_memory)
{
	struct impair *im = wire("delay=1s,limit=100");
	struct impair_counts c;

	for (uint32_t i = 0; i < 1000; i++)
		push(im, i, 0);
	impair_counts(im, &c);
	cr_assert_eq(c.overflowed, 900);
	impair_close(im); /* with frames held: a leak would show under ASan */
}

/* 100 octets at 800 kbit/s: one millisecond each */
Test(io_impair, rate_spaces_and_queue_drops)
{
	struct impair *im = wire("rate=800kbit,queue=1k,delay=5ms");
	struct impair_counts c;
	uint32_t wire_len = FRAME_BYTES - VNET_HDR_BYTES, fit = 1024 / wire_len;
	usec_t each = wire_len * 10;

	for (uint32_t i = 0; i < 100; i++)
		push(im, i, 1000);
	for (uint32_t i = 0; i < fit; i++) {
		cr_assert_eq(impair_deadline(im), 1000 + (i + 1) * each + MSEC(5));
		cr_assert_eq(pop(im, 1000 + (i + 1) * each + MSEC(5)), i);
	}
	cr_assert_eq(impair_deadline(im), USEC_NEVER);
	impair_counts(im, &c);
	cr_assert_eq(c.overflowed, 100 - fit);
	push(im, 7, SEC(1)); /* the link is free again */
	cr_assert_eq(impair_deadline(im), SEC(1) + each + MSEC(5));
	impair_close(im);
}

Test(io_impair, late_is_anything_up_to_it)
{
	struct impair *im = wire("reorder=100%,late=10ms,seed=3");
	uint64_t early = 0, late = 0;

	for (uint32_t i = 0; i < 10000; i++)
		push(im, i, 0);
	cr_assert_lt(impair_deadline(im), 100);
	for (; pop(im, MSEC(5)) >= 0; early++)
		;
	for (; pop(im, MSEC(10)) >= 0; late++)
		;
	cr_assert_eq(early + late, 10000);
	cr_assert_gt(early, 4500);
	cr_assert_gt(late, 4500);
	impair_close(im);
}
