/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * icmp6.c - ICMPv6 (RFC 4443): answers echo, hands errors about our segments to TCP, sends errors; neighbour discovery is
 * nd.c's
 */
#include "checksum.h"
#include "ip6.h"
#include "nd.h"
#include "stack_priv.h"
#include "wire.h"

#define ICMP_HDR_BYTES	    8
#define ICMP_INNER_L4_BYTES 8
#define ICMP_QUOTE_MAX	    (IP6_MTU_MIN - IP6_HDR_BYTES - ICMP_HDR_BYTES) /* RFC 4443 2.4 (c) */

void icmp6_finish(struct pbuf *p, const struct ipaddr *src, const struct ipaddr *dst)
{
	uint8_t *m = pbuf_head(p);

	put16_raw(m + 2, (uint16_t)~csum_fold(csum_add(csum_pseudo(src, dst, IP6_ICMP, p->hdr_len), m, p->hdr_len)));
}

/* What was asked of a group is answered from an address of ours, as Linux does (echo_ignore_multicast 0) */
static void echo_reply(struct stack *st, const struct frame *f, const struct ip_rx *ip, usec_t now)
{
	struct ip_tx tx = { .src = ip->dst, .dst = ip->src, .proto = IP6_ICMP, .tos = ip->tos };
	const uint8_t *h = f->data + ip->l4_off;

	CNT(st, Icmp6InEchos);
	if (ipaddr_is_any(ip->src) || (ipaddr_is_multicast(ip->dst) && stack_source_for(st, ip->src, &tx.src) < 0)) {
		drop(st, DROP_ICMP_BROADCAST);
		return;
	}
	CNT(st, Icmp6OutEchoReplies);
	icmp_send(st, &tx, ICMP6_ECHO_REPLY, 0, h + 4, h + ICMP_HDR_BYTES, ip->l4_len - ICMP_HDR_BYTES, now);
}

/**
 * error_input() - a router or the peer speaks about a packet of ours
 *
 * It quotes that packet as far as it goes; ours have no extension headers in front of TCP. Ports and sequence number
 * tell TCP the connection, and whether it can be true (RFC 5927).
 */
static void error_input(struct stack *st, const struct frame *f, const struct ip_rx *ip, usec_t now)
{
	const uint8_t *h = f->data + ip->l4_off, *in = h + ICMP_HDR_BYTES, *l4 = in + IP6_HDR_BYTES;
	uint32_t len = ip->l4_len - ICMP_HDR_BYTES, rest = get32(h + 4);
	struct ip_error e;

	if (len < IP6_HDR_BYTES + ICMP_INNER_L4_BYTES || in[0] >> 4 != 6) {
		CNT(st, Icmp6InErrors);
		drop(st, DROP_ICMP_MALFORMED);
		return;
	}
	e = (struct ip_error){ .src = ipaddr_v6(in + 8), .dst = ipaddr_v6(in + 24), .sport = get16(l4), .dport = get16(l4 + 2),
			       .seq = get32(l4 + 4), .type = h[0], .code = h[1],
			       .mtu = h[0] != ICMP6_TOO_BIG ? 0 : (uint16_t)(rest > 65535 ? 65535 : rest),
			       .len = get16(in + 4) + (uint32_t)IP6_HDR_BYTES };
	if (in[6] != IP6_TCP || ipaddr_is_v4(e.src) || ipaddr_is_v4(e.dst) || !stack_addr_is_ours(st, e.src)) {
		drop(st, DROP_ICMP_TYPE);
		return;
	}
	tcp_icmp_error(st, &e, now);
}

void icmp6_input(struct stack *st, const struct frame *f, const struct ip_rx *ip, usec_t now)
{
	const uint8_t *h = f->data + ip->l4_off;

	CNT(st, Icmp6InMsgs);
	if (ip->l4_len < ICMP_HDR_BYTES) {
		CNT(st, Icmp6InErrors);
		drop(st, DROP_ICMP_MALFORMED);
		return;
	}
	if (!icmp_checksum_holds(ip, h)) {
		CNT(st, Icmp6InErrors);
		drop(st, DROP_ICMP_CHECKSUM);
		return;
	}
	switch (h[0]) {
	case ICMP6_ECHO:
		echo_reply(st, f, ip, now);
		break;
	case ICMP6_UNREACH:
		CNT(st, Icmp6InDestUnreachs);
		error_input(st, f, ip, now);
		break;
	case ICMP6_TOO_BIG:
		CNT(st, Icmp6InPktTooBigs);
		/* fall through */
	case ICMP6_TIME_EXCEEDED:
	case ICMP6_PARAM_PROBLEM:
		error_input(st, f, ip, now);
		break;
	case ICMP6_MLD_QUERY:
	case ICMP6_RS:
	case ICMP6_RA:
	case ICMP6_NS:
	case ICMP6_NA:
	case ICMP6_REDIRECT:
		nd_input(st, f, ip, now);
		break;
	default:
		drop(st, DROP_ICMP_TYPE);
	}
}

/* RFC 4443 2.4 (e): never about an error or a redirect, about what went to many, or came from nobody in particular */
static bool answerable(const struct frame *f, const struct ip_rx *ip, uint8_t type, uint8_t code)
{
	const uint8_t *h = f->data + ETH_HDR_BYTES;
	uint32_t len = ip->l4_off + ip->l4_len - ETH_HDR_BYTES, off;
	bool for_many = ipaddr_is_multicast(ip->dst) || f->data[0] & 1;

	if (for_many && !(type == ICMP6_PARAM_PROBLEM && code == ICMP6_PARAM_OPTION))
		return false;
	if (ipaddr_is_any(ip->src) || ipaddr_is_multicast(ip->src))
		return false;
	if (ip6_upper(h, len, h[6], IP6_HDR_BYTES, &off) != IP6_ICMP)
		return true;
	return off < len && h[off] >= ICMP6_ECHO && h[off] != ICMP6_REDIRECT;
}

void icmp6_error(struct stack *st, const struct frame *f, const struct ip_rx *ip, uint8_t type, uint8_t code, uint32_t rest,
		 usec_t now)
{
	struct ip_tx tx = { .src = ip->dst, .dst = ip->src, .proto = IP6_ICMP };
	uint32_t quote = ip->l4_off - ETH_HDR_BYTES + ip->l4_len;
	uint8_t r[4];

	if (!answerable(f, ip, type, code) || (ipaddr_is_multicast(ip->dst) && stack_source_for(st, ip->src, &tx.src) < 0))
		return;
	if (!icmp_rate_allows(st, now)) {
		drop(st, DROP_ICMP_RATE);
		return;
	}
	if (quote > ICMP_QUOTE_MAX)
		quote = ICMP_QUOTE_MAX;
	put32(r, rest);
	icmp_send(st, &tx, type, code, r, f->data + ETH_HDR_BYTES, quote, now);
}

void icmp6_unreachable_local(struct stack *st, const struct pbuf *p, usec_t now)
{
	const uint8_t *h = p->hdr + p->hdr_off, *l4 = h + IP6_HDR_BYTES;
	struct ip_error e;

	if (p->hdr_len < IP6_HDR_BYTES + ICMP_INNER_L4_BYTES || h[6] != IP6_TCP)
		return;
	e = (struct ip_error){ .src = ipaddr_v6(h + 8), .dst = ipaddr_v6(h + 24), .sport = get16(l4), .dport = get16(l4 + 2),
			       .seq = get32(l4 + 4), .type = ICMP6_UNREACH, .code = ICMP6_UNREACH_ADDR, .local = true };
	tcp_icmp_error(st, &e, now);
}
