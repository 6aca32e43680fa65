/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * passport.c - private sockets on their way through SCM_RIGHTS (RULES C8)
 *
 * All placeholders of a process are one kernel socket and could not be told apart where they arrive. So a kernel socket of its
 * own is sent for each private one, and its inode stands in a table of the host with the reference that is on its way. Who
 * receives it and is of the host claims the reference, once, as the message is received once. What was not claimed when the
 * sender ends is given back.
 */
#include <errno.h>
#include "passport.h"
#include "ready.h"

static struct passport **bucket(uint64_t ino)
{
	return &host->passport_bucket[ino % PASSPORT_BUCKETS];
}

int passport_issue(uint64_t ino, struct file *f, uint32_t slot)
{
	struct passport *p = slab_alloc(&host->passports);

	if (!p)
		return -ENOMEM;
	file_ref(f);
	atomic_fetch_add(&f->numbers, 1); /* a number to be: who closes the last one before it arrives does not end the socket */
	p->ino = ino;
	p->file = f;
	p->slot = slot;
	p->next = *bucket(ino);
	*bucket(ino) = p; /* last: a chain is whole at any moment */
	return 0;
}

static struct file *passport_take(struct passport **at)
{
	struct passport *p = *at;
	struct file *f = p->file;

	*at = p->next;
	slab_free(&host->passports, p);
	atomic_fetch_sub(&f->numbers, 1);
	return f;
}

struct file *passport_claim(uint64_t ino)
{
	for (struct passport **at = bucket(ino); *at; at = &(*at)->next)
		if ((*at)->ino == ino)
			return passport_take(at);
	return NULL;
}

void passports_drop(struct thr *t, uint32_t slot)
{
	for (unsigned i = 0; i < PASSPORT_BUCKETS; i++) {
		for (struct passport **at = &host->passport_bucket[i]; *at;) {
			if ((*at)->slot == slot)
				file_unref(t, passport_take(at));
			else
				at = &(*at)->next;
		}
	}
}
