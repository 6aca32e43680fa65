/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rig.h - TCP on a bench
 *
 * One stack (10.0.0.1) against a peer made of words (10.0.0.2): peer_sends() puts a segment on the wire, take()
 * takes the next one that the stack sends. Sequence numbers are relative: 0 is the first octet of payload in both
 * directions. Or two stacks (pair.h is below): everything one sends the other gets, in virtual time.
 *
 * Octet i of a stream is octet_at(i), so that what arrives can be checked wherever it is cut.
 */
#ifndef OWNSTACK_TESTS_UNIT_RIG_H
#define OWNSTACK_TESTS_UNIT_RIG_H

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include "../../stack/tcp_priv.h"
#include "region.h"

#define IP(a, b, c, d)                                                                                                    \
	ipaddr_v4(__builtin_bswap32((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (uint32_t)(d)))
#define US	 IP(10, 0, 0, 1)
#define PEER	 IP(10, 0, 0, 2)
#define PEER_ISS 5000u
#define PORT	 80
#define PEERPORT 40000

enum { FIN = TH_FIN, SYN = TH_SYN, RST = TH_RST, PSH = TH_PSH, ACK = TH_ACK, URG = TH_URG };

static const uint8_t rig_mac[2][6] = { { 2, 0, 0, 0, 0, 1 }, { 2, 0, 0, 0, 0, 2 } };

static inline uint8_t octet_at(uint64_t i)
{
	return (uint8_t)(i * 31 + (i >> 8) * 7 + (i >> 16));
}

struct rig_cfg {
	uint32_t smss;		/* MSS the peer announces; 0: 1000 */
	uint32_t wnd;		/* window the peer announces, unscaled octets; 0: 65535 */
	int wscale;		/* peer's shift + 1; 0: none */
	bool ts, sack, gso;
	uint32_t rcvbuf;	/* of ours; 0: default */
	uint32_t mtu;		/* 0: 1500 */
	size_t region_mb;
	uint64_t mem_limit;
	int backlog;		/* 0: 16 */
	const struct stack_sysctl *ctl;
};

struct rig {
	struct stack *st;
	usec_t now;
	struct tcb *l, *t;
	uint32_t iss;		/* ours */
	uint32_t peer_wnd;	/* field that peer_sends() uses by default, not shifted */
	uint32_t sent, received; /* by the program */
	uint32_t peer_ts;	/* 0: peer has no timestamps */
	uint16_t peer_port;
	struct rig_cfg cfg;
};

/* A segment of the stack, read from its frame */
struct pseg {
	bool none;
	uint8_t flags, tos;
	uint32_t seq, ack, abs_seq, abs_ack, len, wnd, gso;
	uint16_t sport, dport, urg;
	struct tcp_rx_opts o;
	uint8_t data[66000];
};

struct psend {
	uint32_t flags, seq, ack, len, wnd, ts_val, ts_ecr, gso;
	bool abs, no_wnd_default, wnd0;
	uint16_t sport, dport, urg;
	uint8_t tos;
	struct sack_block sack[4];	/* relative */
	unsigned n_sack;
	const uint8_t *opt;
	unsigned opt_len;
};

static struct pseg rig_seg; /* the last one taken */

static inline struct rig rig_new_(struct rig_cfg c)
{
	struct stack_config cfg = { .region = region_new((c.region_mb ? c.region_mb : 256) << 20), .seed = { 1, 2, 3, 4 } };
	struct rig r = { .now = SEC(1000), .cfg = c, .peer_port = PEERPORT };

	stack_sysctl_default(&cfg.ctl);
	if (c.ctl)
		cfg.ctl = *c.ctl;
	if (c.mem_limit)
		cfg.ctl.mem_limit_bytes = c.mem_limit;
	memcpy(cfg.dev.mac, rig_mac[0], 6);
	cfg.dev.mtu_bytes = (uint16_t)(c.mtu ? c.mtu : 1500);
	cfg.dev.csum = true;
	cfg.dev.tso4 = c.gso;
	cfg.dev.gso_max_bytes = 65535;
	r.st = stack_init(&cfg, r.now);
	cr_assert_not_null(r.st);
	cr_assert_eq(stack_addr_add(r.st, US, 24), 0);
	cr_assert_eq(stack_neigh_add(r.st, PEER, rig_mac[1]), 0);
	r.peer_wnd = c.wnd ? c.wnd : 65535;
	return r;
}
#define rig_new(...) rig_new_((struct rig_cfg){ __VA_ARGS__ })

static inline uint32_t get32r(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void put32r(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (24 - 8 * i));
}

/* Next segment on the wire into rig_seg; false: silence */
static inline bool take(struct rig *r)
{
	struct pbuf *p = stack_output(r->st, r->now);
	static uint8_t flat[70000];
	uint32_t len, hl;
	const uint8_t *h;
	struct vnet_hdr v;

	memset(&rig_seg, 0, offsetof(struct pseg, data));
	rig_seg.none = true;
	if (!p)
		return false;
	memcpy(&v, pbuf_head(p), VNET_HDR_BYTES);
	len = p->hdr_len - VNET_HDR_BYTES;
	memcpy(flat, pbuf_head(p) + VNET_HDR_BYTES, len);
	for (unsigned i = 0; i < p->n_frags; i++) {
		memcpy(flat + len, p->frag[i].cell->data + p->frag[i].off, p->frag[i].len);
		len += p->frag[i].len;
	}
	stack_tx_done(r->st, p);
	cr_assert_eq(flat[12] << 8 | flat[13], 0x0800, "a frame that is not IPv4");
	h = flat + 34;
	hl = (uint32_t)(h[12] >> 4) * 4;
	rig_seg.none = false;
	rig_seg.sport = (uint16_t)(h[0] << 8 | h[1]);
	rig_seg.dport = (uint16_t)(h[2] << 8 | h[3]);
	rig_seg.abs_seq = get32r(h + 4);
	rig_seg.abs_ack = get32r(h + 8);
	rig_seg.seq = rig_seg.abs_seq - (r->iss + 1);
	rig_seg.ack = rig_seg.abs_ack - (PEER_ISS + 1);
	rig_seg.flags = h[13];
	rig_seg.tos = flat[15];
	rig_seg.wnd = (uint32_t)(h[14] << 8 | h[15]);
	rig_seg.urg = (uint16_t)(h[18] << 8 | h[19]);
	rig_seg.len = len - 34 - hl;
	rig_seg.gso = v.gso_type ? v.gso_size : 0;
	tcp_opts_parse(h + 20, hl - 20, &rig_seg.o);
	memcpy(rig_seg.data, h + hl, rig_seg.len);
	return true;
}

/* Checksum of an IPv4 header without options */
static inline void ip_sum(uint8_t *ip)
{
	uint32_t sum = 0;

	ip[10] = ip[11] = 0;
	for (int i = 0; i < 20; i += 2)
		sum += (uint32_t)(ip[i] << 8 | ip[i + 1]);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	ip[10] = (uint8_t)(~sum >> 8);
	ip[11] = (uint8_t)~sum;
}

static inline void peer_sends_(struct rig *r, struct psend s)
{
	static uint8_t f[70000];
	uint8_t *ip = f + 14, *t = f + 34;
	uint32_t seq = s.abs ? s.seq : s.seq + PEER_ISS + 1, ack = s.abs ? s.ack : s.ack + r->iss + 1, n = 20, total;
	uint32_t wnd = s.wnd0 ? 0 : s.wnd ? s.wnd : r->peer_wnd;
	struct frame fr = { .data = f };

	memset(f, 0, 54); /* all of the fixed headers */
	memcpy(f, rig_mac[0], 6);
	memcpy(f + 6, rig_mac[1], 6);
	f[12] = 8;
	t[0] = (uint8_t)((s.sport ? s.sport : r->peer_port) >> 8);
	t[1] = (uint8_t)(s.sport ? s.sport : r->peer_port);
	t[2] = (uint8_t)((s.dport ? s.dport : PORT) >> 8);
	t[3] = (uint8_t)(s.dport ? s.dport : PORT);
	put32r(t + 4, seq);
	put32r(t + 8, s.flags & ACK ? ack : 0);
	t[13] = (uint8_t)s.flags;
	t[14] = (uint8_t)(wnd >> 8);
	t[15] = (uint8_t)wnd;
	t[18] = (uint8_t)(s.urg >> 8);
	t[19] = (uint8_t)s.urg;
	if (s.opt) {
		memcpy(t + n, s.opt, s.opt_len);
		n += s.opt_len;
	} else if (!(s.flags & SYN) && (r->peer_ts || s.ts_val)) {
		n += tcp_opt_put_ts(t + n, s.ts_val ? s.ts_val : r->peer_ts, s.ts_ecr);
	}
	if (s.n_sack) {
		for (unsigned i = 0; i < s.n_sack; i++) {
			s.sack[i].start += r->iss + 1;
			s.sack[i].end += r->iss + 1;
		}
		n += tcp_opt_put_sack(t + n, s.sack, s.n_sack);
	}
	t[12] = (uint8_t)(n / 4 << 4);
	for (uint32_t i = 0; i < s.len; i++)
		t[n + i] = octet_at(seq - (PEER_ISS + 1) + i);
	total = 20 + n + s.len;
	ip[0] = 0x45;
	ip[1] = s.tos;
	ip[2] = (uint8_t)(total >> 8);
	ip[3] = (uint8_t)total;
	ip[8] = 64;
	ip[9] = 6;
	memcpy(ip + 12, (uint8_t[]){ 10, 0, 0, 2, 10, 0, 0, 1 }, 8);
	ip_sum(ip);
	fr.len = 14 + total;
	fr.vnet.flags = VNET_F_DATA_VALID;
	if (s.gso) {
		fr.vnet.gso_type = VNET_GSO_TCPV4;
		fr.vnet.gso_size = (uint16_t)s.gso;
	}
	stack_input(r->st, &fr, r->now);
}
#define peer_sends(r, ...) peer_sends_((r), (struct psend){ __VA_ARGS__ })

/* Options of the peer's SYN or SYN-ACK */
static inline void peer_syn(struct rig *r, uint32_t flags, uint32_t abs_ack, uint16_t dport)
{
	uint8_t o[40];
	unsigned n;

	if (r->cfg.ts && !r->peer_ts)
		r->peer_ts = 7000;
	n = tcp_opt_put_syn(o, (uint16_t)(r->cfg.smss ? r->cfg.smss : 1000), r->cfg.sack, r->cfg.ts, r->cfg.wscale - 1, r->peer_ts, 0);
	peer_sends(r, .abs = true, .flags = flags, .seq = PEER_ISS, .ack = abs_ack, .opt = o, .opt_len = n, .dport = dport);
}

static inline void rig_listen(struct rig *r)
{
	struct endpoint ep = { .addr = ipaddr_v4(0), .port = PORT };

	r->l = tcp_open(r->st, 4, 1, r->now);
	tcp_opts(r->l)->reuseaddr = 1;
	if (r->cfg.rcvbuf) {
		tcp_opts(r->l)->rcvbuf_bytes = r->cfg.rcvbuf;
		tcp_opts(r->l)->rcvbuf_locked = 1;
		tcp_opt_changed(r->st, r->l, TCP_OPT_RCVBUF, r->now);
	}
	cr_assert_eq(tcp_bind(r->st, r->l, &ep, r->now), 0);
	cr_assert_eq(tcp_listen(r->st, r->l, r->cfg.backlog ? r->cfg.backlog : 16, r->now), 0);
}

static inline void rig_drain_events(struct rig *r)
{
	struct stack_event e;

	while (stack_event(r->st, &e))
		;
}

/* Bits of events for one socket since the last call */
static inline uint32_t events(struct rig *r, struct tcb *t)
{
	struct stack_event e;
	uint32_t what = 0;

	while (stack_event(r->st, &e))
		what |= e.tcb == t ? e.what : 0;
	return what;
}

/** rig_established() - an accepted connection, three segments after birth */
static inline struct rig rig_established_(struct rig_cfg c)
{
	struct rig r = rig_new_(c);

	rig_listen(&r);
	peer_syn(&r, SYN, 0, PORT);
	cr_assert(take(&r));
	cr_assert_eq(rig_seg.flags, SYN | ACK);
	r.iss = rig_seg.abs_seq;
	peer_sends(&r, .flags = ACK);
	cr_assert_eq(tcp_accept(r.st, r.l, &r.t), 0);
	tcp_set_user(r.t, 2);
	cr_assert_eq(tcp_state(r.t), TCPS_ESTABLISHED);
	cr_assert_not(take(&r), "nothing to say after the handshake");
	rig_drain_events(&r);
	return r;
}
#define rig_established(...) rig_established_((struct rig_cfg){ __VA_ARGS__ })

/* Time goes on, timers go off; what they send waits for take() */
static inline void advance(struct rig *r, usec_t us)
{
	usec_t end = r->now + us;

	while (stack_deadline(r->st) <= end) {
		if (stack_deadline(r->st) > r->now)
			r->now = stack_deadline(r->st);
		stack_expire(r->st, r->now);
	}
	r->now = end;
	stack_expire(r->st, r->now);
}

/* The program sends up to @n octets of its stream; what was taken, or negative errno */
static inline ptrdiff_t app_sends_flags(struct stack *st, struct tcb *t, uint32_t *sent, size_t n, unsigned flags, usec_t now)
{
	struct iovec iov[64];
	int n_iov = 0;
	ptrdiff_t room = tcp_send_begin(st, t, n, iov, 64, &n_iov), k = 0;

	if (room <= 0)
		return room;
	for (int i = 0; i < n_iov && k < (ptrdiff_t)n; i++)
		for (size_t j = 0; j < iov[i].iov_len && k < (ptrdiff_t)n; j++, k++)
			((uint8_t *)iov[i].iov_base)[j] = octet_at(*sent + (uint64_t)k);
	cr_assert_eq(k, room);
	tcp_send_commit(st, t, (size_t)k, flags, now);
	*sent += (uint32_t)k;
	return k;
}

static inline ptrdiff_t app_sends(struct rig *r, size_t n)
{
	return app_sends_flags(r->st, r->t, &r->sent, n, 0, r->now);
}

/* The program reads up to @n octets and checks each; count, 0 at the end, negative errno */
static inline ptrdiff_t app_reads_from(struct stack *st, struct tcb *t, uint32_t *received, size_t n, usec_t now)
{
	struct iovec iov[256];
	int n_iov = 0;
	ptrdiff_t got = tcp_recv_begin(st, t, 0, n, iov, 256, &n_iov);
	uint32_t at = *received;

	if (got == 0)
		tcp_mark_pass(st, t);
	if (got <= 0)
		return got;
	for (int i = 0; i < n_iov; i++)
		for (size_t j = 0; j < iov[i].iov_len; j++, at++)
			cr_assert_eq(((uint8_t *)iov[i].iov_base)[j], octet_at(at), "octet %u is wrong", at);
	tcp_recv_done(st, t, (size_t)got, now);
	*received = at;
	return got;
}

static inline ptrdiff_t app_reads(struct rig *r, size_t n)
{
	return app_reads_from(r->st, r->t, &r->received, n, r->now);
}

/* The next segment is data [seq, seq + len), each octet right */
static inline void expect_data(struct rig *r, uint32_t seq, uint32_t len)
{
	cr_assert(take(r), "silence instead of data from %u", seq);
	cr_assert_eq(rig_seg.seq, seq, "data from %u instead of %u", rig_seg.seq, seq);
	cr_assert_eq(rig_seg.len, len, "%u octets instead of %u", rig_seg.len, len);
	for (uint32_t i = 0; i < len; i++)
		cr_assert_eq(rig_seg.data[i], octet_at(seq + i), "octet %u is wrong", seq + i);
}

static inline void expect_ack(struct rig *r, uint32_t ack)
{
	cr_assert(take(r), "silence instead of an ACK of %u", ack);
	cr_assert_eq(rig_seg.len, 0u);
	cr_assert_eq(rig_seg.flags & (SYN | FIN | RST | ACK), ACK);
	cr_assert_eq(rig_seg.ack, ack, "ACK of %u instead of %u", rig_seg.ack, ack);
}

static inline void expect_flags(struct rig *r, uint32_t flags)
{
	cr_assert(take(r), "silence");
	cr_assert_eq(rig_seg.flags & ~(uint32_t)PSH, flags, "flags %02x instead of %02x", rig_seg.flags, flags);
}

static inline void expect_silence(struct rig *r)
{
	cr_assert_not(take(r), "flags %02x seq %u len %u instead of silence", rig_seg.flags, rig_seg.seq, rig_seg.len);
}

/* All cells are back and nothing is left of the connection */
static inline void expect_all_free(struct rig *r)
{
	cr_assert_eq(r->st->pools.held_bytes, 0u, "%lu octets of cells are lost", (unsigned long)r->st->pools.held_bytes);
	cr_assert_eq(r->st->pools.pbufs.in_use, 0u);
}

/* ---- two stacks ---- */

struct pair {
	struct stack *st[2]; /* 10.0.0.1, 10.0.0.2 */
	usec_t now;
	unsigned long frames;
	bool (*lose)(struct pair *p, int from, const struct frame *f); /* NULL: nothing is lost */
	uint64_t rnd;
};

static inline struct pair pair_new(bool gso, const struct stack_sysctl *ctl)
{
	struct pair p = { .now = SEC(1000), .rnd = 88172645463325252ull };

	for (int i = 0; i < 2; i++) {
		struct stack_config cfg = { .region = region_new(512 << 20), .seed = { 1, 2, 3, (uint64_t)i } };

		stack_sysctl_default(&cfg.ctl);
		if (ctl)
			cfg.ctl = *ctl;
		memcpy(cfg.dev.mac, rig_mac[i], 6);
		cfg.dev.mtu_bytes = 1500;
		cfg.dev.csum = cfg.dev.tso4 = gso;
		cfg.dev.gso_max_bytes = 65535;
		p.st[i] = stack_init(&cfg, p.now);
		cr_assert_not_null(p.st[i]);
		cr_assert_eq(stack_addr_add(p.st[i], i ? PEER : US, 24), 0);
	}
	return p;
}

/* One frame from @i to the other side; false: none */
static inline bool pair_move(struct pair *p, int i)
{
	static uint8_t flat[70000];
	struct pbuf *b = stack_output(p->st[i], p->now);
	struct frame f = { .data = flat };

	if (!b)
		return false;
	memcpy(&f.vnet, pbuf_head(b), VNET_HDR_BYTES);
	f.len = b->hdr_len - VNET_HDR_BYTES;
	memcpy(flat, pbuf_head(b) + VNET_HDR_BYTES, f.len);
	for (unsigned k = 0; k < b->n_frags; k++) {
		memcpy(flat + f.len, b->frag[k].cell->data + b->frag[k].off, b->frag[k].len);
		f.len += b->frag[k].len;
	}
	stack_tx_done(p->st[i], b);
	p->frames++;
	if (!p->lose || !p->lose(p, i, &f))
		stack_input(p->st[!i], &f, p->now);
	return true;
}

static inline void pair_settle(struct pair *p)
{
	bool moved;

	do {
		moved = pair_move(p, 0);
		moved = pair_move(p, 1) || moved;
	} while (moved);
}

static inline void pair_advance(struct pair *p, usec_t us)
{
	usec_t end = p->now + us;

	for (;;) {
		usec_t a = stack_deadline(p->st[0]), b = stack_deadline(p->st[1]), at = a < b ? a : b;

		pair_settle(p);
		if (at > end)
			break;
		if (at > p->now)
			p->now = at;
		stack_expire(p->st[0], p->now);
		stack_expire(p->st[1], p->now);
	}
	p->now = end;
	stack_expire(p->st[0], end);
	stack_expire(p->st[1], end);
	pair_settle(p);
}

/* Server listens on stack 1, client on stack 0 connects */
static inline void pair_connect(struct pair *p, struct tcb **l, struct tcb **c, struct tcb **s)
{
	struct endpoint ep = { .addr = ipaddr_v4(0), .port = PORT };

	*l = tcp_open(p->st[1], 4, 10, p->now);
	tcp_opts(*l)->reuseaddr = 1;
	cr_assert_eq(tcp_bind(p->st[1], *l, &ep, p->now), 0);
	cr_assert_eq(tcp_listen(p->st[1], *l, 128, p->now), 0);
	*c = tcp_open(p->st[0], 4, 20, p->now);
	ep.addr = PEER;
	cr_assert_eq(tcp_connect(p->st[0], *c, &ep, p->now), -EINPROGRESS);
	pair_settle(p);
	cr_assert_eq(tcp_connect(p->st[0], *c, &ep, p->now), 0);
	cr_assert_eq(tcp_accept(p->st[1], *l, s), 0);
	tcp_set_user(*s, 30);
}

#endif
