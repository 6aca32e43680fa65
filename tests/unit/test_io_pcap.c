/* SPDX-License-Identifier: BSD-2-Clause */
/* test_io_pcap.c - the file is a pcapng file: walked block by block, and by tcpdump where there is one */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../../io/pcap.h"

static char path[] = "/tmp/test_io_pcap.XXXXXX";

static void scratch_name(void)
{
	int fd = mkstemp(path);

	cr_assert_geq(fd, 0);
	close(fd);
}

static void scratch_remove(void)
{
	unlink(path);
}

static uint32_t u32_at(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return v;
}

struct seen {
	int sections, interfaces, packets, in, out;
	uint32_t last_len;
};

static struct seen walk(void)
{
	static uint8_t file[1 << 20];
	FILE *f = fopen(path, "r");
	size_t n = fread(file, 1, sizeof(file), f), at = 0;
	struct seen s = { 0 };

	fclose(f);
	while (at < n) {
		uint32_t type = u32_at(file + at), len = u32_at(file + at + 4);

		cr_assert(len % 4 == 0 && at + len <= n, "block at %zu of %u bytes", at, len);
		cr_assert_eq(u32_at(file + at + len - 4), len, "length at both ends");
		s.sections += type == 0x0a0d0d0a;
		s.interfaces += type == 1;
		if (type == 6) {
			uint32_t cap = u32_at(file + at + 20), padded = (cap + 3) & ~3u;
			uint32_t flags = u32_at(file + at + 28 + padded + 4);

			s.packets++;
			s.last_len = cap;
			cr_assert_eq(u32_at(file + at + 28 + padded), 2u | 4u << 16);
			s.in += flags == 1;
			s.out += flags == 2;
			cr_assert_eq(file[at + 28], 0xee, "Ethernet first, not the virtio-net header");
		}
		at += len;
	}
	return s;
}

Test(io_pcap, frames_both_ways_and_several_writers, .init = scratch_name, .fini = scratch_remove)
{
	struct pcap *a, *b;
	uint8_t bytes[200];
	struct frame f = { .data = bytes, .len = 61 };
	struct iovec iov[2] = { { bytes, VNET_HDR_BYTES + 40 }, { bytes, 33 } };

	memset(bytes, 0xee, sizeof(bytes));
	cr_assert_eq(pcap_open(&a, path), 0);
	cr_assert_eq(pcap_open(&b, path), 0);
	for (int i = 0; i < 10; i++) {
		pcap_frame(a, &f, true);
		pcap_iov(b, iov, 2, false);
	}
	pcap_close(a);
	pcap_close(b);
	struct seen s = walk();
	cr_assert(s.sections == 1 && s.interfaces == 1 && s.packets == 20 && s.in == 10 && s.out == 10);
	cr_assert_eq(s.last_len, 73);
	if (access("/usr/bin/tcpdump", X_OK) == 0) {
		char cmd[200], line[100] = "";

		snprintf(cmd, sizeof(cmd), "/usr/bin/tcpdump -nr %s 2>/dev/null | grep -c ethertype", path);
		FILE *p = popen(cmd, "r");
		cr_assert(fgets(line, sizeof(line), p));
		cr_assert_eq(atoi(line), 20);
		pclose(p);
	}
}

Test(io_pcap, writers_at_once_do_not_mix, .init = scratch_name, .fini = scratch_remove)
{
	pid_t pids[4];

	for (int k = 0; k < 4; k++) {
		pids[k] = fork();
		if (pids[k] == 0) {
			static uint8_t bytes[1500];
			struct frame f = { .data = bytes, .len = (uint32_t)(100 + k) };
			struct pcap *pc;

			memset(bytes, 0xee, sizeof(bytes));
			if (pcap_open(&pc, path))
				_exit(1);
			for (int i = 0; i < 500; i++)
				pcap_frame(pc, &f, true);
			_exit(0);
		}
	}
	for (int k = 0; k < 4; k++) {
		int status;

		waitpid(pids[k], &status, 0);
		cr_assert_eq(status, 0);
	}
	struct seen s = walk();
	cr_assert(s.sections == 1 && s.packets == 2000, "%d, %d", s.sections, s.packets);
}

Test(io_pcap, other_files_are_left_alone, .init = scratch_name, .fini = scratch_remove)
{
	struct pcap *pc = NULL;
	FILE *f = fopen(path, "w");

	fputs("something dear to its owner", f);
	fclose(f);
	cr_assert_eq(pcap_open(&pc, path), -EEXIST);
	cr_assert_eq(pcap_open(&pc, "/nonexistent/x.pcapng"), -ENOENT);
	cr_assert_null(pc);
}
