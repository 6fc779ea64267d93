/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/tell_pool.c - what the pool is to be told
 *
 * Here:      any thread leaves word of hosts that have to go, or hang, and of the end; the
 *            supervisor thread, woken, sends it. It loses a pool that cannot be told.
 * Elsewhere: the frames (control.c), what generations ask for (generations.c), asking for
 *            stacks (look.c).
 */
#include "plugin/pool_state.h"

#include "plugin/look.h"
#include "protocol/sockets.h"

#include <stdio.h>
#include <string.h>

#define SEND_MS         1000u
#define DETACH_LATER_MS 500u   /* than our own deadline, which is the one to report */
#define HUNG_END_MS     10000u /* the pool takes 2 s at most to ask for stacks, then kills */

void
opb_pool_doom(struct opb_pool *pool, uint32_t host, const char *reason)
{
    if (pool->doomed_count < OPB_POOL_GROUPS) { /* there are never so many hosts */
        pool->doomed[pool->doomed_count++] =
            (struct opb_doomed){.host = host, .reason = reason};
    }
}

void
opb_pool_doom_session(struct opb_pool *pool, struct opb_session *session,
                      const char *reason)
{
    pthread_mutex_lock(&pool->lock);
    if (!opb_session_is_dead(session)) { /* its number may be another's by now */
        opb_pool_doom(pool, opb_session_host(session), reason);
    }
    pthread_mutex_unlock(&pool->lock);
    opb_pool_wake(pool);
}

static enum opb_status
end_doomed(struct opb_pool *pool)
{
    enum opb_status status = OPB_OK;

    pthread_mutex_lock(&pool->lock);
    while (pool->doomed_count > 0 && status == OPB_OK) {
        struct opb_doomed doomed = pool->doomed[--pool->doomed_count];

        pthread_mutex_unlock(&pool->lock);
        status = opb_control_replace_host(pool->control, doomed.host, doomed.reason,
                                          opb_deadline_ms(SEND_MS));
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return status;
}

/* What the pool is to be told, in this order: a host that has lost its place has no
 * successor. */
void
opb_pool_send_news(struct opb_pool *pool)
{
    enum opb_status status;

    if (pool->control == NULL) {
        opb_generation_lose(pool, "was ended, since its worker is gone");
        return;
    }
    status = opb_generation_step(pool);
    if (status == OPB_OK) {
        status = end_doomed(pool);
    }
    if (status == OPB_OK) { /* after those that have failed: their places are needed */
        status = opb_generation_ask(pool);
    }
    if (status != OPB_OK) {
        opb_pool_lose(pool, opb_control_failure(pool->control));
    }
}

void
opb_pool_host_hangs(struct opb_session *session, const char *reason)
{
    struct opb_pool *pool = opb_session_node(session)->pool;
    struct opb_place *place;

    if (pool == NULL) { /* nobody could kill it; its calls must end all the same */
        opb_session_end(session, reason);
        return;
    }
    place = &pool->places[opb_session_worker(session)];
    pthread_mutex_lock(&pool->lock);
    if (opb_session_is_dead(session)) { /* meanwhile: its number may be another's by now */
        pthread_mutex_unlock(&pool->lock);
        return;
    }
    if (place->hung_host != 0) { /* another generation hangs, too: once will do */
        opb_pool_doom(pool, opb_session_host(session), OPB_NOT_IN_TIME);
        pthread_mutex_unlock(&pool->lock);
        opb_pool_wake(pool);
        return;
    }
    place->hung_host = opb_session_host(session);
    (void)snprintf(place->hung_reason, sizeof(place->hung_reason), "%s",
                   reason);                               /* cut if it does not fit */
    for (char *c = place->hung_reason; *c != '\0'; c++) { /* it may quote a request */
        *c = (unsigned char)*c < 0x20 || (unsigned char)*c >= 0x7f ? '?' : *c;
    }
    pthread_mutex_unlock(&pool->lock);
    opb_pool_wake(pool);
}

void
opb_pool_send_hung(struct opb_pool *pool)
{
    for (uint32_t i = 0; i < pool->place_count; i++) {
        struct opb_place *place = &pool->places[i];
        char reason[sizeof(place->hung_reason)];
        uint32_t host;

        pthread_mutex_lock(&pool->lock);
        host = place->hung_host;
        place->hung_host = 0;
        memcpy(reason, place->hung_reason, sizeof(reason));
        pthread_mutex_unlock(&pool->lock);
        if (host == 0 || pool->control == NULL) {
            continue;
        }
        place->hung_sent = host;
        place->hung_end_ms = opb_deadline_ms(HUNG_END_MS);
        if (opb_control_host_hangs(pool->control, host, reason, opb_deadline_ms(SEND_MS)) !=
            OPB_OK) {
            opb_pool_lose(pool, opb_control_failure(pool->control));
        }
    }
}

void
opb_pool_send_looks(struct opb_pool *pool)
{
    if (opb_look_send(pool) != OPB_OK) {
        opb_pool_lose(pool, opb_control_failure(pool->control));
    }
}

uint64_t
opb_pool_hung_end_ms(const struct opb_pool *pool)
{
    uint64_t end_ms = OPB_FOREVER;

    for (uint32_t i = 0; i < pool->place_count; i++) {
        if (pool->places[i].hung_end_ms < end_ms) {
            end_ms = pool->places[i].hung_end_ms;
        }
    }
    return end_ms;
}

void
opb_pool_send_detach(struct opb_pool *pool)
{
    bool is_wanted;
    bool is_lost = pool->control == NULL;

    pthread_mutex_lock(&pool->lock);
    is_wanted = pool->is_detach_wanted && !pool->is_detach_sent;
    pthread_mutex_unlock(&pool->lock);
    if (!is_wanted) {
        return;
    }
    if (!is_lost &&
        opb_control_detach(pool->control,
                           pool->node->config->stop_timeout_ms + DETACH_LATER_MS,
                           opb_deadline_ms(SEND_MS)) != OPB_OK) {
        opb_pool_lose(pool, opb_control_failure(pool->control));
        is_lost = true;
    }
    pthread_mutex_lock(&pool->lock);
    pool->is_detach_sent = true;
    pool->is_detached = is_lost;
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
}

void
opb_pool_note_detached(struct opb_pool *pool)
{
    if (pool->control != NULL && opb_control_is_detached(pool->control)) {
        pthread_mutex_lock(&pool->lock);
        pool->is_detached = true;
        pthread_cond_broadcast(&pool->changed);
        pthread_mutex_unlock(&pool->lock);
    }
}
