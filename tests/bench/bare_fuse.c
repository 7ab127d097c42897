/*
 * Floor 1: what one FUSE request costs when nothing is done for it. One file, "file", in one
 * directory; lookup, getattr, open and read are answered from memory by the thread that reads the
 * requests.
 *
 *   bare_fuse MOUNTPOINT FILE_BYTES ENTRY_TIMEOUT ATTR_TIMEOUT [relay]
 *
 * Stays in the foreground, until it is unmounted or SIGTERM.
 *
 * relay: each getattr of the file first goes as 64 bytes to another process, whose 200 bytes a
 * second thread receives and answers the kernel. These are the hops of vsockfs with nothing done at
 * any of them: the two floors added leave out what it costs that four threads, not twice two, take
 * turns on the processors.
 */
#define FUSE_USE_VERSION 34
#include <err.h>
#include <errno.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_INO 2
#define READ_MAX ((size_t)1 << 20)

union request {
	fuse_req_t req;
	char bytes[64];
};
union reply {
	fuse_req_t req;
	char bytes[200];
};

static struct {
	off_t size;
	double entry_timeout, attr_timeout;
	int relay; /* socket to the other process, or -1 */
	char data[READ_MAX];
} bare;

static struct stat attr_of(fuse_ino_t ino)
{
	struct stat st = {.st_ino = ino, .st_nlink = 1, .st_mode = S_IFREG | 0644};

	if (ino == FUSE_ROOT_ID) {
		st.st_mode = S_IFDIR | 0755;
		st.st_nlink = 2;
	} else {
		st.st_size = bare.size;
	}
	return st;
}

static void bare_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = {.ino = FILE_INO,
				     .entry_timeout = bare.entry_timeout,
				     .attr_timeout = bare.attr_timeout};

	if (parent != FUSE_ROOT_ID || strcmp(name, "file") != 0) {
		(void)fuse_reply_err(req, ENOENT);
		return;
	}
	e.attr = attr_of(FILE_INO);
	(void)fuse_reply_entry(req, &e);
}

static void answer_getattr(fuse_req_t req, fuse_ino_t ino)
{
	struct stat st = attr_of(ino);

	(void)fuse_reply_attr(req, &st, bare.attr_timeout);
}

static void bare_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	union request m = {.req = req};

	(void)fi;
	if (bare.relay < 0 || ino != FILE_INO)
		answer_getattr(req, ino);
	else if (send(bare.relay, &m, sizeof(m), MSG_NOSIGNAL) != sizeof(m))
		(void)fuse_reply_err(req, EIO);
}

/* ---- the relay ---- */

static void *receive_main(void *arg)
{
	union reply m;

	(void)arg;
	while (recv(bare.relay, &m, sizeof(m), MSG_WAITALL) == sizeof(m))
		answer_getattr(m.req, FILE_INO);
	return NULL;
}

static void serve(int fd)
{
	union request q;

	while (recv(fd, &q, sizeof(q), MSG_WAITALL) == sizeof(q)) {
		union reply p = {.bytes = {0}};

		p.req = q.req;
		if (send(fd, &p, sizeof(p), MSG_NOSIGNAL) != sizeof(p))
			return;
	}
}

static void start_relay(void)
{
	pthread_t receiver;
	int p[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p) < 0)
		err(1, "socketpair");
	pid_t pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (pid == 0) {
		(void)close(p[0]);
		serve(p[1]);
		_exit(0);
	}
	(void)close(p[1]);
	bare.relay = p[0];
	int e = pthread_create(&receiver, NULL, receive_main, NULL);
	if (e != 0)
		errx(1, "pthread_create: %s", strerror(e));
	(void)pthread_detach(receiver);
}

static void bare_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fuse_reply_open(req, fi);
}

static void bare_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		      struct fuse_file_info *fi)
{
	size_t left = off < bare.size ? (size_t)(bare.size - off) : 0;

	(void)ino;
	(void)fi;
	size = size < left ? size : left;
	(void)fuse_reply_buf(req, bare.data, size < READ_MAX ? size : READ_MAX);
}

int main(int argc, char **argv)
{
	static const struct fuse_lowlevel_ops ops = {
	    .lookup = bare_lookup,
	    .getattr = bare_getattr,
	    .open = bare_open,
	    .read = bare_read,
	};
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);

	bool relay = argc == 6 && strcmp(argv[5], "relay") == 0;

	if (argc != 5 && !relay)
		errx(2,
		     "usage: bare_fuse MOUNTPOINT FILE_BYTES ENTRY_TIMEOUT ATTR_TIMEOUT [relay]");
	bare.size = strtoll(argv[2], NULL, 10);
	bare.entry_timeout = strtod(argv[3], NULL);
	bare.attr_timeout = strtod(argv[4], NULL);
	memset(bare.data, 'x', sizeof(bare.data));
	bare.relay = -1;
	if (relay)
		start_relay();
	if (fuse_opt_add_arg(&args, argv[0]) < 0)
		err(1, "fuse_opt_add_arg");
	struct fuse_session *se = fuse_session_new(&args, &ops, sizeof(ops), NULL);
	if (se == NULL || fuse_set_signal_handlers(se) < 0 || fuse_session_mount(se, argv[1]) < 0)
		errx(1, "%s: cannot mount", argv[1]);
	int r = fuse_session_loop(se);
	fuse_session_unmount(se);
	fuse_remove_signal_handlers(se);
	fuse_session_destroy(se);
	fuse_opt_free_args(&args);
	return r < 0;
}
