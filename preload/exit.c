/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * exit.c - the ways a process ends on its own
 *
 * Sockets need nothing from us: the keeper sees the process end, drops its references and finishes them as a kernel would.
 * What must not happen is that a thread dies between two steps under the shard lock (RULES C2: then the lock is broken and the
 * connection it was changing is reset). So the gate is closed first: threads inside finish, which takes microseconds, others
 * stay out. The thread that ends the process may still go in, for what destructors and atexit handlers close.
 *
 * exit() does not call _exit() by its name: our destructor stands for it. It frees nothing, since other threads still run.
 */
#include "../host/join.h"
#include "preload_priv.h"

/* Output that this thread held back leaves now (flush rule); the keeper would send it a tick later. */
static void leave_for_good(void)
{
	struct thr *t;

	if (!host_joined() || !slot_self() || slot_is_vfork_child())
		return;
	t = thr_enter();
	if (t && thr_depth == 0) {
		t->undelivered = 0;
		shard_lock(t);
		thr_leave(t);
	}
	gate_close();
}

__attribute__((destructor)) static void fini(void)
{
	leave_for_good();
}

EXPORT(void, _exit, (int status))
{
	leave_for_good();
	libc_next._exit(status);
}

EXPORT(void, _Exit, (int status))
{
	leave_for_good();
	libc_next._Exit(status);
}

EXPORT(void, quick_exit, (int status))
{
	/* at_quick_exit() handlers run first and may use sockets: this thread still can. */
	leave_for_good();
	libc_next.quick_exit(status);
}

EXPORT(void, abort, (void))
{
	struct sigaction act;

	/* A handler may siglongjmp() out of abort(): then the process lives on, and the gate must be open. */
	if (own_sigaction(SIGABRT, NULL, &act) == 0 && (act.sa_handler == SIG_DFL || act.sa_handler == SIG_IGN))
		leave_for_good();
	libc_next.abort();
}
