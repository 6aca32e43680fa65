/* SPDX-License-Identifier: BSD-2-Clause */
/* nonblock - what does not wait says so, by all four ways of asking */
#include "parity.h"
#include <sys/ioctl.h>

void server(int listener)
{
	static char buf[65536];
	int fd, on = 1;
	size_t drained = 0;
	ssize_t n;

	nonblocking(listener, true);
	saw("accept with nobody there", accept(listener, NULL, NULL));
	tell('a');
	say("listener readable: %s", poll_bits(poll_for(listener, POLLIN, POLLIN)));
	fd = (int)must("accept", accept(listener, NULL, NULL));
	say("accepted inherits O_NONBLOCK: %d", !!(fcntl(fd, F_GETFL) & O_NONBLOCK));
	saw("recv MSG_DONTWAIT", recv(fd, buf, 1, MSG_DONTWAIT));
	must("FIONBIO", ioctl(fd, FIONBIO, &on));
	say("F_GETFL after FIONBIO: %d", !!(fcntl(fd, F_GETFL) & O_NONBLOCK));
	saw("read", read(fd, buf, 1));
	tell('b');
	await('c');
	while ((n = read(fd, buf, sizeof(buf))) > 0 || (n == -1 && errno == EAGAIN)) {
		if (n > 0)
			drained += (size_t)n;
		else
			poll_for(fd, POLLIN, POLLIN);
	}
	say("end of stream: %zd, drained more than a send buffer's least: %d", n, drained > 4096);
	close(fd);
	tell('d');
	fd = (int)must("accept4", poll_for(listener, POLLIN, POLLIN) ? accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC) : -1);
	say("accept4: O_NONBLOCK %d, FD_CLOEXEC %d", !!(fcntl(fd, F_GETFL) & O_NONBLOCK), fcntl(fd, F_GETFD));
	saw("accept4 with a bad flag", accept4(listener, NULL, NULL, 0x40000000));
	close(fd);
}

void client(void)
{
	static char buf[65536];
	int fd = (int)must("socket", socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)), err = -1;
	socklen_t len = sizeof(err);
	ssize_t n;

	await('a');
	saw("write before connect", send(fd, "x", 1, MSG_NOSIGNAL));
	n = connect(fd, (struct sockaddr *)&peer_addr, sizeof(peer_addr));
	say("connect: %s", n == 0 || errno == EINPROGRESS ? "under way" : strerrorname_np(errno));
	say("writable: %s", poll_bits(poll_for(fd, POLLOUT, POLLOUT)));
	must("SO_ERROR", getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len));
	say("SO_ERROR: %d", err);
	saw("second connect", connect(fd, (struct sockaddr *)&peer_addr, sizeof(peer_addr)));
	saw("third connect", connect(fd, (struct sockaddr *)&peer_addr, sizeof(peer_addr)));
	await('b');
	while ((n = write(fd, buf, sizeof(buf))) > 0)
		;
	saw("write into a full buffer", n);
	say("writable when full: %s", poll_bits(poll_for(fd, POLLOUT, 0)));
	tell('c');
	say("writable when drained: %s", poll_bits(poll_for(fd, POLLOUT, POLLOUT)));
	close(fd);
	await('d');
	close(peer_connect());
}
