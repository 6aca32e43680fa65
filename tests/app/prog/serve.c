/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * serve.c - the server of the app tests, several roles in one process, a port each
 *
 *	echo:PORT		sends back what comes, until the peer closes
 *	reply:PORT		answers the first octet with one octet and closes first
 *	speak:PORT:BYTES	speaks first: BYTES of the pattern, then FIN
 *	sink:PORT		takes everything, checks it against the pattern, says what it saw at EOF
 *
 * --fork handles each connection in a child with blocking calls, else one level-triggered epoll loop serves all.
 * --pause MS makes a forked sink stop reading once for that long, after 4 MiB.
 * --seconds N ends the program by SIGALRM. A line per finished sink goes to stdout.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "pattern.h"

#define BUF_BYTES (256u << 10)
#define PAUSE_AFTER_BYTES (4u << 20)
#define MAX_LISTENERS 16

enum role { ECHO, REPLY, SPEAK, SINK };

struct conn {
	int fd;
	bool listener;
	enum role role;
	uint64_t bytes;		/* SPEAK: octets to send in all */
	uint64_t done;		/* octets sent (SPEAK) or taken (SINK) */
	int64_t bad;		/* SINK: offset of the first wrong octet, -1 if none */
	size_t held, held_at;	/* ECHO: octets read and not yet sent back */
	unsigned char *buf;	/* ECHO: those octets; made when the peer does not take them at once */
	bool eof;
};

static struct conn listeners[MAX_LISTENERS];
static int n_listeners;
static long pause_ms;
static bool forking;
static unsigned char scratch[BUF_BYTES];

static void die(const char *what)
{
	fprintf(stderr, "serve: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void add_listener(const char *spec, const char *addr)
{
	static const char *const names[] = { "echo", "reply", "speak", "sink" };
	struct sockaddr_in sin = { .sin_family = AF_INET };
	struct conn *l = &listeners[n_listeners++];
	char name[16] = "";
	unsigned port = 0;
	unsigned long long bytes = 0;
	int one = 1;

	if (n_listeners > MAX_LISTENERS || sscanf(spec, "%15[a-z]:%u:%llu", name, &port, &bytes) < 2 || port > 65535) {
		fprintf(stderr, "serve: bad role: %s\n", spec);
		exit(2);
	}
	for (l->role = ECHO; l->role <= SINK && strcmp(names[l->role], name); l->role++)
		;
	if (l->role > SINK) {
		fprintf(stderr, "serve: bad role: %s\n", spec);
		exit(2);
	}
	l->listener = true;
	l->bytes = bytes;
	l->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (forking ? 0 : SOCK_NONBLOCK), 0);
	if (l->fd < 0)
		die("socket");
	sin.sin_port = htons((uint16_t)port);
	if (inet_pton(AF_INET, addr, &sin.sin_addr) != 1)
		die(addr);
	setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(l->fd, (struct sockaddr *)&sin, sizeof(sin)) || listen(l->fd, 4096))
		die("bind or listen");
}

static void sink_report(const struct conn *c, int err)
{
	if (c->bad >= 0)
		printf("sink %llu bad at %lld\n", (unsigned long long)c->done, (long long)c->bad);
	else
		printf("sink %llu %s\n", (unsigned long long)c->done, err ? strerror(err) : "ok");
	fflush(stdout);
}

static void sink_take(struct conn *c, size_t n)
{
	int64_t at = pattern_check(c->done, scratch, n);

	if (at >= 0 && c->bad < 0)
		c->bad = (int64_t)c->done + at;
	c->done += n;
}

/** echo_step() - Return: whether the connection goes on */
static bool echo_step(struct conn *c)
{
	for (;;) {
		while (c->held) {
			ssize_t n = send(c->fd, c->buf + c->held_at, c->held, MSG_NOSIGNAL);

			if (n < 0)
				return errno == EAGAIN;
			c->held -= (size_t)n;
			c->held_at += (size_t)n;
		}
		if (c->eof)
			return false;
		ssize_t n = recv(c->fd, scratch, sizeof(scratch), 0);

		if (n < 0)
			return errno == EAGAIN;
		if (n == 0) {
			c->eof = true;
			continue;
		}
		ssize_t sent = send(c->fd, scratch, (size_t)n, MSG_NOSIGNAL);

		if (sent < 0 && errno != EAGAIN)
			return false;
		if (sent < n) {
			if (!c->buf && !(c->buf = malloc(BUF_BYTES)))
				die("malloc");
			c->held_at = 0;
			c->held = (size_t)(n - (sent > 0 ? sent : 0));
			memcpy(c->buf, scratch + (n - (ssize_t)c->held), c->held);
		}
	}
}

static bool speak_step(struct conn *c)
{
	while (c->done < c->bytes) {
		size_t n;
		const unsigned char *p = pattern_at(c->done, &n);

		if (n > c->bytes - c->done)
			n = c->bytes - c->done;
		ssize_t sent = send(c->fd, p, n, MSG_NOSIGNAL);

		if (sent < 0)
			return errno == EAGAIN;
		c->done += (uint64_t)sent;
		if (c->done == c->bytes)
			shutdown(c->fd, SHUT_WR);
	}
	ssize_t n = recv(c->fd, scratch, sizeof(scratch), 0); /* the peer's EOF ends it */

	return n > 0 || (n < 0 && errno == EAGAIN);
}

static bool sink_step(struct conn *c)
{
	for (;;) {
		ssize_t n = recv(c->fd, scratch, sizeof(scratch), 0);

		if (n < 0 && errno == EAGAIN)
			return true;
		if (n <= 0) {
			sink_report(c, n < 0 ? errno : 0);
			return false;
		}
		sink_take(c, (size_t)n);
	}
}

static bool reply_step(struct conn *c)
{
	ssize_t n = recv(c->fd, scratch, sizeof(scratch), 0);

	if (n < 0 && errno == EAGAIN)
		return true;
	if (n > 0 && send(c->fd, "r", 1, MSG_NOSIGNAL) != 1)
		fprintf(stderr, "serve: reply: %s\n", strerror(errno));
	return false;
}

static bool step(struct conn *c)
{
	switch (c->role) {
	case ECHO:
		return echo_step(c);
	case REPLY:
		return reply_step(c);
	case SPEAK:
		return speak_step(c);
	case SINK:
		return sink_step(c);
	}
	return false;
}

static void accept_all(int ep, const struct conn *l)
{
	for (;;) {
		int one = 1, fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0) {
			if (errno == EINTR || errno == ECONNABORTED)
				continue;
			if (errno != EAGAIN)
				die("accept4");
			return;
		}
		struct conn *c = calloc(1, sizeof(*c));
		struct epoll_event ev = { .events = EPOLLIN | (l->role == SPEAK ? EPOLLOUT : 0), .data.ptr = c };

		if (!c)
			die("calloc");
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		c->fd = fd;
		c->role = l->role;
		c->bytes = l->bytes;
		c->bad = -1;
		if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev))
			die("epoll_ctl");
	}
}

static void serve_epoll(void)
{
	struct epoll_event ev[256];
	int ep = epoll_create1(EPOLL_CLOEXEC);

	for (int i = 0; i < n_listeners; i++) {
		struct epoll_event e = { .events = EPOLLIN, .data.ptr = &listeners[i] };

		if (epoll_ctl(ep, EPOLL_CTL_ADD, listeners[i].fd, &e))
			die("epoll_ctl");
	}
	for (;;) {
		int n = epoll_wait(ep, ev, 256, -1);

		if (n < 0 && errno != EINTR)
			die("epoll_wait");
		for (int i = 0; i < n; i++) {
			struct conn *c = ev[i].data.ptr;

			if (c->listener) {
				accept_all(ep, c);
				continue;
			}
			if (!step(c)) {
				close(c->fd);
				free(c->buf);
				free(c);
				continue;
			}
			/* a connection with octets held back waits for room, not for more input */
			bool out = c->role == ECHO ? c->held > 0 : c->role == SPEAK && c->done < c->bytes;

			if (c->role == ECHO || c->role == SPEAK) {
				struct epoll_event e = { .events = out ? EPOLLOUT : EPOLLIN, .data.ptr = c };

				epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
			}
		}
	}
}

/** serve_one() - one connection with blocking calls, in a child of its own */
static void serve_one(struct conn *c)
{
	bool paused = pause_ms == 0;

	if (c->role != SINK) {
		while (step(c))
			;
		return;
	}
	for (;;) {
		ssize_t n = recv(c->fd, scratch, sizeof(scratch), 0);

		if (n <= 0) {
			sink_report(c, n < 0 ? errno : 0);
			return;
		}
		sink_take(c, (size_t)n);
		if (!paused && c->done >= PAUSE_AFTER_BYTES) {
			struct timespec ts = { pause_ms / 1000, pause_ms % 1000 * 1000000 };

			paused = true;
			nanosleep(&ts, NULL); /* the case under test: a receiver that stops reading */
		}
	}
}

static void serve_fork(void)
{
	signal(SIGCHLD, SIG_IGN);
	for (int i = 1; i < n_listeners; i++) /* one process per listener, each blocks in accept */
		if (fork() == 0) {
			listeners[0] = listeners[i];
			break;
		}
	for (;;) {
		struct conn c = { .role = listeners[0].role, .bytes = listeners[0].bytes, .bad = -1 };

		c.fd = accept(listeners[0].fd, NULL, NULL);
		if (c.fd < 0) {
			if (errno == EINTR || errno == ECONNABORTED)
				continue;
			die("accept");
		}
		pid_t pid = fork();

		if (pid < 0)
			die("fork");
		if (pid == 0) {
			close(listeners[0].fd);
			serve_one(&c);
			close(c.fd);
			exit(0);
		}
		close(c.fd);
	}
}

int main(int argc, char **argv)
{
	static const struct option opts[] = { { "addr", 1, NULL, 'a' }, { "fork", 0, NULL, 'f' },
					      { "pause", 1, NULL, 'p' }, { "seconds", 1, NULL, 's' }, { 0 } };
	const char *addr = "0.0.0.0";
	int o;

	while ((o = getopt_long(argc, argv, "", opts, NULL)) != -1) {
		if (o == 'a')
			addr = optarg;
		else if (o == 'f')
			forking = true;
		else if (o == 'p')
			pause_ms = atol(optarg);
		else if (o == 's')
			alarm((unsigned)atoi(optarg));
		else
			return 2;
	}
	pattern_init();
	for (; optind < argc; optind++)
		add_listener(argv[optind], addr);
	if (!n_listeners) {
		fprintf(stderr, "usage: serve [--addr A] [--fork] [--pause MS] [--seconds N] ROLE:PORT[:BYTES]...\n");
		return 2;
	}
	printf("ready\n");
	fflush(stdout);
	if (forking)
		serve_fork();
	else
		serve_epoll();
	return 0;
}
