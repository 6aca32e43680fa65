/* SPDX-License-Identifier: BSD-2-Clause */
/* fake_tcp.h - stands in for TCP where what lies below it is tested: it notes what it is given, and sends nothing */
#ifndef OWNSTACK_TESTS_UNIT_FAKE_TCP_H
#define OWNSTACK_TESTS_UNIT_FAKE_TCP_H

#include "../../stack/stack_priv.h"

struct fake_tcp {
	unsigned n_input, n_error;
	struct ip_rx ip;	/* of the last segment */
	uint8_t l4[2048];	/* its first octets */
	struct ip_error error;	/* the last one */
};
extern struct fake_tcp fake_tcp;

#endif
