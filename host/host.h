/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * host.h - a private host: what lies in the arena, and the words for it
 *
 * The arena is one memfd mapped at ARENA_BASE in every process that joined; struct host stands at its beginning, all else is
 * taken from its region. Pointers into the arena are good in every process; pointers to anything else must not be in it.
 *
 * Locks (RULES C1, C3): one shard lock (lock.h), then leaf locks, each held for a few instructions and never together:
 * a slot's table lock. With one shard, everything below that is not marked otherwise is guarded by the shard lock.
 */
#ifndef OWNSTACK_HOST_HOST_H
#define OWNSTACK_HOST_HOST_H

#include <stdatomic.h>
#include <sys/types.h>
#include "../io/io.h"
#include "../stack/stack.h"
#include "../stack/tcp.h"

#define ARENA_BASE	    ((uintptr_t)0x552000000000)
#define ARENA_BYTES_DEFAULT ((size_t)16 << 30)
#define HOST_MAGIC	    0x31747368736e776fULL /* "ownshst1" */
#define HOST_NAME_MAX_BYTES 32
#define SLOTS_MAX	    16384 /* processes of one host at a time; the arena is sparse */
#define SLOT_KEEPER	    1	  /* the keeper's own slot; 0 means none */

/* ---- driver role (RULES C5): one 64-bit word, waiter index << 16 | slot << 2 | state; see drive.c ---- */
enum role_state { ROLE_FREE = 0, ROLE_WAITING = 1, ROLE_OUT = 2 };

struct queue {
	_Atomic uint64_t role;	    /* see drive.c */
	_Atomic uint64_t activity;  /* bumped at every entry into the library: who computes long stands still */
	_Atomic uint32_t held;	    /* output is held back (flush rule): the keeper must tick */
	_Atomic uint64_t deadline;  /* until when the WAITING driver sleeps: who sets an earlier timer wakes it */
	_Atomic uint64_t looked_at; /* when the queue was last looked into */
	struct waiter *sleeper;	    /* threads asleep without the role, last one first (shard lock) */
	struct waiter *passenger;   /* asleep, and not able to take the role (passenger.c; shard lock) */
};

struct shard {
	_Atomic uint32_t lock; /* lock.h */
	_Atomic uint32_t stalled; /* holder is stopped: others get EAGAIN or go on waiting */
	usec_t now;		  /* of the last holder: time does not go back under the lock (lock.c) */
	struct stack *stack;
	struct file *moving[2]; /* made, or given or losing a number under this hold of the lock: counted anew if the holder dies */
};

enum keeper_pace { KEEPER_ASLEEP = 0, KEEPER_SLOW = 1 /* 10 Hz */, KEEPER_TICK = 2 /* 4 ms */ };
#define KEEPER_OWED_MAX 64
struct keeper_area {
	struct io_waker waker;
	_Atomic uint32_t pace;	/* what is wanted of it; who raises it wakes the keeper */
	_Atomic uint32_t pid;	/* 0: not running */
	/* what passengers left for it to do (passenger.h) */
	_Atomic uint32_t rung;	/* the bell was rung and not yet heard */
	_Atomic uint32_t owed_all, owed[KEEPER_OWED_MAX]; /* waiters to wake, index + 1; all of them where that was too small */
};

/* ---- processes ---- */
/*
 * FREE -> LIVE (join) or FORKING (reserved by a parent) -> LIVE -> DEAD -> FREE; an exec goes LIVE -> EXEC_PENDING (hook) ->
 * EXEC_DROP (keeper drops FD_CLOEXEC numbers) -> EXECED, and ADOPTED while a new image takes the table over; see slot.c
 */
enum slot_state { SLOT_FREE = 0, SLOT_FORKING, SLOT_LIVE, SLOT_EXEC_PENDING, SLOT_DEAD, SLOT_EXEC_DROP, SLOT_EXECED, SLOT_ADOPTED };

#define FD_CHUNK 1024
struct fdent { /* one descriptor number of one process; 16 bytes; changed under the slot's table lock, read without */
	_Atomic uint64_t file;	/* handle in host->files (generation << 32 | index), 0: not ours */
	_Atomic uint32_t flags;	/* FDENT_* */
	_Atomic uint32_t gen;	/* bumped each time the number changes hands */
};
enum { FDENT_CLOEXEC = 1, FDENT_EPOLL = 2 /* an epoll fd: the kernel's is under the number */ };
struct fdchunk {
	uint32_t slot, index;	/* where it hangs: written under fdchunk_lock, so that a repair finds the ones that do not */
	uint64_t pad;
	struct fdent ent[FD_CHUNK];
};

struct slot {
	_Atomic uint32_t state;
	_Atomic int32_t pid;		/* 0: free to claim; negative: reserved by that thread for a fork */
	_Atomic uint64_t start_time;		/* field 22 of /proc/PID/stat: pid + start time is a process's name */
	uint32_t parent;		/* slot, while FORKING; 0: the parent died */
	_Atomic uint32_t forking;	/* forks of this process between prepare and parent: its death leaves FORKING slots */
	uint32_t uid;
	_Atomic uint32_t table_lock;	/* leaf lock (leaf.h) */
	_Atomic uint64_t n_entries;	/* live fdents */
	_Atomic uint32_t chunk_top;	/* all chunks in use are below */
	struct file *_Atomic copying;	/* FORKING: its references are being copied here right now; a parent that dies leaves it */
	struct waiter *waiters;		/* threads of this process (shard lock) */
	_Atomic(struct fdchunk *) chunk[1024]; /* 1,048,576 numbers */
	char comm[16];
};

/* ---- threads that wait ---- */
#define WAITER_HELD 8 /* one per call in progress: a call, and signal handlers nested in its sleep */
struct waiter { /* one per thread, in host->waiters */
	struct io_waker waker;
	uint32_t slot;
	int32_t tid;
	struct waiter *next, **prev;	/* slot->waiters */
	struct watch *watches;		/* of the call it blocks in: freed with it when its process dies */
	struct waiter *ep_next, **ep_prev; /* epoll->sleepers; ep_prev NULL: not on it */
	struct waiter *q_next, **q_prev;   /* queue.sleeper or queue.passenger: asleep without the driver role */
	uint32_t wake_at;		/* its place in the list of whoever queued a wake for it last; see thr_wake_later() */
	_Atomic uint32_t owes, owes_seen; /* number of a batch of wakes it has promised and not yet sent, 0: none; the keeper's note of it */
	struct file *held[WAITER_HELD];	/* references of calls in progress (file_hold()), given back if the process dies in them */
};

/* ---- open file descriptions ---- */
enum file_kind { FILE_UNDECIDED = 1, FILE_TCP = 2, FILE_EPOLL = 3, FILE_KERNEL = 4 /* decided: not ours */ };

struct file {
	_Atomic uint32_t refs;	/* descriptor numbers in all processes, and what is on its way to one */
	uint32_t holds;		/* calls in progress that let the lock go: places in waiter->held[], and counted from there by a repair */
	_Atomic uint32_t numbers; /* descriptor numbers in all processes */
	uint8_t kind;
	uint8_t family;		/* 4 or 6 */
	uint8_t kernel_listens;	/* listen_both: the kernel socket under the number listens on loopback as well */
	uint8_t bound;		/* UNDECIDED: bound to a wildcard, on the private side only so far */
	_Atomic uint32_t status; /* O_NONBLOCK, O_ASYNC */
	struct tcb *tcb;	/* also while UNDECIDED: setsockopt and bind go to both sides, nothing is to be replayed */
	struct epoll *ep;
	struct watch *watches;	/* all who watch it: epoll members and blocked threads */
	uint64_t rcvtimeo_us, sndtimeo_us; /* 0: none */
	uint32_t recv_busy, send_busy; /* waiter index of the thread that copies without the lock */
	int32_t owner;		/* F_SETOWN */
	int32_t sig;		/* F_SETSIG */
	uint32_t disconnects;	/* by connect(AF_UNSPEC), so that a sleeping receiver learns of it */
	int32_t async_fd;	/* number that O_ASYNC was set by: what siginfo says */
	struct kopt *kopts;	/* options that only the kernel has a use for (preload/kopt.c) */
	uint8_t stamp, inq;	/* control data that recvmsg() gives: SO_TIMESTAMP* (STAMP_*), TCP_INQ */
	uint8_t stamping;	/* SO_TIMESTAMPING: STAMPING_* */
	uint32_t home_wait;	/* flush rule: wait of which thread delivered its last event */
	struct file *passed_next, **passed_prev; /* host->passed; prev NULL: not in it */
	uint64_t passed_at;
};

#define KOPT_BYTES 44
struct kopt { /* one option of one file, as the program gave it */
	struct kopt *next;
	uint64_t owner;		/* handle of the file: lists are made anew from it after a broken lock */
	int32_t level, name;
	uint32_t len;
	uint8_t val[KOPT_BYTES];
};

/* ---- readiness (ready.h) ---- */
enum watch_kind { WATCH_THREAD = 1, WATCH_EPOLL = 2 };
struct watch {
	struct watch *next, **prev;	/* file->watches */
	struct file *file;
	uint32_t events;		/* EPOLL* bits wanted; 0 with ONESHOT spent */
	uint8_t kind, queued, exclusive, disabled;
	int32_t fd;			/* epoll: the number it was added under */
	uint32_t slot;			/* epoll: process that added it (numbers are per process) */
	uint64_t data;			/* epoll_data */
	uint32_t pending;		/* bits noted since it was queued */
	uint32_t flags;			/* EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP as given */
	struct epoll *ep;
	struct watch *ready_next, **ready_prev; /* epoll->ready */
	struct watch *all_next, **all_prev; /* epoll->all */
	struct waiter *waiter;		/* WATCH_THREAD */
	struct watch *sibling;		/* WATCH_THREAD: others of the same call */
};

struct epoll {
	struct file *file;
	struct watch *ready, **ready_tail;
	struct waiter *sleepers;	/* threads in epoll_wait */
	struct watch *all;		/* every member on the private side */
	uint32_t n_watches, n_ready;
	uint32_t n_kernel;		/* members that are the kernel's */
	uint32_t turn;			/* whose side fills maxevents first */
	int32_t kernel_fd;		/* the number it was last used under, ... */
	uint32_t kernel_slot;		/* ... and in which process */
	uint8_t kernel_hot;		/* its kernel side had events at the last look */
	uint32_t n_twins;		/* members that are on both sides */
};

/* ---- sockets on their way through SCM_RIGHTS (passport.h) ---- */
#define PASSPORT_BUCKETS 256
struct passport {
	uint64_t ino;		/* of the kernel socket that is sent in its place */
	struct file *file;	/* a reference */
	struct passport *next;
	uint32_t slot;		/* sender */
};

/* ---- sockets in programs that cannot be ours (export.h) ---- */
enum export_kind {
	EXPORT_NOW = 1,	 /* a connection, pumped from now on */
	EXPORT_LATER,	 /* sent by SCM_RIGHTS, perhaps to one of ours, who takes it back at once: not pumped for a moment */
	EXPORT_LISTENER, /* the keeper accepts, and connects to the kernel's loopback */
};
struct export {
	uint64_t ino;		/* of the program's end */
	uint64_t keeper_ino;	/* of the keeper's: who sends another descriptor for this row is refused */
	struct file *file;	/* a reference, and a number */
	struct export *next;
	uint32_t kind, slot;	/* slot: who exported it */
	uint32_t claimed;	/* a process of ours has it as well: nothing is read ahead while it does */
	uint32_t pumped;	/* octets may have been read ahead */
	uint32_t taken;		/* the keeper has its end */
	uint16_t port;		/* EXPORT_LISTENER: on 127.0.0.1 */
};

/* ---- the host ---- */
struct host {
	uint64_t magic, layout_hash; /* joiners with another layout are refused */
	uint64_t arena_bytes;
	struct region region;
	char name[HOST_NAME_MAX_BYTES];
	uint8_t token[16];	     /* who can read it is a member: the warden asks for it on later requests */
	uint32_t dev_kind, io_level; /* enum io_kind; io_level forced by OWNSTACK_IO or 0 */
	char ifname[16];
	uint8_t listen_both, verbose, loopback_private;
	uint32_t owner_uid;
	char pcap_path[128], impair[128];
	_Alignas(64) struct shard shard;
	_Alignas(64) struct queue queue;
	_Alignas(64) struct keeper_area keeper;
	_Alignas(64) struct slab files, epolls, watches, waiters, fdchunks, kopts, passports, exports;
	struct passport *passport_bucket[PASSPORT_BUCKETS];
	struct export *export_bucket[PASSPORT_BUCKETS];
	_Atomic uint32_t fdchunk_lock; /* leaf: fdchunks slab is used under table locks */
	struct file *passed;	/* one of several exclusive waiters was woken for these; the keeper sees to it that it came (shard lock) */
	_Atomic uint32_t slot_hint;	/* where to look for a free slot first */
	_Atomic uint32_t slot_top;	/* slots ever used are below */
	_Atomic uint32_t slot_changes;	/* bumped where a slot changes hands: the keeper looks at all of them */
	_Atomic uint32_t n_live;	/* slots in use, keeper included */
	struct netdev_caps dev_caps;
	uint32_t spin_us, leak_v6;
	uint32_t ifindex;	/* of the device: what a link-local address has as its scope */
	struct slot slot[SLOTS_MAX];
};

/** host - the arena of the host this process joined, NULL before */
extern struct host *host;

#endif
