/* SPDX-License-Identifier: BSD-2-Clause */
/* waker.h - the owner's side of a wake word; the protocol is described in waker.c */
#ifndef OWNSTACK_IO_WAKER_H
#define OWNSTACK_IO_WAKER_H

#include "io.h"

/** waker_open() - make @w ready for its owner; @by_socket: *ret_fd is the socket that wakes, else -1 */
int waker_open(struct io_waker *w, bool by_socket, int *ret_fd);
void waker_close(struct io_waker *w, int fd);
/** waker_sleep_begin() - announce a sleep. Return: the word still has value @seen, the sleep may begin */
bool waker_sleep_begin(struct io_waker *w, uint32_t seen);
void waker_sleep_end(struct io_waker *w);
void waker_drain(int fd);	/* datagrams that woke us, or came too late to */
static inline uint32_t waker_word(const struct io_waker *w)
{
	return __atomic_load_n(&w->word, __ATOMIC_ACQUIRE);
}

#endif
