/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ip4.h - IP: what TCP and ICMP give and get
 */
#ifndef OWNSTACK_STACK_IP4_H
#define OWNSTACK_STACK_IP4_H

#include "inet.h"
#include "netdev.h"
#include "pbuf.h"

struct stack;
struct timer;

#define IPPROTO_NR_ICMP 1
#define IPPROTO_NR_TCP	6
#define IPPROTO_NR_UDP	17
#define IP4_HDR_BYTES	20

/* A packet for us, checked: lengths are true, the destination is ours, the checksum of a TCP segment is right. */
struct ip_rx {
	struct ipaddr src, dst;
	uint32_t l4_off; /* in the frame */
	uint32_t l4_len; /* octets from there, padding of the frame excluded */
	uint8_t proto, tos, ttl;
	bool looped; /* from ourselves */
};

/*
 * What a connection remembers of its way out, so that a segment costs no look-up: zeroed means nothing. In the tcb; the
 * stack fills it. Valid while gen == st->path_gen and the neighbour is still usable, which ip_output() sees to.
 */
struct ip_path {
	uint32_t gen;
	uint32_t neigh; /* slab index */
	uint32_t flow;	/* IPv6: its flow label */
};

struct ip_tx {
	struct ipaddr src, dst;
	struct ip_path *path;	 /* NULL: look up */
	uint8_t proto, tos, ttl; /* ttl 0: default */
};

/**
 * ip_output() - takes @p and puts it on its way
 * @p:	transport header in hdr (checksum field zero), payload in frags; gso_size set if it is to be cut into segments
 * @tx:	borrowed
 *
 * Puts IP, Ethernet and virtio-net headers in front and finishes the checksum, or leaves it to the device. A packet
 * to an address of our own comes back through stack_input()'s path. No route: dropped and counted. A neighbour that
 * does not answer is told to TCP as an ICMP host unreachable (tcp_icmp_error() with local set).
 */
void ip_output(struct stack *st, struct pbuf *p, const struct ip_tx *tx, usec_t now);
/** ip_confirm() - TCP made progress on this path: its neighbour is reachable. A store or two. */
void ip_confirm(struct stack *st, const struct ip_path *path, usec_t now);
/** ip_mtu() - largest IP packet towards @dst, as far as is known */
uint32_t ip_mtu(const struct stack *st, const struct ipaddr *dst);

/* An ICMP error about a segment of ours, or what stands for one. */
struct ip_error {
	struct ipaddr src, dst;	 /* of the segment we sent: src is ours */
	uint16_t sport, dport;	 /* host order */
	uint32_t seq;		 /* its sequence number, RFC 5927 4 */
	uint8_t type, code;	 /* of ICMP, or ICMPv6 where dst is no IPv4 address */
	uint16_t mtu;		 /* too big to pass: next-hop MTU, 0 unknown */
	uint32_t len;		 /* of the IP packet that is quoted */
	bool local;		 /* made by ourselves: the neighbour did not answer */
};

/** eth_push() - an Ethernet header in front */
void eth_push(const struct stack *st, struct pbuf *p, const uint8_t dst[6], uint16_t type);
void eth_input(struct stack *st, const struct frame *f, bool looped, usec_t now);
void arp_input(struct stack *st, const struct frame *f, usec_t now);
/** arp_send() - a request (1) or reply (2); @dst_mac NULL: broadcast */
void arp_send(struct stack *st, uint16_t op, const uint8_t *dst_mac, const struct ipaddr *spa, const struct ipaddr *tpa,
	      const uint8_t *tha);
void arp_announce_timer(struct stack *st, struct timer *t);
void ip4_input(struct stack *st, const struct frame *f, bool looped, usec_t now);
enum { ICMP4_PROTO_UNREACH = 2, ICMP4_PORT_UNREACH = 3, ICMP4_FRAG_NEEDED = 4 };
void icmp4_input(struct stack *st, const struct frame *f, const struct ip_rx *ip, usec_t now);
/**
 * icmp4_unreachable() - destination unreachable with @code to the sender of @ip, within the rate of RFC 1812 4.3.2.8
 */
void icmp4_unreachable(struct stack *st, const struct frame *f, const struct ip_rx *ip, uint8_t code, usec_t now);
/** icmp4_time_exceeded() - a packet did not become whole in time; @f and @ip: its first fragment */
void icmp4_time_exceeded(struct stack *st, const struct frame *f, const struct ip_rx *ip, usec_t now);
/**
 * icmp_send() - a message of ICMP or ICMPv6, by @tx->proto
 * @rest:	4 octets after the checksum
 * @data:	@len octets behind them; copied
 */
void icmp_send(struct stack *st, const struct ip_tx *tx, uint8_t type, uint8_t code, const uint8_t rest[4], const uint8_t *data,
	       uint32_t len, usec_t now);
/** icmp_checksum_holds() - of the message at @h, of either kind */
bool icmp_checksum_holds(const struct ip_rx *ip, const uint8_t *h);
/** icmp_rate_allows() - may one more error leave; counts it */
bool icmp_rate_allows(struct stack *st, usec_t now);
/** ip_tcp_segment() - borrows a segment for us, its IP header checked; its checksum is looked at */
void ip_tcp_segment(struct stack *st, const struct frame *f, const struct ip_rx *ip, usec_t now);
/** icmp4_unreachable_local() - tells the sender of the TCP segment in @p, which could not be delivered. Borrows. */
void icmp4_unreachable_local(struct stack *st, const struct pbuf *p, usec_t now);

#endif
