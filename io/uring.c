/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * uring.c - one ring of one thread
 *
 * Goal: a ring that a program cannot trip over. Where the kernel has it (6.6) the ring's memory is ours, private and not
 * inherited by fork (MADV_DONTFORK), and the ring is an index of the thread's registered rings: no descriptor, no mapping
 * of a special file; all of it ends with the thread. Before 6.10 such memory had to be contiguous, and set-up says EINVAL;
 * then, and on older kernels, the ring is a descriptor moved to 1000 or above, registered as well to save its look-up.
 *
 * Set-up is tried from the richest set of flags down. All sets have SINGLE_ISSUER and DEFER_TASKRUN (6.1): completions are
 * made only inside our own enter with GETEVENTS, so that a receive left armed eats nothing while its thread is elsewhere
 * (RULES T2). TASKRUN_FLAG shows without a system call that completions wait to be made. It is harmless here since the only
 * enter is our own: no helper adds GETEVENTS behind our back.
 *
 * liburing's set-up (2.3) knows neither user memory nor rings without descriptor, and its submit helpers decide flags on
 * their own; what is left of it is a few loads and stores, so they stand here.
 */
#include "uring.h"
#include <string.h>
#include <sys/mman.h>
#include "sys.h"

#define PAGE_ROUND(n) (((n) + 4095) & ~(size_t)4095)

struct uring_enter_arg {
	uint64_t sigmask;
	uint32_t sigmask_bytes, pad;
	uint64_t timespec;
};
struct uring_timespec {
	int64_t sec, nsec;
};

static int uring_open_private(struct uring *u, uint32_t sq_entries, uint32_t cq_entries);
static int uring_open_mapped(struct uring *u, uint32_t sq_entries, uint32_t cq_entries);
static void uring_views(struct uring *u, const struct io_uring_params *p, uint8_t *rings);

int uring_open(struct uring *u, uint32_t sq_entries, uint32_t cq_entries)
{
	int r;

	memset(u, 0, sizeof(*u));
	u->fd = u->enter_fd = -1;
	r = uring_open_private(u, sq_entries, cq_entries);
	if (r < 0)
		r = uring_open_mapped(u, sq_entries, cq_entries);
	return r;
}

/** uring_open_private() - ring without descriptor in our own memory; first kernel: 6.6, or 6.10 for more than a page */
static int uring_open_private(struct uring *u, uint32_t sq_entries, uint32_t cq_entries)
{
	size_t sqe_bytes = PAGE_ROUND(sq_entries * sizeof(struct io_uring_sqe));
	size_t ring_bytes = PAGE_ROUND(4096 + cq_entries * sizeof(struct io_uring_cqe));
	struct io_uring_params p = { .cq_entries = cq_entries };
	uint8_t *mem = sys_mmap_anon(sqe_bytes + ring_bytes, MAP_POPULATE);
	long r;

	if (!mem)
		return -ENOMEM;
	SYS3(SYS_madvise, mem, sqe_bytes + ring_bytes, MADV_DONTFORK);
	p.flags = IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
		  IORING_SETUP_TASKRUN_FLAG | URING_SETUP_NO_MMAP | URING_SETUP_REGISTERED_FD_ONLY | URING_SETUP_NO_SQARRAY;
	p.cq_off.resv2 = (uintptr_t)(mem + sqe_bytes); /* user_addr in newer headers */
	p.sq_off.resv2 = (uintptr_t)mem;
	r = SYS3(SYS_io_uring_setup, sq_entries, &p, 0);
	if (r < 0) {
		sys_munmap(mem, sqe_bytes + ring_bytes);
		return (int)r;
	}
	u->fd = u->enter_fd = (int)r;
	u->registered = u->enter_registered = true;
	u->mem = mem;
	u->mem_bytes = sqe_bytes + ring_bytes;
	u->sqes = (struct io_uring_sqe *)mem;
	uring_views(u, &p, mem + sqe_bytes);
	return 0;
}

/** uring_setup_fd() - ring as a descriptor, flags from rich to plain; DEFER_TASKRUN is not negotiable */
static int uring_setup_fd(uint32_t sq_entries, uint32_t cq_entries, struct io_uring_params *p)
{
	static const uint32_t extra[] = { IORING_SETUP_TASKRUN_FLAG | URING_SETUP_NO_SQARRAY, IORING_SETUP_TASKRUN_FLAG, 0 };
	long r = -EINVAL;

	for (unsigned i = 0; r == -EINVAL && i < sizeof(extra) / sizeof(extra[0]); i++) {
		memset(p, 0, sizeof(*p));
		p->cq_entries = cq_entries;
		p->flags = IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER |
			   IORING_SETUP_DEFER_TASKRUN | extra[i];
		r = SYS3(SYS_io_uring_setup, sq_entries, p, 0);
	}
	return (int)r;
}

static void *uring_map(int fd, size_t bytes, uint64_t off)
{
	long r = SYS6(SYS_mmap, 0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, off);

	return r < 0 && r > -4096 ? NULL : (void *)r;
}

static int uring_open_mapped(struct uring *u, uint32_t sq_entries, uint32_t cq_entries)
{
	struct io_uring_rsrc_update reg = { .offset = UINT32_MAX };
	struct io_uring_params p;
	size_t sq_bytes, cq_bytes, sqe_bytes;
	uint8_t *rings = NULL;
	int fd = uring_setup_fd(sq_entries, cq_entries, &p);

	if (fd < 0)
		return fd;
	u->fd = sys_fd_high(fd);
	sys_close(fd);
	if (u->fd < 0)
		return u->fd;
	/* FEAT_SINGLE_MMAP (5.4): both rings in one mapping. The entries are mapped behind it in our bookkeeping only */
	sq_bytes = p.sq_off.array + p.sq_entries * sizeof(uint32_t);
	cq_bytes = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
	u->mem_bytes = PAGE_ROUND(sq_bytes > cq_bytes ? sq_bytes : cq_bytes);
	sqe_bytes = p.sq_entries * sizeof(struct io_uring_sqe);
	rings = uring_map(u->fd, u->mem_bytes, IORING_OFF_SQ_RING);
	u->sqes = rings ? uring_map(u->fd, sqe_bytes, IORING_OFF_SQES) : NULL;
	u->mem = rings;
	if (!u->sqes) {
		uring_close(u);
		return -ENOMEM;
	}
	SYS3(SYS_madvise, rings, u->mem_bytes, MADV_DONTFORK);
	SYS3(SYS_madvise, u->sqes, sqe_bytes, MADV_DONTFORK);
	uring_views(u, &p, rings);
	reg.data = (uint64_t)u->fd;
	u->enter_fd = u->fd;
	if (SYS6(SYS_io_uring_register, u->fd, IORING_REGISTER_RING_FDS, &reg, 1, 0, 0) == 1) {
		u->enter_registered = true;
		u->enter_fd = (int)reg.offset;
	}
	return 0;
}

static void uring_views(struct uring *u, const struct io_uring_params *p, uint8_t *rings)
{
	u->setup_flags = p->flags;
	u->sq_entries = p->sq_entries;
	u->sq_mask = p->sq_entries - 1;
	u->sq_khead = (uint32_t *)(rings + p->sq_off.head);
	u->sq_ktail = (uint32_t *)(rings + p->sq_off.tail);
	u->sq_kflags = (uint32_t *)(rings + p->sq_off.flags);
	u->cq_mask = p->cq_entries - 1;
	u->cq_khead = (uint32_t *)(rings + p->cq_off.head);
	u->cq_ktail = (uint32_t *)(rings + p->cq_off.tail);
	u->cqes = (struct io_uring_cqe *)(rings + p->cq_off.cqes);
	if (!(p->flags & URING_SETUP_NO_SQARRAY)) {
		uint32_t *array = (uint32_t *)(rings + p->sq_off.array);

		for (uint32_t i = 0; i < p->sq_entries; i++)
			array[i] = i; /* for ever: entry i is at place i, as without the array */
	}
}

void uring_close(struct uring *u)
{
	struct io_uring_rsrc_update reg = { .offset = (uint32_t)u->enter_fd };

	if (u->fd < 0)
		return;
	if (u->enter_registered)
		uring_register(u, IORING_UNREGISTER_RING_FDS, &reg, 1);
	if (!u->registered) {
		sys_close(u->fd);
		sys_munmap(u->sqes, u->sq_entries * sizeof(struct io_uring_sqe));
	}
	sys_munmap(u->mem, u->mem_bytes);
	u->fd = -1;
}

void uring_abandon(struct uring *u)
{
	if (u->fd >= 0 && !u->registered)
		sys_close(u->fd);
	u->fd = -1;
}

int uring_register(struct uring *u, uint32_t op, const void *arg, uint32_t n)
{
	if (u->registered)
		op |= URING_REGISTER_USE_REGISTERED_RING;
	return (int)SYS6(SYS_io_uring_register, u->fd, op, arg, n, 0, 0);
}

bool uring_has_op(struct uring *u, unsigned op)
{
	_Alignas(struct io_uring_probe) uint8_t mem[sizeof(struct io_uring_probe) + 128 * sizeof(struct io_uring_probe_op)];
	struct io_uring_probe *probe = (struct io_uring_probe *)mem;

	memset(mem, 0, sizeof(mem));
	if (uring_register(u, IORING_REGISTER_PROBE, probe, 128) < 0)
		return false;
	return op <= probe->last_op && op < 128 && (probe->ops[op].flags & IO_URING_OP_SUPPORTED);
}

bool uring_is_full(struct uring *u)
{
	return uring_has_op(u, URING_OP_READ_MULTISHOT) && uring_has_op(u, URING_OP_FUTEX_WAIT);
}

struct io_uring_sqe *uring_sqe(struct uring *u, uint32_t *ret_index)
{
	struct io_uring_sqe *sqe;

	if (uring_unsubmitted(u) == u->sq_entries)
		return NULL;
	*ret_index = u->sq_tail & u->sq_mask;
	sqe = &u->sqes[*ret_index];
	memset(sqe, 0, sizeof(*sqe));
	u->sq_tail++;
	return sqe;
}

/**
 * uring_enter() - the only place where the ring's system call is made
 *
 * EXT_ARG carries time-out and signal mask, so that a sleep with both is one call. What was submitted is read from the
 * ring's own head and not from the return value: when something was submitted the kernel reports that, and the -EINTR or
 * -ETIME of the sleep that followed is lost (the caller works it out from clock and completion queue).
 *
 * Return: entries submitted, or -ETIME, -EINTR, -EBUSY (overflow not yet flushed), ...
 */
int uring_enter(struct uring *u, bool get, unsigned min_complete, usec_t timeout, const sigset_t *mask)
{
	struct uring_timespec ts = { (int64_t)(timeout / 1000000), (int64_t)(timeout % 1000000) * 1000 };
	struct uring_enter_arg arg = { (uintptr_t)mask, 8, 0, timeout == USEC_NEVER ? 0 : (uintptr_t)&ts };
	uint32_t flags = (get ? IORING_ENTER_GETEVENTS : 0) | (u->enter_registered ? IORING_ENTER_REGISTERED_RING : 0);

	/* release: the entries must be complete before the tail that shows them; pairs with the kernel's acquire */
	__atomic_store_n(u->sq_ktail, u->sq_tail, __ATOMIC_RELEASE);
	u->enters++;
	if (min_complete == 0)
		return (int)SYS6(SYS_io_uring_enter, u->enter_fd, uring_unsubmitted(u), 0, flags, 0, 0);
	return (int)SYS6(SYS_io_uring_enter, u->enter_fd, uring_unsubmitted(u), min_complete, flags | IORING_ENTER_EXT_ARG,
			 &arg, sizeof(arg));
}
