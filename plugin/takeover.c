/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/takeover.c - the next generation loads the script, and takes over
 *
 * Here:      the loader threads' part of a reload: the primary first, then the others,
 *            which must register the same; the switch; giving up.
 * Elsewhere: what comes before (generations.c) and after (retire.c), sessions and tables
 *            that change hands (session.c, routes.c), events around it (events.c).
 */
#include "plugin/pool_state.h"

#include "plugin/events.h"
#include "plugin/load.h"
#include "plugin/log.h"
#include "plugin/routes.h"
#include "plugin/threads.h"
#include "protocol/sockets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KILL_MS  6000u  /* for the pool to kill hosts, and to say so */
#define SPARE_MS 15000u /* for a loader thread to be free */

/* What a switch leaves behind: to be ended without a lock. */
struct leftovers {
    struct opb_retired *retired[OPB_MAX_WORKERS]; /* one for each place */
    struct opb_session *arrived[OPB_MAX_WORKERS];
    struct opb_session *unneeded[OPB_MAX_WORKERS];
    uint64_t generation;
    pid_t pid; /* of its primary */
    uint32_t count_before;
    bool is_replacing; /* the old hosts have lost their places already (replace.c) */
};

/* One host takes the place of another. With the lock held. A host that the pool has started
 * meanwhile is of no use. */
static void
exchange_host(struct opb_place *place, struct leftovers *left, uint64_t switch_number)
{
    struct opb_pool *pool = place->pool;
    struct opb_retired *retired = left->retired[place->worker];

    left->arrived[place->worker] = place->arrived;
    place->arrived = NULL;
    if (place->host != place->main_session) {
        left->unneeded[place->worker] = place->host;
    }
    else if (place->host != NULL) {
        opb_session_unref(place->host); /* main_session holds another */
    }
    if (left->unneeded[place->worker] != NULL) {
        opb_pool_doom(pool, opb_session_host(place->host), OPB_NOT_NEEDED);
    }
    if (place->main_session != NULL) {
        retired->switch_number = switch_number;
        retired->session = place->main_session;
        retired->main_lane = place->main_lane;
        retired->next = pool->retired; /* found there when the worker is lost */
        pool->retired = retired;
        pool->retired_count++;
    }
    place->host = place->next;
    place->main_session = place->next != NULL ? opb_session_ref(place->next) : NULL;
    place->main_lane = place->next_lane;
    place->is_loaded = place->next != NULL;
    place->next = NULL;
    place->next_lane = NULL;
    place->next_state = OPB_NEXT_NONE;
}

/* Calls go to the next hosts from now on. With the lock held. */
static bool
activate(struct opb_pool *pool, const struct opb_switch *change, bool is_replacing,
         uint64_t *switch_number)
{
    *switch_number = 0;
    if (is_replacing) { /* the old one has been told, and the next one will be */
        return opb_session_activate_all(change->next, change->next_count);
    }
    return opb_events_switch(pool->node->events, change, switch_number);
}

/* Lets the next hosts, all loaded, take over. False: nothing has changed. */
static bool
take_over(struct opb_pool *pool, uint32_t count, struct leftovers *left)
{
    struct opb_routes *routes = pool->node->routes;
    struct opb_session *next[OPB_MAX_WORKERS] = {NULL};
    struct opb_switch change = {.next = next, .next_count = count};
    uint64_t switch_number;
    bool is_done = true;

    pthread_mutex_lock(&pool->lock);
    for (uint32_t i = 0; i < count; i++) {
        next[i] = pool->places[i].next;       /* only this thread takes it away */
        is_done = is_done && next[i] != NULL; /* a new pool may give more */
    }
    change.old = pool->places[0].is_loaded ? pool->places[0].main_session : NULL;
    if (change.old != NULL) {
        (void)opb_session_ref(change.old);
    }
    pthread_mutex_unlock(&pool->lock);
    change.next_listens = opb_routes_session_has(routes, next[0], OPB_CALL_CHANGE_INDEX);
    change.old_listens = change.old != NULL &&
                         opb_routes_session_has(routes, change.old, OPB_CALL_CHANGE_INDEX);
    opb_routes_log_losses(routes, next[0]);
    pthread_mutex_lock(&pool->lock);
    is_done = is_done && !pool->is_reload_over && !pool->is_stopping && !pool->is_leaving &&
              !pool->has_next_failed;
    if (is_done) { /* at the last moment: filters that only the old ones have go on */
        opb_routes_narrow(routes, next[0]);
        is_done = activate(pool, &change, left->is_replacing, &switch_number);
    }
    if (is_done) {
        if (!left->is_replacing) {
            opb_generation_announce(pool, next, count);
        }
        pool->is_old_gone = false;
        for (uint32_t i = 0; i < pool->place_count; i++) {
            exchange_host(&pool->places[i], left, switch_number);
        }
        opb_routes_commit(routes, next[0]);
        for (uint32_t i = 1; i < count; i++) {
            opb_routes_join(routes, next[i]);
        }
        left->generation = pool->generation;
        left->pid = opb_session_pid(next[0]);
        opb_reload_end(pool, OPB_RELOAD_DONE, "");
    }
    else {
        opb_routes_widen(routes);
    }
    pthread_mutex_unlock(&pool->lock);
    opb_session_unref(change.old);
    opb_pool_wake(pool);
    return is_done;
}

/* One of the next hosts is of no use: none is, then. The first reason counts. With the lock
 * held; then wake. */
static void
fail_next(struct opb_pool *pool, const char *text, bool is_logged)
{
    if (!pool->has_next_failed) {
        pool->has_next_failed = true;
        pool->is_failure_logged = is_logged;
        (void)snprintf(pool->next_failure, sizeof(pool->next_failure), "%s",
                       text); /* cut if it does not fit */
        opb_next_doom_all(pool, OPB_COULD_NOT_LOAD);
        pthread_cond_broadcast(&pool->changed);
    }
}

/* Runs Load in a next host, whose place is marked. Gives *out, to be freed, if it is not
 * NULL: the files of the script, or NULL. */
static void
load_next(struct opb_place *place, const struct opb_session *lead, char **out)
{
    struct opb_pool *pool = place->pool;
    struct opb_routes *routes = pool->node->routes;
    char node_socket[sizeof(pool->node_socket)];
    char text[sizeof(pool->next_failure)] = "";
    char difference[1100];
    struct opb_session *session;
    struct opb_scripts *scripts;
    struct opb_lane *lane = NULL;
    enum opb_status status;
    char *files = NULL;
    bool is_logged;

    pthread_mutex_lock(&pool->lock);
    memcpy(node_socket, pool->node_socket, sizeof(node_socket));
    session = opb_session_ref(place->next);
    scripts = pool->next_scripts != NULL
                  ? opb_scripts_ref(pool->next_scripts)
                  : opb_node_scripts(pool->node); /* announced (replace.c) */
    pthread_mutex_unlock(&pool->lock);
    if (place->worker == 0) {
        opb_routes_begin(routes, session);
    }
    else {
        opb_routes_begin_follower(routes, session);
    }
    status = opb_load_run(session,
                          &(struct opb_load){.orthanc_path = pool->orthanc_path,
                                             .node_socket = node_socket,
                                             .scripts = scripts},
                          opb_deadline_ms(pool->node->config->reload_timeout_ms), &lane,
                          &is_logged, &files, text, sizeof(text));
    opb_scripts_unref(scripts);
    if (status == OPB_OK && place->worker != 0 &&
        opb_routes_differ(routes, session, lead, difference, sizeof(difference))) {
        status = OPB_REFUSED;
        (void)snprintf(text, sizeof(text),
                       "The host (pid %ld) has not registered the same callbacks as the "
                       "other hosts of its generation, and is refused: %s",
                       (long)opb_session_pid(session), difference); /* fits */
    }
    if (out != NULL) {
        *out = files;
        files = NULL;
    }
    free(files);
    pthread_mutex_lock(&pool->lock);
    place->next_lane = lane;
    place->next_state = status == OPB_OK ? OPB_NEXT_LOADED : OPB_NEXT_FAILED;
    if (status != OPB_OK) {
        fail_next(pool, text, is_logged);
    }
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
    opb_pool_wake(pool);
    opb_session_unref(session);
}

/* How many of the next hosts are in that state. With the lock held. */
static uint32_t
count_next(const struct opb_pool *pool, enum opb_next_state state)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < pool->place_count; i++) {
        count += pool->places[i].next_state == state ? 1 : 0;
    }
    return count;
}

/* If the primary has loaded: lets the others load, and waits for them. True if all have. */
static bool
await_followers(struct opb_pool *pool, uint32_t count)
{
    bool are_loaded;

    uint64_t deadline_ms =
        opb_deadline_ms(pool->node->config->reload_timeout_ms + (uint64_t)SPARE_MS);

    pthread_mutex_lock(&pool->lock);
    pool->is_lead_loaded = pool->places[0].next_state == OPB_NEXT_LOADED;
    pthread_cond_broadcast(&pool->changed);
    while (!pool->has_next_failed && !pool->is_reload_over &&
           count_next(pool, OPB_NEXT_LOADED) < count &&
           opb_condition_wait(&pool->changed, &pool->lock, deadline_ms) == OPB_OK) {
    }
    are_loaded = count_next(pool, OPB_NEXT_LOADED) >= count && !pool->has_next_failed;
    if (!are_loaded) {
        fail_next(pool,
                  "A host of the next generation waits for another in its place, which is "
                  "still importing the script",
                  false);
    }
    pthread_mutex_unlock(&pool->lock);
    return are_loaded;
}

/* Waits until no next host is being loaded, which their ends lead to. */
static void
await_loads(struct opb_pool *pool)
{
    uint64_t deadline_ms = opb_deadline_ms(KILL_MS);
    enum opb_status status = OPB_OK;

    pthread_mutex_lock(&pool->lock);
    while (count_next(pool, OPB_NEXT_LOADING) > 0 && status == OPB_OK) {
        status = opb_condition_wait(&pool->changed, &pool->lock, deadline_ms);
    }
    pthread_mutex_unlock(&pool->lock);
    if (status == OPB_OK) {
        return;
    }
    for (uint32_t i = 0; i < pool->place_count; i++) {
        opb_next_end_session(&pool->places[i], OPB_COULD_NOT_LOAD);
    }
    pthread_mutex_lock(&pool->lock);
    while (count_next(pool, OPB_NEXT_LOADING) > 0) { /* their lanes are shut */
        (void)opb_condition_wait(&pool->changed, &pool->lock, OPB_FOREVER);
    }
    pthread_mutex_unlock(&pool->lock);
}

/* The next hosts are of no use. Their lanes stay open until they are dead: they would end
 * with them, and say so. */
static void
give_up(struct opb_pool *pool)
{
    struct opb_session *sessions[OPB_MAX_WORKERS];
    uint64_t deadline_ms;
    bool is_logged;
    bool is_over;
    char text[sizeof(pool->next_failure)];

    pthread_mutex_lock(&pool->lock);
    is_over = pool->is_reload_over;
    pool->is_broken = true; /* as far as anybody knows */
    fail_next(pool, "A host of the next generation has ended", false);
    is_logged = pool->is_failure_logged;
    memcpy(text, pool->next_failure, sizeof(text));
    pthread_mutex_unlock(&pool->lock);
    opb_pool_wake(pool);
    if (!is_over) {
        opb_reload_log_failure(pool, text, is_logged);
    }
    await_loads(pool);
    deadline_ms = opb_deadline_ms(KILL_MS);
    for (uint32_t i = 0; i < pool->place_count; i++) {
        struct opb_place *place = &pool->places[i]; /* its next is this thread's now */

        if (place->next != NULL) {
            (void)opb_session_wait_death(place->next, deadline_ms);
            opb_load_close_lane(place->next, &place->next_lane);
        }
    }
    pthread_mutex_lock(&pool->lock);
    opb_next_take_all(pool, sessions);
    if (pool->step == OPB_STEP_LOADING) {
        opb_reload_end(pool, is_over ? OPB_RELOAD_STOPPING : OPB_RELOAD_FAILED, text);
    }
    pthread_mutex_unlock(&pool->lock);
    opb_next_drop_all(pool, sessions, OPB_COULD_NOT_LOAD);
    opb_pool_wake(pool);
}

static void
end_leftovers(struct opb_pool *pool, struct leftovers *left)
{
    for (uint32_t i = 0; i < pool->place_count; i++) {
        opb_session_unref(left->arrived[i]);
        if (left->unneeded[i] != NULL) {
            opb_pool_drop_session(pool, left->unneeded[i], OPB_NOT_NEEDED);
        }
        if (left->retired[i] != NULL && left->retired[i]->session != NULL) {
            opb_retired_begin(left->retired[i]);
        }
        else {
            free(left->retired[i]);
        }
    }
}

/* The primary's next host is not even loaded. */
static void
leave_unloaded(struct opb_pool *pool, const char *why)
{
    pthread_mutex_lock(&pool->lock);
    pool->places[0].next_state = OPB_NEXT_FAILED;
    fail_next(pool, why, false);
    pthread_mutex_unlock(&pool->lock);
}

/* The primary's thread: the whole of loading. */
static void
load_generation(struct opb_pool *pool)
{
    struct leftovers *left = calloc(1, sizeof(*left));
    bool has_memory = left != NULL;
    bool is_done = false;
    char *files = NULL;
    uint32_t count;

    pthread_mutex_lock(&pool->lock);
    count = pool->next_count;
    pthread_mutex_unlock(&pool->lock);
    for (uint32_t i = 0; i < pool->place_count && has_memory; i++) {
        left->retired[i] = calloc(1, sizeof(*left->retired[i]));
        has_memory = left->retired[i] != NULL;
        if (has_memory) {
            left->retired[i]->pool = pool;
        }
    }
    if (has_memory) {
        left->count_before = opb_pool_worker_count(pool);
        left->is_replacing = pool->node->config->reload_replaces;
        if (!left->is_replacing || opb_generation_replace(pool, count)) {
            load_next(&pool->places[0], NULL, &files);
            is_done = await_followers(pool, count) && take_over(pool, count, left);
        }
        else {
            leave_unloaded(pool, "The generation before could not be ended for it: a host "
                                 "of the next one has died, or there is no memory");
        }
    }
    else {
        leave_unloaded(pool, "There is no memory for another generation");
    }
    if (is_done) {
        opb_log_warning("Generation %llu is running %s (host pid %ld)",
                        (unsigned long long)left->generation,
                        pool->node->config->script_path, (long)left->pid);
        if (count != left->count_before) {
            opb_log_warning("The pool gives this server %u of the %u hosts of the "
                            "configuration option \"Python.Workers\" now",
                            (unsigned)count, (unsigned)pool->node->config->workers);
        }
        opb_pool_set_files(pool, files);
        files = NULL;
        opb_routes_look_for_late(pool->node->routes);
    }
    else {
        give_up(pool);
    }
    if (left != NULL) {
        end_leftovers(pool, left);
    }
    free(left);
    free(files);
}

bool
opb_generation_is_due(const struct opb_place *place)
{
    const struct opb_pool *pool = place->pool;

    return pool->step == OPB_STEP_LOADING && place->next_state == OPB_NEXT_HERE &&
           !pool->has_next_failed && (place->worker == 0 || pool->is_lead_loaded);
}

void
opb_generation_load(struct opb_place *place)
{
    if (place->worker == 0) {
        load_generation(place->pool);
    }
    else { /* the primary's thread keeps its session meanwhile */
        load_next(place, place->pool->places[0].next, NULL);
    }
}
