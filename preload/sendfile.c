/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sendfile.c - from a file into the send buffer, without a detour
 *
 * The stack gives cells (tcp_send_begin), the kernel's preadv fills them from the page cache while the direction is marked
 * busy and the shard unlocked, and what was read is committed: one copy, as in send(). splice is refused where one side is
 * ours, as the kernel refuses it for descriptors that cannot do it: programs fall back to read and write.
 */
#include <unistd.h>
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

/* @pos: where to read, -1: at the file's own position, which moves */
static ssize_t file_turn(struct op *op, int in_fd, off_t pos, size_t want)
{
	struct iovec cell[CELLS_PER_TURN];
	ptrdiff_t room;
	ssize_t r;
	int n;

	room = tcp_send_begin(own_stack(), op->f->tcb, want, cell, CELLS_PER_TURN, &n);
	if (room < 0)
		return room;
	n = iov_trim(cell, n, want);
	xfer_unlock(op, &op->f->send_busy);
	r = kernel_result(pos < 0 ? libc_next.readv(in_fd, cell, n) : libc_next.preadv2(in_fd, cell, n, pos, 0));
	xfer_relock(op, &op->f->send_busy, EPOLLOUT);
	tcp_send_commit(own_stack(), op->f->tcb, r > 0 ? (size_t)r : 0, 0, op->t->now);
	return r;
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
		if (done && tcp_poll(f->tcb) & TCP_EV_ERR)
			break;
		r = file_turn(op, in_fd, *pos, n - done);
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

static ssize_t sendfile_any(int out_fd, int in_fd, off_t *user_pos, size_t n)
{
	struct op op;
	off_t pos = -1;
	ssize_t r;

	if (user_pos && user_copy(&pos, user_pos, sizeof(pos)))
		return -EFAULT;
	if (user_pos && pos < 0)
		return -EINVAL;
	if (fdtab_lookup(in_fd))
		return -EINVAL;
	if (lseek(in_fd, 0, SEEK_CUR) < 0)
		return errno == EBADF ? -EBADF : user_pos && errno == ESPIPE ? -ESPIPE : -EINVAL;
	if (n > MOVE_MAX_BYTES)
		n = MOVE_MAX_BYTES;
	if (!op_begin(&op, out_fd))
		return kernel_result(libc_next.sendfile(out_fd, in_fd, user_pos, n));
	r = file_send(&op, in_fd, &pos, n);
	r = xfer_send_end(&op, 0, r, 0);
	if (r > 0 && user_pos && user_copy(user_pos, &pos, sizeof(pos)))
		return -EFAULT;
	return r;
}

EXPORT(ssize_t, sendfile, (int out_fd, int in_fd, off_t *off, size_t n))
{
	int saved = errno;

	if (likely(!fdtab_lookup(out_fd)))
		return libc_next.sendfile(out_fd, in_fd, off, n);
	return errno_result(sendfile_any(out_fd, in_fd, off, n), saved);
}

EXPORT(ssize_t, splice, (int in_fd, off_t *in_off, int out_fd, off_t *out_off, size_t n, unsigned int flags))
{
	struct op op;

	for (int i = 0; i < 2; i++) {
		int fd = i ? out_fd : in_fd;

		if (fdtab_lookup(fd) && op_begin(&op, fd)) {
			op_end(&op, 0);
			errno = EINVAL;
			return -1;
		}
	}
	return libc_next.splice(in_fd, in_off, out_fd, out_off, n, flags);
}
