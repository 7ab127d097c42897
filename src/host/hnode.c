/* The nodes: by identity, their references, descriptors and names. */
#include "host/hnode_priv.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "host/export.h"
#include "host/state.h"

#define BUCKETS_MIN 64
#define TRIM_AFTER  4096

/* ---- identity ---- */

bool hnode_is(const struct hnode *n, const struct identity *id)
{
	return n->fs == id->fs && n->handle_type == id->type && n->handle_len == id->len &&
	       memcmp(n->handle, id->bytes, id->len) == 0;
}

static void hnode_identity(const struct hnode *n, struct identity *ret)
{
	ret->fs = n->fs;
	ret->type = n->handle_type;
	ret->len = n->handle_len;
	memcpy(ret->bytes, n->handle, n->handle_len);
}

static atomic_uint *filter_of(struct hnodes *t, int32_t type, const void *handle, uint32_t len)
{
	return &t->filter[identity_handle_hash(type, handle, len) % FILTER_SIZE];
}

static struct hnode **bucket_locked(const struct hnodes *t, uint64_t hash)
{
	return &t->buckets[hash & (t->n_buckets - 1)];
}

struct hnode *hnode_find_locked(const struct hnodes *t, const struct identity *id, uint64_t hash)
{
	struct hnode *n = t->n_buckets > 0 ? *bucket_locked(t, hash) : NULL;

	while (n != NULL && (n->hash != hash || !hnode_is(n, id)))
		n = n->chain;
	return n;
}

/* The number of buckets follows that of the nodes; without memory the chains become longer. */
static int resize_locked(struct hnodes *t, size_t n_buckets)
{
	struct hnode **old = t->buckets;
	size_t n_old = t->n_buckets;
	struct hnode **fresh = calloc(n_buckets, sizeof(*fresh));

	if (fresh == NULL)
		return n_old > 0 ? 0 : -ENOMEM;
	t->buckets = fresh;
	t->n_buckets = n_buckets;
	for (size_t i = 0; i < n_old; i++) {
		for (struct hnode *n = old[i], *next; n != NULL; n = next) {
			struct hnode **b = bucket_locked(t, n->hash);

			next = n->chain;
			n->chain = *b;
			*b = n;
		}
	}
	free(old);
	return 0;
}

static int insert_locked(struct hnodes *t, struct hnode *n)
{
	int r = t->count >= t->n_buckets
			? resize_locked(t, t->n_buckets > 0 ? t->n_buckets * 2 : BUCKETS_MIN)
			: 0;

	if (r < 0)
		return r;
	struct hnode **b = bucket_locked(t, n->hash);
	n->chain = *b;
	*b = n;
	t->count++;
	atomic_fetch_add(filter_of(t, n->handle_type, n->handle, n->handle_len), 1);
	return 0;
}

static void remove_locked(struct hnodes *t, struct hnode *n)
{
	struct hnode **at = bucket_locked(t, n->hash);

	while (*at != n)
		at = &(*at)->chain;
	*at = n->chain;
	t->count--;
	atomic_fetch_sub(filter_of(t, n->handle_type, n->handle, n->handle_len), 1);
	if (t->n_buckets > BUCKETS_MIN && t->count * 8 < t->n_buckets)
		(void)resize_locked(t, t->n_buckets / 2);
	idmap_del(&t->parents, n->id);
	state_give(t->state, STATE_NODES, n->record);
	if (n->marked)
		t->unmark(t->unmark_arg, n->fd);
}

/* ---- the list of descriptors that may be closed ---- */

static void list_add_locked(struct hnodes *t, struct hnode *n)
{
	if (n->fd < 0 || n->pins > 0 || n->keep || n->listed)
		return;
	n->listed = true;
	n->newer = NULL;
	n->older = t->newest;
	if (t->newest != NULL)
		t->newest->newer = n;
	t->newest = n;
	if (t->oldest == NULL)
		t->oldest = n;
}

static void list_del_locked(struct hnodes *t, struct hnode *n)
{
	if (!n->listed)
		return;
	n->listed = false;
	*(n->newer != NULL ? &n->newer->older : &t->newest) = n->older;
	*(n->older != NULL ? &n->older->newer : &t->oldest) = n->newer;
	n->newer = n->older = NULL;
}

static int drop_fd_locked(struct hnodes *t, struct hnode *n)
{
	list_del_locked(t, n);
	if (n->fd >= 0)
		t->fds--;
	n->unnamed = false;
	return take_fd(&n->fd);
}

/* The oldest descriptor if there are too many, else -1. The caller closes it without the mutex:
 * closing the last descriptor of an unlinked file frees the file's blocks. */
static int evict_locked(struct hnodes *t)
{
	if (t->fds <= t->fd_max || t->oldest == NULL)
		return -1;
	return drop_fd_locked(t, t->oldest);
}

/* Gives n the descriptor unless n has a good one. Returns a descriptor to be closed, or -1. */
static int set_fd_locked(struct hnodes *t, struct hnode *n, int fd)
{
	if (n->fd >= 0 && n->unnamed && n->pins == 0) {
		int old = n->fd;

		n->fd = fd;
		n->unnamed = false;
		return old;
	}
	if (n->fd >= 0)
		return fd;
	n->fd = fd;
	t->fds++;
	list_add_locked(t, n);
	return evict_locked(t);
}

/* ---- references ---- */

void hnode_ref(struct hnode *n)
{
	atomic_fetch_add(&n->refs, 1);
}

void hnode_unref(struct hnodes *t, struct hnode *n)
{
	if (n == NULL)
		return;
	/* The mutex is not needed as long as this is not the last reference. */
	uint64_t refs = atomic_load(&n->refs);
	while (refs > 1)
		if (atomic_compare_exchange_weak(&n->refs, &refs, refs - 1))
			return;

	CLEANUP_CLOSE int fd = -1;
	bool trim;
	{
		SCOPE_LOCK(&t->mutex);
		/* hnodes_intern takes references under the mutex only */
		if (atomic_fetch_sub(&n->refs, 1) != 1)
			return;
		assert(n->pins == 0 && n->users == NULL);
		remove_locked(t, n);
		fd = drop_fd_locked(t, n);
		t->kept -= n->keep;
		/* the free memory of many nodes is scattered over the heap, which would keep it */
		trim = ++t->freed >= TRIM_AFTER + t->count;
		t->freed = trim ? 0 : t->freed;
	}
	free(n->name);
	free(n);
	if (trim)
		(void)malloc_trim(0);
}

/* True if without its name the node could not be opened again, or its place not be found. */
static bool needs_name(const struct hnodes *t, const struct hnode *n)
{
	return export_confined(t->export) || !filesystems_by_handle(t->fs, n->fs) ||
	       t->catch_up == NULL || !filesystems_watched(t->fs, n->fs);
}

/* ---- what outlives the process ---- */

static void record_place_locked(struct hnodes *t, const struct hnode *n, uint64_t parent)
{
	struct state_node *s = state_at(t->state, STATE_NODES, n->record);
	size_t len = n->name != NULL ? strlen(n->name) : 0;

	s->parent = parent;
	s->name_len = (uint8_t)(len <= STATE_NAME_MAX ? len : 0);
	memcpy(s->name, n->name != NULL ? n->name : "", s->name_len);
}

void hnodes_use_state(struct hnodes *t, struct state *state)
{
	t->state = state;
	if (state == NULL)
		return;
	t->last_id = t->first_version = STATE_NUMBERS(state_generation(state));
}

void hnode_told(struct hnodes *t, struct hnode *n, uint32_t session)
{
	if (session == 0 || n->handle_len > STATE_HANDLE_MAX || state_frozen(t->state))
		return;
	SCOPE_LOCK(&t->mutex);
	bool fresh = n->record == 0;
	if (fresh)
		n->record = state_take(t->state, STATE_NODES);
	if (n->record == 0)
		return;
	struct state_node *s = state_at(t->state, STATE_NODES, n->record);
	s->sessions |= UINT64_C(1) << (session - 1);
	if (!fresh)
		return;
	s->id = n->id;
	s->device = filesystems_fsid(t->fs, n->fs);
	s->handle_type = n->handle_type;
	s->handle_len = (uint8_t)n->handle_len;
	memcpy(s->handle, n->handle, n->handle_len);
	record_place_locked(t, n, n->parent);
	state_keep(t->state, STATE_NODES, n->record);
}

void hnode_untold(struct hnodes *t, struct hnode *n, uint32_t session)
{
	if (session == 0 || state_frozen(t->state))
		return;
	SCOPE_LOCK(&t->mutex);
	if (n->record == 0)
		return;
	struct state_node *s = state_at(t->state, STATE_NODES, n->record);
	s->sessions &= ~(UINT64_C(1) << (session - 1));
	if (s->sessions != 0)
		return;
	state_give(t->state, STATE_NODES, n->record);
	n->record = 0;
}

/* seen: the number of renames before the look-up; one that came later may have moved this node. */
void hnode_name_locked(struct hnodes *t, struct hnode *n, struct hnode *parent, const char *name,
		       uint64_t seen)
{
	if (parent == NULL || name == NULL)
		return;
	if (n->outside) /* it is inside again */
		t->moves++;
	n->outside = false;
	n->linked = seen == t->seen;
	n->epoch = t->lost;
	if (!n->linked)
		n->checked = 0;
	if (needs_name(t, n) && (n->name == NULL || strcmp(n->name, name) != 0)) {
		char *copy = strdup(name);

		if (copy == NULL)
			return; /* at the worst the node is not found again, later */
		free(n->name);
		n->name = copy;
	}
	if (n->record != 0)
		record_place_locked(t, n, parent->id);
	if (n->parent == parent->id)
		return;
	struct idmap_slot *s = idmap_put(&t->parents, parent->id);
	if (s != NULL)
		s->value = parent;
	n->parent = parent->id;
}

static struct hnode *hnode_new(const struct hnodes *t, const struct identity *id, uint64_t hash)
{
	struct hnode *n = malloc(sizeof(*n) + id->len);

	if (n == NULL)
		return NULL;
	*n = (struct hnode){
		.hash = hash,
		.version = t->first_version,
		.refs = 1,
		.fd = -1,
		.fs = id->fs,
		.handle_type = id->type,
		.handle_len = id->len,
	};
	memcpy(n->handle, id->bytes, id->len);
	return n;
}

uint64_t hnodes_seen(const struct hnodes *t)
{
	return t->seen;
}

int hnodes_intern(struct hnodes *t, int fd, struct hnode *parent, const char *name, uint64_t seen,
		  struct hnode **ret)
{
	struct identity id;
	struct hnode *n;
	int r = filesystems_identify(t->fs, fd, &id);

	if (r < 0)
		return r;
	uint64_t hash = identity_hash(&id, t->seed);
	{
		SCOPE_LOCK(&t->mutex);
		n = hnode_find_locked(t, &id, hash);
		if (n != NULL) {
			hnode_ref(n);
			hnode_name_locked(t, n, parent, name, seen);
			*ret = n;
			return 0;
		}
	}
	struct hnode *fresh = hnode_new(t, &id, hash);
	if (fresh == NULL)
		return -ENOMEM;
	{
		SCOPE_LOCK(&t->mutex);
		n = hnode_find_locked(t, &id, hash);
		if (n != NULL) { /* another thread was quicker */
			hnode_ref(n);
		} else {
			r = insert_locked(t, fresh);
			if (r == 0) {
				fresh->id = ++t->last_id;
				n = TAKE_PTR(fresh);
			}
		}
		if (r == 0)
			hnode_name_locked(t, n, parent, name, seen);
	}
	free(fresh);
	if (r == 0)
		*ret = n;
	return r;
}

int hnodes_restore(struct hnodes *t, uint32_t record, int like, struct hnode **ret)
{
	const struct state_node *s = state_at(t->state, STATE_NODES, record);
	struct identity id;
	int r = filesystems_identify(t->fs, like, &id);

	if (r < 0)
		return r;
	if (filesystems_fsid(t->fs, id.fs) != s->device || s->handle_len > STATE_HANDLE_MAX)
		return -ESTALE;
	id.type = s->handle_type;
	id.len = s->handle_len;
	memcpy(id.bytes, s->handle, s->handle_len);
	uint64_t hash = identity_hash(&id, t->seed);
	struct hnode *n = hnode_new(t, &id, hash);
	if (n == NULL)
		return -ENOMEM;
	SCOPE_LOCK(&t->mutex);
	r = hnode_find_locked(t, &id, hash) != NULL ? -EEXIST : insert_locked(t, n);
	if (r < 0) {
		free(n);
		return r;
	}
	n->id = s->id;
	n->record = record;
	*ret = n;
	return 0;
}

void hnode_restore_place(struct hnodes *t, struct hnode *n, struct hnode *parent)
{
	const struct state_node *s = state_at(t->state, STATE_NODES, n->record);
	char name[STATE_NAME_MAX + 1];

	if (s->name_len == 0 || s->name_len > STATE_NAME_MAX)
		return;
	memcpy(name, s->name, s->name_len);
	name[s->name_len] = '\0';
	if (name[0] == '\0' || strchr(name, '/') != NULL || strcmp(name, ".") == 0 ||
	    strcmp(name, "..") == 0)
		return;
	SCOPE_LOCK(&t->mutex);
	hnode_name_locked(t, n, parent, name, t->seen - 1); /* it may have been moved since */
}

int hnodes_find(struct hnodes *t, int fd, struct hnode **ret)
{
	struct identity id;
	int r = filesystems_identify(t->fs, fd, &id);

	if (r < 0)
		return r;
	SCOPE_LOCK(&t->mutex);
	struct hnode *n = hnode_find_locked(t, &id, identity_hash(&id, t->seed));
	if (n == NULL)
		return -ENOENT;
	hnode_ref(n);
	*ret = n;
	return 0;
}

struct hnode *hnodes_find_event(struct hnodes *t, const void *fsid, int32_t handle_type,
				const void *handle, uint32_t handle_len, uint32_t *at)
{
	struct identity id = {.type = handle_type, .len = handle_len};

	if (handle_len > sizeof(id.bytes) ||
	    atomic_load(filter_of(t, handle_type, handle, handle_len)) == 0)
		return NULL;
	memcpy(id.bytes, handle, handle_len);
	while (filesystems_next(t->fs, fsid, at, &id.fs)) {
		SCOPE_LOCK(&t->mutex);
		struct hnode *n = hnode_find_locked(t, &id, identity_hash(&id, t->seed));

		if (n != NULL) {
			hnode_ref(n);
			return n;
		}
	}
	return NULL;
}

uint64_t hnode_id(const struct hnode *n)
{
	return n->id;
}

uint64_t hnode_version(struct hnode *n)
{
	return atomic_fetch_add(&n->version, 1) + 1;
}

bool hnode_flush(struct hnodes *t, const struct hnode *n)
{
	return filesystems_flush(t->fs, n->fs);
}

bool hnode_watchable(const struct hnodes *t, const struct hnode *n)
{
	return filesystems_watchable(t->fs, n->fs);
}

bool hnode_watched(const struct hnodes *t, const struct hnode *n)
{
	return filesystems_watched(t->fs, n->fs);
}

bool hnode_unnamed(struct hnodes *t, const struct hnode *n)
{
	SCOPE_LOCK(&t->mutex);
	return n->unnamed;
}

bool hnode_by_handle(struct hnodes *t, const struct hnode *n)
{
	return filesystems_by_handle(t->fs, n->fs);
}

/* ---- marks ---- */

struct hnode *hnode_parent_locked(const struct hnodes *t, const struct hnode *n)
{
	struct idmap_slot *s = n->parent != 0 ? idmap_get(&t->parents, n->parent) : NULL;

	return s != NULL ? s->value : NULL;
}

bool hnode_covered(struct hnodes *t, const struct hnode *n)
{
	SCOPE_LOCK(&t->mutex);
	if (n->marked || !n->by_parent)
		return n->marked;
	const struct hnode *parent = hnode_parent_locked(t, n);
	return parent != NULL && parent->marked;
}

int hnode_marked(struct hnodes *t, struct hnode *n, int object)
{
	CLEANUP_CLOSE int fd = -1;
	int r = export_reopen(t->export, object, O_PATH, &fd);

	if (r < 0)
		return r;
	SCOPE_LOCK(&t->mutex);
	if (n->marked)
		return 1;
	if (!n->keep)
		t->kept++;
	n->keep = n->marked = true;
	list_del_locked(t, n);
	fd = set_fd_locked(t, n, take_fd(&fd));
	return 0;
}

void hnodes_on_unmark(struct hnodes *t, void (*unmark)(void *arg, int fd), void *arg)
{
	t->unmark = unmark;
	t->unmark_arg = arg;
}

void hnode_cover_by_parent(struct hnodes *t, struct hnode *n, bool alone)
{
	SCOPE_LOCK(&t->mutex);
	n->by_parent = alone;
}

/* ---- descriptors ---- */

static int open_by_handle(struct hnodes *t, const struct hnode *n, int *ret_fd)
{
	struct identity id;

	hnode_identity(n, &id);
	return filesystems_open(t->fs, &id, ret_fd);
}

/* The root has no parent: it is opened from the export's own descriptor. */
static int open_root(struct hnodes *t, const struct hnode *n, int *ret_fd)
{
	struct identity id;
	int r = filesystems_identify(t->fs, export_root(t->export), &id);

	if (r < 0)
		return r;
	return hnode_is(n, &id) ? export_reopen(t->export, export_root(t->export), O_PATH, ret_fd)
				: -ESTALE;
}

/* The directory, with a reference, and the name where the node was seen last; or NULL. */
struct hnode *hnode_last_seen(struct hnodes *t, const struct hnode *n, char name[NAME_MAX + 1])
{
	SCOPE_LOCK(&t->mutex);
	struct hnode *parent = n->name != NULL ? hnode_parent_locked(t, n) : NULL;

	if (parent != NULL) {
		hnode_ref(parent);
		memcpy(name, n->name, strlen(n->name) + 1);
	}
	return parent;
}

static int open_by_name(struct hnodes *t, struct hnode *n, unsigned depth, int *ret_fd)
{
	char name[NAME_MAX + 1];
	CLEANUP_CLOSE int fd = -1;
	struct identity id;
	int parent_fd = -1;

	if (depth == DEPTH_MAX)
		return -ESTALE; /* the remembered parents go in a circle */
	struct hnode *parent = hnode_last_seen(t, n, name);
	if (parent == NULL)
		return open_root(t, n, ret_fd);
	int r = hnode_pin_depth(t, parent, depth + 1, &parent_fd);
	if (r == 0) {
		r = export_open(t->export, parent_fd, name, O_PATH, 0, &fd);
		hnode_unpin(t, parent);
	}
	hnode_unref(t, parent);
	if (r == 0)
		r = filesystems_identify(t->fs, fd, &id);
	if (r == 0 && !hnode_is(n, &id))
		r = -ESTALE;
	if (r < 0)
		return r == -ENOENT || r == -ENOTDIR ? -ESTALE : r;
	*ret_fd = take_fd(&fd);
	return 0;
}

static bool pin_open_locked(struct hnodes *t, struct hnode *n, int *ret_fd)
{
	if (n->fd < 0)
		return false;
	list_del_locked(t, n);
	n->pins++;
	*ret_fd = n->fd;
	return true;
}

/*
 * A file that is found by its handle while the kernel has no name of it in memory has no place in
 * the tree, and a server that Landlock confines may not open it (is_access_to_paths_allowed): so it
 * is looked for by its name first. Its ancestors, depth > 0, always have a place
 * (exportfs_decode_fh). *ret_unnamed: it had no name that is true.
 */
static int open_again(struct hnodes *t, struct hnode *n, unsigned depth, int *ret_fd,
		      bool *ret_unnamed)
{
	bool by_name = depth == 0 && export_confined(t->export);
	int r = by_name ? open_by_name(t, n, depth, ret_fd) : -ESTALE;

	if (r == 0)
		return 0;
	r = open_by_handle(t, n, ret_fd);
	if (r == -EOPNOTSUPP)
		return open_by_name(t, n, depth, ret_fd);
	*ret_unnamed = by_name;
	return r;
}

int hnode_pin_depth(struct hnodes *t, struct hnode *n, unsigned depth, int *ret_fd)
{
	bool unnamed = false;
	int fd = -1, r = -ESTALE;

	{
		SCOPE_LOCK(&t->mutex);
		if (pin_open_locked(t, n, ret_fd))
			return 0;
		/* The mutex keeps the open file open meanwhile. Opening through /proc does not
		 * wait. */
		if (n->users != NULL)
			r = export_reopen(t->export, n->users->fd, O_PATH, &fd);
	}
	if (r < 0 && r != -EMFILE && r != -ENFILE)
		r = open_again(t, n, depth, &fd, &unnamed);
	if (r < 0)
		return r;

	CLEANUP_CLOSE int spare = -1;
	SCOPE_LOCK(&t->mutex);
	if (n->fd < 0) {
		n->fd = fd;
		n->unnamed = unnamed;
		t->fds++;
	} else {
		spare = fd; /* another thread was quicker */
	}
	(void)pin_open_locked(t, n, ret_fd);
	if (spare < 0)
		spare = evict_locked(t);
	return 0;
}

int hnodes_find_at(struct hnodes *t, struct hnode *dir, int dirfd, const char *name,
		   struct hnode **ret, int *ret_fd)
{
	struct identity id;
	uint64_t seen = t->seen;
	int r = filesystems_identify_at(t->fs, dirfd, name, &id);

	if (r < 0)
		return r == -ENOENT ? r : -EAGAIN;
	SCOPE_LOCK(&t->mutex);
	struct hnode *n = hnode_find_locked(t, &id, identity_hash(&id, t->seed));
	if (n == NULL || n->unnamed || !pin_open_locked(t, n, ret_fd))
		return -EAGAIN;
	hnode_ref(n);
	hnode_name_locked(t, n, dir, name, seen);
	*ret = n;
	return 0;
}

void hnode_unpin(struct hnodes *t, struct hnode *n)
{
	CLEANUP_CLOSE int spare = -1;

	SCOPE_LOCK(&t->mutex);
	n->pins--;
	list_add_locked(t, n);
	spare = evict_locked(t);
}

void hnode_offer(struct hnodes *t, struct hnode *n, int fd)
{
	CLEANUP_CLOSE int spare = -1;

	SCOPE_LOCK(&t->mutex);
	spare = set_fd_locked(t, n, fd);
}

void hnode_keep(struct hnodes *t, struct hnode *n, int fd)
{
	CLEANUP_CLOSE int spare = -1;

	SCOPE_LOCK(&t->mutex);
	if (!n->keep && t->kept < t->fd_max / 2) {
		/* beyond the limit, fstat of an unlinked file may return ESTALE */
		n->keep = true;
		t->kept++;
		list_del_locked(t, n);
	}
	spare = set_fd_locked(t, n, fd);
}

void hnode_attach(struct hnodes *t, struct hnode *n, struct hnode_user *u)
{
	SCOPE_LOCK(&t->mutex);
	u->prev = NULL;
	u->next = n->users;
	if (u->next != NULL)
		u->next->prev = u;
	n->users = u;
}

void hnode_detach(struct hnodes *t, struct hnode *n, struct hnode_user *u)
{
	SCOPE_LOCK(&t->mutex);
	*(u->prev != NULL ? &u->prev->next : &n->users) = u->next;
	if (u->next != NULL)
		u->next->prev = u->prev;
}

/* ---- the table ---- */

int hnodes_new(const struct export *e, size_t fd_max, struct hnodes **ret)
{
	struct hnodes *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return -ENOMEM;
	t->export = e;
	t->fs = export_filesystems(e);
	t->fd_max = fd_max;
	t->moves = 1;
	(void)pthread_mutex_init(&t->mutex, NULL);
	if (getrandom(&t->seed, sizeof(t->seed), 0) < 0) {
		/* the seed only makes it harder to cause collisions */
	}
	*ret = t;
	return 0;
}

void hnodes_free(struct hnodes *t)
{
	if (t == NULL)
		return;
	assert(t->count == 0);
	free(t->buckets);
	idmap_done(&t->parents);
	(void)pthread_mutex_destroy(&t->mutex);
	free(t);
}

size_t hnodes_count(struct hnodes *t)
{
	SCOPE_LOCK(&t->mutex);
	return t->count;
}

size_t hnodes_open(struct hnodes *t)
{
	SCOPE_LOCK(&t->mutex);
	return t->fds;
}
