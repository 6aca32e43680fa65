/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ip6_frag.c - IPv6 packets that come in pieces (RFC 8200 4.5); theory in ip_frag.c
 *
 * The headers in front of the fragment header were seen to when each fragment came; the packet that is put together has
 * the IPv6 header and what was fragmented. Protocol is no part of what says which packet a fragment belongs to.
 */
#include "ip6.h"
#include "stack_priv.h"
#include "wire.h"

#define FRAG_HDR_BYTES	8
#define PAYLOAD_MAX	65535u
#define MORE		1

/* All that is here behind an IPv6 header; @gap: octets left free between them */
static uint8_t *assemble(struct stack *st, const struct frag_q *q, uint32_t gap, uint32_t *ret_len)
{
	uint8_t *b = st->frags.buf, *h = b + ETH_HDR_BYTES;

	memset(b, 0, ETH_HDR_BYTES);
	memcpy(h, q->hdr, IP6_HDR_BYTES);
	if (frag_is_marked(q))
		h[1] |= 0x30;
	*ret_len = frag_copy(q, h + IP6_HDR_BYTES + gap);
	put16(h + 4, (uint16_t)(*ret_len + gap));
	return h;
}

/* RFC 8200 4.5 and 7112: all headers must be in the first fragment, that of the transport's included */
static bool chain_complete(const uint8_t *data, uint32_t len, uint8_t nh)
{
	uint32_t off;

	nh = ip6_upper(data, len, nh, 0, &off);
	switch (nh) {
	case IP6_TCP:
		return len - off >= 20;
	case IP6_UDP:
	case IP6_ICMP:
		return len - off >= 8;
	case IP6_HOP_BY_HOP:
	case IP6_ROUTING:
	case IP6_DEST_OPTS:
		return false;
	default:
		return true;
	}
}

static void fail(struct stack *st, struct frag_q *q)
{
	if (q) {
		frag_fail(st, q);
		return;
	}
	CNT(st, Ip6ReasmFails);
	drop(st, DROP_IP_FRAGMENT);
}

/* What the sender did wrong, by the field it is in; false: nothing */
static bool malformed(struct stack *st, const struct frame *f, uint32_t at, const struct ip_rx *ip, usec_t now)
{
	const uint8_t *e = f->data + at, *data = e + FRAG_HDR_BYTES;
	uint32_t off = get16(e + 2) & 0xfff8, len = ip->l4_len - FRAG_HDR_BYTES;
	bool last = !(get16(e + 2) & MORE);

	if (!last && len % 8) {
		icmp6_error(st, f, ip, ICMP6_PARAM_PROBLEM, ICMP6_PARAM_FIELD, 4, now);
		return true;
	}
	if (off + len > PAYLOAD_MAX) {
		icmp6_error(st, f, ip, ICMP6_PARAM_PROBLEM, ICMP6_PARAM_FIELD, at + 2 - ETH_HDR_BYTES, now);
		return true;
	}
	if (off == 0 && !chain_complete(data, len, e[0])) {
		icmp6_error(st, f, ip, ICMP6_PARAM_PROBLEM, ICMP6_PARAM_CHAIN, 0, now);
		return true;
	}
	return len == 0;
}

bool ip6_frag_input(struct stack *st, const struct frame *f, uint32_t at, const struct ip_rx *ip, struct frame *ret_whole,
		    usec_t now)
{
	const uint8_t *e = f->data + at;
	uint32_t off = get16(e + 2) & 0xfff8, len = ip->l4_len - FRAG_HDR_BYTES, id = get32(e + 4), n;
	struct frag_q *q;

	CNT(st, Ip6ReasmReqds);
	q = frag_find(st, ip, id);
	if (malformed(st, f, at, ip, now) || !frag_room(st, q, len) || !(q = q ? q : frag_make(st, ip, id, now))) {
		fail(st, q);
		return false;
	}
	if (off == 0 && !q->hdr_len) {
		memcpy(q->hdr, f->data + ETH_HDR_BYTES, IP6_HDR_BYTES);
		q->hdr[6] = e[0];
		q->hdr_len = IP6_HDR_BYTES;
	}
	if (!frag_add(st, q, e + FRAG_HDR_BYTES, off, len, !(get16(e + 2) & MORE), ip->tos)) {
		frag_fail(st, q);
		return false;
	}
	if (!q->end || q->got_bytes != q->end)
		return false;
	CNT(st, Ip6ReasmOKs);
	assemble(st, q, 0, &n);
	*ret_whole = (struct frame){ .data = st->frags.buf, .len = ETH_HDR_BYTES + IP6_HDR_BYTES + n };
	frag_free(st, q);
	return true;
}

/* The message quotes the first fragment as it came, but for headers that stood in front of the fragment header */
void ip6_frag_timeout(struct stack *st, const struct frag_q *q, usec_t now)
{
	struct ip_rx ip = { .src = q->src, .dst = q->dst, .l4_off = ETH_HDR_BYTES + IP6_HDR_BYTES };
	struct frame f = { .data = st->frags.buf };
	uint8_t *h;
	uint32_t n;

	CNT(st, Ip6ReasmTimeout);
	if (!q->hdr_len || !q->head || q->head->seq != 0)
		return;
	h = assemble(st, q, FRAG_HDR_BYTES, &n);
	memset(h + IP6_HDR_BYTES, 0, FRAG_HDR_BYTES);
	h[IP6_HDR_BYTES] = h[6];
	h[6] = IP6_FRAGMENT;
	put16(h + IP6_HDR_BYTES + 2, MORE);
	put32(h + IP6_HDR_BYTES + 4, q->id);
	ip.l4_len = FRAG_HDR_BYTES + q->head->len; /* behind it there may be a gap */
	put16(h + 4, (uint16_t)ip.l4_len);
	f.len = ip.l4_off + ip.l4_len;
	icmp6_error(st, &f, &ip, ICMP6_TIME_EXCEEDED, ICMP6_TIME_REASSEMBLY, 0, now);
}
