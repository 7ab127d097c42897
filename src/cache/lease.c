/*
 * The lease: a server that is silent may have changes that we do not hear of.
 * So what it promised holds for a bounded time after its last sign of life.
 */
#include "cache/drop.h"
#include "cache/files.h"
#include "cache/in_kernel_size.h"
#include "cache/stamps.h"
#include "core/cleanup.h"
#include "core/log.h"

static struct cache *of_ping(struct call *call)
{
	return (struct cache *)((char *)call - offsetof(struct cache, ping));
}

static void pinged(struct call *call, const struct msg *m)
{
	struct cache *c = of_ping(call);

	SCOPE_LOCK(&c->lock);
	c->pinging = false;
	if (m->err != 0)
		return;
	c->one_fs = MSG_HAS(m, fs);
	if (c->one_fs) {
		c->fs = m->fs;
		c->fs_clock = c->ping_clock;
	}
	/* it was alive after the request left */
	c->lease_until = c->ping_sent + c->options.lease;
	if (!c->expired)
		return;
	if (cache_now() + c->options.lease / LEASE_BEATS >= c->lease_until) {
		c->lease_until = 0; /* that was too long ago: the next one tells */
		return;
	}
	log_notice("the server answers again");
	c->expired = false;
}

bool cache_link_alive(struct cache *c)
{
	SCOPE_LOCK(&c->lock);
	return link_alive_locked(c, cache_now());
}

/* The lease is over; or has been for as long again, and a PING is still not answered. */
static bool silent_locked(struct cache *c, uint64_t now, bool over)
{
	bool silent = over || (c->expired && c->pinging && now >= c->silent_due);

	if (silent)
		c->silent_due = now + c->options.lease;
	return silent;
}

uint64_t cache_tick(struct cache *c)
{
	bool send = false, drop = false, silent = false;

	(void)pthread_rwlock_wrlock(&c->gate);
	(void)pthread_mutex_lock(&c->lock);
	uint64_t now = cache_now(), next = UINT64_MAX, files = files_tick_locked(c, now);
	uint64_t sizes = size_tick_locked(c, now);
	uint64_t beat = c->options.lease / LEASE_BEATS;
	if (c->leased && beat > 0) {
		if (!c->expired && now + beat >= c->lease_until) {
			log_warning("the server has been silent for %llu s: nothing is answered "
				    "from the cache",
				    (unsigned long long)((now + c->options.lease - c->lease_until) /
							 1000000000));
			c->expired = drop = true;
			c->lease_until = 0;
			cache_drop_all_locked(c);
		}
		silent = silent_locked(c, now, drop);
		if (!c->pinging && now >= c->ping_due) {
			c->pinging = send = true;
			c->ping_sent = now;
			c->ping_clock = c->clock;
			c->ping_due = now + beat;
			c->ping.done = pinged;
			c->ping.req = (struct msg){0};
			MSG_SET(&c->ping.req, op, MSG_PING);
		}
		next = c->ping_due > now ? c->ping_due : now + beat;
		if (!c->expired && c->lease_until - beat < next)
			next = c->lease_until - beat;
	}
	(void)pthread_mutex_unlock(&c->lock);
	(void)pthread_rwlock_unlock(&c->gate);
	if (silent && c->backend->ops->silent != NULL)
		c->backend->ops->silent(c->backend);
	if (send)
		c->backend->ops->submit(c->backend, &c->ping);
	if (drop || c->options.no_open)
		cache_forget_flush(c);
	if (sizes < next)
		next = sizes;
	return files < next ? files : next;
}
