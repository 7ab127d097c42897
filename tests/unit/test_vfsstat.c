/* The parts of vfsstat: figures in few columns, percentiles, segments that lie, and how wide a
 * report is. */
#include "temp_path.h"
#include "unit.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/stats.h"
#include "figure.h"
#include "find.h"
#include "verbs.h"
#include "views.h"

/* ---- figures ---- */

static void test_figures(void **state)
{
	static const struct {
		double n;
		const char *count, *bytes;
	} numbers[] = {
		{0, "0", "0B"},		 {1, "1", "1B"},	{1.5, "1.5", "1.5B"},
		{999, "999", "999B"},	 {1000, "1k", "1000B"}, {1234, "1.2k", "1.2K"},
		{99949, "100k", "98K"},	 {1e6, "1M", "977K"},	{1048576, "1.0M", "1M"},
		{2.5e9, "2.5G", "2.3G"},
	};
	static const struct {
		uint64_t ns;
		const char *text;
	} times[] = {
		{0, "0ns"},
		{999, "999ns"},
		{1500, "1.5us"},
		{12345, "12us"},
		{999999, "1.0ms"},
		{1234567, "1.2ms"},
		{3400000000, "3.4s"},
		{3599000000000, "1.0h"},
		{3000000000000, "3000s"},
		{172800000000000, "2d"},
	};
	char buf[FIGURE_MAX];

	(void)state;
	for (size_t i = 0; i < COUNT(numbers); i++) {
		assert_string_equal(figure_count(numbers[i].n, buf), numbers[i].count);
		assert_string_equal(figure_bytes(numbers[i].n, buf), numbers[i].bytes);
	}
	for (size_t i = 0; i < COUNT(times); i++)
		assert_string_equal(figure_time(times[i].ns, buf), times[i].text);
	assert_string_equal(figure_share(0, 0, buf), "-");
	assert_string_equal(figure_share(1, 3, buf), "33%");
	assert_string_equal(figure_share(5, 3, buf), "100%");
	/* whatever the value, five columns */
	for (double n = 0.1; n < 1e15; n *= 1.07) {
		assert_true(strlen(figure_count(n, buf)) <= 5);
		assert_true(strlen(figure_bytes(n, buf)) <= 5);
		assert_true(strlen(figure_time((uint64_t)n, buf)) <= 5);
	}
}

static void test_percentiles(void **state)
{
	struct stats_hist a = {0}, b = {0};

	(void)state;
	struct hist none = hist_since(NULL, &a);
	assert_int_equal(hist_percentile(&none, 50), 0);
	assert_int_equal(hist_mean(&none), 0);
	a.bucket[10] = 99; /* 1024 to 2047 */
	a.bucket[20] = 1;
	a.sum = 99 * 1500 + 1500000;
	struct hist h = hist_since(NULL, &a);
	assert_int_equal(h.count, 100);
	uint64_t p50 = hist_percentile(&h, 50), p99 = hist_percentile(&h, 99);
	assert_true(p50 >= 1024 && p50 < 2048);
	assert_true(p99 >= p50 && p99 <= 2048);
	assert_true(hist_percentile(&h, 100) > 1 << 20);
	assert_int_equal(hist_mean(&h), 16485);
	/* only what came since */
	b = a;
	b.bucket[5] = 7;
	b.sum += 7 * 40;
	h = hist_since(&a, &b);
	assert_int_equal(h.count, 7);
	assert_int_equal(h.sum, 280);
	assert_true(hist_percentile(&h, 99) <= 64);
	/* seen of different moments: never below nothing */
	h = hist_since(&b, &a);
	assert_int_equal(h.count, 0);
	assert_int_equal(h.sum, 0);
}

/* ---- paths ---- */

static void test_paths(void **state)
{
	static const struct {
		const char *path, *absolute;
	} paths[] = {
		{"/", "/"},	 {"//a///b/", "/a/b"}, {"/a/./b/../c", "/a/c"},
		{"/../..", "/"}, {"/a/b/..", "/a"},    {"/a b", "/a b"},
	};
	char buf[256], longer[600];

	(void)state;
	for (size_t i = 0; i < COUNT(paths); i++) {
		assert_int_equal(path_absolute(paths[i].path, buf, sizeof(buf)), 0);
		assert_string_equal(buf, paths[i].absolute);
	}
	assert_int_equal(chdir("/usr"), 0);
	assert_int_equal(path_absolute("lib/../bin", buf, sizeof(buf)), 0);
	assert_string_equal(buf, "/usr/bin");
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(path_absolute(longer, buf, sizeof(buf)), -ENAMETOOLONG);
	assert_int_equal(control_escape("a b%c\n\xc3\xa4", buf, sizeof(buf)), 0);
	assert_string_equal(buf, "a%20b%25c%0A%C3%A4");
	assert_int_equal(control_escape(longer, buf, sizeof(buf)), -ENAMETOOLONG);
}

/* ---- segments ---- */

static struct stats *busy_stats(void)
{
	struct stats *s;

	assert_int_equal(stats_new(temp_path, &s), 0);
	stats_text(s, TEXT_mount_point,
		   "/a/rather/long/name/for/a/mountpoint/that/goes/on/and/on/and/on/"
		   "until/it/is/wider/than/a/terminal");
	stats_text(s, TEXT_mount_source, "vsock:2:5001");
	stats_text(s, TEXT_conn_state, "connected");
	for (int id = 0; id < STAT_proc_pid; id++)
		stats_set(s, (enum stat_id)id, UINT64_MAX / 3);
	for (uint64_t i = 1; i < 200; i++) {
		const struct stats_request q = {.unique = 2 * i,
						.node = UINT64_MAX,
						.opcode = (uint32_t)(i % 52),
						.pid = 1,
						.answered = true};
		const struct stats_reply reply = {.unique = 2 * i, .err = (int)(i % 134)};
		struct stats_answer a;

		stats_fuse_begin(s, &q);
		if (i % 50 != 0)
			assert_true(stats_fuse_end(s, &reply, &a));
	}
	for (int i = 0; i < 64; i++) {
		stats_time(s, HIST_rpc_rtt, UINT64_C(1) << i);
		stats_time(s, HIST_rpc_wait, UINT64_C(1) << i);
		stats_time(s, HIST_inval_lag, UINT64_C(1) << i);
	}
	return s;
}

/* The longest line of a text; checks that it is plain. */
static size_t widest(const char *text)
{
	size_t most = 0, n = 0;

	for (; *text != '\0'; text++) {
		n = *text == '\n' ? 0 : n + 1;
		most = n > most ? n : most;
		assert_true(*text == '\n' || (*text >= ' ' && *text < 0x7f));
	}
	return most;
}

static void test_widths(void **state)
{
	static const unsigned widths[] = {80, 100, 120, 200};
	struct stats *s = busy_stats();
	struct segment *g;

	(void)state;
	assert_int_equal(segment_open(temp_path, &g), 0);
	struct snapshot *now = segment_take(g);
	assert_non_null(now);
	assert_true(snapshot_is_mount(now));
	assert_int_equal(snapshot_daemon(now), DAEMON_RUNS);
	assert_true(snapshot_oldest(now).exists);
	for (size_t i = 0; i < COUNT(widths); i++) {
		char *text = NULL, *lines[3];
		size_t len = 0;
		FILE *f = open_memstream(&text, &len);

		report_header(f, widths[i]);
		report_line(f, widths[i], NULL, now);
		assert_int_equal(fflush(f), 0);
		lines[0] = strtok(text, "\n");
		lines[1] = strtok(NULL, "\n");
		lines[2] = strtok(NULL, "\n");
		for (int k = 0; k < 3; k++) {
			assert_true(strlen(lines[k]) <= widths[i]);
			assert_int_equal(strlen(lines[k]), strlen(lines[0]));
			for (size_t c = 0; lines[0][c] != '\0'; c++)
				assert_int_equal(lines[k][c] == '|', lines[0][c] == '|');
		}
		assert_int_equal(fclose(f), 0);
		free(text);
		f = open_memstream(&text, &len);
		report_title(f, widths[i], now);
		report_notes(f, widths[i], now);
		ops_table(f, NULL, now);
		assert_int_equal(fclose(f), 0);
		assert_true(widest(text) <= widths[i]);
		free(text);
	}
	snapshot_free(now);
	stats_free(s);
	int other = open(temp_path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(flock(other, LOCK_EX | LOCK_NB), 0); /* which is of no importance */
	now = segment_take(g);
	assert_int_equal(snapshot_daemon(now), DAEMON_DIED); /* nobody has it locked any more */
	assert_int_equal(close(other), 0);
	snapshot_free(now);
	segment_close(g);
}

/* Whatever a file claims, reading it stays inside it. */
static void test_hostile_segments(void **state)
{
	static unsigned char good[1 << 20], bad[sizeof(good)];
	struct stats *s = busy_stats();
	struct unit_random random = {1};
	struct segment *g;

	(void)state;
	stats_free(s);
	int fd = open(temp_path, O_RDWR);
	assert_true(fd >= 0);
	ssize_t size = read(fd, good, sizeof(good));
	assert_true(size > 0 && (size_t)size < sizeof(good));
	for (int i = 0; i < 3000; i++) {
		memcpy(bad, good, (size_t)size);
		for (size_t n = 1 + unit_below(&random, 4); n > 0; n--) {
			/* mostly the numbers at the front, of which everything hangs */
			size_t at = unit_below(&random, 2) ? 8 + unit_below(&random, 8)
							   : unit_below(&random, (size_t)size);

			bad[at] = (unsigned char)unit_below(&random, 256);
		}
		assert_int_equal(pwrite(fd, bad, (size_t)size, 0), size);
		if (segment_open(temp_path, &g) < 0)
			continue;
		struct snapshot *now = segment_take(g);
		FILE *f = fopen("/dev/null", "w");

		report_title(f, 80, now);
		report_line(f, 80, NULL, now);
		report_notes(f, 80, now);
		ops_table(f, NULL, now);
		json_write(f, now);
		assert_int_equal(fclose(f), 0);
		snapshot_free(now);
		segment_close(g);
	}
	assert_int_equal(ftruncate(fd, 100), 0);
	assert_int_equal(segment_open(temp_path, &g), -EPROTO);
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(segment_open(temp_path, &g), -EPROTO);
	assert_int_equal(close(fd), 0);
	assert_int_equal(segment_open(temp_dir, &g), -EPROTO);
	assert_int_equal(segment_open("/nonexistent", &g), -ENOENT);
	assert_true(segment_open("/dev/zero", &g) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_figures),
		cmocka_unit_test(test_percentiles),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_widths),
		cmocka_unit_test(test_hostile_segments),
	};

	return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
