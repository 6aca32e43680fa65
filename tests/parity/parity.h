/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * parity.h - frame of the parity programs
 *
 * A parity program prints what it saw, and must print the same on the kernel's sockets and on a private host:
 *
 *	prog both|server|client ADDR PORT
 *
 * It defines server() and client(). They meet through a control connection made beforehand: tell() and await() pass a letter
 * that says "go on", so that each step happens in one order only. With `both` the client is a child process; its lines come
 * after the server's. Nothing that may differ between two right runs is printed (times, ports, how much fitted a buffer).
 */
#ifndef PARITY_H
#define PARITY_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/*
 * Compiled with PARITY_IP6 the programs speak IPv6: the words for addresses mean IPv6's. Their last four octets stand for an
 * IPv4 address.
 */
#ifdef PARITY_IP6
#undef AF_INET
#define AF_INET	    AF_INET6
#define sockaddr_in sockaddr_in6
#define sin_family  sin6_family
#define sin_port    sin6_port
#define sin_addr    sin6_addr
#define s_addr	    s6_addr32[3]
#endif

void server(int listener);
void client(void);

extern struct sockaddr_in peer_addr; /* where the server listens */

__attribute__((format(printf, 1, 2))) void say(const char *fmt, ...);
/** saw() - prints "what: r", or the name of the error where r is -1. Return: @r */
long saw(const char *what, long r);
/** must() - ends the program with a line where r is negative: what is not what is tested */
long must(const char *what, long r);
const char *addr_text(const struct sockaddr_in *a); /* valid until the next call */
int control_fd(void); /* of tell() and await(), to wait for it and something else */
void tell(char letter);
void await(char letter);
int peer_connect(void);			/* blocking connection to the server */
int peer_accept(int listener);
void read_all(int fd, void *buf, size_t n);
void write_all(int fd, const void *buf, size_t n);
void fill(uint8_t *buf, size_t n, uint32_t seed);
uint64_t digest(uint64_t h, const void *buf, size_t n); /* FNV-1a; begin with 0 */
const char *poll_bits(unsigned bits);	/* "IN|OUT", valid until the next call but three */
/** poll_for() - waits at most a second until all of @bits hold on @fd. Return: what then holds of @events and the bits always told */
unsigned poll_for(int fd, short events, unsigned bits);
void nonblocking(int fd, bool on);

#endif
