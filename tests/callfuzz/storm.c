/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * storm.c - threads that call at the same time: nothing is determined, some things must hold
 *
 * Four threads do whatever comes to descriptors that they share and take from each other: a number may be closed or mean
 * something else between any two instructions, so any error but EFAULT is right there. Beside it each thread has a connection
 * to itself, under numbers far above those that are dealt out, over which it sends and receives a stream whose octets it
 * knows: no error, nothing lost, nothing of others. At the end no number is left, and every thread came back from every call.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "callfuzz.h"

enum { N_SHARED = 24, N_STORMERS = 4, OWN_FROM = 700, STALL_S = 15 };

static _Atomic int shared[N_SHARED];
static struct sockaddr_in storm_at;
static int storm_listener, storm_epoll;
static _Atomic long steps;
static _Atomic bool over;

struct stormer {
	pthread_t thread;
	uint64_t rng, sent, got;
	int own[2];
};

static void bad_end(const char *what)
{
	int e = errno;

	fprintf(stderr, "storm: %s (errno %s)\n", what, strerrorname_np(e));
	_exit(1);
}

static void check(long r)
{
	if (r < 0 && errno == EFAULT)
		bad_end("EFAULT for good memory");
}

static int any(struct stormer *s)
{
	return shared[rnd(&s->rng) % N_SHARED];
}

/* A new number goes into a slot; what was there is closed. */
static void put(struct stormer *s, int fd)
{
	check(fd);
	if (fd < 0)
		return;
	fd = atomic_exchange(&shared[rnd(&s->rng) % N_SHARED], fd);
	if (fd >= 0)
		check(close(fd));
}

/* ---- what must hold ---- */

static uint8_t octet(uint64_t n)
{
	return (uint8_t)((n * 0x9e3779b97f4a7c15u) >> 56);
}

static void own_stream(struct stormer *s)
{
	uint8_t buf[3000];
	size_t n = 1 + rnd(&s->rng) % sizeof(buf);
	ssize_t r;

	for (size_t i = 0; i < n; i++)
		buf[i] = octet(s->sent + i);
	r = s->sent - s->got > 30000 ? 0 : send(s->own[0], buf, n, MSG_DONTWAIT);
	if (r < 0 && errno != EAGAIN)
		bad_end("send on a connection of one's own");
	s->sent += r > 0 ? (uint64_t)r : 0;
	r = recv(s->own[1], buf, sizeof(buf), s->sent - s->got > 20000 ? 0 : MSG_DONTWAIT);
	if (r == 0 || (r < 0 && errno != EAGAIN))
		bad_end("recv on a connection of one's own");
	for (ssize_t i = 0; i < r; i++)
		if (buf[i] != octet(s->got++))
			bad_end("an octet is another's");
}

/* ---- what may happen ---- */

static void storm_connect(struct stormer *s)
{
	int fd = socket(AF_INET, SOCK_STREAM | (rnd(&s->rng) % 2 ? SOCK_NONBLOCK : 0), 0);

	check(fd);
	if (fd < 0)
		return;
	check(connect(fd, (void *)&storm_at, sizeof(storm_at)));
	put(s, fd);
}

static void storm_poll(struct stormer *s)
{
	struct pollfd p[4];

	for (int i = 0; i < 4; i++)
		p[i] = (struct pollfd){ any(s), POLLIN | (rnd(&s->rng) % 2 ? POLLOUT : 0), 0 };
	check(poll(p, 4, (int)(rnd(&s->rng) % 3)));
}

static void storm_epoll_act(struct stormer *s)
{
	static const uint32_t extra[] = { 0, EPOLLET, EPOLLONESHOT, EPOLLET | EPOLLONESHOT, EPOLLEXCLUSIVE };
	struct epoll_event ev[8] = { { .events = EPOLLIN | EPOLLOUT | extra[rnd(&s->rng) % 5] } };

	if (rnd(&s->rng) % 2)
		check(epoll_ctl(storm_epoll, 1 + (int)(rnd(&s->rng) % 3), any(s), ev));
	else
		check(epoll_wait(storm_epoll, ev, 8, (int)(rnd(&s->rng) % 3)));
}

static void storm_fork(struct stormer *s)
{
	pid_t pid = fork();
	char c;

	if (pid == 0) {
		for (int i = 0; i < 6; i++) {
			check(send(any(s), "child", 5, MSG_DONTWAIT | MSG_NOSIGNAL));
			check(recv(any(s), &c, 1, MSG_DONTWAIT));
			put(s, dup(any(s)));
		}
		_exit(0);
	}
	check(pid);
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static void storm_act(struct stormer *s)
{
	uint8_t buf[4000] = { 0 };
	int value = (int)(rnd(&s->rng) % 2), fd;
	socklen_t len = sizeof(value);

	switch (rnd(&s->rng) % 16) {
	case 0: case 1:
		storm_connect(s);
		break;
	case 2: case 3:
		put(s, accept4(storm_listener, NULL, NULL, SOCK_NONBLOCK));
		break;
	case 4: case 5:
		check(send(any(s), buf, rnd(&s->rng) % sizeof(buf), MSG_DONTWAIT | MSG_NOSIGNAL));
		break;
	case 6: case 7:
		check(recv(any(s), buf, sizeof(buf), MSG_DONTWAIT | (value ? MSG_PEEK : 0)));
		break;
	case 8:
		check(shutdown(any(s), (int)(rnd(&s->rng) % 3)));
		break;
	case 9:
		put(s, dup(any(s)));
		break;
	case 10:
		fd = any(s);
		if (fd >= 0 && fd < OWN_FROM && any(s) >= 0)
			check(dup2(any(s), fd));
		break;
	case 11:
		fd = atomic_exchange(&shared[rnd(&s->rng) % N_SHARED], -1);
		if (fd >= 0)
			check(close(fd));
		break;
	case 12:
		storm_poll(s);
		break;
	case 13:
		storm_epoll_act(s);
		break;
	case 14:
		check(setsockopt(any(s), SOL_SOCKET, SO_KEEPALIVE, &value, len));
		check(getsockopt(any(s), SOL_SOCKET, SO_ERROR, &value, &len));
		check(ioctl(any(s), FIONREAD, &value));
		break;
	default:
		if (rnd(&s->rng) % 20 == 0)
			storm_fork(s);
	}
}

static void *storm_thread(void *arg)
{
	struct stormer *s = arg;

	while (!over) {
		storm_act(s);
		own_stream(s);
		steps++;
	}
	while (s->got < s->sent)
		own_stream(s);
	return NULL;
}

/* ---- frame ---- */

static int far_up(int fd)
{
	int up = fcntl(fd, F_DUPFD, OWN_FROM);

	if (up < 0)
		bad_end("F_DUPFD");
	close(fd);
	return up;
}

static void storm_listen(void)
{
	socklen_t len = sizeof(storm_at);

	storm_at = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	storm_listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (bind(storm_listener, (void *)&storm_at, len) < 0 || listen(storm_listener, 4096) < 0 ||
	    getsockname(storm_listener, (void *)&storm_at, &len) < 0)
		bad_end("listen");
	storm_listener = far_up(storm_listener);
	storm_epoll = far_up(epoll_create1(0));
}

static void own_pair(struct stormer *s)
{
	struct pollfd p = { storm_listener, POLLIN, 0 };

	s->own[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(s->own[0], (void *)&storm_at, sizeof(storm_at)) < 0 || poll(&p, 1, 5000) != 1)
		bad_end("a connection of one's own");
	s->own[1] = far_up(accept(storm_listener, NULL, NULL));
	s->own[0] = far_up(s->own[0]);
}

static int left_open(void)
{
	int left = 0;

	for (int fd = 3; fd < OWN_FROM; fd++)
		left += fcntl(fd, F_GETFD) >= 0;
	return left;
}

int storm(uint64_t seed, int seconds)
{
	static struct stormer s[N_STORMERS];
	long seen = -1;

	for (int i = 0; i < N_SHARED; i++)
		shared[i] = -1;
	storm_listen();
	for (int i = 0; i < N_STORMERS; i++) {
		s[i].rng = seed + (uint64_t)i;
		own_pair(&s[i]);
	}
	for (int i = 0; i < N_STORMERS; i++)
		if (pthread_create(&s[i].thread, NULL, storm_thread, &s[i]))
			bad_end("pthread_create");
	for (int t = 0, still = 0; t < seconds; t++) {
		sleep(1);
		still = steps == seen ? still + 1 : 0;
		seen = steps;
		if (still >= STALL_S)
			bad_end("nothing moves");
	}
	over = true;
	for (int i = 0; i < N_STORMERS; i++)
		pthread_join(s[i].thread, NULL);
	/* numbers for which threads raced are nobody's now; the own ones come last, so that all the rest is looked at */
	if (close_range(3, ~0U, 0) < 0 || left_open())
		bad_end("numbers are left");
	printf("storm steps %ld\n", steps);
	return 0;
}
