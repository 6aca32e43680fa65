/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * impair.c - a bad wire as a value: frames and time in, frames and deadlines out
 *
 * Each frame draws its fate when it enters: lost, damaged (one bit of its payload), doubled; and its time to leave: now +
 * delay + up to jitter, plus the gap if it is to be reordered, so that those behind it overtake. Every frame draws the same
 * number of random values whatever its fate, so that changing one probability leaves the draws of the others alone; the
 * same frames at the same times with the same seed have the same fate. Frames held lie in a heap by time, equal times in
 * order of arrival: without jitter and reordering a delay keeps the order.
 *
 * With a rate each frame first waits for those before it: `link_free` is when the last of them has left. The queue in front
 * of the rate is bounded in octets; what does not fit is lost there. Random loss comes behind it, so that a lost frame has
 * taken its time on the link.
 *
 * A super-frame (64 KiB, segmentation offload) is one frame here: its loss is a burst of 45 segments. Who wants the loss
 * of single segments turns offload off.
 */
#include "impair.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define GAP_DEFAULT_US	    MSEC(3)
#define LIMIT_DEFAULT	    16384
#define PPM		    1000000u

struct impair {
	uint32_t loss_ppm, dup_ppm, reorder_ppm, corrupt_ppm;
	usec_t delay_us, jitter_us, gap_us, late_us;
	uint64_t rng, limit, order;
	uint64_t rate_bps, queue_bytes; /* 0: unlimited */
	usec_t link_free;
	struct impair_frame **heap; /* heap[0] is due first */
	size_t n, cap;
	struct impair_counts counts;
};

/* SplitMix64 (Steele, Lea, Flood 2014): one multiply-and-shift chain per value, any seed is a good one. */
static uint64_t impair_random(struct impair *im)
{
	uint64_t z = im->rng += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static bool impair_chance(struct impair *im, uint32_t ppm)
{
	return impair_random(im) % PPM < ppm;
}

/* ---- specification ---- */

enum impair_unit { UNIT_COUNT, UNIT_PERCENT, UNIT_TIME, UNIT_RATE, UNIT_BYTES };

/** impair_suffix() - factor of the suffix @s of a number @v of @unit, 0: there is no such */
static double impair_suffix(enum impair_unit unit, double v, const char *s)
{
	static const struct {
		enum impair_unit unit;
		const char *text;
		double below, factor;
	} suffixes[] = {
		{ UNIT_PERCENT, "%", 100.000001, PPM / 100 }, { UNIT_TIME, "us", 1e9, 1 }, { UNIT_TIME, "ms", 1e6, 1e3 },
		{ UNIT_TIME, "s", 1e3, 1e6 }, { UNIT_RATE, "kbit", 1e8, 1e3 }, { UNIT_RATE, "mbit", 1e5, 1e6 },
		{ UNIT_BYTES, "k", 1e6, 1024 }, { UNIT_BYTES, "m", 1e3, 1048576 },
	};

	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++)
		if (suffixes[i].unit == unit && v < suffixes[i].below && !strcmp(suffixes[i].text, s))
			return suffixes[i].factor;
	return 0;
}

/**
 * impair_number() - @text as a number of @unit: count, parts per million from "1.5%", microseconds from "20ms", bits per
 * second from "100mbit", octets from "512k"
 */
static bool impair_number(const char *text, enum impair_unit unit, uint64_t *ret)
{
	char *end;
	double v = strtod(text, &end), scale;

	if (end == text || !(v >= 0))
		return false;
	if (unit == UNIT_COUNT)
		return *ret = strtoull(text, &end, 0), *end == '\0';
	scale = impair_suffix(unit, v, end);
	if (scale == 0)
		return false;
	*ret = (uint64_t)(v * scale + 0.5);
	return true;
}

static bool impair_item(struct impair *im, const char *name, const char *text)
{
	uint64_t v, seed;
	const struct {
		const char *name;
		enum impair_unit unit;
		uint32_t *u32;
		uint64_t *u64;
	} items[] = {
		{ "loss", UNIT_PERCENT, &im->loss_ppm, NULL },	     { "dup", UNIT_PERCENT, &im->dup_ppm, NULL },
		{ "reorder", UNIT_PERCENT, &im->reorder_ppm, NULL }, { "corrupt", UNIT_PERCENT, &im->corrupt_ppm, NULL },
		{ "delay", UNIT_TIME, NULL, &im->delay_us },	     { "jitter", UNIT_TIME, NULL, &im->jitter_us },
		{ "gap", UNIT_TIME, NULL, &im->gap_us },	     { "limit", UNIT_COUNT, NULL, &im->limit },
		{ "late", UNIT_TIME, NULL, &im->late_us },	     { "rate", UNIT_RATE, NULL, &im->rate_bps },
		{ "queue", UNIT_BYTES, NULL, &im->queue_bytes },     { "seed", UNIT_COUNT, NULL, &seed },
	};

	for (size_t i = 0; i < sizeof(items) / sizeof(items[0]); i++) {
		if (strcmp(items[i].name, name))
			continue;
		if (!impair_number(text, items[i].unit, &v))
			return false;
		if (items[i].u32)
			*items[i].u32 = (uint32_t)v;
		else
			*items[i].u64 = v;
		if (items[i].u64 == &seed)
			im->rng = seed * 2 + (im->rng & 1); /* the stream's bit stays */
		return true;
	}
	return false;
}

static int impair_parse(struct impair *im, const char *spec)
{
	char *copy = strdup(spec), *rest = copy, *item, *value;
	int r = copy ? 0 : -ENOMEM;

	while (r == 0 && (item = strsep(&rest, ",")) != NULL) {
		value = strchr(item, '=');
		if (value)
			*value++ = '\0';
		if (!value || !impair_item(im, item, value))
			r = -EINVAL;
	}
	free(copy);
	return r;
}

int impair_open(struct impair **ret_impair, const char *spec, unsigned stream)
{
	struct impair *im = calloc(1, sizeof(*im));
	int r;

	if (!im)
		return -ENOMEM;
	im->rng = stream & 1;
	im->gap_us = GAP_DEFAULT_US;
	im->limit = LIMIT_DEFAULT;
	r = impair_parse(im, spec);
	if (r < 0) {
		free(im);
		return r;
	}
	*ret_impair = im;
	return 0;
}

void impair_close(struct impair *im)
{
	if (!im)
		return;
	while (im->n > 0)
		free(im->heap[--im->n]);
	free(im->heap);
	free(im);
}

void impair_counts(const struct impair *im, struct impair_counts *ret)
{
	*ret = im->counts;
}

/* ---- frames held ---- */

static bool frame_before(const struct impair_frame *a, const struct impair_frame *b)
{
	return a->due != b->due ? a->due < b->due : a->order < b->order;
}

static bool heap_add(struct impair *im, struct impair_frame *f)
{
	size_t at = im->n, cap = im->cap ? im->cap * 2 : 64;

	if (im->n == im->cap) {
		struct impair_frame **bigger = realloc(im->heap, cap * sizeof(*bigger));

		if (!bigger)
			return false;
		im->heap = bigger;
		im->cap = cap;
	}
	im->n++;
	for (; at > 0 && frame_before(f, im->heap[(at - 1) / 2]); at = (at - 1) / 2)
		im->heap[at] = im->heap[(at - 1) / 2];
	im->heap[at] = f;
	return true;
}

static struct impair_frame *heap_take(struct impair *im)
{
	struct impair_frame *first = im->heap[0], *last = im->heap[--im->n];
	size_t at = 0, child;

	for (; (child = 2 * at + 1) < im->n; at = child) {
		if (child + 1 < im->n && frame_before(im->heap[child + 1], im->heap[child]))
			child++;
		if (!frame_before(im->heap[child], last))
			break;
		im->heap[at] = im->heap[child];
	}
	im->heap[at] = last;
	return first;
}

/* ---- in and out ---- */

static struct impair_frame *frame_copy(const struct iovec *iov, int n_iov)
{
	struct impair_frame *f;
	size_t len = 0;

	for (int i = 0; i < n_iov; i++)
		len += iov[i].iov_len;
	f = malloc(sizeof(*f) + len);
	if (!f)
		return NULL;
	f->next = NULL;
	f->len = 0;
	for (int i = 0; i < n_iov; i++) {
		memcpy(f->bytes + f->len, iov[i].iov_base, iov[i].iov_len);
		f->len += (uint32_t)iov[i].iov_len;
	}
	return f;
}

static int impair_hold(struct impair *im, const struct iovec *iov, int n_iov, usec_t due, uint64_t damage)
{
	struct impair_frame *f;

	if (im->n >= im->limit)
		return im->counts.overflowed++, 0;
	f = frame_copy(iov, n_iov);
	if (!f)
		return -ENOMEM;
	f->due = due;
	f->order = im->order++;
	if (damage && f->len > VNET_HDR_BYTES + ETH_HDR_BYTES) { /* the headers of the link arrive whole */
		uint32_t at = VNET_HDR_BYTES + ETH_HDR_BYTES;

		at += (uint32_t)(damage >> 8) % (f->len - at);
		f->bytes[at] ^= (uint8_t)(1u << (damage & 7));
		im->counts.damaged++;
	}
	if (heap_add(im, f))
		return 0;
	free(f);
	return -ENOMEM;
}

/** impair_rate() - *at: when a frame of @len octets has left the link. False: the queue in front of it is full */
static bool impair_rate(struct impair *im, uint64_t len, usec_t *at)
{
	usec_t waits = im->link_free > *at ? im->link_free - *at : 0;

	if (im->rate_bps == 0)
		return true;
	if (im->queue_bytes && waits * im->rate_bps / 8000000 + len > im->queue_bytes)
		return false;
	im->link_free = *at = *at + waits + len * 8000000 / im->rate_bps;
	return true;
}

static uint64_t wire_bytes(const struct iovec *iov, int n_iov)
{
	uint64_t len = 0;

	for (int i = 0; i < n_iov; i++)
		len += iov[i].iov_len;
	return len > VNET_HDR_BYTES ? len - VNET_HDR_BYTES : 0;
}

int impair_push(struct impair *im, const struct iovec *iov, int n_iov, usec_t now)
{
	bool lost = impair_chance(im, im->loss_ppm), doubled = impair_chance(im, im->dup_ppm);
	bool reordered = impair_chance(im, im->reorder_ppm), damaged = impair_chance(im, im->corrupt_ppm);
	uint64_t jitter = impair_random(im), jitter2 = impair_random(im), damage = impair_random(im) | 1u << 31;
	usec_t due;
	int r;

	im->counts.in++;
	if (!impair_rate(im, wire_bytes(iov, n_iov), &now))
		return im->counts.overflowed++, 0;
	due = now + im->delay_us + jitter % (im->jitter_us + 1);
	if (lost)
		return im->counts.lost++, 0;
	if (reordered) {
		due += im->late_us ? (damage >> 40) % (im->late_us + 1) : im->gap_us;
		im->counts.reordered++;
	}
	r = impair_hold(im, iov, n_iov, due, damaged ? damage : 0);
	if (r == 0 && doubled) {
		im->counts.doubled++;
		r = impair_hold(im, iov, n_iov, now + im->delay_us + jitter2 % (im->jitter_us + 1), 0);
	}
	return r;
}

struct impair_frame *impair_pop(struct impair *im, usec_t now)
{
	if (im->n == 0 || im->heap[0]->due > now)
		return NULL;
	im->counts.out++;
	return heap_take(im);
}

void impair_free_frame(struct impair_frame *f)
{
	for (struct impair_frame *next; f; f = next) {
		next = f->next;
		free(f);
	}
}

usec_t impair_deadline(const struct impair *im)
{
	return im->n > 0 ? im->heap[0]->due : USEC_NEVER;
}
