/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * af_packet.c - opening a packet socket on an interface that carries no kernel address of ours
 *
 * The same 10-byte header as on a TAP stands before each frame (PACKET_VNET_HDR), so that super-frames and unfinished
 * checksums pass both ways here too. The kernel must stay silent on our behalf: that is a matter of how the interface is
 * set up (no address on it), not of this socket.
 */
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include "io.h"
#include "sys.h"

#ifndef SOL_PACKET
#define SOL_PACKET 263
#endif
#define PACKET_RCVBUF_BYTES (32 << 20) /* some 400 super-frames */
#define PACKET_SNDBUF_BYTES (8 << 20)  /* what a real card may hold unsent */

static long packet_option(int fd, int level, int name, int value)
{
	return SYS6(SYS_setsockopt, fd, level, name, &value, sizeof(value), 0);
}

static void packet_buffer(int fd, int force, int plain, int bytes)
{
	if (packet_option(fd, SOL_SOCKET, force, bytes) < 0) /* needs CAP_NET_ADMIN */
		packet_option(fd, SOL_SOCKET, plain, bytes);
}

static int packet_ask(int fd, const struct io_dev_config *cfg, int *ret_index, struct netdev_caps *caps)
{
	struct ifreq ifr;
	long r;

	memset(&ifr, 0, sizeof(ifr));
	memcpy(ifr.ifr_name, cfg->ifname, sizeof(cfg->ifname) - 1);
	r = SYS3(SYS_ioctl, fd, SIOCGIFINDEX, &ifr);
	*ret_index = ifr.ifr_ifindex;
	if (r == 0)
		r = SYS3(SYS_ioctl, fd, SIOCGIFMTU, &ifr);
	caps->mtu_bytes = (uint16_t)(ifr.ifr_mtu > UINT16_MAX ? UINT16_MAX : ifr.ifr_mtu);
	if (cfg->mtu_bytes && cfg->mtu_bytes < caps->mtu_bytes)
		caps->mtu_bytes = cfg->mtu_bytes; /* smaller is our own affair, larger the interface would refuse */
	else if (cfg->mtu_bytes > caps->mtu_bytes)
		return -EMSGSIZE;
	if (r == 0)
		r = SYS3(SYS_ioctl, fd, SIOCGIFHWADDR, &ifr);
	memcpy(caps->mac, ifr.ifr_hwaddr.sa_data, 6);
	return (int)r;
}

/** packet_take_mac() - with an address that is not the interface's, its frames must be let through to us */
static int packet_take_mac(int fd, int index, struct io_dev_config *cfg, struct netdev_caps *caps)
{
	struct packet_mreq mr = { .mr_ifindex = index, .mr_type = PACKET_MR_PROMISC };
	static const uint8_t none[6];

	if (!memcmp(cfg->mac, none, 6))
		memcpy(cfg->mac, caps->mac, 6);
	if (!memcmp(cfg->mac, caps->mac, 6))
		return 0;
	memcpy(caps->mac, cfg->mac, 6);
	return (int)SYS6(SYS_setsockopt, fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &mr, sizeof(mr), 0);
}

static int packet_setup(int fd, struct io_dev_config *cfg, struct netdev_caps *caps)
{
	struct sockaddr_ll sa = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	int index = 0, pending, r;
	socklen_t len = sizeof(pending);

	r = packet_ask(fd, cfg, &index, caps);
	if (r == 0)
		r = (int)packet_option(fd, SOL_PACKET, PACKET_VNET_HDR, 1);
	if (r < 0)
		return r;
	packet_option(fd, SOL_PACKET, PACKET_QDISC_BYPASS, 1);
	packet_option(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1);
	packet_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, PACKET_RCVBUF_BYTES);
	packet_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, PACKET_SNDBUF_BYTES);
	r = packet_take_mac(fd, index, cfg, caps);
	if (r < 0)
		return r;
	caps->csum = caps->tso4 = caps->tso6 = true;
	caps->gso_max_bytes = 65535;
	sa.sll_ifindex = index;
	r = (int)SYS3(SYS_bind, fd, &sa, sizeof(sa)); /* last: from here on frames come in */
	/* on an interface that is not up yet, bind leaves ENETDOWN behind for whatever comes next: the first frame it would be */
	SYS6(SYS_getsockopt, fd, SOL_SOCKET, SO_ERROR, &pending, &len, 0);
	return r;
}

int io_packet_open(struct io_dev_config *cfg, struct netdev_caps *ret_caps)
{
	struct netdev_caps caps = { 0 };
	/* protocol 0: no frame of any interface before the socket is bound to ours */
	int fd = (int)SYS3(SYS_socket, AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), r;

	if (fd < 0)
		return fd;
	r = packet_setup(fd, cfg, &caps);
	if (r < 0) {
		sys_close(fd);
		return r;
	}
	*ret_caps = caps;
	return fd;
}
