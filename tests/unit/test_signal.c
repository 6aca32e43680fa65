/* SPDX-License-Identifier: BSD-2-Clause */
/* test_signal.c - handlers put off inside the library; sleeps that signals and pthread_cancel() end */
#include <criterion/criterion.h>
#include <setjmp.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../../preload/preload_priv.h"
#include "preload_fakes.h"

static volatile int order[8], n_ran;
static volatile sigset_t mask_inside;
static volatile int value_seen, values[8];
static volatile uintptr_t rip_seen;

static void handler(int sig, siginfo_t *info, void *uctx)
{
	sigset_t now;

	sigprocmask(SIG_BLOCK, NULL, &now);
	mask_inside = now;
	value_seen = info->si_value.sival_int;
	rip_seen = (uintptr_t)((ucontext_t *)uctx)->uc_mcontext.gregs[REG_RIP];
	values[n_ran] = info->si_value.sival_int;
	order[n_ran++] = sig;
}

static void install(int sig, int flags)
{
	struct sigaction act = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags };

	sigaddset(&act.sa_mask, SIGWINCH);
	cr_assert_eq(own_sigaction(sig, &act, NULL), 0);
}

static bool blocked(int sig)
{
	sigset_t now;

	sigprocmask(SIG_BLOCK, NULL, &now);
	return sigismember(&now, sig);
}

TestSuite(signal, .init = signal_init);

Test(signal, outside_runs_at_once)
{
	install(SIGUSR1, 0);
	raise(SIGUSR1);
	cr_assert_eq(n_ran, 1);
}

Test(signal, inside_runs_when_the_depth_is_zero_again)
{
	install(SIGUSR1, 0);
	thr_defer();
	thr_defer();
	sigqueue(getpid(), SIGUSR1, (union sigval){ .sival_int = 42 });
	cr_assert_eq(n_ran, 0);
	cr_assert(blocked(SIGTERM), "the kernel keeps the next ones");
	thr_undefer();
	cr_assert_eq(n_ran, 0);
	thr_undefer();
	cr_assert_eq(n_ran, 1);
	cr_assert_eq(value_seen, 42);
	cr_assert_neq(rip_seen, 0);
	cr_assert(sigismember((sigset_t *)&mask_inside, SIGUSR1));
	cr_assert(sigismember((sigset_t *)&mask_inside, SIGWINCH), "sa_mask");
	cr_assert(!sigismember((sigset_t *)&mask_inside, SIGTERM));
	cr_assert(!blocked(SIGUSR1) && !blocked(SIGTERM) && !blocked(SIGWINCH));
}

Test(signal, several_inside_all_run_each_once)
{
	install(SIGUSR1, 0);
	install(SIGUSR2, 0);
	install(SIGRTMIN + 3, 0);
	thr_defer();
	raise(SIGUSR1);
	raise(SIGUSR2);
	for (int i = 0; i < 3; i++)
		sigqueue(getpid(), SIGRTMIN + 3, (union sigval){ .sival_int = i });
	cr_assert_eq(n_ran, 0);
	thr_undefer();
	cr_assert_eq(n_ran, 5, "%d", n_ran);
	for (int i = 0, next = 0; i < 5; i++)
		if (order[i] == SIGRTMIN + 3)
			cr_assert_eq(values[i], next++, "queued ones come in order");
}

static sigjmp_buf back;
static void jumper(int sig)
{
	(void)sig;
	siglongjmp(back, 1);
}

Test(signal, deferred_handler_may_jump_away)
{
	own_signal(SIGUSR1, jumper);
	if (!sigsetjmp(back, 1)) {
		thr_defer();
		raise(SIGUSR1);
		thr_undefer();
		cr_assert_fail("handler did not run");
	}
	cr_assert_eq(thr_depth, 0);
	cr_assert(!blocked(SIGUSR1) && !blocked(SIGTERM));
	cr_assert(!*thr_signal_pending);
}

Test(signal, program_sees_its_own_settings)
{
	struct sigaction old;

	install(SIGUSR1, SA_RESTART);
	cr_assert_eq(own_sigaction(SIGUSR1, NULL, &old), 0);
	cr_assert_eq(old.sa_sigaction, handler);
	cr_assert_eq(old.sa_flags & (SA_SIGINFO | SA_RESTART | SA_NODEFER), SA_SIGINFO | SA_RESTART);
	cr_assert(sigismember(&old.sa_mask, SIGWINCH));
	cr_assert_eq(own_signal(SIGUSR2, jumper), SIG_DFL);
	cr_assert_eq(own_signal(SIGUSR2, SIG_IGN), jumper);
	cr_assert_eq(own_signal(SIGUSR2, SIG_DFL), SIG_IGN);
	own_signal(SIGSEGV, SIG_DFL); /* a sanitizer may have set one */
	cr_assert_eq(own_sigaction(SIGSEGV, NULL, &old), 0);
	cr_assert_eq(old.sa_handler, SIG_DFL, "although we catch it");
	errno = 0;
	cr_assert_eq(own_signal(SIGKILL, jumper), SIG_ERR);
	cr_assert_eq(errno, EINVAL);
	cr_assert_eq(own_signal(0, jumper), SIG_ERR);
}

Test(signal, bad_pointer_leaves_the_table_usable)
{
	install(SIGUSR1, 0);
	errno = 0;
	cr_assert_eq(own_sigaction(9999, NULL, NULL), -1);
	cr_assert_eq(errno, EINVAL);
	raise(SIGUSR1);
	cr_assert_eq(n_ran, 1);
}

Test(signal, reset_hand_runs_once, .signal = SIGUSR1)
{
	struct sigaction old;

	install(SIGUSR1, (int)SA_RESETHAND);
	thr_defer();
	raise(SIGUSR1);
	thr_undefer();
	cr_assert_eq(n_ran, 1);
	cr_assert_eq(own_sigaction(SIGUSR1, NULL, &old), 0);
	cr_assert_eq(old.sa_handler, SIG_DFL);
	raise(SIGUSR1); /* dies of it */
}

Test(signal, siginterrupt_and_signal_agree)
{
	struct sigaction old;

	own_signal(SIGUSR1, jumper);
	own_sigaction(SIGUSR1, NULL, &old);
	cr_assert(old.sa_flags & SA_RESTART);
	cr_assert_eq(own_siginterrupt(SIGUSR1, 1), 0);
	own_sigaction(SIGUSR1, NULL, &old);
	cr_assert(!(old.sa_flags & SA_RESTART));
	own_signal(SIGUSR1, jumper);
	own_sigaction(SIGUSR1, NULL, &old);
	cr_assert(!(old.sa_flags & SA_RESTART));
}

Test(signal, sigset_holds_and_releases)
{
	cr_assert_eq(own_sigset(SIGUSR1, jumper), SIG_DFL);
	cr_assert_eq(own_sigset(SIGUSR1, SIG_HOLD), jumper);
	cr_assert(blocked(SIGUSR1));
	cr_assert_eq(own_sigset(SIGUSR1, SIG_IGN), SIG_HOLD);
	cr_assert(!blocked(SIGUSR1));
}

/* ---- sleeping ---- */

static struct io_waker waker;
static struct thr thr = { .waker = &waker };
static int cleanups;

static void cleanup(void *arg)
{
	cr_assert_eq(arg, &thr);
	cr_assert_eq(n_ran, 0, "before the handler");
	cleanups++;
}

static void sleep_signal(struct thr *t, uint32_t seen)
{
	(void)t, (void)seen;
	raise(SIGUSR1);
	cr_assert_eq(n_ran, 0, "not while drive_wait() is at work");
}

static int wait_once(bool restartable)
{
	struct drive_wait w = { .deadline = USEC_NEVER };
	struct sig_scope scope;

	sig_scope_begin(&scope);
	return own_wait(&thr, waker.word, &w, &scope, restartable, cleanup, &thr);
}

/* A thread's first sleep only looks for a cancellation from before. */
static void first_wait(void)
{
	cr_assert_gt(wait_once(true), 0);
	cr_assert_eq(cleanups, 1);
	cleanups = 0;
}

Test(signal, sleep_ends_with_eintr)
{
	first_wait();
	install(SIGUSR1, 0);
	fake_sleep = sleep_signal;
	fake_sleep_result = -EINTR;
	cr_assert_eq(wait_once(true), -EINTR);
	cr_assert_eq(n_ran, 1);
	cr_assert_eq(cleanups, 1);
	cr_assert_eq(fake_wakes, 1, "the thread's own wake word moves");
}

Test(signal, sleep_restarts_where_the_call_does)
{
	first_wait();
	install(SIGUSR1, SA_RESTART);
	fake_sleep = sleep_signal;
	fake_sleep_result = -EINTR;
	cr_assert_gt(wait_once(true), 0);
	cr_assert_eq(n_ran, 1);
	n_ran = 0;
	cr_assert_eq(wait_once(false), -EINTR, "epoll_wait and the like never restart");
}

static int sleeps;
static void sleep_counted(struct thr *t, uint32_t seen)
{
	(void)t, (void)seen;
	sleeps++;
}

Test(signal, signal_between_look_and_sleep_is_not_lost)
{
	struct drive_wait w = { .deadline = USEC_NEVER };
	struct sig_scope scope;

	install(SIGUSR1, 0);
	fake_sleep = sleep_counted;
	sig_scope_begin(&scope);
	raise(SIGUSR1); /* runs at once: depth is 0 */
	cr_assert_eq(own_wait(&thr, waker.word, &w, &scope, true, NULL, NULL), -EINTR);
	cr_assert_eq(sleeps, 0);
}

Test(signal, stop_and_continue_end_only_what_never_restarts)
{
	first_wait();
	fake_sleep_result = -EINTR; /* no handler ran */
	cr_assert_gt(wait_once(true), 0);
	cr_assert_eq(wait_once(false), -EINTR);
	cr_assert_eq(cleanups, 0);
}

/* ---- cancellation ---- */

static pthread_barrier_t asleep;
static volatile int unwound;

static void sleep_until_woken(struct thr *t, uint32_t seen)
{
	pthread_barrier_wait(&asleep);
	while (__atomic_load_n(&t->waker->word, __ATOMIC_SEQ_CST) == seen)
		syscall(SYS_futex, &t->waker->word, 0 /* FUTEX_WAIT */, seen, &(struct timespec){ .tv_nsec = 1000000 }, NULL, 0);
}

static void mark_unwound(void *arg)
{
	(void)arg;
	unwound = 1;
}

static void *cancelled_thread(void *arg)
{
	pthread_cleanup_push(mark_unwound, NULL);
	if (!arg)
		first_wait();
	wait_once(true);
	cr_assert_fail("went on after pthread_cancel()");
	pthread_cleanup_pop(0);
	return NULL;
}

static void *cancelled_early(void *arg)
{
	(void)arg;
	own_pthread_cancel(pthread_self());
	wait_once(true);
	cr_assert_fail("went on after pthread_cancel()");
	return NULL;
}

Test(signal, cancel_ends_the_sleep, .timeout = 10)
{
	pthread_t th;
	void *ret;

#ifdef __SANITIZE_ADDRESS__
	cr_skip_test("AddressSanitizer leaves the stack poisoned where cancellation unwinds it");
#endif
	fake_sleep = sleep_until_woken;
	pthread_barrier_init(&asleep, NULL, 2);
	cr_assert_eq(pthread_create(&th, NULL, cancelled_thread, NULL), 0);
	pthread_barrier_wait(&asleep);
	cr_assert_eq(own_pthread_cancel(th), 0);
	pthread_join(th, &ret);
	cr_assert_eq(ret, PTHREAD_CANCELED);
	cr_assert_eq(unwound, 1);
	cr_assert_eq(cleanups, 1);
}

/* Cancelled before it ever slept here: nobody could mark it. */
Test(signal, cancel_before_the_first_sleep_is_not_lost, .timeout = 10)
{
	pthread_t th;
	void *ret;

#ifdef __SANITIZE_ADDRESS__
	cr_skip_test("AddressSanitizer leaves the stack poisoned where cancellation unwinds it");
#endif
	cr_assert_eq(pthread_create(&th, NULL, cancelled_early, NULL), 0);
	pthread_join(th, &ret);
	cr_assert_eq(ret, PTHREAD_CANCELED);
	cr_assert_eq(cleanups, 1);
}
