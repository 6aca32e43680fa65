/* SPDX-License-Identifier: BSD-2-Clause */
/* run_fd.c - calls on descriptors as such, and what makes others than sockets */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "callfuzz.h"

void run_close(struct actor *a, const struct call *c)
{
	int obj = world.slot[c->a].obj, fd = arg_fd(c, c->a), r;

	text(a, "close(s%d)", c->a);
	if (fd_busy(c->a)) {
		result(a, "left out: a thread waits there");
		return;
	}
	if (fd == 0) /* BAD_FD_KIND */
		fd = -1;
	r = close(fd);
	gave(a, r);
	if (fd >= 0 && fd == slot_fd(c->a)) {
		slot_gone(c->a);
		settle(obj);
	}
}

/* Other slots that hold a number in [fd, fd] do not exist: one slot, one number. */
void run_close_range(struct actor *a, const struct call *c)
{
	int obj = world.slot[c->a].obj, fd = slot_fd(c->a), r;
	unsigned flags = c->bad ? 8 : c->c ? CLOSE_RANGE_CLOEXEC : 0;

	text(a, "close_range(s%d, s%d, %u)", c->a, c->a, flags);
	if (fd_busy(c->a) || fd < 0) {
		result(a, "left out");
		return;
	}
	r = c->bad ? close_range((unsigned)fd, (unsigned)fd - 1, 0) : close_range((unsigned)fd, (unsigned)fd, (int)flags);
	gave(a, r);
	if (r == 0 && !flags) {
		slot_gone(c->a);
		settle(obj);
	}
}

void run_dup(struct actor *a, const struct call *c)
{
	static const int cmds[] = { F_DUPFD, F_DUPFD_CLOEXEC };
	int obj = world.slot[c->a].obj, fd = arg_fd(c, c->a), least = c->bad == BAD_LEN_NEGATIVE ? -1 : (int)(c->y % 4 ? 0 : c->y % 60), r;

	text(a, "s%d = %s(s%d, %d)", c->b, c->x % 3 ? "fcntl dup" : "dup", c->a, least);
	if (slot_obj(c->a) && slot_obj(c->a)->what == W_EPOLL && !slot_obj(c->a)->has_member) {
		result(a, "left out: an epoll set without members");
		return;
	}
	r = c->x % 3 == 0 ? dup(fd) : fcntl(fd, cmds[c->x & 1], least);
	gave(a, r);
	if (r >= 0)
		slot_set(c->b, r, fd == slot_fd(c->a) ? obj : -1);
}

/* The pair lies far up, so that its numbers are nobody's. */
static int pass_pair[2] = { -1, -1 };

static bool pass_ready(void)
{
	int low[2];

	if (pass_pair[0] >= 0)
		return true;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, low))
		return false;
	for (int i = 0; i < 2; i++) {
		pass_pair[i] = fcntl(low[i], F_DUPFD_CLOEXEC, OWN_FDS_FROM);
		close(low[i]);
	}
	return true;
}

static int pass(int fd, int flags)
{
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control = { .head = { .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	struct iovec iov = { &(char){ 'p' }, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	int to;

	memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
	if (sendmsg(pass_pair[0], &m, MSG_DONTWAIT) < 0)
		return -1;
	m.msg_controllen = sizeof(control);
	if (recvmsg(pass_pair[1], &m, MSG_DONTWAIT | flags) < 0 || m.msg_controllen != sizeof(control))
		return -1;
	memcpy(&to, CMSG_DATA(&control.head), sizeof(to));
	return to;
}

void run_pass(struct actor *a, const struct call *c)
{
	const struct object *o = slot_obj(c->a);
	int obj = world.slot[c->a].obj, fd = arg_fd(c, c->a), r;

	text(a, "s%d = s%d in a message", c->b, c->a);
	if (!pass_ready() || (o && o->what == W_EPOLL)) {
		result(a, "left out"); /* docs/compatibility.md */
		return;
	}
	r = pass(fd, c->x & 1 ? MSG_CMSG_CLOEXEC : 0);
	gave(a, r);
	if (r >= 0)
		slot_set(c->b, r, fd == slot_fd(c->a) ? obj : -1);
}

void run_dup_onto(struct actor *a, const struct call *c)
{
	int obj = world.slot[c->a].obj, old_obj = world.slot[c->b].obj, fd = arg_fd(c, c->a), to = slot_fd(c->b), r;
	bool three = c->x & 1;

	if (c->bad == BAD_LEN_NEGATIVE)
		to = -1;
	text(a, "%s(s%d, s%d)", three ? "dup3" : "dup2", c->a, c->b);
	if (fd_busy(c->b)) {
		result(a, "left out: a thread waits there");
		return;
	}
	if (slot_obj(c->a) && slot_obj(c->a)->what == W_EPOLL && !slot_obj(c->a)->has_member) {
		result(a, "left out: an epoll set without members");
		return;
	}
	if (to < 0 && c->bad != BAD_LEN_NEGATIVE)
		to = 100 + c->b; /* far up, so that it is nobody's */
	r = three ? dup3(fd, to, c->x & 2 ? O_CLOEXEC : c->bad == BAD_LEN_HUGE ? 1 : 0) : dup2(fd, to);
	gave(a, r);
	if (r < 0 || r == fd)
		return;
	if (r == slot_fd(c->b))
		slot_gone(c->b);
	slot_set(c->b, r, fd == slot_fd(c->a) ? obj : -1);
	settle(old_obj);
}

void run_getfl(struct actor *a, const struct call *c)
{
	static const struct { const char *name; int cmd; } cmds[] = {
		{ "F_GETFL", F_GETFL }, { "F_GETFD", F_GETFD }, { "F_GETOWN", F_GETOWN }, { "F_GETSIG", F_GETSIG }, { "F_GETFL", F_GETFL },
		{ "F_GETLEASE", F_GETLEASE }, { "F_GET_SEALS", F_GET_SEALS }, { "77", 77 },
	};
	unsigned i = c->x % 8;

	text(a, "fcntl(s%d, %s)", c->a, cmds[i].name);
	gave(a, fcntl(arg_fd(c, c->a), cmds[i].cmd, 0));
}

void run_setfl(struct actor *a, const struct call *c)
{
	static const int flags[] = { 0, O_NONBLOCK, O_NONBLOCK, O_APPEND, O_RDWR | O_NONBLOCK, O_NONBLOCK | O_APPEND, 0, 0 };
	int cmd = c->x % 3 ? F_SETFL : F_SETFD, arg = cmd == F_SETFL ? flags[c->y % 8] : (int)(c->y % 3);

	text(a, "fcntl(s%d, %s, %#x)", c->a, cmd == F_SETFL ? "F_SETFL" : "F_SETFD", (unsigned)arg);
	gave(a, fcntl(arg_fd(c, c->a), cmd, arg));
}

void run_ioctl(struct actor *a, const struct call *c)
{
	static const struct { const char *name; unsigned long request; bool gives, sure; } requests[] = {
		{ "FIONBIO", FIONBIO, false, true }, { "FIONBIO", FIONBIO, false, true }, { "FIONREAD", FIONREAD, true, true },
		{ "FIONREAD", FIONREAD, true, true }, { "SIOCOUTQ", SIOCOUTQ, true, false }, { "SIOCOUTQNSD", SIOCOUTQNSD, true, false },
		{ "SIOCATMARK", SIOCATMARK, true, true }, { "FIOCLEX", FIOCLEX, false, true }, { "FIONCLEX", FIONCLEX, false, true },
		{ "SIOCGPGRP", SIOCGPGRP, true, true }, { "0x5499", 0x5499, false, true }, { "SIOCGIFCONF", 0x8912, true, false },
	};
	unsigned i = c->x % 12;
	int value[16] = { (int)(c->y % 2) }, r;
	struct object *o = slot_obj(c->a);

	if (requests[i].gives)
		value[0] = 0;
	text(a, "ioctl(s%d, %s, %d)", c->a, requests[i].name, value[0]);
	if (o && (o->what == W_FILE || o->what == W_EPOLL) && requests[i].request == SIOCGIFCONF) {
		result(a, "left out");
		return;
	}
	r = ioctl(arg_fd(c, c->a), requests[i].request, arg_ptr(c, value));
	gave(a, r);
	if (r == 0 && requests[i].gives && requests[i].sure && !c->bad)
		result(a, " gives %d", value[0]);
}

void run_seek_stat(struct actor *a, const struct call *c)
{
	struct stat st = { 0 };
	int fd = arg_fd(c, c->a), r;

	if (c->x & 1) {
		text(a, "lseek(s%d, 0, SEEK_CUR)", c->a);
		gave(a, lseek(fd, 0, SEEK_CUR));
		return;
	}
	text(a, "fstat(s%d)", c->a);
	r = fstat(fd, &st);
	gave(a, r);
	if (r == 0)
		result(a, " mode %#o", st.st_mode & S_IFMT);
}

void run_pipe(struct actor *a, const struct call *c)
{
	int fds[2] = { -1, -1 }, r;

	text(a, "s%d, s%d = pipe2()", c->a, c->b);
	r = pipe2(arg_ptr(c, fds), O_NONBLOCK | (c->x & 1 ? O_CLOEXEC : 0));
	gave(a, r);
	if (r < 0)
		return;
	result(a, " %d %d", fds[0], fds[1]);
	slot_set(c->a, fds[0], object_new(W_PIPE_R));
	slot_set(c->b, fds[1], object_new(W_PIPE_W));
	slot_obj(c->b)->peer = world.slot[c->a].obj;
	slot_obj(c->a)->peer = world.slot[c->b].obj;
}

void run_file(struct actor *a, const struct call *c)
{
	static uint8_t content[6000];
	int fd;

	text(a, "s%d = a file", c->a);
	fd = memfd_create("callfuzz", MFD_CLOEXEC);
	gave(a, fd);
	if (fd < 0)
		return;
	fill(content, sizeof(content), 7);
	if (write(fd, content, sizeof(content)) != sizeof(content) || lseek(fd, 0, SEEK_SET) != 0)
		result(a, " and cannot be written");
	slot_set(c->a, fd, object_new(W_FILE));
}

/* What went to where a thread of the parent sleeps: it wakes, and what it does and what the child does next meet by chance. */
static uint64_t sent_to_sleepers(int n_obj, const bool *asleep)
{
	uint64_t n = 0;

	for (int i = 0; i < n_obj; i++)
		n += asleep[i] ? world.obj[i].sent : 0;
	return n;
}

/* The calls that follow, as far as the conductor has marked them, in a child. */
static void child(struct actor *a, const struct call *c)
{
	int n_obj = *world.n_obj;
	char own[sizeof(a->text)];
	static bool asleep[N_OBJECTS];	/* a thread is there, as of the fork */
	uint64_t before;

	for (int i = 0; i < n_obj; i++)
		asleep[i] = object_peer(&world.obj[i]) && object_peer(&world.obj[i])->sleepers > 0;

	memcpy(own, a->text, sizeof(own));
	a->in_child = true;
	for (int i = 1; i <= c->a && a->child_first[i - 1].kind < K_N; i++) {
		const struct call *k = &a->child_first[i - 1];

		if (k->kind == K_fork || k->kind == K_kill)
			continue;
		before = sent_to_sleepers(n_obj, asleep);
		call_run(a, k, a->index + i);
		say("    in the child: %s%s\n", a->text, a->result);
		if (sent_to_sleepers(n_obj, asleep) != before)
			break;
	}
	memcpy(a->text, own, sizeof(own));
	_exit(0);
}

void run_fork(struct actor *a, const struct call *c)
{
	int status = -1;
	pid_t pid;

	text(a, "fork()");
	world_fork_save();
	pid = fork();
	if (pid == 0)
		child(a, c);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	world_fork_restore();
	result(a, " = %s, status %#x", pid > 0 ? "a child" : "-1", (unsigned)status);
}
