/* SPDX-License-Identifier: BSD-2-Clause */
#include "dst.h"

#include <errno.h>
#include <string.h>
#include "stack_priv.h"

int dst_init(struct stack *st)
{
	dlist_init(&st->dsts.lru);
	if (slab_init(&st->dsts.slab, st->region, sizeof(struct dst), DST_MAX) < 0)
		return -ENOMEM;
	return htab_init(&st->dsts.tab, st->region);
}

static uint32_t dst_hash(const struct stack *st, const struct ipaddr *a)
{
	return (uint32_t)siphash13(&st->key_tuple, a->q, 2);
}

struct dst *dst_find(const struct stack *st, const struct ipaddr *addr)
{
	if (st->dsts.tab.count == 0) /* as on most hosts */
		return NULL;
	for (struct hnode *h = htab_first(&st->dsts.tab, dst_hash(st, addr)); h; h = htab_next(h)) {
		struct dst *d = container_of(h, struct dst, node);

		if (ipaddr_eq(d->addr, *addr))
			return d;
	}
	return NULL;
}

static void dst_free(struct stack *st, struct dst *d)
{
	wheel_cancel(&st->wheel, &d->timer);
	htab_remove(&st->dsts.tab, &d->node);
	dlist_remove(&d->lru);
	slab_free(&st->dsts.slab, d);
}

static void dst_free_if_empty(struct stack *st, struct dst *d)
{
	if (!d->pmtu_bytes && !d->tfo_len && ipaddr_is_any(d->gateway))
		dst_free(st, d);
}

static void dst_link(struct stack *st, struct dst *d)
{
	htab_insert(&st->dsts.tab, &d->node, dst_hash(st, &d->addr));
	dlist_append(&st->dsts.lru, &d->lru);
}

/* The row of @addr, now the most recent one; made where there was none. NULL: no memory */
static struct dst *dst_get(struct stack *st, const struct ipaddr *addr)
{
	struct dst *d = dst_find(st, addr);

	if (d) {
		dlist_remove(&d->lru);
		dlist_append(&st->dsts.lru, &d->lru);
		return d;
	}
	if (st->dsts.slab.in_use >= DST_MAX - 1)
		dst_free(st, container_of(dlist_first(&st->dsts.lru), struct dst, lru));
	d = slab_alloc(&st->dsts.slab);
	if (!d)
		return NULL;
	d->addr = *addr;
	d->timer.kind = TIMER_DST;
	dst_link(st, d);
	return d;
}

int dst_pmtu_set(struct stack *st, const struct ipaddr *addr, uint16_t mtu, usec_t now)
{
	struct dst *d = dst_get(st, addr);

	if (!d)
		return -ENOSPC;
	d->pmtu_bytes = mtu;
	wheel_set(&st->wheel, &d->timer, now + DST_PMTU_US);
	path_changed(st);
	return 0;
}

int dst_tfo_set(struct stack *st, const struct ipaddr *addr, const uint8_t *cookie, uint8_t len, uint16_t mss)
{
	struct dst *d = len ? dst_get(st, addr) : dst_find(st, addr);

	if (!d)
		return len ? -ENOSPC : 0;
	d->tfo_len = len;
	d->tfo_mss = mss;
	if (len)
		memcpy(d->tfo_cookie, cookie, len);
	dst_free_if_empty(st, d);
	return 0;
}

int dst_gateway_set(struct stack *st, const struct ipaddr *addr, const struct ipaddr *gateway)
{
	struct dst *d = dst_get(st, addr);

	if (!d)
		return -ENOSPC;
	d->gateway = *gateway;
	path_changed(st);
	return 0;
}

/* The path may have become better: connections try their full size again (RFC 1191 6.3) */
void dst_timer(struct stack *st, struct timer *t)
{
	struct dst *d = container_of(t, struct dst, timer);

	d->pmtu_bytes = 0;
	dst_free_if_empty(st, d);
	path_changed(st);
}

void dst_repair(struct stack *st, usec_t now)
{
	uint32_t cursor = 0;
	struct dst *d;

	slab_rebuild(&st->dsts.slab);
	htab_clear(&st->dsts.tab);
	dlist_init(&st->dsts.lru);
	while ((d = slab_next(&st->dsts.slab, &cursor))) {
		d->timer = (struct timer){ .kind = TIMER_DST };
		dst_link(st, d);
		if (d->pmtu_bytes)
			wheel_set(&st->wheel, &d->timer, now + DST_PMTU_US);
	}
}
