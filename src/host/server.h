/*
 * The host server: exports one directory to any number of clients.
 *
 * Calling sequence: server_new, then server_add for every connected socket
 * (from any thread; the server takes it over) or server_listen for listening
 * ones, then server_run until server_stop (async-signal-safe), then
 * server_free, which waits for the threads of all clients.
 *
 * The export is confined: every name is resolved from a directory fd by
 * openat2(2) with RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS |
 * RESOLVE_NO_SYMLINKS; a symbolic link is the guest's to follow.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct admit;
struct owners;
struct plain_server;
struct secret;
struct server;
struct state;
struct stats;
struct watch_group;

enum xdev { XDEV_FOLLOW, XDEV_HIDE };

/* Symbolic links that clients make: all, those that stay inside (links.h), none. */
enum symlinks { SYMLINKS_ALLOW, SYMLINKS_RELATIVE, SYMLINKS_DENY };

struct server_config {
	const char *dir;	  /* exported directory */
	const char *plain_prefix; /* the path by which plain clients call dir, "/workspace" */
	const struct plain_server *plain; /* how plain clients are served */
	bool plain_follow; /* plain clients see the targets instead of symbolic links */
	bool read_only;
	bool special;  /* sockets and device nodes may be created */
	bool no_setid; /* no file gets a set-id bit, and every write takes them off */
	/*
	 * All files have this owner: new files get these ids, existing files are shown with
	 * them, and no other ids can be set. There are no set-id bits and no devices.
	 */
	bool squash;
	uid_t squash_uid;
	gid_t squash_gid;
	const struct owners *owners; /* whose ids are others in the guest; NULL: nobody's */
	const struct admit *admit;   /* who may connect; NULL: everybody who can */
	const struct secret *secret; /* that clients have to have; NULL: none */
	bool privileged;	     /* it was, whatever is left of that by now */
	bool confined;		     /* by Landlock, to dir */
	enum xdev xdev;
	enum symlinks symlinks;
	unsigned session_grace_ms; /* how long a client that is away keeps its session, */
	unsigned session_lease_ms; /* and its locks; 0: 10 s */
	unsigned ack_ms;	   /* how long a change waits for another client's ACK; 0: 10 s */
	size_t nodes_max;	   /* how many all clients together may hold; 0: 16 Mi */
	struct state
		*state; /* where sessions outlive the server; NULL: nowhere. Outlives it, too */
	struct stats *stats;		 /* NULL: nothing is counted */
	const struct watch_group *watch; /* of fanotify, borrowed; NULL: the server opens one */
};

/* 0 or -errno with one line in err. */
int server_new(const struct server_config *config, struct server **ret, char *err, size_t err_len);
void server_free(struct server *s);

/* A connected socket. -EACCES: its peer may not connect, which stands in the log. */
int server_add(struct server *s, int fd);
int server_listen(struct server *s, int fd); /* a listening socket */

/* Accepts clients. Returns 0 after server_stop, or with once when the last client has gone. */
int server_run(struct server *s, bool once);
void server_stop(struct server *s);
