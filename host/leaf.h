/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * leaf.h - leaf locks: a futex word in the arena, held for a few instructions, never two at a time (RULES C1)
 *
 * The word is the holder's slot, with LEAF_CONTENDED where somebody sleeps on it. A process that died with the lock is found
 * by a waiter after 10 ms; the lock is then the waiter's, with LEAF_BROKEN as its result, and what it guards must be mended. One
 * that was stopped in it is continued by a waiter, and stops itself again when it has left (as for the shard lock, lock.c).
 */
#ifndef OWNSTACK_HOST_LEAF_H
#define OWNSTACK_HOST_LEAF_H

#include <stdatomic.h>
#include <stdint.h>

#define LEAF_CONTENDED	0x80000000u
#define LEAF_STOP_AFTER 0x40000000u
#define LEAF_SLOT(w)	((w) & ~(LEAF_CONTENDED | LEAF_STOP_AFTER))
enum leaf_result { LEAF_TAKEN = 0, LEAF_BROKEN = 1 };

/** leaf_lock() - @ret_dead: slot of the dead holder where the result is LEAF_BROKEN; may be NULL. Puts signal handlers off. */
enum leaf_result leaf_lock(_Atomic uint32_t *word, uint32_t *ret_dead);
void leaf_unlock(_Atomic uint32_t *word);

#endif
