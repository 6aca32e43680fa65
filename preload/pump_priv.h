/* SPDX-License-Identifier: BSD-2-Clause */
/* pump_priv.h - children and programs: between exec.c, fork.c, pump.c, spawn.c and syscall.c */
#ifndef OWNSTACK_PRELOAD_PUMP_PRIV_H
#define OWNSTACK_PRELOAD_PUMP_PRIV_H

#include "preload_priv.h"

struct pump_try {
	int *fd;    /* numbers that the program's ends of pairs stand under */
	unsigned n;
};
/**
 * pump_begin() - right before the exec of a program that will not have this library in it
 * @all:	connections that are FD_CLOEXEC too: it is no exec, the process stays
 *
 * Return: false: there is no memory; the program will find dead sockets
 */
bool pump_begin(struct pump_try *p, bool all);
/** pump_keep() - the process goes on without the sockets: its entries go */
void pump_keep(struct pump_try *p);
/** pump_undo() - the exec failed: our numbers are ours again (and the pump finds that its pairs are gone) */
void pump_undo(struct pump_try *p);
/** spawn_by_fork() - posix_spawn() in a process that has private numbers. Return: 0 or errno */
struct spawn_args {
	const char *file;
	bool search; /* along PATH */
	const posix_spawn_file_actions_t *acts;
	const posix_spawnattr_t *attr;
	char *const *argv, *const *envp;
};
int spawn_by_fork(pid_t *ret_pid, const struct spawn_args *a);
/** spawn_fork_child() - no fork child keeps the pipe of another thread's posix_spawn() */
void spawn_fork_child(void);
/** fork_child() - what a fork child does first; fork.c */
void fork_child(uint32_t slot);
/** sandbox_enter() - right before a seccomp filter is put on; sandboxed(): it was */
void sandbox_enter(void);
bool sandboxed(void);
/** vfork_is_fork() - this process has private numbers; called by own_vfork */
bool vfork_is_fork(void);
/** fork_by_clone() - clone() by its registers, without CLONE_VM */
long fork_by_clone(const long args[6]);

#endif
