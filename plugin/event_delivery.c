/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/event_delivery.c - a change event, until it is done
 *
 * Here:      the call, to whom, and again if the host dies. For the queue's thread.
 * Elsewhere: the queue (events.c), running a call (call.c).
 *
 * An event is done when its callback has returned, whatever it returned. If the host dies
 * first, the next host gets it once more; an event that ends two hosts is set aside.
 */
#include "events_state.h"

#include "call.h"
#include "log.h"
#include "threads.h"

#include "protocol/sockets.h"

#include <stdio.h>

#define RETRY_MS 1000u /* after a shortage */

static const char *
change_name(OrthancPluginChangeType change)
{
    static const char *const names[] = {
        "COMPLETED_SERIES",   "DELETED",          "NEW_CHILD_INSTANCE",
        "NEW_INSTANCE",       "NEW_PATIENT",      "NEW_SERIES",
        "NEW_STUDY",          "STABLE_PATIENT",   "STABLE_SERIES",
        "STABLE_STUDY",       "ORTHANC_STARTED",  "ORTHANC_STOPPED",
        "UPDATED_ATTACHMENT", "UPDATED_METADATA", "UPDATED_PEERS",
        "UPDATED_MODALITIES", "JOB_SUBMITTED",    "JOB_SUCCESS",
        "JOB_FAILURE"};
    unsigned index = (unsigned)change;

    return index < sizeof(names) / sizeof(names[0]) ? names[index] : "of an unknown type";
}

struct delivery {
    const struct event *event;
    bool is_sent; /* or about to be */
};

static void
event_pack(struct opb_message *message, struct opb_session *session, void *context)
{
    struct delivery *delivery = context;
    const struct event *event = delivery->event;

    (void)session; /* an event is lent nothing */
    delivery->is_sent = true;
    opb_message_begin_request(message, OPB_CALL_CHANGE_INDEX, 3);
    opb_pack_int(message, (int64_t)event->change);
    opb_pack_int(message, (int64_t)event->resource_type);
    opb_pack_cstr(message, event->resource_id);
}

/* Whether to stop trying: the queue is being closed, or Orthanc waits for its end. */
static bool
is_giving_up(struct opb_events *events)
{
    bool is_giving_up;

    pthread_mutex_lock(&events->lock);
    is_giving_up = events->is_stopping || events->has_stopped;
    pthread_mutex_unlock(&events->lock);
    return is_giving_up || opb_node_phase(events->node) == OPB_PHASE_FINALIZING;
}

/* A pause before another attempt. */
static void
pause_delivery(struct opb_events *events)
{
    uint64_t until_ms = opb_deadline_ms(RETRY_MS);

    pthread_mutex_lock(&events->lock);
    while (!events->is_stopping &&
           opb_condition_wait(&events->changed, &events->lock, until_ms) == OPB_OK) {
    }
    pthread_mutex_unlock(&events->lock);
}

/* In the session, if it lives, else in the primary. */
static enum opb_outcome
run(struct opb_events *events, struct opb_session *session, struct delivery *delivery,
    const char *what)
{
    struct opb_call_io io = {.pack = event_pack,
                             .context = delivery,
                             .is_of_script = true, /* another one since the event came */
                             .is_for_primary = true};

    delivery->is_sent = false;
    if (session != NULL) {
        return opb_call_run_in(session, OPB_CALL_CHANGE_INDEX, &io, what, OPB_FOREVER);
    }
    return opb_call_run(events->node, OPB_CALL_CHANGE_INDEX, &io, what, OPB_FOREVER);
}

static void
set_aside(struct opb_events *events, const struct event *event)
{
    uint64_t count;

    pthread_mutex_lock(&events->lock);
    count = ++events->aside_count;
    pthread_mutex_unlock(&events->lock);
    opb_log_error(
        "The event %s %s (resource type %d) has ended two hosts: it is set aside, "
        "and the next event is delivered. That makes %llu since the start",
        change_name(event->change), event->resource_id, (int)event->resource_type,
        (unsigned long long)count);
}

/* Names the event for logs, and as the one at hand. */
static void
name_event(struct opb_events *events, const struct event *event, char *what,
           size_t capacity)
{
    (void)snprintf(what, capacity, "on-change callback for %s%s%s",
                   change_name(event->change), event->resource_id[0] != '\0' ? " " : "",
                   event->resource_id); /* cut if it does not fit */
    pthread_mutex_lock(&events->lock);
    (void)snprintf(events->at_hand, sizeof(events->at_hand), "%s", what);
    pthread_mutex_unlock(&events->lock);
}

bool
opb_event_deliver(struct opb_events *events, const struct event *event,
                  struct opb_session *session)
{
    struct delivery delivery = {.event = event};
    char what[OPB_EVENT_WHAT_BYTES];
    int deaths = 0;

    name_event(events, event, what, sizeof(what));
    for (;;) {
        if (session != NULL && opb_session_is_dead(session)) {
            session = NULL;
        }
        switch (run(events, session, &delivery, what)) {
        case OPB_CALL_FAILED:
            if (session == NULL || delivery.is_sent) {
                return true;
            }
            pause_delivery(events); /* no lane to be had: the session has not seen it */
            if (is_giving_up(events)) {
                session = NULL;
            }
            break;
        case OPB_CALL_DONE:
        case OPB_CALL_ABSENT:
        case OPB_CALL_RAISED:
        case OPB_CALL_ENCODING:
            return true;
        case OPB_CALL_DIED:
        case OPB_CALL_LATE: /* its host is killed for it */
            session = NULL;
            if (!delivery.is_sent) {
                break; /* it had ended before */
            }
            if (++deaths == 2) {
                set_aside(events, event);
                return true;
            }
            opb_log_warning("The event %s %s is delivered once more, to the next host",
                            change_name(event->change), event->resource_id);
            break;
        case OPB_CALL_NO_HOST:
            if (is_giving_up(events)) {
                return false;
            }
            break; /* it took QueueTimeout; the event waits for the next host */
        }
    }
}

static void
note_switched(struct opb_events *events)
{
    pthread_mutex_lock(&events->lock);
    events->switch_done++;
    pthread_cond_broadcast(&events->changed);
    pthread_mutex_unlock(&events->lock);
}

bool
opb_event_deliver_switch(struct opb_events *events, const struct event *event,
                         struct opb_session *session)
{
    const struct event stopped = {.change = OrthancPluginChangeType_OrthancStopped,
                                  .resource_type = OrthancPluginResourceType_None,
                                  .resource_id = ""};
    const struct event started = {.change = OrthancPluginChangeType_OrthancStarted,
                                  .resource_type = OrthancPluginResourceType_None,
                                  .resource_id = ""};
    struct delivery delivery = {.event = &stopped};
    bool is_delivered;

    if (event->tell_old && opb_session_is_dead(event->old)) {
        opb_log_warning("The host (pid %ld) has ended before it was told ORTHANC_STOPPED",
                        (long)opb_session_pid(event->old));
    }
    else if (event->tell_old) {
        (void)run(events, event->old, &delivery, "on-change callback for ORTHANC_STOPPED");
    }
    note_switched(events);
    is_delivered =
        !event->tell_next ||
        opb_event_deliver(events, &started, event->is_open_ended ? NULL : session);
    if (event->is_open_ended) {
        pthread_mutex_lock(&events->lock);
        events->open_ended_count--;
        pthread_mutex_unlock(&events->lock);
    }
    return is_delivered;
}
