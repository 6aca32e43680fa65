/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * join.h - how a process becomes part of a private host; warden and keeper
 *
 * `ownstack run` (or a preloaded library at its first socket) makes sure a warden runs for the host; it answers at the
 * abstract address "\0ownstack/NAME/warden" with the memfd of the arena and the device's queue. The warden starts the keeper
 * at the first join, so that a program without sockets costs no helper.
 */
#ifndef OWNSTACK_HOST_JOIN_H
#define OWNSTACK_HOST_JOIN_H

#include "config.h"
#include "host.h"

/**
 * host_join() - attach to the host of @cfg, starting a warden if there is none
 * Return: 0, or negative errno with one clear line in @ret_err (naming setting, value, remedy)
 */
int host_join(const struct config *cfg, char *ret_err, size_t err_bytes);
bool host_joined(void);
/** host_queue_fd() - descriptor of the device queue in this process (>= 1000 where RLIMIT allows), fetched again if it was closed behind our back */
int host_queue_fd(void);
/** host_placeholder_fd() - per-process listening AF_UNIX socket that private numbers are duplicates of */
int host_placeholder_fd(void);
/** host_fork_child() - after fork: own link to the keeper, descriptors checked */
void host_fork_child(void);

/** warden_start() - forks a warden for @cfg and waits until it has its device. 0, negative errno and @ret_err */
int warden_start(const struct config *cfg, char *ret_err, size_t err_bytes);
/** keeper_main() - body of the keeper process; does not return before its work is done */
int keeper_main(int memfd, int queue_fd, int listen_fd);

#endif
