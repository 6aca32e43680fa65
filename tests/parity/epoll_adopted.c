/* SPDX-License-Identifier: BSD-2-Clause */
/* epoll_adopted - a set with kernel descriptors from before its first socket: some leave, the rest must stay heard */
#include "parity.h"

static void add(int ep, int fd, uint32_t data)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = data };

	must("ADD", epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
}

static void wait_and_say(const char *when, int ep)
{
	struct epoll_event ev[8];
	int n = (int)must("epoll_wait", epoll_wait(ep, ev, 8, 2000));

	say("%s: %d", when, n);
	for (int i = 0; i < n; i++)
		say("  %u: %s", ev[i].data.u32, poll_bits(ev[i].events));
}

/* While the wait sleeps, not before: another process writes */
static pid_t write_later(int fd)
{
	pid_t pid = fork();

	if (!pid) {
		nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
		_exit(write(fd, "x", 1) != 1);
	}
	return pid;
}

void server(int listener)
{
	int ep = (int)must("epoll_create1", epoll_create1(0)), p[4][2], fd;
	char c;

	for (uint32_t i = 0; i < 4; i++) {
		must("pipe", pipe(p[i]));
		add(ep, p[i][0], i);
	}
	fd = peer_accept(listener);
	add(ep, fd, 10);
	for (int i = 0; i < 3; i++) {
		pid_t writer;

		saw("DEL", epoll_ctl(ep, EPOLL_CTL_DEL, p[i][0], NULL));
		writer = write_later(p[3][1]);
		wait_and_say("the last pipe", ep);
		waitpid(writer, NULL, 0);
		saw("read", read(p[3][0], &c, 1));
	}
	saw("DEL again", epoll_ctl(ep, EPOLL_CTL_DEL, p[0][0], NULL));
	tell('a');
	wait_and_say("the socket", ep);
	tell('b');
	close(fd);
}

void client(void)
{
	int fd = peer_connect();

	await('a');
	write_all(fd, "x", 1);
	await('b');
	close(fd);
}
