/* The codec of extended frames: what it writes it reads, and nothing but sound bytes are read. */
#include "sample.h"

#include "transport/codec.h"

#define PAYLOAD_SAMPLE 5

/* ---- what is written can be read ---- */

/* The head that codec_encode makes of m, in a buffer of its own. */
static unsigned char *encode_head(const struct msg *m, size_t *ret_len)
{
	size_t bound = codec_encode_bound(m), head, payload;
	unsigned char *buf = malloc(bound);
	const char *why = "";

	assert_non_null(buf);
	size_t n = codec_encode(m, buf, bound);
	assert_int_not_equal(n, 0);
	assert_true(n <= bound);
	assert_int_equal(codec_frame_header(buf, &head, &payload, &why), 0);
	assert_int_equal(head, n - FRAME_HEADER);
	assert_int_equal(payload, MSG_HAS(m, payload) ? m->payload.len : 0);
	unsigned char *copy = unit_copy(buf + FRAME_HEADER, head);
	free(buf);
	*ret_len = head;
	return copy;
}

static void round_trip(const struct msg *m)
{
	struct msg got;
	const char *why = "";
	size_t len;
	unsigned char *head = encode_head(m, &len);

	memset(&got, 0xff, sizeof(got)); /* nothing is taken from what was there before */
	size_t payload = MSG_HAS(m, payload) ? m->payload.len : 0;
	if (codec_decode(head, len, payload, &got, &why) != 0)
		fail_msg("%s", why);
	assert_same_msg(&got, m);
	if (MSG_HAS(m, payload))
		assert_null(got.payload.data);
	if (!MSG_HAS(m, err))
		assert_int_equal(got.err, 0);
	if (!MSG_HAS(m, flags))
		assert_int_equal(got.flags, 0);
	if (!MSG_HAS(&got, payload))
		assert_int_equal(got.payload.len, 0);
	free(head);
}

static void test_each_field_alone(void **state)
{
	(void)state;
	for (unsigned key = 0; key < FIELD_COUNT; key++) {
		for (unsigned variant = 0; variant < SAMPLE_VARIANTS; variant++) {
			struct msg m = {0};

			sample_set(&m, key, variant);
			round_trip(&m);
		}
	}
}

static void test_all_fields_together(void **state)
{
	struct msg m = {0};

	(void)state;
	round_trip(&m); /* none at all */
	for (unsigned variant = 0; variant < SAMPLE_VARIANTS; variant++) {
		m.present = 0;
		for (unsigned key = 0; key < FIELD_COUNT; key++)
			sample_set(&m, key, variant + key);
		round_trip(&m);
	}
}

static void test_any_fields(void **state)
{
	struct unit_random random = {1};

	(void)state;
	for (int i = 0; i < 5000; i++) {
		struct msg m = {0};
		uint64_t fields = unit_next(&random);

		for (unsigned key = 0; key < FIELD_COUNT; key++)
			if (fields >> key & 1)
				sample_set(&m, key, (unsigned)unit_next(&random));
		round_trip(&m);
	}
}

/* The bytes themselves, once: integer keys in ascending order, shortest heads, payload last. */
static void test_bytes(void **state)
{
	struct msg m = {0};
	unsigned char buf[128], want[128];

	(void)state;
	MSG_SET(&m, payload, SLICE("hello"));
	MSG_SET(&m, off, 300);
	MSG_SET(&m, op, MSG_WRITE);
	MSG_SET(&m, mtime, ((struct msg_time){-1, 24}));
	size_t n = codec_encode(&m, buf, sizeof(buf));
	size_t w = unit_from_hex("00000015 00000010 a4 00 1830 0a 19012c 14 82 20 1818 1824 45",
				 want, sizeof(want));
	assert_int_equal(n, w);
	assert_memory_equal(buf, want, n);
}

static void test_no_room(void **state)
{
	struct msg m = {0};
	size_t len;

	(void)state;
	for (unsigned key = 0; key < FIELD_COUNT; key++)
		sample_set(&m, key, 3);
	free(encode_head(&m, &len));
	for (size_t cap = 0; cap < FRAME_HEADER + len; cap++) {
		unsigned char *buf = malloc(cap > 0 ? cap : 1);

		assert_non_null(buf);
		assert_int_equal(codec_encode(&m, buf, cap), 0);
		free(buf);
	}
}

/* The largest value everywhere, in every subset that matters: each kind alone and all. */
static void test_bound(void **state)
{
	static unsigned char bytes[MSG_NAME_MAX];
	struct msg all = {0};

	(void)state;
	for (unsigned key = 0; key < FIELD_COUNT; key++) {
		sample_set(&all, key, SAMPLE_VARIANTS - 1);
		struct msg m = {.present = 0};
		sample_set(&m, key, SAMPLE_VARIANTS - 1);
		m.name = m.name2 = m.groups = (struct slice){bytes, sizeof(bytes)};
		round_trip(&m);
	}
	all.attr = all.attr2 = all.attr3 = (struct attr){
	    .version = UINT64_MAX,
	    .ino = UINT64_MAX,
	    .mode = UINT32_MAX,
	    .nlink = UINT64_MAX,
	    .uid = UINT32_MAX,
	    .gid = UINT32_MAX,
	    .rdev = UINT64_MAX,
	    .size = INT64_MAX,
	    .blocks = UINT64_MAX,
	    .blksize = UINT32_MAX,
	    .atime = {INT64_MIN, 999999999},
	    .mtime = {INT64_MIN, 999999999},
	    .ctime = {INT64_MIN, 999999999},
	    .flags = UINT64_MAX,
	};
	all.atime = all.mtime = all.attr.atime;
	all.name = all.name2 = all.groups = (struct slice){bytes, sizeof(bytes)};
	all.payload = (struct slice){NULL, MSG_PAYLOAD_MAX};
	round_trip(&all);
}

static void test_limits_of_encoding(void **state)
{
	static unsigned char groups[MSG_HEAD_MAX];
	unsigned char *buf = malloc(2 * MSG_HEAD_MAX);
	struct msg m = {0};

	(void)state;
	assert_non_null(buf);
	MSG_SET(&m, payload, ((struct slice){NULL, MSG_PAYLOAD_MAX}));
	assert_int_not_equal(codec_encode(&m, buf, 2 * MSG_HEAD_MAX), 0);
	m.payload.len++;
	assert_int_equal(codec_encode(&m, buf, 2 * MSG_HEAD_MAX), 0);

	m.present = 0;
	/* map, key, header of 3 bytes: 5 and the groups */
	MSG_SET(&m, groups, ((struct slice){groups, MSG_HEAD_MAX - 5}));
	assert_int_equal(codec_encode(&m, buf, 2 * MSG_HEAD_MAX), FRAME_HEADER + MSG_HEAD_MAX);
	m.groups.len++;
	assert_int_equal(codec_encode(&m, buf, 2 * MSG_HEAD_MAX), 0);
	free(buf);
}

/* ---- frame headers ---- */

static int frame_header(uint32_t total, uint32_t head, size_t *ret_head, size_t *ret_payload)
{
	unsigned char b[FRAME_HEADER];
	const char *why = NULL;

	for (int i = 0; i < 4; i++) {
		b[i] = (unsigned char)(total >> (24 - 8 * i));
		b[4 + i] = (unsigned char)(head >> (24 - 8 * i));
	}
	int r = codec_frame_header(b, ret_head, ret_payload, &why);
	if (r < 0)
		assert_non_null(why);
	return r;
}

static void test_frame_header(void **state)
{
	size_t head = 0, payload = 0;

	(void)state;
	assert_int_equal(frame_header(1, 1, &head, &payload), 0);
	assert_int_equal(head, 1);
	assert_int_equal(payload, 0);
	assert_int_equal(
	    frame_header(MSG_HEAD_MAX + MSG_PAYLOAD_MAX, MSG_HEAD_MAX, &head, &payload), 0);
	assert_int_equal(head, MSG_HEAD_MAX);
	assert_int_equal(payload, MSG_PAYLOAD_MAX);

	static const uint32_t bad[][2] = {
	    {0, 0},
	    {1, 0},
	    {0, 1},
	    {10, 11},
	    {MSG_HEAD_MAX + 1, MSG_HEAD_MAX + 1},
	    {MSG_PAYLOAD_MAX + 11, 10},
	    {UINT32_MAX, 1},
	    {UINT32_MAX, UINT32_MAX},
	    {0, UINT32_MAX},
	    {0x80000000u, 0x80000000u},
	};
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_int_equal(frame_header(bad[i][0], bad[i][1], &head, &payload), -EPROTO);
	assert_int_equal(head, MSG_HEAD_MAX); /* untouched */
}

/* ---- malformed heads ---- */

static int decode_copy(const unsigned char *head, size_t len, size_t payload, struct msg *ret,
		       const char **why)
{
	unsigned char *copy = unit_copy(head, len);

	*why = NULL;
	int r = codec_decode(copy, len, payload, ret, why);
	if (r == 0) /* the slices go with the copy */
		ret->name = ret->name2 = ret->groups = (struct slice){NULL, 0};
	else
		assert_non_null(*why);
	free(copy);
	return r;
}

#define MAX64 "ffffffffffffffff"

static const struct {
	const char *hex;
	size_t payload;
} malformed[] = {
    /* no map */
    {"", 0},
    {"04", 0},
    {"80", 0},
    {"40", 0},
    {"60", 0},
    {"f6", 0},
    {"c1a0", 0},
    {"bf0407ff", 0},
    {"b8010407", 0},
    {"bb00000000000000010407", 0},
    {"bb" MAX64, 0},
    {"bb7fffffffffffffff0407", 0},
    {"a1", 0},
    {"a20407", 0},
    {"a10407a10407", 0},
    {"a1040700", 0},
    /* keys */
    {"a1182600", 0},
    {"a118ff00", 0},
    {"a11b" MAX64 "00", 0},
    {"a1180407", 0},
    {"a119000407", 0},
    {"a12000", 0},
    {"a1412000", 0},
    {"a1616100", 0},
    {"a1f400", 0},
    {"a18000", 0},
    {"a204070408", 0},
    {"a3040705400407", 0},
    {"a2182440182440", 0},
    /* UINT */
    {"a104", 0},
    {"a10420", 0},
    {"a1044107", 0},
    {"a1046107", 0},
    {"a1048107", 0},
    {"a104a0", 0},
    {"a104f4", 0},
    {"a104f5", 0},
    {"a104f6", 0},
    {"a104f7", 0},
    {"a104e0", 0},
    {"a104f820", 0},
    {"a104ff", 0},
    {"a104f93c00", 0},
    {"a104fa3f800000", 0},
    {"a104fb3ff0000000000000", 0},
    {"a104c007", 0},
    {"a104c11a00000001", 0},
    {"a1041800", 0},
    {"a1041817", 0},
    {"a10419ffff00", 0},
    {"a1041900ff", 0},
    {"a1041a0000ffff", 0},
    {"a1041b00000000ffffffff", 0},
    {"a1041c", 0},
    {"a1041d", 0},
    {"a1041e", 0},
    {"a1041f", 0},
    {"a1041c000102030405060708090a0b0c0d0e0f", 0}, /* as if the next size were 16 bytes */
    {"a1041d000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", 0},
    {"a10418", 0},
    {"a1041b00000001000000", 0},
    {"a104 5b" MAX64, 0},
    {"a104 7b" MAX64, 0},
    {"a104 9b" MAX64, 0},
    {"a104 bb" MAX64, 0},
    {"a104 8181818181818181818181818181818107", 0},
    /* BYTES */
    {"a10507", 0},
    {"a1056161", 0},
    {"a10542 61", 0},
    {"a105580161", 0},
    {"a105590018 616161616161616161616161616161616161616161616161", 0},
    {"a1055f4161ff", 0},
    {"a105 5b" MAX64, 0},
    {"a105 5b" MAX64 "61", 0},
    {"a105 5b8000000000000000", 0},
    {"a105 5affffffff61", 0},
    {"a105 9b" MAX64, 0},
    {"a105 bb" MAX64, 0},
    /* TIME */
    {"a11300", 0},
    {"a11380", 0},
    {"a1138100", 0},
    {"a113830000 00", 0},
    {"a1139f0000ff", 0},
    {"a113 98020000", 0},
    {"a113 82001a3b9aca00", 0},
    {"a113 820020", 0},
    {"a113 82001b0000000100000000", 0},
    {"a113 821b800000000000000000", 0},
    {"a113 823b800000000000000000", 0},
    {"a113 82f93c0000", 0},
    {"a113 82410000", 0},
    {"a113 9b" MAX64, 0},
    /* ATTR: of 15, of 18, nsec, a mode that is none, nested */
    {"a11819 8f000000000000000000000000000000", 0},
    {"a11819 92000000000000000000000000000000000000", 0},
    {"a11819 900000000000000000000000 1a3b9aca00 00000000", 0}, /* atime */
    {"a11819 9000000000000000000000000000 1a3b9aca00 0000", 0}, /* mtime */
    {"a11819 90000000000000000000000000000000 1a3b9aca00", 0},	/* ctime */
    {"a11819 90 0000 1b0000000100000000 00000000000000 000000000000", 0},
    {"a11819 90 81000000000000000000000000000000", 0},
    {"a11819 90 20000000000000000000000000000000", 0},
    {"a11819 9b" MAX64, 0},
    {"a1181900", 0},
    /* STATFS */
    {"a1181c 8700000000000000", 0},
    {"a1181c 89000000000000000000", 0},
    {"a1181c 882000000000000000", 0},
    /* payload */
    {"a1182445", 4},
    {"a1182445", 6},
    {"a1182445", 0},
    {"a1182440", 1},
    {"a1182465", 5},
    {"a118245805", 5},
    {"a118245b0000000000000005", 5},
    {"a118245f", 5},
    {"a1182405", 5},
    {"a118244568656c6c6f", 5},
    {"a21824450407", 5},
    {"a2182445", 5},
    {"a10407", 5},
    {"a0", 1},
    {"a1182400", 0},
};

static void test_malformed(void **state)
{
	struct msg m;
	const char *why;

	(void)state;
	for (size_t i = 0; i < COUNT(malformed); i++) {
		unsigned char buf[64];
		size_t n = unit_from_hex(malformed[i].hex, buf, sizeof(buf));

		if (decode_copy(buf, n, malformed[i].payload, &m, &why) != -EPROTO)
			fail_msg("%s was accepted", malformed[i].hex);
	}
	/* The same forms, sound: what refuses the ones above is not something else. */
	static const struct {
		const char *hex;
		size_t payload;
	} sound[] = {
	    {"a0", 0},
	    {"a10407", 0},
	    {"a1041818", 0},
	    {"a104190100", 0},
	    {"a1041a00010000", 0},
	    {"a1041b0000000100000000", 0},
	    {"a205400407", 0}, /* only the payload's place counts */
	    {"a1054161", 0},
	    {"a113820000", 0},
	    {"a113821b7fffffffffffffff00", 0},
	    {"a113823b7fffffffffffffff1a3b9ac9ff", 0},
	    {"a11819 90000000000000000000000000 00000000", 0},
	    {"a1181c 880000000000000000", 0},
	    {"a1182440", 0},
	    {"a1182445", 5},
	    {"a20407182445", 5},
	};
	for (size_t i = 0; i < COUNT(sound); i++) {
		unsigned char buf[64];
		size_t n = unit_from_hex(sound[i].hex, buf, sizeof(buf));

		if (decode_copy(buf, n, sound[i].payload, &m, &why) != 0)
			fail_msg("%s: %s", sound[i].hex, why);
	}
}

static void test_truncated(void **state)
{
	struct msg m = {0}, got;
	const char *why;
	size_t len;

	(void)state;
	for (unsigned key = 0; key < FIELD_COUNT; key++)
		sample_set(&m, key, key);
	m.payload = (struct slice){NULL, PAYLOAD_SAMPLE};
	unsigned char *head = encode_head(&m, &len);
	assert_int_equal(decode_copy(head, len, PAYLOAD_SAMPLE, &got, &why), 0);
	for (size_t n = 0; n < len; n++)
		assert_int_equal(decode_copy(head, n, PAYLOAD_SAMPLE, &got, &why), -EPROTO);
	unsigned char *more = malloc(len + 1);
	assert_non_null(more);
	memcpy(more, head, len);
	more[len] = 0;
	assert_int_equal(decode_copy(more, len + 1, PAYLOAD_SAMPLE, &got, &why), -EPROTO);
	free(more);
	free(head);
}

/* A map without a frame has no payload. */
static void test_bare_map(void **state)
{
	struct msg m = {0}, got;
	unsigned char buf[512];
	const char *why = NULL;

	(void)state;
	MSG_SET(&m, version, 1);
	MSG_SET(&m, slots, 256);
	MSG_SET(&m, node, 1);
	sample_set(&m, FIELD_attr, 2);
	size_t n = codec_encode_map(&m, buf, sizeof(buf));
	assert_int_not_equal(n, 0);
	assert_int_equal(codec_decode_map(buf, n, &got, &why), 0);
	assert_same_msg(&got, &m);
	for (size_t cap = 0; cap < n; cap++)
		assert_int_equal(codec_encode_map(&m, buf + 256, cap), 0);

	n = unit_from_hex("a1182440", buf, sizeof(buf));
	assert_int_equal(codec_decode_map(buf, n, &got, &why), -EPROTO);
	assert_non_null(why);
	n = unit_from_hex("a1182000ff", buf, sizeof(buf));
	assert_int_equal(codec_decode_map(buf, n, &got, &why), -EPROTO);
}

/* ---- sequences ---- */

static struct dir_entry entry_sample(unsigned variant)
{
	struct dir_entry e = {.type = variant % 16, .node = variant % 2 == 0 ? 0 : variant};

	sample_BYTES(&e.name, variant);
	sample_UINT(&e.off, variant);
	sample_UINT(&e.ino, variant + 5);
	sample_ATTR(&e.attr, variant);
	return e;
}

static void test_entries(void **state)
{
	unsigned char *buf = malloc(MSG_PAYLOAD_MAX);
	struct dir_entry e;
	size_t len = 0, n;

	(void)state;
	assert_non_null(buf);
	for (unsigned i = 0; i < 24; i++) {
		e = entry_sample(i);
		n = codec_put_entry(&e, buf + len, MSG_PAYLOAD_MAX - len);
		assert_int_not_equal(n, 0);
		for (size_t cap = 0; cap < n; cap += n < 400 ? 1 : 97)
			assert_int_equal(codec_put_entry(&e, buf + len, cap), 0);
		assert_int_equal(codec_put_entry(&e, buf + len, n), n);
		len += n;
	}
	unsigned char *copy = unit_copy(buf, len);
	struct slice in = {copy, len};
	for (unsigned i = 0; i < 24; i++) {
		struct dir_entry want = entry_sample(i);

		assert_int_equal(codec_get_entry(&in, &e), 1);
		assert_true(same_BYTES(&e.name, &want.name));
		assert_int_equal(e.off, want.off);
		assert_int_equal(e.type, want.type);
		assert_int_equal(e.ino, want.ino);
		assert_int_equal(e.node, want.node);
		if (want.node != 0)
			assert_true(same_ATTR(&e.attr, &want.attr));
	}
	assert_int_equal(codec_get_entry(&in, &e), 0);
	free(copy);

	/* Cut off anywhere inside the last entry. */
	e = entry_sample(1);
	n = codec_put_entry(&e, buf, MSG_PAYLOAD_MAX);
	for (size_t cut = 1; cut < n; cut++) {
		copy = unit_copy(buf, cut);
		in = (struct slice){copy, cut};
		assert_int_equal(codec_get_entry(&in, &e), -EPROTO);
		free(copy);
	}
	free(buf);
}

static void test_malformed_entries(void **state)
{
	static const char *const bad[] = {
	    "00",
	    "83 4161 01 04",
	    "85 4161 01 04 02 07",
	    "87 4161 01 04 02 07 00 00",
	    "9f 4161 01 04 02 ff",
	    "84 6161 01 04 02",
	    "84 4161 20 04 02",
	    "84 4161 01 1b0000000100000000 02",
	    "84 4161 01 04 f4",
	    "86 4161 01 04 02 07 00",
	    "a4 4161 01 04 02",
	    "9b" MAX64 " 4161 01 04 02",
	    "84 5b" MAX64 " 61 01 04 02",
	};
	struct dir_entry e;
	unsigned char buf[64];

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		size_t n = unit_from_hex(bad[i], buf, sizeof(buf));
		unsigned char *copy = unit_copy(buf, n);
		struct slice in = {copy, n};

		if (codec_get_entry(&in, &e) != -EPROTO)
			fail_msg("%s was accepted", bad[i]);
		free(copy);
	}
	size_t n = unit_from_hex("84 4161 01 04 02", buf, sizeof(buf));
	struct slice in = {buf, n};
	assert_int_equal(codec_get_entry(&in, &e), 1);
	unit_assert_slice(e.name, "a");
	assert_int_equal(e.node, 0);
}

static void test_pairs_and_numbers(void **state)
{
	unsigned char buf[1024];
	struct slice in;
	uint64_t a, b, v;
	size_t len = 0, n;

	(void)state;
	for (unsigned i = 0; i < SAMPLE_VARIANTS; i++) {
		sample_UINT(&a, i);
		sample_UINT(&b, i + 1);
		n = codec_put_pair(a, b, buf + len, sizeof(buf) - len);
		assert_int_not_equal(n, 0);
		assert_int_equal(codec_put_pair(a, b, buf + len, n - 1), 0);
		len += n;
		n = codec_put_uint(a, buf + len, sizeof(buf) - len);
		assert_int_not_equal(n, 0);
		assert_int_equal(codec_put_uint(a, buf + len, n - 1), 0);
		len += n;
	}
	in = (struct slice){buf, len};
	for (unsigned i = 0; i < SAMPLE_VARIANTS; i++) {
		uint64_t want_a, want_b;

		sample_UINT(&want_a, i);
		sample_UINT(&want_b, i + 1);
		assert_int_equal(codec_get_pair(&in, &a, &b), 1);
		assert_true(a == want_a && b == want_b);
		assert_int_equal(codec_get_uint(&in, &v), 1);
		assert_true(v == want_a);
	}
	assert_int_equal(codec_get_pair(&in, &a, &b), 0);
	assert_int_equal(codec_get_uint(&in, &v), 0);

	static const char *const bad_pairs[] = {"07",	"8107",	    "83070707", "820720",
						"8207", "9f0707ff", "82071817"};
	for (size_t i = 0; i < COUNT(bad_pairs); i++) {
		in = (struct slice){buf, unit_from_hex(bad_pairs[i], buf, sizeof(buf))};
		assert_int_equal(codec_get_pair(&in, &a, &b), -EPROTO);
	}
	static const char *const bad_numbers[] = {"20", "4107", "1807", "18", "c107", "fb"};
	for (size_t i = 0; i < COUNT(bad_numbers); i++) {
		in = (struct slice){buf, unit_from_hex(bad_numbers[i], buf, sizeof(buf))};
		assert_int_equal(codec_get_uint(&in, &v), -EPROTO);
	}
}

/* A name that no directory has, or a name and its class one without the other. */
static void test_malformed_invalidations(void **state)
{
	static const char *const bad[] = {"830104 40",	   "830104 412f", "830104 43612f62",
					  "830104 43610062", "830101 4161", "820104",
					  "830104 6161",     "8101",	  "84010441610a"};
	unsigned char buf[512];
	struct inv_item item, got;

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct slice in = {buf, unit_from_hex(bad[i], buf, sizeof(buf))};

		if (codec_get_inv(&in, &got) != -EPROTO)
			fail_msg("%s was accepted", bad[i]);
	}
	for (size_t len = MSG_NAME_MAX; len <= MSG_NAME_MAX + 1; len++) {
		char name[MSG_NAME_MAX + 1];

		memset(name, 'n', sizeof(name));
		item = (struct inv_item){.node = 1, .class = INV_NAME, .name = {name, len}};
		struct slice in = {buf, codec_put_inv(&item, buf, sizeof(buf))};
		assert_int_equal(codec_get_inv(&in, &got), len == MSG_NAME_MAX ? 1 : -EPROTO);
	}
}

/* i_size is signed, and a notification sets it unseen. */
static void test_size_of_no_file(void **state)
{
	unsigned char buf[512];
	const char *why = NULL;

	(void)state;
	for (uint64_t size = INT64_MAX; size <= (uint64_t)INT64_MAX + 1; size++) {
		struct dir_entry e = {.name = SLICE("f"), .node = 5, .attr = {.size = size}};
		struct msg m = {0}, got;
		int want = size == INT64_MAX ? 0 : -EPROTO;

		MSG_SET(&m, id, 1);
		MSG_SET(&m, attr, e.attr);
		size_t n = codec_encode(&m, buf, sizeof(buf));
		assert_int_equal(codec_decode(buf + FRAME_HEADER, n - FRAME_HEADER, 0, &got, &why),
				 want);
		struct slice in = {buf, codec_put_entry(&e, buf, sizeof(buf))};
		assert_int_equal(codec_get_entry(&in, &e), want == 0 ? 1 : want);
	}
}

/* A text of no bytes has no place either. */
static void test_utf8_of_nothing(void **state)
{
	(void)state;
	assert_true(utf8_valid((struct slice){NULL, 0}));
}

/* ---- items ---- */

static void test_items(void **state)
{
	static const struct {
		const char *hex;
		enum item_type type;
		uint64_t value;
	} items[] = {
	    {"00", ITEM_UINT, 0},    {"1b" MAX64, ITEM_UINT, UINT64_MAX},
	    {"20", ITEM_NEGINT, 0},  {"3b" MAX64, ITEM_NEGINT, UINT64_MAX},
	    {"f4", ITEM_BOOL, 0},    {"f5", ITEM_BOOL, 1},
	    {"f6", ITEM_NULL, 0},    {"80", ITEM_ARRAY, 0},
	    {"a0", ITEM_MAP, 0},     {"820000", ITEM_ARRAY, 2},
	    {"a20000", ITEM_MAP, 2}, {"a100", ITEM_MAP, 1},
	    {"a10000", ITEM_MAP, 1},
	};
	struct item it;
	unsigned char buf[64];

	(void)state;
	for (size_t i = 0; i < COUNT(items); i++) {
		size_t n = unit_from_hex(items[i].hex, buf, sizeof(buf));
		struct slice in = {buf, n};
		/* a pair takes two bytes at least */
		bool fits = items[i].type != ITEM_MAP || items[i].value * 2 < n;

		assert_int_equal(item_get(&in, &it), fits ? 0 : -EPROTO);
		if (fits) {
			assert_int_equal(it.type, items[i].type);
			assert_true(it.value == items[i].value);
		}
	}
	struct slice in = {buf, unit_from_hex("63 e28292 41 61", buf, sizeof(buf))};
	assert_int_equal(item_get(&in, &it), 0);
	assert_int_equal(it.type, ITEM_TEXT);
	unit_assert_slice(it.bytes, "\xe2\x82\x92");
	assert_int_equal(item_get(&in, &it), 0);
	assert_int_equal(it.type, ITEM_BYTES);
	unit_assert_slice(it.bytes, "a");
	assert_int_equal(in.len, 0);
	assert_int_equal(item_get(&in, &it), -EPROTO);
}

/* Arrays and maps whose number of items has bytes of its own; each item takes one at least. */
static void test_long_arrays(void **state)
{
	static const size_t counts[] = {23, 24, 255, 256, 65535, 65536};
	unsigned char *buf = malloc(2 * 65536 + 16);

	(void)state;
	assert_non_null(buf);
	for (size_t i = 0; i < COUNT(counts) * 2; i++) {
		bool map = i % 2 == 1;
		size_t n = counts[i / 2], items = map ? 2 * n : n;
		struct item_writer w = {buf, 16, 0, true};
		struct item it;

		map ? item_put_map(&w, n) : item_put_array(&w, n);
		assert_true(w.ok);
		memset(buf + w.len, 0, items);
		struct slice in = {buf, w.len + items};
		assert_int_equal(item_get(&in, &it), 0);
		assert_int_equal(it.type, map ? ITEM_MAP : ITEM_ARRAY);
		assert_int_equal(it.value, n);
		assert_int_equal(in.len, items);
		in = (struct slice){buf, w.len + items};
		assert_int_equal(item_skip(&in, 1), 0);
		assert_int_equal(in.len, 0);
		in = (struct slice){buf, w.len + items - 1};
		assert_int_equal(item_get(&in, &it), -EPROTO);
	}
	free(buf);
}

static void test_skip(void **state)
{
	unsigned char buf[64];

	(void)state;
	for (unsigned depth = 0; depth <= 8; depth++) {
		memset(buf, 0x81, sizeof(buf));
		buf[depth] = 0x07;
		buf[depth + 1] = 0x2a;
		struct slice in = {buf, depth + 2u};
		assert_int_equal(item_skip(&in, depth), 0);
		assert_int_equal(in.len, 1); /* exactly one item */
		if (depth > 0) {
			in = (struct slice){buf, depth + 2u};
			assert_int_equal(item_skip(&in, depth - 1), -EPROTO);
		}
	}
	/* only openings, to the end */
	memset(buf, 0x81, sizeof(buf));
	struct slice in = {buf, sizeof(buf)};
	assert_int_equal(item_skip(&in, MSG_DEPTH_MAX), -EPROTO);
	size_t n = unit_from_hex("a2 00 82 01 4102 6103 a1 f6 f5 00", buf, sizeof(buf));
	in = (struct slice){buf, n};
	assert_int_equal(item_skip(&in, MSG_DEPTH_MAX), 0);
	assert_int_equal(in.len, 1);
}

static void test_utf8(void **state)
{
	static const char *const good[] = {
	    "",
	    "plain",
	    "\x7f",
	    "\xc2\x80",
	    "\xdf\xbf",
	    "\xe0\xa0\x80",
	    "\xed\x9f\xbf",
	    "\xee\x80\x80",
	    "\xef\xbf\xbf",
	    "\xf0\x90\x80\x80",
	    "\xf4\x8f\xbf\xbf",
	};
	static const char *const bad[] = {
	    "\x80",
	    "\xbf",
	    "\xc0\x80",
	    "\xc1\xbf",
	    "\xc2",
	    "\xc2\x41",
	    "\xe0\x9f\xbf",
	    "\xe2\x82",
	    "\xe2\x28\x92",
	    "\xed\xa0\x80",
	    "\xed\xbf\xbf",
	    "\xf0\x8f\xbf\xbf",
	    "\xf4\x90\x80\x80",
	    "\xf5\x80\x80\x80",
	    "\xff",
	    "ok\xfe",
	    "\xf0\x90\x80",
	};

	(void)state;
	for (size_t i = 0; i < COUNT(good); i++)
		assert_true(utf8_valid((struct slice){good[i], strlen(good[i])}));
	for (size_t i = 0; i < COUNT(bad); i++) {
		unsigned char *copy = unit_copy(bad[i], strlen(bad[i]));

		if (utf8_valid((struct slice){copy, strlen(bad[i])}))
			fail_msg("bad[%zu] is no UTF-8", i);
		free(copy);
	}
}

/* ---- mutations ---- */

#define MUTATIONS  200000
#define MUTANT_MAX 4096

struct mutant {
	unsigned char data[MUTANT_MAX];
	size_t len;
};

static void mutate(struct mutant *m, struct unit_random *random)
{
	static const unsigned char nasty[] = {0x00, 0x17, 0x18, 0x1b, 0x1f, 0x5b, 0x5f, 0x7b, 0x80,
					      0x9b, 0x9f, 0xa0, 0xbb, 0xbf, 0xc0, 0xf9, 0xfb, 0xff};
	size_t at = m->len > 0 ? unit_below(random, m->len) : 0;

	switch (unit_below(random, 6)) {
	case 0:
		if (m->len > 0)
			m->data[at] ^= (unsigned char)(1u << unit_below(random, 8));
		break;
	case 1:
		if (m->len > 0)
			m->data[at] = nasty[unit_below(random, COUNT(nasty))];
		break;
	case 2:
		m->len = at;
		break;
	case 3: /* a byte more */
		if (m->len < MUTANT_MAX) {
			memmove(m->data + at + 1, m->data + at, m->len - at);
			m->data[at] = (unsigned char)unit_next(random);
			m->len++;
		}
		break;
	case 4: /* some bytes less */
		if (m->len > 0) {
			size_t n = 1 + unit_below(random, m->len - at);

			memmove(m->data + at, m->data + at + n, m->len - at - n);
			m->len -= n;
		}
		break;
	default: /* a huge length */
		if (m->len - at >= 9) {
			m->data[at] = (unsigned char)(unit_below(random, 8) << 5 | 27);
			memset(m->data + at + 1, 0xff, 8);
		}
		break;
	}
}

/* What is accepted means the same after it was written again. */
static void check_accepted(const struct msg *m)
{
	struct msg again;
	const char *why;
	size_t len;
	unsigned char *head = encode_head(m, &len);

	assert_int_equal(
	    codec_decode(head, len, MSG_HAS(m, payload) ? m->payload.len : 0, &again, &why), 0);
	assert_same_msg(&again, m);
	free(head);
}

/* Sequences end, and each item takes bytes. */
static void read_sequences(const unsigned char *data, size_t len)
{
	struct slice in = {data, len};
	struct dir_entry e;
	uint64_t a, b;
	size_t left;

	do {
		left = in.len;
	} while (codec_get_entry(&in, &e) == 1 && in.len < left);
	in = (struct slice){data, len};
	do {
		left = in.len;
	} while (codec_get_pair(&in, &a, &b) == 1 && in.len < left);
	in = (struct slice){data, len};
	do {
		left = in.len;
	} while (codec_get_uint(&in, &a) == 1 && in.len < left);
	in = (struct slice){data, len};
	do {
		left = in.len;
	} while (item_skip(&in, MSG_DEPTH_MAX) == 0 && in.len < left);
	(void)utf8_valid((struct slice){data, len});
}

static void test_mutations(void **state)
{
	struct unit_random random = {0x5eed};
	struct mutant seeds[16], m;
	size_t accepted = 0;

	(void)state;
	for (unsigned i = 0; i < COUNT(seeds); i++) {
		struct msg sample = {0};
		size_t len;

		for (unsigned key = 0; key < FIELD_COUNT - 1; key++)
			if (i == 0 || unit_below(&random, 4) == 0)
				sample_set(&sample, key, (unsigned)unit_below(&random, 5));
		if (i % 2 == 0)
			MSG_SET(&sample, payload, ((struct slice){NULL, PAYLOAD_SAMPLE}));
		unsigned char *head = encode_head(&sample, &len);
		assert_true(len <= MUTANT_MAX);
		memcpy(seeds[i].data, head, len);
		seeds[i].len = len;
		free(head);
	}
	for (int i = 0; i < MUTATIONS; i++) {
		size_t seed = unit_below(&random, COUNT(seeds));
		size_t payload = seed % 2 == 0 ? PAYLOAD_SAMPLE : 0;
		struct msg got;
		const char *why = NULL;

		m = seeds[seed];
		for (size_t n = unit_below(&random, 4); n > 0; n--)
			mutate(&m, &random);
		unsigned char *copy = unit_copy(m.data, m.len);
		int r = codec_decode(copy, m.len, payload, &got, &why);
		if (r == 0) {
			check_accepted(&got);
			accepted++;
		} else {
			assert_int_equal(r, -EPROTO);
			assert_non_null(why);
		}
		if (m.len >= FRAME_HEADER) {
			size_t a, b;
			(void)codec_frame_header(copy, &a, &b, &why);
		}
		read_sequences(copy, m.len);
		free(copy);
	}
	/* Both happened, or this test looked at one side only. */
	assert_in_range(accepted, MUTATIONS / 100, MUTATIONS - MUTATIONS / 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_each_field_alone),
	    cmocka_unit_test(test_all_fields_together),
	    cmocka_unit_test(test_any_fields),
	    cmocka_unit_test(test_bytes),
	    cmocka_unit_test(test_no_room),
	    cmocka_unit_test(test_bound),
	    cmocka_unit_test(test_limits_of_encoding),
	    cmocka_unit_test(test_frame_header),
	    cmocka_unit_test(test_malformed),
	    cmocka_unit_test(test_truncated),
	    cmocka_unit_test(test_bare_map),
	    cmocka_unit_test(test_entries),
	    cmocka_unit_test(test_malformed_entries),
	    cmocka_unit_test(test_malformed_invalidations),
	    cmocka_unit_test(test_size_of_no_file),
	    cmocka_unit_test(test_utf8_of_nothing),
	    cmocka_unit_test(test_pairs_and_numbers),
	    cmocka_unit_test(test_items),
	    cmocka_unit_test(test_long_arrays),
	    cmocka_unit_test(test_skip),
	    cmocka_unit_test(test_utf8),
	    cmocka_unit_test(test_mutations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
