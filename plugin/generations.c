/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/generations.c - the next generation of hosts beside the old one, and its end
 *
 * Here:      the steps of a reload: asked (any thread), starting (supervisor thread),
 *            loading and the switch (loader thread).
 * Elsewhere: the end of the one that has lost its place (retire.c), sessions and tables
 * that change hands (session.c, routes.c), events around it (events.c), what the pool does
 * (worker/supervisor/hosts.c).
 *
 * Nothing that serves is touched before the switch, and after it nothing can fail.
 */
#include "plugin/pool_state.h"

#include "plugin/call.h"
#include "plugin/events.h"
#include "plugin/load.h"
#include "plugin/log.h"
#include "plugin/routes.h"
#include "plugin/service.h"
#include "plugin/threads.h"
#include "protocol/limits.h"
#include "protocol/sockets.h"
#include "protocol/words.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEND_MS       1000u
#define WAIT_STEP_MS  100u
#define EXIT_GRACE_MS 2000u  /* for a host that has finished */
#define KILL_MS       6000u  /* for the pool to kill a host, and to say so */
#define SPARE_MS      15000u /* for what has short limits of its own */

/* With the lock held. */
static void
end_reload(struct opb_pool *pool, enum opb_reload_outcome outcome, const char *text)
{
    pool->step = OPB_STEP_NONE;
    pool->next_host = 0;
    pool->reload.outcome = outcome;
    pool->reload.generation = pool->generation;
    pool->reload.pid = pool->host != NULL ? opb_session_pid(pool->host) : 0;
    (void)snprintf(pool->reload.text, sizeof(pool->reload.text), "%s",
                   text); /* cut if it does not fit */
    pool->reload_count++;
    pthread_cond_broadcast(&pool->changed);
}

/* Logs one sentence; is_logged: it is in the log already. No lock is held. */
static void
log_failure(const struct opb_pool *pool, const char *text, bool is_logged)
{
    if (!is_logged) {
        opb_log_error("%s", text);
    }
    opb_log_error("The next generation of %s could not be started: the one before goes on",
                  pool->node->config->script_path);
}

void
opb_pool_reload(struct opb_pool *pool, struct opb_reload *out)
{
    const struct opb_config *config = pool->node->config;
    uint64_t deadline_ms =
        opb_deadline_ms((uint64_t)config->start_timeout_ms * 2 + config->reload_timeout_ms +
                        config->drain_timeout_ms + config->stop_timeout_ms + SPARE_MS);
    enum opb_status status = OPB_OK;
    uint64_t count;

    memset(out, 0, sizeof(*out));
    pthread_mutex_lock(&pool->lock);
    out->generation = pool->generation;
    if (pool->is_reload_over || pool->is_starting) {
        out->outcome = OPB_RELOAD_STOPPING;
    }
    else if (pool->step != OPB_STEP_NONE) {
        out->outcome = OPB_RELOAD_BUSY;
    }
    else {
        pool->step = OPB_STEP_ASKED;
        count = pool->reload_count;
        opb_pool_wake(pool);
        while (pool->reload_count == count && status == OPB_OK) {
            status = opb_condition_wait(&pool->changed, &pool->lock, deadline_ms);
        }
        if (pool->reload_count == count) { /* a new host in the place of a dead one */
            out->outcome = OPB_RELOAD_FAILED;
            (void)snprintf(out->text, sizeof(out->text),
                           "It waits for another host that imports the script");
        }
        else {
            *out = pool->reload;
        }
    }
    pthread_mutex_unlock(&pool->lock);
}

void
opb_pool_request_reload(struct opb_pool *pool, const char *why)
{
    pthread_mutex_lock(&pool->lock);
    pool->reload_wanted = pool->is_reload_over ? NULL : why;
    pthread_mutex_unlock(&pool->lock);
    opb_pool_wake(pool);
}

void
opb_pool_reload_news(void *context)
{
    opb_pool_request_reload(context, "The worker was sent SIGHUP");
}

void
opb_pool_stop_reloads(struct opb_pool *pool)
{
    struct opb_session *next = NULL;

    if (pool == NULL) {
        return;
    }
    pthread_mutex_lock(&pool->lock);
    pool->is_reload_over = true;
    pool->reload_wanted = NULL;
    if (pool->next != NULL) {
        next = opb_session_ref(pool->next);
    }
    if (pool->step != OPB_STEP_NONE && (next == NULL || pool->is_next_here)) {
        pool->is_next_here = false; /* opb_generation_stop() drops it */
        end_reload(pool, OPB_RELOAD_STOPPING, "Orthanc stops");
    }
    pthread_mutex_unlock(&pool->lock);
    if (next != NULL) { /* which ends its Load */
        opb_session_end(next, "was ended, since the server stops");
        opb_session_unref(next);
    }
}

void
opb_pool_next_started(void *context, uint32_t host, pid_t pid)
{
    struct opb_pool *pool = context;
    struct opb_session *session = NULL;
    bool is_wanted;

    if (pid != 0 && !opb_pool_admit(pool, pid)) {
        return;
    }
    if (pid != 0 && opb_session_new(&session, pool->node, host, pid) != OPB_OK) {
        session = NULL;
    }
    if (session != NULL) {
        opb_services_allow(pool->node->services, session);
    }
    pthread_mutex_lock(&pool->lock);
    is_wanted = pool->step == OPB_STEP_STARTING && pool->next_host == 0;
    if (is_wanted) {
        pool->next_host = host; /* pid 0: its death comes with the reason */
    }
    if (is_wanted && session != NULL) {
        pool->next = opb_session_ref(session);
        pool->is_next_here = true;
        pool->step = OPB_STEP_LOADING;
        pthread_cond_broadcast(&pool->changed);
    }
    else if (pid != 0) {
        opb_pool_doom(pool, host, OPB_NOT_NEEDED);
    }
    pthread_mutex_unlock(&pool->lock);
    if (is_wanted && session != NULL) {
        opb_log_info("Host %u has started (pid %ld), for the next generation", host,
                     (long)pid);
        opb_session_unref(session);
    }
    else if (session != NULL) {
        opb_pool_drop_session(pool, session, OPB_NOT_NEEDED);
    }
    opb_pool_wake(pool);
}

void
opb_pool_switched(void *context, uint32_t host)
{
    struct opb_pool *pool = context;

    pthread_mutex_lock(&pool->lock);
    if (pool->switching_host == host) {
        pool->switching_host = 0;
    }
    pthread_mutex_unlock(&pool->lock);
    opb_pool_wake(pool); /* another reload may be waiting for it */
}

bool
opb_pool_is_session_of(const struct opb_session *session, uint32_t host, pid_t pid)
{
    return session != NULL && opb_session_host(session) == host &&
           opb_session_pid(session) == pid;
}

bool
opb_generation_host_died(struct opb_pool *pool, uint32_t host, pid_t pid,
                         const char *reason)
{
    struct opb_session *session = NULL;
    bool has_failed = false;
    bool is_next;

    pthread_mutex_lock(&pool->lock);
    is_next = opb_pool_is_session_of(pool->next, host, pid);
    if (is_next) {
        session = opb_session_ref(pool->next);
    }
    else if (pool->step == OPB_STEP_STARTING && pool->next_host == host && pid == 0) {
        has_failed = true;
        end_reload(pool, OPB_RELOAD_FAILED, reason);
    }
    pthread_mutex_unlock(&pool->lock);
    if (has_failed) {
        opb_log_error("A host for the next generation %s", reason);
        log_failure(pool, "", true);
        return true;
    }
    if (session == NULL) {
        session = opb_retired_find(pool, host, pid);
    }
    if (session == NULL) {
        return strcmp(reason, OPB_NOT_NEEDED) == 0 ||
               strcmp(reason, OPB_NOT_FINISHED) == 0; /* we have ended it, unseen */
    }
    opb_log_info("The host (pid %ld) of %s generation %s", (long)pid,
                 is_next ? "the next" : "an earlier", reason);
    opb_session_end(session, reason); /* who waits for it goes on */
    opb_session_unref(session);
    return true;
}

void
opb_generation_lose(struct opb_pool *pool, const char *reason)
{
    struct opb_session *sessions[OPB_POOL_RETIRED + 1];
    uint32_t count = 0;

    pthread_mutex_lock(&pool->lock);
    if (pool->next != NULL) {
        sessions[count++] = opb_session_ref(pool->next);
    }
    else if (pool->step != OPB_STEP_NONE) {
        end_reload(pool, OPB_RELOAD_FAILED, "The worker has ended");
    }
    for (struct opb_retired *each = pool->retired; each != NULL; each = each->next) {
        if (each->session != NULL && count <= OPB_POOL_RETIRED) {
            sessions[count++] = opb_session_ref(each->session);
        }
    }
    pool->switch_host = 0;
    pool->switching_host = 0;
    pthread_mutex_unlock(&pool->lock);
    for (uint32_t i = 0; i < count; i++) {
        opb_session_end(sessions[i], reason);
        opb_services_disallow(pool->node->services, sessions[i]);
        opb_session_unref(sessions[i]);
    }
    pthread_mutex_lock(&pool->lock);
    pool->doomed_count = 0; /* for a dead session nobody asks again */
    pthread_mutex_unlock(&pool->lock);
}

/* With the lock held. True if the pool is to be asked for a host now. */
static bool
begin_reload(struct opb_pool *pool, const char **why)
{
    *why = NULL;
    if (pool->is_reload_over || pool->is_starting) {
        pool->reload_wanted = NULL;
    }
    if (pool->step == OPB_STEP_NONE && pool->reload_wanted != NULL) {
        *why = pool->reload_wanted;
        pool->reload_wanted = NULL;
        pool->step = OPB_STEP_ASKED;
    }
    if (pool->step != OPB_STEP_ASKED || pool->retired_count >= OPB_POOL_RETIRED ||
        pool->switching_host != 0) {
        return false; /* comes again when one of them has ended */
    }
    pool->step = OPB_STEP_STARTING;
    pool->step_end_ms = opb_deadline_ms(pool->node->config->start_timeout_ms);
    return true;
}

enum opb_status
opb_generation_step(struct opb_pool *pool)
{
    enum opb_status status = OPB_OK;
    uint32_t switch_host;
    bool is_late;
    bool is_asking;
    const char *why;

    opb_retired_reap(pool, false);
    pthread_mutex_lock(&pool->lock);
    is_late = pool->step == OPB_STEP_STARTING && pool->step_end_ms <= opb_clock_ms();
    if (is_late) {
        end_reload(pool, OPB_RELOAD_FAILED, "The worker has started no host in time");
    }
    is_asking = begin_reload(pool, &why);
    switch_host = pool->switch_host;
    pool->switch_host = 0;
    pthread_mutex_unlock(&pool->lock);
    if (is_late) {
        log_failure(pool, "The worker has started no host in time", false);
    }
    if (why != NULL) {
        opb_log_warning("%s: the script is loaded again", why);
    }
    if (switch_host != 0) {
        status = opb_control_switch(pool->control, switch_host, opb_deadline_ms(SEND_MS));
    }
    if (status == OPB_OK && is_asking) {
        status = opb_control_start_next(pool->control, opb_deadline_ms(SEND_MS));
    }
    return status;
}

uint64_t
opb_generation_next_ms(struct opb_pool *pool)
{
    uint64_t next_ms = OPB_FOREVER;

    pthread_mutex_lock(&pool->lock);
    if (pool->step == OPB_STEP_STARTING) {
        next_ms = pool->step_end_ms;
    }
    pthread_mutex_unlock(&pool->lock);
    return next_ms;
}

/* Lets the next host, loaded, take over. Takes *lane and fills retired on success. A host
 * that the pool has started meanwhile is of no use: *unneeded. */
static bool
take_over(struct opb_pool *pool, struct opb_session *session, struct opb_lane **lane,
          struct opb_retired *retired, struct opb_session **unneeded, uint64_t *generation)
{
    struct opb_node *node = pool->node;
    struct opb_switch change = {.next = session};
    struct opb_session *arrived = NULL;
    bool is_done;

    pthread_mutex_lock(&pool->lock);
    change.old = pool->is_loaded ? pool->main_session : NULL;
    pthread_mutex_unlock(&pool->lock); /* only this thread changes it */
    change.next_listens =
        opb_routes_session_has(node->routes, session, OPB_CALL_CHANGE_INDEX);
    change.old_listens =
        change.old != NULL &&
        opb_routes_session_has(node->routes, change.old, OPB_CALL_CHANGE_INDEX);
    opb_routes_narrow(node->routes, session);
    pthread_mutex_lock(&pool->lock);
    is_done = !pool->is_reload_over && !pool->is_stopping &&
              opb_events_switch(node->events, &change, &retired->switch_number);
    if (is_done) {
        *unneeded = pool->host != pool->main_session ? pool->host : NULL;
        if (pool->host != NULL && *unneeded == NULL) {
            opb_session_unref(pool->host); /* main_session holds another */
        }
        arrived = pool->arrived;
        pool->arrived = NULL;
        pool->host = pool->next;
        pool->next = NULL;
        retired->session = pool->main_session;
        retired->main_lane = pool->main_lane;
        retired->next = pool->retired; /* found there when the worker is lost */
        pool->retired = retired;
        pool->retired_count++;
        pool->main_session = opb_session_ref(session);
        pool->main_lane = *lane;
        *lane = NULL;
        *generation = pool->generation + 1;
        pool->is_loaded = true;
        pool->switch_host = opb_session_host(session);
        pool->switching_host = pool->switch_host;
        pool->generation++;
        if (*unneeded != NULL) {
            opb_pool_doom(pool, opb_session_host(*unneeded), OPB_NOT_NEEDED);
        }
        end_reload(pool, OPB_RELOAD_DONE, "");
    }
    pthread_mutex_unlock(&pool->lock);
    opb_session_unref(arrived);
    opb_routes_commit(node->routes, is_done ? session : change.old);
    opb_pool_wake(pool);
    return is_done;
}

/* The next host is of no use. Its lane stays open until it is dead: it would end with it,
 * and say so. Takes *lane. */
static void
give_up(struct opb_pool *pool, struct opb_session *session, struct opb_lane **lane,
        const char *text, bool is_logged)
{
    struct opb_session *next;
    bool is_over;

    pthread_mutex_lock(&pool->lock);
    is_over = pool->is_reload_over;
    pool->is_broken = true;
    pthread_mutex_unlock(&pool->lock);
    opb_pool_doom_session(pool, session, OPB_COULD_NOT_LOAD);
    if (!is_over) {
        log_failure(pool, text, is_logged);
    }
    (void)opb_session_wait_death(session, opb_deadline_ms(KILL_MS));
    opb_load_close_lane(session, lane);
    pthread_mutex_lock(&pool->lock);
    next = pool->next;
    pool->next = NULL;
    if (pool->step == OPB_STEP_LOADING) {
        end_reload(pool, is_over ? OPB_RELOAD_STOPPING : OPB_RELOAD_FAILED, text);
    }
    pthread_mutex_unlock(&pool->lock);
    if (next != NULL) {
        opb_pool_drop_session(pool, next, OPB_COULD_NOT_LOAD);
    }
    opb_pool_wake(pool);
}

void
opb_generation_load(struct opb_pool *pool, struct opb_session *session)
{
    struct opb_node *node = pool->node;
    struct opb_retired *retired = calloc(1, sizeof(*retired));
    struct opb_session *unneeded = NULL;
    uint64_t generation = 0;
    char *files = NULL;
    struct opb_lane *lane = NULL;
    char node_socket[sizeof(pool->node_socket)];
    char text[sizeof(pool->reload.text)] = "";
    enum opb_status status = OPB_NO_MEMORY;
    bool is_logged = false;

    pthread_mutex_lock(&pool->lock);
    memcpy(node_socket, pool->node_socket, sizeof(node_socket));
    pthread_mutex_unlock(&pool->lock);
    if (retired == NULL) {
        (void)snprintf(text, sizeof(text), "There is no memory for another generation");
    }
    else {
        retired->pool = pool;
        opb_routes_begin(node->routes, session);
        status = opb_load_run(session, pool->orthanc_path, node_socket,
                              opb_deadline_ms(node->config->reload_timeout_ms), &lane,
                              &is_logged, &files, text, sizeof(text));
    }
    if (status == OPB_OK &&
        take_over(pool, session, &lane, retired, &unneeded, &generation)) {
        opb_log_warning("Generation %llu is running %s (host pid %ld)",
                        (unsigned long long)generation, node->config->script_path,
                        (long)opb_session_pid(session));
        if (unneeded != NULL) {
            opb_pool_drop_session(pool, unneeded, OPB_NOT_NEEDED);
        }
        opb_pool_set_files(pool, files);
        files = NULL;
        opb_retired_begin(retired);
        retired = NULL;
    }
    else {
        if (status == OPB_OK) {
            (void)snprintf(text, sizeof(text),
                           "The host (pid %ld) of the next generation has ended",
                           (long)opb_session_pid(session));
        }
        give_up(pool, session, &lane, text, is_logged);
    }
    free(files);
    free(retired);
    opb_session_unref(session);
}

void
opb_generation_stop(struct opb_pool *pool)
{
    struct opb_session *next;

    pthread_mutex_lock(&pool->lock);
    next = pool->next;
    pool->next = NULL;
    pthread_mutex_unlock(&pool->lock);
    if (next != NULL) {
        opb_pool_drop_session(pool, next, "was ended, since the server stops");
    }
    opb_retired_reap(pool, true);
}
