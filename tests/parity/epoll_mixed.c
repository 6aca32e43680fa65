/* SPDX-License-Identifier: BSD-2-Clause */
/* epoll_mixed - sockets, a pipe, and a fresh socket that connects only later, in one set */
#include "parity.h"

static int by_data(const void *a, const void *b)
{
	const struct epoll_event *x = a, *y = b;

	return (int)x->data.u32 - (int)y->data.u32;
}

static void wait_and_say(const char *when, int ep, int want)
{
	struct epoll_event ev[8];
	int n = 0;

	for (int i = 0; i < 200 && n < want; i++) { /* level-triggered: those that came first are told again */
		n = (int)must("epoll_wait", epoll_wait(ep, ev, 8, 1000));
		if (n < want)
			nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
	}
	if (!want)
		n = (int)must("epoll_wait", epoll_wait(ep, ev, 8, 0));
	qsort(ev, (size_t)n, sizeof(*ev), by_data);
	say("%s: %d", when, n);
	for (int i = 0; i < n; i++)
		say("  %u: %s", ev[i].data.u32, poll_bits(ev[i].events));
}

static void add(int ep, int fd, unsigned events, uint32_t data)
{
	struct epoll_event ev = { .events = events, .data.u32 = data };

	must("ADD", epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
}

void server(int listener)
{
	int ep = (int)must("epoll_create1", epoll_create1(0)), fd = peer_accept(listener), p[2];
	struct epoll_event one;
	bool seen[3] = { 0 };

	must("pipe", pipe(p));
	add(ep, p[0], EPOLLIN, 1);
	add(ep, fd, EPOLLIN, 2);
	add(ep, listener, EPOLLIN, 3);
	wait_and_say("quiet", ep, 0);
	must("write", write(p[1], "x", 1));
	wait_and_say("pipe", ep, 1);
	tell('a');
	wait_and_say("pipe and socket", ep, 2);
	tell('b');
	wait_and_say("and listener", ep, 3);
	for (int i = 0; i < 30; i++) /* room for one only: all three must get their turn */
		if (epoll_wait(ep, &one, 1, 0) == 1)
			seen[one.data.u32 - 1] = true;
	say("one at a time: %d %d %d", seen[0], seen[1], seen[2]);
	must("DEL", epoll_ctl(ep, EPOLL_CTL_DEL, p[0], NULL));
	wait_and_say("without the pipe", ep, 2);
	close(fd);
	close(peer_accept(listener));
	wait_and_say("quiet again", ep, 0);
}

void client(void)
{
	int fd = peer_connect(), late = (int)must("socket", socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	int ep = (int)must("epoll_create1", epoll_create1(0));

	add(ep, late, EPOLLIN | EPOLLOUT, 1);
	wait_and_say("not connected", ep, 1);
	await('a');
	write_all(fd, "x", 1);
	await('b');
	connect(late, (struct sockaddr *)&peer_addr, sizeof(peer_addr));
	poll_for(late, POLLOUT, POLLOUT);
	wait_and_say("connected", ep, 1);
	poll_for(late, POLLIN | POLLRDHUP, POLLIN | POLLRDHUP);
	wait_and_say("ended by the server", ep, 1);
	close(late);
	wait_and_say("closed", ep, 0);
	close(fd);
}
