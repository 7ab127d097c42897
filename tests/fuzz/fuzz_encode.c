/*
 * Messages of any fields, requests and replies of both protocols, to bytes and back: what one side
 * says the other one hears, within the bound that was told for it.
 */
#include "fuzz.h"

#include "plain/plain_codec.h"
#include "transport/codec.h"

static void check_extended(struct fuzz_in *in)
{
	struct msg m = {0}, back = {0};
	const char *why = NULL;

	fuzz_fields(in, &m);
	size_t payload = MSG_HAS(&m, payload) ? m.payload.len : 0;
	size_t bound = codec_encode_bound(&m);
	unsigned char *buf = malloc(bound), *again = malloc(bound);
	FUZZ_CHECK(buf != NULL && again != NULL);
	size_t n = codec_encode(&m, buf, bound), head, told;
	FUZZ_CHECK(n > 0 && n <= bound);
	FUZZ_CHECK(codec_encode(&m, again, n - 1) == 0);
	FUZZ_CHECK(codec_frame_header(buf, &head, &told, &why) == 0);
	FUZZ_CHECK(head == n - FRAME_HEADER && told == payload);
	FUZZ_CHECK(codec_decode(buf + FRAME_HEADER, head, told, &back, &why) == 0);
	FUZZ_CHECK(back.present == m.present);
	FUZZ_CHECK(codec_encode(&back, again, bound) == n && memcmp(buf, again, n) == 0);
	free(buf);
	free(again);
}

static void check_plain_request(struct fuzz_in *in)
{
	struct plain_request q = {.op = (uint32_t)fuzz_number(in),
				  .path = fuzz_name(in),
				  .new_path = fuzz_name(in),
				  .fh = fuzz_number(in),
				  .off = (int64_t)fuzz_number(in),
				  .sz = (uint32_t)fuzz_number(in),
				  .data = fuzz_name(in),
				  .flags = (uint32_t)fuzz_number(in),
				  .mode = (uint32_t)fuzz_number(in),
				  .uid = (uint32_t)fuzz_number(in),
				  .has_atime = fuzz_byte(in) & 1,
				  .has_mtime = fuzz_byte(in) & 1};
	struct plain_request back;
	struct plain_buf b = {0};
	const char *why = NULL;

	if (q.has_atime)
		q.atime_ns = (int64_t)fuzz_number(in);
	if (q.has_mtime)
		q.mtime_ns = (int64_t)fuzz_number(in);
	FUZZ_CHECK(plain_request_encode(&q, &b) == 0);
	FUZZ_CHECK(plain_request_decode(b.data, b.len, &back, &why) == 0);
	FUZZ_CHECK(back.op == q.op && back.path.len == q.path.len && back.off == q.off &&
		   back.new_path.len == q.new_path.len && back.data.len == q.data.len &&
		   back.uid == q.uid && back.has_atime == q.has_atime &&
		   back.atime_ns == q.atime_ns && back.mtime_ns == q.mtime_ns);
	plain_buf_done(&b);
}

static void check_plain_reply(struct fuzz_in *in)
{
	struct plain_buf entries = {0}, b = {0};
	struct plain_reply p = {.err = (int32_t)fuzz_number(in),
				.has_stat = fuzz_byte(in) & 1,
				.data = fuzz_name(in),
				.written = (uint32_t)fuzz_number(in),
				.fh = fuzz_number(in),
				.entry_count = fuzz_byte(in) & 31};
	struct plain_reply back;
	const char *why = NULL;

	p.stat = (struct plain_stat){.size = (int64_t)(fuzz_number(in) & INT64_MAX),
				     .mode = (uint32_t)fuzz_number(in),
				     .mtime = (int64_t)fuzz_number(in),
				     .ino = fuzz_number(in),
				     .uid = (uint32_t)fuzz_number(in)};
	for (size_t i = 0; i < p.entry_count; i++) {
		struct plain_entry e = {.name = fuzz_name(in),
					.mode = (uint32_t)fuzz_number(in),
					.size = (int64_t)fuzz_number(in),
					.ino = fuzz_number(in)};
		FUZZ_CHECK(plain_entry_put(&entries, &e) == 0);
	}
	p.entries = (struct slice){entries.data, entries.len};
	FUZZ_CHECK(plain_reply_encode(&p, &b) == 0);
	FUZZ_CHECK(plain_reply_decode(b.data, b.len, &back, &why) == 0);
	FUZZ_CHECK(back.err == p.err && back.entry_count == p.entry_count &&
		   back.written == p.written && back.fh == p.fh);
	FUZZ_CHECK(!p.has_stat || (back.stat.size == p.stat.size &&
				   back.stat.mtime == p.stat.mtime && back.stat.uid == p.stat.uid));
	plain_buf_done(&entries);
	plain_buf_done(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_in in = {.at = data, .left = size};

	switch (fuzz_byte(&in) % 3) {
	case 0:
		check_extended(&in);
		break;
	case 1:
		check_plain_request(&in);
		break;
	default:
		check_plain_reply(&in);
	}
	return 0;
}
