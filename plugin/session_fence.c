/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/session_fence.c - the order of what comes on two lanes of one process
 *
 * Here:      a thread of the script uses an object of a call that another one serves, and
 *            what that has posted on its lane goes first: a fence is behind it, for which
 *            the other lane waits.
 * Elsewhere: who asks for it (worker/module/fence.c), its notifications (sdk_custom.c).
 *
 * The wait is short: a lane whose thread is inside of a long SDK call has done by then what
 * was posted before that.
 */
#include "session_state.h"

#include "protocol/sockets.h"

#define WAIT_MS 1000u

void
opb_session_pass_fence(struct opb_session *session, uint64_t number)
{
    pthread_mutex_lock(&session->node->lock);
    session->fences[session->fence_next] = number;
    session->fence_next = (session->fence_next + 1) % PASSED_FENCES;
    pthread_cond_broadcast(&session->node->changed);
    pthread_mutex_unlock(&session->node->lock);
}

/* With the node's lock held. */
static bool
has_passed(const struct opb_session *session, uint64_t number)
{
    bool result = false;

    for (uint32_t i = 0; i < PASSED_FENCES; i++) {
        result = result || session->fences[i] == number;
    }
    return result;
}

void
opb_session_await_fence(struct opb_session *session, uint64_t number)
{
    uint64_t deadline_ms = opb_deadline_ms(WAIT_MS);

    pthread_mutex_lock(&session->node->lock);
    while (session->state != SESSION_DEAD && !has_passed(session, number) &&
           opb_session_wait_changed(session->node, deadline_ms)) {
    }
    pthread_mutex_unlock(&session->node->lock);
}
