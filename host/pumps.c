/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pumps.c - the keeper moves octets for programs that have a private socket and cannot be ours (RULES C8)
 *
 * Theory of operation
 *
 *	program -- socket pair -- pump -- private connection
 *	program -- TCP on the kernel's loopback -- pump -- private connection, of an exported listener
 *
 * A pump has the keeper's end and the row (export.h) whose reference on the socket it holds. It keeps no octets itself: they go
 * from the cells of the connection to the pair and back, and what the one side does not take stays in the other. So what was
 * read ahead lies in the pair, where a process of ours that finds the program's end in its hands reads it back
 * (preload/export.c); while it has the connection (row.claimed) nothing more is read ahead, until its numbers have gone.
 *
 * The end of a direction is passed on as such. When no copy of the program's end is left, what it wrote is delivered and the
 * reference let go; when the connection fails, the program finds the end of its stream. A listener goes with the process that
 * exported it, or when the kernel's side does not listen any more.
 *
 * Everything is edge-triggered: a private set of the keeper's (epoll in the arena) tells of connections, its kernel epoll of the
 * other ends. What is told of runs until both directions block, a few pieces a turn, so that one pump does not hold up the others.
 *
 * A keeper that dies takes its ends with it: programs find the end of their streams, and the next keeper drops the rows.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include "export.h"
#include "join.h"
#include "pumps.h"
#include "ready.h"
#include "window.h"
#include "sys.h"

enum { PIECE_BYTES = 65536, CELLS_PER_PIECE = 16, PIECES_PER_TURN = 8, LATER_US = 100000 };

struct pump {
	struct export *row;	/* NULL: not in use */
	int fd;			/* the keeper's end; -1: a listener */
	bool hup;		/* no copy of the program's end is left */
	bool in_done, out_done;	/* end passed on; in: from the connection to the program */
	bool broken;
	bool runs;		/* in pumps->run */
	bool waits;		/* in pumps->claimed */
	bool started;		/* before its time, see start_at */
	usec_t start_at;	/* EXPORT_LATER: not before; 0: it is in no list for that */
	uint32_t index;
	struct pump *next;	/* pumps->run, or pumps->idle */
	struct pump *next_claimed, *next_late, *next_listener;
};

struct pumps {
	struct thr *t;
	int epfd;
	uint32_t kind;
	struct file *set_file;
	struct epoll *set;
	struct pump **pump;	/* by index */
	uint32_t n;
	struct pump *idle;	/* without a row */
	struct pump *run, **run_end;
	struct pump *late, **late_end; /* by start_at; started ones are still in it until then */
	struct pump *claimed;	/* seen to be claimed by a process of ours */
	struct pump *listeners;
};

/* ---- the table ---- */

struct pumps *pumps_new(struct thr *t, int epfd, uint32_t kind)
{
	struct pumps *ps = calloc(1, sizeof(*ps));

	if (!ps)
		return NULL;
	ps->t = t;
	ps->epfd = epfd;
	ps->kind = kind;
	ps->run_end = &ps->run;
	ps->late_end = &ps->late;
	shard_lock(t);
	ps->set_file = epoll_file_new();
	if (ps->set_file)
		file_hold(t, ps->set_file);
	thr_leave(t);
	if (!ps->set_file) {
		free(ps);
		return NULL;
	}
	ps->set = ps->set_file->ep;
	return ps;
}

struct epoll *pumps_ready(struct pumps *ps)
{
	return ps ? ps->set : NULL;
}

static void wants_run(struct pumps *ps, struct pump *p)
{
	if (p->runs)
		return;
	p->runs = true;
	p->next = NULL;
	*ps->run_end = p;
	ps->run_end = &p->next;
}

/* A pump that is free. They never move nor go, so that a late event finds one. NULL: no memory */
static struct pump *pump_take(struct pumps *ps)
{
	struct pump *p = ps->idle, **more;

	if (p) {
		ps->idle = p->next;
		return p;
	}
	if (!(ps->n & (ps->n - 1))) { /* full: twice the room */
		more = realloc(ps->pump, (ps->n ? 2 * (size_t)ps->n : 1) * sizeof(*more));
		if (!more)
			return NULL;
		ps->pump = more;
	}
	p = calloc(1, sizeof(*p));
	if (p) {
		p->index = ps->n;
		ps->pump[ps->n++] = p;
	}
	return p;
}

static bool in_a_list(const struct pump *p)
{
	return p->runs || p->waits || p->start_at;
}

/* Back to the idle ones, as soon as no list has it. */
static void pump_idle(struct pumps *ps, struct pump *p)
{
	if (p->row || in_a_list(p))
		return;
	p->next = ps->idle;
	ps->idle = p;
}

static void late_add(struct pumps *ps, struct pump *p)
{
	p->start_at = io_now() + LATER_US;
	p->next_late = NULL;
	*ps->late_end = p;
	ps->late_end = &p->next_late;
}

/* Takes @fd. Shard lock not held. */
static void pump_add(struct pumps *ps, struct export *row, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET };
	struct pump *p = pump_take(ps);
	bool ok = p;

	if (ok && fd >= 0) {
		ev.data.u64 = (uint64_t)ps->kind << 32 | p->index;
		ok = !sys_epoll_ctl(ps->epfd, EPOLL_CTL_ADD, fd, &ev);
	}
	shard_lock(ps->t);
	ok = ok && !epoll_watch_add(ps->t, ps->set, row->file, (int)p->index, EPOLLIN | EPOLLOUT | EPOLLRDHUP | (uint32_t)EPOLLET, p->index);
	if (!ok)
		export_free(ps->t, row);
	thr_leave(ps->t);
	if (!ok) {
		if (fd >= 0)
			sys_close(fd);
		if (p)
			pump_idle(ps, p);
		return;
	}
	*p = (struct pump){ .row = row, .fd = fd, .index = p->index };
	if (row->kind == EXPORT_LATER)
		late_add(ps, p);
	if (fd < 0) {
		p->next_listener = ps->listeners;
		ps->listeners = p;
	}
	wants_run(ps, p);
}

static void pump_end(struct pumps *ps, struct pump *p)
{
	struct pump **at = &ps->listeners;

	shard_lock(ps->t);
	epoll_watch_del(ps->t, ps->set, p->row->file, (int)p->index);
	export_free(ps->t, p->row);
	thr_leave(ps->t);
	if (p->fd >= 0)
		sys_close(p->fd);
	while (p->fd < 0 && *at != p)
		at = &(*at)->next_listener;
	if (p->fd < 0)
		*at = p->next_listener;
	p->row = NULL;
	pump_idle(ps, p);
}

/* ---- moving octets ---- */

static void iov_cut(struct iovec *v, int n, size_t left)
{
	for (int i = 0; i < n; i++) {
		if (v[i].iov_len > left)
			v[i].iov_len = left;
		left -= v[i].iov_len;
	}
}

/* A stretch without the lock, the direction marked busy; handlers do not matter here. */
static ssize_t moved(struct pumps *ps, struct file *f, uint32_t *busy, uint32_t events, int fd, struct iovec *v, int n)
{
	struct msghdr m = { .msg_iov = v, .msg_iovlen = (size_t)n };
	bool wanted;
	ssize_t r;

	*busy = ps->t->waiter_index;
	shard_unlock(ps->t);
	r = events == EPOLLIN ? sys_sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) : sys_recvmsg(fd, &m, MSG_DONTWAIT);
	shard_lock(ps->t);
	wanted = *busy & FILE_BUSY_WANTED;
	*busy = 0;
	if (wanted)
		file_notify(ps->t, f, events);
	return r;
}

/* A process of ours has the connection back: the pump waits until its numbers have gone. */
static void wait_claimed(struct pumps *ps, struct pump *p)
{
	if (!p->waits) {
		p->next_claimed = ps->claimed;
		ps->claimed = p;
	}
	p->waits = true;
}

/**
 * move() - one piece
 * @in: from the connection to the program, else from the program to the connection
 *
 * Return: octets, 0: end of stream, -EAGAIN: at rest, else: broken
 */
static ssize_t move(struct pumps *ps, struct pump *p, bool in)
{
	struct stack *st = host->shard.stack;
	struct file *f = p->row->file;
	uint32_t *busy = in ? &f->recv_busy : &f->send_busy;
	struct iovec v[CELLS_PER_PIECE];
	ssize_t r;
	int n = 0;

	ps->t->now = io_now();
	shard_lock(ps->t);
	if (in && p->row->claimed) {
		shard_unlock(ps->t);
		wait_claimed(ps, p);
		return -EAGAIN;
	}
	if (in)
		r = tcp_recv_begin(st, f->tcb, 0, PIECE_BYTES, v, CELLS_PER_PIECE, &n);
	else if (p->row->claimed && tcp_error_pending(f->tcb))
		r = -EPIPE; /* it is told once: to the process that has the connection again */
	else
		r = tcp_send_begin(st, f->tcb, PIECE_BYTES, v, CELLS_PER_PIECE, &n);
	if (r == -EBUSY) { /* a process of ours copies: it tells the set when it is done */
		*busy |= FILE_BUSY_WANTED;
		r = -EAGAIN;
	} else if (r > 0) {
		p->row->pumped |= in;
		iov_cut(v, n, PIECE_BYTES);
		r = moved(ps, f, busy, in ? EPOLLIN : EPOLLOUT, p->fd, v, n);
		if (in)
			tcp_recv_done(st, f->tcb, r > 0 ? (size_t)r : 0, ps->t->now);
		else
			tcp_send_commit(st, f->tcb, r > 0 ? (size_t)r : 0, 0, ps->t->now);
	} else if (r == 0 && in) {
		tcp_mark_pass(st, f->tcb);
	}
	thr_leave(ps->t);
	return r;
}

static bool hung_up(int fd)
{
	struct pollfd p = { .fd = fd };

	return sys_poll(&p, 1, 0) == 1 && p.revents & POLLHUP;
}

/* The program writes no more: only without any copy left is that all. */
static void out_ended(struct pumps *ps, struct pump *p)
{
	p->out_done = true;
	p->hup = p->hup || (p->row->kind != EXPORT_LISTENER && hung_up(p->fd));
	if (p->hup)
		return;
	ps->t->now = io_now();
	shard_lock(ps->t);
	tcp_shutdown(host->shard.stack, p->row->file->tcb, SHUT_WR, ps->t->now);
	thr_leave(ps->t);
}

/* Return: true: there is more to do */
static bool pump_run(struct pumps *ps, struct pump *p)
{
	ssize_t in = -EAGAIN, out = -EAGAIN;

	for (int i = 0; i < PIECES_PER_TURN; i++) {
		out = p->out_done ? -EAGAIN : move(ps, p, false);
		if (out == 0)
			out_ended(ps, p);
		in = p->in_done || p->hup ? -EAGAIN : move(ps, p, true);
		if (in == 0) {
			p->in_done = true;
			sys_call(SYS_shutdown, p->fd, SHUT_WR);
		}
		if ((in < 0 && in != -EAGAIN && in != -EINTR) || (out < 0 && out != -EAGAIN && out != -EINTR))
			p->broken = true;
		if (p->broken || (in <= 0 && out <= 0))
			break;
	}
	return in > 0 || out > 0;
}

static bool is_over(const struct pump *p)
{
	return p->broken || (p->hup && p->out_done) || (p->in_done && p->out_done);
}

/* ---- listeners ---- */

/* A connection of @f's is taken, with a row of its own. Shard lock held. NULL: there is none */
static struct export *accept_one(struct pumps *ps, struct file *f)
{
	struct file *new = file_new(FILE_TCP, f->family);
	struct export *row = NULL;
	struct tcb *tcb;

	if (!new)
		return NULL;
	file_ref(new);
	if (!tcp_accept(host->shard.stack, f->tcb, &tcb)) {
		new->tcb = tcb;
		tcp_set_user(tcb, file_handle(new));
		row = export_new(new, EXPORT_NOW, 0, 0);
	}
	file_unref(ps->t, new);
	return row;
}

/* Return: descriptor, negative errno: nobody listens */
static int loopback_connect(uint16_t port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = port, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int fd = sys_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP), r;

	if (fd < 0)
		return fd;
	r = sys_connect(fd, &sa, sizeof(sa));
	if (r && r != -EINPROGRESS) {
		sys_close(fd);
		return r;
	}
	return fd;
}

static void listener_run(struct pumps *ps, struct pump *p)
{
	for (;;) {
		struct export *row;
		int fd;

		ps->t->now = io_now();
		shard_lock(ps->t);
		row = accept_one(ps, p->row->file);
		thr_leave(ps->t);
		if (!row)
			return;
		fd = loopback_connect(p->row->port);
		if (fd >= 0) {
			pump_add(ps, row, fd);
			continue;
		}
		p->broken = fd == -ECONNREFUSED; /* the program closed it */
		shard_lock(ps->t);
		export_free(ps->t, row);
		thr_leave(ps->t);
		if (p->broken)
			return;
	}
}

/* ---- turns ---- */

void pumps_event(struct pumps *ps, uint32_t index, uint32_t events)
{
	struct pump *p = index < ps->n ? ps->pump[index] : NULL;

	if (!p || !p->row)
		return;
	if (events & (EPOLLIN | EPOLLHUP)) /* somebody who is none of ours uses it, or nobody has it any more */
		p->started = true;
	p->hup = p->hup || (events & EPOLLHUP && p->row->kind != EXPORT_LISTENER && p->row->ino);
	p->broken = p->broken || (events & EPOLLERR && !p->row->ino);
	wants_run(ps, p);
}

static void private_events(struct pumps *ps)
{
	struct epoll_event ev[64];
	int n;

	do {
		shard_lock(ps->t);
		n = epoll_collect(ps->t, ps->set, ev, 64);
		shard_unlock(ps->t);
		for (int i = 0; i < n; i++)
			if (ev[i].data.u64 < ps->n && ps->pump[ev[i].data.u64]->row)
				wants_run(ps, ps->pump[ev[i].data.u64]);
	} while (n == 64);
}

/* The moment for one of ours to come is over. */
static void late_look(struct pumps *ps, usec_t now)
{
	struct pump *p;

	while ((p = ps->late) && p->start_at <= now) {
		ps->late = p->next_late;
		p->start_at = 0;
		if (p->row)
			wants_run(ps, p);
		pump_idle(ps, p);
	}
	if (!ps->late)
		ps->late_end = &ps->late;
}

/* Those who had it back are gone: on with it. */
static void claimed_look(struct pumps *ps)
{
	for (struct pump *p, **at = &ps->claimed; (p = *at);) {
		shard_lock(ps->t);
		if (p->row && p->row->file->numbers <= exports_of(p->row->file))
			p->row->claimed = 0;
		shard_unlock(ps->t);
		if (p->row && p->row->claimed) {
			at = &p->next_claimed;
			continue;
		}
		*at = p->next_claimed;
		p->waits = false;
		if (p->row)
			wants_run(ps, p);
		pump_idle(ps, p);
	}
}

usec_t pumps_due(const struct pumps *ps)
{
	if (ps && ps->claimed)
		return io_now() + LATER_US;
	return ps && ps->late ? ps->late->start_at : USEC_NEVER;
}

bool pumps_run(struct pumps *ps)
{
	struct pump *p, *list;

	private_events(ps);
	late_look(ps, io_now());
	claimed_look(ps);
	list = ps->run;
	ps->run = NULL;
	ps->run_end = &ps->run;
	while ((p = list)) {
		bool more = false;

		list = p->next;
		p->runs = false;
		if (p->row && p->fd < 0)
			listener_run(ps, p);
		else if (p->row && (!p->start_at || p->started))
			more = pump_run(ps, p);
		if (p->row && is_over(p))
			pump_end(ps, p);
		else if (more)
			wants_run(ps, p);
		else
			pump_idle(ps, p);
	}
	return ps->run != NULL;
}

/* ---- what comes over the bell ---- */

static bool is_its_end(const struct export *row, int fd)
{
	struct stat st;

	return row->kind == EXPORT_LISTENER ? fd < 0 : fd >= 0 && !sys_fstat(fd, &st) && st.st_ino == row->keeper_ino;
}

/* Listeners that @gone says of: their time is over. */
static void listeners_end(struct pumps *ps, bool (*gone)(const struct export *row, uint32_t slot), uint32_t slot)
{
	struct pump *next;

	for (struct pump *p = ps->listeners; p; p = next) {
		next = p->next_listener;
		if (gone(p->row, slot))
			pump_end(ps, p);
	}
}

static bool was_of(const struct export *row, uint32_t slot)
{
	return row->slot == slot;
}

static bool is_taken_back(const struct export *row, uint32_t slot)
{
	(void)slot;
	return row->claimed;
}

void pumps_slot_gone(struct pumps *ps, uint32_t slot)
{
	listeners_end(ps, was_of, slot);
}

void pumps_bell(struct pumps *ps, int bell)
{
	struct export_msg msg;
	int fd;

	listeners_end(ps, is_taken_back, 0);

	while (!export_recv(bell, &msg, &fd)) {
		struct export *row;

		if (!msg.handle) { /* a ring, or a socket is wanted */
			if (fd >= 0)
				window_serve(fd, msg.domain, msg.type);
			continue;
		}
		shard_lock(ps->t);
		row = slab_get(&host->exports, msg.handle);
		if (row && (row->taken || !is_its_end(row, fd)))
			row = NULL;
		if (row)
			row->taken = 1;
		shard_unlock(ps->t);
		if (row)
			pump_add(ps, row, fd);
		else if (fd >= 0)
			sys_close(fd);
	}
}
