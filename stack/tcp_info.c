/* SPDX-License-Identifier: BSD-2-Clause */
/* tcp_info.c - what TCP_INFO and ss show */
#include <string.h>
#include "tcp_priv.h"

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

void tcp_info(const struct stack *st, const struct tcb *t, struct tcp_info_view *i)
{
	uint32_t mss = t->snd_mss ? t->snd_mss : 1;

	memset(i, 0, sizeof(*i));
	i->state = t->state;
	i->snd_mss = t->snd_mss;
	i->rcv_mss = t->rcv_mss;
	i->advmss = t->advmss;
	i->pmtu = tcp_path_mtu(st, t);
	info_name(i->cc, sizeof(i->cc), tcp_cc_ops(t)->name);
	if (t->state == TCPS_LISTEN) { /* as Linux: unacked and sacked are the accept queue and its limit */
		i->backlog = i->unacked = t->l.n_acc;
		i->backlog_max = i->sacked = t->l.backlog_conns;
		return;
	}
	i->ca_state = t->ca_state;
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
	i->snd_cwnd = t->cwnd / mss;
	i->reordering = t->reordering;
	i->rcv_space = t->rcvq_space;
	i->total_retrans = t->total_retrans;
	i->min_rtt_us = t->min_rtt_us;
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
	i->pacing_rate = t->pace_Bps ? t->pace_Bps : UINT64_MAX;
	i->max_pacing_rate = t->opts.max_pacing_Bps ? t->opts.max_pacing_Bps : UINT64_MAX;
	i->delivered = (uint32_t)((t->bytes_acked + t->sacked_bytes) / mss);
	if (t->cc_cell) {
		bool limited;

		i->delivery_rate = bbr_rate(t, &limited);
		i->delivery_rate_app_limited = limited;
	}
	i->notsent_bytes = (uint32_t)tcp_unsent_bytes(t);
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
				     .state = TCPS_TIME_WAIT, .timer_at = tw->timer.at };
	return true;
}
