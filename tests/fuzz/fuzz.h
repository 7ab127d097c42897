/*
 * What the fuzz targets share: the input as a row of choices, and messages made of choices.
 *
 * An input never runs out of anything but meaning: behind its end every choice is 0. So each
 * prefix of an input is an input, and every input can be cut, spliced and grown.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/msg.h"

#define FUZZ_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Of libFuzzer. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

/* A finding: the input is kept, and the run ends. */
#define FUZZ_CHECK(cond)                                                                           \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			(void)fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #cond);   \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

#define FUZZ_KNOWN 8

struct fuzz_in {
	const uint8_t *at;
	size_t left;
	uint64_t known[FUZZ_KNOWN]; /* ids that the other side has named */
	unsigned n_known;
};

static inline uint8_t fuzz_byte(struct fuzz_in *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->at++;
}

static inline struct slice fuzz_bytes(struct fuzz_in *in, size_t max)
{
	size_t n = fuzz_byte(in);

	if (n == UINT8_MAX)
		n += (size_t)fuzz_byte(in) << 8;
	n = n < in->left ? n : in->left;
	n = n < max ? n : max;
	struct slice s = {in->at, n};
	in->at += n;
	in->left -= n;
	return s;
}

static inline void fuzz_learn(struct fuzz_in *in, uint64_t id)
{
	in->known[in->n_known++ % FUZZ_KNOWN] = id;
}

/* Below 24 an edge, from 200 on an id that is known, from 224 on eight bytes as they come. */
static inline uint64_t fuzz_number(struct fuzz_in *in)
{
	static const uint64_t edges[24] = {
		0,	 1,	   2,	    3,		       4,	  64,		      255,
		4095,	 4096,	   0100644, 040755,	       0120777,	  010600,	      04755,
		1u << 16, 1u << 20, 1048577, UINT64_C(1) << 31, UINT32_MAX, UINT64_C(1) << 32,
		UINT64_C(1) << 45, INT64_MAX, UINT64_C(1) << 63, UINT64_MAX};
	uint8_t c = fuzz_byte(in);

	if (c < FUZZ_COUNT(edges))
		return edges[c];
	if (c < 200)
		return c;
	if (c < 224)
		return in->n_known == 0 ? c : in->known[c % FUZZ_KNOWN];
	uint64_t v = 0;
	for (unsigned i = 0; i < 8; i++)
		v = v << 8 | fuzz_byte(in);
	return v;
}

static inline struct slice fuzz_name(struct fuzz_in *in)
{
	static const char *const names[] = {"a",    "b",	   "c",	     "d",	  "f",
					    "out",  ".",	   "..",     "/",	  "../out",
					    "d/..", "user.x",	   "d/f",    "",	  "a\n\x1b[1m",
					    "x\xff", "security.capability", "system.posix_acl_access"};
	uint8_t c = fuzz_byte(in);

	if (c < FUZZ_COUNT(names))
		return (struct slice){names[c], strlen(names[c])};
	return fuzz_bytes(in, 300);
}

/* ---- fields ---- */

static inline void fuzz_UINT(struct fuzz_in *in, uint64_t *v)
{
	*v = fuzz_number(in);
}

static inline void fuzz_BYTES(struct fuzz_in *in, struct slice *s)
{
	*s = fuzz_name(in);
}

static inline void fuzz_TIME(struct fuzz_in *in, struct msg_time *t)
{
	t->sec = (int64_t)fuzz_number(in);
	t->nsec = (uint32_t)(fuzz_number(in) % 1000000000);
}

static inline void fuzz_ATTR(struct fuzz_in *in, struct attr *a)
{
	static const uint32_t modes[] = {0100644, 040755, 0120777, 010600, 0140600,
					 020600,  060600, 0,	   0170000, 0104755};
	uint8_t what = fuzz_byte(in);

	*a = (struct attr){.version = fuzz_number(in), .ino = 7, .nlink = 1, .blksize = 4096};
	a->mode = modes[fuzz_byte(in) % FUZZ_COUNT(modes)];
	a->size = fuzz_number(in) & INT64_MAX;
	if (what & 1)
		a->nlink = fuzz_number(in);
	if (what & 2)
		a->ino = fuzz_number(in);
	if (what & 4)
		a->rdev = fuzz_number(in);
	if (what & 8)
		a->blocks = fuzz_number(in);
	if (what & 16)
		a->blksize = (uint32_t)fuzz_number(in);
	if (what & 32)
		fuzz_TIME(in, &a->mtime);
	if (what & 64)
		a->flags = fuzz_number(in);
	if (what & 128) {
		a->mode = (uint32_t)fuzz_number(in);
		a->uid = (uint32_t)fuzz_number(in);
	}
}

static inline void fuzz_STATFS(struct fuzz_in *in, struct fsinfo *f)
{
	*f = (struct fsinfo){.bsize = fuzz_number(in), .blocks = fuzz_number(in), .namemax = 255};
}

/* Sets one field; keys that no field has are passed over. */
static inline void fuzz_field(struct fuzz_in *in, struct msg *m, unsigned key)
{
	switch (key) {
#define FIELD(k, name, kind, text)                                                                 \
	case k:                                                                                    \
		fuzz_##kind(in, &m->name);                                                         \
		m->present |= MSG_BIT(name);                                                       \
		break;
#include "core/fields.def"
#undef FIELD
	default:
		break;
	}
}

/* Sets fields until a key that none has. */
static inline void fuzz_fields(struct fuzz_in *in, struct msg *m)
{
	while (in->left > 0) {
		uint8_t key = fuzz_byte(in);

		if (key >= FIELD_COUNT)
			return;
		fuzz_field(in, m, key);
	}
}

/* Those of the bits that are not set yet. */
static inline void fuzz_missing(struct fuzz_in *in, struct msg *m, uint64_t bits)
{
	for (uint64_t left = bits & ~m->present; left != 0; left &= left - 1)
		fuzz_field(in, m, (unsigned)__builtin_ctzll(left));
}

/* What the table says that a request, or a successful reply, of this message has. */
static inline uint64_t fuzz_needs(uint64_t op, bool reply)
{
#define F(field) MSG_BIT(field)
#define T(trait) 0
	switch (op) {
#define MESSAGE(code, NAME, request_, reply_, traits_, text_)                                      \
	case code:                                                                                 \
		return reply ? (reply_) : (request_);
#include "core/messages.def"
#undef MESSAGE
	default:
		return 0;
	}
#undef F
#undef T
}

/* One of the table's operations; seldom any number. */
static inline uint64_t fuzz_op(struct fuzz_in *in)
{
	static const uint8_t ops[] = {
#define MESSAGE(code, NAME, request_, reply_, traits_, text_) code,
#include "core/messages.def"
#undef MESSAGE
	};
	uint8_t c = fuzz_byte(in);

	return c == UINT8_MAX ? fuzz_number(in) : ops[c % sizeof(ops)];
}
