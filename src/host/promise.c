#include "host/promise.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/cleanup.h"
#include "core/fault.h"
#include "core/log.h"
#include "core/stats.h"
#include "host/hnode.h"
#include "host/idmap.h"
#include "host/pending.h"
#include "host/share.h"
#include "host/way.h"
#include "transport/codec.h"

#define NODES_MAX	  ((size_t)16 << 20) /* of all sessions; some 300 bytes each */
#define FRAME_PAYLOAD_MAX ((size_t)64 << 10)
#define RECENT_SLOTS	  256

/* The number in a node's slot: how many replies named the node, above the promise bits. */
#define BITS_SHIFT 4
#define BITS_MASK  ((UINT64_C(1) << BITS_SHIFT) - 1)
#define ONE_REPLY  (UINT64_C(1) << BITS_SHIFT)
_Static_assert((INV_ATTR | INV_DATA | INV_NAMES) <= BITS_MASK, "the bits fit");

struct promise_session {
	struct promises *promises;
	struct promise_session *next, *prev; /* of that list, if it pushes */
	atomic_uint refs; /* the session's own, and one for each wait for the session */
	atomic_bool pushing, ended;
	uint32_t record; /* of the session in the state; constant. 0: none */
	bool restored;	 /* by this process, and not resumed since; mutex */
	bool resumes;	 /* the session may outlive the way; constant once it pushes */
	struct way *way;
	pthread_t pusher;

	pthread_mutex_t mutex;
	pthread_cond_t work; /* there is something to send */
	pthread_cond_t done; /* sent, acked, lagging or an `ended` has changed */
	/* mutex: */
	struct idmap nodes; /* node id to struct hnode */
	struct share told;  /* as many as there are in nodes */
	uint64_t seq;	    /* the sequence of the last broken promise */
	uint64_t sent, acked;
	uint64_t taken;			/* by the pusher: what it has sent, or is sending */
	uint64_t ways;			/* how often there was a new one */
	bool cut;			/* there is none at the moment: nothing is sent */
	uint64_t ack_wanted, ack_asked; /* somebody waits for it; an INV has asked for it */
	bool lagging; /* has not acknowledged in time, and is not waited for until it does */
	bool reset;   /* RESET is to be sent, before what is pending */
	struct pending pending;
	/*
	 * Indexed by a hash of the node: the last sequence at which one of the node's
	 * promises was broken. A second change of the node finds no bit, but has to wait
	 * all the same until the client has acknowledged the first.
	 */
	uint64_t recent[RECENT_SLOTS];
};

struct promises {
	struct hnodes *nodes;
	struct stats *stats;
	unsigned ack_ms;
	struct share_pool told; /* the nodes of all sessions */
	atomic_uint n_pushing;
	pthread_rwlock_t lock;
	struct promise_session *pushing; /* lock */
};

/* A session, and the sequence that it has to acknowledge. */
struct ack_wait {
	struct promise_session *session; /* a reference */
	uint64_t seq;
};

uint64_t promise_clock(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void session_unref(struct promise_session *s)
{
	if (atomic_fetch_sub(&s->refs, 1) != 1)
		return;
	(void)pthread_cond_destroy(&s->done);
	(void)pthread_cond_destroy(&s->work);
	(void)pthread_mutex_destroy(&s->mutex);
	free(s);
}

/* ---- the nodes of a session ---- */

bool promise_pushing(const struct promise_session *s)
{
	return atomic_load_explicit(&s->pushing, memory_order_relaxed);
}

static void arm_locked(struct promise_session *s, struct idmap_slot *slot, unsigned arm,
		       struct stamp *stamp)
{
	if (arm == 0 || !promise_pushing(s))
		return;
	slot->n |= arm;
	if (!stamp->armed) {
		stamp->armed = true;
		stamp->seq = s->seq;
	}
}

int promise_node(struct promise_session *s, uint64_t id, unsigned arm, struct stamp *stamp,
		 struct hnode **ret)
{
	SCOPE_LOCK(&s->mutex);
	struct idmap_slot *slot = id != 0 ? idmap_get(&s->nodes, id) : NULL;

	if (slot == NULL)
		return -ESTALE;
	arm_locked(s, slot, arm, stamp);
	*ret = slot->value;
	hnode_ref(*ret);
	return 0;
}

static int tell(struct promise_session *s, struct hnode *n, unsigned arm, struct stamp *stamp,
		bool *ret_first)
{
	SCOPE_LOCK(&s->mutex);
	struct idmap_slot *slot = idmap_get(&s->nodes, hnode_id(n));

	*ret_first = slot == NULL;
	if (slot == NULL) {
		if (!share_take(&s->told, 1))
			return -ENFILE;
		slot = idmap_put(&s->nodes, hnode_id(n));
		if (slot == NULL) {
			share_give(&s->told, 1);
			*ret_first = false;
			return -ENOMEM;
		}
		hnode_ref(n);
		slot->value = n;
	}
	slot->n += ONE_REPLY;
	arm_locked(s, slot, arm, stamp);
	return 0;
}

static bool is_told(struct promise_session *s, const struct hnode *n)
{
	SCOPE_LOCK(&s->mutex);
	return idmap_get(&s->nodes, hnode_id(n)) != NULL;
}

/*
 * Writes down whether the session has the node. Not under the mutex, so another thread that tells
 * or forgets it may be overtaken: whoever has written looks again.
 */
static void record_told(struct promise_session *s, struct hnode *n)
{
	bool told;

	if (s->record == 0)
		return;
	do {
		told = is_told(s, n);
		(told ? hnode_told : hnode_untold)(s->promises->nodes, n, s->record);
	} while (is_told(s, n) != told);
}

int promise_tell(struct promise_session *s, struct hnode *n, unsigned arm, struct stamp *stamp)
{
	bool first = false;
	int r = tell(s, n, arm, stamp, &first);

	if (first)
		record_told(s, n);
	return r;
}

void promise_use_record(struct promise_session *s, uint32_t record, bool restored)
{
	s->record = record;
	s->restored = s->cut = restored;
}

void promise_use_numbers(struct promise_session *s)
{
	s->restored = s->cut = true;
}

bool promise_arm(struct promise_session *s, const struct hnode *n, unsigned arm,
		 struct stamp *stamp)
{
	SCOPE_LOCK(&s->mutex);
	struct idmap_slot *slot = idmap_get(&s->nodes, hnode_id(n));

	if (slot != NULL)
		arm_locked(s, slot, arm, stamp);
	return slot != NULL;
}

bool promise_forget(struct promise_session *s, uint64_t id, uint64_t n)
{
	struct hnode *gone = NULL;

	{
		SCOPE_LOCK(&s->mutex);
		struct idmap_slot *slot = id != 0 ? idmap_get(&s->nodes, id) : NULL;

		if (slot == NULL)
			return false;
		if (slot->n >> BITS_SHIFT > n) {
			slot->n -= n << BITS_SHIFT;
			return false;
		}
		gone = slot->value;
		idmap_del(&s->nodes, id);
		share_give(&s->told, 1);
	}
	record_told(s, gone);
	hnode_unref(s->promises->nodes, gone);
	return true;
}

/* ---- a session that goes on over another connection ---- */

void promise_recount_begin(struct promise_session *s)
{
	struct idmap_slot *slot = NULL;

	SCOPE_LOCK(&s->mutex);
	while ((slot = idmap_next(&s->nodes, slot)) != NULL)
		slot->n &= BITS_MASK;
}

void promise_recount(struct promise_session *s, uint64_t id, uint64_t n)
{
	SCOPE_LOCK(&s->mutex);
	struct idmap_slot *slot = id != 0 ? idmap_get(&s->nodes, id) : NULL;

	if (slot != NULL && n <= UINT32_MAX)
		slot->n += n << BITS_SHIFT;
}

size_t promise_recount_gone(struct promise_session *s, uint64_t *ids, size_t max)
{
	struct idmap_slot *slot = NULL;
	size_t n = 0;

	SCOPE_LOCK(&s->mutex);
	while (n < max && (slot = idmap_next(&s->nodes, slot)) != NULL)
		if (slot->n >> BITS_SHIFT == 0)
			ids[n++] = slot->key;
	return n;
}

/* ---- breaking ---- */

static void reset_locked(struct promise_session *s)
{
	pending_clear(&s->pending);
	s->reset = true;
	s->seq++;
	(void)pthread_cond_signal(&s->work);
}

static uint64_t *recent_locked(struct promise_session *s, uint64_t id)
{
	return &s->recent[idmap_mix(id) % RECENT_SLOTS];
}

/* Queues those classes that the session was promised; with `again` also those whose invalidation it
 * has not acknowledged yet. Returns the sequence to wait for, 0 if there is no such class. */
static uint64_t break_locked(struct promise_session *s, uint64_t id, unsigned class,
			     const char *name, bool again, uint64_t seen)
{
	struct idmap_slot *slot = idmap_get(&s->nodes, id);

	if (slot == NULL)
		return 0;
	unsigned promised = (unsigned)(slot->n & BITS_MASK);
	unsigned hit = class & promised & (INV_ATTR | INV_DATA | INV_NAMES);
	if ((class & INV_NAME) && (promised & INV_NAMES))
		hit |= INV_NAME;
	if (again && *recent_locked(s, id) > s->acked)
		hit = class;
	if (hit == 0)
		return 0;
	slot->n &= ~(uint64_t)(hit & (INV_ATTR | INV_DATA | INV_NAMES));
	s->seq++;
	*recent_locked(s, id) = s->seq;
	if (s->reset)
		return s->seq; /* RESET covers this, too */
	int r = pending_add(&s->pending, id, hit, hit & INV_NAME ? name : NULL, seen);
	if (r < 0)
		reset_locked(s);
	else if (r == PENDING_ALL_NAMES)
		slot->n &= ~(uint64_t)INV_NAMES;
	(void)pthread_cond_signal(&s->work);
	return s->seq;
}

void promises_break(struct promises *t, struct hnode *n, unsigned class, const char *name,
		    uint64_t seen)
{
	(void)pthread_rwlock_rdlock(&t->lock);
	for (struct promise_session *s = t->pushing; s != NULL; s = s->next) {
		SCOPE_LOCK(&s->mutex);
		(void)break_locked(s, hnode_id(n), class, name, false, seen);
	}
	(void)pthread_rwlock_unlock(&t->lock);
}

void promises_reset(struct promises *t)
{
	(void)pthread_rwlock_rdlock(&t->lock);
	for (struct promise_session *s = t->pushing; s != NULL; s = s->next) {
		SCOPE_LOCK(&s->mutex);
		reset_locked(s);
	}
	(void)pthread_rwlock_unlock(&t->lock);
}

bool promises_wanted(const struct promises *t)
{
	return atomic_load(&t->n_pushing) > 0;
}

/* ---- changes by clients ---- */

/* False if there is no other client to tell. */
static bool change_matters(const struct change *c)
{
	if (c->promises == NULL || FAULT(no_own_break))
		return false;
	bool self = c->self != NULL && atomic_load(&c->self->pushing);

	return atomic_load(&c->promises->n_pushing) > (self ? 1u : 0u);
}

/* Without memory the session is not waited for: its client is told of the change a moment later. */
static void add_wait(struct change *c, struct promise_session *s, uint64_t seq)
{
	for (size_t i = 0; i < c->n_waits; i++) {
		if (c->waits[i].session == s) {
			c->waits[i].seq = seq;
			return;
		}
	}
	struct ack_wait *p = realloc(c->waits, (c->n_waits + 1) * sizeof(*p));
	if (p == NULL)
		return;
	atomic_fetch_add(&s->refs, 1);
	p[c->n_waits++] = (struct ack_wait){s, seq};
	c->waits = p;
}

static void broke(struct change *c, struct hnode *n, unsigned class, const char *name)
{
	struct promises *t = c->promises;
	uint64_t now = promise_clock();

	(void)pthread_rwlock_rdlock(&t->lock);
	for (struct promise_session *s = t->pushing; s != NULL; s = s->next) {
		if (s == c->self)
			continue;
		SCOPE_LOCK(&s->mutex);
		uint64_t seq = break_locked(s, hnode_id(n), class, name, true, now);
		if (seq == 0)
			continue;
		s->ack_wanted = seq; /* also of a session that lags: its ACK ends that */
		if (!s->lagging)
			add_wait(c, s, seq);
	}
	(void)pthread_rwlock_unlock(&t->lock);
}

void change_broke(struct change *c, struct hnode *n, unsigned class)
{
	if (n != NULL && change_matters(c))
		broke(c, n, class, NULL);
}

void change_broke_name(struct change *c, struct hnode *dir, const char *name)
{
	if (change_matters(c))
		broke(c, dir, INV_ATTR | INV_NAME, name);
}

void change_broke_fd(struct change *c, int fd, unsigned class, const char *name)
{
	struct hnode *n;

	if (!change_matters(c) || hnodes_find(c->promises->nodes, fd, &n) < 0)
		return;
	broke(c, n, class, name);
	hnode_unref(c->promises->nodes, n);
}

void change_follows_host(struct change *c)
{
	struct promises *t = c->promises;

	if (!change_matters(c))
		return;
	(void)pthread_rwlock_rdlock(&t->lock);
	for (struct promise_session *s = t->pushing; s != NULL; s = s->next) {
		if (s == c->self)
			continue;
		SCOPE_LOCK(&s->mutex);
		if (s->acked == s->seq || s->lagging)
			continue;
		s->ack_wanted = s->seq;
		(void)pthread_cond_signal(
			&s->work); /* all may be sent already, but no ACK was asked for */
		add_wait(c, s, s->seq);
	}
	(void)pthread_rwlock_unlock(&t->lock);
}

bool change_waits(const struct change *c)
{
	return c->n_waits > 0;
}

/*
 * A session that may be resumed has its connection closed. The way is there as long as the session
 * has not ended, which the lock keeps it from.
 */
static void give_up_locked(const struct promises *t, struct promise_session *s)
{
	log_warning("a client has not acknowledged invalidations for %u ms: everything it keeps "
		    "is invalidated, and it is not waited for until it answers",
		    t->ack_ms);
	s->lagging = true;
	reset_locked(s);
	(void)pthread_cond_broadcast(&s->done);
	if (s->resumes && !s->cut) /* it comes back, with everything invalid, or it is gone */
		way_break(s->way, WAY_ANY);
}

/* An ACK that came at the last moment counts: the time is checked after all other conditions. */
static void wait_for(const struct change *c, struct promise_session *s, uint64_t seq,
		     const struct timespec *deadline)
{
	int r = 0;

	SCOPE_LOCK(&s->mutex);
	while (s->acked < seq && !s->lagging && !atomic_load(&s->ended) &&
	       (c->self == NULL || !atomic_load(&c->self->ended))) {
		if (r == ETIMEDOUT)
			give_up_locked(c->promises, s);
		else
			r = pthread_cond_clockwait(&s->done, &s->mutex, CLOCK_MONOTONIC, deadline);
	}
}

void change_wait(struct change *c)
{
	if (c->n_waits == 0)
		return;
	uint64_t end = promise_clock() + (uint64_t)c->promises->ack_ms * 1000000;
	const struct timespec deadline = {(time_t)(end / 1000000000), (long)(end % 1000000000)};

	for (size_t i = 0; i < c->n_waits; i++) {
		wait_for(c, c->waits[i].session, c->waits[i].seq, &deadline);
		session_unref(c->waits[i].session);
	}
	free(TAKE_PTR(c->waits));
	c->n_waits = 0;
}

/* ---- acknowledgements ---- */

uint64_t promise_fence(struct promise_session *s)
{
	SCOPE_LOCK(&s->mutex);
	uint64_t seq = s->seq;

	while (s->sent < seq && !s->cut && !atomic_load(&s->ended))
		(void)pthread_cond_wait(&s->done, &s->mutex);
	return seq;
}

int promise_ack(struct promise_session *s, uint64_t seq)
{
	SCOPE_LOCK(&s->mutex);
	if (seq >
	    s->seq) /* not `sent`: the client may have received a frame before `sent` is raised */
		return -EPROTO;
	if (seq > s->acked)
		s->acked = seq;
	s->lagging = false;
	(void)pthread_cond_broadcast(&s->done);
	return 0;
}

/* ---- the pusher ---- */

/* The items that the pusher sends together. */
struct batch {
	struct pending pending;
	uint64_t seq, ways, gen; /* gen: of the connection */
	bool reset, want_ack;
};

static bool next_batch(struct promise_session *s, struct batch *b)
{
	SCOPE_LOCK(&s->mutex);
	if (b->seq > 0) {
		s->sent = b->seq;
		(void)pthread_cond_broadcast(&s->done);
	}
	while ((s->cut || (s->sent == s->seq && s->ack_wanted <= s->ack_asked)) &&
	       !atomic_load(&s->ended))
		(void)pthread_cond_wait(&s->work, &s->mutex);
	if (atomic_load(&s->ended))
		return false;
	pending_swap(&s->pending, &b->pending);
	b->reset = s->reset;
	s->reset = false;
	b->want_ack = s->ack_wanted > s->ack_asked;
	b->seq = s->taken = s->seq;
	b->ways = s->ways;
	b->gen = way_gen(s->way);
	if (b->want_ack || b->reset)
		s->ack_asked = b->seq;
	return true;
}

static int send_items(struct promise_session *s, const struct batch *b, struct slice items,
		      bool last)
{
	struct msg m = {0};

	MSG_SET(&m, op, MSG_INV);
	if (last && b->want_ack)
		MSG_SET(&m, flags, INV_ACK);
	MSG_SET(&m, seq, b->seq);
	MSG_SET(&m, age, items.len > 0 ? promise_clock() - pending_oldest(&b->pending) : 0);
	MSG_SET(&m, payload, items);
	return way_send(s->way, b->gen, &m);
}

/*
 * Items are merged while they wait, so their order is lost, and a batch is complete only
 * with its last frame: each frame has the sequence of the whole batch, and the last one
 * asks for the ACK. All of them go over one connection: the client of another one would take the
 * last of them for all.
 */
static int send_batch(struct promise_session *s, struct batch *b, unsigned char *buf)
{
	struct pending_cursor at = {0};
	struct inv_item item;
	size_t used = 0;
	int r = 0;

	if (b->reset) {
		struct msg m = {0};

		MSG_SET(&m, op, MSG_RESET);
		stats_add(s->promises->stats, STAT_server_resets, 1);
		MSG_SET(&m, seq, b->seq);
		r = way_send(s->way, b->gen, &m);
	}
	while (r == 0 && pending_next(&b->pending, &at, &item)) {
		size_t n = codec_put_inv(&item, buf + used, FRAME_PAYLOAD_MAX - used);

		stats_add(s->promises->stats, STAT_server_pushed, 1);
		if (n == 0) {
			r = send_items(s, b, (struct slice){buf, used}, false);
			used = 0;
			n = codec_put_inv(&item, buf, FRAME_PAYLOAD_MAX);
		}
		used += n;
	}
	if (r == 0 && (used > 0 || (b->want_ack && !b->reset)))
		r = send_items(s, b, (struct slice){buf, used}, true);
	pending_clear(&b->pending);
	return r;
}

/* The batch is lost: the client, if it comes back, is told that nothing is promised any more. */
static void batch_lost(struct promise_session *s, const struct batch *b)
{
	SCOPE_LOCK(&s->mutex);
	if (b->ways == s->ways)
		s->cut = true;
	reset_locked(s);
	(void)pthread_cond_broadcast(&s->done);
}

static void *pusher_main(void *arg)
{
	struct promise_session *s = arg;
	CLEANUP_FREE unsigned char *buf = malloc(FRAME_PAYLOAD_MAX);
	struct batch b = {0};

	while (buf != NULL && next_batch(s, &b)) {
		if (send_batch(s, &b, buf) == 0)
			continue;
		if (!s->resumes)
			break;
		way_break(s->way, b.gen);
		batch_lost(s, &b);
		b.seq = 0;
	}
	pending_done(&b.pending);
	if (!atomic_load(&s->ended)) {
		/* Without the INV the client would rely on facts that are not true any more. */
		way_break(s->way, WAY_ANY);
		promise_session_stop(s);
	}
	return NULL;
}

/* ---- a session's life ---- */

int promise_session_new(struct promises *t, struct promise_session **ret)
{
	struct promise_session *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return -ENOMEM;
	s->promises = t;
	share_init(&s->told, &t->told);
	atomic_store(&s->refs, 1);
	(void)pthread_mutex_init(&s->mutex, NULL);
	(void)pthread_cond_init(&s->work, NULL);
	(void)pthread_cond_init(&s->done, NULL);
	*ret = s;
	return 0;
}

int promise_session_push(struct promise_session *s, struct way *way, bool resumes)
{
	struct promises *t = s->promises;

	s->way = way;
	s->resumes = resumes;
	int r = -pthread_create(&s->pusher, NULL, pusher_main, s);
	if (r < 0)
		return r;
	(void)pthread_rwlock_wrlock(&t->lock);
	s->next = t->pushing;
	if (s->next != NULL)
		s->next->prev = s;
	t->pushing = s;
	atomic_store(&s->pushing, true);
	atomic_fetch_add(&t->n_pushing, 1);
	(void)pthread_rwlock_unlock(&t->lock);
	return 0;
}

static void wake_all(struct promise_session *s)
{
	SCOPE_LOCK(&s->mutex);
	(void)pthread_cond_broadcast(&s->done);
	(void)pthread_cond_broadcast(&s->work);
}

void promise_cut(struct promise_session *s)
{
	SCOPE_LOCK(&s->mutex);
	s->cut = true;
	(void)pthread_cond_broadcast(&s->done);
}

void promise_resume(struct promise_session *s, uint64_t seq)
{
	SCOPE_LOCK(&s->mutex);
	s->ways++;
	s->cut = false;
	if (s->restored && seq > s->seq && seq < UINT64_MAX / 2)
		s->seq = s->sent = s->acked = seq; /* as the server before this one had them */
	if (promise_pushing(s) && (seq < s->taken || s->restored))
		reset_locked(s); /* otherwise nobody would send it, and a fence wait for ever */
	s->restored = false;
	/* who waits for an ACK of what was sent asks for it again */
	s->ack_asked = s->acked;
	(void)pthread_cond_signal(&s->work);
}

void promise_session_stop(struct promise_session *s)
{
	struct promises *t = s->promises;

	if (atomic_exchange(&s->ended, true))
		return;
	wake_all(s);
	/* A change by this session's client may wait for any other session. */
	(void)pthread_rwlock_rdlock(&t->lock);
	for (struct promise_session *o = t->pushing; o != NULL; o = o->next)
		wake_all(o);
	(void)pthread_rwlock_unlock(&t->lock);
}

bool promise_session_ended(const struct promise_session *s)
{
	return atomic_load(&s->ended);
}

size_t promise_session_nodes(const struct promise_session *s)
{
	return atomic_load(&s->told.own);
}

void promise_session_free(struct promise_session *s)
{
	struct idmap_slot *slot = NULL;

	if (s == NULL)
		return;
	promise_session_stop(s);
	if (atomic_load(&s->pushing)) {
		struct promises *t = s->promises;

		(void)pthread_rwlock_wrlock(&t->lock);
		*(s->prev != NULL ? &s->prev->next : &t->pushing) = s->next;
		if (s->next != NULL)
			s->next->prev = s->prev;
		atomic_fetch_sub(&t->n_pushing, 1);
		(void)pthread_rwlock_unlock(&t->lock);
		(void)pthread_join(s->pusher, NULL);
	}
	while ((slot = idmap_next(&s->nodes, slot)) != NULL) {
		hnode_untold(s->promises->nodes, slot->value, s->record);
		hnode_unref(s->promises->nodes, slot->value);
	}
	share_give(&s->told, s->nodes.used);
	idmap_done(&s->nodes);
	pending_done(&s->pending);
	session_unref(s);
}

int promises_new(struct hnodes *nodes, unsigned ack_ms, size_t nodes_max, struct stats *stats,
		 struct promises **ret)
{
	struct promises *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return -ENOMEM;
	t->nodes = nodes;
	t->stats = stats;
	t->ack_ms = ack_ms > 0 ? ack_ms : PROMISE_ACK_MS;
	share_pool_init(&t->told, nodes_max > 0 ? nodes_max : NODES_MAX);
	(void)pthread_rwlock_init(&t->lock, NULL);
	*ret = t;
	return 0;
}

void promises_free(struct promises *t)
{
	if (t == NULL)
		return;
	(void)pthread_rwlock_destroy(&t->lock);
	free(t);
}
