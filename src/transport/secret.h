/*
 * A secret that both sides have, and the proofs of having it: the secret itself never travels.
 *
 * Each side proves by HMAC-SHA256 over what it is and a nonce of either side, both random and new
 * for each connection; so no proof is of use a second time, or for the other side. See
 * doc/protocol.md.
 *
 * Without libnettle there are no secrets: secret_read fails with -ENOSYS.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define SECRET_MIN	 16 /* bytes */
#define SECRET_MAX	 1024
#define SECRET_NONCE_LEN 32
#define SECRET_PROOF_LEN 32

struct secret {
	size_t len;
	unsigned char bytes[SECRET_MAX];
};

struct secret_nonces {
	unsigned char client[SECRET_NONCE_LEN], server[SECRET_NONCE_LEN];
};

enum secret_side { SECRET_CLIENT, SECRET_SERVER };

/*
 * Reads the file, of which a line feed at its end is no part. 0 or -errno with one line in err that
 * names path: also for a file that others than its owner may write, or everybody may read.
 */
int secret_read(const char *path, struct secret *ret, char *err, size_t err_len);

/* Fills SECRET_NONCE_LEN bytes; 0 or -errno. */
int secret_nonce(unsigned char *ret);

void secret_prove(const struct secret *s, enum secret_side side, const struct secret_nonces *n,
		  unsigned char ret[SECRET_PROOF_LEN]);

/* Whether proof (len bytes) is what secret_prove gives; takes the same time for each of that
 * length. */
bool secret_proved(const struct secret *s, enum secret_side side, const struct secret_nonces *n,
		   const void *proof, size_t len);
