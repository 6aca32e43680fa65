/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ip_frag.c - packets that come in pieces: what IPv4 (ip4_frag.c) and IPv6 (ip6_frag.c) have in common
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
 *   - a packet has at most 256 pieces, and 30 s (IPv6: 60 s).
 *   - a length that is no multiple of eight, an end beyond 65,535: dropped at once.
 *
 * A packet that does not become whole in time is told to its sender if its first fragment is here (RFC 1122 3.3.2, RFC
 * 8200 4.5). The congestion bits are joined as RFC 3168 5.3 has it.
 */
#include "ip_frag.h"

#include <errno.h>
#include "stack_priv.h"

#define ECN_NOT_ECT	(1u << 0)
#define ECN_CE		(1u << 3)

int frag_init(struct stack *st)
{
	struct frag_table *ft = &st->frags;

	dlist_init(&ft->lru);
	ft->buf = region_take(st->region, FRAG_BUF_BYTES, 64);
	if (!ft->buf || slab_init(&ft->slab, st->region, sizeof(struct frag_q), 0) < 0)
		return -ENOMEM;
	return htab_init(&ft->tab, st->region);
}

static uint32_t frag_hash(const struct stack *st, const struct ip_rx *ip, uint32_t id)
{
	uint64_t w[5] = { ip->src.q[0], ip->src.q[1], ip->dst.q[0], ip->dst.q[1], (uint64_t)id << 8 | ip->proto };

	return (uint32_t)siphash13(&st->key_tuple, w, 5);
}

void frag_free(struct stack *st, struct frag_q *q)
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

void frag_fail(struct stack *st, struct frag_q *q)
{
	if (ipaddr_is_v4(q->src))
		CNT(st, IpReasmFails);
	else
		CNT(st, Ip6ReasmFails);
	drop(st, DROP_IP_FRAGMENT);
	frag_free(st, q);
}

struct frag_q *frag_find(struct stack *st, const struct ip_rx *ip, uint32_t id)
{
	for (struct hnode *n = htab_first(&st->frags.tab, frag_hash(st, ip, id)); n; n = htab_next(n)) {
		struct frag_q *q = container_of(n, struct frag_q, node);

		if (q->id == id && q->proto == ip->proto && ipaddr_eq(q->src, ip->src) && ipaddr_eq(q->dst, ip->dst))
			return q;
	}
	return NULL;
}

struct frag_q *frag_make(struct stack *st, const struct ip_rx *ip, uint32_t id, usec_t now)
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
	wheel_set(&st->wheel, &q->timer, now + (ipaddr_is_v4(q->src) ? FRAG_TIME_US : FRAG6_TIME_US));
	return q;
}

/* Room for one more fragment of @len octets: the oldest packets go, but not @keep */
bool frag_room(struct stack *st, const struct frag_q *keep, uint32_t len)
{
	while (st->frags.held_bytes + len + cell_block_bytes[CELL_LARGE] > FRAG_HELD_MAX) {
		struct frag_q *oldest = container_of(dlist_first(&st->frags.lru), struct frag_q, lru);

		if (oldest == keep)
			return false;
		frag_fail(st, oldest);
	}
	return true;
}

/* Copies [off, off + len) into cells behind @after (NULL: in front of all). False: no memory, or too many pieces */
static bool put(struct stack *st, struct frag_q *q, struct cell *after, uint32_t off, const uint8_t *data, uint32_t len)
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

/* The fragment [off, off + len) finds its place. False: it contradicts what is here, or there is no room */
static bool place(struct stack *st, struct frag_q *q, const uint8_t *data, uint32_t off, uint32_t len, bool last)
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
	return put(st, q, after, off, data, len);
}

bool frag_add(struct stack *st, struct frag_q *q, const uint8_t *data, uint32_t off, uint32_t len, bool last, uint8_t tos)
{
	q->ecn_seen |= (uint8_t)(1u << (tos & 3));
	return place(st, q, data, off, len, last) && !(q->ecn_seen & ECN_CE && q->ecn_seen & ECN_NOT_ECT);
}

bool frag_is_marked(const struct frag_q *q)
{
	return q->ecn_seen & ECN_CE;
}

uint32_t frag_copy(const struct frag_q *q, uint8_t *to)
{
	uint32_t n = 0;

	for (const struct cell *c = q->head; c; c = c->next) {
		memcpy(to + n, c->data, c->len);
		n += c->len;
	}
	return n;
}

void frag_timer(struct stack *st, struct timer *t, usec_t now)
{
	struct frag_q *q = container_of(t, struct frag_q, timer);

	if (ipaddr_is_v4(q->src))
		ip4_frag_timeout(st, q, now);
	else
		ip6_frag_timeout(st, q, now);
	frag_fail(st, q);
}

void frag_repair(struct stack *st)
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
