/* SPDX-License-Identifier: BSD-2-Clause */
#include "mem.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define EXTENT_BYTES_LEAST 65536u
#define EXTENT_OBJS_LEAST  16u

void *region_take(struct region *r, size_t bytes, size_t align)
{
	size_t at = (r->used + align - 1) & ~(align - 1);

	if (at < r->used || at > r->bytes || bytes > r->bytes - at)
		return NULL;
	r->used = at + bytes;
	return r->base + at;
}

int slab_init(struct slab *s, struct region *r, uint32_t obj_bytes, uint32_t limit)
{
	uint32_t per = EXTENT_OBJS_LEAST;

	*s = (struct slab){ .region = r, .obj_bytes = obj_bytes, .limit = limit, .next_fresh = 1 };
	s->stride_bytes = (uint32_t)((obj_bytes + sizeof(struct slab_hdr) + 7) & ~7u);
	while (per * s->stride_bytes < EXTENT_BYTES_LEAST)
		per *= 2;
	s->per_extent = per;
	s->extent = region_take(r, SLAB_EXTENTS_MAX * sizeof(s->extent[0]), sizeof(void *));
	return s->extent ? 0 : -ENOMEM;
}

static inline struct slab_hdr *slab_hdr_at(const struct slab *s, uint32_t index)
{
	uint32_t e = index >> __builtin_ctz(s->per_extent), i = index & (s->per_extent - 1);

	return (struct slab_hdr *)(s->extent[e] + (size_t)i * s->stride_bytes);
}

/* The count goes up after the pointer is there: who dies in between loses an extent, not a slab. */
static bool slab_grow(struct slab *s)
{
	uint8_t *e;

	if (s->n_extents == SLAB_EXTENTS_MAX)
		return false;
	e = region_take(s->region, (size_t)s->per_extent * s->stride_bytes, 64);
	if (!e)
		return false;
	s->extent[s->n_extents] = e;
	s->n_extents++;
	return true;
}

/* Freed objects first, the latest one first of all: its memory is warm. */
static struct slab_hdr *slab_take(struct slab *s, uint32_t *ret_index)
{
	struct slab_hdr *h;
	uint32_t index = s->free_head;

	if (s->limit && s->in_use >= s->limit)
		return NULL;
	if (index) {
		h = slab_hdr_at(s, index);
		s->free_head = h->link;
	} else {
		index = s->next_fresh;
		if (index / s->per_extent >= s->n_extents && !slab_grow(s))
			return NULL;
		s->next_fresh++;
		h = slab_hdr_at(s, index);
	}
	s->in_use++;
	*ret_index = index;
	return h;
}

void *slab_alloc_raw(struct slab *s)
{
	uint32_t index;
	struct slab_hdr *h = slab_take(s, &index);

	if (!h)
		return NULL;
	h->link = index;
	h->gen++; /* the one store that makes it live */
	return h + 1;
}

void *slab_alloc(struct slab *s)
{
	uint32_t index;
	struct slab_hdr *h = slab_take(s, &index);

	if (!h)
		return NULL;
	memset(h + 1, 0, s->obj_bytes);
	h->link = index;
	/* Live only once zeroed: repair must never meet a live object with an earlier life's content. */
	__asm__ volatile("" ::: "memory");
	h->gen++;
	return h + 1;
}

void slab_free(struct slab *s, void *obj)
{
	struct slab_hdr *h;
	uint32_t index;

	if (!obj)
		return;
	h = slab_hdr_of(obj);
	assert(h->gen & 1); /* else freed twice */
	index = h->link;
	h->gen++;
	__asm__ volatile("" ::: "memory");
	h->link = s->free_head;
	s->free_head = index;
	s->in_use--;
}

uint32_t slab_index(const struct slab *s, const void *obj)
{
	(void)s;
	return slab_hdr_of(obj)->link;
}

void *slab_at(const struct slab *s, uint32_t index)
{
	struct slab_hdr *h;

	if (!index || index >= s->next_fresh || index / s->per_extent >= s->n_extents)
		return NULL;
	h = slab_hdr_at(s, index);
	return h->gen & 1 ? h + 1 : NULL;
}

uint64_t slab_handle(const struct slab *s, const void *obj)
{
	const struct slab_hdr *h = slab_hdr_of(obj);

	(void)s;
	return (uint64_t)h->gen << 32 | h->link;
}

void *slab_get(const struct slab *s, uint64_t handle)
{
	void *obj = slab_at(s, (uint32_t)handle);

	return obj && slab_hdr_of(obj)->gen == (uint32_t)(handle >> 32) ? obj : NULL;
}

void *slab_next(const struct slab *s, uint32_t *cursor)
{
	while (++*cursor < s->next_fresh) {
		void *obj = slab_at(s, *cursor);

		if (obj)
			return obj;
	}
	--*cursor; /* asked again at the end, it is still the end */
	return NULL;
}

/* The header that belongs to next_fresh may have been written just before a death; its generation says so. */
void slab_rebuild(struct slab *s)
{
	uint32_t end = s->n_extents * s->per_extent;

	while (s->next_fresh < end && slab_hdr_at(s, s->next_fresh)->gen)
		s->next_fresh++;
	s->free_head = 0;
	s->in_use = 0;
	for (uint32_t i = s->next_fresh - 1; i >= 1; i--) {
		struct slab_hdr *h = slab_hdr_at(s, i);

		if (h->gen & 1) {
			h->link = i;
			s->in_use++;
		} else {
			h->link = s->free_head;
			s->free_head = i;
		}
	}
}
