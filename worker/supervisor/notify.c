/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/notify.c - telling systemd how the pool is: see service.h
 *
 * The status is compared whenever the loop is about to wait, so that no other file has to
 * think of it. The environment keeps nothing of systemd's: the hosts would inherit it.
 */
#include "worker/supervisor/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PINGS_PER_PERIOD 3u

#ifdef OPB_HAVE_SYSTEMD

#    include <systemd/sd-daemon.h>

static void
tell(const struct opb_notify *notify, const char *text)
{
    /* A failure has no remedy here: systemd acts when it hears nothing. */
    if (setenv("NOTIFY_SOCKET", notify->socket, 1) == 0) {
        (void)sd_notify(1, text);
    }
}

/* How often the watchdog wants to hear from us; 0: not at all. Takes its variables. */
static uint64_t
ping_period_ms(void)
{
    uint64_t usec = 0;

    if (sd_watchdog_enabled(1, &usec) <= 0 || usec == 0) {
        return 0;
    }
    return usec / 1000u / PINGS_PER_PERIOD > 0 ? usec / 1000u / PINGS_PER_PERIOD : 1;
}

#else

static void
tell(const struct opb_notify *notify, const char *text)
{
    (void)notify;
    (void)text;
}

static uint64_t
ping_period_ms(void)
{
    return 0;
}

#endif

static void
on_watchdog(uv_timer_t *timer)
{
    tell(timer->data, "WATCHDOG=1");
}

static void
count(const struct opb_pool *pool, uint32_t *nodes, uint32_t *hosts)
{
    *nodes = 0;
    *hosts = 0;
    for (const struct opb_node *node = pool->nodes; node != NULL; node = node->next) {
        *nodes += node->state == OPB_NODE_ATTACHED;
    }
    for (const struct opb_host *host = pool->hosts; host != NULL; host = host->next) {
        (*hosts)++;
    }
}

/* The loop is about to wait. */
static void
on_prepare(uv_prepare_t *prepare)
{
    struct opb_pool *pool = prepare->data;
    struct opb_notify *notify = &pool->notify;
    bool is_stopping = pool->is_draining || pool->is_stopping;
    uint32_t nodes;
    uint32_t hosts;
    char text[160];

    count(pool, &nodes, &hosts);
    if (notify->is_ready && nodes == notify->node_count && hosts == notify->host_count &&
        is_stopping == notify->is_stopping) {
        return;
    }
    (void)snprintf(text, sizeof(text), /* fits */
                   "%sSTATUS=%s%u Orthanc server%s, %u host%s",
                   is_stopping         ? "STOPPING=1\n"
                   : !notify->is_ready ? "READY=1\n"
                                       : "",
                   is_stopping ? "Stopping: " : "", nodes, nodes == 1 ? "" : "s", hosts,
                   hosts == 1 ? "" : "s");
    notify->is_ready = true;
    notify->is_stopping = is_stopping;
    notify->node_count = nodes;
    notify->host_count = hosts;
    tell(notify, text);
}

void
opb_notify_start(struct opb_pool *pool)
{
    struct opb_notify *notify = &pool->notify;
    const char *socket = getenv("NOTIFY_SOCKET");
    uint64_t period_ms;

    if (pool->is_managed || socket == NULL) {
        return; /* what is in the environment of a managed pool is meant for Orthanc */
    }
    notify->socket = strdup(socket);
    if (notify->socket == NULL) {
        return; /* systemd takes it for a service that hangs */
    }
    (void)unsetenv("NOTIFY_SOCKET"); /* it is there */
#ifndef OPB_HAVE_SYSTEMD
    opb_pool_log(pool, NULL, OPB_LOG_WARNING,
                 "this program was built without libsystemd, and cannot say that it is "
                 "ready: set Type=simple in its unit, or build with libsystemd-dev");
#endif
    period_ms = ping_period_ms();
    (void)uv_prepare_init(&pool->loop, &notify->prepare); /* always 0, likewise below */
    (void)uv_timer_init(&pool->loop, &notify->watchdog);
    notify->prepare.data = pool;
    notify->watchdog.data = notify;
    (void)uv_prepare_start(&notify->prepare, on_prepare);
    if (period_ms != 0) {
        (void)uv_timer_start(&notify->watchdog, on_watchdog, 0, period_ms);
    }
}

void
opb_notify_fini(struct opb_pool *pool)
{
    if (pool->notify.socket != NULL && !pool->notify.is_stopping) {
        tell(&pool->notify, "STOPPING=1"); /* it had nothing to wait for */
    }
    free(pool->notify.socket);
    pool->notify.socket = NULL;
}
