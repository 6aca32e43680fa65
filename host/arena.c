/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * arena.c - one sealed memfd, one address
 *
 * The memfd has its final size from the start and is sealed against growing and shrinking, so that no member can make the
 * others fault; it is sparse, so that size costs nothing. MAP_FIXED_NOREPLACE: a program that has something at our address
 * keeps it, and we say so. struct host comes first, the region for all slabs behind it.
 */
#include <netinet/in.h>
#include <stdio.h>
#include "arena.h"
#include "sys.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#if __has_include("layout.h")
#include "layout.h"
#endif
#ifndef OWNSTACK_LAYOUT
#define OWNSTACK_LAYOUT "unversioned"
#endif

struct host *host;

int arena_create(size_t bytes)
{
	int fd = (int)sys_call(SYS_memfd_create, "ownstack-arena", MFD_CLOEXEC | MFD_ALLOW_SEALING, 0, 0, 0, 0);
	int rc;

	if (fd < 0)
		return fd;
	rc = (int)sys_call(SYS_ftruncate, fd, bytes, 0, 0, 0, 0);
	if (!rc)
		rc = sys_fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	if (rc < 0) {
		sys_close(fd);
		return rc;
	}
	return fd;
}

/**
 * arena_layout_hash() - FNV-1a over what the build says about itself and over the sizes of what we share
 *
 * OWNSTACK_LAYOUT is the hash of the sources that declare structures of the arena, made at build time.
 */
uint64_t arena_layout_hash(void)
{
	static const uint64_t sizes[] = { sizeof(struct host), sizeof(struct slot), sizeof(struct file), sizeof(struct watch),
					  sizeof(struct waiter), sizeof(struct epoll), sizeof(struct fdchunk), sizeof(struct pbuf),
					  sizeof(struct slab), SLOTS_MAX };
	uint64_t h = 0xcbf29ce484222325;

	for (const char *s = OWNSTACK_LAYOUT; *s; s++)
		h = (h ^ (uint8_t)*s) * 0x100000001b3;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		h = (h ^ sizes[i]) * 0x100000001b3;
	return h;
}

/* Return: bytes mapped at ARENA_BASE, or negative errno */
static ssize_t map_at_base(int memfd, bool writable)
{
	struct stat st;
	long p;
	int rc = sys_fstat(memfd, &st);

	if (rc < 0)
		return rc;
	if ((size_t)st.st_size < sizeof(struct host))
		return -EPROTO;
	p = sys_call(SYS_mmap, ARENA_BASE, st.st_size, PROT_READ | (writable ? PROT_WRITE : 0),
		     MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_NORESERVE, memfd, 0);
	if (p < 0 && p > -4096)
		return p;
	if ((uintptr_t)p != ARENA_BASE) { /* a kernel before 4.17 takes the address as a hint */
		sys_call(SYS_munmap, p, st.st_size, 0, 0, 0, 0);
		return -EEXIST;
	}
	sys_call(SYS_madvise, ARENA_BASE, st.st_size, MADV_DONTDUMP, 0, 0, 0);
	return st.st_size;
}

int arena_map(int memfd, bool writable)
{
	struct host *h = (struct host *)ARENA_BASE;
	ssize_t bytes = map_at_base(memfd, writable);

	if (bytes < 0)
		return (int)bytes;
	if (__atomic_load_n(&h->magic, __ATOMIC_ACQUIRE) != HOST_MAGIC || h->layout_hash != arena_layout_hash() ||
	    h->arena_bytes != (uint64_t)bytes) {
		sys_call(SYS_munmap, ARENA_BASE, bytes, 0, 0, 0, 0);
		return -EPROTO;
	}
	host = h;
	return 0;
}

void arena_unmap(void)
{
	if (host) {
		sys_call(SYS_munmap, ARENA_BASE, host->arena_bytes, 0, 0, 0, 0);
		host = NULL;
	}
}

static uint64_t physical_bytes(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);

	return pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : (uint64_t)1 << 30;
}

static int format_slabs(struct host *h)
{
	int rc = slab_init(&h->files, &h->region, sizeof(struct file), 0);

	if (!rc)
		rc = slab_init(&h->epolls, &h->region, sizeof(struct epoll), 0);
	if (!rc)
		rc = slab_init(&h->watches, &h->region, sizeof(struct watch), 0);
	if (!rc)
		rc = slab_init(&h->waiters, &h->region, sizeof(struct waiter), 0);
	if (!rc)
		rc = slab_init(&h->kopts, &h->region, sizeof(struct kopt), 0);
	if (!rc)
		rc = slab_init(&h->fdchunks, &h->region, sizeof(struct fdchunk), 0);
	if (!rc)
		rc = slab_init(&h->passports, &h->region, sizeof(struct passport), 0);
	if (!rc)
		rc = slab_init(&h->exports, &h->region, sizeof(struct export), 0);
	return rc;
}

static int format_stack(struct host *h, const struct config *cfg, const struct host_device *dev)
{
	struct stack_config sc = { .region = &h->region, .dev = dev->caps };
	uint64_t mem = cfg->mem_limit ? cfg->mem_limit : physical_bytes() / 16;
	static const char *const cc_names[] = { "cubic", "reno", "bbr" };
	int cc = tcp_cc_find(cc_names[cfg->congestion < 3 ? cfg->congestion : 0]);

	if (sys_call(SYS_getrandom, sc.seed, sizeof(sc.seed), 0, 0, 0, 0) != (long)sizeof(sc.seed))
		return -EIO;
	sc.ctl = cfg->ctl;
	sc.ctl.mem_limit_bytes = mem < h->arena_bytes / 2 ? mem : h->arena_bytes / 2;
	sc.ctl.tcp_ecn = (uint8_t)cfg->ecn;
	if (cc >= 0)
		sc.ctl.tcp_congestion = (uint8_t)cc;
	h->shard.stack = stack_init(&sc, io_now());
	return h->shard.stack ? 0 : -ENOMEM;
}

static int failed(char *ret_err, size_t err_bytes, const char *setting, const char *value, int rc, const char *remedy)
{
	snprintf(ret_err, err_bytes, "%s=%s: %s; %s", setting, value, strerror(-rc), remedy);
	return rc;
}

/* addresses, the default route, neighbours that were given */
static int format_rows(struct host *h, const struct config *cfg, const struct host_device *dev, char *ret_err, size_t err_bytes)
{
	struct stack *st = h->shard.stack;
	char text[64];
	int rc;

	if (config_has_ip6(cfg) || cfg->loopback) {
		struct stack_ip6 ip6 = { .accept_ra = cfg->slaac, .loopback_only = !config_has_ip6(cfg) };

		memcpy(ip6.secret, dev->ip6_secret, sizeof(ip6.secret));
		rc = stack_ip6_start(st, &ip6, io_now());
		if (rc)
			return failed(ret_err, err_bytes, "mtu", "", rc, "IPv6 needs an MTU of at least 1280");
	}
	for (uint32_t i = 0; i < cfg->n_addr; i++) {
		rc = stack_addr_add(st, cfg->addr[i].addr, cfg->addr[i].prefix_len);
		if (rc)
			return failed(ret_err, err_bytes, "addr", config_cidr_text(&cfg->addr[i], true, text, sizeof(text)), rc,
				      "give another address");
		stack_addr_announce(st, cfg->addr[i].addr, io_now()); /* who knew another station by it learns */
	}
	if (cfg->loopback) {
		rc = stack_addr_add(st, ipaddr_v4(htonl(INADDR_LOOPBACK)), 8);
		if (!rc || rc == -EEXIST)
			rc = stack_addr_add(st, (struct ipaddr){ .b = { [15] = 1 } }, 128);
		if (rc && rc != -EEXIST)
			return failed(ret_err, err_bytes, "loopback", "private", rc, "give more bytes with --arena");
	}
	if (cfg->gateway.set) {
		rc = stack_route_add(st, ipaddr_v4(0), 0, cfg->gateway.addr);
		if (rc)
			return failed(ret_err, err_bytes, "gateway", config_cidr_text(&cfg->gateway, false, text, sizeof(text)), rc,
				      "give an address on a link of --addr");
	}
	if (cfg->gateway6.set) {
		rc = stack_route_add(st, (struct ipaddr){ .q = { 0 } }, 0, cfg->gateway6.addr);
		if (rc)
			return failed(ret_err, err_bytes, "gateway6", config_cidr_text(&cfg->gateway6, false, text, sizeof(text)), rc,
				      "give an address on a link of --addr, or a link-local one");
	}
	for (uint32_t i = 0; i < cfg->n_neigh; i++) {
		rc = stack_neigh_add(st, cfg->neigh[i].addr, cfg->neigh[i].mac);
		if (rc)
			return failed(ret_err, err_bytes, "neigh", "...", rc, "give fewer neighbours");
	}
	return 0;
}

static void format_settings(struct host *h, const struct config *cfg, const struct host_device *dev)
{
	snprintf(h->name, sizeof(h->name), "%s", cfg->host);
	snprintf(h->ifname, sizeof(h->ifname), "%s", dev->ifname);
	snprintf(h->pcap_path, sizeof(h->pcap_path), "%s", cfg->pcap);
	snprintf(h->impair, sizeof(h->impair), "%s", cfg->impair);
	h->dev_kind = dev->kind;
	h->dev_caps = dev->caps;
	h->io_level = cfg->io;
	h->listen_both = (uint8_t)cfg->listen_both;
	h->loopback_private = cfg->loopback != 0;
	h->verbose = cfg->verbose;
	h->spin_us = cfg->spin_us;
	h->leak_v6 = cfg->leak_v6;
	h->ifindex = dev->ifindex;
}

int host_format(int memfd, const struct config *cfg, const struct host_device *dev, uint32_t owner_uid, const uint8_t token[16],
		char *ret_err, size_t err_bytes)
{
	struct host *h = (struct host *)ARENA_BASE;
	ssize_t bytes = map_at_base(memfd, true);
	size_t used = (sizeof(*h) + 4095) & ~(size_t)4095;
	char text[24];
	int rc;

	snprintf(text, sizeof(text), "%llu", (unsigned long long)cfg->arena_bytes);
	if (bytes < 0)
		return failed(ret_err, err_bytes, "arena", text, (int)bytes, "raise the limit of address space (ulimit -v)");
	/* a keeper that died while formatting leaves a half-made host: nothing of it is in use, begin again */
	if (h->layout_hash)
		sys_call(SYS_fallocate, memfd, 3 /* PUNCH_HOLE | KEEP_SIZE */, 0, bytes, 0, 0);
	h->layout_hash = arena_layout_hash();
	h->arena_bytes = (uint64_t)bytes;
	h->owner_uid = owner_uid;
	memcpy(h->token, token, sizeof(h->token));
	h->region = (struct region){ .base = (uint8_t *)h + used, .bytes = (size_t)bytes - used };
	h->slot_hint = SLOT_KEEPER + 1;
	h->slot_top = SLOT_KEEPER + 1;
	format_settings(h, cfg, dev);
	rc = format_slabs(h);
	if (!rc)
		rc = format_stack(h, cfg, dev);
	if (rc)
		return failed(ret_err, err_bytes, "arena", text, rc, "give more bytes with --arena");
	stack_capture(h->shard.stack, h->pcap_path[0]);
	rc = format_rows(h, cfg, dev, ret_err, err_bytes);
	if (rc)
		return rc;
	host = h;
	/* release: who reads the magic must see all the rest; pairs with the acquire in arena_map() */
	__atomic_store_n(&h->magic, HOST_MAGIC, __ATOMIC_RELEASE);
	return 0;
}
