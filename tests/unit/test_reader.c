/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_reader.c - reading the values of a frame that was accepted
 *
 * Here:      values of each type, what comes of a wrong one, faults.
 * Elsewhere: what a frame may look like (test_frame.c).
 */
#include "tests/unit/support.h"

#include <stdlib.h>
#include <string.h>

#define DECODE(frame, literal) opb_decode_envelope(frame, literal, sizeof(literal) - 1)

static void
a_segment_is_taken_once(void **state)
{
    static const uint8_t same_twice[] = {0, 0, 0,    16, 0,    1, 0, 0,    0,    0,  0, 0,
                                         0, 0, 0,    2,  0x93, 2, 1, 0x92, 0xd6, 1,  0, 0,
                                         0, 0, 0xd6, 1,  0,    0, 0, 0,    'o',  'k'};
    struct opb_reader reader;
    struct opb_frame *frame;
    const void *data;
    void *owner;
    size_t bytes;

    (void)state;
    assert_int_equal(opb_frame_decode(&frame, same_twice, sizeof(same_twice)), OPB_OK);
    opb_frame_params(frame, &reader); /* reading twice is fine */
    (void)opb_read_bytes(&reader, &bytes);
    (void)opb_read_bytes(&reader, &bytes);
    assert_int_equal(bytes, 2);
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    opb_frame_params(frame, &reader);
    data = opb_read_bytes_take(&reader, &bytes, &owner);
    assert_non_null(owner);
    assert_memory_equal(data, "ok", 2);
    (void)opb_read_bytes(&reader, &bytes);
    assert_int_equal(bytes, 0);
    assert_int_equal(opb_reader_finish(&reader), OPB_BAD_FRAME);
    opb_frame_free(frame);
    assert_memory_equal(data, "ok", 2); /* ours by now */
    free(owner);
}

static void
values_come_out_as_they_went_in(void **state)
{
    struct opb_message *message = opb_message_new();
    struct opb_frame *frame;
    struct opb_reader reader;
    struct opb_reader sub;
    const void *data;
    void *owner;
    size_t bytes;

    (void)state;
    opb_message_begin_request(message, 70000, 11);
    opb_pack_nil(message);
    opb_pack_bool(message, true);
    opb_pack_int(message, INT64_MIN);
    opb_pack_uint(message, UINT64_MAX);
    opb_pack_double(message, 0.5);
    opb_pack_int(message, -3);
    opb_pack_str(message, "a\0b", 3);
    opb_pack_cstr(message, "text");
    opb_pack_bytes(message, "bin", 3);
    opb_pack_array(message, 1);
    opb_pack_cstr(message, "inside");
    opb_pack_map(message, 1);
    opb_pack_cstr(message, "key");
    opb_pack_cstr(message, "\xff\xfe"); /* not UTF-8: the reader's business */
    opb_message_set_msgid(message, 77);
    frame = opb_decode_message(message);
    assert_int_equal(opb_frame_type(frame), OPB_REQUEST);
    assert_int_equal(opb_frame_msgid(frame), 77);
    assert_int_equal(opb_frame_method(frame), 70000);
    assert_false(opb_frame_fault(frame, NULL, NULL, NULL));
    opb_frame_params(frame, &reader);
    assert_null(opb_read_cstr(&reader, true));
    assert_true(opb_read_bool(&reader));
    assert_true(opb_read_int(&reader, INT64_MIN, INT64_MAX) == INT64_MIN);
    assert_true(opb_read_uint(&reader, UINT64_MAX) == UINT64_MAX);
    assert_true(opb_read_double(&reader) == 0.5);
    assert_true(opb_read_double(&reader) == -3.0);
    data = opb_read_str(&reader, &bytes);
    assert_int_equal(bytes, 3);
    assert_memory_equal(data, "a\0b", 3);
    assert_string_equal(opb_read_cstr(&reader, true), "text");
    data = opb_read_bytes_take(&reader, &bytes, &owner);
    assert_int_equal(bytes, 3);
    assert_memory_equal(data, "bin", 3);
    assert_null(owner);
    assert_true(opb_read_is_array(&reader));
    assert_int_equal(opb_read_array(&reader, &sub), 1);
    assert_string_equal(opb_read_cstr(&sub, false), "inside");
    assert_int_equal(opb_reader_finish(&sub), OPB_OK);
    assert_int_equal(opb_read_map(&reader, &sub), 1);
    assert_string_equal(opb_read_cstr(&sub, false), "key");
    assert_string_equal(opb_read_cstr(&sub, false), "\xff\xfe");
    assert_int_equal(opb_reader_finish(&sub), OPB_OK);
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    opb_frame_free(frame);
    opb_message_free(message);
}

static void
texts_next_to_each_other_are_terminated_without_harm(void **state)
{
    struct opb_message *message = opb_message_new();
    struct opb_reader reader;
    struct opb_frame *frame;
    const char *texts[3];

    (void)state;
    opb_message_begin_notify(message, 1, 3);
    opb_pack_cstr(message, "first");
    opb_pack_cstr(message, "");
    opb_pack_cstr(message, "last, at the end of the envelope");
    frame = opb_decode_message(message);
    for (int round = 0; round < 2; round++) {
        opb_frame_params(frame, &reader);
        for (size_t i = 0; i < 3; i++) {
            texts[i] = opb_read_cstr(&reader, false);
        }
        assert_int_equal(opb_reader_finish(&reader), OPB_OK);
        assert_string_equal(texts[0], "first");
        assert_string_equal(texts[1], "");
        assert_string_equal(texts[2], "last, at the end of the envelope");
    }
    opb_frame_free(frame);
    opb_message_free(message);
}

typedef void (*read_fn)(struct opb_reader *reader);

static void
read_bool(struct opb_reader *reader)
{
    assert_false(opb_read_bool(reader));
}

static void
read_small_int(struct opb_reader *reader)
{
    assert_int_equal(opb_read_int(reader, -5, 5), 0);
}

static void
read_small_uint(struct opb_reader *reader)
{
    assert_int_equal(opb_read_uint(reader, 5), 0);
}

static void
read_double(struct opb_reader *reader)
{
    assert_true(opb_read_double(reader) == 0.0);
}

static void
read_str(struct opb_reader *reader)
{
    size_t bytes = 1;

    assert_string_equal(opb_read_str(reader, &bytes), "");
    assert_int_equal(bytes, 0);
}

static void
read_cstr(struct opb_reader *reader)
{
    assert_string_equal(opb_read_cstr(reader, false), "");
}

static void
read_bytes(struct opb_reader *reader)
{
    size_t bytes = 1;

    assert_non_null(opb_read_bytes(reader, &bytes));
    assert_int_equal(bytes, 0);
}

static void
read_array(struct opb_reader *reader)
{
    struct opb_reader sub;

    assert_int_equal(opb_read_array(reader, &sub), 0);
    assert_int_equal(opb_reader_finish(&sub), OPB_BAD_FRAME);
}

static void
read_map(struct opb_reader *reader)
{
    struct opb_reader sub;

    assert_int_equal(opb_read_map(reader, &sub), 0);
    assert_int_equal(opb_reader_finish(&sub), OPB_BAD_FRAME);
}

/* The params of the envelope hold two values, and the first does not fit. */
static void
assert_misread(read_fn read, const void *envelope, size_t envelope_bytes)
{
    struct opb_reader reader;
    struct opb_frame *frame;

    assert_int_equal(opb_decode_envelope(&frame, envelope, envelope_bytes), OPB_OK);
    opb_frame_params(frame, &reader);
    read(&reader);
    assert_int_equal(reader.status, OPB_BAD_FRAME);
    assert_false(opb_read_is_nil(&reader)); /* and everything later gives zeros */
    read_bool(&reader);
    read_small_uint(&reader);
    read_cstr(&reader);
    read_array(&reader);
    assert_int_equal(opb_reader_finish(&reader), OPB_BAD_FRAME);
    opb_frame_free(frame);
}

#define MISREAD(read, value)                                                               \
    assert_misread(read, "\x93\x02\x01\x92" value "\xc3", sizeof(value) - 1 + 5)

static void
a_value_of_another_type_or_range_fails_the_reader(void **state)
{
    (void)state;
    MISREAD(read_bool, "\x01");
    MISREAD(read_small_int, "\x06");
    MISREAD(read_small_int, "\xfa");
    MISREAD(read_small_int, "\xcf\xff\xff\xff\xff\xff\xff\xff\xfd"); /* not -3 */
    MISREAD(read_small_int, "\xca\x00\x00\x00\x00");
    MISREAD(read_small_uint, "\x06");
    MISREAD(read_small_uint, "\xff");
    MISREAD(read_double, "\xa1x");
    MISREAD(read_str, "\xc4\x01x");
    MISREAD(read_cstr, "\xc0");
    MISREAD(read_cstr, "\xa3"
                       "a\0b");
    MISREAD(read_bytes, "\xa1x");
    MISREAD(read_bytes, "\xc0");
    MISREAD(read_array, "\x80");
    MISREAD(read_map, "\x90");
}

static void
a_missing_or_left_over_value_fails_the_reader(void **state)
{
    struct opb_reader reader;
    struct opb_frame *frame;

    (void)state;
    assert_int_equal(DECODE(&frame, "\x93\x02\x01\x91\x05"), OPB_OK);
    opb_frame_params(frame, &reader);
    assert_int_equal(opb_reader_finish(&reader), OPB_BAD_FRAME); /* left over */
    assert_int_equal(opb_read_uint(&reader, 9), 5);
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    assert_int_equal(opb_read_uint(&reader, 9), 0); /* missing */
    assert_int_equal(opb_reader_finish(&reader), OPB_BAD_FRAME);
    opb_frame_result(frame, &reader); /* not a response */
    assert_int_equal(opb_reader_finish(&reader), OPB_BAD_FRAME);
    opb_frame_free(frame);
}

static void
a_fault_gives_its_parts(void **state)
{
    struct opb_message *message = opb_message_new();
    struct opb_reader reader;
    struct opb_frame *frame;
    enum opb_fault fault;
    const char *text;
    int32_t code;

    (void)state;
    opb_message_error(message, 5, OPB_FAULT_ORTHANC, INT32_MIN, "Unknown resource");
    frame = opb_decode_message(message);
    assert_int_equal(opb_frame_type(frame), OPB_RESPONSE);
    assert_int_equal(opb_frame_msgid(frame), 5);
    assert_true(opb_frame_fault(frame, &fault, &code, &text));
    assert_int_equal(fault, OPB_FAULT_ORTHANC);
    assert_int_equal(code, INT32_MIN);
    assert_string_equal(text, "Unknown resource");
    opb_frame_result(frame, &reader);
    assert_true(opb_read_is_nil(&reader));
    opb_frame_params(frame, &reader); /* not a request */
    assert_int_equal(opb_reader_finish(&reader), OPB_BAD_FRAME);
    opb_frame_free(frame);
    opb_message_begin_response(message, 5);
    opb_pack_nil(message);
    frame = opb_decode_message(message);
    assert_false(opb_frame_fault(frame, NULL, NULL, &text));
    assert_string_equal(text, "");
    opb_frame_free(frame);
    opb_message_free(message);
}

static void
empty_containers_are_fine(void **state)
{
    struct opb_reader reader;
    struct opb_reader sub;
    struct opb_frame *frame;

    (void)state;
    assert_int_equal(DECODE(&frame, "\x93\x02\x01\x92\x90\x80"), OPB_OK);
    opb_frame_params(frame, &reader);
    assert_int_equal(opb_read_array(&reader, &sub), 0);
    assert_int_equal(opb_reader_finish(&sub), OPB_OK);
    assert_int_equal(opb_read_map(&reader, &sub), 0);
    assert_int_equal(opb_reader_finish(&sub), OPB_OK);
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    opb_frame_free(frame);
    assert_int_equal(DECODE(&frame, "\x93\x02\x01\x90"), OPB_OK);
    opb_frame_params(frame, &reader);
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    opb_frame_free(frame);
}

int
main(void)
{
    const struct CMUnitTest reader[] = {
        OPB_TEST(a_segment_is_taken_once),
        OPB_TEST(values_come_out_as_they_went_in),
        OPB_TEST(texts_next_to_each_other_are_terminated_without_harm),
        OPB_TEST(a_value_of_another_type_or_range_fails_the_reader),
        OPB_TEST(a_missing_or_left_over_value_fails_the_reader),
        OPB_TEST(a_fault_gives_its_parts),
        OPB_TEST(empty_containers_are_fine),
    };

    return OPB_RUN(reader);
}
