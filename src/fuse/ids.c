#include <string.h>
#include <sys/sysmacros.h>

#include "fuse/fs_priv.h"

/*
 * The two-way mapping of uid=,gid=: the server's account and the shown owner
 * change places; everybody else stays. An id that has no other side (the
 * server's own number, asked for in the guest) cannot be given to a file.
 */

uint32_t uid_shown(const struct fs *fs, uint32_t uid)
{
	return fs->options.map_ids && uid == fs->server->server_uid ? fs->options.uid : uid;
}

uint32_t gid_shown(const struct fs *fs, uint32_t gid)
{
	return fs->options.map_ids && gid == fs->server->server_gid ? fs->options.gid : gid;
}

uint32_t uid_to_server(const struct fs *fs, uint32_t uid)
{
	return fs->options.map_ids && uid == fs->options.uid ? fs->server->server_uid : uid;
}

uint32_t gid_to_server(const struct fs *fs, uint32_t gid)
{
	return fs->options.map_ids && gid == fs->options.gid ? fs->server->server_gid : gid;
}

bool uid_settable(const struct fs *fs, uint32_t uid)
{
	return !fs->options.map_ids || uid == fs->options.uid || uid != fs->server->server_uid;
}

bool gid_settable(const struct fs *fs, uint32_t gid)
{
	return !fs->options.map_ids || gid == fs->options.gid || gid != fs->server->server_gid;
}

double seconds(uint64_t ns)
{
	return (double)ns / 1e9;
}

void attr_to_stat(const struct fs *fs, const struct attr *a, struct stat *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->st_ino = a->ino;
	ret->st_mode = a->mode & ~fs->options.umask;
	ret->st_nlink = a->nlink;
	ret->st_uid = uid_shown(fs, a->uid);
	ret->st_gid = gid_shown(fs, a->gid);
	ret->st_rdev = makedev((unsigned)(a->rdev >> 32), (unsigned)a->rdev);
	ret->st_size = (off_t)a->size;
	ret->st_blocks = (blkcnt_t)a->blocks;
	ret->st_blksize = (blksize_t)a->blksize;
	ret->st_atim = (struct timespec){a->atime.sec, a->atime.nsec};
	ret->st_mtim = (struct timespec){a->mtime.sec, a->mtime.nsec};
	ret->st_ctim = (struct timespec){a->ctime.sec, a->ctime.nsec};
}

void entry_param(const struct fs *fs, uint64_t ino, const struct attr *a, uint64_t attr_ttl,
		 uint64_t entry_ttl, struct fuse_entry_param *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->ino = ino;
	attr_to_stat(fs, a, &ret->attr);
	/* who goes through the directory is to ask: see notify_names_passed */
	ret->attr_timeout = notify_names_passed(fs->notify, ino) ? 0 : seconds(attr_ttl);
	ret->entry_timeout = seconds(entry_ttl);
}
