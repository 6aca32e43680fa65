/* SPDX-License-Identifier: BSD-2-Clause */
/* test_usercopy.c - copies that may fault, and what becomes of faults that are not ours */
#include <criterion/criterion.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "../../preload/preload_priv.h"
#include "preload_fakes.h"

#define PAGE 4096

/* Two pages, the second of which is not there. */
static unsigned char *page_with_end(void)
{
	unsigned char *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	cr_assert(p != MAP_FAILED);
	cr_assert(munmap(p + PAGE, PAGE) == 0);
	for (int i = 0; i < PAGE; i++)
		p[i] = (unsigned char)(i * 7 + i / 256);
	return p;
}

TestSuite(usercopy, .init = signal_init);

Test(usercopy, every_length_and_alignment_copies_exactly)
{
	static unsigned char from[2300], to[2400], want[2400];

	for (size_t i = 0; i < sizeof(from); i++)
		from[i] = (unsigned char)rand();
	for (size_t n = 0; n <= 2100; n = n < 160 ? n + 1 : n + 37)
		for (size_t off = 0; off < 17; off += 3) {
			memset(to, 0xee, sizeof(to));
			memset(want, 0xee, sizeof(want));
			memcpy(want + 16 - off % 16, from + off, n);
			cr_assert_eq(user_copy(to + 16 - off % 16, from + off, n), 0);
			cr_assert(!memcmp(to, want, sizeof(to)), "%zu octets at offset %zu", n, off);
		}
}

Test(usercopy, reading_past_the_end_gives_efault)
{
	static const size_t lengths[] = { 1, 2, 3, 5, 9, 17, 33, 100, 1000, 2048, 4096 };
	unsigned char *p = page_with_end();
	unsigned char to[PAGE];

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		size_t n = lengths[i];

		cr_assert_eq(user_copy(to, p + PAGE - n, n), 0, "%zu", n);
		cr_assert(!memcmp(to, p + PAGE - n, n));
		cr_assert_eq(user_copy(to, p + PAGE - n + 1, n), -EFAULT, "%zu", n);
		cr_assert_eq(user_copy(p + PAGE - n + 1, to, n), -EFAULT, "%zu", n);
	}
	cr_assert_eq(user_copy(to, NULL, 8), -EFAULT);
	cr_assert_eq(user_copy(NULL, to, 64), -EFAULT);
	cr_assert_eq(user_copy(NULL, to, 0), 0);
}

Test(usercopy, file_cut_short_gives_efault)
{
	char path[] = "/tmp/usercopy-XXXXXX", to[64];
	int fd = mkstemp(path);
	char *p;

	cr_assert(fd >= 0 && ftruncate(fd, PAGE) == 0);
	unlink(path);
	p = mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fd, 0);
	cr_assert(p != MAP_FAILED);
	cr_assert_eq(user_copy(to, p + PAGE - 64, 64), 0);
	cr_assert_eq(user_copy(to, p + PAGE - 32, 64), -EFAULT); /* SIGBUS */
}

Test(usercopy, fault_under_the_lock_gives_efault)
{
	char to[64];

	thr_defer();
	cr_assert_eq(user_copy(to, (void *)16, 64), -EFAULT);
	thr_undefer();
}

static volatile int *volatile nowhere = (volatile int *)16;
static sigjmp_buf back;
static volatile int seen;
static void on_segv(int sig)
{
	seen = sig;
	siglongjmp(back, 1);
}

Test(usercopy, other_faults_go_to_the_programs_handler)
{
	char to[64];

	own_signal(SIGSEGV, on_segv);
	cr_assert_eq(user_copy(to, (void *)16, 64), -EFAULT);
	cr_assert_eq(seen, 0);
	if (!sigsetjmp(back, 1))
		*nowhere = 1;
	cr_assert_eq(seen, SIGSEGV);
}

Test(usercopy, other_faults_kill_without_a_handler, .signal = SIGSEGV)
{
	own_signal(SIGSEGV, SIG_DFL);
	*nowhere = 1;
}
