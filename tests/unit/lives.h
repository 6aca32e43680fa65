/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lives.h - what a process does with a private host, to be cut short at any instruction (test_death.c)
 *
 * Each life is short, ends by itself, and says so in shared->failed if it could not be lived. Between MARK and UNMARK it may be
 * killed anywhere, outside of them only under the shard lock. Its sockets have numbers from 100 on, its port is 80.
 */
#ifndef OWNSTACK_TESTS_LIVES_H
#define OWNSTACK_TESTS_LIVES_H

#include "../../host/export.h"
#include "../../host/passport.h"
#include "drive_rig.h"

#define LIFE_PORT 80
#define PATIENCE  SEC(20) /* stepped through on a busy machine, all takes long */
#define MARK()	  atomic_store(&shared->mark, getpid())
#define UNMARK()  atomic_store(&shared->mark, 0)
#define LIVED(cond)                                            \
	do {                                                   \
		if (!(cond))                                   \
			atomic_store(&shared->failed, __LINE__); \
	} while (0)

static inline void unnumber(struct thr *t, int fd)
{
	thr_enter();
	shard_lock(t);
	file_unref(t, fdtab_clear(fd));
	thr_leave(t);
}

static inline struct file *life_connect(struct thr *t)
{
	struct file *f = sock_open(t);

	LIVED(!sock_connect(t, f, ECHO_PORT, io_now() + PATIENCE));
	return f;
}

/* listen, connect, epoll, questions, accept, close */
static void life_sockets(struct thr *t)
{
	struct file *l, *c, *e, *a;
	struct epoll_event ev;

	l = sock_open(t);
	c = sock_open(t);
	LIVED(!sock_listen(t, l, LIFE_PORT));
	atomic_store(&shared->peer_burst, 1);
	LIVED(!sock_connect(t, c, ECHO_PORT, io_now() + PATIENCE));
	thr_enter();
	shard_lock(t);
	e = epoll_file_new();
	file_ref(e);
	sock_number(t, e);
	epoll_watch_add(t, e->ep, c, 101, EPOLLIN | (uint32_t)EPOLLET, 1);
	epoll_watch_add(t, e->ep, l, 100, EPOLLIN, 2);
	thr_leave(t);
	for (uint64_t i = 0; i < 3; i++)
		ping(t, c, i, PATIENCE);
	thr_enter();
	shard_lock(t);
	epoll_collect(t, e->ep, &ev, 1);
	epoll_watch_mod(t, e->ep, c, 101, EPOLLIN | EPOLLOUT, 3);
	epoll_collect(t, e->ep, &ev, 1);
	epoll_watch_del(t, e->ep, c, 101);
	thr_leave(t);
	a = sock_accept(t, l, io_now() + PATIENCE);
	LIVED(a);
	unnumber(t, 101);
	unnumber(t, 102);
	unnumber(t, 103);
	unnumber(t, 100);
}

static inline void bulk(struct thr *t, struct file *f, size_t bytes)
{
	static uint8_t out[4096], in[4096];
	size_t sent = 0, got = 0;
	usec_t until = io_now() + PATIENCE;

	while (got < bytes && io_now() < until) {
		ptrdiff_t r;

		if (sent < bytes && sent - got < 8000)
			sent += sock_send(t, f, out, sizeof(out) < bytes - sent ? sizeof(out) : bytes - sent);
		r = sock_recv(t, f, in, sizeof(in), sent < bytes ? 0 : until);
		if (r > 0)
			got += (size_t)r;
	}
	LIVED(got == bytes);
}

/* what comes: much, out of order, twice, not at all; ends and resets, of its connections and of others' */
static void life_input(struct thr *t)
{
	struct file *l = sock_open(t), *c, *a[3];
	uint8_t byte;

	LIVED(!sock_listen(t, l, LIFE_PORT));
	atomic_store(&shared->peer_burst, 3);
	c = life_connect(t);
	for (int i = 0; i < 3; i++)
		LIVED((a[i] = sock_accept(t, l, io_now() + PATIENCE)) != NULL);
	atomic_store(&shared->peer_shuffle, 1);
	bulk(t, c, 16000);
	atomic_store(&shared->peer_shuffle, 0);
	atomic_store(&shared->peer_send_now, 1);
	for (int i = 0; i < 3; i++)
		LIVED(a[i] && sock_recv(t, a[i], &byte, 1, io_now() + PATIENCE) == 1);
	atomic_store(&shared->peer_end, 2);
	for (int i = 0; a[2] && i < 3; i++)
		if (sock_recv(t, a[i], &byte, 1, io_now() + MSEC(20)) == -ECONNRESET)
			break;
	atomic_store(&shared->peer_end, 1);
	for (int i = 0; a[2] && i < 3; i++)
		sock_recv(t, a[i], &byte, 1, io_now() + PATIENCE);
	for (int i = 100; i < 105; i++)
		unnumber(t, i);
}

/* both ends are its own: payload changes sides without a frame, also as much as no window takes, both ways, and behind an end */
static void life_pair(struct thr *t)
{
	struct file *l = sock_open(t), *c = sock_open(t), *a;
	static uint8_t much[30000], in[30000];
	size_t sent = 0, got = 0;

	LIVED(!sock_listen(t, l, LIFE_PORT));
	LIVED(!sock_connect_to(t, c, ip(OUR_IP), LIFE_PORT, io_now() + PATIENCE));
	a = sock_accept(t, l, io_now() + PATIENCE);
	LIVED(a);
	for (size_t n; a && (n = sock_send(t, c, much, sizeof(much))) > 0;)
		sent += n;
	LIVED(sent > sizeof(much));
	while (a && got < sent) {
		ptrdiff_t r = sock_recv(t, a, in, sizeof(in), io_now() + PATIENCE);

		LIVED(r > 0);
		if (r <= 0)
			break;
		got += (size_t)r;
		LIVED(sock_send(t, a, "x", 1) == 1);
	}
	thr_enter();
	shard_lock(t);
	LIVED(!tcp_shutdown(host->shard.stack, c->tcb, 1, t->now));
	thr_leave(t);
	LIVED(a && sock_recv(t, a, in, 1, io_now() + PATIENCE) == 0);
	unnumber(t, 102);
	LIVED(sock_recv(t, c, in, sizeof(in), io_now() + PATIENCE) > 0);
	unnumber(t, 101);
	unnumber(t, 100);
}

/* acknowledgments held back, retransmission, rest */
static void life_timers(struct thr *t)
{
	struct file *c = life_connect(t);
	uint8_t byte;

	ping(t, c, 1, PATIENCE);
	sock_recv(t, c, &byte, 1, io_now() + MSEC(60));
	atomic_store(&shared->peer_deaf, 1);
	sock_send(t, c, "abc", 3);
	sock_recv(t, c, &byte, 1, io_now() + MSEC(300));
	atomic_store(&shared->peer_deaf, 0);
	LIVED(sock_recv(t, c, &byte, 1, io_now() + PATIENCE) == 1);
	sock_recv(t, c, &byte, 1, io_now());
	sock_recv(t, c, &byte, 1, io_now());
	sock_recv(t, c, &byte, 1, io_now() + MSEC(1500)); /* at rest */
	sock_send(t, c, "d", 1);
	LIVED(sock_recv(t, c, &byte, 1, io_now() + PATIENCE) == 1);
	unnumber(t, 100);
}

/* as preload/ does it when a process ends in good order */
static inline void process_ends(struct thr *t)
{
	gate_close();
	fdtab_leave(t);
	thr_enter();
	shard_lock(t);
	ready_slot_let_go(t, t->slot);
	thr_leave(t);
}

/* A fork child that shares its parent's connection 100, and ends as exit() does. Parent's death is not its own. */
static inline void life_of_child(uint32_t slot)
{
	struct thr *t;
	struct file *f;

	thr_fork_child();
	slot_fork_child(slot);
	t = thr_enter();
	if (!t)
		_exit(1);
	shard_lock(t);
	f = fdtab_lookup(100) ? file_get(fdtab_lookup(100)->file) : NULL;
	shard_unlock(t);
	if (f)
		ping(t, f, 7, MSEC(500));
	unnumber(t, 101);
	process_ends(t);
	_exit(0);
}

static void life_fork(struct thr *t)
{
	uint32_t child_slot = 0;
	pid_t pid;

	life_connect(t);
	life_connect(t);
	MARK();
	LIVED(!slot_fork_prepare(&child_slot));
	slot_fork_parent(child_slot, -1);
	child_slot = 0;
	LIVED(!slot_fork_prepare(&child_slot));
	pid = fork();
	if (!pid)
		life_of_child(child_slot);
	slot_fork_parent(child_slot, pid);
	UNMARK();
	waitpid(pid, NULL, 0);
	unnumber(t, 100);
	MARK();
	unnumber(t, 101);
	UNMARK();
}

/* its numbers go to another program, and come back */
static void life_export(struct thr *t)
{
	struct file *f = life_connect(t), *back;
	const uint64_t ino = 1000000 + (uint64_t)getpid() * 8;
	struct export *x;

	thr_enter();
	shard_lock(t);
	LIVED(!passport_issue(ino, f, t->slot));
	LIVED(!passport_issue(ino + 1, f, t->slot));
	back = passport_claim(ino);
	LIVED(back == f);
	file_unref(t, back); /* under the same hold, as who claims it gives it a number */
	thr_leave(t);
	thr_enter();
	shard_lock(t);
	x = export_new(f, EXPORT_NOW, ino + 2, ino + 3);
	export_new(f, EXPORT_LATER, ino + 4, 0);
	thr_leave(t);
	unnumber(t, 100); /* the socket lives on in its exports, and in a passport that goes with its sender */
	thr_enter();
	shard_lock(t);
	export_free(t, x);
	export_free(t, export_find(ino + 4));
	thr_leave(t);
}

/* exec, as far as the arena knows: another slot for the same process, which takes the table over */
static void life_exec(struct thr *t)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	number_next = fd;
	life_connect(t);
	number_next = fd + 2000;
	life_connect(t);
	fdtab_cloexec(fd + 2000, true);
	MARK();
	slot_exec_prepare();
	thr_fork_child();
	slot_self_page->index = 0;
	slot_self_page->slot = NULL;
	LIVED(slot_register() > 0);
	t = thr_enter();
	LIVED(t && slot_exec_adopt(t) == 1);
	UNMARK();
	ping(t, file_get(fdtab_lookup(fd)->file), 5, PATIENCE);
	MARK();
	unnumber(t, fd);
	UNMARK();
}

/* sleeping as driver, going out, coming back, with all that lies outside the lock */
static void life_role(struct thr *t)
{
	struct file *c = life_connect(t);
	uint8_t byte;

	MARK();
	ping(t, c, 3, PATIENCE);
	sock_recv(t, c, &byte, 1, io_now() + MSEC(2));
	drive_once(thr_enter());
	UNMARK();
	unnumber(t, 100);
}

static void life_exit(struct thr *t)
{
	struct file *c, *l;

	l = sock_open(t);
	LIVED(!sock_listen(t, l, LIFE_PORT));
	c = life_connect(t);
	ping(t, c, 3, PATIENCE);
	sock_send(t, c, "unread", 6);
	number_next = 5000; /* of another chunk */
	life_connect(t);
	thr_enter();
	shard_lock(t);
	watch_arm(t, l, TCP_EV_IN);
	file_hold(t, c);
	thr_leave(t);
	MARK();
	process_ends(t);
	UNMARK();
}

static const struct life {
	const char *name;
	void (*live)(struct thr *t);
	unsigned share; /* of all points, in percent */
} lives[] = {
	{ "sockets", life_sockets, 24 }, { "input", life_input, 18 }, { "pair", life_pair, 10 },
	{ "timers", life_timers, 3 },	 { "fork", life_fork, 9 },    { "export", life_export, 7 },
	{ "exec", life_exec, 9 },	 { "role", life_role, 11 },   { "exit", life_exit, 9 },
};
#define N_LIVES (sizeof(lives) / sizeof(lives[0]))

#endif
