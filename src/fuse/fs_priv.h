/* Declarations that the files of src/fuse share. */
#pragma once

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "cache/cache.h"
#include "cache/listing.h"
#include "core/clock.h"
#include "core/paged.h"
#include "fuse/channel.h"
#include "fuse/fs.h"
#include "fuse/fuse_api.h"
#include "fuse/notify.h"

#define WORKERS_MAX	 8
#define BUFFERS_MAX	 8	 /* of a little over 1 MiB each */
#define LOOP_WAKE_SIGNAL SIGUSR2 /* makes a worker's read(2) return */

struct fs {
	struct cache *cache;
	struct fs_options options;
	const struct backend_info *server; /* the backend's: its facts may change */
	struct stats *stats;
	struct fuse_session *se;
	struct channel *channel; /* device_channel, or that of fs_open's caller */
	struct channel device_channel;
	char *mountpoint;
	struct notify *notify;
	struct control *control;
	struct trace *trace; /* of control; NULL before it starts */
	bool mounted;
	bool replaying;	     /* the kernel's INIT, for libfuse alone */
	char device[32];     /* "MAJOR:MINOR" */
	bool expire_entries; /* the kernel knows of entries that only expire */
	bool masks;	     /* the kernel leaves the caller's umask to us */
	atomic_bool stopping;

	/* shared from the moment that a reply forces a size until it has been written */
	pthread_rwlock_t forcing;
	pthread_mutex_t lock;	    /* the fields below */
	struct krequest *in_flight; /* every request that waits for the host */
	struct kfile *files;	    /* open ones: what is left at the end is freed */
	struct paged kfiles;	    /* by number; who knows a number needs no lock to look */
	uint64_t numbers, free_number;
	struct krequest *spare; /* freed requests, to be used again */
	unsigned spare_count;
	void *buffers[BUFFERS_MAX]; /* receive buffers that requests gave back */
	unsigned buffer_count;
	unsigned workers_waiting;
	pthread_t workers[WORKERS_MAX];
	unsigned worker_count, workers_joined;
	struct alarm watch; /* rings: a request was interrupted, or watch_ends */
	bool watch_ends;
	bool lease_changed; /* by whoever rings watch */
	uint64_t *doubts;   /* nodes that the kernel did not know when we took over; the watch's, */
	size_t n_doubts;    /* which looks again at */
	uint64_t doubt_at;
};

/* An open file or directory, whose number is in fuse_file_info.fh; that is 0 with no_open. */
struct kfile {
	uint64_t number;
	struct listing *listing; /* of a directory; what follows is of files */
	uint64_t fh;		 /* the server's */
	bool flush;		 /* its file system may report errors at close */
	bool writes;		 /* open for writing */
	bool direct;		 /* FOPEN_DIRECT_IO: written past the kernel's cache */
	bool again;		 /* another open(2) may have it when this one is closed */
	atomic_bool locked;	 /* a lock was granted through it */
	atomic_bool lost;	 /* which the server has released since: nothing is done any more */
	struct kfile *prev, *next; /* fs.lock */
};

/*
 * One request of the kernel that waits for the host. Answered exactly once:
 * by its completion, or earlier with EINTR because its task is being killed;
 * whoever wins krequest_claim replies.
 */
struct krequest {
	struct cache_req creq; /* first */
	struct fs *fs;
	fuse_req_t req;
	void (*finish)(struct krequest *r, const struct cache_reply *reply);
	atomic_bool answered;

	/* fs.lock */
	struct krequest *prev, *next;
	uint64_t unique;
	pid_t pid;
	bool interrupted, waits_for_lock;
	struct cache_holds *holds; /* the host has done it, and the reply waits */

	/* State of single operations, from the request to its reply. */
	fuse_ino_t ino, ino2;
	uint64_t off;
	size_t size;
	size_t written; /* WRITE: bytes before off that another one has written (write_rest) */
	bool plus;
	bool past_pages; /* WRITE: cache_direct_write ends with it */
	bool cuts;	 /* counted: cache_cut_begins */
	struct fuse_file_info fi;
	struct kfile *file;
	struct listing *listing;
	void *buffer; /* the receive buffer that holds the payload */
};

/* ---- krequest.c ---- */

/* The request that this worker is reading: set by loop.c before libfuse dispatches it. */
struct current {
	uint64_t unique;
	struct fuse_buf *buf;
	bool tmpfile;	/* FUSE_TMPFILE, which this libfuse does not know */
	bool strip_ids; /* FUSE_WRITE_KILL_SUIDGID, which it does not pass on */
	bool unpaged;	/* READ, WRITE: comes from fuse_direct_io, which holds no pages */
};
extern _Thread_local struct current current;

static inline struct fs *req_fs(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* NULL after having replied ENOMEM. */
struct krequest *krequest_new(fuse_req_t req, enum msg_op op,
			      void (*finish)(struct krequest *r, const struct cache_reply *reply));
#define REQUEST_SET(r, field, value) MSG_SET(&(r)->creq.call.req, field, value)

/* Sets name or name2; false after having replied ENAMETOOLONG and freed r. */
bool krequest_name(struct krequest *r, const char *name);
bool krequest_name2(struct krequest *r, const char *name);
/*
 * Which open file of the server r goes by: that of fi; with no_open the cache finds one. False
 * after having replied EIO and freed r: a lock was taken through it, and is lost.
 */
bool krequest_file(struct krequest *r, const struct fuse_file_info *fi);
/* The payload lies in the receive buffer: keeps that until the request is done. */
void krequest_payload(struct krequest *r, const void *data, size_t len);
/* Of what is to be made; the caller's umask too, where the server applies it. */
void krequest_mode(struct krequest *r, mode_t mode);
/* uid, gid and, where the mode makes them matter, groups of the caller. */
void krequest_caller(struct krequest *r, mode_t mode);
void krequest_submit(struct krequest *r, fuse_ino_t ino, fuse_ino_t ino2);
/* Submits through a listing. */
void krequest_fetch(struct krequest *r, struct listing *l, uint64_t off, bool plus);
void krequest_free(struct krequest *r);
/*
 * The answer, which is ready, waits for something: whoever is killed meanwhile need not wait on.
 * krequest_waited ends that; false: he was, and has been answered.
 */
void krequest_wait(struct krequest *r);
bool krequest_waited(struct krequest *r);
/* A receive buffer for the next request; NULL: libfuse is to make one. */
void *krequest_buffer(struct fs *fs);
void krequests_free(struct fs *fs);

/*
 * A request that the cache can answer is answered before a krequest is made: it is in no table, for
 * nothing is waited for. `reply` writes such an answer; one that has to wait for the kernel becomes
 * a krequest, which `finish` ends.
 */
struct finisher {
	void (*reply)(struct fs *fs, fuse_req_t req, fuse_ino_t ino,
		      const struct cache_reply *reply);
	void (*finish)(struct krequest *r, const struct cache_reply *reply);
};
/* Of a LOOKUP of name, or a GETATTR (name ""); false: it is to be submitted. */
bool krequest_hit(fuse_req_t req, enum msg_op op, fuse_ino_t ino, const char *name,
		  const struct finisher *f);

/* FUSE_INTERRUPT for unique; false if no such request is known (yet). */
bool krequest_interrupt(struct fs *fs, uint64_t unique);
/*
 * Answers EINTR for interrupted requests whose task has a SIGKILL pending.
 * True while some interrupted request still waits.
 */
bool krequests_check_killed_locked(struct fs *fs);

/* Finishers that many operations share. */
void finish_err(struct krequest *r, const struct cache_reply *reply);
void finish_entry(struct krequest *r, const struct cache_reply *reply);
void finish_attr(struct krequest *r, const struct cache_reply *reply);
void finish_data(struct krequest *r, const struct cache_reply *reply);
extern const struct finisher finisher_entry, finisher_attr;

/* ---- ids.c ---- */

void attr_to_stat(const struct fs *fs, const struct attr *a, struct stat *ret);
double seconds(uint64_t ns);
uint32_t uid_shown(const struct fs *fs, uint32_t uid);
uint32_t gid_shown(const struct fs *fs, uint32_t gid);
uint32_t uid_to_server(const struct fs *fs, uint32_t uid);
uint32_t gid_to_server(const struct fs *fs, uint32_t gid);
/* Whether files may be given to this id at all under the two-way mapping. */
bool uid_settable(const struct fs *fs, uint32_t uid);
bool gid_settable(const struct fs *fs, uint32_t gid);
void entry_param(const struct fs *fs, uint64_t ino, const struct attr *a, uint64_t attr_ttl,
		 uint64_t entry_ttl, struct fuse_entry_param *ret);

/* ---- fence.c ---- */

/*
 * Calls done, on whatever thread, when everything that had happened on the
 * host is visible in the mount, or with an error:
 * -ENOTCONN, -ENOMEM.
 */
void fs_fence_async(struct fs *fs, void (*done)(void *arg, int err, uint64_t seq), void *arg);

/* ---- kfile.c ---- */

/* NULL for number 0, and for one that was released. */
struct kfile *kfile_of(const struct fs *fs, const struct fuse_file_info *fi);

/* NULL without memory. */
struct kfile *kfile_new(struct fs *fs);
void kfile_free(struct fs *fs, struct kfile *f); /* NULL is allowed */
void kfiles_free(struct fs *fs);
/* The kernel is about to hear that it is released: the number is used again only after that. */
void kfile_released(const struct kfile *f);
/* Its record for whoever takes our place, before the kernel gets the number by the answer to
 * unique. */
void kfile_outlive(const struct fs *fs, const struct kfile *f, fuse_ino_t ino, uint64_t unique);
void kfile_was_locked(const struct fs *fs, struct kfile *f);
void kfile_not_again(const struct fs *fs, struct kfile *f);
/* All that the records tell of. 0 or -errno. */
int kfiles_restore(struct fs *fs);
void kfiles_not_opened(struct fs *fs, uint64_t unique);
/* The server has released all locks: whoever had one must not go on as if he had it. */
void kfiles_lose_locks(struct fs *fs);

/* ---- ops_*.c ---- */

void ops_names(struct fuse_lowlevel_ops *ops);
void ops_dir(struct fuse_lowlevel_ops *ops);
void ops_file(struct fuse_lowlevel_ops *ops);
void ops_lock(struct fuse_lowlevel_ops *ops);
void ops_xattr(struct fuse_lowlevel_ops *ops);

/* ---- account.c ---- */

struct fuse_in_header;

void account_begin(struct fs *fs, const struct fuse_in_header *in);
/* For everything that is about to be written to the kernel. */
void account_end(struct fs *fs, const struct iovec *iov, int count);

/* ---- device.c ---- */

/* "MAJOR:MINOR" of the mount; false once it is gone. */
bool device_number(const struct fs *fs, char *ret, size_t len);
/* Set the readahead, in bytes, and max_background of a live mount. 0 or -errno. */
int device_readahead(struct fs *fs, uint64_t bytes);
int device_background(struct fs *fs, uint64_t n);

/* ---- init.c ---- */

/* libfuse's init. */
void init_agree(void *userdata, struct fuse_conn_info *conn);
/* libfuse is to be as it was when the kernel's INIT had been answered. 0 or -errno. */
int init_replay(struct fs *fs);
/* This thread reads a request; is about to write something; has handled the request. */
void init_begin(const struct fuse_in_header *in);
void init_reply(const struct iovec *iov, int count);
void init_done(struct fs *fs);

/* ---- fs.c ---- */

/*
 * fs_mount, but that no thread is started. With a channel there is no mount either: the kernel
 * is whoever is behind it, who calls loop_take and notify_turn.
 */
int fs_open(struct cache *cache, const struct fs_options *options, const char *mountpoint,
	    struct channel *channel, struct fs **ret, char *err, size_t err_len);

/* ---- loop.c ---- */

/* Reads one request and sees to it; buf is the thread's own. False: no more come. */
bool loop_take(struct fs *fs, struct fuse_buf *buf);
int loop_run(struct fs *fs);
/* Takes the requests that the kernel had sent to a client that was killed: see fs_take_over. */
int loop_take_over(struct fs *fs);
void loop_stop(struct fs *fs); /* makes loop_run return, and waits until it does */
