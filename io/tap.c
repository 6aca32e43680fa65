/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tap.c - opening a queue of a TAP device
 *
 * Segmentation and checksum offload are what makes a TAP fast: with them the kernel's side gives and takes TCP frames of up
 * to 64 KiB with unfinished checksums, whatever the MTU. IFF_NAPI stays off: it costs 400 ns a frame and gains nothing.
 */
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include "io.h"
#include "sys.h"

#define TAP_TXQUEUELEN	 4000 /* frames that wait for us; 500, the default, is one burst of small ones */
#define TAP_BUSY_MAX_US	 SEC(1)
#define TAP_BUSY_STEP_US MSEC(10)
#define TAP_FLAGS	 (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)

static void wait_us(usec_t us)
{
	struct timespec ts = { (time_t)(us / 1000000), (long)(us % 1000000) * 1000 };

	SYS6(SYS_ppoll, 0, 0, &ts, 0, 0, 0);
}

/**
 * tap_attach() - TUNSETIFF, patiently
 *
 * A queue whose last owner has just exited is EBUSY for some 100 ms more, until its requests have ended, and nothing tells
 * when. A persistent device that was made with one queue refuses IFF_MULTI_QUEUE (EINVAL) and is taken as it is.
 */
static int tap_attach(int fd, struct ifreq *ifr)
{
	usec_t until = io_now() + TAP_BUSY_MAX_US;
	short flags = TAP_FLAGS | IFF_MULTI_QUEUE;
	long r;

	for (;;) {
		ifr->ifr_flags = flags;
		r = SYS3(SYS_ioctl, fd, TUNSETIFF, ifr);
		if (r == -EINVAL && (flags & IFF_MULTI_QUEUE)) {
			flags = TAP_FLAGS;
			continue;
		}
		if (r != -EBUSY || io_now() >= until)
			return (int)r;
		wait_us(TAP_BUSY_STEP_US);
	}
}

static void tap_offload(int fd, struct netdev_caps *caps)
{
	static const struct {
		unsigned flags;
		bool csum, tso;
	} sets[] = {
		{ TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN, true, true },
		{ TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6, true, true },
		{ TUN_F_CSUM, true, false },
	};

	for (unsigned i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
		if (SYS3(SYS_ioctl, fd, TUNSETOFFLOAD, sets[i].flags) < 0)
			continue;
		caps->csum = sets[i].csum;
		caps->tso4 = caps->tso6 = sets[i].tso;
		return;
	}
}

/** tap_mac() - ours, from the name: locally administered, and never the one the kernel's side has */
static void tap_mac(const char *ifname, const uint8_t kernel_mac[6], uint8_t ret_mac[6])
{
	uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */

	for (; *ifname; ifname++)
		h = (h ^ (uint8_t)*ifname) * 0x100000001b3u;
	ret_mac[0] = 0x02;
	for (int i = 1; i < 6; i++)
		ret_mac[i] = (uint8_t)(h >> (8 * i));
	if (!memcmp(ret_mac, kernel_mac, 6))
		ret_mac[5] ^= 1;
}

/** tap_tell() - queue length and MTU are set, MTU and address asked, through any socket */
static int tap_tell(const struct io_dev_config *cfg, struct ifreq *ifr, uint16_t *ret_mtu, uint8_t ret_kernel_mac[6])
{
	int fd = (int)SYS3(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	long r;

	if (fd < 0)
		return fd;
	ifr->ifr_qlen = TAP_TXQUEUELEN;
	SYS3(SYS_ioctl, fd, SIOCSIFTXQLEN, ifr); /* not ours to insist on: a device given to us by the administrator */
	ifr->ifr_mtu = cfg->mtu_bytes;
	r = cfg->mtu_bytes ? SYS3(SYS_ioctl, fd, SIOCSIFMTU, ifr) : 0;
	if (r == 0)
		r = SYS3(SYS_ioctl, fd, SIOCGIFMTU, ifr);
	if (r == 0)
		*ret_mtu = (uint16_t)(ifr->ifr_mtu > UINT16_MAX ? UINT16_MAX : ifr->ifr_mtu);
	if (r == 0)
		r = SYS3(SYS_ioctl, fd, SIOCGIFHWADDR, ifr);
	if (r == 0)
		memcpy(ret_kernel_mac, ifr->ifr_hwaddr.sa_data, 6);
	sys_close(fd);
	return (int)r;
}

static int tap_setup(int fd, struct io_dev_config *cfg, struct netdev_caps *caps)
{
	static const uint8_t none[6];
	int hdr_bytes = VNET_HDR_BYTES, r;
	uint8_t kernel_mac[6];
	struct ifreq ifr;

	memset(&ifr, 0, sizeof(ifr));
	memcpy(ifr.ifr_name, cfg->ifname, sizeof(cfg->ifname) - 1);
	r = tap_attach(fd, &ifr);
	if (r == 0)
		r = (int)SYS3(SYS_ioctl, fd, TUNSETVNETHDRSZ, &hdr_bytes);
	if (r < 0)
		return r;
	tap_offload(fd, caps);
	r = tap_tell(cfg, &ifr, &caps->mtu_bytes, kernel_mac);
	if (r < 0)
		return r;
	memcpy(cfg->ifname, ifr.ifr_name, sizeof(cfg->ifname));
	if (!memcmp(cfg->mac, none, 6))
		tap_mac(cfg->ifname, kernel_mac, cfg->mac);
	else if (!memcmp(cfg->mac, kernel_mac, 6))
		return -EADDRINUSE; /* two stations of one address on one wire */
	memcpy(caps->mac, cfg->mac, 6);
	caps->gso_max_bytes = caps->tso4 ? 65535 : caps->mtu_bytes;
	return 0;
}

static bool tap_exists(const char *ifname)
{
	struct ifreq ifr;
	int fd = (int)SYS3(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	long r;

	memset(&ifr, 0, sizeof(ifr));
	memcpy(ifr.ifr_name, ifname, sizeof(ifr.ifr_name) - 1);
	r = fd < 0 ? fd : SYS3(SYS_ioctl, fd, SIOCGIFINDEX, &ifr);
	sys_close(fd);
	return r == 0;
}

int io_tap_open(struct io_dev_config *cfg, struct netdev_caps *ret_caps)
{
	struct netdev_caps caps = { 0 };
	int fd, r;

	if (!cfg->create && !tap_exists(cfg->ifname))
		return -ENODEV;
	fd = (int)SYS6(SYS_openat, AT_FDCWD, "/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC, 0, 0, 0);
	if (fd < 0)
		return fd;
	r = tap_setup(fd, cfg, &caps);
	if (r < 0) {
		sys_close(fd);
		return r;
	}
	*ret_caps = caps;
	return fd;
}
