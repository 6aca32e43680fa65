/* SPDX-License-Identifier: BSD-2-Clause */
/* shutdown - each direction by itself, and what comes after it */
#include "parity.h"
#include <pthread.h>

static volatile int sigpipes;

static void on_sigpipe(int sig)
{
	(void)sig;
	sigpipes++;
}

static void *accept_blocked(void *arg)
{
	static int err;

	err = accept(*(int *)arg, NULL, NULL) < 0 ? errno : 0;
	return &err;
}

void server(int listener)
{
	int fd = peer_accept(listener);
	char buf[16];
	pthread_t thread;
	void *err;

	read_all(fd, buf, 2);
	saw("read after peer's SHUT_WR", read(fd, buf, sizeof(buf)));
	saw("still writing", write(fd, "pong", 4));
	await('a');
	signal(SIGPIPE, on_sigpipe);
	saw("SHUT_WR", shutdown(fd, SHUT_WR));
	saw("write after SHUT_WR", write(fd, "x", 1));
	saw("send MSG_NOSIGNAL after SHUT_WR", send(fd, "x", 1, MSG_NOSIGNAL));
	say("SIGPIPEs: %d", sigpipes);
	saw("shutdown with a bad direction", shutdown(fd, 3));
	tell('b');
	await('c');
	close(fd);
	must("pthread_create", pthread_create(&thread, NULL, accept_blocked, &listener));
	nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL); /* until it sleeps; it would be EINVAL as well if not */
	saw("shutdown of the listener", shutdown(listener, SHUT_RD));
	pthread_join(thread, &err);
	say("blocked accept: %s", strerrorname_np(*(int *)err));
	saw("accept again", accept(listener, NULL, NULL));
	saw("listen again", listen(listener, 4));
	say("shut listener: %s", poll_bits(poll_for(listener, POLLIN | POLLOUT, 0)));
}

void client(void)
{
	int fd = peer_connect(), fresh = (int)must("socket", socket(AF_INET, SOCK_STREAM, 0));
	char buf[16];

	saw("shutdown before connect", shutdown(fresh, SHUT_RDWR));
	close(fresh);
	write_all(fd, "hi", 2);
	saw("SHUT_WR", shutdown(fd, SHUT_WR));
	saw("SHUT_WR again", shutdown(fd, SHUT_WR));
	read_all(fd, buf, 4);
	say("read back: %.4s", buf);
	saw("SHUT_RD", shutdown(fd, SHUT_RD));
	saw("read after SHUT_RD", read(fd, buf, sizeof(buf)));
	tell('a');
	await('b');
	say("both directions done: %s", poll_bits(poll_for(fd, POLLIN | POLLOUT | POLLRDHUP, POLLHUP)));
	tell('c');
	close(fd);
}
