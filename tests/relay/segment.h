/* SPDX-License-Identifier: BSD-2-Clause */
/* segment.h - a super-frame taken apart into the segments a wire would carry; see segment.c */
#ifndef OWNSTACK_TESTS_SEGMENT_H
#define OWNSTACK_TESTS_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "../../stack/netdev.h"

/**
 * segment_each() - call @emit for each segment of @frame (virtio-net header first), or once with it unchanged
 * @frame:	changed in passing; not valid any more afterwards
 *
 * Return: segments emitted
 */
unsigned segment_each(uint8_t *frame, size_t len, void (*emit)(void *arg, uint8_t *frame, size_t len), void *arg);
/** frame_finish_csum() - write the checksum that the header says is unfinished, and clear that flag */
void frame_finish_csum(uint8_t *frame, size_t len);

#endif
