/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/last_calls.c - callbacks that still run when Orthanc stops
 *
 * Here:      how long they may: Orthanc waits for them, for ever if need be.
 * Elsewhere: those that begin later, which have a limit each (call.c); killing the host
 * (supervise.c).
 */
#include "plugin/pool_state.h"

#include "plugin/log.h"
#include "protocol/limits.h"
#include "protocol/sockets.h"

void
opb_pool_limit_calls(struct opb_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->calls_end_ms = opb_deadline_ms(pool->node->config->drain_timeout_ms);
    pthread_mutex_unlock(&pool->lock);
    opb_pool_wake(pool);
}

uint64_t
opb_pool_calls_end_ms(struct opb_pool *pool)
{
    uint64_t end_ms;

    pthread_mutex_lock(&pool->lock);
    end_ms = pool->is_stopping ? OPB_FOREVER : pool->calls_end_ms;
    pthread_mutex_unlock(&pool->lock);
    return end_ms;
}

/* Ends the host of that worker, if calls run in it. */
static void
end_busy(struct opb_pool *pool, uint32_t worker)
{
    struct opb_session *session = opb_session_at(pool->node, worker);

    if (session != NULL && opb_session_running_count(session) > 0 &&
        opb_session_condemn(session)) {
        opb_log_error("Orthanc stops, and has waited for %g s for Python callbacks that "
                      "still run (Python.DrainTimeout): the host (pid %ld) is killed. "
                      "Where its threads are follows",
                      pool->node->config->drain_timeout_ms / 1000.0,
                      (long)opb_session_pid(session));
        opb_pool_host_hangs(session, "was killed, since the server stops");
    }
    opb_session_unref(session);
}

void
opb_pool_end_calls(struct opb_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->calls_end_ms = OPB_FOREVER; /* those that begin now have a limit each: call.c */
    pthread_mutex_unlock(&pool->lock);
    for (uint32_t i = 0; i < pool->place_count; i++) {
        end_busy(pool, i);
    }
}
