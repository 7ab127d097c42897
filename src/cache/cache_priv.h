/*
 * The data of all rooms of src/cache: nodes, names and files, and the cache itself. Each room's
 * functions are in a header of its own, named as its file; fuse sees cache.h and listing.h only.
 *
 * Suffix _locked: with cache.lock held.
 */
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
	NODE_KERNEL_DATA = 1 << 2, /* the kernel may have pages or a listing: in_kernel.h */
	NODE_IDLE = 1 << 3,	   /* in the list of nodes that the kernel forgot */
	NODE_VISITED = 1 << 4,	   /* used again since it came there */
	NODE_NO_XATTR = 1 << 5,	   /* has no extended attribute */
	NODE_FREE = 1 << 6,	   /* not in use */
	NODE_SIZE = 1 << 7,	   /* the kernel has another size than attr: file.size.has */
	NODE_TIMED = 1 << 8,	   /* in cache.timed */
	NODE_NO_ACL = 1 << 9,	   /* attr: nothing but the mode decides access */
	NODE_DOUBTED = 1 << 10,	   /* see cache_doubt */
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
	uint32_t outlives;	    /* outlive_name, while told */
	uint8_t kind, type, len;    /* enum name_kind, DT_* */
	uint8_t build : 7;	    /* see dir.build */
	uint8_t told : 1;	    /* the kernel may hold it */
	char name[];
};

#define TICK_SHIFT 24 /* of 2^24 ns: 32 bits last for two years */
#define TICK(ns)   ((uint32_t)((ns) >> TICK_SHIFT))

/* The part of a node that only directories have. */
struct dir {
	struct dentry *first, *last;
	uint64_t names_bumped;	 /* generation of the names */
	uint64_t until;		 /* complete and ordered hold until then */
	uint32_t changes;	 /* of the list of names: tells cursors that they are void */
	uint32_t busy;		 /* requests in flight that hold the kernel's lock of it */
	uint32_t held;		 /* of these, those whose reply waits for notifications */
	uint64_t looked, listed; /* generations: a LOOKUP, or a listing of our own, was answered */
	uint32_t changing;	 /* changes of names of ours in flight */
	uint32_t misses;	 /* look-ups since a listing was fetched ahead: see ahead.c */
	struct cache_req *waiting; /* look-ups that wait for the first batch of one */
	uint8_t aheads;		   /* listings that were fetched ahead so far */
	bool ahead, ahead_first;   /* one is being fetched; and its first batch has not come */
	uint8_t build;		   /* number of the listing that is being put together; 0: none */
	uint8_t last_build;	   /* 7 bits */
	bool complete;		   /* there are no names but those known */
	bool ordered;		   /* and they are a listing, with offsets */
	bool parked;		   /* an invalidation waits for busy to be 0 */
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
	uint64_t closed; /* cache.file_closes when it came */
	uint32_t uses;	 /* requests in flight that go by it */
	uint32_t access; /* O_RDONLY, O_WRONLY, O_RDWR */
};

/* The size of a file as the kernel has it: see in_kernel_size.c. */
struct kernel_size {
	uint64_t has; /* with NODE_SIZE: at least that; without, the size in attr */
	uint64_t set; /* what it makes of it with the reply to a WRITE; 0: nothing is on its way */
	uint64_t forced;    /* what it takes whenever it comes to it, if is_forced */
	uint64_t forced_in; /* the directory of whose lock that is a matter; 0: the inode's */
	uint32_t set_by, forced_by; /* the tasks that these are for */
	uint32_t serial, settling;  /* of `forced`, and that which is being settled */
	uint32_t direct;	    /* WRITEs past the page cache in flight, or being stored */
	uint32_t storing;	    /* STOREs of sizes on their way to the kernel */
	uint64_t cut_from;	    /* what the kernel may have until such a one is digested */
	uint32_t cuts;		    /* truncations of the guest's in flight that make it shorter */
	bool is_forced;
	bool forced_cut;		   /* by one of these */
	bool asking;			   /* an own GETATTR is on its way, or is to come */
	bool inode_locked;		   /* it is digested under the inode's lock too */
	struct size_wait *waits, *forcing; /* for the next `direct`, the last `storing` to end */
	struct node *open_next, **open_at; /* cache.open_files */
};

/* The part of a node that only regular files have. */
struct file {
	struct idle_file *idle;
	struct opening *opening; /* our own OPENs in flight */
	struct block *blocks;
	uint64_t asked;	     /* hashed blocks that the kernel has read once */
	uint32_t drop_count; /* how often blocks were dropped: what is copied meanwhile is void */
	uint32_t appending;  /* opened for appending so often now */
	uint32_t opens;	     /* opened so often now; not with no_open */
	uint64_t closed;     /* cache.file_closes at its last close(2); 0: there was none */
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

/* Nodes and names that the kernel was told without a promise: see timed.c. */
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
	pthread_mutex_t outbox; /* held while what was given back is sent; before `lock` */
	pthread_mutex_t lock;	/* all that follows */
	struct cache_options options;
	struct paged chunks; /* of struct chunk_page */
	uint32_t chunk_hint; /* all before it are full */
	uint32_t slot_count; /* slot 0 is none */
	struct hash_table by_server, names;
	void (*empty_node)(struct cache *c, struct node *n); /* node_empty_locked, from above */
	void (*fetch_ahead)(struct cache *c, uint64_t ino);  /* ahead_fetch, from above */
	size_t node_count;
	uint64_t clock;			/* generations */
	struct piece *forgets, *closes; /* of messages in the making; NULL: there is nothing */
	struct {
		struct paged pages; /* see opens.c */
		uint32_t slots, free;
	} opens;
	size_t freed;		  /* nodes, since memory went back to the system */
	struct listing *listings; /* open ones: what is left at the end is freed */

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
	uint64_t file_closes; /* how often one might have been kept: their clock */

	/* pages */
	struct hash_table blocks;
	struct block *block_newest, *block_oldest, *block_hand;
	size_t block_bytes;
	unsigned brought, brought_read; /* with OPEN; and of these, those that were read: a while */

	/* totals of the file system: as told by the last PING, or since */
	struct fsinfo fs;
	bool one_fs;		/* there is only one */
	uint64_t fs_clock;	/* generation at which they were asked for */
	uint64_t space_changed; /* generation of the last change of ours that may move them */
	uint64_t space_settles; /* until then they move because of what was given back; 0: over */

	/* the lease */
	uint64_t lease_until; /* promises hold until then */
	uint64_t ping_due, ping_sent;
	uint64_t silent_due; /* expired: when the link is taken for dead once more */
	uint64_t ping_clock; /* generation */
	bool pinging, expired;
	struct call ping;
};
