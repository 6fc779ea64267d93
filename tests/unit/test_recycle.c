/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_recycle.c - the limits of one host */
#include "plugin/opb_plugin.h"

#include "plugin/recycle.h"

#include "support.h"

#define DRAWS 2000u

static void
limits_are_spread_over_90_to_110_percent(void **state)
{
    static const uint64_t configured[] = {
        100, 1000, 2147483647u, 1024u, (uint64_t)1048576u * 1024u}; /* the last two: KiB */

    (void)state;
    for (size_t i = 0; i < sizeof(configured) / sizeof(configured[0]); i++) {
        uint64_t spread = configured[i] / 10u;
        unsigned fifths[5] = {0};

        for (unsigned draw = 0; draw < DRAWS; draw++) {
            uint64_t limit = opb_recycler_draw(configured[i]);

            assert_in_range(limit, configured[i] - spread, configured[i] + spread);
            fifths[(limit - (configured[i] - spread)) * 5u / (2u * spread + 1u)]++;
        }
        for (unsigned k = 0; k < 5; k++) {
            assert_in_range(fifths[k], DRAWS / 10u, DRAWS * 3u / 10u); /* of 400 expected */
        }
    }
}

static void
both_ends_of_the_band_are_drawn(void **state)
{
    unsigned seen[3] = {0};

    (void)state;
    for (unsigned draw = 0; draw < DRAWS; draw++) {
        uint64_t limit = opb_recycler_draw(10);

        assert_in_range(limit, 9, 11);
        seen[limit - 9]++;
    }
    assert_true(seen[0] > 0 && seen[1] > 0 && seen[2] > 0);
}

static void
a_limit_below_10_is_as_configured(void **state)
{
    (void)state;
    for (uint64_t limit = 0; limit < 10; limit++) {
        for (unsigned draw = 0; draw < 100; draw++) {
            assert_int_equal(opb_recycler_draw(limit), limit);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        OPB_TEST(limits_are_spread_over_90_to_110_percent),
        OPB_TEST(both_ends_of_the_band_are_drawn),
        OPB_TEST(a_limit_below_10_is_as_configured),
    };

    return OPB_RUN(tests);
}
