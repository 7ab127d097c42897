/*
 * The client's cache: nodes, attributes, names, listings, link targets, idle
 * open files and pages, and the generations and stamps that keep a late reply
 * from undoing a newer truth. doc/coherence.md has the rules and their reasons.
 *
 * The cache sits between the FUSE adapter and a backend. The adapter fills a
 * cache_req and submits it with FUSE node ids; the cache answers it, or turns
 * the ids into the server's, passes the call on, and on the reply installs
 * what it says before the adapter's completion runs.
 *
 * Identity: a FUSE node id is never used again while the cache lives; the
 * root is 1. A node lives as long as the kernel (nlookup), a request or a
 * listing (refs) holds it, and under a promise for as long after as the budget
 * allows; then its references go back to the server.
 *
 * Promises: a reply with a stamp is true until the server pushes an
 * invalidation (INV, RESET), and may be kept up to the caps of the options; a
 * reply without one is kept for the timeouts only.
 *
 * Generations: a clock counts the client's own changes. Each bumps the nodes
 * that it touches when it is submitted and again when its reply is handled; a
 * reply is installed, and given to the kernel with a timeout, only if nothing
 * it tells about was bumped since its request was submitted, and no
 * invalidation later than its stamp has come. Attributes also carry the
 * server's version: only a higher one is installed.
 *
 * Threads: every function may be called from any thread. Locks, in order: the
 * gate, listing.lock, cache.lock. The gate is held shared from the check of an
 * answer until done has written it to the kernel, and exclusively while an
 * invalidation is taken in: what was checked before it has been written before
 * its notification is queued. cache.lock is never held across a backend call,
 * a completion or a call into libfuse.
 *
 * Units: times in nanoseconds of clock_now; budgets in bytes and nodes.
 */
#pragma once

#include "core/backend.h"
#include "core/stats.h"

struct cache;
struct node;
struct cache_req;
struct listing;

#define CACHE_ROOT 1

#define REQUEST_LOCKS 4 /* directories that the kernel locks for a request at most: RENAME */

/* How long the kernel, and the cache, may keep what a reply tells. */
struct cache_times {
	uint64_t attr, entry, negative, dir;
};

struct cache_options {
	struct cache_times ttl; /* without a promise */
	struct cache_times cap; /* under a promise; all 0: promises are not made use of */
	uint64_t lease;		/* promises end this long after the last sign of life; 0: never */
	uint64_t page_budget;	/* bytes */
	uint64_t node_budget;	/* nodes that the kernel has forgotten; absent names as well */
	bool no_open;		/* the kernel opens without asking; needs promises */
	uint64_t list_after;	/* look-ups that miss, until a directory is listed; 0: for ever */
	struct stats *stats;
};

/* How a name is taken back from the kernel: see in_kernel_names.c. Each does more than those before
 * it. */
enum entry_way {
	ENTRY_DROPS,   /* the dentry goes (inval_entry) */
	ENTRY_EXPIRES, /* it stays, and is looked up before it is used again */
};

/*
 * Where invalidations for the kernel go. Called with cache.lock held: they
 * only queue. mark: when everything queued so far has been done,
 * cache_acknowledge is to be called with seq.
 */
struct cache_sink {
	/* attributes, or with data also pages, listing and link target */
	void (*inode)(void *arg, uint64_t ino, bool data);
	/* a name, and then the listing of its directory */
	void (*entry)(void *arg, uint64_t parent, const char *name, size_t len, enum entry_way way);
	/*
	 * Waits until the kernel has digested what it was told before of ino: cache_size_settled
	 * follows. By the lock of the directory `parent`, or that of its entry `name` if len > 0;
	 * with a task, also by its going on. Then parent may be ino: there is no lock.
	 */
	void (*settle)(void *arg, uint64_t ino, uint32_t serial, uint32_t task, uint64_t parent,
		       const char *name, size_t len);
	/* asks for the size of the file, and makes it known: cache_size_ask */
	void (*size)(void *arg, uint64_t ino);
	/* so much is queued that names which nobody is known to hold are better not told */
	bool (*full)(void *arg);
	/* requests in flight that were waited for have ended: see cache_dir_park, cache_pages_busy
	 */
	void (*unpark)(void *arg, uint64_t ino);
	void (*mark)(void *arg, uint64_t seq);
	/* without the lock: the server has released all locks of the session, which was away */
	void (*locks_lost)(void *arg);
};

/* The result of a completed request, for the adapter. Valid until done returns. */
struct cache_reply {
	int err;		 /* errno, 0 on success */
	const struct msg *msg;	 /* the reply; NULL if the cache answered by itself */
	const struct attr *attr; /* of the object; NULL if none came */
	struct attr newest;	 /* what attr leads to, if the reply's are not the newest known */
	uint64_t attr_ttl;
	/* Requests that name an object: its node, of which the kernel now holds one more reference.
	 */
	uint64_t ino;
	uint64_t entry_ttl;
	const struct fsinfo *fs; /* STATFS */
	struct slice data;	 /* READ, READLINK */
	uint64_t fh;		 /* OPEN, CREATE */
	uint64_t flags;		 /* OPEN, CREATE: enum open_reply_flag */
	bool keep;     /* OPEN: pages that the kernel has are still true; WRITE: nobody has written
			  since */
	bool raced;    /* WRITE, listings: what the kernel made of it is to be invalidated */
	bool appended; /* OPEN: the file is open for appending here */
	bool hold; /* the kernel still has pages to drop: reply when that is done, with timeouts 0
		    */
	bool size_first; /* make the size known to the kernel first (cache_size_to_tell), and as
			    with hold */
	bool cut_first;	 /* GETATTR: wait until the guest's own truncation has been digested
			    (cache_size_cut), and as with hold */
	bool forces;	 /* the kernel will take the size whatever it hears: cache_size_force */
	bool has_pages;	 /* WRITE: the kernel may hold pages of the file */
	bool longer;	 /* READ: the file is longer than the kernel was told: it is to ask again */
	bool synchronises; /* what the host had done before is to be seen before the reply is */
	/*
	 * NULL for what the cache has answered by itself. To be set if the reply goes to the kernel
	 * after done has returned; cache_delivered follows.
	 */
	bool *ret_held;
};

/* Whole pages of a file, in bytes, that a request keeps locked: see cache_pages_busy. */
struct busy_pages {
	uint64_t off, end;
	bool wait; /* for the reply, to drop them; of a request: it is a WRITE */
};

/*
 * One request on its way. The adapter sets call.req (all but node and node2),
 * done and direct; the struct must stay until done has run. Zero-initialised but for
 * names.
 */
struct cache_req {
	struct call call;
	void (*done)(struct cache_req *r, const struct cache_reply *reply);

	bool writeback; /* WRITE: of pages that were stored to through a mapping */
	bool direct;	/* READ, WRITE: past the kernel's cache; READ wants the host's own bytes */
	bool by_node;	/* the cache finds the open file; COPY: from that of the second node */
	bool unpaged;	/* READ, WRITE: no page of the kernel's takes part in it */
	bool own;	/* the client's: the kernel hears nothing of the reply */
	uint32_t task;	/* who waits for the reply; 0: not known */

	/* The cache's own. */
	struct cache *cache;
	struct node *node, *node2;
	uint64_t submitted; /* generation clock */
	struct pages_wanted {
		uint32_t blocks; /* READ: bits, from the block `first` on */
		bool once;	 /* OPEN: for the kernel's first READ */
		uint32_t drop_count;
		uint64_t first;
	} keep;
	struct listing *listing;
	void (*listing_done)(struct cache_req *r, const struct cache_reply *reply);
	struct node *locks[REQUEST_LOCKS];     /* directories that the kernel has locked for it */
	bool writing;			       /* counted in its file */
	struct cache_req *paging, **paging_at; /* of its file's READs and WRITEs in flight */
	struct busy_pages pages;	       /* of such a one, and when it was submitted */
	uint64_t left;
	bool let_go;	 /* its task was killed: the kernel keeps no page locked for it */
	uint64_t before; /* WRITE: bytes before its offset whose pages the kernel keeps locked as
			    well */
	bool retried;	 /* OPEN: once more after idle files were closed */
	struct idle_file *files[2]; /* by_node: what fh and fh2 are */
	struct cache_req *waiting;  /* the next one that waits for the same open file, or listing */
	bool waited;		    /* LOOKUP: for a listing, once */
	bool counted[2];	    /* in dir.changing of node and node2 */
	uint64_t had[2];	    /* RENAME: what the kernel has under the names; 0: not known */
	uint8_t name_len[2];
	char names[2][MSG_NAME_MAX + 1];
};

/* The nodes that a request keeps busy until the kernel has its reply. */
struct cache_holds {
	struct node *node, *node2;
	struct node *busy[REQUEST_LOCKS];
	uint32_t gain; /* outlive_gain_hold */
	bool held;
};

/*
 * In the place of a client that was killed (core/outlive.h) it begins with the nodes and names that
 * the kernel holds, of which nothing else is known: cache_drop of all makes the kernel ask.
 */
int cache_new(struct backend *backend, const struct cache_options *options, struct cache **ret);
void cache_free(struct cache *c);
/*
 * The kernel does not know a node that a client before us has told it of: what gave it back may
 * have been lost with that client, or a task has not digested the answer yet. Later it is looked at
 * once more: gone, if the kernel does not know it still, gives it back.
 */
void cache_doubt(struct cache *c, uint64_t ino);
void cache_settle_doubt(struct cache *c, uint64_t ino, bool gone);
/* The answer with which the kernel would have got a reference has not come to it. */
void cache_not_gained(struct cache *c, uint64_t unique);
struct backend *cache_backend(struct cache *c);

/* Sets where invalidations go; NULL: nowhere. Before the first request, and at the end. */
void cache_set_sink(struct cache *c, const struct cache_sink *sink, void *arg);

/* True if the server promises, and the options make use of it. */
bool cache_leased(const struct cache *c);

/* The options as they are; what is kept already stays until its time is over. */
void cache_get_options(struct cache *c, struct cache_options *ret);
void cache_set_options(struct cache *c, const struct cache_options *options);

/*
 * Submits r for the node ino and, where the request has two, ino2 (0: none).
 * An unknown id completes with ESTALE. done may run before this returns.
 */
void cache_submit(struct cache *c, struct cache_req *r, uint64_t ino, uint64_t ino2);

/* A LOOKUP or GETATTR of which no request was made yet. */
struct cache_query {
	enum msg_op op;
	uint64_t ino;
	struct slice name;   /* LOOKUP: of MSG_NAME_MAX bytes at most */
	uint32_t task;	     /* who waits for the reply; 0: not known */
	struct cache_req *r; /* the cache's own: the request, if there is one */
};

/*
 * True if the cache answers q by itself: then done has run, as that of a request does. False:
 * the request is to be submitted.
 */
bool cache_answer(struct cache *c, const struct cache_query *q,
		  void (*done)(void *arg, const struct cache_reply *reply), void *arg);

/*
 * For a reply that is held (cache_reply.ret_held): takes over what its request holds, before
 * the request goes. When the reply has gone to the kernel it is free.
 */
void cache_hold(struct cache *c, const struct cache_req *r, struct cache_holds *ret);
void cache_delivered(struct cache *c, const struct cache_holds *h);

/* An answer of the adapter's own making from what the cache told: see the gate. */
void cache_reply_begin(struct cache *c);
void cache_reply_end(struct cache *c);

/*
 * The open file fh of ino is not needed any more. again: another open that
 * reads only may have it.
 */
void cache_close(struct cache *c, uint64_t ino, uint64_t fh, bool again);

/*
 * fh, which CREATE has opened with these flags, and whose reply had reply_flags, is to serve
 * requests by_node.
 */
void cache_keep_open(struct cache *c, uint64_t ino, uint64_t fh, uint64_t flags,
		     uint64_t reply_flags);

/* The server's number of an open file. */
uint64_t cache_server_file(struct cache *c, uint64_t fh);
/*
 * An open file of the server's that a client had who was killed: its number here, 0 without memory.
 * The kernel turns out not to have it: as it was before.
 */
uint64_t cache_restore_file(struct cache *c, uint64_t ino, uint64_t server, bool appending);
void cache_unrestore_file(struct cache *c, uint64_t ino, uint64_t fh, bool appending);

/* A file was opened or closed; appending: for that, past the kernel's cache. */
void cache_opened(struct cache *c, uint64_t ino, bool opened, bool appending);
/* The task does something about ino of which the cache hears nothing else. */
void cache_task_goes_on(struct cache *c, uint64_t ino, uint32_t task);

/* The kernel dropped n references to ino. cache_forget_flush sends what has gathered. */
void cache_forget(struct cache *c, uint64_t ino, uint64_t n);
void cache_forget_flush(struct cache *c);

/*
 * A reference of the kernel that a completion took (reply->ino) but that
 * could not be delivered, because the caller had been answered already.
 */
void cache_undo_lookup(struct cache *c, uint64_t ino);

/* The mode of a node as last heard, maybe outdated; 0 if it is unknown. */
uint32_t cache_mode(struct cache *c, uint64_t ino);

/*
 * Whether a POSIX lock was ever asked for on the node: only then does a
 * close(2) have to tell the host. True also for an unknown node.
 */
void cache_mark_locked(struct cache *c, uint64_t ino);
bool cache_is_locked(struct cache *c, uint64_t ino);

/* ---- for whoever tells the kernel ---- */

/*
 * When the server saw the change that is being taken in, on our clock; 0 for
 * what was not pushed. Inside a call of the sink only.
 */
uint64_t cache_changed_at(const struct cache *c);
/* Whether what is taken back may have been changed by the host. Inside a call of the sink only. */
bool cache_changed_by_host(const struct cache *c);

/* How to take a name back that the kernel holds by now, as far as is known: ENTRY_DROPS too if it
 * does not. */
enum entry_way cache_entry_way(struct cache *c, uint64_t parent, const char *name, size_t len);

/*
 * Tasks that were told that the name of a directory still is what they have, and of which nothing
 * has been heard since: they may not have digested that. Which name it was does not matter, for a
 * directory's dentry may have another one by then. cache_take_confirmed takes out those that were
 * told up to `until`, at most max, and cache_put_confirmed puts back one that may not have gone on
 * yet.
 */
struct confirmed {
	uint64_t at;  /* when they were told */
	uint64_t cpu; /* of the taker */
	uint32_t task;
};
size_t cache_take_confirmed(struct cache *c, uint64_t until, struct confirmed *ret, size_t max);
void cache_put_confirmed(struct cache *c, const struct confirmed *t);

/* Whether the kernel may know the inode. */
bool cache_kernel_knows(struct cache *c, uint64_t ino);

/*
 * True if a request that holds the kernel's lock of this directory is in
 * flight; late: if one has its reply held. unpark is called when none is in flight any more.
 */
bool cache_dir_park(struct cache *c, uint64_t ino, bool late);
bool cache_dir_busy(struct cache *c, uint64_t ino); /* without being called */
/*
 * Whether such a request has its reply held: for several directories at one time, under the
 * lock. Locks of the sink's side come after this one.
 */
void cache_lock_dirs(struct cache *c);
bool cache_dir_held(const struct cache *c, uint64_t ino);
void cache_unlock_dirs(struct cache *c);

/*
 * Pages of ino that a READ or WRITE in flight keeps locked in the kernel until its reply. True if
 * there are any from off to end: *ret are the first of them. What a READ brings that left after
 * `news` is new; else they wait, to be dropped behind the reply, and unpark is called after it.
 * late: WRITEs are not looked at.
 */
bool cache_pages_busy(struct cache *c, uint64_t ino, uint64_t off, uint64_t end, uint64_t news,
		      bool late, struct busy_pages *ret);
/* r, which the backend may still have, was answered because its task was killed: its pages are
 * free. */
void cache_pages_let_go(struct cache *c, struct cache_req *r);

/*
 * The kernel is about to drop pages of ino, and has done so: a WRITE on its way
 * may leave wrong ones behind. What the sink is told begins by itself.
 */
void cache_drops_pages(struct cache *c, uint64_t ino);
void cache_pages_dropped(struct cache *c, uint64_t ino);

/*
 * cache_reply.size_first: brings *a up to date. True: a STORE without bytes, from *ret_from to
 * a->size, must come before it is told. That begins a page below the one in which the file ends
 * for the kernel, because a WRITE that makes it longer may hold the lock of the latter.
 */
bool cache_size_to_tell(struct cache *c, uint64_t ino, struct attr *a, uint64_t *ret_from);
/* That STORE has been tried: whether the kernel has been made to have that size. */
void cache_size_stored(struct cache *c, uint64_t ino, uint64_t size, bool done);
/* The same for an append of the guest's, which ended at `end`. */
bool cache_size_appended(struct cache *c, uint64_t ino, uint64_t end, uint64_t *ret_from);
/* The kernel has more than it had, by a STORE. */
void cache_size_grown(struct cache *c, uint64_t ino, uint64_t size);

struct size_wait {
	struct size_wait *next;
	void (*done)(void *arg);
	void *arg;
};
/*
 * cache_reply.forces: r's reply, about ino, is about to be written. dir: of LINK and CREATE.
 * *size becomes the one that the kernel has, unless the request itself makes the file longer; none
 * other is made known to it until it has digested the reply. False: one is being made known right
 * now, w->done is called after that, and it is to be asked again. Without w it is false as well if
 * *size would have to change.
 */
bool cache_size_force(struct cache *c, const struct cache_req *r, uint64_t ino, uint64_t dir,
		      uint64_t *size, struct size_wait *w);
/*
 * A truncation of the guest's: from its submission, with the size that it asks for, until its reply
 * has been written. False: it does not make the file shorter, and is not counted.
 */
bool cache_cut_begins(struct cache *c, uint64_t ino, uint64_t size);
void cache_cut_ends(struct cache *c, uint64_t ino);
/*
 * Whether the kernel may still have the size that the file had before such a one. *ret_task: whose
 * it is that has been answered, and may not have digested that; 0: it is in flight.
 */
bool cache_size_cut(struct cache *c, uint64_t ino, uint32_t *ret_task);
/* cache_sink.settle is done. */
void cache_size_settled(struct cache *c, uint64_t ino, uint32_t serial);

/*
 * Asks for the size of a file that is open, of which the kernel has dropped the pages. False: there
 * is nothing to ask; else done is called. Then 1: a STORE as above must make *ret_size known;
 * -EAGAIN: a moment later; 0: nothing.
 */
bool cache_size_ask(struct cache *c, uint64_t ino, void (*done)(void *arg), void *arg);
int cache_size_missing(struct cache *c, uint64_t ino, uint64_t *ret_size, uint64_t *ret_from);

/*
 * A WRITE past the page cache: from its submission until the kernel's pages are up to date and it
 * has been answered.
 */
void cache_direct_write(struct cache *c, uint64_t ino, bool begins);

/* Who waits for it: done is called when the next of them ends. False: there is none. */
bool cache_size_wait(struct cache *c, uint64_t ino, struct size_wait *w);

/* Everything up to seq is done with, or held up by a request of ours (deferred). */
void cache_acknowledge(struct cache *c, uint64_t seq, bool deferred);

/*
 * The path of a directory below the root as it was last looked up, "a/b",
 * empty for the root; false if it is not known.
 */
bool cache_path(struct cache *c, uint64_t ino, char *ret, size_t len);

/* The node at a path below the root, 0 if the cache does not know it. */
uint64_t cache_find_path(struct cache *c, const char *path);

/*
 * Takes back what the kernel was told without a promise: the host may have changed it. What
 * is queued by it is part of a fence.
 */
void cache_drop_timed(struct cache *c);

/* Takes back all that the kernel has from a client that was killed: anything may have changed. */
void cache_drop_restored(struct cache *c);

/* Forgets what is kept of a node, in the kernel as well; 0: of all. */
void cache_drop(struct cache *c, uint64_t ino);

/* ---- the lease ---- */

/*
 * Sends the sign of life that is due, and ends the lease when none has been
 * answered. Returns when it is to be called again.
 */
uint64_t cache_tick(struct cache *c);
/* The server has given a sign of life within the last two fifths of a lease. */
bool cache_link_alive(struct cache *c);
uint64_t cache_now(void);
