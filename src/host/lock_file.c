/*
 * The nodes that are locked, the open file description that each owner has of a node, and the
 * locks that the host has granted through that description.
 */
#include "host/lock_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>

#include "core/cleanup.h"
#include "host/export.h"
#include "host/hnode.h"
#include "host/state.h"

/* ---- nodes with locks ---- */

struct lock_node *lock_node_get(struct locks *t, struct hnode *node, bool make)
{
	SCOPE_LOCK(&t->mutex);
	uint64_t id = hnode_id(node);
	struct idmap_slot *s = make ? idmap_put(&t->map, id) : idmap_get(&t->map, id);

	if (s == NULL)
		return NULL;
	if (s->value == NULL) {
		struct lock_node *ln = calloc(1, sizeof(*ln));

		if (ln == NULL) {
			idmap_del(&t->map, id);
			return NULL;
		}
		hnode_ref(node);
		ln->node = node;
		ln->guests = -1;
		(void)pthread_mutex_init(&ln->mutex, NULL);
		s->value = ln;
	}
	struct lock_node *ln = s->value;
	ln->refs++;
	return ln;
}

void lock_node_put(struct locks *t, struct lock_node *ln)
{
	{
		SCOPE_LOCK(&t->mutex);
		if (--ln->refs > 0 || ln->files != NULL)
			return;
		idmap_del(&t->map, hnode_id(ln->node));
	}
	hnode_unref(t->nodes, ln->node);
	cleanup_close(&ln->guests);
	(void)pthread_mutex_destroy(&ln->mutex);
	free(ln);
}

/* ---- an owner's open file description ---- */

struct lock_file *lock_file_find(struct lock_node *ln, const struct lock_session *s, uint64_t owner,
				 bool bsd)
{
	struct lock_file *f = ln->files;

	while (f != NULL && (f->session != s || f->owner != owner || f->bsd != bsd))
		f = f->next;
	return f;
}

/*
 * fcntl(2) needs a file open for reading for a shared lock, and for writing for an
 * exclusive one; flock(2) takes any. A program that runs cannot be opened for writing
 * (ETXTBSY), and the mode may allow only one of both: then that one is taken.
 */
static int open_for_locks(struct locks *t, struct hnode *node, bool bsd, int *ret_fd)
{
	static const int posix_modes[] = {O_RDWR, O_RDONLY, O_WRONLY};
	static const int plain_modes[] = {O_RDONLY, O_WRONLY};
	bool read_only = export_read_only(t->export);
	const int *modes = bsd || read_only ? plain_modes : posix_modes;
	size_t n = read_only ? 1 : bsd ? 2 : 3;
	int object;
	int r = hnode_pin_open(t->nodes, node, &object);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		r = export_reopen(t->export, object, modes[i], ret_fd);
		if (r != -EACCES && r != -EPERM && r != -EROFS && r != -ETXTBSY)
			break;
	}
	hnode_unpin(t->nodes, node);
	return r;
}

/*
 * flock(2) takes an exclusive lock also of a file that is open for reading, so a guest
 * of a read-only export could keep the host's programs out. The guests of such an export
 * therefore lock an empty file of their own among themselves, one for each node. The file
 * is opened anew for each owner, because a flock belongs to the open file description.
 */
static int open_guests(struct locks *t, struct lock_node *ln, int *ret_fd)
{
	if (ln->guests < 0)
		ln->guests = memfd_create("vsockfsd-locks", MFD_CLOEXEC);
	if (ln->guests < 0)
		return -errno;
	return export_reopen(t->export, ln->guests, O_RDONLY, ret_fd);
}

/* Counts also the files of open_guests, as if this owner were the only one of its node. */
static size_t fds_of(const struct locks *t, bool bsd)
{
	return bsd && export_read_only(t->export) ? 3 : 1;
}

static void close_file(struct locks *t, struct lock_file *f)
{
	cleanup_close(&f->guests);
	cleanup_close(&f->fd);
	share_give(&f->session->fds, fds_of(t, f->bsd));
	free(f->fhs);
	free(f->records);
	free(f);
}

int lock_file_make(struct lock_session *s, struct lock_node *ln, const struct lock_request *q,
		   struct lock_file **ret)
{
	struct locks *t = s->locks;
	struct lock_file *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return -ENOMEM;
	size_t fds = fds_of(t, q->bsd);

	if (!share_take(&s->fds, fds)) {
		free(f);
		return -ENOLCK;
	}
	f->session = s;
	f->fd = f->guests = -1;
	f->bsd = q->bsd;
	int r = open_for_locks(t, ln->node, q->bsd, &f->fd);
	if (r == 0 && q->bsd && export_read_only(t->export))
		r = open_guests(t, ln, &f->guests);
	if (r < 0) {
		close_file(t, f);
		return r;
	}
	f->owner = q->owner;
	SCOPE_LOCK(&t->mutex);
	f->node = ln;
	f->next = ln->files;
	ln->files = f;
	f->next_own = s->first;
	if (f->next_own != NULL)
		f->next_own->prev_own = f;
	s->first = f;
	s->files++;
	*ret = f;
	return 0;
}

void lock_settle(struct locks *t, struct lock_node *ln, struct lock_file *f)
{
	{
		SCOPE_LOCK(&t->mutex);
		if (f->waiters > 0 || f->ranges.n > 0 || f->bsd_held)
			return;
		struct lock_file **at = &ln->files;

		while (*at != f)
			at = &(*at)->next;
		*at = f->next;
		*(f->prev_own != NULL ? &f->prev_own->next_own : &f->session->first) = f->next_own;
		if (f->next_own != NULL)
			f->next_own->prev_own = f->prev_own;
		f->session->files--;
	}
	close_file(t, f);
}

int lock_file_add_fh(struct lock_file *f, uint64_t fh)
{
	for (size_t i = 0; i < f->n_fhs; i++)
		if (f->fhs[i] == fh)
			return 0;
	uint64_t *p = realloc(f->fhs, (f->n_fhs + 1) * sizeof(*p));
	if (p == NULL)
		return -ENOMEM;
	f->fhs = p;
	f->fhs[f->n_fhs++] = fh;
	return 0;
}

bool lock_file_remove_fh(struct lock_file *f, uint64_t fh)
{
	for (size_t i = 0; i < f->n_fhs; i++) {
		if (f->fhs[i] == fh) {
			f->fhs[i] = f->fhs[--f->n_fhs];
			return f->n_fhs == 0;
		}
	}
	return false;
}

/* ---- the host's locks ---- */

struct flock lock_to_flock(const struct lock_request *q)
{
	return (struct flock){
		.l_type = (short)(q->type == RANGE_READ	   ? F_RDLCK
				  : q->type == RANGE_WRITE ? F_WRLCK
							   : F_UNLCK),
		.l_whence = SEEK_SET,
		.l_start = (off_t)q->start,
		.l_len = q->end == INT64_MAX ? 0 : (off_t)(q->end - q->start + 1),
	};
}

static int flock_host(const struct lock_file *f, enum range_type type, int nonblock)
{
	int op = type == RANGE_READ ? LOCK_SH : type == RANGE_WRITE ? LOCK_EX : LOCK_UN;

	if (f->guests < 0)
		return flock(f->fd, op | nonblock);
	if (flock(f->guests, op | nonblock) < 0)
		return -1;
	/* The host's programs see the exclusive lock of a read-only export's guest as a shared
	 * one. */
	int r = flock(f->fd, (op == LOCK_EX ? LOCK_SH : op) | nonblock);
	if (r < 0) {
		int saved = errno;

		(void)flock(f->guests, LOCK_UN);
		errno = saved;
	}
	return r;
}

int lock_host(const struct lock_file *f, const struct lock_request *q, bool wait)
{
	int r;

	if (f->bsd) {
		r = flock_host(f, q->type, wait ? 0 : LOCK_NB);
	} else {
		struct flock fl = lock_to_flock(q);
		r = fcntl(f->fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &fl);
	}
	if (r >= 0)
		return 0;
	return errno == EACCES ? -EAGAIN : -errno;
}

int lock_record(struct locks *t, struct lock_file *f, const struct lock_request *q)
{
	SCOPE_LOCK(&t->mutex);
	if (f->bsd) {
		f->bsd_held = q->type != RANGE_NONE;
		f->bsd_type = q->type;
		return 0;
	}
	size_t before = f->ranges.n;
	int r = ranges_set(&f->ranges, q->start, q->end, q->type, q->pid);
	f->session->ranges += f->ranges.n - before; /* modulo 2^64: may be negative */
	return r;
}

/* ---- what outlives the process ---- */

static uint32_t record_range(const struct lock_node *ln, const struct lock_file *f,
			     const struct range *r)
{
	const struct lock_session *s = f->session;
	uint32_t n = state_take(s->state, STATE_LOCKS);

	if (n == 0)
		return 0;
	struct state_lock *l = state_at(s->state, STATE_LOCKS, n);
	l->session = s->record;
	l->bsd = f->bsd;
	l->type = (uint32_t)r->type;
	l->node = hnode_id(ln->node);
	l->fh = f->n_fhs > 0 ? f->fhs[0] : 0;
	l->owner = f->owner;
	l->pid = r->pid;
	l->start = r->start;
	l->end = r->end;
	state_keep(s->state, STATE_LOCKS, n);
	return n;
}

/* The new ones first: a lock that is written down twice is taken once. */
void lock_file_record(struct lock_node *ln, struct lock_file *f)
{
	const struct range whole = {.end = INT64_MAX, .type = f->bsd_type};
	size_t n = f->bsd ? f->bsd_held : f->ranges.n, kept = 0;

	if (f->session->record == 0 || state_frozen(f->session->state))
		return;
	uint32_t *records = n > 0 ? calloc(n, sizeof(*records)) : NULL;
	const struct range *r = f->bsd ? &whole : f->ranges.first;
	for (; records != NULL && kept < n && r != NULL; r = r->next)
		if ((records[kept++] = record_range(ln, f, r)) == 0)
			state_miss(f->session->state, f->session->record, STATE_LOCKS_MISSING);
	if (records == NULL && n > 0)
		state_miss(f->session->state, f->session->record, STATE_LOCKS_MISSING);
	for (size_t i = 0; i < f->n_records; i++)
		state_give(f->session->state, STATE_LOCKS, f->records[i]);
	free(f->records);
	f->records = records;
	f->n_records = kept;
}

void lock_file_release(struct locks *t, struct lock_node *ln, struct lock_file *f)
{
	const struct lock_request all = {.type = RANGE_NONE, .end = INT64_MAX};

	(void)lock_host(f, &all, false);
	{
		SCOPE_LOCK(&t->mutex);
		f->generation++;
		f->bsd_held = false;
		f->session->ranges -= f->ranges.n;
		ranges_clear(&f->ranges);
	}
	lock_file_record(ln, f);
	lock_settle(t, ln, f);
}
