/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * port.c - the port space; rules and search orders are those of Linux's inet_csk_get_port() and __inet_hash_connect()
 *
 * bind(port)   conflict check against each class, relaxed: SO_REUSEADDR on both sides is enough while nobody listens.
 * bind(0)      random start, odd distance from the lower bound first, lower half of the range first under
 *              SO_REUSEADDR; a port somebody holds is taken only where the strict check sees no conflict.
 * connect      even distance first; ports held by connects only may be shared where the 4-tuple is free.
 */
#include "port.h"

#include <errno.h>
#include "stack_priv.h"

#define PORTS 65536

struct port_class {
	struct port_key key;
	uint32_t next;	/* class of the same port */
	uint32_t count; /* holders */
};

int port_init(struct stack *st)
{
	struct port_table *pt = &st->ports;

	if (slab_init(&pt->classes, st->region, sizeof(struct port_class), 0) < 0)
		return -ENOMEM;
	pt->head = region_take(st->region, PORTS * sizeof(pt->head[0]), 64);
	pt->perturb = region_take(st->region, PORT_PERTURB * sizeof(pt->perturb[0]), 64);
	if (!pt->head || !pt->perturb)
		return -ENOMEM;
	for (unsigned i = 0; i < PORT_PERTURB; i++)
		pt->perturb[i] = (uint32_t)stack_rand64(st);
	return 0;
}

static struct port_class *class_at(const struct stack *st, uint32_t index)
{
	return slab_at(&st->ports.classes, index);
}

static bool key_same(const struct port_key *a, const struct port_key *b)
{
	return a->port == b->port && a->flags == b->flags && ipaddr_eq(a->addr, b->addr) && a->uid == b->uid;
}

static struct port_class *class_find(const struct stack *st, const struct port_key *key)
{
	struct port_class *c = class_at(st, st->ports.head[key->port]);

	while (c && !key_same(&c->key, key))
		c = class_at(st, c->next);
	return c;
}

int port_join(struct stack *st, struct port_hold *h, const struct port_key *key)
{
	struct port_class *c = class_find(st, key);

	if (!c) {
		c = slab_alloc(&st->ports.classes);
		if (!c)
			return -ENOMEM;
		c->key = *key;
		c->next = st->ports.head[key->port];
		st->ports.head[key->port] = slab_index(&st->ports.classes, c);
	}
	c->count++;
	h->class = slab_index(&st->ports.classes, c);
	return 0;
}

static void class_leave(struct stack *st, struct port_class *c)
{
	uint32_t *link;

	if (!c || --c->count)
		return;
	link = &st->ports.head[c->key.port];
	while (class_at(st, *link) != c)
		link = &class_at(st, *link)->next;
	*link = c->next;
	slab_free(&st->ports.classes, c);
}

void port_release(struct stack *st, struct port_hold *h)
{
	struct port_class *c = class_at(st, h->class);

	h->class = 0;
	class_leave(st, c);
}

void port_leave(struct stack *st, const struct port_key *key)
{
	class_leave(st, class_find(st, key));
}

void port_relabel(struct stack *st, struct port_hold *h, const struct port_key *key)
{
	struct port_class *c = class_at(st, h->class);
	struct port_hold to = { 0 };

	if ((c && key_same(&c->key, key)) || port_join(st, &to, key) < 0)
		return;
	port_release(st, h);
	*h = to;
}

/* inet_rcv_saddr_equal() with wildcards matching: could one packet be for both */
static bool addr_overlap(const struct port_key *a, const struct port_key *b)
{
	bool a4 = ipaddr_is_v4(a->addr), b4 = ipaddr_is_v4(b->addr);

	if (a4 != b4) {
		const struct port_key *k6 = a4 ? b : a;

		return ipaddr_is_any(k6->addr) && !(k6->flags & PORT_V6ONLY);
	}
	return ipaddr_is_any(a->addr) || ipaddr_is_any(b->addr) || ipaddr_eq(a->addr, b->addr);
}

static bool reuseport_ok(const struct port_key *a, const struct port_key *b)
{
	return (a->flags & PORT_REUSEPORT) && (b->flags & PORT_REUSEPORT) && ((b->flags & PORT_TIMEWAIT) ||
									      a->uid == b->uid);
}

/**
 * key_conflict() - does the holder @held forbid what @key asks for
 * @relax:	a port that was asked for by number: SO_REUSEADDR on both sides suffices. Not when we choose one: then
 *		a port on which both could meet is no good choice.
 */
static bool key_conflict(const struct port_key *key, const struct port_key *held, bool relax)
{
	if (!addr_overlap(key, held))
		return false;
	if ((key->flags & PORT_REUSEADDR) && (held->flags & PORT_REUSEADDR) && !(held->flags & PORT_LISTEN))
		return !relax;
	return !relax || !reuseport_ok(key, held);
}

/* @self: the asker's own class, which is no obstacle where he is alone in it. */
static bool port_conflict(const struct stack *st, const struct port_key *key, bool relax, const struct port_class *self)
{
	for (struct port_class *c = class_at(st, st->ports.head[key->port]); c; c = class_at(st, c->next)) {
		if (c == self && c->count == 1)
			continue;
		if (key_conflict(key, &c->key, relax))
			return true;
	}
	return false;
}

/* One walk over the ports from @low to @high - 1 at one parity, then at the other. Range and order as in Linux. */
static int port_find_between(struct stack *st, struct port_key *key, uint32_t low, uint32_t high)
{
	uint32_t remaining = high - low, offset;

	if (remaining > 1)
		remaining &= ~1u;
	offset = stack_rand_below(st, remaining) | 1;
	for (int pass = 0; pass < 2; pass++, offset--) {
		uint32_t port = low + offset;

		for (uint32_t i = 0; i < remaining; i += 2, port += 2) {
			if (port >= high)
				port -= remaining;
			key->port = (uint16_t)port;
			if (!port_conflict(st, key, false, NULL))
				return 0;
		}
	}
	key->port = 0;
	return -EADDRINUSE;
}

/* Linux's inet_sk_get_local_port_range(): the socket's own bounds count where they lie within the host's. */
static void port_range(const struct stack *st, const struct port_key *key, uint32_t *ret_low, uint32_t *ret_high)
{
	uint32_t low = st->ctl.ip_local_port_range[0], high = st->ctl.ip_local_port_range[1];
	uint32_t own_low = key->range & 0xffff, own_high = key->range >> 16;

	*ret_low = own_low && own_low >= low && own_low <= high ? own_low : low;
	*ret_high = (own_high && own_high >= low && own_high <= high ? own_high : high) + 1;
}

static int port_find(struct stack *st, struct port_key *key)
{
	uint32_t low, high, half;
	int r;

	port_range(st, key, &low, &high);

	if (!(key->flags & PORT_REUSEADDR) || high - low < 4)
		return port_find_between(st, key, low, high);
	/* Those who may share go to the lower half and leave the upper to those who may not. */
	half = low + ((high - low) >> 2 << 1);
	r = port_find_between(st, key, low, half);
	return r == 0 ? 0 : port_find_between(st, key, half, high);
}

int port_bind(struct stack *st, struct port_hold *h, struct port_key *key)
{
	bool chosen = key->port == 0;
	int r;

	if (chosen)
		r = port_find(st, key);
	else
		r = port_conflict(st, key, true, NULL) ? -EADDRINUSE : 0;
	if (r == 0)
		r = port_join(st, h, key);
	if (r < 0 && chosen)
		key->port = 0;
	return r;
}

int port_listen(struct stack *st, struct port_hold *h, const struct port_key *key)
{
	struct port_key k = *key;
	struct port_hold to = { 0 };
	int r;

	if (port_conflict(st, &k, true, class_at(st, h->class)))
		return -EADDRINUSE;
	k.flags |= PORT_LISTEN;
	r = port_join(st, &to, &k);
	if (r < 0)
		return r;
	port_release(st, h);
	*h = to;
	return 0;
}

enum port_use { PORT_UNUSED, PORT_CONNECTS_ONLY, PORT_BOUND };

/* Whatever a connect made may be shared by connects, and so may what is left of it in TIME_WAIT. */
static enum port_use port_use(const struct stack *st, uint32_t port)
{
	const struct port_class *c = class_at(st, st->ports.head[port]);

	if (!c)
		return PORT_UNUSED;
	for (; c; c = class_at(st, c->next))
		if (!(c->key.flags & PORT_CONNECT))
			return PORT_BOUND;
	return PORT_CONNECTS_ONLY;
}

int port_connect(struct stack *st, struct port_hold *h, struct port_key *key, const struct endpoint *to,
		 bool (*usable)(struct stack *st, void *ctx, uint16_t port), void *ctx)
{
	uint32_t low, high, remaining;
	uint64_t hash = siphash_tuple_secret(&st->key_port, &key->addr, 0, &to->addr, to->port);
	uint32_t *hint = &st->ports.perturb[hash % PORT_PERTURB], offset;

	port_range(st, key, &low, &high);
	remaining = high - low;
	if (remaining > 1)
		remaining &= ~1u;
	offset = (uint32_t)((*hint + (hash >> 32)) % remaining) & ~1u;
	key->flags |= PORT_CONNECT;
	for (int pass = 0; pass < 2; pass++, offset++) {
		uint32_t port = low + offset;

		for (uint32_t i = 0; i < remaining; i += 2, port += 2) {
			enum port_use use;

			if (port >= high)
				port -= remaining;
			use = port_use(st, port);
			if (use == PORT_BOUND || (use == PORT_CONNECTS_ONLY && !usable(st, ctx, (uint16_t)port)))
				continue;
			/*
			 * As Linux: two more than were looked at, and sometimes a few more, so that the order does
			 * not tell.
			 */
			*hint += i + 2 + (stack_rand64(st) % 16 ? 0 : 2 * (uint32_t)(stack_rand64(st) % 8));
			key->port = (uint16_t)port;
			return port_join(st, h, key);
		}
	}
	return -EADDRNOTAVAIL;
}

void port_reset(struct stack *st)
{
	uint32_t cursor = 0;
	struct port_class *c;

	slab_rebuild(&st->ports.classes);
	while ((c = slab_next(&st->ports.classes, &cursor)))
		slab_free(&st->ports.classes, c);
	memset(st->ports.head, 0, PORTS * sizeof(st->ports.head[0]));
}
