/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_frame.c - what a frame may look like, whatever its values mean
 *
 * Here:      headers, counts, nesting, shapes and segments that are refused before anybody
 *            reads a value. Elsewhere: reading the values (test_reader.c).
 */
#include "tests/unit/support.h"

#include "protocol/limits.h"

#include <stdlib.h>
#include <string.h>

static void
assert_refused(const void *envelope, size_t envelope_bytes)
{
    struct opb_frame *frame = NULL;

    assert_int_equal(opb_decode_envelope(&frame, envelope, envelope_bytes), OPB_BAD_FRAME);
    assert_null(frame);
}

#define REFUSED(literal) assert_refused(literal, sizeof(literal) - 1)

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
    assert_int_equal(opb_decode_envelope(&frame, bytes, 3 + OPB_MAX_DEPTH), OPB_OK);
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
    };

    return OPB_RUN(frame);
}
