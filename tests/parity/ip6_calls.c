/* SPDX-License-Identifier: BSD-2-Clause */
/* ip6_calls - addresses of IPv6 and of IPv4 in bind, connect and accept; who may have a port beside whom */
#include "parity.h"
#undef sockaddr_in
#undef sin_family
#undef sin_port
#undef AF_INET

static const char *text(const struct sockaddr_in6 *a)
{
	static char t[INET6_ADDRSTRLEN];

	return inet_ntop(AF_INET6, &a->sin6_addr, t, sizeof(t));
}

static struct sockaddr_in6 at(const char *addr, int offset)
{
	struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)(ntohs(peer_addr.sin6_port) + offset)) };

	inet_pton(AF_INET6, addr, &a.sin6_addr);
	return a;
}

static int stream6(void)
{
	return (int)must("socket", socket(AF_INET6, SOCK_STREAM, 0));
}

static int v6only(int fd)
{
	int on = 1;

	must("IPV6_V6ONLY", setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)));
	return fd;
}

static void try_bind(const char *addr, int only)
{
	struct sockaddr_in6 a = at(addr, 3), got;
	socklen_t len = sizeof(got);
	int fd = only ? v6only(stream6()) : stream6();

	printf("%s%s ", addr, only ? ", IPV6_V6ONLY" : "");
	if (saw("bind", bind(fd, (struct sockaddr *)&a, sizeof(a))) == 0 && !getsockname(fd, (struct sockaddr *)&got, &len))
		say("  is %s, length %u, scope %u", text(&got), len, got.sin6_scope_id);
	close(fd);
}

static void binds(void)
{
	static const char *const addr[] = { "::", "::ffff:0.0.0.0", "::ffff:192.0.2.1", "2001:db8:9::9", "fe80::9", "ff02::1", "ff05::9",
					    "::ffff:224.0.0.1", "::10.1.1.1" };

	for (unsigned i = 0; i < 2 * sizeof(addr) / sizeof(*addr); i++)
		try_bind(addr[i / 2], i % 2);
	try_bind(text((const struct sockaddr_in6 *)&peer_addr), 0);
}

/* A second socket on the port that a first one has */
static void beside(const char *first, int only, const char *second, int only2, int listens)
{
	struct sockaddr_in6 a = at(first, 4), b = at(second, 4);
	int f = only ? v6only(stream6()) : stream6(), g = only2 ? v6only(stream6()) : stream6(), on = 1;

	must("SO_REUSEADDR", setsockopt(f, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	must("SO_REUSEADDR", setsockopt(g, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	must("bind", bind(f, (struct sockaddr *)&a, sizeof(a)));
	if (listens)
		must("listen", listen(f, 1));
	printf("%s%s%s, then %s%s: ", first, only ? " only" : "", listens ? " listens" : "", second, only2 ? " only" : "");
	if (saw("bind", bind(g, (struct sockaddr *)&b, sizeof(b))) == 0 && listens)
		saw("  listen", listen(g, 1));
	close(f);
	close(g);
}

static void conflicts(void)
{
	static const char *const addr[] = { "::", "::ffff:0.0.0.0", "" };
	char own[INET6_ADDRSTRLEN];

	snprintf(own, sizeof(own), "%s", text((const struct sockaddr_in6 *)&peer_addr));
	for (unsigned i = 0; i < 72; i++) {
		const char *one = addr[i % 3], *two = addr[i / 3 % 3];
		int only = i / 9 % 2, only2 = i / 18 % 2;

		if ((only && one == addr[1]) || (only2 && two == addr[1]))
			continue; /* EINVAL, see above */
		beside(*one ? one : own, only, *two ? two : own, only2, (int)(i / 36));
	}
}

static void try_connect(const char *from, const char *to, int only)
{
	struct sockaddr_in6 a = at(from, 0), b = at(to, 1);
	int fd = only ? v6only(stream6()) : stream6();

	a.sin6_port = 0;
	if (*from)
		must("bind", bind(fd, (struct sockaddr *)&a, sizeof(a)));
	printf("from %s to %s%s: ", *from ? from : "anywhere", to, only ? ", IPV6_V6ONLY" : "");
	saw("connect", connect(fd, (struct sockaddr *)&b, sizeof(b)));
	close(fd);
}

static void connects(void)
{
	char own[INET6_ADDRSTRLEN];

	snprintf(own, sizeof(own), "%s", text((const struct sockaddr_in6 *)&peer_addr));
	try_connect("", own, 0);	/* nobody listens there */
	try_connect("", own, 1);
	try_connect(own, own, 0);
	try_connect("::ffff:0.0.0.0", own, 0);
	try_connect("", "fe80::9", 0);
	try_connect("", "ff05::9", 0);
	try_connect("", "2001:db8:9::9", 0);
	try_connect("", "::ffff:255.255.255.255", 0);
	try_connect(own, "::ffff:10.77.0.2", 0);
	try_connect("", "::ffff:10.77.0.2", 1);
	try_connect("", "::ffff:10.77.0.2", 0);
}

static void families(void)
{
	struct sockaddr_in6 a = at("::", 5);
	struct sockaddr_in four = { .sin_family = PF_INET, .sin_port = htons(7199) };
	int fd = stream6();

	saw("bind of an IPv4 address", bind(fd, (struct sockaddr *)&four, sizeof(four)));
	saw("connect to an IPv4 address", connect(fd, (struct sockaddr *)&four, sizeof(four)));
	four.sin_family = AF_UNSPEC;
	saw("bind of no family", bind(fd, (struct sockaddr *)&four, sizeof(four)));
	saw("bind of half an address", bind(fd, (struct sockaddr *)&a, 23));
	saw("bind as in RFC 2133", bind(fd, (struct sockaddr *)&a, 24));
	saw("bind again", bind(fd, (struct sockaddr *)&a, sizeof(a)));
	close(fd);
}

static void names_of(const char *who, int fd)
{
	struct sockaddr_in6 a;
	socklen_t len = sizeof(a);

	memset(&a, 0xee, sizeof(a));
	must("getsockname", getsockname(fd, (struct sockaddr *)&a, &len));
	say("%s: local %s, flow %x, scope %u, length %u", who, text(&a), a.sin6_flowinfo, a.sin6_scope_id, len);
	memset(&a, 0xee, sizeof(a));
	must("getpeername", getpeername(fd, (struct sockaddr *)&a, &len));
	say("%s: peer %s, flow %x, scope %u, length %u", who, text(&a), a.sin6_flowinfo, a.sin6_scope_id, len);
}

static void option(int fd, const char *name, int opt, int value)
{
	socklen_t len = sizeof(value);

	printf("%s %d ", name, value);
	saw("set", setsockopt(fd, IPPROTO_IPV6, opt, &value, sizeof(value)));
	value = -77;
	if (saw("  get", getsockopt(fd, IPPROTO_IPV6, opt, &value, &len)) == 0)
		say("  %d, length %u", value, len);
}

static void options(int fd)
{
	static const int values[] = { -2, -1, 0, 1, 64, 255, 256 };

	for (unsigned i = 0; i < sizeof(values) / sizeof(*values); i++) {
		option(fd, "IPV6_UNICAST_HOPS", IPV6_UNICAST_HOPS, values[i]);
		option(fd, "IPV6_TCLASS", IPV6_TCLASS, values[i]);
		option(fd, "IPV6_V6ONLY", IPV6_V6ONLY, values[i]);
		option(fd, "IPV6_MTU_DISCOVER", IPV6_MTU_DISCOVER, values[i]);
		option(fd, "IPV6_RECVERR", IPV6_RECVERR, values[i]);
	}
}

void server(int listener)
{
	int fd = peer_accept(listener);

	names_of("accepted", fd);
	options(fd);
	write_all(fd, "x", 1);
	await('a');
	close(fd);
	binds();
	conflicts();
	families();
	tell('b');
}

void client(void)
{
	int fd = peer_connect(), mtu;
	socklen_t len = sizeof(mtu);
	char c;

	read_all(fd, &c, 1);
	names_of("connected", fd);
	must("IPV6_MTU", getsockopt(fd, IPPROTO_IPV6, IPV6_MTU, &mtu, &len));
	say("IPV6_MTU known: %d", mtu > 0);
	tell('a');
	close(fd);
	await('b');
	options(stream6());
	connects();
}
