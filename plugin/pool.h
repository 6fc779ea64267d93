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

/* OrthancPluginFinalize: Finalize call on the calling thread within StopTimeout, then the
 * daemon ends; reaps, joins, removes the directory. Always succeeds in the end. */
void opb_pool_stop(struct opb_node *node);

#endif
