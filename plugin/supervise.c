/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/supervise.c - the one supervisor thread
 *
 * Here:      its loop: control connection, node socket, the daemon's end, files, times.
 * Elsewhere: what the pool's news of hosts lead to (host_news.c), what it is told
 *            (tell_pool.c), a daemon that has died (relaunch.c), loading the script
 *            (loader.c, load.c).
 */
#include "plugin/pool_state.h"

#include "plugin/service.h"
#include "protocol/sockets.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#define TOUCH_EVERY_MS  (3600u * 1000u)
#define PAUSE_ACCEPT_MS 100u

enum watched {
    WATCH_WAKE,
    WATCH_CONTROL,
    WATCH_SERVICES,
    WATCH_PIDFD,
    WATCH_LIFELINE,
    WATCH_FILES,
    WATCH_COUNT
};

void
opb_pool_wake(struct opb_pool *pool)
{
    (void)eventfd_write(pool->wake_fd, 1); /* full: it is about to wake anyway */
}

bool
opb_pool_is_stopping(struct opb_pool *pool)
{
    bool result;

    pthread_mutex_lock(&pool->lock);
    result = pool->is_stopping;
    pthread_mutex_unlock(&pool->lock);
    return result;
}

/* What the loader thread has learnt about the files of the script. */
static void
update_watch(struct opb_pool *pool)
{
    char *files;
    bool is_broken;

    if (pool->watch == NULL) {
        return;
    }
    pthread_mutex_lock(&pool->lock);
    files = pool->files;
    pool->files = NULL;
    is_broken = pool->is_broken;
    pthread_mutex_unlock(&pool->lock);
    if (files != NULL) {
        opb_watch_set(pool->watch, files);
    }
    opb_watch_any(pool->watch, is_broken);
}

/* What is to be done at its time. */
static void
serve_times(struct opb_pool *pool)
{
    uint64_t now_ms = opb_clock_ms();

    if (pool->watch != NULL && opb_watch_next_ms(pool->watch) <= now_ms &&
        opb_watch_has_changed(pool->watch)) {
        opb_pool_request_reload(pool, "A file of the script has changed");
    }
    if (opb_recycler_next_ms(pool->recycler, pool->node->config) <= now_ms) {
        opb_recycler_look(pool->recycler, pool);
    }
    if (opb_pool_calls_end_ms(pool) <= now_ms) {
        opb_pool_end_calls(pool);
    }
    if (opb_generation_next_ms(pool) <= now_ms) {
        opb_pool_send_news(pool);
    }
}

/* False: the supervisor thread is to leave. */
static bool
serve_wake(struct opb_pool *pool)
{
    eventfd_t count;
    bool is_ended;

    (void)eventfd_read(pool->wake_fd, &count); /* non-blocking; nothing there is fine */
    pthread_mutex_lock(&pool->lock);
    is_ended = pool->is_ended;
    pthread_mutex_unlock(&pool->lock);
    if (!is_ended) {
        opb_pool_mend_start(pool);
        update_watch(pool);
        opb_pool_send_news(pool);
        opb_pool_send_hung(pool);
        opb_pool_send_looks(pool);
        opb_pool_send_detach(pool);
    }
    return !is_ended;
}

/* True if there is more to serve. */
static bool
serve_control(struct opb_pool *pool)
{
    bool has_more;

    if (pool->control == NULL) {
        return false;
    }
    if (opb_control_serve(pool->control, &has_more) == OPB_OK) {
        opb_pool_note_detached(pool);
        return has_more;
    }
    if (pool->daemon != NULL && opb_daemon_wait_end(pool->daemon, PAUSE_ACCEPT_MS)) {
        opb_pool_lose(pool, NULL); /* which is why the connection broke */
    }
    else {
        opb_pool_lose(pool, opb_control_failure(pool->control));
    }
    return false;
}

/* The daemon says nothing after READY: the lifeline can only end. */
static void
serve_lifeline(struct opb_pool *pool)
{
    char ignored[64];
    ssize_t got;

    if (pool->daemon == NULL) {
        return;
    }
    got = recv(opb_daemon_lifeline(pool->daemon), ignored, sizeof(ignored), MSG_DONTWAIT);
    if (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR))) {
        return;
    }
    if (opb_daemon_wait_end(pool->daemon, PAUSE_ACCEPT_MS)) {
        opb_pool_lose(pool, NULL);
    }
    else {
        opb_pool_lose(pool, "it has closed its lifeline");
    }
}

static void
prepare_poll(struct opb_pool *pool, struct pollfd items[WATCH_COUNT])
{
    bool is_accepting = pool->node->services != NULL && pool->resume_ms <= opb_clock_ms();

    for (int i = 0; i < WATCH_COUNT; i++) {
        items[i] = (struct pollfd){.fd = -1, .events = POLLIN};
    }
    items[WATCH_WAKE].fd = pool->wake_fd;
    if (pool->control != NULL) {
        items[WATCH_CONTROL].fd = opb_control_fd(pool->control);
    }
    if (is_accepting) {
        items[WATCH_SERVICES].fd = opb_services_fd(pool->node->services);
    }
    if (pool->watch != NULL) {
        items[WATCH_FILES].fd = opb_watch_fd(pool->watch);
    }
    if (pool->daemon != NULL) {
        items[WATCH_PIDFD].fd = opb_daemon_pidfd(pool->daemon);
        items[WATCH_LIFELINE].fd = opb_daemon_lifeline(pool->daemon);
    }
}

static int
poll_timeout(struct opb_pool *pool, bool has_more)
{
    uint64_t next_ms = opb_generation_next_ms(pool);
    uint64_t look_ms = opb_recycler_next_ms(pool->recycler, pool->node->config);

    if (look_ms < next_ms) {
        next_ms = look_ms;
    }
    if (pool->watch != NULL && opb_watch_next_ms(pool->watch) < next_ms) {
        next_ms = opb_watch_next_ms(pool->watch);
    }
    if (opb_pool_calls_end_ms(pool) < next_ms) {
        next_ms = opb_pool_calls_end_ms(pool);
    }
    if (next_ms > opb_clock_ms() + TOUCH_EVERY_MS) {
        next_ms = opb_clock_ms() + TOUCH_EVERY_MS;
    }
    if (has_more) {
        return 0;
    }
    if (pool->relaunch_ms < next_ms) {
        next_ms = pool->relaunch_ms;
    }
    if (opb_pool_hung_end_ms(pool) < next_ms) {
        next_ms = opb_pool_hung_end_ms(pool);
    }
    if (pool->resume_ms > opb_clock_ms() && pool->resume_ms < next_ms) {
        next_ms = pool->resume_ms;
    }
    return opb_deadline_poll(next_ms);
}

void *
opb_pool_supervise(void *argument)
{
    struct opb_pool *pool = argument;
    struct pollfd items[WATCH_COUNT];
    bool has_more = true; /* attaching may have read ahead */

    for (;;) {
        prepare_poll(pool, items);
        if (poll(items, WATCH_COUNT, poll_timeout(pool, has_more)) < 0) {
            continue; /* EINTR, or no memory for an instant */
        }
        if (items[WATCH_WAKE].revents != 0 && !serve_wake(pool)) {
            return NULL;
        }
        if (items[WATCH_SERVICES].revents != 0 &&
            !opb_services_accept(pool->node->services)) {
            pool->resume_ms = opb_clock_ms() + PAUSE_ACCEPT_MS;
        }
        if (has_more || items[WATCH_CONTROL].revents != 0) {
            has_more = serve_control(pool); /* before its end: the last news count */
        }
        if (items[WATCH_PIDFD].revents != 0 && pool->daemon != NULL) {
            opb_pool_lose(pool, NULL);
        }
        if (items[WATCH_LIFELINE].revents != 0) {
            serve_lifeline(pool);
        }
        if (opb_pool_hung_end_ms(pool) <= opb_clock_ms()) {
            opb_pool_lose(pool, "it has not ended a host that hangs");
        }
        if (items[WATCH_FILES].revents != 0) {
            opb_watch_read(pool->watch);
        }
        serve_times(pool);
        if (pool->relaunch_ms <= opb_clock_ms()) {
            has_more = opb_pool_relaunch(pool);
        }
        if (pool->dir != NULL) {
            opb_runtime_dir_touch(pool->dir);
        }
    }
}
