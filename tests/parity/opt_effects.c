/* SPDX-License-Identifier: BSD-2-Clause */
/* opt_effects - what options do: local port ranges, late ports, marks of readiness (SO_RCVLOWAT, TCP_NOTSENT_LOWAT), the loopback */
#include "parity.h"

#define O_LOCAL_PORT_RANGE 51

static int port_of(int fd)
{
	struct sockaddr_in a;
	socklen_t len = sizeof(a);

	must("getsockname", getsockname(fd, (struct sockaddr *)&a, &len));
	return ntohs(a.sin_port);
}

static int bound(int level, int name, int value)
{
	struct sockaddr_in a = peer_addr;
	int fd = (int)must("socket", socket(AF_INET, SOCK_STREAM, 0));

	a.sin_port = 0;
	must("setsockopt", setsockopt(fd, level, name, &value, sizeof(value)));
	must("bind", bind(fd, (struct sockaddr *)&a, sizeof(a)));
	return fd;
}

static bool within(int fd, int low, int high)
{
	int port = port_of(fd);

	return port >= low && port <= high;
}

static void ports(void)
{
	struct sockaddr_in other = peer_addr;
	int one = 40077, value = one << 16 | one, a, b;

	a = bound(IPPROTO_IP, O_LOCAL_PORT_RANGE, 40010 << 16 | 40001);
	say("bound within the range: %d", within(a, 40001, 40010));
	close(a);
	a = bound(IPPROTO_IP, O_LOCAL_PORT_RANGE, value);
	say("range of one: %d", port_of(a));
	b = (int)must("socket", socket(AF_INET, SOCK_STREAM, 0));
	must("setsockopt", setsockopt(b, IPPROTO_IP, O_LOCAL_PORT_RANGE, &value, sizeof(value)));
	other.sin_port = 0;
	saw("range is used up", bind(b, (struct sockaddr *)&other, sizeof(other)));
	close(a);
	saw("and free again", bind(b, (struct sockaddr *)&other, sizeof(other)));
	close(b);
	a = (int)must("socket", socket(AF_INET, SOCK_STREAM, 0));
	value = 40120 << 16 | 40101;
	must("setsockopt", setsockopt(a, IPPROTO_IP, O_LOCAL_PORT_RANGE, &value, sizeof(value)));
	saw("connect", connect(a, (struct sockaddr *)&peer_addr, sizeof(peer_addr)));
	say("connected from the range: %d", within(a, 40101, 40120));
	close(a);
	a = bound(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	say("no port yet: %d", port_of(a));
	saw("connect", connect(a, (struct sockaddr *)&peer_addr, sizeof(peer_addr)));
	say("a port now: %d", port_of(a) != 0);
	close(a);
	a = bound(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	saw("listen", listen(a, 1));
	say("a port now: %d", port_of(a) != 0);
	close(a);
}

static void low_water(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int low = 10, n;
	char buf[32];

	must("setsockopt", setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof(low)));
	tell('a');
	await('b');
	while (!(recv(fd, buf, sizeof(buf), MSG_PEEK | MSG_DONTWAIT) == 5)) /* until all five are there */
		;
	n = (int)must("poll", poll(&p, 1, 50));
	say("five of ten: %d", n);
	tell('c');
	n = (int)must("poll", poll(&p, 1, 2000));
	say("ten: %d %s", n, poll_bits((unsigned)p.revents));
	saw("read", read(fd, buf, sizeof(buf)));
	low = 1;
	must("setsockopt", setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof(low)));
}

/* Nothing is read at the other end: what is not sent grows until the mark, long before the buffer is full. */
static void not_sent(int fd)
{
	static char block[16384];
	int low = 32768, ep = (int)must("epoll_create1", epoll_create1(0)), n;
	struct epoll_event ev = { .events = EPOLLOUT };

	must("setsockopt", setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &low, sizeof(low)));
	must("epoll_ctl", epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
	nonblocking(fd, true);
	while (write(fd, block, sizeof(block)) > 0)
		;
	say("full: %s", strerrorname_np(errno));
	n = (int)must("epoll_wait", epoll_wait(ep, &ev, 1, 50));
	say("writable: %d, poll %s", n, poll_bits(poll_for(fd, POLLOUT, 0)));
	low = 1 << 30;
	must("setsockopt", setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &low, sizeof(low)));
	tell('d');
	n = (int)must("epoll_wait", epoll_wait(ep, &ev, 1, 3000));
	say("writable: %d", n);
	close(ep);
}

static void inherited(int fd)
{
	static const int opts[][2] = { { SOL_SOCKET, SO_PRIORITY }, { SOL_SOCKET, SO_MARK },	{ SOL_SOCKET, SO_TIMESTAMP },
				       { IPPROTO_IP, IP_TOS },	    { IPPROTO_IP, IP_RECVTTL }, { IPPROTO_TCP, TCP_THIN_DUPACK } };

	for (size_t i = 0; i < sizeof(opts) / sizeof(*opts); i++) {
		int v = -1;
		socklen_t len = sizeof(v);

		must("getsockopt", getsockopt(fd, opts[i][0], opts[i][1], &v, &len));
		say("inherited %d/%d: %d", opts[i][0], opts[i][1], v);
	}
}

static void set(int fd, int level, int name, int value)
{
	must("setsockopt", setsockopt(fd, level, name, &value, sizeof(value)));
}

void server(int listener)
{
	int fd;

	set(listener, SOL_SOCKET, SO_PRIORITY, 4);
	set(listener, SOL_SOCKET, SO_MARK, 99);
	set(listener, SOL_SOCKET, SO_TIMESTAMP, 1);
	set(listener, IPPROTO_IP, IP_TOS, 0x48);
	set(listener, IPPROTO_IP, IP_RECVTTL, 1);
	tell('0');
	fd = peer_accept(listener);
	inherited(fd);
	low_water(fd);
	not_sent(fd);
	close(fd);
	tell('e');
	await('f');
}

void client(void)
{
	static char sink[65536];
	int fd;

	await('0');
	fd = peer_connect();
	await('a');
	write_all(fd, "12345", 5);
	tell('b');
	await('c');
	write_all(fd, "67890", 5);
	await('d');
	while (read(fd, sink, sizeof(sink)) > 0)
		;
	close(fd);
	await('e');
	ports();
	tell('f');
}
