#include "host/share.h"

void share_pool_init(struct share_pool *p, size_t max)
{
	p->max = max;
	p->floor = max / 4 / SHARE_PARTS;
	if (p->floor == 0 && max > 0)
		p->floor = 1;
}

void share_init(struct share *s, struct share_pool *pool)
{
	s->pool = pool;
}

static size_t common_max(const struct share_pool *p)
{
	return p->max - p->max / 4;
}

/* How much of what one has is beyond what was set aside. */
static size_t beyond(const struct share_pool *p, size_t own)
{
	return own > p->floor ? own - p->floor : 0;
}

/* Whether one that has so much, these included, of so much in all, has no more than its share. */
static bool fair(const struct share_pool *p, size_t own, size_t used, size_t common)
{
	size_t mine = beyond(p, own);

	return used <= p->max &&
	       (mine == 0 ||
		(common <= common_max(p) && mine <= SHARE_TIMES * (common_max(p) - common + 1)));
}

bool share_take(struct share *s, size_t n)
{
	struct share_pool *p = s->pool;
	size_t before = atomic_fetch_add(&s->own, n);
	size_t more = beyond(p, before + n) - beyond(p, before);
	size_t used = atomic_fetch_add(&p->used, n) + n;
	size_t common = atomic_fetch_add(&p->common, more) + more;

	if (fair(p, before + n, used, common))
		return true;
	share_give(s, n);
	return false;
}

void share_give(struct share *s, size_t n)
{
	struct share_pool *p = s->pool;
	size_t before = atomic_fetch_sub(&s->own, n);

	atomic_fetch_sub(&p->common, beyond(p, before) - beyond(p, before - n));
	atomic_fetch_sub(&p->used, n);
}

bool share_room(const struct share *s)
{
	const struct share_pool *p = s->pool;
	size_t own = atomic_load(&s->own);
	size_t more = beyond(p, own + 1) - beyond(p, own);

	return fair(p, own + 1, atomic_load(&p->used) + 1, atomic_load(&p->common) + more);
}
