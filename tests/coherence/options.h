/*
 * Options of the test programs: each is a row of a table, which is parsed, and shown by --help and
 * to who calls a program wrongly.
 */
#pragma once

#include <stdbool.h>

/* One of `flag`, which becomes `is`, `number` and `take`, which gets the value, or NULL. */
struct option_row {
	const char *name, *value; /* value NULL: it has none */
	const char *text;	  /* lines; of a number the default */
	bool *flag, is;
	unsigned long *number;
	void (*take)(char *value);
};

struct options {
	const char *usage;	      /* the operands, after the program's name */
	int operands;		      /* so many; 0: that is for the program to say */
	const struct option_row *row; /* the last one has no name */
	const char *exit_codes;	      /* the last line of the help */
};

/* The index of the first operand. --help ends the program with 0, a wrong option, or not so many
 * operands, with 2. */
int options_parse(const struct options *o, int argc, char **argv);
/* Where the operands are wrong. */
_Noreturn void options_wrong(const struct options *o);
/* Ends the program with 2 where it is none, or has more than 32 bits. */
unsigned long options_number(const char *text);
