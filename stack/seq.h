/* SPDX-License-Identifier: BSD-2-Clause */
/* seq.h - sequence numbers modulo 2^32 (RFC 9293 3.4). The only place where wrap-around is known. */
#ifndef OWNSTACK_STACK_SEQ_H
#define OWNSTACK_STACK_SEQ_H

#include <stdbool.h>
#include <stdint.h>

static inline bool seq_lt(uint32_t a, uint32_t b) { return (int32_t)(a - b) < 0; }
static inline bool seq_leq(uint32_t a, uint32_t b) { return (int32_t)(a - b) <= 0; }
static inline bool seq_gt(uint32_t a, uint32_t b) { return (int32_t)(a - b) > 0; }
static inline bool seq_geq(uint32_t a, uint32_t b) { return (int32_t)(a - b) >= 0; }
static inline uint32_t seq_max(uint32_t a, uint32_t b) { return seq_gt(a, b) ? a : b; }
static inline uint32_t seq_min(uint32_t a, uint32_t b) { return seq_lt(a, b) ? a : b; }
/** seq_in_wnd() - first <= s < first + wnd */
static inline bool seq_in_wnd(uint32_t s, uint32_t first, uint32_t wnd) { return s - first < wnd; }
/** seq_between() - a <= s <= b, where b - a is less than 2^31 */
static inline bool seq_between(uint32_t s, uint32_t a, uint32_t b) { return s - a <= b - a; }

#endif
