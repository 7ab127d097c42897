/*
 * Extended frames and the sequences inside payloads, as bytes come from either side. What is
 * taken is encoded again: the same bytes, since there is one form of everything, but for the
 * order of keys.
 */
#include "fuzz.h"

#include "transport/codec.h"

static void check_again(const struct msg *m, size_t head)
{
	size_t bound = codec_encode_bound(m);
	unsigned char *again = malloc(bound);
	struct msg back = {0};
	const char *why = NULL;

	FUZZ_CHECK(again != NULL);
	size_t n = codec_encode(m, again, bound);
	FUZZ_CHECK(n == FRAME_HEADER + head);
	FUZZ_CHECK(codec_decode(again + FRAME_HEADER, head, m->payload.len, &back, &why) == 0);
	FUZZ_CHECK(back.present == m->present);
	free(again);
}

#define SEQUENCE(get, put, type)                                                                   \
	static void check_##get(struct slice in)                                                   \
	{                                                                                          \
		type item;                                                                         \
		unsigned char again[70000];                                                        \
		int r;                                                                             \
                                                                                                   \
		memset(&item, 0, sizeof(item));                                                    \
		for (;;) {                                                                         \
			struct slice before = in;                                                  \
			r = get(&in, &item);                                                       \
			if (r != 1)                                                                \
				break;                                                             \
			FUZZ_CHECK(in.len < before.len);                                           \
			size_t n = put(&item, again, sizeof(again));                               \
			FUZZ_CHECK(n <= before.len - in.len);                                      \
		}                                                                                  \
		FUZZ_CHECK(r < 0 || in.len == 0);                                                 \
	}

SEQUENCE(codec_get_entry, codec_put_entry, struct dir_entry)
SEQUENCE(codec_get_inv, codec_put_inv, struct inv_item)

static void check_numbers(struct slice in)
{
	struct slice pairs = in;
	uint64_t a, b;

	while (codec_get_uint(&in, &a) == 1)
		;
	while (codec_get_pair(&pairs, &a, &b) == 1)
		;
}

/* Of exactly these bytes, so that a read behind them is seen. */
static void check_frame(const uint8_t *data, size_t size)
{
	size_t head, payload;
	struct msg m = {0};
	const char *why = NULL;

	if (codec_frame_header(data, &head, &payload, &why) < 0) {
		FUZZ_CHECK(why != NULL);
		return;
	}
	if (head > size - FRAME_HEADER)
		return;
	unsigned char *exact = malloc(head);
	FUZZ_CHECK(exact != NULL);
	memcpy(exact, data + FRAME_HEADER, head);
	int r = codec_decode(exact, head, payload, &m, &why);
	FUZZ_CHECK(r == 0 || (r < 0 && why != NULL));
	if (r == 0) {
		check_again(&m, head);
		(void)msg_request_complete(&m);
		(void)msg_reply_complete(MSG_HAS(&m, op) ? m.op : 0, &m);
		(void)msg_synchronises(&m);
	}
	free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size >= FRAME_HEADER)
		check_frame(data, size);
	struct slice in = {data, size};
	check_codec_get_entry(in);
	check_codec_get_inv(in);
	check_numbers(in);
	return 0;
}
