/* SPDX-License-Identifier: BSD-2-Clause */
#include "wheel.h"

#include <string.h>

#define LEVEL_BITS 6
#define LEVEL_MASK (WHEEL_SLOTS - 1)
_Static_assert(1 << LEVEL_BITS == WHEEL_SLOTS, "a level is one digit");

void wheel_init(struct wheel *w, usec_t now)
{
	memset(w, 0, sizeof(*w));
	w->tick = now >> WHEEL_TICK_SHIFT;
}

/* Rounded up, so that no timer fires early. */
static uint64_t tick_of(usec_t at)
{
	return (at >> WHEEL_TICK_SHIFT) + ((at & ((1u << WHEEL_TICK_SHIFT) - 1)) != 0);
}

static void wheel_insert(struct wheel *w, struct timer *t)
{
	uint64_t tick = tick_of(t->at);
	unsigned level, slot;

	if (tick < w->tick)
		tick = w->tick;
	level = (63 - (unsigned)__builtin_clzll((tick ^ w->tick) | LEVEL_MASK)) / LEVEL_BITS;
	slot = (tick >> (level * LEVEL_BITS)) & LEVEL_MASK;
	t->pprev = &w->slot[level][slot];
	t->next = *t->pprev;
	if (t->next)
		t->next->pprev = &t->next;
	*t->pprev = t;
	w->busy[level] |= 1ull << slot;
}

void wheel_cancel(struct wheel *w, struct timer *t)
{
	struct timer **first = &w->slot[0][0];

	if (!t->pprev)
		return;
	*t->pprev = t->next;
	if (t->next) {
		t->next->pprev = t->pprev;
	} else if (t->pprev >= first && t->pprev < first + WHEEL_LEVELS * WHEEL_SLOTS) {
		size_t i = (size_t)(t->pprev - first); /* it was alone in its slot */

		w->busy[i / WHEEL_SLOTS] &= ~(1ull << (i % WHEEL_SLOTS));
	}
	t->next = NULL;
	t->pprev = NULL;
}

void wheel_set(struct wheel *w, struct timer *t, usec_t at)
{
	wheel_cancel(w, t);
	if (at == USEC_NEVER)
		return;
	t->at = at;
	wheel_insert(w, t);
}

/**
 * wheel_first() - the slot that comes first in time
 *
 * Whatever lies at a level agrees with the wheel's tick in all higher digits, so anything at a lower level is
 * earlier, and within a level the lowest slot is.
 *
 * Return: tick at which the slot begins, UINT64_MAX where the wheel is empty
 */
static uint64_t wheel_first(const struct wheel *w, unsigned *ret_level, unsigned *ret_slot)
{
	for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
		unsigned shift = level * LEVEL_BITS;

		if (!w->busy[level])
			continue;
		*ret_level = level;
		*ret_slot = (unsigned)__builtin_ctzll(w->busy[level]);
		return (w->tick >> shift >> LEVEL_BITS << LEVEL_BITS | *ret_slot) << shift;
	}
	return UINT64_MAX;
}

usec_t wheel_deadline(const struct wheel *w)
{
	unsigned level, slot;
	uint64_t tick = wheel_first(w, &level, &slot);

	return tick >= USEC_NEVER >> WHEEL_TICK_SHIFT ? USEC_NEVER : tick << WHEEL_TICK_SHIFT;
}

/* All of a slot goes down to the levels below. */
static void wheel_cascade(struct wheel *w, unsigned level, unsigned slot)
{
	struct timer *t = w->slot[level][slot], *next;

	w->slot[level][slot] = NULL;
	w->busy[level] &= ~(1ull << slot);
	for (; t; t = next) {
		next = t->next;
		wheel_insert(w, t);
	}
}

struct timer *wheel_pop(struct wheel *w, usec_t now)
{
	uint64_t now_tick = now >> WHEEL_TICK_SHIFT, tick;
	unsigned level, slot;

	while ((tick = wheel_first(w, &level, &slot)) <= now_tick) {
		w->tick = tick;
		if (level == 0) {
			struct timer *t = w->slot[0][slot];

			wheel_cancel(w, t);
			return t;
		}
		wheel_cascade(w, level, slot);
	}
	if (now_tick > w->tick)
		w->tick = now_tick; /* nothing lies before it, so every timer keeps its place */
	return NULL;
}
