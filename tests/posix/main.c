/*
 * posix-suite: checks that a directory's file system behaves as POSIX and Linux say.
 * Each area runs in a child and a directory of its own; see harness.h.
 */
#include "harness.h"

#include <getopt.h>

static const struct {
	const char *name, *text;
	void (*fn)(void);
} areas[] = {
#define AREA(name, text) {#name, text, area_##name},
#include "areas.def"
#undef AREA
};
enum { AREAS = sizeof(areas) / sizeof(areas[0]) };

static void usage(FILE *to)
{
	fprintf(to, "usage: posix-suite [-l] [-t SECONDS] [-u UID:GID[:GID...]] DIR [AREA...]\n"
		    "       posix-suite -L\n"
		    "  -l  large: the directory of 100,000 entries too\n"
		    "  -t  seconds per area before it counts as hung (60; 600 with -l)\n"
		    "  -u  become this user first, with these supplementary groups\n"
		    "  -L  list the areas\n");
}

static unsigned long number(const char **s)
{
	char *end;
	unsigned long v;

	errno = 0;
	v = strtoul(*s, &end, 10);
	if (errno || end == *s || v > UINT_MAX || (*end && *end != ':')) {
		fprintf(stderr, "posix-suite: bad number in '%s'\n", *s);
		exit(2);
	}
	*s = *end ? end + 1 : end;
	return v;
}

static void become(const char *spec)
{
	struct h_cred cred = {0};
	const char *s = spec;

	cred.uid = (uid_t)number(&s);
	if (!*s) {
		usage(stderr);
		exit(2);
	}
	cred.gid = (gid_t)number(&s);
	while (*s && cred.ngroups < sizeof(cred.groups) / sizeof(cred.groups[0]))
		cred.groups[cred.ngroups++] = (gid_t)number(&s);
	h_become(&cred);
}

int main(int argc, char **argv)
{
	struct h_options opt = {0};
	const char *user = NULL;
	int c;

	while ((c = getopt(argc, argv, "lLt:u:h")) != -1) {
		switch (c) {
		case 'l':
			opt.large = true;
			break;
		case 'L':
			for (int i = 0; i < AREAS; i++)
				printf("%-11s %s\n", areas[i].name, areas[i].text);
			return 0;
		case 't':
			opt.timeout = (unsigned)atoi(optarg);
			break;
		case 'u':
			user = optarg;
			break;
		default:
			usage(c == 'h' ? stdout : stderr);
			return c == 'h' ? 0 : 2;
		}
	}
	if (optind == argc) {
		usage(stderr);
		return 2;
	}
	if (!opt.timeout)
		opt.timeout = opt.large ? 600 : 60;
	for (int i = optind + 1; i < argc; i++) {
		int k = 0;

		while (k < AREAS && strcmp(areas[k].name, argv[i]))
			k++;
		if (k == AREAS) {
			fprintf(stderr, "posix-suite: no area '%s' (-L lists them)\n", argv[i]);
			return 2;
		}
	}
	h_init(argv[optind], &opt);
	if (user)
		become(user);
	if (faccessat(AT_FDCWD, argv[optind], W_OK | X_OK, AT_EACCESS)) {
		fprintf(stderr, "posix-suite: %s: %s\n", argv[optind], strerror(errno));
		return 2;
	}
	for (int k = 0; k < AREAS; k++) {
		bool wanted = optind + 1 == argc;

		for (int i = optind + 1; i < argc; i++)
			wanted |= !strcmp(areas[k].name, argv[i]);
		if (wanted)
			h_run_area(areas[k].name, areas[k].fn);
	}
	return h_summary();
}
