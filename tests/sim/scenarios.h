/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef OWNSTACK_TESTS_SIM_SCENARIOS_H
#define OWNSTACK_TESTS_SIM_SCENARIOS_H

#include "sim.h"

struct outcome { /* one row of a table; all hosts together */
	uint64_t time_ms, kbit_s, segs, retrans, lost, held_kib_max, worst_ms;
};

struct scenario {
	const char *name, *text;
	void (*run)(struct sim *s, struct outcome *o);
	unsigned seeds;
	bool offloads;
};
extern const struct scenario scenarios[]; /* ends with a name of NULL */

#endif
