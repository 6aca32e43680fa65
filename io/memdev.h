/* SPDX-License-Identifier: BSD-2-Clause */
/* memdev.h - two device ends joined by queues in this process's memory: what one sends the other receives; for tests */
#ifndef OWNSTACK_IO_MEMDEV_H
#define OWNSTACK_IO_MEMDEV_H

#include <stddef.h>
#include <sys/uio.h>

struct memdev_end;

/** memdev_pair() - two ends, each way holding up to @frames_max frames. Any thread may use an end. 0 or -ENOMEM, -EMFILE */
int memdev_pair(struct memdev_end *ret_ends[2], unsigned frames_max);
void memdev_close(struct memdev_end *ends[2]); /* takes both; NULL is fine */
/** memdev_send() - one frame, virtio-net header first. Return: its length, -EAGAIN: the queue is full */
long memdev_send(struct memdev_end *e, const struct iovec *iov, int n_iov);
/** memdev_recv() - oldest frame, cut at @bytes. Return: its length, -EAGAIN: none */
long memdev_recv(struct memdev_end *e, void *buf, size_t bytes);
int memdev_fd(const struct memdev_end *e); /* readable while frames wait */

#endif
