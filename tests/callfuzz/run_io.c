/* SPDX-License-Identifier: BSD-2-Clause */
/* run_io.c - calls that move bytes */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>
#include "callfuzz.h"

static int split(struct iovec *iov, uint8_t *buf, size_t n, uint32_t seed)
{
	int k = 0;

	while (k < 5 && n) {
		size_t m = seed % 7 == 0 ? 0 : k == 4 ? n : 1 + seed % n;

		iov[k++] = (struct iovec){ buf, m };
		buf += m;
		n -= m;
		seed = seed * 1103515245 + 12345;
	}
	return k;
}

/* One whole iovec array of which something may be wrong. */
static void spoil(const struct call *c, struct iovec *iov, int n)
{
	if (!n)
		return;
	if (c->bad == BAD_LEN_NEGATIVE)
		iov[n - 1].iov_len = (size_t)-1;
	if (c->bad >= BAD_PTR_NULL && c->bad <= BAD_PTR_READONLY && c->x & 256)
		iov[0].iov_base = arg_ptr(c, iov[0].iov_base);
}

/* ---- sending ---- */

static int send_flags(uint32_t x)
{
	return (x % 2 ? MSG_NOSIGNAL : 0) | (x / 2 % 3 == 0 ? MSG_DONTWAIT : 0) | (x / 6 % 29 == 0 ? MSG_CONFIRM | MSG_DONTROUTE : 0) |
	       (x / 6 % 31 == 0 ? MSG_EOR : 0) | (x / 6 % 37 == 0 ? MSG_MORE : 0) | (x / 6 % 41 == 0 ? MSG_OOB : 0);
}

static size_t send_size(const struct call *c)
{
	if (c->bad == BAD_LEN_ZERO || c->y % 17 == 0)
		return 0;
	return c->y % 9 == 0 ? c->y / 9 % 9000 : 1 + c->y / 9 % 700;
}

/* Two messages in one call: who sleeps might wake between them, or the first be answered by a reset. */
static bool two_are_sure(const struct object *o)
{
	const struct object *p = o && o->peer >= 0 ? &world.obj[o->peer] : NULL;

	return p && p->refs > 0 && !p->shut_rd && !anyone_sleeps(false);
}

static ssize_t send_many(const struct call *c, int fd, struct iovec *iov, int n, int flags, uint64_t *ret_more)
{
	struct mmsghdr m[2] = { { .msg_hdr = { .msg_iov = iov, .msg_iovlen = (size_t)n } },
				{ .msg_hdr = { .msg_iov = iov, .msg_iovlen = n > 0 } } };
	ssize_t r;

	if (c->bad == BAD_LEN_HUGE)
		m[0].msg_hdr.msg_iovlen = 1025;
	if (c->x & 512)
		return sendmsg(fd, c->x & 256 ? &m[0].msg_hdr : arg_ptr(c, &m[0].msg_hdr), flags);
	r = sendmmsg(fd, c->x & 256 ? m : arg_ptr(c, m), two_are_sure(slot_obj(c->a)) ? 2 : 1, flags);
	*ret_more = r > 0 ? m[0].msg_len + (r > 1 ? m[1].msg_len : 0) : 0;
	return r;
}

/* Octets that nobody has taken yet: there must be room, since how much fits is not determined. */
static bool has_room(const struct object *o)
{
	const struct object *p = object_peer(o);
	uint64_t taken = p ? p->rcvd : 0;

	return o->sent <= taken || o->sent - taken < (o->small[0] || (p && p->small[1]) ? QUEUED_SMALL : QUEUED_MAX);
}

void run_send(struct actor *a, const struct call *c)
{
	static const char *const how[] = { "send", "sendto", "write", "writev", "sendmsg/mmsg", "sendmsg/mmsg" };
	uint8_t *buf = buffer_of(a);
	unsigned kind = c->z % 6;
	int flags = send_flags(c->x), fd = arg_fd(c, c->a), n_iov = 0;
	size_t n = send_size(c);
	struct object *o = slot_obj(c->a);
	struct iovec iov[5];
	uint64_t sent = 0;
	ssize_t r = 0;

	text(a, "%s(s%d, %zu, %#x)", how[kind], c->a, n, (unsigned)flags);
	if (o && !has_room(o)) {
		result(a, "left out: much is queued");
		return;
	}
	if (!may_sleep_on(a, c->a, 0))
		return;
	fill(buf, n, c->y);
	if (kind >= 3) {
		n_iov = split(iov, buf, n, c->z);
		spoil(c, iov, n_iov);
	}
	switch (kind) {
	case 0:
		r = send(fd, arg_ptr(c, buf), n, flags);
		break;
	case 1:
		r = sendto(fd, arg_ptr(c, buf), n, flags, c->z % 5 ? NULL : (void *)buf, c->z % 5 ? 0 : 16);
		break;
	case 2:
		r = write(fd, arg_ptr(c, buf), c->bad == BAD_LEN_HUGE ? SIZE_MAX / 2 : c->bad == BAD_LEN_NEGATIVE ? SIZE_MAX : n);
		break;
	case 3:
		r = writev(fd, arg_ptr(c, iov), c->bad == BAD_LEN_HUGE ? 1025 : n_iov);
		break;
	default:
		r = send_many(c, fd, iov, n_iov, flags, &sent);
	}
	gave(a, r);
	sleep_over(a);
	if (r > 0 && !sent)
		sent = (uint64_t)r;
	if (o && fd == slot_fd(c->a)) {
		o->sent += sent;
		o->urgent |= flags & MSG_OOB && kind != 2 && kind != 3;
		settle(world.slot[c->a].obj);
	}
}

/* ---- receiving ---- */

static int recv_flags(const struct call *c)
{
	uint32_t x = c->x;

	return (x % 8 < 5 ? MSG_DONTWAIT : 0) | (x / 8 % 6 == 0 ? MSG_PEEK : 0) | (x / 48 % 8 == 0 ? MSG_WAITALL : 0) |
	       (x / 384 % 16 == 0 ? MSG_TRUNC : 0) | (x / 8 % 37 == 0 ? MSG_OOB : 0) | (x / 8 % 41 == 0 ? MSG_ERRQUEUE : 0);
}

static ssize_t recv_many(const struct call *c, int fd, struct iovec *iov, int n, int flags, struct msghdr *ret)
{
	struct mmsghdr m[2] = { { .msg_hdr = { .msg_iov = iov, .msg_iovlen = (size_t)n } },
				{ .msg_hdr = { .msg_iov = iov, .msg_iovlen = 0 } } };
	char name[32], control[64];
	ssize_t r;

	m[0].msg_hdr.msg_name = c->z & 4096 ? name : NULL;
	m[0].msg_hdr.msg_namelen = c->bad == BAD_LEN_NEGATIVE ? (socklen_t)-1 : sizeof(name);
	m[0].msg_hdr.msg_control = c->z & 8192 ? control : NULL;
	m[0].msg_hdr.msg_controllen = c->z & 8192 ? sizeof(control) : 0;
	if (c->bad == BAD_LEN_HUGE)
		m[0].msg_hdr.msg_iovlen = 1025;
	if (c->x & 512) {
		r = recvmsg(fd, c->x & 256 ? &m[0].msg_hdr : arg_ptr(c, &m[0].msg_hdr), flags);
	} else {
		r = recvmmsg(fd, c->x & 256 ? m : arg_ptr(c, m), 1, flags, NULL);
		if (r > 0)
			r = m[0].msg_len;
	}
	*ret = m[0].msg_hdr;
	return r;
}

void run_recv(struct actor *a, const struct call *c)
{
	static const char *const how[] = { "recv", "recvfrom", "read", "readv", "recvmsg/mmsg", "recv" };
	uint8_t *buf = buffer_of(a);
	unsigned kind = c->z % 6;
	int flags = recv_flags(c), fd = arg_fd(c, c->a), n_iov = 0;
	size_t n = c->y % 13 == 0 || c->bad == BAD_LEN_ZERO ? 0 : c->y % 3 == 0 ? BUF_BYTES : 1 + c->y / 16 % 3000;
	struct object *o = slot_obj(c->a);
	struct sockaddr_storage from;
	socklen_t from_len = sizeof(from);
	struct msghdr m = { 0 };
	struct iovec iov[5];
	ssize_t r = 0;

	if (kind == 2 || kind == 3)
		flags = 0;
	if (!n && kind != 2 && kind != 3)
		flags |= MSG_DONTWAIT; /* what ends a wait for nothing is not to be foretold */
	text(a, "%s(s%d, %zu, %#x)", how[kind], c->a, n, (unsigned)flags);
	if (o && object_peer(o) && object_peer(o)->urgent)
		flags &= ~MSG_WAITALL; /* what FIONREAD says is not what there is */
	a->wait_bytes = flags & MSG_WAITALL ? n : 0;
	if (!(flags & MSG_DONTWAIT) && !may_sleep_on(a, c->a, POLLIN))
		return;
	memset(buf, 0xee, n < 4096 ? n : 4096);
	if (kind >= 3) {
		n_iov = split(iov, buf, n, c->z);
		spoil(c, iov, n_iov);
	}
	switch (kind) {
	case 1:
		r = recvfrom(fd, arg_ptr(c, buf), n, flags, c->z & 64 ? (void *)&from : NULL, &from_len);
		if (r >= 0 && c->z & 64)
			result(a, "(address length %u) ", from_len);
		break;
	case 2:
		r = read(fd, arg_ptr(c, buf), c->bad == BAD_LEN_HUGE ? SIZE_MAX / 2 : c->bad == BAD_LEN_NEGATIVE ? SIZE_MAX : n);
		break;
	case 3:
		r = readv(fd, arg_ptr(c, iov), c->bad == BAD_LEN_HUGE ? 1025 : c->bad == BAD_LEN_NEGATIVE ? -1 : n_iov);
		break;
	case 4:
		r = recv_many(c, fd, iov, n_iov, flags, &m);
		break;
	default:
		r = recv(fd, arg_ptr(c, buf), n, flags);
	}
	gave(a, r);
	sleep_over(a);
	if (r > 0 && !(flags & MSG_TRUNC))
		result(a, " %08x", digest(buf, (size_t)r));
	if (r >= 0 && kind == 4)
		result(a, " flags %#x name %u control %zu", (unsigned)m.msg_flags, m.msg_name ? m.msg_namelen : 0, m.msg_controllen);
	if (r > 0 && !(flags & MSG_PEEK) && o && fd == slot_fd(c->a))
		o->rcvd += (uint64_t)r;
}

/* ---- without passing through the program ---- */

void run_sendfile(struct actor *a, const struct call *c)
{
	off_t off = c->x % 5000;
	bool with_off = c->y & 1;
	size_t n = c->bad == BAD_LEN_ZERO ? 0 : c->z % 4000;
	struct object *o = slot_obj(c->a);
	int from = slot_fd(c->b);
	ssize_t r;

	text(a, "sendfile(s%d, s%d, %s, %zu)", c->a, c->b, with_off ? "offset" : "NULL", n);
	if ((o && !has_room(o)) || (slot_obj(c->b) && slot_obj(c->b)->what != W_FILE)) {
		result(a, "left out");
		return;
	}
	if (!may_sleep_on(a, c->a, 0))
		return;
	if (c->bad == BAD_LEN_NEGATIVE)
		off = -3;
	r = sendfile(arg_fd(c, c->a), from, with_off ? arg_ptr(c, &off) : NULL, n);
	gave(a, r);
	sleep_over(a);
	if (with_off)
		result(a, " offset %lld", (long long)off);
	if (r > 0 && o) {
		o->sent += (uint64_t)r;
		settle(world.slot[c->a].obj);
	}
}

static void moved(int slot_from, int slot_to, ssize_t r)
{
	struct object *from = slot_obj(slot_from), *to = slot_obj(slot_to);

	if (r <= 0)
		return;
	if (from)
		from->rcvd += (uint64_t)r;
	if (to) {
		to->sent += (uint64_t)r;
		settle(world.slot[slot_to].obj);
	}
}

void run_splice(struct actor *a, const struct call *c)
{
	size_t n = c->bad == BAD_LEN_ZERO ? 0 : 1 + c->y % 3000;
	unsigned flags = SPLICE_F_NONBLOCK | (c->bad == BAD_LEN_HUGE ? 0x100u : 0);
	loff_t off = 0;
	struct object *to = slot_obj(c->b);
	ssize_t r;

	text(a, "splice(s%d, s%d, %zu, %#x)", c->a, c->b, n, flags);
	if ((to && !has_room(to)) || fd_busy(c->b)) {
		result(a, "left out");
		return;
	}
	if (!may_sleep_on(a, c->a, POLLIN)) /* the flag is for the pipe only */
		return;
	r = splice(arg_fd(c, c->a), c->z % 16 == 0 ? &off : NULL, slot_fd(c->b), c->z % 16 == 1 ? &off : NULL, n, flags);
	gave(a, r);
	sleep_over(a);
	moved(c->a, c->b, r);
}

void run_tee(struct actor *a, const struct call *c)
{
	text(a, "tee(s%d, s%d, 500)", c->a, c->b);
	gave(a, tee(arg_fd(c, c->a), slot_fd(c->b), 500, SPLICE_F_NONBLOCK));
}
