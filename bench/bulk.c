/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bulk.c - one transfer with a time: the program of the goodput comparison, the same on the kernel and on the private stack
 *
 *   bulk recv PORT [FROM TO]    takes one connection to its end, closes; FROM TO: counts what came between these seconds
 *                               after the connection was there, then ends it
 *   bulk send ADDR PORT BYTES [MS]
 *                               sends as much, ends its side and waits for the other's end; MS: a line of TCP_INFO as often
 *
 * A line of key=value each. The sender's time runs from before connect() until the receiver has closed, so all has
 * arrived.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char buf[256 * 1024];

static void fail(const char *what)
{
	fprintf(stderr, "bulk: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int recv_all(uint16_t port, double from, double to)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(port) };
	int l = socket(AF_INET, SOCK_STREAM, 0), one = 1, s;
	uint64_t got = 0, counted = 0;
	double start, at;
	ssize_t n;

	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(l, (struct sockaddr *)&sin, sizeof(sin)) < 0 || listen(l, 1) < 0)
		fail("listen");
	printf("listening\n");
	fflush(stdout);
	s = accept(l, NULL, NULL);
	if (s < 0)
		fail("accept");
	start = seconds();
	while ((n = read(s, buf, sizeof(buf))) > 0) {
		got += (uint64_t)n;
		at = seconds() - start;
		if (at >= from && at < to)
			counted += (uint64_t)n;
		if (at >= to)
			break;
	}
	if (n < 0)
		fail("read");
	printf("bytes=%" PRIu64 " counted=%" PRIu64 "\n", got, counted);
	return 0;
}

/* The window over time, to be laid beside another sender's */
static void sample(int s, double at)
{
	struct tcp_info ti = { 0 };
	socklen_t len = sizeof(ti);

	getsockopt(s, IPPROTO_TCP, TCP_INFO, &ti, &len);
	printf("at=%.3f cwnd=%u ssthresh=%u rtt_us=%u unacked=%u retrans=%u state=%u\n", at, ti.tcpi_snd_cwnd,
	       ti.tcpi_snd_ssthresh, ti.tcpi_rtt, ti.tcpi_unacked, ti.tcpi_total_retrans, ti.tcpi_ca_state);
	fflush(stdout);
}

static int send_all(const char *addr, uint16_t port, uint64_t bytes, double every)
{
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(port) };
	int s = socket(AF_INET, SOCK_STREAM, 0);
	struct tcp_info ti = { 0 };
	socklen_t len = sizeof(ti);
	double start = seconds(), next = every;
	ssize_t n;

	inet_pton(AF_INET, addr, &sin.sin_addr);
	if (connect(s, (struct sockaddr *)&sin, sizeof(sin)) < 0)
		fail("connect");
	for (uint64_t sent = 0; sent < bytes; sent += (uint64_t)n) {
		n = send(s, buf, bytes - sent < sizeof(buf) ? bytes - sent : sizeof(buf), MSG_NOSIGNAL);
		if (n < 0 && (errno == EPIPE || errno == ECONNRESET)) /* the receiver has counted enough */
			return 0;
		if (n < 0)
			fail("send");
		if (every > 0 && seconds() - start >= next) {
			sample(s, seconds() - start);
			next += every;
		}
	}
	shutdown(s, SHUT_WR);
	if (read(s, buf, 1) != 0)
		fail("read");
	start = seconds() - start;
	getsockopt(s, IPPROTO_TCP, TCP_INFO, &ti, &len);
	printf("seconds=%.6f kbit_s=%.0f retrans=%u reordering=%u\n", start, (double)bytes * 8 / 1000 / start,
	       ti.tcpi_total_retrans, ti.tcpi_reordering);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc >= 3 && !strcmp(argv[1], "recv"))
		return recv_all((uint16_t)atoi(argv[2]), argc > 4 ? atof(argv[3]) : 0, argc > 4 ? atof(argv[4]) : 1e9);
	if ((argc == 5 || argc == 6) && !strcmp(argv[1], "send"))
		return send_all(argv[2], (uint16_t)atoi(argv[3]), strtoull(argv[4], NULL, 0), argc > 5 ? atof(argv[5]) / 1e3 : 0);
	fprintf(stderr, "usage: bulk recv PORT [FROM TO] | bulk send ADDR PORT BYTES [MS]\n");
	return 2;
}
