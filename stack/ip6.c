/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ip6.c - IPv6 (RFC 8200), as Linux does it where the RFC leaves room
 *
 * In: lengths, source and destination are checked, then the extension headers are walked: hop-by-hop and destination
 * options (what we do not know is treated as its two upper bits say), routing headers that have nothing left to route,
 * fragments (ip6_frag.c). Then ICMPv6 or TCP is called. What no header may be is told to the sender (RFC 4443).
 * Out: a header of 40 octets, never an extension; the rest is IPv4's way (ip_output() in ip4.c).
 *
 * The tables of this stack hold IPv4 addresses as ::ffff:a.b.c.d. Such an address must never come from the wire in an
 * IPv6 header: it would be taken for IPv4's.
 */
#include "checksum.h"
#include "ip6.h"
#include "nd.h"
#include "stack_priv.h"
#include "wire.h"

#define EXT_HEADERS_MAX	 32 /* Linux's IP6_MAX_EXT_HDRS_CNT */
#define OPTIONS_MAX	 8  /* of one header that are not padding: IP6_DEFAULT_MAX_HBH_OPTS_CNT */
#define PADDING_MAX	 7
#define OPT_PAD1	 0
#define OPT_PADN	 1
#define OPT_ROUTER_ALERT 5

/* A packet whose extension headers are being walked */
struct walk {
	const struct frame *f;
	struct ip_rx ip;	/* l4_off, l4_len: what is left */
	uint32_t nh_at;		/* octet that says what stands at l4_off, from the IPv6 header */
};

static const uint8_t *ext_bytes(const struct walk *w)
{
	return w->f->data + w->ip.l4_off;
}

static void advance(struct walk *w, uint32_t n)
{
	w->ip.l4_off += n;
	w->ip.l4_len -= n;
}

static bool header_error(struct stack *st, enum stack_drop why)
{
	CNT(st, Ip6InHdrErrors);
	drop(st, why);
	return false;
}

/* RFC 8200 4.2: an option that we do not know; its two upper bits say what is to be done. False: the packet is dropped */
static bool option_unknown(struct stack *st, const struct walk *w, const uint8_t *o, usec_t now)
{
	uint32_t at = (uint32_t)(o - w->f->data) - ETH_HDR_BYTES;

	switch (o[0] >> 6) {
	case 0:
		return true;
	case 3:
		if (ipaddr_is_multicast(w->ip.dst))
			break;
		/* fall through */
	case 2:
		icmp6_error(st, w->f, &w->ip, ICMP6_PARAM_PROBLEM, ICMP6_PARAM_OPTION, at, now);
		break;
	}
	return header_error(st, DROP_IP6_OPTION);
}

/* Options of a hop-by-hop or destination options header, @len octets behind its first two; limits are Linux's */
static bool options_ok(struct stack *st, const struct walk *w, const uint8_t *o, uint32_t len, bool hop, usec_t now)
{
	uint32_t padding = 0, known = 0, n;

	for (; len > 0; o += n, len -= n) {
		n = o[0] == OPT_PAD1 ? 1 : len < 2 ? UINT32_MAX : o[1] + 2u;
		if (n > len)
			return header_error(st, DROP_IP6_OPTION);
		if (o[0] == OPT_PAD1 || o[0] == OPT_PADN) {
			padding += n;
			for (uint32_t i = 2; i < n; i++)
				if (o[i])
					return header_error(st, DROP_IP6_OPTION);
			if (padding > PADDING_MAX)
				return header_error(st, DROP_IP6_OPTION);
			continue;
		}
		padding = 0;
		if (++known > OPTIONS_MAX)
			return header_error(st, DROP_IP6_OPTION);
		if (hop && o[0] == OPT_ROUTER_ALERT) {
			if (o[1] != 2)
				return header_error(st, DROP_IP6_OPTION);
		} else if (!option_unknown(st, w, o, now)) {
			return false;
		}
	}
	return true;
}

/* An extension header of the usual form, "(length + 1) * 8". NULL: cut short */
static const uint8_t *ext_pull(struct stack *st, struct walk *w, uint32_t *ret_len)
{
	const uint8_t *e = ext_bytes(w);

	if (w->ip.l4_len < 8 || (*ret_len = (e[1] + 1u) * 8) > w->ip.l4_len) {
		header_error(st, DROP_IP_SHORT);
		return NULL;
	}
	return e;
}

/* Behind a header of @len octets that is done with */
static void ext_done(struct walk *w, const uint8_t *e, uint32_t len)
{
	w->nh_at = (uint32_t)(e - w->f->data) - ETH_HDR_BYTES;
	w->ip.proto = e[0];
	advance(w, len);
}

static bool take_options(struct stack *st, struct walk *w, bool hop, usec_t now)
{
	uint32_t len;
	const uint8_t *e = ext_pull(st, w, &len);

	if (!e || !options_ok(st, w, e + 2, len - 2, hop, now))
		return false;
	ext_done(w, e, len);
	return true;
}

/* RFC 5095 and Linux with accept_source_route 0: one that has come to its end is skipped, any other refused */
static bool take_routing(struct stack *st, struct walk *w, usec_t now)
{
	uint32_t len;
	const uint8_t *e = ext_pull(st, w, &len);

	if (!e)
		return false;
	if (e[3]) {
		icmp6_error(st, w->f, &w->ip, ICMP6_PARAM_PROBLEM, ICMP6_PARAM_FIELD, w->ip.l4_off + 3 - ETH_HDR_BYTES, now);
		return header_error(st, DROP_IP_OPTION_ROUTE);
	}
	ext_done(w, e, len);
	return true;
}

/* False: nothing is left to do now. A fragment that is the whole packet (RFC 6946) is nothing special. */
static bool take_fragment(struct stack *st, struct walk *w, usec_t now)
{
	const uint8_t *e = ext_bytes(w);
	struct frame whole;

	if (w->ip.l4_len < 8)
		return header_error(st, DROP_IP_SHORT);
	if (ipaddr_is_multicast(w->ip.dst) || w->f->data == st->frags.buf) { /* a fragment in a fragment: nobody needs it */
		drop(st, DROP_IP_FRAGMENT);
		return false;
	}
	if (!(get16(e + 2) & 0xfff9)) {
		ext_done(w, e, 8);
		return true;
	}
	if (ip6_frag_input(st, w->f, w->ip.l4_off, &w->ip, &whole, now))
		ip6_input(st, &whole, w->ip.looped, now);
	return false;
}

static void deliver(struct stack *st, const struct walk *w, usec_t now)
{
	switch (w->ip.proto) {
	case IP6_TCP:
		if (ipaddr_is_multicast(w->ip.dst) || ipaddr_is_any(w->ip.src)) {
			drop(st, DROP_TCP_BROADCAST);
			return;
		}
		CNT(st, Ip6InDelivers);
		ip_tcp_segment(st, w->f, &w->ip, now);
		break;
	case IP6_ICMP:
		CNT(st, Ip6InDelivers);
		icmp6_input(st, w->f, &w->ip, now);
		break;
	case IP6_NONE:
		break;
	case IP6_UDP:
		CNT(st, Ip6InUnknownProtos);
		drop(st, DROP_IP_PROTOCOL);
		icmp6_error(st, w->f, &w->ip, ICMP6_UNREACH, ICMP6_UNREACH_PORT, 0, now);
		break;
	default:
		CNT(st, Ip6InUnknownProtos);
		drop(st, DROP_IP_PROTOCOL);
		icmp6_error(st, w->f, &w->ip, ICMP6_PARAM_PROBLEM, ICMP6_PARAM_NEXT_HEADER, w->nh_at, now);
	}
}

static void take_headers(struct stack *st, struct walk *w, usec_t now)
{
	for (unsigned n = 0; n < EXT_HEADERS_MAX; n++) {
		bool more;

		switch (w->ip.proto) {
		case IP6_HOP_BY_HOP: /* first or not at all */
			if (n > 0) {
				icmp6_error(st, w->f, &w->ip, ICMP6_PARAM_PROBLEM, ICMP6_PARAM_NEXT_HEADER, w->nh_at, now);
				header_error(st, DROP_IP6_OPTION);
				return;
			}
			more = take_options(st, w, true, now);
			break;
		case IP6_DEST_OPTS:
			more = take_options(st, w, false, now);
			break;
		case IP6_ROUTING:
			more = take_routing(st, w, now);
			break;
		case IP6_FRAGMENT:
			more = take_fragment(st, w, now);
			break;
		default:
			deliver(st, w, now);
			return;
		}
		if (!more)
			return;
	}
	header_error(st, DROP_IP6_OPTION);
}

/* What can be no source. Our own address: only from ourselves, save where neighbours look for who has it (nd.c) */
static bool source_ok(const struct stack *st, const struct ip_rx *ip, uint8_t nh)
{
	if (ipaddr_is_multicast(ip->src) || ipaddr_is_v4(ip->src))
		return false;
	if (ip->looped)
		return true;
	return !ipaddr_is_loopback_v6(ip->src) && (nh == IP6_ICMP || !stack_addr_is_ours(st, ip->src));
}

static bool for_us(const struct stack *st, const struct ip_rx *ip)
{
	if (ipaddr_is_multicast(ip->dst))
		return nd_group_is_ours(st, &ip->dst);
	if (ipaddr_is_loopback_v6(ip->dst) && !ip->looped)
		return false;
	return !ipaddr_is_v4(ip->dst) && stack_addr_is_ours(st, ip->dst);
}

void ip6_input(struct stack *st, const struct frame *f, bool looped, usec_t now)
{
	const uint8_t *h = frame_pull(f, ETH_HDR_BYTES, IP6_HDR_BYTES);
	struct walk w = { .f = f, .nh_at = 6 };

	CNT(st, Ip6InReceives);
	if (!h || h[0] >> 4 != 6) {
		header_error(st, h ? DROP_IP_VERSION : DROP_IP_SHORT);
		return;
	}
	w.ip = (struct ip_rx){ .src = ipaddr_v6(h + 8), .dst = ipaddr_v6(h + 24), .l4_off = ETH_HDR_BYTES + IP6_HDR_BYTES,
			       .l4_len = get16(h + 4), .proto = h[6], .tos = (uint8_t)(get16(h) >> 4), .ttl = h[7],
			       .looped = looped };
	if (!frame_pull(f, w.ip.l4_off, w.ip.l4_len)) {
		header_error(st, DROP_IP_SHORT);
		return;
	}
	if (!source_ok(st, &w.ip, h[6])) {
		CNT(st, Ip6InAddrErrors);
		drop(st, DROP_IP_SOURCE);
		return;
	}
	if (!for_us(st, &w.ip)) {
		if (!ipaddr_is_multicast(w.ip.dst))
			CNT(st, Ip6InAddrErrors);
		drop(st, DROP_IP_NOT_OURS);
		return;
	}
	take_headers(st, &w, now);
}

uint8_t ip6_upper(const uint8_t *h, uint32_t len, uint8_t nh, uint32_t from, uint32_t *ret_off)
{
	for (unsigned n = 0; n < EXT_HEADERS_MAX && from + 8 <= len; n++) {
		const uint8_t *e = h + from;

		if (nh == IP6_FRAGMENT) {
			if (get16(e + 2) & 0xfff8)
				break; /* what stands behind it is in another fragment */
			from += 8;
		} else if (nh == IP6_HOP_BY_HOP || nh == IP6_DEST_OPTS || nh == IP6_ROUTING) {
			from += (e[1] + 1u) * 8;
		} else {
			break;
		}
		nh = e[0];
	}
	*ret_off = from < len ? from : len;
	return nh;
}

/* ---- out ---- */

uint32_t ip6_flow_label(const struct stack *st, const struct ip_tx *tx, const uint8_t *l4)
{
	return siphash_tuple(&st->key_flow, &tx->src, get16(l4), &tx->dst, get16(l4 + 2)) & 0xfffff;
}

void ip6_push(const struct stack *st, struct pbuf *p, const struct ip_tx *tx, uint32_t l4_len, uint32_t flow_label)
{
	uint8_t *h = pbuf_push(p, IP6_HDR_BYTES);

	put32(h, 6u << 28 | (uint32_t)tx->tos << 20 | flow_label);
	put16(h + 4, (uint16_t)l4_len);
	h[6] = tx->proto;
	h[7] = tx->ttl ? tx->ttl : st->nd.hop_limit ? st->nd.hop_limit : st->ctl.ip_default_ttl;
	memcpy(h + 8, tx->src.b, 16);
	memcpy(h + 24, tx->dst.b, 16);
	p->len = IP6_HDR_BYTES + l4_len;
}

uint32_t ip6_link_mtu(const struct stack *st)
{
	return st->nd.mtu_bytes && st->nd.mtu_bytes < st->dev.mtu_bytes ? st->nd.mtu_bytes : st->dev.mtu_bytes;
}
