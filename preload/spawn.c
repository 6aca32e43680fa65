/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * spawn.c - children that libc makes: posix_spawn(), system(), popen()
 *
 * libc makes them with a vfork of its own, moves their descriptors and execs, all past us. In a process without private
 * numbers that is well and is left to it. Otherwise the child must have a table, in which a number follows dup2() and close()
 * as the kernel's does, so it is made by fork() here, and what libc does in it is done with our calls.
 *
 * posix_spawn() tells that an exec failed, through a pipe whose end is the success. Another thread's fork child would keep
 * that pipe open, so every fork child closes the one there is (spawn_fork_child()); there is one at a time.
 */
#include <paths.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../host/sys.h"
#include "own_env.h"
#include "pump_priv.h"

/*
 * What posix_spawn_file_actions_t points to; glibc keeps it to itself. The same since 2.3, longer by kinds: fchdir 2.29,
 * closefrom 2.34, tcsetpgrp 2.35.
 */
struct spawn_action {
	enum { ACT_CLOSE, ACT_DUP2, ACT_OPEN, ACT_CHDIR, ACT_FCHDIR, ACT_CLOSEFROM, ACT_TCSETPGRP } kind;
	union {
		int fd; /* of close, fchdir, closefrom, tcsetpgrp */
		struct {
			int fd, to;
		} dup2;
		struct {
			int fd;
			char *path;
			int flags;
			mode_t mode;
		} open;
		char *chdir_path;
	} u;
};

static pthread_mutex_t spawn_lock = PTHREAD_MUTEX_INITIALIZER;
static int spawn_pipe = -1; /* write end of the posix_spawn() under way */
static _Thread_local bool spawning;

void spawn_fork_child(void)
{
	pthread_mutex_init(&spawn_lock, NULL);
	if (spawn_pipe >= 0 && !spawning)
		libc_next.close(spawn_pipe);
	spawn_pipe = spawning ? spawn_pipe : -1;
	spawning = false;
}

/* ---- posix_spawn ---- */

static int act_open(const struct spawn_action *a)
{
	int fd, r;

	own_close(a->u.open.fd);
	fd = own_open(a->u.open.path, a->u.open.flags, a->u.open.mode);
	if (fd < 0 || fd == a->u.open.fd)
		return fd;
	r = own_dup2(fd, a->u.open.fd);
	own_close(fd);
	return r;
}

static int act(const struct spawn_action *a)
{
	switch (a->kind) {
	case ACT_CLOSE:
		own_close(a->u.fd); /* what is not open is closed */
		return 0;
	case ACT_DUP2:
		if (a->u.dup2.fd == a->u.dup2.to)
			return own_fcntl(a->u.dup2.fd, F_SETFD, 0);
		return own_dup2(a->u.dup2.fd, a->u.dup2.to);
	case ACT_OPEN:
		return act_open(a);
	case ACT_CHDIR:
		return chdir(a->u.chdir_path);
	case ACT_FCHDIR:
		return fchdir(a->u.fd);
	case ACT_CLOSEFROM:
		own_closefrom(a->u.fd);
		return 0;
	case ACT_TCSETPGRP:
		return tcsetpgrp(a->u.fd, getpgrp());
	}
	errno = ENOSYS;
	return -1;
}

static int acts_run(const posix_spawn_file_actions_t *acts)
{
	const struct spawn_action *a = acts ? (const void *)acts->__actions : NULL;

	for (int i = 0; acts && i < acts->__used; i++)
		if (act(&a[i]) < 0)
			return -1;
	return 0;
}

static int attr_run(const posix_spawnattr_t *attr, short flags)
{
	struct sched_param param;
	sigset_t set;
	pid_t group;
	int policy;

	if (flags & POSIX_SPAWN_SETSIGDEF && !posix_spawnattr_getsigdefault(attr, &set)) {
		for (int s = 1; s < _NSIG; s++)
			if (sigismember(&set, s) == 1)
				own_sigaction(s, &(struct sigaction){ .sa_handler = SIG_DFL }, NULL);
	}
	if (flags & (POSIX_SPAWN_SETSCHEDPARAM | POSIX_SPAWN_SETSCHEDULER)) {
		posix_spawnattr_getschedparam(attr, &param);
		posix_spawnattr_getschedpolicy(attr, &policy);
		if (flags & POSIX_SPAWN_SETSCHEDULER ? sched_setscheduler(0, policy, &param) < 0 : sched_setparam(0, &param) < 0)
			return -1;
	}
	if (flags & POSIX_SPAWN_SETSID && setsid() < 0)
		return -1;
	if (flags & POSIX_SPAWN_SETPGROUP && (posix_spawnattr_getpgroup(attr, &group) || setpgid(0, group) < 0))
		return -1;
	if (flags & POSIX_SPAWN_RESETIDS && (setegid(getgid()) < 0 || seteuid(getuid()) < 0))
		return -1;
	return 0;
}

static _Noreturn void spawn_child(int tell, const struct spawn_args *a, const sigset_t *mask)
{
	sigset_t set;
	short flags = 0;

	if (a->attr)
		posix_spawnattr_getflags(a->attr, &flags);
	if (!attr_run(a->attr, flags) && !acts_run(a->acts)) {
		if (flags & POSIX_SPAWN_SETSIGMASK && !posix_spawnattr_getsigmask(a->attr, &set))
			mask = &set;
		pthread_sigmask(SIG_SETMASK, mask, NULL);
		if (a->search)
			own_execvpe(a->file, a->argv, a->envp);
		else
			own_execve(a->file, a->argv, a->envp);
	}
	sys_write(tell, &errno, sizeof(int));
	own__exit(127);
	sys_exit(127);
}

static int high_pipe(int fds[2])
{
	int high;

	if (libc_next.pipe2(fds, O_CLOEXEC))
		return errno;
	high = sys_fcntl(fds[1], F_DUPFD_CLOEXEC, 1000); /* out of the way of the actions */
	if (high >= 0) {
		libc_next.close(fds[1]);
		fds[1] = high;
	}
	return 0;
}

int spawn_by_fork(pid_t *ret_pid, const struct spawn_args *a)
{
	int fds[2], r = 0, error = 0, status;
	sigset_t all, was;
	pid_t pid;

	pthread_mutex_lock(&spawn_lock);
	r = high_pipe(fds);
	if (r) {
		pthread_mutex_unlock(&spawn_lock);
		return r;
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &was);
	spawn_pipe = fds[1];
	spawning = true;
	pid = own_fork();
	if (!pid)
		spawn_child(fds[1], a, &was);
	spawning = false;
	spawn_pipe = -1;
	r = pid < 0 ? errno : 0;
	libc_next.close(fds[1]);
	if (!r && sys_read(fds[0], &error, sizeof(error)) == sizeof(error)) {
		sys_wait(pid, &status);
		r = error;
	}
	libc_next.close(fds[0]);
	pthread_sigmask(SIG_SETMASK, &was, NULL);
	pthread_mutex_unlock(&spawn_lock);
	if (!r && ret_pid)
		*ret_pid = pid;
	return r;
}

/* ---- system ---- */

static int shell(pid_t *ret_pid, const char *command, const posix_spawn_file_actions_t *acts, const posix_spawnattr_t *attr)
{
	char sh[] = "sh", c[] = "-c";
	char *argv[] = { sh, c, (char *)(uintptr_t)command, NULL };
	const struct spawn_args a = { _PATH_BSHELL, false, acts, attr, argv, environ };

	return spawn_by_fork(ret_pid, &a);
}

static int system_wait(pid_t pid)
{
	int status = -1;
	pid_t r;

	do
		r = waitpid(pid, &status, 0);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -1 : status;
}

static void system_cancelled(void *pid)
{
	sys_kill(*(pid_t *)pid, SIGKILL);
	sys_wait(*(pid_t *)pid, &(int){ 0 });
}

/* SIGINT and SIGQUIT are the command's, SIGCHLD waits until its status is fetched. */
EXPORT(int, system, (const char *command))
{
	const struct sigaction ignore = { .sa_handler = SIG_IGN };
	struct sigaction was_int, was_quit;
	sigset_t block, was, defaults;
	posix_spawnattr_t attr;
	int status = -1, r;
	pid_t pid = -1;

	if (!command || !vfork_is_fork())
		return libc_next.system(command);
	sigemptyset(&defaults);
	sigemptyset(&block);
	sigaddset(&block, SIGCHLD);
	own_sigaction(SIGINT, &ignore, &was_int);
	own_sigaction(SIGQUIT, &ignore, &was_quit);
	pthread_sigmask(SIG_BLOCK, &block, &was);
	if (was_int.sa_handler != SIG_IGN)
		sigaddset(&defaults, SIGINT);
	if (was_quit.sa_handler != SIG_IGN)
		sigaddset(&defaults, SIGQUIT);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &was);
	posix_spawnattr_setsigdefault(&attr, &defaults);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	r = shell(&pid, command, NULL, &attr);
	posix_spawnattr_destroy(&attr);
	if (!r) {
		pthread_cleanup_push(system_cancelled, &pid);
		status = system_wait(pid);
		pthread_cleanup_pop(0);
	} else {
		status = W_EXITCODE(127, 0);
	}
	own_sigaction(SIGINT, &was_int, NULL);
	own_sigaction(SIGQUIT, &was_quit, NULL);
	pthread_sigmask(SIG_SETMASK, &was, NULL);
	if (r)
		errno = r;
	return status;
}

/* ---- popen ---- */

struct pipe_stream { /* those we opened: libc's pclose() does not know them */
	FILE *fp;
	pid_t pid;
	struct pipe_stream *next;
};
static struct pipe_stream *pipe_streams;
static pthread_mutex_t pipe_lock = PTHREAD_MUTEX_INITIALIZER;

/* "r" or "w", and "e". Return: false: anything else */
static bool popen_mode(const char *mode, bool *ret_reads, bool *ret_cloexec)
{
	int n_r = 0, n_w = 0;

	*ret_cloexec = false;
	for (; *mode; mode++) {
		n_r += *mode == 'r';
		n_w += *mode == 'w';
		*ret_cloexec |= *mode == 'e';
		if (!strchr("rwe", *mode))
			return false;
	}
	*ret_reads = n_r;
	return n_r + n_w == 1;
}

static FILE *popen_by_fork(const char *command, const char *mode)
{
	struct pipe_stream *s = malloc(sizeof(*s));
	posix_spawn_file_actions_t acts;
	bool reads, cloexec;
	int fds[2], r;

	if (!s)
		return NULL;
	if (!popen_mode(mode, &reads, &cloexec)) {
		free(s);
		errno = EINVAL;
		return NULL;
	}
	if (own_pipe2(fds, O_CLOEXEC) < 0) {
		free(s);
		return NULL;
	}
	posix_spawn_file_actions_init(&acts);
	pthread_mutex_lock(&pipe_lock);
	for (struct pipe_stream *o = pipe_streams; o; o = o->next) /* the child has no stream of an earlier popen() */
		posix_spawn_file_actions_addclose(&acts, fileno(o->fp));
	pthread_mutex_unlock(&pipe_lock);
	posix_spawn_file_actions_adddup2(&acts, fds[reads], reads); /* read end to 0, or write end to 1 */
	r = shell(&s->pid, command, &acts, NULL);
	posix_spawn_file_actions_destroy(&acts);
	own_close(fds[reads]);
	s->fp = r ? NULL : libc_next.fdopen(fds[!reads], reads ? "r" : "w");
	if (!s->fp) {
		own_close(fds[!reads]);
		free(s);
		errno = r ? r : errno;
		return NULL;
	}
	if (!cloexec)
		libc_next.fcntl(fds[!reads], F_SETFD, 0);
	pthread_mutex_lock(&pipe_lock);
	s->next = pipe_streams;
	pipe_streams = s;
	pthread_mutex_unlock(&pipe_lock);
	return s->fp;
}

EXPORT(FILE *, popen, (const char *command, const char *mode))
{
	FILE *fp;

	if (vfork_is_fork())
		return popen_by_fork(command, mode);
	fp = libc_next.popen(command, mode);
	if (fp)
		fd_forget(fileno(fp));
	return fp;
}

EXPORT(int, pclose, (FILE *fp))
{
	struct pipe_stream **at, *s;
	pid_t pid;

	pthread_mutex_lock(&pipe_lock);
	for (at = &pipe_streams; *at && (*at)->fp != fp; at = &(*at)->next)
		;
	s = *at;
	if (s)
		*at = s->next;
	pthread_mutex_unlock(&pipe_lock);
	if (!s)
		return libc_next.pclose(fp);
	pid = s->pid;
	free(s);
	libc_next.fclose(fp);
	return system_wait(pid);
}
