/*
 * Sample messages: every field of fields.def with values at the edges of its
 * kind, and the comparison of two messages field by field.
 */
#pragma once

#include "unit.h"

#define SAMPLE_VARIANTS 12 /* after that many, every value of every kind was there */

static unsigned char sample_bytes[4096];

static inline void sample_UINT(uint64_t *v, unsigned variant)
{
	static const uint64_t values[SAMPLE_VARIANTS] = {
	    0,		1,     23,	   24,	       UINT8_MAX, 256,
	    UINT16_MAX, 65536, UINT32_MAX, 1ull << 32, INT64_MAX, UINT64_MAX,
	};
	*v = values[variant % SAMPLE_VARIANTS];
}

static inline uint32_t sample_u32(unsigned variant)
{
	uint64_t v;

	sample_UINT(&v, variant % 9); /* the last that fits */
	return (uint32_t)v;
}

static inline void sample_BYTES(struct slice *s, unsigned variant)
{
	static const size_t lens[] = {0, 1, 23, 24, MSG_NAME_MAX, 256, sizeof(sample_bytes)};
	size_t n = lens[variant % COUNT(lens)];

	for (size_t i = 0; i < sizeof(sample_bytes); i++)
		sample_bytes[i] = (unsigned char)(i * 7 + 3);
	*s = (struct slice){sample_bytes, n};
}

static inline void sample_TIME(struct msg_time *t, unsigned variant)
{
	static const struct msg_time values[] = {
	    {0, 0},
	    {-1, 999999999},
	    {-24, 0},
	    {-25, 23},
	    {-257, 24},
	    {-65537, 256},
	    {-(INT64_C(1) << 32) - 1, 65536},
	    {INT64_MIN, 1},
	    {INT64_MAX, 23},
	    {1700000000, 123456789},
	};
	*t = values[variant % COUNT(values)];
}

static inline void sample_ATTR(struct attr *a, unsigned variant)
{
	*a = (struct attr){.mode = sample_u32(variant + 2),
			   .uid = sample_u32(variant + 4),
			   .gid = sample_u32(variant + 5),
			   .blksize = sample_u32(variant + 8)};
	sample_UINT(&a->version, variant);
	sample_UINT(&a->ino, variant + 1);
	sample_UINT(&a->nlink, variant + 3);
	sample_UINT(&a->rdev, variant + 6);
	sample_UINT(&a->size, variant + 7);
	a->size &= INT64_MAX;
	sample_UINT(&a->blocks, variant + 9);
	sample_UINT(&a->flags, variant + 10);
	sample_TIME(&a->atime, variant);
	sample_TIME(&a->mtime, variant + 1);
	sample_TIME(&a->ctime, variant + 2);
}

static inline void sample_STATFS(struct fsinfo *f, unsigned variant)
{
	uint64_t *const v[] = {&f->bsize,  &f->frsize, &f->blocks, &f->bfree,
			       &f->bavail, &f->files,  &f->ffree,  &f->namemax};

	for (unsigned i = 0; i < COUNT(v); i++)
		sample_UINT(v[i], variant + i);
}

/* Sets the field with this key to one of its values. */
static inline void sample_set(struct msg *m, unsigned key, unsigned variant)
{
	switch (key) {
#define FIELD(k, name, kind, text)                                                                 \
	case k:                                                                                    \
		sample_##kind(&m->name, variant);                                                  \
		m->present |= MSG_BIT(name);                                                       \
		break;
#include "core/fields.def"
#undef FIELD
	default:
		fail_msg("no field has key %u", key);
	}
}

static inline bool same_UINT(const uint64_t *a, const uint64_t *b)
{
	return *a == *b;
}

static inline bool same_BYTES(const struct slice *a, const struct slice *b)
{
	return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

static inline bool same_TIME(const struct msg_time *a, const struct msg_time *b)
{
	return a->sec == b->sec && a->nsec == b->nsec;
}

static inline bool same_ATTR(const struct attr *a, const struct attr *b)
{
	return a->version == b->version && a->ino == b->ino && a->mode == b->mode &&
	       a->nlink == b->nlink && a->uid == b->uid && a->gid == b->gid && a->rdev == b->rdev &&
	       a->size == b->size && a->blocks == b->blocks && a->blksize == b->blksize &&
	       same_TIME(&a->atime, &b->atime) && same_TIME(&a->mtime, &b->mtime) &&
	       same_TIME(&a->ctime, &b->ctime) && a->flags == b->flags;
}

static inline bool same_STATFS(const struct fsinfo *a, const struct fsinfo *b)
{
	return a->bsize == b->bsize && a->frsize == b->frsize && a->blocks == b->blocks &&
	       a->bfree == b->bfree && a->bavail == b->bavail && a->files == b->files &&
	       a->ffree == b->ffree && a->namemax == b->namemax;
}

/* Fails with the name of the first field that differs; of the payload only the length counts. */
static inline void assert_same_msg(const struct msg *got, const struct msg *want)
{
	assert_true(got->present == want->present);
	assert_int_equal(MSG_HAS(got, payload) ? got->payload.len : 0,
			 MSG_HAS(want, payload) ? want->payload.len : 0);
#define FIELD(k, name, kind, text)                                                                 \
	if (k != FIELD_payload && MSG_HAS(want, name) && !same_##kind(&got->name, &want->name))    \
		fail_msg("field %s differs", #name);
#include "core/fields.def"
#undef FIELD
}
