/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * loop_priv.h - what loop.c and the levels behind it share
 *
 * loop.c keeps what all levels have: landing buffers, frames that came in, frames to send, frames sent, decorators. A level
 * (loop_uring.c for full and uring, loop_poll.c) knows how to sleep and how to move bytes.
 *
 *   landing buffer:  free -> (posted to the kernel ->) filled, in rxq -> borrowed by io_loop_rx() -> free at rx_done
 *   pbuf:            txq -> (in a submission entry ->) done list -> io_loop_tx_reap()
 */
#ifndef OWNSTACK_IO_LOOP_PRIV_H
#define OWNSTACK_IO_LOOP_PRIV_H

#include <sys/uio.h>
#include "io.h"
#include "impair.h"
#include "memdev.h"
#include "pcap.h"
#include "waker.h"

/*
 * A stride of an odd number of cache lines: buffers that all began at the same place of a page would fight for the same
 * few lines of the first-level cache, since most frames fill only the front of theirs.
 */
#define LANDING_N	     16 /* a power of two: entries of the buffer ring too. 32 cost 64 KiB frames a third (docs/io.md) */
#define LANDING_STRIDE	     (65u * 1024 + 64)
#define LANDING_FEW	     4 /* while frames are large: what was filled is read again while the second-level cache still has it */
#define LANDING_LARGE_BYTES  16384
#define LANDING_BYTES	     (LANDING_N * (size_t)LANDING_STRIDE)
_Static_assert(FRAME_MAX_BYTES <= LANDING_STRIDE, "any frame fits a landing buffer");

#define RX_RETRY_US	     MSEC(100) /* after a device error, before the receive is armed again */
#define IOV_PER_PBUF	     (1 + PBUF_FRAGS_MAX)

struct rx_item {
	uint32_t len;
	uint16_t buf;
};

struct pbuf_list {
	struct pbuf *head, *tail;
	unsigned n;
};

struct loop_ring; /* loop_uring.c */
struct loop_poll; /* loop_poll.c */

struct loop_ops {
	int (*open)(struct io_loop *l, const struct io_loop_config *cfg);
	void (*close)(struct io_loop *l);
	void (*abandon)(struct io_loop *l);
	int (*wait)(struct io_loop *l, struct io_wait *w);
	void (*flush)(struct io_loop *l);
	void (*kfds_forget)(struct io_loop *l, uint64_t key); /* NULL: no poll outlives its wait */
	void (*rx_read)(struct io_loop *l);		    /* takes in what waits, as buffers allow; NULL: comes by itself */
	void (*rx_return)(struct io_loop *l, uint16_t buf); /* buffer is free again */
};
extern const struct loop_ops loop_uring_ops, loop_poll_ops;
/**
 * loop_uring_first() - the best level there is, found out on the ring that @l then keeps
 *
 * A ring made for the question alone and closed again would cost the thread one EINTR out of nowhere, in whatever it sleeps
 * in some milliseconds later: the kernel tells the maker of a ring of its end by a task work that counts as a signal.
 */
enum io_level loop_uring_first(struct io_loop *l);
void loop_uring_drop(struct io_loop *l); /* what loop_uring_first() made, where opening goes no further */

struct io_loop {
	enum io_level level;
	enum io_kind kind;
	const struct loop_ops *ops;
	struct io_waker *waker;
	int wake_fd; /* -1: woken by futex */
	int dev_fd;  /* ours, >= 1000; -1: the ring holds the device */
	struct memdev_end *mem;

	uint8_t *landing;
	uint16_t free_buf[LANDING_N]; /* a stack: the hottest is on top */
	unsigned n_free;
	unsigned rx_max; /* buffers that may be filled at a time: LANDING_N or LANDING_FEW, by the frames of the last batch */
	struct rx_item rxq[LANDING_N]; /* filled: [rx_next, rx_end), borrowed: [rx_first, rx_next); indexes run free */
	uint32_t rx_first, rx_next, rx_end;
	bool rx_ready;	     /* levels uring and poll: the device has frames, as far as we know */
	usec_t rx_retry;     /* not armed before: the device had an error. 0: none */

	struct pbuf_list txq, done;
	struct io_stats stats;

	struct pcap *pcap;
	struct impair *impair_rx, *impair_tx;
	struct impair_frame *impair_lent; /* given out by io_loop_rx() */

	void (*sleep_hook)(void *arg, bool begins);
	void *sleep_arg;
	union {
		struct loop_ring *ring;
		struct loop_poll *poll;
	};
	size_t self_bytes;
};

static inline uint8_t *landing_at(const struct io_loop *l, uint16_t buf)
{
	return l->landing + (size_t)buf * LANDING_STRIDE;
}
static inline bool landing_any(const struct io_loop *l)
{
	return l->n_free > LANDING_N - l->rx_max;
}
static inline bool rxq_empty(const struct io_loop *l)
{
	return l->rx_next == l->rx_end;
}

void loop_rx_filled(struct io_loop *l, uint16_t buf, uint32_t len); /* frame with its virtio-net header, in arrival order */
void pbuf_list_add(struct pbuf_list *list, struct pbuf *p);
struct pbuf *pbuf_list_take(struct pbuf_list *list);
/** loop_tx_next() - next frame to send, decorators passed; NULL: none. Those that impairment swallowed are done already */
struct pbuf *loop_tx_next(struct io_loop *l);
void loop_tx_done(struct io_loop *l, struct pbuf *p, int res); /* @res: bytes written or negative errno */
int pbuf_iov(struct pbuf *p, struct iovec iov[IOV_PER_PBUF]);
/** loop_dev_write() - one frame by one system call, never blocks */
long loop_dev_write(struct io_loop *l, const struct iovec *iov, int n_iov);
long loop_dev_read(struct io_loop *l, uint8_t *buf, size_t bytes);
/** loop_deadline() - of a wait: the caller's, or earlier where impairment or a device error asks for it */
usec_t loop_deadline(const struct io_loop *l, const struct io_wait *w);

#endif
