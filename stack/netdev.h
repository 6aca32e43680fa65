/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * netdev.h - what the stack and a device say to each other
 *
 * The stack takes and gives Ethernet frames. A frame may be larger than the MTU and its checksum may be unfinished: that is
 * what segmentation and checksum offload mean, and the virtio-net header in front of each frame says so. TAP and AF_PACKET
 * speak the very same 10 bytes (virtio 1.2, 5.1.6; native byte order, as Linux does for TUN_F_* legacy devices).
 */
#ifndef OWNSTACK_STACK_NETDEV_H
#define OWNSTACK_STACK_NETDEV_H

#include <stdbool.h>
#include <stdint.h>

/* Microseconds of a clock that never goes back. */
typedef uint64_t usec_t;
#define USEC_NEVER UINT64_MAX
#define MSEC(n) ((usec_t)(n) * 1000u)
#define SEC(n)	((usec_t)(n) * 1000000u)

enum { VNET_F_NEEDS_CSUM = 1, VNET_F_DATA_VALID = 2 };
enum { VNET_GSO_NONE = 0, VNET_GSO_TCPV4 = 1, VNET_GSO_UDP = 3, VNET_GSO_TCPV6 = 4, VNET_GSO_ECN = 0x80 };

struct vnet_hdr {
	uint8_t flags;
	uint8_t gso_type;
	uint16_t hdr_len;     /* octets up to the end of the TCP header, a hint */
	uint16_t gso_size;    /* octets of payload in each segment */
	uint16_t csum_start;  /* from the start of the frame */
	uint16_t csum_offset; /* from csum_start */
};
#define VNET_HDR_BYTES 10
_Static_assert(sizeof(struct vnet_hdr) == VNET_HDR_BYTES, "virtio-net header is 10 bytes");

/* What a device can do for us. Lives in the arena: values only, no pointers. */
struct netdev_caps {
	uint8_t mac[6];
	uint16_t mtu_bytes;     /* of IP packets, 576..65535 */
	bool csum;              /* finishes checksums on output, may leave them unfinished on input */
	bool tso4, tso6;        /* segments TCP on output, gives super-frames on input */
	uint32_t gso_max_bytes; /* largest IP packet with GSO, 65535 at most */
};

#define ETH_HDR_BYTES	14
#define FRAME_MAX_BYTES (VNET_HDR_BYTES + ETH_HDR_BYTES + 4 + 65535)

/* A frame from the wire, borrowed: valid during stack_input() only. Read its bytes through frame_pull(). */
struct frame {
	const uint8_t *data; /* Ethernet header first */
	uint32_t len;
	struct vnet_hdr vnet;
};

/** frame_pull() - @len octets of the frame at @off, or NULL where the frame is shorter */
static inline const uint8_t *frame_pull(const struct frame *f, uint32_t off, uint32_t len)
{
	return off <= f->len && len <= f->len - off ? f->data + off : 0;
}

#endif
