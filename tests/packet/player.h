/* SPDX-License-Identifier: BSD-2-Clause */
/* player.h - what plays a packet script: its state, and the parts that read a line of it (packet.c has the grammar) */
#ifndef TESTS_PACKET_PLAYER_H
#define TESTS_PACKET_PLAYER_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../../stack/checksum.h"
#include "../../stack/ip6.h"
#include "../../stack/stack_priv.h"
#include "../../stack/tcp.h"
#include "../../stack/wire.h"

#define GRACE_US   2000
#define WORDS_MAX  40
#define FRAMES_MAX 256
#define SOCKS_MAX  16
#define PEERS_MAX  8
enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16, URG = 32, ECE = 64, CWR = 128 };

struct seg { /* as read from a line or from a frame; present: which fields are there */
	unsigned flags;
	uint32_t seq, len, ack, win, mss, wscale, tsval, tsecr, sack[8], urg, tos, off, gso, short_by;
	unsigned n_sack, n_raw;
	unsigned n_tfo;
	bool has_ack, has_win, has_mss, has_wscale, sackok, has_ts, has_ecr, has_peer, has_urg, has_tos, badsum, has_tfo, any_tfo;
	uint16_t peer;
	uint8_t raw[40], tfo[16];
};

struct out_frame {
	usec_t at;
	uint16_t our_port, peer_port;
	struct seg seg; /* absolute numbers */
	bool payload_ok;
	const char *arp; /* what an ARP packet says, else NULL */
	char text[200];
};

struct peer { /* one port of the peer's */
	uint16_t port, our_port;
	uint32_t iss, our_iss, our_ts;
	bool iss_known;
	uint8_t tfo[16]; /* cookie that we gave */
	unsigned n_tfo;
};

struct sock {
	char name[16];
	struct tcb *tcb;
	uint64_t sent, received; /* octets, for the pattern */
};

struct player {
	const char *file;
	int line;
	bool verbose, failed, no_neighbour, v6, left_out;
	uint16_t mtu;
	struct stack *st;
	struct stack_sysctl ctl;
	usec_t now, start, mark; /* mark: time of the last line */
	struct out_frame out[FRAMES_MAX];
	unsigned n_out, next_out;
	struct peer peers[PEERS_MAX];
	unsigned n_peers;
	struct sock socks[SOCKS_MAX];
	unsigned n_socks;
	uint16_t peer_port; /* of the line before */
	uint32_t peer_iss;
	char *word[WORDS_MAX];
	int n_words;
};

static const uint8_t our_mac[6] = { 2, 0, 0, 0, 0, 1 }, peer_mac[6] = { 2, 0, 0, 0, 0, 2 };
#define OUR_IP	__builtin_bswap32(0x0a000001)
#define PEER_IP __builtin_bswap32(0x0a000002)

/* ---- packet.c ---- */
struct ipaddr station(const struct player *p, uint8_t n); /* 10.0.0.N, or 2001:db8::N */
uint32_t ip_hdr_bytes(const struct player *p);
void fail(struct player *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
uint8_t pattern(uint32_t n); /* of the octet with relative number n */
bool number(const char *w, uint32_t *ret);
uint32_t need_number(struct player *p, int i); /* word @i, or the script fails */

/* ---- ours.c: what we send ---- */
struct peer *peer_of(struct player *p, uint16_t port);
void drain(struct player *p);
void advance(struct player *p, usec_t to); /* timers on the way fire */
void we_sent(struct player *p);
void nothing_left(struct player *p); /* of our frames, that no line has met */

/* ---- theirs.c: what the peer sends ---- */
struct seg seg_parse(struct player *p, int i);
void peer_sends(struct player *p);
void peer_sends_icmp(struct player *p);
void peer_sends_nd(struct player *p);
void peer_sends_arp(struct player *p);

/* ---- calls.c: socket calls, and looks into the stack ---- */
void check_count(struct player *p, const char *what, uint32_t want);
void check_row(struct player *p);
bool sysctl_set(struct player *p, const char *name, uint32_t v); /* before the stack begins; false: no such row */
void call_line(struct player *p);

#endif
