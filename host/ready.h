/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ready.h - who is told when a socket becomes ready
 *
 * Each file has a list of watches; a watch belongs to an epoll instance or to a thread blocked in a call. All functions run
 * under the shard lock. Level-triggered epoll watches stay queued until a look at wait time finds them not ready any more;
 * edge-triggered ones are queued by events only.
 */
#ifndef OWNSTACK_HOST_READY_H
#define OWNSTACK_HOST_READY_H

#include <sys/epoll.h>
#include "thr.h"

enum { FILE_BUSY_WANTED = 0x80000000u }; /* in file->recv_busy, send_busy: somebody waits for the copy to end */

/* files */
struct file *file_new(enum file_kind kind, int family);	/* gives, refs = numbers = 0; NULL: arena full */
void file_ref(struct file *f);				/* any time */
/** file_hold() - reference of a call that is about to let the lock go; a process that dies in the call gives it back. Shard lock. */
void file_hold(struct thr *t, struct file *f);
/** file_moves() - @f's references are about to change; a repair counts them anew. The two latest are remembered. Shard lock. */
void file_moves(struct file *f);
/** file_release() - the call is back: gives up what file_hold() took. Shard lock. */
void file_release(struct thr *t, struct file *f);
/** file_release_all() - @w's thread will not come back for what it holds. Shard lock. */
void file_release_all(struct thr *t, struct waiter *w);
/** file_unref() - drops one; at the last: sockets are closed as a kernel would, watches go. Shard lock. */
void file_unref(struct thr *t, struct file *f);
uint64_t file_handle(const struct file *f);
struct file *file_get(uint64_t handle);			/* NULL: stale */
uint32_t file_poll(const struct file *f);		/* EPOLL* bits that hold now (private side) */
/** file_notify() - @bits newly hold: queue and wake watchers */
void file_notify(struct thr *t, struct file *f, uint32_t bits);

/* blocked threads */
/** watch_arm() - thread @t will be woken when @events hold on @f. Return 0, -ENOMEM. Disarm all at once with watch_disarm_all() */
int watch_arm(struct thr *t, struct file *f, uint32_t events);
/** watch_arm_exclusive() - same, but one such watch is woken per event (accept) */
int watch_arm_exclusive(struct thr *t, struct file *f, uint32_t events);
void watch_disarm_all(struct thr *t);

/* epoll */
struct file *epoll_file_new(void);			/* gives */
int epoll_watch_add(struct thr *t, struct epoll *ep, struct file *f, int fd, uint32_t events, uint64_t data); /* -EEXIST, -ENOMEM, -EINVAL, -ELOOP */
int epoll_watch_mod(struct thr *t, struct epoll *ep, struct file *f, int fd, uint32_t events, uint64_t data); /* -ENOENT */
int epoll_watch_del(struct thr *t, struct epoll *ep, struct file *f, int fd);			      /* -ENOENT */
/** epoll_collect() - up to @max ready events, exactly as epoll_wait would report them; level-triggered ones are queued again */
int epoll_collect(struct thr *t, struct epoll *ep, struct epoll_event *ret, int max);
/** epoll_sleep_arm()/disarm() - thread is about to wait in epoll_wait / is back */
void epoll_sleep_arm(struct thr *t, struct epoll *ep);
void epoll_sleep_disarm(struct thr *t, struct epoll *ep);
bool epoll_has_ready(struct epoll *ep);
/** ready_passed_look() - events that one exclusive waiter was woken for longer than @age_us ago, and which are still there, are shown to all */
void ready_passed_look(struct thr *t, usec_t age_us);
/** watch_drop_all() - @f ends: its watches go, its blocked threads look again */
void watch_drop_all(struct thr *t, struct file *f);
/** epoll_drop() - @ep ends: its members are let go */
void epoll_drop(struct thr *t, struct epoll *ep);
/** watch_pass_on() - woken, but not to act on it: what an exclusive watch was woken for goes to the next. Before disarming. Shard lock. */
void watch_pass_on(struct thr *t);
/** ready_waiter_drop() - @w's thread ends: its watches, held references and places in lists go */
void ready_waiter_drop(struct thr *t, struct waiter *w);
/** ready_slot_let_go() - the process ends, its gate is closed: what its sleeping threads hold and watch goes. Shard lock. */
void ready_slot_let_go(struct thr *t, uint32_t slot);
/** ready_slot_drop() - process is dead: its threads' watches go */
void ready_slot_drop(struct thr *t, uint32_t slot);
/** files_repair() - after that: what the dead holder had begun to make or to free goes. Shard lock. */
void files_repair(struct thr *t);
/** ready_repair() - after a broken lock: lists from the slabs. Whoever sleeps must look again then. */
void ready_repair(void);

#endif
