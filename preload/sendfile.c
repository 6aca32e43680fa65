/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sendfile.c - from a file into the send buffer, without a detour
 *
 * The stack gives cells (tcp_send_begin), the kernel's preadv fills them from the page cache while the direction is marked
 * busy and the shard unlocked, and what was read is committed: one copy, as in send(). splice() is the same with a pipe on the other side,
 * either way. A pipe is waited for before the socket is touched, and then read or written without blocking, so that the
 * socket's direction is never busy for longer than a copy takes. tee() knows pipes only, and needs nothing from us.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/param.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "pump_priv.h"
#include "sock_priv.h"

#define CELLS_PER_TURN 64
#define MOVE_MAX_BYTES ((size_t)0x7ffff000)

/* Return: iovecs needed for @want octets, the last one cut */
static int iov_trim(struct iovec *v, int n, size_t want)
{
	for (int i = 0; i < n; i++) {
		if (v[i].iov_len >= want) {
			v[i].iov_len = want;
			return i + 1;
		}
		want -= v[i].iov_len;
	}
	return n;
}

/* What fills cells: reads into @v, which has @n pieces, from @in. Return: octets, negative errno */
typedef ssize_t fill_fn(int in, off_t pos, struct iovec *v, int n);

/* One stretch from @in into the send queue, by @fill without the lock. @pos is for @fill. Return: as it gave, or -EBUSY, ... */
static ssize_t fill_turn(struct op *op, fill_fn *fill, int in, off_t pos, size_t want, unsigned flags)
{
	struct iovec cell[CELLS_PER_TURN];
	ptrdiff_t room;
	ssize_t r;
	int n;

	room = tcp_send_begin(own_stack(), op->f->tcb, MIN(want, XFER_TURN_BYTES), cell, CELLS_PER_TURN, &n);
	if (room < 0)
		return room;
	n = iov_trim(cell, n, want);
	xfer_unlock(op, &op->f->send_busy);
	r = fill(in, pos, cell, n);
	xfer_relock(op, &op->f->send_busy, EPOLLOUT);
	tcp_send_commit(own_stack(), op->f->tcb, r > 0 ? (size_t)r : 0, flags, op->t->now);
	op->t->sent_bytes += r > 0 ? (uint32_t)r : 0;
	if (op->t->sent_bytes >= XFER_TURN_BYTES && (size_t)r < want)
		xfer_push(op, &op->f->send_busy, EPOLLOUT);
	return r;
}

/* @pos: where to read, -1: at the file's own position, which moves */
static ssize_t file_fill(int in, off_t pos, struct iovec *v, int n)
{
	return kernel_result(pos < 0 ? libc_next.readv(in, v, n) : libc_next.preadv2(in, v, n, pos, 0));
}

/* Return: octets queued before anything stopped it, or what did */
static ssize_t file_send(struct op *op, int in_fd, off_t *pos, size_t n)
{
	struct file *f = op->f;
	bool nonblock = f->status & O_NONBLOCK;
	size_t done = 0;
	ssize_t r;

	op_acted(op);
	while (done < n) {
		if (done && tcp_error_pending(f->tcb))
			break;
		r = fill_turn(op, file_fill, in_fd, *pos, n - done, 0);
		if (r == 0)
			break; /* end of the file */
		if (r > 0) {
			done += (size_t)r;
			if (*pos >= 0)
				*pos += r;
			continue;
		}
		if (r == -EBUSY && f->send_busy)
			f->send_busy |= FILE_BUSY_WANTED;
		if (r == -EAGAIN || r == -EBUSY)
			r = done && nonblock ? r : op_wait(op, EPOLLOUT, false, nonblock && r == -EAGAIN, f->sndtimeo_us);
		if (r < 0)
			return done ? (ssize_t)done : r;
	}
	return (ssize_t)done;
}

/* The kernel splices to no O_APPEND, and looks at the flag alone. */
static bool appends(int fd)
{
	return own_fcntl(fd, F_GETFL) & O_APPEND;
}

static ssize_t sendfile_at(int out_fd, int in_fd, bool at_pos, off_t *pos, size_t n)
{
	struct op op;
	ssize_t r;

	if (fdtab_lookup(in_fd) || !SANDBOX_MAY(SYS_lseek) || !SANDBOX_MAY(at_pos ? SYS_preadv2 : SYS_readv))
		return -EINVAL; /* behind a filter: programs fall back to read() and write() */
	if (lseek(in_fd, 0, SEEK_CUR) < 0)
		return errno == EBADF ? -EBADF : at_pos && errno == ESPIPE ? -ESPIPE : -EINVAL;
	if ((at_pos && *pos < 0) || appends(out_fd))
		return -EINVAL;
	if (n > MOVE_MAX_BYTES)
		n = MOVE_MAX_BYTES;
	if (!op_begin(&op, out_fd))
		return kernel_result(libc_next.sendfile(out_fd, in_fd, at_pos ? pos : NULL, n));
	r = file_send(&op, in_fd, pos, n);
	return xfer_send_end(&op, 0, r, 0);
}

/* The position is written back whatever came of it. */
static ssize_t sendfile_any(int out_fd, int in_fd, off_t *user_pos, size_t n)
{
	off_t pos = -1;
	ssize_t r;

	if (user_pos && user_copy(&pos, user_pos, sizeof(pos)))
		return -EFAULT;
	r = sendfile_at(out_fd, in_fd, user_pos != NULL, &pos, n);
	return user_pos && user_copy(user_pos, &pos, sizeof(pos)) ? -EFAULT : r;
}

EXPORT(ssize_t, sendfile, (int out_fd, int in_fd, off_t *off, size_t n))
{
	int saved = errno;

	if (likely(!fdtab_lookup(out_fd)))
		return libc_next.sendfile(out_fd, in_fd, off, n);
	return errno_result(sendfile_any(out_fd, in_fd, off, n), saved);
}

/* ---- splice ---- */

#define SPLICE_FLAGS (SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT)
#define PIPE_PIECE   4096 /* what a pipe that polls as writable surely takes */

static bool is_pipe(int fd)
{
	return libc_next.fcntl(fd, F_GETPIPE_SZ) >= 0;
}

/* Return: 0 ready (or ended), -EAGAIN, -EINTR */
static int pipe_wait(int fd, short events, bool nonblock)
{
	struct pollfd p = { .fd = fd, .events = events };
	struct sig_scope scope;

	nonblock = nonblock || libc_next.fcntl(fd, F_GETFL) & O_NONBLOCK;
	sig_scope_begin(&scope);
	for (;;) {
		int r = (int)kernel_result(libc_next.poll(&p, 1, nonblock ? 0 : -1));

		if (r > 0 && events == POLLOUT && p.revents & POLLERR) { /* nobody reads it: told before the socket is looked at */
			raise(SIGPIPE);
			return -EPIPE;
		}
		if (r > 0)
			return 0;
		if (r == 0)
			return -EAGAIN;
		if (r != -EINTR || sig_scope_interrupted(&scope, true))
			return r;
	}
}

/* One read or write that does not block; a kernel that cannot do so with pipes (before 6.5) moves a page that is there. */
static ssize_t pipe_move(int fd, struct iovec *v, int n, bool to_pipe)
{
	ssize_t r = kernel_result(to_pipe ? libc_next.pwritev2(fd, v, n, -1, RWF_NOWAIT) : libc_next.preadv2(fd, v, n, -1, RWF_NOWAIT));

	if (r != -EOPNOTSUPP)
		return r;
	n = iov_trim(v, n, PIPE_PIECE);
	return kernel_result(to_pipe ? libc_next.writev(fd, v, n) : libc_next.readv(fd, v, n));
}

enum { PIPE_BLOCKS = -4095 }; /* no errno: the pipe was emptied or filled by somebody else meanwhile */

static ssize_t pipe_fill(int in, off_t pos, struct iovec *v, int n)
{
	ssize_t r = pipe_move(in, v, n, false);

	(void)pos;
	return r == -EAGAIN ? PIPE_BLOCKS : r;
}

static ssize_t socket_to_pipe_turn(struct op *op, int pipe, size_t want)
{
	struct iovec cell[CELLS_PER_TURN];
	ptrdiff_t n;
	ssize_t r;
	int n_cells;

	n = tcp_recv_begin(own_stack(), op->f->tcb, 0, want, cell, CELLS_PER_TURN, &n_cells);
	if (n == 0)
		tcp_mark_pass(own_stack(), op->f->tcb);
	if (n <= 0)
		return n;
	n_cells = iov_trim(cell, n_cells, want < (size_t)n ? want : (size_t)n);
	xfer_unlock(op, &op->f->recv_busy);
	r = pipe_move(pipe, cell, n_cells, true);
	xfer_relock(op, &op->f->recv_busy, EPOLLIN);
	tcp_recv_done(own_stack(), op->f->tcb, r > 0 ? (size_t)r : 0, op->t->now);
	return r == -EAGAIN ? PIPE_BLOCKS : r;
}

/* Until @n octets were moved, or some and then no more can be at once. */
static ssize_t splice_loop(struct op *op, int pipe, size_t n, bool out, bool more)
{
	struct file *f = op->f;
	uint32_t *busy = out ? &f->send_busy : &f->recv_busy;
	bool nonblock = f->status & O_NONBLOCK;
	size_t done = 0;
	ssize_t r;

	op_acted(op);
	while (done < n) {
		if (done && (out ? tcp_error_pending(f->tcb) : !tcp_readable_bytes(f->tcb)))
			break; /* error and end are the next call's */
		r = out ? fill_turn(op, pipe_fill, pipe, 0, n - done, more ? TCP_SEND_MORE : 0) : socket_to_pipe_turn(op, pipe, n - done);
		if (r == 0)
			break;
		if (r > 0) {
			done += (size_t)r;
			continue;
		}
		if (r == -EBUSY && *busy)
			*busy |= FILE_BUSY_WANTED;
		if ((r == -EAGAIN && (!done || (out && !nonblock))) || r == -EBUSY)
			r = op_wait(op, out ? EPOLLOUT : EPOLLIN, false, nonblock && r == -EAGAIN, out ? f->sndtimeo_us : f->rcvtimeo_us);
		if (r < 0)
			return done ? (ssize_t)done : r;
	}
	return (ssize_t)done;
}

static ssize_t splice_private(int pipe, int sock, size_t n, bool out, unsigned int flags)
{
	struct op op;
	ssize_t r;

	if (n > MOVE_MAX_BYTES)
		n = MOVE_MAX_BYTES;
	do {
		r = pipe_wait(pipe, out ? POLLIN : POLLOUT, flags & SPLICE_F_NONBLOCK);
		if (r < 0)
			return r;
		if (!op_begin(&op, sock))
			return kernel_result(out ? libc_next.splice(pipe, NULL, sock, NULL, n, flags)
						 : libc_next.splice(sock, NULL, pipe, NULL, n, flags));
		r = splice_loop(&op, pipe, n, out, flags & SPLICE_F_MORE);
		r = out ? xfer_send_end(&op, 0, r, 0) : op_end(&op, r);
	} while (r == PIPE_BLOCKS);
	return r;
}

/* Order of the questions as in the kernel's do_splice(). */
static ssize_t splice_any(int in_fd, const off_t *in_off, int out_fd, const off_t *out_off, size_t n, unsigned int flags)
{
	bool out = fdtab_lookup(out_fd) != NULL;
	int pipe = out ? in_fd : out_fd, mode;

	if (!n)
		return 0;
	if (flags & ~(unsigned int)SPLICE_FLAGS)
		return -EINVAL;
	mode = libc_next.fcntl(pipe, F_GETFL);
	if (mode < 0 || (mode & O_ACCMODE) == (out ? O_WRONLY : O_RDONLY))
		return -EBADF;
	if (!is_pipe(pipe))
		return -EINVAL;
	if (out ? in_off != NULL : out_off != NULL)
		return -ESPIPE;
	if (out ? out_off != NULL || appends(out_fd) : in_off != NULL)
		return -EINVAL;
	return splice_private(pipe, out ? out_fd : in_fd, n, out, flags);
}

EXPORT(ssize_t, splice, (int in_fd, off_t *in_off, int out_fd, off_t *out_off, size_t n, unsigned int flags))
{
	int saved = errno;

	if (likely(!fdtab_lookup(in_fd) && !fdtab_lookup(out_fd)))
		return libc_next.splice(in_fd, in_off, out_fd, out_off, n, flags);
	return errno_result(splice_any(in_fd, in_off, out_fd, out_off, n, flags), saved);
}
