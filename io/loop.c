/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * loop.c - the loop as its callers see it, and what all levels have in common
 *
 * In:   level fills a landing buffer -> loop_rx_filled() -> rxq -> io_loop_rx() lends it -> io_loop_rx_done() -> level.
 *       With impairment a frame takes a detour: copied out of its landing buffer, lent when its time has come.
 * Out:  io_loop_tx() -> txq -> the level takes it by loop_tx_next(), sends, loop_tx_done() -> io_loop_tx_reap().
 *
 * A frame that the device does not take at once (queue full: -EAGAIN, -ENOBUFS; interface down: -EIO, -ENETDOWN) is counted
 * in tx_errors and dropped, as a network card does whose queue overflows. Waiting instead would hold up everything behind
 * it and the receive on the same ring; TCP sends again what was lost, and slows down, which is the right answer to a full queue.
 *
 * The loop's own struct is plain private memory and so still there in a fork child, where io_loop_abandon() closes the
 * inherited descriptors. What the kernel writes to (ring, landing buffers) is not inherited.
 */
#include "loop_priv.h"
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include "sys.h"

static int loop_decorate(struct io_loop *l, const struct io_loop_config *cfg);
static void loop_free(struct io_loop *l);
static int loop_rx_impaired(struct io_loop *l, struct frame *ret_frames, int max);
static void loop_tx_impaired_due(struct io_loop *l);

usec_t io_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return SEC(ts.tv_sec) + (usec_t)ts.tv_nsec / 1000;
}

/* ---- opening, closing ---- */

static int loop_level(struct io_loop *l, const struct io_loop_config *cfg)
{
	if (cfg->kind == IO_KIND_MEM)
		return IO_LEVEL_POLL; /* memory has no descriptor that a ring could read */
	return (int)(cfg->level ? cfg->level : loop_uring_first(l));
}

/* @level: 0: the best that @cfg allows */
static int loop_open_at(struct io_loop **ret_loop, const struct io_loop_config *cfg, struct io_waker *waker, int level)
{
	struct io_loop *l = sys_mmap_anon(sizeof(*l), 0);
	int r;

	if (!l)
		return -ENOMEM;
	l->self_bytes = sizeof(*l);
	l->wake_fd = l->dev_fd = -1;
	l->rx_max = LANDING_N;
	l->kind = cfg->kind;
	l->mem = cfg->mem;
	l->waker = waker;
	l->sleep_hook = cfg->sleep_hook;
	l->sleep_arg = cfg->sleep_arg;
	r = level ? level : loop_level(l, cfg);
	if (r > 0) {
		l->level = (enum io_level)r;
		l->ops = l->level == IO_LEVEL_POLL ? &loop_poll_ops : &loop_uring_ops;
		l->landing = sys_mmap_anon(LANDING_BYTES, 0);
		r = l->landing ? 0 : -ENOMEM;
	}
	for (uint16_t i = LANDING_N; l->landing && i-- > 0;)
		l->free_buf[l->n_free++] = i;
	if (r == 0) {
		SYS3(SYS_madvise, l->landing, LANDING_BYTES, MADV_DONTFORK);
		r = loop_decorate(l, cfg);
	}
	if (r == 0 && cfg->kind != IO_KIND_MEM && (l->level == IO_LEVEL_POLL || l->impair_tx)) {
		l->dev_fd = sys_fd_high(cfg->queue_fd);
		r = l->dev_fd < 0 ? l->dev_fd : 0;
	}
	if (r == 0)
		r = waker_open(waker, l->level != IO_LEVEL_FULL, &l->wake_fd);
	if (r == 0)
		r = l->ops->open(l, cfg);
	if (r < 0) {
		if (l->level != IO_LEVEL_POLL)
			loop_uring_drop(l);
		loop_free(l);
		return r;
	}
	*ret_loop = l;
	return 0;
}

/* A ring counts as locked memory of the user's, where the probe's small one still found room: then without. */
int io_loop_open(struct io_loop **ret_loop, const struct io_loop_config *cfg, struct io_waker *waker)
{
	int r = loop_open_at(ret_loop, cfg, waker, 0);

	if (r == -ENOMEM && !cfg->level && cfg->kind != IO_KIND_MEM)
		r = loop_open_at(ret_loop, cfg, waker, IO_LEVEL_POLL);
	return r;
}

static int loop_decorate(struct io_loop *l, const struct io_loop_config *cfg)
{
	int r = 0;

	if (cfg->pcap_path)
		r = pcap_open(&l->pcap, cfg->pcap_path);
	if (r == 0 && cfg->impair)
		r = impair_open(&l->impair_rx, cfg->impair, 0);
	if (r == 0 && cfg->impair)
		r = impair_open(&l->impair_tx, cfg->impair, 1);
	return r;
}

static void loop_free(struct io_loop *l)
{
	waker_close(l->waker, l->wake_fd);
	sys_close(l->dev_fd);
	pcap_close(l->pcap);
	impair_free_frame(l->impair_lent);
	impair_close(l->impair_rx);
	impair_close(l->impair_tx);
	sys_munmap(l->landing, LANDING_BYTES);
	sys_munmap(l, l->self_bytes);
}

void io_loop_close(struct io_loop *l)
{
	if (!l)
		return;
	l->ops->close(l);
	loop_free(l);
}

/* Landing buffers and ring memory are not mapped here (MADV_DONTFORK): only descriptors and the struct itself are left. */
void io_loop_abandon(struct io_loop *l)
{
	if (!l)
		return;
	l->ops->abandon(l);
	sys_close(l->wake_fd);
	sys_close(l->dev_fd);
	pcap_close(l->pcap);
	impair_free_frame(l->impair_lent);
	impair_close(l->impair_rx);
	impair_close(l->impair_tx);
	sys_munmap(l, l->self_bytes);
}

enum io_level io_loop_level(const struct io_loop *l)
{
	return l->level;
}

void io_loop_stats(const struct io_loop *l, struct io_stats *ret)
{
	*ret = l->stats;
}

int io_loop_wait(struct io_loop *l, struct io_wait *w)
{
	if (l->impair_tx)
		loop_tx_impaired_due(l);
	return l->ops->wait(l, w);
}

usec_t loop_deadline(const struct io_loop *l, const struct io_wait *w)
{
	usec_t d = w->deadline;

	if (l->rx_retry && w->rx && l->rx_retry < d)
		d = l->rx_retry;
	if (l->impair_rx && impair_deadline(l->impair_rx) < d)
		d = impair_deadline(l->impair_rx);
	if (l->impair_tx && impair_deadline(l->impair_tx) < d)
		d = impair_deadline(l->impair_tx);
	return d;
}

/* ---- in ---- */

void loop_rx_filled(struct io_loop *l, uint16_t buf, uint32_t len)
{
	if (len < VNET_HDR_BYTES + ETH_HDR_BYTES) {
		l->ops->rx_return(l, buf); /* no device gives such a frame; a test's queue might */
		return;
	}
	l->rxq[l->rx_end++ % LANDING_N] = (struct rx_item){ .len = len, .buf = buf };
	l->stats.rx_frames++;
	l->stats.rx_bytes += len - VNET_HDR_BYTES;
}

static void frame_from(struct frame *f, const uint8_t *buf, uint32_t len)
{
	memcpy(&f->vnet, buf, VNET_HDR_BYTES);
	f->data = buf + VNET_HDR_BYTES;
	f->len = len - VNET_HDR_BYTES;
}

int io_loop_rx(struct io_loop *l, struct frame *ret_frames, int max, bool may_read)
{
	int n = 0;

	if (may_read && rxq_empty(l) && l->rx_ready && l->ops->rx_read)
		l->ops->rx_read(l);
	if (l->impair_rx)
		return loop_rx_impaired(l, ret_frames, max);
	for (; n < max && !rxq_empty(l); n++) {
		const struct rx_item *it = &l->rxq[l->rx_next++ % LANDING_N];

		frame_from(&ret_frames[n], landing_at(l, it->buf), it->len);
		if (l->pcap)
			pcap_frame(l->pcap, &ret_frames[n], true);
	}
	return n;
}

/* How many buffers the next batch may fill */
static void rx_max_set(struct io_loop *l)
{
	uint32_t n = l->rx_next - l->rx_first, bytes = 0;

	for (uint32_t i = l->rx_first; i != l->rx_next; i++)
		bytes += l->rxq[i % LANDING_N].len;
	if (n > 0)
		l->rx_max = bytes / n > LANDING_LARGE_BYTES ? LANDING_FEW : LANDING_N;
}

void io_loop_rx_done(struct io_loop *l)
{
	rx_max_set(l);
	/* newest first: on the stack the buffer used longest ago, the coldest, must not come out on top */
	for (uint32_t i = l->rx_next; i != l->rx_first; i--)
		l->ops->rx_return(l, l->rxq[(i - 1) % LANDING_N].buf);
	l->rx_first = l->rx_next;
	while (l->impair_lent) {
		struct impair_frame *f = l->impair_lent;

		l->impair_lent = f->next;
		f->next = NULL;
		impair_free_frame(f);
	}
}

static int loop_rx_impaired(struct io_loop *l, struct frame *ret_frames, int max)
{
	usec_t now = io_now();
	int n = 0;

	while (!rxq_empty(l)) {
		const struct rx_item *it = &l->rxq[l->rx_next++ % LANDING_N];
		struct iovec iov = { landing_at(l, it->buf), it->len };

		impair_push(l->impair_rx, &iov, 1, now);
		l->ops->rx_return(l, it->buf);
		l->rx_first = l->rx_next;
	}
	for (struct impair_frame *f; n < max && (f = impair_pop(l->impair_rx, now)) != NULL; n++) {
		f->next = l->impair_lent;
		l->impair_lent = f;
		frame_from(&ret_frames[n], f->bytes, f->len);
		if (l->pcap)
			pcap_frame(l->pcap, &ret_frames[n], true);
	}
	return n;
}

/* ---- out ---- */

void pbuf_list_add(struct pbuf_list *list, struct pbuf *p)
{
	p->next = NULL;
	if (list->head)
		list->tail->next = p;
	else
		list->head = p;
	list->tail = p;
	list->n++;
}

struct pbuf *pbuf_list_take(struct pbuf_list *list)
{
	struct pbuf *p = list->head;

	if (p) {
		list->head = p->next;
		list->n--;
		p->next = NULL;
	}
	return p;
}

int pbuf_iov(struct pbuf *p, struct iovec iov[IOV_PER_PBUF])
{
	int n = 1;

	iov[0] = (struct iovec){ pbuf_head(p), p->hdr_len };
	for (unsigned i = 0; i < p->n_frags; i++)
		iov[n++] = (struct iovec){ p->frag[i].cell->data + p->frag[i].off, p->frag[i].len };
	return n;
}

void io_loop_tx(struct io_loop *l, struct pbuf *list)
{
	for (struct pbuf *next; list; list = next) {
		next = list->next;
		pbuf_list_add(&l->txq, list);
	}
}

unsigned io_loop_tx_queued(const struct io_loop *l)
{
	return l->txq.n;
}

void io_loop_kfds_forget(struct io_loop *l, uint64_t key)
{
	if (l->ops->kfds_forget)
		l->ops->kfds_forget(l, key);
}

void io_loop_flush(struct io_loop *l)
{
	if (l->impair_tx)
		loop_tx_impaired_due(l);
	l->ops->flush(l);
}

struct pbuf *io_loop_tx_reap(struct io_loop *l)
{
	struct pbuf *list = l->done.head;

	l->done = (struct pbuf_list){ 0 };
	return list;
}

void loop_tx_done(struct io_loop *l, struct pbuf *p, int res)
{
	if (res < 0) {
		l->stats.tx_errors++;
	} else {
		l->stats.tx_frames++;
		l->stats.tx_bytes += p->len;
	}
	pbuf_list_add(&l->done, p);
}

static void loop_tx_record(struct io_loop *l, struct pbuf *p)
{
	struct iovec iov[IOV_PER_PBUF];
	int n = pbuf_iov(p, iov);

	if (l->pcap)
		pcap_iov(l->pcap, iov, n, false);
	if (l->impair_tx && !p->told)
		impair_push(l->impair_tx, iov, n, io_now());
}

struct pbuf *loop_tx_next(struct io_loop *l)
{
	struct pbuf *p;

	while ((p = pbuf_list_take(&l->txq)) != NULL) {
		if (l->pcap || l->impair_tx)
			loop_tx_record(l, p);
		if (!l->impair_tx && !p->told)
			return p;
		loop_tx_done(l, p, 0);
	}
	if (l->impair_tx)
		loop_tx_impaired_due(l);
	return NULL;
}

/* Frames whose time has come go out one by one: who asks for impairment does not measure speed. */
static void loop_tx_impaired_due(struct io_loop *l)
{
	struct impair_frame *f;
	usec_t now = io_now();

	while ((f = impair_pop(l->impair_tx, now)) != NULL) {
		struct iovec iov = { f->bytes, f->len };

		if (loop_dev_write(l, &iov, 1) < 0)
			l->stats.tx_errors++;
		impair_free_frame(f);
	}
}

/* ---- one frame, one system call ---- */

long loop_dev_write(struct io_loop *l, const struct iovec *iov, int n_iov)
{
	if (l->kind == IO_KIND_MEM)
		return memdev_send(l->mem, iov, n_iov);
	return SYS3(SYS_writev, l->dev_fd, iov, n_iov);
}

long loop_dev_read(struct io_loop *l, uint8_t *buf, size_t bytes)
{
	if (l->kind == IO_KIND_MEM)
		return memdev_recv(l->mem, buf, bytes);
	return SYS3(SYS_read, l->dev_fd, buf, bytes);
}
