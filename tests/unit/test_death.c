/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stepped death: a process is single-stepped through what processes do with a host (lives.h) and killed, or stopped, at evenly
 * spread instructions under the shard lock and in what else must not be left half done. Afterwards all structures are checked
 * link by link, the others' connections must go on unless they were in its hands, nobody waits for longer than 100 ms, and
 * nothing of the dead one may be left.
 *
 * `./dev death` makes 10,000 points of it. OWNSTACK_DEATH_KILLS, _STOPS: how many; _SEED: another choice of them; _LIFE: one life
 * only, by name. A point that fails is named by life, region and step, and by an address relative to stack_init.
 */
#include <stddef.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include "lives.h"
#include "sound.h"
#include "waited.h"

#define KILLS	40
#define STOPS	16
#define WAIT_MS 100
#define CPU_MS	40
#define N_MINE	4	    /* connections of the bystander: two of its making, two of the peer's */
#define MY_PORT 81
#define REGIONS_MAX 2048

/* ---- stepping ---- */

/* One life: how many instructions each region has, where a region is a hold of the lock, or from a mark to its end. */
static struct map {
	uint32_t steps[REGIONS_MAX];
	uint32_t n;
	uint64_t total;
} maps[N_LIVES];

static struct point {
	const char *life;
	uint32_t region, step;
	long address; /* relative to a symbol, since the program is loaded anywhere */
} point;

#define AT_POINT     "%s, region %u, step %u, stack_init%+ld"
#define POINT_VALUES point.life, point.region, point.step, point.address

static void watch_words(pid_t pid, bool on)
{
	const long writes_of_4 = 1 | 1 << 16 | 3 << 18 | 1 << 2 | 1 << 20 | 3 << 22;

	if (on) {
		cr_assert_eq(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[0]), &host->shard.lock), 0);
		cr_assert_eq(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[1]), &shared->mark), 0);
	}
	cr_assert_eq(ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[7]), on ? writes_of_4 : 0), 0);
}

static bool is_inside(pid_t pid)
{
	uint32_t holder = host->shard.lock & 0x3fff;

	return (holder && host->slot[holder].pid == pid) || atomic_load(&shared->mark) == pid;
}

/**
 * stepped() - let @pid live until it has made @steps instructions in its @region-th region
 *
 * Hardware watchpoints stop it where it writes to the lock or to the mark; only the region in question is stepped through.
 * @map: step through all and note their lengths, NULL: do not
 *
 * Return: true: it stands there, stopped; false: it came to its end before
 */
static bool stepped(pid_t pid, uint32_t region, uint32_t steps, struct map *map)
{
	bool inside = false, watched = false;
	uint32_t regions = 0, at = 0;
	long rip, last_rip = 0;
	int status;

	while (waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status)) {
		int sig = WSTOPSIG(status) == SIGTRAP || WSTOPSIG(status) == SIGSTOP ? 0 : WSTOPSIG(status);

		if (!watched)
			watch_words(pid, true);
		watched = true;
		if (is_inside(pid)) {
			rip = ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, regs.rip), 0);
			at = inside ? at + (rip != last_rip) : 0; /* a string instruction counts once */
			last_rip = rip;
			inside = true;
			if (!map && regions == region && at >= steps) {
				point.region = region;
				point.step = at;
				return true;
			}
		} else if (inside) {
			inside = false;
			if (map && map->n < REGIONS_MAX)
				map->steps[map->n++] = at;
			if (!map && regions == region) { /* shorter than it was the first time: at the beginning of the next */
				region++;
				steps = 0;
			}
			regions++;
		}
		ptrace(inside && (map || regions == region) ? PTRACE_SINGLESTEP : PTRACE_CONT, pid, 0, sig);
	}
	return false;
}

/* The @n-th of all instructions of the life. */
static bool stepped_to(pid_t pid, const struct map *map, uint64_t n)
{
	struct user_regs_struct regs = { 0 };
	uint32_t region = 0;
	bool there;

	while (region < map->n - 1 && n >= map->steps[region])
		n -= map->steps[region++];
	there = stepped(pid, region, (uint32_t)n, NULL);
	if (there) {
		ptrace(PTRACE_GETREGS, pid, 0, &regs);
		point.address = (long)regs.rip - (long)(uintptr_t)&stack_init;
	}
	return there;
}

static pid_t victim(const struct life *life)
{
	pid_t pid;

	atomic_store(&shared->peer_shuffle, 0);
	atomic_store(&shared->peer_deaf, 0);
	atomic_store(&shared->peer_port, LIFE_PORT);
	atomic_store(&shared->mark, 0);
	point = (struct point){ .life = life->name };
	pid = child();
	if (!pid) {
		struct thr *t = member_enter();

		number_next = 100;
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		life->live(t);
		thr_exit(thr_enter());
		_exit(0);
	}
	return pid;
}

/* ---- what the others see ---- */

static struct bystander {
	struct thr *t;
	struct file *listener, *mine[N_MINE];
	bool touched[N_MINE];
	uint64_t asked;
} by;

/* The peer may have put octets of its own in between: 'x' */
static bool answers(struct thr *t, struct file *f)
{
	usec_t until = io_now() + SEC(3);
	char want[9], got[9] = "";
	size_t n = 0;

	snprintf(want, sizeof(want), "%08llx", (unsigned long long)++by.asked);
	if (sock_send(t, f, want, 8) != 8)
		return false;
	while (n < 8) {
		if (sock_recv(t, f, got + n, 1, until) != 1)
			return false;
		n += got[n] != 'x';
	}
	return !memcmp(want, got, 8);
}

static void open_one(int i)
{
	if (i < N_MINE / 2) {
		by.mine[i] = sock_open(by.t);
		cr_assert_eq(sock_connect(by.t, by.mine[i], ECHO_PORT, io_now() + SEC(3)), 0);
		return;
	}
	atomic_store(&shared->peer_port, MY_PORT);
	atomic_store(&shared->peer_burst, 1);
	by.mine[i] = sock_accept(by.t, by.listener, io_now() + SEC(3));
	cr_assert_not_null(by.mine[i], "the listener lives on");
}

/* It may have been at a segment of ours, or at taking ours out of the listener's queue: those may be reset. */
static void touched_note(void)
{
	const struct stack *st = host->shard.stack;

	for (int i = 0; i < N_MINE; i++) {
		uint32_t index = slab_index(&st->tcbs, by.mine[i]->tcb);

		by.touched[i] = st->touching[0] == index || st->touching[1] == index;
	}
}

/* The table of another process, and the memory for tables, are free to be used. */
static void others_can_fork(const char *when)
{
	struct waited w = waited_now();
	uint32_t child = 0;

	cr_assert_eq(slot_fork_prepare(&child), 0);
	slot_fork_parent(child, -1);
	w = waited_since(&w);
	WAITED_AT_MOST(w, WAIT_MS, 3, CPU_MS, "fork, %s at " AT_POINT, when, POINT_VALUES);
}

static void others_go_on(const char *when)
{
	for (int i = 0; i < N_MINE; i++)
		if (!answers(by.t, by.mine[i]))
			cr_assert(by.touched[i], "%s at " AT_POINT ": connection %d of another is broken", when, POINT_VALUES, i);
	for (int i = 0; i < N_MINE; i++) {
		if (tcp_state(by.mine[i]->tcb) == TCPS_ESTABLISHED)
			continue;
		cr_expect(by.touched[i], "%s at " AT_POINT ": connection %d of another was reset", when, POINT_VALUES, i);
		sock_close(by.t, by.mine[i]);
		open_one(i);
	}
}

/* What is left where nobody but this process has anything. */
struct census {
	uint32_t files, watches, waiters, epolls, tcbs, requests, pbufs, cells, fdchunks, kopts, passports, exports, slots;
};

static struct census census_now(void)
{
	struct stack_usage u;

	stack_usage(host->shard.stack, &u);
	return (struct census){ .files = host->files.in_use,	   .watches = host->watches.in_use, .waiters = host->waiters.in_use,
				.epolls = host->epolls.in_use,	   .tcbs = u.tcbs,		    .requests = u.requests,
				.pbufs = u.frames,		   .cells = u.cells,		    .fdchunks = host->fdchunks.in_use,
				.kopts = host->kopts.in_use,	   .passports = host->passports.in_use,
				.exports = host->exports.in_use,   .slots = host->n_live };
}

static void all_answer(void)
{
	for (int i = 0; i < N_MINE; i++)
		answers(by.t, by.mine[i]);
}

/* Once nothing moves any more. */
static struct census census_take(void)
{
	struct census a = census_now(), b;
	int same = 0;

	for (int i = 0; i < 200 && same < 20; i++, a = b) {
		usleep(2000);
		all_answer();
		b = census_now();
		same = memcmp(&a, &b, sizeof(a)) ? 0 : same + 1;
	}
	return a;
}

/* The peer has still to answer what closed: a while is given for that, kept going by questions to it. */
static void census_is(struct census *was)
{
	static const char *const name[] = { "files", "watches", "waiters", "epolls", "tcbs", "requests", "pbufs", "cells", "fdchunks",
					    "kopts", "passports", "exports", "slots" };
	usec_t until = io_now() + SEC(8);
	struct census now;

	_Static_assert(sizeof(name) / sizeof(name[0]) == sizeof(now) / sizeof(uint32_t), "each has a name");
	do {
		now = census_now();
		if (!memcmp(&now, was, sizeof(now)))
			return;
		all_answer();
	} while (io_now() < until);
	for (unsigned i = 0; i < sizeof(now) / sizeof(uint32_t); i++)
		cr_expect_eq(((uint32_t *)&now)[i], ((uint32_t *)was)[i], AT_POINT ": %u %s, were %u", POINT_VALUES,
			     ((uint32_t *)&now)[i], name[i], ((uint32_t *)was)[i]);
	*was = now; /* each is reported once */
}

static void is_sound(const char *when, bool all_gone)
{
	struct waited w = waited_now();

	fault[0] = 0;
	thr_enter();
	shard_lock(by.t);
	w = waited_since(&w);
	stack_sound(host->shard.stack);
	ready_sound();
	if (all_gone) {
		const struct file *apart[N_MINE];

		memcpy(apart, by.mine, sizeof(apart));
		slots_sound(apart, N_MINE);
	}
	thr_leave(by.t);
	WAITED_AT_MOST(w, WAIT_MS, 3, CPU_MS, "%s at " AT_POINT, when, POINT_VALUES);
	cr_assert_eq(fault[0], 0, "%s at " AT_POINT ": %s", when, POINT_VALUES, fault);
}

/* What the keeper does for those who died (keeper.c, pumps.c), at once. A child that was forked still lives its life. */
static void bury(void)
{
	struct export *x;

	for (uint32_t i = SLOT_KEEPER + 1; i < host->slot_top; i++) {
		pid_t pid = host->slot[i].pid;

		if (i == slot_self() || !pid)
			continue;
		cr_assert(WITHIN_MS(5000, slot_life(i) == SLOT_GONE), AT_POINT ": process %d does not end", POINT_VALUES, pid);
		slot_drop(by.t, i);
		waitpid(pid, NULL, WNOHANG);
	}
	thr_enter();
	shard_lock(by.t);
	for (uint32_t c = 0; (x = slab_next(&host->exports, &c));)
		export_free(by.t, x);
	thr_leave(by.t);
}

/* ---- the tests ---- */

static uint64_t env_number(const char *name, uint64_t otherwise)
{
	const char *s = getenv(name);

	return s ? strtoull(s, NULL, 0) : otherwise;
}

/* How many of @n points: a life that takes seconds is not among a few. */
static uint64_t share_of(const struct life *life, uint64_t n)
{
	const char *only = getenv("OWNSTACK_DEATH_LIFE");

	if (only)
		return strcmp(only, life->name) ? 0 : n;
	return n * life->share / 100 + (life->share >= 5);
}

/* This process with connections of its own, and a look at each life as it is when nobody ends it. */
static void bystander(bool with_keeper, uint64_t points)
{
	drive_rig(IO_LEVEL_POLL, with_keeper);
	waited_control();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	slot_register();
	by.t = thr_enter();
	number_next = 10; /* so that there is a table to fork */
	by.listener = sock_open(by.t);
	number_next = 0;
	cr_assert_eq(sock_listen(by.t, by.listener, MY_PORT), 0);
	for (int i = 0; i < N_MINE; i++)
		open_one(i);
	for (unsigned k = 0; k < N_LIVES; k++) {
		if (!share_of(&lives[k], points))
			continue;
		cr_assert_not(stepped(victim(&lives[k]), 0, 0, &maps[k]));
		cr_assert_eq(atomic_load(&shared->failed), 0, "life '%s' cannot be lived, line %d of lives.h", lives[k].name, shared->failed);
		for (uint32_t i = 0; i < maps[k].n; i++)
			maps[k].total += maps[k].steps[i];
		cr_assert_gt(maps[k].total, 200, "%s", lives[k].name);
		if (getenv("OWNSTACK_DEATH_LIFE"))
			printf("%s: %u regions, %llu instructions\n", lives[k].name, maps[k].n, (unsigned long long)maps[k].total);
		if (!with_keeper)
			bury();
	}
}

/* Calls @end for @n points, each life its share. */
static void at_points(uint64_t n, void (*end)(const struct life *life, const struct map *map, uint64_t step))
{
	uint64_t seed = env_number("OWNSTACK_DEATH_SEED", 1);

	for (unsigned k = 0; k < N_LIVES; k++) {
		uint64_t mine = share_of(&lives[k], n);

		for (uint64_t i = 0; i < mine; i++)
			end(&lives[k], &maps[k], (i * maps[k].total / mine + seed * 7919) % maps[k].total);
	}
}

static struct census was;
static uint64_t reached, tried;

static void kill_at(const struct life *life, const struct map *map, uint64_t step)
{
	pid_t pid = victim(life);

	tried++;
	if (stepped_to(pid, map, step)) {
		reached++;
		kill(pid, SIGKILL);
		waitpid(pid, NULL, __WALL);
	}
	atomic_store(&shared->peer_deaf, 0);
	cr_assert_eq(atomic_load(&shared->failed), 0, "life '%s' cannot be lived, line %d of lives.h", life->name, shared->failed);
	touched_note();
	is_sound("killed", false);
	others_can_fork("killed");
	bury();
	is_sound("killed and buried", true);
	others_go_on("killed");
	census_is(&was);
}

Test(death, killed_at_any_instruction, .timeout = 14400)
{
	uint64_t points = env_number("OWNSTACK_DEATH_KILLS", KILLS);

	bystander(false, points);
	was = census_take();
	at_points(points, kill_at);
	cr_expect_geq(reached, tried * 9 / 10);
	if (getenv("OWNSTACK_DEATH_KILLS"))
		printf("killed at %llu points of %llu\n", (unsigned long long)reached, (unsigned long long)tried);
}

static bool is_stopped(pid_t pid)
{
	char line[256] = "";
	char path[32];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "r");
	cr_assert_not_null(f);
	cr_assert_not_null(fgets(line, sizeof(line), f));
	fclose(f);
	return !strncmp(strrchr(line, ')'), ") T", 3);
}

/*
 * Stopped there, it is let out by who needs the lock, stops as it was told, and once continued lives on to its end. It may have
 * left as the driver: that is the keeper's to notice.
 */
static void stop_at(const struct life *life, const struct map *map, uint64_t step)
{
	pid_t pid = victim(life);

	tried++;
	if (!stepped_to(pid, map, step))
		return; /* the keeper drove, and it had less to do */
	reached++;
	watch_words(pid, false);
	atomic_store(&shared->mark, 0);
	ptrace(PTRACE_DETACH, pid, 0, SIGSTOP);
	cr_assert(WITHIN_MS(5000, is_stopped(pid)));
	atomic_store(&shared->peer_deaf, 0);
	waited_for = pid;
	is_sound("stopped", false);
	others_can_fork("stopped");
	waited_for = 0;
	others_go_on("stopped");
	cr_expect(WITHIN_MS(5000, is_stopped(pid)), "stopped at " AT_POINT ": it does not stay stopped", POINT_VALUES);
	kill(pid, SIGCONT);
	cr_expect_eq(rig_reap(pid), 0, "stopped at " AT_POINT ": it did not come to its end", POINT_VALUES);
	is_sound("stopped and ended", false);
	census_is(&was);
	is_sound("stopped and buried", true);
}

Test(death, stopped_at_any_instruction, .timeout = 14400)
{
	uint64_t points = env_number("OWNSTACK_DEATH_STOPS", STOPS);

	bystander(true, points);
	was = census_take();
	at_points(points, stop_at);
	cr_expect_geq(reached, tried / 2);
	if (getenv("OWNSTACK_DEATH_STOPS"))
		printf("stopped at %llu points of %llu\n", (unsigned long long)reached, (unsigned long long)tried);
}
