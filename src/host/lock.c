#include "host/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>

#include "core/cleanup.h"
#include "host/lock_priv.h"
#include "host/state.h"

/* ---- operations ---- */

static int record(struct locks *t, struct lock_node *ln, struct lock_file *f,
		  const struct lock_request *q)
{
	int r = lock_record(t, f, q);

	lock_file_record(ln, f);
	return r;
}

int lock_set(struct lock_session *s, const struct lock_request *q, const struct lock_wait *wait)
{
	struct locks *t = s->locks;
	bool unlock = q->type == RANGE_NONE;
	int r = 0;

	lock_reap(s, false);
	struct lock_node *ln = lock_node_get(t, q->node, !unlock);
	if (ln == NULL)
		return unlock ? 0 : -ENOLCK;
	{
		SCOPE_LOCK(&ln->mutex);
		struct lock_file *f = lock_file_find(ln, s, q->owner, q->bsd);

		if (f == NULL && !unlock)
			r = lock_file_make(s, ln, q, &f);
		if (r == 0 && !unlock)
			r = s->ranges >= LOCK_RANGES_MAX ? -ENOLCK : lock_file_add_fh(f, q->fh);
		if (r == 0 && f != NULL) {
			r = lock_host(f, q, false);
			if (r == 0)
				r = record(t, ln, f, q);
			else if (r == -EAGAIN && wait != NULL)
				r = lock_start_waiter(s, ln, f, q, wait);
		}
		if (f != NULL)
			lock_settle(t, ln, f);
	}
	if (r != -EINPROGRESS)
		lock_node_put(t, ln);
	return r;
}

static void conflict_of(const struct range *x, bool same_guest, struct lock_conflict *ret)
{
	*ret = (struct lock_conflict){x->type, x->start, x->end, same_guest ? x->pid : 0};
}

int lock_test(struct lock_session *s, const struct lock_request *q, int fd,
	      struct lock_conflict *ret)
{
	struct locks *t = s->locks;
	struct flock fl = lock_to_flock(q);
	struct lock_node *ln = lock_node_get(t, q->node, false);
	bool found = false;
	int r = 0;

	if (ln != NULL) {
		SCOPE_LOCK(&ln->mutex);
		struct lock_file *own = lock_file_find(ln, s, q->owner, false);

		for (struct lock_file *f = ln->files; f != NULL && !found; f = f->next) {
			const struct range *x =
				f == own || f->bsd
					? NULL
					: ranges_conflict(&f->ranges, q->start, q->end, q->type);
			if (x != NULL) {
				conflict_of(x, f->session == s, ret);
				found = true;
			}
		}
		/* Through the owner's own description, because then the owner's locks do not
		 * conflict. */
		if (!found)
			r = fcntl(own != NULL ? own->fd : fd, F_OFD_GETLK, &fl) < 0 ? -errno : 0;
	} else {
		r = fcntl(fd, F_OFD_GETLK, &fl) < 0 ? -errno : 0;
	}
	if (ln != NULL)
		lock_node_put(t, ln);
	if (r < 0 || found)
		return r;
	*ret = (struct lock_conflict){.type = RANGE_NONE};
	if (fl.l_type != F_UNLCK) {
		/* The pid of a process of the host means nothing in the guest. */
		ret->type = fl.l_type == F_RDLCK ? RANGE_READ : RANGE_WRITE;
		ret->start = (uint64_t)fl.l_start;
		ret->end = fl.l_len == 0 ? INT64_MAX : (uint64_t)(fl.l_start + fl.l_len - 1);
	}
	return 0;
}

void lock_release_owner(struct lock_session *s, struct hnode *node, uint64_t owner, bool bsd)
{
	struct locks *t = s->locks;

	if (atomic_load(&s->files) == 0)
		return;
	struct lock_node *ln = lock_node_get(t, node, false);
	if (ln == NULL)
		return;
	for (int kind = 0; kind <= (bsd ? 1 : 0); kind++) {
		SCOPE_LOCK(&ln->mutex);
		struct lock_file *f = lock_file_find(ln, s, owner, kind == 1);

		if (f != NULL)
			lock_file_release(t, ln, f);
	}
	lock_node_put(t, ln);
}

void lock_release_handle(struct lock_session *s, struct hnode *node, uint64_t fh)
{
	struct locks *t = s->locks;

	if (atomic_load(&s->files) == 0)
		return;
	struct lock_node *ln = lock_node_get(t, node, false);
	if (ln == NULL)
		return;
	{
		SCOPE_LOCK(&ln->mutex);
		for (struct lock_file *f = ln->files, *next; f != NULL; f = next) {
			next = f->next;
			if (f->session == s && lock_file_remove_fh(f, fh))
				lock_file_release(t, ln, f);
		}
	}
	lock_node_put(t, ln);
}

/* ---- what outlives the process ---- */

void lock_session_use_record(struct lock_session *s, struct state *state, uint32_t session)
{
	s->state = state;
	s->record = session;
}

int lock_restore(struct lock_session *s, struct hnode *node, uint32_t record)
{
	const struct state_lock *l = state_at(s->state, STATE_LOCKS, record);
	const struct lock_request q = {.node = node,
				       .fh = l->fh,
				       .owner = l->owner,
				       .pid = l->pid,
				       .bsd = l->bsd != 0,
				       .type = l->type == RANGE_WRITE ? RANGE_WRITE : RANGE_READ,
				       .start = l->start,
				       .end = l->end < INT64_MAX ? l->end : INT64_MAX};
	int r = q.start > q.end ? -EINVAL : lock_set(s, &q, NULL);

	state_give(s->state, STATE_LOCKS, record);
	return r;
}

/* ---- sessions and the table ---- */

int lock_session_new(struct locks *t, struct lock_session **ret)
{
	struct lock_session *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return -ENOMEM;
	s->locks = t;
	share_init(&s->fds, &t->fds);
	share_init(&s->waiting, &t->waiting);
	*ret = s;
	return 0;
}

/* A node on which the session has a lock or a waiter, with a reference; NULL if there is none. */
static struct lock_node *next_node(struct lock_session *s)
{
	SCOPE_LOCK(&s->locks->mutex);
	if (s->first == NULL)
		return NULL;
	s->first->node->refs++;
	return s->first->node;
}

bool lock_session_holds(const struct lock_session *s)
{
	return atomic_load(&s->files) > 0;
}

void lock_session_free(struct lock_session *s)
{
	struct lock_node *ln;

	if (s == NULL)
		return;
	{
		SCOPE_LOCK(&s->locks->mutex);
		s->ending = true;
		for (struct waiter *w = s->waiters; w != NULL; w = w->next)
			w->cancelled = true;
		for (struct waiter *w = s->waiters; w != NULL; w = w->next)
			while (!w->left)
				lock_cancel_locked(s->locks, w);
	}
	lock_reap(s, true);
	while (s->files > 0 && (ln = next_node(s)) != NULL) {
		{
			SCOPE_LOCK(&ln->mutex);
			for (struct lock_file *f = ln->files, *next; f != NULL; f = next) {
				next = f->next;
				if (f->session == s)
					lock_file_release(s->locks, ln, f);
			}
		}
		lock_node_put(s->locks, ln);
	}
	free(s);
}

static void no_action(int sig)
{
	(void)sig; /* the handler does nothing: the signal ends the system call */
}

int locks_new(const struct export *e, struct hnodes *nodes, size_t fd_max, struct locks **ret)
{
	struct sigaction sa = {.sa_handler = no_action};
	struct locks *t = calloc(1, sizeof(*t));
	pthread_condattr_t ca;

	if (t == NULL)
		return -ENOMEM;
	if (sigaction(LOCK_SIGNAL, &sa, NULL) < 0) {
		int r = -errno;
		free(t);
		return r;
	}
	t->export = e;
	t->nodes = nodes;
	share_pool_init(&t->fds, fd_max);
	share_pool_init(&t->waiting, LOCK_WAITERS_ALL);
	(void)pthread_mutex_init(&t->mutex, NULL);
	(void)pthread_condattr_init(&ca);
	(void)pthread_condattr_setclock(&ca, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&t->cond, &ca);
	(void)pthread_condattr_destroy(&ca);
	(void)pthread_attr_init(&t->attr);
	(void)pthread_attr_setstacksize(&t->attr, 128 << 10);
	*ret = t;
	return 0;
}

void locks_free(struct locks *t)
{
	if (t == NULL)
		return;
	idmap_done(&t->map);
	(void)pthread_attr_destroy(&t->attr);
	(void)pthread_cond_destroy(&t->cond);
	(void)pthread_mutex_destroy(&t->mutex);
	free(t);
}
