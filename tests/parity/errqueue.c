/* SPDX-License-Identifier: BSD-2-Clause */
/* errqueue - what recvmsg(MSG_ERRQUEUE) gives: SO_ZEROCOPY and MSG_ZEROCOPY, SO_TIMESTAMPING of sends; and of receives */
#include "parity.h"
#include <linux/errqueue.h>
#include <linux/net_tstamp.h>

#define O_ZEROCOPY 60

/* The next notification; @wait: it comes within a second */
static void told(const char *when, int fd, bool wait)
{
	char ctl[512], byte[8];
	struct iovec v = { byte, sizeof(byte) };
	struct sockaddr_in from;
	struct msghdr m = { .msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &v, .msg_iovlen = 1, .msg_control = ctl,
			    .msg_controllen = sizeof(ctl) };
	ssize_t r;

	if (wait)
		poll_for(fd, 0, POLLERR);
	say("%s: %s", when, poll_bits(poll_for(fd, POLLIN | POLLOUT, 0)));
	r = recvmsg(fd, &m, MSG_ERRQUEUE);
	if (r < 0) {
		say("  %s", strerrorname_np(errno));
		return;
	}
	say("  %zd, flags %#x, name %u", r, m.msg_flags, m.msg_namelen);
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		struct sock_extended_err e;
		struct timespec t[3];

		if (c->cmsg_level == SOL_SOCKET) {
			memcpy(t, CMSG_DATA(c), sizeof(t));
			say("  control 1/%d of %zu: %d %d %d", c->cmsg_type, c->cmsg_len, t[0].tv_sec > 1600000000, !!t[1].tv_sec, !!t[2].tv_sec);
			continue;
		}
		memcpy(&e, CMSG_DATA(c), sizeof(e));
		say("  control %d/%d of %zu: errno %u, origin %u, type %u, code %u, info %u, data %u", c->cmsg_level, c->cmsg_type,
		    c->cmsg_len, e.ee_errno, e.ee_origin, e.ee_type, e.ee_code, e.ee_info, e.ee_data);
	}
}

static void zerocopy(int fd)
{
	static char big[200000];
	struct msghdr none = { .msg_controllen = 0 };
	struct epoll_event ev = { .events = EPOLLIN };
	int on = 1, ep = (int)must("epoll_create1", epoll_create1(0)), err = -1;
	socklen_t len = sizeof(err);

	must("epoll_ctl", epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
	saw("MSG_ZEROCOPY without SO_ZEROCOPY", send(fd, "a", 1, MSG_ZEROCOPY));
	tell('a');
	await('b');
	told("nothing", fd, false);
	saw("SO_ZEROCOPY", setsockopt(fd, SOL_SOCKET, O_ZEROCOPY, &on, sizeof(on)));
	saw("MSG_ZEROCOPY", send(fd, "abc", 3, MSG_ZEROCOPY));
	tell('a');
	await('b');
	saw("epoll_wait", epoll_wait(ep, &ev, 1, 1000));
	say("%s", poll_bits(ev.events));
	told("first", fd, true);
	told("no more", fd, false);
	saw("large", send(fd, big, sizeof(big), MSG_ZEROCOPY));
	tell('a');
	await('b');
	told("large", fd, true);
	saw("small", send(fd, big, 100, MSG_ZEROCOPY));
	saw("not so", send(fd, big, 100, 0));
	saw("nothing", send(fd, big, 0, MSG_ZEROCOPY));
	saw("small", send(fd, big, 100, MSG_ZEROCOPY));
	tell('a');
	await('b');
	poll_for(fd, 0, POLLERR);
	must("SO_ERROR", getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len));
	say("SO_ERROR %d", err);
	saw("recv", recv(fd, big, 1, MSG_DONTWAIT));
	told("range", fd, true);
	told("no more", fd, false);
	saw("small", send(fd, big, 100, MSG_ZEROCOPY));
	tell('a');
	await('b');
	poll_for(fd, 0, POLLERR);
	saw("no room for control data", recvmsg(fd, &none, MSG_ERRQUEUE));
	say("flags %#x", none.msg_flags);
	told("it is gone", fd, false);
	saw("small", send(fd, big, 100, MSG_ZEROCOPY));
	tell('a');
	await('b');
	poll_for(fd, 0, POLLERR);
	saw("by recv", recv(fd, big, 1, MSG_ERRQUEUE));
	saw("by recv", recv(fd, big, 1, MSG_ERRQUEUE));
	on = 0;
	saw("SO_ZEROCOPY off", setsockopt(fd, SOL_SOCKET, O_ZEROCOPY, &on, sizeof(on)));
	saw("MSG_ZEROCOPY", send(fd, "abc", 3, MSG_ZEROCOPY));
	tell('a');
	await('b');
	told("nothing", fd, false);
	close(ep);
}

static void set_stamping(const char *what, int fd, unsigned flags)
{
	unsigned now = 0;
	socklen_t len = sizeof(now);
	int r = setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &flags, sizeof(flags));

	must("SO_TIMESTAMPING", getsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &now, &len));
	say("%s: %d, %#x", what, r, now);
}

static void stamps(int fd)
{
	const unsigned soft = SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_TSONLY;
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(sizeof(unsigned))];
	} ctl = { .h = { .cmsg_len = CMSG_LEN(sizeof(unsigned)), .cmsg_level = SOL_SOCKET, .cmsg_type = SO_TIMESTAMPING } };
	char text[] = "by message";
	struct iovec v = { text, 10 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = &ctl, .msg_controllen = sizeof(ctl) };
	unsigned ack = SOF_TIMESTAMPING_TX_ACK, wrong = SOF_TIMESTAMPING_SOFTWARE;

	set_stamping("all three", fd, soft | SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_TX_SCHED | SOF_TIMESTAMPING_TX_ACK);
	saw("send", send(fd, "hello", 5, 0));
	tell('a');
	await('b');
	for (int i = 0; i < 3; i++)
		told("stamp", fd, true);
	told("no more", fd, false);
	set_stamping("numbered", fd, soft | SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_TX_ACK);
	saw("send", send(fd, "hello", 5, 0));
	tell('a');
	await('b');
	told("stamp", fd, true);
	told("stamp", fd, true);
	saw("send", send(fd, "hello world", 11, 0));
	tell('a');
	await('b');
	told("stamp", fd, true);
	told("stamp", fd, true);
	told("no more", fd, false);
	set_stamping("not told", fd, SOF_TIMESTAMPING_OPT_TSONLY | SOF_TIMESTAMPING_TX_ACK);
	saw("send", send(fd, "hello", 5, 0));
	tell('a');
	await('b');
	told("no time", fd, true);
	set_stamping("none", fd, soft);
	saw("send", send(fd, "hello", 5, 0));
	tell('a');
	await('b');
	told("nothing", fd, false);
	memcpy(CMSG_DATA(&ctl.h), &ack, sizeof(ack));
	saw("asked for in the message", sendmsg(fd, &m, 0));
	tell('a');
	await('b');
	told("stamp", fd, true);
	memcpy(CMSG_DATA(&ctl.h), &wrong, sizeof(wrong));
	saw("asked for what is no time of a send", sendmsg(fd, &m, 0));
	ctl.h.cmsg_len--;
	saw("too short", sendmsg(fd, &m, 0));
	set_stamping("no such flag", fd, 1u << 30);
	set_stamping("key without numbers", fd, 1u << 16);
	set_stamping("statistics without TSONLY", fd, SOF_TIMESTAMPING_OPT_STATS);
	tell('z');
}

/* A kernel begins to take times of what comes a moment after it is asked to. */
static void received(int fd, const char *what, unsigned flags, int ns)
{
	char ctl[256], c[8];
	struct iovec v = { c, 8 };
	struct msghdr m;

	set_stamping(what, fd, flags);
	must("SO_TIMESTAMPNS", setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &ns, sizeof(ns)));
	nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
	tell('r');
	poll_for(fd, POLLIN, POLLIN);
	m = (struct msghdr){ .msg_iov = &v, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = sizeof(ctl) };
	saw(what, recvmsg(fd, &m, 0));
	say("  flags %#x", m.msg_flags);
	for (struct cmsghdr *k = CMSG_FIRSTHDR(&m); k; k = CMSG_NXTHDR(&m, k))
		say("  control %d/%d of %zu", k->cmsg_level, k->cmsg_type, k->cmsg_len);
}

void server(int listener)
{
	static char sink[1 << 20];
	const unsigned both = SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_RX_SOFTWARE;
	int fd, v = -1, on = 1;
	socklen_t len = sizeof(v);
	char letter;

	saw("SO_ZEROCOPY of a listener", setsockopt(listener, SOL_SOCKET, O_ZEROCOPY, &on, sizeof(on)));
	saw("error queue of a listener", recv(listener, sink, 1, MSG_ERRQUEUE));
	for (v = -1; v <= 2; v++)
		say("SO_ZEROCOPY %d: %d", v, setsockopt(listener, SOL_SOCKET, O_ZEROCOPY, &v, sizeof(v)));
	tell('0');
	fd = peer_accept(listener);
	must("SO_ZEROCOPY", getsockopt(fd, SOL_SOCKET, O_ZEROCOPY, &v, &len));
	say("inherited: %d", v);
	for (;;) { /* reads all there is, then says so */
		must("read", read(control_fd(), &letter, 1));
		if (letter == 'z')
			break;
		poll_for(fd, POLLIN, POLLIN);
		for (int quiet = 0; quiet < 3;) {
			if (recv(fd, sink, sizeof(sink), MSG_DONTWAIT) > 0) {
				quiet = 0;
				continue;
			}
			quiet++;
			nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
		}
		tell('b');
	}
	received(fd, "times of receives", both, 0);
	received(fd, "and SO_TIMESTAMPNS", both, 1);
	received(fd, "taken, not told", SOF_TIMESTAMPING_RX_SOFTWARE, 0);
	received(fd, "none", 0, 0);
	tell('q');
	close(fd);
}

void client(void)
{
	int fd;

	await('0');
	fd = peer_connect();
	zerocopy(fd);
	stamps(fd);
	for (int i = 0; i < 4; i++) {
		await('r');
		write_all(fd, "12345", 5);
	}
	await('q');
	close(fd);
}
