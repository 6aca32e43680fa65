/* SPDX-License-Identifier: BSD-2-Clause */
/* epoll_oneshot - told once until armed again; and every way of asking epoll_ctl for the wrong thing */
#include "parity.h"

static int count(int ep, int ms)
{
	struct epoll_event ev[4];

	return (int)must("epoll_wait", epoll_wait(ep, ev, 4, ms));
}

void server(int listener)
{
	int ep = (int)must("epoll_create1", epoll_create1(0)), ep2 = (int)must("epoll_create1", epoll_create1(0));
	int fd = peer_accept(listener), twin, p[2];
	struct epoll_event ev = { .events = EPOLLIN | EPOLLONESHOT };
	char buf[64];

	must("pipe", pipe(p));
	saw("MOD before ADD", epoll_ctl(ep, EPOLL_CTL_MOD, fd, &ev));
	saw("DEL before ADD", epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL));
	saw("ADD", epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
	saw("ADD twice", epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
	saw("bad operation", epoll_ctl(ep, 99, fd, &ev));
	saw("ADD to a pipe", epoll_ctl(p[0], EPOLL_CTL_ADD, fd, &ev));
	saw("ADD to a socket", epoll_ctl(fd, EPOLL_CTL_ADD, p[0], &ev));
	saw("ADD to itself", epoll_ctl(ep, EPOLL_CTL_ADD, ep, &ev));
	saw("ADD of a closed number", epoll_ctl(ep, EPOLL_CTL_ADD, 999, &ev));
	saw("wait for no events", epoll_wait(ep, &ev, 0, 0));
	tell('a');
	say("first data: %d", count(ep, 5000));
	say("spent: %d", count(ep, 0));
	tell('b');
	await('c');
	say("spent, more data: %d", count(ep, 50));
	ev.events = EPOLLIN | EPOLLONESHOT;
	saw("armed again", epoll_ctl(ep, EPOLL_CTL_MOD, fd, &ev));
	say("armed: %d", count(ep, 0));

	twin = dup(fd);
	ev.events = EPOLLIN;
	saw("ADD of a dup", epoll_ctl(ep, EPOLL_CTL_ADD, twin, &ev));
	say("dup: %d", count(ep, 0));
	saw("ADD exclusive to a second set", epoll_ctl(ep2, EPOLL_CTL_ADD, fd, &(struct epoll_event){ .events = EPOLLIN | EPOLLEXCLUSIVE }));
	saw("MOD of an exclusive", epoll_ctl(ep2, EPOLL_CTL_MOD, fd, &ev));
	saw("exclusive and oneshot", epoll_ctl(ep2, EPOLL_CTL_ADD, twin, &(struct epoll_event){ .events = EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT }));
	close(fd);
	say("one of two numbers closed, dup: %d", count(ep, 0));
	say("second set: %d", count(ep2, 0));
	while (recv(twin, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
	say("drained: %d", count(ep, 0));
	saw("nested: ADD", epoll_ctl(ep2, EPOLL_CTL_ADD, ep, &(struct epoll_event){ .events = EPOLLIN }));
	tell('d');
	say("inner ready, outer tells: %d", count(ep2, 5000));
	close(twin);
	say("all closed: %d", count(ep, 0));
}

void client(void)
{
	int fd = peer_connect();

	await('a');
	write_all(fd, "one", 3);
	await('b');
	write_all(fd, "two", 3);
	tell('c');
	await('d');
	write_all(fd, "three", 5);
	read_all(fd, &(char){ 0 }, 0);
	close(fd);
}
