/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * passenger.h - a process that may make few system calls, and is served by the keeper; see passenger.c
 */
#ifndef OWNSTACK_HOST_PASSENGER_H
#define OWNSTACK_HOST_PASSENGER_H

#include "thr.h"

/** passenger - this process is one. Its one thread never drives, has no ring, and opens nothing. */
extern bool passenger;

/** may this process make system call @nr with @args, and live? */
typedef bool passenger_may_fn(long nr, const long args[6]);

/**
 * passenger_begin() - the calling thread, which is the only one inside the library, goes aboard. No lock held.
 * @may:	what the filter to come allows; NULL: none is known yet
 *
 * Called a second time with a filter, it checks that the filter lets a passenger live.
 * Return: 0; -EPERM: the filter forbids too much, -EBUSY: other threads are inside, or what making the descriptors gave. The
 * process is no passenger then, as far as descriptors can still be had.
 */
int passenger_begin(struct thr *t, passenger_may_fn *may);
/** passenger_drive() - drive_wait() of a passenger: sleep until woken. Results as there. */
int passenger_drive(struct thr *t, uint32_t seen, struct drive_wait *w);
/** passenger_poll() - poll() by the call that is allowed; @timeout_us: USEC_NEVER: none. Negative errno */
int passenger_poll(struct pollfd *p, unsigned n, usec_t timeout_us, const sigset_t *mask);
/** passenger_ring() - the keeper shall look: output waits, threads are owed a wake, nobody drives. No lock held. */
void passenger_ring(void);

/** bell_open() - keeper: where passengers ring; a descriptor to poll, negative errno. pumps_bell() reads what was rung */
int bell_open(void);
/** owed_wakes_send() - keeper: wakes that passengers could not send. Return: something was rung */
bool owed_wakes_send(void);

#endif
