/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/events.h - change events: a queue, and the thread that delivers them in order
 *
 * Orthanc's notification only appends; ORTHANC_STOPPED waits until the queue is empty and
 * its own callback has returned, or the host is dead and none replaces it in time.
 */
#ifndef OPB_EVENTS_H
#define OPB_EVENTS_H

#include "node.h"

OPB_MUST_CHECK enum opb_status opb_events_new(struct opb_events **out,
                                              struct opb_node *node);
/* Starts the thread (named PY-CHANGES); before Initialize returns. */
OPB_MUST_CHECK enum opb_status opb_events_start(struct opb_events *events);
/* Copies the event. Never blocks for long, but for ORTHANC_STOPPED, which waits. */
void opb_events_push(struct opb_events *events, OrthancPluginChangeType change,
                     OrthancPluginResourceType resource_type, const char *resource_id);
/* Stops and joins the thread; what is left is dropped and counted in the log. */
void opb_events_stop(struct opb_events *events);
void opb_events_free(struct opb_events *events);

#endif
