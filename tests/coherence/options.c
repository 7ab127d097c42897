#include "options.h"

#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS_MAX 32
#define HELP	 ROWS_MAX
#define COLUMN	 19 /* at which the texts stand */

static void print_row(FILE *to, const struct option_row *r)
{
	int n = fprintf(to, "  --%s%s%s", r->name, r->value != NULL ? " " : "",
			r->value != NULL ? r->value : "");

	for (const char *line = r->text, *end; line != NULL; line = *end != '\0' ? end + 1 : NULL) {
		int space = n < COLUMN + 2 ? COLUMN + 2 - n : 2;

		end = strchrnul(line, '\n');
		(void)fprintf(to, "%*s%.*s\n", space, "", (int)(end - line), line);
		n = 0;
	}
}

static void print(FILE *to, const struct options *o)
{
	(void)fprintf(to, "usage: %s [OPTION...] %s\n", program_invocation_short_name, o->usage);
	for (const struct option_row *r = o->row; r->name != NULL; r++)
		print_row(to, r);
	(void)fprintf(to, "exit code: %s, 2 usage, 3 could not go on\n", o->exit_codes);
}

void options_wrong(const struct options *o)
{
	print(stderr, o);
	exit(2);
}

unsigned long options_number(const char *text)
{
	char *end;

	errno = 0;
	unsigned long n = strtoul(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || n > UINT32_MAX)
		errx(2, "'%s' is no number", text);
	return n;
}

static void take(const struct option_row *r)
{
	if (r->flag != NULL)
		*r->flag = r->is;
	else if (r->number != NULL)
		*r->number = options_number(optarg);
	else
		r->take(optarg);
}

int options_parse(const struct options *o, int argc, char **argv)
{
	struct option all[ROWS_MAX + 2] = {{"help", no_argument, NULL, HELP}};
	int c;

	for (int i = 0; o->row[i].name != NULL; i++) {
		const struct option_row *r = &o->row[i];

		if (i == ROWS_MAX)
			errx(3, "more than %d options", ROWS_MAX);
		all[i + 1] = (struct option){
			r->name, r->value != NULL ? required_argument : no_argument, NULL, i};
	}
	while ((c = getopt_long(argc, argv, "", all, NULL)) != -1) {
		if (c == HELP) {
			print(stdout, o);
			exit(0);
		}
		if (c == '?')
			options_wrong(o);
		take(&o->row[c]);
	}
	if (o->operands != 0 && argc - optind != o->operands)
		options_wrong(o);
	return optind;
}
