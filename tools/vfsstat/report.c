/* The default view: one line per interval, its columns from one table. */
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "core/stats.h"
#include "figure.h"
#include "views.h"

#define HEADER_EVERY 20 /* lines, where the output is no terminal */
#define SILENT_AFTER UINT64_C(1000000000)

/* ---- from one snapshot to the next ---- */

struct period {
	const struct snapshot *before, *now; /* before NULL: since the start */
	double seconds;
	struct hist fuse, rtt, wait, lag; /* execution of all requests of the kernel; */
};

static uint64_t moved(const struct period *p, const char *name)
{
	uint64_t now = snapshot_value(p->now, name);
	uint64_t before = p->before != NULL ? snapshot_value(p->before, name) : 0;

	return now > before ? now - before : 0;
}

static double rate(const struct period *p, const char *name)
{
	return p->seconds > 0 ? (double)moved(p, name) / p->seconds : 0;
}

static struct hist hist_of(const struct period *p, const char *name)
{
	struct rows now = snapshot_rows(p->now, "hist", sizeof(struct stats_hist)), before = {0};

	if (p->before != NULL)
		before = snapshot_rows(p->before, "hist", sizeof(struct stats_hist));
	for (uint32_t i = 0; now.info != NULL && i < now.count; i++)
		if (strcmp(now.info[i].name, name) == 0)
			return hist_since(i < before.count ? rows_at(&before, i) : NULL,
					  rows_at(&now, i));
	return (struct hist){0};
}

/* All operations of a section together. */
static struct hist hist_of_ops(const struct period *p, const char *section)
{
	struct rows now = snapshot_rows(p->now, section, sizeof(struct stats_op)), before = {0};
	struct hist sum = {0};

	if (p->before != NULL)
		before = snapshot_rows(p->before, section, sizeof(struct stats_op));
	for (uint32_t i = 0; i < now.count; i++) {
		const struct stats_op *a = i < before.count ? rows_at(&before, i) : NULL;
		const struct stats_op *b = rows_at(&now, i);
		struct hist one = hist_since(a != NULL ? &a->time : NULL, &b->time);

		hist_merge(&sum, &one);
	}
	return sum;
}

static struct period period_of(const struct snapshot *before, const struct snapshot *now)
{
	struct period p = {.before = before, .now = now};

	p.seconds = before != NULL ? (double)(snapshot_time(now) - snapshot_time(before)) / 1e9
				   : (double)snapshot_uptime(now) / 1e9;
	p.fuse = hist_of_ops(&p, "fuse");
	p.rtt = hist_of(&p, "rpc.rtt");
	p.wait = hist_of(&p, "rpc.wait");
	p.lag = hist_of(&p, "inval.lag");
	return p;
}

/* ---- columns ---- */

static const char *show_time(const struct hist *h, double percent, char *buf)
{
	return h->count > 0 ? figure_time(hist_percentile(h, percent), buf) : "-";
}

static const char *show_mean(const struct hist *h, char *buf)
{
	return h->count > 0 ? figure_time(hist_mean(h), buf) : "-";
}

/* Of the requests that reach the daemon: what the kernel answers by itself nobody can count. */
static const char *show_hits(const struct period *p, char *buf)
{
	return figure_share(moved(p, "fuse.answered"), p->fuse.count, buf);
}

static const char *show_per_op(const struct period *p, char *buf)
{
	uint64_t ops = moved(p, "fuse.requests");

	if (ops == 0)
		return "-";
	(void)snprintf(buf, FIGURE_MAX, "%.2f",
		       fmin((double)moved(p, "rpc.requests") / (double)ops, 99.99));
	return buf;
}

static const char *show_state(const struct period *p, char *buf)
{
	enum daemon_state d = snapshot_daemon(p->now);
	struct oldest o = snapshot_oldest(p->now);
	const char *state = snapshot_text(p->now, "conn.state");

	if (d != DAEMON_RUNS)
		state = d == DAEMON_STOPPED ? "stop"
			: d == DAEMON_HANGS ? "hang"
			: d == DAEMON_ENDED ? "ended"
					    : "died";
	else if (strcmp(state, "connected") == 0)
		state = o.exists && o.sent_age > SILENT_AFTER ? "slow" : "up";
	(void)snprintf(buf, FIGURE_MAX, "%.5s", state);
	return buf;
}

static const char *show_oldest(const struct period *p, char *buf)
{
	struct oldest o = snapshot_oldest(p->now);

	return o.exists ? figure_time(o.age, buf) : "-";
}

enum column {
#define COLUMN(name, section, head, width, from, show) COLUMN_##name,
#include "columns.def"
#undef COLUMN
	COLUMNS
};

static const struct column_spec {
	const char *section, *head;
	unsigned width, from;
} columns[COLUMNS] = {
#define COLUMN(name, section, head, width, from, show) {section, head, width, from},
#include "columns.def"
#undef COLUMN
};

static const char *show(enum column c, const struct period *p, char *buf)
{
	switch (c) {
#define COLUMN(name, section, head, width, from, show)                                             \
	case COLUMN_##name:                                                                        \
		return show;
#include "columns.def"
#undef COLUMN
	default:
		return "";
	}
}

/* The next column that width has room for; its section begins with it if *ret_first. */
static enum column next_column(enum column c, unsigned width, const char *section, bool *ret_first)
{
	while (c < COLUMNS && columns[c].from > width)
		c++;
	*ret_first = c < COLUMNS && (section == NULL || strcmp(columns[c].section, section) != 0);
	return c;
}

static unsigned section_width(enum column c, unsigned width)
{
	const char *section = columns[c].section;
	unsigned sum = 0;

	for (; c < COLUMNS && strcmp(columns[c].section, section) == 0; c++)
		if (columns[c].from <= width)
			sum += columns[c].width;
	return sum;
}

static void dashes(FILE *f, unsigned n)
{
	while (n-- > 0)
		(void)fputc('-', f);
}

void report_header(FILE *f, unsigned width)
{
	const char *section = NULL;
	bool first;

	for (enum column c = 0; (c = next_column(c, width, section, &first)) < COLUMNS; c++) {
		if (!first)
			continue;
		unsigned room = section_width(c, width);
		unsigned name = (unsigned)strlen(columns[c].section) + 2;

		section = columns[c].section;
		if (c > 0)
			(void)fputc('|', f);
		dashes(f, (room - name) / 2);
		(void)fprintf(f, " %s ", section);
		dashes(f, room - name - (room - name) / 2);
	}
	(void)fputc('\n', f);
	section = NULL;
	for (enum column c = 0; (c = next_column(c, width, section, &first)) < COLUMNS; c++) {
		(void)fprintf(f, "%s%*s", first && c > 0 ? "|" : "", (int)columns[c].width,
			      columns[c].head);
		section = columns[c].section;
	}
	(void)fputc('\n', f);
}

void report_line(FILE *f, unsigned width, const struct snapshot *before, const struct snapshot *now)
{
	struct period p = period_of(before, now);
	const char *section = NULL;
	bool first;

	for (enum column c = 0; (c = next_column(c, width, section, &first)) < COLUMNS; c++) {
		char buf[FIGURE_MAX];

		(void)fprintf(f, "%s%*s", first && c > 0 ? "|" : "", (int)columns[c].width,
			      show(c, &p, buf));
		section = columns[c].section;
	}
	(void)fputc('\n', f);
}

/* ---- around it ---- */

static void line_of(FILE *f, unsigned width, const char *text)
{
	for (; *text != '\0' && width > 0; text++, width--)
		(void)fputc((unsigned char)*text < ' ' ? '?' : *text, f);
	(void)fputc('\n', f);
}

void report_title(FILE *f, unsigned width, const struct snapshot *now)
{
	char line[1024], rss[FIGURE_MAX], nodes[FIGURE_MAX], names[FIGURE_MAX], pages[FIGURE_MAX],
		up[FIGURE_MAX];

	(void)snprintf(line, sizeof(line), "%s on %s", snapshot_text(now, "mount.source"),
		       snapshot_text(now, "mount.point"));
	line_of(f, width, line);
	(void)snprintf(line, sizeof(line),
		       "pid %" PRIu64 ", up %s, %s; RSS %s, nodes %s, names %s, pages %s",
		       snapshot_value(now, "proc.pid"), figure_time(snapshot_uptime(now), up),
		       snapshot_text(now, "conn.proto"),
		       figure_bytes((double)snapshot_rss(now), rss),
		       figure_count((double)snapshot_value(now, "cache.nodes"), nodes),
		       figure_count((double)snapshot_value(now, "cache.names"), names),
		       figure_bytes((double)snapshot_value(now, "cache.pages"), pages));
	line_of(f, width, line);
	const char *dialect = snapshot_text(now, "conn.dialect");
	if (dialect[0] != '\0') {
		(void)snprintf(line, sizeof(line), "server: %s", dialect);
		line_of(f, width, line);
	}
}

static void note_daemon(FILE *f, unsigned width, const struct snapshot *now)
{
	static const char *const notes[] = {
		[DAEMON_STOPPED] = "the daemon is stopped (SIGSTOP): nothing is answered",
		[DAEMON_HANGS] = "the daemon hangs: no sign of life",
		[DAEMON_ENDED] = "the daemon has ended: these are its last figures",
		[DAEMON_DIED] = "the daemon died: these are its last figures",
	};
	enum daemon_state d = snapshot_daemon(now);
	uint64_t beat = snapshot_value(now, "proc.heartbeat");
	char line[256], age[FIGURE_MAX];

	if (d == DAEMON_RUNS)
		return;
	(void)snprintf(line, sizeof(line), "%s; last seen to run %s ago", notes[d],
		       figure_time(snapshot_time(now) > beat ? snapshot_time(now) - beat : 0, age));
	line_of(f, width, line);
}

static void note_oldest(FILE *f, unsigned width, const struct snapshot *now)
{
	struct oldest o = snapshot_oldest(now);
	uint64_t heard = snapshot_value(now, "conn.heard");
	char line[256], name[32], age[FIGURE_MAX], sent[FIGURE_MAX], silent[FIGURE_MAX];

	if (!o.exists)
		return;
	command_name(o.pid, "", name, sizeof(name));
	(void)snprintf(line, sizeof(line),
		       "oldest request: %s of node %" PRIu64 " by pid %" PRIu32 " (%s), for %s",
		       o.op, o.node, o.pid, name, figure_time(o.age, age));
	line_of(f, width, line);
	if (o.sent_age == 0)
		return;
	(void)snprintf(
		line, sizeof(line),
		"    waits for the host's answer to %s since %s; the host was last heard %s ago",
		o.rpc, figure_time(o.sent_age, sent),
		figure_time(snapshot_time(now) > heard ? snapshot_time(now) - heard : 0, silent));
	line_of(f, width, line);
}

void report_notes(FILE *f, unsigned width, const struct snapshot *now)
{
	note_daemon(f, width, now);
	if (strcmp(snapshot_text(now, "conn.state"), "lost") == 0)
		line_of(f, width, "the connection to the host is lost");
	note_oldest(f, width, now);
}

unsigned output_width(FILE *f)
{
	struct winsize w;
	const char *env = getenv("COLUMNS");
	int n = env != NULL ? atoi(env) : 0;

	if (ioctl(fileno(f), TIOCGWINSZ, &w) == 0 && w.ws_col > 0)
		return w.ws_col;
	return n > 0 ? (unsigned)n : 80;
}

bool repeat_wait(const struct repeat *r, unsigned long shown)
{
	if (r->interval <= 0 || (r->count > 0 && shown >= r->count))
		return false;
	struct timespec ts = {.tv_sec = (time_t)r->interval};
	ts.tv_nsec = (long)((r->interval - (double)ts.tv_sec) * 1e9);
	(void)fflush(stdout);
	(void)nanosleep(&ts, NULL);
	return !ferror(stdout);
}

int repeat_view(struct segment *g, const struct repeat *r, show_fn *each)
{
	struct snapshot *before = NULL;
	unsigned long n = 0;

	do {
		struct snapshot *now = segment_take(g);

		if (now == NULL)
			break;
		each(before, now, n);
		snapshot_free(before);
		before = now;
	} while (repeat_wait(r, ++n));
	snapshot_free(before);
	return fflush(stdout) == 0 ? 0 : 1;
}

/* ---- a server's ---- */

static void server_report(const struct snapshot *before, const struct snapshot *now, bool header,
			  unsigned width)
{
	struct period p = period_of(before, now);
	struct hist all = hist_of_ops(&p, "rpc");
	char line[512], a[FIGURE_MAX], b[FIGURE_MAX], c[FIGURE_MAX], d[FIGURE_MAX], e[FIGURE_MAX],
		g[FIGURE_MAX];

	if (before == NULL) {
		(void)snprintf(line, sizeof(line), "%s, %s, pid %" PRIu64 ", up %s, RSS %s",
			       snapshot_text(now, "server.directory"),
			       snapshot_text(now, "proc.program"), snapshot_value(now, "proc.pid"),
			       figure_time(snapshot_uptime(now), a),
			       figure_bytes((double)snapshot_rss(now), b));
		line_of(stdout, width, line);
		note_daemon(stdout, width, now);
	}
	if (header)
		(void)printf("%8s%8s%8s%8s%8s%8s\n", "clients", "ops/s", "err/s", "avg", "p50",
			     "p99");
	(void)printf("%8s%8s%8s%8s%8s%8s\n",
		     figure_count((double)snapshot_value(now, "server.sessions"), a),
		     figure_count(rate(&p, "server.requests"), b),
		     figure_count(rate(&p, "server.errors"), c), show_mean(&all, d),
		     show_time(&all, 50, e), show_time(&all, 99, g));
}

/* ---- the view ---- */

static unsigned header_every(void)
{
	struct winsize w;

	return ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_row > 8 ? w.ws_row - 4u
									 : HEADER_EVERY;
}

static void one_report(const struct snapshot *before, const struct snapshot *now, unsigned long n)
{
	unsigned width = output_width(stdout);
	bool header = n % header_every() == 0;

	if (!snapshot_is_mount(now)) {
		server_report(before, now, header, width);
		return;
	}
	if (before == NULL)
		report_title(stdout, width, now);
	if (header)
		report_header(stdout, width);
	report_line(stdout, width, before, now);
	if (before == NULL)
		report_notes(stdout, width, now);
}

int view_report(struct segment *g, const struct repeat *r)
{
	return repeat_view(g, r, one_report);
}
