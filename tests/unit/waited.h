/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * waited.h - how long did a call make us wait, and how much of that was the machine's doing
 *
 * A time measured on a busy machine says little about who was waited for. What counts as the machine's: the time this thread
 * stood ready without a CPU (/proc/thread-self/schedstat), the time the hypervisor took (steal in /proc/stat), and by how much
 * the sleeps of a process that only sleeps (waited_control()) were too long meanwhile. The rest was waited for something.
 * How often the thread went to sleep, and its own CPU time, need no excuse.
 */
#ifndef OWNSTACK_TESTS_WAITED_H
#define OWNSTACK_TESTS_WAITED_H

#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include "host_rig.h"

#define CONTROL_MS 2

struct waited {
	usec_t wall, cpu, machine;
	long sleeps;
};

static _Atomic uint64_t *control_late_us;
static pid_t waited_for; /* a process that is waited for and has to run for it: its time without a CPU is the machine's, too. 0: none */

static inline uint64_t number_in(const char *path, int field)
{
	char line[256] = "";
	FILE *f = fopen(path, "r");
	unsigned long long v[10] = { 0 };

	if (!f || !fgets(line, sizeof(line), f))
		line[0] = 0;
	if (f)
		fclose(f);
	if (line[0] == 'c') /* the first line of /proc/stat */
		memmove(line, line + 3, strlen(line + 3) + 1);
	sscanf(line, "%llu %llu %llu %llu %llu %llu %llu %llu", v, v + 1, v + 2, v + 3, v + 4, v + 5, v + 6, v + 7);
	return v[field];
}

/* Ends with the test. */
static inline void waited_control(void)
{
	const struct timespec nap = { 0, CONTROL_MS * 1000000 };
	pid_t parent = getpid();

	control_late_us = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (fork())
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (getppid() == parent) {
		usec_t begin = io_now();

		nanosleep(&nap, NULL);
		atomic_fetch_add(control_late_us, io_now() - begin - MSEC(CONTROL_MS));
	}
	_exit(0);
}

static inline struct waited waited_now(void)
{
	struct timespec cpu;
	char other[48] = "/dev/null";
	struct rusage u;

	if (waited_for)
		snprintf(other, sizeof(other), "/proc/%d/schedstat", waited_for);
	getrusage(RUSAGE_THREAD, &u);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
	return (struct waited){
		.wall = io_now(), .cpu = (usec_t)cpu.tv_sec * 1000000 + (usec_t)cpu.tv_nsec / 1000, .sleeps = u.ru_nvcsw,
		.machine = (number_in("/proc/thread-self/schedstat", 1) + number_in(other, 1)) / 1000 +
			   number_in("/proc/stat", 7) * 1000000 / (uint64_t)sysconf(_SC_CLK_TCK) +
			   (control_late_us ? atomic_load(control_late_us) : 0) };
}

static inline struct waited waited_since(const struct waited *then)
{
	struct waited now = waited_now(), d = { .wall = now.wall - then->wall, .cpu = now.cpu - then->cpu, .sleeps = now.sleeps - then->sleeps };

	if (d.wall > MSEC(50)) { /* the other one adds up when it wakes, which may be right after us */
		usleep(3 * CONTROL_MS * 1000);
		now = waited_now();
	}
	d.machine = now.machine - then->machine;
	return d;
}

/**
 * WAITED_AT_MOST() - @w waited for no more than @ms, went to sleep no more than @naps times, and computed for no more than @cpu_ms
 *
 * One more sleep than is counted is allowed for: a page or a lock of the kernel's; and one for each 10 ms that the machine took
 * from whom we waited for: that long is the shortest look at a lock.
 */
#define WAITED_AT_MOST(w, ms, naps, cpu_ms, fmt, ...)                                                                               \
	do {                                                                                                                        \
		cr_expect_leq((w).wall, MSEC(ms) + (w).machine, fmt ": waited %llu us, %llu of them the machine's", __VA_ARGS__,     \
			      (unsigned long long)(w).wall, (unsigned long long)(w).machine);                                       \
		cr_expect_leq((w).sleeps, (naps) + 1 + (long)((w).machine / MSEC(10)), fmt ": went to sleep %ld times", __VA_ARGS__, (w).sleeps);                    \
		cr_expect_leq((w).cpu, MSEC(cpu_ms), fmt ": %llu us of CPU", __VA_ARGS__, (unsigned long long)(w).cpu);             \
	} while (0)

#endif
