/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/fuzz/fuzz_frame.c - any bytes as a frame, and every way to read its values
 *
 * First byte 0: the rest is a whole frame. Other: the rest is an envelope, in a frame
 * with so many (at most 3) segments.
 */
#include "fuzz_envelope.h"

#include "protocol/frame.h"
#include "protocol/limits.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile size_t sink; /* keeps the reads below from being optimised away */

static void
touch(const void *data, size_t bytes)
{
    const uint8_t *next = data;

    for (size_t i = 0; i < bytes; i++) {
        sink += next[i];
    }
}

/* Each kind of read on a copy of the reader; then goes into arrays and maps. */
static void
read_value(struct opb_reader reader, bool take)
{
    struct opb_reader copy;
    const char *text;
    const void *data;
    void *owner;
    size_t bytes;

    copy = reader;
    sink += opb_read_bool(&copy);
    copy = reader;
    sink += (size_t)opb_read_int(&copy, -100, 100);
    copy = reader;
    sink += (size_t)opb_read_uint(&copy, UINT64_MAX);
    copy = reader;
    sink += opb_read_double(&copy) > 0.0;
    copy = reader;
    text = opb_read_str(&copy, &bytes);
    touch(text, bytes);
    copy = reader;
    text = opb_read_cstr(&copy, true);
    touch(text, text == NULL ? 0 : strlen(text));
    copy = reader;
    data = opb_read_bytes(&copy, &bytes);
    touch(data, bytes);
    if (take) {
        copy = reader;
        data = opb_read_bytes_take(&copy, &bytes, &owner);
        touch(data, bytes);
        free(owner);
    }
}

static void
read_all(struct opb_reader *reader, bool take, uint32_t depth)
{
    if (depth > OPB_MAX_DEPTH) {
        abort(); /* deeper than a frame may be */
    }
    while (reader->left > 0) {
        struct opb_reader copy = *reader;
        struct opb_reader sub;

        read_value(*reader, take);
        sink += opb_read_is_nil(reader);
        if (opb_read_is_array(reader)) {
            if (opb_read_array(&copy, &sub) != sub.left) {
                abort();
            }
            read_all(&sub, take, depth + 1);
        }
        copy = *reader;
        if (opb_read_map(&copy, &sub) > 0) {
            read_all(&sub, take, depth + 1);
        }
        opb_read_skip(reader);
    }
    if (opb_reader_finish(reader) != OPB_OK) {
        abort(); /* skipping exactly all values is always fine */
    }
}

static void
read_frame(struct opb_frame *frame)
{
    struct opb_reader reader;
    const char *text;

    for (int take = 0; take < 2; take++) {
        if (opb_frame_type(frame) == OPB_RESPONSE) {
            opb_frame_result(frame, &reader);
        }
        else {
            opb_frame_params(frame, &reader);
        }
        read_all(&reader, take == 1, 1);
    }
    sink += opb_frame_fault(frame, NULL, NULL, &text);
    touch(text, strlen(text));
    sink += opb_frame_msgid(frame) + opb_frame_method(frame);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct opb_frame *frame = NULL;
    enum opb_status status;
    uint8_t *wrapped = NULL;

    if (size < 2) {
        return 0;
    }
    if (data[0] == 0) {
        status = opb_frame_decode(&frame, data + 1, size - 1);
    }
    else {
        size_t byte_count = 0;

        wrapped = fuzz_wrap(data + 1, size - 1, (size_t)(data[0] - 1u) % 4u, &byte_count);
        status = opb_frame_decode(&frame, wrapped, byte_count);
    }
    if ((status == OPB_OK) != (frame != NULL)) {
        abort();
    }
    if (frame != NULL) {
        read_frame(frame);
    }
    opb_frame_free(frame);
    free(wrapped);
    return 0;
}
