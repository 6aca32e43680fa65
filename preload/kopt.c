/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kopt.c - socket options that mean nothing to the stack, exactly as the kernel has them
 *
 * Theory of operation
 *
 * Most options of a TCP socket are for devices, queues, filters, datagrams: a private socket has no use for them, but a
 * program may set them, read them back, and be told what is wrong with a length, a value, a privilege. Only the kernel knows
 * all that for the kernel at hand. So it is asked: on a socket made for the question, never bound or connected and closed
 * at once, on which what was set before is first set again. What it took is kept with the file (struct kopt) in order, is
 * inherited by accepted connections, and found again by every process that shares the file.
 *
 * A few of them do mean something to us (control data, addresses, ports): effect() looks at what the kernel made of the
 * value. This costs some microseconds, for options that are set once in a life; those that matter have rows of their own
 * (sockopts.def) and never come here.
 */
#include <linux/tcp.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>
#include "sock_priv.h"

#define SO_TIMESTAMP_FIRST   29 /* SO_TIMESTAMP_OLD; linux-libc-dev of Debian 12 lacks some of these */
#define O_TIMESTAMPNS_OLD    35
#define O_TIMESTAMP_NEW	     63
#define O_TIMESTAMPNS_NEW    64
#define O_SNDBUFFORCE	     32
#define O_RCVBUFFORCE	     33
#define O_MAX_PACING_RATE    47
#define O_IP_LOCAL_PORT_RANGE 51
#define O_IPV6_TRANSPARENT   75
#define O_IPV6_FREEBIND	     78
#define O_TCP_INQ	     36
#define O_TCP_AO_REPAIR	     42
#define O_TIMESTAMPING_OLD   37
#define O_TIMESTAMPING_NEW   65
#define TX_SOFTWARE	     (1u << 1) /* SOF_TIMESTAMPING_* */
#define RX_SOFTWARE	     (1u << 3)
#define REPORT_SOFTWARE	     (1u << 4)
#define OPT_ID		     (1u << 7)
#define TX_SCHED	     (1u << 8)
#define TX_ACK		     (1u << 9)
#define OPT_ID_TCP	     (1u << 16)
#define BUF_MOST	     (INT32_MAX / 2)
#define TFO_KEY_BYTES	     16

/* ---- what was set before (shard lock) ---- */

static struct kopt **kopt_find(struct file *f, int level, int name)
{
	struct kopt **at = &f->kopts;

	while (*at && ((*at)->level != level || (*at)->name != name))
		at = &(*at)->next;
	return at;
}

/* At the end: of options that exclude one another the last one counts. */
static int kopt_keep(struct file *f, const struct kopt *k)
{
	struct kopt **at = kopt_find(f, k->level, k->name), *old = *at;

	if (old)
		*at = old->next;
	else
		old = slab_alloc(&host->kopts);
	if (!old)
		return -ENOBUFS;
	*old = *k;
	old->owner = file_handle(f);
	old->next = NULL;
	while (*at)
		at = &(*at)->next;
	*at = old;
	return 0;
}

int kopt_inherit(struct file *to, const struct file *from)
{
	static const struct kopt priority = { .level = SOL_SOCKET, .name = SO_PRIORITY, .len = sizeof(int) };
	bool prioritized = false;

	for (const struct kopt *k = from->kopts; k; k = k->next) {
		prioritized |= (k->level == SOL_SOCKET && k->name == SO_PRIORITY) || (k->level == IPPROTO_IP && k->name == IP_TOS);
		if (kopt_keep(to, k))
			return -ENOBUFS;
	}
	if (prioritized && kopt_keep(to, &priority)) /* the one that is not inherited, as sk_clone() has it */
		return -ENOBUFS;
	to->stamp = from->stamp;
	to->inq = from->inq;
	to->stamping = from->stamping;
	return 0;
}

/* ---- asking ---- */

/* The n-th option that was kept. Lock held at entry and return. */
static bool kopt_nth(const struct file *f, int n, struct kopt *ret)
{
	const struct kopt *k = f->kopts;

	while (k && n-- > 0)
		k = k->next;
	if (k)
		*ret = *k;
	return k != NULL;
}

/* A socket of the kernel as this one would be. Lock and file held at entry; lock not held at return. -errno */
static int stand_in(struct op *op)
{
	int fd, n = 0;
	struct kopt k;

	op_hold(op);
	shard_unlock(op->t);
	fd = (int)kernel_result(libc_next.socket(op->f->family == 4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP));
	if (fd < 0)
		return fd == -EMFILE || fd == -ENFILE ? -ENOBUFS : fd;
	for (bool more = true; more; n++) {
		shard_lock(op->t);
		more = kopt_nth(op->f, n, &k);
		shard_unlock(op->t);
		if (more)
			libc_next.setsockopt(fd, k.level, k.name, k.val, k.len);
	}
	return fd;
}

/* ---- what means something to us after all ---- */

static void effect_buf(struct op *op, int value, bool snd)
{
	struct tcp_opts *o = tcp_opts(op->f->tcb);
	uint32_t n = value < 0 ? 0 : value > BUF_MOST ? BUF_MOST : (uint32_t)value, least = snd ? 4608 : 2304;

	*(snd ? &o->sndbuf_bytes : &o->rcvbuf_bytes) = n * 2 < least ? least : n * 2;
	*(snd ? &o->sndbuf_locked : &o->rcvbuf_locked) = 1;
	tcp_opt_changed(own_stack(), op->f->tcb, snd ? TCP_OPT_SNDBUF : TCP_OPT_RCVBUF, op->t->now);
}

unsigned kopt_stamp_kinds(uint32_t flags)
{
	return (flags & TX_SOFTWARE ? 1u << TCP_STAMP_SND : 0) | (flags & TX_SCHED ? 1u << TCP_STAMP_SCHED : 0) |
	       (flags & TX_ACK ? 1u << TCP_STAMP_ACK : 0);
}

static void effect_stamping(struct file *f, const struct kopt *k, uint32_t flags)
{
	unsigned s = kopt_stamp_kinds(flags) << STAMPING_TX_SHIFT;

	s |= flags & RX_SOFTWARE ? STAMPING_RX : 0;
	s |= flags & REPORT_SOFTWARE ? STAMPING_REPORT : 0;
	s |= k->name == O_TIMESTAMPING_NEW ? STAMPING_NEW : 0;
	f->stamping = (uint8_t)s;
}

/* An int, or a long where there is room for one. ~0 is no limit; 0 is none either, as Linux paces. */
static void effect_pacing(struct op *op, const struct kopt *k)
{
	uint64_t rate = 0;

	if (k->len >= sizeof(rate))
		memcpy(&rate, k->val, sizeof(rate));
	else
		memcpy(&rate, k->val, sizeof(uint32_t));
	if (k->len < sizeof(rate) && rate == UINT32_MAX)
		rate = UINT64_MAX;
	tcp_opts(op->f->tcb)->max_pacing_Bps = rate == UINT64_MAX ? 0 : rate;
	tcp_opt_changed(own_stack(), op->f->tcb, TCP_OPT_PACING, op->t->now);
}

static void effect_socket(struct op *op, const struct kopt *k, int given)
{
	int name = k->name;
	static const struct {
		int name;
		uint8_t stamp;
	} stamps[] = { { SO_TIMESTAMP_FIRST, STAMP_US }, { O_TIMESTAMPNS_OLD, STAMP_NS }, { O_TIMESTAMP_NEW, STAMP_US_NEW },
		       { O_TIMESTAMPNS_NEW, STAMP_NS_NEW } };

	for (size_t i = 0; i < sizeof(stamps) / sizeof(*stamps); i++)
		if (stamps[i].name == name)
			op->f->stamp = given ? stamps[i].stamp : STAMP_OFF;
	if (name == O_TIMESTAMPING_OLD || name == O_TIMESTAMPING_NEW)
		effect_stamping(op->f, k, (uint32_t)given);
	if (name == O_MAX_PACING_RATE)
		effect_pacing(op, k);
	if (name == O_SNDBUFFORCE || name == O_RCVBUFFORCE)
		effect_buf(op, given, name == O_SNDBUFFORCE);
}

/* @given: what the program set, @now: what is read afterwards. Shard lock held. */
static void effect(struct op *op, const struct kopt *k, int given, int now)
{
	int level = k->level, name = k->name;
	struct tcp_opts *o = tcp_opts(op->f->tcb);

	if (level == SOL_SOCKET)
		effect_socket(op, k, given);
	else if ((level == IPPROTO_IP && name == IP_FREEBIND) || (level == IPPROTO_IPV6 && name == O_IPV6_FREEBIND))
		o->freebind = (uint8_t)now;
	else if ((level == IPPROTO_IP && name == IP_TRANSPARENT) || (level == IPPROTO_IPV6 && name == O_IPV6_TRANSPARENT))
		o->transparent = (uint8_t)now;
	else if (level == IPPROTO_IP && name == IP_TOS) /* which changes SO_PRIORITY as well: here by the order they are kept in */
		o->tos = (uint8_t)now;
	else if (level == IPPROTO_IPV6 && name == IPV6_TCLASS)
		o->tclass = (uint8_t)now;
	else if (level == IPPROTO_IPV6 && name == IPV6_UNICAST_HOPS)
		o->hop_limit = given == -1 ? 0 : (uint8_t)now;
	else if (level == IPPROTO_IP && name == IP_BIND_ADDRESS_NO_PORT)
		o->bind_no_port = (uint8_t)now;
	else if (level == IPPROTO_IP && name == O_IP_LOCAL_PORT_RANGE)
		o->port_range = (uint32_t)now;
	else if (level == IPPROTO_TCP && name == O_TCP_INQ)
		op->f->inq = (uint8_t)now;
}

/* ---- the two calls ---- */

/* The stand-in is CLOSED. Where the state matters, what the kernel would say in the one this socket is in. Lock held. */
static int state_refuses(const struct op *op, int level, int name)
{
	enum tcp_state s = tcp_state(op->f->tcb);

	if (level != IPPROTO_TCP || s == TCPS_CLOSED)
		return 0;
	switch (name) {
	case TCP_QUEUE_SEQ:
		return -EPERM;
	case O_TCP_AO_REPAIR:
		return s == TCPS_LISTEN ? -EPERM : 0;
	default:
		return 0;
	}
}

void kopt_listens(struct file *f)
{
	const struct kopt *k = *kopt_find(f, IPPROTO_TCP, TCP_FASTOPEN_KEY);

	if (k)
		tcp_fastopen_keys(own_stack(), f->tcb, k->val, (int)(k->len / TFO_KEY_BYTES));
}

/* The kernel took the option, on @fd. Lock held at return. */
static int took(struct op *op, int fd, int level, int name, const void *val, socklen_t len)
{
	struct kopt k = { .level = level, .name = name, .len = len };
	socklen_t now_len = sizeof(int);
	int given = 0, now = 0, r = 0;

	if (len <= sizeof(k.val) && user_copy(k.val, val, len))
		r = -EFAULT;
	memcpy(&given, k.val, len < sizeof(given) ? len : sizeof(given));
	libc_next.getsockopt(fd, level, name, &now, &now_len);
	shard_lock(op->t);
	if (!op->f->tcb || r)
		return r;
	if (tcp_ready(own_stack(), op->f->tcb, op->t->now) < 0)
		return -ENOBUFS;
	effect(op, &k, given, now);
	r = len <= sizeof(k.val) ? kopt_keep(op->f, &k) : 0;
	if (level == IPPROTO_TCP && name == TCP_FASTOPEN_KEY)
		kopt_listens(op->f);
	return r;
}

static bool is_stamping(int level, int name)
{
	return level == SOL_SOCKET && (name == O_TIMESTAMPING_OLD || name == O_TIMESTAMPING_NEW);
}

/**
 * stamp_key_strip() - numbers for time stamps (SOF_TIMESTAMPING_OPT_ID) are for connections, which a stand-in is not
 * @buf:	what it is asked instead
 *
 * Return: the flags left out
 */
static uint32_t stamp_key_strip(const struct op *op, int level, int name, const void **val, socklen_t len, uint32_t buf[KOPT_BYTES / 4])
{
	enum tcp_state s = tcp_state(op->f->tcb);
	uint32_t key;

	if (!is_stamping(level, name) || s == TCPS_CLOSED || s == TCPS_LISTEN || len < sizeof(key) || len > KOPT_BYTES ||
	    user_copy(buf, *val, len) || !(buf[0] & OPT_ID))
		return 0;
	key = buf[0] & (OPT_ID | OPT_ID_TCP);
	buf[0] &= ~key;
	*val = buf;
	return key;
}

int kopt_set(struct op *op, int level, int name, const void *val, socklen_t len)
{
	uint32_t buf[KOPT_BYTES / 4], key = stamp_key_strip(op, level, name, &val, len, buf);
	bool keyed = op->f->stamping & STAMPING_KEYED;
	int refused = state_refuses(op, level, name), fd = stand_in(op), r = fd;

	if (fd >= 0)
		r = (int)kernel_result(libc_next.setsockopt(fd, level, name, val, len));
	if (refused && (int)len >= (int)sizeof(int))
		r = refused;
	if (r < 0)
		shard_lock(op->t);
	else
		r = took(op, fd, level, name, val, len);
	if (r == 0 && key && !keyed)
		r = tcp_stamp_keyed(own_stack(), op->f->tcb, key & OPT_ID_TCP);
	if (r == 0 && key)
		op->f->stamping |= STAMPING_KEYED;
	op_end(op, 0);
	if (fd >= 0)
		libc_next.close(fd);
	return r;
}

int kopt_note(struct op *op, int fd, int level, int name, const void *val, socklen_t len)
{
	op_hold(op);
	shard_unlock(op->t);
	return took(op, fd, level, name, val, len);
}

/* Return: 0, -EFAULT */
static int stamp_key_show(void *val, const socklen_t *len)
{
	uint32_t flags;

	if (*len < sizeof(flags))
		return 0;
	if (user_copy(&flags, val, sizeof(flags)))
		return -EFAULT;
	flags |= OPT_ID;
	return user_copy(val, &flags, sizeof(flags));
}

int kopt_get(struct op *op, int level, int name, void *val, socklen_t *len)
{
	int refused = name == O_TCP_AO_REPAIR ? state_refuses(op, level, name) : 0, fd = stand_in(op), r = fd;

	if (fd >= 0) {
		r = (int)kernel_result(libc_next.getsockopt(fd, level, name, val, len));
		libc_next.close(fd);
	}
	if (r == 0 && is_stamping(level, name) && op->f->stamping & STAMPING_KEYED)
		r = stamp_key_show(val, len);
	if (refused && r == -ENOPROTOOPT)
		r = refused;
	shard_lock(op->t);
	return (int)op_end(op, r);
}
