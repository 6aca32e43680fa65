/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * main.c - runs scenarios
 *
 *   sim                        all, each with its seeds, and compares the table with expected/NAME.txt
 *   sim NAME                   one of them
 *   sim NAME --seed N          one run, prints its row: how to replay a failure
 *   sim NAME --seed N --trace  prints each frame as well
 *   sim --update [NAME]        writes the tables anew
 *   sim --list
 *
 * The tables are part of the repository, so that a change in behaviour shows as a difference. Figures are integers of
 * the simulated network and do not depend on the machine.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "scenarios.h"

#ifndef SIM_EXPECTED_DIR
#error "meson.build names the folder of the tables"
#endif
#define TABLE_BYTES 65536
#define SEEDS_MAX	 100
#define SEEDS_FOR_MEDIAN 20

static bool tracing;

static int row_print(char *to, size_t room, const struct scenario *sc, uint64_t seed, uint64_t *ret_kbit_s, bool *ret_failed)
{
	static struct sim s;
	struct outcome o = { 0 };
	int n;

	sim_init(&s, seed, sc->offloads);
	s.v6 = !strncmp(sc->name, "ip6_", 4);
	s.trace = tracing;
	sc->run(&s, &o);
	sim_check_clean(&s);
	*ret_kbit_s = o.kbit_s;
	n = snprintf(to, room, "%4llu %9llu %10llu %8llu %8llu %8llu %8llu %9llu\n", (unsigned long long)seed,
		     (unsigned long long)o.time_ms, (unsigned long long)o.kbit_s, (unsigned long long)o.segs,
		     (unsigned long long)o.retrans, (unsigned long long)o.lost, (unsigned long long)o.held_kib_max,
		     (unsigned long long)o.worst_ms);
	if (s.failed) {
		*ret_failed = true;
		printf("%s, seed %llu: %s (at %.6f s)\n  again: sim %s --seed %llu\n", sc->name,
		       (unsigned long long)seed, s.failed,
		       (double)(s.now - s.started) / 1e6, sc->name, (unsigned long long)seed);
	}
	sim_fini(&s);
	return n;
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void table_make(char *t, const struct scenario *sc, bool *ret_failed)
{
	uint64_t kbit_s[SEEDS_MAX];
	int n = snprintf(t, TABLE_BYTES,
			 "%s\nseed   time_ms     kbit/s     segs  retrans     lost held_KiB  worst_ms\n", sc->text);

	for (uint64_t seed = 1; seed <= sc->seeds; seed++)
		n += row_print(t + n, TABLE_BYTES - (size_t)n, sc, seed, &kbit_s[seed - 1], ret_failed);
	if (sc->seeds < SEEDS_FOR_MEDIAN)
		return;
	qsort(kbit_s, sc->seeds, sizeof(kbit_s[0]), by_size);
	snprintf(t + n, TABLE_BYTES - (size_t)n, "median %llu kbit/s, quarters at %llu and %llu, from %llu to %llu\n",
		 (unsigned long long)((kbit_s[sc->seeds / 2 - 1] + kbit_s[sc->seeds / 2]) / 2),
		 (unsigned long long)kbit_s[sc->seeds / 4], (unsigned long long)kbit_s[sc->seeds * 3 / 4],
		 (unsigned long long)kbit_s[0], (unsigned long long)kbit_s[sc->seeds - 1]);
}

static bool table_same(const struct scenario *sc, const char *t, bool update)
{
	char path[512], old[TABLE_BYTES] = "";
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s.txt", SIM_EXPECTED_DIR, sc->name);
	f = fopen(path, update ? "w" : "r");
	if (!f) {
		perror(path);
		return false;
	}
	if (update)
		fputs(t, f);
	else
		old[fread(old, 1, sizeof(old) - 1, f)] = 0;
	fclose(f);
	if (update || strcmp(old, t) == 0)
		return true;
	printf("%s: the table has changed. Was:\n%sis:\n%s  if that is meant: sim --update %s\n", sc->name, old, t,
	       sc->name);
	return false;
}

static bool scenario_run(const struct scenario *sc, bool update)
{
	static char t[TABLE_BYTES];
	bool failed = false, same;

	table_make(t, sc, &failed);
	same = !failed && table_same(sc, t, update);
	printf("%-24s %s\n", sc->name, failed ? "FAILED" : same ? "ok" : "CHANGED");
	return same;
}

int main(int argc, char **argv)
{
	const char *name = NULL;
	uint64_t seed = 0;
	bool update = false, list = false, ok = true, found = false;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--update"))
			update = true;
		else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			seed = strtoull(argv[++i], NULL, 10);
		else if (!strcmp(argv[i], "--trace"))
			tracing = true;
		else if (!strcmp(argv[i], "--list"))
			list = true;
		else
			name = argv[i];
	}
	for (const struct scenario *sc = scenarios; list && sc->name; sc++)
		printf("%-24s %s\n", sc->name, sc->text);
	if (list)
		return 0;
	for (const struct scenario *sc = scenarios; sc->name; sc++) {
		char row[256];
		uint64_t kbit_s;
		bool failed = false;

		if (name && strcmp(name, sc->name) != 0)
			continue;
		found = true;
		if (!seed) {
			ok &= scenario_run(sc, update);
			continue;
		}
		row_print(row, sizeof(row), sc, seed, &kbit_s, &failed);
		fputs(row, stdout);
		ok &= !failed;
	}
	if (!found)
		fprintf(stderr, "no scenario of that name; --list shows them\n");
	return ok && found ? 0 : 1;
}
