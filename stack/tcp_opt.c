/* SPDX-License-Identifier: BSD-2-Clause */
/* tcp_opt.c - TCP options: maximum segment size, window scale, SACK, timestamps (RFC 9293 3.2, 7323, 2018) */
#include <stddef.h>
#include <string.h>
#include "tcp_seg.h"

enum { OPT_EOL = 0, OPT_NOP = 1, OPT_MSS = 2, OPT_WSCALE = 3, OPT_SACK_OK = 4, OPT_SACK = 5, OPT_TS = 8, OPT_TFO = 34 };

#define WSCALE_MAX 14 /* RFC 7323 2.3 */

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put32(uint8_t *p, uint32_t v)
{
	v = __builtin_bswap32(v);
	memcpy(p, &v, 4);
}

static void parse_sack(const uint8_t *p, unsigned n_octets, struct tcp_rx_opts *o)
{
	for (unsigned i = 0; i + 8 <= n_octets && o->n_sack < TCP_SACK_BLOCKS; i += 8)
		o->sack[o->n_sack++] = (struct sack_block){ get32(p + i), get32(p + i + 4) };
}

/* One option, whose length @len (kind and length octets included) was checked to lie inside the header. */
static void parse_one(const uint8_t *p, unsigned len, struct tcp_rx_opts *o)
{
	switch (p[0]) {
	case OPT_MSS:
		if (len == 4)
			o->mss = (uint16_t)(p[2] << 8 | p[3]);
		break;
	case OPT_WSCALE:
		if (len == 3) {
			o->wscale_ok = true;
			o->wscale = p[2] > WSCALE_MAX ? WSCALE_MAX : p[2];
		}
		break;
	case OPT_SACK_OK:
		if (len == 2)
			o->sack_ok = true;
		break;
	case OPT_SACK:
		if (len >= 10 && (len - 2) % 8 == 0)
			parse_sack(p + 2, len - 2, o);
		break;
	case OPT_TFO: /* RFC 7413 4.1.1: none, or 4 to 16 octets, an even number */
		if (len == 2 || (len >= 6 && len <= 18 && len % 2 == 0)) {
			o->tfo_ok = true;
			o->tfo_len = (uint8_t)(len - 2);
			o->tfo = p + 2;
		}
		break;
	case OPT_TS:
		if (len == 10) {
			o->ts = true;
			o->ts_val = get32(p + 2);
			o->ts_ecr = get32(p + 6);
		}
		break;
	}
}

/**
 * tcp_opts_parse() - read the options of a segment
 * @p:		first octet behind the fixed header, borrowed
 * @len:	octets of options, at most 40
 * @ret_o:	what was found; all else zero
 *
 * A length that is short or leaves the header ends the walk, and what was read before it counts, as in Linux. The
 * layout that nearly every segment has, two NOPs and a timestamp, is recognized by its first word (RFC 7323 appendix
 * A).
 */
void tcp_opts_parse(const uint8_t *p, unsigned len, struct tcp_rx_opts *ret_o)
{
	memset(ret_o, 0, offsetof(struct tcp_rx_opts, sack));
	if (len == TCP_OPT_TS_BYTES && get32(p) == 0x0101080au) {
		ret_o->ts = true;
		ret_o->ts_val = get32(p + 4);
		ret_o->ts_ecr = get32(p + 8);
		return;
	}
	for (unsigned i = 0; i < len;) {
		if (p[i] == OPT_EOL)
			return;
		if (p[i] == OPT_NOP) {
			i++;
			continue;
		}
		if (i + 1 >= len || p[i + 1] < 2 || p[i + 1] > len - i)
			return;
		parse_one(p + i, p[i + 1], ret_o);
		i += p[i + 1];
	}
}

/**
 * tcp_opt_put_syn() - options of a SYN or SYN-ACK, in the order Linux uses
 * @wscale:	shift to offer, negative: none
 *
 * Return: octets written, a multiple of four, at most 20
 */
unsigned tcp_opt_put_syn(uint8_t *p, uint16_t mss, bool sack, bool ts, int wscale, uint32_t ts_val, uint32_t ts_ecr)
{
	unsigned n = 4;

	put32(p, OPT_MSS << 24 | 4 << 16 | mss);
	if (ts) {
		if (sack)
			put32(p + n, OPT_SACK_OK << 24 | 2 << 16 | OPT_TS << 8 | 10);
		else
			put32(p + n, OPT_NOP << 24 | OPT_NOP << 16 | OPT_TS << 8 | 10);
		put32(p + n + 4, ts_val);
		put32(p + n + 8, ts_ecr);
		n += 12;
	} else if (sack) {
		put32(p + n, OPT_NOP << 24 | OPT_NOP << 16 | OPT_SACK_OK << 8 | 2);
		n += 4;
	}
	if (wscale >= 0) {
		put32(p + n, OPT_NOP << 24 | OPT_WSCALE << 16 | 3 << 8 | (uint32_t)wscale);
		n += 4;
	}
	return n;
}

/* Return: octets written, a multiple of four: 4 to 20 */
unsigned tcp_opt_put_tfo(uint8_t *p, const uint8_t *cookie, unsigned len)
{
	unsigned pad = (4 - (len + 2) % 4) % 4;

	memset(p, OPT_NOP, pad);
	p[pad] = OPT_TFO;
	p[pad + 1] = (uint8_t)(len + 2);
	if (len)
		memcpy(p + pad + 2, cookie, len);
	return pad + 2 + len;
}

unsigned tcp_opt_put_ts(uint8_t *p, uint32_t ts_val, uint32_t ts_ecr)
{
	put32(p, 0x0101080au);
	put32(p + 4, ts_val);
	put32(p + 8, ts_ecr);
	return TCP_OPT_TS_BYTES;
}

unsigned tcp_opt_put_sack(uint8_t *p, const struct sack_block *b, unsigned n)
{
	if (n == 0)
		return 0;
	put32(p, OPT_NOP << 24 | OPT_NOP << 16 | OPT_SACK << 8 | (2 + 8 * n));
	for (unsigned i = 0; i < n; i++) {
		put32(p + 4 + 8 * i, b[i].start);
		put32(p + 8 + 8 * i, b[i].end);
	}
	return 4 + 8 * n;
}
