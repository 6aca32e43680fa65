/* SPDX-License-Identifier: BSD-2-Clause */
/* run_sock.c - calls on sockets that move no bytes */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>
#include "callfuzz.h"

void run_socket(struct actor *a, const struct call *c)
{
	static const int domains[] = { 99, AF_UNSPEC, -1, AF_INET, AF_INET };
	static const int types[] = { 77, SOCK_STREAM | 0x4000, -1, 0, SOCK_STREAM };
	static const int protocols[] = { 0, 0, 0, 17, 255 };
	int domain = c->b == 6 ? AF_INET6 : AF_INET, type = SOCK_STREAM, protocol = c->y & 3 ? 0 : IPPROTO_TCP, fd;

	if (c->x % 3 == 0)
		type |= SOCK_NONBLOCK;
	if (c->x % 5 == 0)
		type |= SOCK_CLOEXEC;
	if (c->bad) {
		domain = domains[c->z % 5];
		type = types[c->z % 5];
		protocol = protocols[c->z % 5];
	}
	text(a, "s%d = socket(%d, %#x, %d)", c->a, domain, (unsigned)type, protocol);
	fd = socket(domain, type, protocol);
	gave(a, fd);
	slot_set(c->a, fd, fd < 0 ? -1 : object_new(W_SOCKET));
}

/* ---- addresses ---- */

static int domain_of(int fd)
{
	int domain = AF_INET, saved = errno;
	socklen_t len = sizeof(domain);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0)
		domain = AF_INET;
	errno = saved;
	return domain;
}

static uint16_t local_port(int slot)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);
	int saved = errno;
	uint16_t port = 0;

	if (slot >= 0 && getsockname(slot_fd(slot), (void *)&ss, &len) == 0 && (ss.ss_family == AF_INET || ss.ss_family == AF_INET6))
		port = ntohs(((struct sockaddr_in *)&ss)->sin_port);
	errno = saved;
	return port;
}

/* IPv6 only as far as IPv4 in it: the harness has no other. */
static socklen_t make_addr(struct sockaddr_storage *ss, int domain, uint32_t v4, uint16_t port)
{
	memset(ss, 0, sizeof(*ss));
	if (domain == AF_INET6) {
		struct sockaddr_in6 *in6 = (void *)ss;

		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		if (v4) {
			uint32_t be = htonl(v4);

			in6->sin6_addr.s6_addr[10] = in6->sin6_addr.s6_addr[11] = 0xff;
			memcpy(&in6->sin6_addr.s6_addr[12], &be, 4);
		}
		return sizeof(*in6);
	}
	*(struct sockaddr_in *)ss = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port),
							  .sin_addr.s_addr = htonl(v4) };
	return sizeof(struct sockaddr_in);
}

static socklen_t bad_addr_len(const struct call *c, socklen_t good)
{
	switch (c->bad) {
	case BAD_LEN_NEGATIVE:
		return (socklen_t)-1;
	case BAD_LEN_ZERO:
		return c->x % 3 == 0 ? 0 : (socklen_t)(c->x % 16);
	case BAD_LEN_HUGE:
		return c->x & 1 ? 1u << 30 : sizeof(struct sockaddr_storage) + 1;
	default:
		return good;
	}
}

void run_bind(struct actor *a, const struct call *c)
{
	static const uint32_t where[] = { INADDR_LOOPBACK, INADDR_LOOPBACK, INADDR_LOOPBACK, INADDR_ANY, INADDR_ANY, 0x7f000102, 0xc0000201,
					  INADDR_LOOPBACK };
	struct sockaddr_storage ss;
	int fd = arg_fd(c, c->a), domain = domain_of(fd), r;
	uint16_t port = local_port(c->b);
	socklen_t len = make_addr(&ss, domain, where[c->x % 8], port);

	if (c->y % 23 == 0)
		ss.ss_family = (sa_family_t)(c->y % 2 ? AF_UNIX : AF_UNSPEC);
	text(a, "bind(s%d, %s%s)", c->a, addr_name(&ss, len), port ? " taken by another" : "");
	len = bad_addr_len(c, len);
	r = bind(fd, arg_ptr(c, &ss), len);
	gave(a, r);
	if (r == 0 && !port)
		port_chosen(c->a);
}

void run_listen(struct actor *a, const struct call *c)
{
	static const int backlogs[] = { 1, 2, 5, 128, 4096, -1, 50, 3 };
	int backlog = backlogs[c->x % 8], r;
	struct object *o = slot_obj(c->a);
	bool bound = local_port(c->a) != 0;

	text(a, "listen(s%d, %d)", c->a, backlog);
	r = listen(arg_fd(c, c->a), backlog);
	gave(a, r);
	if (r < 0 || !o)
		return;
	if (!bound)
		port_chosen(c->a);
	o->backlog = backlog < 0 ? 4096 : backlog;
	o->shut_rd = false;
	link_peers(c->a); /* its port */
}

void run_accept(struct actor *a, const struct call *c)
{
	static const int flags[] = { 0, 0, SOCK_NONBLOCK, SOCK_CLOEXEC, SOCK_NONBLOCK | SOCK_CLOEXEC, 0x10000 };
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);
	struct object *l = slot_obj(c->a);
	int flag = c->bad && c->y & 1 ? flags[5] : flags[c->x % 5], fd;
	bool with_addr = c->y % 3 != 0;

	text(a, "s%d = accept4(s%d, %s, %#x)", c->b, c->a, with_addr ? "addr" : "NULL", (unsigned)flag);
	if (!may_sleep_on(a, c->a, 0x001))
		return;
	if (c->bad == BAD_LEN_ZERO || c->bad == BAD_LEN_NEGATIVE)
		len = c->bad == BAD_LEN_ZERO ? 3 : (socklen_t)-5;
	if (flag == 0 && c->z & 1)
		fd = accept(arg_fd(c, c->a), with_addr ? arg_ptr(c, &ss) : NULL, &len);
	else
		fd = accept4(arg_fd(c, c->a), with_addr ? arg_ptr(c, &ss) : NULL, with_addr ? &len : NULL, flag);
	gave(a, fd);
	sleep_over(a);
	if (fd >= 0 && with_addr)
		result(a, " from %s", addr_name(&ss, len));
	if (l && (fd >= 0 || errno == EFAULT || (errno == EINVAL && c->bad == BAD_LEN_NEGATIVE)))
		l->accepted++;
	slot_set(c->b, fd, fd < 0 ? -1 : object_new(W_SOCKET));
	if (fd < 0)
		return;
	slot_obj(c->b)->has_timeo = l && l->has_timeo;
	if (l)
		memcpy(slot_obj(c->b)->small, l->small, sizeof(l->small));
	link_peers(c->b);
}

void run_connect(struct actor *a, const struct call *c)
{
	struct sockaddr_storage ss;
	int fd = arg_fd(c, c->a), r;
	struct object *l = slot_obj(c->b);
	uint16_t port = c->b >= 0 ? local_port(c->b) : 1;
	int domain = domain_of(fd);
	bool bound, any = c->x % 4 == 0 && !(c->x & 4) && domain == AF_INET; /* of IPv6 it is ::1, which nobody has here */
	socklen_t len = make_addr(&ss, domain, any ? INADDR_ANY : c->x % 4 ? INADDR_LOOPBACK : 0x7f000102, port ? port : 1);

	if (c->b == -2)
		ss.ss_family = AF_UNSPEC;
	text(a, "connect(s%d, %s%s)", c->a, addr_name(&ss, len), c->b >= 0 && c->b == c->a ? " itself" : "");
	if (l && l->backlog && l->connected - l->accepted >= l->backlog) {
		result(a, "left out: backlog");
		return;
	}
	if (slot_obj(c->a) && slot_obj(c->a)->shut_early) {
		result(a, "left out: shut down before"); /* docs/compatibility.md */
		return;
	}
	if (!may_sleep_on(a, c->a, 0))
		return;
	len = bad_addr_len(c, len);
	bound = local_port(c->a) != 0;
	r = connect(fd, arg_ptr(c, &ss), len);
	gave(a, r);
	if (r == 0 && c->b == -2 && slot_obj(c->a))
		slot_obj(c->a)->shut_rd = true; /* no listener any more, if it was one */
	if (!bound && fd == slot_fd(c->a) && local_port(c->a))
		port_chosen(c->a);
	sleep_over(a);
	if (l && l->backlog && (r == 0 || errno == EINPROGRESS))
		l->connected++;
	settle(world.slot[c->a].obj);
	link_peers(c->a);
}

void run_shutdown(struct actor *a, const struct call *c)
{
	int how = c->bad ? (int)(c->x % 7) - 2 : (int)(c->x % 3), r;
	struct object *o = slot_obj(c->a);

	text(a, "shutdown(s%d, %d)", c->a, how);
	if (o && o->backlog && fd_busy(c->a)) {
		result(a, "left out: a thread waits there");
		return;
	}
	r = shutdown(arg_fd(c, c->a), how);
	gave(a, r);
	if (r < 0 && errno == ENOTCONN && o)
		o->shut_early = true;
	if (r == 0 && o) {
		o->shut_wr |= how != SHUT_RD;
		o->shut_rd |= how != SHUT_WR;
		settle(world.slot[c->a].obj);
	}
}

void run_names(struct actor *a, const struct call *c)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t room = c->y % 4 ? sizeof(ss) : c->y / 4 % 32, len = room;
	bool peer = c->x & 1;
	int r;

	if (c->bad == BAD_LEN_NEGATIVE)
		len = (socklen_t)-1;
	text(a, "%s(s%d, room for %d)", peer ? "getpeername" : "getsockname", c->a, (int)len);
	r = peer ? getpeername(arg_fd(c, c->a), arg_ptr(c, &ss), c->z % 32 ? &len : NULL)
		 : getsockname(arg_fd(c, c->a), arg_ptr(c, &ss), c->z % 32 ? &len : NULL);
	gave(a, r);
	if (r == 0 && room == sizeof(ss) && (!c->bad || c->bad > BAD_PTR_READONLY))
		result(a, " %s", addr_name(&ss, len));
	else if (r == 0)
		result(a, " length %u", len);
}

/* ---- options ---- */

enum shape { INT, LINGER, TIMEVAL, STRING };
static const struct option {
	const char *name;
	int level, opt;
	enum shape shape;
	int values[6];
	bool only_get;
} options[] = {
	{ "SO_ERROR", SOL_SOCKET, SO_ERROR, INT, { 0 }, true },
	{ "SO_TYPE", SOL_SOCKET, SO_TYPE, INT, { 1, 2 }, false },
	{ "SO_DOMAIN", SOL_SOCKET, SO_DOMAIN, INT, { 0 }, false },
	{ "SO_PROTOCOL", SOL_SOCKET, SO_PROTOCOL, INT, { 0 }, false },
	{ "SO_ACCEPTCONN", SOL_SOCKET, SO_ACCEPTCONN, INT, { 1 }, false },
	{ "SO_REUSEADDR", SOL_SOCKET, SO_REUSEADDR, INT, { 0, 1, 1, 2, -1, 1 }, false },
	{ "SO_REUSEPORT", SOL_SOCKET, SO_REUSEPORT, INT, { 0, 1, 1, 2, -1, 1 }, false },
	{ "SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE, INT, { 0, 1, 2, -1, 1, 1 }, false },
	{ "SO_OOBINLINE", SOL_SOCKET, SO_OOBINLINE, INT, { 0, 1, 1, 1, 1, 1 }, false },
	{ "SO_RCVLOWAT", SOL_SOCKET, SO_RCVLOWAT, INT, { 0, 1, 10, 100, 1000, -1 }, false },
	{ "SO_SNDLOWAT", SOL_SOCKET, SO_SNDLOWAT, INT, { 0, 1, 1, 1, 1, 1 }, false },
	{ "SO_LINGER", SOL_SOCKET, SO_LINGER, LINGER, { 0, 1, 0, 1, 0, 1 }, false },
	{ "SO_RCVTIMEO", SOL_SOCKET, SO_RCVTIMEO, TIMEVAL, { 0, 5000, 8000, 1000, 3000, -1 }, false },
	{ "SO_SNDTIMEO", SOL_SOCKET, SO_SNDTIMEO, TIMEVAL, { 0, 5000, 0, 0, 3000, -1 }, false },
	{ "SO_SNDBUF", SOL_SOCKET, SO_SNDBUF, INT, { 20000, 65536, 100000, 16384, 30000, 50000 }, false },
	{ "SO_RCVBUF", SOL_SOCKET, SO_RCVBUF, INT, { 20000, 65536, 100000, 16384, 30000, 50000 }, false },
	{ "SO_PRIORITY", SOL_SOCKET, SO_PRIORITY, INT, { 0, 1, 6, 7, -1, 100 }, false },
	{ "SO_BROADCAST", SOL_SOCKET, SO_BROADCAST, INT, { 0, 1, 1, 1, 1, 1 }, false },
	{ "TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY, INT, { 0, 1, 1, -1, 2, 1 }, false },
	{ "TCP_CORK", IPPROTO_TCP, TCP_CORK, INT, { 0, 1, 0, -1, 2, 0 }, false },
	{ "TCP_KEEPIDLE", IPPROTO_TCP, TCP_KEEPIDLE, INT, { 0, 1, 100, 32767, 32768, -1 }, false },
	{ "TCP_KEEPINTVL", IPPROTO_TCP, TCP_KEEPINTVL, INT, { 0, 1, 100, 32767, 32768, -1 }, false },
	{ "TCP_KEEPCNT", IPPROTO_TCP, TCP_KEEPCNT, INT, { 0, 1, 100, 127, 128, -1 }, false },
	{ "TCP_SYNCNT", IPPROTO_TCP, TCP_SYNCNT, INT, { 0, 1, 100, 127, 128, -1 }, false },
	{ "TCP_LINGER2", IPPROTO_TCP, TCP_LINGER2, INT, { 0, 1, 30, 60, 61, 100 }, false },
	{ "TCP_USER_TIMEOUT", IPPROTO_TCP, TCP_USER_TIMEOUT, INT, { 0, 60000, 100000, -1, 0, 0 }, false },
	{ "TCP_CONGESTION", IPPROTO_TCP, TCP_CONGESTION, STRING, { 0, 1, 2, 0, 1, 2 }, false },
	{ "TCP_NOTSENT_LOWAT", IPPROTO_TCP, TCP_NOTSENT_LOWAT, INT, { 0, -1, 100000, 0, 0, 0 }, false },
	{ "IP_TOS", IPPROTO_IP, IP_TOS, INT, { 0, 8, 16, 255, 256, -1 }, false },
	{ "IP_TTL", IPPROTO_IP, IP_TTL, INT, { 0, 1, 64, 255, 256, -1 }, false },
	{ "IP_FREEBIND", IPPROTO_IP, IP_FREEBIND, INT, { 0, 1, 1, 0, 0, 0 }, false },
	{ "IP_BIND_ADDRESS_NO_PORT", IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, INT, { 0, 1, 0, 0, 0, 0 }, false },
	{ "IPV6_V6ONLY", IPPROTO_IPV6, IPV6_V6ONLY, INT, { 0, 1, 0, 1, 0, 0 }, false },
	{ "9999 of SOL_SOCKET", SOL_SOCKET, 9999, INT, { 0, 1, 1, 1, 1, 1 }, false },
	{ "99 of IPPROTO_TCP", IPPROTO_TCP, 99, INT, { 0, 1, 1, 1, 1, 1 }, false },
	{ "1 of level 77", 77, 1, INT, { 0, 1, 1, 1, 1, 1 }, false },
};
enum { N_OPTIONS = sizeof(options) / sizeof(*options) };

union value {
	int i;
	struct linger linger;
	struct timeval tv;
	char bytes[64];
};

static socklen_t value_make(const struct option *o, union value *v, uint32_t z)
{
	static const char *const names[] = { "cubic", "reno", "nonsense" };
	int n = o->values[z % 6];

	memset(v, 0, sizeof(*v));
	switch (o->shape) {
	case LINGER:
		v->linger = (struct linger){ .l_onoff = n, .l_linger = z & 64 ? 0 : 2 };
		return sizeof(v->linger);
	case TIMEVAL:
		v->tv = n == -1 ? (struct timeval){ 0, 1000000 } : (struct timeval){ n / 1000000, n % 1000000 };
		return sizeof(v->tv);
	case STRING:
		strcpy(v->bytes, names[n]);
		return (socklen_t)strlen(v->bytes);
	case INT:
		v->i = n;
		break;
	}
	return sizeof(v->i);
}

static socklen_t option_len(const struct call *c, socklen_t good)
{
	static const socklen_t lens[] = { 1, 2, 3, 8, 16, 64 };

	switch (c->bad) {
	case BAD_LEN_NEGATIVE:
		return (socklen_t)-1;
	case BAD_LEN_ZERO:
		return 0;
	case BAD_LEN_HUGE:
		return lens[c->x / 64 % 6];
	default:
		return good;
	}
}

static bool of_buffer(const struct option *o)
{
	return o->level == SOL_SOCKET && (o->opt == SO_SNDBUF || o->opt == SO_RCVBUF);
}

static uint32_t value_number(const union value *v, socklen_t len)
{
	return len == sizeof(v->i) ? (uint32_t)v->i : digest(v->bytes, len < sizeof(*v) ? len : sizeof(*v));
}

void run_setopt(struct actor *a, const struct call *c)
{
	const struct option *o = &options[c->y % N_OPTIONS];
	struct object *obj = slot_obj(c->a);
	union value v;
	socklen_t len = option_len(c, value_make(o, &v, c->z));
	int r;

	if (o->only_get)
		o++;
	if (o->level == SOL_SOCKET && o->opt == SO_RCVLOWAT && fd_busy(c->a)) {
		text(a, "setsockopt(s%d, SO_RCVLOWAT) left out: a thread waits there", c->a); /* docs/compatibility.md */
		return;
	}
	text(a, "setsockopt(s%d, %s, %d, length %d)", c->a, o->name, v.i, (int)len);
	r = setsockopt(arg_fd(c, c->a), o->level, o->opt, arg_ptr(c, &v), len);
	gave(a, r);
	if (r == 0 && obj && o->level == SOL_SOCKET && o->opt == SO_RCVTIMEO)
		obj->has_timeo = v.tv.tv_sec || v.tv.tv_usec;
	if (r == 0 && obj && of_buffer(o))
		obj->small[o->opt == SO_RCVBUF] = true;
}

void run_getopt(struct actor *a, const struct call *c)
{
	const struct option *o = &options[c->y % N_OPTIONS];
	const struct object *obj = slot_obj(c->a);
	union value v = { .bytes = { 0 } };
	socklen_t len = option_len(c, o->shape == INT ? sizeof(v.i) : sizeof(v));
	int r;

	text(a, "getsockopt(s%d, %s, room for %d)", c->a, o->name, (int)len);
	r = getsockopt(arg_fd(c, c->a), o->level, o->opt, arg_ptr(c, &v), c->z % 32 ? &len : NULL);
	gave(a, r);
	if (r == 0 && ((o->opt == TCP_CONGESTION && o->level == IPPROTO_TCP) || (of_buffer(o) && obj && !obj->small[o->opt == SO_RCVBUF])))
		result(a, " length %u", len); /* the default is the machine's, and grows */
	else if (r == 0)
		result(a, " length %u value %#x", len, value_number(&v, len));
}
