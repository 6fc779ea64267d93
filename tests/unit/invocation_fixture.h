/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/invocation_fixture.h - SDK calls of a host, one after the other, on one lane
 *
 * Here:      a thread of the node that serves the lane, for each test; calls and what is
 *            expected of them. Elsewhere: the server that gets them (plugin_support.h).
 */
#ifndef OPB_INVOCATION_FIXTURE_H
#define OPB_INVOCATION_FIXTURE_H

#include "plugin_support.h"

#include <stdatomic.h>

/* A thread of the node serves one lane; the test is the host at its other end. */
struct invocation {
    struct opb_node *node;
    struct opb_session *session;
    struct opb_lane *lane, *far_lane;
    struct opb_message *message;
    struct opb_thread *thread;
    atomic_bool is_own; /* the thread is one of ours, not one of Orthanc's */
};

int sdk_set_up(void **state);
int sdk_tear_down(void **state);
/* Begins to serve a new lane, as sdk_set_up() has done; ends it, as sdk_tear_down() does.
 */
void sdk_serve(struct invocation *fixture);
void sdk_serve_no_more(struct invocation *fixture);

/* A call: begin, pack the arguments, then one of those below. */
void sdk_begin(struct invocation *fixture, const char *name, uint32_t count);
/* Sends the call. Gives the response. */
struct opb_frame *sdk_finish(struct invocation *fixture);
/* The same; the response must have a result, which is lent until it is freed. */
struct opb_frame *sdk_finish_well(struct invocation *fixture, struct opb_reader *result);
void sdk_expect_fault(struct invocation *fixture, enum opb_fault fault, int32_t code,
                      const char *text);
void sdk_expect_nil(struct invocation *fixture);
uint64_t sdk_expect_uint(struct invocation *fixture);
void sdk_expect_bytes(struct invocation *fixture, const void *bytes, size_t size);

/* What is said of a call whose arguments cannot be read. */
#define SDK_MALFORMED "The arguments of the SDK call do not have the types of its signature"

/* For fake_on(): succeeds. */
OrthancPluginErrorCode sdk_nothing(const void *params);

#define INVOCATION_TEST(function)                                                          \
    cmocka_unit_test_setup_teardown(function, sdk_set_up, sdk_tear_down)

#endif
