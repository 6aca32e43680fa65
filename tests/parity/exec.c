/* SPDX-License-Identifier: BSD-2-Clause */
/* exec - a connection passes to another program; failed exec, vfork, posix_spawn, system and popen leave ours alone */
#include "parity.h"
#include <spawn.h>

extern char **environ;

static void reap(const char *what, pid_t pid)
{
	int status;

	must("waitpid", waitpid(pid, &status, 0));
	say("%s: %d", what, WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
}

static void bystanders(int fd)
{
	char *argv[] = { (char *)"true", NULL }, *no_env[] = { NULL }, buf[16];
	pid_t pid = vfork();
	FILE *p;

	if (!pid) {
		close(fd);
		dup2(1, 77);
		_exit(5);
	}
	reap("vfork", pid);
	saw("not closed in the parent", write(fd, "1", 1));
	saw("nor made there", fcntl(77, F_GETFD) >= 0);
	pid = vfork();
	if (!pid) {
		execve("/bin/true", argv, no_env);
		_exit(9);
	}
	reap("vfork and exec", pid);
	saw("posix_spawnp", posix_spawnp(&pid, "true", NULL, NULL, argv, environ));
	reap("spawned", pid);
	say("system: %d", WEXITSTATUS(system("exit 3")));
	p = popen("echo from a pipe", "r");
	say("popen: %s", fgets(buf, 5, p));
	pclose(p);
	saw("write", write(fd, "2", 1));
}

void server(int listener)
{
	int fd = peer_accept(listener), closed = peer_accept(listener);
	char script[256];
	pid_t pid;

	bystanders(fd);
	must("F_SETFD", fcntl(closed, F_SETFD, FD_CLOEXEC));
	pid = (pid_t)must("fork", fork());
	if (!pid) {
		saw("execl of nothing", execl("/nonexistent", "x", NULL));
		saw("write after it", write(fd, "3", 1));
		snprintf(script, sizeof(script), "read line <&%d; echo shell read $line; echo from the shell >&%d; "
			 "echo ${OWNSTACK_INHERIT-clean}; (echo x >&%d) 2>/dev/null || echo no second", fd, fd, closed);
		fflush(stdout);
		execl("/bin/sh", "sh", "-c", script, NULL);
		_exit(9);
	}
	close(fd);
	close(closed);
	reap("shell", pid);
}

void client(void)
{
	int fd = peer_connect(), closed = peer_connect();
	char buf[32] = "";

	read_all(fd, buf, 3);
	say("%s", buf);
	saw("the other one ends with the exec", read(closed, buf, 1));
	write_all(fd, "a line\n", 7);
	read_all(fd, buf, 15);
	say("%.14s", buf);
	say("end: %zd", read(fd, buf, 1));
}
