/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/host_news.c - what the pool says of hosts: one has started, one has died
 *
 * Here:      the host of a place comes and goes, and the log and the history say so. For
 *            control.c, on the supervisor thread.
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

/* Who runs, or was to run, in a place: to be ended without a lock. */
struct leaving {
    struct opb_session *host;
    struct opb_session *arrived;
};

/* With the lock held: who is there now. A switch may give the place to another as soon as
 * the lock is free, which must not be ended in this one's stead. */
static struct leaving
take_host(struct opb_place *place)
{
    struct leaving leaving = {.host = place->host, .arrived = place->arrived};

    place->host = NULL;
    place->arrived = NULL;
    return leaving;
}

static void
end_leaving(struct opb_pool *pool, const struct leaving *leaving, const char *reason)
{
    opb_session_unref(leaving->arrived);
    if (leaving->host != NULL) {
        opb_pool_drop_session(pool, leaving->host, reason);
    }
}

void
opb_pool_end_hosts(struct opb_pool *pool, const char *reason)
{
    for (uint32_t i = 0; i < pool->place_count; i++) {
        struct leaving leaving;

        pthread_mutex_lock(&pool->lock);
        leaving = take_host(&pool->places[i]);
        pthread_mutex_unlock(&pool->lock);
        end_leaving(pool, &leaving, reason);
    }
}

/* With the lock held, then wake. True: the host was started for a place that is lost. */
static bool
is_unneeded(struct opb_pool *pool, uint32_t host)
{
    if (pool->switching_host == 0) {
        return false;
    }
    opb_pool_doom(pool, host, OPB_NOT_NEEDED);
    return true;
}

/* The place is free for a new host. False: it is not for this one. */
static bool
make_room(struct opb_place *place, uint32_t host)
{
    struct opb_pool *pool = place->pool;
    struct leaving leaving = {.host = NULL};
    bool is_late;

    pthread_mutex_lock(&pool->lock);
    is_late = is_unneeded(pool, host);
    if (!is_late) {
        leaving = take_host(place);
    }
    pthread_mutex_unlock(&pool->lock);
    end_leaving(pool, &leaving, "was replaced by another");
    return !is_late;
}

/* Takes session. */
static void
settle(struct opb_place *place, struct opb_session *session)
{
    struct opb_pool *pool = place->pool;
    bool is_late;

    pthread_mutex_lock(&pool->lock);
    is_late = is_unneeded(pool, opb_session_host(session)); /* since room was made for it */
    if (!is_late) {
        place->host = session;
        place->is_unwanted = false;
        if (!pool->is_stopping) {
            place->arrived = opb_session_ref(session);
        }
        pthread_cond_broadcast(&pool->changed);
    }
    pthread_mutex_unlock(&pool->lock);
    if (is_late) {
        opb_pool_drop_session(pool, session, OPB_NOT_NEEDED);
        opb_pool_wake(pool);
    }
}

void
opb_pool_host_started(void *context, uint32_t host, pid_t pid, uint32_t worker)
{
    struct opb_pool *pool = context;
    struct opb_session *session;

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
    if (!make_room(&pool->places[worker], host)) {
        opb_pool_wake(pool);
        return;
    }
    if (opb_session_new(&session, pool->node, host, pid, worker) != OPB_OK) {
        opb_log_error("Not enough memory for the new host (pid %ld): calls to it will fail",
                      (long)pid);
        return;
    }
    opb_services_allow(pool->node->services, session);
    opb_log_info("Host %u has started (pid %ld)", host, (long)pid);
    settle(&pool->places[worker], session);
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

/* It is dead: who hangs is not to be told to the pool, nor waited for. Last, as until its
 * session has ended others may still find that it hangs. */
static void
forget_hung(struct opb_pool *pool, uint32_t host)
{
    for (uint32_t i = 0; i < pool->place_count; i++) {
        struct opb_place *place = &pool->places[i];

        pthread_mutex_lock(&pool->lock);
        if (place->hung_host == host) {
            place->hung_host = 0;
        }
        pthread_mutex_unlock(&pool->lock);
        if (place->hung_sent == host) {
            place->hung_end_ms = OPB_FOREVER;
        }
    }
}

/* With the lock held: the host, if it is of the current generation. */
static struct leaving
take_dead(struct opb_pool *pool, uint32_t host)
{
    struct leaving leaving = {.host = NULL};

    for (uint32_t i = 0; i < pool->place_count; i++) {
        if (pool->places[i].host != NULL &&
            opb_session_host(pool->places[i].host) == host) {
            leaving = take_host(&pool->places[i]);
        }
    }
    return leaving;
}

/* No host of another generation. */
static void
end_current(struct opb_pool *pool, const struct opb_dead *dead,
            const struct leaving *leaving, bool is_counted, bool is_stopping)
{
    if (leaving->host == NULL && (strcmp(dead->reason, OPB_NOT_NEEDED) == 0 ||
                                  strcmp(dead->reason, OPB_NOT_FINISHED) == 0)) {
        return; /* we have ended it, unseen */
    }
    log_death(pool, dead->pid, dead->reason, is_stopping);
    if (is_counted) {
        opb_pool_note_death(pool, dead->pid, dead->reason);
    }
    end_leaving(pool, leaving, dead->reason);
}

/* One look under the lock tells which generation it is of: a switch may come at any time.
 */
void
opb_pool_host_died(void *context, uint32_t host, pid_t pid, const char *reason)
{
    struct opb_pool *pool = context;
    struct opb_dead dead = {.host = host, .pid = pid, .reason = reason};
    struct leaving leaving = {.host = NULL};
    bool is_other;
    bool is_counted;
    bool is_starting;
    bool is_stopping;

    if (pid > 1) { /* the pool has reaped the leader, and killed the rest */
        opb_pool_remove_group(pool, pid);
    }
    pthread_mutex_lock(&pool->lock);
    is_other = opb_generation_find_dead(pool, &dead);
    is_counted = has_served(pool, host, pid);
    if (!is_other) {
        leaving = take_dead(pool, host);
    }
    is_starting = pool->is_starting;
    is_stopping = pool->is_stopping;
    if (is_starting) {
        /* cut if it does not fit */
        (void)snprintf(pool->failure, sizeof(pool->failure), "The host process for %s %s",
                       pool->node->config->script_path, reason);
        pthread_cond_broadcast(&pool->changed);
    }
    pthread_mutex_unlock(&pool->lock);
    if (is_other) {
        opb_generation_end_dead(pool, &dead);
    }
    else if (is_starting) {
        end_leaving(pool, &leaving, reason);
    }
    else {
        end_current(pool, &dead, &leaving, is_counted, is_stopping);
    }
    forget_hung(pool, host);
}
