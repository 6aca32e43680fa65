/* SPDX-License-Identifier: BSD-2-Clause */
/* control - recvmsg's control data: time stamps in all forms, TCP_INQ, too little room; what sendmsg takes */
#include "parity.h"

#define CM_INQ 36

static void show(const char *what, struct msghdr *m, long r)
{
	if (r < 0) {
		say("%s: %s", what, strerrorname_np(errno));
		return;
	}
	say("%s: %ld, flags %#x, control %zu", what, r, (unsigned)m->msg_flags, m->msg_controllen);
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		int64_t pair[2] = { 0 };
		int inq = -1;

		if (c->cmsg_level == IPPROTO_TCP && c->cmsg_type == CM_INQ) {
			memcpy(&inq, CMSG_DATA(c), sizeof(inq));
			say("  left: %d, length %zu", inq, c->cmsg_len);
			continue;
		}
		say("  level %d, type %d, length %zu", c->cmsg_level, c->cmsg_type, c->cmsg_len);
		if (c->cmsg_len < CMSG_LEN(sizeof(pair)))
			continue;
		memcpy(pair, CMSG_DATA(c), sizeof(pair));
		say("  of this minute: %d", llabs((long long)pair[0] - (long long)time(NULL)) < 60);
	}
}

static void take(const char *what, int fd, size_t n, size_t room, int flags)
{
	char buf[64], control[128];
	struct iovec v = { buf, n };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = room ? control : NULL, .msg_controllen = room,
			    .msg_flags = 0x55 };

	memset(control, 0, sizeof(control));
	show(what, &m, recvmsg(fd, &m, flags));
}

static void set(int fd, int level, int name, int on)
{
	must("setsockopt", setsockopt(fd, level, name, &on, sizeof(on)));
}

/* The kernel begins to stamp some time after it was first asked to. */
static void until_stamped(int fd)
{
	char c, control[128];
	struct iovec v = { &c, 1 };
	struct msghdr m = { .msg_controllen = 0 };

	set(fd, SOL_SOCKET, 29, 1);
	while (!m.msg_controllen) {
		m = (struct msghdr){ .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
		tell('m');
		must("recvmsg", recvmsg(fd, &m, 0));
	}
	tell('e');
}

static void forms(int fd)
{
	static const int names[] = { 29, 35, 63, 64 };

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		set(fd, SOL_SOCKET, names[i], 1);
		take("stamped", fd, 1, 128, 0);
	}
	take("no room for the stamp", fd, 1, 20, 0);
	take("room for the header alone", fd, 1, 16, 0);
	take("less than a header", fd, 1, 8, 0);
	take("no room at all", fd, 1, 0, 0);
	set(fd, SOL_SOCKET, 64, 0);
	take("no stamp any more", fd, 1, 128, 0);
	set(fd, IPPROTO_TCP, CM_INQ, 1);
	take("how much is left", fd, 2, 128, 0);
	take("peeked", fd, 2, 128, MSG_PEEK);
	set(fd, SOL_SOCKET, 29, 1);
	take("both", fd, 1, 128, 0);
	take("room for one", fd, 1, 40, 0);
	take("close-on-exec asked", fd, 1, 128, MSG_CMSG_CLOEXEC);
}

static void send_with(const char *what, int fd, int level, int type, size_t len, size_t total)
{
	char control[64] = "";
	struct iovec v = { (void *)(uintptr_t)"m", 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = total };
	struct cmsghdr h = { .cmsg_len = len, .cmsg_level = level, .cmsg_type = type };

	memcpy(control, &h, sizeof(h));
	saw(what, sendmsg(fd, &m, MSG_NOSIGNAL));
}

void server(int listener)
{
	int fd = peer_accept(listener);

	until_stamped(fd);
	await('a');
	forms(fd);
	take("the rest", fd, 64, 128, 0);
	tell('b');
	take("the end", fd, 64, 128, 0);
	send_with("mark", fd, SOL_SOCKET, SO_MARK, CMSG_LEN(4), CMSG_SPACE(4));
	send_with("of another level", fd, IPPROTO_IP, 8, CMSG_LEN(4), CMSG_SPACE(4));
	send_with("length too small", fd, SOL_SOCKET, SO_MARK, 3, CMSG_SPACE(4));
	send_with("length too large", fd, SOL_SOCKET, SO_MARK, 1000, CMSG_SPACE(4));
	send_with("rights", fd, SOL_SOCKET, SCM_RIGHTS, CMSG_LEN(4), CMSG_SPACE(4));
	send_with("nonsense", fd, SOL_SOCKET, 77, CMSG_LEN(4), CMSG_SPACE(4));
	send_with("cut", fd, SOL_SOCKET, SO_MARK, CMSG_LEN(4), 10);
	close(fd);
}

void client(void)
{
	char data[] = "0123456789abcdefghijklmnopqrstuvwxyz", end[16];
	int fd = peer_connect();

	for (;;) {
		char said;

		read_all(control_fd(), &said, 1);
		if (said == 'e')
			break;
		write_all(fd, "s", 1);
	}
	write_all(fd, data, sizeof(data));
	tell('a');
	await('b');
	must("shutdown", shutdown(fd, SHUT_WR));
	while (read(fd, end, sizeof(end)) > 0)
		;
	close(fd);
}
