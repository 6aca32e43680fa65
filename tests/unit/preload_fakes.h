/* SPDX-License-Identifier: BSD-2-Clause */
/* preload_fakes.h - the little of host/ that signal.c and wait.c need, for tests of one file each */
#ifndef PRELOAD_FAKES_H
#define PRELOAD_FAKES_H

#include "../../preload/signal_priv.h"

extern int fake_wakes;				       /* io_wake() calls */
extern void (*fake_sleep)(struct thr *t, uint32_t seen); /* body of drive_wait() */
extern int fake_sleep_result;

#endif
