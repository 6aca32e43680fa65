/* SPDX-License-Identifier: BSD-2-Clause */
#include <criterion/criterion.h>
#include "../../stack/wheel.h"
#include "region.h"

#define TEST(name) Test(wheel, name)
#define TICK_US (1u << WHEEL_TICK_SHIFT)

TEST(empty_has_no_deadline)
{
	static struct wheel w;

	wheel_init(&w, SEC(1000));
	cr_assert_eq(wheel_deadline(&w), USEC_NEVER);
	cr_assert_null(wheel_pop(&w, SEC(99999)));
}

TEST(fires_not_before_its_time_and_at_most_a_tick_late)
{
	static struct wheel w;
	struct timer t = { 0 };

	for (usec_t start = 0; start < 2 * TICK_US; start += 37) {
		for (usec_t d = 0; d < 3 * TICK_US; d += 11) {
			usec_t at = SEC(5) + start + d;

			wheel_init(&w, SEC(5) + start);
			wheel_set(&w, &t, at);
			for (usec_t now = SEC(5) + start; now < at; now++)
				cr_assert_null(wheel_pop(&w, now));
			cr_assert_eq(wheel_pop(&w, at + TICK_US), &t);
			cr_assert(!timer_armed(&t));
		}
	}
}

TEST(past_time_fires_at_next_pop)
{
	static struct wheel w;
	struct timer t = { 0 };

	wheel_init(&w, SEC(50));
	wheel_set(&w, &t, SEC(1));
	cr_assert_leq(wheel_deadline(&w), SEC(50));
	cr_assert_eq(wheel_pop(&w, SEC(50)), &t);
}

TEST(cancelled_never_fires)
{
	static struct wheel w;
	struct timer t = { 0 }, u = { 0 }, v = { 0 };

	wheel_init(&w, 0);
	wheel_set(&w, &t, SEC(1));
	wheel_set(&w, &u, SEC(1));
	wheel_set(&w, &v, SEC(1));
	wheel_cancel(&w, &u);
	wheel_cancel(&w, &u);
	cr_assert(!timer_armed(&u));
	cr_assert_neq(wheel_pop(&w, SEC(2)), &u);
	cr_assert_neq(wheel_pop(&w, SEC(2)), &u);
	cr_assert_null(wheel_pop(&w, SEC(2)));
	cr_assert_eq(wheel_deadline(&w), USEC_NEVER);
}

TEST(never_is_no_deadline)
{
	static struct wheel w;
	struct timer t = { 0 };

	wheel_init(&w, SEC(3));
	wheel_set(&w, &t, USEC_NEVER);
	cr_assert_eq(wheel_deadline(&w), USEC_NEVER);
	cr_assert_null(wheel_pop(&w, SEC(4000000000)));
	wheel_cancel(&w, &t);
}

TEST(handler_may_set_again)
{
	static struct wheel w;
	struct timer t = { 0 };
	usec_t now = 0;
	int n = 0;

	wheel_init(&w, 0);
	wheel_set(&w, &t, MSEC(10));
	while (n < 100) {
		now = wheel_deadline(&w);
		if (wheel_pop(&w, now) == &t) {
			cr_assert_lt(now - t.at, TICK_US);
			n++;
			wheel_set(&w, &t, t.at + MSEC(10));
		}
	}
	cr_assert_leq(now, SEC(1) + TICK_US);
}

/*
 * Against a list searched in full: thousands of timers, near and years away, set, moved and cancelled while time jumps.
 */
struct model {
	struct timer t;
	usec_t at; /* 0: not armed */
};

static usec_t some_time(uint64_t *seed, usec_t now)
{
	return now + (rnd(seed) >> (14 + rnd(seed) % 50));
}

static void check_due(struct wheel *w, struct model *m, int n, usec_t now)
{
	struct timer *t;

	while ((t = wheel_pop(w, now))) {
		struct model *x = (struct model *)(void *)t;

		cr_assert_eq(x->at, t->at);
		cr_assert_neq(x->at, 0, "fired although not armed");
		cr_assert_leq(x->at, now, "fired early");
		x->at = 0;
	}
	for (int i = 0; i < n; i++)
		cr_assert(!m[i].at || m[i].at + TICK_US > now, "due at %llu, not fired at %llu",
			  (unsigned long long)m[i].at,
			  (unsigned long long)now);
}

TEST(same_as_a_full_search)
{
	enum { N = 2000 };
	static struct model m[N];
	static struct wheel w;
	uint64_t seed = 42;
	usec_t now = SEC(77777);

	wheel_init(&w, now);
	for (int step = 0; step < 4000; step++) {
		usec_t first = USEC_NEVER;

		for (int k = 0; k < 20; k++) {
			struct model *x = &m[rnd(&seed) % N];

			if (rnd(&seed) % 4) {
				x->at = some_time(&seed, now) + 1;
				wheel_set(&w, &x->t, x->at);
			} else {
				x->at = 0;
				wheel_cancel(&w, &x->t);
			}
		}
		for (int i = 0; i < N; i++)
			if (m[i].at && m[i].at < first)
				first = m[i].at;
		cr_assert_leq(wheel_deadline(&w), first == USEC_NEVER ? first : first + TICK_US, "deadline too late");
		now = rnd(&seed) % 3 ? some_time(&seed, now) : wheel_deadline(&w) > now ? wheel_deadline(&w) : now;
		if (now > SEC(1) * 1000000000ull)
			break;
		check_due(&w, m, N, now);
	}
}

/* Sleeping until the deadline each time must not take many wake-ups: one per level at most. */
TEST(few_wakeups_on_the_way_to_a_far_timer)
{
	static struct wheel w;
	struct timer t = { 0 };
	usec_t now = SEC(123) + 77;
	int wakes = 0;

	wheel_init(&w, now);
	wheel_set(&w, &t, now + SEC(7200));
	do {
		now = wheel_deadline(&w);
		wakes++;
	} while (!wheel_pop(&w, now));
	cr_assert_leq(wakes, 6);
}
