/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_repair.c - after the death of a process that held the lock
 *
 * What is believed: the slabs' headers, and the fields of each socket, connection, request and TIME_WAIT that say what it is. All
 * links are made anew: table, wheel, ports, lists, accept queues (in slab order: who came first is not kept). A
 * connection named in st->touching may be half changed: nothing of its queues is believed. It is reset, its socket
 * told ECONNRESET. A listener that was touched stays: all it holds is derived from its children and requests.
 *
 * Order: tcp_repair_slabs(), tcp_repair_mark_cells(), tcp_repair(); stack_repair() does the rest between.
 */
#include <errno.h>
#include <string.h>
#include "tcp_priv.h"

static bool touched(const struct stack *st, const struct tcp_conn *t)
{
	return t->index == st->touching[0] || t->index == st->touching[1];
}

/* Links point nowhere; they are made anew */
static void unlink_all(struct tcp_conn *t)
{
	t->timer.next = NULL;
	t->timer.pprev = NULL;
	t->out = t->mem_wait = (struct dnode){ NULL, NULL };
	t->flags &= ~TF_NOMEM;
	t->ev.node = (struct dnode){ NULL, NULL };
	t->acc_next = t->pair = NULL;
	t->port = (struct port_hold){ 0 };
	if (t->state == TCPS_LISTEN) {
		uint32_t backlog = t->l.backlog_conns;
		struct cell *keys = t->l.tfo_keys;
		bool chosen = t->l.port_chosen;

		memset(&t->l, 0, sizeof(t->l));
		t->l.backlog_conns = backlog;
		t->l.tfo_keys = keys;
		t->l.port_chosen = chosen;
	}
}

static void forget_queues(struct tcp_conn *t)
{
	t->snd_head = t->snd_tail = t->snd_cur = t->snd_rx = t->snd_rsv = NULL;
	t->rcv_head = t->rcv_tail = NULL;
	t->sack = t->cc_cell = t->errq = t->saved_syn = NULL;
	tcp_logs_forget(t);
	t->rcv_bytes = t->snd_mem_bytes = t->rcv_mem_bytes = t->sacked_bytes = t->snd_rsv_room = 0;
	tcp_ooo_forget(t);
	t->flags &= ~(TF_SND_BUSY | TF_RCV_BUSY | TF_RCV_HOLE);
	t->urg_data = 0;
	if (t->state == TCPS_LISTEN)
		t->l.tfo_keys = NULL; /* of the half-written kind */
}

/* A connection without a socket: died while it was made, woken, or freed */
static void drop_strays(struct stack *st)
{
	uint32_t cursor = 0;
	struct tcp_conn *t;

	while ((t = slab_next(&st->awake, &cursor))) {
		const struct tcb *s = slab_at(&st->tcbs, t->index);

		if (!s || s->conn != t)
			slab_free(&st->awake, t);
	}
}

void tcp_repair_slabs(struct stack *st)
{
	uint32_t cursor = 0;
	struct tcb *s;

	slab_rebuild(&st->tcbs);
	slab_rebuild(&st->awake);
	slab_rebuild(&st->requests);
	slab_rebuild(&st->timewaits);
	while ((s = slab_next(&st->tcbs, &cursor))) {
		s->node.next = NULL;
		s->node.linked = 0;
		s->timer = (struct timer){ .kind = TIMER_REST };
		if (!s->conn && !s->rest.state) { /* died while it was made */
			slab_free(&st->tcbs, s);
		} else if (s->conn) {
			unlink_all(s->conn);
			if (touched(st, s->conn))
				forget_queues(s->conn);
		}
	}
	drop_strays(st);
	tcp_rest_repair(st);
}

static void mark_list(struct cell *c)
{
	for (; c; c = c->next)
		cell_repair_mark(c);
}

void tcp_repair_mark_cells(struct stack *st)
{
	uint32_t cursor = 0;
	struct tcp_req *r;
	struct tcp_conn *t;

	while ((t = slab_next(&st->awake, &cursor))) {
		mark_list(t->snd_head);
		mark_list(t->snd_rsv);
		mark_list(t->rcv_head);
		if (t->sack)
			cell_repair_mark(t->sack);
		if (t->cc_cell)
			cell_repair_mark(t->cc_cell);
		if (t->saved_syn)
			cell_repair_mark(t->saved_syn);
		if (t->errq)
			cell_repair_mark(t->errq);
		if (t->txlog)
			cell_repair_mark(t->txlog);
		if (t->rxlog)
			cell_repair_mark(t->rxlog);
		if (t->state == TCPS_LISTEN && t->l.tfo_keys)
			cell_repair_mark(t->l.tfo_keys);
		tcp_ooo_mark(t);
	}
	cursor = 0;
	while ((r = slab_next(&st->requests, &cursor)))
		if (r->saved_syn)
			cell_repair_mark(cell_of_ref(st, r->saved_syn));
}

static void restore_port(struct stack *st, struct tcp_conn *t)
{
	struct port_key key;

	if (!(t->flags & TF_BOUND))
		return;
	tcp_port_key(t, &key);
	if (port_join(st, &t->port, &key) != 0)
		t->flags &= ~TF_BOUND;
}

static void restore_tcb(struct stack *st, struct tcp_conn *t)
{
	bool hashed = t->flags & TF_HASHED && t->state != TCPS_CLOSED && t->state != TCPS_LISTEN;

	t->flags &= ~TF_HASHED;
	if (t->state == TCPS_CLOSED && t->flags & TF_ORPHAN) { /* it was being freed, and nobody else will */
		tcp_free(st, t);
		return;
	}
	restore_port(st, t);
	if (t->state == TCPS_LISTEN) {
		t->tcb->node.kind = TCP_NODE_LISTEN;
		htab_insert(&st->listeners, &t->tcb->node, tcp_port_hash(t->lport));
	} else if (hashed) {
		t->tcb->node.kind = TCP_NODE_TCB;
		tcp_hash_insert(st, t);
		tcp_timers_arm(st, t);
		tcp_output_want(st, t); /* looks for itself whether there is something to send */
	}
	if (t->flags & TF_ORPHAN)
		st->n_orphans++;
	tcp_event(st, t, tcp_poll(t->tcb)); /* what was queued is not known: tell all that holds */
}

static void reset_touched(struct stack *st, struct tcp_conn *t, usec_t now)
{
	if (t->flags & TF_HASHED && tcp_is_synchronized(t))
		tcp_xmit_rst(st, t, now);
	t->flags &= ~TF_HASHED;
	restore_port(st, t);
	if (t->flags & TF_ORPHAN)
		st->n_orphans++;
	tcp_fail(st, t, ECONNRESET);
}

static void restore_others(struct stack *st, usec_t now)
{
	uint32_t cursor = 0;
	struct tcp_req *r;

	while ((r = slab_next(&st->requests, &cursor))) {
		r->node.linked = 0;
		r->node.kind = TCP_NODE_REQ;
		r->timer = (struct timer){ .kind = TIMER_REQUEST };
		if (!tcp_req_restore(st, r, now))
			slab_free(&st->requests, r);
	}
	tcp_tw_repair(st, now);
}

void tcp_repair(struct stack *st, usec_t now)
{
	uint32_t cursor = 0;
	struct tcp_conn *t;
	struct tcb *s;

	dlist_init(&st->tcp_out);
	htab_clear(&st->conns);
	htab_clear(&st->listeners);
	st->n_live = st->n_orphans = 0;
	while ((s = slab_next(&st->tcbs, &cursor)))
		if (!(t = s->conn))
			tcp_rest_restore(st, s);
		else if (touched(st, t) && t->state != TCPS_LISTEN && t->state != TCPS_CLOSED)
			reset_touched(st, t, now);
		else
			restore_tcb(st, t);
	cursor = 0;
	while ((t = slab_next(&st->awake, &cursor)))
		if (t->flags & TF_ACCEPTQ && !tcp_accept_restore(st, t)) {
			t->flags &= ~TF_ACCEPTQ;
			tcp_close(st, t->tcb, now); /* nobody can accept it any more */
		}
	restore_others(st, now);
}
