/* SPDX-License-Identifier: BSD-2-Clause */
/* emfile - no number is left: accept says so and the connection stays queued; socket says so */
#include "parity.h"
#include <sys/resource.h>

void server(int listener)
{
	struct rlimit old, now;
	int next, fd;

	must("getrlimit", getrlimit(RLIMIT_NOFILE, &old));
	next = (int)must("dup", dup(listener));
	close(next);
	tell('a');
	poll_for(listener, POLLIN, POLLIN);
	now = (struct rlimit){ (rlim_t)next, old.rlim_max };
	must("setrlimit", setrlimit(RLIMIT_NOFILE, &now));
	saw("accept", accept(listener, NULL, NULL));
	saw("socket", socket(AF_INET, SOCK_STREAM, 0));
	saw("dup", dup(listener));
	say("still there: %s", poll_bits(poll_for(listener, POLLIN, POLLIN)));
	must("setrlimit", setrlimit(RLIMIT_NOFILE, &old));
	fd = (int)must("accept", accept(listener, NULL, NULL));
	say("lowest number: %d", fd == next);
	write_all(fd, "x", 1);
	close(fd);
	await('b');
}

void client(void)
{
	int fd;
	char c;

	await('a');
	fd = peer_connect();
	read_all(fd, &c, 1);
	say("read %c", c);
	close(fd);
	tell('b');
}
