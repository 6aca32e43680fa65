/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ss.c - the private sockets of a host, in the format of ss -tinopm
 *
 * Everything is read from the arena without a lock, mapped read-only: a row may be torn between two moments. Which process
 * holds a socket is found by walking the descriptor tables once, into a table by file; so the cost is that of all
 * descriptors, once, and nobody is stopped for it.
 */
#include <arpa/inet.h>
#include <getopt.h>
#include <stdlib.h>
#include "cli.h"
#include "../host/slot.h"

struct users { /* who has a file: text as ss prints it */
	char *text;
	size_t len;
};

struct view {
	bool all, listening, info, processes, options, memory, numeric, extended;
	struct users *users;	/* by index of file */
	uint32_t n_users;
	usec_t now;
};

static void user_add(struct view *v, uint64_t handle, const struct slot *s, int fd)
{
	uint32_t i = (uint32_t)handle;
	struct users *u;
	char one[64], *more;
	int n = snprintf(one, sizeof(one), "(\"%.15s\",pid=%d,fd=%d)", s->comm, atomic_load(&s->pid), fd);

	if (i >= v->n_users) {
		uint32_t want = (i | 1023) + 1;

		u = realloc(v->users, want * sizeof(*u));
		if (!u)
			return;
		memset(u + v->n_users, 0, (want - v->n_users) * sizeof(*u));
		v->users = u;
		v->n_users = want;
	}
	u = &v->users[i];
	more = realloc(u->text, u->len + (size_t)n + 2);
	if (!more)
		return;
	u->text = more;
	u->len += (size_t)sprintf(more + u->len, "%s%s", u->len ? "," : "", one);
}

static void users_collect(struct view *v)
{
	uint32_t top = atomic_load(&host->slot_top);

	for (uint32_t i = SLOT_KEEPER; i < top; i++) {
		const struct slot *s = &host->slot[i];

		if (atomic_load(&s->state) == SLOT_FREE)
			continue;
		for (int fd = fdtab_next(i, 0); fd >= 0; fd = fdtab_next(i, fd + 1)) {
			const struct fdchunk *c = atomic_load(&s->chunk[(unsigned)fd / FD_CHUNK]);

			if (c)
				user_add(v, atomic_load(&c->ent[(unsigned)fd % FD_CHUNK].file), s, fd);
		}
	}
}

static void endpoint_text(const struct endpoint *ep, bool any, char *buf, size_t bytes)
{
	char host_text[INET6_ADDRSTRLEN + 2];

	if (ipaddr_is_v4(ep->addr) || ipaddr_is_any(ep->addr))
		inet_ntop(AF_INET, &ep->addr.w[3], host_text, sizeof(host_text));
	else
		inet_ntop(AF_INET6, ep->addr.b, host_text, sizeof(host_text));
	if (any)
		snprintf(buf, bytes, "%s:*", host_text);
	else
		snprintf(buf, bytes, "%s:%u", host_text, ep->port);
}

/* As ss(8): minutes, or seconds and milliseconds while there are few */
static void print_time(uint64_t us)
{
	unsigned ms = (unsigned)(us / 1000), s = ms / 1000, min = s / 60;

	if (min)
		printf("%umin", min);
	s = min > 9 ? 0 : s % 60;
	ms = min || s > 9 ? 0 : ms % 1000;
	if (s)
		printf("%u%s", s, ms ? "." : "sec");
	if (ms)
		printf(s ? "%03ums" : "%ums", ms);
	if (!min && !s && !ms)
		putchar('0');
}

static void print_timer(uint8_t timer, uint64_t at, unsigned n, usec_t now)
{
	static const char *const names[] = { "off", "on", "keepalive", "timewait", "persist" };

	if (timer == TCP_TIMER_NONE || timer > TCP_TIMER_PERSIST)
		return;
	printf(" timer:(%s,", names[timer]);
	print_time(at > now ? at - now : 0);
	printf(",%u)", n);
}

static void print_rate(const char *name, uint64_t octets)
{
	printf(" %s %.0fbps", name, (double)octets * 8);
}

static void print_share(const char *name, uint64_t us, uint64_t of_us)
{
	if (us)
		printf(" %s:%llums(%.1f%%)", name, (unsigned long long)us / 1000, of_us ? 100.0 * (double)us / (double)of_us : 0);
}

static void print_ago(const char *name, uint64_t at, usec_t now)
{
	if (at && at <= now)
		printf(" %s:%llu", name, (unsigned long long)(now - at) / 1000);
}

static void print_nonzero(const char *name, uint64_t n)
{
	if (n)
		printf(" %s:%llu", name, (unsigned long long)n);
}

static void print_path(const struct tcp_info_view *ti)
{
	static const char *const options[] = { "ts", "sack", NULL, "ecn", NULL, "fastopen" };

	for (unsigned i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		if (options[i] && ti->options & 1u << i)
			printf(" %s", options[i]);
	printf(" %s", ti->cc);
	if (ti->options & 4)
		printf(" wscale:%u,%u", ti->snd_wscale, ti->rcv_wscale);
	printf(" rto:%g", ti->rto_us / 1000.0);
	print_nonzero("backoff", ti->backoff);
	if (ti->rtt_us)
		printf(" rtt:%g/%g", ti->rtt_us / 1000.0, ti->rttvar_us / 1000.0);
	printf(" ato:%g mss:%u pmtu:%u rcvmss:%u advmss:%u cwnd:%u", ti->ato_us / 1000.0, ti->snd_mss, ti->pmtu, ti->rcv_mss, ti->advmss,
	       ti->snd_cwnd);
	if (ti->snd_ssthresh < 0x7fffffff)
		printf(" ssthresh:%u", ti->snd_ssthresh);
}

static void print_info(const struct tcp_info_view *ti, usec_t now)
{
	print_path(ti);
	print_nonzero("bytes_sent", ti->bytes_sent);
	print_nonzero("bytes_retrans", ti->bytes_retrans);
	print_nonzero("bytes_acked", ti->bytes_acked);
	print_nonzero("bytes_received", ti->bytes_received);
	print_nonzero("segs_out", ti->segs_out);
	print_nonzero("segs_in", ti->segs_in);
	print_nonzero("data_segs_out", ti->data_segs_out);
	print_nonzero("data_segs_in", ti->data_segs_in);
	if (ti->rtt_us)
		print_rate("send", (uint64_t)ti->snd_cwnd * ti->snd_mss * 1000000 / ti->rtt_us);
	print_ago("lastsnd", ti->last_data_sent, now);
	print_ago("lastrcv", ti->last_data_recv, now);
	print_ago("lastack", ti->last_ack_recv, now);
	if (ti->pacing_rate != UINT64_MAX)
		print_rate("pacing_rate", ti->pacing_rate);
	if (ti->max_pacing_rate != UINT64_MAX)
		printf("/%.0fbps", (double)ti->max_pacing_rate * 8);
	if (ti->delivery_rate)
		print_rate("delivery_rate", ti->delivery_rate);
	print_nonzero("delivered", ti->delivered);
	printf("%s", ti->delivery_rate_app_limited ? " app_limited" : "");
	if (ti->busy_us)
		printf(" busy:%llums", (unsigned long long)ti->busy_us / 1000);
	print_share("rwnd_limited", ti->rwnd_limited_us, ti->busy_us);
	print_share("sndbuf_limited", ti->sndbuf_limited_us, ti->busy_us);
	print_nonzero("unacked", ti->unacked);
	if (ti->retrans || ti->total_retrans)
		printf(" retrans:%u/%u", ti->retrans, ti->total_retrans);
	print_nonzero("lost", ti->lost);
	print_nonzero("sacked", ti->sacked);
	print_nonzero("dsack_dups", ti->dsack_dups);
	if (ti->reordering != 3)
		printf(" reordering:%u", ti->reordering);
	print_nonzero("reord_seen", ti->reord_seen);
	if (ti->rcv_rtt_us)
		printf(" rcv_rtt:%g", ti->rcv_rtt_us / 1000.0);
	print_nonzero("rcv_space", ti->rcv_space);
	print_nonzero("rcv_ssthresh", ti->rcv_ssthresh);
	print_nonzero("notsent", ti->notsent_bytes);
	if (ti->min_rtt_us != UINT32_MAX)
		printf(" minrtt:%g", ti->min_rtt_us / 1000.0);
	print_nonzero("rcv_ooopack", ti->rcv_ooopack);
	print_nonzero("snd_wnd", ti->snd_wnd);
	print_nonzero("rcv_wnd", ti->rcv_wnd);
	putchar('\n');
}

/* r: held by what was received, t: handed to a device, w: held by what is to be sent; o, bl, d are always 0 here */
static void print_memory(struct tcb *tcb, const struct tcp_info_view *ti)
{
	const struct tcp_opts *o = tcp_opts(tcb);

	printf("\t skmem:(r%u,rb%u,t0,tb%u,f0,w%u,o0,bl0,d0)", ti->rcv_mem_bytes, o->rcvbuf_bytes, o->sndbuf_bytes, ti->snd_mem_bytes);
}

static bool shown(const struct view *v, enum tcp_state s)
{
	if (v->all)
		return true;
	if (v->listening)
		return s == TCPS_LISTEN;
	return s != TCPS_LISTEN && s != TCPS_CLOSED && s != TCPS_TIME_WAIT && s != TCPS_SYN_RECEIVED;
}

static void print_tcb(struct view *v, struct tcb *tcb)
{
	enum tcp_state state = tcp_state(tcb);
	struct endpoint local, peer = { 0 };
	char l[80], p[80];
	struct tcp_info_view ti;
	uint32_t file = (uint32_t)tcp_user(tcb);
	bool no_peer;

	if (!shown(v, state))
		return;
	tcp_info(host->shard.stack, tcb, &ti);
	tcp_info_times(tcb, v->now, &ti);
	tcp_local(tcb, &local);
	no_peer = tcp_peer(tcb, &peer) != 0;
	if (no_peer)
		peer = (struct endpoint){ .addr = tcp_family(tcb) == 6 ? (struct ipaddr){ .q = { 0, 0 } } : ipaddr_v4(0) };
	endpoint_text(&local, false, l, sizeof(l));
	endpoint_text(&peer, no_peer, p, sizeof(p));
	printf("%-10s %-6llu %-6llu %22s %22s", tcp_state_name(state),
	       (unsigned long long)(state == TCPS_LISTEN ? ti.backlog : tcp_readable_bytes(tcb)),
	       (unsigned long long)(state == TCPS_LISTEN ? ti.backlog_max : tcp_unacked_bytes(tcb)), l, p);
	if (v->processes && file && file < v->n_users && v->users[file].text)
		printf(" users:(%s)", v->users[file].text);
	if (v->options)
		print_timer(ti.timer, ti.timer_at, ti.timer == TCP_TIMER_ON ? ti.retransmits : ti.probes, v->now);
	if (v->extended)
		printf(" uid:%u", tcp_opts(tcb)->uid);
	putchar('\n');
	if (v->memory)
		print_memory(tcb, &ti);
	else if (v->info && state != TCPS_LISTEN && state != TCPS_TIME_WAIT)
		putchar('\t');
	if (v->info && state != TCPS_LISTEN && state != TCPS_TIME_WAIT)
		print_info(&ti, v->now);
	else if (v->memory)
		putchar('\n');
}

/* What no process holds: half open, or in TIME_WAIT */
static void print_mini(const struct view *v, const struct tcp_mini_view *m)
{
	bool tw = m->state == TCPS_TIME_WAIT;
	char l[80], p[80];

	if (!shown(v, m->state))
		return;
	endpoint_text(&m->local, false, l, sizeof(l));
	endpoint_text(&m->peer, false, p, sizeof(p));
	printf("%-10s %-6d %-6d %22s %22s", tcp_state_name(m->state), 0, 0, l, p);
	if (v->options)
		print_timer(tw ? TCP_TIMER_TIMEWAIT : TCP_TIMER_ON, m->timer_at, m->timeouts, v->now);
	putchar('\n');
}

static void print_all(struct view *v)
{
	uint64_t mini_cursor = 0;
	struct tcp_mini_view mini;
	uint32_t cursor = 0;
	struct tcb *tcb;

	if (v->processes)
		users_collect(v);
	v->now = io_now();
	printf("%-10s %-6s %-6s %22s %22s%s\n", "State", "Recv-Q", "Send-Q", "Local Address:Port", "Peer Address:Port",
	       v->processes ? " Process" : "");
	while ((tcb = tcp_next(host->shard.stack, &cursor)))
		print_tcb(v, tcb);
	while (tcp_mini_next(host->shard.stack, &mini_cursor, &mini))
		print_mini(v, &mini);
	for (uint32_t i = 0; i < v->n_users; i++)
		free(v->users[i].text);
	free(v->users);
}

static int option(struct view *v, struct config *cfg, int c, const char *arg, const char *shown_as)
{
	char err[CONFIG_ERR_BYTES];

	switch (c) {
	case 'a': v->all = true; return 0;
	case 'l': v->listening = true; return 0;
	case 'i': v->info = true; return 0;
	case 'p': v->processes = true; return 0;
	case 'o': v->options = true; return 0;
	case 'm': v->memory = true; return 0;
	case 'e': v->extended = true; return 0;
	case 't': case 'n': return 0; /* all of them are TCP, and numeric */
	case 'h':
		if (!config_set(cfg, config_find("host"), arg, "host", err, sizeof(err)))
			return 0;
		break;
	default:
		snprintf(err, sizeof(err), "%.100s: not an option of ss; see `ownstack help`", shown_as);
	}
	cli_error(err);
	return EXIT_USAGE;
}

int cli_ss(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "host", required_argument, NULL, 'h' }, { "all", no_argument, NULL, 'a' }, { "listening", no_argument, NULL, 'l' },
		{ "info", no_argument, NULL, 'i' }, { "processes", no_argument, NULL, 'p' }, { "options", no_argument, NULL, 'o' },
		{ "memory", no_argument, NULL, 'm' }, { "extended", no_argument, NULL, 'e' }, { "tcp", no_argument, NULL, 't' },
		{ "numeric", no_argument, NULL, 'n' }, { 0 },
	};
	struct view v = { 0 };
	struct warden_reply r;
	struct config cfg;
	char err[CONFIG_ERR_BYTES];
	int c, rc = cli_config(&cfg);

	opterr = 0;
	while (!rc && (c = getopt_long(argc, argv, ":alipometn", longs, NULL)) != -1)
		rc = option(&v, &cfg, c, optarg, argv[optind - 1]);
	if (!rc)
		rc = cli_attach(&cfg, &r);
	if (rc < 0) {
		snprintf(err, sizeof(err), "host=%s: nobody has joined yet, it has no sockets", cfg.host);
		cli_error(err);
		return EXIT_DONE;
	}
	if (!rc)
		print_all(&v);
	return rc;
}
