/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/module/fence.c - the order of calls when a thread uses another one's object
 *
 * Here:      a thread hands an object of its call to another, which uses it. Both have
 *            lanes of their own, and the first may have posted on its lane what has not
 *            arrived. A fence goes behind that; the other's next request waits for it.
 * Elsewhere: where the node waits (plugin/session_fence.c), when it has to (sdk_call.c).
 * Called by: sdk_call.c, with the GIL held; link.c, without it.
 */
#include "worker/module/link_internal.h"

#include "protocol/words.h"

/* What the next request of this thread waits for; 0: for nothing. */
static _Thread_local uint64_t awaited;

/* waits: 0 or 1, see words.h. */
static void
pack_fence(const struct opb_link *link, struct opb_message *message, uint64_t number,
           uint64_t waits)
{
    opb_message_begin_notify(message, (uint32_t)link->fence_method, 2);
    opb_pack_uint(message, number);
    opb_pack_uint(message, waits);
}

/* False: the call is over, or its thread is about to send something itself. */
static bool
post_on_bound(struct opb_link *link, const struct opb_lane *lane,
              struct opb_message *message)
{
    bool is_posted = false;

    (void)pthread_mutex_lock(&link->bound_lock); /* nobody blocks who holds it */
    for (struct opb_bound *bound = link->bound; bound != NULL; bound = bound->next) {
        if (bound->lane == lane) {
            is_posted = opb_lane_post_now(bound->lane, message);
            opb_lane_flush(bound->lane);
            break;
        }
    }
    (void)pthread_mutex_unlock(&link->bound_lock);
    return is_posted;
}

void
opb_link_order_after(struct opb_link *link, const struct opb_lane *lane)
{
    struct opb_message *message = opb_link_message(link);
    uint64_t number;

    awaited = 0;
    if (message == NULL || link->fence_method < 0) {
        (void)opb_link_flush_bound(link); /* it is on its way, at least */
    }
    else {
        number = atomic_fetch_add(&link->fence_count, 1) + 1;
        pack_fence(link, message, number, 0);
        awaited = post_on_bound(link, lane, message) ? number : 0;
    }
    opb_link_message_back(link, message);
    opb_flusher_arm(link); /* for what could not leave at once */
}

enum opb_status
opb_fence_join_request(struct opb_link *link, struct opb_lane *lane)
{
    enum opb_status status;
    struct opb_message *message;
    uint64_t number = awaited;

    if (number == 0) {
        return OPB_OK;
    }
    awaited = 0;
    message = opb_message_new();
    if (message == NULL) {
        return OPB_NO_MEMORY;
    }
    pack_fence(link, message, number, 1);
    status = opb_lane_post(lane, message);
    opb_message_free(message);
    return status;
}
