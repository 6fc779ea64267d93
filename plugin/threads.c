/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/threads.c - the bridge's own threads
 *
 * Here:      starting them without signals, joining them, conditions with our clock.
 * Elsewhere: what they do (supervise.c, pool.c, service.c).
 */
#include "plugin/threads.h"

#include "plugin/log.h"
#include "protocol/limits.h"
#include "protocol/sockets.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

#define SAY_AFTER_S 5

enum opb_status
opb_own_thread_start(pthread_t *thread, void *(*run)(void *), void *argument,
                     const char *name)
{
    sigset_t all;
    sigset_t before;
    int error;

    (void)sigfillset(&all); /* cannot fail */
    error = pthread_sigmask(SIG_SETMASK, &all, &before);
    if (error != 0) {
        errno = error;
        return OPB_SYSTEM;
    }
    error = pthread_create(thread, NULL, run, argument);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL); /* cannot fail: it was so before */
    if (error != 0) {
        errno = error;
        return OPB_SYSTEM;
    }
    (void)pthread_setname_np(*thread, name); /* a thread without a name works as well */
    return OPB_OK;
}

void
opb_own_thread_join(pthread_t thread, const char *what)
{
    for (;;) {
        struct timespec until;
        int error;

        /* The wall clock, which only times the log line: ThreadSanitizer does not know
         * pthread_clockjoin_np(), and takes what it joins for running. */
        (void)clock_gettime(CLOCK_REALTIME, &until); /* cannot fail with this clock */
        until.tv_sec += SAY_AFTER_S;
        error = pthread_timedjoin_np(thread, NULL, &until);
        if (error != ETIMEDOUT) {
            return;
        }
        opb_log_warning("Still waiting for %s, which is inside Orthanc", what);
    }
}

enum opb_status
opb_condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    int error;

    if (pthread_condattr_init(&attributes) != 0) {
        return OPB_NO_MEMORY;
    }
    error = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    if (error == 0) {
        error = pthread_cond_init(condition, &attributes);
    }
    (void)pthread_condattr_destroy(&attributes); /* has nothing to report */
    return error == 0 ? OPB_OK : OPB_NO_MEMORY;
}

enum opb_status
opb_condition_wait(pthread_cond_t *condition, pthread_mutex_t *lock, uint64_t deadline_ms)
{
    struct timespec until = {.tv_sec = (time_t)(deadline_ms / 1000),
                             .tv_nsec = (long)(deadline_ms % 1000) * 1000000};

    if (deadline_ms == OPB_FOREVER) {
        (void)pthread_cond_wait(condition, lock); /* cannot fail: the lock is held */
        return OPB_OK;
    }
    if (pthread_cond_timedwait(condition, lock, &until) == ETIMEDOUT) {
        return OPB_LATE;
    }
    return OPB_OK;
}
