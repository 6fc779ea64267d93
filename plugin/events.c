/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/events.c - change events: a queue, and the thread that delivers them in order
 *
 * An event is done when its callback has returned, whatever it returned. If the host dies
 * first, the next host gets it once more; an event that ends two hosts is set aside.
 */
#include "events.h"

#include "call.h"
#include "config.h"
#include "invocation.h"
#include "log.h"
#include "threads.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_EVENTS     100000u
#define LOST_LOG_EVERY 10000u
#define WHAT_BYTES     160u
#define THREAD_NAME    "PY-CHANGES"

struct event {
    struct event *next;
    OrthancPluginChangeType change;
    OrthancPluginResourceType resource_type;
    char resource_id[];
};

struct opb_events {
    struct opb_node *node;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct event *first;
    struct event **last; /* where the next one is linked */
    uint32_t count;
    uint64_t lost_count; /* no room, or no memory */
    uint64_t late_count; /* after ORTHANC_STOPPED */
    pthread_t thread;
    bool is_running;  /* the thread exists */
    bool is_stopping; /* it ends after the event at hand */
    bool has_stopped; /* ORTHANC_STOPPED is in the queue, or was */
    bool stop_done;   /* it was delivered, or given up */
};

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
    pthread_mutex_init(&events->lock, NULL);
    pthread_cond_init(&events->changed, NULL);
    *out = events;
    return OPB_OK;
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
        free(event);
    }
    pthread_cond_destroy(&events->changed);
    pthread_mutex_destroy(&events->lock);
    free(events);
}

static void
event_pack(struct opb_message *message, struct opb_session *session, void *context)
{
    const struct event *event = context;

    (void)session; /* an event is lent nothing */
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

/* Delivers one event. False: there is no host, and nobody should wait for one. */
static bool
deliver(struct opb_events *events, struct event *event)
{
    struct opb_call_io io = {.pack = event_pack, .context = event};
    char what[WHAT_BYTES];
    int deaths = 0;

    (void)snprintf(what, sizeof(what), "on-change callback for %s%s%s",
                   change_name(event->change), event->resource_id[0] != '\0' ? " " : "",
                   event->resource_id);
    for (;;) {
        switch (opb_call_run(events->node, OPB_CALL_CHANGE_INDEX, &io, what, OPB_FOREVER)) {
        case OPB_CALL_DONE:
        case OPB_CALL_RAISED:
        case OPB_CALL_ENCODING:
        case OPB_CALL_FAILED:
            return true;
        case OPB_CALL_DIED:
        case OPB_CALL_LATE: /* its host is killed for it */
            if (++deaths == 2) {
                opb_log_error(
                    "The event %s %s (resource type %d) has ended two hosts: it is "
                    "set aside, and the next event is delivered",
                    change_name(event->change), event->resource_id,
                    (int)event->resource_type);
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

/* Takes the first event, waiting for one. NULL: the thread shall end. */
static struct event *
next_event(struct opb_events *events)
{
    struct event *event = NULL;

    pthread_mutex_lock(&events->lock);
    while (events->first == NULL && !events->is_stopping) {
        pthread_cond_wait(&events->changed, &events->lock); /* opb_events_stop() ends it */
    }
    if (!events->is_stopping) {
        event = events->first;
        events->first = event->next;
        events->count--;
        if (events->first == NULL) {
            events->last = &events->first;
        }
    }
    pthread_mutex_unlock(&events->lock);
    return event;
}

static void
drop_all(struct opb_events *events)
{
    struct event *event;
    struct event *next;
    uint32_t count;

    pthread_mutex_lock(&events->lock);
    event = events->first;
    count = events->count;
    events->first = NULL;
    events->last = &events->first;
    events->count = 0;
    pthread_mutex_unlock(&events->lock);
    for (; event != NULL; event = next) {
        next = event->next;
        free(event);
    }
    if (count > 0) {
        opb_log_warning("%u change events are dropped: there is no host to take them",
                        (unsigned)count);
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
    struct event *event;

    opb_call_mark_own_thread();
    name_thread(events);
    while ((event = next_event(events)) != NULL) {
        bool is_last = event->change == OrthancPluginChangeType_OrthancStopped;
        bool is_delivered = deliver(events, event);

        free(event);
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

/* With the lock held: one more event that nobody will see. */
static void
count_lost(struct opb_events *events)
{
    if (events->lost_count++ % LOST_LOG_EVERY == 0) {
        opb_log_error(
            "A change event is lost, %llu so far: %u wait for the on-change callback",
            (unsigned long long)events->lost_count, (unsigned)events->count);
    }
}

void
opb_events_push(struct opb_events *events, OrthancPluginChangeType change,
                OrthancPluginResourceType resource_type, const char *resource_id)
{
    const char *id = resource_id != NULL ? resource_id : "";
    bool is_stop = change == OrthancPluginChangeType_OrthancStopped;
    size_t id_bytes = strlen(id) + 1;
    struct event *event = malloc(sizeof(*event) + id_bytes);

    if (event != NULL) {
        *event = (struct event){.change = change, .resource_type = resource_type};
        memcpy(event->resource_id, id, id_bytes);
    }
    pthread_mutex_lock(&events->lock);
    if (events->has_stopped || !events->is_running || events->is_stopping) {
        events->late_count++;
    }
    else if (event == NULL || (events->count >= MAX_EVENTS && !is_stop)) {
        count_lost(events);
        events->has_stopped = is_stop;
        events->stop_done = is_stop;
    }
    else {
        *events->last = event;
        events->last = &event->next;
        events->count++;
        event = NULL;
        events->has_stopped = is_stop;
        pthread_cond_broadcast(&events->changed);
        while (is_stop &&
               !events->stop_done) { /* bounded by the script, as in the contract */
            pthread_cond_wait(&events->changed, &events->lock);
        }
    }
    pthread_mutex_unlock(&events->lock);
    free(event);
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
