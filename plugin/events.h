/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/events.h - change events: a queue, and the thread that delivers them in order
 *
 * Orthanc's notification only appends; ORTHANC_STOPPED waits until the queue is empty and
 * its own callback has returned, or the host is dead and none replaces it in time; never
 * longer than Python.StoppedTimeout.
 *
 * Of several hosts the primary gets all events, also those that it has missed by its death.
 */
#ifndef OPB_EVENTS_H
#define OPB_EVENTS_H

#include "session.h"

OPB_MUST_CHECK enum opb_status opb_events_new(struct opb_events **out,
                                              struct opb_node *node);
/* Starts the thread (named PY-CHANGES); before Initialize returns. */
OPB_MUST_CHECK enum opb_status opb_events_start(struct opb_events *events);
/* Copies the event. Never blocks for long, but for ORTHANC_STOPPED, which waits. */
void opb_events_push(struct opb_events *events, OrthancPluginChangeType change,
                     OrthancPluginResourceType resource_type, const char *resource_id);
struct opb_event_counts {
    uint32_t queued;    /* now */
    uint64_t lost;      /* the queue was full, or there was no memory */
    uint64_t set_aside; /* have ended two hosts */
    uint64_t late;      /* came after ORTHANC_STOPPED */
};
void opb_events_count(struct opb_events *events, struct opb_event_counts *counts);
/* Orthanc has started: scripts have been told, or would have been. */
void opb_events_note_started(struct opb_events *events);

/* From one generation to the next. */
struct opb_switch {
    struct opb_session *old;         /* the primary; may have ended; NULL: there is none */
    struct opb_session *const *next; /* all hosts, the primary first */
    uint32_t next_count;
    bool old_listens; /* has an on-change callback */
    bool next_listens;
};
/* Makes next the sessions that calls go to. Events so far are for old, which then gets
 * ORTHANC_STOPPED, then next gets ORTHANC_STARTED, then later events. False: one has ended
 * meanwhile, Orthanc stops, or there is no memory: nothing was changed. *number is for: */
OPB_MUST_CHECK bool opb_events_switch(struct opb_events *events,
                                      const struct opb_switch *what, uint64_t *number);
/* The same before there is a next one: old gets ORTHANC_STOPPED at once, after the event
 * that is being delivered; those in the queue wait, for whoever gets ORTHANC_STARTED before
 * them: the next primary. Changes no session. *number: 0 if nobody has to be told. False:
 * Orthanc stops, or there is no memory. */
OPB_MUST_CHECK bool opb_events_end_old(struct opb_events *events, struct opb_session *old,
                                       bool old_listens, uint64_t *number);
/* Waits until old was told, or could not be. False: not before deadline_ms. */
bool opb_events_wait_switch(struct opb_events *events, uint64_t number,
                            uint64_t deadline_ms);

/* Stops and joins the thread; what is left is dropped and counted in the log. */
void opb_events_stop(struct opb_events *events);
void opb_events_free(struct opb_events *events);

#endif
