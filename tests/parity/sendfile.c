/* SPDX-License-Identifier: BSD-2-Clause */
/* sendfile - from a file, with and without an offset, to its end and beyond; and from what is no file */
#include "parity.h"
#include <sys/sendfile.h>

#define BYTES 3000000

static int file_make(void)
{
	char path[] = "/tmp/parity-sendfile-XXXXXX";
	int fd = (int)must("mkstemp", mkstemp(path));
	static uint8_t buf[BYTES];

	unlink(path);
	fill(buf, sizeof(buf), 3);
	write_all(fd, buf, sizeof(buf));
	say("file's digest %016lx", (unsigned long)digest(0, buf, sizeof(buf)));
	return fd;
}

static size_t send_range(int sock, int file, off_t from, size_t n)
{
	off_t off = from;
	size_t left = n;

	while (left) {
		ssize_t r = must("sendfile", sendfile(sock, file, &off, left));

		if (!r)
			break;
		left -= (size_t)r;
	}
	say("range from %ld: sent %zu, offset %ld", (long)from, n - left, (long)off);
	return n - left;
}

void server(int listener)
{
	int fd = peer_accept(listener), file = file_make(), p[2];
	size_t sent = 0;
	ssize_t r;

	must("pipe", pipe(p));
	must("lseek", lseek(file, 0, SEEK_SET));
	while ((r = must("sendfile", sendfile(fd, file, NULL, 1 << 20))) > 0)
		sent += (size_t)r;
	say("by position: sent %zu, position %ld", sent, (long)lseek(file, 0, SEEK_CUR));
	send_range(fd, file, 1000, 2000);
	send_range(fd, file, BYTES - 10, 100);
	say("position untouched: %d", lseek(file, 0, SEEK_CUR) == BYTES);
	saw("nothing asked", sendfile(fd, file, NULL, 0));
	saw("negative offset", sendfile(fd, file, &(off_t){ -1 }, 1));
	saw("from a pipe", sendfile(fd, p[0], NULL, 1));
	saw("from a pipe with an offset", sendfile(fd, p[0], &(off_t){ 0 }, 1));
	saw("from a closed number", sendfile(fd, 999, NULL, 1));
	saw("from a socket", sendfile(fd, fd, NULL, 1));
	shutdown(fd, SHUT_WR);
	signal(SIGPIPE, SIG_IGN);
	saw("after SHUT_WR", sendfile(fd, file, &(off_t){ 0 }, 1));
	await('a');
	close(fd);
}

void client(void)
{
	static uint8_t buf[65536];
	int fd = peer_connect();
	size_t total = 0;
	uint64_t h = 0;
	ssize_t n;

	while ((n = must("read", read(fd, buf, sizeof(buf)))) > 0) {
		h = digest(h, buf, (size_t)n);
		total += (size_t)n;
	}
	say("received %zu, digest %016lx", total, (unsigned long)h);
	tell('a');
	close(fd);
}
