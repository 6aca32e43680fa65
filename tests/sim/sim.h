/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sim.h - a network in virtual time: hosts with a stack each on one switch, links with faults, programs on the hosts
 *
 * One seed decides everything, so a run can be repeated exactly. Nothing sleeps: time jumps to the next frame, timer
 * or program's alarm. Each host's link towards the switch has its own rules (rate, queue, delay, jitter, loss,
 * reordering, duplication, corruption); frames arrive at the host with the destination MAC, broadcasts at all others.
 *
 * Programs are small state machines on one socket each. Bytes are a function of connection and offset, so that every
 * octet received is checked where it arrives.
 */
#ifndef OWNSTACK_TESTS_SIM_SIM_H
#define OWNSTACK_TESTS_SIM_SIM_H

#include "../../stack/stack_priv.h"
#include "../../stack/tcp.h"

#define SIM_HOSTS_MAX 8
#define PPM_PERCENT   10000u

struct sim_host;

struct sim_link {
	uint64_t rate_bps;	/* 0: unlimited */
	uint32_t queue_bytes;	/* in front of the rate, 0: unlimited; what does not fit is lost */
	usec_t delay_us, jitter_us;
	uint32_t loss_ppm, dup_ppm, corrupt_ppm;
	/* Gilbert and Elliott: after each frame the link turns bad by one chance and good by the other; how many a bad one loses */
	uint32_t turns_bad_ppm, turns_good_ppm, bad_loss_ppm;
	uint32_t lose_nth;	/* every nth frame that carries data, 0: none */
	uint32_t mtu_bytes;	/* larger IP packets vanish, without a word: a black hole; 0: none do */
	uint32_t reorder_ppm;	/* frames that take reorder_us longer */
	usec_t reorder_us;
	bool reorder_up_to;	/* not all by reorder_us: by anything up to it */
	uint32_t garble_ppm;	/* several octets wrong, and the device says the checksum is right */
	usec_t cut_from, cut_to; /* everything is lost in between */
	uint32_t mark_bytes;	/* frames that find so much in the queue are marked (CE), if their sender is capable; 0: none */
	uint64_t police_bps;	/* what exceeds it is lost, but for bursts of police_bytes; 0: no policer */
	uint32_t police_bytes;
	usec_t spike_from, spike_to; /* the queue (with rate_bps) stands still */
	bool (*lose)(struct sim_host *h, const uint8_t *data, uint32_t len); /* this one is lost */
};

struct sim;
struct app;

struct sim_host {
	struct sim *sim;
	struct stack *st;
	struct region *region;
	struct ipaddr addr;
	uint8_t mac[6];
	struct sim_link link;	/* may be changed at any time */
	usec_t link_free;	/* when the last frame has left the queue */
	uint64_t tx_frames, tx_bytes, lost, marked;
	uint64_t police_left, police_at; /* bits that may pass now, and when that was so */
	uint64_t lose_mark; /* of link.lose */
	uint64_t data_frames; /* of link.lose_nth */
	bool bad;	    /* the state of Gilbert and Elliott's link */
};

/* What a program does; wake() is called after each event of its socket and at its alarm. */
struct app_ops {
	const char *name;
	void (*wake)(struct app *a, usec_t now);
};

struct app {
	const struct app_ops *ops;
	struct sim_host *host;
	struct tcb *tcb;	/* NULL: has none (any more) */
	struct app *next;	/* all of the simulation */
	usec_t alarm;		/* USEC_NEVER: none */
	usec_t started, ended;	/* ended 0: still at it */
	int error;		/* positive errno that ended it */
	uint32_t key;		/* of the byte pattern it sends */
	uint32_t peer_key;
	uint64_t sent, received, want_send, want_recv;
	/* of one kind or another */
	uint32_t requests, request_bytes, response_bytes, done;
	usec_t think_us, asked_at, pause_at_bytes, pause_us, worst_us;
	bool eof, shut, paused, connected, keep, unchecked; /* unchecked: its octets may be wrong */
	uint8_t cc;		/* index + 1 of the congestion control, 0: the host's */
	uint64_t max_pacing_Bps;
	uint16_t port;
	struct ipaddr to;
};

struct sim_frame {
	usec_t at;
	uint64_t nr; /* ties: in order of sending */
	int host;
	struct vnet_hdr vnet;
	uint32_t len;
	uint8_t *data;
};

struct sim {
	uint64_t seed, rnd;
	usec_t now, started;
	struct sim_host host[SIM_HOSTS_MAX];
	int n_hosts;
	struct app *apps;
	struct sim_frame *heap;
	size_t n_heap, cap_heap;
	uint64_t nr;
	uint32_t keys;
	bool offloads, v6;	/* v6: host number n has 2001:db8::n */
	uint64_t steps;
	bool trace; /* each frame as a line on stdout */
	const char *failed; /* first thing that went wrong */
	char failed_text[256];
};

void sim_init(struct sim *s, uint64_t seed, bool offloads);
void sim_fini(struct sim *s);
/** sim_host_add() - host number n has 10.0.0.(n + 1)/24; @ctl: NULL for the defaults */
struct sim_host *sim_host_add(struct sim *s, const struct sim_link *link, const struct stack_sysctl *ctl);
/** sim_run() - until no program is at work, or @limit_us passed. False: limit reached, or something went wrong */
bool sim_run(struct sim *s, usec_t limit_us);
void sim_run_until(struct sim *s, usec_t at);	/* whatever is at work */
void sim_fail(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/** sim_check_clean() - lets TIME_WAIT pass, then nothing may be left: connections, cells, frames */
void sim_check_clean(struct sim *s);

/* ---- programs ---- */
struct app *app_new(struct sim_host *h, const struct app_ops *ops);
/** app_server() - listens on @port; each connection gets a program like @proto (copied): its ops and wishes */
struct app *app_server(struct sim_host *h, uint16_t port, const struct app *proto);
/** app_client() - connects to @to:@port and then behaves like @proto */
struct app *app_client(struct sim_host *h, struct sim_host *to, uint16_t port, const struct app *proto);

/** apps_reap() - forgets programs that have ended, but for listeners */
void apps_reap(struct sim *s);
/** apps_stop() - every program that is still at work closes its socket */
void apps_stop(struct sim *s);

/* sends want_send octets and takes want_recv, both at once; shuts down its side, waits for the other's end, closes */
extern const struct app_ops app_transfer;
/* requests of request_bytes answered by response_bytes, `requests` times, think_us in between; then closes */
extern const struct app_ops app_ask;
extern const struct app_ops app_answer;

#endif
