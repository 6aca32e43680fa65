/* SPDX-License-Identifier: BSD-2-Clause */
/* fastopen - TCP Fast Open: MSG_FASTOPEN, TCP_FASTOPEN, _CONNECT, _KEY, _NO_COOKIE. Both sides of net.ipv4.tcp_fastopen are on (3). */
#include "parity.h"
#include <sys/ioctl.h>

#define O_FASTOPEN_CONNECT   30
#define O_FASTOPEN_KEY	     33
#define O_FASTOPEN_NO_COOKIE 34
#define SYN_DATA	     32 /* TCPI_OPT_SYN_DATA */

static int fresh(void)
{
	return (int)must("socket", socket(AF_INET, SOCK_STREAM, 0));
}

static ssize_t fast(int fd, const char *text, int flags)
{
	return sendto(fd, text, strlen(text), MSG_FASTOPEN | flags, (struct sockaddr *)&peer_addr, sizeof(peer_addr));
}

static int opt_get(int fd, int name)
{
	int v = -1;
	socklen_t len = sizeof(v);

	return getsockopt(fd, IPPROTO_TCP, name, &v, &len) ? -errno : v;
}

static void syn_data(const char *when, int fd)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	must("TCP_INFO", getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len));
	say("%s: data with the SYN: %d", when, !!(info.tcpi_options & SYN_DATA));
}

/* What came with one connection, read to its end */
static void serve(int listener, const char *what)
{
	int fd = peer_accept(listener);
	char buf[4096];
	ssize_t n, all = 0;

	tell('s');
	syn_data(what, fd);
	while ((n = must("read", read(fd, buf, sizeof(buf)))) > 0)
		all += n;
	say("%s: %zd octets", what, all);
	close(fd);
}

static void finish(int fd)
{
	close(fd);
	await('s');
}

static void options(void)
{
	int fd = fresh();
	uint8_t key[64] = { 1, 2, 3 }, got[64] = { 0 };
	socklen_t len;

	for (int v = -1; v <= 2; v++) {
		say("TCP_FASTOPEN %d: %ld", v, (long)setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN, &v, sizeof(v)));
		say("TCP_FASTOPEN_CONNECT %d: %ld", v, (long)setsockopt(fd, IPPROTO_TCP, O_FASTOPEN_CONNECT, &v, sizeof(v)));
		say("TCP_FASTOPEN_NO_COOKIE %d: %ld", v, (long)setsockopt(fd, IPPROTO_TCP, O_FASTOPEN_NO_COOKIE, &v, sizeof(v)));
		say("now %d %d %d", opt_get(fd, TCP_FASTOPEN), opt_get(fd, O_FASTOPEN_CONNECT), opt_get(fd, O_FASTOPEN_NO_COOKIE));
	}
	for (socklen_t n = 0; n <= 48; n += 8)
		say("TCP_FASTOPEN_KEY of %u: %ld", n, (long)setsockopt(fd, IPPROTO_TCP, O_FASTOPEN_KEY, key, n));
	for (socklen_t n = 8; n <= 64; n += 8) {
		len = n;
		say("read into %u: %ld, %u", n, (long)getsockopt(fd, IPPROTO_TCP, O_FASTOPEN_KEY, got, &len), len);
	}
	say("same key: %d", !memcmp(key, got, 32));
	close(fd);
}

static void errors(void)
{
	struct sockaddr unspec = { .sa_family = AF_UNSPEC };
	int fd = fresh();

	saw("no address", sendto(fd, "x", 1, MSG_FASTOPEN | MSG_NOSIGNAL, NULL, 0));
	saw("short address", sendto(fd, "x", 1, MSG_FASTOPEN, (struct sockaddr *)&peer_addr, 4));
	saw("AF_UNSPEC", sendto(fd, "x", 1, MSG_FASTOPEN, &unspec, sizeof(unspec)));
	close(fd);
}

/* The first contact has no cookie; it brings one. */
static void by_message(void)
{
	int fd = fresh(), err = -1;
	socklen_t len = sizeof(err);

	saw("first contact, non-blocking", fast(fd, "hello", MSG_DONTWAIT));
	say("%s", poll_bits(poll_for(fd, POLLOUT, POLLOUT)));
	must("SO_ERROR", getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len));
	say("SO_ERROR %d", err);
	saw("send", send(fd, "hello", 5, 0));
	saw("fast again", fast(fd, "x", 0));
	finish(fd);
	fd = fresh();
	saw("second contact", fast(fd, "hello world", 0));
	syn_data("client", fd);
	saw("once more", fast(fd, "x", 0));
	saw("connect", connect(fd, (struct sockaddr *)&peer_addr, sizeof(peer_addr)));
	finish(fd);
	fd = fresh();
	nonblocking(fd, true);
	saw("third contact, non-blocking", fast(fd, "hello", 0));
	say("%s", poll_bits(poll_for(fd, POLLOUT, POLLOUT)));
	saw("connect", connect(fd, (struct sockaddr *)&peer_addr, sizeof(peer_addr)));
	saw("connect", connect(fd, (struct sockaddr *)&peer_addr, sizeof(peer_addr)));
	syn_data("client", fd);
	finish(fd);
}

static void message(void)
{
	static char big[20000];
	struct iovec v[2] = { { big, 7000 }, { big, 13000 } };
	struct msghdr m = { .msg_name = &peer_addr, .msg_namelen = sizeof(peer_addr), .msg_iov = v, .msg_iovlen = 2 };
	int fd = fresh();

	saw("sendmsg", sendmsg(fd, &m, MSG_FASTOPEN));
	finish(fd);
	fd = fresh();
	saw("nothing to send", fast(fd, "", 0));
	syn_data("client", fd);
	finish(fd);
	fd = fresh();
	saw("nothing to send, non-blocking", fast(fd, "", MSG_DONTWAIT));
	say("%s", poll_bits(poll_for(fd, POLLOUT, POLLOUT)));
	finish(fd);
	fd = fresh();
	saw("from nowhere", sendto(fd, (void *)8, 5, MSG_FASTOPEN, (struct sockaddr *)&peer_addr, sizeof(peer_addr)));
	finish(fd);
}

static void by_option(void)
{
	int fd = fresh(), on = 1;
	struct sockaddr_in a;
	socklen_t len = sizeof(a);

	saw("TCP_FASTOPEN_CONNECT", setsockopt(fd, IPPROTO_TCP, O_FASTOPEN_CONNECT, &on, sizeof(on)));
	saw("connect", connect(fd, (struct sockaddr *)&peer_addr, sizeof(peer_addr)));
	syn_data("waits", fd);
	saw("getpeername", getpeername(fd, (struct sockaddr *)&a, &len));
	nonblocking(fd, true); /* a kernel waits for an answer to the SYN that it has not sent */
	saw("connect again", connect(fd, (struct sockaddr *)&peer_addr, sizeof(peer_addr)));
	nonblocking(fd, false);
	say("%s", poll_bits(poll_for(fd, POLLIN | POLLOUT, POLLOUT)));
	saw("recv", recv(fd, &a, 1, MSG_DONTWAIT));
	saw("TCP_FASTOPEN_CONNECT too late", setsockopt(fd, IPPROTO_TCP, O_FASTOPEN_CONNECT, &on, sizeof(on)));
	saw("write", write(fd, "late", 4));
	syn_data("client", fd);
	saw("connect again", connect(fd, (struct sockaddr *)&peer_addr, sizeof(peer_addr)));
	finish(fd);
	fd = fresh();
	must("TCP_FASTOPEN_CONNECT", setsockopt(fd, IPPROTO_TCP, O_FASTOPEN_CONNECT, &on, sizeof(on)));
	nonblocking(fd, true);
	saw("connect", connect(fd, (struct sockaddr *)&peer_addr, sizeof(peer_addr)));
	saw("write", write(fd, "late", 4));
	say("%s", poll_bits(poll_for(fd, POLLOUT, POLLOUT)));
	saw("connect again", connect(fd, (struct sockaddr *)&peer_addr, sizeof(peer_addr)));
	saw("connect again", connect(fd, (struct sockaddr *)&peer_addr, sizeof(peer_addr)));
	finish(fd);
	fd = fresh();
	must("TCP_FASTOPEN_CONNECT", setsockopt(fd, IPPROTO_TCP, O_FASTOPEN_CONNECT, &on, sizeof(on)));
	saw("connect, and close", connect(fd, (struct sockaddr *)&peer_addr, sizeof(peer_addr)));
	close(fd);
}

/* The listener has a key of its own now: the cookie we have is wrong, and is replaced. */
static void new_key(void)
{
	int fd;

	await('k');
	for (int i = 0; i < 2; i++) {
		fd = fresh();
		saw("another key", fast(fd, "hello", 0));
		syn_data("client", fd);
		finish(fd);
	}
}

static void no_cookie(void)
{
	int fd = fresh(), on = 1;

	await('n');
	must("TCP_FASTOPEN_NO_COOKIE", setsockopt(fd, IPPROTO_TCP, O_FASTOPEN_NO_COOKIE, &on, sizeof(on)));
	saw("no cookie", fast(fd, "hello", 0));
	syn_data("client", fd);
	finish(fd);
}

static void refused(void)
{
	struct sockaddr_in a = peer_addr;
	int fd = fresh();

	a.sin_port = htons(1);
	saw("nobody listens", sendto(fd, "x", 1, MSG_FASTOPEN, (struct sockaddr *)&a, sizeof(a)));
	saw("and again", sendto(fd, "x", 1, MSG_FASTOPEN | MSG_DONTWAIT, (struct sockaddr *)&a, sizeof(a)));
	say("%s", poll_bits(poll_for(fd, POLLOUT, POLLERR)));
	saw("connect", connect(fd, (struct sockaddr *)&a, sizeof(a)));
	close(fd);
}

static void allow(void)
{
	int fd = open("/proc/sys/net/ipv4/tcp_fastopen", O_WRONLY);

	must("tcp_fastopen", fd);
	must("tcp_fastopen", write(fd, "3", 1));
	close(fd);
}

void server(int listener)
{
	int n = 5;
	uint8_t key[16] = "sixteen octets.";

	allow();
	options();
	saw("TCP_FASTOPEN", setsockopt(listener, IPPROTO_TCP, TCP_FASTOPEN, &n, sizeof(n)));
	say("%d", opt_get(listener, TCP_FASTOPEN));
	tell('a');
	serve(listener, "first");
	serve(listener, "second");
	serve(listener, "third");
	serve(listener, "sendmsg");
	serve(listener, "nothing");
	serve(listener, "nothing");
	serve(listener, "from nowhere");
	serve(listener, "by option");
	serve(listener, "by option");
	saw("TCP_FASTOPEN_KEY", setsockopt(listener, IPPROTO_TCP, O_FASTOPEN_KEY, key, sizeof(key)));
	tell('k');
	serve(listener, "wrong cookie");
	serve(listener, "right cookie");
	n = 1;
	saw("TCP_FASTOPEN_NO_COOKIE", setsockopt(listener, IPPROTO_TCP, O_FASTOPEN_NO_COOKIE, &n, sizeof(n)));
	tell('n');
	serve(listener, "no cookie");
	n = 0;
	saw("TCP_FASTOPEN 0", setsockopt(listener, IPPROTO_TCP, TCP_FASTOPEN, &n, sizeof(n)));
	tell('z');
	serve(listener, "off");
	await('y');
}

void client(void)
{
	int fd;

	await('a');
	errors();
	by_message();
	message();
	by_option();
	new_key();
	no_cookie();
	await('z');
	fd = fresh();
	saw("server does not take it", fast(fd, "hello", 0));
	syn_data("client", fd);
	finish(fd);
	refused();
	tell('y');
}
