/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/loader.c - the thread of each place, which loads the script in its hosts
 *
 * Here:      Load in a host of the current generation, and whether calls may go to it: it
 *            must have registered what the others have.
 * Elsewhere: the calls Load and Finalize (load.c), the next generation (generations.c),
 *            when hosts begin and end (host_news.c).
 */
#include "plugin/pool_state.h"

#include "plugin/call.h"
#include "plugin/load.h"
#include "plugin/log.h"
#include "plugin/routes.h"
#include "plugin/threads.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint32_t
opb_pool_worker_count(struct opb_pool *pool)
{
    uint32_t count;

    pthread_mutex_lock(&pool->node->lock);
    count = pool->node->worker_count;
    pthread_mutex_unlock(&pool->node->lock);
    return count;
}

struct opb_session *
opb_place_other(const struct opb_place *place)
{
    const struct opb_pool *pool = place->pool;

    for (uint32_t i = 0; i < pool->place_count; i++) {
        const struct opb_place *each = &pool->places[i];

        if (each != place && each->is_loaded && each->host != NULL &&
            each->host == each->main_session && !opb_session_is_dead(each->host)) {
            return each->host;
        }
    }
    return NULL;
}

void
opb_main_lane_end(struct opb_main_lane *old)
{
    if (old->session != NULL) {
        opb_load_close_lane(old->session, &old->lane);
        opb_session_unref(old->session);
    }
}

struct opb_main_lane
opb_place_keep_main_lane(struct opb_place *place, struct opb_session *session,
                         struct opb_lane **lane, bool is_loaded)
{
    struct opb_main_lane old = {.session = place->main_session, .lane = place->main_lane};

    if (session != NULL) {
        (void)opb_session_ref(session); /* the same session */
    }
    place->main_session = session;
    place->main_lane = *lane;
    place->is_loaded = is_loaded;
    *lane = NULL;
    return old;
}

/* The host has loaded the script: calls go to it from now on, if it has registered what the
 * others have. Takes *lane on success. OPB_GONE: it is not needed any more. */
static enum opb_status
admit(struct opb_place *place, struct opb_session *session, struct opb_lane **lane,
      bool is_follower, char *message, size_t capacity)
{
    struct opb_pool *pool = place->pool;
    struct opb_routes *routes = pool->node->routes;
    struct opb_main_lane old = {.session = NULL};
    enum opb_status status = OPB_OK;
    const struct opb_session *other;
    char text[1100];

    pthread_mutex_lock(&pool->lock);
    other = opb_place_other(place);
    if (place->host != session || place->is_unwanted || pool->is_leaving ||
        (is_follower && other == NULL)) {
        status = OPB_GONE;
    }
    else if (other != NULL &&
             opb_routes_differ(routes, session, other, text, sizeof(text))) {
        status = OPB_REFUSED;
    }
    else {
        old = opb_place_keep_main_lane(place, session, lane, true);
        pool->is_old_gone = false;
        if (other == NULL) {
            opb_routes_commit(routes, session);
        }
        else {
            opb_routes_join(routes, session);
        }
        (void)opb_session_activate(session); /* if it has died, its death is on its way */
        pthread_cond_broadcast(&pool->changed);
    }
    pthread_mutex_unlock(&pool->lock);
    opb_main_lane_end(&old);
    if (status == OPB_REFUSED) {
        /* cut if it does not fit */
        (void)snprintf(message, capacity,
                       "The host (pid %ld) has not registered the same callbacks as the "
                       "other hosts of its generation, and is refused: %s. If the script "
                       "has changed, load it again",
                       (long)opb_session_pid(session), text);
    }
    return status;
}

enum opb_status
opb_place_load(struct opb_place *place, struct opb_session *session, bool is_follower,
               bool *is_logged, char *message, size_t capacity)
{
    struct opb_pool *pool = place->pool;
    struct opb_routes *routes = pool->node->routes;
    char node_socket[sizeof(pool->node_socket)];
    struct opb_main_lane old = {.session = NULL};
    struct opb_scripts *scripts;
    struct opb_lane *lane;
    char *files;
    enum opb_status status;

    pthread_mutex_lock(&pool->lock);
    memcpy(node_socket, pool->node_socket, sizeof(node_socket));
    pthread_mutex_unlock(&pool->lock);
    if (is_follower) {
        opb_routes_begin_follower(routes, session);
    }
    else {
        opb_routes_begin(routes, session);
    }
    scripts = opb_node_scripts(pool->node);
    status = opb_load_run(session,
                          &(struct opb_load){.orthanc_path = pool->orthanc_path,
                                             .node_socket = node_socket,
                                             .scripts = scripts},
                          OPB_FOREVER, &lane, is_logged, &files, message, capacity);
    opb_scripts_unref(scripts);
    if (status == OPB_OK && !is_follower) {
        opb_routes_log_losses(routes, session);
    }
    if (status == OPB_OK) {
        status = admit(place, session, &lane, is_follower, message, capacity);
    }
    if (status == OPB_OK) {
        opb_pool_set_files(pool, files);
        opb_routes_look_for_late(routes);
        return OPB_OK;
    }
    free(files);
    pthread_mutex_lock(&pool->lock);
    if (place->host == session) { /* it ends with its lane, and would say so */
        old = opb_place_keep_main_lane(place, session, &lane, false);
    }
    pthread_mutex_unlock(&pool->lock);
    opb_main_lane_end(&old);
    opb_load_close_lane(session, &lane);
    opb_routes_forget(routes, session);
    return status;
}

static bool
has_other(struct opb_place *place)
{
    bool result;

    pthread_mutex_lock(&place->pool->lock);
    result = opb_place_other(place) != NULL;
    pthread_mutex_unlock(&place->pool->lock);
    return result;
}

/* In Initialize: one host that cannot load ends the start. */
static void
fail_start(struct opb_pool *pool, const char *message, bool is_logged)
{
    pthread_mutex_lock(&pool->lock);
    if (pool->failure[0] == '\0') {
        (void)snprintf(pool->failure, sizeof(pool->failure), "%.*s", /* may be cut */
                       (int)sizeof(pool->failure) - 1,
                       is_logged || message[0] == '\0'
                           ? "Not every host could import the Python script"
                           : message);
    }
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
}

static void
log_unloaded(struct opb_place *place, const struct opb_session *session)
{
    const char *script = place->pool->node->config->script_path;

    if (has_other(place)) {
        opb_log_error("The new host (pid %ld) could not load %s: the other hosts go on "
                      "without it until another can",
                      (long)opb_session_pid(session), script);
    }
    else {
        opb_log_error(
            "The new host (pid %ld) could not load %s: no call is served until another can",
            (long)opb_session_pid(session), script);
    }
}

/* A host after the first: failures are logged, and another host is asked for. */
static void
load_later_host(struct opb_place *place, struct opb_session *session)
{
    struct opb_pool *pool = place->pool;
    char message[OPB_POOL_TEXT_BYTES * 2];
    char death[64];
    enum opb_status status;
    bool is_stopping;
    bool is_starting;
    bool is_late; /* the script is not to blame */
    bool is_logged;

    status = opb_place_load(place, session, has_other(place), &is_logged, message,
                            sizeof(message));
    pthread_mutex_lock(&pool->lock);
    is_stopping = pool->is_stopping;
    is_starting = pool->is_starting;
    is_late = status == OPB_GONE && message[0] == '\0';
    if (status != OPB_OK && !is_starting) {
        pool->is_broken = pool->is_broken || !is_late;
        if (!is_stopping && !opb_session_is_dead(session) && place->host == session &&
            !place->is_unwanted) {
            opb_pool_doom(pool, opb_session_host(session), OPB_COULD_NOT_LOAD);
        }
    }
    pthread_mutex_unlock(&pool->lock);
    if (status != OPB_OK) { /* to end that host, and to watch the files in another way */
        opb_pool_wake(pool);
    }
    if (is_starting) {
        if (status != OPB_OK) {
            fail_start(pool, message, is_logged);
        }
        return;
    }
    if (status == OPB_OK) {
        opb_log_warning("The new host (pid %ld) is running %s",
                        (long)opb_session_pid(session), pool->node->config->script_path);
        return;
    }
    opb_session_death(session, death, sizeof(death));
    if (is_stopping || is_late || strcmp(death, OPB_NOT_NEEDED) == 0) {
        return; /* another generation has taken its place meanwhile */
    }
    if (message[0] != '\0' && !is_logged) {
        opb_log_error("%s", message);
    }
    log_unloaded(place, session);
}

void *
opb_place_run_loader(void *argument)
{
    struct opb_place *place = argument;
    struct opb_pool *pool = place->pool;

    opb_call_mark_own_thread();
    pthread_mutex_lock(&pool->lock);
    while (!pool->is_stopping) {
        struct opb_session *session = place->arrived;

        /* a host is needed more than another, unless it would be replaced at once */
        if ((session == NULL || pool->node->config->reload_replaces) &&
            opb_generation_is_due(place)) {
            place->next_state = OPB_NEXT_LOADING;
            pthread_mutex_unlock(&pool->lock);
            opb_generation_load(place);
            pthread_mutex_lock(&pool->lock);
            continue;
        }
        if (session == NULL) {
            (void)opb_condition_wait(&pool->changed, &pool->lock, OPB_FOREVER);
            continue;
        }
        place->arrived = NULL;
        pthread_mutex_unlock(&pool->lock);
        load_later_host(place, session);
        opb_session_unref(session);
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}
