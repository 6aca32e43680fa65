/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * export.h - private sockets under the hands of programs that cannot be ours (RULES C8)
 *
 * An exported connection is one end of a socket pair for the program, and the other end at the keeper, which moves octets
 * between it and the connection (pumps.c). An exported listener is a listening TCP socket of the kernel's on loopback, to which
 * the keeper connects for each private connection. Known to processes of the host by the inode of the program's end.
 */
#ifndef OWNSTACK_HOST_EXPORT_H
#define OWNSTACK_HOST_EXPORT_H

#include "host.h"

struct thr;

/** export_new() - a row for @f, which gets one reference and one number more. NULL: arena full. Shard lock. */
struct export *export_new(struct file *f, enum export_kind kind, uint64_t ino, uint64_t keeper_ino);
/** export_free() - the row goes, and its reference with it. Shard lock. */
void export_free(struct thr *t, struct export *x);
/** export_find() - the row whose outer end has inode @ino. Shard lock. */
struct export *export_find(uint64_t ino);
/** exports_any() - without the lock: is it worth asking */
bool exports_any(void);
/** exports_drop() - a new keeper: the ends that its predecessor held are gone. Shard lock. */
void exports_drop(struct thr *t);
/** exports_of() - how many rows stand for @f */
uint32_t exports_of(const struct file *f);
/** exports_repair() - after a broken lock: slab and chains made anew. Shard lock. */
void exports_repair(void);

/* ---- preload/ to keeper: through the bell, with the keeper's end where there is one ---- */
struct export_msg {
	uint64_t handle;      /* of the row; 0: a socket is wanted (window.c) */
	int32_t domain, type; /* of that socket */
};
/** export_send() - to the keeper, over @bell; @fd: the keeper's end, -1: a listener. 0, negative errno. No lock held. */
int export_send(int bell, const struct export_msg *msg, int fd);
/** export_recv() - keeper: next message; -EAGAIN. *@ret_fd: -1 where there is none. A ring is one with neither. */
int export_recv(int bell, struct export_msg *ret, int *ret_fd);
/** fd_send(), fd_recv() - one message with a descriptor, @fd or *@ret_fd -1: without. Octets or negative errno; never sleep */
ssize_t fd_send(int conn, const void *msg, size_t n, int fd);
ssize_t fd_recv(int conn, void *msg, size_t n, int *ret_fd);

#endif
