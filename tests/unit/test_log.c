/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_log.c - log lines of the bridge */
#include "plugin_support.h"

#include "plugin/log.h"

#include <stdlib.h>
#include <string.h>

static void
each_line_becomes_one_line_of_orthancs_log(void **state)
{
    struct opb_node *node = fake_node_new();

    (void)state;
    opb_log_error("first %d\n\nsecond %s\n", 1, "two");
    assert_true(fake_log_has("first 1\nsecond two\n"));
    fake_node_free(node);
}

static void
text_is_never_a_format(void **state)
{
    struct opb_node *node = fake_node_new();

    (void)state;
    opb_log_warning("%s", "100 %s %n");
    assert_true(fake_log_has("100 %s %n\n"));
    fake_node_free(node);
}

static void
a_long_text_is_not_cut_before_its_limit(void **state)
{
    struct opb_node *node = fake_node_new();
    char *text = malloc(20001);

    (void)state;
    assert_non_null(text);
    memset(text, 'x', 20000);
    text[20000] = '\0';
    opb_log_info("%s", text);
    assert_true(fake_log_has(text));
    free(text);
    fake_node_free(node);
}

static void
control_characters_become_spaces(void **state)
{
    struct opb_node *node = fake_node_new();

    (void)state;
    opb_log_error("%s", "a\tb\rE0101 c\x1b[2Jd\x7f\xc3\xa9");
    assert_true(fake_log_has("a\tb E0101 c [2Jd \xc3\xa9\n"));
    fake_node_free(node);
}

static void
without_a_node_a_line_is_dropped(void **state)
{
    (void)state;
    fake_orthanc_reset();
    opb_log_error("nobody hears this");
    assert_false(fake_log_has("nobody"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        OPB_TEST(each_line_becomes_one_line_of_orthancs_log),
        OPB_TEST(text_is_never_a_format),
        OPB_TEST(a_long_text_is_not_cut_before_its_limit),
        OPB_TEST(control_characters_become_spaces),
        OPB_TEST(without_a_node_a_line_is_dropped),
    };

    return OPB_RUN(tests);
}
