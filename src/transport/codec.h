/*
 * Messages to CBOR bytes and back: the only place that knows CBOR.
 *
 * Extended frames: u32 total, u32 head (big-endian), then one CBOR map of
 * integer keys whose payload, if any, is the last key. head counts the map up
 * to and including the payload's byte-string header, total = head + payload.
 *
 * Nothing here allocates or keeps state; every function may be called from
 * any thread. Decoding trusts nothing: lengths and counts are checked against
 * the bytes that are there before an item is decoded; indefinite lengths,
 * duplicate or unknown-kind fields, floats, tags and non-shortest integers
 * are refused. Keys that are not in fields.def are refused as well, except in
 * a bare map: the keys that a later version adds to HELLO are passed over.
 * Errors: -EPROTO with *ret_why set to a constant text.
 */
#pragma once

#include "core/backend.h"

#define FRAME_HEADER 8

/*
 * Encodes m as the frame header and the head of a frame; the m->payload.len
 * bytes of a payload follow it on the wire. Returns the bytes written, 0 if
 * buf is too small or a limit is exceeded.
 */
size_t codec_encode(const struct msg *m, unsigned char *buf, size_t cap);

/* The most bytes that codec_encode needs for m. */
size_t codec_encode_bound(const struct msg *m);

/* The bytes at the end of an encoded head that tell of m's payload. */
size_t codec_payload_head(const struct msg *m);

/* Checks the lengths of a frame header against the limits. */
int codec_frame_header(const unsigned char buf[FRAME_HEADER], size_t *ret_head, size_t *ret_payload,
		       const char **ret_why);

/*
 * Decodes a head. Slices of *ret point into buf; ret->payload has its length
 * and a NULL pointer, which the caller sets when it has read the payload.
 */
int codec_decode(const unsigned char *buf, size_t len, size_t payload_len, struct msg *ret,
		 const char **ret_why);

/* Bare maps (the HELLO data of a plain frame): a message's map without a frame header. */
size_t codec_encode_map(const struct msg *m, unsigned char *buf, size_t cap);
int codec_decode_map(const unsigned char *buf, size_t len, struct msg *ret, const char **ret_why);

/*
 * Sequences of items inside a payload. put: returns the bytes written at buf,
 * 0 if they do not fit. get: takes one item off *in; 1 got one, 0 at the end,
 * -EPROTO.
 */
size_t codec_put_entry(const struct dir_entry *e, unsigned char *buf, size_t cap);
int codec_get_entry(struct slice *in, struct dir_entry *ret);
size_t codec_put_inv(const struct inv_item *i, unsigned char *buf, size_t cap);
int codec_get_inv(struct slice *in, struct inv_item *ret);
size_t codec_put_pair(uint64_t a, uint64_t b, unsigned char *buf, size_t cap);
int codec_get_pair(struct slice *in, uint64_t *ret_a, uint64_t *ret_b);
size_t codec_put_uint(uint64_t v, unsigned char *buf, size_t cap);
int codec_get_uint(struct slice *in, uint64_t *ret);

/* The sequences that the cache reads, for struct backend. */
extern const struct msg_sequences codec_sequences;

/*
 * The primitives, for src/plain/plain_codec.c: text keys and the seed's
 * maps. An item is read by its initial byte and length, checked against the
 * bytes left; strings are slices into the input.
 */
enum item_type {
	ITEM_UINT,
	ITEM_NEGINT,
	ITEM_BYTES,
	ITEM_TEXT,
	ITEM_ARRAY,
	ITEM_MAP,
	ITEM_BOOL,
	ITEM_NULL
};

struct item {
	enum item_type type;
	uint64_t
		value; /* UINT; NEGINT: -1 - value; BOOL; ARRAY and MAP: number of items or pairs */
	struct slice bytes; /* BYTES and TEXT */
};

int item_get(struct slice *in, struct item *ret);
/* Passes over one item and all items inside it, which may be nested `depth` deep. */
int item_skip(struct slice *in, unsigned depth);
bool utf8_valid(struct slice s);

/* Appends items to a buffer; ok turns false, and stays so, when one does not fit. */
struct item_writer {
	unsigned char *buf;
	size_t cap, len;
	bool ok;
};
void item_put_uint(struct item_writer *w, uint64_t v);
void item_put_int(struct item_writer *w, int64_t v);
void item_put_bytes(struct item_writer *w, struct slice s);
void item_put_text(struct item_writer *w, struct slice s);
void item_put_array(struct item_writer *w, size_t n);
void item_put_map(struct item_writer *w, size_t n);
void item_put_bool(struct item_writer *w, bool v);
