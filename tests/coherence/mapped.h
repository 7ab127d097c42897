/* Reading and writing through a mapping whose file another process may make shorter. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Once per program, before it forks. */
void mapped_init(void);
/* memcpy from or to a mapping; false where the file has no such page any more (SIGBUS). */
bool copy_mapped(void *to, const void *from, size_t size);
