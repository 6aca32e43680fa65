/* SPDX-License-Identifier: BSD-2-Clause */
#include <criterion/criterion.h>
#include <errno.h>
#include "../../host/config.h"

static char err[CONFIG_ERR_BYTES];

static int from_env(struct config *cfg, const char *setting)
{
	char buf[16384], *env[] = { buf, NULL };

	snprintf(buf, sizeof(buf), "%s", setting);
	return config_from_env(cfg, env, err, sizeof(err));
}

Test(config, empty_environment_gives_the_defaults_of_the_rows)
{
	char *none[] = { NULL };
	struct config cfg;

	cr_assert_eq(config_from_env(&cfg, none, err, sizeof(err)), 0);
	cr_expect_str_eq(cfg.host, "default");
	cr_expect_eq(cfg.arena_bytes, (uint64_t)16 << 30);
	cr_expect_eq(cfg.listen_both, 1);
	cr_expect_eq(cfg.linger_s, 1);
	cr_expect_not(config_has_device(&cfg));
}

Test(config, every_default_passes_its_own_check)
{
	for (int i = 0; i < config_n_rows; i++) {
		struct config cfg;

		config_init(&cfg);
		if (config_rows[i].dflt)
			cr_expect_eq(config_set(&cfg, i, config_rows[i].dflt, "x", err, sizeof(err)), 0, "%s", config_rows[i].variable);
		cr_expect_eq(config_find(config_rows[i].variable), i);
	}
}

Test(config, addresses_are_read_as_a_list)
{
	char text[64];
	struct config cfg;

	cr_assert_eq(from_env(&cfg, "OWNSTACK_ADDR=10.0.0.2/24,192.168.1.9/30"), 0, "%s", err);
	cr_assert_eq(cfg.n_addr, 2);
	cr_expect_str_eq(config_cidr_text(&cfg.addr[0], true, text, sizeof(text)), "10.0.0.2/24");
	cr_expect_str_eq(config_cidr_text(&cfg.addr[1], true, text, sizeof(text)), "192.168.1.9/30");
	config_free(&cfg);
}

Test(config, list_may_be_long)
{
	char list[16384] = "OWNSTACK_ADDR=";
	size_t at = strlen(list);
	struct config cfg;

	for (int i = 0; i < 1000; i++)
		at += (size_t)sprintf(list + at, "%s10.1.%d.%d/8", i ? "," : "", i / 250, i % 250 + 1);
	cr_assert_eq(from_env(&cfg, list), 0, "%s", err);
	cr_expect_eq(cfg.n_addr, 1000);
	config_free(&cfg);
}

struct wrong {
	const char *setting, *line_has;
};
Test(config, wrong_value_names_setting_value_and_remedy)
{
	static const struct wrong rows[] = {
		{ "OWNSTACK_ADDR=10.0.0.2", "OWNSTACK_ADDR=10.0.0.2: not an address with prefix length; write it like" },
		{ "OWNSTACK_ADDR=10.0.0.2/33", "OWNSTACK_ADDR=10.0.0.2/33:" },
		{ "OWNSTACK_ADDR=10.0.0.256/8", "OWNSTACK_ADDR=10.0.0.256/8:" },
		{ "OWNSTACK_ADDR=10.0.0.2/+8", "OWNSTACK_ADDR=10.0.0.2/+8:" },
		{ "OWNSTACK_GATEWAY=10.0.0.1/24", "OWNSTACK_GATEWAY=10.0.0.1/24: not an address;" },
		{ "OWNSTACK_MAC=03:00:00:00:00:01", "not a unicast Ethernet address" },
		{ "OWNSTACK_MAC=02:00:00:00:00", "OWNSTACK_MAC=02:00:00:00:00:" },
		{ "OWNSTACK_MTU=65536", "must be a number from 0 to 65535" },
		{ "OWNSTACK_MTU=-1", "must be a number" },
		{ "OWNSTACK_MTU=1500x", "must be a number" },
		{ "OWNSTACK_ARENA=1M", "must be a number from" },
		{ "OWNSTACK_ARENA=99999999999999999999", "must be a number from" },
		{ "OWNSTACK_IO=fast", "must be one of auto|full|uring|poll" },
		{ "OWNSTACK_NAT=maybe", "must be 0 or 1" },
		{ "OWNSTACK_HOST=a/b", "not a name" },
		{ "OWNSTACK_HOST=0123456789012345678901234567890123456789", "1 to 31 characters" },
		{ "OWNSTACK_TAP=sixteencharacter", "1 to 15 characters" },
		{ "OWNSTACK_NEIGH=10.0.0.1", "not a neighbour" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct config cfg;

		err[0] = 0;
		cr_expect_eq(from_env(&cfg, rows[i].setting), -EINVAL, "%s was taken", rows[i].setting);
		cr_expect_not_null(strstr(err, rows[i].line_has), "%s: \"%s\"", rows[i].setting, err);
		config_free(&cfg);
	}
}

Test(config, sizes_have_units)
{
	struct config cfg;

	cr_assert_eq(from_env(&cfg, "OWNSTACK_ARENA=512m"), 0, "%s", err);
	cr_expect_eq(cfg.arena_bytes, (uint64_t)512 << 20);
	cr_assert_eq(from_env(&cfg, "OWNSTACK_ARENA=2G"), 0, "%s", err);
	cr_expect_eq(cfg.arena_bytes, (uint64_t)2 << 30);
}

Test(config, two_devices_are_one_too_many)
{
	struct config cfg;

	cr_assert_eq(from_env(&cfg, "OWNSTACK_TAP=t0"), 0);
	strcpy(cfg.packet, "veth0");
	cr_expect_eq(config_check(&cfg, err, sizeof(err)), -EINVAL);
	cr_expect_not_null(strstr(err, "packet=veth0:"), "%s", err);
}

Test(config, device_without_address_is_refused)
{
	struct config cfg;

	cr_assert_eq(from_env(&cfg, "OWNSTACK_TAP=t0"), 0);
	cr_expect_eq(config_check(&cfg, err, sizeof(err)), -EINVAL);
	cr_assert_eq(config_set(&cfg, config_find("addr"), "10.0.0.2/24", "addr", err, sizeof(err)), 0);
	cr_expect_eq(config_check(&cfg, err, sizeof(err)), 0);
	config_free(&cfg);
}

Test(config, token_is_hexadecimal)
{
	struct config cfg;
	uint8_t token[16];

	cr_assert_eq(from_env(&cfg, "OWNSTACK_TOKEN=000102030405060708090a0b0c0d0eff"), 0, "%s", err);
	cr_assert(config_token(&cfg, token));
	cr_expect_eq(token[1], 1);
	cr_expect_eq(token[15], 255);
	cr_assert_eq(from_env(&cfg, "OWNSTACK_TOKEN=zz0102030405060708090a0b0c0d0eff"), 0, "%s", err);
	cr_expect_not(config_token(&cfg, token));
}

Test(config, settings_of_the_protocols_have_linux_s_names)
{
	struct config cfg;

	cr_assert_eq(from_env(&cfg, "OWNSTACK_SYSCTL=net.ipv4.tcp_rmem=1000 2000\t3000,tcp_fastopen=0x403,tcp_ecn=1,"
			      "net.ipv4.tcp_congestion_control=reno,ip_local_port_range=2000 3000"), 0, "%s", err);
	cr_expect_eq(cfg.ctl.tcp_rmem[0], 1000u);
	cr_expect_eq(cfg.ctl.tcp_rmem[2], 3000u);
	cr_expect_eq(cfg.ctl.tcp_fastopen, 0x403u);
	cr_expect_eq(cfg.ctl.ip_local_port_range[1], 3000);
	cr_expect_eq(cfg.ctl.tcp_syncookies, 1, "what is not named keeps its default");
	cr_expect_eq(cfg.ecn, 1u);
	cr_expect_eq(cfg.congestion, 1u);
}

Test(config, wrong_settings_are_refused_by_name)
{
	static const char *const wrong[] = { "tcp_no_such=1", "tcp_fastopen", "tcp_fastopen=", "tcp_fastopen=x", "tcp_fastopen=4096",
					     "tcp_rmem=1 2", "tcp_rmem=1 2 3 4", "ip_local_port_range=5 4", "tcp_syncookies=-1",
					     "tcp_congestion_control=vegas", "ipv4.tcp_sack=1" };
	struct config cfg;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		char text[128];

		snprintf(text, sizeof(text), "OWNSTACK_SYSCTL=tcp_sack=1,%s", wrong[i]);
		cr_expect_eq(from_env(&cfg, text), -EINVAL, "%s", wrong[i]);
		cr_expect(strstr(err, wrong[i]), "%s: %s", wrong[i], err);
	}
}
