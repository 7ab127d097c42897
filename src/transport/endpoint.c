#include "transport/endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/cleanup.h"

#define BACKLOG 64

static const struct {
	const char *scheme;
	enum endpoint_kind kind;
} schemes[] = {
	{"unix:", ENDPOINT_UNIX},
	{"vsock:", ENDPOINT_VSOCK},
	{"fd:", ENDPOINT_FD},
	{"dir:", ENDPOINT_DIR},
};

bool endpoint_is(const char *text)
{
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
		if (strncmp(text, schemes[i].scheme, strlen(schemes[i].scheme)) == 0)
			return true;
	return false;
}

/* The largest CID and the largest port: the kernel keeps the number above for "any". */
#define VSOCK_NUMBER_MAX (UINT32_MAX - 1)

/* A decimal number up to max that ends at `end`; "-1" and "any" are not numbers here. */
static bool parse_number(const char *text, char end, uint32_t max, uint32_t *ret, const char **rest)
{
	uint64_t v = 0;
	const char *p = text;

	for (; *p >= '0' && *p <= '9'; p++) {
		v = v * 10 + (uint64_t)(*p - '0');
		if (v > max)
			return false;
	}
	if (p == text || *p != end)
		return false;
	*ret = (uint32_t)v;
	*rest = p + (end != '\0');
	return true;
}

/* These functions parse the text behind the scheme. They return NULL, or the reason to refuse
 * it. */

static const char *parse_vsock(const char *rest, bool listening, struct endpoint *e)
{
	const char *p;
	uint32_t port;

	e->cid = listening ? VMADDR_CID_ANY : VSOCK_CID_DEFAULT;
	e->port = VSOCK_PORT_DEFAULT;
	if (*rest == '\0')
		return NULL;
	if (parse_number(rest, '\0', VSOCK_NUMBER_MAX, &port, &p)) {
		e->port = port;
		return listening ? NULL : "is that a CID or a port? say vsock:CID:PORT";
	}
	if (strchr(rest, ':') == NULL)
		return listening ? "the port is no number from 0 to 4294967294"
				 : "say vsock:CID:PORT";
	if (!parse_number(rest, ':', VSOCK_NUMBER_MAX, &e->cid, &p))
		return "the CID is no number from 0 to 4294967294";
	if (!parse_number(p, '\0', VSOCK_NUMBER_MAX, &e->port, &p))
		return "the port is no number from 0 to 4294967294";
	return NULL;
}

static const char *parse_fd(const char *rest, struct endpoint *e)
{
	const char *p;
	uint32_t n;

	if (!parse_number(rest, '\0', INT32_MAX, &n, &p))
		return "the descriptor is no number from 0 to 2147483647";
	e->fd = (int)n;
	return NULL;
}

static const char *parse_path(const char *rest, size_t room, struct endpoint *e)
{
	if (*rest == '\0')
		return "the path is missing";
	if (strlen(rest) >= room)
		return room < sizeof(e->path) ? "the path is too long for a Unix socket"
					      : "the path is too long";
	(void)snprintf(e->path, sizeof(e->path), "%s", rest);
	return NULL;
}

int endpoint_parse(const char *text, bool listening, struct endpoint *ret, char *err,
		   size_t err_len)
{
	struct endpoint e = {.fd = -1};
	const char *rest = NULL, *wrong = NULL;

	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]) && rest == NULL; i++) {
		size_t len = strlen(schemes[i].scheme);

		if (strncmp(text, schemes[i].scheme, len) == 0) {
			e.kind = schemes[i].kind;
			rest = text + len;
		}
	}
	if (rest == NULL || (listening && e.kind == ENDPOINT_DIR)) {
		(void)snprintf(err, err_len, "'%s' is no address; use %s", text,
			       listening ? "unix:PATH, vsock:[CID:]PORT or fd:N"
					 : "dir:PATH, unix:PATH, vsock:CID:PORT or fd:N");
		return -EINVAL;
	}
	switch (e.kind) {
	case ENDPOINT_UNIX:
		wrong = parse_path(rest, sizeof(((struct sockaddr_un *)0)->sun_path), &e);
		break;
	case ENDPOINT_DIR:
		wrong = parse_path(rest, sizeof(e.path), &e);
		break;
	case ENDPOINT_VSOCK:
		wrong = parse_vsock(rest, listening, &e);
		break;
	case ENDPOINT_FD:
		wrong = parse_fd(rest, &e);
		break;
	}
	if (wrong != NULL) {
		(void)snprintf(err, err_len, "'%s': %s", text, wrong);
		return -EINVAL;
	}
	*ret = e;
	return 0;
}

struct address {
	union {
		struct sockaddr any;
		struct sockaddr_un un;
		struct sockaddr_vm vm;
	} u;
	socklen_t len;
};

static void address_of(const struct endpoint *e, struct address *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (e->kind == ENDPOINT_UNIX) {
		ret->u.un.sun_family = AF_UNIX;
		memcpy(ret->u.un.sun_path, e->path, strlen(e->path) + 1);
		ret->len = sizeof(ret->u.un);
	} else {
		ret->u.vm.svm_family = AF_VSOCK;
		ret->u.vm.svm_cid = e->cid;
		ret->u.vm.svm_port = e->port;
		ret->len = sizeof(ret->u.vm);
	}
}

void endpoint_text(const struct endpoint *e, char *ret, size_t len)
{
	switch (e->kind) {
	case ENDPOINT_UNIX:
		(void)snprintf(ret, len, "unix:%s", e->path);
		break;
	case ENDPOINT_DIR:
		(void)snprintf(ret, len, "dir:%s", e->path);
		break;
	case ENDPOINT_VSOCK:
		if (e->cid == VMADDR_CID_ANY)
			(void)snprintf(ret, len, "vsock:%u", e->port);
		else
			(void)snprintf(ret, len, "vsock:%u:%u", e->cid, e->port);
		break;
	case ENDPOINT_FD:
		(void)snprintf(ret, len, "fd:%d", e->fd);
		break;
	}
}

int endpoint_check(const struct endpoint *e, char *err, size_t err_len)
{
	if (e->kind != ENDPOINT_FD || fcntl(e->fd, F_GETFD) >= 0)
		return 0;
	int r = -errno;
	(void)snprintf(err, err_len, "no such descriptor was inherited: %s", strerror(-r));
	return r;
}

static int inherited(const struct endpoint *e, int *ret_fd, char *err, size_t err_len)
{
	int fd = fcntl(e->fd, F_DUPFD_CLOEXEC, 3);

	if (fd < 0) {
		int r = -errno;
		(void)snprintf(err, err_len, "%s", strerror(-r));
		return r;
	}
	*ret_fd = fd;
	return 0;
}

static int failed(const char *what, char *err, size_t err_len)
{
	int r = -errno;

	(void)snprintf(err, err_len, "%s: %s", what, strerror(-r));
	return r;
}

/* The cause that an error of connect(2) has here, to be written behind the error's own text. */
static const char *meaning(int e)
{
	switch (e) {
	case ECONNREFUSED: /* of Unix sockets */
	case ECONNRESET:   /* of vsock */
		return "; nobody listens there";
	case EAGAIN:
		return "; whoever listens there accepts nobody";
	case ETIMEDOUT:
		return "; nobody answers there";
	case ENODEV:
		return "; there is no such machine, or no vsock here";
	default:
		return "";
	}
}

static int not_connected(int e, char *err, size_t err_len)
{
	(void)snprintf(err, err_len, "cannot connect: %s%s", strerror(e), meaning(e));
	return -e;
}

/* 0, or an errno. */
static int connect_within(int fd, const struct address *a, const struct patience *p)
{
	int e = 0;
	socklen_t len = sizeof(e);

	if (connect(fd, &a->u.any, a->len) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return errno;
	int r = patience_wait(p, fd, POLLOUT);
	if (r < 0)
		return -r;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &len) < 0 ? errno : e;
}

#define RESERVED_PORT_MAX 1023 /* LAST_RESERVED_PORT of af_vsock.c */
#define RESERVED_PORT_MIN 512

/* The kernel gives any other port to a socket that has none (vsock_auto_bind). */
static void take_reserved_port(int fd)
{
	struct sockaddr_vm vm = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY};

	for (vm.svm_port = RESERVED_PORT_MAX; vm.svm_port >= RESERVED_PORT_MIN; vm.svm_port--)
		if (bind(fd, (const struct sockaddr *)&vm, sizeof(vm)) == 0 || errno != EADDRINUSE)
			return;
}

int endpoint_connect(const struct endpoint *e, const struct patience *p, int *ret_fd, char *err,
		     size_t err_len)
{
	struct address a;

	if (e->kind == ENDPOINT_FD)
		return inherited(e, ret_fd, err, err_len);
	address_of(e, &a);
	CLEANUP_CLOSE int fd =
		socket(a.u.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return failed("cannot make a socket", err, err_len);
	if (e->kind == ENDPOINT_VSOCK)
		take_reserved_port(fd);
	int r = connect_within(fd, &a, p);
	if (r != 0)
		return not_connected(r, err, err_len);
	if (fcntl(fd, F_SETFL, O_RDWR) < 0)
		return failed("cannot make the socket block", err, err_len);
	*ret_fd = take_fd(&fd);
	return 0;
}

/* Removes a Unix socket that no one listens on; anything else stays and makes bind fail. */
static void remove_stale(const struct endpoint *e, const struct address *a)
{
	struct stat st;

	if (lstat(e->path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return;
	CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, &a->u.any, a->len) < 0 && errno == ECONNREFUSED)
		(void)unlink(e->path);
}

/* Whoever may rename in its directory could put something else there: only a socket is given away.
 */
static int give_socket(const char *path, const struct socket_file *file)
{
	CLEANUP_CLOSE int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -1;
	if (!S_ISSOCK(st.st_mode) || st.st_uid != geteuid()) {
		errno = ESTALE;
		return -1;
	}
	return fchownat(fd, "", file->uid, file->gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW);
}

/*
 * A process that may connect may read and write the export: so the socket's file is never more open
 * than it is to be, not for a moment (bind(2) applies the umask).
 */
static int bind_file(int fd, const struct endpoint *e, const struct address *a,
		     const struct socket_file *file)
{
	mode_t old = umask(0777 & ~file->mode);
	int r = bind(fd, &a->u.any, a->len);

	(void)umask(old);
	if (r == 0 && (file->uid != (uid_t)-1 || file->gid != (gid_t)-1))
		r = give_socket(e->path, file);
	return r;
}

int endpoint_listen(const struct endpoint *e, const struct socket_file *file, int *ret_fd,
		    bool *ret_connected, char *err, size_t err_len)
{
	static const struct socket_file owners_alone = {0600, (uid_t)-1, (gid_t)-1};
	struct address a;

	*ret_connected = false;
	if (e->kind == ENDPOINT_FD) {
		int accepts = 0;
		socklen_t len = sizeof(accepts);
		int r = inherited(e, ret_fd, err, err_len);

		if (r == 0)
			*ret_connected = getsockopt(*ret_fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts,
						    &len) < 0 ||
					 accepts == 0;
		return r;
	}
	address_of(e, &a);
	CLEANUP_CLOSE int fd = socket(a.u.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return failed("cannot make a socket", err, err_len);
	if (e->kind == ENDPOINT_UNIX)
		remove_stale(e, &a);
	int r = e->kind == ENDPOINT_UNIX ? bind_file(fd, e, &a, file != NULL ? file : &owners_alone)
					 : bind(fd, &a.u.any, a.len);
	if (r < 0 || listen(fd, BACKLOG) < 0)
		return failed("cannot listen", err, err_len);
	*ret_fd = take_fd(&fd);
	return 0;
}
