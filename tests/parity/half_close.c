/* SPDX-License-Identifier: BSD-2-Clause */
/* half_close - the client ends its request by SHUT_WR; a long answer follows in the other direction */
#include "parity.h"

#define REQUEST 100000
#define ANSWER	2000000
static uint8_t buf[ANSWER];

void server(int listener)
{
	int fd = peer_accept(listener);
	size_t total = 0;
	ssize_t n;

	while ((n = must("read", read(fd, buf, sizeof(buf)))) > 0)
		total += (size_t)n;
	say("request %zu", total);
	fill(buf, sizeof(buf), 9);
	write_all(fd, buf, sizeof(buf));
	saw("close", close(fd));
}

void client(void)
{
	int fd = peer_connect();
	size_t total = 0;
	uint64_t h = 0;
	ssize_t n;

	write_all(fd, buf, REQUEST);
	must("shutdown", shutdown(fd, SHUT_WR));
	while ((n = must("read", read(fd, buf, 5000))) > 0) {
		h = digest(h, buf, (size_t)n);
		total += (size_t)n;
	}
	say("answer %zu, digest %016lx", total, (unsigned long)h);
	saw("end again", read(fd, buf, 1));
	saw("close", close(fd));
}
