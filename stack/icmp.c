/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * icmp.c - ICMP for IPv4 (RFC 792, 1122 3.2.2): answers echo, hands errors about our segments to TCP, sends
 * unreachables
 */
#include "checksum.h"
#include "stack_priv.h"
#include "wire.h"

#define ICMP_HDR_BYTES	     8
#define ICMP_ECHO_REPLY	     0
#define ICMP_UNREACH	     3
#define ICMP_ECHO	     8
#define ICMP_TIME_EXCEEDED   11
#define ICMP_PARAM_PROBLEM   12
#define ICMP_INNER_L4_BYTES  8   /* of the packet in question, RFC 792 */
#define ICMP_QUOTE_MAX	     548 /* RFC 1812 4.3.2.3: as much as fits in 576 octets */
#define ICMP_RATE_PER_SEC    1000
#define ICMP_RATE_BURST	     50

/* Appends octets to the payload of @p in cells of our own. False: out of memory. */
static bool icmp_payload(struct stack *st, struct pbuf *p, const uint8_t *data, uint32_t len)
{
	while (len) {
		struct cell *c = cell_alloc(st, len);
		uint32_t n;
		bool ok;

		if (!c)
			return false;
		n = len < c->cap ? len : c->cap;
		memcpy(c->data, data, n);
		c->len = n;
		ok = pbuf_add_frag(p, c, 0, n);
		cell_put(st, c); /* the frame holds it now */
		if (!ok)
			return false;
		data += n;
		len -= n;
	}
	return true;
}

/* ICMPv6 counts the addresses into its checksum, ICMP does not (RFC 4443 2.3). */
static uint64_t icmp_sum(uint8_t proto, const struct ipaddr *src, const struct ipaddr *dst, uint32_t len)
{
	return proto == IPPROTO_NR_ICMP ? 0 : csum_pseudo(src, dst, proto, len);
}

bool icmp_checksum_holds(const struct ip_rx *ip, const uint8_t *h)
{
	return csum_fold(csum_add(icmp_sum(ip->proto, &ip->src, &ip->dst, ip->l4_len), h, ip->l4_len)) == 0xffff;
}

void icmp_send(struct stack *st, const struct ip_tx *tx, uint8_t type, uint8_t code, const uint8_t rest[4], const uint8_t *data,
	       uint32_t len, usec_t now)
{
	struct pbuf *p = pbuf_alloc(st);
	uint64_t sum;
	uint8_t *h;

	if (!p || !icmp_payload(st, p, data, len)) {
		drop(st, DROP_NO_MEMORY);
		pbuf_free(st, p);
		return;
	}
	h = pbuf_push(p, ICMP_HDR_BYTES);
	h[0] = type;
	h[1] = code;
	put16(h + 2, 0);
	memcpy(h + 4, rest, 4);
	sum = csum_add(icmp_sum(tx->proto, &tx->src, &tx->dst, ICMP_HDR_BYTES + len), h, ICMP_HDR_BYTES);
	put16_raw(h + 2, (uint16_t)~csum_fold(csum_add(sum, data, len)));
	if (tx->proto == IPPROTO_NR_ICMP)
		CNT(st, IcmpOutMsgs);
	else
		CNT(st, Icmp6OutMsgs);
	ip_output(st, p, tx, now);
}

static void echo_reply(struct stack *st, const struct frame *f, const struct ip_rx *ip, usec_t now)
{
	struct ip_tx tx = { .src = ip->dst, .dst = ip->src, .proto = IPPROTO_NR_ICMP, .tos = ip->tos };
	const uint8_t *h = f->data + ip->l4_off;

	CNT(st, IcmpInEchos);
	if (f->data[0] & 1) {
		drop(st, DROP_ICMP_BROADCAST);
		return;
	}
	CNT(st, IcmpOutEchoReps);
	icmp_send(st, &tx, ICMP_ECHO_REPLY, 0, h + 4, h + ICMP_HDR_BYTES, ip->l4_len - ICMP_HDR_BYTES, now);
}

/**
 * error_input() - a router or the peer speaks about a packet of ours
 *
 * It quotes that packet's header and 8 octets of TCP: ports and sequence number, by which TCP finds the connection and
 * judges whether it can be true (RFC 5927).
 */
static void error_input(struct stack *st, const struct frame *f, const struct ip_rx *ip, usec_t now)
{
	const uint8_t *h = f->data + ip->l4_off, *in = h + ICMP_HDR_BYTES, *l4;
	uint32_t len = ip->l4_len - ICMP_HDR_BYTES, hdr_len;
	struct ip_error e;

	hdr_len = len ? (in[0] & 15) * 4u : 0;
	if (len < IP4_HDR_BYTES || in[0] >> 4 != 4 || hdr_len < IP4_HDR_BYTES || len < hdr_len + ICMP_INNER_L4_BYTES) {
		CNT(st, IcmpInErrors);
		drop(st, DROP_ICMP_MALFORMED);
		return;
	}
	l4 = in + hdr_len;
	e = (struct ip_error){ .src = ipaddr_v4(get32_raw(in + 12)), .dst = ipaddr_v4(get32_raw(in + 16)),
			       .sport = get16(l4), .dport = get16(l4 + 2), .seq = get32(l4 + 4),
			       .type = h[0], .code = h[1], .mtu = get16(h + 6), .len = get16(in + 2) };
	if (in[9] != IPPROTO_NR_TCP || (get16(in + 6) & 0x1fff) || !stack_addr_is_ours(st, e.src)) {
		drop(st, DROP_ICMP_TYPE);
		return;
	}
	tcp_icmp_error(st, &e, now);
}

void icmp4_input(struct stack *st, const struct frame *f, const struct ip_rx *ip, usec_t now)
{
	const uint8_t *h = f->data + ip->l4_off;

	CNT(st, IcmpInMsgs);
	if (ip->l4_len < ICMP_HDR_BYTES) {
		CNT(st, IcmpInErrors);
		drop(st, DROP_ICMP_MALFORMED);
		return;
	}
	if (!icmp_checksum_holds(ip, h)) {
		CNT(st, IcmpInErrors);
		drop(st, DROP_ICMP_CHECKSUM);
		return;
	}
	switch (h[0]) {
	case ICMP_ECHO:
		echo_reply(st, f, ip, now);
		break;
	case ICMP_UNREACH:
		CNT(st, IcmpInDestUnreachs);
		/* fall through */
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAM_PROBLEM:
		error_input(st, f, ip, now);
		break;
	default:
		drop(st, DROP_ICMP_TYPE);
	}
}

/* A bucket of tokens, as Linux's icmp_msgs_per_sec and icmp_msgs_burst. */
bool icmp_rate_allows(struct stack *st, usec_t now)
{
	uint64_t fresh = (now - st->icmp_refilled) * ICMP_RATE_PER_SEC / SEC(1);

	if (fresh) {
		st->icmp_tokens = fresh + st->icmp_tokens > ICMP_RATE_BURST ? ICMP_RATE_BURST :
										(uint32_t)(st->icmp_tokens + fresh);
		st->icmp_refilled = now;
	}
	if (!st->icmp_tokens)
		return false;
	st->icmp_tokens--;
	return true;
}

static void send_error(struct stack *st, const struct frame *f, const struct ip_rx *ip, uint8_t type, uint8_t code,
		       usec_t now)
{
	struct ip_tx tx = { .src = ip->dst, .dst = ip->src, .proto = IPPROTO_NR_ICMP, .tos = 0xc0 /* RFC 1812 4.3.2.5 */ };
	const uint8_t none[4] = { 0 };
	uint32_t quote = ip->l4_off - ETH_HDR_BYTES + ip->l4_len;

	/* RFC 1122 3.2.2: never about what was sent to many or came from nobody in particular. */
	if ((f->data[0] & 1) || route_broadcast(st, &ip->src))
		return;
	if (!icmp_rate_allows(st, now)) {
		drop(st, DROP_ICMP_RATE);
		return;
	}
	if (quote > ICMP_QUOTE_MAX)
		quote = ICMP_QUOTE_MAX;
	icmp_send(st, &tx, type, code, none, f->data + ETH_HDR_BYTES, quote, now);
}

void icmp4_unreachable(struct stack *st, const struct frame *f, const struct ip_rx *ip, uint8_t code, usec_t now)
{
	send_error(st, f, ip, ICMP_UNREACH, code, now);
}

void icmp4_time_exceeded(struct stack *st, const struct frame *f, const struct ip_rx *ip, usec_t now)
{
	send_error(st, f, ip, ICMP_TIME_EXCEEDED, 1 /* reassembly */, now);
}

void icmp4_unreachable_local(struct stack *st, const struct pbuf *p, usec_t now)
{
	const uint8_t *h = p->hdr + p->hdr_off, *l4 = h + IP4_HDR_BYTES;
	struct ip_error e;

	if (p->hdr_len < IP4_HDR_BYTES + ICMP_INNER_L4_BYTES || h[9] != IPPROTO_NR_TCP)
		return;
	e = (struct ip_error){ .src = ipaddr_v4(get32_raw(h + 12)), .dst = ipaddr_v4(get32_raw(h + 16)),
			       .sport = get16(l4), .dport = get16(l4 + 2), .seq = get32(l4 + 4),
			       .type = ICMP_UNREACH, .code = 1 /* host */, .local = true };
	tcp_icmp_error(st, &e, now);
}
