/* The tables of fields and messages, and what is made of them. */
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

static const struct {
	uint64_t code;
	const char *name, *text;
	uint64_t request, reply;
} messages[] = {
#define MESSAGE(code, NAME, request, reply, text) {code, #NAME, text, request, reply},
#include "core/messages.def"
#undef MESSAGE
};

/* Codes that this version does not use and nothing else may. */
static const uint64_t reserved[] = {33, 34, 43, 46};

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
	static const uint64_t unknown[] = {0, 1, 31, 75, 1000, UINT32_MAX, UINT64_MAX};
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

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_fields),  cmocka_unit_test(test_messages),
	    cmocka_unit_test(test_unknown), cmocka_unit_test(test_complete),
	    cmocka_unit_test(test_set),     cmocka_unit_test(test_errno),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
