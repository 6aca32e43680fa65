/* SPDX-License-Identifier: BSD-2-Clause */
/* stats.c - named counters of a host, as nstat prints them, or as JSON */
#include <getopt.h>
#include "cli.h"

static void number(bool json, bool *first, const char *name, uint64_t value)
{
	if (json)
		printf("%s\n    \"%s\": %llu", *first ? "" : ",", name, (unsigned long long)value);
	else
		printf("%-32s%-18llu\n", name, (unsigned long long)value);
	*first = false;
}

/* What the host itself can say: processes, objects, memory, pace */
static void host_numbers(bool json, bool *first)
{
	struct stack_usage u;

	number(json, first, "HostProcesses", atomic_load(&host->n_live));
	number(json, first, "HostFiles", host->files.in_use);
	number(json, first, "HostEpolls", host->epolls.in_use);
	number(json, first, "HostWatches", host->watches.in_use);
	number(json, first, "HostThreads", host->waiters.in_use);
	number(json, first, "HostTables", host->fdchunks.in_use);
	number(json, first, "HostPassports", host->passports.in_use);
	number(json, first, "HostArenaBytes", host->arena_bytes);
	number(json, first, "HostArenaUsedBytes", host->region.used);
	number(json, first, "HostCalls", atomic_load(&host->queue.activity));
	number(json, first, "KeeperPace", atomic_load(&host->keeper.pace));
	number(json, first, "KeeperPid", atomic_load(&host->keeper.pid));
	number(json, first, "StackLive", stack_live(host->shard.stack));
	stack_usage(host->shard.stack, &u);
	number(json, first, "StackSockets", u.tcbs);
	number(json, first, "StackRequests", u.requests);
	number(json, first, "StackTimeWaits", u.timewaits);
	number(json, first, "StackFrames", u.frames);
	number(json, first, "StackCells", u.cells);
}

static void print_all(bool json)
{
	const uint64_t *c = stack_counters(host->shard.stack);
	bool first = true;

	if (json)
		printf("{\n  \"host\": \"%.31s\",\n  \"device\": \"%.15s\",\n  \"counters\": {", host->name, host->ifname);
	else
		puts("#ownstack");
	for (int i = 0; i < CNT_N; i++)
		number(json, &first, stack_counter_names[i], c[i]);
	host_numbers(json, &first);
	if (json)
		puts("\n  }\n}");
}

int cli_stats(int argc, char **argv)
{
	static const struct option longs[] = { { "host", required_argument, NULL, 'h' }, { "json", no_argument, NULL, 'j' }, { 0 } };
	char err[CONFIG_ERR_BYTES];
	struct warden_reply r;
	struct config cfg;
	bool json = false;
	int c, rc = cli_config(&cfg);

	opterr = 0;
	while (!rc && (c = getopt_long(argc, argv, ":j", longs, NULL)) != -1) {
		if (c == 'j') {
			json = true;
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
		print_all(json);
	return rc;
}
