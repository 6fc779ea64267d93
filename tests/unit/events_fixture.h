/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tests/unit/events_fixture.h - a node whose script wants change events, and what it saw
 *
 * Here:      what the tests of events share (test_events*.c).
 * Elsewhere: the node and its host (plugin_support.h).
 */
#ifndef OPB_EVENTS_FIXTURE_H
#define OPB_EVENTS_FIXTURE_H

#include "plugin_support.h"

#include "plugin/events.h"

int events_set_up(void **state); /* a node without a host */
int events_tear_down(void **state);

/* As Orthanc: a change of a study; its stop, which waits. */
void events_push(OrthancPluginChangeType type, const char *id);
void events_push_stop(void);

/* For serve functions: writes down the event, as "3 a", or another text. */
void events_note(struct opb_frame *frame);
void events_note_text(const char *text);
/* Serve functions: note the event, and return; or return only when they are let. */
void events_take(struct opb_lane *lane, struct opb_frame *frame,
                 struct opb_message *message);
void events_hang(struct opb_lane *lane, struct opb_frame *frame,
                 struct opb_message *message);
void events_let_return(unsigned count);

/* These were written down, in this order, and no others. */
void events_expect(const char *const *expected, unsigned count);
/* Waits until so many events are in the queue, beside the one that is being delivered. */
void events_await_queued(struct opb_node *node, uint32_t queued);

#define EVENT_TEST(function)                                                               \
    cmocka_unit_test_setup_teardown(function, events_set_up, events_tear_down)

#endif
