/* Resume: a session that goes on over another connection. Functions of struct backend_events. */
#pragma once

#include "cache/cache_priv.h"

uint64_t cache_heard(void *arg);
void cache_holds(void *arg, const struct backend_holds *to);
void cache_locks_lost(void *arg);
