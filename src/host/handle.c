#include "host/handle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/cleanup.h"

void handles_init(struct handles *t, struct hnodes *nodes, struct handle_budget *budget)
{
	*t = (struct handles){.nodes = nodes, .budget = budget};
	(void)pthread_mutex_init(&t->mutex, NULL);
}

void handles_done(struct handles *t)
{
	struct idmap_slot *s = NULL;

	while ((s = idmap_next(&t->map, s)) != NULL)
		handle_put(t, s->value);
	idmap_done(&t->map);
	(void)pthread_mutex_destroy(&t->mutex);
}

static int take_budget(struct handle_budget *b)
{
	if (atomic_fetch_add(&b->used, 1) < b->max)
		return 0;
	atomic_fetch_sub(&b->used, 1);
	return -ENFILE;
}

bool handles_room(const struct handles *t)
{
	return atomic_load(&t->budget->used) < t->budget->max;
}

int handle_add(struct handles *t, struct hnode *n, int fd, int access, uint64_t *ret_fh)
{
	CLEANUP_CLOSE int owned = fd;
	int r = take_budget(t->budget);

	if (r < 0)
		return r;
	struct handle *h = calloc(1, sizeof(*h));
	if (h != NULL) {
		SCOPE_LOCK(&t->mutex);
		struct idmap_slot *s = idmap_put(&t->map, t->last + 1);

		if (s != NULL) {
			hnode_ref(n);
			h->node = n;
			h->user.fd = h->fd = take_fd(&owned);
			h->access = access;
			h->append = (fcntl(h->fd, F_GETFL) & O_APPEND) != 0;
			h->refs = 1;
			(void)pthread_mutex_init(&h->position, NULL);
			hnode_attach(t->nodes, n, &h->user);
			s->value = h;
			*ret_fh = ++t->last;
			return 0;
		}
	}
	free(h);
	atomic_fetch_sub(&t->budget->used, 1);
	return -ENOMEM;
}

struct handle *handle_get(struct handles *t, uint64_t fh)
{
	SCOPE_LOCK(&t->mutex);
	struct idmap_slot *s = fh != 0 ? idmap_get(&t->map, fh) : NULL;
	struct handle *h = s != NULL ? s->value : NULL;

	if (h != NULL)
		atomic_fetch_add(&h->refs, 1);
	return h;
}

void handle_put(struct handles *t, struct handle *h)
{
	if (h == NULL || atomic_fetch_sub(&h->refs, 1) != 1)
		return;
	hnode_detach(t->nodes, h->node, &h->user);
	(void)close(h->fd); /* errors that close(2) has to tell came with FLUSH */
	hnode_unref(t->nodes, h->node);
	(void)pthread_mutex_destroy(&h->position);
	free(h);
	atomic_fetch_sub(&t->budget->used, 1);
}

struct handle *handle_remove(struct handles *t, uint64_t fh)
{
	SCOPE_LOCK(&t->mutex);
	struct idmap_slot *s = fh != 0 ? idmap_get(&t->map, fh) : NULL;

	if (s == NULL)
		return NULL;
	struct handle *h = s->value;
	idmap_del(&t->map, fh);
	return h;
}
