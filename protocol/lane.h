/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/lane.h - one call stack between a node and a host, over one byte stream
 *
 * Here:      whole frames in and out, posts that wait for company, deadlines,
 *            noticing a lost peer, strictly nested exchanges.
 * Elsewhere: what a payload means (plugin/, worker/), what a lost peer leads to.
 * May use:   the system, msgpack-c. Not Python.h: a lane needs no interpreter.
 *
 * Threads: a lane has one owner thread at a time. Only opb_lane_flush() and
 * opb_lane_shutdown() may be called by others meanwhile. A lane that has failed
 * stays failed: every later call says the same status at once.
 * Deadlines are CLOCK_MONOTONIC milliseconds, or OPB_FOREVER.
 */
#ifndef OPB_LANE_H
#define OPB_LANE_H

#include "frame.h"
#include "message.h"
#include "status.h"

struct opb_lane;

/* Opens a lane over a connected, blocking stream socket. Takes *fd and sets it
 * to -1. memory is lent for the life of the lane. Gives *out; end it with
 * opb_lane_close(). */
OPB_MUST_CHECK enum opb_status opb_lane_open(struct opb_lane **out, int *fd,
                                             const struct opb_segment_memory *memory);
void opb_lane_close(struct opb_lane *lane); /* NULL is fine */

/* Before the handshake is done, envelopes are limited to OPB_MAX_HELLO_BYTES and
 * segments are refused; this lifts that. */
void opb_lane_trust(struct opb_lane *lane);

/* The peer answers requests on this lane soon: opb_exchange() looks for the answer some
 * microseconds before it sleeps. Owner only. */
void opb_lane_expect_prompt(struct opb_lane *lane);

/* The two ends of a lane on one machine can share memory, in which frames need no system
 * call. Acceptor: offers some with the welcome. Opener: takes it, if it is offered. Where
 * one of them does not, or the socket passes no descriptors, frames go over the socket. */
void opb_lane_offer_memory(struct opb_lane *lane);
void opb_lane_want_memory(struct opb_lane *lane);
bool opb_lane_has_memory(const struct opb_lane *lane); /* owner only */
/* In the child of a fork: the lane is the parent's, and this copy can do no harm any more.
 * The descriptor is the caller's matter. */
void opb_lane_orphan(struct opb_lane *lane);

/* Writes the frame, after the posts that were waiting before it, in one writev
 * where it fits. The message is the caller's to reuse on every outcome. OPB_LATE fails
 * the lane only if a part of the frame is out; an incomplete message, and a response
 * that is not due in a serve function, are OPB_BAD_FRAME without touching the lane. Any
 * later failure, OPB_LATE too, fails the lane. */
OPB_MUST_CHECK enum opb_status
opb_lane_send(struct opb_lane *lane, struct opb_message *message, uint64_t deadline_ms);

/* Queues a notification to leave with the next send or flush. A large one (or a
 * full queue) is written at once, in order, and waits until the peer reads: it is
 * opb_lane_shutdown() that ends such a wait. */
OPB_MUST_CHECK enum opb_status opb_lane_post(struct opb_lane *lane,
                                             struct opb_message *message);
/* The same from a thread that is not the owner, and without any wait. False: that cannot be
 * now, or the frame is too large for the queue; nothing was posted. */
OPB_MUST_CHECK bool opb_lane_post_now(struct opb_lane *lane, struct opb_message *message);
/* Writes waiting posts; any thread. Never blocks for long: what the socket does
 * not take now stays queued. */
void opb_lane_flush(struct opb_lane *lane);
bool opb_lane_has_posts(struct opb_lane *lane); /* any thread */

/* For who serves the lane, between two frames: looks for the next for some microseconds,
 * since requests often come in a row. Reads nothing, reports nothing, and often does not
 * look where that has been in vain. Owner only. */
void opb_lane_linger(struct opb_lane *lane);

/* Reads one whole frame. Gives *out. OPB_LATE leaves the lane usable, with what has
 * come so far kept, unless a large frame (64 KiB, or segments) was half read. */
OPB_MUST_CHECK enum opb_status
opb_lane_receive(struct opb_lane *lane, struct opb_frame **out, uint64_t deadline_ms);
/* The same without waiting for a frame: OPB_LATE if there is none, or a small one only in
 * part. The rest of a large one that has begun to come may take until finish_ms. */
OPB_MUST_CHECK enum opb_status
opb_lane_receive_now(struct opb_lane *lane, struct opb_frame **out, uint64_t finish_ms);

/* Wakes the owner, which then sees OPB_GONE. Any thread. */
void opb_lane_shutdown(struct opb_lane *lane);

/* True if the idle peer has closed, or sent what nobody asked for. Owner only. */
bool opb_lane_is_stale(struct opb_lane *lane);

int opb_lane_fd(const struct opb_lane *lane); /* lends; -1 after a fork child closed it */
enum opb_status opb_lane_status(const struct opb_lane *lane);
/* Lends a sentence on why the lane failed, for logs: "" if it has not. */
const char *opb_lane_failure(const struct opb_lane *lane);
/* Marks the lane failed: what the peer sent made no sense. Owner only. */
void opb_lane_fail(struct opb_lane *lane, enum opb_status status, const char *why);
uint32_t
opb_lane_depth(const struct opb_lane *lane); /* requests now waiting for a response */

/* Runs a request or notification that arrived while waiting. For a request it
 * must send exactly one response on the lane (or fail it). The frame stays the
 * exchange's. A status other than OPB_OK ends the exchange with it. */
typedef enum opb_status (*opb_serve_fn)(void *context, struct opb_lane *lane,
                                        struct opb_frame *frame);

/* Sends a request and serves whatever comes until its own response arrives:
 * strictly nested, so a response to any other request fails the lane. Gives
 * *response (which may carry a fault). OPB_TOO_LARGE beyond OPB_MAX_CALL_DEPTH,
 * without touching the lane. Any later failure, OPB_LATE too, fails the lane. */
OPB_MUST_CHECK enum opb_status opb_exchange(struct opb_lane *lane,
                                            struct opb_message *request, opb_serve_fn serve,
                                            void *context, uint64_t deadline_ms,
                                            struct opb_frame **response);

#endif
