/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * callfuzz.h - random sequences of socket calls, the same from one seed on the kernel and on a private host
 *
 * Theory of operation
 *
 * A *program* is an array of struct call, made from its seed alone (gen.c): nothing that a call gave back has a say in what
 * comes next. Descriptors are named by *slots*, so that a program with calls left out (--drop) is still a program: calls on
 * an empty slot are calls on -1. callfuzz.py runs a program on both sides, compares what was printed, and drops calls while
 * it still differs.
 *
 * Calls are made by two to four threads, but never two at once: the conductor (main.c) gives one call to one thread and waits
 * until it came back or sleeps. So every result is determined, that of a call which sleeps included: it is printed at the call
 * that woke it. Whether a sleeper ought to wake is asked of poll() (world.c, oracle()): a call that sleeps on although its
 * condition holds is printed as a lost wake-up. What one side knows only a moment later (octets on their way, a FIN) is waited
 * for (settle()). What is not determined is not printed, or not done: ports are printed in order of appearance, two threads do
 * not sleep on one socket, no buffer is filled, a descriptor on which a thread sleeps is not closed.
 *
 * storm.c does what this leaves out: threads that call at the same time, where only invariants can be checked.
 */
#ifndef CALLFUZZ_H
#define CALLFUZZ_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/types.h>

enum kind {
#define KIND(name, what) K_##name,
#include "kinds.def"
#undef KIND
	K_N
};

enum bad { /* what is wrong with a call, if it is of a kind where that can be */
	BAD_NOT,
	BAD_FD_CLOSED, BAD_FD_FAR, BAD_FD_KIND,
	BAD_PTR_NULL, BAD_PTR_UNREADABLE, BAD_PTR_READONLY,
	BAD_LEN_NEGATIVE, BAD_LEN_ZERO, BAD_LEN_HUGE,
	BAD_N
};

enum { N_OBJECTS = 512, N_SLOTS = 14, N_THREADS_MAX = 4, N_CALLS_MAX = 96, BUF_BYTES = 65536, QUEUED_MAX = 40000, QUEUED_SMALL = 3000, OWN_FDS_FROM = 600 };

struct call {
	uint8_t kind, thread, bad;
	int8_t a, b, c;
	uint32_t x, y, z;	/* the executor makes flags, sizes, values of them */
};

struct program {
	uint64_t seed;
	int n_threads, n_calls;
	struct call call[N_CALLS_MAX + 1];
};

/* ---- gen.c ---- */
uint64_t rnd(uint64_t *state);
void program_generate(struct program *p, uint64_t seed);

/* ---- world.c: what the slots hold ---- */
enum what { W_NONE, W_SOCKET, W_PIPE_R, W_PIPE_W, W_FILE, W_EPOLL };

struct object { /* an open file description, as far as waiting and settling must know it */
	enum what what;
	int refs, peer;			/* index of an object, -1 */
	uint16_t lport, rport;
	uint64_t sent, rcvd;
	int backlog;			/* of a listener */
	_Atomic int connected, accepted;
	bool has_timeo, shut_wr, shut_rd, shut_early;
	bool has_member;		/* of an epoll instance */
	bool small[2], urgent;		/* SO_SNDBUF, SO_RCVBUF were chosen; urgent data was sent */
	int sleepers;			/* threads in a call on it */
};

struct world {
	struct { int fd, obj; } slot[N_SLOTS];
	struct object *obj;		/* shared with children */
	int *n_obj;
	int *n_ports;
	uint16_t *port;
};
extern struct world world;

void world_init(void);
void world_begin(void);
/** world_end() - closes what is open. Return: numbers from 3 on that are still there and should not be */
int world_end(void);
int slot_fd(int slot);
struct object *slot_obj(int slot);
int object_new(enum what what);
/** slot_set() - the slot holds @fd from now on; what it held is closed */
void slot_set(int slot, int fd, int obj);
/** slot_gone() - the number was closed, or means something else now */
void slot_gone(int slot);
void link_peers(int slot);
const char *port_name(uint16_t port);	/* P1, P2, ... */
const char *addr_name(const struct sockaddr_storage *a, socklen_t len);
/** port_chosen() - the system just chose a port for the socket */
void port_chosen(int slot);
/** settle() - what the last call on @obj set off has arrived */
void settle(int obj);
void world_fork_save(void);
void world_fork_restore(void);

/** object_peer() - the other end of a connection, NULL */
struct object *object_peer(const struct object *o);

extern long settle_missed;		/* how often settle() waited in vain: a model too simple, or something is lost */

/* ---- main.c: a thread of the program, and its call under way ---- */
enum { ACTOR_IDLE, ACTOR_GO, ACTOR_DONE, ACTOR_QUIT };
struct actor {
	_Atomic int state;
	pthread_t thread;
	int tid, status_fd;		/* /proc/.../status */
	const struct call *call;
	int index;
	bool sleeps, may_sleep, in_child, lost;
	char text[512], result[2048];
	/* for the oracle: what the call waits for */
	int wait_slot;			/* -1: several, see fds */
	short wait_events;
	size_t wait_bytes;		/* > 0: so many octets, or an end */
	struct { int slot; short events; } fds[3];
	int n_fds;
	const struct call *child_first;
	int sigpipes, obj_slept_on;
};
extern _Thread_local struct actor *self;
extern volatile sig_atomic_t sigpipes_seen, signals_seen;

/* ---- run_*.c: execution ---- */
typedef void run_fn(struct actor *a, const struct call *c);
#define KIND(name, what) run_fn run_##name;
#include "kinds.def"
#undef KIND
void call_run(struct actor *a, const struct call *c, int index);

__attribute__((format(printf, 2, 3))) void text(struct actor *a, const char *fmt, ...);
__attribute__((format(printf, 2, 3))) void result(struct actor *a, const char *fmt, ...);
/** gave() - "= r", or "= -1 ENAME"; errno is read at once */
void gave(struct actor *a, long r);
__attribute__((format(printf, 1, 2))) void say(const char *fmt, ...);
void say_flush(void);
extern bool trace;

/** arg_fd() - number of the slot, or what is wrong instead */
int arg_fd(const struct call *c, int slot);
void *arg_ptr(const struct call *c, void *good);
size_t arg_len(const struct call *c, size_t good);
/** may_sleep_on() - false: another thread sleeps there, the call has to be left out. Else the call is noted. */
bool may_sleep_on(struct actor *a, int slot, short events);
void sleep_over(struct actor *a);
bool anyone_sleeps(bool in_epoll);
bool fd_busy(int slot);			/* a thread sleeps on it */

uint8_t *buffer_of(const struct actor *a);
void fill(uint8_t *to, size_t n, uint32_t seed);
uint32_t digest(const void *from, size_t n);

const char *poll_bits(unsigned v);

int storm(uint64_t seed, int seconds);

#endif
