/* The reply caches of a session: a request is executed once, however often it comes. */
#include "unit.h"

#include "host/slots.h"

#define SLOTS 4

struct world {
	struct slots *t;
	struct msg reply;
	const char *why;
	unsigned char buf[MSG_PAYLOAD_MAX];
	unsigned char at[MSG_SLOT_LEN]; /* of the request made last */
};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	assert_int_equal(slots_new(SLOTS, &w->t), 0);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	slots_free(w->t);
	free(w);
	return 0;
}

static struct msg request(struct world *w, uint32_t slot, uint64_t use, uint64_t id)
{
	struct msg q = {0};

	msg_slot_put((struct msg_slot){slot, use}, w->at);
	MSG_SET(&q, op, MSG_MKNOD);
	MSG_SET(&q, id, id);
	MSG_SET(&q, node, 5);
	MSG_SET(&q, name, SLICE("name"));
	MSG_SET(&q, slot, ((struct slice){w->at, sizeof(w->at)}));
	return q;
}

static int begin(struct world *w, const struct msg *q, uint64_t gen)
{
	w->why = NULL;
	memset(&w->reply, 0, sizeof(w->reply));
	return slots_begin(w->t, q, gen, &w->reply, w->buf, &w->why);
}

static uint64_t id_at(uint32_t slot, uint64_t use)
{
	return 100 * (slot + 1) + use;
}

static int begin_at(struct world *w, uint32_t slot, uint64_t use, uint64_t gen)
{
	const struct msg q = request(w, slot, use, id_at(slot, use));

	return begin(w, &q, gen);
}

static void refused(struct world *w, const struct msg *q)
{
	assert_int_equal(begin(w, q, 1), -EPROTO);
	assert_non_null(w->why);
}

/* Request id ends, with this payload; NULL: without one. */
static void executed_as(struct world *w, uint32_t slot, uint64_t id, const char *payload)
{
	struct msg p = {0};
	void *copy = payload != NULL ? unit_copy(payload, strlen(payload)) : NULL;

	MSG_SET(&p, id, id);
	MSG_SET(&p, node, 1000 + id);
	if (payload != NULL)
		MSG_SET(&p, payload, ((struct slice){copy, strlen(payload)}));
	slots_executed(w->t, slot, &p);
	free(copy); /* the bytes are the caller's */
}

/* What begin_at has begun. */
static void executed(struct world *w, uint32_t slot, uint64_t use, const char *payload)
{
	executed_as(w, slot, id_at(slot, use), payload);
}

static uint64_t sent_to(struct world *w, uint32_t slot, uint64_t use)
{
	return slots_done(w->t, slot, id_at(slot, use));
}

static void done(struct world *w, uint32_t slot, uint64_t use, uint64_t gen)
{
	executed(w, slot, use, NULL);
	assert_int_equal(sent_to(w, slot, use), gen);
}

static void replayed(struct world *w, uint32_t slot, uint64_t use, const char *payload)
{
	assert_int_equal(begin_at(w, slot, use, 2), SLOT_REPLAY);
	assert_int_equal(w->reply.id, id_at(slot, use));
	assert_int_equal(w->reply.node, 1000 + id_at(slot, use));
	assert_int_equal(MSG_HAS(&w->reply, payload), payload != NULL);
	if (payload != NULL)
		unit_assert_slice(w->reply.payload, payload);
}

static void test_executed_once(void **state)
{
	struct world *w = *state;

	assert_int_equal(begin_at(w, 0, 1, 1), SLOT_EXECUTE);
	done(w, 0, 1, 1);
	for (int i = 0; i < 3; i++)
		replayed(w, 0, 1, NULL);
	/* each slot by itself, and the next use ends what was kept of the one before */
	assert_int_equal(begin_at(w, 1, 1, 1), SLOT_EXECUTE);
	assert_int_equal(begin_at(w, 0, 2, 1), SLOT_EXECUTE);
	done(w, 0, 2, 1);
	replayed(w, 0, 2, NULL);
	done(w, 1, 1, 1);
	replayed(w, 1, 1, NULL);
	/* uses may be left out: their requests never came */
	assert_int_equal(begin_at(w, 0, 10, 1), SLOT_EXECUTE);
	done(w, 0, 10, 1);
}

static void test_replay_with_payload(void **state)
{
	struct world *w = *state;

	assert_int_equal(begin_at(w, 0, 1, 1), SLOT_EXECUTE);
	executed(w, 0, 1, "the target");
	assert_int_equal(sent_to(w, 0, 1), 1);
	replayed(w, 0, 1, "the target");
	assert_ptr_equal(w->reply.payload.data, w->buf);
	assert_int_equal(begin_at(w, 0, 2, 1), SLOT_EXECUTE);
	executed(w, 0, 2, ""); /* a payload of no bytes is one */
	assert_int_equal(sent_to(w, 0, 2), 1);
	replayed(w, 0, 2, "");
}

/* It waits until the first has been executed and may be answered, and takes over its reply. */
static void test_again_meanwhile(void **state)
{
	struct world *w = *state;

	assert_int_equal(begin_at(w, 0, 1, 1), SLOT_EXECUTE);
	assert_int_equal(begin_at(w, 0, 1, 2), SLOT_WAIT);
	executed(w, 0, 1, NULL);
	assert_int_equal(begin_at(w, 0, 1, 3), SLOT_WAIT); /* the reply is not to be sent yet */
	assert_int_equal(sent_to(w, 0, 1), 3);
	assert_int_equal(begin_at(w, 0, 1, 4), SLOT_REPLAY);
}

/* A number that is used for something else is never answered with what it stood for. */
static void test_another_request(void **state)
{
	struct world *w = *state;

	for (int state_of = 0; state_of < 3; state_of++) {
		const uint64_t use = (uint64_t)state_of + 1;

		struct msg q = request(w, 0, use, 9), other = q;
		MSG_SET(&q, payload, SLICE("12345"));
		assert_int_equal(begin(w, &q, 1), SLOT_EXECUTE);
		if (state_of > 0)
			executed_as(w, 0, 9, NULL);
		if (state_of > 1)
			assert_int_equal(slots_done(w->t, 0, 9), 1);
		other = q;
		MSG_SET(&other, op, MSG_SYMLINK);
		refused(w, &other);
		other = q;
		MSG_SET(&other, id, 10);
		refused(w, &other);
		other = q;
		MSG_SET(&other, node, 6);
		refused(w, &other);
		other = q;
		MSG_SET(&other, name, SLICE("nama"));
		refused(w, &other);
		MSG_SET(&other, name, SLICE("nam"));
		refused(w, &other);
		other = q;
		MSG_SET(&other, name2, SLICE("name"));
		refused(w, &other);
		other = q;
		MSG_SET(&other, payload, SLICE("1234"));
		refused(w, &other);
		other = q;
		MSG_SET(&other, flags, 0); /* what is set is more than what is not */
		refused(w, &other);
		other = q;
		MSG_SET(&other, mode, 0600);
		refused(w, &other);
		/* nothing of that has touched it */
		assert_int_equal(begin(w, &q, 1), state_of > 1 ? SLOT_REPLAY : SLOT_WAIT);
		if (state_of < 1)
			executed_as(w, 0, 9, NULL);
		if (state_of < 2)
			assert_int_equal(slots_done(w->t, 0, 9), 1);
	}
}

static void test_out_of_order(void **state)
{
	struct world *w = *state;
	struct msg q;

	assert_int_equal(begin_at(w, 0, 5, 1), SLOT_EXECUTE);
	q = request(w, 0, 6, 1); /* it has one request at a time */
	refused(w, &q);
	executed(w, 0, 5, NULL);
	refused(w, &q);
	assert_int_equal(sent_to(w, 0, 5), 1);
	q = request(w, 0, 4, 1);
	refused(w, &q);
	q = request(w, 0, 0, 1); /* uses are counted from 1 */
	refused(w, &q);
	q = request(w, 1, 0, 1);
	refused(w, &q);
	assert_int_equal(begin_at(w, 0, 6, 1), SLOT_EXECUTE); /* none of that was a use */
}

static void test_no_such_slot(void **state)
{
	struct world *w = *state;
	const uint32_t slots[] = {SLOTS, SLOTS + 1, UINT32_MAX};
	unsigned char longer[MSG_SLOT_LEN + 1] = {0};
	struct msg q;

	for (size_t i = 0; i < COUNT(slots); i++) {
		q = request(w, slots[i], 1, 1);
		refused(w, &q);
		assert_string_equal(w->why, "no slot");
		assert_false(slots_claim(w->t, slots[i], 1));
	}
	assert_false(slots_claim(w->t, UINT64_C(1) << 32, 1)); /* not slot 0 */
	q = request(w, 0, 1, 1);
	for (size_t len = 0; len <= sizeof(longer); len++) {
		unsigned char *copy = unit_copy(longer, len);

		memcpy(copy, w->at, len < MSG_SLOT_LEN ? len : MSG_SLOT_LEN);
		q.slot = (struct slice){copy, len};
		if (len == MSG_SLOT_LEN)
			assert_int_equal(begin(w, &q, 1), SLOT_EXECUTE);
		else
			refused(w, &q);
		free(copy);
	}
}

/* ---- a session that is resumed ---- */

struct kept {
	uint64_t op[SLOTS], node[SLOTS], ids[SLOTS]; /* ids: of those that were given up */
	size_t n, n_ids;
};

static void keep(void *arg, uint64_t op, const struct msg *reply)
{
	struct kept *k = arg;

	assert_true(k->n < SLOTS);
	k->op[k->n] = op;
	k->node[k->n++] = reply->node;
}

static struct kept settled(struct world *w)
{
	struct kept k = {0};
	const struct slots_settle to = {.kept = keep, .arg = &k};

	k.n_ids = slots_settle(w->t, &to, k.ids);
	return k;
}

/* Those that are named are told, and are answered again; of the others nothing is kept. */
static void test_claims(void **state)
{
	struct world *w = *state;

	for (uint32_t slot = 0; slot < SLOTS; slot++) {
		assert_int_equal(begin_at(w, slot, 3, 1), SLOT_EXECUTE);
		executed(w, slot, 3, slot == 1 ? "payload" : NULL);
		if (slot != 3)
			assert_int_equal(sent_to(w, slot, 3), 1);
	}
	slots_unclaim(w->t);
	assert_true(slots_claim(w->t, 1, 3));
	assert_true(slots_claim(w->t, 3, 3)); /* executed, and not done */
	assert_true(slots_claim(w->t, 0, 4)); /* of a request that never came */
	struct kept k = settled(w);
	assert_int_equal(k.n, 2);
	assert_int_equal(k.op[0], MSG_MKNOD);
	assert_int_equal(k.node[0], 1203);
	assert_int_equal(k.node[1], 1403);
	replayed(w, 1, 3, "payload");
	assert_int_equal(begin_at(w, 3, 3, 2), SLOT_WAIT);
	assert_int_equal(sent_to(w, 3, 3), 2);
	/* a reply that the client has is not kept, and its request does not come again */
	const struct msg q = request(w, 2, 3, 303);
	refused(w, &q);
	assert_int_equal(begin_at(w, 0, 4, 2), SLOT_EXECUTE);
	assert_int_equal(begin_at(w, 2, 4, 2), SLOT_EXECUTE);
	/* claims are made anew each time */
	slots_unclaim(w->t);
	assert_int_equal(settled(w).n, 0);
}

/*
 * Those that still wait and are not named, by the ids under which they wait. Their slots are free,
 * and what becomes of them is nobody's.
 */
static void test_given_up(void **state)
{
	struct world *w = *state;

	for (uint32_t slot = 0; slot < SLOTS; slot++)
		assert_int_equal(begin_at(w, slot, 1, 1), SLOT_EXECUTE);
	executed(w, 0, 1, "payload");
	slots_unclaim(w->t);
	assert_true(slots_claim(w->t, 2, 1));
	assert_true(slots_claim(w->t, 3, 2)); /* not the one that waits there */
	struct kept k = settled(w);
	assert_int_equal(k.n, 0);
	assert_int_equal(k.n_ids, 2);
	assert_int_equal(k.ids[0], 201);
	assert_int_equal(k.ids[1], 401);
	assert_int_equal(begin_at(w, 2, 1, 2), SLOT_WAIT);
	done(w, 2, 1, 2);
	/* slot 0 was to be sent only; slot 1 is used again before its first request has ended */
	assert_true(sent_to(w, 0, 1) == SLOTS_NOBODY);
	assert_int_equal(begin_at(w, 0, 2, 2), SLOT_EXECUTE);
	assert_int_equal(begin_at(w, 1, 2, 2), SLOT_EXECUTE);
	executed(w, 1, 1, "of the first");
	assert_true(sent_to(w, 1, 1) == SLOTS_NOBODY);
	assert_int_equal(begin_at(w, 1, 2, 2), SLOT_WAIT);
	executed(w, 1, 2, NULL);
	assert_true(sent_to(w, 1, 1) == SLOTS_NOBODY);
	assert_int_equal(sent_to(w, 1, 2), 2);
	replayed(w, 1, 2, NULL);
	/* and after it has ended */
	executed(w, 3, 1, "of the first");
	assert_true(sent_to(w, 3, 1) == SLOTS_NOBODY);
	assert_int_equal(begin_at(w, 3, 2, 2), SLOT_EXECUTE);
}

/* A request that no handler has taken was no use: the number is good for a valid one. */
static void test_malformed(void **state)
{
	struct world *w = *state;
	struct msg q = request(w, 0, 7, 1);

	assert_int_equal(begin(w, &q, 1), SLOT_EXECUTE);
	slots_refused(w->t, 0);
	MSG_SET(&q, flags, 3);
	assert_int_equal(begin(w, &q, 2), SLOT_EXECUTE);
	q = request(w, 0, 6, 1);
	refused(w, &q);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_executed_once),
		T(test_replay_with_payload),
		T(test_again_meanwhile),
		T(test_another_request),
		T(test_out_of_order),
		T(test_no_such_slot),
		T(test_claims),
		T(test_given_up),
		T(test_malformed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
