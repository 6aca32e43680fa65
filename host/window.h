/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * window.h - sockets of the host's network namespace, wherever this process has gone; see window.c
 */
#ifndef OWNSTACK_HOST_WINDOW_H
#define OWNSTACK_HOST_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

/** window_open() - at joining: from here on this namespace is the host's. Without effect where a window came with an exec. */
void window_open(void);
/** window_is_home() - @fd is a socket of the host's namespace; true where that is not known */
bool window_is_home(int fd);
/** host_socket() - as sys_socket(), close-on-exec, of the host's namespace. Number or negative errno. No lock held. */
int host_socket(int domain, int type);

/** window_pid() - this process's number where the helpers are; negative errno: the keeper is not there. No lock held. */
int32_t window_pid(void);

/** window_pass() - right before an exec: its number where the new image cannot make one, else -1. window_keep(): the exec failed */
int window_pass(void);
void window_keep(void);
/** window_take() - in the new image: @fd is the window of the old one. Before host_join() */
void window_take(int fd);

/** window_serve() - keeper: the socket that was asked for goes over @conn, and the number of who asks. Takes @conn */
void window_serve(int conn, int domain, int type);

#endif
