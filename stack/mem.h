/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mem.h - arena memory: a region handed out once, and slabs of equal objects on top of it
 *
 * A region is a sparse range; memory is taken from its front in extents and never given back to it. A slab grows by
 * extents and hands out objects of one size. What is live is written in the object itself (hdr.gen is odd while it
 * lives, one store), so the free list is derived data: slab_rebuild() makes it anew after a process died between two
 * stores. Handles are index and generation; a stale handle is found out by slab_get().
 *
 * Objects are zeroed by slab_alloc(). Index 0 is never given, so that 0 can mean none. Not thread safe: the owner's
 * lock.
 */
#ifndef OWNSTACK_STACK_MEM_H
#define OWNSTACK_STACK_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct region {
	uint8_t *base;
	size_t bytes, used;
};

/** region_take() - @bytes of zeroed memory aligned to @align (a power of two), NULL where the region is exhausted */
void *region_take(struct region *r, size_t bytes, size_t align);

struct slab_hdr { /* in front of each object */
	uint32_t gen;  /* odd: live */
	uint32_t link;	/* live: its own index; free: index of the next free one */
};

#define SLAB_EXTENTS_MAX 16384
struct slab {
	struct region *region;
	uint32_t obj_bytes;	/* of the user's object */
	uint32_t stride_bytes;	/* header and rounding included */
	uint32_t per_extent;	/* objects, a power of two */
	uint32_t n_extents;
	uint32_t free_head;	/* index, 0: none */
	uint32_t next_fresh;	/* first index never used */
	uint32_t in_use;
	uint32_t limit;		/* objects at most, 0: as the region allows */
	uint8_t **extent;	/* directory, in the region */
};

/** slab_init() - objects of @obj_bytes, about 64 KiB per extent; @limit objects at most or 0. -ENOMEM */
int slab_init(struct slab *s, struct region *r, uint32_t obj_bytes, uint32_t limit);
void *slab_alloc(struct slab *s);		/* gives a zeroed object; NULL: region or limit exhausted */
void *slab_alloc_raw(struct slab *s);		/* the same, not zeroed */
void slab_free(struct slab *s, void *obj);	/* takes; NULL is fine */
uint32_t slab_index(const struct slab *s, const void *obj);
void *slab_at(const struct slab *s, uint32_t index);	/* live object at index, or NULL */
uint64_t slab_handle(const struct slab *s, const void *obj);	/* generation << 32 | index */
void *slab_get(const struct slab *s, uint64_t handle);	/* NULL where the handle is stale */
void *slab_next(const struct slab *s, uint32_t *cursor); /* each live object in turn; *cursor starts at 0; NULL at the end */
void slab_rebuild(struct slab *s);			/* free list and in_use from the headers */

static inline struct slab_hdr *slab_hdr_of(const void *obj)
{
	return (struct slab_hdr *)((uintptr_t)obj - sizeof(struct slab_hdr));
}

#endif
