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
int slot_register(void);	/* this process takes a slot of its own; index or -ENOSPC */
uint64_t slot_start_time(pid_t pid); /* field 22 of /proc/PID/stat, 0: no such process */
/** slot_alive() - pid exists and is the same process; also tells a stopped one */
enum slot_life { SLOT_GONE, SLOT_RUNS, SLOT_STOPPED } slot_life(uint32_t slot);

/* fork: prepare in the parent (no shard lock), then one of the others */
int slot_fork_prepare(uint32_t *ret_child);	/* copies the table, references go up; 0 with *ret_child 0: nothing to share */
void slot_fork_parent(uint32_t child, pid_t pid); /* pid < 0: fork failed, undo */
void slot_fork_child(uint32_t child);

/** slot_drop() - process is gone: references dropped, watches and frames freed, sockets finished as a kernel would. Takes the shard lock in pieces. */
struct thr;
void slot_drop(struct thr *t, uint32_t slot);

/* ---- descriptor table of this process (fdtab.c) ---- */
/** fdtab_lookup() - entry of @fd in our table, NULL: not ours. Two loads, no lock. */
struct fdent *fdtab_lookup(int fd);
/** fdtab_set() - number @fd now means @file (refs and numbers go up); what it meant before is returned to be unref'ed */
int fdtab_set(int fd, struct file *file, uint32_t flags, struct file **ret_old);
/** fdtab_clear() - number is no longer ours: gives the reference it held, NULL: it was not */
struct file *fdtab_clear(int fd);
/** fdtab_next() - next number >= @from that is ours, -1 */
int fdtab_next(uint32_t slot, int from);

#endif
