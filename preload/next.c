/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * next.c - resolving what comes after us
 *
 * Theory of operation
 *
 * Other libraries' constructors run before ours and may call anything we export. So each member of libc_next starts out as
 * a stub of two instructions that names its own row; the common part saves the argument registers, resolves all rows at once
 * and goes on where the call wanted to go. After that a call costs one indirect jump and no test. dlsym() allocates nothing
 * when it succeeds (glibc 2.34 and later), so an allocator that is itself preloaded and opens files is not entered from here.
 * All is resolved at load, in one go: no lazy binding is left that could take the loader's lock in a fork child.
 *
 * A call that this glibc does not have (it is newer than the library we run on) ends in next_missing(): ENOSYS.
 *
 * __wrap_NAME: see entry.c; what our own objects reach when they say NAME.
 *
 * All of it is assembler because it must pass on whatever arguments there are, of variadic calls too.
 */
#ifndef __x86_64__
#error "x86-64 only: the arena's address and these stubs"
#endif

#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include "next.h"

/* ---- stubs; `row` counts the members of struct libc_next ---- */
__asm__(".pushsection .text\n\t"
	".set own_next_row, 0\n"
	".type own_next_boot, @function\n"
	"own_next_boot:\n\t" /* on the stack: row, return address */
	"push %rdi\n\tpush %rsi\n\tpush %rdx\n\tpush %rcx\n\tpush %r8\n\tpush %r9\n\tpush %rax\n\tsub $8, %rsp\n\t"
	"call next_resolve\n\t"
	"add $8, %rsp\n\tpop %rax\n\tpop %r9\n\tpop %r8\n\tpop %rcx\n\tpop %rdx\n\tpop %rsi\n\tpop %rdi\n\t"
	"pop %r11\n\t"
	"lea libc_next(%rip), %r10\n\t"
	"jmp *(%r10,%r11,8)\n\t"
	".popsection\n");

#define CALL(route, result, name, params, args)                                                      \
	__asm__(".pushsection .text\n"                                                               \
		".globl own_boot_" #name "\n\t.hidden own_boot_" #name "\n"                          \
		"own_boot_" #name ":\n\tpush $own_next_row\n\tjmp own_next_boot\n"                   \
		".globl __wrap_" #name "\n\t.hidden __wrap_" #name "\n"                              \
		"__wrap_" #name ":\n\tjmp *libc_next+8*own_next_row(%rip)\n\t"                       \
		".set own_next_row, own_next_row+1\n\t"                                              \
		".popsection\n");                                                                    \
	result own_boot_##name params;
#define ALIAS(alias, name)
#include "calls.def"
#undef CALL

struct libc_next libc_next = {
#define CALL(route, result, name, params, args) .name = own_boot_##name,
#include "calls.def"
#undef CALL
};

/* ---- the look-up ---- */
static const char row_names[] =
#define CALL(route, result, name, params, args) #name "\0"
#include "calls.def"
#undef CALL
	;

static long next_missing(void)
{
	errno = ENOSYS;
	return -1;
}

BEFORE_SHADOW void next_resolve(void)
{
	void **row = (void **)&libc_next;

	/* Two threads may do this at once: both store the same. */
	for (const char *name = row_names; *name; name += __builtin_strlen(name) + 1, row++) {
		void *next = dlsym(RTLD_NEXT, name);
		__atomic_store_n(row, next ? next : (void *)next_missing, __ATOMIC_RELEASE);
	}
}
