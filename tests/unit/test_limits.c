/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/test_limits.c - docs/protocol.md says what limits.h and the headers say */
#include "tests/unit/support.h"

#include "protocol/handshake.h"
#include "protocol/limits.h"
#include "protocol/words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE OPB_TEST_SOURCE_DIR "/docs/protocol.md"

/* The page with every run of white space made one space. */
static int
read_page(void **state)
{
    FILE *file = fopen(PAGE, "re");
    char *page = calloc(1, 1000000);
    size_t bytes = 0;
    int next;

    if (file == NULL || page == NULL) {
        perror(PAGE);
        return -1;
    }
    while ((next = fgetc(file)) != EOF && bytes < 999999) {
        bool is_space = next == ' ' || next == '\n';

        if (!is_space || (bytes > 0 && page[bytes - 1] != ' ')) {
            page[bytes++] = is_space ? ' ' : (char)next;
        }
    }
    (void)fclose(file); /* was only read */
    *state = page;
    return 0;
}

static int
free_page(void **state)
{
    free(*state);
    return 0;
}

/* The page has this text: before, number, after. */
static void
assert_says(const char *page, const char *before, unsigned long number, const char *after)
{
    char text[200];

    (void)snprintf(text, sizeof(text), "%s%lu%s", before, number, after);
    if (strstr(page, text) == NULL) {
        fail_msg("docs/protocol.md does not say \"%s\"", text);
    }
}

static void
the_page_gives_the_limits(void **state)
{
    const char *page = *state;

    assert_says(page, "a pool, version ", OPB_PROTOCOL_VERSION, "");
    assert_says(page, "`envelope_bytes`, 1 to ", OPB_MAX_ENVELOPE_BYTES, " (");
    assert_says(page, " (", OPB_MAX_HELLO_BYTES, " before the handshake");
    assert_says(page, "`segment_count`, 0 to ", OPB_MAX_SEGMENTS, " (");
    assert_says(page, "nest at most ", OPB_MAX_DEPTH, " deep");
    assert_says(page, "at most ", OPB_MAX_CALL_DEPTH, " requests deep");
    assert_says(page, "of more than ", OPB_INLINE_BYTES, " bytes travel as segments");
    assert_says(page, "`secret` the ", OPB_SECRET_BYTES, " bytes");
    assert_says(page, "ext value of type ", OPB_SEGMENT_EXT_TYPE, " ");
    assert_says(page, "asked for (1 to ", OPB_MAX_WORKERS, ";");
    assert_says(page, "from 1 to ", OPB_MAX_SCRIPTS, " absolute paths");
    assert_says(page, "together at most ", OPB_MAX_SCRIPT_BYTES, " bytes");
    assert_says(page, "node's name (", OPB_NODE_NAME_BYTES, " bytes at most");
    assert_says(page, "then ", OPB_RING_BYTES, " bytes from the acceptor");
    assert_says(page, "notification of method ", OPB_RING_METHOD, " ");
    assert_non_null(strstr(page, "magic is `" OPB_PROTOCOL_MAGIC "`"));
}

static void
the_page_gives_the_numbers_of_messages(void **state)
{
    const char *page = *state;

    assert_says(page, "| control | ", OPB_CONNECTION_CONTROL, " |");
    assert_says(page, "| main | ", OPB_CONNECTION_MAIN, " |");
    assert_says(page, "| call | ", OPB_CONNECTION_CALL, " |");
    assert_says(page, "| service | ", OPB_CONNECTION_SERVICE, " |");
    assert_says(page, "| child | ", OPB_CONNECTION_CHILD, " |");
    assert_says(page, "| console | ", OPB_CONNECTION_CONSOLE, " |");
    assert_says(page, "| ", OPB_FAULT_ORTHANC, " | Orthanc |");
    assert_says(page, "| ", OPB_FAULT_INVALID_OBJECT, " | invalid object |");
    assert_says(page, "| ", OPB_FAULT_UNAVAILABLE, " | unavailable |");
    assert_says(page, "| ", OPB_FAULT_TYPE, " | type |");
    assert_says(page, "| ", OPB_FAULT_VALUE, " | value |");
    assert_says(page, "| ", OPB_FAULT_RUNTIME, " | runtime |");
    assert_says(page, "| ", OPB_FAULT_RAISED, " | raised |");
    assert_says(page, "| ", OPB_FAULT_ENCODING, " | encoding |");
    assert_says(page, "| ", OPB_FAULT_PROTOCOL, " | protocol |");
    assert_says(page, "| ", OPB_CONTROL_ATTACH, " attach |");
    assert_says(page, "| ", OPB_CONTROL_HOST_STARTED, " host started |");
    assert_says(page, "| ", OPB_CONTROL_HOST_DIED, " host died |");
    assert_says(page, "| ", OPB_CONTROL_REPLACE_HOST, " replace host |");
    assert_says(page, "| ", OPB_CONTROL_DETACH, " detach |");
    assert_says(page, "| ", OPB_CONTROL_LOG, " log |");
    assert_says(page, "| ", OPB_CONTROL_LOOK, " look |");
    assert_says(page, "| ", OPB_CONTROL_LOOKED, " looked |");
}

static void
the_page_names_every_call(void **state)
{
#define OPB_CALL_CELL(upper, name) "| `" name "` |",
    static const char *const cells[] = {OPB_CALL_NAMES(OPB_CALL_CELL)};

    for (size_t i = 0; i < sizeof(cells) / sizeof(cells[0]); i++) {
        if (strstr(*state, cells[i]) == NULL) {
            fail_msg("docs/protocol.md has no row \"%s\"", cells[i]);
        }
    }
}

#define WITH_PAGE(function) cmocka_unit_test_setup_teardown(function, read_page, free_page)

int
main(void)
{
    const struct CMUnitTest limits[] = {
        WITH_PAGE(the_page_gives_the_limits),
        WITH_PAGE(the_page_gives_the_numbers_of_messages),
        WITH_PAGE(the_page_names_every_call),
    };

    return OPB_RUN(limits);
}
