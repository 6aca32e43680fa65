/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cell.h - pools of payload cells and of frames on their way out
 *
 * Three sizes of cell. What they hold in all is counted against ctl.mem_limit_bytes, by block and not by payload, so
 * that tiny segments cannot hold much memory for little data. Frames are not counted: a frame holds cells that are.
 */
#ifndef OWNSTACK_STACK_CELL_H
#define OWNSTACK_STACK_CELL_H

#include "pbuf.h"
#include "mem.h"

struct stack;

enum { CELL_SMALL, CELL_MEDIUM, CELL_LARGE, CELL_CLASSES };

struct cell_pools {
	struct slab cells[CELL_CLASSES];
	struct slab pbufs;
	uint64_t held_bytes;	/* blocks of all live cells */
	uint64_t limit_bytes;
};

extern const uint32_t cell_block_bytes[CELL_CLASSES]; /* slab header, cell header and data */
extern const uint32_t cell_cap_bytes[CELL_CLASSES];   /* data */

int cell_init(struct stack *st);
/**
 * cell_alloc() - gives a cell for @want_bytes of payload (the smallest class that holds them, else the largest)
 * Where that class is exhausted another is tried. One reference, off = len = 0, data is not zeroed. NULL: over the
 * limit.
 */
struct cell *cell_alloc(struct stack *st, uint32_t want_bytes);
void cell_put(struct stack *st, struct cell *c); /* takes one reference; NULL is fine */
/* a cell in 32 bits; 0 for NULL */
uint32_t cell_ref(const struct stack *st, const struct cell *c);
struct cell *cell_of_ref(const struct stack *st, uint32_t ref);
static inline void cell_get(struct cell *c)
{
	c->refs++;
}
/** cell_block() - what this cell costs the pools, and the socket that holds it */
static inline uint32_t cell_block(const struct cell *c)
{
	return cell_block_bytes[c->class];
}
static inline uint32_t cell_room(const struct cell *c) /* behind the data */
{
	return c->cap - c->off - c->len;
}

/** pbuf_alloc() - gives an empty frame: no header octets (room is in front), no payload. NULL: region exhausted */
struct pbuf *pbuf_alloc(struct stack *st);
void pbuf_free(struct stack *st, struct pbuf *p); /* takes; drops its references to cells; NULL is fine */
/**
 * pbuf_push() - @n more header octets in front, not zeroed; the room is 160 octets in all, 44 of them for IP and
 * below (v6: 64)
 */
static inline uint8_t *pbuf_push(struct pbuf *p, uint32_t n)
{
	p->hdr_off = (uint16_t)(p->hdr_off - n);
	p->hdr_len = (uint16_t)(p->hdr_len + n);
	return p->hdr + p->hdr_off;
}
/** pbuf_add_frag() - payload by reference (takes one of its own); merges with the last one. False: no slot left */
bool pbuf_add_frag(struct pbuf *p, struct cell *c, uint32_t off, uint32_t len);

/* repair: begin (all references 0), then mark what is reachable, then sweep (free what nobody marked) */
void cell_repair_begin(struct stack *st);
static inline void cell_repair_mark(struct cell *c)
{
	c->refs++;
}
void cell_repair_sweep(struct stack *st);

#endif
