/* SPDX-License-Identifier: BSD-2-Clause */
#include "callfuzz.h"

int storm(uint64_t seed, int seconds)
{
	(void)seed;
	(void)seconds;
	return 0;
}
