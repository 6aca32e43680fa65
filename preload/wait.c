/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * wait.c - a thread of the program sleeps: signals, cancellation, and the usual wait for one socket
 *
 * Theory of operation
 *
 * drive_wait() touches the thread's ring and must not be entered a second time by a handler that interrupts it, nor be left
 * by siglongjmp(). So own_wait() holds thr_depth up around it: a handler that comes is noted, ends the sleep, and runs after
 * drive_wait() has returned and the caller's registrations (watches, references) are undone; from there it may do what it
 * likes, siglongjmp() included. The thread's wake word moves with the note, so that no window is left between the last look
 * and the sleep.
 *
 * Cancellation works the same way (T16: glibc sends no signal to a thread that is in a plain system call). pthread_cancel()
 * marks the thread in our list of threads that ever slept here, and moves its wake word; own_wait() undoes the registrations
 * and is a cancellation point then. The list is only walked by pthread_cancel().
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../host/join.h"
#include "signal_priv.h"

struct cancel_node { /* one per thread, thread-local */
	struct cancel_node *next, **prev; /* prev NULL: not listed */
	pthread_t thread;
	_Atomic(struct io_waker *) waker; /* while it sleeps */
	_Atomic bool cancelled;
	int spare_fd; /* + 1; 0: none */
};
static _Thread_local struct cancel_node cancel_self;
static struct cancel_node *cancel_list;
static pthread_mutex_t cancel_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_key_t cancel_key;
static pthread_once_t cancel_once = PTHREAD_ONCE_INIT;

static void cancel_unlist(void *arg)
{
	struct cancel_node *n = arg;

	pthread_mutex_lock(&cancel_lock);
	if (n->prev) {
		*n->prev = n->next;
		if (n->next)
			n->next->prev = n->prev;
		n->prev = NULL;
	}
	pthread_mutex_unlock(&cancel_lock);
}

static void cancel_make_key(void)
{
	pthread_key_create(&cancel_key, cancel_unlist);
}

static void cancel_enlist(void)
{
	struct cancel_node *n = &cancel_self;

	pthread_once(&cancel_once, cancel_make_key);
	n->thread = pthread_self();
	pthread_mutex_lock(&cancel_lock);
	n->next = cancel_list;
	n->prev = &cancel_list;
	if (n->next)
		n->next->prev = &n->next;
	cancel_list = n;
	pthread_mutex_unlock(&cancel_lock);
	pthread_setspecific(cancel_key, n);
}

/* Another thread may have been changing the list at the fork: what is linked forwards is whole at any time. */
void cancel_fork_child(void)
{
	for (struct cancel_node *n = cancel_list; n; n = n->next)
		if (n->spare_fd && n != &cancel_self)
			libc_next.close(n->spare_fd - 1);
	pthread_mutex_init(&cancel_lock, NULL);
	cancel_list = NULL;
	cancel_self.prev = NULL;
	sig_self.waker = NULL;
}

EXPORT(int, pthread_cancel, (pthread_t thread))
{
	struct cancel_node *n;
	struct io_waker *w = NULL;
	int r = libc_next.pthread_cancel(thread);

	if (r)
		return r;
	pthread_mutex_lock(&cancel_lock);
	for (n = cancel_list; n && !pthread_equal(n->thread, thread);)
		n = n->next;
	if (n) {
		atomic_store(&n->cancelled, true);
		w = atomic_load(&n->waker);
		if (w)
			io_wake(w); /* in the arena, which stays mapped */
	}
	pthread_mutex_unlock(&cancel_lock);
	return 0;
}

/* ---- a number kept while accept() sleeps ---- */

/* Still what was made here? Other threads may have closed the number, or had it dealt out anew. */
static bool spare_fd_holds(int fd)
{
	struct stat is, want;

	return !fdtab_lookup(fd) && libc_next.fstat(fd, &is) == 0 && libc_next.fstat(host_placeholder_fd(), &want) == 0 &&
	       is.st_ino == want.st_ino && is.st_dev == want.st_dev;
}

int spare_fd_keep(void)
{
	int fd;

	if (cancel_self.spare_fd)
		return 0;
	fd = fd_placeholder(true);
	if (fd < 0)
		return fd;
	cancel_self.spare_fd = fd + 1;
	return 0;
}

int spare_fd_take(bool cloexec)
{
	int fd = cancel_self.spare_fd - 1;

	cancel_self.spare_fd = 0;
	if (fd < 0 || !spare_fd_holds(fd))
		return fd_placeholder(cloexec);
	if (!cloexec)
		libc_next.fcntl(fd, F_SETFD, 0);
	return fd;
}

void spare_fd_drop(void)
{
	int fd = cancel_self.spare_fd - 1;

	cancel_self.spare_fd = 0;
	if (fd >= 0 && spare_fd_holds(fd))
		libc_next.close(fd);
}

/* ---- signals of one call ---- */

void sig_scope_begin(struct sig_scope *s)
{
	s->ran = sig_self.ran;
	s->norestart = sig_self.norestart;
}

bool sig_scope_interrupted(const struct sig_scope *s, bool restartable)
{
	return restartable ? sig_self.norestart != s->norestart : sig_self.ran != s->ran;
}

/* ---- sleeping ---- */

static int sleep_deferred(struct thr *t, uint32_t seen, struct drive_wait *w, const struct sig_scope *scope,
			  bool restartable)
{
	int r;

	/* Set before the look at what came: whatever comes later moves the word. */
	sig_self.waker = t->waker;
	atomic_store(&cancel_self.waker, t->waker);
	atomic_signal_fence(memory_order_seq_cst);
	/*
	 * Must not sleep? drive_wait() all the same, with a word it cannot find: thr_leave_hold() may have taken the driver
	 * role for this thread, and only drive_wait() lets it go OUT again. Skipped, it would stand as WAITING while the
	 * program computes, and nobody else could drive.
	 */
	if (sig_scope_interrupted(scope, restartable) || sig_self.deferred.sig || atomic_load(&cancel_self.cancelled))
		seen = ~seen;
	r = drive_wait(t, seen, w);
	atomic_store(&cancel_self.waker, NULL);
	sig_self.waker = NULL;
	return r;
}

int own_wait(struct thr *t, uint32_t seen, struct drive_wait *w, const struct sig_scope *scope, bool restartable,
	     void (*cleanup)(void *), void *arg)
{
	int r;

	if (!cancel_self.prev) {
		/* A pthread_cancel() before this found us on no list: glibc knows of it, and is asked once, with nothing held. */
		cancel_enlist();
		atomic_store(&cancel_self.cancelled, true);
	}
	thr_defer();
	r = sleep_deferred(t, seen, w, scope, restartable);
	if ((sig_self.deferred.sig || atomic_load(&cancel_self.cancelled)) && cleanup) {
		cleanup(arg);
		spare_fd_drop();
	}
	thr_undefer();
	if (atomic_exchange(&cancel_self.cancelled, false)) {
		pthread_testcancel();
		/* Still here: cancellation is disabled, and glibc keeps it pending for the next point that is not ours. */
	}
	if (sig_scope_interrupted(scope, restartable) || (r == -EINTR && !restartable))
		return -EINTR;
	return r == -EINTR ? IO_WAIT_WAKE : r;
}

struct file_wait {
	struct thr *t;
	struct file *f; /* NULL: undone */
};

/* Shard lock held. */
static void file_wait_undo_locked(struct file_wait *fw)
{
	if (!fw->f)
		return;
	watch_disarm_all(fw->t);
	file_release(fw->t, fw->f);
	fw->f = NULL;
}

static void file_wait_undo(void *arg)
{
	struct file_wait *fw = arg;

	shard_lock(fw->t);
	watch_pass_on(fw->t);
	file_wait_undo_locked(fw);
	thr_leave(fw->t);
}

int file_wait(struct thr **tp, struct file *f, uint32_t events, bool exclusive, usec_t deadline,
	      const struct sig_scope *scope, bool restartable)
{
	struct drive_wait w = { .deadline = deadline };
	struct file_wait fw = { .t = *tp, .f = f };
	uint64_t handle = file_handle(f);
	struct thr *t = *tp;
	uint32_t seen;
	int r = exclusive ? watch_arm_exclusive(t, f, events) : watch_arm(t, f, events);

	if (r < 0)
		return r;
	seen = t->waker->word;
	file_hold(t, f);
	thr_leave_hold(t);
	r = own_wait(t, seen, &w, scope, restartable, file_wait_undo, &fw);
	t = thr_enter(); /* another one after a fork in a handler */
	if (!t)
		t = *tp;
	*tp = t;
	shard_lock(t);
	if (r <= 0 && fw.f)
		watch_pass_on(t);
	file_wait_undo_locked(&fw);
	if (file_get(handle) != f)
		return -EBADF; /* closed meanwhile, and the last who held it was this wait */
	if (r == 0)
		return -EAGAIN;
	return r < 0 ? r : 0;
}
