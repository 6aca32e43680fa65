/* SPDX-License-Identifier: BSD-2-Clause */
/* passport.h - private sockets on their way from process to process; all under the shard lock */
#ifndef OWNSTACK_HOST_PASSPORT_H
#define OWNSTACK_HOST_PASSPORT_H

#include "host.h"

struct thr;
/** passport_issue() - the kernel socket with inode @ino now stands for @f (a reference is taken). 0, -ENOMEM */
int passport_issue(uint64_t ino, struct file *f, uint32_t slot);
/** passport_claim() - gives the reference, NULL: @ino stands for nothing */
struct file *passport_claim(uint64_t ino);
/** passports_of() - how many stand for @f */
uint32_t passports_of(const struct file *f);
/** passports_repair() - after a broken lock: the table from the slab */
void passports_repair(void);
/** passports_drop() - process @slot ended: what it sent and nobody claimed */
void passports_drop(struct thr *t, uint32_t slot);

#endif
