#include "host/slots.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/cleanup.h"
#include "core/hash.h"
#include "host/state.h"
#include "transport/codec.h"

enum slot_state {
	SLOT_FREE,     /* nothing is known of its last use, if there was one */
	SLOT_LEFT,     /* was begun by a server before this one */
	SLOT_BEGUN,    /* is being executed */
	SLOT_EXECUTED, /* and has a reply, which is not to be sent yet */
	SLOT_DONE,     /* which may be sent */
};

struct slot {
	enum slot_state state;
	bool claimed;
	uint64_t use, gen;
	uint64_t op, id, digest; /* of the request */
	struct slot_trace trace;
	uint32_t record;   /* of the state; 0: none yet */
	struct msg *reply; /* SLOT_EXECUTED, SLOT_DONE; its payload is owned as well */
};

struct slots {
	pthread_mutex_t mutex;
	struct state *state;
	uint32_t session; /* its record; 0: none */
	uint32_t count;
	struct slot slot[]; /* mutex */
};

static void forget_reply(struct slot *s)
{
	if (s->reply == NULL)
		return;
	if (MSG_HAS(s->reply, payload))
		free((void *)(uintptr_t)s->reply->payload.data);
	free(TAKE_PTR(s->reply));
}

/* A copy with its payload. Without memory for it: that the reply is lost, which is an error. */
static struct msg *keep_reply(const struct msg *reply)
{
	struct msg *m = malloc(sizeof(*m));

	if (m == NULL)
		return NULL;
	*m = *reply;
	if (!MSG_HAS(m, payload))
		return m;
	void *data = malloc(m->payload.len + 1);
	if (data == NULL) {
		free(m);
		return NULL;
	}
	memcpy(data, reply->payload.data, m->payload.len);
	m->payload.data = data;
	return m;
}

static uint64_t now(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME_COARSE, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* Tells one request from another under the same number, but for the bytes of its payload. */
static uint64_t digest_of(const struct msg *q)
{
	return hash_mix(msg_digest(q) + q->id);
}

static void copy_reply(const struct slot *s, struct msg *reply, unsigned char *buf)
{
	if (s->reply == NULL) { /* there was no memory to keep it */
		*reply = (struct msg){0};
		MSG_SET(reply, err, EIO);
		MSG_SET(reply, id, s->id);
		return;
	}
	*reply = *s->reply;
	if (!MSG_HAS(reply, payload))
		return;
	memcpy(buf, reply->payload.data, reply->payload.len);
	reply->payload.data = buf;
}

/* ---- what outlives the process ---- */

static struct state_slot *record_of(const struct slots *t, const struct slot *s)
{
	return s->record != 0 ? state_at(t->state, STATE_SLOTS, s->record) : NULL;
}

static void record_begun_locked(struct slots *t, uint32_t at)
{
	struct slot *s = &t->slot[at];
	bool fresh = s->record == 0;

	if (t->session != 0 && fresh)
		s->record = state_take(t->state, STATE_SLOTS);
	struct state_slot *r = record_of(t, s);
	if (r == NULL) {
		state_miss(t->state, t->session, STATE_SLOTS_MISSING);
		return;
	}
	__atomic_store_n(&r->phase, 0, __ATOMIC_RELEASE);
	r->session = t->session;
	r->slot = at;
	r->use = s->use;
	r->op = s->op;
	r->id = s->id;
	r->digest = s->digest;
	r->began = s->trace.began;
	r->size = s->trace.size;
	__atomic_store_n(&r->phase, STATE_BEGUN, __ATOMIC_RELEASE);
	if (fresh)
		state_keep(t->state, STATE_SLOTS, s->record);
}

/* Without a payload, of which the client makes use only if it is there. */
static void record_executed_locked(struct slots *t, const struct slot *s, const struct msg *reply)
{
	struct state_slot *r = record_of(t, s);
	struct msg m = *reply;

	if (r == NULL)
		return;
	m.present &= ~MSG_BIT(payload);
	r->reply_len = (uint32_t)codec_encode(&m, r->reply, sizeof(r->reply));
	__atomic_store_n(&r->phase, STATE_EXECUTED, __ATOMIC_RELEASE);
}

void slots_use_record(struct slots *t, struct state *state, uint32_t session)
{
	if (t == NULL)
		return;
	t->state = state;
	t->session = session;
}

static struct msg *decode_reply(const struct state_slot *r)
{
	struct msg m;
	const char *why;

	memset(&m, 0, sizeof(m));
	if (r->reply_len <= FRAME_HEADER || r->reply_len > sizeof(r->reply) ||
	    codec_decode(r->reply + FRAME_HEADER, r->reply_len - FRAME_HEADER, 0, &m, &why) < 0)
		return NULL;
	return keep_reply(&m);
}

bool slots_restore(struct slots *t, uint32_t record)
{
	const struct state_slot *r = state_at(t->state, STATE_SLOTS, record);

	if (r->slot >= t->count || t->slot[r->slot].record != 0)
		return false;
	SCOPE_LOCK(&t->mutex);
	struct slot *s = &t->slot[r->slot];
	*s = (struct slot){.use = r->use,
			   .op = r->op,
			   .id = r->id,
			   .digest = r->digest,
			   .trace = {.began = r->began, .size = r->size},
			   .record = record};
	if (r->phase == STATE_BEGUN) {
		s->state = SLOT_LEFT;
	} else if (r->phase == STATE_EXECUTED) {
		s->state = SLOT_DONE;
		s->reply = decode_reply(r);
	} else if (s->use > 0) {
		s->use--; /* it had not begun */
	}
	return true;
}

/* ---- requests ---- */

/* One that comes again. */
static int again_locked(struct slot *s, const struct msg *q, uint64_t gen, struct msg *reply,
			unsigned char *buf, const char **ret_why)
{
	if (s->state == SLOT_FREE) {
		*ret_why = "a request again whose reply had come";
		return -EPROTO;
	}
	if (s->digest != digest_of(q)) {
		*ret_why = "another request under the number of one before";
		return -EPROTO;
	}
	s->gen = gen;
	if (s->state == SLOT_LEFT) {
		s->state = SLOT_BEGUN;
		return SLOT_UNSURE;
	}
	if (s->state != SLOT_DONE)
		return SLOT_WAIT;
	copy_reply(s, reply, buf);
	return SLOT_REPLAY;
}

int slots_begin(struct slots *t, const struct msg *q, uint64_t gen, struct msg *reply,
		unsigned char *buf, const char **ret_why)
{
	*ret_why = "no slot";
	if (q->slot.len != MSG_SLOT_LEN)
		return -EPROTO;
	const struct msg_slot at = msg_slot_get(q->slot.data);
	if (at.slot >= t->count || at.use == 0)
		return -EPROTO;
	SCOPE_LOCK(&t->mutex);
	struct slot *s = &t->slot[at.slot];
	if (at.use == s->use)
		return again_locked(s, q, gen, reply, buf, ret_why);
	if (at.use < s->use || s->state == SLOT_BEGUN || s->state == SLOT_EXECUTED) {
		*ret_why = "a slot that is in use, or out of order";
		return -EPROTO;
	}
	forget_reply(s);
	*s = (struct slot){.state = SLOT_BEGUN,
			   .use = at.use,
			   .gen = gen,
			   .op = q->op,
			   .id = q->id,
			   .digest = digest_of(q),
			   .trace = {.began = now(), .size = SIZE_UNNOTED},
			   .record = s->record};
	record_begun_locked(t, at.slot);
	return SLOT_EXECUTE;
}

struct slot_trace slots_trace(struct slots *t, uint32_t slot)
{
	SCOPE_LOCK(&t->mutex);
	return t->slot[slot].trace;
}

void slots_note_size(struct slots *t, uint32_t slot, uint64_t size)
{
	SCOPE_LOCK(&t->mutex);
	struct state_slot *r = record_of(t, &t->slot[slot]);

	t->slot[slot].trace.size = size;
	if (r != NULL)
		__atomic_store_n(&r->size, size, __ATOMIC_RELEASE);
}

void slots_executed(struct slots *t, uint32_t slot, const struct msg *reply)
{
	SCOPE_LOCK(&t->mutex);
	struct slot *s = &t->slot[slot];

	if (s->state != SLOT_BEGUN || s->id != reply->id)
		return;
	struct msg kept = *reply;
	if (msg_is(s->op, TRAIT_OPENS)) /* the content of a file is to be had by READ as well */
		kept.present &= ~MSG_BIT(payload);
	s->reply = keep_reply(&kept);
	s->state = SLOT_EXECUTED;
	record_executed_locked(t, s, reply);
}

uint64_t slots_done(struct slots *t, uint32_t slot, uint64_t id)
{
	SCOPE_LOCK(&t->mutex);
	struct slot *s = &t->slot[slot];

	if (s->state != SLOT_EXECUTED || s->id != id)
		return SLOTS_NOBODY;
	s->state = SLOT_DONE;
	return s->gen;
}

void slots_refused(struct slots *t, uint32_t slot)
{
	SCOPE_LOCK(&t->mutex);
	struct slot *s = &t->slot[slot];

	s->state = SLOT_FREE;
	s->use--;
	struct state_slot *r = record_of(t, s);
	if (r != NULL)
		__atomic_store_n(&r->phase, 0, __ATOMIC_RELEASE);
}

/* ---- a session that is resumed ---- */

void slots_unclaim(struct slots *t)
{
	SCOPE_LOCK(&t->mutex);
	for (uint32_t i = 0; i < t->count; i++)
		t->slot[i].claimed = false;
}

bool slots_claim(struct slots *t, uint64_t slot, uint64_t use)
{
	SCOPE_LOCK(&t->mutex);
	if (slot >= t->count)
		return false;
	if (t->slot[slot].use == use)
		t->slot[slot].claimed = true;
	return true;
}

uint64_t slots_last_use(struct slots *t, uint64_t slot)
{
	SCOPE_LOCK(&t->mutex);
	return slot < t->count ? t->slot[slot].use : 0;
}

size_t slots_settle(struct slots *t, const struct slots_settle *to, uint64_t *ret_ids)
{
	size_t n = 0;

	SCOPE_LOCK(&t->mutex);
	for (uint32_t i = 0; i < t->count; i++) {
		struct slot *s = &t->slot[i];

		if (s->claimed) {
			if (s->reply != NULL)
				to->kept(to->arg, s->op, s->reply);
			continue;
		}
		if (s->state == SLOT_BEGUN)
			ret_ids[n++] = s->id;
		forget_reply(s);
		s->state = SLOT_FREE;
	}
	return n;
}

/* ---- life ---- */

int slots_new(uint32_t count, struct slots **ret)
{
	struct slots *t = calloc(1, sizeof(*t) + count * sizeof(t->slot[0]));

	if (t == NULL)
		return -ENOMEM;
	t->count = count;
	(void)pthread_mutex_init(&t->mutex, NULL);
	*ret = t;
	return 0;
}

void slots_free(struct slots *t)
{
	if (t == NULL)
		return;
	for (uint32_t i = 0; i < t->count; i++) {
		forget_reply(&t->slot[i]);
		state_give(t->state, STATE_SLOTS, t->slot[i].record);
	}
	(void)pthread_mutex_destroy(&t->mutex);
	free(t);
}
