/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * filter.c - what will a seccomp filter say to a system call?
 *
 * The classic BPF that a program is about to put on is kept and run here, on the calls that the library would make: so it is
 * known beforehand which of them end the process. Filters add up, as in the kernel; one that an earlier image put on is not
 * known, and whatever it forbids was forbidden before.
 *
 * Filters may look at the address of the call as well. Ours are not where the program's are: 0 stands for that here.
 */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include "pump_priv.h"

struct filter {
	struct filter *next;
	unsigned n;
	struct sock_filter insn[];
};
static struct filter *filters;
static bool strict; /* SECCOMP_MODE_STRICT */

/* The kernel's checker has taken the program, or will refuse it: jumps lead forward and inside, words of data are aligned. */
static uint32_t alu(unsigned op, uint32_t a, uint32_t b)
{
	switch (op) {
	case BPF_ADD: return a + b;
	case BPF_SUB: return a - b;
	case BPF_MUL: return a * b;
	case BPF_DIV: return b ? a / b : 0;
	case BPF_AND: return a & b;
	case BPF_OR: return a | b;
	case BPF_XOR: return a ^ b;
	case BPF_LSH: return b < 32 ? a << b : 0;
	case BPF_RSH: return b < 32 ? a >> b : 0;
	case BPF_NEG: return -a;
	default: return a;
	}
}

static bool jumps(unsigned op, uint32_t a, uint32_t b)
{
	switch (op) {
	case BPF_JEQ: return a == b;
	case BPF_JGT: return a > b;
	case BPF_JGE: return a >= b;
	case BPF_JSET: return a & b;
	default: return false;
	}
}

static uint32_t load(const struct sock_filter *i, const struct seccomp_data *d, const uint32_t *mem)
{
	uint32_t v = i->k;

	if (BPF_MODE(i->code) == BPF_ABS && i->k + sizeof(v) <= sizeof(*d))
		memcpy(&v, (const uint8_t *)d + i->k, sizeof(v));
	else if (BPF_MODE(i->code) == BPF_MEM && i->k < BPF_MEMWORDS)
		v = mem[i->k];
	else if (BPF_MODE(i->code) == BPF_LEN)
		v = sizeof(*d);
	return v;
}

/* Return: SECCOMP_RET_*; what cannot be understood kills */
static uint32_t run(const struct filter *f, const struct seccomp_data *d)
{
	uint32_t a = 0, x = 0, mem[BPF_MEMWORDS] = { 0 };

	for (unsigned pc = 0; pc < f->n; pc++) {
		const struct sock_filter *i = &f->insn[pc];
		uint32_t b = BPF_SRC(i->code) == BPF_X ? x : i->k;

		switch (BPF_CLASS(i->code)) {
		case BPF_LD: a = load(i, d, mem); break;
		case BPF_LDX: x = load(i, d, mem); break;
		case BPF_ST:
		case BPF_STX:
			if (i->k < BPF_MEMWORDS)
				mem[i->k] = BPF_CLASS(i->code) == BPF_ST ? a : x;
			break;
		case BPF_ALU: a = alu(BPF_OP(i->code), a, b); break;
		case BPF_JMP:
			pc += BPF_OP(i->code) == BPF_JA ? i->k : jumps(BPF_OP(i->code), a, b) ? i->jt : i->jf;
			break;
		case BPF_RET: return BPF_RVAL(i->code) == BPF_A ? a : i->k;
		case BPF_MISC:
			if (BPF_MISCOP(i->code) == BPF_TAX)
				x = a;
			else
				a = x;
			break;
		}
	}
	return SECCOMP_RET_KILL_PROCESS;
}

bool filter_allows(long nr, const long args[6])
{
	struct seccomp_data d = { .nr = (int)nr, .arch = AUDIT_ARCH_X86_64 };

	if (strict)
		return nr == SYS_read || nr == SYS_write || nr == SYS_exit || nr == SYS_rt_sigreturn;
	for (int i = 0; i < 6; i++)
		d.args[i] = (uint64_t)args[i];
	for (const struct filter *f = filters; f; f = f->next) {
		uint32_t action = run(f, &d) & SECCOMP_RET_ACTION_FULL;

		if (action != SECCOMP_RET_ALLOW && action != SECCOMP_RET_LOG)
			return false;
	}
	return true;
}

bool filter_known(void)
{
	return filters || strict;
}

bool filter_note(const struct sock_fprog *given)
{
	struct sock_fprog p;
	struct filter *f;

	if (!given) {
		strict = true;
		return true;
	}
	if (user_copy(&p, given, sizeof(p)) || !p.len || p.len > BPF_MAXINSNS)
		return false; /* the kernel will not take it */
	f = malloc(sizeof(*f) + p.len * sizeof(*f->insn));
	if (!f || user_copy(f->insn, p.filter, p.len * sizeof(*f->insn))) {
		free(f);
		return false;
	}
	f->n = p.len;
	f->next = filters;
	filters = f;
	return true;
}

void filter_forget(void)
{
	struct filter *f = filters;

	strict = false;
	if (f) {
		filters = f->next;
		free(f);
	}
}
