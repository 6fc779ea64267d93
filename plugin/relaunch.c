/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/relaunch.c - a pool that is lost, and the next one
 *
 * Here:      all hosts end with their pool; when to try for another one. For the supervisor
 *            thread only (supervise.c, tell_pool.c).
 * Elsewhere: one attempt, and ending the daemon (launch.c).
 */
#include "plugin/pool_state.h"

#include "plugin/log.h"
#include "protocol/sockets.h"

#include <stdio.h>
#include <string.h>

#define HEALTHY_MS       30000u /* a daemon that ran that long did not fail to start */
#define BACKOFF_STEP_MS  1000u
#define BACKOFF_LIMIT_MS 10000u

static uint64_t
backoff_ms(uint32_t relaunch_count)
{
    uint64_t delay_ms;

    if (relaunch_count == 0) {
        return 0;
    }
    delay_ms = (uint64_t)BACKOFF_STEP_MS << (relaunch_count < 5 ? relaunch_count - 1 : 4);
    return delay_ms < BACKOFF_LIMIT_MS ? delay_ms : BACKOFF_LIMIT_MS;
}

static void
plan_relaunch(struct opb_pool *pool)
{
    pool->relaunch_ms = opb_clock_ms() + backoff_ms(pool->relaunch_count);
    pool->relaunch_count++;
}

/* What was lost, and how. why: NULL, if a worker is dead. process names it, or is "". */
static void
describe_loss(char *out, size_t capacity, bool is_managed, const char *process,
              const char *why, const char *how)
{
    /* cut if it does not fit */
    if (why == NULL) {
        (void)snprintf(out, capacity, "The worker%s %s", process, how);
    }
    else if (is_managed) {
        (void)snprintf(out, capacity, "The control connection to the worker%s failed: %s",
                       process, why);
    }
    else {
        (void)snprintf(out, capacity, "The connection to the pool failed: %s", why);
    }
}

void
opb_pool_lose(struct opb_pool *pool, const char *why)
{
    bool is_managed = pool->daemon != NULL;
    long pid = is_managed ? (long)opb_daemon_pid(pool->daemon) : 0;
    bool is_starting;
    bool is_stopping;
    char process[32];
    char how[160] = "";
    char text[512];
    char reason[512]; /* of the status, which has the pid beside it */

    (void)snprintf(process, sizeof(process), " (pid %ld)", pid); /* fits */
    for (uint32_t i = 0; i < pool->place_count; i++) {
        pool->places[i].hung_end_ms = OPB_FOREVER;
    }
    if (opb_clock_ms() - pool->launched_ms > HEALTHY_MS) {
        pool->relaunch_count = 0;
    }
    if (why == NULL) { /* it is dead: this reaps it */
        opb_pool_abandon(pool, how, sizeof(how));
    }
    describe_loss(text, sizeof(text), is_managed, process, why, how);
    describe_loss(reason, sizeof(reason), is_managed, "", why, how);
    if (why != NULL) { /* lies in the connection: last */
        opb_pool_abandon(pool, NULL, 0);
    }
    /* cut if it does not fit */
    (void)snprintf(how, sizeof(how), "was ended, since its worker is gone");
    opb_generation_lose(pool, how); /* first: who takes over now is ended next */
    opb_pool_end_hosts(pool, how);
    pthread_mutex_lock(&pool->lock);
    for (uint32_t i = 0; i < pool->place_count; i++) {
        pool->places[i].hung_host = 0; /* the next pool counts its hosts from 1 again */
    }
    pool->doomed_count = 0;
    pool->is_leaving = false;
    is_starting = pool->is_starting;
    is_stopping = pool->is_stopping;
    if (is_starting) {
        strcpy(pool->failure, text);
    }
    pool->is_detached = is_stopping;
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
    if (is_starting || is_stopping) {
        pool->relaunch_ms = OPB_FOREVER;
    }
    else {
        plan_relaunch(pool);
    }
    if (!is_starting) {
        opb_pool_note_death(pool, (pid_t)pid, reason);
        opb_log_error(
            "%s%s", text,
            is_stopping ? "" : "; all hosts are ended, and everything is started anew");
    }
}

void
opb_pool_mend_start(struct opb_pool *pool)
{
    bool is_lost;

    pthread_mutex_lock(&pool->lock);
    is_lost = pool->control == NULL && !pool->is_starting && !pool->is_stopping;
    pthread_mutex_unlock(&pool->lock);
    if (is_lost && pool->relaunch_ms == OPB_FOREVER) {
        plan_relaunch(pool);
    }
}

bool
opb_pool_relaunch(struct opb_pool *pool)
{
    char message[OPB_POOL_TEXT_BYTES];
    enum opb_status status;

    pool->relaunch_ms = OPB_FOREVER;
    if (opb_pool_is_stopping(pool)) {
        return false;
    }
    status = opb_pool_launch(pool, pool->wake_fd, message, sizeof(message));
    if (status == OPB_OK) {
        opb_log_warning("The worker is running again");
        return true;
    }
    if (status == OPB_STOPPING) {
        pool->relaunch_ms = opb_clock_ms(); /* woken: perhaps for something else */
        return false;
    }
    plan_relaunch(pool);
    opb_log_error("%s; trying again in %llu s", message,
                  (unsigned long long)((pool->relaunch_ms - opb_clock_ms() + 999) / 1000));
    return false;
}
