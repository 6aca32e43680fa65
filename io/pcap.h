/* SPDX-License-Identifier: BSD-2-Clause */
/* pcap.h - frames into a pcapng file; see pcap.c */
#ifndef OWNSTACK_IO_PCAP_H
#define OWNSTACK_IO_PCAP_H

#include <sys/uio.h>
#include "../stack/netdev.h"

struct pcap;

/** pcap_open() - @path is made, or added to if it is such a file already; several processes may write to one file */
int pcap_open(struct pcap **ret_pcap, const char *path);
void pcap_close(struct pcap *pc); /* takes; NULL is fine */
void pcap_frame(struct pcap *pc, const struct frame *f, bool in);
/** pcap_iov() - frame in pieces, @iov[0] begins with the virtio-net header */
void pcap_iov(struct pcap *pc, const struct iovec *iov, int n_iov, bool in);

#endif
