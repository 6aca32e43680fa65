/* SPDX-License-Identifier: BSD-2-Clause */
/* search.c - who has the arena mapped? For the warden: where it is root's, only it may read /proc/PID/maps of everyone (RULES C7). */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include "search.h"
#include "sys.h"

/* "start-end perms offset major:minor inode path", one mapping a line; read in pieces, since there may be thousands */
static bool line_names(const char *line, const struct stat *st)
{
	unsigned maj, min;
	unsigned long ino;

	return sscanf(line, "%*s %*s %*s %x:%x %lu", &maj, &min, &ino) == 3 && ino == st->st_ino && maj == major(st->st_dev) &&
	       min == minor(st->st_dev);
}

static bool maps(const char *pid, const struct stat *st)
{
	char path[NAME_MAX + 16], line[PATH_MAX + 128];
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%.255s/maps", pid);
	f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof(line), f))
		found = line_names(line, st);
	if (f)
		fclose(f);
	return found;
}

struct dirent64_head { /* what getdents64() gives, <linux/dirent.h> */
	uint64_t ino;
	int64_t off;
	uint16_t len;
	uint8_t type;
	char name[];
};

unsigned arena_search(int memfd, int32_t *ret_pids, unsigned max)
{
	int proc = sys_open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	_Alignas(8) char buf[32768];
	unsigned n_found = 0;
	struct stat st;
	long n;

	if (proc < 0 || sys_fstat(memfd, &st)) {
		if (proc >= 0)
			sys_close(proc);
		return 0;
	}
	while ((n = sys_call(SYS_getdents64, proc, buf, sizeof(buf))) > 0) {
		for (long at = 0; at < n && n_found < max;) {
			const struct dirent64_head *d = (const void *)(buf + at);

			at += d->len;
			if (d->name[0] >= '1' && d->name[0] <= '9' && maps(d->name, &st))
				ret_pids[n_found++] = (int32_t)strtol(d->name, NULL, 10);
		}
	}
	sys_close(proc);
	return n_found;
}
