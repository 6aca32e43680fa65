/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * packet.c - plays scripts: packets against socket calls, in virtual time
 *
 *   packet FILE.pkt...      plays each; packet -v FILE.pkt shows every frame; packet -6 over IPv6, with an MTU so
 *                          much larger that segments are as large as IPv4's
 *
 * A script is one claim. Each line is "[+TIME] ACTION", '#' begins a comment. +TIME (us, ms, s) moves the clock on
 * since the line before; timers on the way fire. Lines:
 *
 *   < FLAGS SEQ[+LEN] [ack N] [win N] [mss N] [wscale N] [sackok] [ts VAL [ECR]] [sack A-B ...] [peer PORT]
 *                          the peer sends. FLAGS as tcpdump prints them: S S. . P. F. R R. (. is ACK), E and W for
 *                          ECE and CWR
 *   > the same             we have sent exactly this by now (2 ms of grace); what is not written is not looked at.
 *                          PSH likewise
 *   silence                we have sent nothing
 *   < icmp TYPE CODE seq N [mtu N]     an error about a segment of ours
 *   < nd na|ns|claim       neighbour discovery: the peer's answer, its question about us, its claim to our address
 *   > nd na|ns
 *   < arp reply|who-has|claim          the peer's answer, its question about us, its claim to our address
 *   > arp reply|who-has|announce       ours
 *   [NAME:] CALL [= RESULT]    a socket call; RESULT a number or an errno's name, else success. NAME: which socket,
 *                          see below
 *
 * Words for the peer's segments only: opt HEX (octets of options as they are, padded with zeros), off N (data offset, in
 * words), gso N (a super-frame of segments of N octets), badsum (wrong checksum), short N (the IP packet ends N octets
 * early). For both: urg N (urgent pointer), tos N, tfo [HEX] (the Fast Open option: with a cookie of these octets; without
 * one, "any cookie" of ours, the one we gave last of the peer's; tfo - is a request without a cookie).
 *
 * Every frame we send must be met by a ">" line before the next packet, call or end. Sequence numbers are relative to
 * the initial ones of each side (the SYN has 0). Octets of payload are a function of their number and checked.
 *
 * Calls: socket; bind PORT; listen PORT [BACKLOG] (socket l); connect [PORT] (socket c); fastopen [PORT] (connect with data
 * to follow); accept [NAME] (from l, to c
 * unless named); write N [more]; read N (result: octets; 0 at the end); close; shutdown rd|wr|rdwr; set OPTION VALUE;
 * state NAME; poll BIT...; error NAME; sockets N (connections in being); timewaits N; requests N; sysctl NAME VALUE
 * (first lines only); ipv4, ipv6 (first line: this script is about it alone; MTU 1,500); no_neighbour (first lines only: the peer's station must be asked for); peer_iss N; forget (the
 * next SYN of ours has a new initial number); counter NAME N and drop NAME N (rows of counters.def and drops.def);
 * info FIELD N (tcp_info(), times in us); disconnect; peek N; readable N; waiting N
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include "../../stack/checksum.h"
#include "../../stack/ip6.h"
#include "../../stack/stack_priv.h"
#include "../../stack/tcp.h"
#include "../../stack/wire.h"
#include "../unit/region.h"

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

/* 10.0.0.N, or 2001:db8::N */
static struct ipaddr station(const struct player *p, uint8_t n)
{
	return p->v6 ? (struct ipaddr){ .b = { 0x20, 1, 0xd, 0xb8, [15] = n } } : ipaddr_v4(__builtin_bswap32(0x0a000000u + n));
}

static uint32_t ip_hdr_bytes(const struct player *p)
{
	return p->v6 ? IP6_HDR_BYTES : 20;
}

static void fail(struct player *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void fail(struct player *p, const char *fmt, ...)
{
	va_list ap;

	if (p->failed)
		return;
	p->failed = true;
	printf("%s:%d: at %.3f ms: ", p->file, p->line, (double)(p->now - p->start) / 1000);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

static uint8_t pattern(uint32_t n) /* of the octet with relative number n */
{
	return (uint8_t)(n * 167 + (n >> 8) * 13);
}

/* ---- names ---- */

static const struct { const char *name; int value; } errnos[] = {
	{ "EAGAIN", EAGAIN }, { "EINPROGRESS", EINPROGRESS }, { "EALREADY", EALREADY }, { "EISCONN", EISCONN },
	{ "EPROTO", EPROTO }, { "EACCES", EACCES },
	{ "ECONNREFUSED", ECONNREFUSED }, { "ECONNRESET", ECONNRESET }, { "ECONNABORTED", ECONNABORTED }, { "EPIPE",
													   EPIPE },
	{ "ENOTCONN", ENOTCONN }, { "EINVAL", EINVAL }, { "EADDRINUSE", EADDRINUSE }, { "EADDRNOTAVAIL",
										       EADDRNOTAVAIL },
	{ "ETIMEDOUT", ETIMEDOUT }, { "EHOSTUNREACH", EHOSTUNREACH }, { "ENETUNREACH", ENETUNREACH }, { "EBUSY",
												       EBUSY },
	{ "ENOPROTOOPT", ENOPROTOOPT }, { "EMSGSIZE", EMSGSIZE }, { "EOPNOTSUPP", EOPNOTSUPP },
};

static const char *result_name(long r, char buf[32])
{
	for (unsigned i = 0; i < sizeof(errnos) / sizeof(errnos[0]); i++)
		if (r == -errnos[i].value)
			return errnos[i].name;
	snprintf(buf, 32, "%ld", r);
	return buf;
}

static bool number(const char *w, uint32_t *ret)
{
	char *end;
	unsigned long long v = strtoull(w, &end, 0);

	if (end == w || *end)
		return false;
	*ret = (uint32_t)v;
	return true;
}

static uint32_t need_number(struct player *p, int i)
{
	uint32_t v = 0;

	if (i >= p->n_words || !number(p->word[i], &v))
		fail(p, "a number is missing after \"%s\"", p->word[i - 1]);
	return v;
}

/* ---- segments ---- */

static void seg_text(const struct seg *s, const struct peer *pe, char *t, size_t room)
{
	static const char letters[] = "FSRP.UEW";
	char f[12];
	int n = 0;

	for (int i = 0; i < 8; i++)
		if (s->flags & 1u << i)
			f[n++] = letters[i];
	f[n] = 0;
	n = snprintf(t, room, "%s %u+%u", n ? f : "none", s->seq - (pe->iss_known ? pe->our_iss : 0), s->len);
	if (s->flags & ACK)
		n += snprintf(t + n, room - (size_t)n, " ack %u", s->ack - pe->iss);
	n += snprintf(t + n, room - (size_t)n, " win %u", s->win);
	if (s->has_mss)
		n += snprintf(t + n, room - (size_t)n, " mss %u", s->mss);
	if (s->has_wscale)
		n += snprintf(t + n, room - (size_t)n, " wscale %u", s->wscale);
	if (s->sackok)
		n += snprintf(t + n, room - (size_t)n, " sackok");
	if (s->has_ts)
		n += snprintf(t + n, room - (size_t)n, " ts %u %u", s->tsval, s->tsecr);
	if (s->has_tfo)
		n += snprintf(t + n, room - (size_t)n, " tfo of %u", s->n_tfo);
	if (s->has_tos || s->tos)
		n += snprintf(t + n, room - (size_t)n, " tos %u", s->tos);
	for (unsigned i = 0; i < s->n_sack; i++)
		n += snprintf(t + n, room - (size_t)n, "%s%u-%u", i ? "," : " sack ", s->sack[2 * i] - pe->iss,
			      s->sack[2 * i + 1] - pe->iss);
}

static struct peer *peer_of(struct player *p, uint16_t port)
{
	for (unsigned i = 0; i < p->n_peers; i++)
		if (p->peers[i].port == port)
			return &p->peers[i];
	if (p->n_peers == PEERS_MAX)
		abort();
	p->peers[p->n_peers] = (struct peer){ .port = port, .iss = p->peer_iss, .our_port = 80 };
	return &p->peers[p->n_peers++];
}

static void options_read(const uint8_t *o, uint32_t len, struct seg *s)
{
	while (len) {
		uint32_t n = o[0] == 1 || len < 2 ? 1 : o[1];

		if (o[0] == 0 || n == 0 || n > len)
			return;
		if (o[0] == 2) {
			s->has_mss = true;
			s->mss = get16(o + 2);
		} else if (o[0] == 3) {
			s->has_wscale = true;
			s->wscale = o[2];
		} else if (o[0] == 4) {
			s->sackok = true;
		} else if (o[0] == 8) {
			s->has_ts = true;
			s->tsval = get32(o + 2);
			s->tsecr = get32(o + 6);
		} else if (o[0] == 34 && n <= 18) {
			s->has_tfo = true;
			s->n_tfo = n - 2;
			memcpy(s->tfo, o + 2, n - 2);
		} else if (o[0] == 5) {
			for (s->n_sack = 0; s->n_sack < (n - 2) / 8; s->n_sack++) {
				s->sack[2 * s->n_sack] = get32(o + 2 + 8 * s->n_sack);
				s->sack[2 * s->n_sack + 1] = get32(o + 6 + 8 * s->n_sack);
			}
		}
		o += n;
		len -= n;
	}
}

static void arp_read(struct player *p, const uint8_t *b, uint32_t len)
{
	struct out_frame *o = &p->out[p->n_out];
	const uint8_t *a = b + 14;

	if (len < 42 || get32(a) != 0x00010800 || get16(a + 4) != 0x0604) {
		fail(p, "a malformed ARP packet was sent");
		return;
	}
	*o = (struct out_frame){ .at = p->now };
	if (get16(a + 6) == 2)
		o->arp = "reply";
	else
		o->arp = get32_raw(a + 24) == OUR_IP ? "announce" : "who-has";
	snprintf(o->text, sizeof(o->text), "arp %s", o->arp);
	p->n_out++;
	if (p->verbose)
		printf("%10.3f > %s\n", (double)(p->now - p->start) / 1000, o->text);
}

static void nd_read(struct player *p, const uint8_t *m)
{
	struct out_frame *o = &p->out[p->n_out++];

	*o = (struct out_frame){ .at = p->now, .arp = m[0] == ICMP6_NS ? "ns" : m[0] == ICMP6_NA ? "na" : "other" };
	snprintf(o->text, sizeof(o->text), "nd %s", o->arp);
	if (p->verbose)
		printf("%10.3f > %s\n", (double)(p->now - p->start) / 1000, o->text);
}

/* Octets behind the IP header; 0: malformed */
static uint32_t ip_read(const struct player *p, const uint8_t *b, uint32_t len, struct ipaddr *src, struct ipaddr *dst, uint8_t *proto)
{
	const uint8_t *ip = b + 14;
	bool v6 = get16(b + 12) == ETHERTYPE_IPV6;
	uint32_t l4_len = v6 ? get16(ip + 4) : get16(ip + 2) - 20u;

	*proto = v6 ? ip[6] : ip[9];
	*src = v6 ? ipaddr_v6(ip + 8) : ipaddr_v4(get32_raw(ip + 12));
	*dst = v6 ? ipaddr_v6(ip + 24) : ipaddr_v4(get32_raw(ip + 16));
	if (v6 != p->v6 || (!v6 && (get16(b + 12) != 0x0800 || csum_fold(csum_add(0, ip, 20)) != 0xffff)) ||
	    len != 14 + ip_hdr_bytes(p) + l4_len)
		return 0;
	return l4_len;
}

/* A frame of ours, flat, behind the virtio-net header. */
static void frame_read(struct player *p, const uint8_t *b, uint32_t len)
{
	struct out_frame *o = &p->out[p->n_out];
	const uint8_t *ip = b + 14, *t = ip + ip_hdr_bytes(p);
	struct ipaddr src, dst;
	uint8_t proto;
	uint32_t l4_len, off;
	struct peer *pe;

	if (get16(b + 12) == 0x0806) {
		arp_read(p, b, len);
		return;
	}
	l4_len = ip_read(p, b, len, &src, &dst, &proto);
	if (l4_len && proto == IP6_ICMP && p->v6 && csum_fold(csum_add(csum_pseudo(&src, &dst, IP6_ICMP, l4_len), t, l4_len)) == 0xffff) {
		nd_read(p, t);
		return;
	}
	off = l4_len > 20 ? (t[12] >> 4) * 4u : 20;
	if (proto != 6 || off < 20 || off > l4_len || csum_fold(csum_add(csum_pseudo(&src, &dst, 6, l4_len), t, l4_len)) != 0xffff) {
		fail(p, "a malformed frame was sent");
		return;
	}
	if (p->n_out == FRAMES_MAX) {
		fail(p, "too many frames");
		return;
	}
	p->n_out++;
	*o = (struct out_frame){ .at = p->now, .our_port = get16(t), .peer_port = get16(t + 2), .payload_ok = true,
				 .seg = { .flags = t[13], .seq = get32(t + 4), .ack = get32(t + 8),
					 .win = get16(t + 14),
					  .len = l4_len - off } };
	o->seg.urg = get16(t + 18);
	o->seg.tos = p->v6 ? (uint8_t)(get16(ip) >> 4) : ip[1];
	options_read(t + 20, off - 20, &o->seg);
	pe = peer_of(p, o->peer_port);
	pe->our_port = o->our_port;
	if ((o->seg.flags & SYN) && !pe->iss_known) {
		pe->iss_known = true;
		pe->our_iss = o->seg.seq;
	}
	if (o->seg.has_ts)
		pe->our_ts = o->seg.tsval;
	if (o->seg.has_tfo && o->seg.n_tfo && o->seg.flags & ACK) {
		pe->n_tfo = o->seg.n_tfo;
		memcpy(pe->tfo, o->seg.tfo, sizeof(pe->tfo));
	}
	for (uint32_t i = 0; i < o->seg.len; i++)
		o->payload_ok &= t[off + i] == pattern(o->seg.seq + !!(o->seg.flags & SYN) - pe->our_iss + i);
	seg_text(&o->seg, pe, o->text, sizeof(o->text));
	if (p->verbose)
		printf("%10.3f > %s\n", (double)(p->now - p->start) / 1000, o->text);
}

static void drain(struct player *p)
{
	static uint8_t flat[FRAME_MAX_BYTES];
	struct stack_event ev;
	struct pbuf *b;

	while ((b = stack_output(p->st, p->now))) {
		uint32_t len = b->hdr_len - VNET_HDR_BYTES;

		memcpy(flat, pbuf_head(b) + VNET_HDR_BYTES, len);
		for (unsigned i = 0; i < b->n_frags; i++) {
			memcpy(flat + len, b->frag[i].cell->data + b->frag[i].off, b->frag[i].len);
			len += b->frag[i].len;
		}
		stack_tx_done(p->st, b);
		frame_read(p, flat, len);
	}
	while (stack_event(p->st, &ev))
		;
	stack_touch_clear(p->st);
}

static void advance(struct player *p, usec_t to)
{
	usec_t d;

	while ((d = stack_deadline(p->st)) <= to) {
		if (d > p->now)
			p->now = d;
		stack_expire(p->st, p->now);
		drain(p);
	}
	if (to > p->now)
		p->now = to;
}

/* Timers may be a little late: goes on until a frame is there, or the grace is over. */
static void advance_to_frame(struct player *p)
{
	usec_t d;

	while (p->next_out == p->n_out && (d = stack_deadline(p->st)) <= p->mark + GRACE_US)
		advance(p, d > p->now ? d : p->now);
}

static unsigned flags_read(struct player *p, const char *w)
{
	unsigned f = 0;

	if (!strcmp(w, "none"))
		return 0;
	for (; *w; w++) {
		switch (*w) {
		case 'F': f |= FIN; break;
		case 'S': f |= SYN; break;
		case 'R': f |= RST; break;
		case 'P': f |= PSH; break;
		case '.': f |= ACK; break;
		case 'U': f |= URG; break;
		case 'E': f |= ECE; break;
		case 'W': f |= CWR; break;
		default: fail(p, "flag '%c'?", *w);
		}
	}
	return f;
}

static unsigned hex_read(struct player *p, const char *w, uint8_t *ret_b, unsigned max)
{
	unsigned n = 0, v;

	for (; w && *w && n < max && sscanf(w, "%2x", &v) == 1 && w[1]; w += 2)
		ret_b[n++] = (uint8_t)v;
	if (!w || *w || n == 0)
		fail(p, "octets in hexadecimal digits are missing");
	return n;
}

/* The word "tfo" at @i. Return: the last word that belongs to it */
static int tfo_parse(struct player *p, int i, struct seg *s)
{
	const char *w = i + 1 < p->n_words ? p->word[i + 1] : "";

	s->has_tfo = true;
	if (!strcmp(w, "-"))
		return i + 1;
	if (strlen(w) >= 8 && strspn(w, "0123456789abcdef") == strlen(w)) {
		s->n_tfo = hex_read(p, w, s->tfo, sizeof(s->tfo));
		return i + 1;
	}
	s->any_tfo = true;
	return i;
}

/* Words from @i on; numbers stay relative. */
static struct seg seg_parse(struct player *p, int i)
{
	struct seg s = { .win = 65535, .peer = p->peer_port };
	unsigned len = 0, a, b;

	if (p->n_words < i + 2) {
		fail(p, "flags and sequence number are missing");
		return s;
	}
	s.flags = flags_read(p, p->word[i++]);
	if (sscanf(p->word[i++], "%u+%u", &s.seq, &len) < 1)
		fail(p, "sequence number?");
	s.len = len;
	for (; i < p->n_words && !p->failed; i++) {
		const char *w = p->word[i];

		if (!strcmp(w, "ack"))
			s.has_ack = true, s.ack = need_number(p, ++i);
		else if (!strcmp(w, "win"))
			s.has_win = true, s.win = need_number(p, ++i);
		else if (!strcmp(w, "mss"))
			s.has_mss = true, s.mss = need_number(p, ++i);
		else if (!strcmp(w, "wscale"))
			s.has_wscale = true, s.wscale = need_number(p, ++i);
		else if (!strcmp(w, "sackok"))
			s.sackok = true;
		else if (!strcmp(w, "peer"))
			s.has_peer = true, s.peer = (uint16_t)need_number(p, ++i);
		else if (!strcmp(w, "urg"))
			s.has_urg = true, s.urg = need_number(p, ++i);
		else if (!strcmp(w, "tos"))
			s.has_tos = true, s.tos = need_number(p, ++i);
		else if (!strcmp(w, "off"))
			s.off = need_number(p, ++i);
		else if (!strcmp(w, "gso"))
			s.gso = need_number(p, ++i);
		else if (!strcmp(w, "short"))
			s.short_by = need_number(p, ++i);
		else if (!strcmp(w, "badsum"))
			s.badsum = true;
		else if (!strcmp(w, "opt"))
			s.n_raw = hex_read(p, p->word[++i], s.raw, sizeof(s.raw));
		else if (!strcmp(w, "tfo"))
			i = tfo_parse(p, i, &s);
		else if (!strcmp(w, "ts")) {
			s.has_ts = true;
			s.tsval = need_number(p, ++i);
			if (i + 1 < p->n_words && number(p->word[i + 1], &s.tsecr))
				s.has_ecr = true, i++;
		} else if (!strcmp(w, "ecr"))
			s.has_ecr = true, s.tsecr = need_number(p, ++i);
		else if (!strcmp(w, "sack")) {
			while (s.n_sack < 4 && i + 1 < p->n_words && sscanf(p->word[i + 1], "%u-%u", &a, &b) == 2) {
				s.sack[2 * s.n_sack] = a;
				s.sack[2 * s.n_sack++ + 1] = b;
				i++;
			}
		} else
			fail(p, "\"%s\"?", w);
	}
	p->peer_port = s.peer;
	return s;
}

static uint8_t *put_option(uint8_t *o, uint8_t kind, uint8_t len)
{
	o[0] = kind;
	o[1] = len;
	return o + 2;
}

static uint32_t options_write(const struct seg *s, const struct peer *pe, uint8_t *o)
{
	uint8_t *from = o;

	if (s->has_mss) {
		put16(put_option(o, 2, 4), (uint16_t)s->mss);
		o += 4;
	}
	if (s->has_wscale) {
		*put_option(o, 3, 3) = (uint8_t)s->wscale;
		o += 3;
	}
	if (s->sackok) {
		put_option(o, 4, 2);
		o += 2;
	}
	if (s->has_ts) {
		put32(put_option(o, 8, 10), s->tsval);
		put32(o + 6, s->has_ecr ? s->tsecr : pe->our_ts);
		o += 10;
	}
	if (s->n_sack) {
		put_option(o, 5, (uint8_t)(2 + 8 * s->n_sack));
		for (unsigned i = 0; i < 2 * s->n_sack; i++)
			put32(o + 2 + 4 * i, s->sack[i] + pe->our_iss);
		o += 2 + 8 * s->n_sack;
	}
	if (s->has_tfo) {
		unsigned n = s->any_tfo ? pe->n_tfo : s->n_tfo;

		memcpy(put_option(o, 34, (uint8_t)(2 + n)), s->any_tfo ? pe->tfo : s->tfo, n);
		o += 2 + n;
	}
	while ((o - from) % 4)
		*o++ = 1;
	memcpy(o, s->raw, s->n_raw);
	memset(o + s->n_raw, 0, -s->n_raw % 4u);
	o += (s->n_raw + 3) / 4 * 4;
	return (uint32_t)(o - from);
}

static void ip_write(struct player *p, uint8_t proto, uint32_t l4_len, uint8_t *ip, uint8_t tos)
{
	struct ipaddr src = station(p, 2), dst = station(p, 1);

	memset(ip, 0, ip_hdr_bytes(p));
	if (p->v6) {
		put32(ip, 6u << 28 | (uint32_t)tos << 20);
		put16(ip + 4, (uint16_t)l4_len);
		ip[6] = proto;
		ip[7] = proto == IP6_ICMP ? 255 : 64;
		memcpy(ip + 8, src.b, 16);
		memcpy(ip + 24, dst.b, 16);
		return;
	}
	ip[0] = 0x45;
	ip[1] = tos;
	put16(ip + 2, (uint16_t)(20 + l4_len));
	ip[8] = 64;
	ip[9] = proto;
	put32_raw(ip + 12, src.w[3]);
	put32_raw(ip + 16, dst.w[3]);
	put16_raw(ip + 10, (uint16_t)~csum_fold(csum_add(0, ip, 20)));
}

static void inject(struct player *p, uint8_t proto, uint32_t l4_len, uint8_t *b, const struct seg *s)
{
	struct frame f = { .data = b, .len = 14 + ip_hdr_bytes(p) + l4_len };

	if (s && s->gso) {
		f.vnet.gso_type = p->v6 ? VNET_GSO_TCPV6 : VNET_GSO_TCPV4;
		f.vnet.gso_size = (uint16_t)s->gso;
	}
	memcpy(b, our_mac, 6);
	memcpy(b + 6, peer_mac, 6);
	put16(b + 12, p->v6 ? ETHERTYPE_IPV6 : 0x0800);
	ip_write(p, proto, l4_len, b + 14, (uint8_t)(s ? s->tos : 0));
	stack_input(p->st, &f, p->now);
	drain(p);
}

static void peer_sends(struct player *p)
{
	static uint8_t b[70000];
	uint8_t *t = b + 14 + ip_hdr_bytes(p);
	struct seg s = seg_parse(p, 1);
	struct peer *pe = peer_of(p, s.peer);
	uint32_t hdr, len;
	struct ipaddr src = station(p, 2), dst = station(p, 1);

	if (p->failed)
		return;
	memset(t, 0, 60);
	put16(t, s.peer);
	put16(t + 2, pe->our_port);
	put32(t + 4, s.seq + pe->iss);
	if (s.flags & ACK)
		put32(t + 8, s.ack + (pe->iss_known ? pe->our_iss : 0));
	hdr = 20 + options_write(&s, pe, t + 20);
	t[12] = (uint8_t)((s.off ? s.off : hdr / 4) << 4);
	t[13] = (uint8_t)s.flags;
	put16(t + 14, (uint16_t)s.win);
	put16(t + 18, (uint16_t)s.urg);
	for (uint32_t i = 0; i < s.len; i++)
		t[hdr + i] = pattern(s.seq + !!(s.flags & SYN) + i);
	len = hdr + s.len > s.short_by ? hdr + s.len - s.short_by : 0;
	put16_raw(t + 16, (uint16_t)~csum_fold(csum_add(csum_pseudo(&src, &dst, 6, len), t, len)));
	if (s.badsum)
		t[17] ^= 1;
	if (p->verbose)
		printf("%10.3f < line %d\n", (double)(p->now - p->start) / 1000, p->line);
	inject(p, 6, len, b, &s);
}

static void peer_sends_icmp(struct player *p)
{
	uint8_t b[160] = { 0 }, *h = b + 14 + ip_hdr_bytes(p), *q = h + 8, *l4 = q + ip_hdr_bytes(p);
	struct peer *pe = peer_of(p, p->peer_port);
	struct ipaddr us = station(p, 1), peer = station(p, 2);
	uint32_t seq = 0, mtu = 0, len = 16 + ip_hdr_bytes(p);

	h[0] = (uint8_t)need_number(p, 2);
	h[1] = (uint8_t)need_number(p, 3);
	for (int i = 4; i + 1 < p->n_words; i += 2) {
		if (!strcmp(p->word[i], "seq"))
			seq = need_number(p, i + 1);
		else if (!strcmp(p->word[i], "mtu"))
			mtu = need_number(p, i + 1);
		else
			fail(p, "\"%s\"?", p->word[i]);
	}
	put32(h + 4, mtu);
	if (p->v6) {
		q[0] = 0x60;
		put16(q + 4, 1460);
		q[6] = 6;
		memcpy(q + 8, us.b, 16);
		memcpy(q + 24, peer.b, 16);
	} else {
		q[0] = 0x45;
		q[9] = 6;
		put32_raw(q + 12, us.w[3]);
		put32_raw(q + 16, peer.w[3]);
	}
	put16(l4, pe->our_port);
	put16(l4 + 2, pe->port);
	put32(l4 + 4, seq + pe->our_iss);
	put16_raw(h + 2, (uint16_t)~csum_fold(csum_add(p->v6 ? csum_pseudo(&peer, &us, IP6_ICMP, len) : 0, h, len)));
	inject(p, p->v6 ? IP6_ICMP : 1, len, b, NULL);
}

static void peer_sends_nd(struct player *p)
{
	uint8_t b[100] = { 0 }, *m = b + 54;
	const char *what = p->n_words > 2 ? p->word[2] : "";
	bool na = strcmp(what, "ns") != 0;
	struct ipaddr us = station(p, 1), peer = station(p, 2);

	if (strcmp(what, "na") && strcmp(what, "ns") && strcmp(what, "claim"))
		fail(p, "nd \"%s\"?", what);
	m[0] = na ? ICMP6_NA : ICMP6_NS;
	m[4] = na ? 0x60 : 0;
	memcpy(m + 8, !strcmp(what, "na") ? peer.b : us.b, 16);
	m[24] = na ? 2 : 1;
	m[25] = 1;
	memcpy(m + 26, peer_mac, 6);
	put16_raw(m + 2, (uint16_t)~csum_fold(csum_add(csum_pseudo(&peer, &us, IP6_ICMP, 32), m, 32)));
	inject(p, IP6_ICMP, 32, b, NULL);
}

static void peer_sends_arp(struct player *p)
{
	uint8_t b[60] = { 0 }, *a = b + 14;
	const char *what = p->n_words > 2 ? p->word[2] : "";
	bool claim = !strcmp(what, "claim"), reply = !strcmp(what, "reply");
	struct frame f = { .data = b, .len = 60 };

	if (!claim && !reply && strcmp(what, "who-has") != 0)
		fail(p, "arp \"%s\"?", what);
	if (reply)
		memcpy(b, our_mac, 6);
	else
		memset(b, 0xff, 6);
	memcpy(b + 6, peer_mac, 6);
	put16(b + 12, 0x0806);
	memcpy(a, (uint8_t[]){ 0, 1, 8, 0, 6, 4, 0, reply ? 2 : 1 }, 8);
	memcpy(a + 8, peer_mac, 6);
	put32_raw(a + 14, claim ? OUR_IP : PEER_IP);
	put32_raw(a + 24, OUR_IP);
	stack_input(p->st, &f, p->now);
	drain(p);
}

static bool seg_match(const struct seg *want, const struct seg *got, const struct peer *pe)
{
	unsigned psh = want->flags & PSH ? 0 : PSH;
	uint32_t base = pe->iss_known ? pe->our_iss : 0;

	if ((want->flags | psh) != (got->flags | psh) || want->seq != got->seq - base || want->len != got->len)
		return false;
	if ((want->has_ack && want->ack != got->ack - pe->iss) || (want->has_win && want->win != got->win))
		return false;
	if ((want->has_mss && (!got->has_mss || want->mss != got->mss)) || (want->sackok && !got->sackok))
		return false;
	if ((want->has_wscale && (!got->has_wscale || want->wscale != got->wscale)) || (want->has_ts && !got->has_ts))
		return false;
	if (want->has_ecr && want->tsecr != got->tsecr)
		return false;
	if (want->n_sack && want->n_sack != got->n_sack)
		return false;
	if ((want->has_urg && want->urg != got->urg) || (want->has_tos && want->tos != got->tos))
		return false;
	if (want->has_tfo && (!got->has_tfo || (want->any_tfo ? got->n_tfo == 0 : want->n_tfo != got->n_tfo) ||
			      memcmp(want->tfo, got->tfo, want->n_tfo) != 0))
		return false;
	for (unsigned i = 0; i < 2 * want->n_sack; i++)
		if (want->sack[i] != got->sack[i] - pe->iss)
			return false;
	return true;
}

static void we_sent(struct player *p)
{
	bool arp = p->n_words > 2 && (!strcmp(p->word[1], "arp") || !strcmp(p->word[1], "nd"));
	struct seg want = arp ? (struct seg){ 0 } : seg_parse(p, 1);
	struct out_frame *o = &p->out[p->next_out];

	if (p->failed)
		return;
	advance_to_frame(p);
	if (p->next_out == p->n_out) {
		fail(p, "nothing was sent");
		return;
	}
	p->next_out++;
	if (arp != !!o->arp || (arp && strcmp(o->arp, p->word[2]) != 0))
		fail(p, "sent instead: %s", o->text);
	else if (arp)
		return;
	else if (o->peer_port != want.peer)
		fail(p, "sent to port %u, not %u: %s", o->peer_port, want.peer, o->text);
	else if (!seg_match(&want, &o->seg, peer_of(p, o->peer_port)))
		fail(p, "sent instead: %s", o->text);
	else if (!o->payload_ok)
		fail(p, "payload is wrong: %s", o->text);
	else if (o->at + GRACE_US < p->mark || o->at > p->mark + GRACE_US)
		fail(p, "sent at %.3f ms: %s", (double)(o->at - p->start) / 1000, o->text);
}

static void nothing_left(struct player *p)
{
	if (p->next_out < p->n_out)
		fail(p, "sent, and no line says so: %s (at %.3f ms)", p->out[p->next_out].text,
		     (double)(p->out[p->next_out].at - p->start) / 1000);
	p->next_out = p->n_out = 0;
}

/* ---- calls ---- */

static struct sock *sock_named(struct player *p, const char *name)
{
	for (unsigned i = 0; i < p->n_socks; i++)
		if (!strcmp(p->socks[i].name, name))
			return &p->socks[i];
	if (p->n_socks == SOCKS_MAX)
		abort();
	snprintf(p->socks[p->n_socks].name, sizeof(p->socks[0].name), "%s", name);
	return &p->socks[p->n_socks++];
}

static void sock_open(struct player *p, struct sock *s)
{
	if (s->tcb)
		return;
	s->sent = s->received = 0;
	s->tcb = tcp_open(p->st, p->v6 ? 6 : 4, 1, p->now);
	if (!s->tcb)
		fail(p, "no memory for a socket");
}

static long do_write(struct player *p, struct sock *s, uint32_t n, bool more)
{
	struct iovec iov[16];
	uint32_t done = 0;
	int k;

	while (done < n) {
		ptrdiff_t r = tcp_send_begin(p->st, s->tcb, n - done, iov, 16, &k);

		if (r < 0)
			return done ? (long)done : (long)r;
		for (int i = 0; i < k; i++)
			for (size_t j = 0; j < iov[i].iov_len; j++)
				((uint8_t *)iov[i].iov_base)[j] = pattern((uint32_t)++s->sent);
		tcp_send_commit(p->st, s->tcb, (size_t)r, more ? TCP_SEND_MORE : 0, p->now);
		done += (uint32_t)r;
	}
	return done;
}

static long do_peek(struct player *p, struct sock *s, uint32_t n)
{
	struct iovec iov[16];
	int k;
	ptrdiff_t r = tcp_recv_begin(p->st, s->tcb, 0, n, iov, 16, &k);
	uint32_t at = (uint32_t)s->received;

	if (r < 0)
		return (long)r;
	for (int i = 0; r > 0 && i < k; i++)
		for (size_t j = 0; j < iov[i].iov_len; j++)
			if (((uint8_t *)iov[i].iov_base)[j] != pattern(++at))
				fail(p, "octet %u peeked is wrong", at);
	if (r > 0)
		tcp_recv_done(p->st, s->tcb, 0, p->now);
	return (long)r;
}

static long do_read(struct player *p, struct sock *s, uint32_t n)
{
	struct iovec iov[16];
	uint32_t done = 0;
	int k;

	while (done < n) {
		ptrdiff_t r = tcp_recv_begin(p->st, s->tcb, 0, n - done, iov, 16, &k);

		if (r <= 0)
			return done ? (long)done : (long)r;
		for (int i = 0; i < k; i++)
			for (size_t j = 0; j < iov[i].iov_len; j++)
				if (((uint8_t *)iov[i].iov_base)[j] != pattern((uint32_t)++s->received))
					fail(p, "octet %llu read is wrong", (unsigned long long)s->received);
		tcp_recv_done(p->st, s->tcb, (size_t)r, p->now);
		done += (uint32_t)r;
	}
	return done;
}

static long do_set(struct player *p, struct sock *s, const char *opt, uint32_t v)
{
	struct tcp_opts *o = tcp_opts(s->tcb);
	enum tcp_opt_id id = TCP_OPT_OTHER;

	if (!strcmp(opt, "nodelay"))
		o->nodelay = (uint8_t)v, id = TCP_OPT_NODELAY;
	else if (!strcmp(opt, "cork"))
		o->cork = (uint8_t)v, id = TCP_OPT_CORK;
	else if (!strcmp(opt, "linger"))
		o->linger_on = 1, o->linger_s = (int32_t)v;
	else if (!strcmp(opt, "linger2"))
		o->linger2_s = (int32_t)v;
	else if (!strcmp(opt, "reuseaddr"))
		o->reuseaddr = (uint8_t)v;
	else if (!strcmp(opt, "keepalive"))
		o->keepalive = (uint8_t)v, id = TCP_OPT_KEEPALIVE;
	else if (!strcmp(opt, "keepidle"))
		o->keepidle_s = v, id = TCP_OPT_KEEPALIVE;
	else if (!strcmp(opt, "keepintvl"))
		o->keepintvl_s = v, id = TCP_OPT_KEEPALIVE;
	else if (!strcmp(opt, "keepcnt"))
		o->keepcnt = v, id = TCP_OPT_KEEPALIVE;
	else if (!strcmp(opt, "user_timeout"))
		o->user_timeout_ms = v;
	else if (!strcmp(opt, "maxseg"))
		o->maxseg_bytes = v;
	else if (!strcmp(opt, "quickack"))
		o->quickack = v ? QUICKACK_ON : QUICKACK_OFF, id = TCP_OPT_QUICKACK;
	else if (!strcmp(opt, "rcvbuf"))
		o->rcvbuf_bytes = v, o->rcvbuf_locked = 1, id = TCP_OPT_RCVBUF;
	else if (!strcmp(opt, "sndbuf"))
		o->sndbuf_bytes = v, o->sndbuf_locked = 1, id = TCP_OPT_SNDBUF;
	else if (!strcmp(opt, "syncnt"))
		o->syncnt = (int32_t)v;
	else if (!strcmp(opt, "defer_accept"))
		o->defer_accept_s = (int32_t)v;
	else if (!strcmp(opt, "window_clamp"))
		o->window_clamp_bytes = v;
	else if (!strcmp(opt, "rcvlowat"))
		o->rcvlowat_bytes = (int32_t)v;
	else if (!strcmp(opt, "notsent_lowat"))
		o->notsent_lowat_bytes = v;
	else if (!strcmp(opt, "tos"))
		o->tos = (uint8_t)v;
	else if (!strcmp(opt, "fastopen"))
		o->fastopen_qlen = v;
	else if (!strcmp(opt, "pacing"))
		o->max_pacing_Bps = v;
	else if (!strcmp(opt, "cc"))
		o->cc = (uint8_t)v, id = TCP_OPT_CC;
	else
		fail(p, "option \"%s\"?", opt);
	tcp_opt_changed(p->st, s->tcb, id, p->now);
	return 0;
}

static void check_state(struct player *p, const struct sock *s, const char *want)
{
	static const struct { const char *name; int v; } states[] = {
#define X(name, n) { #name, n },
		TCP_STATES(X)
#undef X
	};

	for (unsigned i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		if (strcmp(states[i].name, want) != 0)
			continue;
		if ((int)tcp_state(s->tcb) != states[i].v)
			fail(p, "state is %s", tcp_state_name(tcp_state(s->tcb)));
		return;
	}
	fail(p, "state \"%s\"?", want);
}

static void check_poll(struct player *p, const struct sock *s, int i)
{
	static const struct { const char *name; uint32_t bit; } bits[] = {
		{ "IN", TCP_EV_IN }, { "OUT", TCP_EV_OUT }, { "ERR", TCP_EV_ERR }, { "HUP", TCP_EV_HUP }, { "RDHUP",
													   TCP_EV_RDHUP },
		{ "none", 0 },
	};
	uint32_t want = 0, got = tcp_poll(s->tcb) & (TCP_EV_IN | TCP_EV_OUT | TCP_EV_ERR | TCP_EV_HUP | TCP_EV_RDHUP);

	for (; i < p->n_words; i++) {
		unsigned k = 0;

		while (k < 6 && strcmp(bits[k].name, p->word[i]) != 0)
			k++;
		if (k == 6)
			fail(p, "\"%s\"?", p->word[i]);
		else
			want |= bits[k].bit;
	}
	if (want != got)
		fail(p, "poll gives 0x%x, not 0x%x", got, want);
}

static void check_count(struct player *p, const char *what, uint32_t want)
{
	uint32_t got = 0, cursor = 0;
	struct tcb *t;

	if (!strcmp(what, "timewaits"))
		got = p->st->timewaits.in_use;
	else if (!strcmp(what, "requests"))
		got = p->st->requests.in_use;
	else
		while ((t = tcp_next(p->st, &cursor)))
			got += tcp_state(t) != TCPS_LISTEN && tcp_state(t) != TCPS_CLOSED;
	if (got != want)
		fail(p, "%u %s, not %u", got, what, want);
}

/* counter NAME N, drop NAME N */
static void check_row(struct player *p)
{
	bool drop = !strcmp(p->word[0], "drop");
	const char *const *names = drop ? stack_drop_names : stack_counter_names;
	const uint64_t *row = drop ? stack_drops(p->st) : stack_counters(p->st);
	unsigned n = drop ? DROP_N : CNT_N, i = 0;
	uint32_t want = need_number(p, 2);

	if (p->n_words < 3)
		return;
	while (i < n && strcmp(names[i], p->word[1]) != 0)
		i++;
	if (i == n)
		fail(p, "%s \"%s\"?", p->word[0], p->word[1]);
	else if (row[i] != want)
		fail(p, "%s is %llu, not %u", names[i], (unsigned long long)row[i], want);
}

static void check_info(struct player *p, const struct sock *s, const char *field, uint32_t want)
{
	struct tcp_info_view v;
	uint64_t got = 0;
	bool known = true;

	tcp_info(p->st, s->tcb, &v);
#define F(f) else if (!strcmp(field, #f)) got = v.f
	if (!strcmp(field, "state"))
		got = v.state;
	F(ca_state); F(retransmits); F(probes); F(backoff); F(options); F(snd_wscale); F(rcv_wscale); F(rto_us); F(ato_us);
	F(snd_mss); F(rcv_mss); F(unacked); F(sacked); F(lost); F(retrans); F(pmtu); F(rtt_us); F(snd_ssthresh);
	F(snd_cwnd); F(advmss); F(reordering); F(total_retrans); F(min_rtt_us); F(snd_wnd); F(rcv_wnd); F(bytes_acked);
	F(bytes_received); F(bytes_sent); F(bytes_retrans); F(segs_in); F(segs_out); F(data_segs_in); F(data_segs_out);
	F(notsent_bytes); F(dsack_dups); F(reord_seen); F(rcv_ooopack); F(backlog); F(backlog_max);
#undef F
	else
		known = false;
	if (!known)
		fail(p, "field \"%s\"?", field);
	else if (got != want)
		fail(p, "%s is %llu, not %u", field, (unsigned long long)got, want);
}

static bool sysctl_set(struct player *p, const char *name, uint32_t v)
{
	static const struct { const char *name; size_t off; size_t size; } ctl[] = {
#define CTL(f) { #f, offsetof(struct stack_sysctl, f), sizeof(((struct stack_sysctl *)0)->f) }
		CTL(tcp_syn_retries), CTL(tcp_synack_retries), CTL(tcp_retries2), CTL(tcp_orphan_retries), CTL(tcp_fin_timeout_s),
		CTL(tcp_max_syn_backlog), CTL(somaxconn), CTL(tcp_max_orphans), CTL(tcp_max_tw_buckets), CTL(tcp_init_cwnd),
		CTL(tcp_timewait_us), CTL(tcp_sack), CTL(tcp_timestamps), CTL(tcp_window_scaling), CTL(tcp_challenge_ack_limit),
		CTL(tcp_keepalive_time_s), CTL(tcp_keepalive_intvl_s), CTL(tcp_keepalive_probes), CTL(tcp_retries1),
		CTL(tcp_ecn), CTL(tcp_ecn_fallback), CTL(tcp_slow_start_after_idle),
		CTL(ip_default_ttl), CTL(tcp_congestion), CTL(tcp_syncookies), CTL(tcp_mtu_probing), CTL(tcp_fastopen),
		CTL(tcp_rfc1337),
#undef CTL
	};

	for (unsigned i = 0; i < sizeof(ctl) / sizeof(ctl[0]); i++) {
		if (strcmp(ctl[i].name, name) != 0)
			continue;
		if (ctl[i].size == 1)
			*((uint8_t *)&p->ctl + ctl[i].off) = (uint8_t)v;
		else
			memcpy((uint8_t *)&p->ctl + ctl[i].off, &v, 4);
		return true;
	}
	return false;
}

/* Words @i: the call and its arguments. Checks change nothing and return 0. */
static long call(struct player *p, struct sock *s, const char *name, int i)
{
	const char *arg = i < p->n_words ? p->word[i] : "";
	struct endpoint ep = { p->v6 ? (struct ipaddr){ .q = { 0 } } : ipaddr_v4(0), 0 };
	struct tcb *t;
	long r;

	if (!strcmp(name, "socket") || !strcmp(name, "bind") || !strcmp(name, "listen") || !strcmp(name, "connect") ||
	    !strcmp(name, "fastopen"))
		sock_open(p, s);
	if (!s->tcb && strcmp(name, "accept") != 0) {
		fail(p, "socket %s is not open", s->name);
		return 0;
	}
	if (!strcmp(name, "socket"))
		return 0;
	if (!strcmp(name, "bind")) {
		ep.port = (uint16_t)need_number(p, i);
		return tcp_bind(p->st, s->tcb, &ep, p->now);
	}
	if (!strcmp(name, "listen")) {
		uint32_t backlog = 128;

		ep.port = (uint16_t)need_number(p, i);
		if (i + 1 < p->n_words)
			number(p->word[i + 1], &backlog);
		tcp_opts(s->tcb)->reuseaddr = 1;
		r = tcp_bind(p->st, s->tcb, &ep, p->now);
		return r < 0 && r != -EINVAL ? r : tcp_listen(p->st, s->tcb, (int)backlog, p->now);
	}
	if (!strcmp(name, "connect") || !strcmp(name, "fastopen")) {
		uint32_t port = 80;

		number(arg, &port);
		p->peer_port = (uint16_t)port;
		ep = (struct endpoint){ station(p, 2), (uint16_t)port };
		return *name == 'f' ? tcp_connect_data(p->st, s->tcb, &ep, p->now) : tcp_connect(p->st, s->tcb, &ep, p->now);
	}
	if (!strcmp(name, "accept")) {
		struct sock *l = sock_named(p, "l"), *c = *arg && *arg != '=' ? sock_named(p, arg) : s;

		r = tcp_accept(p->st, l->tcb, &t);
		if (r == 0) {
			*c = (struct sock){ .tcb = t };
			snprintf(c->name, sizeof(c->name), "%s", *arg && *arg != '=' ? arg : "c");
			tcp_set_user(t, 1);
		}
		return r;
	}
	if (!strcmp(name, "write"))
		return do_write(p, s, need_number(p, i), i + 1 < p->n_words && !strcmp(p->word[i + 1], "more"));
	if (!strcmp(name, "read"))
		return do_read(p, s, need_number(p, i));
	if (!strcmp(name, "peek"))
		return do_peek(p, s, need_number(p, i));
	if (!strcmp(name, "disconnect"))
		return tcp_disconnect(p->st, s->tcb, p->now);
	if (!strcmp(name, "readable"))
		return (long)tcp_readable_bytes(s->tcb);
	if (!strcmp(name, "waiting"))
		return (long)tcp_unacked_bytes(s->tcb);
	if (!strcmp(name, "close")) {
		t = s->tcb;
		s->tcb = NULL;
		tcp_close(p->st, t, p->now);
		return 0;
	}
	if (!strcmp(name, "shutdown"))
		return tcp_shutdown(p->st, s->tcb, !strcmp(arg, "rd") ? 0 : !strcmp(arg, "wr") ? 1 : 2, p->now);
	if (!strcmp(name, "set"))
		return do_set(p, s, arg, need_number(p, i + 1));
	if (!strcmp(name, "state"))
		check_state(p, s, arg);
	else if (!strcmp(name, "poll"))
		check_poll(p, s, i);
	else if (!strcmp(name, "info"))
		check_info(p, s, arg, need_number(p, i + 1));
	else if (!strcmp(name, "error"))
		return -tcp_error_take(s->tcb);
	else
		fail(p, "\"%s\"?", name);
	return 0;
}

static void call_line(struct player *p)
{
	const char *name = p->word[0], *want = NULL;
	size_t n = strlen(name);
	struct sock *s;
	long r, expected = 0;
	int i = 1;
	char buf[32];

	if (name[n - 1] == ':') {
		char who[16];

		snprintf(who, sizeof(who), "%.*s", (int)n - 1, name);
		s = sock_named(p, who);
		name = p->word[i++];
	} else {
		s = sock_named(p, !strcmp(name, "listen") ? "l" : "c");
	}
	if (p->n_words >= 3 && !strcmp(p->word[p->n_words - 2], "=")) {
		want = p->word[p->n_words - 1];
		p->n_words -= 2;
	}
	r = call(p, s, name, i);
	drain(p);
	if (want) {
		uint32_t v;

		if (strcmp(want, result_name(r, buf)) != 0 && !(number(want, &v) && (long)v == r))
			fail(p, "%s gives %s, not %s", name, result_name(r, buf), want);
		return;
	}
	if (!strcmp(name, "write") || !strcmp(name, "read") || !strcmp(name, "peek"))
		expected = (long)need_number(p, i);
	if (!strcmp(name, "connect"))
		expected = -EINPROGRESS;
	if (r != expected)
		fail(p, "%s gives %s", name, result_name(r, buf));
}

/* ---- lines ---- */

static bool time_read(const char *w, usec_t *ret)
{
	char *unit;
	double v = strtod(w + 1, &unit);
	double scale = !strcmp(unit, "us") ? 1 : !strcmp(unit, "ms") ? 1e3 : !strcmp(unit, "s") ? 1e6 : 0;

	*ret = (usec_t)(v * scale + 0.5);
	return scale > 0;
}

/* What a host says when it comes to a link is over when the script begins (tests/unit/test_nd.c is about it) */
static void ip6_begin(struct player *p)
{
	struct stack_ip6 cfg = { 0 };
	struct pbuf *f;

	if (stack_ip6_start(p->st, &cfg, p->now - SEC(10)) < 0)
		abort();
	while (stack_deadline(p->st) <= p->now)
		stack_expire(p->st, stack_deadline(p->st));
	while ((f = stack_output(p->st, p->now)))
		stack_tx_done(p->st, f);
}

static void stack_begin(struct player *p)
{
	struct stack_config cfg = { .region = region_new(256 << 20), .seed = { 11, 12, 13, 14 }, .ctl = p->ctl };

	memcpy(cfg.dev.mac, our_mac, 6);
	cfg.dev.mtu_bytes = p->mtu;
	cfg.dev.gso_max_bytes = 65535;
	p->st = stack_init(&cfg, p->v6 ? p->now - SEC(10) : p->now);
	if (!p->st)
		abort();
	if (p->v6)
		ip6_begin(p);
	if (stack_addr_add(p->st, station(p, 1), p->v6 ? 64 : 24) < 0)
		abort();
	if (!p->no_neighbour && stack_neigh_add(p->st, station(p, 2), peer_mac) < 0)
		abort();
}

static void play_words(struct player *p)
{
	usec_t dt = 0;

	if (p->word[0][0] == '+') {
		if (!time_read(p->word[0], &dt))
			fail(p, "time \"%s\"?", p->word[0]);
		memmove(p->word, p->word + 1, (size_t)--p->n_words * sizeof(p->word[0]));
		if (!p->n_words)
			fail(p, "nothing behind the time");
	}
	if (p->failed)
		return;
	if (!p->st) {
		if (!strcmp(p->word[0], "ipv4")) {
			p->left_out = p->v6;
			return;
		}
		if (!strcmp(p->word[0], "ipv6")) {
			p->v6 = true;
			p->mtu = 1500;
			return;
		}
		if (!strcmp(p->word[0], "no_neighbour")) {
			p->no_neighbour = true;
			return;
		}
		if (!strcmp(p->word[0], "sysctl")) {
			if (p->n_words != 3 || !sysctl_set(p, p->word[1], need_number(p, 2)))
				fail(p, "sysctl?");
			return;
		}
		stack_begin(p);
	}
	if (strcmp(p->word[0], ">") != 0)
		nothing_left(p);
	p->mark += dt;
	advance(p, p->mark);
	if (!strcmp(p->word[0], ">")) {
		we_sent(p);
		return;
	}
	nothing_left(p);
	if (!strcmp(p->word[0], "<") && p->n_words > 1 && !strcmp(p->word[1], "icmp"))
		peer_sends_icmp(p);
	else if (!strcmp(p->word[0], "<") && p->n_words > 1 && !strcmp(p->word[1], "arp"))
		peer_sends_arp(p);
	else if (!strcmp(p->word[0], "<") && p->n_words > 1 && !strcmp(p->word[1], "nd"))
		peer_sends_nd(p);
	else if (!strcmp(p->word[0], "<"))
		peer_sends(p);
	else if (!strcmp(p->word[0], "peer_iss"))
		p->peer_iss = need_number(p, 1);
	else if (!strcmp(p->word[0], "forget"))
		peer_of(p, p->peer_port)->iss_known = false;
	else if (!strcmp(p->word[0], "sockets") || !strcmp(p->word[0], "timewaits") || !strcmp(p->word[0], "requests"))
		check_count(p, p->word[0], need_number(p, 1));
	else if (!strcmp(p->word[0], "counter") || !strcmp(p->word[0], "drop"))
		check_row(p);
	else if (strcmp(p->word[0], "silence") != 0)
		call_line(p);
}

static void play_line(struct player *p, char *line)
{
	char *save, *comment = strchr(line, '#');

	if (comment)
		*comment = 0;
	p->n_words = 0;
	for (char *w = strtok_r(line, " \t\n", &save); w && p->n_words < WORDS_MAX; w = strtok_r(NULL, " \t\n", &save))
		p->word[p->n_words++] = w;
	if (p->n_words)
		play_words(p);
}

static bool play(const char *file, bool verbose, bool v6)
{
	static struct player p;
	char line[1024];
	FILE *f = fopen(file, "r");

	if (!f) {
		perror(file);
		return false;
	}
	p = (struct player){ .file = file, .verbose = verbose, .v6 = v6, .mtu = v6 ? 1520 : 1500, .now = SEC(1000), .start = SEC(1000), .mark = SEC(1000),
			     .peer_port = 5000, .peer_iss = 1000000000 };
	stack_sysctl_default(&p.ctl);
	while (!p.failed && !p.left_out && fgets(line, sizeof(line), f)) {
		p.line++;
		play_line(&p, line);
	}
	fclose(f);
	if (!p.st && !p.left_out)
		fail(&p, "the script does nothing");
	else if (p.st)
		nothing_left(&p);
	if (p.st)
		munmap(p.st->region->base, p.st->region->bytes);
	printf("%-60s %s\n", file, p.failed ? "FAILED" : "ok");
	return !p.failed;
}

int main(int argc, char **argv)
{
	bool verbose = false, v6 = false, ok = true;
	int played = 0;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "-v")) {
			verbose = true;
			continue;
		}
		if (!strcmp(argv[i], "-6")) {
			v6 = true;
			continue;
		}
		ok &= play(argv[i], verbose, v6);
		played++;
	}
	if (!played)
		fprintf(stderr, "packet [-v] [-6] FILE.pkt...\n");
	return ok && played ? 0 : 1;
}
