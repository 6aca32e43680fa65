/* SPDX-License-Identifier: BSD-2-Clause */
/* echo - a mebibyte there and back, in pieces of odd sizes */
#include "parity.h"

#define BYTES (1 << 20)

void server(int listener)
{
	int fd = peer_accept(listener);
	static uint8_t buf[7001];
	size_t total = 0;
	uint64_t h = 0;
	ssize_t n;

	while ((n = must("read", read(fd, buf, sizeof(buf)))) > 0) {
		h = digest(h, buf, (size_t)n);
		total += (size_t)n;
		write_all(fd, buf, (size_t)n);
	}
	say("received %zu, digest %016lx", total, (unsigned long)h);
	saw("close", close(fd));
}

void client(void)
{
	static uint8_t out[BYTES], in[BYTES];
	int fd = peer_connect();
	size_t sent = 0, got = 0;

	fill(out, sizeof(out), 1);
	for (size_t piece = 1; sent < BYTES; piece = piece * 3 % 40009 + 1) {
		size_t n = piece < BYTES - sent ? piece : BYTES - sent;
		struct iovec v[3] = { { out + sent, n / 3 }, { NULL, 0 }, { out + sent + n / 3, n - n / 3 } };
		ssize_t w = must("writev", writev(fd, v, 3));

		sent += (size_t)w;
		while (sent - got > 64 * 1024) /* both buffers hold that much: nobody waits for ever */
			got += (size_t)must("recv", recv(fd, in + got, sizeof(in) - got, 0));
	}
	must("shutdown", shutdown(fd, SHUT_WR));
	read_all(fd, in + got, BYTES - got);
	say("equal: %d", memcmp(in, out, BYTES) == 0);
	saw("end of stream", recv(fd, in, 1, 0));
	saw("close", close(fd));
}
