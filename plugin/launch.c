/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plugin/launch.c - everything that belongs to one run of the daemon
 *
 * Here:      directory, node socket, daemon and control connection, made together and ended
 *            together.
 * Elsewhere: when (pool.c, relaunch.c).
 */
#include "plugin/pool_state.h"

#include "plugin/log.h"
#include "plugin/pool_user.h"
#include "plugin/service.h"
#include "protocol/sockets.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_FIRST_MS 50u
#define WAIT_LAST_MS  1000u
#define REAP_STEPS    20
#define REAP_STEP_MS  10

static enum opb_status
choose_pool_socket(struct opb_pool *pool, char *message, size_t capacity)
{
    struct opb_node *node = pool->node;
    const char *path = node->config->pool;

    if (path == NULL) {
        path = opb_runtime_dir_pool_socket(pool->dir);
    }
    if (strlen(path) >= sizeof(node->pool_socket)) {
        /* a message that does not fit is cut */
        (void)snprintf(
            message, capacity,
            "The socket %s, named by the configuration option \"Python.Pool\", has a "
            "path of more than %zu bytes, which no socket can have: give it a shorter one",
            path, sizeof(node->pool_socket) - 1);
        return OPB_TOO_LARGE;
    }
    pthread_mutex_lock(&node->lock);
    strcpy(node->pool_socket, path);
    pthread_mutex_unlock(&node->lock);
    return OPB_OK;
}

/* Lends where hosts connect to, for as long as there is the directory. A proxy between
 * machines must know the path before, so that it can be configured. */
static const char *
node_socket(const struct opb_pool *pool)
{
    const char *path = pool->node->config->node_socket;

    return path != NULL ? path : opb_runtime_dir_node_socket(pool->dir);
}

static enum opb_status
check_node_socket(const struct opb_pool *pool, char *message, size_t capacity)
{
    const char *path = pool->node->config->node_socket;

    if (path != NULL && (path[0] != '/' || strlen(path) >= sizeof(pool->node_socket))) {
        /* a message that does not fit is cut */
        (void)snprintf(message, capacity,
                       "The configuration option \"Python.NodeSocket\" is \"%s\", and must "
                       "be an absolute path of at most %zu bytes",
                       path, sizeof(pool->node_socket) - 1);
        return OPB_REFUSED;
    }
    return OPB_OK;
}

static enum opb_status
listen_for_hosts(struct opb_pool *pool, char *message, size_t capacity)
{
    struct opb_node *node = pool->node;
    const char *path = node_socket(pool);
    enum opb_status status;

    pthread_mutex_lock(&pool->lock);
    /* fits: checked, or of a directory that was made for socket paths */
    (void)snprintf(pool->node_socket, sizeof(pool->node_socket), "%s", path);
    pthread_mutex_unlock(&pool->lock);
    if (node->services == NULL) {
        status = opb_services_open(&node->services, node, path);
    }
    else {
        status = opb_services_move(node->services, path);
    }
    if (status != OPB_OK) {
        /* a message that does not fit is cut */
        (void)snprintf(
            message, capacity, "The node's socket %s cannot be made: %s%s", path,
            status == OPB_SYSTEM || status == OPB_REFUSED ? strerror(errno)
                                                          : opb_status_text(status),
            node->config->node_socket == NULL
                ? ""
                : ": \"Python.NodeSocket\" must name a path of this server alone, "
                  "in a directory in which Orthanc may write");
    }
    return status;
}

/* The directory, for us, and for the hosts of a pool that is another user. */
static enum opb_status
make_directory(struct opb_pool *pool, char *message, size_t capacity)
{
    struct opb_node *node = pool->node;
    const struct opb_pool_user *user = &node->pool_user;
    enum opb_status status;

    status =
        opb_runtime_dir_new(&pool->dir, node->config->runtime_directory, message, capacity);
    if (status == OPB_OK && user->is_set && user->uid != geteuid() && user->uid != 0) {
        status = opb_runtime_dir_share(pool->dir, user->gid, message, capacity);
    }
    return status;
}

/* At the start a shared pool may come later than Orthanc; after that the supervisor thread
 * comes again (cancel_fd is set). The waits grow: nothing tells when a socket has a
 * listener.
 */
static enum opb_status
open_control(struct opb_pool *pool, bool is_starting, int cancel_fd, uint64_t deadline_ms,
             char *message, size_t capacity)
{
    const struct opb_config *config = pool->node->config;
    uint64_t wait_ms = WAIT_FIRST_MS;

    for (;;) {
        enum opb_status status =
            opb_control_open(&pool->control, pool->node, node_socket(pool), is_starting,
                             &pool->news, deadline_ms, message, capacity);
        size_t used = strlen(message);

        if (status != OPB_GONE || config->pool == NULL || cancel_fd >= 0) {
            return status;
        }
        if (opb_clock_ms() + wait_ms >= deadline_ms) {
            /* cut if it does not fit */
            (void)snprintf(message + used, capacity - used,
                           "; this server has waited for it for %g s "
                           "(\"Python.StartTimeout\")",
                           (double)config->start_timeout_ms / 1000.0);
            return status;
        }
        if (wait_ms == WAIT_FIRST_MS) {
            opb_log_warning("%s; waiting for it for up to %g s (\"Python.StartTimeout\")",
                            message, (double)config->start_timeout_ms / 1000.0);
        }
        (void)poll(NULL, 0, (int)wait_ms);
        wait_ms = 2 * wait_ms < WAIT_LAST_MS ? 2 * wait_ms : WAIT_LAST_MS;
    }
}

enum opb_status
opb_pool_launch(struct opb_pool *pool, int cancel_fd, char *message, size_t capacity)
{
    const struct opb_config *config = pool->node->config;
    uint64_t deadline_ms = opb_deadline_ms(config->start_timeout_ms);
    enum opb_status status;
    bool is_starting;

    pthread_mutex_lock(&pool->lock);
    is_starting = pool->is_starting;
    pthread_mutex_unlock(&pool->lock);
    status = make_directory(pool, message, capacity);
    if (status == OPB_OK) {
        status = choose_pool_socket(pool, message, capacity);
    }
    if (status == OPB_OK) {
        status = check_node_socket(pool, message, capacity);
    }
    if (status == OPB_OK) {
        status = listen_for_hosts(pool, message, capacity);
    }
    if (status == OPB_OK && config->pool == NULL) {
        status = opb_daemon_start(&pool->daemon, config->worker, pool->node->pool_socket,
                                  cancel_fd, deadline_ms, message, capacity);
    }
    if (status == OPB_OK) {
        status = open_control(pool, is_starting, cancel_fd, deadline_ms, message, capacity);
    }
    if (status != OPB_OK) {
        opb_pool_abandon(pool, NULL, 0);
        return status;
    }
    pool->launched_ms = opb_clock_ms();
    return OPB_OK;
}

static void
add_group(struct opb_pool *pool, pid_t group)
{
    for (size_t i = 0; i < OPB_POOL_GROUPS; i++) {
        if (pool->groups[i] == 0) {
            pool->groups[i] = group;
            return;
        }
    }
}

bool
opb_pool_admit(struct opb_pool *pool, pid_t pid)
{
    enum opb_kinship kinship = OPB_KINSHIP_UNKNOWN; /* of a shared pool: not our concern */

    if (pid <= 1) {
        opb_log_error("The worker named an impossible process as a host: %ld", (long)pid);
        return false;
    }
    if (pool->daemon != NULL) {
        kinship = opb_daemon_kinship(pool->daemon, pid);
    }
    if (kinship == OPB_KINSHIP_NONE) {
        opb_log_error("The worker named a process as a host that it has not started: %ld",
                      (long)pid);
        return false;
    }
    if (kinship == OPB_KINSHIP_OWN) {
        add_group(pool, pid);
    }
    return true;
}

void
opb_pool_remove_group(struct opb_pool *pool, pid_t group)
{
    for (size_t i = 0; i < OPB_POOL_GROUPS; i++) {
        if (pool->groups[i] == group) {
            pool->groups[i] = 0;
        }
    }
}

/* The daemon is dead, so nobody else kills its hosts. Each leads a session of its own;
 * once its number names another process, that is no leader of this group. */
static void
kill_group(pid_t group)
{
    pid_t found;

    if (group <= 1 || group == getpid() || group == getpgrp()) {
        return;
    }
    found = getpgid(group);
    if (found != group && !(found < 0 && errno == ESRCH)) {
        return;
    }
    (void)kill(-group, SIGKILL); /* ESRCH: nobody is left */
    /* ours to reap only if Orthanc is the init process of a container */
    for (int i = 0; i < REAP_STEPS && waitpid(group, NULL, WNOHANG) == 0; i++) {
        (void)poll(NULL, 0, REAP_STEP_MS);
    }
}

static void
kill_host_groups(struct opb_pool *pool)
{
    for (size_t i = 0; i < OPB_POOL_GROUPS; i++) {
        kill_group(pool->groups[i]);
        pool->groups[i] = 0;
    }
}

void
opb_pool_abandon(struct opb_pool *pool, char *how, size_t capacity)
{
    if (pool->daemon != NULL) {
        opb_daemon_kill(pool->daemon, how, capacity);
        pool->daemon = NULL;
        kill_host_groups(pool);
    }
    memset(pool->groups, 0, sizeof(pool->groups));
    opb_control_close(pool->control);
    pool->control = NULL;
    opb_runtime_dir_free(pool->dir);
    pool->dir = NULL;
}

void
opb_pool_dismiss(struct opb_pool *pool)
{
    if (pool->daemon != NULL) {
        opb_daemon_stop(pool->daemon);
        pool->daemon = NULL;
        kill_host_groups(pool);
    }
    memset(pool->groups, 0, sizeof(pool->groups));
    opb_control_close(pool->control); /* a shared pool kills our hosts now */
    pool->control = NULL;
    opb_runtime_dir_free(pool->dir);
    pool->dir = NULL;
}
