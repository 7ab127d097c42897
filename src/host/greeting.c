#include "host/greeting.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "host/export.h"
#include "host/hnode.h"
#include "host/promise.h"
#include "host/session.h"
#include "host/sessions.h"
#include "host/watch.h"
#include "plain/plain_codec.h"
#include "transport/hello.h"

/* The features of this server that concern pushes, for a client that takes them. */
static uint64_t push_features(const struct host *h)
{
	switch (watch_mode(h->watch)) {
	case WATCH_FILESYSTEMS:
		return HELLO_PUSH | HELLO_WATCH;
	case WATCH_OBJECTS:
		return HELLO_PUSH | HELLO_WATCH | HELLO_WATCH_DIRS;
	default:
		return HELLO_PUSH;
	}
}

/* Describes the server and its root, of which a client that resumes has a reference already. */
static int describe(const struct host *h, const struct greeted *g, const struct msg *q,
		    struct msg *p)
{
	int root = export_root(h->export);
	struct session *s = g->session;
	struct stamp stamp = {0};
	struct hnode *n;
	int r = hnodes_intern(h->nodes, root, NULL, NULL, 0, &n);

	if (r < 0)
		return r;
	if (!g->resumed && g->copied == NULL)
		r = promise_tell(session_promises(s), n, 0, &stamp);
	if (r < 0) {
		hnode_unref(h->nodes, n);
		return r;
	}
	MSG_SET(p, version, q->version < HELLO_VERSION ? q->version : HELLO_VERSION);
	MSG_SET(p, slots, SESSION_SLOTS);
	if (q->features & HELLO_FILES) /* clients of before end at what they do not know */
		MSG_SET(p, files, handles_granted(session_handles(s)));
	MSG_SET(p, epoch, h->epoch);
	MSG_SET(p, session, session_id(s));
	uid_t uid = geteuid();
	gid_t gid = getegid();
	bool squashed = export_squashed(h->export, &uid, &gid);
	uid = export_shown_uid(h->export, uid);
	gid = export_shown_gid(h->export, gid);
	MSG_SET(p, features,
		(export_privileged(h->export) && !squashed ? HELLO_ROOT : 0u) |
			(export_read_only(h->export) ? HELLO_READONLY : 0u) |
			(export_masks(h->export) ? HELLO_UMASK : 0u) | HELLO_GIVE_UP |
			(q->features & (HELLO_ACL | HELLO_COPIES)) |
			(q->features & HELLO_PUSH ? push_features(h) : 0u) |
			(session_resumes(s) ? HELLO_RESUME : 0u) |
			(g->resumed ? HELLO_RESUMED : 0u) | (g->copied != NULL ? HELLO_COPY : 0u) |
			(g->resumed && session_locks_lost(s) ? HELLO_LOCKS_LOST : 0u));
	MSG_SET(p, uid, uid);
	MSG_SET(p, gid, gid);
	uint64_t version = hnode_version(n);
	r = export_attr(h->export, root, &p->attr);
	if (r == 0) {
		p->attr.version = version;
		MSG_SET(p, node, hnode_id(n));
		p->present |= MSG_BIT(attr);
	}
	hnode_unref(h->nodes, n);
	return r;
}

/* A new one; of a copy of another session's client, which is to go on with what that has. */
static int add_session(struct host *h, uint64_t id, const struct msg *q, struct greeted *g,
		       unsigned char token[MSG_TOKEN_LEN])
{
	int r = session_new(h, id, q->features, &g->session);

	if (r == 0 && session_resumes(g->session))
		r = sessions_add(h->sessions, g->session, token);
	if (r == 0 && g->copied != NULL)
		promise_use_numbers(session_promises(g->session));
	return r;
}

/* The session that the client asks for, or a new one. */
static int find_session(struct host *h, uint64_t id, struct stream *stream, const struct msg *q,
			struct greeted *g, unsigned char token[MSG_TOKEN_LEN])
{
	const uint64_t copies = HELLO_COPIES | HELLO_RESUME;
	bool asks = MSG_HAS(q, token) && MSG_HAS(q, session) && q->epoch == h->epoch;
	int r = -ENOENT;

	g->seq = q->seq;
	if (asks && (q->features & HELLO_COPY) == 0)
		r = sessions_take(h->sessions, q->session, q->token, stream, &g->session, token);
	g->resumed = r == 0;
	if (r != -ENOENT)
		return r;
	if (asks && (q->features & copies) == copies)
		g->copied = sessions_copied(h->sessions, q->session, q->token);
	return add_session(h, id, q, g, token);
}

static void drop_session(const struct host *h, struct greeted *g)
{
	if (g->resumed)
		sessions_taken(h->sessions, g->session, false);
	else if (g->session != NULL)
		sessions_remove(h->sessions, g->session);
	session_unref(g->session);
	session_unref(g->copied);
	*g = (struct greeted){0};
}

static int greet(struct host *h, uint64_t id, struct stream *stream, const struct msg *q,
		 struct msg *p, unsigned char token[MSG_TOKEN_LEN], struct greeted *ret)
{
	int r = find_session(h, id, stream, q, ret, token);

	if (r == 0 && session_resumes(ret->session))
		MSG_SET(p, token, ((struct slice){token, MSG_TOKEN_LEN}));
	if (r == 0)
		r = describe(h, ret, q, p);
	if (r < 0)
		drop_session(h, ret);
	return r;
}

/* The reason to refuse a HELLO that has our magic; NULL: there is none. 0 is no version. */
static const char *wrong_hello(int decoded, const struct msg *hello)
{
	if (decoded < 0)
		return "the greeting is malformed";
	if (!MSG_HAS(hello, version) || hello->version == 0)
		return "the greeting has no version";
	return NULL;
}

/* ---- the secret ---- */

static bool is_nonce(const struct msg *m)
{
	return MSG_HAS(m, nonce) && m->nonce.len == SECRET_NONCE_LEN;
}

/* A client that has no secret at all sends no nonce, and is refused for good. */
static const char *ask(const struct msg *hello, struct challenge *c)
{
	if (!is_nonce(hello))
		return "a secret is needed (secret_file)";
	if (secret_nonce(c->nonces.server) < 0)
		return "no random numbers are to be had";
	memcpy(c->nonces.client, hello->nonce.data, SECRET_NONCE_LEN);
	c->asked = true;
	return "prove that you have the secret";
}

/*
 * NULL: the client has the secret, or needs none; then p->proof, in proof, tells the client that
 * this server has it too. Else the reason to refuse the client, which may be the challenge.
 */
static const char *authenticate(const struct secret *secret, const struct msg *hello,
				struct challenge *c, unsigned char proof[SECRET_PROOF_LEN],
				struct msg *p)
{
	if (secret == NULL)
		return NULL;
	if (!c->asked)
		return ask(hello, c);
	c->asked = false; /* one answer to each */
	if (!MSG_HAS(hello, proof) ||
	    !secret_proved(secret, SECRET_CLIENT, &c->nonces, hello->proof.data, hello->proof.len))
		return "the secret is another one";
	secret_prove(secret, SECRET_SERVER, &c->nonces, proof);
	MSG_SET(p, proof, ((struct slice){proof, SECRET_PROOF_LEN}));
	return NULL;
}

static size_t encode_refusal(const char *why, const struct challenge *c, unsigned char *buf)
{
	struct msg m = {0};

	if (!c->asked)
		return hello_encode_refusal(why, buf);
	MSG_SET(&m, reason, ((struct slice){why, strlen(why)}));
	MSG_SET(&m, nonce, ((struct slice){c->nonces.server, SECRET_NONCE_LEN}));
	return hello_encode(&m, buf);
}

void greeting_answer(struct host *h, uint64_t client, struct stream *stream, struct slice data,
		     unsigned char *buf, struct plain_reply *reply, struct challenge *challenge,
		     struct greeted *ret)
{
	unsigned char token[MSG_TOKEN_LEN], proof[SECRET_PROOF_LEN];
	struct msg hello = {0}, p = {0};
	int r = hello_decode(data, &hello);

	if (r == -ENOMSG) {
		reply->err = -ENOSYS; /* the answer of a server that does not know HELLO */
		return;
	}
	const char *why = wrong_hello(r, &hello);
	r = why != NULL ? -EPROTO : 0;
	if (r == 0) {
		why = authenticate(h->config->secret, &hello, challenge, proof, &p);
		r = why != NULL ? -EACCES : greet(h, client, stream, &hello, &p, token, ret);
	}
	reply->err = msg_errno(r);
	if (r < 0 && why == NULL)
		why = r == -EAGAIN ? "the session is still busy" : strerror(-r);
	if (r < 0 && r != -EAGAIN && !challenge->asked)
		log_warning("client %llu: refused: %s", (unsigned long long)client, why);
	reply->data = (struct slice){buf, r < 0 ? encode_refusal(why, challenge, buf)
						: hello_encode(&p, buf)};
}
