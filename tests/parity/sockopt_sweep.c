/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sockopt_sweep - every level and option number: values at and around all bounds, every length from 0 to 64
 *
 * Nobody has to remember an option: all numbers of a level are asked, known or not, on a socket of each state, with and
 * without CAP_NET_ADMIN. A line tells what one option says to all values, equal answers in a row written once. What a value
 * does is read back. Options whose content is the moment's (times, CPU numbers, cookies) show their lengths only.
 */
#include "parity.h"
#include <limits.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define ROOM 64

static const int values[] = { INT_MIN, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 87, 88, 89, 119, 120, 121,
	127, 128, 129, 254, 255, 256, 257, 511, 512, 535, 536, 1023, 1024, 1151, 1152, 1153, 1460, 2303, 2304, 2305, 4607, 4608, 4609,
	32766, 32767, 32768, 65534, 65535, 65536, 100000, 200000, INT_MAX - 1, INT_MAX };
#define N_VALUES (sizeof(values) / sizeof(*values))

struct level {
	const char *text;
	int level, first, last;
};
static const struct level levels[] = {
	{ "SOCKET", SOL_SOCKET, 0, 83 },  { "IP", IPPROTO_IP, 0, 60 }, { "IPV6", 41, 0, 63 }, { "IPV6", 41, 70, 80 },
	{ "TCP", IPPROTO_TCP, 0, 50 },	  { "UDP", 17, 0, 2 },	       { "RAW", 255, 0, 1 },  { "TLS", 282, 0, 2 },
	{ "none", 9999, 0, 1 },		  { "negative", -1, 0, 1 },
};

/* Numbers that the kernel's headers of this system may not have yet. */
enum { S_INCOMING_CPU = 49, S_INCOMING_NAPI = 56, S_COOKIE = 57, S_NETNS_COOKIE = 71, S_MEMINFO = 55, O_IP_PROTOCOL = 52 };

static bool of_the_moment(int level, int name)
{
	if (level == SOL_SOCKET)
		return name == S_INCOMING_CPU || name == S_INCOMING_NAPI || name == S_COOKIE || name == S_NETNS_COOKIE ||
		       name == S_MEMINFO;
	if (level == IPPROTO_IP)
		return name == O_IP_PROTOCOL || name == IP_MTU; /* the port of a TCP socket; the device's */
	return level == IPPROTO_TCP && (name == TCP_MAXSEG || name == TCP_INFO || name == TCP_CC_INFO || name == TCP_TIMESTAMP);
}

static bool privileged = true;

/* Differences with a reason; docs/compatibility.md has it. */
static bool known_difference(int level, int name)
{
	if (level == SOL_SOCKET)
		return name == SO_ATTACH_BPF || name == SO_ATTACH_REUSEPORT_EBPF; /* the value is a descriptor's number */
	if (level == IPPROTO_TCP)
		return (name == TCP_REPAIR && privileged) || /* refused to everybody */
		       name == TCP_CONGESTION || name == TCP_CC_INFO; /* the machine's default; sockopt_walk has cubic */
	return false;
}

static void append(char *line, size_t bytes, const char *fmt, ...)
{
	size_t n = strlen(line);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line + n, bytes - n, fmt, ap);
	va_end(ap);
}

static void look(int fd, int level, int name, socklen_t room, char *to, size_t bytes)
{
	uint8_t buf[ROOM + 8];
	socklen_t len = room;
	int v = 0;

	memset(buf, 0xa5, sizeof(buf));
	if (getsockopt(fd, level, name, buf, &len)) {
		snprintf(to, bytes, "%s", strerrorname_np(errno));
		return;
	}
	if (of_the_moment(level, name))
		snprintf(to, bytes, "(%u)", len);
	else if (len <= sizeof(v))
		snprintf(to, bytes, "%d(%u)", (memcpy(&v, buf, len), v), len);
	else
		snprintf(to, bytes, "%016llx(%u)", (unsigned long long)digest(0, buf, len), len);
}

/* "from..to answer", equal ones in a row once */
struct run {
	char line[16384], last[96];
	int from, to;
	bool any;
};

static void run_end(struct run *r)
{
	if (!r->any)
		return;
	if (r->from == r->to)
		append(r->line, sizeof(r->line), " %d %s;", r->from, r->last);
	else
		append(r->line, sizeof(r->line), " %d..%d %s;", r->from, r->to, r->last);
}

static void run_add(struct run *r, int at, const char *answer)
{
	if (!r->any || strcmp(r->last, answer) != 0) {
		run_end(r);
		r->from = at;
		snprintf(r->last, sizeof(r->last), "%s", answer);
	}
	r->to = at;
	r->any = true;
}

static void sweep_values(const char *state, int fd, const struct level *l, int name)
{
	struct run r = { .any = false };
	char got[48], answer[96];

	for (size_t i = 0; i < N_VALUES; i++) {
		const char *set = setsockopt(fd, l->level, name, &values[i], sizeof(int)) ? strerrorname_np(errno) : "ok";

		look(fd, l->level, name, ROOM, got, sizeof(got));
		snprintf(answer, sizeof(answer), "%s>%s", set, got);
		run_add(&r, values[i], answer);
	}
	run_end(&r);
	say("%s %s %d value:%s", state, l->text, name, r.line);
}

static void sweep_lengths(const char *state, int fd, const struct level *l, int name)
{
	struct run set = { .any = false }, get = { .any = false };
	uint8_t buf[ROOM] = { 1 };
	char got[48];
	int one = 1;

	setsockopt(fd, l->level, name, &one, sizeof(one)); /* away from defaults that depend on the machine */
	for (int len = 0; len <= ROOM; len++) {
		run_add(&set, len, setsockopt(fd, l->level, name, buf, (socklen_t)len) ? strerrorname_np(errno) : "ok");
		look(fd, l->level, name, (socklen_t)len, got, sizeof(got));
		run_add(&get, len, got);
	}
	run_add(&set, -1, setsockopt(fd, l->level, name, buf, (socklen_t)-1) ? strerrorname_np(errno) : "ok");
	look(fd, l->level, name, (socklen_t)-1, got, sizeof(got));
	run_add(&get, -1, got);
	run_end(&set);
	run_end(&get);
	say("%s %s %d length: set%s get%s", state, l->text, name, set.line, get.line);
}

static void sweep(const char *state, int (*make)(void))
{
	for (size_t i = 0; i < sizeof(levels) / sizeof(*levels); i++)
		for (int name = levels[i].first; name <= levels[i].last; name++) {
			int fd;

			if (known_difference(levels[i].level, name))
				continue;
			fd = make();
			sweep_values(state, fd, &levels[i], name);
			close(fd);
			fd = make();
			sweep_lengths(state, fd, &levels[i], name);
			close(fd);
		}
}

static int make_listener(void)
{
	struct sockaddr_in a = peer_addr;
	int fd = (int)must("socket", socket(AF_INET, SOCK_STREAM, 0));

	a.sin_port = 0;
	must("bind", bind(fd, (struct sockaddr *)&a, sizeof(a)));
	must("listen", listen(fd, 1));
	return fd;
}

static int make_bound6(void)
{
	struct sockaddr_in6 a = { .sin6_family = AF_INET6 };
	int fd = (int)must("socket", socket(AF_INET6, SOCK_STREAM, 0));

	a.sin6_addr.s6_addr[10] = a.sin6_addr.s6_addr[11] = 0xff;
	memcpy(&a.sin6_addr.s6_addr[12], &peer_addr.sin_addr, 4);
	must("bind", bind(fd, (struct sockaddr *)&a, sizeof(a)));
	return fd;
}

static void drop_privilege(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { { 0 } };

	must("capset", syscall(SYS_capset, &head, none));
	privileged = false;
}

/* Holds the other end of each connection of the client's: an option may well keep one from ending by itself (pacing). */
static void hold_until_told(int listener)
{
	struct pollfd p[2] = { { .fd = listener, .events = POLLIN }, { .fd = control_fd(), .events = POLLIN } };
	static int held[4096];
	size_t n = 0;

	for (;;) {
		must("poll", poll(p, 2, -1));
		if (p[1].revents)
			break;
		held[n++] = peer_accept(listener);
		if (n == sizeof(held) / sizeof(*held))
			break;
	}
	await('b');
	while (n)
		close(held[--n]);
}

static void more_numbers(void)
{
	struct rlimit r;

	must("getrlimit", getrlimit(RLIMIT_NOFILE, &r));
	r.rlim_cur = r.rlim_max < 4200 ? r.rlim_max : 4200;
	must("setrlimit", setrlimit(RLIMIT_NOFILE, &r));
}

void server(int listener)
{
	more_numbers();
	sweep("listener", make_listener);
	sweep("IPv6, bound", make_bound6);
	tell('a');
	hold_until_told(listener);
	drop_privilege();
	sweep("unprivileged listener", make_listener);
}

void client(void)
{
	await('a');
	sweep("established", peer_connect);
	drop_privilege();
	sweep("unprivileged established", peer_connect);
	tell('b');
}
