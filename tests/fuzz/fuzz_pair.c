/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_pair.c - two stacks, a wire that does what the input says, two programs that do what the input says
 *
 * Whatever is lost, doubled, swapped, damaged or late: each side reads exactly what the other wrote, octet by octet. At
 * the end the wire is whole and time passes: what was written is there, or the connection has failed and said so.
 */
#include "fuzz.h"

#define WIRE_MAX 256

struct wire_frame {
	struct frame f;
	uint8_t *b;
	bool damaged; /* once: two changes may well have the same checksum */
};

struct side {
	struct stack *st;
	struct tcb *t;
	uint64_t wrote, read; /* octets */
	bool shut, gone;      /* no more writing; closed by us */
};

struct world {
	usec_t now;
	struct side s[2];
	struct tcb *l;
	struct wire_frame wire[2][WIRE_MAX]; /* [i]: sent by side i, not arrived */
	unsigned n[2];
};

static uint8_t octet(unsigned side, uint64_t i)
{
	return (uint8_t)(i * 131 + (i >> 8) * 29 + side * 77);
}

static void collect(struct world *w, unsigned i)
{
	static uint8_t flat[FRAME_MAX_BYTES];
	struct stack_event ev;
	struct pbuf *p;

	while (w->n[i] < WIRE_MAX && (p = stack_output(w->s[i].st, w->now))) {
		struct wire_frame *x = &w->wire[i][w->n[i]++];

		x->damaged = false;
		fuzz_flatten(p, flat, &x->f);
		stack_tx_done(w->s[i].st, p);
		x->b = malloc(x->f.len);
		MUST(x->b);
		memcpy(x->b, flat, x->f.len);
		x->f.data = x->b;
	}
	while (stack_event(w->s[i].st, &ev))
		;
	stack_touch_clear(w->s[i].st);
}

static void wire_remove(struct world *w, unsigned i, unsigned k)
{
	free(w->wire[i][k].b);
	memmove(&w->wire[i][k], &w->wire[i][k + 1], (w->n[i] - k - 1) * sizeof(w->wire[i][0]));
	w->n[i]--;
}

static void arrive(struct world *w, unsigned i, unsigned k, bool keep)
{
	stack_input(w->s[!i].st, &w->wire[i][k].f, w->now);
	if (!keep)
		wire_remove(w, i, k);
	collect(w, !i);
}

static void deliver_all(struct world *w)
{
	unsigned n = 0;

	collect(w, 0);
	collect(w, 1);
	while (w->n[0] || w->n[1]) {
		MUST(n++ < FRAMES_LIMIT);
		if (w->n[0])
			arrive(w, 0, 0, false);
		if (w->n[1])
			arrive(w, 1, 0, false);
		collect(w, 0);
		collect(w, 1);
	}
}

static void pass(struct world *w, usec_t us, bool whole)
{
	usec_t end = w->now + us;
	unsigned n = 0;

	for (;;) {
		usec_t at, other;

		if (whole)
			deliver_all(w);
		at = stack_deadline(w->s[0].st);
		other = stack_deadline(w->s[1].st);
		at = other < at ? other : at;
		if (at > end)
			break;
		MUST(n++ < 100000);
		if (at > w->now)
			w->now = at;
		for (unsigned i = 0; i < 2; i++) {
			stack_expire(w->s[i].st, w->now);
			collect(w, i);
		}
	}
	w->now = end;
}

static void write_some(struct world *w, unsigned i, uint32_t want, unsigned flags)
{
	struct side *s = &w->s[i];
	struct iovec iov[16];
	int n;
	ptrdiff_t r = s->t ? tcp_send_begin(s->st, s->t, want, iov, 16, &n) : 0;

	if (r <= 0)
		return;
	for (int k = 0; k < n; k++)
		for (size_t j = 0; j < iov[k].iov_len; j++)
			((uint8_t *)iov[k].iov_base)[j] = octet(i, s->wrote++);
	tcp_send_commit(s->st, s->t, (size_t)r, flags, w->now);
}

static void read_some(struct world *w, unsigned i, uint32_t want)
{
	struct side *s = &w->s[i];
	struct iovec iov[16];
	int n;
	ptrdiff_t r = s->t ? tcp_recv_begin(s->st, s->t, 0, want, iov, 16, &n) : 0;

	if (r <= 0)
		return;
	for (int k = 0; k < n; k++)
		for (size_t j = 0; j < iov[k].iov_len; j++)
			MUST(((uint8_t *)iov[k].iov_base)[j] == octet(!i, s->read++));
	tcp_recv_done(s->st, s->t, (size_t)r, w->now);
	MUST(s->read <= w->s[!i].wrote);
}

static void damage(struct world *w, unsigned i, unsigned k, struct input *in)
{
	struct wire_frame *x = &w->wire[i][k];
	uint32_t at = in_u16(in) % x->f.len;

	if (!x->damaged)
		x->b[at] ^= (uint8_t)(in_u8(in) | 1);
	x->damaged = true;
}

static void step(struct world *w, struct input *in)
{
	unsigned what = in_u8(in), i = what >> 7, k = w->n[i] ? in_u8(in) % w->n[i] : 0;

	switch (what % 16) {
	case 0:
	case 1:
		write_some(w, i, in_u16(in) + 1, in_u8(in) & TCP_SEND_MORE);
		break;
	case 2:
	case 3:
		read_some(w, i, in_u16(in) + 1);
		break;
	case 4:
	case 5:
		if (w->n[i])
			arrive(w, i, k, false);
		break;
	case 6:
		if (w->n[i])
			arrive(w, i, k, true); /* it will come again */
		break;
	case 7:
		if (w->n[i])
			wire_remove(w, i, k);
		break;
	case 8:
		if (w->n[i] && !w->s[i].st->dev.csum) /* else nobody would see it */
			damage(w, i, k, in);
		break;
	case 9:
		pass(w, MSEC(in_u16(in) % 5000), false);
		break;
	case 10:
		while (w->n[i]) /* a run of them, in order */
			arrive(w, i, 0, false);
		break;
	case 11:
		if (w->s[i].t && in_u8(in) < 64) {
			tcp_shutdown(w->s[i].st, w->s[i].t, 1, w->now);
			w->s[i].shut = true;
		}
		break;
	case 12:
		if (w->s[i].t && in_u8(in) < 16) {
			tcp_close(w->s[i].st, w->s[i].t, w->now);
			w->s[i].t = NULL;
			w->s[i].gone = true;
		}
		break;
	case 13:
		if (w->s[i].t) {
			tcp_opts(w->s[i].t)->nodelay = in_u8(in) & 1;
			tcp_opt_changed(w->s[i].st, w->s[i].t, TCP_OPT_NODELAY, w->now);
		}
		break;
	default:
		pass(w, MSEC(in_u8(in)), true);
		break;
	}
	pass(w, 0, false);
	for (unsigned n = 0; n < 2; n++) {
		collect(w, n);
		must_hold(w->s[n].st, w->now);
	}
}

static void world_begin(struct world *w, bool gso)
{
	struct endpoint ep = { .addr = ipaddr_v4(0), .port = 80 };

	w->now = SEC(1000);
	for (unsigned i = 0; i < 2; i++) {
		w->s[i].st = fuzz_stack(i, true, w->now);
		w->s[i].st->dev.tso4 = w->s[i].st->dev.csum = gso;
	}
	w->l = tcp_open(w->s[1].st, 4, 1, w->now);
	MUST(tcp_bind(w->s[1].st, w->l, &ep, w->now) == 0);
	MUST(tcp_listen(w->s[1].st, w->l, 4, w->now) == 0);
	w->s[0].t = tcp_open(w->s[0].st, 4, 2, w->now);
	ep.addr = fuzz_addr(1);
	MUST(tcp_connect(w->s[0].st, w->s[0].t, &ep, w->now) == -EINPROGRESS);
	deliver_all(w);
	MUST(tcp_accept(w->s[1].st, w->l, &w->s[1].t) == 0);
	tcp_set_user(w->s[1].t, 3);
}

static bool alive(const struct side *s)
{
	return s->t && tcp_state(s->t) != TCPS_CLOSED;
}

/* All that was written arrives, once the wire is whole; not so where a side closed or gave up. */
static void must_arrive(struct world *w)
{
	for (unsigned round = 0; round < 60; round++) {
		pass(w, SEC(5), true);
		read_some(w, 0, UINT32_MAX);
		read_some(w, 1, UINT32_MAX);
		if (w->s[0].read == w->s[1].wrote && w->s[1].read == w->s[0].wrote)
			return;
	}
	MUST(w->s[0].gone || w->s[1].gone || !alive(&w->s[0]) || !alive(&w->s[1]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct world w;
	struct input in = { data, size };

	memset(&w, 0, sizeof(w));
	world_begin(&w, in_u8(&in) & 1);
	for (unsigned n = 0; in.left && n < STEPS_MAX; n++)
		step(&w, &in);
	must_arrive(&w);
	for (unsigned i = 0; i < 2; i++)
		if (w.s[i].t)
			tcp_close(w.s[i].st, w.s[i].t, w.now);
	tcp_close(w.s[1].st, w.l, w.now);
	pass(&w, SEC(3600), true);
	for (unsigned i = 0; i < 2; i++) {
		MUST(w.s[i].st->tcbs.in_use == 0 && w.s[i].st->timewaits.in_use == 0 && w.s[i].st->pools.held_bytes == 0);
		fuzz_stack_end(w.s[i].st);
	}
	return 0;
}
