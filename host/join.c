/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * join.c - the process's side of joining
 *
 * A process asks the warden once, gets arena and queue, maps the one and keeps the other as a number. Four descriptors are ours
 * in its table (six where it is a passenger), as high as RLIMIT_NOFILE lets them be, with FD_CLOEXEC: queue, placeholder, link,
 * and the window to the host's network namespace (window.c). Each is known by its inode, and made again where the program closed
 * it. The link is a stream to the keeper: its end says "this image is gone".
 *
 * Only raw system calls here (sys.h): we are inside a program whose socket calls we replace.
 */
#include <dlfcn.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/un.h>
#include "join.h"
#include "passenger.h"
#include "slot.h"
#include "sys.h"
#include "thr.h"
#include "window.h"

#define OUR_FD_LOWEST	 1000
#define REPLY_TIMEOUT_S	 10
#define RACE_TRIES	 1000

struct our_fd { /* one descriptor of ours: number, and what it was when we opened it */
	int fd;
	uint64_t dev, ino;
};
static struct our_fd our_fds[HOST_FDS_MAX] = { { .fd = -1 }, { .fd = -1 }, { .fd = -1 }, { .fd = -1 }, { .fd = -1 }, { .fd = -1 } };
#define our_queue	our_fds[HOST_FD_QUEUE]
#define our_placeholder our_fds[HOST_FD_PLACEHOLDER]
#define our_link	our_fds[HOST_FD_LINK]
#define our_bell	our_fds[HOST_FD_BELL]
static struct config *our_config; /* to ask again */

/* ---- descriptors of ours ---- */

static bool our_fd_holds(const struct our_fd *o)
{
	struct stat st;

	if (passenger) /* it may not ask, nor make another */
		return o->fd >= 0;
	return o->fd >= 0 && !sys_fstat(o->fd, &st) && st.st_dev == o->dev && st.st_ino == o->ino;
}

/* Takes @fd and moves it up, out of the program's way. Return: its number, negative errno (then @fd is closed) */
static int our_fd_set(struct our_fd *o, int fd)
{
	struct stat st;
	int up, rc;

	for (int at = OUR_FD_LOWEST; at > fd; at /= 2) {
		up = sys_fcntl(fd, F_DUPFD_CLOEXEC, at);
		if (up >= 0) {
			sys_close(fd);
			fd = up;
			break;
		}
	}
	rc = sys_fstat(fd, &st);
	if (rc) {
		sys_close(fd);
		return rc;
	}
	*o = (struct our_fd){ .fd = fd, .dev = st.st_dev, .ino = st.st_ino };
	if (fd < host_fd_lowest)
		host_fd_lowest = fd;
	return fd;
}

/* the number may be the program's by now: only close what is still ours */
static void our_fd_close(struct our_fd *o)
{
	if (our_fd_holds(o))
		sys_close(o->fd);
	o->fd = -1;
}

int host_fd_lowest = INT_MAX;

bool host_fd_is_listed(int fd)
{
	for (unsigned i = 0; fd >= 0 && i < HOST_FDS_MAX; i++)
		if (fd == our_fds[i].fd)
			return true;
	return false;
}

int host_fd_adopt(enum host_fd which, int fd)
{
	return our_fd_set(&our_fds[which], fd);
}

void host_fd_drop(enum host_fd which)
{
	our_fd_close(&our_fds[which]);
}

unsigned host_fds(int ret_fds[HOST_FDS_MAX])
{
	unsigned n = 0;

	for (unsigned i = 0; i < HOST_FDS_MAX; i++) {
		const struct our_fd *o = &our_fds[i];
		unsigned at = n;

		if (!our_fd_holds(o))
			continue;
		for (; at && ret_fds[at - 1] > o->fd; at--)
			ret_fds[at] = ret_fds[at - 1];
		ret_fds[at] = o->fd;
		n++;
	}
	return n;
}

/* ---- talking to the warden ---- */

socklen_t warden_address(const char *name, const char *who, struct sockaddr_un *ret_sa)
{
	memset(ret_sa, 0, sizeof(*ret_sa));
	ret_sa->sun_family = AF_UNIX;
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
			   (size_t)snprintf(ret_sa->sun_path + 1, sizeof(ret_sa->sun_path) - 1, "ownstack/%s/%s", name, who));
}

/* May we trust who answers under the host's name: root, ourselves, or (checked later) whoever knows the token */
static bool peer_trusted(int fd, const struct config *cfg)
{
	struct ucred cr;
	socklen_t len = sizeof(cr);

	if (sys_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cr, &len))
		return false;
	return cr.uid == 0 || cr.uid == (uid_t)sys_call(SYS_geteuid, 0, 0, 0, 0, 0, 0) ||
	       cr.uid == (uid_t)sys_call(SYS_getuid, 0, 0, 0, 0, 0, 0) || cfg->token[0];
}

static void fds_of(struct msghdr *m, int ret_fds[2])
{
	ret_fds[0] = ret_fds[1] = -1;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
			size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

			memcpy(ret_fds, CMSG_DATA(c), (n < 2 ? n : 2) * sizeof(int));
		}
	}
}

/* One reply, with descriptors. Return: 0, -EPIPE: the warden went away, negative errno */
static int reply_read(int fd, struct warden_reply *ret_reply, int ret_fds[2])
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(2 * sizeof(int))];
	} ctl;
	struct iovec iov = { ret_reply, sizeof(*ret_reply) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &ctl, .msg_controllen = sizeof(ctl) };
	ssize_t n;

	do
		n = sys_recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	while (n == -EINTR);
	if (n != (ssize_t)sizeof(*ret_reply))
		return n == -EAGAIN ? -ETIMEDOUT : n == 0 || n == -ECONNRESET ? -EPIPE : n < 0 ? (int)n : -EPROTO;
	fds_of(&m, ret_fds);
	return ret_reply->protocol == WARDEN_PROTOCOL ? 0 : -EPROTO;
}

static int asked_failed(const struct config *cfg, int rc, char *ret_err, size_t err_bytes)
{
	const char *what = rc == -ETIMEDOUT ? "its warden does not answer; see `ownstack doctor`, or end it with `ownstack down`" :
			   rc == -EPROTO ? "its warden is of another version of ownstack; end it with `ownstack down`" :
			   rc == -EACCES ? "another user answers under this name; choose another with --host" :
			   rc == -EPIPE || rc == -ECONNREFUSED ? "its warden went away; start the program again" : NULL;

	if (rc == -EMFILE)
		snprintf(ret_err, err_bytes, "RLIMIT_NOFILE: no descriptor is left to ask the warden of host %s; raise it (ulimit -n)", cfg->host);
	else if (what)
		snprintf(ret_err, err_bytes, "host=%s: %s", cfg->host, what);
	else
		snprintf(ret_err, err_bytes, "host=%s: %s; see `ownstack doctor`", cfg->host, strerror(-rc));
	return rc;
}

static int warden_connect(const struct config *cfg)
{
	const struct timeval patience = { REPLY_TIMEOUT_S, 0 };
	struct sockaddr_un sa;
	socklen_t len = warden_address(cfg->host, "warden", &sa);
	int fd = host_socket(AF_UNIX, SOCK_SEQPACKET), rc;

	if (fd < 0)
		return fd;
	sys_setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	sys_setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	rc = sys_connect(fd, &sa, len);
	if (!rc && !peer_trusted(fd, cfg))
		rc = -EACCES;
	if (rc) {
		sys_close(fd);
		return rc;
	}
	return fd;
}

static void fds_close(int fds[2])
{
	for (int i = 0; i < 2; i++) {
		if (fds[i] >= 0)
			sys_close(fds[i]);
		fds[i] = -1;
	}
}

int warden_ask(const struct config *cfg, enum warden_op op, struct warden_reply *ret_reply, int ret_fds[2], int *ret_conn,
	       char *ret_err, size_t err_bytes)
{
	struct warden_req req = { .protocol = WARDEN_PROTOCOL, .op = op };
	int fds[2] = { -1, -1 }, fd = warden_connect(cfg), rc;
	uint8_t token[16];
	ssize_t n;

	if (fd == -ECONNREFUSED)
		return fd;
	if (fd < 0)
		return asked_failed(cfg, fd, ret_err, err_bytes);
	if (config_token(cfg, token))
		memcpy(req.token, token, sizeof(token));
	memcpy(req.tap, cfg->tap, sizeof(req.tap));
	memcpy(req.packet, cfg->packet, sizeof(req.packet));
	if (cfg->n_addr)
		req.addr = cfg->addr[0];
	n = sys_send(fd, &req, sizeof(req), MSG_NOSIGNAL);
	rc = n < 0 ? (int)n : reply_read(fd, ret_reply, fds);
	if (rc) {
		sys_close(fd);
		return asked_failed(cfg, rc, ret_err, err_bytes);
	}
	if (ret_fds)
		memcpy(ret_fds, fds, sizeof(fds));
	else
		fds_close(fds);
	if (ret_conn)
		*ret_conn = fd;
	else
		sys_close(fd);
	return 0;
}

/* ---- starting one ---- */

/**
 * bin_find() - path of the `ownstack` command
 *
 * OWNSTACK_BIN, or where it is relative to this library when installed (lib/ownstack/../../bin) or in the build tree
 * (preload/../cli), or along PATH.
 */
static bool bin_find(char *buf, size_t bytes)
{
	static const char *const near[] = { "../../bin/ownstack", "../cli/ownstack", "ownstack" };
	const char *env = getenv("OWNSTACK_BIN"), *path = getenv("PATH"), *slash;
	Dl_info info;

	if (env && *env) {
		snprintf(buf, bytes, "%s", env);
		return !sys_call(SYS_faccessat, AT_FDCWD, buf, X_OK, 0, 0, 0);
	}
	if (dladdr((void *)(uintptr_t)warden_spawn_exec, &info) && info.dli_fname && (slash = strrchr(info.dli_fname, '/'))) {
		for (size_t i = 0; i < sizeof(near) / sizeof(near[0]); i++) {
			snprintf(buf, bytes, "%.*s/%s", (int)(slash - info.dli_fname), info.dli_fname, near[i]);
			if (!sys_call(SYS_faccessat, AT_FDCWD, buf, X_OK, 0, 0, 0))
				return true;
		}
	}
	while (path && *path) {
		size_t n = strcspn(path, ":");

		snprintf(buf, bytes, "%.*s/ownstack", (int)n, path);
		if (!sys_call(SYS_faccessat, AT_FDCWD, buf, X_OK, 0, 0, 0))
			return true;
		path += n + (path[n] == ':');
	}
	return false;
}

/* the environment without LD_PRELOAD: the command is not to be preloaded into */
static char **env_without_preload(void)
{
	extern char **environ;
	size_t n = 0, k = 0;
	char **env;

	while (environ && environ[n])
		n++;
	env = calloc(n + 1, sizeof(*env));
	for (size_t i = 0; env && i < n; i++) {
		if (strncmp(environ[i], "LD_PRELOAD=", 11))
			env[k++] = environ[i];
	}
	return env;
}

/**
 * warden_spawn_exec() - fork twice, exec `ownstack warden`
 *
 * The child in between ends at once without SIGCHLD, so that the program's own wait() never sees one of ours.
 */
int warden_spawn_exec(const struct config *cfg, int ready_fd, pid_t for_pid)
{
	char bin[512], ready[12], pid[12], word[] = "warden", *argv[] = { bin, word, ready, pid, NULL }, **env = env_without_preload();
	int status = 0;
	pid_t child;

	(void)cfg; /* the environment says it all */
	if (!env || !bin_find(bin, sizeof(bin))) {
		free(env);
		return env ? -ENOENT : -ENOMEM;
	}
	snprintf(ready, sizeof(ready), "%d", ready_fd);
	snprintf(pid, sizeof(pid), "%d", (int)for_pid);
	child = sys_fork();
	if (!child) {
		if (sys_fork())
			sys_exit(0);
		sys_fcntl(ready_fd, F_SETFD, 0);
		sys_execve(bin, argv, env);
		sys_exit(127);
	}
	free(env);
	if (child < 0)
		return child;
	sys_wait(child, &status);
	return 0;
}

/* What the new warden says. Return: 0, -EPIPE: it died without a word, -ETIMEDOUT */
static int ready_read(int fd, struct warden_reply *ret_reply)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int none[2], rc;

	do
		rc = sys_poll(&p, 1, REPLY_TIMEOUT_S * 1000);
	while (rc == -EINTR);
	return rc < 0 ? rc : rc == 0 ? -ETIMEDOUT : reply_read(fd, ret_reply, none);
}

static int spawn_one(const struct config *cfg, warden_spawn_fn *spawn, struct warden_reply *ret_reply, char *ret_err, size_t err_bytes)
{
	int sv[2], rc = sys_socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, sv);

	if (rc)
		return asked_failed(cfg, rc, ret_err, err_bytes);
	rc = spawn(cfg, sv[1], sys_getpid());
	sys_close(sv[1]);
	if (!rc)
		rc = ready_read(sv[0], ret_reply);
	sys_close(sv[0]);
	if (rc == -ENOENT)
		snprintf(ret_err, err_bytes, "OWNSTACK_BIN=%s: the ownstack command is not found; name it there or put it into PATH",
			 getenv("OWNSTACK_BIN") ? getenv("OWNSTACK_BIN") : "");
	else if (rc)
		snprintf(ret_err, err_bytes, "host=%s: its warden could not be started (%s); see `ownstack doctor`", cfg->host, strerror(-rc));
	return rc;
}

int warden_start(const struct config *cfg, warden_spawn_fn *spawn, struct warden_reply *ret_reply, char *ret_err, size_t err_bytes)
{
	int rc;

	/*
	 * A warden that is about to leave may close our connection, and two who start one at a time race for the name: both
	 * times the next try finds out. Between bind and listen of the other lies a microsecond, which the tries cover.
	 */
	for (int i = 0; i < RACE_TRIES; i++) {
		rc = warden_ask(cfg, WARDEN_RUN, ret_reply, NULL, NULL, ret_err, err_bytes);
		if (rc == -EPIPE)
			continue;
		if (rc == -ECONNREFUSED) {
			rc = spawn_one(cfg, spawn ? spawn : warden_spawn_exec, ret_reply, ret_err, err_bytes);
			if (!rc && ret_reply->status == -EADDRINUSE && !ret_reply->text[0]) {
				sys_call(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
				continue;
			}
		}
		if (!rc && ret_reply->status) {
			snprintf(ret_err, err_bytes, "%s", ret_reply->text);
			rc = ret_reply->status;
		}
		return rc;
	}
	return asked_failed(cfg, -EPIPE, ret_err, err_bytes);
}

/* ---- joining ---- */

bool host_joined(void)
{
	return host != NULL && slot_self();
}

static void link_make(void)
{
	struct sockaddr_un sa;
	socklen_t len = warden_address(host->name, "keeper", &sa);
	uint32_t slot = slot_self();
	int fd = host_socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK);

	if (fd < 0)
		return; /* without it only exec is noticed late, at the next join or at the process's end */
	if (sys_connect(fd, &sa, len) || sys_send(fd, &slot, sizeof(slot), MSG_NOSIGNAL) != sizeof(slot))
		sys_close(fd);
	else
		our_fd_set(&our_link, fd);
}

static struct config *config_keep(const struct config *cfg)
{
	struct config *c = malloc(sizeof(*c));

	if (c) {
		*c = *cfg;
		c->n_neigh = 0;
		c->neigh = NULL;
		c->addr = NULL;
		c->n_addr = 0;
	}
	return c;
}

/* Asks for arena and queue, starting a warden where there is none */
static int join_ask(const struct config *cfg, int ret_fds[2], int *ret_conn, char *ret_err, size_t err_bytes)
{
	struct warden_reply reply = { 0 };
	int rc;

	for (int i = 0; i < RACE_TRIES; i++) {
		rc = warden_ask(cfg, WARDEN_JOIN, &reply, ret_fds, ret_conn, ret_err, err_bytes);
		if (rc == -ECONNREFUSED) {
			rc = warden_start(cfg, NULL, &reply, ret_err, err_bytes);
			if (rc)
				return rc;
		} else if (rc == -EPIPE) {
			continue;
		} else {
			break;
		}
	}
	if (!rc && reply.status) {
		snprintf(ret_err, err_bytes, "%s", reply.text);
		sys_close(*ret_conn);
		fds_close(ret_fds);
		return reply.status;
	}
	if (!rc && reply.client_pid && reply.client_pid != (uint32_t)sys_getpid())
		slot_elsewhere();
	return rc;
}

/* Wakes by datagram have names too. */
static int wake_socket(void)
{
	return host_socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK);
}

static int map_failed(const struct config *cfg, int rc, char *ret_err, size_t err_bytes)
{
	const char *what = rc == -ENOMEM ? "no address space for the shared memory; raise RLIMIT_AS (ulimit -v) or give less with --arena" :
			   rc == -EEXIST ? "its address is taken in this program; run it without what maps 0x552000000000" :
			   rc == -EPROTO ? "it was started by another version of ownstack; end it with `ownstack down`" : strerror(-rc);

	snprintf(ret_err, err_bytes, "host=%s: %s", cfg->host, what);
	return rc;
}

/* The process has the mapping: a slot, a link, and what an image before us left */
static int slot_take(const struct config *cfg, char *ret_err, size_t err_bytes)
{
	struct thr *t;
	int rc;

	window_open();
	rc = slot_register();
	if (rc < 0) {
		if (rc == -ENOSPC)
			snprintf(ret_err, err_bytes, "host=%s: %d processes use it already; start another with --host", cfg->host, SLOTS_MAX);
		else
			snprintf(ret_err, err_bytes, "host=%s: %s; free some memory", cfg->host, strerror(-rc));
		return rc;
	}
	link_make();
	t = thr_enter();
	if (t)
		slot_exec_adopt(t);
	return 0;
}

int host_io_check(const struct config *cfg, char *ret_err, size_t err_bytes)
{
	if (!cfg->io || cfg->io == IO_LEVEL_POLL || io_uring_allowed())
		return 0;
	snprintf(ret_err, err_bytes,
		 "io=%s: io_uring is refused here (sysctl kernel.io_uring_disabled, a seccomp filter, or a kernel without it); allow it or take --io auto",
		 cfg->io == IO_LEVEL_FULL ? "full" : "uring");
	return -EOPNOTSUPP;
}

int host_join(const struct config *cfg, char *ret_err, size_t err_bytes)
{
	int fds[2], conn, rc;

	if (host_joined())
		return 0;
	rc = host_io_check(cfg, ret_err, err_bytes);
	if (rc)
		return rc;
	if (host)
		return slot_take(cfg, ret_err, err_bytes);
	rc = join_ask(cfg, fds, &conn, ret_err, err_bytes);
	if (rc)
		return rc;
	rc = arena_map(fds[0], true);
	sys_close(fds[0]);
	if (rc) {
		sys_close(fds[1]);
		map_failed(cfg, rc, ret_err, err_bytes);
	} else {
		our_config = config_keep(cfg);
		io_wake_socket = wake_socket;
		our_fd_set(&our_queue, fds[1]);
		rc = slot_take(cfg, ret_err, err_bytes);
		if (rc)
			arena_unmap();
	}
	sys_close(conn); /* only now: the warden does not leave while it is open */
	return rc;
}

void host_queue_adopt(int fd)
{
	our_fd_set(&our_queue, fd);
}

int host_queue_fd(void)
{
	char err[CONFIG_ERR_BYTES];
	struct warden_reply reply;
	int fds[2], rc;

	if (our_fd_holds(&our_queue))
		return our_queue.fd;
	our_queue.fd = -1;
	if (!our_config)
		return -EBADF;
	rc = warden_ask(our_config, WARDEN_JOIN, &reply, fds, NULL, err, sizeof(err));
	if (rc)
		return rc;
	if (reply.status) {
		fds_close(fds);
		return reply.status;
	}
	sys_close(fds[0]);
	return our_fd_set(&our_queue, fds[1]);
}

int host_placeholder_fd(void)
{
	const struct sockaddr_un any = { .sun_family = AF_UNIX };
	int fd, rc;

	if (our_fd_holds(&our_placeholder))
		return our_placeholder.fd;
	if (passenger)
		return -EMFILE;
	fd = sys_socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	/* the kernel picks an abstract name; a listening socket is the kind that is never ready (T19) */
	rc = sys_bind(fd, &any, sizeof(any.sun_family));
	if (!rc)
		rc = sys_listen(fd, 0);
	if (rc) {
		sys_close(fd);
		return rc;
	}
	return our_fd_set(&our_placeholder, fd);
}

int host_fd_connect(enum host_fd which, const struct sockaddr_un *sa, socklen_t len)
{
	int fd = host_socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK), r;

	if (fd < 0)
		return fd;
	r = sys_connect(fd, sa, len);
	if (r) {
		sys_close(fd);
		return r;
	}
	return our_fd_set(&our_fds[which], fd);
}

/* Another one, where the program has closed ours. Outside the host's namespace it would be of no use. */
static int bell_socket(void)
{
	int fd = sys_socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return fd;
	if (!window_is_home(fd)) {
		sys_close(fd);
		return -ENETUNREACH;
	}
	return our_fd_set(&our_bell, fd);
}

int host_bell_fd(void)
{
	bool holds = our_fd_holds(&our_bell);
	struct sockaddr_un sa;
	socklen_t len = sizeof(sa);
	int fd, r;

	/* its other end goes with the keeper */
	if (holds && (passenger || !sys_call(SYS_getpeername, our_bell.fd, &sa, &len)) &&
	    sys_send(our_bell.fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) != -ECONNREFUSED)
		return our_bell.fd;
	if (passenger || !host)
		return -ECONNREFUSED;
	fd = holds ? our_bell.fd : bell_socket();
	if (fd < 0)
		return fd;
	len = warden_address(host->name, "bell", &sa);
	r = sys_connect(fd, &sa, len);
	return r ? r : fd;
}

void host_fork_child(void)
{
	our_fd_close(&our_link); /* our copy would hide the end of our parent's image from the keeper */
	if (host_joined() && slot_self()) /* a child that shares nothing is nobody's business until it registers */
		link_make();
}

void host_exec_prepare(void)
{
	struct pollfd p = { .fd = our_link.fd, .events = POLLIN };

	if (!host_joined() || slot_is_vfork_child())
		return;
	/* a keeper that was restarted does not know us */
	if (!our_fd_holds(&our_link) || sys_poll(&p, 1, 0) != 0) {
		our_fd_close(&our_link);
		link_make();
	}
	slot_exec_prepare();
}

void host_exec_failed(void)
{
	slot_exec_failed();
}
