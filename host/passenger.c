/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * passenger.c - a process behind a filter: it works on its sockets, and has the keeper do what it cannot
 *
 * Theory of operation. A seccomp filter or RLIMIT_NOFILE of almost nothing leaves a process what its program needs (read, write,
 * poll, some memory), and no ring, no new descriptor, perhaps no futex. But the arena is mapped, and operating on a socket is
 * arithmetic on memory. So the process goes on receiving and sending under the shard lock like any other, and shares each
 * connection with processes outside its cage exactly as before: nothing is read ahead, nothing is copied elsewhere. Only
 * system calls are done for it:
 *
 *   drive	it never takes the role. Asleep it stands in queue.passenger, not in queue.sleeper, since it is no use to wake
 *		it for the role; the keeper drives while somebody is there and nobody else does.
 *   send	what it gives to the stack stays there; it rings, and the keeper takes it.
 *   sleep	in ppoll() or what else is allowed, on a datagram socket of its own that io_wake() knows how to wake (the way of
 *		loops without futex, io/waker.c), and on the program's kernel descriptors.
 *   wake	others by futex where that is allowed, else by a note to the keeper (keeper.owed) and a ring.
 *   ring	one write() on a datagram socket that is connected to the keeper's bell: a stream would answer with SIGPIPE
 *		after the keeper's death. keeper.rung says that a ring is under way; a keeper that missed the datagram, being
 *		new, finds the word at its next turn, 100 ms later at most.
 *
 * The three sockets are made before the door closes. A handler that interrupts the thread on its way into the sleep writes to a
 * third socket that is connected to the first.
 *
 * A process with more threads inside the library than the one that asks is not taken aboard: their rings cannot be taken apart
 * from here. It, and one whose filter does not even allow the above, is served by a pump of the keeper (preload/export.c).
 */
#include <alloca.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>
#include "../io/waker.h"
#include "join.h"
#include "passenger.h"
#include "slot.h"
#include "sys.h"

bool passenger;

static struct {
	int wake_fd; /* what it sleeps on */
	int self_fd; /* connected to wake_fd */
	int bell_fd; /* connected to the keeper's bell */
	long poll_call;
	bool futex, select;
} own = { -1, -1, -1, SYS_ppoll, true, true };

/* ---- calls that are allowed ---- */

static int poll_by_select(struct pollfd *p, unsigned n, const struct timespec *ts, const sigset_t *mask)
{
	const struct { const sigset_t *mask; size_t bytes; } m = { mask, 8 };
	int top = 0, r, ready = 0;
	uint64_t *set[2];
	size_t words;

	for (unsigned i = 0; i < n; i++)
		top = p[i].fd >= top ? p[i].fd + 1 : top;
	words = (size_t)top / 64 + 1;
	set[0] = alloca(2 * words * sizeof(uint64_t)); /* 256 KiB for a million; other memory might not be had */
	set[1] = set[0] + words;
	memset(set[0], 0, 2 * words * sizeof(uint64_t));
	for (unsigned i = 0; i < n; i++) {
		p[i].revents = 0;
		if (p[i].fd < 0)
			continue;
		for (int k = 0; k < 2; k++)
			if (p[i].events & (k ? POLLOUT : POLLIN))
				set[k][p[i].fd / 64] |= 1ULL << (p[i].fd % 64);
	}
	r = (int)sys_call(SYS_pselect6, top, set[0], set[1], 0, ts, &m);
	for (unsigned i = 0; i < n && r > 0; i++) {
		for (int k = 0; k < 2 && p[i].fd >= 0; k++)
			if (p[i].events & (k ? POLLOUT : POLLIN) && set[k][p[i].fd / 64] >> (p[i].fd % 64) & 1)
				p[i].revents |= k ? POLLOUT : POLLIN;
		ready += p[i].revents != 0;
	}
	return r < 0 ? r : ready;
}

int passenger_poll(struct pollfd *p, unsigned n, usec_t timeout_us, const sigset_t *mask)
{
	struct timespec ts = { (time_t)(timeout_us / SEC(1)), (long)(timeout_us % SEC(1)) * 1000 }, *limit = &ts;
	int ms = timeout_us >= (usec_t)INT32_MAX * 1000 ? INT32_MAX : (int)((timeout_us + 999) / 1000), r = -ENOSYS;

	if (timeout_us == USEC_NEVER) {
		limit = NULL;
		ms = -1;
	}
	if (own.poll_call == SYS_ppoll)
		r = (int)sys_call(SYS_ppoll, p, n, limit, mask, 8);
	else if (own.poll_call == SYS_poll)
		r = (int)sys_call(SYS_poll, p, n, ms);
	if ((r == -EINVAL && own.select) || own.poll_call == SYS_pselect6) /* poll() knows RLIMIT_NOFILE, select() does not */
		return poll_by_select(p, n, limit, mask);
	return r;
}

static bool allowed(passenger_may_fn *may, long nr, long a, long b, long c)
{
	const long args[6] = { a, b, c };

	return !may || may(nr, args);
}

/* Chooses among what the filter lets through. Return: false: not enough */
static bool calls_choose(passenger_may_fn *may)
{
	static const long polls[] = { SYS_ppoll, SYS_poll, SYS_pselect6 };
	bool found = false;

	for (size_t i = 0; i < sizeof(polls) / sizeof(polls[0]) && !found; i++) {
		own.poll_call = polls[i];
		found = allowed(may, polls[i], polls[i] == SYS_pselect6 ? own.wake_fd + 1 : 0, 1, 0);
	}
	own.select = allowed(may, SYS_pselect6, own.wake_fd + 1, 1, 0);
	own.futex = allowed(may, SYS_futex, (long)(uintptr_t)&host->shard.lock, FUTEX_WAKE, 1) &&
		    allowed(may, SYS_futex, (long)(uintptr_t)&host->shard.lock, FUTEX_WAIT, 1);
	/* a handler that is put off runs with another mask; who cannot return from a handler has none */
	if (!allowed(may, SYS_rt_sigprocmask, SIG_SETMASK, 0, 0) && allowed(may, SYS_rt_sigreturn, 0, 0, 0))
		return false;
	return found && allowed(may, SYS_read, own.wake_fd, 0, 1) && allowed(may, SYS_write, own.self_fd, 0, 1) &&
	       allowed(may, SYS_write, own.bell_fd, 0, 1);
}

/* ---- waking, ringing ---- */

void passenger_ring(void)
{
	if (!atomic_exchange(&host->keeper.rung, 1))
		sys_write(own.bell_fd, "", 1);
}

static void owe(uint32_t waiter)
{
	for (unsigned i = 0; i < KEEPER_OWED_MAX; i++) {
		uint32_t none = 0, at = atomic_load(&host->keeper.owed[i]);

		if (at == waiter + 1 || (!at && atomic_compare_exchange_strong(&host->keeper.owed[i], &none, waiter + 1)))
			return;
	}
	atomic_store(&host->keeper.owed_all, 1);
}

static void wake(struct io_waker *w)
{
	struct waiter *who = (void *)((char *)w - offsetof(struct waiter, waker));

	if (w->by_socket && own.self_fd >= 0 && thr_enter() && w == thr_enter()->waker)
		sys_write(own.self_fd, "", 1); /* from a handler of ours, on our way to sleep */
	else if (!w->by_socket && own.futex)
		sys_futex_wake(&w->word, 1);
	else if (w == &host->keeper.waker)
		passenger_ring();
	else {
		owe(slab_index(&host->waiters, who));
		passenger_ring();
	}
}

/* Without the call: locks are held for microseconds, so a look each millisecond is late only where their holder is stopped. */
bool sys_no_futex;

long sys_no_futex_wait(const void *word, unsigned seen)
{
	if (__atomic_load_n((const unsigned *)word, __ATOMIC_ACQUIRE) == seen)
		passenger_poll(NULL, 0, MSEC(1), NULL);
	return 0;
}

long sys_no_futex_wake(void)
{
	passenger_ring(); /* owed_wakes_send() */
	return 0;
}

/* ---- going aboard ---- */

static void sockets_close(struct io_waker *w)
{
	host_fd_drop(HOST_FD_SELF);
	host_fd_drop(HOST_FD_WAKE);
	own.wake_fd = own.self_fd = own.bell_fd = -1;
	waker_open(w, false, &own.wake_fd);
}

static int sockets_make(struct io_waker *w)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int r = waker_open(w, true, &own.wake_fd);

	if (r)
		return r;
	own.wake_fd = host_fd_adopt(HOST_FD_WAKE, own.wake_fd);
	memcpy(sa.sun_path, w->name, w->name_len);
	own.self_fd = host_fd_connect(HOST_FD_SELF, &sa, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + w->name_len));
	own.bell_fd = host_bell_fd();
	r = own.wake_fd < 0 ? own.wake_fd : own.self_fd < 0 ? own.self_fd : own.bell_fd < 0 ? own.bell_fd : 0;
	if (r)
		sockets_close(w);
	return r;
}

static bool alone(const struct thr *t)
{
	const struct slot *s = &host->slot[t->slot];

	return s->waiters == t->waiter && !t->waiter->next;
}

int passenger_begin(struct thr *t, passenger_may_fn *may)
{
	int r;

	if (!passenger) {
		if (!alone(t))
			return -EBUSY;
		thr_defer();
		thr_loop_close(t);
		r = sockets_make(t->waker);
		thr_undefer();
		if (r)
			return r;
	}
	if (!calls_choose(may)) {
		passenger = false;
		io_wake_hook = NULL;
		sockets_close(t->waker);
		return -EPERM;
	}
	passenger = true;
	io_wake_hook = wake;
	sys_no_futex = !own.futex;
	return 0;
}

/* ---- sleeping ---- */

/* Return: IO_WAIT_* bits, negative errno */
static int sleep_once(struct thr *t, uint32_t seen, struct drive_wait *w)
{
	struct pollfd alone, *p = w->kfds ? w->kfds : &alone, *wake = p + w->n_kfds;
	usec_t now = io_now();
	char drop[8];
	int r = 0;

	*wake = (struct pollfd){ .fd = own.wake_fd, .events = POLLIN };
	if (waker_sleep_begin(t->waker, seen))
		r = passenger_poll(p, w->n_kfds + 1, w->deadline == USEC_NEVER ? USEC_NEVER : w->deadline > now ? w->deadline - now : 0, w->mask);
	waker_sleep_end(t->waker);
	if (r <= 0)
		return r;
	r = wake->revents ? IO_WAIT_WAKE : 0;
	while (wake->revents && sys_read(own.wake_fd, drop, sizeof(drop)) >= 0)
		;
	for (; p < wake; p++)
		r |= p->revents ? IO_WAIT_KFD : 0;
	return r;
}

int passenger_drive(struct thr *t, uint32_t seen, struct drive_wait *w)
{
	bool woken;
	int r;

	do {
		r = sleep_once(t, seen, w);
		t->now = io_now();
		woken = t->waker->word != seen;
	} while (!woken && r >= 0 && !(r & IO_WAIT_KFD) && t->now < w->deadline);
	shard_lock(t);
	queue_sleeper_drop(t->waiter);
	shard_unlock(t);
	if (r < 0)
		return r;
	return woken || r > 0 ? r | IO_WAIT_WAKE : 0;
}

/* ---- the keeper's side ---- */

int bell_open(void)
{
	struct sockaddr_un sa;
	socklen_t len = warden_address(host->name, "bell", &sa);
	int fd = sys_socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), r;

	if (fd < 0)
		return fd;
	r = sys_bind(fd, &sa, len);
	if (r) {
		sys_close(fd);
		return r;
	}
	return fd;
}

bool owed_wakes_send(void)
{
	if (!atomic_exchange(&host->keeper.rung, 0))
		return false;
	for (unsigned i = 0; i < KEEPER_OWED_MAX; i++) {
		uint32_t at = atomic_load(&host->keeper.owed[i]) ? atomic_exchange(&host->keeper.owed[i], 0) : 0;
		struct waiter *w = at ? slab_at(&host->waiters, at - 1) : NULL;

		if (w)
			io_wake(&w->waker);
	}
	if (atomic_exchange(&host->keeper.owed_all, 0))
		waiters_wake_all();
	sys_futex_wake(&host->shard.lock, 1); /* whoever sleeps on a lock that a passenger without futex let go */
	return true;
}
