/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * decide.c - kernel or private: settled as late as the program allows (RULES C12, C13)
 *
 * Theory of operation
 *
 * socket() cannot know which side it will be on. It makes both: a kernel socket under the number, and a file of kind
 * UNDECIDED with a closed connection of ours. Until the decision the number behaves as the kernel socket does; what
 * could matter later is done to both (options, a bind to a wildcard) or noted in the file's own watches (epoll).
 *
 *   bind     to an address of the host: private. To another one: kernel, if that takes it. To a wildcard: decides
 *            nothing, the port is reserved on the private side only, so that the same number stays free in the kernel for
 *            whatever is there already.
 *   listen   private, except where bind decided. A wildcard listener leaves its kernel socket listening on loopback under
 *            the same port (listen_both=loopback), and accept() merges both.
 *   connect  an address the host owns or has a route to: private; else the kernel's.
 *
 * Decided for the kernel, the number is simply forgotten: not one look is spent on it from then on. Other numbers of the
 * same description (dup, fork) still lead to the file; its kind says KERNEL and they pass through.
 *
 * Decided for us, epoll sets that hold the kernel socket let go of it before the flip (they would report a dead socket for
 * ever afterwards, T17); the file's watches take over with the same data. Then the placeholder is put over the number, if it
 * is the only one in the only process, else the kernel socket itself stays as the placeholder.
 */
#include "../host/join.h"
#include "sock_priv.h"

static void put_placeholder(int fd, bool cloexec)
{
	int placeholder = host_placeholder_fd();

	if (placeholder >= 0)
		libc_next.dup3(placeholder, fd, cloexec ? O_CLOEXEC : 0);
}

int decide_private(struct op *op, int fd, bool keep_kernel)
{
	struct fdent *ent;
	bool swap, cloexec;

	op_hold(op);
	if (!keep_kernel)
		epoll_leave_kernel(op);
	if (op->f->kind != FILE_UNDECIDED)
		return -EAGAIN;
	op->f->kind = FILE_TCP;
	ent = fdtab_lookup(fd);
	cloexec = ent && ent->flags & FDENT_CLOEXEC;
	swap = !keep_kernel && ent && op->f->numbers == 1;
	if (swap) {
		shard_unlock(op->t);
		put_placeholder(fd, cloexec);
		shard_lock(op->t);
	}
	return 0;
}

void decide_kernel(struct op *op, int fd)
{
	struct file *f = op->f, *mine;

	f->kind = FILE_KERNEL;
	if (f->tcb)
		tcp_close(own_stack(), f->tcb, op->t->now);
	f->tcb = NULL;
	op_hold(op);
	mine = fdtab_clear(fd);
	if (mine)
		file_unref(op->t, mine);
	op_end(op, 0);
}

/*
 * Loopback under the same port. A dual-stack socket can hold one address only: 127.0.0.1 is what clients end up with.
 */
static socklen_t loopback_addr(int family, bool v6only, uint16_t port, union sockaddr_any *ret)
{
	struct endpoint ep = { ipaddr_v4(htonl(INADDR_LOOPBACK)), port };

	if (family == 6 && v6only)
		ep.addr = (struct ipaddr){ .b = { [15] = 1 } };
	return addr_from_endpoint(family, &ep, ret);
}

bool decide_listen_loopback(int fd, int family, bool v6only, uint16_t port, int backlog)
{
	union sockaddr_any a;
	socklen_t len = loopback_addr(family, v6only, port, &a);
	int status;

	if (libc_next.bind(fd, &a.sa, len) < 0 || libc_next.listen(fd, backlog) < 0)
		return false;
	/* accept() looks there without waiting; what the program set is kept in the file */
	status = libc_next.fcntl(fd, F_GETFL);
	return status >= 0 && libc_next.fcntl(fd, F_SETFL, status | O_NONBLOCK) == 0;
}
