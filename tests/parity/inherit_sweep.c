/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * inherit_sweep - every option number, set on the listener before and after listen(): what the accepted connection has of it
 *
 * Nobody has to remember an option. A number that says the same of a fresh socket, of the listener and of the child, whatever
 * is set, prints nothing.
 */
#include "parity.h"

#define ROOM 16

static const struct {
	const char *text;
	int level, last;
} levels[] = { { "SOCKET", SOL_SOCKET, 83 }, { "IP", IPPROTO_IP, 60 }, { "TCP", IPPROTO_TCP, 50 } };

/* What is the moment's, this machine's, or would keep the connection from being made */
static bool left_out(int level, int name)
{
	switch (level) {
	case SOL_SOCKET: /* error, CPU, devices, cookies, filters, memory, NAPI; reuse is the listener's own matter */
		return name == SO_ERROR || name == 25 || name == SO_ATTACH_FILTER || name == 28 || name == 49 || name == 50 || name == 51 ||
		       name == 52 || name == 55 || name == 56 || name == 57 || name == 62 || name == 71 || name == SO_SNDBUF ||
		       name == SO_ACCEPTCONN;
	case IPPROTO_IP: /* of the connection: MTU, options, port; keeps it from being made: IP_MINTTL */
		return name == IP_MINTTL || name == IP_MTU || name == IP_OPTIONS || name == 52;
	default: /* of the connection: segment size, info; the machine's: congestion control; privileged: repair */
		return name == TCP_MAXSEG || name == TCP_INFO || name == TCP_CONGESTION || name == TCP_CC_INFO || name == TCP_REPAIR ||
		       name == TCP_TIMESTAMP || name == TCP_DEFER_ACCEPT || name == TCP_WINDOW_CLAMP || name == 28 || name == TCP_ULP;
	}
}

static void look(int fd, int level, int name, char *to, size_t bytes)
{
	uint8_t buf[ROOM] = { 0 };
	socklen_t len = ROOM;
	uint64_t v[2];

	if (getsockopt(fd, level, name, buf, &len)) {
		snprintf(to, bytes, "%s", strerrorname_np(errno));
		return;
	}
	memcpy(v, buf, sizeof(v));
	snprintf(to, bytes, "%llx.%llx", (unsigned long long)v[0], (unsigned long long)v[1]);
}

static int fresh_listener(struct sockaddr_in *a)
{
	int fd = (int)must("socket", socket(AF_INET, SOCK_STREAM, 0));

	*a = peer_addr;
	a->sin_port = 0;
	must("bind", bind(fd, (struct sockaddr *)a, sizeof(*a)));
	return fd;
}

/* Connects to itself: one process sees all three. */
static void one(const char *text, int level, int name, int value, bool late)
{
	char before[64], listener[64], child[64];
	struct sockaddr_in a;
	socklen_t len = sizeof(a);
	int l = fresh_listener(&a), c, s, r;

	look(l, level, name, before, sizeof(before));
	if (late)
		must("listen", listen(l, 1));
	r = setsockopt(l, level, name, &value, sizeof(value)) ? -errno : 0;
	if (!late)
		must("listen", listen(l, 1));
	look(l, level, name, listener, sizeof(listener));
	must("getsockname", getsockname(l, (struct sockaddr *)&a, &len));
	c = (int)must("socket", socket(AF_INET, SOCK_STREAM, 0));
	must("connect", connect(c, (struct sockaddr *)&a, sizeof(a)));
	s = peer_accept(l);
	look(s, level, name, child, sizeof(child));
	if (!r && (strcmp(before, listener) || strcmp(listener, child))) /* what is refused is sockopt_sweep's */
		say("%s %d = %d %s: was %s, listener %s, accepted %s", text, name, value, late ? "after listen" : "before listen", before, listener,
		    child);
	close(c);
	close(s);
	close(l);
}

void server(int listener)
{
	static const int values[] = { 0, 1, 7, 100 };

	(void)listener;
	for (size_t i = 0; i < sizeof(levels) / sizeof(*levels); i++)
		for (int name = 0; name <= levels[i].last; name++)
			for (size_t v = 0; v < sizeof(values) / sizeof(*values) && !left_out(levels[i].level, name); v++) {
				one(levels[i].text, levels[i].level, name, values[v], false);
				one(levels[i].text, levels[i].level, name, values[v], true);
			}
	tell('z');
}

void client(void)
{
	await('z');
}
