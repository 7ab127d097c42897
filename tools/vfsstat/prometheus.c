/*
 * --prometheus: the text exposition format, version 0.0.4. Times become
 * seconds. All samples of a metric stand together, of every mount and server.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "find.h"
#include "views.h"

#define SNAPSHOTS_MAX 256

struct snapshots {
	struct snapshot *snap[SNAPSHOTS_MAX];
	size_t n;
};

static void take(void *arg, struct segment *g)
{
	struct snapshots *a = arg;

	if (a->n < SNAPSHOTS_MAX && (a->snap[a->n] = segment_take(g)) != NULL)
		a->n++;
}

static void put_label(const char *name, const char *value, bool more)
{
	(void)printf("%s=\"", name);
	for (const char *p = value; *p != '\0'; p++) {
		if (*p == '\\' || *p == '"')
			(void)printf("\\%c", *p);
		else if (*p == '\n')
			(void)fputs("\\n", stdout);
		else
			(void)putchar(*p);
	}
	(void)fputs(more ? "\"," : "\"", stdout);
}

/* {mount="/mnt" or {export="/dir"; the caller writes the rest. */
static void put_who(const struct snapshot *s, bool more)
{
	(void)putchar('{');
	if (snapshot_is_mount(s))
		put_label("mount", snapshot_text(s, "mount.point"), more);
	else
		put_label("export", snapshot_text(s, "server.directory"), more);
}

/* "fuse.bytes_read" to vsockfs_fuse_bytes_read */
static void put_name(const char *name)
{
	(void)fputs("vsockfs_", stdout);
	for (; *name != '\0'; name++)
		(void)putchar(*name == '.' ? '_' : *name);
}

static void put_head(const char *name, const char *tail, const char *type, const char *text)
{
	(void)fputs("# HELP ", stdout);
	put_name(name);
	(void)printf("%s %s\n# TYPE ", tail, text);
	put_name(name);
	(void)printf("%s %s\n", tail, type);
}

/* ---- counters and gauges ---- */

static bool has_row(const struct snapshot *s, const char *section, const char *name, uint32_t *ret)
{
	struct rows r = snapshot_rows(s, section, 0);

	for (uint32_t i = 0; r.info != NULL && i < r.count; i++) {
		if (strcmp(r.info[i].name, name) == 0) {
			*ret = i;
			return true;
		}
	}
	return false;
}

/* Whether snapshot k is the first that has this row: its metric is written then. */
static bool is_first(const struct snapshots *a, size_t k, const char *section, const char *name)
{
	uint32_t row;

	for (size_t i = 0; i < k; i++)
		if (has_row(a->snap[i], section, name, &row))
			return false;
	return true;
}

static void put_scalar(const struct snapshots *a, const struct stats_info *info)
{
	bool counter = strcmp(info->type, "counter") == 0, time = strcmp(info->unit, "time") == 0;
	const char *tail = counter ? "_total" : time ? "_seconds" : "";

	put_head(info->name, tail, info->type, info->text);
	for (size_t i = 0; i < a->n; i++) {
		struct rows r = snapshot_rows(a->snap[i], "scalar", sizeof(uint64_t));
		uint32_t row;

		if (!has_row(a->snap[i], "scalar", info->name, &row))
			continue;
		uint64_t v = *(const uint64_t *)rows_at(&r, row);
		put_name(info->name);
		(void)fputs(tail, stdout);
		put_who(a->snap[i], false);
		if (time)
			(void)printf("} %.9f\n", (double)v / 1e9);
		else
			(void)printf("} %" PRIu64 "\n", v);
	}
}

/* ---- histograms ---- */

static void put_series(const char *name, const struct snapshot *s, const char *op,
		       const struct stats_hist *h)
{
	uint64_t sum = 0;

	for (int i = 0; i < STATS_BUCKETS; i++) {
		sum += h->bucket[i];
		/* microseconds to minutes: what lies outside is in the next one */
		if (i + 1 < STATS_BUCKETS && (i < 9 || i > 36))
			continue;
		put_name(name);
		(void)fputs("_seconds_bucket", stdout);
		put_who(s, true);
		if (op != NULL)
			put_label("op", op, true);
		if (i + 1 < STATS_BUCKETS)
			(void)printf("le=\"%.9g\"} %" PRIu64 "\n", (double)(UINT64_C(2) << i) / 1e9,
				     sum);
		else
			(void)printf("le=\"+Inf\"} %" PRIu64 "\n", sum);
	}
	for (int count = 0; count < 2; count++) {
		put_name(name);
		(void)fputs(count ? "_seconds_count" : "_seconds_sum", stdout);
		put_who(s, op != NULL);
		if (op != NULL)
			put_label("op", op, false);
		if (count)
			(void)printf("} %" PRIu64 "\n", sum);
		else
			(void)printf("} %.9f\n", (double)h->sum / 1e9);
	}
}

static void put_hists(const struct snapshots *a, const struct stats_info *info)
{
	put_head(info->name, "_seconds", "histogram", info->text);
	for (size_t i = 0; i < a->n; i++) {
		struct rows r = snapshot_rows(a->snap[i], "hist", sizeof(struct stats_hist));
		uint32_t row;

		if (has_row(a->snap[i], "hist", info->name, &row) && r.count > 0)
			put_series(info->name, a->snap[i], NULL, rows_at(&r, row));
	}
}

/* ---- operations ---- */

static void put_ops(const struct snapshots *a, const char *section, const char *name,
		    const char *text)
{
	put_head(name, "_seconds", "histogram", text);
	for (size_t i = 0; i < a->n; i++) {
		struct rows r = snapshot_rows(a->snap[i], section, sizeof(struct stats_op));

		for (uint32_t k = 0; r.info != NULL && k < r.count; k++) {
			const struct stats_op *op = rows_at(&r, k);

			if (op->count > 0)
				put_series(name, a->snap[i], r.info[k].name, &op->time);
		}
	}
}

static void put_op_errors(const struct snapshots *a, const char *section, const char *name)
{
	put_head(name, "_errors_total", "counter", "errors by operation and number");
	for (size_t i = 0; i < a->n; i++) {
		struct rows r = snapshot_rows(a->snap[i], section, sizeof(struct stats_op));

		for (uint32_t k = 0; r.info != NULL && k < r.count; k++) {
			const struct stats_op *op = rows_at(&r, k);

			for (int e = 0; e < STATS_ERRNOS; e++) {
				const char *number = e > 0 ? strerrorname_np(e) : NULL;

				if (op->errors[e] == 0)
					continue;
				put_name(name);
				(void)fputs("_errors_total", stdout);
				put_who(a->snap[i], true);
				put_label("op", r.info[k].name, true);
				put_label("errno", number != NULL ? number : "other", false);
				(void)printf("} %" PRIu32 "\n", op->errors[e]);
			}
		}
	}
}

/* ---- the daemon ---- */

static void put_daemon(const struct snapshots *a)
{
	put_head("up", "", "gauge", "1 while the daemon runs and, on a mount, is connected");
	for (size_t i = 0; i < a->n; i++) {
		bool up = snapshot_daemon(a->snap[i]) == DAEMON_RUNS &&
			  (!snapshot_is_mount(a->snap[i]) ||
			   strcmp(snapshot_text(a->snap[i], "conn.state"), "connected") == 0);

		put_name("up");
		put_who(a->snap[i], false);
		(void)printf("} %d\n", up);
	}
	put_head("oldest_pending", "_seconds", "gauge", "age of the request that waits longest");
	for (size_t i = 0; i < a->n; i++) {
		if (!snapshot_is_mount(a->snap[i]))
			continue;
		put_name("oldest_pending_seconds");
		put_who(a->snap[i], false);
		(void)printf("} %.9f\n", (double)snapshot_oldest(a->snap[i]).age / 1e9);
	}
	put_head("resident_memory", "_bytes", "gauge", "resident memory of the daemon");
	for (size_t i = 0; i < a->n; i++) {
		put_name("resident_memory_bytes");
		put_who(a->snap[i], false);
		(void)printf("} %" PRIu64 "\n", snapshot_rss(a->snap[i]));
	}
}

int view_prometheus(struct segment *g)
{
	static struct snapshots a;

	a.n = 0;
	if (g != NULL)
		take(&a, g);
	else
		each_segment(take, &a);
	put_daemon(&a);
	for (size_t k = 0; k < a.n; k++) {
		struct rows r = snapshot_rows(a.snap[k], "scalar", sizeof(uint64_t));

		for (uint32_t i = 0; i < r.count; i++)
			if (strcmp(r.info[i].unit, "id") != 0 &&
			    is_first(&a, k, "scalar", r.info[i].name))
				put_scalar(&a, &r.info[i]);
		r = snapshot_rows(a.snap[k], "hist", sizeof(struct stats_hist));
		for (uint32_t i = 0; r.info != NULL && i < r.count; i++)
			if (is_first(&a, k, "hist", r.info[i].name))
				put_hists(&a, &r.info[i]);
	}
	put_ops(&a, "fuse", "fuse_op", "time until the answer to a request of the kernel");
	put_op_errors(&a, "fuse", "fuse_op");
	put_ops(&a, "rpc", "rpc_op", "round trips of a mount, execution on a server");
	put_op_errors(&a, "rpc", "rpc_op");
	for (size_t i = 0; i < a.n; i++)
		snapshot_free(a.snap[i]);
	return fflush(stdout) == 0 ? 0 : 1;
}
