/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/session_hold.c - calls wait, while those that run in the hosts come to their end
 *
 * Here:      closing the door before all hosts at once, letting in those that wait, taking
 * the hosts away. Elsewhere: the door itself, which each call passes (session_lanes.c); who
 * closes it (replace.c).
 *
 * A call that runs may need another one to end: it waits for a job of Orthanc, whose thread
 * calls the script. So who closes the door has to let in those that wait, from time to
 * time.
 */
#include "session_state.h"

#include <stdatomic.h>

void
opb_calls_hold(struct opb_node *node)
{
    pthread_mutex_lock(&node->lock);
    node->is_holding = true;
    pthread_mutex_unlock(&node->lock);
}

void
opb_calls_let_in(struct opb_node *node)
{
    pthread_mutex_lock(&node->lock);
    (void)atomic_fetch_add(&node->hold_turn, 1);
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->lock);
}

void
opb_calls_go_on(struct opb_node *node)
{
    pthread_mutex_lock(&node->lock);
    node->is_holding = false;
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->lock);
}

bool
opb_calls_drain(struct opb_node *node, uint64_t deadline_ms)
{
    bool are_idle = true;

    for (uint32_t i = 0; i < OPB_MAX_WORKERS; i++) {
        struct opb_session *session = opb_session_at(node, i);

        if (session != NULL) {
            are_idle = opb_session_drain(session, deadline_ms) && are_idle;
        }
        opb_session_unref(session);
    }
    return are_idle;
}

void
opb_sessions_withdraw(struct opb_node *node, uint32_t worker_count)
{
    struct opb_session *sessions[OPB_MAX_WORKERS];

    pthread_mutex_lock(&node->lock);
    for (uint32_t i = 0; i < OPB_MAX_WORKERS; i++) {
        sessions[i] = node->sessions[i];
        node->sessions[i] = NULL;
    }
    node->worker_count = worker_count;
    pthread_mutex_unlock(&node->lock);
    for (uint32_t i = 0; i < OPB_MAX_WORKERS; i++) {
        opb_session_unref(sessions[i]);
    }
}
