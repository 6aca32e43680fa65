/* SPDX-License-Identifier: BSD-2-Clause */
/* recv_flags - MSG_PEEK, MSG_WAITALL, MSG_TRUNC, time-outs, low-water mark, vectors, messages, bad buffers */
#include "parity.h"
#include <sys/ioctl.h>

static void timed(int fd)
{
	struct timeval tv = { 0, 50000 };
	char c;

	must("SO_RCVTIMEO", setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	saw("recv that times out", recv(fd, &c, 1, 0));
	memset(&tv, 0, sizeof(tv));
	must("SO_RCVTIMEO", setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
}

void server(int listener)
{
	int fd = peer_accept(listener);
	volatile int minus = -1;
	int n = -1;
	char buf[64] = "", a[3] = "", b[5] = "", ctl[64];
	struct iovec v[2] = { { a, 2 }, { b, 4 } };
	struct msghdr m = { .msg_iov = v, .msg_iovlen = 2, .msg_control = ctl, .msg_controllen = sizeof(ctl), .msg_flags = 77 };
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	struct mmsghdr mm[2];

	timed(fd);
	tell('a'); /* abcdefghij */
	poll_for(fd, POLLIN, POLLIN);
	saw("MSG_PEEK", recv(fd, buf, 4, MSG_PEEK));
	saw("MSG_PEEK again", recv(fd, buf, 64, MSG_PEEK));
	must("FIONREAD", ioctl(fd, FIONREAD, &n));
	say("FIONREAD %d", n);
	saw("MSG_TRUNC throws away", recv(fd, buf, 3, MSG_TRUNC));
	saw("recvmsg", recvmsg(fd, &m, 0));
	say("%.2s %.4s, control %zu, flags %d", a, b, m.msg_controllen, m.msg_flags);
	saw("recvfrom", recvfrom(fd, buf, 64, 0, (struct sockaddr *)&from, &len));
	say("%c, length of name %u", buf[0], len);
	saw("no octets asked, by read", read(fd, buf, 0));
	saw("MSG_OOB", recv(fd, buf, 1, MSG_OOB));
	saw("MSG_ERRQUEUE", recv(fd, buf, 1, MSG_ERRQUEUE));
	saw("pread", pread(fd, buf, 1, 0));
	saw("lseek", lseek(fd, 0, SEEK_CUR));
	saw("readv of -1 vectors", readv(fd, v, minus));

	tell('b'); /* 5 octets now, 5 later */
	saw("MSG_WAITALL", recv(fd, buf, 10, MSG_WAITALL));
	say("%.10s", buf);
	tell('c'); /* 3 octets, then the end */
	saw("MSG_WAITALL cut by the end", recv(fd, buf, 10, MSG_WAITALL));
	saw("end", recv(fd, buf, 10, MSG_WAITALL));
	close(fd);

	fd = peer_accept(listener);
	must("SO_RCVLOWAT", setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &(int){ 6 }, sizeof(int)));
	tell('d'); /* 3 octets */
	await('e');
	say("below the low-water mark: %s", poll_bits(poll_for(fd, POLLIN, 0)));
	tell('f'); /* 3 more */
	say("at it: %s", poll_bits(poll_for(fd, POLLIN, POLLIN)));
	saw("recv into nowhere", recv(fd, (void *)8, 6, 0));
	saw("send from nowhere", send(fd, (void *)8, 6, MSG_NOSIGNAL));
	memset(mm, 0, sizeof(mm));
	mm[0].msg_hdr = (struct msghdr){ .msg_iov = &v[0], .msg_iovlen = 1 };
	mm[1].msg_hdr = (struct msghdr){ .msg_iov = &v[1], .msg_iovlen = 1 };
	must("SO_RCVLOWAT", setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &(int){ 1 }, sizeof(int)));
	saw("recvmmsg", recvmmsg(fd, mm, 2, MSG_DONTWAIT, NULL));
	say("%u %u", mm[0].msg_len, mm[1].msg_len);
	write_all(fd, "z", 1);
	saw("sendmmsg", sendmmsg(fd, mm, 2, 0));
	tell('g');
	await('h');
	close(fd);
}

void client(void)
{
	int fd = peer_connect();
	char buf[16] = "";

	await('a');
	write_all(fd, "abcdefghij", 10);
	await('b');
	write_all(fd, "01234", 5);
	nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
	write_all(fd, "56789", 5);
	await('c');
	write_all(fd, "end", 3);
	close(fd);

	fd = peer_connect();
	await('d');
	write_all(fd, "abc", 3);
	nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
	tell('e');
	await('f');
	write_all(fd, "def", 3);
	await('g');
	read_all(fd, buf, 7);
	say("%.7s", buf);
	tell('h');
	close(fd);
}
