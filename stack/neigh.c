/* SPDX-License-Identifier: BSD-2-Clause */
#include "neigh.h"

#include <errno.h>
#include "ip6.h"
#include "nd.h"
#include "stack_priv.h"

#define NEIGH_EVICT_TRIES 8

int neigh_init(struct stack *st)
{
	dlist_init(&st->neighs.lru);
	if (slab_init(&st->neighs.slab, st->region, sizeof(struct neigh), NEIGH_MAX) < 0)
		return -ENOMEM;
	return htab_init(&st->neighs.tab, st->region);
}

static uint32_t neigh_hash(const struct stack *st, const struct ipaddr *a)
{
	return (uint32_t)siphash13(&st->key_tuple, a->q, 2);
}

struct neigh *neigh_find(const struct stack *st, const struct ipaddr *addr)
{
	for (struct hnode *h = htab_first(&st->neighs.tab, neigh_hash(st, addr)); h; h = htab_next(h)) {
		struct neigh *n = container_of(h, struct neigh, node);

		if (ipaddr_eq(n->addr, *addr))
			return n;
	}
	return NULL;
}

static void neigh_used(struct stack *st, struct neigh *n)
{
	dlist_remove(&n->lru);
	dlist_append(&st->neighs.lru, &n->lru);
}

/* Gives the frames that wait. */
static struct pbuf *hold_detach(struct neigh *n)
{
	struct pbuf *list = n->hold;

	n->hold = n->hold_last = NULL;
	n->n_hold = 0;
	return list;
}

/* Takes a list of frames that cannot be delivered; TCP is told of each. */
static void hold_fail(struct stack *st, struct pbuf *list, usec_t now)
{
	while (list) {
		struct pbuf *p = list;

		list = p->next;
		p->next = NULL;
		drop(st, DROP_NEIGH_FAILED);
		if (*pbuf_head(p) >> 4 == 4)
			icmp4_unreachable_local(st, p, now);
		else
			icmp6_unreachable_local(st, p, now);
		pbuf_free(st, p);
	}
}

static void neigh_free(struct stack *st, struct neigh *n, usec_t now)
{
	struct pbuf *list = hold_detach(n);

	wheel_cancel(&st->wheel, &n->timer);
	htab_remove(&st->neighs.tab, &n->node);
	dlist_remove(&n->lru);
	slab_free(&st->neighs.slab, n);
	path_changed(st); /* someone may remember the row's index */
	hold_fail(st, list, now);
}

/*
 * Makes room: the longest unused row goes, unless it is permanent or TCP confirmed it lately without moving it in the
 * list.
 */
static bool neigh_evict(struct stack *st, usec_t now)
{
	for (int i = 0; i < NEIGH_EVICT_TRIES; i++) {
		struct dnode *d = dlist_first(&st->neighs.lru);
		struct neigh *n;

		if (!d)
			return false;
		n = container_of(d, struct neigh, lru);
		if (n->state != NEIGH_PERMANENT && (i == NEIGH_EVICT_TRIES - 1 ||
						    now - n->confirmed > NEIGH_REACHABLE_US)) {
			neigh_free(st, n, now);
			return true;
		}
		neigh_used(st, n);
	}
	return false;
}

static struct neigh *neigh_make(struct stack *st, const struct ipaddr *addr, usec_t now)
{
	struct neigh *n;

	if (st->neighs.slab.in_use >= NEIGH_MAX - 1 && !neigh_evict(st, now))
		return NULL;
	n = slab_alloc(&st->neighs.slab);
	if (!n)
		return NULL;
	n->addr = *addr;
	n->state = NEIGH_FAILED;
	n->timer.kind = TIMER_NEIGH;
	htab_insert(&st->neighs.tab, &n->node, neigh_hash(st, addr));
	dlist_append(&st->neighs.lru, &n->lru);
	return n;
}

/* Asks for the address: everybody, or in PROBE only the one who had it. */
static void neigh_solicit(struct stack *st, struct neigh *n, usec_t now)
{
	struct ipaddr src;

	n->probes++;
	wheel_set(&st->wheel, &n->timer, now + NEIGH_RETRANS_US);
	if (!ipaddr_is_v4(n->addr))
		nd_solicit(st, &n->addr, n->state == NEIGH_PROBE ? n->mac : NULL);
	else if (stack_source_for(st, n->addr, &src) == 0)
		arp_send(st, 1, n->state == NEIGH_PROBE ? n->mac : NULL, &src, &n->addr, NULL);
}

static void neigh_send(struct stack *st, struct neigh *n, struct pbuf *p)
{
	bool v4 = ipaddr_is_v4(n->addr);
	struct vnet_hdr v = { 0 };

	eth_push(st, p, n->mac, v4 ? 0x0800 : ETHERTYPE_IPV6);
	if (p->gso_size) {
		v.gso_type = (uint8_t)((v4 ? VNET_GSO_TCPV4 : VNET_GSO_TCPV6) | (p->gso_ecn ? VNET_GSO_ECN : 0));
		v.gso_size = p->gso_size;
		v.hdr_len = p->hdr_len;
	}
	if (p->csum_offset) {
		v.flags = VNET_F_NEEDS_CSUM;
		v.csum_start = (uint16_t)(ETH_HDR_BYTES + (v4 ? IP4_HDR_BYTES : IP6_HDR_BYTES));
		v.csum_offset = p->csum_offset;
	}
	memcpy(pbuf_push(p, VNET_HDR_BYTES), &v, VNET_HDR_BYTES);
	stack_transmit(st, p);
}

/* Takes @p; of too many the oldest goes, whose sender is the nearest to sending it again. */
static void neigh_hold(struct stack *st, struct neigh *n, struct pbuf *p)
{
	if (n->n_hold == NEIGH_HOLD_MAX) {
		struct pbuf *oldest = n->hold;

		n->hold = oldest->next;
		n->n_hold--;
		drop(st, DROP_NEIGH_HOLD_FULL);
		pbuf_free(st, oldest);
	}
	p->next = NULL;
	if (n->hold)
		n->hold_last->next = p;
	else
		n->hold = p;
	n->hold_last = p;
	n->n_hold++;
}

void neigh_output_row(struct stack *st, struct neigh *n, struct pbuf *p, usec_t now)
{
	switch ((enum neigh_state)n->state) {
	case NEIGH_REACHABLE:
		if (now - n->confirmed < NEIGH_REACHABLE_US)
			break;
		/* fall through */
	case NEIGH_STALE:
		n->state = NEIGH_DELAY;
		neigh_used(st, n);
		wheel_set(&st->wheel, &n->timer, now + NEIGH_DELAY_US);
		break;
	case NEIGH_DELAY:
	case NEIGH_PROBE:
	case NEIGH_PERMANENT:
		break;
	case NEIGH_FAILED:
		n->state = NEIGH_INCOMPLETE;
		n->probes = 0;
		neigh_hold(st, n, p);
		neigh_solicit(st, n, now);
		return;
	case NEIGH_INCOMPLETE:
		neigh_hold(st, n, p);
		return;
	}
	neigh_send(st, n, p);
}

void neigh_output(struct stack *st, struct pbuf *p, const struct ipaddr *next_hop, struct neigh **ret_neigh, usec_t now)
{
	struct neigh *n = neigh_find(st, next_hop);

	if (!n)
		n = neigh_make(st, next_hop, now);
	if (!n) {
		drop(st, DROP_NEIGH_TABLE_FULL);
		pbuf_free(st, p);
		return;
	}
	*ret_neigh = n;
	neigh_output_row(st, n, p, now);
}

void neigh_learned(struct stack *st, const struct ipaddr *addr, const uint8_t mac[6], bool solicited, bool create,
		   usec_t now)
{
	struct neigh *n = neigh_find(st, addr);
	bool known;

	if (!n && create)
		n = neigh_make(st, addr, now);
	if (!n || n->state == NEIGH_PERMANENT)
		return;
	known = n->state != NEIGH_INCOMPLETE && n->state != NEIGH_FAILED;
	/* An unasked frame that says what we know changes nothing: it proves only one direction (RFC 4861 7.2.5). */
	if (!solicited && known && memcmp(n->mac, mac, 6) == 0)
		return;
	memcpy(n->mac, mac, 6);
	n->probes = 0;
	if (solicited) {
		n->state = NEIGH_REACHABLE;
		n->confirmed = now;
	} else {
		n->state = NEIGH_STALE;
	}
	neigh_used(st, n);
	wheel_cancel(&st->wheel, &n->timer);
	for (struct pbuf *p = hold_detach(n), *next; p; p = next) {
		next = p->next;
		p->next = NULL;
		neigh_output_row(st, n, p, now);
	}
}

static void neigh_fail(struct stack *st, struct neigh *n, usec_t now)
{
	n->state = NEIGH_FAILED;
	if (!ipaddr_is_v4(n->addr))
		nd_neigh_failed(st, &n->addr, now);
	hold_fail(st, hold_detach(n), now);
}

void neigh_timer(struct stack *st, struct timer *t, usec_t now)
{
	struct neigh *n = container_of(t, struct neigh, timer);

	switch ((enum neigh_state)n->state) {
	case NEIGH_DELAY:
		if (now - n->confirmed < NEIGH_DELAY_US) {
			n->state = NEIGH_REACHABLE;
			break;
		}
		n->state = NEIGH_PROBE;
		n->probes = 0;
		neigh_solicit(st, n, now);
		break;
	case NEIGH_INCOMPLETE:
	case NEIGH_PROBE:
		if (n->probes >= NEIGH_PROBES)
			neigh_fail(st, n, now);
		else
			neigh_solicit(st, n, now);
		break;
	case NEIGH_REACHABLE:
	case NEIGH_STALE:
	case NEIGH_FAILED:
	case NEIGH_PERMANENT:
		break;
	}
}

int stack_neigh_add(struct stack *st, struct ipaddr addr, const uint8_t mac[6])
{
	struct neigh *n = neigh_find(st, &addr);

	if (mac[0] & 1)
		return -EINVAL;
	if (!n)
		n = neigh_make(st, &addr, 0);
	if (!n)
		return -ENOSPC;
	/* Also sends what waits. */
	neigh_learned(st, &addr, mac, false, false, 0);
	memcpy(n->mac, mac, 6);
	n->state = NEIGH_PERMANENT;
	wheel_cancel(&st->wheel, &n->timer);
	return 0;
}

/*
 * Frames that waited were dropped with all that were queued inside the stack; who was being asked is asked again when
 * needed.
 */
void neigh_repair(struct stack *st, usec_t now)
{
	uint32_t cursor = 0;
	struct neigh *n;

	(void)now;
	slab_rebuild(&st->neighs.slab);
	htab_clear(&st->neighs.tab);
	dlist_init(&st->neighs.lru);
	while ((n = slab_next(&st->neighs.slab, &cursor))) {
		n->hold = n->hold_last = NULL;
		n->n_hold = 0;
		n->timer = (struct timer){ .kind = TIMER_NEIGH };
		if (n->state == NEIGH_INCOMPLETE || n->state == 0)
			n->state = NEIGH_FAILED;
		else if (n->state == NEIGH_DELAY || n->state == NEIGH_PROBE)
			n->state = NEIGH_STALE;
		htab_insert(&st->neighs.tab, &n->node, neigh_hash(st, &n->addr));
		dlist_append(&st->neighs.lru, &n->lru);
	}
	path_changed(st);
}
