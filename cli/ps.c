/* SPDX-License-Identifier: BSD-2-Clause */
/* ps.c - hosts and their processes; ending a host */
#include <getopt.h>
#include <stdlib.h>
#include "cli.h"
#include "../host/slot.h"
#include "../host/sys.h"

static const char *const state_names[] = { [SLOT_FORKING] = "forking", [SLOT_LIVE] = "live", [SLOT_EXEC_PENDING] = "exec",
					   [SLOT_DEAD] = "dead", [SLOT_EXEC_DROP] = "exec", [SLOT_EXECED] = "execed",
					   [SLOT_ADOPTED] = "exec" };

static void print_slots(void)
{
	uint32_t top = atomic_load(&host->slot_top);

	printf("  %7s %-8s %7s %6s  %s\n", "PID", "STATE", "SOCKETS", "UID", "COMMAND");
	for (uint32_t i = SLOT_KEEPER; i < top; i++) {
		const struct slot *s = &host->slot[i];
		uint32_t state = atomic_load(&s->state);

		if (state == SLOT_FREE || state > SLOT_ADOPTED)
			continue;
		printf("  %7d %-8s %7llu %6u  %.16s\n", atomic_load(&s->pid), i == SLOT_KEEPER ? "keeper" : state_names[state],
		       (unsigned long long)atomic_load(&s->n_entries), s->uid, s->comm);
	}
}

static void print_host(const char *name, void *arg)
{
	struct warden_reply r;
	struct config cfg;
	int rc;

	(void)arg;
	config_init(&cfg);
	snprintf(cfg.host, sizeof(cfg.host), "%.31s", name);
	rc = cli_attach(&cfg, &r);
	if (rc > 0)
		return;
	printf("%s: %s %s, address %s%s%s, warden %u, keeper %u%s\n", name, r.dev_kind == IO_KIND_TAP ? "tap" : "packet", r.ifname, r.addr,
	       r.peer[0] ? ", kernel's side " : "", r.peer, r.warden_pid, r.keeper_pid, rc < 0 ? ", nobody has joined" : "");
	if (!rc)
		print_slots();
	arena_unmap();
	config_free(&cfg);
}

/* --host NAME of ps and down. Return: 0: none given, 1: given, negative: minus the exit status */
static int host_option(struct config *cfg, int argc, char **argv)
{
	static const struct option longs[] = { { "host", required_argument, NULL, 'h' }, { 0 } };
	char err[CONFIG_ERR_BYTES];
	int c, given = getenv("OWNSTACK_HOST") != NULL;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
		if (c != 'h') {
			snprintf(err, sizeof(err), "%.100s: not an option of %s; see `ownstack help`", argv[optind - 1], argv[0]);
			cli_error(err);
			return -EXIT_USAGE;
		}
		if (config_set(cfg, config_find("host"), optarg, "host", err, sizeof(err))) {
			cli_error(err);
			return -EXIT_USAGE;
		}
		given = 1;
	}
	return given;
}

int cli_ps(int argc, char **argv)
{
	struct config cfg;
	int rc = cli_config(&cfg);

	if (!rc)
		rc = host_option(&cfg, argc, argv);
	if (rc < 0)
		return -rc;
	if (rc > 1)
		return rc;
	if (rc)
		print_host(cfg.host, NULL);
	else if (!cli_each_host(print_host, NULL))
		puts("no host runs here");
	return EXIT_DONE;
}

int cli_down(int argc, char **argv)
{
	struct warden_reply r;
	char err[CONFIG_ERR_BYTES];
	struct config cfg;
	int conn, rc = cli_config(&cfg);

	if (rc)
		return rc;
	rc = host_option(&cfg, argc, argv);
	if (rc < 0)
		return -rc;
	rc = warden_ask(&cfg, WARDEN_DOWN, &r, NULL, &conn, err, sizeof(err));
	if (rc == -ECONNREFUSED) {
		snprintf(err, sizeof(err), "host=%s: is not running; `ownstack ps` shows those that are", cfg.host);
		cli_error(err);
		return EXIT_UNAVAILABLE;
	}
	if (rc || r.status) {
		cli_error(rc ? err : r.text);
		return cli_status_of(rc ? rc : r.status);
	}
	/* the connection ends with the warden; its time-out is longer than a drain */
	if (sys_recv(conn, &r, sizeof(r), 0) != 0) {
		snprintf(err, sizeof(err), "host=%s: its warden (pid %u) does not leave; `kill -9 %u`", cfg.host, r.warden_pid, r.warden_pid);
		cli_error(err);
		return EXIT_NO;
	}
	return EXIT_DONE;
}
