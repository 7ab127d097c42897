/* Ids of the guest and of the host: ranges, their edges, and ACLs. */
#include "unit.h"

#include "host/owners.h"

static void add(struct id_ranges *r, const char *text)
{
	char err[128] = "";

	if (id_ranges_parse(r, text, err, sizeof(err)) != 0)
		fail_msg("%s", err);
}

static void expect_pair(const struct id_ranges *r, uint32_t guest, uint32_t host)
{
	uint32_t got = 1;

	assert_true(id_to_host(r, guest, &got));
	assert_int_equal(got, host);
	assert_int_equal(id_to_guest(r, host), guest);
	assert_true(id_has_guest(r, host));
}

static void expect_none(const struct id_ranges *r, uint64_t guest)
{
	uint32_t got = 4711;

	assert_false(id_to_host(r, guest, &got));
	assert_int_equal(got, 4711);
}

static void expect_hidden(const struct id_ranges *r, uint32_t host)
{
	assert_false(id_has_guest(r, host));
	assert_int_equal(id_to_guest(r, host), OWNERS_NOBODY);
}

static void test_ranges(void **state)
{
	struct id_ranges r = {.n = 0};

	(void)state;
	expect_pair(&r, 0, 0);
	expect_pair(&r, 4294967294, 4294967294);
	expect_none(&r, UINT32_MAX);
	expect_none(&r, UINT64_C(1) << 32); /* not 0 */

	add(&r, "0:1000");
	add(&r, "1000:100000:65536");
	add(&r, "4294967294:0");
	expect_pair(&r, 0, 1000);
	expect_pair(&r, 1000, 100000);
	expect_pair(&r, 66535, 165535);
	expect_pair(&r, 4294967294, 0);
	expect_none(&r, 1);
	expect_none(&r, 999);
	expect_none(&r, 66536);
	expect_none(&r, UINT32_MAX);
	expect_none(&r, (UINT64_C(1) << 32) + 1000);
	expect_hidden(&r, 1);
	expect_hidden(&r, 999);
	expect_hidden(&r, 1001);
	expect_hidden(&r, 99999);
	expect_hidden(&r, 165536);
	expect_hidden(&r, UINT32_MAX);
}

static void test_wrong(void **state)
{
	static const char *const wrong[] = {"",		"1",	      "1:",	   ":1",	"1:2:",
					    "1:2:3:",	"1:2:3:4",    "a:1",	   "1:a",	"1:2:a",
					    "-1:2",	"1:-2",	      "1 :2",	   "1:2:0",	"4294967295:1",
					    "1:4294967295", "1:2:4294967295", "4294967290:1:6", "1:4294967290:6",
					    /* on one side or the other */
					    "10:1",	"10:1:100",   "5:300:6",   "19:300",	"300:100",
					    "300:109",	"300:99:2",   "300:0:1000"};
	struct id_ranges r = {.n = 0};
	char err[128];

	(void)state;
	add(&r, "10:100:10");
	for (size_t i = 0; i < COUNT(wrong); i++) {
		err[0] = '\0';
		assert_int_equal(id_ranges_parse(&r, wrong[i], err, sizeof(err)), -EINVAL);
		assert_non_null(strstr(err, wrong[i]));
	}
	assert_int_equal(r.n, 1);
	add(&r, "5:300:5"); /* beside it */
	add(&r, "20:110");
	while (r.n < OWNERS_RANGES_MAX) {
		char text[32];

		(void)snprintf(text, sizeof(text), "%zu:%zu", 1000 + r.n, 1000 + r.n);
		add(&r, text);
	}
	assert_int_equal(id_ranges_parse(&r, "5000:5000", err, sizeof(err)), -EINVAL);
}

static void test_acl(void **state)
{
	/* version 2; user::rwx user:7:rw group::r group:8:r mask::rw other::- */
	static const char host[] = "02000000 01000700ffffffff 0200060007000000 04000400ffffffff"
				   "0800040008000000 10000600ffffffff 20000000ffffffff",
			  guest[] = "02000000 01000700ffffffff 0200060000000000 04000400ffffffff"
				    "0800040001000000 10000600ffffffff 20000000ffffffff",
			  hidden[] = "02000000 01000700ffffffff 02000600feff0000 04000400ffffffff"
				     "08000400feff0000 10000600ffffffff 20000000ffffffff";
	unsigned char h[64], g[64], n[64], acl[64];
	size_t len = unit_from_hex(host, h, sizeof(h));
	struct owners o = {{.n = 0}, {.n = 0}}, other = o;

	(void)state;
	assert_int_equal(unit_from_hex(guest, g, sizeof(g)), len);
	assert_int_equal(unit_from_hex(hidden, n, sizeof(n)), len);
	add(&o.uid, "0:7");
	add(&o.gid, "1:8");
	add(&other.uid, "0:99");
	add(&other.gid, "0:99");
	memcpy(acl, h, len);
	acl_to_guest(&o, acl, len);
	assert_memory_equal(acl, g, len);
	assert_int_equal(acl_to_host(&o, acl, len), 0);
	assert_memory_equal(acl, h, len);
	acl_to_guest(&other, acl, len);
	assert_memory_equal(acl, n, len);
	assert_int_equal(acl_to_host(&other, acl, len), -EINVAL);
	memcpy(acl, g, len);
	assert_int_equal(acl_to_host(&(struct owners){.uid = o.uid, .gid = other.gid}, acl, len),
			 -EINVAL);

	/* What is no ACL: a part of an entry, another version, nothing. */
	for (size_t cut = 0; cut < len; cut++) {
		unsigned char *part = malloc(cut + 1);

		memcpy(part, g, cut);
		assert_int_equal(acl_to_host(&o, part, cut), cut >= 4 && cut % 8 == 4 ? 0 : -EINVAL);
		acl_to_guest(&o, part, cut);
		free(part);
	}
	memcpy(acl, g, len);
	acl[0] = 3;
	assert_int_equal(acl_to_host(&o, acl, len), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_wrong),
		cmocka_unit_test(test_acl),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
