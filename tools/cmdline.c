#include "cmdline.h"

#include <stdio.h>
#include <string.h>

bool cmdline_get(const char *path, const char *key, char *ret, size_t len)
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
