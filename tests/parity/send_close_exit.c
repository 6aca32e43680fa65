/* SPDX-License-Identifier: BSD-2-Clause */
/* send_close_exit - 10 MiB sent, closed, and the process ends at once by _exit, exit or a signal: all of it arrives */
#include "parity.h"

#define BYTES (10 << 20)
static uint8_t buf[BYTES];

static void child_sends(int how)
{
	int fd = peer_connect();

	fill(buf, sizeof(buf), 5);
	write_all(fd, buf, sizeof(buf));
	if (how == 0)
		close(fd);
	if (how == 2)
		raise(SIGKILL);
	if (how == 3)
		exit(0);
	_exit(0);
}

void client(void)
{
	int status;

	for (int how = 0; how < 4; how++) {
		pid_t pid = (pid_t)must("fork", fork());

		if (!pid)
			child_sends(how);
		must("waitpid", waitpid(pid, &status, 0));
		say("way %d: %s", how, WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "exited");
		await('a');
	}
}

void server(int listener)
{
	for (int how = 0; how < 4; how++) {
		int fd = peer_accept(listener);
		size_t total = 0;
		uint64_t h = 0;
		ssize_t n;

		while ((n = must("read", read(fd, buf, sizeof(buf)))) > 0) {
			h = digest(h, buf, (size_t)n);
			total += (size_t)n;
		}
		say("way %d: received %zu, digest %016lx", how, total, (unsigned long)h);
		close(fd);
		tell('a');
	}
}
