/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A thread for each connection, many of them short: what a thread leaves behind when it ends must not disturb the one that
 * comes after it. Each waits before its request is there, so that each has to be woken.
 */
#include <pthread.h>
#include <sched.h>
#include "parity.h"

enum { EACH = 150, AT_ONCE = 8 };

static void *serve(void *arg)
{
	int fd = (int)(intptr_t)arg;
	struct pollfd p[2] = { { .fd = fd, .events = POLLIN }, { .fd = control_fd(), .events = POLLPRI } };
	char c;

	if (poll(p, 2, 5000) == 1 && read(fd, &c, 1) == 1 && write(fd, &c, 1) != 1)
		say("write: %s", strerror(errno));
	close(fd);
	return NULL;
}

void server(int listener)
{
	pthread_attr_t attr;
	pthread_t t;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	for (int i = 0; i < EACH * AT_ONCE; i++)
		if (pthread_create(&t, &attr, serve, (void *)(intptr_t)peer_accept(listener)))
			say("pthread_create failed");
	await('d');
	say("served");
}

/* Each on its own, so that threads of the server come while others go. */
static void *ask(void *arg)
{
	int *answers = arg;

	for (int i = 0; i < EACH; i++) {
		int fd = peer_connect();
		struct pollfd p = { .fd = fd, .events = POLLIN };
		char c;

		sched_yield();
		write_all(fd, "x", 1);
		if (poll(&p, 1, 2000) == 1 && read(fd, &c, 1) == 1)
			++*answers;
		close(fd);
	}
	return NULL;
}

void client(void)
{
	pthread_t t[AT_ONCE];
	int answers[AT_ONCE] = { 0 };

	for (int i = 0; i < AT_ONCE; i++)
		must("pthread_create", -pthread_create(&t[i], NULL, ask, &answers[i]));
	for (int i = 0; i < AT_ONCE; i++) {
		pthread_join(t[i], NULL);
		say("%d answers", answers[i]);
	}
	tell('d');
}
