/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/pool.h - the worker daemon, from the node's side
 *
 * Here:      managed: the private runtime directory, starting the daemon, its lifeline;
 *            the control connection; the one supervisor thread, which polls control
 *            connection, node socket and process descriptor; loading the script in a new
 *            host; the end.
 * Elsewhere: sessions (session.c), the script's callbacks (callback_*.c).
 */
#ifndef OPB_POOL_H
#define OPB_POOL_H

#include "session.h"

/* Starts (managed) or connects to (shared) the pool, waits for the first host, runs Load
 * on the calling thread, starts the supervisor thread. On failure everything begun has
 * been undone - no thread, no process, no file - and message holds one sentence (empty if
 * the host has logged a traceback already). */
OPB_MUST_CHECK enum opb_status opb_pool_start(struct opb_node *node, char *message,
                                              size_t capacity);

/* The host of the session hangs: its Python stacks go to the log, then it is killed, and
 * another one is started. reason completes "The host (pid 12) ...". Any thread; returns at
 * once. Once for a session. */
void opb_pool_host_hangs(struct opb_session *session, const char *reason);

enum opb_reload_outcome {
    OPB_RELOAD_DONE,    /* the new generation serves */
    OPB_RELOAD_FAILED,  /* the old one goes on, unless is_old_gone */
    OPB_RELOAD_BUSY,    /* another one is under way */
    OPB_RELOAD_STOPPING /* Orthanc starts or stops */
};

struct opb_reload {
    enum opb_reload_outcome outcome;
    uint64_t generation; /* that serves now */
    pid_t pid;
    bool is_old_gone; /* with "Python.Reload": "replace": no host serves */
    char text[4096];  /* why it failed: a sentence, or exception and traceback */
};

/* Makes the next generation: starts a host, has it load the script while the one that runs
 * goes on, lets it take over; or ends that one before (Python.Reload). Waits for all of
 * that; never longer than StartTimeout, ReloadTimeout, and what old generations may still
 * take to end. Any thread but the
 * loader's. */
void opb_pool_reload(struct opb_pool *pool, struct opb_reload *out);
/* The same without waiting, once what is under way has ended. why is one sentence. */
void opb_pool_request_reload(struct opb_pool *pool, const char *why);
/* Orthanc begins to stop: ends what is under way, begins no more. NULL is fine. */
void opb_pool_stop_reloads(struct opb_pool *pool);

/* ORTHANC_STOPPED is over: Orthanc waits for the calls that run. Those that still do after
 * DrainTimeout are ended with their host. */
void opb_pool_limit_calls(struct opb_pool *pool);

/* OrthancPluginFinalize: Finalize call on the calling thread within StopTimeout, then the
 * daemon ends; reaps, joins, removes the directory. Always succeeds in the end. */
void opb_pool_stop(struct opb_node *node);
/* Last, when no thread is left that may look at node->pool; which may be NULL. */
void opb_pool_free(struct opb_node *node);

#endif
