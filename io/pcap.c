/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pcap.c - frames into a pcapng file (draft-ietf-opsawg-pcapng)
 *
 *   Section Header Block, Interface Description Block (Ethernet, nanoseconds); then for each frame an Enhanced Packet Block:
 *   | type 6 | length | interface | time high, low | captured | original | bytes, padded to 4 | epb_flags in or out | length |
 *
 * Each block is one write to a descriptor in append mode, so that blocks of several processes do not mix. The two header
 * blocks are written by whoever finds the file empty under its lock. Bytes are as the stack sees them: a super-frame is one
 * frame, and with checksum offload a checksum may be unfinished. What cannot be written (disk full) is left out.
 */
#include "pcap.h"
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include "../stack/pbuf.h"
#include "sys.h"

#define BLOCK_SHB	0x0a0d0d0au
#define BLOCK_IDB	1u
#define BLOCK_EPB	6u
#define BYTE_ORDER_MAGIC 0x1a2b3c4du
#define LINKTYPE_ETHERNET 1u
#define OPT_IF_TSRESOL	9u
#define OPT_EPB_FLAGS	2u
#define EPB_IN		1u
#define EPB_OUT		2u
#define PIECES_MAX	(1 + PBUF_FRAGS_MAX)

struct pcap {
	int fd;
};

struct epb_head {
	uint32_t type, bytes, interface, time_high, time_low, captured, original;
};
struct epb_tail { /* behind the padding */
	uint16_t opt_flags, opt_flags_bytes;
	uint32_t flags;
	uint32_t opt_end;
	uint32_t bytes;
};
struct file_head {
	uint32_t shb_type, shb_bytes, magic;
	uint16_t major, minor;
	uint32_t section_bytes_low, section_bytes_high, shb_bytes2;
	uint32_t idb_type, idb_bytes;
	uint16_t link_type, reserved;
	uint32_t snap_bytes;
	uint16_t opt_tsresol, opt_tsresol_bytes;
	uint8_t tsresol[4]; /* 10^-9 s, padded */
	uint32_t opt_end, idb_bytes2;
};

static int pcap_begin(int fd)
{
	const struct file_head h = {
		.shb_type = BLOCK_SHB, .shb_bytes = 28, .magic = BYTE_ORDER_MAGIC, .major = 1,
		.section_bytes_low = UINT32_MAX, .section_bytes_high = UINT32_MAX, .shb_bytes2 = 28,
		.idb_type = BLOCK_IDB, .idb_bytes = 32, .link_type = LINKTYPE_ETHERNET,
		.opt_tsresol = OPT_IF_TSRESOL, .opt_tsresol_bytes = 1, .tsresol = { 9 }, .idb_bytes2 = 32,
	};
	uint32_t first = 0;
	long r = SYS3(SYS_flock, fd, LOCK_EX, 0), n;

	_Static_assert(sizeof(struct file_head) == 28 + 32, "blocks have no gaps");
	if (r < 0)
		return (int)r;
	n = SYS6(SYS_pread64, fd, &first, sizeof(first), 0, 0, 0);
	if (n == 0)
		r = SYS3(SYS_write, fd, &h, sizeof(h)) == (long)sizeof(h) ? 0 : -ENOSPC;
	else
		r = n == (long)sizeof(first) && first == BLOCK_SHB ? 0 : -EEXIST; /* somebody's other file: not ours to spoil */
	SYS3(SYS_flock, fd, LOCK_UN, 0);
	return (int)r;
}

int pcap_open(struct pcap **ret_pcap, const char *path)
{
	long fd = SYS6(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600, 0, 0);
	struct pcap *pc;
	int r, high;

	if (fd < 0)
		return (int)fd;
	high = sys_fd_high((int)fd);
	sys_close((int)fd);
	if (high < 0)
		return high;
	r = pcap_begin(high);
	pc = r == 0 ? calloc(1, sizeof(*pc)) : NULL;
	if (!pc) {
		sys_close(high);
		return r < 0 ? r : -ENOMEM;
	}
	pc->fd = high;
	*ret_pcap = pc;
	return 0;
}

void pcap_close(struct pcap *pc)
{
	if (!pc)
		return;
	sys_close(pc->fd);
	free(pc);
}

/** pcap_write() - one block; @iov has room for head at its front and tail at its end, the frame in between */
static void pcap_write(struct pcap *pc, struct iovec *iov, int n_iov, uint32_t len, bool in)
{
	static const uint8_t zeros[4];
	uint32_t pad = -len & 3, bytes = (uint32_t)(sizeof(struct epb_head) + len + pad + sizeof(struct epb_tail));
	struct epb_head head = { .type = BLOCK_EPB, .bytes = bytes, .captured = len, .original = len };
	struct epb_tail tail = { .opt_flags = OPT_EPB_FLAGS, .opt_flags_bytes = 4, .flags = in ? EPB_IN : EPB_OUT,
				 .bytes = bytes };
	struct timespec ts;
	uint64_t ns;

	clock_gettime(CLOCK_REALTIME, &ts);
	ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	head.time_high = (uint32_t)(ns >> 32);
	head.time_low = (uint32_t)ns;
	iov[0] = (struct iovec){ &head, sizeof(head) };
	iov[n_iov++] = (struct iovec){ (void *)(uintptr_t)zeros, pad };
	iov[n_iov++] = (struct iovec){ &tail, sizeof(tail) };
	SYS3(SYS_writev, pc->fd, iov, n_iov);
}

void pcap_frame(struct pcap *pc, const struct frame *f, bool in)
{
	struct iovec iov[4];

	iov[1] = (struct iovec){ (void *)(uintptr_t)f->data, f->len };
	pcap_write(pc, iov, 2, f->len, in);
}

void pcap_iov(struct pcap *pc, const struct iovec *iov, int n_iov, bool in)
{
	struct iovec pieces[PIECES_MAX + 3];
	uint32_t len = 0;

	if (n_iov < 1 || n_iov > PIECES_MAX || iov[0].iov_len < VNET_HDR_BYTES)
		return;
	for (int i = 0; i < n_iov; i++) {
		pieces[1 + i] = iov[i];
		len += (uint32_t)iov[i].iov_len;
	}
	pieces[1].iov_base = (char *)pieces[1].iov_base + VNET_HDR_BYTES;
	pieces[1].iov_len -= VNET_HDR_BYTES;
	pcap_write(pc, pieces, 1 + n_iov, len - VNET_HDR_BYTES, in);
}
