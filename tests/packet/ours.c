/* SPDX-License-Identifier: BSD-2-Clause */
/* ours.c - what we send: frames taken apart as they come out of the stack, and met by the lines that expect them */
#include "player.h"

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

struct peer *peer_of(struct player *p, uint16_t port)
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

void drain(struct player *p)
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

void advance(struct player *p, usec_t to)
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

void we_sent(struct player *p)
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

void nothing_left(struct player *p)
{
	if (p->next_out < p->n_out)
		fail(p, "sent, and no line says so: %s (at %.3f ms)", p->out[p->next_out].text,
		     (double)(p->out[p->next_out].at - p->start) / 1000);
	p->next_out = p->n_out = 0;
}
