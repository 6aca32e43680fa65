/* SPDX-License-Identifier: BSD-2-Clause */
/* signal_priv.h - between signal.c, wait.c, usercopy.c and fork.c */
#ifndef OWNSTACK_PRELOAD_SIGNAL_PRIV_H
#define OWNSTACK_PRELOAD_SIGNAL_PRIV_H

#include <signal.h>
#include <ucontext.h>
#include "preload_priv.h"

/* A signal that arrived inside a critical section. All others are blocked until it has run: one is enough. */
struct sig_deferred {
	int sig; /* 0: none */
	siginfo_t info;
	ucontext_t ctx;
	struct sigaction act;
};

struct sig_thread {
	uint32_t ran, norestart;     /* handlers run; those without SA_RESTART */
	struct io_waker *waker;	     /* while the thread sleeps or is about to: its own wake word */
	struct sig_deferred deferred;
};
extern _Thread_local struct sig_thread sig_self;

/** user_copy_fixup() - a fault at the place @uctx shows: if in user_copy(), continue with -EFAULT */
bool user_copy_fixup(void *uctx);
/** sig_run_deferred() - depth is 0: run what was put off */
void sig_run_deferred(void);
/** signal_fork_child(), cancel_fork_child() - the other threads are not here */
void signal_fork_child(void);
void cancel_fork_child(void);

/* ---- rouse.c ---- */
struct epoll_event;
struct rouse_node { /* one per thread, thread-local */
	struct rouse_node *next, **prev; /* prev NULL: not listed */
	_Atomic int asleep_in;		 /* number + 1, 0: awake */
};
extern _Thread_local struct rouse_node rouse_self __attribute__((visibility("hidden")));

/* As rouse_begin() and rouse_end(), which do the rest where these say false: the thread is not listed yet, or the set is ours. */
static inline bool rouse_note(int epfd)
{
	if (unlikely(!rouse_self.prev))
		return false;
	atomic_store_explicit(&rouse_self.asleep_in, epfd + 1, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
	return likely(!fdmap_has(epfd));
}
static inline bool rouse_unnote(int epfd)
{
	atomic_store_explicit(&rouse_self.asleep_in, 0, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
	return likely(!fdmap_has(epfd));
}
/** rouse_begin() - this thread is about to sleep in the kernel's epoll set @epfd. false: it has become ours meanwhile */
bool rouse_begin(int epfd);
/** rouse_end() - it came back; errno may change. true: the set has become ours meanwhile */
bool rouse_end(int epfd);
/** rouse_forget() - a handler runs: the sleep, if there was one, is over and may be left by longjmp */
void rouse_forget(void);
/** rouse_sleepers() - the set is in the table now: who sleeps in the kernel comes back */
void rouse_sleepers(int epfd);
/** rouse_filter() - takes the marker out of what the kernel reported. Return: events left */
int rouse_filter(struct epoll_event *evs, int n);
void rouse_fork_child(void);

#endif
