/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * criterion.h - as much of Criterion as the tests with threads use, for builds with TSan, under which Criterion cannot get the
 * memory it wants. Each test is a fork child; the program's argument is a part of the names of those to run.
 */
#ifndef OWNSTACK_TESTS_TSAN_CRITERION_H
#define OWNSTACK_TESTS_TSAN_CRITERION_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

struct tsan_test {
	const char *name;
	void (*run)(void);
	struct tsan_test *next;
};
static struct tsan_test *tsan_tests;
static int tsan_failed;

#define Test(suite, test, ...)                                                              \
	static void suite##_##test(void);                                                   \
	__attribute__((constructor)) static void suite##_##test##_add(void)                 \
	{                                                                                   \
		static struct tsan_test t = { #suite "/" #test, suite##_##test, NULL };     \
		t.next = tsan_tests;                                                        \
		tsan_tests = &t;                                                            \
	}                                                                                   \
	static void suite##_##test(void)

#define TSAN_CHECK(fatal, cond)                                                   \
	do {                                                                      \
		if (!(cond)) {                                                    \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond); \
			tsan_failed = 1;                                          \
			if (fatal)                                                \
				_exit(1);                                         \
		}                                                                 \
	} while (0)
#define cr_assert(c, ...)	   TSAN_CHECK(1, c)
#define cr_assert_not(c, ...)	   TSAN_CHECK(1, !(c))
#define cr_assert_eq(a, b, ...)	   TSAN_CHECK(1, (a) == (b))
#define cr_assert_neq(a, b, ...)   TSAN_CHECK(1, (a) != (b))
#define cr_assert_geq(a, b, ...)   TSAN_CHECK(1, (a) >= (b))
#define cr_assert_gt(a, b, ...)	   TSAN_CHECK(1, (a) > (b))
#define cr_assert_leq(a, b, ...)   TSAN_CHECK(1, (a) <= (b))
#define cr_assert_null(a, ...)	   TSAN_CHECK(1, (a) == NULL)
#define cr_assert_not_null(a, ...) TSAN_CHECK(1, (a) != NULL)
#define cr_expect(c, ...)	   TSAN_CHECK(0, c)
#define cr_expect_not(c, ...)	   TSAN_CHECK(0, !(c))
#define cr_expect_eq(a, b, ...)	   TSAN_CHECK(0, (a) == (b))
#define cr_expect_neq(a, b, ...)   TSAN_CHECK(0, (a) != (b))
#define cr_expect_geq(a, b, ...)   TSAN_CHECK(0, (a) >= (b))
#define cr_expect_gt(a, b, ...)	   TSAN_CHECK(0, (a) > (b))
#define cr_expect_leq(a, b, ...)   TSAN_CHECK(0, (a) <= (b))
#define cr_expect_lt(a, b, ...)	   TSAN_CHECK(0, (a) < (b))
#define cr_expect_null(a, ...)	   TSAN_CHECK(0, (a) == NULL)
#define cr_expect_not_null(a, ...) TSAN_CHECK(0, (a) != NULL)
#define cr_skip_test(...)	   _exit(0)
#define cr_log_info(...)	   ((void)0)

int main(int argc, char **argv)
{
	int run = 0, bad = 0, status;

	for (struct tsan_test *t = tsan_tests; t; t = t->next) {
		pid_t pid;

		if (argc > 1 && !strstr(t->name, argv[1]))
			continue;
		pid = fork();
		if (!pid) {
			t->run();
			exit(tsan_failed);
		}
		run++;
		if (waitpid(pid, &status, 0) == pid && status) {
			fprintf(stderr, "FAIL: %s (status %x)\n", t->name, (unsigned)status);
			bad++;
		}
	}
	printf("%d run, %d failed\n", run, bad);
	return bad || !run;
}

#endif
