/*
 * The plain protocol: one CBOR map of text keys per request and per reply,
 * as the seed's programs write them in Go.
 *
 * Encoding gives the seed's bytes: its key order, shortest heads, and what Go
 * marks `omitempty` left out when zero. Decoding takes keys in any order,
 * passes over unknown ones, takes null as absence, and refuses duplicates,
 * indefinite lengths, numbers that do not fit the Go type and everything else
 * that item_get refuses. A path or name that is not UTF-8 is passed on to the
 * caller: Go's encoder sends such bytes as text, so an honest guest sends them for
 * one odd file name, and closing the connection would end the guest's mount.
 *
 * Ownership: slices of a decoded request, reply or entry point into the frame.
 * A plain_buf owns its bytes; the others own nothing. Threads: no shared
 * state. Errors: -EPROTO with *ret_why set to a constant text, -ENOMEM,
 * -EMSGSIZE for a message that is larger than PLAIN_FRAME_MAX.
 */
#pragma once

#include "core/msg.h"

#define PLAIN_FRAME_MAX ((size_t)64 << 20) /* a reply carries a whole directory */
#define PLAIN_PATH_MAX	65536		   /* bytes of path and new_path */
#define PLAIN_DEPTH_MAX 8		   /* nesting inside an unknown key */

enum plain_op {
	PLAIN_LOOKUP = 0,
	PLAIN_GETATTR = 1,
	PLAIN_SETATTR = 2, /* mode only */
	PLAIN_READ = 3,
	PLAIN_WRITE = 4,
	PLAIN_CREATE = 5, /* without flags O_RDWR | O_CREAT | O_TRUNC */
	PLAIN_MKDIR = 6,
	PLAIN_UNLINK = 7, /* a file or an empty directory, as PLAIN_RMDIR */
	PLAIN_RMDIR = 8,
	PLAIN_RENAME = 9, /* path to new_path */
	PLAIN_OPEN = 10,
	PLAIN_RELEASE = 11,
	PLAIN_READDIR = 12,
	PLAIN_FSYNC = 13,
	PLAIN_MKDIRALL = 14, /* from here on existing servers answer -38 */
	PLAIN_TRUNCATE = 15, /* path or fh; the size in off, and in sz as well where it fits */
	PLAIN_SYMLINK = 16,  /* path is the link, data the target; or see enum plain_symlink */
	PLAIN_READLINK = 17, /* the target comes in data */
	PLAIN_LINK = 18,     /* path exists, new_path is made */
	PLAIN_FSYNC_PATH = 19,
	PLAIN_TIMES = 20, /* path or fh, atime_ns, mtime_ns */
	PLAIN_OPS = 21,	  /* the operations below this number are known to some plain peer */
	PLAIN_HELLO = 32, /* our own: data is a hello (transport/hello.h) */
};

/*
 * The high bits of `mode` where the server is written in Go (os.FileMode).
 * Only & 0777 is portable. The other bits are used where a server sets them: no Linux
 * mode has them, and a link or FIFO that is not recognised would be read as a file.
 */
#define PLAIN_MODE_DIR	  (1u << 31)
#define PLAIN_MODE_LINK	  (1u << 27)
#define PLAIN_MODE_DEVICE (1u << 26)
#define PLAIN_MODE_FIFO	  (1u << 25)
#define PLAIN_MODE_SOCKET (1u << 24)
#define PLAIN_MODE_SETUID (1u << 23)
#define PLAIN_MODE_SETGID (1u << 22)
#define PLAIN_MODE_CHAR	  (1u << 21)
#define PLAIN_MODE_STICKY (1u << 20)

/* os.FileMode of a Linux mode, and its set-id and sticky bits as Linux has them (07000). */
uint32_t plain_go_mode(uint32_t mode);
uint32_t plain_special_bits(uint32_t mode);

struct plain_request {
	uint32_t op;
	struct slice path, new_path;
	uint64_t fh;
	int64_t off;
	uint32_t sz;
	struct slice data;
	uint32_t flags; /* Linux open flags */
	uint32_t mode;
	uint32_t uid, gid; /* of the caller */
	bool has_atime, has_mtime;
	int64_t atime_ns, mtime_ns; /* since the epoch */
	bool bad_text;		    /* decoded: a path is not UTF-8; answer -EILSEQ */
};

struct plain_stat {
	int64_t size;
	uint32_t mode;
	int64_t mtime; /* seconds */
	bool is_dir;
	uint64_t ino; /* 0: the server has none */
	uint32_t uid, gid;
	bool has_ids; /* decoded: the message had uid or gid, of which 0 is left out */
};

struct plain_entry {
	struct slice name; /* decoded: any bytes; the caller checks them */
	bool is_dir;
	uint32_t mode;
	int64_t size;
	uint64_t ino;
};

struct plain_reply {
	int32_t err; /* negative errno, 0 on success */
	bool has_stat;
	struct plain_stat stat;
	struct slice data;
	uint32_t written;
	uint64_t fh;
	size_t entry_count;
	struct slice entries; /* encoded, one after the other: plain_entry_put, plain_entry_next */
};

/* A growing buffer. The owner initialises it with zeros. */
struct plain_buf {
	unsigned char *data;
	size_t len, cap;
};
void plain_buf_done(struct plain_buf *b);

/* Replace the content of b by the encoded message. */
int plain_request_encode(const struct plain_request *q, struct plain_buf *b);
int plain_reply_encode(const struct plain_reply *p, struct plain_buf *b);

/* Appends one entry to b. */
int plain_entry_put(struct plain_buf *b, const struct plain_entry *e);

int plain_request_decode(const void *frame, size_t len, struct plain_request *ret,
			 const char **ret_why);
/* Also checks every entry, so that plain_entry_next on ret->entries cannot fail. */
int plain_reply_decode(const void *frame, size_t len, struct plain_reply *ret,
		       const char **ret_why);

/* Takes one entry off *in; 1 got one, 0 at the end, -EPROTO. */
int plain_entry_next(struct slice *in, struct plain_entry *ret, const char **ret_why);
