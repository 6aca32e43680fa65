/* SPDX-License-Identifier: BSD-2-Clause */
/* uring_abi.h - io_uring constants newer than the headers of Debian 12 (Linux 6.1); numbers are the kernel's ABI */
#ifndef OWNSTACK_IO_URING_ABI_H
#define OWNSTACK_IO_URING_ABI_H

#include <linux/io_uring.h>

/* set-up flags */
#define URING_SETUP_NO_MMAP		(1u << 14) /* 6.5 */
#define URING_SETUP_REGISTERED_FD_ONLY	(1u << 15) /* 6.5 */
#define URING_SETUP_NO_SQARRAY		(1u << 16) /* 6.6 */

/* io_uring_register: the descriptor is an index of the calling task's registered rings (6.3) */
#define URING_REGISTER_USE_REGISTERED_RING (1u << 31)

/* operations; the enum of the header stops before them */
#define URING_OP_READ_MULTISHOT	49 /* 6.7 */
#define URING_OP_FUTEX_WAIT	51 /* 6.7 */

/* futex2 flags, <linux/futex.h> of 6.7: 32-bit word; without FUTEX2_PRIVATE, since the word lies in shared memory */
#define URING_FUTEX2_SIZE_U32	0x02u
#define URING_FUTEX_MATCH_ANY	0xffffffffu

#endif
