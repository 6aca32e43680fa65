/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fdtab.c - descriptor tables: number -> open file description, one table per process, in the arena
 *
 * Two levels, 1024 x 1024 numbers; chunks come from a slab of the host. Readers take no lock: they load the chunk, then the
 * entry's handle, and a handle whose file is gone is found out by its generation. Writers hold the table's leaf lock. An entry
 * is FREE where its handle is 0; flags and gen are written before the handle (release), so that who sees the handle sees them.
 *
 * References: each entry holds one of file->refs and one of file->numbers. Count and entry are two stores, and a process may be
 * killed between them. So entries of a living process change under the shard lock, and where its holder died the files it had
 * in hand are counted anew (fdtab_recount()). fork's copy takes no lock; the slot it is made in says which file it is at.
 */
#include <stdbool.h>
#include "export.h"
#include "leaf.h"
#include "passport.h"
#include "ready.h"
#include "slot.h"
#include "sys.h"

_Static_assert(FD_NUMBERS == 1024 * FD_CHUNK, "a chunk for each thousand");
#define DROP_PIECE 64 /* entries per hold of the shard lock: about 20 us where each closes a connection */

static struct fdchunk *chunk_at(const struct slot *s, uint32_t i)
{
	/* acquire: the chunk's zeroes must be seen; pairs with the release in chunk_hang() */
	return atomic_load_explicit(&s->chunk[i], memory_order_acquire);
}

_Atomic uint8_t *fdmap;
uint32_t fdmap_numbers;

void fdmap_fill(void)
{
	for (int fd = fdtab_next(slot_self(), 0); fd >= 0; fd = fdtab_next(slot_self(), fd + 1))
		atomic_store_explicit(&fdmap[fd], 1, memory_order_relaxed);
}

struct fdent *fdtab_entry(int fd)
{
	struct slot *s = slot_self_page ? slot_self_page->slot : NULL;
	struct fdchunk *c;
	struct fdent *e;

	if (!s || (unsigned)fd >= FD_NUMBERS)
		return NULL;
	c = chunk_at(s, (unsigned)fd / FD_CHUNK);
	if (!c)
		return NULL;
	e = &c->ent[(unsigned)fd % FD_CHUNK];
	return atomic_load_explicit(&e->file, memory_order_acquire) ? e : NULL;
}

/**
 * chunks_repair() - the holder of fdchunk_lock died: mend the slab, free chunks that hang nowhere
 */
static void chunks_repair(void)
{
	uint32_t cursor = 0;
	struct fdchunk *c;

	slab_rebuild(&host->fdchunks);
	while ((c = slab_next(&host->fdchunks, &cursor))) {
		if (!c->slot || c->slot >= SLOTS_MAX || c->index >= 1024 || chunk_at(&host->slot[c->slot], c->index) != c)
			slab_free(&host->fdchunks, c);
	}
}

static void chunks_lock(void)
{
	if (leaf_lock(&host->fdchunk_lock, NULL) == LEAF_BROKEN)
		chunks_repair();
}

/* Gives slot @si the chunk @i, made if missing. The table's lock is held by the caller, or the slot is not live yet. */
static struct fdchunk *chunk_hang(uint32_t si, uint32_t i)
{
	struct slot *s = &host->slot[si];
	struct fdchunk *c = chunk_at(s, i);

	if (c)
		return c;
	chunks_lock();
	c = slab_alloc(&host->fdchunks);
	if (c) {
		c->slot = si;
		c->index = i;
		/* the top first: a chunk above it would be overlooked when the slot is freed */
		if (atomic_load_explicit(&s->chunk_top, memory_order_relaxed) <= i)
			atomic_store_explicit(&s->chunk_top, i + 1, memory_order_release);
		atomic_store_explicit(&s->chunk[i], c, memory_order_release);
	}
	leaf_unlock(&host->fdchunk_lock);
	return c;
}

static void ent_store(struct slot *s, struct fdent *e, uint64_t handle, uint32_t flags)
{
	uint64_t old = atomic_load_explicit(&e->file, memory_order_relaxed);

	atomic_store_explicit(&e->flags, flags, memory_order_relaxed);
	atomic_fetch_add_explicit(&e->gen, 1, memory_order_relaxed);
	atomic_store_explicit(&e->file, handle, memory_order_release);
	if (!old && handle)
		atomic_fetch_add_explicit(&s->n_entries, 1, memory_order_relaxed);
	else if (old && !handle)
		atomic_fetch_sub_explicit(&s->n_entries, 1, memory_order_relaxed);
}

static struct file *number_gone(uint64_t handle)
{
	struct file *f = handle ? file_get(handle) : NULL;

	if (f)
		atomic_fetch_sub_explicit(&f->numbers, 1, memory_order_relaxed);
	return f;
}

/* What an entry names is about to lose it. */
static void handle_moves(uint64_t handle)
{
	struct file *f = handle ? file_get(handle) : NULL;

	if (f)
		file_moves(f);
}

/*
 * The table's lock is only ever held by threads of its own process, which die together: a dead holder means a dead table,
 * and that is slot_drop()'s business, not ours. So a broken lock needs no mending here.
 */
int fdtab_set(int fd, struct file *file, uint32_t flags, struct file **ret_old)
{
	uint32_t si = slot_self();
	struct slot *s = &host->slot[si];
	struct fdchunk *c;
	struct fdent *e;
	uint64_t old;

	if (!si)
		return -ESRCH;
	if ((unsigned)fd >= FD_NUMBERS)
		return -EBADF;
	leaf_lock(&s->table_lock, NULL);
	c = chunk_at(s, (unsigned)fd / FD_CHUNK);
	if (!c) {
		/* leaf locks are never held together */
		leaf_unlock(&s->table_lock);
		c = chunk_hang(si, (unsigned)fd / FD_CHUNK);
		if (!c)
			return -ENOMEM;
		leaf_lock(&s->table_lock, NULL);
	}
	e = &c->ent[(unsigned)fd % FD_CHUNK];
	old = atomic_load_explicit(&e->file, memory_order_relaxed);
	handle_moves(old);
	file_moves(file);
	file_ref(file);
	atomic_fetch_add_explicit(&file->numbers, 1, memory_order_relaxed);
	atomic_store_explicit(&fdmap[fd], 1, memory_order_relaxed);
	ent_store(s, e, file_handle(file), flags);
	leaf_unlock(&s->table_lock);
	*ret_old = number_gone(old);
	return 0;
}

static struct file *ent_clear_locked(struct slot *s, struct fdent *e)
{
	uint64_t old = atomic_load_explicit(&e->file, memory_order_relaxed);

	handle_moves(old);
	if (old)
		ent_store(s, e, 0, 0);
	return number_gone(old);
}

/* A table has its lock for the fork of its own process; one whose process is gone has no use for it. @fd: its number, for fdmap */
static struct file *ent_clear(struct slot *s, struct fdent *e, int fd)
{
	struct file *f;

	if (s != slot_self_page->slot)
		return ent_clear_locked(s, e);
	leaf_lock(&s->table_lock, NULL);
	f = ent_clear_locked(s, e);
	atomic_store_explicit(&fdmap[fd], 0, memory_order_relaxed);
	leaf_unlock(&s->table_lock);
	return f;
}

struct file *fdtab_clear(int fd)
{
	struct fdent *e = fdtab_lookup(fd);

	return e ? ent_clear(slot_self_page->slot, e, fd) : NULL;
}

int fdtab_cloexec(int fd, bool on)
{
	struct fdent *e = fdtab_lookup(fd);

	if (!e)
		return -EBADF;
	if (on)
		atomic_fetch_or(&e->flags, FDENT_CLOEXEC);
	else
		atomic_fetch_and(&e->flags, ~(uint32_t)FDENT_CLOEXEC);
	return 0;
}

int fdtab_next(uint32_t slot, int from)
{
	const struct slot *s = &host->slot[slot];
	uint32_t top = atomic_load_explicit(&s->chunk_top, memory_order_acquire);

	if (from < 0)
		from = 0;
	for (uint32_t i = (uint32_t)from / FD_CHUNK; i < top; i++) {
		struct fdchunk *c = chunk_at(s, i);

		for (uint32_t k = i == (uint32_t)from / FD_CHUNK ? (uint32_t)from % FD_CHUNK : 0; c && k < FD_CHUNK; k++) {
			if (atomic_load_explicit(&c->ent[k].file, memory_order_relaxed))
				return (int)(i * FD_CHUNK + k);
		}
	}
	return -1;
}

static void chunk_copy(struct slot *to, struct fdchunk *dst, const struct fdchunk *src)
{
	uint64_t n = 0;

	for (uint32_t k = 0; k < FD_CHUNK; k++) {
		uint64_t handle = atomic_load_explicit(&src->ent[k].file, memory_order_relaxed);
		struct file *f = handle ? file_get(handle) : NULL;

		if (!f)
			continue;
		atomic_store(&to->copying, f); /* seq_cst, as all of these: fdtab_recount() relies on their order */
		file_ref(f);
		atomic_fetch_add_explicit(&f->numbers, 1, memory_order_relaxed);
		atomic_store_explicit(&dst->ent[k].flags, atomic_load_explicit(&src->ent[k].flags, memory_order_relaxed),
				      memory_order_relaxed);
		atomic_store_explicit(&dst->ent[k].file, handle, memory_order_relaxed);
		n++;
	}
	atomic_store(&to->copying, NULL);
	atomic_fetch_add_explicit(&to->n_entries, n, memory_order_relaxed);
}

int fdtab_copy(uint32_t to, uint32_t from)
{
	struct slot *src = &host->slot[from];
	uint32_t top = atomic_load_explicit(&src->chunk_top, memory_order_acquire);

	for (uint32_t i = 0; i < top; i++) {
		struct fdchunk *c = chunk_at(src, i), *d;

		if (!c)
			continue;
		d = chunk_hang(to, i);
		if (!d)
			return -ENOMEM;
		leaf_lock(&src->table_lock, NULL);
		chunk_copy(&host->slot[to], d, c);
		leaf_unlock(&src->table_lock);
	}
	return 0;
}

void fdtab_move(uint32_t to, uint32_t from)
{
	struct slot *src = &host->slot[from], *dst = &host->slot[to];
	uint32_t top = atomic_load(&src->chunk_top);

	chunks_lock();
	for (uint32_t i = 0; i < top; i++) {
		struct fdchunk *c = chunk_at(src, i);

		if (!c)
			continue;
		c->slot = to;
		atomic_store_explicit(&dst->chunk[i], c, memory_order_release);
		atomic_store_explicit(&src->chunk[i], NULL, memory_order_release);
	}
	atomic_store(&dst->chunk_top, top);
	atomic_store(&src->chunk_top, 0);
	atomic_store(&dst->n_entries, atomic_exchange(&src->n_entries, 0));
	leaf_unlock(&host->fdchunk_lock);
	if (to == slot_self())
		fdmap_fill();
}

/* is @fd of this process still some socket: our placeholder, or the kernel's own while undecided */
static bool fd_is_socket(int fd)
{
	struct stat st;

	return !sys_fstat(fd, &st) && S_ISSOCK(st.st_mode);
}

static bool ent_goes(const struct fdent *e, int fd, enum fdtab_which which)
{
	uint32_t flags = atomic_load_explicit(&e->flags, memory_order_relaxed);

	switch (which) {
	case FDTAB_ALL:
		return true;
	case FDTAB_CLOEXEC:
		return flags & FDENT_CLOEXEC;
	case FDTAB_NOT_SOCKET:
		return !(flags & FDENT_EPOLL) && !fd_is_socket(fd);
	}
	return false;
}

static void chunks_free(uint32_t slot)
{
	struct slot *s = &host->slot[slot];
	uint32_t top = atomic_load(&s->chunk_top);

	chunks_lock();
	for (uint32_t i = 0; i < top; i++) {
		struct fdchunk *c = chunk_at(s, i);

		atomic_store_explicit(&s->chunk[i], NULL, memory_order_release);
		slab_free(&host->fdchunks, c);
	}
	atomic_store(&s->chunk_top, 0);
	leaf_unlock(&host->fdchunk_lock);
}

/* ---- counting anew ---- */

static uint32_t entries_of(const struct slot *s, uint64_t handle)
{
	uint32_t top = atomic_load(&s->chunk_top), n = 0;

	for (uint32_t i = 0; i < top; i++) {
		const struct fdchunk *c = chunk_at(s, i);

		for (uint32_t k = 0; c && k < FD_CHUNK; k++)
			n += atomic_load_explicit(&c->ent[k].file, memory_order_acquire) == handle;
	}
	return n;
}

/* Is a fork copying a reference of @f this very moment? */
static bool is_being_copied(const struct file *f)
{
	uint32_t top = atomic_load(&host->slot_top);

	for (uint32_t i = 0; i < top; i++)
		if (atomic_load(&host->slot[i].copying) == f)
			return true;
	return false;
}

static uint32_t numbers_count(const struct file *f)
{
	uint32_t top = atomic_load(&host->slot_top), n = passports_of(f) + exports_of(f);
	uint64_t handle = file_handle(f);

	for (uint32_t i = 0; i < top; i++)
		n += entries_of(&host->slot[i], handle);
	return n;
}

/**
 * fdtab_recount() - see slot.h
 *
 * Entries change under the shard lock, which is ours; chunks are moved under theirs. What a fork copies meanwhile raises refs
 * first: either it is seen in slot->copying, or its entry is there already, or refs change after we read them. A try that meets
 * one is made again, for as long as a copy of one entry can take; should the parent have died at just that one, the end of its
 * slot brings us here again.
 */
void fdtab_recount(struct file *f)
{
	usec_t until = io_now() + MSEC(2);

	do {
		uint32_t refs = atomic_load(&f->refs), numbers = atomic_load(&f->numbers), n;

		if (is_being_copied(f))
			continue;
		chunks_lock();
		n = numbers_count(f);
		leaf_unlock(&host->fdchunk_lock);
		if (atomic_compare_exchange_strong(&f->refs, &refs, n)) {
			atomic_fetch_sub(&f->numbers, numbers - n);
			return;
		}
	} while (io_now() < until);
}

/* ---- many at once ---- */

/* Entries @fd[] of @slot go under one hold of the shard lock. */
static void piece_drop(struct thr *t, uint32_t slot, const int *fd, unsigned n)
{
	struct slot *s = &host->slot[slot];

	if (!n)
		return;
	t = thr_enter();
	shard_lock(t);
	for (unsigned i = 0; i < n; i++) {
		struct fdchunk *c = chunk_at(s, (unsigned)fd[i] / FD_CHUNK);

		if (c)
			file_unref(t, ent_clear(s, &c->ent[(unsigned)fd[i] % FD_CHUNK], fd[i]));
	}
	thr_leave(t);
}

/* Where the parent of a fork died at copying a reference. */
static void copying_drop(struct thr *t, struct slot *s)
{
	t = thr_enter();
	shard_lock(t);
	if (s->copying && slab_at(&host->files, slab_index(&host->files, s->copying)) == s->copying) {
		struct file *f = s->copying;

		s->copying = NULL;
		fdtab_recount(f);
		file_ref(f); /* the last one goes by the way all go */
		file_unref(t, f);
	}
	s->copying = NULL;
	thr_leave(t);
}

void fdtab_leave(struct thr *t)
{
	uint32_t slot = slot_self();
	int piece[DROP_PIECE];
	unsigned n = 0;

	for (int fd = fdtab_next(slot, 0); fd >= 0; fd = fdtab_next(slot, fd + 1)) {
		piece[n++] = fd;
		if (n == DROP_PIECE) {
			piece_drop(t, slot, piece, n);
			n = 0;
		}
	}
	piece_drop(t, slot, piece, n);
}

void fdtab_drop(struct thr *t, uint32_t slot, enum fdtab_which which)
{
	struct slot *s = &host->slot[slot];
	int piece[DROP_PIECE];
	unsigned n = 0;

	for (int fd = fdtab_next(slot, 0); fd >= 0; fd = fdtab_next(slot, fd + 1)) {
		if (!ent_goes(&chunk_at(s, (unsigned)fd / FD_CHUNK)->ent[(unsigned)fd % FD_CHUNK], fd, which))
			continue;
		piece[n++] = fd;
		if (n == DROP_PIECE) {
			piece_drop(t, slot, piece, n);
			n = 0;
		}
	}
	piece_drop(t, slot, piece, n);
	if (which != FDTAB_ALL)
		return;
	if (atomic_load(&s->copying))
		copying_drop(t, s);
	chunks_free(slot);
}
