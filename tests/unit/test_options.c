/* Option tables: every kind with its bounds, the list with its escapes, the texts made of it. */
#include "unit.h"

#include "core/options.h"

struct values {
	bool on, off;
	uint64_t seconds, size, number, octal;
	const char *text;
	int choice;
};

static const struct option_spec table[] = {
    {"on", OPTION_ON, offsetof(struct values, on), NULL, 0, NULL, "turns on"},
    {"off", OPTION_OFF, offsetof(struct values, off), NULL, 0, "on", "turns off"},
    {"seconds", OPTION_SECONDS, offsetof(struct values, seconds), "S", UINT64_MAX, "1", "a time"},
    {"size", OPTION_SIZE, offsetof(struct values, size), "BYTES", UINT64_MAX, "1M", "a size"},
    {"number", OPTION_NUMBER, offsetof(struct values, number), "N", 1000, NULL, "a number"},
    {"octal", OPTION_OCTAL, offsetof(struct values, octal), "MASK", 0777, NULL, "a mask"},
    {"text", OPTION_TEXT, offsetof(struct values, text), "TEXT", 0, NULL, "a text"},
    {"choice", OPTION_CHOICE, offsetof(struct values, choice), "none|ttl|ttlx", 0, "ttl",
     "a choice"},
};

#define UNSET                                                                                      \
	((struct values){                                                                          \
	    .off = true, .seconds = 7, .size = 7, .number = 7, .octal = 7, .choice = 7})

/* ---- one value ---- */

static const struct option_spec *spec(const char *name)
{
	for (size_t i = 0; i < COUNT(table); i++)
		if (strcmp(table[i].name, name) == 0)
			return &table[i];
	fail_msg("no option %s", name);
	return NULL;
}

static int set(const char *name, const char *value, struct values *v, char *err)
{
	err[0] = '\0';
	return option_set(spec(name), value, v, err, 256);
}

/* Refused, with one line that names the option, and nothing changed. */
static void refused(const char *name, const char *value)
{
	struct values v = UNSET, before = UNSET;
	char err[256];

	if (set(name, value, &v, err) != -EINVAL)
		fail_msg("%s=%s was accepted", name, value);
	assert_non_null(strstr(err, name));
	assert_null(strchr(err, '\n'));
	if (value != NULL && *value != '\0')
		assert_non_null(strstr(err, value));
	assert_true(v.on == before.on && v.off == before.off && v.seconds == before.seconds &&
		    v.size == before.size && v.number == before.number && v.octal == before.octal &&
		    v.text == before.text && v.choice == before.choice);
}

#define ACCEPTED(name, value, member, want)                                                        \
	do {                                                                                       \
		struct values v_ = UNSET;                                                          \
		char err_[256];                                                                    \
		assert_int_equal(set(name, value, &v_, err_), 0);                                  \
		assert_true(v_.member == (want));                                                  \
	} while (0)

static void test_flags(void **state)
{
	(void)state;
	ACCEPTED("on", NULL, on, true);
	ACCEPTED("off", NULL, off, false);
	refused("on", "1");
	refused("off", "yes");
	refused("on", "");
}

static void test_seconds(void **state)
{
	(void)state;
	ACCEPTED("seconds", "0", seconds, 0);
	ACCEPTED("seconds", "1", seconds, 1000000000u);
	ACCEPTED("seconds", "0.5", seconds, 500000000u);
	ACCEPTED("seconds", "2.000000001", seconds, 2000000001u);
	ACCEPTED("seconds", "0.0000000019", seconds, 1u); /* finer than a nanosecond is cut */
	ACCEPTED("seconds", "18446744073.709551615", seconds, UINT64_MAX);
	refused("seconds", "18446744073.709551616");
	refused("seconds", "18446744073.99");
	refused("seconds", "18446744074");
	refused("seconds", "99999999999999999999999");
	refused("seconds", "-1");
	refused("seconds", "+1");
	refused("seconds", " 1");
	refused("seconds", "1s");
	refused("seconds", "1.2.3");
	refused("seconds", "1e3");
	refused("seconds", ".5");
	refused("seconds", "inf");
	refused("seconds", NULL);
	refused("seconds", "");
}

static void test_size(void **state)
{
	(void)state;
	ACCEPTED("size", "0", size, 0);
	ACCEPTED("size", "4096", size, 4096);
	ACCEPTED("size", "3k", size, 3u << 10);
	ACCEPTED("size", "3K", size, 3u << 10);
	ACCEPTED("size", "3m", size, 3u << 20);
	ACCEPTED("size", "3M", size, 3u << 20);
	ACCEPTED("size", "3g", size, 3ull << 30);
	ACCEPTED("size", "3G", size, 3ull << 30);
	ACCEPTED("size", "18446744073709551615", size, UINT64_MAX);
	ACCEPTED("size", "17179869183G", size, 17179869183ull << 30);
	refused("size", "17179869184G");
	refused("size", "18446744073709551616");
	refused("size", "3KB");
	refused("size", "3T");
	refused("size", "K");
	refused("size", "0x10");
	refused("size", "-1");
	refused("size", "1.5M");
	refused("size", NULL);
}

static void test_numbers(void **state)
{
	(void)state;
	ACCEPTED("number", "0", number, 0);
	ACCEPTED("number", "1000", number, 1000);
	ACCEPTED("number", "0010", number, 10);
	refused("number", "1001");
	refused("number", "18446744073709551616");
	refused("number", "0x10");
	refused("number", "-1");
	refused("number", "1K");
	refused("number", "");
	ACCEPTED("octal", "0", octal, 0);
	ACCEPTED("octal", "022", octal, 022);
	ACCEPTED("octal", "777", octal, 0777);
	refused("octal", "1000");
	refused("octal", "8");
	refused("octal", "0o22");
	refused("octal", NULL);
}

static void test_text_and_choice(void **state)
{
	struct values v = UNSET;
	char err[256];

	(void)state;
	assert_int_equal(set("text", "any = text", &v, err), 0);
	assert_string_equal(v.text, "any = text");
	refused("text", NULL);
	refused("text", "");
	ACCEPTED("choice", "none", choice, 0);
	ACCEPTED("choice", "ttl", choice, 1);
	ACCEPTED("choice", "ttlx", choice, 2);
	refused("choice", "tt");
	refused("choice", "TTL");
	refused("choice", "none|ttl");
	refused("choice", NULL);
	assert_int_equal(set("choice", "bad", &v, err), -EINVAL);
	assert_non_null(strstr(err, "none|ttl|ttlx")); /* says what would be right */
}

/* ---- the list ---- */

struct others {
	char seen[256];
	bool take;
};

static bool other(void *arg, const char *name, const char *value)
{
	struct others *o = arg;
	size_t n = strlen(o->seen);

	(void)snprintf(o->seen + n, sizeof(o->seen) - n, "[%s][%s]", name,
		       value != NULL ? value : "-");
	return o->take;
}

static int parse(const char *list, struct values *v, struct others *o, char *err)
{
	static char copy[512]; /* the values point into it */

	(void)snprintf(copy, sizeof(copy), "%s", list);
	err[0] = '\0';
	return options_parse(table, COUNT(table), copy, v, o != NULL ? other : NULL, o, err, 256);
}

static void test_list(void **state)
{
	struct values v = UNSET;
	char err[256];

	(void)state;
	assert_int_equal(
	    parse("on,off,seconds=2,size=1M,number=3,octal=77,text=a b,choice=ttl", &v, NULL, err),
	    0);
	assert_true(v.on && !v.off);
	assert_int_equal(v.seconds, 2000000000);
	assert_int_equal(v.size, 1 << 20);
	assert_int_equal(v.number, 3);
	assert_int_equal(v.octal, 077);
	assert_string_equal(v.text, "a b");
	assert_int_equal(v.choice, 1);

	v = UNSET;
	assert_int_equal(parse("", &v, NULL, err), 0);
	assert_int_equal(parse(",,number=1,,number=2,", &v, NULL, err), 0);
	assert_int_equal(v.number, 2); /* the last one counts */
	assert_false(v.on);
}

static void test_escapes(void **state)
{
	struct values v = UNSET;
	char err[256];

	(void)state;
	assert_int_equal(parse("text=a\\,b,number=5", &v, NULL, err), 0);
	assert_string_equal(v.text, "a,b");
	assert_int_equal(v.number, 5);
	assert_int_equal(parse("text=a\\\\,number=6", &v, NULL, err), 0);
	assert_string_equal(v.text, "a\\");
	assert_int_equal(v.number, 6);
	assert_int_equal(parse("text=\\x\\,\\\\\\,=y", &v, NULL, err), 0);
	assert_string_equal(v.text, "\\x,\\,=y");
	assert_int_equal(parse("text=end\\", &v, NULL, err), 0);
	assert_string_equal(v.text, "end\\");
}

static void test_unknown(void **state)
{
	struct values v = UNSET;
	struct others o = {.take = true};
	char err[256];

	(void)state;
	assert_int_equal(parse("on,bogus=1,number=4", &v, NULL, err), -EINVAL);
	assert_non_null(strstr(err, "bogus"));
	assert_null(strchr(err, '\n'));
	assert_int_equal(parse("Number=4", &v, NULL, err), -EINVAL);
	assert_int_equal(parse("num=4", &v, NULL, err), -EINVAL);

	assert_int_equal(parse("noauto,x-systemd.automount=a\\,b,number=4", &v, &o, err), 0);
	assert_string_equal(o.seen, "[noauto][-][x-systemd.automount][a,b]");
	assert_int_equal(v.number, 4);
	o = (struct others){.take = false};
	assert_int_equal(parse("noauto", &v, &o, err), -EINVAL);
	assert_non_null(strstr(err, "noauto"));
	assert_int_equal(parse("number=4,number=x", &v, &o, err), -EINVAL);
	assert_non_null(strstr(err, "'x'"));
}

/* ---- texts ---- */

static char *written(void (*write)(const struct option_spec *, size_t, FILE *))
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	write(table, COUNT(table), f);
	assert_int_equal(fclose(f), 0);
	return text;
}

static void test_help(void **state)
{
	char *text = written(options_help);
	size_t lines = 0;

	(void)state;
	for (const char *p = text; *p != '\0'; p++)
		lines += *p == '\n';
	assert_int_equal(lines, COUNT(table));
	assert_non_null(strstr(text, "    on                           turns on\n"));
	assert_non_null(strstr(text, "    seconds=S                    a time (1)\n"));
	assert_non_null(strstr(text, "    choice=none|ttl|ttlx         a choice (ttl)\n"));
	free(text);
}

static void test_man(void **state)
{
	char *text = written(options_man);

	(void)state;
	assert_non_null(strstr(text, ".It Cm on\nturns on.\n"));
	assert_non_null(strstr(text, ".It Cm size Ns = Ns Ar BYTES\na size.\nDefault: 1M.\n"));
	for (size_t i = 0; i < COUNT(table); i++)
		assert_non_null(strstr(text, table[i].text));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_flags),
	    cmocka_unit_test(test_seconds),
	    cmocka_unit_test(test_size),
	    cmocka_unit_test(test_numbers),
	    cmocka_unit_test(test_text_and_choice),
	    cmocka_unit_test(test_list),
	    cmocka_unit_test(test_escapes),
	    cmocka_unit_test(test_unknown),
	    cmocka_unit_test(test_help),
	    cmocka_unit_test(test_man),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
