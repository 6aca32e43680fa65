/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tcp_ecn.c - explicit congestion notification, RFC 3168 6.1
 *
 * Receiver: a marked segment makes us say ECE in all we send until the peer's CWR. Sender: ECE is taken as a loss would
 * be, once in a round trip, but nothing is sent again; the reduction is told with CWR on the next new segment. The
 * handshake is in tcp_input.c, tcp_listen.c and tcp_output.c.
 *
 * cwnd falls to ssthresh at once instead of by PRR: nothing is missing, so that the data in flight keeps the
 * acknowledgments coming while we wait for it to drain.
 */
#include "tcp_priv.h"

#define QUICKACKS_ON_MARK 2u /* as Linux: the sender should hear of it soon */

void tcp_ecn_seen(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s)
{
	if (s->flags & TH_CWR)
		t->ecn &= (uint8_t)~ECN_ECHO;
	if ((s->tos & IP_ECN_MASK) != IP_ECN_CE)
		return;
	CNT(st, IpExtInCEPkts);
	if (!(t->ecn & ECN_ECHO) && t->quick_acks < QUICKACKS_ON_MARK)
		t->quick_acks = QUICKACKS_ON_MARK;
	t->ecn |= ECN_ECHO;
	t->flags &= ~TF_PINGPONG;
	t->flags |= TF_ACK_NOW;
	tcp_output_want(st, t);
}

void tcp_ecn_ack(struct stack *st, struct tcp_conn *t, const struct tcp_seg *s, usec_t now)
{
	if (t->ecn & ECN_REDUCED && seq_geq(t->snd_una, t->cwr_end))
		t->ecn &= (uint8_t)~ECN_REDUCED;
	if (!(s->flags & TH_ECE) || !(t->ecn & ECN_OK) || t->ca_state >= TCP_CA_RECOVERY || tcp_ecn_reduced(t))
		return;
	if (t->cc_cell) /* models the path: ECE is no sign of a full one */
		return;
	CNT(st, TcpExtTCPECNReduced);
	t->ssthresh = tcp_cc_reduce(t, now);
	if (t->cwnd > t->ssthresh)
		t->cwnd = t->ssthresh;
	t->cwr_end = t->snd_nxt;
	t->ecn |= ECN_REDUCED;
}
