/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * io.h - frames between kernel and stack
 *
 * A device is opened once, by a process that may (the warden); its queue descriptor is passed to those who drive it. A loop
 * is what one thread waits on: frames, its own wake word, descriptors of the application, a deadline, in one system call.
 * A loop belongs to the thread that opened it, is never used across fork, and does not know locks or sockets.
 *
 * Three levels (chosen by probe, forced by OWNSTACK_IO=full|uring|poll):
 *   full   Linux 6.7: multishot read, FUTEX_WAIT in the ring, ring without a descriptor
 *   uring  Debian 12's 6.1: single reads + NOWAIT batch, the wake word is signalled through a datagram socket
 *   poll   where io_uring is forbidden: poll + readv/writev, same wake socket
 * The rules of driving (who may read, when a receive is cancelled) are the caller's: host/drive.c.
 */
#ifndef OWNSTACK_IO_IO_H
#define OWNSTACK_IO_IO_H

#include <poll.h>
#include <signal.h>
#include "../stack/netdev.h"
#include "../stack/pbuf.h"

enum io_level { IO_LEVEL_FULL = 1, IO_LEVEL_URING = 2, IO_LEVEL_POLL = 3 };
enum io_kind { IO_KIND_TAP = 1, IO_KIND_PACKET = 2, IO_KIND_MEM = 3 };

/* ---- devices: need privilege; all return a descriptor (O_NONBLOCK, O_CLOEXEC) or negative errno ---- */
struct io_dev_config {
	enum io_kind kind;
	char ifname[16];	/* TAP: may be empty or hold %d; the name it got is written back */
	uint16_t mtu_bytes;	/* 0: the interface's */
	uint8_t mac[6];		/* ours; all zero: made from the name (TAP) or the interface's own (packet) */
	bool create;		/* TAP: may be created */
};
int io_tap_open(struct io_dev_config *cfg, struct netdev_caps *ret_caps);
int io_packet_open(struct io_dev_config *cfg, struct netdev_caps *ret_caps);

/* ---- waking another thread, of any process of the host; lies in shared memory ---- */
struct io_waker {
	uint32_t word;		/* changes with each wake */
	uint32_t sleeping;	/* owner is, or is about to be, asleep on seen value */
	uint8_t by_socket;	/* 0: futex, 1: datagram to abstract address name[0..name_len) */
	uint8_t name_len;
	char name[30];
};
/** io_wake() - word++, and a system call only if the owner sleeps. Any thread, any process, no lock needed. */
void io_wake(struct io_waker *w);
/** io_wake_hook - process-local: called in place of the system call, by a process that may not make it (host/passenger.c) */
extern void (*io_wake_hook)(struct io_waker *w);
/** io_wake_socket - process-local: makes a datagram socket that wakes or is woken by name (host/window.c); NULL: nothing special */
extern int (*io_wake_socket)(void);

/* ---- the loop ---- */
struct io_loop;
struct memdev_end;
struct io_loop_config {
	int queue_fd;		/* borrowed during the call only where the ring can register it, else dup'ed above 1000 */
	enum io_kind kind;
	enum io_level level;	/* 0: probe */
	const char *pcap_path;	/* decorator: record all frames, NULL: none */
	const char *impair;	/* decorator: "loss=1%,reorder=2%,dup=1%,delay=20ms,seed=7", NULL: none */
	struct memdev_end *mem;	/* IO_KIND_MEM: the end to drive (memdev.h), borrowed; such a loop is always of level poll */
	/* called around each system call that may sleep: here a caller allows asynchronous cancellation, and only here */
	void (*sleep_hook)(void *arg, bool begins);
	void *sleep_arg;
	bool no_rwf_nowait;	/* test: do as on kernels before 6.4, whose TAP refuses RWF_NOWAIT */
};
/** io_level_probe() - best level this process may use now; @env: value of OWNSTACK_IO or NULL. -EINVAL: not a level, -EOPNOTSUPP: not here */
int io_level_probe(const char *env);
/** io_uring_allowed() - may this process make rings? Asks without making one (a ring that goes disturbs the thread's next sleep) */
bool io_uring_allowed(void);
/** io_loop_open() - gives a loop for the calling thread; sets up @waker (in shared memory, zeroed once) so that others can wake it */
int io_loop_open(struct io_loop **ret_loop, const struct io_loop_config *cfg, struct io_waker *waker);
void io_loop_close(struct io_loop *l);	/* takes; NULL is fine */
/** io_loop_abandon() - in a fork child: the parent's loop is not ours (its memory is MADV_DONTFORK), forget without a system call on it */
void io_loop_abandon(struct io_loop *l);
enum io_level io_loop_level(const struct io_loop *l);

enum { IO_WAIT_RX = 1, IO_WAIT_WAKE = 2, IO_WAIT_KFD = 4 };
struct io_wait {
	bool rx;		/* caller holds the driver role: arm the receive if it is not. false: cancel it together with the wait */
	bool block;		/* false: one look, no sleep */
	uint32_t wake_seen;	/* return at once if waker->word differs */
	usec_t deadline;	/* CLOCK_MONOTONIC, USEC_NEVER: none */
	const sigset_t *mask;	/* swapped in atomically for the sleep, NULL: unchanged */
	struct pollfd *kfds;	/* descriptors of the application to wait on as well; revents is filled */
	unsigned n_kfds;
	/*
	 * Not 0: the polls may stay armed when the wait returns, and a wait with the same key uses them again, which saves arming,
	 * cancelling and an enter. A key stands for the same files under the same numbers; it is for descriptors whose close the
	 * caller sees (the kernel side of an epoll set): a poll left over keeps the file open until io_loop_kfds_forget().
	 */
	uint64_t kfds_key;
};
/**
 * io_loop_wait() - submit what is queued, then sleep until something happens
 *
 * One io_uring_enter in the common case. Frames that arrive although the role is not held are still kept: ask io_loop_rx().
 * An event of a left-over poll may be stale: look without blocking. -EINTR may be missing when frames or a wake came in the
 * same moment; who must know that a handler ran counts handlers. What came in together with -EINTR is kept.
 * Return: IO_WAIT_* bits, 0: deadline passed (or nothing, when not blocking), -EINTR: a signal handler ran
 */
int io_loop_wait(struct io_loop *l, struct io_wait *w);

/** io_loop_kfds_forget() - the files that @key stands for are about to be closed: no poll of ours shall hold them */
void io_loop_kfds_forget(struct io_loop *l, uint64_t key);

/**
 * io_loop_rx() - frames that came in, borrowed until io_loop_rx_done()
 * Return: count, 0: none left. Never makes a system call at level full; at the others reads what waits, without blocking, while @may_read.
 */
int io_loop_rx(struct io_loop *l, struct frame *ret_frames, int max, bool may_read);
void io_loop_rx_done(struct io_loop *l);	/* their buffers go back */

/** io_loop_tx() - queue a list of frames for sending; each comes back through io_loop_tx_reap() when the kernel has read it. Takes. */
void io_loop_tx(struct io_loop *l, struct pbuf *list);
/** io_loop_flush() - submit without taking anything in (no GETEVENTS). Called without any lock held. */
void io_loop_flush(struct io_loop *l);
struct pbuf *io_loop_tx_reap(struct io_loop *l); /* gives a list of finished frames, NULL: none; no system call */
unsigned io_loop_tx_queued(const struct io_loop *l);

struct io_stats { uint64_t rx_frames, rx_bytes, tx_frames, tx_bytes, tx_errors, enters, rx_rearms; };
void io_loop_stats(const struct io_loop *l, struct io_stats *ret);

/** io_now() - CLOCK_MONOTONIC in microseconds */
usec_t io_now(void);

#endif
