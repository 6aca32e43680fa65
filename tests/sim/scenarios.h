/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef OWNSTACK_TESTS_SIM_SCENARIOS_H
#define OWNSTACK_TESTS_SIM_SCENARIOS_H

#include "sim.h"

struct outcome { /* one row of a table; all hosts together */
	uint64_t time_ms, kbit_s, segs, retrans, lost, held_kib_max, worst_ms;
};

struct scenario { /* over IPv6 where the name begins with ip6_ */
	const char *name, *text;
	void (*run)(struct sim *s, struct outcome *o);
	unsigned seeds;
	bool offloads;
};
void outcome_take(struct sim *s, struct outcome *o); /* what all hosts together counted, since the start */
extern const struct scenario scenarios[]; /* ends with a name of NULL */

/* scenarios_cc.c */
void cc_fair_2_cubic(struct sim *s, struct outcome *o);
void cc_fair_10_cubic(struct sim *s, struct outcome *o);
void cc_fair_2_reno(struct sim *s, struct outcome *o);
void cc_fair_2_bbr(struct sim *s, struct outcome *o);
void cc_fair_10_bbr(struct sim *s, struct outcome *o);
void cc_joins_full_queue(struct sim *s, struct outcome *o);
void cc_fair_10_ecn(struct sim *s, struct outcome *o);
void cc_bbr_clean(struct sim *s, struct outcome *o);
void cc_bbr_loss_2pct(struct sim *s, struct outcome *o);
void cc_bbr_policed(struct sim *s, struct outcome *o);
void cc_cubic_policed(struct sim *s, struct outcome *o);
void cc_bbr_shallow(struct sim *s, struct outcome *o);
void cc_ecn_bulk(struct sim *s, struct outcome *o);
void cc_paced_8mbit(struct sim *s, struct outcome *o);
void cc_fill_fat(struct sim *s, struct outcome *o);

#endif
