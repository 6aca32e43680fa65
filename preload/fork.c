/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fork.c - a process becomes two (RULES C3, C7)
 *
 * The parent reserves a slot and copies its descriptor table into it (every number counts once more), forks, and the child
 * takes the slot. No shard lock is held: the arena is shared, so the child has no half-made copy of anything. Signals are
 * blocked for the duration, so that no handler runs in a child that does not know yet who it is.
 *
 * vfork() in a process without private numbers is a bare jump: the child lives in our memory until it execs, and what
 * it does to descriptors is the kernel's business only (slot_is_vfork_child()). With private numbers it is a fork(): a child that
 * is to move and inherit them needs a table of its own. That its parent does not wait, and does not see what it writes, is
 * what POSIX allows. posix_spawn(), system() and popen(), whose vfork is inside libc, are written out in spawn.c.
 *
 * clone() through syscall(2) without CLONE_VM is a fork, too (vsftpd). Another raw one gives a child without a slot, which
 * registers when it makes a socket; private numbers it inherited are not its own.
 *
 * daemon() forks inside libc, past us: it is written out here.
 */
#include <paths.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "../host/join.h"
#include "../host/sys.h"
#include "own_env.h"
#include "pump_priv.h"
#include "signal_priv.h"

void fork_child(uint32_t slot)
{
	thr_fork_child();
	gate_open(); /* a thread of the parent may have been about to end it */
	signal_fork_child();
	cancel_fork_child();
	rouse_fork_child();
	join_fork_child();
	stdio_fork_child();
	spawn_fork_child();
	slot_fork_child(slot);
	host_fork_child(); /* always: a copy of the parent's link would hide the parent's exec from the keeper */
}

/* Join state is shared by both sides from here on. @do_fork: fork or _Fork of what comes after us */
static pid_t fork_shared(pid_t (*do_fork)(void))
{
	uint32_t child = 0;
	sigset_t all, was;
	int saved = errno;
	pid_t pid;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &was);
	r = slot_fork_prepare(&child);
	if (r < 0) {
		pthread_sigmask(SIG_SETMASK, &was, NULL);
		return (pid_t)errno_result(r == -ENOSPC ? -EAGAIN : r, saved);
	}
	errno = saved;
	pid = do_fork();
	saved = errno;
	if (pid == 0)
		fork_child(child);
	else if (child)
		slot_fork_parent(child, pid);
	pthread_sigmask(SIG_SETMASK, &was, NULL);
	errno = saved;
	return pid;
}

/* Before there is a slot that tells: who was the last to call vfork(). Not inherited by what is a process of its own. */
static pid_t vforked_from;

static pid_t fork_by(pid_t (*do_fork)(void))
{
	if (sandboxed() || !host_joined() || !slot_self() || slot_is_vfork_child()) {
		pid_t pid = do_fork();

		if (pid == 0)
			vforked_from = 0;
		return pid;
	}
	return fork_shared(do_fork);
}

EXPORT(pid_t, fork, (void))
{
	return fork_by(libc_next.fork);
}

EXPORT(pid_t, _Fork, (void))
{
	return fork_by(libc_next._Fork);
}

bool vfork_in_unjoined_child(void)
{
	return vforked_from && vforked_from != sys_getpid();
}

bool vfork_is_fork(void)
{
	if (!host_joined())
		vforked_from = sys_getpid();
	return host_joined() && slot_self() && !slot_is_vfork_child() && atomic_load(&host->slot[slot_self()].n_entries);
}

/* A C function cannot call vfork and return, since the child would run over its frame: so a jump. */
__asm__(".pushsection .text\n\t.globl vfork\n\t.type vfork, @function\n"
	"vfork:\n\t.globl own_vfork\n\t.hidden own_vfork\nown_vfork:\n\t"
	"sub $8, %rsp\n\tcall vfork_is_fork\n\tadd $8, %rsp\n\t"
	"test %al, %al\n\tjne own_fork\n\t"
	"jmp __wrap_vfork\n\t.popsection\n");

static _Thread_local const long *clone_args;

static pid_t clone_by_args(void)
{
	const long *a = clone_args;

	return (pid_t)libc_next.syscall(SYS_clone, a[0], a[1], a[2], a[3], a[4], a[5]);
}

long fork_by_clone(const long args[6])
{
	clone_args = args;
	return fork_by(clone_by_args);
}

EXPORT(int, daemon, (int nochdir, int noclose))
{
	pid_t pid = own_fork();

	if (pid < 0)
		return -1;
	if (pid > 0)
		own__exit(0);
	if (setsid() < 0)
		return -1;
	if (!nochdir && chdir("/") < 0)
		return -1;
	if (!noclose) {
		int fd = libc_next.open(_PATH_DEVNULL, O_RDWR, 0);

		if (fd < 0)
			return -1;
		for (int to = 0; to < 3; to++)
			own_dup2(fd, to);
		if (fd > 2)
			libc_next.close(fd);
	}
	return 0;
}
