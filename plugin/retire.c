/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/retire.c - the end of the hosts of a generation that has lost its place
 *
 * Here:      a thread for each host: the last event, the last calls, Finalize, the end of
 * the process; every step has a limit. Elsewhere: how it lost its place (generations.c),
 * the calls (load.c).
 */
#include "plugin/pool_state.h"

#include "plugin/call.h"
#include "plugin/events.h"
#include "plugin/load.h"
#include "plugin/log.h"
#include "plugin/threads.h"
#include "protocol/sockets.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_STEP_MS  100u
#define EXIT_GRACE_MS 2000u /* for a host that has finished */
#define KILL_MS       6000u /* for the pool to kill a host, and to say so */

struct opb_session *
opb_retired_find(const struct opb_pool *pool, uint32_t host, pid_t pid)
{
    for (struct opb_retired *each = pool->retired; each != NULL; each = each->next) {
        if (opb_pool_is_session_of(each->session, host, pid)) {
            return opb_session_ref(each->session);
        }
    }
    return NULL;
}

void
opb_retired_reap(struct opb_pool *pool, bool is_all)
{
    for (;;) {
        struct opb_retired *found;
        struct opb_retired **link;

        pthread_mutex_lock(&pool->lock);
        for (found = pool->retired;
             found != NULL &&
             (!found->has_thread || found->is_joining || !(is_all || found->is_done));
             found = found->next) {
        }
        if (found != NULL) {
            found->is_joining = true;
        }
        pthread_mutex_unlock(&pool->lock);
        if (found == NULL) {
            return;
        }
        opb_own_thread_join(found->thread, "the end of an earlier generation");
        pthread_mutex_lock(&pool->lock);
        for (link = &pool->retired; *link != found; link = &(*link)->next) {
        }
        *link = found->next;
        pthread_mutex_unlock(&pool->lock);
        free(found);
    }
}

/* Waits until the script has been told that it stops, which the primary is. */
static void
await_last_event(const struct opb_retired *retired, uint64_t deadline_ms)
{
    struct opb_events *events = retired->pool->node->events;

    if (opb_session_worker(retired->session) != 0) {
        return;
    }
    while (!opb_pool_is_stopping(retired->pool) && !opb_session_is_dead(retired->session) &&
           opb_clock_ms() < deadline_ms) {
        uint64_t step_ms = opb_deadline_ms(WAIT_STEP_MS);

        if (opb_events_wait_switch(events, retired->switch_number,
                                   step_ms < deadline_ms ? step_ms : deadline_ms)) {
            return;
        }
    }
}

static void
await_death(const struct opb_retired *retired, bool has_finished)
{
    struct opb_pool *pool = retired->pool;

    if (has_finished &&
        opb_session_wait_death(retired->session, opb_deadline_ms(EXIT_GRACE_MS))) {
        return;
    }
    opb_pool_doom_session(pool, retired->session,
                          retired->main_lane != NULL ? OPB_NOT_FINISHED : OPB_NOT_NEEDED);
    (void)opb_session_wait_death(retired->session, opb_deadline_ms(KILL_MS));
}

static void *
run_retired(void *argument)
{
    struct opb_retired *retired = argument;
    struct opb_pool *pool = retired->pool;
    struct opb_session *session = retired->session;
    const struct opb_config *config = pool->node->config;
    uint64_t deadline_ms = opb_deadline_ms(config->drain_timeout_ms);
    bool has_finished = false;

    opb_call_mark_own_thread();
    if (retired->drain_end_ms == 0) {
        await_last_event(retired, deadline_ms);
    }
    else { /* it is drained, or had its time for that: the event is part of its end */
        await_last_event(retired, opb_deadline_ms(config->stop_timeout_ms));
        deadline_ms = retired->drain_end_ms;
    }
    if (!opb_session_drain(session, deadline_ms) && !opb_session_is_dead(session)) {
        opb_log_warning(
            "The host (pid %ld) of an earlier generation is ended now, with what "
            "still runs there: the configuration option "
            "\"Python.DrainTimeout\" gives it more time",
            (long)opb_session_pid(session));
    }
    if (retired->main_lane != NULL && !opb_session_is_dead(session)) {
        has_finished = opb_load_finalize(session, retired->main_lane,
                                         opb_deadline_ms(config->stop_timeout_ms));
    }
    if (!opb_session_is_dead(session)) {
        await_death(retired, has_finished);
    }
    opb_session_end(session, OPB_NOT_FINISHED); /* of no effect if it is dead */
    opb_load_close_lane(session, &retired->main_lane);
    pthread_mutex_lock(&pool->lock);
    retired->session = NULL;
    pthread_mutex_unlock(&pool->lock);
    opb_pool_drop_session(pool, session, OPB_NOT_FINISHED);
    pthread_mutex_lock(&pool->lock);
    retired->is_done = true;
    pool->retired_count--;
    pthread_mutex_unlock(&pool->lock);
    opb_pool_wake(pool);
    return NULL;
}

/* Without a thread the host cannot be let go gently. Takes what retired holds. */
static void
retire_at_once(struct opb_retired *retired)
{
    struct opb_pool *pool = retired->pool;
    struct opb_session *session = retired->session;
    struct opb_retired **link;

    opb_log_error(
        "The host (pid %ld) of an earlier generation is ended at once: there is no "
        "thread to wait for it (%s)",
        (long)opb_session_pid(session), strerror(errno));
    opb_pool_doom_session(pool, session, OPB_NOT_FINISHED);
    pthread_mutex_lock(&pool->lock);
    for (link = &pool->retired; *link != retired; link = &(*link)->next) {
    }
    *link = retired->next;
    pool->retired_count--;
    pthread_mutex_unlock(&pool->lock);
    opb_session_end(session, OPB_NOT_FINISHED);
    opb_load_close_lane(session, &retired->main_lane);
    opb_pool_drop_session(pool, session, OPB_NOT_FINISHED);
    free(retired);
}

void
opb_retired_begin(struct opb_retired *retired)
{
    struct opb_pool *pool = retired->pool;
    bool has_thread;

    pthread_mutex_lock(&pool->lock); /* the thread is not joined before this is done */
    has_thread =
        opb_own_thread_start(&retired->thread, run_retired, retired, "PY-RETIRE") == OPB_OK;
    retired->has_thread = has_thread;
    pthread_mutex_unlock(&pool->lock);
    if (!has_thread) {
        retire_at_once(retired);
    }
}
