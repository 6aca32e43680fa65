/* SPDX-License-Identifier: BSD-2-Clause */
/* tcp_priv.h - what the files of TCP say to one another. What the rest of stack/ calls in TCP is in stack_priv.h. */
#ifndef OWNSTACK_STACK_TCP_PRIV_H
#define OWNSTACK_STACK_TCP_PRIV_H

#include "cc.h"
#include "seq.h"
#include "stack_priv.h"
#include "tcb.h"
#include "tcp_seg.h"

/* Linux's values */
#define TCP_RTO_MIN_US	   200000u
#define TCP_RTO_MAX_US	   120000000u
#define TCP_RTO_INIT_US	   1000000u
#define TCP_ATO_MIN_US	   40000u
#define TCP_DELACK_MAX_US  200000u
#define TCP_CORK_MAX_US	   200000u
#define TCP_TLP_SLACK_US   2000u
#define TCP_NO_PBUF_US	   1000u	/* try again, where a timer could not send */
#define TCP_MAX_QUICKACKS  16u
#define TCP_MIN_MSS	   88u
#define TCP_MSS_DEFAULT	   536u
#define TCP_MSS_DEFAULT_V6 1220u /* RFC 9293 3.7.1 */
#define TCP_MIN_SND_MSS	   48u
#define TCP_OOW_RATE_MS	   500u
#define TCP_PAWS_24DAYS_MS (24u * 24u * 3600u * 1000u)
#define TCP_DUPTHRESH	   3u
#define TCP_DUPTHRESH_MAX  127u

/* tcp_rest.c */
/** tcp_unrest() - the connection of a socket at rest. NULL: out of memory, nothing has changed */
struct tcp_conn *tcp_unrest(struct stack *st, struct tcb *s, usec_t now);
static inline struct tcp_conn *tcp_wake(struct stack *st, struct tcb *s, usec_t now)
{
	return __builtin_expect(s->conn != NULL, 1) ? s->conn : tcp_unrest(st, s, now);
}
/** tcp_rest_look() - a connection as it would be if it were awake, into @ret_c; owns nothing. For looking only */
const struct tcp_conn *tcp_rest_look(const struct stack *st, const struct tcb *s, struct tcp_conn *ret_c);
bool tcp_rest_timeout(struct stack *st, struct tcp_conn *t, usec_t now);	/* handler of TCPT_REST */
void tcp_rest_arm(struct stack *st, struct tcp_conn *t, usec_t now);
void tcp_rest_timer(struct stack *st, struct tcb *s, usec_t now);	/* keep-alive is due */
void tcp_rest_repair(struct stack *st);			/* options: rows, references, table */
void tcp_rest_restore(struct stack *st, struct tcb *s); /* repair: back to table, port, wheel */
/** tcp_rest_abort() - its socket is closed and there is no memory to end it in order: reset. Takes */
void tcp_rest_abort(struct stack *st, struct tcb *s, usec_t now);
/* tcb->conn, also for who looks without the lock: read once */
static inline struct tcp_conn *tcp_conn(const struct tcb *s)
{
	return __atomic_load_n(&s->conn, __ATOMIC_RELAXED);
}
static inline void tcp_touch(struct stack *st, const struct tcp_conn *t)
{
	stack_touch(st, t->index);
}

/* tcp_sock.c: tables and life */
struct tcp_conn *tcp_new(struct stack *st, uint64_t user, usec_t now);
void tcp_conn_init(struct stack *st, struct tcp_conn *t, struct tcb *s); /* of a zeroed one: CLOSED */
void tcp_drop(struct stack *st, struct tcp_conn *t);	/* takes one that holds nothing any more, and its socket */
void tcp_conn_busy_clear(struct stack *st, struct tcp_conn *t);
static inline int tcp_conn_error_take(struct tcp_conn *t)
{
	int err = (int)t->error;

	t->error = 0;
	return err;
}
void tcp_hash_insert(struct stack *st, struct tcp_conn *t);	/* by its 4-tuple */
void tcp_hash_remove(struct stack *st, struct tcp_conn *t);
/** tcp_set_state() - the one writer of tcb->state */
void tcp_set_state(struct tcp_conn *t, enum tcp_state s);
/** tcp_done() - the connection is over: CLOSED, timers and queues gone. Takes if it is an orphan. */
void tcp_done(struct stack *st, struct tcp_conn *t);
/** tcp_fail() - ends with positive errno @err told to the socket. Takes if it is an orphan. */
void tcp_fail(struct stack *st, struct tcp_conn *t, int err);
void tcp_free(struct stack *st, struct tcp_conn *t);	/* takes: queues, timers, lists, port */
void tcp_port_key(const struct tcp_conn *t, struct port_key *ret_key);
void tcp_init_transfer(struct stack *st, struct tcp_conn *t, usec_t now); /* on reaching ESTABLISHED: mss, buffers, congestion control */
void tcp_snd_purge(struct stack *st, struct tcp_conn *t);	/* send queue; what a writer is filling goes at its commit */
void tcp_opts_default(const struct stack *st, struct tcp_opts *o);
static inline uint32_t tcp_port_hash(uint16_t port)
{
	return port * 0x9e3779b1u >> 7;
}
void tcp_event(struct stack *st, struct tcp_conn *t, uint32_t bits);
void tcp_write_space(struct stack *st, struct tcp_conn *t);	/* tell a writer that waits, if there is enough room */
void tcp_sndbuf_expand(struct stack *st, struct tcp_conn *t);
void tcp_mss_sync(const struct stack *st, struct tcp_conn *t);	/* snd_mss from path MTU, the peer's MSS and options */
struct tcp_conn *tcp_listen_lookup(struct stack *st, const struct ipaddr *laddr, uint16_t lport, const struct ipaddr *raddr,
			      uint16_t rport);
uint32_t tcp_isn(const struct stack *st, const struct ipaddr *laddr, uint16_t lport, const struct ipaddr *raddr,
		 uint16_t rport, usec_t now);
uint32_t tcp_ts_offset(const struct stack *st, const struct ipaddr *laddr, const struct ipaddr *raddr);
uint8_t tcp_rcv_wscale(const struct stack *st, const struct tcp_opts *o);

/* tcp_input.c */
/** tcp_segment() - a segment for a tcb that is not listening. May free it. */
void tcp_segment(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s, usec_t now);
bool tcp_challenge_allowed(struct stack *st, usec_t now);
bool tcp_oow_allowed(uint32_t *at_ms, usec_t now);
bool tcp_oow_short(uint16_t *at_ms, usec_t now);

/* tcp_output.c */
static inline void tcp_output_want(struct stack *st, struct tcp_conn *t)
{
	if (!dnode_linked(&t->out))
		dlist_append(&st->tcp_out, &t->out);
}
void tcp_xmit_syn(struct stack *st, struct tcp_conn *t, usec_t now);	/* SYN, or SYN-ACK in SYN_RECEIVED */
bool tcp_xmit_ack(struct stack *st, struct tcp_conn *t, usec_t now);
bool tcp_xmit_probe(struct stack *st, struct tcp_conn *t, bool zero_window, usec_t now);
void tcp_xmit_rst(struct stack *st, struct tcp_conn *t, usec_t now);	/* active reset of a synchronized connection */
void tcp_xmit_synack(struct stack *st, struct tcp_req *r, usec_t now);
void tcp_xmit_req_ack(struct stack *st, struct tcp_req *r, usec_t now);
void tcp_xmit_tw_ack(struct stack *st, struct tcp_tw *tw, usec_t now);
/** tcp_xmit_rst_reply() - answers a segment that belongs to no connection (RFC 9293 3.10.7.1) */
void tcp_xmit_rst_reply(struct stack *st, const struct ipaddr *laddr, const struct ipaddr *raddr,
			const struct tcp_seg *s, usec_t now);
uint32_t tcp_gso_payload_max(const struct stack *st, const struct tcp_conn *t);
uint32_t tcp_rcv_window(const struct stack *st, const struct tcp_conn *t); /* octets we would offer now */
static inline uint32_t tcp_ts_clock(usec_t now)
{
	return (uint32_t)(now / 1000);
}
static inline uint32_t tcp_flight(const struct tcp_conn *t)
{
	return t->snd_nxt - t->snd_una;
}

uint16_t tcp_wnd_take(const struct stack *st, struct tcp_conn *t); /* the field of the header; moves rcv_adv */
void tcp_ack_sent(struct tcp_conn *t);	/* an acknowledgment left: none is owed */

/* tcp_pair.c */
/**
 * tcp_pair_push() - payload that may leave goes to the other end at once, if that is on this host; while t->looped
 * Return: false: it leaves by frames
 */
bool tcp_pair_push(struct stack *st, struct tcp_conn *t, usec_t now);
void tcp_pair_read(struct stack *st, struct tcp_conn *t, usec_t now); /* while t->pair: its receive queue has room */
void tcp_pair_part(struct tcp_conn *t);	/* while t->pair: by frames from now on */

/* tcp_ecn.c */
#define IP_ECN_MASK 3u
#define IP_ECN_ECT0 2u
#define IP_ECN_CE   3u
/** tcp_ecn_reduced() - cwnd was reduced for a mark within this round trip */
static inline bool tcp_ecn_reduced(const struct tcp_conn *t)
{
	return t->ecn & ECN_REDUCED;
}
void tcp_ecn_seen(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s);		/* receiver: marks, and the peer's CWR */
void tcp_ecn_ack(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s, usec_t now);	/* sender: does it say ECE */

/* tcp_pace.c */
uint64_t tcp_pace_rate(const struct tcp_conn *t);	/* by cwnd and round trip, 0: not measured yet */
void tcp_pace_update(struct tcp_conn *t);	/* pace_Bps from cwnd, round trip and the program's limit */
/** tcp_pace_waits() - may nothing leave yet; the timer will tell */
bool tcp_pace_waits(struct stack *st, struct tcp_conn *t, usec_t now);
void tcp_pace_sent(struct tcp_conn *t, uint32_t len, usec_t now);
uint32_t tcp_tso_frame_max(const struct tcp_conn *t, uint32_t gso);
uint32_t tcp_pace_frame_max(const struct tcp_conn *t);	/* octets of one frame: about a millisecond's worth */

/* what a peer takes that does not say */
static inline uint16_t tcp_mss_unsaid(struct ipaddr peer)
{
	return ipaddr_is_v4(peer) ? TCP_MSS_DEFAULT : TCP_MSS_DEFAULT_V6;
}
static inline uint8_t tcp_tos_of(const struct tcp_opts *o, struct ipaddr peer)
{
	return ipaddr_is_v4(peer) ? o->tos : o->tclass;
}
static inline uint8_t tcp_ttl_of(const struct tcp_opts *o, struct ipaddr peer)
{
	return ipaddr_is_v4(peer) ? o->ttl : o->hop_limit;
}

/* tcp_timer.c */
/* how long an orphan stays in FIN_WAIT_2 */
static inline usec_t tcp_fin_wait_2_us(const struct stack *st, const struct tcp_conn *t)
{
	return SEC(t->opts.linger2_s > 0 ? (uint32_t)t->opts.linger2_s : st->ctl.tcp_fin_timeout_s);
}
void tcp_timer_set(struct stack *st, struct tcp_conn *t, enum tcp_timer_id id, usec_t at);
static inline void tcp_timer_clear(struct tcp_conn *t, enum tcp_timer_id id)
{
	t->deadline[id] = USEC_NEVER;
}
void tcp_timers_off(struct stack *st, struct tcp_conn *t);
void tcp_timers_arm(struct stack *st, struct tcp_conn *t); /* wheel entry from deadline[] (repair) */
void tcp_rto_arm(struct stack *st, struct tcp_conn *t, usec_t now);	/* by what is in flight: RFC 6298 5.1 to 5.3 */
void tcp_keep_arm(struct stack *st, struct tcp_conn *t, usec_t now);
void tcp_rtt_sample(struct tcp_conn *t, uint32_t rtt_us);
void tcp_rto_update(struct tcp_conn *t);	/* rto_us from srtt_us and rttvar_us */
void tcp_persist_arm(struct stack *st, struct tcp_conn *t, usec_t now);

/* tcp_sack.c: scoreboard and recovery */
struct tcp_ack_state {
	uint32_t acked, newly_sacked, rtt_us;	/* rtt_us UINT32_MAX: no sample */
	uint32_t delivered;	/* octets: acknowledged or SACKed, and not before */
	uint32_t prior_fack, reord_low;	/* highest delivered before; reordered: from where */
	bool dupack, dsack, dsack_tlp;
	bool rexmt, orig;	/* delivered: something sent more than once; something below `recover` sent once */
	bool reordered;
};
void tcp_sack_take(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s, uint32_t prior_una, struct tcp_ack_state *a,
		   usec_t now);
void tcp_sack_gaps(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s, struct tcp_ack_state *a, uint32_t start,
		   uint32_t end, usec_t now);
bool tcp_sacked_at(const struct tcp_conn *t, uint32_t seq, uint32_t *ret_end);
uint32_t tcp_sack_fack(const struct tcp_conn *t);
void tcp_sack_trim(struct stack *st, struct tcp_conn *t);	/* snd_una moved */
void tcp_sack_clear(struct stack *st, struct tcp_conn *t);
uint32_t tcp_sack_high(const struct tcp_conn *t);
/** tcp_recovery() - congestion state after an acknowledgment: enter, go on with, or leave recovery; grow cwnd */
void tcp_recovery(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s, const struct tcp_ack_state *a, usec_t now);
void tcp_enter_loss(struct stack *st, struct tcp_conn *t, usec_t now);	/* retransmission timer went off */
uint32_t tcp_pipe(const struct tcp_conn *t);	/* octets thought to be in the network, RFC 6675 4 */
/** tcp_rexmt_next() - next octets to send again; false: none */
bool tcp_rexmt_next(const struct tcp_conn *t, uint32_t *ret_seq, uint32_t *ret_len);
void tcp_recovery_timeout(struct stack *st, struct tcp_conn *t, usec_t now);	/* RACK's timer */
void tcp_lost_all(struct stack *st, struct tcp_conn *t); /* path MTU shrank: what is in flight is sent again */

/* tcp_rack.c: what was sent when */
void tcp_tx_note(struct stack *st, struct tcp_conn *t, usec_t now);
uint32_t tcp_tx_age(struct tcp_conn *t, usec_t now);
void tcp_rx_note(struct stack *st, struct tcp_conn *t, uint32_t s, uint32_t len, usec_t now);
void tcp_rx_mark_all(struct tcp_conn *t, bool lost);
bool tcp_rx_live(const struct tcp_conn *t, uint32_t seq, uint32_t *ret_end);
void tcp_logs_clear(struct stack *st, struct tcp_conn *t);
void tcp_logs_forget(struct tcp_conn *t);
void tcp_delivered(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s, struct tcp_ack_state *a, uint32_t start,
		   uint32_t end, usec_t now);
void tcp_delivered_acked(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s, struct tcp_ack_state *a, usec_t now);
void tcp_rack_dsack(struct tcp_conn *t);
void tcp_rack_recovered(struct tcp_conn *t);
bool tcp_rack_detect(struct stack *st, struct tcp_conn *t, usec_t now);
void tcp_rack_timeout(struct tcp_conn *t, usec_t now);
bool tcp_tail_probe_allowed(const struct tcp_conn *t);
void tcp_tail_probe_arm(struct stack *st, struct tcp_conn *t, usec_t now);
bool tcp_tail_probe_acked(struct tcp_conn *t, const struct tcp_ack_state *a);
/** tcp_tail_probe_xmit() - one new segment if there is one, else the last once more. False: nothing left */
bool tcp_tail_probe_xmit(struct stack *st, struct tcp_conn *t, usec_t now);

/* tcp_recv.c */
/** tcp_recv_data() - payload and FIN of an acceptable segment: queue, acknowledge, wake. False: the tcb is gone */
bool tcp_recv_data(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s, usec_t now);
void tcp_recv_purge(struct stack *st, struct tcp_conn *t);
void tcp_ooo_purge(struct stack *st, struct tcp_conn *t);
unsigned tcp_sack_build(struct tcp_conn *t, struct sack_block *ret_b, unsigned max); /* blocks to report, most recent first */
void tcp_ooo_mark(const struct tcp_conn *t); /* repair: references of its cells */
void tcp_ooo_forget(struct tcp_conn *t);
void tcp_rcv_space_init(struct tcp_conn *t);

/* for tcp_pair.c, which sees to sequence numbers: the next octets, by copy, and how many found room; a cell of them, taken */
uint32_t tcp_recv_copy(struct stack *st, struct tcp_conn *t, const uint8_t *data, uint32_t len);
void tcp_recv_link(struct tcp_conn *t, struct cell *c);
void tcp_recv_tell(struct stack *st, struct tcp_conn *t);	/* a reader that waits for as much as there is */
void tcp_recv_skip(struct stack *st, struct tcp_conn *t);	/* one octet leaves the receive queue unread */
/* does reading the stream leave out the octet at copied_seq */
static inline bool tcp_hole_first(const struct tcp_conn *t)
{
	return t->urg_data && t->rcv_up == t->copied_seq && !t->opts.oobinline;
}

/* tcp_urg.c */
void tcp_urg_take(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s);

/* tcp_listen.c */
void tcp_listen_segment(struct stack *st, struct tcp_conn *l, const struct ip_rx *ip, const struct tcp_seg *s, usec_t now);
void tcp_req_segment(struct stack *st, struct tcp_req *r, const struct ip_rx *ip, const struct tcp_seg *s, usec_t now);
void tcp_req_timer(struct stack *st, struct tcp_req *r, usec_t now);
void tcp_req_drop(struct stack *st, struct tcp_req *r);	/* takes */
bool tcp_req_restore(struct stack *st, struct tcp_req *r, usec_t now);	/* repair; false: its listener is gone */
bool tcp_accept_restore(struct stack *st, struct tcp_conn *t);		/* repair; false: its listener is gone */
void tcp_listen_stop(struct stack *st, struct tcp_conn *l, usec_t now);	/* requests forgotten, unaccepted connections reset */

/* tcp_cookie.c */
void tcp_cookie_answer(struct stack *st, struct tcp_conn *l, struct tcp_req *r, usec_t now);
bool tcp_cookie_take(struct stack *st, struct tcp_conn *l, const struct tcp_seg *s, struct tcp_req *r, usec_t now);

/* tcp_fastopen.c */
void tcp_tfo_cookie(const struct stack *st, const struct tcp_req *r, uint8_t ret_cookie[8]);
bool tcp_tfo_judge(struct stack *st, const struct tcp_conn *l, struct tcp_req *r, const struct tcp_seg *s);
void tcp_tfo_child(struct stack *st, struct tcp_conn *l, struct tcp_conn *t, const struct tcp_seg *s, usec_t now);
void tcp_tfo_end(struct stack *st, struct tcp_conn *t);
bool tcp_tfo_known(const struct stack *st, struct tcp_conn *t);
unsigned tcp_tfo_put(struct stack *st, struct tcp_conn *t, uint8_t *p, unsigned room, uint32_t *ret_data);
void tcp_tfo_syn_ack(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s);
void tcp_tfo_listen(struct stack *st, struct tcp_conn *l);
void tcp_tfo_syn_lost(struct stack *st, struct tcp_conn *t);
/* may the program read and write: Fast Open lets it before the handshake is over */
static inline bool tcp_is_usable(const struct tcp_conn *t)
{
	return (t->state != TCPS_SYN_SENT || t->flags & TF_SYN_WAITS) && (t->state != TCPS_SYN_RECEIVED || t->flags & TF_FASTOPEN);
}

/* tcp_errq.c */
bool tcp_conn_errq_ready(const struct tcp_conn *t);
void tcp_errq_moved(struct stack *st, struct tcp_conn *t, usec_t now); /* while errq: snd_nxt or snd_una did */

/* tcp_info.c: what is measured for it alone */
void tcp_chrono_turn(struct tcp_conn *t, enum tcp_chrono c, usec_t now);
/* @c begins, where nothing farther out holds us up already */
static inline void tcp_chrono_start(struct tcp_conn *t, enum tcp_chrono c, usec_t now)
{
	if (t->chrono < (uint8_t)c)
		tcp_chrono_turn(t, c, now);
}
/* @c does not hold us up any more */
static inline void tcp_chrono_stop(struct tcp_conn *t, enum tcp_chrono c, usec_t now)
{
	if (t->chrono == (uint8_t)c)
		tcp_chrono_turn(t, TCP_CHRONO_BUSY, now);
}
/* A sample of the delivery rate begins with what is sent now */
static inline void tcp_rate_start(struct tcp_conn *t, uint32_t end, usec_t now)
{
	t->rate_una = t->snd_una;
	t->rate_seq = end;
	t->rate_at_us = (uint32_t)now;
}
void tcp_rate_sample(struct tcp_conn *t, usec_t now);
/** tcp_acked_info() - snd_una moved: what tcp_info is told by it */
static inline void tcp_acked_info(struct stack *st, struct tcp_conn *t, usec_t now)
{
	if (t->errq)
		tcp_errq_moved(st, t, now);
	if (seq_geq(t->snd_una, t->rate_seq))
		tcp_rate_sample(t, now);
	if (t->snd_una == t->write_seq)
		tcp_chrono_turn(t, TCP_CHRONO_IDLE, now);
	else if (!(t->flags & TF_NOSPACE))
		tcp_chrono_stop(t, TCP_CHRONO_SNDBUF, now);
}

/* tcp_mtu.c */
uint32_t tcp_path_mtu(const struct stack *st, const struct tcp_conn *t);
void tcp_mtu_blackhole(struct stack *st, struct tcp_conn *t, usec_t now);
uint32_t tcp_mtu_probe_len(struct stack *st, struct tcp_conn *t, uint32_t unsent, usec_t now);
void tcp_mtu_probe_sent(struct tcp_conn *t, uint32_t end, uint32_t len);
void tcp_mtu_acked(struct stack *st, struct tcp_conn *t);	/* while mtu_probe_len */
void tcp_mtu_lost(struct stack *st, struct tcp_conn *t, uint32_t seq, usec_t now); /* while mtu_probe_len */

/* tcp_timewait.c */
/** tcp_timewait() - @t is done but for 2 MSL. Takes if it is an orphan. */
void tcp_timewait(struct stack *st, struct tcp_conn *t, usec_t now);
void tcp_tw_segment(struct stack *st, struct tcp_tw *tw, const struct ip_rx *ip, const struct tcp_seg *s, usec_t now);
void tcp_tw_free(struct stack *st, struct tcp_tw *tw);	/* takes */
void tcp_tw_expire(struct stack *st, usec_t now);
usec_t tcp_tw_ends(const struct stack *st, const struct tcp_tw *tw);	/* about when */
void tcp_tw_repair(struct stack *st, usec_t now);	/* all of them: list, table, ports; the latter are empty before */
bool tcp_tw_reusable(const struct tcp_tw *tw, usec_t now);	/* by a connect of ours, after a second with timestamps */

/* ---- tcp_send.c, and what it needs of tcp_sock.c ---- */
/** tcp_unsent() - octets queued that were never sent; a FIN may be behind them */
static inline uint32_t tcp_unsent(const struct tcp_conn *t)
{
	return seq_lt(t->snd_nxt, t->write_seq) ? t->write_seq - t->snd_nxt : 0;
}
/** tcp_writeable() - would poll() say POLLOUT: Linux's sk_stream_is_writeable() */
bool tcp_writeable(const struct tcp_conn *t);
/** tcp_syn_leaves() - the SYN that waited for data of a Fast Open is sent */
void tcp_syn_leaves(struct stack *st, struct tcp_conn *t, usec_t now);

#endif
