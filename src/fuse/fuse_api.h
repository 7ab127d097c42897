/* libfuse, seen by this folder alone. */
#pragma once

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
