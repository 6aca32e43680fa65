/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * gap.c - how much of a CPU does somebody else take?
 *
 *	gap CPU MILLISECONDS
 *
 * Spins on CPU and looks at the clock: a gap of more than 0.5 ms between two looks is time that a host, another guest
 * or another process took. /proc/stat does not show what a host takes. Prints microseconds lost and the longest gap.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define GAP_NS 500000

static long long now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

int main(int argc, char **argv)
{
	long long lost = 0, longest = 0, last, end;
	cpu_set_t set;

	if (argc != 3) {
		fprintf(stderr, "usage: gap CPU MILLISECONDS\n");
		return 2;
	}
	CPU_ZERO(&set);
	CPU_SET((size_t)atoi(argv[1]), &set);
	if (sched_setaffinity(0, sizeof(set), &set)) {
		perror("gap: sched_setaffinity");
		return 1;
	}
	last = now_ns();
	end = last + atoll(argv[2]) * 1000000;
	while (last < end) {
		long long now = now_ns(), gap = now - last;

		if (gap > GAP_NS) {
			lost += gap;
			if (gap > longest)
				longest = gap;
		}
		last = now;
	}
	printf("%lld %lld\n", lost / 1000, longest / 1000);
	return 0;
}
