/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sock.c - life of a socket: socket, bind, listen, accept, connect, shutdown, names
 *
 * Every operation has the same shape (struct op): enter, lock, look what the number means, operate on the stack, leave.
 * decide.c says when a socket becomes ours. A socket that the kernel keeps costs one look into the descriptor table.
 */
#include <linux/capability.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "../host/join.h"
#include "sock_priv.h"

/* ---- operations ---- */

static bool op_enter(struct op *op, int fd)
{
	op->t = thr_enter();
	if (unlikely(!op->t))
		return false;
	op->held = op->looked = op->waited = op->partial = false;
	op->msg_flags = 0;
	sig_scope_begin(&op->scope);
	op->begun = op->scope;
	shard_lock(op->t);
	op->f = fd_file(fd);
	return op->f != NULL;
}

bool op_begin(struct op *op, int fd)
{
	if (likely(op_enter(op, fd) && op->f->kind == FILE_TCP))
		return true;
	if (op->t)
		shard_unlock(op->t);
	return false;
}

bool op_begin_any(struct op *op, int fd)
{
	if (op_enter(op, fd) && op->f->kind != FILE_KERNEL)
		return true;
	if (op->t)
		shard_unlock(op->t);
	return false;
}

void op_hold(struct op *op)
{
	if (!op->held)
		file_hold(op->t, op->f);
	op->held = true;
}

ssize_t op_end(struct op *op, ssize_t r)
{
	if (op->held)
		file_release(op->t, op->f);
	thr_leave(op->t);
	return r;
}

/* A handler may leave the sleep by siglongjmp(), so that nothing may be held by this operation then: file_wait() holds it. */
static bool op_let_go(struct op *op)
{
	uint64_t handle = file_handle(op->f);

	if (op->held)
		file_release(op->t, op->f);
	op->held = false;
	return file_get(handle) == op->f;
}

int op_wait(struct op *op, uint32_t events, bool exclusive, bool nonblock, usec_t timeo_us)
{
	if (nonblock) {
		if (op->looked)
			return -EAGAIN;
		op->looked = true;
		op_hold(op);
		op_acted(op);
		thr_leave(op->t);
		drive_once(op->t);
		shard_lock(op->t);
		return 0;
	}
	if (!op->waited)
		op->deadline = timeo_us ? op->t->now + timeo_us : USEC_NEVER;
	op->waited = true;
	if (!op_let_go(op))
		return -EBADF; /* closed by another thread */
	return file_wait(&op->t, op->f, events, exclusive, op->deadline, &op->scope, timeo_us == 0 && !op->partial);
}

bool op_nonblock(struct op *op, bool was)
{
	if (was || !sig_scope_interrupted(&op->begun, false))
		return was;
	sig_scope_begin(&op->begun);
	return op->f->status & O_NONBLOCK;
}

void op_moved(struct op *op)
{
	if (!op->partial && !sig_scope_interrupted(&op->scope, true))
		sig_scope_begin(&op->scope);
	op->partial = true;
}

/* ---- socket ---- */

/* Shard lock held. Return: 0, -ENOBUFS */
static int undecided_new(struct thr *t, int fd, int family, int type, uint32_t uid)
{
	struct file *f = file_new(FILE_UNDECIDED, family);
	int r = -ENOBUFS;

	if (!f)
		return r;
	file_ref(f);
	f->tcb = tcp_open(own_stack(), family, file_handle(f), t->now);
	if (f->tcb) {
		f->status = type & SOCK_NONBLOCK ? O_NONBLOCK : 0;
		tcp_opts(f->tcb)->uid = uid;
		r = fd_install(t, fd, f, type & SOCK_CLOEXEC ? FDENT_CLOEXEC : 0);
	}
	file_unref(t, f);
	return r ? -ENOBUFS : 0;
}

int sk_socket(int domain, int type, int protocol)
{
	int fd = libc_next.socket(domain, type, protocol);
	uint32_t uid = (uint32_t)geteuid();
	struct thr *t;
	int r;

	if (fd < 0)
		return -errno;
	t = thr_enter();
	if (!t)
		return fd_forget(fd);
	shard_lock(t);
	r = undecided_new(t, fd, domain == AF_INET ? 4 : 6, type, uid);
	thr_leave(t);
	if (!r)
		return stdio_follow(fd);
	libc_next.close(fd);
	return r;
}

/* ---- bind ---- */

/* ip_unprivileged_port_start belongs to the kernel's network; a private host has the default, 1024. */
static bool port_is_allowed(uint16_t port)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (!port || port >= 1024)
		return true;
	return libc_next.syscall(SYS_capget, &head, data) == 0 && data[0].effective & 1u << CAP_NET_BIND_SERVICE;
}

static int bind_endpoint(const struct op *op, union sockaddr_any *a, socklen_t len, struct endpoint *ret_ep)
{
	int r;

	/* Linux: AF_UNSPEC with the wildcard is good for IPv4 */
	if (op->f->family == 4 && len >= sizeof(a->in) && a->sa.sa_family == AF_UNSPEC &&
	    a->in.sin_addr.s_addr == htonl(INADDR_ANY))
		a->sa.sa_family = AF_INET;
	r = addr_to_endpoint(op->f->family, a, len, ret_ep);
	if (!r && op->f->family == 6 && ipaddr_is_v4(ret_ep->addr) && tcp_opts(op->f->tcb)->v6only)
		return -EINVAL;
	return r;
}

static int bind_private(struct op *op, const struct endpoint *ep, bool allowed)
{
	if (!allowed)
		return -EACCES;
	return tcp_bind(own_stack(), op->f->tcb, ep, op->t->now);
}

/* The address is not ours: the kernel answers, and keeps the socket if it takes the address. */
static int bind_kernel(struct op *op, int fd, const union sockaddr_any *a, socklen_t len)
{
	int r;

	op_hold(op);
	shard_unlock(op->t);
	r = (int)kernel_result(libc_next.bind(fd, &a->sa, len));
	shard_lock(op->t);
	if (r || op->f->kind != FILE_UNDECIDED)
		return (int)op_end(op, r);
	decide_kernel(op, fd);
	return 0;
}

static int bind_undecided(struct op *op, int fd, union sockaddr_any *a, socklen_t len, bool allowed)
{
	struct endpoint ep;
	int r;

	if (op->f->bound)
		return (int)op_end(op, -EINVAL);
	if (bind_endpoint(op, a, len, &ep))
		return bind_kernel(op, fd, a, len); /* which says what is wrong */
	if (ipaddr_is_any(ep.addr)) {
		r = bind_private(op, &ep, allowed);
		op->f->bound = r == 0;
		return (int)op_end(op, r);
	}
	if (!stack_addr_is_ours(own_stack(), ep.addr))
		return bind_kernel(op, fd, a, len);
	r = allowed ? decide_private(op, fd, false) : -EACCES;
	if (r == -EAGAIN)
		r = -EINVAL; /* another thread bound or connected it meanwhile */
	if (!r)
		r = bind_private(op, &ep, allowed);
	/* What the kernel's epoll set had to tell of it and had not told yet is ours to tell: it still hangs up. */
	if (op->f->kind == FILE_TCP)
		file_notify(op->t, op->f, file_poll(op->f));
	return (int)op_end(op, r);
}

static int bind_once(int fd, const struct sockaddr *addr, socklen_t len)
{
	union sockaddr_any a;
	struct endpoint ep;
	struct op op;
	bool allowed;
	int r = addr_from_user(&a, addr, len);

	allowed = r || port_is_allowed(ntohs(a.in.sin_port)); /* in6 has it at the same place */
	if (!op_begin_any(&op, fd))
		return (int)kernel_result(libc_next.bind(fd, addr, len));
	if (op.f->kind == FILE_EPOLL)
		return (int)op_end(&op, -ENOTSOCK);
	if (r)
		return (int)op_end(&op, r);
	if (op.f->kind == FILE_UNDECIDED)
		return bind_undecided(&op, fd, &a, len, allowed);
	r = bind_endpoint(&op, &a, len, &ep);
	return (int)op_end(&op, r ? r : bind_private(&op, &ep, allowed));
}

/* The port may be that of a process which was killed just now: ends are dropped by the keeper (slot.h) */
int sk_bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	int r = bind_once(fd, addr, len);

	return r == -EADDRINUSE && host_joined() && slots_bury() ? bind_once(fd, addr, len) : r;
}

/* ---- listen ---- */

static int listen_undecided(struct op *op, int fd, int backlog)
{
	struct file *f = op->f;
	struct endpoint local;
	bool keep = false, v6only;
	int r = tcp_listen(own_stack(), f->tcb, backlog, op->t->now);

	if (r)
		return r;
	kopt_listens(f);
	op_hold(op);
	tcp_local(f->tcb, &local);
	v6only = tcp_opts(f->tcb)->v6only;
	if (host->listen_both && ipaddr_is_any(local.addr) && !host->loopback_private) {
		shard_unlock(op->t);
		keep = decide_listen_loopback(fd, f->family, v6only, local.port, backlog);
		if (!keep && host->verbose)
			libc_next.dprintf(2, "ownstack: listen_both=loopback: port %u is not to be had on the kernel's loopback: %m; "
				"only the private address answers\n", local.port);
		shard_lock(op->t);
	}
	r = decide_private(op, fd, keep);
	f->kernel_listens = keep && !r;
	return r == -EAGAIN ? -EINVAL : r;
}

static int listen_once(int fd, int backlog)
{
	struct op op;
	bool kernel_too;
	int r;

	if (!op_begin_any(&op, fd))
		return (int)kernel_result(libc_next.listen(fd, backlog));
	if (op.f->kind == FILE_EPOLL)
		return (int)op_end(&op, -ENOTSOCK);
	if (op.f->kind == FILE_UNDECIDED)
		return (int)op_end(&op, listen_undecided(&op, fd, backlog));
	r = tcp_listen(own_stack(), op.f->tcb, backlog, op.t->now);
	if (!r)
		kopt_listens(op.f);
	kernel_too = op.f->kernel_listens;
	op_end(&op, 0);
	if (!r && kernel_too)
		libc_next.listen(fd, backlog);
	return r;
}

int sk_listen(int fd, int backlog)
{
	int r = listen_once(fd, backlog);

	return r == -EADDRINUSE && host_joined() && slots_bury() ? listen_once(fd, backlog) : r;
}

/* ---- accept ---- */

/**
 * accept_take() - the oldest connection of the listener, under a number of its own
 *
 * The number is made before the connection is taken, without the lock: where there is none (EMFILE) the connection stays
 * queued. Another thread may have been faster meanwhile.
 *
 * Return: descriptor, -EAGAIN, -EMFILE, -ENFILE, -ENOBUFS
 */
static int accept_take(struct op *op, int flags, struct endpoint *ret_peer)
{
	struct file *f;
	struct tcb *tcb;
	int fd, r;

	op_hold(op);
	shard_unlock(op->t);
	fd = spare_fd_take(flags & SOCK_CLOEXEC);
	shard_lock(op->t);
	if (fd < 0)
		return fd;
	f = file_new(FILE_TCP, op->f->family);
	r = f ? tcp_accept(own_stack(), op->f->tcb, &tcb) : -ENOBUFS;
	if (f)
		file_ref(f);
	if (!r) {
		f->tcb = tcb;
		f->status = flags & SOCK_NONBLOCK ? O_NONBLOCK : 0;
		f->rcvtimeo_us = op->f->rcvtimeo_us;
		f->sndtimeo_us = op->f->sndtimeo_us;
		kopt_inherit(f, op->f);
		tcp_set_user(tcb, file_handle(f));
		tcp_peer(tcb, ret_peer);
		r = fd_install(op->t, fd, f, flags & SOCK_CLOEXEC ? FDENT_CLOEXEC : 0);
	}
	if (f)
		file_unref(op->t, f);
	if (!r)
		return fd;
	shard_unlock(op->t);
	libc_next.close(fd);
	shard_lock(op->t);
	return r;
}

/* A wildcard listener has a kernel socket as well, which never blocks. Return: descriptor or negative errno */
static int accept_kernel(struct op *op, int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	int r;

	op_hold(op);
	shard_unlock(op->t);
	spare_fd_drop();
	r = fd_forget((int)kernel_result(libc_next.accept4(fd, addr, len, flags)));
	shard_lock(op->t);
	return r;
}

struct both_wait {
	struct thr *t;
	struct file *f; /* NULL: undone */
};

/* Shard lock held. */
static void both_wait_undo_locked(struct both_wait *b)
{
	if (!b->f)
		return;
	watch_disarm_all(b->t);
	file_release(b->t, b->f);
	b->f = NULL;
}

static void both_wait_undo(void *arg)
{
	struct both_wait *b = arg;

	shard_lock(b->t);
	watch_pass_on(b->t);
	both_wait_undo_locked(b);
	thr_leave(b->t);
}

/* Lock dropped meanwhile, so that another look must follow. */
static int accept_keep_number(struct op *op)
{
	int r;

	op_hold(op);
	shard_unlock(op->t);
	r = spare_fd_keep();
	shard_lock(op->t);
	return r;
}

/* As op_wait(), on both sides at once. */
static int accept_wait_both(struct op *op, int fd)
{
	struct pollfd kfds[2] = { { .fd = fd, .events = POLLIN } };
	struct drive_wait w = { .kfds = kfds, .n_kfds = 1 };
	usec_t timeo_us = op->f->rcvtimeo_us;
	uint64_t handle = file_handle(op->f);
	struct both_wait b;
	uint32_t seen;
	int r;

	if (!op->waited)
		op->deadline = timeo_us ? op->t->now + timeo_us : USEC_NEVER;
	op->waited = true;
	if (!op_let_go(op))
		return -EBADF;
	if (watch_arm_exclusive(op->t, op->f, EPOLLIN))
		return -ENOMEM;
	w.deadline = op->deadline;
	seen = op->t->waker->word;
	b = (struct both_wait){ op->t, op->f };
	file_hold(op->t, op->f);
	thr_leave_hold(op->t);
	r = own_wait(op->t, seen, &w, &op->scope, timeo_us == 0, both_wait_undo, &b);
	op->t = thr_enter();
	shard_lock(op->t);
	if (b.f && (r <= 0 || r & IO_WAIT_KFD)) /* it may act on the kernel's side instead */
		watch_pass_on(op->t);
	both_wait_undo_locked(&b);
	if (file_get(handle) != op->f)
		return -EBADF;
	return r > 0 ? 0 : r == 0 ? -EAGAIN : r;
}

static int accept_private(struct op *op, int fd, struct sockaddr *addr, socklen_t *len, int flags, struct endpoint *ret_peer,
			  bool *ret_by_kernel)
{
	static _Atomic unsigned turn; /* the kernel's side is asked first once in a while, so that it is never starved */
	struct file *f = op->f;
	bool nonblock = f->status & O_NONBLOCK, kernel_first = f->kernel_listens && turn++ % 32 == 0;
	bool ask_kernel = f->kernel_listens, kept = false;
	int r;

	for (;;) { /* whatever drops the lock is followed by another look at our side, before the sleep is prepared */
		if (tcp_state(f->tcb) != TCPS_LISTEN)
			return -EINVAL;
		if (!kernel_first && tcp_poll(f->tcb) & TCP_EV_IN) {
			r = accept_take(op, flags, ret_peer);
			if (r != -EAGAIN)
				return r;
			continue;
		}
		if (ask_kernel) {
			r = accept_kernel(op, fd, addr, len, flags);
			*ret_by_kernel = r >= 0;
			if (r != -EAGAIN)
				return r;
			ask_kernel = kernel_first = false;
			continue;
		}
		if (!nonblock && !kept) {
			r = accept_keep_number(op);
			if (r)
				return r;
			kept = true;
			continue;
		}
		kept = false;
		r = f->kernel_listens && !nonblock ? accept_wait_both(op, fd)
						   : op_wait(op, EPOLLIN, true, nonblock, f->rcvtimeo_us);
		if (r)
			return r;
		nonblock = op_nonblock(op, nonblock);
		ask_kernel = f->kernel_listens && !nonblock;
	}
}

static int accept_any(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	union sockaddr_any peer;
	struct endpoint ep = { 0 };
	bool by_kernel = false;
	socklen_t peer_len;
	struct op op;
	int r, family;

	if (!op_begin(&op, fd))
		return fd_forget((int)kernel_result(libc_next.accept4(fd, addr, len, flags)));
	if (flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK))
		return (int)op_end(&op, -EINVAL);
	op_acted(&op);
	family = op.f->family;
	r = accept_private(&op, fd, addr, len, flags, &ep, &by_kernel);
	peer_len = addr_from_endpoint(family, &ep, &peer);
	op_end(&op, 0);
	spare_fd_drop();
	if (r >= 0 && !by_kernel && addr) {
		int bad = addr_to_user(&peer, peer_len, addr, len);

		if (bad) { /* as Linux: the connection is lost */
			fd_close_private(r);
			return bad;
		}
	}
	return stdio_follow(r);
}

EXPORT(int, accept4, (int fd, struct sockaddr *addr, socklen_t *len, int flags))
{
	int saved = errno;

	if (likely(!fdtab_lookup(fd)))
		return fd_forget(libc_next.accept4(fd, addr, len, flags));
	return (int)errno_result(accept_any(fd, addr, len, flags), saved);
}

EXPORT(int, accept, (int fd, struct sockaddr *addr, socklen_t *len))
{
	int saved = errno;

	if (likely(!fdtab_lookup(fd)))
		return fd_forget(libc_next.accept(fd, addr, len));
	return (int)errno_result(accept_any(fd, addr, len, 0), saved);
}

/* ---- connect ---- */

enum side { SIDE_KERNEL, SIDE_PRIVATE, SIDE_NOWHERE };

/*
 * IPv6 addresses that the host cannot reach do not go to the kernel by themselves: AAAA answers would otherwise walk round
 * the private stack (RULES C12).
 */
static enum side connect_side(const struct op *op, const union sockaddr_any *a, socklen_t len)
{
	struct endpoint to;
	const char *leak;

	if (addr_to_endpoint(op->f->family, a, len, &to))
		return SIDE_KERNEL; /* which says what is wrong with the address */
	if (stack_addr_is_ours(own_stack(), to.addr))
		return SIDE_PRIVATE;
	if (ipaddr_is_any(to.addr)) /* means loopback */
		return host->loopback_private ? SIDE_PRIVATE : SIDE_KERNEL;
	if (ipaddr_is_loopback(to.addr))
		return SIDE_KERNEL;
	if (stack_has_route(own_stack(), to.addr))
		return SIDE_PRIVATE;
	if (ipaddr_is_v4(to.addr))
		return SIDE_KERNEL;
	leak = getenv("OWNSTACK_LEAK_V6");
	return leak && *leak == '1' ? SIDE_KERNEL : SIDE_NOWHERE;
}

/* A port reserved by an earlier bind to the wildcard is now wanted in the kernel. Ends the operation. */
static int leave_to_kernel(struct op *op, int fd, const union sockaddr_any *a, socklen_t len)
{
	struct endpoint local;
	union sockaddr_any from;
	socklen_t from_len = 0;
	struct endpoint to;

	if (!addr_to_endpoint(op->f->family, a, len, &to)) {
		if (op->f->bound) {
			tcp_local(op->f->tcb, &local);
			from_len = addr_from_endpoint(op->f->family, &local, &from);
		}
		decide_kernel(op, fd);
	} else {
		op_end(op, 0);
	}
	if (from_len && libc_next.bind(fd, &from.sa, from_len) < 0)
		return -errno;
	return 0;
}

int connect_decide(struct op *op, int fd, const union sockaddr_any *a, socklen_t len)
{
	int r;

	if (op->f->kind == FILE_TCP)
		return 0;
	switch (connect_side(op, a, len)) {
	case SIDE_KERNEL:
		r = leave_to_kernel(op, fd, a, len);
		return r ? r : CONNECT_KERNELS;
	case SIDE_NOWHERE:
		return (int)op_end(op, -ENETUNREACH);
	case SIDE_PRIVATE:
		if (!decide_private(op, fd, false) || op->f->kind == FILE_TCP)
			return 0;
	}
	op_end(op, 0);
	return CONNECT_KERNELS;
}

static int connect_private(struct op *op, const union sockaddr_any *a, socklen_t len)
{
	struct stack *st = own_stack();
	struct file *f = op->f;
	bool nonblock = f->status & O_NONBLOCK;
	struct endpoint to = { .port = 0 };
	int r;

	if (len < sizeof(a->sa.sa_family))
		return -EINVAL;
	if (a->sa.sa_family == AF_UNSPEC) {
		f->disconnects++;
		return tcp_disconnect(st, f->tcb, op->t->now);
	}
	r = addr_to_endpoint(f->family, a, len, &to);
	if (r && tcp_connects_anew(f->tcb))
		return r;
	r = tcp_connect(st, f->tcb, &to, op->t->now);
	while (!nonblock && (r == -EINPROGRESS || r == -EALREADY)) { /* asked again, it tells how it went */
		r = op_wait(op, EPOLLOUT, false, false, f->sndtimeo_us);
		if (r)
			return r == -EAGAIN ? -EINPROGRESS : r;
		r = tcp_connect(st, f->tcb, &to, op->t->now);
	}
	if (r < 0 && r != -EISCONN && tcp_state(f->tcb) == TCPS_CLOSED) /* as good as new, as Linux does after a failure was told */
		tcp_disconnect(st, f->tcb, op->t->now);
	return r;
}

int sk_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	union sockaddr_any a;
	struct op op;
	int r;

	if (!op_begin_any(&op, fd))
		return (int)kernel_result(libc_next.connect(fd, addr, len));
	r = addr_from_user(&a, addr, len);
	if (!r && op.f->kind == FILE_EPOLL)
		r = -ENOTSOCK;
	if (r)
		return (int)op_end(&op, r);
	r = connect_decide(&op, fd, &a, len);
	if (r == CONNECT_KERNELS)
		return (int)kernel_result(libc_next.connect(fd, addr, len));
	return r ? r : (int)op_end(&op, connect_private(&op, &a, len));
}

/* ---- shutdown, names ---- */

int sk_shutdown(int fd, int how)
{
	struct op op;
	bool kernel_too;
	int r;

	if (!op_begin(&op, fd))
		return (int)kernel_result(libc_next.shutdown(fd, how));
	if (how < SHUT_RD || how > SHUT_RDWR)
		return (int)op_end(&op, -EINVAL);
	kernel_too = op.f->kernel_listens && how != SHUT_WR;
	if (kernel_too)
		op.f->kernel_listens = 0;
	op_acted(&op);
	r = tcp_shutdown(own_stack(), op.f->tcb, how, op.t->now);
	op_end(&op, 0);
	if (kernel_too)
		libc_next.shutdown(fd, how);
	return r;
}

int sk_getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
	union sockaddr_any a;
	struct endpoint ep;
	socklen_t a_len;
	struct op op;

	if (!op_begin_any(&op, fd))
		return (int)kernel_result(libc_next.getsockname(fd, addr, len));
	if (op.f->kind == FILE_EPOLL || (op.f->kind == FILE_UNDECIDED && !op.f->bound)) {
		op_end(&op, 0);
		return (int)kernel_result(libc_next.getsockname(fd, addr, len));
	}
	tcp_local(op.f->tcb, &ep);
	a_len = addr_from_endpoint(op.f->family, &ep, &a);
	op_end(&op, 0);
	return addr_to_user(&a, a_len, addr, len);
}

int sk_getpeername(int fd, struct sockaddr *addr, socklen_t *len)
{
	union sockaddr_any a;
	struct endpoint ep;
	socklen_t a_len;
	struct op op;
	int r;

	if (!op_begin(&op, fd))
		return (int)kernel_result(libc_next.getpeername(fd, addr, len));
	r = tcp_peer(op.f->tcb, &ep);
	if (r)
		return (int)op_end(&op, r);
	a_len = addr_from_endpoint(op.f->family, &ep, &a);
	op_end(&op, 0);
	return addr_to_user(&a, a_len, addr, len);
}

int sk_sockatmark(int fd)
{
	struct op op;

	if (!op_begin(&op, fd))
		return (int)kernel_result(libc_next.sockatmark(fd));
	return (int)op_end(&op, tcp_at_mark(op.f->tcb));
}
