/*
 * A cache under promises for the tests: the fake backend pushes, what the
 * kernel would be told is recorded, and the times are long enough to be told
 * apart.
 */
#pragma once

#include "cache_fake.h"

#include <fcntl.h>
#include <sys/stat.h>

#define SECOND	  UINT64_C(1000000000)
#define ATTR_TTL  (1 * SECOND)
#define ENTRY_TTL (2 * SECOND)
#define NEG_TTL	  (3 * SECOND)
#define ATTR_CAP  (100 * SECOND)
#define ENTRY_CAP (200 * SECOND)
#define NEG_CAP	  (50 * SECOND)
#define DIR_CAP	  (300 * SECOND)
#define TICK_NS	  (UINT64_C(1) << TICK_SHIFT) /* names are kept to that */

#define NO_STAMP UINT64_MAX

/* ---- what the kernel is told ---- */

enum told_kind { TOLD_ATTR, TOLD_DATA, TOLD_SETTLE, TOLD_SIZE, TOLD_ENTRY, TOLD_UNPARK, TOLD_MARK };

struct told {
	enum told_kind kind;
	uint64_t ino; /* of a mark: seq */
	char name[32];
	size_t len;
	enum entry_way way;
	uint64_t changed_at;
	uint32_t task;	 /* to go on before something is settled, */
	uint64_t of;	 /* of what is to be settled: the node and */
	uint32_t serial;
};

struct world {
	struct fake *f;
	struct cache *c;
	struct stats *stats;
	uint64_t version, seq;
	struct told *told;
	size_t n_told, told_cap;
	bool full; /* the sink's queue */
};

static inline void tell(struct world *w, struct told t)
{
	if (w->n_told == w->told_cap) {
		w->told_cap = w->told_cap * 2 + 64;
		w->told = realloc(w->told, w->told_cap * sizeof(*w->told));
		assert_non_null(w->told);
	}
	t.changed_at = cache_changed_at(w->c);
	w->told[w->n_told++] = t;
}

static inline void sink_inode(void *arg, uint64_t ino, bool data)
{
	tell(arg, (struct told){.kind = data ? TOLD_DATA : TOLD_ATTR, .ino = ino});
}

static inline void sink_settle(void *arg, uint64_t ino, uint32_t serial, uint32_t task,
			       uint64_t parent, const char *name, size_t len)
{
	struct told t = {.kind = TOLD_SETTLE,
			 .ino = parent,
			 .len = len,
			 .of = ino,
			 .serial = serial,
			 .task = task};

	memcpy(t.name, name, len < sizeof(t.name) ? len : sizeof(t.name) - 1);
	tell(arg, t);
}

static inline void sink_size(void *arg, uint64_t ino)
{
	tell(arg, (struct told){.kind = TOLD_SIZE, .ino = ino});
}

static inline void sink_entry(void *arg, uint64_t parent, const char *name, size_t len,
			      enum entry_way way)
{
	struct told t = {.kind = TOLD_ENTRY, .ino = parent, .len = len, .way = way};

	memcpy(t.name, name, len < sizeof(t.name) ? len : sizeof(t.name) - 1);
	tell(arg, t);
}

static inline void sink_unpark(void *arg, uint64_t parent)
{
	tell(arg, (struct told){.kind = TOLD_UNPARK, .ino = parent});
}

static inline void sink_mark(void *arg, uint64_t seq)
{
	tell(arg, (struct told){.kind = TOLD_MARK, .ino = seq});
}

static inline bool sink_full(void *arg)
{
	return ((const struct world *)arg)->full;
}

static const struct cache_sink recording_sink = {
    .inode = sink_inode,
    .settle = sink_settle,
    .size = sink_size,
    .entry = sink_entry,
    .full = sink_full,
    .unpark = sink_unpark,
    .mark = sink_mark,
};

/* How often the kernel was told this since the last told_clear; name NULL: whatever name. */
static inline size_t told(const struct world *w, enum told_kind kind, uint64_t ino,
			  const char *name)
{
	size_t n = 0;

	for (size_t i = 0; i < w->n_told; i++) {
		const struct told *t = &w->told[i];

		n += t->kind == kind && t->ino == ino &&
		     (name == NULL || (t->len == strlen(name) && memcmp(t->name, name, t->len) == 0));
	}
	return n;
}

static inline void told_clear(struct world *w)
{
	w->n_told = 0;
}

/* ---- the world ---- */

static inline struct cache_options lease_options(void)
{
	return (struct cache_options){
	    .ttl = {.attr = ATTR_TTL, .entry = ENTRY_TTL, .negative = NEG_TTL},
	    .cap = {.attr = ATTR_CAP, .entry = ENTRY_CAP, .negative = NEG_CAP, .dir = DIR_CAP},
	    .page_budget = 1 << 20,
	    .node_budget = 1000,
	};
}

/* A server that does not watch the host pushes what other clients change. */
static inline struct world *world_watched(struct cache_options options, bool watch)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->f = fake_new();
	w->f->base.info.push = true;
	w->f->base.info.watch = watch;
	assert_int_equal(stats_new(NULL, &w->stats), 0);
	options.stats = w->stats;
	assert_int_equal(cache_new(&w->f->base, &options, &w->c), 0);
	assert_int_equal(cache_leased(w->c), watch);
	cache_set_sink(w->c, &recording_sink, w);
	w->version = 100;
	w->seq = 10;
	return w;
}

static inline struct world *world_with(struct cache_options options)
{
	return world_watched(options, true);
}

static inline struct world *world_new(void)
{
	return world_with(lease_options());
}

static inline void world_free(struct world *w)
{
	cache_free(w->c);
	assert_null(w->f->pushed);
	fake_free(w->f);
	stats_free(w->stats);
	free(w->told);
	free(w);
}

/* Every reference that the kernel may have comes back. */
static inline void forget_all(struct world *w, uint64_t ino)
{
	cache_forget(w->c, ino, UINT64_MAX);
	cache_forget_flush(w->c);
}

/* ---- replies ---- */

static inline struct attr attr_now(struct world *w, uint32_t mode, uint64_t size)
{
	return (struct attr){.version = ++w->version,
			     .ino = 5000 + size,
			     .mode = mode,
			     .nlink = 1,
			     .size = size,
			     .rdev = UINT64_C(8) << 32 | 17};
}

static inline struct msg reply_stamp(uint64_t stamp)
{
	struct msg m = {0};

	if (stamp != NO_STAMP)
		MSG_SET(&m, stamp, stamp);
	return m;
}

static inline struct msg reply_attr(struct world *w, uint64_t stamp, uint32_t mode, uint64_t size)
{
	struct msg m = reply_stamp(stamp);

	MSG_SET(&m, attr, attr_now(w, mode, size));
	return m;
}

static inline struct msg reply_node(struct world *w, uint64_t stamp, uint64_t node, uint32_t mode,
				    uint64_t size)
{
	struct msg m = reply_attr(w, stamp, mode, size);

	MSG_SET(&m, node, node);
	return m;
}

static inline struct msg reply_err(uint64_t stamp, uint64_t err)
{
	struct msg m = reply_stamp(stamp);

	MSG_SET(&m, err, err);
	return m;
}

/* ---- requests ---- */

static inline struct asked *ask_name(struct world *w, enum msg_op op, uint64_t ino,
				     const char *name)
{
	struct asked *a = asked_new(op);

	MSG_SET(&a->req.call.req, name, ((struct slice){name, strlen(name)}));
	cache_submit(w->c, &a->req, ino, 0);
	return a;
}

static inline struct asked *ask_rename(struct world *w, uint64_t ino, const char *name,
				       uint64_t ino2, const char *name2, uint64_t flags)
{
	struct asked *a = asked_new(MSG_RENAME);

	MSG_SET(&a->req.call.req, name, ((struct slice){name, strlen(name)}));
	MSG_SET(&a->req.call.req, name2, ((struct slice){name2, strlen(name2)}));
	MSG_SET(&a->req.call.req, flags, flags);
	cache_submit(w->c, &a->req, ino, ino2);
	return a;
}

/* Answers and frees. */
static inline void done_with(struct world *w, struct asked *a, struct msg m)
{
	answer(w->f, a, &m);
	free(a);
}

/* A LOOKUP that goes to the server and leads to the node; its FUSE id. */
static inline uint64_t look_up(struct world *w, uint64_t dir, const char *name, uint64_t node,
			       uint32_t mode, uint64_t stamp)
{
	struct asked *a = ask_name(w, MSG_LOOKUP, dir, name);
	struct msg m = reply_node(w, stamp, node, mode, node);

	answer(w->f, a, &m);
	assert_int_equal(a->reply.err, 0);
	uint64_t ino = a->reply.ino;
	free(a);
	return ino;
}

static inline uint64_t look_up_file(struct world *w, const char *name, uint64_t node)
{
	return look_up(w, CACHE_ROOT, name, node, S_IFREG | 0644, w->seq);
}

static inline uint64_t look_up_dir(struct world *w, const char *name, uint64_t node)
{
	return look_up(w, CACHE_ROOT, name, node, S_IFDIR | 0755, w->seq);
}

static inline void look_up_absent(struct world *w, uint64_t dir, const char *name, uint64_t stamp)
{
	done_with(w, ask_name(w, MSG_LOOKUP, dir, name), reply_err(stamp, ENOENT));
}

#define UNKNOWN UINT64_MAX
#define ABSENT	0

/* What a LOOKUP is answered without the server: a FUSE id, ABSENT, or UNKNOWN: not at all. */
static inline uint64_t known_name(struct world *w, uint64_t dir, const char *name)
{
	uint64_t before = stats_get(w->stats, STAT_cache_name_hits);
	struct asked *a = ask_name(w, MSG_LOOKUP, dir, name);
	uint64_t ret = UNKNOWN;

	if (a->completions == 0) {
		answer_err(w->f, a, EIO);
	} else {
		assert_true(a->local);
		assert_true(a->reply.entry_ttl > 0);
		assert_int_equal(stats_get(w->stats, STAT_cache_name_hits), before + 1);
		if (a->reply.err == 0) {
			assert_true(a->reply.attr_ttl > 0);
			ret = a->reply.ino;
			cache_forget(w->c, ret, 1); /* as if nobody had asked */
		} else {
			assert_int_equal(a->reply.err, ENOENT);
			ret = ABSENT;
		}
	}
	free(a);
	return ret;
}

/* What a GETATTR is answered without the server: the size, or UNKNOWN. */
static inline uint64_t known_size(struct world *w, uint64_t ino)
{
	struct asked *a = ask(w->c, MSG_GETATTR, ino);
	uint64_t ret = UNKNOWN;

	if (a->completions == 0) {
		answer_err(w->f, a, EIO);
	} else {
		assert_int_equal(a->reply.err, 0);
		assert_true(a->from_cache && a->reply.attr_ttl > 0);
		ret = a->attr.size;
	}
	free(a);
	return ret;
}

/* ---- pushes ---- */

static inline void push_payload(struct world *w, enum msg_op op, uint64_t seq, uint64_t flags,
				const void *data, size_t len)
{
	unsigned char *copy = unit_copy(data, len);
	struct msg m = {0};

	MSG_SET(&m, op, op);
	MSG_SET(&m, seq, seq);
	if (flags != 0)
		MSG_SET(&m, flags, flags);
	MSG_SET(&m, payload, ((struct slice){copy, len}));
	w->f->pushed(w->f->pushed_arg, &m);
	free(copy);
}

static inline void push_item(struct world *w, uint64_t seq, uint64_t flags, uint64_t node,
			     uint64_t class, const char *name)
{
	struct inv_item i = {.node = node, .class = class};
	unsigned char buf[512];

	if (name != NULL)
		i.name = (struct slice){name, strlen(name)};
	push_payload(w, MSG_INV, seq, flags, buf, codec_put_inv(&i, buf, sizeof(buf)));
}

/* The next invalidation; its number. */
static inline uint64_t inv(struct world *w, uint64_t node, uint64_t class)
{
	push_item(w, ++w->seq, 0, node, class, NULL);
	return w->seq;
}

static inline uint64_t inv_name(struct world *w, uint64_t node, const char *name)
{
	push_item(w, ++w->seq, 0, node, INV_NAME, name);
	return w->seq;
}

static inline uint64_t reset(struct world *w)
{
	push_payload(w, MSG_RESET, ++w->seq, 0, "", 0);
	return w->seq;
}
