/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/replace.c - the generation before ends, and only then the next one loads
 *
 * Here:      Python.Reload is "replace", for scripts that take at import what only one can
 *            have: calls wait, those that run end, the hosts that serve lose their places,
 *            and end. The next hosts are there by then, with Python, without the script.
 * Elsewhere: what comes before (generations.c) and after (takeover.c), the end of each host
 *            (retire.c), the calls that wait (session_hold.c).
 *
 * On the loader thread of the primary. Until the hosts lose their places all can be called
 * off. From there on the next hosts are those whose successors the pool keeps ready, loaded
 * or not: so a script that does not load is tried again as after a crash.
 */
#include "plugin/pool_state.h"

#include "plugin/events.h"
#include "plugin/log.h"
#include "plugin/routes.h"
#include "protocol/sockets.h"

#include <stdlib.h>

#define WAIT_STEP_MS 100u
#define END_MS       10000u /* for the pool to kill a host, and some more */

/* Who has lost its place: to be ended without a lock. */
struct displaced {
    struct opb_retired *retired[OPB_MAX_WORKERS];
    struct opb_session *sessions[OPB_MAX_WORKERS]; /* the same hosts */
    struct opb_session *arrived[OPB_MAX_WORKERS];
    struct opb_main_lane lanes[OPB_MAX_WORKERS]; /* of hosts that are dead */
};

void
opb_generation_interrupt(struct opb_pool *pool)
{
    struct opb_place *place = &pool->places[0];

    if (place->host != NULL && place->host != place->main_session) {
        place->is_unwanted = true;
        opb_pool_doom(pool, opb_session_host(place->host), OPB_NOT_NEEDED);
    }
}

static bool
is_over(struct opb_pool *pool)
{
    bool result;

    pthread_mutex_lock(&pool->lock);
    result = pool->is_reload_over || pool->is_stopping;
    pthread_mutex_unlock(&pool->lock);
    return result;
}

static uint64_t
earliest(uint64_t a_ms, uint64_t b_ms, uint64_t c_ms)
{
    uint64_t result = a_ms < b_ms ? a_ms : b_ms;

    return result < c_ms ? result : c_ms;
}

/* Until no call runs, or it is time. What has waited for half of its time is let in: a call
 * that runs may need it, and nobody shall fail while there is a host. */
static void
await_calls(struct opb_pool *pool, uint64_t deadline_ms)
{
    const uint32_t turn_ms = pool->node->config->queue_timeout_ms / 2;
    uint64_t turn_end_ms = opb_deadline_ms(turn_ms);

    while (!is_over(pool) && opb_clock_ms() < deadline_ms &&
           !opb_calls_drain(pool->node, earliest(deadline_ms, turn_end_ms,
                                                 opb_deadline_ms(WAIT_STEP_MS)))) {
        if (opb_clock_ms() >= turn_end_ms) {
            opb_calls_let_in(pool->node);
            turn_end_ms = opb_deadline_ms(turn_ms);
        }
    }
}

/* With the lock held. */
static void
displace_host(struct opb_place *place, struct displaced *out, uint64_t switch_number,
              uint64_t drain_end_ms)
{
    struct opb_pool *pool = place->pool;
    struct opb_retired *retired = out->retired[place->worker];
    struct opb_lane *no_lane = NULL;

    retired->session = place->host;
    if (place->host != NULL && place->host == place->main_session) {
        retired->main_lane = place->main_lane;
        opb_session_unref(place->main_session); /* retired holds another */
        place->main_session = NULL;
        place->main_lane = NULL;
        place->is_loaded = false;
    }
    else { /* one that has died, and perhaps its successor, which has not loaded */
        out->lanes[place->worker] = opb_place_keep_main_lane(place, NULL, &no_lane, false);
    }
    place->host = NULL;
    out->arrived[place->worker] = place->arrived;
    place->arrived = NULL;
    if (retired->session != NULL) {
        out->sessions[place->worker] = opb_session_ref(retired->session);
        retired->switch_number = switch_number;
        retired->drain_end_ms = drain_end_ms;
        retired->next = pool->retired;
        pool->retired = retired;
        pool->retired_count++;
    }
}

/* With the lock held. */
static bool
may_displace(const struct opb_pool *pool, uint32_t count)
{
    bool result = !pool->is_reload_over && !pool->is_stopping && !pool->is_leaving;

    for (uint32_t i = 0; i < count; i++) {
        struct opb_session *next = pool->places[i].next;

        result = result && next != NULL && !opb_session_is_dead(next);
    }
    return result;
}

/* The hosts that serve lose their places. False: nothing has changed. */
static bool
displace(struct opb_pool *pool, uint32_t count, struct displaced *out,
         uint64_t drain_end_ms)
{
    struct opb_routes *routes = pool->node->routes;
    struct opb_session *next[OPB_MAX_WORKERS];
    struct opb_session *old;
    uint64_t number;
    bool is_done;

    pthread_mutex_lock(&pool->lock);
    old = pool->places[0].is_loaded ? pool->places[0].main_session : NULL;
    is_done = may_displace(pool, count) &&
              opb_events_end_old(
                  pool->node->events, old,
                  old != NULL && opb_routes_session_has(routes, old, OPB_CALL_CHANGE_INDEX),
                  &number);
    if (is_done) {
        for (uint32_t i = 0; i < count; i++) {
            next[i] = pool->places[i].next;
        }
        opb_generation_announce(pool, next, count);
        for (uint32_t i = 0; i < pool->place_count; i++) {
            displace_host(&pool->places[i], out, number, drain_end_ms);
        }
        opb_sessions_withdraw(pool->node, count);
        pool->is_old_gone = true;
    }
    pthread_mutex_unlock(&pool->lock);
    opb_pool_wake(pool);
    return is_done;
}

/* Waits until the processes are gone, and with them what they held. */
static void
end_displaced(struct opb_pool *pool, struct displaced *displaced)
{
    const struct opb_config *config = pool->node->config;
    uint64_t deadline_ms;

    for (uint32_t i = 0; i < pool->place_count; i++) {
        opb_main_lane_end(&displaced->lanes[i]);
        opb_session_unref(displaced->arrived[i]);
        if (displaced->sessions[i] != NULL) {
            opb_retired_begin(displaced->retired[i]);
            displaced->retired[i] = NULL;
        }
    }
    deadline_ms = opb_deadline_ms((uint64_t)config->stop_timeout_ms * 2 + END_MS);
    for (uint32_t i = 0; i < pool->place_count; i++) {
        if (displaced->sessions[i] != NULL &&
            !opb_session_wait_death(displaced->sessions[i], deadline_ms)) {
            opb_log_warning("The host (pid %ld) has not ended: the next generation loads "
                            "the script all the same",
                            (long)opb_session_pid(displaced->sessions[i]));
        }
        opb_session_unref(displaced->sessions[i]);
    }
}

static bool
make_retired(struct opb_pool *pool, struct displaced *displaced)
{
    bool has_memory = true;

    for (uint32_t i = 0; i < pool->place_count && has_memory; i++) {
        displaced->retired[i] = calloc(1, sizeof(*displaced->retired[i]));
        has_memory = displaced->retired[i] != NULL;
        if (has_memory) {
            displaced->retired[i]->pool = pool;
        }
    }
    return has_memory;
}

bool
opb_generation_replace(struct opb_pool *pool, uint32_t count)
{
    struct displaced *displaced = calloc(1, sizeof(*displaced));
    uint64_t deadline_ms = opb_deadline_ms(pool->node->config->drain_timeout_ms);
    uint64_t begin_ms = opb_clock_ms();
    bool is_done = false;

    if (displaced == NULL) {
        return false;
    }
    if (make_retired(pool, displaced)) {
        opb_calls_hold(pool->node);
        await_calls(pool, deadline_ms);
        is_done = displace(pool, count, displaced, deadline_ms);
        opb_calls_go_on(pool->node); /* to the old hosts, or to wait for the next */
    }
    if (is_done) {
        end_displaced(pool, displaced);
        opb_log_info("The generation before has ended, after %llu ms: the next one loads "
                     "the script",
                     (unsigned long long)(opb_clock_ms() - begin_ms));
    }
    for (uint32_t i = 0; i < pool->place_count; i++) {
        free(displaced->retired[i]);
    }
    free(displaced);
    return is_done && !is_over(pool);
}
