/* SPDX-License-Identifier: BSD-2-Clause */
/* odd_calls.c - calls with nothing to move, in states that have just ended, in an order that few choose: found by tests/callfuzz */
#include <sys/mman.h>
#include "parity.h"

static void nothing_to_move(int fd)
{
	struct iovec none = { NULL, 0 };
	volatile size_t huge = SIZE_MAX;
	struct mmsghdr mm = { 0 };
	char c;

	saw("recv of 0 octets, none there", recv(fd, &c, 0, MSG_DONTWAIT));
	saw("read of 0 octets", read(fd, &c, 0));
	saw("readv of 0 octets", readv(fd, &none, 1));
	saw("write beyond the address space", write(fd, &c, huge));
	saw("read beyond the address space", read(fd, &c, huge / 2));
	saw("recvmmsg of 0 octets", recvmmsg(fd, &mm, 1, MSG_DONTWAIT, NULL));
}

static void writes_to_unconnected(void)
{
	struct iovec none = { NULL, 0 };
	int l = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_addr = peer_addr.sin_addr };

	must("bind", bind(l, (struct sockaddr *)&any, sizeof(any)));
	must("listen", listen(l, 5));
	saw("writev of 0 octets to a listener", writev(l, &none, 1));
	saw("write of 0 octets to a listener", write(l, "", 0));
	saw("epoll_ctl of no epoll set, and no member", epoll_ctl(l, EPOLL_CTL_ADD, -1, &(struct epoll_event){ 0 }));
	close(l);
}

static void after_refusal(void)
{
	struct sockaddr_in to = peer_addr, name;
	struct sockaddr_in foreign = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0xc0000201) };
	socklen_t len = sizeof(name);
	int s = socket(AF_INET, SOCK_STREAM, 0);

	to.sin_port = htons(1);
	saw("connect to nobody", connect(s, (struct sockaddr *)&to, sizeof(to)));
	saw("getsockname", getsockname(s, (struct sockaddr *)&name, &len));
	say("address %s, port kept %d", addr_text(&name), name.sin_port != 0);
	saw("bind to a foreign address", bind(s, (struct sockaddr *)&foreign, sizeof(foreign)));
	close(s);
	s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	connect(s, (struct sockaddr *)&to, sizeof(to));
	poll_for(s, POLLOUT, POLLERR);
	foreign.sin_addr.s_addr = INADDR_ANY;
	saw("bind before the refusal was told", bind(s, (struct sockaddr *)&foreign, sizeof(foreign)));
	close(s);
}

static void on_a_connection(int fd)
{
	struct sockaddr_in foreign = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0xc0000201) }, to = peer_addr;
	struct sockaddr none = { .sa_family = AF_UNSPEC };

	saw("bind to a foreign address", bind(fd, (struct sockaddr *)&foreign, sizeof(foreign)));
	saw("connect with half an address", connect(fd, (struct sockaddr *)&to, 5));
	saw("disconnect", connect(fd, &none, sizeof(none)));
	saw("write after it", write(fd, "x", 1));
	saw("write once more", send(fd, "x", 1, MSG_NOSIGNAL));
}

static void shutdown_tells_connect(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

	saw("connect", connect(fd, (struct sockaddr *)&peer_addr, sizeof(peer_addr)));
	poll_for(fd, POLLOUT, POLLOUT);
	saw("shutdown", shutdown(fd, SHUT_RD));
	saw("connect again", connect(fd, (struct sockaddr *)&peer_addr, sizeof(peer_addr)));
	close(fd);
}

/* Asked for something else than a regular file ever has, poll() must still know when its time is up. */
static void poll_with_a_file(int fd)
{
	int file = memfd_create("regular", 0);
	struct pollfd p[2] = { { fd, POLLPRI, 0 }, { file, POLLPRI, 0 } };

	saw("poll with a regular file", poll(p, 2, 20));
	close(file);
}

static void dead_connection(int fd)
{
	struct mmsghdr mm = { 0 };
	char c;

	saw("connect of a dead connection", connect(fd, (struct sockaddr *)&peer_addr, sizeof(peer_addr)));
	saw("recvmmsg looks at the error first", recvmmsg(fd, &mm, 1, MSG_DONTWAIT, NULL));
	saw("recv", recv(fd, &c, 1, MSG_DONTWAIT));
}

void server(int listener)
{
	int fd = peer_accept(listener), other;

	nothing_to_move(fd);
	writes_to_unconnected();
	poll_with_a_file(fd);
	on_a_connection(fd);
	close(fd);
	tell('s');
	fd = peer_accept(listener);
	other = peer_accept(listener);
	poll_for(other, POLLRDHUP, POLLHUP);
	dead_connection(other);
	close(fd);
	close(other);
	tell('e');
}

void client(void)
{
	struct linger hard = { 1, 0 };
	int fd = peer_connect();

	await('s');
	close(fd);
	shutdown_tells_connect();
	fd = peer_connect();
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	close(fd);
	await('e');
	after_refusal();
}
