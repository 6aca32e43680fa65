/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * client.c - the client of the app tests
 *
 *	get ADDR PORT BYTES [PAUSE_MS]		reads to EOF, checks the pattern; stops reading once for PAUSE_MS after 4 MiB
 *	put ADDR PORT BYTES HOW			sends the pattern, then ends the way HOW says:
 *						close (and return from main), exit, _exit, kill (SIGKILL to itself), eof
 *						(shutdown, then waits for the peer's EOF)
 *	churn ADDR PORT COUNT PARALLEL WHO	COUNT connections, PARALLEL at once; WHO (client|server) closes first
 *	mix ADDR BULKPORT ECHOPORT BULK REQ SEC	BULK readers and REQ one-octet ping-pongs together for SEC seconds
 *
 * One line with the figures goes to stdout; the exit status is 0 only if nothing went wrong. CLIENT_SECONDS in the
 * environment (default 120) ends the program by SIGALRM.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
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

static unsigned char scratch[BUF_BYTES];
static struct sockaddr_in peer = { .sin_family = AF_INET };

static int64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000ll + ts.tv_nsec / 1000;
}

static void die(const char *what)
{
	printf("%s: %s\n", what, strerror(errno));
	fflush(stdout);
	exit(1);
}

static void set_peer(const char *addr, const char *port)
{
	if (inet_pton(AF_INET, addr, &peer.sin_addr) != 1) {
		fprintf(stderr, "client: bad address: %s\n", addr);
		exit(2);
	}
	peer.sin_port = htons((uint16_t)atoi(port));
}

static int open_blocking(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	if (connect(fd, (struct sockaddr *)&peer, sizeof(peer)))
		die("connect");
	return fd;
}

static int cmd_get(uint64_t want, long pause_ms)
{
	int fd = open_blocking();
	uint64_t got = 0;
	int64_t t0 = now_us();

	for (;;) {
		ssize_t n = recv(fd, scratch, sizeof(scratch), 0);

		if (n < 0)
			die("recv");
		if (n == 0)
			break;
		int64_t at = pattern_check(got, scratch, (size_t)n);

		if (at >= 0) {
			printf("get: wrong octet at %lld\n", (long long)(got + (uint64_t)at));
			return 1;
		}
		got += (uint64_t)n;
		if (pause_ms && got >= PAUSE_AFTER_BYTES) {
			struct timespec ts = { pause_ms / 1000, pause_ms % 1000 * 1000000 };

			pause_ms = 0;
			nanosleep(&ts, NULL); /* the case under test: a receiver that stops reading */
		}
	}
	close(fd);
	printf("get %llu of %llu in %lld us\n", (unsigned long long)got, (unsigned long long)want,
	       (long long)(now_us() - t0));
	return got == want ? 0 : 1;
}

static int cmd_put(uint64_t want, const char *how)
{
	int fd = open_blocking();
	uint64_t done = 0;
	int64_t t0 = now_us(), longest = 0;

	while (done < want) {
		size_t n;
		const unsigned char *p = pattern_at(done, &n);
		int64_t t = now_us();

		if (n > want - done)
			n = want - done;
		ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);

		if (sent < 0)
			die("send");
		t = now_us() - t;
		if (t > longest)
			longest = t;
		done += (uint64_t)sent;
	}
	printf("put %llu in %lld us, longest send %lld us\n", (unsigned long long)done, (long long)(now_us() - t0),
	       (long long)longest);
	fflush(stdout);
	if (!strcmp(how, "close")) {
		close(fd);
		return 0;
	}
	if (!strcmp(how, "exit"))
		exit(0);
	if (!strcmp(how, "_exit"))
		_exit(0);
	if (!strcmp(how, "kill"))
		raise(SIGKILL);
	shutdown(fd, SHUT_WR);
	if (recv(fd, scratch, 1, 0) != 0)
		die("waiting for EOF");
	close(fd);
	return 0;
}

/*
 * churn: one connection after another on each of @parallel lanes
 *
 * Two times are kept apart: how long a call of connect() takes (the kernel may search long for a port that has rested
 * for a second), and how long the handshake takes without the calls that other lanes made meanwhile, as this loop is
 * one thread. The second is the peer's doing.
 */
struct lane {
	int fd;
	bool connected, replied;
	int64_t t0;
	int64_t calls0_us;	/* churn.calls_us when this connection began */
};

struct churn {
	int ep;
	bool client_first;
	long left, open, done, errors, slow;	/* slow: connects of 100 ms and more */
	int64_t longest_us, sum_us;		/* of handshakes */
	int64_t calls_us, longest_call_us;	/* spent inside connect() */
	int first_errno;
	const char *first_where;
};

static void churn_error(struct churn *ch, const char *where, int err)
{
	if (!ch->errors++) {
		ch->first_errno = err;
		ch->first_where = where;
	}
}

static void lane_end(struct lane *l, struct churn *ch)
{
	close(l->fd);
	l->fd = -1;
	ch->open--;
}

/** lane_start() - Return: whether a connection is now under way on @l */
static bool lane_start(struct lane *l, struct churn *ch)
{
	struct epoll_event ev = { .events = EPOLLOUT, .data.ptr = l };

	ch->left--;
	*l = (struct lane){ .fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0),
			    .t0 = now_us(), .calls0_us = ch->calls_us };
	if (l->fd < 0)
		die("socket");
	ch->open++;
	int ret = connect(l->fd, (struct sockaddr *)&peer, sizeof(peer));
	int64_t took = now_us() - l->t0;

	ch->calls_us += took;
	if (took > ch->longest_call_us)
		ch->longest_call_us = took;
	if (ret && errno != EINPROGRESS) {
		churn_error(ch, "connect", errno);
		lane_end(l, ch);
		return false;
	}
	if (epoll_ctl(ch->ep, EPOLL_CTL_ADD, l->fd, &ev))
		die("epoll_ctl");
	return true;
}

/** lane_connected() - the three-way handshake is over, for better or worse; Return: whether to go on */
static bool lane_connected(struct lane *l, struct churn *ch)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = l };
	int64_t took = now_us() - l->t0 - (ch->calls_us - l->calls0_us);
	int err = 0;
	socklen_t len = sizeof(err);

	getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &err, &len);
	if (took > ch->longest_us)
		ch->longest_us = took;
	ch->sum_us += took;
	if (took >= 100000)
		ch->slow++;
	if (err || send(l->fd, "q", 1, MSG_NOSIGNAL) != 1) {
		churn_error(ch, err ? "connect" : "send", err ? err : errno);
		return false;
	}
	l->connected = true;
	epoll_ctl(ch->ep, EPOLL_CTL_MOD, l->fd, &ev);
	return true;
}

/** lane_step() - Return: whether the connection goes on */
static bool lane_step(struct lane *l, struct churn *ch)
{
	if (!l->connected)
		return lane_connected(l, ch);
	ssize_t n = recv(l->fd, scratch, 16, 0);

	if (n < 0 && errno == EAGAIN)
		return true;
	if (n < 0 || (n == 0 && (!l->replied || ch->client_first))) {
		churn_error(ch, "recv", n < 0 ? errno : 0);
		return false;
	}
	if (n == 0 || ch->client_first) {
		ch->done++;
		return false;
	}
	l->replied = true;
	return true;
}

static int cmd_churn(long count, int parallel, bool client_first)
{
	struct churn ch = { .ep = epoll_create1(EPOLL_CLOEXEC), .client_first = client_first, .left = count };
	struct lane *lanes = calloc((size_t)parallel, sizeof(*lanes));
	struct epoll_event ev[64];
	int64_t t0 = now_us();

	for (int i = 0; i < parallel; i++)
		while (ch.left > 0 && !lane_start(&lanes[i], &ch))
			;
	while (ch.open > 0) {
		int n = epoll_wait(ch.ep, ev, 64, -1);

		for (int i = 0; i < n; i++) {
			struct lane *l = ev[i].data.ptr;

			if (lane_step(l, &ch))
				continue;
			lane_end(l, &ch);
			while (ch.left > 0 && !lane_start(l, &ch))
				;
		}
	}
	double sec = (double)(now_us() - t0) / 1e6;

	printf("churn %ld of %ld, %ld errors (first: %s %s), "
	       "%ld slow, longest handshake %lld us, mean %lld us, longest call %lld us, %.0f per second\n",
	       ch.done, count, ch.errors, ch.first_where ? ch.first_where : "none",
	       ch.first_errno ? strerror(ch.first_errno) : "", ch.slow, (long long)ch.longest_us,
	       (long long)(ch.done ? ch.sum_us / ch.done : 0), (long long)ch.longest_call_us, (double)ch.done / sec);
	free(lanes);
	return ch.done == count && ch.errors == 0 ? 0 : 1;
}

struct flow {
	int fd;
	bool bulk;
	uint64_t count;		/* octets (bulk) or replies */
	int64_t last_us, longest_gap_us;
};

static void flow_progress(struct flow *f, uint64_t n)
{
	int64_t t = now_us();

	if (t - f->last_us > f->longest_gap_us)
		f->longest_gap_us = t - f->last_us;
	f->last_us = t;
	f->count += n;
}

static void flow_step(struct flow *f)
{
	ssize_t n = recv(f->fd, scratch, f->bulk ? sizeof(scratch) : 1, MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0)
		die("mix: recv");
	flow_progress(f, f->bulk ? (uint64_t)n : 1);
	if (!f->bulk && send(f->fd, "p", 1, MSG_NOSIGNAL) != 1)
		die("mix: send");
}

static int cmd_mix(char **a)
{
	int n_bulk = atoi(a[3]), n_req = atoi(a[4]), n_flows = n_bulk + n_req, ep = epoll_create1(EPOLL_CLOEXEC), one = 1;
	int64_t end = now_us() + atoi(a[5]) * 1000000ll;
	struct flow *flows = calloc((size_t)n_flows, sizeof(*flows));
	struct epoll_event ev[64];

	for (int i = 0; i < n_flows; i++) {
		struct flow *f = &flows[i];
		struct epoll_event e = { .events = EPOLLIN, .data.ptr = f };

		f->bulk = i < n_bulk;
		set_peer(a[0], f->bulk ? a[1] : a[2]);
		f->fd = open_blocking();
		setsockopt(f->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		f->last_us = now_us();
		epoll_ctl(ep, EPOLL_CTL_ADD, f->fd, &e);
		if (!f->bulk && send(f->fd, "p", 1, MSG_NOSIGNAL) != 1)
			die("mix: send");
	}
	while (now_us() < end) {
		int n = epoll_wait(ep, ev, 64, 100);

		for (int i = 0; i < n; i++)
			flow_step(ev[i].data.ptr);
	}
	uint64_t low[2] = { UINT64_MAX, UINT64_MAX }, sum[2] = { 0, 0 };
	int64_t gap[2] = { 0, 0 };

	for (int i = 0; i < n_flows; i++) {
		struct flow *f = &flows[i];

		flow_progress(f, 0);
		sum[f->bulk] += f->count;
		if (f->count < low[f->bulk])
			low[f->bulk] = f->count;
		if (f->longest_gap_us > gap[f->bulk])
			gap[f->bulk] = f->longest_gap_us;
	}
	printf("mix bulk_sum %llu bulk_min %llu bulk_gap_us %lld req_sum %llu req_min %llu req_gap_us %lld\n",
	       (unsigned long long)sum[1], (unsigned long long)low[1], (long long)gap[1], (unsigned long long)sum[0],
	       (unsigned long long)low[0], (long long)gap[0]);
	return 0;
}

int main(int argc, char **argv)
{
	const char *seconds = getenv("CLIENT_SECONDS");

	alarm(seconds ? (unsigned)atoi(seconds) : 120);
	pattern_init();
	if (argc >= 5)
		set_peer(argv[2], argv[3]);
	if (argc >= 5 && !strcmp(argv[1], "get"))
		return cmd_get(strtoull(argv[4], NULL, 0), argc > 5 ? atol(argv[5]) : 0);
	if (argc == 6 && !strcmp(argv[1], "put"))
		return cmd_put(strtoull(argv[4], NULL, 0), argv[5]);
	if (argc == 7 && !strcmp(argv[1], "churn"))
		return cmd_churn(atol(argv[4]), atoi(argv[5]), !strcmp(argv[6], "client"));
	if (argc == 8 && !strcmp(argv[1], "mix"))
		return cmd_mix(argv + 2);
	fprintf(stderr, "usage: client get|put|churn|mix ... (see the head of client.c)\n");
	return 2;
}
