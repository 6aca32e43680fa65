/* SPDX-License-Identifier: BSD-2-Clause */
/* impair.h - a bad wire: loses, doubles, delays, reorders and damages frames by a seed; see impair.c */
#ifndef OWNSTACK_IO_IMPAIR_H
#define OWNSTACK_IO_IMPAIR_H

#include <stdint.h>
#include <sys/uio.h>
#include "../stack/netdev.h"

struct impair;
struct impair_frame {
	struct impair_frame *next; /* for whoever owns it */
	usec_t due;
	uint64_t order;
	uint32_t len;
	uint8_t bytes[]; /* virtio-net header first */
};

struct impair_counts {
	uint64_t in, lost, doubled, reordered, damaged, overflowed, out;
};

/**
 * impair_open() - @spec: items "loss=1%", "dup=1%", "reorder=2%", "corrupt=0.1%", "delay=20ms", "jitter=5ms", "gap=3ms",
 * "late=10ms" (instead of a gap for all that are reordered: anything up to it), "rate=100mbit", "queue=512k" (octets in
 * front of the rate), "limit=16384" (frames held at most), "seed=7", separated by commas. @stream: two directions of one
 * wire have two.
 * -EINVAL: not such a specification
 */
int impair_open(struct impair **ret_impair, const char *spec, unsigned stream);
void impair_close(struct impair *im); /* takes; NULL is fine */
int impair_push(struct impair *im, const struct iovec *iov, int n_iov, usec_t now); /* copies. -ENOMEM: lost for want of it */
struct impair_frame *impair_pop(struct impair *im, usec_t now); /* gives a frame that is due, NULL: none */
void impair_free_frame(struct impair_frame *f); /* takes it and those behind it; NULL is fine */
usec_t impair_deadline(const struct impair *im); /* when the next is due, USEC_NEVER: none held */
void impair_counts(const struct impair *im, struct impair_counts *ret);

#endif
