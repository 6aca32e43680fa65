/* SPDX-License-Identifier: BSD-2-Clause */
/* probe.c - which level this process may use: asked once, by setting up a ring and looking at its operations */
#include <errno.h>
#include <string.h>
#include "io.h"
#include "sys.h"
#include "uring.h"

/** probe_kernel() - best level here. io_uring may be compiled out, switched off by sysctl, or refused by a seccomp filter */
static int probe_kernel(void)
{
	struct uring u;
	bool full;

	if (uring_open(&u, 4, 8) < 0)
		return IO_LEVEL_POLL;
	full = uring_is_full(&u);
	uring_close(&u);
	return full ? IO_LEVEL_FULL : IO_LEVEL_URING;
}

bool io_uring_allowed(void)
{
	/* permission is looked at first: who has it is told of the pointer */
	return SYS3(SYS_io_uring_setup, 1, NULL, 0) == -EFAULT;
}

int io_level_probe(const char *env)
{
	static const char *const names[] = { [IO_LEVEL_FULL] = "full", [IO_LEVEL_URING] = "uring", [IO_LEVEL_POLL] = "poll" };
	int best;

	if (!env || !*env)
		return probe_kernel();
	for (int level = IO_LEVEL_FULL; level <= IO_LEVEL_POLL; level++) {
		if (strcmp(env, names[level]))
			continue;
		best = level == IO_LEVEL_POLL ? IO_LEVEL_POLL : probe_kernel();
		return best <= level ? level : -EOPNOTSUPP;
	}
	return -EINVAL;
}
