/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/threads.h - the bridge's own threads
 *
 * They take no signals: those belong to Orthanc's threads. All must be joined before
 * OrthancPluginFinalize returns, since the library is unmapped then.
 */
#ifndef OPB_THREADS_H
#define OPB_THREADS_H

#include "protocol/status.h"

#include <pthread.h>
#include <stdint.h>

/* Starts a thread with all signals blocked; name (at most 15 bytes) is for debuggers. On
 * OPB_SYSTEM errno says why not. */
OPB_MUST_CHECK enum opb_status opb_own_thread_start(pthread_t *thread, void *(*run)(void *),
                                                    void *argument, const char *name);
/* Joins it, and says in the log every few seconds that it still waits: for what, it
 * cannot be helped, as a thread inside Orthanc cannot be left behind. */
void opb_own_thread_join(pthread_t thread, const char *what);

/* As pthread_cond_init(), for deadlines of opb_clock_ms(). */
OPB_MUST_CHECK enum opb_status opb_condition_init(pthread_cond_t *condition);
/* Waits with the lock held; OPB_LATE once deadline_ms has passed. May wake for nothing. */
enum opb_status opb_condition_wait(pthread_cond_t *condition, pthread_mutex_t *lock,
                                   uint64_t deadline_ms);

#endif
