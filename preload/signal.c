/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * signal.c - handlers of the program, put off while the library is inside a critical section (RULES C9)
 *
 * Theory of operation
 *
 * Once the process has joined a host, every handler the program installs (or had installed) is reached through trampoline().
 * What the program set stands in table[]; sigaction() shows the program its own. SIG_DFL and SIG_IGN stay the kernel's,
 * except for SIGSEGV and SIGBUS, which we always catch to turn a fault in user_copy() into EFAULT.
 *
 * thr_depth > 0 means: under the shard lock, or in another piece that must not be entered twice by one thread. A handler
 * that arrives then is noted with siginfo and context, and *all* signals are blocked in the context the trampoline returns
 * to; so at most one is ever noted per thread, and further ones stay pending in the kernel, which knows how to queue them.
 * When the depth is 0 again (thr_depth0_hook), the handler runs with the mask the kernel would have given it, and then the
 * mask is put back, which lets the next one in. Masking costs nothing where no signal comes (T12: it would cost 450 ns a call).
 * Faults run at once: they cannot be returned from.
 *
 * A sleeping thread is at depth > 0 too (own_wait()): the sleep ends with EINTR, and because the note also moves the
 * thread's own wake word, a signal that comes just before the sleep ends it as well. ran and norestart let the blocking call
 * find out afterwards whether it has to end with EINTR.
 *
 * What is not faithful: a deferred handler sees a copy of the context it interrupted, changes to the registers in it have no
 * effect, and it runs on the thread's stack even with SA_ONSTACK. A program that blocks SIGSEGV gets no EFAULT but dies.
 *
 * A vfork child shares this memory but not the kernel's handlers: it goes past the table.
 */
#include <string.h>
#include <unistd.h>
#include "signal_priv.h"

/* Readers are handlers: two copies, `current` says which is good, a writer fills the other one first. */
struct sig_row {
	_Atomic uint32_t current;
	struct sigaction act[2];
};
static struct sig_row table[_NSIG];
static _Atomic bool active;	   /* signal_init() was here */
static _Atomic int table_lock;	   /* writers, with all signals blocked */
static _Atomic uint32_t n_deferred; /* threads with one noted */
static volatile bool pending;	   /* n_deferred != 0, as thr.h wants to see it */
static sigset_t interrupts;	   /* siginterrupt(): signal() shall not set SA_RESTART for these */

_Thread_local struct sig_thread sig_self;

/* ---- the table ---- */

static struct sigaction row_read(int sig)
{
	struct sig_row *row = &table[sig];

	return row->act[atomic_load_explicit(&row->current, memory_order_acquire) & 1];
}

static void row_write(int sig, const struct sigaction *act)
{
	struct sig_row *row = &table[sig];
	uint32_t next = atomic_load_explicit(&row->current, memory_order_relaxed) + 1;

	row->act[next & 1] = *act;
	atomic_store_explicit(&row->current, next, memory_order_release);
}

static bool is_function(const struct sigaction *act)
{
	return act->sa_handler != SIG_DFL && act->sa_handler != SIG_IGN;
}

static bool always_caught(int sig)
{
	return sig == SIGSEGV || sig == SIGBUS;
}

/* Faults and traps of the thread's own doing: no sense in putting them off. */
static bool is_fault(int sig)
{
	return sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE || sig == SIGILL || sig == SIGTRAP || sig == SIGSYS;
}

/* ---- running handlers ---- */

static void handler_run(int sig, siginfo_t *info, void *uctx, const struct sigaction *act)
{
	sig_self.ran++;
	rouse_forget();
	if (!(act->sa_flags & SA_RESTART))
		sig_self.norestart++;
	if (act->sa_flags & SA_SIGINFO)
		act->sa_sigaction(sig, info, uctx);
	else
		act->sa_handler(sig);
}

/* Everything but faults and the two signals glibc keeps for itself (SIGCANCEL, SIGSETXID: setuid() waits for their handlers). */
static void block_all(sigset_t *set)
{
	static const int open[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, 32, 33 };
	uint64_t bits = ~0ULL;

	for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++)
		bits &= ~(1ULL << (open[i] - 1));
	memcpy(set, &bits, sizeof(bits)); /* the kernel's set is 64 bits; the rest of glibc's type does not exist in a frame */
}

static void defer(int sig, const siginfo_t *info, ucontext_t *uctx, const struct sigaction *act)
{
	struct sig_deferred *d = &sig_self.deferred;

	d->info = *info;
	d->act = *act;
	memcpy(&d->ctx, uctx, offsetof(ucontext_t, uc_sigmask));
	memset(&d->ctx.uc_sigmask, 0, sizeof(d->ctx.uc_sigmask));
	memcpy(&d->ctx.uc_sigmask, &uctx->uc_sigmask, sizeof(uint64_t));
	if (uctx->uc_mcontext.fpregs)
		memcpy(&d->ctx.__fpregs_mem, uctx->uc_mcontext.fpregs, sizeof(d->ctx.__fpregs_mem));
	block_all(&uctx->uc_sigmask);
	d->sig = sig;
	atomic_fetch_add(&n_deferred, 1);
	pending = true;
	if (sig_self.waker)
		io_wake(sig_self.waker);
}

void sig_run_deferred(void)
{
	struct sig_deferred d;
	sigset_t during;

	if (!sig_self.deferred.sig || thr_depth)
		return;
	d = sig_self.deferred;
	d.ctx.uc_mcontext.fpregs = &d.ctx.__fpregs_mem;
	sig_self.deferred.sig = 0;
	if (atomic_fetch_sub(&n_deferred, 1) == 1) {
		pending = false;
		if (atomic_load(&n_deferred)) /* another thread's note came in between */
			pending = true;
	}
	sigorset(&during, &d.ctx.uc_sigmask, &d.act.sa_mask);
	if (!(d.act.sa_flags & SA_NODEFER))
		sigaddset(&during, d.sig);
	pthread_sigmask(SIG_SETMASK, &during, NULL);
	handler_run(d.sig, &d.info, &d.ctx, &d.act);
	pthread_sigmask(SIG_SETMASK, &d.ctx.uc_sigmask, NULL);
}

/* SIGSEGV or SIGBUS that is neither ours nor handled by the program: what would have happened without us. */
static void fault_default(int sig, const siginfo_t *info, const struct sigaction *act)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };

	if (act->sa_handler == SIG_IGN && info->si_code <= 0)
		return; /* sent by somebody, and ignored */
	libc_next.sigaction(sig, &dfl, NULL);
	if (info->si_code <= 0)
		raise(sig); /* blocked now, delivered at return; a fault of the thread just happens again */
}

static void trampoline(int sig, siginfo_t *info, void *uctx)
{
	struct sigaction act;

	if (always_caught(sig) && info->si_code > 0 && user_copy_fixup(uctx))
		return;
	act = row_read(sig);
	if (!is_function(&act)) {
		fault_default(sig, info, &act);
		return;
	}
	if (act.sa_flags & SA_RESETHAND) {
		struct sigaction dfl = { .sa_handler = SIG_DFL };

		row_write(sig, &dfl);
	}
	if (thr_depth && !is_fault(sig)) {
		int saved = errno;

		defer(sig, info, uctx, &act);
		errno = saved;
		return;
	}
	handler_run(sig, info, uctx, &act);
}

/* ---- setting ---- */

static void lock_writers(sigset_t *ret_mask)
{
	sigset_t all;

	sigemptyset(&all);
	block_all(&all);
	pthread_sigmask(SIG_BLOCK, &all, ret_mask);
	while (atomic_exchange_explicit(&table_lock, 1, memory_order_acquire))
		sched_yield(); /* held for two system calls */
}

static void unlock_writers(const sigset_t *mask)
{
	atomic_store_explicit(&table_lock, 0, memory_order_release);
	pthread_sigmask(SIG_SETMASK, mask, NULL);
}

/* What the kernel is told where the program said @act. */
static struct sigaction kernel_view(int sig, const struct sigaction *act)
{
	struct sigaction k = *act;

	if (!is_function(act) && !always_caught(sig))
		return k;
	k.sa_sigaction = trampoline;
	k.sa_flags |= SA_SIGINFO;
	if (always_caught(sig))
		k.sa_flags &= ~SA_RESETHAND;
	if (!is_function(act)) {
		k.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
		sigemptyset(&k.sa_mask);
	}
	return k;
}

/* signal_set() - sigaction() of the program. Return 0 or negative errno. */
static int signal_set(int sig, const struct sigaction *act, struct sigaction *old)
{
	struct sigaction was, kernel_was, k, want;
	sigset_t mask;
	int r;

	if (sig <= 0 || sig >= _NSIG || !atomic_load(&active) || slot_is_vfork_child())
		return (int)kernel_result(libc_next.sigaction(sig, act, old));
	if (act)
		want = *act; /* may fault here rather than under the lock */
	lock_writers(&mask);
	was = row_read(sig);
	if (act) {
		k = kernel_view(sig, &want);
		row_write(sig, &want); /* first: the trampoline may run as soon as the kernel knows it */
	}
	r = (int)kernel_result(libc_next.sigaction(sig, act ? &k : NULL, &kernel_was));
	if (r < 0 && act)
		row_write(sig, &was);
	unlock_writers(&mask);
	if (r == 0 && old)
		*old = kernel_was.sa_sigaction == trampoline ? was : kernel_was;
	return r;
}

void signal_init(void)
{
	sigset_t mask;

	if (atomic_load(&active))
		return;
	lock_writers(&mask);
	for (int sig = 1; sig < _NSIG; sig++) {
		struct sigaction act, k;

		if (sig == SIGKILL || sig == SIGSTOP || libc_next.sigaction(sig, NULL, &act) < 0)
			continue;
		row_write(sig, &act);
		k = kernel_view(sig, &act);
		if (k.sa_sigaction == trampoline)
			libc_next.sigaction(sig, &k, NULL);
	}
	thr_depth0_hook = sig_run_deferred;
	thr_signal_pending = &pending;
	atomic_store(&active, true);
	unlock_writers(&mask);
}

void signal_fork_child(void)
{
	atomic_store(&table_lock, 0);
	atomic_store(&n_deferred, sig_self.deferred.sig != 0);
	pending = sig_self.deferred.sig != 0;
}

/* ---- the calls ---- */

EXPORT(int, sigaction, (int sig, const struct sigaction *act, struct sigaction *old))
{
	int saved = errno;

	return (int)errno_result(signal_set(sig, act, old), saved);
}

static sighandler_t handler_set(int sig, sighandler_t handler, int flags)
{
	struct sigaction act = { .sa_handler = handler, .sa_flags = flags }, old;
	int saved = errno;

	if (handler == SIG_ERR || sig <= 0 || sig >= _NSIG) {
		errno = EINVAL;
		return SIG_ERR;
	}
	if (!(flags & SA_NODEFER))
		sigaddset(&act.sa_mask, sig);
	if (errno_result(signal_set(sig, &act, &old), saved) < 0)
		return SIG_ERR;
	return old.sa_handler;
}

EXPORT(sighandler_t, signal, (int sig, sighandler_t handler))
{
	return handler_set(sig, handler, sigismember(&interrupts, sig) == 1 ? 0 : SA_RESTART);
}

EXPORT(sighandler_t, sysv_signal, (int sig, sighandler_t handler))
{
	return handler_set(sig, handler, (int)SA_RESETHAND | SA_NODEFER);
}

EXPORT(sighandler_t, sigset, (int sig, sighandler_t disp))
{
	sighandler_t old;
	sigset_t one, was;
	struct sigaction cur;

	if (disp == SIG_ERR || sig <= 0 || sig >= _NSIG) {
		errno = EINVAL;
		return SIG_ERR;
	}
	sigemptyset(&one);
	sigaddset(&one, sig);
	if (disp == SIG_HOLD) {
		if (sigprocmask(SIG_BLOCK, &one, &was) < 0)
			return SIG_ERR;
		if (sigismember(&was, sig))
			return SIG_HOLD;
		return own_sigaction(sig, NULL, &cur) < 0 ? SIG_ERR : cur.sa_handler;
	}
	old = handler_set(sig, disp, 0);
	if (old == SIG_ERR || sigprocmask(SIG_UNBLOCK, &one, &was) < 0)
		return SIG_ERR;
	return sigismember(&was, sig) ? SIG_HOLD : old;
}

EXPORT(int, sigignore, (int sig))
{
	struct sigaction act = { .sa_handler = SIG_IGN };

	return own_sigaction(sig, &act, NULL);
}

EXPORT(int, siginterrupt, (int sig, int flag))
{
	struct sigaction act;

	if (own_sigaction(sig, NULL, &act) < 0)
		return -1;
	if (flag) {
		sigaddset(&interrupts, sig);
		act.sa_flags &= ~SA_RESTART;
	} else {
		sigdelset(&interrupts, sig);
		act.sa_flags |= SA_RESTART;
	}
	return own_sigaction(sig, &act, NULL);
}
