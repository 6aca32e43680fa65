/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sigio.c - O_ASYNC: a signal to the owner (F_SETOWN) where a socket becomes ready
 *
 * Whoever drives notices the event, under the shard lock; it sends the signal after unlocking, as it sends wake-ups. A
 * kernel would send it as the program that called F_SETOWN; here it is the driver's process that needs the right to, and
 * members of a private host trust one another. Without F_SETSIG it is a plain SIGIO; with it siginfo says descriptor and
 * band, as fcntl(2) has it. SI_SIGIO stands for the POLL_* codes, which only a kernel may put into another process's
 * siginfo; the band says the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include "ready.h"
#include "sys.h"

static void send_one(const struct thr_sigio *s)
{
	siginfo_t info = { .si_signo = s->sig ? s->sig : SIGIO, .si_code = SI_SIGIO };

	info.si_band = s->bits;
	info.si_fd = s->fd;
	if (!s->bits || !s->sig || s->owner < 0)
		sys_call(SYS_kill, s->owner, info.si_signo, 0, 0, 0, 0);
	else if (sys_call(SYS_rt_sigqueueinfo, s->owner, info.si_signo, &info, 0, 0, 0) == -EAGAIN)
		sys_call(SYS_kill, s->owner, SIGIO, 0, 0, 0, 0); /* queue full: as fcntl(2) says */
}

static void queue(struct thr *t, struct thr_sigio s)
{
	if (t->n_sigios == THR_SIGIOS_MAX) /* rare: a crowd of events at once */
		send_one(&s);
	else
		t->sigios[t->n_sigios++] = s;
}

void sigio_queue(struct thr *t, const struct file *f, uint32_t bits)
{
	const uint32_t tell = EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDNORM | EPOLLWRNORM | EPOLLERR | EPOLLHUP | EPOLLRDHUP;
	struct thr_sigio s = { .owner = f->owner, .sig = f->sig, .fd = f->async_fd, .bits = bits & tell };

	if (!f->sig)
		s.bits &= ~(uint32_t)EPOLLPRI; /* SIGURG tells it */
	if (f->owner && s.bits)
		queue(t, s);
}

/* Urgent data: owner is all it takes. */
void sigurg_queue(struct thr *t, const struct file *f)
{
	struct thr_sigio s = { .owner = f->owner, .sig = SIGURG };

	if (f->owner)
		queue(t, s);
}

void sigio_send(struct thr *t)
{
	while (t->n_sigios)
		send_one(&t->sigios[--t->n_sigios]);
}
