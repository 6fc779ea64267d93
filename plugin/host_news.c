/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/host_news.c - what the pool says of hosts: one has started, one has died
 *
 * Here:      the host of a place comes and goes, and the log and the history say so. For
 *            control.c, on the supervisor thread (opb_place_end_host() also elsewhere).
 * Elsewhere: the same for hosts of the next generation, and of earlier ones
 *            (generations.c), loading the script (loader.c).
 */
#include "plugin/pool_state.h"

#include "plugin/history.h"
#include "plugin/log.h"
#include "plugin/routes.h"
#include "plugin/service.h"

#include <stdio.h>
#include <string.h>

void
opb_place_end_host(struct opb_place *place, const char *reason)
{
    struct opb_pool *pool = place->pool;
    struct opb_session *host;
    struct opb_session *arrived;

    pthread_mutex_lock(&pool->lock);
    host = place->host;
    arrived = place->arrived;
    place->host = NULL;
    place->arrived = NULL;
    pthread_mutex_unlock(&pool->lock);
    if (host != NULL) {
        opb_session_end(host, reason);
        opb_services_disallow(pool->node->services, host);
        opb_routes_forget(pool->node->routes, host);
    }
    opb_session_unref(arrived);
    opb_session_unref(host);
}

void
opb_pool_end_hosts(struct opb_pool *pool, const char *reason)
{
    for (uint32_t i = 0; i < pool->place_count; i++) {
        opb_place_end_host(&pool->places[i], reason);
    }
}

void
opb_pool_host_started(void *context, uint32_t host, pid_t pid, uint32_t worker)
{
    struct opb_pool *pool = context;
    struct opb_session *session;
    struct opb_place *place;
    bool is_unneeded;

    if (!opb_pool_admit(pool, pid)) {
        return;
    }
    if (worker >= opb_pool_worker_count(pool)) {
        opb_log_error(
            "The worker has started more hosts than this server wants: host %u is "
            "not used",
            host);
        return;
    }
    place = &pool->places[worker];
    pthread_mutex_lock(&pool->lock);
    is_unneeded = pool->switching_host != 0; /* it was started for the place that is lost */
    if (is_unneeded) {
        opb_pool_doom(pool, host, OPB_NOT_NEEDED);
    }
    pthread_mutex_unlock(&pool->lock);
    if (is_unneeded) {
        opb_pool_wake(pool);
        return;
    }
    opb_place_end_host(place, "was replaced by another");
    if (opb_session_new(&session, pool->node, host, pid, worker) != OPB_OK) {
        opb_log_error("Not enough memory for the new host (pid %ld): calls to it will fail",
                      (long)pid);
        return;
    }
    opb_log_info("Host %u has started (pid %ld)", host, (long)pid);
    opb_services_allow(pool->node->services, session);
    pthread_mutex_lock(&pool->lock);
    place->host = session;
    if (!pool->is_stopping) {
        place->arrived = opb_session_ref(session);
    }
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
}

void
opb_pool_note_death(struct opb_pool *pool, pid_t pid, const char *reason)
{
    const struct opb_happening happening = {
        .pid = pid, .kind = "", .what = "", .text = reason};

    opb_history_add(pool->node->history, OPB_HISTORY_DEATHS, &happening);
}

static void
log_death(struct opb_pool *pool, pid_t pid, const char *reason, bool is_stopping)
{
    const char *script = pool->node->config->script_path;

    if (is_stopping || strcmp(reason, OPB_COULD_NOT_LOAD) == 0 ||
        strcmp(reason, OPB_NOT_NEEDED) == 0) {
        opb_log_info("The host (pid %ld) %s", (long)pid, reason);
    }
    else if (pid == 0) {
        opb_log_error("A new host for %s %s; trying again", script, reason);
    }
    else {
        opb_log_error("The host (pid %ld) running %s %s; a new one is being started",
                      (long)pid, script, reason);
    }
}

/* With the lock held: whether calls could go to this host. Until the next one is loaded its
 * session stays, dead or alive. */
static bool
has_served(const struct opb_pool *pool, uint32_t host, pid_t pid)
{
    for (uint32_t i = 0; i < pool->place_count; i++) {
        if (pool->places[i].is_loaded &&
            opb_pool_is_session_of(pool->places[i].main_session, host, pid)) {
            return true;
        }
    }
    return false;
}

void
opb_pool_host_died(void *context, uint32_t host, pid_t pid, const char *reason)
{
    struct opb_pool *pool = context;
    struct opb_place *place = NULL;
    bool is_counted;
    bool is_starting;
    bool is_stopping;

    if (pid > 1) { /* the pool has reaped the leader, and killed the rest */
        opb_pool_remove_group(pool, pid);
    }
    for (uint32_t i = 0; i < pool->place_count; i++) {
        if (host == pool->places[i].hung_sent) {
            pool->places[i].hung_end_ms = OPB_FOREVER;
        }
    }
    if (opb_generation_host_died(pool, host, pid, reason)) {
        return;
    }
    pthread_mutex_lock(&pool->lock);
    for (uint32_t i = 0; i < pool->place_count; i++) {
        if (pool->places[i].host != NULL &&
            opb_session_host(pool->places[i].host) == host) {
            place = &pool->places[i];
        }
    }
    is_counted = has_served(pool, host, pid);
    is_starting = pool->is_starting;
    is_stopping = pool->is_stopping;
    if (is_starting) {
        /* cut if it does not fit */
        (void)snprintf(pool->failure, sizeof(pool->failure), "The host process for %s %s",
                       pool->node->config->script_path, reason);
        pthread_cond_broadcast(&pool->changed);
    }
    pthread_mutex_unlock(&pool->lock);
    if (!is_starting) {
        log_death(pool, pid, reason, is_stopping);
        if (is_counted) {
            opb_pool_note_death(pool, pid, reason);
        }
    }
    if (place != NULL) {
        opb_place_end_host(place, reason);
    }
}
