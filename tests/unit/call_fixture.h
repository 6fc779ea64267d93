/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/call_fixture.h - a node for each test, and calls that count what is done
 *
 * Here:      what the tests of calls share (test_call*.c, test_service_lanes.c).
 * Elsewhere: the node, its server and its host (plugin_support.h).
 */
#ifndef OPB_CALL_FIXTURE_H
#define OPB_CALL_FIXTURE_H

#include "plugin_support.h"

#include "plugin/call.h"

/* The context of a call's functions. */
struct counted {
    unsigned packs, finishes;
    bool answer;
};

/* Functions of struct opb_call_io: pack the count of packs; count. */
void call_count_pack(struct opb_message *message, struct opb_session *session,
                     void *context);
void call_count_finish(struct opb_session *session, void *context);

/* A call of kind Change, called "test call". */
enum opb_outcome call_run(struct opb_node *node, struct counted *counted,
                          uint64_t deadline_ms);

/* For fake_host_start(): the callback has raised. */
void call_answer_raised(struct opb_lane *lane, struct opb_frame *request,
                        struct opb_message *message);

int call_make_node(void **state);
int call_free_node(void **state);

#define CALL_TEST(function)                                                                \
    cmocka_unit_test_setup_teardown(function, call_make_node, call_free_node)

#endif
