/* SPDX-License-Identifier: BSD-2-Clause */
/* uring.h - one ring of one thread: set-up, submission entries, completions, the one enter; see uring.c */
#ifndef OWNSTACK_IO_URING_H
#define OWNSTACK_IO_URING_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "../stack/netdev.h"
#include "uring_abi.h"

struct uring {
	int fd;			/* index of a registered ring, or a descriptor >= 1000 */
	bool registered;	/* fd is such an index: nothing of ours in the descriptor table */
	bool enter_registered;	/* enter by enter_fd: same ring, index that saves the descriptor look-up */
	int enter_fd;
	uint32_t setup_flags;

	struct io_uring_sqe *sqes;
	uint32_t sq_mask, sq_entries;
	uint32_t sq_tail;	/* ours; published by uring_enter() */
	uint32_t *sq_khead, *sq_ktail, *sq_kflags;

	struct io_uring_cqe *cqes;
	uint32_t cq_mask;
	uint32_t *cq_khead, *cq_ktail;

	void *mem;		/* rings and entries */
	size_t mem_bytes;
	uint64_t enters;
};

/** uring_open() - ring of the calling thread, the best kind the kernel has. -ENOSYS, -EPERM: none for this process */
int uring_open(struct uring *u, uint32_t sq_entries, uint32_t cq_entries);
void uring_close(struct uring *u);
/** uring_abandon() - in a fork child: close the inherited descriptor, if there is one; touches no ring memory */
void uring_abandon(struct uring *u);
int uring_register(struct uring *u, uint32_t op, const void *arg, uint32_t n);
/** uring_has_op() - does the kernel know operation @op */
bool uring_has_op(struct uring *u, unsigned op);
bool uring_is_full(struct uring *u); /* has all that IO_LEVEL_FULL needs */

/** uring_sqe() - next entry, zeroed, *ret_index: its place (0..sq_entries); NULL: full, enter first */
struct io_uring_sqe *uring_sqe(struct uring *u, uint32_t *ret_index);
static inline uint32_t uring_unsubmitted(const struct uring *u)
{
	return u->sq_tail - __atomic_load_n(u->sq_khead, __ATOMIC_ACQUIRE);
}
/** uring_enter() - submit all; with @get run task work, with @min_complete sleep. @timeout USEC_NEVER: none */
int uring_enter(struct uring *u, bool get, unsigned min_complete, usec_t timeout, const sigset_t *mask);

/** uring_work_waits() - completions wait for an enter with GETEVENTS to be made; without a system call (RULES T2) */
static inline bool uring_work_waits(const struct uring *u)
{
	return !(u->setup_flags & IORING_SETUP_TASKRUN_FLAG) ||
	       (__atomic_load_n(u->sq_kflags, __ATOMIC_RELAXED) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW));
}
/** uring_cqe() - oldest completion, or NULL; borrowed until uring_cqe_seen() */
static inline const struct io_uring_cqe *uring_cqe(const struct uring *u)
{
	/* acquire: the entry must be read after the tail that announces it; pairs with the kernel's release of the tail */
	uint32_t tail = __atomic_load_n(u->cq_ktail, __ATOMIC_ACQUIRE);

	return *u->cq_khead == tail ? NULL : &u->cqes[*u->cq_khead & u->cq_mask];
}
static inline void uring_cqe_seen(struct uring *u)
{
	/* release: our reads of the entry come before the kernel may reuse it; pairs with its acquire of the head */
	__atomic_store_n(u->cq_khead, *u->cq_khead + 1, __ATOMIC_RELEASE);
}

#endif
