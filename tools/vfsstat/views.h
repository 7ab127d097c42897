/*
 * The views of vfsstat. Each returns an exit code; those that repeat take
 * the interval in seconds (0: once) and the count (0: without end).
 */
#pragma once

#include <stdio.h>

#include "segment.h"

struct repeat {
	double interval;
	unsigned long count;
};

/* Columns of the terminal; else of COLUMNS, or 80. */
unsigned output_width(FILE *f);
/* Waits until the next report is due; false at the end. */
bool repeat_wait(const struct repeat *r, unsigned long shown);
/* Snapshots one after the other, the n-th with the one before it: NULL for the first. Returns an
 * exit code. */
typedef void show_fn(const struct snapshot *before, const struct snapshot *now, unsigned long n);
int repeat_view(struct segment *g, const struct repeat *r, show_fn *each);

int view_report(struct segment *g, const struct repeat *r);
int view_ops(struct segment *g, const struct repeat *r);
int view_top(struct segment *g, const struct repeat *r);
int view_json(struct segment *g, const struct repeat *r);
int view_diff(struct segment *g, const char *file);
int view_prometheus(struct segment *g); /* NULL: of every mount and server */
int view_list(void);

/* ---- parts, for tests ---- */

/* The two header lines, or one line of figures, of a mount's report. */
void report_header(FILE *f, unsigned width);
void report_line(FILE *f, unsigned width, const struct snapshot *before,
		 const struct snapshot *now);
/* The lines around a table: which mount it is, which requests wait, which figures are wrong. */
void report_title(FILE *f, unsigned width, const struct snapshot *now);
void report_notes(FILE *f, unsigned width, const struct snapshot *now);
void ops_table(FILE *f, const struct snapshot *before, const struct snapshot *now);
void json_write(FILE *f, const struct snapshot *now);
