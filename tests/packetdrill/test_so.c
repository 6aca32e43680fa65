/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_so.c - uses libownstack-packetdrill.so as packetdrill does: loaded by name, IP packets in and out, blocking calls on
 * a second thread, virtual time
 *
 *   test_so LIBRARY
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/sockios.h>
#include "../../stack/checksum.h"
#include "../../stack/wire.h"
#include "packetdrill.h"

#define MUST(x)                                                                          \
	do {                                                                             \
		if (!(x)) {                                                              \
			printf("%s:%d: does not hold: %s\n", __FILE__, __LINE__, #x);     \
			exit(1);                                                         \
		}                                                                        \
	} while (0)
#define LOCAL  0xc0a80001u
#define REMOTE 0xc0000201u

static struct packetdrill_interface pd;
static uint8_t packet[2000];
static uint8_t *const tcp = packet + 20;
static size_t packet_len;
static uint32_t peer_seq, peer_ack;

static long long now_us(void)
{
	struct timeval tv;

	MUST(pd.gettimeofday(pd.userdata, &tv, NULL) == 0);
	return tv.tv_sec * 1000000ll + tv.tv_usec;
}

static void peer_sends(uint8_t flags, uint32_t len)
{
	struct ipaddr src = ipaddr_v4(htonl(REMOTE)), dst = ipaddr_v4(htonl(LOCAL));

	memset(packet, 0, 40);
	packet[0] = 0x45;
	put16(packet + 2, (uint16_t)(40 + len));
	packet[8] = 64;
	packet[9] = 6;
	put32(packet + 12, REMOTE);
	put32(packet + 16, LOCAL);
	put16_raw(packet + 10, (uint16_t)~csum_fold(csum_add(0, packet, 20)));
	put16(tcp, 40000);
	put16(tcp + 2, 8080);
	put32(tcp + 4, peer_seq);
	put32(tcp + 8, flags & TH_ACK ? peer_ack : 0);
	tcp[12] = 5 << 4;
	tcp[13] = flags;
	put16(tcp + 14, 65535);
	memset(tcp + 20, 'a', len);
	put16_raw(tcp + 16, (uint16_t)~csum_fold(csum_add(csum_pseudo(&src, &dst, 6, 20 + len), tcp, 20 + len)));
	peer_seq += len + !!(flags & (TH_SYN | TH_FIN));
	MUST(pd.netdev_send(pd.userdata, packet, 40 + len) == 0);
}

/* Next packet of the stack: flags without PSH, octets of payload; when */
static long long we_sent(uint8_t flags, uint32_t len)
{
	long long at = 0;

	packet_len = sizeof(packet);
	MUST(pd.netdev_receive(pd.userdata, packet, &packet_len, &at) == 0);
	MUST(packet_len >= 40);
	MUST((tcp[13] & ~TH_PUSH) == flags);
	MUST(packet_len - 20 - (tcp[12] >> 4) * 4u == len);
	peer_ack = get32(tcp + 4) + len + !!(flags & (TH_SYN | TH_FIN));
	return at;
}

static void silence(void)
{
	long long at;

	packet_len = sizeof(packet);
	MUST(pd.netdev_receive(pd.userdata, packet, &packet_len, &at) == 0 && packet_len == 0);
}

struct blocked {
	pthread_t thread;
	int fd, accepted;
	ssize_t got;
	volatile int tid;
};

static void *accepts_and_reads(void *arg)
{
	struct blocked *b = arg;
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	char buf[100];

	b->tid = gettid();
	b->accepted = pd.accept(pd.userdata, b->fd, (struct sockaddr *)&from, &len);
	MUST(b->accepted >= 0 && from.sin_port == htons(40000) && from.sin_addr.s_addr == htonl(REMOTE));
	b->got = pd.read(pd.userdata, b->accepted, buf, sizeof(buf));
	return NULL;
}

/* As packetdrill: go on when /proc says that the thread sleeps. */
static void wait_asleep(const struct blocked *b)
{
	char path[64], line[256] = "";
	int asleep = 0;

	for (long n = 0; !asleep && n < 10000000; n++) {
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/task/%d/stat", b->tid);
		f = b->tid ? fopen(path, "r") : NULL;
		if (!f)
			continue;
		if (fgets(line, sizeof(line), f) && strrchr(line, ')'))
			asleep = strrchr(line, ')')[2] == 'S';
		fclose(f);
	}
	MUST(asleep);
}

static void start(const char *library)
{
	void *so = dlopen(library, RTLD_NOW | RTLD_LOCAL);
	void (*init)(const char *, struct packetdrill_interface *);

	if (!so)
		printf("%s\n", dlerror());
	MUST(so);
	*(void **)&init = dlsym(so, "packetdrill_interface_init");
	MUST(init);
	init("", &pd);
	for (size_t i = 0; i < sizeof(pd) / sizeof(void *); i++)
		MUST(((void **)&pd)[i]);
}

static void time_stands_but_creeps(void)
{
	long long a = now_us(), b = now_us();

	MUST(b == a + 1);
	MUST(pd.usleep(pd.userdata, 250000) == 0);
	MUST(now_us() == b + 250001);
}

static void options(int fd)
{
	int v = 1;
	socklen_t len = sizeof(v);

	MUST(pd.setsockopt(pd.userdata, fd, SOL_SOCKET, SO_REUSEADDR, &v, len) == 0);
	MUST(pd.setsockopt(pd.userdata, fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4) == 0);
	v = 10000;
	MUST(pd.setsockopt(pd.userdata, fd, SOL_SOCKET, SO_SNDBUF, &v, len) == 0);
	MUST(pd.getsockopt(pd.userdata, fd, SOL_SOCKET, SO_SNDBUF, &v, &len) == 0 && v == 20000);
	errno = 0;
	MUST(pd.setsockopt(pd.userdata, fd, IPPROTO_TCP, 9999, &v, len) == -1 && errno == ENOPROTOOPT);
}

static void waits(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT };
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = 77 }, got;
	int ep = pd.epoll_create(pd.userdata, 1);

	MUST(pd.poll(pd.userdata, &p, 1, 0) == 1 && p.revents == POLLOUT);
	MUST(ep >= 0 && pd.epoll_ctl(pd.userdata, ep, EPOLL_CTL_ADD, fd, &ev) == 0);
	MUST(pd.epoll_wait(pd.userdata, ep, &got, 1, 0) == 0);
	peer_sends(TH_ACK | TH_PUSH, 10);
	we_sent(TH_ACK, 0);
	MUST(pd.epoll_wait(pd.userdata, ep, &got, 1, -1) == 1 && got.data.u32 == 77 && got.events == EPOLLIN);
	MUST(pd.close(pd.userdata, ep) == 0);
}

static void moves_data(int fd)
{
	char buf[100];
	int n = 0, pipes[2];
	long long sent, again;

	MUST(pd.ioctl(pd.userdata, fd, SIOCINQ, &n) == 0 && n == 10);
	MUST(pd.recv(pd.userdata, fd, buf, sizeof(buf), MSG_PEEK) == 10);
	MUST(pd.pipe(pd.userdata, pipes) == 0);
	MUST(pd.splice(pd.userdata, fd, NULL, pipes[1], NULL, 100, 0) == 10);
	MUST(read(pipes[0], buf, sizeof(buf)) == 10 && buf[9] == 'a');
	MUST(pd.fcntl(pd.userdata, fd, F_SETFL, (long)O_NONBLOCK) == 0);
	errno = 0;
	MUST(pd.read(pd.userdata, fd, buf, sizeof(buf)) == -1 && errno == EAGAIN);
	MUST(pd.write(pd.userdata, fd, buf, 100) == 100);
	sent = we_sent(TH_ACK, 100);
	again = we_sent(TH_ACK, 100); /* nobody acknowledges: the timer goes off, in no time at all */
	MUST(again - sent >= 200000 && again - sent < 500000);
	peer_sends(TH_ACK, 0);
	silence();
}

static void ends(int fd)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	MUST(pd.getsockopt(pd.userdata, fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0);
	MUST(info.tcpi_state == TCP_ESTABLISHED && info.tcpi_total_retrans == 1);
	peer_sends(TH_FIN | TH_ACK, 0);
	we_sent(TH_ACK, 0);
	MUST(pd.read(pd.userdata, fd, &info, 1) == 0);
	MUST(pd.close(pd.userdata, fd) == 0);
	we_sent(TH_FIN | TH_ACK, 0);
	peer_sends(TH_ACK, 0);
	silence();
	errno = 0;
	MUST(pd.read(pd.userdata, fd, &info, 1) == -1 && errno == EBADF);
}

int main(int argc, char **argv)
{
	struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons(8080) };
	struct blocked b = { 0 };

	MUST(argc == 2);
	start(argv[1]);
	time_stands_but_creeps();
	b.fd = pd.socket(pd.userdata, AF_INET, SOCK_STREAM, 0);
	MUST(b.fd >= 0 && fcntl(b.fd, F_GETFD) >= 0);
	options(b.fd);
	MUST(pd.bind(pd.userdata, b.fd, (struct sockaddr *)&here, sizeof(here)) == 0);
	MUST(pd.listen(pd.userdata, b.fd, 1) == 0);
	MUST(pthread_create(&b.thread, NULL, accepts_and_reads, &b) == 0);
	wait_asleep(&b);
	peer_seq = 1000;
	peer_sends(TH_SYN, 0);
	we_sent(TH_SYN | TH_ACK, 0);
	MUST(get32(tcp + 8) == 1001);
	peer_sends(TH_ACK, 0);
	wait_asleep(&b);
	peer_sends(TH_ACK | TH_PUSH, 50);
	we_sent(TH_ACK, 0);
	pthread_join(b.thread, NULL);
	MUST(b.got == 50);
	waits(b.accepted);
	moves_data(b.accepted);
	ends(b.accepted);
	MUST(pd.close(pd.userdata, b.fd) == 0);
	pd.free(pd.userdata);
	printf("ok\n");
	return 0;
}
