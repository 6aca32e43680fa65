/* SPDX-License-Identifier: BSD-2-Clause */
/* dual_stack - an AF_INET6 listener on the wildcard serves IPv4, with mapped addresses */
#include "parity.h"

static const char *text6(const struct sockaddr_in6 *a)
{
	static char text[2][INET6_ADDRSTRLEN];
	static unsigned turn;
	char *t = text[turn++ % 2];

	inet_ntop(AF_INET6, &a->sin6_addr, t, INET6_ADDRSTRLEN);
	return t;
}

static uint16_t port(int offset)
{
	return htons((uint16_t)(ntohs(peer_addr.sin_port) + offset));
}

void server(int control)
{
	struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_port = port(1) }, b;
	int l = (int)must("socket", socket(AF_INET6, SOCK_STREAM, 0)), v = -1, on = 1, fd;
	socklen_t len = sizeof(v);

	(void)control;
	must("SO_REUSEADDR", setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	must("IPV6_V6ONLY", getsockopt(l, IPPROTO_IPV6, IPV6_V6ONLY, &v, &len));
	say("IPV6_V6ONLY: %d", v);
	saw("AF_INET address", bind(l, (struct sockaddr *)&peer_addr, sizeof(peer_addr)));
	saw("short address", bind(l, (struct sockaddr *)&a, 20));
	saw("bind", bind(l, (struct sockaddr *)&a, sizeof(a)));
	saw("IPV6_V6ONLY after bind", setsockopt(l, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)));
	saw("listen", listen(l, 5));
	len = sizeof(b);
	must("getsockname", getsockname(l, (struct sockaddr *)&b, &len));
	say("listens on %s, length %u", text6(&b), len);
	tell('a');
	len = sizeof(b);
	fd = (int)must("accept", accept(l, (struct sockaddr *)&b, &len));
	say("peer %s, family %d, length %u", text6(&b), b.sin6_family == AF_INET6, len);
	len = sizeof(b);
	must("getsockname", getsockname(fd, (struct sockaddr *)&b, &len));
	say("local %s", text6(&b));
	must("SO_DOMAIN", getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &v, &len));
	say("SO_DOMAIN: %d", v == AF_INET6);
	write_all(fd, "x", 1);
	close(fd);
	close(l);
	await('b');
}

void client(void)
{
	struct sockaddr_in to = peer_addr;
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = peer_addr.sin_port }, b;
	int fd = (int)must("socket", socket(AF_INET, SOCK_STREAM, 0)), on = 1;
	socklen_t len = sizeof(b);
	char c;

	await('a');
	to.sin_port = port(1);
	must("connect", connect(fd, (struct sockaddr *)&to, sizeof(to)));
	read_all(fd, &c, 1);
	say("read %c", c);
	close(fd);

	fd = (int)must("socket", socket(AF_INET6, SOCK_STREAM, 0));
	six.sin6_addr.s6_addr[10] = six.sin6_addr.s6_addr[11] = 0xff;
	memcpy(six.sin6_addr.s6_addr + 12, &peer_addr.sin_addr, 4);
	saw("connect to a mapped address", connect(fd, (struct sockaddr *)&six, sizeof(six)));
	must("getpeername", getpeername(fd, (struct sockaddr *)&b, &len));
	say("peer %s", text6(&b));
	close(fd);
	fd = (int)must("socket", socket(AF_INET6, SOCK_STREAM, 0));
	must("IPV6_V6ONLY", setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)));
	saw("the same, IPV6_V6ONLY", connect(fd, (struct sockaddr *)&six, sizeof(six)));
	close(fd);
	tell('b');
}
