/* SPDX-License-Identifier: BSD-2-Clause */
/* linger_rst - closes that reset, and how the other side learns of them */
#include "parity.h"

void server(int listener)
{
	int fd = peer_accept(listener);
	char c;

	tell('a');
	poll_for(fd, POLLIN, POLLERR);
	saw("SO_LINGER 0: read", read(fd, &c, 1));
	saw("read again", read(fd, &c, 1));
	saw("write", send(fd, "x", 1, MSG_NOSIGNAL));
	close(fd);

	fd = peer_accept(listener);
	write_all(fd, "unread", 6);
	tell('b');
	poll_for(fd, POLLIN, POLLERR);
	saw("closed with unread data: read", read(fd, &c, 1));
	close(fd);

	fd = peer_accept(listener);
	tell('c');
	poll_for(fd, POLLIN | POLLRDHUP, POLLRDHUP);
	saw("plain close: read", read(fd, &c, 1));
	saw("first write goes out", send(fd, "x", 1, MSG_NOSIGNAL));
	poll_for(fd, POLLIN, POLLERR);
	saw("second write", send(fd, "x", 1, MSG_NOSIGNAL));
	saw("third write", send(fd, "x", 1, MSG_NOSIGNAL));
	close(fd);

	fd = peer_accept(listener);
	must("SO_LINGER", setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 5 }, sizeof(struct linger)));
	write_all(fd, "last", 4);
	saw("lingering close", close(fd));
	await('d');
}

void client(void)
{
	int fd = peer_connect();
	char buf[8];

	await('a');
	must("SO_LINGER", setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 }, sizeof(struct linger)));
	saw("close", close(fd));

	fd = peer_connect();
	await('b');
	poll_for(fd, POLLIN, POLLIN);
	saw("close", close(fd));

	fd = peer_connect();
	await('c');
	saw("close", close(fd));

	fd = peer_connect();
	read_all(fd, buf, 4);
	say("lingered for: %.4s", buf);
	saw("end", read(fd, buf, 1));
	tell('d');
	close(fd);
}
