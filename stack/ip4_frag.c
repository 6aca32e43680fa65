/* SPDX-License-Identifier: BSD-2-Clause */
/* ip4_frag.c - IPv4 packets that come in pieces (RFC 791 3.2, RFC 815); theory in ip_frag.c */
#include "checksum.h"
#include "stack_priv.h"
#include "wire.h"

#define IP4_MF		0x2000
#define IP4_OFFSET	0x1fff
#define IP4_BYTES_MAX	65535u

/* The whole packet in st->frags.buf */
static void assemble(struct stack *st, const struct frag_q *q, const struct frame *f, struct frame *ret_whole)
{
	uint8_t *b = st->frags.buf, *h = b + ETH_HDR_BYTES;

	memcpy(b, f->data, ETH_HDR_BYTES);
	memcpy(h, q->hdr, q->hdr_len);
	put16(h + 2, (uint16_t)(q->hdr_len + q->got_bytes));
	put16(h + 6, 0);
	if (frag_is_marked(q))
		h[1] |= 3;
	put16(h + 10, 0);
	put16_raw(h + 10, (uint16_t)~csum_fold(csum_add(0, h, q->hdr_len)));
	*ret_whole = (struct frame){ .data = b, .len = ETH_HDR_BYTES + q->hdr_len + frag_copy(q, h + q->hdr_len) };
}

bool ip4_frag_input(struct stack *st, const struct frame *f, const uint8_t *h, const struct ip_rx *ip,
		    struct frame *ret_whole, usec_t now)
{
	uint32_t off = (get16(h + 6) & IP4_OFFSET) * 8u, hdr_len = (h[0] & 15) * 4u;
	bool last = !(get16(h + 6) & IP4_MF);
	struct frag_q *q;

	CNT(st, IpReasmReqds);
	q = frag_find(st, ip, get16(h + 4));
	if (ip->l4_len == 0 || (!last && ip->l4_len % 8) || hdr_len + off + ip->l4_len > IP4_BYTES_MAX) {
		if (q)
			frag_fail(st, q);
		else
			drop(st, DROP_IP_FRAGMENT);
		return false;
	}
	if (!frag_room(st, q, ip->l4_len) || !(q = q ? q : frag_make(st, ip, get16(h + 4), now))) {
		CNT(st, IpReasmFails);
		drop(st, DROP_IP_FRAGMENT);
		return false;
	}
	if (off == 0 && !q->hdr_len) {
		memcpy(q->hdr, h, hdr_len);
		q->hdr_len = (uint8_t)hdr_len;
	}
	if (!frag_add(st, q, f->data + ip->l4_off, off, ip->l4_len, last, ip->tos) || (q->end && q->hdr_len + q->end > IP4_BYTES_MAX)) {
		frag_fail(st, q);
		return false;
	}
	if (!q->end || q->got_bytes != q->end)
		return false;
	CNT(st, IpReasmOKs);
	assemble(st, q, f, ret_whole);
	frag_free(st, q);
	return true;
}

void ip4_frag_timeout(struct stack *st, const struct frag_q *q, usec_t now)
{
	static const uint8_t eth[ETH_HDR_BYTES]; /* it was for us alone: a broadcast did not come so far */
	const struct frame unicast = { .data = eth };
	struct frame f;
	struct ip_rx ip = { .src = q->src, .dst = q->dst, .proto = q->proto };

	CNT(st, IpReasmTimeout);
	if (q->hdr_len && q->head && q->head->seq == 0) {
		assemble(st, q, &unicast, &f);
		ip.l4_off = ETH_HDR_BYTES + q->hdr_len;
		ip.l4_len = q->head->len; /* behind it there may be a gap */
		icmp4_time_exceeded(st, &f, &ip, now);
	}
}
