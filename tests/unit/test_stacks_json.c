/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_stacks_json.c - reading what faulthandler writes */
#include "support.h"

#include "plugin/stacks_json.h"

#include <stdlib.h>

static void
assert_reads(const char *text, const char *expected)
{
    json_t *threads = opb_stacks_read_threads(text);
    char *found = json_dumps(threads, JSON_SORT_KEYS);

    assert_non_null(found);
    assert_string_equal(found, expected);
    free(found);
    json_decref(threads);
}

static void
threads_and_frames_are_read(void **state)
{
    (void)state;
    assert_reads(
        "Thread 0x00007f01 (most recent call first):\n"
        "  File \"/srv/a b.py\", line 12 in answer\n"
        "  File \"<frozen importlib._bootstrap>\", line 241 in _call_with_frames_removed\n"
        "\n"
        "Thread 0x00007f02 [a name] (most recent call first):\n"
        "  File \"/a\", line 1 in b\", line 3 in <module>\n",
        "[{\"Frames\": [{\"File\": \"/srv/a b.py\", \"Function\": \"answer\", \"Line\": "
        "12}, "
        "{\"File\": \"<frozen importlib._bootstrap>\", \"Function\": "
        "\"_call_with_frames_removed\", \"Line\": 241}], \"Id\": \"0x00007f01\", \"Name\": "
        "null}, {\"Frames\": [{\"File\": \"/a\\\", line 1 in b\", \"Function\": "
        "\"<module>\", "
        "\"Line\": 3}], \"Id\": \"0x00007f02\", \"Name\": \"a name\"}]");
}

static void
threads_without_frames_are_left_out(void **state)
{
    (void)state;
    assert_reads("Current thread 0x01 (most recent call first):\n"
                 "  <no Python frame>\n"
                 "\n"
                 "Thread 0x02 (most recent call first):\n"
                 "  <no Python frame>\n",
                 "[]");
    assert_reads("Current thread 0x01 (most recent call first):\n"
                 "  File \"/a\", line 3 in f\n",
                 "[{\"Frames\": [{\"File\": \"/a\", \"Function\": \"f\", \"Line\": 3}], "
                 "\"Id\": \"0x01\", \"Name\": null}]");
}

static void
what_is_not_known_is_shown_as_it_is(void **state)
{
    (void)state;
    assert_reads("", "[]");
    assert_reads("nonsense\n  File \"/a\", line 3 in f\n", "[]");
    assert_reads(
        "Thread 0x01\n  ...\n  File \"/a\", line\n  File \"/a\", line x in\n"
        "  File \"\", line 7 in \n",
        "[{\"Frames\": [{\"Text\": \"...\"}, {\"Text\": \"File \\\"/a\\\", line\"}, "
        "{\"Text\": \"File \\\"/a\\\", line x in\"}, {\"File\": \"\", \"Function\": "
        "\"\", \"Line\": 7}], \"Id\": \"0x01\", \"Name\": null}]");
    assert_reads("Thread 0x01 [cut\n  x",
                 "[{\"Frames\": [{\"Text\": \"x\"}], \"Id\": \"0x01\", \"Name\": null}]");
    assert_reads("Thread 0x\n  x",
                 "[{\"Frames\": [{\"Text\": \"x\"}], \"Id\": \"0x\", \"Name\": null}]");
    assert_reads("Thread 0x01 [cut", "[]");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        OPB_TEST(threads_and_frames_are_read),
        OPB_TEST(threads_without_frames_are_left_out),
        OPB_TEST(what_is_not_known_is_shown_as_it_is),
    };

    return OPB_RUN(tests);
}
