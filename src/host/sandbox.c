#include "host/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cleanup.h"
#include "host/broker.h"
#include "host/confine.h"
#include "host/creds.h"
#include "host/leftovers.h"
#include "host/watch.h"

#define CAP(n) (UINT64_C(1) << (n))

enum part { CAPABILITIES, NO_NEW_PRIVS, ROOT, LANDLOCK, SECCOMP, PARTS };

static const char *const names[PARTS] = {
	[CAPABILITIES] = "capabilities", [NO_NEW_PRIVS] = "no_new_privs",
	[ROOT] = "a root of its own",	 [LANDLOCK] = "Landlock",
	[SECCOMP] = "seccomp",
};

struct sandbox {
	struct sandbox_options options;
	char *dir;		  /* absolute */
	struct broker *broker;	  /* NULL: off */
	struct leftovers files;	  /* off */
	struct watch_group group; /* fd -1: none */
	bool privileged;
	uint64_t caps;	 /* that stay */
	int part[PARTS]; /* 0, or -errno: why it is not in force */
};

/* ---- before ---- */

int sandbox_new(const struct sandbox_options *o, struct sandbox **ret, char *err, size_t err_len)
{
	CLEANUP_FREE struct sandbox *s = calloc(1, sizeof(*s));
	int r = s == NULL ? -ENOMEM : 0;

	if (r == 0) {
		s->options = *o;
		s->group.fd = -1;
		if (o->mode != SANDBOX_OFF)
			r = broker_start(&s->broker);
	}
	if (r < 0) {
		(void)snprintf(err, err_len, "cannot start the sandbox's broker: %s", strerror(-r));
		return r;
	}
	*ret = TAKE_PTR(s);
	return 0;
}

int sandbox_leave(struct sandbox *s, const char *path)
{
	return s->broker != NULL ? broker_remember(s->broker, path)
				 : leftovers_add(&s->files, path);
}

void sandbox_free(struct sandbox *s)
{
	if (s == NULL)
		return;
	broker_end(s->broker);
	leftovers_remove(&s->files);
	cleanup_close(&s->group.fd);
	free(s->dir);
	free(s);
}

/* ---- what the options need ---- */

/* To read, and to find by handle; and to create as any user, where anything is created. */
static uint64_t needed(const struct sandbox_options *o)
{
	uint64_t caps = CAP(CAP_DAC_READ_SEARCH) | CAP(CAP_FOWNER); /* O_NOATIME */

	if (!o->read_only)
		caps |= CAP(CAP_CHOWN) | CAP(CAP_DAC_OVERRIDE) | CAP(CAP_FSETID) | CAP(CAP_SETUID) |
			CAP(CAP_SETGID);
	if (o->special && !o->read_only)
		caps |= CAP(CAP_MKNOD);
	if (o->special) /* trusted.overlay.*, also to see them */
		caps |= CAP(CAP_SYS_ADMIN);
	return caps & confine_caps_held();
}

static int mark_outside(void *arg, uint64_t mask, int fd)
{
	return broker_mark(arg, mask, fd);
}

/* A group that may mark file systems is made by one who may. */
static void open_group(struct sandbox *s)
{
	if (!(confine_caps_held() & CAP(CAP_SYS_ADMIN)) || watch_group_open(&s->group) < 0)
		return;
	s->group.mark = mark_outside;
	s->group.mark_arg = s->broker;
}

/* ---- entering ---- */

/* Whether Landlock is in force is found out: whatever is not the export's cannot be opened. */
static bool is_confined(const char *dir)
{
	CLEANUP_CLOSE int fd = -1;

	if (strcmp(dir, "/") == 0)
		return true;
	fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 && errno == EACCES;
}

static int enter_root(struct sandbox *s)
{
	int r = confine_root(s->dir, s->options.read_only);

	if (r == 0) {
		free(s->dir);
		s->dir = strdup(CONFINE_EXPORT);
	}
	return r < 0 ? r : s->dir == NULL ? -ENOTRECOVERABLE : 0;
}

static int enter_files(const struct sandbox *s)
{
	int abi, r = confine_files(s->dir, s->options.read_only, s->options.special, &abi);

	return r < 0 || is_confined(s->dir) ? r : -EINVAL;
}

static int enter_caps(struct sandbox *s)
{
	s->caps = needed(&s->options);
	int r = confine_caps(s->caps);
	return r < 0 || confine_caps_held() == s->caps ? r : -EINVAL;
}

static bool required(const struct sandbox *s, enum part p)
{
	return p == ROOT ? s->part[LANDLOCK] < 0 : p == LANDLOCK ? s->part[ROOT] < 0 : true;
}

static const char *why(enum part p, int r)
{
	if (p == ROOT && r == -EXDEV)
		return "what is mounted below would not be seen, those mounts are not shared";
	if (p == SECCOMP && r == -EOPNOTSUPP)
		return "it was built without";
	if (p == LANDLOCK && (r == -EOPNOTSUPP || r == -ENOSYS))
		return "this kernel has none that will do";
	return strerror(-r);
}

static int complain(const struct sandbox *s, char *err, size_t err_len)
{
	for (enum part p = 0; p < PARTS; p++) {
		if (s->part[p] == 0 || (s->part[p] != -ENOTRECOVERABLE &&
					(s->options.mode == SANDBOX_TRY || !required(s, p))))
			continue;
		(void)snprintf(err, err_len, "--sandbox=%s: without %s: %s",
			       s->options.mode == SANDBOX_TRY ? "try" : "require", names[p],
			       why(p, s->part[p]));
		return s->part[p];
	}
	return 0;
}

int sandbox_enter(struct sandbox *s, char *err, size_t err_len)
{
	struct stat st;
	int r = 0;

	s->dir = realpath(s->options.dir, NULL);
	if (s->dir == NULL || stat(s->dir, &st) < 0)
		r = -errno;
	else if (!S_ISDIR(st.st_mode))
		r = -ENOTDIR;
	if (r < 0) {
		(void)snprintf(err, err_len, "cannot export '%s': %s", s->options.dir,
			       strerror(-r));
		return r;
	}
	if (s->options.mode == SANDBOX_OFF)
		return 0;
	s->privileged = creds_privileged();
	open_group(s);
	r = broker_seal(s->broker, s->group.fd);
	if (r < 0) {
		(void)snprintf(err, err_len, "cannot start the sandbox's broker: %s", strerror(-r));
		return r;
	}
	s->part[ROOT] = enter_root(s);
	s->part[CAPABILITIES] = enter_caps(s);
	s->part[NO_NEW_PRIVS] = confine_no_new_privs();
	s->part[LANDLOCK] = enter_files(s);
	s->part[SECCOMP] = confine_calls(CONFINE_SERVER);
	return complain(s, err, err_len);
}

/* ---- what is in force ---- */

const char *sandbox_dir(const struct sandbox *s)
{
	return s->dir;
}

bool sandbox_privileged(const struct sandbox *s)
{
	return s->privileged;
}

bool sandbox_confines(const struct sandbox *s)
{
	return s->options.mode != SANDBOX_OFF && s->part[LANDLOCK] == 0;
}

const struct watch_group *sandbox_watch(const struct sandbox *s)
{
	return s->group.fd >= 0 ? &s->group : NULL;
}

static size_t add(char *text, size_t at, const char *before, const char *what)
{
	int n = snprintf(text + at, SANDBOX_TEXT_MAX - at, "%s%s", before, what);

	return at + (size_t)n < SANDBOX_TEXT_MAX ? at + (size_t)n : SANDBOX_TEXT_MAX - 1;
}

void sandbox_text(const struct sandbox *s, char text[SANDBOX_TEXT_MAX])
{
	size_t at = add(text, 0, "", "sandbox: ");
	char count[32];

	if (s->options.mode == SANDBOX_OFF) {
		(void)add(text, at, "", "off");
		return;
	}
	(void)snprintf(count, sizeof(count), "%d capabilities", __builtin_popcountll(s->caps));
	at = add(text, at, "", s->caps == 0 ? "no capabilities" : count);
	for (enum part p = NO_NEW_PRIVS; p < PARTS; p++)
		if (s->part[p] == 0)
			at = add(text, at, ", ", names[p]);
	for (enum part p = 0; p < PARTS; p++) {
		if (s->part[p] == 0)
			continue;
		at = add(text, at, "; without ", names[p]);
		at = add(text, at, ": ", why(p, s->part[p]));
	}
}
