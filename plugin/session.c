/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/session.c - one host process as its node sees it, with its lanes
 *
 * Everything that changes is guarded by node->lock, which is a leaf: lanes are opened and
 * closed, and objects freed, after it. A lane is shut down under it, since only that keeps
 * its owner from closing it meanwhile.
 */
#include "session.h"

#include "config.h"
#include "driver.h"
#include "handles.h"
#include "log.h"
#include "threads.h"
#include "protocol/handshake.h"
#include "protocol/sockets.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEATH_TEXT_BYTES    256u
#define IDLE_MESSAGES       64u
#define CONNECT_TIMEOUT_MS  5000u /* for one attempt */
#define CONNECT_INTERVAL_MS 50u   /* between attempts while the pool does not answer */
#define COMPLAIN_EVERY_MS   10000u
#define DRAIN_INTERVAL_MS   100u /* between looks for drivers */

enum session_state { SESSION_LOADING, SESSION_ACTIVE, SESSION_DEAD };

struct known_lane {
    struct known_lane *next;
    struct opb_lane *lane;
    bool is_call; /* counts for OPB_MAX_CALL_LANES */
};

struct opb_session {
    struct opb_node *node;
    uint32_t host;
    pid_t pid;
    uint64_t born_ms;
    bool is_child;
    struct opb_handles *handles;
    uint32_t reference_count;
    enum session_state state;
    bool is_condemned; /* takes no new calls */
    uint64_t mute_ms;  /* when the first lane began to wait that got no answer; 0: none */
    char death[DEATH_TEXT_BYTES];
    struct known_lane *lanes;
    struct opb_lane *idle[OPB_IDLE_CALL_LANES]; /* last in, first out */
    uint32_t idle_count;
    uint32_t call_lane_count; /* open or being opened */
    uint64_t call_count;
    bool is_draining;
    struct opb_message *messages[IDLE_MESSAGES];
    uint32_t message_count;
};

enum opb_status
opb_session_new(struct opb_session **out, struct opb_node *node, uint32_t host, pid_t pid)
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
    session->reference_count = 1;
    *out = session;
    return OPB_OK;
}

enum opb_status
opb_session_new_child(struct opb_session **out, const struct opb_session *host, pid_t pid)
{
    enum opb_status status = opb_session_new(out, host->node, host->host, pid);

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

/* Waits for a change of the node, with its lock held. False once deadline_ms has passed. */
static bool
wait_changed(struct opb_node *node, uint64_t deadline_ms)
{
    return opb_condition_wait(&node->changed, &node->lock, deadline_ms) == OPB_OK;
}

bool
opb_session_wait_death(struct opb_session *session, uint64_t deadline_ms)
{
    bool is_dead;

    pthread_mutex_lock(&session->node->lock);
    while (session->state != SESSION_DEAD && wait_changed(session->node, deadline_ms)) {
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
opb_session_current(struct opb_node *node)
{
    struct opb_session *session;

    pthread_mutex_lock(&node->lock);
    session = node->session;
    if (session != NULL) {
        session->reference_count++;
    }
    pthread_mutex_unlock(&node->lock);
    return session;
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

bool
opb_session_is_busy(struct opb_session *session)
{
    bool is_busy;

    pthread_mutex_lock(&session->node->lock);
    is_busy = session->call_lane_count > session->idle_count;
    pthread_mutex_unlock(&session->node->lock);
    return is_busy;
}

void
opb_session_drain(struct opb_session *session, uint64_t deadline_ms)
{
    struct opb_node *node = session->node;
    bool has_drivers = opb_drivers_has(session);

    pthread_mutex_lock(&node->lock);
    session->is_draining = true;
    while (session->state != SESSION_DEAD && node->phase != OPB_PHASE_FINALIZING &&
           (session->call_lane_count > session->idle_count || has_drivers) &&
           opb_clock_ms() < deadline_ms) {
        uint64_t look_ms = opb_deadline_ms(DRAIN_INTERVAL_MS);

        (void)wait_changed(node, look_ms < deadline_ms ? look_ms : deadline_ms);
        pthread_mutex_unlock(&node->lock);
        has_drivers = opb_drivers_has(session);
        pthread_mutex_lock(&node->lock);
    }
    pthread_mutex_unlock(&node->lock);
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
        previous = node->session;
        node->session = session;
        is_active = true;
        pthread_cond_broadcast(&node->changed);
    }
    pthread_mutex_unlock(&node->lock);
    opb_session_unref(previous);
    return is_active;
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
    if (is_first && node->session == session) {
        node->session = NULL;
        was_current = true;
    }
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->lock);
    if (was_current) {
        opb_session_unref(session); /* what node->session held */
    }
    return is_first;
}

struct opb_session *
opb_session_mute(struct opb_node *node)
{
    struct opb_session *session;

    pthread_mutex_lock(&node->lock);
    session = node->session;
    if (session == NULL || session->mute_ms == 0 ||
        opb_clock_ms() - session->mute_ms < CONNECT_TIMEOUT_MS) {
        session = NULL;
    }
    else {
        session->reference_count++;
    }
    pthread_mutex_unlock(&node->lock);
    return session;
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
        if (node->session == session) {
            node->session = NULL;
            was_current = true;
        }
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
        opb_session_unref(session); /* what node->session held */
    }
}

static void
adopt(struct opb_session *session, struct opb_lane *lane, bool is_call)
{
    struct known_lane *known = malloc(sizeof(*known));

    pthread_mutex_lock(&session->node->lock);
    if (known == NULL || session->state == SESSION_DEAD) {
        opb_lane_shutdown(lane); /* its owner sees OPB_GONE at the next step */
    }
    if (known != NULL) {
        *known =
            (struct known_lane){.next = session->lanes, .lane = lane, .is_call = is_call};
        session->lanes = known;
    }
    pthread_mutex_unlock(&session->node->lock);
}

void
opb_session_adopt(struct opb_session *session, struct opb_lane *lane)
{
    adopt(session, lane, false);
}

void
opb_session_forget(struct opb_session *session, struct opb_lane *lane)
{
    struct known_lane **link;
    struct known_lane *known = NULL;

    pthread_mutex_lock(&session->node->lock);
    for (link = &session->lanes; *link != NULL; link = &(*link)->next) {
        if ((*link)->lane == lane) {
            known = *link;
            *link = known->next;
            break;
        }
    }
    if (known != NULL && known->is_call) {
        session->call_lane_count--;
        pthread_cond_broadcast(&session->node->changed); /* somebody may wait for a lane */
    }
    pthread_mutex_unlock(&session->node->lock);
    free(known);
}

/* A shortage of this process, which does not show elsewhere; not in a flood of lines. */
static void
log_shortage(const struct opb_session *session, int error)
{
    atomic_uint_least64_t *said_ms = &session->node->shortage_ms;
    uint64_t now_ms = opb_clock_ms();
    uint64_t before_ms = atomic_load(said_ms);

    if ((error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS) &&
        (before_ms == 0 || now_ms - before_ms > COMPLAIN_EVERY_MS) &&
        atomic_compare_exchange_strong(said_ms, &before_ms, now_ms)) {
        opb_log_error("A lane to host %u cannot be opened now: %s. Calls wait for one as "
                      "long as Python.QueueTimeout allows",
                      session->host, strerror(error));
    }
}

enum opb_status
opb_session_connect(struct opb_session *session, struct opb_lane **out,
                    enum opb_connection_kind kind, uint64_t deadline_ms)
{
    struct opb_node *node = session->node;
    struct opb_hello hello = {
        .version = OPB_PROTOCOL_VERSION, .kind = kind, .host = session->host};
    struct opb_lane *lane;
    enum opb_status status;
    uint32_t peer_version = 0;
    char path[sizeof(node->pool_socket)];
    int fd = -1;

    *out = NULL;
    memcpy(hello.secret, node->secret, sizeof(hello.secret));
    pthread_mutex_lock(&node->lock); /* a new daemon changes both */
    memcpy(hello.node, node->name, sizeof(hello.node));
    memcpy(path, node->pool_socket, sizeof(path));
    pthread_mutex_unlock(&node->lock);
    status = opb_socket_connect(&fd, path, deadline_ms);
    if (status != OPB_OK) {
        log_shortage(session, status == OPB_SYSTEM ? errno : 0);
        return status;
    }
    status = opb_lane_open(&lane, &fd, &opb_segment_malloc);
    if (status != OPB_OK) {
        goto close_fd;
    }
    adopt(session, lane, false); /* a call lane is counted by its taker until it is open */
    if (kind == OPB_CONNECTION_CALL && node->config->shared_memory) {
        opb_lane_want_memory(lane);
    }
    status = opb_hello_send(lane, &hello, deadline_ms);
    if (status == OPB_OK) {
        status = opb_welcome_receive(lane, &peer_version, deadline_ms);
    }
    if (status == OPB_REFUSED && !opb_session_is_dead(session)) {
        opb_log_info("The pool has refused a lane to host %u: %s", session->host,
                     opb_lane_failure(lane));
    }
    if (status != OPB_OK) {
        goto forget_lane;
    }
    *out = lane;
    return OPB_OK;

forget_lane:
    opb_session_forget(session, lane);
    opb_lane_close(lane);
    return status;
close_fd:
    close(fd);
    return status;
}

/* Connects a call lane that call_lane_count has counted already. */
static enum opb_status
connect_call(struct opb_session *session, struct opb_lane **out, uint64_t deadline_ms)
{
    uint64_t attempt_ms = opb_deadline_ms(CONNECT_TIMEOUT_MS);
    uint64_t begin_ms = opb_clock_ms();
    enum opb_status status;

    status = opb_session_connect(session, out, OPB_CONNECTION_CALL,
                                 attempt_ms < deadline_ms ? attempt_ms : deadline_ms);
    pthread_mutex_lock(&session->node->lock);
    if (status != OPB_LATE) {
        session->mute_ms = 0;
    }
    else if (session->mute_ms == 0) {
        session->mute_ms = begin_ms;
    }
    if (status == OPB_OK) {
        for (struct known_lane *known = session->lanes; known != NULL;
             known = known->next) {
            known->is_call = known->is_call || known->lane == *out;
        }
    }
    else {
        session->call_lane_count--;
    }
    pthread_cond_broadcast(&session->node->changed);
    pthread_mutex_unlock(&session->node->lock);
    return status;
}

/* Looks for a lane of a session, with the node's lock held. Takes a reference, and gives
 * either a lane or the right to open one (*lane NULL). False: there is nothing to be had
 * now. */
static bool
take_lane(struct opb_session *session, struct opb_lane **lane)
{
    *lane = NULL;
    if (session == NULL || session->is_condemned) {
        return false;
    }
    if (session->idle_count > 0) {
        *lane = session->idle[--session->idle_count];
    }
    else if (session->call_lane_count < OPB_MAX_CALL_LANES) {
        session->call_lane_count++;
    }
    else {
        return false;
    }
    session->reference_count++;
    session->call_count++;
    return true;
}

static void
lane_end(struct opb_session *session, struct opb_lane *lane)
{
    opb_session_forget(session, lane);
    opb_lane_close(lane);
}

/* A pause after a failed attempt, which ends early when the node changes. */
static void
pause_attempts(struct opb_node *node, uint64_t deadline_ms)
{
    uint64_t until_ms = opb_deadline_ms(CONNECT_INTERVAL_MS);

    pthread_mutex_lock(&node->lock);
    (void)wait_changed(node, until_ms < deadline_ms ? until_ms : deadline_ms);
    pthread_mutex_unlock(&node->lock);
}

/* One attempt, with a right or a lane that take_lane() gave. On success *lane is open; else
 * the reference is gone. OPB_LATE: the deadline has passed. OPB_GONE: try again. */
static enum opb_status
open_lane(struct opb_session *session, struct opb_lane **lane, uint64_t deadline_ms)
{
    struct opb_node *node = session->node;
    enum opb_status status = OPB_OK;

    if (*lane == NULL) {
        status = connect_call(session, lane, deadline_ms);
    }
    else if (opb_lane_is_stale(*lane)) {
        lane_end(session, *lane);
        *lane = NULL;
        opb_session_unref(session);
        return OPB_GONE;
    }
    if (status == OPB_OK) {
        return OPB_OK;
    }
    opb_session_unref(session);
    if (status == OPB_NO_MEMORY) {
        return status;
    }
    if (opb_clock_ms() >= deadline_ms) {
        return OPB_LATE;
    }
    pause_attempts(node, deadline_ms);
    return OPB_GONE;
}

enum opb_status
opb_lane_acquire(struct opb_node *node, struct opb_session **out_session,
                 struct opb_lane **out_lane, uint64_t deadline_ms)
{
    struct opb_session *session = NULL;
    struct opb_lane *lane = NULL;
    enum opb_status status;

    *out_session = NULL;
    *out_lane = NULL;
    do {
        pthread_mutex_lock(&node->lock);
        while (session = node->session, !take_lane(session, &lane)) {
            status = node->phase == OPB_PHASE_FINALIZING ? OPB_STOPPING
                     : !wait_changed(node, deadline_ms)  ? OPB_LATE
                                                         : OPB_OK;
            if (status != OPB_OK) {
                pthread_mutex_unlock(&node->lock);
                return status;
            }
        }
        pthread_mutex_unlock(&node->lock);
        status = open_lane(session, &lane, deadline_ms);
    } while (status == OPB_GONE);
    if (status != OPB_OK) {
        return status;
    }
    *out_session = session;
    *out_lane = lane;
    return OPB_OK;
}

enum opb_status
opb_lane_acquire_in(struct opb_session *session, struct opb_lane **out,
                    uint64_t deadline_ms)
{
    struct opb_node *node = session->node;
    struct opb_lane *lane = NULL;
    enum opb_status status;

    *out = NULL;
    do {
        status = OPB_OK;
        pthread_mutex_lock(&node->lock);
        while (status == OPB_OK && session->state != SESSION_DEAD &&
               !take_lane(session, &lane)) {
            status = wait_changed(node, deadline_ms) ? OPB_OK : OPB_LATE;
        }
        if (session->state == SESSION_DEAD) {
            status = OPB_GONE;
        }
        pthread_mutex_unlock(&node->lock);
        if (status != OPB_OK) {
            return status;
        }
        status = open_lane(session, &lane, deadline_ms);
    } while (status == OPB_GONE);
    *out = lane;
    return status;
}

void
opb_lane_release(struct opb_session **session_in, struct opb_lane **lane_in)
{
    struct opb_session *session = *session_in;
    struct opb_lane *lane = *lane_in;
    struct opb_node *node = session->node;
    bool is_kept = false;

    *session_in = NULL;
    *lane_in = NULL;
    pthread_mutex_lock(&node->lock);
    if (session->state != SESSION_DEAD && opb_lane_status(lane) == OPB_OK &&
        session->idle_count < OPB_IDLE_CALL_LANES) {
        session->idle[session->idle_count++] = lane;
        is_kept = true;
        if (session->call_lane_count >= OPB_MAX_CALL_LANES || session->is_draining) {
            pthread_cond_broadcast(&node->changed);
        }
    }
    pthread_mutex_unlock(&node->lock);
    if (!is_kept) {
        lane_end(session, lane);
    }
    opb_session_unref(session);
}
