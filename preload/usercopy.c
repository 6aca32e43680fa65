/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * usercopy.c - copying from and to the program's memory, which may not be there
 *
 * A bad pointer in recv() must give EFAULT, and must not raise SIGSEGV inside a library that holds the shard lock (RULES
 * C10). The copy is one leaf function without a stack frame, so that the whole of it is a known range of instructions: our
 * SIGSEGV/SIGBUS trampoline (signal.c) finds a fault in that range and continues at user_copy_fault. No system call is spent.
 *
 * Short copies go by two overlapping moves or a loop of 32 octets, since `rep movsb` costs about 30 cycles to start.
 */
#include <ucontext.h>
#include "preload_priv.h"
#include "signal_priv.h"

extern const char user_copy_begin[] __attribute__((visibility("hidden")));
extern const char user_copy_end[] __attribute__((visibility("hidden")));
extern const char user_copy_fault[] __attribute__((visibility("hidden")));

__asm__(".pushsection .text\n\t"
	".globl user_copy\n\t.hidden user_copy\n\t.type user_copy, @function\n\t.p2align 4\n"
	".hidden user_copy_begin\n\t.globl user_copy_begin\n\t"
	".hidden user_copy_end\n\t.globl user_copy_end\n\t"
	".hidden user_copy_fault\n\t.globl user_copy_fault\n"
	"user_copy:\n"
	"user_copy_begin:\n\t"
	"cmp $32, %rdx\n\tjb 3f\n\t"
	"cmp $1024, %rdx\n\tjae 2f\n"
	/* 32 <= n < 1024: loop, then the last 32 octets, which may overlap what is done */
	"1:\n\tmovups (%rsi), %xmm0\n\tmovups 16(%rsi), %xmm1\n\tmovups %xmm0, (%rdi)\n\tmovups %xmm1, 16(%rdi)\n\t"
	"add $32, %rsi\n\tadd $32, %rdi\n\tsub $32, %rdx\n\tcmp $32, %rdx\n\tjae 1b\n\t"
	"test %rdx, %rdx\n\tjz 9f\n\t"
	"movups -32(%rsi,%rdx), %xmm0\n\tmovups -16(%rsi,%rdx), %xmm1\n\t"
	"movups %xmm0, -32(%rdi,%rdx)\n\tmovups %xmm1, -16(%rdi,%rdx)\n\tjmp 9f\n"
	"2:\n\tmov %rdx, %rcx\n\trep movsb\n\tjmp 9f\n"
	"3:\n\tcmp $16, %rdx\n\tjb 4f\n\t"
	"movups (%rsi), %xmm0\n\tmovups -16(%rsi,%rdx), %xmm1\n\tmovups %xmm0, (%rdi)\n\tmovups %xmm1, -16(%rdi,%rdx)\n\tjmp 9f\n"
	"4:\n\tcmp $8, %rdx\n\tjb 5f\n\t"
	"mov (%rsi), %rax\n\tmov -8(%rsi,%rdx), %rcx\n\tmov %rax, (%rdi)\n\tmov %rcx, -8(%rdi,%rdx)\n\tjmp 9f\n"
	"5:\n\tcmp $4, %rdx\n\tjb 6f\n\t"
	"mov (%rsi), %eax\n\tmov -4(%rsi,%rdx), %ecx\n\tmov %eax, (%rdi)\n\tmov %ecx, -4(%rdi,%rdx)\n\tjmp 9f\n"
	/* 1 to 3 octets: first, middle and last, all read before the first is written */
	"6:\n\ttest %rdx, %rdx\n\tjz 9f\n\tmov %rdx, %rcx\n\tshr $1, %rcx\n\t"
	"movzbl (%rsi), %eax\n\tmovzbl (%rsi,%rcx), %r8d\n\tmovzbl -1(%rsi,%rdx), %r9d\n\t"
	"mov %al, (%rdi)\n\tmov %r8b, (%rdi,%rcx)\n\tmov %r9b, -1(%rdi,%rdx)\n"
	"9:\n\txor %eax, %eax\n\tret\n"
	"user_copy_end:\n"
	"user_copy_fault:\n\tmov $-14, %eax\n\tret\n\t" /* -EFAULT */
	".size user_copy, .-user_copy\n\t"
	".popsection\n");
_Static_assert(EFAULT == 14, "spelled out above");

bool user_copy_fixup(void *uctx)
{
	greg_t *regs = ((ucontext_t *)uctx)->uc_mcontext.gregs;

	if (regs[REG_RIP] < (greg_t)(uintptr_t)user_copy_begin || regs[REG_RIP] >= (greg_t)(uintptr_t)user_copy_end)
		return false;
	regs[REG_RIP] = (greg_t)(uintptr_t)user_copy_fault;
	return true;
}
