/* SPDX-License-Identifier: BSD-2-Clause */
#include "htab.h"

#include <errno.h>
#include <string.h>

static uint32_t seg_buckets(uint32_t seg)
{
	return seg ? HTAB_SEG0 << (seg - 1) : HTAB_SEG0;
}

static bool htab_grow_dir(struct htab *h)
{
	struct hnode **seg;

	if (h->n_segs == HTAB_SEGS_MAX)
		return false;
	seg = region_take(h->region, seg_buckets(h->n_segs) * sizeof(*seg), 64);
	if (!seg)
		return false;
	h->seg[h->n_segs++] = seg;
	return true;
}

int htab_init(struct htab *h, struct region *r)
{
	*h = (struct htab){ .region = r, .mask = HTAB_SEG0 - 1 };
	return htab_grow_dir(h) ? 0 : -ENOMEM;
}

/**
 * htab_split() - moves half of one chain to the new bucket at the end
 *
 * The buckets of a round are split in order; bucket b divides into b and b + mask + 1. After the last one the round
 * is over and the mask has one bit more.
 */
static void htab_split(struct htab *h)
{
	uint32_t from = h->split, to = h->mask + 1 + from;
	struct hnode **pp, **pto, *n;

	if (to >= (h->n_segs ? HTAB_SEG0 << (h->n_segs - 1) : 0u) && !htab_grow_dir(h))
		return;
	pp = htab_bucket(h, from);
	pto = htab_bucket(h, to);
	while ((n = *pp)) {
		if (n->hash & (h->mask + 1)) {
			*pp = n->next;
			n->next = NULL;
			*pto = n;
			pto = &n->next;
		} else {
			pp = &n->next;
		}
	}
	if (++h->split > h->mask) {
		h->mask = 2 * h->mask + 1;
		h->split = 0;
	}
}

void htab_insert(struct htab *h, struct hnode *n, uint32_t hash)
{
	struct hnode **b;

	if (h->count > h->mask + h->split)
		htab_split(h);
	b = htab_bucket(h, htab_index(h, hash));
	n->hash = hash;
	n->next = *b;
	n->linked = 1;
	*b = n;
	h->count++;
}

void htab_remove(struct htab *h, struct hnode *n)
{
	struct hnode **pp;

	if (!n->linked)
		return;
	pp = htab_bucket(h, htab_index(h, n->hash));
	while (*pp && *pp != n)
		pp = &(*pp)->next;
	if (!*pp)
		return;
	*pp = n->next;
	n->next = NULL;
	n->linked = 0;
	h->count--;
}

void htab_clear(struct htab *h)
{
	for (uint32_t s = 0; s < h->n_segs; s++)
		memset(h->seg[s], 0, seg_buckets(s) * sizeof(*h->seg[s]));
	/*
	 * A death in the middle of a split may have left mask and split between two rounds; start from any that is
	 * true.
	 */
	h->mask = HTAB_SEG0 - 1;
	h->split = 0;
	h->count = 0;
}
