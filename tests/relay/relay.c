/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * relay.c - a bad wire between two devices, in real time
 *
 *   relay [--seconds N] [--whole] [--ready FD] [--impair SPEC] [--blackout FROM:MS] DEVICE_A DEVICE_B
 *   DEVICE: tap:NAME (made if it is not there) or packet:NAME (one end of a veth pair, any interface)
 *
 * Frames that the kernel sends into A come out of B and the other way round, each direction with its own stream of
 * impair.c's faults. This kernel has no netem; tests and benchmarks share this program, kernel-to-kernel runs included.
 * Super-frames are taken apart first, so that what is lost or overtaken is a segment, as on a real wire (--whole: left
 * whole). With faults that damage bytes, checksums are finished before, since a card beyond would do so.
 *
 * --blackout: both directions lose everything for MS milliseconds, FROM milliseconds after the first frame that has the
 * size of data (none before it is a sign that the transfer has begun).
 *
 * Runs until SIGTERM or SIGINT or N seconds, then prints one line per direction. The devices go down with it. --ready: a
 * line is written to this descriptor when both devices are open and up, so that a script need not guess.
 */
#include <errno.h>
#include <getopt.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include "../../io/impair.h"
#include "../../io/io.h"
#include "segment.h"

#define BATCH	   64 /* frames of one direction before the other has its turn */
#define DATA_BYTES 200 /* no ARP, SYN or ACK is as long */

struct blackout {
	usec_t from, until; /* set when the first data has come */
	usec_t after_us, for_us;
};

struct direction {
	int from, to;
	struct impair *wire;
	bool whole, finish_csum;
	usec_t now;
	struct blackout *dark; /* both directions have the same */
	uint64_t unsent, darkened;
};

static volatile sig_atomic_t stopped;

static void on_stop(int sig)
{
	(void)sig;
	stopped = 1;
}

static void fail(const char *what, const char *which, int error)
{
	fprintf(stderr, "relay: %s '%s': %s\n", what, which, strerror(error));
	exit(1);
}

static void interface_up(const char *name)
{
	struct ifreq ifr = { 0 };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	if (ioctl(fd, SIOCGIFFLAGS, &ifr) < 0)
		fail("cannot look at interface", name, errno);
	ifr.ifr_flags |= IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &ifr) < 0)
		fail("cannot bring up interface", name, errno);
	close(fd);
}

static int device_open(const char *spec)
{
	struct io_dev_config dc = { .create = true };
	struct netdev_caps caps;
	const char *colon = strchr(spec, ':');
	size_t kind_len = colon ? (size_t)(colon - spec) : 0;
	int fd = -EINVAL;

	if (!colon || strlen(colon + 1) >= sizeof(dc.ifname))
		fail("not a device (tap:NAME or packet:NAME)", spec, EINVAL);
	strcpy(dc.ifname, colon + 1);
	if (kind_len == 3 && !memcmp(spec, "tap", 3)) {
		fd = io_tap_open(&dc, &caps);
	} else if (kind_len == 6 && !memcmp(spec, "packet", 6)) {
		memcpy(dc.mac, "\x02relay", 6); /* not the interface's: so the socket asks for all frames */
		fd = io_packet_open(&dc, &caps);
	}
	if (fd < 0)
		fail("cannot open device", spec, -fd);
	interface_up(dc.ifname);
	return fd;
}

static bool is_dark(struct blackout *b, size_t len, usec_t now)
{
	if (b->for_us && !b->until && len > DATA_BYTES) {
		b->from = now + b->after_us;
		b->until = b->from + b->for_us;
	}
	return now >= b->from && now < b->until;
}

static void enter_wire(void *arg, uint8_t *frame, size_t len)
{
	struct direction *d = arg;
	struct iovec iov = { frame, len };

	if (is_dark(d->dark, len, d->now)) {
		d->darkened++;
		return;
	}
	if (d->finish_csum)
		frame_finish_csum(frame, len);
	impair_push(d->wire, &iov, 1, d->now);
}

static void take_in(struct direction *d)
{
	static uint8_t buf[FRAME_MAX_BYTES];

	for (int i = 0; i < BATCH; i++) {
		ssize_t n = read(d->from, buf, sizeof(buf));

		if (n <= VNET_HDR_BYTES)
			return;
		if (d->whole)
			enter_wire(d, buf, (size_t)n);
		else
			segment_each(buf, (size_t)n, enter_wire, d);
	}
}

static void give_out(struct direction *d)
{
	struct impair_frame *f;

	while ((f = impair_pop(d->wire, d->now)) != NULL) {
		if (write(d->to, f->bytes, f->len) < 0)
			d->unsent++; /* as a wire's far end that is down or full */
		impair_free_frame(f);
	}
}

static void run(struct direction dirs[2], usec_t until)
{
	struct pollfd fds[2] = { { .fd = dirs[0].from, .events = POLLIN }, { .fd = dirs[1].from, .events = POLLIN } };
	struct timespec ts;
	sigset_t none;

	sigemptyset(&none);
	while (!stopped) {
		usec_t now = io_now(), next = until;

		for (int i = 0; i < 2; i++) {
			dirs[i].now = now;
			if (fds[i].revents)
				take_in(&dirs[i]);
			give_out(&dirs[i]);
			if (impair_deadline(dirs[i].wire) < next)
				next = impair_deadline(dirs[i].wire);
		}
		if (now >= until)
			return;
		next = next > now ? next - now : 0;
		ts = (struct timespec){ (time_t)(next / 1000000), (long)(next % 1000000) * 1000 };
		ppoll(fds, 2, until == USEC_NEVER && next > SEC(3600) ? NULL : &ts, &none);
	}
}

static void report(const char *name, const struct direction *d)
{
	struct impair_counts c;

	impair_counts(d->wire, &c);
	printf("%s in=%llu lost=%llu dup=%llu reordered=%llu damaged=%llu overflowed=%llu darkened=%llu out=%llu unsent=%llu\n", name,
	       (unsigned long long)c.in, (unsigned long long)c.lost, (unsigned long long)c.doubled,
	       (unsigned long long)c.reordered, (unsigned long long)c.damaged, (unsigned long long)c.overflowed,
	       (unsigned long long)d->darkened, (unsigned long long)c.out, (unsigned long long)d->unsent);
}

static void catch_stop(void)
{
	struct sigaction sa = { .sa_handler = on_stop };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL); /* let in by ppoll only: none is missed between look and sleep */
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
}

static bool blackout_parse(struct blackout *b, const char *text)
{
	unsigned from, ms;
	char end;

	if (sscanf(text, "%u:%u%c", &from, &ms, &end) != 2)
		return false;
	*b = (struct blackout){ .after_us = MSEC((usec_t)from), .for_us = MSEC((usec_t)ms) };
	return true;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "seconds", required_argument, NULL, 's' }, { "whole", no_argument, NULL, 'w' },
						 { "ready", required_argument, NULL, 'r' },
						 { "impair", required_argument, NULL, 'i' },
						 { "blackout", required_argument, NULL, 'b' }, { 0 } };
	const char *spec = "loss=0%";
	struct direction dirs[2] = { 0 };
	struct blackout dark = { 0 };
	usec_t until = USEC_NEVER;
	int ready = -1, a, b, c, r;
	bool whole = false;

	while ((c = getopt_long(argc, argv, "s:wr:i:b:", options, NULL)) != -1) {
		if (c == '?')
			return 2;
		if (c == 's')
			until = io_now() + SEC(atoi(optarg));
		if (c == 'r')
			ready = atoi(optarg);
		if (c == 'i')
			spec = optarg;
		if (c == 'b' && !blackout_parse(&dark, optarg))
			fail("not FROM:MS", optarg, EINVAL);
		whole |= c == 'w';
	}
	if (argc - optind != 2) {
		fprintf(stderr, "usage: relay [--seconds N] [--whole] [--ready FD] [--impair SPEC] [--blackout FROM:MS] "
				"DEVICE_A DEVICE_B\n");
		return 2;
	}
	catch_stop();
	for (unsigned i = 0; i < 2; i++)
		if ((r = impair_open(&dirs[i].wire, spec, i)) < 0)
			fail("not an impairment", spec, -r);
	a = device_open(argv[optind]);
	b = device_open(argv[optind + 1]);
	dirs[0].from = dirs[1].to = a;
	dirs[0].to = dirs[1].from = b;
	for (int i = 0; i < 2; i++) {
		dirs[i].whole = whole;
		dirs[i].dark = &dark;
		dirs[i].finish_csum = strstr(spec, "corrupt") != NULL;
	}
	if (ready >= 0 && write(ready, "ready\n", 6) != 6)
		fail("cannot write to descriptor", "--ready", errno);
	run(dirs, until);
	report("a->b", &dirs[0]);
	report("b->a", &dirs[1]);
	for (int i = 0; i < 2; i++)
		impair_close(dirs[i].wire);
	return 0;
}
