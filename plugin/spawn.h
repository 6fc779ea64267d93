/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/spawn.h - the process of a managed pool
 *
 * Here:      finding the daemon's executable, starting it in a session of its own, waiting
 *            until it is ready, noticing and causing its end.
 * Elsewhere: when (pool.c), and what is said to it (control.c).
 *
 * One thread at a time, but for opb_daemon_pid().
 */
#ifndef OPB_SPAWN_H
#define OPB_SPAWN_H

#include "protocol/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct opb_daemon;

/* Starts the daemon: configured is Python.Worker or NULL, socket_path where it shall
 * listen. Waits until it is ready, or cancel_fd (-1: none) is readable (OPB_STOPPING).
 * Gives *out. On failure no process is left, and message holds one sentence for the log. */
OPB_MUST_CHECK enum opb_status
opb_daemon_start(struct opb_daemon **out, const char *configured, const char *socket_path,
                 int cancel_fd, uint64_t deadline_ms, char *message, size_t capacity);
/* Ends it, if it has not ended: closes its lifeline, waits, then SIGTERM, then SIGKILL,
 * with a log line each. Reaps it. NULL is fine. */
void opb_daemon_stop(struct opb_daemon *daemon);
/* Kills it, reaps it; its lifeline is closed last, so that it removes nothing. how (may be
 * NULL) says how it ended: "was killed by signal 9 (Killed)". */
void opb_daemon_kill(struct opb_daemon *daemon, char *how, size_t capacity);

/* True if it has ended, or ends within timeout_ms. */
bool opb_daemon_wait_end(struct opb_daemon *daemon, uint64_t timeout_ms);

/* Whether a process comes from the daemon: its child, or a child's. Unknown: it has ended,
 * or the system hides it. */
enum opb_kinship { OPB_KINSHIP_OWN, OPB_KINSHIP_UNKNOWN, OPB_KINSHIP_NONE };
enum opb_kinship opb_daemon_kinship(const struct opb_daemon *daemon, pid_t pid);
/* The same of any process. Any thread. */
enum opb_kinship opb_process_kinship(pid_t ancestor, pid_t pid);

pid_t opb_daemon_pid(const struct opb_daemon *daemon);
/* For poll: readable once the daemon has ended; -1 if the kernel has none. */
int opb_daemon_pidfd(const struct opb_daemon *daemon);
/* For poll: the lifeline; readable at its end. */
int opb_daemon_lifeline(const struct opb_daemon *daemon);

#endif
