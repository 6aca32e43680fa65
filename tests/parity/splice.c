/* SPDX-License-Identifier: BSD-2-Clause */
/* splice - socket to pipe and back, what is refused, tee between pipes on the way */
#include "parity.h"

#define BULK (300 * 1000)

static void refused(int fd, int other, int r, int w)
{
	loff_t off = 0;

	saw("nothing", splice(fd, NULL, w, NULL, 0, 0));
	saw("nothing, bad flags", splice(fd, NULL, w, NULL, 0, 0x1000));
	saw("bad flags", splice(fd, NULL, w, NULL, 10, 0x1000));
	saw("no pipe", splice(fd, NULL, other, NULL, 10, 0));
	saw("offset of the pipe", splice(r, &off, fd, NULL, 10, SPLICE_F_NONBLOCK));
	saw("offset of the socket", splice(fd, &off, w, NULL, 10, SPLICE_F_NONBLOCK));
	saw("read end for output", splice(fd, NULL, r, NULL, 10, SPLICE_F_NONBLOCK));
	saw("write end for input", splice(w, NULL, fd, NULL, 10, SPLICE_F_NONBLOCK));
	saw("no such input", splice(-1, NULL, fd, NULL, 10, 0));
	saw("no such output", splice(fd, NULL, 999, NULL, 10, 0));
	saw("empty pipe", splice(r, NULL, fd, NULL, 10, SPLICE_F_NONBLOCK));
	saw("tee from a socket", tee(fd, w, 10, SPLICE_F_NONBLOCK));
	saw("tee to a socket", tee(r, fd, 10, SPLICE_F_NONBLOCK));
}

static void small(int fd, int r, int w)
{
	char buf[64] = "";

	nonblocking(fd, true);
	saw("no data", splice(fd, NULL, w, NULL, 10, 0));
	nonblocking(fd, false);
	tell('a');
	saw("blocks for data", splice(fd, NULL, w, NULL, 5, 0));
	saw("the rest of it", splice(fd, NULL, w, NULL, 100, 0));
	saw("from the pipe", read(r, buf, sizeof(buf)));
	say("  %s", buf);
	must("write", write(w, "back again", 10));
	saw("into the socket", splice(r, NULL, fd, NULL, 100, SPLICE_F_MORE));
	must("write", write(w, ".", 1));
	saw("and one more", splice(r, NULL, fd, NULL, 100, 0));
}

/* All that comes goes through the pipe and back. */
static void bulk(int fd, int r, int w)
{
	size_t got = 0, sent = 0;

	while (got < BULK || sent < BULK) {
		if (got < BULK)
			got += (size_t)must("splice in", splice(fd, NULL, w, NULL, BULK - got, SPLICE_F_MOVE));
		while (sent < got)
			sent += (size_t)must("splice out", splice(r, NULL, fd, NULL, got - sent, SPLICE_F_MOVE | SPLICE_F_MORE));
	}
	say("through the pipe: %zu", sent);
}

void server(int listener)
{
	int fd = peer_accept(listener), p[2], q[2], none;

	must("pipe", pipe(p));
	must("pipe", pipe(q));
	refused(fd, listener, p[0], p[1]);
	small(fd, p[0], p[1]);
	bulk(fd, p[0], p[1]);
	must("write", write(p[1], "twice", 5));
	saw("tee between pipes", tee(p[0], q[1], 5, 0));
	saw("one of them", splice(p[0], NULL, fd, NULL, 5, 0));
	saw("the other", splice(q[0], NULL, fd, NULL, 5, 0));
	tell('b');
	saw("end of the stream", splice(fd, NULL, p[1], NULL, 10, 0));
	must("close", close(q[1]));
	saw("end of the pipe", splice(q[0], NULL, fd, NULL, 10, 0));
	must("shutdown", shutdown(fd, SHUT_WR));
	signal(SIGPIPE, SIG_IGN);
	must("write", write(p[1], "x", 1));
	saw("after shutdown", splice(p[0], NULL, fd, NULL, 10, 0));
	none = (int)must("socket", socket(AF_INET, SOCK_STREAM, 0));
	saw("listener", splice(listener, NULL, p[1], NULL, 10, 0));
	saw("never connected, in", splice(none, NULL, p[1], NULL, 10, 0));
	saw("never connected, out", splice(p[0], NULL, none, NULL, 10, SPLICE_F_NONBLOCK));
	close(fd);
}

void client(void)
{
	static uint8_t out[BULK], in[BULK];
	int fd = peer_connect();
	char buf[32] = "";
	pid_t pid;

	await('a');
	write_all(fd, "hello splice", 12);
	read_all(fd, buf, 11);
	say("%s", buf);
	fill(out, BULK, 7);
	pid = (pid_t)must("fork", fork());
	if (!pid) {
		write_all(fd, out, BULK);
		_exit(0);
	}
	read_all(fd, in, BULK);
	say("the same octets: %d", !memcmp(in, out, BULK));
	must("waitpid", waitpid(pid, NULL, 0));
	read_all(fd, buf, 10);
	say("%.10s", buf);
	await('b');
	must("shutdown", shutdown(fd, SHUT_WR));
	saw("end", read(fd, buf, 1));
	close(fd);
}
