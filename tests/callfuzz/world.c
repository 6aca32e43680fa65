/* SPDX-License-Identifier: BSD-2-Clause */
/* world.c - slots, what they hold, and waiting until both ends of a connection know the same */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "callfuzz.h"

enum { SETTLE_STEPS = 150, PEAK_FD = 200 };

struct world world;
long settle_missed;
static int saved_refs[N_OBJECTS];
static int n_saved;

static void *shared(size_t n)
{
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		perror("callfuzz: mmap");
		exit(2);
	}
	return p;
}

void world_init(void)
{
	world.obj = shared(N_OBJECTS * sizeof(*world.obj));
	world.n_obj = shared(4096);
	world.n_ports = world.n_obj + 1;
	world.port = shared(N_OBJECTS * sizeof(*world.port));
}

void world_begin(void)
{
	*world.n_obj = 0;
	*world.n_ports = 0;
	for (int i = 0; i < N_SLOTS; i++) {
		world.slot[i].fd = -1;
		world.slot[i].obj = -1;
	}
}

int world_end(void)
{
	int left = 0;

	for (int i = 0; i < N_SLOTS; i++)
		slot_set(i, -1, -1);
	for (int fd = 3; fd < PEAK_FD; fd++)
		left += fcntl(fd, F_GETFD) >= 0;
	return left;
}

int slot_fd(int slot)
{
	return slot < 0 || slot >= N_SLOTS ? -1 : world.slot[slot].fd;
}

struct object *slot_obj(int slot)
{
	int i = slot < 0 || slot >= N_SLOTS ? -1 : world.slot[slot].obj;

	return i < 0 ? NULL : &world.obj[i];
}

int object_new(enum what what)
{
	int i = *world.n_obj;

	if (i >= N_OBJECTS) {
		fprintf(stderr, "callfuzz: too many objects\n");
		exit(2);
	}
	++*world.n_obj;
	memset(&world.obj[i], 0, sizeof(*world.obj));
	world.obj[i].what = what;
	world.obj[i].peer = -1;
	return i;
}

void slot_gone(int slot)
{
	int obj = world.slot[slot].obj;

	if (obj >= 0)
		world.obj[obj].refs--;
	world.slot[slot].fd = -1;
	world.slot[slot].obj = -1;
}

void slot_set(int slot, int fd, int obj)
{
	int old = world.slot[slot].fd, old_obj = world.slot[slot].obj;

	slot_gone(slot);
	if (old >= 0 && old != fd) {
		close(old);
		settle(old_obj);
	}
	world.slot[slot].fd = fd;
	world.slot[slot].obj = obj;
	if (obj >= 0)
		world.obj[obj].refs++;
}

/* ---- names that are the same on both sides ---- */

const char *port_name(uint16_t port)
{
	static char name[8][12];
	static unsigned turn;
	char *to = name[turn++ % 8];
	int i;

	if (port < 1024) {
		snprintf(to, 12, "%u", port);
		return to;
	}
	for (i = 0; i < *world.n_ports && world.port[i] != port; i++)
		;
	if (i == *world.n_ports && i < N_OBJECTS)
		world.port[(*world.n_ports)++] = port;
	snprintf(to, 12, "P%d", i);
	return to;
}

const char *addr_name(const struct sockaddr_storage *a, socklen_t len)
{
	static char name[4][80];
	static unsigned turn;
	char *to = name[turn++ % 4], host[INET6_ADDRSTRLEN] = "";
	const struct sockaddr_in *in = (const void *)a;
	const struct sockaddr_in6 *in6 = (const void *)a;

	if (len >= sizeof(*in) && a->ss_family == AF_INET)
		snprintf(to, 80, "%s:%s", inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host)), port_name(ntohs(in->sin_port)));
	else if (len >= sizeof(*in6) && a->ss_family == AF_INET6)
		snprintf(to, 80, "[%s]:%s", inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host)),
			 port_name(ntohs(in6->sin6_port)));
	else
		snprintf(to, 80, "family %d length %u", len >= 2 ? a->ss_family : -1, len);
	return to;
}

/*
 * Ports are chosen by chance, and once in some thousand programs one is met twice: then names say nothing, and the driver
 * leaves the program out.
 */
void port_chosen(int slot)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);
	int saved_errno = errno, known = *world.n_ports;

	if (slot_fd(slot) >= 0 && getsockname(slot_fd(slot), (void *)&a, &len) == 0) {
		uint16_t port = ntohs(((const struct sockaddr_in *)&a)->sin_port);

		if (port >= 1024) {
			port_name(port);
			if (*world.n_ports == known)
				say("    A PORT TWICE\n");
		}
	}
	errno = saved_errno;
}

/* ---- who talks to whom ---- */

static uint16_t port_of(const struct sockaddr_storage *a)
{
	return ntohs(((const struct sockaddr_in *)a)->sin_port); /* in6 has it at the same place */
}

void link_peers(int slot)
{
	struct object *o = slot_obj(slot);
	struct sockaddr_storage a;
	socklen_t len = sizeof(a);
	int saved_errno = errno, me = o ? (int)(o - world.obj) : -1;

	if (!o || getsockname(slot_fd(slot), (void *)&a, &len) < 0)
		goto out;
	o->lport = port_of(&a);
	len = sizeof(a);
	if (getpeername(slot_fd(slot), (void *)&a, &len) < 0)
		goto out;
	o->rport = port_of(&a);
	for (int i = 0; i < *world.n_obj; i++) {
		struct object *p = &world.obj[i];

		if (p->what != W_SOCKET || p->lport != o->rport || p->rport != o->lport || (p->peer >= 0 && i != me))
			continue;
		p->peer = me;
		o->peer = i;
	}
out:
	errno = saved_errno;
}

struct object *object_peer(const struct object *o)
{
	return o->peer >= 0 ? &world.obj[o->peer] : NULL;
}

/* ---- settling ---- */

static int fd_of(int obj)
{
	for (int i = 0; i < N_SLOTS; i++)
		if (world.slot[i].obj == obj)
			return world.slot[i].fd;
	return -1;
}

static int tcp_state_of(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0 ? TCP_CLOSE : info.tcpi_state;
}

static bool still_expects(int fd)
{
	int s = tcp_state_of(fd);

	return s == TCP_ESTABLISHED || s == TCP_FIN_WAIT1 || s == TCP_FIN_WAIT2 || s == TCP_SYN_SENT || s == TCP_SYN_RECV;
}

/* A listener that ends resets the connections that nobody has accepted. */
static bool unaccepted_are_reset(const struct object *l)
{
	for (int i = 0; i < *world.n_obj; i++) {
		const struct object *o = &world.obj[i];

		if (o->what == W_SOCKET && o->peer < 0 && o->refs > 0 && o->rport && o->rport == l->lport &&
		    tcp_state_of(fd_of(i)) != TCP_CLOSE)
			return false;
	}
	return true;
}

/* Has what @obj sent reached its peer, and what the peer's death means reached @obj? */
static bool settled(int obj)
{
	struct object *o = &world.obj[obj], *p = o->peer >= 0 ? &world.obj[o->peer] : NULL;
	int fd = o->refs > 0 ? fd_of(obj) : -1, peer_fd = p && p->refs > 0 ? fd_of(o->peer) : -1, n = 0;

	if (fd >= 0 && tcp_state_of(fd) == TCP_SYN_SENT)
		return false;
	if (o->backlog && (o->refs <= 0 || o->shut_rd) && !unaccepted_are_reset(o))
		return false;
	if (peer_fd >= 0) {
		bool expects = still_expects(peer_fd);

		if ((o->shut_wr || o->refs <= 0) && expects)
			return false;
		if (expects && o->urgent) /* FIONREAD ends at the mark */
			return fd < 0 || ioctl(fd, SIOCOUTQ, &n) || !n;
		if (expects && o->sent > p->rcvd && ioctl(peer_fd, FIONREAD, &n) == 0 && (uint64_t)n < o->sent - p->rcvd)
			return false;
	}
	/* what was sent to nobody is answered by a reset */
	return !(fd >= 0 && p && p != o && p->refs <= 0 && o->sent > p->rcvd && tcp_state_of(fd) != TCP_CLOSE);
}

void settle(int obj)
{
	struct timespec pause = { 0, 20000 };
	int saved_errno = errno;

	if (obj < 0 || world.obj[obj].what != W_SOCKET)
		return;
	for (int i = 0; i < SETTLE_STEPS; i++) {
		if (settled(obj)) {
			errno = saved_errno;
			return;
		}
		nanosleep(&pause, NULL);
		if (pause.tv_nsec < 2000000)
			pause.tv_nsec += pause.tv_nsec / 4;
	}
	settle_missed++;
	errno = saved_errno;
}

/* ---- a child's descriptors are its own; what went over its connections is everybody's ---- */

void world_fork_save(void)
{
	n_saved = *world.n_obj;
	for (int i = 0; i < n_saved; i++)
		saved_refs[i] = world.obj[i].refs;
}

void world_fork_restore(void)
{
	for (int i = 0; i < *world.n_obj; i++)
		world.obj[i].refs = i < n_saved ? saved_refs[i] : 0;
	for (int i = n_saved; i < *world.n_obj; i++)
		settle(i);
}
