/* SPDX-License-Identifier: BSD-2-Clause */
/* cli.h - the `ownstack` command: one function per verb, each returns the exit status */
#ifndef OWNSTACK_CLI_H
#define OWNSTACK_CLI_H

#include "../host/join.h"

enum exit_status {
	EXIT_DONE = 0,
	EXIT_NO = 1,		/* doctor: something is missing; down: host still there */
	EXIT_USAGE = 2,		/* unknown option, bad value */
	EXIT_UNAVAILABLE = 69,	/* device, host or helper cannot be had */
	EXIT_PERMISSION = 77,
	EXIT_CANNOT_RUN = 126,	/* run: the program is there and cannot be executed */
	EXIT_NOT_FOUND = 127,	/* run: no such program */
};

int cli_run(int argc, char **argv);
int cli_ss(int argc, char **argv);
int cli_stats(int argc, char **argv);
int cli_sysctl(int argc, char **argv);
int cli_ps(int argc, char **argv);
int cli_down(int argc, char **argv);
int cli_doctor(int argc, char **argv);
int cli_warden(int argc, char **argv);

/** cli_error() - "ownstack: TEXT" on stderr */
void cli_error(const char *text);
/** cli_status_of() - exit status for a negative errno */
int cli_status_of(int rc);
/** cli_host_option() - config from the environment and --host NAME; @ret_rest: index of the first other argument. 0 or exit status */
int cli_config(struct config *cfg);
/** cli_attach() - map the arena of @cfg's host for looking. 0, or exit status after one line */
int cli_attach(const struct config *cfg, struct warden_reply *ret_reply);
/** cli_library_path() - libownstack.so that belongs to this command; false: not found */
bool cli_library_path(char *buf, size_t bytes);
/** cli_each_host() - calls @fn for each host that has a warden in this network namespace; returns how many */
int cli_each_host(void (*fn)(const char *name, void *arg), void *arg);

#endif
