/* SPDX-License-Identifier: BSD-2-Clause */
/* sysctl.c - the settings of a host's protocols, as sysctl(8) shows a kernel's; `run --sysctl` sets them when the host starts */
#include <getopt.h>
#include "cli.h"
#include "../host/sysctl.h"

static void print_all(const struct stack_sysctl *ctl, const char *cc, uint32_t ecn, bool help)
{
	char text[64];

	for (int i = 0; i < sysctl_n_rows; i++) {
		if (help)
			printf("# %s\n", sysctl_rows[i].help);
		printf("%s = %s\n", sysctl_rows[i].name, sysctl_text(ctl, i, text, sizeof(text)));
	}
	printf("%snet.ipv4.tcp_congestion_control = %s\n", help ? "# congestion control: cubic, reno, bbr\n" : "", cc);
	printf("%snet.ipv4.tcp_ecn = %u\n", help ? "# congestion notification: 0 never, 1 ask for it, 2 agree\n" : "", ecn);
}

int cli_sysctl(int argc, char **argv)
{
	static const struct option longs[] = { { "host", required_argument, NULL, 'h' }, { "verbose", no_argument, NULL, 'v' },
					       { "defaults", no_argument, NULL, 'd' }, { 0 } };
	static const char *const cc[] = { "cubic", "reno", "bbr" };
	const struct stack_sysctl *ctl;
	char err[CONFIG_ERR_BYTES];
	struct warden_reply r;
	struct config cfg;
	bool help = false, defaults = false;
	int c, rc = cli_config(&cfg);

	opterr = 0;
	while (!rc && (c = getopt_long(argc, argv, ":vd", longs, NULL)) != -1) {
		if (c == 'v') {
			help = true;
		} else if (c == 'd') {
			defaults = true;
		} else if (c != 'h') {
			snprintf(err, sizeof(err), "%.100s: not an option of sysctl; see `ownstack help`", argv[optind - 1]);
			cli_error(err);
			return EXIT_USAGE;
		} else if (config_set(&cfg, config_find("host"), optarg, "host", err, sizeof(err))) {
			cli_error(err);
			return EXIT_USAGE;
		}
	}
	if (!rc && !defaults)
		rc = cli_attach(&cfg, &r);
	if (rc < 0 || (!rc && defaults)) { /* nobody has joined yet: what a host would begin with */
		print_all(&cfg.ctl, cc[cfg.congestion % 3], cfg.ecn, help);
		return EXIT_DONE;
	}
	if (rc)
		return rc;
	ctl = stack_ctl(host->shard.stack);
	print_all(ctl, tcp_cc_name(ctl->tcp_congestion), ctl->tcp_ecn, help);
	return EXIT_DONE;
}
