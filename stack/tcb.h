/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcb.h - a TCP socket, its connection, a half-open request, a connection in TIME_WAIT
 *
 * Socket, request and TIME_WAIT share the connection table: each starts with a struct hnode whose `kind` says which it
 * is. Listeners are in a table of their own, keyed by port.
 *
 * A socket is two objects. struct tcb is what all the world holds and what stays; struct tcp_conn is what something happens
 * in. A connection in which nothing happens has none: it is at rest (tcp_rest.c), and what must not be forgotten is in
 * tcb->rest. All functions of these files take a struct tcp_conn but those of tcp.h, which begin with tcp_wake().
 *
 * Send queue: cells from snd_head to snd_tail hold the octets [snd_una, write_seq) without a gap; cell->seq is the
 * sequence number of the first octet of each. A FIN takes the number write_seq and no cell. Receive queue: cells
 * from rcv_head to rcv_tail hold rcv_bytes octets that were not consumed yet. Out-of-order queue and scoreboard are
 * sorted tables of ranges in one cell each, made on demand (tcp_sack.c, tcp_recv.c).
 *
 * Everything that must survive the death of a lock's holder is here, in values; list links are derived
 * (tcp_repair.c).
 */
#ifndef OWNSTACK_STACK_TCB_H
#define OWNSTACK_STACK_TCB_H

#include "stack_priv.h"
#include "tcp.h"

enum tcp_node_kind { TCP_NODE_TCB = 1, TCP_NODE_REQ = 2, TCP_NODE_TW = 3, TCP_NODE_LISTEN = 4 };

#define TCP_TIMERS(X)                                                         \
	X(REXMT, "oldest unacknowledged segment, RFC 6298 5")                 \
	X(PERSIST, "zero-window probe, RFC 9293 3.8.6.1")                     \
	X(DELACK, "acknowledgment held back, RFC 9293 3.8.6.3")               \
	X(KEEP, "keep-alive, RFC 9293 3.8.4; orphans: end of FIN_WAIT_2")     \
	X(RACK, "RACK's window of reordering, or the tail loss probe, RFC 8985")     \
	X(CORK, "partial segment held back by cork or MSG_MORE, 200 ms")      \
	X(PACE, "the next frame may leave, where the rate is paced")               \
	X(REST, "has anything happened lately, or can the connection go to rest")
enum tcp_timer_id {
#define X(name, text) TCPT_##name,
	TCP_TIMERS(X)
#undef X
	TCP_N_TIMERS,
};

/* Congestion state, values as tcp_info shows them (tcpi_ca_state) */
enum tcp_ca_state { TCP_CA_OPEN, TCP_CA_DISORDER, TCP_CA_CWR, TCP_CA_RECOVERY, TCP_CA_LOSS };

enum tcp_flags {
	TF_TS = 1u << 0,	/* options both sides agreed on */
	TF_SACK = 1u << 1,
	TF_WSCALE = 1u << 2,
	TF_FIN_QUEUED = 1u << 3,	/* our FIN stands at write_seq */
	TF_FIN_RCVD = 1u << 4,	/* peer's FIN was taken in: rcv_nxt counts it */
	TF_RCV_SHUT = 1u << 5,	/* shutdown(RD), or the peer's FIN */
	TF_SND_SHUT = 1u << 6,	/* shutdown(WR) */
	TF_ORPHAN = 1u << 7,	/* no reference from a process any more */
	TF_ACK_NOW = 1u << 8,
	TF_ACK_DELAYED = 1u << 9,	/* an acknowledgment is owed, DELACK runs */
	TF_NOSPACE = 1u << 10,	/* a writer met a full buffer: tell it when there is room */
	TF_SND_BUSY = 1u << 11,	/* between tcp_send_begin() and commit */
	TF_RCV_BUSY = 1u << 12,
	TF_MORE = 1u << 13,	/* last send said MSG_MORE */
	TF_ACCEPTQ = 1u << 14,	/* in the accept queue of `parent` */
	TF_HASHED = 1u << 15,
	TF_BOUND = 1u << 16,	/* holds a reference on its port */
	TF_BOUND_ADDR = 1u << 17,	/* laddr was chosen by bind */
	TF_BOUND_PORT = 1u << 18,	/* lport was chosen by bind */
	TF_PINGPONG = 1u << 19,	/* interactive: acknowledgments ride on answers */
	TF_DSACK = 1u << 20,	/* report dsack_start/end in the next acknowledgment */
	TF_RCV_HOLE = 1u << 21,	/* what tcp_recv_begin() gave lies behind the urgent octet at copied_seq */
	TF_NOMEM = 1u << 31,	/* a writer found no cell: not writable until tcp_memory_freed() says so */
	TF_CONNECTING = 1u << 22,	/* connect() was begun, and its outcome not yet told */
	TF_CWND_LIMITED = 1u << 23,	/* cwnd was what stopped us in this round (RFC 7661) */
	TF_URG = 1u << 24,	/* snd_up is ahead of snd_una */
	TF_FASTOPEN = 1u << 25,	/* SYN_SENT: the SYN has the option; SYN_RECEIVED: born by a SYN with a cookie */
	TF_FIN_OOO = 1u << 26,	/* a FIN came ahead of its time: it stands at fin_seq */
	TF_PEER_QUICK = 1u << 27,	/* the last acknowledgment was for one segment, and at once */
	TF_CONNECTED = 1u << 28,	/* Linux's SS_CONNECTED: accepted, or connect() told of its success; until disconnected */
	TF_SYN_WAITS = 1u << 30,	/* SYN_SENT: the SYN leaves with the first data */
	TF_UNDO = 1u << 29,	/* prior_cwnd/prior_ssthresh can be put back if the retransmission proves needless */
};

/* Explicit congestion notification, RFC 3168 6.1 */
enum tcp_ecn_flags {
	ECN_OK = 1u << 0,	/* both sides agreed; in SYN_SENT: our SYN asked for it */
	ECN_ECHO = 1u << 1,	/* a segment came marked: ECE goes with what we send until the peer says CWR */
	ECN_CWR = 1u << 2,	/* cwnd was reduced: the next new segment says so */
	ECN_REDUCED = 1u << 3,	/* for a mark, not for a loss: cwnd stays until snd_una reaches cwr_end */
};

/* Fast Open: data of the SYN was taken; as tcp_info shows them, why it was not */
enum { TFO_SYN_DATA = 0x10, TFO_FAIL = 0x03, TFO_FAIL_COOKIE = 1, TFO_FAIL_NOT_ACKED = 2, TFO_FAIL_SYN_LOST = 3 };

/* Linux's tcp_chrono: busy sending, and then the most outward of what held it up */
enum tcp_chrono { TCP_CHRONO_IDLE, TCP_CHRONO_BUSY, TCP_CHRONO_RWND, TCP_CHRONO_SNDBUF };

/* Tail loss probe that is not answered yet: new data, or the last segment once more */
enum { TLP_NONE, TLP_NEW, TLP_REXMT };
/* F-RTO: not at work; since the time-out; new data leaves in place of retransmissions */
enum { FRTO_OFF, FRTO_ARMED, FRTO_NEW_DATA };
#define UNDO_NONE_SENT UINT32_MAX
#define RACK_NONE      UINT32_MAX

/* Times are the clock's low 32 bits */
struct tx_mark {
	uint32_t end, at_us;
};
struct rx_range {
	uint32_t start, end, at_us, lost;
};
#define TCP_TX_FIRST 4

/* urg_data: 0 no mark; announced, not arrived; read; arrived */
enum { TCP_URG_VALID = 0x100, TCP_URG_NOTYET = 0x200, TCP_URG_READ = 0x400 };
#define TCP_CC_WORDS 16
#define TCP_SACK_RECENT 4

struct tcb_listen {
	struct tcp_conn *acc_head, *acc_tail;	/* established, not accepted yet; linked by acc_next */
	struct tcp_req *req_head, *req_tail;	/* half open, oldest first */
	uint32_t n_acc, n_reqs, backlog_conns;
	uint32_t n_tfo;		/* children in SYN_RECEIVED */
	bool port_chosen;	/* by us: it is given back when listening ends, as Linux does */
	uint32_t overflow_ms;	/* a SYN cookie was sent then, 0: never */
	struct cell *tfo_keys;	/* of its own, NULL: the host's */
};

struct tcp_conn {
	/* ---- touched by each segment ---- */
	struct tcb *tcb;
	uint32_t index;		/* of the tcb in its slab */
	struct ipaddr laddr, raddr;
	uint16_t lport, rport;
	uint8_t state, family, ca_state, snd_wind_shift, rcv_wind_shift, dupacks, backoff, retransmits;
	uint32_t flags;
	uint32_t snd_una, snd_nxt, snd_wnd, snd_wl1, snd_wl2, write_seq;
	uint32_t rcv_nxt, rcv_adv, rcv_wup;	/* rcv_adv: right edge we advertised; rcv_wup: rcv_nxt of the last ACK sent */
	uint32_t ts_recent, ts_offset;
	uint32_t snd_mss;	/* octets of payload in a full segment, options taken off */
	uint32_t cwnd, ssthresh;	/* octets */
	struct cell *snd_head, *snd_tail, *snd_cur;	/* snd_cur: cell that holds snd_nxt, or NULL: look from the head */
	struct cell *rcv_head, *rcv_tail;
	uint32_t rcv_bytes;
	uint32_t snd_mem_bytes, rcv_mem_bytes;	/* blocks held, headers included */
	uint32_t rcv_space_bytes;	/* window we are ready to give, at most */
	struct tcp_conn *pair;	/* the other end, where payload goes to it without frames; its pair is this one (tcp_pair.c) */
	uint8_t looped;		/* the peer's address is ours: the other end may be here */

	/* ---- time ---- */
	struct timer timer;	/* armed no later than the earliest of deadline[]; fires early rather than being moved */
	usec_t deadline[TCP_N_TIMERS];
	uint32_t srtt_us, mdev_us, mdev_max_us, rttvar_us, rto_us, min_rtt_us, ato_us;	/* srtt 8 fold, mdev and rttvar 4 fold */
	uint32_t rtt_seq_end;	/* rttvar's window ends here */
	uint32_t quick_acks;	/* acknowledgments still to be sent at once */
	usec_t last_rcv, last_snd, last_ack, rexmt_start;	/* last data in, data out, ACK in; first retransmission of a series */
	uint32_t ts_recent_ms;	/* our clock when ts_recent was taken */
	uint32_t rexmt_ts;	/* our timestamp on the first retransmission of this recovery (Eifel, RFC 3522) */

	/* ---- queues of the stack ---- */
	struct dnode out;	/* wants to send: st->tcp_out */
	struct dnode mem_wait;	/* with TF_NOMEM: st->mem_waiters */
	struct event_node ev;
	struct port_hold port;
	struct ip_path path;
	uint32_t error;		/* sk_err, positive errno */
	uint32_t soft_error;
	struct cell *errq;	/* tcp_errq.c; NULL: nothing was asked for */
	struct cell *saved_syn;	/* TCP_SAVE_SYN: headers of the SYN, until they are read */
	uint64_t parent;	/* slab handle of the listener while TF_ACCEPTQ */
	struct tcp_conn *acc_next;

	/* ---- loss recovery ---- */
	struct cell *sack;	/* scoreboard, NULL: nothing SACKed */
	struct cell *snd_rx;	/* where retransmission last read, or NULL */
	uint32_t high_rxt;	/* no hole below it is to be sent again */
	uint32_t lost_edge;	/* what is not SACKed below it is taken for lost */
	uint32_t recover;	/* snd_nxt when recovery began */
	uint32_t sacked_bytes, pipe_bytes;
	uint32_t prior_cwnd, prior_ssthresh, prr_cwnd, prr_delivered, prr_out;
	uint32_t reordering;	/* segments; DupThresh, grows when reordering is seen */
	struct cell *txlog;	/* when what is in flight was first sent: ring of tx_mark; NULL: tx_first */
	struct cell *rxlog;	/* what was sent again: table of rx_range; NULL: rx_first */
	struct tx_mark tx_first[TCP_TX_FIRST];
	struct rx_range rx_first;
	uint16_t tx_head, tx_n, rx_n;
	uint8_t tlp, frto, reo_mult, reo_persist, reo_round;
	uint32_t rexmt_bytes;	/* in rxlog, not lost */
	uint32_t rack_at_us, rack_end, rack_rtt_us;	/* latest transmission delivered; RACK_NONE: none of this flight */
	uint32_t reo_round_end, tlp_end;
	uint32_t undo_una, undo_bytes;	/* sent again since undo_una, no D-SACK for it; UNDO_NONE_SENT */
	uint8_t n_sack_recent, probes, ecn;
	uint8_t tfo;		/* TFO_SYN_DATA, and why a client got none (Linux's TFO_*) */
	uint32_t cc[TCP_CC_WORDS];	/* private to the congestion control */
	struct cell *cc_cell;	/* what does not fit there (BBR), NULL: none */
	uint32_t cwnd_used;	/* most in flight since cwnd_at_ms, while the program was what limited us */
	uint32_t cwnd_at_ms;	/* our clock when cwnd was last full, or last brought down for want of use */
	uint32_t cwr_end;	/* snd_nxt when cwnd was last reduced for a mark */
	usec_t pace_at;		/* no frame before, where pace_Bps is set */
	uint64_t pace_Bps;	/* octets of payload in a second, 0: as fast as windows allow */

	/* ---- receiving ---- */
	struct cell *ooo;	/* table of out-of-order ranges, NULL: none */
	uint32_t ooo_bytes;
	uint32_t sack_recent[TCP_SACK_RECENT];
	uint32_t dsack_start, dsack_end;
	uint32_t rcv_mss, rcv_rtt_us, rcv_rtt_seq, rcvq_space, rcvq_seq, copied_seq;
	usec_t rcv_rtt_at, rcvq_at;
	uint32_t fin_seq;
	uint32_t rcv_up;	/* the urgent octet, while urg_data is not 0 */
	uint16_t urg_data;	/* TCP_URG_*, and the octet in the lowest eight bits */
	uint8_t chrono;		/* TCP_CHRONO_*: what there is to send waits for */
	uint8_t rate_app_limited;

	/* ---- sending ---- */
	struct cell *snd_rsv;	/* cells given by tcp_send_begin(), not committed yet */
	uint32_t snd_rsv_room;	/* octets of room given in snd_tail */
	uint32_t iss, irs, snd_max_wnd, snd_sml, snd_up;
	uint32_t push_seq;	/* below it neither cork nor Nagle holds anything back */
	uint32_t advmss, peer_mss;
	uint16_t pmtu_bytes;	/* what is thought to pass a black hole, 0: what the destination's row says */
	uint16_t mtu_high, mtu_probe_len; /* did not pass, or 0; payload of the probe in flight, or 0 */
	uint32_t mtu_probe_end, mtu_at_ms; /* behind the probe; when the search last met an end */
	uint32_t oow_at_ms;	/* last answer to an out-of-window segment, 0: never */

	struct tcp_opts opts;
	struct tcb_listen l;	/* LISTEN only */

	/* ---- counted for tcp_info ---- */
	uint64_t bytes_acked, bytes_received, bytes_sent, bytes_retrans;
	uint32_t segs_in, segs_out, data_segs_in, data_segs_out, total_retrans, dsack_dups, reord_seen, rcv_ooopack;
	uint32_t chrono_at, chrono_sum[3];	/* since when, and what was before; 1,024 us */
	uint32_t rate_seq, rate_una, rate_at_us;	/* delivery rate: the sample ends when rate_seq is acknowledged */
	uint32_t rate_bytes, rate_us;	/* the last one */
};

#define TCP_REST_CC_WORDS 6
/* A connection at rest: nothing is in flight, unread, owed or armed but keep-alive; what is not here has its value at rest */
struct tcp_rest {
	uint8_t state;		/* 0: not at rest */
	uint8_t family, snd_wind_shift, rcv_wind_shift, ecn, quick_acks, reordering, reo_mult, reo_persist, soft_error;
	uint8_t tfo, rate_app_limited;
	uint16_t rcv_mss, peer_mss, advmss;
	uint32_t flags, snd_nxt, rcv_nxt, rcv_adv, snd_wnd, snd_wl1, snd_max_wnd, iss, irs;
	uint32_t ts_recent, ts_recent_ms, cwnd, ssthresh, cwnd_used, cwnd_at_ms;
	uint32_t srtt_us, mdev_us, rttvar_us, min_rtt_us, ato_us;
	uint32_t rcv_rtt_us, rcvq_space, rcvbuf_bytes, sndbuf_bytes;
	uint32_t chrono_sum[3], rate_bytes, rate_us;
	struct tcp_opts_row *opts; /* buffers excepted */
	uint32_t cc[TCP_REST_CC_WORDS]; /* what cc_ops.rest() keeps */
	uint32_t segs_in, segs_out, data_segs_in, data_segs_out, total_retrans, dsack_dups, reord_seen, rcv_ooopack;
	usec_t last_rcv, last_snd, last_ack;
	uint64_t bytes_acked, bytes_received, bytes_sent, bytes_retrans;
};

struct tcb {
	struct hnode node;
	struct ipaddr laddr, raddr; /* those of conn, while it is in the table; at rest the only ones */
	uint16_t lport, rport;
	struct port_hold port;	/* at rest */
	struct tcp_conn *conn;	/* NULL: at rest. The one store that ends or begins it */
	uint64_t user;		/* cookie of the host */
	struct timer timer;	/* keep-alive at rest, TIMER_REST */
	struct tcp_rest rest;
};
_Static_assert(sizeof(struct tcb) + sizeof(struct slab_hdr) <= 360, "what an idle connection costs");

/* Options of connections at rest: equal ones share a row */
struct tcp_opts_row {
	struct hnode node;
	uint32_t refs;
	uint32_t pad;
	struct tcp_opts o;
};

/*
 * Handshake of a listener: what SYN and SYN-ACK said, until the third segment comes. node.own is the SYN's window. The
 * first SYN-ACK left TCP_RTO_INIT_US before timer.at, while timeouts is 0.
 */
struct tcp_req {
	struct hnode node;
	struct timer timer;
	struct ipaddr laddr, raddr;
	uint16_t lport, rport;
	uint16_t mss, advmss, rcv_wnd;
	uint16_t oow_ms;
	uint32_t listener;	/* slab index; it takes its requests with it */
	uint32_t iss, rcv_nxt, ts_recent, ts_offset;
	uint32_t prev, next;	/* slab indexes, of the listener's, oldest first */
	uint32_t saved_syn;	/* cell_ref(), 0: none */
	uint8_t snd_wind_shift : 4, rcv_wind_shift : 4;
	uint8_t timeouts, tos;
	uint8_t flags : 3;	/* TF_TS | TF_SACK | TF_WSCALE */
	uint8_t acked : 1, ecn : 1, tfo : 1; /* tfo: the SYN-ACK brings a cookie */
	uint8_t no_rtt : 1;	/* SYN-ACK was sent more than once, or when is not known */
};
_Static_assert(sizeof(struct tcp_req) + sizeof(struct slab_hdr) <= 128, "half open");

/* 2 MSL after an active close. node.own is the window, as it goes into a header */
struct tcp_tw {
	struct hnode node;
	uint32_t prev, next;	/* slab indexes: those that end before and after it */
	uint32_t ends_ms;	/* of the clock's low 32 bits */
	uint16_t lport, rport;
	struct ipaddr laddr, raddr;
	uint32_t snd_nxt, rcv_nxt, ts_recent, ts_recent_ms;
	uint32_t uid;
	uint16_t oow_ms;
	uint8_t tos, flags;	/* TWF_* */
};
enum { TWF_REUSEADDR = 1, TWF_REUSEPORT = 2, TWF_V6ONLY = 4, TWF_CONNECT = 8, /* its port's key */
       TWF_PORT = 16 /* holds it */, TWF_TS = 32 };
_Static_assert(sizeof(struct tcp_tw) + sizeof(struct slab_hdr) <= 96, "TIME_WAIT");

static inline bool tcp_is_synchronized(const struct tcp_conn *t)
{
	return t->state != TCPS_CLOSED && t->state != TCPS_LISTEN && t->state != TCPS_SYN_SENT;
}

#endif
