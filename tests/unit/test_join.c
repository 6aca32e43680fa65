/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Warden, keeper and members as processes, on a TAP device in a network namespace of the test's own. What is waited for is
 * an event (a pidfd, a pipe) wherever the kernel has one; the arena's words are polled with a bound.
 */
#include <sched.h>
#include <stdlib.h>
#include <sys/resource.h>
#include "../../host/join.h"
#include "host_rig.h"

#define PATIENCE_MS 8000

extern char **environ;
static struct config cfg;
static char err[CONFIG_ERR_BYTES];

/* what `ownstack run` does */
static int spawn_fork(const struct config *c, int ready_fd, pid_t for_pid)
{
	pid_t pid = fork();

	if (!pid) {
		if (!fork())
			warden_main((struct config *)c, ready_fd, for_pid);
		_exit(0);
	}
	return rig_reap(pid);
}

static void setup(void)
{
	int fd = sys_open("/dev/net/tun", O_RDWR | O_CLOEXEC, 0);

	if (fd < 0 || unshare(CLONE_NEWNET))
		cr_skip_test("needs /dev/net/tun and a network namespace");
	sys_close(fd);
	cr_assert_eq(config_from_env(&cfg, (char *[]){ NULL }, err, sizeof(err)), 0);
	strcpy(cfg.host, "testjoin");
	cfg.linger_s = 0;
	cfg.arena_bytes = RIG_ARENA_BYTES;
}

static struct warden_reply start(void)
{
	struct warden_reply r;

	cr_assert_eq(warden_start(&cfg, spawn_fork, &r, err, sizeof(err)), 0, "%s", err);
	return r;
}

static struct warden_reply join(void)
{
	struct warden_reply r = start();

	cr_assert_eq(host_join(&cfg, err, sizeof(err)), 0, "%s", err);
	return r;
}

/* Return: the process ended in time */
static bool ends(pid_t pid)
{
	struct pollfd p = { .fd = sys_pidfd_open(pid), .events = POLLIN };
	bool gone = p.fd < 0 || sys_poll(&p, 1, PATIENCE_MS) == 1;

	if (p.fd >= 0)
		sys_close(p.fd);
	return gone;
}

#define EVENTUALLY(cond)                                                   \
	do {                                                               \
		for (int ms_ = 0; !(cond) && ms_ < PATIENCE_MS; ms_++)     \
			usleep(1000);                                      \
		cr_assert(cond);                                           \
	} while (0)

static struct warden_reply look(void)
{
	struct warden_reply r;

	cr_assert_eq(warden_ask(&cfg, WARDEN_LOOK, &r, NULL, NULL, err, sizeof(err)), 0, "%s", err);
	return r;
}

TestSuite(join, .init = setup, .timeout = 60);

Test(join, warden_without_members_has_no_keeper)
{
	struct warden_reply r = start();

	cr_expect_eq(r.keeper_pid, 0);
	cr_expect_eq(r.dev_kind, IO_KIND_TAP);
	cr_expect_neq(r.addr[0], 0, "an address was chosen");
	cr_expect_eq(look().keeper_pid, 0);
}

Test(join, joined_process_has_arena_slot_and_queue)
{
	struct stat st;

	join();
	cr_expect(host_joined());
	cr_expect_eq((uintptr_t)host, ARENA_BASE);
	cr_expect_eq(atomic_load(&host->slot[slot_self()].pid), getpid());
	cr_expect_eq(atomic_load(&host->slot[SLOT_KEEPER].state), SLOT_LIVE);
	cr_expect_geq(host_queue_fd(), 1000);
	cr_expect_eq(sys_fcntl(host_queue_fd(), F_GETFD, 0), FD_CLOEXEC);
	cr_assert_eq(sys_fstat(host_placeholder_fd(), &st), 0);
	cr_expect(S_ISSOCK(st.st_mode));
	cr_expect(host_fd_is_ours(host_queue_fd()));
	cr_expect_not(host_fd_is_ours(0));
}

Test(join, closed_descriptors_are_made_again)
{
	join();
	sys_close(host_queue_fd());
	cr_expect_geq(host_queue_fd(), 0);
	sys_close(host_placeholder_fd());
	cr_expect_geq(host_placeholder_fd(), 0);
	/* the number now belongs to somebody else: not ours any more */
	sys_dup3(0, host_queue_fd(), 0);
	cr_expect_geq(host_queue_fd(), 0);
}

Test(join, low_descriptor_limit_is_no_obstacle)
{
	const struct rlimit low = { 64, 64 };

	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
	join();
	cr_expect_lt(host_queue_fd(), 64);
	cr_expect_geq(host_queue_fd(), 3);
}

Test(join, placeholder_is_never_ready)
{
	struct pollfd p;

	join();
	p = (struct pollfd){ .fd = host_placeholder_fd(), .events = POLLIN | POLLOUT };
	cr_expect_eq(sys_poll(&p, 1, 0), 0, "revents %x", p.revents);
}

Test(join, second_starter_finds_the_first_warden)
{
	struct warden_reply a = start(), b = start();

	cr_expect_eq(a.warden_pid, b.warden_pid);
}

Test(join, starters_at_the_same_time_agree)
{
	pid_t starter[8];
	int pipes[2];
	uint32_t first = 0;

	cr_assert_eq(pipe(pipes), 0);
	for (int i = 0; i < 8; i++) {
		starter[i] = fork();
		if (!starter[i]) {
			struct warden_reply r;
			int rc = warden_start(&cfg, spawn_fork, &r, err, sizeof(err));

			if (write(pipes[1], rc ? &(uint32_t){ 0 } : &r.warden_pid, 4) != 4)
				_exit(1);
			pause();
		}
	}
	for (int i = 0; i < 8; i++) {
		uint32_t pid = 0;

		cr_assert_eq(read(pipes[0], &pid, 4), 4);
		cr_expect_neq(pid, 0);
		first = first ? first : pid;
		cr_expect_eq(pid, first);
	}
	for (int i = 0; i < 8; i++)
		kill(starter[i], SIGKILL);
}

Test(join, other_device_for_a_running_host_is_one_line)
{
	struct warden_reply r = start();
	struct config other = cfg;

	strcpy(other.tap, "elsewhere");
	cr_expect_eq(warden_start(&other, spawn_fork, &r, err, sizeof(err)), -EEXIST);
	cr_expect_not_null(strstr(err, "tap=elsewhere: host testjoin runs on tap"), "%s", err);
}

Test(join, missing_interface_is_one_line)
{
	struct warden_reply r;

	strcpy(cfg.packet, "nope0");
	cr_expect_lt(warden_start(&cfg, spawn_fork, &r, err, sizeof(err)), 0);
	cr_expect_not_null(strstr(err, "packet=nope0: there is no such interface"), "%s", err);
}

Test(join, stranger_is_refused)
{
	pid_t pid;

	start();
	pid = fork();
	if (!pid) {
		struct warden_reply r;

		if (setresuid(12345, 12345, 12345))
			_exit(1);
		if (warden_ask(&cfg, WARDEN_JOIN, &r, NULL, NULL, err, sizeof(err)) || r.status != -EACCES)
			_exit(2);
		_exit(0);
	}
	cr_expect_eq(rig_reap(pid), 0);
}

Test(join, stranger_with_the_token_is_a_member)
{
	struct warden_reply r = start();
	pid_t pid;

	for (int i = 0; i < 16; i++)
		sprintf(cfg.token + 2 * i, "%02x", r.token[i]);
	pid = fork();
	if (!pid) {
		if (setresuid(12345, 12345, 12345))
			_exit(1);
		if (host_join(&cfg, err, sizeof(err)))
			_exit(2);
		_exit(host->slot[slot_self()].uid == 12345 ? 0 : 3);
	}
	cr_expect_eq(rig_reap(pid), 0);
}

Test(join, killed_members_slot_is_given_back)
{
	uint32_t before;
	pid_t pid;
	int status, ready[2];
	char c;

	join();
	before = atomic_load(&host->n_live);
	cr_assert_eq(pipe(ready), 0);
	pid = fork();
	if (!pid) {
		thr_fork_child();
		host_fork_child();
		c = host_join(&cfg, err, sizeof(err)) ? 1 : 0;
		if (write(ready[1], &c, 1) == 1)
			pause();
	}
	cr_assert_eq(read(ready[0], &c, 1), 1);
	cr_expect_eq(c, 0);
	cr_expect_eq(atomic_load(&host->n_live), before + 1);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	EVENTUALLY(atomic_load(&host->n_live) == before);
}

/* A member execs: the keeper notices by the link, and the numbers with FD_CLOEXEC go */
Test(join, exec_of_a_foreign_program_drops_cloexec_numbers)
{
	struct thr *t;
	struct file *cloexec, *kept, *old;
	uint32_t child;
	int status;
	pid_t pid;

	join();
	t = thr_enter();
	cloexec = rig_file(t);
	kept = rig_file(t);
	cr_assert_eq(fdtab_set(100, cloexec, FDENT_CLOEXEC, &old), 0);
	cr_assert_eq(fdtab_set(101, kept, 0, &old), 0);
	cr_assert_eq(slot_fork_prepare(&child), 0);
	pid = fork();
	if (!pid) {
		thr_fork_child();
		slot_fork_child(child);
		host_fork_child();
		host_exec_prepare();
		execl("/bin/sleep", "sleep", "60", (char *)NULL);
		_exit(127);
	}
	slot_fork_parent(child, pid);
	EVENTUALLY(atomic_load(&host->slot[child].state) == SLOT_EXECED);
	cr_expect_eq(atomic_load(&cloexec->numbers), 1);
	cr_expect_eq(atomic_load(&kept->numbers), 2);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	EVENTUALLY(atomic_load(&kept->numbers) == 1);
	EVENTUALLY(atomic_load(&host->slot[child].pid) == 0);
}

Test(join, fork_child_killed_before_it_ran_is_dropped)
{
	struct file *f, *old;
	uint32_t child;
	struct thr *t;
	int status;
	pid_t pid;

	join();
	t = thr_enter();
	f = rig_file(t);
	cr_assert_eq(fdtab_set(100, f, 0, &old), 0);
	cr_assert_eq(slot_fork_prepare(&child), 0);
	pid = fork();
	if (!pid)
		pause();
	kill(pid, SIGKILL);
	slot_fork_parent(child, pid);
	waitpid(pid, &status, 0);
	EVENTUALLY(atomic_load(&host->slot[child].pid) == 0);
	cr_expect_eq(atomic_load(&f->numbers), 1);
}

Test(join, parent_killed_in_the_middle_of_fork_is_cleaned_up)
{
	uint32_t before;
	int status;
	pid_t pid;

	join();
	before = atomic_load(&host->n_live);
	pid = fork();
	if (!pid) { /* a member of its own: takes a slot, reserves another for a child, dies */
		struct file *old;
		uint32_t child;

		thr_fork_child();
		host_fork_child();
		if (host_join(&cfg, err, sizeof(err)) || fdtab_set(100, rig_file(thr_enter()), 0, &old) || slot_fork_prepare(&child))
			_exit(1);
		kill(getpid(), SIGKILL);
	}
	waitpid(pid, &status, 0);
	cr_expect(WIFSIGNALED(status));
	EVENTUALLY(atomic_load(&host->n_live) == before);
}

Test(join, child_that_has_not_run_yet_keeps_its_place)
{
	const struct timespec longer = { 1, 700000000 }; /* than the keeper waits before it looks */
	uint32_t before;
	int status, tell[2];
	struct { pid_t pid; uint32_t slot; } child;
	pid_t pid;

	join();
	before = atomic_load(&host->n_live);
	cr_assert_eq(pipe(tell), 0);
	pid = fork();
	if (!pid) {
		struct file *old;

		thr_fork_child();
		host_fork_child();
		if (host_join(&cfg, err, sizeof(err)) || fdtab_set(100, rig_file(thr_enter()), 0, &old) || slot_fork_prepare(&child.slot))
			_exit(1);
		child.pid = fork();
		if (!child.pid)
			for (;;)
				pause(); /* as one that was stopped before it could take its slot */
		if (write(tell[1], &child, sizeof(child)) != sizeof(child))
			_exit(1);
		kill(getpid(), SIGKILL);
	}
	waitpid(pid, &status, 0);
	cr_assert_eq(read(tell[0], &child, sizeof(child)), (ssize_t)sizeof(child));
	clock_nanosleep(CLOCK_MONOTONIC, 0, &longer, NULL);
	cr_expect_eq(atomic_load(&host->slot[child.slot].state), SLOT_FORKING);
	kill(child.pid, SIGKILL);
	EVENTUALLY(atomic_load(&host->n_live) == before);
}

Test(join, killed_keeper_is_replaced)
{
	uint32_t first, second;

	join();
	first = look().keeper_pid;
	cr_assert_neq(first, 0);
	kill((pid_t)first, SIGKILL);
	EVENTUALLY((second = look().keeper_pid) != 0 && second != first && atomic_load(&host->keeper.pid) == second);
	cr_expect_eq(atomic_load(&host->slot[SLOT_KEEPER].pid), (int)second);
	cr_expect_eq(atomic_load(&host->n_live), 2);
	/* and it does its work */
	if (!fork()) {
		thr_fork_child();
		host_fork_child();
		_exit(host_join(&cfg, err, sizeof(err)) != 0);
	}
	int status;
	wait(&status);
	cr_expect_eq(WEXITSTATUS(status), 0);
	EVENTUALLY(atomic_load(&host->n_live) == 2);
}

Test(join, keeper_has_no_privilege)
{
	char path[64], line[256];
	unsigned long long eff = 1;
	int uid = -1, seccomp = -1, no_new = 0;
	FILE *f;

	join();
	snprintf(path, sizeof(path), "/proc/%u/status", look().keeper_pid);
	EVENTUALLY(atomic_load(&host->keeper.pid) != 0);
	f = fopen(path, "r");
	cr_assert_not_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "Uid: %*d %d", &uid) == 1)
			continue;
		if (sscanf(line, "CapEff: %llx", &eff) == 1 || sscanf(line, "NoNewPrivs: %d", &no_new) == 1)
			continue;
		sscanf(line, "Seccomp: %d", &seccomp);
	}
	fclose(f);
	cr_expect_neq(uid, 0);
	cr_expect_eq(eff, 0);
	cr_expect_eq(no_new, 1);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	cr_expect_eq(seccomp, 2);
#endif
}

/* A starter in a process of its own: helpers end with it. Return: warden's pid */
enum life { NO_SOCKETS, JOINS, DIES_CLAIMING };
static pid_t short_life(enum life life, pid_t *ret_keeper)
{
	int out[2];
	uint32_t pids[2] = { 0, 0 };
	pid_t pid;

	cr_assert_eq(pipe(out), 0);
	pid = fork();
	if (!pid) {
		struct warden_reply r = { 0 };

		if (warden_start(&cfg, spawn_fork, &r, err, sizeof(err)) || (life != NO_SOCKETS && host_join(&cfg, err, sizeof(err))))
			_exit(1);
		pids[0] = r.warden_pid;
		if (life != NO_SOCKETS)
			pids[1] = atomic_load(&host->keeper.pid);
		if (life == DIES_CLAIMING) { /* as slot_register() stands between its first two steps */
			atomic_store(&host->slot[9].pid, getpid());
			atomic_store(&host->slot_top, 10);
			atomic_fetch_add(&host->n_live, 1);
		}
		_exit(write(out[1], pids, sizeof(pids)) != sizeof(pids));
	}
	cr_assert_eq(rig_reap(pid), 0);
	cr_assert_eq(read(out[0], pids, sizeof(pids)), (ssize_t)sizeof(pids));
	close(out[0]);
	close(out[1]);
	*ret_keeper = (pid_t)pids[1];
	return (pid_t)pids[0];
}

Test(join, helpers_leave_after_the_last_process)
{
	pid_t keeper, warden = short_life(JOINS, &keeper);

	cr_expect_neq(keeper, 0);
	cr_expect(ends(keeper));
	cr_expect(ends(warden));
}

Test(join, slot_of_a_process_that_died_while_claiming_keeps_nothing_alive)
{
	pid_t keeper, warden = short_life(DIES_CLAIMING, &keeper);

	cr_expect(ends(keeper));
	cr_expect(ends(warden));
}

Test(join, warden_of_a_program_without_sockets_leaves_with_it)
{
	pid_t keeper, warden = short_life(NO_SOCKETS, &keeper);

	cr_expect(ends(warden));
}

Test(join, helpers_keep_no_descriptor_of_the_starter)
{
	int out[2];
	char c;

	cr_assert_eq(pipe(out), 0);
	join();
	close(out[1]);
	/* end of file at once: nobody else has the writing end */
	cr_expect_eq(poll(&(struct pollfd){ .fd = out[0], .events = POLLIN }, 1, PATIENCE_MS), 1);
	cr_expect_eq(read(out[0], &c, 1), 0);
}

Test(join, down_ends_the_host)
{
	struct warden_reply r = join(), d;
	pid_t keeper = (pid_t)look().keeper_pid;

	cr_assert_eq(warden_ask(&cfg, WARDEN_DOWN, &d, NULL, NULL, err, sizeof(err)), 0, "%s", err);
	cr_expect(ends(keeper));
	cr_expect(ends((pid_t)r.warden_pid));
	cr_expect_eq(warden_ask(&cfg, WARDEN_LOOK, &d, NULL, NULL, err, sizeof(err)), -ECONNREFUSED);
}

Test(join, sigterm_to_the_warden_ends_both)
{
	struct warden_reply r = join();
	pid_t keeper = (pid_t)look().keeper_pid;

	kill((pid_t)r.warden_pid, SIGTERM);
	cr_expect(ends(keeper));
	cr_expect(ends((pid_t)r.warden_pid));
}

Test(join, killed_warden_leaves_members_and_keeper_alone)
{
	struct warden_reply r = join(), d;
	pid_t keeper = (pid_t)look().keeper_pid;

	kill((pid_t)r.warden_pid, SIGKILL);
	cr_expect(ends((pid_t)r.warden_pid));
	cr_expect_eq(warden_ask(&cfg, WARDEN_LOOK, &d, NULL, NULL, err, sizeof(err)), -ECONNREFUSED);
	cr_expect_eq(sys_kill(keeper, 0), 0);
	thr_exit(thr_enter());
	slot_unregister(); /* the last process leaves */
	slot_changed();
	cr_expect(ends(keeper));
}
