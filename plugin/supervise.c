/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/supervise.c - the one supervisor thread
 *
 * Here:      polling control connection, node socket, and the daemon's end; what the news
 * of hosts lead to; a daemon that has died is replaced. Elsewhere: one run of the daemon
 * (launch.c), loading the script (pool.c, load.c).
 */
#include "plugin/pool_state.h"

#include "plugin/history.h"
#include "plugin/log.h"
#include "plugin/look.h"
#include "plugin/routes.h"
#include "plugin/service.h"
#include "plugin/threads.h"
#include "protocol/limits.h"
#include "protocol/sockets.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define TOUCH_EVERY_MS   (3600u * 1000u)
#define PAUSE_ACCEPT_MS  100u
#define DETACH_LATER_MS  500u /* than our own deadline, which is the one to report */
#define SEND_MS          1000u
#define HUNG_END_MS      10000u /* the pool takes 2 s at most to ask for stacks, then kills */
#define HEALTHY_MS       30000u /* a daemon that ran that long did not fail to start */
#define BACKOFF_STEP_MS  1000u
#define BACKOFF_LIMIT_MS 10000u

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

void
opb_place_end_host(struct opb_place *place, const char *reason)
{
    struct opb_pool *pool = place->pool;
    struct opb_session *host;
    struct opb_session *arrived;

    pthread_mutex_lock(&pool->lock);
    host = place->host;
    arrived = place->arrived;
    place->host = NULL;
    place->arrived = NULL;
    pthread_mutex_unlock(&pool->lock);
    if (host != NULL) {
        opb_session_end(host, reason);
        opb_services_disallow(pool->node->services, host);
        opb_routes_forget(pool->node->routes, host);
    }
    opb_session_unref(arrived);
    opb_session_unref(host);
}

void
opb_pool_end_hosts(struct opb_pool *pool, const char *reason)
{
    for (uint32_t i = 0; i < pool->place_count; i++) {
        opb_place_end_host(&pool->places[i], reason);
    }
}

void
opb_pool_host_started(void *context, uint32_t host, pid_t pid, uint32_t worker)
{
    struct opb_pool *pool = context;
    struct opb_session *session;
    struct opb_place *place;
    bool is_unneeded;

    if (!opb_pool_admit(pool, pid)) {
        return;
    }
    if (worker >= opb_pool_worker_count(pool)) {
        opb_log_error(
            "The worker has started more hosts than this server wants: host %u is "
            "not used",
            host);
        return;
    }
    place = &pool->places[worker];
    pthread_mutex_lock(&pool->lock);
    is_unneeded = pool->switching_host != 0; /* it was started for the place that is lost */
    if (is_unneeded) {
        opb_pool_doom(pool, host, OPB_NOT_NEEDED);
    }
    pthread_mutex_unlock(&pool->lock);
    if (is_unneeded) {
        opb_pool_wake(pool);
        return;
    }
    opb_place_end_host(place, "was replaced by another");
    if (opb_session_new(&session, pool->node, host, pid, worker) != OPB_OK) {
        opb_log_error("Not enough memory for the new host (pid %ld): calls to it will fail",
                      (long)pid);
        return;
    }
    opb_log_info("Host %u has started (pid %ld)", host, (long)pid);
    opb_services_allow(pool->node->services, session);
    pthread_mutex_lock(&pool->lock);
    place->host = session;
    if (!pool->is_stopping) {
        place->arrived = opb_session_ref(session);
    }
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
}

/* For the status. */
static void
note_death(struct opb_pool *pool, pid_t pid, const char *reason)
{
    const struct opb_happening happening = {
        .pid = pid, .kind = "", .what = "", .text = reason};

    opb_history_add(pool->node->history, OPB_HISTORY_DEATHS, &happening);
}

static void
log_death(struct opb_pool *pool, pid_t pid, const char *reason, bool is_stopping)
{
    const char *script = pool->node->config->script_path;

    if (is_stopping || strcmp(reason, OPB_COULD_NOT_LOAD) == 0 ||
        strcmp(reason, OPB_NOT_NEEDED) == 0) {
        opb_log_info("The host (pid %ld) %s", (long)pid, reason);
    }
    else if (pid == 0) {
        opb_log_error("A new host for %s %s; trying again", script, reason);
    }
    else {
        opb_log_error("The host (pid %ld) running %s %s; a new one is being started",
                      (long)pid, script, reason);
    }
}

void
opb_pool_host_died(void *context, uint32_t host, pid_t pid, const char *reason)
{
    struct opb_pool *pool = context;
    struct opb_place *place = NULL;
    bool is_starting;
    bool is_stopping;

    if (pid > 1) { /* the pool has reaped the leader, and killed the rest */
        opb_pool_remove_group(pool, pid);
    }
    for (uint32_t i = 0; i < pool->place_count; i++) {
        if (host == pool->places[i].hung_sent) {
            pool->places[i].hung_end_ms = OPB_FOREVER;
        }
    }
    if (opb_generation_host_died(pool, host, pid, reason)) {
        return;
    }
    pthread_mutex_lock(&pool->lock);
    for (uint32_t i = 0; i < pool->place_count; i++) {
        if (pool->places[i].host != NULL &&
            opb_session_host(pool->places[i].host) == host) {
            place = &pool->places[i];
        }
    }
    is_starting = pool->is_starting;
    is_stopping = pool->is_stopping;
    if (is_starting) {
        /* cut if it does not fit */
        (void)snprintf(pool->failure, sizeof(pool->failure), "The host process for %s %s",
                       pool->node->config->script_path, reason);
        pthread_cond_broadcast(&pool->changed);
    }
    pthread_mutex_unlock(&pool->lock);
    if (!is_starting) {
        log_death(pool, pid, reason, is_stopping);
        note_death(pool, pid, reason);
    }
    if (place != NULL) {
        opb_place_end_host(place, reason);
    }
}

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

/* why: "its control connection failed: ...", or NULL if the daemon itself has ended. */
static void
lose_pool(struct opb_pool *pool, const char *why)
{
    bool is_managed = pool->daemon != NULL;
    long pid = is_managed ? (long)opb_daemon_pid(pool->daemon) : 0;
    bool is_starting;
    bool is_stopping;
    char how[160] = "";
    char text[512];

    for (uint32_t i = 0; i < pool->place_count; i++) {
        pool->places[i].hung_end_ms = OPB_FOREVER;
    }
    if (opb_clock_ms() - pool->launched_ms > HEALTHY_MS) {
        pool->relaunch_count = 0;
    }
    if (why == NULL) { /* it is dead: this reaps it */
        opb_pool_abandon(pool, how, sizeof(how));
        (void)snprintf(text, sizeof(text), "The worker (pid %ld) %s", pid, how); /* fits */
    }
    else {
        if (is_managed) {
            /* cut if it does not fit */
            (void)snprintf(text, sizeof(text),
                           "The control connection to the worker (pid %ld) failed: %s", pid,
                           why);
        }
        else {
            (void)snprintf(text, sizeof(text), "The connection to the pool failed: %s",
                           why);
        }
        opb_pool_abandon(pool, NULL, 0); /* why lies in the connection: last */
    }
    /* cut if it does not fit */
    (void)snprintf(how, sizeof(how), "was ended, since its worker is gone");
    opb_generation_lose(pool, how); /* first: who takes over now is ended next */
    opb_pool_end_hosts(pool, how);
    pthread_mutex_lock(&pool->lock);
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
        note_death(pool, (pid_t)pid, text);
        opb_log_error(
            "%s%s", text,
            is_stopping ? "" : "; all hosts are ended, and everything is started anew");
    }
}

static bool
is_stopping(struct opb_pool *pool)
{
    bool result;

    pthread_mutex_lock(&pool->lock);
    result = pool->is_stopping;
    pthread_mutex_unlock(&pool->lock);
    return result;
}

/* True: the connection is to be served again before anything is polled. */
static bool
relaunch(struct opb_pool *pool)
{
    char message[OPB_POOL_TEXT_BYTES];
    enum opb_status status;

    pool->relaunch_ms = OPB_FOREVER;
    if (is_stopping(pool)) {
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
static void
send_news(struct opb_pool *pool)
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
        lose_pool(pool, opb_control_failure(pool->control));
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

static void
send_hung(struct opb_pool *pool)
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
            lose_pool(pool, opb_control_failure(pool->control));
        }
    }
}

static void
send_looks(struct opb_pool *pool)
{
    if (opb_look_send(pool) != OPB_OK) {
        lose_pool(pool, opb_control_failure(pool->control));
    }
}

/* When a host that hangs must be dead; OPB_FOREVER: none does. */
static uint64_t
hung_end_ms(const struct opb_pool *pool)
{
    uint64_t end_ms = OPB_FOREVER;

    for (uint32_t i = 0; i < pool->place_count; i++) {
        if (pool->places[i].hung_end_ms < end_ms) {
            end_ms = pool->places[i].hung_end_ms;
        }
    }
    return end_ms;
}

/* Finalize is about to begin: from now on the pool starts no host. */
static void
send_detach(struct opb_pool *pool)
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
        lose_pool(pool, opb_control_failure(pool->control));
        is_lost = true;
    }
    pthread_mutex_lock(&pool->lock);
    pool->is_detach_sent = true;
    pool->is_detached = is_lost;
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->lock);
}

static void
note_detached(struct opb_pool *pool)
{
    if (pool->control != NULL && opb_control_is_detached(pool->control)) {
        pthread_mutex_lock(&pool->lock);
        pool->is_detached = true;
        pthread_cond_broadcast(&pool->changed);
        pthread_mutex_unlock(&pool->lock);
    }
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
        send_news(pool);
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
        update_watch(pool);
        send_news(pool);
        send_hung(pool);
        send_looks(pool);
        send_detach(pool);
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
        note_detached(pool);
        return has_more;
    }
    if (pool->daemon != NULL && opb_daemon_wait_end(pool->daemon, PAUSE_ACCEPT_MS)) {
        lose_pool(pool, NULL); /* which is why the connection broke */
    }
    else {
        lose_pool(pool, opb_control_failure(pool->control));
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
        lose_pool(pool, NULL);
    }
    else {
        lose_pool(pool, "it has closed its lifeline");
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
    if (hung_end_ms(pool) < next_ms) {
        next_ms = hung_end_ms(pool);
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
            lose_pool(pool, NULL);
        }
        if (items[WATCH_LIFELINE].revents != 0) {
            serve_lifeline(pool);
        }
        if (hung_end_ms(pool) <= opb_clock_ms()) {
            lose_pool(pool, "it has not ended a host that hangs");
        }
        if (items[WATCH_FILES].revents != 0) {
            opb_watch_read(pool->watch);
        }
        serve_times(pool);
        if (pool->relaunch_ms <= opb_clock_ms()) {
            has_more = relaunch(pool);
        }
        if (pool->dir != NULL) {
            opb_runtime_dir_touch(pool->dir);
        }
    }
}
