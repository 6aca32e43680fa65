/* SPDX-License-Identifier: BSD-2-Clause */
/* cancel - pthread_cancel() of threads that wait in accept, read, poll and epoll_wait; the socket goes on afterwards */
#include "parity.h"
#include <pthread.h>

static int fd, listener_fd, epfd, cleaned;

static void cleanup(void *arg)
{
	(void)arg;
	cleaned++;
}

static void wait_in(int which)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct epoll_event ev;
	char c;

	if (which == 0)
		saw("accept", accept(listener_fd, NULL, NULL));
	if (which == 1)
		saw("read", read(fd, &c, 1));
	if (which == 2)
		saw("poll", poll(&p, 1, -1));
	if (which == 3)
		saw("epoll_wait", epoll_wait(epfd, &ev, 1, -1));
}

static void *waiter(void *arg)
{
	pthread_cleanup_push(cleanup, NULL);
	wait_in((int)(intptr_t)arg);
	pthread_cleanup_pop(0);
	return NULL;
}

void server(int listener)
{
	struct epoll_event ev = { .events = EPOLLIN };
	char c;

	listener_fd = listener;
	fd = peer_accept(listener);
	epfd = (int)must("epoll_create1", epoll_create1(0));
	must("epoll_ctl", epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev));
	for (intptr_t i = 0; i < 4; i++)
		for (int early = 0; early < 2; early++) {
			pthread_t th;
			void *ret;

			must("pthread_create", -pthread_create(&th, NULL, waiter, (void *)i));
			if (!early) /* usually asleep by then; right in either case */
				nanosleep(&(struct timespec){ .tv_nsec = 30000000 }, NULL);
			must("pthread_cancel", -pthread_cancel(th));
			must("pthread_join", -pthread_join(th, &ret));
			say("%d cancelled: %d, cleaned: %d", (int)i, ret == PTHREAD_CANCELED, cleaned);
		}
	tell('w');
	saw("epoll_wait", epoll_wait(epfd, &ev, 1, -1));
	saw("read", read(fd, &c, 1));
	tell('c');
	saw("accept", accept(listener, NULL, NULL) >= 0);
}

void client(void)
{
	int c = peer_connect();

	await('w');
	write_all(c, "x", 1);
	await('c');
	peer_connect();
	say("done");
}
