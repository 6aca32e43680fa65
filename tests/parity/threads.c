/* SPDX-License-Identifier: BSD-2-Clause */
/* threads.c - what other threads do to a call that sleeps, and a call to what others get */
#include <pthread.h>
#include <stdatomic.h>
#include "parity.h"

/* Until the thread @tid sleeps: looked at often enough that it is not on its way only. */
static void until_asleep(int tid)
{
	struct timespec pause = { 0, 2000000 };
	char path[64], buf[512];
	int seen = 0;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	while (seen < 10) {
		FILE *f = fopen(path, "r");
		char *at = f && fgets(buf, sizeof(buf), f) ? strrchr(buf, ')') : NULL;

		seen = at && at[2] == 'S' ? seen + 1 : 0;
		if (f)
			fclose(f);
		nanosleep(&pause, NULL);
	}
}

struct call {
	pthread_t thread;
	_Atomic int tid;
	int fd, result, error;
	struct epoll_event ev;
};

static void *in_accept(void *arg)
{
	struct call *c = arg;

	c->tid = gettid();
	c->result = accept(c->fd, NULL, NULL);
	c->error = errno;
	return NULL;
}

static void *in_epoll(void *arg)
{
	struct call *c = arg;

	c->tid = gettid();
	c->result = epoll_wait(c->fd, &c->ev, 1, 5000);
	return NULL;
}

static void start(struct call *c, void *(*fn)(void *), int fd)
{
	c->fd = fd;
	pthread_create(&c->thread, NULL, fn, c);
	while (!c->tid)
		;
	until_asleep(c->tid);
}

/* Linux deals out the number before it sleeps. */
static void accept_has_its_number(int listener)
{
	struct call c = { 0 };
	int next, expected;

	expected = dup(0);
	close(expected);
	start(&c, in_accept, listener);
	next = dup(0);
	say("a number opened meanwhile is the next: %d", next == expected + 1);
	tell('c');
	pthread_join(c.thread, NULL);
	say("accept had the one before: %d", c.result == expected);
	close(c.result);
	close(next);
}

static void shutdown_wakes_all(void)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_addr = peer_addr.sin_addr };
	struct call c[3] = { 0 };
	int l = (int)must("socket", socket(AF_INET, SOCK_STREAM, 0));

	must("bind", bind(l, (struct sockaddr *)&any, sizeof(any)));
	must("listen", listen(l, 5));
	for (int i = 0; i < 3; i++)
		start(&c[i], in_accept, l);
	saw("shutdown of a listener", shutdown(l, SHUT_RD));
	for (int i = 0; i < 3; i++) {
		pthread_join(c[i].thread, NULL);
		say("accept: %d %s", c[i].result, strerrorname_np(c[i].error));
	}
	close(l);
}

/* A thread sleeps in an empty epoll set; another adds a connection that has something to tell. */
static void epoll_gets_its_first_member(int fd)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = 7 };
	struct call c = { 0 };

	start(&c, in_epoll, (int)must("epoll_create1", epoll_create1(0)));
	saw("ADD under a sleeper", epoll_ctl(c.fd, EPOLL_CTL_ADD, fd, &ev));
	tell('d');
	pthread_join(c.thread, NULL);
	say("epoll_wait: %d, data %u %s", c.result, c.ev.data.u32, poll_bits(c.ev.events));
	close(c.fd);
}

void server(int listener)
{
	int fd;

	accept_has_its_number(listener);
	shutdown_wakes_all();
	tell('e');
	fd = peer_accept(listener);
	epoll_gets_its_first_member(fd);
	await('x');
	close(fd);
}

void client(void)
{
	int a, b;

	await('c');
	a = peer_connect();
	await('e');
	b = peer_connect();
	await('d');
	write_all(b, "data", 4);
	tell('x');
	close(a);
	close(b);
}
