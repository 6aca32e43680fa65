/* SPDX-License-Identifier: BSD-2-Clause */
/* accept_inherit - what an accepted socket has from its listener, and the names of both ends */
#include "parity.h"

static void opt_say(const char *name, int fd, int level, int opt)
{
	int v = -1;
	socklen_t len = sizeof(v);

	if (saw(name, getsockopt(fd, level, opt, &v, &len)) == 0)
		say("  value %d, length %u", v, len);
}

void server(int listener)
{
	struct linger l = { 0 };
	struct sockaddr_in a;
	socklen_t len;
	int fd, on = 1, idle = 77, size = 50000;

	must("TCP_NODELAY", setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)));
	must("SO_KEEPALIVE", setsockopt(listener, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)));
	must("TCP_KEEPIDLE", setsockopt(listener, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle)));
	must("SO_RCVBUF", setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)));
	must("SO_LINGER", setsockopt(listener, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 3 }, sizeof(l)));
	nonblocking(listener, true);
	tell('a');
	poll_for(listener, POLLIN, POLLIN);
	len = sizeof(a);
	fd = (int)must("accept", accept(listener, (struct sockaddr *)&a, &len));
	say("peer: %s, family %d, length %u", addr_text(&a), a.sin_family, len);
	opt_say("TCP_NODELAY", fd, IPPROTO_TCP, TCP_NODELAY);
	opt_say("SO_KEEPALIVE", fd, SOL_SOCKET, SO_KEEPALIVE);
	opt_say("TCP_KEEPIDLE", fd, IPPROTO_TCP, TCP_KEEPIDLE);
	opt_say("SO_RCVBUF", fd, SOL_SOCKET, SO_RCVBUF);
	opt_say("SO_REUSEADDR", fd, SOL_SOCKET, SO_REUSEADDR);
	opt_say("SO_ACCEPTCONN", fd, SOL_SOCKET, SO_ACCEPTCONN);
	opt_say("SO_ACCEPTCONN of the listener", listener, SOL_SOCKET, SO_ACCEPTCONN);
	len = sizeof(l);
	must("SO_LINGER", getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &len));
	say("SO_LINGER: %d, %d", l.l_onoff, l.l_linger);
	say("O_NONBLOCK: %d", !!(fcntl(fd, F_GETFL) & O_NONBLOCK));
	len = 6; /* too small: cut, and the whole length told */
	memset(&a, 0xee, sizeof(a));
	saw("getsockname with 6 octets of room", getsockname(fd, (struct sockaddr *)&a, &len));
	say("length %u, address untouched %d", len, ((uint8_t *)&a)[sizeof(a) - 1] == 0xee);
	len = sizeof(a);
	must("getsockname", getsockname(fd, (struct sockaddr *)&a, &len));
	say("local: %s, port as listened on: %d", addr_text(&a), a.sin_port == peer_addr.sin_port);
	saw("getpeername of the listener", getpeername(listener, (struct sockaddr *)&a, &len));
	tell('b');
	close(fd);
}

void client(void)
{
	struct sockaddr_in a;
	socklen_t len = sizeof(a);
	int fd = (int)must("socket", socket(AF_INET, SOCK_STREAM, 0));

	await('a');
	must("getsockname", getsockname(fd, (struct sockaddr *)&a, &len));
	say("fresh: %s, port %d, length %u", addr_text(&a), ntohs(a.sin_port), len);
	saw("getpeername before connect", getpeername(fd, (struct sockaddr *)&a, &len));
	must("connect", connect(fd, (struct sockaddr *)&peer_addr, sizeof(peer_addr)));
	len = sizeof(a);
	must("getpeername", getpeername(fd, (struct sockaddr *)&a, &len));
	say("peer is whom we asked for: %d", !memcmp(&a, &peer_addr, sizeof(a)));
	must("getsockname", getsockname(fd, (struct sockaddr *)&a, &len));
	say("has a port: %d", a.sin_port != 0);
	await('b');
	close(fd);
}
