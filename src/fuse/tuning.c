#include "fuse/tuning.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/cleanup.h"
#include "core/log.h"
#include "core/options.h"
#include "fuse/fs_priv.h"

struct live_settings {
	struct cache_times times; /* ns */
	uint64_t lease;		  /* ns */
	uint64_t page_cache;	  /* bytes */
	uint64_t node_cache;
	uint64_t readahead; /* bytes */
	uint64_t max_background;
	int log_level; /* LOG_ERR is 0 */
};

#define SECONDS_MAX (UINT64_C(1000000000) * 3600 * 24 * 365)

/* As in the table of the mount options, whose bounds these share. */
#define SETTING(name, kind, member, values, max)                                                   \
	{                                                                                          \
		name, OPTION_##kind, offsetof(struct live_settings, member), values, max, NULL,    \
			NULL                                                                       \
	}
static const struct option_spec specs[] = {
	SETTING("attr_timeout", SECONDS, times.attr, "S", SECONDS_MAX),
	SETTING("entry_timeout", SECONDS, times.entry, "S", SECONDS_MAX),
	SETTING("negative_timeout", SECONDS, times.negative, "S", SECONDS_MAX),
	SETTING("dir_timeout", SECONDS, times.dir, "S", SECONDS_MAX),
	SETTING("lease", SECONDS, lease, "S", SECONDS_MAX),
	SETTING("page_cache", SIZE, page_cache, "BYTES", UINT64_C(1) << 40),
	SETTING("node_cache", NUMBER, node_cache, "N", UINT32_MAX),
	SETTING("readahead", SIZE, readahead, "BYTES", 64 << 20),
	SETTING("max_background", NUMBER, max_background, "N", 65535),
	SETTING("log_level", CHOICE, log_level, "error|warning|notice|info|debug", 0),
};
#define SPECS (sizeof(specs) / sizeof(specs[0]))

const char *tuning_name(size_t i)
{
	return i < SPECS ? specs[i].name : NULL;
}

static void load(struct fs *fs, struct live_settings *s)
{
	struct cache_options o;

	cache_get_options(fs->cache, &o);
	*s = (struct live_settings){
		.times = cache_leased(fs->cache) ? o.cap : o.ttl,
		.lease = o.lease,
		.page_cache = o.page_budget,
		.node_cache = o.node_budget,
		.readahead = fs->options.readahead,
		.max_background = fs->options.max_background,
		.log_level = log_level() - LOG_ERR,
	};
}

/* As the mount options do: a time given holds with a promise and without one. */
static void store_times(struct cache_times *to, const struct live_settings *old,
			const struct live_settings *new)
{
	if (new->times.attr != old->times.attr)
		to->attr = new->times.attr;
	if (new->times.entry != old->times.entry)
		to->entry = new->times.entry;
	if (new->times.negative != old->times.negative)
		to->negative = new->times.negative;
	if (new->times.dir != old->times.dir)
		to->dir = new->times.dir;
}

static void store_cache(struct fs *fs, const struct live_settings *old,
			const struct live_settings *new)
{
	struct cache_options o;

	cache_get_options(fs->cache, &o);
	store_times(&o.ttl, old, new);
	if (cache_leased(fs->cache))
		store_times(&o.cap, old, new);
	o.lease = new->lease;
	o.page_budget = new->page_cache;
	o.node_budget = new->node_cache;
	cache_set_options(fs->cache, &o);
	SCOPE_LOCK(&fs->lock);
	fs->lease_changed = true;
	alarm_ring(&fs->watch);
}

/* Settings that can be refused are set first. */
static int store(struct fs *fs, const struct live_settings *old, const struct live_settings *new,
		 char *err, size_t err_len)
{
	int r = 0;

	if (new->readahead != old->readahead)
		r = device_readahead(fs, new->readahead);
	if (r < 0) {
		(void)snprintf(err, err_len, "readahead: %s", strerror(-r));
		return r;
	}
	if (new->max_background != old->max_background)
		r = device_background(fs, new->max_background);
	if (r < 0) {
		if (new->readahead != old->readahead)
			(void)device_readahead(fs, old->readahead);
		(void)snprintf(err, err_len, "max_background: %s", strerror(-r));
		return r;
	}
	fs->options.readahead = (unsigned)new->readahead;
	fs->options.max_background = (unsigned)new->max_background;
	store_cache(fs, old, new);
	log_set_level(LOG_ERR + new->log_level);
	return 0;
}

int tuning_get(struct fs *fs, size_t i, char *buf, size_t len)
{
	struct live_settings s;

	if (i >= SPECS)
		return -EINVAL;
	load(fs, &s);
	option_show(&specs[i], &s, buf, len);
	return 0;
}

int tuning_set(struct fs *fs, char **words, size_t n, char *err, size_t err_len)
{
	struct live_settings old, new;

	load(fs, &old);
	new = old;
	for (size_t w = 0; w < n; w++) {
		char *value = strchr(words[w], '=');
		size_t i = 0;

		if (value != NULL)
			*value++ = '\0';
		while (i < SPECS && strcmp(specs[i].name, words[w]) != 0)
			i++;
		if (i == SPECS) {
			(void)snprintf(err, err_len, "'%s' cannot be set on a live mount",
				       words[w]);
			return -EINVAL;
		}
		int r = option_set(&specs[i], value, &new, err, err_len);
		if (r < 0)
			return r;
	}
	return store(fs, &old, &new, err, err_len);
}
