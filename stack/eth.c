/* SPDX-License-Identifier: BSD-2-Clause */
#include "ip6.h"
#include "stack_priv.h"
#include "wire.h"

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_ARP  0x0806

void eth_input(struct stack *st, const struct frame *f, bool looped, usec_t now)
{
	const uint8_t *h = frame_pull(f, 0, ETH_HDR_BYTES);

	if (!h) {
		drop(st, DROP_ETH_SHORT);
		return;
	}
	if (!(h[0] & 1) && memcmp(h, st->dev.mac, 6) != 0) {
		drop(st, DROP_ETH_NOT_OURS);
		return;
	}
	switch (get16(h + 12)) {
	case ETHERTYPE_IPV4:
		ip4_input(st, f, looped, now);
		break;
	case ETHERTYPE_IPV6:
		if (st->nd.on)
			ip6_input(st, f, looped, now);
		else
			drop(st, DROP_ETH_TYPE);
		break;
	case ETHERTYPE_ARP:
		arp_input(st, f, now);
		break;
	default:
		drop(st, DROP_ETH_TYPE);
	}
}

void eth_push(const struct stack *st, struct pbuf *p, const uint8_t dst[6], uint16_t type)
{
	uint8_t *h = pbuf_push(p, ETH_HDR_BYTES);

	memcpy(h, dst, 6);
	memcpy(h + 6, st->dev.mac, 6);
	put16(h + 12, type);
	p->len += ETH_HDR_BYTES;
}
