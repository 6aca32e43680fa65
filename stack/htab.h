/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * htab.h - intrusive hash table with chains that grows by linear hashing: one bucket is split per insert, no pause ever
 *
 * The hash is the caller's (keyed, see siphash.h) and is kept in the node. Nodes of different kinds may share a table.
 */
#ifndef OWNSTACK_STACK_HTAB_H
#define OWNSTACK_STACK_HTAB_H

#include <stddef.h>
#include <stdint.h>
#include "mem.h"

struct hnode {
	struct hnode *next;
	uint32_t hash;
	uint8_t kind;	/* the owner's, says what container this is part of */
	uint8_t linked; /* in the table */
	uint16_t own;	/* the owner's */
};

#define HTAB_SEG0     256u
#define HTAB_SEGS_MAX 24 /* 2^31 buckets */

struct htab {
	struct region *region;
	uint32_t mask;	/* buckets at the start of this round, minus 1 */
	uint32_t split; /* buckets below it have been split in this round */
	uint32_t count; /* nodes */
	uint32_t n_segs;
	struct hnode **seg[HTAB_SEGS_MAX]; /* segment 0 has HTAB_SEG0 buckets, each next one as many as all before it */
};

int htab_init(struct htab *h, struct region *r); /* -ENOMEM */
/** htab_insert() - cannot fail: where memory for growth is short, chains grow longer. Newest first within a chain. */
void htab_insert(struct htab *h, struct hnode *n, uint32_t hash);
void htab_remove(struct htab *h, struct hnode *n); /* fine if not linked */
/**
 * htab_clear() - empties the table without looking at the nodes (repair); they must be marked not linked by the caller
 */
void htab_clear(struct htab *h);

static inline struct hnode **htab_bucket(const struct htab *h, uint32_t b)
{
	uint32_t s;

	if (b < HTAB_SEG0)
		return &h->seg[0][b];
	s = 31 - (uint32_t)__builtin_clz(b / HTAB_SEG0); /* b in [SEG0 << s, SEG0 << (s + 1)) */
	return &h->seg[s + 1][b - (HTAB_SEG0 << s)];
}
static inline uint32_t htab_index(const struct htab *h, uint32_t hash)
{
	uint32_t b = hash & h->mask;

	return b < h->split ? hash & (2 * h->mask + 1) : b;
}
static inline struct hnode *htab_skip(struct hnode *n, uint32_t hash)
{
	while (n && n->hash != hash)
		n = n->next;
	return n;
}
/** htab_first() - a node with exactly this hash; compare the key yourself, go on with htab_next() */
static inline struct hnode *htab_first(const struct htab *h, uint32_t hash)
{
	return htab_skip(*htab_bucket(h, htab_index(h, hash)), hash);
}
static inline struct hnode *htab_next(const struct hnode *n)
{
	return htab_skip(n->next, n->hash);
}

#endif
