/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdlib.h>
#include <unistd.h>
#include "cli.h"
#include "../host/sys.h"

#ifndef OWNSTACK_VERSION
#define OWNSTACK_VERSION "0"
#endif

extern char **environ;

static int cli_help(int argc, char **argv);

static const struct verb {
	const char *name, *arguments, *help;
	int (*fn)(int argc, char **argv);
} verbs[] = {
	{ "run", "[OPTIONS] [--] PROGRAM [ARGS]", "run a program on a private TCP/IP stack", cli_run },
	{ "ss", "[--host NAME] [-tinopmla]", "show the private sockets, as ss(8) does", cli_ss },
	{ "stats", "[--host NAME] [--json|--prometheus]", "show the counters, as nstat(8) does", cli_stats },
	{ "sysctl", "[--host NAME] [-vd]", "show the settings of the protocols, as sysctl(8) does", cli_sysctl },
	{ "ps", "[--host NAME]", "show hosts and their processes", cli_ps },
	{ "down", "[--host NAME]", "end a host: connections have 5 s to finish", cli_down },
	{ "doctor", "", "what this machine allows, and what to do about what it does not", cli_doctor },
	{ "help", "", "this page", cli_help },
	{ "warden", NULL, NULL, cli_warden }, /* what a preloaded library starts; not for people */
};

void cli_error(const char *text)
{
	fprintf(stderr, "ownstack: %s\n", text);
}

int cli_status_of(int rc)
{
	if (rc == -EPERM || rc == -EACCES)
		return EXIT_PERMISSION;
	return rc == -EINVAL ? EXIT_USAGE : EXIT_UNAVAILABLE;
}

int cli_config(struct config *cfg)
{
	char err[CONFIG_ERR_BYTES];

	if (!config_from_env(cfg, environ, err, sizeof(err)))
		return 0;
	cli_error(err);
	return EXIT_USAGE;
}

static bool readable(const char *path)
{
	return !access(path, R_OK);
}

bool cli_library_path(char *buf, size_t bytes)
{
	static const char *const near[] = { "../preload/libownstack.so", "../lib/ownstack/libownstack.so" };
	const char *env = getenv("OWNSTACK_LIB");
	char self[512], *slash;
	ssize_t n;

	if (env && *env) {
		snprintf(buf, bytes, "%s", env);
		return readable(buf);
	}
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n < 0)
		return false;
	self[n] = 0;
	slash = strrchr(self, '/');
	for (size_t i = 0; slash && i < sizeof(near) / sizeof(near[0]); i++) {
		char path[640], *real;

		snprintf(path, sizeof(path), "%.*s/%s", (int)(slash - self), self, near[i]);
		real = realpath(path, NULL);
		if (real && strlen(real) < bytes) {
			strcpy(buf, real);
			free(real);
			return true;
		}
		free(real);
	}
	return false;
}

int cli_attach(const struct config *cfg, struct warden_reply *ret_reply)
{
	char err[CONFIG_ERR_BYTES];
	int fds[2], rc;

	rc = warden_ask(cfg, WARDEN_LOOK, ret_reply, fds, NULL, err, sizeof(err));
	if (rc == -ECONNREFUSED)
		snprintf(err, sizeof(err), "host=%s: is not running; `ownstack ps` shows those that are", cfg->host);
	else if (!rc && ret_reply->status)
		snprintf(err, sizeof(err), "%s", ret_reply->text);
	else if (!rc && fds[0] < 0)
		return -1; /* runs, and nobody has joined yet */
	if (rc || ret_reply->status) {
		cli_error(err);
		return cli_status_of(rc ? rc : ret_reply->status);
	}
	rc = arena_map(fds[0], false);
	sys_close(fds[0]);
	if (rc) {
		snprintf(err, sizeof(err), "host=%s: its memory cannot be mapped (%s); use the ownstack command it was started with",
			 cfg->host, strerror(-rc));
		cli_error(err);
		return EXIT_UNAVAILABLE;
	}
	return 0;
}

int cli_each_host(void (*fn)(const char *name, void *arg), void *arg)
{
	FILE *f = fopen("/proc/net/unix", "re");
	char line[512], name[64];
	int n = 0;

	while (f && fgets(line, sizeof(line), f)) {
		const char *at = strstr(line, "@ownstack/");
		unsigned flags;

		/* one row per socket, connections included: the listening one has __SO_ACCEPTCON */
		if (!at || sscanf(line, "%*s %*s %*s %x", &flags) != 1 || !(flags & 0x10000) ||
		    sscanf(at, "@ownstack/%63[^/]/warden", name) != 1 || !strstr(at, "/warden"))
			continue;
		fn(name, arg);
		n++;
	}
	if (f)
		fclose(f);
	return n;
}

int cli_warden(int argc, char **argv)
{
	static struct config cfg;
	struct warden_reply r = { .protocol = WARDEN_PROTOCOL };
	int fd = argc == 3 ? atoi(argv[1]) : -1, rc;

	if (fd < 3) {
		cli_error("warden: not for people; use `ownstack run`");
		return EXIT_USAGE;
	}
	rc = config_from_env(&cfg, environ, r.text, sizeof(r.text));
	if (!rc)
		rc = config_check(&cfg, r.text, sizeof(r.text));
	if (!rc)
		warden_main(&cfg, fd, atoi(argv[2]));
	r.status = rc;
	sys_send(fd, &r, sizeof(r), MSG_NOSIGNAL);
	return EXIT_USAGE;
}

static void help_settings(void)
{
	for (int i = 0; i < config_n_rows; i++) {
		const struct config_row *r = &config_rows[i];
		char option[64] = "";

		if (r->option)
			snprintf(option, sizeof(option), "--%s%s%s", r->option, r->argument ? " " : "", r->argument ? r->argument : "");
		printf("  %-24s %-22s %s%s%s%s\n", option, r->variable, r->help, r->dflt && r->argument ? " [" : "",
		       r->dflt && r->argument ? r->dflt : "", r->dflt && r->argument ? "]" : "");
	}
}

static int cli_help(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	puts("ownstack gives a program a TCP/IP stack of its own.\n");
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (verbs[i].help)
			printf("  ownstack %-6s %-32s %s\n", verbs[i].name, verbs[i].arguments, verbs[i].help);
	}
	puts("\nOptions of run, and the variables that say the same to a program with LD_PRELOAD=libownstack.so:\n");
	help_settings();
	puts("\nWithout a device, run makes a TAP device and picks a free network for it (-v says which).\n"
	     "Exit status of run: the program's own; before it starts 2: wrong usage, 69: device or host cannot be had,\n"
	     "77: no permission, 126: the program cannot be executed, 127: it is not there.");
	return EXIT_DONE;
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "help";
	char err[160];

	if (!strcmp(verb, "--version")) {
		puts("ownstack " OWNSTACK_VERSION);
		return EXIT_DONE;
	}
	if (!strcmp(verb, "--help") || !strcmp(verb, "-h"))
		verb = "help";
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (!strcmp(verb, verbs[i].name))
			return verbs[i].fn(argc > 1 ? argc - 1 : 1, argc > 1 ? argv + 1 : argv);
	}
	snprintf(err, sizeof(err), "%.60s: not a command; see `ownstack help`", verb);
	cli_error(err);
	return EXIT_USAGE;
}
