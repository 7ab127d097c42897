/*
 * Resolving: a request that a server before this one had begun, and of which nobody knows whether
 * it was carried out, has come again. What there is tells, together with what was written down when
 * it began (slots.h): then it is executed, or answered as it would have been. Where that does not
 * tell, it fails with EIO, and is counted: it is never guessed and never carried out twice.
 */
#pragma once

struct request;

enum resolution {
	RESOLVE_EXECUTE, /* it was not carried out, or may be again */
	RESOLVE_DONE,	 /* it was: r->p is the reply, but for its id */
	RESOLVE_UNKNOWN,
};

enum resolution request_resolve(struct request *r);
