/*
 * doc/protocol.md says what the program does.
 *
 * Every ```hex block is decoded by what its fence says it is (extended,
 * plain-request, plain-reply, entries, numbers); what comes out, written as
 * text, must be the `line` above the block, and written as bytes the block
 * again. The tables of fields, messages, flags and limits must be those of
 * the .def files and headers, row by row.
 */
#include "unit.h"

#include "transport/codec.h"
#include "transport/hello.h"
#include "plain/plain_codec.h"

#define LINES_MAX   4096
#define EXAMPLE_MAX 4096

static struct {
	char *text;
	char *line[LINES_MAX];
	size_t n;
} doc;

static int read_doc(void **state)
{
	size_t cap = 1 << 20, len;
	FILE *f = fopen(SOURCE_DIR "/doc/protocol.md", "re");

	(void)state;
	doc.text = calloc(1, cap);
	if (f == NULL || doc.text == NULL)
		return -1;
	len = fread(doc.text, 1, cap - 1, f);
	(void)fclose(f);
	if (len == cap - 1)
		return -1;
	for (char *p = doc.text; *p != '\0' && doc.n < LINES_MAX;) {
		char *end = strchr(p, '\n');

		doc.line[doc.n++] = p;
		if (end == NULL)
			break;
		*end = '\0';
		p = end + 1;
	}
	return 0;
}

static int free_doc(void **state)
{
	(void)state;
	free(doc.text);
	return 0;
}

/* ---- messages as text ---- */

struct out {
	char buf[2 * EXAMPLE_MAX];
	size_t len;
};

static void add(struct out *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void add(struct out *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(t->buf + t->len, sizeof(t->buf) - t->len, fmt, ap);
	va_end(ap);
	assert_true(n >= 0 && t->len + (size_t)n < sizeof(t->buf));
	t->len += (size_t)n;
}

/* Between two fields. */
static void gap(struct out *t)
{
	if (t->len > 0 && strchr(" {[", t->buf[t->len - 1]) == NULL)
		add(t, " ");
}

/* "text", or 0xHEX if there is something in it that is none. */
static void add_bytes(struct out *t, struct slice s)
{
	const unsigned char *p = s.data;
	bool printable = true;

	for (size_t i = 0; i < s.len; i++)
		printable = printable && (p[i] == '\n' || (p[i] >= ' ' && p[i] < 127));
	add(t, printable ? "\"" : "0x");
	for (size_t i = 0; i < s.len; i++) {
		if (!printable)
			add(t, "%02x", p[i]);
		else if (p[i] == '\n')
			add(t, "\\n");
		else
			add(t, p[i] == '"' || p[i] == '\\' ? "\\%c" : "%c", p[i]);
	}
	if (printable)
		add(t, "\"");
}

static void add_attr(struct out *t, const struct attr *a)
{
	const struct msg_time *time[] = {&a->atime, &a->mtime, &a->ctime};

	add(t, "[%llu,%llu,%#o,%llu,%u,%u,%llu,%llu,%llu,%u", (unsigned long long)a->version,
	    (unsigned long long)a->ino, a->mode, (unsigned long long)a->nlink, a->uid, a->gid,
	    (unsigned long long)a->rdev, (unsigned long long)a->size, (unsigned long long)a->blocks,
	    a->blksize);
	for (size_t i = 0; i < 3; i++)
		add(t, ",%lld,%u", (long long)time[i]->sec, time[i]->nsec);
	if (a->flags != 0)
		add(t, ",%llu", (unsigned long long)a->flags);
	add(t, "]");
}

static void add_number(struct out *t, const char *name, uint64_t v)
{
	bool bits = strcmp(name, "flags") == 0 || strcmp(name, "features") == 0 ||
		    strcmp(name, "valid") == 0;

	gap(t);
	add(t,
	    strcmp(name, "mode") == 0 ? "%s=%#llo"
	    : bits		      ? "%s=%#llx"
				      : "%s=%llu",
	    name, (unsigned long long)v);
}

static void add_pairs(struct out *t, struct slice in)
{
	uint64_t a, b;
	int r;

	while ((r = codec_get_pair(&in, &a, &b)) == 1) {
		gap(t);
		add(t, "[%llu,%llu]", (unsigned long long)a, (unsigned long long)b);
	}
	assert_int_equal(r, 0);
}

static void add_items(struct out *t, struct slice in)
{
	struct inv_item i;
	int r;

	while ((r = codec_get_inv(&in, &i)) == 1) {
		gap(t);
		add(t, "[%llu,%llu", (unsigned long long)i.node, (unsigned long long)i.class);
		if (i.name.len > 0) {
			add(t, ",");
			add_bytes(t, i.name);
		}
		add(t, "]");
	}
	assert_int_equal(r, 0);
}

static void add_UINT(struct out *t, const char *name, const uint64_t *v)
{
	add_number(t, name, *v);
}

static void add_BYTES(struct out *t, const char *name, const struct slice *s)
{
	gap(t);
	add(t, "%s=", name);
	add_bytes(t, *s);
}

static void add_TIME(struct out *t, const char *name, const struct msg_time *v)
{
	gap(t);
	add(t, "%s=[%lld,%u]", name, (long long)v->sec, v->nsec);
}

static void add_ATTR(struct out *t, const char *name, const struct attr *a)
{
	gap(t);
	add(t, "%s=", name);
	add_attr(t, a);
}

static void add_STATFS(struct out *t, const char *name, const struct fsinfo *f)
{
	const uint64_t v[] = {f->bsize,	 f->frsize, f->blocks, f->bfree,
			      f->bavail, f->files,  f->ffree,  f->namemax};

	gap(t);
	add(t, "%s=[", name);
	for (size_t i = 0; i < COUNT(v); i++)
		add(t, i > 0 ? ",%llu" : "%llu", (unsigned long long)v[i]);
	add(t, "]");
}

static void add_msg(struct out *t, const struct msg *m)
{
#define FIELD(key, name, kind, text)                                                               \
	if (MSG_HAS(m, name) && key != FIELD_payload)                                              \
		add_##kind(t, #name, &m->name);
#include "core/fields.def"
#undef FIELD
	if (!MSG_HAS(m, payload))
		return;
	if (MSG_HAS(m, op) && (m->op == MSG_FORGET || (m->op == MSG_RESUME && m->type != RESUME_FILES))) {
		add(t, " payload=");
		struct out pairs = {.len = 0};
		add_pairs(&pairs, m->payload);
		add(t, "%s", pairs.buf);
	} else if (MSG_HAS(m, op) && m->op == MSG_INV) {
		struct out items = {.len = 0};

		add(t, " payload=");
		add_items(&items, m->payload);
		add(t, "%s", items.buf);
	} else {
		add_BYTES(t, "payload", &m->payload);
	}
}

/* ---- examples ---- */

struct example {
	size_t line;	    /* of its fence, from 1 */
	const char *kind;   /* what the fence says */
	const char *stated; /* the line above it, without its quotes */
	unsigned char bytes[EXAMPLE_MAX];
	size_t len;
};

#define CHECK(e, cond)                                                                             \
	do {                                                                                       \
		if (!(cond))                                                                       \
			fail_msg("doc/protocol.md:%zu: %s", (e)->line, #cond);                     \
	} while (0)

static void show_extended(const struct example *e, struct out *t)
{
	unsigned char again[EXAMPLE_MAX];
	struct msg m;
	const char *why = NULL;
	size_t head, payload;

	CHECK(e, e->len >= FRAME_HEADER);
	CHECK(e, codec_frame_header(e->bytes, &head, &payload, &why) == 0);
	CHECK(e, e->len == FRAME_HEADER + head + payload);
	if (codec_decode(e->bytes + FRAME_HEADER, head, payload, &m, &why) != 0)
		fail_msg("doc/protocol.md:%zu: %s", e->line, why);
	if (MSG_HAS(&m, payload))
		m.payload.data = e->bytes + FRAME_HEADER + head;
	add_msg(t, &m);
	CHECK(e, codec_encode(&m, again, sizeof(again)) == FRAME_HEADER + head);
	CHECK(e, memcmp(again, e->bytes, FRAME_HEADER + head) == 0);
	/* what it says must also be enough to be one */
	CHECK(e, !MSG_HAS(&m, op) || msg_request_complete(&m));
}

static const unsigned char *plain_frame(const struct example *e, size_t *ret_len)
{
	const unsigned char *b = e->bytes;

	CHECK(e, e->len > 4);
	*ret_len = (size_t)b[0] << 24 | (size_t)b[1] << 16 | (size_t)b[2] << 8 | b[3];
	CHECK(e, *ret_len == e->len - 4);
	return b + 4;
}

static void add_data(const struct example *e, struct out *t, struct slice data)
{
	struct msg hello;
	unsigned char again[HELLO_DATA_MAX];

	if (data.len == 0)
		return;
	gap(t);
	if (data.len < HELLO_MAGIC_LEN || memcmp(data.data, HELLO_MAGIC, HELLO_MAGIC_LEN) != 0) {
		add(t, "data=");
		add_bytes(t, data);
		return;
	}
	CHECK(e, hello_decode(data, &hello) == 0);
	add(t, "data=\"%s\"+{", HELLO_MAGIC);
	add_msg(t, &hello);
	add(t, "}");
	CHECK(e, hello_encode(&hello, again) == data.len);
	CHECK(e, memcmp(again, data.data, data.len) == 0);
}

static void check_again(const struct example *e, struct plain_buf *again)
{
	size_t len;
	const unsigned char *frame = plain_frame(e, &len);

	CHECK(e, again->len == len);
	CHECK(e, memcmp(again->data, frame, len) == 0);
	plain_buf_done(again);
}

static void add_nonzero(struct out *t, const char *name, uint64_t v)
{
	if (v != 0)
		add_number(t, name, v);
}

static void show_plain_request(const struct example *e, struct out *t)
{
	struct plain_buf again = {0};
	struct plain_request q;
	const char *why = NULL;
	size_t len;
	const unsigned char *frame = plain_frame(e, &len);

	if (plain_request_decode(frame, len, &q, &why) != 0)
		fail_msg("doc/protocol.md:%zu: %s", e->line, why);
	add_number(t, "op", q.op);
	if (q.path.len > 0)
		add_BYTES(t, "path", &q.path);
	if (q.new_path.len > 0)
		add_BYTES(t, "new_path", &q.new_path);
	add_nonzero(t, "fh", q.fh);
	if (q.off != 0) {
		gap(t);
		add(t, "off=%lld", (long long)q.off);
	}
	add_nonzero(t, "sz", q.sz);
	add_data(e, t, q.data);
	add_nonzero(t, "flags", q.flags);
	add_nonzero(t, "mode", q.mode);
	add_nonzero(t, "uid", q.uid);
	add_nonzero(t, "gid", q.gid);
	CHECK(e, plain_request_encode(&q, &again) == 0);
	check_again(e, &again);
}

static void show_plain_reply(const struct example *e, struct out *t)
{
	struct plain_buf again = {0}, entries = {0};
	struct plain_reply p;
	struct plain_entry entry;
	const char *why = NULL;
	size_t len;
	const unsigned char *frame = plain_frame(e, &len);

	if (plain_reply_decode(frame, len, &p, &why) != 0)
		fail_msg("doc/protocol.md:%zu: %s", e->line, why);
	add(t, "err=%d", p.err);
	if (p.has_stat) {
		add(t, " stat={size=%lld mode=%#o mtime=%lld is_dir=%d", (long long)p.stat.size,
		    p.stat.mode, (long long)p.stat.mtime, p.stat.is_dir);
		add_nonzero(t, "ino", p.stat.ino);
		add(t, "}");
	}
	add_data(e, t, p.data);
	add_nonzero(t, "written", p.written);
	add_nonzero(t, "fh", p.fh);
	if (p.entry_count > 0) {
		struct slice in = p.entries;

		add(t, " entries=[");
		while (plain_entry_next(&in, &entry, &why) == 1) {
			gap(t);
			add(t, "{");
			add_BYTES(t, "name", &entry.name);
			add(t, " is_dir=%d mode=%#o size=%lld", entry.is_dir, entry.mode,
			    (long long)entry.size);
			add_nonzero(t, "ino", entry.ino);
			add(t, "}");
			CHECK(e, plain_entry_put(&entries, &entry) == 0);
		}
		add(t, "]");
	}
	p.entries = (struct slice){entries.data, entries.len};
	CHECK(e, plain_reply_encode(&p, &again) == 0);
	check_again(e, &again);
	plain_buf_done(&entries);
}

static void show_entries(const struct example *e, struct out *t)
{
	struct slice in = {e->bytes, e->len};
	unsigned char again[EXAMPLE_MAX];
	struct dir_entry d;
	size_t len = 0;
	int r;

	while ((r = codec_get_entry(&in, &d)) == 1) {
		gap(t);
		add(t, "[");
		add_bytes(t, d.name);
		add(t, ",%llu,%u,%llu", (unsigned long long)d.off, d.type,
		    (unsigned long long)d.ino);
		if (d.node != 0) {
			add(t, ",%llu,", (unsigned long long)d.node);
			add_attr(t, &d.attr);
		}
		add(t, "]");
		len += codec_put_entry(&d, again + len, sizeof(again) - len);
	}
	CHECK(e, r == 0);
	CHECK(e, len == e->len && memcmp(again, e->bytes, len) == 0);
}

static void show_numbers(const struct example *e, struct out *t)
{
	struct slice in = {e->bytes, e->len};
	uint64_t v;
	int r;

	while ((r = codec_get_uint(&in, &v)) == 1) {
		gap(t);
		add(t, "%llu", (unsigned long long)v);
	}
	CHECK(e, r == 0);
}

static const struct {
	const char *kind;
	void (*show)(const struct example *, struct out *);
} kinds[] = {
    {"extended", show_extended},       {"plain-request", show_plain_request},
    {"plain-reply", show_plain_reply}, {"entries", show_entries},
    {"numbers", show_numbers},
};

/* The line above the fence that is not blank: `...`. */
static char *stated_above(size_t fence)
{
	size_t i = fence;

	while (i > 0 && doc.line[i - 1][0] == '\0')
		i--;
	char *s = i > 0 ? doc.line[i - 1] : NULL;
	size_t len = s != NULL ? strlen(s) : 0;
	if (len < 2 || s[0] != '`' || s[len - 1] != '`' || s[1] == '`')
		fail_msg("doc/protocol.md:%zu: no `line` above the example", fence + 1);
	char *copy = strdup(s + 1);
	assert_non_null(copy);
	copy[len - 2] = '\0';
	return copy;
}

/* Hex up to the closing fence, remarks left out; returns the line behind it. */
static size_t read_block(size_t i, struct example *e)
{
	for (; i < doc.n && strncmp(doc.line[i], "```", 3) != 0; i++) {
		char hex[512];

		(void)snprintf(hex, sizeof(hex), "%s", doc.line[i]);
		hex[strcspn(hex, "#")] = '\0';
		e->len += unit_from_hex(hex, e->bytes + e->len, sizeof(e->bytes) - e->len);
	}
	if (i == doc.n)
		fail_msg("doc/protocol.md:%zu: the block has no end", e->line);
	return i + 1;
}

static void check_example(const struct example *e)
{
	struct out t = {.len = 0};

	for (size_t k = 0; k < COUNT(kinds); k++) {
		if (strcmp(kinds[k].kind, e->kind) != 0)
			continue;
		kinds[k].show(e, &t);
		if (strcmp(t.buf, e->stated) != 0)
			fail_msg("doc/protocol.md:%zu: the bytes mean\n  %s\nand not\n  %s",
				 e->line, t.buf, e->stated);
		return;
	}
	fail_msg("doc/protocol.md:%zu: no such kind of example: '%s'", e->line, e->kind);
}

static void test_examples(void **state)
{
	static struct example e;
	size_t n = 0;

	(void)state;
	for (size_t i = 0; i < doc.n;) {
		if (strncmp(doc.line[i], "```hex", 6) != 0) {
			i++;
			continue;
		}
		char *stated = stated_above(i);
		const char *kind = doc.line[i] + 6;

		e = (struct example){
		    .line = i + 1, .kind = kind + (*kind == ' '), .stated = stated};
		i = read_block(i + 1, &e);
		check_example(&e);
		free(stated);
		n++;
	}
	assert_in_range(n, 8, 1000);
}

/* ---- tables ---- */

/* The first row below the table's heading. */
static size_t find_table(const char *heading)
{
	for (size_t i = 0; i + 2 < doc.n; i++) {
		if (strcmp(doc.line[i], heading) == 0) {
			assert_int_equal(strncmp(doc.line[i + 1], "|---|", 5), 0);
			return i + 2;
		}
	}
	fail_msg("doc/protocol.md has no table '%s'", heading);
	return 0;
}

static void check_row(size_t *at, const char *row)
{
	if (strcmp(doc.line[*at], row) != 0)
		fail_msg("doc/protocol.md:%zu:\n  %s\nand not\n  %s", *at + 1, row, doc.line[*at]);
	(*at)++;
}

static void check_end(size_t at)
{
	if (doc.line[at][0] == '|')
		fail_msg("doc/protocol.md:%zu: a row too many", at + 1);
}

/* A bar is an end of a cell to Markdown. */
static void add_cell(struct out *t, const char *s)
{
	add(t, " ");
	for (; *s != '\0'; s++)
		add(t, *s == '|' ? "\\%c" : "%c", *s);
	add(t, " |");
}

/* "F(node) | F(name)" as "node name", and 0 as "-". */
static void add_fields(struct out *t, const char *expression)
{
	add(t, " ");
	if (strcmp(expression, "0") == 0)
		add(t, "- ");
	for (const char *p = expression; (p = strstr(p, "F(")) != NULL;) {
		size_t n = strcspn(p += 2, ")");

		add(t, "%.*s ", (int)n, p);
	}
	add(t, "|");
}

static void test_fields(void **state)
{
	static const struct {
		unsigned key;
		const char *name, *kind, *text;
	} fields[] = {
#define FIELD(key, name, kind, text) {key, #name, #kind, text},
#include "core/fields.def"
#undef FIELD
	};
	size_t at = find_table("| key | field | kind | meaning |");

	(void)state;
	for (size_t i = 0; i < COUNT(fields); i++) {
		struct out t = {.len = 0};

		add(&t, "| %u | %s | %s |", fields[i].key, fields[i].name, fields[i].kind);
		add_cell(&t, fields[i].text);
		check_row(&at, t.buf);
	}
	check_end(at);
}

static void test_messages(void **state)
{
	static const struct {
		unsigned code;
		const char *name, *request, *reply, *text;
	} messages[] = {
#define MESSAGE(code, NAME, request, reply, traits_, text) {code, #NAME, #request, #reply, text},
#include "core/messages.def"
#undef MESSAGE
	};
	size_t at = find_table("| code | name | request | reply | what it is |");

	(void)state;
	for (size_t i = 0; i < COUNT(messages); i++) {
		struct out t = {.len = 0};

		add(&t, "| %u | %s |", messages[i].code, messages[i].name);
		add_fields(&t, messages[i].request);
		add_fields(&t, messages[i].reply);
		add_cell(&t, messages[i].text);
		check_row(&at, t.buf);
	}
	check_end(at);
}

static void test_reserved(void **state)
{
	size_t at = find_table("| reserved | name |");
	unsigned n = 0, code;
	char name[32];

	(void)state;
	for (; doc.line[at][0] == '|'; at++, n++) {
		assert_int_equal(sscanf(doc.line[at], "| %u | %31s |", &code, name), 2);
		if (msg_op_known(code))
			fail_msg("doc/protocol.md:%zu: %u is %s", at + 1, code, msg_op_name(code));
	}
	assert_true(n > 0);
}

struct value {
	const char *name;
	unsigned long long value;
};

/* The first two columns; the meaning is the document's own. */
static void check_values(const char *heading, const struct value *v, size_t n)
{
	size_t at = find_table(heading);

	for (size_t i = 0; i < n; i++, at++) {
		char want[128];

		(void)snprintf(want, sizeof(want), "| %s | %llu |", v[i].name, v[i].value);
		if (strncmp(doc.line[at], want, strlen(want)) != 0)
			fail_msg("doc/protocol.md:%zu: '%s', not '%s'", at + 1, want, doc.line[at]);
	}
	check_end(at);
}

#define NAMED(name)                                                                                \
	{                                                                                          \
#name, name                                                                        \
	}

static void test_flags(void **state)
{
	static const struct value hello[] = {NAMED(HELLO_ROOT), NAMED(HELLO_READONLY), NAMED(HELLO_PUSH), NAMED(HELLO_WATCH),
					     NAMED(HELLO_WATCH_DIRS), NAMED(HELLO_UMASK), NAMED(HELLO_ACL),
					     NAMED(HELLO_GIVE_UP), NAMED(HELLO_RESUME), NAMED(HELLO_RESUMED),
					     NAMED(HELLO_LOCKS_LOST), NAMED(HELLO_FILES),
					     NAMED(HELLO_COPIES), NAMED(HELLO_COPY)};
	static const struct value resume_type[] = {NAMED(RESUME_NODES), NAMED(RESUME_FILES), NAMED(RESUME_SLOTS), NAMED(RESUME_USED)};
	static const struct value resume[] = {NAMED(RESUME_FIRST), NAMED(RESUME_LAST)};
	static const struct value attr[] = {NAMED(ATTR_NO_ACL)};
	static const struct value readdir[] = {NAMED(READDIR_PLAIN), NAMED(READDIR_END)};
	static const struct value class[] = {NAMED(INV_ATTR), NAMED(INV_DATA), NAMED(INV_NAME),
					     NAMED(INV_NAMES)};
	static const struct value inv[] = {NAMED(INV_ACK), NAMED(ACK_DEFERRED)};
	static const struct value open[] = {NAMED(OPEN_GIVE_UP)}, opened[] = {NAMED(OPEN_FLUSH)};
	static const struct value mknod[] = {NAMED(MKNOD_EMPTY)};
	static const struct value valid[] = {
	    NAMED(SET_MODE),  NAMED(SET_UID),	NAMED(SET_GID),	      NAMED(SET_SIZE),
	    NAMED(SET_ATIME), NAMED(SET_MTIME), NAMED(SET_ATIME_NOW), NAMED(SET_MTIME_NOW)};
	static const struct value write[] = {NAMED(STRIP_IDS)};
	static const struct value lock[] = {NAMED(LOCK_WAIT), NAMED(LOCK_BSD), NAMED(LOCK_CLOSE),
					     NAMED(FLUSH_GIVE_UP)};

	(void)state;
	check_values("| features of HELLO | value | meaning |", hello, COUNT(hello));
	check_values("| type of RESUME | value | items of the payload |", resume_type, COUNT(resume_type));
	check_values("| flags of RESUME | value | meaning |", resume, COUNT(resume));
	check_values("| flags of ATTR | value | meaning |", attr, COUNT(attr));
	check_values("| class of INV | value | meaning |", class, COUNT(class));
	check_values("| flags of INV and ACK | value | meaning |", inv, COUNT(inv));
	check_values("| flags of READDIRPLUS | value | meaning |", readdir, COUNT(readdir));
	check_values("| flags of OPEN and CREATE | value | meaning |", open, COUNT(open));
	check_values("| flags of an OPEN reply | value | meaning |", opened, COUNT(opened));
	check_values("| flags of a MKNOD reply | value | meaning |", mknod, COUNT(mknod));
	check_values("| valid of SETATTR | value | meaning |", valid, COUNT(valid));
	check_values("| flags of WRITE and SETATTR | value | meaning |", write, COUNT(write));
	check_values("| flags of SETLK and FLUSH | value | meaning |", lock, COUNT(lock));
}

static void test_limits(void **state)
{
	static const struct value limits[] = {
	    {"bytes of a payload", MSG_PAYLOAD_MAX},
	    {"bytes of a head", MSG_HEAD_MAX},
	    {"nesting of CBOR items", MSG_DEPTH_MAX},
	    {"bytes of a name", MSG_NAME_MAX},
	    {"requests in flight", MSG_SLOTS_MAX},
	    {"supplementary groups", MSG_GROUPS_MAX},
	    {"bytes of a plain frame", PLAIN_FRAME_MAX},
	    {"bytes of a path in a plain frame", PLAIN_PATH_MAX},
	    {"bytes of a hello that is sent", HELLO_DATA_MAX},
	    {"bytes of a hello that is taken", HELLO_TAKEN_MAX},
	    {"bytes of a refusal's reason", HELLO_REASON_MAX},
	    {"milliseconds for the answer to HELLO", HELLO_TIMEOUT_MS},
	};

	(void)state;
	check_values("| limit | value |", limits, COUNT(limits));
	assert_int_equal(MSG_DEPTH_MAX, PLAIN_DEPTH_MAX);
}

static void test_plain_operations(void **state)
{
	static const struct {
		enum plain_op op;
		const char *name;
	} ops[] = {
	    {PLAIN_LOOKUP, "lookup"},	  {PLAIN_GETATTR, "getattr"}, {PLAIN_SETATTR, "setattr"},
	    {PLAIN_READ, "read"},	  {PLAIN_WRITE, "write"},     {PLAIN_CREATE, "create"},
	    {PLAIN_MKDIR, "mkdir"},	  {PLAIN_UNLINK, "unlink"},   {PLAIN_RMDIR, "rmdir"},
	    {PLAIN_RENAME, "rename"},	  {PLAIN_OPEN, "open"},	      {PLAIN_RELEASE, "release"},
	    {PLAIN_READDIR, "readdir"},	  {PLAIN_FSYNC, "fsync"},     {PLAIN_MKDIRALL, "mkdirall"},
	    {PLAIN_TRUNCATE, "truncate"}, {PLAIN_SYMLINK, "symlink"}, {PLAIN_READLINK, "readlink"},
	    {PLAIN_LINK, "link"},	  {PLAIN_FSYNC_PATH, "fsync by path"},
	    {PLAIN_TIMES, "times"},	  {PLAIN_HELLO, "hello"},
	};
	size_t at = find_table("| op | name | takes | gives |");

	(void)state;
	for (size_t i = 0; i < COUNT(ops); i++, at++) {
		char want[64];

		(void)snprintf(want, sizeof(want), "| %d | %s |", ops[i].op, ops[i].name);
		if (strncmp(doc.line[at], want, strlen(want)) != 0)
			fail_msg("doc/protocol.md:%zu: '%s', not '%s'", at + 1, want, doc.line[at]);
	}
	check_end(at);
	assert_int_equal(PLAIN_HELLO, MSG_HELLO);
}

/* The keys of a request, in the order in which it has them. */
static void test_plain_keys(void **state)
{
	const struct plain_request q = {.op = 1,
					.path = SLICE("p"),
					.new_path = SLICE("n"),
					.fh = 1,
					.off = 1,
					.sz = 1,
					.data = SLICE("d"),
					.flags = 1,
					.mode = 1,
					.uid = 1,
					.gid = 1,
					.has_atime = true,
					.has_mtime = true};
	size_t at = find_table("| key | type | meaning |");
	struct plain_buf b = {0};
	struct item map, key, value;

	(void)state;
	assert_int_equal(plain_request_encode(&q, &b), 0);
	struct slice in = {b.data, b.len};
	assert_int_equal(item_get(&in, &map), 0);
	for (uint64_t i = 0; i < map.value; i++, at++) {
		char want[64];

		assert_int_equal(item_get(&in, &key), 0);
		assert_int_equal(item_get(&in, &value), 0);
		(void)snprintf(want, sizeof(want), "| %.*s | %s", (int)key.bytes.len,
			       (const char *)key.bytes.data,
			       value.type == ITEM_TEXT	  ? "text |"
			       : value.type == ITEM_BYTES ? "bytes |"
							  : "");
		if (strncmp(doc.line[at], want, strlen(want)) != 0)
			fail_msg("doc/protocol.md:%zu: '%s', not '%s'", at + 1, want, doc.line[at]);
	}
	check_end(at);
	plain_buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_examples),
	    cmocka_unit_test(test_fields),
	    cmocka_unit_test(test_messages),
	    cmocka_unit_test(test_reserved),
	    cmocka_unit_test(test_flags),
	    cmocka_unit_test(test_limits),
	    cmocka_unit_test(test_plain_operations),
	    cmocka_unit_test(test_plain_keys),
	};

	return cmocka_run_group_tests(tests, read_doc, free_doc);
}
