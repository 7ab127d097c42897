/* What the tests of the notifiers share: tasks and mounts that are what the test says. */
#pragma once

#include "fuse_kernel.h"

#include <sys/stat.h>

#include "fuse/mounts.h"
#include "fuse/task.h"

#define FILE_MODE (S_IFREG | 0644)
#define DIR_MODE  (S_IFDIR | 0755)
#define MSEC	  UINT64_C(1000000)
#define PID	  4242 /* of every request of the fake kernel */

static struct kernel *k;
static uint64_t file, dir; /* "f", 50; "d", 60 */

static bool went_on, changes_names, walks, mounted_below;
static unsigned looked_at; /* tasks */

bool __wrap_task_went_on(pid_t tid, uint64_t *cpu);
bool __wrap_task_went_on(pid_t tid, uint64_t *cpu)
{
	(void)cpu;
	assert_int_equal(tid, PID);
	looked_at++;
	return went_on;
}

bool __wrap_task_walks(pid_t tid);
bool __wrap_task_walks(pid_t tid)
{
	assert_int_equal(tid, PID);
	return walks;
}

bool __wrap_task_changes_names(pid_t tid);
bool __wrap_task_changes_names(pid_t tid)
{
	assert_int_equal(tid, PID);
	return changes_names;
}

enum mounted __wrap_mounts_below(struct mounts *m, struct cache *cache, uint64_t parent,
				 const char *name, size_t len);
enum mounted __wrap_mounts_below(struct mounts *m, struct cache *cache, uint64_t parent,
				 const char *name, size_t len)
{
	(void)m;
	(void)cache;
	(void)parent;
	(void)name;
	(void)len;
	return mounted_below ? MOUNTED_BELOW : MOUNTED_NONE;
}

static inline int begin_with(const struct kernel_version *v)
{
	went_on = changes_names = walks = mounted_below = false;
	looked_at = 0;
	fake_now += SECOND;
	k = kernel_new(world_new(), kernel_options());
	assert_err(kernel_init(k, v), 0);
	file = kernel_looks_up(k, CACHE_ROOT, "f", 50, FILE_MODE);
	dir = kernel_looks_up(k, CACHE_ROOT, "d", 60, DIR_MODE);
	return 0;
}

static inline int begin(void **state)
{
	(void)state;
	return begin_with(&kernel_6_18);
}

static inline int end(void **state)
{
	(void)state;
	assert_int_equal(k->w->f->n_waiting, 0);
	kernel_unmounted(k);
	return 0;
}

static inline uint64_t count(enum stat_id id)
{
	return stats_get(k->w->stats, id);
}

/* How often the kernel was told of an inode; of a name, and how that was. */
static inline size_t inodes(uint64_t ino)
{
	return kernel_noted(k, FUSE_NOTIFY_INVAL_INODE, ino, NULL);
}

/* The same, with pages from off on, len of them. */
static inline size_t drops(uint64_t ino, int64_t off, int64_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < k->n_notes; i++) {
		const struct note *o = &k->notes[i];

		n += o->code == FUSE_NOTIFY_INVAL_INODE && o->ino == ino && o->off == off &&
		     o->len == len;
	}
	return n;
}

static inline size_t entries(uint64_t parent, const char *name)
{
	return kernel_noted(k, FUSE_NOTIFY_INVAL_ENTRY, parent, name);
}

/* A request of the kernel for a name in a directory, which the host is not to answer yet. */
static inline struct question *looks_up(uint64_t in, const char *name)
{
	return kernel_ask(k, FUSE_LOOKUP, in, STRING(name));
}

static inline struct question *makes(uint64_t in, const char *name)
{
	struct fuse_mkdir_in arg = {.mode = 0755};

	return kernel_ask(k, FUSE_MKDIR, in, ARG(arg), STRING(name));
}

/* The host answers the LOOKUP, or the MKDIR, with a new directory. */
static inline void host_made(enum msg_op op, uint64_t node)
{
	struct msg m = reply_node(k->w, k->w->seq, node, DIR_MODE, node);

	host_replies(k, op, &m);
}
