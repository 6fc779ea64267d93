/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_frame.c - what a frame may look like, and reading its values */
#include "tests/unit/support.h"

#include "protocol/limits.h"

#include <stdlib.h>
#include <string.h>

/* Decodes a raw envelope. */
static enum opb_status
decode(struct opb_frame **frame, const void *envelope, size_t envelope_bytes)
{
    enum opb_status status;
    uint8_t *bytes;
    size_t byte_count = opb_wrap(envelope, envelope_bytes, &bytes);

    status = opb_frame_decode(frame, bytes, byte_count);
    free(bytes);
    return status;
}

#define DECODE(frame, literal) decode(frame, literal, sizeof(literal) - 1)

static void
assert_refused(const void *envelope, size_t envelope_bytes)
{
    struct opb_frame *frame = NULL;

    assert_int_equal(decode(&frame, envelope, envelope_bytes), OPB_BAD_FRAME);
    assert_null(frame);
}

#define REFUSED(literal) assert_refused(literal, sizeof(literal) - 1)

/* Decodes a message of ours. */
static struct opb_frame *
decode_message(struct opb_message *message)
{
    struct opb_frame *frame;
    uint8_t *bytes;
    size_t byte_count = opb_flatten(message, &bytes);

    assert_int_equal(opb_frame_decode(&frame, bytes, byte_count), OPB_OK);
    free(bytes);
    return frame;
}

static void
a_count_larger_than_its_bytes_is_refused(void **state)
{
    (void)state;
    REFUSED("\xdd\xff\xff\xff\xff");
    REFUSED("\xdf\xff\xff\xff\xff");
    REFUSED("\xdc\xff\xff");
    REFUSED("\xde\xff\xff");
    REFUSED("\x93\x02\x01\xdf\x7f\xff\xff\xff");
    REFUSED("\x93\x02\x01\xdf\x00\x00\x00\x02\x01\x01\x01"); /* a pair is two values */
    REFUSED("\x93\x02\x01\x92\xdd\x00\x00\x00\x02\x01"); /* outer and inner share bytes */
    REFUSED("\x93\x02\x01\x91\xdb\xff\xff\xff\xff");
    REFUSED("\x93\x02\x01\x91\xc6\xff\xff\xff\xff");
    REFUSED("\x93\x02\x01\x91\xa5"
            "abcd");
}

static void
nested_claims_together_cannot_exceed_the_bytes(void **state)
{
    uint8_t bytes[200];

    /* Each array alone would fit in what follows it; all together do not. */
    (void)state;
    memset(bytes, 0xc0, sizeof(bytes));
    for (size_t i = 0; i < 10; i++) {
        memcpy(bytes + 3 * i, "\xdc\x00\x60", 3);
    }
    assert_refused(bytes, sizeof(bytes));
}

static void
nesting_is_accepted_up_to_the_limit_and_refused_beyond(void **state)
{
    uint8_t bytes[OPB_MAX_DEPTH + 8];
    uint8_t *bomb = malloc(1000000);
    struct opb_frame *frame;

    (void)state;
    memcpy(bytes, "\x93\x02\x01", 3);
    memset(bytes + 3, 0x91, sizeof(bytes) - 3);
    bytes[3 + OPB_MAX_DEPTH - 1] = 0xc0; /* the envelope is the first level */
    assert_int_equal(decode(&frame, bytes, 3 + OPB_MAX_DEPTH), OPB_OK);
    opb_frame_free(frame);
    bytes[3 + OPB_MAX_DEPTH - 1] = 0x90; /* an empty array is a level as well */
    assert_refused(bytes, 3 + OPB_MAX_DEPTH);

    assert_non_null(bomb);
    memset(bomb, 0x91, 1000000);
    assert_refused(bomb, 1000000);
    memset(bomb, 0x81, 1000000);
    assert_refused(bomb, 1000000);
    free(bomb);
}

static void
anything_but_exactly_one_value_is_refused(void **state)
{
    (void)state;
    REFUSED("\x93\x02\x01\x90\xc0");
    REFUSED("\x93\x02\x01");
    REFUSED("\x93\x02");
    REFUSED("\x93");
    REFUSED("\x93\x02\x01\x91\xc1"); /* a type that msgpack never uses */
}

static void
anything_but_an_rpc_shape_is_refused(void **state)
{
    (void)state;
    REFUSED("\xc0");
    REFUSED("\x80");
    REFUSED("\x90");
    REFUSED("\x92\x02\x01");
    REFUSED("\x93\x03\x01\x90"); /* no such type */
    REFUSED("\x93\xff\x01\x90");
    REFUSED("\x93\xa1\x30\x01\x90");
    REFUSED("\x93\x02\x01\xc0"); /* params are no array */
    REFUSED("\x93\x02\xff\x90"); /* negative method */
    REFUSED("\x93\x02\xcf\x00\x00\x00\x01\x00\x00\x00\x00\x90");
    REFUSED("\x94\x02\x01\x90\xc0");
    REFUSED("\x93\x00\x01\x90");
    REFUSED("\x94\x00\xff\x01\x90");
    REFUSED("\x94\x00\x01\x01\x80");
    REFUSED("\x95\x00\x01\x01\x90\xc0");
    REFUSED("\x94\x01\xc0\xc0\xc0");
    REFUSED("\x94\x01\x01\xc3\xc0"); /* the fault is neither nil nor an array */
    REFUSED("\x94\x01\x01\x92\x00\x01\xc0");
    REFUSED("\x94\x01\x01\x93\x00\x01\xc0\xc0");
    REFUSED("\x94\x01\x01\x93\x09\x01\xa1x\xc0");
    REFUSED("\x94\x01\x01\x93\x00\xce\x80\x00\x00\x00\xa1x\xc0"); /* not 32 bits */
    REFUSED("\x94\x01\x01\x93\x00\xd3\xff\xff\xff\xff\x7f\xff\xff\xff\xa1x\xc0");
    REFUSED("\x94\x01\x01\x93\x00\x01\xa1x\x01"); /* fault and result */
}

static void
extensions_other_than_segments_are_refused(void **state)
{
    (void)state;
    REFUSED("\x93\x02\x01\x91\xd4\x01\x00");
    REFUSED("\x93\x02\x01\x91\xc7\x04\x01\x00\x00\x00\x00");
    REFUSED("\x93\x02\x01\x91\xd6\x02\x00\x00\x00\x00");
    REFUSED("\x93\x02\x01\x91\xd6\x01\x00\x00\x00\x00"); /* no such segment */
    REFUSED("\x93\x02\x01\x91\xd6\x01\x00\x00");
}

static void
a_bad_header_is_refused(void **state)
{
    struct opb_frame_header header;

    (void)state;
    assert_int_equal(
        opb_frame_header_decode(&header, (const uint8_t *)"\0\0\0\x05\0\x02\0\0", 5),
        OPB_OK);
    assert_int_equal(header.envelope_bytes, 5);
    assert_int_equal(header.segment_count, 2);
    assert_int_equal(
        opb_frame_header_decode(&header, (const uint8_t *)"\0\0\0\x06\0\0\0\0", 5),
        OPB_TOO_LARGE);
    assert_int_equal(
        opb_frame_header_decode(&header, (const uint8_t *)"\0\0\0\0\0\0\0\0", 5),
        OPB_BAD_FRAME);
    assert_int_equal(
        opb_frame_header_decode(&header, (const uint8_t *)"\0\0\0\x01\0\0\0\x01", 5),
        OPB_BAD_FRAME);
    assert_int_equal(
        opb_frame_header_decode(&header, (const uint8_t *)"\0\0\0\x01\0\x41\0\0", 5),
        OPB_TOO_LARGE);
}

/* A frame with two segments of 1 and 3 bytes, both named by its params. */
static const uint8_t two_segments[] = {0,    0,   0,    16,   0,    2, 0, 0, /* header */
                                       0,    0,   0,    0,    0,    0, 0, 1, /* lengths */
                                       0,    0,   0,    0,    0,    0, 0, 3, /* */
                                       0x93, 2,   1,    0x92, 0xd6, 1, 0, 0,
                                       0,    1,   0xd6, 1,    0,    0, 0, 0, /* envelope */
                                       'x',  'a', 'b',  'c'};

static void
segments_are_read_by_index(void **state)
{
    struct opb_reader reader;
    struct opb_frame *frame;
    const void *data;
    size_t bytes;

    (void)state;
    assert_int_equal(opb_frame_decode(&frame, two_segments, sizeof(two_segments)), OPB_OK);
    opb_frame_params(frame, &reader);
    data = opb_read_bytes(&reader, &bytes);
    assert_int_equal(bytes, 3);
    assert_memory_equal(data, "abc", 3);
    data = opb_read_bytes(&reader, &bytes);
    assert_int_equal(bytes, 1);
    assert_memory_equal(data, "x", 1);
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    opb_frame_free(frame);
}

static void
a_frame_cut_anywhere_is_refused(void **state)
{
    struct opb_frame *frame;

    (void)state;
    for (size_t i = 0; i < sizeof(two_segments); i++) {
        uint8_t *cut = malloc(i + 1); /* exact, so that a sanitizer sees a read too far */

        assert_non_null(cut);
        memcpy(cut, two_segments, i);
        assert_int_equal(opb_frame_decode(&frame, cut, i), OPB_BAD_FRAME);
        assert_null(frame);
        free(cut);
    }
}

static void
bytes_behind_a_frame_are_refused(void **state)
{
    uint8_t bytes[sizeof(two_segments) + 1];
    struct opb_frame *frame;

    (void)state;
    memcpy(bytes, two_segments, sizeof(two_segments));
    bytes[sizeof(two_segments)] = 0;
    assert_int_equal(opb_frame_decode(&frame, bytes, sizeof(bytes)), OPB_BAD_FRAME);
    assert_null(frame);
}

static void
every_changed_byte_is_survived(void **state)
{
    uint8_t bytes[sizeof(two_segments)];

    (void)state;
    for (size_t i = 0; i < sizeof(two_segments); i++) {
        for (unsigned value = 0; value < 256; value++) {
            struct opb_frame *frame;

            memcpy(bytes, two_segments, sizeof(bytes));
            bytes[i] = (uint8_t)value;
            if (opb_frame_decode(&frame, bytes, sizeof(bytes)) != OPB_OK) {
                assert_null(frame);
            }
            opb_frame_free(frame);
        }
    }
}

static void
impossible_segment_lengths_are_refused(void **state)
{
    uint64_t bytes;

    (void)state;
    assert_int_equal(opb_frame_segment_decode(&bytes, (const uint8_t *)"\0\0\0\0\0\0\0\0"),
                     OPB_BAD_FRAME);
    assert_int_equal(
        opb_frame_segment_decode(&bytes, (const uint8_t *)"\x80\0\0\0\0\0\0\0"),
        OPB_TOO_LARGE);
    assert_int_equal(
        opb_frame_segment_decode(&bytes, (const uint8_t *)"\0\0\0\x01\0\0\0\x02"), OPB_OK);
    assert_true(bytes == 0x100000002u);
}

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
    frame = decode_message(message);
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
    frame = decode_message(message);
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

    assert_int_equal(decode(&frame, envelope, envelope_bytes), OPB_OK);
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
    frame = decode_message(message);
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
    frame = decode_message(message);
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
    const struct CMUnitTest frame[] = {
        OPB_TEST(a_count_larger_than_its_bytes_is_refused),
        OPB_TEST(nested_claims_together_cannot_exceed_the_bytes),
        OPB_TEST(nesting_is_accepted_up_to_the_limit_and_refused_beyond),
        OPB_TEST(anything_but_exactly_one_value_is_refused),
        OPB_TEST(anything_but_an_rpc_shape_is_refused),
        OPB_TEST(extensions_other_than_segments_are_refused),
        OPB_TEST(a_bad_header_is_refused),
        OPB_TEST(segments_are_read_by_index),
        OPB_TEST(a_frame_cut_anywhere_is_refused),
        OPB_TEST(bytes_behind_a_frame_are_refused),
        OPB_TEST(every_changed_byte_is_survived),
        OPB_TEST(impossible_segment_lengths_are_refused),
        OPB_TEST(a_segment_is_taken_once),
        OPB_TEST(values_come_out_as_they_went_in),
        OPB_TEST(texts_next_to_each_other_are_terminated_without_harm),
        OPB_TEST(a_value_of_another_type_or_range_fails_the_reader),
        OPB_TEST(a_missing_or_left_over_value_fails_the_reader),
        OPB_TEST(a_fault_gives_its_parts),
        OPB_TEST(empty_containers_are_fine),
    };

    return OPB_RUN(frame);
}
