/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/module/link_internal.h - what the files behind link.h know about each other
 *
 * Here:      the insides of the link: lanes in use, service lanes, the flusher.
 * Elsewhere: the contract (link.h). Nothing outside worker/module includes this file.
 *
 * Locks: none is ever held while waiting for a peer or for the GIL, so that fork.c can
 * take all of them, in the order services, bound_lock, flusher, on a thread that holds
 * the GIL.
 */
#ifndef OPB_LINK_INTERNAL_H
#define OPB_LINK_INTERNAL_H

#include "worker/module/link.h"

#include "protocol/handshake.h"

#include <pthread.h>
#include <stdatomic.h>

#define OPB_SERVICE_LANES   64u    /* of one host, at the same time */
#define OPB_CHILD_LANES     8u     /* of a child process */
#define OPB_SERVICE_WAIT_MS 30000u /* for a free one */
#define OPB_SERVICE_OPEN_MS 5000u  /* for a connection with its handshake */
#define OPB_RELEASE_BATCH   1024u  /* handles in one message */

/* A thread that serves a lane, for as long as it does. Lives in the thread's memory. */
struct opb_bound {
    struct opb_lane *lane; /* NULL: not in the list */
    struct opb_bound *next;
    struct opb_bound **previous;
};

struct opb_services {
    pthread_mutex_t lock;
    pthread_cond_t given_back;
    struct opb_lane *open[OPB_SERVICE_LANES]; /* owned; every one, idle or not */
    struct opb_lane
        *idle[OPB_SERVICE_LANES]; /* the last one given back is the next taken */
    uint32_t idle_count;
    uint32_t taken_count; /* in use, or being opened */
    uint32_t limit;       /* of taken_count */
};

struct opb_flusher {
    pthread_mutex_t lock;
    int timer_fd; /* fires once, some milliseconds after the first thing to do; -1: none yet
                   */
    atomic_bool is_armed;
    atomic_bool is_started;
    uint64_t *handles; /* released in Python, not yet in the node */
    size_t handle_count;
    size_t handle_capacity;
    size_t lost_count; /* could not be remembered: the node keeps them until we end */
    int32_t release_method;
};

struct opb_link {
    struct opb_node_info *info;    /* owned */
    enum opb_connection_kind kind; /* of service lanes: what this process is */
    bool is_fork;                  /* of a host, or of a fork of one */
    uint32_t epoch;                /* how many forks lead here */
    opb_serve_fn serve;
    void *serve_context;
    pthread_mutex_t bound_lock;
    struct opb_bound *bound; /* every thread that serves a lane */
    atomic_ullong fence_count;
    int32_t fence_method; /* -1: the node has none */
    struct opb_services services;
    struct opb_flusher flusher;
};

/* service_lanes.c. None of these may be called with the GIL held, except init. */
OPB_MUST_CHECK enum opb_status opb_services_init(struct opb_services *services,
                                                 uint32_t limit);
void opb_services_fini(struct opb_services *services);
/* In a forked child: those who waited in the parent are not here. */
void opb_services_reset_condition(struct opb_services *services);
/* Gives a lane that is the caller's until opb_service_give(). why gets a sentence on
 * failure. */
OPB_MUST_CHECK enum opb_status opb_service_take(struct opb_link *link, uint64_t deadline_ms,
                                                struct opb_lane **out, char *why,
                                                size_t why_bytes);
/* Takes *lane. One that has failed is closed. */
void opb_service_give(struct opb_link *link, struct opb_lane **lane);
/* Flushes the posts of all service lanes; true if some are left. */
bool opb_services_flush(struct opb_services *services);

/* flusher.c */
OPB_MUST_CHECK enum opb_status opb_flusher_init(struct opb_flusher *flusher);
void opb_flusher_fini(struct opb_flusher *flusher);
OPB_MUST_CHECK enum opb_status opb_flusher_start(struct opb_link *link);
/* Something waits: it leaves in some milliseconds. Any thread, never blocks. Starts what is
 * not started yet, in a child. */
void opb_flusher_arm(struct opb_link *link);
/* In a forked child: the thread is not there, and what waits is the parent's to send. */
void opb_flusher_forget(struct opb_flusher *flusher);
/* Posts the newest handles that were released on a lane that is about to carry a request: a
 * loop that makes large objects must not be faster than their release. Without the GIL. */
void opb_flusher_join_request(struct opb_link *link, struct opb_lane *lane);

/* fence.c. The lane is about to carry a request of this thread: what it has to wait for, by
 * opb_link_order_after(). */
OPB_MUST_CHECK enum opb_status opb_fence_join_request(struct opb_link *link,
                                                      struct opb_lane *lane);

/* fork.c */
OPB_MUST_CHECK enum opb_status opb_fork_watch(struct opb_link *link);

/* link.c: flushes the posts of all bound lanes; true if some are left. */
bool opb_link_flush_bound(struct opb_link *link);
/* In a forked child, with all locks held by the forking thread, which is the only one:
 * makes the link that of a child. */
void opb_link_begin_anew(struct opb_link *link);

#endif
