/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hooks - instructions that the library spends on a call for a descriptor of the kernel's, in a process that has private ones
 *
 * A child makes each call between two break points; its parent steps through it and counts what lies in libownstack.so. Prints
 * "call: count", 0 without the library.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define CALLS(X)                                                                     \
	X("read", read(file, buf, 1))                                                \
	X("write", write(file, buf, 1))                                              \
	X("readv", readv(file, &iov, 1))                                             \
	X("writev", writev(file, &iov, 1))                                           \
	X("recv", recv(pair[0], buf, 1, MSG_DONTWAIT))                               \
	X("send", send(pair[0], buf, 1, MSG_DONTWAIT))                               \
	X("fcntl", fcntl(file, F_GETFL))                                             \
	X("ioctl", ioctl(pair[0], FIONREAD, &n))                                     \
	X("fstat", fstat(file, &st))                                                 \
	X("setsockopt", setsockopt(pair[0], SOL_SOCKET, SO_KEEPALIVE, &n, sizeof(n))) \
	X("epoll_ctl", epoll_ctl(ep, EPOLL_CTL_MOD, pair[0], &ev))                   \
	X("epoll_wait, time-out 0", epoll_wait(ep, &ev, 1, 0))                       \
	X("epoll_wait", epoll_wait(ep, &ev, 1, -1))                                  \
	X("poll of one", poll(&p, 1, 0))                                             \
	X("close", close(spare))

#define BREAK() __asm__ volatile("int3" ::: "memory")

static const char *const names[] = {
#define NAME(name, call) name,
	CALLS(NAME)
#undef NAME
};
enum { N_CALLS = sizeof(names) / sizeof(*names) };

static int child(void)
{
	int file = open("/dev/zero", O_RDWR), spare = open("/dev/null", O_RDONLY), ep = epoll_create1(0), pair[2], n = 1;
	struct epoll_event ev = { .events = EPOLLOUT };
	char buf[16] = "";
	struct iovec iov = { buf, 1 };
	struct stat st;
	struct pollfd p;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) || epoll_ctl(ep, EPOLL_CTL_ADD, pair[0], &ev) || epoll_wait(ep, &ev, 1, -1) != 1)
		return 2;
	p = (struct pollfd){ pair[0], POLLIN, 0 };
	if (ptrace(PTRACE_TRACEME, 0, 0, 0) || raise(SIGSTOP))
		return 2;
#define MAKE(name, call)               \
	BREAK();                       \
	if ((call) < 0 && errno != EAGAIN) \
		return 3;              \
	BREAK();
	CALLS(MAKE)
	return 0;
}

/* Where the library's code is. */
static void library_at(uint64_t *ret_low, uint64_t *ret_high)
{
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned long low, high;
	char line[512], mode[8];

	*ret_low = *ret_high = 0;
	while (f && fgets(line, sizeof(line), f))
		if (strstr(line, "libownstack.so") && sscanf(line, "%lx-%lx %7s", &low, &high, mode) == 3 && mode[2] == 'x') {
			*ret_low = low;
			*ret_high = high;
		}
	if (f)
		fclose(f);
}

static void fail(const char *what)
{
	fprintf(stderr, "hooks: %s\n", what);
	exit(1);
}

static void step_until_stop(pid_t pid, int request)
{
	int status;

	if (ptrace(request, pid, 0, 0) || waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP)
		fail("the child ended");
}

/* The child is behind the first break point. Return: instructions of the library's up to the second */
static long count(pid_t pid, uint64_t low, uint64_t high)
{
	struct user_regs_struct regs;
	siginfo_t info;
	long n = 0;

	for (;;) {
		if (ptrace(PTRACE_GETREGS, pid, 0, &regs))
			fail("PTRACE_GETREGS");
		n += regs.rip >= low && regs.rip < high;
		step_until_stop(pid, PTRACE_SINGLESTEP);
		if (ptrace(PTRACE_GETSIGINFO, pid, 0, &info) == 0 && info.si_code == SI_KERNEL)
			return n; /* the break point's own */
	}
}

int main(void)
{
	struct sockaddr_in any = { .sin_family = AF_INET };
	int l = socket(AF_INET, SOCK_STREAM, 0), status;
	uint64_t low, high;
	pid_t pid;

	if (bind(l, (struct sockaddr *)&any, sizeof(any)) || listen(l, 1))
		fail("listen");
	library_at(&low, &high);
	pid = fork();
	if (!pid)
		_exit(child());
	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		fail("the child did not stop");
	for (int i = 0; i < N_CALLS; i++) {
		step_until_stop(pid, PTRACE_CONT);
		printf("%s: %ld\n", names[i], count(pid, low, high));
	}
	ptrace(PTRACE_CONT, pid, 0, 0);
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
