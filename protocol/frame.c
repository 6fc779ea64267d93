/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/frame.c - one incoming frame: header, validation, RPC shape
 *
 * Here:      from bytes to a checked tree of values.
 * Elsewhere: the check of counts and nesting (scan.c), reading values (reader.c),
 *            the socket (lane.c).
 * Called by: lane.c; tests and fuzzers through opb_frame_decode().
 */
#include "protocol/frame.h"

#include "protocol/blocks.h"
#include "protocol/internal.h"

#include <stdlib.h>
#include <string.h>

static void *
malloc_allocate(void *context, size_t bytes, void **owner)
{
    (void)context;
    *owner = opb_block_alloc(bytes);
    return *owner;
}

static void
malloc_release(void *context, void *owner)
{
    (void)context;
    opb_block_free(owner);
}

const struct opb_segment_memory opb_segment_malloc = {
    .allocate = malloc_allocate, .release = malloc_release, .context = NULL};

static uint64_t
get_be(const uint8_t *bytes, size_t byte_count)
{
    uint64_t value = 0;

    for (size_t i = 0; i < byte_count; i++) {
        value = value << 8 | bytes[i];
    }
    return value;
}

enum opb_status
opb_frame_header_decode(struct opb_frame_header *out,
                        const uint8_t bytes[OPB_FRAME_HEADER_BYTES],
                        uint32_t max_envelope_bytes)
{
    uint32_t envelope_bytes = (uint32_t)get_be(bytes, 4);
    uint16_t segment_count = (uint16_t)get_be(bytes + 4, 2);

    memset(out, 0, sizeof(*out));
    if (envelope_bytes == 0 || get_be(bytes + 6, 2) != 0) {
        return OPB_BAD_FRAME;
    }
    if (envelope_bytes > max_envelope_bytes || segment_count > OPB_MAX_SEGMENTS) {
        return OPB_TOO_LARGE;
    }
    out->envelope_bytes = envelope_bytes;
    out->segment_count = segment_count;
    return OPB_OK;
}

enum opb_status
opb_frame_segment_decode(uint64_t *out, const uint8_t bytes[8])
{
    uint64_t byte_count = get_be(bytes, 8);

    *out = 0;
    if (byte_count == 0) {
        return OPB_BAD_FRAME;
    }
    if (byte_count > PTRDIFF_MAX) {
        return OPB_TOO_LARGE;
    }
    *out = byte_count;
    return OPB_OK;
}

static bool
is_uint(const msgpack_object *object, uint64_t high)
{
    return object->type == MSGPACK_OBJECT_POSITIVE_INTEGER && object->via.u64 <= high;
}

static bool
is_int32(const msgpack_object *object)
{
    if (object->type == MSGPACK_OBJECT_POSITIVE_INTEGER) {
        return object->via.u64 <= INT32_MAX;
    }
    return object->type == MSGPACK_OBJECT_NEGATIVE_INTEGER && object->via.i64 >= INT32_MIN;
}

/* The whole envelope has been turned into a tree by now, so the byte behind a text is
 * the type of the next value, which nobody reads again, or the spare byte at the end. */
const char *
opb_frame_terminate(struct opb_frame *frame, const msgpack_object_str *text)
{
    uintptr_t begin = (uintptr_t)frame->envelope;
    uintptr_t at = (uintptr_t)text->ptr;
    char *copy;

    if (text->size == 0) {
        return ""; /* msgpack-c lets an empty text point at an earlier value, or nowhere */
    }
    if (at >= begin && at - begin + text->size <= frame->envelope_bytes) {
        frame->envelope[at - begin + text->size] = '\0';
        return text->ptr;
    }
    copy = msgpack_zone_malloc(&frame->zone, (size_t)text->size + 1);
    if (copy == NULL) {
        return NULL;
    }
    memcpy(copy, text->ptr, text->size);
    copy[text->size] = '\0';
    return copy;
}

static enum opb_status
take_fault(struct opb_frame *frame, const msgpack_object *fault)
{
    const msgpack_object *parts;

    if (fault->type != MSGPACK_OBJECT_ARRAY || fault->via.array.size != 3) {
        return OPB_BAD_FRAME;
    }
    parts = fault->via.array.ptr;
    if (!is_uint(&parts[0], OPB_FAULT_PROTOCOL) || !is_int32(&parts[1]) ||
        parts[2].type != MSGPACK_OBJECT_STR) {
        return OPB_BAD_FRAME;
    }
    frame->is_fault = true;
    frame->fault = (enum opb_fault)parts[0].via.u64;
    frame->fault_code = (int32_t)parts[1].via.i64;
    frame->fault_text = opb_frame_terminate(frame, &parts[2].via.str);
    return frame->fault_text == NULL ? OPB_NO_MEMORY : OPB_OK;
}

/* [1, msgid, nil, result] or [1, msgid, [fault, code, text], nil] */
static enum opb_status
take_response(struct opb_frame *frame, const msgpack_object *items)
{
    frame->body = &items[3];
    frame->body_count = 1;
    if (items[2].type == MSGPACK_OBJECT_NIL) {
        return OPB_OK;
    }
    if (items[3].type != MSGPACK_OBJECT_NIL) {
        return OPB_BAD_FRAME;
    }
    return take_fault(frame, &items[2]);
}

/* [..., method, [params...]] */
static enum opb_status
take_call(struct opb_frame *frame, const msgpack_object *method)
{
    const msgpack_object *params = method + 1;

    if (!is_uint(method, UINT32_MAX) || params->type != MSGPACK_OBJECT_ARRAY) {
        return OPB_BAD_FRAME;
    }
    frame->method = (uint32_t)method->via.u64;
    frame->body = params->via.array.ptr;
    frame->body_count = params->via.array.size;
    return OPB_OK;
}

static enum opb_status
take_rpc(struct opb_frame *frame, const msgpack_object *root)
{
    const msgpack_object *items;
    uint32_t count;

    if (root->type != MSGPACK_OBJECT_ARRAY || root->via.array.size < 3) {
        return OPB_BAD_FRAME;
    }
    items = root->via.array.ptr;
    count = root->via.array.size;
    if (!is_uint(&items[0], OPB_NOTIFY)) {
        return OPB_BAD_FRAME;
    }
    frame->type = (enum opb_frame_type)items[0].via.u64;
    if (frame->type == OPB_NOTIFY) {
        return count == 3 ? take_call(frame, &items[1]) : OPB_BAD_FRAME;
    }
    if (count != 4 || !is_uint(&items[1], UINT32_MAX)) {
        return OPB_BAD_FRAME;
    }
    frame->msgid = (uint32_t)items[1].via.u64;
    return frame->type == OPB_REQUEST ? take_call(frame, &items[2])
                                      : take_response(frame, items);
}

/* Makes the tree in frame->zone, which must be initialised. */
static enum opb_status
unpack(struct opb_frame *frame)
{
    msgpack_object root;
    size_t offset = 0;

    switch (msgpack_unpack((const char *)frame->envelope, frame->envelope_bytes, &offset,
                           &frame->zone, &root)) {
    case MSGPACK_UNPACK_SUCCESS:
        break;
    case MSGPACK_UNPACK_NOMEM_ERROR:
        return OPB_NO_MEMORY; /* nesting is within its limit: the scan saw to that */
    case MSGPACK_UNPACK_EXTRA_BYTES:
    case MSGPACK_UNPACK_CONTINUE:
    case MSGPACK_UNPACK_PARSE_ERROR:
    default:
        return OPB_BAD_FRAME;
    }
    return take_rpc(frame, &root);
}

enum opb_status
opb_frame_assemble(struct opb_frame **out, uint8_t **envelope, size_t envelope_bytes,
                   struct opb_segment *segments, uint16_t segment_count,
                   const struct opb_segment_memory *memory)
{
    size_t segment_list_bytes = segment_count * sizeof(struct opb_segment);
    enum opb_status status;
    struct opb_frame *frame;
    size_t item_count;

    *out = NULL;
    status = opb_scan_envelope(*envelope, envelope_bytes, segment_count, &item_count);
    if (status != OPB_OK) {
        return status;
    }
    /* Not calloc(), which passes over what this thread has just freed. */
    frame = malloc(sizeof(*frame) + segment_list_bytes);
    if (frame == NULL) {
        return OPB_NO_MEMORY;
    }
    memset(frame, 0, sizeof(*frame));
    /* One chunk that holds the whole tree; a little more for alignment. */
    if (!msgpack_zone_init(&frame->zone, (item_count + 2) * sizeof(msgpack_object))) {
        status = OPB_NO_MEMORY;
        goto free_frame;
    }
    frame->envelope = *envelope;
    frame->envelope_bytes = envelope_bytes;
    status = unpack(frame);
    if (status != OPB_OK) {
        goto destroy_zone;
    }
    if (segment_count > 0) {
        memcpy(frame->segments, segments, segment_list_bytes);
    }
    frame->segment_count = segment_count;
    frame->memory = memory;
    *envelope = NULL;
    *out = frame;
    return OPB_OK;

destroy_zone:
    msgpack_zone_destroy(&frame->zone);
free_frame:
    free(frame);
    return status;
}

void
opb_frame_free(struct opb_frame *frame)
{
    if (frame == NULL) {
        return;
    }
    for (uint16_t i = 0; i < frame->segment_count; i++) {
        if (frame->segments[i].data != NULL) {
            frame->memory->release(frame->memory->context, frame->segments[i].owner);
        }
    }
    msgpack_zone_destroy(&frame->zone);
    free(frame->envelope);
    free(frame);
}

static void
free_segments(struct opb_segment *segments, uint16_t segment_count)
{
    for (uint16_t i = 0; i < segment_count; i++) {
        free(segments[i].owner);
    }
}

static enum opb_status
copy_segments(struct opb_segment *segments, uint16_t segment_count, const uint8_t *lengths,
              const uint8_t *next, size_t left)
{
    for (uint16_t i = 0; i < segment_count; i++) {
        enum opb_status status;
        uint64_t bytes;

        status = opb_frame_segment_decode(&bytes, lengths + 8 * (size_t)i);
        if (status != OPB_OK) {
            return status;
        }
        if (bytes > left) {
            return OPB_BAD_FRAME;
        }
        segments[i].data = malloc((size_t)bytes);
        if (segments[i].data == NULL) {
            return OPB_NO_MEMORY;
        }
        segments[i].owner = segments[i].data;
        segments[i].bytes = (size_t)bytes;
        memcpy(segments[i].data, next, (size_t)bytes);
        next += bytes;
        left -= (size_t)bytes;
    }
    return left == 0 ? OPB_OK : OPB_BAD_FRAME;
}

enum opb_status
opb_frame_decode(struct opb_frame **out, const uint8_t *bytes, size_t byte_count)
{
    struct opb_segment segments[OPB_MAX_SEGMENTS] = {0};
    struct opb_frame_header header;
    enum opb_status status;
    uint8_t *envelope = NULL;
    size_t head_bytes;

    *out = NULL;
    if (byte_count < OPB_FRAME_HEADER_BYTES) {
        return OPB_BAD_FRAME;
    }
    status = opb_frame_header_decode(&header, bytes, OPB_MAX_ENVELOPE_BYTES);
    if (status != OPB_OK) {
        return status;
    }
    head_bytes = OPB_FRAME_HEADER_BYTES + 8 * (size_t)header.segment_count;
    if (byte_count < head_bytes || byte_count - head_bytes < header.envelope_bytes) {
        return OPB_BAD_FRAME;
    }
    envelope = malloc((size_t)header.envelope_bytes + 1);
    if (envelope == NULL) {
        return OPB_NO_MEMORY;
    }
    memcpy(envelope, bytes + head_bytes, header.envelope_bytes);
    status = copy_segments(segments, header.segment_count, bytes + OPB_FRAME_HEADER_BYTES,
                           bytes + head_bytes + header.envelope_bytes,
                           byte_count - head_bytes - header.envelope_bytes);
    if (status == OPB_OK) {
        status = opb_frame_assemble(out, &envelope, header.envelope_bytes, segments,
                                    header.segment_count, &opb_segment_malloc);
    }
    if (status != OPB_OK) {
        free_segments(segments, header.segment_count);
        free(envelope);
    }
    return status;
}
