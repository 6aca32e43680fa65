/* SPDX-License-Identifier: BSD-2-Clause */
/* saved_syn - TCP_SAVE_SYN and TCP_SAVED_SYN: headers of the SYN, once, at every length */
#include "parity.h"

#define O_SAVE_SYN  27
#define O_SAVED_SYN 28

static void save(int fd, int v)
{
	int now = -1;
	socklen_t len = sizeof(now);
	int r = setsockopt(fd, IPPROTO_TCP, O_SAVE_SYN, &v, sizeof(v));

	must("TCP_SAVE_SYN", getsockopt(fd, IPPROTO_TCP, O_SAVE_SYN, &now, &len));
	say("TCP_SAVE_SYN %d: %d, now %d", v, r, now);
}

static void saved(const char *what, int fd, socklen_t room)
{
	uint8_t b[256] = { 0 };
	socklen_t len = room;
	int r = getsockopt(fd, IPPROTO_TCP, O_SAVED_SYN, b, &len), ip = len == 74 ? 14 : 0;

	say("%s, room for %u: %s, %u", what, room, r ? strerrorname_np(errno) : "ok", len);
	if (r || !len)
		return;
	if (ip)
		say("  Ethernet: type %02x%02x", b[12], b[13]);
	say("  IPv%d, header of %d, length %d, protocol %d, to %d", b[ip] >> 4, (b[ip] & 15) * 4, b[ip + 2] << 8 | b[ip + 3], b[ip + 9],
	    !memcmp(b + ip + 16, &peer_addr.sin_addr, 4));
	say("  TCP: to our port %d, header of %d, flags %#x, acknowledges %u", !memcmp(b + ip + 22, &peer_addr.sin_port, 2),
	    (b[ip + 32] >> 4) * 4, b[ip + 33], b[ip + 28] | b[ip + 29] | b[ip + 30] | b[ip + 31]);
}

static void one(int listener, const char *what)
{
	int fd;

	tell('a');
	fd = peer_accept(listener);
	saved(what, fd, 0);
	saved(what, fd, 59);
	saved(what, fd, 73);
	saved(what, fd, 256);
	saved("once", fd, 256);
	save(fd, 0);
	close(fd);
}

void server(int listener)
{
	int fd = (int)must("socket", socket(AF_INET, SOCK_STREAM, 0));

	saved("fresh", fd, 256);
	saw("set TCP_SAVED_SYN", setsockopt(fd, IPPROTO_TCP, O_SAVED_SYN, &fd, sizeof(fd)));
	close(fd);
	for (int v = -1; v <= 3; v++)
		save(listener, v);
	saved("listener", listener, 256);
	save(listener, 0);
	one(listener, "not saved");
	save(listener, 1);
	one(listener, "from the IP header on");
	save(listener, 2);
	one(listener, "all headers");
	tell('z');
}

void client(void)
{
	for (int i = 0; i < 3; i++) {
		int fd;
		char c;

		await('a');
		fd = peer_connect();
		saved("client", fd, 256);
		must("read", read(fd, &c, 1));
		close(fd);
	}
	await('z');
}
