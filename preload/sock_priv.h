/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sock_priv.h - what the files of socket operations share: an operation on one socket, addresses, where bytes go
 */
#ifndef OWNSTACK_PRELOAD_SOCK_PRIV_H
#define OWNSTACK_PRELOAD_SOCK_PRIV_H

#include <netinet/in.h>
#include "preload_priv.h"

/* ---- sock.c: one operation on one socket ---- */
/*
 * struct op - an operation under way
 *
 *	if (!op_begin(&op, fd))
 *		return kernel_result(libc_next.NAME(...));	the number is the kernel's after all
 *	... shard lock held, op.f is a private socket ...
 *	return op_end(&op, result);
 *
 * In between op_wait() may sleep; it comes back with the lock held and op.f still there, if perhaps without a number.
 */
struct op {
	struct thr *t;
	struct file *f;
	struct sig_scope scope;
	struct sig_scope begun; /* what ran when the kernel's call would have begun, or was restarted last */
	usec_t deadline;	/* of the first wait on; USEC_NEVER: none */
	bool held;		/* a reference of our own on f */
	bool looked;		/* the one look at the wire before EAGAIN was taken */
	bool waited;		/* deadline is set */
	bool partial;		/* something was moved */
	int msg_flags;		/* what recvmsg() tells of it: MSG_OOB, ... */
};
bool op_begin(struct op *op, int fd);
/** op_begin_any() - same, for every kind of file: undecided sockets and epoll sets too */
bool op_begin_any(struct op *op, int fd);
/** op_nonblock() - a call that a handler restarts looks at O_NONBLOCK then, and only then. @was: what it found before */
bool op_nonblock(struct op *op, bool was);
/** op_moved() - octets were moved: any handler that runs from now on ends the call, with what was moved */
void op_moved(struct op *op);
void op_hold(struct op *op); /* keep f over an unlocked stretch */
/** op_end() - gives back what was held, unlocks, sends. Return: @r, for tail calls */
ssize_t op_end(struct op *op, ssize_t r);
/**
 * op_wait() - nothing could be done: wait until it may be worth another look
 * @events:	EPOLLIN, EPOLLOUT
 * @nonblock:	one look at the wire, then -EAGAIN (RULES C5.9)
 * @timeo_us:	SO_RCVTIMEO or SO_SNDTIMEO, 0: none; a call with a limit is not restarted after a signal
 *
 * Shard lock held at entry and at return. Return: 0 look again, -EAGAIN, -EINTR, -ENOMEM
 */
int op_wait(struct op *op, uint32_t events, bool exclusive, bool nonblock, usec_t timeo_us);

static inline struct stack *own_stack(void)
{
	return host->shard.stack;
}

/**
 * op_acted() - the operation is an answer (send, accept, end): what the flush rule waits for
 *
 * An answer on another socket than the one that was reported (a proxy's) counts too, where only one event was given.
 */
static inline void op_acted(const struct op *op)
{
	if (op->f->home_wait == op->t->waiter_index)
		thr_acted(op->t, op->f);
	else if (op->t->undelivered == 1)
		op->t->undelivered = 0;
}

/* ---- addr.c ---- */
union sockaddr_any {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_storage ss;
};
/** addr_from_user() - copies a sockaddr in. -EINVAL (length), -EFAULT */
int addr_from_user(union sockaddr_any *ret, const struct sockaddr *addr, socklen_t len);
/** addr_to_user() - as the kernel's: cut to the room given, whole length told. -EINVAL, -EFAULT */
int addr_to_user(const union sockaddr_any *from, socklen_t from_len, struct sockaddr *addr, socklen_t *len);
/** addr_to_endpoint() - @family of the socket, 4 or 6. -EINVAL (too short), -EAFNOSUPPORT */
int addr_to_endpoint(int family, const union sockaddr_any *a, socklen_t len, struct endpoint *ret_ep);
/** addr_from_endpoint() - Return: length */
socklen_t addr_from_endpoint(int family, const struct endpoint *ep, union sockaddr_any *ret);
bool ipaddr_is_loopback(struct ipaddr a);

/* ---- decide.c: which side an undecided socket is on (RULES C12, C13) ---- */
/**
 * decide_private() - the socket is ours from now on
 * @keep_kernel:	the kernel socket stays under the number (it listens on loopback as well)
 *
 * Lock held at entry and return, dropped in between; the file is held. 0, or -EAGAIN: another thread decided it first
 */
int decide_private(struct op *op, int fd, bool keep_kernel);
/** decide_kernel() - the socket is the kernel's from now on, and @fd no longer ours. Lock held at entry, ends the operation. */
void decide_kernel(struct op *op, int fd);
/** decide_listen_loopback() - the kernel socket under @fd listens on loopback under the private port too. No lock held. */
bool decide_listen_loopback(int fd, int family, bool v6only, uint16_t port, int backlog);

/* ---- sock.c: connecting ---- */
enum { CONNECT_KERNELS = 1 };
/**
 * connect_decide() - the side an address is on, for a socket that connects to it (connect(), MSG_FASTOPEN)
 * Return: 0: private, the operation goes on; else it is over: CONNECT_KERNELS, negative errno
 */
int connect_decide(struct op *op, int fd, const union sockaddr_any *a, socklen_t len);

/* ---- xfer.c ---- */
/** xfer_unlock()/xfer_relock() - a stretch of copying without the lock, handlers put off, f marked busy */
void xfer_unlock(struct op *op, uint32_t *busy);
void xfer_relock(struct op *op, uint32_t *busy, uint32_t events);
#define XFER_TURN_BYTES ((size_t)128 << 10)
/** xfer_push() - in the middle of a long send: what was queued leaves, and what was acknowledged comes in */
void xfer_push(struct op *op, uint32_t *busy, uint32_t events);
/** xfer_send_error() - what a failed send gives: SIGPIPE where it is due. Ends the operation. */
ssize_t xfer_send_end(struct op *op, ssize_t done, ssize_t r, int flags);

/* sendmsg() and recvmsg() on a number of ours; rights.c has what is exported */
ssize_t sk_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t sk_recvmsg(int fd, struct msghdr *msg, int flags);

/* ---- sockopt.c ---- */
/** sockopt_apply() - set one option on a private (or still undecided) socket; @val is in our memory. Lock held. */
int sockopt_apply(struct op *op, int level, int name, const void *val, socklen_t len);

/* ---- cmsg.c: control data of recvmsg() ---- */
enum { STAMP_OFF, STAMP_US, STAMP_NS, STAMP_US_NEW, STAMP_NS_NEW }; /* struct file: stamp */
enum { /* struct file: stamping */
	STAMPING_RX = 1, STAMPING_REPORT = 2, STAMPING_NEW = 4, STAMPING_KEYED = 8,
	STAMPING_TX_SHIFT = 4, /* above: 1 << TCP_STAMP_* */
};
struct cmsg_due {
	usec_t ago_us;		/* when the data came */
	int inq;
	uint8_t stamp, has_inq, stamping;
};
/** cmsg_note() - what is to be told with a receive that gave @r. Lock held. */
void cmsg_note(const struct op *op, ssize_t r, struct cmsg_due *ret);
/** cmsg_give() - writes it to the program's buffer; length and flags of @m, which is ours, follow. -EFAULT. No lock held. */
int cmsg_give(struct msghdr *m, const struct cmsg_due *due);
/** cmsg_give_errq() - same for what recvmsg(MSG_ERRQUEUE) gives; @stamping of the file */
int cmsg_give_errq(struct msghdr *m, const struct tcp_errq_view *e, int family, uint8_t stamping, usec_t now);

/* ---- kopt.c: options that the stack has no use for, as the kernel has them ---- */
/** kopt_set() - lock held at entry, ends the operation. 0 or what the kernel says */
int kopt_set(struct op *op, int level, int name, const void *val, socklen_t len);
int kopt_get(struct op *op, int level, int name, void *val, socklen_t *len);
/** kopt_note() - the kernel's own socket under @fd took it while undecided. Lock held at entry and return. */
int kopt_note(struct op *op, int fd, int level, int name, const void *val, socklen_t len);
/** kopt_stamp_kinds() - SOF_TIMESTAMPING_TX_* as 1 << TCP_STAMP_* */
unsigned kopt_stamp_kinds(uint32_t flags);
/** kopt_listens() - the socket begins to listen: what the stack must know then. Lock held. */
void kopt_listens(struct file *f);
/** kopt_inherit() - what an accepted connection has of its listener. Lock held. -ENOBUFS */
int kopt_inherit(struct file *to, const struct file *from);

/* ---- epoll.c ---- */
/** epoll_forget_undecided() - takes @f out of the kernel's epoll sets, before its side flips. No lock held on return or entry. */
void epoll_leave_kernel(struct op *op);

#endif
