/* SPDX-License-Identifier: BSD-2-Clause */
#include "cell.h"

#include <assert.h>
#include <errno.h>
#include "stack_priv.h"

#define OVERHEAD (sizeof(struct slab_hdr) + sizeof(struct cell))
#define LARGE_CAP 16384

const uint32_t cell_block_bytes[CELL_CLASSES] = { 256, 2048, LARGE_CAP + OVERHEAD };
const uint32_t cell_cap_bytes[CELL_CLASSES] = { 256 - OVERHEAD, 2048 - OVERHEAD, LARGE_CAP };

int cell_init(struct stack *st)
{
	struct cell_pools *p = &st->pools;

	p->limit_bytes = st->ctl.mem_limit_bytes;
	for (int i = 0; i < CELL_CLASSES; i++) {
		int r = slab_init(&p->cells[i], st->region, (uint32_t)(cell_block_bytes[i] - sizeof(struct slab_hdr)),
				  0);

		if (r < 0)
			return r;
	}
	return slab_init(&p->pbufs, st->region, sizeof(struct pbuf), 0);
}

static struct cell *cell_of_class(struct cell_pools *p, unsigned class)
{
	struct cell *c;

	if (p->held_bytes + cell_block_bytes[class] > p->limit_bytes)
		return NULL;
	c = slab_alloc_raw(&p->cells[class]);
	if (!c)
		return NULL;
	p->held_bytes += cell_block_bytes[class];
	c->next = NULL;
	c->off = 0;
	c->len = 0;
	c->cap = cell_cap_bytes[class];
	c->refs = 1;
	c->class = (uint8_t)class;
	return c;
}

/* Of another class only where the right one's memory is exhausted: first smaller ones, which cost less, then larger. */
struct cell *cell_alloc(struct stack *st, uint32_t want_bytes)
{
	unsigned class = want_bytes <= cell_cap_bytes[CELL_SMALL] ? CELL_SMALL :
			 want_bytes <= cell_cap_bytes[CELL_MEDIUM] ? CELL_MEDIUM : CELL_LARGE;
	struct cell *c = cell_of_class(&st->pools, class);

	for (unsigned k = class; !c && k-- > 0;)
		c = cell_of_class(&st->pools, k);
	for (unsigned k = class + 1; !c && k < CELL_CLASSES; k++)
		c = cell_of_class(&st->pools, k);
	return c;
}

void cell_put(struct stack *st, struct cell *c)
{
	if (!c)
		return;
	assert(c->refs > 0);
	if (--c->refs)
		return;
	st->pools.held_bytes -= cell_block_bytes[c->class];
	slab_free(&st->pools.cells[c->class], c);
	/* Not at the first cell: all who wait are told at once, and shall find more than one between them. */
	if (!dlist_empty(&st->mem_waiters) && st->pools.held_bytes <= st->pools.limit_bytes - st->pools.limit_bytes / 16)
		tcp_memory_freed(st);
}

uint32_t cell_ref(const struct stack *st, const struct cell *c)
{
	return c ? slab_index(&st->pools.cells[c->class], c) << 2 | c->class : 0;
}

struct cell *cell_of_ref(const struct stack *st, uint32_t ref)
{
	return ref ? slab_at(&st->pools.cells[ref & 3], ref >> 2) : NULL;
}

struct pbuf *pbuf_alloc(struct stack *st)
{
	struct pbuf *p = slab_alloc_raw(&st->pools.pbufs);

	if (!p)
		return NULL;
	p->next = NULL;
	p->hdr_off = PBUF_HDR_BYTES;
	p->hdr_len = 0;
	p->len = 0;
	p->owner = 0;
	p->state = PBUF_FREE;
	p->n_frags = 0;
	p->gso_size = 0;
	p->gso_ecn = 0;
	p->csum_offset = 0;
	p->told = 0;
	return p;
}

void pbuf_free(struct stack *st, struct pbuf *p)
{
	if (!p)
		return;
	p->state = PBUF_FREE;
	for (unsigned i = 0; i < p->n_frags; i++)
		cell_put(st, p->frag[i].cell);
	p->n_frags = 0;
	slab_free(&st->pools.pbufs, p);
}

bool pbuf_add_frag(struct pbuf *p, struct cell *c, uint32_t off, uint32_t len)
{
	struct pbuf_frag *last = p->n_frags ? &p->frag[p->n_frags - 1] : NULL;

	if (last && last->cell == c && last->off + last->len == off) {
		last->len += len;
		return true;
	}
	if (p->n_frags == PBUF_FRAGS_MAX)
		return false;
	cell_get(c);
	p->frag[p->n_frags++] = (struct pbuf_frag){ .cell = c, .off = off, .len = len };
	return true;
}

void cell_repair_begin(struct stack *st)
{
	for (int i = 0; i < CELL_CLASSES; i++) {
		uint32_t cursor = 0;
		struct cell *c;

		slab_rebuild(&st->pools.cells[i]);
		while ((c = slab_next(&st->pools.cells[i], &cursor)))
			c->refs = 0;
	}
}

void cell_repair_sweep(struct stack *st)
{
	st->pools.held_bytes = 0;
	for (int i = 0; i < CELL_CLASSES; i++) {
		uint32_t cursor = 0;
		struct cell *c;

		while ((c = slab_next(&st->pools.cells[i], &cursor))) {
			if (c->refs)
				st->pools.held_bytes += cell_block_bytes[i];
			else
				slab_free(&st->pools.cells[i], c);
		}
	}
}
