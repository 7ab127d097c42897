/*
 * Option tables: one list of specs makes the parser of `-o a,b=c`, the help
 * text and the man page section.
 *
 * A table describes a struct of the caller's; each spec names the member by
 * its offset. Nothing is allocated: text values point into the copy of the
 * list that options_parse makes and the caller keeps until the end.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum option_kind {
	OPTION_ON,	/* bool: true; takes no value */
	OPTION_OFF,	/* bool: false */
	OPTION_SECONDS, /* uint64_t, in ns; decimal fraction allowed */
	OPTION_SIZE,	/* uint64_t, in bytes; suffix K, M or G */
	OPTION_NUMBER,	/* uint64_t */
	OPTION_OCTAL,	/* uint64_t */
	OPTION_TEXT,	/* const char * */
	OPTION_CHOICE,	/* int: the index of the value in `values`, "a|b|c" */
};

struct option_spec {
	const char *name;
	enum option_kind kind;
	size_t offset;
	const char *values; /* CHOICE: the values; else a word for the value in the help text */
	uint64_t max;	    /* SECONDS (in ns), SIZE, NUMBER, OCTAL */
	const char *default_text; /* for the help text; NULL: none is shown */
	const char *text;
};

/*
 * Called for an option that is not in the table; value is NULL without "=". Returns
 * true if the caller knows the option.
 */
typedef bool options_other(void *arg, const char *name, const char *value);

/*
 * Parses list, "name[=value],..." with `\,` and `\\` for a comma and a
 * backslash, into the struct at `into`. *list is changed and must outlive the
 * values. 0, or -EINVAL with one line in err.
 */
int options_parse(const struct option_spec *table, size_t n, char *list, void *into,
		  options_other *other, void *arg, char *err, size_t err_len);

/* Parses one value of an option, as options_parse does. */
int option_set(const struct option_spec *spec, const char *value, void *into, char *err,
	       size_t err_len);

/* Writes the struct's value as a text that option_set takes; not for ON, OFF and TEXT. */
void option_show(const struct option_spec *spec, const void *from, char *buf, size_t len);

/* Writes the table as help text, or as mdoc list items. */
void options_help(const struct option_spec *table, size_t n, FILE *f);
void options_man(const struct option_spec *table, size_t n, FILE *f);
