/* SPDX-License-Identifier: GPL-3.0-or-later */
/* protocol/reader.c - typed, checked access to the values of a frame
 *
 * Here:      the cursor of frame.h. A value that does not fit makes the cursor say
 *            OPB_BAD_FRAME, and all its later reads give zeros.
 * Elsewhere: validating the frame as a whole (frame.c).
 * Called by: whoever got the frame, on one thread at a time.
 */
#include "protocol/internal.h"

#include <string.h>

_Static_assert(sizeof(msgpack_object_kv) == 2 * sizeof(msgpack_object),
               "a map is read as key, value, key, ...");

enum opb_frame_type
opb_frame_type(const struct opb_frame *frame)
{
    return frame->type;
}

uint32_t
opb_frame_msgid(const struct opb_frame *frame)
{
    return frame->msgid;
}

uint32_t
opb_frame_method(const struct opb_frame *frame)
{
    return frame->method;
}

bool
opb_frame_fault(const struct opb_frame *frame, enum opb_fault *fault, int32_t *code,
                const char **text)
{
    if (fault != NULL) {
        *fault = frame->fault;
    }
    if (code != NULL) {
        *code = frame->fault_code;
    }
    if (text != NULL) {
        *text = frame->is_fault ? frame->fault_text : "";
    }
    return frame->is_fault;
}

static void
open_reader(struct opb_reader *reader, struct opb_frame *frame, const msgpack_object *first,
            uint32_t count)
{
    reader->frame = frame;
    reader->next = first;
    reader->left = count;
    reader->status = OPB_OK;
}

static void
open_failed(struct opb_reader *reader, struct opb_frame *frame, enum opb_status status)
{
    open_reader(reader, frame, NULL, 0);
    reader->status = status;
}

void
opb_frame_params(struct opb_frame *frame, struct opb_reader *reader)
{
    if (frame->type == OPB_RESPONSE) {
        open_failed(reader, frame, OPB_BAD_FRAME);
        return;
    }
    open_reader(reader, frame, frame->body, frame->body_count);
}

void
opb_frame_result(struct opb_frame *frame, struct opb_reader *reader)
{
    if (frame->type != OPB_RESPONSE) {
        open_failed(reader, frame, OPB_BAD_FRAME);
        return;
    }
    open_reader(reader, frame, frame->body, frame->body_count);
}

/* The next value without going past it, or NULL. */
static const msgpack_object *
peek(const struct opb_reader *reader)
{
    if (reader->status != OPB_OK || reader->left == 0) {
        return NULL;
    }
    return reader->next;
}

/* The next value, or NULL and a failed reader. */
static const msgpack_object *
take(struct opb_reader *reader)
{
    const msgpack_object *object = peek(reader);

    if (object == NULL) {
        reader->status = reader->status == OPB_OK ? OPB_BAD_FRAME : reader->status;
        return NULL;
    }
    reader->next = object + 1;
    reader->left--;
    return object;
}

static const msgpack_object *
take_type(struct opb_reader *reader, msgpack_object_type type)
{
    const msgpack_object *object = take(reader);

    if (object != NULL && object->type != type) {
        reader->status = OPB_BAD_FRAME;
        return NULL;
    }
    return object;
}

bool
opb_read_is_nil(const struct opb_reader *reader)
{
    const msgpack_object *object = peek(reader);

    return object != NULL && object->type == MSGPACK_OBJECT_NIL;
}

bool
opb_read_is_array(const struct opb_reader *reader)
{
    const msgpack_object *object = peek(reader);

    return object != NULL && object->type == MSGPACK_OBJECT_ARRAY;
}

void
opb_read_skip(struct opb_reader *reader)
{
    (void)take(reader); /* a missing value sticks to the reader */
}

bool
opb_read_bool(struct opb_reader *reader)
{
    const msgpack_object *object = take_type(reader, MSGPACK_OBJECT_BOOLEAN);

    return object != NULL && object->via.boolean;
}

int64_t
opb_read_int(struct opb_reader *reader, int64_t low, int64_t high)
{
    const msgpack_object *object = take(reader);

    if (object == NULL) {
        return 0;
    }
    if ((object->type == MSGPACK_OBJECT_POSITIVE_INTEGER && object->via.u64 <= INT64_MAX) ||
        object->type == MSGPACK_OBJECT_NEGATIVE_INTEGER) {
        if (object->via.i64 >= low && object->via.i64 <= high) {
            return object->via.i64;
        }
    }
    reader->status = OPB_BAD_FRAME;
    return 0;
}

uint64_t
opb_read_uint(struct opb_reader *reader, uint64_t high)
{
    const msgpack_object *object = take_type(reader, MSGPACK_OBJECT_POSITIVE_INTEGER);

    if (object == NULL) {
        return 0;
    }
    if (object->via.u64 > high) {
        reader->status = OPB_BAD_FRAME;
        return 0;
    }
    return object->via.u64;
}

double
opb_read_double(struct opb_reader *reader)
{
    const msgpack_object *object = take(reader);

    if (object == NULL) {
        return 0.0;
    }
    switch (object->type) {
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        return object->via.f64;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        return (double)object->via.u64;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        return (double)object->via.i64;
    case MSGPACK_OBJECT_NIL:
    case MSGPACK_OBJECT_BOOLEAN:
    case MSGPACK_OBJECT_STR:
    case MSGPACK_OBJECT_ARRAY:
    case MSGPACK_OBJECT_MAP:
    case MSGPACK_OBJECT_BIN:
    case MSGPACK_OBJECT_EXT:
    default:
        reader->status = OPB_BAD_FRAME;
        return 0.0;
    }
}

const char *
opb_read_str(struct opb_reader *reader, size_t *bytes)
{
    const msgpack_object *object = take_type(reader, MSGPACK_OBJECT_STR);

    if (object == NULL) {
        *bytes = 0;
        return "";
    }
    *bytes = object->via.str.size;
    return *bytes == 0 ? "" : object->via.str.ptr; /* an empty one may point nowhere */
}

const char *
opb_read_cstr(struct opb_reader *reader, bool nullable)
{
    const msgpack_object *object;
    const char *text;

    if (nullable && opb_read_is_nil(reader)) {
        opb_read_skip(reader);
        return NULL;
    }
    object = take_type(reader, MSGPACK_OBJECT_STR);
    if (object == NULL) {
        return "";
    }
    if (object->via.str.size > 0 &&
        memchr(object->via.str.ptr, '\0', object->via.str.size) != NULL) {
        reader->status = OPB_BAD_FRAME;
        return "";
    }
    text = opb_frame_terminate(reader->frame, &object->via.str);
    if (text == NULL) {
        reader->status = OPB_NO_MEMORY;
        return "";
    }
    return text;
}

/* The segment that an ext value names, or NULL and a failed reader. The scan has
 * checked type, size and index. */
static struct opb_segment *
find_segment(struct opb_reader *reader, const msgpack_object *object)
{
    const uint8_t *index_be = (const uint8_t *)object->via.ext.ptr;
    uint32_t index = (uint32_t)index_be[0] << 24 | (uint32_t)index_be[1] << 16 |
                     (uint32_t)index_be[2] << 8 | index_be[3];
    struct opb_segment *segment;

    if (index >= reader->frame->segment_count) {
        reader->status = OPB_BAD_FRAME;
        return NULL;
    }
    segment = &reader->frame->segments[index];
    if (segment->data == NULL) {
        reader->status = OPB_BAD_FRAME; /* taken before: its owner may be gone */
        return NULL;
    }
    return segment;
}

static const void *
read_bytes(struct opb_reader *reader, size_t *bytes, void **owner)
{
    const msgpack_object *object = take(reader);
    struct opb_segment *segment;
    const void *data;

    *bytes = 0;
    if (object == NULL) {
        return "";
    }
    if (object->type == MSGPACK_OBJECT_BIN) {
        *bytes = object->via.bin.size;
        return *bytes == 0 ? "" : object->via.bin.ptr;
    }
    if (object->type != MSGPACK_OBJECT_EXT) {
        reader->status = OPB_BAD_FRAME;
        return "";
    }
    segment = find_segment(reader, object);
    if (segment == NULL) {
        return "";
    }
    data = segment->data;
    *bytes = segment->bytes;
    if (owner != NULL) {
        *owner = segment->owner;
        segment->data = NULL;
        segment->owner = NULL;
    }
    return data;
}

const void *
opb_read_bytes(struct opb_reader *reader, size_t *bytes)
{
    return read_bytes(reader, bytes, NULL);
}

const void *
opb_read_bytes_take(struct opb_reader *reader, size_t *bytes, void **owner)
{
    *owner = NULL;
    return read_bytes(reader, bytes, owner);
}

uint32_t
opb_read_array(struct opb_reader *reader, struct opb_reader *sub)
{
    const msgpack_object *object = take_type(reader, MSGPACK_OBJECT_ARRAY);

    if (object == NULL) {
        open_failed(sub, reader->frame, reader->status);
        return 0;
    }
    open_reader(sub, reader->frame, object->via.array.ptr, object->via.array.size);
    return object->via.array.size;
}

uint32_t
opb_read_map(struct opb_reader *reader, struct opb_reader *sub)
{
    const msgpack_object *object = take_type(reader, MSGPACK_OBJECT_MAP);
    uint32_t count;

    if (object == NULL) {
        open_failed(sub, reader->frame, reader->status);
        return 0;
    }
    count = object->via.map.size; /* at most half of an envelope: doubling fits */
    open_reader(sub, reader->frame, count == 0 ? NULL : &object->via.map.ptr[0].key,
                2 * count);
    return count;
}

enum opb_status
opb_reader_finish(const struct opb_reader *reader)
{
    if (reader->status == OPB_OK && reader->left != 0) {
        return OPB_BAD_FRAME;
    }
    return reader->status;
}
