/* SPDX-License-Identifier: BSD-2-Clause */
/* stats.c - named counters of a host, as nstat prints them, as JSON, or as Prometheus reads them */
#include <getopt.h>
#include "cli.h"

enum format { FORMAT_NSTAT, FORMAT_JSON, FORMAT_PROMETHEUS };
struct out {
	enum format format;
	bool any;
};

static void number(struct out *o, const char *name, const char *help, bool gauge, uint64_t value)
{
	unsigned long long v = value;

	switch (o->format) {
	case FORMAT_NSTAT:
		printf("%-32s%-18llu\n", name, v);
		break;
	case FORMAT_JSON:
		printf("%s\n    \"%s\": %llu", o->any ? "," : "", name, v);
		break;
	case FORMAT_PROMETHEUS:
		printf("# HELP ownstack_%s %s\n# TYPE ownstack_%s %s\nownstack_%s{host=\"%.31s\"} %llu\n", name, help, name,
		       gauge ? "gauge" : "counter", name, host->name, v);
		break;
	}
	o->any = true;
}

static void gauge(struct out *o, const char *name, const char *help, uint64_t value)
{
	number(o, name, help, true, value);
}

/* As Linux counts it: ESTABLISHED and CLOSE_WAIT */
static uint32_t established(void)
{
	uint32_t cursor = 0, n = 0;
	struct tcb *t;

	while ((t = tcp_next(host->shard.stack, &cursor)))
		n += tcp_state(t) == TCPS_ESTABLISHED || tcp_state(t) == TCPS_CLOSE_WAIT;
	return n;
}

/* What the host itself can say: processes, objects, memory, pace */
static void host_numbers(struct out *o)
{
	struct stack_usage u;

	gauge(o, "TcpCurrEstab", "connections established, or closed by the peer alone", established());
	gauge(o, "HostProcesses", "processes that joined, the keeper among them", atomic_load(&host->n_live));
	gauge(o, "HostFiles", "open file descriptions", host->files.in_use);
	gauge(o, "HostEpolls", "epoll instances", host->epolls.in_use);
	gauge(o, "HostWatches", "members of epoll instances, and waits", host->watches.in_use);
	gauge(o, "HostThreads", "threads that have used the host", host->waiters.in_use);
	gauge(o, "HostTables", "pieces of descriptor tables", host->fdchunks.in_use);
	gauge(o, "HostPassports", "sockets on their way to another process", host->passports.in_use);
	gauge(o, "HostArenaBytes", "address space of the shared memory", host->arena_bytes);
	gauge(o, "HostArenaUsedBytes", "what of it was ever used", host->region.used);
	number(o, "HostCalls", "calls into the library", false, atomic_load(&host->queue.activity));
	gauge(o, "KeeperPace", "0 asleep, 1 slow, 2 ticking", atomic_load(&host->keeper.pace));
	gauge(o, "KeeperPid", "the keeper process", atomic_load(&host->keeper.pid));
	gauge(o, "StackLive", "connections and requests that need time or input", stack_live(host->shard.stack));
	stack_usage(host->shard.stack, &u);
	gauge(o, "StackSockets", "connections and listeners", u.tcbs);
	gauge(o, "StackRequests", "connections half open", u.requests);
	gauge(o, "StackTimeWaits", "connections in TIME_WAIT", u.timewaits);
	gauge(o, "StackFrames", "frames on their way out", u.frames);
	gauge(o, "StackCells", "pieces of payload memory in use", u.cells);
}

static void print_all(enum format format)
{
	const uint64_t *c = stack_counters(host->shard.stack);
	struct out o = { .format = format };

	if (format == FORMAT_JSON)
		printf("{\n  \"host\": \"%.31s\",\n  \"device\": \"%.15s\",\n  \"counters\": {", host->name, host->ifname);
	else if (format == FORMAT_NSTAT)
		puts("#ownstack");
	for (int i = 0; i < CNT_N; i++)
		number(&o, stack_counter_names[i], stack_counter_texts[i], false, c[i]);
	host_numbers(&o);
	if (format == FORMAT_JSON)
		puts("\n  }\n}");
}

int cli_stats(int argc, char **argv)
{
	static const struct option longs[] = { { "host", required_argument, NULL, 'h' }, { "json", no_argument, NULL, 'j' },
					       { "prometheus", no_argument, NULL, 'P' }, { 0 } };
	char err[CONFIG_ERR_BYTES];
	struct warden_reply r;
	struct config cfg;
	enum format format = FORMAT_NSTAT;
	int c, rc = cli_config(&cfg);

	opterr = 0;
	while (!rc && (c = getopt_long(argc, argv, ":j", longs, NULL)) != -1) {
		if (c == 'j') {
			format = FORMAT_JSON;
		} else if (c == 'P') {
			format = FORMAT_PROMETHEUS;
		} else if (c != 'h') {
			snprintf(err, sizeof(err), "%.100s: not an option of stats; see `ownstack help`", argv[optind - 1]);
			cli_error(err);
			return EXIT_USAGE;
		} else if (config_set(&cfg, config_find("host"), optarg, "host", err, sizeof(err))) {
			cli_error(err);
			return EXIT_USAGE;
		}
	}
	if (!rc)
		rc = cli_attach(&cfg, &r);
	if (rc < 0) {
		snprintf(err, sizeof(err), "host=%s: nobody has joined yet, there is nothing to count", cfg.host);
		cli_error(err);
		return EXIT_DONE;
	}
	if (!rc)
		print_all(format);
	return rc;
}
