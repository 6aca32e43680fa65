/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rights.c - descriptors that are sent to another process (SCM_RIGHTS, I-25)
 *
 * A private number in a control message is replaced by a passport, a kernel socket that is known by its inode, with a name that
 * tells a process which has not joined yet that there is something to join for. Received, it becomes a private number again.
 *
 *   connection	the passport is the end of a pair whose other end the keeper has (export.c): a process outside the host, and one
 *		that cannot be ours, is pumped
 *   listener	a dead socket (host/passport.c): outside the host it is of no use
 *   undecided	the kernel's socket under its number goes itself, as does that of a wildcard listener
 *
 * recvmmsg() does not look.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include "../host/join.h"
#include "../host/passport.h"
#include "../host/sys.h"
#include "own_env.h"
#include "pump_priv.h"
#include "sock_priv.h"

#define PASSPORT_WORD "/passport/"

static int *cmsg_fds(struct cmsghdr *c, size_t *ret_n)
{
	bool rights = c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len >= CMSG_LEN(0);

	*ret_n = rights ? (c->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;
	return (int *)(void *)CMSG_DATA(c);
}

/* ---- sending ---- */

/* Takes @fd. Return: the same with a name that says whose it is, negative errno */
static int passport_named(int fd, uint64_t *ret_ino)
{
	static _Atomic uint32_t serial;
	struct sockaddr_un sa;
	char who[48];
	struct stat st;
	int r;

	if (fd < 0)
		return fd;
	snprintf(who, sizeof(who), "%s%d.%u", &PASSPORT_WORD[1], (int)sys_getpid(), atomic_fetch_add(&serial, 1));
	r = sys_bind(fd, &sa, warden_address(host->name, who, &sa));
	if (!r)
		r = sys_fstat(fd, &st);
	if (r) {
		sys_close(fd);
		return r;
	}
	*ret_ino = st.st_ino;
	return fd;
}

/* The kernel socket under @fd is its own: undecided, or listening on the kernel's loopback too. It goes itself. */
static bool is_own_passport(const struct file *f)
{
	return f->kind == FILE_UNDECIDED || f->kernel_listens;
}

/* Return: a descriptor to send for @fd (@fd itself where that will do), -ENOENT: it is the kernel's, negative errno */
static int passport_for(int fd, uint64_t *ret_ino)
{
	bool itself, pumped;
	struct stat st;
	struct op op;
	int pass, r;

	if (!op_begin_any(&op, fd))
		return -ENOENT;
	if (op.f->kind != FILE_TCP && op.f->kind != FILE_UNDECIDED)
		return (int)op_end(&op, -ENOENT);
	itself = is_own_passport(op.f);
	pumped = !itself && tcp_state(op.f->tcb) != TCPS_LISTEN && tcp_state(op.f->tcb) != TCPS_CLOSED;
	op_hold(&op);
	shard_unlock(op.t);
	pass = itself ? fd : pumped ? export_pair(op.f, EXPORT_LATER) : -1;
	if (!itself) {
		pumped = pumped && pass >= 0; /* without a keeper: for processes of the host only */
		pass = passport_named(pumped ? pass : sys_socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), ret_ino);
	}
	if (itself && !sys_fstat(fd, &st))
		*ret_ino = st.st_ino;
	shard_lock(op.t);
	r = pass < 0 ? pass : pumped ? 0 : passport_issue(*ret_ino, op.f, slot_self());
	op_end(&op, 0);
	if (r && pass >= 0 && !itself)
		sys_close(pass);
	return r ? r : pass;
}

static void passport_revoke(uint64_t ino)
{
	struct thr *t = thr_enter();

	if (!t)
		return;
	shard_lock(t);
	file_unref(t, passport_claim(ino));
	thr_leave(t);
}

/* All of it is the program's memory, and may not be there: then the kernel says so. */
static bool sends_ours(const struct msghdr *msg)
{
	struct cmsghdr c;
	struct msghdr m;

	if (!msg || !host_joined() || slot_is_vfork_child() || user_copy(&m, msg, sizeof(m)) || !m.msg_control)
		return false;
	for (size_t off = 0; off + sizeof(c) <= m.msg_controllen; off += CMSG_ALIGN(c.cmsg_len)) {
		const uint8_t *at = (const uint8_t *)m.msg_control + off;

		if (user_copy(&c, at, sizeof(c)) || c.cmsg_len < sizeof(c) || c.cmsg_len > m.msg_controllen - off)
			return false;
		if (c.cmsg_level != SOL_SOCKET || c.cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = CMSG_LEN(0); i + sizeof(int) <= c.cmsg_len; i += sizeof(int)) {
			int fd;

			if (user_copy(&fd, at + i, sizeof(fd)))
				return false;
			if (fdtab_lookup(fd))
				return true;
		}
	}
	return false;
}

#define PASSPORTS_MAX 253 /* SCM_MAX_FD: the kernel takes no more in a message */

static ssize_t send_with_passports(int fd, const struct msghdr *msg, int flags)
{
	struct msghdr m = *msg;
	uint64_t ino[PASSPORTS_MAX];
	int pass[PASSPORTS_MAX];
	size_t n_pass = 0, n;
	ssize_t r = 0;

	m.msg_control = malloc(m.msg_controllen);
	if (!m.msg_control)
		return -ENOMEM;
	memcpy(m.msg_control, msg->msg_control, m.msg_controllen);
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		int *fds = cmsg_fds(c, &n);

		for (size_t i = 0; i < n && n_pass < PASSPORTS_MAX; i++) {
			int p = fdtab_lookup(fds[i]) ? passport_for(fds[i], &ino[n_pass]) : -ENOENT;

			if (p < 0)
				continue;
			pass[n_pass++] = p == fds[i] ? -1 : p;
			fds[i] = p;
		}
	}
	r = kernel_result(libc_next.sendmsg(fd, &m, flags));
	for (size_t i = 0; i < n_pass; i++) {
		if (pass[i] >= 0)
			sys_close(pass[i]);
		if (r < 0)
			passport_revoke(ino[i]);
	}
	free(m.msg_control);
	return r;
}

EXPORT(ssize_t, sendmsg, (int fd, const struct msghdr *msg, int flags))
{
	int saved = errno;

	if (fdtab_lookup(fd))
		return errno_result(sk_sendmsg(fd, msg, flags), saved);
	if (likely(!sends_ours(msg)))
		return libc_next.sendmsg(fd, msg, flags);
	return errno_result(send_with_passports(fd, msg, flags), saved);
}

/* ---- receiving ---- */

enum arrival { ARRIVED_OTHER, ARRIVED_PASSPORT, ARRIVED_ITSELF /* perhaps: a socket of the kernel's TCP */ };

static enum arrival what_arrived(int fd, uint64_t *ret_ino)
{
	struct sockaddr_un sa = { 0 };
	socklen_t len = sizeof(sa) - 1, type_len = sizeof(int);
	struct stat st;
	int type = 0;

	if (sys_fstat(fd, &st) || !S_ISSOCK(st.st_mode) || sys_call(SYS_getsockname, fd, &sa, &len, 0, 0, 0))
		return ARRIVED_OTHER;
	*ret_ino = st.st_ino;
	if (sa.sun_family == AF_INET || sa.sun_family == AF_INET6) {
		sys_getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_len);
		return type == SOCK_STREAM ? ARRIVED_ITSELF : ARRIVED_OTHER;
	}
	return sa.sun_family == AF_UNIX && !strncmp(sa.sun_path + 1, "ownstack/", 9) && strstr(sa.sun_path + 1, PASSPORT_WORD) ?
	       ARRIVED_PASSPORT : ARRIVED_OTHER;
}

static void arrived(int fd, bool cloexec)
{
	enum arrival what;
	struct thr *t;
	struct file *f;
	uint64_t ino;

	fd_forget(fd);
	what = what_arrived(fd, &ino);
	if (what == ARRIVED_OTHER || !own_join() || export_take_back(fd, cloexec))
		return;
	if (what == ARRIVED_PASSPORT && host_placeholder_fd() >= 0)
		libc_next.dup3(host_placeholder_fd(), fd, cloexec ? O_CLOEXEC : 0);
	t = thr_enter();
	if (!t)
		return;
	shard_lock(t);
	f = passport_claim(ino);
	if (f) {
		fd_install(t, fd, f, cloexec ? FDENT_CLOEXEC : 0);
		file_unref(t, f);
	}
	thr_leave(t);
	stdio_follow(fd);
}

EXPORT(ssize_t, recvmsg, (int fd, struct msghdr *msg, int flags))
{
	int saved = errno;
	ssize_t r;
	size_t n;

	if (fdtab_lookup(fd))
		return errno_result(sk_recvmsg(fd, msg, flags), saved);
	r = libc_next.recvmsg(fd, msg, flags);
	if (r < 0 || !own_env.vars || !msg->msg_control || msg->msg_controllen < sizeof(struct cmsghdr))
		return r;
	saved = errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		const int *fds = cmsg_fds(c, &n);

		for (size_t i = 0; i < n; i++)
			arrived(fds[i], flags & MSG_CMSG_CLOEXEC);
	}
	errno = saved;
	return r;
}
