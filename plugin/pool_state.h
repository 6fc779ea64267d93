/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/pool_state.h - what pool.c, launch.c and supervise.c share
 *
 * Threads: the starting thread (Orthanc's, in Initialize and Finalize), the supervisor
 * thread, the loader thread. A field belongs to one of them, or is guarded by the lock.
 */
#ifndef OPB_POOL_STATE_H
#define OPB_POOL_STATE_H

#include "control.h"
#include "pool.h"
#include "runtime_dir.h"
#include "session.h"
#include "spawn.h"

#define OPB_POOL_TEXT_BYTES 1024u

struct opb_pool {
    struct opb_node *node;
    char *orthanc_path; /* never changes */
    int wake_fd;        /* an eventfd: wakes the supervisor thread */

    /* The supervisor thread's while it runs, else the starting thread's. */
    struct opb_runtime_dir *dir;
    struct opb_daemon *daemon; /* NULL: the pool is shared, or not running now */
    struct opb_control *control;
    struct opb_control_news news;
    pid_t host_group;     /* of the host that runs now; 0: none that we may kill */
    uint64_t launched_ms; /* when the daemon that runs now was ready */
    uint64_t relaunch_ms; /* when to try again; OPB_FOREVER: it runs */
    uint64_t resume_ms;   /* when to accept service lanes again; 0: now */
    uint64_t hung_end_ms; /* when a host that hangs must be dead; OPB_FOREVER: none does */
    uint32_t relaunch_count; /* in a row */

    pthread_t supervisor;
    pthread_t loader;
    bool has_supervisor;
    bool has_loader;

    pthread_mutex_t lock; /* guards what follows; node->lock may be taken under it */
    pthread_cond_t changed;
    bool is_starting; /* in Initialize: the first failure is the last */
    bool is_stopping; /* no new host, no new daemon */
    bool is_ended;    /* the supervisor thread leaves */
    bool is_detach_wanted;
    bool is_detach_sent;
    bool is_detached;                  /* all hosts have ended, or the pool is lost */
    char failure[OPB_POOL_TEXT_BYTES]; /* starting: why there will be no host */
    struct opb_session *host;          /* the newest that lives; a reference */
    struct opb_session *arrived;       /* waits for its Load; a reference */
    struct opb_session *main_session;  /* whose main lane that is; a reference */
    struct opb_lane *main_lane;
    bool is_loaded;        /* the main session has loaded the script */
    char node_socket[108]; /* where hosts connect to */
    uint32_t replace_host; /* a host that could not load the script; 0: none */
    uint32_t hung_host;    /* a host that hangs, to be told to the pool; 0: none */
    char hung_reason[256];
};

/* launch.c. Directory, node socket, daemon, control connection, attach: all or nothing.
 * cancel_fd (-1: none) ends the wait for the daemon. */
OPB_MUST_CHECK enum opb_status opb_pool_launch(struct opb_pool *pool, int cancel_fd,
                                               char *message, size_t capacity);
/* Kills the daemon (how, which may be NULL, says how it had ended) and its host, and
 * removes the directory. */
void opb_pool_abandon(struct opb_pool *pool, char *how, size_t capacity);
/* Ends the daemon, which kills what is left, and removes the directory. */
void opb_pool_dismiss(struct opb_pool *pool);

/* supervise.c */
void opb_pool_host_started(void *context, uint32_t host, pid_t pid);
void opb_pool_host_died(void *context, uint32_t host, pid_t pid, const char *reason);
/* The host that runs now is gone, or has to go. */
void opb_pool_end_host(struct opb_pool *pool, const char *reason);
void *opb_pool_supervise(void *argument);
void opb_pool_wake(struct opb_pool *pool);

#endif
