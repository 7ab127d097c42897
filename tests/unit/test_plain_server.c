/*
 * The plain protocol's server side on a real directory, without a socket:
 * requests go into plain_host.handle, as bytes and back, and results are looked at
 * on the host.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "cmocka_any.h"

#include "core/log.h"
#include "host/export.h"
#include "host/server.h"
#include "host/share.h"
#include "plain/plain_codec.h"
#include "plain_host/plain_host.h"

struct fixture {
	struct share_pool files;
	char top[64]; /* holds the export and what lies outside */
	char dir[80];
	struct export *export;
	struct plain_session *session;
	struct plain_buf request;
	struct plain_reply reply; /* of the last request */
};

static void write_file(const char *dir, const char *name, const char *text)
{
	char path[256];

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	(void)fputs(text, f);
	assert_int_equal(fchmod(fileno(f), 0644), 0); /* the export has set the umask to 0 */
	assert_int_equal(fclose(f), 0);
}

static char *host_path(const struct fixture *f, const char *name)
{
	static char path[256];

	(void)snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	return path;
}

static void open_session(struct fixture *f, struct server_config config)
{
	char err[256];

	config.dir = f->dir;
	config.plain_prefix = "/workspace";

	plain_host.session_free(f->session);
	export_free(f->export);
	assert_int_equal(export_new(&config, &f->export, err, sizeof(err)), 0);
	share_pool_init(&f->files, 2 * PLAIN_FILES_MAX);
	assert_int_equal(plain_host.session_new(f->export, NULL, NULL, &f->files, &f->session), 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	(void)snprintf(f->top, sizeof(f->top), "/tmp/test_plain_server.XXXXXX");
	assert_non_null(mkdtemp(f->top));
	(void)snprintf(f->dir, sizeof(f->dir), "%s/export", f->top);
	assert_int_equal(mkdir(f->dir, 0755), 0);
	open_session(f, (struct server_config){0});
	write_file(f->top, "secret", "secret");
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char command[128];

	plain_host.session_free(f->session);
	export_free(f->export);
	plain_buf_done(&f->request);
	(void)snprintf(command, sizeof(command), "rm -rf '%s'", f->top);
	assert_int_equal(system(command), 0);
	free(f);
	return 0;
}

/* Sends q through the codec in both directions; the reply's errno. */
static int ask_q(struct fixture *f, struct plain_request q)
{
	struct plain_request decoded;
	const char *why = NULL;
	const void *reply;
	size_t len;

	assert_int_equal(plain_request_encode(&q, &f->request), 0);
	assert_int_equal(plain_request_decode(f->request.data, f->request.len, &decoded, &why), 0);
	assert_int_equal(plain_host.handle(f->session, &decoded, &reply, &len), 0);
	assert_int_equal(plain_reply_decode(reply, len, &f->reply, &why), 0);
	assert_true(f->reply.err <= 0);
	return -f->reply.err;
}

#define ASK(f, op_, ...) ask_q(f, (struct plain_request){.op = PLAIN_##op_, __VA_ARGS__})
#define PATH(p)		 .path = {"/workspace" p, sizeof("/workspace" p) - 1}
#define NEW(p)		 .new_path = {"/workspace" p, sizeof("/workspace" p) - 1}
#define DATA(d)		 .data = {d, sizeof(d) - 1}

static void assert_data(const struct fixture *f, const char *text)
{
	assert_int_equal(f->reply.data.len, strlen(text));
	assert_memory_equal(f->reply.data.data, text, strlen(text));
}

static void assert_content(const struct fixture *f, const char *name, const char *text)
{
	char buf[256] = "";
	FILE *file = fopen(host_path(f, name), "r");

	assert_non_null(file);
	(void)!fread(buf, 1, sizeof(buf) - 1, file);
	(void)fclose(file);
	assert_string_equal(buf, text);
}

/* ---- attributes ---- */

static void test_stat(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	write_file(f->dir, "a", "hello");
	assert_int_equal(chmod(host_path(f, "a"), 04640), 0);
	assert_int_equal(lstat(host_path(f, "a"), &st), 0);
	assert_int_equal(ASK(f, LOOKUP, PATH("/a")), 0);
	assert_true(f->reply.has_stat);
	assert_int_equal(f->reply.stat.size, 5);
	assert_int_equal(f->reply.stat.mode, PLAIN_MODE_SETUID | 0640);
	assert_int_equal(f->reply.stat.mtime, st.st_mtime);
	assert_int_equal(f->reply.stat.ino, st.st_ino);
	assert_false(f->reply.stat.is_dir);
	assert_int_equal(ASK(f, GETATTR, PATH("")), 0);
	assert_true(f->reply.stat.is_dir);
	assert_int_equal(f->reply.stat.mode, PLAIN_MODE_DIR | 0755);
	assert_int_equal(ASK(f, GETATTR, PATH("//./a")), 0);
	assert_int_equal(ASK(f, LOOKUP, PATH("/none")), ENOENT);
	assert_int_equal(ASK(f, LOOKUP, PATH("/a/b")), ENOTDIR);
	assert_int_equal(ASK(f, SETATTR, PATH("/a"), .mode = 0100600), 0);
	assert_int_equal(f->reply.stat.mode, 0600);
	assert_int_equal(ASK(f, SETATTR, PATH("/a"), .mode = PLAIN_MODE_SETUID | 0700), 0);
	assert_int_equal(lstat(host_path(f, "a"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 04700);
}

static void test_unknown(void **state)
{
	struct fixture *f = *state;
	const uint32_t ops[] = {21, 31, 33, 255, 256, UINT32_MAX};

	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		assert_int_equal(ask_q(f, (struct plain_request){.op = ops[i], PATH("")}), ENOSYS);
	assert_int_equal(ASK(f, LOOKUP), ENOENT);
	assert_int_equal(ASK(f, LOOKUP, .path = {"a", 1}), ENOENT);
	assert_int_equal(ASK(f, READ, .fh = 1, .sz = 1), EBADF);
	assert_int_equal(ASK(f, READ, .fh = UINT64_MAX, .sz = 1), EBADF);
}

/* ---- confinement ---- */

static void test_outside(void **state)
{
	struct fixture *f = *state;
	char link[256];

	open_session(f, (struct server_config){.plain_follow = true});
	(void)snprintf(link, sizeof(link), "%s/secret", f->top);
	assert_int_equal(symlink(link, host_path(f, "absolute")), 0);
	assert_int_equal(symlink("../secret", host_path(f, "relative")), 0);
	assert_int_equal(symlink("..", host_path(f, "up")), 0);
	assert_int_equal(symlink("/workspace/in", host_path(f, "prefixed")), 0);
	assert_int_equal(symlink("loop", host_path(f, "loop")), 0);
	write_file(f->dir, "in", "in");

	const struct {
		struct slice path;
	} cases[] = {{{"/", 1}},
		     {{"/etc/passwd", 11}},
		     {{"/workspaces", 11}},
		     {{"/workspace/absolute", 19}}};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (uint32_t op = PLAIN_LOOKUP; op < PLAIN_OPS; op++) {
			if (op == PLAIN_READ || op == PLAIN_WRITE || op == PLAIN_RELEASE ||
			    op == PLAIN_FSYNC)
				continue;
			/* these are about the link itself, which lies inside */
			bool on_link = op == PLAIN_UNLINK || op == PLAIN_RMDIR ||
				       op == PLAIN_RENAME || op == PLAIN_READLINK ||
				       op == PLAIN_LINK || op == PLAIN_FSYNC_PATH ||
				       op == PLAIN_TIMES;
			if (on_link && i == 3)
				continue;
			open_session(f, (struct server_config){.plain_follow = true});
			int e = ask_q(f, (struct plain_request){.op = op,
								.path = cases[i].path,
								NEW("/new"),
								DATA("target"),
								.flags = op == PLAIN_OPEN ? O_CREAT : 0,
								.mode = 0700});
			if (e != ENOENT && e != EACCES && e != EEXIST && e != EBUSY)
				fail_msg("op %u on %.*s: %d", op, (int)cases[i].path.len,
					 (const char *)cases[i].path.data, e);
		}
	}
	open_session(f, (struct server_config){.plain_follow = true});
	(void)snprintf(link, sizeof(link), "%s/secret", f->top);
	struct stat st;
	assert_int_equal(stat(link, &st), 0);
	assert_int_equal(st.st_size, 6);

	/* ".." ends at the root, wherever it comes from */
	assert_int_not_equal(ASK(f, LOOKUP, PATH("/../secret")), 0);
	assert_int_not_equal(ASK(f, LOOKUP, PATH("/relative")), 0);
	assert_int_not_equal(ASK(f, LOOKUP, PATH("/up/secret")), 0);
	assert_int_not_equal(ASK(f, OPEN, PATH("/relative"), .flags = O_RDWR | O_TRUNC), 0);
	assert_int_equal(ASK(f, LOOKUP, PATH("/prefixed")), 0);
	assert_int_equal(f->reply.stat.size, 2);
	assert_int_equal(ASK(f, LOOKUP, PATH("/loop")), ELOOP);
	assert_int_equal(ASK(f, LOOKUP, .path = {"/workspace/in\0x", 15}), EINVAL);
	assert_int_equal(ASK(f, RENAME, PATH("/in"), .new_path = {"/etc/x", 6}), EACCES);
	assert_int_equal(ASK(f, LINK, PATH("/in"), .new_path = {"/etc/x", 6}), EACCES);
}

static void test_special_files(void **state)
{
	struct fixture *f = *state;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	assert_int_equal(mkfifo(host_path(f, "fifo"), 0644), 0);
	int s = socket(AF_UNIX, SOCK_STREAM, 0);
	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%.100s", host_path(f, "sock"));
	assert_int_equal(bind(s, (struct sockaddr *)&addr, sizeof(addr)), 0);
	(void)close(s);
	assert_int_equal(ASK(f, LOOKUP, PATH("/fifo")), 0);
	assert_int_equal(f->reply.stat.mode, PLAIN_MODE_FIFO | 0644);
	for (uint32_t flags = O_RDONLY; flags <= O_RDWR; flags++)
		assert_int_equal(ASK(f, OPEN, PATH("/fifo"), .flags = flags), ENXIO);
	assert_int_equal(ASK(f, CREATE, PATH("/fifo"), .mode = 0644), ENXIO);
	assert_int_equal(ASK(f, TRUNCATE, PATH("/fifo")), ENXIO);
	assert_int_equal(ASK(f, OPEN, PATH("/sock"), .flags = O_RDWR), ENXIO);
	assert_int_equal(ASK(f, UNLINK, PATH("/fifo")), 0);
}

/* ---- files ---- */

static void test_files(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ASK(f, CREATE, PATH("/a"), .mode = 0640), 0);
	assert_true(f->reply.has_stat && f->reply.fh != 0);
	assert_int_equal(f->reply.stat.mode, 0640);
	uint64_t fh = f->reply.fh;
	assert_int_equal(ASK(f, WRITE, .fh = fh, .off = 2, DATA("world")), 0);
	assert_int_equal(f->reply.written, 5);
	assert_int_equal(ASK(f, READ, .fh = fh, .sz = 100), 0);
	assert_int_equal(f->reply.data.len, 7);
	assert_int_equal(ASK(f, READ, .fh = fh, .off = 4, .sz = 2), 0);
	assert_data(f, "rl");
	assert_int_equal(ASK(f, READ, .fh = fh, .off = 7, .sz = 2), 0);
	assert_data(f, "");
	assert_int_equal(ASK(f, READ, .fh = fh, .off = -1, .sz = 2), EINVAL);
	assert_int_equal(ASK(f, WRITE, .fh = fh, .off = -1, DATA("x")), EINVAL);
	assert_int_equal(ASK(f, WRITE, .fh = fh, .off = INT64_MAX, DATA("x")), EINVAL);
	assert_int_equal(ASK(f, READ, .fh = fh, .off = INT64_MAX, .sz = UINT32_MAX), EINVAL);
	assert_int_equal(ASK(f, GETATTR, .fh = fh), 0);
	assert_int_equal(f->reply.stat.size, 7);
	assert_int_equal(ASK(f, FSYNC, .fh = fh), 0);
	assert_int_equal(ASK(f, UNLINK, PATH("/a")), 0);
	assert_int_equal(ASK(f, READ, .fh = fh, .off = 2, .sz = 5), 0); /* still open */
	assert_data(f, "world");
	assert_int_equal(ASK(f, RELEASE, .fh = fh), 0);
	assert_int_equal(ASK(f, RELEASE, .fh = fh), EBADF);
	assert_int_equal(ASK(f, READ, .fh = fh, .sz = 1), EBADF);

	write_file(f->dir, "b", "0123456789");
	assert_int_equal(ASK(f, OPEN, PATH("/b")), 0);
	assert_true(f->reply.fh != fh); /* the slot is the same, the handle is not */
	assert_int_equal(ASK(f, WRITE, .fh = f->reply.fh, DATA("x")), EBADF);
	assert_int_equal(ASK(f, OPEN, PATH("/b"), .flags = O_WRONLY | O_APPEND), 0);
	assert_int_equal(ASK(f, WRITE, .fh = f->reply.fh, .off = 3, DATA("!")), 0);
	assert_content(f, "b", "0123456789!");
	assert_int_equal(ASK(f, OPEN, PATH("/b"), .flags = O_WRONLY | O_TRUNC), 0);
	assert_content(f, "b", "");
	assert_int_equal(ASK(f, OPEN, PATH("/none")), ENOENT);
	assert_int_equal(ASK(f, OPEN, PATH("/c"), .flags = O_RDWR | O_CREAT, .mode = 0600), 0);
	assert_int_equal(ASK(f, OPEN, PATH("/c"), .flags = O_RDWR | O_CREAT | O_EXCL), EEXIST);
}

static void test_create_exists(void **state)
{
	struct fixture *f = *state;

	write_file(f->dir, "a", "old");
	assert_int_equal(ASK(f, CREATE, PATH("/a"), .mode = 0600, .flags = O_EXCL), EEXIST);
	assert_content(f, "a", "old");
	assert_int_equal(ASK(f, CREATE, PATH("/a"), .mode = 0600), 0);
	assert_int_equal(f->reply.stat.mode, 0644);
	assert_int_equal(f->reply.stat.size, 0);
	assert_content(f, "a", "");
	open_session(f, (struct server_config){.plain_follow = true});
	assert_int_equal(symlink("target", host_path(f, "link")), 0);
	assert_int_equal(ASK(f, CREATE, PATH("/link"), .mode = 0600), 0);
	assert_int_equal(ASK(f, WRITE, .fh = f->reply.fh, DATA("via")), 0);
	assert_content(f, "target", "via");
	assert_int_equal(ASK(f, CREATE, PATH(""), .mode = 0600), EISDIR);
	assert_int_equal(ASK(f, OPEN, PATH("")), 0); /* for fsync */
	assert_int_equal(ASK(f, FSYNC, .fh = f->reply.fh), 0);
	assert_int_equal(ASK(f, OPEN, PATH(""), .flags = O_RDWR), EISDIR);
}

/* Newer clients send open's flags with create. */
static void test_create_flags(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	assert_int_equal(
	    ASK(f, CREATE, PATH("/a"), .flags = O_WRONLY | O_CREAT | O_APPEND, .mode = 0644), 0);
	uint64_t fh = f->reply.fh;
	assert_int_equal(ASK(f, WRITE, .fh = fh, DATA("1")), 0);
	FILE *host = fopen(host_path(f, "a"), "a");
	assert_non_null(host);
	assert_true(fputs("HOST", host) >= 0);
	assert_int_equal(fclose(host), 0);
	assert_int_equal(ASK(f, WRITE, .fh = fh, .off = 1, DATA("2")), 0);
	assert_content(f, "a", "1HOST2");
	assert_int_equal(ASK(f, READ, .fh = fh, .sz = 1), EBADF); /* it is open for writing */

	const uint32_t make = O_RDWR | O_CREAT;
	assert_int_equal(ASK(f, CREATE, PATH("/a"), .flags = make | O_EXCL, .mode = 0644), EEXIST);
	assert_int_equal(ASK(f, CREATE, PATH("/a"), .flags = make, .mode = 0600), 0);
	assert_int_equal(f->reply.stat.size, 6);
	assert_content(f, "a", "1HOST2");
	assert_int_equal(ASK(f, CREATE, PATH("/a"), .flags = make | O_TRUNC, .mode = 0600), 0);
	assert_content(f, "a", "");
	assert_int_equal(ASK(f, CREATE, PATH("/b"), .flags = make | O_EXCL, .mode = 0600), 0);
	assert_int_equal(stat(host_path(f, "b"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

static void test_large(void **state)
{
	struct fixture *f = *state;
	size_t len = (size_t)17 << 20;
	char *data = malloc(len);

	assert_non_null(data);
	for (size_t i = 0; i < len; i++)
		data[i] = (char)(i * 7 + (i >> 12));
	assert_int_equal(ASK(f, CREATE, PATH("/big"), .mode = 0600), 0);
	uint64_t fh = f->reply.fh;
	assert_int_equal(ASK(f, WRITE, .fh = fh, .data = {data, len}), 0);
	assert_int_equal(f->reply.written, len);
	assert_int_equal(ASK(f, READ, .fh = fh, .sz = UINT32_MAX), 0);
	assert_int_equal(f->reply.data.len, PLAIN_READ_MAX);
	assert_memory_equal(f->reply.data.data, data, PLAIN_READ_MAX);
	assert_int_equal(ASK(f, READ, .fh = fh, .off = 1 << 20, .sz = UINT32_MAX), 0);
	assert_int_equal(f->reply.data.len, PLAIN_READ_MAX);
	free(data);
}

static void test_truncate(void **state)
{
	struct fixture *f = *state;

	write_file(f->dir, "a", "0123456789");
	assert_int_equal(ASK(f, TRUNCATE, PATH("/a"), .off = 5), 0);
	assert_content(f, "a", "01234");
	assert_int_equal(ASK(f, TRUNCATE, PATH("/a"), .sz = 3), 0);
	assert_content(f, "a", "012");
	assert_int_equal(ASK(f, TRUNCATE, PATH("/a"), .off = 2, .sz = 2), 0);
	assert_int_equal(f->reply.stat.size, 2);
	assert_int_equal(ASK(f, TRUNCATE, PATH("/a")), 0);
	assert_content(f, "a", "");
	assert_int_equal(ASK(f, TRUNCATE, PATH("/a"), .off = -1), EINVAL);
	assert_int_equal(ASK(f, TRUNCATE, PATH("")), EISDIR);

	/* by an open file, whatever became of its name */
	assert_int_equal(ASK(f, OPEN, PATH("/a"), .flags = O_RDWR), 0);
	uint64_t fh = f->reply.fh;
	assert_int_equal(ASK(f, RENAME, PATH("/a"), NEW("/b")), 0);
	write_file(f->dir, "a", "another");
	assert_int_equal(ASK(f, TRUNCATE, PATH("/a"), .fh = fh, .off = 4), 0);
	assert_int_equal(f->reply.stat.size, 4);
	assert_content(f, "a", "another");
	assert_int_equal(ASK(f, TRUNCATE, .fh = fh), 0);
	assert_content(f, "b", "");
	assert_int_equal(ASK(f, TRUNCATE, .fh = fh + 1), EBADF);
	assert_int_equal(ASK(f, TRUNCATE, PATH("/a"), .fh = fh + 1, .off = 1), 0);
	assert_content(f, "a", "a");
}

static void test_times(void **state)
{
	struct fixture *f = *state;
	const int64_t second = 1000000000;
	struct stat st;

	write_file(f->dir, "a", "x");
	assert_int_equal(ASK(f, TIMES, PATH("/a"), .has_atime = true, .atime_ns = 5 * second + 6,
			     .has_mtime = true, .mtime_ns = 7 * second + 8),
			 0);
	assert_int_equal(f->reply.stat.mtime, 7);
	assert_int_equal(lstat(host_path(f, "a"), &st), 0);
	assert_true(st.st_atim.tv_sec == 5 && st.st_atim.tv_nsec == 6);
	assert_true(st.st_mtim.tv_sec == 7 && st.st_mtim.tv_nsec == 8);
	assert_int_equal(ASK(f, TIMES, PATH("/a"), .has_mtime = true, .mtime_ns = -1), 0);
	assert_int_equal(lstat(host_path(f, "a"), &st), 0);
	assert_true(st.st_mtim.tv_sec == -1 && st.st_mtim.tv_nsec == second - 1);
	assert_true(st.st_atim.tv_sec == 5); /* what is not named stays */
	assert_int_equal(ASK(f, TIMES, PATH("/a")), 0); /* as Go writes 0 and 0 */
	assert_int_equal(lstat(host_path(f, "a"), &st), 0);
	assert_true(st.st_mtim.tv_sec == 0 && st.st_atim.tv_sec == 0);
	assert_int_equal(ASK(f, OPEN, PATH("/a")), 0);
	assert_int_equal(ASK(f, TIMES, .fh = f->reply.fh, .has_mtime = true, .mtime_ns = second), 0);
	assert_int_equal(f->reply.stat.mtime, 1);
	/* of a link, not of what it points to */
	assert_int_equal(symlink("a", host_path(f, "l")), 0);
	assert_int_equal(ASK(f, TIMES, PATH("/l"), .has_mtime = true, .mtime_ns = 9 * second), 0);
	assert_int_equal(lstat(host_path(f, "l"), &st), 0);
	assert_int_equal(st.st_mtim.tv_sec, 9);
	assert_int_equal(ASK(f, TIMES, PATH("/none")), ENOENT);
	assert_int_equal(ASK(f, TIMES, .fh = 12345), EBADF);
}

static void test_fsync_path(void **state)
{
	struct fixture *f = *state;

	write_file(f->dir, "a", "x");
	assert_int_equal(mkfifo(host_path(f, "fifo"), 0644), 0);
	assert_int_equal(ASK(f, FSYNC_PATH, PATH("/a")), 0);
	assert_int_equal(ASK(f, FSYNC_PATH, PATH("")), 0);
	assert_int_equal(ASK(f, FSYNC_PATH, PATH("/none")), ENOENT);
	assert_int_equal(ASK(f, FSYNC_PATH, PATH("/fifo")), EINVAL);
	assert_int_equal(ASK(f, FSYNC), EBADF);
}

static void test_handles_bounded(void **state)
{
	struct fixture *f = *state;
	int fds = 0;

	write_file(f->dir, "a", "x");
	for (;; fds++) {
		int e = ASK(f, OPEN, PATH("/a"));
		if (e != 0) {
			assert_int_equal(e, EMFILE);
			break;
		}
	}
	assert_true(fds > 100 && fds <= PLAIN_FILES_MAX);
	uint64_t last = 1 | (UINT64_C(0) << 16);
	assert_int_equal(ASK(f, RELEASE, .fh = last), 0);
	assert_int_equal(ASK(f, OPEN, PATH("/a")), 0);
}

/* ---- names ---- */

static void test_names(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	assert_int_equal(ASK(f, MKDIR, PATH("/d"), .mode = 0750), 0);
	assert_true(f->reply.has_stat && f->reply.stat.is_dir);
	assert_int_equal(f->reply.stat.mode, PLAIN_MODE_DIR | 0750);
	assert_int_equal(ASK(f, MKDIR, PATH("/d"), .mode = 0750), EEXIST);
	assert_int_equal(ASK(f, MKDIR, PATH(""), .mode = 0750), EEXIST);
	write_file(f->dir, "d/x", "x");
	assert_int_equal(ASK(f, UNLINK, PATH("/d")), ENOTEMPTY);
	assert_int_equal(ASK(f, RENAME, PATH("/d/x"), NEW("/y")), 0);
	assert_content(f, "y", "x");
	assert_int_equal(ASK(f, UNLINK, PATH("/d")), 0); /* either operation, either type */
	assert_int_equal(ASK(f, RMDIR, PATH("/y")), 0);
	assert_int_equal(lstat(host_path(f, "y"), &st), -1);
	assert_int_equal(ASK(f, RMDIR, PATH("/y")), ENOENT);
	assert_int_equal(ASK(f, RMDIR, PATH("")), EBUSY);
	assert_int_equal(ASK(f, RENAME, PATH(""), NEW("/z")), EBUSY);
	assert_int_equal(ASK(f, RENAME, PATH("/none"), NEW("/z")), ENOENT);

	write_file(f->dir, "f", "f");
	assert_int_equal(ASK(f, RENAME, PATH("/f"), NEW("")), EBUSY);
	assert_int_equal(ASK(f, MKDIRALL, PATH("/p/q/r"), .mode = 0700), 0);
	assert_false(f->reply.has_stat);
	assert_int_equal(lstat(host_path(f, "p/q/r"), &st), 0);
	assert_int_equal(ASK(f, MKDIRALL, PATH("/p/q/r"), .mode = 0700), 0);
	assert_int_equal(ASK(f, MKDIRALL, PATH("/f/q"), .mode = 0700), ENOTDIR);
	assert_int_equal(ASK(f, MKDIRALL, PATH(""), .mode = 0700), 0);
	assert_int_equal(ASK(f, MKDIRALL, .path = {"/etc/x", 6}, .mode = 0700), EACCES);
}

static void test_links(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	write_file(f->dir, "f", "file");
	assert_int_equal(ASK(f, SYMLINK, PATH("/s"), DATA("f")), 0);
	assert_true(f->reply.stat.mode & PLAIN_MODE_LINK);
	assert_int_equal(ASK(f, READLINK, PATH("/s")), 0);
	assert_data(f, "f");
	/* the other way to say it, as os.Symlink(target, link) */
	assert_int_equal(ASK(f, SYMLINK, .path = {"../out", 6}, NEW("/t")), 0);
	assert_int_equal(ASK(f, READLINK, PATH("/t")), 0);
	assert_data(f, "../out");
	assert_int_equal(ASK(f, SYMLINK, PATH("/s"), DATA("f")), EEXIST);
	assert_int_equal(ASK(f, READLINK, PATH("/f")), EINVAL);
	assert_int_equal(ASK(f, LOOKUP, PATH("/s")), 0);
	assert_int_equal(f->reply.stat.size, 1);
	assert_true(f->reply.stat.mode & PLAIN_MODE_LINK);
	assert_int_equal(ASK(f, LINK, PATH("/f"), NEW("/h")), 0);
	assert_int_equal(lstat(host_path(f, "h"), &st), 0);
	assert_int_equal(st.st_nlink, 2);
	assert_int_equal(ASK(f, LINK, PATH("/f"), NEW("/h")), EEXIST);
	assert_int_equal(ASK(f, LINK, PATH("/s"), NEW("/s2")), 0); /* the link itself */
	assert_int_equal(lstat(host_path(f, "s2"), &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(ASK(f, LINK, PATH(""), NEW("/d2")), EPERM);
	assert_int_equal(ASK(f, RENAME, PATH("/s"), NEW("/s3")), 0);
	assert_int_equal(lstat(host_path(f, "s3"), &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(ASK(f, UNLINK, PATH("/s3")), 0);
	assert_content(f, "f", "file");
}

/* A client that resolves links itself: nothing of its is done through one. */
static void test_links_shown(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	assert_int_equal(mkdir(host_path(f, "precious"), 0755), 0);
	write_file(f->dir, "precious/f", "keep");
	assert_int_equal(mkdir(host_path(f, "top"), 0755), 0);
	assert_int_equal(symlink("../precious", host_path(f, "top/link")), 0);
	assert_int_equal(symlink("precious/f", host_path(f, "file")), 0);
	assert_int_equal(ASK(f, LOOKUP, PATH("/top/link")), 0);
	assert_false(f->reply.stat.is_dir);
	assert_true(f->reply.stat.mode & PLAIN_MODE_LINK);
	assert_int_equal(ASK(f, GETATTR, PATH("/top/link")), 0);
	assert_false(f->reply.stat.is_dir);
	assert_int_equal(ASK(f, READDIR, PATH("/top/link")), ENOTDIR);
	assert_int_equal(ASK(f, UNLINK, PATH("/top/link/f")), ELOOP);
	assert_int_equal(ASK(f, RENAME, PATH("/top/link/f"), NEW("/g")), ELOOP);
	assert_int_equal(ASK(f, CREATE, PATH("/top/link/g"), .mode = 0600), ELOOP);
	assert_int_equal(ASK(f, MKDIRALL, PATH("/top/link/g"), .mode = 0700), ENOTDIR);
	assert_int_equal(ASK(f, CREATE, PATH("/file"), .mode = 0600), ELOOP);
	assert_int_equal(ASK(f, OPEN, PATH("/file"), .flags = O_RDWR | O_TRUNC), ELOOP);
	assert_int_equal(ASK(f, TRUNCATE, PATH("/file")), ELOOP);
	assert_true(ASK(f, SETATTR, PATH("/file"), .mode = 0600) != 0);
	assert_content(f, "precious/f", "keep");
	assert_int_equal(ASK(f, RMDIR, PATH("/top/link")), 0); /* the link itself */
	assert_content(f, "precious/f", "keep");
	assert_int_equal(lstat(host_path(f, "precious/f"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	assert_int_equal(lstat(host_path(f, "precious/g"), &st), -1);
}

/* Followed until the client sends what only those send that know links. */
static void test_links_followed(void **state)
{
	struct fixture *f = *state;
	const struct plain_request signs[] = {
	    {.op = PLAIN_READLINK, PATH("/l")},
	    {.op = PLAIN_SYMLINK, PATH("/l"), DATA("x")},
	    {.op = PLAIN_FSYNC_PATH, PATH("/d")},
	    {.op = PLAIN_TIMES, PATH("/d")},
	    {.op = PLAIN_CREATE, PATH("/f"), .flags = O_RDWR | O_CREAT, .mode = 0600}};
	const struct plain_request no_signs[] = {
	    {.op = PLAIN_CREATE, PATH("/f"), .mode = 0600},
	    {.op = PLAIN_TRUNCATE, PATH("/f")},
	    {.op = PLAIN_MKDIRALL, PATH("/d"), .mode = 0700},
	    {.op = PLAIN_OPEN, PATH("/f"), .flags = O_RDWR | O_APPEND}};

	assert_int_equal(mkdir(host_path(f, "d"), 0755), 0);
	assert_int_equal(symlink("d", host_path(f, "l")), 0);
	for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); i++) {
		open_session(f, (struct server_config){.plain_follow = true});
		for (size_t k = 0; k < sizeof(no_signs) / sizeof(no_signs[0]); k++)
			assert_int_equal(ask_q(f, no_signs[k]), 0);
		assert_int_equal(ASK(f, LOOKUP, PATH("/l")), 0);
		assert_true(f->reply.stat.is_dir);
		(void)ask_q(f, signs[i]);
		assert_int_equal(ASK(f, LOOKUP, PATH("/l")), 0);
		assert_false(f->reply.stat.is_dir);
	}
}

/* Op 16 with the target in path or in new_path. */
static void test_symlink_order(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	write_file(f->dir, "f", "file");
	/* both could be the link: the one that can be made is, and neither if both can */
	assert_int_equal(ASK(f, SYMLINK, PATH("/a"), NEW("/f")), 0);
	assert_int_equal(ASK(f, READLINK, PATH("/a")), 0);
	assert_data(f, "/workspace/f");
	assert_int_equal(ASK(f, SYMLINK, PATH("/f"), NEW("/b")), 0);
	assert_int_equal(ASK(f, READLINK, PATH("/b")), 0);
	assert_data(f, "/workspace/f");
	assert_int_equal(ASK(f, SYMLINK, PATH("/c"), NEW("/d")), EINVAL);
	assert_int_equal(ASK(f, SYMLINK, PATH("/a"), NEW("/f")), EEXIST);
	assert_int_equal(ASK(f, SYMLINK, .path = {"x", 1}, .new_path = {"y", 1}), EACCES);
	assert_int_equal(ASK(f, SYMLINK, PATH("/c")), ENOENT);
	/* a target that is no path of ours tells, also for those that follow */
	assert_int_equal(ASK(f, SYMLINK, PATH("/c"), .new_path = {"f", 1}), 0);
	assert_int_equal(ASK(f, READLINK, PATH("/c")), 0);
	assert_data(f, "f");
	assert_int_equal(ASK(f, SYMLINK, PATH("/d"), NEW("/none")), 0);
	assert_int_equal(ASK(f, READLINK, PATH("/d")), 0);
	assert_data(f, "/workspace/none");
	assert_int_equal(ASK(f, SYMLINK, PATH("/d"), NEW("/free")), EEXIST); /* not /free */
	assert_int_equal(lstat(host_path(f, "free"), &st), -1);
	open_session(f, (struct server_config){0});
	assert_int_equal(ASK(f, SYMLINK, .path = {"/etc/x", 6}, NEW("/e")), 0);
	assert_int_equal(ASK(f, SYMLINK, PATH("/none"), NEW("/g")), 0);
	assert_int_equal(ASK(f, READLINK, PATH("/g")), 0);
	assert_data(f, "/workspace/none");
}

static void test_readdir(void **state)
{
	struct fixture *f = *state;
	struct plain_entry e;
	const char *why;
	unsigned seen = 0;

	assert_int_equal(ASK(f, READDIR, PATH("")), 0);
	assert_int_equal(f->reply.entry_count, 0);
	write_file(f->dir, "file", "12345");
	write_file(f->dir, "no\xfftext", "");
	assert_int_equal(mkdir(host_path(f, "dir"), 0700), 0);
	assert_int_equal(symlink("file", host_path(f, "link")), 0);
	assert_int_equal(ASK(f, READDIR, PATH("")), 0);
	assert_int_equal(f->reply.entry_count, 3);
	for (struct slice in = f->reply.entries; plain_entry_next(&in, &e, &why) == 1;) {
		assert_true(e.ino != 0);
		if (e.name.len == 3) {
			assert_true(e.is_dir && e.mode == (PLAIN_MODE_DIR | 0700));
			seen |= 1;
		} else if (memcmp(e.name.data, "file", 4) == 0) {
			assert_true(!e.is_dir && e.mode == 0644 && e.size == 5);
			seen |= 2;
		} else if (memcmp(e.name.data, "link", 4) == 0) {
			assert_true(!e.is_dir && (e.mode & PLAIN_MODE_LINK));
			seen |= 4;
		}
	}
	assert_int_equal(seen, 7);
	assert_int_equal(ASK(f, READDIR, PATH("/file")), ENOTDIR);
	assert_int_equal(ASK(f, READDIR, PATH("/none")), ENOENT);
}

static void test_text(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(ASK(f, CREATE, PATH("/\xc3\xa9"), .mode = 0600), 0);
	assert_int_equal(ASK(f, LOOKUP, PATH("/\xff")), EILSEQ);
	assert_int_equal(ASK(f, RENAME, PATH("/\xc3\xa9"), NEW("/\xc3")), EILSEQ);
}

static void test_read_only(void **state)
{
	struct fixture *f = *state;

	write_file(f->dir, "a", "x");
	open_session(f, (struct server_config){.read_only = true});
	const uint32_t changes[] = {PLAIN_SETATTR, PLAIN_CREATE, PLAIN_MKDIR,	 PLAIN_UNLINK,
				    PLAIN_RMDIR,   PLAIN_RENAME, PLAIN_MKDIRALL, PLAIN_TRUNCATE,
				    PLAIN_SYMLINK, PLAIN_LINK,	 PLAIN_WRITE,	 PLAIN_TIMES};
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++)
		assert_int_equal(ask_q(f,
				       (struct plain_request){
					   .op = changes[i], PATH("/a"), NEW("/b"), .mode = 0600}),
				 EROFS);
	assert_int_equal(ASK(f, OPEN, PATH("/a"), .flags = O_WRONLY), EROFS);
	assert_int_equal(ASK(f, OPEN, PATH("/a"), .flags = O_RDWR), EROFS);
	assert_int_equal(ASK(f, OPEN, PATH("/a"), .flags = O_TRUNC), EROFS);
	assert_int_equal(ASK(f, OPEN, PATH("/b"), .flags = O_CREAT), EROFS);
	assert_int_equal(ASK(f, OPEN, PATH("/a")), 0);
	assert_int_equal(ASK(f, READ, .fh = f->reply.fh, .sz = 9), 0);
	assert_data(f, "x");
	assert_int_equal(ASK(f, FSYNC, .fh = f->reply.fh), EBADF); /* of the reply to READ: 0 */
}

static void test_ownership(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	if (geteuid() != 0)
		skip();
	assert_int_equal(ASK(f, CREATE, PATH("/a"), .mode = 0600, .uid = 1234, .gid = 2345), 0);
	uint64_t fh = f->reply.fh;
	assert_int_equal(ASK(f, MKDIR, PATH("/d"), .mode = 0700, .uid = 1234, .gid = 2345), 0);
	assert_int_equal(ASK(f, SYMLINK, PATH("/s"), DATA("x"), .uid = 1234, .gid = 2345), 0);
	const char *const names[] = {"a", "d", "s"};
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(lstat(host_path(f, names[i]), &st), 0);
		assert_true(st.st_uid == 1234 && st.st_gid == 2345);
	}
	assert_int_equal(ASK(f, LOOKUP, PATH("/s")), 0);
	assert_true(f->reply.stat.has_ids);
	assert_true(f->reply.stat.uid == 1234 && f->reply.stat.gid == 2345);
	assert_int_equal(ASK(f, LOOKUP, PATH("")), 0);
	assert_false(f->reply.stat.has_ids); /* root's: 0 is left out */
	assert_int_equal(ASK(f, CREATE, PATH("/r"), .mode = 0600), 0);
	assert_int_equal(lstat(host_path(f, "r"), &st), 0);
	assert_int_equal(st.st_uid, 0);
	/* a write by us takes the set-id bits, as one by the caller would */
	for (int how = 0; how < 3; how++) {
		assert_int_equal(chmod(host_path(f, "a"), 06755), 0);
		if (how == 0)
			assert_int_equal(ASK(f, WRITE, .fh = fh, DATA("x"), .uid = 1234), 0);
		else if (how == 1)
			assert_int_equal(ASK(f, TRUNCATE, PATH("/a"), .sz = 1, .uid = 1234), 0);
		else
			assert_int_equal(
			    ASK(f, OPEN, PATH("/a"), .flags = O_WRONLY | O_TRUNC, .uid = 1234), 0);
		assert_int_equal(lstat(host_path(f, "a"), &st), 0);
		assert_int_equal(st.st_mode & 07777, 0755);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(test_stat),	      TEST(test_unknown),   TEST(test_outside),
	    TEST(test_special_files), TEST(test_files),	    TEST(test_create_exists),
	    TEST(test_large),	      TEST(test_truncate),  TEST(test_handles_bounded),
	    TEST(test_names),	      TEST(test_links),	    TEST(test_readdir),
	    TEST(test_text),	      TEST(test_read_only), TEST(test_ownership),
	    TEST(test_create_flags),  TEST(test_times),	    TEST(test_fsync_path),
	    TEST(test_links_shown),   TEST(test_symlink_order), TEST(test_links_followed),
	};

	log_init("test_plain_server", LOG_ERR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
