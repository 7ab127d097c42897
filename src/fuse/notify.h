/*
 * Telling the kernel what it may not keep any more: the only caller of
 * fuse_lowlevel_notify_*, by the rules of doc/coherence.md.
 *
 * Threads: a few notifiers, to which inodes are dealt out, so that one that
 * waits inside the kernel (for a page under I/O, for a directory's lock) holds
 * up its share only. Those that drop entries, and so wait for locks that are
 * held until one of our replies, are not those that drop pages, which replies
 * may wait for. Everything here only queues and may be called from any thread
 * with any lock of ours held.
 *
 * A notification that is queued already is not queued again. Nothing fails: without memory
 * the process ends, and the mount with it.
 */
#pragma once

#include "cache/cache.h"
#include "fuse/fuse_api.h"

struct fs;
struct notify;

int notify_new(struct fs *fs, struct notify **ret);
/* Starts the threads. 0 or -errno; notify_free ends them. */
int notify_start(struct notify *n);
/*
 * Without threads: does what each notifier that is not inside the kernel does in one turn. False:
 * there was nothing to do now.
 */
bool notify_turn(struct notify *n);
/* The backend has ended: nothing is queued any more. What is left is dropped. */
void notify_free(struct notify *n);

/* Where the cache sends what it invalidates; the argument is the struct notify. */
extern const struct cache_sink notify_sink;

/* A name in a directory, and its listing. */
void notify_inval_entry(struct notify *n, fuse_ino_t parent, const char *name, size_t len);
/* Attributes, and the pages of a range; len 0: all behind off. */
void notify_inval_range(struct notify *n, fuse_ino_t ino, uint64_t off, uint64_t len);
/* All of it, and then its size is made known: of a file whose end is not where the kernel takes it
 * to be. */
void notify_moved(struct notify *n, fuse_ino_t ino);
/*
 * Writes data into the pages of ino, and lets the file grow to its end; pages
 * that are there stay the ones that a reader may have in hand. Only on a
 * notifier, from a done of notify_after.
 */
void notify_store(struct notify *n, fuse_ino_t ino, uint64_t off, struct slice data);

/*
 * Attributes only, and now: that waits for nothing (fuse_reverse_inval_inode), while what is
 * queued may wait for the page that a READ has locked.
 */
void notify_outdate(struct notify *n, fuse_ino_t ino);

/* Brings attributes that are about to be told up to date, and makes their size known first. Only on
 * a notifier too. */
void notify_size(struct notify *n, fuse_ino_t ino, struct attr *a);
/* Makes a size known that is known here. Only on a notifier. */
void notify_missing_size(struct notify *n, fuse_ino_t ino);
/* The guest has appended up to `end`, behind what its kernel took for the end. On a notifier. */
void notify_appended(struct notify *n, fuse_ino_t ino, uint64_t end);

/* Calls done, on a notifier, when what is queued for ino now has been done. */
void notify_after(struct notify *n, fuse_ino_t ino, void (*done)(void *arg), void *arg);

/*
 * Drops attributes and the pages of a range (len 0: all behind off), and then calls done, on a
 * notifier: for a reply that must not come before.
 */
void notify_inval_first(struct notify *n, fuse_ino_t ino, uint64_t off, uint64_t len,
			void (*done)(void *arg), void *arg);
/* The listing of a directory, once no request in it is in flight. */
void notify_inval_listing(struct notify *n, fuse_ino_t ino);

enum notify_fence_kind {
	NOTIFY_ALL,   /* everything that is queued */
	NOTIFY_HOST,  /* what the host has changed, but for names */
	NOTIFY_NAMES, /* names of one directory */
	NOTIFY_CUT,   /* a truncation of the guest's own */
};

/* done is called on a notifier, or by notify_free. The struct stays until then. */
struct notify_fence {
	void (*done)(void *arg);
	void *arg;
	pid_t tid;  /* notify_after_names: who asks for the attributes */
	bool locks; /* notify_follow_host: the kernel has locked directories for the request */
	/* notify's own */
	struct notify_fence *next;
	enum notify_fence_kind kind;
	uint64_t ticket, ino, not_before, cpu;
	unsigned looks, waits;
};

/* Calls f->done when everything that is queued now has been done. */
void notify_fence(struct notify *n, struct notify_fence *f);

/*
 * For a reply that synchronises: calls f->done when nothing that the host had changed can be
 * seen any more as it was. False: that is so now, and f is not used. notify_host_waits: whether
 * it may be otherwise, for which no lock is taken.
 */
bool notify_host_waits(const struct notify *n);
bool notify_follow_host(struct notify *n, struct notify_fence *f);

/*
 * Whether such a reply was given before changed names of the directory had been told. Then
 * nobody gets attributes of it that he may keep, and who asks for them gets them afterwards:
 * notify_after_names, which returns false if they have been told by now.
 */
bool notify_names_passed(struct notify *n, fuse_ino_t ino);
bool notify_after_names(struct notify *n, fuse_ino_t ino, struct notify_fence *f);

/*
 * For attributes with a size that the kernel does not take while it truncates the file: calls
 * f->done when it has done so. False: it has. A host that does not answer the truncation is not
 * waited for longer than a second.
 */
bool notify_after_cut(struct notify *n, fuse_ino_t ino, struct notify_fence *f);
