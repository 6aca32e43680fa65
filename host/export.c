/* SPDX-License-Identifier: BSD-2-Clause */
/* export.c - rows of exported sockets, and the message that brings one to the keeper; what for stands in export.h */
#include <errno.h>
#include <string.h>
#include "export.h"
#include "ready.h"
#include "slot.h"
#include "sys.h"

static struct export **bucket(uint64_t ino)
{
	return &host->export_bucket[ino % PASSPORT_BUCKETS];
}

static void chain(struct export *x)
{
	x->next = *bucket(x->ino);
	*bucket(x->ino) = x; /* last: a chain is whole at any moment */
}

struct export *export_new(struct file *f, enum export_kind kind, uint64_t ino, uint64_t keeper_ino)
{
	struct export *x = slab_alloc(&host->exports);

	if (!x)
		return NULL;
	file_moves(f);
	file_ref(f);
	atomic_fetch_add(&f->numbers, 1); /* the numbers of programs that have no table */
	x->file = f;
	x->ino = ino;
	x->keeper_ino = keeper_ino;
	x->slot = slot_self();
	x->kind = kind; /* last: a row without it was not filled in */
	if (ino)
		chain(x);
	return x;
}

void export_free(struct thr *t, struct export *x)
{
	struct file *f = x->file;

	file_moves(f);
	for (struct export **at = bucket(x->ino); x->ino && *at; at = &(*at)->next) {
		if (*at == x) {
			*at = x->next;
			break;
		}
	}
	slab_free(&host->exports, x);
	atomic_fetch_sub(&f->numbers, 1);
	file_unref(t, f);
}

struct export *export_find(uint64_t ino)
{
	struct export *x = *bucket(ino);

	while (x && x->ino != ino)
		x = x->next;
	return x;
}

bool exports_any(void)
{
	return __atomic_load_n(&host->exports.in_use, __ATOMIC_RELAXED) != 0;
}

void exports_drop(struct thr *t)
{
	struct export *x;

	for (uint32_t c = 0; (x = slab_next(&host->exports, &c));)
		export_free(t, x);
}

uint32_t exports_of(const struct file *f)
{
	struct export *x;
	uint32_t n = 0;

	for (uint32_t c = 0; (x = slab_next(&host->exports, &c));)
		n += x->file == f;
	return n;
}

void exports_repair(void)
{
	struct export *x;

	slab_rebuild(&host->exports);
	memset(host->export_bucket, 0, sizeof(host->export_bucket));
	for (uint32_t c = 0; (x = slab_next(&host->exports, &c));) {
		if (!x->kind || slab_at(&host->files, slab_index(&host->files, x->file)) != x->file)
			slab_free(&host->exports, x); /* died before it was filled in */
		else if (x->ino)
			chain(x);
	}
}

union fd_room {
	struct cmsghdr align;
	char buf[CMSG_SPACE(sizeof(int))];
};

ssize_t fd_send(int conn, const void *msg, size_t n, int fd)
{
	union fd_room room = { 0 };
	struct iovec iov = { (void *)(uintptr_t)msg, n };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		m.msg_control = &room;
		m.msg_controllen = CMSG_SPACE(sizeof(int));
		room.align.cmsg_level = SOL_SOCKET;
		room.align.cmsg_type = SCM_RIGHTS;
		room.align.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&room.align), &fd, sizeof(fd));
	}
	return sys_sendmsg(conn, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
}

ssize_t fd_recv(int conn, void *msg, size_t n, int *ret_fd)
{
	union fd_room room;
	struct iovec iov = { msg, n };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &room, .msg_controllen = sizeof(room) };
	ssize_t r = sys_recvmsg(conn, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = r < 0 ? NULL : CMSG_FIRSTHDR(&m);

	*ret_fd = -1;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(ret_fd, CMSG_DATA(c), sizeof(int));
	return r;
}

int export_send(int bell, const struct export_msg *msg, int fd)
{
	struct pollfd p = { .fd = bell, .events = POLLOUT };
	ssize_t r;

	while ((r = fd_send(bell, msg, sizeof(*msg), fd)) == -EAGAIN)
		sys_poll(&p, 1, 10); /* the keeper's queue is short; POLLOUT of an unconnected receiver's is not exact */
	return r < 0 ? (int)r : 0;
}

int export_recv(int bell, struct export_msg *ret, int *ret_fd)
{
	ssize_t n = fd_recv(bell, ret, sizeof(*ret), ret_fd);

	if (n < 0)
		return (int)n;
	if (n != (ssize_t)sizeof(*ret))
		*ret = (struct export_msg){ 0 }; /* a ring */
	return 0;
}
