/* Push: invalidations in. */
#pragma once

#include "cache/cache_priv.h"

void cache_pushed(void *arg, const struct msg *m);
