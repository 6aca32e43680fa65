/* SPDX-License-Identifier: BSD-2-Clause */
/* stdio_std - stdin, stdout and stderr on a connection: by dup2 in the process itself, and after exec, as under inetd */
#include "parity.h"

static void reap(const char *what, pid_t pid)
{
	int status;

	must("waitpid", waitpid(pid, &status, 0));
	say("%s: %d", what, WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
}

/* What a shell does for a builtin with its output redirected, and back again. */
static void out_and_back(int fd)
{
	int saved = (int)must("dup", dup(1));


	fflush(stdout);
	printf("written before, ");
	must("dup2", dup2(fd, 1));
	say("fileno: %d", fileno(stdout)); /* goes to the connection, with what was pending */
	putchar('c');
	puts("har");
	fflush(stdout);
	printf("for the other side");
	must("dup2", dup2(saved, 1));
	printf(" of it\n");
	fflush(stdout);
	close(saved);
}

static void errors(int fd)
{
	int saved = (int)must("dup", dup(2));

	must("dup2", dup2(fd, 2));
	fprintf(stderr, "unbuffered;");
	errno = EPIPE;
	perror("perror");
	must("dup2", dup2(saved, 2));
	close(saved);
}

static void in_child(int fd)
{
	char line[64], other[64];
	pid_t pid = (pid_t)must("fork", fork());

	if (!pid) {
		dup2(fd, 0);
		dup2(fd, 1);
		close(fd);
		if (fgets(line, sizeof(line), stdin) && scanf("%63s", other) == 1 && getchar() == '\n')
			printf("read %s and %s", line, other);
		printf(", end %d\n", getchar() == EOF && feof(stdin));
		_exit(fclose(stdout));
	}
	reap("stdio in a child", pid);
}

static void inetd(int fd, const char *path, const char *const *argv)
{
	pid_t pid = (pid_t)must("fork", fork());

	if (!pid) {
		dup2(fd, 0);
		dup2(fd, 1);
		dup2(fd, 2);
		close(fd);
		execv(path, (char **)(uintptr_t)argv);
		_exit(99);
	}
	reap(argv[0], pid);
}

void server(int listener)
{
	static const char *const print[] = { "printf", "%s-%d\n", "formatted", "7", NULL };
	static const char *const sed[] = { "sed", "s/^/< /", NULL };
	static const char *const fails[] = { "sed", "-z", "--no-such-option", NULL };
	int fd = peer_accept(listener);

	out_and_back(fd);
	errors(fd);
	inetd(fd, "/usr/bin/printf", print);
	inetd(fd, "/usr/bin/sed", fails);
	close(fd);
	fd = peer_accept(listener);
	in_child(fd);
	close(fd);
	fd = peer_accept(listener);
	inetd(fd, "/usr/bin/sed", sed);
	close(fd);
}

static void show(int fd)
{
	FILE *f = fdopen(fd, "r");
	char line[256];

	while (fgets(line, sizeof(line), f))
		if (!strchr(line, '/')) /* sed's own path and address of its bugs */
			say("%.*s", (int)strcspn(line, "\n"), line);
	fclose(f);
}

void client(void)
{
	int fd = peer_connect();

	show(fd);
	fd = peer_connect();
	write_all(fd, "first line\nword\n", 16);
	must("shutdown", shutdown(fd, SHUT_WR));
	show(fd);
	fd = peer_connect();
	write_all(fd, "a\nb\nc\n", 6);
	must("shutdown", shutdown(fd, SHUT_WR));
	show(fd);
}
