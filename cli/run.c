/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * run.c - `ownstack run`: make sure the host runs, then become the program
 *
 * The program is executed in place: pid, terminal, signals and exit status are its own. The warden is forked off first and
 * told to live as long as this process does. Everything the program's own start of a host would need stands in the environment
 * afterwards, so that it and its children agree about the host even when the first warden is gone.
 */
#include <getopt.h>
#include <stdlib.h>
#include <unistd.h>
#include "cli.h"
#include "../host/sys.h"

enum config_row_count {
#define SETTING(field, ...) ROW_##field,
#include "../host/config.def"
#undef SETTING
	N_ROWS,
	OPTIONS_MAX = N_ROWS + 1 /* with the end mark */
};

/* The warden, from this very image: an exec would cost a millisecond */
static int spawn_fork(const struct config *cfg, int ready_fd, pid_t for_pid)
{
	pid_t child = fork();
	int status;

	if (child < 0)
		return -errno;
	if (!child) {
		child = fork();
		if (!child)
			warden_main((struct config *)cfg, ready_fd, for_pid);
		_exit(child < 0);
	}
	if (sys_wait(child, &status) < 0 || status)
		return -EAGAIN;
	return 0;
}

/**
 * options_make() - long options for getopt from the rows of config.def
 * @ret:	room for all rows and the end
 */
static void options_make(struct option *ret)
{
	int n = 0;

	for (int i = 0; i < config_n_rows; i++) {
		if (config_rows[i].option)
			ret[n++] = (struct option){ config_rows[i].option, config_rows[i].type == CONFIG_BOOL ? no_argument : required_argument, NULL, 256 + i };
	}
	ret[n] = (struct option){ 0 };
}

static void env_append(const char *name, const char *value, bool list)
{
	const char *old = getenv(name);
	char *both = NULL;

	if (list && old && *old && asprintf(&both, "%s,%s", old, value) >= 0)
		setenv(name, both, 1);
	else
		setenv(name, value, 1);
	free(both);
}

/* An option of config.def: into @cfg, and into the environment for those who come after us */
static int option_take(struct config *cfg, int row, const char *value, bool first)
{
	const struct config_row *r = &config_rows[row];
	bool list = r->type == CONFIG_CIDRS || r->type == CONFIG_NEIGHS || r->type == CONFIG_SYSCTLS;
	char err[CONFIG_ERR_BYTES];
	int rc;

	if (list && first) { /* options replace what the environment said */
		unsetenv(r->variable);
		if (r->type == CONFIG_CIDRS)
			cfg->n_addr = 0;
		else if (r->type == CONFIG_NEIGHS)
			cfg->n_neigh = 0;
		else
			stack_sysctl_default(&cfg->ctl);
	}
	rc = config_set(cfg, row, value, r->option, err, sizeof(err));
	if (rc) {
		cli_error(err);
		return EXIT_USAGE;
	}
	env_append(r->variable, value, list);
	return 0;
}

/**
 * env_forget() - an `ownstack run --host B` inside a host A: what the environment says describes A
 *
 * Only where an outer run has written it (OWNSTACK_TOKEN); what a person exports is meant.
 */
static void env_forget(int argc, char **argv, const struct option *longs)
{
	static const char *const described[] = { "OWNSTACK_TAP", "OWNSTACK_PACKET", "OWNSTACK_ADDR", "OWNSTACK_TAP_PEER", "OWNSTACK_MAC",
						 "OWNSTACK_GATEWAY", "OWNSTACK_NEIGH", "OWNSTACK_NAT", "OWNSTACK_PCAP", "OWNSTACK_TOKEN" };
	const char *outer = getenv("OWNSTACK_HOST");
	int c, host_row = 256 + config_find("host");
	bool other = false;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "+:v", longs, NULL)) != -1) {
		if (c == host_row)
			other = outer && strcmp(optarg, outer);
	}
	optind = 1;
	other = other && getenv("OWNSTACK_TOKEN");
	for (size_t i = 0; other && i < sizeof(described) / sizeof(described[0]); i++)
		unsetenv(described[i]);
}

/* Return: index of the program in @argv, negative: minus the exit status */
static int options_take(struct config *cfg, int argc, char **argv)
{
	struct option longs[OPTIONS_MAX];
	bool seen[OPTIONS_MAX] = { false };
	char err[CONFIG_ERR_BYTES];
	int c, rc;

	options_make(longs);
	env_forget(argc, argv, longs);
	rc = cli_config(cfg);
	if (rc)
		return -rc;
	while ((c = getopt_long(argc, argv, "+:v", longs, NULL)) != -1) {
		if (c == 'v')
			c = 256 + config_find("verbose");
		if (c == '?' || c == ':') {
			snprintf(err, sizeof(err), "%.100s: %s; see `ownstack help`", argv[optind - 1],
				 c == ':' ? "needs a value" : "not an option of run");
			cli_error(err);
			return -EXIT_USAGE;
		}
		rc = option_take(cfg, c - 256, optarg ? optarg : "1", !seen[c - 256]);
		if (rc)
			return -rc;
		seen[c - 256] = true;
	}
	if (optind >= argc) {
		cli_error("run: no program given; write `ownstack run [OPTIONS] PROGRAM [ARGS]`");
		return -EXIT_USAGE;
	}
	return optind;
}

static void env_default(const char *name, const char *value)
{
	if (*value && !getenv(name))
		setenv(name, value, 1);
}

/* What the warden chose, for whoever has to start the host again */
static void env_describe(const struct config *cfg, const struct warden_reply *r)
{
	char token[33];

	for (int i = 0; i < 16; i++)
		snprintf(token + 2 * i, 3, "%02x", r->token[i]);
	setenv("OWNSTACK_TOKEN", token, 1);
	setenv("OWNSTACK_HOST", cfg->host, 1);
	if (r->dev_kind == IO_KIND_PACKET)
		env_default("OWNSTACK_PACKET", r->ifname);
	else
		env_default("OWNSTACK_TAP", r->ifname);
	env_default("OWNSTACK_ADDR", r->addr);
	if (r->peer[0])
		env_default("OWNSTACK_TAP_PEER", r->peer);
}

static void env_preload(const char *library)
{
	const char *old = getenv("LD_PRELOAD");
	char *both;

	if (old && strstr(old, library))
		return;
	if (old && *old && asprintf(&both, "%s:%s", library, old) >= 0) {
		setenv("LD_PRELOAD", both, 1);
		free(both);
	} else {
		setenv("LD_PRELOAD", library, 1);
	}
}

static int become(char **argv)
{
	char err[CONFIG_ERR_BYTES];
	int e;

	execvp(argv[0], argv);
	e = errno;
	snprintf(err, sizeof(err), "%.200s: %s", argv[0], e == ENOENT ? "no such program; give its path" : strerror(e));
	cli_error(err);
	return e == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
}

static int host_ready(const struct config *cfg, struct warden_reply *ret_reply, char *ret_err, size_t err_bytes)
{
	int rc = config_check(cfg, ret_err, err_bytes);

	if (!rc)
		rc = host_io_check(cfg, ret_err, err_bytes);
	return rc ? rc : warden_start(cfg, spawn_fork, ret_reply, ret_err, err_bytes);
}

/* The private host cannot be had: kernel sockets if that was asked for */
static int without_host(const struct config *cfg, int rc, const char *err, char **argv)
{
	char line[CONFIG_ERR_BYTES + 64];

	if (!cfg->fallback || rc == -EINVAL) {
		cli_error(err);
		return cli_status_of(rc);
	}
	snprintf(line, sizeof(line), "%s; running on kernel sockets (OWNSTACK_FALLBACK=1)", err);
	cli_error(line);
	return become(argv);
}

int cli_run(int argc, char **argv)
{
	struct warden_reply reply;
	char err[CONFIG_ERR_BYTES], library[512];
	struct config cfg;
	int first = options_take(&cfg, argc, argv), rc;

	if (first < 0)
		return -first;
	rc = cli_library_path(library, sizeof(library)) ? 0 : -ENOENT;
	if (rc)
		snprintf(err, sizeof(err), "OWNSTACK_LIB=: libownstack.so is not found beside this command; name it there");
	else
		rc = host_ready(&cfg, &reply, err, sizeof(err));
	if (rc)
		return without_host(&cfg, rc, err, argv + first);
	if (cfg.verbose)
		fprintf(stderr, "ownstack: host %s, %s %s, address %s%s%s\n", cfg.host, reply.dev_kind == IO_KIND_TAP ? "tap" : "packet",
			reply.ifname, reply.addr, reply.peer[0] ? ", kernel's side " : "", reply.peer);
	env_describe(&cfg, &reply);
	env_preload(library);
	return become(argv + first);
}
