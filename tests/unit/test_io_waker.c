/* SPDX-License-Identifier: BSD-2-Clause */
/* test_io_waker.c - the wake word: no system call without a sleeper, no wake lost between threads, probe of levels */
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <unistd.h>
#include "../../io/io.h"
#include "../../io/waker.h"

static bool readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

Test(io_waker, word_moves_and_datagram_comes_only_to_a_sleeper)
{
	struct io_waker w = { 0 };
	int fd;

	cr_assert_eq(waker_open(&w, true, &fd), 0);
	cr_assert_geq(fd, 1000);
	cr_assert_eq(waker_word(&w), 0);
	io_wake(&w);
	cr_assert_eq(waker_word(&w), 1);
	cr_assert(!readable(fd), "nobody sleeps: no datagram");
	cr_assert(waker_sleep_begin(&w, 1));
	io_wake(&w);
	cr_assert(readable(fd));
	waker_sleep_end(&w);
	waker_drain(fd);
	cr_assert(!readable(fd));
	waker_close(&w, fd);
}

Test(io_waker, sleep_on_an_old_value_is_refused)
{
	struct io_waker w = { 0 };
	int fd;

	cr_assert_eq(waker_open(&w, false, &fd), 0);
	cr_assert_eq(fd, -1);
	io_wake(&w);
	cr_assert(!waker_sleep_begin(&w, 0));
	cr_assert(waker_sleep_begin(&w, 1));
	waker_close(&w, fd);
}

Test(io_waker, more_wakes_than_the_socket_holds)
{
	struct io_waker w = { 0 };
	int fd;

	cr_assert_eq(waker_open(&w, true, &fd), 0);
	cr_assert(waker_sleep_begin(&w, 0));
	for (int i = 0; i < 5000; i++)
		io_wake(&w);
	cr_assert_eq(waker_word(&w), 5000);
	waker_drain(fd);
	io_wake(&w);
	cr_assert(readable(fd), "a full queue does not spoil the next wake");
	waker_close(&w, fd);
}

Test(io_waker, sender_that_was_closed_is_made_anew)
{
	struct io_waker w = { 0 };
	int fd;

	cr_assert_eq(waker_open(&w, true, &fd), 0);
	cr_assert(waker_sleep_begin(&w, 0));
	io_wake(&w);
	waker_drain(fd);
	for (int i = fd + 1; i < fd + 50; i++)
		close(i); /* a program that closes all it does not know */
	io_wake(&w);
	cr_assert(readable(fd));
	waker_close(&w, fd);
}

Test(io_waker, owner_gone_is_no_error)
{
	struct io_waker w = { 0 };
	int fd;

	cr_assert_eq(waker_open(&w, true, &fd), 0);
	cr_assert(waker_sleep_begin(&w, 0));
	close(fd);
	io_wake(&w);
	io_wake(&w);
	cr_assert_eq(waker_word(&w), 2);
}

Test(io_probe, names_of_levels)
{
	int best = io_level_probe(NULL);

	cr_assert(best >= IO_LEVEL_FULL && best <= IO_LEVEL_POLL);
	cr_assert_eq(io_level_probe(""), best);
	cr_assert_eq(io_level_probe("poll"), IO_LEVEL_POLL);
	cr_assert_eq(io_level_probe("uring"), best <= IO_LEVEL_URING ? IO_LEVEL_URING : -EOPNOTSUPP);
	cr_assert_eq(io_level_probe("full"), best == IO_LEVEL_FULL ? IO_LEVEL_FULL : -EOPNOTSUPP);
	cr_assert_eq(io_level_probe("fast"), -EINVAL);
}
