#include "transport/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/cleanup.h"

int secret_nonce(unsigned char *ret)
{
	return getrandom(ret, SECRET_NONCE_LEN, 0) == SECRET_NONCE_LEN ? 0 : -EIO;
}

#ifdef VSOCKFS_NETTLE

#include <nettle/hmac.h>
#include <nettle/memops.h>
#include <nettle/version.h>

_Static_assert(SECRET_PROOF_LEN == SHA256_DIGEST_SIZE, "a proof is one digest");

static int refuse(int r, const char *path, const char *why, char *err, size_t err_len)
{
	(void)snprintf(err, err_len, "the secret '%s': %s", path, why);
	return r;
}

/* Why the file cannot hold a secret, for whoever could read it could mount; NULL: it can. */
static const char *wrong_file(const struct stat *st)
{
	if (!S_ISREG(st->st_mode))
		return "not a regular file";
	if (st->st_mode & (S_IROTH | S_IWOTH | S_IWGRP))
		return "everybody may read it, or others may write it; use mode 600";
	return NULL;
}

int secret_read(const char *path, struct secret *ret, char *err, size_t err_len)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	unsigned char bytes[SECRET_MAX + 2];
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return refuse(-errno, path, strerror(errno), err, err_len);
	const char *why = wrong_file(&st);
	if (why != NULL)
		return refuse(-EINVAL, path, why, err, err_len);
	ssize_t n = read(fd, bytes, sizeof(bytes));
	if (n < 0)
		return refuse(-errno, path, strerror(errno), err, err_len);
	if (n > 0 && bytes[n - 1] == '\n')
		n--;
	if (n < SECRET_MIN || n > SECRET_MAX)
		return refuse(-EINVAL, path, "not of 16 to 1024 bytes", err, err_len);
	memcpy(ret->bytes, bytes, (size_t)n);
	ret->len = (size_t)n;
	return 0;
}

void secret_prove(const struct secret *s, enum secret_side side, const struct secret_nonces *n,
		  unsigned char ret[SECRET_PROOF_LEN])
{
	static const char *const labels[] = {
		[SECRET_CLIENT] = "vsockfs 1 client", [SECRET_SERVER] = "vsockfs 1 server"};
	struct hmac_sha256_ctx h;

	hmac_sha256_set_key(&h, s->len, s->bytes);
	hmac_sha256_update(&h, strlen(labels[side]), (const uint8_t *)labels[side]);
	hmac_sha256_update(&h, SECRET_NONCE_LEN, n->client);
	hmac_sha256_update(&h, SECRET_NONCE_LEN, n->server);
#if NETTLE_VERSION_MAJOR >= 4
	hmac_sha256_digest(&h, ret);
#else
	hmac_sha256_digest(&h, SECRET_PROOF_LEN, ret);
#endif
	explicit_bzero(&h, sizeof(h));
}

bool secret_proved(const struct secret *s, enum secret_side side, const struct secret_nonces *n,
		   const void *proof, size_t len)
{
	unsigned char right[SECRET_PROOF_LEN];

	secret_prove(s, side, n, right);
	return len == sizeof(right) && memeql_sec(proof, right, sizeof(right)) != 0;
}

#else

int secret_read(const char *path, struct secret *ret, char *err, size_t err_len)
{
	(void)ret;
	(void)snprintf(err, err_len, "the secret '%s': this program was built without libnettle",
		       path);
	return -ENOSYS;
}

/* Nobody has a secret. */

void secret_prove(const struct secret *s, enum secret_side side, const struct secret_nonces *n,
		  unsigned char ret[SECRET_PROOF_LEN])
{
	(void)s;
	(void)side;
	(void)n;
	memset(ret, 0, SECRET_PROOF_LEN);
}

bool secret_proved(const struct secret *s, enum secret_side side, const struct secret_nonces *n,
		   const void *proof, size_t len)
{
	(void)s;
	(void)side;
	(void)n;
	(void)proof;
	(void)len;
	return false;
}

#endif
