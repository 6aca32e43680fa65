/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * init.c - becoming part of a private host, as late as possible
 *
 * At load: the next definitions are looked up and the variables that describe the host are kept aside (programs overwrite
 * their environment, and an exec must pass them on). Nothing else: `ls` must not notice. The host is joined when the first
 * AF_INET or AF_INET6 stream socket is asked for, or at load if the image was put in place by an exec that left private
 * sockets open (OWNSTACK_INHERIT names the process, see exec.c).
 *
 * Without any OWNSTACK_* variable the library passes everything through.
 */
#include <dlfcn.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../host/config.h"
#include "../host/join.h"
#include "../host/window.h"
#include "own_env.h"
#include "preload_priv.h"
#include "pump_priv.h"
#include "signal_priv.h"

enum { EXIT_USAGE = 2, EXIT_UNAVAILABLE = 69 }; /* as the command's: sysexits.h */

enum join_state { JOIN_NOT_YET, JOIN_DONE, JOIN_KERNEL /* not wanted, or failed with OWNSTACK_FALLBACK */ };
static _Atomic int join_state = JOIN_KERNEL;
static pthread_mutex_t join_lock = PTHREAD_MUTEX_INITIALIZER;

struct own_env own_env;

static bool is_ours(const char *var)
{
	return !strncmp(var, "OWNSTACK_", 9) && strncmp(var, OWN_ENV_INHERIT, sizeof(OWN_ENV_INHERIT) - 1);
}

/* Copies: setproctitle() and the like write over the originals. */
static void env_keep(char *const *env)
{
	size_t n = 0;

	for (char *const *e = env; *e; e++)
		n += is_ours(*e);
	if (!n)
		return;
	own_env.vars = calloc(n + 1, sizeof(*own_env.vars));
	if (!own_env.vars)
		return;
	for (char *const *e = env; *e; e++)
		if (is_ours(*e) && (own_env.vars[own_env.n_vars] = strdup(*e)))
			own_env.n_vars++;
}

static void own_path_find(void)
{
	Dl_info info;

	if (dladdr(&own_env, &info) && info.dli_fname)
		own_env.library = info.dli_fname; /* the loader's own string, good for ever */
}

enum inherit { INHERIT_NOTHING, INHERIT_TABLE, INHERIT_ENDS /* of socket pairs, from a program that is not ours */ };

/* Did this image take the place of one that had private sockets open? The program does not see the variable. */
static enum inherit env_inherit(void)
{
	const char *pid = getenv("OWNSTACK_INHERIT");
	enum inherit what = !pid ? INHERIT_NOTHING : !strncmp(pid, OWN_ENV_ANY, strlen(OWN_ENV_ANY)) ? INHERIT_ENDS :
			    atol(pid) == (long)getpid() ? INHERIT_TABLE : INHERIT_NOTHING;
	const char *window = pid ? strchr(pid, OWN_ENV_WINDOW) : NULL;

	if (what && window)
		window_take(atoi(window + 1));
	if (pid)
		unsetenv("OWNSTACK_INHERIT");
	return what;
}

__attribute__((constructor)) static void init(int argc, char **argv, char **envp)
{
	enum inherit inherit;

	(void)argc;
	(void)argv;
	next_resolve();
	env_keep(envp);
	if (!own_env.n_vars)
		return;
	own_path_find();
	exit_init();
	join_state = JOIN_NOT_YET;
	inherit = env_inherit();
	if (!inherit || !own_join())
		return;
	if (inherit == INHERIT_ENDS)
		export_take_back_all();
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		stdio_follow(fd);
}

/* One line, past stdio, which the program may have closed or filled. */
static void complain(const char *line)
{
	struct iovec iov[] = { { (char *)"ownstack: ", 10 }, { (char *)line, strlen(line) }, { (char *)"\n", 1 } };

	if (libc_next.writev(STDERR_FILENO, iov, 3) < 0)
		return; /* stderr is closed: nobody to tell */
}

/* Asked where the settings themselves may be what is wrong: then @cfg does not know. */
static bool fallback_wanted(const struct config *cfg)
{
	for (size_t i = 0; i < own_env.n_vars; i++)
		if (!strcmp(own_env.vars[i], "OWNSTACK_FALLBACK=1"))
			return true;
	return cfg->fallback;
}

static enum join_state join(void)
{
	char err[CONFIG_ERR_BYTES] = "";
	struct config cfg;
	int status = EXIT_UNAVAILABLE;
	int r;

	config_init(&cfg);
	r = config_from_env(&cfg, own_env.vars, err, sizeof(err));
	if (r == 0)
		r = config_check(&cfg, err, sizeof(err));
	if (r < 0)
		status = EXIT_USAGE;
	else
		r = host_join(&cfg, err, sizeof(err));
	if (r < 0) {
		complain(err[0] ? err : strerror(-r));
		if (!fallback_wanted(&cfg))
			libc_next._exit(status);
	}
	config_free(&cfg);
	if (r < 0)
		return JOIN_KERNEL;
	signal_init();
	return JOIN_DONE;
}

/* A child with nothing to share, or made by a clone() that we did not see. */
static bool register_late(void)
{
	bool ok;

	pthread_mutex_lock(&join_lock); /* of several threads that come here first, one does it */
	ok = slot_self();
	if (!ok && slot_register() >= 0) {
		host_fork_child(); /* a link of its own */
		ok = true;
	}
	pthread_mutex_unlock(&join_lock);
	return ok;
}

bool own_join(void)
{
	int saved = errno;

	if (unlikely(sandboxed()))
		return false;
	if (likely(join_state == JOIN_DONE)) {
		if (unlikely(slot_is_vfork_child()))
			return false;
		return slot_self() || register_late();
	}
	if (join_state == JOIN_KERNEL)
		return false;
	pthread_mutex_lock(&join_lock);
	if (join_state == JOIN_NOT_YET)
		join_state = join();
	pthread_mutex_unlock(&join_lock);
	errno = saved;
	return join_state == JOIN_DONE;
}

void join_fork_child(void)
{
	pthread_mutex_init(&join_lock, NULL);
}

bool own_socket_wanted(int domain, int type, int protocol)
{
	return (domain == AF_INET || domain == AF_INET6) && (type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) == SOCK_STREAM &&
	       (protocol == 0 || protocol == IPPROTO_TCP) && join_state != JOIN_KERNEL;
}
