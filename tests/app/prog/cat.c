/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cat - what comes in on number N goes out on it; linked statically: no library of ours
 *
 *	cat [N]			0 in and 1 out, or N
 *	cat exec N PROGRAM...	echoes the first 5 octets, waits for @PAUSE_MS so that more comes in, then PROGRAM has it as 0 and 1
 *	cat accept N		N listens: each connection is echoed by a child
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PAUSE_MS = 100 };

static int echo(int in, int out, size_t limit)
{
	static char buf[70000];
	ssize_t n;

	while (limit && (n = read(in, buf, limit < sizeof(buf) ? limit : sizeof(buf)))) {
		if (n < 0)
			return 1;
		limit -= (size_t)n;
		for (ssize_t at = 0, m; at < n; at += m) {
			m = write(out, buf + at, (size_t)(n - at));
			if (m < 0)
				return 2;
		}
	}
	return 0;
}

static int and_exec(int fd, char **argv)
{
	if (echo(fd, fd, 5))
		return 1;
	nanosleep(&(struct timespec){ .tv_nsec = PAUSE_MS * 1000000L }, NULL);
	dup2(fd, 0);
	dup2(fd, 1);
	execvp(argv[0], argv);
	return 3;
}

static int serve(int listener)
{
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			return 4;
		if (!fork())
			_exit(echo(fd, fd, (size_t)-1));
		close(fd);
	}
}

int main(int argc, char **argv)
{
	if (argc > 3 && !strcmp(argv[1], "exec"))
		return and_exec(atoi(argv[2]), argv + 3);
	if (argc > 2 && !strcmp(argv[1], "accept"))
		return serve(atoi(argv[2]));
	return argc > 1 ? echo(atoi(argv[1]), atoi(argv[1]), (size_t)-1) : echo(0, 1, (size_t)-1);
}
