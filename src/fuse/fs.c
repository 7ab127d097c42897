#include "fuse/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/log.h"
#include "fuse/control.h"
#include "fuse/fs_priv.h"

/* ---- mounting ---- */

/* Where libfuse's words go while fs_mount runs: they become its error. */
static _Thread_local struct {
	char *buf;
	size_t len;
} capture;

/* libfuse's own messages, under our name and level. */
static void fuse_log_line(enum fuse_log_level level, const char *fmt, va_list ap)
{
	char line[1024];
	int n = vsnprintf(line, sizeof(line), fmt, ap);

	while (n > 0 && n < (int)sizeof(line) && line[n - 1] == '\n')
		line[--n] = '\0';
	if (capture.buf != NULL && level <= FUSE_LOG_WARNING) {
		(void)snprintf(capture.buf, capture.len, "%s", line);
		return;
	}
	log_line(level <= FUSE_LOG_ERR	    ? LOG_ERR
		 : level <= FUSE_LOG_NOTICE ? LOG_NOTICE
					    : LOG_DEBUG,
		 "%s", line);
}

/* The value of a -o option: commas and backslashes in it are escaped for libfuse. */
static void append_escaped(char *to, size_t cap, const char *text)
{
	size_t n = strlen(to);

	for (; *text != '\0' && n + 3 < cap; text++) {
		if (*text == ',' || *text == '\\')
			to[n++] = '\\';
		to[n++] = *text;
	}
	to[n] = '\0';
}

static int session_new(struct fs *fs, struct fuse_session **ret)
{
	static const struct fuse_lowlevel_ops base = {.init = init_agree};
	struct fuse_lowlevel_ops ops = base;
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	char opts[8192];

	ops_names(&ops);
	ops_dir(&ops);
	ops_file(&ops);
	if (fs->options.host_locks)
		ops_lock(&ops);
	if (fs->options.xattr)
		ops_xattr(&ops);
	(void)snprintf(opts, sizeof(opts), "subtype=vsockfs,default_permissions%s%s%s,fsname=",
		       fs->options.allow_other ? ",allow_other" : "",
		       fs->options.read_only ? ",ro" : "",
		       fs->options.mount_flags[0] != '\0' ? "," : "");
	if (fs->options.mount_flags[0] != '\0') {
		char *at = strstr(opts, ",fsname=");

		(void)snprintf(at, sizeof(opts) - (size_t)(at - opts),
			       "%s,fsname=", fs->options.mount_flags);
	}
	append_escaped(opts, sizeof(opts), fs->options.fsname);
	if (fuse_opt_add_arg(&args, "vsockfs") < 0 || fuse_opt_add_arg(&args, "-o") < 0 ||
	    fuse_opt_add_arg(&args, opts) < 0 ||
	    (fs->options.debug && fuse_opt_add_arg(&args, "-d") < 0)) {
		fuse_opt_free_args(&args);
		return -ENOMEM;
	}
	struct fuse_session *se = fuse_session_new(&args, &ops, sizeof(ops), fs);
	fuse_opt_free_args(&args);
	if (se == NULL)
		return -EINVAL;
	*ret = se;
	return 0;
}

int fs_open(struct cache *cache, const struct fs_options *options, const char *mountpoint,
	    struct channel *channel, struct fs **ret, char *err, size_t err_len)
{
	struct fs *fs = calloc(1, sizeof(*fs));

	if (fs == NULL || (fs->mountpoint = strdup(mountpoint)) == NULL) {
		free(fs);
		(void)snprintf(err, err_len, "out of memory");
		return -ENOMEM;
	}
	fs->cache = cache;
	fs->options = *options;
	fs->server = &cache_backend(cache)->info;
	fs->stats = options->stats;
	(void)pthread_rwlock_init(&fs->forcing, NULL);
	(void)pthread_mutex_init(&fs->lock, NULL);
	fuse_set_log_func(fuse_log_line);

	char why[512] = "", device[32];
	capture.buf = why;
	capture.len = sizeof(why);
	int r = alarm_init(&fs->watch);
	if (r == 0)
		r = session_new(fs, &fs->se);
	if (r == 0 && options->takes_over) {
		fs->device_channel = channel_device(options->device_fd);
		channel = &fs->device_channel;
	} else if (r == 0 && channel == NULL) {
		fs->mounted = fuse_session_mount(fs->se, mountpoint) == 0;
		r = fs->mounted ? 0 : -EIO;
	}
	if (r == 0) {
		if (channel == NULL)
			fs->device_channel = channel_device(fuse_session_fd(fs->se));
		fs->channel = channel != NULL ? channel : &fs->device_channel;
		r = channel_attach(fs);
	}
	capture.buf = NULL;
	if (r == 0 && device_number(fs, device, sizeof(device)))
		(void)snprintf(fs->device, sizeof(fs->device), "%s", device);
	if (r == 0)
		r = notify_new(fs, &fs->notify);
	if (r < 0) {
		(void)snprintf(err, err_len, "%s: cannot mount here%s%s", mountpoint,
			       why[0] != '\0' ? ": " : "", why);
		fs_free(fs);
		return r;
	}
	cache_set_sink(cache, &notify_sink, fs->notify);
	*ret = fs;
	return 0;
}

int fs_mount(struct cache *cache, const struct fs_options *options, const char *mountpoint,
	     struct fs **ret, char *err, size_t err_len)
{
	struct fs *fs;
	int r = fs_open(cache, options, mountpoint, NULL, &fs, err, err_len);

	if (r < 0)
		return r;
	if (options->takes_over) {
		r = init_replay(fs);
		if (r == 0)
			r = kfiles_restore(fs);
	}
	if (r == 0)
		r = notify_start(fs->notify);
	if (r == 0)
		r = control_new(fs, &fs->control);
	if (r < 0) {
		(void)snprintf(err, err_len, "%s: %s", mountpoint, strerror(-r));
		fs_free(fs);
		return r;
	}
	fs->trace = control_trace(fs->control);
	*ret = fs;
	return 0;
}

/* ---- life ---- */

unsigned fs_connection(const struct fs *fs)
{
	unsigned minor;

	return sscanf(fs->device, "%*u:%u", &minor) == 1 ? minor : 0;
}

int fs_device(const struct fs *fs)
{
	return fs->channel->fd;
}

int fs_take_over(struct fs *fs)
{
	int r = loop_take_over(fs);

	if (r == 0)
		cache_drop_restored(fs->cache);
	return r;
}

int fs_run(struct fs *fs)
{
	return loop_run(fs);
}

static bool unmount_by_helper(const struct fs *fs, bool lazy)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (lazy)
			(void)execlp("fusermount3", "fusermount3", "-u", "-q", "-z", "--",
				     fs->mountpoint, (char *)NULL);
		else
			(void)execlp("fusermount3", "fusermount3", "-u", "-q", "--", fs->mountpoint,
				     (char *)NULL);
		_exit(127);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	       WEXITSTATUS(status) == 0;
}

/*
 * Unmounts; a mount that is in use is taken out of the tree and its users get
 * ENOTCONN, for whoever sent the signal wants the program to end.
 */
void fs_stop(struct fs *fs)
{
	char dev[32];

	if (device_number(fs, dev, sizeof(dev))) {
		if (geteuid() == 0) {
			if (umount2(fs->mountpoint, UMOUNT_NOFOLLOW) < 0 && errno == EBUSY) {
				log_notice("%s is in use; unmounting it all the same",
					   fs->mountpoint);
				/* what waits is told so first: nobody will read it any more */
				(void)umount2(fs->mountpoint, MNT_FORCE | UMOUNT_NOFOLLOW);
				(void)umount2(fs->mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW);
			}
		} else if (!unmount_by_helper(fs, false)) {
			(void)unmount_by_helper(fs, true);
		}
	}
	loop_stop(fs);
}

/*
 * Makes libfuse pass over the unmounting, whose mount is gone: it would take away whatever is
 * there now. It takes POLLERR for that (fuse_kern_unmount), but with users left there is none.
 */
static void mount_is_gone(const struct fs *fs)
{
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return;
	(void)close(p[0]);
	(void)dup3(p[1], fuse_session_fd(fs->se), O_CLOEXEC);
	(void)close(p[1]);
}

void fs_free(struct fs *fs)
{
	char dev[32];

	if (fs == NULL)
		return;
	control_stop(fs->control);
	cache_set_sink(fs->cache, NULL, NULL);
	notify_free(fs->notify);
	if (fs->se != NULL) {
		if (fs->mounted && !device_number(fs, dev, sizeof(dev)))
			mount_is_gone(fs);
		if (fs->mounted)
			fuse_session_unmount(fs->se);
		channel_detach(fs);
		fuse_session_destroy(fs->se);
	}
	kfiles_free(fs);
	krequests_free(fs);
	free(fs->doubts);
	control_free(fs->control);
	(void)pthread_mutex_destroy(&fs->lock);
	(void)pthread_rwlock_destroy(&fs->forcing);
	alarm_done(&fs->watch);
	free(fs->mountpoint);
	free(fs);
}
