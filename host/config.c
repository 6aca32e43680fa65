/* SPDX-License-Identifier: BSD-2-Clause */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include "config.h"
#include "sysctl.h"

const struct config_row config_rows[] = {
#define SETTING(field, option, variable, type, dflt, lowest, highest, choices, argument, help) \
	{ #field, option, variable, CONFIG_##type, dflt, lowest, highest, choices, argument, help },
#include "config.def"
#undef SETTING
};
const int config_n_rows = sizeof(config_rows) / sizeof(config_rows[0]);

/* The rows again, for what must know the field: an enum to switch on */
enum config_id {
#define SETTING(field, ...) ID_##field,
#include "config.def"
#undef SETTING
};

static int bad(char *ret_err, size_t bytes, const char *shown, const char *value, const char *what)
{
	snprintf(ret_err, bytes, "%s=%.100s: %s", shown, value, what);
	return -EINVAL;
}

bool config_cidr_parse(const char *text, bool with_prefix, struct config_cidr *ret_cidr)
{
	struct config_cidr c = { .set = true };
	char host[INET6_ADDRSTRLEN];
	size_t n = strcspn(text, "/");
	unsigned long prefix;
	struct in_addr v4;
	unsigned most;
	char *end;

	if (n >= sizeof(host) || (text[n] == '/') != with_prefix)
		return false;
	memcpy(host, text, n);
	host[n] = 0;
	if (inet_pton(AF_INET, host, &v4) == 1) {
		c.addr = ipaddr_v4(v4.s_addr);
		most = 32;
	} else if (inet_pton(AF_INET6, host, c.addr.b) == 1) {
		most = 128;
	} else {
		return false;
	}
	c.prefix_len = (uint8_t)most;
	if (with_prefix) {
		if (!isdigit((unsigned char)text[n + 1]))
			return false;
		prefix = strtoul(text + n + 1, &end, 10);
		if (*end || prefix > most)
			return false;
		c.prefix_len = (uint8_t)prefix;
	}
	*ret_cidr = c;
	return true;
}

const char *config_cidr_text(const struct config_cidr *c, bool with_prefix, char *buf, size_t bytes)
{
	char host[INET6_ADDRSTRLEN];

	if (ipaddr_is_v4(c->addr))
		inet_ntop(AF_INET, &c->addr.w[3], host, sizeof(host));
	else
		inet_ntop(AF_INET6, c->addr.b, host, sizeof(host));
	if (with_prefix)
		snprintf(buf, bytes, "%s/%u", host, c->prefix_len);
	else
		snprintf(buf, bytes, "%s", host);
	return buf;
}

static bool mac_parse(const char *text, uint8_t ret_mac[6])
{
	unsigned v[6];
	int used = 0;

	if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &used) != 6 || text[used])
		return false;
	for (int i = 0; i < 6; i++)
		ret_mac[i] = (uint8_t)v[i];
	return !(ret_mac[0] & 1);
}

/* digits with an optional K, M, G or T behind */
static bool number_parse(const char *text, bool units, uint64_t *ret_n)
{
	static const char unit[] = "KMGT";
	unsigned long long n;
	const char *u;
	char *end;

	if (!isdigit((unsigned char)*text))
		return false;
	errno = 0;
	n = strtoull(text, &end, 10);
	if (errno)
		return false;
	if (units && *end && (u = strchr(unit, toupper((unsigned char)*end)))) {
		unsigned shift = 10 * (unsigned)(u - unit + 1);

		if (n > UINT64_MAX >> shift)
			return false;
		n <<= shift;
		end++;
	}
	*ret_n = n;
	return !*end;
}

static bool choice_parse(const char *choices, const char *text, uint32_t *ret_index)
{
	size_t len = strlen(text);
	uint32_t i = 0;

	for (const char *c = choices; len; i++) {
		size_t n = strcspn(c, "|");

		if (n == len && !strncmp(c, text, n)) {
			*ret_index = i;
			return true;
		}
		if (!c[n])
			break;
		c += n + 1;
	}
	return false;
}

static bool name_ok(const char *s)
{
	for (; *s; s++) {
		if (!isalnum((unsigned char)*s) && !strchr("-_.", *s))
			return false;
	}
	return true;
}

static int cidr_append(struct config *cfg, const struct config_cidr *c)
{
	struct config_cidr *p;

	for (uint32_t i = 0; i < cfg->n_addr; i++) {
		if (ipaddr_eq(cfg->addr[i].addr, c->addr))
			return 0; /* option and variable may both say it */
	}
	p = cfg->n_addr < CONFIG_ROWS_MAX ? realloc(cfg->addr, (cfg->n_addr + 1) * sizeof(*p)) : NULL;
	if (!p)
		return -ENOMEM;
	cfg->addr = p;
	p[cfg->n_addr++] = *c;
	return 0;
}

static int neigh_append(struct config *cfg, const char *text)
{
	size_t n = strcspn(text, "=");
	struct config_neigh *p, row;
	struct config_cidr c;
	char host[64];

	if (!text[n] || n >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, n);
	host[n] = 0;
	if (!config_cidr_parse(host, false, &c) || !mac_parse(text + n + 1, row.mac))
		return -EINVAL;
	row.addr = c.addr;
	p = cfg->n_neigh < CONFIG_ROWS_MAX ? realloc(cfg->neigh, (cfg->n_neigh + 1) * sizeof(*p)) : NULL;
	if (!p)
		return -ENOMEM;
	cfg->neigh = p;
	p[cfg->n_neigh++] = row;
	return 0;
}

/* NAME=VALUE; two of Linux's names are settings of our own. -ENOENT: no such name, -EINVAL */
static int sysctl_append(struct config *cfg, const char *text)
{
	size_t n = strcspn(text, "=");
	char name[64];
	int row;

	if (!text[n] || n >= sizeof(name))
		return -EINVAL;
	memcpy(name, text, n);
	name[n] = 0;
	if (!strcmp(name, "net.ipv4.tcp_congestion_control") || !strcmp(name, "tcp_congestion_control"))
		return choice_parse(config_rows[ID_congestion].choices, text + n + 1, &cfg->congestion) ? 0 : -EINVAL;
	if (!strcmp(name, "net.ipv4.tcp_ecn") || !strcmp(name, "tcp_ecn"))
		return choice_parse("0|1|2", text + n + 1, &cfg->ecn) ? 0 : -EINVAL;
	row = sysctl_find(name, n);
	return row < 0 ? -ENOENT : sysctl_set(&cfg->ctl, row, text + n + 1);
}

/* a list separated by commas: addresses, neighbours, settings of the protocols */
static int list_set(struct config *cfg, int id, const char *value, const char *shown, char *ret_err, size_t err_bytes)
{
	char item[128];
	int rc;

	for (const char *s = value; *s;) {
		size_t n = strcspn(s, ",");
		struct config_cidr c;

		if (n >= sizeof(item))
			return bad(ret_err, err_bytes, shown, value, "item too long");
		memcpy(item, s, n);
		item[n] = 0;
		s += n + (s[n] == ',');
		if (id == ID_addr)
			rc = config_cidr_parse(item, true, &c) ? cidr_append(cfg, &c) : -EINVAL;
		else if (id == ID_ctl)
			rc = sysctl_append(cfg, item);
		else
			rc = neigh_append(cfg, item);
		if (rc == -ENOENT)
			return bad(ret_err, err_bytes, shown, item, "no such setting; `ownstack sysctl -d` shows those there are");
		if (rc && id == ID_ctl)
			return bad(ret_err, err_bytes, shown, item, "not a value it can have; `ownstack sysctl -dv` says what it means");
		if (rc == -ENOMEM)
			return bad(ret_err, err_bytes, shown, item, "too many; give fewer"), rc;
		if (rc)
			return bad(ret_err, err_bytes, shown, item,
				   id == ID_addr ? "not an address with prefix length; write it like 10.0.0.2/24" :
						   "not a neighbour; write it like 10.0.0.1=02:00:00:00:00:01");
	}
	return 0;
}

static void *field_of(struct config *cfg, int id)
{
	switch ((enum config_id)id) {
#define SETTING(field, ...) \
	case ID_##field: return &cfg->field;
#include "config.def"
#undef SETTING
	}
	return NULL;
}

/**
 * text_set() - a string into its field, whose size the row's highest length fits
 */
static int text_set(const struct config_row *r, char *field, const char *value, const char *shown, char *ret_err,
		    size_t err_bytes)
{
	size_t n = strlen(value);
	char what[96];

	snprintf(what, sizeof(what), "must have %u to %u characters", (unsigned)r->lowest, (unsigned)r->highest);
	if (n < r->lowest || n > r->highest)
		return bad(ret_err, err_bytes, shown, value, what);
	if (r->type == CONFIG_NAME && !name_ok(value))
		return bad(ret_err, err_bytes, shown, value, "not a name; use letters, digits, '-', '_', '.'");
	if (r->type == CONFIG_IFNAME && (strpbrk(value, "/ \t\n") || !strcmp(value, ".") || !strcmp(value, "..")))
		return bad(ret_err, err_bytes, shown, value, "not an interface name");
	memcpy(field, value, n + 1);
	return 0;
}

static int number_set(const struct config_row *r, void *field, const char *value, const char *shown, char *ret_err,
		      size_t err_bytes)
{
	char what[128];
	uint64_t n;

	if (!number_parse(value, r->type == CONFIG_SIZE, &n) || n < r->lowest || n > r->highest) {
		snprintf(what, sizeof(what), "must be a number from %llu to %llu", (unsigned long long)r->lowest,
			 (unsigned long long)r->highest);
		return bad(ret_err, err_bytes, shown, value, what);
	}
	if (r->type == CONFIG_SIZE)
		*(uint64_t *)field = n;
	else
		*(uint32_t *)field = (uint32_t)n;
	return 0;
}

int config_set(struct config *cfg, int row, const char *value, const char *shown, char *ret_err, size_t err_bytes)
{
	const struct config_row *r = &config_rows[row];
	void *field = field_of(cfg, row);
	char what[128];
	uint32_t n;

	switch (r->type) {
	case CONFIG_NAME: case CONFIG_IFNAME: case CONFIG_TEXT: case CONFIG_PATH:
		return text_set(r, field, value, shown, ret_err, err_bytes);
	case CONFIG_CIDR:
		return config_cidr_parse(value, true, field) ? 0 :
			bad(ret_err, err_bytes, shown, value, "not an address with prefix length; write it like 10.0.0.1/24");
	case CONFIG_IP:
		return config_cidr_parse(value, false, field) ? 0 :
			bad(ret_err, err_bytes, shown, value, "not an address; write it like 10.0.0.1");
	case CONFIG_CIDRS: case CONFIG_NEIGHS: case CONFIG_SYSCTLS:
		return list_set(cfg, row, value, shown, ret_err, err_bytes);
	case CONFIG_MAC:
		cfg->mac_set = mac_parse(value, field);
		return cfg->mac_set ? 0 : bad(ret_err, err_bytes, shown, value,
					      "not a unicast Ethernet address; write it like 02:00:00:00:00:01");
	case CONFIG_UINT: case CONFIG_SIZE:
		return number_set(r, field, value, shown, ret_err, err_bytes);
	case CONFIG_BOOL:
		if (!choice_parse("0|no|off|false|1|yes|on|true", value, &n))
			return bad(ret_err, err_bytes, shown, value, "must be 0 or 1");
		*(bool *)field = n >= 4;
		return 0;
	case CONFIG_CHOICE:
		snprintf(what, sizeof(what), "must be one of %s", r->choices);
		return choice_parse(r->choices, value, field) ? 0 : bad(ret_err, err_bytes, shown, value, what);
	}
	return -EINVAL;
}

void config_init(struct config *cfg)
{
	char err[CONFIG_ERR_BYTES];

	memset(cfg, 0, sizeof(*cfg));
	stack_sysctl_default(&cfg->ctl);
	for (int i = 0; i < config_n_rows; i++) {
		if (config_rows[i].dflt)
			config_set(cfg, i, config_rows[i].dflt, config_rows[i].variable, err, sizeof(err));
	}
}

void config_free(struct config *cfg)
{
	free(cfg->addr);
	free(cfg->neigh);
	cfg->addr = NULL;
	cfg->neigh = NULL;
	cfg->n_addr = cfg->n_neigh = 0;
}

static const char *env_get(char *const *env, const char *name)
{
	size_t n = strlen(name);

	for (; env && *env; env++) {
		if (!strncmp(*env, name, n) && (*env)[n] == '=')
			return *env + n + 1;
	}
	return NULL;
}

int config_from_env(struct config *cfg, char *const *env, char *ret_err, size_t err_bytes)
{
	int rc;

	config_init(cfg);
	for (int i = 0; i < config_n_rows; i++) {
		const char *value = env_get(env, config_rows[i].variable);

		/* an empty variable is an unset one, as shells make them */
		if (!value || !*value)
			continue;
		rc = config_set(cfg, i, value, config_rows[i].variable, ret_err, err_bytes);
		if (rc)
			return rc;
	}
	return 0;
}

bool config_has_device(const struct config *cfg)
{
	return cfg->tap[0] || cfg->packet[0];
}

bool config_has_ip6(const struct config *cfg)
{
	for (uint32_t i = 0; i < cfg->n_addr; i++)
		if (!ipaddr_is_v4(cfg->addr[i].addr))
			return true;
	return cfg->slaac;
}

/* Each version of IP where it belongs, and IPv6 only where it fits */
static int family_check(const struct config *cfg, char *ret_err, size_t err_bytes)
{
	char text[64];

	if (cfg->gateway.set && !ipaddr_is_v4(cfg->gateway.addr))
		return bad(ret_err, err_bytes, "gateway", config_cidr_text(&cfg->gateway, false, text, sizeof(text)),
			   "is for IPv4; give it as --gateway6");
	if (cfg->gateway6.set && ipaddr_is_v4(cfg->gateway6.addr))
		return bad(ret_err, err_bytes, "gateway6", config_cidr_text(&cfg->gateway6, false, text, sizeof(text)),
			   "is for IPv6; give it as --gateway");
	if (cfg->gateway6.set && !config_has_ip6(cfg))
		return bad(ret_err, err_bytes, "gateway6", config_cidr_text(&cfg->gateway6, false, text, sizeof(text)),
			   "the host has no IPv6; give --addr X:X::X/N or --slaac as well");
	if (cfg->tap_peer.set && !ipaddr_is_v4(cfg->tap_peer.addr))
		return bad(ret_err, err_bytes, "tap-peer", config_cidr_text(&cfg->tap_peer, true, text, sizeof(text)),
			   "is for IPv4; give it as --tap-peer6");
	if (cfg->tap_peer6.set && ipaddr_is_v4(cfg->tap_peer6.addr))
		return bad(ret_err, err_bytes, "tap-peer6", config_cidr_text(&cfg->tap_peer6, true, text, sizeof(text)),
			   "is for IPv6; give it as --tap-peer");
	if (cfg->mtu && cfg->mtu < 1280 && config_has_ip6(cfg)) {
		snprintf(text, sizeof(text), "%u", cfg->mtu);
		return bad(ret_err, err_bytes, "mtu", text, "IPv6 needs at least 1280");
	}
	return 0;
}

int config_check(const struct config *cfg, char *ret_err, size_t err_bytes)
{
	char text[64];

	if (cfg->tap[0] && cfg->packet[0])
		return bad(ret_err, err_bytes, "packet", cfg->packet, "a TAP device is named as well; give one of --tap and --packet");
	if (cfg->packet[0] && cfg->tap_peer.set)
		return bad(ret_err, err_bytes, "tap-peer", config_cidr_text(&cfg->tap_peer, true, text, sizeof(text)),
			   "is for a TAP device, not with --packet; leave it out");
	if (cfg->packet[0] && cfg->tap_peer6.set)
		return bad(ret_err, err_bytes, "tap-peer6", config_cidr_text(&cfg->tap_peer6, true, text, sizeof(text)),
			   "is for a TAP device, not with --packet; leave it out");
	if (cfg->packet[0] && cfg->nat)
		return bad(ret_err, err_bytes, "nat", "1", "is for a TAP device, not with --packet; leave it out");
	if (config_has_device(cfg) && !cfg->n_addr && !cfg->tap_peer.set && !cfg->slaac)
		return bad(ret_err, err_bytes, "addr", "", "a device without an address; give --addr A.B.C.D/N");
	if (cfg->mtu && cfg->mtu < 576) {
		snprintf(text, sizeof(text), "%u", cfg->mtu);
		return bad(ret_err, err_bytes, "mtu", text, "must be 0 or at least 576");
	}
	return family_check(cfg, ret_err, err_bytes);
}

int config_find(const char *name)
{
	for (int i = 0; i < config_n_rows; i++) {
		if ((config_rows[i].option && !strcmp(config_rows[i].option, name)) || !strcmp(config_rows[i].variable, name))
			return i;
	}
	return -1;
}

bool config_token(const struct config *cfg, uint8_t ret_token[16])
{
	memset(ret_token, 0, 16);
	for (int i = 0; i < 16; i++) {
		unsigned v;

		if (!cfg->token[2 * i] || sscanf(cfg->token + 2 * i, "%2x", &v) != 1) {
			memset(ret_token, 0, 16);
			return false;
		}
		ret_token[i] = (uint8_t)v;
	}
	return true;
}
