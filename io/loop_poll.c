/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * loop_poll.c - the level for where io_uring is forbidden, and for memory devices: ppoll, read, writev
 *
 * A wait sends what is queued, one writev each, then sleeps in one ppoll on the wake socket, the device (only with the
 * role: nothing is ever taken from the queue without it) and the caller's descriptors. Frames are read by io_loop_rx().
 */
#include "loop_priv.h"
#include <string.h>
#include <time.h>
#include "sys.h"

#define KERNEL_SIGSET_BYTES 8

struct loop_poll {
	struct pollfd *fds; /* wake, device, then the caller's */
	unsigned cap;
};
enum { P_WAKE, P_DEV, P_KFDS };

static int poll_open(struct io_loop *l, const struct io_loop_config *cfg)
{
	(void)cfg;
	l->poll = sys_mmap_anon(sizeof(*l->poll), 0);
	return l->poll ? 0 : -ENOMEM;
}

static void poll_close(struct io_loop *l)
{
	sys_munmap(l->poll->fds, l->poll->cap * sizeof(struct pollfd));
	sys_munmap(l->poll, sizeof(*l->poll));
}

static bool poll_grow(struct loop_poll *p, unsigned n)
{
	unsigned cap = p->cap ? p->cap : 64;
	struct pollfd *bigger;

	if (n <= p->cap)
		return true;
	while (cap < n)
		cap *= 2;
	bigger = sys_mmap_anon(cap * sizeof(*bigger), 0);
	if (!bigger)
		return false;
	sys_munmap(p->fds, p->cap * sizeof(*bigger));
	p->fds = bigger;
	p->cap = cap;
	return true;
}

static void poll_flush(struct io_loop *l)
{
	struct iovec iov[IOV_PER_PBUF];
	struct pbuf *p;

	while ((p = loop_tx_next(l)) != NULL) {
		int n = pbuf_iov(p, iov);

		l->stats.enters++;
		loop_tx_done(l, p, (int)loop_dev_write(l, iov, n));
	}
}

static void poll_rx_read(struct io_loop *l)
{
	while (landing_any(l)) {
		uint16_t buf = l->free_buf[--l->n_free];
		long n = loop_dev_read(l, landing_at(l, buf), LANDING_STRIDE);

		l->stats.enters++;
		if (n > 0) {
			loop_rx_filled(l, buf, (uint32_t)n);
			continue;
		}
		l->free_buf[l->n_free++] = buf;
		l->rx_ready = false;
		if (n != -EAGAIN && n != -EINTR && n != 0)
			l->rx_retry = io_now() + RX_RETRY_US;
		return;
	}
}

static void poll_rx_return(struct io_loop *l, uint16_t buf)
{
	l->free_buf[l->n_free++] = buf;
}

static int poll_bits(const struct io_loop *l, const struct io_wait *w)
{
	int bits = !rxq_empty(l) || (w->rx && l->rx_ready) ? IO_WAIT_RX : 0;

	if (l->impair_rx && impair_deadline(l->impair_rx) != USEC_NEVER && impair_deadline(l->impair_rx) <= io_now())
		bits |= IO_WAIT_RX;
	if (waker_word(l->waker) != w->wake_seen)
		bits |= IO_WAIT_WAKE;
	return bits;
}

/** poll_prepare() - the set for ppoll; its array is the loop's, since the caller's has no room for our two */
static void poll_prepare(struct io_loop *l, const struct io_wait *w)
{
	struct pollfd *fds = l->poll->fds;
	bool rx = w->rx && (!l->rx_retry || io_now() >= l->rx_retry);

	fds[P_WAKE] = (struct pollfd){ .fd = w->block ? l->wake_fd : -1, .events = POLLIN };
	fds[P_DEV] = (struct pollfd){ .fd = rx ? (l->mem ? memdev_fd(l->mem) : l->dev_fd) : -1, .events = POLLIN };
	if (rx)
		l->rx_retry = 0;
	if (w->n_kfds)
		memcpy(fds + P_KFDS, w->kfds, w->n_kfds * sizeof(*fds));
}

static int poll_take(struct io_loop *l, struct io_wait *w)
{
	struct pollfd *fds = l->poll->fds;
	int bits = 0;

	if (fds[P_WAKE].revents)
		waker_drain(l->wake_fd);
	if (fds[P_DEV].revents & POLLIN)
		l->rx_ready = true;
	else if (fds[P_DEV].revents)
		l->rx_retry = io_now() + RX_RETRY_US;
	for (unsigned i = 0; i < w->n_kfds; i++) {
		w->kfds[i].revents = fds[P_KFDS + i].revents;
		bits |= w->kfds[i].revents ? IO_WAIT_KFD : 0;
	}
	return bits;
}

/** poll_turn() - one ppoll. @sleep: until something comes or @deadline, else one look */
static long poll_turn(struct io_loop *l, struct io_wait *w, bool sleep, usec_t deadline)
{
	usec_t now = deadline == USEC_NEVER ? 0 : io_now(), us = !sleep || now >= deadline ? 0 : deadline - now;
	struct timespec ts = { (time_t)(us / 1000000), (long)(us % 1000000) * 1000 };
	long r;

	if (sleep)
		sleep = waker_sleep_begin(l->waker, w->wake_seen);
	if (!sleep)
		ts = (struct timespec){ 0 };
	if (sleep && l->sleep_hook)
		l->sleep_hook(l->sleep_arg, true);
	r = SYS6(SYS_ppoll, l->poll->fds, w->n_kfds + P_KFDS, sleep && deadline == USEC_NEVER ? NULL : &ts,
		 sleep ? w->mask : NULL, KERNEL_SIGSET_BYTES, 0);
	if (sleep && l->sleep_hook)
		l->sleep_hook(l->sleep_arg, false);
	waker_sleep_end(l->waker);
	l->stats.enters++;
	return r;
}

static int poll_wait(struct io_loop *l, struct io_wait *w)
{
	usec_t deadline;
	int bits;
	long r;

	if (!poll_grow(l->poll, w->n_kfds + P_KFDS))
		return -ENOMEM;
	for (;;) {
		poll_flush(l);
		deadline = loop_deadline(l, w);
		poll_prepare(l, w);
		bits = poll_bits(l, w);
		r = poll_turn(l, w, w->block && !bits, deadline);
		if (r < 0)
			return (int)r;
		bits = poll_take(l, w) | poll_bits(l, w);
		if (bits || !w->block)
			return bits;
		if (w->deadline != USEC_NEVER && io_now() >= w->deadline)
			return 0;
	}
}

const struct loop_ops loop_poll_ops = {
	.open = poll_open,
	.close = poll_close,
	.abandon = poll_close,
	.wait = poll_wait,
	.flush = poll_flush,
	.rx_read = poll_rx_read,
	.rx_return = poll_rx_return,
};
