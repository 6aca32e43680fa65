/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * memdev.c - two device ends joined by queues in memory
 *
 * An eventfd per direction is readable exactly while frames wait: it is written when a queue becomes non-empty and read when
 * it becomes empty, both under the queue's lock.
 */
#include "memdev.h"
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include "sys.h"

struct mem_frame {
	struct mem_frame *next;
	size_t len;
	unsigned char bytes[];
};

struct mem_queue {
	pthread_mutex_t lock;
	struct mem_frame *head, **tail;
	unsigned n, max;
	int event_fd;
};

struct memdev_end {
	struct mem_queue *in, *out;
};

struct memdev_pair {
	struct mem_queue queue[2];
	struct memdev_end end[2];
};

int memdev_pair(struct memdev_end *ret_ends[2], unsigned frames_max)
{
	struct memdev_pair *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	for (int i = 0; i < 2; i++) {
		struct mem_queue *q = &m->queue[i];

		pthread_mutex_init(&q->lock, NULL);
		q->tail = &q->head;
		q->max = frames_max;
		q->event_fd = (int)SYS3(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK, 0);
		m->end[i] = (struct memdev_end){ .in = q, .out = &m->queue[!i] };
	}
	if (m->queue[0].event_fd < 0 || m->queue[1].event_fd < 0) {
		memdev_close((struct memdev_end *[2]){ &m->end[0], &m->end[1] });
		return -EMFILE;
	}
	ret_ends[0] = &m->end[0];
	ret_ends[1] = &m->end[1];
	return 0;
}

void memdev_close(struct memdev_end *ends[2])
{
	struct memdev_pair *m;

	if (!ends[0])
		return;
	m = (struct memdev_pair *)((char *)ends[0] - offsetof(struct memdev_pair, end));
	for (int i = 0; i < 2; i++) {
		for (struct mem_frame *f; (f = m->queue[i].head) != NULL; free(f))
			m->queue[i].head = f->next;
		sys_close(m->queue[i].event_fd);
		pthread_mutex_destroy(&m->queue[i].lock);
	}
	free(m);
	ends[0] = ends[1] = NULL;
}

static struct mem_frame *mem_frame_new(const struct iovec *iov, int n_iov)
{
	struct mem_frame *f;
	size_t len = 0;

	for (int i = 0; i < n_iov; i++)
		len += iov[i].iov_len;
	f = malloc(sizeof(*f) + len);
	if (!f)
		return NULL;
	f->next = NULL;
	f->len = 0;
	for (int i = 0; i < n_iov; i++) {
		memcpy(f->bytes + f->len, iov[i].iov_base, iov[i].iov_len);
		f->len += iov[i].iov_len;
	}
	return f;
}

long memdev_send(struct memdev_end *e, const struct iovec *iov, int n_iov)
{
	struct mem_queue *q = e->out;
	struct mem_frame *f = mem_frame_new(iov, n_iov);
	uint64_t one = 1;
	long r = f ? (long)f->len : -ENOMEM;

	pthread_mutex_lock(&q->lock);
	if (f && q->n == q->max) {
		r = -EAGAIN;
		free(f);
	} else if (f) {
		*q->tail = f;
		q->tail = &f->next;
		if (q->n++ == 0)
			SYS3(SYS_write, q->event_fd, &one, sizeof(one));
	}
	pthread_mutex_unlock(&q->lock);
	return r;
}

long memdev_recv(struct memdev_end *e, void *buf, size_t bytes)
{
	struct mem_queue *q = e->in;
	struct mem_frame *f;
	uint64_t count;
	long r = -EAGAIN;

	pthread_mutex_lock(&q->lock);
	f = q->head;
	if (f) {
		q->head = f->next;
		if (--q->n == 0) {
			q->tail = &q->head;
			SYS3(SYS_read, q->event_fd, &count, sizeof(count));
		}
	}
	pthread_mutex_unlock(&q->lock);
	if (f) {
		r = (long)(f->len < bytes ? f->len : bytes);
		memcpy(buf, f->bytes, (size_t)r);
		free(f);
	}
	return r;
}

int memdev_fd(const struct memdev_end *e)
{
	return e->in->event_fd;
}
