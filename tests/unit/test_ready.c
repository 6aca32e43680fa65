/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Watches and ready lists, with listeners and epoll instances as the files: no device, one process. Events are made by
 * file_notify(); a nested epoll instance is the file that can be made ready and not ready at will.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include "host_rig.h"

/* An epoll instance with a member that is ready: as a file it is readable until the member is deleted. */
struct lamp {
	struct file *f;
};

static struct file *epoll_new(struct thr *t)
{
	struct file *f;

	shard_lock(t);
	f = epoll_file_new();
	cr_assert_not_null(f);
	file_ref(f);
	shard_unlock(t);
	return f;
}

/* A TCP socket that is not connected: EPOLLOUT and EPOLLHUP hold, as in Linux. */
static struct file *socket_new(struct thr *t)
{
	struct file *f;

	shard_lock(t);
	f = file_new(FILE_TCP, 4);
	cr_assert_not_null(f);
	file_ref(f);
	f->tcb = tcp_open(host->shard.stack, 4, file_handle(f), t->now);
	cr_assert_not_null(f->tcb);
	shard_unlock(t);
	return f;
}

static struct file *always; /* what makes lamps shine */

static struct lamp lamp_new(struct thr *t)
{
	if (!always)
		always = socket_new(t);
	return (struct lamp){ epoll_new(t) };
}

static void lamp_on(struct thr *t, struct lamp l)
{
	cr_assert_eq(epoll_watch_add(t, l.f->ep, always, 9, EPOLLOUT, 0), 0);
}

static void lamp_off(struct thr *t, struct lamp l)
{
	cr_assert_eq(epoll_watch_del(t, l.f->ep, always, 9), 0);
}

static int collect(struct thr *t, struct file *ep, struct epoll_event *ev)
{
	return epoll_collect(t, ep->ep, ev, 8);
}

static uint32_t word(const struct thr *t)
{
	return __atomic_load_n(&t->waiter->waker.word, __ATOMIC_SEQ_CST);
}

Test(ready, level_triggered_member_stays_until_it_is_not_ready, .timeout = 20)
{
	struct thr *t = rig_join();
	struct file *ep = epoll_new(t);
	struct lamp l = lamp_new(t);
	struct epoll_event ev[8];

	shard_lock(t);
	lamp_on(t, l);
	cr_assert_eq(epoll_watch_add(t, ep->ep, l.f, 5, EPOLLIN, 77), 0);
	for (int i = 0; i < 3; i++) {
		cr_assert_eq(collect(t, ep, ev), 1, "turn %d", i);
		cr_expect_eq(ev[0].data.u64, 77);
		cr_expect_eq(ev[0].events, EPOLLIN);
	}
	lamp_off(t, l);
	cr_expect_eq(collect(t, ep, ev), 0);
	cr_expect_eq(ep->ep->n_ready, 0, "it fell off the list");
	shard_unlock(t);
}

Test(ready, edge_triggered_member_comes_once_for_each_event, .timeout = 20)
{
	struct thr *t = rig_join();
	struct file *ep = epoll_new(t);
	struct lamp l = lamp_new(t);
	struct epoll_event ev[8];

	shard_lock(t);
	cr_assert_eq(epoll_watch_add(t, ep->ep, l.f, 5, EPOLLIN | (uint32_t)EPOLLET, 1), 0);
	cr_expect_eq(collect(t, ep, ev), 0);
	lamp_on(t, l);
	cr_expect_eq(collect(t, ep, ev), 1);
	cr_expect_eq(collect(t, ep, ev), 0, "though it is ready still");
	file_notify(t, l.f, EPOLLIN);
	cr_expect_eq(collect(t, ep, ev), 1, "a new event");
	lamp_off(t, l);
	file_notify(t, l.f, EPOLLIN);
	cr_expect_eq(collect(t, ep, ev), 0, "an event that was consumed before delivery");
	shard_unlock(t);
}

Test(ready, oneshot_member_waits_for_mod, .timeout = 20)
{
	struct thr *t = rig_join();
	struct file *ep = epoll_new(t);
	struct lamp l = lamp_new(t);
	struct epoll_event ev[8];

	shard_lock(t);
	lamp_on(t, l);
	cr_assert_eq(epoll_watch_add(t, ep->ep, l.f, 5, EPOLLIN | (uint32_t)EPOLLONESHOT, 1), 0);
	cr_expect_eq(collect(t, ep, ev), 1);
	file_notify(t, l.f, EPOLLIN);
	cr_expect_eq(collect(t, ep, ev), 0);
	cr_assert_eq(epoll_watch_mod(t, ep->ep, l.f, 5, EPOLLIN | (uint32_t)EPOLLONESHOT, 2), 0);
	cr_expect_eq(collect(t, ep, ev), 1, "ready already, and told at once");
	cr_expect_eq(ev[0].data.u64, 2);
	shard_unlock(t);
}

Test(ready, more_ready_than_asked_for_take_turns, .timeout = 20)
{
	struct thr *t = rig_join();
	struct file *ep = epoll_new(t);
	struct epoll_event ev[8];
	uint32_t seen = 0;

	shard_lock(t);
	for (int i = 0; i < 6; i++) {
		struct lamp l;

		shard_unlock(t);
		l = lamp_new(t);
		shard_lock(t);
		lamp_on(t, l);
		cr_assert_eq(epoll_watch_add(t, ep->ep, l.f, 10 + i, EPOLLIN, (uint64_t)i), 0);
	}
	for (int turn = 0; turn < 3; turn++) {
		cr_assert_eq(epoll_collect(t, ep->ep, ev, 2), 2);
		seen |= 1u << ev[0].data.u64 | 1u << ev[1].data.u64;
	}
	cr_expect_eq(seen, 0x3f, "none starves: %x", seen);
	shard_unlock(t);
}

Test(ready, errors_of_adding, .timeout = 20)
{
	struct thr *t = rig_join();
	struct file *ep = epoll_new(t), *ep2 = epoll_new(t);
	struct lamp l = lamp_new(t);

	shard_lock(t);
	cr_expect_eq(epoll_watch_add(t, ep->ep, ep, 3, EPOLLIN, 0), -EINVAL);
	cr_expect_eq(epoll_watch_add(t, ep->ep, l.f, 5, EPOLLIN, 0), 0);
	cr_expect_eq(epoll_watch_add(t, ep->ep, l.f, 5, EPOLLIN, 0), -EEXIST);
	cr_expect_eq(epoll_watch_add(t, ep->ep, l.f, 6, EPOLLIN, 0), 0, "another number of the same file is another member");
	cr_expect_eq(epoll_watch_del(t, ep->ep, l.f, 7), -ENOENT);
	cr_expect_eq(epoll_watch_add(t, ep2->ep, ep, 3, EPOLLIN, 0), 0);
	cr_expect_eq(epoll_watch_add(t, ep->ep, ep2, 4, EPOLLIN, 0), -ELOOP);
	shard_unlock(t);
}

Test(ready, nested_instance_is_readable_while_a_member_is_ready, .timeout = 20)
{
	struct thr *t = rig_join();
	struct file *outer = epoll_new(t);
	struct lamp l = lamp_new(t);
	struct epoll_event ev[8];

	shard_lock(t);
	cr_assert_eq(epoll_watch_add(t, outer->ep, l.f, 5, EPOLLIN, 1), 0);
	cr_expect_eq(collect(t, outer, ev), 0);
	lamp_on(t, l);
	cr_expect_eq(collect(t, outer, ev), 1, "the event went up");
	lamp_off(t, l);
	cr_expect_eq(collect(t, outer, ev), 0);
	shard_unlock(t);
}

/* ---- threads ---- */

struct other {
	pthread_t th;
	struct thr *t;
	_Atomic int state;
};

static void *other_main(void *arg)
{
	struct other *o = arg;

	o->t = thr_enter();
	atomic_store(&o->state, 1);
	while (atomic_load(&o->state) != 2)
		sched_yield();
	thr_exit(o->t);
	return NULL;
}

static void other_start(struct other *o)
{
	cr_assert_eq(pthread_create(&o->th, NULL, other_main, o), 0);
	while (atomic_load(&o->state) != 1)
		sched_yield();
}

static void other_end(struct other *o)
{
	atomic_store(&o->state, 2);
	pthread_join(o->th, NULL);
}

Test(ready, each_event_wakes_all_but_one_of_the_exclusive, .timeout = 20)
{
	struct thr *t = rig_join();
	struct file *f = socket_new(t);
	struct other o[4] = { 0 };
	uint32_t before[4], woken = 0;

	for (int i = 0; i < 4; i++)
		other_start(&o[i]);
	shard_lock(t);
	for (int i = 0; i < 4; i++) {
		cr_assert_eq(i < 2 ? watch_arm(o[i].t, f, EPOLLIN) : watch_arm_exclusive(o[i].t, f, EPOLLIN), 0);
		before[i] = word(o[i].t);
	}
	file_notify(t, f, EPOLLIN);
	for (int i = 0; i < 4; i++)
		woken |= (word(o[i].t) != before[i]) << i;
	cr_expect(woken == 7 || woken == 11, "both others and one of two: %x", woken);
	file_notify(t, f, EPOLLIN);
	for (int i = 0; i < 4; i++)
		woken |= (word(o[i].t) != before[i]) << i;
	cr_expect_eq(woken, 15, "a second event is for the second: %x", woken);
	for (int i = 0; i < 4; i++)
		watch_disarm_all(o[i].t);
	cr_expect_eq(host->watches.in_use, 0);
	thr_leave(t);
	for (int i = 0; i < 4; i++)
		other_end(&o[i]);
}

Test(ready, who_was_woken_and_does_not_act_passes_it_on, .timeout = 20)
{
	struct thr *t = rig_join();
	struct lamp l = lamp_new(t);
	struct other o[2] = { 0 };
	uint32_t before[2];
	int first;

	for (int i = 0; i < 2; i++)
		other_start(&o[i]);
	shard_lock(t);
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(watch_arm_exclusive(o[i].t, l.f, EPOLLIN), 0);
		before[i] = word(o[i].t);
	}
	lamp_on(t, l);
	first = word(o[0].t) != before[0] ? 0 : 1;
	cr_expect_eq(word(o[!first].t), before[!first]);
	watch_pass_on(o[first].t);
	watch_disarm_all(o[first].t);
	cr_expect_neq(word(o[!first].t), before[!first], "the next one is woken");
	watch_disarm_all(o[!first].t);
	thr_leave(t);
	for (int i = 0; i < 2; i++)
		other_end(&o[i]);
}

Test(ready, sleepers_in_epoll_wait_are_woken_one_for_each_event, .timeout = 20)
{
	struct thr *t = rig_join();
	struct file *ep = epoll_new(t);
	struct lamp l = lamp_new(t), m = lamp_new(t);
	struct other o[2] = { 0 };
	uint32_t before[2];

	for (int i = 0; i < 2; i++)
		other_start(&o[i]);
	shard_lock(t);
	cr_assert_eq(epoll_watch_add(t, ep->ep, l.f, 5, EPOLLIN, 1), 0);
	cr_assert_eq(epoll_watch_add(t, ep->ep, m.f, 6, EPOLLIN, 2), 0);
	for (int i = 0; i < 2; i++) {
		epoll_sleep_arm(o[i].t, ep->ep);
		before[i] = word(o[i].t);
	}
	lamp_on(t, l);
	cr_expect_eq((word(o[0].t) != before[0]) + (word(o[1].t) != before[1]), 1);
	lamp_on(t, m);
	cr_expect_eq((word(o[0].t) != before[0]) + (word(o[1].t) != before[1]), 2);
	for (int i = 0; i < 2; i++)
		epoll_sleep_disarm(o[i].t, ep->ep);
	thr_leave(t);
	for (int i = 0; i < 2; i++)
		other_end(&o[i]);
}

Test(ready, end_of_a_file_takes_it_out_of_everything, .timeout = 20)
{
	struct thr *t = rig_join();
	struct file *ep = epoll_new(t), *f = socket_new(t);
	struct other o = { 0 };
	struct epoll_event ev[8];
	uint32_t before;

	other_start(&o);
	shard_lock(t);
	cr_assert_eq(epoll_watch_add(t, ep->ep, f, 5, EPOLLOUT, 1), 0);
	cr_assert_eq(watch_arm(o.t, f, EPOLLIN), 0);
	before = word(o.t);
	file_unref(t, f);
	cr_expect_neq(word(o.t), before, "who is blocked on it looks again");
	cr_expect_eq(collect(t, ep, ev), 0);
	cr_expect_eq(ep->ep->n_watches, 0);
	watch_disarm_all(o.t);
	cr_expect_eq(host->watches.in_use, 0);
	thr_leave(t);
	other_end(&o);
}

Test(ready, repair_makes_the_same_lists_again, .timeout = 20)
{
	struct thr *t = rig_join();
	struct file *ep = epoll_new(t);
	struct lamp l = lamp_new(t), dark = lamp_new(t);
	struct epoll_event ev[8];

	shard_lock(t);
	lamp_on(t, l);
	cr_assert_eq(epoll_watch_add(t, ep->ep, l.f, 5, EPOLLIN, 1), 0);
	cr_assert_eq(epoll_watch_add(t, ep->ep, dark.f, 6, EPOLLIN, 2), 0);
	cr_assert_eq(watch_arm(t, dark.f, EPOLLIN), 0);
	ep->ep->ready = (void *)1; /* as one that died in the middle may leave it */
	dark.f->watches = (void *)2;
	t->waiter->watches = (void *)3;
	ready_repair();
	cr_expect_eq(ep->ep->n_watches, 2);
	cr_expect_eq(collect(t, ep, ev), 1, "what is ready, and nothing else");
	cr_expect_eq(ev[0].data.u64, 1);
	watch_disarm_all(t);
	cr_expect_eq(host->watches.in_use, 3, "two members, and the one that makes the lamp shine");
	shard_unlock(t);
}

Test(ready, held_file_outlives_its_last_number, .timeout = 20)
{
	struct thr *t = rig_join();
	struct file *f = socket_new(t);
	uint32_t files = host->files.in_use;

	shard_lock(t);
	file_hold(t, f);
	file_hold(t, f);
	file_unref(t, f);
	cr_expect_eq(host->files.in_use, files);
	file_release(t, f);
	cr_expect_eq(host->files.in_use, files);
	file_release(t, f);
	cr_expect_eq(host->files.in_use, files - 1);
	shard_unlock(t);
}

/* ---- many threads ---- */

#define STORM_THREADS 4
static struct file *storm_ep, *storm_file[8];

static void *storm(void *arg)
{
	uint32_t seed = (uint32_t)(uintptr_t)arg * 2654435761u;
	struct thr *t = thr_enter();
	struct epoll_event ev[4];

	for (int i = 0; i < 20000; i++) {
		struct file *f;

		seed = seed * 1664525 + 1013904223;
		f = storm_file[seed >> 29];
		t = thr_enter();
		shard_lock(t);
		switch (seed >> 20 & 7) {
		case 0:
			epoll_watch_add(t, storm_ep->ep, f, 1 + (seed >> 16 & 3), EPOLLOUT, seed);
			break;
		case 1:
			epoll_watch_del(t, storm_ep->ep, f, 1 + (seed >> 16 & 3));
			break;
		case 2:
			watch_arm_exclusive(t, f, EPOLLIN);
			break;
		case 3:
			watch_pass_on(t);
			watch_disarm_all(t);
			break;
		case 4:
			epoll_sleep_arm(t, storm_ep->ep);
			break;
		case 5:
			epoll_sleep_disarm(t, storm_ep->ep);
			break;
		case 6:
			file_notify(t, f, EPOLLIN | EPOLLOUT);
			break;
		case 7:
			epoll_collect(t, storm_ep->ep, ev, 4);
			break;
		}
		thr_leave(t);
	}
	thr_exit(t);
	return NULL;
}

Test(ready, storm_of_threads_leaves_nothing, .timeout = 60)
{
	pthread_t th[STORM_THREADS];
	struct thr *t = rig_join();

	storm_ep = epoll_new(t);
	for (int i = 0; i < 8; i++)
		storm_file[i] = socket_new(t);
	for (uintptr_t i = 0; i < STORM_THREADS; i++)
		pthread_create(&th[i], NULL, storm, (void *)(i + 1));
	for (int i = 0; i < STORM_THREADS; i++)
		pthread_join(th[i], NULL);
	cr_expect_eq(host->waiters.in_use, 1);
	shard_lock(t);
	file_unref(t, storm_ep);
	for (int i = 0; i < 8; i++)
		file_unref(t, storm_file[i]);
	shard_unlock(t);
	cr_expect_eq(host->watches.in_use, 0);
	cr_expect_eq(host->files.in_use, 0);
	cr_expect_eq(host->epolls.in_use, 0);
}
