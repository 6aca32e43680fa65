/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sockopt.c - getsockopt and setsockopt
 *
 * Every option is a row of sockopts.def. Lengths and errors are those of Linux's levels, which differ: socket and TCP level
 * want an int at least, IP level takes a single octet as well, and gives one where the program has room for no more.
 *
 * An undecided socket sets the option on both sides, so that nothing has to be replayed when it decides; the kernel's answer
 * counts, and reading asks the kernel. An option without a row is kopt.c's.
 */
#include <limits.h>
#include <linux/in6.h>
#include <linux/tcp.h>
#include <stddef.h>
#include <string.h>
#include "sock_priv.h"

#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif
#ifndef SO_RCVTIMEO_OLD
#define SO_RCVTIMEO_OLD 20
#define SO_SNDTIMEO_OLD 21
#endif
#ifndef SO_RCVTIMEO_NEW
#define SO_RCVTIMEO_NEW 66
#define SO_SNDTIMEO_NEW 67
#endif
#ifndef IP_PROTOCOL
#define IP_PROTOCOL 52
#endif
#define BUF_LOCK_SND	   1
#define BUF_LOCK_RCV	   2
#define RCVBUF_MIN_BYTES   2304
#define SNDBUF_MIN_BYTES   4608
#define LINGER2_MAX_S	   120
#define VAL_MAX_BYTES	   512

struct val { /* on its way from or to the program */
	socklen_t len;	/* get: room; after: octets to give. set: octets given */
	bool tell_len;	/* get: an error tells it too */
	union {
		int i;
		uint64_t u64;
		int64_t pair[2];
		struct linger linger;
		uint8_t b[VAL_MAX_BYTES];
	};
};
typedef int opt_get(struct op *op, struct val *v);
typedef int opt_set(struct op *op, const struct val *v);
enum { GET = 1, SET = 2, GETSET = 3 };
enum opt_kind { INT, BOOL, FN };
enum { LIVE = -1 }; /* else: enum tcp_opt_id */

struct opt {
	int level, name;
	uint8_t access, kind, field_bytes;
	uint16_t field_off;
	int lowest, highest, unset, effect;
	opt_get *get;
	opt_set *set;
};

#define absent NULL
static opt_get get_rcvbuf, get_sndbuf, get_linger, get_rcvtimeo, get_sndtimeo, get_error, get_type, get_protocol, get_domain,
	get_acceptconn, get_peername, get_port, get_zero, get_cookie, get_buf_lock, get_ttl, get_mtu, get_nothing, get_v6only, get_maxseg, get_linger2,
	get_defer_accept, get_quickack, get_congestion, get_info, get_window_clamp, get_fastopen, get_fastopen_connect,
	get_fastopen_no_cookie, get_syncnt, get_meminfo, get_saved_syn;
static opt_set set_repair, set_ulp, set_md5sig, set_rcvbuf, set_sndbuf, set_rcvlowat, set_linger, set_rcvtimeo, set_sndtimeo, set_buf_lock, set_ttl, set_v6only,
	set_maxseg, set_linger2, set_defer_accept, set_quickack, set_congestion,
	set_window_clamp, set_fastopen, set_fastopen_connect, set_fastopen_no_cookie, set_syncnt;

static const struct opt opts[] = {
#define OPT(level, name, access, kind, field, lowest, highest, unset, effect, source)                                     \
	{ level, name, access, kind, sizeof(((struct tcp_opts *)0)->field), offsetof(struct tcp_opts, field), lowest, highest, \
	  unset, effect, NULL, NULL },
#define OPT_FN(level, name, get, set, source) { level, name, GETSET, FN, 0, 0, 0, 0, 0, 0, get, set },
#include "sockopts.def"
#undef OPT
#undef OPT_FN
};

/* ---- rows ---- */

static int field_get(const struct opt *o, const struct tcp_opts *from)
{
	const uint8_t *at = (const uint8_t *)from + o->field_off;
	int v;

	if (o->field_bytes == 1)
		return *at ? *at : o->unset;
	memcpy(&v, at, sizeof(v));
	return v ? v : o->unset;
}

static void field_set(const struct opt *o, struct tcp_opts *to, int v)
{
	uint8_t *at = (uint8_t *)to + o->field_off;

	if (o->field_bytes == 1)
		*at = (uint8_t)v;
	else
		memcpy(at, &v, sizeof(v));
}

static int row_get(const struct opt *o, struct op *op, struct val *v)
{
	v->i = field_get(o, tcp_opts(op->f->tcb));
	if (v->len > sizeof(v->i))
		v->len = sizeof(v->i);
	return 0;
}

static int row_set(const struct opt *o, struct op *op, const struct val *v)
{
	int x = v->i;

	if (o->kind == BOOL)
		x = !!x;
	if (x < o->lowest || x > o->highest)
		return -EINVAL;
	field_set(o, tcp_opts(op->f->tcb), x);
	if (o->effect >= 0)
		tcp_opt_changed(own_stack(), op->f->tcb, (enum tcp_opt_id)o->effect, op->t->now);
	return 0;
}

/* Return: the row of the option that can be read (or set), NULL */
static const struct opt *opt_find(int family, int level, int name, int access)
{
	if (level == IPPROTO_IPV6 && family != 6)
		return NULL;
	for (size_t i = 0; i < sizeof(opts) / sizeof(*opts); i++) {
		const struct opt *o = &opts[i];

		if (o->name != name || o->level != level || !(o->access & access))
			continue;
		if (o->kind != FN || (access == GET ? o->get != NULL : o->set != NULL))
			return o;
	}
	return NULL;
}

static int opt_apply(struct op *op, int level, int name, const struct val *v)
{
	const struct opt *o = opt_find(op->f->family, level, name, SET);

	if (!o)
		return -ENOPROTOOPT;
	return o->kind == FN ? o->set(op, v) : row_set(o, op, v);
}

int sockopt_apply(struct op *op, int level, int name, const void *val, socklen_t len)
{
	struct val v = { .len = len };

	memcpy(v.b, val, len < sizeof(v.b) ? len : sizeof(v.b));
	return opt_apply(op, level, name, &v);
}

/* ---- the two calls ---- */

/* Return: 0, -EINVAL, -EFAULT */
static int val_from_user(struct val *v, int level, int name, const void *val, socklen_t len)
{
	bool text = level == IPPROTO_TCP && (name == TCP_CONGESTION || name == TCP_ULP);
	uint8_t octet;

	if ((int)len < 0)
		return -EINVAL;
	v->i = 0;
	v->len = len < sizeof(v->b) ? len : sizeof(v->b);
	if (len < sizeof(int) && !text) {
		if (level != IPPROTO_IP)
			return -EINVAL;
		octet = 0;
		if (len && user_copy(&octet, val, 1))
			return -EFAULT;
		v->i = octet;
		return 0;
	}
	return user_copy(v->b, val, v->len);
}

int sk_setsockopt(int fd, int level, int name, const void *val, socklen_t len)
{
	struct val v;
	struct op op;
	int r;

	if (!op_begin_any(&op, fd))
		return (int)kernel_result(libc_next.setsockopt(fd, level, name, val, len));
	if (op.f->bound && op.f->kind == FILE_UNDECIDED && level == IPPROTO_IPV6 && name == IPV6_V6ONLY)
		return (int)op_end(&op, -EINVAL); /* the kernel's half is not bound and would take it */
	if (op.f->kind != FILE_TCP) {
		op_hold(&op);
		shard_unlock(op.t);
		r = (int)kernel_result(libc_next.setsockopt(fd, level, name, val, len));
		shard_lock(op.t);
		if (r || op.f->kind == FILE_EPOLL || !op.f->tcb)
			return (int)op_end(&op, r);
		if (!opt_find(op.f->family, level, name, SET))
			kopt_note(&op, fd, level, name, val, len);
		else if (!val_from_user(&v, level, name, val, len))
			opt_apply(&op, level, name, &v);
		return (int)op_end(&op, 0);
	}
	if (!opt_find(op.f->family, level, name, SET))
		return kopt_set(&op, level, name, val, len);
	r = val_from_user(&v, level, name, val, len);
	return (int)op_end(&op, r ? r : opt_apply(&op, level, name, &v));
}

/* The IP level gives one octet to a program with room for less than an int. */
static void val_narrow(struct val *v, int level, socklen_t room)
{
	if ((level == IPPROTO_IP) && room > 0 && room < sizeof(int) && v->i >= 0 && v->i <= 255 && v->len == room) {
		v->b[0] = (uint8_t)v->i;
		v->len = 1;
	}
}

int sk_getsockopt(int fd, int level, int name, void *val, socklen_t *len)
{
	const struct opt *o;
	struct val v;
	struct op op;
	socklen_t room;
	int r;

	if (!op_begin(&op, fd))
		return (int)kernel_result(libc_next.getsockopt(fd, level, name, val, len));
	o = opt_find(op.f->family, level, name, GET);
	if (!o)
		return kopt_get(&op, level, name, val, len);
	if (user_copy(&room, len, sizeof(room)))
		return (int)op_end(&op, -EFAULT);
	if ((int)room < 0 && level != IPPROTO_IPV6) /* which takes it for a large one */
		return (int)op_end(&op, -EINVAL);
	memset(&v, 0, sizeof(v));
	v.len = room;
	r = o->kind == FN ? o->get(&op, &v) : row_get(o, &op, &v);
	op_end(&op, 0);
	if (r)
		return v.tell_len && user_copy(len, &v.len, sizeof(v.len)) ? -EFAULT : r;
	val_narrow(&v, level, room);
	return user_copy(len, &v.len, sizeof(v.len)) || user_copy(val, v.b, v.len) ? -EFAULT : 0;
}

/* ---- options that are more than a number ---- */

static int give(struct val *v, const void *what, socklen_t len)
{
	memcpy(v->b, what, len);
	if (v->len > len)
		v->len = len;
	return 0;
}

static int give_int(struct val *v, int i)
{
	return give(v, &i, sizeof(i));
}

static int get_nothing(struct op *op, struct val *v)
{
	(void)op;
	v->len = 0;
	return 0;
}

/* Asked for n, the kernel takes 2n: the program means payload, the kernel counts its own overhead. */
static int set_buf(struct op *op, const struct val *v, uint32_t *ret_bytes, uint8_t *ret_locked, uint32_t least, enum tcp_opt_id id)
{
	uint32_t most = id == TCP_OPT_RCVBUF ? stack_ctl(own_stack())->rmem_max : stack_ctl(own_stack())->wmem_max;
	uint32_t n = (uint32_t)v->i; /* negative: more than the most, as Linux reads it */

	if (n > most)
		n = most;
	*ret_bytes = n * 2 < least ? least : n * 2;
	*ret_locked = 1;
	tcp_opt_changed(own_stack(), op->f->tcb, id, op->t->now);
	return 0;
}

static int set_rcvbuf(struct op *op, const struct val *v)
{
	struct tcp_opts *o = tcp_opts(op->f->tcb);

	return set_buf(op, v, &o->rcvbuf_bytes, &o->rcvbuf_locked, RCVBUF_MIN_BYTES, TCP_OPT_RCVBUF);
}

static int set_sndbuf(struct op *op, const struct val *v)
{
	struct tcp_opts *o = tcp_opts(op->f->tcb);

	return set_buf(op, v, &o->sndbuf_bytes, &o->sndbuf_locked, SNDBUF_MIN_BYTES, TCP_OPT_SNDBUF);
}

static int get_rcvbuf(struct op *op, struct val *v)
{
	return give_int(v, (int)tcp_opts(op->f->tcb)->rcvbuf_bytes);
}

static int get_sndbuf(struct op *op, struct val *v)
{
	return give_int(v, (int)tcp_opts(op->f->tcb)->sndbuf_bytes);
}

static int get_buf_lock(struct op *op, struct val *v)
{
	const struct tcp_opts *o = tcp_opts(op->f->tcb);

	return give_int(v, (o->sndbuf_locked ? BUF_LOCK_SND : 0) | (o->rcvbuf_locked ? BUF_LOCK_RCV : 0));
}

static int set_buf_lock(struct op *op, const struct val *v)
{
	struct tcp_opts *o = tcp_opts(op->f->tcb);

	if (v->i & ~(BUF_LOCK_SND | BUF_LOCK_RCV))
		return -EINVAL;
	o->sndbuf_locked = !!(v->i & BUF_LOCK_SND);
	o->rcvbuf_locked = !!(v->i & BUF_LOCK_RCV);
	return 0;
}

static int set_rcvlowat(struct op *op, const struct val *v)
{
	struct tcp_opts *o = tcp_opts(op->f->tcb);
	int most = o->rcvbuf_locked ? (int)(o->rcvbuf_bytes / 2) : (int)stack_ctl(own_stack())->tcp_rmem[2] / 2;

	o->rcvlowat_bytes = v->i < 0 || v->i > most ? most : v->i ? v->i : 1;
	if (!o->rcvbuf_locked && o->rcvlowat_bytes > (int)(o->rcvbuf_bytes / 2)) /* it must fit the window */
		o->rcvbuf_bytes = 2 * (uint32_t)o->rcvlowat_bytes;
	tcp_opt_changed(own_stack(), op->f->tcb, TCP_OPT_RCVBUF, op->t->now);
	return 0;
}

static int get_linger(struct op *op, struct val *v)
{
	const struct tcp_opts *o = tcp_opts(op->f->tcb);
	struct linger l = { .l_onoff = o->linger_on, .l_linger = o->linger_s };

	return give(v, &l, sizeof(l));
}

static int set_linger(struct op *op, const struct val *v)
{
	struct tcp_opts *o = tcp_opts(op->f->tcb);

	if (v->len < sizeof(v->linger))
		return -EINVAL;
	o->linger_on = !!v->linger.l_onoff;
	if (o->linger_on)
		o->linger_s = v->linger.l_linger < 0 ? INT_MAX : v->linger.l_linger;
	return 0;
}

/* struct timeval is two longs, old and new alike on 64 bits. 0 is no limit; a negative time is one that is over: 1 us. */
static int timeo_get(struct val *v, uint64_t us)
{
	int64_t pair[2] = { (int64_t)(us / 1000000), (int64_t)(us % 1000000) };

	return give(v, pair, sizeof(pair));
}

static int timeo_set(const struct val *v, uint64_t *ret_us)
{
	if (v->len < sizeof(v->pair))
		return -EINVAL;
	if (v->pair[1] < 0 || v->pair[1] >= 1000000)
		return -EDOM;
	if (v->pair[0] < 0)
		*ret_us = 1;
	else if (v->pair[0] > INT64_MAX / 1000000 - 1)
		*ret_us = 0;
	else
		*ret_us = (uint64_t)v->pair[0] * 1000000 + (uint64_t)v->pair[1];
	return 0;
}

static int get_rcvtimeo(struct op *op, struct val *v)
{
	return timeo_get(v, op->f->rcvtimeo_us);
}

static int get_sndtimeo(struct op *op, struct val *v)
{
	return timeo_get(v, op->f->sndtimeo_us);
}

static int set_rcvtimeo(struct op *op, const struct val *v)
{
	return timeo_set(v, &op->f->rcvtimeo_us);
}

static int set_sndtimeo(struct op *op, const struct val *v)
{
	return timeo_set(v, &op->f->sndtimeo_us);
}

static int get_error(struct op *op, struct val *v)
{
	return give_int(v, tcp_error_take(op->f->tcb));
}

static int get_type(struct op *op, struct val *v)
{
	(void)op;
	return give_int(v, SOCK_STREAM);
}

static int get_protocol(struct op *op, struct val *v)
{
	(void)op;
	return give_int(v, IPPROTO_TCP);
}

static int get_domain(struct op *op, struct val *v)
{
	return give_int(v, op->f->family == 4 ? AF_INET : AF_INET6);
}

static int get_acceptconn(struct op *op, struct val *v)
{
	return give_int(v, tcp_state(op->f->tcb) == TCPS_LISTEN);
}

static int get_port(struct op *op, struct val *v)
{
	struct endpoint ep;

	tcp_local(op->f->tcb, &ep);
	return give_int(v, tcp_has_port(op->f->tcb) ? ep.port : 0);
}

static int get_peername(struct op *op, struct val *v)
{
	union sockaddr_any a;
	struct endpoint ep;
	socklen_t len, room = v->len;
	int r = tcp_peer(op->f->tcb, &ep);

	if (r)
		return r;
	len = addr_from_endpoint(op->f->family, &ep, &a);
	if (len < room)
		return -EINVAL;
	return give(v, &a, len);
}

static int get_zero(struct op *op, struct val *v)
{
	(void)op;
	return give_int(v, 0);
}

/* Checkpointing a private connection into a kernel's is not to be had, whoever asks: as without CAP_NET_ADMIN. */
static int set_repair(struct op *op, const struct val *v)
{
	(void)op;
	(void)v;
	return -EPERM;
}

/* "tls" above all: refused as by a kernel without that module, so that programs encrypt for themselves. */
static int set_ulp(struct op *op, const struct val *v)
{
	(void)op;
	return v->len ? -ENOENT : -EINVAL;
}

/* RFC 2385 signatures are not built: as a kernel without CONFIG_TCP_MD5SIG, but for what is too short to be asked. */
static int set_md5sig(struct op *op, const struct val *v)
{
	(void)op;
	return v->len < sizeof(struct tcp_md5sig) ? -EINVAL : -ENOPROTOOPT;
}

static int get_cookie(struct op *op, struct val *v)
{
	uint64_t cookie = file_handle(op->f);

	if (v->len < sizeof(cookie))
		return -EINVAL;
	return give(v, &cookie, sizeof(cookie));
}

static int get_ttl(struct op *op, struct val *v)
{
	uint8_t ttl = tcp_opts(op->f->tcb)->ttl;

	return give_int(v, ttl ? ttl : stack_ctl(own_stack())->ip_default_ttl);
}

static int set_ttl(struct op *op, const struct val *v)
{
	if (!v->len || (v->i != -1 && (v->i < 1 || v->i > 255)))
		return -EINVAL;
	tcp_opts(op->f->tcb)->ttl = v->i == -1 ? 0 : (uint8_t)v->i;
	return 0;
}

static int get_window_clamp(struct op *op, struct val *v)
{
	return give_int(v, (int)tcp_opts(op->f->tcb)->window_clamp_bytes);
}

static int set_window_clamp(struct op *op, const struct val *v)
{
	if (!v->i && tcp_state(op->f->tcb) != TCPS_CLOSED)
		return -EINVAL;
	tcp_opts(op->f->tcb)->window_clamp_bytes =
		!v->i ? 0 : v->i < RCVBUF_MIN_BYTES / 2 ? RCVBUF_MIN_BYTES / 2 : (uint32_t)v->i;
	return 0;
}

static int get_mtu(struct op *op, struct val *v)
{
	struct tcp_info_view info;
	struct endpoint peer;

	if (tcp_peer(op->f->tcb, &peer))
		return -ENOTCONN;
	tcp_info(own_stack(), op->f->tcb, &info);
	return give_int(v, (int)info.pmtu);
}

static int get_v6only(struct op *op, struct val *v)
{
	return give_int(v, tcp_opts(op->f->tcb)->v6only);
}

static int set_v6only(struct op *op, const struct val *v)
{
	if (tcp_has_port(op->f->tcb))
		return -EINVAL;
	tcp_opts(op->f->tcb)->v6only = !!v->i;
	return 0;
}

static int get_maxseg(struct op *op, struct val *v)
{
	struct tcp_info_view info;
	uint32_t asked = tcp_opts(op->f->tcb)->maxseg_bytes;

	tcp_info(own_stack(), op->f->tcb, &info);
	if (tcp_state(op->f->tcb) == TCPS_CLOSED || tcp_state(op->f->tcb) == TCPS_LISTEN)
		return give_int(v, asked ? (int)asked : 536);
	return give_int(v, (int)info.snd_mss);
}

static int set_maxseg(struct op *op, const struct val *v)
{
	if (v->i && (v->i < 88 || v->i > 32767))
		return -EINVAL;
	tcp_opts(op->f->tcb)->maxseg_bytes = (uint32_t)v->i;
	return 0;
}

static int get_linger2(struct op *op, struct val *v)
{
	int s = tcp_opts(op->f->tcb)->linger2_s;

	return give_int(v, s < 0 ? -1 : s ? s : (int)stack_ctl(own_stack())->tcp_fin_timeout_s);
}

static int set_linger2(struct op *op, const struct val *v)
{
	tcp_opts(op->f->tcb)->linger2_s = v->i < 0 ? -1 : v->i > LINGER2_MAX_S ? LINGER2_MAX_S : v->i;
	return 0;
}

/* Linux keeps the time as a number of SYN-ACK retransmissions (1, 3, 7, ... s) and reads back the time those take. */
static int set_defer_accept(struct op *op, const struct val *v)
{
	int32_t period = 0;

	if (v->i > 0)
		for (int32_t timeout = 1, sum = period = 1; v->i > sum && period < 255; period++) {
			timeout = timeout * 2 > 120 ? 120 : timeout * 2;
			sum += timeout;
		}
	tcp_opts(op->f->tcb)->defer_accept_s = 0;
	for (int32_t timeout = 1; period-- > 0; timeout = timeout * 2 > 120 ? 120 : timeout * 2)
		tcp_opts(op->f->tcb)->defer_accept_s += timeout;
	return 0;
}

static int get_defer_accept(struct op *op, struct val *v)
{
	return give_int(v, tcp_opts(op->f->tcb)->defer_accept_s);
}

static int get_quickack(struct op *op, struct val *v)
{
	return give_int(v, tcp_opts(op->f->tcb)->quickack != QUICKACK_OFF);
}

static int set_quickack(struct op *op, const struct val *v)
{
	tcp_opts(op->f->tcb)->quickack = v->i ? QUICKACK_ON : QUICKACK_OFF;
	tcp_opt_changed(own_stack(), op->f->tcb, TCP_OPT_QUICKACK, op->t->now);
	return 0;
}

static int get_syncnt(struct op *op, struct val *v)
{
	int n = tcp_opts(op->f->tcb)->syncnt;

	return give_int(v, n ? n : (int)stack_ctl(own_stack())->tcp_syn_retries);
}

static int set_syncnt(struct op *op, const struct val *v)
{
	if (v->i < 1 || v->i > 127)
		return -EINVAL;
	tcp_opts(op->f->tcb)->syncnt = v->i;
	return 0;
}

static int get_meminfo(struct op *op, struct val *v)
{
	const struct tcp_opts *o = tcp_opts(op->f->tcb);
	struct tcp_info_view t;

	tcp_info(own_stack(), op->f->tcb, &t);
	return give(v, (uint32_t[9]){ t.rcv_mem_bytes, o->rcvbuf_bytes, 0, o->sndbuf_bytes, 0, t.snd_mem_bytes }, 9 * sizeof(uint32_t));
}

/* Read once; asked with too little room it says how much there is. */
static int get_saved_syn(struct op *op, struct val *v)
{
	size_t len;
	const void *syn = tcp_saved_syn(op->f->tcb, &len);

	if (v->len < len) {
		v->len = (socklen_t)len;
		v->tell_len = true;
		return -EINVAL;
	}
	v->len = (socklen_t)len;
	if (syn)
		memcpy(v->b, syn, len < sizeof(v->b) ? len : sizeof(v->b));
	tcp_saved_syn_free(own_stack(), op->f->tcb);
	return 0;
}

/* ---- Fast Open ---- */

static bool is_idle(const struct op *op)
{
	return tcp_state(op->f->tcb) == TCPS_CLOSED || tcp_state(op->f->tcb) == TCPS_LISTEN;
}

static int get_fastopen(struct op *op, struct val *v)
{
	return give_int(v, (int)tcp_opts(op->f->tcb)->fastopen_qlen);
}

static int set_fastopen(struct op *op, const struct val *v)
{
	uint32_t most = stack_ctl(own_stack())->somaxconn;

	if (v->i < 0 || !is_idle(op))
		return -EINVAL;
	tcp_opts(op->f->tcb)->fastopen_qlen = (uint32_t)v->i < most ? (uint32_t)v->i : most;
	return 0;
}

static int get_fastopen_connect(struct op *op, struct val *v)
{
	return give_int(v, tcp_opts(op->f->tcb)->fastopen_connect);
}

static int set_fastopen_connect(struct op *op, const struct val *v)
{
	if (v->i < 0 || v->i > 1)
		return -EINVAL;
	if (!(stack_ctl(own_stack())->tcp_fastopen & TFO_CLIENT))
		return -EOPNOTSUPP;
	if (tcp_state(op->f->tcb) != TCPS_CLOSED)
		return -EINVAL;
	tcp_opts(op->f->tcb)->fastopen_connect = (uint8_t)v->i;
	return 0;
}

static int get_fastopen_no_cookie(struct op *op, struct val *v)
{
	return give_int(v, tcp_opts(op->f->tcb)->fastopen_no_cookie);
}

static int set_fastopen_no_cookie(struct op *op, const struct val *v)
{
	if (v->i < 0 || v->i > 1 || !is_idle(op))
		return -EINVAL;
	tcp_opts(op->f->tcb)->fastopen_no_cookie = (uint8_t)v->i;
	return 0;
}

#define CC_NAME_MAX 16

static int get_congestion(struct op *op, struct val *v)
{
	char name[CC_NAME_MAX] = "";

	strncpy(name, tcp_cc_name(tcp_opts(op->f->tcb)->cc), sizeof(name) - 1);
	return give(v, name, sizeof(name));
}

static int set_congestion(struct op *op, const struct val *v)
{
	char name[CC_NAME_MAX] = "";
	int cc;

	if (!v->len)
		return -EINVAL;
	memcpy(name, v->b, v->len < sizeof(name) - 1 ? v->len : sizeof(name) - 1);
	cc = tcp_cc_find(name);
	if (cc < 0)
		return -ENOENT;
	tcp_opts(op->f->tcb)->cc = (uint8_t)cc;
	tcp_opt_changed(own_stack(), op->f->tcb, TCP_OPT_CC, op->t->now);
	return 0;
}

static uint32_t ms_since(usec_t now, uint64_t event)
{
	return event && event < now ? (uint32_t)((now - event) / 1000) : 0;
}

/* struct tcp_info ends with tcpi_snd_wnd in the headers of Linux 6.1; what follows up to 6.18 */
#define TCP_INFO_61_BYTES 232
_Static_assert(offsetof(struct tcp_info, tcpi_snd_wnd) == TCP_INFO_61_BYTES - 4, "linux/tcp.h has grown in the middle");
struct tcp_info_more {
	uint32_t rcv_wnd, rehash;
	uint16_t total_rto, total_rto_recoveries;
	uint32_t total_rto_time, received_ce, delivered_e1_bytes, delivered_e0_bytes, delivered_ce_bytes, received_e1_bytes,
		received_e0_bytes, received_ce_bytes;
	uint16_t accecn_fail_mode, accecn_opt_seen;
};

static int get_info(struct op *op, struct val *v)
{
	struct tcp_info_view t;
	struct tcp_info i = { 0 };
	struct tcp_info_more more = { 0 };
	uint8_t all[TCP_INFO_61_BYTES + sizeof(more)];
	usec_t now = op->t->now;

	tcp_info(own_stack(), op->f->tcb, &t);
	tcp_info_times(op->f->tcb, now, &t);
	i.tcpi_state = t.state;
	i.tcpi_ca_state = t.ca_state;
	i.tcpi_retransmits = t.retransmits;
	i.tcpi_probes = t.probes;
	i.tcpi_backoff = t.backoff;
	i.tcpi_options = t.options;
	i.tcpi_snd_wscale = t.snd_wscale & 15;
	i.tcpi_rcv_wscale = t.rcv_wscale & 15;
	i.tcpi_rto = t.rto_us;
	i.tcpi_ato = t.ato_us;
	i.tcpi_snd_mss = t.snd_mss;
	i.tcpi_rcv_mss = t.rcv_mss;
	i.tcpi_unacked = t.unacked;
	i.tcpi_sacked = t.sacked;
	i.tcpi_lost = t.lost;
	i.tcpi_retrans = t.retrans;
	i.tcpi_last_data_sent = ms_since(now, t.last_data_sent);
	i.tcpi_last_data_recv = ms_since(now, t.last_data_recv);
	i.tcpi_last_ack_recv = ms_since(now, t.last_ack_recv);
	i.tcpi_pmtu = t.pmtu;
	i.tcpi_rcv_ssthresh = t.rcv_ssthresh;
	i.tcpi_rtt = t.rtt_us;
	i.tcpi_rttvar = t.rttvar_us;
	i.tcpi_snd_ssthresh = t.snd_ssthresh;
	i.tcpi_snd_cwnd = t.snd_cwnd;
	i.tcpi_advmss = t.advmss;
	i.tcpi_reordering = t.reordering;
	i.tcpi_rcv_rtt = t.rcv_rtt_us;
	i.tcpi_rcv_space = t.rcv_space;
	i.tcpi_total_retrans = t.total_retrans;
	i.tcpi_bytes_acked = t.bytes_acked;
	i.tcpi_bytes_received = t.bytes_received;
	i.tcpi_bytes_sent = t.bytes_sent;
	i.tcpi_bytes_retrans = t.bytes_retrans;
	i.tcpi_segs_in = (uint32_t)t.segs_in;
	i.tcpi_segs_out = (uint32_t)t.segs_out;
	i.tcpi_data_segs_in = (uint32_t)t.data_segs_in;
	i.tcpi_data_segs_out = (uint32_t)t.data_segs_out;
	i.tcpi_notsent_bytes = t.notsent_bytes;
	i.tcpi_min_rtt = t.min_rtt_us;
	i.tcpi_dsack_dups = t.dsack_dups;
	i.tcpi_reord_seen = t.reord_seen;
	i.tcpi_rcv_ooopack = t.rcv_ooopack;
	i.tcpi_snd_wnd = t.snd_wnd;
	i.tcpi_pacing_rate = t.pacing_rate;
	i.tcpi_max_pacing_rate = t.max_pacing_rate;
	i.tcpi_delivery_rate = t.delivery_rate;
	i.tcpi_delivery_rate_app_limited = t.delivery_rate_app_limited & 1;
	i.tcpi_fastopen_client_fail = t.fastopen_client_fail & 3;
	i.tcpi_busy_time = t.busy_us;
	i.tcpi_rwnd_limited = t.rwnd_limited_us;
	i.tcpi_sndbuf_limited = t.sndbuf_limited_us;
	i.tcpi_delivered = t.delivered;
	more.rcv_wnd = t.rcv_wnd;
	memcpy(all, &i, TCP_INFO_61_BYTES);
	memcpy(all + TCP_INFO_61_BYTES, &more, sizeof(more));
	return give(v, all, sizeof(all));
}
