/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/session.c - one host process as its node sees it
 *
 * Here:      its references, when calls go to it, its end.
 * Elsewhere: its lanes, and which of several hosts a call goes to (session_lanes.c).
 *
 * Everything that changes is guarded by node->lock, which is a leaf: lanes are closed, and
 * objects freed, after it.
 */
#include "session_state.h"

#include "driver.h"
#include "handles.h"
#include "log.h"
#include "threads.h"
#include "protocol/sockets.h"

#include <stdlib.h>
#include <string.h>

#define DRAIN_INTERVAL_MS 100u /* between looks for drivers */

enum opb_status
opb_session_new(struct opb_session **out, struct opb_node *node, uint32_t host, pid_t pid,
                uint32_t worker)
{
    struct opb_session *session;
    enum opb_status status;

    *out = NULL;
    session = calloc(1, sizeof(*session));
    if (session == NULL) {
        return OPB_NO_MEMORY;
    }
    status = opb_handles_new(&session->handles);
    if (status != OPB_OK) {
        free(session);
        return status;
    }
    session->node = node;
    session->host = host;
    session->pid = pid;
    session->born_ms = opb_clock_ms();
    session->worker = worker;
    session->reference_count = 1;
    pthread_mutex_lock(&node->lock);
    session->worker_count = node->worker_count;
    pthread_mutex_unlock(&node->lock);
    *out = session;
    return OPB_OK;
}

enum opb_status
opb_session_new_child(struct opb_session **out, const struct opb_session *host, pid_t pid)
{
    enum opb_status status =
        opb_session_new(out, host->node, host->host, pid, host->worker);

    if (status == OPB_OK) {
        (*out)->is_child = true;
    }
    return status;
}

bool
opb_session_is_child(const struct opb_session *session)
{
    return session->is_child;
}

struct opb_session *
opb_session_ref(struct opb_session *session)
{
    pthread_mutex_lock(&session->node->lock);
    session->reference_count++;
    pthread_mutex_unlock(&session->node->lock);
    return session;
}

void
opb_session_unref(struct opb_session *session)
{
    struct known_lane *next;
    size_t lent_count;
    bool is_last;

    if (session == NULL) {
        return;
    }
    pthread_mutex_lock(&session->node->lock);
    is_last = --session->reference_count == 0;
    pthread_mutex_unlock(&session->node->lock);
    if (!is_last) {
        return;
    }
    for (uint32_t i = 0; i < session->idle_count; i++) {
        opb_lane_close(session->idle[i]);
    }
    for (struct known_lane *known = session->lanes; known != NULL; known = next) {
        next = known->next;
        free(known); /* the lane itself was idle, or is its owner's */
    }
    for (uint32_t i = 0; i < session->message_count; i++) {
        opb_message_free(session->messages[i]);
    }
    lent_count = opb_handles_free(session->handles, session->node->context);
    if (lent_count != 0) {
        opb_log_error("%zu objects are lent still to a host that has ended: please report "
                      "this error of the bridge",
                      lent_count);
    }
    free(session);
}

uint32_t
opb_session_host(const struct opb_session *session)
{
    return session->host;
}

uint64_t
opb_session_born_ms(const struct opb_session *session)
{
    return session->born_ms;
}

pid_t
opb_session_pid(const struct opb_session *session)
{
    return session->pid;
}

uint32_t
opb_session_worker(const struct opb_session *session)
{
    return session->worker;
}

uint32_t
opb_session_worker_count(const struct opb_session *session)
{
    return session->worker_count;
}

void
opb_session_set_worker_count(struct opb_session *session, uint32_t count)
{
    session->worker_count = count;
}

struct opb_handles *
opb_session_handles(struct opb_session *session)
{
    return session->handles;
}

struct opb_node *
opb_session_node(struct opb_session *session)
{
    return session->node;
}

void
opb_session_death(struct opb_session *session, char *text, size_t capacity)
{
    pthread_mutex_lock(&session->node->lock);
    if (capacity > 0) {
        size_t bytes = strnlen(session->death, capacity - 1);

        memcpy(text, session->death, bytes);
        text[bytes] = '\0';
    }
    pthread_mutex_unlock(&session->node->lock);
}

bool
opb_session_is_dead(struct opb_session *session)
{
    bool is_dead;

    pthread_mutex_lock(&session->node->lock);
    is_dead = session->state == SESSION_DEAD;
    pthread_mutex_unlock(&session->node->lock);
    return is_dead;
}

bool
opb_session_wait_changed(struct opb_node *node, uint64_t deadline_ms)
{
    return opb_condition_wait(&node->changed, &node->lock, deadline_ms) == OPB_OK;
}

bool
opb_session_wait_death(struct opb_session *session, uint64_t deadline_ms)
{
    bool is_dead;

    pthread_mutex_lock(&session->node->lock);
    while (session->state != SESSION_DEAD &&
           opb_session_wait_changed(session->node, deadline_ms)) {
    }
    is_dead = session->state == SESSION_DEAD;
    pthread_mutex_unlock(&session->node->lock);
    return is_dead;
}

struct opb_message *
opb_session_message(struct opb_session *session)
{
    struct opb_message *message = NULL;

    pthread_mutex_lock(&session->node->lock);
    if (session->message_count > 0) {
        message = session->messages[--session->message_count];
    }
    pthread_mutex_unlock(&session->node->lock);
    return message != NULL ? message : opb_message_new();
}

void
opb_session_message_back(struct opb_session *session, struct opb_message *message)
{
    pthread_mutex_lock(&session->node->lock);
    if (message != NULL && session->message_count < IDLE_MESSAGES) {
        session->messages[session->message_count++] = message;
        message = NULL;
    }
    pthread_mutex_unlock(&session->node->lock);
    opb_message_free(message);
}

struct opb_session *
opb_session_at(struct opb_node *node, uint32_t worker)
{
    struct opb_session *session;

    pthread_mutex_lock(&node->lock);
    session = node->sessions[worker];
    if (session != NULL) {
        session->reference_count++;
    }
    pthread_mutex_unlock(&node->lock);
    return session;
}

struct opb_session *
opb_session_primary(struct opb_node *node)
{
    return opb_session_at(node, 0);
}

uint64_t
opb_session_call_count(struct opb_session *session)
{
    uint64_t count;

    pthread_mutex_lock(&session->node->lock);
    count = session->call_count;
    pthread_mutex_unlock(&session->node->lock);
    return count;
}

void
opb_session_look_at(struct opb_session *session, struct opb_session_look *out)
{
    uint32_t open_count = 0;

    pthread_mutex_lock(&session->node->lock);
    for (const struct known_lane *known = session->lanes; known != NULL;
         known = known->next) {
        open_count += known->is_call ? 1 : 0; /* others are being opened: calls wait */
    }
    out->call_count = session->call_count;
    out->running_count =
        open_count > session->idle_count ? open_count - session->idle_count : 0;
    out->is_condemned = session->is_condemned;
    pthread_mutex_unlock(&session->node->lock);
}

uint32_t
opb_session_running_count(struct opb_session *session)
{
    uint32_t count;

    pthread_mutex_lock(&session->node->lock);
    count = session->call_lane_count - session->idle_count;
    pthread_mutex_unlock(&session->node->lock);
    return count;
}

bool
opb_session_drain(struct opb_session *session, uint64_t deadline_ms)
{
    struct opb_node *node = session->node;
    bool is_idle = false;

    pthread_mutex_lock(&node->lock);
    session->is_draining = true;
    while (!is_idle) {
        uint64_t look_ms = opb_deadline_ms(DRAIN_INTERVAL_MS);

        is_idle = session->state == SESSION_DEAD;
        if (!is_idle && session->call_lane_count <= session->idle_count) {
            pthread_mutex_unlock(&node->lock);
            is_idle = !opb_drivers_has(session); /* after the calls, which leave them */
            pthread_mutex_lock(&node->lock);
        }
        if (is_idle || node->phase == OPB_PHASE_FINALIZING ||
            opb_clock_ms() >= deadline_ms) {
            break;
        }
        (void)opb_session_wait_changed(node, look_ms < deadline_ms ? look_ms : deadline_ms);
    }
    pthread_mutex_unlock(&node->lock);
    return is_idle;
}

bool
opb_session_activate(struct opb_session *session)
{
    struct opb_node *node = session->node;
    struct opb_session *previous = NULL;
    bool is_active = false;

    pthread_mutex_lock(&node->lock);
    if (session->state == SESSION_LOADING) {
        session->state = SESSION_ACTIVE;
        session->reference_count++;
        previous = node->sessions[session->worker];
        node->sessions[session->worker] = session;
        is_active = true;
        pthread_cond_broadcast(&node->changed);
    }
    pthread_mutex_unlock(&node->lock);
    opb_session_unref(previous);
    return is_active;
}

bool
opb_session_activate_all(struct opb_session *const *sessions, uint32_t count)
{
    struct opb_node *node = sessions[0]->node;
    struct opb_session *previous[OPB_MAX_WORKERS] = {NULL};
    bool is_active = true;

    pthread_mutex_lock(&node->lock);
    for (uint32_t i = 0; i < count; i++) {
        is_active = is_active && sessions[i]->state == SESSION_LOADING;
    }
    if (is_active) {
        memcpy(previous, node->sessions, sizeof(previous));
        memset(node->sessions, 0, sizeof(node->sessions));
        for (uint32_t i = 0; i < count; i++) {
            sessions[i]->state = SESSION_ACTIVE;
            sessions[i]->reference_count++;
            node->sessions[sessions[i]->worker] = sessions[i];
        }
        node->worker_count = count;
        pthread_cond_broadcast(&node->changed);
    }
    pthread_mutex_unlock(&node->lock);
    for (uint32_t i = 0; i < OPB_MAX_WORKERS; i++) {
        opb_session_unref(previous[i]);
    }
    return is_active;
}

/* Calls go to it no more. With the node's lock held; true if the caller has its reference.
 */
static bool
leave(struct opb_session *session)
{
    struct opb_session **place = &session->node->sessions[session->worker];

    if (*place != session) {
        return false;
    }
    *place = NULL;
    return true;
}

void
opb_session_leave(struct opb_session *session)
{
    bool was_current;

    pthread_mutex_lock(&session->node->lock);
    was_current = leave(session);
    pthread_mutex_unlock(&session->node->lock);
    if (was_current) {
        opb_session_unref(session); /* what node->sessions held */
    }
}

bool
opb_session_condemn(struct opb_session *session)
{
    struct opb_node *node = session->node;
    bool was_current = false;
    bool is_first;

    pthread_mutex_lock(&node->lock);
    is_first = session->state != SESSION_DEAD && !session->is_condemned;
    session->is_condemned = true;
    if (is_first) {
        was_current = leave(session);
    }
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->lock);
    if (was_current) {
        opb_session_unref(session); /* what node->sessions held */
    }
    return is_first;
}

struct opb_session *
opb_session_mute(struct opb_node *node)
{
    struct opb_session *found = NULL;

    pthread_mutex_lock(&node->lock);
    for (uint32_t i = 0; i < OPB_MAX_WORKERS && found == NULL; i++) {
        struct opb_session *session = node->sessions[i];

        if (session != NULL && session->mute_ms != 0 &&
            opb_clock_ms() - session->mute_ms >= CONNECT_TIMEOUT_MS) {
            found = session;
            found->reference_count++;
        }
    }
    pthread_mutex_unlock(&node->lock);
    return found;
}

void
opb_session_end(struct opb_session *session, const char *reason)
{
    struct opb_lane *idle[OPB_IDLE_CALL_LANES];
    struct opb_node *node = session->node;
    struct known_lane **link;
    struct known_lane *known;
    uint32_t idle_count = 0;
    bool was_current = false;

    pthread_mutex_lock(&node->lock);
    if (session->state != SESSION_DEAD) {
        session->state = SESSION_DEAD;
        strncpy(session->death, reason, sizeof(session->death) - 1);
        was_current = leave(session);
        idle_count = session->idle_count;
        memcpy(idle, session->idle, idle_count * sizeof(idle[0]));
        session->idle_count = 0;
        for (link = &session->lanes; (known = *link) != NULL;) {
            bool is_idle = false;

            for (uint32_t i = 0; i < idle_count; i++) {
                is_idle = is_idle || idle[i] == known->lane;
            }
            if (is_idle) {
                session->call_lane_count--;
                *link = known->next;
                free(known);
            }
            else {
                opb_lane_shutdown(known->lane);
                link = &known->next;
            }
        }
        pthread_cond_broadcast(&node->changed);
    }
    pthread_mutex_unlock(&node->lock);
    for (uint32_t i = 0; i < idle_count; i++) {
        opb_lane_close(idle[i]);
    }
    opb_drivers_session_ended(session);
    if (was_current) {
        opb_session_unref(session); /* what node->sessions held */
    }
}
