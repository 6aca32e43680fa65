/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fd_calls - calls for descriptors of every kind, and what a socket answers them: those that change nothing, those that a
 * libc makes the system calls of itself, and paths that lead to a descriptor
 */
#include "parity.h"
#include <dirent.h>
#include <net/if.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <stdarg.h>

static void of_files(int fd)
{
	int file = (int)must("memfd", memfd_create("f", 0)), pipes[2];
	struct iovec v = { (char[]){ "x" }, 1 };
	struct statfs sfs;
	char b[4];

	must("pipe", pipe(pipes));
	write_all(file, "abcd", 4);
	saw("fdatasync", fdatasync(fd));
	saw("syncfs", syncfs(fd));
	saw("fallocate", fallocate(fd, 0, 0, 10));
	saw("posix_fadvise", posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED));
	saw("posix_fallocate", posix_fallocate(fd, 0, 10));
	saw("readahead", readahead(fd, 0, 10));
	saw("sync_file_range", sync_file_range(fd, 0, 0, 0));
	saw("fstatfs", fstatfs(fd, &sfs));
	say("type %lx", (unsigned long)sfs.f_type);
	saw("fchdir", fchdir(fd));
	saw("fdopendir", fdopendir(fd) ? 0 : -1);
	saw("openat below it", openat(fd, "x", O_RDONLY));
	saw("pwrite", pwrite(fd, "x", 1, 0));
	saw("preadv", preadv(fd, &v, 1, 0));
	saw("pwritev", pwritev(fd, &v, 1, 0));
	saw("preadv2 at an offset", preadv2(fd, &v, 1, 5, 0));
	saw("pwritev2 at an offset", pwritev2(fd, &v, 1, 5, 0));
	saw("pwritev2 with an unknown flag", pwritev2(fd, &v, 1, -1, 1 << 20));
	saw("copy_file_range from it", copy_file_range(fd, NULL, file, NULL, 1, 0));
	saw("copy_file_range to it", copy_file_range(file, NULL, fd, NULL, 1, 0));
	saw("vmsplice", vmsplice(fd, &v, 1, 0));
	saw("tee from it", tee(fd, pipes[1], 1, 0));
	saw("tee to it", tee(pipes[0], fd, 1, 0));
	saw("sendfile from it", sendfile(file, fd, NULL, 1));
	saw("ttyname_r", ttyname_r(fd, b, sizeof(b)));
	saw("tcgetpgrp", tcgetpgrp(fd));
	saw("fexecve", fexecve(fd, (char *[]){ NULL }, environ));
	saw("F_GETPIPE_SZ", fcntl(fd, F_GETPIPE_SZ));
	saw("F_SETPIPE_SZ", fcntl(fd, F_SETPIPE_SZ, 4096));
	saw("F_GETLEASE", fcntl(fd, F_GETLEASE));
	saw("F_ADD_SEALS", fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
	saw("F_NOTIFY", fcntl(fd, F_NOTIFY, DN_ACCESS));
	close(file);
	close(pipes[0]);
	close(pipes[1]);
}

/* A socket has an inode of its own: owner and mode belong to it, and stay there. */
static void inodes(int fd, int other)
{
	struct statx x;
	struct stat a, b;
	char name[32];
	ssize_t n;

	must("fstat", fstat(fd, &a));
	must("fstat", fstat(other, &b));
	say("mode %o, links %d, size %d, blocks %d, blksize %d, rdev %d", a.st_mode, (int)a.st_nlink, (int)a.st_size, (int)a.st_blocks,
	    (int)a.st_blksize, (int)a.st_rdev);
	say("one device: %d, one inode: %d", a.st_dev == b.st_dev, a.st_ino == b.st_ino);
	saw("fstatat", fstatat(fd, "", &b, AT_EMPTY_PATH));
	say("same: %d", a.st_ino == b.st_ino && a.st_dev == b.st_dev && a.st_mode == b.st_mode);
	saw("statx", statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &x));
	say("same: %d", x.stx_ino == a.st_ino && makedev(x.stx_dev_major, x.stx_dev_minor) == a.st_dev && x.stx_mode == a.st_mode);
	must("fstat of a copy", fstat(dup(fd), &b));
	say("a copy has the same: %d", a.st_ino == b.st_ino);
	n = fgetxattr(fd, "system.sockprotoname", name, sizeof(name));
	saw("fgetxattr", n);
	say("%.*s", n > 0 ? (int)n : 0, name);
	saw("fgetxattr, how long", fgetxattr(fd, "system.sockprotoname", NULL, 0));
	saw("fgetxattr, no room", fgetxattr(fd, "system.sockprotoname", name, 1));
	saw("fgetxattr of another", fgetxattr(fd, "user.x", name, sizeof(name)));
	saw("flistxattr", flistxattr(fd, NULL, 0));
	saw("fchmod", fchmod(fd, 0600));
	must("fstat", fstat(fd, &a));
	say("mode %o", a.st_mode);
	saw("fchown", fchown(fd, 12, 34));
	must("fstat", fstat(fd, &a));
	say("owner %d:%d", (int)a.st_uid, (int)a.st_gid);
	saw("futimens", futimens(fd, NULL));
}

static void locks(int fd, int other)
{
	struct flock l = { .l_type = F_WRLCK };

	saw("flock", flock(fd, LOCK_EX | LOCK_NB));
	saw("flock of another", flock(other, LOCK_EX | LOCK_NB));
	saw("flock, off", flock(fd, LOCK_UN));
	saw("flock of another, off", flock(other, LOCK_UN));
	saw("F_SETLK", fcntl(fd, F_SETLK, &l));
	l.l_type = F_UNLCK;
	saw("F_SETLK, off", fcntl(fd, F_SETLK, &l));
	l.l_type = F_RDLCK;
	saw("F_OFD_SETLK", fcntl(other, F_OFD_SETLK, &l));
	l.l_type = F_UNLCK;
	saw("F_OFD_SETLK, off", fcntl(other, F_OFD_SETLK, &l));
	saw("lockf", lockf(fd, F_TEST, 10));
}

static void paths(int fd)
{
	int in = (int)must("dup", fcntl(STDIN_FILENO, F_DUPFD, 20));
	char path[40], to[64];
	struct stat st;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	saw("open of /proc/self/fd", open(path, O_RDWR));
	saw("stat of it", stat(path, &st));
	say("a socket: %d", S_ISSOCK(st.st_mode));
	n = must("readlink", readlink(path, to, sizeof(to)));
	say("%.*s", n > 7 ? 7 : (int)n, to);
	snprintf(path, sizeof(path), "/dev/fd/%d", fd);
	saw("open of /dev/fd", open(path, O_RDONLY));
	must("dup2", dup2(fd, STDIN_FILENO));
	saw("open of /dev/stdin", open("/dev/stdin", O_RDONLY));
	saw("fopen of /dev/stdin", fopen("/dev/stdin", "r") ? 0 : -1);
	must("dup2", dup2(in, STDIN_FILENO));
	close(in);
}

static void devices(int fd)
{
	struct ifreq r = { .ifr_name = "lo" };
	struct ifconf c = { .ifc_len = 0 };

	saw("SIOCGIFINDEX", ioctl(fd, SIOCGIFINDEX, &r));
	say("index %d", r.ifr_ifindex);
	saw("SIOCGIFFLAGS", ioctl(fd, SIOCGIFFLAGS, &r));
	say("up %d", !!(r.ifr_flags & IFF_UP));
	saw("SIOCGIFADDR", ioctl(fd, SIOCGIFADDR, &r));
	saw("SIOCGIFNETMASK", ioctl(fd, SIOCGIFNETMASK, &r));
	saw("SIOCGIFBRDADDR", ioctl(fd, SIOCGIFBRDADDR, &r));
	saw("SIOCGIFMTU", ioctl(fd, SIOCGIFMTU, &r));
	saw("SIOCGIFHWADDR", ioctl(fd, SIOCGIFHWADDR, &r));
	saw("SIOCGIFCONF", ioctl(fd, SIOCGIFCONF, &c));
	say("some: %d", c.ifc_len > 0);
	saw("SIOCGIFADDR of none", ioctl(fd, SIOCGIFADDR, &(struct ifreq){ .ifr_name = "nowhere" }));
	saw("SIOCGSTAMP", ioctl(fd, 0x8906, &(struct timeval){ 0 }));
	saw("SIOCGARP", ioctl(fd, 0x8954, (char[128]){ 0 }));
	saw("SIOCADDRT", ioctl(fd, 0x890B, NULL));
	saw("FIGETBSZ", ioctl(fd, 2, &(int){ 0 }));
	saw("FIBMAP", ioctl(fd, 1, &(int){ 0 }));
	saw("TIOCGWINSZ", ioctl(fd, 0x5413, (char[16]){ 0 }));
}

__attribute__((format(printf, 2, 3))) static int by_list(int fd, const char *fmt, ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = vdprintf(fd, fmt, ap);
	va_end(ap);
	return r;
}

/* libc's own writes */
static void printing(int fd)
{
	char big[3000];

	memset(big, 'b', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	saw("dprintf", dprintf(fd, "%d %s\n", 7, "seven"));
	saw("dprintf of nothing", dprintf(fd, "%s", ""));
	saw("vdprintf", by_list(fd, "%s-%d\n", "list", 8));
	saw("dprintf of much", dprintf(fd, "%s|%s\n", big, big));
}

static void append(int fd)
{
	int file = (int)must("memfd", memfd_create("f", 0)), pipes[2];
	loff_t at = 0;

	write_all(file, "abcd", 4);
	must("pipe", pipe(pipes));
	write_all(pipes[1], "abcd", 4);
	must("F_SETFL", fcntl(fd, F_SETFL, O_APPEND));
	saw("write", write(fd, "append\n", 7));
	saw("sendfile", sendfile(fd, file, &at, 4));
	saw("sendfile of nothing", sendfile(fd, file, &at, 0));
	saw("sendfile from nowhere", sendfile(fd, -1, NULL, 4));
	saw("splice", splice(pipes[0], NULL, fd, NULL, 4, 0));
	saw("splice of nothing", splice(pipes[0], NULL, fd, NULL, 0, 0));
	saw("splice at an offset", splice(pipes[0], NULL, fd, &at, 4, 0));
	saw("splice from an offset", splice(pipes[0], &at, fd, NULL, 4, 0));
	must("F_SETFL", fcntl(fd, F_SETFL, 0));
	saw("splice without", splice(pipes[0], NULL, fd, NULL, 4, 0));
	close(file);
	close(pipes[0]);
	close(pipes[1]);
}

void server(int listener)
{
	int fd = peer_accept(listener), other = peer_accept(listener);

	of_files(fd);
	inodes(fd, other);
	locks(fd, other);
	paths(fd);
	devices(fd);
	printing(fd);
	append(fd);
	shutdown(fd, SHUT_WR);
	tell('e');
	saw("dprintf after the end", (signal(SIGPIPE, SIG_IGN), dprintf(fd, "x")));
}

void client(void)
{
	int fd = peer_connect(), other = peer_connect();
	uint64_t h = 0;
	size_t all = 0;
	char b[4096];
	ssize_t n;

	while ((n = must("read", read(fd, b, sizeof(b)))) > 0) {
		h = digest(h, b, (size_t)n);
		all += (size_t)n;
	}
	say("%zu octets, %llx", all, (unsigned long long)h);
	await('e');
	close(other);
}
