/*
 * Going to the background without hiding a failure: the parent stays until
 * the child says how it went.
 *
 * background_start forks, before any thread exists; it returns in the child
 * only (with foreground: in the same process). The child then calls
 * background_ready once, or ends with an exit code, which becomes the
 * parent's. On readiness the parent runs check (may be NULL), which proves
 * from outside that the service answers, and exits 0 if that is 0.
 */
#pragma once

#include <stdbool.h>

void background_start(bool foreground, int (*check)(void *arg), void *arg);
void background_ready(void);

/*
 * In a child of the child: background_abandon, which has no say in readiness;
 * background_detach, when it has nothing more to tell the terminal either.
 */
void background_abandon(void);
void background_detach(void);
