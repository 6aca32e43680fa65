/* SPDX-License-Identifier: BSD-2-Clause */
/* connect_refused - connections that do not come about, and sockets in states that forbid a call */
#include "parity.h"

void server(int listener)
{
	int fd = peer_accept(listener), other = (int)must("socket", socket(AF_INET, SOCK_STREAM, 0));
	char c;

	saw("bind to a port in use", bind(other, (struct sockaddr *)&peer_addr, sizeof(peer_addr)));
	saw("connect on a listener", connect(listener, (struct sockaddr *)&peer_addr, sizeof(peer_addr)));
	saw("read on a listener", read(listener, &c, 1));
	saw("accept on a connection", accept(fd, NULL, NULL));
	saw("listen on a connection", listen(fd, 1));
	saw("bind on a connection", bind(fd, (struct sockaddr *)&peer_addr, sizeof(peer_addr)));
	close(other);
	tell('a');
	await('b');
	close(fd);
}

void client(void)
{
	struct sockaddr_in closed = peer_addr;
	struct sockaddr_in6 six = { .sin6_family = AF_INET6 };
	int fd = (int)must("socket", socket(AF_INET, SOCK_STREAM, 0)), live = peer_connect(), err = -1;
	socklen_t len = sizeof(err);
	char c;

	await('a');
	closed.sin_port = htons((uint16_t)(ntohs(peer_addr.sin_port) + 1));
	saw("address too short", connect(fd, (struct sockaddr *)&closed, 4));
	saw("address of another family", connect(fd, (struct sockaddr *)&six, sizeof(six)));
	saw("address that is not there", connect(fd, NULL, sizeof(closed)));
	saw("refused", connect(fd, (struct sockaddr *)&closed, sizeof(closed)));
	must("SO_ERROR", getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len));
	say("SO_ERROR after it: %d", err);
	saw("refused again", connect(fd, (struct sockaddr *)&closed, sizeof(closed)));
	saw("read", read(fd, &c, 1));
	saw("same socket, open port", connect(fd, (struct sockaddr *)&peer_addr, sizeof(peer_addr)));
	saw("connect while connected", connect(fd, (struct sockaddr *)&peer_addr, sizeof(peer_addr)));
	close(fd);

	fd = (int)must("socket", socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	connect(fd, (struct sockaddr *)&closed, sizeof(closed));
	say("refused, not waiting: %s", poll_bits(poll_for(fd, POLLIN | POLLOUT | POLLRDHUP, POLLERR)));
	len = sizeof(err);
	must("SO_ERROR", getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len));
	say("SO_ERROR: %s", strerrorname_np(err));
	must("SO_ERROR", getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len));
	say("SO_ERROR again: %d", err);
	saw("asking connect afterwards", connect(fd, (struct sockaddr *)&closed, sizeof(closed)));
	close(fd);
	tell('b');
	close(live);
}
