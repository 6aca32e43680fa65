/* SPDX-License-Identifier: BSD-2-Clause */
/* pumps.h - the keeper's side of exported sockets (export.h); see pumps.c */
#ifndef OWNSTACK_HOST_PUMPS_H
#define OWNSTACK_HOST_PUMPS_H

#include "thr.h"

struct pumps;
/** pumps_new() - @epfd: the keeper's; descriptors are added with @kind << 32 | an index. NULL: no memory */
struct pumps *pumps_new(struct thr *t, int epfd, uint32_t kind);
/** pumps_bell() - what came over the bell */
void pumps_bell(struct pumps *ps, int bell);
/** pumps_event() - epoll says @events for descriptor @index */
void pumps_event(struct pumps *ps, uint32_t index, uint32_t events);
/** pumps_run() - move what can be moved. Return: true: there is more to do at once */
bool pumps_run(struct pumps *ps);
/** pumps_due() - CLOCK_MONOTONIC: when pumps_run() is to be called again, USEC_NEVER */
usec_t pumps_due(const struct pumps *ps);
/** pumps_slot_gone() - the process that had @slot ended: what it alone had goes */
void pumps_slot_gone(struct pumps *ps, uint32_t slot);
/** pumps_ready() - the set of private sockets that they wait on; for drive_keeper() */
struct epoll *pumps_ready(struct pumps *ps);

#endif
