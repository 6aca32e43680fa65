/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ask.c - a question and its answer, over and over, on one connection or many
 *
 *	ask ADDRESS PORT CONNECTIONS MILLISECONDS QUESTION BYTES	sends QUESTION (\\r, \\n understood), waits for BYTES
 *	ask --echo PORT							answers each octet with itself, one thread
 *	ask --hold PORT							listens, and never waits for anything: a host that stays
 *
 * Both are as plain as a program can be, so that what they cost is the sockets: one connection is asked with blocking calls,
 * more with level-triggered epoll. The asker prints `ops N us T p50_us A p99_us B` and ends with 1 if a connection ends early.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUCKETS 100000 /* of 0.1 us; slower answers count as 10 ms */

struct conn {
	int fd;
	size_t left; /* of the answer */
	long long asked_ns;
};

static char question[4096];
static size_t question_bytes, answer_bytes;
static unsigned long buckets[BUCKETS + 1], ops;

static long long now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void unescape(const char *s)
{
	while (*s && question_bytes < sizeof(question)) {
		char c = *s++;

		if (c == '\\' && *s) {
			c = *s == 'r' ? '\r' : *s == 'n' ? '\n' : *s;
			s++;
		}
		question[question_bytes++] = c;
	}
}

static void ask(struct conn *c)
{
	c->left = answer_bytes;
	c->asked_ns = now_ns();
	if (send(c->fd, question, question_bytes, MSG_NOSIGNAL) != (ssize_t)question_bytes)
		die("ask: send");
}

/* Some of the answer; when it is whole, the next question. */
static void answer(struct conn *c)
{
	static char buf[65536];
	ssize_t n = recv(c->fd, buf, c->left < sizeof(buf) ? c->left : sizeof(buf), 0);
	long long tenths;

	if (n <= 0) {
		fprintf(stderr, "ask: %s\n", n ? strerror(errno) : "the connection ended");
		exit(1);
	}
	c->left -= (size_t)n;
	if (c->left)
		return;
	tenths = (now_ns() - c->asked_ns) / 100;
	buckets[tenths < BUCKETS ? tenths : BUCKETS]++;
	ops++;
	ask(c);
}

static double quantile(double q)
{
	unsigned long want = (unsigned long)((double)ops * q), seen = 0;
	int i;

	for (i = 0; i < BUCKETS && seen + buckets[i] <= want; i++)
		seen += buckets[i];
	return i / 10.0;
}

static void connect_all(struct conn *c, int n, const struct sockaddr_in *to, int ep)
{
	for (int i = 0; i < n; i++) {
		struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &c[i] };

		c[i].fd = socket(AF_INET, SOCK_STREAM, 0);
		if (c[i].fd < 0 || connect(c[i].fd, (const struct sockaddr *)to, sizeof(*to)))
			die("ask: connect");
		setsockopt(c[i].fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
		if (epoll_ctl(ep, EPOLL_CTL_ADD, c[i].fd, &ev))
			die("ask: epoll_ctl");
	}
}

static void run(struct conn *c, int n, int ep, long long end)
{
	struct epoll_event ev[64];

	for (int i = 0; i < n; i++)
		ask(&c[i]);
	while (now_ns() < end) {
		int got = n == 1 ? 0 : epoll_wait(ep, ev, 64, 1000);

		if (n == 1)
			answer(&c[0]);
		for (int i = 0; i < got; i++)
			answer(ev[i].data.ptr);
	}
}

static int listen_on(int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	int l = socket(AF_INET, SOCK_STREAM, 0);

	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
	if (bind(l, (struct sockaddr *)&a, sizeof(a)) || listen(l, 16))
		die("ask: listen");
	return l;
}

static int echo(int port)
{
	int l = listen_on(port), fd;
	static char buf[65536];
	ssize_t n;

	while ((fd = accept(l, NULL, NULL)) >= 0) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
		while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
			if (send(fd, buf, (size_t)n, MSG_NOSIGNAL) < 0)
				break;
		close(fd);
	}
	die("ask: accept");
	return 1;
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	long long start;
	struct conn *c;
	int n, ep;

	if (argc == 3 && !strcmp(argv[1], "--echo"))
		return echo(atoi(argv[2]));
	if (argc == 3 && !strcmp(argv[1], "--hold") && listen_on(atoi(argv[2])) >= 0)
		return pause();
	if (argc != 7 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1 || (n = atoi(argv[3])) < 1) {
		fprintf(stderr, "usage: ask ADDRESS PORT CONNECTIONS MILLISECONDS QUESTION BYTES | ask --echo PORT | ask --hold PORT\n");
		return 2;
	}
	to.sin_port = htons((uint16_t)atoi(argv[2]));
	unescape(argv[5]);
	answer_bytes = strtoul(argv[6], NULL, 10);
	c = calloc((size_t)n, sizeof(*c));
	ep = epoll_create1(0);
	if (!c || ep < 0)
		die("ask");
	connect_all(c, n, &to, ep);
	start = now_ns();
	run(c, n, ep, start + atoll(argv[4]) * 1000000);
	printf("ops %lu us %lld p50_us %.1f p99_us %.1f\n", ops, (now_ns() - start) / 1000, quantile(0.5), quantile(0.99));
	return 0;
}
