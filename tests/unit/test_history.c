/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_history.c - the last of what has happened */
#include "support.h"

#include "plugin/history.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int
make_history(void **state)
{
    struct opb_history *history = NULL;

    assert_int_equal(opb_history_new(&history), OPB_OK);
    *state = history;
    return 0;
}

static int
free_history(void **state)
{
    opb_history_free(*state);
    return 0;
}

static void
add(struct opb_history *history, enum opb_history_list list, pid_t pid)
{
    char what[32];
    const struct opb_happening happening = {
        .number = 7, .pid = pid, .kind = "Rest", .what = what, .text = "the text"};

    (void)snprintf(what, sizeof(what), "what %d", (int)pid);
    opb_history_add(history, list, &happening);
    memset(what, 'x', sizeof(what) - 1); /* it was copied */
}

struct seen {
    struct opb_history *history; /* to be changed while it is looked at, or NULL */
    pid_t pids[OPB_HISTORY_LENGTH + 1];
    unsigned count;
};

static void
see(void *context, const struct opb_happening *happening)
{
    struct seen *seen = context;
    char what[32];

    if (seen->history != NULL) {
        add(seen->history, OPB_HISTORY_DEATHS, 1000);
    }
    (void)snprintf(what, sizeof(what), "what %d", (int)happening->pid);
    assert_string_equal(happening->what, what);
    assert_string_equal(happening->text, "the text");
    assert_string_equal(happening->kind, "Rest");
    assert_int_equal(happening->number, 7);
    assert_true(happening->at_ms > 1000000000000);
    assert_true(seen->count < OPB_HISTORY_LENGTH);
    seen->pids[seen->count++] = happening->pid;
}

static void
the_newest_is_shown_first(void **state)
{
    struct seen seen = {.count = 0};

    for (pid_t pid = 1; pid <= 3; pid++) {
        add(*state, OPB_HISTORY_DEATHS, pid);
    }
    opb_history_each(*state, OPB_HISTORY_DEATHS, see, &seen);
    assert_int_equal(seen.count, 3);
    assert_int_equal(seen.pids[0], 3);
    assert_int_equal(seen.pids[2], 1);
    assert_int_equal(opb_history_count(*state, OPB_HISTORY_EXCEPTIONS), 0);
}

static void
the_oldest_is_forgotten_and_still_counted(void **state)
{
    struct seen seen = {.count = 0};

    for (pid_t pid = 1; pid <= 100; pid++) {
        add(*state, OPB_HISTORY_EXCEPTIONS, pid);
    }
    opb_history_each(*state, OPB_HISTORY_EXCEPTIONS, see, &seen);
    assert_int_equal(seen.count, OPB_HISTORY_LENGTH);
    assert_int_equal(seen.pids[0], 100);
    assert_int_equal(seen.pids[OPB_HISTORY_LENGTH - 1], 100 - OPB_HISTORY_LENGTH + 1);
    assert_int_equal(opb_history_count(*state, OPB_HISTORY_EXCEPTIONS), 100);
}

static void
what_is_looked_at_stays_while_others_are_added(void **state)
{
    struct seen seen = {.history = *state};

    for (pid_t pid = 1; pid <= (pid_t)OPB_HISTORY_LENGTH; pid++) {
        add(*state, OPB_HISTORY_DEATHS, pid);
    }
    opb_history_each(*state, OPB_HISTORY_DEATHS, see, &seen);
    assert_int_equal(seen.count, OPB_HISTORY_LENGTH);
    assert_int_equal(seen.pids[OPB_HISTORY_LENGTH - 1], 1);
}

static void
see_bytes(void *context, const struct opb_happening *happening)
{
    *(size_t *)context = strlen(happening->text);
}

static void
long_texts_are_cut(void **state)
{
    char *text = malloc(3 * OPB_HISTORY_TEXT_BYTES);
    struct opb_happening happening = {.kind = "Rest", .what = "", .text = text};
    size_t bytes = 0;

    assert_non_null(text);
    memset(text, 'x', 3 * OPB_HISTORY_TEXT_BYTES);
    text[3 * OPB_HISTORY_TEXT_BYTES - 1] = '\0';
    opb_history_add(*state, OPB_HISTORY_DEATHS, &happening);
    opb_history_each(*state, OPB_HISTORY_DEATHS, see_bytes, &bytes);
    assert_int_equal(bytes, OPB_HISTORY_TEXT_BYTES);
    free(text);
}

#define HISTORY_TEST(function)                                                             \
    cmocka_unit_test_setup_teardown(function, make_history, free_history)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        HISTORY_TEST(the_newest_is_shown_first),
        HISTORY_TEST(the_oldest_is_forgotten_and_still_counted),
        HISTORY_TEST(what_is_looked_at_stays_while_others_are_added),
        HISTORY_TEST(long_texts_are_cut),
    };

    return OPB_RUN(tests);
}
