/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/receive.c - reading whole frames from a lane
 *
 * Here:      one recv for a small frame, segments straight into their final memory,
 *            deadlines, and what a broken stream means for the lane.
 * Elsewhere: writing (lane.c), the contents (frame.c).
 * Called by: the owner thread.
 *
 * A frame without segments that fits the buffer is consumed only once it is complete,
 * so a deadline that passes before leaves the lane usable. Any other frame that was
 * begun must be finished, or the lane has failed.
 */
#include "protocol/internal.h"
#include "protocol/sockets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LARGE_RECV_BYTES ((size_t)1 << 30) /* recv() takes no more than 2 GiB at a time */

static enum opb_status
fail_read(struct opb_lane *lane, enum opb_status status, bool is_inside)
{
    switch (status) {
    case OPB_GONE:
        if (atomic_load(&lane->is_shut)) {
            return opb_lane_fail_with(lane, status,
                                      "the connection was shut down on this side");
        }
        return opb_lane_fail_with(lane, status, "the peer closed the connection%s",
                                  is_inside ? " in the middle of a frame" : "");
    case OPB_LATE:
        return opb_lane_fail_with(lane, status,
                                  "the deadline passed in the middle of reading a frame");
    case OPB_SYSTEM:
        return opb_lane_fail_with(lane, status, "reading failed: %s", strerror(errno));
    case OPB_NO_MEMORY:
        return opb_lane_fail_with(lane, status, "no memory for a frame of the peer");
    case OPB_TOO_LARGE:
        return opb_lane_fail_with(lane, status,
                                  "the peer sent a frame larger than the protocol allows");
    case OPB_OK:
    case OPB_BAD_FRAME:
    case OPB_REFUSED:
    case OPB_VERSION:
    case OPB_STOPPING:
    default:
        return opb_lane_fail_with(lane, status, "the peer sent a malformed frame");
    }
}

/* Has at least need bytes (at most the buffer's size) in the buffer. */
static enum opb_status
fill(struct opb_lane *lane, size_t need, uint64_t deadline_ms)
{
    while (lane->in_end - lane->in_start < need) {
        enum opb_status status;
        size_t count;

        if (lane->in_start == lane->in_end) {
            lane->in_start = lane->in_end = 0;
        }
        if (lane->in_start + need > sizeof(lane->in)) {
            memmove(lane->in, lane->in + lane->in_start, lane->in_end - lane->in_start);
            lane->in_end -= lane->in_start;
            lane->in_start = 0;
        }
        status =
            opb_stream_read(lane, lane->in + lane->in_end, sizeof(lane->in) - lane->in_end,
                            false, deadline_ms, &count);
        if (status != OPB_OK) {
            return status;
        }
        lane->in_end += count;
    }
    return OPB_OK;
}

/* Moves bytes out of the buffer, and reads the rest straight to where it belongs. */
static enum opb_status
take_bytes(struct opb_lane *lane, uint8_t *out, size_t bytes, uint64_t deadline_ms)
{
    size_t buffered = lane->in_end - lane->in_start;
    size_t count = bytes < buffered ? bytes : buffered;

    memcpy(out, lane->in + lane->in_start, count);
    lane->in_start += count;
    while (count < bytes) {
        size_t left = bytes - count;
        enum opb_status status;
        size_t more;

        status = opb_stream_read(lane, out + count,
                                 left < LARGE_RECV_BYTES ? left : LARGE_RECV_BYTES, true,
                                 deadline_ms, &more);
        if (status != OPB_OK) {
            return status;
        }
        count += more;
        if (count < bytes && opb_clock_ms() >= deadline_ms) {
            return OPB_LATE; /* however steadily they trickle */
        }
    }
    return OPB_OK;
}

/* What is known of a frame before it is consumed. */
struct head {
    struct opb_frame_header header;
    size_t head_bytes;
    uint64_t segment_bytes[OPB_MAX_SEGMENTS];
};

static enum opb_status
decode_head(struct opb_lane *lane, struct head *head, uint64_t deadline_ms)
{
    uint32_t limit = lane->is_trusted ? OPB_MAX_ENVELOPE_BYTES : OPB_MAX_HELLO_BYTES;
    enum opb_status status;
    const uint8_t *lengths;

    status = fill(lane, OPB_FRAME_HEADER_BYTES, deadline_ms);
    if (status != OPB_OK) {
        return status;
    }
    status = opb_frame_header_decode(&head->header, lane->in + lane->in_start, limit);
    if (status != OPB_OK) {
        return status;
    }
    if (!lane->is_trusted && head->header.segment_count > 0) {
        return OPB_BAD_FRAME;
    }
    head->head_bytes = OPB_FRAME_HEADER_BYTES + 8 * (size_t)head->header.segment_count;
    status = fill(lane, head->head_bytes, deadline_ms);
    if (status != OPB_OK) {
        return status;
    }
    lengths = lane->in + lane->in_start + OPB_FRAME_HEADER_BYTES;
    for (uint16_t i = 0; i < head->header.segment_count; i++) {
        status = opb_frame_segment_decode(&head->segment_bytes[i], lengths + 8 * (size_t)i);
        if (status != OPB_OK) {
            return status;
        }
    }
    return OPB_OK;
}

/* Memory is taken one segment at a time, as their bytes come. */
static enum opb_status
take_segments(struct opb_lane *lane, const struct head *head, struct opb_segment *segments,
              uint16_t *segment_count, uint64_t deadline_ms)
{
    const struct opb_segment_memory *memory = lane->memory;

    *segment_count = 0;
    for (uint16_t i = 0; i < head->header.segment_count; i++) {
        struct opb_segment *segment = &segments[i];
        enum opb_status status;

        segment->bytes = (size_t)head->segment_bytes[i];
        segment->owner = NULL;
        segment->data = memory->allocate(memory->context, segment->bytes, &segment->owner);
        if (segment->data == NULL) {
            return OPB_NO_MEMORY;
        }
        (*segment_count)++;
        status = take_bytes(lane, segment->data, segment->bytes, deadline_ms);
        if (status != OPB_OK) {
            return status;
        }
    }
    return OPB_OK;
}

/* Consumes a frame whose head is in the buffer. */
static enum opb_status
take_frame(struct opb_lane *lane, const struct head *head, struct opb_frame **out,
           uint64_t deadline_ms)
{
    struct opb_segment segments[OPB_MAX_SEGMENTS];
    const struct opb_segment_memory *memory = lane->memory;
    uint16_t segment_count = 0;
    enum opb_status status;
    uint8_t *envelope;

    envelope = malloc((size_t)head->header.envelope_bytes + 1);
    if (envelope == NULL) {
        return OPB_NO_MEMORY;
    }
    lane->in_start += head->head_bytes;
    status = take_bytes(lane, envelope, head->header.envelope_bytes, deadline_ms);
    if (status != OPB_OK) {
        goto free_envelope;
    }
    status = take_segments(lane, head, segments, &segment_count, deadline_ms);
    if (status != OPB_OK) {
        goto release_segments;
    }
    status = opb_frame_assemble(out, &envelope, head->header.envelope_bytes, segments,
                                segment_count, memory);
    if (status == OPB_OK) {
        return OPB_OK;
    }

release_segments:
    for (uint16_t i = 0; i < segment_count; i++) {
        memory->release(memory->context, segments[i].owner);
    }
free_envelope:
    free(envelope);
    return status;
}

/* finish_ms: for a large frame that has begun to come. */
static enum opb_status
receive_frame(struct opb_lane *lane, struct opb_frame **out, uint64_t deadline_ms,
              uint64_t finish_ms)
{
    enum opb_status status;
    struct head head;
    size_t whole_bytes;

    status = decode_head(lane, &head, deadline_ms);
    if (status == OPB_OK) {
        whole_bytes = head.head_bytes + head.header.envelope_bytes;
        if (whole_bytes <= sizeof(lane->in)) {
            status = fill(lane, whole_bytes, deadline_ms);
        }
    }
    if (status == OPB_LATE) {
        return OPB_LATE; /* nothing was consumed: what is here waits for the rest */
    }
    if (status != OPB_OK) {
        return fail_read(lane, status, lane->in_start != lane->in_end);
    }
    status = take_frame(lane, &head, out, finish_ms);
    if (status != OPB_OK) {
        return fail_read(lane, status, true);
    }
    return OPB_OK;
}

static enum opb_status
receive(struct opb_lane *lane, struct opb_frame **out, uint64_t deadline_ms,
        uint64_t finish_ms)
{
    enum opb_status status = opb_lane_status(lane);

    *out = NULL;
    if (status != OPB_OK) {
        return status;
    }
    status = receive_frame(lane, out, deadline_ms, finish_ms);
    if (status == OPB_OK && opb_offer_settle(lane, *out)) {
        opb_frame_free(*out);
        *out = NULL;
        status = receive_frame(lane, out, deadline_ms, finish_ms);
    }
    return status;
}

enum opb_status
opb_lane_receive(struct opb_lane *lane, struct opb_frame **out, uint64_t deadline_ms)
{
    return receive(lane, out, deadline_ms, deadline_ms);
}

enum opb_status
opb_lane_receive_now(struct opb_lane *lane, struct opb_frame **out, uint64_t finish_ms)
{
    return receive(lane, out, opb_clock_ms(), finish_ms);
}

bool
opb_lane_is_stale(struct opb_lane *lane)
{
    return opb_lane_status(lane) != OPB_OK || lane->in_start != lane->in_end ||
           !opb_stream_is_quiet(lane);
}
