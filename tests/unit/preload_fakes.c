/* SPDX-License-Identifier: BSD-2-Clause */
#include "preload_fakes.h"
#include "../../host/join.h"
#include "../../preload/preload_priv.h"

int fake_wakes;
void (*fake_sleep)(struct thr *t, uint32_t seen);
int fake_sleep_result = IO_WAIT_WAKE;

_Thread_local volatile int thr_depth __attribute__((tls_model("initial-exec")));
void (*thr_depth0_hook)(void);
volatile bool *thr_signal_pending;

void thr_undefer(void)
{
	atomic_signal_fence(memory_order_seq_cst);
	if (--thr_depth == 0 && *thr_signal_pending)
		thr_depth0_hook();
}

bool slot_is_vfork_child(void)
{
	return false;
}

void io_wake(struct io_waker *w)
{
	__atomic_fetch_add(&w->word, 1, __ATOMIC_SEQ_CST);
	fake_wakes++;
}

int drive_wait(struct thr *t, uint32_t seen, struct drive_wait *w)
{
	(void)w;
	if (__atomic_load_n(&t->waker->word, __ATOMIC_SEQ_CST) != seen)
		return IO_WAIT_WAKE;
	if (fake_sleep)
		fake_sleep(t, seen);
	return fake_sleep_result;
}

/* file_wait() is tried with the real host, not here */
struct thr *thr_enter(void)
{
	return NULL;
}
void thr_leave(struct thr *t)
{
	(void)t;
}
void thr_leave_hold(struct thr *t)
{
	(void)t;
}
void shard_lock(struct thr *t)
{
	(void)t;
}
int watch_arm(struct thr *t, struct file *f, uint32_t events)
{
	(void)t, (void)f, (void)events;
	return 0;
}
int watch_arm_exclusive(struct thr *t, struct file *f, uint32_t events)
{
	return watch_arm(t, f, events);
}
void watch_disarm_all(struct thr *t)
{
	(void)t;
}
void file_ref(struct file *f)
{
	(void)f;
}
void file_unref(struct thr *t, struct file *f)
{
	(void)t, (void)f;
}

void file_hold(struct thr *t, struct file *f)
{
	(void)t;
	file_ref(f);
}

void file_release(struct thr *t, struct file *f)
{
	file_unref(t, f);
}
uint64_t file_handle(const struct file *f)
{
	(void)f;
	return 0;
}
struct file *file_get(uint64_t handle)
{
	(void)handle;
	return NULL;
}

void watch_pass_on(struct thr *t)
{
	(void)t;
}

/* Numbers: none is ours, and none is dealt out. */
_Atomic uint8_t *fdmap;
uint32_t fdmap_numbers;
struct fdent *fdtab_entry(int fd)
{
	(void)fd;
	return NULL;
}

int host_placeholder_fd(void)
{
	return -EBADF;
}

int fd_placeholder(bool cloexec)
{
	(void)cloexec;
	return -EMFILE;
}

void rouse_forget(void)
{
}
