/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cmsg.c - control data that recvmsg() gives with TCP: when the data came (SO_TIMESTAMP*), how much is left (TCP_INQ), and what
 * MSG_ERRQUEUE finds
 *
 * As the kernel's put_cmsg(): what finds no room is cut, and MSG_CTRUNC tells. Time stamps are those of the last segment with
 * data, the kernel's of the last one that was read: where more is queued than was read, ours is the younger.
 */
#include <string.h>
#include <time.h>
#include <linux/errqueue.h> /* wants struct timespec */
#include "sock_priv.h"

#define SCM_TIMESTAMP_OLD   29
#define SCM_TIMESTAMPNS_OLD 35
#define SCM_TIMESTAMP_NEW   63
#define SCM_TIMESTAMPNS_NEW 64
#define TCP_CM_INQ	    36
#define SCM_STAMPING_OLD    37
#define SCM_STAMPING_NEW    65
#define O_IPV6_RECVERR	    25
#define CMSG_MOST_BYTES	    48 /* three times of SO_TIMESTAMPING */

void cmsg_note(const struct op *op, ssize_t r, struct cmsg_due *ret)
{
	const struct file *f = op->f;
	struct tcp_info_view info;

	*ret = (struct cmsg_due){ 0 };
	if (likely(!f->stamp && !f->inq && !f->stamping) || r < 0)
		return;
	tcp_info(own_stack(), f->tcb, &info);
	ret->stamp = r > 0 ? f->stamp : 0;
	if (r > 0 && f->stamping & STAMPING_REPORT && (f->stamp || f->stamping & STAMPING_RX))
		ret->stamping = f->stamping;
	ret->ago_us = op->t->now > info.last_data_recv ? op->t->now - info.last_data_recv : 0;
	ret->has_inq = f->inq;
	ret->inq = (int)tcp_readable_bytes(f->tcb);
	if (!ret->inq && tcp_poll(f->tcb) & TCP_EV_RDHUP)
		ret->inq = 1; /* the end of the stream is left to be read */
}

struct room {
	uint8_t *at;
	size_t left;
	int flags;
};

/* Return: 0, -EFAULT */
static int put(struct room *room, int level, int type, const void *data, size_t n)
{
	uint8_t buf[CMSG_SPACE(CMSG_MOST_BYTES)] = { 0 };
	struct cmsghdr h = { .cmsg_len = CMSG_LEN(n), .cmsg_level = level, .cmsg_type = type };
	size_t space = CMSG_SPACE(n);

	if (!room->at || room->left < sizeof(h)) {
		room->flags |= MSG_CTRUNC;
		return 0;
	}
	if (room->left < h.cmsg_len) {
		room->flags |= MSG_CTRUNC;
		h.cmsg_len = room->left;
	}
	memcpy(buf, &h, sizeof(h));
	memcpy(buf + CMSG_LEN(0), data, n);
	if (user_copy(room->at, buf, h.cmsg_len))
		return -EFAULT;
	if (space > room->left)
		space = room->left;
	room->at += space;
	room->left -= space;
	return 0;
}

/* Wall-clock time, @ago_us before now */
static int64_t wall_us(usec_t ago_us)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000 - (int64_t)ago_us;
}

/* Software, none, hardware: only the first is ever there */
static int put_stamping(struct room *room, uint8_t stamping, usec_t ago_us)
{
	int64_t us = wall_us(ago_us), times[6] = { us / 1000000, us % 1000000 * 1000 };

	return put(room, SOL_SOCKET, stamping & STAMPING_NEW ? SCM_STAMPING_NEW : SCM_STAMPING_OLD, times, sizeof(times));
}

static int put_stamp(struct room *room, const struct cmsg_due *due)
{
	static const struct {
		int type;
		bool ns;
	} forms[] = { [STAMP_US] = { SCM_TIMESTAMP_OLD, false }, [STAMP_NS] = { SCM_TIMESTAMPNS_OLD, true },
		      [STAMP_US_NEW] = { SCM_TIMESTAMP_NEW, false }, [STAMP_NS_NEW] = { SCM_TIMESTAMPNS_NEW, true } };
	int64_t pair[2], us = wall_us(due->ago_us);

	pair[0] = us / 1000000;
	pair[1] = us % 1000000 * (forms[due->stamp].ns ? 1000 : 1);
	return put(room, SOL_SOCKET, forms[due->stamp].type, pair, sizeof(pair));
}

static void room_end(const struct room *room, struct msghdr *m)
{
	m->msg_controllen = room->at ? (size_t)(room->at - (uint8_t *)m->msg_control) : 0;
	m->msg_flags |= room->flags;
}

int cmsg_give(struct msghdr *m, const struct cmsg_due *due)
{
	struct room room = { .at = m->msg_control, .left = m->msg_controllen };
	int r = 0;

	if (due->stamp)
		r = put_stamp(&room, due);
	if (!r && due->stamping)
		r = put_stamping(&room, due->stamping, due->ago_us);
	if (!r && due->has_inq)
		r = put(&room, IPPROTO_TCP, TCP_CM_INQ, &due->inq, sizeof(due->inq));
	room_end(&room, m);
	return r;
}

/* As ip_recv_error(): no payload, nobody's address, and what happened as an error of its own kind */
int cmsg_give_errq(struct msghdr *m, const struct tcp_errq_view *e, int family, uint8_t stamping, usec_t now)
{
	struct {
		struct sock_extended_err err;
		union {
			struct sockaddr_in in;
			struct sockaddr_in6 in6;
		} offender;
	} x = { .err = { .ee_origin = e->origin, .ee_code = e->code, .ee_info = e->info, .ee_data = e->data } };
	struct room room = { .at = m->msg_control, .left = m->msg_controllen, .flags = MSG_ERRQUEUE };
	int r = 0;

	if (e->origin == TCP_ERRQ_TIMESTAMPING) {
		x.err.ee_errno = ENOMSG;
		if (stamping & STAMPING_REPORT)
			r = put_stamping(&room, stamping, now > e->at ? now - e->at : 0);
	}
	if (!r && family == 4)
		r = put(&room, IPPROTO_IP, IP_RECVERR, &x, sizeof(x.err) + sizeof(x.offender.in));
	else if (!r)
		r = put(&room, IPPROTO_IPV6, O_IPV6_RECVERR, &x, sizeof(x.err) + sizeof(x.offender.in6));
	m->msg_flags = 0;
	room_end(&room, m);
	return r;
}
