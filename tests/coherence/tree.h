/* A directory and everything in it. */
#pragma once

#include <ftw.h>
#include <stdio.h>

static inline int tree_remove_one(const char *path, const struct stat *st, int flag,
				  struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	return remove(path);
}

/* 0, or -1 with errno. */
static inline int tree_remove(const char *path)
{
	return nftw(path, tree_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
