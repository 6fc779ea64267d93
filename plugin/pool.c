/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/pool.c - the worker daemon, from the node's side: start, later hosts, stop
 *
 * Here:      the order of things in Initialize and Finalize, and the loader thread, which
 *            loads the script in every host but the first.
 * Elsewhere: one run of the daemon (launch.c), its supervision (supervise.c), the calls
 * Load and Finalize (load.c), the next generation (generations.c).
 *
 * The first host is loaded on Orthanc's own thread, as registrations with Orthanc must be
 * made there; the supervisor thread runs by then, so that service lanes are served.
 */
#include "plugin/pool.h"

#include "plugin/call.h"
#include "plugin/load.h"
#include "plugin/log.h"
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

#define SEND_MS       2000u
#define EXIT_GRACE_MS 2000u /* for a host that has finished */
#define END_MS        6000u /* for others: the pool's SIGTERM and SIGKILL come 2 s apart */

/* Keeps the main lane of a host, which may be NULL; it takes the place of an older one.
 * Takes *lane. */
static void
keep_main_lane(struct opb_pool *pool, struct opb_session *session, struct opb_lane **lane,
               bool is_loaded)
{
    struct opb_session *old_session;
    struct opb_lane *old_lane;

    if (session != NULL) {
        (void)opb_session_ref(session); /* the same session */
    }
    pthread_mutex_lock(&pool->lock);
    old_session = pool->main_session;
    old_lane = pool->main_lane;
    pool->main_session = session;
    pool->main_lane = *lane;
    pool->is_loaded = is_loaded;
    pthread_mutex_unlock(&pool->lock);
    *lane = NULL;
    if (old_session != NULL) {
        opb_load_close_lane(old_session, &old_lane);
        opb_session_unref(old_session);
    }
}

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

/* *is_logged: message is in the log already. */
static enum opb_status
load_host(struct opb_pool *pool, struct opb_session *session, bool *is_logged,
          char *message, size_t capacity)
{
    struct opb_node *node = pool->node;
    char node_socket[sizeof(pool->node_socket)];
    struct opb_lane *lane;
    char *files;
    enum opb_status status;

    pthread_mutex_lock(&pool->lock);
    memcpy(node_socket, pool->node_socket, sizeof(node_socket));
    pthread_mutex_unlock(&pool->lock);
    opb_routes_begin(node->routes, session);
    status = opb_load_run(session, pool->orthanc_path, node_socket, OPB_FOREVER, &lane,
                          is_logged, &files, message, capacity);
    if (status == OPB_OK) {
        opb_routes_commit(node->routes, session);
        opb_pool_set_files(pool, files);
    }
    keep_main_lane(pool, session, &lane, status == OPB_OK);
    if (status == OPB_OK) {
        (void)opb_session_activate(session); /* if it has died, its death is on its way */
    }
    else {
        opb_routes_forget(node->routes, session);
    }
    return status;
}

/* A host after the first: failures are logged, and another host is asked for. */
static void
load_later_host(struct opb_pool *pool, struct opb_session *session)
{
    char message[OPB_POOL_TEXT_BYTES];
    enum opb_status status;
    bool is_stopping;
    bool is_logged;

    status = load_host(pool, session, &is_logged, message, sizeof(message));
    if (status == OPB_OK) {
        opb_log_warning("The new host (pid %ld) is running %s",
                        (long)opb_session_pid(session), pool->node->config->script_path);
        return;
    }
    pthread_mutex_lock(&pool->lock);
    pool->is_broken = true;
    is_stopping = pool->is_stopping;
    if (!is_stopping && status != OPB_GONE && !opb_session_is_dead(session)) {
        opb_pool_doom(pool, opb_session_host(session), OPB_COULD_NOT_LOAD);
    }
    pthread_mutex_unlock(&pool->lock);
    if (is_stopping) {
        return;
    }
    if (message[0] != '\0' && !is_logged) {
        opb_log_error("%s", message);
    }
    opb_log_error(
        "The new host (pid %ld) could not load %s: no call is served until another can",
        (long)opb_session_pid(session), pool->node->config->script_path);
    opb_pool_wake(pool);
}

static void *
run_loader(void *argument)
{
    struct opb_pool *pool = argument;

    opb_call_mark_own_thread();
    pthread_mutex_lock(&pool->lock);
    while (!pool->is_stopping) {
        struct opb_session *session = pool->arrived;

        if (session == NULL &&
            pool->is_next_here) { /* a host is needed more than another */
            pool->is_next_here = false;
            session = opb_session_ref(pool->next);
            pthread_mutex_unlock(&pool->lock);
            opb_generation_load(pool, session);
            pthread_mutex_lock(&pool->lock);
            continue;
        }
        if (session == NULL) {
            (void)opb_condition_wait(&pool->changed, &pool->lock, OPB_FOREVER);
            continue;
        }
        pool->arrived = NULL;
        pthread_mutex_unlock(&pool->lock);
        load_later_host(pool, session);
        opb_session_unref(session);
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
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
                                           .switched = opb_pool_switched,
                                           .reload = opb_pool_reload_news,
                                           .leaving = opb_pool_leaving_news,
                                           .context = pool};
    pool->relaunch_ms = OPB_FOREVER;
    pool->hung_end_ms = OPB_FOREVER;
    pool->calls_end_ms = OPB_FOREVER;
    pool->is_starting = true;
    pool->generation = 1;
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
    free(pool);
    return status;
}

/* Waits for the first host. Gives a reference. */
static enum opb_status
await_first_host(struct opb_pool *pool, struct opb_session **out, char *message,
                 size_t capacity)
{
    uint32_t timeout_ms = pool->node->config->start_timeout_ms;
    uint64_t deadline_ms = opb_deadline_ms(timeout_ms);
    enum opb_status status = OPB_OK;

    pthread_mutex_lock(&pool->lock);
    while (pool->arrived == NULL && pool->failure[0] == '\0' && status == OPB_OK) {
        status = opb_condition_wait(&pool->changed, &pool->lock, deadline_ms);
    }
    *out = pool->arrived;
    pool->arrived = NULL;
    if (*out != NULL) {
        status = OPB_OK;
    }
    else if (pool->failure[0] != '\0') {
        (void)snprintf(message, capacity, "%s", pool->failure); /* cut if it does not fit */
        status = OPB_GONE;
    }
    else {
        /* cut if it does not fit */
        (void)snprintf(
            message, capacity,
            "The worker has started no host within %u ms: if this machine is very "
            "slow, raise the configuration option \"Python.StartTimeout\"",
            timeout_ms);
    }
    pthread_mutex_unlock(&pool->lock);
    return status;
}

static enum opb_status
load_first_host(struct opb_pool *pool, char *message, size_t capacity)
{
    struct opb_session *session;
    enum opb_status status;
    bool is_logged;

    status = await_first_host(pool, &session, message, capacity);
    if (status != OPB_OK) {
        return status;
    }
    status = load_host(pool, session, &is_logged, message, capacity);
    if (is_logged) {
        message[0] = '\0';
    }
    opb_session_unref(session);
    return status;
}

/* From now on the death of a host is an event of every day. */
static void
end_start(struct opb_pool *pool)
{
    bool is_gone;

    pthread_mutex_lock(&pool->lock);
    pool->is_starting = false;
    is_gone = pool->host == NULL;
    pthread_mutex_unlock(&pool->lock);
    if (is_gone && pool->failure[0] != '\0') {
        opb_log_error("%s; a new one is being started", pool->failure);
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

/* A host that is loading ends at once; the one that is loaded stays for Finalize. */
static void
stop_loader(struct opb_pool *pool)
{
    struct opb_session *loading = NULL;

    opb_pool_stop_reloads(pool);
    pthread_mutex_lock(&pool->lock);
    pool->is_stopping = true;
    if (pool->host != NULL && pool->host != pool->main_session) {
        loading = opb_session_ref(pool->host);
    }
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
    opb_pool_wake(pool); /* it may be waiting for a new daemon */
    if (loading != NULL) {
        opb_session_end(loading, "was ended, since the server stops");
        opb_session_unref(loading);
    }
    if (pool->has_loader) {
        opb_own_thread_join(pool->loader,
                            "an SDK call of the script, which is being imported");
        pool->has_loader = false;
    }
}

static void
release(struct opb_pool *pool)
{
    struct opb_node *node = pool->node;
    struct opb_lane *no_lane = NULL;

    opb_pool_end_host(pool, "was ended, since the server stops");
    opb_generation_lose(pool, "was ended, since the server stops");
    keep_main_lane(pool, NULL, &no_lane, false);
    opb_services_close(node->services);
    node->services = NULL;
    free_pool(pool);
    node->pool = NULL;
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
    status = load_first_host(pool, message, capacity);
    if (status != OPB_OK) {
        goto stop_supervisor;
    }
    end_start(pool);
    status = opb_own_thread_start(&pool->loader, run_loader, pool, "PY-LOADER");
    pool->has_loader = status == OPB_OK;
    if (status == OPB_OK) {
        return OPB_OK;
    }
    (void)snprintf(message, capacity, "The loader thread cannot be started: %s",
                   strerror(errno));

stop_supervisor:
    stop_supervisor(pool);
abandon:
    opb_pool_abandon(pool, NULL, 0);
release_pool:
    release(pool);
    return status;
}

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

/* Lets the script end in its host. The pool is told before, or it would start another host
 * the moment that this one ends. */
static void
finalize(struct opb_pool *pool)
{
    uint64_t deadline_ms = opb_deadline_ms(pool->node->config->stop_timeout_ms);
    struct opb_session *session;
    bool has_finished;

    pthread_mutex_lock(&pool->lock);
    session = pool->is_loaded ? pool->main_session : NULL;
    pool->is_detach_wanted = true;
    pthread_mutex_unlock(&pool->lock);
    if (session == NULL || opb_session_is_dead(session)) {
        return;
    }
    opb_pool_wake(pool);
    if (!await_flag(pool, &pool->is_detach_sent, SEND_MS)) {
        opb_log_warning("The worker could not be told in time that the server stops");
    }
    has_finished = opb_load_finalize(session, pool->main_lane, deadline_ms);
    if (!await_flag(pool, &pool->is_detached, has_finished ? EXIT_GRACE_MS : END_MS)) {
        opb_log_warning("The host (pid %ld) does not end: killing it",
                        (long)opb_session_pid(session));
    }
}

void
opb_pool_stop(struct opb_node *node)
{
    struct opb_pool *pool = node->pool;

    if (pool == NULL) {
        return;
    }
    stop_loader(pool);
    opb_generation_stop(pool);
    finalize(pool);
    stop_supervisor(pool);
    opb_pool_dismiss(pool);
    release(pool);
}
