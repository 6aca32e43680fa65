/* SPDX-License-Identifier: BSD-2-Clause */
/* ip6.h - IPv6: what the files of this folder give one another */
#ifndef OWNSTACK_STACK_IP6_H
#define OWNSTACK_STACK_IP6_H

#include "ip4.h"

struct neigh;
struct addr_row;

#define IP6_HDR_BYTES	40
#define IP6_MTU_MIN	1280
#define ETHERTYPE_IPV6	0x86dd
enum ip6_next_header {
	IP6_HOP_BY_HOP = 0, IP6_TCP = 6, IP6_UDP = 17, IP6_ROUTING = 43, IP6_FRAGMENT = 44, IP6_ICMP = 58, IP6_NONE = 59,
	IP6_DEST_OPTS = 60,
};

static inline struct ipaddr ipaddr_v6(const void *octets)
{
	struct ipaddr a;

	memcpy(&a, octets, sizeof(a));
	return a;
}
static inline bool ipaddr_is_multicast(struct ipaddr a) /* of IPv6 */
{
	return a.b[0] == 0xff;
}
static inline bool ipaddr_is_link_local(struct ipaddr a) /* of IPv6, unicast */
{
	return a.b[0] == 0xfe && (a.b[1] & 0xc0) == 0x80;
}
static inline bool ipaddr_is_loopback_v6(struct ipaddr a)
{
	return a.q[0] == 0 && a.w[2] == 0 && a.w[3] == __builtin_bswap32(1);
}

/* ---- ip6.c ---- */
void ip6_input(struct stack *st, const struct frame *f, bool looped, usec_t now);
/** ip6_push() - a header in front of @p; @l4_len octets follow it, extension headers among them */
void ip6_push(const struct stack *st, struct pbuf *p, const struct ip_tx *tx, uint32_t l4_len, uint32_t flow_label);
/** ip6_flow_label() - of a TCP connection, by its addresses and ports: @l4 begins with them (RFC 6437) */
uint32_t ip6_flow_label(const struct stack *st, const struct ip_tx *tx, const uint8_t *l4);
uint32_t ip6_link_mtu(const struct stack *st);
/**
 * ip6_upper() - where the headers end that may be in front of the transport's: @from in the IPv6 packet of @len octets at
 * @h whose first octets are @nh's. Looks only.
 * Return: protocol, its place in *ret_off (@len at most)
 */
uint8_t ip6_upper(const uint8_t *h, uint32_t len, uint8_t nh, uint32_t from, uint32_t *ret_off);

/* ---- icmp6.c ---- */
enum icmp6_type {
	ICMP6_UNREACH = 1, ICMP6_TOO_BIG = 2, ICMP6_TIME_EXCEEDED = 3, ICMP6_PARAM_PROBLEM = 4, ICMP6_ECHO = 128, ICMP6_ECHO_REPLY = 129,
	ICMP6_MLD_QUERY = 130, ICMP6_RS = 133, ICMP6_RA = 134, ICMP6_NS = 135, ICMP6_NA = 136, ICMP6_REDIRECT = 137,
	ICMP6_MLD2_REPORT = 143,
};
enum { ICMP6_UNREACH_ADDR = 3, ICMP6_UNREACH_PORT = 4 };
enum { ICMP6_PARAM_FIELD = 0, ICMP6_PARAM_NEXT_HEADER = 1, ICMP6_PARAM_OPTION = 2, ICMP6_PARAM_CHAIN = 3 };
enum { ICMP6_TIME_REASSEMBLY = 1 };
void icmp6_input(struct stack *st, const struct frame *f, const struct ip_rx *ip, usec_t now);
/** icmp6_error() - to the sender of the packet in @f, within the rate; @rest: pointer, MTU or 0 */
void icmp6_error(struct stack *st, const struct frame *f, const struct ip_rx *ip, uint8_t type, uint8_t code, uint32_t rest,
		 usec_t now);
/** icmp6_unreachable_local() - tells the sender of the TCP segment in @p, which could not be delivered. Borrows. */
void icmp6_unreachable_local(struct stack *st, const struct pbuf *p, usec_t now);
/** icmp6_finish() - checksum of the message that @p holds wholly in its headers */
void icmp6_finish(struct pbuf *p, const struct ipaddr *src, const struct ipaddr *dst);

#endif
