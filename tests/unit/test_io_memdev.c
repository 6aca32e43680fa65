/* SPDX-License-Identifier: BSD-2-Clause */
/* test_io_memdev.c - two ends in memory, alone and under a loop with its decorators */
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../../io/io.h"
#include "../../io/memdev.h"

static bool readable(struct memdev_end *e)
{
	struct pollfd p = { .fd = memdev_fd(e), .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

Test(io_memdev, frames_cross_in_order_and_fd_says_so)
{
	struct memdev_end *e[2];
	char a[60] = "head", b[500] = "tail", buf[600];
	struct iovec iov[2] = { { a, sizeof(a) }, { b, sizeof(b) } };

	cr_assert_eq(memdev_pair(e, 3), 0);
	cr_assert(!readable(e[1]));
	cr_assert_eq(memdev_recv(e[1], buf, sizeof(buf)), -EAGAIN);
	for (int i = 0; i < 3; i++) {
		b[0] = (char)i;
		cr_assert_eq(memdev_send(e[0], iov, 2), 560);
	}
	cr_assert_eq(memdev_send(e[0], iov, 2), -EAGAIN, "full");
	cr_assert(readable(e[1]) && !readable(e[0]));
	for (int i = 0; i < 3; i++) {
		cr_assert(readable(e[1]));
		cr_assert_eq(memdev_recv(e[1], buf, sizeof(buf)), 560);
		cr_assert_eq(buf[60], i);
	}
	cr_assert(!readable(e[1]));
	cr_assert_eq(memdev_send(e[0], iov, 2), 560, "room again");
	memdev_close(e);
	memdev_close(e);
}

/* ---- under a loop ---- */

static struct io_loop *loop_on(struct memdev_end *e, struct io_waker *w, const char *impair)
{
	struct io_loop_config lc = { .kind = IO_KIND_MEM, .mem = e, .impair = impair };
	struct io_loop *l = NULL;

	cr_assert_eq(io_loop_open(&l, &lc, w), 0);
	return l;
}

static int send_n(struct memdev_end *e, int n)
{
	char a[100] = { 0 };
	struct iovec iov = { a, sizeof(a) };
	int sent = 0;

	for (; n > 0; n--)
		sent += memdev_send(e, &iov, 1) == (long)sizeof(a);
	return sent;
}

Test(io_memdev, loop_delays_by_its_impairment)
{
	struct memdev_end *e[2];
	struct io_waker waker = { 0 };
	struct frame f[64];
	usec_t start = io_now();
	int got = 0, k;

	cr_assert_eq(memdev_pair(e, 64), 0);
	struct io_loop *l = loop_on(e[0], &waker, "delay=30ms");
	cr_assert_eq(io_loop_level(l), IO_LEVEL_POLL);
	cr_assert_eq(send_n(e[1], 40), 40); /* more than landing buffers */
	while (got < 40) {
		struct io_wait w = { .rx = true, .block = true, .deadline = io_now() + SEC(5) };

		cr_assert_eq(io_loop_wait(l, &w), IO_WAIT_RX);
		while ((k = io_loop_rx(l, f, 64, true)) > 0) {
			cr_assert_geq(io_now() - start, MSEC(30));
			cr_assert_eq(f[0].len, 90);
			got += k;
			io_loop_rx_done(l);
		}
	}
	io_loop_close(l);
	memdev_close(e);
}

Test(io_memdev, loop_sends_late_what_impairment_delays)
{
	struct memdev_end *e[2];
	struct io_waker waker = { 0 };
	struct pbuf p = { .hdr_off = 0, .hdr_len = 100, .len = 90 };
	struct io_wait w = { .rx = true, .block = true };
	usec_t start = io_now();
	char buf[200];

	cr_assert_eq(memdev_pair(e, 64), 0);
	struct io_loop *l = loop_on(e[0], &waker, "delay=30ms");
	io_loop_tx(l, &p);
	io_loop_flush(l);
	cr_assert_eq(io_loop_tx_reap(l), &p);
	cr_assert_eq(memdev_recv(e[1], buf, sizeof(buf)), -EAGAIN);
	w.deadline = io_now() + MSEC(60);
	cr_assert_eq(io_loop_wait(l, &w), 0); /* the wait wakes by itself to send it */
	cr_assert_eq(memdev_recv(e[1], buf, sizeof(buf)), 100);
	cr_assert_geq(io_now() - start, MSEC(30));
	io_loop_close(l);
	memdev_close(e);
}

Test(io_memdev, full_queue_counts_errors_and_gives_frames_back)
{
	struct memdev_end *e[2];
	struct io_waker waker = { 0 };
	struct pbuf p[10] = { 0 };
	struct io_stats st;
	int back = 0;

	cr_assert_eq(memdev_pair(e, 4), 0);
	struct io_loop *l = loop_on(e[0], &waker, NULL);
	for (int i = 0; i < 10; i++) {
		p[i].hdr_len = 100;
		p[i].len = 90;
		io_loop_tx(l, &p[i]);
	}
	io_loop_flush(l);
	for (struct pbuf *q = io_loop_tx_reap(l); q; q = q->next)
		back++;
	io_loop_stats(l, &st);
	cr_assert_eq(back, 10);
	cr_assert_eq(st.tx_frames, 4);
	cr_assert_eq(st.tx_bytes, 4 * 90);
	cr_assert_eq(st.tx_errors, 6);
	io_loop_close(l);
	memdev_close(e);
}

static void *send_later(void *arg)
{
	usleep(10000);
	send_n(arg, 1);
	return NULL;
}

Test(io_memdev, frame_of_another_thread_ends_the_sleep)
{
	struct memdev_end *e[2];
	struct io_waker waker = { 0 };
	struct io_wait w = { .rx = true, .block = true, .deadline = io_now() + SEC(5) };
	pthread_t t;

	cr_assert_eq(memdev_pair(e, 64), 0);
	struct io_loop *l = loop_on(e[0], &waker, NULL);
	cr_assert_eq(pthread_create(&t, NULL, send_later, e[1]), 0);
	cr_assert_eq(io_loop_wait(l, &w), IO_WAIT_RX);
	pthread_join(t, NULL);
	io_loop_close(l);
	memdev_close(e);
}
