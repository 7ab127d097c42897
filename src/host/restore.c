#include "host/restore.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "host/export.h"
#include "host/hnode.h"
#include "host/lock.h"
#include "host/promise.h"
#include "host/session.h"
#include "host/sessions.h"
#include "host/slots.h"
#include "host/state.h"

#define FILE_FLAGS                                                                                 \
	(O_ACCMODE | O_SYNC | O_DSYNC | O_NOATIME) /* that op_OPEN has of the guest's              \
						    */

struct restoring {
	struct host *host;
	struct session *sessions[STATE_SESSIONS_MAX + 1]; /* by record; a reference each */
	struct idmap nodes;				  /* by id; a reference each */
	unsigned n_sessions, n_nodes, n_files, n_locks, n_lost;
};

static struct session *session_of(const struct restoring *r, uint32_t record)
{
	return record <= STATE_SESSIONS_MAX ? r->sessions[record] : NULL;
}

static struct hnode *node_of(const struct restoring *r, uint64_t id)
{
	struct idmap_slot *slot = id != 0 ? idmap_get(&r->nodes, id) : NULL;

	return slot != NULL ? slot->value : NULL;
}

/* Numbers that are given from now on are greater. */
static bool was_given(const struct restoring *r, uint64_t number)
{
	return number <= STATE_NUMBERS(state_generation(r->host->state));
}

/* One that is not there again is gone: without all that it had it could not go on. */
static void restore_session(struct restoring *r, uint32_t record)
{
	struct host *h = r->host;
	const struct state_session *from = state_at(h->state, STATE_SESSIONS, record);
	struct session *s = NULL;

	if ((from->incomplete & STATE_SLOTS_MISSING) != 0 || record > STATE_SESSIONS_MAX ||
	    session_new(h, from->id, from->features, &s) < 0 || !session_resumes(s) ||
	    sessions_restore(h->sessions, s, record) < 0) {
		session_unref(s);
		state_give(h->state, STATE_SESSIONS, record);
		return;
	}
	if ((from->incomplete & STATE_LOCKS_MISSING) != 0)
		session_lost_locks(s);
	r->sessions[record] = s;
	r->n_sessions++;
}

/* The sessions that were told of it have it again. */
static void restore_node(struct restoring *r, uint32_t record)
{
	struct hnodes *nodes = r->host->nodes;
	const struct state_node *from = state_at(r->host->state, STATE_NODES, record);
	uint64_t sessions = from->sessions;
	struct stamp stamp = {0};
	struct hnode *n;

	if (node_of(r, from->id) != NULL || from->id == 0 || !was_given(r, from->id) ||
	    hnodes_restore(nodes, record, export_root(r->host->export), &n) < 0) {
		state_give(r->host->state, STATE_NODES, record);
		return;
	}
	struct idmap_slot *slot = idmap_put(&r->nodes, hnode_id(n));
	if (slot == NULL) {
		hnode_unref(nodes, n);
		return;
	}
	slot->value = n;
	r->n_nodes++;
	for (uint32_t i = 1; i <= STATE_SESSIONS_MAX; i++) {
		if ((sessions >> (i - 1) & 1) == 0)
			continue;
		if (r->sessions[i] == NULL ||
		    promise_tell(session_promises(r->sessions[i]), n, 0, &stamp) < 0)
			hnode_untold(nodes, n, i);
	}
}

static void restore_places(struct restoring *r)
{
	uint32_t record = 0;

	while ((record = state_next(r->host->state, STATE_NODES, record)) != 0) {
		const struct state_node *from = state_at(r->host->state, STATE_NODES, record);
		struct hnode *n = node_of(r, from->id), *parent = node_of(r, from->parent);

		if (n != NULL && parent != NULL && parent != n)
			hnode_restore_place(r->host->nodes, n, parent);
	}
}

static int reopen(const struct restoring *r, struct hnode *n, uint32_t flags, int *ret_fd)
{
	int object, e = hnode_pin(r->host->nodes, n, &object);

	if (e < 0)
		return e;
	e = handle_reopen(r->host->export, object, ((int)flags & FILE_FLAGS) | O_CLOEXEC | O_NOCTTY,
			  ret_fd);
	hnode_unpin(r->host->nodes, n);
	return e;
}

static void restore_file(struct restoring *r, uint32_t record)
{
	struct state *state = r->host->state;
	const struct state_file *from = state_at(state, STATE_FILES, record);
	struct session *s = session_of(r, from->session);
	struct hnode *n = node_of(r, from->node);
	int fd;

	if (s != NULL && n != NULL && was_given(r, from->fh) &&
	    reopen(r, n, from->flags, &fd) == 0 &&
	    handle_restore(session_handles(s), n, fd, record) == 0) {
		r->n_files++;
		return;
	}
	r->n_lost++;
	state_give(state, STATE_FILES, record);
}

/* Records that are written meanwhile are those of locks that are there again. */
static void restore_locks(struct restoring *r)
{
	struct state *state = r->host->state;
	size_t n = 0;
	uint32_t record = 0;
	CLEANUP_FREE uint32_t *all = NULL;

	while ((record = state_next(state, STATE_LOCKS, record)) != 0)
		n++;
	all = n > 0 ? calloc(n, sizeof(*all)) : NULL;
	for (size_t i = 0; all != NULL && i < n; i++)
		all[i] = record = state_next(state, STATE_LOCKS, record);
	for (size_t i = 0; all != NULL && i < n && all[i] != 0; i++) {
		const struct state_lock *from = state_at(state, STATE_LOCKS, all[i]);
		struct session *s = session_of(r, from->session);
		struct hnode *node = node_of(r, from->node);

		if (s == NULL) {
			state_give(state, STATE_LOCKS, all[i]);
		} else if (node == NULL || lock_restore(session_locks(s), node, all[i]) < 0) {
			session_lost_locks(s);
			r->n_lost++;
		} else {
			r->n_locks++;
		}
	}
}

static void restore_slot(struct restoring *r, uint32_t record)
{
	struct state *state = r->host->state;
	const struct state_slot *from = state_at(state, STATE_SLOTS, record);
	struct session *s = session_of(r, from->session);

	if (s == NULL || !slots_restore(session_slots(s), record))
		state_give(state, STATE_SLOTS, record);
}

static void for_each(struct restoring *r, enum state_table t,
		     void (*restore)(struct restoring *r, uint32_t record))
{
	uint32_t record = 0;

	while ((record = state_next(r->host->state, t, record)) != 0)
		restore(r, record);
}

int restore_sessions(struct host *h)
{
	struct restoring r = {.host = h};
	struct idmap_slot *slot = NULL;
	int e = 0;

	for_each(&r, STATE_SESSIONS, restore_session);
	for_each(&r, STATE_NODES, restore_node);
	restore_places(&r);
	for_each(&r, STATE_FILES, restore_file);
	restore_locks(&r);
	for_each(&r, STATE_SLOTS, restore_slot);
	for (uint32_t i = 1; i <= STATE_SESSIONS_MAX; i++) {
		if (r.sessions[i] != NULL && e == 0)
			e = session_push(r.sessions[i]);
		session_unref(r.sessions[i]);
	}
	while ((slot = idmap_next(&r.nodes, slot)) != NULL)
		hnode_unref(h->nodes, slot->value);
	idmap_done(&r.nodes);
	if (r.n_sessions > 0)
		log_notice("%u sessions of the server before this one may go on: %u nodes, %u open "
			   "files, %u locks; %u of these could not be had again",
			   r.n_sessions, r.n_nodes, r.n_files, r.n_locks, r.n_lost);
	return e;
}
