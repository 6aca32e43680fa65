/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * join.h - how a process becomes part of a private host; warden and keeper
 *
 * `ownstack run` (or a preloaded library at its first socket) makes sure a warden runs for the host; it answers at the
 * abstract address "\0ownstack/NAME/warden" with the memfd of the arena and the device's queue. The warden starts the keeper
 * at the first join, so that a program without sockets costs no helper.
 */
#ifndef OWNSTACK_HOST_JOIN_H
#define OWNSTACK_HOST_JOIN_H

#include "arena.h"
#include "config.h"
#include "host.h"

/* ---- for processes of the host ---- */

/**
 * host_join() - attach to the host of @cfg, starting a warden if there is none
 *
 * Also in a fork child that inherited the mapping but has no slot (it had no private number). Descriptors of ours lie at 1000
 * and above where RLIMIT_NOFILE allows, with FD_CLOEXEC.
 * Return: 0, or negative errno with one clear line in @ret_err (naming setting, value, remedy)
 */
int host_join(const struct config *cfg, char *ret_err, size_t err_bytes);
/** host_io_check() - can the level that @cfg demands be had? Part of host_join(). Return: 0, or -EOPNOTSUPP and @ret_err */
int host_io_check(const struct config *cfg, char *ret_err, size_t err_bytes);
bool host_joined(void);
/** host_queue_fd() - descriptor of the device queue in this process, fetched again if it was closed behind our back; negative errno */
int host_queue_fd(void);
/** host_queue_adopt() - keeper: @fd, which it was born with, is the queue. Takes */
void host_queue_adopt(int fd);
/** host_placeholder_fd() - per-process listening AF_UNIX socket that private numbers are duplicates of; negative errno */
int host_placeholder_fd(void);
/** host_fd_is_ours() - is @fd one of the library's own (close, close_range and dup2 must leave it alone) */
enum host_fd { HOST_FD_QUEUE, HOST_FD_PLACEHOLDER, HOST_FD_LINK, HOST_FD_WAKE, HOST_FD_SELF, HOST_FD_BELL, HOST_FDS_MAX };
bool host_fd_is_listed(int fd);
extern int host_fd_lowest __attribute__((visibility("hidden"))); /* none of them was ever below; INT_MAX: there is none */
static inline bool host_fd_is_ours(int fd)
{
	return __builtin_expect(fd >= host_fd_lowest, 0) && host_fd_is_listed(fd);
}
/** host_fds() - those that are open, lowest first. Return: how many */
unsigned host_fds(int ret_fds[HOST_FDS_MAX]);
/** host_fd_adopt() - @fd is the library's own from now on. Takes. Return: its new number, high up, or negative errno */
int host_fd_adopt(enum host_fd which, int fd);
/** host_fd_connect() - a datagram socket of the library's own, connected to @sa. Number or negative errno */
struct sockaddr_un;
int host_fd_connect(enum host_fd which, const struct sockaddr_un *sa, socklen_t len);
/** host_bell_fd() - the process's window (window.c), connected to the keeper's bell. A child in another network namespace inherits it, and could not make it. */
int host_bell_fd(void);
/** host_fd_drop() - closed, if it is still what it was */
void host_fd_drop(enum host_fd which);
/** host_fork_child() - in every fork child, after slot_fork_child(): own link to the keeper, the parent's is closed */
void host_fork_child(void);
/** host_exec_prepare() - right before execve: the keeper will notice and drop FD_CLOEXEC numbers. host_exec_failed(): it came back */
void host_exec_prepare(void);
void host_exec_failed(void);

/* ---- starting and asking a warden ---- */

#define WARDEN_PROTOCOL 2u
enum warden_op { WARDEN_RUN = 1 /* stay while I live */, WARDEN_JOIN, WARDEN_LOOK, WARDEN_DOWN };

struct warden_req {
	uint32_t protocol, op;
	uint8_t token[16];	/* all zero: none */
	char tap[16], packet[16]; /* empty: any device will do */
	struct config_cidr addr; /* .set: this address must be the host's */
};
struct warden_reply {
	int32_t status;		/* 0 or negative errno; then text says why */
	uint32_t protocol, warden_pid, keeper_pid, owner_uid, dev_kind;
	uint32_t client_pid;	/* who asks, as the warden knows it */
	uint8_t token[16];
	char ifname[16], addr[64], peer[64]; /* first address; the kernel's side of the TAP or empty */
	char text[CONFIG_ERR_BYTES];
};

/**
 * warden_ask() - one request to the warden of @cfg->host
 * @ret_fds:	arena and queue where the reply brings them, else -1; NULL: not wanted
 * @ret_conn:	the connection stays open there; NULL: closed
 *
 * Return: 0 with *@ret_reply (whose status may still be an error), -ECONNREFUSED: no warden, else negative errno with @ret_err
 */
int warden_ask(const struct config *cfg, enum warden_op op, struct warden_reply *ret_reply, int ret_fds[2], int *ret_conn,
	       char *ret_err, size_t err_bytes);

/** starts a process that becomes the warden and writes a struct warden_reply to @ready_fd. Return: 0, negative errno */
typedef int warden_spawn_fn(const struct config *cfg, int ready_fd, pid_t for_pid);
/**
 * warden_start() - make sure a warden runs for @cfg, which stays while this process lives
 * @spawn:	NULL: run the `ownstack` command (from a preloaded library)
 *
 * Return: 0 with *@ret_reply, or negative errno and @ret_err
 */
int warden_start(const struct config *cfg, warden_spawn_fn *spawn, struct warden_reply *ret_reply, char *ret_err, size_t err_bytes);
warden_spawn_fn warden_spawn_exec;

/** warden_address() - of "warden" or "keeper" of a host; gives the length */
struct sockaddr_un;
socklen_t warden_address(const char *name, const char *who, struct sockaddr_un *ret_sa);

/* ---- the helpers themselves (linked into the command only) ---- */

/** warden_main() - body of the warden; does not return. @ready_fd: told once how it went; @for_pid: stay while it lives, 0: nobody */
_Noreturn void warden_main(struct config *cfg, int ready_fd, pid_t for_pid);

struct keeper_args {
	const struct config *cfg;
	const struct host_device *dev;
	const uint8_t *token;
	uint32_t owner_uid;
	int memfd, queue_fd, listen_fd, warden_fd; /* listen_fd: links come in; warden_fd: KEEPER_* and WARDEN_* bytes */
};
/* one byte each way on a SOCK_SEQPACKET pair; KEEPER_FAILED is followed by a line of text */
enum { KEEPER_READY = 'R', KEEPER_EMPTY = 'E', KEEPER_BUSY = 'B', KEEPER_LEAVES = 'Y', KEEPER_STAYS = 'N', KEEPER_FAILED = 'F', KEEPER_SEARCHES = 'S' /* who has the arena mapped? */, KEEPER_NOTES = 'W' /* a line for the log */ };
enum { TELL_KEEPER_LEAVE = 'L' /* if the host is empty */, TELL_KEEPER_DRAIN = 'D' /* 5 s at most, then leave */, TELL_KEEPER_FOUND = 'P' /* and a struct keeper_found */ };
enum { KEEPER_FOUND_MAX = 4096 };
struct keeper_found {
	char what;
	uint32_t n;
	int32_t pid[KEEPER_FOUND_MAX];
};
/** keeper_main() - body of the keeper; does not return before its work is done. Return: exit status */
int keeper_main(const struct keeper_args *a);

#endif
