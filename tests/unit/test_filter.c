/* SPDX-License-Identifier: BSD-2-Clause */
/* What preload/filter.c says of a system call is what the kernel does with it behind the same filter. */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../../preload/pump_priv.h"

#define LD(field)      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define LD_ARG(i)      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[i]))
#define JEQ(k, t, f)   BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, k, t, f)
#define RET(what)      BPF_STMT(BPF_RET | BPF_K, what)
#define DENY	       RET(SECCOMP_RET_ERRNO | ENOTTY)
#define ALLOW	       RET(SECCOMP_RET_ALLOW)

/* mmap() without PROT_EXEC, as sshd has it; getuid() by arithmetic; poll() of one descriptor at most; write() logged */
static struct sock_filter insn[] = {
	LD(nr),
	JEQ(SYS_mmap, 0, 4),
	LD_ARG(2),
	BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1),
	DENY,
	ALLOW,
	JEQ(SYS_poll, 0, 4),
	LD_ARG(1),
	BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, 1, 0, 1),
	DENY,
	ALLOW,
	JEQ(SYS_write, 0, 1),
	RET(SECCOMP_RET_LOG),
	JEQ(SYS_exit_group, 0, 1),
	ALLOW,
	BPF_STMT(BPF_ST, 3),
	BPF_STMT(BPF_LDX | BPF_W | BPF_IMM, SYS_getuid - 10),
	BPF_STMT(BPF_ALU | BPF_SUB | BPF_X, 0),
	BPF_STMT(BPF_MISC | BPF_TAX, 0),
	BPF_STMT(BPF_LD | BPF_W | BPF_IMM, 10),
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_X, 0, 0, 1),
	ALLOW,
	BPF_STMT(BPF_LD | BPF_W | BPF_MEM, 3),
	JEQ(SYS_getpid, 0, 2),
	BPF_STMT(BPF_JMP | BPF_JA, 0),
	ALLOW,
	DENY,
};
static const struct sock_fprog prog = { sizeof(insn) / sizeof(*insn), insn };

static const struct { /* harmless calls, whose own error is not ENOTTY */
	long nr, args[6];
} calls[] = {
	{ SYS_mmap, { 0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0 } },
	{ SYS_mmap, { 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0 } },
	{ SYS_poll, { 0, 0, 0 } },
	{ SYS_poll, { 0, 1, 0 } },
	{ SYS_poll, { 0, 2, 0 } },
	{ SYS_write, { -1, 0, 0 } },
	{ SYS_read, { -1, 0, 0 } },
	{ SYS_getuid, { 0 } },
	{ SYS_geteuid, { 0 } },
	{ SYS_getpid, { 0 } },
	{ SYS_gettid, { 0 } },
};
enum { N_CALLS = sizeof(calls) / sizeof(*calls) };

/* Bits of those that the kernel lets through; in a child, since a filter is for good. */
static unsigned kernel_allows(void)
{
	volatile unsigned *got = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;
	pid_t pid = fork();

	if (!pid) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
			_exit(1);
		for (int i = 0; i < N_CALLS; i++) {
			const long *a = calls[i].args;
			long r = syscall(calls[i].nr, a[0], a[1], a[2], a[3], a[4], a[5]);

			if (!(r == -1 && errno == ENOTTY))
				*got |= 1u << i;
		}
		syscall(SYS_exit_group, 0); /* before _exit() a sanitizer makes a call that is refused here */
	}
	waitpid(pid, &status, 0);
	cr_assert_eq(status, 0);
	return *got;
}

Test(filter, says_what_the_kernel_does)
{
	unsigned kernel = kernel_allows();

	cr_assert(filter_note(&prog));
	for (int i = 0; i < N_CALLS; i++)
		cr_expect_eq(filter_allows(calls[i].nr, calls[i].args), kernel >> i & 1, "call %d", i);
	cr_expect_neq(kernel, 0);
	cr_expect_neq(kernel, (1u << N_CALLS) - 1);
}

Test(filter, filters_add_up_and_a_refused_one_is_forgotten)
{
	static struct sock_filter no_poll[] = { LD(nr), JEQ(SYS_poll, 0, 1), RET(SECCOMP_RET_KILL_PROCESS), ALLOW };
	const struct sock_fprog more = { sizeof(no_poll) / sizeof(*no_poll), no_poll };
	const long none[6] = { 0 };

	cr_expect_not(filter_known());
	cr_assert(filter_note(&prog));
	cr_assert(filter_note(&more));
	cr_expect_not(filter_allows(SYS_poll, none));
	cr_expect_not(filter_allows(SYS_gettid, none));
	filter_forget();
	cr_expect(filter_allows(SYS_poll, none));
	filter_forget();
	cr_expect(filter_allows(SYS_gettid, none));
	cr_expect_not(filter_known());
}

Test(filter, strict_mode_leaves_four_calls)
{
	const long none[6] = { 0 };

	cr_assert(filter_note(NULL));
	cr_expect(filter_allows(SYS_read, none));
	cr_expect(filter_allows(SYS_rt_sigreturn, none));
	cr_expect_not(filter_allows(SYS_ppoll, none));
}

Test(filter, bad_pointer_and_length_are_the_kernels_to_refuse)
{
	const struct sock_fprog empty = { 0, insn };

	cr_expect_not(filter_note(&empty));
	cr_expect_not(filter_known());
}
