#include "host/session.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>

#include "core/cleanup.h"
#include "core/fault.h"
#include "core/msg.h"
#include "host/dirs.h"
#include "host/lock.h"
#include "host/promise.h"
#include "host/slots.h"
#include "host/state.h"
#include "host/watch.h"
#include "host/way.h"
#include "transport/codec.h"

#define GONE_MAX  4096		      /* nodes or open files that are looked for at once */
#define TOTALS_NS UINT64_C(500000000) /* between two tellings of the totals */
#define TRIM_MIN  65536		      /* nodes of a session whose memory goes back to the system */

struct session {
	struct host *host;
	uint64_t id;
	uint64_t features; /* HELLO_*, as asked for */
	atomic_uint refs;
	struct way way;

	struct handles handles;
	struct lock_session *locks;
	struct dirs *dirs;
	struct promise_session *promises;
	struct slots *slots; /* NULL: the session is never resumed */
	uint32_t record;     /* of the state; 0: none */
	atomic_bool goodbye, locks_lost;

	pthread_mutex_t mutex;
	pthread_cond_t settled; /* executing is 0 */
	/* mutex: */
	atomic_uint_fast64_t gen; /* of the connection; changed under the mutex */
	bool cut;		  /* there is none */
	unsigned executing;	  /* requests */
	unsigned listings;	  /* in the making */
	pthread_cond_t listed;	  /* one of them is made */
	uint64_t totals;	  /* when the totals were told last; ns */
};

/* ---- the parts of a session ---- */

uint64_t session_id(const struct session *s)
{
	return s->id;
}

uint64_t session_features(const struct session *s)
{
	return s->features;
}

void session_use_record(struct session *s, uint32_t record, bool restored)
{
	s->record = record;
	promise_use_record(s->promises, record, restored);
	handles_use_record(&s->handles, s->host->state, record);
	lock_session_use_record(s->locks, s->host->state, record);
	slots_use_record(s->slots, s->host->state, record);
}

void session_lost_locks(struct session *s)
{
	atomic_store(&s->locks_lost, true);
}

bool session_resumes(const struct session *s)
{
	return s->slots != NULL;
}

struct slots *session_slots(struct session *s)
{
	return s->slots;
}

void session_goodbye(struct session *s)
{
	atomic_store(&s->goodbye, true);
}

bool session_said_goodbye(const struct session *s)
{
	return atomic_load(&s->goodbye);
}

struct handles *session_handles(struct session *s)
{
	return &s->handles;
}

struct lock_session *session_locks(struct session *s)
{
	return s->locks;
}

struct dirs *session_dirs(struct session *s)
{
	return s->dirs;
}

struct promise_session *session_promises(struct session *s)
{
	return s->promises;
}

const struct export *session_export(const struct session *s)
{
	return s->host->export;
}

void session_forget(struct session *s, uint64_t id, uint64_t n)
{
	if (promise_forget(s->promises, id, n))
		dirs_forget(s->dirs, id);
}

bool session_tells_totals(struct session *s)
{
	uint64_t now = promise_clock();

	SCOPE_LOCK(&s->mutex);
	if (s->totals != 0 && now - s->totals < TOTALS_NS)
		return false;
	s->totals = now;
	return true;
}

bool session_listing_begin(struct session *s)
{
	SCOPE_LOCK(&s->mutex);
	while (s->listings == SESSION_LISTINGS && !session_ending(s) && !s->cut)
		(void)pthread_cond_wait(&s->listed, &s->mutex);
	if (session_ending(s) || s->cut)
		return false;
	s->listings++;
	return true;
}

void session_listing_end(struct session *s)
{
	SCOPE_LOCK(&s->mutex);
	s->listings--;
	(void)pthread_cond_signal(&s->listed);
}

bool session_acl(const struct session *s)
{
	return (s->features & HELLO_ACL) != 0;
}

/* ---- replies ---- */

void session_reply(struct msg *p, uint64_t id, int result)
{
	if (result < 0) {
		*p = (struct msg){.present = p->present & MSG_BIT(stamp), .stamp = p->stamp};
		MSG_SET(p, err, (uint64_t)-msg_errno(result));
	}
	MSG_SET(p, id, id);
}

int session_send(struct session *s, uint64_t gen, const struct msg *p)
{
	return way_send(&s->way, gen, p);
}

void session_follow_host(struct session *s, struct change *c)
{
	if (FAULT(no_sync_fence) || !promises_wanted(s->host->promises))
		return;
	watch_drain(s->host->watch);
	change_follows_host(c);
}

void session_lock_granted(struct session *s, uint64_t id, uint32_t slot, int result)
{
	struct change c = {.promises = s->host->promises, .self = s->promises};
	struct msg p = {0};

	session_reply(&p, id, result);
	if (slot != SLOT_NONE)
		slots_executed(s->slots, slot, &p);
	if (result == 0) {
		session_follow_host(s, &c);
		change_wait(&c);
		(void)promise_fence(s->promises);
	}
	uint64_t gen = slot != SLOT_NONE ? slots_done(s->slots, slot, id) : WAY_ANY;
	/* A connection that is broken is noticed by whoever receives. */
	(void)session_send(s, gen, &p);
}

/* ---- its connections ---- */

uint64_t session_attach(struct session *s, struct stream *stream)
{
	SCOPE_LOCK(&s->mutex);
	uint64_t gen = way_set(&s->way, stream);

	atomic_store(&s->gen, gen);
	s->cut = false;
	return gen;
}

uint64_t session_gen(const struct session *s)
{
	return atomic_load(&s->gen);
}

void session_cut(struct session *s, uint64_t gen)
{
	SCOPE_LOCK(&s->mutex);
	if (gen != atomic_load(&s->gen) || s->cut)
		return;
	s->cut = true;
	way_break(&s->way, gen); /* whoever is sending fails */
	(void)way_set(&s->way, NULL);
	promise_cut(s->promises);
	(void)pthread_cond_broadcast(&s->listed);
}

bool session_settle(struct session *s, unsigned ms)
{
	uint64_t end = promise_clock() + (uint64_t)ms * 1000000;
	const struct timespec deadline = {(time_t)(end / 1000000000), (long)(end % 1000000000)};
	int r = 0;

	SCOPE_LOCK(&s->mutex);
	while (s->executing > 0 && r == 0)
		r = pthread_cond_clockwait(&s->settled, &s->mutex, CLOCK_MONOTONIC, &deadline);
	return s->executing == 0;
}

bool session_enter(struct session *s, uint64_t gen)
{
	SCOPE_LOCK(&s->mutex);
	bool may = !s->cut && gen == atomic_load(&s->gen);

	s->executing += may;
	return may;
}

void session_leave(struct session *s)
{
	SCOPE_LOCK(&s->mutex);
	if (--s->executing == 0)
		(void)pthread_cond_broadcast(&s->settled);
}

/* ---- resuming ---- */

static int take_item(struct session *s, uint64_t type, struct slice *in)
{
	uint64_t a, b;
	int r = type == RESUME_FILES ? codec_get_uint(in, &a) : codec_get_pair(in, &a, &b);

	if (r != 1)
		return r;
	if (type == RESUME_NODES)
		promise_recount(s->promises, a, b);
	else if (type == RESUME_FILES)
		handle_list(&s->handles, a);
	else if (type == RESUME_SLOTS ? !slots_claim(s->slots, a, b) : a >= SESSION_SLOTS)
		return -EPROTO;
	else if (type == RESUME_USED && slots_last_use(s->slots, a) > b)
		return -ESTALE;
	return 1;
}

/* Counts what a repeated reply names: the client has not counted it yet. */
static void count_reply(void *arg, uint64_t op, const struct msg *reply)
{
	struct session *s = arg;

	if (msg_is(op, TRAIT_NAMES_OBJECT) && MSG_HAS(reply, node))
		promise_recount(s->promises, reply->node, 1);
	if (MSG_HAS(reply, fh))
		handle_list(&s->handles, reply->fh);
}

static void close_file(struct session *s, uint64_t fh)
{
	struct handle *h = handle_remove(&s->handles, fh);

	if (h == NULL)
		return;
	lock_release_handle(s->locks, h->node, fh);
	handle_put(&s->handles, h);
}

/* Without memory for the numbers both stay until the session ends. */
static void drop_unlisted(struct session *s)
{
	CLEANUP_FREE uint64_t *ids = malloc(GONE_MAX * sizeof(*ids));
	size_t n;

	if (ids == NULL)
		return;
	do {
		n = handles_unlisted(&s->handles, ids, GONE_MAX);
		for (size_t i = 0; i < n; i++)
			close_file(s, ids[i]);
	} while (n == GONE_MAX);
	do {
		n = promise_recount_gone(s->promises, ids, GONE_MAX);
		for (size_t i = 0; i < n; i++)
			session_forget(s, ids[i], 0);
	} while (n == GONE_MAX);
}

/* All has been told: what the client does not have goes. */
static void settle(struct session *s)
{
	const struct slots_settle replies = {.kept = count_reply, .arg = s};
	uint64_t ids[SESSION_SLOTS];

	size_t n = slots_settle(s->slots, &replies, ids);
	for (size_t i = 0; i < n; i++)
		lock_cancel(s->locks, ids[i]);
	drop_unlisted(s);
}

int session_resume(struct session *s, const struct msg *q, const char **ret_why)
{
	struct slice in = q->payload;
	int r;

	*ret_why = "RESUME: not a sequence of what its type says";
	if (q->type > RESUME_USED)
		return -EPROTO;
	if (q->flags & RESUME_FIRST) {
		promise_recount_begin(s->promises);
		handles_unlist(&s->handles);
		slots_unclaim(s->slots);
	}
	while ((r = take_item(s, q->type, &in)) == 1)
		;
	if (r < 0 || !(q->flags & RESUME_LAST))
		return r;
	settle(s);
	return 1;
}

void session_resumed(struct session *s, uint64_t seq)
{
	atomic_store(&s->locks_lost, false);
	promise_resume(s->promises, seq);
}

bool session_holds_locks(const struct session *s)
{
	return lock_session_holds(s->locks);
}

void session_drop_locks(struct session *s)
{
	struct lock_session *fresh;

	if (lock_session_new(s->host->locks, &fresh) < 0)
		return;
	lock_session_use_record(fresh, s->host->state, s->record);
	atomic_store(&s->locks_lost, true);
	lock_session_free(s->locks);
	s->locks = fresh;
}

bool session_locks_lost(const struct session *s)
{
	return atomic_load(&s->locks_lost);
}

/* ---- a session's life ---- */

static void session_free(struct session *s)
{
	bool trim = s->promises != NULL && promise_session_nodes(s->promises) >= TRIM_MIN;

	if (s->promises != NULL)
		session_stop(s);
	lock_session_free(s->locks);
	dirs_free(s->dirs);
	handles_done(&s->handles);
	promise_session_free(s->promises);
	slots_free(s->slots);
	way_done(&s->way);
	(void)pthread_cond_destroy(&s->listed);
	(void)pthread_cond_destroy(&s->settled);
	(void)pthread_mutex_destroy(&s->mutex);
	state_give(s->host->state, STATE_SESSIONS, s->record); /* all that had its number is gone */
	free(s);
	/* The sanitizers have a heap of their own: there this call would be the first to set up
	   glibc's, which two threads must not do at once. */
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
	if (trim) /* of a million nodes the last one may hold the whole heap */
		(void)malloc_trim(0);
#else
	(void)trim;
#endif
}

void session_ref(struct session *s)
{
	atomic_fetch_add(&s->refs, 1);
}

void session_unref(struct session *s)
{
	if (s != NULL && atomic_fetch_sub(&s->refs, 1) == 1)
		session_free(s);
}

int session_new(struct host *host, uint64_t id, uint64_t features, struct session **ret)
{
	struct session *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return -ENOMEM;
	s->host = host;
	s->id = id;
	s->features = features;
	s->refs = 1;
	s->cut = true; /* not attached yet */
	way_init(&s->way);
	(void)pthread_mutex_init(&s->mutex, NULL);
	(void)pthread_cond_init(&s->settled, NULL);
	(void)pthread_cond_init(&s->listed, NULL);
	handles_init(&s->handles, host->nodes, &host->handles, (features & HELLO_FILES) != 0);
	int r = lock_session_new(host->locks, &s->locks);
	if (r == 0)
		r = dirs_new(&s->dirs);
	if (r == 0)
		r = promise_session_new(host->promises, &s->promises);
	if (r == 0 && (features & HELLO_RESUME) != 0)
		r = slots_new(SESSION_SLOTS, &s->slots);
	if (r < 0) {
		session_unref(s);
		return r;
	}
	*ret = s;
	return 0;
}

int session_push(struct session *s)
{
	return s->features & HELLO_PUSH
		       ? promise_session_push(s->promises, &s->way, session_resumes(s))
		       : 0;
}

void session_stop(struct session *s)
{
	promise_session_stop(s->promises);
	SCOPE_LOCK(&s->mutex);
	(void)pthread_cond_broadcast(&s->listed);
}

bool session_ending(const struct session *s)
{
	return promise_session_ended(s->promises);
}
