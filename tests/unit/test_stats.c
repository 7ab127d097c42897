/*
 * The statistics segment, read as a program does that has no header of this
 * project: by the layout that stats.h promises.
 */
#include "temp_path.h"
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/msg.h"
#include "core/stats.h"

/* ---- a reader ---- */

struct reader {
	const unsigned char *data;
	size_t size;
};

static struct reader reader_open(void)
{
	struct stat st;
	int fd = open(temp_path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	assert_true(p != MAP_FAILED);
	assert_int_equal(close(fd), 0);
	return (struct reader){p, (size_t)st.st_size};
}

static void reader_close(struct reader *r)
{
	assert_int_equal(munmap((void *)(uintptr_t)r->data, r->size), 0);
}

static uint32_t u32_at(const struct reader *r, size_t at)
{
	uint32_t v;

	assert_true(at + sizeof(v) <= r->size);
	memcpy(&v, r->data + at, sizeof(v));
	return v;
}

static const char *info_at(const struct reader *r, uint32_t i, size_t at, size_t len)
{
	const char *text = (const char *)r->data + 16 + (size_t)i * (48 + 16 + 128) + at;

	assert_non_null(memchr(text, '\0', len));
	return text;
}

/* The value of the counter with this name. */
static uint64_t read_value(const struct reader *r, const char *name)
{
	uint32_t n = u32_at(r, 8), offset = u32_at(r, 12);

	for (uint32_t i = 0; i < n; i++) {
		if (strcmp(info_at(r, i, 0, 48), name) == 0) {
			uint64_t v;

			memcpy(&v, r->data + offset + 8 * (size_t)i, sizeof(v));
			return v;
		}
	}
	fail_msg("no counter %s", name);
	return 0;
}

struct section {
	uint32_t rows, stride, info, offset;
};

static bool find_section(const struct reader *r, const char *name, struct section *ret)
{
	size_t at = 16 + (size_t)u32_at(r, 8) * 192;
	uint32_t n = u32_at(r, at);

	for (uint32_t i = 0; i < n; i++) {
		const char *section = (const char *)r->data + at + 8 + (size_t)i * 32;

		assert_non_null(memchr(section, '\0', 16));
		if (strcmp(section, name) == 0) {
			memcpy(ret, section + 16, sizeof(*ret));
			assert_true(ret->offset + (size_t)ret->rows * ret->stride <= r->size);
			return true;
		}
	}
	return false;
}

static const void *row_at(const struct reader *r, const struct section *s, uint32_t row)
{
	return r->data + s->offset + (size_t)row * s->stride;
}

static const void *named_row(const struct reader *r, const char *section, const char *name)
{
	struct section s;

	assert_true(find_section(r, section, &s));
	for (uint32_t i = 0; i < s.rows; i++) {
		const char *info = (const char *)r->data + s.info + (size_t)i * 192;

		assert_int_not_equal(info[64], '\0'); /* each has a text */
		if (strcmp(info, name) == 0)
			return row_at(r, &s, i);
	}
	fail_msg("no row %s in section %s", name, section);
	return NULL;
}

/* ---- tests ---- */

static const struct {
	const char *name, *type, *unit, *text;
} rows[] = {
#define COUNTER(name, unit, text) {#name, "counter", #unit, text},
#define GAUGE(name, unit, text)	  {#name, "gauge", #unit, text},
#include "core/counters.def"
};

/* Checks the scalars of a segment against rows first up to end. */
static void check_scalars(const struct reader *r, uint32_t first, uint32_t end)
{
	assert_memory_equal(r->data, "VFSSTAT1", 8);
	assert_int_equal(u32_at(r, 8), end - first);
	uint32_t offset = u32_at(r, 12);
	assert_int_equal(offset % 8, 0);
	assert_true(offset + (end - first) * 8u <= r->size);
	for (uint32_t i = 0; i < end - first; i++) {
		char name[64];

		/* the first underscore is a dot: fuse.requests */
		(void)snprintf(name, sizeof(name), "%s", rows[first + i].name);
		char *sep = strchr(name, '_');
		assert_non_null(sep);
		*sep = '.';
		assert_string_equal(info_at(r, i, 0, 48), name);
		assert_string_equal(info_at(r, i, 48, 8), rows[first + i].type);
		assert_string_equal(info_at(r, i, 56, 8), rows[first + i].unit);
		assert_string_equal(info_at(r, i, 64, 128), rows[first + i].text);
		assert_int_not_equal(*info_at(r, i, 64, 128), '\0');
		for (uint32_t k = 0; k < i; k++)
			assert_string_not_equal(rows[first + k].name, rows[first + i].name);
	}
}

static void test_describes_itself(void **state)
{
	struct stats *s;

	(void)state;
	assert_int_equal(COUNT(rows), STAT_COUNT);
	assert_int_equal(stats_new(temp_path, &s), 0);
	struct reader r = reader_open();
	check_scalars(&r, 0, STAT_SERVER);
	assert_int_equal(read_value(&r, "fuse.requests"), 0);
	assert_int_equal(read_value(&r, "proc.pid"), (uint64_t)getpid());
	reader_close(&r);
	stats_free(s);
}

/* A server's has nothing of a mount, and what both have. */
static void test_server(void **state)
{
	struct stats *s;
	struct section sec;

	(void)state;
	assert_int_equal(stats_new_side(temp_path, STATS_SERVER, &s), 0);
	struct reader r = reader_open();
	check_scalars(&r, STAT_COMMON, STAT_COUNT);
	stats_add(s, STAT_server_connections, 2);
	assert_int_equal(read_value(&r, "server.connections"), 2);
	assert_int_equal(read_value(&r, "proc.pid"), (uint64_t)getpid());
	assert_false(find_section(&r, "fuse", &sec));
	assert_false(find_section(&r, "pending", &sec));
	stats_executed(s, MSG_READ, 1000, 0);
	stats_executed(s, MSG_READ, 3000, EIO);
	stats_executed(s, 12345, 1, 0);
	assert_int_equal(read_value(&r, "server.requests"), 3);
	assert_int_equal(read_value(&r, "server.errors"), 1);
	const struct stats_op *op = named_row(&r, "rpc", "READ");
	assert_int_equal(op->count, 2);
	assert_int_equal(op->time.sum, 4000);
	assert_int_equal(op->errors[EIO], 1);
	assert_int_equal(((const struct stats_op *)named_row(&r, "rpc", "OTHER"))->count, 1);
	reader_close(&r);
	stats_free(s);
}

static void test_seen_elsewhere(void **state)
{
	struct stats *s;
	struct stat st;

	(void)state;
	mode_t old = umask(0);
	assert_int_equal(stats_new(temp_path, &s), 0);
	(void)umask(old);
	assert_int_equal(stat(temp_path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	assert_true(st.st_blocks * 512 >= st.st_size); /* no hole: a full disk is noticed at once */

	struct reader r = reader_open();
	stats_add(s, STAT_fuse_requests, 3);
	stats_add(s, STAT_fuse_requests, 4);
	stats_add(s, STAT_cache_nodes, 10);
	stats_sub(s, STAT_cache_nodes, 4);
	assert_int_equal(read_value(&r, "fuse.requests"), 7);
	assert_int_equal(read_value(&r, "cache.nodes"), 6);
	assert_int_equal(read_value(&r, "inval.sent"), 0);
	assert_int_equal(stats_get(s, STAT_fuse_requests), 7);
	/* the reader goes on when the daemon is gone */
	stats_free(s);
	assert_int_equal(read_value(&r, "fuse.requests"), 7);
	reader_close(&r);
}

/* A new segment is a new file: whoever maps the old one keeps what it has. */
static void test_made_anew(void **state)
{
	struct stats *a, *b;

	(void)state;
	assert_int_equal(stats_new(temp_path, &a), 0);
	stats_add(a, STAT_fuse_requests, 5);
	struct reader old = reader_open();
	assert_int_equal(stats_new(temp_path, &b), 0);
	stats_add(b, STAT_fuse_requests, 1);
	struct reader new = reader_open();
	assert_int_equal(read_value(&old, "fuse.requests"), 5);
	assert_int_equal(read_value(&new, "fuse.requests"), 1);
	reader_close(&old);
	reader_close(&new);
	stats_free(a);
	stats_free(b);
}

/* A symbolic link in its place is replaced, never followed. */
static void test_link_in_its_place(void **state)
{
	struct stats *s;
	struct stat st;
	char target[80];

	(void)state;
	(void)unlink(temp_path);
	(void)snprintf(target, sizeof(target), "%s/target", temp_dir);
	assert_int_equal(symlink(target, temp_path), 0);
	assert_int_equal(stats_new(temp_path, &s), 0);
	stats_free(s);
	assert_int_equal(lstat(temp_path, &st), 0);
	assert_true(S_ISREG(st.st_mode));
	assert_int_equal(access(target, F_OK), -1);
}

static bool end(struct stats *s, uint64_t unique, int err, uint64_t read, uint64_t written,
		struct stats_answer *a)
{
	const struct stats_reply reply = {
		.unique = unique, .err = err, .read = read, .written = written};

	return stats_fuse_end(s, &reply, a);
}

static uint64_t bucket_sum(const struct stats_hist *h)
{
	uint64_t n = 0;

	for (int i = 0; i < STATS_BUCKETS; i++)
		n += h->bucket[i];
	return n;
}

static void test_histogram(void **state)
{
	static const struct {
		uint64_t ns;
		int bucket;
	} values[] = {{0, 0},	       {1, 0},	   {2, 1},
		      {3, 1},	       {4, 2},	   {1023, 9},
		      {1024, 10},      {1025, 10}, {UINT64_C(1) << 39, 39},
		      {UINT64_MAX, 39}};
	struct stats *s;

	(void)state;
	assert_int_equal(stats_new(temp_path, &s), 0);
	struct reader r = reader_open();
	const struct stats_hist *h = named_row(&r, "hist", "rpc.rtt");
	for (size_t i = 0; i < COUNT(values); i++) {
		uint64_t before = h->bucket[values[i].bucket];

		stats_time(s, HIST_rpc_rtt, values[i].ns);
		assert_int_equal(h->bucket[values[i].bucket], before + 1);
		assert_int_equal(bucket_sum(h), i + 1);
	}
	const struct stats_hist *other = named_row(&r, "hist", "rpc.wait");
	assert_int_equal(bucket_sum(other), 0);
	stats_time(s, HIST_rpc_wait, 100);
	stats_time(s, HIST_rpc_wait, 23);
	assert_int_equal(other->sum, 123);
	reader_close(&r);
	stats_free(s);
}

static const char *text_of(const struct reader *r, const char *name)
{
	const struct stats_text *t = named_row(r, "text", name);

	return t->text[t->active];
}

static void test_texts(void **state)
{
	struct stats *s;
	char longer[600];

	(void)state;
	assert_int_equal(stats_new(temp_path, &s), 0);
	struct reader r = reader_open();
	assert_string_equal(text_of(&r, "conn.state"), "");
	stats_text(s, TEXT_conn_state, "connected");
	assert_string_equal(text_of(&r, "conn.state"), "connected");
	stats_text(s, TEXT_conn_state, "lost");
	assert_string_equal(text_of(&r, "conn.state"), "lost");
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	stats_text(s, TEXT_mount_source, longer);
	assert_int_equal(strlen(text_of(&r, "mount.source")), STATS_TEXT_MAX - 1);
	assert_string_equal(text_of(&r, "conn.state"), "lost");
	reader_close(&r);
	stats_free(s);
}

static uint32_t pending_rows(const struct reader *r, uint64_t unique,
			     const struct stats_pending **ret)
{
	struct section s;
	uint32_t n = 0;

	assert_true(find_section(r, "pending", &s));
	for (uint32_t i = 0; i < s.rows; i++) {
		const struct stats_pending *p = row_at(r, &s, i);

		n += p->unique != 0;
		if (p->unique == unique)
			*ret = p;
	}
	return n;
}

static const struct stats_process *process_row(const struct reader *r, uint32_t pid)
{
	struct section s;
	const struct stats_process *found = NULL;

	assert_true(find_section(r, "process", &s));
	for (uint32_t i = 0; i < s.rows; i++) {
		const struct stats_process *p = row_at(r, &s, i);

		if (p->pid == pid) {
			assert_null(found);
			found = p;
		}
	}
	return found;
}

/* From the kernel's request to its answer, with a message to the host in between. */
static void test_a_request(void **state)
{
	const uint32_t me = (uint32_t)getpid();
	const struct stats_pending *p = NULL;
	struct stats_span span = {0};
	struct stats_answer a;
	struct stats *s;

	(void)state;
	assert_int_equal(stats_new(temp_path, &s), 0);
	struct reader r = reader_open();
	const struct stats_op *op = named_row(&r, "fuse", "READ");
	const struct stats_op *rpc = named_row(&r, "rpc", "READ");
	struct stats_request q = {
		.unique = 6, .node = 9, .opcode = 15, .pid = me, .uid = 7, .answered = true};

	stats_fuse_begin(s, &q);
	assert_int_equal(op->count, 1);
	assert_int_equal(read_value(&r, "fuse.pending"), 1);
	assert_int_equal(pending_rows(&r, 6, &p), 1);
	assert_int_equal(p->node, 9);
	assert_int_equal(p->pid, me);
	assert_int_equal(p->uid, 7);
	assert_true(p->start != 0);
	assert_int_equal(p->sent, 0);

	stats_rpc_queue(s, &span, false);
	assert_int_equal(read_value(&r, "rpc.waiting"), 1);
	assert_int_equal(read_value(&r, "rpc.requests"), 0);
	stats_rpc_send(s, &span, MSG_READ, false);
	assert_int_equal(read_value(&r, "rpc.waiting"), 0);
	assert_int_equal(read_value(&r, "rpc.pending"), 1);
	assert_int_equal(read_value(&r, "rpc.requests"), 1);
	assert_int_equal(p->rpcs, 1);
	assert_true(p->sent >= p->start);
	stats_rpc_done(s, &span, MSG_READ, 0);
	assert_int_equal(read_value(&r, "rpc.pending"), 0);
	assert_int_equal(bucket_sum(&rpc->time), 1);

	assert_true(end(s, 6, 0, 100, 8, &a));
	assert_int_equal(a.unique, 6);
	assert_int_equal(a.node, 9);
	assert_int_equal(a.rpcs, 1);
	assert_string_equal(stats_fuse_name(a.op), "READ");
	assert_true(a.ns >= a.rtt);
	assert_int_equal(pending_rows(&r, 6, &p), 0);
	assert_int_equal(read_value(&r, "fuse.pending"), 0);
	assert_int_equal(read_value(&r, "fuse.bytes_read"), 100);
	assert_int_equal(read_value(&r, "fuse.bytes_written"), 0);
	assert_int_equal(read_value(&r, "fuse.answered"), 0);
	assert_int_equal(bucket_sum(&op->time), 1);
	assert_int_equal(op->time.sum, a.ns);
	assert_int_equal(op->rpcs, 1);

	const struct stats_process *who = process_row(&r, me);
	assert_non_null(who);
	assert_int_equal(who->requests, 1);
	assert_int_equal(who->reads, 1);
	assert_int_equal(who->rpcs, 1);
	assert_int_equal(who->bytes_read, 100);
	assert_int_equal(who->time, a.ns);
	assert_int_not_equal(who->comm[0], '\0');

	/* what it never was told */
	assert_false(end(s, 99, 0, 0, 0, &a));
	reader_close(&r);
	stats_free(s);
}

/* Errors are kept by number, ENOENT apart; what has no answer is not waited for. */
static void test_errors(void **state)
{
	struct stats_request q = {.opcode = 1, .answered = true};
	struct stats_answer a;
	struct stats *s;

	(void)state;
	assert_int_equal(stats_new(temp_path, &s), 0);
	struct reader r = reader_open();
	const struct stats_op *op = named_row(&r, "fuse", "LOOKUP");
	static const int errors[] = {0, ENOENT, ENOENT, EACCES, 4095};

	for (size_t i = 0; i < COUNT(errors); i++) {
		q.unique = 2 * (i + 1);
		stats_fuse_begin(s, &q);
		assert_true(end(s, q.unique, errors[i], 0, 0, &a));
	}
	assert_int_equal(op->errors[ENOENT], 2);
	assert_int_equal(op->errors[EACCES], 1);
	assert_int_equal(op->errors[0], 1);
	assert_int_equal(read_value(&r, "fuse.enoent"), 2);
	assert_int_equal(read_value(&r, "fuse.errors"), 2);
	assert_int_equal(read_value(&r, "fuse.answered"), COUNT(errors));
	/* told as an entry without a node; for other operations this means nothing */
	const struct stats_reply none = {.unique = 40, .no_entry = true};
	q = (struct stats_request){.unique = 40, .opcode = 1, .answered = true};
	stats_fuse_begin(s, &q);
	assert_true(stats_fuse_end(s, &none, &a));
	assert_int_equal(a.err, ENOENT);
	assert_int_equal(read_value(&r, "fuse.enoent"), 3);
	q.opcode = 15;
	stats_fuse_begin(s, &q);
	assert_true(stats_fuse_end(s, &none, &a));
	assert_int_equal(a.err, 0);
	q = (struct stats_request){.unique = 50, .opcode = 2};
	stats_fuse_begin(s, &q);
	assert_int_equal(read_value(&r, "fuse.pending"), 0);
	assert_int_equal(((const struct stats_op *)named_row(&r, "fuse", "FORGET"))->count, 1);
	q = (struct stats_request){.unique = 52, .opcode = 4096, .answered = true};
	stats_fuse_begin(s, &q);
	assert_int_equal(((const struct stats_op *)named_row(&r, "fuse", "OTHER"))->count, 1);
	reader_close(&r);
	stats_free(s);
}

/* A message of another request's completion is that request's, and a dropped one leaves nothing. */
static void test_messages(void **state)
{
	struct stats_request q = {.opcode = 15, .unique = 2, .answered = true};
	struct stats_span a = {0}, b = {0}, c = {0};
	const struct stats_pending *p = NULL;
	struct stats_answer answer;
	struct stats *s;

	(void)state;
	assert_int_equal(stats_new(temp_path, &s), 0);
	struct reader r = reader_open();
	stats_fuse_begin(s, &q);
	stats_rpc_queue(s, &a, false);
	stats_rpc_send(s, &a, MSG_READ, false);
	q.unique = 4;
	stats_fuse_begin(s, &q);
	stats_rpc_done(s, &a, MSG_READ, EIO);
	stats_rpc_queue(s, &b, false);
	stats_rpc_send(s, &b, MSG_READ, false);
	assert_int_equal(pending_rows(&r, 2, &p), 2);
	assert_int_equal(p->rpcs, 2);
	assert_int_equal(pending_rows(&r, 4, &p), 2);
	assert_int_equal(p->rpcs, 0);
	assert_int_equal(read_value(&r, "rpc.errors"), 1);
	assert_int_equal(read_value(&r, "rpc.own"), 0);
	stats_rpc_drop(s, &b);
	stats_rpc_drop(s, &b);
	assert_int_equal(read_value(&r, "rpc.pending"), 0);
	stats_rpc_queue(s, &c, false);
	stats_rpc_drop(s, &c);
	assert_int_equal(read_value(&r, "rpc.waiting"), 0);
	stats_rpc_queue(s, &c, true);
	stats_rpc_send(s, &c, MSG_CLOSE, true);
	assert_int_equal(read_value(&r, "rpc.oneway"), 1);
	assert_int_equal(read_value(&r, "rpc.requests"), 2);
	/* what nobody waits for, though it comes of the reply to what somebody waited for */
	assert_true(end(s, 2, 0, 0, 0, &answer));
	stats_rpc_queue(s, &c, false);
	stats_rpc_send(s, &c, MSG_GETATTR, false);
	stats_rpc_queue(s, &b, false);
	stats_rpc_send(s, &b, MSG_PING, false);
	assert_int_equal(read_value(&r, "rpc.requests"), 3);
	assert_int_equal(read_value(&r, "rpc.own"), 1);
	assert_int_equal(read_value(&r, "rpc.pings"), 1);
	reader_close(&r);
	stats_free(s);
}

/* More requests at a time than there are rows are counted, and nothing else suffers. */
static void test_full_tables(void **state)
{
	struct stats_request q = {.opcode = 3, .answered = true};
	struct stats_answer a;
	struct stats *s;
	struct section sec;

	(void)state;
	assert_int_equal(stats_new(temp_path, &s), 0);
	struct reader r = reader_open();
	for (uint64_t i = 1; i <= STATS_PENDING + 5; i++) {
		q.unique = 2 * i;
		q.pid = 100000 + (uint32_t)i;
		stats_fuse_begin(s, &q);
	}
	assert_int_equal(read_value(&r, "fuse.pending"), STATS_PENDING + 5);
	assert_int_equal(read_value(&r, "fuse.untimed"), 5);
	for (uint64_t i = 1; i <= STATS_PENDING + 5; i++)
		(void)end(s, 2 * i, 0, 0, 0, &a);
	assert_int_equal(read_value(&r, "fuse.pending"), 0);
	q.unique = 2;
	stats_fuse_begin(s, &q);
	assert_true(end(s, 2, 0, 0, 0, &a));
	/* the latest task is there, the first had to go */
	assert_true(find_section(&r, "process", &sec));
	assert_non_null(process_row(&r, q.pid));
	reader_close(&r);
	stats_free(s);
}

/* What anybody can hold who may read the file. */
static void read_locks(int fd)
{
	struct flock l = {.l_type = F_RDLCK, .l_whence = SEEK_SET};

	assert_int_equal(fcntl(fd, F_OFD_SETLK, &l), 0);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
}

/* The default place: under a name of its own, gone at the end; what a dead one left is no obstacle.
 */
static void test_default_place(void **state)
{
	char expected[120], second[120], sub[80];
	struct stats *a, *b;

	(void)state;
	bool root = geteuid() == 0;
	if (root) { /* whose place would be /run/vsockfs */
		assert_int_equal(chown(temp_dir, 65534, 65534), 0);
		assert_int_equal(seteuid(65534), 0);
	}
	(void)snprintf(sub, sizeof(sub), "%s/vsockfs", temp_dir);
	assert_int_equal(setenv("XDG_RUNTIME_DIR", temp_dir, 1), 0);
	(void)snprintf(expected, sizeof(expected), "%s/%d.stats", sub, (int)getpid());
	(void)snprintf(second, sizeof(second), "%s/%d-1.stats", sub, (int)getpid());
	assert_int_equal(stats_new_default(STATS_MOUNT, &a), 0);
	assert_string_equal(stats_path(a), expected);
	assert_int_equal(stats_new_default(STATS_SERVER, &b), 0);
	assert_string_equal(stats_path(b), second);
	stats_free(b);
	stats_free(a);
	assert_int_equal(access(expected, F_OK), -1);
	assert_int_equal(access(second, F_OK), -1);
	int left = open(expected, O_RDONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_true(left >= 0);
	read_locks(left);
	assert_int_equal(stats_new_default(STATS_MOUNT, &a), 0);
	assert_string_equal(stats_path(a), expected);
	assert_int_equal(close(left), 0);
	left = open(expected, O_RDONLY | O_CLOEXEC);
	assert_int_equal(flock(left, LOCK_EX | LOCK_NB), 0);
	assert_true(stats_locked(left));
	stats_free(a);
	assert_false(stats_locked(left));
	assert_int_equal(close(left), 0);
	/* where others could replace what is ours */
	assert_int_equal(chmod(sub, 0777), 0);
	assert_int_equal(stats_new_default(STATS_MOUNT, &a), -EPERM);
	assert_int_equal(rmdir(sub), 0);
	assert_int_equal(symlink(temp_dir, sub), 0);
	assert_int_equal(stats_new_default(STATS_MOUNT, &a), -ENOTDIR);
	assert_int_equal(unlink(sub), 0);
	assert_int_equal(unsetenv("XDG_RUNTIME_DIR"), 0);
	assert_int_equal(stats_new_default(STATS_MOUNT, &a), -ENOENT);
	if (root) {
		assert_int_equal(seteuid(0), 0);
		assert_int_equal(chown(temp_dir, 0, 0), 0);
	}
}

static void test_failures(void **state)
{
	struct stats *s = NULL;
	char bad[80];

	(void)state;
	(void)snprintf(bad, sizeof(bad), "%s/missing/stats", temp_dir);
	assert_int_equal(stats_new(bad, &s), -ENOENT);
	assert_true(stats_new(temp_dir, &s) < 0); /* a directory */
	assert_null(s);
	/* No statistics at all are allowed everywhere. */
	stats_add(NULL, STAT_fuse_requests, 1);
	stats_sub(NULL, STAT_fuse_requests, 1);
	assert_int_equal(stats_get(NULL, STAT_fuse_requests), 0);
	stats_free(NULL);
}

static void *add_often(void *arg)
{
	for (int i = 0; i < 20000; i++) {
		stats_add(arg, STAT_rpc_requests, 1);
		stats_add(arg, STAT_cache_nodes, 2);
		stats_sub(arg, STAT_cache_nodes, 2);
	}
	return NULL;
}

static void test_many_threads(void **state)
{
	struct stats *s;
	pthread_t threads[4];

	(void)state;
	assert_int_equal(stats_new(NULL, &s), 0);
	for (size_t i = 0; i < COUNT(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, add_often, s), 0);
	for (size_t i = 0; i < COUNT(threads); i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(stats_get(s, STAT_rpc_requests), 20000 * COUNT(threads));
	assert_int_equal(stats_get(s, STAT_cache_nodes), 0);
	stats_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_describes_itself),
		cmocka_unit_test(test_seen_elsewhere),
		cmocka_unit_test(test_made_anew),
		cmocka_unit_test(test_link_in_its_place),
		cmocka_unit_test(test_server),
		cmocka_unit_test(test_histogram),
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_a_request),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_full_tables),
		cmocka_unit_test(test_default_place),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_many_threads),
	};

	return cmocka_run_group_tests(tests, temp_setup, temp_teardown);
}
