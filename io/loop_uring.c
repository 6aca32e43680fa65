/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * loop_uring.c - the levels full and uring: sleeping and moving frames through a ring
 *
 * One enter submits frames, arms what must be armed, and sleeps. What is armed stays armed between waits:
 *
 *            level full (Linux 6.7)                         level uring (Linux 6.1)
 *   frames   READ_MULTISHOT, or RECV_MULTISHOT, with        POLL_ADD; io_loop_rx() then reads NOWAIT in batches, or by
 *            the landing buffers in a provided ring         read() where the kernel's TAP refuses RWF_NOWAIT (before 6.4)
 *   wake     FUTEX_WAIT on the wake word (waker.c)          RECV of a datagram
 *   kfds     POLL_ADD, one-shot, level-triggered at the time of arming: an unconsumed event shows again
 *
 * Completions are made only by an enter with GETEVENTS (DEFER_TASKRUN). So the armed multishot of a thread that is busy in
 * its application takes no frame from the queue, and a flush (no GETEVENTS) takes none either. A wait without the role
 * submits the cancellation of the receive in the same enter, and the kernel cancels before it runs any completion: no frame
 * is taken (RULES T3). Should one have been taken before, it is in rxq and reported.
 *
 * Frames go out as WRITE/WRITEV (TAP) or SEND/SENDMSG (packet), told not to wait and to post no completion on success.
 * Such an entry ends while it is submitted, so "done" is "the kernel moved its head past it": the slot array runs parallel
 * to the entries, and nothing of a frame shows up in the completion queue, where it would end the sleep. A failure does
 * post one; the wait counts it and goes on. (TAP before 6.4 has no RWF_NOWAIT. Its send queue limit is INT_MAX bytes, so
 * that a write ends at once there as well.)
 */
#include "loop_priv.h"
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include "sys.h"
#include "uring.h"

#define SQ_ENTRIES	64 /* twice what the flush rule holds back; small, since slots and entries are walked through in turn */
#define CQ_ENTRIES	4096
#define RX_BATCH_FIRST	4   /* reads of the first NOWAIT batch: a lone frame costs three vain ones of 70 ns */
#define RX_BATCH_MORE	16
#define CLOSE_WAIT_US	MSEC(100)

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif

enum ud_kind { UD_NONE, UD_RX, UD_RX_ONE, UD_TX, UD_WAKE, UD_KFD };
enum { FILE_DEV, FILE_WAKE, N_FILES };
enum { WAIT_AGAIN = -1000 };

struct tx_slot {
	struct pbuf *p;
	struct msghdr msg;
	struct iovec iov[IOV_PER_PBUF];
};

/* A poll on one of the caller's descriptors, at the same place as in io_wait.kfds. */
struct kfd {
	int fd;
	short events, revents; /* revents: came in outside a wait */
	bool armed;
	uint32_t gen; /* a completion of an older poll of this place is told by it */
};

struct loop_ring {
	struct uring u;
	struct io_uring_buf_ring *bufs; /* level full */
	uint16_t bufs_tail;
	unsigned n_posted;
	bool rx_armed, rx_cancelling, wake_armed;
	bool is_socket, nowait;
	bool rx_dry; /* a NOWAIT read found nothing */
	uint32_t settled; /* submission counter: slots before it have been taken care of */

	struct io_wait *wait; /* the wait being served */
	struct kfd *kfd;
	unsigned n_kfd, kfd_cap, n_kfd_armed;
	uint32_t kfd_gen;
	uint64_t kfds_key; /* of the last wait */

	char wake_byte[8];
	struct tx_slot slot[SQ_ENTRIES];
};

static int ring_turn(struct io_loop *l, struct io_wait *w);
static void ring_kfds_arm(struct io_loop *l, struct io_wait *w);
static void ring_kfds_cancel(struct io_loop *l, unsigned first);
static unsigned ring_reap(struct io_loop *l);

/* ---- user_data: kind 8 bits, generation 24, index 32 ---- */

static uint64_t ud_make(enum ud_kind kind, uint32_t gen, uint32_t index)
{
	return (uint64_t)kind << 56 | (uint64_t)(gen & 0xffffff) << 32 | index;
}

static enum ud_kind ud_take(uint64_t ud, uint32_t *ret_gen, uint32_t *ret_index)
{
	*ret_gen = (uint32_t)(ud >> 32) & 0xffffff;
	*ret_index = (uint32_t)ud;
	return (enum ud_kind)(ud >> 56);
}

/* ---- opening, closing ---- */

/** dev_knows_nowait() - does the device take RWF_NOWAIT; asked with a frame too short to be one */
static bool dev_knows_nowait(int fd)
{
	struct iovec iov = { (char[1]){ 0 }, 1 };

	return SYS6(SYS_pwritev2, fd, &iov, 1, -1, -1, RWF_NOWAIT) != -EOPNOTSUPP;
}

static void ring_post(struct io_loop *l, uint16_t buf)
{
	struct loop_ring *r = l->ring;
	struct io_uring_buf *b = &r->bufs->bufs[r->bufs_tail % LANDING_N];

	b->addr = (uintptr_t)landing_at(l, buf); /* field by field: the first entry's last field is the ring's tail */
	b->len = LANDING_STRIDE;
	b->bid = buf;
	r->n_posted++;
	r->bufs_tail++;
}

/**
 * ring_bufs_show() - the kernel may fill what is posted
 *
 * Only during a wait with the role. A process that ends, by whatever means, runs what its ring has left to do: an armed multishot
 * would take every frame that waits in the queue along with it. Where it finds no buffer it takes none.
 */
static void ring_bufs_show(struct io_loop *l)
{
	struct loop_ring *r = l->ring;

	while (r->n_posted < l->rx_max && l->n_free > 0)
		ring_post(l, l->free_buf[--l->n_free]);
	/* release: the kernel must see the entries before the tail that covers them; pairs with its acquire of the tail */
	__atomic_store_n(&r->bufs->tail, r->bufs_tail, __ATOMIC_RELEASE);
}

/* All completions are reaped, so that what is posted is what the kernel has not taken. */
static void ring_bufs_hide(struct loop_ring *r)
{
	__atomic_store_n(&r->bufs->tail, (uint16_t)(r->bufs_tail - r->n_posted), __ATOMIC_RELEASE);
}

static int ring_bufs_open(struct io_loop *l)
{
	struct loop_ring *r = l->ring;
	struct io_uring_buf_reg reg = { .ring_entries = LANDING_N };
	int e;

	r->bufs = sys_mmap_anon(LANDING_N * sizeof(struct io_uring_buf), MAP_POPULATE);
	if (!r->bufs)
		return -ENOMEM;
	SYS3(SYS_madvise, r->bufs, LANDING_N * sizeof(struct io_uring_buf), MADV_DONTFORK);
	reg.ring_addr = (uintptr_t)r->bufs;
	e = uring_register(&r->u, IORING_REGISTER_PBUF_RING, &reg, 1);
	while (e == 0 && l->n_free > 0)
		ring_post(l, l->free_buf[--l->n_free]);
	return e;
}

static void ring_free(struct io_loop *l)
{
	struct loop_ring *r = l->ring;

	uring_close(&r->u);
	sys_munmap(r->bufs, LANDING_N * sizeof(struct io_uring_buf));
	sys_munmap(r->kfd, r->kfd_cap * sizeof(struct kfd));
	sys_munmap(r, sizeof(*r));
	l->ring = NULL;
}

/* Level and ring where there is none yet. */
static int ring_make(struct io_loop *l)
{
	struct loop_ring *r = sys_mmap_anon(sizeof(*r), 0);
	int e;

	if (!r)
		return -ENOMEM;
	l->ring = r;
	e = uring_open(&r->u, SQ_ENTRIES, CQ_ENTRIES);
	if (e < 0)
		ring_free(l);
	return e;
}

enum io_level loop_uring_first(struct io_loop *l)
{
	if (ring_make(l) < 0)
		return IO_LEVEL_POLL;
	return uring_is_full(&l->ring->u) ? IO_LEVEL_FULL : IO_LEVEL_URING;
}

void loop_uring_drop(struct io_loop *l)
{
	if (l->ring)
		ring_free(l);
}

static int ring_open(struct io_loop *l, const struct io_loop_config *cfg)
{
	int files[N_FILES] = { cfg->queue_fd, l->wake_fd }, e = l->ring ? 0 : ring_make(l);
	struct loop_ring *r = l->ring;

	if (e < 0)
		return e;
	r->is_socket = cfg->kind == IO_KIND_PACKET;
	r->nowait = !cfg->no_rwf_nowait && dev_knows_nowait(cfg->queue_fd);
	e = uring_register(&r->u, IORING_REGISTER_FILES, files, N_FILES);
	if (e == 0 && l->level == IO_LEVEL_FULL)
		e = ring_bufs_open(l);
	if (e == 0 && !r->nowait && !r->is_socket && l->dev_fd < 0) {
		l->dev_fd = sys_fd_high(cfg->queue_fd);
		e = l->dev_fd < 0 ? l->dev_fd : 0;
	}
	if (e < 0)
		ring_free(l);
	return e;
}

/** ring_settle() - hand back the frames of entries that the kernel has taken */
static void ring_settle(struct io_loop *l)
{
	struct loop_ring *r = l->ring;
	uint32_t head = __atomic_load_n(r->u.sq_khead, __ATOMIC_ACQUIRE);

	for (; r->settled != head; r->settled++) {
		struct tx_slot *s = &r->slot[r->settled & r->u.sq_mask];

		if (s->p)
			loop_tx_done(l, s->p, 0);
		s->p = NULL;
	}
}

static int ring_enter(struct io_loop *l, bool get, unsigned min_complete, usec_t timeout, const sigset_t *mask)
{
	struct loop_ring *r = l->ring;
	int e;

	if (min_complete && l->sleep_hook)
		l->sleep_hook(l->sleep_arg, true);
	e = uring_enter(&r->u, get, min_complete, timeout, mask);
	if (min_complete && l->sleep_hook)
		l->sleep_hook(l->sleep_arg, false);
	l->stats.enters = r->u.enters;
	ring_settle(l);
	return e;
}

/** ring_sqe() - an entry, making room by a submission if there is none. NULL: the kernel takes none at the moment */
static struct io_uring_sqe *ring_sqe(struct io_loop *l, uint32_t *ret_index)
{
	struct loop_ring *r = l->ring;
	struct io_uring_sqe *sqe = uring_sqe(&r->u, ret_index);

	if (sqe)
		return sqe;
	ring_enter(l, false, 0, USEC_NEVER, NULL);
	ring_reap(l);
	return uring_sqe(&r->u, ret_index);
}

/**
 * ring_close() - end all requests, then the ring
 *
 * The kernel would end them by itself, but later, in a worker: until then the requests hold the device, and a TAP queue
 * that is opened again meets EBUSY.
 */
static void ring_close(struct io_loop *l)
{
	struct loop_ring *r = l->ring;
	usec_t until = io_now() + CLOSE_WAIT_US;
	struct io_uring_sqe *sqe;
	uint32_t i;

	ring_reap(l);
	sqe = ring_sqe(l, &i);
	if (sqe) {
		sqe->opcode = IORING_OP_ASYNC_CANCEL;
		sqe->fd = -1;
		sqe->cancel_flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL;
		sqe->user_data = ud_make(UD_NONE, 0, 0);
	}
	while ((r->rx_armed || r->wake_armed || r->n_kfd_armed) && io_now() < until) {
		ring_enter(l, true, 1, MSEC(10), NULL);
		ring_reap(l);
	}
	uring_register(&r->u, IORING_UNREGISTER_FILES, NULL, 0);
	ring_free(l);
}

static void ring_abandon(struct io_loop *l)
{
	uring_abandon(&l->ring->u);
	sys_munmap(l->ring->kfd, l->ring->kfd_cap * sizeof(struct kfd));
	sys_munmap(l->ring, sizeof(*l->ring));
}

/* ---- out ---- */

static void ring_tx_fill(struct loop_ring *r, struct io_uring_sqe *sqe, struct tx_slot *s, struct pbuf *p)
{
	int n = pbuf_iov(p, s->iov);

	s->p = p;
	sqe->flags = IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS;
	sqe->fd = FILE_DEV;
	sqe->user_data = ud_make(UD_TX, 0, p->len);
	sqe->addr = n == 1 ? (uintptr_t)s->iov[0].iov_base : (uintptr_t)s->iov;
	sqe->len = n == 1 ? (uint32_t)s->iov[0].iov_len : (uint32_t)n;
	if (!r->is_socket) {
		sqe->opcode = n == 1 ? IORING_OP_WRITE : IORING_OP_WRITEV;
		sqe->rw_flags = r->nowait ? RWF_NOWAIT : 0;
		return;
	}
	sqe->opcode = n == 1 ? IORING_OP_SEND : IORING_OP_SENDMSG;
	sqe->msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL;
	if (n > 1) {
		s->msg = (struct msghdr){ .msg_iov = s->iov, .msg_iovlen = (size_t)n };
		sqe->addr = (uintptr_t)&s->msg;
		sqe->len = 1;
	}
}

static void ring_tx_queue(struct io_loop *l)
{
	struct io_uring_sqe *sqe;
	struct pbuf *p;
	uint32_t i;

	while (l->txq.head) {
		sqe = ring_sqe(l, &i);
		if (!sqe)
			return; /* stays in txq for the next turn */
		p = loop_tx_next(l);
		if (p)
			ring_tx_fill(l->ring, sqe, &l->ring->slot[i], p);
		else
			sqe->opcode = IORING_OP_NOP, sqe->flags = IOSQE_CQE_SKIP_SUCCESS; /* swallowed by impairment */
	}
}

static void ring_flush(struct io_loop *l)
{
	ring_tx_queue(l);
	if (uring_unsubmitted(&l->ring->u))
		ring_enter(l, false, 0, USEC_NEVER, NULL);
}

/* ---- in ---- */

static void ring_rx_arm(struct io_loop *l)
{
	struct loop_ring *r = l->ring;
	bool full = l->level == IO_LEVEL_FULL;
	struct io_uring_sqe *sqe;
	uint32_t i;

	if (full && r->n_posted == 0 && l->n_free == 0)
		return; /* all lent out: would end at once with -ENOBUFS */
	if (l->rx_retry && io_now() < l->rx_retry)
		return;
	sqe = ring_sqe(l, &i);
	if (!sqe)
		return;
	l->rx_retry = 0;
	sqe->fd = FILE_DEV;
	sqe->flags = IOSQE_FIXED_FILE | (full ? IOSQE_BUFFER_SELECT : 0);
	sqe->user_data = ud_make(UD_RX, 0, 0);
	if (!full) {
		sqe->opcode = IORING_OP_POLL_ADD;
		sqe->poll32_events = POLLIN;
	} else if (r->is_socket) {
		sqe->opcode = IORING_OP_RECV;
		sqe->ioprio = IORING_RECV_MULTISHOT;
	} else {
		sqe->opcode = URING_OP_READ_MULTISHOT;
		sqe->off = UINT64_MAX;
	}
	r->rx_armed = true;
	l->stats.rx_rearms++;
}

static void ring_cancel(struct io_loop *l, uint64_t user_data)
{
	uint32_t i;
	struct io_uring_sqe *sqe = ring_sqe(l, &i);

	if (!sqe)
		return;
	sqe->opcode = IORING_OP_ASYNC_CANCEL;
	sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
	sqe->fd = -1;
	sqe->addr = user_data;
	sqe->user_data = ud_make(UD_NONE, 0, 0);
}

/** ring_rx_cqe() - a frame of the multishot, or its end; at level uring: frames wait */
static void ring_rx_cqe(struct io_loop *l, const struct io_uring_cqe *cqe)
{
	struct loop_ring *r = l->ring;

	if (!(cqe->flags & IORING_CQE_F_MORE))
		r->rx_armed = r->rx_cancelling = false;
	if (cqe->flags & IORING_CQE_F_BUFFER) {
		r->n_posted--;
		loop_rx_filled(l, (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT), cqe->res > 0 ? (uint32_t)cqe->res : 0);
	} else if (l->level != IO_LEVEL_FULL && cqe->res > 0) {
		l->rx_ready = true;
	}
	if (cqe->res < 0 && cqe->res != -ENOBUFS && cqe->res != -ECANCELED && cqe->res != -EINTR)
		l->rx_retry = io_now() + RX_RETRY_US;
}

static void ring_rx_return(struct io_loop *l, uint16_t buf)
{
	if (l->level == IO_LEVEL_FULL && l->ring->n_posted < l->rx_max)
		ring_post(l, buf);
	else
		l->free_buf[l->n_free++] = buf;
}

/* Outcome of one NOWAIT read; such reads end in the order they were submitted, and that is the order of the frames. */
static void ring_rx_one(struct io_loop *l, uint16_t buf, int res)
{
	if (res > 0) {
		loop_rx_filled(l, buf, (uint32_t)res);
		return;
	}
	l->free_buf[l->n_free++] = buf;
	l->ring->rx_dry = true;
	if (res != -EAGAIN && res != -EINTR && res != 0)
		l->rx_retry = io_now() + RX_RETRY_US;
}

static unsigned ring_rx_batch(struct io_loop *l, unsigned n)
{
	struct loop_ring *r = l->ring;
	struct io_uring_sqe *sqe;
	unsigned i;
	uint32_t at;

	for (i = 0; i < n && landing_any(l) && (sqe = ring_sqe(l, &at)) != NULL; i++) {
		uint16_t buf = l->free_buf[--l->n_free];

		sqe->opcode = r->is_socket ? IORING_OP_RECV : IORING_OP_READ;
		if (r->is_socket)
			sqe->msg_flags = MSG_DONTWAIT;
		else
			sqe->rw_flags = RWF_NOWAIT;
		sqe->flags = IOSQE_FIXED_FILE;
		sqe->fd = FILE_DEV;
		sqe->addr = (uintptr_t)landing_at(l, buf);
		sqe->len = LANDING_STRIDE;
		sqe->user_data = ud_make(UD_RX_ONE, 0, buf);
	}
	if (i > 0)
		ring_enter(l, false, 0, USEC_NEVER, NULL);
	ring_reap(l);
	return i;
}

static void ring_rx_read(struct io_loop *l)
{
	struct loop_ring *r = l->ring;
	unsigned n = RX_BATCH_FIRST;

	if (l->level == IO_LEVEL_FULL)
		return;
	r->rx_dry = false;
	if (!r->nowait && !r->is_socket) {
		while (!r->rx_dry && landing_any(l)) {
			uint16_t buf = l->free_buf[--l->n_free];

			ring_rx_one(l, buf, (int)loop_dev_read(l, landing_at(l, buf), LANDING_STRIDE));
		}
	} else {
		while (!r->rx_dry && ring_rx_batch(l, n) > 0)
			n = RX_BATCH_MORE;
	}
	if (r->rx_dry)
		l->rx_ready = false;
}

/* ---- waiting ---- */

static void ring_wake_arm(struct io_loop *l, uint32_t seen)
{
	struct loop_ring *r = l->ring;
	uint32_t i;
	struct io_uring_sqe *sqe = ring_sqe(l, &i);

	if (!sqe)
		return;
	if (l->level == IO_LEVEL_FULL) {
		sqe->opcode = URING_OP_FUTEX_WAIT;
		sqe->fd = (int)URING_FUTEX2_SIZE_U32;
		sqe->addr = (uintptr_t)&l->waker->word;
		sqe->off = seen; /* compared when the kernel queues it */
		sqe->addr3 = URING_FUTEX_MATCH_ANY;
	} else {
		sqe->opcode = IORING_OP_RECV;
		sqe->flags = IOSQE_FIXED_FILE;
		sqe->fd = FILE_WAKE;
		sqe->addr = (uintptr_t)r->wake_byte;
		sqe->len = sizeof(r->wake_byte);
	}
	sqe->user_data = ud_make(UD_WAKE, 0, 0);
	r->wake_armed = true;
}

static void ring_kfd_cqe(struct loop_ring *r, uint32_t i, uint32_t gen, int res)
{
	struct kfd *k = &r->kfd[i];

	if (i >= r->n_kfd || !k->armed || (k->gen & 0xffffff) != gen)
		return; /* of a wait long gone */
	k->armed = false;
	r->n_kfd_armed--;
	if (res == -ECANCELED || res == -EINVAL)
		return; /* -EINVAL: a file that never tells of anything, such as a regular one; what it is ready for was looked at */
	k->revents = res >= 0 ? (short)res : res == -EBADF ? POLLNVAL : POLLERR;
}

static void ring_cqe(struct io_loop *l, const struct io_uring_cqe *cqe)
{
	uint32_t gen, i;

	switch (ud_take(cqe->user_data, &gen, &i)) {
	case UD_RX:
		ring_rx_cqe(l, cqe);
		break;
	case UD_RX_ONE:
		ring_rx_one(l, (uint16_t)i, cqe->res);
		break;
	case UD_TX: /* failures only; ring_settle() has counted it as sent */
		l->stats.tx_errors++;
		l->stats.tx_frames--;
		l->stats.tx_bytes -= i;
		break;
	case UD_WAKE:
		l->ring->wake_armed = false;
		break;
	case UD_KFD:
		ring_kfd_cqe(l->ring, i, gen, cqe->res);
		break;
	case UD_NONE:
		break;
	}
}

static unsigned ring_reap(struct io_loop *l)
{
	struct uring *u = &l->ring->u;
	const struct io_uring_cqe *cqe;
	unsigned n = 0;

	for (; (cqe = uring_cqe(u)) != NULL; n++) {
		ring_cqe(l, cqe);
		uring_cqe_seen(u);
	}
	return n;
}

static int ring_bits(struct io_loop *l, struct io_wait *w)
{
	struct loop_ring *r = l->ring;
	int bits = 0;

	if (!rxq_empty(l) || (w->rx && l->rx_ready))
		bits |= IO_WAIT_RX;
	if (l->impair_rx && impair_deadline(l->impair_rx) != USEC_NEVER && impair_deadline(l->impair_rx) <= io_now())
		bits |= IO_WAIT_RX;
	if (waker_word(l->waker) != w->wake_seen)
		bits |= IO_WAIT_WAKE;
	for (unsigned i = 0; i < w->n_kfds; i++) {
		if (!r->kfd[i].revents)
			continue;
		w->kfds[i].revents = r->kfd[i].revents;
		bits |= IO_WAIT_KFD;
	}
	return bits;
}

static int ring_wait(struct io_loop *l, struct io_wait *w)
{
	struct loop_ring *r = l->ring;
	int bits;

	if (!w->rx && r->rx_armed && !r->rx_cancelling) { /* first of all: no enter below may take a frame */
		ring_cancel(l, ud_make(UD_RX, 0, 0));
		r->rx_cancelling = true;
	}
	if (w->n_kfds || r->n_kfd)
		ring_kfds_arm(l, w);
	if (w->n_kfds > r->n_kfd)
		return -ENOMEM;
	do {
		ring_tx_queue(l);
		if (w->rx && !r->rx_armed && !l->rx_ready)
			ring_rx_arm(l);
		if (w->block && !r->wake_armed)
			ring_wake_arm(l, w->wake_seen);
		bits = ring_turn(l, w);
	} while (bits == WAIT_AGAIN);
	if (r->n_kfd_armed && !w->kfds_key)
		ring_kfds_cancel(l, 0);
	for (unsigned i = 0; i < w->n_kfds; i++)
		r->kfd[i].revents = 0;
	return bits;
}

/**
 * ring_turn() - at most one enter, and what to make of it
 *
 * Sleeps only with an empty completion queue and nothing to report, so that any completion ends the sleep. Whether a sleep
 * that brought none ended by time or by signal must be worked out: with entries submitted the kernel returns their number.
 *
 * Return: IO_WAIT_* bits, 0, -EINTR, or WAIT_AGAIN: what came was of no interest to the caller
 */
static int ring_turn(struct io_loop *l, struct io_wait *w)
{
	struct uring *u = &l->ring->u;
	usec_t timeout = USEC_NEVER, deadline = USEC_NEVER;
	int bits = ring_bits(l, w), e = 0;
	bool late = false, sleep = w->block && !bits && !uring_cqe(u);
	unsigned n;

	if (sleep && (deadline = loop_deadline(l, w)) != USEC_NEVER) {
		usec_t now = io_now();

		late = now >= deadline;
		timeout = late ? 0 : deadline - now;
		sleep = !late;
	}
	if (sleep)
		sleep = waker_sleep_begin(l->waker, w->wake_seen);
	if (l->ring->bufs && w->rx)
		ring_bufs_show(l);
	if (sleep || uring_unsubmitted(u) || (!bits && uring_work_waits(u)))
		e = ring_enter(l, true, sleep ? 1 : 0, timeout, w->mask);
	if (w->block)
		waker_sleep_end(l->waker);
	n = ring_reap(l);
	if (l->ring->bufs)
		ring_bufs_hide(l->ring);
	bits = ring_bits(l, w);
	if (e < 0 && e != -ETIME && e != -EBUSY && e != -EAGAIN) /* -EINTR; -EEXIST: not the thread that opened the loop */
		return e;
	if (bits)
		return bits;
	if (!w->block)
		return 0;
	if (w->deadline != USEC_NEVER && io_now() >= w->deadline)
		return 0;
	if (sleep && n == 0 && e != -ETIME && !uring_unsubmitted(u) && (deadline == USEC_NEVER || io_now() < deadline))
		return -EINTR;
	if (l->impair_tx)
		loop_tx_next(l); /* frames held back whose time has come */
	return WAIT_AGAIN;
}

/* ---- descriptors of the application ---- */

static bool ring_kfds_grow(struct loop_ring *r, unsigned n)
{
	unsigned cap = r->kfd_cap ? r->kfd_cap : 64;
	struct kfd *bigger;

	if (n <= r->kfd_cap)
		return true;
	while (cap < n)
		cap *= 2;
	bigger = sys_mmap_anon(cap * sizeof(*bigger), 0);
	if (!bigger)
		return false;
	if (r->kfd)
		memcpy(bigger, r->kfd, r->n_kfd * sizeof(*bigger));
	sys_munmap(r->kfd, r->kfd_cap * sizeof(*bigger));
	r->kfd = bigger;
	r->kfd_cap = cap;
	return true;
}

/** ring_kfds_arm() - a poll for each descriptor that has none left over from the last wait */
static void ring_kfds_arm(struct io_loop *l, struct io_wait *w)
{
	struct loop_ring *r = l->ring;
	bool stay = w->kfds_key && w->kfds_key == r->kfds_key;
	struct io_uring_sqe *sqe;
	uint32_t at;

	r->kfds_key = w->kfds_key;
	if (!ring_kfds_grow(r, w->n_kfds))
		return;
	if (w->n_kfds < r->n_kfd)
		ring_kfds_cancel(l, w->n_kfds);
	while (r->n_kfd < w->n_kfds)
		r->kfd[r->n_kfd++] = (struct kfd){ .fd = -1 };
	r->n_kfd = w->n_kfds;
	for (unsigned i = 0; i < w->n_kfds; i++) {
		struct kfd *k = &r->kfd[i];

		w->kfds[i].revents = 0;
		if (k->fd == w->kfds[i].fd && k->events == w->kfds[i].events && stay && (k->armed || k->revents))
			continue;
		if (k->armed) {
			ring_cancel(l, ud_make(UD_KFD, k->gen, i));
			r->n_kfd_armed--;
		}
		*k = (struct kfd){ .fd = w->kfds[i].fd, .events = w->kfds[i].events, .gen = ++r->kfd_gen };
		sqe = k->fd >= 0 ? ring_sqe(l, &at) : NULL;
		if (!sqe)
			continue;
		sqe->opcode = IORING_OP_POLL_ADD;
		sqe->fd = k->fd;
		sqe->poll32_events = (uint32_t)(unsigned short)k->events;
		sqe->user_data = ud_make(UD_KFD, k->gen, i);
		k->armed = true;
		r->n_kfd_armed++;
	}
}

/** ring_kfds_cancel() - end the polls from place @first on, and wait until they have let go of their files */
static void ring_kfds_cancel(struct io_loop *l, unsigned first)
{
	struct loop_ring *r = l->ring;
	usec_t until = io_now() + CLOSE_WAIT_US;
	unsigned left = 0;

	for (unsigned i = first; i < r->n_kfd; i++)
		if (r->kfd[i].armed)
			ring_cancel(l, ud_make(UD_KFD, r->kfd[i].gen, i));
	for (unsigned i = 0; i < first; i++)
		left += r->kfd[i].armed;
	while (r->n_kfd_armed > left && io_now() < until) {
		ring_enter(l, true, uring_cqe(&r->u) ? 0 : 1, MSEC(1), NULL);
		ring_reap(l);
	}
}

static void ring_kfds_forget(struct io_loop *l, uint64_t key)
{
	if (l->ring->n_kfd_armed && l->ring->kfds_key == key)
		ring_kfds_cancel(l, 0);
}

const struct loop_ops loop_uring_ops = {
	.open = ring_open,
	.close = ring_close,
	.abandon = ring_abandon,
	.wait = ring_wait,
	.flush = ring_flush,
	.kfds_forget = ring_kfds_forget,
	.rx_read = ring_rx_read,
	.rx_return = ring_rx_return,
};
