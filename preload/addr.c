/* SPDX-License-Identifier: BSD-2-Clause */
/* addr.c - socket addresses as programs give them, endpoints as the stack wants them */
#include "sock_priv.h"

#define SIN6_LEN_RFC2133 24 /* without scope id: the kernel accepts it */

int addr_from_user(union sockaddr_any *ret, const struct sockaddr *addr, socklen_t len)
{
	memset(ret, 0, sizeof(*ret));
	if ((int)len < 0 || len > sizeof(ret->ss))
		return -EINVAL;
	return len ? user_copy(ret, addr, len) : 0;
}

int addr_to_user(const union sockaddr_any *from, socklen_t from_len, struct sockaddr *addr, socklen_t *len)
{
	socklen_t room;

	if (user_copy(&room, len, sizeof(room)))
		return -EFAULT;
	if ((int)room < 0)
		return -EINVAL;
	if (room > from_len)
		room = from_len;
	if (room && user_copy(addr, from, room))
		return -EFAULT;
	return user_copy(len, &from_len, sizeof(from_len));
}

/* Linux's scope of addresses that mean something on one link only: ours is the device's */
static bool addr_has_scope(struct ipaddr a)
{
	return a.b[0] == 0xfe && (a.b[1] & 0xc0) == 0x80;
}

int addr_to_endpoint(int family, const union sockaddr_any *a, socklen_t len, struct endpoint *ret_ep)
{
	if (len < (family == 4 ? sizeof(a->in) : SIN6_LEN_RFC2133))
		return -EINVAL;
	if (family == 4) {
		if (a->sa.sa_family != AF_INET)
			return -EAFNOSUPPORT;
		*ret_ep = (struct endpoint){ ipaddr_v4(a->in.sin_addr.s_addr), ntohs(a->in.sin_port) };
		return 0;
	}
	if (a->sa.sa_family != AF_INET6)
		return -EAFNOSUPPORT;
	memcpy(ret_ep->addr.b, &a->in6.sin6_addr, sizeof(ret_ep->addr.b));
	ret_ep->port = ntohs(a->in6.sin6_port);
	if (addr_has_scope(ret_ep->addr) && (!a->in6.sin6_scope_id || a->in6.sin6_scope_id != host->ifindex))
		return -EINVAL;
	return 0;
}

socklen_t addr_from_endpoint(int family, const struct endpoint *ep, union sockaddr_any *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (family == 4) {
		ret->in.sin_family = AF_INET;
		ret->in.sin_port = htons(ep->port);
		ret->in.sin_addr.s_addr = ipaddr_to_v4(ep->addr); /* :: reads as 0.0.0.0 as well */
		return sizeof(ret->in);
	}
	ret->in6.sin6_family = AF_INET6;
	ret->in6.sin6_port = htons(ep->port);
	memcpy(&ret->in6.sin6_addr, ep->addr.b, sizeof(ep->addr.b));
	if (addr_has_scope(ep->addr))
		ret->in6.sin6_scope_id = host->ifindex;
	return sizeof(ret->in6);
}

bool ipaddr_is_loopback(struct ipaddr a)
{
	static const struct ipaddr one6 = { .b = { [15] = 1 } };

	return ipaddr_is_v4(a) ? a.b[12] == 127 : ipaddr_eq(a, one6);
}
