/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * waker.c - waking another thread, of any process, without a lost wake and mostly without a system call
 *
 *   owner                                         waker
 *     sees word == v under the lock it works by     puts down what the owner should find (under that lock)
 *     unlocks                                       word = word + 1
 *     sleeping = 1                        (O1)      fence                              (W1)
 *     fence                                         if (sleeping)                      (W2)
 *     if (word != v) do not sleep         (O2)              FUTEX_WAKE, or a datagram
 *     sleep
 *     sleeping = 0
 *
 * (O1, O2) and (W1, W2) are store-then-load on two words, so both fences are full ones: either the owner sees the new word
 * at O2, or the waker sees sleeping at W2. What the owner sleeps on catches a wake from O1 on:
 *   futex    A FUTEX_WAIT of the owner's ring may be queued since an earlier sleep; then any FUTEX_WAKE finds it, whatever
 *            value it was queued with. If none is queued, the sleep's own submission queues one with value v, and the kernel
 *            compares under its own lock: word already changed, it completes at once.
 *   socket   A datagram stays in the socket until it is read, so it may come before the sleep.
 * A waker that saw sleeping may come late, after the owner was woken by a frame: the owner finds a completed FUTEX_WAIT or
 * a datagram in its next sleep, sees the word unchanged, arms again and sleeps on. Costs one turn, loses nothing. The waker
 * does not clear sleeping for the next one: were it killed between that and its system call, nobody would wake the owner.
 *
 * The word is in shared memory, so the futex is not FUTEX_PRIVATE. A word has one owner (RULES T1), but an earlier owner's
 * FUTEX_WAIT may still be queued on it: the kernel takes the ring of a thread that ended apart some time later, by a worker.
 * So FUTEX_WAKE wakes all that are queued: one alone could be that one.
 *
 * An abstract socket name belongs to a network namespace, so at the levels below full the sockets of all processes that wake
 * one another must be of the same one, whichever they are in (io_wake_socket).
 */
#include "waker.h"
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "sys.h"

void (*io_wake_hook)(struct io_waker *w);
int (*io_wake_socket)(void);
static int wake_sender = -1; /* socket for datagrams of this process, made once, on need */

static int waker_socket(void)
{
	int fd = io_wake_socket ? io_wake_socket() : (int)SYS3(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), high;

	if (fd < 0)
		return fd;
	high = sys_fd_high(fd);
	sys_close(fd);
	return high;
}

int waker_open(struct io_waker *w, bool by_socket, int *ret_fd)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(sa);
	int fd, r;

	/* The word stays: its owner may have read it already, and a wake between that and this call must not be undone. */
	w->by_socket = 0;
	w->name_len = 0;
	*ret_fd = -1;
	if (!by_socket)
		return 0;
	fd = waker_socket();
	if (fd < 0)
		return fd;
	r = (int)SYS3(SYS_bind, fd, &sa, sizeof(sa_family_t)); /* autobind: the kernel makes up an abstract name */
	if (r == 0)
		r = (int)SYS3(SYS_getsockname, fd, &sa, &len);
	len -= offsetof(struct sockaddr_un, sun_path);
	if (r == 0 && len > sizeof(w->name))
		r = -ENAMETOOLONG;
	if (r < 0) {
		sys_close(fd);
		return r;
	}
	memcpy(w->name, sa.sun_path, len);
	w->name_len = (uint8_t)len;
	w->by_socket = 1;
	*ret_fd = fd;
	return 0;
}

void waker_close(struct io_waker *w, int fd)
{
	if (w)
		waker_sleep_end(w);
	sys_close(fd);
}

bool waker_sleep_begin(struct io_waker *w, uint32_t seen)
{
	__atomic_store_n(&w->sleeping, 1, __ATOMIC_SEQ_CST);
	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* O1 before O2; pairs with the fence of io_wake() */
	return __atomic_load_n(&w->word, __ATOMIC_SEQ_CST) == seen;
}

void waker_sleep_end(struct io_waker *w)
{
	__atomic_store_n(&w->sleeping, 0, __ATOMIC_RELAXED); /* late is harmless: one wake too many */
}

void waker_drain(int fd)
{
	char buf[8];

	while (SYS6(SYS_recvfrom, fd, buf, sizeof(buf), MSG_DONTWAIT, 0, 0) >= 0)
		;
}

/**
 * waker_send() - a datagram to the owner's socket
 *
 * -EAGAIN is as good as success: the owner's queue is full of wakes not read yet. -ECONNREFUSED: the owner is gone. On any
 * other error the shared sender is suspect (somebody closed the number, or reused it) and a fresh one is tried. Two threads
 * that make it at the same time: the loser closes its own.
 */
static void waker_send(const struct io_waker *w)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + w->name_len);
	int fd = __atomic_load_n(&wake_sender, __ATOMIC_ACQUIRE), none = -1;
	long r = -EBADF;

	memcpy(sa.sun_path, w->name, w->name_len);
	if (fd >= 0)
		r = SYS6(SYS_sendto, fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL, &sa, len);
	if (r == 1 || r == -EAGAIN || r == -ECONNREFUSED)
		return;
	__atomic_compare_exchange_n(&wake_sender, &fd, -1, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
	fd = waker_socket();
	if (fd < 0)
		return;
	SYS6(SYS_sendto, fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL, &sa, len);
	if (!__atomic_compare_exchange_n(&wake_sender, &none, fd, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		sys_close(fd);
}

void io_wake(struct io_waker *w)
{
	__atomic_fetch_add(&w->word, 1, __ATOMIC_SEQ_CST);
	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* W1 before W2; pairs with the fence of waker_sleep_begin() */
	if (!__atomic_load_n(&w->sleeping, __ATOMIC_SEQ_CST))
		return;
	if (io_wake_hook)
		io_wake_hook(w);
	else if (w->by_socket)
		waker_send(w);
	else
		SYS6(SYS_futex, &w->word, FUTEX_WAKE, INT_MAX, 0, 0, 0);
}
