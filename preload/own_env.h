/* SPDX-License-Identifier: BSD-2-Clause */
/* own_env.h - what of the environment makes a process ours, as it was at load; between init.c, exec.c and fork.c */
#ifndef OWNSTACK_PRELOAD_OWN_ENV_H
#define OWNSTACK_PRELOAD_OWN_ENV_H

#include <stddef.h>

#define OWN_ENV_INHERIT "OWNSTACK_INHERIT=" /* pid of a process that exec'ed with private sockets open, or: */
#define OWN_ENV_WINDOW	'@'		    /* before a number, see host/window.c */
#define OWN_ENV_ANY	"any"		    /* whoever comes below: the sockets were exported (export.c) */

struct own_env {
	char **vars;	     /* OWNSTACK_*, NULL-terminated copies; NULL: there were none, we only pass through */
	size_t n_vars;
	const char *library; /* where this library was loaded from */
};
extern struct own_env own_env;

/** join_fork_child() - the lock may have been held by a thread that is not here */
void join_fork_child(void);
/** exit_init() - at load, before any handler of the program's is registered */
void exit_init(void);
/** stdio_flush() - streams over private sockets write what they hold, but for those another thread is busy with */
void stdio_flush(void);
/** stdio_fork_child() - the list of them may have been locked by a thread that is not here */
void stdio_fork_child(void);

#endif
