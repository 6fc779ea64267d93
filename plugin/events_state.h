/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/events_state.h - what events.c and event_delivery.c share */
#ifndef OPB_EVENTS_STATE_H
#define OPB_EVENTS_STATE_H

#include "events.h"
#include "losses.h"

#define OPB_EVENT_WHAT_BYTES 160u

struct event {
    struct event *next;
    OrthancPluginChangeType change;
    OrthancPluginResourceType resource_type;
    bool is_switch;
    bool is_open_ended;      /* of a switch: there is no next one yet */
    bool tell_old;           /* ORTHANC_STOPPED */
    bool tell_next;          /* ORTHANC_STARTED */
    struct opb_session *old; /* of a switch: a reference, or NULL */
    struct event *next_switch;
    const char *resource_id;
    char text[];
};

struct opb_events {
    struct opb_node *node;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* CLOCK_MONOTONIC */
    struct event *first;
    struct event **last; /* where the next one is linked */
    uint32_t count;
    uint32_t most_count;        /* since the queue was empty */
    struct event *first_switch; /* of those in the queue */
    struct event **last_switch;
    uint32_t open_ended_count;          /* of those that are open-ended: not done yet */
    uint64_t switch_count;              /* ever put into the queue */
    uint64_t switch_done;               /* of those: the old session was told */
    struct opb_losses losses;           /* no room, or no memory */
    uint64_t late_count;                /* after ORTHANC_STOPPED */
    uint64_t aside_count;               /* have ended two hosts */
    char at_hand[OPB_EVENT_WHAT_BYTES]; /* what is being delivered, for logs */
    pthread_t thread;
    bool is_running;  /* the thread exists */
    bool is_stopping; /* it ends after the event at hand */
    bool has_started; /* ORTHANC_STARTED has come */
    bool has_stopped; /* ORTHANC_STOPPED is in the queue, or was */
    bool stop_done;   /* it was delivered, or given up */
    bool is_too_late; /* it was given up, since it took longer than it may */
};

/* Delivers one event, to the session (NULL: whichever there is) as long as it lives. The
 * queue's thread; no lock is held. False: there is no host, and nobody should wait for one.
 */
bool opb_event_deliver(struct opb_events *events, const struct event *event,
                       struct opb_session *session);
/* The same for the change of generation itself: the old one hears its last event, the next
 * one (session) its first. */
bool opb_event_deliver_switch(struct opb_events *events, const struct event *event,
                              struct opb_session *session);

#endif
