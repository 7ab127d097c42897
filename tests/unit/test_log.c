/* The log: one line for each call, and no more of them than a reader can take. */
#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"

/* Lines that were written to stderr by `times` calls. */
static size_t lines_of(unsigned times, int level)
{
	FILE *file = tmpfile();
	int saved = dup(STDERR_FILENO);
	size_t lines = 0;
	int c;

	assert_non_null(file);
	assert_true(dup2(fileno(file), STDERR_FILENO) >= 0);
	for (unsigned i = 0; i < times; i++)
		log_line(level, "line %u of\nmany", i);
	assert_true(dup2(saved, STDERR_FILENO) >= 0);
	(void)close(saved);
	rewind(file);
	while ((c = getc(file)) != EOF)
		lines += c == '\n';
	(void)fclose(file);
	return lines;
}

static void test_levels(void **state)
{
	(void)state;
	log_init("test", LOG_WARNING);
	assert_int_equal(lines_of(3, LOG_WARNING), 3); /* a line break in it is none */
	assert_int_equal(lines_of(3, LOG_NOTICE), 0);
}

/* However often somebody makes us say something. */
static void test_bounded(void **state)
{
	(void)state;
	log_init("test", LOG_NOTICE);
	size_t lines = lines_of(100000, LOG_WARNING);

	assert_true(lines >= LOG_BURST / 2 && lines < 10000);
	/* All of them, for who looks for a fault. */
	log_init("test", LOG_DEBUG);
	assert_int_equal(lines_of(1000, LOG_WARNING), 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_levels),
	    cmocka_unit_test(test_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
