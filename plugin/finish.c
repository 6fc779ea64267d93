/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/finish.c - the script's end in all hosts, when Orthanc stops
 *
 * Here:      Finalize in each, all at the same time, and what is said if one does not end.
 * Elsewhere: the call (load.c), what comes before and after (pool.c).
 */
#include "plugin/pool_state.h"

#include "plugin/call.h"
#include "plugin/load.h"
#include "plugin/log.h"
#include "plugin/threads.h"
#include "protocol/sockets.h"

#include <stdio.h>

#define SEND_MS       2000u
#define EXIT_GRACE_MS 2000u /* for a host that has finished */
#define END_MS        6000u /* for others: the pool's SIGTERM and SIGKILL come 2 s apart */

/* Waits until *flag, which the lock guards, or timeout_ms. */
static bool
await_flag(struct opb_pool *pool, const bool *flag, uint64_t timeout_ms)
{
    uint64_t deadline_ms = opb_deadline_ms(timeout_ms);
    bool result;

    pthread_mutex_lock(&pool->lock);
    while (!*flag &&
           opb_condition_wait(&pool->changed, &pool->lock, deadline_ms) == OPB_OK) {
    }
    result = *flag;
    pthread_mutex_unlock(&pool->lock);
    return result;
}

/* Finalize of one host. */
struct finish {
    const struct opb_place *place;
    uint64_t deadline_ms;
    pthread_t thread;
    bool has_thread;
    bool has_finished;
};

static void *
run_finish(void *argument)
{
    struct finish *finish = argument;
    struct opb_session *session = finish->place->main_session;

    finish->has_finished =
        !finish->place->is_loaded || opb_session_is_dead(session) ||
        opb_load_finalize(session, finish->place->main_lane, finish->deadline_ms);
    return NULL;
}

static void *
run_finish_thread(void *argument)
{
    opb_call_mark_own_thread();
    return run_finish(argument);
}

/* All at the same time: the primary's on this thread. False if one has not. */
static bool
finish_all(struct opb_pool *pool)
{
    struct finish finishes[OPB_MAX_WORKERS];
    uint64_t deadline_ms = opb_deadline_ms(pool->node->config->stop_timeout_ms);
    bool have_finished = true;

    for (uint32_t i = 0; i < pool->place_count; i++) {
        finishes[i] =
            (struct finish){.place = &pool->places[i], .deadline_ms = deadline_ms};
        finishes[i].has_thread =
            i > 0 && opb_own_thread_start(&finishes[i].thread, run_finish_thread,
                                          &finishes[i], "PY-FINALIZE") == OPB_OK;
    }
    for (uint32_t i = 0; i < pool->place_count; i++) {
        if (!finishes[i].has_thread) {
            (void)run_finish(&finishes[i]);
        }
    }
    for (uint32_t i = 0; i < pool->place_count; i++) {
        if (finishes[i].has_thread) {
            opb_own_thread_join(finishes[i].thread, "the end of the script in a host");
        }
        have_finished = have_finished && finishes[i].has_finished;
    }
    return have_finished;
}

/* Some hosts are still there. */
static void
log_stubborn(const struct opb_pool *pool)
{
    for (uint32_t i = 0; i < pool->place_count; i++) {
        struct opb_session *session = pool->places[i].main_session;

        if (session != NULL && !opb_session_is_dead(session)) {
            opb_log_warning("The host (pid %ld) does not end: killing it",
                            (long)opb_session_pid(session));
        }
    }
}

void
opb_pool_finish(struct opb_pool *pool)
{
    bool has_any = false;
    bool have_finished;

    pthread_mutex_lock(&pool->lock);
    for (uint32_t i = 0; i < pool->place_count; i++) {
        has_any = has_any || (pool->places[i].is_loaded &&
                              !opb_session_is_dead(pool->places[i].main_session));
    }
    pool->is_detach_wanted = true;
    pthread_mutex_unlock(&pool->lock);
    if (!has_any) {
        return;
    }
    opb_pool_wake(pool);
    if (!await_flag(pool, &pool->is_detach_sent, SEND_MS)) {
        opb_log_warning("The worker could not be told in time that the server stops");
    }
    have_finished = finish_all(pool);
    if (!await_flag(pool, &pool->is_detached, have_finished ? EXIT_GRACE_MS : END_MS)) {
        log_stubborn(pool);
    }
}
