/* The tables of fields and messages, and what is made of them. */
#include <fcntl.h>

#include "unit.h"

static const struct {
	unsigned key;
	const char *name, *text;
} fields[] = {
#define FIELD(key, name, kind, text) {key, #name, text},
#include "core/fields.def"
#undef FIELD
};

#define F(field) MSG_BIT(field)
#define T(trait) TRAIT_##trait

static const struct {
	uint64_t code;
	const char *name, *text;
	uint64_t request, reply;
	uint32_t traits;
} messages[] = {
#define MESSAGE(code, NAME, request, reply, traits, text)                                          \
	{code, #NAME, text, request, reply, traits},
#include "core/messages.def"
#undef MESSAGE
};

/* Codes that this version does not use and nothing else may. */
static const uint64_t reserved[] = {33, 43, 46};

static void test_fields(void **state)
{
	(void)state;
	for (unsigned i = 0; i < COUNT(fields); i++) {
		assert_int_equal(fields[i].key,
				 i); /* ascending without a gap */
		assert_int_not_equal(*fields[i].text, '\0');
		for (unsigned k = 0; k < i; k++)
			assert_string_not_equal(fields[k].name, fields[i].name);
	}
	assert_int_equal(FIELD_COUNT, COUNT(fields));
	assert_true(FIELD_COUNT <= 64); /* bits of msg.present */
}

static void test_messages(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(messages); i++) {
		assert_true(messages[i].code >= 32); /* below are the plain protocol's */
		assert_int_not_equal(*messages[i].text, '\0');
		assert_true(msg_op_known(messages[i].code));
		assert_string_equal(msg_op_name(messages[i].code), messages[i].name);
		for (size_t k = 0; k < i; k++) {
			assert_true(messages[k].code != messages[i].code);
			assert_string_not_equal(messages[k].name, messages[i].name);
		}
		for (size_t k = 0; k < COUNT(reserved); k++)
			assert_true(messages[i].code != reserved[k]);
	}
	assert_string_equal(msg_op_name(MSG_LOOKUP), "LOOKUP");
	assert_int_equal(MSG_LOOKUP, 40);
}

static void test_unknown(void **state)
{
	static const uint64_t unknown[] = {0, 1, 31, 68, 69, 75, 1000, UINT32_MAX, UINT64_MAX};
	struct msg all = {.present = ~UINT64_C(0)};

	(void)state;
	for (size_t i = 0; i < COUNT(unknown) + COUNT(reserved); i++) {
		uint64_t op = i < COUNT(unknown) ? unknown[i] : reserved[i - COUNT(unknown)];

		assert_false(msg_op_known(op));
		assert_string_equal(msg_op_name(op), "?");
		all.op = op;
		assert_false(msg_request_complete(&all));
		assert_false(msg_reply_complete(op, &all));
	}
}

/* Exactly the fields of the table are needed. */
static void test_complete(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(messages); i++) {
		struct msg m = {0};

		MSG_SET(&m, op, messages[i].code);
		m.present |= messages[i].request;
		assert_true(msg_request_complete(&m));
		for (unsigned key = 1; key < FIELD_COUNT; key++) {
			uint64_t bit = UINT64_C(1) << key, before = m.present;

			m.present &= ~bit;
			assert_int_equal(msg_request_complete(&m),
					 (messages[i].request & bit) == 0);
			m.present = before;
		}
		m.present |= ~UINT64_C(0);
		assert_true(msg_request_complete(&m)); /* what is optional may come */
		m.present &= ~MSG_BIT(op);
		assert_false(msg_request_complete(&m));

		m = (struct msg){.present = messages[i].reply};
		assert_true(msg_reply_complete(messages[i].code, &m));
		for (unsigned key = 1; key < FIELD_COUNT; key++) {
			uint64_t bit = UINT64_C(1) << key;

			m.present = messages[i].reply & ~bit;
			m.err = 0;
			assert_int_equal(msg_reply_complete(messages[i].code, &m),
					 (messages[i].reply & bit) == 0);
			m.err = ENOENT; /* a refusal needs nothing else */
			assert_true(msg_reply_complete(messages[i].code, &m));
		}
	}
}

/* What has the first trait has these fields and these other traits. */
static const struct {
	uint32_t trait;
	uint64_t request, reply;
	uint32_t traits;
} rules[] = {
	{T(CHANGES_OBJECT), 0, 0, 0},
	{T(CHANGES_NAME), F(node) | F(name), 0, T(SYNCHRONISES) | T(LOCKS)},
	{T(CHANGES_NAME2), F(node2) | F(name2), 0, T(SYNCHRONISES) | T(LOCKS)},
	{T(REMOVES), 0, 0, T(CHANGES_NAME)},
	{T(OPENS), F(node) | F(flags), F(fh) | F(attr), T(OPEN_FLAGS)},
	{T(READS), 0, F(payload), 0},
	{T(WRITES), F(fh) | F(off), 0, T(CHANGES_OBJECT) | T(LOCKS)},
	{T(KEEPS_SIZE), 0, 0, T(WRITES)},
	{T(FILE_LOCK), F(fh) | F(owner) | F(type), 0, T(SYNCHRONISES) | T(IN_ORDER)},
	{T(STRIP_FLAG), 0, 0, T(CHANGES_OBJECT)},
	{T(NAMES_OBJECT), F(node), F(node) | F(attr), T(TELLS_SIZE)},
	{T(LOOKS_UP), F(name), 0, T(NAMES_OBJECT)},
	{T(LOCKS_NAMED), F(name), 0, T(LOCKS) | T(REMOVES)},
	{T(TELLS_SIZE), F(node), F(attr), 0},
	{T(FORCES_SIZE), 0, 0, T(TELLS_SIZE)},
	{T(OUTDATES), 0, 0, T(CHANGES_OBJECT)},
	{T(AFTER_NAMES), F(node), F(attr), 0},
};

static void test_traits(void **state)
{
	uint32_t seen = 0;

	(void)state;
	for (size_t i = 0; i < COUNT(messages); i++) {
		uint32_t t = messages[i].traits;
		bool names = (t & (T(CHANGES_NAME) | T(CHANGES_NAME2))) != 0;

		assert_int_equal(msg_traits(messages[i].code), t);
		seen |= t;
		for (size_t k = 0; k < COUNT(rules); k++) {
			if ((t & rules[k].trait) == 0)
				continue;
			if (!msg_request_needs(messages[i].code, rules[k].request) ||
			    (messages[i].reply & rules[k].reply) != rules[k].reply ||
			    (t & rules[k].traits) != rules[k].traits)
				fail_msg("%s is not what rule %zu says", messages[i].name, k);
		}
		/* a look-up changes nothing, and whatever else tells of a name makes one */
		if (t & T(NAMES_OBJECT))
			assert_int_equal(names, (t & T(LOOKS_UP)) == 0);
		/* hand over, or lock */
		assert_int_equal((t & T(SYNCHRONISES)) != 0, names || (t & T(FILE_LOCK)) != 0);
		/* what would do harm a second time, and nothing whose reply would be worth keeping */
		if (names || (t & (T(CHANGES_OBJECT) | T(OPENS) | T(FILE_LOCK))) != 0)
			assert_true((t & T(ONCE)) != 0);
		if (t & T(ONCE))
			assert_int_equal(t & (T(READS) | T(ONEWAY) | T(PUSHED) | T(HEARTBEAT)), 0);
		assert_int_equal((t & (T(ONEWAY) | T(PUSHED))) != 0,
				 strstr(messages[i].text, "no reply") != NULL);
		if (t & (T(ONEWAY) | T(PUSHED)))
			assert_int_equal(messages[i].reply, 0);
	}
	/* none without a message, up to the last */
	assert_int_equal(seen, (T(ONCE) << 1) - 1);
}

static struct msg request(uint64_t op, uint64_t flags)
{
	struct msg m = {0};

	MSG_SET(&m, op, op);
	MSG_SET(&m, flags, flags);
	return m;
}

/* Traits that go by the flags of a request. */
static void test_changes(void **state)
{
	struct msg m = request(MSG_OPEN, O_RDWR);

	(void)state;
	assert_int_equal(msg_changes(&m), 0);
	assert_false(msg_changes_data(&m));
	m = request(MSG_OPEN, O_RDWR | O_TRUNC);
	assert_int_equal(msg_changes(&m), TRAIT_CHANGES_OBJECT);
	assert_true(msg_changes_data(&m));
	m = request(MSG_CREATE, O_RDWR | O_TRUNC); /* maybe of a new file */
	assert_int_equal(msg_changes(&m), TRAIT_CHANGES_NAME);
	assert_false(msg_changes_data(&m));

	m = request(MSG_SETATTR, 0);
	MSG_SET(&m, valid, SET_MODE);
	assert_int_equal(msg_changes(&m), TRAIT_CHANGES_OBJECT);
	assert_false(msg_changes_data(&m));
	MSG_SET(&m, valid, SET_MODE | SET_SIZE);
	assert_true(msg_changes_data(&m));

	m = request(MSG_WRITE, 0);
	assert_true(msg_changes_data(&m));
	m = request(MSG_SETXATTR, 0);
	assert_false(msg_changes_data(&m));
	m = request(MSG_RENAME, 0);
	assert_int_equal(msg_changes(&m), TRAIT_CHANGES_NAME | TRAIT_CHANGES_NAME2);
	m = request(MSG_LINK, 0);
	assert_int_equal(msg_changes(&m), TRAIT_CHANGES_OBJECT | TRAIT_CHANGES_NAME2);
	m = request(MSG_LOOKUP, 0);
	assert_int_equal(msg_changes(&m), 0);
	m = request(1000, O_TRUNC);
	assert_int_equal(msg_changes(&m), 0);
}

static void test_synchronises(void **state)
{
	struct msg m = request(MSG_SETLK, 0);

	(void)state;
	MSG_SET(&m, type, LOCK_TYPE_NONE);
	assert_false(msg_synchronises(&m));
	MSG_SET(&m, type, LOCK_TYPE_READ);
	assert_true(msg_synchronises(&m));
	m = request(MSG_UNLINK, 0);
	assert_true(msg_synchronises(&m));
	m = request(MSG_WRITE, 0);
	assert_false(msg_synchronises(&m));
}

static void test_set(void **state)
{
	struct msg m = {0};

	(void)state;
	assert_false(MSG_HAS(&m, off));
	MSG_SET(&m, off, 0);
	assert_true(MSG_HAS(&m, off)); /* zero is a value */
	MSG_SET(&m, off, 5);
	assert_int_equal(m.off, 5);
	MSG_SET(&m, payload, SLICE("x"));
	assert_true(m.present == (MSG_BIT(off) | MSG_BIT(payload)));
}

static void test_errno(void **state)
{
	(void)state;
	assert_int_equal(msg_errno(0), 0);
	assert_int_equal(msg_errno(-ENOENT), -ENOENT);
	assert_int_equal(msg_errno(-MSG_ERR_MAX), -MSG_ERR_MAX);
	assert_int_equal(msg_errno(-MSG_ERR_MAX - 1), -EIO);
	assert_int_equal(msg_errno(-524), -EIO); /* ENOTSUPP, which some file systems let out */
	assert_int_equal(msg_errno(INT32_MIN), -EIO);
}

/* Who sends a request again may know another size of the file than who sent it first. */
static void test_digest(void **state)
{
	struct msg open = {0}, read = {0};

	(void)state;
	MSG_SET(&open, op, MSG_OPEN);
	MSG_SET(&open, node, 5);
	MSG_SET(&open, flags, O_RDONLY);
	uint64_t digest = msg_digest(&open);
	MSG_SET(&open, id, 7);
	assert_true(msg_digest(&open) == digest);
	MSG_SET(&open, size, 100);
	assert_true(msg_digest(&open) == digest);
	open.flags = O_RDWR;
	assert_true(msg_digest(&open) != digest);
	MSG_SET(&read, op, MSG_READ);
	MSG_SET(&read, size, 100);
	digest = msg_digest(&read);
	read.size = 101;
	assert_true(msg_digest(&read) != digest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_fields),  cmocka_unit_test(test_messages),
	    cmocka_unit_test(test_unknown), cmocka_unit_test(test_complete),
	    cmocka_unit_test(test_traits),  cmocka_unit_test(test_changes),
	    cmocka_unit_test(test_synchronises),
	    cmocka_unit_test(test_set),     cmocka_unit_test(test_errno),
	    cmocka_unit_test(test_digest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
