/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * exit.c - the ways a process ends on its own
 *
 * A kernel closes a process's descriptors before its parent can learn of the end: who connects right after waitpid() finds no
 * listener. So the process drops its own table, last of all that it does; what dies by a signal is the keeper's to clean up.
 *
 * A thread must not die between two steps under the shard lock (RULES C2: then the lock is broken and the connection it was
 * changing is reset). So the gate is closed first: threads inside finish, which takes microseconds, others stay out for good.
 *
 * exit() does not call _exit() by its name. A handler that was registered while libraries are initialized runs after all other
 * handlers and destructors; behind it comes only the flushing of stdio, and that of our own streams is done before the sockets
 * go. It frees nothing, since other threads still run.
 */
#include <stdlib.h>
#include "../host/join.h"
#include "own_env.h"
#include "pump_priv.h"

/**
 * leave_for_good() - nothing of ours is done after this
 * @drop:	the table goes too; else it is left to the keeper
 *
 * A kernel does not wait for SO_LINGER where a process ends, and neither do we.
 */
static void leave_for_good(bool drop)
{
	struct thr *t;

	if (sandboxed() || !host_joined() || !slot_self() || slot_is_vfork_child())
		return;
	t = thr_enter();
	if (!t || thr_depth) { /* from inside a critical section: a fault of ours */
		gate_close();
		return;
	}
	gate_close();
	if (drop)
		fdtab_leave(t);
	t->undelivered = 0; /* output that this thread held back leaves now (flush rule) */
	shard_lock(t);
	if (drop)
		ready_slot_let_go(t, t->slot);
	thr_leave(t);
}

static void at_exit(int status, void *arg)
{
	(void)status;
	(void)arg;
	stdio_flush();
	leave_for_good(true);
}

static void at_quick_exit_ours(void)
{
	leave_for_good(true);
}

void exit_init(void)
{
	on_exit(at_exit, NULL);
	at_quick_exit(at_quick_exit_ours);
}

EXPORT(void, _exit, (int status))
{
	leave_for_good(true);
	libc_next._exit(status);
}

EXPORT(void, _Exit, (int status))
{
	leave_for_good(true);
	libc_next._Exit(status);
}

EXPORT(void, abort, (void))
{
	struct sigaction act;

	/* A handler may siglongjmp() out of abort(): then the process lives on, and the gate must be open. */
	if (own_sigaction(SIGABRT, NULL, &act) == 0 && (act.sa_handler == SIG_DFL || act.sa_handler == SIG_IGN))
		leave_for_good(false);
	libc_next.abort();
}
