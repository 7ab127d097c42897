/*
 * Frames over one connected stream socket, for both sides.
 *
 * Reading and writing are independent: one thread at a time may receive, and
 * any number may send (a mutex inside). The stream owns its fd. Errors are
 * negative: -ECONNRESET for an end of file inside a frame, 0 frames at a
 * clean end (-ENODATA), -EPROTO for a malformed frame, -EHOSTDOWN for a
 * descriptor with nobody behind it to send to, else -errno. After any error
 * the stream is of no use but to be freed.
 */
#pragma once

#include <sys/types.h>

#include "core/msg.h"
#include "transport/patience.h"

struct stream;

/* Takes over fd, also on failure. */
int stream_new(int fd, struct stream **ret);
/*
 * Room for a few large frames, so that a sender seldom waits for the receiver in the middle of one:
 * at most STREAM_BUFFERS bytes in all, of the kernel's memory.
 */
#define STREAM_BUFFERS ((size_t)8 << 20)
void stream_enlarge(struct stream *s);
void stream_free(struct stream *s);

/* Wakes every thread that waits in this stream and makes it fail. Any thread. */
void stream_shutdown(struct stream *s);

/*
 * Bounds every wait from now on, those of sends included; with NULL, as in a
 * new stream, no wait is bounded. With a bound, a virtio-serial port that nobody
 * holds open on the host is looked at again until somebody opens it; without a
 * bound, sending to such a port fails. *p is copied. To be called while no other
 * thread sends or receives.
 */
void stream_set_patience(struct stream *s, const struct patience *p);

/*
 * The bytes of a received head. The slices of a decoded message point into this
 * buffer, so that a thread may go on with its message while another receives.
 * The owner initialises the buffer with zeros, and frees it with head_buf_done.
 */
struct head_buf {
	unsigned char *data; /* `small`, or memory from malloc */
	size_t cap;
	unsigned char small[1024];
};
void head_buf_done(struct head_buf *hb);

/*
 * Extended mode. Receives the head of the next frame into hb and *ret, whose
 * slices are valid until the next receive into hb. If the frame has a payload
 * (MSG_HAS(ret, payload)), its ret->payload.len bytes must be fetched with
 * stream_recv_payload before the next stream_recv; dst NULL passes over them.
 * *ret_why tells the reason of -EPROTO.
 */
int stream_recv(struct stream *s, struct head_buf *hb, struct msg *ret, const char **ret_why);
int stream_recv_payload(struct stream *s, void *dst, size_t len);

/* True if bytes of the next frame were read already: waiting for the fd would be wrong. */
bool stream_buffered(const struct stream *s);

/* Sends m, followed by m->payload.data if m has a payload. Blocks. */
int stream_send(struct stream *s, const struct msg *m);

/* Sends the bytes of one whole frame, which are in one or two parts. Blocks. */
int stream_send_raw(struct stream *s, const void *a, size_t a_len, const void *b, size_t b_len);

/* Waits until some bytes can be sent, or sending would fail; an error if sending will always
 * fail. */
int stream_wait_writable(struct stream *s);

/*
 * Sends the rest of the two parts, from byte `from` of both together. Blocks. The caller
 * keeps others from sending.
 */
int stream_send_from(struct stream *s, const void *a, size_t a_len, const void *b, size_t b_len,
		     size_t from);

/*
 * Sends as much as the socket takes now without waiting, starting at byte
 * `from` of the two parts together. Returns the bytes sent, or -errno
 * (-EAGAIN: nothing at the moment). The caller keeps others from sending.
 */
ssize_t stream_try_send(struct stream *s, const void *a, size_t a_len, const void *b, size_t b_len,
			size_t from);

/*
 * Plain mode: u32 length and that many bytes, at most limit. *buf is grown
 * with realloc as bytes arrive, never by what the length claims; *ret_len is
 * the length of the frame. timeout_ms: -1 waits for ever, else -ETIMEDOUT.
 */
int stream_recv_plain(struct stream *s, size_t limit, unsigned char **buf, size_t *cap,
		      size_t *ret_len, int timeout_ms);
/* From now on such a buffer grows only where `room` allows for its new size: else -ENOBUFS. */
void stream_set_room(struct stream *s, bool (*room)(void *arg, size_t size), void *arg);
int stream_send_plain(struct stream *s, const void *data, size_t len);
