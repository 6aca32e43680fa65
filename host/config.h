/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * config.h - settings of a private host, from OWNSTACK_* variables and options; the rows are in config.def
 *
 * An error is one line "SETTING=VALUE: what is wrong; what to do", without the leading "ownstack: ". The environment is the
 * full description: `ownstack run` writes each option back to its variable, and whoever starts the host later reads it there.
 */
#ifndef OWNSTACK_HOST_CONFIG_H
#define OWNSTACK_HOST_CONFIG_H

#include <stddef.h>
#include <stdio.h>
#include "../stack/stack.h"

#define CONFIG_ROWS_MAX 1024 /* addresses or neighbours: what fits into one variable of the environment */
#define CONFIG_ERR_BYTES 320

struct config_cidr {
	struct ipaddr addr;
	uint8_t prefix_len;	/* of the family's own length: 0..32 for IPv4 */
	bool set;
};
struct config_neigh {
	struct ipaddr addr;
	uint8_t mac[6];
};

struct config {
	char host[32], tap[16], packet[16];
	struct config_cidr *addr;	/* n_addr of them, from malloc() */
	uint32_t n_addr;
	struct config_cidr gateway, gateway6, tap_peer, tap_peer6; /* gateways: prefix_len unused */
	uint8_t mac[6];
	bool mac_set;
	uint32_t mtu, linger_s, spin_us;
	bool nat, fallback, leak_v6, verbose, slaac;
	uint32_t io;			/* 0 auto, else enum io_level */
	uint32_t listen_both;		/* 0 no, 1 loopback */
	uint32_t loopback;		/* 0 the kernel's, 1 the private host's own */
	uint64_t arena_bytes, mem_limit;
	uint32_t congestion;		/* 0 cubic, 1 reno, 2 bbr: index into the choices */
	uint32_t ecn;			/* as the sysctl tcp_ecn: 0 no, 1 ask, 2 agree */
	struct stack_sysctl ctl;	/* but for congestion and ecn, which are settings of their own */
	struct config_neigh *neigh;	/* n_neigh of them */
	uint32_t n_neigh;
	char pcap[128], impair[128], token[40], log[128];
};

enum config_type { CONFIG_NAME, CONFIG_IFNAME, CONFIG_TEXT, CONFIG_PATH, CONFIG_CIDR, CONFIG_CIDRS, CONFIG_IP, CONFIG_MAC,
		   CONFIG_UINT, CONFIG_SIZE, CONFIG_BOOL, CONFIG_CHOICE, CONFIG_NEIGHS, CONFIG_SYSCTLS };
struct config_row {
	const char *field, *option, *variable;
	enum config_type type;
	const char *dflt;
	uint64_t lowest, highest;
	const char *choices, *argument, *help;
};
extern const struct config_row config_rows[];
extern const int config_n_rows;

void config_init(struct config *cfg);	/* defaults */
void config_free(struct config *cfg);
/** config_set() - @value for row @row; lists grow. @shown: name the user knows the setting by (option or variable). -EINVAL, -ENOMEM */
int config_set(struct config *cfg, int row, const char *value, const char *shown, char *ret_err, size_t err_bytes);
/** config_from_env() - defaults, then OWNSTACK_* of @env. -EINVAL with the line in @ret_err */
int config_from_env(struct config *cfg, char *const *env, char *ret_err, size_t err_bytes);
/** config_check() - what only the whole shows: one device, addresses where a device is named */
int config_check(const struct config *cfg, char *ret_err, size_t err_bytes);
/** config_has_device() - false: `ownstack run` chooses one itself */
bool config_has_device(const struct config *cfg);
/** config_find() - row of an option or of a variable, -1 */
int config_find(const char *name);
/** config_token() - OWNSTACK_TOKEN as octets; false (and zeroes): not given or not hexadecimal */
bool config_token(const struct config *cfg, uint8_t ret_token[16]);
/** config_has_ip6() - is there anything that needs IPv6 on the wire */
bool config_has_ip6(const struct config *cfg);
const char *config_cidr_text(const struct config_cidr *c, bool with_prefix, char *buf, size_t bytes);
bool config_cidr_parse(const char *text, bool with_prefix, struct config_cidr *ret_cidr);

#endif
