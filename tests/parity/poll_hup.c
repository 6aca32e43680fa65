/* SPDX-License-Identifier: BSD-2-Clause */
/* poll_hup - poll's bits from fresh socket to reset; odd arguments; select's view of the same */
#include "parity.h"
#include <sys/select.h>

#define ALL (POLLIN | POLLOUT | POLLPRI | POLLRDHUP | POLLRDNORM | POLLWRNORM)

static void select_say(const char *when, int fd)
{
	fd_set rd, wr, ex;
	struct timeval tv = { 0 };
	int n;

	FD_ZERO(&rd);
	FD_ZERO(&wr);
	FD_ZERO(&ex);
	FD_SET(fd, &rd);
	FD_SET(fd, &wr);
	FD_SET(fd, &ex);
	n = select(fd + 1, &rd, &wr, &ex, &tv);
	say("%s: select %d, read %d, write %d, except %d", when, n, !!FD_ISSET(fd, &rd), !!FD_ISSET(fd, &wr), !!FD_ISSET(fd, &ex));
}

void server(int listener)
{
	int fd = peer_accept(listener), gone;
	struct pollfd odd[4];
	fd_set bad;

	say("established: %s", poll_bits(poll_for(fd, ALL, 0)));
	select_say("established", fd);
	gone = dup(fd);
	close(gone);
	odd[0] = (struct pollfd){ .fd = -5, .events = POLLIN };
	odd[1] = (struct pollfd){ .fd = gone, .events = POLLIN };
	odd[2] = odd[3] = (struct pollfd){ .fd = fd, .events = POLLOUT };
	saw("poll of -5, closed, same twice", poll(odd, 4, 0));
	for (int i = 0; i < 4; i++)
		say("  %s", poll_bits((unsigned)odd[i].revents));
	FD_ZERO(&bad);
	FD_SET(gone, &bad);
	FD_SET(fd, &bad);
	saw("select with a closed number", select(fd + gone, &bad, NULL, NULL, &(struct timeval){ 0 }));
	saw("poll with time-out", poll(odd, 1, 20));
	tell('a');
	say("data: %s", poll_bits(poll_for(fd, ALL, POLLIN)));
	select_say("data", fd);
	tell('b');
	say("data and end: %s", poll_bits(poll_for(fd, ALL, POLLRDHUP)));
	say("only HUP and ERR asked: %s", poll_bits(poll_for(fd, 0, 0)));
	shutdown(fd, SHUT_WR);
	say("both shut: %s", poll_bits(poll_for(fd, ALL, POLLHUP)));
	select_say("both shut", fd);
	close(fd);

	fd = peer_accept(listener);
	tell('c');
	say("reset: %s", poll_bits(poll_for(fd, ALL, POLLERR)));
	select_say("reset", fd);
	saw("read takes the error", read(fd, &gone, 1));
	saw("then end of stream", read(fd, &gone, 1));
	say("after it: %s", poll_bits(poll_for(fd, ALL, 0)));
	close(fd);
}

void client(void)
{
	int fd = (int)must("socket", socket(AF_INET, SOCK_STREAM, 0));

	say("fresh socket: %s", poll_bits(poll_for(fd, ALL, 0)));
	must("connect", connect(fd, (struct sockaddr *)&peer_addr, sizeof(peer_addr)));
	await('a');
	write_all(fd, "x", 1);
	await('b');
	shutdown(fd, SHUT_WR);
	poll_for(fd, POLLIN, POLLIN);
	close(fd);

	fd = peer_connect();
	await('c');
	must("SO_LINGER", setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 }, sizeof(struct linger)));
	close(fd);
}
