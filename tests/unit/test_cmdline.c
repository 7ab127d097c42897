/* The kernel command line: words, quotes, the last one wins. */
#include "unit.h"

#include <unistd.h>

#include "../../tools/cmdline.c" /* of a program, in no library */

static char path[] = "/tmp/vsockfs-test-XXXXXX";

static int make_file(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
	(void)state;
	return unlink(path);
}

static void write_file(const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
	assert_int_equal(fclose(f), 0);
}

/* The value of "key" in this command line, NULL if there is none. */
static const char *get(const char *text)
{
	static char value[64];

	memset(value, '#', sizeof(value));
	write_file(text);
	return cmdline_get(path, "key", value, sizeof(value)) ? value : NULL;
}

static void test_words(void **state)
{
	(void)state;
	assert_string_equal(get("key=value"), "value");
	assert_string_equal(get("key=value\n"), "value");
	assert_string_equal(get("quiet  key=value\tro\n"), "value");
	assert_string_equal(get("key=a=b"), "a=b");
	assert_string_equal(get("key="), "");
	assert_null(get(""));
	assert_null(get("\n"));
	assert_null(get("key"));
	assert_null(get("key ="));
	assert_null(get("xkey=value keyx=value akey=b KEY=c"));
	assert_null(get("other=key=value"));
}

static void test_last_wins(void **state)
{
	(void)state;
	assert_string_equal(get("key=1 key=2 ro key=3 quiet"), "3");
	assert_string_equal(get("key=1 key="), "");
	assert_string_equal(get("key=1 key"), "1");
}

static void test_quotes(void **state)
{
	(void)state;
	assert_string_equal(get("key=\"a b\" ro"), "a b");
	assert_string_equal(get("\"key=a b\" ro"), "a b");
	assert_string_equal(get("key=\"a\tb\nc\""), "a\tb\nc");
	assert_null(get("\"other key=hidden\" ro"));
	assert_string_equal(get("\"other key=hidden\" key=seen"), "seen");
	assert_string_equal(get("key=\"not closed ro"), "not closed ro");
}

static void test_too_long(void **state)
{
	char text[128] = "key=", small[4];

	(void)state;
	memset(text + 4, 'x', 63);
	assert_int_equal(strlen(get(text)), 63); /* just fits */
	memset(text + 4, 'x', 64);
	assert_null(get(text));

	write_file("key=1234");
	memset(small, '#', sizeof(small));
	assert_false(cmdline_get(path, "key", small, sizeof(small)));
	assert_memory_equal(small, "####", sizeof(small));
	write_file("key=123");
	assert_true(cmdline_get(path, "key", small, sizeof(small)));
	assert_string_equal(small, "123");
}

/* A long value comes whole or not at all. */
static void test_long_word(void **state)
{
	size_t len = 6000;
	char *text = malloc(len + 1), *value = malloc(len + 1);

	(void)state;
	assert_non_null(text);
	assert_non_null(value);
	memset(text, 'x', len);
	memcpy(text, "key=", 4);
	text[len] = '\0';
	write_file(text);
	assert_true(cmdline_get(path, "key", value, len + 1));
	assert_string_equal(value, text + 4);
	assert_false(cmdline_get(path, "key", value, len - 4));
	free(text);
	free(value);
}

static void test_no_file(void **state)
{
	char value[8];

	(void)state;
	assert_false(cmdline_get("/nonexistent/cmdline", "key", value, sizeof(value)));
}

static const char *mountpoint(const char *text)
{
	static char value[64];

	write_file(text);
	return cmdline_mountpoint(path, value, sizeof(value)) == 0 ? value : NULL;
}

static const char *source(const char *text)
{
	static char value[64];

	write_file(text);
	return cmdline_source(path, value, sizeof(value)) == 0 ? value : NULL;
}

/* What guests of the plain protocol find there serves us as well; our own words come first. */
static void test_what_to_mount(void **state)
{
	(void)state;
	assert_null(mountpoint("quiet"));
	assert_string_equal(mountpoint("matchlock.workspace=/w"), "/w");
	assert_string_equal(mountpoint("vsockfs.workspace=/v matchlock.workspace=/w"), "/v");
	assert_string_equal(source("quiet"), "vsock:");
	assert_string_equal(source("matchlock.vfs_port=5002"), "vsock:2:5002");
	assert_string_equal(source("matchlock.vfs_port=4000000001"), "vsock:2:4000000001");
	assert_string_equal(source("matchlock.vfs_port=5002 vsockfs.source=unix:/s"), "unix:/s");
	static const char *const wrong[] = {"", "0", "-1", "x", "1x", "4294967295", "4294967296",
					    "18446744073709551617", " 1", "0000000000000000005001"};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		char text[64];

		(void)snprintf(text, sizeof(text), "matchlock.vfs_port=%s", wrong[i]);
		assert_null(source(text));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_words),     cmocka_unit_test(test_last_wins),
	    cmocka_unit_test(test_quotes),    cmocka_unit_test(test_too_long),
	    cmocka_unit_test(test_long_word), cmocka_unit_test(test_no_file),
	    cmocka_unit_test(test_what_to_mount),
	};

	return cmocka_run_group_tests(tests, make_file, remove_file);
}
