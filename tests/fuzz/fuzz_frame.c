/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_frame.c - frames for a live stack that listens, has connections and connects; checksums are put right, so that the
 * input reaches what lies behind them
 *
 * Steps: a raw frame; an IP packet; a segment relative to what a connection expects; an ICMP error about it; time;
 * a call of the program's. At the end all sockets are closed, an hour passes, and nothing may be left.
 */
#include "fuzz.h"

#define SOCKS 6

struct world {
	struct stack *st;
	usec_t now;
	struct tcb *sock[SOCKS]; /* 0 listens */
	uint8_t b[70000];
};

static void drain(struct world *w)
{
	static uint8_t flat[FRAME_MAX_BYTES];
	struct frame f;
	struct stack_event ev;
	struct pbuf *p;
	unsigned n = 0;

	while ((p = stack_output(w->st, w->now))) {
		MUST(n++ < FRAMES_LIMIT);
		fuzz_flatten(p, flat, &f);
		stack_tx_done(w->st, p);
	}
	while (stack_event(w->st, &ev))
		;
	stack_touch_clear(w->st);
}

static void pass(struct world *w, usec_t us)
{
	usec_t end = w->now + us;
	unsigned n = 0;

	while (stack_deadline(w->st) <= end) {
		MUST(n++ < 100000);
		if (stack_deadline(w->st) > w->now)
			w->now = stack_deadline(w->st);
		stack_expire(w->st, w->now);
		drain(w);
	}
	w->now = end;
}

/* ---- frames ---- */

static void give(struct world *w, uint32_t len, uint16_t gso)
{
	struct frame f = { .data = malloc(len ? len : 1), .len = len };

	MUST(f.data);
	memcpy((uint8_t *)f.data, w->b, len); /* of its own: a read behind the end is seen */
	if (gso) {
		f.vnet.gso_type = VNET_GSO_TCPV4;
		f.vnet.gso_size = gso;
	}
	stack_input(w->st, &f, w->now);
	free((uint8_t *)f.data);
}

/* Ethernet and IP in front of @l4_len octets at w->b + 34, all checksums right */
static uint32_t wrap(struct world *w, uint8_t proto, uint32_t l4_len)
{
	uint8_t *ip = w->b + 14, *l4 = ip + 20;
	struct ipaddr src = fuzz_addr(1), dst = fuzz_addr(0);

	memcpy(w->b, fuzz_mac[0], 6);
	memcpy(w->b + 6, fuzz_mac[1], 6);
	put16(w->b + 12, 0x0800);
	memset(ip, 0, 20);
	ip[0] = 0x45;
	put16(ip + 2, (uint16_t)(20 + l4_len));
	ip[8] = 64;
	ip[9] = proto;
	put32(ip + 12, FUZZ_IP(1));
	put32(ip + 16, FUZZ_IP(0));
	put16_raw(ip + 10, (uint16_t)~csum_fold(csum_add(0, ip, 20)));
	if (proto == 6 && l4_len >= 18) {
		put16(l4 + 16, 0);
		put16_raw(l4 + 16, (uint16_t)~csum_fold(csum_add(csum_pseudo(&src, &dst, 6, l4_len), l4, l4_len)));
	} else if (proto == 1 && l4_len >= 4) {
		put16(l4 + 2, 0);
		put16_raw(l4 + 2, (uint16_t)~csum_fold(csum_add(0, l4, l4_len)));
	}
	return 34 + l4_len;
}

static void raw_frame(struct world *w, struct input *in)
{
	uint32_t len = in_bytes(in, w->b, in_u16(in) % 600), flags = in_u8(in);

	if (flags & 1 && len >= 14) { /* for us */
		memcpy(w->b, fuzz_mac[0], 6);
		put16(w->b + 12, flags & 2 ? 0x0806 : 0x0800);
	}
	give(w, len, 0);
}

static void ip_packet(struct world *w, struct input *in)
{
	uint8_t *ip = w->b + 14, proto = (uint8_t)in_u8(in), tweak = (uint8_t)in_u8(in);
	uint32_t len = in_bytes(in, ip + 20, in_u16(in) % 600), all = wrap(w, proto, len);

	if (tweak < 20) { /* one octet of the header is another; its checksum is right */
		ip[tweak] = (uint8_t)in_u8(in);
		put16(ip + 10, 0);
		put16_raw(ip + 10, (uint16_t)~csum_fold(csum_add(0, ip, 20)));
	}
	give(w, all, 0);
}

/* NULL where there is none, or it is at rest */
static const struct tcp_conn *conn_at(const struct world *w, struct input *in)
{
	const struct tcb *s = w->sock[in_u8(in) % SOCKS];

	return s ? s->conn : NULL;
}

static void segment(struct world *w, struct input *in)
{
	const struct tcp_conn *t = conn_at(w, in);
	uint8_t *h = w->b + 34;
	bool conn = t && t->state != TCPS_LISTEN && t->rport;
	uint32_t flags = in_u8(in), n, len;
	uint16_t gso = 0;

	memset(h, 0, 60);
	put16(h, conn ? t->rport : (uint16_t)(40000 + in_u8(in) % 8));
	put16(h + 2, conn ? t->lport : 80);
	put32(h + 4, (conn ? t->rcv_nxt : 5000) + (uint32_t)(int16_t)in_u16(in));
	put32(h + 8, (conn ? t->snd_nxt : 0) + (uint32_t)(int16_t)in_u16(in));
	h[13] = (uint8_t)flags;
	put16(h + 14, (uint16_t)in_u16(in));
	put16(h + 18, flags & TH_URG ? (uint16_t)in_u16(in) : 0);
	n = in_bytes(in, h + 20, in_u8(in) % 41);
	for (unsigned i = 0; conn && i + 10 <= n; i++) /* SACK blocks and echoes that may be meant */
		if (h[20 + i] == 5 && h[21 + i] >= 10)
			for (unsigned k = i + 2; k + 4 <= n; k += 4)
				put32(h + 20 + k, t->snd_una + get16(h + 20 + k) + get16(h + 22 + k));
	memset(h + 20 + n, 0, -n % 4u);
	n = (n + 3) & ~3u;
	h[12] = (uint8_t)((20 + n) / 4 << 4);
	len = in_u16(in) % 9000;
	memset(h + 20 + n, 'x', len);
	if (len > 1460)
		gso = (uint16_t)(in_u8(in) * 8);
	give(w, wrap(w, 6, 20 + n + len), gso);
}

static void icmp_error(struct world *w, struct input *in)
{
	const struct tcp_conn *t = conn_at(w, in);
	uint8_t *h = w->b + 34, *q = h + 8;

	memset(h, 0, 64);
	h[0] = (uint8_t)in_u8(in);
	h[1] = (uint8_t)in_u8(in);
	put16(h + 6, (uint16_t)in_u16(in));
	q[0] = 0x45;
	q[9] = 6;
	put32(q + 12, FUZZ_IP(0));
	put32(q + 16, FUZZ_IP(1));
	put16(q + 20, t ? t->lport : 80);
	put16(q + 22, t ? t->rport : 1);
	put32(q + 24, (t ? t->snd_una : 0) + in_u16(in));
	give(w, wrap(w, 1, 28 + 8 + in_u8(in) % 28), 0);
}

/* ---- calls ---- */

static void program(struct world *w, struct input *in)
{
	unsigned i = in_u8(in) % SOCKS, what = in_u8(in) % 10;
	struct endpoint to = { .addr = fuzz_addr(1), .port = (uint16_t)(1000 + i) };
	struct tcb *t = w->sock[i];
	struct iovec iov[8];
	ptrdiff_t r;
	int n;

	if (!t) {
		if (what < 5) {
			if (tcp_accept(w->st, w->sock[0], &t) == 0)
				tcp_set_user(t, i);
		} else {
			t = tcp_open(w->st, 4, i, w->now);
			if (t)
				tcp_connect(w->st, t, &to, w->now);
		}
		w->sock[i] = t;
		return;
	}
	if (i == 0)
		return;
	switch (what) {
	case 0:
	case 1:
		r = tcp_send_begin(w->st, t, in_u16(in) + 1, iov, 8, &n);
		for (int k = 0; r > 0 && k < n; k++)
			memset(iov[k].iov_base, 'y', iov[k].iov_len);
		if (r > 0)
			tcp_send_commit(w->st, t, (size_t)r, in_u8(in) & 3, w->now);
		break;
	case 2:
	case 3:
		r = tcp_recv_begin(w->st, t, 0, in_u16(in), iov, 8, &n);
		if (r > 0)
			tcp_recv_done(w->st, t, (size_t)r, w->now);
		break;
	case 4:
		tcp_shutdown(w->st, t, (int)(in_u8(in) % 3), w->now);
		break;
	case 5:
		tcp_opts(t)->linger_on = in_u8(in) & 1;
		tcp_close(w->st, t, w->now);
		w->sock[i] = NULL;
		break;
	case 6:
		tcp_disconnect(w->st, t, w->now);
		break;
	case 7:
		tcp_opts(t)->rcvbuf_bytes = 2304 + in_u16(in);
		tcp_opts(t)->rcvbuf_locked = 1;
		tcp_opt_changed(w->st, t, TCP_OPT_RCVBUF, w->now);
		break;
	case 8:
		tcp_opts(t)->keepalive = 1;
		tcp_opts(t)->keepidle_s = 1 + in_u8(in);
		tcp_opt_changed(w->st, t, TCP_OPT_KEEPALIVE, w->now);
		break;
	default:
		tcp_connect(w->st, t, &to, w->now);
		break;
	}
}

static void step(struct world *w, struct input *in)
{
	switch (in_u8(in) % 8) {
	case 0:
		raw_frame(w, in);
		break;
	case 1:
		ip_packet(w, in);
		break;
	case 2:
	case 3:
	case 4:
		segment(w, in);
		break;
	case 5:
		icmp_error(w, in);
		break;
	case 6:
		pass(w, MSEC(in_u16(in)));
		break;
	default:
		program(w, in);
		break;
	}
	drain(w);
	pass(w, 0);
	must_hold(w->st, w->now);
}

static void world_begin(struct world *w)
{
	struct endpoint ep = { .addr = ipaddr_v4(0), .port = 80 };

	w->now = SEC(1000);
	w->st = fuzz_stack(0, true, w->now);
	w->sock[0] = tcp_open(w->st, 4, 100, w->now);
	MUST(tcp_bind(w->st, w->sock[0], &ep, w->now) == 0);
	MUST(tcp_listen(w->st, w->sock[0], 4, w->now) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct world world;
	struct input in = { data, size };

	memset(&world, 0, offsetof(struct world, b));
	world_begin(&world);
	for (unsigned n = 0; in.left && n < STEPS_MAX; n++)
		step(&world, &in);
	for (unsigned i = 0; i < SOCKS; i++)
		if (world.sock[i])
			tcp_close(world.st, world.sock[i], world.now);
	drain(&world);
	pass(&world, SEC(3600));
	MUST(world.st->tcbs.in_use == 0 && world.st->requests.in_use == 0 && world.st->timewaits.in_use == 0);
	MUST(world.st->pools.held_bytes == 0 && world.st->pools.pbufs.in_use == 0 && world.st->ports.classes.in_use == 0);
	fuzz_stack_end(world.st);
	return 0;
}
