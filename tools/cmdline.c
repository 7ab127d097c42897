#include "cmdline.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * The value of the last `key=value` word in the file at path; a value may be
 * quoted as a whole, "key=\"a b\"" or "\"key=a b\"". False if there is none
 * or it does not fit.
 */
static bool cmdline_get(const char *path, const char *key, char *ret, size_t len)
{
	char text[8192], word[sizeof(text)];
	size_t n, at = 0;
	bool found = false, quoted = false;
	FILE *f = fopen(path, "re");

	if (f == NULL)
		return false;
	n = fread(text, 1, sizeof(text) - 1, f);
	(void)fclose(f);
	text[n] = '\0';

	for (const char *p = text;; p++) {
		if (*p == '"') {
			quoted = !quoted;
		} else if (*p == '\0' || (!quoted && (*p == ' ' || *p == '\n' || *p == '\t'))) {
			size_t k = strlen(key);

			word[at] = '\0';
			if (strncmp(word, key, k) == 0 && word[k] == '=' && at - k - 1 < len) {
				memcpy(ret, word + k + 1, at - k);
				found = true;
			}
			at = 0;
		} else {
			word[at++] = *p;
		}
		if (*p == '\0')
			return found;
	}
}

int cmdline_mountpoint(const char *path, char *ret, size_t len)
{
	bool found = cmdline_get(path, "vsockfs.workspace", ret, len) ||
		     cmdline_get(path, "matchlock.workspace", ret, len);

	return found ? 0 : -ENOENT;
}

/* Decimal, of 32 bits; the largest means "any" and is nobody's. */
static bool is_port(const char *text)
{
	char *end;

	errno = 0;
	unsigned long long n = strtoull(text, &end, 10);
	return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && n > 0 &&
	       n < UINT32_MAX;
}

int cmdline_source(const char *path, char *ret, size_t len)
{
	char port[16];

	if (cmdline_get(path, "vsockfs.source", ret, len))
		return 0;
	bool found = cmdline_get(path, "matchlock.vfs_port", ret, len);
	if (!found) {
		(void)snprintf(ret, len, "vsock:");
		return 0;
	}
	if (!is_port(ret) || (size_t)snprintf(port, sizeof(port), "%s", ret) >= sizeof(port))
		return -EINVAL;
	(void)snprintf(ret, len, "vsock:2:%s", port);
	return 0;
}
