#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "plain/plain_priv.h"
#include "transport/codec.h"

/*
 * A plain reply has a whole directory, and no position in it. So a read from
 * offset 0 keeps the listing, and later reads go on in that listing: an offset is
 * the listing's number and the index of the next entry. Several readers of a
 * changing directory have a listing each. The oldest is freed when there are too
 * many; a reader of a freed listing gets a new one, from the same index on.
 */
#define LISTINGS_MAX	   16
#define LISTINGS_BYTES_MAX ((size_t)32 << 20) /* of all but the newest */
#define INDEX_BITS	   32
#define NUMBER_MAX	   ((1u << 30) - 1) /* offsets stay positive as off_t */

struct listed {
	uint64_t ino;
	uint32_t name; /* offset in names */
	uint8_t name_len;
	uint8_t type; /* DT_* */
};

struct plain_listing {
	uint32_t number; /* 0: unused */
	uint64_t node, used;
	struct listed *entries;
	size_t count;
	char *names;
	size_t names_len;
};

struct plain_listings {
	struct plain_listing slot[LISTINGS_MAX];
	uint32_t last_number;
	uint64_t clock;
};

int plain_listings_new(struct plain_listings **ret)
{
	struct plain_listings *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return -ENOMEM;
	*ret = t;
	return 0;
}

static void listing_done(struct plain_listing *l)
{
	free(l->entries);
	free(l->names);
	*l = (struct plain_listing){0};
}

void plain_listings_free(struct plain_listings *t)
{
	if (t == NULL)
		return;
	for (size_t i = 0; i < LISTINGS_MAX; i++)
		listing_done(&t->slot[i]);
	free(t);
}

static size_t listing_bytes(const struct plain_listing *l)
{
	return l->count * sizeof(*l->entries) + l->names_len;
}

/* Frees the oldest listings until one more may be kept; returns a free slot. */
static struct plain_listing *make_room(struct plain_listings *t)
{
	for (;;) {
		struct plain_listing *oldest = NULL, *unused = NULL;
		size_t bytes = 0;

		for (size_t i = 0; i < LISTINGS_MAX; i++) {
			struct plain_listing *l = &t->slot[i];

			bytes += listing_bytes(l);
			if (l->number == 0)
				unused = l;
			else if (oldest == NULL || l->used < oldest->used)
				oldest = l;
		}
		if (unused != NULL && bytes <= LISTINGS_BYTES_MAX)
			return unused;
		listing_done(oldest);
	}
}

/* The type of an entry. Where lookup always follows links, it will show the target and no link. */
static uint8_t type_of(const struct plain_work *w, const struct plain_entry *e)
{
	uint32_t type = plain_type(e->mode, e->is_dir);

	return (uint8_t)(type == S_IFLNK && w->peer.links == LINKS_NONE ? DT_UNKNOWN
									: IFTODT(type));
}

/* The inode number that a look-up of this name will show. */
static uint64_t ino_of(struct plain_work *w, const struct plain_node *dir,
		       const struct plain_entry *e)
{
	const struct plain_node *node = plain_nodes_child(w->nodes, dir, e->name);
	struct slice path;

	if (node != NULL && node->has_attr && (e->ino == 0 || S_ISLNK(node->attr.mode)))
		return node->attr.ino;
	if (e->ino != 0)
		return e->ino;
	return plain_path2(w, dir, e->name, &path) == 0 ? plain_path_ino(path) : 2;
}

static void listing_add(struct plain_listing *l, struct slice name, uint8_t type, uint64_t ino)
{
	l->entries[l->count++] = (struct listed){.ino = ino,
						 .name = (uint32_t)l->names_len,
						 .name_len = (uint8_t)name.len,
						 .type = type};
	memcpy(l->names + l->names_len, name.data, name.len);
	l->names_len += name.len;
}

static int listing_fill(struct plain_work *w, const struct plain_node *dir,
			const struct plain_reply *p, struct plain_listing *l)
{
	const struct plain_node *up = dir->parent != NULL ? dir->parent : dir;
	struct slice in = p->entries;
	struct plain_entry e;
	const char *why;

	/* Each name is part of its entry, so names has room. Servers leave out "." and "..". */
	l->entries = calloc(p->entry_count + 2, sizeof(*l->entries));
	l->names = malloc(p->entries.len + 3);
	if (l->entries == NULL || l->names == NULL)
		return -ENOMEM;
	listing_add(l, (struct slice){".", 1}, DT_DIR, dir->attr.ino);
	listing_add(l, (struct slice){"..", 2}, DT_DIR, up->attr.ino);
	while (plain_entry_next(&in, &e, &why) == 1) {
		int r = plain_name_check(e.name);

		if (r == 0)
			listing_add(l, e.name, type_of(w, &e), ino_of(w, dir, &e));
		else
			log_debug("an entry is left out of a listing: its name of %zu bytes is %s",
				  e.name.len, r == -EILSEQ ? "no UTF-8" : "no name");
	}
	return 0;
}

static int list(struct plain_work *w, const struct plain_node *dir, struct plain_listing **ret)
{
	struct plain_listings *t = w->listings;
	struct plain_request q = {.op = PLAIN_READDIR};
	struct plain_reply p;
	int r = plain_path(w, dir, PLAIN_NO_NAME, &q.path);

	if (r == 0)
		r = plain_exchange(w, &q, &p);
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	struct plain_listing *l = make_room(t);
	r = listing_fill(w, dir, &p, l);
	if (r < 0) {
		listing_done(l);
		return r;
	}
	t->last_number = t->last_number == NUMBER_MAX ? 1 : t->last_number + 1;
	l->number = t->last_number;
	l->node = dir->id;
	*ret = l;
	return 0;
}

static struct plain_listing *find_listing(struct plain_listings *t, uint64_t node, uint64_t number)
{
	for (size_t i = 0; i < LISTINGS_MAX; i++)
		if (number != 0 && t->slot[i].number == number && t->slot[i].node == node)
			return &t->slot[i];
	return NULL;
}

/* The reply for a directory that was removed: there are no entries any more. */
static int end_at_once(struct msg *reply, const void *dst)
{
	const struct slice nothing = {dst, 0};

	MSG_SET(reply, payload, nothing);
	MSG_SET(reply, flags, READDIR_END);
	return 0;
}

int plain_do_readdir(struct plain_work *w, struct msg *reply)
{
	struct call *call = w->call;
	const struct msg *m = &call->req;
	size_t size = m->size < MSG_PAYLOAD_MAX ? (size_t)m->size : MSG_PAYLOAD_MAX, len = 0;
	unsigned char *dst = call->dest != NULL && size <= call->dest_len ? call->dest : w->payload;
	size_t index = m->off & UINT32_MAX;
	struct plain_node *dir;
	int r = plain_node(w, m->node, &dir);

	if (r < 0)
		return r;
	if (dir->has_attr && !S_ISDIR(dir->attr.mode))
		return -ENOTDIR;
	if (!plain_nodes_attached(w->nodes, dir))
		return end_at_once(reply, dst);
	struct plain_listing *l =
		m->off == 0 ? NULL : find_listing(w->listings, dir->id, m->off >> INDEX_BITS);
	if (l == NULL)
		r = list(w, dir, &l);
	if (r == -ESTALE)
		return end_at_once(reply, dst);
	if (r < 0)
		return r;
	l->used = ++w->listings->clock;
	for (; index < l->count; index++) {
		const struct listed *e = &l->entries[index];
		const struct dir_entry out = {.name = {l->names + e->name, e->name_len},
					      .off = (uint64_t)l->number << INDEX_BITS |
						     (index + 1),
					      .type = e->type,
					      .ino = e->ino};
		size_t n = codec_put_entry(&out, dst + len, size - len);

		if (n == 0)
			break;
		len += n;
	}
	if (len == 0 && index < l->count)
		return -EINVAL; /* not even one entry fits: as getdents(2) */
	const struct slice payload = {dst, len};
	MSG_SET(reply, payload, payload);
	MSG_SET(reply, flags, index >= l->count ? READDIR_END : 0);
	return 0;
}

/* Notes for all directories in the listing that they are no links, so that removing a whole tree
 * takes few look-ups. */
static void mark_sure(struct plain_work *w, const struct plain_node *dir, struct slice in)
{
	uint64_t now = plain_now_ms();
	struct plain_entry e;
	const char *why;

	while (plain_entry_next(&in, &e, &why) == 1) {
		struct plain_node *node = plain_nodes_child(w->nodes, dir, e.name);

		if (node != NULL)
			node->sure = plain_type(e.mode, e.is_dir) == S_IFDIR ? now : 0;
	}
}

int plain_listed_as_dir(struct plain_work *w, struct plain_node *dir)
{
	struct plain_request q = {.op = PLAIN_READDIR};
	struct plain_reply p;
	int r = plain_path3(w, dir->parent, PLAIN_NO_NAME, &q.path);

	if (r == 0)
		r = plain_exchange(w, &q, &p);
	if (r < 0)
		return r;
	dir->sure = 0;
	mark_sure(w, dir->parent, p.entries);
	return dir->sure != 0 ? 0 : -EPERM;
}

bool plain_not_empty(struct plain_work *w, struct slice path)
{
	struct plain_request q = {.op = PLAIN_READDIR, .path = path};
	struct plain_reply p;

	return plain_exchange(w, &q, &p) == 0 && p.entry_count > 0;
}
