/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp.h - TCP sockets: the calls below are what socket calls become, without blocking, file descriptors or user memory
 *
 * All run under the shard's lock, take `now` where time matters, and return 0/count or negative errno, Linux's errno for
 * Linux's reasons. Payload is moved by the caller in two steps, so that user memory is never touched by the stack:
 *
 *   tcp_send_begin() -> room in cells as iovecs -> caller fills them (with or without the lock) -> tcp_send_commit(n)
 *   tcp_recv_begin() -> data in cells as iovecs -> caller reads them (with or without the lock) -> tcp_recv_done(n)
 *
 * Between begin and commit/done the direction is busy: a second begin on it gives -EBUSY. Input may still append to the
 * receive queue meanwhile, and acknowledgments may free what was sent before.
 */
#ifndef OWNSTACK_STACK_TCP_H
#define OWNSTACK_STACK_TCP_H

#include <sys/uio.h>
#include "stack.h"

typedef uint32_t tcp_seq;

/* RFC 9293 3.3.2; numbers are Linux's TCP_* as tcp_info shows them */
#define TCP_STATES(X)                                                                                                     \
	X(ESTABLISHED, 1) X(SYN_SENT, 2) X(SYN_RECEIVED, 3) X(FIN_WAIT_1, 4) X(FIN_WAIT_2, 5) X(TIME_WAIT, 6) X(CLOSED, 7)   \
	X(CLOSE_WAIT, 8) X(LAST_ACK, 9) X(LISTEN, 10) X(CLOSING, 11)
enum tcp_state {
#define X(name, n) TCPS_##name = n,
	TCP_STATES(X)
#undef X
};
const char *tcp_state_name(enum tcp_state s); /* as ss prints it: "ESTAB", "SYN-SENT", ... */

/* What a waiter can wait for: values of poll(2), so that no translation is needed */
enum {
	TCP_EV_IN = 0x001, TCP_EV_PRI = 0x002, TCP_EV_OUT = 0x004, TCP_EV_ERR = 0x008, TCP_EV_HUP = 0x010,
	TCP_EV_RDNORM = 0x040, TCP_EV_RDBAND = 0x080, TCP_EV_WRNORM = 0x100, TCP_EV_WRBAND = 0x200, TCP_EV_RDHUP = 0x2000,
	TCP_EV_URG = 0x10000,	/* not poll's: urgent data is announced, SIGURG is due */
};

/* Options of a socket. Plain fields; after changing one call tcp_opt_changed(). Accepted sockets inherit all of it. */
struct tcp_opts {
	uint32_t rcvbuf_bytes, sndbuf_bytes;	/* as getsockopt shows them (doubled) */
	uint8_t rcvbuf_locked, sndbuf_locked;	/* set by the program: no auto-tuning */
	uint8_t reuseaddr, reuseport, keepalive, linger_on, nodelay, cork;
	uint8_t quickack, v6only, freebind, transparent, oobinline, timestamp_on, tos, ttl; /* ttl, hop_limit 0: default */
	uint8_t zerocopy, save_syn;		/* SO_ZEROCOPY; TCP_SAVE_SYN: 1 from the IP header on, 2 with Ethernet's */
	uint8_t tclass, hop_limit, priority, bind_no_port, cc; /* cc: index in the table of congestion controls */
	int32_t linger_s, rcvlowat_bytes, defer_accept_s, linger2_s, syncnt;
	uint32_t keepidle_s, keepintvl_s, keepcnt, user_timeout_ms, maxseg_bytes, window_clamp_bytes, notsent_lowat_bytes, mark;
	uint32_t fastopen_qlen;			/* TCP_FASTOPEN of a listener, 0: no */
	uint8_t fastopen_connect, fastopen_no_cookie; /* TCP_FASTOPEN_CONNECT, TCP_FASTOPEN_NO_COOKIE */
	uint8_t accepted;			/* no option: its port is the listener's, and not kept once the connection is over */
	uint32_t port_range;			/* IP_LOCAL_PORT_RANGE: highest << 16 | lowest, 0 in either: the host's */
	uint32_t uid;				/* effective uid at socket(), for SO_REUSEPORT */
	uint64_t max_pacing_Bps;		/* SO_MAX_PACING_RATE, octets in a second; 0: no limit */
};
enum { QUICKACK_UNSET, QUICKACK_ON, QUICKACK_OFF };
enum tcp_opt_id { TCP_OPT_KEEPALIVE, TCP_OPT_NODELAY, TCP_OPT_CORK, TCP_OPT_RCVBUF, TCP_OPT_SNDBUF, TCP_OPT_QUICKACK, TCP_OPT_CC, TCP_OPT_PACING, TCP_OPT_OTHER };

/* ---- life ---- */
/** tcp_open() - gives a CLOSED socket. @family 4 or 6; @user: cookie, comes back in each event. NULL: out of memory */
struct tcb *tcp_open(struct stack *st, int family, uint64_t user, usec_t now);
void tcp_set_user(struct tcb *tcb, uint64_t user);
uint64_t tcp_user(const struct tcb *tcb);
/** tcp_is_taken() - it should have an owner: neither closed by the last one nor waiting to be accepted */
bool tcp_is_taken(const struct tcb *tcb);
/** tcp_opts() - for reading; for writing only after tcp_ready(). Buffers' sizes: see tcp_rcvbuf() */
struct tcp_opts *tcp_opts(struct tcb *tcb);
uint32_t tcp_rcvbuf(const struct tcb *tcb);	/* octets, as getsockopt shows them */
uint32_t tcp_sndbuf(const struct tcb *tcb);
/** tcp_ready() - its options are about to be changed. 0, -ENOBUFS */
int tcp_ready(struct stack *st, struct tcb *tcb, usec_t now);
void tcp_opt_changed(struct stack *st, struct tcb *tcb, enum tcp_opt_id opt, usec_t now);
/** tcp_close() - last reference is gone: FIN after the data, or RST (unread data, SO_LINGER 0). Takes; it lives on as an orphan. */
void tcp_close(struct stack *st, struct tcb *tcb, usec_t now);
/** tcp_close_pending() - for SO_LINGER n: is there data or a FIN still unacknowledged */
bool tcp_close_pending(const struct tcb *tcb);

int tcp_bind(struct stack *st, struct tcb *tcb, const struct endpoint *ep, usec_t now);	/* port 0: pick one */
int tcp_listen(struct stack *st, struct tcb *tcb, int backlog, usec_t now);
/** tcp_connect() - -EINPROGRESS when the SYN is on its way; -EALREADY, -EISCONN, -ECONNREFUSED... once it ended, by state */
int tcp_connect(struct stack *st, struct tcb *tcb, const struct endpoint *to, usec_t now);
/**
 * tcp_connect_data() - connect with data to follow at once: MSG_FASTOPEN, and tcp_connect() with fastopen_connect
 * Return: 0: a cookie is known, the SYN leaves with what tcp_send_begin() and tcp_send_commit() bring now; else as
 * tcp_connect(): -EINPROGRESS, the SYN asks for a cookie
 */
int tcp_connect_data(struct stack *st, struct tcb *tcb, const struct endpoint *to, usec_t now);
/** tcp_syn_waits() - the SYN leaves with the next tcp_send_commit(), which may be of nothing */
bool tcp_syn_waits(const struct tcb *tcb);
/** tcp_syn_room() - octets of payload that go with it */
size_t tcp_syn_room(const struct stack *st, const struct tcb *tcb);
/** tcp_fastopen_keys() - a listener's own keys for cookies, @n 1 or 2 of 16 octets: the second is good, too, but not given out. -ENOBUFS */
int tcp_fastopen_keys(struct stack *st, struct tcb *listener, const uint8_t *keys, int n);
/** tcp_connects_anew() - connect() would begin, not tell of an earlier one: only then its address matters */
bool tcp_connects_anew(const struct tcb *tcb);
int tcp_disconnect(struct stack *st, struct tcb *tcb, usec_t now);	/* connect(AF_UNSPEC) */
/** tcp_accept() - gives the oldest established connection of a listener; -EAGAIN, -EINVAL. Set its cookie at once. */
int tcp_accept(struct stack *st, struct tcb *listener, struct tcb **ret_tcb);
int tcp_shutdown(struct stack *st, struct tcb *tcb, int how, usec_t now); /* how: 0 RD, 1 WR, 2 both; -ENOTCONN, -EINVAL */

/* ---- payload ---- */
enum { TCP_SEND_MORE = 1 /* MSG_MORE */, TCP_SEND_OOB = 2 };
/**
 * tcp_send_begin() - room for up to @want octets
 * @iov, @max:	array for the caller to fill
 * @ret_n:	iovecs used
 *
 * Return: octets of room (> 0, maybe less than @want), -EAGAIN: buffer full or not yet connected, -EPIPE, pending socket
 * error (taken, as Linux's sk_err), -ENOTCONN, -EBUSY. -EAGAIN also where the host has no memory left; TCP_EV_OUT comes then too
 */
ptrdiff_t tcp_send_begin(struct stack *st, struct tcb *tcb, size_t want, struct iovec *iov, int max, int *ret_n);
void tcp_send_commit(struct stack *st, struct tcb *tcb, size_t n, unsigned flags, usec_t now); /* n may be 0: nothing came */
/**
 * tcp_recv_begin() - received data in order from @skip octets on (MSG_PEEK: and consume nothing afterwards)
 * Return: octets available in the iovecs, 0: end of stream, -EAGAIN, -ENOTCONN, pending error (taken), -EBUSY
 */
ptrdiff_t tcp_recv_begin(struct stack *st, struct tcb *tcb, size_t skip, size_t want, struct iovec *iov, int max, int *ret_n);
void tcp_recv_done(struct stack *st, struct tcb *tcb, size_t consumed, usec_t now);
/**
 * tcp_unread() - octets that were read and not used go back to the front of what is to be read
 * Return: 0, -ENOMEM (then none did), -EBUSY
 */
int tcp_unread(struct stack *st, struct tcb *tcb, const void *data, size_t n);
/**
 * tcp_recv_oob() - the urgent octet, recv(MSG_OOB)
 * Return: 1, 0: end of stream, -EINVAL: none, read already or SO_OOBINLINE, -EAGAIN: announced only, -ENOTCONN
 */
int tcp_recv_oob(struct stack *st, struct tcb *tcb, bool peek, uint8_t *ret_octet);
/** tcp_at_mark() - SIOCATMARK. A read that has got something stops here; the next one goes on behind the mark. */
bool tcp_at_mark(const struct tcb *tcb);
/** tcp_mark_after() - is the mark @skip octets ahead: who read, or peeked at, that many stops here */
bool tcp_mark_after(const struct tcb *tcb, size_t skip);
/** tcp_mark_pass() - a read (no peek) found nothing but the urgent octet, or the end behind it: it is behind the mark now, and not unread at close() */
void tcp_mark_pass(struct stack *st, struct tcb *tcb);
/** tcp_busy_clear() - the process that began and never ended is dead */
void tcp_busy_clear(struct stack *st, struct tcb *tcb);

/* ---- told apart from the stream (tcp_errq.c): recvmsg(MSG_ERRQUEUE) ---- */
/* as linux/errqueue.h has them: SO_EE_ORIGIN_*, SO_EE_CODE_ZEROCOPY_COPIED, SCM_TSTAMP_* */
enum { TCP_ERRQ_TIMESTAMPING = 4, TCP_ERRQ_ZEROCOPY = 5, TCP_ERRQ_COPIED = 1 };
enum { TCP_STAMP_SND = 0, TCP_STAMP_SCHED = 1, TCP_STAMP_ACK = 2 };
struct tcp_errq_view {
	usec_t at;		/* time stamps */
	uint32_t info, data;	/* zero copy: first and last number; time stamps: TCP_STAMP_*, number of the octet */
	uint8_t origin, code;
};
bool tcp_errq_ready(const struct tcb *tcb); /* TCP_EV_ERR holds then */
bool tcp_errq_take(struct stack *st, struct tcb *tcb, struct tcp_errq_view *ret);
/** tcp_zerocopy_done() - a send with MSG_ZEROCOPY got its octets in: they are copied, so it is done with the program's memory */
void tcp_zerocopy_done(struct stack *st, struct tcb *tcb);
/** tcp_stamp_sends() - what was sent so far ends a send whose last octet gets time stamps: @kinds 1 << TCP_STAMP_* */
void tcp_stamp_sends(struct stack *st, struct tcb *tcb, unsigned kinds, bool keyed, usec_t now);
/** tcp_stamp_keyed() - SOF_TIMESTAMPING_OPT_ID: octets are numbered from here. -ENOBUFS */
int tcp_stamp_keyed(struct stack *st, struct tcb *tcb, bool from_write_seq);

/* ---- looking ---- */
uint32_t tcp_poll(const struct tcb *tcb);		/* TCP_EV_* bits that hold now, as Linux's tcp_poll() */
enum tcp_state tcp_state(const struct tcb *tcb);
bool tcp_error_pending(const struct tcb *tcb);		/* unlike TCP_EV_ERR, which other things set as well */
int tcp_error_take(struct tcb *tcb);			/* SO_ERROR: positive errno, cleared */
bool tcp_has_port(const struct tcb *tcb); /* held now; tcp_local() goes on telling the last one, as Linux does */
void tcp_local(const struct tcb *tcb, struct endpoint *ret_ep);
/** tcp_saved_syn() - the headers that a listener kept with TCP_SAVE_SYN; NULL: none */
const void *tcp_saved_syn(const struct tcb *tcb, size_t *ret_len);
void tcp_saved_syn_free(struct stack *st, struct tcb *tcb);
int tcp_peer(const struct tcb *tcb, struct endpoint *ret_ep);	/* -ENOTCONN */
size_t tcp_readable_bytes(const struct tcb *tcb);	/* SIOCINQ */
size_t tcp_unacked_bytes(const struct tcb *tcb);	/* SIOCOUTQ */
size_t tcp_unsent_bytes(const struct tcb *tcb);		/* SIOCOUTQNSD */
int tcp_family(const struct tcb *tcb);			/* 4 or 6 */

struct tcp_info_view { /* what TCP_INFO and `ss -i` show; names as in linux/tcp.h, which preload/ fills from it */
	uint8_t state, ca_state, retransmits, probes, backoff, options, snd_wscale, rcv_wscale;
	uint32_t rto_us, ato_us, snd_mss, rcv_mss, unacked, sacked, lost, retrans, pmtu, rcv_ssthresh, rtt_us, rttvar_us;
	uint32_t snd_ssthresh, snd_cwnd, advmss, reordering, rcv_space, total_retrans, min_rtt_us, snd_wnd, rcv_wnd;
	uint64_t last_data_sent, last_ack_recv, last_data_recv; /* usec_t of the event */
	uint64_t bytes_acked, bytes_received, bytes_sent, bytes_retrans, segs_in, segs_out, data_segs_in, data_segs_out;
	uint32_t notsent_bytes, dsack_dups, reord_seen, rcv_ooopack;
	uint32_t backlog, backlog_max; /* listeners: accept queue */
	uint64_t pacing_rate, max_pacing_rate, delivery_rate; /* octets in a second; no pacing: UINT64_MAX, as Linux */
	uint32_t delivered;	/* segments */
	uint8_t delivery_rate_app_limited, fastopen_client_fail;
	uint64_t busy_us, rwnd_limited_us, sndbuf_limited_us;
	uint32_t rcv_mem_bytes, snd_mem_bytes, rcv_rtt_us;
	uint8_t timer;		/* TCP_TIMER_*, as ss shows it */
	uint64_t timer_at;	/* usec_t */
	char cc[16];
};
enum { TCP_TIMER_NONE, TCP_TIMER_ON, TCP_TIMER_KEEPALIVE, TCP_TIMER_TIMEWAIT, TCP_TIMER_PERSIST };
void tcp_info(const struct stack *st, const struct tcb *tcb, struct tcp_info_view *ret_info);
/** tcp_info_times() - adds busy_us and its parts, up to @now */
void tcp_info_times(const struct tcb *tcb, usec_t now, struct tcp_info_view *info);

/** tcp_next() - every live socket in turn for `ss`: *cursor from 0. No lock: what it shows may be torn, never unsafe. */
struct tcb *tcp_next(const struct stack *st, uint32_t *cursor);

/* What is no socket and yet a connection: half open, or in TIME_WAIT */
struct tcp_mini_view {
	struct endpoint local, peer;
	enum tcp_state state;	/* SYN_RECEIVED or TIME_WAIT */
	usec_t timer_at;	/* SYN-ACK once more, or the end of 2 MSL */
	uint8_t timeouts;	/* SYN-ACKs sent again */
};
/** tcp_mini_next() - each of them in turn for `ss`: *cursor from 0; false at the end. No lock, as tcp_next(). */
bool tcp_mini_next(const struct stack *st, uint64_t *cursor, struct tcp_mini_view *ret_view);

/* congestion controls by name, for TCP_CONGESTION; -ENOENT */
int tcp_cc_find(const char *name);
const char *tcp_cc_name(int index); /* NULL past the end */

#endif
