/* Fences: what had happened on the host before is visible in the mount. */
#include "fuse/fs_priv.h"

#include <errno.h>
#include <stdlib.h>

struct fence {
	struct call call;
	struct notify_fence passed;
	struct fs *fs;
	uint64_t seq;
	void (*done)(void *arg, int err, uint64_t seq);
	void *arg;
};

/* The kernel has been told everything. */
static void fence_passed(void *arg)
{
	struct fence *f = arg;

	f->done(f->arg, 0, f->seq);
	free(f);
}

/* All that was pushed has come. Whatever nobody promises to take back is dropped as well. */
static void pass_fence(struct fence *f)
{
	cache_drop_timed(f->fs->cache);
	f->passed = (struct notify_fence){.done = fence_passed, .arg = f};
	notify_fence(f->fs->notify, &f->passed);
}

static void fence_replied(struct call *call, const struct msg *m)
{
	struct fence *f = (struct fence *)call;

	f->seq = m->seq;
	if (m->err == 0) {
		pass_fence(f);
		return;
	}
	f->done(f->arg, -(int)m->err, 0);
	free(f);
}

void fs_fence_async(struct fs *fs, void (*done)(void *arg, int err, uint64_t seq), void *arg)
{
	struct backend *b = cache_backend(fs->cache);
	struct fence *f = calloc(1, sizeof(*f));

	stats_add(fs->stats, STAT_fence_asked, 1);
	if (f == NULL) {
		done(arg, -ENOMEM, 0);
		return;
	}
	f->fs = fs;
	f->done = done;
	f->arg = arg;
	f->call.done = fence_replied;
	MSG_SET(&f->call.req, op, MSG_FENCE);
	if (fs->server->push)
		b->ops->submit(b, &f->call);
	else
		pass_fence(f);
}
