/* SPDX-License-Identifier: BSD-2-Clause */
/* signals - which waits a handler ends, which go on; and masks that are swapped in for the wait alone */
#include "parity.h"
#include <setjmp.h>
#include <sys/select.h>

static volatile int runs;
static sigjmp_buf out;
static volatile bool jump;

static void on_signal(int sig)
{
	(void)sig;
	runs++;
	if (jump)
		siglongjmp(out, 1);
}

static void arm(int flags, long ns)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = flags };
	struct sigevent se = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	struct itimerspec when = { .it_value.tv_nsec = ns };
	static timer_t timer;
	static bool made;

	must("sigaction", sigaction(SIGUSR1, &sa, NULL));
	if (!made)
		must("timer_create", timer_create(CLOCK_MONOTONIC, &se, &timer));
	made = true;
	runs = 0;
	must("timer_settime", timer_settime(timer, 0, &when, NULL));
}

#define MS 1000000L

void server(int listener)
{
	int fd = peer_accept(listener), ep = epoll_create1(0);
	struct epoll_event ev = { .events = EPOLLIN };
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct timeval tv = { 1, 0 };
	sigset_t block, none;
	fd_set rd;
	char c;

	must("ADD", epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
	arm(0, 30 * MS);
	saw("recv, no SA_RESTART", recv(fd, &c, 1, 0));
	arm(SA_RESTART, 30 * MS);
	tell('a'); /* an octet in 100 ms */
	saw("recv, SA_RESTART", recv(fd, &c, 1, 0));
	say("handler ran %d", runs);
	must("SO_RCVTIMEO", setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	arm(SA_RESTART, 30 * MS);
	saw("recv with a time-out, SA_RESTART", recv(fd, &c, 1, 0));
	tv.tv_sec = 0;
	must("SO_RCVTIMEO", setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	arm(SA_RESTART, 30 * MS);
	saw("poll, SA_RESTART", poll(&p, 1, 2000));
	arm(SA_RESTART, 30 * MS);
	saw("epoll_wait, SA_RESTART", epoll_wait(ep, &ev, 1, 2000));
	arm(SA_RESTART, 30 * MS);
	FD_ZERO(&rd);
	FD_SET(fd, &rd);
	saw("select, SA_RESTART", select(fd + 1, &rd, NULL, NULL, &(struct timeval){ 2, 0 }));
	arm(SA_RESTART, 30 * MS);
	saw("accept, then a connection", (tell('b'), accept(listener, NULL, NULL)) >= 0);

	sigemptyset(&none);
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	must("sigprocmask", sigprocmask(SIG_BLOCK, &block, NULL));
	arm(0, 10 * MS);
	saw("blocked: poll runs out", poll(&p, 1, 60));
	say("handler ran %d", runs);
	saw("pending: ppoll that lets it in", ppoll(&p, 1, &(struct timespec){ 2, 0 }, &none));
	say("handler ran %d", runs);
	arm(0, 30 * MS);
	saw("epoll_pwait that lets it in", epoll_pwait(ep, &ev, 1, 2000, &none));
	say("handler ran %d", runs);
	must("sigprocmask", sigprocmask(SIG_UNBLOCK, &block, NULL));

	jump = true;
	if (!sigsetjmp(out, 1)) {
		arm(0, 30 * MS);
		saw("left by siglongjmp: not printed", recv(fd, &c, 1, 0));
	}
	jump = false;
	say("handler jumped out, ran %d", runs);
	tell('c');
	read_all(fd, &c, 1);
	say("socket still works: %c", c);
	close(fd);
}

void client(void)
{
	int fd = peer_connect(), other;

	await('a');
	nanosleep(&(struct timespec){ .tv_nsec = 100 * MS }, NULL);
	write_all(fd, "x", 1);
	await('b');
	nanosleep(&(struct timespec){ .tv_nsec = 100 * MS }, NULL);
	other = peer_connect();
	await('c');
	write_all(fd, "y", 1);
	read_all(fd, &(char){ 0 }, 0);
	close(other);
	close(fd);
}
