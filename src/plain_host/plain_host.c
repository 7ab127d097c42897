#include "plain_host/plain_host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "core/cleanup.h"
#include "plain_host/plain_job.h"

/* The part of a buffer, in bytes, that stays allocated. */
#define KEEP_MAX ((size_t)2 << 20)

/* True for a client that is not old: old ones have no operation on links, and send no flags in
 * create. */
static bool knows_links(const struct plain_request *q)
{
	return q->op == PLAIN_SYMLINK || q->op == PLAIN_READLINK || q->op == PLAIN_FSYNC_PATH ||
	       q->op == PLAIN_TIMES || (q->op == PLAIN_CREATE && (q->flags & O_CREAT) != 0);
}

static int execute(struct plain_job *j)
{
	static const struct {
		int (*run)(struct plain_job *);
		bool change; /* refused on a read-only export; open checks its own flags */
	} table[] = {
		[PLAIN_LOOKUP] = {plain_serve_lookup, false},
		[PLAIN_GETATTR] = {plain_serve_getattr, false},
		[PLAIN_SETATTR] = {plain_serve_setattr, true},
		[PLAIN_READ] = {plain_serve_read, false},
		[PLAIN_WRITE] = {plain_serve_write, true},
		[PLAIN_CREATE] = {plain_serve_create, true},
		[PLAIN_MKDIR] = {plain_serve_mkdir, true},
		[PLAIN_UNLINK] = {plain_serve_remove, true},
		[PLAIN_RMDIR] = {plain_serve_remove, true},
		[PLAIN_RENAME] = {plain_serve_rename, true},
		[PLAIN_OPEN] = {plain_serve_open, false},
		[PLAIN_RELEASE] = {plain_serve_release, false},
		[PLAIN_READDIR] = {plain_serve_readdir, false},
		[PLAIN_FSYNC] = {plain_serve_fsync, false},
		[PLAIN_MKDIRALL] = {plain_serve_mkdirall, true},
		[PLAIN_TRUNCATE] = {plain_serve_truncate, true},
		[PLAIN_SYMLINK] = {plain_serve_symlink, true},
		[PLAIN_READLINK] = {plain_serve_readlink, false},
		[PLAIN_LINK] = {plain_serve_link, true},
		[PLAIN_FSYNC_PATH] = {plain_serve_fsync, false},
		[PLAIN_TIMES] = {plain_serve_times, true},
	};
	_Static_assert(sizeof(table) / sizeof(table[0]) == PLAIN_OPS, "every operation is here");
	uint32_t op = j->q->op;

	if (op >= PLAIN_OPS)
		return -ENOSYS;
	j->s->shows_links = j->s->shows_links || knows_links(j->q);
	if (j->q->bad_text)
		return -EILSEQ;
	if (table[op].change && export_read_only(j->s->export))
		return -EROFS;
	return table[op].run(j);
}

/* Gives back the memory of an unusually large reply. */
static void trim(struct plain_session *s)
{
	if (s->reply.cap > KEEP_MAX)
		plain_buf_done(&s->reply);
	if (s->entries.cap > KEEP_MAX)
		plain_buf_done(&s->entries);
	if (s->data_cap > KEEP_MAX) {
		free(TAKE_PTR(s->data));
		s->data_cap = 0;
	}
}

static int plain_handle(struct plain_session *s, const struct plain_request *q,
			const void **ret_reply, size_t *ret_len)
{
	struct plain_reply p = {0};
	struct plain_job j = {
		.s = s, .q = q, .p = &p, .place = PLAIN_NO_PLACE, .place2 = PLAIN_NO_PLACE};
	trim(s);
	int r = execute(&j);

	export_place_done(&j.place);
	export_place_done(&j.place2);
	change_wait(&s->change);
	if (r == 0)
		r = plain_reply_encode(&p, &s->reply);
	if (r < 0) {
		/* A listing or a read does not fit into any frame; such a request changes
		 * nothing. */
		p = (struct plain_reply){.err = r == -EMSGSIZE ? -EOVERFLOW : msg_errno(r)};
		r = plain_reply_encode(&p, &s->reply);
	}
	if (r < 0)
		return r;
	*ret_reply = s->reply.data;
	*ret_len = s->reply.len;
	return 0;
}

static int plain_session_new(struct export *ex, struct hnodes *nodes, struct promises *p,
			     struct share_pool *files, struct plain_session **ret)
{
	struct plain_session *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return -ENOMEM;
	s->export = ex;
	s->nodes = nodes;
	s->creds = CREDS_NONE;
	s->shows_links = !export_plain_follow(ex);
	s->change.promises = p;
	share_init(&s->files, files);
	*ret = s;
	return 0;
}

static void plain_session_free(struct plain_session *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < s->slot_count; i++)
		cleanup_close(&s->slots[i].fd);
	share_give(&s->files, s->open_count);
	free(s->slots);
	free(s->data);
	plain_buf_done(&s->reply);
	plain_buf_done(&s->entries);
	free(s);
}

const struct plain_server plain_host = {
	.session_new = plain_session_new,
	.session_free = plain_session_free,
	.handle = plain_handle,
};
