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
#include <string.h>
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
	file_moves(f);
	file_ref(f);
	atomic_fetch_add(&f->numbers, 1); /* a number to be: who closes the last one before it arrives does not end the socket */
	p->ino = ino;
	p->file = f;
	p->slot = slot;
	p->next = *bucket(ino);
	*bucket(ino) = p;
	return 0;
}

static struct file *passport_take(struct passport **at)
{
	struct passport *p = *at;
	struct file *f = p->file;

	file_moves(f);
	*at = p->next;
	slab_free(&host->passports, p);
	atomic_fetch_sub(&f->numbers, 1);
	return f;
}

void passports_repair(void)
{
	struct passport *p;

	slab_rebuild(&host->passports);
	memset(host->passport_bucket, 0, sizeof(host->passport_bucket));
	for (uint32_t c = 0; (p = slab_next(&host->passports, &c));) {
		if (!p->slot || !p->file || slab_at(&host->files, slab_index(&host->files, p->file)) != p->file) {
			slab_free(&host->passports, p); /* died before it was filled in */
			continue;
		}
		p->next = *bucket(p->ino);
		*bucket(p->ino) = p;
	}
}

uint32_t passports_of(const struct file *f)
{
	struct passport *p;
	uint32_t n = 0;

	for (uint32_t c = 0; (p = slab_next(&host->passports, &c));)
		n += p->file == f;
	return n;
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
