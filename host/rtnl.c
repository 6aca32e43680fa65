/* SPDX-License-Identifier: BSD-2-Clause */
#include <arpa/inet.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdlib.h>
#include "rtnl.h"
#include "sys.h"

int rtnl_link_up(const char *ifname)
{
	struct ifreq ifr = { 0 };
	int fd = sys_socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc;

	if (fd < 0)
		return fd;
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", ifname);
	rc = sys_ioctl(fd, 0x8913 /* SIOCGIFFLAGS */, &ifr);
	if (!rc && !(ifr.ifr_flags & IFF_UP)) {
		ifr.ifr_flags |= IFF_UP;
		rc = sys_ioctl(fd, 0x8914 /* SIOCSIFFLAGS */, &ifr);
	}
	sys_close(fd);
	return rc;
}

static unsigned ifindex_of(int fd, const char *ifname)
{
	struct ifreq ifr = { 0 };

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", ifname);
	return sys_ioctl(fd, 0x8933 /* SIOCGIFINDEX */, &ifr) ? 0 : (unsigned)ifr.ifr_ifindex;
}

uint32_t rtnl_ifindex(const char *ifname)
{
	int fd = sys_socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint32_t index;

	if (fd < 0)
		return 0;
	index = ifindex_of(fd, ifname);
	sys_close(fd);
	return index;
}

struct addr_req {
	struct nlmsghdr nh;
	struct ifaddrmsg ifa;
	char attr[64];
};

static void attr_put(struct addr_req *r, unsigned short type, const void *data, unsigned short len)
{
	struct rtattr *a = (struct rtattr *)((char *)r + NLMSG_ALIGN(r->nh.nlmsg_len));

	a->rta_type = type;
	a->rta_len = (unsigned short)RTA_LENGTH(len);
	memcpy(RTA_DATA(a), data, len);
	r->nh.nlmsg_len = NLMSG_ALIGN(r->nh.nlmsg_len) + RTA_ALIGN(a->rta_len);
}

int rtnl_addr_add(const char *ifname, const struct config_cidr *addr)
{
	struct addr_req r = {
		.nh = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct ifaddrmsg)), .nlmsg_type = RTM_NEWADDR,
			.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL },
		.ifa = { .ifa_family = AF_INET, .ifa_prefixlen = addr->prefix_len, .ifa_scope = RT_SCOPE_UNIVERSE },
	};
	bool v4 = ipaddr_is_v4(addr->addr);
	const void *octets = v4 ? (const void *)&addr->addr.w[3] : addr->addr.b;
	unsigned short octets_n = v4 ? 4 : 16;
	struct {
		struct nlmsghdr nh;
		struct nlmsgerr err;
	} ack;
	int fd = sys_socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), ifd = sys_socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ssize_t n = fd < 0 ? fd : ifd < 0 ? ifd : 0;

	if (!n) {
		r.ifa.ifa_index = ifindex_of(ifd, ifname);
		if (!v4) {
			r.ifa.ifa_family = AF_INET6;
			r.ifa.ifa_flags = IFA_F_NODAD; /* it is to be there at once; the two sides are alone on this link */
		}
		attr_put(&r, IFA_LOCAL, octets, octets_n);
		attr_put(&r, IFA_ADDRESS, octets, octets_n);
		n = r.ifa.ifa_index ? sys_send(fd, &r, r.nh.nlmsg_len, 0) : -ENODEV;
	}
	if (n > 0)
		n = sys_recv(fd, &ack, sizeof(ack), 0);
	if (n >= (ssize_t)sizeof(ack) && ack.nh.nlmsg_type == NLMSG_ERROR)
		n = ack.err.error == -EEXIST ? 0 : ack.err.error;
	else if (n >= 0)
		n = -EPROTO;
	if (fd >= 0)
		sys_close(fd);
	if (ifd >= 0)
		sys_close(ifd);
	return (int)n;
}

struct net {
	uint32_t dst, mask; /* host byte order */
};

/**
 * routes_read() - destinations of the kernel's main table, without the default route
 * Return: count, with *@ret_nets from malloc(); 0 where /proc has no such file: then nothing is known to be in use
 */
static size_t routes_read(struct net **ret_nets)
{
	FILE *f = fopen("/proc/net/route", "re");
	unsigned dst, mask;
	size_t n = 0;
	char line[512];

	*ret_nets = NULL;
	while (f && fgets(line, sizeof(line), f)) {
		struct net *more;

		if (sscanf(line, "%*s %x %*x %*x %*d %*d %*d %x", &dst, &mask) != 2 || !mask)
			continue;
		more = realloc(*ret_nets, (n + 1) * sizeof(*more));
		if (!more)
			break;
		*ret_nets = more;
		more[n++] = (struct net){ ntohl(dst), ntohl(mask) };
	}
	if (f)
		fclose(f);
	return n;
}

int rtnl_free_net(const char *seed, struct config_cidr *ret_kernel, struct config_cidr *ret_ours)
{
	const uint32_t first = 0x0ac80000, count = 1u << 16; /* 10.200.0.0 to 10.203.255.252, in steps of a /30 */
	uint32_t h = 0x811c9dc5;
	struct net *nets;
	size_t n = routes_read(&nets), k;
	int rc = -ENOSPC;

	for (; *seed; seed++)
		h = (h ^ (uint8_t)*seed) * 0x01000193;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t base = first + ((h + i) % count) * 4;

		for (k = 0; k < n && (base & nets[k].mask & ~3u) != (nets[k].dst & nets[k].mask & ~3u); k++)
			;
		if (k < n)
			continue;
		*ret_kernel = (struct config_cidr){ .addr = ipaddr_v4(htonl(base + 1)), .prefix_len = 30, .set = true };
		*ret_ours = (struct config_cidr){ .addr = ipaddr_v4(htonl(base + 2)), .prefix_len = 30, .set = true };
		rc = 0;
		break;
	}
	free(nets);
	return rc;
}
