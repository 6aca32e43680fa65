/* SPDX-License-Identifier: BSD-2-Clause */
/* packetdrill.h - the table that packetdrill's --so_filename expects to be filled: order and types are its own */
#ifndef OWNSTACK_TESTS_PACKETDRILL_H
#define OWNSTACK_TESTS_PACKETDRILL_H

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>

struct packetdrill_interface {
	void *userdata;
	void (*free)(void *u);
	int (*socket)(void *u, int domain, int type, int protocol);
	int (*bind)(void *u, int fd, const struct sockaddr *addr, socklen_t len);
	int (*listen)(void *u, int fd, int backlog);
	int (*accept)(void *u, int fd, struct sockaddr *addr, socklen_t *len);
	int (*connect)(void *u, int fd, const struct sockaddr *addr, socklen_t len);
	ssize_t (*read)(void *u, int fd, void *buf, size_t n);
	ssize_t (*readv)(void *u, int fd, const struct iovec *iov, int n);
	ssize_t (*recv)(void *u, int fd, void *buf, size_t n, int flags);
	ssize_t (*recvfrom)(void *u, int fd, void *buf, size_t n, int flags, struct sockaddr *addr, socklen_t *len);
	ssize_t (*recvmsg)(void *u, int fd, struct msghdr *msg, int flags);
	ssize_t (*write)(void *u, int fd, const void *buf, size_t n);
	ssize_t (*writev)(void *u, int fd, const struct iovec *iov, int n);
	ssize_t (*send)(void *u, int fd, const void *buf, size_t n, int flags);
	ssize_t (*sendto)(void *u, int fd, const void *buf, size_t n, int flags, const struct sockaddr *addr, socklen_t len);
	ssize_t (*sendmsg)(void *u, int fd, const struct msghdr *msg, int flags);
	int (*fcntl)(void *u, int fd, int cmd, ...);
	int (*ioctl)(void *u, int fd, unsigned long request, ...);
	int (*close)(void *u, int fd);
	int (*shutdown)(void *u, int fd, int how);
	int (*getsockopt)(void *u, int fd, int level, int name, void *val, socklen_t *len);
	int (*setsockopt)(void *u, int fd, int level, int name, const void *val, socklen_t len);
	int (*poll)(void *u, struct pollfd *fds, nfds_t n, int timeout_ms);
	int (*netdev_send)(void *u, const void *packet, size_t n);	/* an IP packet for the stack */
	int (*netdev_receive)(void *u, void *packet, size_t *n, long long *time_us); /* one it sent; *n 0: none came */
	int (*usleep)(void *u, useconds_t us);
	int (*gettimeofday)(void *u, struct timeval *tv, struct timezone *tz);
	int (*epoll_create)(void *u, int size);
	int (*epoll_ctl)(void *u, int epfd, int op, int fd, struct epoll_event *ev);
	int (*epoll_wait)(void *u, int epfd, struct epoll_event *ev, int max, int timeout_ms);
	int (*pipe)(void *u, int fd[2]);
	int (*splice)(void *u, int in, loff_t *off_in, int out, loff_t *off_out, size_t n, unsigned int flags);
};

void packetdrill_interface_init(const char *flags, struct packetdrill_interface *ret_table);

#endif
