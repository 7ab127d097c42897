/*
 * --json: one flat object per report, and --diff: what changed since one.
 *
 * A histogram NAME has NAME.count, .sum, .p50, .p99 and, for each bucket that
 * is not empty, .bucket.I; an operation has fuse.op.NAME.count and so on.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "figure.h"
#include "views.h"

struct json {
	FILE *f;
	bool first;
};

static void key(struct json *j, const char *name)
{
	(void)fprintf(j->f, "%s\"%s\":", j->first ? "" : ",\n", name);
	j->first = false;
}

static void put_number(struct json *j, const char *name, uint64_t v)
{
	key(j, name);
	(void)fprintf(j->f, "%" PRIu64, v);
}

static void put_text(struct json *j, const char *name, const char *text)
{
	key(j, name);
	(void)fputc('"', j->f);
	for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
		if (*p == '"' || *p == '\\')
			(void)fprintf(j->f, "\\%c", *p);
		else if (*p < ' ')
			(void)fprintf(j->f, "\\u%04x", *p);
		else
			(void)fputc(*p, j->f);
	}
	(void)fputc('"', j->f);
}

static void put_hist(struct json *j, const char *name, const struct stats_hist *row)
{
	struct hist h = hist_since(NULL, row);
	char full[128];

#define NAMED(fmt, ...) ((void)snprintf(full, sizeof(full), fmt, name, ##__VA_ARGS__), full)
	put_number(j, NAMED("%s.samples"), h.count);
	put_number(j, NAMED("%s.sum"), h.sum);
	put_number(j, NAMED("%s.p50"), hist_percentile(&h, 50));
	put_number(j, NAMED("%s.p99"), hist_percentile(&h, 99));
	for (int i = 0; i < STATS_BUCKETS; i++)
		if (h.bucket[i] > 0)
			put_number(j, NAMED("%s.bucket.%d", i), h.bucket[i]);
#undef NAMED
}

static void put_op(struct json *j, const char *section, const char *op, const struct stats_op *row)
{
	char name[80], full[128];

	(void)snprintf(name, sizeof(name), "%s.op.%s", section, op);
#define NAMED(tail) ((void)snprintf(full, sizeof(full), "%s." tail, name), full)
	put_number(j, NAMED("count"), row->count);
	put_number(j, NAMED("wait"), row->wait);
	put_number(j, NAMED("trips"), row->rpcs);
#undef NAMED
	put_hist(j, name, &row->time);
	for (int e = 0; e < STATS_ERRNOS; e++) {
		const char *text = e > 0 ? strerrorname_np(e) : NULL;

		if (row->errors[e] == 0)
			continue;
		(void)snprintf(full, sizeof(full), "%s.error.%s", name,
			       text != NULL ? text : "other");
		put_number(j, full, row->errors[e]);
	}
}

static void put_ops(struct json *j, const struct snapshot *s, const char *section)
{
	struct rows r = snapshot_rows(s, section, sizeof(struct stats_op));

	for (uint32_t i = 0; r.info != NULL && i < r.count; i++) {
		const struct stats_op *row = rows_at(&r, i);

		if (row->count > 0)
			put_op(j, section, r.info[i].name, row);
	}
}

static void put_oldest(struct json *j, const struct snapshot *s)
{
	struct oldest o = snapshot_oldest(s);

	if (!o.exists)
		return;
	put_text(j, "oldest.op", o.op);
	put_number(j, "oldest.age", o.age);
	put_number(j, "oldest.node", o.node);
	put_number(j, "oldest.pid", o.pid);
	put_number(j, "oldest.uid", o.uid);
	if (o.sent_age > 0) {
		put_text(j, "oldest.rpc", o.rpc != NULL ? o.rpc : "");
		put_number(j, "oldest.sent_age", o.sent_age);
	}
}

void json_write(FILE *f, const struct snapshot *now)
{
	struct json j = {.f = f, .first = true};
	struct rows r = snapshot_rows(now, "scalar", sizeof(uint64_t));

	(void)fputc('{', f);
	put_text(&j, "proc.state", daemon_state_name(snapshot_daemon(now)));
	put_number(&j, "proc.rss", snapshot_rss(now));
	put_number(&j, "proc.uptime", snapshot_uptime(now));
	put_number(&j, "proc.now", snapshot_time(now));
	for (uint32_t i = 0; i < r.count; i++)
		put_number(&j, r.info[i].name, *(const uint64_t *)rows_at(&r, i));
	r = snapshot_rows(now, "text", sizeof(struct stats_text));
	for (uint32_t i = 0; r.info != NULL && i < r.count; i++)
		put_text(&j, r.info[i].name, stats_text_now(rows_at(&r, i)));
	r = snapshot_rows(now, "hist", sizeof(struct stats_hist));
	for (uint32_t i = 0; r.info != NULL && i < r.count; i++)
		put_hist(&j, r.info[i].name, rows_at(&r, i));
	put_ops(&j, now, "fuse");
	put_ops(&j, now, "rpc");
	put_oldest(&j, now);
	(void)fputs("}\n", f);
}

int view_json(struct segment *g, const struct repeat *r)
{
	unsigned long n = 0;

	do {
		struct snapshot *now = segment_take(g);

		if (now == NULL)
			return 1;
		json_write(stdout, now);
		snapshot_free(now);
	} while (repeat_wait(r, ++n));
	return fflush(stdout) == 0 ? 0 : 1;
}

/* ---- --diff ---- */

/* The number of a key in a saved object, which has one key per line; false if it is not there. */
static bool saved_number(const char *saved, const char *name, uint64_t *ret)
{
	char quoted[160];

	(void)snprintf(quoted, sizeof(quoted), "\"%s\":", name);
	const char *at = strstr(saved, quoted);
	if (at == NULL)
		return false;
	at += strlen(quoted);
	while (*at == ' ')
		at++;
	char *end;
	errno = 0;
	*ret = strtoull(at, &end, 10);
	return end != at && errno == 0;
}

static uint64_t grown(const char *saved, const char *name, uint64_t now)
{
	uint64_t before = 0;

	(void)saved_number(saved, name, &before);
	return now > before ? now - before : 0;
}

static void diff_scalars(const char *saved, const struct snapshot *now)
{
	struct rows r = snapshot_rows(now, "scalar", sizeof(uint64_t));

	for (uint32_t i = 0; i < r.count; i++) {
		uint64_t v = *(const uint64_t *)rows_at(&r, i), before = 0;
		bool gauge = strcmp(r.info[i].type, "gauge") == 0;

		if (strcmp(r.info[i].unit, "time") == 0 || strcmp(r.info[i].unit, "id") == 0)
			continue;
		(void)saved_number(saved, r.info[i].name, &before);
		if (v != before)
			(void)printf("%-32s %+" PRId64 "%s\n", r.info[i].name,
				     (int64_t)(v - before), gauge ? " (a gauge)" : "");
	}
}

static void diff_hist(const char *saved, const char *name, const struct stats_hist *row)
{
	struct hist h = hist_since(NULL, row);
	char full[160], avg[FIGURE_MAX], p50[FIGURE_MAX], p99[FIGURE_MAX];

	(void)snprintf(full, sizeof(full), "%s.sum", name);
	h.sum = grown(saved, full, h.sum);
	h.count = 0;
	for (int i = 0; i < STATS_BUCKETS; i++) {
		(void)snprintf(full, sizeof(full), "%s.bucket.%d", name, i);
		h.bucket[i] = grown(saved, full, h.bucket[i]);
		h.count += h.bucket[i];
	}
	if (h.count > 0)
		(void)printf("%-32s +%" PRIu64 " avg %s p50 %s p99 %s\n", name, h.count,
			     figure_time(hist_mean(&h), avg),
			     figure_time(hist_percentile(&h, 50), p50),
			     figure_time(hist_percentile(&h, 99), p99));
}

static void diff_section(const char *saved, const struct snapshot *now, const char *section)
{
	bool ops = strcmp(section, "hist") != 0;
	struct rows r = snapshot_rows(now, section,
				      ops ? sizeof(struct stats_op) : sizeof(struct stats_hist));

	for (uint32_t i = 0; r.info != NULL && i < r.count; i++) {
		char name[80];

		if (ops) {
			(void)snprintf(name, sizeof(name), "%s.op.%s", section, r.info[i].name);
			diff_hist(saved, name, &((const struct stats_op *)rows_at(&r, i))->time);
		} else {
			diff_hist(saved, r.info[i].name, rows_at(&r, i));
		}
	}
}

int view_diff(struct segment *g, const char *file)
{
	FILE *f = fopen(file, "re");
	char *saved = NULL;
	size_t len = 0;
	uint64_t pid = 0, started = 0;

	if (f == NULL || getdelim(&saved, &len, '\0', f) <= 0 ||
	    !saved_number(saved, "proc.pid", &pid) ||
	    !saved_number(saved, "proc.started", &started)) {
		(void)fprintf(stderr, "vfsstat: %s: %s\n", file,
			      f == NULL ? strerror(errno) : "not written by vfsstat --json");
		if (f != NULL)
			(void)fclose(f);
		free(saved);
		return 1;
	}
	(void)fclose(f);
	struct snapshot *now = segment_take(g);
	if (now != NULL && (pid != snapshot_value(now, "proc.pid") ||
			    started != snapshot_value(now, "proc.started"))) {
		(void)fprintf(stderr, "vfsstat: %s is of another run: mounted anew since\n", file);
		snapshot_free(now);
		free(saved);
		return 1;
	}
	if (now != NULL) {
		diff_scalars(saved, now);
		diff_section(saved, now, "hist");
		diff_section(saved, now, "fuse");
		diff_section(saved, now, "rpc");
	}
	snapshot_free(now);
	free(saved);
	return now != NULL && fflush(stdout) == 0 ? 0 : 1;
}
