/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_errq.c - what a socket is told apart from its stream: sends without a copy that are done, when segments left
 *
 * Theory of operation
 *
 * One cell per socket that asked for any of it, a table of records in the order in which they became true; it moves to a
 * larger cell as it fills, and what finds no room in the largest is lost, as in a kernel whose receive buffer is full.
 *
 * Zero copy (SO_ZEROCOPY): payload is copied into the stack before the call returns, so a send is done at once. Its number
 * joins the range of the last record, if that still waits to be read: a program that reads seldom finds one record.
 *
 * Time stamps (SO_TIMESTAMPING): a send that asks for them leaves records that wait for their octet, the last one of it, to
 * be sent or to be acknowledged. What became true goes behind all others.
 */
#include <errno.h>
#include <string.h>
#include "tcp_priv.h"

struct errq_rec {
	usec_t at;
	uint32_t info, data;
	uint32_t end;		/* waits: behind the last octet of the send */
	uint8_t origin, code;
	uint8_t waits;
};

struct errq {
	uint32_t n, n_waits, max;
	uint32_t zc_next;	/* number of the next send without a copy */
	uint32_t key_base;	/* sequence number that numbers of time stamps count from */
	uint32_t keyed;
	struct errq_rec r[];
};

static struct errq *errq_of(const struct tcb *t)
{
	return (struct errq *)t->errq->data;
}

/* A table in a cell for at least @want octets, with what the old one held. False: none to be had */
static bool errq_move(struct stack *st, struct tcb *t, uint32_t want)
{
	struct cell *c = cell_alloc(st, want);
	struct errq *q;
	uint32_t max;

	if (!c)
		return false;
	q = (struct errq *)c->data;
	max = (c->cap - (uint32_t)sizeof(*q)) / (uint32_t)sizeof(q->r[0]);
	if (t->errq && max <= errq_of(t)->n) {
		cell_put(st, c);
		return false;
	}
	if (t->errq)
		memcpy(q, errq_of(t), sizeof(*q) + errq_of(t)->n * sizeof(q->r[0]));
	else
		*q = (struct errq){ 0 };
	q->max = max;
	cell_put(st, t->errq);
	t->errq = c;
	return true;
}

static struct errq_rec *errq_add(struct stack *st, struct tcb *t)
{
	struct errq *q;

	if (!t->errq && !errq_move(st, t, 1))
		return NULL;
	if (errq_of(t)->n == errq_of(t)->max && !errq_move(st, t, t->errq->cap + 1))
		return NULL;
	q = errq_of(t);
	memset(&q->r[q->n], 0, sizeof(q->r[0]));
	return &q->r[q->n++];
}

static struct errq_rec errq_remove(struct errq *q, uint32_t i)
{
	struct errq_rec r = q->r[i];

	memmove(&q->r[i], &q->r[i + 1], (--q->n - i) * sizeof(r));
	return r;
}

bool tcp_errq_ready(const struct tcb *t)
{
	return t->errq && errq_of(t)->n > errq_of(t)->n_waits;
}

bool tcp_errq_take(struct stack *st, struct tcb *t, struct tcp_errq_view *ret)
{
	struct errq *q;
	struct errq_rec r;
	uint32_t i = 0;

	if (!tcp_errq_ready(t))
		return false;
	stack_touch(st, slab_index(&st->tcbs, t));
	q = errq_of(t);
	while (q->r[i].waits)
		i++;
	r = errq_remove(q, i);
	*ret = (struct tcp_errq_view){ .at = r.at, .info = r.info, .data = r.data, .origin = r.origin, .code = r.code };
	return true;
}

void tcp_zerocopy_done(struct stack *st, struct tcb *t)
{
	struct errq_rec *last;
	uint32_t number;

	stack_touch(st, slab_index(&st->tcbs, t));
	if (!t->errq && !errq_move(st, t, 1))
		return;
	number = errq_of(t)->zc_next++;
	last = errq_of(t)->n ? &errq_of(t)->r[errq_of(t)->n - 1] : NULL;
	if (last && !last->waits && last->origin == TCP_ERRQ_ZEROCOPY && last->data + 1 == number) {
		last->data = number;
		return;
	}
	last = errq_add(st, t);
	if (!last)
		return;
	*last = (struct errq_rec){ .origin = TCP_ERRQ_ZEROCOPY, .code = TCP_ERRQ_COPIED, .info = number, .data = number };
	tcp_event(st, t, TCP_EV_ERR);
}

int tcp_stamp_keyed(struct stack *st, struct tcb *t, bool from_write_seq)
{
	stack_touch(st, slab_index(&st->tcbs, t));
	if (!t->errq && !errq_move(st, t, 1))
		return -ENOBUFS;
	errq_of(t)->keyed = 1;
	errq_of(t)->key_base = from_write_seq ? t->write_seq : t->snd_una;
	return 0;
}

void tcp_stamp_sends(struct stack *st, struct tcb *t, unsigned kinds, bool keyed, usec_t now)
{
	static const uint8_t order[] = { TCP_STAMP_SCHED, TCP_STAMP_SND, TCP_STAMP_ACK };

	stack_touch(st, slab_index(&st->tcbs, t));
	for (unsigned i = 0; i < sizeof(order); i++) {
		struct errq_rec *r = kinds & 1u << order[i] ? errq_add(st, t) : NULL;

		if (!r)
			continue;
		*r = (struct errq_rec){ .origin = TCP_ERRQ_TIMESTAMPING, .info = order[i], .end = t->write_seq, .waits = 1 };
		r->data = keyed && errq_of(t)->keyed ? t->write_seq - 1 - errq_of(t)->key_base : 0;
		errq_of(t)->n_waits++;
	}
	tcp_errq_moved(st, t, now);
}

void tcp_errq_moved(struct stack *st, struct tcb *t, usec_t now)
{
	struct errq *q = errq_of(t);
	uint32_t n = q->n;

	if (!q->n_waits)
		return;
	for (uint32_t i = 0, left = n; left > 0; left--) {
		struct errq_rec r = q->r[i];

		if (!r.waits || seq_lt(r.info == TCP_STAMP_ACK ? t->snd_una : t->snd_nxt, r.end)) {
			i++;
			continue;
		}
		r = errq_remove(q, i);
		r.waits = 0;
		r.at = now;
		q->r[q->n++] = r;
		q->n_waits--;
		tcp_event(st, t, TCP_EV_ERR);
	}
}
