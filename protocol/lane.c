/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/lane.c - a lane's life, and writing frames and posts
 *
 * Here:      opening, failing and closing; one write for a frame and the posts that
 *            waited for it; flushing from another thread.
 * Elsewhere: reading (receive.c), nesting (exchange.c), packing (message.c).
 * Called by: the owner thread; opb_lane_flush(), opb_lane_has_posts() and
 *            opb_lane_shutdown() by any.
 */
#include "protocol/lane.h"

#include "protocol/internal.h"
#include "protocol/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SOCKET_BUFFER_BYTES (1024 * 1024)

/* A lane blocks, closes on exec, and has room for a burst. */
static enum opb_status
prepare_socket(int fd)
{
    int size = SOCKET_BUFFER_BYTES;
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        return OPB_SYSTEM;
    }
    /* Best effort: the kernel caps it, and a small buffer only costs switches. */
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    return OPB_OK;
}

enum opb_status
opb_lane_open(struct opb_lane **out, int *fd, const struct opb_segment_memory *memory)
{
    enum opb_status status;
    struct opb_lane *lane;
    int error;

    *out = NULL;
    lane = malloc(sizeof(*lane));
    if (lane == NULL) {
        return OPB_NO_MEMORY;
    }
    /* Not the receive buffer: pages that no frame ever needed stay untouched. */
    memset(lane, 0, offsetof(struct opb_lane, in));
    status = prepare_socket(*fd);
    if (status != OPB_OK) {
        goto free_lane;
    }
    error = pthread_mutex_init(&lane->send_lock, NULL);
    if (error != 0) {
        errno = error;
        status = OPB_SYSTEM;
        goto free_lane;
    }
    atomic_init(&lane->status, OPB_OK);
    atomic_init(&lane->is_shut, false);
    atomic_init(&lane->queued_bytes, 0);
    lane->memory = memory;
    lane->offer_fd = -1;
    lane->taken_fd = -1;
    lane->left_bytes = OPB_RING_BYTES;
    lane->fd = *fd;
    *fd = -1;
    *out = lane;
    return OPB_OK;

free_lane:
    free(lane);
    return status;
}

void
opb_lane_close(struct opb_lane *lane)
{
    if (lane == NULL) {
        return;
    }
    (void)close(lane->fd); /* nothing can be done about a failure */
    opb_offer_end(lane);
    /* In a fork child another thread may have held the lock: then it just leaks. */
    (void)pthread_mutex_destroy(&lane->send_lock);
    free(lane->queue);
    free(lane);
}

void
opb_lane_trust(struct opb_lane *lane)
{
    lane->is_trusted = true;
}

void
opb_lane_expect_prompt(struct opb_lane *lane)
{
    lane->is_prompt = true;
}

void
opb_lane_linger(struct opb_lane *lane)
{
    opb_stream_linger(lane);
}

int
opb_lane_fd(const struct opb_lane *lane)
{
    return lane->fd;
}

enum opb_status
opb_lane_status(const struct opb_lane *lane)
{
    return atomic_load_explicit(&lane->status, memory_order_acquire);
}

const char *
opb_lane_failure(const struct opb_lane *lane)
{
    return lane->failure;
}

uint32_t
opb_lane_depth(const struct opb_lane *lane)
{
    return lane->depth;
}

void
opb_lane_fail(struct opb_lane *lane, enum opb_status status, const char *why)
{
    if (status == OPB_OK || opb_lane_status(lane) != OPB_OK) {
        return; /* the first failure is the one that explains */
    }
    (void)snprintf(lane->failure, sizeof(lane->failure), "%s", why); /* may be cut */
    atomic_store_explicit(&lane->status, status, memory_order_release);
}

enum opb_status
opb_lane_fail_with(struct opb_lane *lane, enum opb_status status, const char *format, ...)
{
    char why[OPB_FAILURE_BYTES];
    int error = errno;
    va_list args;

    va_start(args, format);
    (void)vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    opb_lane_fail(lane, status, why);
    errno = error;
    return status;
}

void
opb_lane_shutdown(struct opb_lane *lane)
{
    atomic_store(&lane->is_shut, true);
    (void)shutdown(lane->fd, SHUT_RDWR); /* fails only if the peer has gone already */
}

static void
set_queue(struct opb_lane *lane, size_t start, size_t end)
{
    if (start == end) {
        start = end = 0;
    }
    lane->queue_start = start;
    lane->queue_end = end;
    atomic_store_explicit(&lane->queued_bytes, end - start, memory_order_release);
}

static enum opb_status
fail_write(struct opb_lane *lane, enum opb_status status)
{
    if (status == OPB_GONE) {
        return opb_lane_fail_with(lane, status,
                                  atomic_load(&lane->is_shut)
                                      ? "the connection was shut down on this side"
                                      : "the peer closed the connection before it had read "
                                        "everything");
    }
    if (status == OPB_BAD_FRAME) {
        return opb_lane_fail_with(lane, status, "the peer has broken the shared memory");
    }
    if (status == OPB_LATE) {
        return opb_lane_fail_with(
            lane, status,
            "the deadline passed in the middle of writing a frame: the "
            "peer does not read");
    }
    return opb_lane_fail_with(lane, status, "writing failed: %s", strerror(errno));
}

/* Writes the queue and a finished frame. Called with the lock held. A deadline that
 * passes before the frame has begun leaves the lane whole. */
static enum opb_status
write_frame(struct opb_lane *lane, const struct iovec *frame, size_t frame_part_count,
            uint64_t deadline_ms)
{
    struct iovec parts[1 + OPB_MESSAGE_PARTS];
    size_t queued = lane->queue_end - lane->queue_start;
    size_t part_count = 0;
    enum opb_status status;
    size_t written;

    if (queued > 0) {
        parts[0].iov_base = lane->queue + lane->queue_start;
        parts[0].iov_len = queued;
        part_count = 1;
    }
    memcpy(parts + part_count, frame, frame_part_count * sizeof(*frame));
    part_count += frame_part_count;
    status = opb_stream_write(lane, parts, part_count, deadline_ms, &written);
    if (written >= queued) {
        set_queue(lane, 0, 0);
    }
    else {
        set_queue(lane, lane->queue_start + written, lane->queue_end);
    }
    if (status == OPB_OK || (status == OPB_LATE && written <= queued)) {
        return status;
    }
    return fail_write(lane, status);
}

/* A response must belong to the request that is being served, and be the only one. */
static bool
is_response_due(const struct opb_lane *lane, const struct opb_message *message)
{
    const struct opb_serving *serving = lane->serving;

    if (opb_message_type(message) != OPB_RESPONSE || serving == NULL) {
        return true;
    }
    return serving->is_request && !serving->is_answered &&
           serving->msgid == opb_message_msgid(message);
}

enum opb_status
opb_lane_send(struct opb_lane *lane, struct opb_message *message, uint64_t deadline_ms)
{
    enum opb_status status = opb_lane_status(lane);
    const struct iovec *parts;
    size_t part_count;

    if (status != OPB_OK) {
        return status;
    }
    status = opb_message_frame(message, &parts, &part_count);
    if (status != OPB_OK) {
        return status;
    }
    if (!is_response_due(lane, message)) {
        return OPB_BAD_FRAME;
    }
    (void)pthread_mutex_lock(&lane->send_lock); /* a normal mutex: cannot fail */
    status = write_frame(lane, parts, part_count, deadline_ms);
    (void)pthread_mutex_unlock(&lane->send_lock);
    if (status == OPB_OK && lane->serving != NULL &&
        opb_message_type(message) == OPB_RESPONSE) {
        lane->serving->is_answered = true;
    }
    return status;
}

/* Appends a frame to the queue if there is room. Called with the lock held. */
static bool
queue_frame(struct opb_lane *lane, const struct iovec *parts, size_t part_count,
            size_t frame_bytes)
{
    if (lane->queue_end - lane->queue_start + frame_bytes > OPB_LANE_QUEUE_BYTES) {
        return false;
    }
    if (lane->queue_end + frame_bytes > OPB_LANE_QUEUE_BYTES) {
        memmove(lane->queue, lane->queue + lane->queue_start,
                lane->queue_end - lane->queue_start);
        lane->queue_end -= lane->queue_start;
        lane->queue_start = 0;
    }
    for (size_t i = 0; i < part_count; i++) {
        memcpy(lane->queue + lane->queue_end, parts[i].iov_base, parts[i].iov_len);
        lane->queue_end += parts[i].iov_len;
    }
    set_queue(lane, lane->queue_start, lane->queue_end);
    return true;
}

/* False: it does not fit there. Called with the lock held. */
static bool
queue_post(struct opb_lane *lane, const struct opb_message *message,
           const struct iovec *parts, size_t part_count)
{
    size_t frame_bytes = parts[0].iov_len + parts[1].iov_len;

    if (opb_message_has_segments(message) || frame_bytes > OPB_LANE_POST_BYTES) {
        return false;
    }
    if (lane->queue == NULL) {
        lane->queue = malloc(OPB_LANE_QUEUE_BYTES);
    }
    return lane->queue != NULL && queue_frame(lane, parts, part_count, frame_bytes);
}

/* Called with the lock held. */
static enum opb_status
post_locked(struct opb_lane *lane, struct opb_message *message, const struct iovec *parts,
            size_t part_count)
{
    return queue_post(lane, message, parts, part_count)
               ? OPB_OK
               : write_frame(lane, parts, part_count, OPB_FOREVER);
}

enum opb_status
opb_lane_post(struct opb_lane *lane, struct opb_message *message)
{
    enum opb_status status = opb_lane_status(lane);
    const struct iovec *parts;
    size_t part_count;

    if (status != OPB_OK) {
        return status;
    }
    status = opb_message_frame(message, &parts, &part_count);
    if (status != OPB_OK) {
        return status;
    }
    if (opb_message_type(message) != OPB_NOTIFY) {
        return OPB_BAD_FRAME;
    }
    (void)pthread_mutex_lock(&lane->send_lock); /* a normal mutex: cannot fail */
    status = post_locked(lane, message, parts, part_count);
    (void)pthread_mutex_unlock(&lane->send_lock);
    return status;
}

bool
opb_lane_post_now(struct opb_lane *lane, struct opb_message *message)
{
    const struct iovec *parts;
    size_t part_count;
    bool is_posted;

    if (opb_lane_status(lane) != OPB_OK ||
        opb_message_frame(message, &parts, &part_count) != OPB_OK ||
        pthread_mutex_trylock(&lane->send_lock) != 0) { /* the owner may wait for room */
        return false;
    }
    is_posted = queue_post(lane, message, parts, part_count);
    (void)pthread_mutex_unlock(&lane->send_lock);
    return is_posted;
}

bool
opb_lane_has_posts(struct opb_lane *lane)
{
    return atomic_load_explicit(&lane->queued_bytes, memory_order_acquire) > 0;
}

/* Called with the lock held. */
static void
flush_locked(struct opb_lane *lane)
{
    while (lane->queue_end > lane->queue_start) {
        size_t written;

        if (opb_stream_write_now(lane, lane->queue + lane->queue_start,
                                 lane->queue_end - lane->queue_start, &written) != OPB_OK) {
            set_queue(lane, 0, 0);   /* half a frame may be out, or nobody woken: */
            opb_lane_shutdown(lane); /* the lane is of no use, which both ends learn */
            return;
        }
        if (written == 0) {
            return;
        }
        set_queue(lane, lane->queue_start + written, lane->queue_end);
    }
}

void
opb_lane_flush(struct opb_lane *lane)
{
    if (!opb_lane_has_posts(lane) || opb_lane_status(lane) != OPB_OK) {
        return;
    }
    if (pthread_mutex_trylock(&lane->send_lock) != 0) {
        return; /* the owner is writing, and writes the posts first */
    }
    flush_locked(lane);
    (void)pthread_mutex_unlock(&lane->send_lock);
}
