/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pbuf.h - payload cells, and frames on their way out
 *
 * A cell is a block of arena memory with a small header: the unit in which send and receive buffers are held, counted and
 * freed. A pbuf is one outgoing frame: its headers inside, its payload by reference to cells. Between stack_output() and
 * stack_tx_done() the kernel may read those cells, so each reference is counted and a cell goes back to its pool when the
 * last one goes, acknowledged or not.
 *
 *   pbuf.hdr:  | room | virtio-net 10 | Ethernet 14 | IP | TCP + options |   one contiguous run, pbuf_head()/hdr_len
 *   frag[0..n): payload
 *
 * State is one byte, one store each, so that a repair after a death inside the lock can tell what is in flight.
 */
#ifndef OWNSTACK_STACK_PBUF_H
#define OWNSTACK_STACK_PBUF_H

#include <stddef.h>
#include <stdint.h>
#include "netdev.h"

/* Data of a cell follows its header. Block sizes (header included) are 256, 2048 and 16384+48 octets. */
struct cell {
	struct cell *next; /* in a queue of its owner */
	uint32_t off;      /* first octet in use, from data */
	uint32_t len;      /* octets in use: room behind is cap - off - len */
	uint32_t cap;      /* octets of data in all */
	uint16_t refs;     /* queue that holds it, plus pbufs in flight; 0: free */
	uint8_t class;     /* which pool */
	uint8_t pad;
	uint32_t seq;      /* out-of-order queue: sequence number of the first octet */
	uint32_t pad2;
	uint8_t data[];
};
_Static_assert(offsetof(struct cell, data) % 8 == 0, "cell data is aligned");

struct pbuf_frag {
	struct cell *cell;
	uint32_t off, len; /* within cell->data */
};

enum pbuf_state { PBUF_FREE = 0, PBUF_OUT = 1 /* given by stack_output(), holder is owner */ };

#define PBUF_HDR_BYTES	160 /* 10 + 14 + 40 + 60 and room */
#define PBUF_FRAGS_MAX	18

struct pbuf {
	struct pbuf *next; /* for whoever owns it */
	uint16_t hdr_off, hdr_len;
	uint32_t len;      /* octets behind the virtio-net header, payload included */
	uint16_t owner;    /* process slot that transmits it, set by host/; 0: none */
	uint8_t state, n_frags;
	uint16_t gso_size; /* payload octets of each segment the device is to make, 0: one packet */
	uint8_t gso_ecn;   /* CWR is set: on the first segment only */
	uint8_t csum_offset; /* from the transport header: the device finishes the checksum there; 0: it is finished */
	uint8_t told;	   /* it was for ourselves and has come: to be recorded, not sent */
	_Alignas(8) uint8_t hdr[PBUF_HDR_BYTES]; /* filled from its end: headers of even length are aligned */
	struct pbuf_frag frag[PBUF_FRAGS_MAX];
};

/** pbuf_head() - the virtio-net header, followed by all headers of the frame: hdr_len octets in one run */
static inline uint8_t *pbuf_head(struct pbuf *p)
{
	return p->hdr + p->hdr_off;
}

#endif
