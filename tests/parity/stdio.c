/* SPDX-License-Identifier: BSD-2-Clause */
/* stdio - lines over a socket with fdopen, as simple servers do */
#include "parity.h"

void server(int listener)
{
	int fd = peer_accept(listener);
	FILE *f = fdopen(fd, "r+");
	char line[64];

	say("fileno is the number: %d", fileno(f) == fd);
	while (fgets(line, sizeof(line), f) && line[0] != '\n')
		say("line: %.*s", (int)strcspn(line, "\n"), line);
	fprintf(f, "reply %d\n", 42);
	saw("fflush", fflush(f));
	say("end: %d", fgets(line, sizeof(line), f) == NULL && feof(f));
	fputs("last words", f);
	saw("fclose", fclose(f));
	saw("closed with it", close(fd));
}

void client(void)
{
	int fd = peer_connect();
	FILE *in = fdopen(fd, "r"), *out = fdopen(dup(fd), "w");
	char line[64] = "";

	fputs("one\ntwo\n\n", out);
	fflush(out);
	say("%s", fgets(line, sizeof(line), in));
	fclose(out);
	must("shutdown", shutdown(fd, SHUT_WR));
	say("%s", fgets(line, sizeof(line), in));
	say("end: %d", fgets(line, sizeof(line), in) == NULL);
	saw("fclose", fclose(in));
}
