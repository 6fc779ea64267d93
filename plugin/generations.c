/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/generations.c - the next generation of hosts beside the old one, and its end
 *
 * Here:      the first steps of a reload: asked (any thread), starting (supervisor thread).
 * Elsewhere: loading and the switch (takeover.c), the end of the one that has lost its
 *            place (retire.c), what the pool does (worker/supervisor/hosts.c).
 *
 * Nothing that serves is touched before the switch, and after it nothing can fail.
 */
#include "plugin/pool_state.h"

#include "plugin/history.h"
#include "plugin/log.h"
#include "plugin/service.h"
#include "plugin/threads.h"
#include "protocol/sockets.h"

#include <stdio.h>
#include <string.h>

#define SEND_MS  1000u
#define SPARE_MS 15000u /* for what has short limits of its own */

void
opb_generation_note(const struct opb_pool *pool, uint64_t generation, pid_t pid,
                    const char *why, const char *failure)
{
    const struct opb_happening happening = {
        .number = generation, .pid = pid, .kind = "", .what = why, .text = failure};

    opb_history_add(pool->node->history, OPB_HISTORY_GENERATIONS, &happening);
}

void
opb_reload_end(struct opb_pool *pool, enum opb_reload_outcome outcome, const char *text)
{
    const struct opb_session *primary = pool->places[0].host;

    pool->step = OPB_STEP_NONE;
    pool->failed_host = 0;
    pool->is_lead_loaded = false;
    pool->has_next_failed = false;
    pool->reload.outcome = outcome;
    pool->reload.generation = pool->generation;
    pool->reload.is_old_gone = outcome == OPB_RELOAD_FAILED && pool->is_old_gone;
    pool->reload.pid = primary != NULL ? opb_session_pid(primary) : 0;
    (void)snprintf(pool->reload.text, sizeof(pool->reload.text), "%s",
                   text); /* cut if it does not fit */
    pool->reload_count++;
    if (outcome != OPB_RELOAD_STOPPING) {
        opb_generation_note(pool, pool->generation, pool->reload.pid, pool->reload_why,
                            text);
    }
    pthread_cond_broadcast(&pool->changed);
}

void
opb_reload_log_failure(struct opb_pool *pool, const char *text, bool is_logged)
{
    bool is_old_gone;

    pthread_mutex_lock(&pool->lock);
    is_old_gone = pool->is_old_gone;
    pthread_mutex_unlock(&pool->lock);
    if (!is_logged) {
        opb_log_error("%s", text);
    }
    if (is_old_gone) {
        opb_log_error("The next generation of %s could not be started, and the one before "
                      "has ended (Python.Reload is \"replace\"): no call is served until a "
                      "host has loaded the script; it is tried again and again",
                      pool->node->config->script_path);
    }
    else {
        opb_log_error(
            "The next generation of %s could not be started: the one before goes on",
            pool->node->config->script_path);
    }
}

void
opb_pool_reload(struct opb_pool *pool, struct opb_reload *out)
{
    const struct opb_config *config = pool->node->config;
    uint64_t deadline_ms = opb_deadline_ms(
        (uint64_t)config->start_timeout_ms * 2 + (uint64_t)config->reload_timeout_ms * 2 +
        config->drain_timeout_ms + (uint64_t)config->stop_timeout_ms * 2 + SPARE_MS);
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
        pool->reload_why = "It was asked for, by REST";
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

/* Whether the loader threads have begun with the next hosts. With the lock held. */
static bool
is_being_loaded(const struct opb_pool *pool)
{
    return pool->step == OPB_STEP_LOADING && pool->places[0].next_state != OPB_NEXT_HERE;
}

void
opb_next_end_session(struct opb_place *place, const char *reason)
{
    struct opb_session *next = NULL;

    pthread_mutex_lock(&place->pool->lock);
    if (place->next != NULL) {
        next = opb_session_ref(place->next);
    }
    pthread_mutex_unlock(&place->pool->lock);
    if (next != NULL) {
        opb_session_end(next, reason);
        opb_session_unref(next);
    }
}

void
opb_pool_stop_reloads(struct opb_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    pthread_mutex_lock(&pool->lock);
    pool->is_reload_over = true;
    pool->reload_wanted = NULL;
    if (pool->step != OPB_STEP_NONE && !is_being_loaded(pool)) {
        for (uint32_t i = 0; i < pool->place_count; i++) {
            pool->places[i].next_state = OPB_NEXT_NONE; /* opb_generation_stop() drops it */
        }
        opb_reload_end(pool, OPB_RELOAD_STOPPING, "Orthanc stops");
    }
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
    opb_calls_go_on(pool->node); /* replace.c waits for them no more */
    for (uint32_t i = 0; i < pool->place_count; i++) {
        opb_next_end_session(&pool->places[i], "was ended, since the server stops");
    }
}

void
opb_next_take_all(struct opb_pool *pool, struct opb_session *sessions[OPB_MAX_WORKERS])
{
    for (uint32_t i = 0; i < OPB_MAX_WORKERS; i++) {
        sessions[i] = NULL;
    }
    for (uint32_t i = 0; i < pool->place_count; i++) {
        sessions[i] = pool->places[i].next;
        pool->places[i].next = NULL;
        pool->places[i].next_state = OPB_NEXT_NONE;
    }
}

void
opb_next_drop_all(struct opb_pool *pool,
                  struct opb_session *const sessions[OPB_MAX_WORKERS], const char *reason)
{
    for (uint32_t i = 0; i < OPB_MAX_WORKERS; i++) {
        if (sessions[i] != NULL) {
            opb_pool_drop_session(pool, sessions[i], reason);
        }
    }
}

void
opb_next_doom_all(struct opb_pool *pool, const char *reason)
{
    for (uint32_t i = 0; i < pool->place_count; i++) {
        struct opb_session *next = pool->places[i].next;

        if (next != NULL && !opb_session_is_dead(next)) {
            opb_pool_doom(pool, opb_session_host(next), reason);
        }
    }
}

/* Not all next hosts could be started: ends the reload, unless it is beyond that. */
static void
fail_starting(struct opb_pool *pool, const char *text, bool is_logged)
{
    struct opb_session *sessions[OPB_MAX_WORKERS];
    bool is_failed;

    pthread_mutex_lock(&pool->lock);
    is_failed = pool->step == OPB_STEP_ASKED || pool->step == OPB_STEP_STARTING;
    if (is_failed) {
        opb_next_doom_all(pool, OPB_NOT_NEEDED);
        opb_next_take_all(pool, sessions);
        opb_reload_end(pool, OPB_RELOAD_FAILED, text);
    }
    pthread_mutex_unlock(&pool->lock);
    if (is_failed) {
        opb_next_drop_all(pool, sessions, OPB_NOT_NEEDED);
        opb_reload_log_failure(pool, text, is_logged);
        opb_pool_wake(pool);
    }
}

/* With the lock held. */
static bool
are_all_here(const struct opb_pool *pool, uint32_t count)
{
    bool result = true;

    for (uint32_t i = 0; i < count; i++) {
        result = result && pool->places[i].next_state == OPB_NEXT_HERE;
    }
    return result;
}

void
opb_pool_next_count_news(void *context, uint32_t workers)
{
    struct opb_pool *pool = context;

    pthread_mutex_lock(&pool->lock);
    if (pool->step == OPB_STEP_STARTING && workers > pool->next_count &&
        workers <= pool->place_count) {
        pool->next_count = workers;
    }
    pthread_mutex_unlock(&pool->lock);
}

void
opb_pool_next_started(void *context, uint32_t host, pid_t pid, uint32_t worker)
{
    struct opb_pool *pool = context;
    struct opb_session *session = NULL;
    uint32_t count;
    bool is_wanted;

    pthread_mutex_lock(&pool->lock);
    count = pool->next_count;
    pthread_mutex_unlock(&pool->lock);
    if (pid != 0 && !opb_pool_admit(pool, pid)) {
        return;
    }
    if (pid != 0 && worker < count &&
        opb_session_new(&session, pool->node, host, pid, worker) != OPB_OK) {
        session = NULL;
    }
    if (session != NULL) {
        opb_session_set_worker_count(session, count);
        opb_services_allow(pool->node->services, session);
    }
    pthread_mutex_lock(&pool->lock);
    is_wanted = worker < count && pool->step == OPB_STEP_STARTING &&
                pool->places[worker].next == NULL;
    if (is_wanted && pid == 0) {
        pool->failed_host = host; /* its death comes with the reason */
    }
    if (is_wanted && session != NULL) {
        pool->places[worker].next = opb_session_ref(session);
        pool->places[worker].next_state = OPB_NEXT_HERE;
        if (are_all_here(pool, count)) {
            pool->step = OPB_STEP_LOADING;
            if (pool->node->config->reload_replaces) {
                opb_generation_interrupt(pool);
            }
            pthread_cond_broadcast(&pool->changed);
        }
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
opb_generation_announce(struct opb_pool *pool, struct opb_session *const *next,
                        uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        pool->switch_hosts[i] = opb_session_host(next[i]);
    }
    pool->switch_count = count;
    pool->switching_host = pool->switch_hosts[0];
    opb_node_set_scripts(pool->node, &pool->next_scripts);
    pool->generation++;
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

/* With the lock held: a reference to the session of a next host, or NULL. */
static struct opb_session *
find_next(const struct opb_pool *pool, uint32_t host, pid_t pid)
{
    for (uint32_t i = 0; i < pool->place_count; i++) {
        if (opb_pool_is_session_of(pool->places[i].next, host, pid)) {
            return opb_session_ref(pool->places[i].next);
        }
    }
    return NULL;
}

bool
opb_generation_find_dead(struct opb_pool *pool, struct opb_dead *dead)
{
    dead->session = find_next(pool, dead->host, dead->pid);
    dead->is_next = dead->session != NULL;
    dead->is_early = dead->is_next && pool->step == OPB_STEP_STARTING;
    dead->is_unborn = !dead->is_next && pool->step == OPB_STEP_STARTING &&
                      pool->failed_host == dead->host && dead->pid == 0;
    if (!dead->is_next && !dead->is_unborn) {
        dead->session = opb_retired_find(pool, dead->host, dead->pid);
    }
    return dead->session != NULL || dead->is_unborn;
}

void
opb_generation_end_dead(struct opb_pool *pool, const struct opb_dead *dead)
{
    if (dead->is_unborn) {
        opb_log_error("A host for the next generation %s", dead->reason);
        fail_starting(pool, dead->reason, true);
        return;
    }
    opb_log_info("The host (pid %ld) of %s generation %s", (long)dead->pid,
                 dead->is_next ? "the next" : "an earlier", dead->reason);
    opb_session_end(dead->session, dead->reason); /* who waits for it goes on */
    opb_session_unref(dead->session);
    if (dead->is_early) {
        fail_starting(pool, "A host of the next generation has ended", false);
    }
}

/* With the lock held: a reference to a session that is not of the current generation, and
 * lives, or NULL. */
static struct opb_session *
find_other(const struct opb_pool *pool)
{
    for (uint32_t i = 0; i < pool->place_count; i++) {
        struct opb_session *next = pool->places[i].next;

        if (next != NULL && !opb_session_is_dead(next)) {
            return opb_session_ref(next);
        }
    }
    for (struct opb_retired *each = pool->retired; each != NULL; each = each->next) {
        if (each->session != NULL && !opb_session_is_dead(each->session)) {
            return opb_session_ref(each->session);
        }
    }
    return NULL;
}

void
opb_generation_lose(struct opb_pool *pool, const char *reason)
{
    struct opb_session *session;

    do {
        pthread_mutex_lock(&pool->lock);
        session = find_other(pool);
        pool->switch_count = 0;
        pool->switching_host = 0;
        pool->doomed_count = 0; /* for a dead session nobody asks again */
        pthread_mutex_unlock(&pool->lock);
        if (session != NULL) {
            opb_session_end(session, reason);
            opb_services_disallow(pool->node->services, session);
            opb_session_unref(session);
        }
    } while (session != NULL);
    fail_starting(pool, "The worker has ended", true);
    pthread_mutex_lock(&pool->lock);
    pool->doomed_count = 0;
    pthread_mutex_unlock(&pool->lock);
}

/* With the lock held. True if the pool is to be asked for hosts now. */
static bool
begin_reload(struct opb_pool *pool, const char **why)
{
    *why = NULL;
    if (pool->is_reload_over || pool->is_starting) {
        pool->reload_wanted = NULL;
    }
    if (pool->step == OPB_STEP_NONE && pool->reload_wanted != NULL) {
        *why = pool->reload_wanted;
        pool->reload_why = pool->reload_wanted;
        pool->reload_wanted = NULL;
        pool->step = OPB_STEP_ASKED;
    }
    if (pool->step != OPB_STEP_ASKED ||
        pool->retired_count > (OPB_POOL_RETIRED - 1) * opb_pool_worker_count(pool) ||
        pool->switching_host != 0) {
        return false; /* comes again when one of them has ended */
    }
    pool->step = OPB_STEP_STARTING;
    pool->next_count = opb_pool_worker_count(pool);
    pool->step_end_ms = opb_deadline_ms(pool->node->config->start_timeout_ms);
    return true;
}

enum opb_status
opb_generation_step(struct opb_pool *pool)
{
    enum opb_status status = OPB_OK;
    uint32_t switch_hosts[OPB_MAX_WORKERS];
    uint32_t switch_count;
    bool is_late;

    opb_retired_reap(pool, false);
    pthread_mutex_lock(&pool->lock);
    is_late = pool->step == OPB_STEP_STARTING && pool->step_end_ms <= opb_clock_ms();
    pthread_mutex_unlock(&pool->lock);
    if (is_late) {
        fail_starting(pool, "The worker has started no host in time", false);
    }
    pthread_mutex_lock(&pool->lock);
    switch_count = pool->switch_count;
    memcpy(switch_hosts, pool->switch_hosts, sizeof(switch_hosts));
    pool->switch_count = 0;
    pthread_mutex_unlock(&pool->lock);
    if (switch_count != 0) {
        status = opb_control_switch(pool->control, switch_hosts, switch_count,
                                    opb_deadline_ms(SEND_MS));
    }
    return status;
}

/* What the next generation runs: of several scripts those that are there now. */
static enum opb_status
choose_scripts(struct opb_pool *pool, char *message, size_t capacity)
{
    struct opb_config *config = pool->node->config;
    struct opb_scripts *scripts = NULL;
    struct opb_scripts *before;

    if (!opb_scripts_are_several(config)) {
        scripts = opb_node_scripts(pool->node);
    }
    else if (opb_scripts_find(&scripts, config, message, capacity) != OPB_OK) {
        return OPB_REFUSED;
    }
    pthread_mutex_lock(&pool->lock);
    before = pool->next_scripts;
    pool->next_scripts = scripts;
    pthread_mutex_unlock(&pool->lock);
    opb_scripts_unref(before);
    return OPB_OK;
}

enum opb_status
opb_generation_ask(struct opb_pool *pool)
{
    char message[OPB_POOL_TEXT_BYTES];
    bool is_asking;
    const char *why;

    pthread_mutex_lock(&pool->lock);
    is_asking = begin_reload(pool, &why);
    pthread_mutex_unlock(&pool->lock);
    if (why != NULL) {
        opb_log_warning("%s: the script is loaded again", why);
    }
    if (!is_asking) {
        return OPB_OK;
    }
    if (choose_scripts(pool, message, sizeof(message)) != OPB_OK) {
        fail_starting(pool, message, false);
        return OPB_OK;
    }
    /* only this thread changes next_scripts while a generation is starting */
    return opb_control_start_next(pool->control, pool->next_scripts,
                                  pool->node->config->workers, opb_deadline_ms(SEND_MS));
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

void
opb_generation_stop(struct opb_pool *pool)
{
    struct opb_session *sessions[OPB_MAX_WORKERS];

    pthread_mutex_lock(&pool->lock);
    opb_next_take_all(pool, sessions);
    pthread_mutex_unlock(&pool->lock);
    opb_next_drop_all(pool, sessions, "was ended, since the server stops");
    opb_retired_reap(pool, true);
}
