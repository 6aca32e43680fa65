/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * doctor.c - what this machine allows: one line per check, with the remedy where something is missing
 *
 * Exit status: 0 all that is needed is there, 1 something needed is missing. What is only slower without is a note.
 */
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include "cli.h"
#include "../host/sys.h"

enum verdict { GOOD, NOTE, BAD };

static unsigned n_bad;

static void line(enum verdict v, const char *what, const char *found, const char *remedy)
{
	static const char *const words[] = { [GOOD] = "ok  ", [NOTE] = "note", [BAD] = "BAD " };

	printf("%s  %-22s %s%s%s\n", words[v], what, found, v == GOOD ? "" : "; ", v == GOOD ? "" : remedy);
	n_bad += v == BAD;
}

static bool has_capability(unsigned cap)
{
	FILE *f = fopen("/proc/self/status", "re");
	unsigned long long eff = 0;
	char buf[256];

	while (f && fgets(buf, sizeof(buf), f)) {
		if (sscanf(buf, "CapEff: %llx", &eff) == 1)
			break;
	}
	if (f)
		fclose(f);
	return eff >> cap & 1;
}

static void check_kernel(void)
{
	struct utsname u;
	unsigned major = 0, minor = 0;

	if (uname(&u) || sscanf(u.release, "%u.%u", &major, &minor) != 2) {
		line(NOTE, "kernel", "unknown", "6.1 or later is what this is tested on");
		return;
	}
	if (major > 6 || (major == 6 && minor >= 7))
		line(GOOD, "kernel", u.release, "");
	else if (major > 5 || (major == 5 && minor >= 10))
		line(NOTE, "kernel", u.release, "6.7 or later saves system calls (multishot read, futex wait in the ring)");
	else
		line(BAD, "kernel", u.release, "5.10 or later is needed");
}

static void check_io(void)
{
	static const char *const names[] = { "none", "full", "uring", "poll" };
	const char *env = getenv("OWNSTACK_IO");
	int level = io_level_probe(env && strcmp(env, "auto") ? env : NULL);

	if (level < 0)
		line(BAD, "io_uring", strerror(-level), "OWNSTACK_IO forces a level this machine has not; unset it");
	else if (level == IO_LEVEL_POLL)
		line(NOTE, "io_uring", "forbidden here, level poll is used", "allow io_uring (sysctl kernel.io_uring_disabled=0, seccomp profile)");
	else
		line(GOOD, "io_uring", names[level], "");
}

static void check_device(void)
{
	bool admin = has_capability(12 /* CAP_NET_ADMIN */), raw = has_capability(13 /* CAP_NET_RAW */);
	int fd = sys_open("/dev/net/tun", O_RDWR | O_CLOEXEC, 0);

	if (fd >= 0)
		line(GOOD, "/dev/net/tun", "can be opened", "");
	else
		line(raw ? NOTE : BAD, "/dev/net/tun", strerror(-fd),
		     fd == -ENOENT ? "`modprobe tun`, or give the container --device /dev/net/tun" : "run as root");
	if (fd >= 0)
		sys_close(fd);
	line(admin ? GOOD : NOTE, "CAP_NET_ADMIN", admin ? "yes" : "no",
	     "run as root, or prepare a device: `ip tuntap add NAME mode tap user YOU multi_queue vnet_hdr`");
	line(raw ? GOOD : NOTE, "CAP_NET_RAW", raw ? "yes" : "no", "--packet needs it; run as root");
}

static void check_memory(void)
{
	struct rlimit r;
	char text[64];
	int fd = arena_create(ARENA_BYTES_DEFAULT);

	if (fd < 0)
		line(BAD, "shared memory", strerror(-fd), "memfd_create is needed");
	else
		line(GOOD, "shared memory", "memfd of 16 GiB, sparse", "");
	if (fd >= 0)
		sys_close(fd);
	getrlimit(RLIMIT_AS, &r);
	if (r.rlim_cur != RLIM_INFINITY && r.rlim_cur < 2 * ARENA_BYTES_DEFAULT) {
		snprintf(text, sizeof(text), "%llu bytes", (unsigned long long)r.rlim_cur);
		line(BAD, "RLIMIT_AS", text, "`ulimit -v unlimited`, or give less with --arena");
	}
	getrlimit(RLIMIT_NOFILE, &r);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)r.rlim_cur);
	line(r.rlim_cur >= 1024 ? GOOD : NOTE, "RLIMIT_NOFILE", text, "each private socket is a number of the program; `ulimit -n 65536`");
}

static void check_program(void)
{
	char path[512];

	if (cli_library_path(path, sizeof(path)))
		line(GOOD, "libownstack.so", path, "");
	else
		line(BAD, "libownstack.so", "not found beside this command", "install it there, or name it in OWNSTACK_LIB");
	if (access("/proc/self/stat", R_OK))
		line(BAD, "/proc", "not mounted", "mount it: `mount -t proc proc /proc`");
	if (system("PATH=\"$PATH:/usr/sbin:/sbin\" command -v nft >/dev/null 2>&1"))
		line(NOTE, "nft", "not found", "--nat needs it: `apt-get install nftables`");
}

int cli_doctor(int argc, char **argv)
{
	if (argc > 1) {
		char err[160];

		snprintf(err, sizeof(err), "%.100s: doctor takes no argument; see `ownstack help`", argv[1]);
		cli_error(err);
		return EXIT_USAGE;
	}
	check_kernel();
	check_io();
	check_device();
	check_memory();
	check_program();
	return n_bad ? EXIT_NO : EXIT_DONE;
}
