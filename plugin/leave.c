/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/leave.c - the pool is about to end: our host ends in order, before it is killed
 *
 * Here:      no more calls go to it; those that run end, and the script finishes, as at the
 *            end of a generation (retire.c), only that there is no next one yet.
 * Elsewhere: finding the pool again (supervise.c). Calls wait for that meanwhile.
 */
#include "plugin/pool_state.h"

#include "plugin/log.h"

#include <stdlib.h>

/* Takes the host that serves out of its place; false if there is none, or it is going. */
static bool
take_host(struct opb_pool *pool, struct opb_retired *retired)
{
    bool is_taken;

    pthread_mutex_lock(&pool->lock);
    is_taken = !pool->is_starting && !pool->is_stopping && pool->is_loaded &&
               pool->host != NULL && pool->host == pool->main_session;
    if (is_taken) {
        opb_session_unref(pool->host); /* main_session holds another */
        pool->host = NULL;
        retired->session = pool->main_session;
        retired->main_lane = pool->main_lane;
        pool->main_session = NULL;
        pool->main_lane = NULL;
        pool->is_loaded = false;
        retired->next = pool->retired;
        pool->retired = retired;
        pool->retired_count++;
    }
    pthread_mutex_unlock(&pool->lock);
    return is_taken;
}

void
opb_pool_leaving_news(void *context)
{
    struct opb_pool *pool = context;
    struct opb_retired *retired = calloc(1, sizeof(*retired));

    if (retired == NULL) {
        return; /* the pool kills the host, in the end */
    }
    retired->pool = pool;
    if (!take_host(pool, retired)) {
        free(retired);
        return;
    }
    opb_log_warning("The pool is about to end: the script finishes, and calls wait for the "
                    "next pool");
    (void)opb_session_condemn(retired->session); /* no more calls; false: it is dead */
    opb_retired_begin(retired);
}
