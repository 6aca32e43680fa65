/* SPDX-License-Identifier: BSD-2-Clause */
/* fd_priv.h - between fd.c and fdcalls.c */
#ifndef OWNSTACK_PRELOAD_FD_PRIV_H
#define OWNSTACK_PRELOAD_FD_PRIV_H

#include "sock_priv.h"

/** ioctl_as_tcp() - what a TCP socket of the kernel's says to @request. -ENOTTY: no request for sockets */
int ioctl_as_tcp(const struct file *f, unsigned long request, void *arg);

#endif
