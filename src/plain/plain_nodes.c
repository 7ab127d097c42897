#include "plain/plain_nodes.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "core/cleanup.h"
#include "plain/plain_codec.h"
#include "plain/plain_kept.h"
#include "transport/codec.h"

/*
 * A node with its name. It is found by its id and, while it has a name, by (parent id,
 * name), which are the bytes of key. A node without a key is the root or detached.
 */
struct plain_name {
	struct plain_node node; /* first: a plain_node is a plain_name */
	unsigned char *key;
	size_t key_len;
	UT_hash_handle by_id, by_name;
};

struct plain_nodes {
	struct plain_name *by_id, *by_name;
	struct plain_node *root;
	uint64_t last_id;
	size_t base_len;
	char base[PATH_MAX]; /* no '/' at the end; "" for the root directory */
};

#define KEY_PREFIX sizeof(uint64_t)

static struct plain_name *name_of(struct plain_node *node)
{
	return (struct plain_name *)node;
}

static const struct plain_name *name_of_const(const struct plain_node *node)
{
	return (const struct plain_name *)node;
}

static struct slice name_bytes(const struct plain_name *e)
{
	return (struct slice){e->key + KEY_PREFIX, e->key_len - KEY_PREFIX};
}

static unsigned char *key_new(uint64_t parent, struct slice name)
{
	unsigned char *key = malloc(KEY_PREFIX + name.len);

	if (key != NULL) {
		memcpy(key, &parent, KEY_PREFIX);
		memcpy(key + KEY_PREFIX, name.data, name.len);
	}
	return key;
}

/* Copies base without repeated or trailing slashes and "." components; ".." is refused. */
static int base_set(struct plain_nodes *t, const char *base)
{
	if (base[0] != '/')
		return -EINVAL;
	if (strlen(base) >= sizeof(t->base))
		return -ENAMETOOLONG;
	if (!utf8_valid((struct slice){base, strlen(base)}))
		return -EILSEQ;
	for (const char *p = base; *p != '\0';) {
		size_t n = strcspn(p, "/");

		if (n == 2 && memcmp(p, "..", 2) == 0)
			return -EINVAL;
		if (n > 0 && !(n == 1 && *p == '.')) {
			t->base[t->base_len++] = '/';
			memcpy(t->base + t->base_len, p, n);
			t->base_len += n;
		}
		p += n;
		p += *p == '/';
	}
	return 0;
}

static struct plain_name *name_new(struct plain_nodes *t)
{
	struct plain_name *e = calloc(1, sizeof(*e));

	if (e == NULL)
		return NULL;
	e->node.id = ++t->last_id;
	HASH_ADD(by_id, t->by_id, node.id, sizeof(e->node.id), e);
	if (e->by_id.tbl == NULL) {
		free(e);
		return NULL;
	}
	return e;
}

int plain_nodes_new(const char *base, struct plain_nodes **ret)
{
	struct plain_nodes *t = calloc(1, sizeof(*t));
	struct plain_name *root = NULL;
	int r = t == NULL ? -ENOMEM : base_set(t, base);

	if (r == 0) {
		root = name_new(t);
		r = root == NULL ? -ENOMEM : 0;
	}
	if (r < 0) {
		free(t);
		return r;
	}
	root->node.refs = 1;
	t->root = &root->node;
	*ret = t;
	return 0;
}

void plain_nodes_free(struct plain_nodes *t)
{
	struct plain_name *e, *next;

	if (t == NULL)
		return;
	HASH_CLEAR(by_name, t->by_name);
	HASH_ITER (by_id, t->by_id, e, next) {
		HASH_DELETE(by_id, t->by_id, e);
		plain_kept_drop(&e->node);
		free(e->key);
		free(e);
	}
	free(t);
}

struct plain_node *plain_nodes_find(const struct plain_nodes *t, uint64_t id)
{
	struct plain_name *e;

	HASH_FIND(by_id, t->by_id, &id, sizeof(id), e);
	return e != NULL ? &e->node : NULL;
}

struct plain_node *plain_nodes_child(const struct plain_nodes *t, const struct plain_node *parent,
				     struct slice name)
{
	unsigned char key[KEY_PREFIX + MSG_NAME_MAX];
	struct plain_name *e;

	if (name.len > MSG_NAME_MAX)
		return NULL;
	memcpy(key, &parent->id, KEY_PREFIX);
	memcpy(key + KEY_PREFIX, name.data, name.len);
	HASH_FIND(by_name, t->by_name, key, KEY_PREFIX + name.len, e);
	return e != NULL ? &e->node : NULL;
}

static void name_drop(struct plain_nodes *t, struct plain_name *e)
{
	if (e->key == NULL)
		return;
	HASH_DELETE(by_name, t->by_name, e);
	free(e->key);
	e->key = NULL;
	e->node.parent->children--;
	e->node.parent = NULL;
}

static int name_set(struct plain_nodes *t, struct plain_name *e, struct plain_node *parent,
		    struct slice name)
{
	unsigned char *key = key_new(parent->id, name);

	if (key == NULL)
		return -ENOMEM;
	memset(&e->by_name, 0, sizeof(e->by_name));
	HASH_ADD_KEYPTR(by_name, t->by_name, key, KEY_PREFIX + name.len, e);
	if (e->by_name.tbl == NULL) {
		free(key);
		return -ENOMEM;
	}
	e->key = key;
	e->key_len = KEY_PREFIX + name.len;
	e->node.parent = parent;
	parent->children++;
	return 0;
}

void plain_nodes_release(struct plain_nodes *t, struct plain_node *node)
{
	while (node != NULL && node != t->root && node->refs == 0 && node->open == 0 &&
	       node->children == 0 && (node->kept == NULL || node->parent == NULL)) {
		struct plain_node *parent = node->parent;
		struct plain_name *e = name_of(node);

		name_drop(t, e);
		HASH_DELETE(by_id, t->by_id, e);
		plain_kept_drop(node);
		free(e);
		node = parent;
	}
}

int plain_nodes_get(struct plain_nodes *t, struct plain_node *parent, struct slice name,
		    struct plain_node **ret)
{
	struct plain_node *node = plain_nodes_child(t, parent, name);

	if (node == NULL) {
		struct plain_name *e = name_new(t);

		if (e == NULL)
			return -ENOMEM;
		int r = name_set(t, e, parent, name);
		if (r < 0) {
			plain_nodes_release(t, &e->node);
			return r;
		}
		node = &e->node;
	}
	*ret = node;
	return 0;
}

void plain_nodes_forget(struct plain_nodes *t, uint64_t id, uint64_t n)
{
	struct plain_node *node = plain_nodes_find(t, id);

	if (node == NULL || node == t->root)
		return;
	node->refs -= n < node->refs ? n : node->refs;
	plain_nodes_release(t, node);
}

void plain_nodes_detach(struct plain_nodes *t, struct plain_node *node)
{
	struct plain_node *parent = node->parent;

	if (parent == NULL)
		return;
	name_drop(t, name_of(node));
	plain_nodes_release(t, node);
	plain_nodes_release(t, parent);
}

int plain_nodes_move(struct plain_nodes *t, struct plain_node *node, struct plain_node *parent,
		     struct slice name)
{
	struct plain_node *old = node->parent;

	name_drop(t, name_of(node));
	int r = name_set(t, name_of(node), parent, name);
	if (r < 0)
		plain_nodes_release(t, node);
	plain_nodes_release(t, old);
	return r;
}

bool plain_nodes_attached(const struct plain_nodes *t, const struct plain_node *node)
{
	while (node != t->root) {
		if (node->parent == NULL)
			return false;
		node = node->parent;
	}
	return true;
}

int plain_nodes_path(const struct plain_nodes *t, const struct plain_node *node, struct slice name,
		     char **buf, size_t *cap, struct slice *ret)
{
	size_t len = t->base_len + (name.len > 0 ? 1 + name.len : 0);
	const struct plain_node *n;

	for (n = node; n != t->root; n = n->parent) {
		if (n->parent == NULL)
			return -ESTALE;
		len += 1 + name_bytes(name_of_const(n)).len;
		if (len > PLAIN_PATH_MAX)
			return -ENAMETOOLONG;
	}
	if (len > PLAIN_PATH_MAX)
		return -ENAMETOOLONG;
	if (len + 1 > *cap) {
		char *p = realloc(*buf, len * 2 + 64);

		if (p == NULL)
			return -ENOMEM;
		*buf = p;
		*cap = len * 2 + 64;
	}
	if (len == 0)
		(*buf)[len++] = '/';
	*ret = (struct slice){*buf, len};

	size_t at = len;
	if (name.len > 0) {
		at -= name.len;
		memcpy(*buf + at, name.data, name.len);
		(*buf)[--at] = '/';
	}
	for (n = node; n != t->root; n = n->parent) {
		struct slice s = name_bytes(name_of_const(n));

		at -= s.len;
		memcpy(*buf + at, s.data, s.len);
		(*buf)[--at] = '/';
	}
	memcpy(*buf, t->base, t->base_len);
	return 0;
}

uint64_t plain_path_ino(struct slice path)
{
	const unsigned char *p = path.data;
	uint64_t h = UINT64_C(14695981039346656037);

	for (size_t i = 0; i < path.len; i++)
		h = (h ^ p[i]) * UINT64_C(1099511628211);
	return h > 1 ? h : h + 2;
}

uint64_t plain_now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}
