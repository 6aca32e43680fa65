/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ip4_frag.c - IPv4 packets that come in pieces
 *
 * Theory of operation
 *
 * Payload is copied into cells, sorted by offset. When the last octet's place is known and as many octets are here, the
 * packet is put together in one run and taken in as if it had come so; its TCP checksum is verified then.
 *
 * Whoever can send fragments can try to confuse or to exhaust us:
 *   - two fragments that overlap, or name different ends, are never needed: the whole packet is thrown away, since what
 *     arrived first may be the forgery (RFC 5722 says so for IPv6, Linux does it for both). An exact duplicate is
 *     ignored.
 *   - all packets together hold at most 4 MiB, headers of cells included; then the oldest goes.
 *   - a packet has at most 256 pieces and 30 s.
 *   - a length that is no multiple of eight, an end beyond 65,535: dropped at once.
 *
 * A packet that does not become whole in time is told to its sender if its first fragment is here (RFC 1122 3.3.2). The
 * congestion bits are joined as RFC 3168 5.3 has it.
 */
#include "ip4_frag.h"

#include <errno.h>
#include "checksum.h"
#include "stack_priv.h"
#include "wire.h"

#define IP4_MF		0x2000
#define IP4_OFFSET	0x1fff
#define IP4_BYTES_MAX	65535u
#define ECN_NOT_ECT	(1u << 0)
#define ECN_CE		(1u << 3)

int ip4_frag_init(struct stack *st)
{
	struct frag_table *ft = &st->frags;

	dlist_init(&ft->lru);
	ft->buf = region_take(st->region, FRAME_MAX_BYTES, 64);
	if (!ft->buf || slab_init(&ft->slab, st->region, sizeof(struct frag_q), 0) < 0)
		return -ENOMEM;
	return htab_init(&ft->tab, st->region);
}

static uint32_t frag_hash(const struct stack *st, const struct ip_rx *ip, uint16_t id)
{
	uint64_t w[2] = { (uint64_t)ip->src.w[3] << 32 | ip->dst.w[3], (uint64_t)id << 8 | ip->proto };

	return (uint32_t)siphash13(&st->key_tuple, w, 2);
}

static void q_free(struct stack *st, struct frag_q *q)
{
	while (q->head) {
		struct cell *c = q->head;

		q->head = c->next;
		cell_put(st, c);
	}
	st->frags.held_bytes -= q->held_bytes + (uint32_t)sizeof(*q);
	wheel_cancel(&st->wheel, &q->timer);
	htab_remove(&st->frags.tab, &q->node);
	dlist_remove(&q->lru);
	slab_free(&st->frags.slab, q);
}

static void q_fail(struct stack *st, struct frag_q *q)
{
	CNT(st, IpReasmFails);
	drop(st, DROP_IP_FRAGMENT);
	q_free(st, q);
}

static struct frag_q *q_find(struct stack *st, const struct ip_rx *ip, uint16_t id)
{
	for (struct hnode *n = htab_first(&st->frags.tab, frag_hash(st, ip, id)); n; n = htab_next(n)) {
		struct frag_q *q = container_of(n, struct frag_q, node);

		if (q->id == id && q->proto == ip->proto && ipaddr_eq(q->src, ip->src) && ipaddr_eq(q->dst, ip->dst))
			return q;
	}
	return NULL;
}

static struct frag_q *q_make(struct stack *st, const struct ip_rx *ip, uint16_t id, usec_t now)
{
	struct frag_q *q = slab_alloc(&st->frags.slab);

	if (!q)
		return NULL;
	q->src = ip->src;
	q->dst = ip->dst;
	q->id = id;
	q->proto = ip->proto;
	q->timer.kind = TIMER_FRAG;
	st->frags.held_bytes += (uint32_t)sizeof(*q);
	htab_insert(&st->frags.tab, &q->node, frag_hash(st, ip, id));
	dlist_append(&st->frags.lru, &q->lru);
	wheel_set(&st->wheel, &q->timer, now + FRAG_TIME_US);
	return q;
}

/* Room for one more fragment of @len octets: the oldest packets go, but not @keep */
static bool make_room(struct stack *st, const struct frag_q *keep, uint32_t len)
{
	while (st->frags.held_bytes + len + cell_block_bytes[CELL_LARGE] > FRAG_HELD_MAX) {
		struct frag_q *oldest = container_of(dlist_first(&st->frags.lru), struct frag_q, lru);

		if (oldest == keep)
			return false;
		q_fail(st, oldest);
	}
	return true;
}

/* Copies [off, off + len) into cells behind @after (NULL: in front of all). False: no memory, or too many pieces */
static bool q_put(struct stack *st, struct frag_q *q, struct cell *after, uint32_t off, const uint8_t *data, uint32_t len)
{
	while (len > 0) {
		struct cell *c = q->n_pieces < FRAG_PIECES_MAX ? cell_alloc(st, len) : NULL;
		uint32_t n;

		if (!c)
			return false;
		n = len < c->cap ? len : c->cap;
		memcpy(c->data, data, n);
		c->len = n;
		c->seq = off;
		c->next = after ? after->next : q->head;
		if (after)
			after->next = c;
		else
			q->head = c;
		if (!c->next)
			q->tail = c;
		q->n_pieces++;
		q->got_bytes += n;
		q->held_bytes += cell_block(c);
		st->frags.held_bytes += cell_block(c);
		after = c;
		off += n;
		data += n;
		len -= n;
	}
	return true;
}

/* Is all of [off, end) here already, in pieces that began and ended there: a duplicate */
static bool same_again(const struct cell *c, uint32_t off, uint32_t end)
{
	while (c && c->seq == off && off < end) {
		off += c->len;
		c = c->next;
	}
	return off == end;
}

/**
 * q_add() - one fragment finds its place
 *
 * Return: false: it contradicts what is here, or there is no room; the packet cannot become whole
 */
static bool q_add(struct stack *st, struct frag_q *q, const uint8_t *data, uint32_t off, uint32_t len, bool last)
{
	struct cell *after = NULL, *next;
	uint32_t end = off + len;

	if (last ? (q->end && q->end != end) || (q->tail && q->tail->seq + q->tail->len > end) : q->end && end > q->end)
		return false;
	if (last)
		q->end = end;
	if (q->tail && q->tail->seq + q->tail->len <= off) { /* in order, as most */
		after = q->tail;
		next = NULL;
	} else {
		for (next = q->head; next && next->seq < off; next = next->next)
			after = next;
	}
	if (next && next->seq == off && same_again(next, off, end))
		return true;
	if ((after && after->seq + after->len > off) || (next && next->seq < end))
		return false;
	return q_put(st, q, after, off, data, len);
}

/* The whole packet in st->frags.buf */
static void q_assemble(struct stack *st, const struct frag_q *q, const struct frame *f, struct frame *ret_whole)
{
	uint8_t *b = st->frags.buf, *h = b + ETH_HDR_BYTES;
	uint32_t at = ETH_HDR_BYTES + q->hdr_len;

	memcpy(b, f->data, ETH_HDR_BYTES);
	memcpy(h, q->hdr, q->hdr_len);
	put16(h + 2, (uint16_t)(q->hdr_len + q->got_bytes));
	put16(h + 6, 0);
	if (q->ecn_seen & ECN_CE)
		h[1] |= 3;
	put16(h + 10, 0);
	put16_raw(h + 10, (uint16_t)~csum_fold(csum_add(0, h, q->hdr_len)));
	for (const struct cell *c = q->head; c; c = c->next) {
		memcpy(b + at, c->data, c->len);
		at += c->len;
	}
	*ret_whole = (struct frame){ .data = b, .len = at };
}

bool ip4_frag_input(struct stack *st, const struct frame *f, const uint8_t *h, const struct ip_rx *ip,
		    struct frame *ret_whole, usec_t now)
{
	uint32_t off = (get16(h + 6) & IP4_OFFSET) * 8u, hdr_len = (h[0] & 15) * 4u;
	bool last = !(get16(h + 6) & IP4_MF);
	struct frag_q *q;

	CNT(st, IpReasmReqds);
	q = q_find(st, ip, get16(h + 4));
	if (ip->l4_len == 0 || (!last && ip->l4_len % 8) || hdr_len + off + ip->l4_len > IP4_BYTES_MAX) {
		if (q)
			q_fail(st, q);
		else
			drop(st, DROP_IP_FRAGMENT);
		return false;
	}
	if (!make_room(st, q, ip->l4_len) || !(q = q ? q : q_make(st, ip, get16(h + 4), now))) {
		CNT(st, IpReasmFails);
		drop(st, DROP_IP_FRAGMENT);
		return false;
	}
	q->ecn_seen |= (uint8_t)(1u << (ip->tos & 3));
	if (off == 0 && !q->hdr_len) {
		memcpy(q->hdr, h, hdr_len);
		q->hdr_len = (uint8_t)hdr_len;
	}
	if (!q_add(st, q, f->data + ip->l4_off, off, ip->l4_len, last) ||
	    (q->ecn_seen & ECN_CE && q->ecn_seen & ECN_NOT_ECT) || (q->end && q->hdr_len + q->end > IP4_BYTES_MAX)) {
		q_fail(st, q);
		return false;
	}
	if (!q->end || q->got_bytes != q->end)
		return false;
	CNT(st, IpReasmOKs);
	q_assemble(st, q, f, ret_whole);
	q_free(st, q);
	return true;
}

void ip4_frag_timer(struct stack *st, struct timer *t, usec_t now)
{
	struct frag_q *q = container_of(t, struct frag_q, timer);
	static const uint8_t eth[ETH_HDR_BYTES]; /* it was for us alone: a broadcast did not come so far */
	const struct frame unicast = { .data = eth };
	struct frame f;
	struct ip_rx ip = { .src = q->src, .dst = q->dst, .proto = q->proto };

	CNT(st, IpReasmTimeout);
	if (q->hdr_len && q->head && q->head->seq == 0) {
		q_assemble(st, q, &unicast, &f);
		ip.l4_off = ETH_HDR_BYTES + q->hdr_len;
		ip.l4_len = q->head->len; /* behind it there may be a gap */
		icmp4_time_exceeded(st, &f, &ip, now);
	}
	q_fail(st, q);
}

void ip4_frag_repair(struct stack *st)
{
	uint32_t cursor = 0;
	struct frag_q *q;

	slab_rebuild(&st->frags.slab);
	while ((q = slab_next(&st->frags.slab, &cursor)))
		slab_free(&st->frags.slab, q);
	htab_clear(&st->frags.tab);
	dlist_init(&st->frags.lru);
	st->frags.held_bytes = 0;
}
