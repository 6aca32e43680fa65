/* SPDX-License-Identifier: BSD-2-Clause */
/* host_rig.h - a private host inside a test: no device, no helper, this process is a member */
#ifndef OWNSTACK_TESTS_HOST_RIG_H
#define OWNSTACK_TESTS_HOST_RIG_H

#include <criterion/criterion.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../../host/arena.h"
#include "../../host/ready.h"
#include "../../host/slot.h"
#include "../../host/sys.h"
#include "../../host/thr.h"

#define RIG_ARENA_BYTES ((size_t)1 << 30)

/* Return: the memfd, formatted and mapped */
static inline int rig_format(void)
{
	const struct host_device dev = { .kind = IO_KIND_MEM, .caps = { .mac = { 2, 0, 0, 0, 0, 1 }, .mtu_bytes = 1500 } };
	const uint8_t token[16] = { 1 };
	char err[CONFIG_ERR_BYTES] = "";
	struct config cfg;
	int fd = arena_create(RIG_ARENA_BYTES);

	config_init(&cfg);
	cfg.arena_bytes = RIG_ARENA_BYTES;
	cr_assert_geq(fd, 0);
	cr_assert_eq(host_format(fd, &cfg, &dev, (uint32_t)getuid(), token, err, sizeof(err)), 0, "%s", err);
	return fd;
}

static inline struct thr *rig_join(void)
{
	struct thr *t;

	rig_format();
	cr_assert_gt(slot_register(), 0);
	t = thr_enter();
	cr_assert_not_null(t);
	return t;
}

/* an open file description without a socket behind it */
static inline struct file *rig_file(struct thr *t)
{
	struct file *f;

	shard_lock(t);
	f = file_new(FILE_UNDECIDED, 4);
	shard_unlock(t);
	cr_assert_not_null(f);
	return f;
}

/* Return: exit status of a child, which must not end by a signal */
static inline int rig_reap(pid_t pid)
{
	int status = 0;

	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(WIFEXITED(status), "child ended by signal %d", WTERMSIG(status));
	return WEXITSTATUS(status);
}

#endif
