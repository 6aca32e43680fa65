/* SPDX-License-Identifier: BSD-2-Clause */
/* sysctl.h - settings of the protocols by Linux's names; the rows are in sysctl.def */
#ifndef OWNSTACK_HOST_SYSCTL_H
#define OWNSTACK_HOST_SYSCTL_H

#include "../stack/stack.h"

struct sysctl_row {
	const char *name;
	uint16_t off, bytes;	/* field of struct stack_sysctl */
	uint8_t numbers;	/* it holds, of equal size */
	uint32_t lowest, highest;
	const char *help;
};
extern const struct sysctl_row sysctl_rows[];
extern const int sysctl_n_rows;

/** sysctl_find() - @name with or without what stands before the last point. -1: there is none */
int sysctl_find(const char *name, size_t name_len);
/** sysctl_set() - @text: as many numbers as the row has, blanks between. -EINVAL */
int sysctl_set(struct stack_sysctl *ctl, int row, const char *text);
/** sysctl_text() - as sysctl(8) shows it. Return: @buf */
const char *sysctl_text(const struct stack_sysctl *ctl, int row, char *buf, size_t bytes);

#endif
