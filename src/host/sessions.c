#include "host/sessions.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "host/promise.h"
#include "host/session.h"
#include "host/state.h"
#include "transport/stream.h"

#define SETTLE_MS  1000 /* a client that asks for its session waits so long for its own requests */
#define FORMER_MAX 64	/* secrets of a session by which its client's copies are known */
#define BUSY_MS	   100 /* locks that were to be released while a request runs are looked at again */

enum way_state {
	STATE_ATTACHED, /* it has a connection */
	STATE_TAKEN,	/* a connection is about to have it */
	STATE_AWAY,	/* it has none */
};

struct entry {
	struct entry *next;
	struct session *session; /* a reference */
	enum way_state state;
	struct stream
		*taker; /* STATE_TAKEN: on which it is to go on; NULL: none that could be ended */
	uint64_t away_since; /* ns */
	uint32_t record;     /* of the state; 0: none */
	bool unconfirmed;    /* token[1] is good as well */
	unsigned char token[2][MSG_TOKEN_LEN];
	unsigned char former[FORMER_MAX][MSG_TOKEN_LEN];
	size_t n_former; /* ever */
};

struct sessions {
	struct state *state; /* NULL: none */
	unsigned grace_ms, lease_ms;
	pthread_mutex_t mutex;
	pthread_cond_t released; /* one is not taken any more */
	/* mutex: */
	struct entry *first;
	size_t away;
};

static int draw(unsigned char token[MSG_TOKEN_LEN])
{
	return getrandom(token, MSG_TOKEN_LEN, 0) == MSG_TOKEN_LEN ? 0 : -EIO;
}

/* Without telling by the time that it takes how much of it is right. */
static bool equal(const unsigned char *a, struct slice b)
{
	const unsigned char *p = b.data;
	unsigned char differ = 0;

	if (b.len != MSG_TOKEN_LEN)
		return false;
	for (size_t i = 0; i < MSG_TOKEN_LEN; i++)
		differ |= a[i] ^ p[i];
	return differ == 0;
}

/*
 * A session's new secret is in the state before the client hears of it. In this
 * order: the one that the client knows is good in each moment in which the process may be killed.
 */
static void record_tokens(const struct sessions *t, const struct entry *e)
{
	if (e->record == 0)
		return;
	struct state_session *r = state_at(t->state, STATE_SESSIONS, e->record);
	memcpy(r->token[1], e->token[1], MSG_TOKEN_LEN);
	__atomic_store_n(&r->unconfirmed, e->unconfirmed, __ATOMIC_SEQ_CST);
	atomic_signal_fence(memory_order_seq_cst);
	memcpy(r->token[0], e->token[0], MSG_TOKEN_LEN);
}

static uint32_t record_session(const struct sessions *t, const struct session *s)
{
	uint32_t record = state_take(t->state, STATE_SESSIONS);

	if (record == 0)
		return 0;
	struct state_session *r = state_at(t->state, STATE_SESSIONS, record);
	r->id = session_id(s);
	r->features = session_features(s);
	return record;
}

static struct entry *find_locked(const struct sessions *t, const struct session *s)
{
	struct entry *e = t->first;

	while (e != NULL && e->session != s)
		e = e->next;
	return e;
}

static void set_state_locked(struct sessions *t, struct entry *e, enum way_state state)
{
	t->away += (state == STATE_AWAY) - (size_t)(e->state == STATE_AWAY);
	e->state = state;
	if (state != STATE_TAKEN) {
		e->taker = NULL;
		(void)pthread_cond_broadcast(&t->released);
	}
	if (state == STATE_AWAY)
		e->away_since = promise_clock();
}

int sessions_add(struct sessions *t, struct session *s, unsigned char token[MSG_TOKEN_LEN])
{
	struct entry *e = calloc(1, sizeof(*e));
	int r = e == NULL ? -ENOMEM : draw(e->token[0]);

	if (r < 0) {
		free(e);
		return r;
	}
	memcpy(token, e->token[0], MSG_TOKEN_LEN);
	session_ref(s);
	e->session = s;
	e->state = STATE_TAKEN;
	e->record = record_session(t, s);
	record_tokens(t, e);
	session_use_record(s, e->record, false);
	state_keep(t->state, STATE_SESSIONS, e->record);
	SCOPE_LOCK(&t->mutex);
	e->next = t->first;
	t->first = e;
	return 0;
}

int sessions_restore(struct sessions *t, struct session *s, uint32_t record)
{
	const struct state_session *r = state_at(t->state, STATE_SESSIONS, record);
	struct entry *e = calloc(1, sizeof(*e));

	if (e == NULL)
		return -ENOMEM;
	memcpy(e->token, r->token, sizeof(e->token));
	e->unconfirmed = r->unconfirmed != 0;
	e->record = record;
	session_ref(s);
	e->session = s;
	session_use_record(s, record, true);
	SCOPE_LOCK(&t->mutex);
	set_state_locked(t, e, STATE_AWAY);
	e->next = t->first;
	t->first = e;
	return 0;
}

static struct entry *find_token_locked(const struct sessions *t, uint64_t id, struct slice token)
{
	for (struct entry *e = t->first; e != NULL; e = e->next) {
		if (session_id(e->session) != id || session_said_goodbye(e->session))
			continue;
		bool good = equal(e->token[0], token);
		if (good || (e->unconfirmed && equal(e->token[1], token)))
			return e;
	}
	return NULL;
}

/* The secret is not good any more: of the oldest of more nothing is known. */
static void retire(struct entry *e, const unsigned char token[MSG_TOKEN_LEN])
{
	memcpy(e->former[e->n_former++ % FORMER_MAX], token, MSG_TOKEN_LEN);
}

static bool was_good(const struct entry *e, struct slice token)
{
	bool was = false;

	for (size_t i = 0; i < FORMER_MAX && i < e->n_former; i++)
		was = equal(e->former[i], token) || was;
	return was;
}

struct session *sessions_copied(struct sessions *t, uint64_t id, struct slice token)
{
	SCOPE_LOCK(&t->mutex);
	struct entry *e = find_token_locked(t, id, token);

	for (struct entry *i = t->first; i != NULL && e == NULL; i = i->next)
		if (session_id(i->session) == id && !session_said_goodbye(i->session) &&
		    was_good(i, token))
			e = i;
	if (e == NULL)
		return NULL;
	session_ref(e->session);
	return e->session;
}

/*
 * That session, if it can be taken. A connection that is about to have it, and maybe has gone
 * silent, makes way for this one, which knows the secret as well.
 */
static struct entry *claim_locked(struct sessions *t, uint64_t id, struct slice token)
{
	uint64_t end = promise_clock() + (uint64_t)SETTLE_MS * 1000000;
	const struct timespec deadline = {(time_t)(end / 1000000000), (long)(end % 1000000000)};
	struct entry *e;
	int r = 0;

	while ((e = find_token_locked(t, id, token)) != NULL && e->state == STATE_TAKEN &&
	       e->taker != NULL && r == 0) {
		stream_shutdown(e->taker);
		r = pthread_cond_clockwait(&t->released, &t->mutex, CLOCK_MONOTONIC, &deadline);
	}
	return e;
}

int sessions_take(struct sessions *t, uint64_t id, struct slice token, struct stream *taker,
		  struct session **ret, unsigned char new_token[MSG_TOKEN_LEN])
{
	int r = draw(new_token);

	if (r < 0)
		return r;
	(void)pthread_mutex_lock(&t->mutex);
	struct entry *e = claim_locked(t, id, token);
	struct session *s = e != NULL && e->state != STATE_TAKEN ? e->session : NULL;
	if (s != NULL) {
		session_ref(s);
		set_state_locked(t, e, STATE_TAKEN);
		e->taker = taker;
	}
	(void)pthread_mutex_unlock(&t->mutex);
	if (s == NULL)
		return e != NULL ? -EAGAIN : -ENOENT;
	session_cut(s, session_gen(s));
	bool settled = session_settle(s, SETTLE_MS);
	(void)pthread_mutex_lock(&t->mutex);
	e = find_locked(t, s); /* a session that is taken stays in the list */
	if (settled) {
		/* The one that was good until now stays so until the client is heard of. */
		bool newest = equal(e->token[0], token);
		if (e->unconfirmed)
			retire(e, e->token[newest]);
		if (!e->unconfirmed || newest)
			memcpy(e->token[1], e->token[0], MSG_TOKEN_LEN);
		memcpy(e->token[0], new_token, MSG_TOKEN_LEN);
		e->unconfirmed = true;
		record_tokens(t, e);
	} else {
		set_state_locked(t, e, STATE_AWAY);
	}
	(void)pthread_mutex_unlock(&t->mutex);
	if (settled) {
		*ret = s;
		return 0;
	}
	session_unref(s);
	return -EAGAIN;
}

void sessions_confirm(struct sessions *t, const struct session *s)
{
	SCOPE_LOCK(&t->mutex);
	struct entry *e = find_locked(t, s);

	if (e == NULL || !e->unconfirmed)
		return;
	e->unconfirmed = false;
	retire(e, e->token[1]);
	record_tokens(t, e);
}

void sessions_taken(struct sessions *t, const struct session *s, bool attached)
{
	SCOPE_LOCK(&t->mutex);
	struct entry *e = find_locked(t, s);

	if (e != NULL)
		set_state_locked(t, e, attached ? STATE_ATTACHED : STATE_AWAY);
}

/* Out of the list; the reference is the caller's. */
static struct session *remove_locked(struct sessions *t, struct entry *e)
{
	struct entry **at = &t->first;
	struct session *s = e->session;

	while (*at != e)
		at = &(*at)->next;
	*at = e->next;
	t->away -= e->state == STATE_AWAY;
	free(e);
	return s;
}

static struct entry *longest_away_locked(const struct sessions *t)
{
	struct entry *found = NULL;

	for (struct entry *e = t->first; e != NULL; e = e->next)
		if (e->state == STATE_AWAY && (found == NULL || e->away_since < found->away_since))
			found = e;
	return found;
}

static void end(struct session *s)
{
	if (s == NULL)
		return;
	session_stop(s);
	session_unref(s);
}

void sessions_park(struct sessions *t, struct session *s, uint64_t gen)
{
	struct session *gone = NULL;

	session_cut(s, gen);
	(void)pthread_mutex_lock(&t->mutex);
	struct entry *e = find_locked(t, s);
	if (e != NULL && e->state == STATE_ATTACHED && session_gen(s) == gen) {
		set_state_locked(t, e, STATE_AWAY);
		if (session_said_goodbye(s))
			gone = remove_locked(t, e);
		else if (t->away > SESSIONS_AWAY_MAX)
			gone = remove_locked(t, longest_away_locked(t));
	}
	(void)pthread_mutex_unlock(&t->mutex);
	end(gone);
}

void sessions_remove(struct sessions *t, const struct session *s)
{
	(void)pthread_mutex_lock(&t->mutex);
	struct entry *e = find_locked(t, s);
	struct session *gone = e != NULL ? remove_locked(t, e) : NULL;
	(void)pthread_mutex_unlock(&t->mutex);
	end(gone);
}

static uint64_t away_for(const struct entry *e, uint64_t now)
{
	return now > e->away_since ? now - e->away_since : 0;
}

/* Of clients that are away: NULL if nothing is over. *ret_next: ms until something will be. */
static struct session *over_locked(struct sessions *t, uint64_t now, int *ret_next)
{
	for (struct entry *e = t->first; e != NULL; e = e->next) {
		if (e->state != STATE_AWAY)
			continue;
		uint64_t ms = away_for(e, now) / 1000000;
		if (ms >= t->grace_ms)
			return remove_locked(t, e);
		uint64_t left = t->grace_ms - ms, locks = left;
		if (ms < t->lease_ms)
			locks = t->lease_ms - ms;
		else if (session_holds_locks(e->session))
			locks = BUSY_MS;
		left = locks < left ? locks : left;
		if (*ret_next < 0 || left < (uint64_t)*ret_next)
			*ret_next = (int)left;
	}
	return NULL;
}

/* One whose locks are over, which nobody can take meanwhile; NULL: there is none. */
static struct session *lockless_locked(const struct sessions *t, uint64_t now)
{
	for (struct entry *e = t->first; e != NULL; e = e->next)
		if (e->state == STATE_AWAY && away_for(e, now) >= (uint64_t)t->lease_ms * 1000000 &&
		    session_holds_locks(e->session)) {
			e->state = STATE_TAKEN;
			return e->session;
		}
	return NULL;
}

static void drop_locks(struct sessions *t, uint64_t now)
{
	struct session *s;

	(void)pthread_mutex_lock(&t->mutex);
	while ((s = lockless_locked(t, now)) != NULL) {
		(void)pthread_mutex_unlock(&t->mutex);
		if (session_settle(s, 0)) {
			log_info("client %llu: away for too long: its locks are released",
				 (unsigned long long)session_id(s));
			session_drop_locks(s);
		}
		(void)pthread_mutex_lock(&t->mutex);
		struct entry *e = find_locked(t, s);
		e->state = STATE_AWAY;
		if (session_holds_locks(s)) /* it is still busy: later */
			break;
	}
	(void)pthread_mutex_unlock(&t->mutex);
}

int sessions_tick(struct sessions *t)
{
	uint64_t now = promise_clock();
	struct session *gone;
	int next;

	drop_locks(t, now);
	do {
		next = -1;
		(void)pthread_mutex_lock(&t->mutex);
		gone = over_locked(t, now, &next);
		(void)pthread_mutex_unlock(&t->mutex);
		if (gone != NULL)
			log_info("client %llu: away for too long: its session ends",
				 (unsigned long long)session_id(gone));
		end(gone);
	} while (gone != NULL);
	return next;
}

size_t sessions_away(struct sessions *t)
{
	SCOPE_LOCK(&t->mutex);
	return t->away;
}

int sessions_new(unsigned grace_ms, unsigned lease_ms, struct state *state, struct sessions **ret)
{
	struct sessions *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return -ENOMEM;
	t->grace_ms = grace_ms;
	t->lease_ms = lease_ms;
	t->state = state;
	(void)pthread_mutex_init(&t->mutex, NULL);
	(void)pthread_cond_init(&t->released, NULL);
	*ret = t;
	return 0;
}

void sessions_free(struct sessions *t)
{
	if (t == NULL)
		return;
	while (t->first != NULL)
		end(remove_locked(t, t->first));
	(void)pthread_cond_destroy(&t->released);
	(void)pthread_mutex_destroy(&t->mutex);
	free(t);
}
