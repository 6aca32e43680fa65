/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_icmp.c - ICMP errors about our segments (RFC 9293 3.9.2.2, RFC 5927, RFC 1191)
 *
 * An error counts only if the sequence number it returns is in flight, so that someone off the path must guess it. A
 * connection that stands takes it as a reason to give later, never as an end; one that is being opened ends. A
 * smaller MTU is believed down to 552 octets (IPv6: 1,280), and for all connections to that destination.
 */
#include <errno.h>
#include "ip6.h"
#include "tcp_priv.h"

#define MIN_PMTU_BYTES 552u /* Linux's ip_rt_min_pmtu */
#define MIN_PMTU_BYTES_V6 1280u /* RFC 8201 4: less is no answer to believe */

enum { ICMP_UNREACH = 3, ICMP_SOURCE_QUENCH = 4, ICMP_TIME_EXCEEDED = 11, ICMP_PARAMETER = 12 };

/* Linux's icmpv6_err_convert() */
static int errno_of_v6(const struct ip_error *e)
{
	static const uint8_t unreach[7] = { ENETUNREACH, EACCES, EHOSTUNREACH, EHOSTUNREACH, ECONNREFUSED, EACCES, EACCES };

	switch (e->type) {
	case ICMP6_UNREACH:
		return e->code < sizeof(unreach) ? unreach[e->code] : EPROTO;
	case ICMP6_TOO_BIG:
		return EMSGSIZE;
	case ICMP6_TIME_EXCEEDED:
		return EHOSTUNREACH;
	default:
		return EPROTO;
	}
}

/* Linux's icmp_err_convert[]; 0: ignored */
static int errno_of(const struct ip_error *e)
{
	static const uint8_t unreach[16] = {
		ENETUNREACH, EHOSTUNREACH, ENOPROTOOPT, ECONNREFUSED, EMSGSIZE, EOPNOTSUPP, ENETUNREACH, EHOSTDOWN,
		ENONET, ENETUNREACH, EHOSTUNREACH, ENETUNREACH, EHOSTUNREACH, EHOSTUNREACH, EHOSTUNREACH, EHOSTUNREACH,
	};

	if (!ipaddr_is_v4(e->dst))
		return errno_of_v6(e);
	switch (e->type) {
	case ICMP_UNREACH:
		return e->code < 16 ? unreach[e->code] : 0;
	case ICMP_TIME_EXCEEDED:
		return EHOSTUNREACH;
	case ICMP_PARAMETER:
		return EPROTO;
	default:
		return 0;
	}
}

/**
 * shrink_mtu() - a router could not pass on what @e quotes
 *
 * It is believed if the packet it quotes was larger than the MTU it names (RFC 5927 7.2), down to 552 octets.
 */
static void shrink_mtu(struct stack *st, struct tcp_conn *t, const struct ip_error *e, usec_t now)
{
	uint32_t was = tcp_path_mtu(st, t), mtu = e->mtu;

	if (mtu == 0) /* a router from before RFC 1191 */
		mtu = was > 1492 ? 1492 : was > 1006 ? 1006 : MIN_PMTU_BYTES;
	if (e->mtu && e->len && e->mtu >= e->len)
		return;
	if (!ipaddr_is_v4(e->dst) && e->mtu < MIN_PMTU_BYTES_V6)
		return;
	if (mtu < MIN_PMTU_BYTES)
		mtu = MIN_PMTU_BYTES;
	if (mtu >= was)
		return;
	if (dst_pmtu_set(st, &t->raddr, (uint16_t)mtu, now) < 0)
		t->pmtu_bytes = (uint16_t)mtu;
	tcp_mss_sync(st, t);
	tcp_lost_all(st, t);
}

/* Linux's icmpv6_err_convert(): what is said for good */
static bool ends_handshake(const struct ip_error *e)
{
	if (!ipaddr_is_v4(e->dst))
		return e->type == ICMP6_PARAM_PROBLEM || (e->type == ICMP6_UNREACH && e->code != 0 && e->code != 2 && e->code != 3);
	return e->type == ICMP_PARAMETER || e->type == ICMP_TIME_EXCEEDED || (e->type == ICMP_UNREACH && e->code <= 1);
}

/* As Linux's tcp_req_err(): only what says that the peer cannot be reached, and only about the SYN-ACK we sent */
static void req_error(struct stack *st, struct tcp_req *r, const struct ip_error *e)
{
	if (e->seq != r->iss || !ends_handshake(e))
		return;
	CNT(st, TcpAttemptFails);
	tcp_req_drop(st, r);
}

void tcp_icmp_error(struct stack *st, const struct ip_error *e, usec_t now)
{
	uint32_t hash = siphash_tuple(&st->key_tuple, &e->src, e->sport, &e->dst, e->dport);
	int err = errno_of(e);
	struct hnode *n;
	struct tcp_conn *t = NULL;

	for (n = htab_first(&st->conns, hash); n && !t; n = htab_next(n)) {
		struct tcb *o = container_of(n, struct tcb, node);

		if (n->kind == TCP_NODE_TCB && o->lport == e->sport && o->rport == e->dport && ipaddr_eq(o->laddr, e->src) &&
		    ipaddr_eq(o->raddr, e->dst)) {
			if (!o->conn)
				return; /* at rest nothing is in flight that it could be about */
			t = o->conn;
		}
		if (n->kind == TCP_NODE_REQ) {
			struct tcp_req *r = container_of(n, struct tcp_req, node);

			if (r->lport == e->sport && r->rport == e->dport && ipaddr_eq(r->laddr, e->src) &&
			    ipaddr_eq(r->raddr, e->dst)) {
				req_error(st, r, e);
				return;
			}
		}
	}
	if (!t || err == 0 || seq_lt(e->seq, t->snd_una) || seq_geq(e->seq, t->snd_nxt))
		return;
	tcp_touch(st, t);
	if (err == EMSGSIZE) {
		if (tcp_is_synchronized(t))
			shrink_mtu(st, t, e, now);
		return;
	}
	if (t->state == TCPS_SYN_SENT || t->state == TCPS_SYN_RECEIVED) {
		CNT(st, TcpAttemptFails);
		tcp_fail(st, t, err);
		return;
	}
	t->soft_error = (uint32_t)err;
}
