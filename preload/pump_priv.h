/* SPDX-License-Identifier: BSD-2-Clause */
/* pump_priv.h - children and programs: between exec.c, export.c, fork.c, spawn.c and syscall.c */
#ifndef OWNSTACK_PRELOAD_PUMP_PRIV_H
#define OWNSTACK_PRELOAD_PUMP_PRIV_H

#include "preload_priv.h"

struct export_try {
	int *fd;    /* numbers that are the kernel's now, for a program without this library */
	unsigned n;
};
/**
 * export_begin() - right before the exec of a program that will not have this library in it
 * @all:	sockets that are FD_CLOEXEC too: it is no exec, the process stays
 *
 * Return: false: there is no memory; the program will find dead sockets
 */
bool export_begin(struct export_try *p, bool all);
/** export_keep() - the process goes on without the sockets: its entries go */
void export_keep(struct export_try *p);
/** export_undo() - the exec failed: our numbers are ours again */
void export_undo(struct export_try *p);
/** export_pair() - @f gets a row of @kind and a pair whose other end the keeper has. Return: the program's end, negative errno */
struct file;
int export_pair(struct file *f, int kind);
/** export_take_back() - is @fd an exported connection: private again, with what was read ahead. Return: it was */
bool export_take_back(int fd, bool cloexec);
/** export_take_back_all() - a new image below a program that could not be ours: every descriptor it finds */
void export_take_back_all(void);
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
/** sandboxed() - a filter was put on, or almost no descriptor is allowed: the process makes no sockets of ours any more */
bool sandboxed(void);
/** sandbox_seccomp() - seccomp(2) by its registers */
long sandbox_seccomp(const long args[6]);
/** sandbox_may() - @nr with @args will not end the process, nor fail for the filter's sake. True where there is no filter */
bool sandbox_may(long nr, const long args[6]);
#define SANDBOX_MAY(nr) sandbox_may(nr, (const long[6]){ 0 })

/* ---- filter.c ---- */
/** filter_note() - one more filter, NULL: the strict mode. False: it will not be put on, or there is no memory. filter_forget(): it was not */
struct sock_fprog;
bool filter_note(const struct sock_fprog *given);
void filter_forget(void);
bool filter_known(void);
bool filter_allows(long nr, const long args[6]);
/** vfork_is_fork() - this process has private numbers; called by own_vfork */
bool vfork_is_fork(void);
/** vfork_in_unjoined_child() - what this process does to memory it does to its parent, which has not joined */
bool vfork_in_unjoined_child(void);
/** fork_by_clone() - clone() by its registers, without CLONE_VM */
long fork_by_clone(const long args[6]);

#endif
