#include "plain_host/plain_job.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/log.h"
#include "host/hnode.h"

/* A handle is the slot's use count and its index; 0 is none. */
#define SLOT_BITS 16
#define SLOT_MASK ((UINT64_C(1) << SLOT_BITS) - 1)

/* ---- handles ---- */

int plain_slot_find(struct plain_session *s, uint64_t fh, struct plain_slot **ret)
{
	uint64_t index = (fh & SLOT_MASK) - 1; /* 0 becomes too large */

	if (index >= s->slot_count || s->slots[index].fd < 0 ||
	    s->slots[index].uses != fh >> SLOT_BITS)
		return -EBADF;
	*ret = &s->slots[index];
	return 0;
}

int plain_slot_add(struct plain_session *s, int fd, uint64_t *ret_fh)
{
	size_t i = 0;

	if (s->open_count == PLAIN_FILES_MAX || !share_take(&s->files, 1)) {
		(void)close(fd);
		return -EMFILE;
	}
	while (i < s->slot_count && s->slots[i].fd >= 0)
		i++;
	if (i == s->slot_count) {
		size_t count = s->slot_count == 0 ? 16 : s->slot_count * 2;
		struct plain_slot *p = realloc(s->slots, count * sizeof(*p));

		if (p == NULL) {
			share_give(&s->files, 1);
			(void)close(fd);
			return -ENOMEM;
		}
		for (size_t k = s->slot_count; k < count; k++)
			p[k] = (struct plain_slot){.fd = -1};
		s->slots = p;
		s->slot_count = count;
	}
	s->slots[i].fd = fd;
	s->open_count++;
	*ret_fh = s->slots[i].uses << SLOT_BITS | (i + 1);
	return 0;
}
_Static_assert(PLAIN_FILES_MAX < SLOT_MASK, "an index fits into a handle");

bool plain_slot_named(struct plain_job *j, struct plain_slot **ret)
{
	return j->q->fh != 0 && plain_slot_find(j->s, j->q->fh, ret) == 0;
}

/* ---- paths and attributes ---- */

int plain_walk(struct plain_session *s, struct slice path, bool follow, struct export_place *ret)
{
	char text[PATH_MAX];

	if (path.len == 0)
		return -ENOENT;
	if (path.len >= sizeof(text))
		return -ENAMETOOLONG;
	if (memchr(path.data, '\0', path.len) != NULL)
		return -EINVAL;
	memcpy(text, path.data, path.len);
	text[path.len] = '\0';
	enum walk_links links = s->shows_links ? WALK_NO_LINKS
				: follow       ? WALK_FOLLOW
					       : WALK_FOLLOW_DIRS;
	int r = export_walk(s->export, text, links, ret);
	if (r == -EINVAL && text[0] != '/')
		r = -ENOENT;
	if (r < 0)
		return r;
	/* The host may have moved a directory of the path out of the export meanwhile. */
	r = export_contains(s->export, ret->dirfd, NULL);
	return r > 0 ? 0 : r == 0 ? -ESTALE : r;
}

int plain_inside(const struct plain_job *j, int fd, bool afterwards)
{
	int r = export_inside(j->s->export, fd);

	if (r == 0 && afterwards) {
		if (j->s->nodes != NULL)
			hnodes_moved(j->s->nodes, true);
		export_log_outside("a request of a plain client");
	}
	return r > 0 ? 0 : r == 0 ? -ESTALE : r;
}

int plain_walk_existing(struct plain_session *s, struct slice path, bool follow,
			struct export_place *ret)
{
	int r = plain_walk(s, path, follow, ret);

	return r == 0 && ret->object < 0 ? -ENOENT : r;
}

mode_t plain_linux_mode(uint32_t mode)
{
	return (mode & 07777) | plain_special_bits(mode);
}

int plain_reply_stat(struct plain_job *j, int fd)
{
	struct attr a;
	int r = export_attr(j->s->export, fd, &a);

	if (r < 0)
		return r;
	j->p->has_stat = true;
	j->p->stat = (struct plain_stat){.size = (int64_t)a.size,
					 .mode = plain_go_mode(a.mode),
					 .mtime = a.mtime.sec,
					 .is_dir = S_ISDIR(a.mode),
					 .ino = a.ino,
					 .uid = a.uid,
					 .gid = a.gid};
	return 0;
}

int plain_assume_caller(struct plain_job *j)
{
	struct creds_caller caller = {.uid = j->q->uid, .gid = j->q->gid};

	if (!export_squashed(j->s->export, &caller.uid, &caller.gid)) {
		int r = export_host_uid(j->s->export, j->q->uid, &caller.uid);

		if (r == 0)
			r = export_host_gid(j->s->export, j->q->gid, &caller.gid);
		if (r < 0 && export_assumes(j->s->export))
			return r;
	}
	return creds_assume(&j->s->creds, export_assumes(j->s->export), &caller);
}

void plain_drop_setid(struct plain_session *s, int fd)
{
	struct stat st;

	if (!export_privileged(s->export) || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return;
	bool group = (st.st_mode & S_IXGRP) || export_no_setid(s->export);
	mode_t drop = st.st_mode & (mode_t)(group ? S_ISUID | S_ISGID : S_ISUID);
	if (drop != 0 && fchmod(fd, (st.st_mode & ~drop) & 07777) < 0)
		log_debug("set-id bits stay after a write: %m");
}

void plain_broke_name(struct plain_job *j, const struct export_place *place)
{
	change_broke_fd(&j->s->change, place->dirfd, INV_ATTR | INV_NAME, place->name);
	if (place->object >= 0)
		change_broke_fd(&j->s->change, place->object, INV_ATTR, NULL);
}

int plain_data_reserve(struct plain_session *s, size_t cap)
{
	if (cap <= s->data_cap)
		return 0;
	unsigned char *p = realloc(s->data, cap);
	if (p == NULL)
		return -ENOMEM;
	s->data = p;
	s->data_cap = cap;
	return 0;
}
