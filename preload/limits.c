/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * limits.c - limits and filters that a program puts on itself, and which we live under too
 *
 * RLIMIT_AS counts the arena, which is sparse and large: a program that allows itself 200 MB (vsftpd) would not get a page any
 * more. So what it sets is raised by what we have mapped, and told without that.
 *
 * RLIMIT_NOFILE of almost nothing forbids new descriptors, which also forbids a ring to be set up. A seccomp filter names the
 * calls that the program makes, not ours: most kill a process at its first io_uring_enter(). Only programs that lock themselves
 * in do such things (sshd, vsftpd). They keep their private sockets and become passengers of the keeper (host/passenger.c), which
 * takes a few plain calls. Where the filter does not allow even those, or several threads use sockets, the program gets the
 * kernel's sockets in place of its connections, pumped as for one that cannot have us in it (export.c).
 *
 * What it makes new after that is the kernel's.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include "../host/join.h"
#include "../host/passenger.h"
#include "../host/sys.h"
#include "own_env.h"
#include "pump_priv.h"

enum { OTHER_MAPPINGS = 64 << 20 }; /* rings and landing buffers of a few threads */

enum { NOFILE_LOCKED_IN = 8 }; /* with less nobody means to go on making descriptors */

enum { NOFILE_OURS = 1000 + 24 }; /* sys_fd_high() begins at 1000; with less our descriptors do not fit above the program's */

static bool own_sandboxed;

bool sandboxed(void)
{
	return own_sandboxed;
}

/* ---- RLIMIT_AS ---- */

BEFORE_SHADOW static rlim_t our_share(int resource)
{
	return resource == RLIMIT_AS && host ? host->arena_bytes + OTHER_MAPPINGS : 0;
}

static rlim_t more(rlim_t v, rlim_t by)
{
	return v == RLIM_INFINITY || v > RLIM_INFINITY - by ? RLIM_INFINITY : v + by;
}

static rlim_t less(rlim_t v, rlim_t by)
{
	return v == RLIM_INFINITY || v < by ? v : v - by;
}

/* A hard limit that was there before we came cannot be raised by everyone. */
static int limit_set(pid_t pid, int resource, const struct rlimit *given, struct rlimit *old)
{
	rlim_t by = pid == 0 || pid == sys_getpid() ? our_share(resource) : 0;
	struct rlimit was, set;
	int r;

	if (!by)
		return libc_next.prlimit(pid, resource, given, old);
	if (libc_next.prlimit(0, resource, NULL, &was))
		return -1;
	if (given) {
		set = (struct rlimit){ more(given->rlim_cur, by), more(given->rlim_max, by) };
		r = libc_next.prlimit(0, resource, &set, NULL);
		if (r && errno == EPERM && given->rlim_max <= was.rlim_max) {
			set.rlim_max = was.rlim_max;
			set.rlim_cur = set.rlim_cur < was.rlim_max ? set.rlim_cur : was.rlim_max;
			r = libc_next.prlimit(0, resource, &set, NULL);
		}
		if (r)
			return r;
	}
	if (old)
		*old = (struct rlimit){ less(was.rlim_cur, by), less(was.rlim_max, by) };
	return 0;
}

BEFORE_SHADOW static void sandbox_enter(passenger_may_fn *may);

/**
 * nofile_prepare() - the descriptors we shall need, while high numbers can still be had
 *
 * A few numbers are ours (queue, keeper, placeholder), from 1000 on. A program that lowers its limit first and opens sockets
 * then would find that many of its own numbers taken. What lies above a limit already stays good.
 */
static void nofile_prepare(void)
{
	struct thr *t;

	if (vfork_in_unjoined_child() || !own_join() || slot_is_vfork_child() || host_placeholder_fd() < 0)
		return;
	t = thr_enter();
	if (!t)
		return;
	shard_lock(t);
	thr_leave(t);
	drive_once(t); /* has its ring from now on */
}

BEFORE_SHADOW static void nofile_look(int resource, const struct rlimit *limit)
{
	struct rlimit was;

	if (resource != RLIMIT_NOFILE || !limit)
		return;
	if (limit->rlim_cur < NOFILE_LOCKED_IN)
		sandbox_enter(NULL);
	else if (limit->rlim_cur < NOFILE_OURS && !libc_next.getrlimit(RLIMIT_NOFILE, &was) && was.rlim_cur >= NOFILE_OURS)
		nofile_prepare();
}

EXPORT(BEFORE_SHADOW int, setrlimit, (int resource, const struct rlimit *limit))
{
	nofile_look(resource, limit);
	return our_share(resource) ? limit_set(0, resource, limit, NULL) : libc_next.setrlimit(resource, limit);
}

EXPORT(BEFORE_SHADOW int, getrlimit, (int resource, struct rlimit *limit))
{
	return our_share(resource) ? limit_set(0, resource, NULL, limit) : libc_next.getrlimit(resource, limit);
}

EXPORT(int, prlimit, (pid_t pid, int resource, const struct rlimit *limit, struct rlimit *old))
{
	if (pid == 0 || pid == sys_getpid())
		nofile_look(resource, limit);
	return limit_set(pid, resource, limit, old);
}

/* ---- going behind a filter ---- */

static bool concerns_us(void)
{
	return host_joined() && slot_self() && !slot_is_vfork_child();
}

/* @may: what is allowed afterwards, NULL: not known yet */
static void sandbox_enter(passenger_may_fn *may)
{
	struct thr *t;
	struct export_try p;

	if (!concerns_us() || (own_sandboxed && !passenger))
		return;
	t = atomic_load(&host->slot[slot_self()].n_entries) ? thr_enter() : NULL;
	if (t && passenger_begin(t, may) < 0) {
		export_begin(&p, true);
		export_keep(&p);
	}
	own_sandboxed = true;
}

/* Right before the filter @given, NULL: the strict mode, is put on. Return: it is to be forgotten should the kernel refuse it */
static bool sandbox_filter(const struct sock_fprog *given)
{
	if (!concerns_us() || !filter_note(given))
		return false;
	sandbox_enter(filter_allows);
	return true;
}

long sandbox_seccomp(const long a[6])
{
	bool puts_on = a[0] == SECCOMP_SET_MODE_STRICT || a[0] == SECCOMP_SET_MODE_FILTER;
	bool noted = puts_on && sandbox_filter(a[0] == SECCOMP_SET_MODE_FILTER ? (const void *)(uintptr_t)a[2] : NULL);
	long r = libc_next.syscall(SYS_seccomp, a[0], a[1], a[2], a[3], a[4], a[5]);

	if (r < 0 && noted)
		filter_forget();
	return r;
}

bool sandbox_may(long nr, const long args[6])
{
	return !own_sandboxed || !filter_known() || filter_allows(nr, args);
}

EXPORT(int, prctl, (int option, ...))
{
	unsigned long a[4];
	bool puts_on, noted;
	va_list ap;
	int r;

	va_start(ap, option);
	for (int i = 0; i < 4; i++)
		a[i] = va_arg(ap, unsigned long);
	va_end(ap);
	puts_on = option == PR_SET_SECCOMP && (a[0] == SECCOMP_MODE_FILTER || a[0] == SECCOMP_MODE_STRICT);
	noted = puts_on && sandbox_filter(a[0] == SECCOMP_MODE_FILTER ? (const void *)a[1] : NULL);
	r = libc_next.prctl(option, a[0], a[1], a[2], a[3]);
	if (r < 0 && noted)
		filter_forget();
	return r;
}
