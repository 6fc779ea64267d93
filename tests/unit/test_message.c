/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_message.c - what a message looks like on the wire, and its limits */
#include "tests/unit/support.h"

#include "protocol/limits.h"
#include "protocol/sockets.h"

#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

static int
make_message(void **state)
{
    *state = opb_message_new();
    return *state == NULL ? -1 : 0;
}

static int
free_message(void **state)
{
    opb_message_free(*state);
    return 0;
}

/* The message is on the wire exactly these bytes. */
static void
assert_wire(struct opb_message *message, const void *expected, size_t expected_bytes)
{
    uint8_t *bytes;
    size_t byte_count = opb_flatten(message, &bytes);

    assert_int_equal(byte_count, expected_bytes);
    assert_memory_equal(bytes, expected, expected_bytes);
    free(bytes);
}

static enum opb_status
finish(struct opb_message *message)
{
    const struct iovec *parts;
    size_t part_count;

    return opb_message_frame(message, &parts, &part_count);
}

static void
a_request_has_the_documented_bytes(void **state)
{
    static const uint8_t expected[] = {
        0,    0,    0,    14,   0,    0,    0,    0, /* header */
        0x94, 0,    0xce, 0x01, 0x02, 0x03, 0x04, 7, /* [0, msgid, 7, */
        0x92, 0xc3, 0xa3, 'a',  'b',  'c'};          /* [true, "abc"]] */
    struct opb_message *message = *state;

    opb_message_begin_request(message, 7, 2);
    opb_pack_bool(message, true);
    opb_pack_cstr(message, "abc");
    opb_message_set_msgid(message, 0x01020304);
    assert_wire(message, expected, sizeof(expected));
}

static void
a_notification_has_the_documented_bytes(void **state)
{
    static const uint8_t expected[] = {0, 0, 0, 5, 0, 0, 0, 0, 0x93, 2, 3, 0x91, 0xff};
    struct opb_message *message = *state;

    opb_message_begin_notify(message, 3, 1);
    opb_pack_int(message, -1);
    assert_wire(message, expected, sizeof(expected));
}

static void
a_response_has_the_documented_bytes(void **state)
{
    static const uint8_t expected[] = {0, 0,    0, 9, 0, 0, 0,    0,   0x94,
                                       1, 0xce, 0, 0, 0, 9, 0xc0, 0xc0};
    struct opb_message *message = *state;

    opb_message_begin_response(message, 9);
    opb_pack_nil(message);
    assert_wire(message, expected, sizeof(expected));
}

static void
a_fault_has_the_documented_bytes(void **state)
{
    static const uint8_t expected[] = {0, 0, 0, 14, 0,    0, 0,    0,    0x94, 1,   0xce,
                                       0, 0, 0, 1,  0x93, 2, 0xff, 0xa2, 'n',  'o', 0xc0};
    struct opb_message *message = *state;

    opb_message_error(message, 1, OPB_FAULT_UNAVAILABLE, -1, "no");
    assert_wire(message, expected, sizeof(expected));
    opb_message_error(message, 1, OPB_FAULT_RUNTIME, 0, NULL);
    assert_int_equal(finish(message), OPB_OK);
}

static void
a_long_fault_text_is_cut_between_characters(void **state)
{
    struct opb_message *message = *state;
    struct opb_frame *frame;
    const char *text;
    char *long_text = malloc(OPB_MAX_FAULT_BYTES + 3);
    uint8_t *bytes;
    size_t byte_count;

    assert_non_null(long_text);
    memset(long_text, 'x', OPB_MAX_FAULT_BYTES + 2);
    memcpy(long_text + OPB_MAX_FAULT_BYTES - 1, "\xc3\xa9", 3);
    opb_message_error(message, 1, OPB_FAULT_RUNTIME, 0, long_text);
    byte_count = opb_flatten(message, &bytes);
    assert_int_equal(opb_frame_decode(&frame, bytes, byte_count), OPB_OK);
    assert_true(opb_frame_fault(frame, NULL, NULL, &text));
    assert_int_equal(strlen(text), OPB_MAX_FAULT_BYTES - 1);
    opb_frame_free(frame);
    free(bytes);
    free(long_text);
}

static void
bytes_up_to_the_limit_travel_inline_and_longer_ones_as_segments(void **state)
{
    static const uint8_t body[OPB_INLINE_BYTES + 1];
    struct opb_message *message = *state;
    const struct iovec *parts;
    size_t part_count;

    opb_message_begin_notify(message, 1, 1);
    opb_pack_bytes(message, body, OPB_INLINE_BYTES);
    assert_int_equal(opb_message_frame(message, &parts, &part_count), OPB_OK);
    assert_int_equal(part_count, 2);

    opb_message_begin_notify(message, 1, 2);
    opb_pack_bytes(message, body, sizeof(body));
    opb_pack_bytes(message, NULL, 0);
    assert_int_equal(opb_message_frame(message, &parts, &part_count), OPB_OK);
    assert_int_equal(part_count, 3);
    assert_ptr_equal(parts[2].iov_base, body); /* lent, not copied */
    assert_int_equal(parts[2].iov_len, sizeof(body));
    assert_int_equal(parts[0].iov_len, OPB_FRAME_HEADER_BYTES + 8);
    assert_int_equal(opb_message_bytes(message), parts[1].iov_len + sizeof(body));
    /* [2, 1, [ext 1: 00 00 00 00, bin 0]] */
    assert_memory_equal(parts[1].iov_base, "\x93\x02\x01\x92\xd6\x01\0\0\0\0\xc4\0", 12);
}

static void
too_many_segments_are_too_large(void **state)
{
    static const uint8_t body[OPB_INLINE_BYTES + 1];
    struct opb_message *message = *state;

    opb_message_begin_notify(message, 1, OPB_MAX_SEGMENTS + 1);
    for (uint32_t i = 0; i < OPB_MAX_SEGMENTS; i++) {
        opb_pack_bytes(message, body, sizeof(body));
    }
    assert_int_equal(opb_message_status(message), OPB_OK);
    opb_pack_bytes(message, body, sizeof(body));
    assert_int_equal(opb_message_status(message), OPB_TOO_LARGE);
    assert_int_equal(finish(message), OPB_TOO_LARGE);
}

static void
an_envelope_beyond_its_limit_is_too_large_and_the_message_can_be_reused(void **state)
{
    struct opb_message *message = *state;
    char *text = calloc(1, OPB_MAX_ENVELOPE_BYTES + 1);

    assert_non_null(text);
    opb_message_begin_notify(message, 1, 2);
    opb_pack_str(message, text, OPB_MAX_ENVELOPE_BYTES - 10);
    assert_int_equal(opb_message_status(message), OPB_OK);
    opb_pack_nil(message);
    assert_int_equal(opb_message_status(message), OPB_OK);
    opb_message_begin_notify(message, 1, 1);
    opb_pack_str(message, text, OPB_MAX_ENVELOPE_BYTES - 8);
    assert_int_equal(finish(message), OPB_TOO_LARGE);
    opb_message_begin_notify(message, 1, 1);
    opb_pack_str(message, text, OPB_MAX_ENVELOPE_BYTES + 1);
    assert_int_equal(finish(message), OPB_TOO_LARGE);
    opb_message_begin_notify(message, 1, 0);
    assert_int_equal(finish(message), OPB_OK);
    free(text);
}

static void
a_message_with_too_few_or_too_many_values_is_refused(void **state)
{
    struct opb_message *message = *state;

    assert_int_equal(finish(message), OPB_BAD_FRAME); /* not even begun */
    opb_message_begin_request(message, 1, 2);
    opb_pack_nil(message);
    assert_int_equal(finish(message), OPB_BAD_FRAME);
    opb_pack_nil(message);
    assert_int_equal(finish(message), OPB_OK);
    opb_pack_nil(message);
    assert_int_equal(finish(message), OPB_BAD_FRAME);

    opb_message_begin_response(message, 1);
    assert_int_equal(finish(message), OPB_BAD_FRAME);
    opb_pack_map(message, 1);
    opb_pack_cstr(message, "key");
    assert_int_equal(finish(message), OPB_BAD_FRAME);
    opb_pack_array(message, 0);
    assert_int_equal(finish(message), OPB_OK);

    opb_message_error(message, 1, OPB_FAULT_TYPE, 0, "complete");
    opb_pack_nil(message);
    assert_int_equal(finish(message), OPB_BAD_FRAME);
}

static void
nesting_beyond_the_limit_is_too_large(void **state)
{
    struct opb_message *message = *state;

    opb_message_begin_request(message, 1, 1); /* the envelope and the params: two levels */
    for (uint32_t i = 2; i < OPB_MAX_DEPTH; i++) {
        opb_pack_array(message, 1);
    }
    assert_int_equal(opb_message_status(message), OPB_OK);
    opb_pack_array(message, 0);
    assert_int_equal(finish(message), OPB_TOO_LARGE);
}

static void
a_null_text_is_nil(void **state)
{
    static const uint8_t expected[] = {0, 0, 0, 5, 0, 0, 0, 0, 0x93, 2, 0, 0x91, 0xc0};
    struct opb_message *message = *state;

    opb_message_begin_notify(message, 0, 1);
    opb_pack_cstr(message, NULL);
    assert_wire(message, expected, sizeof(expected));
}

static void
every_status_has_a_text_of_its_own(void **state)
{
    (void)state;
    for (int a = OPB_OK; a <= OPB_STOPPING; a++) {
        for (int b = OPB_OK; b < a; b++) {
            assert_string_not_equal(opb_status_text((enum opb_status)a),
                                    opb_status_text((enum opb_status)b));
        }
    }
    assert_string_equal(opb_status_text((enum opb_status)99), "unknown status");
}

#define WITH_MESSAGE(function)                                                             \
    cmocka_unit_test_setup_teardown(function, make_message, free_message)

int
main(void)
{
    const struct CMUnitTest message[] = {
        WITH_MESSAGE(a_request_has_the_documented_bytes),
        WITH_MESSAGE(a_notification_has_the_documented_bytes),
        WITH_MESSAGE(a_response_has_the_documented_bytes),
        WITH_MESSAGE(a_fault_has_the_documented_bytes),
        WITH_MESSAGE(a_long_fault_text_is_cut_between_characters),
        WITH_MESSAGE(bytes_up_to_the_limit_travel_inline_and_longer_ones_as_segments),
        WITH_MESSAGE(too_many_segments_are_too_large),
        WITH_MESSAGE(
            an_envelope_beyond_its_limit_is_too_large_and_the_message_can_be_reused),
        WITH_MESSAGE(a_message_with_too_few_or_too_many_values_is_refused),
        WITH_MESSAGE(nesting_beyond_the_limit_is_too_large),
        WITH_MESSAGE(a_null_text_is_nil),
        OPB_TEST(every_status_has_a_text_of_its_own),
    };

    return OPB_RUN(message);
}
