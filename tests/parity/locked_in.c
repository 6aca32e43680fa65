/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * locked_in - a child behind a seccomp filter works on a connection, its parent goes on with it afterwards (privilege separation)
 *
 * The client writes what is meant for the child and what is meant for the parent in one piece: a child that takes an octet too
 * many loses it.
 */
#include "parity.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/time.h>

enum { ASKED = 300, ASK_BYTES = 700, BULK = 3 << 20, PIPES = 100, PIPE_ROUNDS = 20 };
enum way { BY_PPOLL, BY_SELECT, BESIDE_PIPES, BY_READ, N_WAYS };
static const char *const way_names[] = { "ppoll", "pselect", "beside pipes", "read only" };
static const int calls_common[] = { SYS_read, SYS_write, SYS_exit_group, SYS_rt_sigreturn, SYS_rt_sigprocmask, SYS_clock_gettime };

static void filter_put_on(enum way way)
{
	const int *c = calls_common;
	const unsigned n = sizeof(calls_common) / sizeof(*calls_common);
	struct sock_filter f[32];
	struct sock_fprog p = { .filter = f };
	unsigned k = 0;

	f[k++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (unsigned i = 0; i < n; i++) {
		f[k++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)c[i], 0, 1);
		f[k++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	}
	if (way != BY_READ) {
		f[k++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, way == BY_SELECT ? SYS_pselect6 : SYS_ppoll, 0, 1);
		f[k++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	}
	f[k++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	p.len = (unsigned short)k;
	must("PR_SET_NO_NEW_PRIVS", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	must("PR_SET_SECCOMP", prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p));
}

static volatile sig_atomic_t ticks;

static void tick(int sig)
{
	(void)sig;
	ticks++;
}

/* Once more than it has to: the call itself, and what it finds. */
static void wait_readable(int fd, enum way way)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct timespec limit = { 20, 0 };
	fd_set set;
	int r = 0;

	do {
		FD_ZERO(&set);
		FD_SET(fd, &set);
		if (way == BY_PPOLL || way == BESIDE_PIPES)
			r = ppoll(&p, 1, &limit, NULL);
		else if (way == BY_SELECT)
			r = pselect(fd + 1, &set, NULL, NULL, &limit, NULL);
	} while (r < 0 && errno == EINTR);
	if (way != BY_READ && r != 1)
		_exit(3);
}

/* Many of the kernel's descriptors beside the connection; the last one is written to while we wait, by a process outside. */
struct pipes {
	struct pollfd p[1 + PIPES];
	int go;
};

static void pipes_make(struct pipes *ps, int fd)
{
	int go[2], sv[2] = { -1, -1 };
	char c;

	ps->p[0] = (struct pollfd){ .fd = fd, .events = POLLPRI };
	for (int i = 0; i < PIPES; i++) {
		must("pipe", pipe(sv));
		ps->p[1 + i] = (struct pollfd){ .fd = sv[0], .events = POLLIN };
	}
	must("pipe", pipe(go));
	ps->go = go[1];
	if (!must("fork", fork())) {
		close(fd);
		close(go[1]);
		while (read(go[0], &c, 1) == 1 && write(sv[1], &c, 1) == 1)
			;
		_exit(0);
	}
}

static void pipes_wait(struct pipes *ps)
{
	const struct timespec limit = { 20, 0 };
	char c = 0;

	for (int i = 0; i < PIPE_ROUNDS; i++)
		if (write(ps->go, &c, 1) != 1 || ppoll(ps->p, 1 + PIPES, &limit, NULL) != 1 || !ps->p[PIPES].revents ||
		    read(ps->p[PIPES].fd, &c, 1) != 1)
			_exit(4);
}

static void child(int fd, enum way way)
{
	static struct pipes pipes;

	const struct itimerval often = { { 0, 3000 }, { 0, 3000 } };
	static uint8_t buf[ASK_BYTES], bulk[BULK];
	struct sigaction act = { .sa_handler = tick, .sa_flags = SA_RESTART };
	uint64_t h = 0;

	sigaction(SIGALRM, &act, NULL);
	if (way == BESIDE_PIPES)
		pipes_make(&pipes, fd); /* without ticks, which would have it look */
	else
		setitimer(ITIMER_REAL, &often, NULL);
	if (way == BY_PPOLL)
		must("RLIMIT_NOFILE", setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 1, 1 }));
	filter_put_on(way);
	if (way == BESIDE_PIPES)
		pipes_wait(&pipes);
	for (int i = 0; i < ASKED; i++) {
		wait_readable(fd, way);
		read_all(fd, buf, sizeof(buf));
		h = digest(h, buf, sizeof(buf));
		write_all(fd, &h, sizeof(h));
	}
	write_all(fd, &h, sizeof(h));
	fill(bulk, sizeof(bulk), (uint32_t)h);
	write_all(fd, bulk, sizeof(bulk));
	read_all(fd, bulk, sizeof(bulk));
	h = digest(h, bulk, sizeof(bulk));
	write_all(fd, &h, sizeof(h));
	_exit(ticks || way == BESIDE_PIPES ? 7 : 8);
}

void server(int listener)
{
	for (int way = 0; way < N_WAYS; way++) {
		int fd = peer_accept(listener), status;
		uint8_t rest[100];
		pid_t pid = (pid_t)must("fork", fork());

		if (!pid)
			child(fd, (enum way)way);
		must("waitpid", waitpid(pid, &status, 0));
		say("%s: child's status %d, signal %d", way_names[way], WEXITSTATUS(status), WTERMSIG(status));
		if (way == BY_READ) { /* what was read ahead for the child may be gone: docs/compatibility.md */
			close(fd);
			continue;
		}
		read_all(fd, rest, sizeof(rest));
		say("the parent goes on with %016llx", (unsigned long long)digest(0, rest, sizeof(rest)));
		write_all(fd, "done", 4);
		saw("the end", read(fd, rest, 1));
		close(fd);
	}
}

void client(void)
{
	static uint8_t out[BULK + 100], in[BULK];

	for (int way = 0; way < N_WAYS; way++) {
		int fd = peer_connect();
		uint64_t h = 0, got = 0, bulk = 0;
		char done[4];

		for (int i = 0; i < ASKED; i++) {
			fill(out, ASK_BYTES, (uint32_t)(way * 1000 + i));
			write_all(fd, out, ASK_BYTES);
			h = digest(h, out, ASK_BYTES);
			read_all(fd, &got, sizeof(got));
			if (got != h)
				say("%s: answer %d is wrong", way_names[way], i);
		}
		read_all(fd, &got, sizeof(got));
		read_all(fd, in, sizeof(in));
		fill(out, BULK, (uint32_t)h);
		say("%s: bulk %s", way_names[way], memcmp(in, out, BULK) ? "differs" : "is right");
		fill(out, sizeof(out), (uint32_t)way);
		bulk = digest(h, out, BULK);
		write_all(fd, out, way == BY_READ ? BULK : sizeof(out));
		read_all(fd, &got, sizeof(got));
		say("%s: sum is %s", way_names[way], got == bulk ? "right" : "wrong");
		if (way != BY_READ) {
			read_all(fd, done, 4);
			say("the parent says %.4s", done);
		}
		close(fd);
	}
}
