#include "host/handle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "host/export.h"
#include "host/state.h"

#define GRANT_MAX 16384 /* open files that one client may keep for later */

/*
 * A share is half of everything at most. Of that half the session gets seven eighths of what the
 * sessions before it have left: one client alone keeps nearly as much as it may have, and for the
 * next one there is always some.
 */
static size_t take_grant(struct handle_pool *p)
{
	size_t before = atomic_load(&p->granted), all = p->pool.max / 2, mine;

	do {
		size_t rest = all > before ? all - before : 0;

		mine = rest - rest / 8;
		if (mine > GRANT_MAX)
			mine = GRANT_MAX;
	} while (!atomic_compare_exchange_weak(&p->granted, &before, before + mine));
	return mine;
}

size_t handles_granted(const struct handles *t)
{
	return t->granted;
}

void handles_init(struct handles *t, struct hnodes *nodes, struct handle_pool *pool, bool keeps)
{
	*t = (struct handles){
		.nodes = nodes, .pool = pool, .granted = keeps ? take_grant(pool) : 0};
	share_init(&t->share, &pool->pool);
	(void)pthread_mutex_init(&t->mutex, NULL);
}

void handles_done(struct handles *t)
{
	struct idmap_slot *s = NULL;

	while ((s = idmap_next(&t->map, s)) != NULL) {
		state_give(t->state, STATE_FILES, ((const struct handle *)s->value)->record);
		handle_put(t, s->value);
	}
	idmap_done(&t->map);
	atomic_fetch_sub(&t->pool->granted, t->granted);
	(void)pthread_mutex_destroy(&t->mutex);
}

bool handles_room(const struct handles *t)
{
	return share_room(&t->share);
}

static void keep_record(const struct handles *t, uint32_t record, uint64_t fh)
{
	if (record == 0)
		return;
	struct state_file *f = state_at(t->state, STATE_FILES, record);
	f->fh = fh;
	state_keep(t->state, STATE_FILES, record);
}

/* Takes over fd, also on failure. */
static int add(struct handles *t, struct hnode *n, int fd, const struct state_file *like,
	       uint32_t record, uint64_t *ret_fh)
{
	CLEANUP_CLOSE int owned = fd;

	if (!share_take(&t->share, 1))
		return -ENFILE;
	struct handle *h = calloc(1, sizeof(*h));
	if (h != NULL) {
		SCOPE_LOCK(&t->mutex);
		uint64_t fh = like->fh != 0 ? like->fh : t->last + 1;
		struct idmap_slot *s = idmap_put(&t->map, fh);

		if (s != NULL && s->value == NULL) {
			hnode_ref(n);
			h->node = n;
			h->user.fd = h->fd = take_fd(&owned);
			h->flags = (int)like->flags;
			h->eager = like->eager != 0;
			h->append = (fcntl(h->fd, F_GETFL) & O_APPEND) != 0;
			h->record = record;
			h->refs = 1;
			(void)pthread_mutex_init(&h->position, NULL);
			(void)pthread_mutex_init(&h->writable, NULL);
			hnode_attach(t->nodes, n, &h->user);
			s->value = h;
			keep_record(t, record, fh); /* before a CLOSE can come */
			if (fh > t->last)
				t->last = fh;
			*ret_fh = fh;
			return 0;
		}
	}
	free(h);
	share_give(&t->share, 1);
	return -ENOMEM;
}

static uint32_t record_file(struct handles *t, const struct hnode *n, const struct state_file *like)
{
	uint32_t record = t->session != 0 ? state_take(t->state, STATE_FILES) : 0;

	if (record == 0)
		return 0;
	struct state_file *f = state_at(t->state, STATE_FILES, record);
	*f = *like;
	f->session = t->session;
	f->node = hnode_id(n);
	return record;
}

int handle_add(struct handles *t, struct hnode *n, int fd, int flags, bool eager, uint64_t *ret_fh)
{
	const struct state_file like = {.flags = (uint32_t)flags, .eager = eager};
	uint32_t record = record_file(t, n, &like);
	int r = add(t, n, fd, &like, record, ret_fh);

	if (r < 0)
		state_give(t->state, STATE_FILES, record);
	return r;
}

int handle_restore(struct handles *t, struct hnode *n, int fd, uint32_t record)
{
	uint64_t fh;

	return add(t, n, fd, state_at(t->state, STATE_FILES, record), record, &fh);
}

int handle_reopen(const struct export *e, int object, int flags, int *ret_fd)
{
	struct stat st;

	if (fstat(object, &st) < 0)
		return -errno;
	int r = export_openable(st.st_mode);
	if (r < 0)
		return r;
	r = export_reopen(e, object, flags, ret_fd);
	if (r == -EPERM && (flags & O_NOATIME))
		r = export_reopen(e, object, flags & ~O_NOATIME, ret_fd);
	if (r == -EPERM) /* an append-only file */
		r = export_reopen(e, object, (flags & ~O_NOATIME) | O_APPEND, ret_fd);
	return r;
}

/* A description of its own: the copies do not share an offset. */
int handle_copy(struct handles *t, const struct export *e, const struct handle *from, uint64_t fh)
{
	const struct state_file like = {
		.fh = fh, .flags = (uint32_t)from->flags, .eager = from->eager};
	int fd;
	int r = handle_reopen(e, from->fd, from->flags, &fd);

	if (r < 0)
		return r;
	uint32_t record = record_file(t, from->node, &like);
	r = add(t, from->node, fd, &like, record, &fh);
	if (r < 0)
		state_give(t->state, STATE_FILES, record);
	return r;
}

void handles_use_record(struct handles *t, struct state *state, uint32_t session)
{
	t->state = state;
	t->session = session;
	if (session != 0)
		t->last = STATE_NUMBERS(state_generation(state));
}

struct handle *handle_get(struct handles *t, uint64_t fh)
{
	SCOPE_LOCK(&t->mutex);
	struct idmap_slot *s = fh != 0 ? idmap_get(&t->map, fh) : NULL;
	struct handle *h = s != NULL ? s->value : NULL;

	if (h != NULL)
		atomic_fetch_add(&h->refs, 1);
	return h;
}

void handle_put(struct handles *t, struct handle *h)
{
	if (h == NULL || atomic_fetch_sub(&h->refs, 1) != 1)
		return;
	hnode_detach(t->nodes, h->node, &h->user);
	(void)close(h->fd); /* FLUSH has already reported the errors that close(2) could report */
	hnode_unref(t->nodes, h->node);
	(void)pthread_mutex_destroy(&h->position);
	(void)pthread_mutex_destroy(&h->writable);
	free(h);
	share_give(&t->share, 1);
}

struct handle *handle_remove(struct handles *t, uint64_t fh)
{
	SCOPE_LOCK(&t->mutex);
	struct idmap_slot *s = fh != 0 ? idmap_get(&t->map, fh) : NULL;

	if (s == NULL)
		return NULL;
	struct handle *h = s->value;
	idmap_del(&t->map, fh);
	state_give(t->state, STATE_FILES, h->record);
	return h;
}

/* ---- after a connection was lost ---- */

void handles_unlist(struct handles *t)
{
	struct idmap_slot *s = NULL;

	SCOPE_LOCK(&t->mutex);
	while ((s = idmap_next(&t->map, s)) != NULL)
		((struct handle *)s->value)->listed = false;
}

void handle_list(struct handles *t, uint64_t fh)
{
	SCOPE_LOCK(&t->mutex);
	struct idmap_slot *s = fh != 0 ? idmap_get(&t->map, fh) : NULL;

	if (s != NULL)
		((struct handle *)s->value)->listed = true;
}

size_t handles_unlisted(struct handles *t, uint64_t *fhs, size_t max)
{
	struct idmap_slot *s = NULL;
	size_t n = 0;

	SCOPE_LOCK(&t->mutex);
	while (n < max && (s = idmap_next(&t->map, s)) != NULL)
		if (!((const struct handle *)s->value)->listed)
			fhs[n++] = s->key;
	return n;
}

/* ---- what the host may execute ---- */

#define SAME_NODE_MAX 64 /* handles of one node that are looked at together */

/* Opens the file anew and keeps the number of the descriptor, which other threads may be using. */
static int exchange_locked(const struct export *e, struct handle *h, int flags)
{
	CLEANUP_CLOSE int fd = -1;
	int r = export_reopen(e, h->fd, flags | (h->append ? O_APPEND : 0), &fd);

	return r < 0 ? r : dup3(fd, h->fd, O_CLOEXEC) < 0 ? -errno : 0;
}

static bool may_be_executed(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (st.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH)) != 0;
}

static int take_back_locked(const struct export *e, struct handle *h)
{
	int r = h->given_up ? exchange_locked(e, h, h->flags) : 0;

	if (r == 0)
		h->given_up = false;
	return r;
}

static void give_up_locked(const struct export *e, struct handle *h)
{
	int flags = (h->flags & O_NOATIME) | O_RDONLY;

	if ((h->flags & O_ACCMODE) != O_RDONLY && !h->given_up && h->writers == 0 &&
	    may_be_executed(h->fd) && export_may_write(e, h->fd))
		h->given_up = exchange_locked(e, h, flags) == 0;
}

int handle_write_begin(const struct export *e, struct handle *h)
{
	SCOPE_LOCK(&h->writable);
	int r = take_back_locked(e, h);

	if (r == 0)
		h->writers++;
	return r;
}

void handle_write_end(const struct export *e, struct handle *h)
{
	SCOPE_LOCK(&h->writable);
	h->writers--;
	if (h->eager)
		give_up_locked(e, h);
}

void handle_give_up(const struct export *e, struct handle *h)
{
	SCOPE_LOCK(&h->writable);
	give_up_locked(e, h);
}

/* References to the node's handles; those beyond SAME_NODE_MAX are not exchanged. */
static size_t handles_of(struct handles *t, const struct hnode *n, struct handle **ret)
{
	struct idmap_slot *s = NULL;
	size_t count = 0;

	SCOPE_LOCK(&t->mutex);
	while (count < SAME_NODE_MAX && (s = idmap_next(&t->map, s)) != NULL) {
		struct handle *h = s->value;

		if (h->node != n || (h->flags & O_ACCMODE) == O_RDONLY)
			continue;
		atomic_fetch_add(&h->refs, 1);
		ret[count++] = h;
	}
	return count;
}

void handles_give_up(struct handles *t, const struct export *e, const struct hnode *n)
{
	struct handle *h[SAME_NODE_MAX];
	size_t count = handles_of(t, n, h);

	while (count-- > 0) {
		handle_give_up(e, h[count]);
		handle_put(t, h[count]);
	}
}

void handles_take_back(struct handles *t, const struct export *e, const struct hnode *n)
{
	struct handle *h[SAME_NODE_MAX];
	size_t count = handles_of(t, n, h);

	while (count-- > 0) {
		(void)pthread_mutex_lock(&h[count]->writable);
		(void)take_back_locked(e, h[count]);
		(void)pthread_mutex_unlock(&h[count]->writable);
		handle_put(t, h[count]);
	}
}
