/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * slot.h - processes of a host and their descriptor tables (RULES C3, C7)
 *
 * A word in a MADV_WIPEONFORK page says "this process is slot n": zero after any kind of fork, still there in a vfork child.
 */
#ifndef OWNSTACK_HOST_SLOT_H
#define OWNSTACK_HOST_SLOT_H

#include "host.h"

/** slot_self() - our slot, 0: not registered (fork child before its first call, or not joined). One load. */
uint32_t slot_self(void);
/** slot_is_vfork_child() - getpid() differs from the slot's: we run in our parent's memory and must change nothing (160 ns) */
bool slot_is_vfork_child(void);
/** slot_elsewhere() - this process's number is another one to the helpers: it is in another pid namespace, as its children will be */
void slot_elsewhere(void);
int slot_register(void);	/* this process takes a slot of its own; index, -ENOSPC, or -ENOMEM where the page cannot be had */
int slot_register_keeper(void);	/* same, at SLOT_KEEPER, which must be free */
void slot_unregister(void);	/* gives the slot back; its table is empty, its threads have left */
uint64_t slot_start_time(pid_t pid); /* field 22 of /proc/PID/stat, 0: no such process, or no /proc. pid 0: this process */
/** slot_life() - pid exists and is the same process; also tells one that was stopped, by a signal or by its debugger */
enum slot_life { SLOT_GONE, SLOT_RUNS, SLOT_STOPPED, SLOT_TRACED };
enum slot_life slot_life(uint32_t slot);
/** slot_changed() - tell the keeper to look at the slots */
void slot_changed(void);

/* fork: prepare in the parent (no shard lock), then one of the others */
int slot_fork_prepare(uint32_t *ret_child);	/* copies the table, references go up; 0 with *ret_child 0: nothing to share */
void slot_fork_parent(uint32_t child, pid_t pid); /* pid < 0: fork failed, undo */
void slot_fork_child(uint32_t child);	/* in every child; 0: nothing was shared */

/* exec: prepare right before, with the gate closed; failed when execve came back */
void slot_exec_prepare(void);
void slot_exec_failed(void);
/**
 * slot_exec_adopt() - in a new image that has registered: take over the table the old image left
 *
 * Numbers that had FD_CLOEXEC, or are no socket any more, are dropped. The old slot is DEAD afterwards.
 * Return: how many numbers were taken over, 0 where there was no old image
 */
struct thr;
int slot_exec_adopt(struct thr *t);
/** slot_exec_drop() - keeper: the exec of @slot has happened, its FD_CLOEXEC numbers go */
void slot_exec_drop(struct thr *t, uint32_t slot);

/** slot_drop() - process is gone: references dropped, watches and frames freed, sockets finished as a kernel would. Takes the shard lock in pieces. */
void slot_drop(struct thr *t, uint32_t slot);

/**
 * slots_bury() - wait until the keeper has dropped those that are dead and waited for
 *
 * A kernel takes a process's ports away before its parent can learn of the end; where it was killed, ours go a moment later.
 * For the slow path of a call that met somebody's port: asks the kernel about each process of the host. No lock held.
 * Return: one is gone that was there at the beginning: worth another try
 */
bool slots_bury(void);

/* ---- descriptor table of this process (fdtab.c) ---- */
/*
 * One octet for each number of this process, wiped by fork: 0: surely not ours. What every hook asks on a descriptor of the
 * kernel's, so that it costs half a dozen instructions (bench/figures.json counts them).
 */
enum { FD_NUMBERS = 1 << 20 };
extern _Atomic uint8_t *fdmap __attribute__((visibility("hidden")));
extern uint32_t fdmap_numbers __attribute__((visibility("hidden"))); /* 0: this process never had a slot */
/** fdmap_fill() - this process has a table that it did not fill itself */
void fdmap_fill(void);

static inline bool fdmap_has(int fd)
{
	return __builtin_expect((uint32_t)fd < fdmap_numbers && atomic_load_explicit(&fdmap[(uint32_t)fd], memory_order_relaxed), 0);
}

struct fdent *fdtab_entry(int fd);
/** fdtab_lookup() - entry of @fd in our table, NULL: not ours. A few loads, no lock. */
static inline struct fdent *fdtab_lookup(int fd)
{
	return fdmap_has(fd) ? fdtab_entry(fd) : NULL;
}
/**
 * fdtab_set() - number @fd now means @file (refs and numbers go up); what it meant before is returned to be unref'ed
 * @ret_old:	NULL where it meant nothing
 *
 * Shard lock: whoever dies at it is noticed by its lock, and what it was changing is counted anew.
 *
 * Return: 0, -EBADF: number out of range, -ENOMEM: arena full, -ESRCH: no slot
 */
int fdtab_set(int fd, struct file *file, uint32_t flags, struct file **ret_old);
/** fdtab_clear() - number is no longer ours: gives the reference it held, NULL: it was not. Under the same hold of the lock it goes elsewhere. */
struct file *fdtab_clear(int fd);
/** fdtab_cloexec() - F_SETFD and FIOCLEX: set or clear FD_CLOEXEC of a number that is ours; -EBADF */
int fdtab_cloexec(int fd, bool on);
/** fdtab_next() - next number >= @from that is ours, -1 */
int fdtab_next(uint32_t slot, int from);

/* For slot.c: tables of other slots */
enum fdtab_which { FDTAB_ALL, FDTAB_CLOEXEC, FDTAB_NOT_SOCKET };
/** fdtab_copy() - all entries of @from into the empty table of @to, references go up. -ENOMEM: *@to has a part of them */
int fdtab_copy(uint32_t to, uint32_t from);
/** fdtab_move() - hang the chunks of @from into the empty table of @to */
void fdtab_move(uint32_t to, uint32_t from);
/** fdtab_leave() - the process ends, its gate is closed: all its entries go, as at its death. No lock held. */
void fdtab_leave(struct thr *t);
/** fdtab_recount() - refs and numbers of @f from all tables: who changed it died at it. Shard lock. */
void fdtab_recount(struct file *f);
/** fdtab_drop() - entries of @slot go, 64 at a time under the shard lock, then (FDTAB_ALL) their memory */
void fdtab_drop(struct thr *t, uint32_t slot, enum fdtab_which which);

/** slot_self_page() - process-local, wiped by fork */
struct slot_self_page {
	uint32_t index;
	int32_t pid;
	struct slot *slot;
};
extern struct slot_self_page *slot_self_page;

#endif
