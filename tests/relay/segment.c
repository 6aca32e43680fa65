/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * segment.c - a super-frame taken apart into the segments a wire would carry
 *
 * What a card does that has segmentation offload: each segment gets a copy of the headers with its own sequence number, IP
 * length and IP identification; FIN and PSH only in the last, CWR only in the first. The unfinished TCP checksum holds the
 * sum of the pseudo header, which includes the length, so it is summed anew for each segment; the sum over header and
 * payload is left to the receiver's side as before.
 */
#include "segment.h"
#include <string.h>

enum { TCP_FIN = 0x01, TCP_PSH = 0x08, TCP_CWR = 0x80 };
enum { IP_OFF = VNET_HDR_BYTES + ETH_HDR_BYTES, SEGMENT_MAX = 10240 };

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}
static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}
static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}
static void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v & 0xffff);
}

/** sum16() - RFC 1071 sum of @len octets on top of @sum, folded to 16 bits */
static uint32_t sum16(uint32_t sum, const uint8_t *p, size_t len)
{
	uint64_t s = sum;

	for (; len > 1; len -= 2, p += 2)
		s += get16(p);
	if (len)
		s += (uint32_t)*p << 8;
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint32_t)s;
}

struct headers {
	bool v4;
	size_t tcp_off, data_off;
};

/** headers_find() - are these the headers of a TCP super-frame, all there */
static bool headers_find(const uint8_t *f, size_t len, struct headers *h)
{
	struct vnet_hdr v;

	if (len < IP_OFF + 40)
		return false;
	memcpy(&v, f, sizeof(v));
	if ((v.gso_type & ~VNET_GSO_ECN) != VNET_GSO_TCPV4 && (v.gso_type & ~VNET_GSO_ECN) != VNET_GSO_TCPV6)
		return false;
	h->v4 = (v.gso_type & ~VNET_GSO_ECN) == VNET_GSO_TCPV4;
	h->tcp_off = VNET_HDR_BYTES + (size_t)v.csum_start;
	if (v.gso_size == 0 || h->tcp_off < IP_OFF + 20 || h->tcp_off + 20 > len)
		return false;
	h->data_off = h->tcp_off + (size_t)(f[h->tcp_off + 12] >> 4) * 4;
	return h->data_off >= h->tcp_off + 20 && h->data_off < len && h->data_off + v.gso_size <= SEGMENT_MAX;
}

/** segment_finish() - lengths, identification, flags and checksums of segment @index, which holds @len octets in all */
static void segment_finish(uint8_t *s, size_t len, const struct headers *h, unsigned index, uint32_t seq, bool last)
{
	uint8_t *ip = s + IP_OFF, *tcp = s + h->tcp_off;
	uint32_t tcp_bytes = (uint32_t)(len - h->tcp_off);
	struct vnet_hdr v;

	memcpy(&v, s, sizeof(v));
	v.gso_type = VNET_GSO_NONE;
	v.gso_size = 0;
	v.hdr_len = (uint16_t)(h->data_off - VNET_HDR_BYTES); /* of a super-frame it may be more than is left now */
	memcpy(s, &v, sizeof(v));
	put32(tcp + 4, seq);
	if (!last)
		tcp[13] &= (uint8_t)~(TCP_FIN | TCP_PSH);
	if (index > 0)
		tcp[13] &= (uint8_t)~TCP_CWR;
	if (h->v4) {
		put16(ip + 2, (uint32_t)(len - IP_OFF));
		put16(ip + 4, get16(ip + 4) + index);
		put16(ip + 10, 0);
		put16(ip + 10, ~sum16(0, ip, h->tcp_off - IP_OFF) & 0xffff);
		put16(tcp + 16, sum16(6 + tcp_bytes, ip + 12, 8));
	} else {
		put16(ip + 4, (uint32_t)(len - IP_OFF - 40));
		put16(tcp + 16, sum16(6 + tcp_bytes, ip + 8, 32));
	}
}

unsigned segment_each(uint8_t *frame, size_t len, void (*emit)(void *arg, uint8_t *frame, size_t len), void *arg)
{
	uint8_t seg[SEGMENT_MAX];
	struct headers h;
	struct vnet_hdr v;
	unsigned n = 0;

	if (!headers_find(frame, len, &h)) {
		emit(arg, frame, len);
		return 1;
	}
	memcpy(&v, frame, sizeof(v));
	for (size_t at = h.data_off; at < len; n++) {
		size_t part = len - at < v.gso_size ? len - at : v.gso_size;

		memcpy(seg, frame, h.data_off);
		memcpy(seg + h.data_off, frame + at, part);
		segment_finish(seg, h.data_off + part, &h, n, get32(frame + h.tcp_off + 4) + (uint32_t)(at - h.data_off),
			       at + part == len);
		emit(arg, seg, h.data_off + part);
		at += part;
	}
	return n;
}

void frame_finish_csum(uint8_t *frame, size_t len)
{
	struct vnet_hdr v;
	size_t start, at;

	if (len < VNET_HDR_BYTES)
		return;
	memcpy(&v, frame, sizeof(v));
	start = VNET_HDR_BYTES + (size_t)v.csum_start;
	at = start + v.csum_offset;
	if (!(v.flags & VNET_F_NEEDS_CSUM) || at + 2 > len || start >= len)
		return;
	put16(frame + at, ~sum16(0, frame + start, len - start) & 0xffff);
	v.flags &= (uint8_t)~VNET_F_NEEDS_CSUM;
	memcpy(frame, &v, sizeof(v));
}
