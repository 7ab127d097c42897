/* What the files of src/cache share. Suffix _locked: with cache.lock held. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "cache/cache.h"
#include "core/hash.h"

/* struct attr without its padding. */
struct kept_attr {
	uint64_t version, ino, blocks;
	union {
		uint64_t size;
		uint64_t rdev; /* of a device, which has no size */
	};
	int64_t atime, mtime, ctime;
	uint32_t atime_nsec, mtime_nsec, ctime_nsec;
	uint32_t mode, nlink, uid, gid, blksize;
};

enum node_flag {
	NODE_LOCKED = 1 << 0,	   /* see cache_mark_locked */
	NODE_PROMISED = 1 << 1,	   /* attr is under a promise */
	NODE_KERNEL_DATA = 1 << 2, /* the kernel may have pages or a listing */
	NODE_IDLE = 1 << 3,	   /* in the list of nodes that the kernel forgot */
	NODE_VISITED = 1 << 4,	   /* used again since it came there */
	NODE_NO_XATTR = 1 << 5,	   /* has no extended attribute */
	NODE_FREE = 1 << 6,	   /* not in use */
	NODE_SIZE = 1 << 7,	   /* the kernel has another size than attr: file.size.has */
	NODE_TIMED = 1 << 8,	   /* in cache.timed */
	NODE_NO_ACL = 1 << 9,	   /* attr: nothing but the mode decides access */
};

struct node {
	uint64_t id;	 /* FUSE node id: the slot, and above it how often that was used */
	uint64_t server; /* server node id */
	struct hash_link by_server; /* cache.by_server */
	uint64_t nlookup;	    /* references that the kernel holds */
	uint64_t bumped;	    /* generation of the object: attributes and data */
	uint64_t attr_until;	    /* attr may be told until then */
	struct kept_attr attr;
	uint32_t refs;	       /* requests and listings in flight */
	uint32_t flags;	       /* enum node_flag */
	uint32_t server_refs;  /* replies that named it; given back by FORGET */
	uint32_t newer, older; /* idle list; older is also the next of the free ones: slots */
	struct dentry *name;   /* the last name that led here */
	union {
		void *more;
		struct dir *dir;   /* directory */
		struct file *file; /* regular file */
		char *target;	   /* symbolic link */
	};
};

enum name_kind {
	NAME_NODE,   /* leads to a node, if that is still cached */
	NAME_ABSENT, /* is known not to be there, until `until` */
	NAME_LISTED, /* is there; what it leads to is not cached */
	NAME_UNSURE, /* a change of ours is in flight, or failed */
};

/* A name in a directory. One that the kernel may hold stays until the kernel was told. */
struct dentry {
	struct hash_link link; /* cache.names, by directory and name */
	struct node *dir;
	union {
		uint64_t id;  /* NAME_NODE: the node's */
		uint64_t ino; /* NAME_LISTED: st_ino */
	};
	struct dentry *next, *prev; /* in its directory, in the order of the listing */
	uint64_t off;		    /* where the listing goes on behind it */
	uint32_t until;		    /* the cap, in units of TICK */
	uint8_t kind, type, len;    /* enum name_kind, DT_* */
	uint8_t build : 7;	    /* see dir.build */
	uint8_t told : 1;	    /* the kernel may hold it */
	char name[];
};

#define TICK_SHIFT 24 /* of 2^24 ns: 32 bits last for two years */
#define TICK(ns)   ((uint32_t)((ns) >> TICK_SHIFT))

/* What a directory has besides a node. */
struct dir {
	struct dentry *first, *last;
	uint64_t names_bumped; /* generation of the names */
	uint64_t until;	       /* complete and ordered hold until then */
	uint32_t changes;      /* of the list of names: tells cursors that they are void */
	uint32_t busy;	       /* requests in flight that hold the kernel's lock of it */
	uint32_t held;	       /* of these, those whose reply waits for notifications */
	uint8_t build;	       /* number of the listing that is being put together; 0: none */
	uint8_t last_build;    /* 7 bits */
	bool complete;	       /* there are no names but those known */
	bool ordered;	       /* and they are a listing, with offsets */
	bool parked;	       /* an invalidation waits for busy to be 0 */
};

/*
 * An open file of the server that nobody has open, for the next open(2) that only reads; with
 * no_open, for all requests of its node.
 */
struct idle_file {
	struct idle_file *next; /* of the same node */
	struct idle_file *newer, *older;
	struct node *node;
	uint64_t fh, flags;
	uint64_t used;	 /* when a request last did */
	uint32_t uses;	 /* requests in flight that go by it */
	uint32_t access; /* O_RDONLY, O_WRONLY, O_RDWR */
};

/* What the kernel has of a file's size: see in_kernel_size.c. */
struct kernel_size {
	uint64_t has; /* with NODE_SIZE: at least that; without, the size in attr */
	uint64_t set; /* what it makes of it with the reply to a WRITE; 0: nothing is on its way */
	uint64_t forced;    /* what it takes whenever it comes to it, if is_forced */
	uint64_t forced_in; /* the directory of whose lock that is a matter; 0: the inode's */
	uint32_t set_by, forced_by; /* the tasks that these are for */
	uint32_t serial, settling;  /* of `forced`, and that which is being settled */
	uint32_t direct;	    /* WRITEs past the page cache in flight, or being stored */
	uint32_t storing;	    /* STOREs of sizes on their way to the kernel */
	bool is_forced;
	bool asking;			   /* an own GETATTR is on its way, or is to come */
	bool inode_locked;		   /* it is digested under the inode's lock too */
	struct size_wait *waits, *forcing; /* for the next `direct`, the last `storing` to end */
	struct node *open_next, **open_at; /* cache.open_files */
};

/* What a regular file has besides a node. */
struct file {
	struct idle_file *idle;
	struct opening *opening; /* our own OPENs in flight */
	struct block *blocks;
	uint64_t asked;	     /* hashed blocks that the kernel has read once */
	uint32_t drop_count; /* how often blocks were dropped: what is copied meanwhile is void */
	uint32_t appending;  /* opened for appending so often now */
	uint32_t opens;	     /* opened so often now; not with no_open */
	uint32_t writing;    /* WRITEs in flight through the kernel's cache */
	uint64_t writing_to; /* as far as these go */
	uint32_t drops;	     /* invalidations of data that the kernel has still to be told */
	struct cache_req *paging; /* READs and WRITEs in flight that keep pages locked */
	bool parked;		  /* an invalidation waits for one of these */
	bool used;		  /* has been read or written since the kernel knows it */
	bool watched;		  /* see file_watch_reads_locked */
	uint64_t read_from, read_to;
	struct kernel_size size;
};

#define NODES_PER_CHUNK 16u
#define CHUNKS_PER_PAGE 128u

/* NODES_PER_CHUNK nodes with numbers that follow each other. */
struct chunk {
	struct node *nodes;   /* NULL: none of them is in use */
	uint32_t used, fresh; /* those in use; those from `fresh` on never were */
	uint32_t free_slot;   /* the first of the others that are not, 0: none */
	uint32_t uses; /* how often a slot of it was used, at most, when it was last given up */
};

struct chunk_page {
	struct chunk chunks[CHUNKS_PER_PAGE];
	uint32_t full; /* of these, all of whose nodes are in use */
};
_Static_assert(sizeof(struct chunk_page) <= PAGED_BYTES, "one page");

/* What was told without a promise: see timed.c. */
#define TIMED_PER_PAGE (PAGED_BYTES / sizeof(uint64_t))
struct timed {
	struct paged nodes; /* ids, TIMED_PER_PAGE in each page */
	size_t n_nodes, pages_allowed;
	bool all;			    /* and of others, which there was no memory to note */
	struct timed_page *oldest, *newest; /* names */
	size_t name_bytes;
	uint64_t dropped; /* generation: what was asked for before is told for no time */
};

#define PAGE UINT64_C(4096)

#define SEQ_SLOTS 4096 /* a collision only makes a reply look raced */

struct cache {
	struct backend *backend;
	bool pushed; /* the server pushes what other clients change */
	bool leased; /* and what happens on the host: stamps are made use of */
	pthread_rwlock_t gate;
	pthread_mutex_t lock; /* all that follows */
	struct cache_options options;
	struct paged chunks; /* of struct chunk_page */
	uint32_t chunk_hint; /* all before it are full */
	uint32_t slot_count; /* slot 0 is none */
	struct hash_table by_server, names;
	void (*empty_node)(struct cache *c, struct node *n); /* node_empty_locked, from above */
	size_t node_count;
	uint64_t clock;			/* generations */
	struct piece *forgets, *closes; /* of messages in the making; NULL: there is nothing */
	size_t freed;			/* nodes, since memory went back to the system */
	struct listing *listings;	/* open ones: what is left at the end is freed */

	/* invalidations */
	const struct cache_sink *sink;
	void *sink_arg;
	uint64_t last_seq, floor_seq; /* of all, of the last RESET */
	uint64_t changed_at;	      /* see cache_changed_at */
	bool by_host;		      /* see cache_changed_by_host */
	struct call ack;	      /* one at a time, with the last number */
	uint64_t ack_seq;
	bool ack_due, ack_deferred;	 /* there is something to say */
	bool ack_sending, ack_inside;	 /* it is in the backend's hands; inside submit */
	uint64_t node_seq[SEQ_SLOTS];	 /* by server node: attributes and data */
	uint64_t name_seq[SEQ_SLOTS];	 /* by server node and name */
	uint64_t names_seq[SEQ_SLOTS];	 /* by server node: all names */
	uint64_t listing_seq[SEQ_SLOTS]; /* by server node: any name */

	struct timed timed;
	struct hash_table confirmed; /* struct confirmation, by task: see in_kernel_names.c */

	/* eviction */
	uint32_t idle_newest, idle_oldest, idle_hand; /* slots */
	size_t idle_count, absent_count, absent_hand;

	struct node *open_files; /* what the kernel has open; not with no_open */

	/* open files that nobody uses */
	struct idle_file *file_newest, *file_oldest;
	size_t file_count;

	/* pages */
	struct hash_table blocks;
	struct block *block_newest, *block_oldest, *block_hand;
	size_t block_bytes;

	/* totals of the file system: as told by the last PING, or since */
	struct fsinfo fs;
	bool one_fs;		/* there is only one */
	uint64_t fs_clock;	/* generation at which they were asked for */
	uint64_t space_changed; /* generation of the last change of ours that may move them */
	uint64_t space_settles; /* until then they move because of what was given back; 0: over */

	/* the lease */
	uint64_t lease_until; /* promises hold until then */
	uint64_t ping_due, ping_sent;
	uint64_t ping_clock; /* generation */
	bool pinging, expired;
	struct call ping;
};

/* ---- stamps.c ---- */

/* Signs of life in one lease; what was promised is dropped as much before its end. */
#define LEASE_BEATS 5

bool link_alive_locked(const struct cache *c, uint64_t now);
/* The stamp of a reply, and whether nothing later was said about what it tells. */
bool stamp_good_node_locked(const struct cache *c, const struct msg *m, uint64_t server);
bool stamp_good_name_locked(const struct cache *c, const struct msg *m, uint64_t dir,
			    const char *name, size_t len);
bool stamp_good_listing_locked(const struct cache *c, const struct msg *m, uint64_t dir);
/* The item of an invalidation has come; all names of a directory are as if it had. */
void stamps_pushed_locked(struct cache *c, const struct inv_item *i, uint64_t seq);
void stamps_names_void_locked(struct cache *c, uint64_t dir);

/* ---- request.c ---- */

/* O_TMPFILE: the name that comes with it is the kernel's own. */
bool request_is_nameless(const struct msg *m);
/* The kernel takes the size that the reply tells of the object. */
bool request_tells_size(const struct msg *m);
/* A regular file may grow in the kernel with its reply. */
bool request_may_grow(const struct cache_req *r);
/* Raises the generations of what it changes: when it is submitted, and when it is answered. */
void request_bump_locked(struct cache *c, struct cache_req *r);
/* It is about to be submitted. */
void request_leaves_locked(struct cache *c, struct cache_req *r);
/* A request of ours does not hold n up any more; NULL is allowed. */
void node_not_busy_locked(struct cache *c, struct node *n, bool held);
void pages_not_busy_locked(struct cache *c, struct cache_req *r);
bool pages_busy_at_locked(const struct node *n, uint64_t off);

/* ---- reply.c ---- */

/* Takes what a reply tells; out: what is to be told to the kernel. */
void reply_locked(struct cache *c, struct cache_req *r, const struct msg *m,
		  struct cache_reply *out);

/* ---- answer.c ---- */

#define PAGES_BLOCKS 9 /* of 128 KiB, in which a READ of 1 MiB may lie */

/* What was found of a READ. */
struct pages {
	struct block *blocks[PAGES_BLOCKS];
	unsigned count;
	size_t from, len; /* in the first block; of all */
};

struct answer {
	struct cache_reply out;
	struct attr attr;
	struct fsinfo fs;
	void *buffer;	    /* of what out.data says; */
	struct pages pages; /* if count > 0 it is still to be copied: answer_copy */
};

/* Requests that may be answered from the cache. */
bool answer_possible(uint64_t op);
/* What was too much to be copied under the lock. */
void answer_copy(struct answer *a);
bool answer_locked(struct cache *c, const struct cache_query *q, struct node *n, struct answer *a);

/* ---- outbox.c ---- */

/* n references to a server node are to go back, an open file is to be closed: see
 * cache_forget_flush. */
void cache_give_back_locked(struct cache *c, uint64_t server, uint64_t n);
void cache_close_locked(struct cache *c, uint64_t fh);
/* A message is full: cache_forget_flush is due. */
bool outbox_full_locked(const struct cache *c);
void outbox_done(struct cache *c);
/* With what is given back the host may get blocks back, a moment later. */
void space_moves_locked(struct cache *c);
/* Whether that is over; then nothing that was told meanwhile counts. */
bool space_settled_locked(struct cache *c, uint64_t now);

/* ---- node.c ---- */

static inline struct chunk *chunk_at(const struct cache *c, uint32_t i)
{
	struct chunk_page *p = paged_at(&c->chunks, i / CHUNKS_PER_PAGE);

	return &p->chunks[i % CHUNKS_PER_PAGE];
}

static inline struct node *node_slot(const struct cache *c, uint32_t slot)
{
	return &chunk_at(c, slot / NODES_PER_CHUNK)->nodes[slot % NODES_PER_CHUNK];
}

/* The node of a slot from 1 to below slot_count; NULL if it is not in use. */
static inline struct node *node_at_locked(const struct cache *c, uint32_t slot)
{
	const struct chunk *k = chunk_at(c, slot / NODES_PER_CHUNK);

	if (slot % NODES_PER_CHUNK >= k->fresh)
		return NULL;
	struct node *n = node_slot(c, slot);
	return (n->flags & NODE_FREE) == 0 ? n : NULL;
}

/* Frees the listings that nobody closed. No fetch is in flight any more. */
void listings_free(struct cache *c);

/* Finds a node by FUSE id and holds it; NULL if there is none. */
struct node *node_get_locked(struct cache *c, uint64_t id);
struct node *node_find_locked(const struct cache *c, uint64_t id); /* without holding it */
void node_put_locked(struct cache *c, struct node *n);
/* Nothing holds the node any more: keeps it for later or frees it. */
void node_check_locked(struct cache *c, struct node *n);
void nodes_free(struct cache *c);

/*
 * The node of a server id, made if it is new, held, with one more server
 * reference. NULL without memory: the reference is then given back.
 */
struct node *node_named_locked(struct cache *c, uint64_t server);
struct node *node_find_server_locked(struct cache *c, uint64_t server);

void node_bump_locked(struct cache *c, struct node *n);
void node_bump_names_locked(struct cache *c, struct node *n);
void node_bump_data_locked(struct cache *c, struct node *n);
/* Whether a change of ours of it, or of any name in it, began or ended after that time of the
 * clock. */
bool node_bumped_since(const struct node *n, uint64_t clock);
bool node_names_bumped_since(const struct node *n, uint64_t clock);

/* What never changes, type and inode number, is noted whatever is kept of the rest. */
void node_identify(struct node *n, const struct attr *a);
/* No object changes its type, and what is kept goes by it: such attributes are a mistake. */
bool node_other_type(const struct node *n, const struct attr *a);
void node_attr(const struct node *n, struct attr *ret);
/* Whether attr may be told now. */
bool node_fresh_locked(const struct cache *c, const struct node *n, uint64_t now);

/*
 * Installs attributes that a reply brought. raced: a change of ours that the request itself is
 * not came between (node_bumped_since). promised: they come with a promise that is still good.
 * Returns how long the kernel may keep them: 0 if they are raced.
 */
uint64_t node_install_locked(struct cache *c, struct node *n, const struct attr *a, bool raced,
			     bool promised);
/* Notes attributes that nobody may keep: later ones are compared with them. */
void node_note_locked(struct node *n, const struct attr *a);

/* Its last name may have gone: blocks become free with what is given back of it. */
static inline bool node_may_be_gone(const struct node *n)
{
	return n->attr.nlink == 0 || n->attr_until == 0;
}

/* One more reference of the kernel's: see node_told_locked. */
void node_known_locked(struct cache *c, struct node *n);
/* Frees idle nodes and absent names above the budget. */
void nodes_evict_locked(struct cache *c);

/* ---- names.c ---- */

/* NULL without memory, or for what is no directory. */
struct dir *dir_of_locked(struct node *n);

/* What there is of it; NULL also as long as nothing is known. */
static inline struct dir *dir_if_any(const struct node *n)
{
	return S_ISDIR(n->attr.mode) ? n->dir : NULL;
}

struct dentry *name_find_locked(struct cache *c, const struct node *dir, const char *name,
				size_t len);
/*
 * What a promise says of a name; replaces what was known. NULL without memory:
 * then nothing may be told to the kernel.
 */
struct dentry *name_set_node_locked(struct cache *c, struct node *dir, const char *name, size_t len,
				    struct node *node);
struct dentry *name_set_absent_locked(struct cache *c, struct node *dir, const char *name,
				      size_t len);
struct dentry *name_set_listed_locked(struct cache *c, struct node *dir, const char *name,
				      size_t len, uint64_t ino, uint8_t type);
/* A change of ours begins, or ended nobody knows how. */
void name_unsure_locked(struct cache *c, struct node *dir, const char *name, size_t len);
/* The name is gone, and the kernel knows. */
void name_remove_locked(struct cache *c, struct dentry *d);
/* The node that d leads to is about to be freed. */
void name_lose_node_locked(struct cache *c, struct dentry *d, const struct node *n);
/* Moves d to the end of its directory's list. */
void name_to_end_locked(struct dentry *d);
/* All names of a directory; tell: the kernel, of those that it may hold. */
void names_drop_locked(struct cache *c, struct node *dir, bool tell);
/* Answers a LOOKUP: 1 there, 0 absent, -EAGAIN unknown. *ret_ttl: for how long. */
int name_answer_locked(struct cache *c, struct node *dir, const char *name, size_t len,
		       uint64_t now, struct node **ret, uint64_t *ret_ttl);

/*
 * With no_open the look-up of its name is all that is seen of a file's being
 * opened. Without a promise the kernel looks up each time, and its pages go.
 */
static inline bool name_opens(const struct cache *c, uint32_t mode)
{
	return c->options.no_open && S_ISREG(mode);
}

/* ---- in_kernel_names.c ---- */

/*
 * A look-up is to be answered with n for a time, though the kernel may have the name as n: it
 * may be no first one. False: it is to be answered for no time.
 */
bool name_confirmed_locked(struct cache *c, uint32_t task, const struct node *dir, const char *name,
			   size_t len, const struct node *n);
/* The task has digested all that it was told before. */
void names_arrive_locked(struct cache *c, uint32_t task);
void names_done(struct cache *c);
bool name_kernel_holds_locked(const struct cache *c, const struct dentry *d);
/* How it is taken back. d: what is known of it, which may be NULL. */
enum entry_way name_way(const struct dentry *d);
/* The kernel may not keep it any more. d: what is known of it, which may be NULL. */
void name_take_back_locked(struct cache *c, const struct node *dir, const char *name, size_t len,
			   const struct dentry *d);

/* ---- push.c ---- */

void cache_pushed(void *arg, const struct msg *m);

/* ---- drop.c ---- */

/* Everything that is kept, in the kernel as well. */
void cache_drop_all_locked(struct cache *c);
/* Attributes and pages of n may be other ones now. */
void node_lose_locked(struct cache *c, struct node *n);
/* These are not true any more; without a word to the kernel. */
void node_lose_attr_locked(struct node *n);
void node_lose_content_locked(struct cache *c, struct node *n);
/* A name in a directory, or all of them, are not what they were. Whether that was of interest. */
bool name_lose_locked(struct cache *c, struct node *dir, struct slice name);
void names_lose_locked(struct cache *c, struct node *dir);
/* What was told without a promise; nothing that was asked for before is told for a time either. */
void timed_drop_locked(struct cache *c);
/* The node is about to be freed: what the rooms keep of it goes. */
void node_empty_locked(struct cache *c, struct node *n);

/* ---- in_kernel.c ---- */

/* One more reference of the kernel's. */
void node_told_locked(struct cache *c, struct node *n);
/*
 * Attributes that tell of a change of the content, before its invalidation has
 * come: the kernel's pages go before it hears of the new size.
 */
void node_compare_locked(struct cache *c, struct node *n, const struct attr *a);
void node_lose_data_locked(struct cache *c, struct node *n);
void tell_inode_locked(struct cache *c, struct node *n, bool data);
/*
 * The reply to an OPEN without a promise: who opens the file looks at its attributes anew, so that
 * the size and the pages are of one time. With promises the kernel would drop the pages by itself
 * when it has the reply (fuse_finish_open), nobody knows when. A WRITE on its way would not hear of
 * the READs behind that, so they go before the reply. with_attr: it brought the attributes.
 */
void node_open_locked(struct cache *c, struct node *n, bool with_attr, struct cache_reply *out);

/* ---- timed.c ---- */

/* The kernel, or this cache, is to keep attributes or pages of n without a promise. */
void timed_node_locked(struct cache *c, struct node *n);
uint64_t timed_node_at(const struct timed *t, size_t i);
/* The same of a name in dir, for ttl. False without memory: then it may be told for no time. */
bool timed_name_locked(struct cache *c, const struct node *dir, const char *name, size_t len,
		       bool is_dir, uint64_t ttl);
/* All names that are noted are told to the kernel, and not noted any more. */
void timed_tell_names_locked(struct cache *c);
void timed_done(struct cache *c);

/* ---- files.c ---- */

struct file *file_of_locked(struct node *n);
/* An idle open file of the node, taken out; false if there is none. */
bool idle_take_locked(struct cache *c, struct node *n, uint64_t *ret_fh, uint64_t *ret_flags);
/* Closes those of a node that no request goes by; NULL: all. */
void idle_close_locked(struct cache *c, struct node *n);
/*
 * A name of the node was taken away: its blocks are to be free if that was the last one. Not with
 * no_open: nobody knows who has the file open.
 */
void idle_unnamed_locked(struct cache *c, struct node *n);
/* Keeps fh for the next open(2); closes the oldest above the bound. */
void idle_keep_locked(struct cache *c, struct node *n, uint64_t fh, uint64_t flags);
/* The server is out of descriptors, and some of them were only kept for later: OPEN is sent again.
 */
bool files_open_again(struct cache *c, struct call *open, uint64_t err, bool *retried);
/* Submits r, by_node with the open files that it goes by. Without cache.lock. */
void files_submit(struct cache *c, struct cache_req *r);
/* r is done with its open files. */
void files_put_locked(struct cache *c, struct cache_req *r);
/* Closes what was open for writing and is not used any more; when to call it again. */
uint64_t files_tick_locked(struct cache *c, uint64_t now);

/* ---- in_kernel_size.c ---- */

/* The kernel does not know the file, or makes a new inode of it. */
void size_unknown_locked(struct node *n);
/* The kernel has exactly that size, or does not know the file. */
bool size_is_told_locked(const struct node *n, uint64_t size);
/* The kernel has a smaller one than is known: who opens the file may map or splice it at once. */
bool size_is_longer_locked(const struct node *n);
/* A request of the task about n comes: what it shows of the replies before it. */
void size_arrives_locked(struct node *n, uint64_t op, uint32_t task, bool writeback);
/* The reply to a request of the guest's that gives the file a size. */
void size_written_locked(struct cache_req *r, const struct msg *m);
/* The reply to a READ of so many bytes. True: it may show more than the kernel knows to be there.
 */
bool size_read_locked(struct cache_req *r, uint64_t len);
/* The size that the guest itself may have made of it. */
uint64_t size_own_end_locked(const struct node *n);
/* The kernel, which knows the file, is to get out->attr. */
void size_tell_locked(struct cache *c, struct node *n, struct cache_reply *out);
/* Somebody else has changed it: another size may have to be told soon. */
void size_outdated_locked(struct cache *c, struct node *n);
/* The node is about to be freed. */
void size_free_locked(struct node *n);
/* Whether the size is to be asked for; then it is being asked for until size_asked_locked. */
bool size_asks_locked(const struct cache *c, struct node *n);
void size_asked_locked(struct node *n);
/* Asks for the size of open files of which nobody tells; when to call it again. */
uint64_t size_tick_locked(struct cache *c, uint64_t now);

/* ---- pages.c ---- */

void pages_drop_locked(struct cache *c, struct node *n);
/* What is there of a READ, held; false if a part is missing. */
bool pages_read_locked(struct cache *c, struct node *n, uint64_t off, size_t size,
		       struct pages *ret);
/* Copies it to a new buffer, without the lock, and lets go of it; NULL without memory. */
void *pages_copy(struct pages *p);
void pages_evict_locked(struct cache *c);
/* Which blocks of a READ's reply of `len` bytes are to be kept: those that were asked for before.
 */
struct pages_wanted pages_want_locked(struct cache *c, struct node *n, uint64_t off, size_t asked,
				      size_t len);
/* Keeps them, unless the node's were dropped meanwhile. Without the lock, but for a moment. */
void pages_keep(struct cache *c, struct node *n, uint64_t off, struct slice data,
		const struct pages_wanted *w);

/*
 * Pages that the kernel is still to drop: attributes with which the file may
 * grow there, over a page of its old end, are to wait.
 */
static inline bool pages_to_drop(const struct node *n)
{
	return S_ISREG(n->attr.mode) && n->file != NULL && n->file->drops > 0;
}

/* Open for appending, past the kernel's cache. */
static inline bool is_appended(const struct node *n)
{
	return S_ISREG(n->attr.mode) && n->file != NULL && n->file->appending > 0;
}

/*
 * A WRITE through the kernel's cache copies its bytes into a page, lets go of
 * its lock, and comes here. If the page is dropped meanwhile, a READ may bring
 * back the old bytes before the host has the new ones. So READs are watched
 * from the moment that pages are dropped, or a WRITE comes, until the reply of
 * a WRITE; the writer holds the inode's lock, so the next has copied nothing
 * before that.
 */
void file_watch_reads_locked(struct file *f);
void file_read_locked(struct node *n, uint64_t off, uint64_t size);
/* At the reply of a WRITE: whether READs of its range came. last: it is the writer's. */
bool file_written_locked(struct node *n, uint64_t off, uint64_t size, bool last);
