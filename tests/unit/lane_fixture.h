/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/lane_fixture.h - what the tests of writing and reading a lane share */
#ifndef OPB_TEST_LANE_FIXTURE_H
#define OPB_TEST_LANE_FIXTURE_H

#include "tests/unit/support.h"

/* Two lanes and a message, or one lane and the bare socket of its peer. */
struct fixture {
    struct opb_lane *a;
    struct opb_lane *b;
    int bare_fd;
    struct opb_message *message;
};

int opb_fixture_lanes(void **state); /* a and b */
int opb_fixture_bare(void **state);  /* a and bare_fd */
int opb_fixture_free(void **state);

/* Begins a notification with one number; receives one and checks it. */
void opb_begin_number(struct opb_message *message, uint32_t method, uint64_t number);
void opb_assert_number(struct opb_lane *lane, uint32_t method, uint64_t number);

#define WITH_LANES(function)                                                               \
    cmocka_unit_test_setup_teardown(function, opb_fixture_lanes, opb_fixture_free)
#define WITH_BARE(function)                                                                \
    cmocka_unit_test_setup_teardown(function, opb_fixture_bare, opb_fixture_free)

#endif
