/* SPDX-License-Identifier: BSD-2-Clause */
/* tcp_seg.h - a TCP header on the wire, and what tcp_seg_parse() makes of it */
#ifndef OWNSTACK_STACK_TCP_SEG_H
#define OWNSTACK_STACK_TCP_SEG_H

#include <stdbool.h>
#include <stdint.h>
#include "netdev.h"

enum { TH_FIN = 1, TH_SYN = 2, TH_RST = 4, TH_PSH = 8, TH_ACK = 16, TH_URG = 32, TH_ECE = 64, TH_CWR = 128 };

struct tcp_hdr { /* network byte order */
	uint16_t sport, dport;
	uint32_t seq, ack;
	uint8_t off, flags; /* off: data offset in the upper four bits, in words */
	uint16_t wnd, csum, urg;
} __attribute__((packed, aligned(2)));
_Static_assert(sizeof(struct tcp_hdr) == 20, "RFC 9293 3.1");
#define TCP_HDR_BYTES	  20
#define TCP_OPT_TS_BYTES  12	/* with its two NOPs */
#define TCP_OPTS_MAX	  40
#define TCP_SACK_BLOCKS	  4

struct sack_block {
	uint32_t start, end;	/* [start, end) */
};

struct tcp_rx_opts {
	bool ts, sack_ok, wscale_ok, tfo_ok;
	uint8_t wscale, n_sack, tfo_len;
	uint16_t mss;		/* 0: not given */
	uint32_t ts_val, ts_ecr;
	const uint8_t *tfo;	/* cookie, in the frame */
	struct sack_block sack[TCP_SACK_BLOCKS];
};

struct tcp_seg {
	uint32_t seq, ack, len;	/* len: octets of payload, SYN and FIN not counted */
	uint16_t sport, dport, wnd, urg;
	uint16_t gso_size;	/* payload of each segment of a super-frame, or len */
	uint8_t flags, tos;
	uint32_t isn;		/* a listener must start behind this: the TIME_WAIT it replaces had come so far; 0: free */
	const uint8_t *data;	/* payload, in the frame */
	struct tcp_rx_opts o;
};

/** tcp_seg_end() - sequence number behind the segment, SYN and FIN counted */
static inline uint32_t tcp_seg_end(const struct tcp_seg *s)
{
	return s->seq + s->len + !!(s->flags & TH_SYN) + !!(s->flags & TH_FIN);
}

void tcp_opts_parse(const uint8_t *p, unsigned len, struct tcp_rx_opts *ret_o);
/* builders: append to @p, return octets written */
unsigned tcp_opt_put_syn(uint8_t *p, uint16_t mss, bool sack, bool ts, int wscale, uint32_t ts_val, uint32_t ts_ecr);
unsigned tcp_opt_put_tfo(uint8_t *p, const uint8_t *cookie, unsigned len); /* @len 0: asks for one */
unsigned tcp_opt_put_ts(uint8_t *p, uint32_t ts_val, uint32_t ts_ecr);
unsigned tcp_opt_put_sack(uint8_t *p, const struct sack_block *b, unsigned n);

#endif
