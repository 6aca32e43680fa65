/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rouse.c - threads asleep in an epoll set of the kernel when it gets its first member of ours
 *
 * Theory of operation
 *
 * A set without a private member is the kernel's own, and so is the sleep in it. When another thread then adds the first
 * private member, sleepers have to come out of the kernel and wait on both sides instead. For that each thread notes the
 * number it is about to sleep on (rouse_begin()), in a list that is only walked here. The thread that makes the set ours
 * (epoll.c, epoll_adopt()) enters it in the table first and then looks through the list; where somebody sleeps, it adds a
 * *marker* to the kernel's set, a descriptor that is always ready. Being level-triggered it wakes one sleeper after the
 * other. The last that leaves takes it out again (rouse_end()). Until then others may see it: rouse_filter() hides it.
 *
 * Either the sleeper's note is seen, or the sleeper sees the table's entry: each side writes, fences, and then reads. Sleepers
 * are many and adoptions few, so the fence of both is made by the one who adopts: membarrier(2), or taking a page away, which
 * interrupts every processor that runs a thread of this process.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "../host/slot.h"
#include "signal_priv.h"

#define MARKER_FROM 1000 /* where the library's own numbers are */

_Thread_local struct rouse_node rouse_self;
static struct rouse_node *rouse_list;
static pthread_mutex_t rouse_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_key_t rouse_key;
static pthread_once_t rouse_once = PTHREAD_ONCE_INIT;
static int marker = -1; /* under rouse_lock */

static void rouse_unlist(void *arg)
{
	struct rouse_node *n = arg;

	pthread_mutex_lock(&rouse_lock);
	if (n->prev) {
		*n->prev = n->next;
		if (n->next)
			n->next->prev = n->prev;
		n->prev = NULL;
	}
	pthread_mutex_unlock(&rouse_lock);
}

static void rouse_make_key(void)
{
	pthread_key_create(&rouse_key, rouse_unlist);
}

/* A handler must not find the lock taken by its own thread: put off meanwhile. */
static void rouse_enlist(void)
{
	pthread_once(&rouse_once, rouse_make_key);
	thr_defer();
	pthread_mutex_lock(&rouse_lock);
	rouse_self.next = rouse_list;
	rouse_self.prev = &rouse_list;
	if (rouse_list)
		rouse_list->prev = &rouse_self.next;
	rouse_list = &rouse_self;
	pthread_mutex_unlock(&rouse_lock);
	thr_undefer();
	pthread_setspecific(rouse_key, &rouse_self);
}

void rouse_fork_child(void)
{
	pthread_mutex_init(&rouse_lock, NULL);
	rouse_list = NULL;
	rouse_self.prev = NULL;
	rouse_self.asleep_in = 0;
}

void rouse_forget(void)
{
	atomic_store_explicit(&rouse_self.asleep_in, 0, memory_order_relaxed);
}

bool rouse_begin(int epfd)
{
	if (unlikely(!rouse_self.prev))
		rouse_enlist();
	atomic_store_explicit(&rouse_self.asleep_in, epfd + 1, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst); /* pairs with fence_everywhere() */
	if (likely(!fdtab_lookup(epfd)))
		return true;
	rouse_end(epfd);
	return false;
}

static bool others_sleep(int epfd)
{
	for (struct rouse_node *n = rouse_list; n; n = n->next)
		if (atomic_load(&n->asleep_in) == epfd + 1)
			return true;
	return false;
}

bool rouse_end(int epfd)
{
	atomic_store_explicit(&rouse_self.asleep_in, 0, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst); /* pairs with fence_everywhere() */
	if (likely(!fdtab_lookup(epfd)))
		return false;
	thr_defer();
	pthread_mutex_lock(&rouse_lock);
	if (marker >= 0 && !others_sleep(epfd))
		libc_next.epoll_ctl(epfd, EPOLL_CTL_DEL, marker, NULL);
	pthread_mutex_unlock(&rouse_lock);
	thr_undefer();
	return true;
}

/* The program may have closed the number; what it is now used for is not ours to add. */
static int marker_add(int epfd)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &marker };
	int low;

	if (marker >= 0 && libc_next.epoll_ctl(epfd, EPOLL_CTL_ADD, marker, &ev) == 0)
		return 0;
	low = libc_next.eventfd(1, EFD_CLOEXEC);
	marker = libc_next.fcntl(low, F_DUPFD_CLOEXEC, MARKER_FROM);
	libc_next.close(low);
	return marker < 0 ? -errno : libc_next.epoll_ctl(epfd, EPOLL_CTL_ADD, marker, &ev);
}

/* Every thread of this process has been through a full barrier when it returns. */
static void fence_everywhere(void)
{
	enum { EXPEDITED = 1 << 3, REGISTER_EXPEDITED = 1 << 4 }; /* MEMBARRIER_CMD_PRIVATE_* */
	char *page;

	if (libc_next.syscall(SYS_membarrier, EXPEDITED, 0, 0) == 0)
		return;
	if (libc_next.syscall(SYS_membarrier, REGISTER_EXPEDITED, 0, 0) == 0 && libc_next.syscall(SYS_membarrier, EXPEDITED, 0, 0) == 0)
		return;
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page != MAP_FAILED) {
		*(volatile char *)page = 1;
		munmap(page, 4096);
	}
}

void rouse_sleepers(int epfd)
{
	int saved = errno;

	fence_everywhere(); /* the table's entry is there; pairs with rouse_begin() and rouse_end() */
	thr_defer();
	pthread_mutex_lock(&rouse_lock);
	if (others_sleep(epfd))
		marker_add(epfd);
	pthread_mutex_unlock(&rouse_lock);
	thr_undefer();
	errno = saved;
}

int rouse_filter(struct epoll_event *evs, int n)
{
	int kept = 0;

	for (int i = 0; i < n; i++)
		if (evs[i].data.ptr != &marker)
			evs[kept++] = evs[i];
	return kept;
}
