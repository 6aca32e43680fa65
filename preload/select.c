/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * select.c - select and pselect, as a translation to poll.c's set and back
 *
 * The sets are as large as the highest number asks for, FD_SETSIZE or not (I-41): Linux looks at the first n bits of each,
 * n cut to the size of the process's descriptor table.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include "poll_priv.h"

#define WORD_BITS	 64
#define WORDS_ON_STACK 48 /* three sets of FD_SETSIZE */

struct sets {
	int n;
	size_t words;		/* of each set */
	uint64_t *bits[3];	/* read, write, except; our copies */
	fd_set *user[3];
	uint64_t *heap;
};
static const short set_events[3] = { POLLIN, POLLOUT, POLLPRI };

static bool bit_get(const uint64_t *w, int i)
{
	return w[i / WORD_BITS] >> (i % WORD_BITS) & 1;
}

static void bit_set(uint64_t *w, int i)
{
	w[i / WORD_BITS] |= (uint64_t)1 << (i % WORD_BITS);
}

/* Return: 0, -EFAULT, -ENOMEM */
static int sets_read(struct sets *s, uint64_t *stack)
{
	struct rlimit lim;

	if (s->n > FD_SETSIZE && libc_next.getrlimit(RLIMIT_NOFILE, &lim) == 0 && (rlim_t)s->n > lim.rlim_cur)
		s->n = (int)lim.rlim_cur;
	s->words = ((size_t)s->n + WORD_BITS - 1) / WORD_BITS;
	if (3 * s->words > WORDS_ON_STACK) {
		stack = s->heap = malloc(3 * s->words * sizeof(*s->heap));
		if (!stack)
			return -ENOMEM;
	}
	memset(stack, 0, 3 * s->words * sizeof(*stack));
	for (int k = 0; k < 3; k++) {
		s->bits[k] = stack + (size_t)k * s->words;
		if (s->user[k] && user_copy(s->bits[k], s->user[k], s->words * sizeof(*stack)))
			return -EFAULT;
	}
	return 0;
}

static short sets_events(const struct sets *s, int fd)
{
	short events = 0;

	for (int k = 0; k < 3; k++)
		if (bit_get(s->bits[k], fd))
			events |= set_events[k];
	return events;
}

/* Return: numbers in the sets; *ret_ours: is one of them ours */
static nfds_t sets_count(const struct sets *s, bool *ret_ours)
{
	nfds_t n = 0;

	*ret_ours = false;
	for (int fd = 0; fd < s->n; fd++) {
		if (fd % WORD_BITS == 0 && !(s->bits[0][fd / WORD_BITS] | s->bits[1][fd / WORD_BITS] | s->bits[2][fd / WORD_BITS])) {
			fd += WORD_BITS - 1;
			continue;
		}
		if (!sets_events(s, fd))
			continue;
		n++;
		*ret_ours |= fdtab_lookup(fd) != NULL;
	}
	return n;
}

static void sets_to_poll(const struct sets *s, struct poll_set *p)
{
	nfds_t at = 0;

	for (int fd = 0; fd < s->n; fd++) {
		short events = sets_events(s, fd);

		if (events)
			p->fds[at++] = (struct pollfd){ .fd = fd, .events = events };
	}
}

/* Return: bits set in the answer, -EBADF, -EFAULT */
static int sets_answer(struct sets *s, const struct poll_set *p)
{
	static const short means[3] = { SELECT_IN, SELECT_OUT, POLLPRI };
	int bits = 0;

	for (int k = 0; k < 3; k++)
		memset(s->bits[k], 0, s->words * sizeof(*s->bits[k]));
	for (nfds_t i = 0; i < p->n; i++) {
		if (p->fds[i].revents & POLLNVAL)
			return -EBADF;
		for (int k = 0; k < 3; k++)
			if (p->fds[i].events & set_events[k] && p->fds[i].revents & means[k]) {
				bit_set(s->bits[k], p->fds[i].fd);
				bits++;
			}
	}
	for (int k = 0; k < 3; k++)
		if (s->user[k] && user_copy(s->user[k], s->bits[k], s->words * sizeof(*s->bits[k])))
			return -EFAULT;
	return bits;
}

#define SELECT_IS_KERNELS INT_MIN

static int select_wait(struct sets *s, nfds_t n, usec_t timeout_us, const sigset_t *mask)
{
	struct pollfd stack[POLL_SET_STACK];
	struct poll_set p;
	int r;

	if (!poll_set_init(&p, POLL_SET_ROOM(stack, n), n))
		return -ENOMEM;
	p.is_select = true;
	p.timeout_us = timeout_us;
	p.mask = mask;
	sets_to_poll(s, &p);
	r = poll_set_wait(&p);
	if (r >= 0)
		r = sets_answer(s, &p);
	poll_set_free(&p);
	return r;
}

static int select_any(int n, fd_set *rd, fd_set *wr, fd_set *ex, usec_t timeout_us, const sigset_t *mask)
{
	struct sets s = { .n = n, .user = { rd, wr, ex } };
	uint64_t stack[WORDS_ON_STACK];
	nfds_t members;
	bool ours;
	int r;

	if (user_mask_bad(mask))
		return -EFAULT;
	if (n < 0)
		return -EINVAL;
	r = sets_read(&s, stack);
	if (!r) {
		members = sets_count(&s, &ours);
		r = ours ? select_wait(&s, members, timeout_us, mask) : SELECT_IS_KERNELS;
	}
	free(s.heap);
	return r;
}

/* Linux tells how much time is left; negative once it is over reads as nothing. */
static void time_left(struct timeval *user, usec_t end)
{
	usec_t now = io_now(), left = end > now ? end - now : 0;
	struct timeval tv = { .tv_sec = (time_t)(left / 1000000), .tv_usec = (suseconds_t)(left % 1000000) };

	user_copy(user, &tv, sizeof(tv));
}

EXPORT(int, select, (int n, fd_set *rd, fd_set *wr, fd_set *ex, struct timeval *timeout))
{
	usec_t us = USEC_NEVER, start = 0;
	int saved = errno, r = 0;
	struct timeval tv;

	if (!host || !slot_self())
		return libc_next.select(n, rd, wr, ex, timeout);
	if (timeout) {
		r = user_copy(&tv, timeout, sizeof(tv));
		if (!r && (tv.tv_sec < 0 || tv.tv_usec < 0))
			r = -EINVAL;
		if (!r && (uint64_t)tv.tv_sec < USEC_NEVER / 4000000)
			us = SEC((uint64_t)tv.tv_sec) + (usec_t)tv.tv_usec;
		start = io_now();
	}
	if (!r)
		r = select_any(n, rd, wr, ex, us, NULL);
	if (r == SELECT_IS_KERNELS) {
		errno = saved;
		return libc_next.select(n, rd, wr, ex, timeout);
	}
	if (timeout && us != USEC_NEVER)
		time_left(timeout, start + us);
	return (int)errno_result(r, saved);
}

EXPORT(int, pselect, (int n, fd_set *rd, fd_set *wr, fd_set *ex, const struct timespec *timeout, const sigset_t *mask))
{
	int saved = errno, r;
	usec_t us;

	if (!host || !slot_self())
		return libc_next.pselect(n, rd, wr, ex, timeout, mask);
	r = timespec_timeout(timeout, &us);
	if (!r)
		r = select_any(n, rd, wr, ex, us, mask);
	if (r != SELECT_IS_KERNELS)
		return (int)errno_result(r, saved);
	errno = saved;
	return libc_next.pselect(n, rd, wr, ex, timeout, mask);
}
