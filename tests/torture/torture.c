/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * torture.c - eight threads where one would do
 *
 *	torture stream|closing|epoll-exclusive|epoll-oneshot|epoll-edge|epoll-mixed|opening COUNT
 *
 *	stream	4 threads send records through one connection and 4 receive it, each by its own kind of call; what is received
 *		is taken under a lock, record by record, so that order and content of every octet can be checked
 *	closing	threads receive and send on one connection while another shuts it down, closes it, or puts another socket over
 *		its number: all come back, and with an answer that belongs to one of the two
 *	epoll-*	8 threads wait in one epoll set for COUNT events of 64 connections: none is lost and none is had twice
 *	opening	8 threads open, connect, exchange an octet and close, COUNT in all: no number is left, and none is another's
 *
 * Everything talks to itself on 127.0.0.1. A thread that waits longer than STALL_S is a lost wake-up: it is said which, and the
 * exit status is 1.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { N_THREADS = 8, N_PAIRS = 64, STALL_S = 20, RECORD_WORDS = 64 };

static _Atomic long progress;	/* moves with every step of anybody: the watchdog looks at it */
static const char *stage = "start";
static long count;

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *fmt, ...)
{
	int e = errno;
	va_list ap;

	va_start(ap, fmt);
	fprintf(stderr, "torture: %s: ", stage);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, " (errno %s)\n", strerrorname_np(e));
	_exit(1);
}

static long must(long r, const char *what)
{
	if (r < 0)
		die("%s", what);
	return r;
}

static void *watchdog(void *arg)
{
	long seen = -1;

	(void)arg;
	for (int still = 0;; still++) {
		if (seen != progress)
			still = 0;
		seen = progress;
		if (still >= STALL_S)
			die("nothing moved for %d s after %ld steps: a lost wake-up", STALL_S, seen);
		sleep(1);
	}
	return NULL;
}

static void run_threads(int n, void *(*fn)(void *), void *args, size_t arg_bytes)
{
	pthread_t t[N_THREADS];

	for (int i = 0; i < n; i++)
		if (pthread_create(&t[i], NULL, fn, (char *)args + (size_t)i * arg_bytes))
			die("pthread_create");
	for (int i = 0; i < n; i++)
		pthread_join(t[i], NULL);
}

/* ---- connections ---- */

static struct sockaddr_in loopback(uint16_t port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static int listen_any(struct sockaddr_in *ret)
{
	socklen_t len = sizeof(*ret);
	int l = (int)must(socket(AF_INET, SOCK_STREAM, 0), "socket");

	*ret = loopback(0);
	must(bind(l, (void *)ret, len), "bind");
	must(listen(l, 4096), "listen");
	must(getsockname(l, (void *)ret, &len), "getsockname");
	return l;
}

static void make_pair(int l, const struct sockaddr_in *at, int fds[2])
{
	fds[0] = (int)must(socket(AF_INET, SOCK_STREAM, 0), "socket");
	must(connect(fds[0], (const void *)at, sizeof(*at)), "connect");
	fds[1] = (int)must(accept(l, NULL, NULL), "accept");
}

/* ---- stream ---- */

/*
 * Octet n of the stream is a function of n. Senders take their stretch of it and send it under one lock, receivers receive
 * under another, so that each knows where it is; the two directions of waiting run against each other all the time, and the
 * kind of call changes with the thread.
 */
static struct stream {
	int fds[2];
	pthread_mutex_t tx, rx;
	uint64_t sent, got, total;
} stream;

static uint8_t octet_at(uint64_t n)
{
	return (uint8_t)((n * 0x9e3779b97f4a7c15u) >> 56);
}

static void *stream_send(void *arg)
{
	unsigned me = *(unsigned *)arg;
	uint8_t buf[20000];

	for (unsigned turn = 0;; turn++) {
		size_t n = 1 + (me * 7919u + turn * 104729u) % sizeof(buf), off = 0;

		pthread_mutex_lock(&stream.tx);
		if (n > stream.total - stream.sent)
			n = stream.total - stream.sent;
		for (size_t i = 0; i < n; i++)
			buf[i] = octet_at(stream.sent + i);
		while (off < n) {
			struct iovec iov[2] = { { buf + off, (n - off) / 2 }, { buf + off + (n - off) / 2, n - off - (n - off) / 2 } };
			ssize_t r = me % 2 ? writev(stream.fds[0], iov, 2) : send(stream.fds[0], buf + off, n - off, 0);

			off += (size_t)must(r, "send");
			progress++;
		}
		stream.sent += n;
		pthread_mutex_unlock(&stream.tx);
		if (!n)
			return NULL;
	}
}

static ssize_t receive_one_way(unsigned how, int fd, uint8_t *buf, size_t n)
{
	struct pollfd p = { fd, POLLIN, 0 };
	ssize_t r;

	switch (how % 4) {
	case 0:
		return recv(fd, buf, n, 0);
	case 1:
		return read(fd, buf, n);
	case 2:
		return recv(fd, buf, 1 + n / 8, MSG_WAITALL);
	default:
		while ((r = recv(fd, buf, n, MSG_DONTWAIT)) < 0 && errno == EAGAIN)
			must(poll(&p, 1, -1), "poll");
		return r;
	}
}

static void *stream_receive(void *arg)
{
	unsigned me = *(unsigned *)arg;
	uint8_t buf[30000];

	for (;;) {
		uint64_t left;
		ssize_t r;

		pthread_mutex_lock(&stream.rx);
		left = stream.total - stream.got; /* MSG_WAITALL would wait for ever for more: nothing ends this stream */
		r = left ? receive_one_way(me, stream.fds[1], buf, left < sizeof(buf) ? left : sizeof(buf)) : 0;
		must(r, "receive");
		for (ssize_t i = 0; i < r; i++)
			if (buf[i] != octet_at(stream.got + (uint64_t)i))
				die("octet %llu is wrong", (unsigned long long)stream.got + (unsigned long long)i);
		stream.got += (uint64_t)r;
		progress++;
		pthread_mutex_unlock(&stream.rx);
		if (!r)
			return NULL;
	}
}

static void *stream_thread(void *arg)
{
	return *(unsigned *)arg < N_THREADS / 2 ? stream_send(arg) : stream_receive(arg);
}

/* As before, but all receive at once: order cannot be checked then, the number and the sum of octets can. */
static _Atomic uint64_t free_got, free_sum, free_sent, free_sent_sum;

static void *free_thread(void *arg)
{
	unsigned me = *(unsigned *)arg;
	bool sends = me < N_THREADS / 2;
	uint8_t buf[9000];
	uint64_t mine = stream.total / (N_THREADS / 2);

	memset(buf, (int)me + 1, sizeof(buf));
	while (sends && mine) {
		size_t n = mine < 4096 + me ? mine : 4096 + me;
		ssize_t r = must(send(stream.fds[0], buf, n, 0), "send");

		mine -= (uint64_t)r;
		free_sent += (uint64_t)r;
		free_sent_sum += (uint64_t)r * (me + 1);
		progress++;
	}
	while (!sends) {
		ssize_t r = must(receive_one_way(me == 6 ? 3 : me % 2, stream.fds[1], buf, sizeof(buf)), "receive");

		if (!r)
			return NULL;
		for (ssize_t i = 0; i < r; i++)
			free_sum += buf[i];
		free_got += (uint64_t)r;
		progress++;
	}
	return NULL;
}

/* The end of the stream has to come to every receiver. */
static void *free_closer(void *arg)
{
	(void)arg;
	while (free_sent < stream.total / (N_THREADS / 2) * (N_THREADS / 2))
		usleep(1000);
	must(shutdown(stream.fds[0], SHUT_WR), "shutdown");
	return NULL;
}

static void test_stream(void)
{
	unsigned id[N_THREADS];
	struct sockaddr_in at;
	int l = listen_any(&at);
	pthread_t closer;

	make_pair(l, &at, stream.fds);
	pthread_mutex_init(&stream.tx, NULL);
	pthread_mutex_init(&stream.rx, NULL);
	stream.total = (uint64_t)count;
	for (unsigned i = 0; i < N_THREADS; i++)
		id[i] = i;
	run_threads(N_THREADS, stream_thread, id, sizeof(*id));
	stage = "stream, all at once";
	pthread_create(&closer, NULL, free_closer, NULL);
	run_threads(N_THREADS, free_thread, id, sizeof(*id));
	pthread_join(closer, NULL);
	if (free_got != free_sent || free_sum != free_sent_sum)
		die("sent %llu received %llu, sums differ by %lld", (unsigned long long)free_sent, (unsigned long long)free_got,
		    (long long)(free_sent_sum - free_sum));
	close(stream.fds[0]);
	close(stream.fds[1]);
	close(l);
	printf("stream octets %llu\n", (unsigned long long)(stream.got + free_got));
}

/* ---- closing ---- */

static struct closing {
	int fd, other[2];
	pthread_barrier_t begin, end;
	_Atomic bool over;
	unsigned round;
} closing;

static bool closing_answer_ok(ssize_t r, bool receives)
{
	if (r >= 0)
		return true;
	/* EINVAL: docs/compatibility.md, a call that meets the close() of its number */
	if (closing.round % 4 == 1 && errno == EINVAL)
		return true;
	return errno == EBADF || errno == ECONNRESET || errno == EPIPE || errno == ENOTCONN || (receives && errno == EAGAIN);
}

static void *closing_thread(void *arg)
{
	unsigned me = *(unsigned *)arg;
	char buf[3000] = { 0 };

	for (;;) {
		pthread_barrier_wait(&closing.begin);
		if (closing.over)
			return NULL;
		for (bool done = false; !done;) {
			struct pollfd p = { closing.fd, POLLIN, 0 };
			ssize_t r;

			switch (me) {
			case 0: case 1:
				r = recv(closing.fd, buf, sizeof(buf), 0);
				break;
			case 2: case 3:
				r = send(closing.fd, buf, sizeof(buf), MSG_NOSIGNAL);
				break;
			case 4:
				r = poll(&p, 1, 1000);
				done = r >= 0;
				break;
			default:
				r = read(closing.fd, buf, 100);
			}
			if (!closing_answer_ok(r, me < 2 || me > 4))
				die("thread %u got %zd", me, r);
			done |= r < 0 || (r == 0 && me != 2 && me != 3);
			progress++;
		}
		pthread_barrier_wait(&closing.end);
	}
}

/* What ends a round. A call that sleeps on a closed number may go on with the old file: the peer ends it then. */
static void closing_act(int peer)
{
	struct timespec pause = { 0, (long)(closing.round * 7919u % 400) * 1000 };
	char buf[65536];

	nanosleep(&pause, NULL);
	switch (closing.round % 4) {
	case 0:
		must(shutdown(closing.fd, SHUT_RDWR), "shutdown");
		break;
	case 1:
		must(close(closing.fd), "close");
		closing.fd = -1;
		break;
	case 2:
		must(dup2(closing.other[0], closing.fd), "dup2");
		must(shutdown(closing.other[1], SHUT_RDWR), "shutdown of the other");
		break;
	case 3:
		must(shutdown(peer, SHUT_WR), "shutdown of the peer");
		while (recv(peer, buf, sizeof(buf), MSG_DONTWAIT) > 0)
			;
		break;
	}
	shutdown(peer, SHUT_RDWR);
	close(peer);
}

static void *closing_conductor(void *arg)
{
	struct sockaddr_in at;
	int l = listen_any(&at), pair[2];

	(void)arg;
	for (closing.round = 0; closing.round < (unsigned)count; closing.round++) {
		make_pair(l, &at, pair);
		make_pair(l, &at, closing.other);
		closing.fd = pair[0];
		pthread_barrier_wait(&closing.begin);
		closing_act(pair[1]);
		pthread_barrier_wait(&closing.end);
		if (closing.fd >= 0)
			must(close(closing.fd), "close at the end");
		must(close(closing.other[0]), "close of the other");
		must(close(closing.other[1]), "close of the other's peer");
	}
	closing.over = true;
	pthread_barrier_wait(&closing.begin);
	close(l);
	return NULL;
}

static void test_closing(void)
{
	unsigned id[N_THREADS];
	pthread_t conductor;
	enum { N = 6 };

	pthread_barrier_init(&closing.begin, NULL, N + 1);
	pthread_barrier_init(&closing.end, NULL, N + 1);
	for (unsigned i = 0; i < N; i++)
		id[i] = i;
	pthread_create(&conductor, NULL, closing_conductor, NULL);
	run_threads(N, closing_thread, id, sizeof(*id));
	pthread_join(conductor, NULL);
	printf("closing rounds %u\n", closing.round);
}

/* ---- epoll ---- */

/*
 * Every event is one record of 4 octets, its number in its connection. The writer goes on with a connection only when the
 * record before was taken, so each record is an event of its own; whoever takes it says so by writing it back.
 */
static struct waiting {
	int ep, pairs[N_PAIRS][2], stop[2];
	uint32_t mode;
	_Atomic long taken, empty;
	_Atomic uint32_t next[N_PAIRS];
} waiting;

static void rearm(unsigned i)
{
	struct epoll_event ev = { .events = EPOLLIN | waiting.mode, .data.u32 = i };

	if (waiting.mode & EPOLLONESHOT)
		must(epoll_ctl(waiting.ep, EPOLL_CTL_MOD, waiting.pairs[i][1], &ev), "epoll_ctl MOD");
}

static void take(unsigned i)
{
	uint32_t n;
	ssize_t r;

	while ((r = recv(waiting.pairs[i][1], &n, sizeof(n), MSG_DONTWAIT)) == sizeof(n)) {
		if (n != waiting.next[i]++)
			die("connection %u: record %u, expected %u", i, n, waiting.next[i] - 1);
		waiting.taken++;
		progress++;
		must(send(waiting.pairs[i][1], &n, sizeof(n), 0), "send back");
	}
	if (r >= 0 || errno != EAGAIN)
		die("connection %u: recv gave %zd", i, r);
}

static void *epoll_thread(void *arg)
{
	unsigned me = *(unsigned *)arg;
	struct epoll_event ev[8];

	for (;;) {
		int n = (int)must(epoll_wait(waiting.ep, ev, 1 + (int)me % 8, -1), "epoll_wait");

		for (int i = 0; i < n; i++) {
			long before = waiting.taken;

			if (ev[i].data.u32 == N_PAIRS)
				return NULL;
			/* level-triggered, several may be woken for one event: who comes late finds nothing */
			take(ev[i].data.u32);
			waiting.empty += before == waiting.taken;
			rearm(ev[i].data.u32);
		}
	}
}

static void *epoll_writer(void *arg)
{
	static uint32_t sent[N_PAIRS];
	long left = count, out = 0;
	struct epoll_event ev[16];
	int back = (int)must(epoll_create1(0), "epoll_create1");
	uint32_t n;

	(void)arg;
	for (unsigned i = 0; i < N_PAIRS; i++) {
		struct epoll_event e = { .events = EPOLLIN, .data.u32 = i };

		must(epoll_ctl(back, EPOLL_CTL_ADD, waiting.pairs[i][0], &e), "epoll_ctl");
		must(send(waiting.pairs[i][0], &sent[i], 4, 0), "send");
		sent[i]++;
		left--;
		out++;
	}
	while (out) {
		int r = (int)must(epoll_wait(back, ev, 16, -1), "epoll_wait of the writer");

		for (int k = 0; k < r; k++) {
			unsigned i = ev[k].data.u32;

			if (recv(waiting.pairs[i][0], &n, 4, 0) != 4 || n != sent[i] - 1)
				die("connection %u: wrong record back", i);
			out--;
			if (left <= 0)
				continue;
			must(send(waiting.pairs[i][0], &sent[i], 4, 0), "send");
			sent[i]++;
			left--;
			out++;
		}
	}
	close(back);
	must(write(waiting.stop[1], "stop", 4), "write"); /* level-triggered: all threads see it */
	return NULL;
}

static void test_epoll(uint32_t mode)
{
	struct epoll_event stop = { .events = EPOLLIN, .data.u32 = N_PAIRS };
	unsigned id[N_THREADS];
	struct sockaddr_in at;
	int l = listen_any(&at), one = 1;
	pthread_t writer;

	waiting.mode = mode;
	waiting.ep = (int)must(epoll_create1(0), "epoll_create1");
	must(pipe(waiting.stop), "pipe");
	must(epoll_ctl(waiting.ep, EPOLL_CTL_ADD, waiting.stop[0], &stop), "epoll_ctl");
	for (unsigned i = 0; i < N_PAIRS; i++) {
		struct epoll_event ev = { .events = EPOLLIN | mode, .data.u32 = i };

		make_pair(l, &at, waiting.pairs[i]);
		setsockopt(waiting.pairs[i][0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		setsockopt(waiting.pairs[i][1], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		must(epoll_ctl(waiting.ep, EPOLL_CTL_ADD, waiting.pairs[i][1], &ev), "epoll_ctl");
	}
	for (unsigned i = 0; i < N_THREADS; i++)
		id[i] = i;
	pthread_create(&writer, NULL, epoll_writer, NULL);
	run_threads(N_THREADS, epoll_thread, id, sizeof(*id));
	pthread_join(writer, NULL);
	if (waiting.taken != (count > N_PAIRS ? count : N_PAIRS))
		die("%ld records of %ld taken", waiting.taken, count);
	for (unsigned i = 0; i < N_PAIRS; i++) {
		close(waiting.pairs[i][0]);
		close(waiting.pairs[i][1]);
	}
	close(waiting.ep);
	close(l);
	printf("epoll records %ld empty %ld\n", waiting.taken, waiting.empty);
}

/* ---- epoll-mixed ---- */

/*
 * Four threads, each with a set of its own that holds a connection and a descriptor of the kernel's on which nothing ever
 * happens; four ask them. Between two answers a set is asleep, and what comes while it looks at the kernel's side must wake it.
 */
static struct mixed {
	int fds[2];
} mixed[N_THREADS / 2];

static void mixed_answer(int fd)
{
	int ep = (int)must(epoll_create1(0), "epoll_create1"), silent[2];
	struct epoll_event ev = { .events = EPOLLIN };
	uint32_t n;
	ssize_t r;

	must(pipe(silent), "pipe");
	must(epoll_ctl(ep, EPOLL_CTL_ADD, silent[0], &ev), "epoll_ctl");
	must(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev), "epoll_ctl");
	for (;;) {
		must(epoll_wait(ep, &ev, 1, -1), "epoll_wait");
		r = must(recv(fd, &n, 4, 0), "recv");
		if (!r)
			break;
		must(send(fd, &n, 4, 0), "send");
	}
	close(ep);
	close(silent[0]);
	close(silent[1]);
}

static void *mixed_thread(void *arg)
{
	unsigned me = *(unsigned *)arg;
	struct mixed *m = &mixed[me / 2];
	uint32_t got;

	if (me % 2) {
		mixed_answer(m->fds[1]);
		return NULL;
	}
	for (uint32_t n = 0; n < (uint32_t)count / (N_THREADS / 2); n++) {
		must(send(m->fds[0], &n, 4, 0), "send");
		if (recv(m->fds[0], &got, 4, MSG_WAITALL) != 4 || got != n)
			die("answer %u is wrong", n);
		progress++;
	}
	must(shutdown(m->fds[0], SHUT_WR), "shutdown");
	return NULL;
}

static void test_mixed(void)
{
	unsigned id[N_THREADS];
	struct sockaddr_in at;
	int l = listen_any(&at), one = 1;

	for (unsigned i = 0; i < N_THREADS / 2; i++) {
		make_pair(l, &at, mixed[i].fds);
		for (int k = 0; k < 2; k++)
			setsockopt(mixed[i].fds[k], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	}
	for (unsigned i = 0; i < N_THREADS; i++)
		id[i] = i;
	run_threads(N_THREADS, mixed_thread, id, sizeof(*id));
	for (unsigned i = 0; i < N_THREADS / 2; i++) {
		close(mixed[i].fds[0]);
		close(mixed[i].fds[1]);
	}
	close(l);
	printf("mixed answers %ld\n", count / (N_THREADS / 2) * (N_THREADS / 2));
}

/* ---- opening ---- */

static struct sockaddr_in opening_at;
static int opening_listener;
static _Atomic long opening_left, opened;

/* Four connect, four accept; each octet names the port it came from, so that a wrong descriptor shows. */
static void *opening_connect(void *arg)
{
	uint16_t port;

	(void)arg;
	while (opening_left-- > 0) {
		struct sockaddr_in me;
		socklen_t len = sizeof(me);
		int fd = (int)must(socket(AF_INET, SOCK_STREAM, 0), "socket");

		must(connect(fd, (void *)&opening_at, sizeof(opening_at)), "connect");
		must(getsockname(fd, (void *)&me, &len), "getsockname");
		if (send(fd, &me.sin_port, 2, 0) != 2 || recv(fd, &port, 2, MSG_WAITALL) != 2 || port != me.sin_port)
			die("descriptor %d: the answer is another's", fd);
		opened++;
		progress++;
		must(close(fd), "close");
	}
	return NULL;
}

static void *opening_accept(void *arg)
{
	(void)arg;
	for (;;) {
		struct sockaddr_in from;
		socklen_t len = sizeof(from);
		uint16_t port;
		int fd = accept(opening_listener, (void *)&from, &len);

		if (fd < 0 && errno == EINVAL)
			return NULL; /* shut down: the end */
		must(fd, "accept");
		if (recv(fd, &port, 2, MSG_WAITALL) != 2 || port != from.sin_port || send(fd, &port, 2, 0) != 2)
			die("descriptor %d: port %u, from %u", fd, port, from.sin_port);
		must(close(fd), "close");
	}
}

static void *opening_end(void *arg)
{
	(void)arg;
	run_threads(N_THREADS / 2, opening_connect, &opening_left, 0);
	must(shutdown(opening_listener, SHUT_RD), "shutdown");
	return NULL;
}

static int numbers_open(void)
{
	int n = 0;

	for (int fd = 3; fd < 500; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void test_opening(void)
{
	pthread_t connectors;
	int left = -numbers_open();

	opening_listener = listen_any(&opening_at);
	opening_left = count;
	pthread_create(&connectors, NULL, opening_end, NULL);
	run_threads(N_THREADS / 2, opening_accept, &opening_left, 0);
	pthread_join(connectors, NULL);
	close(opening_listener);
	left += numbers_open();
	if (left)
		die("%d numbers are still open", left);
	printf("opening connections %ld\n", opened);
}

int main(int argc, char **argv)
{
	pthread_t dog;

	if (argc != 3)
		return fprintf(stderr, "usage: torture stream|closing|epoll-exclusive|epoll-oneshot|epoll-edge|epoll-mixed|opening COUNT\n"), 2;
	stage = argv[1];
	count = atol(argv[2]);
	signal(SIGPIPE, SIG_IGN);
	for (int fd = 3; fd < 64; fd++)
		close(fd);
	pthread_create(&dog, NULL, watchdog, NULL);
	if (!strcmp(argv[1], "stream"))
		test_stream();
	else if (!strcmp(argv[1], "closing"))
		test_closing();
	else if (!strcmp(argv[1], "epoll-exclusive"))
		test_epoll(EPOLLEXCLUSIVE);
	else if (!strcmp(argv[1], "epoll-oneshot"))
		test_epoll(EPOLLONESHOT);
	else if (!strcmp(argv[1], "epoll-edge"))
		test_epoll(EPOLLET);
	else if (!strcmp(argv[1], "epoll-mixed"))
		test_mixed();
	else if (!strcmp(argv[1], "opening"))
		test_opening();
	else
		return 2;
	return 0;
}
