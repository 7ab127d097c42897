/* Who may connect. The kernel's word about a peer of vsock is given here: no test opens one. */
#include "unit.h"

#include <errno.h>
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/admit.h"

static struct sockaddr_vm peer; /* svm_family 0: the kernel's own answer */

int __real_getpeername(int fd, struct sockaddr *ret, socklen_t *len);
int __wrap_getpeername(int fd, struct sockaddr *ret, socklen_t *len);
int __wrap_getpeername(int fd, struct sockaddr *ret, socklen_t *len)
{
	if (peer.svm_family == 0)
		return __real_getpeername(fd, ret, len);
	memcpy(ret, &peer, sizeof(peer));
	*len = sizeof(peer);
	return 0;
}

static struct admit rules(bool reserved_port, const char *a, const char *b)
{
	struct admit admit = {.reserved_port = reserved_port};
	char err[128] = "";

	assert_int_equal(a != NULL ? admit_parse(&admit, a, err, sizeof(err)) : 0, 0);
	assert_int_equal(b != NULL ? admit_parse(&admit, b, err, sizeof(err)) : 0, 0);
	assert_string_equal(err, "");
	return admit;
}

/* Of a peer of vsock. */
static int vsock(const struct admit *a, unsigned cid, unsigned port, char *who)
{
	peer = (struct sockaddr_vm){.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port};
	int r = admit_check(a, -1, who);
	peer.svm_family = 0;
	return r;
}

/* Of this process, by a Unix socket. */
static int ours(const struct admit *a, char *who)
{
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	int r = admit_check(a, sv[0], who);
	(void)close(sv[0]);
	(void)close(sv[1]);
	return r;
}

static void test_everybody(void **state)
{
	struct admit a = rules(false, NULL, NULL);
	char who[ADMIT_TEXT_MAX];

	(void)state;
	assert_int_equal(vsock(&a, 7, 40000, who), 0);
	assert_int_equal(ours(&a, who), 0);
}

static void test_named(void **state)
{
	struct admit a = rules(false, "cid:3", "cid:7");
	char who[ADMIT_TEXT_MAX], uid[32];

	(void)state;
	assert_int_equal(vsock(&a, 3, 40000, who), 0);
	assert_int_equal(vsock(&a, 7, 1, who), 0);
	assert_int_equal(vsock(&a, 4, 1, who), -EACCES);
	assert_string_equal(who, "cid:4, port 1");
	assert_int_equal(ours(&a, who), -EACCES); /* a uid that equals a cid is none */

	(void)snprintf(uid, sizeof(uid), "uid:%u", geteuid());
	a = rules(false, "cid:3", uid);
	assert_int_equal(ours(&a, who), 0);
	assert_int_equal(vsock(&a, 3, 40000, who), 0);
	a = rules(false, uid, NULL);
	assert_int_equal(vsock(&a, geteuid(), 40000, who), -EACCES);
	(void)snprintf(uid, sizeof(uid), "uid:%u", geteuid() + 1);
	a = rules(false, uid, NULL);
	assert_int_equal(ours(&a, who), -EACCES);
	(void)snprintf(uid, sizeof(uid), "uid:%u", geteuid());
	assert_string_equal(who, uid);
}

static void test_reserved_port(void **state)
{
	struct admit a = rules(true, NULL, NULL);
	char who[ADMIT_TEXT_MAX];

	(void)state;
	assert_int_equal(vsock(&a, 7, 1023, who), 0);
	assert_int_equal(vsock(&a, 7, 1024, who), -EACCES);
	assert_string_equal(who, "cid:7, port 1024");
	assert_int_equal(vsock(&a, 7, UINT32_MAX, who), -EACCES);
	assert_int_equal(ours(&a, who), 0); /* there is no port */
	a = rules(true, "cid:3", NULL);
	assert_int_equal(vsock(&a, 3, 1024, who), -EACCES);
	assert_int_equal(vsock(&a, 4, 1023, who), -EACCES);
	assert_int_equal(vsock(&a, 3, 1023, who), 0);
}

/* Neither a peer of another kind, nor something that has none. */
static void test_unknown_kind(void **state)
{
	struct admit a = rules(false, "cid:3", "uid:0");
	char who[ADMIT_TEXT_MAX];
	int pipes[2];

	(void)state;
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(admit_check(&a, pipes[0], who), -EACCES);
	assert_string_equal(who, "a peer of unknown kind");
	(void)close(pipes[0]);
	(void)close(pipes[1]);
	peer.svm_family = AF_INET;
	assert_int_equal(admit_check(&a, -1, who), -EACCES);
	peer.svm_family = 0;
}

static void test_parse(void **state)
{
	static const char *const wrong[] = {"",	       "3",	  "cid:",   "cid:-1", "cid:x",
					    "uid:1x",  "uid: 1",  "gid:1",  "port:1", "cid:4294967295",
					    "uid:any", "cid:+1", "CID:3"};
	struct admit a = {0};
	char err[128];

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		err[0] = '\0';
		assert_int_equal(admit_parse(&a, wrong[i], err, sizeof(err)), -EINVAL);
		assert_non_null(strstr(err, wrong[i]));
	}
	assert_int_equal(a.n, 0);
	for (size_t i = 0; i < ADMIT_RULES_MAX; i++)
		assert_int_equal(admit_parse(&a, "cid:4294967294", err, sizeof(err)), 0);
	assert_int_equal(admit_parse(&a, "cid:3", err, sizeof(err)), -EINVAL);
	assert_int_equal(a.rules[0].id, 4294967294u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_everybody),     cmocka_unit_test(test_named),
		cmocka_unit_test(test_reserved_port), cmocka_unit_test(test_unknown_kind),
		cmocka_unit_test(test_parse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
