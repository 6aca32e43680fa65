/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sound.h - is everything in the arena as it must be? Link by link, count by count; the first fault found stands in fault[].
 *
 * Under the shard lock, or where nobody else runs.
 */
#ifndef OWNSTACK_TESTS_SOUND_H
#define OWNSTACK_TESTS_SOUND_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include "../../host/export.h"
#include "../../host/leaf.h"
#include "../../host/passport.h"
#include "../../host/ready.h"
#include "../../host/slot.h"
#include "../../stack/tcp_priv.h"

static char fault[160];
#define SOUND(cond, ...)                                                  \
	do {                                                              \
		if (!(cond) && !fault[0])                                 \
			snprintf(fault, sizeof(fault), __VA_ARGS__);      \
	} while (0)

static inline void slab_sound(const struct slab *s, const char *name)
{
	uint32_t live = 0, free_n = 0, i;

	for (uint32_t c = 0; slab_next(s, &c);)
		live++;
	SOUND(live == s->in_use, "%s: %u live, %u in use", name, live, s->in_use);
	for (i = s->free_head; i && free_n <= s->next_fresh; free_n++)
		i = ((struct slab_hdr *)(s->extent[i / s->per_extent] + (size_t)(i % s->per_extent) * s->stride_bytes))->link;
	SOUND(live + free_n == s->next_fresh - 1, "%s: %u live and %u free of %u", name, live, free_n, s->next_fresh - 1);
}

/* Every reference to a cell of class @k, as the objects have them; those of frames under way and of what came out of order as well. */
static inline void cells_mark(const struct stack *st)
{
	struct tcp_conn *t;
	struct tcp_req *r;
	struct pbuf *p;

	for (uint32_t c = 0; (t = slab_next(&st->awake, &c));) {
		struct cell *lists[] = { t->snd_head, t->snd_rsv, t->rcv_head };
		struct cell *one[] = { t->sack, t->cc_cell, t->saved_syn, t->errq, t->txlog, t->rxlog,
				       t->state == TCPS_LISTEN ? t->l.tfo_keys : NULL };

		for (unsigned i = 0; i < 3; i++)
			for (struct cell *at = lists[i]; at; at = at->next)
				at->refs++;
		for (unsigned i = 0; i < sizeof(one) / sizeof(one[0]); i++)
			if (one[i])
				one[i]->refs++;
		tcp_ooo_mark(t);
	}
	for (uint32_t c = 0; (r = slab_next(&st->requests, &c));)
		if (r->saved_syn)
			cell_of_ref(st, r->saved_syn)->refs++;
	for (uint32_t c = 0; (p = slab_next(&st->pools.pbufs, &c));)
		for (unsigned i = 0; i < p->n_frags; i++)
			p->frag[i].cell->refs++;
}

/* Counts are taken down, made anew, compared, and are as they were again. */
static inline void cells_sound(struct stack *st)
{
	uint32_t *said[CELL_CLASSES];
	struct cell *cell;

	for (int k = 0; k < CELL_CLASSES; k++) {
		struct slab *s = &st->pools.cells[k];

		said[k] = calloc(s->next_fresh, sizeof(*said[k]));
		cr_assert_not_null(said[k]);
		for (uint32_t c = 0; (cell = slab_next(s, &c)); cell->refs = 0)
			said[k][c] = cell->refs;
	}
	cells_mark(st);
	for (int k = 0; k < CELL_CLASSES; k++) {
		slab_sound(&st->pools.cells[k], "cells");
		for (uint32_t c = 0; (cell = slab_next(&st->pools.cells[k], &c)); cell->refs = said[k][c])
			SOUND(cell->refs == said[k][c], "cell %u of class %d: %u users, %u references", c, k, cell->refs, said[k][c]);
		free(said[k]);
	}
}

static inline bool hash_finds(const struct htab *h, const struct hnode *n)
{
	for (struct hnode *at = htab_first(h, n->hash); at; at = htab_next(at))
		if (at == n)
			return true;
	return false;
}

static inline void stack_sound(struct stack *st)
{
	uint32_t hashed = 0, wants = 0, listed = 0;
	struct tcp_conn *t;
	struct tcb *s;

	slab_sound(&st->tcbs, "tcbs");
	slab_sound(&st->awake, "awake");
	slab_sound(&st->requests, "requests");
	slab_sound(&st->timewaits, "timewaits");
	slab_sound(&st->pools.pbufs, "pbufs");
	slab_sound(&st->opts_rows, "options");
	slab_sound(&st->neighs.slab, "neighbours");
	slab_sound(&st->dsts.slab, "destinations");
	cells_sound(st);
	for (uint32_t c = 0; (s = slab_next(&st->tcbs, &c));) {
		t = s->conn;
		if ((t ? t->flags : s->rest.flags) & TF_HASHED) {
			hashed++;
			SOUND(hash_finds(&st->conns, &s->node), "tcb %u is not found by its tuple", slab_index(&st->tcbs, s));
		}
		if (!t)
			continue;
		SOUND(slab_at(&st->awake, slab_index(&st->awake, t)) == t && t->tcb == s, "tcb %u and its connection", t->index);
		if (t->state == TCPS_LISTEN)
			SOUND(hash_finds(&st->listeners, &s->node), "listener is not found");
		if (dnode_linked(&t->out)) {
			wants++;
			SOUND(t->out.next->prev == &t->out && t->out.prev->next == &t->out, "output list is torn");
		}
	}
	for (struct dnode *d = st->tcp_out.next; d != &st->tcp_out && listed < 100000; d = d->next)
		listed++;
	SOUND(listed == wants, "%u tcbs on the output list, %u say so", listed, wants);
	SOUND(hashed + st->requests.in_use + st->timewaits.in_use == st->conns.count, "table counts %u, there are %u", st->conns.count, hashed);
}

static inline void ready_sound(void)
{
	uint32_t in_files = 0, in_epolls = 0, by_epolls = 0, waiting = 0, left = 0, of_slots = 0;
	struct waiter *wt;
	struct epoll *ep;
	struct file *f;

	slab_sound(&host->files, "files");
	slab_sound(&host->watches, "watches");
	slab_sound(&host->epolls, "epolls");
	slab_sound(&host->waiters, "waiters");
	for (uint32_t c = 0; (f = slab_next(&host->files, &c));) {
		struct watch **at = &f->watches;

		for (; *at; at = &(*at)->next, in_files++)
			SOUND((*at)->prev == at && (*at)->file == f, "list of a file's watches is torn");
	}
	for (uint32_t c = 0; (ep = slab_next(&host->epolls, &c));) {
		struct watch **at = &ep->all, **ready = &ep->ready;
		uint32_t n = 0;

		for (; *at; at = &(*at)->all_next, in_epolls++)
			SOUND((*at)->all_prev == at && (*at)->ep == ep, "list of an epoll's members is torn");
		for (; *ready; ready = &(*ready)->ready_next, n++)
			SOUND((*ready)->ready_prev == ready && (*ready)->queued, "ready list is torn");
		SOUND(ready == ep->ready_tail && n == ep->n_ready, "ready list: %u of %u, or the tail is wrong", n, ep->n_ready);
		by_epolls += ep->n_watches;
	}
	SOUND(in_epolls == by_epolls, "epolls count %u members and have %u", by_epolls, in_epolls);
	for (uint32_t c = 0; (wt = slab_next(&host->waiters, &c));)
		for (struct watch *w = wt->watches; w; w = w->sibling)
			if (w->prev)
				waiting++;
			else /* its file has gone, its thread has not been back yet */
				left++;
	SOUND(in_files + left == host->watches.in_use && in_epolls + waiting == in_files,
	      "%u watches: %u at files, %u at epolls, %u and %u of threads", host->watches.in_use, in_files, in_epolls, waiting, left);
	for (uint32_t i = 0; i < host->slot_top; i++)
		for (wt = host->slot[i].waiters; wt; wt = wt->next, of_slots++)
			SOUND(wt->slot == i, "waiter at the wrong slot");
	SOUND(of_slots == host->waiters.in_use, "%u waiters, %u at slots", host->waiters.in_use, of_slots);
}

static inline uint32_t numbers_of(const struct file *f)
{
	uint32_t n = passports_of(f) + exports_of(f);

	for (uint32_t i = 0; i < host->slot_top; i++)
		for (int fd = fdtab_next(i, 0); fd >= 0; fd = fdtab_next(i, fd + 1))
			n += host->slot[i].chunk[fd / FD_CHUNK]->ent[fd % FD_CHUNK].file == file_handle(f);
	return n;
}

/* Where no process is about to come or go: its slots, and what each number counts for. @apart: references without a number */
static inline void slots_sound(const struct file *const *apart, unsigned n_apart)
{
	uint32_t live = 0, chunks = 0, c = 0;
	struct file *f;

	for (uint32_t i = 0; i < host->slot_top; i++) {
		const struct slot *s = &host->slot[i];

		live += s->pid != 0;
		SOUND((s->pid != 0) == (s->state != SLOT_FREE), "slot %u: pid %d, state %u", i, s->pid, s->state);
		SOUND(!s->copying && !s->forking, "slot %u: a fork that is over", i);
		for (uint32_t k = 0; k < s->chunk_top; k++) {
			SOUND(!s->chunk[k] || (s->chunk[k]->slot == i && s->chunk[k]->index == k), "slot %u: chunk %u", i, k);
			chunks += s->chunk[k] != NULL;
		}
	}
	SOUND(live == host->n_live, "%u slots in use, %u are said to be", live, host->n_live);
	slab_sound(&host->fdchunks, "chunks");
	SOUND(chunks == host->fdchunks.in_use, "%u chunks hang, %u in use", chunks, host->fdchunks.in_use);
	SOUND(!(host->fdchunk_lock & ~LEAF_CONTENDED), "the lock of chunks is held");
	while ((f = slab_next(&host->files, &c))) {
		uint32_t n = numbers_of(f), more = 0;

		for (unsigned i = 0; i < n_apart; i++)
			more += apart[i] == f;
		SOUND(f->numbers == n, "file %u: %u numbers, it says %u", c, n, f->numbers);
		SOUND(f->refs == n + more, "file %u: %u numbers and %u apart, %u references", c, n, more, f->refs);
	}
}

#endif
