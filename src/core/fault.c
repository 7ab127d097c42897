#include "core/fault.h"

#ifdef VSOCKFS_FAULTS
#include <stdlib.h>
#include <string.h>

bool fault_on(enum fault f)
{
	static const char *const names[] = {
#define FAULT_NAME(name) #name,
		FAULTS(FAULT_NAME)
#undef FAULT_NAME
	};
	const char *at = getenv("VSOCKFS_FAULT");
	size_t len = strlen(names[f]);

	while (at != NULL && *at != '\0') {
		size_t n = strcspn(at, ",");

		if (n == len && memcmp(at, names[f], n) == 0)
			return true;
		at += n + (at[n] == ',');
	}
	return false;
}
#endif
