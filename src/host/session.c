#include "host/session.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>

#include "core/cleanup.h"
#include "core/fault.h"
#include "core/msg.h"
#include "host/dirs.h"
#include "host/lock.h"
#include "host/promise.h"
#include "host/watch.h"
#include "host/way.h"

struct session {
	struct host *host;
	uint64_t id;
	uint64_t features; /* HELLO_*, those that the client has asked for */
	struct way way;

	struct handles handles;
	struct lock_session *locks;
	struct dirs *dirs;
	struct promise_session *promises;
};

/* ---- the parts of a session ---- */

uint64_t session_id(const struct session *s)
{
	return s->id;
}

struct handles *session_handles(struct session *s)
{
	return &s->handles;
}

struct lock_session *session_locks(struct session *s)
{
	return s->locks;
}

struct dirs *session_dirs(struct session *s)
{
	return s->dirs;
}

struct promise_session *session_promises(struct session *s)
{
	return s->promises;
}

void session_forget(struct session *s, uint64_t id, uint64_t n)
{
	if (promise_forget(s->promises, id, n))
		dirs_forget(s->dirs, id);
}

bool session_acl(const struct session *s)
{
	return (s->features & HELLO_ACL) != 0;
}

/* ---- replies ---- */

int session_reply(struct session *s, struct msg *p, uint64_t id, int result)
{
	if (result < 0) {
		*p = (struct msg){.present = p->present & MSG_BIT(stamp), .stamp = p->stamp};
		MSG_SET(p, err, (uint64_t)-msg_errno(result));
	}
	MSG_SET(p, id, id);
	return way_send(&s->way, p);
}

void session_follow_host(struct session *s, struct change *c)
{
	if (FAULT(no_sync_fence) || !promises_wanted(s->host->promises))
		return;
	watch_drain(s->host->watch);
	change_follows_host(c);
}

void session_lock_granted(struct session *s, uint64_t id, int result)
{
	struct change c = {.promises = s->host->promises, .self = s->promises};
	struct msg p = {0};

	if (result == 0) {
		session_follow_host(s, &c);
		change_wait(&c);
		(void)promise_fence(s->promises);
	}
	/* The thread that receives notices a broken connection. */
	(void)session_reply(s, &p, id, result);
}

/* ---- a session's life ---- */

int session_new(struct host *host, uint64_t id, uint64_t features, struct session **ret)
{
	struct session *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return -ENOMEM;
	s->host = host;
	s->id = id;
	s->features = features;
	way_init(&s->way);
	handles_init(&s->handles, host->nodes, &host->handles);
	int r = lock_session_new(host->locks, &s->locks);
	if (r == 0)
		r = dirs_new(&s->dirs);
	if (r == 0)
		r = promise_session_new(host->promises, &s->promises);
	if (r < 0) {
		session_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void session_attach(struct session *s, struct stream *stream)
{
	way_set(&s->way, stream);
}

int session_push(struct session *s)
{
	return s->features & HELLO_PUSH ? promise_session_push(s->promises, &s->way) : 0;
}

void session_stop(struct session *s)
{
	promise_session_stop(s->promises);
}

void session_free(struct session *s)
{
	if (s == NULL)
		return;
	if (s->promises != NULL)
		session_stop(s);
	lock_session_free(s->locks);
	dirs_free(s->dirs);
	handles_done(&s->handles);
	promise_session_free(s->promises);
	way_done(&s->way);
	free(s);
	/* The sanitizers have a heap of their own: with them this call would be the first to set
	   up glibc's heap, which two threads must not do at once. */
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
	(void)malloc_trim(
		0); /* after a million nodes were freed, one block may keep the whole heap */
#endif
}
