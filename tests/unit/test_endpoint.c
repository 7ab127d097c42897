/* Addresses: what is one, and Unix sockets and inherited descriptors. Nothing here opens a vsock.
 */
#include "temp_path.h"
#include "unit.h"

#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "transport/endpoint.h"

static char address[80];

static int make_address(void **state)
{
	int r = temp_setup(state);

	(void)snprintf(address, sizeof(address), "unix:%s", temp_path);
	return r;
}

/* ---- parsing ---- */

static struct endpoint parsed(const char *text, bool listening)
{
	struct endpoint e;
	char err[256] = "";

	if (endpoint_parse(text, listening, &e, err, sizeof(err)) != 0)
		fail_msg("%s: %s", text, err);
	return e;
}

/* Refused with one line that names the address and says what is wrong with it. */
static void refused_for(const char *why, const char *text, bool listening)
{
	struct endpoint e;
	char err[8192] = "";

	if (endpoint_parse(text, listening, &e, err, sizeof(err)) != -EINVAL)
		fail_msg("'%s' was accepted", text);
	assert_non_null(strstr(err, text));
	assert_non_null(strstr(err + strlen(text), why));
	assert_null(strchr(err, '\n'));
}

static void test_good(void **state)
{
	struct endpoint e;

	(void)state;
	for (int listening = 0; listening < 2; listening++) {
		e = parsed("unix:/run/x.sock", listening);
		assert_int_equal(e.kind, ENDPOINT_UNIX);
		assert_string_equal(e.path, "/run/x.sock");
		e = parsed("unix:relative", listening);
		assert_string_equal(e.path, "relative");
		e = parsed("fd:0", listening);
		assert_int_equal(e.kind, ENDPOINT_FD);
		assert_int_equal(e.fd, 0);
		e = parsed("fd:17", listening);
		assert_int_equal(e.fd, 17);
		e = parsed("vsock:3:1024", listening);
		assert_int_equal(e.kind, ENDPOINT_VSOCK);
		assert_int_equal(e.cid, 3);
		assert_int_equal(e.port, 1024);
		e = parsed("vsock:4294967294:4294967294", listening);
		assert_int_equal(e.cid, 4294967294u);
		assert_int_equal(e.port, 4294967294u);
	}
	e = parsed("vsock:", false);
	assert_int_equal(e.cid, VSOCK_CID_DEFAULT);
	assert_int_equal(e.cid, 2);
	assert_int_equal(e.port, 5001);
	e = parsed("vsock:", true);
	assert_int_equal(e.cid, VMADDR_CID_ANY);
	assert_int_equal(e.port, VSOCK_PORT_DEFAULT);
	e = parsed("vsock:1024", true);
	assert_int_equal(e.cid, VMADDR_CID_ANY);
	assert_int_equal(e.port, 1024);
	e = parsed("dir:/src:with:colons", false);
	assert_int_equal(e.kind, ENDPOINT_DIR);
	assert_string_equal(e.path, "/src:with:colons");
}

static void test_bad(void **state)
{
	static const struct {
		const char *why, *text;
	} bad[] = {
	    {"path is missing", "unix:"},
	    {"descriptor is no number", "fd:"},
	    {"descriptor is no number", "fd:-1"},
	    {"descriptor is no number", "fd:x"},
	    {"descriptor is no number", "fd:1x"},
	    {"descriptor is no number", "fd:2147483648"},
	    {"descriptor is no number", "fd: 1"},
	    {"port is no number", "vsock:2:"},
	    {"CID is no number", "vsock::5001"},
	    {"port is no number", "vsock:2:5001:1"},
	    {"", "vsock:x"},
	    {"port is no number", "vsock:2:x"},
	    {"CID is no number", "vsock:-1:5001"},
	    {"CID is no number", "vsock:any:5001"},
	    {"port is no number", "vsock:2:-1"},
	    {"CID is no number", "vsock:4294967295:1"},
	    {"port is no number", "vsock:2:4294967295"},
	    {"CID is no number", "vsock:99999999999:1"},
	    {"CID is no number", "vsock: 2:1"},
	    {"no address", "unix"},
	    {"no address", "/run/x.sock"},
	    {"no address", ""},
	    {"no address", "tcp:1.2.3.4:5"},
	    {"no address", "UNIX:/x"},
	    {"no address", " unix:/x"},
	};
	char text[8192] = "unix:";

	(void)state;
	for (size_t i = 0; i < COUNT(bad); i++) {
		refused_for(bad[i].why, bad[i].text, false);
		refused_for(bad[i].why, bad[i].text, true);
	}
	refused_for("no address", "dir:/x", true);
	refused_for("path is missing", "dir:", false);
	refused_for("a CID or a port?", "vsock:5001", false);
	refused_for("port is no number", "vsock:x", true);

	/* as long as a socket's address may be, and one more */
	size_t room = sizeof(((struct sockaddr_un *)0)->sun_path);
	memset(text + 5, 'x', room - 1);
	assert_int_equal(strlen(parsed(text, false).path), room - 1);
	text[5 + room - 1] = 'x';
	refused_for("too long for a Unix socket", text, false);
	memset(text, 'x', 4 + 4096);
	memcpy(text, "dir:", 4);
	refused_for("path is too long", text, false);
	text[4 + 4095] = '\0';
	assert_int_equal(strlen(parsed(text, false).path), 4095);
}

static void test_text(void **state)
{
	static const char *const same[] = {"unix:/run/x.sock", "dir:/src", "fd:17", "vsock:3:1024"};
	char text[ENDPOINT_TEXT_MAX];
	struct endpoint e;

	(void)state;
	for (size_t i = 0; i < COUNT(same); i++) {
		e = parsed(same[i], false);
		endpoint_text(&e, text, sizeof(text));
		assert_string_equal(text, same[i]);
	}
	e = parsed("vsock:", false);
	endpoint_text(&e, text, sizeof(text));
	assert_string_equal(text, "vsock:2:5001");
	e = parsed("vsock:1024", true);
	endpoint_text(&e, text, sizeof(text));
	assert_string_equal(text, "vsock:1024");
}

static void test_is(void **state)
{
	(void)state;
	assert_true(endpoint_is("unix:/x"));
	assert_true(endpoint_is("vsock:"));
	assert_true(endpoint_is("fd:3"));
	assert_true(endpoint_is("dir:."));
	assert_false(endpoint_is("/x"));
	assert_false(endpoint_is("fd"));
	assert_false(endpoint_is(""));
	assert_false(endpoint_is("xunix:/x"));
}

/* ---- Unix sockets ---- */

static int listen_on(const char *text, int *ret_fd, bool *ret_connected, char *err)
{
	struct endpoint e = parsed(text, true);

	err[0] = '\0';
	return endpoint_listen(&e, NULL, ret_fd, ret_connected, err, 256);
}

static int connect_to(const char *text, int *ret_fd, char *err)
{
	struct endpoint e = parsed(text, false);

	const struct patience patience = patience_new(UNIT_DEADLINE_S * 1000, -1);

	err[0] = '\0';
	return endpoint_connect(&e, &patience, ret_fd, err, 256);
}

static void assert_cloexec(int fd)
{
	assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
}

static void test_listen_and_connect(void **state)
{
	struct stat st;
	bool connected = true;
	char err[256], byte = 0;
	int listener, client;

	(void)state;
	(void)unlink(temp_path);
	assert_int_equal(connect_to(address, &client, err), -ENOENT);
	assert_string_equal(err, "cannot connect: No such file or directory");

	mode_t old = umask(022);
	assert_int_equal(listen_on(address, &listener, &connected, err), 0);
	assert_int_equal(umask(old), 022); /* as it was */
	assert_false(connected);
	assert_cloexec(listener);
	assert_int_equal(stat(temp_path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600); /* whoever may connect may do anything */

	assert_int_equal(connect_to(address, &client, err), 0);
	assert_cloexec(client);
	int server = accept(listener, NULL, NULL);
	assert_true(server >= 0);
	assert_int_equal(write(client, "x", 1), 1);
	assert_int_equal(read(server, &byte, 1), 1);
	assert_int_equal(byte, 'x');
	(void)close(server);
	(void)close(client);
	(void)close(listener);
}

static void test_socket_in_use(void **state)
{
	bool connected;
	char err[256];
	int listener, other = -1, client;

	(void)state;
	(void)unlink(temp_path);
	assert_int_equal(listen_on(address, &listener, &connected, err), 0);
	/* somebody listens there: it is not taken away from him */
	assert_int_equal(listen_on(address, &other, &connected, err), -EADDRINUSE);
	assert_string_equal(err, "cannot listen: Address already in use");
	assert_int_equal(other, -1);
	assert_int_equal(connect_to(address, &client, err), 0);
	(void)close(client);

	/* once he is gone his socket is an old one, and replaced */
	(void)close(listener);
	assert_int_equal(access(temp_path, F_OK), 0);
	assert_int_equal(connect_to(address, &client, err), -ECONNREFUSED);
	assert_string_equal(err, "cannot connect: Connection refused; nobody listens there");
	assert_int_equal(listen_on(address, &listener, &connected, err), 0);
	assert_int_equal(connect_to(address, &client, err), 0);
	(void)close(client);
	(void)close(listener);
}

/* Only a socket is ever removed. */
static void test_something_else_there(void **state)
{
	struct stat before, after;
	bool connected;
	char err[256], target[80];
	int listener;

	(void)state;
	(void)unlink(temp_path);
	int fd = open(temp_path, O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "precious", 8), 8);
	assert_int_equal(fstat(fd, &before), 0);
	(void)close(fd);
	assert_int_equal(listen_on(address, &listener, &connected, err), -EADDRINUSE);
	assert_int_equal(lstat(temp_path, &after), 0);
	assert_true(before.st_ino == after.st_ino && after.st_size == 8);
	(void)unlink(temp_path);

	/* not even a link to an old socket */
	(void)snprintf(target, sizeof(target), "unix:%s/target", temp_dir);
	assert_int_equal(listen_on(target, &listener, &connected, err), 0);
	(void)close(listener);
	assert_int_equal(symlink(target + 5, temp_path), 0);
	assert_int_equal(listen_on(address, &listener, &connected, err), -EADDRINUSE);
	assert_int_equal(lstat(temp_path, &after), 0);
	assert_true(S_ISLNK(after.st_mode));
	assert_int_equal(lstat(target + 5, &after), 0);
	assert_true(S_ISSOCK(after.st_mode));
	(void)unlink(target + 5);
	(void)unlink(temp_path);

	(void)snprintf(target, sizeof(target), "unix:%s/missing/socket", temp_dir);
	assert_int_equal(listen_on(target, &listener, &connected, err), -ENOENT);
}

/* ---- inherited descriptors ---- */

static void test_inherited(void **state)
{
	char text[32], err[256];
	bool connected = false;
	int pair[2], fd, listener;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	(void)snprintf(text, sizeof(text), "fd:%d", pair[0]);
	assert_int_equal(connect_to(text, &fd, err), 0);
	assert_int_not_equal(fd, pair[0]); /* a duplicate of its own */
	assert_cloexec(fd);
	assert_int_equal(write(fd, "x", 1), 1);
	assert_int_equal(read(pair[1], err, 1), 1);
	(void)close(fd);

	assert_int_equal(listen_on(text, &fd, &connected, err), 0);
	assert_true(connected);
	(void)close(fd);
	const struct endpoint there = parsed(text, true);
	assert_int_equal(endpoint_check(&there, err, sizeof(err)), 0);
	(void)close(pair[0]);
	(void)close(pair[1]);
	assert_int_equal(endpoint_check(&there, err, sizeof(err)), -EBADF);
	assert_string_equal(err, "no such descriptor was inherited: Bad file descriptor");
	assert_int_equal(connect_to(text, &fd, err), -EBADF);
	assert_string_equal(err, "Bad file descriptor");
	assert_int_equal(listen_on(text, &fd, &connected, err), -EBADF);

	(void)unlink(temp_path);
	assert_int_equal(listen_on(address, &listener, &connected, err), 0);
	(void)snprintf(text, sizeof(text), "fd:%d", listener);
	connected = true;
	assert_int_equal(listen_on(text, &fd, &connected, err), 0);
	assert_false(connected);
	(void)close(fd);
	(void)close(listener);

	/* no socket at all: a virtio-serial port is connected as it is */
	assert_int_equal(pipe(pair), 0);
	(void)snprintf(text, sizeof(text), "fd:%d", pair[0]);
	assert_int_equal(listen_on(text, &fd, &connected, err), 0);
	assert_true(connected);
	(void)close(fd);
	(void)close(pair[0]);
	(void)close(pair[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_good),
	    cmocka_unit_test(test_bad),
	    cmocka_unit_test(test_text),
	    cmocka_unit_test(test_is),
	    cmocka_unit_test(test_listen_and_connect),
	    cmocka_unit_test(test_socket_in_use),
	    cmocka_unit_test(test_something_else_there),
	    cmocka_unit_test(test_inherited),
	};

	return cmocka_run_group_tests(tests, make_address, temp_teardown);
}
