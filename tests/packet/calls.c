/* SPDX-License-Identifier: BSD-2-Clause */
/* calls.c - lines that call a socket, or look at what the stack says of it */
#include <errno.h>
#include "player.h"

static const struct { const char *name; int value; } errnos[] = {
	{ "EAGAIN", EAGAIN }, { "EINPROGRESS", EINPROGRESS }, { "EALREADY", EALREADY }, { "EISCONN", EISCONN },
	{ "EPROTO", EPROTO }, { "EACCES", EACCES },
	{ "ECONNREFUSED", ECONNREFUSED }, { "ECONNRESET", ECONNRESET }, { "ECONNABORTED", ECONNABORTED }, { "EPIPE",
													   EPIPE },
	{ "ENOTCONN", ENOTCONN }, { "EINVAL", EINVAL }, { "EADDRINUSE", EADDRINUSE }, { "EADDRNOTAVAIL",
										       EADDRNOTAVAIL },
	{ "ETIMEDOUT", ETIMEDOUT }, { "EHOSTUNREACH", EHOSTUNREACH }, { "ENETUNREACH", ENETUNREACH }, { "EBUSY",
												       EBUSY },
	{ "ENOPROTOOPT", ENOPROTOOPT }, { "EMSGSIZE", EMSGSIZE }, { "EOPNOTSUPP", EOPNOTSUPP },
};

static const char *result_name(long r, char buf[32])
{
	for (unsigned i = 0; i < sizeof(errnos) / sizeof(errnos[0]); i++)
		if (r == -errnos[i].value)
			return errnos[i].name;
	snprintf(buf, 32, "%ld", r);
	return buf;
}

static struct sock *sock_named(struct player *p, const char *name)
{
	for (unsigned i = 0; i < p->n_socks; i++)
		if (!strcmp(p->socks[i].name, name))
			return &p->socks[i];
	if (p->n_socks == SOCKS_MAX)
		abort();
	snprintf(p->socks[p->n_socks].name, sizeof(p->socks[0].name), "%s", name);
	return &p->socks[p->n_socks++];
}

static void sock_open(struct player *p, struct sock *s)
{
	if (s->tcb)
		return;
	s->sent = s->received = 0;
	s->tcb = tcp_open(p->st, p->v6 ? 6 : 4, 1, p->now);
	if (!s->tcb)
		fail(p, "no memory for a socket");
}

static long do_write(struct player *p, struct sock *s, uint32_t n, bool more)
{
	struct iovec iov[16];
	uint32_t done = 0;
	int k;

	while (done < n) {
		ptrdiff_t r = tcp_send_begin(p->st, s->tcb, n - done, iov, 16, &k);

		if (r < 0)
			return done ? (long)done : (long)r;
		for (int i = 0; i < k; i++)
			for (size_t j = 0; j < iov[i].iov_len; j++)
				((uint8_t *)iov[i].iov_base)[j] = pattern((uint32_t)++s->sent);
		tcp_send_commit(p->st, s->tcb, (size_t)r, more ? TCP_SEND_MORE : 0, p->now);
		done += (uint32_t)r;
	}
	return done;
}

static long do_peek(struct player *p, struct sock *s, uint32_t n)
{
	struct iovec iov[16];
	int k;
	ptrdiff_t r = tcp_recv_begin(p->st, s->tcb, 0, n, iov, 16, &k);
	uint32_t at = (uint32_t)s->received;

	if (r < 0)
		return (long)r;
	for (int i = 0; r > 0 && i < k; i++)
		for (size_t j = 0; j < iov[i].iov_len; j++)
			if (((uint8_t *)iov[i].iov_base)[j] != pattern(++at))
				fail(p, "octet %u peeked is wrong", at);
	if (r > 0)
		tcp_recv_done(p->st, s->tcb, 0, p->now);
	return (long)r;
}

static long do_read(struct player *p, struct sock *s, uint32_t n)
{
	struct iovec iov[16];
	uint32_t done = 0;
	int k;

	while (done < n) {
		ptrdiff_t r = tcp_recv_begin(p->st, s->tcb, 0, n - done, iov, 16, &k);

		if (r <= 0)
			return done ? (long)done : (long)r;
		for (int i = 0; i < k; i++)
			for (size_t j = 0; j < iov[i].iov_len; j++)
				if (((uint8_t *)iov[i].iov_base)[j] != pattern((uint32_t)++s->received))
					fail(p, "octet %llu read is wrong", (unsigned long long)s->received);
		tcp_recv_done(p->st, s->tcb, (size_t)r, p->now);
		done += (uint32_t)r;
	}
	return done;
}

static long do_set(struct player *p, struct sock *s, const char *opt, uint32_t v)
{
	struct tcp_opts *o = tcp_opts(s->tcb);
	enum tcp_opt_id id = TCP_OPT_OTHER;

	if (!strcmp(opt, "nodelay"))
		o->nodelay = (uint8_t)v, id = TCP_OPT_NODELAY;
	else if (!strcmp(opt, "cork"))
		o->cork = (uint8_t)v, id = TCP_OPT_CORK;
	else if (!strcmp(opt, "linger"))
		o->linger_on = 1, o->linger_s = (int32_t)v;
	else if (!strcmp(opt, "linger2"))
		o->linger2_s = (int32_t)v;
	else if (!strcmp(opt, "reuseaddr"))
		o->reuseaddr = (uint8_t)v;
	else if (!strcmp(opt, "keepalive"))
		o->keepalive = (uint8_t)v, id = TCP_OPT_KEEPALIVE;
	else if (!strcmp(opt, "keepidle"))
		o->keepidle_s = v, id = TCP_OPT_KEEPALIVE;
	else if (!strcmp(opt, "keepintvl"))
		o->keepintvl_s = v, id = TCP_OPT_KEEPALIVE;
	else if (!strcmp(opt, "keepcnt"))
		o->keepcnt = v, id = TCP_OPT_KEEPALIVE;
	else if (!strcmp(opt, "user_timeout"))
		o->user_timeout_ms = v;
	else if (!strcmp(opt, "maxseg"))
		o->maxseg_bytes = v;
	else if (!strcmp(opt, "quickack"))
		o->quickack = v ? QUICKACK_ON : QUICKACK_OFF, id = TCP_OPT_QUICKACK;
	else if (!strcmp(opt, "rcvbuf"))
		o->rcvbuf_bytes = v, o->rcvbuf_locked = 1, id = TCP_OPT_RCVBUF;
	else if (!strcmp(opt, "sndbuf"))
		o->sndbuf_bytes = v, o->sndbuf_locked = 1, id = TCP_OPT_SNDBUF;
	else if (!strcmp(opt, "syncnt"))
		o->syncnt = (int32_t)v;
	else if (!strcmp(opt, "defer_accept"))
		o->defer_accept_s = (int32_t)v;
	else if (!strcmp(opt, "window_clamp"))
		o->window_clamp_bytes = v;
	else if (!strcmp(opt, "rcvlowat"))
		o->rcvlowat_bytes = (int32_t)v;
	else if (!strcmp(opt, "notsent_lowat"))
		o->notsent_lowat_bytes = v;
	else if (!strcmp(opt, "tos"))
		o->tos = (uint8_t)v;
	else if (!strcmp(opt, "fastopen"))
		o->fastopen_qlen = v;
	else if (!strcmp(opt, "pacing"))
		o->max_pacing_Bps = v;
	else if (!strcmp(opt, "cc"))
		o->cc = (uint8_t)v, id = TCP_OPT_CC;
	else
		fail(p, "option \"%s\"?", opt);
	tcp_opt_changed(p->st, s->tcb, id, p->now);
	return 0;
}

static void check_state(struct player *p, const struct sock *s, const char *want)
{
	static const struct { const char *name; int v; } states[] = {
#define X(name, n) { #name, n },
		TCP_STATES(X)
#undef X
	};

	for (unsigned i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		if (strcmp(states[i].name, want) != 0)
			continue;
		if ((int)tcp_state(s->tcb) != states[i].v)
			fail(p, "state is %s", tcp_state_name(tcp_state(s->tcb)));
		return;
	}
	fail(p, "state \"%s\"?", want);
}

static void check_poll(struct player *p, const struct sock *s, int i)
{
	static const struct { const char *name; uint32_t bit; } bits[] = {
		{ "IN", TCP_EV_IN }, { "OUT", TCP_EV_OUT }, { "ERR", TCP_EV_ERR }, { "HUP", TCP_EV_HUP }, { "RDHUP",
													   TCP_EV_RDHUP },
		{ "none", 0 },
	};
	uint32_t want = 0, got = tcp_poll(s->tcb) & (TCP_EV_IN | TCP_EV_OUT | TCP_EV_ERR | TCP_EV_HUP | TCP_EV_RDHUP);

	for (; i < p->n_words; i++) {
		unsigned k = 0;

		while (k < 6 && strcmp(bits[k].name, p->word[i]) != 0)
			k++;
		if (k == 6)
			fail(p, "\"%s\"?", p->word[i]);
		else
			want |= bits[k].bit;
	}
	if (want != got)
		fail(p, "poll gives 0x%x, not 0x%x", got, want);
}

void check_count(struct player *p, const char *what, uint32_t want)
{
	uint32_t got = 0, cursor = 0;
	struct tcb *t;

	if (!strcmp(what, "timewaits"))
		got = p->st->timewaits.in_use;
	else if (!strcmp(what, "requests"))
		got = p->st->requests.in_use;
	else
		while ((t = tcp_next(p->st, &cursor)))
			got += tcp_state(t) != TCPS_LISTEN && tcp_state(t) != TCPS_CLOSED;
	if (got != want)
		fail(p, "%u %s, not %u", got, what, want);
}

/* counter NAME N, drop NAME N */
void check_row(struct player *p)
{
	bool drop = !strcmp(p->word[0], "drop");
	const char *const *names = drop ? stack_drop_names : stack_counter_names;
	const uint64_t *row = drop ? stack_drops(p->st) : stack_counters(p->st);
	unsigned n = drop ? DROP_N : CNT_N, i = 0;
	uint32_t want = need_number(p, 2);

	if (p->n_words < 3)
		return;
	while (i < n && strcmp(names[i], p->word[1]) != 0)
		i++;
	if (i == n)
		fail(p, "%s \"%s\"?", p->word[0], p->word[1]);
	else if (row[i] != want)
		fail(p, "%s is %llu, not %u", names[i], (unsigned long long)row[i], want);
}

static void check_info(struct player *p, const struct sock *s, const char *field, uint32_t want)
{
	struct tcp_info_view v;
	uint64_t got = 0;
	bool known = true;

	tcp_info(p->st, s->tcb, &v);
#define F(f) else if (!strcmp(field, #f)) got = v.f
	if (!strcmp(field, "state"))
		got = v.state;
	F(ca_state); F(retransmits); F(probes); F(backoff); F(options); F(snd_wscale); F(rcv_wscale); F(rto_us); F(ato_us);
	F(snd_mss); F(rcv_mss); F(unacked); F(sacked); F(lost); F(retrans); F(pmtu); F(rtt_us); F(snd_ssthresh);
	F(snd_cwnd); F(advmss); F(reordering); F(total_retrans); F(min_rtt_us); F(snd_wnd); F(rcv_wnd); F(bytes_acked);
	F(bytes_received); F(bytes_sent); F(bytes_retrans); F(segs_in); F(segs_out); F(data_segs_in); F(data_segs_out);
	F(notsent_bytes); F(dsack_dups); F(reord_seen); F(rcv_ooopack); F(backlog); F(backlog_max);
#undef F
	else
		known = false;
	if (!known)
		fail(p, "field \"%s\"?", field);
	else if (got != want)
		fail(p, "%s is %llu, not %u", field, (unsigned long long)got, want);
}

bool sysctl_set(struct player *p, const char *name, uint32_t v)
{
	static const struct { const char *name; size_t off; size_t size; } ctl[] = {
#define CTL(f) { #f, offsetof(struct stack_sysctl, f), sizeof(((struct stack_sysctl *)0)->f) }
		CTL(tcp_syn_retries), CTL(tcp_synack_retries), CTL(tcp_retries2), CTL(tcp_orphan_retries), CTL(tcp_fin_timeout_s),
		CTL(tcp_max_syn_backlog), CTL(somaxconn), CTL(tcp_max_orphans), CTL(tcp_max_tw_buckets), CTL(tcp_init_cwnd),
		CTL(tcp_timewait_us), CTL(tcp_sack), CTL(tcp_timestamps), CTL(tcp_window_scaling), CTL(tcp_challenge_ack_limit),
		CTL(tcp_keepalive_time_s), CTL(tcp_keepalive_intvl_s), CTL(tcp_keepalive_probes), CTL(tcp_retries1),
		CTL(tcp_ecn), CTL(tcp_ecn_fallback), CTL(tcp_slow_start_after_idle),
		CTL(ip_default_ttl), CTL(tcp_congestion), CTL(tcp_syncookies), CTL(tcp_mtu_probing), CTL(tcp_fastopen),
		CTL(tcp_rfc1337),
#undef CTL
	};

	for (unsigned i = 0; i < sizeof(ctl) / sizeof(ctl[0]); i++) {
		if (strcmp(ctl[i].name, name) != 0)
			continue;
		if (ctl[i].size == 1)
			*((uint8_t *)&p->ctl + ctl[i].off) = (uint8_t)v;
		else
			memcpy((uint8_t *)&p->ctl + ctl[i].off, &v, 4);
		return true;
	}
	return false;
}

/* Words @i: the call and its arguments. Checks change nothing and return 0. */
static long call(struct player *p, struct sock *s, const char *name, int i)
{
	const char *arg = i < p->n_words ? p->word[i] : "";
	struct endpoint ep = { p->v6 ? (struct ipaddr){ .q = { 0 } } : ipaddr_v4(0), 0 };
	struct tcb *t;
	long r;

	if (!strcmp(name, "socket") || !strcmp(name, "bind") || !strcmp(name, "listen") || !strcmp(name, "connect") ||
	    !strcmp(name, "fastopen"))
		sock_open(p, s);
	if (!s->tcb && strcmp(name, "accept") != 0) {
		fail(p, "socket %s is not open", s->name);
		return 0;
	}
	if (!strcmp(name, "socket"))
		return 0;
	if (!strcmp(name, "bind")) {
		ep.port = (uint16_t)need_number(p, i);
		return tcp_bind(p->st, s->tcb, &ep, p->now);
	}
	if (!strcmp(name, "listen")) {
		uint32_t backlog = 128;

		ep.port = (uint16_t)need_number(p, i);
		if (i + 1 < p->n_words)
			number(p->word[i + 1], &backlog);
		tcp_opts(s->tcb)->reuseaddr = 1;
		r = tcp_bind(p->st, s->tcb, &ep, p->now);
		return r < 0 && r != -EINVAL ? r : tcp_listen(p->st, s->tcb, (int)backlog, p->now);
	}
	if (!strcmp(name, "connect") || !strcmp(name, "fastopen")) {
		uint32_t port = 80;

		number(arg, &port);
		p->peer_port = (uint16_t)port;
		ep = (struct endpoint){ station(p, 2), (uint16_t)port };
		return *name == 'f' ? tcp_connect_data(p->st, s->tcb, &ep, p->now) : tcp_connect(p->st, s->tcb, &ep, p->now);
	}
	if (!strcmp(name, "accept")) {
		struct sock *l = sock_named(p, "l"), *c = *arg && *arg != '=' ? sock_named(p, arg) : s;

		r = tcp_accept(p->st, l->tcb, &t);
		if (r == 0) {
			*c = (struct sock){ .tcb = t };
			snprintf(c->name, sizeof(c->name), "%s", *arg && *arg != '=' ? arg : "c");
			tcp_set_user(t, 1);
		}
		return r;
	}
	if (!strcmp(name, "write"))
		return do_write(p, s, need_number(p, i), i + 1 < p->n_words && !strcmp(p->word[i + 1], "more"));
	if (!strcmp(name, "read"))
		return do_read(p, s, need_number(p, i));
	if (!strcmp(name, "peek"))
		return do_peek(p, s, need_number(p, i));
	if (!strcmp(name, "disconnect"))
		return tcp_disconnect(p->st, s->tcb, p->now);
	if (!strcmp(name, "readable"))
		return (long)tcp_readable_bytes(s->tcb);
	if (!strcmp(name, "waiting"))
		return (long)tcp_unacked_bytes(s->tcb);
	if (!strcmp(name, "close")) {
		t = s->tcb;
		s->tcb = NULL;
		tcp_close(p->st, t, p->now);
		return 0;
	}
	if (!strcmp(name, "shutdown"))
		return tcp_shutdown(p->st, s->tcb, !strcmp(arg, "rd") ? 0 : !strcmp(arg, "wr") ? 1 : 2, p->now);
	if (!strcmp(name, "set"))
		return do_set(p, s, arg, need_number(p, i + 1));
	if (!strcmp(name, "state"))
		check_state(p, s, arg);
	else if (!strcmp(name, "poll"))
		check_poll(p, s, i);
	else if (!strcmp(name, "info"))
		check_info(p, s, arg, need_number(p, i + 1));
	else if (!strcmp(name, "error"))
		return -tcp_error_take(s->tcb);
	else
		fail(p, "\"%s\"?", name);
	return 0;
}

void call_line(struct player *p)
{
	const char *name = p->word[0], *want = NULL;
	size_t n = strlen(name);
	struct sock *s;
	long r, expected = 0;
	int i = 1;
	char buf[32];

	if (name[n - 1] == ':') {
		char who[16];

		snprintf(who, sizeof(who), "%.*s", (int)n - 1, name);
		s = sock_named(p, who);
		name = p->word[i++];
	} else {
		s = sock_named(p, !strcmp(name, "listen") ? "l" : "c");
	}
	if (p->n_words >= 3 && !strcmp(p->word[p->n_words - 2], "=")) {
		want = p->word[p->n_words - 1];
		p->n_words -= 2;
	}
	r = call(p, s, name, i);
	drain(p);
	if (want) {
		uint32_t v;

		if (strcmp(want, result_name(r, buf)) != 0 && !(number(want, &v) && (long)v == r))
			fail(p, "%s gives %s, not %s", name, result_name(r, buf), want);
		return;
	}
	if (!strcmp(name, "write") || !strcmp(name, "read") || !strcmp(name, "peek"))
		expected = (long)need_number(p, i);
	if (!strcmp(name, "connect"))
		expected = -EINPROGRESS;
	if (r != expected)
		fail(p, "%s gives %s", name, result_name(r, buf));
}
