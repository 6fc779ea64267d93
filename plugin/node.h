/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/node.h - this Orthanc server, as the bridge sees it
 *
 * Here:      the one context that the SDK forces upon us (its callbacks carry no user
 *            pointer), and the phases of its life.
 * Elsewhere: everything it points to has a header of its own.
 */
#ifndef OPB_NODE_H
#define OPB_NODE_H

#include "opb_plugin.h"

#include "config.h"
#include "protocol/limits.h"

#include <pthread.h>
#include <stdatomic.h>

enum opb_phase {
    OPB_PHASE_LOADING,   /* inside OrthancPluginInitialize */
    OPB_PHASE_RUNNING,   /* callbacks arrive */
    OPB_PHASE_STOPPED,   /* ORTHANC_STOPPED was handled; callbacks still arrive; the server
                            context is about to go away: no more calls that need it from
                            threads of our own */
    OPB_PHASE_FINALIZING /* inside OrthancPluginFinalize: no protected services */
};

struct opb_invocation; /* invocation.h: an SDK call */
struct opb_session;    /* session.h: one host process */
struct opb_routes;     /* routes.h: REST routes and other registrations */
struct opb_events;     /* events.h: the queue of change events */
struct opb_services;   /* service.h: node socket and service threads */
struct opb_scripts;    /* scripts.h: paths */
struct opb_last_jobs;
struct opb_call_stats; /* call_stats.h: what became of calls */
struct opb_history;    /* history.h: what has happened last */
struct opb_pool; /* pool.h: the worker daemon: spawn, control connection, supervisor thread
                  */

/* What has happened since the start (policy.h). Any thread. */
struct opb_counts {
    atomic_uint_least64_t died;     /* calls whose host died */
    atomic_uint_least64_t late;     /* calls that took too long */
    atomic_uint_least64_t no_host;  /* calls that found no host */
    atomic_uint_least64_t refused;  /* by filters that could not be asked */
    atomic_uint_least64_t let_in;   /* the same with FailOpen */
    atomic_uint_least64_t repeated; /* calls run once more in the next host */
    atomic_uint_least64_t given_up; /* what was repeated in vain, or could not be run */
};

/* Who a shared pool may be, besides root and our own user: Python.PoolUser. */
struct opb_pool_user {
    bool is_set;
    uid_t uid;
    gid_t gid;
};

struct opb_node {
    OrthancPluginContext *orthanc; /* as given by Orthanc: for the shim only */
    OrthancPluginContext *context; /* the shim's: every SDK call uses this one */
    struct opb_config *config;
    char name[OPB_NODE_NAME_BYTES + 1]; /* as the pool calls this node */
    uint8_t secret[OPB_SECRET_BYTES];
    uint64_t born_ms;               /* opb_clock_ms() */
    char pool_socket[108];          /* where call lanes connect to */
    struct opb_pool_user pool_user; /* never changes after the start */

    /* Guards name, pool_socket and what follows, and session states. A leaf: nothing else
     * is locked and nothing waits while it is held. */
    pthread_mutex_t lock;
    pthread_cond_t changed; /* CLOCK_MONOTONIC; phase or a session changed */
    enum opb_phase phase;
    uint32_t worker_count; /* hosts of a generation: what the pool gives */
    /* The hosts that take calls now, by their number in the generation, or NULL. The first
     * is the primary. */
    struct opb_session *sessions[OPB_MAX_WORKERS];
    bool is_holding;             /* session_hold.c: calls wait, though there are hosts */
    struct opb_scripts *scripts; /* of the generation that serves: a reference, or NULL */
    uint64_t call_count;         /* that have been given a lane; tells what was used last */
    struct opb_invocation *server_calls; /* those that need the server and run on threads
                                            of our own, the newest first; invocation.c */
    struct opb_counts counts;
    struct opb_call_stats *call_stats; /* as old as the node */
    struct opb_history *history;       /* likewise */
    atomic_uint_least64_t hold_turn;   /* calls that wait since an earlier one are let in */
    atomic_uint waiting_count;         /* calls that wait for a host, or for a lane to it */
    atomic_uint_least64_t shortage_ms; /* when one was last said: session.c */

    struct opb_routes *routes;
    struct opb_events *events;
    struct opb_services *services;
    struct opb_pool *pool;
    struct opb_last_jobs *last_jobs; /* last_jobs.h; NULL until it is needed */
};

/* Gives a node whose lock and condition are ready; everything else is zero. */
OPB_MUST_CHECK enum opb_status opb_node_new(struct opb_node **out);
void opb_node_free(struct opb_node *node); /* frees the configuration too; NULL is fine */

/* The node between Initialize and Finalize; NULL outside. Any thread. */
struct opb_node *opb_node_current(void);
void opb_node_set_current(struct opb_node *node); /* plugin.c only */

enum opb_phase opb_node_phase(struct opb_node *node);
void opb_node_set_phase(struct opb_node *node, enum opb_phase phase);

/* A reference to the scripts of the generation that serves. Any thread. */
struct opb_scripts *opb_node_scripts(struct opb_node *node);
/* Takes *scripts. */
void opb_node_set_scripts(struct opb_node *node, struct opb_scripts **scripts);

#endif
