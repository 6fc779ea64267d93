/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/leave.c - the pool is about to end: our hosts end in order, before they are killed
 *
 * Here:      no more calls go to them; those that run end, and the script finishes, as at
 * the end of a generation (retire.c), only that there is no next one yet. Elsewhere:
 * finding the pool again (relaunch.c). Calls wait for that meanwhile.
 */
#include "plugin/pool_state.h"

#include "plugin/log.h"

#include <stdlib.h>

/* Takes the host that serves there out of its place; false if there is none, or it is
 * going. */
static bool
take_host(struct opb_place *place, struct opb_retired *retired)
{
    struct opb_pool *pool = place->pool;
    bool is_taken;

    pthread_mutex_lock(&pool->lock);
    is_taken = !pool->is_starting && !pool->is_stopping && place->is_loaded &&
               place->host != NULL && place->host == place->main_session;
    if (is_taken) {
        opb_session_unref(place->host); /* main_session holds another */
        place->host = NULL;
        retired->session = place->main_session;
        retired->main_lane = place->main_lane;
        place->main_session = NULL;
        place->main_lane = NULL;
        place->is_loaded = false;
        retired->next = pool->retired;
        pool->retired = retired;
        pool->retired_count++;
    }
    pthread_mutex_unlock(&pool->lock);
    return is_taken;
}

/* True if a host was there. */
static bool
leave_place(struct opb_place *place)
{
    struct opb_retired *retired = calloc(1, sizeof(*retired));

    if (retired == NULL) {
        return false; /* the pool kills the host, in the end */
    }
    retired->pool = place->pool;
    if (!take_host(place, retired)) {
        free(retired);
        return false;
    }
    opb_session_leave(retired->session); /* drivers that it has left still call it */
    opb_retired_begin(retired);
    return true;
}

void
opb_pool_leaving_news(void *context)
{
    struct opb_pool *pool = context;
    bool has_left = false;

    pthread_mutex_lock(&pool->lock);
    pool->is_leaving = !pool->is_starting; /* till it is lost */
    pthread_mutex_unlock(&pool->lock);
    for (uint32_t i = 0; i < pool->place_count; i++) {
        has_left = leave_place(&pool->places[i]) || has_left;
    }
    if (has_left) {
        opb_log_warning("The pool is about to end: the script finishes, and calls wait for "
                        "the next pool");
    }
}
