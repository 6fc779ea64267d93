/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/events.c - change events: the queue
 *
 * Here:      what is in it and in which order, the thread that takes one after the other,
 *            the change of generation in it, ORTHANC_STOPPED, which waits for all.
 * Elsewhere: one event, until it is done (event_delivery.c); from where they come
 *            (callback_change.c), who changes generations (takeover.c, replace.c).
 *
 * A change of generation stands in the queue as an event of its own, which names the
 * session that calls went to before: it is the one for all events in front of it. If the
 * old generation ends before there is a next one, it stands at the head of the queue.
 */
#include "events_state.h"

#include "call.h"
#include "config.h"
#include "invocation.h"
#include "log.h"
#include "losses.h"
#include "threads.h"

#include "protocol/sockets.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MANY_EVENTS 10000u /* about a megabyte: worth giving back */
#define THREAD_NAME "PY-CHANGES"

enum opb_status
opb_events_new(struct opb_events **out, struct opb_node *node)
{
    struct opb_events *events = calloc(1, sizeof(*events));

    *out = NULL;
    if (events == NULL) {
        return OPB_NO_MEMORY;
    }
    events->node = node;
    events->last = &events->first;
    events->last_switch = &events->first_switch;
    if (opb_condition_init(&events->changed) != OPB_OK) {
        free(events);
        return OPB_NO_MEMORY;
    }
    pthread_mutex_init(&events->lock, NULL);
    *out = events;
    return OPB_OK;
}

/* No lock is held: the last reference to a session frees objects in Orthanc. */
static void
event_free(struct event *event)
{
    opb_session_unref(event->old);
    free(event);
}

void
opb_events_free(struct opb_events *events)
{
    struct event *next;

    if (events == NULL) {
        return;
    }
    for (struct event *event = events->first; event != NULL; event = next) {
        next = event->next;
        event_free(event);
    }
    pthread_cond_destroy(&events->changed);
    pthread_mutex_destroy(&events->lock);
    free(events);
}

/* With the lock held: takes the first event off the queue. *lost: how many had no room in
 * it, if that is over. *was_long: it was, and is empty now. */
static struct event *
pop(struct opb_events *events, uint64_t *lost, bool *was_long)
{
    struct event *event = events->first;

    events->first = event->next;
    if (events->first == NULL) {
        events->last = &events->first;
    }
    if (event->is_switch) {
        events->first_switch = event->next_switch;
        if (events->first_switch == NULL) {
            events->last_switch = &events->first_switch;
        }
    }
    else {
        events->count--;
    }
    if (events->count <= events->node->config->max_events / 2) {
        *lost = opb_losses_end(&events->losses);
    }
    if (events->count == 0) {
        *was_long = events->most_count >= MANY_EVENTS;
        events->most_count = 0;
    }
    return event;
}

/* Takes the first event, waiting for one; *session, which may be NULL, is who shall have
 * it, with a reference. NULL: the thread shall end. */
static struct event *
next_event(struct opb_events *events, struct opb_session **session)
{
    struct event *event = NULL;
    uint64_t lost = 0;
    bool was_long = false;

    *session = NULL;
    pthread_mutex_lock(&events->lock);
    while (events->first == NULL && !events->is_stopping) {
        (void)opb_condition_wait(&events->changed, &events->lock,
                                 OPB_FOREVER); /* opb_events_stop() ends it */
    }
    if (!events->is_stopping) {
        event = pop(events, &lost, &was_long);
        if (events->first_switch == NULL) {
            *session = opb_session_primary(events->node);
        }
        else if (events->first_switch->old != NULL) {
            *session = opb_session_ref(events->first_switch->old);
        }
    }
    pthread_mutex_unlock(&events->lock);
    if (lost > 0) {
        opb_log_warning("There is room for change events again; %llu were lost meanwhile",
                        (unsigned long long)lost);
    }
    if (was_long) {
        (void)malloc_trim(0); /* else the allocator keeps all of it: 0 is no failure */
    }
    return event;
}

static void
drop_all(struct opb_events *events)
{
    struct event *event;
    struct event *next;
    uint32_t count;
    bool is_too_late;

    pthread_mutex_lock(&events->lock);
    event = events->first;
    count = events->count;
    is_too_late = events->is_too_late;
    events->first = NULL;
    events->last = &events->first;
    events->first_switch = NULL;
    events->last_switch = &events->first_switch;
    events->switch_done = events->switch_count;
    events->open_ended_count = 0;
    events->count = 0;
    pthread_mutex_unlock(&events->lock);
    for (; event != NULL; event = next) {
        next = event->next;
        event_free(event);
    }
    if (count > 0) {
        opb_log_warning("%u change events are dropped: %s", (unsigned)count,
                        is_too_late ? "there was no time left for them"
                                    : "there is no host to take them");
    }
    pthread_mutex_lock(&events->lock); /* said before the server goes on to its end */
    events->stop_done = events->has_stopped;
    pthread_cond_broadcast(&events->changed);
    pthread_mutex_unlock(&events->lock);
}

/* In Orthanc's log. */
static void
name_thread(struct opb_events *events)
{
#if ORTHANC_PLUGINS_VERSION_IS_ABOVE(1, 12, 2)
    if (opb_orthanc_version(events->node->context->orthancVersion) >= 1012002u) {
        (void)OrthancPluginSetCurrentThreadName(events->node->context, THREAD_NAME);
    }
#else
    (void)events;
#endif
}

static void *
events_main(void *argument)
{
    struct opb_events *events = argument;
    struct opb_session *session;
    struct event *event;

    opb_call_mark_own_thread();
    name_thread(events);
    while ((event = next_event(events, &session)) != NULL) {
        bool is_last =
            !event->is_switch && event->change == OrthancPluginChangeType_OrthancStopped;
        bool is_delivered = event->is_switch
                                ? opb_event_deliver_switch(events, event, session)
                                : opb_event_deliver(events, event, session);

        event_free(event);
        opb_session_unref(session);
        if (!is_delivered) {
            drop_all(events);
        }
        if (is_last) {
            pthread_mutex_lock(&events->lock);
            events->stop_done = true;
            pthread_cond_broadcast(&events->changed);
            pthread_mutex_unlock(&events->lock);
        }
    }
    return NULL;
}

enum opb_status
opb_events_start(struct opb_events *events)
{
    enum opb_status status =
        opb_own_thread_start(&events->thread, events_main, events, THREAD_NAME);

    pthread_mutex_lock(&events->lock);
    events->is_running = status == OPB_OK;
    pthread_mutex_unlock(&events->lock);
    return status;
}

/* No lock is held. */
static void
log_lost(struct opb_events *events, bool is_full)
{
    struct opb_event_counts counts;

    opb_events_count(events, &counts);
    opb_log_error("A change event is lost, %llu since the start: %u wait for the on-change "
                  "callback, %s",
                  (unsigned long long)counts.lost, (unsigned)counts.queued,
                  is_full ? "which is as many as may (Python.MaxEvents)"
                          : "and there is no memory for it");
}

/* With the lock held: until the script has been told, or must be left behind. True if it
 * must: what then was at hand is copied to text. */
static bool
await_stop(struct opb_events *events, char *text, size_t capacity)
{
    uint64_t deadline_ms = opb_deadline_ms(events->node->config->stopped_timeout_ms);

    while (!events->stop_done &&
           opb_condition_wait(&events->changed, &events->lock, deadline_ms) == OPB_OK) {
    }
    if (events->stop_done) {
        return false;
    }
    events->is_too_late = true;
    events->is_stopping = true; /* the thread leaves after the event at hand */
    events->stop_done = true;
    (void)snprintf(text, capacity, "%s", events->at_hand);
    pthread_cond_broadcast(&events->changed);
    return true;
}

void
opb_events_push(struct opb_events *events, OrthancPluginChangeType change,
                OrthancPluginResourceType resource_type, const char *resource_id)
{
    const char *id = resource_id != NULL ? resource_id : "";
    bool is_stop = change == OrthancPluginChangeType_OrthancStopped;
    size_t id_bytes = strlen(id) + 1;
    struct event *event = malloc(sizeof(*event) + id_bytes);
    char text[OPB_EVENT_WHAT_BYTES];
    bool is_too_late = false;
    bool is_loss_said = false;

    if (event != NULL) {
        *event = (struct event){.change = change, .resource_type = resource_type};
        memcpy(event->text, id, id_bytes);
        event->resource_id = event->text;
    }
    pthread_mutex_lock(&events->lock);
    if (events->has_stopped || !events->is_running || events->is_stopping) {
        events->late_count++;
    }
    else if (event == NULL ||
             (events->count >= events->node->config->max_events && !is_stop)) {
        is_loss_said = opb_losses_add(&events->losses);
        events->has_stopped = is_stop;
        events->stop_done = is_stop;
    }
    else {
        *events->last = event;
        events->last = &event->next;
        events->count++;
        if (events->count > events->most_count) {
            events->most_count = events->count;
        }
        event = NULL;
        events->has_stopped = is_stop;
        pthread_cond_broadcast(&events->changed);
        is_too_late = is_stop && await_stop(events, text, sizeof(text));
    }
    pthread_mutex_unlock(&events->lock);
    if (is_loss_said) {
        log_lost(events, event != NULL);
    }
    free(event);
    if (is_too_late) {
        opb_log_error("Orthanc stops without having waited any longer for the %s: all "
                      "events until ORTHANC_STOPPED were to be done within %g s "
                      "(Python.StoppedTimeout)",
                      text, events->node->config->stopped_timeout_ms / 1000.0);
    }
}

void
opb_events_count(struct opb_events *events, struct opb_event_counts *counts)
{
    pthread_mutex_lock(&events->lock);
    *counts = (struct opb_event_counts){.queued = events->count,
                                        .lost = events->losses.count,
                                        .set_aside = events->aside_count,
                                        .late = events->late_count};
    pthread_mutex_unlock(&events->lock);
}

void
opb_events_note_started(struct opb_events *events)
{
    pthread_mutex_lock(&events->lock);
    events->has_started = true;
    pthread_mutex_unlock(&events->lock);
}

bool
opb_events_switch(struct opb_events *events, const struct opb_switch *what,
                  uint64_t *number)
{
    struct event *event = calloc(1, sizeof(*event));
    bool is_done = false;

    if (event == NULL) {
        return false;
    }
    event->is_switch = true;
    if (what->old != NULL) {
        event->old = opb_session_ref(what->old);
    }
    pthread_mutex_lock(&events->lock);
    if (!events->has_stopped && !events->is_stopping && events->is_running &&
        opb_session_activate_all(
            what->next, what->next_count)) { /* both, or an event could pass between them */
        event->tell_old = events->has_started && what->old_listens && what->old != NULL;
        event->tell_next = events->has_started && what->next_listens;
        *events->last = event;
        events->last = &event->next;
        *events->last_switch = event;
        events->last_switch = &event->next_switch;
        *number = ++events->switch_count;
        event = NULL;
        is_done = true;
        pthread_cond_broadcast(&events->changed);
    }
    pthread_mutex_unlock(&events->lock);
    if (event != NULL) {
        event_free(event);
    }
    return is_done;
}

/* Puts it at the head of the queue, after others of its kind. With the lock held. */
static void
push_early(struct opb_events *events, struct event *event)
{
    struct event **link;

    for (link = &events->first; *link != NULL && (*link)->is_open_ended;
         link = &(*link)->next) {
    }
    event->next = *link;
    *link = event;
    if (event->next == NULL) {
        events->last = &event->next;
    }
    *events->last_switch = event;
    events->last_switch = &event->next_switch;
    pthread_cond_broadcast(&events->changed);
}

bool
opb_events_end_old(struct opb_events *events, struct opb_session *old, bool old_listens,
                   uint64_t *number)
{
    struct event *event = calloc(1, sizeof(*event));
    bool is_done;

    *number = 0;
    if (event == NULL) {
        return false;
    }
    event->is_switch = true;
    event->is_open_ended = true;
    if (old != NULL) {
        event->old = opb_session_ref(old);
    }
    pthread_mutex_lock(&events->lock);
    is_done = !events->has_stopped && !events->is_stopping && events->is_running;
    /* without an old one, who comes next is told already if an earlier one waits for it */
    if (is_done && (old != NULL || events->open_ended_count == 0)) {
        event->tell_old = events->has_started && old_listens && old != NULL;
        event->tell_next = events->has_started;
        events->open_ended_count++;
        *number = ++events->switch_count;
        push_early(events, event);
        event = NULL;
    }
    pthread_mutex_unlock(&events->lock);
    if (event != NULL) {
        event_free(event);
    }
    return is_done;
}

bool
opb_events_wait_switch(struct opb_events *events, uint64_t number, uint64_t deadline_ms)
{
    bool is_done;

    pthread_mutex_lock(&events->lock);
    while (events->switch_done < number &&
           opb_condition_wait(&events->changed, &events->lock, deadline_ms) == OPB_OK) {
    }
    is_done = events->switch_done >= number;
    pthread_mutex_unlock(&events->lock);
    return is_done;
}

void
opb_events_stop(struct opb_events *events)
{
    bool is_running;

    pthread_mutex_lock(&events->lock);
    events->is_stopping = true;
    is_running = events->is_running;
    events->is_running = false;
    pthread_cond_broadcast(&events->changed);
    pthread_mutex_unlock(&events->lock);
    if (is_running) {
        opb_own_thread_join(events->thread, "the on-change callback");
    }
    drop_all(events);
    if (events->late_count > 0) {
        opb_log_info("%llu change events came after ORTHANC_STOPPED and were not delivered",
                     (unsigned long long)events->late_count);
    }
}
