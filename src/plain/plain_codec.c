#include "plain/plain_codec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "transport/codec.h"

/* ---- modes ---- */

uint32_t plain_go_mode(uint32_t mode)
{
	uint32_t m = mode & 0777;

	switch (mode & S_IFMT) {
	case S_IFDIR:
		m |= PLAIN_MODE_DIR;
		break;
	case S_IFLNK:
		m |= PLAIN_MODE_LINK;
		break;
	case S_IFIFO:
		m |= PLAIN_MODE_FIFO;
		break;
	case S_IFSOCK:
		m |= PLAIN_MODE_SOCKET;
		break;
	case S_IFCHR:
		m |= PLAIN_MODE_DEVICE | PLAIN_MODE_CHAR;
		break;
	case S_IFBLK:
		m |= PLAIN_MODE_DEVICE;
		break;
	}
	if (mode & S_ISUID)
		m |= PLAIN_MODE_SETUID;
	if (mode & S_ISGID)
		m |= PLAIN_MODE_SETGID;
	if (mode & S_ISVTX)
		m |= PLAIN_MODE_STICKY;
	return m;
}

uint32_t plain_special_bits(uint32_t mode)
{
	return (mode & PLAIN_MODE_SETUID ? S_ISUID : 0u) |
	       (mode & PLAIN_MODE_SETGID ? S_ISGID : 0u) |
	       (mode & PLAIN_MODE_STICKY ? S_ISVTX : 0u);
}

/* ---- buffers ---- */

/* The bytes that a map takes besides those of its strings; the largest map has 13 keys. */
#define MAP_BOUND   320
#define ENTRY_BOUND 96

void plain_buf_done(struct plain_buf *b)
{
	free(b->data);
	*b = (struct plain_buf){0};
}

static int buf_reserve(struct plain_buf *b, size_t more)
{
	size_t need;

	if (__builtin_add_overflow(b->len, more, &need) || need > PLAIN_FRAME_MAX + MAP_BOUND)
		return -EMSGSIZE;
	if (need <= b->cap)
		return 0;
	size_t cap = b->cap * 2 > need ? b->cap * 2 : need;
	if (cap < 1024)
		cap = 1024;
	unsigned char *p = realloc(b->data, cap);
	if (p == NULL)
		return -ENOMEM;
	b->data = p;
	b->cap = cap;
	return 0;
}

/* A writer at the end of b; put_done adds the written bytes to b. */
static struct item_writer put_begin(struct plain_buf *b)
{
	return (struct item_writer){b->data, b->cap, b->len, true};
}

static int put_done(struct plain_buf *b, const struct item_writer *w)
{
	if (!w->ok || w->len > PLAIN_FRAME_MAX)
		return -EMSGSIZE;
	b->len = w->len;
	return 0;
}

/* ---- encoding ---- */

static void put_key(struct item_writer *w, const char *key)
{
	item_put_text(w, (struct slice){key, strlen(key)});
}

static void put_uint_key(struct item_writer *w, const char *key, uint64_t v)
{
	put_key(w, key);
	item_put_uint(w, v);
}

static void put_int_key(struct item_writer *w, const char *key, int64_t v)
{
	put_key(w, key);
	item_put_int(w, v);
}

static void put_bool_key(struct item_writer *w, const char *key, bool v)
{
	put_key(w, key);
	item_put_bool(w, v);
}

static void put_uint_nonzero(struct item_writer *w, const char *key, uint64_t v)
{
	if (v != 0)
		put_uint_key(w, key, v);
}

static void put_text_nonempty(struct item_writer *w, const char *key, struct slice s)
{
	if (s.len == 0)
		return;
	put_key(w, key);
	item_put_text(w, s);
}

static void put_bytes_nonempty(struct item_writer *w, const char *key, struct slice s)
{
	if (s.len == 0)
		return;
	put_key(w, key);
	item_put_bytes(w, s);
}

int plain_request_encode(const struct plain_request *q, struct plain_buf *b)
{
	if (q->path.len > PLAIN_PATH_MAX || q->new_path.len > PLAIN_PATH_MAX ||
	    q->data.len > PLAIN_FRAME_MAX)
		return -EMSGSIZE;
	b->len = 0;
	int r = buf_reserve(b, MAP_BOUND + q->path.len + q->new_path.len + q->data.len);
	if (r < 0)
		return r;
	struct item_writer w = put_begin(b);
	item_put_map(&w, 1 + (size_t)((q->path.len != 0) + (q->new_path.len != 0) + (q->fh != 0) +
				      (q->off != 0) + (q->sz != 0) + (q->data.len != 0) +
				      (q->flags != 0) + (q->mode != 0) + (q->uid != 0) +
				      (q->gid != 0) + q->has_atime + q->has_mtime));
	put_uint_key(&w, "op", q->op);
	put_text_nonempty(&w, "path", q->path);
	put_text_nonempty(&w, "new_path", q->new_path);
	put_uint_nonzero(&w, "fh", q->fh);
	if (q->off != 0)
		put_int_key(&w, "off", q->off);
	put_uint_nonzero(&w, "sz", q->sz);
	put_bytes_nonempty(&w, "data", q->data);
	put_uint_nonzero(&w, "flags", q->flags);
	put_uint_nonzero(&w, "mode", q->mode);
	put_uint_nonzero(&w, "uid", q->uid);
	put_uint_nonzero(&w, "gid", q->gid);
	if (q->has_atime)
		put_int_key(&w, "atime_ns", q->atime_ns);
	if (q->has_mtime)
		put_int_key(&w, "mtime_ns", q->mtime_ns);
	return put_done(b, &w);
}

static void put_stat(struct item_writer *w, const struct plain_stat *st)
{
	item_put_map(w, 4 + (size_t)((st->ino != 0) + (st->uid != 0) + (st->gid != 0)));
	put_int_key(w, "size", st->size);
	put_uint_key(w, "mode", st->mode);
	put_int_key(w, "mtime", st->mtime);
	put_bool_key(w, "is_dir", st->is_dir);
	put_uint_nonzero(w, "ino", st->ino);
	put_uint_nonzero(w, "uid", st->uid);
	put_uint_nonzero(w, "gid", st->gid);
}

int plain_entry_put(struct plain_buf *b, const struct plain_entry *e)
{
	int r = buf_reserve(b, ENTRY_BOUND + e->name.len);

	if (r < 0)
		return r;
	struct item_writer w = put_begin(b);
	item_put_map(&w, e->ino != 0 ? 5 : 4);
	put_key(&w, "name");
	item_put_text(&w, e->name);
	put_bool_key(&w, "is_dir", e->is_dir);
	put_uint_key(&w, "mode", e->mode);
	put_int_key(&w, "size", e->size);
	put_uint_nonzero(&w, "ino", e->ino);
	return put_done(b, &w);
}

int plain_reply_encode(const struct plain_reply *p, struct plain_buf *b)
{
	if (p->data.len > PLAIN_FRAME_MAX || p->entries.len > PLAIN_FRAME_MAX)
		return -EMSGSIZE;
	b->len = 0;
	int r = buf_reserve(b, MAP_BOUND + p->data.len + p->entries.len);
	if (r < 0)
		return r;
	struct item_writer w = put_begin(b);
	item_put_map(&w, 1 + (size_t)(p->has_stat + (p->data.len != 0) + (p->written != 0) +
				      (p->fh != 0) + (p->entry_count != 0)));
	put_int_key(&w, "err", p->err);
	if (p->has_stat) {
		put_key(&w, "stat");
		put_stat(&w, &p->stat);
	}
	put_bytes_nonempty(&w, "data", p->data);
	put_uint_nonzero(&w, "written", p->written);
	put_uint_nonzero(&w, "fh", p->fh);
	if (p->entry_count != 0) {
		put_key(&w, "entries");
		item_put_array(&w, p->entry_count);
		if (w.ok) {
			memcpy(w.buf + w.len, p->entries.data, p->entries.len);
			w.len += p->entries.len;
		}
	}
	return put_done(b, &w);
}

/* ---- decoding ---- */

#define MALFORMED(why_, text) (*(why_) = (text), -EPROTO)

/* An unsigned integer of a Go type with this largest value; null is zero. */
static int get_uint(struct slice *in, uint64_t max, uint64_t *ret)
{
	struct item it;

	if (item_get(in, &it) < 0)
		return -EPROTO;
	if (it.type == ITEM_NULL)
		it.value = 0;
	else if (it.type != ITEM_UINT || it.value > max)
		return -EPROTO;
	*ret = it.value;
	return 0;
}

static int get_u32(struct slice *in, uint32_t *ret)
{
	uint64_t v;
	int r = get_uint(in, UINT32_MAX, &v);

	if (r == 0)
		*ret = (uint32_t)v;
	return r;
}

static int get_int(struct slice *in, int64_t min, int64_t max, int64_t *ret)
{
	struct item it;
	int64_t v;

	if (item_get(in, &it) < 0)
		return -EPROTO;
	if (it.type == ITEM_NULL)
		v = 0;
	else if (it.type == ITEM_UINT && it.value <= INT64_MAX)
		v = (int64_t)it.value;
	else if (it.type == ITEM_NEGINT && it.value <= INT64_MAX)
		v = -1 - (int64_t)it.value;
	else
		return -EPROTO;
	if (v < min || v > max)
		return -EPROTO;
	*ret = v;
	return 0;
}

static int get_i64(struct slice *in, int64_t *ret)
{
	return get_int(in, INT64_MIN, INT64_MAX, ret);
}

/* Null means that there is no time, which is not the same as the epoch. */
static int get_time(struct slice *in, bool *ret_has, int64_t *ret)
{
	struct slice at = *in;
	struct item it;
	int r = get_i64(in, ret);

	*ret_has = r == 0 && item_get(&at, &it) == 0 && it.type != ITEM_NULL;
	return r;
}

static int get_bool(struct slice *in, bool *ret)
{
	struct item it;

	if (item_get(in, &it) < 0 || (it.type != ITEM_BOOL && it.type != ITEM_NULL))
		return -EPROTO;
	*ret = it.type == ITEM_BOOL && it.value != 0;
	return 0;
}

static int get_string(struct slice *in, enum item_type type, struct slice *ret)
{
	struct item it;

	if (item_get(in, &it) < 0 || (it.type != type && it.type != ITEM_NULL))
		return -EPROTO;
	*ret = it.type == type ? it.bytes : (struct slice){NULL, 0};
	return 0;
}

static int get_path(struct slice *in, struct slice *ret, bool *ret_bad)
{
	if (get_string(in, ITEM_TEXT, ret) < 0 || ret->len > PLAIN_PATH_MAX)
		return -EPROTO;
	if (!utf8_valid(*ret))
		*ret_bad = true;
	return 0;
}

/*
 * Takes the next key of a map: *ret is its index in keys, or -1 for an unknown key,
 * whose value has then been passed over. -EPROTO: malformed, or the key came twice.
 */
static int get_key(struct slice *in, const char *const *keys, unsigned *seen, int *ret,
		   const char **why)
{
	struct slice at = *in;
	struct item it;

	*ret = -1;
	if (item_get(&at, &it) < 0)
		return MALFORMED(why, "a key is malformed");
	if (it.type == ITEM_TEXT) {
		for (int i = 0; keys[i] != NULL && *ret < 0; i++)
			if (strlen(keys[i]) == it.bytes.len &&
			    memcmp(keys[i], it.bytes.data, it.bytes.len) == 0)
				*ret = i;
	}
	if (*ret < 0) {
		if (it.type == ITEM_TEXT && !utf8_valid(it.bytes))
			return MALFORMED(why, "a key that is not UTF-8");
		if (item_skip(in, PLAIN_DEPTH_MAX) < 0 || item_skip(in, PLAIN_DEPTH_MAX) < 0)
			return MALFORMED(why, "an unknown key or its value is malformed");
		return 0;
	}
	*in = at;
	if (*seen & 1u << *ret)
		return MALFORMED(why, "a key comes twice");
	*seen |= 1u << *ret;
	return 0;
}

static int get_map(struct slice *in, uint64_t *ret_pairs, const char **why)
{
	struct item it;

	if (item_get(in, &it) < 0 || it.type != ITEM_MAP)
		return MALFORMED(why, "not a map of definite length");
	*ret_pairs = it.value;
	return 0;
}

int plain_request_decode(const void *frame, size_t len, struct plain_request *ret,
			 const char **ret_why)
{
	static const char *const keys[] = {"op",  "path",     "new_path", "fh",	  "off",
					   "sz",  "data",     "flags",	  "mode", "uid",
					   "gid", "atime_ns", "mtime_ns", NULL};
	struct slice in = {frame, len};
	struct plain_request q = {0};
	uint64_t pairs;
	unsigned seen = 0;
	int r = get_map(&in, &pairs, ret_why);

	for (uint64_t i = 0; r == 0 && i < pairs; i++) {
		int key;

		r = get_key(&in, keys, &seen, &key, ret_why);
		if (r < 0 || key < 0)
			continue;
		switch (key) {
		case 0:
			r = get_u32(&in, &q.op);
			break;
		case 1:
			r = get_path(&in, &q.path, &q.bad_text);
			break;
		case 2:
			r = get_path(&in, &q.new_path, &q.bad_text);
			break;
		case 3:
			r = get_uint(&in, UINT64_MAX, &q.fh);
			break;
		case 4:
			r = get_i64(&in, &q.off);
			break;
		case 5:
			r = get_u32(&in, &q.sz);
			break;
		case 6:
			r = get_string(&in, ITEM_BYTES, &q.data);
			break;
		case 7:
			r = get_u32(&in, &q.flags);
			break;
		case 8:
			r = get_u32(&in, &q.mode);
			break;
		case 9:
			r = get_u32(&in, &q.uid);
			break;
		case 10:
			r = get_u32(&in, &q.gid);
			break;
		case 11:
			r = get_time(&in, &q.has_atime, &q.atime_ns);
			break;
		case 12:
			r = get_time(&in, &q.has_mtime, &q.mtime_ns);
			break;
		}
		if (r < 0)
			return MALFORMED(ret_why, "a request's field is of the wrong type or size");
	}
	if (r < 0)
		return r;
	if (!(seen & 1))
		return MALFORMED(ret_why, "a request without op");
	if (in.len != 0)
		return MALFORMED(ret_why, "bytes behind the request");
	*ret = q;
	return 0;
}

static int get_stat(struct slice *in, struct plain_reply *p, const char **why)
{
	static const char *const keys[] = {"size", "mode", "mtime", "is_dir",
					   "ino",  "uid",  "gid",   NULL};
	struct plain_stat *st = &p->stat;
	struct slice at = *in;
	struct item it;
	uint64_t pairs;
	unsigned seen = 0;

	if (item_get(&at, &it) == 0 && it.type == ITEM_NULL) {
		*in = at;
		return 0;
	}
	int r = get_map(in, &pairs, why);
	for (uint64_t i = 0; r == 0 && i < pairs; i++) {
		int key;

		r = get_key(in, keys, &seen, &key, why);
		if (r < 0 || key < 0)
			continue;
		switch (key) {
		case 0:
			r = get_int(in, 0, INT64_MAX, &st->size);
			break;
		case 1:
			r = get_u32(in, &st->mode);
			break;
		case 2:
			r = get_i64(in, &st->mtime);
			break;
		case 3:
			r = get_bool(in, &st->is_dir);
			break;
		case 4:
			r = get_uint(in, UINT64_MAX, &st->ino);
			break;
		case 5:
			r = get_u32(in, &st->uid);
			break;
		case 6:
			r = get_u32(in, &st->gid);
			break;
		}
		if (r < 0)
			return MALFORMED(why, "a stat's field is of the wrong type or size");
	}
	p->has_stat = r == 0;
	st->has_ids = (seen & (1u << 5 | 1u << 6)) != 0;
	return r;
}

int plain_entry_next(struct slice *in, struct plain_entry *ret, const char **ret_why)
{
	static const char *const keys[] = {"name", "is_dir", "mode", "size", "ino", NULL};
	struct plain_entry e = {0};
	uint64_t pairs;
	unsigned seen = 0;

	if (in->len == 0)
		return 0;
	int r = get_map(in, &pairs, ret_why);
	for (uint64_t i = 0; r == 0 && i < pairs; i++) {
		int key;

		r = get_key(in, keys, &seen, &key, ret_why);
		if (r < 0 || key < 0)
			continue;
		switch (key) {
		case 0:
			r = get_string(in, ITEM_TEXT, &e.name);
			break;
		case 1:
			r = get_bool(in, &e.is_dir);
			break;
		case 2:
			r = get_u32(in, &e.mode);
			break;
		case 3:
			r = get_i64(in, &e.size);
			break;
		case 4:
			r = get_uint(in, UINT64_MAX, &e.ino);
			break;
		}
		if (r < 0)
			return MALFORMED(ret_why, "an entry's field is of the wrong type or size");
	}
	if (r < 0)
		return r;
	*ret = e;
	return 1;
}

static int get_entries(struct slice *in, struct plain_reply *p, const char **why)
{
	struct item it;

	if (item_get(in, &it) < 0 || (it.type != ITEM_ARRAY && it.type != ITEM_NULL))
		return MALFORMED(why, "entries are no array");
	if (it.type == ITEM_NULL)
		return 0;
	struct slice at = *in;
	for (uint64_t i = 0; i < it.value; i++) {
		struct plain_entry e;
		int r = plain_entry_next(&at, &e, why);

		if (r <= 0)
			return r < 0 ? r : MALFORMED(why, "fewer entries than announced");
	}
	p->entry_count = (size_t)it.value;
	p->entries = (struct slice){in->data, in->len - at.len};
	*in = at;
	return 0;
}

int plain_reply_decode(const void *frame, size_t len, struct plain_reply *ret, const char **ret_why)
{
	static const char *const keys[] = {"err", "stat", "data", "written", "fh", "entries", NULL};
	struct slice in = {frame, len};
	struct plain_reply p = {0};
	uint64_t pairs;
	unsigned seen = 0;
	int r = get_map(&in, &pairs, ret_why);

	for (uint64_t i = 0; r == 0 && i < pairs; i++) {
		int64_t err = 0;
		int key;

		r = get_key(&in, keys, &seen, &key, ret_why);
		if (r < 0 || key < 0)
			continue;
		switch (key) {
		case 0:
			r = get_int(&in, INT32_MIN, INT32_MAX, &err);
			p.err = (int32_t)err;
			break;
		case 1:
			r = get_stat(&in, &p, ret_why);
			if (r < 0)
				return r;
			break;
		case 2:
			r = get_string(&in, ITEM_BYTES, &p.data);
			break;
		case 3:
			r = get_u32(&in, &p.written);
			break;
		case 4:
			r = get_uint(&in, UINT64_MAX, &p.fh);
			break;
		case 5:
			r = get_entries(&in, &p, ret_why);
			if (r < 0)
				return r;
			break;
		}
		if (r < 0)
			return MALFORMED(ret_why, "a reply's field is of the wrong type or size");
	}
	if (r < 0)
		return r;
	if (!(seen & 1))
		return MALFORMED(ret_why, "a reply without err");
	if (in.len != 0)
		return MALFORMED(ret_why, "bytes behind the reply");
	*ret = p;
	return 0;
}
