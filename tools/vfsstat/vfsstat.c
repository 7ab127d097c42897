/*
 * vfsstat: what a mount or a server does, and live tuning.
 *
 * It reads statistics segments and talks to control sockets; it never touches
 * a mount, and so works while one hangs.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "find.h"
#include "verbs.h"
#include "views.h"

enum { EXIT_ERROR = 1, EXIT_USAGE = 2 };

#define SLOW_MS	    10 /* without --slow=MS */
#define REQUEST_MAX 65536

enum view {
	VIEW_REPORT,
	VIEW_OPS,
	VIEW_TOP,
	VIEW_SLOW,
	VIEW_JSON,
	VIEW_DIFF,
	VIEW_PROMETHEUS,
	VIEW_LIST,
	VIEW_HELP,
	VIEW_VERSION,
};

static const struct option views[] = {
	{"ops", no_argument, NULL, VIEW_OPS},
	{"top", no_argument, NULL, VIEW_TOP},
	{"slow", optional_argument, NULL, VIEW_SLOW},
	{"json", no_argument, NULL, VIEW_JSON},
	{"diff", required_argument, NULL, VIEW_DIFF},
	{"prometheus", no_argument, NULL, VIEW_PROMETHEUS},
	{"list", no_argument, NULL, VIEW_LIST},
	{"help", no_argument, NULL, VIEW_HELP},
	{"version", no_argument, NULL, VIEW_VERSION},
	{NULL, 0, NULL, 0},
};

struct command {
	enum view view;
	double slow_ms;
	const char *diff, *path;
	struct repeat repeat;
};

static int usage_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static int usage_error(const char *fmt, ...)
{
	va_list ap;

	(void)fputs("vfsstat: ", stderr);
	va_start(ap, fmt);
	(void)vfprintf(stderr, fmt, ap);
	va_end(ap);
	(void)fputs("; see --help\n", stderr);
	return EXIT_USAGE;
}

/* ---- help ---- */

/* text from column 24 on, broken before the 80th. */
static void wrapped(FILE *f, const char *head, const char *text)
{
	int column = fprintf(f, "    %-19s", head);

	if (column > 23)
		column = fprintf(f, "\n%23s", "") - 1;
	while (*text != '\0') {
		int n = (int)strcspn(text, " ");

		if (column + 1 + n > 79)
			column = fprintf(f, "\n%23s", "") - 1;
		column += fprintf(f, " %.*s", n, text);
		text += n + (text[n] == ' ');
	}
	(void)fputc('\n', f);
}

static void view_help(FILE *f, const char *name, const char *values, const char *text)
{
	char head[64];

	(void)snprintf(head, sizeof(head), "--%s%s%s%s", name,
		       values == NULL		   ? ""
		       : strcmp(name, "slow") == 0 ? "[="
						   : " ",
		       values != NULL ? values : "", strcmp(name, "slow") == 0 ? "]" : "");
	wrapped(f, head, text);
}

static void usage(FILE *f)
{
	(void)fputs(
		"usage: vfsstat [VIEW] [MOUNTPOINT] [INTERVAL [COUNT]]\n"
		"       vfsstat VERB [ARGUMENT...] [MOUNTPOINT]\n"
		"\n"
		"Shows what a mount of vsockfs does, and changes its settings. MOUNTPOINT may be\n"
		"left out where there is only one; it may also be the directory of a vsockfsd, or\n"
		"the file of -o stats=. INTERVAL is in seconds. A path that looks like a number or\n"
		"a verb is written ./1.\n"
		"\n"
		"VIEW:\n",
		f);
#define STAT_VIEW(name, kind, values, text) view_help(f, name, values, text);
#include "vfsstat_options.def"
	(void)fputs("\nVERB:\n", f);
#define STAT_VERB(name, operands, text) wrapped(f, name " " operands, text);
#include "vfsstat_options.def"
}

/* ---- verbs ---- */

static bool is_verb(const char *word)
{
#define STAT_VERB(name, operands, text)                                                            \
	if (strcmp(word, name) == 0)                                                               \
		return true;
#include "vfsstat_options.def"
	return false;
}

static int ask(const char *path, const char *request)
{
	struct segment *g;

	if (find_segment(path, &g) < 0)
		return EXIT_ERROR;
	int r = control_ask(g, request);
	segment_close(g);
	return r;
}

/* A word of a request: one that would break the line is no setting. */
static bool append(char *request, const char *word)
{
	size_t n = strlen(request), more = strlen(word);

	if (n + more + 2 > REQUEST_MAX || strpbrk(word, "\n ") != NULL)
		return false;
	request[n] = ' ';
	memcpy(request + n + 1, word, more + 1);
	return true;
}

static bool is_path(const char *word)
{
	return strchr(word, '/') != NULL || strcmp(word, ".") == 0 || strcmp(word, "..") == 0;
}

/* get [NAME...] [MOUNTPOINT], set NAME=VALUE... [MOUNTPOINT] */
static int verb_settings(bool set, int n, char **words)
{
	static char request[REQUEST_MAX];
	const char *path = NULL;
	int i = 0;

	(void)snprintf(request, sizeof(request), set ? "set" : "get");
	for (; i < n && !is_path(words[i]) && (!set || strchr(words[i], '=') != NULL); i++)
		if (!append(request, words[i]))
			return usage_error("'%s' is no setting", words[i]);
	if (set && i == 0)
		return usage_error("set what? NAME=VALUE is missing");
	if (i < n)
		path = words[i++];
	if (i < n)
		return usage_error("unexpected operand '%s'", words[i]);
	return ask(path, request);
}

static int drop_path(const char *path)
{
	char absolute[PATH_MAX], mountpoint[PATH_MAX], escaped[3 * PATH_MAX + 16] = "drop ";
	const char *inside;
	int r = path_absolute(path, absolute, sizeof(absolute));

	if (r < 0 || find_mount_of(absolute, mountpoint, sizeof(mountpoint), &inside) < 0) {
		(void)fprintf(stderr, "vfsstat: %s: not on a mount of vsockfs\n", path);
		return EXIT_ERROR;
	}
	size_t n = strlen(escaped);
	(void)control_escape(inside[0] != '\0' ? inside : ".", escaped + n, sizeof(escaped) - n);
	return ask(mountpoint, escaped);
}

static int verb_drop(int n, char **words)
{
	int result = 0;

	if (n > 0 && strcmp(words[0], "--everything") == 0)
		return n > 2 ? usage_error("unexpected operand '%s'", words[2])
			     : ask(n == 2 ? words[1] : NULL, "drop --everything");
	if (n == 0)
		return usage_error("drop what? PATH or --everything is missing");
	for (int i = 0; i < n; i++) {
		int r = drop_path(words[i]);

		result = r != 0 ? r : result;
	}
	return result;
}

static int run_verb(const char *verb, int n, char **words)
{
	if (strcmp(verb, "get") == 0 || strcmp(verb, "set") == 0)
		return verb_settings(verb[0] == 's', n, words);
	if (strcmp(verb, "drop") == 0)
		return verb_drop(n, words);
	bool trace = strcmp(verb, "trace") == 0;
	if (trace && (n == 0 || (strcmp(words[0], "on") != 0 && strcmp(words[0], "off") != 0)))
		return usage_error("trace takes on or off");
	if (n > 1 + trace)
		return usage_error("unexpected operand '%s'", words[1 + trace]);
	if (strcmp(verb, "restart") == 0)
		return ask(n > 0 ? words[0] : NULL, "restart");
	return ask(n > trace ? words[trace] : NULL, !trace			  ? "sync"
						    : strcmp(words[0], "on") == 0 ? "trace on"
										  : "trace off");
}

/* ---- views ---- */

static bool number(const char *text, double *ret)
{
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	*ret = strtod(text, &end);
	return *end == '\0' && errno == 0 && strpbrk(text, "xXpP") == NULL;
}

/* [MOUNTPOINT] [INTERVAL [COUNT]] */
static int take_operands(struct command *c, int n, char **words)
{
	double v;
	int i = 0;

	if (i < n && !number(words[i], &v))
		c->path = words[i++];
	if (i < n && number(words[i], &v)) {
		if (v < 0.01 || v > 86400)
			return usage_error("interval '%s' is not between 0.01 and 86400", words[i]);
		c->repeat.interval = v;
		i++;
		if (i < n && number(words[i], &v)) {
			if (v < 1 || v > 1e9 || v != (double)(unsigned long)v)
				return usage_error("count '%s' is no number of reports", words[i]);
			c->repeat.count = (unsigned long)v;
			i++;
		}
	}
	return i < n ? usage_error("unexpected operand '%s'", words[i]) : 0;
}

static int parse_views(struct command *c, int argc, char **argv)
{
	int o;

	opterr = 0;
	while ((o = getopt_long(argc, argv, ":hV", views, NULL)) != -1) {
		if (o == '?' || o == ':')
			return usage_error("option '%s' %s", argv[optind - 1],
					   o == ':' ? "needs a value"
						    : "is unknown, or takes no value");
		enum view view = o == 'h' ? VIEW_HELP : o == 'V' ? VIEW_VERSION : (enum view)o;
		if (c->view != VIEW_REPORT && c->view != view)
			return usage_error("one view at a time");
		c->view = view;
		if (view == VIEW_DIFF)
			c->diff = optarg;
		if (view == VIEW_SLOW && optarg != NULL && !number(optarg, &c->slow_ms))
			return usage_error("'%s' is no number of milliseconds", optarg);
	}
	return 0;
}

static int show(const struct command *c, struct segment *g)
{
	switch (c->view) {
	case VIEW_OPS:
		return view_ops(g, &c->repeat);
	case VIEW_TOP:
		return view_top(g, &c->repeat);
	case VIEW_SLOW:
		return control_slow(g, c->slow_ms);
	case VIEW_JSON:
		return view_json(g, &c->repeat);
	case VIEW_DIFF:
		return view_diff(g, c->diff);
	case VIEW_PROMETHEUS:
		return view_prometheus(g);
	default:
		return view_report(g, &c->repeat);
	}
}

int main(int argc, char **argv)
{
	struct command c = {.slow_ms = SLOW_MS};
	struct segment *g = NULL;

	if (argc > 1 && is_verb(argv[1]))
		return run_verb(argv[1], argc - 2, argv + 2);
	int r = parse_views(&c, argc, argv);
	if (r == 0)
		r = take_operands(&c, argc - optind, argv + optind);
	if (r != 0)
		return r;
	if (c.view == VIEW_HELP)
		usage(stdout);
	else if (c.view == VIEW_VERSION)
		(void)printf("vfsstat %s\n", VSOCKFS_VERSION);
	if (c.view == VIEW_HELP || c.view == VIEW_VERSION)
		return fflush(stdout) == 0 ? 0 : EXIT_ERROR;
	if (c.view == VIEW_LIST)
		return view_list();
	if (c.view == VIEW_PROMETHEUS && c.path == NULL)
		return view_prometheus(NULL);
	if (find_segment(c.path, &g) < 0)
		return EXIT_ERROR;
	r = show(&c, g);
	segment_close(g);
	return r;
}
