/*
 * Fills a man page template: the lines @MOUNT_OPTIONS@, @SERVER_OPTIONS@,
 * @STAT_VIEWS@, @STAT_VERBS@ and @COUNTERS@ become the tables, @VERSION@ the
 * version. Run by the build: genman TEMPLATE > PAGE.
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

static const struct option_spec stat_views[] = {
#define STAT_VIEW(name, kind, values, text) {"--" name, OPTION_##kind, 0, values, 0, NULL, text},
#include "vfsstat_options.def"
};

static void put_verbs(void)
{
#define STAT_VERB(name, operands, text)                                                            \
	(void)printf(".It Ic %s Ar %s\n%s.\n", name, operands[0] != '\0' ? operands : "\\&", text);
#include "vfsstat_options.def"
}

/* The first underscore of a name is a dot. */
static void put_counter(const char *name, const char *type, const char *unit, const char *text)
{
	const char *rest = strchr(name, '_') + 1;

	(void)printf(".It Pa %.*s.%s Pq %s%s%s\n%s.\n", (int)(rest - 1 - name), name, rest, type,
		     unit[0] != '\0' ? ", " : "", unit, text);
}

static void put_counters(void)
{
#define COUNTER(name, unit, text)   put_counter(#name, "counter", #unit, text);
#define GAUGE(name, unit, text)	    put_counter(#name, "gauge", #unit, text);
#define HISTOGRAM(name, unit, text) put_counter(#name, "histogram", #unit, text);
#define TEXT(name, text)	    put_counter(#name, "text", "", text);
#include "core/counters.def"
}

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
		else if (strcmp(line, "@STAT_VIEWS@\n") == 0)
			options_man(TABLE(stat_views), stdout);
		else if (strcmp(line, "@STAT_VERBS@\n") == 0)
			put_verbs();
		else if (strcmp(line, "@COUNTERS@\n") == 0)
			put_counters();
		else if (at != NULL)
			(void)printf("%.*s%s%s", (int)(at - line), line, VSOCKFS_VERSION,
				     at + strlen("@VERSION@"));
		else
			(void)fputs(line, stdout);
	}
	(void)fclose(f);
	return fflush(stdout) == 0 ? 0 : 1;
}
