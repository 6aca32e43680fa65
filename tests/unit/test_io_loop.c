/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_io_loop.c - frames, wakes, signals and descriptors through the loop, at each level
 *
 * Devices live in a network namespace of the test's own: a TAP whose kernel side is driven through a packet socket, or a
 * veth pair. Without the right to make one the test is skipped and says so.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../../io/io.h"
#include "../../io/memdev.h"
#include "../../io/waker.h"

#define ETHERTYPE_OURS 0x88b5 /* IEEE 802: local experimental */

/* ---- rig ---- */

enum dev { DEV_TAP, DEV_VETH };
struct how {
	enum io_level level;
	enum dev dev;
	bool old; /* as a kernel without RWF_NOWAIT on TAP */
};
static struct how all_hows[] = {
	{ IO_LEVEL_FULL, DEV_TAP, false },   { IO_LEVEL_URING, DEV_TAP, false }, { IO_LEVEL_URING, DEV_TAP, true },
	{ IO_LEVEL_POLL, DEV_TAP, false },   { IO_LEVEL_FULL, DEV_VETH, false }, { IO_LEVEL_URING, DEV_VETH, false },
	{ IO_LEVEL_POLL, DEV_VETH, false },
};
#define EACH_HOW(name)                                                                                            \
	ParameterizedTestParameters(io_loop, name)                                                                \
	{                                                                                                         \
		return cr_make_param_array(struct how, all_hows, sizeof(all_hows) / sizeof(all_hows[0]));         \
	}                                                                                                         \
	ParameterizedTest(struct how *how, io_loop, name)

struct rig {
	struct io_loop *l;
	struct io_waker *waker; /* shared with children */
	struct netdev_caps caps;
	int queue_fd, peer_fd; /* peer: packet socket on the kernel's side of the wire */
	char peer_if[16];
};

static void if_up(const char *name)
{
	struct ifreq ifr = { 0 };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	strncpy(ifr.ifr_name, name, sizeof(ifr.ifr_name) - 1);
	cr_assert_eq(ioctl(fd, SIOCGIFFLAGS, &ifr), 0);
	ifr.ifr_flags |= IFF_UP | IFF_NOARP;
	cr_assert_eq(ioctl(fd, SIOCSIFFLAGS, &ifr), 0);
	close(fd);
}

static void no_ipv6(void)
{
	int fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY);

	if (fd >= 0) {
		cr_assert_eq(write(fd, "1", 1), 1);
		close(fd);
	}
}

static int peer_open(const char *ifname)
{
	struct sockaddr_ll sa = { .sll_family = AF_PACKET, .sll_protocol = htons(ETHERTYPE_OURS),
				  .sll_ifindex = (int)if_nametoindex(ifname) };
	int one = 1, bytes = 64 << 20, fd = socket(AF_PACKET, SOCK_RAW, 0);

	cr_assert_geq(fd, 0);
	cr_assert_eq(setsockopt(fd, SOL_PACKET, 15 /* PACKET_VNET_HDR */, &one, sizeof(one)), 0);
	cr_assert_eq(setsockopt(fd, SOL_PACKET, 23 /* PACKET_IGNORE_OUTGOING */, &one, sizeof(one)), 0);
	cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)), 0);
	cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)), 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

/** rig_open() - device in a namespace of its own, and a loop on it; skips where that is not permitted */
static struct rig rig_open(const struct how *how)
{
	struct rig r = { .queue_fd = -1 };
	struct io_dev_config dc = { .kind = how->dev == DEV_TAP ? IO_KIND_TAP : IO_KIND_PACKET, .create = true };
	struct io_loop_config lc = { .kind = dc.kind, .level = how->level, .no_rwf_nowait = how->old };
	int best = io_level_probe(NULL);

	if (best < 0 || best > (int)how->level)
		cr_skip_test("this kernel does not have io level %d", how->level);
	if (unshare(CLONE_NEWNET) < 0)
		cr_skip_test("no permission for a network namespace");
	no_ipv6();
	if (how->dev == DEV_VETH) {
		if (system("ip link add va type veth peer name vb"))
			cr_skip_test("no veth pair to be had");
		strcpy(dc.ifname, "va");
		strcpy(r.peer_if, "vb");
		r.queue_fd = io_packet_open(&dc, &r.caps);
	} else {
		strcpy(dc.ifname, "os%d");
		r.queue_fd = io_tap_open(&dc, &r.caps);
		strcpy(r.peer_if, dc.ifname);
	}
	if (r.queue_fd == -EPERM || r.queue_fd == -ENOENT)
		cr_skip_test("no device to be had: %d", r.queue_fd);
	cr_assert_geq(r.queue_fd, 0, "%d", r.queue_fd);
	if_up(dc.ifname);
	if_up(r.peer_if);
	r.peer_fd = peer_open(r.peer_if);
	r.waker = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	lc.queue_fd = r.queue_fd;
	int e = io_loop_open(&r.l, &lc, r.waker);
	cr_assert_eq(e, 0, "io_loop_open %d", e);
	cr_assert_eq(io_loop_level(r.l), how->level);
	return r;
}

static void rig_close(struct rig *r)
{
	io_loop_close(r->l);
	close(r->queue_fd);
	close(r->peer_fd);
}

struct test_frame {
	struct vnet_hdr vnet;
	struct ether_header eth;
	uint32_t number;
	uint8_t payload[65536];
} __attribute__((packed));

static void peer_send_len(struct rig *r, uint32_t number, size_t payload_bytes)
{
	static struct test_frame f;
	size_t len = offsetof(struct test_frame, payload) + payload_bytes;

	memset(&f, 0, offsetof(struct test_frame, payload));
	memset(f.eth.ether_dhost, 0xff, 6);
	f.eth.ether_type = htons(ETHERTYPE_OURS);
	f.number = number;
	cr_assert_eq(send(r->peer_fd, &f, len, 0), (ssize_t)len, "%m");
}

static void peer_send(struct rig *r, uint32_t first, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		peer_send_len(r, first + i, 46);
}

static int wait_rx(struct rig *r, usec_t for_us)
{
	struct io_wait w = { .rx = true, .block = true, .wake_seen = waker_word(r->waker), .deadline = io_now() + for_us };

	return io_loop_wait(r->l, &w);
}

/** expect_frames() - exactly these, in order; other traffic of the namespace is passed over */
static void expect_frames(struct rig *r, uint32_t first, uint32_t n)
{
	struct frame f[8];
	uint32_t got = 0;
	usec_t until = io_now() + SEC(5);

	while (got < n && io_now() < until) {
		int k = io_loop_rx(r->l, f, 8, true);

		for (int i = 0; i < k; i++) {
			const struct test_frame *t = (const void *)(f[i].data - VNET_HDR_BYTES);

			if (f[i].len < 18 || t->eth.ether_type != htons(ETHERTYPE_OURS))
				continue;
			cr_assert_eq(t->number, first + got, "frame %u instead of %u", t->number, first + got);
			got++;
		}
		io_loop_rx_done(r->l);
		if (k == 0 && got < n)
			cr_assert_geq(wait_rx(r, SEC(1)), 0);
	}
	cr_assert_eq(got, n, "%u of %u frames", got, n);
}

/** drain() - whatever the kernel itself sent when the interface came up */
static void drain(struct rig *r)
{
	struct frame f[8];

	while (wait_rx(r, MSEC(20)) & IO_WAIT_RX) {
		while (io_loop_rx(r->l, f, 8, true) > 0)
			io_loop_rx_done(r->l);
	}
}

static struct pbuf *pbuf_make(uint32_t number, size_t payload_bytes, struct cell **ret_cell)
{
	struct pbuf *p = calloc(1, sizeof(*p));
	struct cell *c = calloc(1, sizeof(*c) + payload_bytes + 8);
	struct test_frame f = { 0 };

	memset(f.eth.ether_dhost, 0xff, 6);
	f.eth.ether_type = htons(ETHERTYPE_OURS);
	f.number = number;
	p->hdr_off = 16;
	p->hdr_len = offsetof(struct test_frame, payload);
	memcpy(pbuf_head(p), &f, p->hdr_len);
	if (payload_bytes) {
		memset(c->data, (int)number, payload_bytes);
		p->n_frags = 2;
		p->frag[0] = (struct pbuf_frag){ c, 0, (uint32_t)payload_bytes / 2 };
		p->frag[1] = (struct pbuf_frag){ c, (uint32_t)payload_bytes / 2, (uint32_t)(payload_bytes - payload_bytes / 2) };
	}
	p->len = (uint32_t)(p->hdr_len - VNET_HDR_BYTES + payload_bytes);
	p->state = PBUF_OUT;
	*ret_cell = c;
	return p;
}

/* ---- frames ---- */

EACH_HOW(frames_in_keep_count_and_order)
{
	struct rig r = rig_open(how);

	drain(&r);
	for (uint32_t round = 0; round < 20; round++) {
		peer_send(&r, round * 100, 100); /* more than there are landing buffers */
		expect_frames(&r, round * 100, 100);
	}
	rig_close(&r);
}

EACH_HOW(frames_out_arrive_whole_and_come_back)
{
	struct rig r = rig_open(how);
	static uint8_t buf[70000];
	enum { N = 600 }; /* more than the submission queue holds */
	struct pbuf *list = NULL, *p;
	struct cell *cells[N];
	struct io_stats stats;
	int back = 0;

	for (int i = N - 1; i >= 0; i--) {
		p = pbuf_make((uint32_t)i, i % 3 ? 0 : 1000, &cells[i]);
		p->next = list;
		list = p;
	}
	io_loop_tx(r.l, list);
	cr_assert_eq(io_loop_tx_queued(r.l), N);
	io_loop_flush(r.l);
	cr_assert_eq(io_loop_tx_queued(r.l), 0);
	for (p = io_loop_tx_reap(r.l); p; p = list) {
		list = p->next;
		free(p);
		back++;
	}
	cr_assert_eq(back, N, "%d came back", back);
	io_loop_stats(r.l, &stats);
	cr_assert_eq(stats.tx_frames, N, "%lu of %d sent", stats.tx_frames, N);
	for (int i = 0; i < N; i++) {
		struct test_frame *f = (void *)buf;
		ssize_t n = recv(r.peer_fd, buf, sizeof(buf), MSG_DONTWAIT);

		cr_assert_eq(n, (ssize_t)offsetof(struct test_frame, payload) + (i % 3 ? 0 : 1000), "%d: %zd bytes, number %u, %lu errors",
			     i, n, f->number, stats.tx_errors);
		cr_assert_eq(f->number, (uint32_t)i);
		if (i % 3 == 0)
			cr_assert(f->payload[0] == (uint8_t)i && f->payload[999] == (uint8_t)i);
		free(cells[i]);
	}
	rig_close(&r);
}

/* ---- waking ---- */

EACH_HOW(wake_from_another_process_ends_the_sleep)
{
	struct rig r = rig_open(how);

	drain(&r);
	for (int i = 0; i < 50; i++) {
		struct io_wait w = { .rx = i & 1, .block = true, .wake_seen = waker_word(r.waker), .deadline = io_now() + SEC(5) };
		pid_t pid = fork();

		if (pid == 0) {
			if (i % 3)
				usleep(2000);
			io_wake(r.waker);
			_exit(0);
		}
		cr_assert_eq(io_loop_wait(r.l, &w), IO_WAIT_WAKE, "round %d", i);
		cr_assert_lt(io_now(), w.deadline);
		waitpid(pid, NULL, 0);
	}
	rig_close(&r);
}
