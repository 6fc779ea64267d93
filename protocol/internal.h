/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/internal.h - what the files of protocol/ know about each other
 *
 * Here:      the insides of frames and lanes, and the envelope check.
 * Elsewhere: the contract (message.h, frame.h, lane.h). Nothing outside protocol/
 *            and its tests includes this file.
 */
#ifndef OPB_INTERNAL_H
#define OPB_INTERNAL_H

#include "frame.h"
#include "lane.h"
#include "limits.h"
#include "message.h"

#include <msgpack.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define OPB_MESSAGE_PARTS     (2u + OPB_MAX_SEGMENTS) /* header, envelope, segments */
#define OPB_LANE_BUFFER_BYTES 65536u                  /* a small frame costs one recv */
#define OPB_LANE_QUEUE_BYTES  65536u                  /* waiting posts, together */
#define OPB_LANE_POST_BYTES   16384u /* a larger post is not kept waiting */
#define OPB_FAILURE_BYTES     1024u

/* scan.c: walks an envelope without allocating. OPB_OK only if the bytes are exactly
 * one msgpack value, no count exceeds the bytes that follow, nesting stays within
 * OPB_MAX_DEPTH, and the only extension is a reference to one of the segments.
 * *item_count is then how many values all arrays and maps hold together. */
OPB_MUST_CHECK enum opb_status opb_scan_envelope(const uint8_t *bytes, size_t byte_count,
                                                 uint16_t segment_count,
                                                 size_t *item_count);

/* message.c */
enum opb_frame_type opb_message_type(const struct opb_message *message);
uint32_t opb_message_msgid(const struct opb_message *message);
bool opb_message_has_segments(const struct opb_message *message);

struct opb_frame {
    enum opb_frame_type type;
    uint32_t msgid;
    uint32_t method;
    bool is_fault;
    enum opb_fault fault;
    int32_t fault_code;
    const char *fault_text;
    const msgpack_object *body; /* the first param, or the result */
    uint32_t body_count;
    uint8_t *envelope; /* owned; every str and bin of the tree points into it */
    size_t envelope_bytes;
    msgpack_zone zone; /* the tree */
    const struct opb_segment_memory *memory;
    uint16_t segment_count;
    struct opb_segment segments[]; /* data NULL once taken */
};

/* frame.c: NUL-terminated text of a str, or NULL without memory. Embedded NULs are
 * the caller's to check. */
const char *opb_frame_terminate(struct opb_frame *frame, const msgpack_object_str *text);

/* exchange.c: the request or notification that the owner is serving now. */
struct opb_serving {
    bool is_request;
    bool is_answered;
    uint32_t msgid;
};

/* What looking for frames was good for. Looks in vain are not repeated often. */
struct opb_linger {
    unsigned to_skip; /* before the next one: the last ones were in vain */
    unsigned skipped; /* how many that were */
};

struct opb_lane {
    int fd; /* owned, never changes */
    const struct opb_segment_memory *memory;
    bool is_trusted;
    bool is_prompt;           /* its answers come soon: linger before sleeping */
    struct opb_linger linger; /* between frames */
    struct opb_linger bulk;   /* inside of one, for bytes or room */
    unsigned looks;           /* at memory, before the core is yielded */

    struct opb_ring *ring;    /* owned; frames go through it, once both ends have agreed */
    struct opb_ring *offered; /* owned; the peer has not said whether it takes it */
    int offer_fd;             /* leaves with the next write; -1: none */
    int taken_fd;             /* came with the welcome; -1: none */
    size_t left_bytes;        /* that may still be read once this end is shut down */
    bool is_ring_wanted;      /* one that comes is taken */

    _Atomic(enum opb_status) status; /* set by the owner, looked at by opb_lane_flush() */
    atomic_bool is_shut;
    char failure[OPB_FAILURE_BYTES];

    pthread_mutex_t send_lock; /* one writer at a time; guards the queue */
    uint8_t *queue;            /* OPB_LANE_QUEUE_BYTES, made by the first post */
    size_t queue_start;
    size_t queue_end;
    atomic_size_t queued_bytes; /* queue_end - queue_start, for opb_lane_has_posts() */

    uint32_t depth;
    uint32_t last_msgid;
    struct opb_serving *serving; /* lent by the frame of opb_exchange() that serves */

    size_t in_start;
    size_t in_end;
    uint8_t in[OPB_LANE_BUFFER_BYTES];
};

/* lane.c: as opb_lane_fail(), with a format; gives back status. errno is kept. */
OPB_PRINTF(3, 4)
enum opb_status opb_lane_fail_with(struct opb_lane *lane, enum opb_status status,
                                   const char *format, ...);

/* stream.c: bytes, over the socket or through the ring. Reads at least one byte, at most
 * capacity. is_bulk: the rest of something large, which is on its way. OPB_BAD_FRAME: the
 * peer has broken the ring. */
OPB_MUST_CHECK enum opb_status opb_stream_read(struct opb_lane *lane, void *out,
                                               size_t capacity, bool is_bulk,
                                               uint64_t deadline_ms, size_t *count);
/* Writes all parts, which it changes. *written says how far it came. */
OPB_MUST_CHECK enum opb_status opb_stream_write(struct opb_lane *lane, struct iovec *parts,
                                                size_t part_count, uint64_t deadline_ms,
                                                size_t *written);
/* Writes what there is room for now, perhaps nothing. OPB_GONE: nobody will read it. */
OPB_MUST_CHECK enum opb_status opb_stream_write_now(struct opb_lane *lane,
                                                    const void *bytes, size_t byte_count,
                                                    size_t *written);
/* Looks for the next frame for some microseconds, so that one that is about to come finds
 * its reader awake. Reads nothing and reports nothing. Where the last looks were in vain,
 * it often does not look. */
void opb_stream_linger(struct opb_lane *lane);
/* False: there is something to read, or the peer is gone. */
bool opb_stream_is_quiet(struct opb_lane *lane);

/* offer.c: sendmsg() and recvmsg() with a descriptor for the ring. */
ssize_t opb_offer_send(struct opb_lane *lane, struct msghdr *header, int flags);
ssize_t opb_offer_receive(struct opb_lane *lane, void *out, size_t capacity, int flags);
/* The opener has got its welcome: takes the memory that came with it, if any. */
OPB_MUST_CHECK enum opb_status opb_offer_take(struct opb_lane *lane, uint64_t deadline_ms);
/* The acceptor's first frame from a peer: true if all that it said is that it takes the
 * memory. */
bool opb_offer_settle(struct opb_lane *lane, struct opb_frame *frame);
void opb_offer_end(struct opb_lane *lane);

/* Waits for events (POLLIN, POLLOUT) until the deadline: OPB_OK, OPB_LATE, OPB_SYSTEM. */
OPB_MUST_CHECK enum opb_status opb_lane_wait(struct opb_lane *lane, short events,
                                             uint64_t deadline_ms);

#endif
