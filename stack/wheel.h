/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * wheel.h - timers, O(1) to set and to cancel, however many there are
 *
 * Ten levels of 64 slots; a tick is 256 us. A timer lies at the level of the highest base-64 digit in which its tick
 * differs from the wheel's, so each timer moves down at most once per level. A timer never fires early and at most
 * one tick late. A bit per slot that is not empty makes "which is next" a count of trailing zeros.
 */
#ifndef OWNSTACK_STACK_WHEEL_H
#define OWNSTACK_STACK_WHEEL_H

#include <stdbool.h>
#include <stddef.h>
#include "netdev.h"

#define WHEEL_TICK_SHIFT 8
#define WHEEL_LEVELS	 10 /* 60 bits of ticks: all of usec_t */
#define WHEEL_SLOTS	 64

/* What a timer is part of; its owner is found with container_of(). */
enum timer_kind { TIMER_NONE, TIMER_NEIGH, TIMER_TCB, TIMER_REQUEST, TIMER_TIMEWAIT, TIMER_STACK,
		  TIMER_DST, TIMER_FRAG, TIMER_ADDR, TIMER_REST, TIMER_ND };

struct timer {
	struct timer *next, **pprev; /* pprev NULL: not armed */
	usec_t at : 60; /* 36,000 years */
	usec_t kind : 4; /* enum timer_kind, set by the owner once */
};
_Static_assert(sizeof(struct timer) == 24, "one in each connection, request and TIME_WAIT");

struct wheel {
	uint64_t tick; /* nothing is armed for an earlier one */
	uint64_t busy[WHEEL_LEVELS];
	struct timer *slot[WHEEL_LEVELS][WHEEL_SLOTS];
};

void wheel_init(struct wheel *w, usec_t now);
/**
 * wheel_set() - arms @t for @at, or moves it there; a time that has passed fires at the next wheel_pop(), USEC_NEVER
 * disarms
 */
void wheel_set(struct wheel *w, struct timer *t, usec_t at);
void wheel_cancel(struct wheel *w, struct timer *t); /* fine if not armed */
/**
 * wheel_deadline() - when wheel_pop() is next worth calling: never late, early by less than a slot of the timer's level
 */
usec_t wheel_deadline(const struct wheel *w);
/** wheel_pop() - a timer that is due, disarmed; NULL: none. Call until NULL. */
struct timer *wheel_pop(struct wheel *w, usec_t now);

static inline bool timer_armed(const struct timer *t)
{
	return t->pprev != NULL;
}

#endif
