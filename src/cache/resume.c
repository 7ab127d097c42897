/* A session that goes on over another connection: what of it is held here. */
#include "cache/resume.h"

#include "cache/node.h"
#include "cache/opens.h"
#include "cache/outbox.h"
#include "core/cleanup.h"

#define AT_ONCE 64 /* nodes that are looked at without letting the lock go */

uint64_t cache_heard(void *arg)
{
	struct cache *c = arg;

	SCOPE_LOCK(&c->lock);
	return c->last_seq;
}

struct held_node {
	uint64_t server, refs;
};

/* From slot `at` on; 0 at the end. */
static size_t some_nodes(struct cache *c, uint32_t *at, struct held_node ret[AT_ONCE])
{
	size_t n = 0;

	SCOPE_LOCK(&c->lock);
	for (; *at < c->slot_count && n < AT_ONCE; ++*at) {
		const struct node *node = node_at_locked(c, *at);

		if (node != NULL)
			ret[n++] = (struct held_node){node->server, node->server_refs};
	}
	return n;
}

static uint64_t next_file(struct cache *c, uint64_t *at)
{
	SCOPE_LOCK(&c->lock);
	return opens_next_locked(c, at);
}

void cache_holds(void *arg, const struct backend_holds *to)
{
	struct cache *c = arg;
	struct held_node some[AT_ONCE];
	uint64_t file, at = 0;
	uint32_t slot = 1;
	size_t n;

	outbox_stop(c);
	to->begin(to->arg);
	while ((n = some_nodes(c, &slot, some)) > 0)
		for (size_t i = 0; i < n; i++)
			to->node(to->arg, some[i].server, some[i].refs);
	while ((file = next_file(c, &at)) != 0)
		to->file(to->arg, file);
	outbox_go_on(c);
}

void cache_locks_lost(void *arg)
{
	struct cache *c = arg;

	(void)pthread_mutex_lock(&c->lock);
	const struct cache_sink *sink = c->sink;
	void *sink_arg = c->sink_arg;
	(void)pthread_mutex_unlock(&c->lock);
	if (sink != NULL && sink->locks_lost != NULL)
		sink->locks_lost(sink_arg);
}
