/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * gen.c - a program from a seed
 *
 * A rough idea of what each slot holds keeps most calls sensible; one in twelve takes any slot at all, and one in fourteen
 * has something wrong with it (enum bad). The idea need not be right: results are compared, not predicted.
 */
#include <string.h>
#include "callfuzz.h"

enum guess { G_EMPTY, G_FRESH, G_BOUND, G_LISTEN, G_CONN, G_ENDED, G_PIPE_R, G_PIPE_W, G_FILE, G_EPOLL, G_N };

struct gen {
	struct program *p;
	uint64_t rng;
	enum guess guess[N_SLOTS];
	bool none;	/* the call under way lacks what it is for: not made */
};

uint64_t rnd(uint64_t *state) /* splitmix64 */
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static unsigned below(struct gen *g, unsigned n)
{
	return (unsigned)(rnd(&g->rng) % n);
}

static bool once_in(struct gen *g, unsigned n)
{
	return below(g, n) == 0;
}

/* A slot that is guessed to be one of @set, now and then any. Sets g->none where there is none. */
static int8_t pick(struct gen *g, unsigned set)
{
	int found = -1, n = 0;

	if (once_in(g, 20))
		return (int8_t)below(g, N_SLOTS);
	for (int i = 0; i < N_SLOTS; i++)
		if (set & 1u << g->guess[i] && below(g, (unsigned)++n) == 0)
			found = i;
	g->none |= found < 0 && !once_in(g, 12);
	return (int8_t)(found >= 0 ? found : (int)below(g, N_SLOTS));
}

#define ONE(x) (1u << (G_##x))
#define SOCKETS (ONE(FRESH) | ONE(BOUND) | ONE(LISTEN) | ONE(CONN) | ONE(ENDED))
#define ANYTHING (SOCKETS | ONE(PIPE_R) | ONE(PIPE_W) | ONE(FILE) | ONE(EPOLL))

static struct call *emit(struct gen *g, enum kind kind, int a, int b, int c)
{
	struct call *k = &g->p->call[g->p->n_calls];

	if (g->p->n_calls < N_CALLS_MAX && !g->none)
		g->p->n_calls++;
	*k = (struct call){ .kind = (uint8_t)kind, .thread = (uint8_t)below(g, (unsigned)g->p->n_threads),
			    .a = (int8_t)a, .b = (int8_t)b, .c = (int8_t)c,
			    .x = (uint32_t)rnd(&g->rng), .y = (uint32_t)rnd(&g->rng), .z = (uint32_t)rnd(&g->rng) };
	if (once_in(g, 14))
		k->bad = (uint8_t)(1 + below(g, BAD_N - 1));
	return k;
}

static void gen_socket(struct gen *g)
{
	int8_t a = pick(g, ONE(EMPTY));

	emit(g, K_socket, a, once_in(g, 5) ? 6 : 4, 0);
	g->guess[a] = G_FRESH;
}

/* A connection: listener, connect, accept; what is usual, with the liberties that programs take. */
static void gen_pair(struct gen *g)
{
	int8_t l = pick(g, once_in(g, 3) ? ONE(LISTEN) : ONE(EMPTY)), c, a;
	int family = once_in(g, 6) ? 6 : 4;

	if (g->guess[l] != G_LISTEN) {
		emit(g, K_socket, l, family, 0)->bad = 0;
		if (!once_in(g, 3))
			emit(g, K_bind, l, -1, 0)->bad = 0;
		emit(g, K_listen, l, 0, 0)->bad = 0;
		g->guess[l] = G_LISTEN;
	}
	c = pick(g, ONE(EMPTY));
	if (c == l)
		return;
	emit(g, K_socket, c, once_in(g, 6) ? 6 : 4, 0)->bad = 0;
	g->guess[c] = G_CONN;
	emit(g, K_connect, c, l, 0)->bad = 0;
	a = pick(g, ONE(EMPTY));
	if (a == l || a == c)
		return;
	emit(g, K_accept, l, a, 0)->bad = 0;
	g->guess[a] = G_CONN;
	if (once_in(g, 3)) {
		emit(g, K_close, l, 0, 0);
		g->guess[l] = G_EMPTY;
	}
}

static void gen_epoll(struct gen *g)
{
	int8_t e;

	if (once_in(g, 6)) {
		e = pick(g, ONE(EMPTY));
		emit(g, K_epoll_create, e, 0, 0);
		g->guess[e] = G_EPOLL;
	} else {
		e = pick(g, ONE(EPOLL));
	}
	if (once_in(g, 2))
		emit(g, K_epoll_ctl, e, pick(g, SOCKETS | SOCKETS | (once_in(g, 4) ? ANYTHING : 0)), 0);
	else
		emit(g, K_epoll_wait, e, 0, 0);
}

static void gen_fd(struct gen *g)
{
	int8_t a = pick(g, ANYTHING), b;

	switch (below(g, 8)) {
	case 0: case 1:
		b = pick(g, ONE(EMPTY));
		emit(g, once_in(g, 4) ? K_pass : K_dup, a, b, 0);
		g->guess[b] = g->guess[a];
		break;
	case 2:
		b = pick(g, once_in(g, 2) ? ONE(EMPTY) : ANYTHING);
		emit(g, K_dup_onto, a, b, 0);
		g->guess[b] = g->guess[a];
		break;
	case 3:
		emit(g, K_getfl, a, 0, 0);
		break;
	case 4:
		emit(g, K_setfl, a, 0, 0);
		break;
	case 5: case 6:
		emit(g, K_ioctl, a, 0, 0);
		break;
	default:
		emit(g, once_in(g, 3) ? K_close_range : K_seek_stat, a, 0, once_in(g, 2));
	}
}

static void gen_life(struct gen *g)
{
	int8_t a;

	switch (below(g, 9)) {
	case 0:
		gen_socket(g);
		break;
	case 1:
		a = pick(g, ONE(FRESH));
		emit(g, K_bind, a, once_in(g, 2) ? pick(g, SOCKETS) : -1, 0);
		g->guess[a] = G_BOUND;
		break;
	case 2:
		a = pick(g, ONE(FRESH) | ONE(BOUND));
		emit(g, K_listen, a, 0, 0);
		g->guess[a] = G_LISTEN;
		break;
	case 3: case 4:
		a = pick(g, ONE(FRESH) | ONE(BOUND) | ONE(ENDED));
		emit(g, K_connect, a, once_in(g, 5) ? -1 - (int)below(g, 2) : pick(g, once_in(g, 4) ? SOCKETS : ONE(LISTEN)), 0);
		g->guess[a] = G_CONN;
		break;
	case 5: case 6:
		emit(g, K_accept, pick(g, ONE(LISTEN)), a = pick(g, ONE(EMPTY)), 0);
		g->guess[a] = G_CONN;
		break;
	case 7:
		a = pick(g, ONE(CONN) | (once_in(g, 4) ? SOCKETS : 0));
		emit(g, K_shutdown, a, 0, 0);
		break;
	default:
		a = pick(g, ANYTHING);
		emit(g, K_close, a, 0, 0);
		g->guess[a] = G_EMPTY;
	}
}

static void gen_pipes(struct gen *g)
{
	int8_t a, b;

	switch (below(g, 5)) {
	case 0:
		a = pick(g, ONE(EMPTY));
		b = pick(g, ONE(EMPTY));
		if (a == b)
			return;
		emit(g, K_pipe, a, b, 0);
		g->guess[a] = G_PIPE_R;
		g->guess[b] = G_PIPE_W;
		break;
	case 1:
		emit(g, K_file, a = pick(g, ONE(EMPTY)), 0, 0);
		g->guess[a] = G_FILE;
		emit(g, K_sendfile, pick(g, ONE(CONN)), a, 0);
		break;
	case 2:
		emit(g, K_sendfile, pick(g, ONE(CONN)), pick(g, ONE(FILE)), 0);
		break;
	case 3:
		emit(g, K_splice, pick(g, ONE(CONN) | ONE(PIPE_R)), pick(g, ONE(PIPE_W) | ONE(CONN)), 0);
		break;
	default:
		emit(g, K_tee, pick(g, ONE(PIPE_R)), pick(g, ONE(PIPE_W)), 0);
	}
}

static void gen_one(struct gen *g)
{
	unsigned n = below(g, 100);

	g->none = false;
	if (n < 10)
		gen_pair(g);
	else if (n < 26)
		emit(g, K_send, pick(g, ONE(CONN)), 0, 0);
	else if (n < 42)
		emit(g, K_recv, pick(g, ONE(CONN)), 0, 0);
	else if (n < 55)
		gen_life(g);
	else if (n < 68)
		gen_epoll(g);
	else if (n < 76)
		emit(g, once_in(g, 3) ? K_select : K_poll, pick(g, SOCKETS), pick(g, ANYTHING), pick(g, ANYTHING));
	else if (n < 86)
		gen_fd(g);
	else if (n < 89)
		emit(g, K_names, pick(g, SOCKETS), 0, 0);
	else if (n < 94)
		emit(g, once_in(g, 2) ? K_getopt : K_setopt, pick(g, SOCKETS), 0, 0);
	else if (n < 97)
		gen_pipes(g);
	else if (n < 98)
		emit(g, K_fork, 1 + (int)below(g, 5), 0, 0)->bad = 0;
	else
		emit(g, K_kill, (int)below(g, (unsigned)g->p->n_threads), 0, 0)->bad = 0;
}

void program_generate(struct program *p, uint64_t seed)
{
	struct gen g = { .p = p, .rng = seed * 0x2545f4914f6cdd1du + 1 };
	int want;

	p->seed = seed;
	p->n_calls = 0;
	p->n_threads = 2 + (int)below(&g, N_THREADS_MAX - 1);
	want = 12 + (int)below(&g, N_CALLS_MAX - 20);
	gen_pair(&g);
	while (p->n_calls < want)
		gen_one(&g);
}
