/* SPDX-License-Identifier: BSD-2-Clause */
/* sigio - a signal where data comes, by F_SETOWN, F_SETSIG, O_ASYNC, FIOASYNC, FIOSETOWN */
#include "parity.h"
#include <sys/ioctl.h>

static void wait_signal(const char *what, const sigset_t *set, int fd)
{
	siginfo_t info;
	int sig;

	do
		sig = sigtimedwait(set, &info, &(struct timespec){ .tv_sec = 2 });
	while (sig > SIGRTMIN && !(info.si_band & POLLIN)); /* that there is room to send is told too, at times of its own */
	if (sig < 0)
		say("%s: %s", what, strerrorname_np(errno));
	else if (sig == SIGIO)
		say("%s: SIGIO", what);
	else
		say("%s: SIGRTMIN+%d, the socket's number: %d", what, sig - SIGRTMIN, info.si_fd == fd);
}

static void drain(const sigset_t *set)
{
	while (sigtimedwait(set, NULL, &(struct timespec){ .tv_nsec = 20000000 }) > 0)
		;
}

static void options(int fd)
{
	struct f_owner_ex ex = { .type = F_OWNER_PID, .pid = getpid() };
	int v = 0;

	saw("F_GETOWN", fcntl(fd, F_GETOWN));
	saw("F_GETSIG", fcntl(fd, F_GETSIG));
	saw("F_SETSIG 1000", fcntl(fd, F_SETSIG, 1000));
	saw("F_SETOWN_EX", fcntl(fd, F_SETOWN_EX, &ex));
	ex = (struct f_owner_ex){ 0 };
	saw("F_GETOWN_EX", fcntl(fd, F_GETOWN_EX, &ex));
	say("  type %d, this process: %d", ex.type, ex.pid == getpid());
	ex.type = 77;
	saw("F_SETOWN_EX, no such type", fcntl(fd, F_SETOWN_EX, &ex));
	saw("F_SETOWN_EX, no memory", fcntl(fd, F_SETOWN_EX, NULL));
	saw("FIOGETOWN", ioctl(fd, FIOGETOWN, &v));
	say("  this process: %d", v == getpid());
	v = 0;
	saw("FIOSETOWN 0", ioctl(fd, FIOSETOWN, &v));
	saw("F_GETOWN", fcntl(fd, F_GETOWN));
	saw("SIOCSPGRP, no memory", ioctl(fd, SIOCSPGRP, NULL));
	saw("FIOASYNC, no memory", ioctl(fd, FIOASYNC, NULL));
}

void server(int listener)
{
	int fd = peer_accept(listener), on = 1;
	sigset_t set;
	char c;

	sigemptyset(&set);
	sigaddset(&set, SIGIO);
	sigaddset(&set, SIGRTMIN + 3);
	must("sigprocmask", sigprocmask(SIG_BLOCK, &set, NULL));
	options(fd);
	saw("F_SETOWN", fcntl(fd, F_SETOWN, getpid()));
	saw("O_ASYNC", fcntl(fd, F_SETFL, O_ASYNC));
	say("flag: %d", !!(fcntl(fd, F_GETFL) & O_ASYNC));
	drain(&set);
	tell('a');
	wait_signal("data", &set, fd);
	read_all(fd, &c, 1);
	saw("F_SETSIG", fcntl(fd, F_SETSIG, SIGRTMIN + 3));
	drain(&set);
	tell('b');
	wait_signal("data", &set, fd);
	read_all(fd, &c, 1);
	on = 0;
	saw("FIOASYNC off", ioctl(fd, FIOASYNC, &on));
	say("flag: %d", !!(fcntl(fd, F_GETFL) & O_ASYNC));
	drain(&set);
	tell('c');
	read_all(fd, &c, 1);
	on = 1;
	saw("FIOASYNC on", ioctl(fd, FIOASYNC, &on));
	drain(&set);
	tell('d');
	wait_signal("end", &set, fd);
	close(fd);
}

void client(void)
{
	int fd = peer_connect();

	await('a');
	write_all(fd, "x", 1);
	await('b');
	write_all(fd, "y", 1);
	await('c');
	write_all(fd, "z", 1);
	await('d');
	close(fd);
}
