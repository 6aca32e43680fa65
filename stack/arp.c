/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * arp.c - ARP (RFC 826) over Ethernet for IPv4; what is learned goes to neigh.c
 *
 * Address conflicts (RFC 5227): whoever gives us an address may have it announced. Another station that claims it is
 * answered by an announcement, at most every ten seconds, and is never learned (2.4 (c): an address is not given up,
 * connections depend on it). We do not probe before use: the address was given by hand.
 */
#include <errno.h>
#include "nd.h"
#include "stack_priv.h"
#include "wire.h"

#define ARP_BYTES   28
#define ANNOUNCE_US SEC(2)  /* RFC 5227 1.1: ANNOUNCE_INTERVAL */
#define DEFEND_US   SEC(10) /* DEFEND_INTERVAL */
#define ARP_REQUEST 1
#define ARP_REPLY   2
static const uint8_t arp_head[6] = { 0, 1, 0x08, 0x00, 6, 4 }; /* Ethernet, IPv4, 6 and 4 octets */
static const uint8_t mac_broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

void arp_send(struct stack *st, uint16_t op, const uint8_t *dst_mac, const struct ipaddr *spa, const struct ipaddr *tpa,
	      const uint8_t *tha)
{
	struct pbuf *p = pbuf_alloc(st);
	uint8_t *a;

	if (!p) {
		drop(st, DROP_NO_MEMORY);
		return;
	}
	a = pbuf_push(p, ARP_BYTES);
	memcpy(a, arp_head, 6);
	put16(a + 6, op);
	memcpy(a + 8, st->dev.mac, 6);
	put32_raw(a + 14, ipaddr_to_v4(*spa));
	memset(a + 18, 0, 6);
	if (tha)
		memcpy(a + 18, tha, 6);
	put32_raw(a + 24, ipaddr_to_v4(*tpa));
	p->len = ARP_BYTES;
	eth_push(st, p, dst_mac ? dst_mac : mac_broadcast, 0x0806);
	memset(pbuf_push(p, VNET_HDR_BYTES), 0, VNET_HDR_BYTES);
	if (op == ARP_REQUEST)
		CNT(st, ArpRequestsOut);
	else
		CNT(st, ArpRepliesOut);
	stack_transmit(st, p);
}

/* Only of a station on our own wire, and never of ourselves: else a forged frame could take any address over. */
static bool learnable(const struct stack *st, const struct ipaddr *spa)
{
	const struct route_row *row = route_lookup(st, spa);

	return row && ipaddr_is_any(row->gateway) && !route_broadcast(st, spa);
}

/* A question about an address of ours, asked by itself: all who know it learn that it is here */
static void announce(struct stack *st, const struct ipaddr *addr)
{
	CNT(st, ArpAnnouncesOut);
	arp_send(st, ARP_REQUEST, NULL, addr, addr, NULL);
}

static void defend(struct stack *st, const struct ipaddr *addr, usec_t now)
{
	struct addr_row *row = route_addr(st, addr);

	if (!row || (row->defended && now - row->defended < DEFEND_US))
		return; /* two stations that both defend would do so for ever */
	row->defended = now;
	announce(st, addr);
}

int stack_addr_announce(struct stack *st, struct ipaddr addr, usec_t now)
{
	struct addr_row *row = route_addr(st, &addr);

	if (!row)
		return -EADDRNOTAVAIL;
	if (!ipaddr_is_v4(addr)) {
		nd_addr_start(st, row, now);
		return 0;
	}
	announce(st, &addr);
	row->timer.kind = TIMER_ADDR;
	wheel_set(&st->wheel, &row->timer, now + ANNOUNCE_US);
	return 0;
}

void arp_announce_timer(struct stack *st, struct timer *t)
{
	announce(st, &container_of(t, struct addr_row, timer)->addr);
}

/**
 * arp_input() - a question or an answer
 * @f:	borrowed, its EtherType is ARP
 *
 * As Linux with its defaults: who asks for us is remembered, since we shall answer him soon; any other ARP frame only
 * changes what we know already (arp_accept 0), so a flood of replies cannot fill the table. A probe (spa 0, RFC 5227
 * 1.1) is answered and not remembered.
 */
void arp_input(struct stack *st, const struct frame *f, usec_t now)
{
	const uint8_t *a = frame_pull(f, ETH_HDR_BYTES, ARP_BYTES), *sha;
	struct ipaddr spa, tpa;
	bool for_us, request;

	if (!a || memcmp(a, arp_head, 6) != 0 || (a[8] & 1) || get16(a + 6) < ARP_REQUEST || get16(a + 6) > ARP_REPLY) {
		drop(st, DROP_ARP_MALFORMED);
		return;
	}
	request = get16(a + 6) == ARP_REQUEST;
	sha = a + 8;
	spa = ipaddr_v4(get32_raw(a + 14));
	tpa = ipaddr_v4(get32_raw(a + 24));
	if (request)
		CNT(st, ArpRequestsIn);
	if (stack_addr_is_ours(st, spa)) {
		if (memcmp(sha, st->dev.mac, 6) != 0) {
			CNT(st, ArpConflicts);
			drop(st, DROP_ARP_CONFLICT);
			defend(st, &spa, now);
		}
		return;
	}
	for_us = stack_addr_is_ours(st, tpa) && tpa.b[12] != 127;
	if (!ipaddr_is_any(spa) && learnable(st, &spa))
		neigh_learned(st, &spa, sha, !request && for_us && !(f->data[0] & 1), request && for_us, now);
	if (!for_us)
		drop(st, DROP_ARP_NOT_OURS);
	else if (request)
		arp_send(st, ARP_REPLY, sha, &tpa, &spa, sha);
}
