/*
 * A link whose wire is lost: its thread dials until the server answers, tells what the client holds
 * of the session, and goes on with another wire.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "core/hash.h"
#include "core/log.h"
#include "transport/codec.h"
#include "transport/link_priv.h"

#define DIAL_MS	   3000 /* one try */
#define RESUME_MS  5000 /* from HELLO's answer to RESUME's */
#define PAUSE_MIN  20	/* ms between two tries: doubled from the first on, and up to half as */
#define PAUSE_MAX  2000 /* much again or less, so that not all guests of a host come at once */
#define ITEMS_MAX  (64u << 10) /* bytes of a RESUME's payload */
#define ITEM_BYTES 20	       /* one item at most */
#define NO_ID	   UINT64_MAX

struct keeper {
	struct link *link;
	struct dialler *dialler;
	int stop_fd; /* eventfd: readable at the end */
	pthread_t thread;
};

/* ---- RESUME ---- */

/* The RESUME messages of one session, in the making. */
struct telling {
	struct link *link;
	struct stream *stream;
	uint64_t type; /* of the items in buf */
	size_t len;
	bool begun; /* one has been sent */
	int error;
	/*
	 * Slots whose answer we have, and which whoever takes our place might have to use again:
	 * the server counts what their answers tell, as of those that we have not, and we do not.
	 */
	struct msg_slot kept[MSG_SLOTS_MAX];
	uint64_t kept_node[MSG_SLOTS_MAX];
	size_t n_kept;
	unsigned char buf[ITEMS_MAX];
};

static void send_items(struct telling *t, bool last)
{
	struct msg m = {0};

	if (t->error != 0)
		return;
	MSG_SET(&m, op, MSG_RESUME);
	MSG_SET(&m, id, NO_ID);
	MSG_SET(&m, flags, (t->begun ? 0u : RESUME_FIRST) | (last ? RESUME_LAST : 0u));
	MSG_SET(&m, type, t->type);
	MSG_SET(&m, payload, ((struct slice){t->buf, t->len}));
	t->error = stream_send(t->stream, &m);
	t->begun = true;
	t->len = 0;
}

/* Room for one more item of this type. */
static unsigned char *item(struct telling *t, uint64_t type)
{
	if (t->len > 0 && (t->type != type || sizeof(t->buf) - t->len < ITEM_BYTES))
		send_items(t, false);
	t->type = type;
	return t->buf + t->len;
}

/* Drops the one-way messages that wait: what they give back, and how far invalidations have come,
 * is told anew by RESUME. */
static void drop_oneways(void *arg)
{
	struct telling *t = arg;
	struct call *call;

	while ((call = link_take_any(t->link, true)) != NULL)
		link_call_fail(t->link, call, ENOTCONN);
}

static void tell_node(void *arg, uint64_t node, uint64_t n)
{
	struct telling *t = arg;

	for (size_t i = 0; i < t->n_kept; i++)
		n -= t->kept_node[i] == node && n > 0;
	t->len += codec_put_pair(node, n, item(t, RESUME_NODES), ITEM_BYTES);
}

static void tell_file(void *arg, uint64_t fh)
{
	struct telling *t = arg;

	t->len += codec_put_uint(fh, item(t, RESUME_FILES), ITEM_BYTES);
}

static void note_kept(struct telling *t)
{
	const struct link *l = t->link;

	SCOPE_LOCK(&t->link->lock);
	for (; t->n_kept < l->kept_count; t->n_kept++) {
		uint32_t slot = l->kept[t->n_kept];

		t->kept[t->n_kept] = (struct msg_slot){slot, l->slot_uses[slot]};
		t->kept_node[t->n_kept] = l->kept_node[slot];
	}
}

/* The calls that are sent again. */
static void tell_slots(struct telling *t)
{
	struct msg_slot slots[MSG_SLOTS_MAX];
	size_t n = 0;
	{
		SCOPE_LOCK(&t->link->lock);
		for (uint32_t i = 0; i < t->link->table_size && n < MSG_SLOTS_MAX; i++) {
			const struct call *call = t->link->table[i];

			if (call != NULL && call->use != 0)
				slots[n++] = (struct msg_slot){call->slot, call->use};
		}
	}
	for (size_t i = 0; i < t->n_kept && n < MSG_SLOTS_MAX; i++)
		slots[n++] = t->kept[i];
	for (size_t i = 0; i < n; i++)
		t->len += codec_put_pair(slots[i].slot, slots[i].use, item(t, RESUME_SLOTS),
					 ITEM_BYTES);
}

/* So far each slot has been used: by that the server knows whether this client is older than it. */
static void tell_uses(struct telling *t)
{
	uint64_t uses[MSG_SLOTS_MAX];
	{
		SCOPE_LOCK(&t->link->lock);
		memcpy(uses, t->link->slot_uses, sizeof(uses));
	}
	for (uint64_t i = 0; i < MSG_SLOTS_MAX; i++)
		if (uses[i] != 0)
			t->len += codec_put_pair(i, uses[i], item(t, RESUME_USED), ITEM_BYTES);
}

/*
 * The reply to the last RESUME, which nothing comes before. Its payload, in t->buf, is *ret.
 * -ESTALE: another copy of this client has gone on with the session.
 */
static int receive_reply(struct telling *t, struct slice *ret)
{
	struct head_buf head = {0};
	struct msg m = {0};
	const char *why;
	int r = stream_recv(t->stream, &head, &m, &why);

	if (r == 0 && (MSG_HAS(&m, op) || !MSG_HAS(&m, id) || m.id != NO_ID))
		r = -EPROTO;
	if (r == 0 && m.err != 0)
		r = m.err == ESTALE ? -ESTALE : -EPROTO;
	*ret = (struct slice){t->buf, 0};
	if (r == 0 && MSG_HAS(&m, payload)) {
		ret->len = m.payload.len;
		r = ret->len > sizeof(t->buf) ? -EPROTO
					      : stream_recv_payload(t->stream, t->buf, ret->len);
	}
	head_buf_done(&head);
	return r;
}

/*
 * This client has a session of its own now, and another copy of it the one of before. Of the calls
 * that were in flight those can be sent that the server has not begun for either.
 */
static void go_on_apart(struct link *l, struct slice fresh)
{
	struct msg_slot slots[MSG_SLOTS_MAX];
	uint64_t slot, use;
	size_t n = 0;

	while (n < MSG_SLOTS_MAX && codec_get_pair(&fresh, &slot, &use) == 1)
		if (slot < MSG_SLOTS_MAX)
			slots[n++] = (struct msg_slot){(uint32_t)slot, use};
	unsigned unsure = link_end_unsure(l, slots, n);
	if (l->events != NULL)
		l->events->locks_lost(l->events_arg);
	stats_add(l->options.stats, STAT_conn_copied, 1);
	stats_add(l->options.stats, STAT_conn_unsure, unsure);
	log_warning("another copy of this client has gone on with its session: this one has a new "
		    "one; %u requests that were in flight, and may have been executed, end with "
		    "an error",
		    unsure);
}

static int tell_session(struct link *l, const struct dialled *d)
{
	CLEANUP_FREE struct telling *t = malloc(sizeof(*t));
	bool copy = (d->hello.features & HELLO_COPY) != 0;
	struct slice fresh;
	const struct backend_holds to = {
		.begin = drop_oneways, .node = tell_node, .file = tell_file, .arg = t};

	if (t == NULL)
		return -ENOMEM;
	t->link = l;
	t->stream = d->stream;
	t->len = 0;
	t->begun = false;
	t->error = 0;
	t->n_kept = 0;
	note_kept(t);
	if ((d->hello.features & HELLO_COPIES) != 0 && !copy)
		tell_uses(t);
	void *arg;
	const struct backend_events *events = link_events(l, &arg);
	if (events != NULL) {
		events->holds(arg, &to);
	} else {
		drop_oneways(t);
		tell_node(t, l->base.info.root_node, 1);
	}
	tell_slots(t);
	send_items(t, true);
	int r = t->error != 0 ? t->error : receive_reply(t, &fresh);
	if (r == 0 && copy)
		go_on_apart(l, fresh);
	return r;
}

/* ---- one connection ---- */

/* The calls that wait for a lock and were cancelled: the server may not have heard of that. */
static void cancel_again(struct link *l)
{
	uint64_t ids[MSG_SLOTS_MAX];
	size_t n = 0;
	{
		SCOPE_LOCK(&l->lock);
		for (uint32_t i = 0; i < l->table_size && n < MSG_SLOTS_MAX; i++)
			if (l->table[i] != NULL && l->table[i]->cancelled)
				ids[n++] = l->table[i]->id;
	}
	while (n > 0)
		(void)link_send_cancel(l, ids[--n]);
}

/* A server that cannot do any more what the mount was set up for. */
static const char *worse(const struct link *l, const struct msg *hello)
{
	const struct backend_info *i = &l->base.info;

	if ((i->push && !(hello->features & HELLO_PUSH)) ||
	    (i->watch && !(hello->features & HELLO_WATCH)))
		return "the server does not tell of changes any more";
	if (i->acl && !(hello->features & HELLO_ACL))
		return "the server does not pass ACLs on any more";
	return NULL;
}

static int go_on(const struct keeper *k, struct dialled *d, char *err, size_t err_len)
{
	struct link *l = k->link;
	struct patience patience = patience_new(RESUME_MS, k->stop_fd);
	const char *why = worse(l, &d->hello);
	bool copy = (d->hello.features & HELLO_COPY) != 0;

	if ((d->hello.features & (HELLO_RESUMED | HELLO_COPY)) == 0)
		why = "the server has lost the session";
	if (why != NULL) {
		(void)snprintf(err, err_len, "%s", why);
		stream_free(d->stream);
		return -EPROTO;
	}
	if (!copy) { /* of a new session nobody knows before the reply to RESUME */
		memcpy(l->token, d->token, sizeof(l->token));
		link_outlive(l, &d->hello);
	}
	/* Before RESUME: the server tells until it has taken that, and its answer may be lost. */
	if ((d->hello.features & HELLO_LOCKS_LOST) != 0 && l->events != NULL)
		l->events->locks_lost(l->events_arg);
	stream_set_patience(d->stream, &patience);
	int r = tell_session(l, d);
	if (r == -ESTALE)
		l->another = true; /* it comes again, and says so */
	if (r < 0) {
		(void)snprintf(err, err_len, "the session could not be resumed: %s",
			       r == -EPROTO ? "the answer makes no sense" : strerror(-r));
		stream_free(d->stream);
		return r == -EPROTO ? -EIO : r;
	}
	stream_set_patience(d->stream, NULL);
	l->another = false;
	l->session = d->hello.session;
	memcpy(l->token, d->token, sizeof(l->token));
	link_outlive(l, &d->hello);
	link_set_facts(l, &d->hello);
	{
		SCOPE_LOCK(&l->lock);
		l->down = l->overdue = false;
		atomic_store(&l->base.away, false);
	}
	cancel_again(l);
	return link_connect_wire(l, d->stream);
}

static int try_once(const struct keeper *k, char *err, size_t err_len)
{
	struct link *l = k->link;
	struct patience patience = patience_new(DIAL_MS, k->stop_fd);
	struct msg resume = {0};
	struct dialled d = {0};

	MSG_SET(&resume, session, l->session);
	MSG_SET(&resume, epoch, l->base.info.epoch);
	MSG_SET(&resume, token, ((struct slice){l->token, sizeof(l->token)}));
	if (l->another)
		MSG_SET(&resume, features, HELLO_COPY);
	void *arg;
	const struct backend_events *events = link_events(l, &arg);
	if (events != NULL)
		MSG_SET(&resume, seq, events->heard(arg));
	int r = k->dialler->dial(k->dialler, &resume, &patience, &d, err, err_len);
	return r < 0 ? r : go_on(k, &d, err, err_len);
}

/* ---- until there is one ---- */

static int jitter(int ms, unsigned tries)
{
	return ms / 2 + (int)(hash_mix(stats_now() + tries) % (uint64_t)ms);
}

/* For whoever is not to wait for ever. */
static void end_overdue(struct link *l, uint64_t since)
{
	uint64_t timeo = l->options.timeo_ms;
	struct call *call;

	if (timeo == 0 || stats_now() - since < timeo * 1000000)
		return;
	(void)pthread_mutex_lock(&l->lock);
	bool first = !l->overdue;
	l->overdue = true;
	(void)pthread_cond_broadcast(&l->room);
	(void)pthread_mutex_unlock(&l->lock);
	if (first)
		log_warning("the server has been away for %llu ms: calls end with an error",
			    (unsigned long long)timeo);
	while ((call = link_take_any(l, false)) != NULL)
		link_call_fail(l, call, ETIMEDOUT);
}

/* 0: the link has a wire again. */
static int reconnect(const struct keeper *k, const char *why, char *err, size_t err_len)
{
	struct link *l = k->link;
	uint64_t since = stats_now();
	int r = -EAGAIN, pause = PAUSE_MIN;

	log_warning("connection to the server lost: %s; trying to connect again", why);
	stats_text(l->options.stats, TEXT_conn_state, "reconnecting");
	stats_set(l->options.stats, STAT_conn_since, since);
	for (unsigned tries = 0; r != 0 && r != -EPROTO && r != -EINTR; tries++) {
		stats_add(l->options.stats, STAT_conn_tries, 1);
		r = try_once(k, err, err_len);
		if (r == 0 || r == -EPROTO || r == -EINTR)
			break;
		end_overdue(l, since);
		struct patience p = patience_new((uint64_t)jitter(pause, tries), k->stop_fd);
		if (patience_pause(&p, PAUSE_MAX * 2) == -EINTR)
			r = -EINTR;
		pause = pause * 2 < PAUSE_MAX ? pause * 2 : PAUSE_MAX;
	}
	if (r != 0)
		return r;
	stats_add(l->options.stats, STAT_conn_resumed, 1);
	stats_set(l->options.stats, STAT_conn_since, stats_now());
	log_notice("connected to the server again after %llu ms",
		   (unsigned long long)((stats_now() - since) / 1000000));
	return 0;
}

static void *keeper_main(void *arg)
{
	const struct keeper *k = arg;
	struct link *l = k->link;
	char err[256] = "";

	(void)pthread_mutex_lock(&l->lock);
	for (;;) {
		while (!l->down && !l->stopping)
			(void)pthread_cond_wait(&l->keep, &l->lock);
		if (l->stopping)
			break;
		struct wire *w = TAKE_PTR(l->wire);
		const char *why = l->why;
		(void)pthread_mutex_unlock(&l->lock);
		if (w != NULL)
			wire_end(w);
		wire_free(w);
		int r = reconnect(k, why, err, sizeof(err));
		if (r < 0 && r != -EINTR)
			link_end(l, err);
		(void)pthread_mutex_lock(&l->lock);
		if (r < 0)
			break;
	}
	(void)pthread_mutex_unlock(&l->lock);
	return NULL;
}

static void keeper_end(struct keeper *k)
{
	uint64_t one = 1;

	if (write(k->stop_fd, &one, sizeof(one)) < 0) {
		/* it is readable already */
	}
	(void)pthread_join(k->thread, NULL);
}

static void keeper_free(struct keeper *k)
{
	cleanup_close(&k->stop_fd);
	k->dialler->free(k->dialler);
	free(k);
}

int link_keep(struct backend *b, struct dialler *dialler)
{
	struct link *l = (struct link *)b;
	struct keeper *k = l->resumes ? calloc(1, sizeof(*k)) : NULL;

	if (k == NULL) {
		dialler->free(dialler);
		return l->resumes ? -ENOMEM : 0;
	}
	*k = (struct keeper){.link = l, .dialler = dialler};
	k->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int e = k->stop_fd < 0 ? errno : pthread_create(&k->thread, NULL, keeper_main, k);
	if (e != 0) {
		keeper_free(k);
		return -e;
	}
	SCOPE_LOCK(&l->lock);
	l->keeper_end = keeper_end;
	l->keeper_free = keeper_free;
	l->keeper = k;
	return 0;
}
