/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/host_fixture.h - a fresh host for each test of test_host_*.c
 *
 * Here:      the one host of the test that runs, and its lane, if the test opens one.
 * Elsewhere: what can be done with them (host_support.h).
 */
#ifndef OPB_HOST_FIXTURE_H
#define OPB_HOST_FIXTURE_H

#include "tests/unit/host_support.h"

extern struct test_host host;
extern struct opb_lane *lane; /* NULL at first; closed after the test */

int host_set_up(void **state);
int host_tear_down(void **state);

#define HOST_TEST(function)                                                                \
    cmocka_unit_test_setup_teardown(function, host_set_up, host_tear_down)

#endif
