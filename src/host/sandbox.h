/*
 * The sandbox of a server: what the process that speaks with guests has no use for, it cannot do.
 *
 * From the widest to the narrowest: no capability that its options do not need, no_new_privs, a
 * root of its own that holds the export alone (confine_root, with privileges), Landlock, seccomp;
 * and a broker (broker.h) for what has to be done outside. Calling sequence:
 *
 *	sandbox_new		before any thread, and before anything is opened
 *	sandbox_leave		any number: a file of ours that is to be gone at the end
 *	sandbox_enter		when all that lies outside is open: listeners, statistics, pidfile
 *	server_new		with sandbox_dir and sandbox_watch
 *	sandbox_text		the line that tells what is in force
 *	sandbox_free		at the end; removes those files
 *
 * A part that cannot be had is left out with SANDBOX_TRY, and is an error with SANDBOX_REQUIRE:
 *each of capabilities, no_new_privs and seccomp, and at least one of root and Landlock. With
 *SANDBOX_OFF nothing of it is done but the removing of files.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum sandbox_mode { SANDBOX_TRY, SANDBOX_REQUIRE, SANDBOX_OFF };

#define SANDBOX_TEXT_MAX 512

struct sandbox;
struct watch_group;

struct sandbox_options {
	enum sandbox_mode mode;
	const char *dir; /* the export */
	bool read_only, special;
};

/* 0 or -errno with one line in err. */
int sandbox_new(const struct sandbox_options *o, struct sandbox **ret, char *err, size_t err_len);
int sandbox_leave(struct sandbox *s, const char *path); /* 0 or -errno */
int sandbox_enter(struct sandbox *s, char *err, size_t err_len);
void sandbox_free(struct sandbox *s); /* NULL is allowed */

/* After sandbox_enter: the export as it is to be opened; the fanotify group, or NULL. */
const char *sandbox_dir(const struct sandbox *s);
bool sandbox_privileged(const struct sandbox *s); /* as creds_privileged said before */
bool sandbox_confines(const struct sandbox *s);	  /* Landlock is in force */
const struct watch_group *sandbox_watch(const struct sandbox *s);
void sandbox_text(const struct sandbox *s, char text[SANDBOX_TEXT_MAX]);
