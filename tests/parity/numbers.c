/* SPDX-License-Identifier: BSD-2-Clause */
/* numbers - what fcntl, ioctl, dup2, close_range and pointers to nowhere do to a connected socket */
#include "parity.h"
#include <linux/close_range.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

static void *volatile nowhere = (void *)16; /* volatile: the compiler shall not know better */

static void pointers(int fd)
{
	char buf[8];

	tell('w');
	say("ready: %s", poll_bits(poll_for(fd, POLLIN, POLLIN)));
	saw("read to nowhere", read(fd, nowhere, 4));
	saw("what could not be copied is still there", read(fd, buf, sizeof(buf)));
	saw("write from nowhere", write(fd, nowhere, 4));
	saw("getpeername to nowhere", getpeername(fd, nowhere, nowhere));
	saw("getsockopt to nowhere", getsockopt(fd, SOL_SOCKET, SO_TYPE, nowhere, nowhere));
	saw("recvmsg to nowhere", recvmsg(fd, nowhere, MSG_DONTWAIT));
	saw("FIONREAD to nowhere", ioctl(fd, FIONREAD, nowhere));
}

static void counts(int listener, int fd)
{
	int n = -1;
	char buf[8];
	struct stat st;

	tell('w');
	poll_for(fd, POLLIN, POLLIN);
	saw("FIONREAD", ioctl(fd, FIONREAD, &n));
	say("%d", n);
	saw("FIONREAD of a listener", ioctl(listener, FIONREAD, &n));
	saw("SIOCOUTQNSD", ioctl(fd, SIOCOUTQNSD, &n));
	say("%d", n);
	saw("read", read(fd, buf, sizeof(buf)));
	saw("TCGETS", ioctl(fd, TCGETS, buf));
	saw("unknown ioctl", ioctl(fd, 0x7fff, 0));
	saw("lseek", lseek(fd, 0, SEEK_CUR));
	saw("pread", pread(fd, buf, 1, 0));
	saw("ftruncate", ftruncate(fd, 0));
	saw("fsync", fsync(fd));
	must("fstat", fstat(fd, &st));
	say("a socket: %d, a terminal: %d", !!S_ISSOCK(st.st_mode), isatty(fd));
}

static void flags(int fd)
{
	int on = 1, off = 0, twin = (int)must("dup", dup(fd));
	char c;

	say("flags %d", fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK | O_APPEND));
	saw("FIONBIO", ioctl(fd, FIONBIO, &on));
	saw("read by the other number", read(twin, &c, 1));
	saw("FIONBIO", ioctl(twin, FIONBIO, &off));
	say("flags %d", fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK));
	saw("FIOCLEX", ioctl(fd, FIOCLEX));
	say("%d %d", fcntl(fd, F_GETFD), fcntl(twin, F_GETFD));
	saw("FIONCLEX", ioctl(fd, FIONCLEX));
	say("%d", fcntl(fd, F_GETFD));
	saw("F_GETOWN", fcntl(fd, F_GETOWN));
	saw("F_SETOWN", fcntl(fd, F_SETOWN, getpid()));
	say("owner is me: %d", fcntl(twin, F_GETOWN) == getpid());
	saw("F_GETSIG", fcntl(fd, F_GETSIG));
	saw("unknown command", fcntl(fd, 9999));
	close(twin);
}

static void copies(int fd)
{
	int high = (int)must("F_DUPFD", fcntl(fd, F_DUPFD, 100));
	int file = (int)must("open", open("/dev/null", O_RDWR));
	char c;

	say("%d %d", high, fcntl(fcntl(fd, F_DUPFD_CLOEXEC, 100), F_GETFD));
	saw("F_DUPFD below zero", fcntl(fd, F_DUPFD, -1));
	saw("socket onto a file", dup2(fd, file) == file);
	tell('w');
	saw("read by that number", read(file, &c, 1));
	saw("bad number onto it", dup2(999, file));
	saw("still the socket", read(file, &c, 1));
	saw("file onto it", dup2(open("/dev/null", O_RDWR), file) == file);
	saw("now the file", read(file, &c, 1));
	saw("dup3 with a bad flag", dup3(fd, file, 1));
	saw("FD_CLOEXEC for a range", close_range(100, 200, CLOSE_RANGE_CLOEXEC));
	say("%d %d", fcntl(100, F_GETFD), fcntl(101, F_GETFD));
	saw("close_range", close_range(100, 200, 0));
	saw("gone", read(100, &c, 1));
	saw("close_range upside down", close_range(200, 100, 0));
	saw("the first is not", read(fd, &c, 1));
}

void server(int listener)
{
	int fd = peer_accept(listener);
	char c;

	pointers(fd);
	counts(listener, fd);
	flags(fd);
	copies(fd);
	tell('q');
	saw("close", close(fd));
	saw("close again", close(fd));
	saw("read", read(fd, &c, 1));
	close(listener);
	for (int i = 4; i < 200; i++) /* the control connection, too; with `both` 3 is the pipe that the client prints to */
		close(i);
	saw("accept", accept(listener, NULL, NULL));
}

/* 4 octets for each w */
void client(void)
{
	int fd = peer_connect(), rounds = 3;
	char c;

	while (rounds--) {
		await('w');
		write_all(fd, "abcd", 4);
	}
	await('q');
	say("then %zd", read(fd, &c, 1));
}
