/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * signal_storm - a handler a thousand times a second, which uses the socket itself, beside every way to wait
 *
 * Not an octet is lost or doubled, whatever call the handler comes into; calls that are restarted never give EINTR, and the
 * others may be left by siglongjmp().
 */
#include "parity.h"
#include <setjmp.h>
#include <sys/select.h>
#include <sys/time.h>

enum { ROUNDS = 2000, ROUND_BYTES = 700, BULK = 2 << 20, PIECE = 16384 };
enum way { BY_READ, BY_POLL, BY_SELECT, BY_EPOLL, BY_JUMP, N_WAYS };
static const char *const way_names[] = { "read", "poll", "select", "epoll", "siglongjmp" };

static volatile int ticks, conn = -1;
static volatile bool may_jump;
static sigjmp_buf out;

static void tick(int sig)
{
	int saved = errno;
	char c;

	(void)sig;
	ticks++;
	if (recv(conn, &c, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno != EAGAIN && errno != ENOTCONN)
		_exit(9);
	errno = saved;
	if (may_jump) {
		may_jump = false;
		siglongjmp(out, 1);
	}
}

static void storm(int us)
{
	const struct itimerval often = { { 0, us }, { 0, us } };
	struct sigaction act = { .sa_handler = tick, .sa_flags = SA_RESTART };

	must("sigaction", sigaction(SIGALRM, &act, NULL));
	must("setitimer", setitimer(ITIMER_REAL, &often, NULL));
}

static int wait_once(int fd, int ep, enum way way, bool out_too)
{
	struct pollfd p = { .fd = fd, .events = (short)(POLLIN | (out_too ? POLLOUT : 0)) };
	struct epoll_event ev = { .events = (uint32_t)(EPOLLIN | (out_too ? EPOLLOUT : 0)) };
	fd_set rd, wr;

	switch (way) {
	case BY_POLL:
		return poll(&p, 1, 20000);
	case BY_SELECT:
		FD_ZERO(&rd);
		FD_ZERO(&wr);
		FD_SET(fd, &rd);
		if (out_too)
			FD_SET(fd, &wr);
		return select(fd + 1, &rd, &wr, NULL, &(struct timeval){ 20, 0 });
	default:
		must("MOD", epoll_ctl(ep, EPOLL_CTL_MOD, fd, &ev));
		return epoll_wait(ep, &ev, 1, 20000);
	}
}

static void wait_for(int fd, int ep, enum way way, bool out_too)
{
	int r = -1;

	if (way == BY_READ)
		return;
	if (sigsetjmp(out, 1))
		r = -1;
	do {
		may_jump = way == BY_JUMP;
		r = wait_once(fd, ep, way, out_too);
		may_jump = false;
	} while (r < 0 && errno == EINTR);
	if (r < 1) /* select() counts a number twice that can be read and written */
		say("%s: waited in vain", way_names[way]);
}

static bool later(ssize_t r)
{
	if (r < 0 && errno != EAGAIN)
		must("a call that is restarted", r);
	return r < 0;
}

static void echo(int fd, enum way way)
{
	static uint8_t buf[PIECE];
	struct epoll_event ev = { .events = EPOLLIN };
	int ep = (int)must("epoll", epoll_create1(0));
	uint64_t h = 0;
	size_t all = 0;
	ssize_t n, r;

	must("ADD", epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
	nonblocking(fd, way != BY_READ);
	while ((n = read(fd, buf, sizeof(buf)))) {
		if (later(n)) {
			wait_for(fd, ep, way, false);
			continue;
		}
		h = digest(h, buf, (size_t)n);
		all += (size_t)n;
		for (size_t off = 0; off < (size_t)n; off += r < 0 ? 0 : (size_t)r) {
			r = write(fd, buf + off, (size_t)n - off);
			if (later(r))
				wait_for(fd, ep, way, true);
		}
	}
	say("%s: %zu octets, %016llx", way_names[way], all, (unsigned long long)h);
	close(ep);
}

void server(int listener)
{
	for (int way = 0; way < N_WAYS; way++) {
		int fd = peer_accept(listener);

		conn = fd;
		ticks = 0;
		storm(1000);
		echo(fd, (enum way)way);
		storm(0);
		say("%s: the handler ran %s", way_names[way], ticks >= 5 ? "often" : "seldom");
		conn = -1;
		close(fd);
	}
}

static void bulk(int fd)
{
	static uint8_t given[BULK], back[BULK];
	size_t sent = 0, got = 0;

	fill(given, BULK, 7);
	nonblocking(fd, true);
	while (got < BULK) {
		struct pollfd p = { .fd = fd, .events = (short)(POLLIN | (sent < BULK ? POLLOUT : 0)) };
		ssize_t r;

		if (must("poll", poll(&p, 1, 20000)) != 1)
			break;
		r = p.revents & POLLOUT && sent < BULK ? write(fd, given + sent, BULK - sent) : 0;
		sent += r > 0 ? (size_t)r : 0;
		r = p.revents & POLLIN ? read(fd, back + got, BULK - got) : 0;
		got += r > 0 ? (size_t)r : 0;
	}
	say("%zu octets of bulk came back, %s", got, memcmp(given, back, BULK) ? "others" : "the same");
}

void client(void)
{
	uint8_t given[ROUND_BYTES], back[ROUND_BYTES];

	for (int way = 0; way < N_WAYS; way++) {
		int fd = peer_connect();

		for (int i = 0; i < ROUNDS; i++) {
			fill(given, sizeof(given), (uint32_t)i);
			write_all(fd, given, sizeof(given));
			read_all(fd, back, sizeof(back));
			if (memcmp(given, back, sizeof(given)))
				say("%s: round %d differs", way_names[way], i);
		}
		bulk(fd);
		close(fd);
	}
}
