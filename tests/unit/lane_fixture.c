/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/lane_fixture.c - see lane_fixture.h */
#include "tests/unit/lane_fixture.h"

#include "protocol/sockets.h"

#include <stdlib.h>
#include <unistd.h>

int
opb_fixture_lanes(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));

    fixture->bare_fd = -1;
    fixture->message = opb_message_new();
    opb_make_lanes(&fixture->a, &fixture->b);
    *state = fixture;
    return 0;
}

int
opb_fixture_bare(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    int fds[2];

    fixture->message = opb_message_new();
    opb_make_pair(fds);
    assert_int_equal(opb_lane_open(&fixture->a, &fds[0], &opb_segment_malloc), OPB_OK);
    assert_int_equal(fds[0], -1);
    opb_lane_trust(fixture->a);
    fixture->bare_fd = fds[1];
    *state = fixture;
    return 0;
}

int
opb_fixture_free(void **state)
{
    struct fixture *fixture = *state;

    opb_lane_close(fixture->a);
    opb_lane_close(fixture->b);
    opb_message_free(fixture->message);
    if (fixture->bare_fd >= 0) {
        (void)close(fixture->bare_fd);
    }
    free(fixture);
    return 0;
}

void
opb_begin_number(struct opb_message *message, uint32_t method, uint64_t number)
{
    opb_message_begin_notify(message, method, 1);
    opb_pack_uint(message, number);
}

void
opb_assert_number(struct opb_lane *lane, uint32_t method, uint64_t number)
{
    struct opb_reader reader;
    struct opb_frame *frame;

    assert_int_equal(opb_lane_receive(lane, &frame, opb_deadline_ms(5000)), OPB_OK);
    assert_int_equal(opb_frame_method(frame), method);
    opb_frame_params(frame, &reader);
    assert_int_equal(opb_read_uint(&reader, UINT64_MAX), number);
    assert_int_equal(opb_reader_finish(&reader), OPB_OK);
    opb_frame_free(frame);
}
