/* SPDX-License-Identifier: BSD-2-Clause */
/* poll_priv.h - the set of descriptors that poll and select wait for */
#ifndef OWNSTACK_PRELOAD_POLL_PRIV_H
#define OWNSTACK_PRELOAD_POLL_PRIV_H

#include <alloca.h>
#include <limits.h>
#include "sock_priv.h"

/* What select calls readable and writable, as in Linux's fs/select.c */
#define SELECT_IN  (POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR)
#define SELECT_OUT (POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR)

struct poll_set {
	struct pollfd *fds;	/* what is asked, and the answer */
	struct pollfd *kernel;	/* same indices: the kernel's side of each, fd -1: none; packed while asleep, with room for one more */
	nfds_t n, n_kernel;
	bool is_select;		/* events are POLLIN, POLLOUT, POLLPRI for the three sets */
	usec_t timeout_us, deadline;
	const sigset_t *mask;
	struct pollfd *heap;
};
#define POLL_SET_SMALL 64
#define POLL_SET_STACK (2 * POLL_SET_SMALL + 1)
/** poll_set_on_stack() - a set of @n is to be on the stack: behind a filter asking for memory may be the end of the process */
bool poll_set_on_stack(nfds_t n);
/** POLL_SET_ROOM() - in the caller's frame, for poll_set_init(); @small: POLL_SET_STACK entries */
#define POLL_SET_ROOM(small, n) \
	(likely((n) <= POLL_SET_SMALL) || !poll_set_on_stack(n) ? (small) : alloca((2 * (n) + 1) * sizeof(struct pollfd)))
/** poll_set_init() - False: no memory */
bool poll_set_init(struct poll_set *s, struct pollfd *stack, nfds_t n);
void poll_set_free(struct poll_set *s);
/** poll_set_wait() - Return: entries that are ready, 0 time is up, negative errno */
int poll_set_wait(struct poll_set *s);
/** timespec_timeout() - NULL: USEC_NEVER. -EINVAL, -EFAULT */
int timespec_timeout(const struct timespec *user, usec_t *ret_us);

#endif
