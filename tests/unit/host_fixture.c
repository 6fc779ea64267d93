/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/host_fixture.c - see host_fixture.h */
#include "tests/unit/host_fixture.h"

struct test_host host;
struct opb_lane *lane;

int
host_set_up(void **state)
{
    (void)state;
    test_host_start(&host, NULL);
    lane = NULL;
    return 0;
}

int
host_tear_down(void **state)
{
    (void)state;
    opb_lane_close(lane);
    test_host_end(&host);
    return 0;
}
