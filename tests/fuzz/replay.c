/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * replay.c - a fuzz target without libFuzzer: plays each file of a corpus, and variants of it
 *
 *   replay VARIANTS FILE|FOLDER...
 *
 * Variants are made by a fixed generator: an octet changed, a piece cut out, doubled or moved. So every compiler runs the
 * targets, always the same way; the search for new paths is libFuzzer's.
 */
#include <dirent.h>
#include <sys/stat.h>
#include "fuzz.h"

#define SIZE_MAX_OF_INPUT 4096u

static uint64_t seed = 0x9e3779b97f4a7c15u;
static unsigned played;

static size_t vary(uint8_t *b, size_t n)
{
	size_t at = n ? rnd(&seed) % n : 0, len = n - at ? rnd(&seed) % (n - at) % 32 + 1 : 0;

	switch (rnd(&seed) % 4) {
	case 0:
		for (unsigned k = 0; n && k < 1 + rnd(&seed) % 4; k++)
			b[rnd(&seed) % n] = (uint8_t)rnd(&seed);
		return n;
	case 1:
		memmove(b + at, b + at + len, n - at - len);
		return n - len;
	case 2:
		if (n + len > SIZE_MAX_OF_INPUT)
			return n;
		memmove(b + at + len, b + at, n - at);
		return n + len;
	default:
		if (len && n >= len)
			memmove(b + rnd(&seed) % (n - len + 1), b + at, len);
		return n;
	}
}

static void play_file(const char *name, unsigned long variants)
{
	static uint8_t from[SIZE_MAX_OF_INPUT], b[SIZE_MAX_OF_INPUT];
	FILE *f = fopen(name, "rb");
	size_t n;

	if (!f) {
		perror(name);
		exit(1);
	}
	n = fread(from, 1, sizeof(from), f);
	fclose(f);
	LLVMFuzzerTestOneInput(from, n);
	for (unsigned long v = 0; v < variants; v++) {
		size_t k = n;

		memcpy(b, from, n);
		for (unsigned times = 1 + rnd(&seed) % 6; times > 0; times--)
			k = vary(b, k);
		LLVMFuzzerTestOneInput(b, k);
	}
	played++;
}

static void play(const char *name, unsigned long variants)
{
	struct stat s;
	struct dirent **list;
	int n;

	if (stat(name, &s) < 0 || !S_ISDIR(s.st_mode)) {
		play_file(name, variants);
		return;
	}
	n = scandir(name, &list, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		char path[4096];

		snprintf(path, sizeof(path), "%s/%s", name, list[i]->d_name);
		if (list[i]->d_name[0] != '.')
			play_file(path, variants);
		free(list[i]);
	}
	if (n >= 0)
		free(list);
}

int main(int argc, char **argv)
{
	for (int i = 2; i < argc; i++)
		play(argv[i], strtoul(argv[1], NULL, 0));
	if (!played) {
		fprintf(stderr, "replay VARIANTS FILE|FOLDER...\n");
		return 1;
	}
	printf("%u files\n", played);
	return 0;
}
