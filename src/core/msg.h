/*
 * One request or reply of the extended protocol, without its encoding.
 *
 * The same struct serves the client's cache, the client's transport and the
 * host; only src/transport/codec.c knows how it looks on the wire. A message
 * is a flat set of optional fields (fields.def): set one with MSG_SET, ask
 * with MSG_HAS. A message owns nothing: every slice points into memory of the
 * code that built or decoded it, and is valid as long as that code says.
 *
 * Units: sizes and offsets in bytes, times in seconds and nanoseconds since
 * 1970, errno values positive, ids opaque.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Limits of the extended protocol; each is checked before anything is allocated. */
#define MSG_PAYLOAD_MAX (1u << 20)  /* bytes of a payload */
#define MSG_HEAD_MAX	(64u << 10) /* bytes of a head */
#define MSG_DEPTH_MAX	8	    /* nesting of CBOR items */
#define MSG_NAME_MAX	255	    /* bytes of one component */
#define MSG_SLOTS_MAX	1024	    /* requests in flight, whatever HELLO says */
#define MSG_GROUPS_MAX	1024	    /* supplementary groups of a request */
#define MSG_ERR_MAX	511	    /* errno; above it are those that no program ever sees */
#define MSG_TARGET_MAX	4095	    /* bytes of a symbolic link's target */

struct slice {
	const void *data;
	size_t len;
};

struct msg_time {
	int64_t sec;
	uint32_t nsec;
};

/* struct attr, flags. */
enum attr_flag {
	ATTR_NO_ACL = 1 << 0, /* the mode alone, and no ACL, decides who may access the file */
};

/* The values of stat(2), and the version that orders two replies about one node. */
struct attr {
	uint64_t version; /* drawn by the server before its fstat; higher is newer */
	uint64_t ino;
	uint32_t mode;
	uint64_t nlink;
	uint32_t uid, gid;
	uint64_t rdev; /* major << 32 | minor */
	uint64_t size;
	uint64_t blocks; /* of 512 bytes */
	uint32_t blksize;
	struct msg_time atime, mtime, ctime;
	uint64_t flags; /* enum attr_flag, for a client that asked for HELLO_ACL */
};

struct fsinfo {
	uint64_t bsize, frsize, blocks, bfree, bavail, files, ffree, namemax;
};

/* One entry of a READDIRPLUS payload: the array [name, off, type, ino, node?, attr?]. */
struct dir_entry {
	struct slice name;
	uint64_t off;  /* where the next READDIRPLUS goes on after this entry */
	uint32_t type; /* DT_* */
	uint64_t ino;
	uint64_t node; /* 0: no attributes, and no reference is counted */
	struct attr attr;
};

enum msg_op {
#define MESSAGE(code, NAME, request, reply, traits, text) MSG_##NAME = code,
#include "core/messages.def"
#undef MESSAGE
};

/*
 * The traits that messages.def gives each message. Where a trait depends on the request's flags as
 * well, a function decides: msg_changes, msg_changes_data, msg_synchronises.
 */
enum msg_trait {
	/* its effect on the host */
	TRAIT_CHANGES_OBJECT = 1 << 0, /* changes the object `node`; OPEN: with O_TRUNC */
	TRAIT_CHANGES_NAME =
		1 << 1, /* changes the object that `name` in the directory `node` leads to */
	TRAIT_CHANGES_NAME2 = 1 << 2, /* changes the object that `name2` in `node2` leads to */
	TRAIT_REMOVES = 1 << 3,	      /* removes `name`; the reply tells of `node` as a parent */
	TRAIT_OPENS = 1 << 4,	      /* its reply brings an open file */
	TRAIT_READS = 1 << 5,	      /* reads content, which may change the access time */
	TRAIT_WRITES = 1 << 6,	      /* changes content through an open file */
	TRAIT_KEEPS_SIZE = 1 << 7,    /* WRITES, but with any of its `flags` the size stays */
	TRAIT_FILE_LOCK = 1 << 8,     /* takes or releases a lock; waits for it with LOCK_WAIT */
	TRAIT_SYNCHRONISES = 1 << 9,  /* see msg_synchronises */
	TRAIT_OPEN_FLAGS = 1 << 10,   /* its `flags` are those of open(2) */
	TRAIT_STRIP_FLAG = 1 << 11,   /* STRIP_IDS in its `flags` says whether set-id bits go */
	/* the contents of its reply */
	TRAIT_NAMES_OBJECT = 1 << 12, /* the object of a name, with a reference */
	TRAIT_LOOKS_UP = 1 << 13,     /* ENOENT is an answer: the name is not there */
	TRAIT_TARGET = 1 << 14,	      /* its payload is the target of a symbolic link */
	/* the behaviour of the guest's kernel */
	TRAIT_LOCKS = 1 << 15,	      /* holds the lock of `node` (and of `node2`) meanwhile */
	TRAIT_LOCKS_NAMED = 1 << 16,  /* and the locks of the objects that are named */
	TRAIT_WITHIN_WRITE = 1 << 17, /* sends it also within a write(2) that has not ended */
	TRAIT_PAGES = 1 << 18,	      /* keeps the content: pages, or a listing */
	TRAIT_TELLS_SIZE = 1 << 19,   /* takes the size that the reply tells; not with SET_SIZE */
	TRAIT_FORCES_SIZE = 1 << 20,  /* takes that size whatever size it was told since */
	TRAIT_OUTDATES = 1 << 21,     /* ignores attributes that it asked for before this reply */
	TRAIT_AFTER_NAMES =
		1 << 22, /* may be about names of `node` that a notification is to tell first */
	/* how it travels */
	TRAIT_ONEWAY = 1 << 23,	   /* has no reply */
	TRAIT_IN_ORDER = 1 << 24,  /* takes effect before the next; FILE_LOCK: with LOCK_WAIT */
	TRAIT_PUSHED = 1 << 25,	   /* the server sends it by itself */
	TRAIT_HEARTBEAT = 1 << 26, /* a sign of life, which no time of requests is made up of */
	TRAIT_ONCE = 1 << 27, /* executed at most once, over any number of connections: `slot` */
};

#define TRAIT_CHANGES (TRAIT_CHANGES_OBJECT | TRAIT_CHANGES_NAME | TRAIT_CHANGES_NAME2)

enum msg_field {
#define FIELD(key, name, kind, text) FIELD_##name = key,
#include "core/fields.def"
#undef FIELD
	FIELD_COUNT
};

#define MSG_TYPE_UINT	uint64_t
#define MSG_TYPE_BYTES	struct slice
#define MSG_TYPE_TIME	struct msg_time
#define MSG_TYPE_ATTR	struct attr
#define MSG_TYPE_STATFS struct fsinfo

struct msg {
	uint64_t present; /* bit FIELD_x: field x is set */
#define FIELD(key, name, kind, text) MSG_TYPE_##kind name;
#include "core/fields.def"
#undef FIELD
};

#define MSG_BIT(field)		 (UINT64_C(1) << FIELD_##field)
#define MSG_HAS(m, field)	 (((m)->present & MSG_BIT(field)) != 0)
#define MSG_SET(m, field, value) ((m)->field = (value), (m)->present |= MSG_BIT(field))

/* One item of an INV payload: the array [node, class] or [node, class, name]. */
struct inv_item {
	uint64_t node;
	uint64_t class;	   /* enum inv_class */
	struct slice name; /* with INV_NAME; else empty */
};

/* The facts about a node that are not true any more. */
enum inv_class {
	INV_ATTR = 1 << 0,  /* attributes */
	INV_DATA = 1 << 1,  /* content, at any offset, and its size */
	INV_NAME = 1 << 2,  /* one name in this directory, and so its listing */
	INV_NAMES = 1 << 3, /* any name in this directory, and its listing */
};

/* INV and ACK, field flags. */
enum inv_flag {
	INV_ACK = 1 << 0,      /* INV: send ACK as soon as the items have taken effect */
	ACK_DEFERRED = 1 << 0, /* ACK: a request of this client still delays the items' effect */
};

/* READDIRPLUS, flags of request and reply. */
enum readdir_flag {
	READDIR_PLAIN = 1, /* request: names and types only, no attributes */
	READDIR_END = 1,   /* reply: nothing follows the entries of this payload */
};

/* SETATTR, field valid. */
enum setattr_valid {
	SET_MODE = 1 << 0,
	SET_UID = 1 << 1,
	SET_GID = 1 << 2,
	SET_SIZE = 1 << 3, /* through fh where the request has one */
	SET_ATIME = 1 << 4,
	SET_MTIME = 1 << 5,
	SET_ATIME_NOW = 1 << 6, /* the time of the server's clock */
	SET_MTIME_NOW = 1 << 7,
};

/* GETLK, SETLK, field type. */
enum lock_type { LOCK_TYPE_READ = 0, LOCK_TYPE_WRITE = 1, LOCK_TYPE_NONE = 2 };

/* SETLK, field flags. */
enum lock_flag {
	LOCK_WAIT = 1 << 0,  /* block until granted or cancelled */
	LOCK_BSD = 1 << 1,   /* flock(2); off and off2 are ignored */
	LOCK_CLOSE = 1 << 2, /* FLUSH: the file is closed: release the owner's BSD lock as well */
	FLUSH_GIVE_UP = 1 << 3, /* FLUSH: let the host execute the file until the next WRITE */
};

/* OPEN and CREATE, field flags: those of open(2), and above them: */
#define OPEN_GIVE_UP                                                                               \
	(UINT64_C(1)                                                                               \
	 << 32) /* no FLUSH will come: let the host execute the file after each request */

/* MKNOD, field flags of the reply. */
enum mknod_reply_flag {
	MKNOD_EMPTY = 1 << 0, /* the new directory is empty, and its names are promised */
};

/* OPEN and CREATE, field flags of the reply. */
enum open_reply_flag {
	OPEN_FLUSH = 1 << 0, /* this file system can report errors at close: send FLUSH */
};

/* WRITE, field flags: those of the open file, and above them STRIP_IDS. SETATTR: STRIP_IDS
 * alone. */
#define STRIP_IDS                                                                                  \
	(UINT64_C(1) << 32) /* take set-id bits off, as for a writer without CAP_FSETID            \
			     */

/* HELLO, field features. */
enum hello_feature {
	HELLO_ROOT = 1 << 0, /* the server is privileged: it creates files with the caller's ids */
	HELLO_READONLY = 1 << 1, /* every change is refused with EROFS */
	HELLO_PUSH =
		1 << 2, /* request: takes INV and RESET; reply: other clients' changes are pushed */
	HELLO_WATCH = 1 << 3, /* and so are those of the host, wherever a reply has a stamp */
	HELLO_WATCH_DIRS =
		1 << 4,		/* with HELLO_WATCH: by directory, and for so many of them only */
	HELLO_UMASK = 1 << 5,	/* the server applies the caller's umask */
	HELLO_ACL = 1 << 6,	/* request: asks for POSIX ACLs; reply: passes them on */
	HELLO_GIVE_UP = 1 << 7, /* the server gives up descriptors for writing: OPEN_GIVE_UP,
				   FLUSH_GIVE_UP */
	HELLO_RESUME = 1 << 8,	/* the session is to outlive, or outlives, its connection */
	HELLO_RESUMED = 1 << 9, /* reply: it is the session that was asked for */
	HELLO_LOCKS_LOST = 1 << 10, /* reply, resumed: its locks were released meanwhile */
	HELLO_FILES = 1 << 11,	    /* request: asks how many open files it may keep for later */
	HELLO_COPIES = 1 << 12,	    /* HELLO_COPY and RESUME_USED are understood */
	HELLO_COPY = 1 << 13, /* request: another copy of this client has gone on with its session;
				 reply: this is a new one, and RESUME follows all the same */
};

#define MSG_TOKEN_LEN 16 /* bytes of HELLO's token */

/* RESUME, field type: what the items of the payload are. */
enum resume_type {
	RESUME_NODES = 0, /* [node, n]: references that the client has of it */
	RESUME_FILES = 1, /* fh: files that it has open */
	RESUME_SLOTS = 2, /* [slot, use]: requests that it will send again */
	RESUME_USED = 3,  /* [slot, use]: the last use of each slot; before all others */
};

/* RESUME, field flags. */
enum resume_flag {
	RESUME_FIRST = 1 << 0, /* nothing was told before */
	RESUME_LAST = 1 << 1,  /* nothing follows: the session goes on after the reply */
};

/* Field slot. */
#define MSG_SLOT_LEN 12 /* bytes */
struct msg_slot {
	uint32_t slot;
	uint64_t use; /* from 1: how often the slot was used */
};
struct msg_slot msg_slot_get(const unsigned char *bytes);
void msg_slot_put(struct msg_slot s, unsigned char *bytes);

/* "LOOKUP", or "?" for a code that no message has. Never NULL. */
const char *msg_op_name(uint64_t op);

/*
 * True if a request (a successful reply) of op has every field that it needs;
 * false also for an unknown op.
 */
bool msg_request_complete(const struct msg *m);
bool msg_reply_complete(uint64_t op, const struct msg *m);
bool msg_op_known(uint64_t op);
bool msg_request_needs(uint64_t op, uint64_t fields); /* bits: all of them */

/* The traits of op (enum msg_trait); 0 for an unknown op. */
uint32_t msg_traits(uint64_t op);

/*
 * Tells one request from another, of which a peer of ours may have had the first: but for the id,
 * the bytes of the payload, and how much of the content OPEN is to bring, for that is a hint of
 * which whoever sends the request again may not know.
 */
uint64_t msg_digest(const struct msg *q);

/* Whether op has one of these traits. */
static inline bool msg_is(uint64_t op, uint32_t traits)
{
	return (msg_traits(op) & traits) != 0;
}

/* The traits of TRAIT_CHANGES that this request has, by its op and its flags. */
uint32_t msg_changes(const struct msg *m);
/* Whether this request changes the content or the size of the file `node`. */
bool msg_changes_data(const struct msg *m);

/*
 * True for a request after which its caller sees all that the host had done before: a lock is
 * granted, a name is made, moved or removed. By these, programs hand over data to each other.
 */
bool msg_synchronises(const struct msg *m);

/* r, an -errno, if a reply may carry that error; -EIO for errors that no program may see. */
int msg_errno(int r);

/* A name in a directory: 1 to MSG_NAME_MAX bytes without '/' and NUL. */
bool msg_name_valid(struct slice name);

/* A symbolic link's target: 1 to MSG_TARGET_MAX bytes without NUL. */
bool msg_target_valid(struct slice target);
