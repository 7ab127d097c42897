/* The plain protocol's bytes: exactly the seed's, and nothing but sound ones accepted. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmocka_any.h"

#include "plain/plain_codec.h"

#define TEXT(s) ((struct slice){s, sizeof(s) - 1})

static size_t from_hex(const char *hex, unsigned char *out)
{
	size_t n = 0;

	for (; *hex != '\0'; hex++) {
		unsigned v;

		if (*hex == ' ')
			continue;
		assert_int_equal(sscanf(hex, "%2x", &v), 1);
		out[n++] = (unsigned char)v;
		hex++;
	}
	return n;
}

static void assert_bytes(const struct plain_buf *b, const char *hex)
{
	unsigned char want[1024];
	size_t n = from_hex(hex, want);

	assert_int_equal(b->len, n);
	assert_memory_equal(b->data, want, n);
}

static void assert_slice(struct slice s, const char *text)
{
	assert_int_equal(s.len, strlen(text));
	assert_memory_equal(s.data, text, s.len);
}

/* ---- encoding ---- */

static void test_request_bytes(void **state)
{
	struct plain_buf b = {0};
	const struct plain_request lookup = {.op = PLAIN_LOOKUP, .path = TEXT("/w/a")};
	const struct plain_request all = {.op = PLAIN_RENAME,
					  .path = TEXT("p"),
					  .new_path = TEXT("n"),
					  .fh = 24,
					  .off = -1,
					  .sz = 256,
					  .data = TEXT("d"),
					  .flags = 65536,
					  .mode = 0644,
					  .uid = 1000,
					  .gid = 23};
	const struct plain_request none = {.op = PLAIN_GETATTR};

	(void)state;
	assert_int_equal(plain_request_encode(&lookup, &b), 0);
	assert_bytes(&b, "a2 626f70 00 6470617468 642f772f61");
	assert_int_equal(plain_request_encode(&all, &b), 0);
	assert_bytes(&b, "ab 626f70 09 6470617468 6170 686e65775f70617468 616e 626668 1818"
			 "636f6666 20 62737a 190100 6464617461 4164 65666c616773 1a00010000"
			 "646d6f6465 1901a4 63756964 1903e8 63676964 17");
	assert_int_equal(plain_request_encode(&none, &b), 0);
	assert_bytes(&b, "a1 626f70 01");
	plain_buf_done(&b);
}

static void test_reply_bytes(void **state)
{
	struct plain_buf b = {0}, entries = {0};
	struct plain_reply p = {.err = -2};
	const struct plain_entry e = {
	    .name = TEXT("x"), .is_dir = true, .mode = PLAIN_MODE_DIR | 0755, .size = 1, .ino = 9};
	const struct plain_entry bare = {.name = TEXT("y")};

	(void)state;
	assert_int_equal(plain_reply_encode(&p, &b), 0);
	assert_bytes(&b, "a1 63657272 21");

	p = (struct plain_reply){.has_stat = true,
				 .stat = {.size = 5, .mode = 0644, .mtime = -1, .ino = 7}};
	assert_int_equal(plain_reply_encode(&p, &b), 0);
	assert_bytes(&b, "a2 63657272 00 6473746174 a5 6473697a65 05 646d6f6465 1901a4"
			 "656d74696d65 20 6669735f646972 f4 63696e6f 07");
	p.stat.ino = 0;
	assert_int_equal(plain_reply_encode(&p, &b), 0);
	assert_bytes(&b, "a2 63657272 00 6473746174 a4 6473697a65 05 646d6f6465 1901a4"
			 "656d74696d65 20 6669735f646972 f4");

	p = (struct plain_reply){.data = TEXT("hi"), .written = 3, .fh = 1};
	assert_int_equal(plain_reply_encode(&p, &b), 0);
	assert_bytes(&b, "a4 63657272 00 6464617461 426869 677772697474656e 03 626668 01");

	assert_int_equal(plain_entry_put(&entries, &e), 0);
	assert_int_equal(plain_entry_put(&entries, &bare), 0);
	p = (struct plain_reply){.entry_count = 2, .entries = {entries.data, entries.len}};
	assert_int_equal(plain_reply_encode(&p, &b), 0);
	assert_bytes(&b, "a2 63657272 00 67656e7472696573 82"
			 "a5 646e616d65 6178 6669735f646972 f5 646d6f6465 1a800001ed 6473697a65 01"
			 "63696e6f 09"
			 "a4 646e616d65 6179 6669735f646972 f4 646d6f6465 00 6473697a65 00");
	plain_buf_done(&b);
	plain_buf_done(&entries);
}

static void test_round_trip(void **state)
{
	struct plain_buf b = {0};
	struct plain_request q = {.op = PLAIN_WRITE,
				  .path = TEXT("/w/\xc3\xa9"),
				  .fh = UINT64_MAX,
				  .off = INT64_MAX,
				  .sz = UINT32_MAX,
				  .uid = UINT32_MAX};
	struct plain_request got;
	const char *why = NULL;
	char *data = calloc(1, 1 << 20);

	(void)state;
	assert_non_null(data);
	q.data = (struct slice){data, 1 << 20};
	assert_int_equal(plain_request_encode(&q, &b), 0);
	assert_int_equal(plain_request_decode(b.data, b.len, &got, &why), 0);
	assert_int_equal(got.op, q.op);
	assert_slice(got.path, "/w/\xc3\xa9");
	assert_true(got.fh == q.fh && got.off == q.off && got.sz == q.sz && got.uid == q.uid);
	assert_int_equal(got.data.len, 1 << 20);
	assert_false(got.bad_text);
	free(data);
	plain_buf_done(&b);
}

static void test_large_listing(void **state)
{
	enum { COUNT = 100000 };
	struct plain_buf b = {0}, entries = {0};
	struct plain_reply p = {0}, got;
	struct plain_entry e = {.mode = 0644};
	const char *why = NULL;
	char name[32];

	(void)state;
	for (unsigned i = 0; i < COUNT; i++) {
		e.name = (struct slice){name, (size_t)snprintf(name, sizeof(name), "file-%u", i)};
		e.ino = i + 1;
		assert_int_equal(plain_entry_put(&entries, &e), 0);
	}
	p.entry_count = COUNT;
	p.entries = (struct slice){entries.data, entries.len};
	assert_int_equal(plain_reply_encode(&p, &b), 0);
	assert_int_equal(plain_reply_decode(b.data, b.len, &got, &why), 0);
	assert_int_equal(got.entry_count, COUNT);
	struct slice in = got.entries;
	unsigned n = 0;
	while (plain_entry_next(&in, &e, &why) == 1) {
		(void)snprintf(name, sizeof(name), "file-%u", n);
		assert_slice(e.name, name);
		assert_int_equal(e.ino, ++n);
	}
	assert_int_equal(n, COUNT);
	plain_buf_done(&b);
	plain_buf_done(&entries);
}

static void test_too_large(void **state)
{
	struct plain_buf b = {0};
	struct plain_request q = {.op = PLAIN_WRITE, .data = {"", PLAIN_FRAME_MAX + 1}};
	struct plain_reply p = {.data = {"", PLAIN_FRAME_MAX + 1}};

	(void)state;
	assert_int_equal(plain_request_encode(&q, &b), -EMSGSIZE);
	assert_int_equal(plain_reply_encode(&p, &b), -EMSGSIZE);
	q = (struct plain_request){.path = {"", PLAIN_PATH_MAX + 1}};
	assert_int_equal(plain_request_encode(&q, &b), -EMSGSIZE);
	assert_null(b.data);
}

/* ---- decoding ---- */

static int decode_request(const char *hex, struct plain_request *ret)
{
	unsigned char buf[1024];
	const char *why = NULL;
	/* exactly as large as the frame: a sanitizer sees what is read beyond */
	size_t n = from_hex(hex, buf);
	unsigned char *exact = malloc(n + (n == 0));
	struct plain_request q;

	assert_non_null(exact);
	memcpy(exact, buf, n);
	int r = plain_request_decode(exact, n, &q, &why);
	if (r < 0)
		assert_non_null(why);
	else if (ret != NULL)
		*ret = q;
	free(exact);
	return r;
}

static int decode_reply(const char *hex, struct plain_reply *ret)
{
	unsigned char buf[1024];
	const char *why = NULL;
	size_t n = from_hex(hex, buf);
	unsigned char *exact = malloc(n + (n == 0));
	struct plain_reply p;

	assert_non_null(exact);
	memcpy(exact, buf, n);
	int r = plain_reply_decode(exact, n, &p, &why);
	if (r < 0)
		assert_non_null(why);
	else if (ret != NULL)
		*ret = p;
	free(exact);
	return r;
}

static void test_decode_lenient(void **state)
{
	struct plain_request q;
	struct plain_reply p;

	(void)state;
	/* other order, an unknown key with a nested value, integer and byte-string keys, null */
	assert_int_equal(decode_request("a6 62737a 05 6178 82 a1 6179 01 f6 01 02 4178 03"
					" 626f70 03 626668 f6",
					&q),
			 0);
	assert_true(q.op == PLAIN_READ && q.sz == 5 && q.fh == 0);
	assert_int_equal(decode_reply("a5 656e7472696573 f6 6473746174 f6 6464617461 f6 63657272 21"
				      " 6178 f5",
				      NULL),
			 -EPROTO); /* "entrie": the key is cut short */
	assert_int_equal(decode_reply("a5 67656e7472696573 f6 6473746174 f6 6464617461 f6"
				      " 63657272 21 6178 f5",
				      &p),
			 0);
	assert_true(p.err == -2 && !p.has_stat && p.entry_count == 0);
	/* a stat with less, and with more, than there is */
	assert_int_equal(
	    decode_reply("a2 63657272 00 6473746174 a2 63756964 05 6669735f646972 f5", &p), 0);
	assert_true(p.has_stat && p.stat.is_dir && p.stat.size == 0);
	/* text that is no UTF-8: told, not refused; an entry's name is left to the caller */
	assert_int_equal(decode_request("a2 626f70 00 6470617468 62ff2f", &q), 0);
	assert_true(q.bad_text);
	assert_int_equal(decode_reply("a2 63657272 00 67656e7472696573 81 a1 646e616d65 61ff", &p),
			 0);
	assert_int_equal(p.entry_count, 1);
	assert_int_equal(decode_reply("a1 63657272 3a7fffffff", &p), 0);
	assert_int_equal(p.err, INT32_MIN);
}

static void test_decode_refused(void **state)
{
	static const char *const requests[] = {
	    "",
	    "80",			    /* no map */
	    "a0",			    /* no op */
	    "a1 626f70",		    /* cut */
	    "a1 626f70 00 00",		    /* more behind it */
	    "a2 626f70 00 626f70 00",	    /* twice */
	    "bf 626f70 00 ff",		    /* indefinite map */
	    "a1 626f70 20",		    /* negative */
	    "a1 626f70 1b0000000100000000", /* beyond 32 bits */
	    "a1 626f70 1800",		    /* not the shortest form */
	    "a1 626f70 f90000",		    /* a float */
	    "a1 626f70 c100",		    /* a tag */
	    "a2 626f70 00 6470617468 412f", /* bytes for text */
	    "a2 626f70 00 6464617461 6161", /* text for bytes */
	    "a2 626f70 00 6464617461 5bffffffffffffffff",
	    "a2 626f70 00 6470617468 7bffffffffffffffff 61",
	    "bbffffffffffffffff 626f70 00",
	    "a2 626f70 00 6470617468 7f 6161 ff",
	    "a2 626f70 00 626668 20",
	    "a2 626f70 00 62737a 1b0000000100000000",
	    "a2 626f70 00 636f6666 1b8000000000000000",
	    "a2 626f70 00 6178 818181818181818181818180", /* too deep */
	    "a2 626f70 00 6178 9f00ff",
	};
	static const char *const replies[] = {
	    "",
	    "a0", /* no err */
	    "a1 63657272 f5",
	    "a1 63657272 1a80000000",			  /* beyond int32 */
	    "a2 63657272 00 6473746174 80",		  /* a stat that is no map */
	    "a2 63657272 00 6473746174 a1 6473697a65 20", /* a negative size */
	    "a2 63657272 00 6473746174 a1 6669735f646972 01",
	    "a2 63657272 00 67656e7472696573 a0",
	    "a2 63657272 00 67656e7472696573 9bffffffffffffffff",
	    "a2 63657272 00 67656e7472696573 82 a1 646e616d65 6178",
	    "a2 63657272 00 67656e7472696573 81 01",
	    "a2 63657272 00 67656e7472696573 9f ff",
	    "a2 63657272 00 677772697474656e 1b0000000100000000",
	    "bf 63657272 00 ff",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
		if (decode_request(requests[i], NULL) != -EPROTO)
			fail_msg("accepted request %s", requests[i]);
	for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++)
		if (decode_reply(replies[i], NULL) != -EPROTO)
			fail_msg("accepted reply %s", replies[i]);
}

/* Every way to cut a message short, and every single byte changed: refused or understood. */
static void test_mutations(void **state)
{
	static const char hex[] = "a6 63657272 21 6473746174 a5 6473697a65 05 646d6f6465 1901a4"
				  "656d74696d65 20 6669735f646972 f4 63696e6f 07 6464617461 426869"
				  "677772697474656e 03 626668 01 67656e7472696573 81 a5 646e616d65"
				  "6178 6669735f646972 f5 646d6f6465 1a800001ed 6473697a65 01"
				  "63696e6f 09";
	unsigned char good[512];
	size_t n = from_hex(hex, good);
	struct plain_reply p;
	const char *why;

	(void)state;
	assert_int_equal(plain_reply_decode(good, n, &p, &why), 0);
	for (size_t cut = 0; cut < n; cut++) {
		unsigned char *exact = malloc(cut + 1);

		assert_non_null(exact);
		memcpy(exact, good, cut);
		assert_int_equal(plain_reply_decode(exact, cut, &p, &why), -EPROTO);
		free(exact);
	}
	unsigned char *exact = malloc(n);
	assert_non_null(exact);
	for (size_t at = 0; at < n; at++) {
		for (unsigned v = 0; v < 256; v++) {
			struct plain_request q;

			memcpy(exact, good, n);
			exact[at] = (unsigned char)v;
			int r = plain_reply_decode(exact, n, &p, &why);
			assert_true(r == 0 || r == -EPROTO);
			r = plain_request_decode(exact, n, &q, &why);
			assert_true(r == 0 || r == -EPROTO);
		}
	}
	free(exact);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_request_bytes),  cmocka_unit_test(test_reply_bytes),
	    cmocka_unit_test(test_round_trip),	   cmocka_unit_test(test_large_listing),
	    cmocka_unit_test(test_too_large),	   cmocka_unit_test(test_decode_lenient),
	    cmocka_unit_test(test_decode_refused), cmocka_unit_test(test_mutations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
