/* SPDX-License-Identifier: BSD-2-Clause */
/* exit - what a process had open is closed before its parent hears of its end, however it ends; stdio is flushed before that */
#include "parity.h"
#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>

enum { ROUNDS = 8, MANY = 500 };
static const char *const ways[] = { "exit", "_exit", "quick_exit", "syscall", "a thread in accept", "exec of true", "abort", "SIGTERM", "SIGKILL",
				    "closefrom" };
#define N_WAYS ((int)(sizeof(ways) / sizeof(ways[0])))

static void *accepts(void *arg)
{
	accept(*(int *)arg, NULL, NULL);
	return NULL;
}

static _Noreturn void leave(int way, int listener)
{
	pthread_t thread;

	switch (way) {
	case 1:
		_exit(0);
	case 2:
		quick_exit(0);
	case 3:
		syscall(SYS_exit_group, 0);
		break;
	case 4:
		pthread_create(&thread, NULL, accepts, &listener);
		usleep(2000); /* either way is right; most often it sleeps by then */
		break;
	case 5:
		must("F_SETFD", fcntl(listener, F_SETFD, FD_CLOEXEC));
		execl("/bin/true", "true", NULL);
		break;
	case 6:
		must("RLIMIT_CORE", setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 }));
		abort();
	case 7:
		raise(SIGTERM);
		break;
	case 8:
		raise(SIGKILL);
		break;
	case 9:
		closefrom(3);
		break;
	}
	exit(0);
}

static void child(int way)
{
	struct sockaddr_in at = peer_addr;
	int fd;

	for (int i = 0; i < MANY; i++) /* the listener is not the first to be closed */
		must("socket", socket(AF_INET, SOCK_STREAM, 0));
	fd = (int)must("socket", socket(AF_INET, SOCK_STREAM, 0));
	at.sin_port = htons((uint16_t)(ntohs(at.sin_port) + 1));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
	must("bind", bind(fd, (struct sockaddr *)&at, sizeof(at)));
	must("listen", listen(fd, 5));
	leave(way, fd);
}

static void ends_with(int listener, const char *how)
{
	int fd = peer_accept(listener), status;
	pid_t pid;

	fflush(stdout);
	pid = (pid_t)must("fork", fork());
	if (!pid) {
		FILE *fp = fdopen(fd, "w");

		fprintf(fp, "%s", how);
		exit(0);
	}
	close(fd);
	must("waitpid", waitpid(pid, &status, 0));
	tell('f');
}

/* Is the port free again? */
static void bind_anew(const char *how)
{
	struct sockaddr_in at = peer_addr;
	int fd = (int)must("socket", socket(AF_INET, SOCK_STREAM, 0));

	at.sin_port = htons((uint16_t)(ntohs(at.sin_port) + 1));
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)))
		saw(how, -1);
	close(fd);
}

void server(int listener)
{
	int status;

	for (int i = 0; i < N_WAYS * ROUNDS; i++) {
		pid_t pid;

		fflush(stdout);
		pid = (pid_t)must("fork", fork());
		if (!pid)
			child(i / ROUNDS);
		must("waitpid", waitpid(pid, &status, 0));
		if (status)
			say("%s: status %d", ways[i / ROUNDS], status);
		bind_anew(ways[i / ROUNDS]);
		tell('d');
		await('n');
	}
	ends_with(listener, "unflushed");
}

void client(void)
{
	struct sockaddr_in at = peer_addr;
	char buf[16] = "";
	int fd;

	at.sin_port = htons((uint16_t)(ntohs(at.sin_port) + 1));
	for (int i = 0; i < N_WAYS * ROUNDS; i++) {
		fd = (int)must("socket", socket(AF_INET, SOCK_STREAM, 0));
		await('d');
		saw(ways[i / ROUNDS], connect(fd, (struct sockaddr *)&at, sizeof(at)));
		close(fd);
		tell('n');
	}
	fd = peer_connect();
	await('f');
	read_all(fd, buf, 9);
	say("%s, end: %zd", buf, read(fd, buf, 1));
}
