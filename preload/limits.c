/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * limits.c - limits and filters that a program puts on itself, and which we live under too
 *
 * RLIMIT_AS counts the arena, which is sparse and large: a program that allows itself 200 MB (vsftpd) would not get a page any
 * more. So what it sets is raised by what we have mapped, and told without that.
 *
 * RLIMIT_NOFILE of almost nothing forbids new descriptors, which also forbids a ring to be set up. Only programs that lock
 * themselves in do that (sshd, vsftpd), and it is taken as what follows here:
 *
 * A seccomp filter names the calls that the program makes, not ours: most kill a process at its first io_uring_enter(). A
 * program that goes behind one gets the kernel's sockets in place of its connections, pumped as for one that cannot have us
 * in it (pump.c), and the library does no more system calls in it. Listeners stay as they are.
 */
#include <linux/seccomp.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include "../host/join.h"
#include "../host/sys.h"
#include "own_env.h"
#include "pump_priv.h"

enum { OTHER_MAPPINGS = 64 << 20 }; /* rings and landing buffers of a few threads */

enum { NOFILE_LOCKED_IN = 8 }; /* with less nobody means to go on making descriptors */

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

BEFORE_SHADOW static void nofile_look(int resource, const struct rlimit *limit)
{
	if (resource == RLIMIT_NOFILE && limit && limit->rlim_cur < NOFILE_LOCKED_IN)
		sandbox_enter();
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

void sandbox_enter(void)
{
	struct pump_try p;

	if (!host_joined() || !slot_self() || slot_is_vfork_child() || own_sandboxed)
		return;
	pump_begin(&p, true);
	pump_keep(&p);
	own_sandboxed = true;
}

EXPORT(int, prctl, (int option, ...))
{
	unsigned long a[4];
	va_list ap;

	va_start(ap, option);
	for (int i = 0; i < 4; i++)
		a[i] = va_arg(ap, unsigned long);
	va_end(ap);
	if (option == PR_SET_SECCOMP)
		sandbox_enter();
	return libc_next.prctl(option, a[0], a[1], a[2], a[3]);
}
