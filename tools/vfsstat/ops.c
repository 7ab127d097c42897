/* --ops: one line per operation. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "figure.h"
#include "views.h"

/* Differences of one operation's row. */
struct op {
	uint64_t count, errors, enoent, wait, rpcs;
	struct hist time;
	uint64_t by_errno[STATS_ERRNOS];
};

static struct op op_since(const struct stats_op *a, const struct stats_op *b)
{
	struct op o = {.count = b->count - (a != NULL ? a->count : 0),
		       .wait = b->wait - (a != NULL ? a->wait : 0),
		       .rpcs = b->rpcs - (a != NULL ? a->rpcs : 0),
		       .time = hist_since(a != NULL ? &a->time : NULL, &b->time)};

	for (int e = 0; e < STATS_ERRNOS; e++) {
		o.by_errno[e] = b->errors[e] - (a != NULL ? a->errors[e] : 0);
		*(e == ENOENT ? &o.enoent : &o.errors) += o.by_errno[e];
	}
	return o;
}

/* Below the line of the operation, broken before the 80th column. */
static void error_lines(FILE *f, const struct op *o)
{
	int column = 0;

	for (int e = 0; e < STATS_ERRNOS; e++) {
		const char *name = e > 0 ? strerrorname_np(e) : NULL;
		char text[64];

		if (o->by_errno[e] == 0 || e == ENOENT)
			continue;
		int n = snprintf(text, sizeof(text), "%s %" PRIu64,
				 name != NULL ? name : "other errors", o->by_errno[e]);
		if (column + 2 + n > 78) {
			(void)fputs(",\n", f);
			column = 0;
		}
		column += fprintf(f, "%s%s", column == 0 ? "                 " : ", ", text);
	}
	if (column > 0)
		(void)fputc('\n', f);
}

static const char *show_count(uint64_t n, char buf[24])
{
	if (n >= 1000000000)
		return figure_count((double)n, buf);
	(void)snprintf(buf, 24, "%" PRIu64, n);
	return buf;
}

/* The last column: round trips per request, or how long a message waited to be sent. */
enum last { LAST_TRIPS, LAST_WAIT, LAST_NOTHING };

static void table(FILE *f, const char *title, const char *section, enum last last,
		  const struct snapshot *before, const struct snapshot *now)
{
	static const char *const heads[] = {"rt/op", "wait", ""};
	struct rows b = snapshot_rows(now, section, sizeof(struct stats_op)), a = {0};
	double seconds = (double)snapshot_uptime(now) / 1e9;

	if (before != NULL) {
		a = snapshot_rows(before, section, sizeof(struct stats_op));
		seconds = (double)(snapshot_time(now) - snapshot_time(before)) / 1e9;
	}
	(void)fprintf(f, "%-16s%9s%8s%8s%8s%8s%8s%8s%s%6s\n", title, "count", "/s", "errors",
		      "ENOENT", "avg", "p50", "p99", last == LAST_NOTHING ? "" : " ", heads[last]);
	for (uint32_t i = 0; b.info != NULL && i < b.count; i++) {
		struct op o = op_since(i < a.count ? rows_at(&a, i) : NULL, rows_at(&b, i));
		char rate[FIGURE_MAX], avg[FIGURE_MAX], p50[FIGURE_MAX], p99[FIGURE_MAX],
			errors[FIGURE_MAX], enoent[FIGURE_MAX], end[FIGURE_MAX] = "", count[24];
		bool timed = o.time.count > 0;

		if (o.count == 0 && !timed)
			continue;
		if (last == LAST_TRIPS && o.count > 0)
			(void)snprintf(end, sizeof(end), "%.2f", (double)o.rpcs / (double)o.count);
		if (last == LAST_WAIT && timed)
			(void)figure_time(o.wait / o.time.count, end);
		(void)fprintf(f, "%-16.16s%9s%8s%8s%8s%8s%8s%8s %6s\n", b.info[i].name,
			      show_count(o.count, count),
			      figure_count(seconds > 0 ? (double)o.count / seconds : 0, rate),
			      figure_count((double)o.errors, errors),
			      figure_count((double)o.enoent, enoent),
			      timed ? figure_time(hist_mean(&o.time), avg) : "-",
			      timed ? figure_time(hist_percentile(&o.time, 50), p50) : "-",
			      timed ? figure_time(hist_percentile(&o.time, 99), p99) : "-", end);
		error_lines(f, &o);
	}
}

void ops_table(FILE *f, const struct snapshot *before, const struct snapshot *now)
{
	if (snapshot_is_mount(now)) {
		table(f, "fuse", "fuse", LAST_TRIPS, before, now);
		(void)fputc('\n', f);
		table(f, "rpc", "rpc", LAST_WAIT, before, now);
	} else {
		table(f, "executed", "rpc", LAST_NOTHING, before, now);
	}
}

static void show(const struct snapshot *before, const struct snapshot *now, unsigned long n)
{
	if (n > 0)
		(void)putchar('\n');
	ops_table(stdout, before, now);
	if (before == NULL)
		report_notes(stdout, output_width(stdout), now);
}

int view_ops(struct segment *g, const struct repeat *r)
{
	return repeat_view(g, r, show);
}
