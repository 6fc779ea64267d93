/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/fuzz/fuzz_lane.c - any byte stream from the peer of a lane
 *
 * First byte: bit 0, the lane is trusted; bit 1, a request is waiting for its answer and
 * serves what comes; bit 2, it comes through memory that both share. The rest is what the
 * peer sends before it leaves.
 */
#include "protocol/internal.h"
#include "protocol/lane.h"
#include "protocol/ring.h"
#include "protocol/sockets.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_STREAM_BYTES  (128u * 1024u) /* fits the socket: the peer never waits */
#define MAX_SEGMENT_BYTES (16u * 1024u * 1024u)

static void *
allocate(void *context, size_t bytes, void **owner)
{
    (void)context;
    *owner = bytes > MAX_SEGMENT_BYTES ? NULL : malloc(bytes);
    return *owner;
}

static void
release(void *context, void *owner)
{
    (void)context;
    free(owner);
}

static const struct opb_segment_memory memory = {allocate, release, NULL};

static enum opb_status
serve(void *context, struct opb_lane *lane, struct opb_frame *frame)
{
    struct opb_message *message = context;

    if (opb_frame_type(frame) == OPB_NOTIFY) {
        return OPB_OK;
    }
    opb_message_error(message, opb_frame_msgid(frame), OPB_FAULT_UNAVAILABLE, 0, "no");
    return opb_lane_send(lane, message, opb_deadline_ms(1000));
}

static void
read_stream(struct opb_lane *lane, bool with_exchange)
{
    struct opb_message *message = opb_message_new();
    struct opb_message *answer = opb_message_new();
    struct opb_frame *frame;
    enum opb_status status;

    do {
        if (with_exchange) {
            opb_message_begin_request(message, 1, 0);
            status =
                opb_exchange(lane, message, serve, answer, opb_deadline_ms(1000), &frame);
        }
        else {
            status = opb_lane_receive(lane, &frame, opb_deadline_ms(1000));
        }
        if ((status == OPB_OK) != (frame != NULL)) {
            abort();
        }
        opb_frame_free(frame);
    } while (status == OPB_OK);
    if (status == OPB_LATE || opb_lane_status(lane) != status ||
        opb_lane_failure(lane)[0] == '\0') {
        abort(); /* the stream has an end, which fails the lane and says why */
    }
    opb_message_free(message);
    opb_message_free(answer);
}

/* Makes the lane read from memory, in which the peer has written. */
static void
write_memory(struct opb_lane *lane, const uint8_t *data, size_t size)
{
    struct opb_ring *peer;
    size_t total = 0;
    int fd;

    if (opb_ring_create(&lane->ring, &fd) != OPB_OK || opb_ring_map(&peer, &fd) != OPB_OK) {
        abort();
    }
    while (total < size) {
        const struct iovec rest = {.iov_base = (void *)(uintptr_t)(data + total),
                                   .iov_len = size - total};
        bool is_awaited;
        size_t count;

        if (opb_ring_write(peer, &rest, 1, &count, &is_awaited) != OPB_OK || count == 0) {
            abort();
        }
        total += count;
    }
    opb_ring_free(peer);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct opb_lane *lane;
    int fds[2];

    if (size < 1 || size > MAX_STREAM_BYTES ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) {
        return 0;
    }
    if (opb_lane_open(&lane, &fds[0], &memory) != OPB_OK) {
        abort();
    }
    if ((data[0] & 1u) != 0) {
        opb_lane_trust(lane);
    }
    if ((data[0] & 4u) != 0) {
        write_memory(lane, data + 1, size - 1);
    }
    else if (send(fds[1], data + 1, size - 1, MSG_NOSIGNAL | MSG_DONTWAIT) !=
             (ssize_t)(size - 1)) {
        abort();
    }
    if (shutdown(fds[1], SHUT_WR) != 0) {
        abort();
    }
    read_stream(lane, (data[0] & 2u) != 0);
    opb_lane_close(lane);
    (void)close(fds[1]);
    return 0;
}
