/* SPDX-License-Identifier: BSD-2-Clause */
/* stack.c - the stack as a whole: making it, feeding it, draining it, making it whole again */
#include "tcb.h"

#include <errno.h>

#define KIB(n) ((n) * 1024u)
#define MIB(n) ((n) * 1024u * 1024u)

const char *const stack_counter_names[CNT_N] = {
#define COUNTER(name, nstat, text) nstat,
#include "counters.def"
#undef COUNTER
};
const char *const stack_counter_texts[CNT_N] = {
#define COUNTER(name, nstat, text) text,
#include "counters.def"
#undef COUNTER
};
const char *const stack_drop_names[DROP_N] = {
#define DROP(name, text) #name,
#include "drops.def"
#undef DROP
};
const char *const stack_drop_texts[DROP_N] = {
#define DROP(name, text) text,
#include "drops.def"
#undef DROP
};

/* Linux's defaults on a machine with memory to spare (Documentation/networking/ip-sysctl). */
void stack_sysctl_default(struct stack_sysctl *ctl)
{
	*ctl = (struct stack_sysctl){
		.tcp_rmem = { KIB(4), KIB(128), MIB(32) },
		.tcp_wmem = { KIB(4), KIB(16), MIB(4) },
		.tcp_syn_retries = 6,
		.tcp_synack_retries = 5,
		.tcp_retries1 = 3,
		.tcp_retries2 = 15,
		.tcp_orphan_retries = 0,
		.tcp_fin_timeout_s = 60,
		.tcp_max_syn_backlog = 4096,
		.somaxconn = 4096,
		.tcp_max_orphans = 65536,
		.tcp_max_tw_buckets = 262144,
		.tcp_keepalive_time_s = 7200,
		.tcp_keepalive_intvl_s = 75,
		.tcp_keepalive_probes = 9,
		.tcp_challenge_ack_limit = 1000,
		.tcp_init_cwnd = 10,
		.tcp_timewait_us = SEC(60),
		.ip_local_port_range = { 32768, 60999 },
		.ip_default_ttl = 64,
		.rmem_max = MIB(4),
		.wmem_max = MIB(4),
		.tcp_fastopen = TFO_CLIENT,
		.tcp_mtu_probing = 1, /* Linux: 0 */
		.tcp_syncookies = 1,
		.tcp_sack = 1,
		.tcp_timestamps = 1,
		.tcp_window_scaling = 1,
		.tcp_ecn = 2,
		.tcp_ecn_fallback = 1,
		.tcp_slow_start_after_idle = 1,
		.tcp_congestion = 0, /* the first of the table: CUBIC */
		.mem_limit_bytes = 0, /* half of the region */
	};
}

const struct stack_sysctl *stack_ctl(const struct stack *st)
{
	return &st->ctl;
}

/* One key for each use, so that what one of them lets out says nothing about another. */
static struct sipkey derive_key(const uint64_t seed[4], uint64_t use)
{
	const struct sipkey a = { { seed[0], seed[1] } }, b = { { seed[2], seed[3] } };
	const uint64_t w0 = 2 * use, w1 = 2 * use + 1;

	return (struct sipkey){ { siphash24(&a, &w0, 1) ^ siphash24(&b, &w0, 1),
				  siphash24(&a, &w1, 1) ^ siphash24(&b, &w1, 1) } };
}

static int stack_init_parts(struct stack *st, usec_t now)
{
	int r = cell_init(st);

	dlist_init(&st->events);
	dlist_init(&st->mem_waiters);
	wheel_init(&st->wheel, now);
	if (r == 0)
		r = route_init(st);
	if (r == 0)
		r = neigh_init(st);
	if (r == 0)
		r = dst_init(st);
	if (r == 0)
		r = frag_init(st);
	if (r == 0)
		r = port_init(st);
	if (r == 0)
		r = tcp_init(st, now);
	return r;
}

struct stack *stack_init(const struct stack_config *cfg, usec_t now)
{
	struct stack *st = region_take(cfg->region, sizeof(*st), 64);

	if (!st)
		return NULL;
	st->region = cfg->region;
	st->dev = cfg->dev;
	st->ctl = cfg->ctl;
	if (!st->ctl.mem_limit_bytes)
		st->ctl.mem_limit_bytes = cfg->region->bytes / 2;
	st->key_tuple = derive_key(cfg->seed, 0);
	st->key_secret = derive_key(cfg->seed, 1);
	st->key_port = derive_key(cfg->seed, 2);
	st->key_rand = derive_key(cfg->seed, 3);
	st->key_cookie = derive_key(cfg->seed, 4);
	st->key_tfo = derive_key(cfg->seed, 5);
	st->key_flow = derive_key(cfg->seed, 6);
	st->path_gen = 1;
	st->started = now;
	st->icmp_refilled = now;
	st->icmp_tokens = 50;
	st->loop_buf = region_take(cfg->region, FRAME_MAX_BYTES, 64);
	if (!st->loop_buf || stack_init_parts(st, now) < 0)
		return NULL;
	return st;
}

uint64_t stack_rand64(struct stack *st)
{
	uint64_t ctr = ++st->rand_ctr;

	return siphash24(&st->key_rand, &ctr, 1);
}

/* By multiplication (Lemire 2019); the bias of n / 2^32 at most is of no use to anybody here. */
uint32_t stack_rand_below(struct stack *st, uint32_t n)
{
	return (uint32_t)((stack_rand64(st) >> 32) * n >> 32);
}

/* ---- the wire ---- */

void stack_input(struct stack *st, const struct frame *f, usec_t now)
{
	eth_input(st, f, false, now);
}

static void list_append(struct pbuf **first, struct pbuf **last, struct pbuf *p)
{
	p->next = NULL;
	if (*first)
		(*last)->next = p;
	else
		*first = p;
	*last = p;
}

static struct pbuf *list_pop(struct pbuf **first)
{
	struct pbuf *p = *first;

	if (p) {
		*first = p->next;
		p->next = NULL;
	}
	return p;
}

void stack_transmit(struct stack *st, struct pbuf *p)
{
	list_append(&st->out, &st->out_last, p);
}

void stack_loop(struct stack *st, struct pbuf *p)
{
	list_append(&st->loop, &st->loop_last, p);
}

void stack_capture(struct stack *st, bool on)
{
	st->capture = on;
}

/* A frame to ourselves: put in one run, then taken in as if it came from the wire. Takes, unless there is a capture. */
static void loop_deliver(struct stack *st, struct pbuf *p, usec_t now)
{
	struct frame f = { .data = st->loop_buf };
	const uint8_t *head = pbuf_head(p);

	memcpy(&f.vnet, head, VNET_HDR_BYTES);
	f.len = p->hdr_len - VNET_HDR_BYTES;
	memcpy(st->loop_buf, head + VNET_HDR_BYTES, f.len);
	for (unsigned i = 0; i < p->n_frags; i++) {
		memcpy(st->loop_buf + f.len, p->frag[i].cell->data + p->frag[i].off, p->frag[i].len);
		f.len += p->frag[i].len;
	}
	if (!st->capture)
		pbuf_free(st, p);
	eth_input(st, &f, true, now);
}

static struct pbuf *out_of_hand(struct pbuf *p, bool told)
{
	p->owner = 0;
	p->state = PBUF_OUT;
	p->told = told;
	return p;
}

/* Replies and frames to ourselves come before what connections would like to add. */
struct pbuf *stack_output(struct stack *st, usec_t now)
{
	for (;;) {
		struct pbuf *p = list_pop(&st->out);

		if (p)
			return out_of_hand(p, false);
		p = list_pop(&st->loop);
		if (p) {
			loop_deliver(st, p, now);
			if (st->capture)
				return out_of_hand(p, true);
		} else if (!tcp_output_next(st, now)) {
			return NULL;
		}
	}
}

bool stack_output_pending(const struct stack *st)
{
	return st->out || st->loop || tcp_output_pending(st);
}

void stack_tx_done(struct stack *st, struct pbuf *p)
{
	pbuf_free(st, p);
}

usec_t stack_deadline(const struct stack *st)
{
	return wheel_deadline(&st->wheel);
}

static void addr_timer(struct stack *st, struct timer *t, usec_t now)
{
	if (ipaddr_is_v4(container_of(t, struct addr_row, timer)->addr))
		arp_announce_timer(st, t);
	else
		nd_addr_timer(st, t, now);
}

void stack_expire(struct stack *st, usec_t now)
{
	struct timer *t;

	while ((t = wheel_pop(&st->wheel, now))) {
		if (t->kind == TIMER_NEIGH)
			neigh_timer(st, t, now);
		else if (t->kind == TIMER_DST)
			dst_timer(st, t);
		else if (t->kind == TIMER_FRAG)
			frag_timer(st, t, now);
		else if (t->kind == TIMER_ADDR)
			addr_timer(st, t, now);
		else if (t->kind == TIMER_ND)
			nd_timer(st, now);
		else
			tcp_timer(st, t, now);
	}
}

uint32_t stack_live(const struct stack *st)
{
	return st->n_live;
}

/* ---- events ---- */

void stack_event_post(struct stack *st, struct event_node *ev, uint32_t what)
{
	ev->what |= what;
	if (!dnode_linked(&ev->node))
		dlist_append(&st->events, &ev->node);
}

void stack_event_cancel(struct stack *st, struct event_node *ev)
{
	(void)st;
	dlist_remove(&ev->node);
	ev->what = 0;
}

bool stack_event(struct stack *st, struct stack_event *ret_event)
{
	struct dnode *d = dlist_pop(&st->events);
	struct event_node *ev;

	if (!d)
		return false;
	ev = container_of(d, struct event_node, node);
	*ret_event = (struct stack_event){ .tcb = ev->tcb, .user = ev->tcb->user, .what = ev->what };
	ev->what = 0;
	return true;
}

/* ---- counters ---- */

const uint64_t *stack_counters(const struct stack *st)
{
	return st->cnt;
}

const uint64_t *stack_drops(const struct stack *st)
{
	return st->drops;
}

/* ---- repair ---- */

void stack_touch_clear(struct stack *st)
{
	st->touching[0] = st->touching[1] = 0;
}

void stack_pbufs_drop(struct stack *st, uint16_t owner)
{
	uint32_t cursor = 0;
	struct pbuf *p;

	while ((p = slab_next(&st->pools.pbufs, &cursor)))
		if (p->state == PBUF_OUT && p->owner == owner)
			pbuf_free(st, p);
}

/**
 * pbufs_repair() - keeps only the frames that a living process is transmitting
 *
 * Frames still inside the stack are dropped, their lists may be broken: the network loses frames too, and TCP sends
 * them again. So is a frame without an owner: it had been given out, but the dead holder had not noted to whom.
 * Reference counts of cells are not touched; they are counted anew afterwards.
 */
static void pbufs_repair(struct stack *st, uint16_t dead_owner)
{
	uint32_t cursor = 0;
	struct pbuf *p;

	slab_rebuild(&st->pools.pbufs);
	while ((p = slab_next(&st->pools.pbufs, &cursor))) {
		if (p->state == PBUF_OUT && p->owner && p->owner != dead_owner) {
			for (unsigned i = 0; i < p->n_frags; i++)
				cell_repair_mark(p->frag[i].cell);
		} else {
			slab_free(&st->pools.pbufs, p);
		}
	}
	st->out = st->out_last = NULL;
	st->loop = st->loop_last = NULL;
}

void stack_usage(const struct stack *st, struct stack_usage *ret_usage)
{
	struct stack_usage u = { .tcbs = st->tcbs.in_use,	    .requests = st->requests.in_use,
				 .timewaits = st->timewaits.in_use, .frames = st->pools.pbufs.in_use };

	for (int k = 0; k < CELL_CLASSES; k++)
		u.cells += st->pools.cells[k].in_use;
	*ret_usage = u;
}

void stack_repair(struct stack *st, uint16_t dead_owner, usec_t now)
{
	cell_repair_begin(st);
	pbufs_repair(st, dead_owner);
	tcp_repair_slabs(st);
	tcp_repair_mark_cells(st);
	frag_repair(st);
	cell_repair_sweep(st);

	dlist_init(&st->events);
	dlist_init(&st->mem_waiters);
	wheel_init(&st->wheel, now);
	route_repair(st);
	nd_repair(st, now);
	neigh_repair(st, now);
	dst_repair(st, now);
	port_reset(st);
	htab_clear(&st->conns);
	htab_clear(&st->listeners);
	tcp_repair(st, now);
	stack_touch_clear(st);
}
