/* SPDX-License-Identifier: BSD-2-Clause */
/* theirs.c - what the peer sends: a line of the script made into a frame */
#include "player.h"

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
struct seg seg_parse(struct player *p, int i)
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

void peer_sends(struct player *p)
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

void peer_sends_icmp(struct player *p)
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

void peer_sends_nd(struct player *p)
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

void peer_sends_arp(struct player *p)
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
