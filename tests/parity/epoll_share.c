/* SPDX-License-Identifier: BSD-2-Clause */
/* epoll_share - a set used by many: one of several exclusive sleepers wakes, maxevents in turn, over fork, nested, with a mask */
#include <pthread.h>
#include <stdatomic.h>
#include "parity.h"

static void add(int ep, int fd, unsigned events, uint32_t data)
{
	struct epoll_event ev = { .events = events, .data.u32 = data };

	must("ADD", epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
}

static int tcp_listener(struct sockaddr_in *ret)
{
	int l = (int)must("socket", socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	socklen_t len = sizeof(*ret);

	*ret = peer_addr;
	ret->sin_port = 0;
	must("bind", bind(l, (struct sockaddr *)ret, len));
	must("listen", listen(l, 16));
	must("getsockname", getsockname(l, (struct sockaddr *)ret, &len));
	return l;
}

/* ---- EPOLLEXCLUSIVE ---- */

enum { N_SLEEPERS = 4, SLEEP_MS = 400 };
static _Atomic int n_asleep, n_woken;
static int shared_listener;
static bool accepts;

static void *exclusive_sleeper(void *arg)
{
	struct epoll_event ev;
	int ep = *(int *)arg;

	n_asleep++;
	if (epoll_wait(ep, &ev, 1, SLEEP_MS) != 1)
		return NULL;
	n_woken++;
	if (accepts)
		close(accept(shared_listener, NULL, NULL));
	return NULL;
}

/* Each in a set of its own: with EPOLLEXCLUSIVE one learns of a connection, and takes it; without it all do, and nobody does. */
static int exclusive_once(unsigned flag)
{
	int ep[N_SLEEPERS], l, c = (int)must("socket", socket(AF_INET, SOCK_STREAM, 0));
	pthread_t thread[N_SLEEPERS];
	struct sockaddr_in at;

	shared_listener = l = tcp_listener(&at);
	accepts = flag;
	n_asleep = n_woken = 0;
	for (int i = 0; i < N_SLEEPERS; i++) {
		ep[i] = (int)must("epoll_create1", epoll_create1(0));
		add(ep[i], l, EPOLLIN | flag, 0);
		pthread_create(&thread[i], NULL, exclusive_sleeper, &ep[i]);
	}
	while (n_asleep < N_SLEEPERS)
		;
	nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
	must("connect", connect(c, (struct sockaddr *)&at, sizeof(at)));
	for (int i = 0; i < N_SLEEPERS; i++)
		pthread_join(thread[i], NULL);
	for (int i = 0; i < N_SLEEPERS; i++)
		close(ep[i]);
	close(l);
	close(c);
	return n_woken;
}

/* Where the one is kept from the processor for some milliseconds, ours tells the others (docs/compatibility.md): so not once. */
static void exclusive(unsigned flag)
{
	int tries = 0, n;

	do
		n = exclusive_once(flag);
	while (flag && n != 1 && ++tries < 5);
	say("%s: %s", flag ? "exclusive" : "not exclusive", n == 1 ? "one woken" : n == N_SLEEPERS ? "all woken" : "some woken");
}

/* ---- maxevents ---- */

static void take(const char *when, int ep, int max)
{
	struct epoll_event ev[8];
	int n = epoll_wait(ep, ev, max, 0);
	char text[64] = "";

	for (int i = 0; i < n; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), " %u", ev[i].data.u32);
	say("%s: %d:%s", when, n, text);
}

static void in_turn(int *fd, int n)
{
	int ep = (int)must("epoll_create1", epoll_create1(0));

	for (int i = 0; i < n; i++)
		add(ep, fd[i], EPOLLIN, (uint32_t)i);
	for (int i = 0; i < 5; i++)
		take("two at a time", ep, 2);
	for (int i = 0; i < 6; i++)
		take("one at a time", ep, 1);
	take("all", ep, 8);
	take("none", ep, 0);
	close(ep);
	ep = (int)must("epoll_create1", epoll_create1(0));
	for (int i = 0; i < n; i++)
		add(ep, fd[i], EPOLLIN | EPOLLET, (uint32_t)i);
	for (int i = 0; i < 4; i++)
		take("edges, two at a time", ep, 2);
	close(ep);
}

/* ---- fork ---- */

static void over_fork(const int *fd)
{
	int ep = (int)must("epoll_create1", epoll_create1(0)), status;
	pid_t pid;

	add(ep, fd[0], EPOLLIN, 10);
	fflush(stdout);
	pid = (pid_t)must("fork", fork());
	if (!pid) {
		take("child", ep, 8);
		add(ep, fd[1], EPOLLIN, 11);
		take("child, one more", ep, 8);
		saw("child, ADD again", epoll_ctl(ep, EPOLL_CTL_ADD, fd[0], &(struct epoll_event){ .events = EPOLLIN }));
		must("MOD", epoll_ctl(ep, EPOLL_CTL_MOD, fd[0], &(struct epoll_event){ .events = EPOLLIN, .data.u32 = 12 }));
		close(fd[0]);
		close(fd[1]);
		fflush(stdout);
		_exit(0);
	}
	must("waitpid", waitpid(pid, &status, 0));
	take("parent, after the child", ep, 8);
	saw("parent, DEL of the child's", epoll_ctl(ep, EPOLL_CTL_DEL, fd[1], NULL));
	take("parent", ep, 8);
	close(ep);
}

/* ---- nesting ---- */

static void nested(int fd)
{
	int ep[8], n = 8;

	for (int i = 0; i < n; i++)
		ep[i] = (int)must("epoll_create1", epoll_create1(0));
	add(ep[0], fd, EPOLLIN, 0);
	for (int i = 1; i < n; i++)
		saw("one deeper", epoll_ctl(ep[i], EPOLL_CTL_ADD, ep[i - 1], &(struct epoll_event){ .events = EPOLLIN, .data.u32 = (uint32_t)i }));
	for (int i = 0; i < n; i++)
		say("depth %d: %s", i, poll_bits(poll_for(ep[i], POLLIN, 0)));
	saw("a circle", epoll_ctl(ep[0], EPOLL_CTL_ADD, ep[2], &(struct epoll_event){ .events = EPOLLIN }));
	saw("itself", epoll_ctl(ep[0], EPOLL_CTL_ADD, ep[0], &(struct epoll_event){ .events = EPOLLIN }));
	take("third from the bottom", ep[2], 8);
	for (int i = 0; i < n; i++)
		close(ep[i]);
}

/* ---- epoll_pwait ---- */

static volatile sig_atomic_t handled;

static void on_usr1(int sig)
{
	(void)sig;
	handled++;
}

static void with_mask(int ready, int quiet)
{
	int ep = (int)must("epoll_create1", epoll_create1(0));
	sigset_t none, usr1, pending;
	struct epoll_event ev;

	sigemptyset(&none);
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	signal(SIGUSR1, on_usr1);
	must("sigprocmask", sigprocmask(SIG_BLOCK, &usr1, NULL));
	add(ep, quiet, EPOLLIN, 1);
	raise(SIGUSR1);
	saw("blocked, a wait without a mask", epoll_wait(ep, &ev, 1, 20));
	say("handled %d", handled);
	saw("the mask lets it in", epoll_pwait(ep, &ev, 1, 2000, &none));
	say("handled %d", handled);
	raise(SIGUSR1);
	saw("time-out 0", epoll_pwait(ep, &ev, 1, 0, &none));
	say("handled %d", handled);
	sigpending(&pending);
	if (sigismember(&pending, SIGUSR1))
		say("still pending");
	add(ep, ready, EPOLLIN, 2);
	raise(SIGUSR1);
	saw("an event is there already", epoll_pwait(ep, &ev, 1, 2000, &none));
	say("handled %d", handled);
	saw("pwait2", epoll_pwait2(ep, &ev, 1, &(struct timespec){ .tv_nsec = 1 }, &usr1));
	must("sigprocmask", sigprocmask(SIG_UNBLOCK, &usr1, NULL));
	say("handled %d", handled);
	close(ep);
}

void server(int listener)
{
	int fd[5], quiet;

	exclusive(EPOLLEXCLUSIVE);
	exclusive(0);
	for (int i = 0; i < 5; i++) {
		fd[i] = peer_accept(listener);
		poll_for(fd[i], POLLIN, POLLIN);
	}
	quiet = peer_accept(listener);
	in_turn(fd, 5);
	over_fork(fd);
	nested(fd[0]);
	with_mask(fd[0], quiet);
	tell('e');
}

void client(void)
{
	int fd[6];

	for (int i = 0; i < 6; i++) {
		fd[i] = peer_connect();
		if (i < 5)
			write_all(fd[i], "x", 1);
	}
	await('e');
	for (int i = 0; i < 6; i++)
		close(fd[i]);
}
