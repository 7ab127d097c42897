#include "transport/codec.h"

#include <cbor.h>
#include <errno.h>
#include <string.h>

/* ---- items: reading ---- */

static void got_uint(struct item *it, uint64_t v)
{
	it->type = ITEM_UINT;
	it->value = v;
}
static void got_uint8(void *c, uint8_t v)
{
	got_uint(c, v);
}
static void got_uint16(void *c, uint16_t v)
{
	got_uint(c, v);
}
static void got_uint32(void *c, uint32_t v)
{
	got_uint(c, v);
}
static void got_uint64(void *c, uint64_t v)
{
	got_uint(c, v);
}
static void got_negint(struct item *it, uint64_t v)
{
	it->type = ITEM_NEGINT;
	it->value = v;
}
static void got_negint8(void *c, uint8_t v)
{
	got_negint(c, v);
}
static void got_negint16(void *c, uint16_t v)
{
	got_negint(c, v);
}
static void got_negint32(void *c, uint32_t v)
{
	got_negint(c, v);
}
static void got_negint64(void *c, uint64_t v)
{
	got_negint(c, v);
}
static void got_bytes(void *c, cbor_data data, size_t len)
{
	struct item *it = c;

	it->type = ITEM_BYTES;
	it->bytes = (struct slice){data, len};
}
static void got_text(void *c, cbor_data data, size_t len)
{
	struct item *it = c;

	it->type = ITEM_TEXT;
	it->bytes = (struct slice){data, len};
}
static void got_array(void *c, size_t n)
{
	struct item *it = c;

	it->type = ITEM_ARRAY;
	it->value = n;
}
static void got_map(void *c, size_t n)
{
	struct item *it = c;

	it->type = ITEM_MAP;
	it->value = n;
}
static void got_bool(void *c, bool v)
{
	struct item *it = c;

	it->type = ITEM_BOOL;
	it->value = v;
}
static void got_null(void *c)
{
	struct item *it = c;

	it->type = ITEM_NULL;
}

/*
 * Looks at an item's initial byte and length before the decoder does: libcbor
 * 0.8 reports an impossible length as "need more data" with a wrapped count,
 * and takes indefinite lengths, non-shortest integers, tags and floats.
 * Returns the bytes of initial byte, length and string contents; 0 if the
 * item is of a kind that no message has, or ends beyond the input.
 */
static size_t item_span(struct slice in)
{
	const unsigned char *p = in.data;
	size_t extra;
	uint64_t value = 0;

	if (in.len == 0)
		return 0;
	unsigned major = p[0] >> 5, info = p[0] & 31;
	if (major == 6) /* tag */
		return 0;
	if (major == 7) /* false, true, null */
		return info >= 20 && info <= 22 ? 1 : 0;
	if (info < 24) {
		extra = 0;
		value = info;
	} else if (info < 28) {
		extra = (size_t)1 << (info - 24);
		if (in.len - 1 < extra)
			return 0;
		for (size_t i = 0; i < extra; i++)
			value = value << 8 | p[1 + i];
		static const uint64_t least[] = {24, 1u << 8, 1u << 16, UINT64_C(1) << 32};
		if (value < least[info - 24])
			return 0;
	} else {
		return 0; /* reserved or indefinite */
	}
	size_t left = in.len - 1 - extra;
	switch (major) {
	case 0:
	case 1:
		return 1 + extra;
	case 2:
	case 3:
		return value <= left ? 1 + extra + (size_t)value : 0;
	case 4: /* an item takes at least one byte, a pair two */
		return value <= left ? 1 + extra : 0;
	default:
		return value <= left / 2 ? 1 + extra : 0;
	}
}

int item_get(struct slice *in, struct item *ret)
{
	static const struct cbor_callbacks callbacks = {
		.uint8 = got_uint8,
		.uint16 = got_uint16,
		.uint32 = got_uint32,
		.uint64 = got_uint64,
		.negint8 = got_negint8,
		.negint16 = got_negint16,
		.negint32 = got_negint32,
		.negint64 = got_negint64,
		.byte_string = got_bytes,
		.string = got_text,
		.array_start = got_array,
		.map_start = got_map,
		.boolean = got_bool,
		.null = got_null,
	};
	size_t span = item_span(*in);

	if (span == 0)
		return -EPROTO;
	memset(ret, 0, sizeof(*ret));
	struct cbor_decoder_result r = cbor_stream_decode(in->data, span, &callbacks, ret);
	if (r.status != CBOR_DECODER_FINISHED || r.read != span)
		return -EPROTO;
	in->data = (const unsigned char *)in->data + span;
	in->len -= span;
	return 0;
}

int item_skip(struct slice *in, unsigned depth)
{
	struct item it;
	int r = item_get(in, &it);

	if (r < 0)
		return r;
	if (it.type != ITEM_ARRAY && it.type != ITEM_MAP)
		return 0;
	if (depth == 0)
		return -EPROTO;
	uint64_t n = it.type == ITEM_MAP ? it.value * 2 : it.value; /* bounded by the bytes left */
	for (uint64_t i = 0; i < n && r == 0; i++)
		r = item_skip(in, depth - 1);
	return r;
}

bool utf8_valid(struct slice s)
{
	if (s.len == 0) /* data may be NULL */
		return true;
	const unsigned char *p = s.data, *end = p + s.len;

	while (p < end) {
		unsigned c = *p++;
		unsigned more, least;

		if (c < 0x80)
			continue;
		if (c >= 0xc2 && c <= 0xdf) {
			more = 1, least = 0x80, c &= 0x1f;
		} else if (c >= 0xe0 && c <= 0xef) {
			more = 2, least = 0x800, c &= 0x0f;
		} else if (c >= 0xf0 && c <= 0xf4) {
			more = 3, least = 0x10000, c &= 0x07;
		} else {
			return false;
		}
		if ((size_t)(end - p) < more)
			return false;
		for (; more > 0; more--, p++) {
			if ((*p & 0xc0) != 0x80)
				return false;
			c = c << 6 | (*p & 0x3f);
		}
		if (c < least || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
			return false;
	}
	return true;
}

/* ---- items: writing ---- */

static void item_wrote(struct item_writer *w, size_t n)
{
	if (n == 0)
		w->ok = false;
	else
		w->len += n;
}

#define ITEM_ROOM(w) (w)->buf + (w)->len, (w)->ok ? (w)->cap - (w)->len : 0

void item_put_uint(struct item_writer *w, uint64_t v)
{
	item_wrote(w, cbor_encode_uint(v, ITEM_ROOM(w)));
}

void item_put_int(struct item_writer *w, int64_t v)
{
	if (v >= 0)
		item_put_uint(w, (uint64_t)v);
	else
		item_wrote(w, cbor_encode_negint((uint64_t)(-1 - v), ITEM_ROOM(w)));
}

static void put_raw(struct item_writer *w, struct slice s)
{
	if (!w->ok || w->cap - w->len < s.len) {
		w->ok = false;
		return;
	}
	if (s.len > 0)
		memcpy(w->buf + w->len, s.data, s.len);
	w->len += s.len;
}

void item_put_bytes(struct item_writer *w, struct slice s)
{
	item_wrote(w, cbor_encode_bytestring_start(s.len, ITEM_ROOM(w)));
	put_raw(w, s);
}

void item_put_text(struct item_writer *w, struct slice s)
{
	item_wrote(w, cbor_encode_string_start(s.len, ITEM_ROOM(w)));
	put_raw(w, s);
}

void item_put_array(struct item_writer *w, size_t n)
{
	item_wrote(w, cbor_encode_array_start(n, ITEM_ROOM(w)));
}

void item_put_map(struct item_writer *w, size_t n)
{
	item_wrote(w, cbor_encode_map_start(n, ITEM_ROOM(w)));
}

void item_put_bool(struct item_writer *w, bool v)
{
	item_wrote(w, cbor_encode_bool(v, ITEM_ROOM(w)));
}

/* ---- fields ---- */

static int get_typed(struct slice *in, enum item_type type, struct item *it)
{
	int r = item_get(in, it);

	return r < 0 ? r : it->type == type ? 0 : -EPROTO;
}

static int get_UINT(struct slice *in, uint64_t *ret)
{
	struct item it;
	int r = get_typed(in, ITEM_UINT, &it);

	if (r == 0)
		*ret = it.value;
	return r;
}

static int get_u32(struct slice *in, uint32_t *ret)
{
	uint64_t v;
	int r = get_UINT(in, &v);

	if (r < 0 || v > UINT32_MAX)
		return -EPROTO;
	*ret = (uint32_t)v;
	return 0;
}

static int get_i64(struct slice *in, int64_t *ret)
{
	struct item it;
	int r = item_get(in, &it);

	if (r < 0 || it.value > INT64_MAX)
		return -EPROTO;
	if (it.type == ITEM_UINT)
		*ret = (int64_t)it.value;
	else if (it.type == ITEM_NEGINT)
		*ret = -1 - (int64_t)it.value;
	else
		return -EPROTO;
	return 0;
}

static int get_array(struct slice *in, size_t n)
{
	struct item it;
	int r = get_typed(in, ITEM_ARRAY, &it);

	return r < 0 ? r : it.value == n ? 0 : -EPROTO;
}

static int get_BYTES(struct slice *in, struct slice *ret)
{
	struct item it;
	int r = get_typed(in, ITEM_BYTES, &it);

	if (r == 0)
		*ret = it.bytes;
	return r;
}

static int get_seconds(struct slice *in, struct msg_time *ret)
{
	int r = get_i64(in, &ret->sec);

	if (r == 0)
		r = get_u32(in, &ret->nsec);
	return r < 0 || ret->nsec > 999999999 ? -EPROTO : 0;
}

static int get_TIME(struct slice *in, struct msg_time *ret)
{
	int r = get_array(in, 2);

	return r < 0 ? r : get_seconds(in, ret);
}

static void put_TIME(struct item_writer *w, const struct msg_time *t)
{
	item_put_array(w, 2);
	item_put_int(w, t->sec);
	item_put_uint(w, t->nsec);
}

#define ATTR_ITEMS 16 /* one more with flags, which no old client gets */

static int get_ATTR(struct slice *in, struct attr *ret)
{
	struct item it;

	if (get_typed(in, ITEM_ARRAY, &it) < 0 ||
	    (it.value != ATTR_ITEMS && it.value != ATTR_ITEMS + 1) ||
	    get_UINT(in, &ret->version) < 0 || get_UINT(in, &ret->ino) < 0 ||
	    get_u32(in, &ret->mode) < 0 || get_UINT(in, &ret->nlink) < 0 ||
	    get_u32(in, &ret->uid) < 0 || get_u32(in, &ret->gid) < 0 ||
	    get_UINT(in, &ret->rdev) < 0 || get_UINT(in, &ret->size) < 0 || ret->size > INT64_MAX ||
	    get_UINT(in, &ret->blocks) < 0 || get_u32(in, &ret->blksize) < 0 ||
	    get_seconds(in, &ret->atime) < 0 || get_seconds(in, &ret->mtime) < 0 ||
	    get_seconds(in, &ret->ctime) < 0)
		return -EPROTO;
	ret->flags = 0;
	return it.value > ATTR_ITEMS ? get_UINT(in, &ret->flags) : 0;
}

static void put_ATTR(struct item_writer *w, const struct attr *a)
{
	item_put_array(w, ATTR_ITEMS + (a->flags != 0));
	item_put_uint(w, a->version);
	item_put_uint(w, a->ino);
	item_put_uint(w, a->mode);
	item_put_uint(w, a->nlink);
	item_put_uint(w, a->uid);
	item_put_uint(w, a->gid);
	item_put_uint(w, a->rdev);
	item_put_uint(w, a->size);
	item_put_uint(w, a->blocks);
	item_put_uint(w, a->blksize);
	item_put_int(w, a->atime.sec);
	item_put_uint(w, a->atime.nsec);
	item_put_int(w, a->mtime.sec);
	item_put_uint(w, a->mtime.nsec);
	item_put_int(w, a->ctime.sec);
	item_put_uint(w, a->ctime.nsec);
	if (a->flags != 0)
		item_put_uint(w, a->flags);
}

#define STATFS_ITEMS 8

static int get_STATFS(struct slice *in, struct fsinfo *ret)
{
	uint64_t *const v[STATFS_ITEMS] = {&ret->bsize,	 &ret->frsize, &ret->blocks, &ret->bfree,
					   &ret->bavail, &ret->files,  &ret->ffree,  &ret->namemax};
	int r = get_array(in, STATFS_ITEMS);

	for (size_t i = 0; i < STATFS_ITEMS && r == 0; i++)
		r = get_UINT(in, v[i]);
	return r;
}

static void put_STATFS(struct item_writer *w, const struct fsinfo *f)
{
	const uint64_t v[STATFS_ITEMS] = {f->bsize,  f->frsize, f->blocks, f->bfree,
					  f->bavail, f->files,	f->ffree,  f->namemax};

	item_put_array(w, STATFS_ITEMS);
	for (size_t i = 0; i < STATFS_ITEMS; i++)
		item_put_uint(w, v[i]);
}

static void put_UINT(struct item_writer *w, const uint64_t *v)
{
	item_put_uint(w, *v);
}

static void put_BYTES(struct item_writer *w, const struct slice *s)
{
	item_put_bytes(w, *s);
}

/* ---- messages ---- */

/*
 * Writes the map of m. Of a payload only the byte-string header is written:
 * the payload's bytes are sent behind the map from where they are.
 */
static void put_map(struct item_writer *w, const struct msg *m)
{
	item_put_map(w, (size_t)__builtin_popcountll(m->present));
	for (uint64_t left = m->present & ~MSG_BIT(payload); left != 0; left &= left - 1) {
		unsigned key = (unsigned)__builtin_ctzll(left);

		item_put_uint(w, key);
		switch (key) {
#define FIELD(k, name, kind, text)                                                                 \
	case k:                                                                                    \
		put_##kind(w, &m->name);                                                           \
		break;
#include "core/fields.def"
#undef FIELD
		}
	}
	if (MSG_HAS(m, payload)) {
		item_put_uint(w, FIELD_payload);
		item_wrote(w, cbor_encode_bytestring_start(m->payload.len, ITEM_ROOM(w)));
	}
}

static void put_be32(unsigned char *p, size_t v)
{
	p[0] = (unsigned char)(v >> 24);
	p[1] = (unsigned char)(v >> 16);
	p[2] = (unsigned char)(v >> 8);
	p[3] = (unsigned char)v;
}

static size_t get_be32(const unsigned char *p)
{
	return (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
}

size_t codec_encode(const struct msg *m, unsigned char *buf, size_t cap)
{
	size_t payload = MSG_HAS(m, payload) ? m->payload.len : 0;

	if (cap < FRAME_HEADER || payload > MSG_PAYLOAD_MAX)
		return 0;
	struct item_writer w = {buf + FRAME_HEADER, cap - FRAME_HEADER, 0, true};
	put_map(&w, m);
	if (!w.ok || w.len > MSG_HEAD_MAX)
		return 0;
	put_be32(buf, w.len + payload);
	put_be32(buf + 4, w.len);
	return FRAME_HEADER + w.len;
}

/* Bytes that a value may take besides its key and 9 more. */
#define MORE_UINT(v)   0
#define MORE_BYTES(v)  (v).len
#define MORE_TIME(v)   12
#define MORE_ATTR(v)   160 /* 17 integers */
#define MORE_STATFS(v) 80

size_t codec_encode_bound(const struct msg *m)
{
	size_t n = FRAME_HEADER + 3 + (size_t)__builtin_popcountll(m->present) * 11;

#define FIELD(key, name, kind, text) n += MSG_HAS(m, name) ? MORE_##kind(m->name) : 0;
#include "core/fields.def"
#undef FIELD
	return n - (MSG_HAS(m, payload) ? m->payload.len : 0); /* which is not part of the head */
}

size_t codec_payload_head(const struct msg *m)
{
	unsigned char key[9], header[9];

	if (!MSG_HAS(m, payload))
		return 0;
	return cbor_encode_uint(FIELD_payload, key, sizeof(key)) +
	       cbor_encode_bytestring_start(m->payload.len, header, sizeof(header));
}

int codec_frame_header(const unsigned char buf[FRAME_HEADER], size_t *ret_head, size_t *ret_payload,
		       const char **ret_why)
{
	size_t total = get_be32(buf), head = get_be32(buf + 4);

	if (head == 0 || head > MSG_HEAD_MAX) {
		*ret_why = "head length out of bounds";
		return -EPROTO;
	}
	if (total < head || total - head > MSG_PAYLOAD_MAX) {
		*ret_why = "payload length out of bounds";
		return -EPROTO;
	}
	*ret_head = head;
	*ret_payload = total - head;
	return 0;
}

/* Takes the header of the payload's byte string, with which the head ends. */
static int get_payload_header(struct slice *in, size_t payload_len)
{
	unsigned char expected[9];
	size_t n = cbor_encode_bytestring_start(payload_len, expected, sizeof(expected));

	if (in->len != n || memcmp(in->data, expected, n) != 0)
		return -EPROTO;
	in->len = 0;
	return 0;
}

/* Takes a key of a map. 1: a key of fields.def, in *ret. 0: another key, whose value follows.
 * -EPROTO.
 */
static int get_key(struct slice *in, uint64_t *ret)
{
	struct item it;

	if (item_get(in, &it) < 0 || it.type == ITEM_ARRAY || it.type == ITEM_MAP)
		return -EPROTO;
	*ret = it.value;
	return it.type == ITEM_UINT && it.value < FIELD_COUNT;
}

static int decode_map(struct slice in, bool framed, size_t payload_len, struct msg *ret,
		      const char **ret_why)
{
	struct item map;
	uint64_t seen = 0;

	if (get_typed(&in, ITEM_MAP, &map) < 0) {
		*ret_why = "not a map";
		return -EPROTO;
	}
	for (uint64_t i = 0; i < map.value; i++) {
		uint64_t key;
		int r = get_key(&in, &key);

		if (r == 0 && !framed && item_skip(&in, MSG_DEPTH_MAX) == 0)
			continue;
		if (r <= 0) {
			*ret_why = "unknown key";
			return -EPROTO;
		}
		r = -EPROTO;
		if (seen & (UINT64_C(1) << key)) {
			*ret_why = "duplicate key";
			return -EPROTO;
		}
		seen |= UINT64_C(1) << key;
		if (key == FIELD_payload) {
			if (!framed || i + 1 != map.value ||
			    get_payload_header(&in, payload_len) < 0) {
				*ret_why = "payload is not the last key or of another length";
				return -EPROTO;
			}
			ret->payload = (struct slice){NULL, payload_len};
			continue;
		}
		switch (key) {
#define FIELD(k, name, kind, text)                                                                 \
	case k:                                                                                    \
		r = get_##kind(&in, &ret->name);                                                   \
		break;
#include "core/fields.def"
#undef FIELD
		}
		if (r < 0) {
			*ret_why = "a field is of the wrong type, length or form";
			return -EPROTO;
		}
	}
	if (in.len != 0 || (payload_len != 0 && !(seen & MSG_BIT(payload)))) {
		*ret_why = "bytes that belong to no field";
		return -EPROTO;
	}
	ret->present = seen;
	if (!MSG_HAS(ret, err))
		ret->err = 0;
	if (!MSG_HAS(ret, flags))
		ret->flags = 0;
	if (!MSG_HAS(ret, payload))
		ret->payload = (struct slice){0};
	return 0;
}

int codec_decode(const unsigned char *buf, size_t len, size_t payload_len, struct msg *ret,
		 const char **ret_why)
{
	return decode_map((struct slice){buf, len}, true, payload_len, ret, ret_why);
}

size_t codec_encode_map(const struct msg *m, unsigned char *buf, size_t cap)
{
	struct item_writer w = {buf, cap, 0, true};

	put_map(&w, m);
	return w.ok ? w.len : 0;
}

int codec_decode_map(const unsigned char *buf, size_t len, struct msg *ret, const char **ret_why)
{
	return decode_map((struct slice){buf, len}, false, 0, ret, ret_why);
}

/* ---- sequences in a payload ---- */

size_t codec_put_entry(const struct dir_entry *e, unsigned char *buf, size_t cap)
{
	struct item_writer w = {buf, cap, 0, true};

	item_put_array(&w, e->node != 0 ? 6 : 4);
	item_put_bytes(&w, e->name);
	item_put_uint(&w, e->off);
	item_put_uint(&w, e->type);
	item_put_uint(&w, e->ino);
	if (e->node != 0) {
		item_put_uint(&w, e->node);
		put_ATTR(&w, &e->attr);
	}
	return w.ok ? w.len : 0;
}

int codec_get_entry(struct slice *in, struct dir_entry *ret)
{
	struct item it;

	if (in->len == 0)
		return 0;
	ret->node = 0;
	if (get_typed(in, ITEM_ARRAY, &it) < 0 || (it.value != 4 && it.value != 6) ||
	    get_BYTES(in, &ret->name) < 0 || get_UINT(in, &ret->off) < 0 ||
	    get_u32(in, &ret->type) < 0 || get_UINT(in, &ret->ino) < 0)
		return -EPROTO;
	if (it.value == 6 && (get_UINT(in, &ret->node) < 0 || get_ATTR(in, &ret->attr) < 0))
		return -EPROTO;
	return 1;
}

size_t codec_put_inv(const struct inv_item *i, unsigned char *buf, size_t cap)
{
	struct item_writer w = {buf, cap, 0, true};

	item_put_array(&w, i->name.len > 0 ? 3 : 2);
	item_put_uint(&w, i->node);
	item_put_uint(&w, i->class);
	if (i->name.len > 0)
		item_put_bytes(&w, i->name);
	return w.ok ? w.len : 0;
}

int codec_get_inv(struct slice *in, struct inv_item *ret)
{
	struct item it;

	if (in->len == 0)
		return 0;
	ret->name = (struct slice){0};
	if (get_typed(in, ITEM_ARRAY, &it) < 0 || (it.value != 2 && it.value != 3) ||
	    get_UINT(in, &ret->node) < 0 || get_UINT(in, &ret->class) < 0)
		return -EPROTO;
	if (it.value == 3 && get_BYTES(in, &ret->name) < 0)
		return -EPROTO;
	/* an item of the class INV_NAME has a name, any other item has none */
	bool good = ret->class & INV_NAME ? msg_name_valid(ret->name) : ret->name.len == 0;
	return good ? 1 : -EPROTO;
}

size_t codec_put_pair(uint64_t a, uint64_t b, unsigned char *buf, size_t cap)
{
	struct item_writer w = {buf, cap, 0, true};

	item_put_array(&w, 2);
	item_put_uint(&w, a);
	item_put_uint(&w, b);
	return w.ok ? w.len : 0;
}

int codec_get_pair(struct slice *in, uint64_t *ret_a, uint64_t *ret_b)
{
	if (in->len == 0)
		return 0;
	if (get_array(in, 2) < 0 || get_UINT(in, ret_a) < 0 || get_UINT(in, ret_b) < 0)
		return -EPROTO;
	return 1;
}

size_t codec_put_uint(uint64_t v, unsigned char *buf, size_t cap)
{
	struct item_writer w = {buf, cap, 0, true};

	item_put_uint(&w, v);
	return w.ok ? w.len : 0;
}

int codec_get_uint(struct slice *in, uint64_t *ret)
{
	if (in->len == 0)
		return 0;
	return get_UINT(in, ret) < 0 ? -EPROTO : 1;
}

const struct msg_sequences codec_sequences = {
	.put_pair = codec_put_pair,
	.put_uint = codec_put_uint,
	.get_entry = codec_get_entry,
	.get_inv = codec_get_inv,
};
