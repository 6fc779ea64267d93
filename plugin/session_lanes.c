/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/session_lanes.c - the lanes of a host, and which host a call goes to
 *
 * Here:      opening lanes, keeping idle ones, choosing the least busy host.
 * Elsewhere: hosts that come and go (session.c), a call on its lane (call.c).
 *
 * node->lock is a leaf: lanes are opened and closed after it. A lane is shut down under it,
 * since only that keeps its owner from closing it meanwhile.
 */
#include "session_state.h"

#include "log.h"
#include "protocol/handshake.h"
#include "protocol/sockets.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONNECT_INTERVAL_MS 50u /* between attempts while the pool does not answer */
#define COMPLAIN_EVERY_MS   10000u

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

/* With the node's lock held. */
static bool
has_lane(const struct opb_session *session)
{
    return session != NULL && !session->is_condemned &&
           (session->idle_count > 0 || session->call_lane_count < OPB_MAX_CALL_LANES);
}

/* Whether a call goes to a, and not to b (NULL: none). avoid: it has just not been to be
 * had. With the node's lock held. */
static bool
is_better(const struct opb_session *a, const struct opb_session *b,
          const struct opb_session *avoid)
{
    uint32_t a_busy = a->call_lane_count - a->idle_count;
    uint32_t b_busy = b != NULL ? b->call_lane_count - b->idle_count : 0;

    if (b == NULL) {
        return true;
    }
    if ((a == avoid || a->mute_ms != 0) != (b == avoid || b->mute_ms != 0)) {
        return b == avoid || b->mute_ms != 0;
    }
    return a_busy != b_busy ? a_busy < b_busy : a->used > b->used;
}

/* The active session that the next call goes to, or NULL. avoid is a name, and may be of a
 * session that is no more. With the node's lock held. */
static struct opb_session *
choose(const struct opb_node *node, uint32_t worker, const struct opb_session *avoid)
{
    struct opb_session *best = NULL;

    if (worker != OPB_ANY_WORKER) {
        return node->sessions[worker];
    }
    for (uint32_t i = 0; i < OPB_MAX_WORKERS; i++) {
        struct opb_session *session = node->sessions[i];

        if (has_lane(session) && is_better(session, best, avoid)) {
            best = session;
        }
    }
    return best;
}

/* Whether a call that began to wait in that turn has to wait on, whatever hosts there are.
 * With the node's lock held. */
static bool
is_held(const struct opb_node *node, uint64_t turn)
{
    return node->is_holding && turn >= atomic_load(&node->hold_turn);
}

/* Looks for a lane of a session, with the node's lock held. Takes a reference, and gives
 * either a lane or the right to open one (*lane NULL). False: there is nothing to be had
 * now. */
static bool
take_lane(struct opb_session *session, struct opb_lane **lane)
{
    *lane = NULL;
    if (!has_lane(session)) {
        return false;
    }
    if (session->idle_count > 0) {
        *lane = session->idle[--session->idle_count];
    }
    else {
        session->call_lane_count++;
    }
    session->reference_count++;
    session->call_count++;
    session->used = ++session->node->call_count;
    return true;
}

static void
lane_end(struct opb_session *session, struct opb_lane *lane)
{
    opb_session_forget(session, lane);
    opb_lane_close(lane);
}

/* A pause after a failed attempt, which ends early when the node changes. With the node's
 * lock held. */
static void
pause_attempts(struct opb_node *node, uint64_t deadline_ms)
{
    uint64_t until_ms = opb_deadline_ms(CONNECT_INTERVAL_MS);

    (void)opb_session_wait_changed(node, until_ms < deadline_ms ? until_ms : deadline_ms);
}

/* One attempt, with a right or a lane that take_lane() gave. On success *lane is open; else
 * the reference is gone. OPB_LATE: the deadline has passed. OPB_GONE: try again at once.
 * OPB_REFUSED: try again, later or elsewhere. */
static enum opb_status
open_lane(struct opb_session *session, struct opb_lane **lane, uint64_t deadline_ms)
{
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
    return opb_clock_ms() >= deadline_ms ? OPB_LATE : OPB_REFUSED;
}

static enum opb_status
acquire(struct opb_node *node, uint32_t worker, uint64_t turn,
        struct opb_session **out_session, struct opb_lane **out_lane, uint64_t deadline_ms)
{
    const struct opb_session *avoid = NULL;
    struct opb_session *session = NULL;
    struct opb_lane *lane = NULL;
    enum opb_status status;

    *out_session = NULL;
    *out_lane = NULL;
    do {
        pthread_mutex_lock(&node->lock);
        if (avoid != NULL && choose(node, worker, avoid) == avoid) {
            pause_attempts(node, deadline_ms); /* there is no other */
        }
        while (session = is_held(node, turn) ? NULL : choose(node, worker, avoid),
               !take_lane(session, &lane)) {
            status = node->phase == OPB_PHASE_FINALIZING            ? OPB_STOPPING
                     : !opb_session_wait_changed(node, deadline_ms) ? OPB_LATE
                                                                    : OPB_OK;
            if (status != OPB_OK) {
                pthread_mutex_unlock(&node->lock);
                return status;
            }
        }
        pthread_mutex_unlock(&node->lock);
        status = open_lane(session, &lane, deadline_ms);
        avoid = status == OPB_REFUSED ? session : NULL;
    } while (status == OPB_GONE || status == OPB_REFUSED);
    if (status != OPB_OK) {
        return status;
    }
    *out_session = session;
    *out_lane = lane;
    return OPB_OK;
}

enum opb_status
opb_lane_acquire(struct opb_node *node, uint32_t worker, struct opb_session **out_session,
                 struct opb_lane **out_lane, uint64_t deadline_ms)
{
    uint64_t turn =
        atomic_load(&node->hold_turn); /* before anybody can see that it waits */
    enum opb_status status;

    (void)atomic_fetch_add(&node->waiting_count, 1);
    status = acquire(node, worker, turn, out_session, out_lane, deadline_ms);
    (void)atomic_fetch_sub_explicit(&node->waiting_count, 1, memory_order_relaxed);
    return status;
}

static enum opb_status
acquire_in(struct opb_session *session, struct opb_lane **out, uint64_t deadline_ms)
{
    struct opb_node *node = session->node;
    struct opb_lane *lane = NULL;
    enum opb_status status = OPB_OK;

    *out = NULL;
    do {
        pthread_mutex_lock(&node->lock);
        if (status == OPB_REFUSED) {
            pause_attempts(node, deadline_ms);
        }
        status = OPB_OK;
        while (status == OPB_OK && session->state != SESSION_DEAD &&
               !take_lane(session, &lane)) {
            status = opb_session_wait_changed(node, deadline_ms) ? OPB_OK : OPB_LATE;
        }
        if (session->state == SESSION_DEAD) {
            status = OPB_GONE;
        }
        pthread_mutex_unlock(&node->lock);
        if (status != OPB_OK) {
            return status;
        }
        status = open_lane(session, &lane, deadline_ms);
    } while (status == OPB_GONE || status == OPB_REFUSED);
    *out = lane;
    return status;
}

enum opb_status
opb_lane_acquire_in(struct opb_session *session, struct opb_lane **out,
                    uint64_t deadline_ms)
{
    atomic_uint *waiting_count = &session->node->waiting_count;
    enum opb_status status;

    (void)atomic_fetch_add_explicit(waiting_count, 1, memory_order_relaxed);
    status = acquire_in(session, out, deadline_ms);
    (void)atomic_fetch_sub_explicit(waiting_count, 1, memory_order_relaxed);
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
