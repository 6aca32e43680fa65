/* SPDX-License-Identifier: BSD-2-Clause */
/* tcp_info.c - what TCP_INFO and ss show */
#include <string.h>
#include "tcp_priv.h"

#define CHRONO_SHIFT 10

const char *tcp_state_name(enum tcp_state s)
{
	switch (s) {
	case TCPS_ESTABLISHED: return "ESTAB";
	case TCPS_SYN_SENT: return "SYN-SENT";
	case TCPS_SYN_RECEIVED: return "SYN-RECV";
	case TCPS_FIN_WAIT_1: return "FIN-WAIT-1";
	case TCPS_FIN_WAIT_2: return "FIN-WAIT-2";
	case TCPS_TIME_WAIT: return "TIME-WAIT";
	case TCPS_CLOSED: return "UNCONN";
	case TCPS_CLOSE_WAIT: return "CLOSE-WAIT";
	case TCPS_LAST_ACK: return "LAST-ACK";
	case TCPS_LISTEN: return "LISTEN";
	case TCPS_CLOSING: return "CLOSING";
	}
	return "UNKNOWN";
}

static void info_name(char *dst, size_t cap, const char *src)
{
	size_t n = strlen(src) < cap - 1 ? strlen(src) : cap - 1;

	memcpy(dst, src, n);
}

void tcp_chrono_turn(struct tcp_conn *t, enum tcp_chrono c, usec_t now)
{
	uint32_t at = (uint32_t)(now >> CHRONO_SHIFT);

	if (t->chrono != TCP_CHRONO_IDLE)
		t->chrono_sum[t->chrono - 1] += at - t->chrono_at;
	t->chrono = (uint8_t)c;
	t->chrono_at = at;
}

static uint64_t chrono_us(const struct tcp_conn *t, enum tcp_chrono c, usec_t now)
{
	uint32_t sum = t->chrono_sum[c - 1];

	if (t->chrono == (uint8_t)c)
		sum += (uint32_t)(now >> CHRONO_SHIFT) - t->chrono_at;
	return (uint64_t)sum << CHRONO_SHIFT;
}

/**
 * tcp_rate_sample() - a flight was acknowledged: how fast did it go
 *
 * As Linux's tcp_rate_gen(), a sample that the program limited counts only where it is the better one.
 */
void tcp_rate_sample(struct tcp_conn *t, usec_t now)
{
	uint32_t bytes = t->snd_una - t->rate_una, us = (uint32_t)now - t->rate_at_us;
	bool limited = t->snd_nxt == t->write_seq && !(t->flags & TF_CWND_LIMITED);

	if (us && (!limited || !t->rate_us || (uint64_t)bytes * t->rate_us >= (uint64_t)t->rate_bytes * us)) {
		t->rate_bytes = bytes;
		t->rate_us = us;
		t->rate_app_limited = limited;
	}
	tcp_rate_start(t, t->snd_nxt, now);
}

/* The one of Linux's that runs */
static void info_timer(const struct tcp_conn *t, struct tcp_info_view *i)
{
	static const struct {
		uint8_t id, shown;
	} order[] = { { TCPT_REXMT, TCP_TIMER_ON }, { TCPT_RACK, TCP_TIMER_ON }, { TCPT_PERSIST, TCP_TIMER_PERSIST },
		      { TCPT_KEEP, TCP_TIMER_KEEPALIVE } };

	for (unsigned k = 0; k < sizeof(order) / sizeof(order[0]) && !i->timer; k++) {
		if (t->deadline[order[k].id] == USEC_NEVER)
			continue;
		i->timer = order[k].shown;
		i->timer_at = t->deadline[order[k].id];
	}
}

/* Linux shows these of a socket in any state */
static void info_any(const struct stack *st, const struct tcp_conn *t, struct tcp_info_view *i)
{
	uint64_t rate = t->pace_Bps ? t->pace_Bps : tcp_pace_rate(t);

	i->state = t->state;
	i->max_pacing_rate = t->opts.max_pacing_Bps ? t->opts.max_pacing_Bps : UINT64_MAX;
	i->pacing_rate = !rate || rate > i->max_pacing_rate ? i->max_pacing_rate : rate;
	i->reordering = t->reordering;
	i->snd_cwnd = tcp_is_synchronized(t) ? t->cwnd / (t->snd_mss ? t->snd_mss : 1) : st->ctl.tcp_init_cwnd;
	i->rcv_mem_bytes = t->rcv_mem_bytes;
	i->snd_mem_bytes = t->snd_mem_bytes;
	info_name(i->cc, sizeof(i->cc), tcp_cc_ops(t)->name);
}

void tcp_info_times(const struct tcb *tcb, usec_t now, struct tcp_info_view *i)
{
	const struct tcp_conn *t = tcp_conn(tcb);
	struct tcp_conn rest;

	if (!t) {
		rest.chrono = TCP_CHRONO_IDLE;
		memcpy(rest.chrono_sum, tcb->rest.chrono_sum, sizeof(rest.chrono_sum));
		t = &rest;
	}
	i->rwnd_limited_us = chrono_us(t, TCP_CHRONO_RWND, now);
	i->sndbuf_limited_us = chrono_us(t, TCP_CHRONO_SNDBUF, now);
	i->busy_us = chrono_us(t, TCP_CHRONO_BUSY, now) + i->rwnd_limited_us + i->sndbuf_limited_us;
}

void tcp_info(const struct stack *st, const struct tcb *tcb, struct tcp_info_view *i)
{
	const struct tcp_conn *t = tcp_conn(tcb);
	struct tcp_conn rest;
	uint32_t mss;

	if (!t)
		t = tcp_rest_look(st, tcb, &rest);
	mss = t->snd_mss ? t->snd_mss : 1;
	memset(i, 0, sizeof(*i));
	info_any(st, t, i);
	if (t->state == TCPS_LISTEN) { /* as Linux: unacked and sacked are the accept queue and its limit */
		i->backlog = i->unacked = t->l.n_acc;
		i->backlog_max = i->sacked = t->l.backlog_conns;
		return;
	}
	i->snd_mss = t->snd_mss;
	i->rcv_mss = t->rcv_mss;
	i->advmss = t->advmss;
	i->pmtu = tcp_path_mtu(st, t);
	i->ca_state = t->ca_state;
	i->rcv_rtt_us = t->rcv_rtt_us;
	info_timer(t, i);
	i->retransmits = t->retransmits;
	i->probes = t->probes;
	i->backoff = t->backoff;
	i->options = (uint8_t)((t->flags & TF_TS ? 1 : 0) | (t->flags & TF_SACK ? 2 : 0) | (t->flags & TF_WSCALE ? 4 : 0));
	i->snd_wscale = t->snd_wind_shift;
	i->rcv_wscale = t->rcv_wind_shift;
	i->rto_us = t->rto_us;
	i->ato_us = t->ato_us;
	i->unacked = (tcp_flight(t) + mss - 1) / mss;
	i->sacked = t->sacked_bytes / mss;
	if (t->ca_state >= TCP_CA_RECOVERY && seq_gt(t->lost_edge, t->snd_una))
		i->lost = (t->lost_edge - t->snd_una + mss - 1) / mss;
	i->retrans = (t->rexmt_bytes + mss - 1) / mss;
	i->rcv_ssthresh = t->rcv_space_bytes;
	i->rtt_us = t->srtt_us >> 3;
	i->rttvar_us = t->mdev_us >> 2;
	i->snd_ssthresh = t->ssthresh >= CWND_MAX_BYTES ? INT32_MAX : t->ssthresh / mss;
	i->rcv_space = t->rcvq_space;
	i->total_retrans = t->total_retrans;
	i->min_rtt_us = t->min_rtt_us ? t->min_rtt_us : UINT32_MAX;
	i->snd_wnd = t->snd_wnd;
	i->rcv_wnd = seq_gt(t->rcv_adv, t->rcv_nxt) ? t->rcv_adv - t->rcv_nxt : 0;
	i->last_data_sent = t->last_snd;
	i->last_ack_recv = t->last_ack;
	i->last_data_recv = t->last_rcv;
	i->bytes_acked = t->bytes_acked;
	i->bytes_received = t->bytes_received;
	i->bytes_sent = t->bytes_sent + t->bytes_retrans;
	i->bytes_retrans = t->bytes_retrans;
	i->segs_in = t->segs_in;
	i->segs_out = t->segs_out;
	i->data_segs_in = t->data_segs_in;
	i->data_segs_out = t->data_segs_out;
	if (t->ecn & ECN_REDUCED && t->ca_state < TCP_CA_CWR)
		i->ca_state = TCP_CA_CWR;
	if (t->ecn & ECN_OK)
		i->options |= 8; /* TCPI_OPT_ECN */
	if (t->tfo & TFO_SYN_DATA)
		i->options |= 32; /* TCPI_OPT_SYN_DATA */
	i->fastopen_client_fail = t->tfo & TFO_FAIL;
	i->delivery_rate = t->rate_us ? (uint64_t)t->rate_bytes * 1000000 / t->rate_us : 0;
	i->delivery_rate_app_limited = t->rate_app_limited;
	i->delivered = (uint32_t)((t->bytes_acked + t->sacked_bytes) / mss);
	if (t->cc_cell) {
		bool limited;

		i->delivery_rate = bbr_rate(t, &limited);
		i->delivery_rate_app_limited = limited;
	}
	i->notsent_bytes = tcp_unsent(t);
	i->dsack_dups = t->dsack_dups;
	i->reord_seen = t->reord_seen;
	i->rcv_ooopack = t->rcv_ooopack;
}

struct tcb *tcp_next(const struct stack *st, uint32_t *cursor)
{
	return slab_next(&st->tcbs, cursor);
}

/* The upper half of the cursor says which slab, the lower where in it */
bool tcp_mini_next(const struct stack *st, uint64_t *cursor, struct tcp_mini_view *v)
{
	uint32_t at = (uint32_t)*cursor;
	const struct tcp_req *r;
	const struct tcp_tw *tw;

	if (*cursor >> 32 == 0) {
		r = slab_next(&st->requests, &at);
		if (r) {
			*v = (struct tcp_mini_view){ .local = { r->laddr, r->lport }, .peer = { r->raddr, r->rport },
						     .state = TCPS_SYN_RECEIVED, .timer_at = r->timer.at, .timeouts = r->timeouts };
			*cursor = at;
			return true;
		}
		at = 0;
	}
	tw = slab_next(&st->timewaits, &at);
	*cursor = 1ull << 32 | at;
	if (!tw)
		return false;
	*v = (struct tcp_mini_view){ .local = { tw->laddr, tw->lport }, .peer = { tw->raddr, tw->rport },
				     .state = TCPS_TIME_WAIT, .timer_at = tcp_tw_ends(st, tw) };
	return true;
}
