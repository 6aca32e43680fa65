/* SPDX-License-Identifier: BSD-2-Clause */
/* bind_after_kill - a port is free as soon as waitpid() has told that its process was killed */
#include "parity.h"

enum { ROUNDS = 40, PORT_APART = 11 };

static int listener_make(bool listening, const char **ret_failed)
{
	struct sockaddr_in a = peer_addr;
	int fd = (int)must("socket", socket(AF_INET, SOCK_STREAM, 0)), on = 1;

	a.sin_port = htons((uint16_t)(ntohs(a.sin_port) + PORT_APART));
	must("SO_REUSEADDR", setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	*ret_failed = bind(fd, (struct sockaddr *)&a, sizeof(a)) ? "bind" : listening && listen(fd, 8) ? "listen" : NULL;
	return fd;
}

/* A process that listens, and has said so */
static pid_t listening_child(void)
{
	int p[2];
	pid_t pid;
	char c;

	must("pipe", pipe(p));
	pid = (pid_t)must("fork", fork());
	if (!pid) {
		const char *failed;

		listener_make(true, &failed);
		c = failed ? 'n' : 'y';
		must("write", write(p[1], &c, 1));
		for (;;)
			pause();
	}
	close(p[1]);
	must("read", read(p[0], &c, 1));
	close(p[0]);
	if (c != 'y')
		say("the child could not listen");
	return pid;
}

static int round_one(void)
{
	const char *failed;
	pid_t pid = listening_child();
	int fd;

	must("kill", kill(pid, SIGKILL));
	must("waitpid", waitpid(pid, NULL, 0));
	fd = listener_make(true, &failed);
	close(fd);
	return failed ? 0 : 1;
}

void server(int listener)
{
	const char *failed;
	int good = 0, fd;
	pid_t pid;

	for (int i = 0; i < ROUNDS; i++)
		good += round_one();
	say("bound and listening after a kill: %d of %d", good, ROUNDS);
	pid = listening_child();
	fd = listener_make(true, &failed);
	say("while it lives: %s fails with %s", failed ? failed : "nothing", failed ? strerrorname_np(errno) : "0");
	must("kill", kill(pid, SIGKILL));
	must("waitpid", waitpid(pid, NULL, 0));
	close(fd);
	(void)listener;
}

void client(void)
{
}
