/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * xfer.c - bytes between the program and the stack: read, recv, write, send and their relatives
 *
 * Theory of operation
 *
 * All calls are one of two loops, sock_recv() and sock_send(), over a cursor on the program's buffers (struct uio). Each
 * turn asks the stack for cells (tcp_recv_begin, tcp_send_begin), moves bytes, and tells it how many. Up to 2 KiB are moved
 * under the shard lock; for more the socket's direction is marked busy, the lock released, the bytes moved, and the lock
 * taken again (RULES C10), so that neither a page fault nor 64 KiB of cold memory holds up others. While a direction is
 * busy, signal handlers are put off: one that left by longjmp would leave it busy for ever. Another thread that finds it
 * busy marks it FILE_BUSY_WANTED and waits; who ends the copy then tells the watchers.
 *
 * Nothing leaves the stack before the operation ends, has to wait, or has moved 128 KiB, so a large send becomes frames of
 * 64 KiB. Larger turns would be slower: what was copied into cells should be in the cache yet when the device reads it.
 */
#include <limits.h>
#include <signal.h>
#include <sys/param.h>
#include <sys/syscall.h>
#include "pump_priv.h"
#include "sock_priv.h"

#define CELLS_PER_TURN 64 /* 1 MiB of the largest cells */
#define MOVE_MAX_BYTES ((size_t)0x7ffff000) /* what one call moves at most: Linux's MAX_RW_COUNT */
#define BUSY_WAIT_MAX_US MSEC(50)

/* ---- the program's buffers ---- */
struct uio {
	struct iovec cur;
	const struct iovec *next;	/* in the program's memory */
	int n_next;
	size_t left;
};

/* access_ok(): the whole of it must lie below the kernel, before anything is looked at */
static bool user_range_ok(const void *buf, size_t n)
{
	uintptr_t end = (uintptr_t)buf + n;

	return likely(end >= n && end <= 0x7ffffffff000);
}

static struct uio uio_one(const void *buf, size_t n)
{
	if (n > MOVE_MAX_BYTES)
		n = MOVE_MAX_BYTES;
	return (struct uio){ .cur = { (void *)(uintptr_t)buf, n }, .left = n };
}

/* Return: 0, -EINVAL, -EFAULT */
static int uio_many(struct uio *u, const struct iovec *iov, size_t n)
{
	size_t total = 0;
	bool ok = true;
	struct iovec v;

	if (n > IOV_MAX)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (user_copy(&v, &iov[i], sizeof(v)))
			return -EFAULT;
		if ((ssize_t)v.iov_len < 0)
			return -EINVAL;
		ok &= n == 1 || user_range_ok(v.iov_base, v.iov_len);
		total += v.iov_len;
		if (total > MOVE_MAX_BYTES)
			total = MOVE_MAX_BYTES;
	}
	if (!ok)
		return -EFAULT;
	*u = (struct uio){ .next = iov, .n_next = (int)n, .left = total };
	return 0;
}

enum move { MOVE_TO_USER, MOVE_FROM_USER, MOVE_NOWHERE };

static int uio_move(struct uio *u, uint8_t *cell, size_t n, enum move move)
{
	while (n) {
		size_t m = u->cur.iov_len < n ? u->cur.iov_len : n;
		int r = 0;

		if (!m) {
			if (!u->n_next || user_copy(&u->cur, u->next, sizeof(u->cur)))
				return -EFAULT;
			u->next++;
			u->n_next--;
			continue;
		}
		if (move == MOVE_TO_USER)
			r = user_copy(u->cur.iov_base, cell, m);
		else if (move == MOVE_FROM_USER)
			r = user_copy(cell, u->cur.iov_base, m);
		if (r)
			return r;
		u->cur.iov_base = (uint8_t *)u->cur.iov_base + m;
		u->cur.iov_len -= m;
		u->left -= m;
		cell += m;
		n -= m;
	}
	return 0;
}

/*
 * Return: octets moved; -EFAULT where none were. A cell that met a fault does not count, nor what was moved of it, as Linux
 * counts whole buffers.
 */
static ssize_t uio_move_cells(struct uio *u, const struct iovec *cell, int n_cells, size_t n, enum move move)
{
	size_t before = u->left;

	for (int i = 0; i < n_cells && n; i++) {
		size_t m = cell[i].iov_len < n ? cell[i].iov_len : n;
		struct uio at = *u;

		if (uio_move(u, cell[i].iov_base, m, move)) {
			*u = at;
			return before == u->left ? -EFAULT : (ssize_t)(before - u->left);
		}
		n -= m;
	}
	return (ssize_t)(before - u->left);
}

/* ---- copying without the lock ---- */

void xfer_unlock(struct op *op, uint32_t *busy)
{
	op_hold(op);
	*busy = op->t->waiter_index;
	thr_depth++;
	shard_unlock(op->t);
}

void xfer_relock(struct op *op, uint32_t *busy, uint32_t events)
{
	bool wanted;

	shard_lock(op->t);
	thr_depth--; /* the lock's own keeps it above 0 */
	wanted = *busy & FILE_BUSY_WANTED;
	*busy = 0;
	if (wanted)
		file_notify(op->t, op->f, events);
}

void xfer_push(struct op *op, uint32_t *busy, uint32_t events)
{
	op_hold(op);
	*busy = op->t->waiter_index;
	thr_depth++;
	thr_leave(op->t);
	xfer_relock(op, busy, events);
}

static ssize_t move_busy(struct op *op, struct uio *u, const struct iovec *cell, int n_cells, size_t n, enum move move)
{
	bool recv = move == MOVE_TO_USER;
	uint32_t *busy = recv ? &op->f->recv_busy : &op->f->send_busy;
	ssize_t r;

	xfer_unlock(op, busy);
	r = uio_move_cells(u, cell, n_cells, n, move);
	xfer_relock(op, busy, recv ? EPOLLIN : EPOLLOUT);
	return r;
}

/* Another thread copies: Linux sleeps on the socket's lock here, non-blocking or not. */
static int busy_wait(struct op *op, uint32_t *busy, uint32_t events, bool nonblock, usec_t timeo_us)
{
	if (*busy)
		*busy |= FILE_BUSY_WANTED;
	return op_wait(op, events, false, false, nonblock ? BUSY_WAIT_MAX_US : timeo_us);
}

/* ---- receiving ---- */

static ssize_t recv_turn(struct op *op, struct uio *u, int flags, size_t skip)
{
	struct iovec cell[CELLS_PER_TURN];
	enum move move = flags & MSG_TRUNC ? MOVE_NOWHERE : MOVE_TO_USER;
	struct tcb *tcb = op->f->tcb;
	ptrdiff_t n;
	ssize_t r;
	int n_cells;

	n = tcp_recv_begin(own_stack(), tcb, skip, u->left ? u->left : 1, cell, CELLS_PER_TURN, &n_cells);
	if (n <= 0)
		return n;
	if ((size_t)n > u->left)
		n = (ptrdiff_t)u->left;
	if (n <= USER_COPY_LOCKED_MAX || move == MOVE_NOWHERE)
		r = uio_move_cells(u, cell, n_cells, (size_t)n, move);
	else
		r = move_busy(op, u, cell, n_cells, (size_t)n, move);
	tcp_recv_done(own_stack(), tcb, r > 0 && !(flags & MSG_PEEK) ? (size_t)r : 0, op->t->now);
	return r;
}

/* Something was received: is more to be had without asking for what only the next call may take (error, end)? */
static bool recv_more_waits(const struct op *op, int flags, size_t done)
{
	return tcp_readable_bytes(op->f->tcb) > (flags & MSG_PEEK ? done : 0);
}

/* The urgent octet, as Linux's tcp_recv_urg(): never waits. */
static ssize_t recv_oob(struct op *op, struct uio *u, int flags)
{
	uint8_t octet;
	int r = tcp_recv_oob(own_stack(), op->f->tcb, flags & MSG_PEEK, &octet);

	if (r <= 0)
		return r;
	op->msg_flags |= MSG_OOB;
	if (!u->left) {
		op->msg_flags |= MSG_TRUNC;
		return 0;
	}
	return flags & MSG_TRUNC || !uio_move(u, &octet, 1, MOVE_TO_USER) ? 1 : -EFAULT;
}

/**
 * sock_recv() - as Linux's tcp_recvmsg()
 *
 * Waits until SO_RCVLOWAT octets (MSG_WAITALL: all) were moved; what is there beyond is taken along. An error or the end of
 * the stream after the first octet is left for the next call. The mark of urgent data ends a call that got something.
 */
static ssize_t sock_recv(struct op *op, struct uio *u, int flags)
{
	struct file *f = op->f;
	bool nonblock = f->status & O_NONBLOCK || flags & MSG_DONTWAIT, waitall = flags & MSG_WAITALL;
	size_t want = u->left, done = 0, low = (size_t)tcp_opts(f->tcb)->rcvlowat_bytes;
	size_t target = waitall || low > want ? want : low;
	uint32_t disconnects = f->disconnects;
	struct tcp_errq_view told;
	ssize_t r;

	op->partial = !want; /* no handler restarts a wait for nothing */
	if (flags & MSG_ERRQUEUE)
		return tcp_errq_take(own_stack(), f->tcb, &told) ? 0 : -EAGAIN;
	if (flags & MSG_OOB)
		return tcp_state(f->tcb) == TCPS_LISTEN ? -ENOTCONN : recv_oob(op, u, flags);
	for (;;) {
		if (done && tcp_mark_after(f->tcb, flags & MSG_PEEK ? done : 0))
			return (ssize_t)done;
		if (done && !recv_more_waits(op, flags, done)) {
			if (done >= target || nonblock || tcp_error_pending(f->tcb) ||
			    tcp_poll(f->tcb) & (TCP_EV_RDHUP | TCP_EV_HUP))
				return (ssize_t)done;
			r = -EAGAIN;
		} else {
			r = recv_turn(op, u, flags, flags & MSG_PEEK ? done : 0);
			if (r > 0) {
				done += (size_t)r;
				op_moved(op);
			}
			if (r == 0)
				op_acted(op);
			if ((r == -EAGAIN || r == 0) && !(flags & MSG_PEEK))
				tcp_mark_pass(own_stack(), f->tcb);
			if (r == 0 || (u->left == 0 && want))
				return r < 0 && r != -EAGAIN ? r : (ssize_t)done;
			if (r > 0)
				continue;
		}
		if (r == -EBUSY)
			r = busy_wait(op, &f->recv_busy, EPOLLIN, nonblock, f->rcvtimeo_us);
		else if (r == -EAGAIN)
			r = op_wait(op, EPOLLIN, false, nonblock, f->rcvtimeo_us);
		if (r == 0)
			nonblock = op_nonblock(op, nonblock);
		if (r == 0 && f->disconnects != disconnects)
			r = -EPIPE; /* of all errors */
		if (!want && op->waited && r < 0 && r != -EBADF) /* Linux waits once for 0 octets, and is content with whatever ended the wait */
			return 0;
		if (r < 0)
			return done ? (ssize_t)done : r;
	}
}

static ssize_t sock_recv_uio(struct op *op, struct uio *u, int flags)
{
	return op_end(op, sock_recv(op, u, flags));
}

ssize_t sk_read(int fd, void *buf, size_t n)
{
	struct uio u = uio_one(buf, n);
	struct op op;

	if (!op_begin(&op, fd))
		return kernel_result(libc_next.read(fd, buf, n));
	if (!n || !user_range_ok(buf, n))
		return op_end(&op, n ? -EFAULT : 0);
	return sock_recv_uio(&op, &u, 0);
}

ssize_t sk_readv(int fd, const struct iovec *iov, int n)
{
	struct uio u;
	struct op op;
	int r = n < 0 ? -EINVAL : uio_many(&u, iov, (size_t)n);

	if (!op_begin(&op, fd))
		return kernel_result(libc_next.readv(fd, iov, n));
	if (r || !u.left)
		return op_end(&op, r);
	return sock_recv_uio(&op, &u, 0);
}

/* RWF_* that mean something on a socket. Return: MSG_* flags, -ESPIPE, -EOPNOTSUPP */
static int rwf_flags(off_t off, int flags)
{
	if (off != -1)
		return -ESPIPE;
	if (flags & ~(RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND))
		return -EOPNOTSUPP;
	return flags & RWF_NOWAIT ? MSG_DONTWAIT : 0;
}

ssize_t sk_preadv2(int fd, const struct iovec *iov, int n, off_t off, int flags)
{
	struct uio u;
	struct op op;
	int r = n < 0 ? -EINVAL : uio_many(&u, iov, (size_t)n), msg_flags = rwf_flags(off, flags);

	if (!op_begin(&op, fd))
		return kernel_result(libc_next.preadv2(fd, iov, n, off, flags));
	if (msg_flags < 0)
		r = msg_flags;
	if (r || !u.left)
		return op_end(&op, r);
	return sock_recv_uio(&op, &u, msg_flags);
}

ssize_t sk_recv(int fd, void *buf, size_t n, int flags)
{
	struct uio u = uio_one(buf, n);
	struct op op;

	if (!op_begin(&op, fd))
		return kernel_result(libc_next.recv(fd, buf, n, flags));
	return sock_recv_uio(&op, &u, flags);
}

ssize_t sk_recvfrom(int fd, void *buf, size_t n, int flags, struct sockaddr *addr, socklen_t *len)
{
	struct uio u = uio_one(buf, n);
	struct op op;
	socklen_t none = 0;
	ssize_t r;

	if (!op_begin(&op, fd))
		return kernel_result(libc_next.recvfrom(fd, buf, n, flags, addr, len));
	r = sock_recv_uio(&op, &u, flags);
	if (r >= 0 && addr && len && user_copy(len, &none, sizeof(none))) /* TCP names nobody */
		return -EFAULT;
	return r;
}

/* The name is not looked at, but for being there. @send: it is read. Return: 0, -EINVAL, -EFAULT */
static int name_check(const struct msghdr *m, bool send)
{
	struct sockaddr_storage name;
	size_t n = m->msg_namelen;

	if (!m->msg_name)
		return 0;
	if ((int)m->msg_namelen < 0)
		return -EINVAL;
	return send && n ? user_copy(&name, m->msg_name, n < sizeof(name) ? n : sizeof(name)) : 0;
}

/* What is apart from the stream: no payload, only control data. The file's lock is held; ends the operation. */
static ssize_t recvmsg_errq(struct op *op, struct msghdr *user, struct msghdr *m)
{
	uint8_t stamping = op->f->stamping;
	int family = op->f->family;
	usec_t now = op->t->now;
	struct tcp_errq_view e;
	bool any = tcp_errq_take(own_stack(), op->f->tcb, &e);

	op_end(op, 0);
	if (!any)
		return -EAGAIN;
	if (m->msg_name)
		m->msg_namelen = 0;
	if (cmsg_give_errq(m, &e, family, stamping, now))
		return -EFAULT;
	return user_copy(user, m, sizeof(*m)) ? -EFAULT : 0;
}

/* One message; the call's own copy of *@msg is in @m and goes back with the lengths of name and control set. */
static ssize_t recvmsg_one(int fd, struct msghdr *msg, int flags, bool *ret_kernel)
{
	struct cmsg_due due;
	struct msghdr m;
	struct uio u;
	struct op op;
	ssize_t r = user_copy(&m, msg, sizeof(m));

	if (!r)
		r = name_check(&m, false);
	if (!r)
		r = m.msg_iovlen > IOV_MAX ? -EMSGSIZE : uio_many(&u, m.msg_iov, m.msg_iovlen);
	*ret_kernel = !op_begin(&op, fd);
	if (*ret_kernel)
		return 0;
	if (!r && flags & MSG_ERRQUEUE)
		return recvmsg_errq(&op, msg, &m);
	if (!r)
		r = sock_recv(&op, &u, flags);
	cmsg_note(&op, r, &due);
	op_end(&op, 0);
	if (r < 0)
		return r;
	if (m.msg_name)
		m.msg_namelen = 0;
	m.msg_flags = (flags & MSG_CMSG_CLOEXEC) | op.msg_flags;
	if (cmsg_give(&m, &due))
		return -EFAULT;
	return user_copy(msg, &m, sizeof(m)) ? -EFAULT : r;
}

ssize_t sk_recvmsg(int fd, struct msghdr *msg, int flags)
{
	bool kernel;
	ssize_t r = recvmsg_one(fd, msg, flags, &kernel);

	return kernel ? kernel_result(libc_next.recvmsg(fd, msg, flags)) : r;
}

/* Linux looks at the error before the first message, even where recvmsg() would give the end of the stream. */
static int error_taken(int fd)
{
	struct op op;

	if (!op_begin(&op, fd))
		return 0;
	return (int)op_end(&op, -tcp_error_take(op.f->tcb));
}

int sk_recvmmsg(int fd, struct mmsghdr *msgs, unsigned int n, int flags, struct timespec *timeout)
{
	usec_t end = USEC_NEVER;
	struct timespec limit;
	unsigned int i;
	bool kernel;
	ssize_t r = 0;

	if (timeout) {
		if (user_copy(&limit, timeout, sizeof(limit)))
			return -EFAULT;
		if (limit.tv_sec < 0 || limit.tv_nsec < 0 || limit.tv_nsec >= 1000000000)
			return -EINVAL;
		end = io_now() + SEC(limit.tv_sec) + (usec_t)limit.tv_nsec / 1000;
	}
	if (!(flags & MSG_ERRQUEUE)) {
		r = error_taken(fd);
		if (r)
			return (int)r;
	}
	for (i = 0; i < n && i < IOV_MAX; i++) {
		unsigned int got;

		r = recvmsg_one(fd, &msgs[i].msg_hdr, flags & ~MSG_WAITFORONE, &kernel);
		if (kernel)
			return (int)kernel_result(libc_next.recvmmsg(fd, msgs, n, flags, timeout));
		if (r < 0)
			break;
		got = (unsigned int)r;
		if (user_copy(&msgs[i].msg_len, &got, sizeof(got)))
			return -EFAULT;
		if (flags & MSG_WAITFORONE)
			flags |= MSG_DONTWAIT;
		if (timeout && io_now() >= end) {
			i++;
			break;
		}
	}
	return i ? (int)i : (int)r;
}

ssize_t sk___read_chk(int fd, void *buf, size_t n, size_t room)
{
	return n > room ? kernel_result(libc_next.__read_chk(fd, buf, n, room)) /* which aborts */ : sk_read(fd, buf, n);
}

ssize_t sk___recv_chk(int fd, void *buf, size_t n, size_t room, int flags)
{
	return n > room ? kernel_result(libc_next.__recv_chk(fd, buf, n, room, flags)) : sk_recv(fd, buf, n, flags);
}

ssize_t sk___recvfrom_chk(int fd, void *buf, size_t n, size_t room, int flags, struct sockaddr *addr, socklen_t *len)
{
	return n > room ? kernel_result(libc_next.__recvfrom_chk(fd, buf, n, room, flags, addr, len))
			: sk_recvfrom(fd, buf, n, flags, addr, len);
}

/* ---- sending ---- */

static ssize_t send_turn(struct op *op, struct uio *u, int flags)
{
	struct iovec cell[CELLS_PER_TURN];
	unsigned how = flags & MSG_MORE ? TCP_SEND_MORE : 0;
	struct tcb *tcb = op->f->tcb;
	ptrdiff_t n;
	ssize_t r;
	int n_cells;

	n = tcp_send_begin(own_stack(), tcb, u->left ? MIN(u->left, XFER_TURN_BYTES) : 1, cell, CELLS_PER_TURN, &n_cells);
	if (n < 0)
		return n;
	if ((size_t)n > u->left)
		n = (ptrdiff_t)u->left;
	if (n <= USER_COPY_LOCKED_MAX)
		r = uio_move_cells(u, cell, n_cells, (size_t)n, MOVE_FROM_USER);
	else
		r = move_busy(op, u, cell, n_cells, (size_t)n, MOVE_FROM_USER);
	if (flags & MSG_OOB && !u->left)
		how |= TCP_SEND_OOB; /* the last octet of all */
	tcp_send_commit(own_stack(), tcb, r > 0 ? (size_t)r : 0, how, op->t->now);
	op->t->sent_bytes += r > 0 ? (uint32_t)r : 0;
	return r;
}

/* The SYN was made: a blocking call waits for the answer, whatever went with it. Return: 0: connected, negative errno */
static int fastopen_wait(struct op *op, bool nonblock)
{
	static const struct endpoint as_before;
	struct file *f = op->f;
	int r;

	if (nonblock)
		return -EINPROGRESS;
	while ((r = tcp_connect(own_stack(), f->tcb, &as_before, op->t->now)) == -EALREADY) {
		r = op_wait(op, EPOLLOUT, false, false, f->sndtimeo_us);
		if (r)
			return r == -EAGAIN ? -EINPROGRESS : r;
	}
	if (r < 0 && tcp_state(f->tcb) == TCPS_CLOSED) /* as connect() has it: it may be tried again */
		tcp_disconnect(own_stack(), f->tcb, op->t->now);
	return r;
}

/**
 * send_fastopen() - MSG_FASTOPEN, or the first data after TCP_FASTOPEN_CONNECT: Linux's tcp_sendmsg_fastopen()
 * @to:		NULL: no address was given
 *
 * With a cookie the SYN takes as much along as it can. Without one it asks for one, and nothing is moved.
 *
 * Return: octets that went with the SYN, more may follow where the socket may wait; negative errno
 */
static ssize_t send_fastopen(struct op *op, struct uio *u, int flags, const struct endpoint *to, bool nonblock)
{
	struct stack *st = own_stack();
	struct tcb *tcb = op->f->tcb;
	size_t left = u->left, room;
	ssize_t done = 0;
	int r;

	if (flags & MSG_FASTOPEN && !(stack_ctl(st)->tcp_fastopen & TFO_CLIENT))
		return -EOPNOTSUPP;
	if (!tcp_syn_waits(tcb)) {
		if (!to && tcp_connects_anew(tcb))
			return -EINVAL;
		r = tcp_connect_data(st, tcb, to ? to : &(struct endpoint){ .port = 0 }, op->t->now);
		if (r && r != -EINPROGRESS && (r != -EALREADY || nonblock))
			return r;
	}
	if (tcp_syn_waits(tcb)) {
		room = tcp_syn_room(st, tcb);
		u->left = left < room ? left : room;
		done = send_turn(op, u, flags);
		if (done < 0)
			done = 0; /* as Linux: the SYN goes without, and what was wrong is found again */
		u->left = left - (size_t)done;
	}
	r = fastopen_wait(op, nonblock);
	if (r < 0 && tcp_state(tcb) == TCPS_CLOSED)
		return r; /* refused: nothing was sent */
	return done || r == -EISCONN ? done : r;
}

/* As Linux's tcp_sendmsg(): blocking, it comes back when all is queued. @to: of MSG_FASTOPEN, or NULL */
static ssize_t send_all(struct op *op, struct uio *u, int flags, const struct endpoint *to)
{
	struct file *f = op->f;
	bool nonblock = f->status & O_NONBLOCK || flags & MSG_DONTWAIT, empty = u->left == 0;
	ssize_t r, done = 0;

	op_acted(op); /* an answer: what the flush rule waits for */
	if (unlikely(flags & MSG_FASTOPEN || tcp_syn_waits(f->tcb))) {
		done = send_fastopen(op, u, flags, to, nonblock);
		if (done < 0 || (done && (nonblock || !u->left)))
			return done;
	}
	for (;;) {
		if (done && tcp_error_pending(f->tcb))
			return done; /* the next call takes it */
		r = send_turn(op, u, flags);
		if (r > 0) {
			done += r;
			op_moved(op);
		}
		if (r >= 0 && !u->left)
			return done;
		if (op->t->sent_bytes >= XFER_TURN_BYTES)
			xfer_push(op, &f->send_busy, EPOLLOUT);
		if (empty && r == -EAGAIN)
			return 0;
		if (done && nonblock && r < 0)
			return done;
		if (r == -EBUSY)
			r = busy_wait(op, &f->send_busy, EPOLLOUT, nonblock, f->sndtimeo_us);
		else if (r == -EAGAIN)
			r = op_wait(op, EPOLLOUT, false, nonblock, f->sndtimeo_us);
		if (r < 0)
			return done ? done : r;
	}
}

#define STAMP_KINDS_FILE UINT32_MAX
/* @kinds: time stamps that this send asks for, 1 << TCP_STAMP_*; STAMP_KINDS_FILE: as the socket does */
static ssize_t sock_send_to(struct op *op, struct uio *u, int flags, const struct endpoint *to, unsigned kinds)
{
	ssize_t r = send_all(op, u, flags, to);
	struct file *f = op->f;

	if (r <= 0)
		return r;
	if (flags & MSG_ZEROCOPY && tcp_opts(f->tcb)->zerocopy)
		tcp_zerocopy_done(own_stack(), f->tcb);
	if (kinds == STAMP_KINDS_FILE)
		kinds = f->stamping >> STAMPING_TX_SHIFT;
	if (unlikely(kinds))
		tcp_stamp_sends(own_stack(), f->tcb, kinds, f->stamping & STAMPING_KEYED, op->t->now);
	return r;
}

static ssize_t sock_send(struct op *op, struct uio *u, int flags)
{
	return sock_send_to(op, u, flags, NULL, STAMP_KINDS_FILE);
}

ssize_t xfer_send_end(struct op *op, ssize_t done, ssize_t r, int flags)
{
	if (done)
		r = done;
	if (r == -ENOTCONN)
		r = -EPIPE; /* what Linux gives for a stream socket that was never connected */
	op_end(op, 0);
	if (r == -EPIPE && !(flags & MSG_NOSIGNAL) && SANDBOX_MAY(SYS_tgkill))
		raise(SIGPIPE);
	return r;
}

static ssize_t sock_send_uio(struct op *op, struct uio *u, int flags)
{
	return xfer_send_end(op, 0, sock_send(op, u, flags), flags);
}

ssize_t sk_write(int fd, const void *buf, size_t n)
{
	struct uio u = uio_one(buf, n);
	struct op op;

	if (!op_begin(&op, fd))
		return kernel_result(libc_next.write(fd, buf, n));
	if (!user_range_ok(buf, n))
		return op_end(&op, -EFAULT);
	return sock_send_uio(&op, &u, 0);
}

ssize_t sk_writev(int fd, const struct iovec *iov, int n)
{
	struct uio u;
	struct op op;
	int r = n < 0 ? -EINVAL : uio_many(&u, iov, (size_t)n);

	if (!op_begin(&op, fd))
		return kernel_result(libc_next.writev(fd, iov, n));
	if (r || !u.left) /* unlike write(), Linux does not ask the socket about nothing */
		return op_end(&op, r);
	return sock_send_uio(&op, &u, 0);
}

ssize_t sk_pwritev2(int fd, const struct iovec *iov, int n, off_t off, int flags)
{
	struct uio u;
	struct op op;
	int r = n < 0 ? -EINVAL : uio_many(&u, iov, (size_t)n), msg_flags = rwf_flags(off, flags);

	if (!op_begin(&op, fd))
		return kernel_result(libc_next.pwritev2(fd, iov, n, off, flags));
	if (msg_flags < 0)
		r = msg_flags;
	if (r || !u.left)
		return op_end(&op, r);
	return sock_send_uio(&op, &u, msg_flags);
}

ssize_t sk_send(int fd, const void *buf, size_t n, int flags)
{
	return sk_sendto(fd, buf, n, flags, NULL, 0);
}

/**
 * fastopen_begin() - as op_begin(), where MSG_FASTOPEN may decide which side the socket is on
 * @a, @len:	address given, @len 0: none
 * @ret_to:	where to, in *@ret_ep; NULL: nowhere
 *
 * Return: 0: the operation goes on, CONNECT_KERNELS, negative errno: it is over
 */
static int fastopen_begin(struct op *op, int fd, const union sockaddr_any *a, socklen_t len, struct endpoint *ret_ep,
			  const struct endpoint **ret_to)
{
	int r;

	*ret_to = NULL;
	if (!op_begin_any(op, fd))
		return CONNECT_KERNELS;
	if (op->f->kind == FILE_EPOLL || (op->f->kind == FILE_UNDECIDED && !len)) {
		op_end(op, 0);
		return CONNECT_KERNELS; /* which says what is wrong */
	}
	if (len && a->sa.sa_family == AF_UNSPEC)
		return (int)op_end(op, -EOPNOTSUPP);
	r = connect_decide(op, fd, a, len);
	if (r || !len)
		return r;
	r = addr_to_endpoint(op->f->family, a, len, ret_ep);
	if (r && tcp_connects_anew(op->f->tcb))
		return (int)op_end(op, r);
	*ret_to = ret_ep;
	return 0;
}

/* An address means something with MSG_FASTOPEN, and is ignored else. */
ssize_t sk_sendto(int fd, const void *buf, size_t n, int flags, const struct sockaddr *addr, socklen_t len)
{
	struct uio u = uio_one(buf, n);
	const struct endpoint *to = NULL;
	union sockaddr_any a;
	struct endpoint ep;
	struct op op;
	int bad = addr ? addr_from_user(&a, addr, len) : 0, r = 0;

	if (flags & MSG_FASTOPEN && !bad)
		r = fastopen_begin(&op, fd, &a, addr ? len : 0, &ep, &to);
	else if (!op_begin(&op, fd))
		r = CONNECT_KERNELS;
	if (r == CONNECT_KERNELS)
		return kernel_result(libc_next.sendto(fd, buf, n, flags, addr, len));
	if (r)
		return r;
	if (bad)
		return op_end(&op, bad);
	return xfer_send_end(&op, 0, sock_send_to(&op, &u, flags, to, STAMP_KINDS_FILE), flags);
}

#define O_TIMESTAMPING_NEW 65
#define TX_RECORD_MASK	   (1u << 0 | 1u << 1 | 1u << 8 | 1u << 9 | 1u << 18) /* SOF_TIMESTAMPING_TX_* */

/* One control message of the socket level. Return: 0, -EINVAL, -EFAULT */
static int control_take(const struct cmsghdr *c, const uint8_t *data, unsigned *ret_kinds)
{
	uint32_t flags;

	switch (c->cmsg_type) {
	case SCM_RIGHTS: /* these two are for AF_UNIX, and let pass on every other socket */
	case SCM_CREDENTIALS:
	case SO_PRIORITY:
	case SO_MARK: /* no effect */
		return 0;
	case SO_TIMESTAMPING:
	case O_TIMESTAMPING_NEW:
		if (c->cmsg_len != CMSG_LEN(sizeof(flags)))
			return -EINVAL;
		if (user_copy(&flags, data, sizeof(flags)))
			return -EFAULT;
		if (flags & ~TX_RECORD_MASK)
			return -EINVAL;
		*ret_kinds = kopt_stamp_kinds(flags);
		return 0;
	default:
		return -EINVAL;
	}
}

/* Control messages that Linux takes on TCP set marks and ask for time stamps; others are refused. */
static int control_check(const struct msghdr *m, unsigned *ret_kinds)
{
	size_t off = 0;
	int r;

	if (m->msg_controllen > INT_MAX)
		return -ENOBUFS;
	while (off + sizeof(struct cmsghdr) <= m->msg_controllen) {
		const uint8_t *at = (uint8_t *)m->msg_control + off;
		struct cmsghdr c;

		if (user_copy(&c, at, sizeof(c)))
			return -EFAULT;
		if (c.cmsg_len < sizeof(c) || c.cmsg_len > m->msg_controllen - off)
			return -EINVAL;
		r = c.cmsg_level == SOL_SOCKET ? control_take(&c, at + CMSG_LEN(0), ret_kinds) : 0;
		if (r)
			return r;
		off += CMSG_ALIGN(c.cmsg_len);
	}
	return 0;
}

ssize_t sk_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	const struct endpoint *to = NULL;
	union sockaddr_any a;
	struct endpoint ep;
	struct msghdr m;
	bool kernel = false;
	unsigned kinds = STAMP_KINDS_FILE;
	struct uio u;
	struct op op;
	int r = user_copy(&m, msg, sizeof(m));

	if (!r)
		r = name_check(&m, true);
	if (!r)
		r = m.msg_iovlen > IOV_MAX ? -EMSGSIZE : uio_many(&u, m.msg_iov, m.msg_iovlen);
	if (!r)
		r = control_check(&m, &kinds);
	if (!r && flags & MSG_FASTOPEN) {
		socklen_t len = m.msg_name ? m.msg_namelen : 0;

		r = addr_from_user(&a, m.msg_name, len < sizeof(a) ? len : sizeof(a));
		if (!r)
			r = fastopen_begin(&op, fd, &a, len, &ep, &to);
		if (r < 0)
			return r;
	} else {
		kernel = !op_begin(&op, fd);
	}
	if (kernel || r == CONNECT_KERNELS)
		return kernel_result(libc_next.sendmsg(fd, msg, flags));
	return r ? op_end(&op, r) : xfer_send_end(&op, 0, sock_send_to(&op, &u, flags, to, kinds), flags);
}

int sk_sendmmsg(int fd, struct mmsghdr *msgs, unsigned int n, int flags)
{
	unsigned int i;
	ssize_t r = 0;

	for (i = 0; i < n && i < IOV_MAX; i++) {
		unsigned int sent;

		r = sk_sendmsg(fd, &msgs[i].msg_hdr, flags);
		if (r < 0)
			break;
		sent = (unsigned int)r;
		if (user_copy(&msgs[i].msg_len, &sent, sizeof(sent)))
			return -EFAULT;
	}
	return i ? (int)i : (int)r;
}
