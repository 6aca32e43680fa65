/* SPDX-License-Identifier: BSD-2-Clause */
/* epoll_edge - edge-triggered: told once per arrival, drained or not; level-triggered: told as long as it holds */
#include "parity.h"

static void wait_and_say(const char *when, int ep, int ms)
{
	struct epoll_event ev[4];
	int n = (int)must("epoll_wait", epoll_wait(ep, ev, 4, ms));

	if (n == 0)
		say("%s: nothing", when);
	for (int i = 0; i < n; i++)
		say("%s: %s, data %d", when, poll_bits(ev[i].events), (int)ev[i].data.u32);
}

void server(int listener)
{
	int ep = (int)must("epoll_create1", epoll_create1(EPOLL_CLOEXEC)), fd = peer_accept(listener);
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.u32 = 7 };
	char buf[64];

	must("ADD", epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
	wait_and_say("edge, no data", ep, 0);
	tell('a');
	wait_and_say("edge, first data", ep, 5000);
	wait_and_say("edge, not read", ep, 50);
	tell('b');
	wait_and_say("edge, more data, first not read", ep, 5000);
	must("read", read(fd, buf, 2));
	wait_and_say("edge, read a part", ep, 0);
	ev.data.u32 = 8;
	must("MOD", epoll_ctl(ep, EPOLL_CTL_MOD, fd, &ev));
	wait_and_say("edge, armed anew by MOD", ep, 0);
	ev.events = EPOLLIN | EPOLLOUT;
	must("MOD", epoll_ctl(ep, EPOLL_CTL_MOD, fd, &ev));
	wait_and_say("level", ep, 0);
	wait_and_say("level, not read", ep, 0);
	while (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
	wait_and_say("level, drained", ep, 0);
	ev.events = EPOLLIN | EPOLLRDHUP | EPOLLET;
	must("MOD", epoll_ctl(ep, EPOLL_CTL_MOD, fd, &ev));
	tell('c');
	wait_and_say("edge, peer shut its side", ep, 5000);
	epoll_wait(ep, &ev, 1, 50); /* Linux wakes twice for a FIN (state, data): who collects in between is told twice */
	wait_and_say("edge, no news", ep, 50);
	shutdown(fd, SHUT_WR);
	await('d');
	wait_and_say("edge, both sides shut", ep, 1000);
	close(fd);
	wait_and_say("closed", ep, 0);
	close(ep);
}

void client(void)
{
	int fd = peer_connect();
	char c;

	await('a');
	write_all(fd, "one", 3);
	await('b');
	write_all(fd, "two", 3);
	await('c');
	shutdown(fd, SHUT_WR);
	saw("end of stream", read(fd, &c, 1));
	tell('d');
	close(fd);
}
