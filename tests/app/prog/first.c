/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * first - how long does a program wait for its first socket to be connected, or refused: joining the host included
 *
 *	first ADDR PORT		prints the microseconds
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

static long now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000L + ts.tv_nsec / 1000;
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = { .sin_family = AF_INET };
	long begin = now_us();
	int fd;

	if (argc != 3 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1)
		return 2;
	to.sin_port = htons((unsigned short)atoi(argv[2]));
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0 || (connect(fd, (struct sockaddr *)&to, sizeof(to)) && errno != ECONNREFUSED))
		return 1;
	printf("%ld us\n", now_us() - begin);
	return 0;
}
