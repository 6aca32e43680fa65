/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef OWNSTACK_HOST_SEARCH_H
#define OWNSTACK_HOST_SEARCH_H

#include <stdbool.h>
#include <stdint.h>

/** arena_search() - up to @max processes that have @memfd mapped, as far as we may ask. Return: how many */
unsigned arena_search(int memfd, int32_t *ret_pids, unsigned max);

#endif
