/* SPDX-License-Identifier: BSD-2-Clause */
/* sockopt_walk - options set, read back, refused, on a socket in each state */
#include "parity.h"
#include <limits.h>
#include <linux/in6.h>

struct row {
	const char *text;
	int level, name, value;
};
#define ROW(level, name, value) { #name " = " #value, level, name, value }
static const struct row rows[] = {
	ROW(SOL_SOCKET, SO_REUSEADDR, 5),
	ROW(SOL_SOCKET, SO_REUSEADDR, 0),
	ROW(SOL_SOCKET, SO_REUSEPORT, 1),
	ROW(SOL_SOCKET, SO_KEEPALIVE, 1),
	ROW(SOL_SOCKET, SO_OOBINLINE, 1),
	ROW(SOL_SOCKET, SO_RCVBUF, 100),
	ROW(SOL_SOCKET, SO_RCVBUF, 30000),
	ROW(SOL_SOCKET, SO_SNDBUF, 100),
	ROW(SOL_SOCKET, SO_SNDBUF, 30000),
	ROW(SOL_SOCKET, SO_RCVLOWAT, 0),
	ROW(SOL_SOCKET, SO_RCVLOWAT, 9),
	ROW(SOL_SOCKET, SO_RCVLOWAT, -1),
	ROW(SOL_SOCKET, SO_RCVLOWAT, 1),
	ROW(SOL_SOCKET, SO_SNDLOWAT, 1),
	ROW(SOL_SOCKET, SO_PRIORITY, 6),
	ROW(SOL_SOCKET, SO_TYPE, 1),
	ROW(SOL_SOCKET, SO_PROTOCOL, 1),
	ROW(SOL_SOCKET, SO_DOMAIN, 1),
	ROW(SOL_SOCKET, SO_ACCEPTCONN, 1),
	ROW(SOL_SOCKET, SO_ERROR, 1),
	ROW(SOL_SOCKET, 12345, 1),
	ROW(IPPROTO_IP, IP_TOS, 0x10),
	ROW(IPPROTO_IP, IP_TTL, 33),
	ROW(IPPROTO_IP, IP_TTL, 0),
	ROW(IPPROTO_IP, IP_TTL, 256),
	ROW(IPPROTO_IP, IP_TTL, -1),
	ROW(IPPROTO_IP, IP_FREEBIND, 1),
	ROW(IPPROTO_IPV6, 26 /* IPV6_V6ONLY */, 1),
	ROW(IPPROTO_TCP, TCP_NODELAY, 3),
	ROW(IPPROTO_TCP, TCP_CORK, 1),
	ROW(IPPROTO_TCP, TCP_CORK, 0),
	ROW(IPPROTO_TCP, TCP_KEEPIDLE, 60),
	ROW(IPPROTO_TCP, TCP_KEEPIDLE, 0),
	ROW(IPPROTO_TCP, TCP_KEEPIDLE, 32768),
	ROW(IPPROTO_TCP, TCP_KEEPINTVL, 5),
	ROW(IPPROTO_TCP, TCP_KEEPCNT, 128),
	ROW(IPPROTO_TCP, TCP_KEEPCNT, 4),
	ROW(IPPROTO_TCP, TCP_SYNCNT, 3),
	ROW(IPPROTO_TCP, TCP_SYNCNT, 0),
	ROW(IPPROTO_TCP, TCP_LINGER2, 10),
	ROW(IPPROTO_TCP, TCP_LINGER2, -5),
	ROW(IPPROTO_TCP, TCP_DEFER_ACCEPT, 5),
	ROW(IPPROTO_TCP, TCP_DEFER_ACCEPT, 0),
	ROW(IPPROTO_TCP, TCP_USER_TIMEOUT, 5000),
	ROW(IPPROTO_TCP, TCP_USER_TIMEOUT, -1),
	ROW(IPPROTO_TCP, TCP_NOTSENT_LOWAT, 16384),
	ROW(IPPROTO_TCP, 999, 1),
	ROW(9999, 1, 1),
};

static void walk(const char *state, int fd)
{
	say("-- %s", state);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		const struct row *r = &rows[i];
		int set = setsockopt(fd, r->level, r->name, &r->value, sizeof(r->value)), set_err = errno, v = -1;
		socklen_t len = sizeof(v);
		int get = getsockopt(fd, r->level, r->name, &v, &len), get_err = errno;

		say("%s: set %s, get %s, value %d, length %u", r->text, set ? strerrorname_np(set_err) : "ok",
		    get ? strerrorname_np(get_err) : "ok", get ? 0 : v, len);
	}
}

/* Every row of the library's own table that holds a number: at its bounds, and one beyond. */
static void table_one(int fd, const char *text, int level, int name, long value)
{
	struct row r = { text, level, name, (int)value };
	int set, v = -1;
	socklen_t len = sizeof(v);

	if (value < INT_MIN || value > INT_MAX)
		return;
	set = setsockopt(fd, r.level, r.name, &r.value, sizeof(r.value)) ? errno : 0;
	if (getsockopt(fd, level, name, &v, &len))
		v = -errno;
	say("%s = %d: %s, then %d", text, r.value, set ? strerrorname_np(set) : "ok", v);
}

static void table(int fd)
{
	enum { INT, BOOL };

	say("-- table");
#define GET 0
#define SET 1
#define GETSET 1
#define OPT(level, name, access, kind, field, lowest, highest, unset, effect, source)                                  \
	if (access) {                                                                                      \
		table_one(fd, #name, level, name, kind == INT ? (long)(lowest) - 1 : -1);             \
		table_one(fd, #name, level, name, (long)(highest) + 1);                                              \
		table_one(fd, #name, level, name, highest);                                                          \
		table_one(fd, #name, level, name, lowest);                                                           \
	}
#define OPT_FN(level, name, get, set, source)
#include "../../preload/sockopts.def"
#undef OPT
#undef OPT_FN
}

static void lengths(int fd)
{
	struct timeval tv = { 1, 500000 };
	struct linger l = { 1, 2 };
	uint8_t octet = 8;
	long v = 0x5555555555555555;
	char cc[16] = "";
	socklen_t len;
	struct tcp_info info;

	saw("short set", setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &octet, 1));
	saw("octet at IP level", setsockopt(fd, IPPROTO_IP, IP_TOS, &octet, 1));
	len = 1;
	saw("octet back", getsockopt(fd, IPPROTO_IP, IP_TOS, &v, &len));
	say("  %ld, length %u", v & 0xff, len);
	len = 2;
	v = 0;
	saw("two octets of an int", getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &v, &len));
	say("  %ld, length %u", v, len);
	len = 8;
	saw("more room than needed", getsockopt(fd, SOL_SOCKET, SO_TYPE, &v, &len));
	say("  %d, length %u", (int)v, len);
	len = (socklen_t)-1;
	saw("negative length", getsockopt(fd, SOL_SOCKET, SO_TYPE, &v, &len));
	saw("no value", setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, NULL, 4));
	saw("short linger", setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, 4));
	saw("linger", setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)));
	saw("time-out", setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	memset(&tv, 0, sizeof(tv));
	len = sizeof(tv);
	saw("time-out back", getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, &len));
	say("  %ld.%06ld, length %u", (long)tv.tv_sec, (long)tv.tv_usec, len);
	tv.tv_usec = 1000000;
	saw("time-out with too many microseconds", setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	saw("time-out, short", setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, 8));
	saw("cubic", setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5));
	len = sizeof(cc);
	saw("cubic back", getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, cc, &len));
	say("  %s, length %u", cc, len);
	saw("segment size out of bounds", setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &(int){ 40 }, sizeof(int)));
	saw("no such control", setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "nonesuch", 8));
	len = sizeof(info.tcpi_state);
	saw("TCP_INFO, first octet", getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
	say("  state %d, length %u", info.tcpi_state, len);
}

void server(int listener)
{
	int fd = peer_accept(listener);

	walk("listener", listener);
	walk("established, accepted", fd);
	tell('a');
	await('b');
	close(fd);
}

void client(void)
{
	int fd = (int)must("socket", socket(AF_INET, SOCK_STREAM, 0));

	walk("fresh", fd);
	table(fd);
	must("TTL", setsockopt(fd, IPPROTO_IP, IP_TTL, &(int){ 64 }, sizeof(int)));
	must("connect", connect(fd, (struct sockaddr *)&peer_addr, sizeof(peer_addr)));
	await('a');
	walk("established", fd);
	table(fd);
	lengths(fd);
	tell('b');
	close(fd);
}
