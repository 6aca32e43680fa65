/* SPDX-License-Identifier: BSD-2-Clause */
/* fuzz_options.c - any octets in the place of TCP's options; and what we write must be read back the same */
#include "fuzz.h"

static void round_trip(const struct tcp_rx_opts *o)
{
	uint8_t b[TCP_OPTS_MAX];
	struct tcp_rx_opts back;
	unsigned n = 0, blocks = o->n_sack;

	if (o->ts)
		n = tcp_opt_put_ts(b, o->ts_val, o->ts_ecr);
	if (blocks > (o->ts ? 3u : 4u))
		blocks = 3;
	n += tcp_opt_put_sack(b + n, o->sack, blocks);
	MUST(n <= TCP_OPTS_MAX && n % 4 == 0);
	tcp_opts_parse(b, n, &back);
	MUST(back.ts == o->ts && (!o->ts || (back.ts_val == o->ts_val && back.ts_ecr == o->ts_ecr)));
	MUST(back.n_sack == blocks && memcmp(back.sack, o->sack, blocks * sizeof(o->sack[0])) == 0);
}

static void round_trip_syn(const struct tcp_rx_opts *o)
{
	uint8_t b[TCP_OPTS_MAX];
	struct tcp_rx_opts back;
	unsigned n = tcp_opt_put_syn(b, o->mss, o->sack_ok, o->ts, o->wscale_ok ? o->wscale : -1, o->ts_val, o->ts_ecr);

	MUST(n <= TCP_OPTS_MAX && n % 4 == 0);
	tcp_opts_parse(b, n, &back);
	MUST(back.mss == o->mss && back.sack_ok == o->sack_ok && back.ts == o->ts && back.wscale_ok == o->wscale_ok);
	MUST(!o->wscale_ok || back.wscale == o->wscale);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy;
	struct tcp_rx_opts o;

	if (size > TCP_OPTS_MAX)
		size = TCP_OPTS_MAX;
	copy = malloc(size ? size : 1); /* of its own, so that a read behind the end is seen */
	MUST(copy);
	memcpy(copy, data, size);
	tcp_opts_parse(copy, (unsigned)size, &o);
	free(copy);
	MUST(o.n_sack <= TCP_SACK_BLOCKS && o.wscale <= 14);
	round_trip(&o);
	round_trip_syn(&o);
	return 0;
}
