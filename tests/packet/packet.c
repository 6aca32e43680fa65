/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * packet.c - plays scripts: packets against socket calls, in virtual time
 *
 *   packet FILE.pkt...      plays each; packet -v FILE.pkt shows every frame; packet -6 over IPv6, with an MTU so
 *                          much larger that segments are as large as IPv4's
 *
 * A script is one claim. Each line is "[+TIME] ACTION", '#' begins a comment. +TIME (us, ms, s) moves the clock on
 * since the line before; timers on the way fire. Lines:
 *
 *   < FLAGS SEQ[+LEN] [ack N] [win N] [mss N] [wscale N] [sackok] [ts VAL [ECR]] [sack A-B ...] [peer PORT]
 *                          the peer sends. FLAGS as tcpdump prints them: S S. . P. F. R R. (. is ACK), E and W for
 *                          ECE and CWR
 *   > the same             we have sent exactly this by now (2 ms of grace); what is not written is not looked at.
 *                          PSH likewise
 *   silence                we have sent nothing
 *   < icmp TYPE CODE seq N [mtu N]     an error about a segment of ours
 *   < nd na|ns|claim       neighbour discovery: the peer's answer, its question about us, its claim to our address
 *   > nd na|ns
 *   < arp reply|who-has|claim          the peer's answer, its question about us, its claim to our address
 *   > arp reply|who-has|announce       ours
 *   [NAME:] CALL [= RESULT]    a socket call; RESULT a number or an errno's name, else success. NAME: which socket,
 *                          see below
 *
 * Words for the peer's segments only: opt HEX (octets of options as they are, padded with zeros), off N (data offset, in
 * words), gso N (a super-frame of segments of N octets), badsum (wrong checksum), short N (the IP packet ends N octets
 * early). For both: urg N (urgent pointer), tos N, tfo [HEX] (the Fast Open option: with a cookie of these octets; without
 * one, "any cookie" of ours, the one we gave last of the peer's; tfo - is a request without a cookie).
 *
 * Every frame we send must be met by a ">" line before the next packet, call or end. Sequence numbers are relative to
 * the initial ones of each side (the SYN has 0). Octets of payload are a function of their number and checked.
 *
 * Calls: socket; bind PORT; listen PORT [BACKLOG] (socket l); connect [PORT] (socket c); fastopen [PORT] (connect with data
 * to follow); accept [NAME] (from l, to c
 * unless named); write N [more]; read N (result: octets; 0 at the end); close; shutdown rd|wr|rdwr; set OPTION VALUE;
 * state NAME; poll BIT...; error NAME; sockets N (connections in being); timewaits N; requests N; sysctl NAME VALUE
 * (first lines only); ipv4, ipv6 (first line: this script is about it alone; MTU 1,500); no_neighbour (first lines only: the peer's station must be asked for); peer_iss N; forget (the
 * next SYN of ours has a new initial number); counter NAME N and drop NAME N (rows of counters.def and drops.def);
 * info FIELD N (tcp_info(), times in us); disconnect; peek N; readable N; waiting N
 */
#include <stdarg.h>
#include "../unit/region.h"
#include "player.h"

/* 10.0.0.N, or 2001:db8::N */
struct ipaddr station(const struct player *p, uint8_t n)
{
	return p->v6 ? (struct ipaddr){ .b = { 0x20, 1, 0xd, 0xb8, [15] = n } } : ipaddr_v4(__builtin_bswap32(0x0a000000u + n));
}

uint32_t ip_hdr_bytes(const struct player *p)
{
	return p->v6 ? IP6_HDR_BYTES : 20;
}

void fail(struct player *p, const char *fmt, ...)
{
	va_list ap;

	if (p->failed)
		return;
	p->failed = true;
	printf("%s:%d: at %.3f ms: ", p->file, p->line, (double)(p->now - p->start) / 1000);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

uint8_t pattern(uint32_t n) /* of the octet with relative number n */
{
	return (uint8_t)(n * 167 + (n >> 8) * 13);
}

/* ---- words ---- */

bool number(const char *w, uint32_t *ret)
{
	char *end;
	unsigned long long v = strtoull(w, &end, 0);

	if (end == w || *end)
		return false;
	*ret = (uint32_t)v;
	return true;
}

uint32_t need_number(struct player *p, int i)
{
	uint32_t v = 0;

	if (i >= p->n_words || !number(p->word[i], &v))
		fail(p, "a number is missing after \"%s\"", p->word[i - 1]);
	return v;
}

/* ---- lines ---- */

static bool time_read(const char *w, usec_t *ret)
{
	char *unit;
	double v = strtod(w + 1, &unit);
	double scale = !strcmp(unit, "us") ? 1 : !strcmp(unit, "ms") ? 1e3 : !strcmp(unit, "s") ? 1e6 : 0;

	*ret = (usec_t)(v * scale + 0.5);
	return scale > 0;
}

/* What a host says when it comes to a link is over when the script begins (tests/unit/test_nd.c is about it) */
static void ip6_begin(struct player *p)
{
	struct stack_ip6 cfg = { 0 };
	struct pbuf *f;

	if (stack_ip6_start(p->st, &cfg, p->now - SEC(10)) < 0)
		abort();
	while (stack_deadline(p->st) <= p->now)
		stack_expire(p->st, stack_deadline(p->st));
	while ((f = stack_output(p->st, p->now)))
		stack_tx_done(p->st, f);
}

static void stack_begin(struct player *p)
{
	struct stack_config cfg = { .region = region_new(256 << 20), .seed = { 11, 12, 13, 14 }, .ctl = p->ctl };

	memcpy(cfg.dev.mac, our_mac, 6);
	cfg.dev.mtu_bytes = p->mtu;
	cfg.dev.gso_max_bytes = 65535;
	p->st = stack_init(&cfg, p->v6 ? p->now - SEC(10) : p->now);
	if (!p->st)
		abort();
	if (p->v6)
		ip6_begin(p);
	if (stack_addr_add(p->st, station(p, 1), p->v6 ? 64 : 24) < 0)
		abort();
	if (!p->no_neighbour && stack_neigh_add(p->st, station(p, 2), peer_mac) < 0)
		abort();
}

static void play_words(struct player *p)
{
	usec_t dt = 0;

	if (p->word[0][0] == '+') {
		if (!time_read(p->word[0], &dt))
			fail(p, "time \"%s\"?", p->word[0]);
		memmove(p->word, p->word + 1, (size_t)--p->n_words * sizeof(p->word[0]));
		if (!p->n_words)
			fail(p, "nothing behind the time");
	}
	if (p->failed)
		return;
	if (!p->st) {
		if (!strcmp(p->word[0], "ipv4")) {
			p->left_out = p->v6;
			return;
		}
		if (!strcmp(p->word[0], "ipv6")) {
			p->v6 = true;
			p->mtu = 1500;
			return;
		}
		if (!strcmp(p->word[0], "no_neighbour")) {
			p->no_neighbour = true;
			return;
		}
		if (!strcmp(p->word[0], "sysctl")) {
			if (p->n_words != 3 || !sysctl_set(p, p->word[1], need_number(p, 2)))
				fail(p, "sysctl?");
			return;
		}
		stack_begin(p);
	}
	if (strcmp(p->word[0], ">") != 0)
		nothing_left(p);
	p->mark += dt;
	advance(p, p->mark);
	if (!strcmp(p->word[0], ">")) {
		we_sent(p);
		return;
	}
	nothing_left(p);
	if (!strcmp(p->word[0], "<") && p->n_words > 1 && !strcmp(p->word[1], "icmp"))
		peer_sends_icmp(p);
	else if (!strcmp(p->word[0], "<") && p->n_words > 1 && !strcmp(p->word[1], "arp"))
		peer_sends_arp(p);
	else if (!strcmp(p->word[0], "<") && p->n_words > 1 && !strcmp(p->word[1], "nd"))
		peer_sends_nd(p);
	else if (!strcmp(p->word[0], "<"))
		peer_sends(p);
	else if (!strcmp(p->word[0], "peer_iss"))
		p->peer_iss = need_number(p, 1);
	else if (!strcmp(p->word[0], "forget"))
		peer_of(p, p->peer_port)->iss_known = false;
	else if (!strcmp(p->word[0], "sockets") || !strcmp(p->word[0], "timewaits") || !strcmp(p->word[0], "requests"))
		check_count(p, p->word[0], need_number(p, 1));
	else if (!strcmp(p->word[0], "counter") || !strcmp(p->word[0], "drop"))
		check_row(p);
	else if (strcmp(p->word[0], "silence") != 0)
		call_line(p);
}

static void play_line(struct player *p, char *line)
{
	char *save, *comment = strchr(line, '#');

	if (comment)
		*comment = 0;
	p->n_words = 0;
	for (char *w = strtok_r(line, " \t\n", &save); w && p->n_words < WORDS_MAX; w = strtok_r(NULL, " \t\n", &save))
		p->word[p->n_words++] = w;
	if (p->n_words)
		play_words(p);
}

static bool play(const char *file, bool verbose, bool v6)
{
	static struct player p;
	char line[1024];
	FILE *f = fopen(file, "r");

	if (!f) {
		perror(file);
		return false;
	}
	p = (struct player){ .file = file, .verbose = verbose, .v6 = v6, .mtu = v6 ? 1520 : 1500, .now = SEC(1000), .start = SEC(1000), .mark = SEC(1000),
			     .peer_port = 5000, .peer_iss = 1000000000 };
	stack_sysctl_default(&p.ctl);
	while (!p.failed && !p.left_out && fgets(line, sizeof(line), f)) {
		p.line++;
		play_line(&p, line);
	}
	fclose(f);
	if (!p.st && !p.left_out)
		fail(&p, "the script does nothing");
	else if (p.st)
		nothing_left(&p);
	if (p.st)
		munmap(p.st->region->base, p.st->region->bytes);
	printf("%-60s %s\n", file, p.failed ? "FAILED" : "ok");
	return !p.failed;
}

int main(int argc, char **argv)
{
	bool verbose = false, v6 = false, ok = true;
	int played = 0;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "-v")) {
			verbose = true;
			continue;
		}
		if (!strcmp(argv[i], "-6")) {
			v6 = true;
			continue;
		}
		ok &= play(argv[i], verbose, v6);
		played++;
	}
	if (!played)
		fprintf(stderr, "packet [-v] [-6] FILE.pkt...\n");
	return ok && played ? 0 : 1;
}

