/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ip4.c - IPv4 (RFC 791, host requirements of RFC 1122 3.2)
 *
 * In: lengths, header checksum, source and destination are checked, options walked and skipped, then ICMP or TCP is
 * called. The TCP checksum is verified here, unless the device has done so (virtio-net flags) or the frame never left
 * this host.
 * Out: one packet, DF set and ID 0 as RFC 6864 4.1 allows for what is never fragmented; device offloads are used where
 * they are.
 * Fragments are put together in ip4_frag.c. Not here: nothing is sent in fragments, nothing is forwarded.
 */
#include "checksum.h"
#include "ip6.h"
#include "stack_priv.h"
#include "wire.h"

#define IP4_DF		  0x4000
#define IP4_FRAGMENT_BITS 0x3fff /* MF and offset */
#define IP4_OPT_END	  0
#define IP4_OPT_NOP	  1
#define IP4_OPT_LSRR	  131
#define IP4_OPT_SSRR	  137
#define TCP_CSUM_OFFSET	  16
#define TCP_FLAGS_OFFSET  13
#define TCP_FLAG_SYN	  0x02

/* Source routes are refused, as Linux does (accept_source_route 0), and so are options whose lengths are wrong. */
static bool options_ok(struct stack *st, const uint8_t *o, uint32_t len)
{
	while (len) {
		if (o[0] == IP4_OPT_END)
			return true;
		if (o[0] == IP4_OPT_NOP) {
			o++;
			len--;
			continue;
		}
		if (len < 2 || o[1] < 2 || o[1] > len) {
			CNT(st, IpInHdrErrors);
			drop(st, DROP_IP_SHORT);
			return false;
		}
		if (o[0] == IP4_OPT_LSRR || o[0] == IP4_OPT_SSRR) {
			drop(st, DROP_IP_OPTION_ROUTE);
			return false;
		}
		len -= o[1];
		o += o[1];
	}
	return true;
}

/* RFC 1122 3.2.1.3: never a source. Our own addresses come only from ourselves. */
static bool source_ok(struct stack *st, const struct ipaddr *src, bool looped)
{
	uint8_t first = src->b[12];

	if (looped)
		return true;
	return first != 0 && first != 127 && first < 224 && !stack_addr_is_ours(st, *src);
}

static bool csum_trusted(const struct frame *f, bool looped)
{
	return looped || (f->vnet.flags & (VNET_F_NEEDS_CSUM | VNET_F_DATA_VALID));
}

void ip_tcp_segment(struct stack *st, const struct frame *f, const struct ip_rx *ip, usec_t now)
{
	const uint8_t *l4 = f->data + ip->l4_off;
	uint64_t sum;

	/* Only a SYN can make something new, so only there is a directed broadcast as source looked for. */
	if ((f->data[0] & 1) || (ip->l4_len > TCP_FLAGS_OFFSET && (l4[TCP_FLAGS_OFFSET] & TCP_FLAG_SYN) &&
				 !ip->looped &&
				 route_broadcast(st, &ip->src))) {
		drop(st, DROP_TCP_BROADCAST);
		return;
	}
	if (!csum_trusted(f, ip->looped)) {
		sum = csum_add(csum_pseudo(&ip->src, &ip->dst, IPPROTO_NR_TCP, ip->l4_len), l4, ip->l4_len);
		if (csum_fold(sum) != 0xffff) {
			CNT(st, TcpInErrs);
			CNT(st, TcpInCsumErrors);
			drop(st, DROP_TCP_CHECKSUM);
			return;
		}
	}
	tcp_input(st, f, ip, now);
}

static void deliver(struct stack *st, const struct frame *f, const struct ip_rx *ip, usec_t now)
{
	switch (ip->proto) {
	case IPPROTO_NR_TCP:
		CNT(st, IpInDelivers);
		ip_tcp_segment(st, f, ip, now);
		break;
	case IPPROTO_NR_ICMP:
		CNT(st, IpInDelivers);
		icmp4_input(st, f, ip, now);
		break;
	case IPPROTO_NR_UDP:
		CNT(st, IpInUnknownProtos);
		drop(st, DROP_IP_PROTOCOL);
		icmp4_unreachable(st, f, ip, ICMP4_PORT_UNREACH, now);
		break;
	default:
		CNT(st, IpInUnknownProtos);
		drop(st, DROP_IP_PROTOCOL);
		icmp4_unreachable(st, f, ip, ICMP4_PROTO_UNREACH, now);
	}
}

void ip4_input(struct stack *st, const struct frame *f, bool looped, usec_t now)
{
	const uint8_t *h = frame_pull(f, ETH_HDR_BYTES, IP4_HDR_BYTES);
	uint32_t hdr_len, total;
	struct ip_rx ip;

	CNT(st, IpInReceives);
	if (!h || h[0] >> 4 != 4) {
		CNT(st, IpInHdrErrors);
		drop(st, h ? DROP_IP_VERSION : DROP_IP_SHORT);
		return;
	}
	hdr_len = (h[0] & 15) * 4u;
	total = get16(h + 2);
	if (hdr_len < IP4_HDR_BYTES || total < hdr_len || !frame_pull(f, ETH_HDR_BYTES, total)) {
		CNT(st, IpInHdrErrors);
		drop(st, DROP_IP_SHORT);
		return;
	}
	if ((hdr_len == IP4_HDR_BYTES ? csum_ip4_hdr(h) : csum_fold(csum_add(0, h, hdr_len))) != 0xffff) {
		CNT(st, IpInHdrErrors);
		drop(st, DROP_IP_CHECKSUM);
		return;
	}
	ip = (struct ip_rx){ .src = ipaddr_v4(get32_raw(h + 12)), .dst = ipaddr_v4(get32_raw(h + 16)),
			     .l4_off = ETH_HDR_BYTES + hdr_len, .l4_len = total - hdr_len, .proto = h[9], .tos = h[1],
			     .ttl = h[8], .looped = looped };
	if (!source_ok(st, &ip.src, looped)) {
		CNT(st, IpInAddrErrors);
		drop(st, DROP_IP_SOURCE);
		return;
	}
	if (!stack_addr_is_ours(st, ip.dst) || (ip.dst.b[12] == 127 && !looped)) {
		/* Not an error of the sender's if it was for everybody: nobody here listens to broadcasts. */
		if (!route_broadcast(st, &ip.dst))
			CNT(st, IpInAddrErrors);
		drop(st, DROP_IP_NOT_OURS);
		return;
	}
	if (hdr_len > IP4_HDR_BYTES && !options_ok(st, h + IP4_HDR_BYTES, hdr_len - IP4_HDR_BYTES))
		return;
	if (get16(h + 6) & IP4_FRAGMENT_BITS) {
		struct frame whole;

		/* taken in from the start: the header is checked again, it costs little and nothing can be forgotten */
		if (ip4_frag_input(st, f, h, &ip, &whole, now))
			ip4_input(st, &whole, looped, now);
		return;
	}
	deliver(st, f, &ip, now);
}

/* ---- out ---- */

static uint64_t csum_frags(const struct pbuf *p, uint64_t sum)
{
	bool odd = false;

	for (unsigned i = 0; i < p->n_frags; i++) {
		const struct pbuf_frag *g = &p->frag[i];
		const uint8_t *d = g->cell->data + g->off;

		sum = odd ? csum_add_odd(sum, d, g->len) : csum_add(sum, d, g->len);
		odd ^= g->len & 1;
	}
	return sum;
}

/* The header of TCP has an even length, so the payload begins at an even offset. */
static void tcp_checksum(const struct stack *st, struct pbuf *p, const struct ip_tx *tx, uint32_t l4_len, bool looped)
{
	uint8_t *l4 = pbuf_head(p);
	uint64_t sum = csum_pseudo(&tx->src, &tx->dst, tx->proto, l4_len);

	if (looped)
		return;
	if (st->dev.csum) {
		put16_raw(l4 + TCP_CSUM_OFFSET, csum_fold(sum));
		p->csum_offset = TCP_CSUM_OFFSET;
		return;
	}
	sum = csum_frags(p, csum_add(sum, l4, p->hdr_len));
	put16_raw(l4 + TCP_CSUM_OFFSET, (uint16_t)~csum_fold(sum));
}

static void ip4_push(const struct stack *st, struct pbuf *p, const struct ip_tx *tx, uint32_t total)
{
	uint8_t *h = pbuf_push(p, IP4_HDR_BYTES);

	h[0] = 0x45;
	h[1] = tx->tos;
	put16(h + 2, (uint16_t)total);
	put16(h + 4, 0);
	put16(h + 6, IP4_DF);
	h[8] = tx->ttl ? tx->ttl : st->ctl.ip_default_ttl;
	h[9] = tx->proto;
	put16(h + 10, 0);
	put32_raw(h + 12, ipaddr_to_v4(tx->src));
	put32_raw(h + 16, ipaddr_to_v4(tx->dst));
	put16_raw(h + 10, (uint16_t)~csum_ip4_hdr(h));
	p->len = total;
}

/* No device sees this frame; its headers are there for who captures. */
static void ip_loop(struct stack *st, struct pbuf *p, bool v4)
{
	struct vnet_hdr v = { .flags = VNET_F_DATA_VALID };

	eth_push(st, p, st->dev.mac, v4 ? 0x0800 : ETHERTYPE_IPV6);
	if (p->gso_size) {
		v.gso_type = v4 ? VNET_GSO_TCPV4 : VNET_GSO_TCPV6;
		v.gso_size = p->gso_size;
		v.hdr_len = p->hdr_len;
	}
	memcpy(pbuf_push(p, VNET_HDR_BYTES), &v, VNET_HDR_BYTES);
	stack_loop(st, p);
}

static void ip_route(struct stack *st, struct pbuf *p, const struct ip_tx *tx, uint32_t flow, usec_t now)
{
	const struct route_row *row = route_lookup(st, &tx->dst);
	struct neigh *n = NULL;

	if (!row) {
		if (ipaddr_is_v4(tx->dst))
			CNT(st, IpOutNoRoutes);
		else
			CNT(st, Ip6OutNoRoutes);
		drop(st, DROP_IP_NO_ROUTE);
		pbuf_free(st, p);
		return;
	}
	neigh_output(st, p, route_next_hop(st, row, &tx->dst), &n, now);
	if (n && tx->path)
		*tx->path = (struct ip_path){ .gen = st->path_gen, .neigh = slab_index(&st->neighs.slab, n), .flow = flow };
}

/* IP's header, of whichever version; tells the flow label, where there is one */
static uint32_t ip_push(struct stack *st, struct pbuf *p, const struct ip_tx *tx, uint32_t l4_len, bool v4, bool cached)
{
	uint32_t flow;

	if (v4) {
		CNT(st, IpOutRequests);
		ip4_push(st, p, tx, l4_len + IP4_HDR_BYTES);
		return 0;
	}
	CNT(st, Ip6OutRequests);
	flow = cached ? tx->path->flow : tx->proto == IPPROTO_NR_TCP ? ip6_flow_label(st, tx, pbuf_head(p)) : 0;
	ip6_push(st, p, tx, l4_len, flow);
	return flow;
}

void ip_output(struct stack *st, struct pbuf *p, const struct ip_tx *tx, usec_t now)
{
	uint32_t l4_len = p->hdr_len, total, flow;
	bool v4 = ipaddr_is_v4(tx->dst), cached = tx->path && tx->path->gen == st->path_gen, looped = !cached && stack_addr_is_ours(st, tx->dst);

	for (unsigned i = 0; i < p->n_frags; i++)
		l4_len += p->frag[i].len;
	total = l4_len + (v4 ? IP4_HDR_BYTES : IP6_HDR_BYTES);
	if (l4_len - p->hdr_len <= p->gso_size)
		p->gso_size = 0; /* one segment after all */
	if (total > (looped || (p->gso_size && (v4 ? st->dev.tso4 : st->dev.tso6)) ? 65535u : st->dev.mtu_bytes)) {
		drop(st, DROP_IP_TOO_BIG);
		pbuf_free(st, p);
		return;
	}
	if (tx->proto == IPPROTO_NR_TCP)
		tcp_checksum(st, p, tx, l4_len, looped);
	flow = ip_push(st, p, tx, l4_len, v4, cached);
	if (looped)
		ip_loop(st, p, v4);
	else if (cached)
		/* the row is there: path_gen changes when one is freed */
		neigh_output_row(st, slab_at(&st->neighs.slab, tx->path->neigh), p, now);
	else
		ip_route(st, p, tx, flow, now);
}

void ip_confirm(struct stack *st, const struct ip_path *path, usec_t now)
{
	struct neigh *n;

	if (path->gen != st->path_gen)
		return;
	n = slab_at(&st->neighs.slab, path->neigh);
	if (n)
		n->confirmed = now;
}

uint32_t ip_mtu(const struct stack *st, const struct ipaddr *dst)
{
	const struct dst *d = dst_find(st, dst);
	uint32_t link = ipaddr_is_v4(*dst) ? st->dev.mtu_bytes : ip6_link_mtu(st);

	return d && d->pmtu_bytes && d->pmtu_bytes < link ? d->pmtu_bytes : link;
}
