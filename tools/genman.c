/*
 * Fills a man page template: the line @MOUNT_OPTIONS@ or @SERVER_OPTIONS@
 * becomes the option table of the program, @VERSION@ the version. Run by the
 * build: genman TEMPLATE > PAGE.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/options.h"

static const struct option_spec mount_options[] = {
#define MOUNT_OPTION(name, kind, member, values, max, default_text, text)                          \
	{name, OPTION_##kind, 0, values, 0, default_text, text},
#include "vsockfs_options.def"
#undef MOUNT_OPTION
};

static const struct option_spec server_options[] = {
#define SERVER_OPTION(name, kind, member, values, max, default_text, text)                         \
	{name, OPTION_##kind, 0, values, 0, default_text, text},
#include "vsockfsd_options.def"
#undef SERVER_OPTION
};

#define TABLE(t) t, sizeof(t) / sizeof((t)[0])

int main(int argc, char **argv)
{
	char line[4096];
	FILE *f = argc == 2 ? fopen(argv[1], "r") : NULL;

	if (f == NULL) {
		(void)fprintf(stderr, "usage: genman TEMPLATE > PAGE\n");
		return 2;
	}
	while (fgets(line, sizeof(line), f) != NULL) {
		char *at = strstr(line, "@VERSION@");

		if (strcmp(line, "@MOUNT_OPTIONS@\n") == 0)
			options_man(TABLE(mount_options), stdout);
		else if (strcmp(line, "@SERVER_OPTIONS@\n") == 0)
			options_man(TABLE(server_options), stdout);
		else if (at != NULL)
			(void)printf("%.*s%s%s", (int)(at - line), line, VSOCKFS_VERSION,
				     at + strlen("@VERSION@"));
		else
			(void)fputs(line, stdout);
	}
	(void)fclose(f);
	return fflush(stdout) == 0 ? 0 : 1;
}
