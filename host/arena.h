/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * arena.h - the shared memory of a private host: made by the warden, formatted by the keeper, mapped by all who join (RULES C11)
 */
#ifndef OWNSTACK_HOST_ARENA_H
#define OWNSTACK_HOST_ARENA_H

#include "config.h"
#include "host.h"

/** arena_create() - gives a sealed, sparse memfd of @bytes (CLOEXEC), or negative errno. Needs no privilege, maps nothing. */
int arena_create(size_t bytes);

/**
 * arena_map() - map @memfd at ARENA_BASE; sets `host`
 * @writable:	false for those who only look
 *
 * Return: 0; -EEXIST: the address range is taken in this process, -ENOMEM: RLIMIT_AS, -EPROTO: not formatted, or by another
 * version of this library. With -EPROTO nothing stays mapped.
 */
int arena_map(int memfd, bool writable);
void arena_unmap(void);

/** arena_layout_hash() - differs between builds whose structures in the arena differ */
uint64_t arena_layout_hash(void);

struct host_device { /* what the warden found when it opened the device */
	enum io_kind kind;
	char ifname[16];
	uint32_t ifindex;	/* 0: not known */
	uint64_t ip6_secret[2];	/* of interface ids (RFC 7217) */
	struct netdev_caps caps;
};

/**
 * host_format() - make a host out of a fresh arena: slabs, stack, addresses, routes
 * @memfd:	sealed and empty
 *
 * The magic is stored last: who sees it sees a whole host. Sets `host`, mapped writable.
 * Return: 0, or negative errno and one line in @ret_err
 */
int host_format(int memfd, const struct config *cfg, const struct host_device *dev, uint32_t owner_uid, const uint8_t token[16],
		char *ret_err, size_t err_bytes);

#endif
