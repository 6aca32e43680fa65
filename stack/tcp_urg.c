/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_urg.c - urgent data (RFC 9293 3.8.5, RFC 6093), as Linux's tcp_check_urg(), tcp_urg() and tcp_recv_urg()
 *
 * The urgent pointer marks the octet behind the urgent one (RFC 6093 3.1). That octet, rcv_up, stays where it is in the
 * receive queue; a copy is kept in urg_data as soon as it arrives, for recv(MSG_OOB). Reading the stream stops in front
 * of it, once; then it is left out (a hole), unless SO_OOBINLINE is set. Only the last mark is kept: what was urgent
 * before becomes ordinary data, or is left out where the reader stood right in front of it.
 */
#include <errno.h>
#include "tcp_priv.h"

/* The reader stands in front of the old urgent octet and a new one comes: the old one will not be read any more. */
static void skip_old(struct stack *st, struct tcb *t)
{
	if (t->rcv_up != t->copied_seq || t->opts.oobinline || t->copied_seq == t->rcv_nxt || t->flags & TF_RCV_BUSY)
		return;
	tcp_recv_skip(st, t);
}

/* Is the pointer of @s news */
static void check_pointer(struct stack *st, struct tcb *t, const struct tcp_seg *s)
{
	uint32_t up = s->seq + s->urg - (s->urg > 0);

	if (seq_gt(t->copied_seq, up) || seq_lt(up, t->rcv_nxt))
		return;
	if (t->urg_data && seq_leq(up, t->rcv_up))
		return;
	if (t->urg_data)
		skip_old(st, t);
	t->urg_data = TCP_URG_NOTYET;
	t->rcv_up = up;
	tcp_event(st, t, TCP_EV_PRI | TCP_EV_URG); /* even if the octet comes later */
}

void tcp_urg_take(struct stack *st, struct tcb *t, const struct tcp_seg *s)
{
	if (t->flags & TF_FIN_RCVD)
		return;
	if (s->flags & TH_URG)
		check_pointer(st, t, s);
	if (t->urg_data == TCP_URG_NOTYET && t->rcv_up - s->seq < s->len) {
		t->urg_data = (uint16_t)(TCP_URG_VALID | s->data[t->rcv_up - s->seq]);
		tcp_event(st, t, TCP_EV_PRI);
	}
}

bool tcp_at_mark(const struct tcb *t)
{
	return t->urg_data && t->rcv_up == t->copied_seq;
}

bool tcp_mark_after(const struct tcb *t, size_t skip)
{
	return t->urg_data && t->rcv_up - t->copied_seq == skip;
}

void tcp_mark_pass(struct stack *st, struct tcb *t)
{
	if (t->rcv_bytes != 1 || t->flags & TF_RCV_BUSY || !tcp_hole_first(t))
		return;
	stack_touch(st, slab_index(&st->tcbs, t));
	tcp_recv_skip(st, t);
}

int tcp_recv_oob(struct stack *st, struct tcb *t, bool peek, uint8_t *ret_octet)
{
	if (t->opts.oobinline || !t->urg_data || t->urg_data == TCP_URG_READ)
		return -EINVAL;
	if (t->state == TCPS_CLOSED && !(t->flags & TF_FIN_RCVD))
		return -ENOTCONN;
	if (t->urg_data & TCP_URG_VALID) {
		*ret_octet = (uint8_t)t->urg_data;
		if (!peek) {
			stack_touch(st, slab_index(&st->tcbs, t));
			t->urg_data = TCP_URG_READ;
		}
		return 1;
	}
	return t->state == TCPS_CLOSED || t->flags & TF_RCV_SHUT ? 0 : -EAGAIN;
}
