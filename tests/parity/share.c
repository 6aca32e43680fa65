/* SPDX-License-Identifier: BSD-2-Clause */
/* share - one socket under two numbers and in two processes: one description, gone with the last */
#include "parity.h"

void server(int listener)
{
	int fd = peer_accept(listener), twin = (int)must("dup", dup(fd)), status;
	pid_t pid;
	char c;

	nonblocking(twin, true);
	say("O_NONBLOCK through the other number: %d", !!(fcntl(fd, F_GETFL) & O_NONBLOCK));
	nonblocking(fd, false);
	must("F_SETFD", fcntl(twin, F_SETFD, FD_CLOEXEC));
	say("FD_CLOEXEC by number: %d %d", fcntl(fd, F_GETFD), fcntl(twin, F_GETFD));
	close(twin);
	saw("closed twice", close(twin));
	write_all(fd, "1", 1);
	saw("dup2 onto itself", dup2(fd, fd) == fd);
	saw("dup3 onto itself", dup3(fd, fd, 0));
	fflush(stdout);

	pid = (pid_t)must("fork", fork());
	if (!pid) {
		write_all(fd, "2", 1);
		read_all(fd, &c, 1);
		say("child read %c", c);
		_exit(0);
	}
	must("waitpid", waitpid(pid, &status, 0));
	write_all(fd, "3", 1);
	pid = (pid_t)must("fork", fork());
	if (!pid) {
		int mine = peer_accept(listener); /* the listener is shared, too */

		write_all(mine, "c", 1);
		say("child accepted");
		_exit(0);
	}
	tell('a');
	must("waitpid", waitpid(pid, &status, 0));
	pid = (pid_t)must("fork", fork());
	if (!pid) {
		await('b'); /* our parent closed long ago: the connection lives on in us */
		write_all(fd, "4", 1);
		_exit(0);
	}
	close(fd);
	tell('c');
	must("waitpid", waitpid(pid, &status, 0));
	say("child's status %d", status);
}

void client(void)
{
	int fd = peer_connect(), second;
	char buf[4];

	read_all(fd, buf, 2);
	say("read %.2s", buf);
	write_all(fd, "x", 1);
	read_all(fd, buf, 1);
	say("read %.1s", buf);
	await('a');
	second = peer_connect();
	read_all(second, buf, 1);
	say("second: %.1s, then %zd", buf, read(second, buf, 1));
	await('c');
	saw("first not ended by one holder's close", recv(fd, buf, 1, MSG_DONTWAIT));
	tell('b');
	read_all(fd, buf, 1);
	say("read %.1s, then %zd", buf, read(fd, buf, 1));
}
