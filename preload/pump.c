/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pump.c - a private connection for a program that cannot be ours (RULES C8)
 *
 * Theory of operation. A static program, one of another C library or word size, or one with more rights than its caller will
 * not have this library in it. What it inherits must be a thing of the kernel's: right before such an exec every connected
 * private socket without FD_CLOEXEC is replaced by one end of a socket pair, under all its numbers, and a child of ours stays
 * behind with the other ends, which moves octets both ways:
 *
 *	program -- pair -- pump -- private connection
 *
 * The end of a direction is passed on as such (half-close). When the last copy of the program's end is gone (POLLHUP), what
 * it wrote is delivered and the connection let go; when the connection fails, the program finds the end of its stream.
 *
 * The child is an ordinary process of the host: it was made by a fork and holds references as any fork child does. So the
 * keeper and other processes need to know nothing of it, and its memory and time are accounted to the program it serves. It
 * is nobody's child (made by one that ends at once, without SIGCHLD), has a session of its own, and keeps no descriptor but
 * those it works on, so that whoever waits for the end of a pipe does not wait for it.
 *
 * Left out: listeners (the program could not accept), and what only a TCP socket answers (getpeername, TCP_NODELAY, ...). A
 * process of ours that goes on using the same connection beside a pump may miss what the pump has read ahead.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../host/join.h"
#include "../host/sys.h"
#include "own_env.h"
#include "pump_priv.h"
#include "signal_priv.h"

enum { PUMP_BYTES = 65536 };

struct flow {
	size_t at, len; /* what waits to be written: buf[at .. at + len) */
	bool eof;	/* nothing more will be read */
	bool done;	/* ... and that was passed on */
	uint8_t buf[PUMP_BYTES];
};

struct link {
	int priv, pair;
	bool gone; /* both are closed */
	bool hup;  /* no copy of the program's end is left */
	struct flow in, out; /* seen from the program: in is connection to pair */
};

/* ---- moving octets ---- */

static void link_close(struct link *l)
{
	own_close(l->priv);
	libc_next.close(l->pair);
	l->gone = true;
}

static bool again(ssize_t r)
{
	return r < 0 && (errno == EAGAIN || errno == EINTR);
}

/* Return: something moved; false also where @fl is at rest. *@ret_fail: the reading or the writing side is broken */
static bool flow_move(struct flow *fl, int from, int to, bool *ret_fail)
{
	ssize_t r = 0;

	if (!fl->len && !fl->eof) {
		r = own_recv(from, fl->buf, sizeof(fl->buf), MSG_DONTWAIT);
		if (r == 0)
			fl->eof = true;
		else if (r > 0)
			fl->len = (size_t)r;
		else if (!again(r))
			*ret_fail = true;
		fl->at = 0;
	}
	if (fl->len) {
		r = own_send(to, fl->buf + fl->at, fl->len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (r > 0) {
			fl->at += (size_t)r;
			fl->len -= (size_t)r;
			return true;
		}
		if (!again(r))
			*ret_fail = true;
		return false;
	}
	return false;
}

static bool flow_ended(const struct flow *fl)
{
	return fl->eof && !fl->len && !fl->done;
}

static bool hung_up(int pair)
{
	struct pollfd p = { .fd = pair };

	return sys_poll(&p, 1, 0) == 1 && p.revents & POLLHUP;
}

static void link_move(struct link *l)
{
	bool broken = false;

	while (flow_move(&l->out, l->pair, l->priv, &broken))
		;
	while (!broken && !l->hup && flow_move(&l->in, l->priv, l->pair, &broken))
		;
	if (flow_ended(&l->out)) { /* the last copy is gone, or shutdown(): only this concerns others who share the connection */
		l->hup = l->hup || hung_up(l->pair);
		if (!l->hup)
			own_shutdown(l->priv, SHUT_WR);
		l->out.done = true;
	}
	if (flow_ended(&l->in)) {
		libc_next.shutdown(l->pair, SHUT_WR);
		l->in.done = true;
	}
	if (broken || (l->hup && l->out.done) || (l->in.done && l->out.done))
		link_close(l);
}

static void link_poll(const struct link *l, struct pollfd p[2])
{
	p[0] = (struct pollfd){ .fd = l->gone ? -1 : l->priv };
	p[1] = (struct pollfd){ .fd = l->gone || l->hup ? -1 : l->pair };
	if (!l->in.len && !l->in.eof && !l->hup)
		p[0].events |= POLLIN;
	if (l->in.len)
		p[1].events |= POLLOUT;
	if (!l->out.len && !l->out.eof)
		p[1].events |= POLLIN;
	if (l->out.len)
		p[0].events |= POLLOUT;
	if (!p[0].events && l->in.eof) /* HUP or ERR would be told for ever; the other side decides */
		p[0].fd = -1;
}

static _Noreturn void pump_run(struct link *links, unsigned n)
{
	struct pollfd *p = calloc(2 * (size_t)n, sizeof(*p));
	unsigned left = n;

	while (p && left) {
		for (unsigned i = 0; i < n; i++)
			link_poll(&links[i], &p[2 * i]);
		if (own_poll(p, 2 * n, -1) < 0 && errno != EINTR)
			break;
		left = 0;
		for (unsigned i = 0; i < n; i++) {
			if (links[i].gone)
				continue;
			links[i].hup = links[i].hup || (p[2 * i + 1].revents & POLLHUP && !(p[2 * i + 1].revents & POLLIN));
			link_move(&links[i]);
			left += !links[i].gone;
		}
	}
	own__exit(0);
	sys_exit(0);
}

/* ---- becoming one ---- */

static int int_cmp(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* All descriptors but those of @links and the library's own; the private ones through our table. */
static void close_others(const struct link *links, unsigned n)
{
	int *keep = calloc(2 * (size_t)n + 1, sizeof(*keep));
	unsigned n_keep = 0;
	int next = 0;

	if (!keep)
		own__exit(1);
	for (unsigned i = 0; i < n; i++) {
		keep[n_keep++] = links[i].priv;
		keep[n_keep++] = links[i].pair;
	}
	qsort(keep, n_keep, sizeof(*keep), int_cmp);
	for (unsigned i = 0; i < n_keep; i++) {
		if (keep[i] > next)
			own_close_range((unsigned)next, (unsigned)keep[i] - 1, 0);
		next = keep[i] + 1;
	}
	own_close_range((unsigned)next, UINT_MAX, 0);
	free(keep);
}

static _Noreturn void pump_child(uint32_t slot, int ready, struct link *links, unsigned n)
{
	pid_t self = sys_getpid();
	sigset_t none;

	fork_child(slot);
	if (!slot_self())
		own__exit(1);
	for (int s = 1; s < _NSIG; s++) {
		if (s != SIGKILL && s != SIGSTOP)
			own_sigaction(s, &(struct sigaction){ .sa_handler = s == SIGTERM ? SIG_DFL : SIG_IGN }, NULL);
	}
	sigemptyset(&none);
	pthread_sigmask(SIG_SETMASK, &none, NULL);
	setsid();
	if (chdir("/") < 0)
		self = 0; /* then we hold a directory; no harm */
	prctl(PR_SET_NAME, "ownstack-pump", 0, 0, 0);
	for (unsigned i = 0; i < n; i++) /* under our numbers stand copies of the program's ends: with them no end ever ends */
		libc_next.dup3(host_placeholder_fd(), links[i].priv, O_CLOEXEC);
	sys_write(ready, &self, sizeof(self)); /* we have our references: the exec may go on */
	close_others(links, n);
	pump_run(links, n);
}

/* Two forks, so that it is nobody's child. Return: 0, negative errno */
static int pump_fork(struct link *links, unsigned n)
{
	uint32_t slot = 0;
	int ready[2], status = 0, r = slot_fork_prepare(&slot);
	pid_t child, pump = -1;

	if (r)
		return r;
	if (libc_next.pipe2(ready, O_CLOEXEC)) {
		slot_fork_parent(slot, -1);
		return -EMFILE;
	}
	child = sys_fork();
	if (!child) {
		if (!sys_fork())
			pump_child(slot, ready[1], links, n);
		sys_exit(0);
	}
	libc_next.close(ready[1]);
	if (child > 0) {
		sys_wait(child, &status);
		if (sys_read(ready[0], &pump, sizeof(pump)) != sizeof(pump))
			pump = -1;
	}
	libc_next.close(ready[0]);
	slot_fork_parent(slot, pump < 0 ? -1 : child); /* the pump has written its own number by now */
	return pump < 0 ? -EAGAIN : 0;
}

/* ---- which sockets ---- */

static bool is_connected(struct file *f)
{
	struct thr *t = thr_enter();
	bool yes;

	if (!t)
		return false;
	shard_lock(t);
	yes = f->kind == FILE_TCP && tcp_state(f->tcb) != TCPS_LISTEN && tcp_state(f->tcb) != TCPS_CLOSED;
	shard_unlock(t);
	return yes;
}

/* A pair for @fd's socket, unless a number seen before has the same. The program's end comes under @fd. Return: links now */
static unsigned replace(int fd, struct link *links, unsigned n, unsigned *ret_first)
{
	struct file *f = fd_file(fd);
	int sv[2];

	for (unsigned i = 0; i < n; i++) {
		if (fd_file(links[i].priv) == f) {
			*ret_first = i;
			return libc_next.dup3(links[i].priv, fd, 0) < 0 ? 0 : n;
		}
	}
	if (!f || !is_connected(f) || sys_socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, sv))
		return n;
	links[n] = (struct link){ .priv = fd, .pair = sv[1] };
	*ret_first = n;
	libc_next.dup3(sv[0], fd, 0);
	libc_next.close(sv[0]);
	return n + 1;
}

static bool survives(int fd, bool all)
{
	const struct fdent *e = fdtab_lookup(fd);

	return e && !(e->flags & (all ? FDENT_EPOLL : FDENT_CLOEXEC | FDENT_EPOLL));
}

static unsigned count_survivors(bool all)
{
	unsigned n = 0;

	for (int fd = fdtab_next(slot_self(), 0); fd >= 0; fd = fdtab_next(slot_self(), fd + 1))
		n += survives(fd, all);
	return n;
}

void pump_undo(struct pump_try *p)
{
	int from = p->n ? host_placeholder_fd() : -1;

	for (unsigned i = 0; i < p->n; i++) {
		if (from >= 0)
			libc_next.dup3(from, p->fd[i], 0);
		fdtab_cloexec(p->fd[i], false);
	}
	free(p->fd);
	*p = (struct pump_try){ 0 };
}

void pump_keep(struct pump_try *p)
{
	for (unsigned i = 0; i < p->n; i++)
		fd_forget(p->fd[i]);
	free(p->fd);
	*p = (struct pump_try){ 0 };
}

bool pump_begin(struct pump_try *p, bool all)
{
	unsigned n = count_survivors(all), n_links = 0;
	size_t bytes = n * sizeof(struct link);
	struct link *links;

	*p = (struct pump_try){ .fd = n ? calloc(n, sizeof(*p->fd)) : NULL };
	links = p->fd ? (void *)sys_call(SYS_mmap, 0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : NULL;
	if (!links || (uintptr_t)links > -4096UL)
		return false;
	for (int fd = fdtab_next(slot_self(), 0); fd >= 0; fd = fdtab_next(slot_self(), fd + 1)) {
		unsigned first = UINT_MAX;

		if (!survives(fd, all))
			continue;
		n_links = replace(fd, links, n_links, &first);
		if (first != UINT_MAX)
			p->fd[p->n++] = fd;
	}
	if (n_links && pump_fork(links, n_links) < 0) {
		pump_undo(p);
		n_links = 0;
	}
	for (unsigned i = 0; i < n_links; i++)
		libc_next.close(links[i].pair);
	for (unsigned i = 0; i < p->n; i++)
		fdtab_cloexec(p->fd[i], true); /* in our table only: the exec drops the entry, the kernel keeps the number */
	sys_call(SYS_munmap, links, bytes);
	return true;
}
