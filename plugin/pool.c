/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/pool.c - the worker daemon, from the node's side: start and stop
 *
 * Here:      the order of things in Initialize and Finalize.
 * Elsewhere: one run of the daemon (launch.c), its supervision (supervise.c), loading and
 *            finishing the script (loader.c, finish.c), the next generation
 *            (generations.c).
 *
 * The first host is loaded on Orthanc's own thread, as registrations with Orthanc must be
 * made there; the supervisor thread runs by then, so that service lanes are served. The
 * other hosts of the generation follow, all at the same time, and must register the same.
 */
#include "plugin/pool.h"

#include "plugin/log.h"
#include "plugin/look.h"
#include "plugin/pool_state.h"
#include "plugin/pool_user.h"
#include "plugin/routes.h"
#include "plugin/service.h"
#include "plugin/threads.h"
#include "protocol/limits.h"
#include "protocol/sockets.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

void
opb_pool_drop_session(struct opb_pool *pool, struct opb_session *session,
                      const char *reason)
{
    opb_session_end(session, reason);
    opb_services_disallow(pool->node->services, session);
    opb_routes_forget(pool->node->routes, session);
    opb_session_unref(session);
}

void
opb_pool_set_files(struct opb_pool *pool, char *files)
{
    char *before;

    pthread_mutex_lock(&pool->lock);
    before = pool->files;
    pool->files = files;
    pool->is_broken = false;
    pthread_mutex_unlock(&pool->lock);
    free(before);
    opb_pool_wake(pool);
}

static void
free_pool(struct opb_pool *pool)
{
    if (pool->wake_fd >= 0) {
        (void)close(pool->wake_fd); /* holds no data */
    }
    (void)pthread_cond_destroy(&pool->changed); /* nobody waits any more */
    (void)pthread_mutex_destroy(&pool->lock);   /* nor holds it */
    opb_recycler_free(pool->recycler);
    opb_watch_free(pool->watch);
    free(pool->places);
    opb_scripts_unref(pool->next_scripts);
    free(pool->files);
    free(pool->orthanc_path);
    free(pool);
}

static enum opb_status
find_orthanc(struct opb_pool *pool)
{
    char *path = OrthancPluginGetOrthancPath(pool->node->context);

    if (path != NULL) {
        pool->orthanc_path = strdup(path);
        OrthancPluginFreeString(pool->node->context, path);
    }
    else {
        pool->orthanc_path = strdup("");
    }
    return pool->orthanc_path == NULL ? OPB_NO_MEMORY : OPB_OK;
}

/* Without it, everything else works. */
static void
watch_files(struct opb_pool *pool)
{
    if (pool->node->config->reload_on_change && opb_watch_new(&pool->watch) != OPB_OK) {
        opb_log_warning("The files of the script cannot be watched "
                        "(Python.ReloadOnChange): %s",
                        strerror(errno));
    }
    if (pool->watch != NULL && pool->node->config->script_directory != NULL) {
        opb_watch_scripts(pool->watch, pool->node->config->script_directory);
    }
}

/* As it is to be called. */
static void
name_node(struct opb_node *node)
{
    if (node->config->node_name != NULL) { /* fits: the configuration was checked */
        (void)snprintf(node->name, sizeof(node->name), "%s", node->config->node_name);
    }
    else {
        (void)snprintf(node->name, sizeof(node->name), "orthanc-%ld", (long)getpid());
    }
}

static enum opb_status
new_pool(struct opb_pool **out, struct opb_node *node)
{
    struct opb_pool *pool;
    enum opb_status status = OPB_NO_MEMORY;

    *out = NULL;
    pool = calloc(1, sizeof(*pool));
    if (pool == NULL) {
        return OPB_NO_MEMORY;
    }
    pool->node = node;
    pool->news = (struct opb_control_news){.host_started = opb_pool_host_started,
                                           .host_died = opb_pool_host_died,
                                           .next_started = opb_pool_next_started,
                                           .next_count = opb_pool_next_count_news,
                                           .switched = opb_pool_switched,
                                           .reload = opb_pool_reload_news,
                                           .looked = opb_look_news,
                                           .leaving = opb_pool_leaving_news,
                                           .context = pool};
    pool->relaunch_ms = OPB_FOREVER;
    pool->calls_end_ms = OPB_FOREVER;
    pool->is_starting = true;
    pool->generation = 1;
    pool->place_count = node->config->workers;
    pool->places = calloc(pool->place_count, sizeof(pool->places[0]));
    if (pool->places == NULL) {
        goto free_memory;
    }
    for (uint32_t i = 0; i < pool->place_count; i++) {
        pool->places[i] =
            (struct opb_place){.pool = pool, .worker = i, .hung_end_ms = OPB_FOREVER};
    }
    if (pthread_mutex_init(&pool->lock, NULL) != 0) {
        goto free_memory;
    }
    status = opb_condition_init(&pool->changed);
    if (status != OPB_OK) {
        goto fini_lock;
    }
    pool->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pool->recycler = opb_recycler_new();
    status = pool->wake_fd < 0        ? OPB_SYSTEM
             : pool->recycler == NULL ? OPB_NO_MEMORY
                                      : find_orthanc(pool);
    if (status == OPB_OK) {
        status = opb_random_bytes(node->secret, sizeof(node->secret));
    }
    if (status != OPB_OK) {
        free_pool(pool);
        return status;
    }
    watch_files(pool);
    name_node(node);
    *out = pool;
    return OPB_OK;

fini_lock:
    (void)pthread_mutex_destroy(&pool->lock); /* nobody can hold it */
free_memory:
    free(pool->places);
    free(pool);
    return status;
}

static bool
has_all(struct opb_pool *pool, uint32_t count)
{
    bool result = true;

    for (uint32_t i = 0; i < count; i++) {
        result = result && pool->places[i].host != NULL;
    }
    return result;
}

/* Waits for all hosts. Gives a reference to the first. */
static enum opb_status
await_hosts(struct opb_pool *pool, struct opb_session **out, char *message, size_t capacity)
{
    uint32_t timeout_ms = pool->node->config->start_timeout_ms;
    uint64_t deadline_ms = opb_deadline_ms(timeout_ms);
    uint32_t count = opb_pool_worker_count(pool);
    enum opb_status status = OPB_OK;

    *out = NULL;
    pthread_mutex_lock(&pool->lock);
    while (!has_all(pool, count) && pool->failure[0] == '\0' && status == OPB_OK) {
        status = opb_condition_wait(&pool->changed, &pool->lock, deadline_ms);
    }
    if (pool->failure[0] != '\0') {
        (void)snprintf(message, capacity, "%s", pool->failure); /* cut if it does not fit */
        status = OPB_GONE;
    }
    else if (has_all(pool, count)) {
        *out = pool->places[0].arrived;
        pool->places[0].arrived = NULL;
        status = OPB_OK;
    }
    else {
        /* cut if it does not fit */
        (void)snprintf(message, capacity,
                       "The worker has started %s within %u ms: if this machine is very "
                       "slow, raise the configuration option \"Python.StartTimeout\"",
                       count == 1 ? "no host" : "not all hosts", timeout_ms);
    }
    pthread_mutex_unlock(&pool->lock);
    return status;
}

static enum opb_status
start_loader(struct opb_place *place, char *message, size_t capacity)
{
    enum opb_status status =
        opb_own_thread_start(&place->loader, opb_place_run_loader, place, "PY-LOADER");

    place->has_loader = status == OPB_OK;
    if (status != OPB_OK) {
        (void)snprintf(message, capacity, "The loader thread cannot be started: %s",
                       strerror(errno));
    }
    return status;
}

static bool
are_all_loaded(struct opb_pool *pool, uint32_t count)
{
    bool result = true;

    for (uint32_t i = 0; i < count; i++) {
        result = result && pool->places[i].is_loaded;
    }
    return result;
}

/* The other hosts of the first generation, on their threads. */
static enum opb_status
load_followers(struct opb_pool *pool, char *message, size_t capacity)
{
    uint32_t count = opb_pool_worker_count(pool);
    enum opb_status status = OPB_OK;

    for (uint32_t i = 1; i < pool->place_count && status == OPB_OK; i++) {
        status = start_loader(&pool->places[i], message, capacity);
    }
    if (status != OPB_OK) {
        return status;
    }
    pthread_mutex_lock(&pool->lock);
    while (!are_all_loaded(pool, count) && pool->failure[0] == '\0') {
        (void)opb_condition_wait(&pool->changed, &pool->lock, OPB_FOREVER);
    }
    if (pool->failure[0] != '\0') {
        (void)snprintf(message, capacity, "%s", pool->failure); /* cut if it does not fit */
        status = OPB_GONE;
    }
    pthread_mutex_unlock(&pool->lock);
    return status;
}

static enum opb_status
load_first_hosts(struct opb_pool *pool, char *message, size_t capacity)
{
    struct opb_session *session;
    enum opb_status status;
    bool is_logged;

    status = await_hosts(pool, &session, message, capacity);
    if (status != OPB_OK) {
        return status;
    }
    status =
        opb_place_load(&pool->places[0], session, false, &is_logged, message, capacity);
    if (is_logged) {
        message[0] = '\0';
    }
    opb_session_unref(session);
    if (status == OPB_OK) {
        status = load_followers(pool, message, capacity);
    }
    return status;
}

/* From now on the death of a host is an event of every day. */
static void
end_start(struct opb_pool *pool)
{
    bool is_gone;
    pid_t pid;

    pthread_mutex_lock(&pool->lock);
    pool->is_starting = false;
    is_gone = !has_all(pool, opb_pool_worker_count(pool));
    pid = pool->places[0].host != NULL ? opb_session_pid(pool->places[0].host) : 0;
    pthread_mutex_unlock(&pool->lock);
    opb_generation_note(pool, 1, pid, "Orthanc has started", "");
    if (is_gone && pool->failure[0] != '\0') {
        opb_log_error("%s; a new one is being started", pool->failure);
        opb_pool_wake(pool); /* the pool itself may be lost (relaunch.c) */
    }
}

static enum opb_status
start_threads(struct opb_pool *pool, char *message, size_t capacity)
{
    enum opb_status status;

    status =
        opb_own_thread_start(&pool->supervisor, opb_pool_supervise, pool, "PY-SUPERVISOR");
    pool->has_supervisor = status == OPB_OK;
    if (status != OPB_OK) {
        (void)snprintf(message, capacity, "The supervisor thread cannot be started: %s",
                       strerror(errno));
    }
    return status;
}

/* Ends the threads: after this everything belongs to the calling thread. */
static void
stop_supervisor(struct opb_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->is_ended = true;
    pthread_mutex_unlock(&pool->lock);
    if (pool->has_supervisor) {
        opb_pool_wake(pool);
        opb_own_thread_join(pool->supervisor, "the supervisor thread");
        pool->has_supervisor = false;
    }
}

/* A host that is loading ends at once; those that are loaded stay for Finalize. */
static void
stop_loaders(struct opb_pool *pool)
{
    opb_pool_stop_reloads(pool);
    pthread_mutex_lock(&pool->lock);
    pool->is_stopping = true;
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
    opb_pool_wake(pool); /* it may be waiting for a new daemon */
    for (uint32_t i = 0; i < pool->place_count; i++) {
        const struct opb_place *place = &pool->places[i];
        struct opb_session *loading = NULL;

        pthread_mutex_lock(&pool->lock);
        if (place->host != NULL && place->host != place->main_session) {
            loading = opb_session_ref(place->host);
        }
        pthread_mutex_unlock(&pool->lock);
        if (loading != NULL) {
            opb_session_end(loading, "was ended, since the server stops");
            opb_session_unref(loading);
        }
    }
    for (uint32_t i = 0; i < pool->place_count; i++) {
        struct opb_place *place = &pool->places[i];

        if (place->has_loader) {
            opb_own_thread_join(place->loader,
                                "an SDK call of the script, which is being imported");
            place->has_loader = false;
        }
    }
}

/* All but the memory: a call that comes to its end may still look at the pool. */
static void
release(struct opb_pool *pool)
{
    struct opb_node *node = pool->node;

    opb_pool_end_hosts(pool, "was ended, since the server stops");
    opb_generation_lose(pool, "was ended, since the server stops");
    opb_retired_reap(pool, true); /* begun by the supervisor thread, at its end */
    for (uint32_t i = 0; i < pool->place_count; i++) {
        struct opb_lane *no_lane = NULL;
        struct opb_main_lane old;

        pthread_mutex_lock(&pool->lock);
        old = opb_place_keep_main_lane(&pool->places[i], NULL, &no_lane, false);
        pthread_mutex_unlock(&pool->lock);
        opb_main_lane_end(&old);
    }
    opb_services_close(node->services);
    node->services = NULL;
    pool->is_released = true;
}

enum opb_status
opb_pool_start(struct opb_node *node, char *message, size_t capacity)
{
    struct opb_pool *pool;
    enum opb_status status;

    message[0] = '\0';
    status = new_pool(&pool, node);
    if (status != OPB_OK) {
        (void)snprintf(message, capacity, "The worker cannot be started: %s",
                       status == OPB_SYSTEM ? strerror(errno) : opb_status_text(status));
        return status;
    }
    node->pool = pool;
    status = opb_pool_user_find(&node->pool_user, node->config, message, capacity);
    if (status == OPB_OK) {
        status = opb_pool_launch(pool, -1, message, capacity);
    }
    if (status != OPB_OK) {
        goto release_pool;
    }
    status = start_threads(pool, message, capacity);
    if (status != OPB_OK) {
        goto abandon;
    }
    status = load_first_hosts(pool, message, capacity);
    if (status != OPB_OK) {
        goto stop_threads;
    }
    end_start(pool);
    status = start_loader(&pool->places[0], message, capacity);
    if (status == OPB_OK) {
        return OPB_OK;
    }

stop_threads:
    stop_loaders(pool);
    stop_supervisor(pool);
abandon:
    opb_pool_abandon(pool, NULL, 0);
release_pool:
    release(pool);
    return status;
}

void
opb_pool_stop(struct opb_node *node)
{
    struct opb_pool *pool = node->pool;

    if (pool == NULL || pool->is_released) {
        return; /* it was never there, or its start has failed */
    }
    stop_loaders(pool);
    opb_generation_stop(pool);
    opb_pool_finish(pool);
    stop_supervisor(pool);
    opb_pool_dismiss(pool);
    release(pool);
}

void
opb_pool_free(struct opb_node *node)
{
    struct opb_pool *pool = node->pool;

    node->pool = NULL;
    if (pool != NULL) {
        free_pool(pool);
    }
}
