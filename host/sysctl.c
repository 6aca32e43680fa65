/* SPDX-License-Identifier: BSD-2-Clause */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sysctl.h"

#define NUMBERS_MAX 3

const struct sysctl_row sysctl_rows[] = {
#define SYSCTL(name, field, numbers, lowest, highest, help)                                                             \
	{ name, offsetof(struct stack_sysctl, field), sizeof(((struct stack_sysctl *)0)->field), numbers, lowest, highest, help },
#include "sysctl.def"
#undef SYSCTL
};
const int sysctl_n_rows = sizeof(sysctl_rows) / sizeof(sysctl_rows[0]);

int sysctl_find(const char *name, size_t name_len)
{
	for (int i = 0; i < sysctl_n_rows; i++) {
		const char *full = sysctl_rows[i].name, *last = strrchr(full, '.') + 1;

		if ((strlen(full) == name_len && !memcmp(full, name, name_len)) || (strlen(last) == name_len && !memcmp(last, name, name_len)))
			return i;
	}
	return -1;
}

static uint32_t number_get(const uint8_t *at, size_t bytes)
{
	uint32_t n32;
	uint16_t n16;

	if (bytes == 1)
		return *at;
	if (bytes == sizeof(n16))
		return memcpy(&n16, at, sizeof(n16)), n16;
	return memcpy(&n32, at, sizeof(n32)), n32;
}

static void number_put(uint8_t *at, size_t bytes, uint32_t n)
{
	uint16_t n16 = (uint16_t)n;

	if (bytes == 1)
		*at = (uint8_t)n;
	else if (bytes == sizeof(n16))
		memcpy(at, &n16, sizeof(n16));
	else
		memcpy(at, &n, sizeof(n));
}

int sysctl_set(struct stack_sysctl *ctl, int row, const char *text)
{
	const struct sysctl_row *r = &sysctl_rows[row];
	uint32_t n[NUMBERS_MAX];
	size_t each = r->bytes / r->numbers;

	for (int i = 0; i < r->numbers; i++) {
		unsigned long v;
		char *end;

		while (isblank((unsigned char)*text))
			text++;
		if (!isdigit((unsigned char)*text))
			return -EINVAL;
		errno = 0;
		v = strtoul(text, &end, 0);
		if (errno || v < r->lowest || v > r->highest)
			return -EINVAL;
		n[i] = (uint32_t)v;
		text = end;
	}
	if (*text || (r->numbers == 2 && n[0] > n[1]))
		return -EINVAL;
	for (int i = 0; i < r->numbers; i++)
		number_put((uint8_t *)ctl + r->off + (size_t)i * each, each, n[i]);
	return 0;
}

const char *sysctl_text(const struct stack_sysctl *ctl, int row, char *buf, size_t bytes)
{
	const struct sysctl_row *r = &sysctl_rows[row];
	size_t each = r->bytes / r->numbers, at = 0;

	for (int i = 0; i < r->numbers && at < bytes; i++)
		at += (size_t)snprintf(buf + at, bytes - at, "%s%u", i ? " " : "", number_get((const uint8_t *)ctl + r->off + (size_t)i * each, each));
	return buf;
}
