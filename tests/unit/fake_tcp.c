/* SPDX-License-Identifier: BSD-2-Clause */
#include "fake_tcp.h"

struct fake_tcp fake_tcp;

int tcp_init(struct stack *st, usec_t now)
{
	(void)now;
	return htab_init(&st->conns, st->region) < 0 ? -1 : htab_init(&st->listeners, st->region);
}

void tcp_input(struct stack *st, const struct frame *f, const struct ip_rx *ip, usec_t now)
{
	uint32_t n = ip->l4_len < sizeof(fake_tcp.l4) ? ip->l4_len : (uint32_t)sizeof(fake_tcp.l4);

	(void)st;
	(void)now;
	fake_tcp.n_input++;
	fake_tcp.ip = *ip;
	memcpy(fake_tcp.l4, f->data + ip->l4_off, n);
}

bool tcp_output_next(struct stack *st, usec_t now)
{
	(void)st;
	(void)now;
	return false;
}

void tcp_memory_freed(struct stack *st)
{
	(void)st;
}

bool tcp_output_pending(const struct stack *st)
{
	(void)st;
	return false;
}

void tcp_timer(struct stack *st, struct timer *t, usec_t now)
{
	(void)st;
	(void)t;
	(void)now;
}

void tcp_icmp_error(struct stack *st, const struct ip_error *e, usec_t now)
{
	(void)st;
	(void)now;
	fake_tcp.n_error++;
	fake_tcp.error = *e;
}

void tcp_repair_slabs(struct stack *st)
{
	(void)st;
}

void tcp_repair_mark_cells(struct stack *st)
{
	(void)st;
}

void tcp_repair(struct stack *st, usec_t now)
{
	(void)st;
	(void)now;
}
