/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * keeper.c - the unprivileged background process that stands in for whoever cannot act
 *
 * Theory of operation. The keeper formats the arena (or takes over one that an earlier keeper left), gives up its privileges,
 * takes SLOT_KEEPER and then does what drive.c wants of it, at the pace that is wanted. Beside that it looks after processes:
 *
 *   slots	whoever changes a slot bumps host->slot_changes and wakes us. We look at all slots and see to it that each
 *		live one has a pidfd in our epoll, that DEAD ones are dropped, and that FORKING ones with a dead parent are
 *		dropped a second later, unless the warden finds a process that may be the child.
 *   pidfd	readable: the process is gone, slot_drop().
 *   links	a stream per process, FD_CLOEXEC there: its end while the process lives and is EXEC_PENDING means that the
 *		exec has happened, slot_exec_drop().
 *   bell	passengers ring (passenger.c); what for, drive_keeper() finds in the arena. Exported sockets come over it (pumps.c).
 *   warden	is told when the host becomes empty or not; asks us to leave or to drain. Its end means that it died: then
 *		we stay as long as the host is not empty.
 *
 * An earlier keeper may have died with the shard lock held. Its slot must look dead until that lock is broken, so a successor
 * takes an ordinary slot first, drops SLOT_KEEPER from there, and moves.
 */
#include <errno.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>
#include "join.h"
#include "export.h"
#include "passenger.h"
#include "pumps.h"
#include "ready.h"
#include "slot.h"
#include "sys.h"
#include "thr.h"

#define DRAIN_US	SEC(5)
#define ORPHAN_FORK_US	SEC(1)
#define NOBODY		65534
#define UNNAMED_MAX	1024

enum ev_kind { EV_PID = 1, EV_LINK, EV_UNNAMED, EV_LISTEN, EV_WARDEN, EV_TIMER, EV_BELL, EV_PUMP };

struct keeper {
	int epfd, listen_fd, warden_fd, timer_fd, bell_fd;
	struct thr *t;
	struct pumps *pumps;
	struct watched {
		int pidfd, link;
		pid_t pid;		/* the pidfd is of */
		usec_t orphan_since;	/* FORKING with a dead parent, 0: not */
	} *slot;			/* by slot index, n_slots of them */
	uint32_t n_slots;
	uint32_t n_pidfds;
	uint32_t n_unnamed; /* links that have not said yet whose they are */
	uint32_t changes_seen;
	bool told_empty, told_once, draining, leave;
	uint64_t conflicts_seen;
	usec_t drain_until, timer_at; /* timer_at: what timer_fd is set to, USEC_NEVER: it is not */
};

static void say_to(int warden_fd, char what, const char *text)
{
	char msg[CONFIG_ERR_BYTES + 1];

	msg[0] = what;
	snprintf(msg + 1, sizeof(msg) - 1, "%s", text);
	sys_send(warden_fd, msg, 1 + strlen(msg + 1), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* ---- privileges ---- */

/* io/ and drive.c need the rings, a futex and reads and writes; we need sockets of links, pidfds and /proc/PID/stat */
static const int allowed_calls[] = {
	SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_close, SYS_fstat, SYS_newfstatat, SYS_openat, SYS_mmap, SYS_munmap,
	SYS_mremap, SYS_mprotect, SYS_madvise, SYS_brk, SYS_futex, 449 /* futex_waitv */, 454, 455, 456 /* futex2 */,
	SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register, SYS_poll, SYS_ppoll, SYS_epoll_create1, SYS_epoll_ctl,
	SYS_epoll_wait, SYS_epoll_pwait, SYS_timerfd_create, SYS_timerfd_settime, SYS_accept4, SYS_socket, SYS_bind, SYS_connect, SYS_shutdown,
	SYS_sendto, SYS_sendmsg, SYS_sendmmsg, SYS_recvfrom, SYS_recvmsg, SYS_recvmmsg, SYS_getsockopt, SYS_setsockopt, SYS_getsockname,
	SYS_socketpair, SYS_dup, SYS_dup3, SYS_fcntl, SYS_ioctl, SYS_eventfd2, SYS_pidfd_open, SYS_kill, SYS_getpid, SYS_gettid,
	SYS_geteuid, SYS_getuid, SYS_prctl, SYS_clock_gettime, SYS_clock_nanosleep, SYS_nanosleep, SYS_sched_yield, SYS_getrandom,
	SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_restart_syscall, SYS_exit, SYS_exit_group, SYS_lseek,
	SYS_fallocate, SYS_set_robust_list, SYS_getrlimit, SYS_prlimit64, 334 /* rseq */, SYS_sched_getaffinity, SYS_sysinfo,
	SYS_getdents64, SYS_membarrier,
};
#define N_ALLOWED (sizeof(allowed_calls) / sizeof(allowed_calls[0]))
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define NARROWED 1
#else
#define NARROWED 0
#endif

/**
 * seccomp_narrow() - from here on only what a keeper does; anything else is -EPERM
 *
 * An error and not a kill: a call we did not think of must not end everybody's connections. Left out where the program is
 * built with a sanitizer, whose runtime wants more, and where the kernel has no seccomp.
 */
static void seccomp_narrow(void)
{
	struct sock_filter f[N_ALLOWED + 6];
	struct sock_fprog prog = { .filter = f };
	unsigned n = 0;

	if (!NARROWED)
		return;
	f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
	f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, N_ALLOWED + 1);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (unsigned i = 0; i < N_ALLOWED; i++)
		f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)allowed_calls[i], (uint8_t)(N_ALLOWED - i), 0);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	prog.len = (unsigned short)n;
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog, 0, 0);
}

/**
 * privileges_drop() - the owner's user, or nobody where the owner is root; no capability, none to be had
 *
 * Where a recording is wanted the owner's user stays, since the file is the owner's.
 */
static int privileges_drop(const struct keeper_args *a)
{
	struct __user_cap_header_struct hdr = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { 0 };
	uid_t uid = a->owner_uid ? a->owner_uid : a->cfg->pcap[0] ? 0 : NOBODY;

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (!geteuid() && uid) {
		gid_t gid = uid == NOBODY ? NOBODY : getgid();

		/* in a user namespace without these ids we stay who we are: there root is no root */
		if (!setgroups(0, NULL) && (setresgid(gid, gid, gid) || setresuid(uid, uid, uid)))
			return -errno;
	}
	if (sys_call(SYS_capset, &hdr, none, 0, 0, 0, 0) < 0)
		return -EPERM;
	return 0;
}

/* ---- slots ---- */

static void watch_fd(struct keeper *k, enum ev_kind kind, uint32_t id, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = (uint64_t)kind << 32 | id };

	sys_epoll_ctl(k->epfd, EPOLL_CTL_ADD, fd, &ev);
}

static bool slots_grow(struct keeper *k, uint32_t n)
{
	struct watched *more;

	if (n <= k->n_slots)
		return true;
	n = (n + 63) & ~63u;
	more = realloc(k->slot, n * sizeof(*more));
	if (!more)
		return false;
	for (uint32_t i = k->n_slots; i < n; i++)
		more[i] = (struct watched){ .pidfd = -1, .link = -1 };
	k->slot = more;
	k->n_slots = n;
	return true;
}

static void watched_close(struct keeper *k, uint32_t i)
{
	struct watched *w = &k->slot[i];

	if (w->pidfd >= 0) {
		sys_close(w->pidfd);
		k->n_pidfds--;
	}
	if (w->link >= 0)
		sys_close(w->link);
	*w = (struct watched){ .pidfd = -1, .link = -1 };
}

/* Process @parent died in the middle of a fork: the slot it reserved has no parent any more, and its number may be taken anew */
static void orphans_mark(uint32_t parent)
{
	uint32_t top = atomic_load(&host->slot_top);

	for (uint32_t i = SLOT_KEEPER + 1; i < top; i++) {
		if (atomic_load(&host->slot[i].state) == SLOT_FORKING && host->slot[i].parent == parent)
			host->slot[i].parent = 0;
	}
	atomic_fetch_add(&host->slot_changes, 1); /* have a look at them */
}

static void slot_gone(struct keeper *k, uint32_t i)
{
	if (atomic_load(&host->slot[i].forking))
		orphans_mark(i);
	watched_close(k, i);
	pumps_slot_gone(k->pumps, i);
	slot_drop(k->t, i);
}

/* Be awake at @at, CLOCK_MONOTONIC, at the latest */
static void timer_need(struct keeper *k, usec_t at)
{
	struct itimerspec its = { .it_value = { (time_t)(at / SEC(1)), (long)(at % SEC(1)) * 1000 } };

	if (at >= k->timer_at)
		return;
	k->timer_at = at;
	sys_call(SYS_timerfd_settime, k->timer_fd, TFD_TIMER_ABSTIME, &its, NULL);
}

/* The child, should it still come, finds that it has lost its place. */
static void orphan_drop(struct keeper *k, uint32_t i)
{
	uint32_t forking = SLOT_FORKING;

	if (atomic_compare_exchange_strong(&host->slot[i].state, &forking, SLOT_DEAD))
		slot_gone(k, i);
}

/* FORKING: its parent may have died before the child ran, or before it could tell that fork failed */
static void slot_forking(struct keeper *k, uint32_t i)
{
	struct slot *s = &host->slot[i];
	usec_t now = io_now();

	if (s->parent) {
		k->slot[i].orphan_since = 0;
	} else if (!k->slot[i].orphan_since) {
		k->slot[i].orphan_since = now;
		timer_need(k, now + ORPHAN_FORK_US);
	} else if (now - k->slot[i].orphan_since < ORPHAN_FORK_US) {
		timer_need(k, k->slot[i].orphan_since + ORPHAN_FORK_US);
	} else if (k->warden_fd >= 0) { /* only the warden may look for the child: orphans_judge() */
		say_to(k->warden_fd, KEEPER_SEARCHES, "");
	} else {
		orphan_drop(k, i);
	}
}

static bool is_member(pid_t pid)
{
	uint32_t top = atomic_load(&host->slot_top);

	for (uint32_t i = SLOT_KEEPER; i < top; i++)
		if (atomic_load(&host->slot[i].pid) == pid)
			return true;
	return false;
}

/*
 * The warden's answer. Who has the arena mapped and is no member may be the child, stopped before it could say so; then it is
 * asked again a second later. A child that shares nothing has no slot either: as long as one runs, orphans of that second stay.
 */
static void orphans_judge(struct keeper *k, const struct keeper_found *found)
{
	uint32_t top = atomic_load(&host->slot_top);
	bool somebody = false;
	usec_t now = io_now();

	for (uint32_t i = 0; i < found->n && !somebody; i++)
		somebody = !is_member(found->pid[i]);
	for (uint32_t i = SLOT_KEEPER + 1; i < top && i < k->n_slots; i++) {
		const struct slot *s = &host->slot[i];
		usec_t since = k->slot[i].orphan_since;

		if (atomic_load(&s->state) != SLOT_FORKING || atomic_load(&s->pid) >= 0 || s->parent || !since || now - since < ORPHAN_FORK_US)
			continue;
		if (!somebody) {
			orphan_drop(k, i);
			continue;
		}
		k->slot[i].orphan_since = now;
		timer_need(k, now + ORPHAN_FORK_US);
	}
}

/* A process we have no pidfd of yet */
static void slot_watch(struct keeper *k, uint32_t i, pid_t pid)
{
	struct watched *w = &k->slot[i];
	struct slot *s = &host->slot[i];

	watched_close(k, i);
	w->pidfd = sys_pidfd_open(pid);
	w->pid = pid;
	if (w->pidfd < 0) {
		if (w->pidfd == -ESRCH)
			slot_gone(k, i);
		return; /* else: out of descriptors; the next look tries again */
	}
	k->n_pidfds++;
	/* the number may have gone to another process between the slot's word and the pidfd */
	if (atomic_load(&s->state) != SLOT_FORKING && slot_life(i) == SLOT_GONE) {
		slot_gone(k, i);
		return;
	}
	watch_fd(k, EV_PID, i, w->pidfd);
}

static void slots_look(struct keeper *k)
{
	uint32_t top;

	k->changes_seen = atomic_load(&host->slot_changes); /* first: what changes while we look is looked at again */
	top = atomic_load(&host->slot_top);
	if (!slots_grow(k, top))
		return;
	for (uint32_t i = SLOT_KEEPER + 1; i < top; i++) {
		struct slot *s = &host->slot[i];
		pid_t pid = atomic_load(&s->pid);
		uint32_t state = atomic_load(&s->state);

		if (!pid || state == SLOT_FREE) {
			if (k->slot[i].pidfd >= 0 || k->slot[i].link >= 0)
				watched_close(k, i);
		} else if (state == SLOT_DEAD) {
			slot_gone(k, i);
		} else if (state == SLOT_FORKING && pid < 0) {
			slot_forking(k, i);
		} else if (k->slot[i].pidfd < 0 || k->slot[i].pid != pid) {
			slot_watch(k, i, pid);
		}
	}
}

/**
 * claims_look() - slots claimed by a process that died before it wrote any more into them
 *
 * They are FREE with a pid. Between claim and LIVE lie microseconds, so nothing watches for their end: they are looked for
 * whenever another process ends, and, a second later, where slots are in use and no process is known.
 */
static void claims_look(struct keeper *k)
{
	uint32_t top = atomic_load(&host->slot_top);

	for (uint32_t i = SLOT_KEEPER + 1; i < top; i++) {
		struct slot *s = &host->slot[i];
		pid_t pid = atomic_load(&s->pid);

		if (pid && atomic_load(&s->state) == SLOT_FREE && sys_kill(pid < 0 ? -pid : pid, 0) == -ESRCH)
			slot_gone(k, i);
	}
}

/* ---- links ---- */

static void link_accept(struct keeper *k)
{
	int fd;

	while ((fd = sys_accept(k->listen_fd, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
		if (k->n_unnamed >= UNNAMED_MAX) { /* strangers: members write their word right after connect */
			sys_close(fd);
			continue;
		}
		k->n_unnamed++;
		watch_fd(k, EV_UNNAMED, (uint32_t)fd, fd);
	}
}

/**
 * link_name() - a new link says whose it is: the number of its slot
 *
 * What it says is checked against the kernel's word for the process at the other end.
 */
static void link_name(struct keeper *k, int fd)
{
	uint32_t slot = 0;
	struct ucred cr;
	socklen_t len = sizeof(cr);
	ssize_t n = sys_recv(fd, &slot, sizeof(slot), MSG_DONTWAIT);

	if (n == -EAGAIN)
		return;
	k->n_unnamed--;
	sys_epoll_ctl(k->epfd, EPOLL_CTL_DEL, fd, NULL);
	if (n != (ssize_t)sizeof(slot) || slot <= SLOT_KEEPER || slot >= atomic_load(&host->slot_top) || !slots_grow(k, slot + 1) ||
	    sys_getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cr, &len) || cr.pid != atomic_load(&host->slot[slot].pid)) {
		sys_close(fd);
		return;
	}
	if (k->slot[slot].pidfd < 0 || k->slot[slot].pid != cr.pid)
		slot_watch(k, slot, cr.pid);
	if (k->slot[slot].link >= 0)
		sys_close(k->slot[slot].link);
	k->slot[slot].link = fd;
	watch_fd(k, EV_LINK, slot, fd);
}

static void link_event(struct keeper *k, uint32_t i)
{
	char buf[64];
	uint32_t state;

	if (i >= k->n_slots || k->slot[i].link < 0)
		return;
	if (sys_recv(k->slot[i].link, buf, sizeof(buf), MSG_DONTWAIT) == -EAGAIN)
		return;
	sys_close(k->slot[i].link);
	k->slot[i].link = -1;
	state = atomic_load(&host->slot[i].state);
	if ((state == SLOT_EXEC_PENDING || state == SLOT_EXEC_DROP) && slot_life(i) != SLOT_GONE)
		slot_exec_drop(k->t, i);
}

/* ---- warden ---- */

static bool is_empty(void)
{
	return atomic_load(&host->n_live) <= 1 && !stack_live(host->shard.stack);
}

static void warden_tell(struct keeper *k)
{
	bool empty = is_empty();

	if (k->warden_fd < 0)
		k->leave = k->leave || empty; /* nobody can join without a warden */
	else if (!k->told_once || empty != k->told_empty)
		say_to(k->warden_fd, empty ? KEEPER_EMPTY : KEEPER_BUSY, "");
	k->told_once = true;
	k->told_empty = empty;
}

static void warden_event(struct keeper *k)
{
	struct keeper_found msg = { 0 };
	ssize_t n = sys_recv(k->warden_fd, &msg, sizeof(msg), MSG_DONTWAIT);

	if (n == -EAGAIN)
		return;
	if (n <= 0) {
		sys_close(k->warden_fd);
		k->warden_fd = -1;
	} else if (msg.what == TELL_KEEPER_FOUND) {
		orphans_judge(k, &msg);
	} else if (msg.what == TELL_KEEPER_LEAVE) {
		k->leave = is_empty();
		say_to(k->warden_fd, k->leave ? KEEPER_LEAVES : KEEPER_STAYS, "");
		k->told_once = false; /* STAYS means BUSY to the warden: it must hear when that is over */
	} else if (msg.what == TELL_KEEPER_DRAIN) {
		k->draining = true;
		k->drain_until = io_now() + DRAIN_US;
		timer_need(k, k->drain_until);
	}
}

/* ---- the loop ---- */

static void event(struct keeper *k, uint64_t data, uint32_t events)
{
	uint32_t id = (uint32_t)data;
	uint64_t ticks;

	switch ((enum ev_kind)(data >> 32)) {
	case EV_PID:
		if (id < k->n_slots && k->slot[id].pidfd >= 0) {
			struct pollfd p = { .fd = k->slot[id].pidfd, .events = POLLIN };

			if (sys_poll(&p, 1, 0) == 1) { /* not one of an earlier process, in this very batch */
				slot_gone(k, id);
				claims_look(k);
			}
		}
		break;
	case EV_LINK:
		link_event(k, id);
		break;
	case EV_UNNAMED:
		link_name(k, (int)id);
		break;
	case EV_LISTEN:
		link_accept(k);
		break;
	case EV_WARDEN:
		if (k->warden_fd >= 0)
			warden_event(k);
		break;
	case EV_BELL: /* what was rung for stands in the arena: drive_keeper() */
		pumps_bell(k->pumps, k->bell_fd);
		break;
	case EV_PUMP:
		pumps_event(k->pumps, id, events);
		break;
	case EV_TIMER:
		sys_read(k->timer_fd, &ticks, sizeof(ticks));
		k->timer_at = USEC_NEVER;
		if (k->draining)
			timer_need(k, k->drain_until);
		slots_look(k);
		claims_look(k);
		break;
	}
}

static void events(struct keeper *k)
{
	struct epoll_event ev[64];
	int n = sys_epoll_wait(k->epfd, ev, 64, 0);

	for (int i = 0; i < n; i++)
		event(k, ev[i].data.u64, ev[i].events);
}

static bool drained(const struct keeper *k)
{
	return k->draining && (io_now() >= k->drain_until || !stack_live(host->shard.stack));
}

/* The stack has defended our address (RFC 5227); that somebody else has it too is a person's to mend. */
static void conflicts_look(struct keeper *k)
{
	uint64_t n = stack_counters(host->shard.stack)[CNT_ArpConflicts];
	char text[CONFIG_ERR_BYTES];

	if (n == k->conflicts_seen)
		return;
	if (!k->conflicts_seen) { /* once: who floods us must not fill the log */
		snprintf(text, sizeof(text), "host=%s: another station on %s uses an address of this host; give one of them another address",
			 host->name, host->ifname);
		say_to(k->warden_fd, KEEPER_NOTES, text);
	}
	k->conflicts_seen = n;
}

/* Return: 0: told to leave, negative errno: the device cannot be driven */
static int serve(struct keeper *k)
{
	while (!k->leave && !drained(k)) {
		bool busy;
		int r;

		if (atomic_load(&host->slot_changes) != k->changes_seen)
			slots_look(k);
		if (!k->n_pidfds && atomic_load(&host->n_live) > 1)
			timer_need(k, io_now() + ORPHAN_FORK_US);
		warden_tell(k);
		conflicts_look(k);
		if (k->leave)
			break;
		busy = pumps_run(k->pumps);
		if (pumps_due(k->pumps) != USEC_NEVER)
			timer_need(k, pumps_due(k->pumps));
		r = drive_keeper(k->t, k->epfd, pumps_ready(k->pumps), !busy);
		if (r < 0)
			return r;
		if (r & IO_WAIT_KFD)
			events(k);
	}
	return 0;
}

/* Format, or take over. Return: 0, negative errno with @ret_err */
static int arena_ready(const struct keeper_args *a, char *ret_err, size_t err_bytes)
{
	int rc = arena_map(a->memfd, true);

	if (rc == -EPROTO)
		return host_format(a->memfd, a->cfg, a->dev, a->owner_uid, a->token, ret_err, err_bytes);
	if (rc)
		snprintf(ret_err, err_bytes, "host=%s: the keeper cannot map the arena (%s); raise the limit of address space (ulimit -v)",
			 a->cfg->host, strerror(-rc));
	return rc;
}

/**
 * slot_take() - become SLOT_KEEPER, by way of an ordinary slot where a predecessor must be buried first
 * Return: 0, negative errno
 */
static int slot_take(struct keeper *k)
{
	int rc;

	if (atomic_load(&host->slot[SLOT_KEEPER].pid)) {
		rc = slot_register();
		if (rc < 0)
			return rc;
		k->t = thr_enter();
		if (!k->t)
			return -ENOMEM;
		slot_drop(k->t, SLOT_KEEPER);
		shard_lock(k->t);
		exports_drop(k->t);
		thr_leave(k->t);
		thr_exit(k->t);
		slot_unregister();
	}
	rc = slot_register_keeper();
	if (rc < 0)
		return rc;
	k->t = thr_enter();
	atomic_store(&host->keeper.pid, (uint32_t)sys_getpid());
	return k->t ? 0 : -ENOMEM;
}

int keeper_main(const struct keeper_args *a)
{
	struct keeper k = { .listen_fd = a->listen_fd, .warden_fd = a->warden_fd, .timer_at = USEC_NEVER };
	char text[CONFIG_ERR_BYTES] = "";
	int rc;

	prctl(PR_SET_NAME, "ownstack-keeper", 0, 0, 0);
	for (int s = 1; s < 32; s++) { /* a stop of the whole session is the warden's to hear; it drains us */
		if (s == SIGTERM || s == SIGINT || s == SIGHUP || s == SIGPIPE)
			signal(s, SIG_IGN);
	}
	rc = arena_ready(a, text, sizeof(text));
	if (!rc)
		rc = privileges_drop(a);
	if (!rc)
		rc = slot_take(&k);
	if (rc) {
		if (!text[0])
			snprintf(text, sizeof(text), "host=%s: the keeper cannot start (%s); see `ownstack doctor`", a->cfg->host, strerror(-rc));
		say_to(a->warden_fd, KEEPER_FAILED, text);
		return 3;
	}
	host_queue_adopt(a->queue_fd);
	k.epfd = sys_epoll_create();
	k.timer_fd = (int)sys_call(SYS_timerfd_create, CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK, 0, 0, 0, 0);
	watch_fd(&k, EV_LISTEN, 0, k.listen_fd);
	watch_fd(&k, EV_WARDEN, 0, k.warden_fd);
	watch_fd(&k, EV_TIMER, 0, k.timer_fd);
	k.pumps = pumps_new(k.t, k.epfd, EV_PUMP);
	k.bell_fd = k.pumps ? bell_open() : -1;
	if (k.bell_fd >= 0)
		watch_fd(&k, EV_BELL, 0, k.bell_fd);
	seccomp_narrow();
	k.changes_seen = atomic_load(&host->slot_changes) - 1;
	say_to(k.warden_fd, KEEPER_READY, "");
	rc = serve(&k);
	atomic_store(&host->keeper.pid, 0);
	thr_exit(k.t);
	slot_unregister();
	return rc ? 4 : 0;
}
