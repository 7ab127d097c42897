/* Requests, replies and entries of the plain protocol; what is taken is encoded and taken again. */
#include "fuzz.h"

#include "plain/plain_codec.h"

static void check_request(const unsigned char *frame, size_t size)
{
	struct plain_request q, back;
	struct plain_buf again = {0};
	const char *why = NULL;
	int r = plain_request_decode(frame, size, &q, &why);

	FUZZ_CHECK(r == 0 || why != NULL);
	if (r < 0)
		return;
	FUZZ_CHECK(plain_request_encode(&q, &again) == 0);
	FUZZ_CHECK(plain_request_decode(again.data, again.len, &back, &why) == 0);
	FUZZ_CHECK(back.op == q.op && back.fh == q.fh && back.off == q.off && back.sz == q.sz &&
		   back.path.len == q.path.len && back.data.len == q.data.len &&
		   back.mode == q.mode && back.bad_text == q.bad_text &&
		   back.has_atime == q.has_atime && back.mtime_ns == q.mtime_ns);
	plain_buf_done(&again);
}

/* The entries, each encoded anew, into b. */
static void put_entries(const struct plain_reply *p, struct plain_buf *b)
{
	struct slice in = p->entries;
	struct plain_entry e;
	const char *why = NULL;
	size_t n = 0;
	int r;

	while ((r = plain_entry_next(&in, &e, &why)) == 1) {
		FUZZ_CHECK(plain_entry_put(b, &e) == 0);
		n++;
	}
	FUZZ_CHECK(r == 0 && n == p->entry_count);
}

static void check_reply(const unsigned char *frame, size_t size)
{
	struct plain_reply p, back;
	struct plain_buf again = {0}, entries = {0};
	const char *why = NULL;
	int r = plain_reply_decode(frame, size, &p, &why);

	FUZZ_CHECK(r == 0 || why != NULL);
	if (r < 0)
		return;
	put_entries(&p, &entries);
	p.entries = (struct slice){entries.data, entries.len};
	FUZZ_CHECK(plain_reply_encode(&p, &again) == 0);
	FUZZ_CHECK(plain_reply_decode(again.data, again.len, &back, &why) == 0);
	FUZZ_CHECK(back.err == p.err && back.has_stat == p.has_stat && back.fh == p.fh &&
		   back.data.len == p.data.len && back.written == p.written &&
		   back.entry_count == p.entry_count);
	plain_buf_done(&again);
	plain_buf_done(&entries);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned char *exact = malloc(size > 0 ? size : 1);

	FUZZ_CHECK(exact != NULL);
	if (size > 0)
		memcpy(exact, data, size);
	check_request(exact, size);
	check_reply(exact, size);
	free(exact);
	return 0;
}
