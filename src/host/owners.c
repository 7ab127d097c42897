#include "host/owners.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- ranges ---- */

/* Digits up to ':' or the end; the kernel keeps the largest number for "no id". */
static bool take_number(const char **at, uint32_t *ret)
{
	char *end;

	if (**at < '0' || **at > '9')
		return false;
	errno = 0;
	unsigned long v = strtoul(*at, &end, 10);
	if (errno != 0 || v >= UINT32_MAX || (*end != ':' && *end != '\0'))
		return false;
	*at = *end == ':' ? end + 1 : end;
	*ret = (uint32_t)v;
	return true;
}

static bool within(uint32_t id, uint32_t from, uint32_t count)
{
	return id >= from && id - from < count;
}

static bool overlap(uint32_t a, uint32_t n, uint32_t b, uint32_t m)
{
	return within(a, b, m) || within(b, a, n);
}

static const char *wrong_range(const struct id_ranges *r, uint32_t guest, uint32_t host,
			       uint32_t count)
{
	if (count == 0 || count > UINT32_MAX - guest || count > UINT32_MAX - host)
		return "the range is empty or too long";
	for (size_t i = 0; i < r->n; i++)
		if (overlap(guest, count, r->ranges[i].guest, r->ranges[i].count) ||
		    overlap(host, count, r->ranges[i].host, r->ranges[i].count))
			return "it overlaps another range";
	return r->n == OWNERS_RANGES_MAX ? "there are too many" : NULL;
}

int id_ranges_parse(struct id_ranges *r, const char *text, char *err, size_t err_len)
{
	uint32_t guest, host, count = 1;
	const char *at = text;
	bool good = take_number(&at, &guest) && at[-1] == ':' && take_number(&at, &host);

	if (good && at[-1] == ':')
		good = take_number(&at, &count);
	if (!good || *at != '\0' || at[-1] == ':') {
		(void)snprintf(err, err_len, "'%s' is not GUEST:HOST[:COUNT], numbers", text);
		return -EINVAL;
	}
	const char *why = wrong_range(r, guest, host, count);
	if (why != NULL) {
		(void)snprintf(err, err_len, "'%s': %s", text, why);
		return -EINVAL;
	}
	r->ranges[r->n].guest = guest;
	r->ranges[r->n].host = host;
	r->ranges[r->n++].count = count;
	return 0;
}

/* ---- ids ---- */

static bool find_guest(const struct id_ranges *r, uint32_t host, uint32_t *ret)
{
	for (size_t i = 0; i < r->n; i++)
		if (within(host, r->ranges[i].host, r->ranges[i].count)) {
			*ret = r->ranges[i].guest + (host - r->ranges[i].host);
			return true;
		}
	if (r->n == 0)
		*ret = host;
	return r->n == 0;
}

bool id_has_guest(const struct id_ranges *r, uint32_t host)
{
	uint32_t guest;

	return find_guest(r, host, &guest);
}

uint32_t id_to_guest(const struct id_ranges *r, uint32_t host)
{
	uint32_t guest;

	return find_guest(r, host, &guest) ? guest : OWNERS_NOBODY;
}

bool id_to_host(const struct id_ranges *r, uint64_t guest, uint32_t *ret)
{
	if (guest >= UINT32_MAX)
		return false;
	for (size_t i = 0; i < r->n; i++)
		if (within((uint32_t)guest, r->ranges[i].guest, r->ranges[i].count)) {
			*ret = r->ranges[i].host + ((uint32_t)guest - r->ranges[i].guest);
			return true;
		}
	if (r->n == 0)
		*ret = (uint32_t)guest;
	return r->n == 0;
}

/* ---- ACLs ---- */

/* POSIX_ACL_XATTR_VERSION, ACL_USER and ACL_GROUP of the kernel; all little-endian. */
#define ACL_VERSION 2
#define ACL_USER    2
#define ACL_GROUP   8

struct acl_entry {
	uint16_t tag, perm;
	uint32_t id;
};

static bool is_acl(const unsigned char *acl, size_t len)
{
	uint32_t version;

	if (len < sizeof(version) || (len - sizeof(version)) % sizeof(struct acl_entry) != 0)
		return false;
	memcpy(&version, acl, sizeof(version));
	return le32toh(version) == ACL_VERSION;
}

/* The ranges that an entry's id is of; NULL: it has none. */
static const struct id_ranges *ranges_of(const struct owners *o, const struct acl_entry *e)
{
	return le16toh(e->tag) == ACL_USER    ? &o->uid
	       : le16toh(e->tag) == ACL_GROUP ? &o->gid
					      : NULL;
}

static int translate(const struct owners *o, unsigned char *acl, size_t len, bool to_host)
{
	for (size_t at = sizeof(uint32_t); at < len; at += sizeof(struct acl_entry)) {
		struct acl_entry e;
		uint32_t id;

		memcpy(&e, acl + at, sizeof(e));
		const struct id_ranges *r = ranges_of(o, &e);
		if (r == NULL)
			continue;
		if (!to_host)
			id = id_to_guest(r, le32toh(e.id));
		else if (!id_to_host(r, le32toh(e.id), &id))
			return -EINVAL;
		e.id = htole32(id);
		memcpy(acl + at, &e, sizeof(e));
	}
	return 0;
}

void acl_to_guest(const struct owners *o, unsigned char *acl, size_t len)
{
	if (is_acl(acl, len))
		(void)translate(o, acl, len, false);
}

int acl_to_host(const struct owners *o, unsigned char *acl, size_t len)
{
	return is_acl(acl, len) ? translate(o, acl, len, true) : -EINVAL;
}
