/* The table of mounts: fields, escapes, lines that are not as they should be. */
#include "temp_path.h"
#include "unit.h"

#include "core/cleanup.h"
#include "core/mountinfo.h"

static void put(const char *text)
{
	FILE *f = fopen(temp_path, "we");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void expect(struct mountinfo *m, const char *device, const char *path, const char *type)
{
	assert_int_equal(mountinfo_next(m), 1);
	assert_string_equal(m->device, device);
	assert_string_equal(m->path, path);
	assert_string_equal(m->type, type);
}

static void test_fields(void **state)
{
	static const char text[] =
		"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n"
		"37 35 0:41 / /none rw - fuse.vsockfs dir:/a rw\n"
		"38 35 0:42 / /two rw,relatime shared:2 propagate_from:3 - fuse.vsockfs x rw\n"
		"39 35 0:43 / /empty rw - tmpfs  rw\n"
		"40 35 4095:1048575 /sub:dir /a:b-c,d rw - nfs4 host:/x:y rw\n"
		"41 35 0:44 mnt:[4026532281] /run/netns/x rw unbindable - nsfs nsfs rw\n"
		"42 35 0:45 / / rw - overlay overlay rw,lowerdir=/a:/b - c";
	struct mountinfo m CLEANUP(mountinfo_close);

	(void)state;
	put(text);
	m = mountinfo_open(temp_path);
	expect(&m, "98:0", "/mnt2", "ext3");
	assert_string_equal(m.options, "rw,noatime");
	assert_string_equal(m.fs_options, "rw,errors=continue");
	assert_memory_equal(m.line, text, strlen(m.line));
	assert_int_equal(m.line[strlen(m.line) - 1], '\n');
	expect(&m, "0:41", "/none", "fuse.vsockfs");
	expect(&m, "0:42", "/two", "fuse.vsockfs");
	expect(&m, "0:43", "/empty", "tmpfs");
	assert_string_equal(m.fs_options, "rw");
	expect(&m, "4095:1048575", "/a:b-c,d", "nfs4");
	expect(&m, "0:44", "/run/netns/x", "nsfs");
	expect(&m, "0:45", "/", "overlay");
	assert_int_equal(mountinfo_next(&m), 0);
	assert_int_equal(mountinfo_next(&m), 0);
}

static void test_escapes(void **state)
{
	static const struct {
		const char *escaped, *path;
	} paths[] = {
		{"/a\\040b", "/a b"},
		{"/\\011\\012\\134\\043", "/\t\n\\#"},
		{"/\\134040", "/\\040"}, /* undone once */
		{"/\\303\\251\\377", "/\303\251\377"},
		{"/caf\303\251", "/caf\303\251"},
		{"/\\101\\0401", "/A 1"},
		/* no escapes */
		{"/x\\", "/x\\"},
		{"/x\\0", "/x\\0"},
		{"/x\\04", "/x\\04"},
		{"/\\400\\777", "/\\400\\777"},
		{"/\\08a\\-12\\+12", "/\\08a\\-12\\+12"},
		{"/\\x41\\n", "/\\x41\\n"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(paths); i++) {
		struct mountinfo m CLEANUP(mountinfo_close);
		char line[128];

		(void)snprintf(line, sizeof(line), "36 35 98:0 /\\040 %s rw - ext4 a\\040b rw\n",
			       paths[i].escaped);
		put(line);
		m = mountinfo_open(temp_path);
		expect(&m, "98:0", paths[i].path, "ext4");
		assert_string_equal(m.line, line);
		assert_int_equal(mountinfo_next(&m), 0);
	}
}

/* Passed over: what lacks a field. */
static void test_short(void **state)
{
	static const char *const lines[] = {
		"",
		" ",
		"36",
		"36 35 98:0",
		"36 35 98:0 / /short",
		"36 35 98:0 / /short rw",
		"36 35 98:0 / /short rw shared:1 master:2",
		"36 35 98:0 / /short rw shared:1 -",
		"36 35 98:0 / /short - ext4", /* the sixth field is that of the options */
		"- - - - - -",
	};

	(void)state;
	for (size_t i = 0; i < COUNT(lines); i++) {
		struct mountinfo m CLEANUP(mountinfo_close);
		char text[256];

		(void)snprintf(text, sizeof(text), "%s\n1 2 3:4 / /sound rw - ext4\n%s", lines[i],
			       lines[i]);
		put(text);
		m = mountinfo_open(temp_path);
		expect(&m, "3:4", "/sound", "ext4");
		assert_int_equal(mountinfo_next(&m), 0);
	}
}

/* A path that is as long as paths get, all of it escaped; and options that are longer still. */
static void test_long(void **state)
{
	enum { PATH = 4095, OPTIONS = 100000 };
	struct mountinfo m CLEANUP(mountinfo_close);
	CLEANUP_FREE char *path = malloc(PATH + 1), *text = malloc(4 * PATH + OPTIONS + 100);
	char *to = text;

	(void)state;
	assert_non_null(path);
	assert_non_null(text);
	to += sprintf(to, "1 2 3:4 / ");
	for (int i = 0; i < PATH; i++)
		to += sprintf(to, "\\040");
	to += sprintf(to, " rw shared:1 - overlay o rw,lowerdir=");
	memset(to, 'x', OPTIONS);
	(void)sprintf(to + OPTIONS, "\n5 6 7:8 / /next rw - ext4 d rw\n");
	memset(path, ' ', PATH);
	path[PATH] = '\0';
	put(text);
	m = mountinfo_open(temp_path);
	expect(&m, "3:4", path, "overlay");
	expect(&m, "7:8", "/next", "ext4");
	assert_int_equal(mountinfo_next(&m), 0);
}

static void test_missing(void **state)
{
	struct mountinfo m CLEANUP(mountinfo_close) = mountinfo_open("/nowhere/mountinfo");

	(void)state;
	assert_int_equal(mountinfo_next(&m), -ENOENT);
	assert_int_equal(mountinfo_next(&m), -ENOENT);
}

static void test_unreadable(void **state)
{
	struct mountinfo m CLEANUP(mountinfo_close) = mountinfo_open(temp_dir);

	(void)state;
	assert_int_equal(mountinfo_next(&m), -EISDIR);
}

/* The kernel's own has at least the root and /proc. */
static void test_own(void **state)
{
	struct mountinfo m CLEANUP(mountinfo_close) = mountinfo_open(MOUNTINFO_SELF);
	bool root = false, proc = false;
	int r;

	(void)state;
	while ((r = mountinfo_next(&m)) > 0) {
		root = root || strcmp(m.path, "/") == 0;
		proc = proc || (strcmp(m.path, "/proc") == 0 && strcmp(m.type, "proc") == 0);
	}
	assert_int_equal(r, 0);
	assert_true(root);
	assert_true(proc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fields),	cmocka_unit_test(test_escapes),
		cmocka_unit_test(test_short),	cmocka_unit_test(test_long),
		cmocka_unit_test(test_missing), cmocka_unit_test(test_unreadable),
		cmocka_unit_test(test_own),
	};

	return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
