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

static void print_info(const struct tcp_info_view *ti, usec_t now)
{
	printf("\t %s", ti->cc);
	if (ti->options & 1)
		printf(" ts");
	if (ti->options & 2)
		printf(" sack");
	if (ti->options & 4)
		printf(" wscale:%u,%u", ti->snd_wscale, ti->rcv_wscale);
	printf(" rto:%g", ti->rto_us / 1000.0);
	if (ti->backoff)
		printf(" backoff:%u", ti->backoff);
	if (ti->rtt_us)
		printf(" rtt:%g/%g", ti->rtt_us / 1000.0, ti->rttvar_us / 1000.0);
	printf(" ato:%g mss:%u pmtu:%u rcvmss:%u advmss:%u cwnd:%u", ti->ato_us / 1000.0, ti->snd_mss, ti->pmtu, ti->rcv_mss, ti->advmss,
	       ti->snd_cwnd);
	if (ti->snd_ssthresh < 0x7fffffff)
		printf(" ssthresh:%u", ti->snd_ssthresh);
	printf(" bytes_sent:%llu", (unsigned long long)ti->bytes_sent);
	if (ti->bytes_retrans)
		printf(" bytes_retrans:%llu", (unsigned long long)ti->bytes_retrans);
	printf(" bytes_acked:%llu bytes_received:%llu segs_out:%llu segs_in:%llu data_segs_out:%llu data_segs_in:%llu",
	       (unsigned long long)ti->bytes_acked, (unsigned long long)ti->bytes_received, (unsigned long long)ti->segs_out,
	       (unsigned long long)ti->segs_in, (unsigned long long)ti->data_segs_out, (unsigned long long)ti->data_segs_in);
	if (ti->rtt_us)
		printf(" send %.0fbps", (double)ti->snd_cwnd * ti->snd_mss * 8e6 / ti->rtt_us);
	if (ti->last_data_sent && ti->last_data_sent <= now)
		printf(" lastsnd:%llu", (unsigned long long)(now - ti->last_data_sent) / 1000);
	if (ti->last_data_recv && ti->last_data_recv <= now)
		printf(" lastrcv:%llu", (unsigned long long)(now - ti->last_data_recv) / 1000);
	if (ti->last_ack_recv && ti->last_ack_recv <= now)
		printf(" lastack:%llu", (unsigned long long)(now - ti->last_ack_recv) / 1000);
	if (ti->unacked)
		printf(" unacked:%u", ti->unacked);
	if (ti->retrans || ti->total_retrans)
		printf(" retrans:%u/%u", ti->retrans, ti->total_retrans);
	if (ti->lost)
		printf(" lost:%u", ti->lost);
	if (ti->sacked)
		printf(" sacked:%u", ti->sacked);
	if (ti->dsack_dups)
		printf(" dsack_dups:%u", ti->dsack_dups);
	if (ti->reordering != 3)
		printf(" reordering:%u", ti->reordering);
	if (ti->rcv_ooopack)
		printf(" rcv_ooopack:%u", ti->rcv_ooopack);
	printf(" rcv_space:%u rcv_ssthresh:%u", ti->rcv_space, ti->rcv_ssthresh);
	if (ti->notsent_bytes)
		printf(" notsent:%u", ti->notsent_bytes);
	if (ti->min_rtt_us && ti->min_rtt_us != UINT32_MAX)
		printf(" minrtt:%g", ti->min_rtt_us / 1000.0);
	printf(" snd_wnd:%u rcv_wnd:%u\n", ti->snd_wnd, ti->rcv_wnd);
}

static void print_memory(struct tcb *tcb)
{
	printf("\t skmem:(r%zu,rb%u,t%zu,tb%u)", tcp_readable_bytes(tcb), tcp_rcvbuf(tcb), tcp_unacked_bytes(tcb), tcp_sndbuf(tcb));
}

static void print_options(struct tcb *tcb, const struct tcp_info_view *ti)
{
	const struct tcp_opts *o = tcp_opts(tcb);

	if (ti->unacked)
		printf(" timer:(on,%ums,%u)", ti->rto_us / 1000, ti->retransmits);
	else if (o->keepalive)
		printf(" timer:(keepalive,%usec,%u)", o->keepidle_s, ti->probes);
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
		print_options(tcb, &ti);
	if (v->extended)
		printf(" uid:%u", tcp_opts(tcb)->uid);
	putchar('\n');
	if (v->memory)
		print_memory(tcb);
	if (v->info && state != TCPS_LISTEN && state != TCPS_TIME_WAIT)
		print_info(&ti, v->now);
	else if (v->memory)
		putchar('\n');
}

static void print_all(struct view *v)
{
	uint32_t cursor = 0;
	struct tcb *tcb;

	if (v->processes)
		users_collect(v);
	v->now = io_now();
	printf("%-10s %-6s %-6s %22s %22s%s\n", "State", "Recv-Q", "Send-Q", "Local Address:Port", "Peer Address:Port",
	       v->processes ? " Process" : "");
	while ((tcb = tcp_next(host->shard.stack, &cursor)))
		print_tcb(v, tcb);
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
