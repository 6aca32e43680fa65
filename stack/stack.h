/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stack.h - the protocol engine: bytes and time in, bytes and deadlines out
 *
 * The contract: after any input, expiry or socket call (tcp.h), drain stack_output() and stack_event(), then ask for
 * stack_deadline() again. Nothing here makes a system call, reads a clock, takes a lock or holds a global. All memory
 * is in the region of the configuration, which every process maps at the same address; pointers inside it are fine,
 * pointers out of it (code, libc, thread-local) are forbidden. Errors are negative errno. The caller holds the
 * shard's lock throughout.
 */
#ifndef OWNSTACK_STACK_STACK_H
#define OWNSTACK_STACK_STACK_H

#include "inet.h"
#include "mem.h"
#include "netdev.h"
#include "pbuf.h"

struct tcb;
struct stack;

/* Settings with Linux's names and defaults; stack_sysctl_default() fills them. */
struct stack_sysctl {
	uint32_t tcp_rmem[3], tcp_wmem[3];	/* least, default, most; bytes */
	uint32_t tcp_syn_retries, tcp_synack_retries, tcp_retries1, tcp_retries2, tcp_orphan_retries;
	uint32_t tcp_fin_timeout_s, tcp_max_syn_backlog, somaxconn, tcp_max_orphans, tcp_max_tw_buckets;
	uint32_t tcp_keepalive_time_s, tcp_keepalive_intvl_s, tcp_keepalive_probes;
	uint32_t tcp_challenge_ack_limit, tcp_init_cwnd;
	uint32_t tcp_timewait_us;		/* 60 s */
	uint32_t rmem_max, wmem_max;		/* what SO_RCVBUF and SO_SNDBUF may ask for, before doubling */
	uint32_t tcp_fastopen;			/* TFO_* */
	uint16_t ip_local_port_range[2];
	uint8_t tcp_mtu_probing;		/* 1: a path that swallows large packets is found out (RFC 4821) */
	uint8_t tcp_syncookies;			/* 0: of too many half-open requests the oldest goes; 1: cookies then; 2: always */
	uint8_t ip_default_ttl, tcp_sack, tcp_timestamps, tcp_window_scaling, tcp_congestion; /* cc index */
	uint8_t tcp_ecn;	/* 0 never, 1 ask for it, 2 agree when asked */
	uint8_t tcp_ecn_fallback; /* a SYN sent again does not ask */
	uint8_t tcp_slow_start_after_idle;
	uint8_t tcp_rfc1337;	/* a reset does not end TIME_WAIT */
	uint64_t mem_limit_bytes;		/* cells of all sockets together */
};
/* tcp_fastopen, Linux's bits */
enum {
	TFO_CLIENT = 1,
	TFO_SERVER = 2,			/* listeners with TCP_FASTOPEN */
	TFO_CLIENT_NO_COOKIE = 4,	/* data goes with the SYN, cookie or none */
	TFO_SERVER_NO_COOKIE = 0x200,	/* and is taken */
	TFO_SERVER_ALL = 0x400,		/* listeners that never asked for it */
};
void stack_sysctl_default(struct stack_sysctl *ctl);

struct stack_config {
	struct region *region;	/* borrowed for the life of the stack, lives in the arena itself */
	uint64_t seed[4];	/* for ISNs, ports, hashes; from the kernel's random source, or a test */
	struct netdev_caps dev;
	struct stack_sysctl ctl;
};

/** stack_init() - gives a stack inside @cfg->region, NULL where the region is too small. @now: current time */
struct stack *stack_init(const struct stack_config *cfg, usec_t now);

/** stack_ctl() - the settings in force */
const struct stack_sysctl *stack_ctl(const struct stack *st);

/* ---- the wire ---- */
void stack_input(struct stack *st, const struct frame *f, usec_t now);	/* borrows */
/**
 * stack_output() - gives the next frame to send, NULL: nothing now. Hand it back with stack_tx_done() once the kernel
 * has read it.
 */
struct pbuf *stack_output(struct stack *st, usec_t now);
/** stack_capture() - frames to ourselves come out as well, marked as told: delivered already, to be recorded only */
void stack_capture(struct stack *st, bool on);
bool stack_output_pending(const struct stack *st);
void stack_tx_done(struct stack *st, struct pbuf *p);	/* takes */
usec_t stack_deadline(const struct stack *st);		/* earliest timer, or USEC_NEVER; may be early, never late */
void stack_expire(struct stack *st, usec_t now);	/* early or repeated calls do nothing */
/** stack_live() - connections, requests and orphans that still need time or input (not listeners, not TIME_WAIT) */
uint32_t stack_live(const struct stack *st);

/* ---- what happened to sockets ---- */
struct stack_event {
	struct tcb *tcb;
	uint64_t user;	/* tcb's cookie at this moment, see tcp_open() */
	uint32_t what;	/* TCP_EV_* bits: edges, what newly became true */
};
/**
 * stack_event() - next event. An event may be stale; who is told looks with tcp_poll(). A tcb is queued at most once.
 */
bool stack_event(struct stack *st, struct stack_event *ret_event);

/* ---- addresses, routes, neighbours: rows of the host (host-level, one set however many shards there will be) ---- */
int stack_addr_add(struct stack *st, struct ipaddr addr, uint8_t prefix_len);	/* makes the on-link route too; -EEXIST, -ENOSPC */
/* IPv6 is refused, and frames of it are dropped, until it is started. */
struct stack_ip6 {
	bool loopback_only;	/* no address on the wire, nothing is said there */
	bool accept_ra;		/* listen to routers: default route, prefixes, addresses made of them, MTU, hop limit */
	uint64_t secret[2];	/* for interface ids that stay (RFC 7217); 0: they are made of the Ethernet address */
};
/** stack_ip6_start() - gives the interface its link-local address; -EMSGSIZE: an MTU below 1,280, -EALREADY */
int stack_ip6_start(struct stack *st, const struct stack_ip6 *cfg, usec_t now);
/**
 * stack_addr_announce() - tells the wire that @addr is ours, twice (RFC 5227 2.3); IPv6: asks whether it is (RFC 4429),
 * and takes it away where somebody else has it. -EADDRNOTAVAIL: it is not ours
 */
int stack_addr_announce(struct stack *st, struct ipaddr addr, usec_t now);
int stack_route_add(struct stack *st, struct ipaddr dst, uint8_t prefix_len, struct ipaddr gateway); /* prefix 0: default */
int stack_neigh_add(struct stack *st, struct ipaddr addr, const uint8_t mac[6]);	/* permanent entry */
bool stack_addr_is_ours(const struct stack *st, struct ipaddr addr);
bool stack_has_route(const struct stack *st, struct ipaddr dst);	/* ours, on-link or through a gateway */
/** stack_source_for() - address we would send from to @dst; -ENETUNREACH */
int stack_source_for(const struct stack *st, struct ipaddr dst, struct ipaddr *ret_src);
/** stack_addr_next() - rows in turn for display: *cursor from 0; false at the end */
bool stack_addr_next(const struct stack *st, uint32_t *cursor, struct ipaddr *ret_addr, uint8_t *ret_prefix_len);

/* ---- objects in use: what must be as before once everybody has gone ---- */
struct stack_usage {
	uint32_t tcbs, requests, timewaits, frames, cells;
};
void stack_usage(const struct stack *st, struct stack_usage *ret_usage);

/* ---- counters: rows of counters.def, one uint64_t each ---- */
enum stack_counter {
#define COUNTER(name, nstat, text) CNT_##name,
#include "counters.def"
#undef COUNTER
	CNT_N,
};
const uint64_t *stack_counters(const struct stack *st);	/* CNT_N of them */
extern const char *const stack_counter_names[CNT_N];	/* as nstat prints them */
extern const char *const stack_counter_texts[CNT_N];
/* frames dropped, by reason: rows of drops.def */
enum stack_drop {
#define DROP(name, text) DROP_##name,
#include "drops.def"
#undef DROP
	DROP_N,
};
const uint64_t *stack_drops(const struct stack *st);	/* DROP_N of them */
extern const char *const stack_drop_names[DROP_N];
extern const char *const stack_drop_texts[DROP_N];

/* ---- repair: called by whoever broke the lock of a dead process ---- */
/**
 * stack_repair() - make the stack whole after its lock's holder died in the middle of anything
 * @dead_owner:	process slot whose pbufs in flight are to be dropped (0: none)
 *
 * Sources of truth are the slabs and each tcb's own fields. Hash, port table, wheel, output and event lists, free
 * lists and cell reference counts are made anew. Connections named in the stack's touching[2] are reset.
 * O(everything), takes milliseconds.
 */
void stack_repair(struct stack *st, uint16_t dead_owner, usec_t now);
/** stack_touch_clear() - nothing is being changed any more: the holder is about to unlock */
void stack_touch_clear(struct stack *st);
/** stack_pbufs_drop() - frees frames given to @owner, which died outside the lock */
void stack_pbufs_drop(struct stack *st, uint16_t owner);

#endif
