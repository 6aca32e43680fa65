/* SPDX-License-Identifier: BSD-2-Clause */
/* memlock - a thread of a program that gave up root, and may lock little memory, waits like any other */
#include <grp.h>
#include <pthread.h>
#include <sys/resource.h>
#include "parity.h"

static void *echo(void *arg)
{
	int fd = *(int *)arg;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char buf[8] = "";

	saw("read", read(fd, buf, 1));
	saw("write", write(fd, buf, 1));
	saw("poll", poll(&p, 1, 5000));
	saw("read", read(fd, buf, 1));
	saw("write", write(fd, buf, 1));
	saw("poll that ends by time", poll(&p, 1, 30));
	saw("read the end", read(fd, buf, 1));
	return NULL;
}

void server(int listener)
{
	struct rlimit little = { 10 * 4096, 10 * 4096 }; /* enough for a small ring, not for one to work with */
	int fd = peer_accept(listener);
	pthread_t t;

	must("setrlimit", setrlimit(RLIMIT_MEMLOCK, &little));
	must("setgroups", setgroups(0, NULL));
	must("setuid", setuid(54321));
	tell('g');
	for (int i = 0; i < 3; i++) { /* one after another, each with means of its own */
		must("pthread_create", -pthread_create(&t, NULL, echo, &fd));
		pthread_join(t, NULL);
		close(fd);
		if (i < 2)
			fd = peer_accept(listener);
	}
}

void client(void)
{
	for (int i = 0; i < 3; i++) {
		int fd = peer_connect();
		char c;

		if (!i)
			await('g');
		for (int k = 0; k < 2; k++) {
			struct timespec a_moment = { .tv_nsec = 20000000 }; /* so that the other side waits */

			nanosleep(&a_moment, NULL);
			write_all(fd, "x", 1);
			read_all(fd, &c, 1);
		}
		say("%c", c);
		usleep(100000);
		close(fd);
	}
}
