/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worker/supervisor/pool.c - the daemon's loop: listening, signals, and its own end
 *
 * Here:      accepting connections, noticing that the node is gone, ending with no
 *            process, socket or directory left.
 * Elsewhere: what connections say (connection.c, node_requests.c), hosts (hosts.c,
 * reaper.c).
 */
#include "worker/supervisor/pool.h"

#include "protocol/sockets.h"
#include "worker/supervisor/access.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BACKLOG           128
#define ACCEPTS_PER_TURN  16
#define ACCEPT_PAUSE_MS   100u
#define COMPLAIN_EVERY_MS 10000u
#define STOP_MS           2000u /* to kill and reap everything */

static const int handled_signals[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP};

static void on_listen(uv_poll_t *poll, int status, int events);

static void
watch_listener(struct opb_pool *pool)
{
    if (pool->is_stopping || pool->is_draining || pool->is_accept_paused) {
        (void)uv_poll_stop(&pool->listen_poll); /* always 0 */
    }
    else {
        (void)uv_poll_start(&pool->listen_poll, UV_READABLE, on_listen); /* it is open */
    }
}

void
opb_pool_accept_more(struct opb_pool *pool)
{
    if (!uv_is_closing((uv_handle_t *)&pool->listen_poll)) {
        watch_listener(pool);
    }
}

static void
on_accept_timer(uv_timer_t *timer)
{
    struct opb_pool *pool = timer->data;

    pool->is_accept_paused = false;
    watch_listener(pool);
}

static void
pause_accepting(struct opb_pool *pool, const char *why)
{
    uint64_t now_ms = opb_clock_ms();

    if (pool->paused_ms == 0 || now_ms - pool->paused_ms > COMPLAIN_EVERY_MS) {
        pool->paused_ms = now_ms;
        opb_pool_log(pool, NULL, OPB_LOG_WARNING,
                     "cannot take a connection now (%s): trying again every %u ms", why,
                     ACCEPT_PAUSE_MS);
    }
    pool->is_accept_paused = true;
    (void)uv_timer_start(&pool->accept_timer, on_accept_timer, ACCEPT_PAUSE_MS, 0);
    watch_listener(pool);
}

void
opb_pool_refusal(const struct opb_pool *pool, const struct opb_peer *peer, char *out,
                 size_t capacity)
{
    (void)snprintf(
        out, capacity, /* fits */
        "user %u may not use this worker, which is that of user %u%s", (unsigned)peer->uid,
        (unsigned)geteuid(),
        pool->is_managed
            ? " and belongs to one server"
            : ": add the user to \"AllowUsers\" in the worker's configuration, or "
              "to the group that \"AllowGroup\" names there");
}

/* Only who is allowed comes in: the directory's mode says so too, but a mode is easily
 * changed. */
static void
admit(struct opb_pool *pool, int fd)
{
    struct opb_peer peer;
    char why[256];
    enum opb_status status = opb_socket_peer(fd, &peer);
    bool is_stranger = status == OPB_OK && !opb_access_allows(&pool->access, fd, &peer);

    if (is_stranger) {
        opb_pool_refusal(pool, &peer, why, sizeof(why));
        opb_pool_log_refused(pool, &peer, why);
    }
    if (status == OPB_OK && (!is_stranger || pool->stranger_count < OPB_MAX_STRANGERS)) {
        status = opb_connection_open(pool, &fd, &peer, is_stranger);
        if (status != OPB_OK) {
            pause_accepting(pool, opb_status_text(status));
        }
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}

static void
on_listen(uv_poll_t *poll, int status, int events)
{
    struct opb_pool *pool = poll->data;

    (void)status; /* an error shows again in accept */
    (void)events;
    for (int i = 0; i < ACCEPTS_PER_TURN && !pool->is_accept_paused; i++) {
        int fd = -1;
        enum opb_status accepted;

        if (pool->pending_count >= OPB_MAX_PENDING && !opb_connection_drop_silent(pool)) {
            pause_accepting(pool, "too many lanes wait for their hosts");
            break;
        }
        accepted = opb_socket_accept(&fd, pool->listen_fd);
        if (accepted == OPB_LATE) {
            break;
        }
        if (accepted != OPB_OK) {
            pause_accepting(pool, accepted == OPB_SYSTEM ? strerror(errno)
                                                         : opb_status_text(accepted));
            break;
        }
        admit(pool, fd);
    }
    watch_listener(pool);
}

void
opb_pool_check_stopped(struct opb_pool *pool)
{
    if (pool->is_draining && pool->nodes == NULL) {
        opb_pool_stop(pool);
    }
    if (!pool->is_stopping) {
        return;
    }
    if (pool->hosts == NULL && pool->dead == NULL && !opb_kill_orphans(pool)) {
        uv_stop(&pool->loop);
    }
    else if (opb_clock_ms() >= pool->stop_until_ms) {
        opb_pool_log(pool, NULL, OPB_LOG_ERROR,
                     "a process does not end on SIGKILL: leaving it");
        uv_stop(&pool->loop);
    }
}

void
opb_pool_stop(struct opb_pool *pool)
{
    if (pool->is_stopping) {
        return;
    }
    pool->is_stopping = true;
    pool->is_draining = false;
    pool->stop_until_ms = opb_deadline_ms(STOP_MS);
    watch_listener(pool);
    for (struct opb_node *node = pool->nodes; node != NULL; node = node->next) {
        opb_zygote_end(node);
    }
    for (struct opb_host *host = pool->hosts; host != NULL; host = host->next) {
        opb_host_kill(host, SIGKILL);
    }
    opb_sweep_soon(pool, 0); /* and again until nothing is left */
}

static void
drain(struct opb_pool *pool)
{
    struct opb_node *next;

    if (pool->is_draining) {
        opb_pool_stop(pool); /* asked twice */
        return;
    }
    pool->is_draining = true;
    watch_listener(pool);
    for (struct opb_node *node = pool->nodes; node != NULL; node = next) {
        next = node->next;
        opb_node_leave(node, pool->options->config.stop_timeout_ms);
    }
    opb_pool_check_stopped(pool);
}

static void
on_signal(uv_signal_t *handle, int signal_number)
{
    struct opb_pool *pool = handle->data;

    if (signal_number == SIGCHLD) {
        opb_reap(pool);
        if (pool->dead != NULL || pool->is_stopping) {
            opb_sweep(pool);
        }
    }
    else if (signal_number == SIGHUP) {
        for (struct opb_node *node = pool->nodes; node != NULL; node = node->next) {
            opb_node_ask_reload(node);
        }
    }
    else if (!pool->is_managed) {
        drain(pool);
    }
    else if (pool->nodes != NULL) {
        opb_pool_log(pool, NULL, OPB_LOG_INFO,
                     "the worker ignores signal %d (%s): it ends together with Orthanc",
                     signal_number, strsignal(signal_number));
    }
}

/* The node's process is gone, however it went. */
static void
node_process_gone(struct opb_pool *pool)
{
    if (pool->nodes != NULL) { /* a managed pool has no second one */
        opb_node_lost(pool->nodes);
    }
    opb_pool_stop(pool);
}

static void
on_lifeline(uv_poll_t *poll, int status, int events)
{
    struct opb_pool *pool = poll->data;
    char ignored[64];
    ssize_t got;

    (void)events;
    got = read(pool->options->managed_fd, ignored, sizeof(ignored));
    if (status == 0 && (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR)))) {
        return;
    }
    (void)uv_poll_stop(poll); /* always 0 */
    node_process_gone(pool);
}

static void
on_parent(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    (void)uv_poll_stop(poll); /* always 0 */
    node_process_gone(poll->data);
}

/* One line for the node that waits for us; to stderr for a person. */
static void OPB_PRINTF(2, 3)
    tell_starter(const struct opb_pool_options *options, const char *format, ...)
{
    char line[512];
    va_list arguments;
    size_t length;

    va_start(arguments, format);
    (void)vsnprintf(line, sizeof(line) - 1, format, arguments); /* longer ones are cut */
    va_end(arguments);
    length = strlen(line);
    if (options->managed_fd < 0) {
        opb_say(strncmp(line, "ERROR", strlen("ERROR")) == 0 ? OPB_LOG_ERROR : OPB_LOG_INFO,
                "", line);
        return;
    }
    line[length] = '\n';
    (void)!write(options->managed_fd, line,
                 length + 1); /* a node that is gone shows itself */
}

/* The process at the other end of the lifeline, as it was when that was made; so a fork
 * of the node that holds the lifeline open does not keep us. */
static int
open_node_process(int managed_fd)
{
    struct opb_peer peer;
    pid_t pid = getppid();

    if (opb_socket_peer(managed_fd, &peer) == OPB_OK && peer.pid > 0) {
        pid = peer.pid;
    }
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* False: what could not be done has been told. */
static bool
watch_node_process(struct opb_pool *pool)
{
    const int lifeline = pool->options->managed_fd;
    int result = uv_poll_init(&pool->loop, &pool->lifeline_poll, lifeline);

    if (result == 0) {
        pool->lifeline_poll.data = pool;
        result = uv_poll_start(&pool->lifeline_poll, UV_READABLE, on_lifeline);
    }
    if (result != 0) {
        tell_starter(pool->options, "ERROR cannot watch the connection to Orthanc: %s",
                     uv_strerror(result));
        return false;
    }
    pool->parent_fd = open_node_process(lifeline);
    if (pool->parent_fd < 0 && errno == ESRCH) {
        return false; /* it has died already */
    }
    if (pool->parent_fd < 0) {
        return true; /* an old kernel: the lifeline alone must do */
    }
    result = uv_poll_init(&pool->loop, &pool->parent_poll, pool->parent_fd);
    if (result == 0) {
        pool->parent_poll.data = pool;
        (void)uv_poll_start(&pool->parent_poll, UV_READABLE, on_parent); /* it is open */
    }
    return true;
}

/* False: what could not be done has been told. */
static bool
open_socket(struct opb_pool *pool)
{
    const struct opb_pool_config *config = &pool->options->config;
    const char *path = pool->options->socket_path;
    char message[512];
    enum opb_status status;

    if (pool->options->listen_fd >= 0) { /* with the mode and group of its unit */
        pool->listen_fd = pool->options->listen_fd;
        (void)fcntl(pool->listen_fd, F_SETFL, O_NONBLOCK); /* always works */
        return true;
    }
    status = opb_socket_listen(&pool->listen_fd, path, 0600, BACKLOG);
    if (status != OPB_OK) {
        tell_starter(pool->options, "ERROR cannot listen on %s: %s", path,
                     status == OPB_SYSTEM    ? strerror(errno)
                     : status == OPB_REFUSED ? "another worker is using it"
                                             : opb_status_text(status));
        return false;
    }
    if (opb_access_open(path, config, message, sizeof(message)) != OPB_OK) {
        tell_starter(pool->options, "ERROR %s", message);
        return false;
    }
    return true;
}

/* False: what could not be done has been told. */
static bool
listen_and_watch(struct opb_pool *pool)
{
    const char *path = pool->options->socket_path;
    int result;

    if (!open_socket(pool)) {
        return false;
    }
    result = uv_poll_init(&pool->loop, &pool->listen_poll, pool->listen_fd);
    for (size_t i = 0; result == 0 && i < sizeof(handled_signals) / sizeof(int); i++) {
        (void)uv_signal_init(&pool->loop,
                             &pool->signals[i]); /* its pipe exists or start fails */
        pool->signals[i].data = pool;
        result = uv_signal_start(&pool->signals[i], on_signal, handled_signals[i]);
    }
    if (result != 0) {
        tell_starter(pool->options, "ERROR cannot watch %s and signals: %s", path,
                     uv_strerror(result));
        return false;
    }
    pool->listen_poll.data = pool;
    watch_listener(pool);
    return !pool->is_managed || watch_node_process(pool);
}

static void
close_handle(uv_handle_t *handle, void *unused)
{
    (void)unused;
    if (!uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

static void
free_hosts(struct opb_host *host)
{
    while (host != NULL) { /* only those that SIGKILL does not end */
        struct opb_host *next = host->next;

        if (host->control_fd >= 0) {
            (void)close(host->control_fd);
        }
        if (host->exec_fd >= 0) {
            (void)close(host->exec_fd);
        }
        if (host->look.fd >= 0) {
            (void)close(host->look.fd);
        }
        if (host->stacks_fd >= 0) {
            (void)close(host->stacks_fd);
        }
        free(host);
        host = next;
    }
}

static void
pool_fini(struct opb_pool *pool)
{
    pool->is_stopping = true;
    free_hosts(pool->hosts);
    free_hosts(pool->dead);
    pool->hosts = NULL;
    pool->dead = NULL;
    while (pool->connections != NULL) {
        opb_connection_close(pool->connections);
    }
    while (pool->nodes != NULL) {
        opb_node_forget(pool->nodes);
    }
    uv_walk(&pool->loop, close_handle, NULL);
    (void)uv_run(&pool->loop, UV_RUN_DEFAULT); /* until all handles are closed */
    (void)uv_loop_close(&pool->loop);          /* nothing is left to be busy */
    if (pool->listen_fd >= 0) {
        (void)close(pool->listen_fd);
    }
    if (pool->parent_fd >= 0) {
        (void)close(pool->parent_fd);
    }
    opb_message_free(pool->message);
    opb_notify_fini(pool);
    opb_access_fini(&pool->access);
}

/* A managed pool owns its directory, and ends after its node: it removes the node's files.
 */
static void
remove_files(const struct opb_pool *pool)
{
    static const char *const names[] = {"node.sock", "lock"};
    const char *path = pool->options->socket_path;
    const char *slash = strrchr(path, '/');
    char other[PATH_MAX];

    if (pool->options->listen_fd >= 0) {
        return; /* systemd goes on listening */
    }
    (void)unlink(path); /* the node may have been faster, here and below */
    if (!pool->is_managed || slash == NULL || slash == path) {
        return;
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        int length =
            snprintf(other, sizeof(other), "%.*s/%s", (int)(slash - path), path, names[i]);

        if (length > 0 && (size_t)length < sizeof(other)) {
            (void)unlink(other);
        }
    }
    (void)snprintf(other, sizeof(other), "%.*s", (int)(slash - path),
                   path); /* shorter: fits */
    if (rmdir(other) != 0 && errno != ENOENT) {
        (void)fprintf(stderr, "orthanc-python-worker: cannot remove %s: %s\n", other,
                      strerror(errno)); /* nowhere else to go */
    }
}

int
opb_pool_run(const struct opb_pool_options *options)
{
    struct opb_pool pool;
    char message[512];
    bool is_listening;

    memset(&pool, 0, sizeof(pool));
    pool.options = options;
    pool.is_managed = options->managed_fd >= 0;
    pool.listen_fd = -1;
    pool.parent_fd = -1;
    pool.message = opb_message_new();
    if (pool.message == NULL || uv_loop_init(&pool.loop) != 0) {
        tell_starter(options, "ERROR out of memory or descriptors");
        opb_message_free(pool.message);
        return EXIT_FAILURE;
    }
    if (opb_access_init(&pool.access, &options->config, message, sizeof(message)) !=
            OPB_OK ||
        opb_scripts_look(&options->config, message, sizeof(message)) != OPB_OK) {
        tell_starter(options, "ERROR %s", message);
        opb_access_fini(&pool.access);
        (void)uv_loop_close(&pool.loop); /* nothing is in it */
        opb_message_free(pool.message);
        return EXIT_FAILURE;
    }
    (void)uv_timer_init(&pool.loop, &pool.accept_timer); /* always 0, likewise below */
    (void)uv_timer_init(&pool.loop, &pool.sweep_timer);
    pool.accept_timer.data = &pool;
    pool.sweep_timer.data = &pool;
    if (prctl(PR_SET_CHILD_SUBREAPER, 1L, 0L, 0L, 0L) != 0) {
        opb_pool_log(&pool, NULL, OPB_LOG_WARNING,
                     "orphans of a dead host will not be ended: %s", strerror(errno));
    }
    is_listening = listen_and_watch(&pool);
    if (is_listening) {
        tell_starter(options, "READY %d %d", OPB_PROTOCOL_VERSION, (int)getpid());
        opb_notify_start(&pool);
        (void)uv_run(&pool.loop, UV_RUN_DEFAULT); /* until uv_stop */
    }
    if (pool.listen_fd >= 0) {
        remove_files(&pool);
    }
    pool_fini(&pool);
    return is_listening ? EXIT_SUCCESS : EXIT_FAILURE;
}
