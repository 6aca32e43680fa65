/* SPDX-License-Identifier: BSD-2-Clause */
#include "parity.h"
#include <stdarg.h>
#include <sys/mman.h>

struct sockaddr_in peer_addr;
static int ctl = -1;

void say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

long saw(const char *what, long r)
{
	if (r == -1)
		say("%s: %s", what, strerrorname_np(errno));
	else
		say("%s: %ld", what, r);
	return r;
}

long must(const char *what, long r)
{
	if (r < 0) {
		say("failed: %s: %s", what, strerrorname_np(errno));
		exit(1);
	}
	return r;
}

const char *addr_text(const struct sockaddr_in *a)
{
	static char text[INET6_ADDRSTRLEN];

	return inet_ntop(AF_INET, &a->sin_addr, text, sizeof(text));
}

int control_fd(void)
{
	return ctl;
}

void tell(char letter)
{
	must("tell", write(ctl, &letter, 1));
}

void await(char letter)
{
	char got = 0;

	must("await", read(ctl, &got, 1));
	if (got != letter) {
		say("failed: waited for %c, got %c", letter, got ? got : '0');
		exit(1);
	}
}

int peer_connect(void)
{
	int fd = (int)must("socket", socket(AF_INET, SOCK_STREAM, 0));

	must("connect", connect(fd, (struct sockaddr *)&peer_addr, sizeof(peer_addr)));
	return fd;
}

int peer_accept(int listener)
{
	return (int)must("accept", accept(listener, NULL, NULL));
}

void read_all(int fd, void *buf, size_t n)
{
	for (size_t off = 0; off < n;) {
		ssize_t r = must("read", read(fd, (char *)buf + off, n - off));

		if (!r) {
			say("failed: end of stream after %zu of %zu", off, n);
			exit(1);
		}
		off += (size_t)r;
	}
}

void write_all(int fd, const void *buf, size_t n)
{
	for (size_t off = 0; off < n;)
		off += (size_t)must("write", write(fd, (const char *)buf + off, n - off));
}

void fill(uint8_t *buf, size_t n, uint32_t seed)
{
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1664525 + 1013904223;
		buf[i] = (uint8_t)(seed >> 24);
	}
}

uint64_t digest(uint64_t h, const void *buf, size_t n)
{
	const uint8_t *p = buf;

	if (!h)
		h = 0xcbf29ce484222325;
	while (n--)
		h = (h ^ *p++) * 0x100000001b3;
	return h;
}

const char *poll_bits(unsigned bits)
{
	static const struct {
		unsigned bit;
		const char *name;
	} names[] = { { POLLIN, "IN" },		{ POLLPRI, "PRI" },	  { POLLOUT, "OUT" },	    { POLLERR, "ERR" },
		      { POLLHUP, "HUP" },	{ POLLNVAL, "NVAL" },	  { POLLRDNORM, "RDNORM" }, { POLLRDBAND, "RDBAND" },
		      { POLLWRNORM, "WRNORM" }, { POLLWRBAND, "WRBAND" }, { 0x2000, "RDHUP" } };
	static char text[4][128];
	static unsigned turn;
	char *s = text[turn++ % 4];

	strcpy(s, bits ? "" : "none");
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (bits & names[i].bit) {
			if (*s)
				strcat(s, "|");
			strcat(s, names[i].name);
		}
	return s;
}

unsigned poll_for(int fd, short events, unsigned bits)
{
	struct pollfd p = { .fd = fd, .events = events };

	for (int i = 0; i < 100; i++) {
		must("poll", poll(&p, 1, i ? 0 : 10));
		if (((unsigned)p.revents & bits) == bits)
			break;
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL); /* a bit that poll cannot be asked for may be late */
	}
	return (unsigned)p.revents;
}

void nonblocking(int fd, bool on)
{
	int flags = (int)must("F_GETFL", fcntl(fd, F_GETFL));

	must("F_SETFL", fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK));
}

#define HANG_S 25 /* a program that hangs is a failure, not a nuisance */

static int run_server(void)
{
	int l = (int)must("socket", socket(AF_INET, SOCK_STREAM, 0)), on = 1;

	alarm(HANG_S);
	must("SO_REUSEADDR", setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	must("bind", bind(l, (struct sockaddr *)&peer_addr, sizeof(peer_addr)));
	must("listen", listen(l, 16));
	ctl = peer_accept(l);
	must("TCP_NODELAY", setsockopt(ctl, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)));
	server(l);
	return 0;
}

/* The server may not be up yet. */
static int run_client(void)
{
	int on = 1;

	alarm(HANG_S);
	for (int i = 0; i < 500; i++) {
		ctl = (int)must("socket", socket(AF_INET, SOCK_STREAM, 0));
		if (connect(ctl, (struct sockaddr *)&peer_addr, sizeof(peer_addr)) == 0) {
			must("TCP_NODELAY", setsockopt(ctl, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)));
			client();
			return 0;
		}
		close(ctl);
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	}
	say("failed: no server");
	return 1;
}

/* What the client prints goes to a file, so that it never waits for the server to read it. */
static int run_both(void)
{
	int out = (int)must("memfd_create", memfd_create("client", MFD_CLOEXEC)), status, r;
	char buf[4096];
	ssize_t n;
	pid_t pid;

	pid = (pid_t)must("fork", fork());
	if (!pid) {
		dup2(out, 1);
		close(out);
		exit(run_client());
	}
	say("[server]");
	r = run_server();
	must("waitpid", waitpid(pid, &status, 0));
	say("[client]");
	must("lseek", lseek(out, 0, SEEK_SET));
	while ((n = read(out, buf, sizeof(buf))) > 0)
		fwrite(buf, 1, (size_t)n, stdout);
	say("client's exit status: %d", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
	return r;
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: %s both|server|client ADDR PORT\n", argv[0]);
		return 2;
	}
	peer_addr.sin_family = AF_INET;
	peer_addr.sin_port = htons((uint16_t)atoi(argv[3]));
	if (inet_pton(AF_INET, argv[2], &peer_addr.sin_addr) != 1)
		return 2;
	return !strcmp(argv[1], "server") ? run_server() : !strcmp(argv[1], "client") ? run_client() : run_both();
}
