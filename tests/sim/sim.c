/* SPDX-License-Identifier: BSD-2-Clause */
#include "sim.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include "../../stack/checksum.h"
#include "../../stack/wire.h"
#include "../unit/region.h"

#define DATA_FRAME_BYTES 200 /* no SYN or acknowledgment is as long */
#define REGION_BYTES ((size_t)2 << 30)
#define SIM_START    SEC(1000)

void sim_fail(struct sim *s, const char *fmt, ...)
{
	va_list ap;

	if (s->failed)
		return;
	va_start(ap, fmt);
	vsnprintf(s->failed_text, sizeof(s->failed_text), fmt, ap);
	va_end(ap);
	s->failed = s->failed_text;
}

void sim_init(struct sim *s, uint64_t seed, bool offloads)
{
	*s = (struct sim){ .seed = seed, .rnd = seed * 0x9e3779b97f4a7c15 + 1, .now = SIM_START, .started = SIM_START,
			   .offloads = offloads };
}

void sim_fini(struct sim *s)
{
	for (int i = 0; i < s->n_hosts; i++)
		munmap(s->host[i].region->base, s->host[i].region->bytes);
	for (size_t i = 0; i < s->n_heap; i++)
		free(s->heap[i].data);
	free(s->heap);
	while (s->apps) {
		struct app *a = s->apps;

		s->apps = a->next;
		free(a);
	}
}

struct sim_host *sim_host_add(struct sim *s, const struct sim_link *link, const struct stack_sysctl *ctl)
{
	int n = s->n_hosts++;
	struct sim_host *h = &s->host[n];
	struct stack_config cfg = { .seed = { rnd(&s->rnd), rnd(&s->rnd), rnd(&s->rnd), rnd(&s->rnd) } };

	*h = (struct sim_host){ .sim = s, .region = region_new(REGION_BYTES), .mac = { 2, 0, 0, 0, 0,
										      (uint8_t)(n + 1) },
				.link = *link, .addr = ipaddr_v4(__builtin_bswap32(0x0a000001u + (uint32_t)n)) };
	if (ctl)
		cfg.ctl = *ctl;
	else
		stack_sysctl_default(&cfg.ctl);
	cfg.region = h->region;
	memcpy(cfg.dev.mac, h->mac, 6);
	cfg.dev.mtu_bytes = 1500;
	cfg.dev.csum = cfg.dev.tso4 = cfg.dev.tso6 = s->offloads;
	cfg.dev.gso_max_bytes = 65535;
	if (s->v6)
		h->addr = (struct ipaddr){ .b = { 0x20, 1, 0xd, 0xb8, [15] = (uint8_t)(n + 1) } };
	h->st = stack_init(&cfg, s->now);
	if (!h->st || (s->v6 && stack_ip6_start(h->st, &(struct stack_ip6){ .accept_ra = false }, s->now) < 0) ||
	    stack_addr_add(h->st, h->addr, s->v6 ? 64 : 24) < 0)
		abort();
	return h;
}

/* ---- frames on their way: a binary heap by time ---- */

static bool before(const struct sim_frame *a, const struct sim_frame *b)
{
	return a->at != b->at ? a->at < b->at : a->nr < b->nr;
}

static void heap_push(struct sim *s, struct sim_frame f)
{
	size_t i = s->n_heap++;

	if (s->n_heap > s->cap_heap) {
		s->cap_heap = s->cap_heap ? 2 * s->cap_heap : 256;
		s->heap = realloc(s->heap, s->cap_heap * sizeof(*s->heap));
		if (!s->heap)
			abort();
	}
	for (; i && before(&f, &s->heap[(i - 1) / 2]); i = (i - 1) / 2)
		s->heap[i] = s->heap[(i - 1) / 2];
	s->heap[i] = f;
}

static struct sim_frame heap_pop(struct sim *s)
{
	struct sim_frame top = s->heap[0], last = s->heap[--s->n_heap];
	size_t i = 0;

	for (;;) {
		size_t c = 2 * i + 1;

		if (c >= s->n_heap)
			break;
		if (c + 1 < s->n_heap && before(&s->heap[c + 1], &s->heap[c]))
			c++;
		if (before(&last, &s->heap[c]))
			break;
		s->heap[i] = s->heap[c];
		i = c;
	}
	s->heap[i] = last;
	return top;
}

static bool chance(struct sim *s, uint32_t ppm)
{
	return ppm && rnd(&s->rnd) % 1000000 < ppm;
}

/* A copy of @data to @to at @at. */
static void arrive(struct sim *s, int to, usec_t at, const struct vnet_hdr *v, const uint8_t *data, uint32_t len)
{
	struct sim_frame f = { .at = at, .nr = s->nr++, .host = to, .vnet = *v, .len = len, .data = malloc(len) };

	if (!f.data)
		abort();
	memcpy(f.data, data, len);
	heap_push(s, f);
}

static void deliver(struct sim *s, struct sim_host *h, usec_t at, const struct vnet_hdr *v, const uint8_t *data,
		    uint32_t len)
{
	for (int i = 0; i < s->n_hosts; i++) {
		if (&s->host[i] != h && ((data[0] & 1) || memcmp(data, s->host[i].mac, 6) == 0))
			arrive(s, i, at, v, data, len);
	}
}

/*
 * Wrong octets where they hurt most: in the headers of IP and TCP; sometimes the frame is cut. The IP checksum is
 * made right.
 */
static void garble(struct sim *s, struct vnet_hdr *v, uint8_t *d, uint32_t *len)
{
	uint32_t n = 1 + (uint32_t)(rnd(&s->rnd) % 4);

	for (uint32_t i = 0; i < n; i++) {
		uint32_t span = *len - 14 < 60 ? *len - 14 : 60;

		d[14 + rnd(&s->rnd) % span] = rnd(&s->rnd) % 2 ? (uint8_t)rnd(&s->rnd) : rnd(&s->rnd) % 2 ? 0 : 0xff;
	}
	if (rnd(&s->rnd) % 8 == 0)
		*len = 14 + (uint32_t)(rnd(&s->rnd) % (*len - 13));
	if (*len >= 34 && get16(d + 12) == 0x0800) {
		put16(d + 24, 0);
		put16_raw(d + 24, (uint16_t)~csum_fold(csum_add(0, d + 14, 20)));
	}
	v->flags = VNET_F_DATA_VALID;
}

static void trace(const struct sim_host *h, const uint8_t *d, uint32_t len, const char *fate)
{
	static const char letters[] = "FSRP.UEW";
	const uint8_t *t = d + 34, *o = t + 20, *end = t + (t[12] >> 4) * 4;
	char f[9];
	int n = 0;

	if (!h->sim->trace)
		return;
	printf("%11.6f host %d ", (double)(h->sim->now - h->sim->started) / 1e6, (int)(h - h->sim->host));
	if (d[12] != 8 || d[13] != 0 || d[23] != 6) {
		printf("%s, %u octets%s\n", d[13] == 6 ? "ARP" : "not TCP", len, fate);
		return;
	}
	for (int i = 0; i < 8; i++)
		if (t[13] & 1 << i)
			f[n++] = letters[i];
	f[n] = 0;
	printf("%u > %u %s seq %u len %u ack %u win %u", get16(t), get16(t + 2), f, get32(t + 4),
	       len - 34 - (uint32_t)(end - t), get32(t + 8), get16(t + 14));
	for (; o < end && *o; o += *o == 1 ? 1 : o[1])
		for (int i = 2; *o == 5 && i < o[1]; i += 8)
			printf(" %u-%u", get32(o + i), get32(o + i + 4));
	printf("%s\n", fate);
}

/* Sets CE where the frame says that its sender understands it, and mends the header's checksum. */
static void mark(struct sim_host *h, uint8_t *d, uint32_t len)
{
	if (len < 34 || get16(d + 12) != 0x0800 || !(d[15] & 3))
		return;
	d[15] |= 3;
	put16(d + 24, 0);
	put16_raw(d + 24, (uint16_t)~csum_fold(csum_add(0, d + 14, 20)));
	h->marked++;
}

/* A bucket of tokens that fills at the policed rate. False: the frame exceeds it */
static bool conforms(struct sim_host *h, uint32_t len)
{
	const struct sim_link *l = &h->link;
	uint64_t bits = (uint64_t)len * 8, most = (uint64_t)l->police_bytes * 8;

	h->police_left += (h->sim->now - h->police_at) * l->police_bps / 1000000;
	h->police_at = h->sim->now;
	if (h->police_left > most)
		h->police_left = most;
	if (h->police_left < bits)
		return false;
	h->police_left -= bits;
	return true;
}

/* One frame through the link's rules. */
/* Loss in bursts draws random numbers only where it is wanted, so that the runs without it are what they were */
static bool burst_loses(struct sim_host *h)
{
	const struct sim_link *l = &h->link;
	struct sim *s = h->sim;
	bool lost;

	if (!l->turns_bad_ppm)
		return false;
	lost = h->bad && chance(s, l->bad_loss_ppm);
	if (chance(s, h->bad ? l->turns_good_ppm : l->turns_bad_ppm))
		h->bad = !h->bad;
	return lost;
}

static bool wire_loses(struct sim_host *h, const uint8_t *data, uint32_t len)
{
	const struct sim_link *l = &h->link;
	struct sim *s = h->sim;

	if (chance(s, l->loss_ppm) || (s->now >= l->cut_from && s->now < l->cut_to) || (l->lose && l->lose(h, data, len)))
		return true;
	if (l->lose_nth && len > DATA_FRAME_BYTES && ++h->data_frames % l->lose_nth == 0)
		return true;
	return burst_loses(h) || (l->mtu_bytes && len > l->mtu_bytes + ETH_HDR_BYTES);
}

static void link_send(struct sim_host *h, const struct vnet_hdr *v, uint8_t *data, uint32_t len)
{
	struct sim *s = h->sim;
	const struct sim_link *l = &h->link;
	struct vnet_hdr marked = *v;
	usec_t at = s->now;

	h->tx_frames++;
	h->tx_bytes += len;
	if (l->police_bps && !conforms(h, len)) {
		h->lost++;
		trace(h, data, len, " POLICED");
		return;
	}
	if (s->now >= l->spike_from && s->now < l->spike_to && h->link_free < l->spike_to)
		h->link_free = l->spike_to;
	if (l->rate_bps) {
		usec_t waits = h->link_free > at ? h->link_free - at : 0;

		if (l->queue_bytes && waits * l->rate_bps / 8000000 + len > l->queue_bytes) {
			h->lost++;
			trace(h, data, len, " QUEUE FULL");
			return;
		}
		if (l->mark_bytes && waits * l->rate_bps / 8000000 >= l->mark_bytes)
			mark(h, data, len);
		h->link_free = at + waits + (uint64_t)len * 8000000 / l->rate_bps;
		at = h->link_free;
	}
	if (wire_loses(h, data, len)) {
		h->lost++;
		trace(h, data, len, " LOST");
		return;
	}
	trace(h, data, len, "");
	at += l->delay_us + (l->jitter_us ? rnd(&s->rnd) % l->jitter_us : 0);
	if (chance(s, l->reorder_ppm))
		at += l->reorder_up_to ? rnd(&s->rnd) % l->reorder_us : l->reorder_us;
	if (chance(s, l->corrupt_ppm)) /* behind the Ethernet header, whose checksum would have caught it */
		data[14 + rnd(&s->rnd) % (len - 14)] ^= (uint8_t)(1 << rnd(&s->rnd) % 8);
	if (chance(s, l->garble_ppm))
		garble(s, &marked, data, &len);
	deliver(s, h, at, &marked, data, len);
	if (chance(s, l->dup_ppm))
		deliver(s, h, at + 1, &marked, data, len);
}

static void host_drain(struct sim_host *h)
{
	static uint8_t flat[FRAME_MAX_BYTES];
	struct vnet_hdr v;
	struct pbuf *p;

	while ((p = stack_output(h->st, h->sim->now))) {
		uint32_t len = p->hdr_len - VNET_HDR_BYTES;

		memcpy(&v, pbuf_head(p), VNET_HDR_BYTES);
		memcpy(flat, pbuf_head(p) + VNET_HDR_BYTES, len);
		for (unsigned i = 0; i < p->n_frags; i++) {
			memcpy(flat + len, p->frag[i].cell->data + p->frag[i].off, p->frag[i].len);
			len += p->frag[i].len;
		}
		if (len != p->len)
			sim_fail(h->sim, "frame says %u octets and has %u", p->len, len);
		link_send(h, &v, flat, len);
		stack_tx_done(h->st, p);
	}
}

/* Events to programs, frames to links, until both are quiet. */
static void host_settle(struct sim_host *h)
{
	struct stack_event ev;

	do {
		host_drain(h);
		while (stack_event(h->st, &ev)) {
			struct app *a = (struct app *)(uintptr_t)ev.user;

			if (a && a->tcb == ev.tcb)
				a->ops->wake(a, h->sim->now);
		}
		stack_touch_clear(h->st);
	} while (stack_output_pending(h->st));
}

/* ---- time ---- */

static usec_t next_time(const struct sim *s)
{
	usec_t t = s->n_heap ? s->heap[0].at : USEC_NEVER;

	for (int i = 0; i < s->n_hosts; i++) {
		usec_t d = stack_deadline(s->host[i].st);

		t = d < t ? d : t;
	}
	for (const struct app *a = s->apps; a; a = a->next)
		t = a->alarm < t ? a->alarm : t;
	return t;
}

static void sim_step(struct sim *s, usec_t at)
{
	s->steps++;
	if (at > s->now)
		s->now = at;
	while (s->n_heap && s->heap[0].at <= s->now) {
		struct sim_frame f = heap_pop(s);
		struct frame in = { .data = f.data, .len = f.len, .vnet = f.vnet };

		stack_input(s->host[f.host].st, &in, s->now);
		free(f.data);
		host_settle(&s->host[f.host]);
	}
	for (struct app *a = s->apps; a; a = a->next) {
		if (a->alarm <= s->now) {
			a->alarm = USEC_NEVER;
			a->ops->wake(a, s->now);
		}
	}
	for (int i = 0; i < s->n_hosts; i++) {
		stack_expire(s->host[i].st, s->now);
		host_settle(&s->host[i]);
	}
}

static bool at_work(const struct sim *s)
{
	for (const struct app *a = s->apps; a; a = a->next)
		if (!a->ended)
			return true;
	return false;
}

bool sim_run(struct sim *s, usec_t limit_us)
{
	usec_t limit = s->now + limit_us;

	for (int i = 0; i < s->n_hosts; i++)
		host_settle(&s->host[i]);
	while (at_work(s) && !s->failed) {
		usec_t t = next_time(s);

		if (t > limit) {
			sim_fail(s, "stuck: %s", t == USEC_NEVER ? "nothing will ever happen" : "time limit");
			break;
		}
		sim_step(s, t);
	}
	return !s->failed;
}

void sim_run_until(struct sim *s, usec_t at)
{
	usec_t t;

	for (int i = 0; i < s->n_hosts; i++)
		host_settle(&s->host[i]);
	while ((t = next_time(s)) <= at && !s->failed)
		sim_step(s, t);
	s->now = at > s->now ? at : s->now;
}

void sim_check_clean(struct sim *s)
{
	if (s->failed)
		return;
	sim_run_until(s, s->now + SEC(400));
	for (int i = 0; i < s->n_hosts; i++) {
		struct stack *st = s->host[i].st;
		uint32_t cursor = 0, left = 0;
		struct tcb *t;

		while ((t = tcp_next(st, &cursor)))
			left += tcp_state(t) != TCPS_LISTEN;
		if (left || stack_live(st))
			sim_fail(s, "host %d: %u connections left, %u live", i, left, stack_live(st));
		if (st->timewaits.in_use || st->requests.in_use)
			sim_fail(s, "host %d: %u TIME_WAITs, %u requests left", i, st->timewaits.in_use,
				 st->requests.in_use);
		if (st->pools.held_bytes || st->pools.pbufs.in_use)
			sim_fail(s, "host %d: %llu octets in cells, %u frames left", i,
				 (unsigned long long)st->pools.held_bytes, st->pools.pbufs.in_use);
	}
}

/* ---- programs ---- */

static inline uint8_t pattern(uint32_t key, uint64_t off)
{
	return (uint8_t)((off * 0x9e3779b1u + key * 0x85ebca6bu) >> 23);
}

struct app *app_new(struct sim_host *h, const struct app_ops *ops)
{
	struct app *a = calloc(1, sizeof(*a));

	if (!a)
		abort();
	a->ops = ops;
	a->host = h;
	a->alarm = USEC_NEVER;
	a->started = h->sim->now;
	a->next = h->sim->apps;
	h->sim->apps = a;
	return a;
}

static void app_end(struct app *a, int error, usec_t now)
{
	a->error = error;
	a->ended = now;
	a->alarm = USEC_NEVER;
	if (a->tcb) {
		struct tcb *t = a->tcb;

		a->tcb = NULL;
		tcp_set_user(t, 0);
		tcp_close(a->host->st, t, now);
	}
}

void apps_reap(struct sim *s)
{
	struct app **pa = &s->apps;

	while (*pa) {
		struct app *a = *pa;

		if (!a->ended || a->keep) {
			pa = &a->next;
			continue;
		}
		*pa = a->next;
		free(a);
	}
}

void apps_stop(struct sim *s)
{
	for (struct app *a = s->apps; a; a = a->next)
		if (!a->ended)
			app_end(a, 0, s->now);
}

/* Sends octets of the pattern while there is room and @a->sent < @until. False: error, the program has ended. */
static bool app_push(struct app *a, uint64_t until, usec_t now)
{
	while (a->sent < until) {
		struct iovec iov[16];
		int n;
		uint64_t want = until - a->sent;
		ptrdiff_t room = tcp_send_begin(a->host->st, a->tcb, want > (1 << 20) ? 1 << 20 : (size_t)want, iov, 16,
						&n);

		if (room == -EAGAIN)
			return true;
		if (room < 0) {
			app_end(a, (int)-room, now);
			return false;
		}
		for (int i = 0; i < n; i++) {
			uint8_t *p = iov[i].iov_base;

			for (size_t k = 0; k < iov[i].iov_len; k++)
				p[k] = pattern(a->key, a->sent++);
		}
		tcp_send_commit(a->host->st, a->tcb, (size_t)room, 0, now);
	}
	return true;
}

/* Takes what is there, at most @max octets, and checks it. False: error, the program has ended. */
static bool app_pull(struct app *a, uint64_t max, usec_t now)
{
	while (max && !a->eof) {
		struct iovec iov[16];
		int n;
		ptrdiff_t got = tcp_recv_begin(a->host->st, a->tcb, 0, max > (1 << 20) ? 1 << 20 : (size_t)max, iov, 16,
					       &n);

		if (got == -EAGAIN)
			return true;
		if (got < 0) {
			app_end(a, (int)-got, now);
			return false;
		}
		if (got == 0)
			a->eof = true;
		for (int i = 0; got && i < n; i++) {
			const uint8_t *p = iov[i].iov_base;

			for (size_t k = 0; k < iov[i].iov_len; k++, a->received++)
				if (p[k] != pattern(a->peer_key, a->received) && !a->unchecked)
					sim_fail(a->host->sim, "%s: octet %llu is wrong", a->ops->name,
						 (unsigned long long)a->received);
		}
		if (got)
			tcp_recv_done(a->host->st, a->tcb, (size_t)got, now);
		max -= (uint64_t)got;
	}
	return true;
}

/* True once connected; an error ends the program. */
static bool app_established(struct app *a, usec_t now)
{
	if (a->connected)
		return true;
	if (tcp_state(a->tcb) == TCPS_SYN_SENT)
		return false;
	if (tcp_state(a->tcb) == TCPS_CLOSED) {
		int e = tcp_error_take(a->tcb);

		app_end(a, e ? e : ENOTCONN, now);
		return false;
	}
	a->connected = true;
	return true;
}

static void transfer_wake(struct app *a, usec_t now)
{
	if (a->ended || !app_established(a, now))
		return;
	if (a->pause_us && !a->paused && a->received >= a->pause_at_bytes) {
		a->paused = true;
		a->alarm = now + a->pause_us;
	}
	if (!app_push(a, a->want_send, now))
		return;
	if (a->sent == a->want_send && !a->shut) {
		a->shut = true;
		tcp_shutdown(a->host->st, a->tcb, 1, now);
	}
	if (a->alarm != USEC_NEVER && a->paused) /* does not read for a while */
		return;
	if (!app_pull(a, a->pause_us && !a->paused ? a->pause_at_bytes - a->received : UINT64_MAX, now))
		return;
	if (a->pause_us && !a->paused && a->received >= a->pause_at_bytes) {
		a->paused = true;
		a->alarm = now + a->pause_us;
		return;
	}
	if (a->eof && a->shut) {
		if (a->received != a->want_recv && !a->unchecked)
			sim_fail(a->host->sim, "end after %llu octets, not %llu", (unsigned long long)a->received,
				 (unsigned long long)a->want_recv);
		app_end(a, 0, now);
	}
}
const struct app_ops app_transfer = { "transfer", transfer_wake };

static void ask_wake(struct app *a, usec_t now)
{
	if (a->ended || !app_established(a, now))
		return;
	for (;;) {
		uint64_t asked = (uint64_t)(a->done + 1) * a->request_bytes, answered = (uint64_t)(a->done + 1) * a->response_bytes;

		if (a->alarm != USEC_NEVER)
			return; /* thinking */
		if (a->sent == (uint64_t)a->done * a->request_bytes)
			a->asked_at = now;
		if (!app_push(a, asked, now) || !app_pull(a, answered - a->received, now))
			return;
		if (a->eof) {
			app_end(a, ECONNABORTED, now);
			return;
		}
		if (a->received < answered)
			return;
		if (now - a->asked_at > a->worst_us)
			a->worst_us = now - a->asked_at;
		if (++a->done == a->requests) {
			app_end(a, 0, now);
			return;
		}
		if (a->think_us) {
			a->alarm = now + a->think_us;
			return;
		}
	}
}
const struct app_ops app_ask = { "ask", ask_wake };

static void answer_wake(struct app *a, usec_t now)
{
	if (a->ended || !app_pull(a, UINT64_MAX, now))
		return;
	if (!app_push(a, a->received / a->request_bytes * a->response_bytes, now))
		return;
	if (a->eof)
		app_end(a, 0, now);
}
const struct app_ops app_answer = { "answer", answer_wake };

/* A listener's ended is set from the start: it need not come to an end. */
static void accept_wake(struct app *l, usec_t now)
{
	struct tcb *t;

	while (tcp_accept(l->host->st, l->tcb, &t) == 0) {
		struct app *a = app_new(l->host, l->ops), *next = a->next;
		const struct app *proto = (const struct app *)(uintptr_t)l->want_send;
		struct endpoint peer;

		*a = *proto;
		a->keep = false;
		a->host = l->host;
		a->next = next;
		a->started = now;
		a->alarm = USEC_NEVER;
		a->ended = 0;
		a->tcb = t;
		a->connected = true;
		/* The peer's port names the connection on both sides. */
		if (tcp_peer(t, &peer) == 0) {
			a->key = 2 * peer.port + 1;
			a->peer_key = 2 * peer.port;
		}
		tcp_set_user(t, (uintptr_t)a);
		a->ops->wake(a, now);
	}
}
static const struct app_ops app_accept = { "accept", accept_wake };

struct app *app_server(struct sim_host *h, uint16_t port, const struct app *proto)
{
	struct app *l = app_new(h, &app_accept), *copy = calloc(1, sizeof(*copy));
	struct endpoint ep = { h->sim->v6 ? (struct ipaddr){ .q = { 0 } } : ipaddr_v4(0), port };

	if (!copy)
		abort();
	*copy = *proto;
	copy->ended = 1;
	copy->keep = true;
	copy->alarm = USEC_NEVER;
	copy->next = l->next; /* so that it is freed with all others */
	l->next = copy;
	l->want_send = (uintptr_t)copy;
	l->ended = 1;
	l->keep = true;
	l->tcb = tcp_open(h->st, h->sim->v6 ? 6 : 4, (uintptr_t)l, h->sim->now);
	if (l->tcb && proto->cc)
		tcp_opts(l->tcb)->cc = (uint8_t)(proto->cc - 1);
	if (!l->tcb || tcp_bind(h->st, l->tcb, &ep, h->sim->now) < 0 || tcp_listen(h->st, l->tcb, 4096,
										   h->sim->now) < 0)
		sim_fail(h->sim, "listen failed");
	return l;
}

struct app *app_client(struct sim_host *h, struct sim_host *to, uint16_t port, const struct app *proto)
{
	struct app *a = app_new(h, proto->ops), *next = a->next;
	struct endpoint ep = { to->addr, port }, local;
	usec_t now = h->sim->now;
	int r;

	*a = *proto;
	a->host = h;
	a->next = next;
	a->started = now;
	a->alarm = USEC_NEVER;
	a->tcb = tcp_open(h->st, h->sim->v6 ? 6 : 4, (uintptr_t)a, now);
	if (!a->tcb) {
		sim_fail(h->sim, "no memory for a socket");
		return a;
	}
	if (proto->cc)
		tcp_opts(a->tcb)->cc = (uint8_t)(proto->cc - 1);
	tcp_opts(a->tcb)->max_pacing_Bps = proto->max_pacing_Bps;
	r = tcp_connect(h->st, a->tcb, &ep, now);
	if (r < 0 && r != -EINPROGRESS) {
		app_end(a, -r, now);
		return a;
	}
	tcp_local(a->tcb, &local);
	a->key = 2 * local.port;
	a->peer_key = 2 * local.port + 1;
	return a;
}
