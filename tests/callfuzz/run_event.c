/* SPDX-License-Identifier: BSD-2-Clause */
/* run_event.c - poll, select, epoll */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>
#include "callfuzz.h"

/* -1 (may sleep for long), 0, or a few milliseconds, during which nothing happens */
static int timeout_of(struct actor *a, uint32_t x)
{
	int ms = x % 8 == 0 ? -1 : x % 4 == 1 ? (int)(x / 4 % 5) : 0;

	if (a->in_child)
		ms = 0;
	a->may_sleep = ms < 0;
	return ms;
}

/* ---- poll ---- */

static short poll_events(uint32_t x)
{
	static const short e[] = { POLLIN, POLLOUT, POLLIN | POLLOUT, POLLIN | POLLRDHUP, POLLRDHUP, 0, POLLIN | POLLPRI,
				   POLLRDNORM | POLLWRNORM };

	return e[x % 8];
}

void run_poll(struct actor *a, const struct call *c)
{
	int slots[3] = { c->a, c->b, c->c }, n = 1 + (int)(c->x % 3), ms, r;
	struct pollfd p[3];
	struct timespec ts;

	if (c->bad == BAD_LEN_ZERO)
		n = 0;
	a->n_fds = 0;
	text(a, "poll(");
	for (int i = 0; i < n; i++) {
		p[i] = (struct pollfd){ i == 0 ? arg_fd(c, slots[i]) : slot_fd(slots[i]), poll_events(c->y >> (4 * i)), 0x7fff };
		text(a, "s%d %s, ", slots[i], poll_bits((unsigned)p[i].events));
		if (p[i].fd < 0 || p[i].fd != slot_fd(slots[i]))
			continue;
		a->fds[a->n_fds].slot = slots[i];
		a->fds[a->n_fds++].events = p[i].events;
	}
	ms = timeout_of(a, n ? c->z : 1 + c->z / 8 * 8);
	text(a, "%d)", ms);
	if (a->may_sleep && !may_sleep_on(a, -1, 0))
		return;
	ts = (struct timespec){ ms / 1000, ms % 1000 * 1000000L };
	if (c->bad == BAD_LEN_NEGATIVE)
		ts.tv_nsec = -1;
	if (c->z & 1024 && !c->bad)
		r = poll(p, (nfds_t)n, ms);
	else
		r = ppoll(arg_ptr(c, p), c->bad == BAD_LEN_HUGE ? 1u << 30 : (nfds_t)n, ms < 0 && c->bad != BAD_LEN_NEGATIVE ? NULL : &ts, NULL);
	gave(a, r);
	sleep_over(a);
	for (int i = 0; i < n && r >= 0 && (c->bad < BAD_PTR_NULL || c->bad > BAD_PTR_READONLY); i++)
		result(a, " s%d %s", slots[i], poll_bits((unsigned)p[i].revents));
}

/* ---- select ---- */

void run_select(struct actor *a, const struct call *c)
{
	int slots[3] = { c->a, c->b, c->c }, n = 1 + (int)(c->x % 3), top = -1, ms, r;
	fd_set set[3];
	bool any = false;
	struct timeval tv;

	for (int k = 0; k < 3; k++)
		FD_ZERO(&set[k]);
	a->n_fds = 0;
	text(a, "select(");
	for (int i = 0; i < n; i++) {
		int fd = slot_fd(slots[i]), k = (int)(c->y >> (2 * i) & 3) % 3;

		if (fd < 0 || fd >= FD_SETSIZE)
			continue;
		FD_SET(fd, &set[k]);
		top = fd > top ? fd : top;
		any = true;
		text(a, "%s s%d, ", k == 0 ? "read" : k == 1 ? "write" : "except", slots[i]);
		a->fds[a->n_fds].slot = slots[i];
		a->fds[a->n_fds++].events = (short)(k == 0 ? POLLIN | POLLRDNORM : k == 1 ? POLLOUT : POLLPRI);
	}
	ms = timeout_of(a, any ? c->z : 1 + c->z / 8 * 8);
	text(a, "%d)", ms);
	if (a->may_sleep && !may_sleep_on(a, -1, 0))
		return;
	tv = (struct timeval){ ms / 1000, ms % 1000 * 1000L };
	if (c->bad == BAD_LEN_NEGATIVE)
		top = -2;
	if (c->z & 1024) {
		r = select(top + 1, arg_ptr(c, &set[0]), &set[1], &set[2], ms < 0 ? NULL : &tv);
	} else {
		struct timespec ts = { tv.tv_sec, tv.tv_usec * 1000 };

		r = pselect(top + 1, arg_ptr(c, &set[0]), &set[1], &set[2], ms < 0 ? NULL : &ts, NULL);
	}
	gave(a, r);
	sleep_over(a);
	for (int i = 0; i < n && r >= 0 && !c->bad; i++)
		if (slot_fd(slots[i]) >= 0 && slot_fd(slots[i]) < FD_SETSIZE)
			result(a, " s%d %s%s%s", slots[i], FD_ISSET(slot_fd(slots[i]), &set[0]) ? "r" : "-",
			       FD_ISSET(slot_fd(slots[i]), &set[1]) ? "w" : "-", FD_ISSET(slot_fd(slots[i]), &set[2]) ? "x" : "-");
}

/* ---- epoll ---- */

void run_epoll_create(struct actor *a, const struct call *c)
{
	int fd;

	text(a, "s%d = epoll_create1()", c->a);
	fd = c->bad == BAD_LEN_NEGATIVE ? epoll_create(0) : epoll_create1(c->bad ? 7 : c->x & 1 ? EPOLL_CLOEXEC : 0);
	gave(a, fd);
	if (fd >= 0)
		slot_set(c->a, fd, object_new(W_EPOLL));
}

void run_epoll_ctl(struct actor *a, const struct call *c)
{
	static const uint32_t extra[] = { 0, 0, 0, EPOLLET, EPOLLET, EPOLLONESHOT, EPOLLET | EPOLLONESHOT, EPOLLEXCLUSIVE };
	static const char *const extra_name[] = { "", "", "", " ET", " ET", " ONESHOT", " ET ONESHOT", " EXCLUSIVE" };
	static const char *const op_name[] = { "ADD", "DEL", "MOD", "wrong" };
	static const int ops[] = { EPOLL_CTL_ADD, EPOLL_CTL_ADD, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_MOD, EPOLL_CTL_DEL };
	int op = c->bad == BAD_LEN_HUGE ? 4 : ops[c->x % 6];
	struct object *e0 = slot_obj(c->a);
	unsigned e = c->y % 8;
	int r;
	struct epoll_event ev = { .events = (uint32_t)poll_events(c->z) | extra[e], .data.u64 = (uint64_t)(unsigned)c->b << 32 | c->z };

	text(a, "epoll_ctl(s%d, %s, s%d, %s%s)", c->a, op_name[op - 1], c->b, poll_bits(ev.events & 0xffff), extra_name[e]);
	if (slot_obj(c->b) && slot_obj(c->b)->what == W_EPOLL && slot_obj(c->b)->sleepers) {
		result(a, "left out");
		return;
	}
	if (e0 && e0->sleepers && !e0->has_member && anyone_sleeps(false) && !anyone_sleeps(true)) {
		result(a, "left out: asked for by poll()"); /* docs/compatibility.md */
		return;
	}
	if (e0 && e0->what == W_EPOLL && !e0->has_member && (a->in_child || e0->refs > 1)) {
		result(a, "left out: first member"); /* docs/compatibility.md: other numbers do not learn of it */
		return;
	}
	if (c->bad >= BAD_FD_CLOSED && c->bad <= BAD_FD_KIND && c->z & 8)
		r = epoll_ctl(slot_fd(c->a), op, arg_fd(c, c->b), &ev);
	else
		r = epoll_ctl(arg_fd(c, c->a), op, slot_fd(c->b), arg_ptr(c, &ev));
	gave(a, r);
	if (r == 0 && e0)
		e0->has_member = true;
}

static int by_data(const void *x, const void *y)
{
	const struct epoll_event *a = x, *b = y;

	return a->data.u64 < b->data.u64 ? -1 : a->data.u64 > b->data.u64;
}

void run_epoll_wait(struct actor *a, const struct call *c)
{
	struct epoll_event ev[64];
	int ms = timeout_of(a, c->x), max = 64, r;
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000L };

	if (c->bad == BAD_LEN_ZERO || c->bad == BAD_LEN_NEGATIVE || c->bad == BAD_LEN_HUGE)
		max = c->bad == BAD_LEN_ZERO ? 0 : c->bad == BAD_LEN_NEGATIVE ? -5 : 0x7fffffff;
	text(a, "epoll_wait(s%d, %d, %d)", c->a, max, ms);
	if (a->may_sleep && !may_sleep_on(a, c->a, POLLIN))
		return;
	switch (c->z % 3) {
	case 0:
		r = epoll_wait(arg_fd(c, c->a), arg_ptr(c, ev), max, ms);
		break;
	case 1:
		r = epoll_pwait(arg_fd(c, c->a), arg_ptr(c, ev), max, ms, NULL);
		break;
	default:
		r = epoll_pwait2(arg_fd(c, c->a), arg_ptr(c, ev), max, ms < 0 ? NULL : &ts, NULL);
	}
	gave(a, r);
	sleep_over(a);
	if (r > 0)
		qsort(ev, (size_t)r, sizeof(*ev), by_data);
	for (int i = 0; i < r; i++)
		result(a, " s%u.%x %s", (unsigned)(ev[i].data.u64 >> 32), (unsigned)ev[i].data.u64 & 0xfff, poll_bits(ev[i].events));
}
