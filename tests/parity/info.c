/* SPDX-License-Identifier: BSD-2-Clause */
/* info - TCP_INFO at every length and in every state, SO_MEMINFO, SO_COOKIE, SO_INCOMING_NAPI_ID, queue lengths, SO_MAX_PACING_RATE */
#include "parity.h"
#include <sys/ioctl.h>
#include <linux/sockios.h>

#define O_PACING    47
#define O_MEMINFO   55
#define O_NAPI_ID   56
#define O_COOKIE    57
#define BULK	    (8 << 20)

/* libc's struct tcp_info ends before the interesting part begins */
struct info {
	uint8_t tcpi_state, ca_state, retransmits, probes, backoff, tcpi_options, tcpi_snd_wscale : 4, tcpi_rcv_wscale : 4, app_limited;
	uint32_t tcpi_rto, ato, tcpi_snd_mss, rcv_mss, tcpi_unacked, tcpi_sacked, lost, retrans, fackets, last[4], tcpi_pmtu, rcv_ssthresh,
		tcpi_rtt, rttvar, tcpi_snd_ssthresh, tcpi_snd_cwnd, tcpi_advmss, tcpi_reordering, rcv_rtt, tcpi_rcv_space, total_retrans;
	uint64_t tcpi_pacing_rate, tcpi_max_pacing_rate, tcpi_bytes_acked, tcpi_bytes_received;
	uint32_t segs_out, segs_in, tcpi_notsent_bytes, tcpi_min_rtt, data_segs_in, data_segs_out;
	uint64_t tcpi_delivery_rate, tcpi_busy_time, tcpi_rwnd_limited, tcpi_sndbuf_limited;
	uint32_t tcpi_delivered, delivered_ce;
	uint64_t tcpi_bytes_sent, tcpi_bytes_retrans;
	uint32_t tcpi_dsack_dups, reord_seen, tcpi_rcv_ooopack, tcpi_snd_wnd;
};

static struct info info_of(int fd)
{
	struct info i = { 0 };
	socklen_t len = sizeof(i);

	must("TCP_INFO", getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &len));
	return i;
}

static void lengths(const char *what, int fd, int level, int name)
{
	uint8_t buf[512];
	int last = -2, from = 0;

	for (int room = 0; room <= 400; room++) {
		socklen_t len = (socklen_t)room;
		int r = getsockopt(fd, level, name, buf, &len) ? -errno : (int)len == room ? -1 : (int)len;

		if (room && r != last) {
			say("%s, room for %d to %d: %d", what, from, room - 1, last);
			from = room;
		}
		last = r;
	}
	say("%s, room for %d and more: %d", what, from, last);
}

static void states(int listener)
{
	int fd = (int)must("socket", socket(AF_INET, SOCK_STREAM, 0));
	struct info i = info_of(fd);

	say("fresh: state %u, snd_mss %u, rto %u, cwnd %u, ssthresh %u, reordering %u, min_rtt %u, pacing %lld of %lld", i.tcpi_state,
	    i.tcpi_snd_mss, i.tcpi_rto, i.tcpi_snd_cwnd, i.tcpi_snd_ssthresh, i.tcpi_reordering, i.tcpi_min_rtt,
	    (long long)i.tcpi_pacing_rate, (long long)i.tcpi_max_pacing_rate);
	close(fd);
	i = info_of(listener);
	say("listener: state %u, queue %u of %u, snd_mss %u, rto %u, cwnd %u, pmtu %u, reordering %u", i.tcpi_state, i.tcpi_unacked,
	    i.tcpi_sacked, i.tcpi_snd_mss, i.tcpi_rto, i.tcpi_snd_cwnd, i.tcpi_pmtu, i.tcpi_reordering);
	lengths("TCP_INFO", listener, IPPROTO_TCP, TCP_INFO);
	lengths("SO_MEMINFO", listener, SOL_SOCKET, O_MEMINFO);
	lengths("SO_COOKIE", listener, SOL_SOCKET, O_COOKIE);
	lengths("SO_INCOMING_NAPI_ID", listener, SOL_SOCKET, O_NAPI_ID);
}

static void queues(const char *when, int fd)
{
	int in = -1, out = -1, nsd = -1;

	must("SIOCINQ", ioctl(fd, SIOCINQ, &in));
	must("SIOCOUTQ", ioctl(fd, SIOCOUTQ, &out));
	must("SIOCOUTQNSD", ioctl(fd, SIOCOUTQNSD, &nsd));
	say("%s: in %d, out %d, not sent %d", when, in, out, nsd);
}

static void counted(const char *when, int fd)
{
	struct info i = info_of(fd);

	say("%s: state %u, options %u, sent %llu, acked %llu, received %llu, again %llu, unacked %u, notsent %u, dsack %u, ooo %u", when,
	    i.tcpi_state, i.tcpi_options & 0x3fu, (unsigned long long)i.tcpi_bytes_sent, (unsigned long long)i.tcpi_bytes_acked,
	    (unsigned long long)i.tcpi_bytes_received, (unsigned long long)i.tcpi_bytes_retrans, i.tcpi_unacked, i.tcpi_notsent_bytes,
	    i.tcpi_dsack_dups, i.tcpi_rcv_ooopack);
}

static void idle_wait(int fd)
{
	int out = 1;

	for (int i = 0; i < 500 && out; i++) {
		must("SIOCOUTQ", ioctl(fd, SIOCOUTQ, &out));
		if (out)
			nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
	}
}

static void memory(int fd)
{
	uint32_t m[9] = { 0 };
	uint64_t cookie[2] = { 0 };
	socklen_t len = sizeof(m);
	int rcvbuf, sndbuf, napi = -1;

	must("SO_MEMINFO", getsockopt(fd, SOL_SOCKET, O_MEMINFO, m, &len));
	len = sizeof(rcvbuf);
	must("SO_RCVBUF", getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, &len));
	must("SO_SNDBUF", getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &sndbuf, &len));
	say("SO_MEMINFO: receive %d of SO_RCVBUF %d, SO_SNDBUF %d, queued %d, drops %u", m[0] >= 3000, (int)m[1] == rcvbuf,
	    (int)m[3] == sndbuf, m[5] > 0, m[8]);
	len = sizeof(cookie[0]);
	must("SO_COOKIE", getsockopt(fd, SOL_SOCKET, O_COOKIE, &cookie[0], &len));
	must("SO_COOKIE", getsockopt(control_fd(), SOL_SOCKET, O_COOKIE, &cookie[1], &len));
	say("cookies differ: %d", cookie[0] != cookie[1]);
	must("SO_COOKIE", getsockopt(fd, SOL_SOCKET, O_COOKIE, &cookie[1], &len));
	say("and stay: %d", cookie[0] == cookie[1]);
	len = sizeof(napi);
	saw("SO_INCOMING_NAPI_ID", getsockopt(fd, SOL_SOCKET, O_NAPI_ID, &napi, &len));
	saw("set SO_MEMINFO", setsockopt(fd, SOL_SOCKET, O_MEMINFO, m, sizeof(m)));
	saw("set SO_COOKIE", setsockopt(fd, SOL_SOCKET, O_COOKIE, cookie, 8));
	saw("set SO_INCOMING_NAPI_ID", setsockopt(fd, SOL_SOCKET, O_NAPI_ID, &napi, 4));
	saw("set TCP_INFO", setsockopt(fd, IPPROTO_TCP, TCP_INFO, m, sizeof(m)));
}

static void pacing_values(int fd)
{
	static const uint64_t v[] = { 0, 1, 1000, UINT32_MAX - 1, UINT32_MAX, (uint64_t)UINT32_MAX + 1, UINT64_MAX - 1, UINT64_MAX };

	for (size_t i = 0; i < sizeof(v) / sizeof(*v); i++)
		for (socklen_t n = 4; n <= 8; n += 4) {
			uint64_t eight = 0, four = 0;
			socklen_t len = 8;
			int r = setsockopt(fd, SOL_SOCKET, O_PACING, &v[i], n);

			must("SO_MAX_PACING_RATE", getsockopt(fd, SOL_SOCKET, O_PACING, &eight, &len));
			len = 4;
			must("SO_MAX_PACING_RATE", getsockopt(fd, SOL_SOCKET, O_PACING, &four, &len));
			say("pacing %llu in %u: %d, %llu, %llu", (unsigned long long)v[i], n, r, (unsigned long long)eight,
			    (unsigned long long)four);
		}
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* 600 KB at 1 MB/s */
static void paced(int fd)
{
	static char block[600000];
	uint64_t rate = 1000000;
	struct info i;
	double start, took;
	char c;

	must("SO_MAX_PACING_RATE", setsockopt(fd, SOL_SOCKET, O_PACING, &rate, sizeof(rate)));
	start = seconds();
	write_all(fd, block, sizeof(block));
	must("read", read(fd, &c, 1));
	took = seconds() - start;
	i = info_of(fd);
	say("pacing works: %d, within reason: %d, pacing %llu of %llu", took > 0.3, took < 3, (unsigned long long)i.tcpi_pacing_rate,
	    (unsigned long long)i.tcpi_max_pacing_rate);
	say("delivered at some rate: %d", i.tcpi_delivery_rate > 100000);
	rate = UINT64_MAX;
	must("SO_MAX_PACING_RATE", setsockopt(fd, SOL_SOCKET, O_PACING, &rate, sizeof(rate)));
	start = seconds();
	write_all(fd, block, sizeof(block));
	must("read", read(fd, &c, 1));
	say("and ends: %d", seconds() - start < 0.3);
}

/* The other side does not read for a while: its window is what holds us up, then our own buffer. */
static void held_up(int fd)
{
	static char block[BULK];
	struct info i;
	char c;

	tell('w');
	write_all(fd, block, sizeof(block));
	must("read", read(fd, &c, 1));
	idle_wait(fd);
	i = info_of(fd);
	say("busy: %d, held up by the window: %d, parts of the whole: %d", i.tcpi_busy_time >= 150000, i.tcpi_rwnd_limited >= 100000,
	    i.tcpi_rwnd_limited + i.tcpi_sndbuf_limited <= i.tcpi_busy_time);
	say("delivered: %d, rate: %d, pacing rate known: %d", i.tcpi_delivered > 10, i.tcpi_delivery_rate > 0,
	    i.tcpi_pacing_rate > 0 && i.tcpi_pacing_rate != UINT64_MAX);
	say("rtt: %d, min_rtt: %d, rto: %d, wscale: %d %d, advmss: %d, rcv_space: %d, snd_wnd: %d", i.tcpi_rtt > 0,
	    i.tcpi_min_rtt > 0 && i.tcpi_min_rtt <= 1000000, i.tcpi_rto >= 200000, i.tcpi_snd_wscale > 0, i.tcpi_rcv_wscale > 0,
	    i.tcpi_advmss > 500, i.tcpi_rcv_space > 5000, i.tcpi_snd_wnd > 0);
}

void server(int listener)
{
	static char sink[BULK];
	int fd;

	states(listener);
	tell('0');
	fd = peer_accept(listener);
	counted("accepted", fd);
	tell('a'); /* 3,000 octets */
	for (int n = 0; n < 3000;) {
		must("SIOCINQ", ioctl(fd, SIOCINQ, &n));
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	counted("3,000 came", fd);
	memory(fd);
	queues("3,000 came", fd);
	read_all(fd, sink, 3000);
	queues("read", fd);
	write_all(fd, sink, 500);
	idle_wait(fd);
	queues("500 sent", fd);
	counted("500 sent", fd);
	tell('b');
	await('w');
	nanosleep(&(struct timespec){ .tv_nsec = 250000000 }, NULL);
	read_all(fd, sink, BULK);
	write_all(fd, "x", 1);
	pacing_values(fd);
	tell('p');
	for (int i = 0; i < 2; i++) {
		read_all(fd, sink, 600000);
		write_all(fd, "x", 1);
	}
	await('e');
	poll_for(fd, 0x2000, 0x2000);
	counted("end came", fd);
	close(fd);
}

void client(void)
{
	static char buf[3000];
	int fd;

	await('0');
	fd = peer_connect();
	counted("connected", fd);
	await('a');
	write_all(fd, buf, 3000);
	idle_wait(fd);
	counted("3,000 sent", fd);
	queues("3,000 sent", fd);
	await('b');
	read_all(fd, buf, 500);
	counted("500 came", fd);
	held_up(fd);
	await('p');
	must("TCP_CONGESTION", setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5));
	paced(fd);
	must("shutdown", shutdown(fd, SHUT_WR));
	tell('e');
	for (int i = 0; i < 100 && info_of(fd).tcpi_state != 7; i++)
		nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
	close(fd);
}
