/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * warden.c - the small privileged process of a private host (RULES C14)
 *
 * Theory of operation. The warden opens the device, makes the arena's memfd, and answers requests at an abstract SEQPACKET
 * address. It never maps the arena, so nothing that a member writes there can reach it. The unprivileged keeper is its child,
 * started at the first join, so that `ownstack run ls` costs none, and started again if it dies.
 *
 *   start	bind the name (of two who start at once one wins, the other is told -EADDRINUSE and asks the winner), open the
 *		device, say "ready", and only then bring the link up: that takes 1 ms which the program need not wait for.
 *   requests	a connection carries one request and one reply. A JOIN is answered when the keeper has formatted the arena;
 *		the joiner closes the connection when it has its slot, so that we know nobody is half way in.
 *   leaving	nobody who said RUN lives, no connection that asked to join is open, and the keeper is not there or says EMPTY: then, linger
 *		seconds later, the keeper is asked to leave; it looks again and says LEAVES or STAYS.
 *   SIGTERM	the keeper drains for at most 5 s, then both leave. Processes that run on keep the device open themselves.
 *
 * Everything waits in one epoll; epoll data is kind << 32 | descriptor.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/un.h>
#include "../stack/siphash.h"
#include "join.h"
#include "rtnl.h"
#include "search.h"
#include "sys.h"

#define DRAIN_MS	7000 /* the keeper's 5 s and some */
#define CRASHES_MAX	5    /* within CRASH_WINDOW: then the keeper is not started any more */
#define CRASH_WINDOW_US SEC(10)

enum ev_kind { EV_LISTEN = 1, EV_CLIENT, EV_RUN, EV_KEEPER_CTL, EV_KEEPER_PID, EV_SIGNAL };
enum keeper_state { KEEPER_NONE, KEEPER_STARTING, KEEPER_RUNNING, KEEPER_ASKED /* to leave */ };

struct client { /* a connection; in the list of those who wait for the keeper, or only open */
	struct client *next, **prev;
	int fd;
	bool waits;		/* for the keeper */
	bool counts;		/* asked to RUN or JOIN: we stay while it is open. Who only looks does not keep a host alive. */
};

struct warden {
	struct config *cfg;
	struct host_device dev;
	char addr[64], peer[64];
	uint8_t token[16];
	uint32_t owner_uid;
	int epfd, listen_fd, keeper_listen_fd, queue_fd, memfd;
	bool formatted;		/* a keeper has said READY once */
	enum keeper_state keeper;
	int keeper_ctl, keeper_pidfd;
	pid_t keeper_pid;
	bool keeper_empty;
	usec_t crash_since;
	unsigned crashes;
	struct client *clients;
	unsigned n_runs, n_counting;
	bool draining;
	usec_t leave_at;	/* USEC_NEVER: somebody needs us */
	int broken;		/* negative errno and text: nobody can join */
	char broken_text[CONFIG_ERR_BYTES];
};

static void say(const char *what)
{
	fprintf(stderr, "ownstack: %s\n", what);
}

static int watch(struct warden *w, enum ev_kind kind, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = (uint64_t)kind << 32 | (uint32_t)fd };

	return sys_epoll_ctl(w->epfd, EPOLL_CTL_ADD, fd, &ev);
}

/* Takes @fd out and closes it. Closing alone would not do while a keeper that is just being forked has it as well. */
static void unwatch(struct warden *w, int fd)
{
	sys_epoll_ctl(w->epfd, EPOLL_CTL_DEL, fd, NULL);
	sys_close(fd);
}

static void broken(struct warden *w, int rc, const char *text)
{
	if (!w->broken) {
		w->broken = rc;
		snprintf(w->broken_text, sizeof(w->broken_text), "%s", text);
		say(text);
	}
}

/* ---- replies ---- */

static void reply_fill(const struct warden *w, struct warden_reply *r, int status, const char *text)
{
	memset(r, 0, sizeof(*r));
	r->status = status;
	r->protocol = WARDEN_PROTOCOL;
	r->warden_pid = (uint32_t)getpid();
	r->keeper_pid = w->keeper == KEEPER_NONE ? 0 : (uint32_t)w->keeper_pid;
	r->owner_uid = w->owner_uid;
	r->dev_kind = w->dev.kind;
	memcpy(r->ifname, w->dev.ifname, sizeof(r->ifname));
	memcpy(r->addr, w->addr, sizeof(r->addr));
	memcpy(r->peer, w->peer, sizeof(r->peer));
	memcpy(r->token, w->token, sizeof(r->token));
	snprintf(r->text, sizeof(r->text), "%s", text);
}

/* @n_fds of arena and queue go with it. A client that does not read its reply loses it; it never blocks us. */
static void reply_send(const struct warden *w, int fd, int status, const char *text, unsigned n_fds)
{
	struct warden_reply r;
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(2 * sizeof(int))];
	} ctl = { 0 };
	struct iovec iov = { &r, sizeof(r) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	const int fds[2] = { w->memfd, w->queue_fd };
	struct ucred cr = { 0 };
	socklen_t len = sizeof(cr);

	reply_fill(w, &r, status, text);
	sys_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cr, &len);
	r.client_pid = (uint32_t)cr.pid;
	if (n_fds) {
		struct cmsghdr *c = &ctl.align;

		m.msg_control = &ctl;
		m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
	}
	sys_sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* ---- keeper ---- */

/* Close all descriptors from 3 on but the @n of @keep, which gets sorted */
static void close_all_but(int *keep, int n)
{
	unsigned from = 3;

	for (int i = 1; i < n; i++) {
		for (int k = i; k && keep[k - 1] > keep[k]; k--) {
			int higher = keep[k - 1];

			keep[k - 1] = keep[k];
			keep[k] = higher;
		}
	}
	for (int i = 0; i < n; i++) {
		if (keep[i] > (int)from)
			sys_close_range(from, (unsigned)keep[i] - 1);
		from = (unsigned)keep[i] + 1;
	}
	sys_close_range(from, ~0u);
}

/* Of the warden's descriptors the keeper has four: the others would outlive the warden in it, its listening socket above all */
static void keeper_child(struct warden *w, int ctl)
{
	struct keeper_args a = { .cfg = w->cfg, .dev = &w->dev, .token = w->token, .owner_uid = w->owner_uid, .memfd = w->memfd,
				 .queue_fd = w->queue_fd, .listen_fd = w->keeper_listen_fd, .warden_fd = ctl };
	int keep[4] = { w->memfd, w->queue_fd, w->keeper_listen_fd, ctl };
	sigset_t none;

	close_all_but(keep, 4);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	exit(keeper_main(&a));
}

static int keeper_start(struct warden *w)
{
	int sv[2], rc = 0;

	if (w->memfd < 0)
		w->memfd = arena_create(w->cfg->arena_bytes);
	if (w->memfd < 0)
		return w->memfd;
	rc = sys_socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, sv);
	if (rc)
		return rc;
	w->keeper_pid = fork();
	if (!w->keeper_pid) {
		sys_close(sv[0]);
		keeper_child(w, sv[1]);
	}
	sys_close(sv[1]);
	if (w->keeper_pid < 0) {
		sys_close(sv[0]);
		return -errno;
	}
	w->keeper_ctl = sv[0];
	w->keeper_pidfd = sys_pidfd_open(w->keeper_pid);
	w->keeper = KEEPER_STARTING;
	w->keeper_empty = false;
	watch(w, EV_KEEPER_CTL, w->keeper_ctl);
	watch(w, EV_KEEPER_PID, w->keeper_pidfd);
	return 0;
}

static void waiting_answer(struct warden *w)
{
	for (struct client *c = w->clients; c; c = c->next) {
		if (c->waits)
			reply_send(w, c->fd, w->broken, w->broken_text, w->broken ? 0 : 2);
		c->waits = false;
	}
}

static bool anybody_waits(const struct warden *w)
{
	for (const struct client *c = w->clients; c; c = c->next) {
		if (c->waits)
			return true;
	}
	return false;
}

/* Start a keeper for those who wait. What hinders it, they are told. */
static void keeper_want(struct warden *w)
{
	char text[CONFIG_ERR_BYTES];
	int rc;

	if (w->keeper == KEEPER_NONE && !w->broken) {
		rc = keeper_start(w);
		if (rc) {
			snprintf(text, sizeof(text), "host=%s: the keeper cannot be started (%s); free memory or processes", w->cfg->host,
				 strerror(-rc));
			broken(w, rc, text);
		}
	}
	if (w->broken || w->keeper == KEEPER_RUNNING)
		waiting_answer(w);
}

static void keeper_crashed(struct warden *w, int status)
{
	usec_t now = io_now();
	char text[CONFIG_ERR_BYTES];

	if (now - w->crash_since > CRASH_WINDOW_US) {
		w->crash_since = now;
		w->crashes = 0;
	}
	if (++w->crashes <= CRASHES_MAX)
		return;
	snprintf(text, sizeof(text), "host=%s: its keeper died %u times in 10 s (%s %d); end the host with `ownstack down`, see OWNSTACK_LOG",
		 w->cfg->host, w->crashes, WIFSIGNALED(status) ? "signal" : "status",
		 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	broken(w, -EIO, text);
}

/**
 * keeper_gone() - its pidfd says so
 *
 * A keeper that was asked to leave and did is not missed, unless somebody asked to join meanwhile. Any other death is a
 * crash: a new one takes over, if there is an arena it can take over.
 */
static void keeper_gone(struct warden *w)
{
	bool asked = w->keeper == KEEPER_ASKED;
	int status = 0;

	sys_wait(w->keeper_pid, &status);
	unwatch(w, w->keeper_ctl);
	unwatch(w, w->keeper_pidfd);
	w->keeper = KEEPER_NONE;
	w->keeper_empty = true;
	if (w->draining)
		return;
	if (asked && !status && !anybody_waits(w)) {
		w->leave_at = 0; /* the linger time is over already */
		return;
	}
	if (!asked || status)
		keeper_crashed(w, status);
	keeper_want(w);
}

static void search(const struct warden *w)
{
	struct keeper_found found = { .what = TELL_KEEPER_FOUND };

	found.n = arena_search(w->memfd, found.pid, KEEPER_FOUND_MAX);
	sys_send(w->keeper_ctl, &found, offsetof(struct keeper_found, pid) + found.n * sizeof(found.pid[0]), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void keeper_says(struct warden *w)
{
	char msg[CONFIG_ERR_BYTES + 1];
	ssize_t n = sys_recv(w->keeper_ctl, msg, sizeof(msg) - 1, MSG_DONTWAIT);

	if (n <= 0) { /* its end: the pidfd tells the rest */
		if (n != -EAGAIN)
			sys_epoll_ctl(w->epfd, EPOLL_CTL_DEL, w->keeper_ctl, NULL);
		return;
	}
	msg[n] = 0;
	switch (msg[0]) {
	case KEEPER_READY:
		w->keeper = KEEPER_RUNNING;
		w->formatted = true;
		waiting_answer(w);
		break;
	case KEEPER_EMPTY:
	case KEEPER_BUSY:
		w->keeper_empty = msg[0] == KEEPER_EMPTY;
		break;
	case KEEPER_STAYS:
		w->keeper = KEEPER_RUNNING;
		w->keeper_empty = false;
		waiting_answer(w);
		break;
	case KEEPER_SEARCHES:
		search(w);
		break;
	case KEEPER_FAILED:
		broken(w, -EIO, msg + 1);
		waiting_answer(w);
		break;
	case KEEPER_NOTES:
		say(msg + 1);
		break;
	}
}

/* ---- requests ---- */

static void client_free(struct warden *w, struct client *c)
{
	*c->prev = c->next;
	if (c->next)
		c->next->prev = c->prev;
	w->n_counting -= c->counts;
	unwatch(w, c->fd);
	free(c);
}

static void client_accept(struct warden *w)
{
	int fd;

	while ((fd = sys_accept(w->listen_fd, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
		struct client *c = calloc(1, sizeof(*c));

		if (!c || watch(w, EV_CLIENT, fd)) {
			free(c);
			sys_close(fd);
			continue;
		}
		c->fd = fd;
		c->next = w->clients;
		c->prev = &w->clients;
		if (c->next)
			c->next->prev = &c->next;
		w->clients = c;
	}
}

static bool allowed(const struct warden *w, const struct ucred *cr, const struct warden_req *req, bool token_will_do)
{
	if (cr->uid == w->owner_uid || cr->uid == 0)
		return true;
	return token_will_do && !memcmp(req->token, w->token, sizeof(w->token));
}

/* The request names a device or an address: is it ours? Return: 0, or -EEXIST with a line in @text */
static int same_device(const struct warden *w, const struct warden_req *req, char *text, size_t bytes)
{
	const char *kind = w->dev.kind == IO_KIND_TAP ? "tap" : "packet";
	bool tap_differs = req->tap[0] && (w->dev.kind != IO_KIND_TAP || strncmp(req->tap, w->dev.ifname, sizeof(req->tap)));
	bool packet_differs = req->packet[0] && (w->dev.kind != IO_KIND_PACKET || strncmp(req->packet, w->dev.ifname, sizeof(req->packet)));
	char addr[64];

	if (tap_differs || packet_differs) {
		snprintf(text, bytes, "%s=%.15s: host %s runs on %s %s already; name another host with --host, or end it with `ownstack down`",
			 tap_differs ? "tap" : "packet", tap_differs ? req->tap : req->packet, w->cfg->host, kind, w->dev.ifname);
		return -EEXIST;
	}
	for (uint32_t i = 0; req->addr.set && i < w->cfg->n_addr; i++) {
		if (ipaddr_eq(req->addr.addr, w->cfg->addr[i].addr))
			return 0;
	}
	if (!req->addr.set)
		return 0;
	snprintf(text, bytes, "addr=%s: host %s runs with %s already; name another host with --host, or end it with `ownstack down`",
		 config_cidr_text(&req->addr, true, addr, sizeof(addr)), w->cfg->host, w->addr);
	return -EEXIST;
}

/* Stay while @pid lives */
static void run_watch(struct warden *w, int pidfd)
{
	if (pidfd >= 0 && !watch(w, EV_RUN, pidfd))
		w->n_runs++;
}

static int peer_pidfd(int fd, pid_t pid)
{
	int pidfd = -1;
	socklen_t len = sizeof(pidfd);

	/* before Linux 6.5 a number must do */
	return sys_getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &len) ? sys_pidfd_open(pid) : pidfd;
}

static void drain_begin(struct warden *w)
{
	const char tell = TELL_KEEPER_DRAIN;

	w->draining = true;
	w->leave_at = w->keeper == KEEPER_NONE ? 0 : io_now() + MSEC(DRAIN_MS);
	if (w->keeper != KEEPER_NONE)
		sys_send(w->keeper_ctl, &tell, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void request(struct warden *w, struct client *c, const struct warden_req *req, const struct ucred *cr)
{
	char text[CONFIG_ERR_BYTES];
	int rc;

	if (!allowed(w, cr, req, req->op != WARDEN_DOWN)) {
		snprintf(text, sizeof(text), "host=%s: it belongs to user %u; choose another with --host, or become that user",
			 w->cfg->host, w->owner_uid);
		reply_send(w, c->fd, -EACCES, text, 0);
		return;
	}
	switch (req->op) {
	case WARDEN_RUN:
	case WARDEN_JOIN:
		rc = w->draining ? -EPIPE : same_device(w, req, text, sizeof(text));
		if (w->draining)
			snprintf(text, sizeof(text), "host=%s: it is being ended; start the program again", w->cfg->host);
		if (rc) {
			reply_send(w, c->fd, rc, text, 0);
		} else if (req->op == WARDEN_RUN) {
			run_watch(w, peer_pidfd(c->fd, cr->pid));
			reply_send(w, c->fd, w->broken, w->broken_text, 0);
		} else {
			w->n_counting += !c->counts;
			c->waits = c->counts = true;
			keeper_want(w);
		}
		break;
	case WARDEN_LOOK:
		reply_send(w, c->fd, 0, w->broken_text, w->formatted ? 1 : 0);
		break;
	case WARDEN_DOWN:
		reply_send(w, c->fd, 0, "", 0);
		drain_begin(w);
		break;
	default:
		reply_send(w, c->fd, -EINVAL, "host: request of another version of ownstack", 0);
	}
}

static void client_readable(struct warden *w, int fd)
{
	struct warden_req req;
	struct ucred cr;
	socklen_t len = sizeof(cr);
	struct client *c = w->clients;
	ssize_t n;

	while (c && c->fd != fd)
		c = c->next;
	if (!c)
		return;
	n = sys_recv(fd, &req, sizeof(req), MSG_DONTWAIT);
	if (n == -EAGAIN)
		return;
	if (n != (ssize_t)sizeof(req) || req.protocol != WARDEN_PROTOCOL || sys_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cr, &len)) {
		if (n > 0)
			reply_send(w, fd, -EPROTO, "host: request of another version of ownstack", 0);
		client_free(w, c);
		return;
	}
	request(w, c, &req, &cr);
}

/* ---- the device ---- */

static int device_failed(const struct config *cfg, int rc, char *text, size_t bytes)
{
	bool packet = cfg->packet[0];
	const char *setting = packet ? "packet" : "tap", *value = packet ? cfg->packet : strchr(cfg->tap, '%') ? "(chosen)" : cfg->tap;
	const char *why = rc == -EPERM || rc == -EACCES ?
				  (packet ? "needs CAP_NET_RAW; run as root, or `setcap cap_net_raw+ep` the ownstack command" :
					    "needs CAP_NET_ADMIN or a device of your own; run as root, or `ip tuntap add NAME mode tap "
					    "user YOU multi_queue vnet_hdr` first") :
			  rc == -ENODEV || rc == -ENXIO ? (packet ? "there is no such interface; see `ip link`" : "there is no such device; see `ip link`") :
			  rc == -ENOENT ? "/dev/net/tun is missing; `modprobe tun`, or give the container --device /dev/net/tun" :
			  rc == -EADDRINUSE ? "the kernel's side has the address given with --mac; choose another" :
			  rc == -EBUSY ? "another program holds it; choose another name" :
			  rc == -EINVAL ? "it is not of the kind we need (a TAP needs multi_queue and vnet_hdr); let ownstack create it" : NULL;

	if (rc == -EMFILE)
		snprintf(text, bytes, "RLIMIT_NOFILE: too low to open the device; `ulimit -n 1024`");
	else if (why)
		snprintf(text, bytes, "%s=%s: %s", setting, value, why);
	else
		snprintf(text, bytes, "%s=%s: %s; see `ownstack doctor`", setting, value, strerror(-rc));
	return rc;
}

/* The addresses that follow from what was given: ours from the kernel's side, all of it where no device is named */
static int addresses_choose(struct config *cfg)
{
	struct config_cidr ours = { 0 };
	bool chosen = !config_has_device(cfg);
	uint32_t peer;
	int rc;

	if (chosen) {
		snprintf(cfg->tap, sizeof(cfg->tap), "own%%d");
		if (!cfg->tap_peer.set && !cfg->n_addr) {
			rc = rtnl_free_net(cfg->host, &cfg->tap_peer, &ours);
			if (rc)
				return rc;
		}
	}
	if (cfg->tap_peer.set && !ours.set && !cfg->n_addr) {
		ours = cfg->tap_peer;
		peer = __builtin_bswap32(ours.addr.w[3]);
		if (ours.prefix_len < 31)
			peer = (peer & 3) == 1 || ours.prefix_len < 30 ? peer + 1 : peer - 1;
		else
			peer ^= 1;
		ours.addr = ipaddr_v4(__builtin_bswap32(peer));
	}
	if (ours.set) {
		cfg->addr = malloc(sizeof(*cfg->addr));
		if (!cfg->addr)
			return -ENOMEM;
		*cfg->addr = ours;
		cfg->n_addr = 1;
	}
	/* without a way out the rest of the world is better left to the kernel's sockets */
	if (cfg->tap_peer.set && !cfg->gateway.set && cfg->nat)
		cfg->gateway = cfg->tap_peer;
	return 0;
}

/*
 * The secret of our interface ids: the same at each start of this host on this machine, not to be guessed from outside
 * (machine-id(5)). Without a machine id they are made of the Ethernet address, which is the same at each start as well.
 */
static void ip6_secret(const char *host_name, uint64_t ret_secret[2])
{
	const struct sipkey use = { { 0x6f776e737461636b, 0x7266633732313700 } };
	uint64_t words[12] = { 0 };
	int fd = sys_open("/etc/machine-id", O_RDONLY | O_CLOEXEC, 0);
	ssize_t n = fd < 0 ? fd : sys_read(fd, words, 32);

	if (fd >= 0)
		sys_close(fd);
	ret_secret[0] = ret_secret[1] = 0;
	if (n != 32)
		return;
	snprintf((char *)&words[4], 32, "%s", host_name);
	for (unsigned i = 0; i < 2; i++) {
		words[8] = i;
		ret_secret[i] = siphash24(&use, words, 9);
	}
}

/**
 * device_claim() - no other host speaks through this device
 *
 * The kernel would not mind: a TAP would deal our frames out between the two. The claim is an abstract socket name, which
 * goes with us, however we end.
 */
static int device_claim(const struct io_dev_config *dc, char *text, size_t bytes)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int n = snprintf(sa.sun_path + 1, sizeof(sa.sun_path) - 1, "ownstack-device/%s", dc->ifname);
	int fd = sys_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	int rc = fd < 0 ? fd : sys_bind(fd, &sa, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n));

	if (rc)
		snprintf(text, bytes, "%s=%s: %s; see `ownstack ps`", dc->kind == IO_KIND_TAP ? "tap" : "packet", dc->ifname,
			 rc == -EADDRINUSE ? "another host speaks through it; name another device, or join that host with --host" :
					     strerror(-rc));
	return rc; /* the descriptor stays open as long as we live */
}

static int device_open(struct warden *w, char *text, size_t bytes)
{
	struct config *cfg = w->cfg;
	struct io_dev_config dc = { .mtu_bytes = (uint16_t)cfg->mtu, .create = true };
	int rc = addresses_choose(cfg);

	if (rc) {
		snprintf(text, bytes, "addr=: no free network found (%s); give --tap-peer A.B.C.D/30", strerror(-rc));
		return rc;
	}
	dc.kind = cfg->packet[0] ? IO_KIND_PACKET : IO_KIND_TAP;
	snprintf(dc.ifname, sizeof(dc.ifname), "%s", cfg->packet[0] ? cfg->packet : cfg->tap);
	memcpy(dc.mac, cfg->mac, sizeof(dc.mac));
	w->queue_fd = cfg->packet[0] ? io_packet_open(&dc, &w->dev.caps) : io_tap_open(&dc, &w->dev.caps);
	if (w->queue_fd < 0)
		return device_failed(cfg, w->queue_fd, text, bytes);
	rc = device_claim(&dc, text, bytes);
	if (rc)
		return rc;
	w->dev.kind = dc.kind;
	memcpy(w->dev.ifname, dc.ifname, sizeof(w->dev.ifname));
	w->dev.ifindex = rtnl_ifindex(dc.ifname);
	ip6_secret(cfg->host, w->dev.ip6_secret);
	if (cfg->n_addr)
		config_cidr_text(&cfg->addr[0], true, w->addr, sizeof(w->addr));
	if (cfg->tap_peer.set)
		config_cidr_text(&cfg->tap_peer, true, w->peer, sizeof(w->peer));
	return 0;
}

/* name of our nft table: what nft takes as an identifier */
static void table_name(const struct warden *w, char buf[64])
{
	snprintf(buf, 64, "ownstack_%s", w->cfg->host);
	for (char *p = buf; *p; p++) {
		if (*p == '-' || *p == '.')
			*p = '_';
	}
}

static int nft_run(const char *script)
{
	FILE *p = popen("PATH=\"$PATH:/usr/sbin:/sbin\" nft -f -", "we");

	if (!p)
		return -errno;
	fputs(script, p);
	return pclose(p) ? -EIO : 0;
}

static int nat_up(const struct warden *w)
{
	int fd = sys_open("/proc/sys/net/ipv4/ip_forward", O_WRONLY | O_CLOEXEC, 0), rc;
	char table[64], script[1024];

	rc = fd < 0 ? fd : (int)sys_write(fd, "1", 1);
	if (fd >= 0)
		sys_close(fd);
	if (rc < 0)
		return rc;
	table_name(w, table);
	snprintf(script, sizeof(script),
		 "table ip %s\ndelete table ip %s\ntable ip %s {\n"
		 "chain leaving { type nat hook postrouting priority 100; policy accept; ip saddr %s oifname != \"%s\" masquerade; }\n"
		 "chain through { type filter hook forward priority 0; policy accept; iifname \"%s\" accept; oifname \"%s\" accept; }\n}\n",
		 table, table, table, w->addr, w->dev.ifname, w->dev.ifname, w->dev.ifname);
	return nft_run(script);
}

static void nat_down(const struct warden *w)
{
	char table[64], script[256];

	table_name(w, table);
	snprintf(script, sizeof(script), "table ip %s\ndelete table ip %s\n", table, table);
	nft_run(script);
}

/* The kernel's side, after the program was told to go on: what fails is told to those who join */
static void link_configure(struct warden *w)
{
	const struct config *cfg = w->cfg;
	char text[CONFIG_ERR_BYTES];
	int rc = 0;

	if (w->dev.kind == IO_KIND_TAP && (cfg->tap_peer.set || cfg->tap_peer6.set)) {
		rc = rtnl_link_up(w->dev.ifname);
		if (!rc && cfg->tap_peer6.set)
			rc = rtnl_addr_add(w->dev.ifname, &cfg->tap_peer6);
		if (rc && cfg->tap_peer6.set)
			config_cidr_text(&cfg->tap_peer6, true, w->peer, sizeof(w->peer));
		else if (!rc && cfg->tap_peer.set)
			rc = rtnl_addr_add(w->dev.ifname, &cfg->tap_peer);
		if (rc) {
			snprintf(text, sizeof(text), "tap-peer=%s: %s cannot be given this address (%s); run as root, or set it with `ip addr`",
				 w->peer, w->dev.ifname, strerror(-rc));
			broken(w, rc, text);
		}
	}
	if (!rc && cfg->nat) {
		rc = nat_up(w);
		if (rc)
			broken(w, rc, "nat=1: the nft table cannot be made; install nftables and run as root");
	}
}

/* ---- life ---- */

/* Only what the warden needs stays open; 0 to 2 are of no terminal or pipe any more */
static void fds_sever(const struct config *cfg, int keep)
{
	int null = sys_open("/dev/null", O_RDWR | O_CLOEXEC, 0);
	int log = cfg->log[0] ? sys_open(cfg->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;

	for (int fd = 0; fd < 3; fd++)
		sys_dup3(fd == 2 && log >= 0 ? log : null, fd, 0);
	close_all_but(&keep, 1);
}

static int listen_at(const char *name, const char *who, int type)
{
	struct sockaddr_un sa;
	socklen_t len = warden_address(name, who, &sa);
	int fd = sys_socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), rc;

	if (fd < 0)
		return fd;
	rc = sys_bind(fd, &sa, len);
	if (!rc)
		rc = sys_listen(fd, 4096);
	if (rc) {
		sys_close(fd);
		return rc;
	}
	return fd;
}

static int signals_open(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_SETMASK, &set, NULL);
	for (int s = 1; s < 32; s++) { /* what our starter ignored or handled is not ours */
		if (s != SIGKILL && s != SIGSTOP)
			signal(s, s == SIGPIPE || s == SIGHUP ? SIG_IGN : SIG_DFL);
	}
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Is there anybody we are here for? If not, remember since when, and after the linger time leave, or ask the keeper to */
static bool time_to_leave(struct warden *w)
{
	bool needed = w->n_runs || w->n_counting || w->keeper == KEEPER_STARTING || w->keeper == KEEPER_ASKED ||
		      (w->keeper == KEEPER_RUNNING && !w->keeper_empty);
	const char tell = TELL_KEEPER_LEAVE;

	if (w->draining)
		return w->keeper == KEEPER_NONE || io_now() >= w->leave_at;
	/* a host that never came to be: the next who tries shall start afresh, perhaps with what was missing */
	if (w->broken && !w->formatted && w->keeper == KEEPER_NONE && !w->n_counting)
		return true;
	if (needed) {
		w->leave_at = USEC_NEVER;
		return false;
	}
	/* also where nobody ever joined: closing a TAP takes the kernel 10 ms, which the next `ownstack run ls` would wait for */
	if (w->leave_at == USEC_NEVER)
		w->leave_at = io_now() + SEC(w->cfg->linger_s);
	if (io_now() < w->leave_at)
		return false;
	if (w->keeper == KEEPER_NONE)
		return true;
	w->keeper = KEEPER_ASKED;
	w->leave_at = USEC_NEVER;
	sys_send(w->keeper_ctl, &tell, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	return false;
}

static int timeout_ms(const struct warden *w)
{
	usec_t now = io_now();

	if (w->leave_at == USEC_NEVER)
		return -1;
	return w->leave_at <= now ? 0 : (int)((w->leave_at - now + 999) / 1000);
}

static void event(struct warden *w, uint64_t data)
{
	int fd = (int)(uint32_t)data;

	switch ((enum ev_kind)(data >> 32)) {
	case EV_LISTEN:
		client_accept(w);
		break;
	case EV_CLIENT:
		client_readable(w, fd);
		break;
	case EV_RUN:
		unwatch(w, fd);
		w->n_runs--;
		break;
	case EV_KEEPER_CTL:
		if (w->keeper != KEEPER_NONE && fd == w->keeper_ctl)
			keeper_says(w);
		break;
	case EV_KEEPER_PID:
		if (w->keeper != KEEPER_NONE && fd == w->keeper_pidfd)
			keeper_gone(w);
		break;
	case EV_SIGNAL:
		sys_epoll_ctl(w->epfd, EPOLL_CTL_DEL, fd, NULL);
		drain_begin(w);
		break;
	}
}

static void serve(struct warden *w)
{
	struct epoll_event ev[32];
	int n;

	while (!time_to_leave(w)) {
		n = sys_epoll_wait(w->epfd, ev, 32, timeout_ms(w));
		for (int i = 0; i < n; i++)
			event(w, ev[i].data.u64);
	}
}

/* What the program that started us may not have, its helpers may need: as much as we can get */
static void limits_raise(void)
{
	static const int which[] = { RLIMIT_AS, RLIMIT_NOFILE };

	for (size_t i = 0; i < sizeof(which) / sizeof(which[0]); i++) {
		struct rlimit r, want;

		getrlimit(which[i], &r);
		want = (struct rlimit){ RLIM_INFINITY, RLIM_INFINITY };
		if (which[i] == RLIMIT_NOFILE)
			want.rlim_cur = want.rlim_max = r.rlim_max > 1 << 20 ? r.rlim_max : 1 << 20;
		if (!setrlimit(which[i], &want))
			continue;
		r.rlim_cur = r.rlim_max;
		setrlimit(which[i], &r);
	}
}

static int warden_open(struct warden *w, int for_pidfd, char *text, size_t bytes)
{
	int sigfd = signals_open(), rc;

	text[0] = 0;
	w->listen_fd = listen_at(w->cfg->host, "warden", SOCK_SEQPACKET);
	if (w->listen_fd == -EADDRINUSE)
		return -EADDRINUSE; /* without text: another warden was quicker, ask that one */
	w->keeper_listen_fd = w->listen_fd < 0 ? w->listen_fd : listen_at(w->cfg->host, "keeper", SOCK_STREAM);
	w->epfd = sys_epoll_create();
	rc = w->keeper_listen_fd < 0 ? w->keeper_listen_fd : w->epfd < 0 ? w->epfd : 0;
	if (!rc && sys_call(SYS_getrandom, w->token, sizeof(w->token), 0, 0, 0, 0) != (long)sizeof(w->token))
		rc = -EIO;
	if (rc) {
		snprintf(text, bytes, "host=%s: its warden cannot listen (%s); see `ownstack ps`", w->cfg->host, strerror(-rc));
		return rc;
	}
	rc = device_open(w, text, bytes);
	if (rc)
		return rc;
	watch(w, EV_LISTEN, w->listen_fd);
	watch(w, EV_SIGNAL, sigfd);
	run_watch(w, for_pidfd);
	return 0;
}

_Noreturn void warden_main(struct config *cfg, int ready_fd, pid_t for_pid)
{
	struct warden w = { .cfg = cfg, .epfd = -1, .queue_fd = -1, .memfd = -1, .keeper_ctl = -1, .leave_at = USEC_NEVER,
			    .owner_uid = (uint32_t)getuid() };
	struct warden_reply r;
	char text[CONFIG_ERR_BYTES];
	int for_pidfd, rc;

	setsid();
	limits_raise();
	fds_sever(cfg, ready_fd);
	for_pidfd = for_pid ? sys_pidfd_open(for_pid) : -1;
	if (chdir("/"))
		say("/ cannot be entered");
	prctl(PR_SET_NAME, "ownstack-warden", 0, 0, 0);
	config_token(cfg, w.token);
	rc = warden_open(&w, for_pidfd, text, sizeof(text));
	reply_fill(&w, &r, rc, text);
	sys_send(ready_fd, &r, sizeof(r), MSG_NOSIGNAL);
	sys_close(ready_fd);
	if (rc)
		exit(1);
	link_configure(&w);
	serve(&w);
	if (cfg->nat)
		nat_down(&w);
	exit(0);
}
