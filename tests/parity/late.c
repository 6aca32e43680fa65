/* SPDX-License-Identifier: BSD-2-Clause */
/* late - sockets copied, watched, inherited and half bound before anybody can know which side they will be on */
#include "parity.h"

static void events(const char *when, int ep, int want)
{
	struct epoll_event ev[8];
	unsigned bits[8] = { 0 };
	int n = 0;

	for (int i = 0; i < 200; i++) {
		n = (int)must("epoll_wait", epoll_wait(ep, ev, 8, want ? 1000 : 0));
		if (n >= want)
			break;
		nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
	}
	for (int i = 0; i < n; i++)
		bits[ev[i].data.u32 % 8] |= ev[i].events;
	say("%s: %d, %s / %s / %s", when, n, poll_bits(bits[1]), poll_bits(bits[2]), poll_bits(bits[3]));
}

static void add(int ep, int fd, unsigned ev, uint32_t data)
{
	must("ADD", epoll_ctl(ep, EPOLL_CTL_ADD, fd, &(struct epoll_event){ .events = ev, .data.u32 = data }));
}

/* The listener is watched, copied and in a child before it is bound. */
void server(int control)
{
	struct sockaddr_in a = peer_addr;
	int l = (int)must("socket", socket(AF_INET, SOCK_STREAM, 0)), twin = (int)must("dup", dup(l)), on = 1;
	int ep = (int)must("epoll_create1", epoll_create1(0)), status, fd;
	socklen_t len = sizeof(a);
	pid_t pid;

	(void)control;
	add(ep, l, EPOLLIN, 1);
	add(ep, twin, EPOLLIN | EPOLLET, 2);
	must("SO_REUSEADDR", setsockopt(twin, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	memset(&a.sin_addr, 0, sizeof(a.sin_addr));
	a.sin_port = htons((uint16_t)(ntohs(a.sin_port) + 1));
	saw("bind to the wildcard", bind(twin, (struct sockaddr *)&a, sizeof(a)));
	saw("bind again", bind(l, (struct sockaddr *)&a, sizeof(a)));
	must("getsockname", getsockname(l, (struct sockaddr *)&a, &len));
	say("name by the other number: %08x, port right: %d", ntohl(a.sin_addr.s_addr), ntohs(a.sin_port) == ntohs(peer_addr.sin_port) + 1);
	saw("listen", listen(l, 5));
	events("listening", ep, 0);
	tell('a');
	events("connection waits", ep, 2);
	fd = (int)must("accept by the other number", accept(twin, NULL, NULL));
	events("taken", ep, 0);
	write_all(fd, "1", 1);
	close(l);
	fflush(stdout);
	pid = (pid_t)must("fork", fork());
	if (!pid) {
		fd = (int)must("accept in the child", accept(twin, NULL, NULL));
		write_all(fd, "2", 1);
		_exit(0);
	}
	close(twin);
	tell('b');
	must("waitpid", waitpid(pid, &status, 0));
	say("child's status %d", status);
	saw("listener gone with the last holder", connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&(struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = a.sin_port, .sin_addr = peer_addr.sin_addr }, sizeof(a)));
	await('c');
	close(fd);
}

void client(void)
{
	struct sockaddr_in to = peer_addr, any = { .sin_family = AF_INET }, mine;
	int fd = (int)must("socket", socket(AF_INET, SOCK_STREAM, 0)), twin = (int)must("dup", dup(fd)), on = 1, v = 0, status;
	int ep = (int)must("epoll_create1", epoll_create1(0)), ep2 = (int)must("epoll_create1", epoll_create1(0));
	socklen_t len = sizeof(mine);
	char c;
	pid_t pid;

	to.sin_port = htons((uint16_t)(ntohs(to.sin_port) + 1));
	await('a');
	must("TCP_NODELAY", setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)));
	add(ep, fd, EPOLLIN | EPOLLOUT, 1);
	add(ep, twin, EPOLLIN, 2);
	add(ep2, twin, EPOLLOUT | EPOLLET, 3);
	events("before", ep, 2);
	saw("bind to nothing in particular", bind(fd, (struct sockaddr *)&any, sizeof(any)));
	must("getsockname", getsockname(twin, (struct sockaddr *)&mine, &len));
	v = mine.sin_port;
	say("has a port: %d", v != 0);
	must("connect", connect(twin, (struct sockaddr *)&to, sizeof(to)));
	must("getsockname", getsockname(fd, (struct sockaddr *)&mine, &len));
	say("the same port: %d, an address: %d", mine.sin_port == v, mine.sin_addr.s_addr != 0);
	poll_for(fd, POLLIN, POLLIN);
	events("connected, data", ep, 2);
	events("second set", ep2, 1);
	len = sizeof(v);
	must("TCP_NODELAY", getsockopt(twin, IPPROTO_TCP, TCP_NODELAY, &v, &len));
	say("option kept: %d", v);
	read_all(twin, &c, 1);
	say("read %c", c);
	must("DEL", epoll_ctl(ep, EPOLL_CTL_DEL, twin, NULL));
	close(fd);
	events("one removed, one closed", ep, 0);
	close(twin);

	await('b');
	fd = (int)must("socket", socket(AF_INET, SOCK_STREAM, 0));
	fflush(stdout);
	pid = (pid_t)must("fork", fork());
	if (!pid)
		_exit(connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0);
	must("waitpid", waitpid(pid, &status, 0));
	say("connected by a child: %d", status);
	read_all(fd, &c, 1);
	say("read by its parent: %c", c);
	close(fd);
	tell('c');
}
